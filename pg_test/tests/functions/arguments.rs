//! Every argument of every function, given what no sane caller gives.
//!
//! The functions and the types of their arguments come from the catalog: a new function is in the test the day
//! it is there. Each call changes one argument of a call that is known to be good.

use crate::scene::{Scene, Signal, campaign};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Failure, Uuid, value};
use std::collections::BTreeMap;

/// What a function of the product may fail with: the list in the manual.
const SQLSTATES: &[&str] = &[
    "22004", "22023", "23503", "42501", "55000", "P0002", "55P03", "0A000",
];

/// The product's functions: these fail with the listed SQLSTATEs only. Of all others (migrate, protect …) the test
/// asks that they never fail with an internal error.
const PRODUCT: &[&str] = &[
    "acknowledge_alert",
    "add_to_digest",
    "adjust_points",
    "agent_budget_status",
    "agent_performance_summary",
    "alert_sla",
    "cancel_agent_task",
    "claim_agent_tasks",
    "campaign_progress",
    "campaign_state",
    "campaign_transitions",
    "claim_notifications",
    "complete_agent_task",
    "complete_delivery",
    "create_insight_from_signals",
    "create_system_alert",
    "dismiss_alert",
    "enqueue_agent_task",
    "fail_agent_task",
    "fail_delivery",
    "erase_user",
    "erase_workspace",
    "explain_achievement",
    "explain_insight",
    "evaluate_achievements",
    "export_workspace",
    "find_agents",
    "get_active_insights",
    "get_critical_alerts",
    "get_current_signals",
    "get_priority_signals",
    "get_user_unread_notifications",
    "inbox",
    "inbox_counts",
    "half_lives",
    "heartbeat_agent_task",
    "ingest_signal",
    "lift_silence",
    "leaderboard",
    "mark_all_notifications_read",
    "mark_inbox",
    "mark_notification_as_read",
    "mark_notifications",
    "record_agent_execution",
    "reopen_alert",
    "record_metric_event",
    "release_agent_budget",
    "requeue_agent_task",
    "reparent_quest",
    "requeue_delivery",
    "reconcile_points",
    "refresh_insights",
    "resolve_alert",
    "reserve_agent_budget",
    "seed_agents",
    "send_digest",
    "send_user_notification",
    "send_user_notifications",
    "set_agent_budget",
    "set_notification_preference",
    "set_quiet_hours",
    "settle_agent_budget",
    "silence_alerts",
    "upkeep_agents",
    "spend_campaign_budget",
    "transition_campaign",
    "upkeep_alerts",
    "set_user_time_zone",
    "unfit_achievements",
    "unlock_achievement",
    "upkeep_achievements",
    "upkeep_notifications",
];

/// What is given to an argument of a type, as SQL.
fn hostile(kind: &str) -> &'static [&'static str] {
    match kind {
        "uuid" => &[
            "NULL",
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "gen_random_uuid()",
        ],
        "uuid[]" => &[
            "NULL",
            "'{}'",
            "ARRAY[NULL]::uuid[]",
            "ARRAY[ARRAY[gen_random_uuid()], ARRAY[gen_random_uuid()]]",
            "'[5:6]={00000000-0000-0000-0000-000000000000,ffffffff-ffff-ffff-ffff-ffffffffffff}'",
            "(SELECT array_agg(gen_random_uuid()) FROM generate_series(1, 10000))",
            "(SELECT array_agg(gen_random_uuid()) || NULL::uuid FROM generate_series(1, 10000))",
            "array_fill('00000000-0000-0000-0000-000000000000'::uuid, ARRAY[10000])",
        ],
        "text" => &[
            "NULL",
            "''",
            "' '",
            "E'\\n\\t\\u00a0'",
            "repeat('x', 1048576)",
            "repeat('é', 201)",
            "'Critical'",
            "'critical '",
            "E'it''s \"quoted\"; DROP TABLE public.users; -- %s %n $1 \\\\'",
            "E'\\U0001F9D9\\u200d\\u2642\\ufe0f \\u202Eabc \\uFFFD'",
            "E'\\x01\\x7f'",
        ],
        "text[]" => &[
            "NULL",
            "'{}'",
            "ARRAY[NULL]::text[]",
            "ARRAY['']",
            "ARRAY[ARRAY['a', 'b'], ARRAY['c', 'd']]",
            "array_fill('x'::text, ARRAY[10000])",
            "ARRAY[repeat('x', 1048576)]",
        ],
        "numeric" => &[
            "NULL",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "-1",
            "0",
            "100.0000000000000001",
            "-0.0000000000000001",
            "2147483648",
            "9223372036854775808",
            "1e400",
            "1e131071",
            "1e-16383",
        ],
        "double precision" => &[
            "NULL",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "-0.0",
            "1e308",
            "5e-324",
        ],
        "bigint" => &[
            "NULL",
            "-1",
            "0",
            "2147483647",
            "2147483648",
            "9223372036854775807",
            "-9223372036854775808",
        ],
        "integer" => &["NULL", "-1", "0", "1", "2147483647", "-2147483648"],
        "boolean" => &["NULL", "true", "false"],
        "timestamp with time zone" => &[
            "NULL",
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'epoch'",
        ],
        "date" => &[
            "NULL",
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 BC'",
            "'5874897-12-31'",
        ],
        "interval" => &[
            "NULL",
            "'0'",
            "'-1 second'",
            "'1 microsecond'",
            "'178000000 years'",
            "'-178000000 years'",
            "'1 month -30 days'",
        ],
        "time without time zone" => &["NULL", "'00:00'", "'24:00'", "'23:59:59.999999'"],
        "jsonb" => &[
            "NULL",
            "'null'",
            "'{}'",
            "(repeat('[', 5000) || repeat(']', 5000))::jsonb",
            "'{\"n\": 1e1000}'",
            "to_jsonb(repeat('x', 1048576))",
        ],
        "regclass" => &[
            "NULL",
            "0",
            "4294967295",
            "'pg_catalog.pg_class'",
            "'public.campaigns_pkey'",
            "'pg_catalog.pg_tables'",
        ],
        "regrole" => &["NULL", "0", "4294967295"],
        other => panic!("what is a hostile {other}? Tell the test."),
    }
}

/// An argument as the catalog has it.
pub struct Argument {
    name: String,
    kind: String,
    has_default: bool,
}

/// All functions of schema codex that SQL can call, with their arguments.
pub fn functions(admin: &mut Client) -> BTreeMap<String, Vec<Argument>> {
    let mut functions: BTreeMap<String, Vec<Argument>> = BTreeMap::new();
    let rows = admin
        .query(
            "SELECT p.proname::text, coalesce(p.proargnames[a.position], ''), format_type(a.oid, NULL),
                    a.position > p.pronargs - p.pronargdefaults
             FROM pg_catalog.pg_proc AS p
             LEFT JOIN LATERAL unnest(p.proargtypes) WITH ORDINALITY AS a (oid, position) ON true
             WHERE p.pronamespace = 'codex'::regnamespace
               AND p.prokind = 'f'
               AND p.prorettype <> 'trigger'::regtype
               AND p.prorettype <> 'event_trigger'::regtype
             ORDER BY p.proname, a.position",
            &[],
        )
        .unwrap();
    for row in rows {
        let arguments = functions.entry(row.get(0)).or_default();
        if let Some(kind) = row.get::<_, Option<String>>(2) {
            arguments.push(Argument {
                name: row.get(1),
                kind,
                has_default: row.get(3),
            });
        }
    }
    functions
}

/// What a good call gives to an argument; those with a default are left out unless they are under test.
pub struct Good(BTreeMap<(&'static str, &'static str), String>);

impl Good {
    pub fn new(scene: &mut Scene) -> Self {
        let admin = &mut scene.admin;
        let (acme, anna) = (scene.acme, scene.anna);
        let agent: Uuid = value(
            admin,
            "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Scout', 'researcher') RETURNING id",
            &[],
        );
        let signal = Signal::fresh(acme, "blog", 60.0).insert(admin);
        let achievement: Uuid = value(
            admin,
            "INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type)
             VALUES ($1, 'First steps', 'milestone', 'count') RETURNING id",
            &[&acme],
        );
        let alert: Uuid = value(
            admin,
            "SELECT codex.create_system_alert($1, 'error', 'high', 'T', 'D')",
            &[&acme],
        );
        let notification: Uuid = value(
            admin,
            "SELECT codex.send_user_notification($1, $2, 'alert', 'T', 'M')",
            &[&acme, &anna],
        );
        let by_email = "SELECT codex.send_user_notification($1, $2, 'alert', 'T', 'M', 'email')";
        let leased: Uuid = value(admin, by_email, &[&acme, &anna]);
        let token: Uuid = value(
            admin,
            "SELECT lease_token FROM codex.claim_notifications('email', 'worker', lease => '1 day')",
            &[],
        );
        let silence: Uuid = value(
            admin,
            "SELECT codex.silence_alerts($1, 'We know', now() + interval '1 day', dedup_glob => 'none')",
            &[&acme],
        );
        let waiting: Uuid = value(admin, by_email, &[&acme, &anna]);
        let assignment: Uuid = value(
            admin,
            "INSERT INTO public.agent_assignments (workspace_id, agent_id) VALUES ($1, $2) RETURNING id",
            &[&acme, &agent],
        );
        let enqueue = "SELECT codex.enqueue_agent_task($1, $2, 'write', priority => $3)";
        let task: Uuid = value(admin, enqueue, &[&acme, &assignment, &"critical"]);
        let task_token: Uuid = value(
            admin,
            "SELECT lease_token FROM codex.claim_agent_tasks('worker', lease => '1 day')",
            &[],
        );
        let waiting_task: Uuid = value(admin, enqueue, &[&acme, &assignment, &"low"]);
        let reservation: Uuid = value(
            admin,
            "SELECT reservation_id FROM codex.reserve_agent_budget($1, $2, 10)",
            &[&acme, &agent],
        );
        let insight: Uuid = value(
            admin,
            "INSERT INTO public.market_insights (workspace_id, insight_title, insight_type)
             VALUES ($1, 'Title', 'trend') RETURNING id",
            &[&acme],
        );
        let campaign = campaign(admin, acme);
        admin
            .execute(
                "UPDATE public.campaigns SET allocated_budget_amount = 100 WHERE id = $1",
                &[&campaign],
            )
            .unwrap();
        let quest: Uuid = value(
            admin,
            "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ($1, $2, 'Quest') RETURNING id",
            &[&acme, &campaign],
        );
        let quoted = |id: Uuid| format!("'{id}'");
        let mut good = BTreeMap::new();
        for (name, literal) in [
            ("p_workspace_id", quoted(acme)),
            ("workspace", quoted(acme)),
            ("p_user_id", quoted(anna)),
            ("user_id", quoted(anna)),
            ("p_user_ids", format!("ARRAY['{anna}']::uuid[]")),
            ("p_created_by", quoted(anna)),
            ("p_agent_id", quoted(agent)),
            ("p_campaign_id", quoted(campaign)),
            ("campaign", quoted(campaign)),
            ("to_status", "'planning'".into()),
            ("quest", quoted(quest)),
            ("amount", "1.50".into()),
            ("description", "'Description'".into()),
            ("p_achievement_id", quoted(achievement)),
            ("p_alert_id", quoted(alert)),
            ("p_notification_id", quoted(notification)),
            ("p_signal_ids", format!("ARRAY['{signal}']::uuid[]")),
            ("p_insight_title", "'Title'".into()),
            ("p_insight_type", "'trend'".into()),
            ("p_conclusions", "ARRAY['So it is']".into()),
            ("p_alert_type", "'error'".into()),
            ("p_severity", "'low'".into()),
            ("p_title", "'Title'".into()),
            ("p_description", "'Description'".into()),
            ("p_message", "'Message'".into()),
            ("p_notification_type", "'message'".into()),
            ("p_execution_time_seconds", "1.5".into()),
            ("p_input_tokens", "100".into()),
            ("p_output_tokens", "50".into()),
            ("p_cost", "0.25".into()),
            ("p_success", "true".into()),
            ("notification_id", quoted(leased)),
            ("lease_token", quoted(token)),
            (
                "notification_ids",
                format!("ARRAY['{notification}']::uuid[]"),
            ),
            ("agent_id", quoted(agent)),
            ("assignment_id", quoted(assignment)),
            ("task_id", quoted(task)),
            ("task_type", "'write'".into()),
            ("reservation_id", quoted(reservation)),
            ("tokens", "10".into()),
            ("period", "'day'".into()),
            ("capability", "'Write mails'".into()),
            (
                "agents",
                r#"'[{"agent_name": "Scout", "agent_type": "researcher"}]'"#.into(),
            ),
            ("channel", "'email'".into()),
            ("worker", "'worker'".into()),
            ("error", "'no answer'".into()),
            ("enabled", "false".into()),
            ("mark", "'seen'".into()),
            ("digest_key", "'comments'".into()),
            ("reason", "'We know'".into()),
            ("ends_at", "now() + interval '1 day'".into()),
            ("silence_id", quoted(silence)),
            ("title", "'Title'".into()),
            ("message", "'Message'".into()),
            ("source_type", "'market'".into()),
            ("signal_title", "'Title'".into()),
            ("signal_category", "'market_trend'".into()),
            ("insight", quoted(insight)),
            ("achievement", quoted(achievement)),
            ("metric", "'login'".into()),
            ("value", "1.5".into()),
            ("event_id", "'evt-1'".into()),
            ("points", "5".into()),
            ("reason", "'a present'".into()),
            ("time_zone", "'Europe/Berlin'".into()),
            ("condition_type", "'count'".into()),
            (
                "condition_value",
                "'{\"metric\": \"login\", \"threshold\": 3}'".into(),
            ),
            ("p_from", "now() - interval '1 day'".into()),
            ("p_to", "now()".into()),
        ] {
            good.insert(("", name), literal);
        }
        good.insert(("requeue_delivery", "notification_id"), quoted(waiting));
        good.insert(("requeue_agent_task", "task_id"), quoted(waiting_task));
        for function in [
            "complete_agent_task",
            "fail_agent_task",
            "heartbeat_agent_task",
        ] {
            good.insert((function, "lease_token"), quoted(task_token));
        }
        for (function, name, literal) in [
            ("expose", "schema", "'app'"),
            ("unexpose", "schema", "'app'"),
            ("migration_sql", "version", "13"),
            ("rollback", "target", "17"),
            ("protect", "target", "'app.notes'"),
            ("protect_shared", "target", "'app.notes'"),
        ] {
            good.insert((function, name), literal.into());
        }
        Self(good)
    }

    fn of(&self, function: &str, argument: &Argument) -> String {
        let exact = (self.0.iter())
            .find(|((f, a), _)| *f == function && *a == argument.name)
            .or_else(|| (self.0.iter()).find(|((f, a), _)| f.is_empty() && *a == argument.name));
        match exact {
            Some((_, literal)) => literal.clone(),
            None if argument.kind == "regrole" => "current_user::regrole".into(),
            None => panic!(
                "what is a good {} of codex.{function}? Tell the test.",
                argument.name
            ),
        }
    }
}

/// A call in which the argument at `odd` is `literal`, and every other is good.
pub fn call(
    good: &Good,
    function: &str,
    arguments: &[Argument],
    odd: Option<(usize, &str)>,
) -> String {
    let given: Vec<String> = arguments
        .iter()
        .enumerate()
        .filter_map(|(position, argument)| {
            let literal = match odd {
                Some((odd, literal)) if odd == position => literal.to_string(),
                _ if argument.has_default => return None,
                _ => good.of(function, argument),
            };
            Some(format!(
                "{} => ({literal})::{}",
                argument.name, argument.kind
            ))
        })
        .collect();
    format!("SELECT * FROM codex.{function}({})", given.join(", "))
}

/// Runs a call in a transaction of its own, which is rolled back.
fn outcome(client: &mut Client, context: &str, sql: &str) -> Option<Failure> {
    let mut transaction = client
        .transaction()
        .unwrap_or_else(|error| panic!("the session is lost before {sql}: {error}"));
    transaction.batch_execute(context).unwrap();
    let failure = transaction
        .batch_execute(sql)
        .err()
        .map(|error| Failure::from(&error));
    transaction
        .rollback()
        .unwrap_or_else(|error| panic!("the session is lost after {sql}: {error}"));
    failure
}

#[test]
fn no_argument_of_any_function_makes_an_internal_error() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute(
            "CREATE SCHEMA app;
             CREATE TABLE app.notes (id uuid PRIMARY KEY, workspace_id uuid NOT NULL, user_id uuid)",
        )
        .unwrap();
    let good = Good::new(&mut scene);
    let functions = functions(&mut scene.admin);
    for name in PRODUCT {
        assert!(functions.contains_key(*name), "codex.{name} is missing");
    }

    let (member, service) = (scene.db.role("member"), scene.db.role("service"));
    scene
        .admin
        .batch_execute(&format!(
            "SELECT codex.grant_member_role('{member}'); SELECT codex.grant_service_role('{service}')"
        ))
        .unwrap();
    let enter = format!(
        "SELECT codex.enter_workspace('{}', '{}')",
        scene.acme, scene.anna
    );
    let callers = [
        ("superuser", scene.db.admin(), String::new()),
        ("member", scene.db.login(&member), enter.clone()),
        ("service", scene.db.login(&service), enter),
    ];

    let mut wrong = Vec::new();
    let mut calls = 0;
    for (who, mut client, context) in callers {
        for (function, arguments) in &functions {
            let product = PRODUCT.contains(&function.as_str());
            if who == "superuser" && product {
                let sql = call(&good, function, arguments, None);
                if let Some(failure) = outcome(&mut client, &context, &sql) {
                    wrong.push(format!("the good call fails: {failure}\n  {sql}"));
                }
            }
            for (position, argument) in arguments.iter().enumerate() {
                for literal in hostile(&argument.kind) {
                    let sql = call(&good, function, arguments, Some((position, literal)));
                    let failure = outcome(&mut client, &context, &sql);
                    calls += 1;
                    let Some(failure) = failure else { continue };
                    let allowed = if product {
                        SQLSTATES.contains(&failure.sqlstate.as_str())
                    } else {
                        !failure.sqlstate.starts_with("XX") && !failure.sqlstate.is_empty()
                    };
                    if !allowed {
                        wrong.push(format!("{who}: {failure}\n  {sql}"));
                    }
                    let length = failure.message.len() + failure.detail.len() + failure.hint.len();
                    if length > 2_000 {
                        wrong.push(format!("{who}: an error of {length} bytes\n  {sql}"));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {calls} calls:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(calls > 1000, "only {calls} calls");
}

#[test]
fn null_for_a_required_argument_is_22004_and_names_it() {
    let mut scene = Scene::new();
    let good = Good::new(&mut scene);
    let functions = functions(&mut scene.admin);
    // Whom or what nobody may be known to have made, and what counts as 0.
    let optional = [
        ("create_insight_from_signals", "p_created_by"),
        ("record_agent_execution", "p_input_tokens"),
        ("record_agent_execution", "p_output_tokens"),
        ("record_agent_execution", "p_cost"),
        ("set_notification_preference", "enabled"),
    ];
    let mut checked = 0;
    for name in PRODUCT {
        for (position, argument) in functions[*name].iter().enumerate() {
            if argument.has_default || optional.contains(&(*name, argument.name.as_str())) {
                continue;
            }
            let sql = call(&good, name, &functions[*name], Some((position, "NULL")));
            let failure =
                outcome(&mut scene.admin, "", &sql).unwrap_or_else(|| panic!("{sql} went through"));
            assert_eq!(failure.sqlstate, "22004", "{sql}: {failure}");
            assert!(failure.message.contains(&argument.name), "{sql}: {failure}");
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} arguments");
}

#[test]
fn a_value_out_of_its_list_is_22023_and_the_hint_lists_the_allowed_ones() {
    let mut scene = Scene::new();
    let good = Good::new(&mut scene);
    let functions = functions(&mut scene.admin);
    for (function, argument, allowed) in [
        (
            "create_insight_from_signals",
            "p_insight_type",
            "opportunity, threat, trend, gap, pattern",
        ),
        (
            "create_system_alert",
            "p_alert_type",
            "performance, error, milestone, anomaly, action_required, opportunity",
        ),
        (
            "create_system_alert",
            "p_severity",
            "critical, high, medium, low, info",
        ),
        (
            "send_user_notification",
            "p_notification_type",
            "alert, achievement, message, reminder, summary",
        ),
        (
            "send_user_notification",
            "p_channel",
            "in_app, email, slack, sms, push",
        ),
        (
            "send_user_notification",
            "p_priority",
            "urgent, high, normal, low",
        ),
        (
            "send_user_notifications",
            "p_notification_type",
            "alert, achievement, message, reminder, summary",
        ),
        (
            "send_user_notifications",
            "p_channel",
            "in_app, email, slack, sms, push",
        ),
        (
            "send_user_notifications",
            "p_priority",
            "urgent, high, normal, low",
        ),
    ] {
        let arguments = &functions[function];
        let position = arguments.iter().position(|a| a.name == argument).unwrap();
        let sql = call(&good, function, arguments, Some((position, "'Nonsense'")));
        let failure = outcome(&mut scene.admin, "", &sql).expect("a refusal");
        assert_eq!(failure.sqlstate, "22023");
        assert_eq!(failure.message, format!("{argument} is \"Nonsense\""));
        assert_eq!(failure.hint, format!("Allowed values: {allowed}."));
    }
}

/// Everything that a workspace has in any table, as one text.
fn belongings(admin: &mut Client, workspace: Uuid) -> String {
    let tables: Vec<String> = admin
        .query(
            "SELECT a.attrelid::regclass::text
             FROM pg_catalog.pg_attribute AS a
             JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
             WHERE a.attname = 'workspace_id' AND c.relkind = 'r'
               AND c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace)
             ORDER BY 1",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(tables.len() > 16, "{tables:?}");
    tables
        .iter()
        .map(|table| {
            let rows: Option<String> = value(
                admin,
                &format!("SELECT string_agg(t::text, E'\\n' ORDER BY t::text) FROM {table} AS t WHERE workspace_id = $1"),
                &[&workspace],
            );
            format!("{table}\n{}\n", rows.unwrap_or_default())
        })
        .collect()
}

#[test]
fn an_id_of_another_workspace_in_any_argument_reads_nothing_and_changes_nothing_there() {
    let mut scene = Scene::new();
    let good = Good::new(&mut scene);
    let functions = functions(&mut scene.admin);
    let admin = &mut scene.admin;
    let (bolt, bob) = (scene.bolt, scene.bob);
    let campaign = campaign(admin, bolt);
    let signal = Signal::fresh(bolt, "secret of Bolt", 90.0).insert(admin);
    admin
        .execute(
            "UPDATE public.intelligence_signals SET signal_title = 'secret of Bolt' WHERE id = $1",
            &[&signal],
        )
        .unwrap();
    let insight: Uuid = {
        let used = Signal::fresh(bolt, "blog", 90.0).insert(admin);
        value(
            admin,
            "SELECT codex.create_insight_from_signals($1, ARRAY[$2::uuid], 'secret of Bolt', 'trend', '{}', NULL)",
            &[&bolt, &used],
        )
    };
    let alert: Uuid = value(
        admin,
        "SELECT codex.create_system_alert($1, 'error', 'critical', 'secret of Bolt', 'D', p_dedup_key => 'key')",
        &[&bolt],
    );
    let notification: Uuid = value(
        admin,
        "SELECT codex.send_user_notification($1, $2, 'alert', 'secret of Bolt', 'M', p_idempotency_key => 'key')",
        &[&bolt, &bob],
    );
    let achievement: Uuid = value(
        admin,
        "INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type)
         VALUES ($1, 'secret of Bolt', 'milestone', 'count') RETURNING id",
        &[&bolt],
    );
    let agent: Uuid = value(admin, "SELECT id FROM public.agent_registry", &[]);
    admin
        .execute(
            "SELECT codex.record_agent_execution($1, $2, 1.5, 10, 10, 0.1, true, p_execution_id => $1)",
            &[&bolt, &agent],
        )
        .unwrap();
    let foreign = [
        bolt,
        bob,
        campaign,
        signal,
        insight,
        alert,
        notification,
        achievement,
    ];
    let before = belongings(admin, bolt);
    assert!(before.matches("secret of Bolt").count() >= 5, "{before}");

    let mut answered = 0;
    for kind in ["member", "service"] {
        let role = scene.db.role(kind);
        scene
            .admin
            .batch_execute(&format!("SELECT codex.grant_{kind}_role('{role}')"))
            .unwrap();
        let mut client = scene.db.login(&role);
        for context in [
            String::new(),
            format!("SET LOCAL app.current_workspace_id = '{}'", scene.acme),
            format!(
                "SELECT codex.enter_workspace('{}', '{}')",
                scene.acme, scene.anna
            ),
        ] {
            for function in PRODUCT {
                let arguments = &functions[*function];
                for (position, argument) in arguments.iter().enumerate() {
                    let literals: Vec<String> = match argument.kind.as_str() {
                        "uuid" => foreign.map(|id| format!("'{id}'")).into(),
                        "uuid[]" => foreign.map(|id| format!("ARRAY['{id}']::uuid[]")).into(),
                        "text" if argument.name.ends_with("_key") => vec!["'key'".into()],
                        _ => continue,
                    };
                    for literal in literals {
                        let sql = call(&good, function, arguments, Some((position, &literal)));
                        let mut transaction = client.transaction().unwrap();
                        transaction.batch_execute(&context).unwrap();
                        let text = format!(
                            "SELECT coalesce(string_agg(t::text, ' '), '') FROM ({sql}) AS t"
                        );
                        match transaction.query_one(&text, &[]) {
                            Ok(row) => {
                                let text: String = row.get(0);
                                assert!(
                                    !text.contains("secret"),
                                    "{kind}, {context}: {sql}\n{text}"
                                );
                                transaction.commit().unwrap();
                                answered += 1;
                            }
                            Err(error) => {
                                let failure = Failure::from(&error);
                                assert!(
                                    SQLSTATES.contains(&failure.sqlstate.as_str())
                                        && !failure.message.contains("secret")
                                        && !failure.detail.contains("secret"),
                                    "{kind}, {context}: {failure:?}\n  {sql}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(
        answered > 20,
        "only {answered} calls were answered: the good arguments are not good any more"
    );
    assert_eq!(belongings(&mut scene.admin, bolt), before);
}
