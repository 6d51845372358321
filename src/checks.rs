//! CHECK constraints made ready once a backend, not once a statement.
//!
//! For every statement that writes to a table Postgres reads the definition of each of its CHECKs anew: from text to an
//! expression, simplified as the planner does it, and set up to be evaluated. For a statement that writes one row this
//! took a third of the whole call. So the statements of this extension find the simplified expression of a CHECK in a
//! memory of this backend and only set it up.
//!
//! What is evaluated is the same expression by the same code; what is refused, in which words, and in which order stays
//! with Postgres. A remembered expression counts for the very text of the definition that it was made from, so that
//! `ALTER TABLE` needs no attention; and all are forgotten when any function or type of the database changes, because
//! the simplification may have computed with it. Only statements that run under [`Writing`] are looked at.

use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_int};

/// How many CHECKs are remembered at once; beyond that the memory starts anew.
const MOST: usize = 500;

/// A CHECK by its table and its place among the table's CHECKs.
type Key = (pg_sys::Oid, u16);

/// What was made of the definition of a CHECK. The expression is in [`memory`] and never handed out, only copied.
struct Remembered {
    definition: CString,
    expression: *mut pg_sys::Expr,
}

thread_local! {
    static WRITING: Cell<bool> = const { Cell::new(false) };
    /// Whether a function or a type changed since the memory was last empty.
    static STALE: Cell<bool> = const { Cell::new(false) };
    static CHECKS: RefCell<Option<HashMap<Key, Remembered>>> = const { RefCell::new(None) };
    static MEMORY: Cell<pg_sys::MemoryContext> = const { Cell::new(std::ptr::null_mut()) };
    static NEXT_HOOK: Cell<pg_sys::ExecutorStart_hook_type> = const { Cell::new(None) };
}

/// As long as one lives, statements that start use the remembered CHECKs.
pub struct Writing {
    before: bool,
}

impl Writing {
    pub fn begin() -> Self {
        Self {
            before: WRITING.replace(true),
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.set(self.before);
    }
}

/// Has Postgres call us when a statement starts, and when a function or type changes. Called once, when the library is
/// loaded.
pub fn watch() {
    // SAFETY: the library is never unloaded; the hook that was there before is called by ours, and the callback
    // touches one cell.
    unsafe {
        NEXT_HOOK.set(pg_sys::ExecutorStart_hook);
        pg_sys::ExecutorStart_hook = Some(at_start);
        for catalog in [
            pg_sys::SysCacheIdentifier::PROCOID,
            pg_sys::SysCacheIdentifier::TYPEOID,
        ] {
            pg_sys::CacheRegisterSyscacheCallback(
                catalog as i32,
                Some(at_change),
                pg_sys::Datum::from(0),
            );
        }
    }
}

unsafe extern "C-unwind" fn at_change(_: pg_sys::Datum, _: i32, _: u32) {
    STALE.set(true);
}

#[pg_guard]
unsafe extern "C-unwind" fn at_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: Postgres hands over a statement that is to be started, and it is after one of the two calls.
    unsafe {
        match NEXT_HOOK.get() {
            Some(next) => next(query, flags),
            None => pg_sys::standard_ExecutorStart(query, flags),
        }
        let writes = matches!(
            (*query).operation,
            pg_sys::CmdType::CMD_INSERT | pg_sys::CmdType::CMD_UPDATE
        );
        if WRITING.get() && writes && !(*query).estate.is_null() {
            make_ready((*query).estate);
        }
    }
}

/// Sets up the CHECKs of the tables that a statement writes to.
///
/// # Safety
/// `state` is that of a statement that was started and has not run yet.
unsafe fn make_ready(state: *mut pg_sys::EState) {
    // SAFETY: by the contract; the list holds ResultRelInfo, and nodes made here live as long as the statement.
    unsafe {
        let tables = (*state).es_opened_result_relations;
        if tables.is_null() {
            return;
        }
        let before = pg_sys::MemoryContextSwitchTo((*state).es_query_cxt);
        for at in 0..(*tables).length {
            let table = pg_sys::list_nth(tables, at).cast::<pg_sys::ResultRelInfo>();
            set_up(&mut *table);
        }
        pg_sys::MemoryContextSwitchTo(before);
    }
}

/// Sets up the CHECKs of one table, as Postgres itself does when it meets the first row that is written. What is out of
/// the ordinary is left to Postgres.
///
/// # Safety
/// `table` is one that a started statement writes to, and the current memory context is the statement's.
unsafe fn set_up(table: &mut pg_sys::ResultRelInfo) {
    // SAFETY: a table that a statement writes to is open, and stays so until its end; so do its definitions.
    unsafe {
        let relation = table.ri_RelationDesc;
        if relation.is_null() {
            return;
        }
        let definitions = (*(*relation).rd_att).constr;
        let (id, row) = ((*relation).rd_id, &*(*relation).rd_rel);
        if definitions.is_null()
            || row.relkind as u8 != pg_sys::RELKIND_RELATION
            || !place(table).is_null()
        {
            return;
        }
        let count = (*definitions).num_check;
        // Where they differ, the catalog is damaged, and Postgres says so.
        if count == 0 || i32::from(count) != i32::from(row.relchecks) || !ordinary(&*definitions) {
            return;
        }
        let size = usize::from(count) * size_of::<*mut pg_sys::ExprState>();
        let ready = pg_sys::palloc0(size).cast::<*mut pg_sys::ExprState>();
        for at in 0..count {
            let definition = (*(*definitions).check.add(usize::from(at))).ccbin;
            if definition.is_null() {
                return;
            }
            let expression = expression((id, at), CStr::from_ptr(definition));
            *ready.add(usize::from(at)) = pg_sys::ExecInitExpr(expression, std::ptr::null_mut());
        }
        *place(table) = ready;
    }
}

/// Where a statement keeps the CHECKs of a table once they are set up.
#[cfg(not(feature = "pg18"))]
fn place(table: &mut pg_sys::ResultRelInfo) -> &mut *mut *mut pg_sys::ExprState {
    &mut table.ri_ConstraintExprs
}

/// Where a statement keeps the CHECKs of a table once they are set up.
#[cfg(feature = "pg18")]
fn place(table: &mut pg_sys::ResultRelInfo) -> &mut *mut *mut pg_sys::ExprState {
    &mut table.ri_CheckConstraintExprs
}

/// Whether the CHECKs of a table are all enforced, and as they stand.
#[cfg(not(feature = "pg18"))]
unsafe fn ordinary(_: &pg_sys::TupleConstr) -> bool {
    true
}

/// Whether the CHECKs of a table are all enforced, and as they stand: not over virtual columns, which have to be
/// replaced by what they are computed from.
#[cfg(feature = "pg18")]
unsafe fn ordinary(definitions: &pg_sys::TupleConstr) -> bool {
    // SAFETY: the caller's definitions have num_check CHECKs.
    let checks = unsafe {
        std::slice::from_raw_parts(definitions.check, usize::from(definitions.num_check))
    };
    !definitions.has_generated_virtual && checks.iter().all(|check| check.ccenforced)
}

/// The expression of a CHECK, simplified; the caller's own copy, in the current memory context.
///
/// # Safety
/// `definition` is what the catalog has of a CHECK.
unsafe fn expression(key: Key, definition: &CStr) -> *mut pg_sys::Expr {
    // SAFETY: what is remembered is complete and in a context that only `forget` clears, which no copy survives in.
    unsafe {
        if STALE.get() {
            forget();
        }
        let known = CHECKS.with_borrow(|checks| {
            let known = checks.as_ref()?.get(&key)?;
            (*known.definition == *definition).then_some(known.expression)
        });
        if let Some(known) = known {
            return copy(known);
        }
        // From here on a change makes stale what is made below.
        let read = pg_sys::stringToNode(definition.as_ptr()).cast();
        let made = pg_sys::expression_planner(read);
        let full =
            CHECKS.with_borrow(|checks| checks.as_ref().is_some_and(|all| all.len() >= MOST));
        if full {
            forget();
        }
        let before = pg_sys::MemoryContextSwitchTo(memory());
        let kept = copy(made);
        pg_sys::MemoryContextSwitchTo(before);
        CHECKS.with_borrow_mut(|checks| {
            checks.get_or_insert_default().insert(
                key,
                Remembered {
                    definition: definition.to_owned(),
                    expression: kept,
                },
            )
        });
        made
    }
}

/// A copy of an expression in the current memory context.
///
/// # Safety
/// `expression` is a complete expression.
unsafe fn copy(expression: *mut pg_sys::Expr) -> *mut pg_sys::Expr {
    // SAFETY: by the contract.
    unsafe { pg_sys::copyObjectImpl(expression.cast()).cast() }
}

/// The memory context of what is remembered.
fn memory() -> pg_sys::MemoryContext {
    if MEMORY.get().is_null() {
        // SAFETY: a context of the backend's lifetime; the name is a constant.
        MEMORY.set(unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::TopMemoryContext,
                c"raptorflow_codex: CHECKs".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        });
    }
    MEMORY.get()
}

fn forget() {
    STALE.set(false);
    CHECKS.set(None);
    // SAFETY: nothing refers to it any more: what statements use are copies.
    unsafe { pg_sys::MemoryContextReset(memory()) };
}
