//! Statistics, plans, notifications, sequences, and what stays on a pooled connection.

use crate::scene::{Scene, count, here};
use codex_pg_test::postgres::fallible_iterator::FallibleIterator;
use codex_pg_test::{fails_with, value};
use std::time::Duration;

#[test]
fn statistics_of_protected_tables_are_hidden() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute("INSERT INTO public.campaigns (workspace_id, name) SELECT w.id, 'secret of ' || w.name FROM public.workspaces AS w, generate_series(1, 200); ANALYZE")
        .unwrap();
    let mut anna = scene.anna();
    let shown: i64 = value(
        &mut anna,
        "SELECT count(*) FROM pg_catalog.pg_stats WHERE tablename IN ('campaigns', 'user_stats', 'intelligence_signals', 'workspaces', 'user_notifications')",
        &[],
    );
    assert_eq!(shown, 0);
    fails_with(
        anna.query("SELECT * FROM pg_catalog.pg_statistic", &[]),
        "42501",
    );
}

#[test]
fn an_analysed_plan_counts_own_rows_only_where_the_index_is_used() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute(
            "INSERT INTO public.workspaces (name) SELECT 'w' || n FROM generate_series(1, 200) AS n;
             INSERT INTO public.campaigns (workspace_id, name) SELECT w.id, 'c' FROM public.workspaces AS w, generate_series(1, 30) WHERE w.name LIKE 'w%'",
        )
        .unwrap();
    scene
        .admin
        .batch_execute("ANALYZE public.campaigns")
        .unwrap();
    let mut anna = scene.anna();
    let plan: Vec<String> = anna
        .query(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM public.campaigns",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let plan = plan.join("\n");
    assert!(
        plan.contains("campaigns_workspace_id_id_key") || plan.contains("Index"),
        "{plan}"
    );
    assert!(!plan.contains("Rows Removed by Filter"), "{plan}");
    assert!(!plan.contains("600"), "{plan}");
}

#[test]
fn nothing_is_announced_to_other_sessions() {
    let mut scene = Scene::new();
    let mut listener = scene.db.login("member");
    for channel in [
        "codex",
        "alerts",
        "notifications",
        "system_alerts",
        "user_notifications",
        "codex_alerts",
    ] {
        listener
            .batch_execute(&format!("LISTEN {channel}"))
            .unwrap();
    }
    let mut service = scene.service();
    service
        .execute(
            "SELECT codex.create_system_alert($1, 'error', 'critical', 'x', 'y')",
            &[&scene.acme],
        )
        .unwrap();
    service
        .execute(
            "SELECT codex.send_user_notification($1, $2, 'message', 'x', 'y')",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    let heard = listener
        .notifications()
        .timeout_iter(Duration::from_millis(200))
        .count()
        .unwrap();
    assert_eq!(heard, 0);
    let sequences: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relnamespace IN ('public'::regnamespace, 'codex'::regnamespace)",
        &[],
    );
    assert_eq!(sequences, 0, "a sequence tells how much others insert");
}

#[test]
fn discard_all_leaves_nothing_of_a_tenant_on_a_pooled_connection() {
    let scene = Scene::new();
    let mut pooled = scene.anna();
    pooled
        .batch_execute(
            "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT name FROM public.campaigns; COMMIT;
             CREATE TEMP TABLE copied AS SELECT name FROM public.campaigns;
             PREPARE kept AS SELECT name FROM public.campaigns",
        )
        .unwrap();
    pooled.batch_execute("DISCARD ALL").unwrap();
    assert_eq!(here(&mut pooled), None);
    fails_with(pooled.batch_execute("FETCH ALL FROM held"), "34000");
    fails_with(pooled.batch_execute("TABLE pg_temp.copied"), "42P01");
    fails_with(pooled.batch_execute("EXECUTE kept"), "26000");
    assert_eq!(count(&mut pooled, "public.campaigns"), 0);
}

#[test]
fn a_cursor_stays_with_the_tenant_that_opened_it() {
    let scene = Scene::new();
    let mut session = scene.db.login("member");
    let mut t = session.transaction().unwrap();
    t.execute(
        "SELECT codex.enter_workspace($1, $2)",
        &[&scene.acme, &scene.anna],
    )
    .unwrap();
    t.batch_execute("DECLARE c CURSOR FOR SELECT name FROM public.campaigns")
        .unwrap();
    let first: String = t.query_one("FETCH 1 FROM c", &[]).unwrap().get(0);
    assert_eq!(first, "Acme campaign");
    t.execute(
        "SELECT codex.enter_workspace($1, $2)",
        &[&scene.bolt, &scene.bob],
    )
    .unwrap();
    assert!(
        t.query("FETCH ALL FROM c", &[]).unwrap().is_empty(),
        "the context is evaluated once for it"
    );
}
