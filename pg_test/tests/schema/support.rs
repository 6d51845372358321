//! What the tests of the schema share.

use codex_pg_test::postgres::Client;
use codex_pg_test::value;

/// The numbers of all migrations, ascending: 010 to 012, which have no text of their own, and the files.
pub fn versions() -> Vec<i32> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sql/migrations");
    let mut versions: Vec<i32> = std::fs::read_dir(folder)
        .expect("the migrations are there")
        .filter_map(|entry| {
            let name = entry.expect("a file").file_name();
            let name = name.to_str().expect("a plain name");
            name.strip_suffix(".up.sql")?
                .split('_')
                .next()?
                .parse()
                .ok()
        })
        .chain([10, 11, 12])
        .collect();
    versions.sort_unstable();
    versions
}

/// The number of the newest migration.
pub fn latest() -> i32 {
    versions().pop().expect("there are migrations")
}

/// `version outcome` for all migrations.
pub fn all(outcome: &str) -> Vec<String> {
    versions()
        .iter()
        .map(|version| format!("{version} {outcome}"))
        .collect()
}

/// How many base tables schema `public` has.
pub fn tables_in_public(client: &mut Client) -> i64 {
    value(
        client,
        "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'public'",
        &[],
    )
}

/// The failed checks of `codex.verify()`, each `id: actual`.
pub fn failed_checks(client: &mut Client) -> Vec<String> {
    client
        .query(
            "SELECT id || ': ' || actual FROM codex.verify() WHERE NOT passed",
            &[],
        )
        .expect("codex.verify() runs")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Fails, with the failed checks, unless all passed.
#[track_caller]
pub fn verified(client: &mut Client) {
    let failed = failed_checks(client);
    assert!(failed.is_empty(), "{failed:#?}");
}

/// `version outcome` of each line of `codex.migrate(…)`.
pub fn outcomes(client: &mut Client, call: &str) -> Vec<String> {
    client
        .query(
            &format!("SELECT version || ' ' || outcome FROM {call}"),
            &[],
        )
        .unwrap_or_else(|error| panic!("{call}: {:?}", codex_pg_test::Failure::from(&error)))
        .iter()
        .map(|row| row.get(0))
        .collect()
}
