//! Triggers that several tables share, and the row that a row trigger works on.
//!
//! A row trigger runs once for every row that is written, so these read and change single columns of the
//! tuple at hand and run no SQL.

mod cycle;

use crate::error::{CodexError, OrRaise, Outcome};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::num::NonZeroUsize;

/// Makes a trigger function of the given name out of a Rust function from [`TriggerData`](pg_sys::TriggerData)
/// to the row to go on with (a null pointer where the row does not matter).
///
/// `#[pg_trigger]` would panic where such a function is called by `SELECT`; this one refuses it as PL/pgSQL does.
#[macro_export]
macro_rules! trigger_function {
    ($name:ident, $body:path) => {
        const _: () = {
            #[unsafe(export_name = concat!("pg_finfo_", stringify!($name), "_trigger"))]
            pub extern "C" fn finfo() -> &'static ::pgrx::pg_sys::Pg_finfo_record {
                const VERSION_1: ::pgrx::pg_sys::Pg_finfo_record =
                    ::pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
                &VERSION_1
            }

            #[unsafe(export_name = concat!(stringify!($name), "_trigger"))]
            #[::pgrx::pg_guard]
            pub unsafe extern "C-unwind" fn trigger(
                call: ::pgrx::pg_sys::FunctionCallInfo,
            ) -> ::pgrx::pg_sys::Datum {
                const BODY: $crate::row_triggers::Body = $body;
                // SAFETY: Postgres calls this with the call information of a version 1 function.
                unsafe { $crate::row_triggers::run(call, BODY) }
            }
        };
    };
}

/// What a trigger function does: from the event to the row to go on with.
pub type Body = fn(&pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple>;

/// Calls the body of a trigger function.
///
/// # Safety
/// `call` is the call information that Postgres gave to the function.
pub unsafe fn run(call: pg_sys::FunctionCallInfo, body: Body) -> pg_sys::Datum {
    // SAFETY: the caller says that `call` is valid; its context is a TriggerData where it has that tag.
    let data = unsafe {
        let context = (*call).context;
        let is_trigger = !context.is_null() && (*context).type_ == pg_sys::NodeTag::T_TriggerData;
        is_trigger.then(|| &*context.cast::<pg_sys::TriggerData>())
    };
    let outcome = match data {
        Some(data) => body(data),
        None => Err(CodexError::not_supported(
            "trigger functions can only be called as triggers",
        )),
    };
    pg_sys::Datum::from(outcome.or_raise())
}

/// What happened to the row of an AFTER trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Insert,
    Update,
    Delete,
}

/// The row of a row trigger: its new version and, on UPDATE, the old one.
pub struct Row<'a> {
    data: &'a pg_sys::TriggerData,
    new: pg_sys::HeapTuple,
    old: Option<pg_sys::HeapTuple>,
}

impl<'a> Row<'a> {
    /// The row of a BEFORE INSERT or UPDATE trigger FOR EACH ROW; 55000 for any other trigger.
    pub fn of(data: &'a pg_sys::TriggerData) -> Outcome<Self> {
        let event = data.tg_event;
        let before = event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_BEFORE;
        let each_row = event & pg_sys::TRIGGER_EVENT_ROW != 0;
        let (new, old) = match event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT if before && each_row => (data.tg_trigtuple, None),
            pg_sys::TRIGGER_EVENT_UPDATE if before && each_row => {
                (data.tg_newtuple, Some(data.tg_trigtuple))
            }
            _ => {
                return Err(CodexError::wrong_state(format!(
                    "the trigger {} has to be BEFORE INSERT OR UPDATE, FOR EACH ROW",
                    // SAFETY: Postgres hands over a valid trigger with a name.
                    unsafe { std::ffi::CStr::from_ptr((*data.tg_trigger).tgname) }
                        .to_string_lossy()
                )));
            }
        };
        Ok(Self { data, new, old })
    }

    /// The row of an AFTER trigger FOR EACH ROW: of an INSERT as new, of an UPDATE as both, of a DELETE as old. 55000 for
    /// any other trigger.
    pub fn after(data: &'a pg_sys::TriggerData) -> Outcome<(Event, Self)> {
        let event = data.tg_event;
        let after = event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_AFTER;
        let each_row = event & pg_sys::TRIGGER_EVENT_ROW != 0;
        let null = std::ptr::null_mut();
        let (event, new, old) = match event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT if after && each_row => {
                (Event::Insert, data.tg_trigtuple, None)
            }
            pg_sys::TRIGGER_EVENT_UPDATE if after && each_row => {
                (Event::Update, data.tg_newtuple, Some(data.tg_trigtuple))
            }
            pg_sys::TRIGGER_EVENT_DELETE if after && each_row => {
                (Event::Delete, null, Some(data.tg_trigtuple))
            }
            _ => {
                return Err(CodexError::wrong_state(format!(
                    "the trigger {} has to be AFTER INSERT, UPDATE OR DELETE, FOR EACH ROW",
                    // SAFETY: Postgres hands over a valid trigger with a name.
                    unsafe { std::ffi::CStr::from_ptr((*data.tg_trigger).tgname) }
                        .to_string_lossy()
                )));
            }
        };
        Ok((event, Self { data, new, old }))
    }

    fn shape(&self) -> pg_sys::TupleDesc {
        // SAFETY: Postgres keeps the trigger's relation open while the trigger function runs.
        unsafe { (*self.data.tg_relation).rd_att }
    }

    /// Position of the column `name`, if the table has it.
    pub fn find_column(&self, name: &str) -> Option<NonZeroUsize> {
        // SAFETY: rd_att of an open relation is a valid tuple descriptor.
        unsafe { find_column(self.shape(), name) }
    }

    /// Position of the column `name`, which is of type `kind` or a domain over it; 55000 if the table lacks it or
    /// has it with another type: its bytes would be read as something that they are not.
    pub fn column(&self, name: &str, kind: pg_sys::Oid) -> Outcome<NonZeroUsize> {
        // SAFETY: the descriptor is that of an open relation.
        unsafe { column_of_type(self.shape(), name, kind) }.ok_or_else(|| {
            // SAFETY: format_type_be gives a name for any number of a type.
            let kind = unsafe { std::ffi::CStr::from_ptr(pg_sys::format_type_be(kind)) };
            CodexError::wrong_state(format!(
                "a trigger on {} needs its column {name} of type {}, which is not there",
                self.table(),
                kind.to_string_lossy()
            ))
            .with_hint("Run SELECT * FROM codex.verify(); it tells what the table lacks.")
        })
    }

    /// [`column`](Self::column) of a type that holds text: text, varchar or char.
    pub fn text_column(&self, name: &str) -> Outcome<NonZeroUsize> {
        self.column(name, pg_sys::TEXTOID).or_else(|lacking| {
            self.column(name, pg_sys::VARCHAROID)
                .or_else(|_| self.column(name, pg_sys::BPCHAROID))
                .map_err(|_| lacking)
        })
    }

    /// Name of the table.
    pub fn table(&self) -> String {
        // SAFETY: the trigger's relation is open; its name is a NUL-terminated string of at most 64 bytes.
        unsafe {
            std::ffi::CStr::from_ptr((*(*self.data.tg_relation).rd_rel).relname.data.as_ptr())
                .to_string_lossy()
                .into_owned()
        }
    }

    /// The table.
    pub fn relation(&self) -> pg_sys::Relation {
        self.data.tg_relation
    }

    /// Whether the row is being updated rather than inserted.
    pub fn is_update(&self) -> bool {
        self.old.is_some()
    }

    /// The value of a column in the new version; None on DELETE, too.
    pub fn new_value<T: FromDatum>(&self, column: NonZeroUsize) -> Option<T> {
        if self.new.is_null() {
            return None;
        }
        self.value(self.new, column)
    }

    /// The value of a column in the old version; None on INSERT, too.
    pub fn old_value<T: FromDatum>(&self, column: NonZeroUsize) -> Option<T> {
        self.value(self.old?, column)
    }

    fn value<T: FromDatum>(&self, tuple: pg_sys::HeapTuple, column: NonZeroUsize) -> Option<T> {
        // SAFETY: the tuple belongs to the relation of this descriptor, and the column is one of it.
        unsafe {
            let datum = pgrx::heap_getattr_raw(tuple, column, self.shape())?;
            T::from_datum(datum, false)
        }
    }

    /// Whether the new version has a value in a column.
    pub fn is_given(&self, column: NonZeroUsize) -> bool {
        // SAFETY: the tuple belongs to the relation of this descriptor, and the column is one of it.
        unsafe { pgrx::heap_getattr_raw(self.new, column, self.shape()).is_some() }
    }

    /// The same row with another value in one column; the datum is of the type of the column.
    pub fn and_with(self, column: NonZeroUsize, value: pg_sys::Datum) -> Self {
        let (data, old) = (self.data, self.old);
        Self {
            data,
            new: self.with([(column, value)]),
            old,
        }
    }

    /// The value as a column of type numeric keeps it: rounded, where the column is declared `numeric(p, s)`.
    pub fn fit(&self, column: NonZeroUsize, value: AnyNumeric) -> AnyNumeric {
        // SAFETY: rd_att of an open relation is a valid tuple descriptor, and the column is one of it.
        let modifier = unsafe { columns_of(self.shape()) }[column.get() - 1].atttypmod;
        if modifier < 0 {
            return value;
        }
        // SAFETY: numeric() takes a numeric and a type modifier; it raises 22003 where the value does not fit.
        let fitted = unsafe {
            let arguments = [value.clone().into_datum(), modifier.into_datum()];
            pgrx::direct_function_call(pg_sys::numeric, &arguments)
        };
        fitted.unwrap_or(value)
    }

    /// The row as it is now.
    pub fn unchanged(self) -> pg_sys::HeapTuple {
        self.new
    }

    /// The row with other values in some columns; each datum is of the type of its column, none is NULL.
    pub fn with<const N: usize>(
        self,
        changes: [(NonZeroUsize, pg_sys::Datum); N],
    ) -> pg_sys::HeapTuple {
        let mut columns = changes.map(|(column, _)| column.get() as i32);
        let mut values = changes.map(|(_, value)| value);
        let mut nulls = [false; N];
        // SAFETY: the tuple matches the descriptor, the three arrays have N entries, and the callers give each
        // column a datum of its type.
        unsafe {
            pg_sys::heap_modify_tuple_by_cols(
                self.new,
                self.shape(),
                N as i32,
                columns.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            )
        }
    }
}

/// Position of the column `name` among those of a descriptor.
///
/// # Safety
/// `shape` is a valid tuple descriptor.
pub unsafe fn find_column(shape: pg_sys::TupleDesc, name: &str) -> Option<NonZeroUsize> {
    // SAFETY: by this function's own contract.
    unsafe { columns_of(shape) }
        .iter()
        .position(|column| !column.attisdropped && is_named(column, name))
        .and_then(|index| NonZeroUsize::new(index + 1))
}

/// The columns of a descriptor, dropped ones included.
///
/// # Safety
/// `shape` is a valid tuple descriptor, and lives as long as the slice is used.
#[cfg(not(feature = "pg18"))]
unsafe fn columns_of<'a>(shape: pg_sys::TupleDesc) -> &'a [pg_sys::FormData_pg_attribute] {
    // SAFETY: a descriptor has natts attributes at its end.
    unsafe { (*shape).attrs.as_slice((*shape).natts as usize) }
}

/// The columns of a descriptor, dropped ones included.
///
/// # Safety
/// `shape` is a valid tuple descriptor, and lives as long as the slice is used.
#[cfg(feature = "pg18")]
unsafe fn columns_of<'a>(shape: pg_sys::TupleDesc) -> &'a [pg_sys::FormData_pg_attribute] {
    // SAFETY: from version 18 on natts compact attributes come first, and the full ones right behind them.
    unsafe {
        let count = (*shape).natts as usize;
        std::slice::from_raw_parts((*shape).compact_attrs.as_ptr().add(count).cast(), count)
    }
}

/// [`find_column`], when the column is of type `kind` or of a domain over it.
///
/// # Safety
/// `shape` is a valid tuple descriptor.
pub unsafe fn column_of_type(
    shape: pg_sys::TupleDesc,
    name: &str,
    kind: pg_sys::Oid,
) -> Option<NonZeroUsize> {
    // SAFETY: the caller's descriptor; the column that was found is one of its attributes, and of a type.
    unsafe {
        let column = find_column(shape, name)?;
        let found = columns_of(shape).get(column.get() - 1)?.atttypid;
        (found == kind || pg_sys::getBaseType(found) == kind).then_some(column)
    }
}

fn is_named(column: &pg_sys::FormData_pg_attribute, name: &str) -> bool {
    let stored = &column.attname.data;
    name.len() < stored.len()
        && stored[name.len()] == 0
        && name
            .bytes()
            .zip(stored)
            .all(|(byte, stored)| byte == *stored as u8)
}

/// Sets `updated_at` to the time of the transaction, on every UPDATE of the row; a value that the statement
/// itself gives to `updated_at` is overwritten. 55000 on a table without that column.
fn with_time(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let row = Row::of(data)?;
    // Both count microseconds; a column without time zone gets the time in UTC.
    let column = (row.column("updated_at", pg_sys::TIMESTAMPTZOID)).or_else(|lacking| {
        row.column("updated_at", pg_sys::TIMESTAMPOID)
            .map_err(|_| lacking)
    })?;
    // SAFETY: a trigger runs inside a transaction.
    let now = unsafe { pg_sys::GetCurrentTransactionStartTimestamp() };
    Ok(row.with([(column, pg_sys::Datum::from(now))]))
}

trigger_function!(set_updated_at, with_time);

extension_sql!(
    r#"
CREATE FUNCTION set_updated_at() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'set_updated_at_trigger';

COMMENT ON FUNCTION set_updated_at() IS
'Trigger BEFORE UPDATE of a row: updated_at becomes the time of the transaction, whatever the statement says.';
"#,
    name = "trigger_set_updated_at"
);
