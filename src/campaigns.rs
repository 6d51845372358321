//! Campaigns: the time of the last change of a campaign follows its quests and cohorts.

use crate::error::{CodexError, Outcome};
use crate::row_triggers::column_of_type;
use crate::{statement, trigger_function};
use pgrx::pg_sys;
use pgrx::prelude::*;
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
    if rows.is_null() {
        return Ok(());
    }
    // SAFETY: Postgres keeps the relation open and the transition table alive while the trigger function runs.
    // The table is read through a read pointer of our own, rewound first, as other triggers of the statement may
    // read it, too; the slot has the shape of the rows, and each value is copied before the next row is fetched.
    unsafe {
        let shape = (*data.tg_relation).rd_att;
        let Some(column) = column_of_type(shape, "campaign_id", pg_sys::UUIDOID) else {
            return Err(CodexError::wrong_state(
                "the trigger function update_campaign_timestamp needs a table with a column campaign_id of type uuid",
            ));
        };
        let pointer = pg_sys::tuplestore_alloc_read_pointer(rows, pg_sys::EXEC_FLAG_REWIND as i32);
        pg_sys::tuplestore_select_read_pointer(rows, pointer);
        pg_sys::tuplestore_rescan(rows);
        let slot = pg_sys::MakeSingleTupleTableSlot(shape, &raw const pg_sys::TTSOpsMinimalTuple);
        while pg_sys::tuplestore_gettupleslot(rows, true, false, slot) {
            pg_sys::slot_getsomeattrs_int(slot, column.get() as i32);
            let index = column.get() - 1;
            let is_null = *(*slot).tts_isnull.add(index);
            if let Some(id) = pgrx::Uuid::from_datum(*(*slot).tts_values.add(index), is_null) {
                campaigns.insert(*id.as_bytes());
            }
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
    }
    Ok(())
}
