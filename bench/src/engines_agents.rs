//! Tasks and budgets of agents: claims among ever more that wait, and reservations among ever more that were made.

use crate::Result;
use crate::compare::{Bench, Side, Spread};
use crate::engines_signals::flat;
use crate::reading::fixed_id;
use crate::session::{CODEX, OWNER, SERVICE, Session};
use crate::throughput;
use postgres::Statement;
use uuid::Uuid;

/// How many tasks a worker takes at a time.
const BATCH: i32 = 10;
/// Connections that work at once.
const WORKERS: usize = 8;
const ROUNDS: usize = 5;

/// As many tasks wait, and as many reservations are held, as the data has rows; a budget that never runs out.
const FILL: &str = "
INSERT INTO public.agent_assignments (workspace_id, agent_id)
SELECT $1, $2
WHERE NOT EXISTS (SELECT FROM public.agent_assignments AS g WHERE (g.workspace_id, g.agent_id) = ($1, $2))";
const FILL_TASKS: &str = "
INSERT INTO codex.agent_tasks (workspace_id, assignment_id, agent_id, task_type, due_at)
SELECT $1, (SELECT g.id FROM public.agent_assignments AS g WHERE (g.workspace_id, g.agent_id) = ($1, $2) LIMIT 1),
    $2, 'write', now() - n * interval '1 millisecond'
FROM generate_series(1, $3 - (SELECT count(*) FROM codex.agent_tasks WHERE status = 'waiting')) AS n";
const FILL_RESERVATIONS: &str = "
INSERT INTO codex.budget_reservations (workspace_id, agent_id, tokens, cost, period_ids, expires_at)
SELECT $1, $2, 0, 0, '{}', now() + interval '30 days'
FROM generate_series(1, $3 - (SELECT count(*) FROM codex.budget_reservations)) AS n";

/// Fills up to a number of rows; gives the workspace and the agent.
fn fill(rows: u64) -> Result<(Uuid, Uuid)> {
    let workspace = fixed_id("workspace")?;
    let mut owner = Session::open(CODEX, OWNER)?;
    let agent: Uuid = owner
        .query_one(
            "INSERT INTO public.agent_registry (agent_name, agent_type, version) VALUES ('Worker', 'creative', 'bench')
             ON CONFLICT (agent_name, version) DO UPDATE SET is_active = true
             RETURNING id",
            &[],
        )?
        .get(0);
    owner.execute(FILL, &[&workspace, &agent])?;
    let rows = i64::try_from(rows)?;
    owner.execute(FILL_TASKS, &[&workspace, &agent, &rows])?;
    owner.execute(FILL_RESERVATIONS, &[&workspace, &agent, &rows])?;
    for budget in [None, Some(agent)] {
        owner.execute(
            "SELECT codex.set_agent_budget($1, 'month', $2, 1000000000000)",
            &[&workspace, &budget],
        )?;
    }
    owner.batch_execute("ANALYZE codex.agent_tasks, codex.budget_reservations")?;
    Ok((workspace, agent))
}

/// A worker, which claims and completes.
struct Worker {
    claim: Statement,
    complete: Statement,
}

impl Worker {
    fn new(session: &mut Session) -> Result<Self> {
        Ok(Self {
            claim: session.prepare(
                "SELECT workspace_id, task_id, lease_token FROM codex.claim_agent_tasks('bench', $1)",
            )?,
            complete: session.prepare("SELECT codex.complete_agent_task($1, $2, $3)")?,
        })
    }

    /// One claim, each of it completed; gives how many.
    fn work(&self, session: &mut Session) -> Result<usize> {
        let rows = session.query(&self.claim, &[&BATCH])?;
        for row in &rows {
            let [workspace, task, token]: [Uuid; 3] = [row.get(0), row.get(1), row.get(2)];
            session.execute(&self.complete, &[&workspace, &task, &token])?;
        }
        Ok(rows.len())
    }
}

pub fn measure(bench: &mut Bench) -> Result<()> {
    tasks(bench)?;
    budgets(bench)
}

fn tasks(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "agent task";
    const CLAIMS: u32 = 8;
    if !bench.wants(NAME) {
        return Ok(());
    }
    fill(bench.rows.unwrap_or(0))?;
    let mut session = Session::in_workspace(CODEX, SERVICE)?;
    let worker = Worker::new(&mut session)?;
    let calls = CLAIMS * BATCH.unsigned_abs();
    let side = Side::new("codex", session, calls, move |session| {
        for _ in 0..CLAIMS {
            if worker.work(session)? != BATCH as usize {
                return Err("nothing waits any more".into());
            }
        }
        Ok(())
    });
    bench.compare(
        NAME,
        "a task: a tenth of a claim, and complete_agent_task()",
        vec![side],
    )?;
    flat(bench, NAME, "codex");
    Ok(())
}

fn budgets(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "agent budget";
    const CALLS: u32 = 100;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let (workspace, agent) = fill(bench.rows.unwrap_or(0))?;
    let mut session = Session::in_workspace(CODEX, SERVICE)?;
    let reserve = session
        .prepare("SELECT reservation_id FROM codex.reserve_agent_budget($1, $2, 100, 0.01)")?;
    let settle = session.prepare("SELECT codex.settle_agent_budget($1, $2, 80, 0.008)")?;
    let side = Side::new("codex", session, CALLS, move |session| {
        for _ in 0..CALLS {
            let reservation: Uuid = session.query_one(&reserve, &[&workspace, &agent])?.get(0);
            session.execute(&settle, &[&workspace, &reservation])?;
        }
        Ok(())
    });
    bench.compare(
        NAME,
        "reserve_agent_budget() in two budgets, and settle_agent_budget()",
        vec![side],
    )?;
    flat(bench, NAME, "codex");
    Ok(())
}

/// What is measured with several connections.
pub fn at_once(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "throughput, agent task";
    if !bench.wants(NAME) {
        return Ok(());
    }
    fill(bench.rows.unwrap_or(0).max(100_000))?;
    let mut owner = Session::open(CODEX, OWNER)?;
    let mut values = Vec::new();
    for connections in [1, WORKERS] {
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            // What was done waits once more, so that no round runs dry.
            owner.batch_execute(
                "UPDATE codex.agent_tasks
                 SET status = 'waiting', finished_at = NULL, attempts = 0
                 WHERE status <> 'waiting'",
            )?;
            rates.push(throughput::at_once(connections, |_| {
                let mut session = Session::in_workspace(CODEX, SERVICE)?;
                let worker = Worker::new(&mut session)?;
                Ok(Box::new(move || worker.work(&mut session)))
            })?);
        }
        values.push((format!("{connections} workers"), Spread::of(rates).median));
    }
    bench.figure(
        NAME,
        "tasks a second, claimed 10 at a time and completed one by one",
        values,
        "/s",
    );
    Ok(())
}
