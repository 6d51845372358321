//! Waiting for tables without holding anybody up.
//!
//! A DDL statement that waits for a lock stands in the queue, and everybody who comes later and needs a
//! conflicting lock waits behind it. So the engine asks for all locks it needs at once, waits for them only
//! [`ONE_TRY`], lets go of everything, sleeps, and asks again, until `lock_timeout` of the session
//! ([`PATIENCE`] where that is 0) has passed. A neighbour is thus never held up for longer than one try.

use super::database::{query, value};
use crate::error::{CodexError, Outcome};
use crate::subtransaction::subtransaction;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

/// How long one try may stand in a lock queue.
const ONE_TRY: Duration = Duration::from_millis(200);

/// How long to go on trying where the session sets no `lock_timeout`.
const PATIENCE: Duration = Duration::from_secs(10);

/// Key of the advisory lock under which a database is migrated: the letters "CODX", and 1.
const ADVISORY_LOCK: (i32, i32) = (0x434F_4458, 1);

/// How strong a lock is wanted.
#[derive(Clone, Copy)]
pub enum Mode {
    /// Others go on reading; writers wait. What adding a foreign key takes on both tables.
    BlockWriters,
    /// Nobody else reads or writes. What dropping a foreign key or a table takes.
    BlockAll,
}

impl Mode {
    fn level(self) -> pg_sys::LOCKMODE {
        let level = match self {
            Mode::BlockWriters => pg_sys::ShareRowExclusiveLock,
            Mode::BlockAll => pg_sys::AccessExclusiveLock,
        };
        // Lock levels are 1 to 8.
        level as pg_sys::LOCKMODE
    }
}

/// Waits until no other session migrates this database; the lock lasts until the end of the transaction.
/// From here on every statement of the transaction sees what others have committed.
pub fn exclude_other_migrations(client: &mut SpiClient<'_>) -> Outcome<()> {
    client.update(
        "SELECT pg_catalog.pg_advisory_xact_lock($1, $2)",
        None,
        &[ADVISORY_LOCK.0.into(), ADVISORY_LOCK.1.into()],
    )?;
    Ok(())
}

/// [`exclude_other_migrations`] for everything else that changes definitions or privileges: two sessions that
/// change the same row of the catalog at once would end in "tuple concurrently updated" (XX000). To be called
/// before a relation is opened, so that nobody waits for it while holding one.
pub fn one_at_a_time() -> Outcome<()> {
    crate::statement::refuse_on_a_standby();
    Spi::connect_mut(exclude_other_migrations)
}

/// Takes all the locks, or fails with 55P03 and says who holds them; nothing is held then.
pub fn take(
    client: &mut SpiClient<'_>,
    wanted: &[(pg_sys::Oid, Mode)],
    purpose: &str,
) -> Outcome<()> {
    // Always in the same order, so that two of us never wait for each other.
    let mut wanted = wanted.to_vec();
    wanted.sort_by_key(|(table, mode)| (table.to_u32(), std::cmp::Reverse(mode.level())));
    wanted.dedup_by_key(|(table, _)| *table);
    let tables: Vec<pg_sys::Oid> = wanted.iter().map(|(table, _)| *table).collect();
    if tables.is_empty() {
        return Ok(());
    }
    let configured: String = value(
        client,
        "SELECT pg_catalog.current_setting('lock_timeout')",
        &[],
    )?
    .unwrap_or_default();
    let milliseconds: Option<i64> = value(
        client,
        "SELECT s.setting::bigint FROM pg_catalog.pg_settings AS s WHERE s.name = 'lock_timeout'",
        &[],
    )?;
    let patience = match milliseconds {
        Some(milliseconds) if milliseconds > 0 => {
            Duration::from_millis(milliseconds.unsigned_abs())
        }
        _ => PATIENCE,
    };
    let begun = Instant::now();
    let mut pause = Duration::from_millis(50);
    loop {
        let one_try = ONE_TRY.min(patience);
        set_lock_timeout(client, &format!("{}ms", one_try.as_millis().max(1)))?;
        let taken = subtransaction(AssertUnwindSafe(|| {
            for (table, mode) in &wanted {
                // SAFETY: locks a relation by its OID; an OID that is gone by now locks nothing of value, and
                // an error (a timeout, a cancel) is raised and caught by the subtransaction.
                unsafe { pg_sys::LockRelationOid(*table, mode.level()) };
            }
            Ok(())
        }));
        set_lock_timeout(client, &configured)?;
        match taken {
            Ok(()) => return Ok(()),
            Err(caught) if caught.sqlstate() == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {}
            Err(caught) => caught.rethrow(),
        }
        if begun.elapsed() >= patience {
            return Err(could_not_lock(client, &tables, patience, purpose)?);
        }
        let rest = patience.saturating_sub(begun.elapsed());
        client.update(
            "SELECT pg_catalog.pg_sleep($1)",
            None,
            &[pause.min(rest).as_secs_f64().into()],
        )?;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

fn set_lock_timeout(client: &mut SpiClient<'_>, to: &str) -> Outcome<()> {
    client.update(
        "SELECT pg_catalog.set_config('lock_timeout', $1, true)",
        None,
        &[to.into()],
    )?;
    Ok(())
}

/// The error, with who holds what as its detail.
fn could_not_lock(
    client: &SpiClient<'_>,
    tables: &[pg_sys::Oid],
    patience: Duration,
    purpose: &str,
) -> Outcome<CodexError> {
    let holders = query(
        client,
        "SELECT pg_catalog.format(
                    'process %s (role %s, %s%s) holds %s on %I.%I',
                    l.pid,
                    coalesce(a.usename::text, 'unknown'),
                    coalesce(a.state, 'state not visible to you'),
                    coalesce(', application ' || nullif(a.application_name, ''), ''),
                    l.mode, n.nspname, c.relname)
           FROM pg_catalog.pg_locks AS l
           JOIN pg_catalog.pg_class AS c ON c.oid = l.relation
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
           LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
          WHERE l.locktype = 'relation'
            AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
            AND l.relation = ANY ($1::oid[])
            AND l.granted
            AND l.pid <> pg_catalog.pg_backend_pid()
          ORDER BY a.xact_start NULLS LAST, l.pid
          LIMIT 10",
        &[tables.to_vec().into()],
        |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
    )?;
    let error = CodexError::busy(format!(
        "{purpose} could not lock the tables it needs within {} ms",
        patience.as_millis()
    ))
    .with_hint("Nothing was changed. Try again when that session is done; SET lock_timeout says how long to go on trying.");
    Ok(if holders.is_empty() {
        error
    } else {
        error.with_detail(holders.join("\n"))
    })
}
