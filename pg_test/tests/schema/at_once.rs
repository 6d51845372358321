//! Many sessions at once.

use crate::support::verified;
use codex_pg_test::{Database, Failure, value};

#[test]
fn twenty_migrations_at_once_end_in_one_schema_and_no_error() {
    let db = Database::with_extension();
    let answers = db.parallel(20, |_, client| {
        client
            .query("SELECT version, outcome FROM codex.migrate()", &[])
            .map(|rows| {
                rows.iter()
                    .filter(|row| row.get::<_, &str>(1) == "applied")
                    .count()
            })
            .map_err(|error| Failure::from(&error))
    });
    let failed: Vec<&Failure> = answers
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
    let mut applied: Vec<usize> = answers.into_iter().flatten().collect();
    applied.sort_unstable();
    assert_eq!(
        applied.iter().sum::<usize>(),
        crate::support::versions().len(),
        "each migration once: {applied:?}"
    );
    assert_eq!(
        applied.last(),
        Some(&crate::support::versions().len()),
        "all by the same session"
    );
    let mut admin = db.admin();
    let ledger: i64 = value(&mut admin, "SELECT count(*) FROM codex.migrations", &[]);
    assert_eq!(ledger, crate::support::versions().len() as i64);
    verified(&mut admin);
}

#[test]
fn migrations_and_rollbacks_at_once_keep_the_schema_whole() {
    let db = Database::migrated();
    let answers = db.parallel(8, |number, client| {
        for _ in 0..3 {
            let call = if number % 2 == 0 {
                "codex.migrate()"
            } else {
                "codex.rollback(15)"
            };
            client
                .query(&format!("SELECT * FROM {call}"), &[])
                .map_err(|error| Failure::from(&error))?;
        }
        Ok::<(), Failure>(())
    });
    for answer in answers {
        answer.expect("no session fails");
    }
    let mut admin = db.admin();
    admin
        .query("SELECT codex.migrate()", &[])
        .expect("ends migrated");
    verified(&mut admin);
}
