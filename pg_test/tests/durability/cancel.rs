//! A statement that is cancelled half-way leaves nothing behind: no row, no setting, no session that works
//! differently from before.

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
    reads("verify", "made AS (SELECT 'x') SELECT 'SELECT count(*) FROM codex.verify()' FROM made"),
    reads(
        "isolation_selftest",
        "made AS (SELECT 'x') SELECT 'SELECT count(*) FROM codex.isolation_selftest()' FROM made",
    ),
    reads(
        "protect",
        "made AS (SELECT 'x') SELECT 'SELECT codex.unprotect(''public.moves''); SELECT codex.protect(''public.moves'', subquery => true)' FROM made",
    ),
    writes(
        "rollback",
        "made AS (SELECT 'x') SELECT 'SELECT codex.rollback(16, true); SELECT codex.migrate()' FROM made",
    ),
];

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

#[test]
fn a_call_that_is_stopped_while_it_waits_leaves_nothing() {
    let db = Database::migrated();
    let mut admin = db.admin();
    story::tell(&mut admin);
    let watch = Watch::new(&mut admin);
    let all = tables(&mut admin);
    let mut client = db.admin();
    let as_before = session(&mut client);
    let mut stopped = 0;
    let mut stopped_by_function = vec![0; CASES.len()];
    for (number, case) in CASES.iter().enumerate() {
        for (position, table) in all.iter().enumerate() {
            // A reader waits for nothing less; a writer is stopped further on where reading is possible.
            let mode = if case.writes && position % 3 > 0 {
                "SHARE ROW EXCLUSIVE"
            } else {
                "ACCESS EXCLUSIVE"
            };
            let stop = if (position + number) % 2 == 0 {
                Stop::Timeout
            } else {
                Stop::Cancel
            };
            // Each waits for one table only, and most wait for few: what never touches the table just runs.
            let call: String = value(&mut admin, &format!("{SOMEWHERE}, {}", case.call), &[]);
            let before = watch.database(&mut admin);
            let mut holder = db.admin();
            holder
                .batch_execute(&format!("BEGIN; LOCK TABLE {table} IN {mode} MODE"))
                .unwrap_or_else(|error| panic!("{table}: {error:?}"));
            let result = run_and_stop(&db, &mut client, &call, stop);
            holder.batch_execute("ROLLBACK").expect("lets go");
            let Err(failure) = result else { continue };
            let what = format!(
                "codex.{} without {table} ({mode}), {stop:?}: {call}",
                case.function
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
            stopped += 1;
            stopped_by_function[number] += 1;
        }
    }
    println!(
        "{} calls of {} functions on {} tables: {stopped} stopped",
        CASES.len() * all.len(),
        CASES.len(),
        all.len()
    );
    for (case, stopped) in CASES.iter().zip(stopped_by_function) {
        println!("  {:<32} stopped at {stopped} tables", case.function);
        assert!(stopped > 0, "codex.{} never waited", case.function);
    }
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
