//! Writes `sql/shape.tsv` and `sql/functions.tsv`, what a freshly migrated database looks like, and the script that
//! leads from the released version before to this one; and the pages of the manual that are written from a database.
//!
//! `cargo run -p codex-pg-test --example shape`, against a server in which the extension is installed; the
//! library has to be built again afterwards, because it carries both files. Their diff is what a reviewer
//! looks at when a migration or a function changes.

use codex_pg_test::{Database, manual, script};
use std::fmt::Write;

fn main() {
    let db = Database::migrated();
    let mut admin = db.admin();
    for (function, file) in [
        ("schema_shape", "shape.tsv"),
        ("function_shape", "functions.tsv"),
    ] {
        let rows = admin
            .query(
                &format!(
                    "SELECT concat_ws(E'\\t', relation, kind, name, definition)
                       FROM codex.{function}()
                      ORDER BY relation COLLATE \"C\", kind COLLATE \"C\", name COLLATE \"C\""
                ),
                &[],
            )
            .unwrap_or_else(|error| panic!("{}", codex_pg_test::error_message(&error)));
        let mut text = String::new();
        for row in &rows {
            writeln!(text, "{}", row.get::<_, &str>(0)).expect("a String takes any text");
        }
        let path = format!("{}/../sql/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
        println!("sql/{file}: {} definitions", rows.len());
    }
    for (name, text) in manual::pages(&db) {
        let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
        println!("docs/{name}");
    }
    let (name, text) = script::upgrade(&script::installed(&mut admin));
    let path = script::folder().join(&name);
    std::fs::write(&path, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
    println!("sql/{name}: {} statements", script::statements(&text).len());
}
