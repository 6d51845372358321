//! What was released stays as it was, and the way from one release to the next is the one that was written down.

use codex_pg_test::{Database, script};
use std::collections::BTreeSet;

#[test]
fn a_released_file_or_migration_never_changes() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let now = script::freezable(&mut admin);
    let released = script::released();
    assert!(released.len() >= 25, "{}", released.len());
    for thing in &released {
        let here = now.iter().find(|here| here.what == thing.what);
        assert_eq!(
            here.map(|here| here.checksum.as_str()),
            Some(thing.checksum.as_str()),
            "{} was released with {} and may not change: databases have been made from it. Write a new migration.",
            thing.what,
            thing.version
        );
    }
    let things: BTreeSet<&str> = released.iter().map(|thing| thing.what.as_str()).collect();
    assert_eq!(things.len(), released.len(), "each thing once");
}

#[test]
fn the_upgrade_script_leads_from_the_released_script_to_the_installed_one() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    let (name, text) = script::upgrade(&script::installed(&mut admin));
    let here = std::fs::read_to_string(script::folder().join(&name)).unwrap_or_default();
    // pgrx puts the statements in one order or another.
    let in_any_order =
        |text: &str| -> BTreeSet<String> { script::statements(text).into_iter().collect() };
    assert_eq!(
        in_any_order(&here),
        in_any_order(&text),
        "sql/{name} is out of date: make shape"
    );
}
