//! `codex.migrate()`: from nothing, step by step, twice, and rehearsed.

use crate::support::{all, latest, outcomes, tables_in_public, verified, versions};
use codex_pg_test::{Database, fails_with, value};

#[test]
fn a_fresh_database_gets_everything_and_passes_verify() {
    let db = Database::with_extension();
    let (mut admin, notices) = db.admin_with_notices();
    let lines = outcomes(&mut admin, "codex.migrate()");
    assert_eq!(lines, all("applied"));
    let said = notices.take().join("\n");
    assert!(
        said.contains("makes what this database does not have: public.users, public.workspaces"),
        "{said}"
    );
    assert!(
        said.contains(&format!("this database is at version {}", latest())),
        "{said}"
    );
    verified(&mut admin);
    // 16 of the Codex, and the five it builds on.
    assert_eq!(tables_in_public(&mut admin), 21);
}

#[test]
fn a_second_run_changes_nothing_and_says_so() {
    let db = Database::migrated();
    let (mut admin, notices) = db.admin_with_notices();
    let before = shape(&mut admin);
    let lines = outcomes(&mut admin, "codex.migrate()");
    assert_eq!(lines, all("unchanged"));
    assert_eq!(
        notices.take(),
        [format!(
            "NOTICE: codex.migrate(): nothing to do, this database is at version {}",
            latest()
        )]
    );
    assert_eq!(shape(&mut admin), before);
}

fn shape(client: &mut codex_pg_test::postgres::Client) -> Vec<String> {
    client
        .query(
            "SELECT s::text FROM codex.schema_shape() AS s ORDER BY 1",
            &[],
        )
        .expect("codex.schema_shape() runs")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[test]
fn versions_one_by_one_end_where_one_call_ends() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    for version in versions() {
        admin
            .execute("SELECT codex.migrate($1)", &[&version])
            .unwrap_or_else(|error| panic!("migrate({version}): {error:?}"));
        let reached: i32 = value(&mut admin, "SELECT max(version) FROM codex.migrations", &[]);
        assert_eq!(reached, version);
    }
    let other = Database::migrated();
    assert_eq!(shape(&mut admin), shape(&mut other.admin()));
}

#[test]
fn the_tables_are_no_members_of_the_extension() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let members: i64 = value(
        &mut admin,
        "SELECT count(*)
           FROM pg_catalog.pg_depend AS d
           JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::regclass
          WHERE e.extname = 'raptorflow_codex'
            AND d.deptype = 'e'
            AND d.classid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_namespace'::regclass)",
        &[],
    );
    assert_eq!(members, 0);
    let functions: i64 = value(
        &mut admin,
        "SELECT count(*) FROM codex.function_shape()",
        &[],
    );
    assert!(functions >= 14, "{functions}");
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    let lines = outcomes(&mut admin, "codex.migrate(dry_run => true)");
    assert_eq!(lines, all("would apply"));
    assert_eq!(tables_in_public(&mut admin), 0);
    let ledger: Option<String> = value(
        &mut admin,
        "SELECT to_regclass('codex.migrations')::text",
        &[],
    );
    assert_eq!(ledger, None);
}

#[test]
fn targets_that_there_are_not_are_refused() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let failure = fails_with(admin.query("SELECT codex.migrate(9)", &[]), "22023");
    assert_eq!(failure.message, "target is 9; there is no such migration");
    assert!(
        failure.hint.contains("013 positioning_and_campaigns"),
        "{}",
        failure.hint
    );
    let failure = fails_with(admin.query("SELECT codex.migrate(13)", &[]), "22023");
    assert!(failure.message.contains("already"), "{}", failure.message);
    assert!(
        failure.hint.contains("codex.rollback(13)"),
        "{}",
        failure.hint
    );
    for call in [
        "codex.migrate(dry_run => NULL)",
        "codex.migrate(archive_unused => NULL)",
        "codex.rollback(NULL)",
        "codex.rollback(1, NULL)",
        "codex.migration_sql(NULL)",
        "codex.migration_sql(13, NULL)",
    ] {
        fails_with(admin.query(&format!("SELECT {call}"), &[]), "22004");
    }
    fails_with(
        admin.query("SELECT codex.migration_sql(13, 'sideways')", &[]),
        "22023",
    );
    fails_with(admin.query("SELECT codex.rollback(-1)", &[]), "22023");
}

#[test]
fn the_table_of_users_is_the_one_asked_for() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    admin
        .batch_execute(
            "CREATE TABLE public.people (id uuid PRIMARY KEY);
             CREATE VIEW public.humans AS SELECT id FROM public.people;
             CREATE TABLE public.keyless (id uuid);",
        )
        .expect("tables of an app");
    fails_with(
        admin.query("SELECT codex.migrate(users => 'public.humans')", &[]),
        "22023",
    );
    let failure = fails_with(
        admin.query("SELECT codex.migrate(users => 'public.keyless')", &[]),
        "42501",
    );
    assert!(
        failure
            .detail
            .contains("public.keyless (id) is neither a primary key nor unique"),
        "{}",
        failure.detail
    );
    admin
        .execute("SELECT codex.migrate(users => 'public.people')", &[])
        .expect("migrates with a table of users of its own");
    let users: Vec<String> = admin
        .query(
            "SELECT DISTINCT confrelid::regclass::text
               FROM pg_catalog.pg_constraint AS k
              WHERE k.contype = 'f'
                AND k.conname LIKE '%created\\_by\\_fkey'",
            &[],
        )
        .expect("foreign keys")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(users, ["people"]);
    let own: Option<String> = value(&mut admin, "SELECT to_regclass('public.users')::text", &[]);
    assert_eq!(own, None, "no second table of users is made");
    verified(&mut admin);
    // Asking for another one later is an error that says so.
    admin
        .batch_execute("CREATE TABLE public.others (id uuid PRIMARY KEY)")
        .expect("another table");
    let failure = fails_with(
        admin.query("SELECT codex.migrate(users => 'public.others')", &[]),
        "55000",
    );
    assert!(
        failure.message.contains("public.people"),
        "{}",
        failure.message
    );
}

#[test]
fn what_stands_in_the_way_is_refused_and_named() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    admin
        .batch_execute(
            "CREATE VIEW public.agent_performance AS SELECT 1 AS one;
             CREATE MATERIALIZED VIEW public.user_stats AS SELECT 1 AS one;",
        )
        .expect("relations of an app");
    let failure = fails_with(admin.query("SELECT codex.migrate()", &[]), "55000");
    assert!(
        failure.detail.contains("public.agent_performance"),
        "{}",
        failure.detail
    );
    assert!(failure.detail.contains("a view"), "{}", failure.detail);
    assert!(
        failure.detail.contains("a materialised view"),
        "{}",
        failure.detail
    );
    assert_eq!(tables_in_public(&mut admin), 0, "nothing half done");
    let ledger: Option<String> = value(
        &mut admin,
        "SELECT to_regclass('codex.migrations')::text",
        &[],
    );
    assert_eq!(ledger, None);
}

#[test]
fn a_changed_migration_file_is_an_error_that_names_the_file() {
    let db = Database::migrated();
    let mut admin = db.admin();
    admin
        .execute(
            "UPDATE codex.migrations SET checksum = repeat('0', 64) WHERE version = 14",
            &[],
        )
        .expect("the ledger of another library");
    let failure = fails_with(admin.query("SELECT codex.migrate()", &[]), "55000");
    assert!(
        failure
            .message
            .contains("sql/migrations/014_achievements.up.sql"),
        "{}",
        failure.message
    );
}

#[test]
fn a_database_that_is_ahead_of_the_library_is_left_alone() {
    let db = Database::migrated();
    let mut admin = db.admin();
    admin
        .execute(
            "INSERT INTO codex.migrations (version, name, checksum, extension_version)
             VALUES (999, 'from_the_future', 'f', '9.9.9')",
            &[],
        )
        .expect("the ledger of a newer library");
    let failure = fails_with(admin.query("SELECT codex.migrate()", &[]), "55000");
    assert!(
        failure.message.contains("999 from_the_future"),
        "{}",
        failure.message
    );
    assert!(failure.hint.contains("9.9.9"), "{}", failure.hint);
    let actual: String = value(
        &mut admin,
        "SELECT actual FROM codex.verify() WHERE id = 'ledger.999' AND NOT passed",
        &[],
    );
    assert!(actual.contains("unknown to"), "{actual}");
}

#[test]
fn what_was_lost_with_the_extension_comes_back() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let before = shape(&mut admin);
    let campaign = {
        let workspace = codex_pg_test::workspace(&mut admin, "Acme");
        value::<codex_pg_test::Uuid>(
            &mut admin,
            "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, 'Autumn') RETURNING id",
            &[&workspace],
        )
    };
    fails_with(
        admin.batch_execute("DROP EXTENSION raptorflow_codex"),
        "2BP01",
    );
    admin
        .batch_execute("DROP EXTENSION raptorflow_codex CASCADE")
        .expect("drops with CASCADE");
    let rows: i64 = value(
        &mut admin,
        "SELECT count(*) FROM public.campaigns WHERE id = $1",
        &[&campaign],
    );
    assert_eq!(rows, 1, "the row stays");
    let protected: bool = value(
        &mut admin,
        "SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = 'public.campaigns'::regclass",
        &[],
    );
    assert!(protected, "and RLS now denies");
    let lines = {
        admin
            .batch_execute("CREATE EXTENSION raptorflow_codex")
            .expect("comes back");
        outcomes(&mut admin, "codex.migrate()")
    };
    assert!(lines.contains(&"13 repaired".to_string()), "{lines:?}");
    assert_eq!(shape(&mut admin), before);
    verified(&mut admin);
}
