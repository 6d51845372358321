//! Bringing back what a schema lost together with the extension.
//!
//! `DROP EXTENSION … CASCADE` leaves every row, but takes the triggers, policies and defaults that call the
//! extension's functions. Those are read from the migration's own text and made again; everything else that
//! differs is left alone and told by `codex.verify()`.

use super::adopt;
use super::catalogue::{self, Body};
use super::database::{self, table_exists, value};
use super::foundation::{self, Foundation};
use super::ledger::Entry;
use super::legacy;
use super::shape;
use crate::error::Outcome;
use pgrx::spi::SpiClient;
use std::collections::BTreeSet;

/// Makes again what is missing of the applied migrations; gives, per version, what was (or would be) made.
pub fn repair(
    client: &mut SpiClient<'_>,
    entries: &[Entry],
    foundation: &Foundation,
    dry_run: bool,
) -> Outcome<Vec<(i32, String)>> {
    let mut done = completing_triggers(client, entries, dry_run)?;
    let unprotected = tables_to_protect(client)?;
    for entry in entries {
        let Some(migration) = catalogue::find(entry.version) else {
            continue;
        };
        let texts: Vec<&str> = match &migration.body {
            Body::Foundation => {
                let made = foundation::made_here(client)?;
                foundation::PIECES
                    .iter()
                    .filter(|piece| {
                        piece.table == "codex.migrations"
                            || made.iter().any(|table| table == piece.table)
                    })
                    .map(|piece| piece.sql)
                    .collect()
            }
            Body::Text { up, .. } => vec![up],
            Body::MendLegacy | Body::ArchiveUnused => continue,
        };
        let mut made = Vec::new();
        for text in texts {
            for statement in statements(text) {
                if let Some((what, sql)) = missing(client, &statement, &unprotected)? {
                    if !dry_run {
                        database::run(client, &foundation.fill_in(&sql))?;
                    }
                    made.push(what);
                }
            }
        }
        if !made.is_empty() {
            done.push((entry.version, format!("made again: {}", made.join(", "))));
        }
    }
    Ok(done)
}

/// The triggers that complete what an older application inserts stand in no migration's text: they were written down
/// when the tables were adopted.
fn completing_triggers(
    client: &mut SpiClient<'_>,
    entries: &[Entry],
    dry_run: bool,
) -> Outcome<Vec<(i32, String)>> {
    let mut done = Vec::new();
    for trigger in adopt::completing_triggers(client)? {
        let version =
            catalogue::version_of_table(&trigger.relation).unwrap_or(legacy::VERSION_OF_MENDING);
        let applied = entries.iter().any(|entry| entry.version == version);
        let there = exists_on(
            client,
            &trigger.relation,
            "SELECT EXISTS (
                 SELECT
                   FROM pg_catalog.pg_trigger AS t
                  WHERE t.tgrelid = $1
                    AND t.tgname = $2::text)",
            &trigger.name,
        )?;
        if !applied || there {
            continue;
        }
        if !dry_run {
            database::run(client, &trigger.text)?;
        }
        done.push((version, format!("made again: trigger {}", trigger.name)));
    }
    Ok(done)
}

/// The statements of a migration's text, without comments.
pub fn statements(text: &str) -> Vec<String> {
    let without_comments: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .map(|line| format!("{line}\n"))
        .collect();
    without_comments
        .split(";\n")
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
        .map(str::to_string)
        .collect()
}

/// What a statement would have made, if that is missing here, and the text that makes it.
fn missing(
    client: &SpiClient<'_>,
    statement: &str,
    unprotected: &BTreeSet<String>,
) -> Outcome<Option<(String, String)>> {
    let words: Vec<&str> = statement.split_whitespace().collect();
    let on = |words: &[&str]| -> Option<String> {
        let position = words.iter().position(|word| *word == "ON")?;
        words
            .get(position + 1)
            .map(|table| table.trim_end_matches(';').to_string())
    };
    match words.as_slice() {
        ["CREATE", "TRIGGER", name, ..] => {
            let Some(table) = on(&words) else {
                return Ok(None);
            };
            let there = exists_on(
                client,
                &table,
                "SELECT EXISTS (
                     SELECT
                       FROM pg_catalog.pg_trigger AS t
                      WHERE t.tgrelid = $1
                        AND t.tgname = $2::text)",
                name,
            )?;
            Ok((!there).then(|| (format!("trigger {name}"), statement.to_string())))
        }
        ["CREATE", "POLICY", name, ..] => {
            let Some(table) = on(&words) else {
                return Ok(None);
            };
            let there = exists_on(
                client,
                &table,
                "SELECT EXISTS (
                     SELECT
                       FROM pg_catalog.pg_policy AS p
                      WHERE p.polrelid = $1
                        AND p.polname = $2::text)",
                name,
            )?;
            Ok((!there).then(|| (format!("policy {name}"), statement.to_string())))
        }
        ["SELECT", call, ..] if call.starts_with("codex.protect") => {
            let Some(table) = statement.split('\'').nth(1) else {
                return Ok(None);
            };
            if !table_exists(client, table)? {
                return Ok(None);
            }
            let needed = unprotected.contains(table) || !has_policies(client, table)?;
            Ok(needed.then(|| (format!("protection of {table}"), statement.to_string())))
        }
        ["CREATE", "TABLE", table, ..] if statement.contains("DEFAULT codex.uuid_v7()") => {
            let Some(oid) = database::oid_of(client, table)? else {
                return Ok(None);
            };
            let there: Option<bool> = value(
                client,
                "SELECT a.atthasdef
                   FROM pg_catalog.pg_attribute AS a
                  WHERE a.attrelid = $1
                    AND a.attname = 'id'
                    AND NOT a.attisdropped",
                &[oid.into()],
            )?;
            Ok((there == Some(false)).then(|| {
                (
                    format!("default of {table}.id"),
                    format!("ALTER TABLE {table}\n    ALTER COLUMN id SET DEFAULT codex.uuid_v7()"),
                )
            }))
        }
        _ => Ok(None),
    }
}

/// Whether the table has something of that name; a table that is gone counts as having it: nothing to repair.
fn exists_on(client: &SpiClient<'_>, table: &str, sql: &str, name: &str) -> Outcome<bool> {
    match database::oid_of(client, table)? {
        Some(oid) => Ok(value(client, sql, &[oid.into(), name.into()])?.unwrap_or(true)),
        None => Ok(true),
    }
}

fn has_policies(client: &SpiClient<'_>, table: &str) -> Outcome<bool> {
    match database::oid_of(client, table)? {
        Some(oid) => Ok(value(
            client,
            "SELECT c.relrowsecurity
                AND EXISTS (SELECT FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid)
               FROM pg_catalog.pg_class AS c
              WHERE c.oid = $1",
            &[oid.into()],
        )?
        .unwrap_or(false)),
        None => Ok(true),
    }
}

/// The Codex's tables of which a policy is missing or differs, or whose row security is off.
fn tables_to_protect(client: &SpiClient<'_>) -> Outcome<BTreeSet<String>> {
    let here = shape::of_tables(client)?;
    Ok(adopt::expected_tables(client)?
        .iter()
        .filter(|expected| matches!(expected.kind.as_str(), "policy" | "table"))
        .filter(|expected| !here.contains(expected))
        .map(|expected| expected.relation.clone())
        .collect())
}
