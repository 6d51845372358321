//! The harness itself: what a test may rely on.

use codex_pg_test::{Database, fails_with, server_version, value};

#[test]
fn an_empty_database_has_no_extension_of_ours() {
    let db = Database::empty();
    let extensions: i64 = value(
        &mut db.admin(),
        "SELECT count(*) FROM pg_extension WHERE extname = 'raptorflow_codex'",
        &[],
    );
    assert_eq!(extensions, 0);
    assert_eq!(
        value::<String>(&mut db.admin(), "SELECT current_database()::text", &[]),
        db.name()
    );
}

#[test]
fn the_extension_is_there_and_its_tables_are_not() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    assert_eq!(
        value::<String>(
            &mut admin,
            "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'raptorflow_codex'",
            &[]
        ),
        "codex"
    );
    assert!(!value::<bool>(
        &mut admin,
        "SELECT to_regclass('public.campaigns') IS NOT NULL",
        &[]
    ));
}

#[test]
fn a_migrated_database_is_a_copy_of_its_own() {
    let (one, other) = (Database::migrated(), Database::migrated());
    codex_pg_test::workspace(&mut one.admin(), "Only here");
    let count = "SELECT count(*) FROM public.workspaces";
    assert_eq!(value::<i64>(&mut one.admin(), count, &[]), 1);
    assert_eq!(value::<i64>(&mut other.admin(), count, &[]), 0);
}

#[test]
fn a_login_role_has_no_power_and_goes_with_its_database() {
    let db = Database::empty();
    let name = db.role("member");
    for session in [&mut db.login("member"), &mut db.login(&name)] {
        assert_eq!(
            value::<String>(session, "SELECT session_user::text", &[]),
            name
        );
        fails_with(session.batch_execute("CREATE ROLE somebody"), "42501");
    }
    let mut elsewhere = Database::empty().admin();
    drop(db);
    let left: i64 = value(
        &mut Database::empty().admin(),
        "SELECT count(*) FROM pg_roles WHERE rolname = $1",
        &[&name],
    );
    assert_eq!(left, 0);
    assert!(
        elsewhere.batch_execute("SELECT 1").is_err(),
        "its database was dropped"
    );
}

#[test]
fn options_reach_the_session() {
    let db = Database::empty();
    let mut session = db.connect_as("member", "-c work_mem=77MB");
    assert_eq!(value::<String>(&mut session, "SHOW work_mem", &[]), "77MB");
}

#[test]
fn parallel_sessions_are_sessions_of_their_own() {
    let db = Database::empty();
    let mut backends = db.parallel(8, |_, client| {
        value::<i32>(client, "SELECT pg_backend_pid()", &[])
    });
    backends.sort_unstable();
    backends.dedup();
    assert_eq!(backends.len(), 8);
    assert_eq!(db.parallel(5, |number, _| number), [0, 1, 2, 3, 4]);
}

#[test]
fn a_failure_is_taken_apart() {
    let db = Database::empty();
    let failure = fails_with(
        db.admin().batch_execute(
            "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '55000', DETAIL = 'because', HINT = 'do'; END $$",
        ),
        "55000",
    );
    assert_eq!(
        (&*failure.message, &*failure.detail, &*failure.hint),
        ("no", "because", "do")
    );
}

#[test]
fn notices_are_heard_in_order() {
    let db = Database::empty();
    let (mut admin, notices) = db.admin_with_notices();
    admin
        .batch_execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        .unwrap();
    assert_eq!(notices.take(), ["NOTICE: one", "WARNING: two"]);
    assert!(notices.take().is_empty());
}

#[test]
fn programs_are_of_the_servers_version() {
    let db = Database::empty();
    let output = db.program("pg_dump").arg("--schema-only").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let version = format!(
        "-- Dumped by pg_dump version {}.",
        server_version() / 10_000
    );
    assert!(text.contains(&version), "{text}");
}
