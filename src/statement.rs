//! A SQL statement that is prepared once a backend and run many times.
//!
//! Write the text next to the function that runs it:
//!
//! ```ignore
//! statement!(CAMPAIGN_STATUS(UUID) = "SELECT c.status FROM public.campaigns AS c WHERE c.id = $1");
//!
//! CAMPAIGN_STATUS.with(|s| s.read_one(client, &[id.into()], |row| row.get::<String>(1)))
//! ```
//!
//! Postgres re-plans a kept statement by itself when a table, a role or the search path changed, so it
//! outlives DDL, `SET ROLE` and DROP/CREATE EXTENSION. Two rules come with it:
//!
//! - The text names every schema, and the SQL-callable function that runs it carries
//!   `#[search_path(pg_catalog, pg_temp)]`: a caller's path can then put neither a table nor an operator
//!   of its own in front of ours.
//! - [`Statement::read`] runs read-only as long as the transaction has written nothing: it assigns no
//!   transaction id and works on a hot standby. [`Statement::write`] is for everything that writes or locks
//!   rows, and for a read that must see what another session committed a moment ago.

use crate::error::{CodexError, Outcome};
use crate::schema::release::refuse_outdated_library;
use crate::writing::Writing;
use pgrx::PgMemoryContexts;
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{OwnedPreparedStatement, SpiClient, SpiHeapTupleData, SpiResult};
use std::cell::Cell;

/// One statement of this backend; made by [`statement!`](crate::statement!).
pub struct Statement {
    sql: &'static str,
    arguments: &'static [PgBuiltInOids],
    plan: Cell<Option<&'static OwnedPreparedStatement>>,
}

impl Statement {
    /// A statement that is prepared when it is first run.
    pub const fn new(sql: &'static str, arguments: &'static [PgBuiltInOids]) -> Self {
        Self {
            sql,
            arguments,
            plan: Cell::new(None),
        }
    }

    fn plan(&self, client: &SpiClient<'_>) -> Outcome<&'static OwnedPreparedStatement> {
        if let Some(plan) = self.plan.get() {
            return Ok(plan);
        }
        let types: Vec<PgOid> = self
            .arguments
            .iter()
            .map(|oid| PgOid::BuiltIn(*oid))
            .collect();
        let prepared = with_hint_on_missing_table(|| client.prepare(self.sql, &types))?;
        // Leaked on purpose: the plan lives as long as the backend, and freeing it while the process
        // exits would reach into a Postgres that is already taken down.
        let plan: &'static OwnedPreparedStatement = Box::leak(Box::new(prepared.keep()));
        self.plan.set(Some(plan));
        Ok(plan)
    }

    /// Runs the statement without writing; gives what `take` makes of each row.
    pub fn read<T>(
        &self,
        client: &SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
        take: impl FnMut(SpiHeapTupleData<'_>) -> SpiResult<T>,
    ) -> Outcome<Vec<T>> {
        let plan = self.plan(client)?;
        let rows = client.select(plan, None, arguments)?;
        rows.map(take)
            .collect::<SpiResult<Vec<T>>>()
            .map_err(CodexError::from)
    }

    /// Like [`read`](Self::read), for a statement of which only the first row matters.
    pub fn read_one<T>(
        &self,
        client: &SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
        take: impl FnMut(SpiHeapTupleData<'_>) -> SpiResult<T>,
    ) -> Outcome<Option<T>> {
        Ok(self.read(client, arguments, take)?.into_iter().next())
    }

    /// Runs the statement without writing, a thousand rows at a time, and hands each row to `each`: for results
    /// that may be too large to hold. `each` must not run another statement, and must not keep what refers to
    /// memory of Postgres (`&str`, `&[u8]`): that is freed after every thousand rows.
    pub fn scan(
        &self,
        client: &SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
        mut each: impl FnMut(SpiHeapTupleData<'_>) -> Outcome<()>,
    ) -> Outcome<()> {
        const ROWS: i64 = 1000;
        let plan = self.plan(client)?;
        let mut cursor = client.try_open_cursor(plan, arguments)?;
        loop {
            let rows = cursor.fetch(ROWS)?;
            if rows.is_empty() {
                return Ok(());
            }
            // A value of a row is copied to the parent of the current memory context: that is `values` here.
            let mut values = PgMemoryContexts::new("values of a batch of rows");
            // SAFETY: `each` keeps nothing that lives in these contexts, as it says above; they are deleted, the
            // inner one first, with nothing of theirs in use.
            unsafe {
                let mut scratch =
                    values.switch_to(|_| PgMemoryContexts::new("work on a batch of rows"));
                scratch.switch_to(|_| rows.into_iter().try_for_each(&mut each))?;
            }
            drop(values);
            // SAFETY: these are the rows fetched last, as `each` ran no other statement, and nothing refers to
            // them any more.
            unsafe { pgrx::pg_sys::SPI_freetuptable(pgrx::pg_sys::SPI_tuptable) };
        }
    }

    /// Runs a statement that writes or locks, with a fresh snapshot; gives what `take` makes of each row
    /// that it returns.
    pub fn write<T>(
        &self,
        client: &mut SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
        take: impl FnMut(SpiHeapTupleData<'_>) -> SpiResult<T>,
    ) -> Outcome<Vec<T>> {
        refuse_on_a_standby();
        refuse_outdated_library(client)?;
        let plan = self.plan(client)?;
        let _writing = Writing::begin();
        let rows = client.update(plan, None, arguments)?;
        rows.map(take)
            .collect::<SpiResult<Vec<T>>>()
            .map_err(CodexError::from)
    }

    /// Like [`write`](Self::write), for a statement of which only the first row matters.
    pub fn write_one<T>(
        &self,
        client: &mut SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
        take: impl FnMut(SpiHeapTupleData<'_>) -> SpiResult<T>,
    ) -> Outcome<Option<T>> {
        Ok(self.write(client, arguments, take)?.into_iter().next())
    }

    /// Runs a statement that writes and returns no rows; gives how many rows it wrote.
    pub fn execute(
        &self,
        client: &mut SpiClient<'_>,
        arguments: &[DatumWithOid<'_>],
    ) -> Outcome<usize> {
        refuse_on_a_standby();
        refuse_outdated_library(client)?;
        let plan = self.plan(client)?;
        let _writing = Writing::begin();
        Ok(client.update(plan, None, arguments)?.len())
    }
}

/// Raises 25006 on a hot standby, as Postgres does for a command that writes. SPI takes a transaction id before
/// it runs a statement that may write, and on a standby that fails as an internal error.
pub fn refuse_on_a_standby() {
    // SAFETY: the name is a terminated string; an error that is raised unwinds as every error of Postgres does.
    unsafe { pgrx::pg_sys::PreventCommandDuringRecovery(c"a function that writes".as_ptr()) }
}

/// Declares a [`Statement`]: a name, the types of its parameters in order, and its text.
///
/// The types are those of [`PgBuiltInOids`] without the ending: `UUID`, `TEXT`, `INT8`, `TIMESTAMPTZ`.
#[macro_export]
macro_rules! statement {
    ($(#[$doc:meta])* $name:ident ($($kind:ident),* $(,)?) = $sql:expr) => {
        ::std::thread_local! {
            $(#[$doc])*
            static $name: $crate::statement::Statement = const {
                $crate::statement::Statement::new(
                    $sql,
                    &[$($crate::statement::builtin::$kind),*],
                )
            };
        }
    };
}

/// The parameter types of statements, by the names that [`statement!`](crate::statement!) uses.
#[rustfmt::skip]
pub mod builtin {
    use pgrx::prelude::PgBuiltInOids as Oid;
    pub const UUID: Oid = Oid::UUIDOID;
    pub const UUID_ARRAY: Oid = Oid::UUIDARRAYOID;
    pub const TEXT: Oid = Oid::TEXTOID;
    pub const TEXT_ARRAY: Oid = Oid::TEXTARRAYOID;
    pub const INT4: Oid = Oid::INT4OID;
    pub const INT8: Oid = Oid::INT8OID;
    pub const NUMERIC: Oid = Oid::NUMERICOID;
    pub const JSONB: Oid = Oid::JSONBOID;
    pub const BYTEA: Oid = Oid::BYTEAOID;
    pub const DATE: Oid = Oid::DATEOID;
    pub const TIMESTAMPTZ: Oid = Oid::TIMESTAMPTZOID;
    pub const TIME: Oid = Oid::TIMEOID;
    pub const BOOL: Oid = Oid::BOOLOID;
    pub const TID: Oid = Oid::TIDOID;
    pub const FLOAT8: Oid = Oid::FLOAT8OID;
    pub const BOOL_ARRAY: Oid = Oid::BOOLARRAYOID;
    pub const FLOAT8_ARRAY: Oid = Oid::FLOAT8ARRAYOID;
}

/// A query for an ordered list, of which a caller may want all or only the first rows; made by
/// [`list_statement!`](crate::list_statement!).
pub struct List {
    /// The whole list.
    pub all: Statement,
    /// At most a page of it.
    pub page: Statement,
    /// Any number of rows.
    pub more: Statement,
}

impl List {
    /// Reads the list, or the first `limit` rows of it.
    pub fn read<T>(
        &self,
        client: &SpiClient<'_>,
        mut arguments: Vec<DatumWithOid<'_>>,
        limit: Option<i64>,
        take: impl FnMut(SpiHeapTupleData<'_>) -> SpiResult<T>,
    ) -> Outcome<Vec<T>> {
        let statement = match limit {
            None => return self.all.read(client, &arguments, take),
            Some(limit) if limit <= crate::list_page!(number) => &self.page,
            Some(_) => &self.more,
        };
        arguments.push(limit.into());
        statement.read(client, &arguments, take)
    }
}

/// How many rows a page has, as a number and as SQL.
#[macro_export]
macro_rules! list_page {
    (number) => {
        100
    };
    (sql) => {
        "100"
    };
}

/// Declares a [`List`]: a name, the types of its parameters, the parameter that the limit becomes (one more), and
/// the text without a LIMIT.
///
/// It is three statements. Where the limit is a parameter, the planner takes it for a tenth of all rows, and so
/// plans anew at every call or, worse, keeps a plan that sorts the table. A page is cut from an inner LIMIT with a
/// number, which makes the plan that is kept the one that reads the first rows from an index; the outer LIMIT
/// stops it early. (A subquery with ORDER BY and LIMIT hands its rows on in its order.) Longer lists are planned for
/// their length.
#[macro_export]
macro_rules! list_statement {
    ($(#[$doc:meta])* $name:ident ($($kind:ident),*; $limit:literal) = $sql:expr) => {
        $crate::list_statement!(
            $(#[$doc])*
            $name ($($kind),*; $limit) = $sql,
            concat!("SELECT *\nFROM (", $sql, "\nLIMIT ", $crate::list_page!(sql), ") AS page"),
            $sql
        );
    };
    ($(#[$doc:meta])* $name:ident ($($kind:ident),*; $limit:literal) = $all:expr, $page:expr, $more:expr) => {
        ::std::thread_local! {
            $(#[$doc])*
            static $name: $crate::statement::List = const {
                $crate::statement::List {
                    all: $crate::statement::Statement::new(
                        $all,
                        &[$($crate::statement::builtin::$kind),*],
                    ),
                    page: $crate::statement::Statement::new(
                        concat!($page, "\nLIMIT ", $limit),
                        &[$($crate::statement::builtin::$kind,)* $crate::statement::builtin::INT8],
                    ),
                    more: $crate::statement::Statement::new(
                        concat!($more, "\nLIMIT ", $limit),
                        &[$($crate::statement::builtin::$kind,)* $crate::statement::builtin::INT8],
                    ),
                }
            };
        }
    };
}

/// An argument that a foreign key checks.
pub struct Reference<'a> {
    /// The name of the foreign key.
    pub foreign_key: &'a str,
    /// The name of the argument.
    pub argument: &'a str,
    /// What it refers to, as the message calls it: `agent`, `campaign in this workspace`.
    pub what: &'a str,
    /// Its value.
    pub value: Option<pgrx::Uuid>,
}

/// Runs `write`; when a foreign key refuses, says which argument refers to nothing.
///
/// The message is the same for what does not exist and for what belongs to another workspace. A foreign
/// key that is not among `references` keeps the message of Postgres.
pub fn naming_what_is_missing<T>(
    references: &[Reference<'_>],
    write: impl FnOnce() -> Outcome<T>,
) -> Outcome<T> {
    PgTryBuilder::new(std::panic::AssertUnwindSafe(write))
        .catch_when(PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION, |caught| {
            let message = message_of(&caught);
            for reference in references {
                if let Some(value) = reference.value
                    && message.contains(reference.foreign_key)
                {
                    return Err(CodexError::unknown_reference(format!(
                        "{} is {value}, and there is no such {}",
                        reference.argument, reference.what
                    ))
                    .with_detail(message));
                }
            }
            caught.rethrow()
        })
        .execute()
}

/// Runs `prepare`; when it fails because a table or a column is missing, says how they come to be.
fn with_hint_on_missing_table<T>(prepare: impl FnOnce() -> SpiResult<T>) -> Outcome<T> {
    let incomplete = |caught: pgrx::pg_sys::panic::CaughtError| {
        Err(CodexError::wrong_state(format!(
            "the tables of the Codex are not complete in this database: {}",
            message_of(&caught)
        ))
        .with_hint("Run SELECT * FROM codex.migrate(); SELECT * FROM codex.verify() tells what is missing."))
    };
    let prepared = PgTryBuilder::new(std::panic::AssertUnwindSafe(|| Ok(prepare())))
        .catch_when(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, incomplete)
        .catch_when(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, incomplete)
        .execute()?;
    Ok(prepared?)
}

/// The message of an error that was caught on its way up.
pub fn message_of(caught: &pgrx::pg_sys::panic::CaughtError) -> String {
    use pgrx::pg_sys::panic::CaughtError::{ErrorReport, PostgresError, RustPanic};
    match caught {
        PostgresError(report) | ErrorReport(report) => report.message().to_string(),
        RustPanic { ereport, .. } => ereport.message().to_string(),
    }
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use crate::error::CodexError;
    use pgrx::prelude::*;

    statement!(TWICE(INT8) = "SELECT $1 OPERATOR(pg_catalog.*) 2::bigint");
    statement!(UP_TO(INT8) = "SELECT g.g FROM pg_catalog.generate_series(1::bigint, $1) AS g (g)");
    statement!(NO_TABLE() = "SELECT 1 FROM public.not_there");

    fn twice(number: i64) -> Option<i64> {
        Spi::connect(|client| {
            TWICE.with(|s| s.read_one(client, &[number.into()], |row| row.get::<i64>(1)))
        })
        .unwrap()
        .flatten()
    }

    #[pg_test]
    fn a_statement_is_prepared_once() {
        assert_eq!(twice(21), Some(42));
        let first = TWICE.with(|s| s.plan.get().map(std::ptr::from_ref));
        assert_eq!(twice(4), Some(8));
        assert_eq!(TWICE.with(|s| s.plan.get().map(std::ptr::from_ref)), first);
        assert!(first.is_some());
    }

    #[pg_test]
    fn a_read_takes_no_transaction_id() {
        assert_eq!(twice(1), Some(2));
        // SAFETY: reads a global of this backend.
        let taken = unsafe { pg_sys::GetTopTransactionIdIfAny() };
        assert_eq!(taken, pg_sys::InvalidTransactionId);
    }

    #[pg_test]
    fn a_scan_hands_over_every_row_beyond_its_batch() {
        let (mut rows, mut sum) = (0, 0);
        Spi::connect(|client| {
            UP_TO.with(|s| {
                s.scan(client, &[2500_i64.into()], |row| {
                    rows += 1;
                    sum += row.get::<i64>(1)?.unwrap_or(0);
                    Ok(())
                })
            })
        })
        .unwrap();
        assert_eq!((rows, sum), (2500, 2500 * 2501 / 2));
    }

    #[pg_test]
    fn a_missing_table_says_how_it_comes_to_be() {
        let error: CodexError =
            Spi::connect(|client| NO_TABLE.with(|s| s.read(client, &[], |_| Ok(())))).unwrap_err();
        assert_eq!(
            error.sqlstate(),
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
        );
    }
}
