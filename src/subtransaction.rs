//! A piece of work that can fail without failing the transaction around it.
//!
//! `PgTryBuilder` alone only catches: what the failed statement wrote, locked and left open stays. Here the
//! work runs inside an internal subtransaction, as in a PL/pgSQL block with an EXCEPTION clause, so that after
//! an error everything is as it was before.

use crate::error::{CodexError, Outcome};
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use std::panic::{AssertUnwindSafe, UnwindSafe};

/// An error that ended a subtransaction.
pub struct Caught(Cause);

enum Cause {
    /// Postgres or Rust raised it. Boxed, so that a `Result` that carries it stays small on the good path.
    Raised(Box<CaughtError>),
    /// The work returned it.
    Returned(CodexError),
}

impl Caught {
    /// The SQLSTATE.
    pub fn sqlstate(&self) -> PgSqlErrorCode {
        match &self.0 {
            Cause::Raised(raised) => report_of(raised).sql_error_code(),
            Cause::Returned(error) => error.sqlstate(),
        }
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        match &self.0 {
            Cause::Raised(raised) => report_of(raised).message(),
            Cause::Returned(error) => error.message(),
        }
    }

    /// Raises the error again, as it was.
    pub fn rethrow(self) -> ! {
        match self.0 {
            Cause::Raised(raised) => raised.rethrow(),
            Cause::Returned(error) => error.raise(),
        }
    }

    /// Cancelling a query, stopping the server and running out of memory are not for us to survive.
    fn must_not_be_swallowed(&self) -> bool {
        matches!(
            self.sqlstate(),
            PgSqlErrorCode::ERRCODE_QUERY_CANCELED
                | PgSqlErrorCode::ERRCODE_ADMIN_SHUTDOWN
                | PgSqlErrorCode::ERRCODE_CRASH_SHUTDOWN
                | PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY
        )
    }
}

fn report_of(raised: &CaughtError) -> &pgrx::pg_sys::panic::ErrorReportWithLevel {
    match raised {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
        CaughtError::RustPanic { ereport, .. } => ereport,
    }
}

/// How a subtransaction ends.
enum End {
    Release,
    RollBack,
}

/// Runs `body` in a subtransaction of its own. Its writes and locks stay when it returns `Ok`; when it returns
/// `Err` or raises, they are rolled back and the error is given.
///
/// SPI connections that `body` opens are closed when it fails. A cancelled query, a server that stops and
/// memory that ran out are raised again after the rollback, never returned.
///
/// A subtransaction that writes takes a transaction id of its own: not for code that only reads.
pub fn subtransaction<T>(body: impl FnOnce() -> Outcome<T> + UnwindSafe) -> Result<T, Caught> {
    attempt(body, |_| End::Release)
}

/// Like [`subtransaction`], but what it did stays only where `keep` says so of what it returns.
pub fn subtransaction_if<T>(
    body: impl FnOnce() -> Outcome<T> + UnwindSafe,
    keep: impl FnOnce(&T) -> bool,
) -> Result<T, Caught> {
    attempt(body, |done| {
        if keep(done) {
            End::Release
        } else {
            End::RollBack
        }
    })
}

/// Like [`subtransaction`], but rolls back in any case: for a rehearsal whose answer alone is wanted.
pub fn rehearse<T>(body: impl FnOnce() -> Outcome<T> + UnwindSafe) -> Result<T, Caught> {
    attempt(body, |_| End::RollBack)
}

fn attempt<T>(
    body: impl FnOnce() -> Outcome<T> + UnwindSafe,
    end_of: impl FnOnce(&T) -> End,
) -> Result<T, Caught> {
    // SAFETY: reading two globals of this backend, which is single-threaded.
    let (memory, owner) = unsafe { (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner) };
    // SAFETY: called inside a transaction (every SQL-callable function is); the subtransaction is ended below
    // on every path. It switches to a memory context of its own, so we go back to the caller's, in which
    // `body` may allocate what it returns.
    unsafe {
        pg_sys::BeginInternalSubTransaction(std::ptr::null());
        pg_sys::MemoryContextSwitchTo(memory);
    }
    let result = PgTryBuilder::new(AssertUnwindSafe(|| {
        body().map_err(|error| Caught(Cause::Returned(error)))
    }))
    .catch_others(|raised| Err(Caught(Cause::Raised(Box::new(raised)))))
    .execute();
    let end = match &result {
        Ok(value) => end_of(value),
        Err(_) => End::RollBack,
    };
    // SAFETY: the subtransaction begun above is the current one: what `body` opened inside it (further
    // subtransactions included) has been ended by `attempt` itself. Afterwards memory context and resource
    // owner are set back to the caller's, as PL/pgSQL does.
    unsafe {
        match end {
            End::Release => pg_sys::ReleaseCurrentSubTransaction(),
            End::RollBack => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
        }
        pg_sys::MemoryContextSwitchTo(memory);
        pg_sys::CurrentResourceOwner = owner;
    }
    match result {
        Err(caught) if caught.must_not_be_swallowed() => caught.rethrow(),
        other => other,
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::{rehearse, subtransaction, subtransaction_if};
    use crate::error::CodexError;
    use pgrx::prelude::*;

    fn rows() -> i64 {
        Spi::get_one("SELECT count(*) FROM pg_temp.notes")
            .unwrap()
            .unwrap()
    }

    fn note() {
        Spi::run("INSERT INTO pg_temp.notes VALUES (1)").unwrap();
    }

    #[pg_test]
    fn what_is_not_to_be_kept_goes_and_its_answer_stays() {
        Spi::run("CREATE TEMP TABLE notes (note integer)").unwrap();
        for (answer, notes) in [(0, 0), (2, 1), (0, 1)] {
            let done = subtransaction_if(
                || {
                    note();
                    Ok(answer)
                },
                |answer| *answer > 0,
            );
            assert_eq!(done.ok(), Some(answer));
            assert_eq!(rows(), notes);
        }
    }

    #[pg_test]
    fn only_what_succeeded_stays() {
        Spi::run("CREATE TEMP TABLE notes (note integer)").unwrap();
        let kept = subtransaction(|| {
            note();
            Ok(())
        });
        assert!(kept.is_ok());
        assert_eq!(rows(), 1);

        let returned = subtransaction::<()>(|| {
            note();
            Err(CodexError::wrong_state("no"))
        });
        let returned = returned.err().unwrap();
        assert_eq!(
            (returned.sqlstate(), returned.message()),
            (
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                "no"
            )
        );
        assert_eq!(rows(), 1);

        let raised = subtransaction(|| {
            note();
            Ok(Spi::run("SELECT 1 / 0")?)
        });
        assert_eq!(
            raised.err().unwrap().sqlstate(),
            PgSqlErrorCode::ERRCODE_DIVISION_BY_ZERO
        );
        assert_eq!(rows(), 1);

        assert_eq!(
            rehearse(|| Ok({
                note();
                rows()
            }))
            .ok(),
            Some(2)
        );
        assert_eq!(rows(), 1);
    }
}
