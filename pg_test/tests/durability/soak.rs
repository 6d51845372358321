//! Memory of a session stays what it is, however many calls it makes.

use crate::dice::setting;
use crate::story;
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Uuid, value};

const SESSIONS: usize = 8;

/// What a session holds, in kilobytes: in the contexts of Postgres, and as the operating system sees it (anonymous
/// memory: heap and stack. "Private" would count the shared buffers that no other session happened to touch).
#[derive(Clone, Copy, Debug)]
struct Memory {
    contexts: i64,
    anonymous: i64,
}

impl Memory {
    fn of(client: &mut Client) -> Self {
        let row = client
            .query_one(
                "SELECT pg_backend_pid(), (SELECT sum(total_bytes)::bigint / 1024 FROM pg_backend_memory_contexts)",
                &[],
            )
            .expect("the memory contexts");
        let (pid, contexts): (i32, i64) = (row.get(0), row.get(1));
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{path}: {error}; the server has to be on this machine, and readable")
        });
        let anonymous = text
            .lines()
            .find_map(|line| line.strip_prefix("Anonymous:"))
            .and_then(|amount| amount.trim().trim_end_matches(" kB").parse().ok())
            .unwrap_or_else(|| panic!("no Anonymous in {text}"));
        Self {
            contexts,
            anonymous,
        }
    }
}

/// Every function of the product and of the engines once, refusals among them; rows are made and go away, so that tables
/// stay small.
const ROUND: &str = "
    BEGIN;
    SELECT codex.enter_workspace('{w}', '{u}');
    SELECT codex.current_workspace_id(), codex.current_user_id(), codex.acts_for_workspace(), codex.is_workspace_member('{w}', '{u}');
    SELECT codex.unlock_achievement('{u}', a.id, '{w}') FROM public.achievements AS a WHERE a.workspace_id = '{w}';
    SELECT codex.record_agent_execution('{w}', a.id, n, 10, 20, 0.1, true, p_execution_id => gen_random_uuid())
    FROM public.agent_registry AS a, generate_series(1, 5) AS n;
    SELECT codex.agent_performance_summary('{w}');
    SELECT codex.acknowledge_alert(codex.create_system_alert('{w}', 'error', 'high', 'T', repeat('D', 5000), p_dedup_key => 'soak'), '{u}');
    SELECT codex.dismiss_alert(codex.create_system_alert('{w}', 'error', 'low', 'T', 'D'), '{u}');
    SELECT codex.mark_notification_as_read(codex.send_user_notification('{w}', '{u}', 'alert', 'T', 'M'));
    SELECT codex.send_user_notifications('{w}', ARRAY['{u}'::uuid], 'alert', 'T', 'M');
    SELECT codex.mark_all_notifications_read('{u}');
    SELECT codex.create_insight_from_signals('{w}', ARRAY(SELECT s.id FROM public.intelligence_signals AS s WHERE s.workspace_id = '{w}'),
               'T', 'trend', ARRAY['C'], '{u}');
    SELECT codex.get_active_insights('{w}');
    SELECT codex.get_active_insights('{w}', 3);
    SELECT codex.get_priority_signals('{w}');
    SELECT codex.get_critical_alerts('{w}');
    SELECT codex.get_user_unread_notifications('{u}');
    INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, parent_quest_id)
    SELECT q.workspace_id, q.campaign_id, 'Soaked', q.id FROM public.campaign_quests AS q WHERE q.workspace_id = '{w}' LIMIT 5;
    UPDATE public.user_stats SET moves_executed = moves_executed + 1 WHERE user_id = '{u}';
    SELECT codex.record_metric_event('{w}', '{u}', 'moves_executed', 1, gen_random_uuid()::text, notify => true);
    SELECT codex.evaluate_achievements('{w}', '{u}');
    SELECT codex.explain_achievement(a.id, '{u}') FROM public.achievements AS a WHERE a.workspace_id = '{w}';
    SELECT codex.adjust_points('{w}', '{u}', 1, 'A present', gen_random_uuid()::text);
    SELECT codex.leaderboard('{w}', around_user => '{u}');
    SELECT codex.campaign_progress(c.id), codex.campaign_state(c.id), codex.campaign_transitions(c.id)
    FROM public.campaigns AS c WHERE c.workspace_id = '{w}';
    SELECT codex.transition_campaign(c.id, 'archived', '{u}', 'Soaked', idempotency_key => gen_random_uuid()::text)
    FROM public.campaigns AS c WHERE c.workspace_id = '{w}' AND c.status = 'completed';
    SELECT codex.spend_campaign_budget(c.id, 1e-30, 'Posters')
    FROM public.campaigns AS c WHERE c.workspace_id = '{w}' AND c.name = 'Campaign 3';
    SELECT codex.lift_silence('{w}', codex.silence_alerts('{w}', 'Known', now() + interval '1 hour', dedup_glob => 'soak*'));
    SELECT codex.alert_sla('{w}', now() - interval '1 day', now());
    SELECT codex.add_to_digest('{w}', '{u}', 'soak', 'T', repeat('M', 3000));
    SELECT codex.send_digest('{w}', '{u}', 'soak');
    SELECT codex.complete_delivery(c.workspace_id, c.notification_id, c.lease_token)
    FROM codex.claim_notifications('email', 'soak', 5) AS c;
    SELECT codex.set_notification_preference('{w}', '{u}', 'sms', true);
    SELECT codex.set_quiet_hours('{w}', '{u}', '22:00', '07:00', 'Europe/Berlin');
    SELECT codex.inbox('{w}', '{u}'), codex.inbox_counts('{w}', '{u}'), codex.mark_inbox('{w}', '{u}', 'archived');
    SELECT codex.enqueue_agent_task('{w}', a.id, 'write', idempotency_key => gen_random_uuid()::text)
    FROM public.agent_assignments AS a WHERE a.workspace_id = '{w}' LIMIT 5;
    SELECT codex.complete_agent_task(c.workspace_id, c.task_id, c.lease_token) FROM codex.claim_agent_tasks('soak', 3) AS c;
    SELECT codex.settle_agent_budget('{w}', r.reservation_id, 3)
    FROM public.agent_registry AS a, LATERAL codex.reserve_agent_budget('{w}', a.id, 5) AS r WHERE r.reservation_id IS NOT NULL;
    SELECT codex.agent_budget_status('{w}'), codex.find_agents('reads');
    SELECT codex.ingest_signal('{w}', 'market', 'Soaked ' || n % 2, 'market_trend', 'source ' || n, confidence => 60)
    FROM generate_series(1, 4) AS n;
    SELECT codex.refresh_insights('{w}');
    SELECT codex.explain_insight(i.id) FROM public.market_insights AS i WHERE i.workspace_id = '{w}';
    SELECT codex.get_current_signals('{w}'), codex.half_lives('{w}');
    SAVEPOINT s;
    SELECT set_config('app.current_workspace_id', '{other}', true);
    SELECT count(*) FROM public.campaigns;
    ROLLBACK TO SAVEPOINT s;
    DO $$ BEGIN PERFORM codex.acknowledge_alert(gen_random_uuid(), '{u}'); EXCEPTION WHEN no_data_found THEN NULL; END $$;
    DO $$ BEGIN PERFORM codex.create_system_alert('{w}', 'nonsense', 'low', 'T', 'D'); EXCEPTION WHEN invalid_parameter_value THEN NULL; END $$;
    DO $$ BEGIN PERFORM codex.record_agent_execution('{w}', gen_random_uuid(), 1, 1, 1, 1, true); EXCEPTION WHEN foreign_key_violation THEN NULL; END $$;
    ROLLBACK";

/// How many statements of the round call functions, each at least once.
const CALLS_A_ROUND: usize = 90;

#[test]
fn memory_of_a_session_stays_flat() {
    // After the first rounds every cache is filled: what comes on top with each round would be a leak.
    const WARM_UP: usize = 30;
    let rounds = setting("CODEX_SOAK_ROUNDS", 60);
    let db = Database::migrated();
    let mut admin = db.admin();
    story::tell(&mut admin);
    story::tell_of_the_engines(&mut admin);
    let people: Vec<(Uuid, Uuid)> = admin
        .query(
            "SELECT workspace_id, user_id FROM public.workspace_members ORDER BY user_id",
            &[],
        )
        .expect("the members")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let other = people[0].0;
    let service = db.role("service");
    admin
        .batch_execute(&format!(
            "SELECT codex.grant_service_role('{service}'); GRANT pg_read_all_stats TO {service}"
        ))
        .expect("grants");

    let memories = db.parallel_as(&service, SESSIONS, |number, client| {
        let (workspace, user) = people[number % people.len()];
        let round = ROUND
            .replace("{w}", &workspace.to_string())
            .replace("{u}", &user.to_string())
            .replace("{other}", &other.to_string());
        let go = |client: &mut Client, rounds: usize| {
            for _ in 0..rounds {
                client
                    .batch_execute(&round)
                    .unwrap_or_else(|error| panic!("{error:?}"));
            }
        };
        go(client, WARM_UP);
        let before = Memory::of(client);
        go(client, rounds);
        (before, Memory::of(client))
    });
    for (number, (before, after)) in memories.iter().enumerate() {
        println!(
            "session {number}: {} calls, {} kB in contexts and {} kB anonymous before, {} and {} after",
            rounds * CALLS_A_ROUND,
            before.contexts,
            before.anonymous,
            after.contexts,
            after.anonymous
        );
    }
    for (before, after) in memories {
        // Room for a block of an allocator that happened to be taken, whatever the number of rounds.
        assert!(
            after.contexts <= before.contexts + 1024,
            "{before:?} {after:?}"
        );
        assert!(
            after.anonymous <= before.anonymous + 4096,
            "{before:?} {after:?}"
        );
    }
    let verified: bool = value(
        &mut admin,
        "SELECT bool_and(passed) FROM codex.verify()",
        &[],
    );
    assert!(verified);
}
