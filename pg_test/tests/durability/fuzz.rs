//! Random calls of all functions with random arguments: the server stays up, and no call ends in an internal error.
//!
//! The functions come from the catalog; the trigger functions are among them, called as no trigger calls them.
//! Half of the time an argument is something that fits its name, so that calls get beyond the first check. Calls
//! come in transactions of several, in roles and contexts of all kinds, after statements that set the context to
//! nonsense, take away what the functions need, or damage what they read.
//!
//! `CODEX_FUZZ_CALLS` says how many calls (`make test-long` makes hundreds of thousands), `CODEX_TEST_SEED` which.

use crate::dice::{Dice, seed, setting};
use crate::story;
use codex_pg_test::postgres::{Client, Config, NoTls};
use codex_pg_test::{Database, Failure, value};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const SESSIONS: usize = 3;

/// A function of schema `codex` as the catalog has it.
struct Function {
    name: String,
    arguments: Vec<Argument>,
    /// Changes schema or privileges, or takes long to answer: what it does is never committed.
    changes_schema: bool,
    /// Called less often: those, and trigger functions, which refuse every call.
    is_rare: bool,
}

struct Argument {
    name: String,
    kind: String,
    has_default: bool,
}

/// What is in the database, as SQL literals by the word that names of arguments contain.
struct Pools(BTreeMap<&'static str, Vec<String>>);

const POOLS: &[(&str, &str)] = &[
    ("workspace", "SELECT id::text FROM public.workspaces"),
    ("user", "SELECT id::text FROM public.users"),
    ("created_by", "SELECT id::text FROM public.users"),
    ("agent", "SELECT id::text FROM public.agent_registry"),
    ("achievement", "SELECT id::text FROM public.achievements"),
    ("campaign", "SELECT id::text FROM public.campaigns"),
    ("quest", "SELECT id::text FROM public.campaign_quests"),
    ("parent", "SELECT id::text FROM public.campaign_quests"),
    ("actor", "SELECT id::text FROM public.users"),
    ("alert", "SELECT id::text FROM public.system_alerts"),
    ("notification", "SELECT id::text FROM public.user_notifications"),
    ("signal", "SELECT id::text FROM public.intelligence_signals"),
    ("insight", "SELECT id::text FROM public.market_insights"),
    ("assignment", "SELECT id::text FROM public.agent_assignments"),
    ("task", "SELECT id::text FROM codex.agent_tasks"),
    (
        "lease_token",
        "SELECT t.lease_token::text FROM codex.agent_tasks AS t WHERE t.lease_token IS NOT NULL
         UNION ALL
         SELECT d.lease_token::text FROM codex.deliveries AS d WHERE d.lease_token IS NOT NULL",
    ),
    ("reservation", "SELECT id::text FROM codex.budget_reservations"),
    ("silence", "SELECT id::text FROM codex.alert_silences"),
    ("execution", "SELECT execution_id::text FROM codex.agent_executions LIMIT 50"),
    // Of every kind: tables of ours and theirs, toast tables, indexes, views, sequences, catalogs.
    (
        "relation",
        "(SELECT c.oid::text FROM pg_class AS c WHERE c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace, 'app'::regnamespace))
         UNION ALL
         (SELECT min(c.oid)::text FROM pg_class AS c GROUP BY c.relkind, c.relpersistence, c.relnamespace)
         UNION ALL SELECT '0' UNION ALL SELECT '4294967295' UNION ALL SELECT '1259'",
    ),
    ("role", "SELECT oid::text FROM pg_roles UNION ALL SELECT '0' UNION ALL SELECT '4294967295'"),
];

/// Values of enumerations and other words, by the names of arguments; a wrong one comes by itself.
const WORDS: &[&str] = &[
    "opportunity",
    "threat",
    "trend",
    "gap",
    "pattern",
    "performance",
    "error",
    "milestone",
    "anomaly",
    "action_required",
    "critical",
    "high",
    "medium",
    "low",
    "info",
    "alert",
    "achievement",
    "message",
    "reminder",
    "summary",
    "in_app",
    "email",
    "slack",
    "sms",
    "push",
    "draft",
    "planning",
    "active",
    "paused",
    "completed",
    "archived",
    "urgent",
    "normal",
    "up",
    "down",
    "manual",
    "key",
    "app",
    "public",
    "codex",
    "pg_catalog",
    "pg_temp",
    "pg_toast",
    "information_schema",
    "workspace_id",
    "user_id",
    "id",
    "ctid",
    "created_by",
    "https://example.com/a?b=c",
    // Of the engines.
    "read",
    "seen",
    "inbox",
    "archive",
    "day",
    "month",
    "week",
    "all",
    "moves_executed",
    "market",
    "market_trend",
    "worker",
    "reads",
    "cancelled",
    "Europe/Berlin",
    "daily",
];

/// Texts that were not made for anybody.
const NASTY: &[&str] = &[
    "''",
    "' '",
    "E'\\n\\t\\u00a0'",
    "'Critical'",
    "'low '",
    "'null'",
    "'NULL'",
    "'{}'",
    "'[]'",
    "'$1'",
    "'%s%n'",
    "E'it''s \"quoted\"; DROP TABLE public.users; -- \\\\'",
    "E'\\U0001F9D9\\u200d\\u2642\\ufe0f \\u202Eabc \\uFFFD'",
    "E'\\x01\\x7f'",
    "repeat('x', 200)",
    "repeat('é', 201)",
    "repeat('x', 70000)",
    "repeat('\"', 3000)",
    "'public.users'",
    "'00000000-0000-0000-0000-000000000000'",
    "'{00000000-0000-0000-0000-000000000000}'",
    "'-1'",
    "'1e400'",
];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "50",
    "75",
    "99.99",
    "100",
    "101",
    "17",
    "13",
    "0.001",
    "-0.0000000000000001",
    "2147483647",
    "-2147483648",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1e18",
    "1e308",
    "1e400",
    "1e100000",
    "1e-16383",
    "'NaN'",
    "'Infinity'",
    "'-Infinity'",
];

const TIMES: &[&str] = &[
    "now()",
    "now() - interval '1 hour'",
    "now() + interval '1 year'",
    "'2025-03-30 01:30 Europe/Berlin'",
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 00:00:00+00 BC'",
    "'294276-12-31 23:59:59.999999+00'",
    "'epoch'",
    "'2000-01-01' + random() * interval '50 years'",
];

const INTERVALS: &[&str] = &[
    "'0'",
    "'1 hour'",
    "'-1 hour'",
    "'1 microsecond'",
    "'30 days'",
    "'1 month -1 day'",
    "'178000000 years'",
    "'-178000000 years'",
    "'2147483647 days'",
    "'1 year' * random()",
];

const TIMES_OF_DAY: &[&str] = &[
    "'00:00'",
    "'24:00'",
    "'07:30'",
    "'22:00'",
    "'23:59:59.999999'",
];

const DATES: &[&str] = &[
    "current_date",
    "current_date - 30",
    "current_date + 1",
    "'2024-02-29'",
    "'infinity'",
    "'-infinity'",
    "'4713-01-01 BC'",
    "'5874897-12-31'",
];

const JSON: &[&str] = &[
    "'null'",
    "'{}'",
    "'[]'",
    "'\"text\"'",
    "'{\"a\": [1, 2, {\"b\": null}]}'",
    "'{\"n\": 1e1000}'",
    "(repeat('[', 3000) || repeat(']', 3000))::jsonb",
    "to_jsonb(repeat('x', 100000))",
    "'{\"a\": \"\\u00e9\\t\"}'",
    "(SELECT jsonb_object_agg(n, n) FROM generate_series(1, 1000) AS n)",
];

/// Statements that come before calls. They may fail; what counts is what the calls make of it.
const CONTEXTS: &[&str] = &[
    "SET LOCAL app.current_workspace_id = 'nonsense'",
    "SET LOCAL app.current_workspace_id = ''",
    "SET LOCAL app.current_user_id = '{00000000000000000000000000000000}'",
    "SET LOCAL app.current_user_id = DEFAULT",
    "SELECT set_config('request.jwt.claims', '{\"sub\": 5, \"workspace_id\": [', true)",
    "SELECT set_config('request.jwt.claims', '{\"sub\": 5, \"workspace_id\": null}', true)",
    "SELECT set_config('request.jwt.claims', repeat('[', 100000), true)",
    "SELECT set_config('request.jwt.claims', repeat('{\"a\":', 20000), true)",
    "SELECT set_config('request.jwt.claims', '\"\\ud800\"', true)",
    "SELECT set_config('app.current_workspace_id', repeat('f', 1000000), true)",
    "SET LOCAL raptorflow_codex.context = 'transaction'",
    "SET LOCAL raptorflow_codex.context = 'sometimes'",
    "SET LOCAL search_path = pg_temp, public",
    "SET LOCAL search_path = ''",
    "SET LOCAL TimeZone = 'Pacific/Kiritimati'",
    "SET LOCAL DateStyle = 'SQL, DMY'",
    "SET LOCAL IntervalStyle = 'iso_8601'",
    "SET LOCAL bytea_output = 'escape'",
    "SET LOCAL extra_float_digits = -15",
    "SET LOCAL standard_conforming_strings = off",
    "SET LOCAL row_security = off",
    "SET LOCAL plan_cache_mode = force_generic_plan",
    "SET LOCAL force_parallel_mode = on",
    "SET LOCAL debug_parallel_query = on",
    "SET LOCAL work_mem = '64kB'",
    "SET LOCAL enable_indexscan = off",
    "SET LOCAL jit_above_cost = 0",
    "SET TRANSACTION READ ONLY",
    "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET CONSTRAINTS ALL DEFERRED",
];

/// What takes away or damages what functions need; done by the superuser in transactions that are rolled back.
const MISCHIEF: &[&str] = &[
    "DROP TABLE public.user_stats",
    "DROP TABLE public.workspace_members",
    "ALTER TABLE public.workspace_members RENAME COLUMN user_id TO who",
    "ALTER TABLE public.workspace_members DROP CONSTRAINT workspace_members_pkey CASCADE",
    "ALTER TABLE public.workspace_members ALTER COLUMN role TYPE varchar(10)",
    "ALTER TABLE public.workspace_members RENAME TO members; CREATE VIEW public.workspace_members AS SELECT * FROM public.members",
    "ALTER TABLE public.workspace_members RENAME TO members; CREATE TABLE public.user_workspaces (workspace_id text, user_id text)",
    "DROP TABLE codex.roles",
    "DROP TABLE codex.migrations",
    "DELETE FROM codex.migrations WHERE version = 14",
    "UPDATE codex.migrations SET checksum = ''",
    "INSERT INTO codex.migrations (version, name, checksum, extension_version) VALUES (-5, '', '', '')",
    "ALTER TABLE codex.migrations DROP COLUMN checksum",
    "ALTER TABLE codex.migrations ALTER COLUMN version TYPE text",
    "UPDATE codex.roles SET role_name = 'nobody who is'",
    "ALTER TABLE public.user_stats DROP COLUMN experience_level",
    "ALTER TABLE public.user_stats ALTER COLUMN total_points TYPE text",
    "ALTER TABLE public.user_stats ALTER COLUMN experience_percentage TYPE text",
    "ALTER TABLE public.agent_performance ALTER COLUMN execution_time_sketch TYPE text USING 'x'",
    "ALTER TABLE public.agent_performance DROP COLUMN execution_time_sketch",
    "UPDATE public.agent_performance SET execution_time_sketch = decode(md5(random()::text), 'hex')",
    "UPDATE public.agent_performance SET execution_time_sketch = ''",
    "UPDATE public.agent_performance SET execution_time_sketch = substr(execution_time_sketch, 1, length(execution_time_sketch) / 2)",
    "UPDATE public.agent_performance SET execution_time_sketch = execution_time_sketch || '\\xff'",
    "UPDATE public.agent_performance SET execution_time_sketch = set_byte(execution_time_sketch, floor(random() * length(execution_time_sketch))::integer, 255)",
    "UPDATE public.agent_performance SET execution_count = 2147483647, success_count = 2147483647, failure_count = 0",
    "UPDATE public.agent_performance SET total_input_tokens = 9223372036854775807",
    "UPDATE public.user_stats SET total_points = 2147483647",
    "UPDATE public.system_alerts SET occurrence_count = 2147483647",
    "UPDATE public.agent_registry SET is_active = NULL",
    "ALTER TABLE public.system_alerts DISABLE TRIGGER ALL",
    "ALTER TABLE public.system_alerts DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE public.system_alerts FORCE ROW LEVEL SECURITY",
    "DROP POLICY system_alerts_workspace_isolation ON public.system_alerts",
    "ALTER TABLE public.system_alerts RENAME TO \"system \"\"alerts\"",
    "ALTER TABLE public.system_alerts SET SCHEMA app",
    "DROP INDEX public.system_alerts_open_dedup_key",
    "ALTER TABLE public.intelligence_signals ALTER COLUMN confidence_score TYPE float8",
    "ALTER TABLE public.campaign_quests RENAME COLUMN parent_quest_id TO parent",
    "ALTER TABLE public.campaigns DROP COLUMN updated_at CASCADE",
    "CREATE TRIGGER odd BEFORE INSERT OR UPDATE ON public.user_notifications FOR EACH ROW EXECUTE FUNCTION codex.refuse_cycle()",
    "CREATE TRIGGER odd BEFORE INSERT OR UPDATE ON public.user_notifications FOR EACH ROW EXECUTE FUNCTION codex.update_experience_level()",
    "CREATE TRIGGER odd AFTER INSERT OR UPDATE ON public.user_notifications FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at()",
    "CREATE TRIGGER odd BEFORE INSERT OR UPDATE OR DELETE ON public.user_notifications FOR EACH STATEMENT EXECUTE FUNCTION codex.set_updated_at()",
    "CREATE TRIGGER odd AFTER INSERT ON public.user_notifications FOR EACH STATEMENT EXECUTE FUNCTION codex.update_campaign_timestamp()",
    "CREATE TRIGGER odd BEFORE INSERT ON public.user_achievements FOR EACH ROW EXECUTE FUNCTION codex.calculate_move_success_rate('a', 'b')",
    "CREATE TABLE public.odd (id text, parent_id text); CREATE TRIGGER odd BEFORE INSERT ON public.odd FOR EACH ROW EXECUTE FUNCTION codex.refuse_cycle(); INSERT INTO public.odd VALUES ('a', 'a')",
    "CREATE TABLE public.odd (updated_at text); CREATE TRIGGER odd BEFORE UPDATE ON public.odd FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at(); INSERT INTO public.odd VALUES ('a'); UPDATE public.odd SET updated_at = 'b'",
    "DROP EXTENSION raptorflow_codex CASCADE",
    "DROP EXTENSION raptorflow_codex CASCADE; CREATE EXTENSION raptorflow_codex",
    "DROP OWNED BY CURRENT_USER",
    "CREATE TEMP TABLE users (id uuid); CREATE TEMP TABLE system_alerts (x text); CREATE FUNCTION pg_temp.now() RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
    "TRUNCATE public.workspaces CASCADE",
];

/// What a user of the server may be told; an internal error (XX000) is a bug, and a session that ends is a crash.
fn is_a_bug(failure: &Failure) -> bool {
    failure.sqlstate.is_empty()
        || (failure.sqlstate.starts_with("XX") && failure.sqlstate != "XX001")
}

fn functions(admin: &mut Client) -> Vec<Function> {
    const HEAVY: &[&str] = &[
        "migrate",
        "rollback",
        "verify",
        "verify_or_raise",
        "status",
        "schema_shape",
        "function_shape",
        "isolation_report",
        "isolation_selftest",
        "unprotected_tables",
        "expose",
        "unexpose",
        "protect",
        "protect_shared",
        "unprotect",
        "grant_member_role",
        "grant_service_role",
        "grant_operator_role",
        "revoke_role",
        "settle_grants",
        "migration_sql",
    ];
    let mut functions: Vec<Function> = Vec::new();
    for row in admin
        .query(
            "SELECT p.oid::int8, p.proname::text, coalesce(p.proargnames[a.position], ''), format_type(a.oid, NULL),
                    a.position > p.pronargs - p.pronargdefaults,
                    p.prorettype = 'trigger'::regtype
             FROM pg_catalog.pg_proc AS p
             LEFT JOIN LATERAL unnest(p.proargtypes) WITH ORDINALITY AS a (oid, position) ON true
             WHERE p.pronamespace = 'codex'::regnamespace
             ORDER BY p.proname, p.oid, a.position",
            &[],
        )
        .expect("the functions")
    {
        let name: String = row.get(1);
        if functions.last().is_none_or(|last| last.name != name) {
            functions.push(Function {
                changes_schema: HEAVY.contains(&name.as_str()),
                is_rare: HEAVY.contains(&name.as_str()) || row.get(5),
                name,
                arguments: Vec::new(),
            });
        }
        if let (Some(kind), Some(function)) = (row.get::<_, Option<String>>(3), functions.last_mut()) {
            function.arguments.push(Argument {
                name: row.get(2),
                kind,
                has_default: row.get(4),
            });
        }
    }
    functions
}

impl Pools {
    fn of(admin: &mut Client) -> Self {
        let rows = |admin: &mut Client, sql: &str| -> Vec<String> {
            admin
                .query(sql, &[])
                .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
                .iter()
                .map(|row| row.get(0))
                .collect()
        };
        Self(
            POOLS
                .iter()
                .map(|(name, sql)| (*name, rows(admin, sql)))
                .collect(),
        )
    }

    fn any(&self, dice: &mut Dice, name: &str) -> String {
        dice.pick(&self.0[name]).clone()
    }

    /// An id that fits the name of an argument, if there is a pool for it.
    fn fitting(&self, dice: &mut Dice, name: &str) -> Option<String> {
        let pool = self
            .0
            .iter()
            .find(|(word, _)| name.trim_start_matches("p_").starts_with(**word))?;
        Some(dice.pick(pool.1).clone())
    }
}

/// A SQL expression for an argument.
fn argument(dice: &mut Dice, pools: &Pools, argument: &Argument) -> String {
    let (kind, name) = (argument.kind.as_str(), argument.name.as_str());
    if dice.once_in(25) {
        return format!("NULL::{kind}");
    }
    if let Some(element) = kind.strip_suffix("[]") {
        return array(dice, pools, element, name);
    }
    let text = scalar(dice, pools, kind, name);
    format!("({text})::{kind}")
}

fn scalar(dice: &mut Dice, pools: &Pools, kind: &str, name: &str) -> String {
    match kind {
        "uuid" => match dice.below(20) {
            0 => "'ffffffff-ffff-ffff-ffff-ffffffffffff'".into(),
            1 => "'00000000-0000-0000-0000-000000000000'".into(),
            2 => format!("'{}'", dice.uuid()),
            3 => "'not a uuid'".into(),
            4 => {
                let words = ["workspace", "user", "agent", "alert", "campaign", "signal"];
                let other = *dice.pick(&words);
                format!("'{}'", pools.any(dice, other))
            }
            _ => match pools.fitting(dice, name) {
                Some(id) => format!("'{id}'"),
                None => format!("'{}'", dice.uuid()),
            },
        },
        "text" => match dice.below(4) {
            0 => (*dice.pick(NASTY)).into(),
            1 => format!("'{}'", dice.below(30)),
            _ => format!("'{}'", word(dice, name)),
        },
        "numeric" | "double precision" | "integer" | "bigint" => match dice.below(3) {
            0 => (*dice.pick(NUMBERS)).into(),
            1 => format!("{}", dice.below(20)),
            _ => format!("{}.{}", dice.below(1000), dice.below(1000)),
        },
        "boolean" => (*dice.pick(&["true", "false"])).into(),
        "timestamp with time zone" => (*dice.pick(TIMES)).into(),
        "date" => (*dice.pick(DATES)).into(),
        "interval" => (*dice.pick(INTERVALS)).into(),
        "time without time zone" => (*dice.pick(TIMES_OF_DAY)).into(),
        "jsonb" => match dice.below(12) {
            0 => "'{\"a\":'".into(),
            _ => (*dice.pick(JSON)).into(),
        },
        "bytea" => format!("decode('{:x}', 'escape')", dice.next()),
        "regclass" => pools.any(dice, "relation"),
        "regrole" => pools.any(dice, "role"),
        other => panic!("what is a random {other}? Tell the fuzzer."),
    }
}

/// A word that is likely to be one of those that an argument takes.
fn word(dice: &mut Dice, name: &str) -> &'static str {
    let span = match name {
        "p_insight_type" => 0..5,
        "p_alert_type" => 5..10,
        "p_severity" => 10..15,
        "p_notification_type" => 15..20,
        "p_channel" => 20..25,
        "p_priority" => 25..27,
        "direction" => 27..29,
        _ => 0..WORDS.len(),
    };
    let likely = if dice.once_in(8) {
        0..WORDS.len()
    } else {
        span
    };
    WORDS[likely.start + dice.below(likely.len())]
}

fn array(dice: &mut Dice, pools: &Pools, element: &str, name: &str) -> String {
    let items = |dice: &mut Dice, most: usize| -> String {
        let count = dice.below(most) + 1;
        (0..count)
            .map(|_| {
                if dice.once_in(30) {
                    "NULL".into()
                } else {
                    format!("({})::{element}", scalar(dice, pools, element, name))
                }
            })
            .collect::<Vec<_>>()
            .join(", ")
    };
    match dice.below(12) {
        0 => format!("'{{}}'::{element}[]"),
        1 => format!("ARRAY[NULL]::{element}[]"),
        2 => {
            let one = items(dice, 1);
            format!("ARRAY[ARRAY[{one}], ARRAY[{one}]]::{element}[]")
        }
        3 => {
            let one = items(dice, 1);
            format!("array_fill({one}, ARRAY[{}], ARRAY[-7])", dice.below(5000))
        }
        4 => format!("(ARRAY[{}]::{element}[])[2:3]", items(dice, 5)),
        _ => format!("ARRAY[{}]::{element}[]", items(dice, 6)),
    }
}

/// A call as SQL text.
fn call(dice: &mut Dice, pools: &Pools, function: &Function) -> String {
    let mut given: Vec<String> = Vec::new();
    let mut named = dice.once_in(3);
    for argument_of in &function.arguments {
        if argument_of.has_default && dice.once_in(2) {
            // Whatever follows one that is left out has to be named.
            named = true;
            continue;
        }
        let value = argument(dice, pools, argument_of);
        given.push(if named {
            format!("{} => {value}", argument_of.name)
        } else {
            value
        });
    }
    let call = format!("codex.{}({})", function.name, given.join(", "));
    match dice.below(12) {
        0 => format!("SELECT {call} FROM generate_series(1, 3)"),
        1 => format!(
            "SELECT ({call} IS NULL) FROM (VALUES (1), (2)) AS v (n) WHERE {call} IS NOT NULL"
        ),
        2 => format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT {call}"),
        3 => format!("SELECT * FROM {call} LIMIT 0"),
        4 => format!("SELECT x.* FROM generate_series(1, 2) AS n, LATERAL {call} AS x"),
        5 => format!(
            "DO $fuzz$ BEGIN PERFORM {call}; RAISE division_by_zero; EXCEPTION WHEN OTHERS THEN IF sqlstate LIKE 'XX%' THEN RAISE; END IF; END $fuzz$"
        ),
        6 => {
            format!("DECLARE c CURSOR FOR SELECT {call}; FETCH 1 FROM c; FETCH ALL FROM c; CLOSE c")
        }
        7 => {
            // A prepared statement outlives the transaction.
            let name = format!("p{:x}", dice.next());
            format!(
                "PREPARE {name} AS SELECT {call}; EXECUTE {name}; EXECUTE {name}; DEALLOCATE {name}"
            )
        }
        8 => format!("SELECT count(x) OVER (), x FROM {call} AS x ORDER BY 1"),
        _ => format!("SELECT * FROM {call}"),
    }
}

/// One transaction of calls.
struct Plan {
    /// Which of the sessions.
    caller: usize,
    before: Vec<String>,
    calls: Vec<(usize, String)>,
    commit: bool,
}

/// `first`: the function that is called first, so that none is left to chance alone.
fn plan(
    dice: &mut Dice,
    pools: &Pools,
    functions: &[Function],
    callers: usize,
    first: Option<usize>,
) -> Plan {
    let mut before = Vec::new();
    let mischief = dice.once_in(12);
    // The last caller is the superuser.
    let caller = if mischief {
        callers - 1
    } else {
        // Those who may call nothing, or little, come last and seldom.
        (callers - 1).saturating_sub(dice.below(callers * 4) % (callers + 2) / 2 + dice.below(3))
    };
    if dice.once_in(3) {
        before.push((*dice.pick(CONTEXTS)).to_owned());
    }
    if !dice.once_in(4) {
        let (workspace, user) = (pools.any(dice, "workspace"), pools.any(dice, "user"));
        before.push(match dice.below(3) {
            0 => format!("SET LOCAL app.current_workspace_id = '{workspace}'"),
            1 => format!("SET LOCAL app.current_workspace_id = '{workspace}'; SET LOCAL app.current_user_id = '{user}'"),
            _ => format!(
                "SELECT set_config('request.jwt.claims', '{{\"sub\": \"{user}\", \"workspace_id\": \"{workspace}\"}}', true)"
            ),
        });
    }
    if mischief {
        before.push((*dice.pick(MISCHIEF)).to_owned());
    }
    let mut commit = dice.once_in(2) && !mischief;
    let calls = (0..=dice.below(6))
        .map(|turn| {
            let mut chosen = dice.below(functions.len());
            while functions[chosen].is_rare && !dice.once_in(12) {
                chosen = dice.below(functions.len());
            }
            if let (0, Some(first)) = (turn, first) {
                chosen = first;
            }
            commit &= !functions[chosen].changes_schema;
            (chosen, call(dice, pools, &functions[chosen]))
        })
        .collect();
    Plan {
        caller,
        before,
        calls,
        commit,
    }
}

/// What the calls of one session came to.
#[derive(Default)]
struct Outcome {
    /// Calls and those of them that went through, by function.
    calls: BTreeMap<usize, (u32, u32)>,
    /// How often each SQLSTATE was met, and the first message that came with it.
    states: BTreeMap<String, (u32, String)>,
    /// Function and message of each bug, with the first transaction that showed it.
    bugs: BTreeMap<(String, String), String>,
}

/// Settings of a session that no call may change.
const UNCHANGED: &str = "SELECT concat_ws(' ', current_user, current_setting('search_path'), current_setting('lock_timeout'), \
     current_setting('row_security'), coalesce(current_setting('app.current_workspace_id', true), ''))";

fn run(plan: &Plan, client: &mut Client, functions: &[Function], outcome: &mut Outcome) -> bool {
    let mut said = vec!["BEGIN".to_owned()];
    let note = |outcome: &mut Outcome, what: &str, said: &[String], failure: &Failure| {
        let met = outcome.states.entry(failure.sqlstate.clone());
        met.or_insert_with(|| (0, failure.message.chars().take(100).collect()))
            .0 += 1;
        if is_a_bug(failure) {
            outcome
                .bugs
                .entry((what.to_owned(), failure.to_string()))
                .or_insert_with(|| said.join(";\n"));
        }
    };
    let step = |client: &mut Client,
                outcome: &mut Outcome,
                what: &str,
                said: &mut Vec<String>,
                sql: &str| {
        let result = client.batch_execute(&format!("SAVEPOINT s; {sql}; RELEASE SAVEPOINT s"));
        said.push(sql.to_owned());
        match result {
            Ok(()) => true,
            Err(error) => {
                note(outcome, what, said, &Failure::from(&error));
                let _ = client.batch_execute("ROLLBACK TO SAVEPOINT s");
                false
            }
        }
    };
    if client.batch_execute("BEGIN").is_err() {
        // Another session has crashed the server.
        return false;
    }
    for sql in &plan.before {
        if sql.starts_with("SET TRANSACTION") {
            let _ = client.batch_execute(sql);
            said.push(sql.clone());
            continue;
        }
        step(client, outcome, "before", &mut said, sql);
    }
    for (function, sql) in &plan.calls {
        let went_through = step(client, outcome, &functions[*function].name, &mut said, sql);
        let counted = outcome.calls.entry(*function).or_default();
        counted.0 += 1;
        counted.1 += u32::from(went_through);
        if client.is_closed() {
            return false;
        }
    }
    let end = if plan.commit { "COMMIT" } else { "ROLLBACK" };
    said.push(end.to_owned());
    if let Err(error) = client.batch_execute(end) {
        note(outcome, end, &said, &Failure::from(&error));
        if client.batch_execute("ROLLBACK").is_err() {
            return false;
        }
    }
    true
}

/// A session; after a crash of the server as soon as it is back.
fn when_it_is_back(config: &Config) -> Client {
    let begun = Instant::now();
    loop {
        match config.connect(NoTls) {
            Ok(client) => return client,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn no_call_crashes_the_server_or_ends_in_an_internal_error() {
    let calls = setting("CODEX_FUZZ_CALLS", 5_000);
    let seed = seed("fuzz");
    let db = Database::migrated();
    let mut admin = db.admin();
    story::tell(&mut admin);
    story::tell_of_the_engines(&mut admin);
    let (reader, member, service, nobody) = (
        db.role("reader"),
        db.role("member"),
        db.role("service"),
        db.role("nobody"),
    );
    story::add_to_it(&mut admin, &reader, &member, &service);
    let owner = db.role("owner");
    // The owner of the tables is no superuser; the superuser stays the owner of the extension.
    admin
        .batch_execute(&format!(
            "SELECT codex.grant_operator_role('{owner}');
             GRANT CREATE ON SCHEMA public, app TO {owner};
             DO $$
             DECLARE t regclass;
             BEGIN
                 FOR t IN SELECT c.oid FROM pg_class AS c
                          WHERE c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace, 'app'::regnamespace)
                            AND c.relkind IN ('r', 'v', 'm')
                 LOOP
                     EXECUTE format('ALTER TABLE %s OWNER TO {owner}', t);
                 END LOOP;
             END $$"
        ))
        .unwrap_or_else(|error| panic!("{error:?}"));
    let functions = functions(&mut admin);
    let pools = Pools::of(&mut admin);
    let started: String = value(&mut admin, "SELECT pg_postmaster_start_time()::text", &[]);
    let superuser: String = value(&mut admin, "SELECT session_user::text", &[]);
    let roles = [nobody, reader, member, service, owner];

    let outcome = Mutex::new(Outcome::default());
    std::thread::scope(|scope| {
        for number in 0..SESSIONS {
            let (functions, pools, roles, outcome, db, superuser) = (
                &functions,
                &pools,
                &roles,
                &outcome,
                &db,
                superuser.as_str(),
            );
            scope.spawn(move || {
                let connect = |caller: usize| {
                    let mut config = db.config_of(&roles[caller.min(roles.len() - 1)], "");
                    if caller == roles.len() {
                        config.user(superuser);
                    }
                    let mut client = when_it_is_back(&config);
                    client
                        .batch_execute("SET lock_timeout = '300ms'; SET statement_timeout = '20s'; SET client_min_messages = error")
                        .expect("a session");
                    let before: String = value(&mut client, UNCHANGED, &[]);
                    (client, before)
                };
                let mut callers: Vec<(Client, String)> = (0..=roles.len()).map(connect).collect();
                let mut dice = Dice::new(seed, number as u64);
                let mut own = Outcome::default();
                let mut made = 0;
                // The sessions share the functions out among them, twice over.
                let mut firsts = (0..functions.len() * 2).skip(number).step_by(SESSIONS);
                while made < calls / SESSIONS {
                    let first = firsts.next().map(|turn| turn % functions.len());
                    let plan = plan(&mut dice, pools, functions, callers.len(), first);
                    made += plan.calls.len();
                    let (client, before) = &mut callers[plan.caller];
                    if run(&plan, client, functions, &mut own) {
                        // A session that another one's crash has ended says nothing.
                        let after = client.query_one(UNCHANGED, &[]).map(|row| row.get::<_, String>(0));
                        if let Ok(after) = after {
                            assert_eq!(*before, after, "{:?}\n{:?}", plan.before, plan.calls);
                        }
                    } else {
                        callers[plan.caller] = connect(plan.caller);
                    }
                }
                let mut all = outcome.lock().expect("no other thread panicked");
                for (function, (calls, through)) in own.calls {
                    let counted = all.calls.entry(function).or_default();
                    counted.0 += calls;
                    counted.1 += through;
                }
                for (state, (times, example)) in own.states {
                    all.states.entry(state).or_insert((0, example)).0 += times;
                }
                all.bugs.extend(own.bugs);
            });
        }
    });
    let outcome = outcome.into_inner().expect("no thread panicked");
    let total: u32 = outcome.calls.values().map(|(calls, _)| calls).sum();
    let through: u32 = outcome.calls.values().map(|(_, through)| through).sum();
    println!(
        "{total} calls of {} functions, {through} went through",
        outcome.calls.len()
    );
    for (state, (times, example)) in &outcome.states {
        println!("  {state} {times:>7} times, such as: {example}");
    }
    for (number, function) in functions.iter().enumerate() {
        let (calls, through) = outcome.calls.get(&number).copied().unwrap_or_default();
        println!(
            "  {:<32} {calls:>7} calls {through:>7} went through",
            function.name
        );
    }
    let bugs: Vec<String> = outcome
        .bugs
        .iter()
        .map(|((function, message), sql)| {
            format!(
                "codex.{function}: {message}\n{}",
                sql.chars().take(3000).collect::<String>()
            )
        })
        .collect();
    assert!(
        bugs.is_empty(),
        "{} bugs, seed {seed}:\n{}",
        bugs.len(),
        bugs.join("\n\n")
    );
    assert_eq!(
        started,
        value::<String>(&mut admin, "SELECT pg_postmaster_start_time()::text", &[]),
        "the server started anew"
    );
    let failed: Vec<String> = admin
        .query(
            "SELECT id || ': ' || actual FROM codex.verify() WHERE NOT passed",
            &[],
        )
        .expect("codex.verify() runs")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(
        outcome.calls.len(),
        functions.len(),
        "every function was called"
    );
}

#[test]
fn functions_that_lack_what_they_need_say_so() {
    let seed = seed("mischief");
    let db = Database::migrated();
    let mut admin = db.admin();
    story::tell(&mut admin);
    story::tell_of_the_engines(&mut admin);
    story::add_to_it(
        &mut admin,
        &db.role("reader"),
        &db.role("member"),
        &db.role("service"),
    );
    let functions = functions(&mut admin);
    let pools = Pools::of(&mut admin);
    let mut dice = Dice::new(seed, 0);
    let mut outcome = Outcome::default();
    // Any of them, where not all are asked for.
    let mut chosen: Vec<&str> = MISCHIEF.to_vec();
    while chosen.len() > setting("CODEX_FUZZ_MISCHIEF", MISCHIEF.len()) {
        chosen.remove(dice.below(chosen.len()));
    }
    for mischief in chosen {
        // In sessions that have used the functions before, and in new ones.
        if dice.once_in(2) {
            admin = db.admin();
        }
        admin
            .batch_execute("SET client_min_messages = error")
            .expect("a session");
        let calls = (functions.iter().enumerate())
            .filter(|(_, function)| function.name != "isolation_selftest")
            .map(|(number, function)| (number, call(&mut dice, &pools, function)))
            .collect();
        let plan = Plan {
            caller: 0,
            before: vec![mischief.to_owned()],
            calls,
            commit: false,
        };
        assert!(
            run(&plan, &mut admin, &functions, &mut outcome),
            "the session ended after {mischief}: {:?}",
            outcome.bugs
        );
    }
    let bugs: Vec<_> = outcome.bugs.keys().collect();
    assert!(bugs.is_empty(), "seed {seed}: {bugs:#?}");
}

#[test]
fn sessions_that_change_privileges_and_policies_at_once_wait_for_each_other() {
    let db = Database::migrated();
    db.admin()
        .batch_execute(
            "CREATE SCHEMA app; CREATE TABLE app.notes (id uuid PRIMARY KEY, workspace_id uuid)",
        )
        .unwrap();
    let roles: Vec<String> = (0..6)
        .map(|number| db.role(&format!("role{number}")))
        .collect();
    let failures: Vec<String> = db
        .parallel(roles.len(), |number, client| {
            (0..5)
                .filter_map(|_| {
                    client
                        .batch_execute(&format!(
                            "SELECT codex.grant_member_role('{0}'); SELECT codex.grant_service_role('{0}');
                             SELECT codex.revoke_role('{0}'); SELECT codex.grant_member_role('{0}');
                             SELECT codex.grant_operator_role('{0}'); SELECT codex.expose('app'); SELECT codex.unexpose('app');
                             SELECT codex.protect('app.notes'); SELECT codex.unprotect('app.notes');
                             SELECT codex.protect_shared('app.notes')",
                            roles[number]
                        ))
                        .err()
                        .map(|error| Failure::from(&error).to_string())
                })
                .collect::<Vec<_>>()
        })
        .into_iter()
        .flatten()
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
    let granted: i64 = value(
        &mut db.admin(),
        "SELECT count(*) FROM codex.roles WHERE kind = 'member'",
        &[],
    );
    assert_eq!(granted, 6);
}
