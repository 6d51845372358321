//! How fast alerts are answered.
//!
//! A *spell* begins when an alert opens or reopens, and ends before it reopens the next time. Of the spells that began
//! in a span of time, by the severity that the alert has now (of a deleted alert: that it opened with):
//!
//! | figure | of each spell | what is counted |
//! |---|---|---|
//! | time to acknowledge | from its beginning to the first time that somebody acknowledged, resolved or dismissed the alert | spells that had one |
//! | time to resolve | from its beginning to the first time that somebody resolved the alert | spells that had one; what was dismissed or has expired was not resolved |
//!
//! MTTA and MTTR are the means of these, as incident management uses the terms (mean time to acknowledge, mean time to
//! resolve); p50 and p95 are `percentile_cont` of SQL: between two values, linearly interpolated.

use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::statement;
use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;

statement!(
    ANSWERED(UUID, TIMESTAMPTZ, TIMESTAMPTZ) = "
SELECT
    spell.severity_level,
    count(*),
    count(spell.acknowledged_after),
    count(spell.resolved_after),
    avg(spell.acknowledged_after),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY spell.acknowledged_after),
    percentile_cont(0.95) WITHIN GROUP (ORDER BY spell.acknowledged_after),
    avg(spell.resolved_after),
    percentile_cont(0.5) WITHIN GROUP (ORDER BY spell.resolved_after),
    percentile_cont(0.95) WITHIN GROUP (ORDER BY spell.resolved_after)
FROM (
    SELECT
        coalesce(a.severity_level, o.severity_level) AS severity_level,
        extract(epoch FROM acknowledged.occurred_at - o.occurred_at)::float8 AS acknowledged_after,
        extract(epoch FROM resolved.occurred_at - o.occurred_at)::float8 AS resolved_after
    FROM codex.alert_events AS o
    LEFT JOIN public.system_alerts AS a
        ON a.workspace_id = o.workspace_id
        AND a.id = o.alert_id
    LEFT JOIN LATERAL (
        SELECT n.position
        FROM codex.alert_events AS n
        WHERE n.workspace_id = o.workspace_id
          AND n.alert_id = o.alert_id
          AND n.position > o.position
          AND n.event = 'reopened'
        ORDER BY n.position
        LIMIT 1
    ) AS next ON true
    LEFT JOIN LATERAL (
        SELECT e.occurred_at
        FROM codex.alert_events AS e
        WHERE e.workspace_id = o.workspace_id
          AND e.alert_id = o.alert_id
          AND e.position > o.position
          AND e.position < coalesce(next.position, 2147483647)
          AND e.event IN ('acknowledged', 'resolved', 'dismissed')
        ORDER BY e.position
        LIMIT 1
    ) AS acknowledged ON true
    LEFT JOIN LATERAL (
        SELECT e.occurred_at
        FROM codex.alert_events AS e
        WHERE e.workspace_id = o.workspace_id
          AND e.alert_id = o.alert_id
          AND e.position > o.position
          AND e.position < coalesce(next.position, 2147483647)
          AND e.event = 'resolved'
        ORDER BY e.position
        LIMIT 1
    ) AS resolved ON true
    WHERE o.workspace_id = $1
      AND o.event IN ('opened', 'reopened')
      AND o.occurred_at >= $2
      AND o.occurred_at < $3
) AS spell
GROUP BY spell.severity_level
ORDER BY array_position(ARRAY['critical', 'high', 'medium', 'low', 'info'], spell.severity_level)"
);

/// How fast the alerts of a workspace are answered that opened or reopened from `p_from` (included) to `p_to`
/// (excluded): a row for each severity that had some, the worst first.
///
/// `opened`: how many times an alert opened; `acknowledged`, `resolved`: after how many of these it was. Times in seconds
/// from the opening: mean (MTTA, MTTR), median and 95th percentile; NULL where nothing is to be counted.
///
/// Refuses: NULL (22004); an end before the beginning (22023); a workspace that is not the caller's (42501).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn alert_sla(
    workspace: Option<Uuid>,
    p_from: Option<TimestampWithTimeZone>,
    p_to: Option<TimestampWithTimeZone>,
) -> TableIterator<
    'static,
    (
        name!(severity, Option<String>),
        name!(opened, Option<i64>),
        name!(acknowledged, Option<i64>),
        name!(resolved, Option<i64>),
        name!(mtta_seconds, Option<f64>),
        name!(acknowledge_p50_seconds, Option<f64>),
        name!(acknowledge_p95_seconds, Option<f64>),
        name!(mttr_seconds, Option<f64>),
        name!(resolve_p50_seconds, Option<f64>),
        name!(resolve_p95_seconds, Option<f64>),
    ),
> {
    let run = || -> Outcome<_> {
        let workspace = required(workspace, "workspace")?;
        let from = required(p_from, "p_from")?;
        let to = required(p_to, "p_to")?;
        if to < from {
            return Err(CodexError::bad_value("p_to is earlier than p_from"));
        }
        context::require_workspace(workspace)?;
        Spi::connect(|client| {
            ANSWERED.with(|statement| {
                statement.read(client, &[workspace.into(), from.into(), to.into()], |row| {
                    Ok((
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                        row.get(6)?,
                        row.get(7)?,
                        row.get(8)?,
                        row.get(9)?,
                        row.get(10)?,
                    ))
                })
            })
        })
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION alert_sla(uuid, timestamptz, timestamptz) IS
'How fast the alerts of a workspace were answered that opened or reopened from p_from (included) to p_to (excluded), by severity: how many opened, were acknowledged and resolved, and the mean (MTTA, MTTR), median and 95th percentile (percentile_cont) of the seconds until then. Errors: 22004 NULL, 22023 p_to before p_from, 42501 not your workspace.';
"#,
    name = "comment_alert_sla",
    requires = [alert_sla]
);
