//! 010: the bookkeeping tables of schema `codex`, and the tables of the app that the Codex builds on.
//!
//! Where `public.workspaces`, a membership table, `public.cohorts`, `public.moves` or a table of users are
//! there already they are used as they are; the one thing added to them is a unique index on
//! `(workspace_id, id)` of `cohorts` and `moves`, which the composite foreign keys need. It is an index
//! and not a constraint, because an index is built while others read the table.

use super::database::{
    self, column_type, has_table_privilege, has_unique_key, oid_of, owns, table_exists,
};
use crate::error::{CodexError, Outcome};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

/// One text of the foundation.
pub struct Piece {
    /// The table it makes; for the bookkeeping, the first one.
    pub table: &'static str,
    /// Its text.
    pub sql: &'static str,
}

macro_rules! piece {
    ($table:literal, $file:literal) => {
        Piece {
            table: $table,
            sql: include_str!(concat!("../../sql/foundation/", $file, ".sql")),
        }
    };
}

/// The texts, in the order in which they run.
pub const PIECES: &[Piece] = &[
    piece!("codex.migrations", "bookkeeping"),
    piece!("public.users", "users"),
    piece!("public.workspaces", "workspaces"),
    piece!("public.workspace_members", "workspace_members"),
    piece!("public.cohorts", "cohorts"),
    piece!("public.moves", "moves"),
];

/// Tables of the app to which workspace tables refer by `(workspace_id, id)`.
const REFERENCED: &[&str] = &["public.cohorts", "public.moves"];

/// What this database has and lacks of the foundation.
pub struct Foundation {
    /// The table of users, quoted, as it is put into DDL.
    pub users: String,
    /// Its OID, unless it is to be made.
    users_oid: Option<pg_sys::Oid>,
    /// The pieces whose table is missing, in order.
    pub missing: Vec<&'static Piece>,
    /// Tables that were there and lack the key `(workspace_id, id)`.
    pub keyless: Vec<&'static str>,
    /// Every table that a migration has to lock against writes, foundation tables that exist.
    pub referenced: Vec<pg_sys::Oid>,
}

impl Foundation {
    /// Looks at the database. `users` is what the caller asked for, if anything.
    pub fn look(client: &SpiClient<'_>, users: Option<pg_sys::Oid>) -> Outcome<Self> {
        let users_oid = resolve_users(client, users)?;
        let users = match users_oid {
            Some(oid) => database::name_of(client, oid)?.ok_or_else(|| {
                CodexError::bad_value(format!("users: there is no table with OID {oid:?}"))
            })?,
            None => "public.users".to_string(),
        };
        let mut missing = Vec::new();
        for piece in PIECES {
            let there = match piece.table {
                "public.users" => users_oid.is_some(),
                "public.workspace_members" => {
                    table_exists(client, piece.table)?
                        || table_exists(client, "public.user_workspaces")?
                }
                table => table_exists(client, table)?,
            };
            if !there {
                missing.push(piece);
            }
        }
        let mut keyless = Vec::new();
        for table in REFERENCED {
            if table_exists(client, table)?
                && !has_unique_key(client, table, &["workspace_id", "id"])?
            {
                keyless.push(*table);
            }
        }
        let mut referenced: Vec<pg_sys::Oid> = users_oid.into_iter().collect();
        for table in ["public.workspaces", "public.cohorts", "public.moves"] {
            referenced.extend(oid_of(client, table)?);
        }
        referenced.sort_unstable_by_key(|oid| oid.to_u32());
        referenced.dedup();
        Ok(Self {
            users,
            users_oid,
            missing,
            keyless,
            referenced,
        })
    }

    /// Everything that keeps the Codex from being built on the tables that are there, a line each.
    pub fn obstacles(&self, client: &SpiClient<'_>) -> Outcome<Vec<String>> {
        let mut obstacles = Vec::new();
        for (schema, missing) in [
            ("codex", "GRANT CREATE, USAGE ON SCHEMA codex TO"),
            ("public", "GRANT CREATE, USAGE ON SCHEMA public TO"),
        ] {
            let may = database::value::<bool>(
                client,
                "SELECT pg_catalog.has_schema_privilege($1::text, 'CREATE')
                    AND pg_catalog.has_schema_privilege($1::text, 'USAGE')",
                &[schema.into()],
            )?;
            if may != Some(true) {
                let role: Option<String> = database::value(
                    client,
                    "SELECT pg_catalog.quote_ident(current_user::text)",
                    &[],
                )?;
                obstacles.push(format!(
                    "you may not create tables in schema {schema}: {missing} {}",
                    role.unwrap_or_default()
                ));
            }
        }
        let mut referenced = vec![self.users.as_str()];
        referenced.extend(["public.workspaces", "public.cohorts", "public.moves"]);
        for table in referenced {
            if self.missing.iter().any(|piece| piece.table == table) {
                if let Some(kind) = database::kind_of(client, table)? {
                    obstacles.push(format!(
                        "{table} has to be a table, but is {}",
                        match kind {
                            database::Kind::Table => "a table of another kind",
                            database::Kind::Other(name) => name,
                        }
                    ));
                }
                continue;
            }
            let Some(oid) = self.oid_in_ddl(client, table)? else {
                continue;
            };
            let (schema, _) = database::split(table);
            let may_use: Option<bool> = database::value(
                client,
                "SELECT pg_catalog.has_schema_privilege($1::text, 'USAGE')",
                &[unquote(schema).into()],
            )?;
            if may_use != Some(true) {
                obstacles.push(format!(
                    "you may not use schema {schema}: its owner runs GRANT USAGE ON SCHEMA {schema} TO your role"
                ));
            }
            if !has_table_privilege(client, oid, "REFERENCES")? {
                obstacles.push(format!(
                    "you may not refer to {table}: its owner runs GRANT REFERENCES ON {table} TO your role"
                ));
            }
            let (schema, name) = database::split(table);
            let plain = format!("{}.{}", unquote(schema), unquote(name));
            match column_type(client, &plain, "id")?.as_deref() {
                Some("uuid") => {
                    if !has_unique_key(client, &plain, &["id"])? {
                        obstacles.push(format!("{table} (id) is neither a primary key nor unique"));
                    }
                }
                Some(other) => obstacles.push(format!("{table}.id is of type {other}, not uuid")),
                None => obstacles.push(format!("{table} has no column id")),
            }
            if REFERENCED.contains(&table) {
                match column_type(client, &plain, "workspace_id")?.as_deref() {
                    Some("uuid") => {}
                    Some(other) => {
                        obstacles
                            .push(format!("{table}.workspace_id is of type {other}, not uuid"));
                    }
                    None => obstacles.push(format!("{table} has no column workspace_id")),
                }
            }
        }
        for table in &self.keyless {
            let owned = match oid_of(client, table)? {
                Some(oid) => owns(client, oid)?,
                None => false,
            };
            if !owned {
                obstacles.push(format!(
                    "{table} needs a unique key and is not yours: its owner runs CREATE UNIQUE INDEX CONCURRENTLY ON {table} (workspace_id, id)"
                ));
            }
        }
        Ok(obstacles)
    }

    /// The keys that large tables need before anything is built on them, a line each with the statement.
    pub fn keys_to_build_first(&self, client: &SpiClient<'_>) -> Outcome<Vec<String>> {
        let mut keys = Vec::new();
        for table in &self.keyless {
            if super::adopt::is_large(client, table)? {
                keys.push(format!(
                    "{table} is large and needs a unique key; build it first, which holds nobody up: CREATE UNIQUE INDEX CONCURRENTLY ON {table} (workspace_id, id);"
                ));
            }
        }
        Ok(keys)
    }

    /// The OID of the table of users, or of a foundation table.
    fn oid_in_ddl(&self, client: &SpiClient<'_>, table: &str) -> Outcome<Option<pg_sys::Oid>> {
        if table == self.users {
            Ok(self.users_oid)
        } else {
            oid_of(client, table)
        }
    }

    /// The text that makes what is missing in this database.
    pub fn up_text(&self) -> String {
        let mut text = String::new();
        for piece in &self.missing {
            text.push_str(&self.fill_in(piece.sql));
            text.push('\n');
        }
        for table in &self.keyless {
            text.push_str(&key_text(table));
        }
        text
    }

    /// A migration's text with the table of users filled in.
    pub fn fill_in(&self, text: &str) -> String {
        fill_in_users(text, &self.users)
    }

    /// What making it will do, in words, a line each.
    pub fn in_words(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self
            .missing
            .iter()
            .any(|piece| piece.table == "codex.migrations")
        {
            lines.push(
                "makes the ledger codex.migrations and the list of roles codex.roles".to_string(),
            );
        }
        let made: Vec<&str> = self
            .missing
            .iter()
            .map(|piece| piece.table)
            .filter(|table| *table != "codex.migrations")
            .collect();
        if !made.is_empty() {
            lines.push(format!(
                "makes what this database does not have: {}",
                made.join(", ")
            ));
        }
        for table in &self.keyless {
            lines.push(format!(
                "adds a unique index on (workspace_id, id) to {table}"
            ));
        }
        lines.push(format!("users are the rows of {}", self.users));
        lines
    }
}

/// The statement that gives a table of the app the key that composite foreign keys refer to.
fn key_text(table: &str) -> String {
    let (_, name) = database::split(table);
    format!("CREATE UNIQUE INDEX {name}_workspace_id_id_key\n    ON {table} (workspace_id, id);\n")
}

/// Puts the table of users where a text says `:users`; the words `:users` in a comment line stay.
pub fn fill_in_users(text: &str, users: &str) -> String {
    let mut filled = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if line.trim_start().starts_with("--") {
            filled.push_str(line);
        } else {
            filled.push_str(&line.replace(":users", users));
        }
    }
    filled
}

fn unquote(name: &str) -> String {
    match name
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_string(),
    }
}

/// The table of users: the argument, else the one that an installed Codex refers to, else `auth.users`,
/// else `public.users`, else none.
fn resolve_users(
    client: &SpiClient<'_>,
    asked: Option<pg_sys::Oid>,
) -> Outcome<Option<pg_sys::Oid>> {
    let installed = installed_users(client)?;
    if let Some(asked) = asked {
        if let Some(installed) = installed
            && installed != asked
        {
            return Err(CodexError::wrong_state(format!(
                "the Codex in this database refers to {} as its table of users, not to {}",
                database::name_of(client, installed)?.unwrap_or_default(),
                database::name_of(client, asked)?.unwrap_or_else(|| format!("OID {}", asked.to_u32())),
            ))
            .with_hint("Leave the argument users away, or roll back first: SELECT * FROM codex.rollback(12)."));
        }
        if !matches!(table_kind(client, asked)?.as_deref(), Some("r" | "p")) {
            return Err(CodexError::bad_value(format!(
                "users: {} is not a table",
                database::name_of(client, asked)?
                    .unwrap_or_else(|| format!("OID {}", asked.to_u32()))
            ))
            .with_hint("Name the table that holds one row a user, with a uuid primary key id."));
        }
        return Ok(Some(asked));
    }
    if installed.is_some() {
        return Ok(installed);
    }
    for table in ["auth.users", "public.users"] {
        if table_exists(client, table)? {
            return oid_of(client, table);
        }
    }
    Ok(None)
}

fn table_kind(client: &SpiClient<'_>, relation: pg_sys::Oid) -> Outcome<Option<String>> {
    database::value(
        client,
        "SELECT c.relkind::text FROM pg_catalog.pg_class AS c WHERE c.oid = $1",
        &[relation.into()],
    )
}

/// The table that `created_by` of `public.positioning` refers to, the first foreign key to the users there is.
pub fn installed_users(client: &SpiClient<'_>) -> Outcome<Option<pg_sys::Oid>> {
    database::value(
        client,
        "SELECT k.confrelid
           FROM pg_catalog.pg_constraint AS k
           JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_attribute AS a
             ON a.attrelid = c.oid
            AND a.attnum = k.conkey[1]
          WHERE n.nspname = 'public'
            AND c.relname = 'positioning'
            AND a.attname = 'created_by'
            AND k.contype = 'f'
          LIMIT 1",
        &[],
    )
}

/// The foundation tables that `migrate()` made here itself: those that carry its comment.
pub fn made_here(client: &SpiClient<'_>) -> Outcome<Vec<String>> {
    database::query(
        client,
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
           FROM pg_catalog.pg_class AS c
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = 'public'
            AND c.relname IN ('users', 'workspaces', 'workspace_members', 'cohorts', 'moves')
            AND c.relkind = 'r'
            AND pg_catalog.obj_description(c.oid, 'pg_class') LIKE '%Made by codex.migrate()%'
          ORDER BY pg_catalog.array_position(
                       ARRAY['moves', 'cohorts', 'workspace_members', 'workspaces', 'users'], c.relname::text)",
        &[],
        |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
    )
}
