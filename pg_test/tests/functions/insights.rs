//! Signals and the insights that are drawn from them.

use crate::scene::{Scene, Signal, rows};
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Uuid, fails_with, value};
use std::time::Duration;

/// `codex.create_insight_from_signals()` with a title, a type and a conclusion.
fn draw(client: &mut Client, workspace: Uuid, signals: &[Uuid]) -> Result<Uuid, Error> {
    client
        .query_one(
            "SELECT codex.create_insight_from_signals($1, $2, 'Demand grows', 'opportunity', ARRAY['Act now'], NULL)",
            &[&workspace, &signals],
        )
        .map(|row| row.get(0))
}

/// Score and level of an insight.
fn confidence(client: &mut Client, insight: Uuid) -> (f64, String) {
    let row = client
        .query_one(
            "SELECT confidence_score::float8, confidence_level FROM public.market_insights WHERE id = $1",
            &[&insight],
        )
        .unwrap();
    (row.get(0), row.get(1))
}

#[test]
fn hard_case_24_no_signals_give_no_insight() {
    let mut scene = Scene::new();
    let failure = fails_with(draw(&mut scene.admin, scene.acme, &[]), "22023");
    assert_eq!(failure.message, "p_signal_ids must not be empty");
    assert_eq!(rows(&mut scene.admin, "public.market_insights"), 0);
}

#[test]
fn hard_case_25_unknown_and_foreign_signals_are_refused_in_the_same_words() {
    let mut scene = Scene::new();
    let own = Signal::fresh(scene.acme, "blog", 60.0).insert(&mut scene.admin);
    let foreign = Signal::fresh(scene.bolt, "blog", 60.0).insert(&mut scene.admin);
    let unknown = Uuid::new_v4();
    for stranger in [foreign, unknown] {
        let failure = fails_with(
            draw(&mut scene.admin, scene.acme, &[own, stranger]),
            "23503",
        );
        assert_eq!(
            failure.message,
            format!(
                "p_signal_ids has signals that cannot be used; not in this workspace: {stranger}"
            )
        );
    }
    assert_eq!(rows(&mut scene.admin, "public.market_insights"), 0);
    let status: String = value(
        &mut scene.admin,
        "SELECT action_status FROM public.intelligence_signals WHERE id = $1",
        &[&own],
    );
    assert_eq!(status, "new");
}

#[test]
fn hard_case_25_a_null_among_the_signals_is_refused() {
    let mut scene = Scene::new();
    let own = Signal::fresh(scene.acme, "blog", 60.0).insert(&mut scene.admin);
    let failure = fails_with(
        scene.admin.query(
            "SELECT codex.create_insight_from_signals($1, ARRAY[$2, NULL]::uuid[], 'T', 'trend', '{}', NULL)",
            &[&scene.acme, &own],
        ),
        "22023",
    );
    assert_eq!(failure.message, "p_signal_ids has a NULL at position 2");
}

#[test]
fn hard_case_25_a_signal_that_is_named_twice_counts_once() {
    let mut scene = Scene::new();
    let own = Signal::fresh(scene.acme, "blog", 60.0).insert(&mut scene.admin);
    let insight = draw(&mut scene.admin, scene.acme, &[own, own, own]).unwrap();
    let (signals, kept): (i32, Vec<Uuid>) = {
        let row = scene
            .admin
            .query_one(
                "SELECT number_of_signals_analyzed, source_signal_ids FROM public.market_insights WHERE id = $1",
                &[&insight],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!((signals, kept), (1, vec![own]));
    assert_eq!(confidence(&mut scene.admin, insight).0, 60.0);
    assert_eq!(rows(&mut scene.admin, "codex.insight_signals"), 1);
}

#[test]
fn hard_case_25_archived_and_expired_signals_are_each_named() {
    let mut scene = Scene::new();
    let [archived, expired, good] =
        [1.0, 2.0, 3.0].map(|c| Signal::fresh(scene.acme, "blog", c).insert(&mut scene.admin));
    scene
        .admin
        .batch_execute(&format!(
            "UPDATE public.intelligence_signals SET action_status = 'archived' WHERE id = '{archived}';
             UPDATE public.intelligence_signals SET expiry_date = now() - interval '1 second' WHERE id = '{expired}'"
        ))
        .unwrap();
    let failure = fails_with(
        draw(&mut scene.admin, scene.acme, &[archived, expired, good]),
        "55000",
    );
    assert_eq!(
        failure.message,
        format!(
            "p_signal_ids has signals that cannot be used; archived: {archived}; expired: {expired}"
        )
    );
}

#[test]
fn hard_case_26_confidence_comes_from_the_signals_and_they_become_actioned() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let signals = [
        Signal::fresh(scene.acme, "blog", 60.0).insert(admin),
        // The same source in another spelling: it repeats the blog, and is the weaker of the two.
        Signal::fresh(scene.acme, " Blog", 30.0).insert(admin),
        Signal {
            age_days: 90.0,
            ..Signal::fresh(scene.acme, "survey", 80.0)
        }
        .insert(admin),
    ];
    let insight = draw(admin, scene.acme, &signals).unwrap();
    // 1 - (1 - 0.6) * (1 - 0.8 / 2), as 90 days is the half-life of a market trend.
    assert_eq!(confidence(admin, insight), (76.0, "medium".to_string()));

    let trace: Vec<(Uuid, String, f64, f64, f64, f64, bool)> = admin
        .query(
            "SELECT signal_id, source, confidence_score::float8, round(age_days, 3)::float8, half_life_days::float8,
                    round(faded_confidence, 3)::float8, counted
             FROM codex.insight_signals WHERE insight_id = $1 ORDER BY signal_id",
            &[&insight],
        )
        .unwrap()
        .iter()
        .map(|r| (r.get(0), r.get(1), r.get(2), r.get(3), r.get(4), r.get(5), r.get(6)))
        .collect();
    assert_eq!(
        trace,
        [
            (
                signals[0],
                "place:blog".to_string(),
                60.0,
                0.0,
                90.0,
                60.0,
                true
            ),
            (
                signals[1],
                "place:blog".to_string(),
                30.0,
                0.0,
                90.0,
                30.0,
                false
            ),
            (
                signals[2],
                "place:survey".to_string(),
                80.0,
                90.0,
                90.0,
                40.0,
                true
            ),
        ]
    );
    assert_eq!(
        value::<i64>(
            admin,
            "SELECT count(*) FROM public.intelligence_signals WHERE action_status = 'actioned'",
            &[]
        ),
        3
    );
    let conclusions: Vec<String> = value(
        admin,
        "SELECT key_conclusions FROM public.market_insights WHERE id = $1",
        &[&insight],
    );
    assert_eq!(conclusions, ["Act now"]);
}

#[test]
fn hard_case_26_signals_of_one_agent_are_one_source_wherever_it_found_them() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let agent: Uuid = value(
        admin,
        "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Scout', 'researcher') RETURNING id",
        &[],
    );
    let signals =
        ["blog", "survey"].map(|source| Signal::fresh(scene.acme, source, 50.0).insert(admin));
    admin
        .execute(
            "UPDATE public.intelligence_signals SET source_agent_id = $1",
            &[&agent],
        )
        .unwrap();
    let insight = draw(admin, scene.acme, &signals).unwrap();
    assert_eq!(confidence(admin, insight).0, 50.0);
}

#[test]
fn hard_case_26_an_unscored_signal_adds_nothing() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let scored = Signal::fresh(scene.acme, "blog", 40.0).insert(admin);
    let unscored = Signal::fresh(scene.acme, "survey", 0.0).insert(admin);
    admin
        .execute(
            "UPDATE public.intelligence_signals SET confidence_score = NULL WHERE id = $1",
            &[&unscored],
        )
        .unwrap();
    let insight = draw(admin, scene.acme, &[scored, unscored]).unwrap();
    assert_eq!(confidence(admin, insight), (40.0, "low".to_string()));
}

#[test]
fn hard_case_27_the_level_follows_the_score() {
    let mut scene = Scene::new();
    for (score, level) in [
        (0.0, "low"),
        (49.99, "low"),
        (50.0, "medium"),
        (79.99, "medium"),
        (80.0, "high"),
        (100.0, "high"),
    ] {
        let signal = Signal::fresh(scene.acme, "blog", score).insert(&mut scene.admin);
        let insight = draw(&mut scene.admin, scene.acme, &[signal]).unwrap();
        assert_eq!(
            confidence(&mut scene.admin, insight),
            (score, level.to_string())
        );
    }
}

#[test]
fn hard_case_28_an_insight_is_active_from_the_first_to_the_last_day_of_its_window() {
    let mut scene = Scene::new();
    scene
        .admin
        .execute(
            "INSERT INTO public.market_insights
                 (workspace_id, insight_title, insight_type, insight_status, time_relevance_start, time_relevance_end, confidence_score)
             SELECT $1, v.title, 'trend', v.status, today.utc + v.first, today.utc + v.last, v.score
             FROM (SELECT (now() AT TIME ZONE 'UTC')::date) AS today (utc),
                  (VALUES ('next month', 'active', 30, 60, 99), ('from today', 'active', 0, 60, 20), ('until today', 'active', -60, 0, 30),
                          ('until yesterday', 'active', -60, -1, 98), ('always', 'active', NULL, NULL, NULL),
                          ('archived', 'archived', NULL, NULL, 97)) AS v (title, status, first, last, score)",
            &[&scene.acme],
        )
        .unwrap();
    for zone in ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"] {
        scene
            .admin
            .batch_execute(&format!("SET TimeZone = '{zone}'"))
            .unwrap();
        let titles: Vec<String> = scene
            .admin
            .query(
                "SELECT title FROM codex.get_active_insights($1)",
                &[&scene.acme],
            )
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(titles, ["until today", "from today", "always"], "in {zone}");
    }
}

#[test]
fn hard_case_29_priority_is_confidence_times_relevance_and_none_counts_as_50() {
    let mut scene = Scene::new();
    scene
        .admin
        .execute(
            "INSERT INTO public.intelligence_signals
                 (workspace_id, source_type, signal_category, signal_title, confidence_score, relevance_score, action_status, expiry_date, created_at)
             SELECT $1, 'trend', 'market_trend', title, confidence, relevance, status, now() + days * interval '1 day', now() - minutes * interval '1 minute'
             FROM (VALUES
                 ('90 x none = 90 x 50', 90, NULL, 'new', NULL, 5), ('80 x 60', 80, 60, 'new', 1, 5), ('75 x 100', 75, 100, 'new', NULL, 5),
                 ('80 x 60, newer', 80, 60, 'new', NULL, 1), ('expired', 99, 99, 'new', -1, 1), ('actioned', 99, 99, 'actioned', NULL, 1),
                 ('unsure', 74.9, 99, 'new', NULL, 1), ('unscored', NULL, 99, 'new', NULL, 1)
             ) AS v (title, confidence, relevance, status, days, minutes)",
            &[&scene.acme],
        )
        .unwrap();
    let mut titles = |sql: &str| -> Vec<String> {
        scene
            .admin
            .query(sql, &[&scene.acme])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    assert_eq!(
        titles("SELECT title FROM codex.get_priority_signals($1)"),
        [
            "75 x 100",
            "80 x 60, newer",
            "80 x 60",
            "90 x none = 90 x 50"
        ]
    );
    assert_eq!(
        titles("SELECT title FROM codex.get_priority_signals($1, 81)"),
        ["90 x none = 90 x 50"]
    );
    assert_eq!(
        titles("SELECT title FROM codex.get_priority_signals($1, p_limit => 2)"),
        ["75 x 100", "80 x 60, newer"]
    );
}

#[test]
fn hard_case_29_scores_outside_0_to_100_are_not_stored() {
    let mut scene = Scene::new();
    for score in ["-5", "5000", "NaN", "Infinity"] {
        for column in ["confidence_score", "relevance_score"] {
            let sql = format!(
                "INSERT INTO public.intelligence_signals (workspace_id, source_type, signal_category, signal_title, {column})
                 VALUES ($1, 'trend', 'market_trend', 'T', '{score}')"
            );
            fails_with(scene.admin.execute(&sql, &[&scene.acme]), "23514");
        }
    }
}

#[test]
fn numbers_that_are_no_scores_are_refused_as_a_threshold() {
    let mut scene = Scene::new();
    for threshold in ["NaN", "Infinity", "-Infinity", "-0.1", "100.1", "1e131071"] {
        let failure = fails_with(
            scene.admin.query(
                &format!("SELECT codex.get_priority_signals($1, '{threshold}')"),
                &[&scene.acme],
            ),
            "22023",
        );
        assert!(
            failure.message.starts_with("p_confidence_threshold is "),
            "{failure}"
        );
    }
}

#[test]
fn only_a_member_may_be_named_as_the_creator() {
    let mut scene = Scene::new();
    let signal = Signal::fresh(scene.acme, "blog", 60.0).insert(&mut scene.admin);
    let sql = "SELECT codex.create_insight_from_signals($1, ARRAY[$2::uuid], 'T', 'gap', '{}', $3)";
    let failure = fails_with(
        scene.admin.query(sql, &[&scene.acme, &signal, &scene.bob]),
        "42501",
    );
    assert_eq!(
        failure.message,
        format!(
            "user {} is not a member of workspace {}",
            scene.bob, scene.acme
        )
    );
    let insight: Uuid = value(&mut scene.admin, sql, &[&scene.acme, &signal, &scene.anna]);
    let creator: Uuid = value(
        &mut scene.admin,
        "SELECT created_by FROM public.market_insights WHERE id = $1",
        &[&insight],
    );
    assert_eq!(creator, scene.anna);
}

#[test]
fn a_signal_that_is_being_archived_is_waited_for_and_then_refused() {
    let mut scene = Scene::new();
    let signal = Signal::fresh(scene.acme, "blog", 60.0).insert(&mut scene.admin);
    let mut other = scene.db.admin();
    let mut archiving = scene.admin.transaction().unwrap();
    archiving
        .execute(
            "UPDATE public.intelligence_signals SET action_status = 'archived' WHERE id = $1",
            &[&signal],
        )
        .unwrap();
    let drawing = std::thread::spawn(move || draw(&mut other, scene.acme, &[signal]));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!drawing.is_finished(), "drawing did not wait for the lock");
    archiving.commit().unwrap();
    let failure = fails_with(drawing.join().unwrap(), "55000");
    assert!(
        failure.message.ends_with(&format!("archived: {signal}")),
        "{failure}"
    );
}

#[test]
fn sessions_that_draw_from_the_same_signals_do_not_deadlock() {
    let mut scene = Scene::new();
    let mut signals: Vec<Uuid> = (0..50)
        .map(|n| Signal::fresh(scene.acme, &format!("source {n}"), 1.0).insert(&mut scene.admin))
        .collect();
    let backwards = {
        let forwards = signals.clone();
        signals.reverse();
        [forwards, signals]
    };
    let insights = scene.db.parallel(8, |session, client| {
        (0..5)
            .map(|_| draw(client, scene.acme, &backwards[session % 2]).unwrap())
            .count()
    });
    assert_eq!(insights, [5; 8]);
    assert_eq!(rows(&mut scene.admin, "public.market_insights"), 40);
    assert_eq!(rows(&mut scene.admin, "codex.insight_signals"), 2000);
}

#[test]
fn ten_thousand_signals_make_one_insight() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    // Ten sources of a thousand signals each; the strongest of each source is 10.
    admin
        .execute(
            "INSERT INTO public.intelligence_signals
                 (workspace_id, source_type, data_source, signal_category, signal_title, confidence_score)
             SELECT $1, 'market', 'source ' || g % 10, 'technology_shift', 'Signal', 10.0 * (g / 10) / 999
             FROM generate_series(0, 9999) AS g",
            &[&scene.acme],
        )
        .unwrap();
    let insight: Uuid = value(
        admin,
        "SELECT codex.create_insight_from_signals($1, array_agg(id), repeat('T', 1048576), 'pattern', '{}', NULL)
         FROM public.intelligence_signals",
        &[&scene.acme],
    );
    // 100 * (1 - 0.9 ^ 10)
    assert_eq!(confidence(admin, insight), (65.13, "medium".to_string()));
    assert_eq!(rows(admin, "codex.insight_signals"), 10_000);
    assert_eq!(
        value::<i64>(
            admin,
            "SELECT count(*) FROM codex.insight_signals WHERE counted AND round(faded_confidence, 3) = 10",
            &[]
        ),
        10
    );
    let (signals, title): (i32, i32) = {
        let row = admin
            .query_one(
                "SELECT signal_count, length(title) FROM codex.get_active_insights($1)",
                &[&scene.acme],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!((signals, title), (10_000, 1_048_576));
}

#[test]
fn the_top_of_the_lists_is_read_from_the_index() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    admin
        .batch_execute(&format!(
            "INSERT INTO public.intelligence_signals (workspace_id, source_type, signal_category, signal_title, confidence_score)
             SELECT '{0}', 'trend', 'market_trend', 'T', 75 + g % 25 FROM generate_series(1, 20000) AS g;
             INSERT INTO public.market_insights (workspace_id, insight_title, insight_type, confidence_score)
             SELECT '{0}', 'T', 'trend', g % 100 FROM generate_series(1, 20000) AS g;
             ANALYZE public.intelligence_signals, public.market_insights",
            scene.acme
        ))
        .unwrap();
    for (list, table) in [
        ("get_priority_signals($1, 75, 20)", "intelligence_signals"),
        ("get_active_insights($1, 20)", "market_insights"),
    ] {
        crate::scene::touches_at_most(admin, list, &[&scene.acme], table, 20);
    }
}
