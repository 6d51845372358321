//! All engines at once, on few rows, each call a transaction of its own: nobody waits in a circle, nothing goes wrong but what
//! the rules forbid, and afterwards every sum is that of its parts.

use crate::achievements::{Wanted, count};
use crate::agent_tasks::{agent, assignment};
use crate::alerts::BROKEN_HISTORIES;
use crate::dice::{Dice, seed, setting};
use crate::scene::Scene;
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Uuid, error_message, member, sqlstate, value};

/// What everybody works on.
struct Ground {
    workspace: Uuid,
    users: [Uuid; 3],
    agents: [Uuid; 2],
    assignments: [Uuid; 2],
    campaign: Uuid,
    quests: Vec<Uuid>,
    achievements: Vec<Uuid>,
}

fn lay(scene: &mut Scene) -> Ground {
    let (acme, anna) = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let users = [
        anna,
        member(admin, acme, "abe@acme.example"),
        member(admin, acme, "ada@acme.example"),
    ];
    let agents = ["Scout", "Poet"].map(|name| agent(admin, name));
    let assignments = agents.map(|agent| assignment(admin, acme, agent));
    let campaign: Uuid = value(
        admin,
        "INSERT INTO public.campaigns (workspace_id, name, status, start_date, end_date, allocated_budget_amount)
         VALUES ($1, 'Spring', 'planning', current_date - 1, current_date + 30, 5000) RETURNING id",
        &[&acme],
    );
    let quests = (0..5)
        .map(|_| {
            value(
                admin,
                "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ($1, $2, 'Quest') RETURNING id",
                &[&acme, &campaign],
            )
        })
        .collect();
    let first = count("first", r#"{"metric": "posts", "threshold": 1}"#, 10).insert(admin, acme);
    let then = Wanted {
        after: Some(first),
        ..count("then", r#"{"metric": "posts", "threshold": 5}"#, 25)
    }
    .insert(admin, acme);
    let other = count("other", r#"{"metric": "likes", "threshold": 3}"#, 5).insert(admin, acme);
    admin
        .batch_execute(&format!(
            "INSERT INTO codex.alert_policies (workspace_id, severity_level, acknowledge_within, resolve_within, reopen_within)
             SELECT '{acme}', severity, '1 hour', '1 hour', '1 hour' FROM unnest(ARRAY['critical', 'high']) AS severity;
             INSERT INTO codex.alert_fan_out (workspace_id, severity_level, channel) VALUES ('{acme}', 'critical', 'email');
             SELECT codex.set_agent_budget('{acme}', 'day', NULL, 2000, 10);
             SELECT codex.set_agent_budget('{acme}', 'day', '{}', 1500);
             SELECT codex.transition_campaign('{campaign}', 'active');",
            agents[0]
        ))
        .unwrap_or_else(|error| panic!("{}", error_message(&error)));
    Ground {
        workspace: acme,
        users,
        agents,
        assignments,
        campaign,
        quests,
        achievements: vec![first, then, other],
    }
}

/// What a call gives back that a later one needs: ids as text.
fn asked(client: &mut Client, sql: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
    let rows = client.simple_query(sql)?;
    Ok(rows
        .iter()
        .filter_map(|message| match message {
            codex_pg_test::postgres::SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).map(str::to_string))
                    .collect(),
            ),
            _ => None,
        })
        .collect())
}

/// What was claimed, and the tokens that go with it.
fn claims(rows: Vec<Vec<Option<String>>>) -> impl Iterator<Item = (String, String)> {
    rows.into_iter().filter_map(|row| {
        let mut values = row.into_iter().flatten();
        Some((values.next()?, values.next()?))
    })
}

/// A call of any engine, and what follows from it at once.
fn anything(
    client: &mut Client,
    dice: &mut Dice,
    ground: &Ground,
    number: usize,
) -> Result<(), Error> {
    let w = ground.workspace;
    let user = *dice.pick(&ground.users);
    let agent = dice.below(2);
    let (agent, assignment) = (ground.agents[agent], ground.assignments[agent]);
    let campaign = ground.campaign;
    let key = *dice.pick(&["a", "b", "c"]);
    let once = dice.below(40);
    let mut run = |sql: String| asked(client, &sql);
    let first =
        |rows: &[Vec<Option<String>>]| rows.first().and_then(|row| row.first().cloned().flatten());
    match dice.below(26) {
        0 | 1 => {
            let severity = *dice.pick(&["critical", "high", "low"]);
            let alert = run(format!(
                "SELECT codex.create_system_alert('{w}', 'error', '{severity}', 'Down', 'It is', p_dedup_key => '{key}')"
            ))?;
            let step = *dice.pick(&["acknowledge", "resolve", "dismiss", "reopen"]);
            if let Some(alert) = first(&alert) {
                run(format!("SELECT codex.{step}_alert('{alert}', '{user}')"))?;
            }
        }
        2 => {
            let silence = run(format!(
                "SELECT codex.silence_alerts('{w}', 'Known', now() + interval '1 hour', dedup_glob => '{key}')"
            ))?;
            if let Some(silence) = first(&silence) {
                run(format!("SELECT codex.lift_silence('{w}', '{silence}')"))?;
            }
        }
        3 | 4 => {
            let metric = *dice.pick(&["posts", "likes"]);
            run(format!(
                "SELECT * FROM codex.record_metric_event('{w}', '{user}', '{metric}', 1, 'event {once}', notify => true)"
            ))?;
        }
        5 => {
            let achievement = dice.pick(&ground.achievements);
            run(format!(
                "SELECT * FROM codex.unlock_achievement('{user}', '{achievement}', '{w}')"
            ))?;
        }
        6 => {
            run(format!(
                "SELECT codex.adjust_points('{w}', '{user}', {}, 'A gift', 'gift {once} {user}')",
                1 + once
            ))?;
        }
        7 => {
            run(format!(
                "SELECT * FROM codex.evaluate_achievements('{w}', '{user}', true)"
            ))?;
        }
        8 => {
            let to = *dice.pick(&["paused", "active"]);
            run(format!(
                "SELECT * FROM codex.transition_campaign('{campaign}', '{to}')"
            ))?;
        }
        9 | 10 => {
            run(format!(
                "SELECT * FROM codex.spend_campaign_budget('{campaign}', {}, 'Ads', idempotency_key => 'ads {once}')",
                1 + once
            ))?;
        }
        11 => {
            let (quest, parent) = (dice.pick(&ground.quests), dice.pick(&ground.quests));
            run(format!(
                "SELECT codex.reparent_quest('{quest}', '{parent}')"
            ))?;
        }
        12 => {
            let quest = dice.pick(&ground.quests);
            run(format!(
                "UPDATE public.campaign_quests SET status = '{}' WHERE id = '{quest}'",
                *dice.pick(&["in_progress", "completed"])
            ))?;
        }
        13 | 14 => {
            let reserved = run(format!(
                "SELECT reservation_id FROM codex.reserve_agent_budget('{w}', '{agent}', {}, 0.05)",
                1 + dice.below(60)
            ))?;
            if let Some(reservation) = first(&reserved) {
                run(if dice.once_in(2) {
                    format!("SELECT codex.release_agent_budget('{w}', '{reservation}')")
                } else {
                    format!("SELECT codex.settle_agent_budget('{w}', '{reservation}', 5, 0.01)")
                })?;
            }
        }
        15 => {
            run(format!(
                "SELECT codex.record_agent_execution('{w}', '{agent}', 1.5, 10, 5, 0.01, true, p_campaign_id => '{campaign}')"
            ))?;
        }
        16 => {
            run(format!(
                "SELECT codex.enqueue_agent_task('{w}', '{assignment}', 'write', idempotency_key => 'task {once} {assignment}')"
            ))?;
        }
        17 => {
            let claimed = run(format!(
                "SELECT task_id, lease_token FROM codex.claim_agent_tasks('worker {number}', 2)"
            ))?;
            for (task, token) in claims(claimed) {
                run(match dice.below(3) {
                    0 => format!("SELECT codex.complete_agent_task('{w}', '{task}', '{token}')"),
                    1 => format!(
                        "SELECT codex.fail_agent_task('{w}', '{task}', '{token}', 'No', '0 seconds')"
                    ),
                    _ => format!("SELECT codex.heartbeat_agent_task('{w}', '{task}', '{token}')"),
                })?;
            }
        }
        18 | 19 => {
            let channel = *dice.pick(&["in_app", "email"]);
            run(format!(
                "SELECT codex.send_user_notification('{w}', '{user}', 'message', 'News', 'There is news', '{channel}',
                     p_idempotency_key => 'news {once} {user} {channel}')"
            ))?;
        }
        20 => {
            let claimed = run(format!(
                "SELECT notification_id, lease_token FROM codex.claim_notifications('email', 'worker {number}', 3)"
            ))?;
            for (id, token) in claims(claimed) {
                run(if dice.once_in(3) {
                    format!(
                        "SELECT codex.fail_delivery('{w}', '{id}', '{token}', 'No', '0 seconds')"
                    )
                } else {
                    format!("SELECT codex.complete_delivery('{w}', '{id}', '{token}')")
                })?;
            }
        }
        21 => {
            let mark = *dice.pick(&["seen", "read", "archived"]);
            run(format!(
                "SELECT codex.mark_inbox('{w}', '{user}', '{mark}')"
            ))?;
        }
        22 => {
            run(format!(
                "SELECT codex.add_to_digest('{w}', '{user}', '{key}', 'Somebody', 'said so', idempotency_key => 'item {once} {user} {key}')"
            ))?;
            if dice.once_in(2) {
                run(format!(
                    "SELECT codex.send_digest('{w}', '{user}', '{key}')"
                ))?;
            }
        }
        23 => {
            let signal = run(format!(
                "SELECT signal_id FROM codex.ingest_signal('{w}', 'competitor', 'Rival does {key}', 'competitor_activity',
                     'source {}', confidence => {})",
                dice.below(4),
                20 + once
            ))?;
            if let Some(signal) = first(&signal) {
                run(format!(
                    "SELECT codex.create_insight_from_signals('{w}', ARRAY['{signal}'::uuid], 'It follows', 'trend', ARRAY['So'], '{user}')"
                ))?;
            }
        }
        24 => {
            run(format!("SELECT * FROM codex.refresh_insights('{w}')"))?;
        }
        _ => {
            run("SELECT * FROM codex.run_maintenance(50)".to_string())?;
        }
    }
    Ok(())
}

#[test]
fn nobody_waits_in_a_circle_and_every_sum_is_that_of_its_parts() {
    let mut scene = Scene::new();
    let ground = lay(&mut scene);
    let seed = seed("all engines at once");
    let calls = setting("CODEX_TEST_STEPS", 500) / 4;
    scene.db.parallel(8, |number, client| {
        let mut dice = Dice::new(seed, number as u64);
        for _ in 0..calls {
            if let Err(error) = anything(client, &mut dice, &ground, number) {
                // What the rules of a state forbid, when another one was faster; a value that does not fit any more.
                assert!(
                    ["55000", "P0002", "22023"].contains(&sqlstate(&error).as_str()),
                    "{}",
                    error_message(&error)
                );
            }
        }
    });
    let admin = &mut scene.admin;
    for (what, sql) in [
        ("points", "SELECT count(*) FROM codex.reconcile_points()"),
        (
            "money of campaigns",
            "SELECT count(*) FROM codex.campaign_life AS l JOIN public.campaigns AS c ON c.id = l.campaign_id
             WHERE l.spent_amount <> (SELECT coalesce(sum(s.amount), 0) FROM codex.campaign_spending AS s WHERE s.campaign_id = c.id)
                OR l.spent_amount > c.allocated_budget_amount",
        ),
        ("histories of alerts", BROKEN_HISTORIES),
        (
            "open alerts under one key",
            "SELECT count(*) FROM (
                 SELECT FROM public.system_alerts WHERE status IN ('active', 'acknowledged') GROUP BY dedup_key HAVING count(*) > 1
             ) AS twice",
        ),
        (
            "reservations of budgets",
            "SELECT count(*) FROM codex.agent_budget_periods AS p
             WHERE p.tokens_reserved <> (
                 SELECT coalesce(sum(r.tokens), 0) FROM codex.budget_reservations AS r
                 WHERE r.status = 'reserved' AND p.id = ANY (r.period_ids)
             )",
        ),
        (
            "executions and what assignments are credited with",
            "SELECT count(*) FROM (
                 SELECT (SELECT coalesce(sum(execution_count), 0) FROM public.agent_performance) AS executions,
                        (SELECT coalesce(sum(tasks_completed + tasks_failed), 0) FROM public.agent_assignments) AS credited
             ) AS s WHERE executions > credited",
        ),
        (
            "keys that were sent twice",
            "SELECT count(*) FROM (
                 SELECT FROM public.user_notifications WHERE idempotency_key IS NOT NULL GROUP BY idempotency_key HAVING count(*) > 1
             ) AS twice",
        ),
        ("schema", "SELECT count(*) FROM codex.verify() WHERE NOT passed"),
    ] {
        let wrong: i64 = admin
            .query_one(sql, &[])
            .unwrap_or_else(|error| panic!("{what}: {}", error_message(&error)))
            .get(0);
        assert_eq!(wrong, 0, "{what}");
    }
}
