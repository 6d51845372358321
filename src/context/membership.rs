//! Who is a member of which workspace, and which roles act for whole workspaces.
//!
//! Both are read natively from the heap, by an index where there is one: no policy of the membership table is
//! asked (so policies that call us never recurse), no privilege is needed and no role is switched to, no plan is
//! made, no code of anybody else runs, and no transaction id is taken. The look-up therefore works inside any
//! query, in a read-only transaction and on a hot standby.
//!
//! An answer holds until the end of the transaction. It is looked up again after a subtransaction was rolled
//! back, and, when the transaction itself writes to the table, after each of its commands: what a transaction
//! did to its own memberships it sees at once.

use super::transaction;
use pgrx::Uuid;
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::CStr;
use std::num::NonZeroUsize;

/// An answer, and until when it holds.
struct Kept<Question, Answer> {
    generation: u64,
    command: pg_sys::CommandId,
    table: pg_sys::Oid,
    question: Question,
    answer: Answer,
}

impl<Question: PartialEq, Answer: Copy> Kept<Question, Answer> {
    /// The answer, when it is to this question and still holds.
    fn get(&mut self, question: &Question) -> Option<Answer> {
        if self.generation != transaction::generation() || self.question != *question {
            return None;
        }
        let command = current_command();
        if self.command != command {
            if written_by_this_transaction(self.table) {
                return None;
            }
            self.command = command;
        }
        Some(self.answer)
    }
}

/// How many pairs of workspace and user are remembered at once; beyond that the memory starts anew.
const MOST_KEPT: usize = 64;

type Memberships = Vec<Kept<(Uuid, Uuid), bool>>;

thread_local! {
    static MEMBERSHIPS: RefCell<Memberships> = const { RefCell::new(Vec::new()) };
    static SERVICE: RefCell<Option<Kept<pg_sys::Oid, bool>>> = const { RefCell::new(None) };
}

/// Whether `user` is a member of `workspace`.
pub fn of(workspace: Uuid, user: Uuid) -> bool {
    let question = (workspace, user);
    let kept = MEMBERSHIPS.with_borrow_mut(|all| {
        if all
            .first()
            .is_some_and(|first| first.generation != transaction::generation())
        {
            all.clear();
        }
        all.iter_mut().find_map(|one| one.get(&question))
    });
    if let Some(answer) = kept {
        return answer;
    }
    let Some(table) = table() else {
        return false;
    };
    let answer = look_up(table, workspace, user);
    MEMBERSHIPS.with_borrow_mut(|all| {
        all.retain(|one| one.question != question);
        if all.len() >= MOST_KEPT {
            all.clear();
        }
        all.push(Kept {
            generation: transaction::generation(),
            command: current_command(),
            table,
            question,
            answer,
        });
    });
    answer
}

/// The membership table: `public.workspace_members`, else `public.user_workspaces`.
pub fn table() -> Option<pg_sys::Oid> {
    table_named(c"public", c"workspace_members")
        .or_else(|| table_named(c"public", c"user_workspaces"))
}

/// Whether the membership table is one that can be read: an ordinary table with both uuid columns.
pub fn readable(table: pg_sys::Oid) -> bool {
    Opened::open(table).is_some_and(|members| {
        members.column(c"workspace_id", pg_sys::UUIDOID).is_some()
            && members.column(c"user_id", pg_sys::UUIDOID).is_some()
    })
}

/// A relation by schema and name.
pub fn table_named(schema: &CStr, name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: catalog cache look-ups by terminated names; told not to raise when the schema is missing.
    let table = unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return None;
        }
        pg_sys::get_relname_relid(name.as_ptr(), schema)
    };
    (table != pg_sys::InvalidOid).then_some(table)
}

/// A table opened for reading; closed when dropped, its lock kept until the end of the transaction as usual.
struct Opened(pg_sys::Relation);

impl Opened {
    /// None when the table went away, or is something else than an ordinary table.
    fn open(table: pg_sys::Oid) -> Option<Self> {
        // SAFETY: gives NULL for a relation that does not exist any more.
        let relation = unsafe {
            pg_sys::try_relation_open(table, pg_sys::AccessShareLock as pg_sys::LOCKMODE)
        };
        if relation.is_null() {
            return None;
        }
        let opened = Self(relation);
        // SAFETY: an open relation has a valid catalog row.
        let kind = unsafe { (*(*relation).rd_rel).relkind } as u8;
        (kind == pg_sys::RELKIND_RELATION).then_some(opened)
    }

    fn columns(&self) -> pg_sys::TupleDesc {
        // SAFETY: an open relation has a descriptor, which lives as long as it is open.
        unsafe { (*self.0).rd_att }
    }

    /// The number of a column that has this type.
    fn column(&self, name: &CStr, kind: pg_sys::Oid) -> Option<pg_sys::AttrNumber> {
        // SAFETY: catalog cache look-ups for an open relation.
        unsafe {
            let number = pg_sys::get_attnum((*self.0).rd_id, name.as_ptr());
            (number > 0 && pg_sys::get_atttype((*self.0).rd_id, number) == kind).then_some(number)
        }
    }

    /// An index that finds rows by these two columns, or by the first of them that has one.
    fn index_on(
        &self,
        columns: [pg_sys::AttrNumber; 2],
    ) -> Option<(pg_sys::Oid, Vec<pg_sys::AttrNumber>)> {
        let mut best: Option<(pg_sys::Oid, Vec<pg_sys::AttrNumber>)> = None;
        // SAFETY: the list is a copy of the relation's own; every index on it can be opened while we hold a
        // lock on the table, and is closed again. Its catalog row is valid while it is open.
        unsafe {
            let indexes = pg_sys::RelationGetIndexList(self.0);
            if indexes.is_null() {
                return None;
            }
            for at in 0..(*indexes).length {
                let oid = pg_sys::list_nth_oid(indexes, at);
                let index = pg_sys::index_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
                let row = &*(*index).rd_index;
                let usable = row.indisvalid
                    && row.indisready
                    && row.indislive
                    && !row.indcheckxmin
                    && (*(*index).rd_rel).relam == pg_sys::BTREE_AM_OID
                    && pg_sys::RelationGetIndexPredicate(index).is_null();
                if usable {
                    let keys = usize::try_from(row.indnkeyatts).unwrap_or(0).min(2);
                    let leading = std::slice::from_raw_parts(row.indkey.values.as_ptr(), keys)
                        .iter()
                        .take_while(|column| columns.contains(column))
                        .copied()
                        .collect::<Vec<_>>();
                    let better = best
                        .as_ref()
                        .is_none_or(|(_, best)| leading.len() > best.len());
                    if !leading.is_empty() && better {
                        best = Some((oid, leading));
                    }
                }
                pg_sys::index_close(index, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            }
            pg_sys::list_free(indexes);
        }
        best
    }

    /// Calls `each` with the rows that `keys` let through, until it says that it has seen enough.
    fn scan(
        &self,
        index: Option<pg_sys::Oid>,
        keys: &mut [pg_sys::ScanKeyData],
        mut each: impl FnMut(pg_sys::HeapTuple) -> bool,
    ) {
        let snapshot = Visible::now();
        // SAFETY: `systable_beginscan` reads any heap table under any snapshot; the index, where given, is one
        // of this table's and has the keys' columns at its front. The keys live until the scan's end.
        unsafe {
            let scan = pg_sys::systable_beginscan(
                self.0,
                index.unwrap_or(pg_sys::InvalidOid),
                index.is_some(),
                snapshot.snapshot(),
                keys.len() as i32,
                keys.as_mut_ptr(),
            );
            loop {
                let row = pg_sys::systable_getnext(scan);
                if row.is_null() || each(row) {
                    break;
                }
            }
            pg_sys::systable_endscan(scan);
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // After an error the resource owner closes it.
        if !std::thread::panicking() {
            // SAFETY: opened by us, not yet closed.
            unsafe { pg_sys::relation_close(self.0, pg_sys::NoLock as pg_sys::LOCKMODE) };
        }
    }
}

/// The snapshot of the running query, or one of our own where there is none.
struct Visible {
    pushed: bool,
}

impl Visible {
    fn now() -> Self {
        // SAFETY: a snapshot is active whenever a query runs; otherwise we push the transaction's and pop
        // it again.
        let pushed = unsafe {
            let missing = !pg_sys::ActiveSnapshotSet();
            if missing {
                pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
            }
            missing
        };
        Self { pushed }
    }

    fn snapshot(&self) -> pg_sys::Snapshot {
        // SAFETY: one is active, see `now`.
        unsafe { pg_sys::GetActiveSnapshot() }
    }
}

impl Drop for Visible {
    fn drop(&mut self) {
        if self.pushed && !std::thread::panicking() {
            // SAFETY: the one that we pushed is on top: a scan pushes none.
            unsafe { pg_sys::PopActiveSnapshot() };
        }
    }
}

/// A scan key `column = value` for a uuid.
fn uuid_key(column: pg_sys::AttrNumber, value: &Uuid) -> pg_sys::ScanKeyData {
    let mut key = pg_sys::ScanKeyData::default();
    // SAFETY: fills the key; the datum points to 16 bytes that outlive the scan (the caller's).
    unsafe {
        pg_sys::ScanKeyInit(
            &mut key,
            column,
            pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber,
            pg_sys::Oid::from(pg_sys::F_UUID_EQ),
            pg_sys::Datum::from(value.as_bytes().as_ptr()),
        );
    }
    key
}

fn look_up(table: pg_sys::Oid, workspace: Uuid, user: Uuid) -> bool {
    Members::open(table).is_some_and(|members| members.has(workspace, user))
}

/// Those of `users` who are no members of `workspace`, looked up afresh with the table opened once.
pub fn non_members(workspace: Uuid, users: &[Uuid]) -> Vec<Uuid> {
    let Some(members) = table().and_then(Members::open) else {
        return users.to_vec();
    };
    let strangers = |is_member: &dyn Fn(Uuid) -> bool| {
        users
            .iter()
            .copied()
            .filter(|user| !is_member(*user))
            .collect()
    };
    if members.finds_by_user() {
        strangers(&|user| members.has(workspace, user))
    } else {
        let all = members.of(workspace);
        strangers(&|user| all.contains(&user))
    }
}

/// All members of a workspace, in the order of their ids.
pub fn members(workspace: Uuid) -> Vec<Uuid> {
    let Some(members) = table().and_then(Members::open) else {
        return Vec::new();
    };
    let mut users: Vec<Uuid> = members.of(workspace).into_iter().collect();
    users.sort_unstable();
    users
}

/// Where the membership table keeps what we look for. Found once, and again after the table was altered.
#[derive(Clone, Copy)]
struct Layout {
    table: pg_sys::Oid,
    workspace_column: pg_sys::AttrNumber,
    user_column: pg_sys::AttrNumber,
    /// An index, with the columns at its front that a look-up can use.
    index: Option<(pg_sys::Oid, [Option<pg_sys::AttrNumber>; 2])>,
}

thread_local! {
    static LAYOUT: Cell<Option<Layout>> = const { Cell::new(None) };
    /// Counts what we were told of altered relations.
    static ALTERATIONS: Cell<u64> = const { Cell::new(0) };
}

impl Layout {
    /// That of the opened table; None when it has not the two columns. The lock on it has let in every message
    /// about a change, so what is kept is right.
    fn of(table: pg_sys::Oid, opened: &Opened) -> Option<Self> {
        if let Some(layout) = LAYOUT.get()
            && layout.table == table
        {
            return Some(layout);
        }
        let before = ALTERATIONS.get();
        let workspace_column = opened.column(c"workspace_id", pg_sys::UUIDOID)?;
        let user_column = opened.column(c"user_id", pg_sys::UUIDOID)?;
        let layout = Self {
            table,
            workspace_column,
            user_column,
            index: opened
                .index_on([workspace_column, user_column])
                .map(|(index, columns)| {
                    (index, [columns.first().copied(), columns.get(1).copied()])
                }),
        };
        // Opening the indexes lets in messages, too: what was altered meanwhile is looked at again next time.
        if ALTERATIONS.get() == before {
            LAYOUT.set(Some(layout));
        }
        Some(layout)
    }
}

/// Has Postgres tell us when a table is altered or its indexes change. Called once, when the library is loaded.
pub fn watch() {
    // SAFETY: the callback is a plain function of a library that is never unloaded; it touches one cell.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(at_altered_relation), pg_sys::Datum::from(0));
    }
}

unsafe extern "C-unwind" fn at_altered_relation(_: pg_sys::Datum, relation: pg_sys::Oid) {
    ALTERATIONS.set(ALTERATIONS.get().wrapping_add(1));
    if let Some(layout) = LAYOUT.get()
        && (relation == layout.table || relation == pg_sys::InvalidOid)
    {
        LAYOUT.set(None);
    }
}

/// The membership table, opened.
struct Members {
    table: Opened,
    workspace_column: pg_sys::AttrNumber,
    user_column: pg_sys::AttrNumber,
    index: Option<(pg_sys::Oid, Vec<pg_sys::AttrNumber>)>,
}

impl Members {
    fn open(table: pg_sys::Oid) -> Option<Self> {
        let opened = Opened::open(table)?;
        let layout = Layout::of(table, &opened)?;
        Some(Self {
            table: opened,
            workspace_column: layout.workspace_column,
            user_column: layout.user_column,
            index: layout
                .index
                .map(|(index, columns)| (index, columns.into_iter().flatten().collect())),
        })
    }

    /// Whether an index leads to a user, so that looking up one costs the same however many there are.
    fn finds_by_user(&self) -> bool {
        self.index
            .as_ref()
            .is_some_and(|(_, columns)| columns.contains(&self.user_column))
    }

    /// All members of a workspace.
    fn of(&self, workspace: Uuid) -> HashSet<Uuid> {
        let columns = self.table.columns();
        let mut users = HashSet::new();
        let mut keys = [uuid_key(self.workspace_column, &workspace)];
        let index = self.index.as_ref().map(|(index, _)| *index);
        self.table.scan(index, &mut keys, |row| {
            users.extend(uuid_of(row, self.user_column, columns));
            false
        });
        users
    }

    fn has(&self, workspace: Uuid, user: Uuid) -> bool {
        let by = |column: pg_sys::AttrNumber| {
            let value = if column == self.workspace_column {
                &workspace
            } else {
                &user
            };
            uuid_key(column, value)
        };
        let (index, mut keys) = match &self.index {
            Some((index, columns)) => (
                Some(*index),
                columns.iter().map(|column| by(*column)).collect(),
            ),
            None => (None, vec![by(self.workspace_column), by(self.user_column)]),
        };
        let columns = self.table.columns();
        let mut found = false;
        self.table.scan(index, &mut keys, |row| {
            found = uuid_of(row, self.workspace_column, columns) == Some(workspace)
                && uuid_of(row, self.user_column, columns) == Some(user);
            found
        });
        found
    }
}

fn attribute(
    row: pg_sys::HeapTuple,
    column: pg_sys::AttrNumber,
    columns: pg_sys::TupleDesc,
) -> Option<pg_sys::Datum> {
    let column = NonZeroUsize::new(usize::try_from(column).ok()?)?;
    // SAFETY: the row and the descriptor belong to the same table, and the column is one of it.
    unsafe { pgrx::htup::heap_getattr_raw(row, column, columns) }
}

fn uuid_of(
    row: pg_sys::HeapTuple,
    column: pg_sys::AttrNumber,
    columns: pg_sys::TupleDesc,
) -> Option<Uuid> {
    let datum = attribute(row, column, columns)?;
    // SAFETY: the caller made sure that the column is a uuid.
    unsafe { Uuid::from_datum(datum, false) }
}

/// Whether the current role is, or inherits, a role that `codex.roles` knows as a service.
pub fn acts_for_workspace() -> bool {
    // SAFETY: reads a variable of this backend.
    let role = unsafe { pg_sys::GetUserId() };
    let kept = SERVICE.with_borrow_mut(|kept| kept.as_mut().and_then(|kept| kept.get(&role)));
    if let Some(answer) = kept {
        return answer;
    }
    // SAFETY: catalog cache look-up.
    if unsafe { pg_sys::superuser_arg(role) } {
        return true;
    }
    let Some(table) = table_named(c"codex", c"roles") else {
        return false;
    };
    let answer = is_service(table, role);
    SERVICE.set(Some(Kept {
        generation: transaction::generation(),
        command: current_command(),
        table,
        question: role,
        answer,
    }));
    answer
}

fn is_service(table: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    let Some(roles) = Opened::open(table) else {
        return false;
    };
    let Some(name_column) = roles.column(c"role_name", pg_sys::NAMEOID) else {
        return false;
    };
    let Some(kind_column) = roles.column(c"kind", pg_sys::TEXTOID) else {
        return false;
    };
    let columns = roles.columns();
    let mut services = Vec::new();
    roles.scan(None, &mut [], |row| {
        let kind = attribute(row, kind_column, columns)
            // SAFETY: a text column, by the check above.
            .and_then(|kind| unsafe { String::from_datum(kind, false) });
        if kind.as_deref() == Some("service")
            && let Some(name) = attribute(row, name_column, columns)
        {
            // SAFETY: a name is a terminated string; the look-up gives InvalidOid for a role that is gone.
            let service = unsafe { pg_sys::get_role_oid(name.cast_mut_ptr(), true) };
            if service != pg_sys::InvalidOid {
                services.push(service);
            }
        }
        false
    });
    services
        .into_iter()
        // SAFETY: catalog cache look-ups for roles that exist.
        .any(|service| unsafe { pg_sys::has_privs_of_role(role, service) })
}

fn current_command() -> pg_sys::CommandId {
    // SAFETY: reads a counter; `false` marks nothing as used.
    unsafe { pg_sys::GetCurrentCommandId(false) }
}

/// Whether this transaction holds a lock that writing takes: a cheap and certain sign that it may have written.
fn written_by_this_transaction(table: pg_sys::Oid) -> bool {
    // SAFETY: look-ups in the table of this backend's own locks.
    unsafe {
        if pg_sys::GetTopTransactionIdIfAny() == pg_sys::InvalidTransactionId {
            return false;
        }
        let tag = pg_sys::LOCKTAG {
            locktag_field1: pg_sys::MyDatabaseId.to_u32(),
            locktag_field2: table.to_u32(),
            locktag_field3: 0,
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        };
        (pg_sys::RowExclusiveLock..=pg_sys::AccessExclusiveLock)
            .any(|mode| holds(&tag, mode as pg_sys::LOCKMODE))
    }
}

#[cfg(any(feature = "pg15", feature = "pg16"))]
unsafe fn holds(tag: &pg_sys::LOCKTAG, mode: pg_sys::LOCKMODE) -> bool {
    // SAFETY: a look-up by a complete tag.
    unsafe { pg_sys::LockHeldByMe(tag, mode) }
}

#[cfg(not(any(feature = "pg15", feature = "pg16")))]
unsafe fn holds(tag: &pg_sys::LOCKTAG, mode: pg_sys::LOCKMODE) -> bool {
    // SAFETY: a look-up by a complete tag.
    unsafe { pg_sys::LockHeldByMe(tag, mode, false) }
}
