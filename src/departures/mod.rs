//! A person or a workspace leaves: everything of a workspace handed over, everything of it deleted, everything personal
//! of a user deleted, with a receipt.
//!
//! No list of tables stands here. What belongs to whom is read from the catalog at every call ([`plan`]), so that tables
//! of other migrations and of the application are covered the day they exist:
//!
//! | a row belongs to a workspace by | |
//! |---|---|
//! | the uuid column of its isolation policy, `codex.protect()` or written by hand | first |
//! | a uuid column `workspace_id` | else |
//! | a foreign key to `public.workspaces` that is NOT NULL or ON DELETE CASCADE | else |
//! | a foreign key of that kind to a row that belongs | for tables without any of these |
//!
//! | a row | when its user is erased |
//! |---|---|
//! | refers to the user by a foreign key with ON DELETE CASCADE, or cannot be without one (NOT NULL) | deleted |
//! | is the user's own by its policy (`user_column` of `codex.protect()`) and has no foreign key there | deleted |
//! | goes along with a deleted row, by a foreign key of those kinds | deleted |
//! | refers to the user by any other foreign key | stays, the reference becomes NULL: anonymised |
//!
//! So the foreign key of a table says what becomes of its rows: `ON DELETE CASCADE` for what is personal, a nullable column
//! with `ON DELETE SET NULL` for what the workspace keeps (who did it is forgotten, that it was done is not).
//!
//! Erasing is one transaction: all or nothing. It first locks the row of the workspace (or user), which waits for
//! writers that already refer to it, and makes later ones wait; they find it gone. A writer that holds one of the rows and
//! waits for that lock would be a deadlock: so the erasure does not wait long for a row, but lets go of everything and
//! begins anew a moment later, with the rows first and the workspace last, and so in turn. Where that does not help, it
//! waits, and begins anew after a deadlock. Run again, it finds nothing and says so.
//!
//! Tables that refuse DELETE and UPDATE by a trigger let an erasure through when that trigger asks [`erasing`] (in SQL:
//! `codex.is_erasing()`).

mod export;
mod plan;
mod tables;

use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::statement;
use crate::subtransaction::subtransaction;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use pgrx::{JsonB, Uuid};
use plan::{Link, Loosening, Plan, Subject};
use serde_json::{Value, json};
use std::cell::Cell;
use std::panic::AssertUnwindSafe;

/// How often an erasure begins anew that found a row locked for long.
const QUICK_TRIES: u32 = 60;
/// How often one that ran into a deadlock after that does.
const TRIES: u32 = 20;

/// In which order an erasure takes its locks, and how long it waits for one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The row of the workspace or user first, and then no long waiting for any other.
    RootFirst,
    /// The rows that are to be deleted first, as writers do who are all at the same one.
    RowsFirst,
    /// The row of the workspace or user first, and then as long as it takes.
    Patient,
}

impl Order {
    /// How long it waits for a lock, in milliseconds.
    fn wait(self) -> Option<u32> {
        match self {
            Self::RootFirst => Some(50),
            // A queue of writers is waited for; not as long as Postgres takes to look for deadlocks.
            Self::RowsFirst => Some(900),
            Self::Patient => None,
        }
    }
}

thread_local! {
    static ERASING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this session is inside `codex.erase_workspace()` or `codex.erase_user()`: for triggers of append-only tables.
pub fn erasing() -> bool {
    ERASING.get()
}

/// Marks this session as erasing while it lives.
struct Erasing;

impl Erasing {
    fn begin() -> Self {
        ERASING.set(true);
        Self
    }
}

impl Drop for Erasing {
    fn drop(&mut self) {
        ERASING.set(false);
    }
}

/// What was done to the rows of a table.
struct Counted {
    table: String,
    action: &'static str,
    rows: i64,
}

const DELETED: &str = "deleted";
const ANONYMISED: &str = "anonymised";
const LOOSENED: &str = "loosened";
const KEPT: &str = "kept";

type Receipt = TableIterator<
    'static,
    (
        name!(table_name, String),
        name!(action, String),
        name!(rows, i64),
    ),
>;

statement!(
    WRITE_RECEIPT(TEXT, UUID, INT8, INT8, JSONB) = "
INSERT INTO codex.departures (kind, subject, rows_deleted, rows_anonymised, counts)
VALUES ($1, $2, $3, $4, $5)"
);

/// Deletes every row of a workspace, in every table, and the workspace itself, in one transaction.
///
/// Gives a row a table: `deleted` and how many rows; `loosened` where rows that stay referred to rows that went, by a
/// foreign key that would have refused, and now refer to nothing. A receipt of it is kept in `codex.departures`. Run
/// again it finds nothing: all counts are 0, and no receipt is written.
///
/// Users are not touched; see `codex.erase_user()`. Tables that belong to a workspace without a foreign key to
/// `public.workspaces` cannot keep writers from adding rows later; run it again for those.
///
/// For the owner of the tables (or a superuser): refuses whoever row-level security hides rows from (42501), NULL (22004),
/// and any isolation level above READ COMMITTED (55000).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn erase_workspace(
    workspace: Option<Uuid>,
) -> TableIterator<
    'static,
    (
        name!(table_name, String),
        name!(action, String),
        name!(rows, i64),
    ),
> {
    let run = || {
        let workspace = required(workspace, "workspace")?;
        refuse_a_frozen_snapshot("codex.erase_workspace()")?;
        patiently(|client, order| {
            let plan = Plan::make(client, Subject::Workspace)?;
            refuse_what_hides_rows(&plan)?;
            lock_root(client, &plan, workspace, order)?;
            let mut counted = Vec::new();
            loosen(
                client,
                &plan,
                plan.loosen_before(),
                workspace,
                LOOSENED,
                &mut counted,
            )?;
            delete_members(client, &plan, workspace, &mut counted)?;
            delete_root(client, &plan, workspace, &mut counted)?;
            keep_receipt(client, "workspace", workspace, &counted)?;
            Ok(counted)
        })
    };
    receipt(run().or_raise())
}

/// Deletes what is personal of a user in all workspaces, and makes everything else forget who it was.
///
/// - `delete_user`: whether the row in the table of users goes as well. Without it (the default) that row is the
///   application's to delete, and until then others may write new rows for the user.
///
/// Gives a row a table: `deleted`, `anonymised` (the row stays, its references to the user are NULL), `loosened` (as in
/// `codex.erase_workspace()`), and `kept` for the user's own row when it was left. What happens to which table is told by
/// `codex.departure_plan()`. A receipt is kept in `codex.departures`. Run again it finds nothing.
///
/// Only references are found: a name or an address in a text is not.
///
/// For the owner of the tables (or a superuser): refuses whoever row-level security hides rows from (42501); a user
/// with whom a workspace would go, because its row cannot be without that user (55000); any isolation level above READ
/// COMMITTED (55000); NULL (22004).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn erase_user(
    user_id: Option<Uuid>,
    delete_user: default!(Option<bool>, false),
) -> TableIterator<
    'static,
    (
        name!(table_name, String),
        name!(action, String),
        name!(rows, i64),
    ),
> {
    let run = || {
        let user = required(user_id, "user_id")?;
        let delete_user = required(delete_user, "delete_user")?;
        refuse_a_frozen_snapshot("codex.erase_user()")?;
        patiently(|client, order| {
            let plan = Plan::make(client, Subject::User)?;
            refuse_what_hides_rows(&plan)?;
            let there = lock_root(client, &plan, user, order)?;
            refuse_an_owner(client, &plan, user)?;
            let mut counted = Vec::new();
            loosen(
                client,
                &plan,
                plan.loosen_before(),
                user,
                LOOSENED,
                &mut counted,
            )?;
            delete_members(client, &plan, user, &mut counted)?;
            loosen(
                client,
                &plan,
                plan.anonymise(),
                user,
                ANONYMISED,
                &mut counted,
            )?;
            if delete_user {
                delete_root(client, &plan, user, &mut counted)?;
            } else {
                counted.push(Counted {
                    table: plan.root().name.clone(),
                    action: KEPT,
                    rows: i64::from(there),
                });
            }
            keep_receipt(client, "user", user, &counted)?;
            Ok(counted)
        })
    };
    receipt(run().or_raise())
}

/// What would be handed over and erased, a row a table, in the order of an export (erasing goes backwards).
///
/// - `workspace_rows`: by what a row belongs to a workspace: a column, or the foreign key along which it goes. NULL: none do.
/// - `user_rows_deleted`: the same for a user. `user_references_nulled`: the columns that become NULL instead.
///
/// Changes nothing. For the owner of the tables.
#[pg_extern(stable, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn departure_plan() -> TableIterator<
    'static,
    (
        name!(place, i32),
        name!(table_name, String),
        name!(workspace_rows, Option<String>),
        name!(user_rows_deleted, Option<String>),
        name!(user_references_nulled, Option<String>),
    ),
> {
    let run = || {
        Spi::connect(|client| {
            let workspace = Plan::make(client, Subject::Workspace)?;
            let user = Plan::make(client, Subject::User)?;
            let nulled = user.anonymise();
            let tables = &workspace.catalog.tables;
            let mut order = vec![workspace.root];
            order.extend(workspace.members.iter().map(|member| member.table));
            for table in 0..tables.len() {
                let concerned = user.members.iter().any(|m| m.table == table)
                    || nulled.iter().any(|l| l.table == table);
                if concerned && !order.contains(&table) {
                    order.push(table);
                }
            }
            let words = |plan: &Plan, table: usize| {
                plan.members
                    .iter()
                    .find(|member| member.table == table)
                    .map(|member| {
                        let links = member.links.iter().map(|link| match link {
                            Link::Column(column) => column.clone(),
                            Link::Along(key) => plan.catalog.foreign_keys[*key].name.clone(),
                        });
                        links.collect::<Vec<_>>().join(", ")
                    })
            };
            Ok::<_, CodexError>(
                order
                    .iter()
                    .zip(1..)
                    .map(|(&table, place)| {
                        let of_workspace = if table == workspace.root {
                            Some("id".to_string())
                        } else {
                            words(&workspace, table)
                        };
                        let of_user = nulled
                            .iter()
                            .find(|loosening| loosening.table == table)
                            .map(|loosening| loosening.columns.join(", "));
                        (
                            place,
                            tables[table].name.clone(),
                            of_workspace,
                            words(&user, table),
                            of_user,
                        )
                    })
                    .collect::<Vec<_>>(),
            )
        })
    };
    TableIterator::new(run().or_raise())
}

/// Whether this session is inside `codex.erase_workspace()` or `codex.erase_user()`. For a trigger that keeps a table of
/// yours append-only: it has to let an erasure through.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn is_erasing() -> bool {
    erasing()
}

extension_sql!(
    r#"
COMMENT ON FUNCTION erase_workspace(uuid) IS
'Deletes every row of a workspace, in every table, and the workspace itself, in one transaction; gives the number of rows a table and keeps a receipt in codex.departures. Run again it finds nothing. For the owner of the tables. Errors: 22004 NULL, 42501 where row-level security would hide rows, 55000 above READ COMMITTED.';
COMMENT ON FUNCTION erase_user(uuid, boolean) IS
'Deletes what is personal of a user in all workspaces and empties every other reference to the user; with delete_user the user''s row, too. What happens to which table: codex.departure_plan(). Keeps a receipt in codex.departures. Run again it finds nothing. For the owner of the tables. Errors: 22004 NULL, 42501 where row-level security would hide rows, 55000 above READ COMMITTED or when a workspace cannot be without this user.';
COMMENT ON FUNCTION departure_plan() IS
'What would be exported and erased, a row a table in the order of an export: by what a row belongs to a workspace, by what it is deleted with its user, and which references to a user become NULL. Read from the catalog: new tables are in it the day they exist.';
COMMENT ON FUNCTION is_erasing() IS
'Whether this session is inside codex.erase_workspace() or codex.erase_user(): for a trigger that keeps a table append-only and has to let an erasure through.';
"#,
    name = "comment_departures",
    requires = [erase_workspace, erase_user, departure_plan, is_erasing]
);

fn receipt(counted: Vec<Counted>) -> Receipt {
    TableIterator::new(
        counted
            .into_iter()
            .map(|entry| (entry.table, entry.action.to_string(), entry.rows))
            .collect::<Vec<_>>(),
    )
}

/// Above READ COMMITTED the rows that a writer committed a moment ago would stay.
fn refuse_a_frozen_snapshot(what: &str) -> Outcome<()> {
    // SAFETY: a plain variable of this backend.
    let isolation = unsafe { pg_sys::XactIsoLevel };
    if u32::try_from(isolation).unwrap_or(0) >= pg_sys::XACT_REPEATABLE_READ {
        return Err(CodexError::wrong_state(format!(
            "{what} runs under READ COMMITTED only: at a higher level it would leave rows that another session has just committed"
        ))
        .with_hint("BEGIN ISOLATION LEVEL READ COMMITTED; and call it there."));
    }
    Ok(())
}

/// Does `work` with the mark of an erasure, in the order that it is told; begins anew when it found rows locked, or ran
/// into a deadlock.
fn patiently<T>(work: impl Fn(&mut SpiClient<'_>, Order) -> Outcome<T>) -> Outcome<T> {
    statement::refuse_on_a_standby();
    let lock_timeout = Spi::connect(lock_timeout)?;
    // Who set one wants to be told at once.
    let mut order = if lock_timeout == 0 {
        Order::RootFirst
    } else {
        Order::Patient
    };
    let mut tries = 1;
    loop {
        let done = subtransaction(AssertUnwindSafe(|| {
            let _mark = Erasing::begin();
            Spi::connect_mut(|client| {
                let done = work(client, order)?;
                set_lock_timeout(client, lock_timeout)?;
                Ok(done)
            })
        }));
        let caught = match done {
            Ok(done) => return Ok(done),
            Err(caught) => caught,
        };
        let deadlock = caught.sqlstate() == PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED;
        let timeout = caught.sqlstate() == PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE;
        match order {
            Order::Patient if deadlock && tries < TRIES => {}
            Order::RootFirst if deadlock || timeout => order = Order::RowsFirst,
            Order::RowsFirst if (deadlock || timeout) && tries < QUICK_TRIES => {
                order = Order::RootFirst;
            }
            Order::RowsFirst if deadlock || timeout => (order, tries) = (Order::Patient, 0),
            _ => caught.rethrow(),
        }
        pause(tries);
        tries += 1;
    }
}

/// Waits for up to 50 milliseconds, each time for another while, so that it falls out of step with a writer that does
/// the same thing over and over. Ends with the statement that is cancelled.
fn pause(number: u32) {
    let milliseconds = 1 + number.wrapping_mul(17) % 50;
    std::thread::sleep(std::time::Duration::from_millis(u64::from(milliseconds)));
    check_for_interrupts!();
}

/// The lock_timeout of this session in milliseconds; 0 for none.
fn lock_timeout(client: &SpiClient<'_>) -> Outcome<u32> {
    let found = client
        .select(
            "SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'lock_timeout'",
            Some(1),
            &[],
        )?
        .first()
        .get_one::<i64>()?;
    Ok(found
        .and_then(|setting| u32::try_from(setting).ok())
        .unwrap_or(0))
}

fn set_lock_timeout(client: &mut SpiClient<'_>, milliseconds: u32) -> Outcome<()> {
    client.update(
        "SELECT pg_catalog.set_config('lock_timeout', $1, true)",
        Some(1),
        &[milliseconds.to_string().into()],
    )?;
    Ok(())
}

/// Refuses a caller from whom row-level security may hide rows: they would be left over.
fn refuse_what_hides_rows(plan: &Plan) -> Outcome<()> {
    let tables = plan.members.iter().map(|member| plan.table(member));
    match tables.chain([plan.root()]).find(|table| table.filtered) {
        None => Ok(()),
        Some(table) => Err(CodexError::not_allowed(format!(
            "row-level security hides rows of {} from this role",
            table.name
        ))
        .with_hint(
            "Erase as the owner of the tables, or as a role that row-level security does not bind.",
        )),
    }
}

/// Locks the row of the workspace or the user, and the rows that belong where the order says so; gives whether there is
/// one. Whoever already wrote rows that refer to it is waited for.
fn lock_root(client: &mut SpiClient<'_>, plan: &Plan, id: Uuid, order: Order) -> Outcome<bool> {
    let root = plan.root();
    let lock = format!(
        "SELECT FROM {} AS r0 WHERE {} FOR UPDATE",
        root.only(),
        Plan::is_root("r0")
    );
    if order == Order::RowsFirst {
        set_lock_timeout(client, order.wait().unwrap_or(0))?;
        lock_members(client, plan, id)?;
    }
    let there = !client.update(&lock, None, &[id.into()])?.is_empty();
    if let Some(wait) = order.wait() {
        set_lock_timeout(client, wait)?;
    }
    Ok(there)
}

/// Locks the rows that belong, from the tables that are referred to down to those that refer to others: as they are
/// written.
fn lock_members(client: &mut SpiClient<'_>, plan: &Plan, id: Uuid) -> Outcome<()> {
    for member in &plan.members {
        for link in &member.links {
            let sql = format!(
                "SELECT FROM {} AS r0 WHERE {} FOR UPDATE",
                plan.table(member).only(),
                plan.belongs_by(member, link, "r0")
            );
            run(client, &sql, id)?;
        }
    }
    Ok(())
}

fn loosen(
    client: &mut SpiClient<'_>,
    plan: &Plan,
    loosenings: Vec<Loosening>,
    id: Uuid,
    action: &'static str,
    counted: &mut Vec<Counted>,
) -> Outcome<()> {
    for loosening in loosenings {
        let rows = run(client, &loosening.sql, id)?;
        counted.push(Counted {
            table: plan.catalog.tables[loosening.table].name.clone(),
            action,
            rows,
        });
    }
    Ok(())
}

/// Deletes what belongs, from the tables that refer to others up to those that are referred to.
///
/// Rows are counted before anything is deleted: a trigger may delete rows of a table before its turn comes.
fn delete_members(
    client: &mut SpiClient<'_>,
    plan: &Plan,
    id: Uuid,
    counted: &mut Vec<Counted>,
) -> Outcome<()> {
    let mut found = Vec::with_capacity(plan.members.len());
    for member in plan.members.iter().rev() {
        let only = plan.table(member).only();
        let each = member.links.iter().map(|link| {
            format!(
                "SELECT r0.tableoid, r0.ctid FROM {only} AS r0 WHERE {}",
                plan.belongs_by(member, link, "r0")
            )
        });
        let sql = format!(
            "SELECT count(*) FROM ({}) AS found",
            each.collect::<Vec<_>>().join(" UNION ")
        );
        // As a write, for its fresh snapshot: whoever was waited for has committed.
        let row = client.update(&sql, None, &[id.into()])?.next();
        let rows = row.map(|row| row.get::<i64>(1)).transpose()?.flatten();
        found.push(rows.unwrap_or(0));
    }
    for (member, found) in plan.members.iter().rev().zip(found) {
        let table = plan.table(member);
        let mut rows = 0;
        // One statement a link: several conditions in one would keep it from the indexes.
        for link in &member.links {
            let sql = format!(
                "DELETE FROM {} AS r0 WHERE {}",
                table.only(),
                plan.belongs_by(member, link, "r0")
            );
            rows += run(client, &sql, id)?;
        }
        counted.push(Counted {
            table: table.name.clone(),
            action: DELETED,
            rows: rows.max(found),
        });
    }
    Ok(())
}

fn delete_root(
    client: &mut SpiClient<'_>,
    plan: &Plan,
    id: Uuid,
    counted: &mut Vec<Counted>,
) -> Outcome<()> {
    let root = plan.root();
    let sql = format!(
        "DELETE FROM {} AS r0 WHERE {}",
        root.only(),
        Plan::is_root("r0")
    );
    let rows = run(client, &sql, id)?;
    counted.push(Counted {
        table: root.name.clone(),
        action: DELETED,
        rows,
    });
    Ok(())
}

fn run(client: &mut SpiClient<'_>, sql: &str, id: Uuid) -> Outcome<i64> {
    let rows = client.update(sql, None, &[id.into()])?.len();
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}

/// Refuses a user with whom workspaces would go.
fn refuse_an_owner(client: &SpiClient<'_>, plan: &Plan, user: Uuid) -> Outcome<()> {
    let (workspaces, columns) = plan.owning_columns()?;
    for column in columns {
        let table = &plan.catalog.tables[workspaces];
        let owned = crate::schema::database::query(
            client,
            &format!(
                "SELECT r0.id FROM {} AS r0 WHERE r0.{column} = $1 ORDER BY r0.id LIMIT 100",
                table.only()
            ),
            &[user.into()],
            |row| row.get::<Uuid>(1),
        )?;
        let owned = owned.into_iter().flatten().collect::<Vec<_>>();
        if !owned.is_empty() {
            return Err(CodexError::wrong_state(format!(
                "workspaces cannot be without user {user}, by {}.{column}: {}",
                table.name,
                crate::argument::listed(&owned)
            ))
            .with_hint("Hand them over to somebody else first, or erase them: SELECT * FROM codex.erase_workspace(…);"));
        }
    }
    Ok(())
}

/// Keeps a receipt, unless nothing was found.
fn keep_receipt(
    client: &mut SpiClient<'_>,
    kind: &str,
    subject: Uuid,
    counted: &[Counted],
) -> Outcome<()> {
    let sum = |wanted: &[&str]| -> i64 {
        counted
            .iter()
            .filter(|entry| wanted.contains(&entry.action))
            .map(|entry| entry.rows)
            .sum()
    };
    let (deleted, emptied) = (sum(&[DELETED]), sum(&[ANONYMISED, LOOSENED]));
    if deleted + emptied == 0 {
        return Ok(());
    }
    WRITE_RECEIPT.with(|statement| {
        statement.execute(
            client,
            &[
                kind.into(),
                subject.into(),
                deleted.into(),
                emptied.into(),
                JsonB(in_json(counted)).into(),
            ],
        )
    })?;
    Ok(())
}

/// Counts as a receipt keeps them: those that are not 0.
fn in_json(counted: &[Counted]) -> Value {
    counted
        .iter()
        .filter(|entry| entry.rows > 0)
        .map(|entry| json!({ "table": entry.table, "action": entry.action, "rows": entry.rows }))
        .collect()
}
