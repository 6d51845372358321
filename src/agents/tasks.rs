//! The work of agents: each assignment has a queue of tasks.
//!
//! A task is put into the queue of an assignment. Workers *claim* tasks for a while (a *lease*), do them, and say how it
//! went:
//!
//! ```text
//!                            ┌──── the lease runs out, or fail_agent_task() ────┐
//!                            ▼                                                  │
//!  enqueue_agent_task() ──► waiting ──── claim_agent_tasks() ──────────────► leased ◄─┐ heartbeat_agent_task()
//!                            ▲    └──► cancelled ◄──── cancel_agent_task() ─────┤ └───┘
//!                            │                                                  ├──► done
//!                            │                                                  └──► dead
//!                            └───────── requeue_agent_task() ──── dead, cancelled
//! ```
//!
//! - A claim takes critical tasks first, then high, normal and low; of one priority what is due longest. Two claims
//!   never take the same task: each skips what another has locked. What it costs does not depend on how many wait.
//! - Each claim of a task gives it another *token*. Who does not have it is a stale worker, whose task another one may
//!   be doing: its word does not count (55000). That is also how a worker learns that its task was cancelled.
//! - At the claim, and not before, is judged whether the agent may work: while the assignment is paused or the agent is
//!   not active the task is put off, a minute at a time; where the assignment has ended it is cancelled.
//! - After a failure a task waits, longer each time, with half of the wait spread by its id
//!   ([`codex_delivery::wait_after`]). When the last attempt fails it is *dead*: it stays, to be looked at and
//!   put back by hand.
//!
//! A task is done at least once: a worker that dies between the work and `complete_agent_task()` leaves it to the next
//! one. `tasks_assigned` of the assignment counts what was put into its queue; what came of it, and what it cost, is
//! counted by `record_agent_execution()`, once an execution id: the lease token is a good one.

use crate::argument::{self, Jsonb};
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten_to};
use crate::idempotency;
use crate::instant;
use crate::statement;
use codex_delivery::SECOND;
use pgrx::Uuid;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::json;

/// Priorities by their rank.
const PRIORITIES: &[&str] = &["critical", "high", "normal", "low"];

/// The longest type of a task and the longest name of a worker, in characters.
const LONGEST_NAME: usize = 200;
/// The longest error that is kept, in characters.
const LONGEST_ERROR: usize = 2000;

/// The longest lease: a day.
const LONGEST_LEASE: i64 = 86_400 * SECOND;
/// How long a task is put off whose agent may not work just now.
const PUT_OFF: i64 = 60 * SECOND;

/// How often a claim looks for more in place of what it had to set aside, before it gives what it has. With nothing in
/// hand it goes on, so that no row means that nothing is due.
const MOST_ROUNDS: usize = 16;

/// How many leases that ran out a claim puts back at most.
const REAPED_BY_A_CLAIM: i64 = 100;

statement!(
    COUNT_IN(UUID, UUID) = "
UPDATE public.agent_assignments AS g
SET tasks_assigned = least(coalesce(g.tasks_assigned, 0), 2147483646) + 1
WHERE g.workspace_id = $1
  AND g.id = $2
RETURNING g.agent_id, g.assignment_status, coalesce(g.priority_level, 'normal')"
);
statement!(
    ENQUEUE(UUID, UUID, UUID, TEXT, JSONB, INT4, TIMESTAMPTZ, INT4) = "
INSERT INTO codex.agent_tasks (workspace_id, assignment_id, agent_id, task_type, payload, priority_rank, due_at, max_attempts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id"
);

/// Puts a task into the queue of an assignment and returns its id.
///
/// - `assignment_id`: an assignment of the workspace that is active or paused; its agent is to do the task.
/// - `task_type`: what kind of work it is, for the worker to know; not blank, up to 200 characters.
/// - `payload`: any JSON, handed to the worker as it is.
/// - `priority`: critical, high, normal or low; NULL for that of the assignment.
/// - `run_after`: not before this time; NULL for at once.
/// - `max_attempts`: how many times it may be tried, 1 to 100.
/// - `idempotency_key`: the same key again gives the first answer and queues nothing.
///
/// Counts it in `tasks_assigned` of the assignment. Refuses: NULL (22004); a value out of its list or range, an infinite
/// time, a key that was used for another call (22023); an assignment that is not there or of another workspace
/// (23503); one that is completed, failed or archived (55000); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn enqueue_agent_task(
    workspace: Option<Uuid>,
    assignment_id: Option<Uuid>,
    task_type: Option<&str>,
    payload: default!(Option<Jsonb>, "'{}'"),
    priority: default!(Option<&str>, "NULL"),
    run_after: default!(Option<TimestampWithTimeZone>, "NULL"),
    max_attempts: default!(Option<i32>, 5),
    idempotency_key: default!(Option<&str>, "NULL"),
) -> Uuid {
    let run = || -> Outcome<Uuid> {
        let workspace = required(workspace, "workspace")?;
        let assignment = required(assignment_id, "assignment_id")?;
        let task_type = required(task_type, "task_type")?;
        argument::key(Some(task_type), "task_type", LONGEST_NAME)?;
        let payload = required(payload, "payload")?;
        let priority = priority
            .map(|one| argument::one_of(Some(one), "priority", PRIORITIES))
            .transpose()?;
        if run_after.is_some_and(|at| at.is_infinity() || at.is_neg_infinity()) {
            return Err(CodexError::bad_value("run_after is infinite"));
        }
        let max_attempts = argument::between(max_attempts, "max_attempts", 1..=100)? as i32;
        context::require_workspace(workspace)?;
        let request = json!({
            "assignment_id": assignment.to_string(),
            "task_type": task_type,
            "payload": payload.text(),
            "priority": priority,
            "run_after": run_after.map(pg_sys::TimestampTz::from),
            "max_attempts": max_attempts,
        });
        let enqueue = |client: &mut SpiClient<'_>| -> Outcome<Option<String>> {
            let (agent, own_priority) = count_in(client, workspace, assignment)?;
            let arguments = [
                workspace.into(),
                assignment.into(),
                agent.into(),
                task_type.into(),
                payload.into(),
                rank_of(priority.unwrap_or(&own_priority)).into(),
                run_after.unwrap_or_else(instant::now).into(),
                max_attempts.into(),
            ];
            let id = ENQUEUE.with(|statement| {
                statement.write_one(client, &arguments, |row| row.get::<Uuid>(1))
            })?;
            Ok(id.flatten().map(|id| id.to_string()))
        };
        let id = Spi::connect_mut(|client| {
            let operation = "enqueue_agent_task";
            idempotency::once(
                client,
                operation,
                workspace,
                idempotency_key,
                &request,
                enqueue,
            )
        })?;
        let id = id.and_then(|id| uuid::Uuid::parse_str(&id).ok());
        id.map(|id| Uuid::from_bytes(id.into_bytes())).ok_or_else(|| {
            CodexError::wrong_state(
                "the task was not written: a trigger or rule on codex.agent_tasks suppressed it",
            )
        })
    };
    run().or_raise()
}

/// Counts a new task in its assignment, whose row stays locked; gives its agent and its priority.
fn count_in(
    client: &mut SpiClient<'_>,
    workspace: Uuid,
    assignment: Uuid,
) -> Outcome<(Uuid, String)> {
    let found = COUNT_IN.with(|statement| {
        statement.write_one(client, &[workspace.into(), assignment.into()], |row| {
            Ok((
                row.get::<Uuid>(1)?,
                row.get::<String>(2)?.unwrap_or_default(),
                row.get::<String>(3)?.unwrap_or_default(),
            ))
        })
    })?;
    let Some((Some(agent), status, priority)) = found else {
        return Err(CodexError::unknown_reference(format!(
            "assignment_id is {assignment}, and there is no such assignment in workspace {workspace}"
        )));
    };
    if !matches!(status.as_str(), "active" | "paused") {
        return Err(CodexError::wrong_state(format!(
            "assignment {assignment} is {status}, and takes no tasks any more"
        )));
    }
    Ok((agent, priority))
}

fn rank_of(priority: &str) -> i32 {
    PRIORITIES
        .iter()
        .position(|one| *one == priority)
        .unwrap_or(2) as i32
}

// The row is found by the place at which it was locked: a join would be planned for a guess of how many there are.
macro_rules! claim {
    ($($filter:literal)?) => {
        concat!(
            "
UPDATE codex.agent_tasks AS t
SET status = 'leased',
    reason = NULL,
    attempts = t.attempts + 1,
    due_at = $4,
    leased_at = $2,
    lease_token = gen_random_uuid(),
    worker = $5
WHERE t.ctid = ANY (ARRAY(
    SELECT w.ctid
    FROM codex.agent_tasks AS w
    WHERE w.status = 'waiting'
      AND w.priority_rank = $1
      AND w.due_at <= $2",
            $($filter,)?
            "
    ORDER BY w.due_at
    LIMIT $3
    FOR NO KEY UPDATE SKIP LOCKED
))
  AND t.status = 'waiting'
RETURNING t.workspace_id, t.id"
        )
    };
}

statement!(CLAIM(INT4, TIMESTAMPTZ, INT8, TIMESTAMPTZ, TEXT) = claim!());
statement!(
    CLAIM_IN_WORKSPACE(INT4, TIMESTAMPTZ, INT8, TIMESTAMPTZ, TEXT, UUID) =
        claim!("\n      AND w.workspace_id = $6")
);
statement!(
    CLAIM_FOR_AGENT(INT4, TIMESTAMPTZ, INT8, TIMESTAMPTZ, TEXT, UUID) =
        claim!("\n      AND w.agent_id = $6")
);
statement!(
    CLAIM_FOR_AGENT_IN_WORKSPACE(INT4, TIMESTAMPTZ, INT8, TIMESTAMPTZ, TEXT, UUID, UUID) =
        claim!("\n      AND w.workspace_id = $6\n      AND w.agent_id = $7")
);

statement!(
    /// What was claimed, with the state of its assignment and of its agent.
    CLAIMED(UUID_ARRAY, UUID_ARRAY) = "
SELECT
    t.workspace_id,
    t.id,
    t.assignment_id,
    t.agent_id,
    t.task_type,
    t.payload,
    t.priority_rank,
    t.attempts,
    t.lease_token,
    g.assignment_status,
    r.is_active IS TRUE
FROM unnest($1, $2) AS c (workspace_id, id)
JOIN codex.agent_tasks AS t
    ON t.workspace_id = c.workspace_id
    AND t.id = c.id
JOIN public.agent_assignments AS g
    ON g.workspace_id = t.workspace_id
    AND g.id = t.assignment_id
JOIN public.agent_registry AS r
    ON r.id = t.agent_id"
);
statement!(
    /// Takes the claim of one task back: it is cancelled, or waits until `due_at`.
    SET_ASIDE(UUID, UUID, TEXT, TIMESTAMPTZ, TIMESTAMPTZ) = "
UPDATE codex.agent_tasks AS t
SET status = CASE WHEN $4 IS NULL THEN 'cancelled' ELSE 'waiting' END,
    reason = $3,
    attempts = t.attempts - 1,
    due_at = coalesce($4, t.due_at),
    lease_token = NULL,
    worker = NULL,
    leased_at = NULL,
    finished_at = CASE WHEN $4 IS NULL THEN $5 END
WHERE t.workspace_id = $1
  AND t.id = $2"
);
statement!(
    REAP(TIMESTAMPTZ, INT8) = "
UPDATE codex.agent_tasks AS t
SET status = CASE WHEN t.attempts < t.max_attempts THEN 'waiting' ELSE 'dead' END,
    reason = CASE WHEN t.attempts >= t.max_attempts THEN 'attempts' END,
    finished_at = CASE WHEN t.attempts >= t.max_attempts THEN $1 END,
    due_at = $1,
    lease_token = NULL,
    worker = NULL,
    leased_at = NULL,
    last_error = concat('the lease of ', t.worker, ' ran out')
WHERE t.ctid = ANY (ARRAY(
    SELECT l.ctid
    FROM codex.agent_tasks AS l
    WHERE l.status = 'leased'
      AND l.due_at <= $1
    ORDER BY l.due_at
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
))
  AND t.status = 'leased'
RETURNING t.status = 'dead'"
);
statement!(
    FORGET(TIMESTAMPTZ, INT8) = "
DELETE FROM codex.agent_tasks AS t
WHERE t.ctid = ANY (ARRAY(
    SELECT o.ctid
    FROM codex.agent_tasks AS o
    WHERE o.finished_at IS NOT NULL
      AND o.finished_at < $1
    ORDER BY o.finished_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
))"
);

/// Puts up to `batch` tasks back whose lease ran out, or gives them up after the last attempt; gives how many of each.
pub fn reap(
    client: &mut SpiClient<'_>,
    now: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<(i64, i64)> {
    let reaped = REAP.with(|statement| {
        statement.write(client, &[now.into(), batch.into()], |row| {
            row.get::<bool>(1)
        })
    })?;
    let given_up = reaped.iter().filter(|dead| **dead == Some(true)).count() as i64;
    Ok((reaped.len() as i64 - given_up, given_up))
}

/// Deletes up to `batch` tasks that were finished before `before`; gives how many.
pub fn forget(
    client: &mut SpiClient<'_>,
    before: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<i64> {
    let gone =
        FORGET.with(|statement| statement.execute(client, &[before.into(), batch.into()]))?;
    Ok(gone as i64)
}

/// A task in the hands of a worker.
struct Claimed {
    workspace: Uuid,
    task: Uuid,
    assignment: Option<Uuid>,
    agent: Option<Uuid>,
    task_type: Option<String>,
    payload: Option<Jsonb>,
    rank: i32,
    attempt: i32,
    token: Option<Uuid>,
}

/// One claim.
struct Claim<'a> {
    worker: &'a str,
    workspace: Option<Uuid>,
    agent: Option<Uuid>,
    now: TimestampWithTimeZone,
    until: TimestampWithTimeZone,
}

impl Claim<'_> {
    /// Leases up to `n` tasks of a rank.
    fn lease(
        &self,
        client: &mut SpiClient<'_>,
        rank: i32,
        n: i64,
    ) -> Outcome<(Vec<Uuid>, Vec<Uuid>)> {
        let mut arguments = vec![
            rank.into(),
            self.now.into(),
            n.into(),
            self.until.into(),
            self.worker.into(),
        ];
        arguments.extend(self.workspace.map(Into::into));
        arguments.extend(self.agent.map(Into::into));
        let statement = match (self.workspace, self.agent) {
            (None, None) => &CLAIM,
            (Some(_), None) => &CLAIM_IN_WORKSPACE,
            (None, Some(_)) => &CLAIM_FOR_AGENT,
            (Some(_), Some(_)) => &CLAIM_FOR_AGENT_IN_WORKSPACE,
        };
        let leased = statement.with(|statement| {
            statement.write(client, &arguments, |row| {
                Ok((row.get::<Uuid>(1)?, row.get::<Uuid>(2)?))
            })
        })?;
        Ok(leased
            .into_iter()
            .filter_map(|(workspace, task)| workspace.zip(task))
            .unzip())
    }

    /// Judges what was leased: what may be done is added to `claimed`, the rest is set aside.
    fn judge(
        &self,
        client: &mut SpiClient<'_>,
        leased: (Vec<Uuid>, Vec<Uuid>),
        claimed: &mut Vec<Claimed>,
    ) -> Outcome<()> {
        let arguments = [leased.0.into(), leased.1.into()];
        let found = CLAIMED.with(|statement| {
            statement.write(client, &arguments, |row| {
                let (Some(workspace), Some(task)) = (row.get(1)?, row.get(2)?) else {
                    return Ok(None);
                };
                let one = Claimed {
                    workspace,
                    task,
                    assignment: row.get(3)?,
                    agent: row.get(4)?,
                    task_type: row.get(5)?,
                    payload: row.get(6)?,
                    rank: row.get(7)?.unwrap_or(2),
                    attempt: row.get(8)?.unwrap_or(1),
                    token: row.get(9)?,
                };
                let assignment = row.get::<String>(10)?.unwrap_or_default();
                let is_active = row.get::<bool>(11)?.unwrap_or(false);
                Ok(Some((one, assignment, is_active)))
            })
        })?;
        // Here, and not by ORDER BY: the planner, told not to sort, would read all tasks in this order.
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_unstable_by_key(|(one, ..)| *one.task.as_bytes());
        for (one, assignment, is_active) in found {
            let (reason, until) = match assignment.as_str() {
                "active" if is_active => {
                    claimed.push(one);
                    continue;
                }
                "active" => ("agent_inactive", Some(instant::after(self.now, PUT_OFF)?)),
                "paused" => (
                    "assignment_paused",
                    Some(instant::after(self.now, PUT_OFF)?),
                ),
                _ => ("assignment_ended", None),
            };
            let arguments = [
                one.workspace.into(),
                one.task.into(),
                reason.into(),
                until.into(),
                self.now.into(),
            ];
            SET_ASIDE.with(|statement| statement.execute(client, &arguments))?;
        }
        Ok(())
    }

    /// Up to `n` tasks that may be done now.
    fn run(&self, client: &mut SpiClient<'_>, n: usize) -> Outcome<Vec<Claimed>> {
        reap(client, self.now, REAPED_BY_A_CLAIM)?;
        let mut claimed = Vec::new();
        let mut rounds = 0;
        for rank in 0..PRIORITIES.len() as i32 {
            // What is set aside is not looked at again before it is due, so that each row costs this once.
            while claimed.len() < n {
                if rounds >= MOST_ROUNDS && !claimed.is_empty() {
                    return Ok(claimed);
                }
                let leased = self.lease(client, rank, (n - claimed.len()) as i64)?;
                if leased.0.is_empty() {
                    break;
                }
                rounds += 1;
                self.judge(client, leased, &mut claimed)?;
            }
        }
        Ok(claimed)
    }
}

/// Leases up to `n` tasks that are due to `worker` for the time `lease`, critical ones first, then what is due longest:
/// of the current workspace when there is one, else of all.
///
/// - `worker`: who claims, for people to read; not blank, up to 200 characters.
/// - `n`: 1 to 1000. `lease`: a second to a day; `heartbeat_agent_task()` makes it longer.
/// - `agent_id`: only tasks of this agent; NULL for all agents.
///
/// `lease_token` is another one for each task and claim, for the functions that say how it went; `attempt` counts
/// from 1. A task whose assignment is paused, or whose agent is not active, is put off for a minute; one whose
/// assignment has ended is cancelled. Leases that ran out are put back first.
///
/// Refuses: NULL (22004); a blank or too long worker, a number or lease out of bounds (22023); a caller to whom
/// row-level security applies and who has entered no workspace (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn claim_agent_tasks(
    worker: Option<&str>,
    n: default!(Option<i32>, 1),
    lease: default!(Option<Interval>, "'5 minutes'"),
    agent_id: default!(Option<Uuid>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(workspace_id, Uuid),
        name!(task_id, Uuid),
        name!(assignment_id, Option<Uuid>),
        name!(assigned_agent_id, Option<Uuid>),
        name!(task_type, Option<String>),
        name!(payload, Option<Jsonb>),
        name!(priority, &'static str),
        name!(attempt, i32),
        name!(lease_token, Option<Uuid>),
        name!(leased_until, TimestampWithTimeZone),
    ),
> {
    let run = || -> Outcome<_> {
        let worker = required(worker, "worker")?;
        argument::key(Some(worker), "worker", LONGEST_NAME)?;
        let n = argument::between(n, "n", 1..=1000)? as usize;
        let lease = argument::duration(lease, "lease", SECOND..=LONGEST_LEASE)?;
        let workspace = context::workspace_or_all()?;
        let now = instant::now();
        let claim = Claim {
            worker,
            workspace,
            agent: agent_id,
            now,
            until: instant::after(now, lease)?,
        };
        let claimed = Spi::connect_mut(|client| claim.run(client, n))?;
        let until = claim.until;
        Ok(claimed.into_iter().map(move |one| {
            let priority = usize::try_from(one.rank)
                .ok()
                .and_then(|rank| PRIORITIES.get(rank));
            (
                one.workspace,
                one.task,
                one.assignment,
                one.agent,
                one.task_type,
                one.payload,
                *priority.unwrap_or(&"normal"),
                one.attempt,
                one.token,
                until,
            )
        }))
    };
    TableIterator::new(run().or_raise())
}

statement!(
    LOCK_TASK(UUID, UUID) = "
SELECT t.status, t.lease_token, t.attempts, t.max_attempts, t.due_at
FROM codex.agent_tasks AS t
WHERE t.workspace_id = $1
  AND t.id = $2
FOR NO KEY UPDATE"
);

/// A task, locked.
struct Task {
    status: String,
    token: Option<Uuid>,
    attempts: i32,
    max_attempts: i32,
    due_at: Option<TimestampWithTimeZone>,
}

impl Task {
    fn lock(client: &mut SpiClient<'_>, workspace: Uuid, task: Uuid) -> Outcome<Self> {
        let found = LOCK_TASK.with(|statement| {
            statement.write_one(client, &[workspace.into(), task.into()], |row| {
                Ok(Self {
                    status: row.get(1)?.unwrap_or_default(),
                    token: row.get(2)?,
                    attempts: row.get(3)?.unwrap_or(0),
                    max_attempts: row.get(4)?.unwrap_or(0),
                    due_at: row.get(5)?,
                })
            })
        })?;
        found.ok_or_else(|| CodexError::not_found(format!("there is no task {task} here")))
    }

    /// The status of a task whose last claim has this token; 55000 for any other.
    fn status_for(&self, task: Uuid, token: Uuid) -> Outcome<&str> {
        if self.token == Some(token) {
            return Ok(&self.status);
        }
        Err(self.refuse(task, token))
    }

    fn refuse(&self, task: Uuid, token: Uuid) -> CodexError {
        CodexError::wrong_state(format!(
            "task {task} is {}, and lease {token} is not its lease any more",
            self.status
        ))
        .with_hint(
            "The lease ran out, or the task was finished or cancelled. Drop it, and claim again.",
        )
    }
}

statement!(
    PROLONG(UUID, UUID, TIMESTAMPTZ) = "
UPDATE codex.agent_tasks AS t
SET due_at = $3
WHERE t.workspace_id = $1
  AND t.id = $2"
);

/// Says that the worker is still at a leased task: the lease lasts `lease` (a second to a day) from now on. Returns when
/// it runs out.
///
/// A lease that ran out can be taken up again as long as nobody has taken notice. Refuses: NULL (22004); a lease out of
/// bounds (22023); a task that is not there (P0002); a token that is not the last claim's, or one whose task is finished,
/// has failed or was cancelled (55000): the worker should stop; a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn heartbeat_agent_task(
    workspace: Option<Uuid>,
    task_id: Option<Uuid>,
    lease_token: Option<Uuid>,
    lease: default!(Option<Interval>, "'5 minutes'"),
) -> TimestampWithTimeZone {
    let run = || -> Outcome<TimestampWithTimeZone> {
        let workspace = required(workspace, "workspace")?;
        let task = required(task_id, "task_id")?;
        let token = required(lease_token, "lease_token")?;
        let lease = argument::duration(lease, "lease", SECOND..=LONGEST_LEASE)?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            let locked = Task::lock(client, workspace, task)?;
            if locked.status_for(task, token)? != "leased" {
                return Err(locked.refuse(task, token));
            }
            let until = instant::after(instant::now(), lease)?;
            let arguments = [workspace.into(), task.into(), until.into()];
            PROLONG.with(|statement| statement.execute(client, &arguments))?;
            Ok(until)
        })
    };
    run().or_raise()
}

statement!(
    COMPLETE(UUID, UUID, TIMESTAMPTZ, JSONB) = "
UPDATE codex.agent_tasks AS t
SET status = 'done',
    finished_at = $3,
    last_error = NULL,
    result = $4
WHERE t.workspace_id = $1
  AND t.id = $2"
);

/// Says that a leased task is done.
///
/// - `lease_token`: of the claim. A lease that ran out still counts as long as nobody has taken notice.
/// - `result`: any JSON, kept with the task.
///
/// Said twice with the same token it changes nothing. Refuses: NULL for a required argument (22004); a task that is not
/// there (P0002); a token that is not the last claim's, or one whose task has failed or was cancelled (55000); a
/// workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn complete_agent_task(
    workspace: Option<Uuid>,
    task_id: Option<Uuid>,
    lease_token: Option<Uuid>,
    result: default!(Option<Jsonb>, "NULL"),
) {
    let run = || -> Outcome<()> {
        let workspace = required(workspace, "workspace")?;
        let task = required(task_id, "task_id")?;
        let token = required(lease_token, "lease_token")?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            let locked = Task::lock(client, workspace, task)?;
            match locked.status_for(task, token)? {
                "done" => return Ok(()),
                "leased" => {}
                _ => return Err(locked.refuse(task, token)),
            }
            let arguments = [
                workspace.into(),
                task.into(),
                instant::now().into(),
                result.into(),
            ];
            COMPLETE.with(|statement| statement.execute(client, &arguments))?;
            Ok(())
        })
    };
    run().or_raise();
}

statement!(
    FAIL(UUID, UUID, TEXT, TIMESTAMPTZ, TEXT, TIMESTAMPTZ) = "
UPDATE codex.agent_tasks AS t
SET status = CASE WHEN $5 IS NULL THEN 'waiting' ELSE 'dead' END,
    reason = $5,
    due_at = coalesce($4, t.due_at),
    last_error = $3,
    finished_at = CASE WHEN $5 IS NOT NULL THEN $6 END
WHERE t.workspace_id = $1
  AND t.id = $2"
);

/// Says that a leased task failed; returns when it is tried again, NULL for never.
///
/// - `error`: what went wrong, not blank; the first 2000 characters are kept.
/// - `retry_after`: not before this long from now, as where a model is overloaded or a budget is used up; up to 30 days.
/// - `permanent`: it will never work: dead at once.
///
/// It waits 30 seconds after the first failure, twice as long after each further one, up to 6 hours, half of it spread
/// by the task's id ([`codex_delivery::wait_after`]). After `max_attempts` it is dead. Said twice with the same token it
/// changes nothing and returns the same.
///
/// Refuses what [`complete_agent_task`] refuses, and a `retry_after` out of bounds (22023).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn fail_agent_task(
    workspace: Option<Uuid>,
    task_id: Option<Uuid>,
    lease_token: Option<Uuid>,
    error: Option<&str>,
    retry_after: default!(Option<Interval>, "NULL"),
    permanent: default!(Option<bool>, false),
) -> Option<TimestampWithTimeZone> {
    let run = || -> Outcome<Option<TimestampWithTimeZone>> {
        let workspace = required(workspace, "workspace")?;
        let task = required(task_id, "task_id")?;
        let token = required(lease_token, "lease_token")?;
        let error = shorten_to(argument::not_blank(error, "error")?, LONGEST_ERROR);
        let at_least = match retry_after {
            None => 0,
            some => argument::duration(some, "retry_after", 0..=30 * 86_400 * SECOND)?,
        };
        let permanent = required(permanent, "permanent")?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            let locked = Task::lock(client, workspace, task)?;
            match locked.status_for(task, token)? {
                "leased" => {}
                "waiting" => return Ok(locked.due_at),
                "dead" => return Ok(None),
                _ => return Err(locked.refuse(task, token)),
            }
            let dead = if permanent {
                Some("permanent")
            } else if locked.attempts >= locked.max_attempts {
                Some("attempts")
            } else {
                None
            };
            let now = instant::now();
            let again = match dead {
                Some(_) => None,
                None => {
                    let attempt = u32::try_from(locked.attempts).unwrap_or(1);
                    let seed = u128::from_be_bytes(*task.as_bytes());
                    let wait = codex_delivery::wait_after(attempt, seed).max(at_least);
                    Some(instant::after(now, wait)?)
                }
            };
            let arguments = [
                workspace.into(),
                task.into(),
                error.as_str().into(),
                again.into(),
                dead.into(),
                now.into(),
            ];
            FAIL.with(|statement| statement.execute(client, &arguments))?;
            Ok(again)
        })
    };
    run().or_raise()
}

statement!(
    CANCEL(UUID, UUID, TIMESTAMPTZ) = "
UPDATE codex.agent_tasks AS t
SET status = 'cancelled',
    reason = 'cancelled',
    lease_token = NULL,
    finished_at = $3
WHERE t.workspace_id = $1
  AND t.id = $2"
);

/// Cancels a task that waits or is leased; its worker is refused from then on.
///
/// One that is cancelled already stays as it is. Refuses: NULL (22004); a task that is not there (P0002); one that is done
/// or dead (55000); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn cancel_agent_task(workspace: Option<Uuid>, task_id: Option<Uuid>) {
    let run = || -> Outcome<()> {
        let workspace = required(workspace, "workspace")?;
        let task = required(task_id, "task_id")?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            match Task::lock(client, workspace, task)?.status.as_str() {
                "cancelled" => return Ok(()),
                "waiting" | "leased" => {}
                status => {
                    return Err(CodexError::wrong_state(format!(
                        "task {task} is {status} and cannot be cancelled"
                    )));
                }
            }
            let arguments = [workspace.into(), task.into(), instant::now().into()];
            CANCEL.with(|statement| statement.execute(client, &arguments))?;
            Ok(())
        })
    };
    run().or_raise();
}

statement!(
    REQUEUE(UUID, UUID, TIMESTAMPTZ) = "
UPDATE codex.agent_tasks AS t
SET status = 'waiting',
    reason = NULL,
    attempts = 0,
    due_at = $3,
    lease_token = NULL,
    finished_at = NULL
WHERE t.workspace_id = $1
  AND t.id = $2"
);

/// Puts a task that is dead or cancelled back into the queue, due now, with all attempts ahead of it.
///
/// One that waits already stays as it is. Refuses: NULL (22004); a task that is not there (P0002); one that is leased or
/// done (55000); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn requeue_agent_task(workspace: Option<Uuid>, task_id: Option<Uuid>) {
    let run = || -> Outcome<()> {
        let workspace = required(workspace, "workspace")?;
        let task = required(task_id, "task_id")?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            match Task::lock(client, workspace, task)?.status.as_str() {
                "waiting" => return Ok(()),
                "dead" | "cancelled" => {}
                status => {
                    return Err(CodexError::wrong_state(format!(
                        "task {task} is {status} and cannot be put back into the queue"
                    )));
                }
            }
            let arguments = [workspace.into(), task.into(), instant::now().into()];
            REQUEUE.with(|statement| statement.execute(client, &arguments))?;
            Ok(())
        })
    };
    run().or_raise();
}

// A claim has to take the first rows of an index, whatever the planner thinks of a LIMIT that it does not know.
extension_sql!(
    r#"
ALTER FUNCTION claim_agent_tasks(text, integer, interval, uuid) SET enable_seqscan = off;
ALTER FUNCTION claim_agent_tasks(text, integer, interval, uuid) SET enable_bitmapscan = off;
ALTER FUNCTION claim_agent_tasks(text, integer, interval, uuid) SET enable_sort = off;
COMMENT ON FUNCTION enqueue_agent_task(uuid, uuid, text, jsonb, text, timestamptz, integer, text) IS
'Puts a task into the queue of an assignment that is active or paused, and returns its id: a type, a payload for the worker, a priority (critical, high, normal, low; NULL: that of the assignment), not before run_after, tried up to max_attempts times (1 to 100). The same idempotency_key again queues nothing. Errors: 22004 NULL, 22023 bad value or a key of another call, 23503 no such assignment, 55000 one that has ended, 42501 not your workspace.';
COMMENT ON FUNCTION claim_agent_tasks(text, integer, interval, uuid) IS
'Leases up to n tasks (1 to 1000) that are due to a worker, for a time (a second to a day), and returns them: of the current workspace when there is one, else of all; of one agent when given; critical first, then what is due longest. Different workers get different ones. A paused assignment or an inactive agent puts a task off, an ended assignment cancels it. No row: nothing is due. Errors: 22004 NULL, 22023 bad value, 42501 no workspace entered.';
COMMENT ON FUNCTION heartbeat_agent_task(uuid, uuid, uuid, interval) IS
'Says that the worker is still at a leased task: its lease lasts as long again (a second to a day) from now on; returns until when. Errors: 22004 NULL, 22023 bad value, P0002 no such task, 55000 not the token of its last claim, or the task was finished or cancelled, 42501 not your workspace.';
COMMENT ON FUNCTION complete_agent_task(uuid, uuid, uuid, jsonb) IS
'Says that a leased task is done; with the token of the claim, and a result to be kept. Twice: no change. Errors: 22004 NULL, P0002 no such task, 55000 not the token of its last claim, or the task failed or was cancelled, 42501 not your workspace.';
COMMENT ON FUNCTION fail_agent_task(uuid, uuid, uuid, text, interval, boolean) IS
'Says that a leased task failed; returns when it is tried again, NULL for never. It waits 30 seconds, doubled after each failure up to 6 hours, half of it spread by its id, and at least retry_after; after max_attempts, or at once when permanent, it is dead. Twice: no change. Errors: as complete_agent_task, and 22023 bad value.';
COMMENT ON FUNCTION cancel_agent_task(uuid, uuid) IS
'Cancels a task that waits or is leased; its worker is refused from then on. Twice: no change. Errors: 22004 NULL, P0002 no such task, 55000 done or dead, 42501 not your workspace.';
COMMENT ON FUNCTION requeue_agent_task(uuid, uuid) IS
'Puts a task that is dead or cancelled back into the queue, due now. One that waits stays as it is. Errors: 22004 NULL, P0002 no such task, 55000 leased or done, 42501 not your workspace.';
"#,
    name = "comment_agent_tasks",
    requires = [
        enqueue_agent_task,
        claim_agent_tasks,
        heartbeat_agent_task,
        complete_agent_task,
        fail_agent_task,
        cancel_agent_task,
        requeue_agent_task
    ]
);
