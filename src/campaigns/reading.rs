//! How far a campaign is, and where it stands.

use super::steps::{not_here, workspace_of};
use crate::error::{OrRaise, Outcome, required};
use crate::statement;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::{AnyNumeric, Uuid};

// Cut off, not rounded: 100 is only what is all done.
statement!(
    PROGRESS(UUID, UUID) = "
SELECT trunc(100.0 * count(*) FILTER (WHERE q.status = 'completed') / nullif(count(*), 0), 2)
FROM public.campaign_quests AS q
WHERE q.workspace_id = $1
  AND q.campaign_id = $2
  AND NOT EXISTS (
      SELECT
      FROM public.campaign_quests AS part
      WHERE part.workspace_id = $1
        AND part.campaign_id = $2
        AND part.parent_quest_id = q.id
  )"
);

/// How much of a campaign is done, in percent from 0 to 100 with two decimals, cut off: of its leaves, the quests
/// without parts, those that are completed. NULL when it has no quest.
///
/// What a quest with parts says of itself does not count: its parts do.
///
/// Refuses: NULL (22004); a campaign that does not exist or is not visible here (P0002).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn campaign_progress(campaign: Option<Uuid>) -> Option<AnyNumeric> {
    let run = || -> Outcome<_> {
        let campaign = required(campaign, "campaign")?;
        Spi::connect(|client| {
            let workspace = workspace_of(client, campaign)?;
            let progress = PROGRESS.with(|s| {
                s.read_one(client, &[workspace.into(), campaign.into()], |row| {
                    row.get::<AnyNumeric>(1)
                })
            })?;
            Ok(progress.flatten())
        })
    };
    run().or_raise()
}

statement!(
    STATE(UUID) = "
SELECT
    c.status,
    coalesce(l.version, 1),
    coalesce(l.status_since, c.created_at),
    c.allocated_budget_amount,
    coalesce(l.spent_amount, 0),
    c.allocated_budget_amount - coalesce(l.spent_amount, 0)
FROM public.campaigns AS c
LEFT JOIN codex.campaign_life AS l
    ON l.workspace_id = c.workspace_id
    AND l.campaign_id = c.id
WHERE c.id = $1"
);

/// Where a campaign stands: its status, at which version (for `expected_version` of `codex.transition_campaign()`) and
/// since when; what is allocated, spent, and left.
///
/// Refuses: NULL (22004); a campaign that does not exist or is not visible here (P0002).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn campaign_state(
    campaign: Option<Uuid>,
) -> TableIterator<
    'static,
    (
        name!(status, Option<String>),
        name!(version, Option<i32>),
        name!(since, Option<TimestampWithTimeZone>),
        name!(allocated, Option<AnyNumeric>),
        name!(spent, Option<AnyNumeric>),
        name!(remaining, Option<AnyNumeric>),
    ),
> {
    let run = || -> Outcome<_> {
        let campaign = required(campaign, "campaign")?;
        Spi::connect(|client| {
            STATE
                .with(|s| {
                    s.read_one(client, &[campaign.into()], |row| {
                        Ok((
                            row.get(1)?,
                            row.get(2)?,
                            row.get(3)?,
                            row.get(4)?,
                            row.get(5)?,
                            row.get(6)?,
                        ))
                    })
                })?
                .ok_or_else(|| not_here(campaign))
        })
    };
    TableIterator::once(run().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION campaign_progress(uuid) IS
'How much of a campaign is done, in percent with two decimals, cut off: of its quests without parts, those that are completed. NULL when it has no quest. Errors: 22004 NULL, P0002 no such campaign here.';
COMMENT ON FUNCTION campaign_state(uuid) IS
'Where a campaign stands: its status, at which version and since when; what is allocated, spent, and left. Errors: 22004 NULL, P0002 no such campaign here.';
"#,
    name = "comment_campaign_reading",
    requires = [campaign_progress, campaign_state]
);
