//! The tables of this database and how they refer to each other, read from the catalog.

use crate::error::Outcome;
use crate::schema::database::query;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

/// A table. A partitioned one stands for its partitions.
pub struct Table {
    /// Which.
    pub oid: pg_sys::Oid,
    /// `schema.table`, quoted where needed.
    pub name: String,
    /// The uuid column by which a policy binds its rows to a workspace, else `workspace_id`; quoted.
    pub workspace_column: Option<String>,
    /// The uuid column by which a policy of `codex.protect()` binds its rows to a user; quoted.
    pub user_column: Option<String>,
    /// Whether row-level security hides rows from the current role.
    pub filtered: bool,
    /// Whether all its policies are those of `codex.protect()`, so that what they hide is known.
    pub ours_alone: bool,
    /// The columns that are stored, where others are computed from them; empty where all are.
    pub stored: Vec<String>,
    /// Whether a statement on it has to leave out the tables that inherit from it: these stand for themselves.
    plain: bool,
}

impl Table {
    /// The table as FROM, UPDATE and DELETE FROM take it.
    pub fn only(&self) -> String {
        format!("{}{}", if self.plain { "ONLY " } else { "" }, self.name)
    }
}

/// A foreign key.
pub struct ForeignKey {
    /// Its name, quoted.
    pub name: String,
    /// The table that refers, by its place in [`Catalog::tables`].
    pub child: usize,
    /// The table that is referred to.
    pub parent: usize,
    /// The columns that refer, quoted.
    pub columns: Vec<String>,
    /// The columns that they refer to, quoted.
    pub refers_to: Vec<String>,
    /// Those of the referring columns that may be NULL.
    pub nullable: Vec<String>,
    on_delete: String,
}

impl ForeignKey {
    /// Whether a row goes with the row that it refers to: its foreign key says CASCADE, or it cannot be without.
    pub fn goes_along(&self) -> bool {
        self.on_delete == "c" || self.nullable.is_empty()
    }

    /// Whether Postgres itself sees to the row when the one that it refers to is deleted.
    pub fn is_seen_to(&self) -> bool {
        matches!(self.on_delete.as_str(), "c" | "n" | "d")
    }
}

/// What is in this database.
pub struct Catalog {
    /// The tables, ordered by name. Without those of the system and of extensions, temporary ones, and partitions.
    pub tables: Vec<Table>,
    /// The foreign keys between them.
    pub foreign_keys: Vec<ForeignKey>,
}

impl Catalog {
    /// Reads it.
    pub fn read(client: &SpiClient<'_>) -> Outcome<Self> {
        let tables = query(client, TABLES, &[], |row| {
            Ok(Table {
                oid: row.get(1)?.unwrap_or(pg_sys::InvalidOid),
                name: row.get(2)?.unwrap_or_default(),
                plain: row.get(3)?.unwrap_or_default(),
                filtered: row.get(4)?.unwrap_or(true),
                ours_alone: row.get(5)?.unwrap_or_default(),
                workspace_column: row.get(6)?,
                user_column: row.get(7)?,
                stored: row.get(8)?.unwrap_or_default(),
            })
        })?;
        let place = |oid: Option<pg_sys::Oid>| tables.iter().position(|t| Some(t.oid) == oid);
        let foreign_keys = query(client, FOREIGN_KEYS, &[], |row| {
            let (Some(child), Some(parent)) = (place(row.get(2)?), place(row.get(3)?)) else {
                return Ok(None);
            };
            Ok(Some(ForeignKey {
                name: row.get(1)?.unwrap_or_default(),
                child,
                parent,
                on_delete: row.get(4)?.unwrap_or_default(),
                columns: row.get(5)?.unwrap_or_default(),
                refers_to: row.get(6)?.unwrap_or_default(),
                nullable: row.get(7)?.unwrap_or_default(),
            }))
        })?;
        Ok(Self {
            tables,
            foreign_keys: foreign_keys.into_iter().flatten().collect(),
        })
    }

    /// The place of a table.
    pub fn place_of(&self, oid: pg_sys::Oid) -> Option<usize> {
        self.tables.iter().position(|table| table.oid == oid)
    }
}

const TABLES: &str = "
SELECT c.oid,
    pg_catalog.format('%I.%I', n.nspname, c.relname),
    c.relkind = 'r',
    pg_catalog.row_security_active(c.oid),
    NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_policy AS p
        WHERE p.polrelid = c.oid
            AND p.polname::text !~ '_(workspace_isolation|own_access|shared_read)$'
    ),
    coalesce(
        (
            SELECT min(pg_catalog.quote_ident(a.attname))
            FROM pg_catalog.pg_policy AS p
                JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_policy'::regclass
                    AND d.objid = p.oid
                    AND d.refclassid = 'pg_catalog.pg_class'::regclass
                    AND d.refobjid = c.oid
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
                    AND a.attnum = d.refobjsubid
                    AND a.atttypid = 'uuid'::regtype
            WHERE p.polrelid = c.oid
                AND p.polpermissive
                AND pg_catalog.pg_get_expr(p.polqual, p.polrelid) LIKE '%codex.current_workspace_id()%'
            HAVING count(DISTINCT a.attnum) = 1
        ),
        (
            SELECT pg_catalog.quote_ident(a.attname)
            FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = c.oid
                AND a.attname = 'workspace_id'
                AND a.atttypid = 'uuid'::regtype
                AND NOT a.attisdropped
        )
    ),
    (
        SELECT min(pg_catalog.quote_ident(a.attname))
        FROM pg_catalog.pg_policy AS p
            JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_policy'::regclass
                AND d.objid = p.oid
                AND d.refclassid = 'pg_catalog.pg_class'::regclass
                AND d.refobjid = c.oid
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid
                AND a.attnum = d.refobjsubid
                AND a.atttypid = 'uuid'::regtype
        WHERE p.polrelid = c.oid
            AND NOT p.polpermissive
            AND p.polname::text LIKE '%\\_own\\_access'
        HAVING count(DISTINCT a.attnum) = 1
    ),
    CASE
        WHEN EXISTS (
            SELECT
            FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = c.oid
                AND NOT a.attisdropped
                AND a.attgenerated <> ''
        )
        THEN ARRAY(
            SELECT pg_catalog.quote_ident(a.attname)
            FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = c.oid
                AND a.attnum > 0
                AND NOT a.attisdropped
                AND a.attgenerated = ''
            ORDER BY a.attnum
        )
    END
FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p')
    AND NOT c.relispartition
    AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND n.nspname !~ '^pg_(toast|temp)'
    AND NOT EXISTS (
        SELECT
        FROM pg_catalog.pg_depend AS d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass
            AND d.objid = c.oid
            AND d.deptype = 'e'
    )
ORDER BY n.nspname, c.relname";

const FOREIGN_KEYS: &str = "
SELECT pg_catalog.quote_ident(k.conname),
    k.conrelid,
    k.confrelid,
    k.confdeltype::text,
    ARRAY(
        SELECT pg_catalog.quote_ident(a.attname)
        FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (number, place)
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid
                AND a.attnum = u.number
        ORDER BY u.place
    ),
    ARRAY(
        SELECT pg_catalog.quote_ident(a.attname)
        FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u (number, place)
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.confrelid
                AND a.attnum = u.number
        ORDER BY u.place
    ),
    ARRAY(
        SELECT pg_catalog.quote_ident(a.attname)
        FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (number, place)
            JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid
                AND a.attnum = u.number
        WHERE NOT a.attnotnull
        ORDER BY u.place
    )
FROM pg_catalog.pg_constraint AS k
WHERE k.contype = 'f'
    AND k.conparentid = 0
ORDER BY k.conrelid::regclass::text, k.conname";
