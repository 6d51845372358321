//! What time does to the work of agents: leases and reservations run out, and what is long finished goes.

use super::{budgets, tasks};
use crate::argument;
use crate::context;
use crate::error::{OrRaise, Outcome};
use crate::instant;
use crate::retention::Keep;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

static KEEP: Keep = Keep::days(90);

pub fn define_settings() {
    KEEP.define(
        c"raptorflow_codex.keep_agent_tasks_days",
        c"How many days a task or a reservation of an agent is kept after it was finished; 90 by default, 0 for ever.",
        c"codex.upkeep_agents() deletes what is older, in small batches. What waits, is leased or is held is never deleted, nor is what a period of a budget came to.",
    );
}

/// Does one batch of everything that is to be done at `now`; gives what was done, and to how many rows. Whatever
/// another session is at is left to it, so that two at once do no harm.
pub fn upkeep(
    client: &mut SpiClient<'_>,
    now: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<Vec<(&'static str, i64)>> {
    let (put_back, given_up) = tasks::reap(client, now, batch)?;
    let mut done = vec![
        ("tasks put back after their lease ran out", put_back),
        ("tasks given up after their last attempt", given_up),
        ("reservations expired", budgets::expire(client, now, batch)?),
    ];
    if let Some(before) = KEEP.limit(now)? {
        done.push((
            "finished tasks deleted",
            tasks::forget(client, before, batch)?,
        ));
        done.push((
            "finished reservations deleted",
            budgets::forget(client, before, batch)?,
        ));
    }
    Ok(done)
}

/// Does what time does to the work of agents, up to `batch` rows of each kind (1 to 100000): puts back tasks whose lease
/// ran out, or gives them up after the last attempt; lets reservations expire; deletes what was finished more than
/// `raptorflow_codex.keep_agent_tasks_days` ago. Of the current workspace when row-level security applies, else of all.
///
/// Returns what was done, to how many rows; call it again while a number reaches `batch`. Two at once are safe. Refuses:
/// NULL (22004); a batch out of bounds (22023); a caller to whom row-level security applies and who has entered no
/// workspace (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn upkeep_agents(
    batch: default!(Option<i32>, 1000),
) -> TableIterator<'static, (name!(done, &'static str), name!(rows, i64))> {
    let run = || -> Outcome<_> {
        let batch = argument::between(batch, "batch", 1..=100_000)?;
        context::workspace_or_all()?;
        Spi::connect_mut(|client| upkeep(client, instant::now(), batch))
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
ALTER FUNCTION upkeep_agents(integer) SET enable_seqscan = off;
ALTER FUNCTION upkeep_agents(integer) SET enable_bitmapscan = off;
ALTER FUNCTION upkeep_agents(integer) SET enable_sort = off;
COMMENT ON FUNCTION upkeep_agents(integer) IS
'Puts back tasks of agents whose lease ran out, lets reservations of budgets expire, deletes what was finished more than raptorflow_codex.keep_agent_tasks_days ago; up to batch rows of each. Returns what was done, to how many rows. Errors: 22004 NULL, 22023 batch out of bounds, 42501 no workspace entered.';
"#,
    name = "comment_upkeep_agents",
    requires = [upkeep_agents]
);
