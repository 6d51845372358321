//! The shares of a campaign's cohorts are 100 percent at most, all together.
//!
//! Judged at the end of a statement, so that one UPDATE can move a share from one cohort to another. A share that is
//! NULL counts as 0. Where the shares were over 100 before the Codex came, they may fall, and not rise.

use super::rows::each_row;
use crate::error::{CodexError, Outcome, shorten};
use crate::owner::as_owner_of;
use crate::{statement, trigger_function};
use pgrx::prelude::*;
use pgrx::{AnyNumeric, Uuid, pg_sys};
use std::collections::BTreeMap;

// Two statements, so that the second sees what those committed for whom the first waited.
statement!(
    LOCK(UUID_ARRAY) = "
SELECT c.id
FROM public.campaigns AS c
WHERE c.id = ANY ($1)
ORDER BY c.id
FOR NO KEY UPDATE"
);
statement!(
    OVER_ALL(UUID_ARRAY) = "
SELECT k.campaign_id, sum(k.allocation_percentage)
FROM public.campaign_cohorts AS k
WHERE (k.workspace_id, k.campaign_id) IN (
    SELECT c.workspace_id, c.id
    FROM public.campaigns AS c
    WHERE c.id = ANY ($1)
)
GROUP BY k.campaign_id
HAVING sum(k.allocation_percentage) > 100
ORDER BY k.campaign_id
LIMIT 1"
);

/// Waits for whoever is changing one of these campaigns, and makes others wait; in the order of their ids.
pub fn lock_campaigns(campaigns: &[Uuid]) -> Outcome<()> {
    as_owner_of(c"public", c"campaigns", || {
        Spi::connect_mut(|client| {
            LOCK.with(|s| s.write(client, &[campaigns.to_vec().into()], |_| Ok(())))
        })
    })?;
    Ok(())
}

/// Refuses (22023) a statement that makes the shares of a campaign's cohorts rise above 100 percent.
fn keep_shares(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let mut gained: BTreeMap<[u8; 16], AnyNumeric> = BTreeMap::new();
    for (rows, is_new) in [(data.tg_oldtable, false), (data.tg_newtable, true)] {
        let columns = [
            ("campaign_id", pg_sys::UUIDOID),
            ("allocation_percentage", pg_sys::NUMERICOID),
        ];
        each_row(data, rows, columns, |row, [campaign, share]| {
            if let (Some(campaign), Some(share)) =
                (row.get::<Uuid>(campaign), row.get::<AnyNumeric>(share))
            {
                let sum = gained.entry(*campaign.as_bytes()).or_default();
                if is_new {
                    *sum += share;
                } else {
                    *sum -= share;
                }
            }
            Ok(())
        })?;
    }
    let risen: Vec<Uuid> = gained
        .into_iter()
        .filter(|(_, gain)| *gain > AnyNumeric::from(0))
        .map(|(campaign, _)| Uuid::from_bytes(campaign))
        .collect();
    if risen.is_empty() {
        return Ok(std::ptr::null_mut());
    }
    lock_campaigns(&risen)?;
    let over = as_owner_of(c"public", c"campaign_cohorts", || {
        Spi::connect_mut(|client| {
            OVER_ALL.with(|s| {
                s.write_one(client, &[risen.into()], |row| {
                    Ok((row.get::<Uuid>(1)?, row.get::<AnyNumeric>(2)?))
                })
            })
        })
    })?;
    match over {
        Some((Some(campaign), Some(sum))) => Err(CodexError::bad_value(format!(
            "allocation_percentage of the cohorts of campaign {campaign} would be {} in all; at most 100 can be allocated",
            shorten(sum.normalize())
        ))
        .with_hint("Lower the shares of others first, or in the same statement.")),
        _ => Ok(std::ptr::null_mut()),
    }
}

trigger_function!(keep_cohort_shares, keep_shares);

extension_sql!(
    r#"
CREATE FUNCTION keep_cohort_shares() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'keep_cohort_shares_trigger';

COMMENT ON FUNCTION keep_cohort_shares() IS
'Trigger of campaign_cohorts, once a statement: refuses (22023) shares of a campaign''s cohorts that rise above 100 percent in all. Statements that raise shares of one campaign wait for each other.';
"#,
    name = "trigger_keep_cohort_shares"
);
