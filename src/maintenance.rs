//! What time does: one call does a batch of everything that is due, in all workspaces.
//!
//! Each engine knows what is due in it (its `upkeep`); here they are called one after the other.
//!
//! | rule | why |
//! |---|---|
//! | a batch of each kind of work a call | a transaction stays short, whatever has piled up |
//! | each kind in a subtransaction of its own | one that fails is reported, and does not keep the others from their work |
//! | one run at a time in a database | a second one says so and does nothing |
//! | rows that somebody else has locked are left for the next call | nobody waits for maintenance, and it waits for nobody |
//!
//! Nothing is remembered between calls: what is due is seen in the rows. So a call that was cancelled or lost is made up for by the next.

use crate::context;
use crate::error::{CodexError, OrRaise, Outcome};
use crate::instant;
use crate::statement;
use crate::subtransaction::subtransaction;
use crate::{achievements, agents, alerts, argument, idempotency, notifications, signals};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::panic::AssertUnwindSafe;

/// Key of the advisory lock that a run holds: the letters "CODX", and 2.
const ADVISORY_LOCK: (i32, i32) = (0x434F_4458, 2);

/// How long the ids of executions are kept, in days: longer than any retry lasts.
const EXECUTION_IDS_DAYS: i64 = 30;

/// What an engine does for `now`, at most so many rows of each kind; gives what was done, and to how many rows.
type Upkeep =
    fn(&mut SpiClient<'_>, TimestampWithTimeZone, i64) -> Outcome<Vec<(&'static str, i64)>>;

/// The engines, by the names that a problem is reported under.
const ENGINES: &[(&str, Upkeep)] = &[
    ("achievements", achievements::upkeep::upkeep),
    ("alerts", alerts::life::upkeep),
    ("notifications", notifications::upkeep::upkeep),
    ("signals and insights", signals::upkeep),
    ("tasks and budgets of agents", agents::upkeep::upkeep),
    ("idempotency keys", forget_requests),
    ("execution ids", forget_executions),
];

statement!(TAKE_TURN(INT4, INT4) = "SELECT pg_catalog.pg_try_advisory_xact_lock($1, $2)");
statement!(
    FORGET_EXECUTIONS(TIMESTAMPTZ, INT8) = "
DELETE FROM codex.agent_executions AS e
WHERE e.ctid = ANY (ARRAY(
    SELECT o.ctid
    FROM codex.agent_executions AS o
    WHERE o.recorded_at < $1
    ORDER BY o.recorded_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
))"
);

fn forget_requests(
    client: &mut SpiClient<'_>,
    now: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<Vec<(&'static str, i64)>> {
    let before = instant::days_before(now, idempotency::KEPT_DAYS.into())?;
    let forgotten = idempotency::forget(client, before, batch)?;
    Ok(vec![("idempotency keys forgotten", forgotten as i64)])
}

fn forget_executions(
    client: &mut SpiClient<'_>,
    now: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<Vec<(&'static str, i64)>> {
    let before = instant::days_before(now, EXECUTION_IDS_DAYS)?;
    let forgotten = FORGET_EXECUTIONS
        .with(|statement| statement.execute(client, &[before.into(), batch.into()]))?;
    Ok(vec![("execution ids forgotten", forgotten as i64)])
}

/// One kind of work, as it went.
struct Done {
    work: String,
    rows: i64,
    problem: Option<String>,
}

/// Does what is due by now, in all workspaces: a batch of each kind of work, in one transaction. Made to be called every
/// minute by pg_cron or any scheduler.
///
/// - `batch`: how many rows of each kind at most, 1 to 100000.
///
/// Gives a row a kind of work: how many rows it was done to; `more`, whether the batch was full, so that another call finds
/// more at once; `problem`, the error with which an engine failed (it is logged as a warning, too; the others do their
/// work all the same). While another run is at work, the only row says so.
///
/// For the owner of the tables (or a superuser). Refuses: NULL (22004), a batch out of bounds (22023), and whoever
/// row-level security applies to (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn run_maintenance(
    batch: default!(Option<i32>, 1000),
) -> TableIterator<
    'static,
    (
        name!(work, String),
        name!(rows, i64),
        name!(more, bool),
        name!(problem, Option<String>),
    ),
> {
    let run = || -> Outcome<_> {
        let batch = argument::between(batch, "batch", 1..=100_000)?;
        if context::subject_to_policies() {
            return Err(CodexError::not_allowed(
                "maintenance works in all workspaces, and row-level security keeps this role to its own",
            )
            .with_hint("Run it as the owner of the tables."));
        }
        let done = work_through(batch)?;
        Ok(done.into_iter().map(move |done| {
            let more = done.rows >= batch;
            (done.work, done.rows, more, done.problem)
        }))
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
ALTER FUNCTION run_maintenance(integer) SET enable_seqscan = off;
ALTER FUNCTION run_maintenance(integer) SET enable_bitmapscan = off;
ALTER FUNCTION run_maintenance(integer) SET enable_sort = off;
COMMENT ON FUNCTION run_maintenance(integer) IS
'Does what is due by now, in all workspaces: up to batch rows (1 to 100000) of each kind of work. A row a kind: how many rows, whether there is more, and the problem of an engine that failed. One run at a time; a second one says so. To be called every minute, by pg_cron or any scheduler, as the owner of the tables. Errors: 22004 NULL, 22023 batch out of bounds, 42501 where row-level security applies.';
"#,
    name = "comment_run_maintenance",
    requires = [run_maintenance]
);

fn work_through(batch: i64) -> Outcome<Vec<Done>> {
    let our_turn = Spi::connect_mut(|client| {
        TAKE_TURN.with(|statement| {
            statement.write_one(
                client,
                &[ADVISORY_LOCK.0.into(), ADVISORY_LOCK.1.into()],
                |row| row.get::<bool>(1),
            )
        })
    })?;
    if our_turn.flatten() != Some(true) {
        return Ok(vec![Done {
            work: "nothing".to_string(),
            rows: 0,
            problem: Some("another run is at work".to_string()),
        }]);
    }
    let now = instant::now();
    let mut all = Vec::new();
    for (engine, upkeep) in ENGINES {
        let done = subtransaction(AssertUnwindSafe(|| {
            Spi::connect_mut(|client| upkeep(client, now, batch))
        }));
        match done {
            Ok(done) => all.extend(done.into_iter().map(|(work, rows)| Done {
                work: work.to_string(),
                rows,
                problem: None,
            })),
            Err(caught) => {
                warning!("maintenance of {engine} failed: {}", caught.message());
                all.push(Done {
                    work: (*engine).to_string(),
                    rows: 0,
                    problem: Some(caught.message().to_string()),
                });
            }
        }
    }
    Ok(all)
}
