//! `codex.rollback()`: any target, rows refused, everything back afterwards.

use crate::support::{latest, outcomes, verified, versions};
use codex_pg_test::{Database, fails_with, value, workspace};

#[test]
fn every_target_is_reached_and_migrate_restores_everything() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let all = versions();
    for target in (0..latest()).rev() {
        outcomes(&mut admin, &format!("codex.rollback({target})"));
        let expected = all
            .iter()
            .copied()
            .filter(|version| *version <= target)
            .max();
        let reached: Option<i32> = match value::<Option<String>>(
            &mut admin,
            "SELECT to_regclass('codex.migrations')::text",
            &[],
        ) {
            None => None,
            Some(_) => value(&mut admin, "SELECT max(version) FROM codex.migrations", &[]),
        };
        assert_eq!(reached, expected);
        if target % 4 == 0 {
            outcomes(&mut admin, "codex.migrate()");
            verified(&mut admin);
        }
    }
    outcomes(&mut admin, "codex.rollback(0)");
    let left: i64 = value(
        &mut admin,
        "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname IN ('public', 'codex')",
        &[],
    );
    assert_eq!(left, 0, "0 takes back what migrate() made, all of it");
    outcomes(&mut admin, "codex.migrate()");
    verified(&mut admin);
}

#[test]
fn tables_with_rows_are_refused_with_their_counts() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let acme = workspace(&mut admin, "Acme");
    admin
        .execute(
            "INSERT INTO public.campaigns (workspace_id, name)
             SELECT $1, 'Campaign ' || n FROM generate_series(1, 7) AS n",
            &[&acme],
        )
        .expect("campaigns");
    admin
        .execute(
            "INSERT INTO public.system_alerts (workspace_id, alert_type, title) VALUES ($1, 'error', 'Stopped')",
            &[&acme],
        )
        .expect("an alert");
    let failure = fails_with(admin.query("SELECT codex.rollback(12)", &[]), "55000");
    assert_eq!(
        failure.message,
        "rolling back to 12 would lose 10 row(s) of 4 table(s)"
    );
    assert_eq!(
        failure.detail,
        "codex.alert_events: 1 row(s)\ncodex.alert_life: 1 row(s)\npublic.system_alerts: 1 row(s)\npublic.campaigns: 7 row(s)"
    );
    assert!(
        failure
            .hint
            .contains("codex.rollback(12, allow_data_loss => true)"),
        "{}",
        failure.hint
    );
    verified(&mut admin);

    // A target above the tables with rows does not touch them.
    fails_with(admin.query("SELECT codex.rollback(16)", &[]), "55000");
    let (mut admin, notices) = db.admin_with_notices();
    outcomes(&mut admin, "codex.rollback(12, allow_data_loss => true)");
    let said = notices.take().join("\n");
    assert!(
        said.contains("lost: public.campaigns with 7 row(s)"),
        "{said}"
    );
    let workspaces: i64 = value(&mut admin, "SELECT count(*) FROM public.workspaces", &[]);
    assert_eq!(workspaces, 1, "the foundation stays");
    outcomes(&mut admin, "codex.migrate()");
    verified(&mut admin);
}

#[test]
fn a_view_of_the_app_on_a_table_stops_the_rollback() {
    let db = Database::migrated();
    let mut admin = db.admin();
    admin
        .batch_execute("CREATE VIEW public.my_alerts AS SELECT id FROM public.system_alerts")
        .expect("a view");
    let failure = fails_with(admin.query("SELECT codex.rollback(16)", &[]), "2BP01");
    assert!(failure.detail.contains("my_alerts"), "{}", failure.detail);
    verified(&mut admin);
}

#[test]
fn rolling_back_nothing_says_so() {
    let db = Database::migrated();
    let (mut admin, notices) = db.admin_with_notices();
    let lines = outcomes(&mut admin, &format!("codex.rollback({})", latest()));
    assert!(lines.is_empty());
    assert_eq!(
        notices.take(),
        [format!(
            "NOTICE: codex.rollback(): nothing to do, this database is at version {}",
            latest()
        )]
    );
}
