//! Whether both sides give the right answers: what answers wrongly is not measured.

use crate::Result;
use crate::compare::in_words;
use crate::reading::fixed_id;
use crate::session::{BASELINE, CODEX, MEMBER, PLAIN, SERVICE, Session};
use postgres::Transaction;
use std::fmt::Debug;

/// Calls every function that is measured on both sides, in transactions that are rolled back.
pub fn check() -> Result<()> {
    println!("\nboth sides give the right answers");
    let writers = [(CODEX, SERVICE, "codex"), (BASELINE, PLAIN, "public")];
    for (database, role, schema) in writers {
        let mut session = Session::in_workspace(database, role)?;
        for (what, answer) in [
            ("send", send as fn(&mut Transaction<'_>, &str) -> Result<()>),
            ("unlock", unlock),
            ("record", record),
        ] {
            let mut transaction = session.transaction()?;
            answer(&mut transaction, schema)
                .map_err(|error| format!("{what}, {schema}: {}", in_words(&*error)))?;
            transaction.rollback()?;
        }
    }
    lists()
}

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: {found:?}, expected {expected:?}").into())
}

fn send(transaction: &mut Transaction<'_>, schema: &str) -> Result<()> {
    let id: uuid::Uuid = transaction
        .query_one(
            &format!(
                "SELECT {schema}.send_user_notification(bench_id('workspace', 0), bench_id('user', 3), 'alert', 'T', 'M')"
            ),
            &[],
        )?
        .get(0);
    let row = transaction.query_one(
        "SELECT user_id = bench_id('user', 3), notification_type, title, message, channel, priority_level, is_read
         FROM public.user_notifications
         WHERE id = $1",
        &[&id],
    )?;
    same("its user is the one", row.get(0), true)?;
    let texts: Vec<String> = (1..=5).map(|column| row.get(column)).collect();
    same(
        "the notification",
        texts.join(" "),
        "alert T M in_app normal".to_string(),
    )?;
    same("it is read", row.get(6), false)
}

fn unlock(transaction: &mut Transaction<'_>, schema: &str) -> Result<()> {
    let call = format!(
        "SELECT u.success, u.points_awarded
         FROM {schema}.unlock_achievement(bench_id('user', 3), bench_id('achievement', 999), bench_id('workspace', 0), 'bench') AS u"
    );
    for expected in [(true, 10), (false, 0)] {
        let row = transaction.query_one(&call, &[])?;
        same("success and points", (row.get(0), row.get(1)), expected)?;
    }
    let row = transaction.query_one(
        "SELECT s.total_points, s.achievements_unlocked
         FROM public.user_stats AS s
         WHERE s.workspace_id = bench_id('workspace', 0)
           AND s.user_id = bench_id('user', 3)",
        &[],
    )?;
    same("points and unlocks", (row.get(0), row.get(1)), (10, 1))
}

fn record(transaction: &mut Transaction<'_>, schema: &str) -> Result<()> {
    for (seconds, success) in [(1.0, true), (3.0, false)] {
        transaction.execute(
            &format!(
                "SELECT {schema}.record_agent_execution(
                     bench_id('workspace', 0), bench_id('agent', 3), $1::float8::numeric, 100, 20, 0.5, $2
                 )"
            ),
            &[&seconds, &success],
        )?;
    }
    let row = transaction.query_one(
        "SELECT concat_ws(' ', p.execution_count, p.success_count, p.failure_count, p.avg_execution_time_seconds::float8,
                          p.min_execution_time_seconds::float8, p.max_execution_time_seconds::float8,
                          p.total_input_tokens, p.total_output_tokens, p.total_cost_incurred::float8,
                          p.success_rate_percentage::float8)
         FROM public.agent_performance AS p
         WHERE p.workspace_id = bench_id('workspace', 0)
           AND p.agent_id = bench_id('agent', 3)
         ORDER BY p.measurement_date DESC, p.measurement_hour DESC
         LIMIT 1",
        &[],
    )?;
    same(
        "the hour",
        row.get(0),
        "2 1 1 2 1 3 200 40 1 50".to_string(),
    )?;
    let row = transaction.query_one(
        "SELECT concat_ws(' ', g.tasks_completed, g.tasks_failed, g.total_tokens_used, g.total_cost_incurred::float8)
         FROM public.agent_assignments AS g
         WHERE g.workspace_id = bench_id('workspace', 0)
           AND g.agent_id = bench_id('agent', 3)",
        &[],
    )?;
    same("the assignment", row.get(0), "1 1 240 1".to_string())
}

/// The lists have the same rows in the same order; ids are another matter in each database.
fn lists() -> Result<()> {
    for (call, of) in [
        ("get_user_unread_notifications($1, p_limit => 20)", "user"),
        ("get_priority_signals($1, p_limit => 20)", "workspace"),
        ("get_critical_alerts($1, p_limit => 20)", "workspace"),
        ("get_active_insights($1, p_limit => 20)", "workspace"),
    ] {
        let of = fixed_id(of)?;
        let titles = |database, role, schema: &str| -> Result<Vec<String>> {
            let mut session = Session::in_workspace(database, role)?;
            Ok(session
                .query(
                    &format!("SELECT list.title FROM {schema}.{call} AS list"),
                    &[&of],
                )?
                .iter()
                .map(|row| row.get(0))
                .collect())
        };
        let codex = titles(CODEX, MEMBER, "codex")?;
        same("the list is empty", codex.is_empty(), false)?;
        same(call, codex, titles(BASELINE, PLAIN, "public")?)?;
    }
    Ok(())
}
