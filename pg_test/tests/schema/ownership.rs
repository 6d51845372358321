//! `codex.migrate()` by a role that is no superuser.

use crate::support::verified;
use codex_pg_test::{Database, fails_with, value};

#[test]
fn a_database_owner_who_is_no_superuser_migrates_verifies_and_rolls_back() {
    let db = Database::with_extension();
    let owner = db.role("owner");
    db.admin()
        .batch_execute(&format!(
            "ALTER DATABASE {} OWNER TO {owner};
             GRANT CREATE, USAGE ON SCHEMA codex TO {owner};",
            db.name()
        ))
        .expect("the database gets an owner");
    let mut session = db.login("owner");
    session
        .query("SELECT codex.migrate()", &[])
        .unwrap_or_else(|error| panic!("{:?}", codex_pg_test::Failure::from(&error)));
    verified(&mut session);
    let owners: i64 = value(
        &mut session,
        "SELECT count(*)
           FROM pg_catalog.pg_tables AS t
          WHERE t.schemaname IN ('public', 'codex')
            AND t.tableowner <> current_user",
        &[],
    );
    assert_eq!(owners, 0, "everything belongs to whoever ran it");
    session
        .query("SELECT codex.rollback(0)", &[])
        .expect("rolls back");
    session
        .query("SELECT codex.migrate()", &[])
        .expect("and migrates again");
    verified(&mut session);
}

#[test]
fn what_a_role_lacks_is_named_all_at_once() {
    let db = Database::with_extension();
    db.admin()
        .batch_execute(
            "CREATE SCHEMA auth;
             CREATE TABLE auth.users (id uuid PRIMARY KEY);
             CREATE TABLE public.moves (id uuid PRIMARY KEY, workspace_id uuid NOT NULL);",
        )
        .expect("tables of others");
    let role = db.role("nobody");
    db.admin()
        .batch_execute(&format!("GRANT USAGE ON SCHEMA codex TO {role}"))
        .expect("may name the functions");
    let mut session = db.login("nobody");
    let failure = fails_with(session.query("SELECT codex.migrate()", &[]), "42501");
    for lack in [
        format!("GRANT CREATE, USAGE ON SCHEMA codex TO {role}"),
        format!("GRANT CREATE, USAGE ON SCHEMA public TO {role}"),
        "GRANT USAGE ON SCHEMA auth".to_string(),
        "GRANT REFERENCES ON auth.users".to_string(),
        "GRANT REFERENCES ON public.moves".to_string(),
        "CREATE UNIQUE INDEX CONCURRENTLY ON public.moves (workspace_id, id)".to_string(),
    ] {
        assert!(
            failure.detail.contains(&lack),
            "{lack} in {}",
            failure.detail
        );
    }
}
