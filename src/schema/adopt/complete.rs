//! The trigger that completes rows which the old application inserts into an adopted table.

use crate::error::{CodexError, Outcome};
use crate::row_triggers::Row;
use crate::schema::database::value;
use crate::schema::shape;
use pgrx::prelude::*;

/// Refuses nothing, completes everything: sets `workspace_id` from the row's parent, and a text from the legacy
/// column that meant the same, where the statement did not give them. Its arguments come in threes: the column, the
/// column to look at, and the parent table or the text to fall back on.
fn complete(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
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
        let is_workspace = triple[0] == "workspace_id";
        let column = if is_workspace {
            row.column(&triple[0], pg_sys::UUIDOID)?
        } else {
            row.text_column(&triple[0])?
        };
        if row.is_given(column) {
            continue;
        }
        let datum = if is_workspace {
            let from = row.column(&triple[1], pg_sys::UUIDOID)?;
            match row.new_value::<pgrx::Uuid>(from) {
                Some(parent) => workspace_of(&triple[2], parent)?.and_then(IntoDatum::into_datum),
                None => None,
            }
        } else {
            let older =
                (row.text_column(&triple[1]).ok()).and_then(|older| row.new_value::<String>(older));
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
        && !["public.cohorts", "public.moves"].contains(&parent)
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
