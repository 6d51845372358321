//! The rows that a statement inserted or changed, as a trigger FOR EACH STATEMENT gets them.

use crate::error::{CodexError, Outcome};
use crate::row_triggers::column_of_type;
use pgrx::FromDatum;
use pgrx::pg_sys;
use std::num::NonZeroUsize;

/// A row of a transition table, as long as it is looked at.
pub struct TransitionRow(*mut pg_sys::TupleTableSlot);

impl TransitionRow {
    /// The value of a column that [`each_row`] found; a copy of its own for the types that are read here.
    pub fn get<T: FromDatum>(&self, column: NonZeroUsize) -> Option<T> {
        let index = column.get() - 1;
        // SAFETY: all attributes of the slot are filled up to the last column that was asked for, and the type of the
        // column was checked.
        unsafe {
            let is_null = *(*self.0).tts_isnull.add(index);
            T::from_datum(*(*self.0).tts_values.add(index), is_null)
        }
    }
}

/// Hands each row of a transition table to `take`, with the places of `columns` (name and type; 55000 when the table has
/// no such column). A NULL table has no rows.
pub fn each_row<const N: usize>(
    data: &pg_sys::TriggerData,
    rows: *mut pg_sys::Tuplestorestate,
    columns: [(&str, pg_sys::Oid); N],
    mut take: impl FnMut(&TransitionRow, [NonZeroUsize; N]) -> Outcome<()>,
) -> Outcome<()> {
    if rows.is_null() {
        return Ok(());
    }
    // SAFETY: Postgres keeps the relation of a trigger open while its function runs.
    let shape = unsafe { (*data.tg_relation).rd_att };
    let mut places = [NonZeroUsize::MIN; N];
    for (place, (name, kind)) in places.iter_mut().zip(columns) {
        // SAFETY: the descriptor is that of an open relation.
        *place = unsafe { column_of_type(shape, name, kind) }.ok_or_else(|| {
            CodexError::wrong_state(format!(
                "a trigger of campaigns needs a table with a column {name} of its type"
            ))
            .with_hint("Run SELECT * FROM codex.verify(); it tells what the table lacks.")
        })?;
    }
    let last = places.iter().map(|place| place.get()).max().unwrap_or(1);
    // SAFETY: Postgres keeps the transition table alive while the trigger function runs. It is read through a read
    // pointer of our own, rewound first, as other triggers of the statement may read it, too; the slot has the shape of
    // the rows, and each value is copied before the next row is fetched.
    unsafe {
        let pointer = pg_sys::tuplestore_alloc_read_pointer(rows, pg_sys::EXEC_FLAG_REWIND as i32);
        pg_sys::tuplestore_select_read_pointer(rows, pointer);
        pg_sys::tuplestore_rescan(rows);
        let slot = pg_sys::MakeSingleTupleTableSlot(shape, &raw const pg_sys::TTSOpsMinimalTuple);
        let mut done = Ok(());
        while done.is_ok() && pg_sys::tuplestore_gettupleslot(rows, true, false, slot) {
            pg_sys::slot_getsomeattrs_int(slot, last as i32);
            done = take(&TransitionRow(slot), places);
        }
        pg_sys::ExecDropSingleTupleTableSlot(slot);
        done
    }
}
