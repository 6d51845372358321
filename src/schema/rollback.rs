//! `codex.rollback()`: taking migrations back, newest first.

use super::catalogue::{self, Body, Migration};
use super::database::{self, oid_of, table_exists, value};
use super::foundation;
use super::ledger;
use super::legacy;
use super::locks::{self, Mode};
use super::migrate::{Line, refuse_bad_moment};
use crate::error::{CodexError, OrRaise, Outcome, required};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

/// Takes back every migration above `target`, newest first, in one transaction.
///
/// - `target`: the version to stay at; 0 takes back everything, down to the foundation tables that
///   `codex.migrate()` had made here itself. Tables of the app are never touched.
/// - `allow_data_loss`: tables that hold rows are dropped, too.
///
/// Gives a row a migration, with what was lost. Refuses with 55000 where a table to be dropped holds rows (each
/// is named with its row count) unless `allow_data_loss`; with 22023 a negative target; with 55P03 when the
/// tables cannot be locked in time.
#[pg_extern(sql = "
CREATE FUNCTION rollback(target integer, allow_data_loss boolean DEFAULT false)
RETURNS TABLE (version integer, name text, outcome text, detail text)
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION rollback(integer, boolean) IS
'Takes back every migration above target (0: all), newest first, in one transaction; a row a migration says what was lost. Tables that hold rows are refused with their row counts (55000) unless allow_data_loss. Tables of the app are never touched.';
")]
fn rollback(
    target: Option<i32>,
    allow_data_loss: Option<bool>,
) -> TableIterator<
    'static,
    (
        name!(version, i32),
        name!(name, String),
        name!(outcome, &'static str),
        name!(detail, String),
    ),
> {
    TableIterator::new(run(target, allow_data_loss).or_raise())
}

fn run(target: Option<i32>, allow_data_loss: Option<bool>) -> Outcome<Vec<Line>> {
    let target = required(target, "target")?;
    let allow_data_loss = required(allow_data_loss, "allow_data_loss")?;
    if target < 0 {
        return Err(CodexError::bad_value(format!("target is {target}"))
            .with_hint("0 takes back everything; otherwise name the version to stay at."));
    }
    refuse_bad_moment("codex.rollback()")?;
    Spi::connect_mut(|client| {
        crate::statement::refuse_on_a_standby();
        locks::exclude_other_migrations(client)?;
        let entries = ledger::read(client)?;
        let mut going: Vec<&'static Migration> = Vec::new();
        for entry in entries.iter().rev().filter(|entry| entry.version > target) {
            going.push(catalogue::find(entry.version).ok_or_else(|| {
                CodexError::wrong_state(format!(
                    "this library does not know migration {:03} {} and cannot take it back",
                    entry.version, entry.name
                ))
                .with_hint(format!(
                    "Install raptorflow_codex {}.",
                    entry.extension_version
                ))
            })?);
        }
        if going.is_empty() {
            notice!(
                "codex.rollback(): nothing to do, this database is at version {}",
                ledger::version(&entries)
            );
            return Ok(Vec::new());
        }
        let tables = tables_of(client, &going)?;
        locks::take(
            client,
            &lock_set(client, &tables)?,
            Mode::BlockAll,
            "codex.rollback()",
        )?;
        let mut losses = Vec::new();
        for table in &tables {
            let rows: i64 = value(
                client,
                &format!("SELECT pg_catalog.count(*) FROM {table}"),
                &[],
            )?
            .unwrap_or(0);
            if rows > 0 && table != "codex.migrations" && table != "codex.roles" {
                losses.push((table.clone(), rows));
            }
        }
        if !losses.is_empty() && !allow_data_loss {
            let total: i64 = losses.iter().map(|(_, rows)| rows).sum();
            return Err(CodexError::wrong_state(format!(
                "rolling back to {target} would lose {total} row(s) of {} table(s)",
                losses.len()
            ))
            .with_detail(
                losses
                    .iter()
                    .map(|(table, rows)| format!("{table}: {rows} row(s)"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            )
            .with_hint(format!(
                "Nothing was changed. Save the rows first, or SELECT * FROM codex.rollback({target}, allow_data_loss => true)."
            )));
        }
        let mut lines = Vec::new();
        for migration in going {
            lines.push(take_back(client, migration, &losses)?);
        }
        notice!(
            "codex.rollback(): this database is at version {}",
            ledger::version(&ledger::read(client)?)
        );
        Ok(lines)
    })
}

fn take_back(
    client: &mut SpiClient<'_>,
    migration: &Migration,
    losses: &[(String, i64)],
) -> Outcome<Line> {
    let detail = match &migration.body {
        Body::Foundation => {
            let made = foundation::made_here(client)?;
            let text = foundation_down_text(client)?;
            database::run(client, &text)?;
            let mut words = vec!["dropped codex.roles and the ledger codex.migrations".to_string()];
            if !made.is_empty() {
                words.push(lost(&made, losses));
            }
            words.join("; ")
        }
        Body::MendLegacy => "what it filled in stays".to_string(),
        Body::ArchiveUnused => {
            let plan = legacy::plan_unarchive(client)?;
            if !plan.obstacles.is_empty() {
                return Err(legacy::cannot(&plan, &migration.label()));
            }
            for statement in &plan.statements {
                database::run(client, statement)?;
            }
            if plan.words.is_empty() {
                "no table had been archived".to_string()
            } else {
                plan.words.join("; ")
            }
        }
        Body::Text { down, .. } => {
            database::run(client, down)?;
            lost(
                &migration
                    .tables
                    .iter()
                    .rev()
                    .map(|table| (*table).to_string())
                    .collect::<Vec<_>>(),
                losses,
            )
        }
    };
    if !matches!(migration.body, Body::Foundation) {
        ledger::forget(client, migration.version)?;
    }
    notice!(
        "codex.rollback(): {} taken back: {detail}",
        migration.label()
    );
    Ok((
        migration.version,
        migration.name.to_string(),
        "taken back",
        detail,
    ))
}

/// What dropping these tables lost, in words.
fn lost(tables: &[String], losses: &[(String, i64)]) -> String {
    let with_rows: Vec<String> = tables
        .iter()
        .filter_map(|table| losses.iter().find(|(name, _)| name == table))
        .map(|(table, rows)| format!("{table} with {rows} row(s)"))
        .collect();
    let lost = if with_rows.is_empty() {
        "no row was lost".to_string()
    } else {
        format!("lost: {}", with_rows.join(", "))
    };
    format!("dropped {}; {lost}", tables.join(", "))
}

/// The statements that take the foundation back: what `migrate()` made here goes, what was there stays.
pub fn foundation_down_text(client: &SpiClient<'_>) -> Outcome<String> {
    let mut text = String::new();
    for table in foundation::made_here(client)? {
        text.push_str(&format!("DROP TABLE {table};\n"));
    }
    text.push_str("DROP TABLE codex.roles;\nDROP TABLE codex.migrations;\n");
    Ok(text)
}

/// The tables that go, those that refer to others first.
fn tables_of(client: &SpiClient<'_>, going: &[&Migration]) -> Outcome<Vec<String>> {
    let mut tables = Vec::new();
    for migration in going {
        for table in migration.tables.iter().rev() {
            if table_exists(client, table)? {
                tables.push((*table).to_string());
            }
        }
        if matches!(migration.body, Body::Foundation) {
            tables.extend(foundation::made_here(client)?);
        }
    }
    Ok(tables)
}

/// What has to be locked before these tables can be dropped: they, and the tables they refer to.
fn lock_set(client: &SpiClient<'_>, tables: &[String]) -> Outcome<Vec<pg_sys::Oid>> {
    let mut oids = Vec::new();
    for table in tables {
        if let Some(oid) = oid_of(client, table)? {
            oids.push(oid);
            oids.extend(database::query(
                client,
                "SELECT DISTINCT k.confrelid
                   FROM pg_catalog.pg_constraint AS k
                  WHERE k.conrelid = $1
                    AND k.contype = 'f'",
                &[oid.into()],
                |row| Ok(row.get::<pg_sys::Oid>(1)?.unwrap_or(pg_sys::Oid::INVALID)),
            )?);
        }
    }
    oids.sort_unstable_by_key(|oid| oid.to_u32());
    oids.dedup();
    Ok(oids)
}
