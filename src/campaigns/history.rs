//! What follows from a change of a campaign's status or budget, whoever made it.
//!
//! A trigger sees every such change, whether a function made it or a plain UPDATE, and
//!
//! 1. counts the version in `codex.campaign_life` and adds to `codex.campaign_history`, with who did it and why, where
//!    a function said so ([`intending`]);
//! 2. holds a plain UPDATE of the status to the steps and conditions, where `codex.campaign_policies` says so;
//! 3. refuses a budget that falls below what is spent.
//!
//! It writes as the owner of these tables ([`crate::owner`]): nobody else may, so that the history cannot be forged.

use super::spending::in_words;
use super::steps::judge;
use crate::context;
use crate::context::membership;
use crate::error::{CodexError, Outcome};
use crate::owner::as_owner_of;
use crate::row_triggers::Row;
use crate::{statement, trigger_function};
use pgrx::prelude::*;
use pgrx::{AnyNumeric, Uuid};
use std::cell::RefCell;
use std::ffi::CStr;

/// What a function says of the change that it is about to make, and has judged.
#[derive(Clone)]
pub struct Intent {
    /// Of which campaign.
    pub campaign: Uuid,
    /// Who does it.
    pub user: Option<Uuid>,
    /// Why.
    pub reason: Option<String>,
}

thread_local! {
    static INTENT: RefCell<Option<Intent>> = const { RefCell::new(None) };
}

/// Forgets the intent when dropped, after an error too.
struct Intended;

impl Drop for Intended {
    fn drop(&mut self) {
        INTENT.with_borrow_mut(|intent| *intent = None);
    }
}

/// Makes a change with `work`; the trigger below learns `intent` from it.
pub fn intending<T>(intent: Intent, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    INTENT.with_borrow_mut(|kept| *kept = Some(intent));
    let intended = Intended;
    let done = work();
    drop(intended);
    done
}

/// The role that the session works as.
fn role() -> String {
    // SAFETY: gives a name in memory of Postgres, or NULL for a role that was dropped meanwhile.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetUserId(), true);
        if name.is_null() {
            return "unknown".to_string();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

statement!(
    GUARDS_UPDATES(UUID) = "
SELECT p.guard_updates
FROM codex.campaign_policies AS p
WHERE p.workspace_id = $1"
);
// Its first change makes version 2.
statement!(
    NEXT_VERSION(UUID, UUID) = "
INSERT INTO codex.campaign_life AS l (workspace_id, campaign_id, version, status_since)
VALUES ($1, $2, 2, now())
ON CONFLICT (workspace_id, campaign_id) DO UPDATE
SET version = l.version + 1,
    status_since = excluded.status_since
RETURNING l.version"
);
statement!(
    REMEMBER(UUID, UUID, INT4, TEXT, TEXT, BOOL, UUID, TEXT, TEXT) = "
INSERT INTO codex.campaign_history (
    workspace_id, campaign_id, version, from_status, to_status, guarded, user_id, database_role, reason
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
);
// Locked, so that in REPEATABLE READ a sum that was changed meanwhile is not taken for the last one.
statement!(
    SPENT(UUID, UUID) = "
SELECT l.spent_amount
FROM codex.campaign_life AS l
WHERE l.workspace_id = $1
  AND l.campaign_id = $2
FOR NO KEY UPDATE"
);

fn follow(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let (_, row) = Row::after(data)?;
    let id = row.column("id", pg_sys::UUIDOID)?;
    let workspace = row.column("workspace_id", pg_sys::UUIDOID)?;
    let status = row.text_column("status")?;
    let budget = row.column("allocated_budget_amount", pg_sys::NUMERICOID)?;
    let (Some(id), Some(workspace)) = (row.new_value(id), row.new_value(workspace)) else {
        return Ok(std::ptr::null_mut());
    };
    if let (Some(from), Some(to)) = (
        row.old_value::<String>(status),
        row.new_value::<String>(status),
    ) && from != to
    {
        follow_status(workspace, id, &from, &to)?;
    }
    let before: Option<AnyNumeric> = row.old_value(budget);
    let after: Option<AnyNumeric> = row.new_value(budget);
    if after < before {
        follow_budget(workspace, id, after.unwrap_or_default())?;
    }
    Ok(std::ptr::null_mut())
}

fn follow_status(workspace: Uuid, id: Uuid, from: &str, to: &str) -> Outcome<()> {
    let intent = INTENT.with_borrow(|intent| intent.clone().filter(|intent| intent.campaign == id));
    let role = role();
    let user = match intent.as_ref().and_then(|intent| intent.user) {
        None => context::current_user().filter(|user| membership::of(workspace, *user)),
        some => some,
    };
    as_owner_of(c"codex", c"campaign_life", || {
        Spi::connect_mut(|client| {
            let mut guarded = intent.is_some();
            if !guarded {
                guarded = GUARDS_UPDATES
                    .with(|s| s.write_one(client, &[workspace.into()], |row| row.get::<bool>(1)))?
                    .flatten()
                    == Some(true);
                if guarded {
                    judge(client, id, from, to)?;
                }
            }
            let version = NEXT_VERSION.with(|s| {
                s.write_one(client, &[workspace.into(), id.into()], |row| {
                    row.get::<i32>(1)
                })
            })?;
            let arguments = [
                workspace.into(),
                id.into(),
                version.flatten().into(),
                from.into(),
                to.into(),
                guarded.into(),
                user.into(),
                role.as_str().into(),
                intent
                    .as_ref()
                    .and_then(|intent| intent.reason.as_deref())
                    .into(),
            ];
            REMEMBER.with(|s| s.execute(client, &arguments))?;
            Ok(())
        })
    })
}

fn follow_budget(workspace: Uuid, id: Uuid, budget: AnyNumeric) -> Outcome<()> {
    let spent = as_owner_of(c"codex", c"campaign_life", || {
        Spi::connect_mut(|client| {
            SPENT.with(|s| {
                s.write_one(client, &[workspace.into(), id.into()], |row| {
                    row.get::<AnyNumeric>(1)
                })
            })
        })
    })?;
    match spent.flatten() {
        Some(spent) if spent > budget => Err(CodexError::wrong_state(format!(
            "allocated_budget_amount of campaign {id} cannot fall to {}: {} is spent",
            in_words(&budget),
            in_words(&spent)
        ))),
        _ => Ok(()),
    }
}

trigger_function!(follow_campaign, follow);

extension_sql!(
    r#"
CREATE FUNCTION follow_campaign() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'follow_campaign_trigger';

COMMENT ON FUNCTION follow_campaign() IS
'Trigger AFTER UPDATE of a campaign: keeps codex.campaign_life and adds to codex.campaign_history, as the owner of these tables. Refuses (55000) a status that does not follow where codex.campaign_policies guards it, and a budget below what is spent.';
"#,
    name = "trigger_follow_campaign"
);
