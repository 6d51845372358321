//! Alerts: what follows from a change, silences, escalation, and how fast they are answered.

use crate::scene::{Scene, rows};
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Database, Uuid, fails_with, member, value, workspace};

pub fn raise(client: &mut Client, workspace: Uuid, severity: &str, key: &str) -> Uuid {
    value(
        client,
        "SELECT codex.create_system_alert($1, 'error', $2, 'Down', 'The shop is down', p_dedup_key => $3)",
        &[&workspace, &severity, &key],
    )
}

/// `acknowledge`, `resolve`, `dismiss` or `reopen`.
pub fn step(client: &mut Client, step: &str, alert: Uuid, user: Uuid) -> Result<u64, Error> {
    client.execute(
        &format!("SELECT codex.{step}_alert($1, $2)"),
        &[&alert, &user],
    )
}

/// The names of what happened to an alert, in order.
pub fn events(client: &mut Client, alert: Uuid) -> Vec<String> {
    client
        .query(
            "SELECT event, position FROM codex.alert_events WHERE alert_id = $1 ORDER BY position",
            &[&alert],
        )
        .unwrap()
        .iter()
        .zip(1..)
        .map(|(row, position)| {
            assert_eq!(row.get::<_, i32>(1), position, "without a gap");
            row.get(0)
        })
        .collect()
}

/// How many events are not numbered one after the other, or do not begin where the one before them ended.
pub const BROKEN_HISTORIES: &str = "
    SELECT count(*) FROM (
        SELECT position = row_number() OVER w AS numbered,
               from_status IS NOT DISTINCT FROM lag(to_status) OVER w AS follows
        FROM codex.alert_events
        WINDOW w AS (PARTITION BY alert_id ORDER BY position)
    ) AS e WHERE NOT (numbered AND follows)";

fn silence(client: &mut Client, workspace: Uuid, glob: Option<&str>) -> Uuid {
    value(
        client,
        "SELECT codex.silence_alerts($1, 'We know', now() + interval '1 hour', dedup_glob => $2)",
        &[&workspace, &glob],
    )
}

fn told(client: &mut Client, alert: Uuid) -> i64 {
    value(
        client,
        "SELECT count(*) FROM public.user_notifications WHERE related_alert_id = $1",
        &[&alert],
    )
}

fn upkeep(client: &mut Client, what: &str) -> i64 {
    value(
        client,
        "SELECT rows FROM codex.upkeep_alerts() WHERE done = $1",
        &[&what],
    )
}

/// Whoever is a member is told of critical alerts in the product.
fn tell_everybody(admin: &mut Client, workspace: Uuid) {
    admin
        .execute(
            "INSERT INTO codex.alert_fan_out (workspace_id, severity_level) VALUES ($1, 'critical')",
            &[&workspace],
        )
        .unwrap();
}

#[test]
fn each_change_is_an_event_with_who_did_it_and_why() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let alert = raise(admin, scene.acme, "high", "k");
    raise(admin, scene.acme, "high", "k");
    step(admin, "acknowledge", alert, scene.anna).unwrap();
    step(admin, "acknowledge", alert, scene.anna).unwrap();
    admin
        .execute(
            "SELECT codex.resolve_alert($1, $2, 'Restarted it')",
            &[&alert, &scene.anna],
        )
        .unwrap();
    admin
        .execute(
            "SELECT codex.reopen_alert($1, $2, 'Not mended')",
            &[&alert, &scene.anna],
        )
        .unwrap();
    raise(admin, scene.acme, "critical", "k");
    admin
        .batch_execute("UPDATE public.system_alerts SET status = 'dismissed'")
        .unwrap();
    assert_eq!(
        events(admin, alert),
        [
            "opened",
            "acknowledged",
            "resolved",
            "reopened",
            "severity_changed",
            "dismissed"
        ]
    );
    type Told = (Option<String>, String, Option<Uuid>, Option<String>);
    let told: Vec<Told> = admin
        .query(
            "SELECT from_status, to_status, user_id, note FROM codex.alert_events WHERE alert_id = $1 ORDER BY position",
            &[&alert],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let by = |from: &str, to: &str, user: Option<Uuid>, note: Option<&str>| {
        (
            Some(from.to_string()),
            to.to_string(),
            user,
            note.map(str::to_string),
        )
    };
    assert_eq!(told[0], (None, "active".to_string(), None, None));
    assert_eq!(
        told[1],
        by("active", "acknowledged", Some(scene.anna), None)
    );
    assert_eq!(
        told[2],
        by(
            "acknowledged",
            "resolved",
            Some(scene.anna),
            Some("Restarted it")
        )
    );
    assert_eq!(
        told[3],
        by("resolved", "active", Some(scene.anna), Some("Not mended"))
    );
    assert_eq!(
        told[5],
        by("active", "dismissed", None, None),
        "by a plain UPDATE"
    );
    let open: (Option<Uuid>, bool, i32) = {
        let row = admin
            .query_one("SELECT acknowledged_by, resolved_at IS NULL, occurrence_count FROM public.system_alerts", &[])
            .unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    assert_eq!(open, (None, true, 3));
}

#[test]
fn the_history_can_be_read_and_not_written_and_outlives_the_alert() {
    let mut scene = Scene::new();
    for kind in ["member", "service"] {
        let role = scene.db.role(kind);
        scene
            .admin
            .batch_execute(&format!("SELECT codex.grant_{kind}_role('{role}')"))
            .unwrap();
        let mut client = scene.db.login(&role);
        client
            .batch_execute(&format!(
                "SET app.current_workspace_id = '{}'; SET app.current_user_id = '{}'",
                scene.acme, scene.anna
            ))
            .unwrap();
        let alert = raise(&mut client, scene.acme, "high", kind);
        client
            .execute(
                "UPDATE public.system_alerts SET status = 'resolved' WHERE id = $1",
                &[&alert],
            )
            .unwrap();
        assert_eq!(events(&mut client, alert), ["opened", "resolved"]);
        let (who, by): (Option<Uuid>, String) = {
            let row = client
                .query_one("SELECT user_id, database_role FROM codex.alert_events WHERE alert_id = $1 AND event = 'resolved'", &[&alert])
                .unwrap();
            (row.get(0), row.get(1))
        };
        assert_eq!(
            (who, by),
            (Some(scene.anna), role.clone()),
            "and not the owner"
        );
        for sql in [
            "UPDATE codex.alert_events SET note = 'forged'",
            "DELETE FROM codex.alert_events",
            "INSERT INTO codex.alert_events SELECT * FROM codex.alert_events",
            "UPDATE codex.alert_life SET due_at = NULL",
            "DELETE FROM codex.alert_life",
        ] {
            fails_with(client.execute(sql, &[]), "42501");
        }
        client
            .execute("DELETE FROM public.system_alerts WHERE id = $1", &[&alert])
            .unwrap();
        assert_eq!(
            events(&mut client, alert),
            ["opened", "resolved", "deleted"]
        );
    }
    scene
        .admin
        .execute(
            "DELETE FROM public.workspaces WHERE id = $1",
            &[&scene.acme],
        )
        .unwrap();
    assert_eq!(rows(&mut scene.admin, "codex.alert_events"), 0);
    assert_eq!(rows(&mut scene.admin, "codex.alert_life"), 0);
}

#[test]
fn those_whom_the_rules_name_are_told_in_the_same_transaction() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let cleo = member(admin, scene.acme, "cleo@acme.example");
    tell_everybody(admin, scene.acme);
    for (severity, user, channel, level) in [
        ("critical", cleo, "sms", 0),
        ("critical", cleo, "email", 1),
        ("high", scene.anna, "email", 0),
        ("critical", scene.bob, "email", 0),
    ] {
        admin
            .execute(
                "INSERT INTO codex.alert_fan_out (workspace_id, severity_level, user_id, channel, from_level) VALUES ($1, $2, $3, $4, $5)",
                &[&scene.acme, &severity, &user, &channel, &level],
            )
            .unwrap();
    }
    admin.batch_execute("BEGIN").unwrap();
    raise(admin, scene.acme, "critical", "undone");
    admin.batch_execute("ROLLBACK").unwrap();
    assert_eq!(rows(admin, "public.user_notifications"), 0);
    let alert = raise(admin, scene.acme, "high", "k");
    raise(admin, scene.acme, "high", "k");
    assert_eq!(told(admin, alert), 1, "once, however often it is raised");
    raise(admin, scene.acme, "critical", "k");
    let mut got: Vec<(Uuid, String, String, String, String)> = admin
        .query(
            "SELECT user_id, channel, notification_type, priority_level, message FROM public.user_notifications",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)))
        .collect();
    let one = |user: Uuid, channel: &str, priority: &str| {
        (
            user,
            channel.to_string(),
            "alert".to_string(),
            priority.to_string(),
            "The shop is down".to_string(),
        )
    };
    let mut expected = vec![
        one(scene.anna, "email", "high"),
        one(scene.anna, "in_app", "urgent"),
        one(cleo, "in_app", "urgent"),
        one(cleo, "sms", "urgent"),
    ];
    got.sort();
    expected.sort();
    assert_eq!(got, expected, "Bob is no member, and nothing has escalated");
    assert_eq!(rows(admin, "codex.deliveries"), 2);
    // A plain INSERT tells, too, and so does an alert of a member, who may not write notifications.
    admin
        .execute("INSERT INTO public.system_alerts (workspace_id, alert_type, severity_level, title) VALUES ($1, 'error', 'high', 'Plain')", &[&scene.acme])
        .unwrap();
    let role = scene.db.role("member");
    scene
        .admin
        .batch_execute(&format!("SELECT codex.grant_member_role('{role}')"))
        .unwrap();
    let mut client = scene.db.login(&role);
    client
        .batch_execute(&format!(
            "SET app.current_workspace_id = '{}'; SET app.current_user_id = '{cleo}'",
            scene.acme
        ))
        .unwrap();
    raise(&mut client, scene.acme, "high", "by a member");
    assert_eq!(rows(&mut scene.admin, "public.user_notifications"), 6);
}

#[test]
fn what_nobody_answers_escalates_until_the_last_level() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    tell_everybody(admin, scene.acme);
    admin
        .execute(
            "INSERT INTO codex.alert_policies (workspace_id, severity_level, acknowledge_within, resolve_within, max_level) VALUES ($1, 'critical', '15 minutes', '2 hours', 2)",
            &[&scene.acme],
        )
        .unwrap();
    let alert = raise(admin, scene.acme, "critical", "k");
    raise(admin, scene.acme, "high", "without a policy");
    let due: bool = value(
        admin,
        "SELECT due_at BETWEEN now() + interval '14 minutes' AND now() + interval '15 minutes' FROM codex.alert_life WHERE alert_id = $1",
        &[&alert],
    );
    assert!(due);
    let pass =
        "UPDATE codex.alert_life SET due_at = now() - interval '1 second' WHERE due_at IS NOT NULL";
    assert_eq!(upkeep(admin, "alerts escalated"), 0);
    admin.execute(pass, &[]).unwrap();
    assert_eq!(upkeep(admin, "alerts escalated"), 1);
    assert_eq!(
        upkeep(admin, "alerts escalated"),
        0,
        "not before as much time has passed again"
    );
    step(admin, "acknowledge", alert, scene.anna).unwrap();
    let due: bool = value(
        admin,
        "SELECT due_at BETWEEN now() + interval '119 minutes' AND now() + interval '120 minutes' FROM codex.alert_life WHERE alert_id = $1",
        &[&alert],
    );
    assert!(due);
    admin.execute(pass, &[]).unwrap();
    assert_eq!(upkeep(admin, "alerts escalated"), 1);
    let acknowledged: bool = value(
        admin,
        "SELECT status <> 'active' OR acknowledged_by IS NOT NULL OR acknowledged_at IS NOT NULL FROM public.system_alerts WHERE id = $1",
        &[&alert],
    );
    assert!(!acknowledged, "the acknowledgement has lapsed");
    admin.execute(pass, &[]).unwrap();
    assert_eq!(upkeep(admin, "alerts escalated"), 0, "two levels are all");
    assert_eq!(
        events(admin, alert),
        [
            "opened",
            "escalated",
            "acknowledged",
            "unacknowledged",
            "escalated"
        ]
    );
    assert_eq!(told(admin, alert), 3, "when it opened, and at each level");
    let levels: Vec<i32> = admin
        .query("SELECT escalation_level FROM codex.alert_events WHERE event = 'escalated' ORDER BY position", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(levels, [1, 2]);
}

#[test]
fn a_silence_stores_what_matches_and_tells_it_when_it_is_over() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    tell_everybody(admin, scene.acme);
    let before = raise(admin, scene.acme, "critical", "db-1");
    assert_eq!(told(admin, before), 1);
    let quiet = silence(admin, scene.acme, Some("db-?"));
    let during = raise(admin, scene.acme, "critical", "db-2");
    let other = raise(admin, scene.acme, "critical", "db-22");
    let elsewhere = {
        tell_everybody(admin, scene.bolt);
        raise(admin, scene.bolt, "critical", "db-2")
    };
    assert_eq!(events(admin, before), ["opened", "silenced"]);
    assert_eq!(events(admin, during), ["opened", "silenced"]);
    assert_eq!(
        (
            told(admin, during),
            told(admin, other),
            told(admin, elsewhere)
        ),
        (0, 1, 1)
    );
    let stored: Uuid = value(
        admin,
        "SELECT id FROM codex.get_critical_alerts($1) WHERE id = $2",
        &[&scene.acme, &during],
    );
    assert_eq!(stored, during, "stored, and listed");
    assert_eq!(upkeep(admin, "alerts told after a silence"), 0);
    // One ends by itself, one is lifted.
    admin
        .execute(
            "UPDATE codex.alert_silences SET starts_at = now() - interval '2 hours', ends_at = now() - interval '1 second' WHERE id = $1",
            &[&quiet],
        )
        .unwrap();
    admin
        .batch_execute("UPDATE codex.alert_life SET due_at = now() - interval '1 second' WHERE silenced_by IS NOT NULL")
        .unwrap();
    assert_eq!(upkeep(admin, "alerts told after a silence"), 2);
    assert_eq!(events(admin, during), ["opened", "silenced", "unsilenced"]);
    assert_eq!((told(admin, before), told(admin, during)), (2, 1));
    let quiet = silence(admin, scene.acme, None);
    let third = raise(admin, scene.acme, "critical", "any");
    step(admin, "resolve", during, scene.anna).unwrap();
    let lift = "SELECT codex.lift_silence($1, $2)";
    admin.execute(lift, &[&scene.acme, &quiet]).unwrap();
    admin.execute(lift, &[&scene.acme, &quiet]).unwrap();
    assert_eq!(
        (told(admin, third), told(admin, during)),
        (1, 1),
        "what is closed is not told"
    );
    assert_eq!(events(admin, third), ["opened", "silenced", "unsilenced"]);
    fails_with(
        admin.execute(lift, &[&scene.acme, &Uuid::new_v4()]),
        "P0002",
    );
    fails_with(admin.execute(lift, &[&scene.bolt, &quiet]), "P0002");
}

#[test]
fn a_glob_matches_as_in_a_shell_and_nothing_else_is_special() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    for (glob, key, matches) in [
        ("*", "x", true),
        ("a*c", "abbbc", true),
        ("a*c", "abbbd", false),
        ("a?c", "abc", true),
        ("a?c", "ac", false),
        ("100%", "100%", true),
        ("100%", "1000", false),
        ("a_c", "abc", false),
        ("a_c", "a_c", true),
        (r"a\b", r"a\b", true),
        (r"a\*", r"a\bc", true),
        ("[ab]", "a", false),
        ("A*", "abc", false),
    ] {
        let quiet = silence(admin, scene.acme, Some(glob));
        let alert = raise(admin, scene.acme, "low", key);
        assert_eq!(events(admin, alert).len() == 2, matches, "{glob} and {key}");
        admin
            .batch_execute("DELETE FROM public.system_alerts")
            .unwrap();
        admin
            .execute("SELECT codex.lift_silence($1, $2)", &[&scene.acme, &quiet])
            .unwrap();
    }
    for (kind, severity, matches) in [
        (Some("error"), None, true),
        (Some("anomaly"), None, false),
        (None, Some("low"), true),
        (None, Some("high"), false),
        (Some("error"), Some("low"), true),
    ] {
        let quiet: Uuid = value(
            admin,
            "SELECT codex.silence_alerts($1, 'We know', now() + interval '1 hour', alert_type => $2, severity => $3)",
            &[&scene.acme, &kind, &severity],
        );
        let alert = raise(admin, scene.acme, "low", "k");
        assert_eq!(
            events(admin, alert).len() == 2,
            matches,
            "{kind:?} {severity:?}"
        );
        admin
            .batch_execute("DELETE FROM public.system_alerts")
            .unwrap();
        admin
            .execute("SELECT codex.lift_silence($1, $2)", &[&scene.acme, &quiet])
            .unwrap();
    }
}

#[test]
fn a_silence_has_its_times_in_order_and_the_same_key_makes_one() {
    let mut scene = Scene::new();
    let (acme, admin) = (scene.acme, &mut scene.admin);
    for (from, to) in [
        ("now()", "now() - interval '1 second'"),
        ("now() + interval '2 hours'", "now() + interval '1 hour'"),
        ("now() - interval '2 hours'", "now() - interval '1 hour'"),
    ] {
        fails_with(
            admin.execute(
                &format!("SELECT codex.silence_alerts($1, 'r', {to}, {from})"),
                &[&acme],
            ),
            "22023",
        );
    }
    let ids: Vec<Uuid> = scene.db.parallel(4, |_, client| {
        value(
            client,
            "SELECT codex.silence_alerts($1, 'r', '2099-01-01', idempotency_key => 'one')",
            &[&acme],
        )
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(rows(&mut scene.admin, "codex.alert_silences"), 1);
}

#[test]
fn reopening_has_a_window_and_needs_the_key_to_be_free() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let alert = raise(admin, scene.acme, "high", "k");
    step(admin, "resolve", alert, scene.anna).unwrap();
    let another = raise(admin, scene.acme, "high", "k");
    assert_ne!(another, alert);
    let refused = fails_with(step(admin, "reopen", alert, scene.anna), "55000");
    assert!(refused.message.contains(&another.to_string()), "{refused}");
    step(admin, "dismiss", another, scene.anna).unwrap();
    for (ago, may) in [("8 days", false), ("6 days", true)] {
        admin
            .execute(&format!("UPDATE codex.alert_life SET closed_at = now() - interval '{ago}' WHERE alert_id = $1"), &[&alert])
            .unwrap();
        if may {
            step(admin, "reopen", alert, scene.anna).unwrap();
        } else {
            fails_with(step(admin, "reopen", alert, scene.anna), "55000");
        }
    }
    step(admin, "reopen", alert, scene.anna).unwrap();
    assert_eq!(events(admin, alert), ["opened", "resolved", "reopened"]);
    fails_with(step(admin, "reopen", alert, scene.bob), "42501");
    fails_with(step(admin, "reopen", Uuid::new_v4(), scene.anna), "P0002");
    step(admin, "dismiss", alert, scene.anna).unwrap();
    admin
        .execute(
            "INSERT INTO codex.alert_policies (workspace_id, severity_level, reopen_within) VALUES ($1, 'high', '1 hour')",
            &[&scene.acme],
        )
        .unwrap();
    admin
        .execute("UPDATE codex.alert_life SET closed_at = now() - interval '2 hours' WHERE alert_id = $1", &[&alert])
        .unwrap();
    fails_with(step(admin, "reopen", alert, scene.anna), "55000");
}

#[test]
fn what_comes_back_soon_after_it_was_resolved_is_the_same_alert() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    scene
        .admin
        .execute(
            "INSERT INTO codex.alert_policies (workspace_id, severity_level, reopen_within) VALUES ($1, 'high', '1 hour')",
            &[&acme],
        )
        .unwrap();
    let alert = raise(&mut scene.admin, acme, "high", "k");
    step(&mut scene.admin, "resolve", alert, anna).unwrap();
    let ids: Vec<Uuid> = scene
        .db
        .parallel(8, |_, client| raise(client, acme, "critical", "k"));
    assert!(ids.iter().all(|id| *id == alert), "{ids:?}");
    let admin = &mut scene.admin;
    let (count, severity): (i32, String) = {
        let row = admin
            .query_one(
                "SELECT occurrence_count, severity_level FROM public.system_alerts",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!((count, severity.as_str()), (9, "critical"));
    assert_eq!(
        events(admin, alert),
        ["opened", "resolved", "severity_changed", "reopened"]
    );
    // Dismissed is dismissed; and critical alerts have no such policy here.
    step(admin, "dismiss", alert, anna).unwrap();
    assert_ne!(raise(admin, acme, "critical", "k"), alert);
}

#[test]
fn what_has_expired_is_closed_and_not_told_to_anybody() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let alert = raise(admin, scene.acme, "high", "k");
    let later = raise(admin, scene.acme, "high", "l");
    admin
        .execute(
            "UPDATE public.system_alerts SET expiry_date = now() + CASE WHEN id = $1 THEN interval '-1 second' ELSE '1 hour' END",
            &[&alert],
        )
        .unwrap();
    assert_eq!(upkeep(admin, "alerts expired"), 1);
    assert_eq!(upkeep(admin, "alerts expired"), 0);
    assert_eq!(events(admin, alert), ["opened", "expired"]);
    assert_eq!(events(admin, later), ["opened"]);
    let status: String = value(
        admin,
        "SELECT status FROM public.system_alerts WHERE id = $1",
        &[&alert],
    );
    assert_eq!(status, "dismissed");
}

#[test]
fn the_sla_counts_spells_and_interpolates_between_them() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    // Acknowledged after 10, 20, 30, 40 minutes; the first two resolved after 100 and 200.
    let (anna, acme) = (scene.anna, scene.acme);
    for minutes in 1..=4 {
        let alert = raise(admin, acme, "critical", &minutes.to_string());
        step(admin, "acknowledge", alert, anna).unwrap();
        if minutes <= 2 {
            step(admin, "resolve", alert, anna).unwrap();
        } else {
            step(admin, "dismiss", alert, anna).unwrap();
        }
        admin
            .execute(
                "UPDATE codex.alert_events SET occurred_at = '2026-03-01 12:00+00'::timestamptz + CASE event
                     WHEN 'opened' THEN interval '0'
                     WHEN 'acknowledged' THEN $2 * interval '10 minutes'
                     ELSE $2 * interval '100 minutes' END
                 WHERE alert_id = $1",
                &[&alert, &f64::from(minutes)],
            )
            .unwrap();
    }
    // Reopened: another spell, resolved at once without an acknowledgement. And one that nobody has answered.
    let twice = raise(admin, acme, "low", "twice");
    step(admin, "resolve", twice, anna).unwrap();
    step(admin, "reopen", twice, anna).unwrap();
    step(admin, "resolve", twice, anna).unwrap();
    admin
        .execute(
            "UPDATE codex.alert_events SET occurred_at = '2026-03-01 12:00+00'::timestamptz + (ARRAY[0, 60, 600, 630])[position] * interval '1 second' WHERE alert_id = $1",
            &[&twice],
        )
        .unwrap();
    let open = raise(admin, acme, "info", "open");
    admin
        .execute(
            "UPDATE codex.alert_events SET occurred_at = '2026-03-01 12:00+00' WHERE alert_id = $1",
            &[&open],
        )
        .unwrap();
    raise(admin, acme, "high", "now, which is outside");
    type Line = (String, i64, i64, i64, [Option<f64>; 6]);
    let sla = |admin: &mut Client, of: Uuid| -> Vec<Line> {
        admin
            .query(
                "SELECT * FROM codex.alert_sla($1, '2026-03-01 12:00+00', '2026-03-02')",
                &[&of],
            )
            .unwrap()
            .iter()
            .map(|row| {
                (
                    row.get(0),
                    row.get(1),
                    row.get(2),
                    row.get(3),
                    [4, 5, 6, 7, 8, 9].map(|place| row.get(place)),
                )
            })
            .collect()
    };
    let minutes =
        |values: [f64; 6]| values.map(|value| Some((value * 60.0 * 1000.0).round() / 1000.0));
    let rounded = |line: &Line| {
        (
            line.0.clone(),
            line.1,
            line.2,
            line.3,
            line.4
                .map(|value| value.map(|value| (value * 1000.0).round() / 1000.0)),
        )
    };
    let lines: Vec<Line> = sla(admin, acme).iter().map(rounded).collect();
    assert_eq!(
        lines,
        [
            (
                "critical".to_string(),
                4,
                4,
                2,
                minutes([25.0, 25.0, 38.5, 150.0, 150.0, 195.0])
            ),
            (
                "low".to_string(),
                2,
                2,
                2,
                minutes([0.75, 0.75, 0.975, 0.75, 0.75, 0.975])
            ),
            ("info".to_string(), 1, 0, 0, [None; 6]),
        ]
    );
    assert!(sla(admin, scene.bolt).is_empty());
    admin
        .batch_execute("DELETE FROM public.system_alerts")
        .unwrap();
    assert_eq!(sla(admin, acme).len(), 3, "what was deleted counts");
}

#[test]
fn of_two_who_acknowledge_at_once_one_did_it() {
    let mut scene = Scene::new();
    let users: Vec<Uuid> = (0..8)
        .map(|n| member(&mut scene.admin, scene.acme, &format!("{n}@acme.example")))
        .collect();
    for _ in 0..5 {
        let alert = raise(&mut scene.admin, scene.acme, "high", "k");
        let users = &users;
        scene.db.parallel(8, |number, client| {
            step(client, "acknowledge", alert, users[number]).unwrap();
        });
        let admin = &mut scene.admin;
        assert_eq!(events(admin, alert), ["opened", "acknowledged"]);
        let same: bool = value(
            admin,
            "SELECT a.acknowledged_by = e.user_id FROM public.system_alerts AS a JOIN codex.alert_events AS e ON e.alert_id = a.id
             WHERE a.id = $1 AND e.event = 'acknowledged'",
            &[&alert],
        );
        assert!(same);
        step(admin, "resolve", alert, scene.anna).unwrap();
    }
}

#[test]
fn many_who_raise_the_same_tell_it_once_and_two_upkeeps_escalate_it_once() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    tell_everybody(&mut scene.admin, acme);
    scene
        .admin
        .execute("INSERT INTO codex.alert_policies (workspace_id, severity_level, acknowledge_within) VALUES ($1, 'critical', '1 hour')", &[&acme])
        .unwrap();
    scene.db.parallel(8, |_, client| {
        for n in 0..20 {
            raise(client, acme, "critical", &format!("k{n}"));
        }
    });
    assert_eq!(rows(&mut scene.admin, "public.user_notifications"), 20);
    scene
        .admin
        .batch_execute("UPDATE codex.alert_life SET due_at = now() - interval '1 second'")
        .unwrap();
    let escalated: i64 = scene
        .db
        .parallel(4, |_, client| {
            let mut done = 0;
            loop {
                let now: i64 = value(
                    client,
                    "SELECT rows FROM codex.upkeep_alerts(3) WHERE done = 'alerts escalated'",
                    &[],
                );
                done += now;
                let due: i64 = value(
                    client,
                    "SELECT count(*) FROM codex.alert_life WHERE due_at <= now()",
                    &[],
                );
                if due == 0 {
                    return done;
                }
            }
        })
        .into_iter()
        .sum();
    assert_eq!(escalated, 20);
    let twice: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM (SELECT FROM codex.alert_events WHERE event = 'escalated' GROUP BY alert_id HAVING count(*) <> 1) AS t",
        &[],
    );
    assert_eq!(twice, 0);
}

#[test]
fn what_is_resolved_and_raised_again_by_many_waits_for_nobody_in_a_circle() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    scene
        .admin
        .execute(
            "INSERT INTO codex.alert_policies (workspace_id, severity_level, reopen_within) VALUES ($1, 'critical', '1 hour')",
            &[&acme],
        )
        .unwrap();
    // Several that are resolved under one key, so that there is more than one that may be reopened.
    let resolved: Vec<Uuid> = (0..3)
        .map(|_| {
            let alert = raise(&mut scene.admin, acme, "critical", "k");
            step(&mut scene.admin, "resolve", alert, anna).unwrap();
            scene
                .admin
                .execute(
                    "UPDATE public.system_alerts SET resolved_at = now() - interval '2 hours' WHERE id = $1",
                    &[&alert],
                )
                .unwrap();
            alert
        })
        .collect();
    scene
        .admin
        .batch_execute("UPDATE public.system_alerts SET resolved_at = now()")
        .unwrap();
    scene.db.parallel(8, |_, client| {
        for _ in 0..60 {
            // A deadlock fails here.
            let alert = raise(client, acme, "critical", "k");
            if let Err(error) = step(client, "resolve", alert, anna) {
                assert_eq!(codex_pg_test::sqlstate(&error), "55000", "{error:?}");
            }
        }
    });
    let (alerts, open, raised): (i64, i64, i64) = {
        let row = scene
            .admin
            .query_one(
                "SELECT count(*), count(*) FILTER (WHERE status IN ('active', 'acknowledged')), sum(occurrence_count)::bigint FROM public.system_alerts",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    assert!(open <= 1, "one key, {open} open alerts");
    assert!(alerts as usize >= resolved.len());
    assert_eq!(
        raised,
        3 + 8 * 60,
        "each call is an occurrence of one alert"
    );
}

#[test]
fn whatever_eight_sessions_do_each_history_is_a_chain() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    tell_everybody(&mut scene.admin, acme);
    scene
        .admin
        .execute(
            "INSERT INTO codex.alert_policies (workspace_id, severity_level, acknowledge_within, resolve_within, reopen_within) VALUES ($1, 'critical', '1 hour', '1 hour', '1 hour')",
            &[&acme],
        )
        .unwrap();
    let seed = crate::dice::seed("alert chains");
    scene.db.parallel(8, |number, client| {
        let mut dice = crate::dice::Dice::new(seed, number as u64);
        for _ in 0..60 {
            let alert = raise(client, acme, "critical", ["a", "b", "c"][dice.below(3)]);
            let made = match dice.below(8) {
                0 | 1 => step(client, "acknowledge", alert, anna),
                2 => step(client, "resolve", alert, anna),
                3 => step(client, "dismiss", alert, anna),
                4 => step(client, "reopen", alert, anna),
                5 => client.execute(
                    "WITH passed AS (UPDATE codex.alert_life SET due_at = now() - interval '1 second' WHERE due_at IS NOT NULL AND alert_id = (SELECT alert_id FROM codex.alert_life WHERE alert_id = $1 AND due_at IS NOT NULL FOR UPDATE SKIP LOCKED)) SELECT 1",
                    &[&alert],
                ),
                6 => client.execute("SELECT codex.upkeep_alerts()", &[]),
                _ => {
                    let quiet: Uuid = silence(client, acme, Some("a"));
                    client.execute("SELECT codex.lift_silence($1, $2)", &[&acme, &quiet])
                }
            };
            if let Err(error) = made {
                // Another one was faster. Nothing else may go wrong, a deadlock least of all.
                assert_eq!(codex_pg_test::sqlstate(&error), "55000", "{error:?}");
            }
        }
    });
    let broken: i64 = value(&mut scene.admin, BROKEN_HISTORIES, &[]);
    assert_eq!(broken, 0);
    let apart: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM public.system_alerts AS a
         JOIN codex.alert_life AS l ON l.alert_id = a.id
         JOIN LATERAL (SELECT to_status FROM codex.alert_events AS e WHERE e.alert_id = a.id ORDER BY position DESC LIMIT 1) AS e ON true
         WHERE e.to_status <> a.status OR (l.closed_at IS NULL) <> (a.status IN ('active', 'acknowledged'))
            OR (l.closed_at IS NOT NULL AND (l.due_at IS NOT NULL OR l.silenced_by IS NOT NULL))",
        &[],
    );
    assert_eq!(apart, 0);
}

#[test]
fn alerts_that_were_there_before_have_a_history_after_the_migration() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    admin.batch_execute("SELECT codex.migrate(17)").unwrap();
    let acme = workspace(&mut admin, "Acme");
    let anna = member(&mut admin, acme, "anna@acme.example");
    let alerts: Vec<Uuid> = ["a", "b", "c", "d"]
        .iter()
        .map(|key| raise(&mut admin, acme, "high", key))
        .collect();
    step(&mut admin, "acknowledge", alerts[1], anna).unwrap();
    step(&mut admin, "resolve", alerts[2], anna).unwrap();
    step(&mut admin, "dismiss", alerts[3], anna).unwrap();
    for sql in [
        format!("SELECT codex.alert_sla('{acme}', now(), now())"),
        format!("SELECT codex.silence_alerts('{acme}', 'r', now() + interval '1 hour')"),
        "SELECT codex.upkeep_alerts()".to_string(),
    ] {
        let failure = fails_with(admin.query(&sql, &[]), "55000");
        assert!(
            failure.hint.contains("codex.migrate()"),
            "{sql}: {failure:?}"
        );
    }
    admin.batch_execute("SELECT codex.migrate()").unwrap();
    let expected: [&[&str]; 4] = [
        &["opened"],
        &["opened", "acknowledged"],
        &["opened", "acknowledged", "resolved"],
        &["opened", "acknowledged", "dismissed"],
    ];
    for (alert, expected) in alerts.iter().zip(expected) {
        assert_eq!(events(&mut admin, *alert), expected);
    }
    assert_eq!(rows(&mut admin, "codex.alert_life"), 4);
    step(&mut admin, "reopen", alerts[2], anna).unwrap();
    assert_eq!(events(&mut admin, alerts[2]).len(), 4);
}
