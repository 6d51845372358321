//! `codex.migrations`: what was applied to this database, when, by whom, and from which text.

use super::catalogue::{self, Migration};
use super::database::{has_table_privilege, oid_of, query, table_exists};
use super::release::LIBRARY_VERSION;
use crate::error::{CodexError, Outcome};
use pgrx::spi::SpiClient;
use std::time::Duration;

/// One row of the ledger.
pub struct Entry {
    /// The migration's number.
    pub version: i32,
    /// Its name when it was applied.
    pub name: String,
    /// SHA-256 of its texts when it was applied.
    pub checksum: String,
    /// When, as text.
    pub applied_at: String,
    /// The role that applied it.
    pub applied_by: String,
    /// The version of the library that applied it.
    pub extension_version: String,
}

/// Whether there is a ledger that the current role may not read.
pub fn is_hidden(client: &SpiClient<'_>) -> Outcome<bool> {
    Ok(match oid_of(client, "codex.migrations")? {
        Some(ledger) => !has_table_privilege(client, ledger, "SELECT")?,
        None => false,
    })
}

/// The ledger, oldest first; empty where there is no ledger.
pub fn read(client: &SpiClient<'_>) -> Outcome<Vec<Entry>> {
    if !table_exists(client, "codex.migrations")? {
        return Ok(Vec::new());
    }
    query(
        client,
        "SELECT m.version, m.name, m.checksum,
                pg_catalog.to_char(m.applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC',
                m.applied_by, m.extension_version
           FROM codex.migrations AS m
          ORDER BY m.version",
        &[],
        |row| {
            Ok(Entry {
                version: row.get(1)?.unwrap_or_default(),
                name: row.get(2)?.unwrap_or_default(),
                checksum: row.get(3)?.unwrap_or_default(),
                applied_at: row.get(4)?.unwrap_or_default(),
                applied_by: row.get(5)?.unwrap_or_default(),
                extension_version: row.get(6)?.unwrap_or_default(),
            })
        },
    )
}

/// The highest version applied, 0 for none.
pub fn version(entries: &[Entry]) -> i32 {
    entries.iter().map(|entry| entry.version).max().unwrap_or(0)
}

/// The version up to which this database is expected to be complete: what it has reached, at least the product's
/// own; the newest for whom the ledger is hidden.
pub fn expected_version(client: &SpiClient<'_>) -> Outcome<i32> {
    if is_hidden(client)? {
        return Ok(catalogue::latest());
    }
    Ok(version(&read(client)?).max(catalogue::PRODUCT))
}

/// Fails where the ledger does not fit this library: a version that it does not know, or a text that changed.
pub fn check(entries: &[Entry]) -> Outcome<()> {
    for entry in entries {
        let Some(migration) = catalogue::find(entry.version) else {
            return Err(CodexError::wrong_state(format!(
                "this database has migration {:03} {}, which raptorflow_codex {LIBRARY_VERSION} does not know; it was applied by version {}",
                entry.version, entry.name, entry.extension_version
            ))
            .with_hint(format!(
                "Install raptorflow_codex {} or newer on this server.",
                entry.extension_version
            )));
        };
        if migration.checksum() != entry.checksum {
            return Err(CodexError::wrong_state(format!(
                "migration {} was changed after it had been applied: {} is not the text that ran here",
                migration.label(),
                migration.file()
            ))
            .with_detail(format!(
                "applied {} by {} with checksum {}; the library's text has {}",
                entry.applied_at,
                entry.applied_by,
                entry.checksum,
                migration.checksum()
            ))
            .with_hint("Install the library this database was migrated with, or one that was released after it."));
        }
    }
    Ok(())
}

/// Writes that a migration was applied.
pub fn record(client: &mut SpiClient<'_>, migration: &Migration, took: Duration) -> Outcome<()> {
    let microseconds = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
    client.update(
        "INSERT INTO codex.migrations (version, name, checksum, duration, extension_version)
         VALUES ($1, $2, $3, $4 * interval '1 microsecond', $5)",
        None,
        &[
            migration.version.into(),
            migration.name.into(),
            migration.checksum().into(),
            microseconds.into(),
            LIBRARY_VERSION.into(),
        ],
    )?;
    Ok(())
}

/// Writes that a migration was taken back.
pub fn forget(client: &mut SpiClient<'_>, version: i32) -> Outcome<()> {
    client.update(
        "DELETE FROM codex.migrations AS m
          WHERE m.version = $1",
        None,
        &[version.into()],
    )?;
    Ok(())
}

/// The statement that a printed migration ends with.
pub fn record_text(migration: &Migration) -> String {
    format!(
        "INSERT INTO codex.migrations (version, name, checksum, duration, extension_version)\nVALUES ({}, '{}', '{}', clock_timestamp() - now(), '{LIBRARY_VERSION}');\n",
        migration.version,
        migration.name,
        migration.checksum()
    )
}

/// The statement that a printed rollback ends with.
pub fn forget_text(migration: &Migration) -> String {
    format!(
        "DELETE FROM codex.migrations\n WHERE version = {};\n",
        migration.version
    )
}
