//! Events that achievements depend on, among ever more that were recorded.

use crate::Result;
use crate::compare::{Bench, Side, Spread};
use crate::engines_signals::flat;
use crate::reading::fixed_id;
use crate::session::{CODEX, OWNER, SERVICE, Session};
use crate::throughput;
use crate::writing::{MEMBERS, ids};

/// Connections that record at once.
const CONNECTIONS: usize = 8;
const ROUNDS: usize = 5;

/// As many events as there are rows, of a hundred users on ninety days; and three rules of each of three kinds that look at their
/// metric and are not reached.
const FILL: &str = "
INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type, condition_value, points_reward)
SELECT bench_id('workspace', 0), 'Rule ' || r.kind || n, 'milestone', r.kind, r.value::jsonb, 10
FROM generate_series(1, 3) AS n,
     (VALUES
         ('count', '{\"metric\": \"bench\", \"threshold\": 1000000000}'),
         ('milestone', '{\"metric\": \"bench\", \"threshold\": 100000000000}'),
         ('time_based', '{\"metric\": \"bench\", \"threshold\": 100000000000, \"window\": {\"days\": 7}}')
     ) AS r (kind, value)
WHERE NOT EXISTS (SELECT FROM public.achievements AS a WHERE a.name = 'Rule ' || r.kind || n);
INSERT INTO codex.metric_events (workspace_id, user_id, metric, event_id, value, occurred_at, recorded_at)
SELECT bench_id('workspace', 0), bench_id('user', n % 100), 'bench', 'loaded ' || n, 1, moment, moment
FROM generate_series(1, {rows}::bigint) AS n,
     LATERAL (SELECT now() - n % 80 * interval '1 day' AS moment) AS t
ON CONFLICT DO NOTHING;
DELETE FROM codex.metric_totals;
DELETE FROM codex.metric_days;
INSERT INTO codex.metric_totals (workspace_id, user_id, metric, events, total, first_at, last_at)
SELECT e.workspace_id, e.user_id, e.metric, count(*), sum(e.value), min(e.occurred_at), max(e.occurred_at)
FROM codex.metric_events AS e
GROUP BY e.workspace_id, e.user_id, e.metric;
INSERT INTO codex.metric_days (workspace_id, user_id, metric, day, events, total)
SELECT e.workspace_id, e.user_id, e.metric, (e.occurred_at AT TIME ZONE 'UTC')::date, count(*), sum(e.value)
FROM codex.metric_events AS e
GROUP BY e.workspace_id, e.user_id, e.metric, (e.occurred_at AT TIME ZONE 'UTC')::date;
ANALYZE codex.metric_events, codex.metric_totals, codex.metric_days";

const RECORD: &str = "SELECT * FROM codex.record_metric_event($1, $2, $3, 1, $4)";

pub fn measure(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "record event";
    const CALLS: u32 = 200;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let rows = bench.rows.unwrap_or(0);
    Session::open(CODEX, OWNER)?.batch_execute(&FILL.replace("{rows}", &rows.to_string()))?;
    let workspace = fixed_id("workspace")?;
    let users = ids("user", 100)?;
    let side = |name: &'static str, metric: &'static str, again: bool| -> Result<Side<'static>> {
        let mut session = Session::in_workspace(CODEX, SERVICE)?;
        let statement = session.prepare(RECORD)?;
        let users = users.clone();
        let mut number = 0_u64;
        Ok(Side::new(name, session, CALLS, move |session| {
            for _ in 0..CALLS {
                number += 1;
                // One user after the other, one that is there: or each time the same event.
                let (user, event) = if again {
                    (&users[1], "loaded 1".to_string())
                } else {
                    (
                        &users[number as usize % users.len()],
                        format!("{rows} {name} {number}"),
                    )
                };
                session.query(&statement, &[&workspace, user, &metric, &event])?;
            }
            Ok(())
        }))
    };
    bench.compare(
        NAME,
        "one that nine rules look at; no rule: of a metric that none looks at; again: one that is known",
        vec![
            side("codex", "bench", false)?,
            side("no rule", "unwatched", false)?,
            side("again", "bench", true)?,
        ],
    )?;
    flat(bench, NAME, "codex");
    Ok(())
}

/// Events a second with several connections.
pub fn at_once(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "throughput, record event";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let (workspace, users) = (fixed_id("workspace")?, ids("user", MEMBERS)?);
    let mut values = Vec::new();
    for connections in [1, CONNECTIONS] {
        let mut rates = Vec::new();
        for round in 0..ROUNDS {
            rates.push(throughput::at_once(connections, |number| {
                let mut session = Session::in_workspace(CODEX, SERVICE)?;
                let statement = session.prepare(RECORD)?;
                let (users, mut turn) = (users.clone(), number * 61);
                let mut event = 0_u64;
                Ok(Box::new(move || {
                    turn = (turn + 7) % users.len();
                    event += 1;
                    let event = format!("{connections} {round} {number} {event}");
                    session.query(&statement, &[&workspace, &users[turn], &"bench", &event])?;
                    Ok(1)
                }))
            })?);
        }
        values.push((
            format!("{connections} connections"),
            Spread::of(rates).median,
        ));
    }
    bench.figure(
        NAME,
        "events a second, each judged by nine rules",
        values,
        "/s",
    );
    Ok(())
}
