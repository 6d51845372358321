//! Campaigns: their life from draft to archive, their quests, cohorts and money.
//!
//! ```text
//! draft ──► planning ──► active ◄──► paused
//!                          └───┬───────┘
//!                          completed ──► archived
//! ```
//!
//! | part | what it does |
//! |---|---|
//! | this file | `updated_at` of a campaign follows its quests and cohorts |
//! | [`steps`] | from one status to the next, and under which conditions |
//! | [`history`] | the trigger behind every change of status or budget |
//! | [`quests`] | quests are a tree: of one campaign, without cycles, not too deep |
//! | [`cohorts`] | the shares of a campaign's cohorts are 100 percent at most |
//! | [`spending`] | what is spent never exceeds what is allocated |
//! | [`reading`] | progress and state |
//! | [`rows`] | the rows that a statement changed |
//!
//! What must not be exceeded is kept by triggers, whoever writes. They check after they have locked the campaign
//! itself, and with a snapshot taken after the lock: two sessions that each add a part see each other. First the
//! campaign, then what belongs to it: so nobody waits in a circle. In REPEATABLE READ the second of two
//! gets 40001, because every one of these changes writes to the campaign's row.

mod cohorts;
mod history;
mod quests;
mod reading;
mod rows;
mod spending;
mod steps;

use crate::error::{CodexError, Outcome};
use crate::{statement, trigger_function};
use pgrx::pg_sys;
use pgrx::prelude::*;
use rows::each_row;
use std::collections::BTreeSet;

statement!(
    TOUCH_ONE(UUID) = "
    UPDATE public.campaigns AS c
    SET updated_at = now()
    WHERE c.id = $1
      AND c.updated_at IS DISTINCT FROM now()"
);

// Locked in the order of their ids, so that two statements over the same campaigns cannot wait for each other.
statement!(
    TOUCH_MANY(UUID_ARRAY) = "
    WITH touched AS (
        SELECT c.id
        FROM public.campaigns AS c
        WHERE c.id = ANY ($1)
          AND c.updated_at IS DISTINCT FROM now()
        ORDER BY c.id
        FOR NO KEY UPDATE
    )
    UPDATE public.campaigns AS c
    SET updated_at = now()
    FROM touched
    WHERE c.id = touched.id"
);

/// Sets `updated_at` of the campaigns whose rows a statement inserted, changed, moved or deleted: each campaign
/// once, however many rows the statement touched, and not again where the transaction has already set it.
fn follow(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    if data.tg_oldtable.is_null() && data.tg_newtable.is_null() {
        return Err(CodexError::wrong_state(
            "the trigger function update_campaign_timestamp works AFTER, FOR EACH STATEMENT, with REFERENCING OLD TABLE or NEW TABLE",
        ));
    }
    let mut campaigns = BTreeSet::new();
    collect(data, data.tg_oldtable, &mut campaigns)?;
    collect(data, data.tg_newtable, &mut campaigns)?;
    if campaigns.is_empty() {
        return Ok(std::ptr::null_mut());
    }
    let ids: Vec<pgrx::Uuid> = campaigns.into_iter().map(pgrx::Uuid::from_bytes).collect();
    Spi::connect_mut(|client| {
        if let [id] = ids[..] {
            TOUCH_ONE.with(|s| s.execute(client, &[id.into()]))?;
        } else {
            TOUCH_MANY.with(|s| s.execute(client, &[ids.into()]))?;
        }
        Ok(std::ptr::null_mut())
    })
}

trigger_function!(update_campaign_timestamp, follow);

extension_sql!(
    r#"
CREATE FUNCTION update_campaign_timestamp() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'update_campaign_timestamp_trigger';

COMMENT ON FUNCTION update_campaign_timestamp() IS
'Trigger of campaign_quests and campaign_cohorts, once a statement: updated_at of each campaign concerned becomes the time of the transaction.';
"#,
    name = "trigger_update_campaign_timestamp"
);

/// Adds the `campaign_id` of every row of a transition table.
fn collect(
    data: &pg_sys::TriggerData,
    rows: *mut pg_sys::Tuplestorestate,
    campaigns: &mut BTreeSet<[u8; 16]>,
) -> Outcome<()> {
    each_row(
        data,
        rows,
        [("campaign_id", pg_sys::UUIDOID)],
        |row, [campaign]| {
            if let Some(id) = row.get::<pgrx::Uuid>(campaign) {
                campaigns.insert(*id.as_bytes());
            }
            Ok(())
        },
    )
}
