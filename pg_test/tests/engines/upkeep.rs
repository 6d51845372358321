//! One call does what time does, in batches; two at once do it once.

use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Uuid, error_message, fails_with, member, value, workspace};
use std::collections::BTreeMap;

struct Scene {
    db: Database,
    admin: Client,
    acme: Uuid,
    bolt: Uuid,
    anna: Uuid,
}

impl Scene {
    fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        let acme = workspace(&mut admin, "Acme");
        let bolt = workspace(&mut admin, "Bolt");
        let anna = member(&mut admin, acme, "anna@acme.example");
        Self {
            db,
            admin,
            acme,
            bolt,
            anna,
        }
    }

    /// Rows of each kind in a workspace, so many days old.
    fn put(&mut self, workspace: Uuid, rows: i64, days: i64) {
        let anna = self.anna;
        let sql = format!(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, is_read, read_at)
             SELECT '{workspace}', '{anna}', 'message', 'read', 'm', true, now() - interval '{days} days' FROM generate_series(1, {rows});
             INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, expires_at)
             SELECT '{workspace}', '{anna}', 'message', 'expired', 'm', now() - interval '{days} days' FROM generate_series(1, {rows});
             INSERT INTO public.intelligence_signals (workspace_id, source_type, signal_title, signal_category, expiry_date)
             SELECT '{workspace}', 'market', 'expired', 'market_trend', now() - interval '{days} days' FROM generate_series(1, {rows});
             INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Scout', 'researcher') ON CONFLICT DO NOTHING;
             INSERT INTO codex.agent_executions (workspace_id, execution_id, agent_id, executed_at, recorded_at)
             SELECT '{workspace}', gen_random_uuid(), a.id, now(), now() - interval '{days} days'
             FROM generate_series(1, {rows}), public.agent_registry AS a;
             INSERT INTO codex.requests (workspace_id, operation, idempotency_key, request_hash, created_at)
             SELECT '{workspace}', 'x', gen_random_uuid()::text, '', now() - interval '{days} days' FROM generate_series(1, {rows});
             INSERT INTO public.system_alerts (workspace_id, alert_type, severity_level, title, status)
             SELECT '{workspace}', 'error', 'low', 'closed {days}', 'resolved' FROM generate_series(1, {rows});
             UPDATE codex.alert_life AS l SET closed_at = now() - 2 * interval '{days} days'
             FROM public.system_alerts AS a WHERE a.id = l.alert_id AND a.title = 'closed {days}';
             INSERT INTO public.market_insights (workspace_id, insight_title, insight_type, updated_at)
             SELECT '{workspace}', 'insight', 'trend', now() - interval '{days} days' FROM generate_series(1, {rows})"
        );
        self.admin
            .batch_execute(&sql)
            .unwrap_or_else(|error| panic!("{}", error_message(&error)));
    }
}

/// The kinds of work for which [`Scene::put`] makes rows, and after how many days they are due.
const KINDS: [(&str, i64); 7] = [
    ("read notifications deleted", 180),
    ("expired notifications deleted", 180),
    ("expired signals deleted", 180),
    ("execution ids forgotten", 30),
    ("idempotency keys forgotten", 30),
    ("insights refreshed", 1),
    // Kept for a year, and twice as old as the others.
    ("closed alerts deleted", 180),
];

type Report = BTreeMap<String, (i64, bool, Option<String>)>;

fn run(client: &mut Client, batch: i32) -> Report {
    client
        .query(
            "SELECT work, rows, more, problem FROM codex.run_maintenance($1)",
            &[&batch],
        )
        .unwrap_or_else(|error| panic!("{}", error_message(&error)))
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3))))
        .collect()
}

/// What there is in the tables that maintenance works on.
fn left(admin: &mut Client) -> BTreeMap<&'static str, i64> {
    [
        "public.user_notifications",
        "public.intelligence_signals",
        "codex.agent_executions",
        "codex.requests",
        "public.market_insights",
        "public.system_alerts",
    ]
    .into_iter()
    .map(|table| {
        (
            table,
            value(admin, &format!("SELECT count(*) FROM {table}"), &[]),
        )
    })
    .collect()
}

#[test]
fn what_is_due_is_done_in_batches_and_what_is_not_stays() {
    let mut scene = Scene::new();
    let (acme, bolt) = (scene.acme, scene.bolt);
    scene.put(acme, 15, 200);
    scene.put(bolt, 10, 200);
    scene.put(acme, 7, 0);
    scene
        .admin
        .execute(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, created_at)
             VALUES ($1, $2, 'message', 'unread', 'm', now() - interval '9 years')",
            &[&acme, &scene.anna],
        )
        .unwrap();
    for (rows, more) in [(10, true), (10, true), (5, false), (0, false)] {
        let report = run(&mut scene.admin, 10);
        for (kind, _) in KINDS {
            assert_eq!(report[kind], (rows, more, None), "{kind}");
        }
        assert!(
            report.values().all(|(_, _, problem)| problem.is_none()),
            "{report:?}"
        );
    }
    assert_eq!(
        left(&mut scene.admin),
        BTreeMap::from([
            ("public.user_notifications", 7 + 7 + 1),
            ("public.intelligence_signals", 7),
            ("codex.agent_executions", 7),
            ("codex.requests", 7),
            ("public.market_insights", 32),
            ("public.system_alerts", 7),
        ])
    );
}

#[test]
fn a_signal_that_an_active_insight_is_drawn_from_stays() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    scene.put(acme, 1, 200);
    let signal: Uuid = value(
        &mut scene.admin,
        "SELECT id FROM public.intelligence_signals",
        &[],
    );
    scene
        .admin
        .batch_execute(&format!(
            "UPDATE public.intelligence_signals SET expiry_date = NULL, confidence_score = 90;
             SELECT codex.create_insight_from_signals('{acme}', ARRAY['{signal}']::uuid[], 'T', 'trend', ARRAY['c'], NULL);
             UPDATE public.intelligence_signals SET expiry_date = now() - interval '200 days'"
        ))
        .unwrap();
    assert_eq!(run(&mut scene.admin, 10)["expired signals deleted"].0, 0);
    // A day later the insight is looked at, has no signal left that counts, and ends; then the signal goes.
    scene
        .admin
        .batch_execute(
            "ALTER TABLE public.market_insights DISABLE TRIGGER USER;
             UPDATE public.market_insights SET updated_at = now() - interval '2 days';
             ALTER TABLE public.market_insights ENABLE TRIGGER USER",
        )
        .unwrap();
    let report = run(&mut scene.admin, 10);
    assert_eq!(report["insights expired"].0, 1);
    assert_eq!(report["expired signals deleted"].0, 1);
}

#[test]
fn a_second_run_at_the_same_time_says_so_and_does_nothing() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    scene.put(acme, 5, 200);
    let mut first = scene.db.admin();
    let mut running = first.transaction().unwrap();
    let done: i64 = value(
        &mut running,
        "SELECT rows FROM codex.run_maintenance(3) WHERE work = 'expired signals deleted'",
        &[],
    );
    assert_eq!(done, 3);
    let second = run(&mut scene.admin, 3);
    assert_eq!(
        second,
        BTreeMap::from([(
            "nothing".to_string(),
            (0, false, Some("another run is at work".to_string()))
        )])
    );
    running.commit().unwrap();
    assert_eq!(run(&mut scene.admin, 3)["expired signals deleted"].0, 2);
}

#[test]
fn many_runs_at_once_do_each_row_once() {
    let mut scene = Scene::new();
    let (acme, bolt) = (scene.acme, scene.bolt);
    scene.put(acme, 40, 200);
    scene.put(bolt, 40, 200);
    let reports = scene.db.parallel(8, |_, client| {
        let mut sums: BTreeMap<String, i64> = BTreeMap::new();
        loop {
            let report = run(client, 7);
            if report.contains_key("nothing") {
                std::thread::yield_now();
                continue;
            }
            let mut any = false;
            for (work, (rows, _, problem)) in report {
                assert_eq!(problem, None, "{work}");
                any |= rows > 0;
                *sums.entry(work).or_default() += rows;
            }
            if !any {
                return sums;
            }
        }
    });
    for (kind, _) in KINDS {
        let sum: i64 = reports
            .iter()
            .map(|sums| sums.get(kind).copied().unwrap_or(0))
            .sum();
        assert_eq!(sum, 80, "{kind}");
    }
}

#[test]
fn one_that_fails_is_reported_and_keeps_nobody_from_their_work() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    scene.put(acme, 5, 200);
    scene
        .admin
        .batch_execute(
            "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not today''; END';
             CREATE TRIGGER no BEFORE DELETE ON public.intelligence_signals FOR EACH ROW EXECUTE FUNCTION public.no()",
        )
        .unwrap();
    let (mut session, notices) = scene.db.admin_with_notices();
    let report = run(&mut session, 100);
    assert_eq!(
        report["signals and insights"],
        (0, false, Some("not today".to_string()))
    );
    assert_eq!(
        notices.take(),
        ["WARNING: maintenance of signals and insights failed: not today"]
    );
    assert_eq!(report["execution ids forgotten"].0, 5);
    assert_eq!(report["read notifications deleted"].0, 5);
    assert_eq!(left(&mut scene.admin)["public.intelligence_signals"], 5);
    scene
        .admin
        .batch_execute("DROP TRIGGER no ON public.intelligence_signals")
        .unwrap();
    assert_eq!(run(&mut session, 100)["expired signals deleted"].0, 5);
}

#[test]
fn rows_that_somebody_holds_are_left_for_the_next_time() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    scene.put(acme, 5, 200);
    let mut holder = scene.db.admin();
    let mut holding = holder.transaction().unwrap();
    holding
        .batch_execute(
            "SELECT FROM public.intelligence_signals LIMIT 2 FOR UPDATE;
             SELECT FROM codex.agent_executions LIMIT 1 FOR UPDATE;
             SELECT FROM public.market_insights LIMIT 4 FOR UPDATE;
             SELECT FROM public.system_alerts LIMIT 3 FOR UPDATE",
        )
        .unwrap();
    let report = run(&mut scene.admin, 100);
    assert_eq!(report["expired signals deleted"].0, 3);
    assert_eq!(report["execution ids forgotten"].0, 4);
    assert_eq!(report["insights refreshed"].0, 1);
    assert_eq!(report["closed alerts deleted"].0, 2);
    holding.commit().unwrap();
    let report = run(&mut scene.admin, 100);
    assert_eq!(report["expired signals deleted"].0, 2);
    assert_eq!(report["execution ids forgotten"].0, 1);
    assert_eq!(report["insights refreshed"].0, 4);
    assert_eq!(report["closed alerts deleted"].0, 3);
}

#[test]
fn what_is_open_stays_and_so_does_what_happened() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    scene.put(acme, 4, 200);
    let admin = &mut scene.admin;
    // Long ago, but open: two never closed, one reopened, whatever its life says.
    admin
        .batch_execute(&format!(
            "INSERT INTO public.system_alerts (workspace_id, alert_type, severity_level, title, created_at)
             SELECT '{acme}', 'error', 'low', 'open', now() - interval '9 years' FROM generate_series(1, 2);
             UPDATE public.system_alerts SET status = 'active', title = 'reopened'
             WHERE id = (SELECT id FROM public.system_alerts WHERE status = 'resolved' LIMIT 1);
             UPDATE codex.alert_life SET closed_at = '2000-01-01'
             WHERE alert_id = (SELECT id FROM public.system_alerts WHERE title = 'reopened')"
        ))
        .unwrap();
    admin
        .batch_execute("SET raptorflow_codex.keep_alerts_days = 0")
        .unwrap();
    assert!(!run(admin, 100).contains_key("closed alerts deleted"));
    admin
        .batch_execute("SET raptorflow_codex.keep_alerts_days = 401")
        .unwrap();
    assert_eq!(run(admin, 100)["closed alerts deleted"].0, 0);
    admin
        .batch_execute("RESET raptorflow_codex.keep_alerts_days")
        .unwrap();
    assert_eq!(run(admin, 100)["closed alerts deleted"].0, 3);
    let titles: Vec<String> = admin
        .query("SELECT title FROM public.system_alerts ORDER BY title", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(titles, ["open", "open", "reopened"]);
    let deleted: i64 = value(
        admin,
        "SELECT count(*) FROM codex.alert_events WHERE event = 'deleted'",
        &[],
    );
    assert_eq!(deleted, 3);
}

#[test]
fn it_is_for_the_owner_of_the_tables() {
    let mut scene = Scene::new();
    for (label, function) in [
        ("member", "grant_member_role"),
        ("service", "grant_service_role"),
    ] {
        let role = scene.db.role(label);
        scene
            .admin
            .execute(
                &format!("SELECT codex.{function}($1::text::regrole)"),
                &[&role],
            )
            .unwrap();
        let mut session = scene.db.login(label);
        session
            .batch_execute(&format!("SET app.current_workspace_id = '{}'", scene.acme))
            .unwrap();
        fails_with(
            session.query("SELECT codex.run_maintenance()", &[]),
            "42501",
        );
        // Also where somebody gave the privilege away.
        scene
            .admin
            .batch_execute(&format!(
                "GRANT EXECUTE ON FUNCTION codex.run_maintenance TO {role}"
            ))
            .unwrap();
        fails_with(
            session.query("SELECT codex.run_maintenance()", &[]),
            "42501",
        );
    }
    fails_with(
        scene.admin.query("SELECT codex.run_maintenance(NULL)", &[]),
        "22004",
    );
    for batch in [0, -1, 100_001] {
        fails_with(
            scene
                .admin
                .query("SELECT codex.run_maintenance($1)", &[&batch]),
            "22023",
        );
    }
}

#[test]
fn any_mixture_of_ages_and_batches_ends_where_the_model_does() {
    let seed = crate::dice::seed("maintenance against a model");
    for game in 0..3 {
        let mut dice = crate::dice::Dice::new(seed, game);
        let mut scene = Scene::new();
        let places = [scene.acme, scene.bolt];
        // How many rows of each kind are due; and how many there are in all.
        let mut due: BTreeMap<&str, i64> = BTreeMap::new();
        let mut kept = 0;
        for _ in 0..12 {
            let (rows, days) = (
                1 + dice.below(9) as i64,
                *dice.pick(&[0, 2, 20, 40, 170, 190, 400]),
            );
            scene.put(places[dice.below(2)], rows, days);
            kept += rows;
            for (kind, after) in KINDS {
                *due.entry(kind).or_default() += if days > after { rows } else { 0 };
            }
            if dice.once_in(3) {
                let batch = 1 + dice.below(20) as i64;
                let report = run(&mut scene.admin, batch as i32);
                for (kind, waiting) in &mut due {
                    let expected = (*waiting).min(batch);
                    assert_eq!(report[*kind].0, expected, "{kind} in game {game}");
                    assert_eq!(report[*kind].1, expected == batch, "{kind} in game {game}");
                    *waiting -= expected;
                }
            }
        }
        let report = run(&mut scene.admin, 100_000);
        for (kind, waiting) in &due {
            assert_eq!(report[*kind].0, *waiting, "{kind} in game {game}");
        }
        let insights: i64 = value(
            &mut scene.admin,
            "SELECT count(*) FROM public.market_insights",
            &[],
        );
        assert_eq!(insights, kept, "insights are refreshed, not deleted");
    }
}
