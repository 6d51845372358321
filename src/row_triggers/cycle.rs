//! No circles: a row cannot be above itself.
//!
//! Quests have parents and achievements have prerequisites. Before a row takes a parent, its future ancestors are
//! walked up to the top; if the row itself is among them, the change is refused.
//!
//! Two sessions could close a circle together, each seeing the half of the other as not there. So whoever gives a
//! row that is already there a new parent holds a lock of the table and workspace until the transaction ends, and
//! then looks with a snapshot taken after the lock, also in REPEATABLE READ. A new row needs no lock: nobody but its
//! own transaction can refer to it yet.
//!
//! The walk reads the table itself, not through SQL: row-level security and privileges of whoever writes must not
//! hide a part of the circle. It stays in the workspace of the row: a foreign parent is left to the foreign key,
//! which says the same of one that is there and one that is not.

use super::Row;
use crate::error::{CodexError, Outcome};
use crate::trigger_function;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::num::NonZeroUsize;

/// So many ancestors a row can have: each is read whenever a row below gets a parent.
const DEEPEST: usize = 1000;

/// The columns that name a parent, one a table.
const PARENT_COLUMNS: [&str; 2] = ["parent_quest_id", "required_previous_achievement_id"];

/// Refuses (22023) a parent that is the row's own descendant, and one that has a thousand ancestors or more.
/// A row that is its own parent is left to the CHECK of its table.
fn without_cycle(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let row = Row::of(data)?;
    let Some(parent_name) = PARENT_COLUMNS
        .into_iter()
        .find(|name| row.find_column(name).is_some())
    else {
        return Err(CodexError::wrong_state(format!(
            "the trigger function refuse_cycle works on tables with a column {}, and {} has none",
            PARENT_COLUMNS.join(" or "),
            row.table()
        )));
    };
    let parent_column = row.column(parent_name, pg_sys::UUIDOID)?;
    let id_column = row.column("id", pg_sys::UUIDOID)?;
    let workspace_column = row.column("workspace_id", pg_sys::UUIDOID)?;
    // A NULL id or workspace is refused by the table itself.
    let (Some(parent), Some(id), Some(workspace)) = (
        row.new_value::<pgrx::Uuid>(parent_column),
        row.new_value::<pgrx::Uuid>(id_column),
        row.new_value::<pgrx::Uuid>(workspace_column),
    ) else {
        return Ok(row.unchanged());
    };
    let is_as_before =
        row.old_value(parent_column) == Some(parent) && row.old_value(id_column) == Some(id);
    if parent == id || is_as_before {
        return Ok(row.unchanged());
    }
    if row.is_update() {
        lock(row.relation(), *workspace.as_bytes());
    }

    let ancestors = Ancestors::of(
        row.relation(),
        workspace,
        [id_column, parent_column, workspace_column],
    );
    let mut path = vec![parent];
    while let Some(above) = ancestors.parent_of(path[path.len() - 1]) {
        if above == id {
            path.push(above);
            return Err(CodexError::bad_value(format!(
                "{parent_name} of {id} cannot be {parent}, which is below it"
            ))
            .with_detail(format!("The way up would be: {id}, {}.", shown(&path))));
        }
        if path.len() == DEEPEST {
            return Err(CodexError::bad_value(format!(
                "{parent_name} of {id} cannot be {parent}, which has {DEEPEST} rows or more above it"
            )));
        }
        path.push(above);
    }
    drop(ancestors);
    Ok(row.unchanged())
}

trigger_function!(refuse_cycle, without_cycle);

extension_sql!(
    r#"
CREATE FUNCTION refuse_cycle() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'refuse_cycle_trigger';

COMMENT ON FUNCTION refuse_cycle() IS
'Trigger BEFORE INSERT OR UPDATE of a row with parent_quest_id or required_previous_achievement_id: refuses (22023) a parent that is below the row, or that has 1000 rows or more above it. Sessions that give rows of one workspace new parents wait for each other.';
"#,
    name = "trigger_refuse_cycle"
);

/// The ids of a path, at most the first ten of them.
fn shown(path: &[pgrx::Uuid]) -> String {
    const MOST: usize = 10;
    let mut text = path
        .iter()
        .take(MOST)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if path.len() > MOST {
        text.push_str(", …");
    }
    text
}

/// Waits for other transactions that change parents in this table and workspace, and makes them wait for this one.
fn lock(relation: pg_sys::Relation, workspace: [u8; 16]) {
    let half = workspace
        .chunks_exact(4)
        .fold(0_i32, |mixed, part| match part {
            [a, b, c, d] => mixed.rotate_left(5) ^ i32::from_le_bytes([*a, *b, *c, *d]),
            _ => mixed,
        });
    // SAFETY: the relation of a trigger is open; the function takes two integers and raises nothing but a
    // cancelled or deadlocked wait.
    unsafe {
        let table = i32::from_le_bytes((*relation).rd_id.to_u32().to_le_bytes());
        pgrx::direct_function_call::<()>(
            pg_sys::pg_advisory_xact_lock_int4,
            &[
                Some(pg_sys::Datum::from(table)),
                Some(pg_sys::Datum::from(half)),
            ],
        );
    }
}

/// Reads parents as they are now: what this transaction did so far and what others committed.
struct Ancestors {
    relation: pg_sys::Relation,
    snapshot: pg_sys::Snapshot,
    index: pg_sys::Oid,
    workspace: pgrx::Uuid,
    id_column: NonZeroUsize,
    parent_column: NonZeroUsize,
    workspace_column: NonZeroUsize,
}

impl Ancestors {
    fn of(
        relation: pg_sys::Relation,
        workspace: pgrx::Uuid,
        [id_column, parent_column, workspace_column]: [NonZeroUsize; 3],
    ) -> Self {
        // SAFETY: the relation of a trigger is open. Raising the command counter lets the snapshot see the rows
        // that the running statement has written before this one. The snapshot is registered until Drop; after
        // an error the resource owner of the transaction lets go of it.
        let (snapshot, index) = unsafe {
            pg_sys::CommandCounterIncrement();
            (
                pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot()),
                index_that_begins_with(relation, id_column),
            )
        };
        Self {
            relation,
            snapshot,
            index,
            workspace,
            id_column,
            parent_column,
            workspace_column,
        }
    }

    /// The parent of the row `id`; None when it has none, is not there, or belongs to another workspace.
    fn parent_of(&self, id: pgrx::Uuid) -> Option<pgrx::Uuid> {
        let mut wanted = *id.as_bytes();
        // SAFETY: the relation is open and the snapshot registered; the key compares a uuid column with 16 bytes
        // that outlive the scan; the value is copied out of the tuple before the scan ends. Without an index
        // (InvalidOid) the scan goes through the whole table.
        unsafe {
            let mut key = pg_sys::ScanKeyData::default();
            pg_sys::ScanKeyInit(
                &mut key,
                self.id_column.get() as i16,
                pg_sys::BTEqualStrategyNumber as u16,
                pg_sys::Oid::from(pg_sys::F_UUID_EQ),
                pg_sys::Datum::from(wanted.as_mut_ptr()),
            );
            let scan = pg_sys::systable_beginscan(
                self.relation,
                self.index,
                self.index != pg_sys::InvalidOid,
                self.snapshot,
                1,
                &mut key,
            );
            let tuple = pg_sys::systable_getnext(scan);
            let value = |column| {
                let datum = pgrx::heap_getattr_raw(tuple, column, (*self.relation).rd_att)?;
                pgrx::Uuid::from_datum(datum, false)
            };
            let parent = if tuple.is_null() || value(self.workspace_column) != Some(self.workspace)
            {
                None
            } else {
                value(self.parent_column)
            };
            pg_sys::systable_endscan(scan);
            parent
        }
    }
}

impl Drop for Ancestors {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: registered in `of`. While an error unwinds, the transaction's resource owner does it instead.
            unsafe { pg_sys::UnregisterSnapshot(self.snapshot) }
        }
    }
}

/// The primary key, if `column` is its first; else InvalidOid.
///
/// # Safety
/// `relation` is open.
unsafe fn index_that_begins_with(relation: pg_sys::Relation, column: NonZeroUsize) -> pg_sys::Oid {
    // SAFETY: the list of indexes is asked for because that fills rd_pkindex; an index is opened and closed with
    // the same lock, and has at least one column.
    unsafe {
        pg_sys::list_free(pg_sys::RelationGetIndexList(relation));
        let key = (*relation).rd_pkindex;
        if key == pg_sys::InvalidOid {
            return key;
        }
        let index = pg_sys::index_open(key, pg_sys::AccessShareLock as i32);
        let first = (*(*index).rd_index).indkey.values.as_slice(1)[0];
        pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
        if usize::try_from(first) == Ok(column.get()) {
            key
        } else {
            pg_sys::InvalidOid
        }
    }
}
