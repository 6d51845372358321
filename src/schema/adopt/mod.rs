//! Adopting a table that was there before the Codex.
//!
//! A table with the name of one of ours is compared with what it should be, by shape: it is given what it lacks
//! (columns, keys, checks, indexes, triggers, protection) and keeps every row, every other column, and the way in
//! which the application writes to it. What cannot be had without touching rows is listed, and nothing is changed.
//!
//! | the table has | what happens |
//! |---|---|
//! | a column too many | it stays |
//! | a column too few | it is added; where it may not be NULL it is filled: the workspace from the row's parent, a text from the legacy column that meant the same ([`plan::SOURCES`]); a trigger does so for rows that the old application inserts |
//! | a column of a type that reads the same (`varchar` for `text`, `timestamp` for `timestamptz`, `numeric(p,s)`) | it stays |
//! | a narrower number (`integer` for `bigint`) | it is widened |
//! | NOT NULL where a referenced row may be deleted | becomes nullable; otherwise stays |
//! | NULL allowed where ours is NOT NULL | stays, except for the columns of keys, which are refused where they are NULL |
//! | another default | stays, except that of `id` |
//! | a CHECK of our name that says something else | becomes "ours or theirs" |
//! | a foreign key of our name to one column | becomes the composite one |
//! | rows that break a check, a key or a reference | refused, with how many |
//! | one of our indexes' names on other columns | theirs is renamed |
//! | more than [`plan::LARGE`] rows | refused until the indexes were built CONCURRENTLY; constraints are added NOT VALID, and validated by the next `codex.migrate()`, which holds nobody up |
//!
//! A column of a table of more than [`plan::MANY_TO_FILL`] rows is filled in beforehand: the table is given the column, then the trigger, so that no row
//! lacks it from then on, then the older rows are filled in in batches, and a validated CHECK proves it.
//!
//! What a table keeps in its own way is written to `codex.adopted`, and is from then on what `codex.verify()` expects.
//!
//! `plan` says what adopting a table takes, `complete` is the trigger for rows of the old application.

mod complete;
mod plan;

use super::catalogue::{self, Migration};
use super::database::{self, query, table_exists};
use super::foundation::Foundation;
use super::ledger;
use super::repair;
use super::shape::{self, Definition};
use crate::error::Outcome;
use pgrx::spi::SpiClient;
use plan::plan;
pub use plan::{
    Filling, Look, Plan, complete_rows, completing_trigger, is_filled_first, is_large, is_proven,
    set_not_null,
};

/// What keeps the existing tables of a migration from being adopted, a line each.
pub fn obstacles(
    client: &SpiClient<'_>,
    foundation: &Foundation,
    migration: &Migration,
) -> Outcome<Vec<String>> {
    let mut obstacles = Vec::new();
    for table in migration.tables {
        match database::kind_of(client, table)? {
            None => {}
            Some(database::Kind::Other(kind)) => obstacles.push(format!(
                "{table} (migration {}) exists already as {kind}: rename it, or move it with SET SCHEMA",
                migration.label()
            )),
            Some(database::Kind::Table) => {
                obstacles.extend(plan(client, foundation, table, Look::AtRows)?.obstacles);
            }
        }
    }
    Ok(obstacles)
}

/// Whether any table of the migration is there already.
pub fn is_needed(client: &SpiClient<'_>, migration: &Migration) -> Outcome<bool> {
    for table in migration.tables {
        if table_exists(client, table)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Applies a migration of whose tables some are there: those are adopted, the others are made. Gives what was done,
/// in words. With `dry_run` nothing is changed.
pub fn apply(
    client: &mut SpiClient<'_>,
    foundation: &Foundation,
    migration: &Migration,
    up: &str,
    dry_run: bool,
) -> Outcome<String> {
    let statements = repair::statements(up);
    let mut words = Vec::new();
    for table in migration.tables {
        let own = statements
            .iter()
            .filter(|statement| is_about(statement, table));
        if !table_exists(client, table)? {
            if !dry_run {
                for statement in own {
                    database::run(client, &foundation.fill_in(statement))?;
                }
            }
            words.push(format!("makes {table}"));
            continue;
        }
        let original: Vec<Definition> = shape::of_table(client, table)?
            .into_iter()
            .filter(|definition| {
                definition.kind == "table" || definition.kind == "column" && definition.name == "id"
            })
            .collect();
        let plan = plan(client, foundation, table, Look::AtDefinitions)?;
        words.push(if plan.words.is_empty() {
            format!("adopts {table} as it is")
        } else {
            format!("adopts {table}: {}", plan.words.join(", "))
        });
        if dry_run {
            continue;
        }
        for statement in &plan.statements {
            database::run(client, statement)?;
        }
        for statement in own {
            let first: Vec<&str> = statement.split_whitespace().take(3).collect();
            match first.as_slice() {
                ["COMMENT", ..] | ["SELECT", ..] => database::run(client, statement)?,
                ["CREATE", "TRIGGER", name] => {
                    database::run(
                        client,
                        &format!("DROP TRIGGER IF EXISTS {name} ON {table}; {statement}"),
                    )?;
                }
                _ => {}
            }
        }
        keep_in_mind(client, table, original)?;
    }
    Ok(words.join("; "))
}

/// Whether a statement of a migration's text makes or changes this table.
fn is_about(statement: &str, table: &str) -> bool {
    let words: Vec<&str> = statement
        .split(|c: char| c.is_whitespace() || c == '(' || c == '\'')
        .filter(|word| !word.is_empty())
        .take(12)
        .collect();
    match words.as_slice() {
        ["CREATE", "TABLE", name, ..]
        | ["SELECT", _, name, ..]
        | ["COMMENT", "ON", "TABLE", name, ..] => *name == table,
        ["COMMENT", "ON", "COLUMN", name, ..] => name
            .rsplit_once('.')
            .is_some_and(|(relation, _)| relation == table),
        ["CREATE", ..] => {
            let on = words.iter().position(|word| *word == "ON");
            on.and_then(|position| words.get(position + 1))
                .is_some_and(|name| *name == table)
        }
        _ => false,
    }
}

/// Writes what the table keeps in its own way, and that it was there before.
fn keep_in_mind(client: &mut SpiClient<'_>, table: &str, original: Vec<Definition>) -> Outcome<()> {
    let here = shape::of_table(client, table)?;
    // The table itself has no name of its own.
    let mut kept: Vec<(String, String, String)> = original
        .into_iter()
        .map(|definition| ("origin".to_string(), definition.name, definition.text))
        .collect();
    for expected in shape::EXPECTED_TABLES
        .iter()
        .filter(|expected| expected.relation == table)
    {
        let actual = here.iter().find(|definition| {
            definition.relation == expected.relation
                && definition.kind == expected.kind
                && definition.name == expected.name
        });
        if let Some(actual) = actual
            && actual.text != expected.text
            && actual.text != format!("{} NOT VALID", expected.text)
        {
            let text = actual
                .text
                .strip_suffix(" NOT VALID")
                .unwrap_or(&actual.text);
            kept.push((actual.kind.clone(), actual.name.clone(), text.to_string()));
        }
    }
    let trigger = completing_trigger(table);
    let completing = here
        .into_iter()
        .find(|definition| definition.kind == "trigger" && definition.name == trigger);
    kept.extend(completing.map(|trigger| (trigger.kind, trigger.name, trigger.text)));
    remember(client, table, kept)
}

/// Keeps in mind the trigger that completes rows of a table that 011 mended.
pub fn keep_trigger_in_mind(client: &mut SpiClient<'_>, table: &str) -> Outcome<()> {
    let trigger = completing_trigger(table);
    let here = shape::of_table(client, table)?
        .into_iter()
        .find(|definition| definition.kind == "trigger" && definition.name == trigger);
    let kept = here.map(|here| (here.kind, here.name, here.text));
    remember(client, table, kept.into_iter().collect())
}

fn remember(
    client: &mut SpiClient<'_>,
    table: &str,
    kept: Vec<(String, String, String)>,
) -> Outcome<()> {
    for (kind, name, definition) in kept {
        client.update(
            "INSERT INTO codex.adopted (relation, kind, name, definition)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (relation, kind, name) DO UPDATE
                SET definition = excluded.definition
              WHERE adopted.kind <> 'origin'",
            None,
            &[table.into(), kind.into(), name.into(), definition.into()],
        )?;
    }
    Ok(())
}

/// The statements that let an application which does not know a table's new columns get along without the extension: the
/// default of `id` is its own again, and the columns that a trigger completes may be NULL. The trigger stays for as long
/// as the extension does.
pub fn let_go(client: &SpiClient<'_>, table: &str) -> Outcome<Vec<String>> {
    let here = shape::of_table(client, table)?;
    let mut statements: Vec<String> = Vec::new();
    let ours = here.iter().any(|definition| {
        definition.kind == "column"
            && definition.name == "id"
            && definition.text.ends_with(" DEFAULT codex.uuid_v7()")
    });
    if ours {
        let before: Option<String> = database::value(
            client,
            "SELECT a.definition
               FROM codex.adopted AS a
              WHERE a.relation = $1
                AND a.kind = 'origin'
                AND a.name = 'id'",
            &[table.into()],
        )?;
        let before = match &before {
            Some(text) => text.split_once(" DEFAULT ").map(|(_, default)| default),
            // Adopted by a version that did not write it down.
            None => Some("pg_catalog.gen_random_uuid()"),
        };
        statements.push(match before {
            Some(default) => format!("ALTER TABLE {table} ALTER COLUMN id SET DEFAULT {default}"),
            None => format!("ALTER TABLE {table} ALTER COLUMN id DROP DEFAULT"),
        });
    }
    let name = completing_trigger(table);
    let Some(trigger) = here
        .iter()
        .find(|definition| definition.kind == "trigger" && definition.name == name)
    else {
        return Ok(statements);
    };
    // Its arguments come in threes, the completed column first; names of columns, none with a quote.
    let arguments: Vec<&str> = trigger.text.split('\'').skip(1).step_by(2).collect();
    let completed: Vec<&str> = arguments
        .chunks(3)
        .filter_map(|three| three.first().copied())
        .collect();
    let open_again = here
        .iter()
        .filter(|definition| {
            definition.kind == "column"
                && completed.contains(&definition.name.as_str())
                && definition.text.contains(" NOT NULL")
        })
        .map(|definition| {
            format!(
                "ALTER TABLE {table} ALTER COLUMN {} DROP NOT NULL",
                definition.name
            )
        });
    statements.extend(open_again);
    Ok(statements)
}

/// The triggers that complete rows of tables which were there before: those that were written down.
pub fn completing_triggers(client: &SpiClient<'_>) -> Outcome<Vec<Definition>> {
    let readable = match database::oid_of(client, "codex.adopted")? {
        Some(oid) => database::has_table_privilege(client, oid, "SELECT")?,
        None => false,
    };
    if !readable {
        return Ok(Vec::new());
    }
    query(
        client,
        "SELECT a.relation, a.kind, a.name, a.definition
           FROM codex.adopted AS a
          WHERE a.kind = 'trigger'
            AND a.name LIKE '%\\_adopted'
            AND pg_catalog.to_regclass(a.relation) IS NOT NULL
          ORDER BY a.relation",
        &[],
        |row| {
            Ok(Definition {
                relation: row.get(1)?.unwrap_or_default(),
                kind: row.get(2)?.unwrap_or_default(),
                name: row.get(3)?.unwrap_or_default(),
                text: row.get(4)?.unwrap_or_default(),
            })
        },
    )
}

/// The tables of the Codex that were there before it, with how they were then.
pub fn adopted_tables(client: &SpiClient<'_>) -> Outcome<Vec<(String, String)>> {
    if !table_exists(client, "codex.adopted")? {
        return Ok(Vec::new());
    }
    query(
        client,
        "SELECT a.relation, a.definition
           FROM codex.adopted AS a
          WHERE a.kind = 'origin'
            AND a.name = ''
          ORDER BY a.relation",
        &[],
        |row| {
            Ok((
                row.get(1)?.unwrap_or_default(),
                row.get(2)?.unwrap_or_default(),
            ))
        },
    )
}

/// What this database is expected to have: the shape of a fresh one at its version, with what adopted tables keep in
/// their own way. The product's own migrations are expected everywhere.
pub fn expected_tables(client: &SpiClient<'_>) -> Outcome<Vec<Definition>> {
    let expected_version = ledger::expected_version(client)?;
    let mut expected: Vec<Definition> = shape::EXPECTED_TABLES
        .iter()
        .filter(|definition| {
            catalogue::version_of(definition).is_none_or(|version| version <= expected_version)
        })
        .cloned()
        .collect();
    for (migration, definition) in catalogue::dropped_after(expected_version) {
        // Where the file was run by hand the ledger does not know of it; its tables tell.
        let mut run = false;
        for table in migration.tables {
            run = run || database::oid_of(client, table)?.is_some();
        }
        if !run {
            expected.push(definition);
        }
    }
    let readable = match database::oid_of(client, "codex.adopted")? {
        Some(oid) => database::has_table_privilege(client, oid, "SELECT")?,
        None => false,
    };
    if !readable {
        return Ok(expected);
    }
    let kept = query(
        client,
        "SELECT a.relation, a.kind, a.name, a.definition
           FROM codex.adopted AS a
          WHERE a.kind <> 'origin'",
        &[],
        |row| {
            Ok(Definition {
                relation: row.get(1)?.unwrap_or_default(),
                kind: row.get(2)?.unwrap_or_default(),
                name: row.get(3)?.unwrap_or_default(),
                text: row.get(4)?.unwrap_or_default(),
            })
        },
    )?;
    for kept in kept {
        if let Some(definition) = expected.iter_mut().find(|definition| {
            definition.relation == kept.relation
                && definition.kind == kept.kind
                && definition.name == kept.name
        }) {
            definition.text = kept.text;
        }
    }
    expected.extend(completing_triggers(client)?);
    Ok(expected)
}

/// Validates the constraints that were added NOT VALID to large tables; reads them without holding anybody up.
pub fn validate(client: &mut SpiClient<'_>, dry_run: bool) -> Outcome<Vec<(String, String)>> {
    let waiting = query(
        client,
        "SELECT n.nspname || '.' || c.relname, k.conname::text
           FROM pg_catalog.pg_constraint AS k
           JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE NOT k.convalidated
            AND k.contype IN ('c', 'f')
            AND n.nspname IN ('public', 'codex')
          ORDER BY 1, 2",
        &[],
        |row| {
            Ok((
                row.get::<String>(1)?.unwrap_or_default(),
                row.get::<String>(2)?.unwrap_or_default(),
            ))
        },
    )?;
    let mut validated = Vec::new();
    for (relation, name) in waiting {
        let ours = shape::EXPECTED_TABLES.iter().any(|definition| {
            definition.kind == "constraint"
                && definition.relation == relation
                && definition.name == name
        });
        if ours {
            if !dry_run {
                database::run(
                    client,
                    &format!("ALTER TABLE {relation} VALIDATE CONSTRAINT {name}"),
                )?;
            }
            validated.push((relation, name));
        }
    }
    Ok(validated)
}
