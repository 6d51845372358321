//! A statement that is cancelled half-way leaves nothing behind: no row, no setting, no session that works
//! differently from before.

use crate::dice::{Dice, seed, setting};
use crate::picture::tables;
use crate::story;
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Failure, value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A function and a query that makes new input for it and gives the call.
struct Case {
    function: &'static str,
    call: &'static str,
    writes: bool,
}

const fn writes(function: &'static str, call: &'static str) -> Case {
    Case {
        function,
        call,
        writes: true,
    }
}

const fn reads(function: &'static str, call: &'static str) -> Case {
    Case {
        function,
        call,
        writes: false,
    }
}

/// What the queries below begin with: a workspace (w), one of its users (u), an agent (a), a campaign (c).
const SOMEWHERE: &str = "WITH somewhere AS (
    SELECT w.id AS w, m.user_id AS u, a.id AS a, c.id AS c
    FROM public.workspaces AS w
    JOIN public.workspace_members AS m ON m.workspace_id = w.id
    JOIN public.campaigns AS c ON c.workspace_id = w.id, public.agent_registry AS a
    WHERE m.role = 'member'
    LIMIT 1
)";

const CASES: &[Case] = &[
    writes(
        "unlock_achievement",
        "made AS (
             INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type, points_reward)
             SELECT w, 'New', 'milestone', 'count', 7 FROM somewhere RETURNING id
         )
         SELECT format('SELECT codex.unlock_achievement(%L, %L, %L)', u, id, w) FROM somewhere, made",
    ),
    writes(
        "record_agent_execution",
        "made AS (SELECT gen_random_uuid() AS id)
         SELECT format('SELECT codex.record_agent_execution(%L, %L, 1, 1, 1, 1, true, %L, %L)', w, a, c, id) FROM somewhere, made",
    ),
    writes(
        "create_insight_from_signals",
        "made AS (
             INSERT INTO public.intelligence_signals (workspace_id, source_type, signal_title, signal_category, confidence_score)
             SELECT w, 'market', 'New', 'market_trend', 50 FROM somewhere, generate_series(1, 3) RETURNING id
         )
         SELECT format('SELECT codex.create_insight_from_signals(%L, %L, ''T'', ''trend'', ARRAY[''C''], %L)', w, array_agg(id), u)
         FROM somewhere, made GROUP BY w, u",
    ),
    writes(
        "create_system_alert",
        "made AS (SELECT gen_random_uuid() AS id)
         SELECT format('SELECT codex.create_system_alert(%L, ''error'', ''low'', ''T'', ''D'', %L, %L, p_dedup_key => %L)', w, a, c, id)
         FROM somewhere, made",
    ),
    writes(
        "create_system_alert",
        "made AS (SELECT codex.create_system_alert(w, 'error', 'low', 'T', 'D', p_dedup_key => 'cancel') FROM somewhere)
         SELECT format('SELECT codex.create_system_alert(%L, ''error'', ''low'', ''T'', ''D'', p_dedup_key => ''cancel'')', w)
         FROM somewhere, made",
    ),
    writes(
        "acknowledge_alert",
        "made AS (SELECT codex.create_system_alert(w, 'error', 'low', 'T', 'D') AS id FROM somewhere)
         SELECT format('SELECT codex.acknowledge_alert(%L, %L)', id, u) FROM somewhere, made",
    ),
    writes(
        "resolve_alert",
        "made AS (SELECT codex.create_system_alert(w, 'error', 'low', 'T', 'D') AS id FROM somewhere)
         SELECT format('SELECT codex.resolve_alert(%L, %L, ''done'')', id, u) FROM somewhere, made",
    ),
    writes(
        "dismiss_alert",
        "made AS (SELECT codex.create_system_alert(w, 'error', 'low', 'T', 'D') AS id FROM somewhere)
         SELECT format('SELECT codex.dismiss_alert(%L, %L)', id, u) FROM somewhere, made",
    ),
    writes(
        "send_user_notification",
        "made AS (SELECT gen_random_uuid() AS id)
         SELECT format('SELECT codex.send_user_notification(%L, %L, ''alert'', ''T'', ''M'', p_idempotency_key => %L, p_campaign_id => %L)', w, u, id, c)
         FROM somewhere, made",
    ),
    writes(
        "send_user_notifications",
        "made AS (SELECT array_agg(m.user_id) AS ids FROM public.workspace_members AS m, somewhere WHERE m.workspace_id = w)
         SELECT format('SELECT codex.send_user_notifications(%L, %L, ''alert'', ''T'', ''M'')', w, ids) FROM somewhere, made",
    ),
    writes(
        "mark_notification_as_read",
        "made AS (SELECT codex.send_user_notification(w, u, 'alert', 'T', 'M') AS id FROM somewhere)
         SELECT format('SELECT codex.mark_notification_as_read(%L)', id) FROM made",
    ),
    writes(
        "mark_all_notifications_read",
        "made AS (SELECT codex.send_user_notification(w, u, 'alert', 'T', 'M') AS id FROM somewhere)
         SELECT format('SELECT codex.mark_all_notifications_read(%L, now() + ''1 day'')', u) FROM somewhere, made",
    ),
    // The trigger that passes a change on to the campaign.
    writes(
        "update_campaign_timestamp",
        "made AS (SELECT 'x')
         SELECT format('INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES (%L, %L, ''New'')', w, c)
         FROM somewhere, made",
    ),
    reads(
        "agent_performance_summary",
        "made AS (SELECT 'x') SELECT format('SELECT codex.agent_performance_summary(%L)', w) FROM somewhere, made",
    ),
    reads(
        "get_active_insights",
        "made AS (SELECT 'x') SELECT format('SELECT codex.get_active_insights(%L)', w) FROM somewhere, made",
    ),
    reads(
        "get_critical_alerts",
        "made AS (SELECT 'x') SELECT format('SELECT codex.get_critical_alerts(%L)', w) FROM somewhere, made",
    ),
    reads(
        "get_priority_signals",
        "made AS (SELECT 'x') SELECT format('SELECT codex.get_priority_signals(%L)', w) FROM somewhere, made",
    ),
    reads(
        "get_user_unread_notifications",
        "made AS (SELECT 'x') SELECT format('SELECT codex.get_user_unread_notifications(%L)', u) FROM somewhere, made",
    ),
    reads(
        "is_workspace_member",
        "made AS (SELECT 'x') SELECT format('SELECT codex.is_workspace_member(%L, %L)', w, u) FROM somewhere, made",
    ),
    reads(
        "enter_workspace",
        "made AS (SELECT 'x') SELECT format('SELECT codex.enter_workspace(%L, %L)', w, u) FROM somewhere, made",
    ),
    // The engines.
    writes(
        "add_to_digest",
        "made AS (SELECT gen_random_uuid() AS id)
         SELECT format('SELECT codex.add_to_digest(%L, %L, %L, ''T'', ''M'')', w, u, id) FROM somewhere, made",
    ),
    writes(
        "send_digest",
        "made AS (SELECT gen_random_uuid()::text AS id)
         SELECT format('SELECT codex.send_digest(%L, %L, %L)', w, u, id)
         FROM somewhere, made, LATERAL codex.add_to_digest(w, u, id, 'T', 'M') AS added
         WHERE added IS NOT NULL",
    ),
    writes(
        "adjust_points",
        "made AS (SELECT 'x') SELECT format('SELECT codex.adjust_points(%L, %L, 1, ''Why'')', w, u) FROM somewhere, made",
    ),
    reads(
        "reconcile_points",
        "made AS (SELECT 'x') SELECT format('SELECT codex.reconcile_points(%L, true)', w) FROM somewhere, made",
    ),
    writes(
        "record_metric_event",
        "made AS (SELECT gen_random_uuid() AS id)
         SELECT format('SELECT codex.record_metric_event(%L, %L, ''moves_executed'', 1, %L)', w, u, id) FROM somewhere, made",
    ),
    reads(
        "evaluate_achievements",
        "made AS (SELECT 'x') SELECT format('SELECT codex.evaluate_achievements(%L, %L)', w, u) FROM somewhere, made",
    ),
    reads(
        "explain_achievement",
        "made AS (SELECT id FROM public.achievements, somewhere WHERE workspace_id = w LIMIT 1)
         SELECT format('SELECT codex.explain_achievement(%L, %L)', id, u) FROM somewhere, made",
    ),
    reads(
        "unfit_achievements",
        "made AS (SELECT 'x') SELECT 'SELECT codex.unfit_achievements()' FROM made",
    ),
    reads(
        "leaderboard",
        "made AS (SELECT 'x') SELECT format('SELECT codex.leaderboard(%L)', w) FROM somewhere, made",
    ),
    reads(
        "set_user_time_zone",
        "made AS (SELECT 'x') SELECT format('SELECT codex.set_user_time_zone(%L, %L, ''Asia/Tokyo'')', w, u) FROM somewhere, made",
    ),
    reads(
        "set_quiet_hours",
        // Of somebody who gets no mail here.
        "made AS (SELECT m.user_id AS id FROM public.workspace_members AS m, somewhere WHERE m.workspace_id = w AND m.role = 'owner')
         SELECT format('SELECT codex.set_quiet_hours(%L, %L, ''21:00'', ''06:00'', ''Asia/Tokyo'')', w, id) FROM somewhere, made",
    ),
    reads(
        "set_notification_preference",
        "made AS (SELECT 'x')
         SELECT format('SELECT codex.set_notification_preference(%L, %L, ''push'', false)', w, u) FROM somewhere, made",
    ),
    writes(
        "enqueue_agent_task",
        "made AS (SELECT g.id FROM public.agent_assignments AS g, somewhere WHERE g.workspace_id = w LIMIT 1)
         SELECT format('SELECT codex.enqueue_agent_task(%L, %L, ''cancel'')', w, id) FROM somewhere, made",
    ),
    writes(
        "claim_agent_tasks",
        "made AS (
             SELECT codex.enqueue_agent_task(w, g.id, 'cancel') AS id
             FROM public.agent_assignments AS g, somewhere WHERE g.workspace_id = w LIMIT 1
         )
         SELECT 'SELECT codex.claim_agent_tasks(''cancel'', 1)' FROM made WHERE id IS NOT NULL",
    ),
    writes(
        "cancel_agent_task",
        "made AS (
             SELECT codex.enqueue_agent_task(w, g.id, 'cancel') AS id
             FROM public.agent_assignments AS g, somewhere WHERE g.workspace_id = w LIMIT 1
         )
         SELECT format('SELECT codex.cancel_agent_task(%L, %L)', w, id) FROM somewhere, made",
    ),
    writes("complete_agent_task", CLAIMED_TASK_COMPLETE),
    writes("fail_agent_task", CLAIMED_TASK_FAIL),
    writes("heartbeat_agent_task", CLAIMED_TASK_HEARTBEAT),
    writes("requeue_agent_task", DEAD_TASK),
    writes("complete_delivery", CLAIMED_MAIL_COMPLETE),
    writes("fail_delivery", CLAIMED_MAIL_FAIL),
    writes("requeue_delivery", DEAD_MAIL),
    writes(
        "claim_notifications",
        "made AS (SELECT codex.send_user_notification(w, u, 'message', 'T', 'M', 'slack') AS id FROM somewhere)
         SELECT 'SELECT codex.claim_notifications(''slack'', ''cancel'', 1)' FROM made WHERE id IS NOT NULL",
    ),
    writes(
        "mark_inbox",
        "made AS (SELECT codex.send_user_notification(w, u, 'alert', 'T', 'M') AS id FROM somewhere)
         SELECT format('SELECT codex.mark_inbox(%L, %L, ''read'', now() + ''1 day'')', w, u) FROM somewhere, made WHERE id IS NOT NULL",
    ),
    writes(
        "mark_notifications",
        "made AS (SELECT codex.send_user_notification(w, u, 'alert', 'T', 'M') AS id FROM somewhere)
         SELECT format('SELECT codex.mark_notifications(%L, %L, ''archived'', ARRAY[%L]::uuid[])', w, u, id) FROM somewhere, made",
    ),
    reads("inbox", "made AS (SELECT 'x') SELECT format('SELECT codex.inbox(%L, %L)', w, u) FROM somewhere, made"),
    reads("inbox_counts", "made AS (SELECT 'x') SELECT format('SELECT codex.inbox_counts(%L, %L)', w, u) FROM somewhere, made"),
    writes(
        "set_agent_budget",
        "made AS (SELECT 1000000 + floor(random() * 1000000)::bigint AS id)
         SELECT format('SELECT codex.set_agent_budget(%L, ''day'', NULL, %L)', w, id) FROM somewhere, made",
    ),
    writes(
        "reserve_agent_budget",
        "made AS (SELECT 'x') SELECT format('SELECT codex.reserve_agent_budget(%L, %L, 1)', w, a) FROM somewhere, made",
    ),
    writes(
        "release_agent_budget",
        "made AS (SELECT r.reservation_id AS id FROM somewhere, LATERAL codex.reserve_agent_budget(w, a, 1) AS r)
         SELECT format('SELECT codex.release_agent_budget(%L, %L)', w, id) FROM somewhere, made",
    ),
    writes(
        "settle_agent_budget",
        "made AS (SELECT r.reservation_id AS id FROM somewhere, LATERAL codex.reserve_agent_budget(w, a, 1) AS r)
         SELECT format('SELECT codex.settle_agent_budget(%L, %L, 1)', w, id) FROM somewhere, made",
    ),
    reads("agent_budget_status", "made AS (SELECT 'x') SELECT format('SELECT codex.agent_budget_status(%L)', w) FROM somewhere, made"),
    writes(
        "seed_agents",
        "made AS (SELECT gen_random_uuid() AS id)
         SELECT format('SELECT codex.seed_agents(%L)', json_build_array(json_build_object('agent_name', id, 'agent_type', 'lord')))
         FROM made",
    ),
    reads("find_agents", "made AS (SELECT 'x') SELECT 'SELECT codex.find_agents(''reads'')' FROM made"),
    writes(
        "silence_alerts",
        "made AS (SELECT 'x')
         SELECT format('SELECT codex.silence_alerts(%L, ''Why'', now() + ''1 day'', dedup_glob => ''none'')', w) FROM somewhere, made",
    ),
    writes(
        "lift_silence",
        "made AS (SELECT codex.silence_alerts(w, 'Why', now() + '1 day', dedup_glob => 'none') AS id FROM somewhere)
         SELECT format('SELECT codex.lift_silence(%L, %L)', w, id) FROM somewhere, made",
    ),
    writes(
        "reopen_alert",
        "made AS (SELECT codex.create_system_alert(w, 'error', 'low', 'T', 'D') AS id FROM somewhere),
         resolved AS (SELECT id, codex.resolve_alert(id, u) FROM somewhere, made)
         SELECT format('SELECT codex.reopen_alert(%L, %L)', id, u) FROM somewhere, resolved",
    ),
    reads(
        "alert_sla",
        "made AS (SELECT 'x') SELECT format('SELECT codex.alert_sla(%L, now() - interval ''1 day'', now())', w) FROM somewhere, made",
    ),
    writes(
        "ingest_signal",
        "made AS (SELECT gen_random_uuid() AS id)
         SELECT format('SELECT codex.ingest_signal(%L, ''market'', %L, ''market_trend'', confidence => 50)', w, id) FROM somewhere, made",
    ),
    reads("refresh_insights", "made AS (SELECT 'x') SELECT format('SELECT codex.refresh_insights(%L)', w) FROM somewhere, made"),
    reads("get_current_signals", "made AS (SELECT 'x') SELECT format('SELECT codex.get_current_signals(%L)', w) FROM somewhere, made"),
    reads("half_lives", "made AS (SELECT 'x') SELECT format('SELECT codex.half_lives(%L)', w) FROM somewhere, made"),
    reads(
        "explain_insight",
        "made AS (SELECT i.id FROM public.market_insights AS i, somewhere WHERE i.workspace_id = w LIMIT 1)
         SELECT format('SELECT codex.explain_insight(%L)', id) FROM made",
    ),
    writes(
        "transition_campaign",
        "made AS (INSERT INTO public.campaigns (workspace_id, name) SELECT w, gen_random_uuid()::text FROM somewhere RETURNING id)
         SELECT format('SELECT codex.transition_campaign(%L, ''planning'')', id) FROM made",
    ),
    writes(
        "spend_campaign_budget",
        "made AS (SELECT k.id FROM public.campaigns AS k WHERE k.allocated_budget_amount > 10 LIMIT 1)
         SELECT format('SELECT codex.spend_campaign_budget(%L, 0.001, ''Posters'')', id) FROM made",
    ),
    writes(
        "reparent_quest",
        "made AS (SELECT q.id FROM public.campaign_quests AS q, somewhere WHERE q.campaign_id = c AND q.parent_quest_id IS NOT NULL LIMIT 1)
         SELECT format('SELECT codex.reparent_quest(%L, NULL, %s)', id, floor(random() * 1000000)) FROM made",
    ),
    reads("campaign_progress", "made AS (SELECT 'x') SELECT format('SELECT codex.campaign_progress(%L)', c) FROM somewhere, made"),
    reads("campaign_state", "made AS (SELECT 'x') SELECT format('SELECT codex.campaign_state(%L)', c) FROM somewhere, made"),
    reads("campaign_transitions", "made AS (SELECT 'x') SELECT format('SELECT codex.campaign_transitions(%L)', c) FROM somewhere, made"),
    writes(
        "erase_user",
        "made AS (INSERT INTO public.users (id, email) VALUES (gen_random_uuid(), gen_random_uuid()::text) RETURNING id)
         SELECT format('SELECT codex.erase_user(%L, true)', id) FROM made",
    ),
    writes(
        "erase_workspace",
        "made AS (INSERT INTO public.workspaces (name) VALUES ('Goes') RETURNING id)
         SELECT format('SELECT codex.erase_workspace(%L)', id) FROM made",
    ),
    reads("export_workspace", "made AS (SELECT 'x') SELECT format('SELECT codex.export_workspace(%L)', w) FROM somewhere, made"),
    reads("run_maintenance", "made AS (SELECT 'x') SELECT 'SELECT codex.run_maintenance()' FROM made"),
    reads("upkeep_achievements", "made AS (SELECT 'x') SELECT 'SELECT codex.upkeep_achievements()' FROM made"),
    reads("upkeep_agents", "made AS (SELECT 'x') SELECT 'SELECT codex.upkeep_agents()' FROM made"),
    reads("upkeep_alerts", "made AS (SELECT 'x') SELECT 'SELECT codex.upkeep_alerts()' FROM made"),
    reads("upkeep_notifications", "made AS (SELECT 'x') SELECT 'SELECT codex.upkeep_notifications()' FROM made"),
    // For the DBA.
    reads("status", "made AS (SELECT 'x') SELECT 'SELECT count(*) FROM codex.status()' FROM made"),
    reads("verify", "made AS (SELECT 'x') SELECT 'SELECT count(*) FROM codex.verify()' FROM made"),
    reads("verify_or_raise", "made AS (SELECT 'x') SELECT 'SELECT codex.verify_or_raise()' FROM made"),
    reads(
        "isolation_selftest",
        "made AS (SELECT 'x') SELECT 'SELECT count(*) FROM codex.isolation_selftest()' FROM made",
    ),
    reads("isolation_report", "made AS (SELECT 'x') SELECT 'SELECT count(*) FROM codex.isolation_report()' FROM made"),
    reads(
        "protect",
        "made AS (SELECT 'x') SELECT 'SELECT codex.unprotect(''public.moves''); SELECT codex.protect(''public.moves'', subquery => true)' FROM made",
    ),
    reads(
        "unprotect",
        "made AS (SELECT 'x') SELECT 'SELECT codex.unprotect(''public.cohorts''); SELECT codex.protect(''public.cohorts'')' FROM made",
    ),
    reads(
        "protect_shared",
        "made AS (SELECT 'x')
         SELECT 'SELECT codex.unprotect(''public.moves''); SELECT codex.protect_shared(''public.moves'');
                 SELECT codex.unprotect(''public.moves''); SELECT codex.protect(''public.moves'')' FROM made",
    ),
    reads("grant_member_role", "made AS (SELECT 'x') SELECT 'SELECT codex.grant_member_role(''{role}'')' FROM made"),
    reads("grant_service_role", "made AS (SELECT 'x') SELECT 'SELECT codex.grant_service_role(''{service}'')' FROM made"),
    reads("grant_operator_role", "made AS (SELECT 'x') SELECT 'SELECT codex.grant_operator_role(''{operator}'')' FROM made"),
    reads(
        "revoke_role",
        "made AS (SELECT 'x') SELECT 'SELECT codex.revoke_role(''{role}''); SELECT codex.grant_member_role(''{role}'')' FROM made",
    ),
    reads("settle_grants", "made AS (SELECT 'x') SELECT 'SELECT codex.settle_grants()' FROM made"),
    reads("expose", "made AS (SELECT 'x') SELECT 'SELECT codex.expose(''exposed'')' FROM made"),
    reads(
        "unexpose",
        "made AS (SELECT 'x') SELECT 'SELECT codex.unexpose(''exposed''); SELECT codex.expose(''exposed'')' FROM made",
    ),
    reads(
        "migrate",
        "made AS (SELECT 'x') SELECT 'SELECT codex.migrate()' FROM made",
    ),
    writes(
        "rollback",
        "made AS (SELECT 'x') SELECT 'SELECT codex.rollback(16, true); SELECT codex.migrate()' FROM made",
    ),
];

/// Functions that read no table of anybody's and wait for nothing: what the session or the catalog says.
const NEVER_WAIT: &[&str] = &[
    "acts_for_workspace",
    "current_user_id",
    "current_workspace_id",
    "departure_plan",
    "function_shape",
    "is_erasing",
    "migration_sql",
    "rule_metrics",
    "schema_shape",
    "unprotected_tables",
    "uuid_v7",
];

/// A task that a worker holds: what it calls next.
macro_rules! claimed_task {
    ($call:literal) => {
        concat!(
            "made AS (
                 SELECT codex.enqueue_agent_task(w, g.id, 'cancel', priority => 'critical') AS id
                 FROM public.agent_assignments AS g, somewhere WHERE g.workspace_id = w LIMIT 1
             ),
             claimed AS (SELECT t.* FROM made, LATERAL codex.claim_agent_tasks(left('cancel' || id, 20), 1000) AS t LIMIT 1) ",
            $call
        )
    };
}
const CLAIMED_TASK_COMPLETE: &str = claimed_task!(
    "SELECT format('SELECT codex.complete_agent_task(%L, %L, %L)', workspace_id, task_id, lease_token) FROM claimed"
);
const CLAIMED_TASK_FAIL: &str = claimed_task!(
    "SELECT format('SELECT codex.fail_agent_task(%L, %L, %L, ''No'')', workspace_id, task_id, lease_token) FROM claimed"
);
const CLAIMED_TASK_HEARTBEAT: &str = claimed_task!(
    "SELECT format('SELECT codex.heartbeat_agent_task(%L, %L, %L, ''1 hour'')', workspace_id, task_id, lease_token) FROM claimed"
);
const DEAD_TASK: &str = claimed_task!(
    ", dead AS (SELECT c.*, codex.fail_agent_task(workspace_id, task_id, lease_token, 'No', permanent => true) FROM claimed AS c)
     SELECT format('SELECT codex.requeue_agent_task(%L, %L)', workspace_id, task_id) FROM dead"
);

/// The same of a notification on its way.
macro_rules! claimed_mail {
    ($call:literal) => {
        concat!(
            "made AS (SELECT codex.send_user_notification(w, u, 'message', 'T', 'M', 'slack') AS id FROM somewhere),
             claimed AS (SELECT n.* FROM made, LATERAL codex.claim_notifications('slack', left('cancel' || id, 20), 1000) AS n LIMIT 1) ",
            $call
        )
    };
}
const CLAIMED_MAIL_COMPLETE: &str = claimed_mail!(
    "SELECT format('SELECT codex.complete_delivery(%L, %L, %L)', workspace_id, notification_id, lease_token) FROM claimed"
);
const CLAIMED_MAIL_FAIL: &str = claimed_mail!(
    "SELECT format('SELECT codex.fail_delivery(%L, %L, %L, ''No'')', workspace_id, notification_id, lease_token) FROM claimed"
);
const DEAD_MAIL: &str = claimed_mail!(
    ", dead AS (SELECT c.*, codex.fail_delivery(workspace_id, notification_id, lease_token, 'No', permanent => true) FROM claimed AS c)
     SELECT format('SELECT codex.requeue_delivery(%L, %L)', workspace_id, notification_id) FROM dead"
);

/// What a call waits for when somebody else has it: the tables it locked in a transaction that is rolled back, and how
/// strongly, and whether it takes turns with others that change definitions or privileges.
fn waits_for(admin: &mut Client, call: &str) -> Vec<Hold> {
    admin.batch_execute("BEGIN").expect("begins");
    admin
        .batch_execute(call)
        .unwrap_or_else(|error| panic!("{call}: {:?}", Failure::from(&error)));
    let holds = admin
        .query(
            "SELECT DISTINCT format('%I.%I', n.nspname, c.relname),
                    bool_or(l.mode NOT IN ('AccessShareLock', 'RowShareLock')) OVER (PARTITION BY c.oid)
             FROM pg_locks AS l
             JOIN pg_class AS c ON c.oid = l.relation
             JOIN pg_namespace AS n ON n.oid = c.relnamespace
             WHERE l.pid = pg_backend_pid()
               AND c.relkind = 'r'
               AND n.nspname IN ('public', 'codex')
             UNION ALL
             SELECT DISTINCT 'advisory', true
             FROM pg_locks AS l
             WHERE l.pid = pg_backend_pid()
               AND l.locktype = 'advisory'
               AND (l.classid, l.objid) = (1129268312::oid, 1::oid)
             ORDER BY 1",
            &[],
        )
        .expect("the locks")
        .iter()
        .map(|row| (row.get::<_, String>(0), row.get::<_, bool>(1)))
        .flat_map(|(table, changes)| {
            let one = |statement: String| Hold {
                what: table.clone(),
                statement,
            };
            if table == "advisory" {
                return vec![one("SELECT pg_advisory_xact_lock(1129268312, 1)".to_string())];
            }
            let mut holds = vec![one(format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))];
            if changes {
                // It gets further where reading is possible.
                holds.push(one(format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")));
            }
            holds
        })
        .collect();
    admin.batch_execute("ROLLBACK").expect("rolls back");
    holds
}

/// What somebody else does, so that a call waits.
struct Hold {
    what: String,
    statement: String,
}

/// Everything that a call could leave behind: rows, definitions, privileges, roles, and what lives in the session.
struct Watch {
    database: String,
}

impl Watch {
    fn new(admin: &mut Client) -> Self {
        let rows: Vec<String> = tables(admin)
            .iter()
            .map(|table| {
                format!(
                    "(SELECT '{table} ' || count(*) || coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '')
                      FROM {table} AS t)"
                )
            })
            .collect();
        Self {
            database: format!(
                "SELECT concat_ws(E'\\n', {},
                     (SELECT md5(string_agg(s::text, '' ORDER BY s::text)) FROM codex.schema_shape() AS s),
                     (SELECT md5(string_agg(c.relname || c.relacl::text, '' ORDER BY c.oid)) FROM pg_class AS c WHERE c.relacl IS NOT NULL),
                     (SELECT count(*) FROM pg_roles WHERE rolname NOT LIKE 'codex_test_%'))",
                rows.join(", ")
            ),
        }
    }

    fn database(&self, admin: &mut Client) -> String {
        value(admin, &self.database, &[])
    }
}

/// What a session is set to, and whom it acts for.
fn session(client: &mut Client) -> String {
    value(
        client,
        "SELECT concat_ws(' | ', current_user, session_user, current_setting('search_path'), current_setting('lock_timeout'),
                    current_setting('row_security'), current_setting('statement_timeout'),
                    codex.current_workspace_id()::text, codex.current_user_id()::text, pg_catalog.pg_backend_pid(),
                    (SELECT count(*) FROM pg_cursors), (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'))",
        &[],
    )
}

/// How a waiting call is stopped.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Timeout,
    Cancel,
}

/// Runs a call that may wait for a lock, and stops it when it waits.
fn run_and_stop(db: &Database, client: &mut Client, call: &str, stop: Stop) -> Result<(), Failure> {
    let done = AtomicBool::new(false);
    let pid: i32 = value(client, "SELECT pg_backend_pid()", &[]);
    std::thread::scope(|scope| {
        if matches!(stop, Stop::Cancel) {
            let done = &done;
            scope.spawn(move || {
                let mut watcher = db.admin();
                while !done.load(Ordering::Relaxed) {
                    let waits: bool = value(
                        &mut watcher,
                        "SELECT cardinality(pg_blocking_pids($1)) > 0",
                        &[&pid],
                    );
                    if waits {
                        let _: bool = value(&mut watcher, "SELECT pg_cancel_backend($1)", &[&pid]);
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        } else {
            client
                .batch_execute("SET statement_timeout = '150ms'")
                .expect("sets a timeout");
        }
        let result = client
            .batch_execute(call)
            .map_err(|error| Failure::from(&error));
        done.store(true, Ordering::Relaxed);
        // The timeout may be as short as to stop this, too.
        while let Err(error) = client.batch_execute("RESET statement_timeout") {
            let failure = Failure::from(&error);
            assert_eq!(failure.sqlstate, "57014", "the session goes on: {failure}");
        }
        result
    })
}

/// The extension's functions, triggers aside.
fn functions(admin: &mut Client) -> Vec<String> {
    admin
        .query(
            "SELECT DISTINCT p.proname::text
             FROM pg_proc AS p
             JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
             JOIN pg_extension AS e ON e.oid = d.refobjid
             WHERE e.extname = 'raptorflow_codex'
               AND p.prorettype <> 'trigger'::regtype
             ORDER BY 1",
            &[],
        )
        .expect("the functions")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Every function, at several of the places where it can wait (`CODEX_CANCEL_PLACES`, which `make test-long` sets so high
/// that it is all of them).
#[test]
fn a_call_that_is_stopped_while_it_waits_leaves_nothing() {
    let places = setting("CODEX_CANCEL_PLACES", 2);
    let mut dice = Dice::new(seed("cancel"), 0);
    let db = Database::migrated();
    let mut admin = db.admin();
    story::tell(&mut admin);
    story::tell_of_the_engines(&mut admin);
    admin
        .batch_execute("CREATE SCHEMA exposed")
        .expect("a schema");
    let roles = ["role", "service", "operator"].map(|kind| (format!("{{{kind}}}"), db.role(kind)));
    for function in functions(&mut admin) {
        assert!(
            NEVER_WAIT.contains(&function.as_str())
                || CASES.iter().any(|case| case.function == function),
            "codex.{function} is not stopped by any test"
        );
    }
    let watch = Watch::new(&mut admin);
    let mut client = db.admin();
    let as_before = session(&mut client);
    let mut stopped = 0;
    for case in CASES {
        let prepare = |admin: &mut Client| -> String {
            let mut call: String = value(admin, &format!("{SOMEWHERE}, {}", case.call), &[]);
            for (word, role) in &roles {
                call = call.replace(word, role);
            }
            call
        };
        let mut holds = {
            let call = prepare(&mut admin);
            waits_for(&mut admin, &call)
        };
        if holds.is_empty() {
            // It takes back all it does, and with that its locks.
            holds.push(Hold {
                what: "public.campaigns".to_string(),
                statement: "LOCK TABLE public.campaigns IN ACCESS EXCLUSIVE MODE".to_string(),
            });
        }
        while holds.len() > places {
            let position = dice.below(holds.len());
            holds.remove(position);
        }
        let mut stopped_here = 0;
        for (position, hold) in holds.iter().enumerate() {
            let stop = if position % 2 == 0 {
                Stop::Timeout
            } else {
                Stop::Cancel
            };
            let call = prepare(&mut admin);
            let before = watch.database(&mut admin);
            let mut holder = db.admin();
            holder
                .batch_execute(&format!("BEGIN; {}", hold.statement))
                .unwrap_or_else(|error| panic!("{}: {error:?}", hold.statement));
            let result = run_and_stop(&db, &mut client, &call, stop);
            holder.batch_execute("ROLLBACK").expect("lets go");
            let Err(failure) = result else { continue };
            let what = format!(
                "codex.{} while another session had {} ({}), {stop:?}: {call}",
                case.function, hold.what, hold.statement
            );
            assert_eq!(failure.sqlstate, "57014", "{what}: {failure}");
            assert_eq!(
                before,
                watch.database(&mut admin),
                "{what} left something behind"
            );
            assert_eq!(
                as_before,
                session(&mut client),
                "{what} changed the session"
            );
            client
                .batch_execute(&call)
                .unwrap_or_else(|error| panic!("{what} does not run again: {error:?}"));
            if case.writes {
                assert_ne!(
                    before,
                    watch.database(&mut admin),
                    "{what} did nothing the second time"
                );
            }
            assert_eq!(
                as_before,
                session(&mut client),
                "{what} changed the session"
            );
            stopped_here += 1;
        }
        println!(
            "  {:<32} stopped at {stopped_here} of {} places",
            case.function,
            holds.len()
        );
        assert!(stopped_here > 0, "codex.{} never waited", case.function);
        stopped += stopped_here;
    }
    println!("{} calls, {stopped} stopped", CASES.len());
}

#[test]
fn a_call_that_is_stopped_inside_a_savepoint_can_be_made_again_in_the_same_transaction() {
    let db = Database::migrated();
    let mut admin = db.admin();
    story::tell(&mut admin);
    let watch = Watch::new(&mut admin);
    let mut client = db.admin();
    let as_before = session(&mut client);
    for (case, table) in [
        (&CASES[0], "public.user_stats"),
        (&CASES[1], "public.agent_assignments"),
        (&CASES[2], "codex.insight_signals"),
        (&CASES[4], "public.system_alerts"),
        (&CASES[9], "public.user_notifications"),
    ] {
        let call: String = value(&mut admin, &format!("{SOMEWHERE}, {}", case.call), &[]);
        let before = watch.database(&mut admin);
        let mut holder = db.admin();
        holder
            .batch_execute(&format!(
                "BEGIN; LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"
            ))
            .unwrap();
        client.batch_execute("BEGIN; SAVEPOINT s").unwrap();
        client
            .batch_execute("SET LOCAL statement_timeout = '100ms'")
            .unwrap();
        let failure = codex_pg_test::fails_with(client.batch_execute(&call), "57014");
        holder.batch_execute("ROLLBACK").unwrap();
        client
            .batch_execute(&format!("ROLLBACK TO SAVEPOINT s; {call}"))
            .unwrap_or_else(|error| panic!("{}, after {failure}: {error:?}", case.function));
        client.batch_execute("COMMIT").unwrap();
        let once = watch.database(&mut admin);
        assert_ne!(before, once, "{}", case.function);
        assert_eq!(as_before, session(&mut client), "{}", case.function);
    }
    let executions: (i64, i64) = {
        let row = admin
            .query_one(
                "SELECT (SELECT sum(execution_count)::bigint FROM public.agent_performance), (SELECT count(*) FROM codex.agent_executions)",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(executions.0, executions.1, "counted once");
}

/// Tries a statement under longer and longer timeouts until it goes through; gives how often it was stopped.
fn sweep(client: &mut Client, statement: &str, mut after_a_stop: impl FnMut(&mut Client)) -> usize {
    let mut stopped = 0;
    let mut milliseconds = 1_u64;
    loop {
        client
            .batch_execute(&format!("SET statement_timeout = {milliseconds}"))
            .expect("sets a timeout");
        let result = client
            .batch_execute(statement)
            .map_err(|error| Failure::from(&error));
        // The timeout may be as short as to stop this, too.
        while let Err(error) = client.batch_execute("RESET statement_timeout") {
            let failure = Failure::from(&error);
            assert_eq!(failure.sqlstate, "57014", "the session goes on: {failure}");
        }
        match result {
            Ok(()) => return stopped,
            Err(failure) => {
                assert_eq!(
                    failure.sqlstate, "57014",
                    "{statement} after {milliseconds} ms: {failure}"
                );
                stopped += 1;
                after_a_stop(client);
            }
        }
        milliseconds += 1 + milliseconds / 12;
        assert!(
            milliseconds < 60_000,
            "{statement} takes more than a minute"
        );
    }
}

#[test]
fn migrate_and_rollback_are_whole_or_not_at_all_wherever_a_timeout_hits() {
    let db = Database::with_extension();
    let mut client = db.admin();
    let as_before = session(&mut client);
    let objects = "SELECT count(*) || ' ' || (SELECT count(*) FROM pg_policy) || ' ' || (SELECT count(*) FROM pg_trigger)
                   FROM pg_class AS c WHERE c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace)";
    let nothing: String = value(&mut client, objects, &[]);
    let migrations = sweep(&mut client, "SELECT * FROM codex.migrate()", |client| {
        assert_eq!(nothing, value::<String>(client, objects, &[]));
        assert_eq!(as_before, session(client));
    });
    let everything: String = value(&mut client, objects, &[]);
    client
        .batch_execute("SELECT codex.verify_or_raise()")
        .expect("whole");
    let rollbacks = sweep(
        &mut client,
        "SELECT * FROM codex.rollback(0, true)",
        |client| {
            assert_eq!(everything, value::<String>(client, objects, &[]));
            assert_eq!(as_before, session(client));
        },
    );
    assert_eq!(nothing, value::<String>(&mut client, objects, &[]));
    client
        .batch_execute("SELECT codex.migrate()")
        .expect("and once more");
    // It makes rows and roles, and takes them back.
    let roles = "SELECT count(*) FROM pg_roles WHERE rolname NOT LIKE 'codex_test_%'";
    let before: i64 = value(&mut client, roles, &[]);
    let tests = sweep(
        &mut client,
        "SELECT * FROM codex.isolation_selftest()",
        |client| {
            assert_eq!(before, value::<i64>(client, roles, &[]));
            let rows: i64 = value(client, "SELECT count(*) FROM public.workspaces", &[]);
            assert_eq!(rows, 0);
            assert_eq!(as_before, session(client));
        },
    );
    println!(
        "stopped: {migrations} times migrate(), {rollbacks} times rollback(), {tests} times isolation_selftest()"
    );
    assert!(migrations > 5 && tests > 5, "{migrations} and {tests}");
}
