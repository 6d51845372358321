//! Foreign keys, unique keys and arrays of ids.

use crate::scene::Scene;
use codex_pg_test::{Failure, Uuid, fails_with, value};

/// The failure with the ids taken out of it.
fn words(failure: &Failure, ids: &[Uuid]) -> String {
    let mut text = format!(
        "{}|{}|{}|{}",
        failure.sqlstate, failure.message, failure.detail, failure.hint
    );
    for id in ids {
        text = text.replace(&id.to_string(), "?");
    }
    text
}

#[test]
fn a_reference_to_another_workspaces_row_is_refused_in_the_words_of_a_missing_one() {
    let scene = Scene::new();
    let acme = scene.acme;
    let theirs = &scene.bolt_rows;
    let inserts: Vec<(&str, String, Uuid)> = vec![
        ("quest of a campaign", "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES (:w, :id, 'x')".into(), theirs.campaign),
        ("quest under a quest", format!("INSERT INTO public.campaign_quests (workspace_id, campaign_id, parent_quest_id, name) VALUES (:w, '{}', :id, 'x')", scene.acme_rows.campaign), theirs.quest),
        ("campaign of a positioning", "INSERT INTO public.campaigns (workspace_id, name, positioning_id) VALUES (:w, 'x', :id)".into(), theirs.positioning),
        ("message of a positioning", "INSERT INTO public.message_architecture (workspace_id, name, primary_message, positioning_id) VALUES (:w, 'x', 'y', :id)".into(), theirs.positioning),
        ("cohort of a campaign", format!("INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id) VALUES (:w, :id, '{}')", scene.acme_rows.cohort), theirs.campaign),
        ("campaign of a cohort", format!("INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id) VALUES (:w, '{}', :id)", scene.acme_rows.campaign), theirs.cohort),
        ("assignment to a campaign", format!("INSERT INTO public.agent_assignments (workspace_id, agent_id, assigned_to_campaign_id) VALUES (:w, '{}', :id)", scene.acme_rows.agent), theirs.campaign),
        ("alert of a campaign", "INSERT INTO public.system_alerts (workspace_id, alert_type, title, related_campaign_id) VALUES (:w, 'error', 'x', :id)".into(), theirs.campaign),
        ("alert of a signal", "INSERT INTO public.system_alerts (workspace_id, alert_type, title, triggered_by_signal_id) VALUES (:w, 'error', 'x', :id)".into(), theirs.signal),
        ("update of a campaign", "UPDATE public.campaigns SET workspace_id = workspace_id, positioning_id = :id WHERE workspace_id = :w".into(), theirs.positioning),
    ];
    let mut session = scene.anna();
    let missing = Uuid::new_v4();
    for (what, sql, foreign) in inserts {
        let sql = sql.replace("workspace_id = workspace_id, ", "");
        let run = |session: &mut codex_pg_test::postgres::Client, id: Uuid| {
            let sql = sql
                .replace(":w", &format!("'{acme}'"))
                .replace(":id", &format!("'{id}'"));
            fails_with(session.execute(sql.as_str(), &[]), "23503")
        };
        let existing = run(&mut session, foreign);
        let nowhere = run(&mut session, missing);
        assert_eq!(
            words(&existing, &[foreign, acme]),
            words(&nowhere, &[missing, acme]),
            "{what}"
        );
    }
}

#[test]
fn user_owned_tables_refuse_references_across_workspaces_also_to_services() {
    let scene = Scene::new();
    let mut service = scene.service();
    for sql in [
        format!(
            "INSERT INTO public.user_achievements (workspace_id, user_id, achievement_id) VALUES ('{}', '{}', '{}')",
            scene.acme, scene.anna, scene.bolt_rows.achievement
        ),
        format!(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, related_alert_id) VALUES ('{}', '{}', 'alert', 'a', 'b', '{}')",
            scene.acme, scene.anna, scene.bolt_rows.alert
        ),
        format!(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, related_campaign_id) VALUES ('{}', '{}', 'alert', 'a', 'b', '{}')",
            scene.acme, scene.anna, scene.bolt_rows.campaign
        ),
        format!(
            "INSERT INTO codex.insight_signals (workspace_id, insight_id, signal_id, source, confidence_score, age_days, half_life_days, faded_confidence, counted) VALUES ('{}', '{}', '{}', 'a', 1, 0, 1, 1, true)",
            scene.acme, scene.acme_rows.insight, scene.bolt_rows.signal
        ),
    ] {
        fails_with(service.execute(sql.as_str(), &[]), "23503");
    }
}

#[test]
fn arrays_of_ids_give_nothing_away() {
    let scene = Scene::new();
    let mut anna = scene.anna();
    let missing = Uuid::new_v4();
    let insight = |session: &mut codex_pg_test::postgres::Client, id: Uuid| {
        fails_with(
            session.query(
                "SELECT codex.create_insight_from_signals($1, ARRAY[$2]::uuid[], 'x', 'trend', ARRAY['y'], NULL)",
                &[&scene.acme, &id],
            ),
            "23503",
        )
    };
    let foreign = scene.bolt_rows.signal;
    let theirs = insight(&mut anna, foreign);
    let nowhere = insight(&mut anna, missing);
    assert_eq!(
        words(&theirs, &[foreign, scene.acme]),
        words(&nowhere, &[missing, scene.acme])
    );
    // Stored ids of others are only ids: no function and no view follows them.
    anna.execute("UPDATE public.market_insights SET source_signal_ids = ARRAY[$1]::uuid[], relevant_for_campaigns = ARRAY[$2]::uuid[]", &[&foreign, &scene.bolt_rows.campaign]).unwrap();
    let joined: i64 = value(
        &mut anna,
        "SELECT count(*) FROM public.market_insights AS i JOIN public.intelligence_signals AS s ON s.id = ANY (i.source_signal_ids)",
        &[],
    );
    assert_eq!(joined, 0);
}

#[test]
fn names_and_keys_of_another_workspace_can_be_used_again() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute(&format!(
            "UPDATE public.user_notifications SET idempotency_key = 'k' WHERE workspace_id = '{0}';
             UPDATE public.system_alerts SET dedup_key = 'k' WHERE workspace_id = '{0}'",
            scene.bolt
        ))
        .unwrap();
    let mut service = scene.service();
    // Every unique key but the id carries the workspace, so none tells whether another one uses it.
    for sql in [
        format!(
            "UPDATE public.user_notifications SET idempotency_key = 'k' WHERE user_id = '{}'",
            scene.anna
        ),
        "UPDATE public.system_alerts SET dedup_key = 'k'".to_string(),
    ] {
        assert_eq!(service.execute(sql.as_str(), &[]).unwrap(), 1, "{sql}");
    }
    let global: Vec<String> = scene
        .admin
        .query(
            "SELECT c.conrelid::regclass::text || ': ' || pg_get_constraintdef(c.oid)
             FROM pg_constraint AS c
             WHERE c.contype IN ('u', 'p')
                 AND EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.conrelid AND a.attname = 'workspace_id' AND NOT a.attisdropped)
                 AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.conrelid AND a.attname = 'workspace_id' AND a.attnum = ANY (c.conkey))
                 AND pg_get_constraintdef(c.oid) <> 'PRIMARY KEY (id)'",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(global, Vec::<String>::new());
}
