//! `codex.migration_sql()`: the same schema by psql.

use crate::support::{verified, versions};
use codex_pg_test::{Database, value};
use std::io::Write;
use std::process::Stdio;

fn run_in_psql(db: &Database, text: &str) {
    let mut psql = db
        .program("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql starts");
    psql.stdin
        .take()
        .expect("psql reads")
        .write_all(text.as_bytes())
        .expect("the text is written");
    let output = psql.wait_with_output().expect("psql ends");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn printed_migrations_make_the_same_schema_up_and_down() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    for version in versions() {
        let text: String = value(&mut admin, "SELECT codex.migration_sql($1)", &[&version]);
        run_in_psql(&db, &text);
    }
    verified(&mut admin);
    let unchanged: bool = value(
        &mut admin,
        "SELECT bool_and(outcome = 'unchanged') FROM codex.migrate()",
        &[],
    );
    assert!(unchanged, "the ledger knows them");
    for version in versions().into_iter().rev() {
        let text: String = value(
            &mut admin,
            "SELECT codex.migration_sql($1, 'down')",
            &[&version],
        );
        run_in_psql(&db, &text);
    }
    let left: i64 = value(
        &mut admin,
        "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname IN ('public', 'codex')",
        &[],
    );
    assert_eq!(left, 0);
}

#[test]
fn the_files_themselves_run_in_psql() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    admin
        .query("SELECT codex.migrate(12)", &[])
        .expect("the foundation");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sql/migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of migrations")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".up.sql"))
        .collect();
    files.sort();
    assert_eq!(files.len(), versions().len() - 3);
    for file in files {
        let output = db
            .program("psql")
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-v",
                "users=public.users",
                "-f",
            ])
            .arg(&file)
            .output()
            .expect("psql runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let failed: Vec<String> = crate::support::failed_checks(&mut admin)
        .into_iter()
        .filter(|check| !check.starts_with("ledger."))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}
