//! A database moves to a newer major version of Postgres with everything in it.

use crate::dump_and_restore::works;
use crate::picture::Picture;
use crate::private_server::PrivateServer;
use crate::story;

/// Needs the programs of a newer major version, with the extension built for it and installed there:
/// `make test-long UPGRADE_TO=/usr/lib/postgresql/17/bin`. The older server is the one under test, or the one of
/// `UPGRADE_FROM`: a minor version can be too new for a newer major version that is older than it.
#[test]
#[ignore = "needs a second major version: CODEX_TEST_UPGRADE_TO=/path/to/its/bin"]
fn a_database_is_the_same_after_pg_upgrade() {
    let programs = std::env::var("CODEX_TEST_UPGRADE_TO")
        .expect("CODEX_TEST_UPGRADE_TO: the folder with the programs of a newer Postgres that has the extension");
    let from = std::env::var("CODEX_TEST_UPGRADE_FROM")
        .ok()
        .filter(|folder| !folder.is_empty());
    let old = PrivateServer::make("crash-old", from.map(Into::into));
    let new = PrivateServer::make("upgraded", Some(programs.into()));
    assert!(
        new.major() > old.major(),
        "{} to {}",
        old.major(),
        new.major()
    );

    old.start();
    let mut admin = old.connect().expect("a session");
    admin
        .batch_execute(
            "CREATE EXTENSION raptorflow_codex;
             SELECT codex.migrate();
             CREATE ROLE reader; CREATE ROLE member; CREATE ROLE service;
             ALTER DATABASE postgres SET session_preload_libraries = 'raptorflow_codex';",
        )
        .unwrap_or_else(|error| panic!("{error:?}"));
    story::tell(&mut admin);
    story::tell_of_the_engines(&mut admin);
    story::add_to_it(&mut admin, "reader", "member", "service");
    let before = Picture::seen_by(&mut admin);
    drop(admin);
    old.stop();

    let check = new.upgrade_from(&old, &["--check"]);
    assert!(check.contains("*Clusters are compatible*"), "{check}");
    new.upgrade_from(&old, &[]);
    new.start();
    let mut admin = new.connect().expect("a session");
    // What describes the server itself may change.
    let but = ["status ", "isolation "];
    before.without(&but).assert_same(
        &Picture::seen_by(&mut admin).without(&but),
        "after pg_upgrade",
    );
    works(&mut admin);
    println!(
        "pg_upgrade from {} to {}: everything is the same",
        old.major(),
        new.major()
    );
}
