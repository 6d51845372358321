//! When `codex.migrate()` may not run.

use codex_pg_test::{Database, fails_with, value};

#[test]
fn above_read_committed_it_is_refused() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        admin
            .batch_execute(&format!("BEGIN ISOLATION LEVEL {level}"))
            .expect("begins");
        for call in ["codex.migrate()", "codex.rollback(0)"] {
            admin
                .batch_execute("SAVEPOINT before")
                .expect("a savepoint");
            let failure = fails_with(admin.query(&format!("SELECT {call}"), &[]), "55000");
            assert!(
                failure.message.contains("READ COMMITTED"),
                "{}",
                failure.message
            );
            admin
                .batch_execute("ROLLBACK TO before")
                .expect("rolls back");
        }
        admin.batch_execute("ROLLBACK").expect("rolls back");
    }
}

#[test]
fn it_takes_part_in_the_callers_transaction() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    admin
        .batch_execute("BEGIN; SELECT codex.migrate(); ROLLBACK")
        .expect("runs and rolls back");
    let there: Option<String> = value(
        &mut admin,
        "SELECT to_regclass('public.campaigns')::text",
        &[],
    );
    assert_eq!(there, None);
    admin
        .batch_execute("BEGIN; SELECT codex.migrate(13); SELECT codex.migrate(); COMMIT")
        .expect("runs twice in one transaction");
    let reached: i32 = value(&mut admin, "SELECT max(version) FROM codex.migrations", &[]);
    assert_eq!(reached, crate::support::latest());
}

#[test]
fn a_read_only_transaction_is_refused_and_reading_goes_on() {
    let db = Database::migrated();
    let mut admin = db.admin();
    admin.batch_execute("BEGIN READ ONLY").expect("begins");
    let passed: bool = value(
        &mut admin,
        "SELECT bool_and(passed) FROM codex.verify()",
        &[],
    );
    assert!(passed);
    let lines: i64 = value(&mut admin, "SELECT count(*) FROM codex.status()", &[]);
    assert!(lines > 5);
    let written: Option<String> = value(
        &mut admin,
        "SELECT pg_catalog.pg_current_xact_id_if_assigned()::text",
        &[],
    );
    assert_eq!(written, None, "verify and status assign no transaction id");
    admin.batch_execute("ROLLBACK").expect("rolls back");
}

/// Two versions of an extension whose scripts migrate, written beside the server's own and taken away again.
struct Careless {
    folder: String,
    name: String,
}

impl Careless {
    fn install(client: &mut codex_pg_test::postgres::Client) -> Self {
        let share: String = value(
            client,
            "SELECT setting FROM pg_catalog.pg_config() WHERE name = 'SHAREDIR'",
            &[],
        );
        let careless = Self {
            folder: format!("{share}/extension"),
            name: format!("codex_test_careless_{}", std::process::id()),
        };
        careless.write("control", "default_version = '1'\nrelocatable = false\n");
        let name = &careless.name;
        for (file, text) in [
            (format!("{name}--1"), "SELECT codex.migrate();"),
            (format!("{name}--2"), "SELECT 1;"),
            (format!("{name}--2--3"), "SELECT codex.migrate();"),
        ] {
            std::fs::write(format!("{}/{file}.sql", careless.folder), text).expect("a script");
        }
        careless
    }

    fn write(&self, ending: &str, text: &str) {
        std::fs::write(format!("{}/{}.{ending}", self.folder, self.name), text)
            .expect("a control file");
    }
}

impl Drop for Careless {
    fn drop(&mut self) {
        let name = &self.name;
        for file in [
            format!("{name}.control"),
            format!("{name}--1.sql"),
            format!("{name}--2.sql"),
            format!("{name}--2--3.sql"),
        ] {
            if let Err(error) = std::fs::remove_file(format!("{}/{file}", self.folder)) {
                eprintln!("{file} stays: {error}");
            }
        }
    }
}

#[test]
fn inside_create_or_alter_extension_it_is_refused() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    let careless = Careless::install(&mut admin);
    let name = &careless.name;
    let failure = fails_with(
        admin.batch_execute(&format!("CREATE EXTENSION {name}")),
        "55000",
    );
    assert!(
        failure
            .message
            .contains("while an extension is being created or updated"),
        "{failure}"
    );
    admin
        .batch_execute(&format!("CREATE EXTENSION {name} VERSION '2'"))
        .expect("the version that does not migrate");
    let failure = fails_with(
        admin.batch_execute(&format!("ALTER EXTENSION {name} UPDATE TO '3'")),
        "55000",
    );
    assert!(
        failure
            .message
            .contains("while an extension is being created or updated"),
        "{failure}"
    );
    let there: Option<String> = value(
        &mut admin,
        "SELECT to_regclass('public.campaigns')::text",
        &[],
    );
    assert_eq!(there, None);
}
