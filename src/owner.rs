//! Work that a trigger does in the name of the owner of a table, as Postgres does it for a foreign key.
//!
//! What an INSERT brings with it (a place in a queue, an entry in a history) must not depend on the privileges of
//! whoever inserts, and nobody but the owner should be able to make it up. So the trigger runs its statements as the
//! owner of the table that it writes to. They are ours, name every schema, and write nothing but what the row at hand
//! says; no caller can choose a table or a text.

use crate::context::membership::table_named;
use crate::error::{CodexError, Outcome};
use pgrx::PgRelation;
use pgrx::pg_sys;
use std::ffi::{CStr, c_int};

/// Who the session is, to be put back.
struct Identity {
    user: pg_sys::Oid,
    security: c_int,
}

impl Identity {
    fn now() -> Self {
        let mut identity = Self {
            user: pg_sys::InvalidOid,
            security: 0,
        };
        // SAFETY: fills the two values.
        unsafe { pg_sys::GetUserIdAndSecContext(&mut identity.user, &mut identity.security) };
        identity
    }

    fn put(&self) {
        // SAFETY: sets two values of this backend. Postgres puts back what was there when a transaction or a
        // subtransaction began, should one be aborted.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.security) };
    }
}

/// Puts the identity back when dropped, after an error too.
struct Borrowed(Identity);

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.0.put();
    }
}

/// Does `work` as the owner of `schema.table`; 55000 when there is no such table.
pub fn as_owner_of<T>(
    schema: &CStr,
    table: &CStr,
    work: impl FnOnce() -> Outcome<T>,
) -> Outcome<T> {
    let owner = owner_of(schema, table)?;
    let before = Identity::now();
    let during = Identity {
        user: owner,
        security: before.security
            | (pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_NOFORCE_RLS) as c_int,
    };
    let borrowed = Borrowed(before);
    during.put();
    let done = work();
    drop(borrowed);
    done
}

fn owner_of(schema: &CStr, table: &CStr) -> Outcome<pg_sys::Oid> {
    let found = table_named(schema, table).ok_or_else(|| {
        let (schema, table) = (schema.to_string_lossy(), table.to_string_lossy());
        CodexError::wrong_state(format!("there is no table {schema}.{table}"))
            .with_hint("SELECT * FROM codex.verify() tells what is missing.")
    })?;
    // SAFETY: the table was there a moment ago; where it is gone by now, opening it raises an error.
    let relation =
        unsafe { PgRelation::with_lock(found, pg_sys::AccessShareLock as pg_sys::LOCKMODE) };
    // SAFETY: an open relation has its row of the catalog.
    Ok(unsafe { (*relation.rd_rel).relowner })
}
