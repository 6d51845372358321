//! What adopting one table takes: statements to run, in words, and what keeps it from being done.

use crate::error::Outcome;
use crate::schema::catalogue;
use crate::schema::database::{self, query, value};
use crate::schema::foundation::Foundation;
use crate::schema::shape::{self, Definition};
use pgrx::spi::SpiClient;

/// Above this many rows (as the planner estimates them) nothing is done that reads the whole table under a lock.
pub const LARGE: f32 = 100_000.0;

/// Above this many rows a column is filled in before the adoption: some 30 µs a row, which everybody would wait for.
pub const MANY_TO_FILL: f32 = 10_000.0;

/// Where an older table had the value of a new column that may not be NULL: table, column, the older column,
/// and what is written where that is empty.
pub const SOURCES: &[(&str, &str, &str, &str)] = &[
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

/// New columns whose value for an older row follows from its other columns: table, column, the value, and the columns
/// that it is made of.
const DERIVED: &[(&str, &str, &str, &[&str])] = &[(
    "public.agent_performance",
    "total_execution_time_seconds",
    "t.avg_execution_time_seconds * t.execution_count",
    &["avg_execution_time_seconds", "execution_count"],
)];

/// What adopting one table takes.
#[derive(Default)]
pub struct Plan {
    /// To be run in order.
    pub statements: Vec<String>,
    /// What they do, in words.
    pub words: Vec<String>,
    /// What keeps them from being run.
    pub obstacles: Vec<String>,
    /// The same, to be seen to after the others: they need columns and a trigger that those make.
    last_obstacles: Vec<String>,
}

impl Plan {
    /// Puts what is to be seen to last behind the others.
    pub fn in_order(&mut self) {
        self.obstacles.append(&mut self.last_obstacles);
    }
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

/// What a plan looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Definitions and rows: finds everything that is in the way, and may take its time.
    AtRows,
    /// Definitions alone: for the moment when nobody else gets at the table. A row that came to be in the way since the
    /// rows were looked at is refused by the statement that meets it.
    AtDefinitions,
}

/// The table at hand.
struct Table<'a> {
    name: &'a str,
    look: Look,
    large: bool,
    /// Whether its columns are to be filled in beforehand.
    fill_first: bool,
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

/// What adopting this table takes here.
pub fn plan(
    client: &SpiClient<'_>,
    foundation: &Foundation,
    name: &str,
    look: Look,
) -> Outcome<Plan> {
    let mut plan = Plan::default();
    let here = shape::of_table(client, name)?;
    let table = Table {
        name,
        look,
        large: rows_of(client, name)? > LARGE,
        fill_first: is_filled_first(client, name)?,
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
    let made_by = catalogue::version_of_table(name);
    let dropped: Vec<Definition> = made_by
        .into_iter()
        .flat_map(catalogue::dropped_after)
        .map(|(_, definition)| definition)
        .filter(|definition| definition.relation == name)
        .collect();
    let expected: Vec<&Definition> = shape::EXPECTED_TABLES
        .iter()
        .filter(|definition| definition.relation == name)
        .filter(|definition| catalogue::version_of(definition) == made_by)
        .chain(&dropped)
        .collect();
    drop_old_triggers(client, &table, &mut plan)?;
    for definition in expected
        .iter()
        .filter(|definition| definition.kind == "column")
    {
        column(client, &table, &expected, definition, &mut plan)?;
    }
    complete_new_rows(&table, &expected, &mut plan);
    // Filled in before anything is built on it.
    plan.in_order();
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

/// Whether a table has more than [`LARGE`] rows.
pub fn is_large(client: &SpiClient<'_>, table: &str) -> Outcome<bool> {
    Ok(rows_of(client, table)? > LARGE)
}

/// Whether a table has more than [`MANY_TO_FILL`] rows.
pub fn is_filled_first(client: &SpiClient<'_>, table: &str) -> Outcome<bool> {
    Ok(rows_of(client, table)? > MANY_TO_FILL)
}

/// How many rows a table has, as the planner estimates them: as many a page as when it was last vacuumed or analysed, times
/// the pages of today. One that never was, such as after a restore, is judged at a hundred bytes a row.
fn rows_of(client: &SpiClient<'_>, table: &str) -> Outcome<f32> {
    let (schema, name) = database::split(table);
    let rows: Option<f32> = value(
        client,
        "SELECT CASE
                    WHEN c.relpages > 0
                        THEN c.reltuples / c.relpages * pg_catalog.pg_relation_size(c.oid)
                            / pg_catalog.current_setting('block_size')::integer
                    ELSE pg_catalog.pg_relation_size(c.oid) / 100
                END::real
           FROM pg_catalog.pg_class AS c
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = $1::text
            AND c.relname = $2::text",
        &[schema.into(), name.into()],
    )?;
    Ok(rows.unwrap_or(0.0))
}

impl Table<'_> {
    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// How many rows a query counts; none where rows are not looked at.
    fn count(&self, client: &SpiClient<'_>, sql: &str) -> Outcome<i64> {
        if self.look == Look::AtDefinitions {
            return Ok(0);
        }
        Ok(value(client, sql, &[])?.unwrap_or(0))
    }

    fn is_proven(&self, column: &str) -> bool {
        is_proven(&self.here, self.name, column)
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
    if wanted.not_null && !here.not_null {
        if is_completed(table, all, &wanted) {
            fill(client, table, all, &wanted, plan)?;
        }
        if wanted.kind == "uuid" {
            if !is_completed(table, all, &wanted) {
                let missing = table.count(
                    client,
                    &format!(
                        "SELECT pg_catalog.count(*) FROM {} AS t WHERE t.{name} IS NULL",
                        table.name
                    ),
                )?;
                if missing > 0 {
                    plan.obstacles.push(format!(
                        "{}.{name} is NULL in {missing} row(s) and may not be: fill them in",
                        table.name
                    ));
                }
            }
            set_not_null(
                table.name,
                name,
                table.fill_first,
                table.is_proven(name),
                plan,
            );
            plan.words.push(format!("{name} becomes NOT NULL"));
        }
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

/// Whether one of our indexes is on the column.
fn is_indexed(all: &[&Definition], column: &str) -> bool {
    all.iter()
        .filter(|definition| definition.kind == "index")
        .any(|definition| words(&definition.text).any(|word| word == column))
}

/// The names and numbers in a definition.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
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
        let statement = format!(
            "ALTER TABLE {relation} ADD COLUMN {name} {}{not_null}{default}",
            wanted.kind
        );
        if table.large && is_indexed(all, name) {
            plan.obstacles.push(format!(
                "{relation} is large, and an index on {name} is to be built first; add the column, which takes a moment: {statement};"
            ));
        }
        plan.statements.push(statement);
        derive(table, name, plan);
        return Ok(());
    }
    let statement = format!("ALTER TABLE {relation} ADD COLUMN {name} {}", wanted.kind);
    let any: Option<bool> = value(
        client,
        &format!("SELECT EXISTS (SELECT FROM {relation})"),
        &[],
    )?;
    if any == Some(true) && table.fill_first && is_completed(table, all, wanted) {
        plan.obstacles.push(format!(
            "{relation} is large, and {name} is to be filled in first; add the column, which takes a moment: {statement};"
        ));
    }
    plan.statements.push(statement);
    if any == Some(true) {
        fill(client, table, all, wanted, plan)?;
    }
    set_not_null(
        relation,
        name,
        table.large && any == Some(true),
        false,
        plan,
    );
    Ok(())
}

/// How the value of a column is told for a row that lacks it.
enum Told<'a> {
    /// It is the workspace of the row that a column names in another table.
    Parent { column: &'a str, table: &'a str },
    /// It is what an older column says, or a text where that is empty.
    Older {
        column: Option<&'static str>,
        fallback: &'static str,
    },
}

fn told<'a>(table: &Table<'_>, all: &[&'a Definition], name: &str) -> Option<Told<'a>> {
    if name == "workspace_id" {
        return parent(table, all).map(|(column, table)| Told::Parent { column, table });
    }
    source(table.name, name).map(|(older, fallback)| Told::Older {
        column: table.column(older).map(|_| older),
        fallback,
    })
}

/// Whether the old application may leave the column out, and a trigger completes what it inserts: the column is not there
/// yet, or it is one that was added before (beforehand to a large table, or by an adoption that was taken back) and may
/// be NULL.
fn is_completed(table: &Table<'_>, all: &[&Definition], wanted: &Column) -> bool {
    let open = match table.column(&wanted.name) {
        None => true,
        Some(here) => !here.not_null && here.kind == wanted.kind,
    };
    open && match told(table, all, &wanted.name) {
        Some(Told::Parent { .. }) => true,
        // A nullable text of an application that has no older word for it is its own.
        Some(Told::Older { column, .. }) => {
            column.is_some() || table.column(&wanted.name).is_none()
        }
        None => false,
    }
}

/// Fills a column that may not be NULL in the rows that lack it, from what the row says otherwise.
fn fill(
    client: &SpiClient<'_>,
    table: &Table<'_>,
    all: &[&Definition],
    wanted: &Column,
    plan: &mut Plan,
) -> Outcome<()> {
    let (relation, name) = (table.name, &wanted.name);
    let lacking = match table.column(name) {
        Some(_) if table.is_proven(name) => return Ok(()),
        Some(_) => format!("t.{name} IS NULL"),
        None => "true".to_string(),
    };
    let rows = table.count(
        client,
        &format!("SELECT pg_catalog.count(*) FROM {relation} AS t WHERE {lacking}"),
    )?;
    let way = match told(table, all, name) {
        Some(Told::Parent {
            column,
            table: parent,
        }) => {
            let untold = table.count(
                client,
                &format!(
                    "SELECT pg_catalog.count(*)
                       FROM {relation} AS t
                      WHERE {lacking}
                        AND NOT EXISTS (SELECT FROM {parent} AS p WHERE p.id = t.{column})"
                ),
            )?;
            if untold > 0 {
                plan.obstacles.push(format!(
                    "{relation}: the workspace of {untold} row(s) cannot be told, because {column} names no row of {parent}: correct or delete them"
                ));
            }
            Filling {
                set: "workspace_id = p.workspace_id".to_string(),
                from: format!(" FROM {parent} AS p"),
                condition: format!("t.workspace_id IS NULL AND p.id = t.{column}"),
            }
        }
        Some(Told::Older { column, fallback }) => {
            let older = match column {
                Some(older) => format!("NULLIF(pg_catalog.btrim(t.{older}::text), '')"),
                None => "NULL".to_string(),
            };
            Filling {
                set: format!("{name} = coalesce({older}, '{fallback}')"),
                from: String::new(),
                condition: format!("t.{name} IS NULL"),
            }
        }
        None => {
            plan.obstacles.push(match name.as_str() {
                "workspace_id" => format!(
                    "{relation} has {rows} row(s) and no column that tells their workspace: add workspace_id and fill it in"
                ),
                _ => format!(
                    "{relation} has {rows} row(s) and lacks {name}, which may not be NULL: add it and fill it in"
                ),
            });
            return Ok(());
        }
    };
    if !table.fill_first {
        plan.statements.push(way.at_once(relation));
    } else if rows > 0 {
        plan.last_obstacles.push(format!(
            "{relation} is large; fill in {name}, some thousand rows at a time: {};",
            way.in_batches(relation)
        ));
    }
    Ok(())
}

/// How a column is filled in.
pub struct Filling {
    /// What is set.
    pub set: String,
    /// Where from, with a space in front, or nothing.
    pub from: String,
    /// Which rows `t`.
    pub condition: String,
}

impl Filling {
    /// In one statement.
    pub fn at_once(&self, relation: &str) -> String {
        format!(
            "UPDATE {relation} AS t SET {}{} WHERE {}",
            self.set, self.from, self.condition
        )
    }

    /// Page by page, each batch in a transaction of its own: nobody waits for more than one batch. A row that somebody
    /// changed meanwhile may have gone to a page that was done: the last statement finds it.
    pub fn in_batches(&self, relation: &str) -> String {
        let all = self.at_once(relation);
        format!(
            "DO $$ DECLARE pages bigint := pg_catalog.pg_relation_size('{relation}') / pg_catalog.current_setting('block_size')::bigint; BEGIN FOR page IN 0 .. pages BY 100 LOOP {all} AND t.ctid >= pg_catalog.format('(%s,0)', page)::tid AND t.ctid < pg_catalog.format('(%s,0)', page + 100)::tid; COMMIT; END LOOP; {all}; END $$"
        )
    }
}

/// Makes a column NOT NULL: on a large table only once a valid CHECK proves it, so that no row is read under the lock.
pub fn set_not_null(relation: &str, name: &str, fill_first: bool, proven: bool, plan: &mut Plan) {
    let check = check_of_a_filled(relation, name);
    if fill_first && !proven {
        plan.last_obstacles.push(format!(
            "{relation} is large; say that {name} is complete: ALTER TABLE {relation} ADD CONSTRAINT {check} CHECK ({name} IS NOT NULL) NOT VALID;"
        ));
        plan.last_obstacles.push(format!(
            "{relation} is large; and prove it, which holds nobody up: ALTER TABLE {relation} VALIDATE CONSTRAINT {check};"
        ));
    }
    plan.statements.push(format!(
        "ALTER TABLE {relation} ALTER COLUMN {name} SET NOT NULL"
    ));
    if proven {
        plan.statements
            .push(format!("ALTER TABLE {relation} DROP CONSTRAINT {check}"));
    }
}

/// Whether a valid CHECK says that the column is never NULL.
pub fn is_proven(here: &[Definition], relation: &str, column: &str) -> bool {
    let name = check_of_a_filled(relation, column);
    here.iter().any(|definition| {
        definition.kind == "constraint"
            && definition.name == name
            && definition.text == format!("CHECK (({column} IS NOT NULL))")
    })
}

/// The name of the CHECK that proves a column of a large table to be complete.
fn check_of_a_filled(relation: &str, name: &str) -> String {
    format!("{}_{name}_filled", database::split(relation).1)
}

/// Fills a new column of older rows from their other columns. On a large table that is left to its owner, whom the
/// words tell: the column has its default meanwhile.
fn derive(table: &Table<'_>, column: &str, plan: &mut Plan) {
    for (relation, name, value, made_of) in DERIVED {
        let derivable = *relation == table.name
            && *name == column
            && made_of.iter().all(|source| table.column(source).is_some());
        if !derivable {
            continue;
        }
        let statement = format!("UPDATE {relation} AS t SET {name} = {value} WHERE {value} > 0");
        if table.large {
            plan.words.push(format!(
                "{name} of older rows is to be filled in batches: {statement}"
            ));
        } else {
            plan.statements.push(statement);
        }
    }
}

/// A trigger that completes rows which the old application inserts without the new columns.
fn complete_new_rows(table: &Table<'_>, all: &[&Definition], plan: &mut Plan) {
    let mut arguments: Vec<String> = Vec::new();
    let columns = all
        .iter()
        .filter(|definition| definition.kind == "column")
        .map(|definition| Column::of(definition))
        .filter(|column| column.not_null && column.default.is_none());
    for wanted in columns {
        if !is_completed(table, all, &wanted) {
            continue;
        }
        match told(table, all, &wanted.name) {
            Some(Told::Parent {
                column,
                table: parent,
            }) => arguments.extend([wanted.name, column.to_string(), parent.to_string()]),
            Some(Told::Older { fallback, .. }) => {
                let older = source(table.name, &wanted.name).map_or("", |(older, _)| older);
                arguments.extend([wanted.name, older.to_string(), fallback.to_string()]);
            }
            None => {}
        }
    }
    let here = table.definition("trigger", &completing_trigger(table.name));
    complete_rows(table.name, &arguments, table.fill_first, here, plan);
}

/// The trigger's name on a table.
pub fn completing_trigger(relation: &str) -> String {
    format!("{}_adopted", database::split(relation).1)
}

/// Gives a table the trigger that completes rows, unless it has it: its arguments come in threes.
pub fn complete_rows(
    relation: &str,
    arguments: &[String],
    fill_first: bool,
    here: Option<&Definition>,
    plan: &mut Plan,
) {
    if arguments.is_empty() {
        return;
    }
    let name = completing_trigger(relation);
    let list = arguments
        .iter()
        .map(|argument| format!("'{argument}'"))
        .collect::<Vec<_>>()
        .join(", ");
    let action = format!("EXECUTE FUNCTION codex.complete_adopted_row({list})");
    if here.is_some_and(|here| here.text.ends_with(&action)) {
        return;
    }
    if here.is_some() {
        plan.statements
            .push(format!("DROP TRIGGER {name} ON {relation}"));
    }
    let statement =
        format!("CREATE TRIGGER {name} BEFORE INSERT ON {relation} FOR EACH ROW {action}");
    if fill_first && here.is_none() {
        plan.obstacles.push(format!(
            "{relation} is large; from now on complete what the old application inserts: {statement};"
        ));
    }
    plan.statements.push(statement);
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
                let broken = table.count(
                    client,
                    &format!("SELECT pg_catalog.count(*) FROM {relation} WHERE NOT {condition}"),
                )?;
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
    let words: Vec<&str> = words(condition).collect();
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
    let groups = table.count(
        client,
        &format!(
            "SELECT pg_catalog.count(*)
               FROM (SELECT 1 FROM {}{only_complete} GROUP BY {columns} HAVING pg_catalog.count(*) > 1) AS twice",
            table.name
        ),
    )?;
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
    let dangling = table.count(
        client,
        &format!(
            "SELECT pg_catalog.count(*)
               FROM {} AS t
              WHERE {complete}
                AND NOT EXISTS (SELECT FROM {parent} AS p WHERE {matching})",
            table.name
        ),
    )?;
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
        let statement = if here.text.ends_with("(invalid)") {
            format!("DROP INDEX {schema}.{name}")
        } else {
            plan.words.push(format!(
                "renames index {name}, which is on other columns, to {name}_before_codex"
            ));
            format!("ALTER INDEX {schema}.{name} RENAME TO {name}_before_codex")
        };
        if table.large {
            plan.obstacles.push(format!(
                "{} is large, and its index {name} is not ours; make room for ours: {statement};",
                table.name
            ));
        }
        plan.statements.push(statement);
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
