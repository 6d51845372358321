//! What a policy costs: once a statement, by index, in parallel, and without a transaction id.

use crate::scene::{Scene, set};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Uuid, value};

fn plan(session: &mut Client, sql: &str) -> String {
    session
        .query(&format!("EXPLAIN (COSTS OFF) {sql}"), &[])
        .unwrap()
        .iter()
        .map(|row| row.get::<_, String>(0))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A table of 60,000 rows, a tenth of them Acme's, protected like any other.
fn big(scene: &mut Scene) {
    let member = scene.db.role("member");
    scene
        .admin
        .batch_execute(&format!(
            "CREATE TABLE public.big (id int, workspace_id uuid NOT NULL, amount int NOT NULL);
             INSERT INTO public.big SELECT n, CASE WHEN n % 10 = 0 THEN '{}'::uuid ELSE '{}'::uuid END, n % 7 FROM generate_series(1, 60000) AS n;
             SELECT codex.protect('public.big');
             GRANT SELECT ON public.big TO {member};
             ANALYZE public.big",
            scene.acme, scene.bolt
        ))
        .unwrap();
}

#[test]
fn the_context_is_evaluated_once_a_statement_and_by_index() {
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
    let shown = plan(&mut anna, "SELECT * FROM public.campaigns");
    assert!(shown.contains("InitPlan 1"), "{shown}");
    assert!(shown.contains("Index Cond: (workspace_id = "), "{shown}");
    let shown = plan(
        &mut anna,
        "SELECT * FROM public.campaigns WHERE id = '00000000-0000-0000-0000-000000000000'",
    );
    assert!(
        shown.contains("Index Cond: ") && shown.contains("id = '0000"),
        "{shown}"
    );
    let lines = plan(&mut anna, "SELECT * FROM public.user_notifications");
    assert_eq!(
        lines
            .lines()
            .filter(|line| line.trim_start().starts_with("InitPlan"))
            .count(),
        3,
        "workspace, user and service, once each: {lines}"
    );
}

#[test]
fn a_parallel_plan_is_possible_and_correct() {
    let mut scene = Scene::new();
    big(&mut scene);
    let mut anna = scene.anna();
    anna.batch_execute(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SET max_parallel_workers_per_gather = 2",
    )
    .unwrap();
    let sql = "SELECT count(*), sum(amount) FROM public.big";
    let shown = plan(&mut anna, sql);
    assert!(shown.contains("Gather"), "{shown}");
    assert!(shown.contains("Parallel Seq Scan"), "{shown}");
    let mut see = |workspace: Option<Uuid>, user: Option<Uuid>| -> (i64, Option<i64>) {
        set(&mut anna, workspace, user);
        let row = anna.query_one(sql, &[]).unwrap();
        (row.get(0), row.get(1))
    };
    let sum = |rest: fn(i32) -> bool| -> (i64, Option<i64>) {
        let all = (1..=60000).filter(|n| rest(*n)).map(|n| i64::from(n % 7));
        (all.clone().count() as i64, Some(all.sum()))
    };
    assert_eq!(
        see(Some(scene.acme), Some(scene.anna)),
        sum(|n| n % 10 == 0)
    );
    assert_eq!(see(Some(scene.bolt), Some(scene.bob)), sum(|n| n % 10 != 0));
    assert_eq!(see(Some(scene.bolt), Some(scene.anna)), (0, None));
    assert_eq!(see(None, None), (0, None));
    // Claims of the transaction reach the plan as well, in the strict mode.
    let mut t = anna.transaction().unwrap();
    t.batch_execute("SET LOCAL raptorflow_codex.context = 'transaction'")
        .unwrap();
    t.execute(
        "SELECT set_config('request.jwt.claims', $1, true)",
        &[&format!(
            r#"{{"sub":"{}","workspace_id":"{}"}}"#,
            scene.anna, scene.acme
        )],
    )
    .unwrap();
    let count: i64 = value(&mut t, "SELECT count(*) FROM public.big", &[]);
    assert_eq!(count, 6000);
}

#[test]
fn reading_through_a_policy_takes_no_transaction_id() {
    let scene = Scene::new();
    let mut anna = scene.anna();
    let mut t = anna.build_transaction().read_only(true).start().unwrap();
    for sql in [
        "SELECT count(*) FROM public.campaigns",
        "SELECT count(*) FROM public.user_notifications",
        "SELECT count(codex.current_workspace_id()) + count(codex.current_user_id())",
        "SELECT count(codex.acts_for_workspace())",
        "SELECT count(*) FROM (SELECT codex.is_workspace_member(codex.uuid_v7(), codex.uuid_v7()) OFFSET 0) AS x",
    ] {
        let _: i64 = value(&mut t, sql, &[]);
        let unassigned: bool = value(
            &mut t,
            "SELECT pg_current_xact_id_if_assigned() IS NULL",
            &[],
        );
        assert!(unassigned, "{sql}");
    }
    t.execute(
        "SELECT codex.enter_workspace($1, $2)",
        &[&scene.cask, &scene.anna],
    )
    .unwrap();
    let points: i32 = value(&mut t, "SELECT total_points FROM public.user_stats", &[]);
    assert_eq!(points, 7);
    let unassigned: bool = value(
        &mut t,
        "SELECT pg_current_xact_id_if_assigned() IS NULL",
        &[],
    );
    assert!(unassigned, "entering a workspace needs none either");
}

#[test]
fn repeatable_read_and_serializable_work() {
    use codex_pg_test::postgres::IsolationLevel;
    let mut scene = Scene::new();
    for level in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
        let mut anna = scene.anna();
        let mut t = anna
            .build_transaction()
            .isolation_level(level)
            .start()
            .unwrap();
        let seen: i64 = value(&mut t, "SELECT count(*) FROM public.campaigns", &[]);
        assert_eq!(seen, 1);
        scene
            .admin
            .execute(
                "UPDATE public.workspace_members SET role = role WHERE user_id = $1",
                &[&scene.anna],
            )
            .unwrap();
        let seen: i64 = value(&mut t, "SELECT count(*) FROM public.campaigns", &[]);
        assert_eq!(seen, 1);
        t.commit().unwrap();
    }
}
