//! `codex.isolation_selftest()`: the attacks that a member of one workspace would try on another, tried here.
//!
//! Everything happens in a subtransaction that is rolled back: two workspaces, three users (two of them
//! neighbours in the first workspace), a row for each in every tenant table, a member role and a service role.
//! Then each verb is tried on each table, as each role, in the context of the first workspace.
//!
//! The rows are made from the catalogs, so that the application's own protected tables are tried as well: a
//! required column gets a value of its type that its CHECK allows, a reference gets a row of the same workspace.

use super::{ISOLATION, OWN_ACCESS, SHARED_READ, USER_OWNED, grants};
use crate::context::{membership, settings, transaction};
use crate::error::{CodexError, Outcome};
use crate::subtransaction::{Caught, rehearse};
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, quote_identifier, quote_literal};
use pgrx::{PgSqlErrorCode, Uuid};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;

/// A table under test.
struct Table {
    oid: pg_sys::Oid,
    schema: String,
    name: String,
    workspace_column: String,
    user_column: Option<String>,
    partition: bool,
}

/// What a try may end with.
#[derive(Clone, Copy)]
enum Expected {
    /// Rows of the own workspace: shows that the other tries could have found something.
    Rows,
    /// Nothing seen, nothing changed; a refusal is as good.
    NoRows,
    /// 42501.
    Refused,
    /// No more rows than the actor can see: for a statement without a condition, which needs no right to see
    /// the rows that it writes.
    AtMost(i64),
}

impl Expected {
    fn words(self) -> &'static str {
        match self {
            Self::Rows => "at least 1 row, or refused where nothing was granted",
            Self::NoRows => "0 rows, or refused",
            Self::Refused => "refused",
            Self::AtMost(_) => "no more rows than can be seen, or refused",
        }
    }
}

/// A row of the answer.
struct Try {
    table: String,
    role: &'static str,
    verb: &'static str,
    attempt: &'static str,
    expected: String,
    actual: String,
    /// How many rows were seen or changed.
    rows: i64,
    /// None: it could not be tried.
    passed: Option<bool>,
}

/// The people and places of the test.
struct Cast {
    here: Uuid,
    there: Uuid,
    user: Uuid,
    neighbour: Uuid,
    stranger: Uuid,
    member: pg_sys::Oid,
    service: pg_sys::Oid,
    member_name: String,
    service_name: String,
}

/// Tries to get from one workspace at another, on every protected table, and says how each try ended.
///
/// `role` is `member`, `service` or, where a row could not be made, empty; `verb` and `attempt` say what was
/// tried, `expected` and `actual` how it should and did end. No row with `passed` false: isolation holds. `passed` is
/// NULL where a table could not be tried, because no row could be made for it. Nothing stays:
/// rows, users, workspaces and roles of the test are rolled back. It takes a transaction id and, like any writer,
/// row locks on the tables while it runs.
///
/// To be run by a superuser, or by the owner of the tables with CREATEROLE (else 42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn isolation_selftest() -> TableIterator<
    'static,
    (
        name!(table_name, String),
        name!(role, String),
        name!(verb, String),
        name!(attempt, String),
        name!(expected, String),
        name!(actual, String),
        name!(passed, Option<bool>),
    ),
> {
    let tries = transaction::unsealed(|| rehearse(AssertUnwindSafe(run)))
        .unwrap_or_else(|caught| caught.rethrow());
    TableIterator::new(tries.into_iter().map(|one| {
        (
            one.table,
            one.role.to_string(),
            one.verb.to_string(),
            one.attempt.to_string(),
            one.expected,
            one.actual,
            one.passed,
        )
    }))
}

fn run() -> Outcome<Vec<Try>> {
    Spi::connect_mut(|client| {
        crate::statement::refuse_on_a_standby();
        client.update(
            "SELECT pg_catalog.set_config('request.jwt.claims', '', true)",
            None,
            &[],
        )?;
        enter(None, None);
        let cast = make_cast(client)?;
        let tables = tables(client)?;
        let mut maker = RowMaker::new(&cast);
        let mut tries = Vec::new();
        maker.make_people(client)?;
        let mut ready = Vec::new();
        for table in &tables {
            match maker.make_rows(client, table) {
                Ok(rows) => ready.push((table, rows)),
                Err(caught) => tries.push(Try {
                    table: table.name.clone(),
                    role: "",
                    verb: "INSERT",
                    attempt: "make a row to try on",
                    expected: "a row".into(),
                    actual: format!("not tried: {}", caught.message()),
                    rows: 0,
                    passed: None,
                }),
            }
        }
        for (table, rows) in &ready {
            if !grants::has_rule(&table.name) {
                let roles = format!("{}, {}", cast.member_name, cast.service_name);
                // The application's own table: only the policies are to stand in the way.
                client.update(
                    &format!(
                        "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {} TO {roles}",
                        table.name
                    ),
                    None,
                    &[],
                )?;
                client.update(
                    &format!("GRANT USAGE ON SCHEMA {} TO {roles}", table.schema),
                    None,
                    &[],
                )?;
            }
            try_table(client, &cast, table, rows, &mut tries)?;
        }
        for table in shared_tables(client)? {
            try_shared_table(&cast, &table, &mut tries);
        }
        tries.sort_by(|a, b| a.table.cmp(&b.table));
        Ok(tries)
    })
}

fn failure(caught: &Caught) -> String {
    format!("refused: {}", caught.message())
}

fn counted(rows: i64) -> String {
    if rows == 1 {
        "1 row".to_string()
    } else {
        format!("{rows} rows")
    }
}

/// Sets the context of this transaction, as a client with SET LOCAL would.
fn enter(workspace: Option<Uuid>, user: Option<Uuid>) {
    settings::WORKSPACE.set_local(workspace);
    settings::USER.set_local(user);
}

fn new_uuid() -> Uuid {
    Uuid::from_bytes(*uuid::Uuid::now_v7().as_bytes())
}

fn make_cast(client: &mut SpiClient<'_>) -> Outcome<Cast> {
    let mut role = |service: bool| -> Outcome<(pg_sys::Oid, String)> {
        let name = format!(
            "codex_selftest_{}_{}",
            if service { "service" } else { "member" },
            uuid::Uuid::now_v7().simple()
        );
        client.update(
            &format!("CREATE ROLE {}", quote_identifier(&name)),
            None,
            &[],
        )?;
        grants::give_by_name(client, &name, service)?;
        let oid = client
            .select(
                "SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = $1::name",
                Some(1),
                &[name.as_str().into()],
            )?
            .next()
            .map(|row| row.get::<pg_sys::Oid>(1))
            .transpose()?
            .flatten()
            .ok_or_else(|| CodexError::wrong_state(format!("role {name} went away")))?;
        Ok((oid, quote_identifier(&name)))
    };
    let (member, member_name) = role(false)?;
    let (service, service_name) = role(true)?;
    Ok(Cast {
        here: new_uuid(),
        there: new_uuid(),
        user: new_uuid(),
        neighbour: new_uuid(),
        stranger: new_uuid(),
        member,
        service,
        member_name,
        service_name,
    })
}

/// The tables with a policy of `codex.protect()`, and what the policies say about their columns.
fn tables(client: &SpiClient<'_>) -> Outcome<Vec<Table>> {
    client
        .select(
            &format!(
                "SELECT c.oid,
                     pg_catalog.format('%I.%I', n.nspname, c.relname),
                     (pg_catalog.regexp_match(pg_catalog.pg_get_expr(p.polqual, c.oid), '^[(]\"?(.+?)\"? = '))[1],
                     (
                         SELECT coalesce(m.found[1], m.found[2])
                         FROM pg_catalog.pg_policy AS o
                             CROSS JOIN LATERAL pg_catalog.regexp_match(pg_catalog.pg_get_expr(o.polqual, c.oid), '(?:\"([^\"]+)\"|([^( \"]+)) = [(]? ?(?:SELECT )?codex[.]current_user_id') AS m (found)
                         WHERE o.polrelid = c.oid
                             AND o.polname::text LIKE '%{}'
                     ),
                     c.relispartition,
                     pg_catalog.quote_ident(n.nspname)
                 FROM pg_catalog.pg_policy AS p
                     JOIN pg_catalog.pg_class AS c ON c.oid = p.polrelid
                     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE p.polname::text LIKE '%{}'
                 ORDER BY c.relispartition, n.nspname, c.relname",
                OWN_ACCESS.replace('_', "\\_"),
                ISOLATION.replace('_', "\\_"),
            ),
            None,
            &[],
        )?
        .map(|row| {
            let name = row.get::<String>(2)?.unwrap_or_default();
            // Of our own tables we know it, also when the policy is gone.
            let known = USER_OWNED
                .contains(&name.as_str())
                .then(|| "user_id".to_string());
            Ok(Table {
                oid: row.get::<pg_sys::Oid>(1)?.unwrap_or(pg_sys::InvalidOid),
                workspace_column: row
                    .get::<String>(3)?
                    .unwrap_or_else(|| "workspace_id".to_string()),
                user_column: row.get::<String>(4)?.or(known),
                name,
                partition: row.get::<bool>(5)?.unwrap_or(false),
                schema: row.get::<String>(6)?.unwrap_or_default(),
            })
        })
        .collect()
}

fn shared_tables(client: &SpiClient<'_>) -> Outcome<Vec<String>> {
    client
        .select(
            &format!(
                "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
                 FROM pg_catalog.pg_policy AS p
                     JOIN pg_catalog.pg_class AS c ON c.oid = p.polrelid
                     JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE p.polname::text LIKE '%{}'
                 ORDER BY 1",
                SHARED_READ.replace('_', "\\_"),
            ),
            None,
            &[],
        )?
        .map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()))
        .collect()
}

// ---------------------------------------------------------------------------------------------------------
// Rows
// ---------------------------------------------------------------------------------------------------------

type Row = Map<String, Value>;

/// Makes rows in the two workspaces.
struct RowMaker<'a> {
    cast: &'a Cast,
    workspaces: Option<pg_sys::Oid>,
    users: Option<pg_sys::Oid>,
    made: HashMap<(pg_sys::Oid, Uuid), Row>,
}

/// A column that a row must give a value to.
struct Column {
    name: String,
    kind: String,
    category: String,
    allowed: Option<String>,
    needed: bool,
    /// Computed by Postgres: nobody can give it a value.
    generated: bool,
}

/// A foreign key: the parent, and pairs of own and parent's column.
struct Reference {
    parent: pg_sys::Oid,
    columns: Vec<(String, String)>,
}

impl Reference {
    /// Whether a row has to give a value to a column of it.
    fn is_needed(&self, columns: &[Column]) -> bool {
        self.columns.iter().any(|(own, _)| {
            columns
                .iter()
                .any(|column| column.name == *own && column.needed)
        })
    }
}

impl<'a> RowMaker<'a> {
    fn new(cast: &'a Cast) -> Self {
        Self {
            cast,
            workspaces: membership::table_named(c"public", c"workspaces"),
            users: None,
            made: HashMap::new(),
        }
    }

    /// The two workspaces, the three users, and who is a member of what.
    fn make_people(&mut self, client: &mut SpiClient<'_>) -> Outcome<()> {
        let Some(members) = membership::table() else {
            return Err(CodexError::wrong_state(
                "there is no membership table: public.workspace_members or public.user_workspaces",
            ));
        };
        let references = references(client, members)?;
        self.users = references
            .iter()
            .find(|reference| reference.columns.iter().any(|(own, _)| own == "user_id"))
            .map(|reference| reference.parent);
        let cast = self.cast;
        // A workspace may have to name its owner.
        let owned = match self.workspaces {
            Some(workspaces) => self.has_to_name_a_user(client, workspaces)?,
            None => false,
        };
        if owned {
            self.make_users(client)?;
        }
        if let Some(workspaces) = self.workspaces {
            for (workspace, owner) in [(cast.here, cast.user), (cast.there, cast.stranger)] {
                self.insert(client, workspaces, workspace, owner, &[("id", workspace)])?;
            }
        }
        if !owned {
            self.make_users(client)?;
        }
        for (workspace, user) in [
            (cast.here, cast.user),
            (cast.here, cast.neighbour),
            (cast.there, cast.stranger),
        ] {
            self.insert(
                client,
                members,
                workspace,
                user,
                &[("workspace_id", workspace), ("user_id", user)],
            )?;
        }
        Ok(())
    }

    fn make_users(&mut self, client: &mut SpiClient<'_>) -> Outcome<()> {
        if let Some(users) = self.users {
            let cast = self.cast;
            for user in [cast.user, cast.neighbour, cast.stranger] {
                self.insert(client, users, cast.here, user, &[("id", user)])?;
            }
        }
        Ok(())
    }

    /// Whether a row of the table cannot be without a row of the table of users.
    fn has_to_name_a_user(&self, client: &SpiClient<'_>, table: pg_sys::Oid) -> Outcome<bool> {
        let columns = columns(client, table)?;
        Ok(references(client, table)?
            .iter()
            .any(|reference| Some(reference.parent) == self.users && reference.is_needed(&columns)))
    }

    /// A row here and a row there; on a user-owned table also the neighbour's, and the user's own one there.
    fn make_rows(
        &mut self,
        client: &mut SpiClient<'_>,
        table: &Table,
    ) -> Result<Option<Row>, Caught> {
        if table.partition || Some(table.oid) == self.workspaces {
            return Ok(None);
        }
        let cast = self.cast;
        let mut foreign = None;
        let places: &[(Uuid, Uuid)] = if table.user_column.is_some() {
            &[
                (cast.here, cast.user),
                (cast.here, cast.neighbour),
                (cast.there, cast.user),
                (cast.there, cast.stranger),
            ]
        } else {
            &[(cast.here, cast.user), (cast.there, cast.stranger)]
        };
        for (workspace, user) in places {
            let mut fixed = vec![(table.workspace_column.as_str(), *workspace)];
            if let Some(column) = &table.user_column {
                fixed.push((column.as_str(), *user));
            }
            // What was made for somebody else's reference will do.
            let there_already = table.user_column.is_none()
                && (self.made.contains_key(&(table.oid, *workspace))
                    || Some(table.oid) == membership::table());
            let row = if there_already {
                self.made.get(&(table.oid, *workspace)).cloned()
            } else {
                // Rows that it refers to are made along the way, and are gone again when it cannot be made.
                let made = self.made.clone();
                let kept = keep(|| self.insert(client, table.oid, *workspace, *user, &fixed));
                if kept.is_err() {
                    self.made = made;
                }
                Some(kept?)
            };
            if *workspace == cast.there {
                foreign = row;
            }
        }
        Ok(foreign)
    }

    /// Inserts a row into a table, with these columns fixed and all that is required made up.
    fn insert(
        &mut self,
        client: &mut SpiClient<'_>,
        table: pg_sys::Oid,
        workspace: Uuid,
        user: Uuid,
        fixed: &[(&str, Uuid)],
    ) -> Outcome<Row> {
        let mut values: Vec<(String, String)> = fixed
            .iter()
            .map(|(column, value)| ((*column).to_string(), quote_literal(value.to_string())))
            .collect();
        let columns = columns(client, table)?;
        for reference in references(client, table)? {
            let needed = reference.is_needed(&columns)
                && reference
                    .columns
                    .iter()
                    .any(|(own, _)| !values.iter().any(|(column, _)| column == own));
            if !needed {
                continue;
            }
            let parent = self.parent_row(client, reference.parent, workspace, user)?;
            for (own, theirs) in &reference.columns {
                if values.iter().any(|(column, _)| column == own) {
                    continue;
                }
                if let Some(value) = parent.get(theirs) {
                    let text = match value {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    values.push((own.clone(), quote_literal(text)));
                }
            }
        }
        for column in &columns {
            if column.needed && !values.iter().any(|(name, _)| *name == column.name) {
                let value = if column.name == "workspace_id" {
                    quote_literal(workspace.to_string())
                } else {
                    column.made_up()
                };
                values.push((column.name.clone(), value));
            }
        }
        let name = name_of(client, table)?;
        let list = |part: fn(&(String, String)) -> String| {
            values.iter().map(part).collect::<Vec<_>>().join(", ")
        };
        let row = client
            .update(
                &format!(
                    "INSERT INTO {name} AS new_row ({}) VALUES ({}) RETURNING pg_catalog.to_jsonb(new_row)::text",
                    list(|(column, _)| quote_identifier(column)),
                    list(|(_, value)| value.clone()),
                ),
                None,
                &[],
            )?
            .next()
            .map(|row| row.get::<String>(1))
            .transpose()?
            .flatten()
            .unwrap_or_default();
        let mut row: Row = serde_json::from_str(&row).map_err(|error| {
            CodexError::wrong_state(format!("the new row of {name} cannot be read: {error}"))
        })?;
        // A copy of the row would be refused for these, and not for its workspace.
        for column in columns.iter().filter(|column| column.generated) {
            row.remove(&column.name);
        }
        self.made
            .entry((table, workspace))
            .or_insert_with(|| row.clone());
        Ok(row)
    }

    fn parent_row(
        &mut self,
        client: &mut SpiClient<'_>,
        parent: pg_sys::Oid,
        workspace: Uuid,
        user: Uuid,
    ) -> Outcome<Row> {
        let id = |id: Uuid| Row::from_iter([("id".to_string(), Value::String(id.to_string()))]);
        if Some(parent) == self.workspaces {
            return Ok(id(workspace));
        }
        if Some(parent) == self.users {
            return Ok(id(user));
        }
        if let Some(row) = self.made.get(&(parent, workspace)) {
            return Ok(row.clone());
        }
        self.insert(client, parent, workspace, user, &[])
    }
}

impl Column {
    /// A value of the column's type, as an expression.
    fn made_up(&self) -> String {
        if let Some(allowed) = &self.allowed {
            return quote_literal(allowed);
        }
        let unique = uuid::Uuid::now_v7();
        let text = match self.category.as_str() {
            "B" => "false".to_string(),
            "N" => "1".to_string(),
            "D" => return format!("pg_catalog.now()::{}", self.kind),
            "T" => "1 day".to_string(),
            "A" => "{}".to_string(),
            "I" => "127.0.0.1".to_string(),
            "V" => "0".to_string(),
            "E" => {
                return format!("(pg_catalog.enum_range(NULL::{}))[1]", self.kind);
            }
            _ => match self.kind.as_str() {
                "uuid" => unique.to_string(),
                "json" | "jsonb" => "{}".to_string(),
                "bytea" => String::new(),
                _ => format!("selftest {unique}"),
            },
        };
        format!("{}::{}", quote_literal(text), self.kind)
    }
}

fn columns(client: &SpiClient<'_>, table: pg_sys::Oid) -> Outcome<Vec<Column>> {
    client
        .select(
            "SELECT a.attname::text,
                 pg_catalog.format_type(a.atttypid, a.atttypmod),
                 t.typcategory::text,
                 (
                     SELECT (pg_catalog.regexp_match(pg_catalog.pg_get_constraintdef(k.oid), 'ARRAY[[]''((?:[^'']|'''')*)'''))[1]
                     FROM pg_catalog.pg_constraint AS k
                     WHERE k.conrelid = a.attrelid
                         AND k.contype = 'c'
                         AND k.conkey = ARRAY[a.attnum]
                         AND pg_catalog.pg_get_constraintdef(k.oid) LIKE '%= ANY%'
                     LIMIT 1
                 ),
                 a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND a.attgenerated = '',
                 a.attgenerated <> ''
             FROM pg_catalog.pg_attribute AS a
                 JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
             WHERE a.attrelid = $1
                 AND a.attnum > 0
                 AND NOT a.attisdropped
             ORDER BY a.attnum",
            None,
            &[table.into()],
        )?
        .map(|row| {
            Ok(Column {
                name: row.get::<String>(1)?.unwrap_or_default(),
                kind: row.get::<String>(2)?.unwrap_or_default(),
                category: row.get::<String>(3)?.unwrap_or_default(),
                allowed: row.get::<String>(4)?,
                needed: row.get::<bool>(5)?.unwrap_or(false),
                generated: row.get::<bool>(6)?.unwrap_or(false),
            })
        })
        .collect()
}

fn references(client: &SpiClient<'_>, table: pg_sys::Oid) -> Outcome<Vec<Reference>> {
    client
        .select(
            "SELECT k.confrelid,
                 pg_catalog.array_agg(o.attname::text ORDER BY x.position),
                 pg_catalog.array_agg(p.attname::text ORDER BY x.position)
             FROM pg_catalog.pg_constraint AS k
                 CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey)) WITH ORDINALITY AS x (own, theirs, position)
                 JOIN pg_catalog.pg_attribute AS o ON o.attrelid = k.conrelid AND o.attnum = x.own
                 JOIN pg_catalog.pg_attribute AS p ON p.attrelid = k.confrelid AND p.attnum = x.theirs
             WHERE k.conrelid = $1
                 AND k.contype = 'f'
                 AND k.confrelid <> k.conrelid
             GROUP BY k.oid, k.confrelid
             ORDER BY k.oid",
            None,
            &[table.into()],
        )?
        .map(|row| {
            let own = row.get::<Vec<String>>(2)?.unwrap_or_default();
            let theirs = row.get::<Vec<String>>(3)?.unwrap_or_default();
            Ok(Reference {
                parent: row.get::<pg_sys::Oid>(1)?.unwrap_or(pg_sys::InvalidOid),
                columns: own.into_iter().zip(theirs).collect(),
            })
        })
        .collect()
}

fn name_of(client: &SpiClient<'_>, table: pg_sys::Oid) -> Outcome<String> {
    Ok(client
        .select(
            "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
             FROM pg_catalog.pg_class AS c
                 JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             WHERE c.oid = $1",
            Some(1),
            &[table.into()],
        )?
        .next()
        .map(|row| row.get::<String>(1))
        .transpose()?
        .flatten()
        .unwrap_or_default())
}

/// Work that stays unless it fails.
fn keep<T>(work: impl FnOnce() -> Outcome<T>) -> Result<T, Caught> {
    crate::subtransaction::subtransaction(AssertUnwindSafe(work))
}

// ---------------------------------------------------------------------------------------------------------
// Tries
// ---------------------------------------------------------------------------------------------------------

/// The current role for the time of a try; the one before comes back when it ends, however it ends.
struct Acting {
    before: pg_sys::Oid,
    context: i32,
}

impl Acting {
    fn as_role(role: pg_sys::Oid) -> Self {
        let mut before = pg_sys::InvalidOid;
        let mut context = 0;
        // SAFETY: reads and writes the current role of this backend; `drop` sets it back, and so does the
        // rollback of the subtransaction in which every try runs.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before, &mut context);
            pg_sys::SetUserIdAndSecContext(
                role,
                context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32,
            );
        }
        Self { before, context }
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        // SAFETY: what `as_role` found.
        unsafe { pg_sys::SetUserIdAndSecContext(self.before, self.context) };
    }
}

/// Who tries, in which context.
struct Actor {
    words: &'static str,
    role: pg_sys::Oid,
    workspace: Option<Uuid>,
    user: Option<Uuid>,
}

/// Runs a statement as the actor, rolls it back, and says how it ended.
fn attempt(
    actor: &Actor,
    table: &str,
    verb: &'static str,
    attempt: &'static str,
    expected: Expected,
    sql: &str,
) -> Try {
    let ended = transaction::unsealed(|| {
        rehearse(AssertUnwindSafe(|| {
            enter(actor.workspace, actor.user);
            let _acting = Acting::as_role(actor.role);
            Spi::connect_mut(|client| {
                crate::statement::refuse_on_a_standby();
                let mut rows = client.update(sql, None, &[])?;
                if verb == "SELECT" {
                    let count = rows.next().map(|row| row.get::<i64>(1)).transpose()?;
                    return Ok(count.flatten().unwrap_or(0));
                }
                Ok(i64::try_from(rows.len()).unwrap_or(i64::MAX))
            })
        }))
    });
    let (actual, passed) = match (&ended, expected) {
        (Ok(rows), Expected::Rows) => (counted(*rows), *rows > 0),
        (Ok(rows), Expected::NoRows) => (counted(*rows), *rows == 0),
        (Ok(rows), Expected::AtMost(most)) => (counted(*rows), *rows <= most),
        (Ok(rows), Expected::Refused) => (format!("allowed: {}", counted(*rows)), false),
        // A foreign key that keeps the rows where they are keeps everybody's.
        (Err(caught), Expected::AtMost(_))
            if caught.sqlstate() == PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION =>
        {
            (failure(caught), true)
        }
        (Err(caught), _) => (
            failure(caught),
            caught.sqlstate() == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        ),
    };
    Try {
        table: table.to_string(),
        role: actor.words,
        verb,
        attempt,
        expected: expected.words().to_string(),
        actual,
        rows: ended.as_ref().map_or(0, |rows| *rows),
        passed: Some(passed),
    }
}

fn try_table(
    client: &SpiClient<'_>,
    cast: &Cast,
    table: &Table,
    foreign: &Option<Row>,
    tries: &mut Vec<Try>,
) -> Outcome<()> {
    let member = Actor {
        words: "member",
        role: cast.member,
        workspace: Some(cast.here),
        user: Some(cast.user),
    };
    let service = Actor {
        words: "service",
        role: cast.service,
        workspace: Some(cast.here),
        user: None,
    };
    let nowhere = Actor {
        words: "member",
        role: cast.member,
        workspace: None,
        user: None,
    };
    let intruder = Actor {
        words: "member",
        role: cast.member,
        workspace: Some(cast.there),
        user: Some(cast.user),
    };
    let name = &table.name;
    let workspace = quote_identifier(&table.workspace_column);
    let here = quote_literal(cast.here.to_string());
    let there = quote_literal(cast.there.to_string());
    let count =
        |condition: &str| format!("SELECT pg_catalog.count(*) FROM {name} AS t WHERE {condition}");
    for actor in [&member, &service] {
        let column = updatable_column(client, table, actor.role)?;
        let set = |value: Option<&str>| match (value, &column) {
            (Some(value), _) => format!("{workspace} = {value}"),
            (None, Some(column)) => format!("{column} = {column}"),
            (None, None) => format!("{workspace} = {workspace}"),
        };
        let seen = attempt(
            actor,
            name,
            "SELECT",
            "all rows",
            Expected::Rows,
            &count("true"),
        )
        .rows;
        let mut go = |verb, words, expected, sql: &str| {
            tries.push(attempt(actor, name, verb, words, expected, sql));
        };
        if !table.partition {
            go(
                "SELECT",
                "rows of the own workspace",
                Expected::Rows,
                &count(&format!("{workspace} = {here}")),
            );
        }
        go(
            "SELECT",
            "rows of the other workspace, by its id",
            Expected::NoRows,
            &count(&format!("{workspace} = {there}")),
        );
        go(
            "SELECT",
            "rows of any other workspace",
            Expected::NoRows,
            &count(&format!("{workspace} IS DISTINCT FROM {here}")),
        );
        if let Some(row) = foreign {
            go(
                "INSERT",
                "a row into the other workspace",
                Expected::Refused,
                &copy_of(name, row),
            );
        }
        go(
            "UPDATE",
            "rows of the other workspace",
            Expected::NoRows,
            &format!(
                "UPDATE {name} AS t SET {} WHERE t.{workspace} = {there}",
                set(None)
            ),
        );
        // A partition may be empty, and the key of a workspace is its row.
        if !table.partition && Some(table.oid) != membership::table_named(c"public", c"workspaces")
        {
            go(
                "UPDATE",
                "move own rows into the other workspace",
                Expected::Refused,
                &format!(
                    "UPDATE {name} AS t SET {} WHERE t.{workspace} = {here}",
                    set(Some(&there))
                ),
            );
            go(
                "UPDATE",
                "move all rows into the other workspace, without a condition",
                Expected::Refused,
                &format!("UPDATE {name} SET {}", set(Some(&there))),
            );
        }
        go(
            "UPDATE",
            "all rows, without a condition",
            Expected::AtMost(seen),
            &format!("UPDATE {name} SET {}", set(None)),
        );
        go(
            "DELETE",
            "all rows, without a condition",
            Expected::AtMost(seen),
            &format!("DELETE FROM {name}"),
        );
        go(
            "DELETE",
            "rows of the other workspace",
            Expected::NoRows,
            &format!("DELETE FROM {name} AS t WHERE t.{workspace} = {there}"),
        );
        go(
            "MERGE",
            "delete rows of the other workspace",
            Expected::NoRows,
            &format!(
                "MERGE INTO {name} AS t USING (VALUES ({there}::uuid)) AS s (w) ON t.{workspace} = s.w WHEN MATCHED THEN DELETE"
            ),
        );
        go(
            "TRUNCATE",
            "the table",
            Expected::Refused,
            &format!("TRUNCATE {name}"),
        );
    }
    tries.push(attempt(
        &nowhere,
        name,
        "SELECT",
        "all rows, without a context",
        Expected::NoRows,
        &count("true"),
    ));
    tries.push(attempt(
        &intruder,
        name,
        "SELECT",
        "all rows, in a workspace the user is no member of",
        Expected::NoRows,
        &count("true"),
    ));
    if let Some(user) = &table.user_column {
        let user = quote_identifier(user);
        let neighbour = quote_literal(cast.neighbour.to_string());
        let me = quote_literal(cast.user.to_string());
        let column =
            updatable_column(client, table, cast.member)?.unwrap_or_else(|| workspace.clone());
        let mut go = |verb, words, expected, sql: &str| {
            tries.push(attempt(&member, name, verb, words, expected, sql));
        };
        go(
            "SELECT",
            "the neighbour's rows",
            Expected::NoRows,
            &count(&format!("{user} = {neighbour}")),
        );
        go(
            "SELECT",
            "own rows of another workspace",
            Expected::NoRows,
            &count(&format!("{user} = {me} AND {workspace} = {there}")),
        );
        go(
            "UPDATE",
            "the neighbour's rows",
            Expected::NoRows,
            &format!("UPDATE {name} AS t SET {column} = {column} WHERE t.{user} = {neighbour}"),
        );
        go(
            "DELETE",
            "the neighbour's rows",
            Expected::NoRows,
            &format!("DELETE FROM {name} AS t WHERE t.{user} = {neighbour}"),
        );
    }
    Ok(())
}

fn try_shared_table(cast: &Cast, name: &str, tries: &mut Vec<Try>) {
    for (words, role) in [("member", cast.member), ("service", cast.service)] {
        let actor = Actor {
            words,
            role,
            workspace: Some(cast.here),
            user: None,
        };
        for (verb, sql) in [
            ("INSERT", format!("INSERT INTO {name} DEFAULT VALUES")),
            ("DELETE", format!("DELETE FROM {name}")),
            ("TRUNCATE", format!("TRUNCATE {name}")),
        ] {
            tries.push(attempt(
                &actor,
                name,
                verb,
                "a table that all workspaces share",
                Expected::Refused,
                &sql,
            ));
        }
    }
}

/// A column that the role may update, for an UPDATE that could succeed.
fn updatable_column(
    client: &SpiClient<'_>,
    table: &Table,
    role: pg_sys::Oid,
) -> Outcome<Option<String>> {
    Ok(client
        .select(
            "SELECT pg_catalog.quote_ident(a.attname)
             FROM pg_catalog.pg_attribute AS a
             WHERE a.attrelid = $1
                 AND a.attnum > 0
                 AND NOT a.attisdropped
                 AND a.attidentity <> 'a'
                 AND a.attgenerated = ''
                 AND pg_catalog.has_column_privilege($2, a.attrelid, a.attnum, 'UPDATE')
             ORDER BY a.attnum
             LIMIT 1",
            Some(1),
            &[table.oid.into(), role.into()],
        )?
        .next()
        .map(|row| row.get::<String>(1))
        .transpose()?
        .flatten())
}

/// The statement that inserts a row like this one, under a new id.
fn copy_of(table: &str, row: &Row) -> String {
    let mut copy = row.clone();
    let has_uuid = copy
        .get("id")
        .and_then(Value::as_str)
        .is_some_and(|id| settings::parse_uuid(id.as_bytes()).is_some());
    if has_uuid {
        copy.insert("id".into(), Value::String(new_uuid().to_string()));
    }
    let columns = copy
        .keys()
        .map(quote_identifier)
        .collect::<Vec<_>>()
        .join(", ");
    format!(
        "INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM pg_catalog.jsonb_populate_record(NULL::{table}, {}::jsonb)",
        quote_literal(Value::Object(copy).to_string())
    )
}

extension_sql!(
    r#"
COMMENT ON FUNCTION isolation_selftest() IS
'Tries to get from one workspace at another on every protected table, as a member role and as a service role, with rows made for the purpose; a row a try, none with passed = false when isolation holds (NULL: no row could be made to try on). Everything is rolled back. To be run by a superuser, or by the owner of the tables with CREATEROLE (else 42501).';
"#,
    name = "comment_selftest",
    requires = [isolation_selftest]
);
