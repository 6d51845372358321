//! Freezes the version that is being worked on: keeps its install script as `sql/raptorflow_codex--VERSION.sql`, and adds
//! to `sql/released.tsv` what was not released before.
//!
//! `make release`, on the commit that is to be the release; then raise the version in Cargo.toml and META.json.

use codex_pg_test::{Database, script};
use std::fmt::Write;

fn main() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let before = script::released();
    let frozen = script::folder().join(format!("raptorflow_codex--{}.sql", script::VERSION));
    assert!(
        !frozen.exists(),
        "{} was released: raise the version first",
        script::VERSION
    );
    std::fs::write(&frozen, script::installed(&mut admin)).expect("the install script is kept");
    let mut text = String::new();
    let things = script::freezable(&mut admin);
    let new = things
        .into_iter()
        .filter(|thing| !before.iter().any(|known| known.what == thing.what));
    for released in before.iter().cloned().chain(new) {
        let script::Released {
            version,
            what,
            checksum,
        } = released;
        writeln!(text, "{version}\t{what}\t{checksum}").expect("a String takes any text");
    }
    std::fs::write(script::folder().join("released.tsv"), text).expect("sql/released.tsv");
    println!("{} is frozen", script::VERSION);
}
