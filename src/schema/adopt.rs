//! Adopting a table that was there before the Codex.
//!
//! A table with the name of one of ours is compared with what it should be, by shape: it is given what it lacks
//! (columns, keys, checks, indexes, triggers, protection) and keeps every row, every other column, and the way in
//! which the application writes to it. What cannot be had without touching rows is listed, and nothing is changed.
//!
//! | the table has | what happens |
//! |---|---|
//! | a column too many | it stays |
//! | a column too few | it is added; where it may not be NULL it is filled: the workspace from the row's parent, a text from the legacy column that meant the same ([`SOURCES`]); a trigger does so for rows that the old application inserts |
//! | a column of a type that reads the same (`varchar` for `text`, `timestamp` for `timestamptz`, `numeric(p,s)`) | it stays |
//! | a narrower number (`integer` for `bigint`) | it is widened |
//! | NOT NULL where a referenced row may be deleted | becomes nullable; otherwise stays |
//! | NULL allowed where ours is NOT NULL | stays, except for the columns of keys, which are refused where they are NULL |
//! | another default | stays, except that of `id` |
//! | a CHECK of our name that says something else | becomes "ours or theirs" |
//! | a foreign key of our name to one column | becomes the composite one |
//! | rows that break a check, a key or a reference | refused, with how many |
//! | one of our indexes' names on other columns | theirs is renamed |
//! | more than [`LARGE`] rows | refused until the indexes were built CONCURRENTLY; constraints are added NOT VALID, and validated by the next `codex.migrate()`, which holds nobody up |
//!
//! What a table keeps in its own way is written to `codex.adopted`, and is from then on what `codex.verify()` expects.

use super::catalogue::Migration;
use super::database::{self, query, table_exists, value};
use super::foundation::Foundation;
use super::repair;
use super::shape::{self, Definition};
use crate::error::{CodexError, Outcome};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

/// Above this many rows (as the planner estimates them) nothing is done that reads the whole table under a lock.
const LARGE: f32 = 100_000.0;

/// Where an older table had the value of a new column that may not be NULL: table, column, the older column,
/// and what is written where that is empty.
const SOURCES: &[(&str, &str, &str, &str)] = &[
    (
        "public.positioning",
        "name",
        "who_statement",
        "Untitled positioning",
    ),
    (
        "public.positioning",
        "market_segment",
        "category_frame",
        "unspecified",
    ),
    (
        "public.message_architecture",
        "name",
        "tagline",
        "Untitled message architecture",
    ),
    (
        "public.message_architecture",
        "primary_message",
        "primary_claim",
        "unspecified",
    ),
];

/// What adopting one table takes.
#[derive(Default)]
struct Plan {
    statements: Vec<String>,
    words: Vec<String>,
    obstacles: Vec<String>,
}

/// How the type of a column that is there fits the one that it should have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Same,
    /// Another type whose values read the same.
    Reads,
    /// A narrower one.
    Widen,
    No,
}

impl Fit {
    fn of(wanted: &str, here: &str) -> Self {
        match (wanted, here) {
            (wanted, here) if wanted == here => Self::Same,
            ("text", kind) if kind.starts_with("character") && !kind.ends_with("[]") => Self::Reads,
            ("text[]", kind) if kind.starts_with("character") && kind.ends_with("[]") => {
                Self::Reads
            }
            ("numeric", kind) if kind.starts_with("numeric(") => Self::Reads,
            ("timestamp with time zone", "timestamp without time zone") => Self::Reads,
            ("bigint", "integer" | "smallint")
            | ("integer", "smallint")
            | ("numeric", "integer" | "bigint" | "smallint") => Self::Widen,
            _ => Self::No,
        }
    }
}

/// A definition without the casts and parentheses that Postgres prints for a `varchar` where ours is a `text`.
fn bare(text: &str) -> String {
    text.replace("::text[]", "")
        .replace("::text", "")
        .replace("::character varying", "")
        .replace(['(', ')', ' '], "")
}

/// The table at hand.
struct Table<'a> {
    name: &'a str,
    large: bool,
    columns: Vec<Column>,
    here: Vec<Definition>,
}

struct Column {
    name: String,
    kind: String,
    not_null: bool,
    default: Option<String>,
}

impl Column {
    fn of(definition: &Definition) -> Self {
        let (head, default) = match definition.text.split_once(" DEFAULT ") {
            Some((head, default)) => (head, Some(default.to_string())),
            None => (definition.text.as_str(), None),
        };
        let (kind, not_null) = match head.strip_suffix(" NOT NULL") {
            Some(kind) => (kind, true),
            None => (head, false),
        };
        Self {
            name: definition.name.clone(),
            kind: kind.to_string(),
            not_null,
            default,
        }
    }
}

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
                obstacles.extend(plan(client, foundation, table)?.obstacles);
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
        let original = shape::of_tables(client)?
            .into_iter()
            .find(|definition| definition.relation == *table && definition.kind == "table");
        let plan = plan(client, foundation, table)?;
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
fn keep_in_mind(
    client: &mut SpiClient<'_>,
    table: &str,
    original: Option<Definition>,
) -> Outcome<()> {
    let here = shape::of_tables(client)?;
    let mut kept: Vec<(String, String, String)> = vec![(
        "origin".to_string(),
        String::new(),
        original.map_or_else(|| "table".to_string(), |definition| definition.text),
    )];
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

/// What adopting this table takes here.
fn plan(client: &SpiClient<'_>, foundation: &Foundation, name: &str) -> Outcome<Plan> {
    let mut plan = Plan::default();
    let here: Vec<Definition> = shape::of_tables(client)?
        .into_iter()
        .filter(|definition| definition.relation == name)
        .collect();
    let rows: Option<f32> = value(
        client,
        "SELECT c.reltuples
           FROM pg_catalog.pg_class AS c
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = $1::text
            AND c.relname = $2::text",
        &[
            database::split(name).0.into(),
            database::split(name).1.into(),
        ],
    )?;
    let table = Table {
        name,
        large: rows.unwrap_or(0.0) > LARGE,
        columns: here
            .iter()
            .filter(|definition| definition.kind == "column")
            .map(Column::of)
            .collect(),
        here,
    };
    if let Some(oid) = database::oid_of(client, name)?
        && !database::owns(client, oid)?
    {
        plan.obstacles.push(format!(
            "{name} is there and belongs to another role: its owner has to run codex.migrate()"
        ));
        return Ok(plan);
    }
    let expected: Vec<&Definition> = shape::EXPECTED_TABLES
        .iter()
        .filter(|definition| definition.relation == name)
        .collect();
    drop_old_triggers(client, &table, &mut plan)?;
    for definition in expected
        .iter()
        .filter(|definition| definition.kind == "column")
    {
        column(client, &table, &expected, definition, &mut plan)?;
    }
    complete_new_rows(&table, &expected, &mut plan);
    let order = |definition: &&&Definition| match definition.text.split(' ').next() {
        Some("PRIMARY") => 0,
        Some("UNIQUE") => 1,
        Some("CHECK") => 2,
        _ => 3,
    };
    let mut constraints: Vec<&&Definition> = expected
        .iter()
        .filter(|definition| definition.kind == "constraint")
        .collect();
    constraints.sort_by_key(order);
    for definition in constraints {
        constraint(client, foundation, &table, definition, &mut plan)?;
    }
    for definition in expected
        .iter()
        .filter(|definition| definition.kind == "index")
    {
        index(&table, definition, &mut plan);
    }
    Ok(plan)
}

impl Table<'_> {
    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn definition(&self, kind: &str, name: &str) -> Option<&Definition> {
        self.here
            .iter()
            .find(|definition| definition.kind == kind && definition.name == name)
    }
}

/// The product's own PL/pgSQL triggers do what ours do, row by row; ours take their place.
fn drop_old_triggers(client: &SpiClient<'_>, table: &Table<'_>, plan: &mut Plan) -> Outcome<()> {
    let old = query(
        client,
        "SELECT pg_catalog.quote_ident(t.tgname)
           FROM pg_catalog.pg_trigger AS t
           JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
           JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
          WHERE NOT t.tgisinternal
            AND n.nspname = $1::text
            AND c.relname = $2::text
            AND pn.nspname = 'public'
            AND p.proname IN ('update_experience_level', 'calculate_move_success_rate', 'update_campaign_timestamp')
          ORDER BY t.tgname",
        &[database::split(table.name).0.into(), database::split(table.name).1.into()],
        |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
    )?;
    for trigger in old {
        plan.statements
            .push(format!("DROP TRIGGER {trigger} ON {}", table.name));
        plan.words.push(format!("replaces trigger {trigger}"));
    }
    Ok(())
}

/// The legacy column and the fallback that fill a new text column.
fn source(table: &str, column: &str) -> Option<(&'static str, &'static str)> {
    SOURCES
        .iter()
        .find(|(relation, name, _, _)| *relation == table && *name == column)
        .map(|(_, _, older, fallback)| (*older, *fallback))
}

/// The column and the table that tell the workspace of a row, from the expected composite foreign keys.
fn parent<'a>(table: &Table<'_>, expected: &[&'a Definition]) -> Option<(&'a str, &'a str)> {
    expected
        .iter()
        .filter(|definition| definition.kind == "constraint")
        .filter_map(|definition| {
            let rest = definition
                .text
                .strip_prefix("FOREIGN KEY (workspace_id, ")?;
            let (column, rest) = rest.split_once(") REFERENCES ")?;
            let (parent, _) = rest.split_once('(')?;
            Some((column, parent))
        })
        .find(|(column, parent)| {
            *parent != table.name
                && table
                    .column(column)
                    .is_some_and(|column| column.kind == "uuid")
        })
}

fn column(
    client: &SpiClient<'_>,
    table: &Table<'_>,
    all: &[&Definition],
    definition: &Definition,
    plan: &mut Plan,
) -> Outcome<()> {
    let wanted = Column::of(definition);
    let name = &wanted.name;
    let Some(here) = table.column(name) else {
        return add_column(client, table, all, &wanted, plan);
    };
    match Fit::of(&wanted.kind, &here.kind) {
        Fit::Same | Fit::Reads => {}
        Fit::Widen if table.large => plan.obstacles.push(format!(
            "{0}.{name} is {1} and has to be {2}, which rewrites a large table: in a quiet hour, ALTER TABLE {0} ALTER COLUMN {name} TYPE {2}",
            table.name, here.kind, wanted.kind
        )),
        Fit::Widen => {
            plan.statements.push(format!(
                "ALTER TABLE {} ALTER COLUMN {name} TYPE {}",
                table.name, wanted.kind
            ));
            plan.words.push(format!("widens {name} to {}", wanted.kind));
        }
        Fit::No => plan.obstacles.push(format!(
            "{0}.{name} is of type {1}, and has to be {2}: rename it out of the way, or ALTER TABLE {0} ALTER COLUMN {name} TYPE {2} USING …",
            table.name, here.kind, wanted.kind
        )),
    }
    // A text that may be NULL stays so: the old application may leave it out. A key may not.
    if wanted.not_null && !here.not_null && wanted.kind == "uuid" {
        let missing: i64 = value(
            client,
            &format!(
                "SELECT pg_catalog.count(*) FROM {} AS t WHERE t.{name} IS NULL",
                table.name
            ),
            &[],
        )?
        .unwrap_or(0);
        if missing > 0 {
            plan.obstacles.push(format!(
                "{}.{name} is NULL in {missing} row(s) and may not be: fill them in",
                table.name
            ));
        }
        plan.statements.push(format!(
            "ALTER TABLE {} ALTER COLUMN {name} SET NOT NULL",
            table.name
        ));
        plan.words.push(format!("{name} becomes NOT NULL"));
    }
    if here.not_null && !wanted.not_null && is_emptied_by_a_key(all, name) {
        plan.statements.push(format!(
            "ALTER TABLE {} ALTER COLUMN {name} DROP NOT NULL",
            table.name
        ));
        plan.words.push(format!(
            "{name} may be NULL, so that who or what it names can be deleted"
        ));
    }
    if let Some(default) = &wanted.default
        && (here.default.is_none() || name == "id")
        && here.default.as_ref() != Some(default)
    {
        plan.statements.push(format!(
            "ALTER TABLE {} ALTER COLUMN {name} SET DEFAULT {default}",
            table.name
        ));
        plan.words.push(format!("{name} gets a default"));
    }
    Ok(())
}

fn is_emptied_by_a_key(all: &[&Definition], column: &str) -> bool {
    all.iter().any(|definition| {
        definition.kind == "constraint"
            && definition.text.starts_with("FOREIGN KEY")
            && definition.text.contains("ON DELETE SET NULL")
            && (definition.text.contains(&format!("FOREIGN KEY ({column})"))
                || definition.text.contains(&format!("SET NULL ({column})")))
    })
}

fn add_column(
    client: &SpiClient<'_>,
    table: &Table<'_>,
    all: &[&Definition],
    wanted: &Column,
    plan: &mut Plan,
) -> Outcome<()> {
    let (relation, name) = (table.name, &wanted.name);
    plan.words.push(format!("adds {name}"));
    if !wanted.not_null || wanted.default.is_some() {
        let default = wanted
            .default
            .as_ref()
            .map_or(String::new(), |default| format!(" DEFAULT {default}"));
        let not_null = if wanted.not_null { " NOT NULL" } else { "" };
        plan.statements.push(format!(
            "ALTER TABLE {relation} ADD COLUMN {name} {}{not_null}{default}",
            wanted.kind
        ));
        return Ok(());
    }
    plan.statements.push(format!(
        "ALTER TABLE {relation} ADD COLUMN {name} {}",
        wanted.kind
    ));
    let rows: i64 = value(
        client,
        &format!("SELECT pg_catalog.count(*) FROM {relation}"),
        &[],
    )?
    .unwrap_or(0);
    if rows > 0 {
        if name == "workspace_id" {
            let Some((column, parent)) = parent(table, all) else {
                plan.obstacles.push(format!(
                    "{relation} has {rows} row(s) and no column that tells their workspace: add workspace_id and fill it in"
                ));
                return Ok(());
            };
            let untold: i64 = value(
                client,
                &format!(
                    "SELECT pg_catalog.count(*)
                       FROM {relation} AS t
                      WHERE NOT EXISTS (SELECT FROM {parent} AS p WHERE p.id = t.{column})"
                ),
                &[],
            )?
            .unwrap_or(0);
            if untold > 0 {
                plan.obstacles.push(format!(
                    "{relation}: the workspace of {untold} row(s) cannot be told, because {column} names no row of {parent}: correct or delete them"
                ));
            }
            plan.statements.push(format!(
                "UPDATE {relation} AS t SET workspace_id = p.workspace_id FROM {parent} AS p WHERE p.id = t.{column}"
            ));
        } else if let Some((older, fallback)) = source(relation, name) {
            let older = match table.column(older) {
                Some(_) => format!("NULLIF(pg_catalog.btrim(t.{older}::text), '')"),
                None => "NULL".to_string(),
            };
            plan.statements.push(format!(
                "UPDATE {relation} AS t SET {name} = coalesce({older}, '{fallback}')"
            ));
        } else {
            plan.obstacles.push(format!(
                "{relation} has {rows} row(s) and lacks {name}, which may not be NULL: add it and fill it in"
            ));
        }
        if table.large {
            plan.obstacles.push(format!(
                "{relation} is large, and filling in {name} would hold up its writers: ALTER TABLE {relation} ADD COLUMN {name} {}; then fill it in in batches",
                wanted.kind
            ));
        }
    }
    plan.statements.push(format!(
        "ALTER TABLE {relation} ALTER COLUMN {name} SET NOT NULL"
    ));
    Ok(())
}

/// A trigger that completes rows which the old application inserts without the new columns.
fn complete_new_rows(table: &Table<'_>, all: &[&Definition], plan: &mut Plan) {
    let mut arguments: Vec<String> = Vec::new();
    if table.column("workspace_id").is_none()
        && let Some((column, parent)) = parent(table, all)
    {
        arguments.extend([
            "workspace_id".to_string(),
            column.to_string(),
            parent.to_string(),
        ]);
    }
    for (relation, name, older, fallback) in SOURCES {
        if *relation == table.name && table.column(name).is_none() {
            arguments.extend([
                (*name).to_string(),
                (*older).to_string(),
                (*fallback).to_string(),
            ]);
        }
    }
    if arguments.is_empty() {
        return;
    }
    let (_, short) = database::split(table.name);
    let list = arguments
        .iter()
        .map(|argument| format!("'{argument}'"))
        .collect::<Vec<_>>()
        .join(", ");
    plan.statements.push(format!(
        "CREATE TRIGGER {short}_adopted BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION codex.complete_adopted_row({list})",
        table.name
    ));
    plan.words
        .push("completes rows that the old application inserts".to_string());
}

fn constraint(
    client: &SpiClient<'_>,
    foundation: &Foundation,
    table: &Table<'_>,
    definition: &Definition,
    plan: &mut Plan,
) -> Outcome<()> {
    let (relation, name) = (table.name, &definition.name);
    let text = foundation.fill_in(&definition.text);
    let here = table.definition("constraint", name);
    if here.is_some_and(|here| bare(&here.text) == bare(&definition.text)) {
        return Ok(());
    }
    let kind = text.split(' ').next().unwrap_or_default();
    match kind {
        "PRIMARY" | "UNIQUE" => {
            let columns = inside_parentheses(&text);
            if let Some(same) = table
                .here
                .iter()
                .find(|other| other.kind == "constraint" && other.text == definition.text)
            {
                plan.statements.push(format!(
                    "ALTER TABLE {relation} RENAME CONSTRAINT {} TO {name}",
                    same.name
                ));
                plan.words
                    .push(format!("renames constraint {} to {name}", same.name));
                return Ok(());
            }
            if let Some(here) = here {
                plan.obstacles.push(format!(
                    "{relation} has a constraint {name} that is {}, not {text}: rename it",
                    here.text
                ));
                return Ok(());
            }
            if columns
                .split(", ")
                .all(|column| table.column(column).is_some())
            {
                refuse_duplicates(client, table, columns, &text, plan)?;
            }
            let ready = table.definition("index", name);
            if let Some(ready) = ready
                && ready.text.contains("UNIQUE INDEX")
                && !ready.text.ends_with("(invalid)")
            {
                plan.statements.push(format!(
                    "ALTER TABLE {relation} ADD CONSTRAINT {name} UNIQUE USING INDEX {name}"
                ));
            } else if table.large {
                let nulls = if text.contains("NULLS NOT DISTINCT") {
                    " NULLS NOT DISTINCT"
                } else {
                    ""
                };
                plan.obstacles.push(format!(
                    "{relation} is large; build its key first, which holds nobody up: CREATE UNIQUE INDEX CONCURRENTLY {name} ON {relation} ({columns}){nulls};"
                ));
            } else {
                plan.statements.push(format!(
                    "ALTER TABLE {relation} ADD CONSTRAINT {name} {text}"
                ));
            }
            plan.words.push(format!("adds {name}"));
        }
        "CHECK" => {
            let ours = text.strip_prefix("CHECK ").unwrap_or(&text);
            let mut condition = ours.to_string();
            if let Some(here) = here {
                let theirs = here.text.strip_suffix(" NOT VALID").unwrap_or(&here.text);
                let theirs = theirs.strip_prefix("CHECK ").unwrap_or(theirs);
                condition = format!("({ours} OR {theirs})");
                plan.statements
                    .push(format!("ALTER TABLE {relation} DROP CONSTRAINT {name}"));
                plan.words
                    .push(format!("{name} allows what it did and what the Codex does"));
            }
            if can_be_tried(ours, table) {
                let broken: i64 = value(
                    client,
                    &format!("SELECT pg_catalog.count(*) FROM {relation} WHERE NOT {condition}"),
                    &[],
                )?
                .unwrap_or(0);
                if broken > 0 {
                    plan.obstacles.push(format!(
                        "{relation}: {broken} row(s) break {name}, CHECK {condition}: correct them"
                    ));
                }
            }
            add_checked_later(
                table,
                &format!("ADD CONSTRAINT {name} CHECK {condition}"),
                name,
                plan,
            );
        }
        _ => {
            if let Some(here) = here {
                plan.statements
                    .push(format!("ALTER TABLE {relation} DROP CONSTRAINT {name}"));
                plan.words.push(format!("{name} was {}", here.text));
            }
            refuse_dangling(client, table, &text, name, plan)?;
            plan.words.push(format!("adds {name}"));
            add_checked_later(table, &format!("ADD CONSTRAINT {name} {text}"), name, plan);
        }
    }
    Ok(())
}

/// Adds a constraint; on a large table without reading it, for the next `codex.migrate()` to validate.
fn add_checked_later(table: &Table<'_>, action: &str, name: &str, plan: &mut Plan) {
    let later = if table.large { " NOT VALID" } else { "" };
    plan.statements
        .push(format!("ALTER TABLE {} {action}{later}", table.name));
    if table.large {
        plan.words
            .push(format!("{name} is validated by the next codex.migrate()"));
    }
}

fn inside_parentheses(text: &str) -> &str {
    text.split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map_or("", |(inside, _)| inside)
}

/// Whether all columns of a check are there already, in a type that fits: only then can it be tried on the rows.
fn can_be_tried(condition: &str, table: &Table<'_>) -> bool {
    let words: Vec<&str> = condition
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    shape::EXPECTED_TABLES
        .iter()
        .filter(|definition| definition.relation == table.name && definition.kind == "column")
        .filter(|definition| words.contains(&definition.name.as_str()))
        .all(|definition| {
            let wanted = Column::of(definition);
            table
                .column(&definition.name)
                .is_some_and(|here| Fit::of(&wanted.kind, &here.kind) != Fit::No)
        })
}

fn refuse_duplicates(
    client: &SpiClient<'_>,
    table: &Table<'_>,
    columns: &str,
    text: &str,
    plan: &mut Plan,
) -> Outcome<()> {
    let only_complete = if text.contains("NULLS NOT DISTINCT") {
        String::new()
    } else {
        format!(
            " WHERE {}",
            columns
                .split(", ")
                .map(|column| format!("{column} IS NOT NULL"))
                .collect::<Vec<_>>()
                .join(" AND ")
        )
    };
    let groups: i64 = value(
        client,
        &format!(
            "SELECT pg_catalog.count(*)
               FROM (SELECT 1 FROM {}{only_complete} GROUP BY {columns} HAVING pg_catalog.count(*) > 1) AS twice",
            table.name
        ),
        &[],
    )?
    .unwrap_or(0);
    if groups > 0 {
        plan.obstacles.push(format!(
            "{}: {groups} value(s) of ({columns}) stand in more than one row, and have to be unique: merge or delete them",
            table.name
        ));
    }
    Ok(())
}

/// Refuses rows that refer to nothing, or to a row of another workspace.
fn refuse_dangling(
    client: &SpiClient<'_>,
    table: &Table<'_>,
    text: &str,
    name: &str,
    plan: &mut Plan,
) -> Outcome<()> {
    let columns: Vec<&str> = inside_parentheses(text).split(", ").collect();
    let Some((_, rest)) = text.split_once(" REFERENCES ") else {
        return Ok(());
    };
    let Some((parent, _)) = rest.split_once('(') else {
        return Ok(());
    };
    let parent = parent.trim();
    let targets: Vec<&str> = inside_parentheses(rest).split(", ").collect();
    if columns
        .iter()
        .any(|column| table.column(column).is_none_or(|here| here.kind != "uuid"))
    {
        return Ok(());
    }
    let known: Option<bool> = value(
        client,
        "SELECT pg_catalog.bool_and(EXISTS (
                    SELECT
                      FROM pg_catalog.pg_attribute AS a
                     WHERE a.attrelid = pg_catalog.to_regclass($1)
                       AND a.attname = t.name
                       AND NOT a.attisdropped))
           FROM pg_catalog.unnest($2::text[]) AS t (name)",
        &[
            parent.into(),
            targets
                .iter()
                .map(|target| (*target).to_string())
                .collect::<Vec<_>>()
                .into(),
        ],
    )?;
    if known != Some(true) {
        return Ok(());
    }
    let complete = columns
        .iter()
        .map(|column| format!("t.{column} IS NOT NULL"))
        .collect::<Vec<_>>()
        .join(" AND ");
    let matching = columns
        .iter()
        .zip(&targets)
        .map(|(column, target)| format!("p.{target} = t.{column}"))
        .collect::<Vec<_>>()
        .join(" AND ");
    let dangling: i64 = value(
        client,
        &format!(
            "SELECT pg_catalog.count(*)
               FROM {} AS t
              WHERE {complete}
                AND NOT EXISTS (SELECT FROM {parent} AS p WHERE {matching})",
            table.name
        ),
        &[],
    )?
    .unwrap_or(0);
    if dangling > 0 {
        plan.obstacles.push(format!(
            "{}: {dangling} row(s) refer to no row of {parent}, or to one of another workspace ({name}): correct them",
            table.name
        ));
    }
    Ok(())
}

fn index(table: &Table<'_>, definition: &Definition, plan: &mut Plan) {
    let name = &definition.name;
    let here = table.definition("index", name);
    if here.is_some_and(|here| bare(&here.text) == bare(&definition.text)) {
        return;
    }
    if let Some(here) = here {
        let (schema, _) = database::split(table.name);
        if here.text.ends_with("(invalid)") {
            plan.statements.push(format!("DROP INDEX {schema}.{name}"));
        } else {
            plan.statements.push(format!(
                "ALTER INDEX {schema}.{name} RENAME TO {name}_before_codex"
            ));
            plan.words.push(format!(
                "renames index {name}, which is on other columns, to {name}_before_codex"
            ));
        }
    }
    if table.large {
        plan.obstacles.push(format!(
            "{} is large; build its index first, which holds nobody up: {};",
            table.name,
            definition
                .text
                .replacen(" INDEX ", " INDEX CONCURRENTLY ", 1)
        ));
    } else {
        plan.statements.push(definition.text.clone());
    }
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

/// What this database is expected to have: the shape of a fresh one, with what adopted tables keep in their own way.
pub fn expected_tables(client: &SpiClient<'_>) -> Outcome<Vec<Definition>> {
    let mut expected = shape::EXPECTED_TABLES.clone();
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

/// Refuses nothing, completes everything: sets `workspace_id` from the row's parent, and a text from the legacy
/// column that meant the same, where the statement did not give them. Its arguments come in threes: the column, the
/// column to look at, and the parent table or the text to fall back on.
fn complete(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    use crate::row_triggers::Row;
    // SAFETY: Postgres hands over a valid trigger with tgnargs NUL-terminated arguments.
    let arguments: Vec<String> = unsafe {
        let trigger = &*data.tg_trigger;
        (0..usize::try_from(trigger.tgnargs).unwrap_or(0))
            .map(|position| {
                std::ffi::CStr::from_ptr(*trigger.tgargs.add(position))
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    };
    let mut row = Row::of(data)?;
    for triple in arguments.chunks_exact(3) {
        let column = row.column(&triple[0])?;
        if row.is_given(column) {
            continue;
        }
        let datum = if triple[0] == "workspace_id" {
            let from = row.column(&triple[1])?;
            match row.new_value::<pgrx::Uuid>(from) {
                Some(parent) => workspace_of(&triple[2], parent)?.and_then(IntoDatum::into_datum),
                None => None,
            }
        } else {
            let older = row
                .find_column(&triple[1])
                .and_then(|older| row.new_value::<String>(older));
            let text = older
                .filter(|text| !text.trim().is_empty())
                .unwrap_or_else(|| triple[2].clone());
            text.into_datum()
        };
        if let Some(datum) = datum {
            row = row.and_with(column, datum);
        }
    }
    Ok(row.unchanged())
}

/// The workspace of a row of `parent`, a name that a migration wrote into the trigger.
fn workspace_of(parent: &str, id: pgrx::Uuid) -> Outcome<Option<pgrx::Uuid>> {
    if !shape::EXPECTED_TABLES
        .iter()
        .any(|definition| definition.relation == parent)
        && parent != "public.cohorts"
    {
        return Err(CodexError::wrong_state(format!(
            "{parent} is no table that tells a workspace"
        )));
    }
    Spi::connect(|client| {
        value(
            client,
            &format!("SELECT p.workspace_id FROM {parent} AS p WHERE p.id = $1"),
            &[id.into()],
        )
    })
}

crate::trigger_function!(complete_adopted_row, complete);

extension_sql!(
    r#"
CREATE FUNCTION complete_adopted_row() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'complete_adopted_row_trigger';

COMMENT ON FUNCTION complete_adopted_row() IS
'Trigger BEFORE INSERT on tables that were there before the Codex: completes a row that an older application inserts without workspace_id (taken from the row''s parent) or without a text that has a new name.';
"#,
    name = "trigger_complete_adopted_row"
);
