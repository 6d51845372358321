//! Refuses the versions of Postgres that the extension is not for.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for version in ["13", "14"] {
        if std::env::var_os(format!("CARGO_FEATURE_PG{version}")).is_some() {
            println!(
                "cargo::error=PostgreSQL {version} is out of support, and raptorflow_codex is not built for it: it lacks \
                 ON DELETE SET NULL (column) and NULLS NOT DISTINCT, which the tables need. Build for 15, 16, 17 or 18."
            );
        }
    }
}
