//! What is in this database: relations, columns, keys, privileges.

use crate::error::{CodexError, Outcome};
use pgrx::datum::DatumWithOid;
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, SpiHeapTupleData, SpiResult};

/// Runs a statement that only reads and gives what `take` makes of each row.
pub fn query<T>(
    client: &SpiClient<'_>,
    sql: &str,
    arguments: &[DatumWithOid<'_>],
    take: impl FnMut(SpiHeapTupleData<'_>) -> SpiResult<T>,
) -> Outcome<Vec<T>> {
    let rows = client.select(sql, None, arguments)?;
    rows.map(take)
        .collect::<SpiResult<Vec<T>>>()
        .map_err(CodexError::from)
}

/// Runs a statement that gives one value.
pub fn value<T: FromDatum + IntoDatum>(
    client: &SpiClient<'_>,
    sql: &str,
    arguments: &[DatumWithOid<'_>],
) -> Outcome<Option<T>> {
    Ok(query(client, sql, arguments, |row| row.get::<T>(1))?
        .into_iter()
        .next()
        .flatten())
}

/// Runs one or more statements for what they do.
pub fn run(client: &mut SpiClient<'_>, sql: &str) -> Outcome<()> {
    client.update(sql, None, &[])?;
    Ok(())
}

/// What kind of relation has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An ordinary or a partitioned table.
    Table,
    /// Anything else; the text names it for a message.
    Other(&'static str),
}

/// The kind of the relation `schema.name`, or None where there is none.
pub fn kind_of(client: &SpiClient<'_>, relation: &str) -> Outcome<Option<Kind>> {
    let (schema, name) = split(relation);
    let kind = value::<String>(
        client,
        "SELECT c.relkind::text
           FROM pg_catalog.pg_class AS c
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = $1::text
            AND c.relname = $2::text",
        &[schema.into(), name.into()],
    )?;
    Ok(kind.map(|kind| match kind.as_str() {
        "r" | "p" => Kind::Table,
        "v" => Kind::Other("a view"),
        "m" => Kind::Other("a materialised view"),
        "f" => Kind::Other("a foreign table"),
        "S" => Kind::Other("a sequence"),
        "i" | "I" => Kind::Other("an index"),
        "c" => Kind::Other("a composite type"),
        _ => Kind::Other("another kind of relation"),
    }))
}

/// Whether there is a table `schema.name`.
pub fn table_exists(client: &SpiClient<'_>, table: &str) -> Outcome<bool> {
    Ok(kind_of(client, table)? == Some(Kind::Table))
}

/// Whether the table has a unique, valid, complete index on exactly these columns.
pub fn has_unique_key(client: &SpiClient<'_>, table: &str, columns: &[&str]) -> Outcome<bool> {
    let (schema, name) = split(table);
    let wanted: Vec<String> = columns.iter().map(|column| (*column).to_string()).collect();
    Ok(value::<bool>(
        client,
        "SELECT EXISTS (
             SELECT
               FROM pg_catalog.pg_index AS i
               JOIN pg_catalog.pg_class AS c ON c.oid = i.indrelid
               JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
              WHERE n.nspname = $1::text
                AND c.relname = $2::text
                AND i.indisunique
                AND i.indisvalid
                AND i.indimmediate
                AND i.indpred IS NULL
                AND i.indexprs IS NULL
                AND $3::text[] = ARRAY(
                        SELECT a.attname::text
                          FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
                          JOIN pg_catalog.pg_attribute AS a
                            ON a.attrelid = i.indrelid
                           AND a.attnum = k.attnum
                         WHERE k.position <= i.indnkeyatts
                         ORDER BY k.position)
         )",
        &[schema.into(), name.into(), wanted.into()],
    )?
    .unwrap_or(false))
}

/// The type of a column as Postgres prints it, or None where there is no such column.
pub fn column_type(client: &SpiClient<'_>, table: &str, column: &str) -> Outcome<Option<String>> {
    let (schema, name) = split(table);
    value(
        client,
        "SELECT pg_catalog.format_type(a.atttypid, a.atttypmod)
           FROM pg_catalog.pg_attribute AS a
           JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = $1::text
            AND c.relname = $2::text
            AND a.attname = $3::text
            AND a.attnum > 0
            AND NOT a.attisdropped",
        &[schema.into(), name.into(), column.into()],
    )
}

/// The OID of a relation given as `schema.name`.
pub fn oid_of(client: &SpiClient<'_>, relation: &str) -> Outcome<Option<pg_sys::Oid>> {
    let (schema, name) = split(relation);
    value(
        client,
        "SELECT c.oid
           FROM pg_catalog.pg_class AS c
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = $1::text
            AND c.relname = $2::text",
        &[schema.into(), name.into()],
    )
}

/// `schema.name`, quoted where needed, of a relation.
pub fn name_of(client: &SpiClient<'_>, relation: pg_sys::Oid) -> Outcome<Option<String>> {
    value(
        client,
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
           FROM pg_catalog.pg_class AS c
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE c.oid = $1",
        &[relation.into()],
    )
}

/// Whether the current role has a privilege on a table.
pub fn has_table_privilege(
    client: &SpiClient<'_>,
    table: pg_sys::Oid,
    privilege: &str,
) -> Outcome<bool> {
    Ok(value(
        client,
        "SELECT pg_catalog.has_table_privilege($1::oid, $2::text)",
        &[table.into(), privilege.into()],
    )?
    .unwrap_or(false))
}

/// Whether the current role owns the relation, directly or through membership.
pub fn owns(client: &SpiClient<'_>, relation: pg_sys::Oid) -> Outcome<bool> {
    Ok(value(
        client,
        "SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE')
           FROM pg_catalog.pg_class AS c
          WHERE c.oid = $1",
        &[relation.into()],
    )?
    .unwrap_or(false))
}

/// The schema and the name of `schema.name`. Only for names that this library itself writes.
pub fn split(relation: &str) -> (&str, &str) {
    relation.split_once('.').unwrap_or(("public", relation))
}
