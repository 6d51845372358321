//! What is remembered until the end of a transaction, and when it is forgotten.

use pgrx::Uuid;
use pgrx::prelude::*;
use std::cell::Cell;

thread_local! {
    /// Counts the ends of transactions.
    static TRANSACTION: Cell<u64> = const { Cell::new(0) };
    /// Counts the ends of transactions and the rollbacks of subtransactions.
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    /// The context that this transaction was sealed to, and the transaction.
    static SEALED: Cell<Option<(u64, Uuid, Option<Uuid>)>> = const { Cell::new(None) };
}

/// A number that changes when what was read in this transaction may no longer hold: when the transaction ends,
/// and when a subtransaction is rolled back.
pub fn generation() -> u64 {
    GENERATION.get()
}

/// Seals the transaction to a context, or says whether it is the one that it was sealed to before.
pub fn seal(workspace: Uuid, user: Option<Uuid>) -> bool {
    let now = TRANSACTION.get();
    match SEALED.get() {
        Some((then, sealed_workspace, sealed_user)) if then == now => {
            (sealed_workspace, sealed_user) == (workspace, user)
        }
        _ => {
            SEALED.set(Some((now, workspace, user)));
            true
        }
    }
}

/// Runs `work` in a transaction that is not sealed, and sets the seal back as it was: for the self test, which
/// tries one context after the other and is rolled back.
pub fn unsealed<T>(work: impl FnOnce() -> T) -> T {
    let before = SEALED.take();
    let done = work();
    SEALED.set(before);
    done
}

/// Has Postgres tell us of the ends of transactions and subtransactions. Called once, when the library is loaded.
pub fn watch() {
    // SAFETY: the callbacks are plain functions that live as long as the library, which is never unloaded;
    // they touch two counters of this thread and cannot raise.
    unsafe {
        pg_sys::RegisterXactCallback(Some(at_end_of_transaction), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(at_end_of_subtransaction), std::ptr::null_mut());
    }
}

unsafe extern "C-unwind" fn at_end_of_transaction(
    event: pg_sys::XactEvent::Type,
    _: *mut std::ffi::c_void,
) {
    use pg_sys::XactEvent::{
        XACT_EVENT_PARALLEL_PRE_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE,
    };
    if !matches!(
        event,
        XACT_EVENT_PRE_COMMIT | XACT_EVENT_PRE_PREPARE | XACT_EVENT_PARALLEL_PRE_COMMIT
    ) {
        TRANSACTION.set(TRANSACTION.get().wrapping_add(1));
        GENERATION.set(GENERATION.get().wrapping_add(1));
    }
}

unsafe extern "C-unwind" fn at_end_of_subtransaction(
    event: pg_sys::SubXactEvent::Type,
    _: pg_sys::SubTransactionId,
    _: pg_sys::SubTransactionId,
    _: *mut std::ffi::c_void,
) {
    if event == pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB {
        GENERATION.set(GENERATION.get().wrapping_add(1));
    }
}
