//! `codex.rollback()`: taking migrations back, newest first.

use super::adopt;
use super::catalogue::{self, Body, Migration};
use super::database::{self, oid_of, table_exists, value};
use super::foundation;
use super::ledger;
use super::legacy;
use super::locks::{self, Mode};
use super::migrate::{Line, refuse_bad_moment};
use super::release;
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
        release::refuse_outdated_library(client)?;
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
        let adopted = adopt::adopted_tables(client)?;
        let tables = tables_of(client, &going, &adopted)?;
        // Tables that stay are given back as they were, which takes the same locks: asked for in the middle, they
        // would end in a deadlock with an application that holds them and waits for what is locked already.
        let staying = going
            .iter()
            .flat_map(|migration| migration.tables)
            .filter(|table| adopted.iter().any(|(adopted, _)| adopted == *table))
            .map(|table| (*table).to_string());
        let older = going
            .iter()
            .flat_map(|migration| legacy::tables_of(&migration.body));
        // So does what a migration had added to tables of older ones.
        let lightened = going
            .iter()
            .flat_map(|migration| migration.tables_added_to())
            .map(str::to_string);
        let concerned: Vec<String> = tables
            .iter()
            .cloned()
            .chain(staying)
            .chain(older)
            .chain(lightened)
            .collect();
        let wanted: Vec<(pg_sys::Oid, Mode)> = lock_set(client, &concerned)?
            .into_iter()
            .map(|table| (table, Mode::BlockAll))
            .collect();
        locks::take(client, &wanted, "codex.rollback()")?;
        let mut losses = Vec::new();
        for table in &tables {
            let rows: i64 = value(
                client,
                &format!("SELECT pg_catalog.count(*) FROM {table}"),
                &[],
            )?
            .unwrap_or(0);
            if rows > 0 && !BOOKKEEPING.contains(&table.as_str()) {
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
            lines.push(take_back(client, migration, &losses, &adopted)?);
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
    adopted: &[(String, String)],
) -> Outcome<Line> {
    let detail = match &migration.body {
        Body::Foundation => {
            let made = foundation::made_here(client)?;
            let text = foundation_down_text(client)?;
            database::run(client, &text)?;
            let mut words = vec![
                "dropped the ledger and the other bookkeeping tables of schema codex".to_string(),
            ];
            if !made.is_empty() {
                words.push(lost(&made, losses));
            }
            words.join("; ")
        }
        Body::MendLegacy => {
            let plan = legacy::plan_unmend(client)?;
            for statement in &plan.statements {
                database::run(client, statement)?;
            }
            for table in legacy::MENDED_TABLES {
                forget_adoption(client, table)?;
            }
            plan.words.join("; ")
        }
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
            let (stay, go): (Vec<String>, Vec<String>) = migration
                .tables
                .iter()
                .rev()
                .map(|table| (*table).to_string())
                .partition(|table| adopted.iter().any(|(adopted, _)| adopted == table));
            if stay.is_empty() {
                database::run(client, down)?;
            } else {
                for table in &go {
                    drop_keys_of_adopted(client, table, adopted)?;
                    database::run(client, &format!("DROP TABLE {table}"))?;
                }
                for table in &stay {
                    give_back(client, table, adopted)?;
                }
            }
            let mut words = Vec::new();
            if !go.is_empty() {
                words.push(lost(&go, losses));
            }
            if !stay.is_empty() {
                words.push(format!(
                    "{} was there before the Codex and stays, with every row and what it was given",
                    stay.join(", ")
                ));
            }
            words.join("; ")
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

/// The engine's own tables; the ledger goes last.
const BOOKKEEPING: &[&str] = &["codex.adopted", "codex.roles", "codex.migrations"];

/// Drops the foreign keys by which adopted tables, which stay, refer to one that goes.
fn drop_keys_of_adopted(
    client: &mut SpiClient<'_>,
    table: &str,
    adopted: &[(String, String)],
) -> Outcome<()> {
    let Some(oid) = oid_of(client, table)? else {
        return Ok(());
    };
    let keys = database::query(
        client,
        "SELECT n.nspname || '.' || c.relname, pg_catalog.quote_ident(k.conname)
           FROM pg_catalog.pg_constraint AS k
           JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE k.confrelid = $1
            AND k.contype = 'f'
          ORDER BY 1, 2",
        &[oid.into()],
        |row| {
            Ok((
                row.get::<String>(1)?.unwrap_or_default(),
                row.get::<String>(2)?.unwrap_or_default(),
            ))
        },
    )?;
    for (referring, key) in keys {
        if adopted.iter().any(|(adopted, _)| *adopted == referring) {
            database::run(
                client,
                &format!("ALTER TABLE {referring} DROP CONSTRAINT {key}"),
            )?;
        }
    }
    Ok(())
}

/// Leaves an adopted table to the app again: where it had no row security before, it has none after.
fn give_back(client: &mut SpiClient<'_>, table: &str, adopted: &[(String, String)]) -> Outcome<()> {
    let was_open = adopted
        .iter()
        .any(|(name, origin)| name == table && origin.ends_with("row security off"));
    if was_open {
        let (_, short) = database::split(table);
        database::run(
            client,
            &format!(
                "DROP POLICY IF EXISTS {short}_workspace_isolation ON {table};
                 DROP POLICY IF EXISTS {short}_own_access ON {table};
                 DROP POLICY IF EXISTS {short}_shared_read ON {table};
                 ALTER TABLE {table} DISABLE ROW LEVEL SECURITY;"
            ),
        )?;
    }
    for statement in adopt::let_go(client, table)? {
        database::run(client, &statement)?;
    }
    forget_adoption(client, table)
}

fn forget_adoption(client: &mut SpiClient<'_>, table: &str) -> Outcome<()> {
    client.update(
        "DELETE FROM codex.adopted AS a WHERE a.relation = $1",
        None,
        &[table.into()],
    )?;
    Ok(())
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
    for table in BOOKKEEPING {
        text.push_str(&format!("DROP TABLE {table};\n"));
    }
    Ok(text)
}

/// The tables that go, those that refer to others first.
fn tables_of(
    client: &SpiClient<'_>,
    going: &[&Migration],
    adopted: &[(String, String)],
) -> Outcome<Vec<String>> {
    let mut tables = Vec::new();
    for migration in going {
        for table in migration.tables.iter().rev() {
            let stays = adopted.iter().any(|(adopted, _)| adopted == table);
            if !stays && table_exists(client, table)? {
                tables.push((*table).to_string());
            }
        }
        if matches!(migration.body, Body::Foundation) {
            tables.extend(foundation::made_here(client)?);
        }
    }
    Ok(tables)
}

/// What has to be locked before these tables can be dropped or given back: they, and the tables they refer to.
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
