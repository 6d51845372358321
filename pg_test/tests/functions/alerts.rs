//! Alerts: raising, deduplication, and what members do with them.

use crate::scene::{Scene, campaign, rows, touches_at_most};
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Uuid, fails_with, member, value};
use std::collections::BTreeSet;
use std::time::Duration;

/// `codex.create_system_alert()` with the arguments that have no default.
fn raise(client: &mut Client, workspace: Uuid, severity: &str) -> Uuid {
    value(
        client,
        "SELECT codex.create_system_alert($1, 'anomaly', $2, 'Spend doubled', 'Twice the plan')",
        &[&workspace, &severity],
    )
}

fn raise_with_key(
    client: &mut Client,
    workspace: Uuid,
    severity: &str,
    key: &str,
) -> Result<Uuid, Error> {
    client
        .query_one(
            "SELECT codex.create_system_alert($1, 'anomaly', $2, 'Spend doubled', 'Twice the plan', p_dedup_key => $3)",
            &[&workspace, &severity, &key],
        )
        .map(|row| row.get(0))
}

/// One of `acknowledge`, `resolve` and `dismiss`.
fn step(client: &mut Client, step: &str, alert: Uuid, user: Uuid) -> Result<u64, Error> {
    client.execute(
        &format!("SELECT codex.{step}_alert($1, $2)"),
        &[&alert, &user],
    )
}

/// Status, acknowledger and whether it has the times of acknowledgement and resolution.
fn state(client: &mut Client, alert: Uuid) -> (String, Option<Uuid>, bool, bool) {
    let row = client
        .query_one(
            "SELECT status, acknowledged_by, acknowledged_at IS NOT NULL, resolved_at IS NOT NULL
             FROM public.system_alerts WHERE id = $1",
            &[&alert],
        )
        .unwrap();
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

#[test]
fn hard_case_30_an_alert_is_raised_where_no_user_is_known() {
    let mut scene = Scene::new();
    let alert = raise(&mut scene.admin, scene.acme, "high");
    let row = scene
        .admin
        .query_one(
            "SELECT created_by, triggered_at = created_at, status, severity_level, occurrence_count
             FROM public.system_alerts WHERE id = $1",
            &[&alert],
        )
        .unwrap();
    assert_eq!(row.get::<_, Option<Uuid>>(0), None);
    assert!(row.get::<_, bool>(1));
    assert_eq!(row.get::<_, String>(2), "active");
    assert_eq!(row.get::<_, String>(3), "high");
    assert_eq!(row.get::<_, i32>(4), 1);
}

#[test]
fn hard_case_30_the_creator_is_the_user_of_the_transaction_when_a_member() {
    let mut scene = Scene::new();
    for (user, creator) in [
        (scene.anna, Some(scene.anna)),
        (scene.bob, None),
        (Uuid::new_v4(), None),
    ] {
        let mut transaction = scene.admin.transaction().unwrap();
        transaction
            .execute(
                "SELECT set_config('app.current_user_id', $1, true)",
                &[&user.to_string()],
            )
            .unwrap();
        let alert: Uuid = transaction
            .query_one(
                "SELECT codex.create_system_alert($1, 'error', 'low', 'T', 'D')",
                &[&scene.acme],
            )
            .unwrap()
            .get(0);
        let created_by: Option<Uuid> = transaction
            .query_one(
                "SELECT created_by FROM public.system_alerts WHERE id = $1",
                &[&alert],
            )
            .unwrap()
            .get(0);
        assert_eq!(created_by, creator);
        transaction.commit().unwrap();
    }
}

#[test]
fn hard_case_31_acknowledging_a_closed_alert_does_not_reopen_it() {
    let mut scene = Scene::new();
    for (close, status) in [("resolve", "resolved"), ("dismiss", "dismissed")] {
        let alert = raise(&mut scene.admin, scene.acme, "high");
        step(&mut scene.admin, close, alert, scene.anna).unwrap();
        let failure = fails_with(
            step(&mut scene.admin, "acknowledge", alert, scene.anna),
            "55000",
        );
        assert_eq!(
            failure.message,
            format!("alert {alert} is {status} and cannot become acknowledged")
        );
        assert_eq!(state(&mut scene.admin, alert).0, status);
    }
}

#[test]
fn hard_case_31_the_first_acknowledgement_stays() {
    let mut scene = Scene::new();
    let cleo = member(&mut scene.admin, scene.acme, "cleo@acme.example");
    let alert = raise(&mut scene.admin, scene.acme, "high");
    step(&mut scene.admin, "acknowledge", alert, scene.anna).unwrap();
    let version =
        "SELECT xmin::text || acknowledged_at::text FROM public.system_alerts WHERE id = $1";
    let before: String = value(&mut scene.admin, version, &[&alert]);
    step(&mut scene.admin, "acknowledge", alert, cleo).unwrap();
    assert_eq!(
        value::<String>(&mut scene.admin, version, &[&alert]),
        before
    );
    assert_eq!(
        state(&mut scene.admin, alert),
        ("acknowledged".into(), Some(scene.anna), true, false)
    );
}

#[test]
fn hard_case_31_an_unknown_alert_is_not_acknowledged_in_silence() {
    let mut scene = Scene::new();
    let unknown = Uuid::new_v4();
    for each in ["acknowledge", "resolve", "dismiss"] {
        let failure = fails_with(step(&mut scene.admin, each, unknown, scene.anna), "P0002");
        assert_eq!(failure.message, format!("there is no alert {unknown} here"));
    }
}

#[test]
fn hard_case_31_somebody_who_is_not_a_member_acknowledges_nothing() {
    let mut scene = Scene::new();
    let alert = raise(&mut scene.admin, scene.acme, "high");
    for stranger in [scene.bob, Uuid::new_v4()] {
        for each in ["acknowledge", "resolve", "dismiss"] {
            fails_with(step(&mut scene.admin, each, alert, stranger), "42501");
        }
    }
    assert_eq!(
        state(&mut scene.admin, alert),
        ("active".into(), None, false, false)
    );
}

#[test]
fn hard_case_31_of_many_who_acknowledge_at_once_one_is_the_first() {
    let mut scene = Scene::new();
    let members: Vec<Uuid> = (0..12)
        .map(|n| member(&mut scene.admin, scene.acme, &format!("m{n}@acme.example")))
        .collect();
    let alert = raise(&mut scene.admin, scene.acme, "high");
    scene.db.parallel(12, |session, client| {
        step(client, "acknowledge", alert, members[session]).unwrap();
    });
    let (status, first, ..) = state(&mut scene.admin, alert);
    assert_eq!(status, "acknowledged");
    let first = first.unwrap();
    assert!(members.contains(&first));
    for later in members {
        step(&mut scene.admin, "acknowledge", alert, later).unwrap();
        assert_eq!(state(&mut scene.admin, alert).1, Some(first));
    }
}

#[test]
fn an_alert_is_resolved_once_and_keeps_what_was_done() {
    let mut scene = Scene::new();
    let cleo = member(&mut scene.admin, scene.acme, "cleo@acme.example");
    let alert = raise(&mut scene.admin, scene.acme, "high");
    step(&mut scene.admin, "acknowledge", alert, scene.anna).unwrap();
    for action in ["Budget cut", "Something else"] {
        scene
            .admin
            .execute(
                "SELECT codex.resolve_alert($1, $2, $3)",
                &[&alert, &cleo, &action],
            )
            .unwrap();
    }
    assert_eq!(
        state(&mut scene.admin, alert),
        ("resolved".into(), Some(scene.anna), true, true)
    );
    let action: String = value(
        &mut scene.admin,
        "SELECT action_taken FROM public.system_alerts WHERE id = $1",
        &[&alert],
    );
    assert_eq!(action, "Budget cut");
    fails_with(step(&mut scene.admin, "dismiss", alert, cleo), "55000");
}

#[test]
fn who_dismisses_an_alert_that_nobody_acknowledged_has_taken_note_of_it() {
    let mut scene = Scene::new();
    let alert = raise(&mut scene.admin, scene.acme, "high");
    step(&mut scene.admin, "dismiss", alert, scene.anna).unwrap();
    step(&mut scene.admin, "dismiss", alert, scene.anna).unwrap();
    assert_eq!(
        state(&mut scene.admin, alert),
        ("dismissed".into(), Some(scene.anna), true, false)
    );
    fails_with(
        step(&mut scene.admin, "resolve", alert, scene.anna),
        "55000",
    );
}

#[test]
fn hard_case_32_critical_comes_before_high_and_then_the_newest() {
    let mut scene = Scene::new();
    scene
        .admin
        .execute(
            "INSERT INTO public.system_alerts (workspace_id, alert_type, severity_level, status, title, created_at, expiry_date)
             SELECT $1, 'error', severity, status, title, now() - minutes * interval '1 minute', now() + days * interval '1 day'
             FROM (VALUES
                 ('old critical', 'critical', 'active', 90, NULL), ('new high', 'high', 'active', 1, 1), ('newer critical', 'critical', 'active', 60, NULL),
                 ('old high', 'high', 'active', 70, NULL), ('medium', 'medium', 'active', 1, NULL), ('seen', 'critical', 'acknowledged', 1, NULL),
                 ('expired', 'critical', 'active', 1, -1)
             ) AS v (title, severity, status, minutes, days)",
            &[&scene.acme],
        )
        .unwrap();
    raise(&mut scene.admin, scene.bolt, "critical");
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
        titles("SELECT title FROM codex.get_critical_alerts($1)"),
        ["newer critical", "old critical", "new high", "old high"]
    );
    assert_eq!(
        titles("SELECT title FROM codex.get_critical_alerts(p_workspace_id => $1, p_limit => 3)"),
        ["newer critical", "old critical", "new high"]
    );
    assert!(titles("SELECT title FROM codex.get_critical_alerts($1, 0)").is_empty());
}

#[test]
fn hard_case_37_a_campaign_of_another_tenant_is_not_referred_to_and_takes_no_alert_with_it() {
    let mut scene = Scene::new();
    let foreign = campaign(&mut scene.admin, scene.bolt);
    let own = campaign(&mut scene.admin, scene.acme);
    let sql =
        "SELECT codex.create_system_alert($1, 'error', 'high', 'T', 'D', p_campaign_id => $2)";
    for stranger in [foreign, Uuid::new_v4()] {
        let failure = fails_with(scene.admin.query(sql, &[&scene.acme, &stranger]), "23503");
        assert_eq!(
            failure.message,
            format!("p_campaign_id is {stranger}, and there is no such campaign in this workspace")
        );
    }
    let direct = scene.admin.execute(
        "INSERT INTO public.system_alerts (workspace_id, alert_type, title, related_campaign_id) VALUES ($1, 'error', 'T', $2)",
        &[&scene.acme, &foreign],
    );
    fails_with(direct, "23503");
    let alert: Uuid = value(&mut scene.admin, sql, &[&scene.acme, &own]);
    scene
        .admin
        .execute("DELETE FROM public.campaigns WHERE id = $1", &[&foreign])
        .unwrap();
    assert_eq!(state(&mut scene.admin, alert).0, "active");
}

#[test]
fn an_agent_and_a_workspace_that_are_not_there_are_named() {
    let mut scene = Scene::new();
    let unknown = Uuid::new_v4();
    let agent = scene.admin.query(
        "SELECT codex.create_system_alert($1, 'error', 'high', 'T', 'D', p_agent_id => $2)",
        &[&scene.acme, &unknown],
    );
    assert_eq!(
        fails_with(agent, "23503").message,
        format!("p_agent_id is {unknown}, and there is no such agent")
    );
    let workspace = scene.admin.query(
        "SELECT codex.create_system_alert($1, 'error', 'high', 'T', 'D')",
        &[&unknown],
    );
    assert_eq!(
        fails_with(workspace, "23503").message,
        format!("p_workspace_id is {unknown}, and there is no such workspace")
    );
}

#[test]
fn with_a_dedup_key_any_number_of_sessions_raise_one_alert() {
    let mut scene = Scene::new();
    let severities = ["info", "low", "critical", "medium", "high"];
    let ids: BTreeSet<Uuid> = scene
        .db
        .parallel(20, |session, client| {
            (0..10)
                .map(|n| {
                    let severity = severities[(session + n) % severities.len()];
                    raise_with_key(client, scene.acme, severity, "spend").unwrap()
                })
                .collect::<Vec<_>>()
        })
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(ids.len(), 1);
    let row = scene
        .admin
        .query_one(
            "SELECT count(*), max(occurrence_count), max(severity_level) FROM public.system_alerts",
            &[],
        )
        .unwrap();
    assert_eq!(
        (
            row.get::<_, i64>(0),
            row.get::<_, i32>(1),
            row.get::<_, String>(2)
        ),
        (1, 200, "critical".to_string())
    );
}

#[test]
fn a_dedup_key_holds_while_the_alert_is_open_and_inside_its_workspace() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let first = raise_with_key(admin, scene.acme, "high", "spend").unwrap();
    step(admin, "acknowledge", first, scene.anna).unwrap();
    assert_eq!(
        raise_with_key(admin, scene.acme, "low", "spend").unwrap(),
        first
    );
    assert_eq!(state(admin, first).0, "acknowledged");
    let severity: String = value(
        admin,
        "SELECT severity_level FROM public.system_alerts WHERE id = $1",
        &[&first],
    );
    assert_eq!(severity, "high", "severity goes only upwards");
    let elsewhere = raise_with_key(admin, scene.bolt, "low", "spend").unwrap();
    assert_ne!(elsewhere, first);
    step(admin, "resolve", first, scene.anna).unwrap();
    let second = raise_with_key(admin, scene.acme, "low", "spend").unwrap();
    assert_ne!(second, first);
    assert_eq!(rows(admin, "public.system_alerts"), 3);
}

#[test]
fn an_alert_that_is_being_resolved_is_waited_for_and_then_another_is_raised() {
    let mut scene = Scene::new();
    let first = raise_with_key(&mut scene.admin, scene.acme, "high", "spend").unwrap();
    let mut other = scene.db.admin();
    let mut resolving = scene.admin.transaction().unwrap();
    resolving
        .execute("SELECT codex.resolve_alert($1, $2)", &[&first, &scene.anna])
        .unwrap();
    let raising =
        std::thread::spawn(move || raise_with_key(&mut other, scene.acme, "low", "spend"));
    std::thread::sleep(Duration::from_millis(200));
    assert!(!raising.is_finished(), "raising did not wait for the lock");
    resolving.commit().unwrap();
    let second = raising.join().unwrap().unwrap();
    assert_ne!(second, first);
    assert_eq!(state(&mut scene.admin, first).0, "resolved");
    assert_eq!(state(&mut scene.admin, second).0, "active");
}

#[test]
fn an_alert_that_had_expired_is_back_when_it_is_seen_again() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let alert = raise_with_key(admin, scene.acme, "critical", "spend").unwrap();
    admin
        .execute(
            "UPDATE public.system_alerts SET expiry_date = now() - interval '1 hour'",
            &[],
        )
        .unwrap();
    assert_eq!(
        raise_with_key(admin, scene.acme, "critical", "spend").unwrap(),
        alert
    );
    let listed: Uuid = value(
        admin,
        "SELECT id FROM codex.get_critical_alerts($1)",
        &[&scene.acme],
    );
    assert_eq!(listed, alert);
}

#[test]
fn data_points_keep_every_digit_and_any_depth() {
    let mut scene = Scene::new();
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let exact = r#"{"n": 12345678901234567890.12345678901234567890}"#;
    for json in [deep.as_str(), exact, "null"] {
        let alert: Uuid = value(
            &mut scene.admin,
            "SELECT codex.create_system_alert($1, 'error', 'low', 'T', '', p_data_points => $2::text::jsonb)",
            &[&scene.acme, &json],
        );
        let kept: String = value(
            &mut scene.admin,
            "SELECT data_points::text FROM public.system_alerts WHERE id = $1",
            &[&alert],
        );
        assert_eq!(kept, json);
    }
}

#[test]
fn the_top_of_the_list_is_read_from_the_index() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute(&format!(
            "INSERT INTO public.system_alerts (workspace_id, alert_type, severity_level, title)
             SELECT '{}', 'error', (ARRAY['critical', 'high', 'low'])[1 + g % 3], 'T' FROM generate_series(1, 20000) AS g;
             ANALYZE public.system_alerts",
            scene.acme
        ))
        .unwrap();
    touches_at_most(
        &mut scene.admin,
        "get_critical_alerts($1, 20)",
        &[&scene.acme],
        "system_alerts",
        20,
    );
}
