//! Shapes: the definitions a migrated schema has, and those that this database has.
//!
//! What counts is the definition, not the name: a column with its type and default, a constraint, an index,
//! a trigger, a policy as Postgres itself prints it. `sql/shape.tsv` and `sql/functions.tsv` hold what is
//! expected; they are printed from a fresh database by `codex.schema_shape()` and `codex.function_shape()`, so that
//! the migrations stay the only place where a definition is written by hand.

use super::catalogue;
use super::database::query;
use super::foundation;
use crate::error::{OrRaise, Outcome};
use once_cell::sync::Lazy;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

/// One definition of a table or of the extension's functions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Definition {
    /// `schema.table`; for functions the schema.
    pub relation: String,
    /// `table`, `column`, `constraint`, `index`, `trigger`, `policy` or `function`.
    pub kind: String,
    /// The name of the thing within its relation.
    pub name: String,
    /// How Postgres prints it.
    pub text: String,
}

/// The definitions of all tables the migrations make.
pub static EXPECTED_TABLES: Lazy<Vec<Definition>> =
    Lazy::new(|| parse(include_str!("../../sql/shape.tsv")));

/// The functions of the extension.
pub static EXPECTED_FUNCTIONS: Lazy<Vec<Definition>> =
    Lazy::new(|| parse(include_str!("../../sql/functions.tsv")));

fn parse(text: &str) -> Vec<Definition> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(4, '\t');
            Some(Definition {
                relation: fields.next()?.to_string(),
                kind: fields.next()?.to_string(),
                name: fields.next()?.to_string(),
                text: fields.next()?.to_string(),
            })
        })
        .collect()
}

/// The definitions of the Codex's tables in this database.
pub fn of_tables(client: &SpiClient<'_>) -> Outcome<Vec<Definition>> {
    let tables = catalogue::ALL
        .iter()
        .flat_map(|migration| migration.tables.iter().map(|table| (*table).to_string()));
    of(client, tables.collect())
}

/// The definitions of one table, given as `schema.table`.
pub fn of_table(client: &SpiClient<'_>, table: &str) -> Outcome<Vec<Definition>> {
    of(client, vec![table.to_string()])
}

fn of(client: &SpiClient<'_>, tables: Vec<String>) -> Outcome<Vec<Definition>> {
    let users = foundation::installed_users(client)?;
    query(
        client,
        "WITH wanted AS (
             SELECT c.oid, c.relkind, c.relrowsecurity, c.relpersistence,
                    n.nspname || '.' || c.relname AS relation
               FROM pg_catalog.pg_class AS c
               JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
              WHERE n.nspname || '.' || c.relname = ANY ($1::text[])
         )
         SELECT w.relation, 'table', '',
                CASE w.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view' ELSE 'relation of kind ' || w.relkind::text END
                || CASE w.relpersistence WHEN 'u' THEN ', unlogged' ELSE '' END
                || CASE WHEN w.relrowsecurity THEN ', row security on' ELSE ', row security off' END
           FROM wanted AS w
          UNION ALL
         SELECT w.relation, 'column', a.attname::text,
                pg_catalog.format_type(a.atttypid, a.atttypmod)
                || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
                || coalesce(' DEFAULT ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
           FROM wanted AS w
           JOIN pg_catalog.pg_attribute AS a ON a.attrelid = w.oid
           LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
          WHERE a.attnum > 0
            AND NOT a.attisdropped
          UNION ALL
         SELECT w.relation, 'constraint', k.conname::text,
                CASE WHEN k.contype = 'f' AND k.confrelid = $2
                     THEN pg_catalog.regexp_replace(
                              pg_catalog.pg_get_constraintdef(k.oid), 'REFERENCES [^(]+[(]', 'REFERENCES :users(')
                     ELSE pg_catalog.pg_get_constraintdef(k.oid)
                END
           FROM wanted AS w
           JOIN pg_catalog.pg_constraint AS k ON k.conrelid = w.oid
          WHERE k.contype IN ('p', 'u', 'f', 'c', 'x')
          UNION ALL
         SELECT w.relation, 'index', i.relname::text,
                pg_catalog.pg_get_indexdef(x.indexrelid)
                || CASE WHEN x.indisvalid AND x.indisready THEN '' ELSE ' (invalid)' END
           FROM wanted AS w
           JOIN pg_catalog.pg_index AS x ON x.indrelid = w.oid
           JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
          WHERE NOT EXISTS (
                    SELECT
                      FROM pg_catalog.pg_constraint AS k
                     WHERE k.conindid = x.indexrelid
                       AND k.contype IN ('p', 'u', 'x'))
             OR NOT x.indisvalid
          UNION ALL
         SELECT w.relation, 'trigger', t.tgname::text,
                pg_catalog.pg_get_triggerdef(t.oid)
                || CASE WHEN t.tgenabled IN ('O', 'A') THEN '' ELSE ' (disabled)' END
           FROM wanted AS w
           JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = w.oid
          WHERE NOT t.tgisinternal
          UNION ALL
         SELECT w.relation, 'policy', p.polname::text,
                CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END
                || CASE p.polcmd WHEN 'r' THEN ' FOR SELECT' WHEN 'a' THEN ' FOR INSERT' WHEN 'w' THEN ' FOR UPDATE'
                                 WHEN 'd' THEN ' FOR DELETE' ELSE ' FOR ALL' END
                || ' TO ' || CASE WHEN p.polroles = '{0}' THEN 'PUBLIC'
                                  ELSE pg_catalog.array_to_string(ARRAY(
                                           SELECT pg_catalog.pg_get_userbyid(r.role)::text
                                             FROM pg_catalog.unnest(p.polroles) AS r (role)
                                            ORDER BY 1), ', ') END
                || coalesce(' USING (' || pg_catalog.pg_get_expr(p.polqual, p.polrelid) || ')', '')
                || coalesce(' WITH CHECK (' || pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
           FROM wanted AS w
           JOIN pg_catalog.pg_policy AS p ON p.polrelid = w.oid",
        &[tables.into(), users.into()],
        |row| {
            Ok(Definition {
                relation: row.get(1)?.unwrap_or_default(),
                kind: row.get(2)?.unwrap_or_default(),
                name: row.get(3)?.unwrap_or_default(),
                text: on_one_line(row.get(4)?.unwrap_or_default()),
            })
        },
    )
    .map(|mut shape| {
        shape.sort();
        shape
    })
}

/// The functions that belong to the extension in this database.
pub fn of_functions(client: &SpiClient<'_>) -> Outcome<Vec<Definition>> {
    query(
        client,
        "SELECT n.nspname::text, 'function',
                p.proname || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')',
                '(' || pg_catalog.pg_get_function_arguments(p.oid) || ') RETURNS ' || pg_catalog.pg_get_function_result(p.oid)
                || CASE p.provolatile WHEN 'i' THEN ' IMMUTABLE' WHEN 's' THEN ' STABLE' ELSE ' VOLATILE' END
                || CASE p.proparallel WHEN 's' THEN ' PARALLEL SAFE' WHEN 'r' THEN ' PARALLEL RESTRICTED' ELSE ' PARALLEL UNSAFE' END
                || CASE WHEN p.proisstrict THEN ' STRICT' ELSE '' END
                || CASE WHEN p.prosecdef THEN ' SECURITY DEFINER' ELSE '' END
                || CASE WHEN p.proleakproof THEN ' LEAKPROOF' ELSE '' END
                || coalesce(' SET ' || pg_catalog.array_to_string(p.proconfig, ' SET '), '')
           FROM pg_catalog.pg_proc AS p
           JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
           JOIN pg_catalog.pg_depend AS d
             ON d.classid = 'pg_catalog.pg_proc'::regclass
            AND d.objid = p.oid
            AND d.deptype = 'e'
           JOIN pg_catalog.pg_extension AS e
             ON d.refclassid = 'pg_catalog.pg_extension'::regclass
            AND e.oid = d.refobjid
          WHERE e.extname = 'raptorflow_codex'",
        &[],
        |row| {
            Ok(Definition {
                relation: row.get(1)?.unwrap_or_default(),
                kind: row.get(2)?.unwrap_or_default(),
                name: row.get(3)?.unwrap_or_default(),
                text: on_one_line(row.get(4)?.unwrap_or_default()),
            })
        },
    )
    .map(|mut shape| {
        shape.sort();
        shape
    })
}

/// A definition as one line: Postgres prints a CASE over several.
fn on_one_line(text: String) -> String {
    if text.contains('\n') {
        text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    } else {
        text
    }
}

/// A definition as the columns of a result.
fn row(definition: Definition) -> (String, String, String, String) {
    (
        definition.relation,
        definition.kind,
        definition.name,
        definition.text,
    )
}

/// Every definition of the Codex's tables in this database: columns, constraints, indexes, triggers, policies and
/// whether row security is on. The table of users is printed as `:users`. Two databases with the same rows
/// here have the same schema.
#[pg_extern(stable, parallel_safe)]
#[search_path(pg_catalog, pg_temp)]
fn schema_shape() -> TableIterator<
    'static,
    (
        name!(relation, String),
        name!(kind, String),
        name!(name, String),
        name!(definition, String),
    ),
> {
    TableIterator::new(Spi::connect(of_tables).or_raise().into_iter().map(row))
}

/// The functions of the extension in this database: arguments with their names and defaults, results, and
/// properties.
#[pg_extern(stable, parallel_safe)]
#[search_path(pg_catalog, pg_temp)]
fn function_shape() -> TableIterator<
    'static,
    (
        name!(relation, String),
        name!(kind, String),
        name!(name, String),
        name!(definition, String),
    ),
> {
    TableIterator::new(Spi::connect(of_functions).or_raise().into_iter().map(row))
}

extension_sql!(
    r#"
COMMENT ON FUNCTION schema_shape() IS
'Every definition of the Codex''s tables in this database: columns, constraints, indexes, triggers, policies, row security. Two databases that give the same rows have the same schema.';
COMMENT ON FUNCTION function_shape() IS
'The functions of the extension with their arguments, defaults, results and properties.';
"#,
    name = "comment_shape",
    requires = [schema_shape, function_shape]
);
