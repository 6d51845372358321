//! Achievements by events: what unlocks, once, and what is paid for it.

use crate::scene::{Scene, rows};
use codex_pg_test::postgres::{Client, Error, GenericClient};
use codex_pg_test::{Uuid, fails_with, member, sqlstate, value};

/// An achievement with a rule, as a test wants it.
pub struct Wanted<'a> {
    pub name: &'a str,
    pub tier: &'a str,
    pub condition: (&'a str, &'a str),
    pub points: i32,
    pub after: Option<Uuid>,
}

/// A bronze one that asks for a number of events of a metric.
pub fn count<'a>(name: &'a str, value: &'a str, points: i32) -> Wanted<'a> {
    Wanted {
        name,
        tier: "bronze",
        condition: ("count", value),
        points,
        after: None,
    }
}

impl Wanted<'_> {
    pub fn try_insert(&self, admin: &mut Client, workspace: Uuid) -> Result<Uuid, Error> {
        admin
            .query_one(
                "INSERT INTO public.achievements
                     (workspace_id, name, badge_type, tier, condition_type, condition_value, points_reward, required_previous_achievement_id)
                 VALUES ($1, $2, 'milestone', $3, $4, $5::text::jsonb, $6, $7)
                 RETURNING id",
                &[
                    &workspace,
                    &self.name,
                    &self.tier,
                    &self.condition.0,
                    &self.condition.1,
                    &self.points,
                    &self.after,
                ],
            )
            .map(|row| row.get(0))
    }

    pub fn insert(&self, admin: &mut Client, workspace: Uuid) -> Uuid {
        self.try_insert(admin, workspace)
            .unwrap_or_else(|error| panic!("{}", codex_pg_test::error_message(&error)))
    }
}

/// Records an event that occurred some days ago; gives the names of what was unlocked and the points.
pub fn record(
    client: &mut impl GenericClient,
    workspace: Uuid,
    user: Uuid,
    metric: &str,
    worth: f64,
    event: &str,
    days_ago: f64,
) -> Result<Vec<(String, i32)>, Error> {
    client
        .query(
            "SELECT name, points_awarded
             FROM codex.record_metric_event($1, $2, $3, $4::float8::numeric, $5, now() - $6::float8 * interval '1 day')",
            &[&workspace, &user, &metric, &worth, &event, &days_ago],
        )
        .map(|rows| rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Records an event of now.
fn now(scene: &mut Scene, metric: &str, worth: f64, event: &str) -> Vec<(String, i32)> {
    let (acme, anna) = (scene.acme, scene.anna);
    record(&mut scene.admin, acme, anna, metric, worth, event, 0.0)
        .unwrap_or_else(|error| panic!("{}", codex_pg_test::error_message(&error)))
}

/// Points of a user by the stats, and by the ledger.
pub fn points(admin: &mut Client, workspace: Uuid, user: Uuid) -> (i64, i64) {
    let row = admin
        .query_one(
            "SELECT coalesce((SELECT total_points FROM public.user_stats WHERE workspace_id = $1 AND user_id = $2), 0)::bigint,
                    coalesce((SELECT sum(points) FROM codex.points_ledger WHERE workspace_id = $1 AND user_id = $2), 0)::bigint",
            &[&workspace, &user],
        )
        .unwrap();
    (row.get(0), row.get(1))
}

fn named(what: &[(&str, i32)]) -> Vec<(String, i32)> {
    what.iter()
        .map(|(name, points)| (name.to_string(), *points))
        .collect()
}

#[test]
fn the_third_event_unlocks_and_pays_and_progress_is_kept_before() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let id = count("Three", r#"{"metric": "login", "threshold": 3}"#, 120)
        .insert(&mut scene.admin, acme);
    assert_eq!(now(&mut scene, "login", 1.0, "a"), []);
    assert_eq!(now(&mut scene, "logout", 1.0, "a"), []);
    assert_eq!(now(&mut scene, "login", 0.0, "b"), []);
    let row = scene
        .admin
        .query_one(
            "SELECT progress_percentage, progress_value, is_locked FROM public.user_achievements WHERE achievement_id = $1",
            &[&id],
        )
        .unwrap();
    assert_eq!(
        (
            row.get::<_, i32>(0),
            row.get::<_, i32>(1),
            row.get::<_, bool>(2)
        ),
        (66, 2, true)
    );
    assert_eq!(now(&mut scene, "login", 1.0, "c"), named(&[("Three", 120)]));
    assert_eq!(now(&mut scene, "login", 1.0, "d"), []);
    // Sent again: the first answers.
    assert_eq!(now(&mut scene, "login", 1.0, "c"), named(&[("Three", 120)]));
    assert_eq!(now(&mut scene, "login", 1.0, "a"), []);
    assert_eq!(points(&mut scene.admin, acme, anna), (120, 120));
    let (kind, paid, event): (String, Uuid, String) = {
        let row = scene
            .admin
            .query_one(
                "SELECT kind, achievement_id, reason FROM codex.points_ledger",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    assert_eq!(
        (kind.as_str(), paid, event.as_str()),
        ("achievement", id, "login")
    );
    let events: i64 = value(
        &mut scene.admin,
        "SELECT events FROM codex.metric_totals WHERE metric = 'login'",
        &[],
    );
    assert_eq!(events, 4);
}

#[test]
fn a_known_event_with_another_value_is_refused() {
    let mut scene = Scene::new();
    now(&mut scene, "revenue", 10.5, "order-1");
    now(&mut scene, "revenue", 10.5, "order-1");
    let (acme, anna) = (scene.acme, scene.anna);
    let again = record(
        &mut scene.admin,
        acme,
        anna,
        "revenue",
        11.0,
        "order-1",
        0.0,
    );
    fails_with(again, "22023");
    let total: f64 = value(
        &mut scene.admin,
        "SELECT total::float8 FROM codex.metric_totals WHERE metric = 'revenue'",
        &[],
    );
    assert_eq!(total, 10.5);
}

#[test]
fn a_chain_unlocks_in_one_call_and_not_before_its_prerequisite() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let admin = &mut scene.admin;
    let first = count("First", r#"{"metric": "sale", "threshold": 2}"#, 10).insert(admin, acme);
    let second = Wanted {
        tier: "silver",
        after: Some(first),
        ..count("Second", r#"{"metric": "visit", "threshold": 1}"#, 20)
    }
    .insert(admin, acme);
    Wanted {
        tier: "gold",
        after: Some(second),
        condition: ("milestone", r#"{"metric": "sale", "threshold": 1.5}"#),
        ..count("Third", "", 40)
    }
    .insert(admin, acme);
    assert_eq!(now(&mut scene, "visit", 1.0, "v"), []);
    assert_eq!(now(&mut scene, "sale", 2.0, "1"), []);
    let met_but_locked: (i32, bool) = {
        let row = scene
            .admin
            .query_one(
                "SELECT progress_percentage, is_locked FROM public.user_achievements WHERE achievement_id = $1",
                &[&second],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(met_but_locked, (100, true));
    assert_eq!(
        now(&mut scene, "sale", 0.0, "2"),
        named(&[("First", 10), ("Second", 20), ("Third", 40)])
    );
    let anna = scene.anna;
    assert_eq!(points(&mut scene.admin, acme, anna), (70, 70));
}

#[test]
fn lower_tiers_come_first() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    for tier in ["platinum", "silver", "gold", "bronze"] {
        Wanted {
            tier,
            ..count(tier, r#"{"metric": "sale", "threshold": 1}"#, 1)
        }
        .insert(&mut scene.admin, acme);
    }
    let order: Vec<String> = now(&mut scene, "sale", 1.0, "1")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(order, ["bronze", "silver", "gold", "platinum"]);
}

#[test]
fn windows_and_streaks_take_late_events_in_any_order() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    Wanted {
        condition: (
            "time_based",
            r#"{"metric": "login", "streak": {"days": 3}}"#,
        ),
        ..count("Streak", "", 5)
    }
    .insert(admin, acme);
    Wanted {
        condition: (
            "time_based",
            r#"{"metric": "login", "threshold": 10, "window": {"days": 2}}"#,
        ),
        ..count("Window", "", 7)
    }
    .insert(admin, acme);
    let mut at = |event: &str, worth: f64, days: f64| {
        record(admin, acme, anna, "login", worth, event, days).unwrap()
    };
    assert_eq!(at("a", 6.0, 10.0), []);
    assert_eq!(at("b", 6.0, 12.0), []);
    assert_eq!(at("c", 3.0, 8.0), []);
    // The day between closes the streak; it is the window, too, when it is worth enough.
    assert_eq!(at("d", 1.0, 11.0), named(&[("Streak", 5)]));
    assert_eq!(at("e", 3.0, 11.0), named(&[("Window", 7)]));
}

#[test]
fn the_day_is_that_of_the_users_zone() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let at = |admin: &mut Client, event: &str, time: &str| {
        admin
            .execute(
                "SELECT codex.record_metric_event($1, $2, 'login', 1, $3, date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - interval '3 days' + $4::text::interval)",
                &[&acme, &anna, &event, &time],
            )
            .unwrap();
    };
    let days =
        |admin: &mut Client| -> i64 { value(admin, "SELECT count(*) FROM codex.metric_days", &[]) };
    at(admin, "a", "23:30");
    at(admin, "b", "22:30");
    assert_eq!(days(admin), 1);
    admin
        .execute(
            "SELECT codex.set_user_time_zone($1, $2, 'Asia/Tokyo')",
            &[&acme, &anna],
        )
        .unwrap();
    // 14:30 UTC is before midnight in Tokyo, 15:30 after it.
    at(admin, "c", "14:30");
    at(admin, "d", "15:30");
    let of_each: Vec<i64> = value(
        admin,
        "SELECT array_agg(events ORDER BY day) FROM codex.metric_days",
        &[],
    );
    assert_eq!(of_each, [3, 1]);
    let unknown = admin.execute(
        "SELECT codex.set_user_time_zone($1, $2, 'Atlantis/Capital')",
        &[&acme, &anna],
    );
    fails_with(unknown, "22023");
}

#[test]
fn what_is_no_number_no_time_or_no_metric_is_refused() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    for (metric, number, event, time) in [
        ("login", "-1", "e", "now()"),
        ("login", "'NaN'", "e", "now()"),
        ("login", "'Infinity'", "e", "now()"),
        ("login", "'-Infinity'", "e", "now()"),
        ("login", "1000000000000.1", "e", "now()"),
        ("log in", "1", "e", "now()"),
        ("", "1", "e", "now()"),
        ("login", "1", " ", "now()"),
        ("login", "1", "e", "now() + interval '6 minutes'"),
        ("login", "1", "e", "'infinity'"),
        ("login", "1", "e", "'-infinity'"),
        ("login", "1", "e", "now() - interval '91 days'"),
    ] {
        let sql = format!(
            "SELECT codex.record_metric_event('{acme}', '{anna}', '{metric}', {number}, '{event}', {time})"
        );
        fails_with(scene.admin.batch_execute(&sql), "22023");
    }
    for table in [
        "codex.metric_events",
        "codex.metric_totals",
        "codex.metric_days",
    ] {
        assert_eq!(rows(&mut scene.admin, table), 0, "{table}");
    }
    // Clocks may differ a little, and events may be late.
    for time in ["now() + interval '4 minutes'", "now() - interval '89 days'"] {
        let sql = format!(
            "SELECT codex.record_metric_event('{acme}', '{anna}', 'login', 1, 'at {}', {time})",
            time.len()
        );
        scene.admin.batch_execute(&sql).unwrap();
    }
    let stranger = scene.bob;
    fails_with(
        record(&mut scene.admin, acme, stranger, "login", 1.0, "e", 0.0),
        "42501",
    );
}

#[test]
fn conditions_are_checked_when_they_are_written_and_older_ones_are_reported() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let refused = count("Old", r#"{"campaigns": 5}"#, 10).try_insert(admin, acme);
    let failure = fails_with(refused, "22023");
    assert!(
        failure.message.contains("unknown field `campaigns`"),
        "{failure}"
    );
    // As if it had been there before.
    admin
        .batch_execute("ALTER TABLE public.achievements DISABLE TRIGGER achievements_a_rule")
        .unwrap();
    let old = count("Old", r#"{"campaigns": 5}"#, 10).insert(admin, acme);
    admin
        .batch_execute("ALTER TABLE public.achievements ENABLE TRIGGER achievements_a_rule")
        .unwrap();
    let (id, problem): (Uuid, String) = {
        let row = admin
            .query_one(
                "SELECT achievement_id, problem FROM codex.unfit_achievements($1)",
                &[&acme],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(id, old);
    assert!(problem.contains("unknown field"), "{problem}");
    // It can be worked with, and unlocked by hand, but events pass it by.
    admin
        .execute(
            "UPDATE public.achievements SET name = 'Older', condition_type = condition_type, condition_value = condition_value WHERE id = $1",
            &[&old],
        )
        .unwrap();
    assert_eq!(
        record(admin, acme, anna, "campaigns", 5.0, "e", 0.0).unwrap(),
        []
    );
    let said: String = value(
        admin,
        "SELECT explanation FROM codex.explain_achievement($1, $2) WHERE place = 'rule'",
        &[&old, &anna],
    );
    assert!(said.contains("not in the grammar"), "{said}");
    let by_hand: bool = value(
        admin,
        "SELECT success FROM codex.unlock_achievement($1, $2, $3)",
        &[&anna, &old, &acme],
    );
    assert!(by_hand);
    assert_eq!(points(admin, acme, anna), (10, 10));
}

#[test]
fn only_active_achievements_of_the_metric_are_known_by_it() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let admin = &mut scene.admin;
    let id = Wanted {
        condition: (
            "combination",
            r#"{"all": [{"count": {"metric": "b", "threshold": 1}}, {"any": [{"milestone": {"metric": "a", "threshold": 1}}, {"count": {"metric": "a", "threshold": 2}}]}]}"#,
        ),
        ..count("Both", "", 1)
    }
    .insert(admin, acme);
    let metrics = |admin: &mut Client| -> Vec<String> {
        value(
            admin,
            "SELECT coalesce(array_agg(metric ORDER BY metric), '{}') FROM codex.achievement_metrics",
            &[],
        )
    };
    assert_eq!(metrics(admin), ["a", "b"]);
    let mut set = |assignment: &str| {
        admin
            .execute(
                &format!("UPDATE public.achievements SET {assignment} WHERE id = $1"),
                &[&id],
            )
            .unwrap();
        metrics(admin)
    };
    assert_eq!(set("is_active = false"), Vec::<String>::new());
    assert_eq!(
        set("condition_type = 'count', condition_value = '{\"metric\": \"c\", \"threshold\": 1}'"),
        Vec::<String>::new()
    );
    assert_eq!(set("is_active = true"), ["c"]);
    assert_eq!(set("condition_value = NULL"), Vec::<String>::new());
}

#[test]
fn an_achievement_that_is_written_later_is_reached_by_what_was_recorded_before() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    now(&mut scene, "login", 1.0, "a");
    now(&mut scene, "login", 1.0, "b");
    let admin = &mut scene.admin;
    count("Two", r#"{"metric": "login", "threshold": 2}"#, 9).insert(admin, acme);
    let mut evaluate = || -> i64 {
        value(
            admin,
            "SELECT count(*) FROM codex.evaluate_achievements($1, $2, notify => true)",
            &[&acme, &anna],
        )
    };
    assert_eq!((evaluate(), evaluate()), (1, 0));
    assert_eq!(points(admin, acme, anna), (9, 9));
    let title: String = value(admin, "SELECT title FROM public.user_notifications", &[]);
    assert_eq!(title, "Achievement unlocked: Two");
}

#[test]
fn an_explanation_says_clause_by_clause_what_is_missing() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    now(&mut scene, "login", 1.0, "a");
    let admin = &mut scene.admin;
    let first = count("First", r#"{"metric": "sale", "threshold": 1}"#, 1).insert(admin, acme);
    let id = Wanted {
        condition: (
            "combination",
            r#"{"all": [{"count": {"metric": "login", "threshold": 3}}, {"milestone": {"metric": "revenue", "threshold": 10.5}}]}"#,
        ),
        after: Some(first),
        ..count("Both", "", 1)
    }
    .insert(admin, acme);
    let lines: Vec<(String, Option<f64>, bool)> = admin
        .query(
            "SELECT place, missing, met FROM codex.explain_achievement($1, $2)",
            &[&id, &anna],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let expected = [
        ("unlocked", None, false),
        ("active", None, true),
        ("prerequisite", None, false),
        ("rule", Some(2.0), false),
        ("rule.all[0]", Some(2.0), false),
        ("rule.all[1]", Some(10.5), false),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(place, missing, met)| (place.to_string(), missing, met))
        .collect();
    assert_eq!(lines, expected);
    fails_with(
        admin.query(
            "SELECT * FROM codex.explain_achievement($1, $2)",
            &[&Uuid::new_v4(), &anna],
        ),
        "P0002",
    );
}

#[test]
fn an_answer_that_somebody_damaged_is_told_as_damaged() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let call = "SELECT codex.adjust_points($1, $2, 5, 'A gift', 'key')";
    admin.execute(call, &[&acme, &anna]).unwrap();
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    admin
        .execute(
            "UPDATE codex.requests SET answer = $1::text::jsonb",
            &[&deep],
        )
        .unwrap();
    fails_with(admin.execute(call, &[&acme, &anna]), "XX001");
}

#[test]
fn nobody_changes_the_ledger_and_it_goes_with_its_user() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let abe = member(&mut scene.admin, acme, "abe@acme.example");
    let admin = &mut scene.admin;
    for user in [anna, abe] {
        let total: i32 = value(
            admin,
            "SELECT codex.adjust_points($1, $2, 30, 'a present', 'key')",
            &[&acme, &user],
        );
        assert_eq!(total, 30);
        if user == anna {
            // Keys are of the workspace's services together.
            admin.execute("DELETE FROM codex.requests", &[]).unwrap();
        }
    }
    for sql in [
        "UPDATE codex.points_ledger SET points = points + 1",
        "DELETE FROM codex.points_ledger",
        "TRUNCATE codex.points_ledger",
    ] {
        fails_with(admin.batch_execute(sql), "55000");
    }
    admin
        .execute("SELECT codex.erase_user($1)", &[&anna])
        .unwrap();
    assert_eq!(points(admin, acme, anna), (0, 0));
    admin
        .execute("DELETE FROM public.users WHERE id = $1", &[&abe])
        .unwrap();
    assert_eq!(rows(admin, "codex.points_ledger"), 0);
    admin
        .execute(
            "SELECT codex.adjust_points($1, $2, 1, 'a present')",
            &[&scene.bolt, &scene.bob],
        )
        .unwrap();
    admin
        .execute("SELECT codex.erase_workspace($1)", &[&scene.bolt])
        .unwrap();
    assert_eq!(rows(admin, "codex.points_ledger"), 0);
}

#[test]
fn points_are_adjusted_by_entries_and_stay_within_bounds() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let mut adjust = |points: i32, key: Option<&str>| {
        scene
            .admin
            .query_one(
                "SELECT codex.adjust_points($1, $2, $3, 'why not', $4)",
                &[&acme, &anna, &points, &key],
            )
            .map(|row| row.get::<_, i32>(0))
    };
    assert_eq!(adjust(50, Some("k")).unwrap(), 50);
    assert_eq!(adjust(50, Some("k")).unwrap(), 50);
    assert_eq!(adjust(-20, None).unwrap(), 30);
    for (points, key) in [
        (-31, None),
        (0, None),
        (i32::MIN, None),
        (i32::MAX, None),
        (51, Some("k")),
    ] {
        assert_eq!(
            sqlstate(&adjust(points, key).unwrap_err()),
            "22023",
            "{points}"
        );
    }
    assert_eq!(points(&mut scene.admin, acme, anna), (30, 30));
}

#[test]
fn drift_is_reported_and_mended() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    admin
        .execute(
            "SELECT codex.adjust_points($1, $2, 30, 'a present')",
            &[&acme, &anna],
        )
        .unwrap();
    let drift = |admin: &mut Client, repair: bool| -> Vec<(Uuid, i64, i64, i64)> {
        admin
            .query(
                "SELECT user_id, total_points, ledger_points, drift FROM codex.reconcile_points(repair => $1)",
                &[&repair],
            )
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
            .collect()
    };
    assert_eq!(drift(admin, false), []);
    admin
        .batch_execute("UPDATE public.user_stats SET total_points = 100")
        .unwrap();
    assert_eq!(drift(admin, false), [(anna, 100, 30, 70)]);
    assert_eq!(drift(admin, true), [(anna, 100, 30, 70)]);
    assert_eq!(drift(admin, false), []);
    assert_eq!(points(admin, acme, anna), (30, 30));
}

#[test]
fn the_ledger_opens_with_what_was_there_and_unlocks_work_without_it() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    admin
        .batch_execute("SELECT codex.rollback(17, true)")
        .unwrap();
    let by_hand = count("By hand", "{}", 250).insert(admin, acme);
    let rule = count("Rule", r#"{"metric": "login", "threshold": 1}"#, 5).insert(admin, acme);
    let paid: i32 = value(
        admin,
        "SELECT points_awarded FROM codex.unlock_achievement($1, $2, $3)",
        &[&anna, &by_hand, &acme],
    );
    assert_eq!(paid, 250);
    let missing = record(admin, acme, anna, "login", 1.0, "e", 0.0);
    fails_with(missing, "55000");
    admin.batch_execute("SELECT codex.migrate()").unwrap();
    assert_eq!(points(admin, acme, anna), (250, 250));
    let kind: String = value(admin, "SELECT kind FROM codex.points_ledger", &[]);
    assert_eq!(kind, "opening");
    let unfit: Uuid = value(
        admin,
        "SELECT achievement_id FROM codex.unfit_achievements()",
        &[],
    );
    assert_eq!(unfit, by_hand);
    let known: Uuid = value(
        admin,
        "SELECT achievement_id FROM codex.achievement_metrics",
        &[],
    );
    assert_eq!(known, rule);
    assert_eq!(
        record(admin, acme, anna, "login", 1.0, "e", 0.0).unwrap(),
        named(&[("Rule", 5)])
    );
    assert_eq!(points(admin, acme, anna), (255, 255));
}

#[test]
fn a_leaderboard_shares_ranks_and_leaves_out_who_has_left() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let users: Vec<Uuid> = (0..6)
        .map(|n| member(admin, acme, &format!("u{n}@acme.example")))
        .collect();
    for (user, points) in users.iter().zip([50, 40, 40, 30, 20, 10]) {
        admin
            .execute(
                "SELECT codex.adjust_points($1, $2, $3, 'start')",
                &[&acme, user, &points],
            )
            .unwrap();
    }
    let board =
        |admin: &mut Client, period: &str, rows: i32, around: Option<Uuid>| -> Vec<(i64, i64)> {
            admin
                .query(
                    "SELECT rank, points FROM codex.leaderboard($1, $2, $3, $4)",
                    &[&acme, &period, &rows, &around],
                )
                .unwrap()
                .iter()
                .map(|row| (row.get(0), row.get(1)))
                .collect()
        };
    for period in ["all", "day", "year"] {
        assert_eq!(
            board(admin, period, 4, None),
            [(1, 50), (2, 40), (2, 40), (4, 30)],
            "{period}"
        );
    }
    assert_eq!(
        board(admin, "all", 3, Some(users[4])),
        [(4, 30), (5, 20), (6, 10)]
    );
    assert_eq!(
        board(admin, "all", 3, Some(users[5])),
        [(4, 30), (5, 20), (6, 10)]
    );
    assert_eq!(
        board(admin, "all", 3, Some(users[0])),
        [(1, 50), (2, 40), (2, 40)]
    );
    assert_eq!(board(admin, "all", 3, Some(anna)), []);
    admin
        .execute(
            "DELETE FROM public.workspace_members WHERE user_id = $1",
            &[&users[0]],
        )
        .unwrap();
    assert_eq!(board(admin, "week", 2, None), [(1, 40), (1, 40)]);
}

#[test]
fn old_events_and_days_go_and_totals_stay() {
    let mut scene = Scene::new();
    now(&mut scene, "login", 1.0, "a");
    now(&mut scene, "login", 1.0, "b");
    let admin = &mut scene.admin;
    admin
        .batch_execute(
            "UPDATE codex.metric_events SET recorded_at = now() - interval '92 days' WHERE event_id = 'a';
             INSERT INTO codex.metric_days (workspace_id, user_id, metric, day, events, total)
             SELECT workspace_id, user_id, metric, current_date - 803, 1, 1 FROM codex.metric_totals",
        )
        .unwrap();
    let done: Vec<i64> = admin
        .query("SELECT rows FROM codex.upkeep_achievements()", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(done, [1, 1]);
    assert_eq!(rows(admin, "codex.metric_events"), 1);
    assert_eq!(rows(admin, "codex.metric_days"), 1);
    let events: i64 = value(admin, "SELECT events FROM codex.metric_totals", &[]);
    assert_eq!(events, 2);
}

#[test]
fn members_see_their_own_and_record_nothing() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let abe = member(&mut scene.admin, acme, "abe@acme.example");
    let id =
        count("One", r#"{"metric": "login", "threshold": 1}"#, 5).insert(&mut scene.admin, acme);
    for user in [anna, abe] {
        record(&mut scene.admin, acme, user, "login", 1.0, "e", 0.0).unwrap();
    }
    let role = scene.db.role("member");
    scene
        .admin
        .execute(
            "SELECT codex.grant_member_role($1::text::regrole)",
            &[&role],
        )
        .unwrap();
    let mut session = scene.db.login(&role);
    let mut as_anna = |sql: &str| {
        let mut transaction = session.transaction().unwrap();
        transaction
            .execute("SELECT codex.enter_workspace($1, $2)", &[&acme, &anna])
            .unwrap();
        transaction.query(sql, &[]).map(|rows| rows.len())
    };
    for table in [
        "codex.metric_events",
        "codex.metric_totals",
        "codex.metric_days",
        "codex.points_ledger",
    ] {
        assert_eq!(
            as_anna(&format!("SELECT FROM {table}")).unwrap(),
            1,
            "{table}"
        );
    }
    assert_eq!(
        as_anna(&format!(
            "SELECT * FROM codex.explain_achievement('{id}', '{anna}')"
        ))
        .unwrap(),
        3
    );
    for refused in [
        format!("SELECT * FROM codex.explain_achievement('{id}', '{abe}')"),
        format!("SELECT codex.record_metric_event('{acme}', '{anna}', 'login', 1, 'f')"),
        format!("SELECT codex.adjust_points('{acme}', '{anna}', 5, 'mine')"),
        format!("SELECT codex.leaderboard('{acme}')"),
        "INSERT INTO codex.points_ledger (workspace_id, user_id, kind, points, reason) SELECT workspace_id, user_id, 'adjustment', 5, 'mine' FROM codex.points_ledger".to_string(),
    ] {
        assert_eq!(sqlstate(&as_anna(&refused).unwrap_err()), "42501", "{refused}");
    }
    as_anna(&format!(
        "SELECT codex.set_user_time_zone('{acme}', '{anna}', 'Europe/Rome')"
    ))
    .unwrap();
}

#[test]
fn a_service_records_in_its_workspace_and_in_no_other() {
    let mut scene = Scene::new();
    let (acme, anna, bolt, bob) = (scene.acme, scene.anna, scene.bolt, scene.bob);
    count("One", r#"{"metric": "login", "threshold": 1}"#, 5).insert(&mut scene.admin, acme);
    let role = scene.db.role("service");
    scene
        .admin
        .execute(
            "SELECT codex.grant_service_role($1::text::regrole)",
            &[&role],
        )
        .unwrap();
    let mut session = scene.db.login(&role);
    let mut transaction = session.transaction().unwrap();
    transaction
        .execute("SELECT codex.enter_workspace($1)", &[&acme])
        .unwrap();
    assert_eq!(
        record(&mut transaction, acme, anna, "login", 1.0, "e", 0.0).unwrap(),
        named(&[("One", 5)])
    );
    let refused = record(&mut transaction, bolt, bob, "login", 1.0, "e", 0.0);
    assert_eq!(sqlstate(&refused.unwrap_err()), "42501");
}

#[test]
fn the_same_event_from_twenty_sessions_counts_once() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    count("One", r#"{"metric": "login", "threshold": 1}"#, 5).insert(&mut scene.admin, acme);
    let answers = scene.db.parallel(20, |_, client| {
        record(client, acme, anna, "login", 1.0, "the same", 0.0).unwrap()
    });
    for answer in answers {
        assert_eq!(answer, named(&[("One", 5)]));
    }
    let events: i64 = value(
        &mut scene.admin,
        "SELECT events FROM codex.metric_totals",
        &[],
    );
    assert_eq!(events, 1);
    assert_eq!(points(&mut scene.admin, acme, anna), (5, 5));
}

#[test]
fn different_events_from_twenty_sessions_all_count_and_pay_once() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    for n in [1, 7, 60, 100, 101] {
        let rule = format!(r#"{{"metric": "login", "threshold": {n}}}"#);
        count(&format!("{n}"), &rule, n).insert(&mut scene.admin, acme);
    }
    let unlocked = scene.db.parallel(20, |number, client| {
        let mut unlocked = Vec::new();
        for step in 0..5 {
            let event = format!("{number}/{step}");
            unlocked.extend(record(client, acme, anna, "login", 1.0, &event, 0.0).unwrap());
        }
        unlocked
    });
    let mut unlocked: Vec<(String, i32)> = unlocked.concat();
    unlocked.sort_by_key(|(_, points)| *points);
    assert_eq!(
        unlocked,
        named(&[("1", 1), ("7", 7), ("60", 60), ("100", 100)])
    );
    assert_eq!(points(&mut scene.admin, acme, anna), (168, 168));
    let (events, total): (i64, f64) = {
        let row = scene
            .admin
            .query_one("SELECT events, total::float8 FROM codex.metric_totals", &[])
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!((events, total), (100, 100.0));
}
