//! The points ledger: every change of a user's points, append-only.
//!
//! - `user_stats.total_points` is the sum of the user's entries. Both are written in one transaction, under a lock of the
//!   stats row; `codex.reconcile_points()` compares them.
//! - An entry is never changed or deleted, by nobody, superusers included. It goes with its user or its workspace:
//!   by a foreign key, or when `codex.erase_user()` or `codex.erase_workspace()` erases.
//! - What was there before the ledger stands in it as one entry a user, of kind `opening`.
//! - Below schema version 19 there is no ledger, and points are paid without one. Whoever pays looks for it after it has
//!   locked the stats row; the migration that makes it waits for all who hold such a lock.

use super::lock_stats;
use crate::argument::{self, LONGEST_KEY};
use crate::context::{self, membership::table_named};
use crate::departures;
use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::idempotency;
use crate::{statement, trigger_function};
use pgrx::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::json;

/// The longest reason of an adjustment, in characters.
const LONGEST_REASON: usize = 1000;

statement!(
    ENTER(UUID, UUID, TEXT, INT4, UUID, TEXT) = "
INSERT INTO codex.points_ledger (workspace_id, user_id, kind, points, achievement_id, reason)
VALUES ($1, $2, $3, $4, $5, $6)"
);

/// Enters what was paid for an achievement; the stats row of the user is locked. Nothing to do for no points, or without
/// a ledger.
pub fn enter_unlock(
    client: &mut SpiClient<'_>,
    workspace: Uuid,
    user: Uuid,
    points: i32,
    achievement: Uuid,
    event: &str,
) -> Outcome<()> {
    if points == 0 || table_named(c"codex", c"points_ledger").is_none() {
        return Ok(());
    }
    let entry = [
        workspace.into(),
        user.into(),
        "achievement".into(),
        points.into(),
        achievement.into(),
        event.into(),
    ];
    ENTER.with(|s| s.execute(client, &entry))?;
    Ok(())
}

/// Refuses (55000) to change or delete an entry, unless it goes with its user or workspace.
fn append_only(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    if data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK == pg_sys::TRIGGER_EVENT_DELETE {
        // SAFETY: reads a counter of this backend. A foreign key deletes from within its own trigger.
        let depth = unsafe { pgrx::direct_function_call::<i32>(pg_sys::pg_trigger_depth, &[]) };
        if departures::erasing() || depth > Some(1) {
            return Ok(data.tg_trigtuple);
        }
    }
    Err(
        CodexError::wrong_state("codex.points_ledger is append-only: entries are not changed or deleted")
            .with_hint("Correct points by another entry: codex.adjust_points(). Entries of a user or a workspace go with codex.erase_user() or codex.erase_workspace()."),
    )
}

trigger_function!(refuse_ledger_change, append_only);

extension_sql!(
    r#"
CREATE FUNCTION refuse_ledger_change() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'refuse_ledger_change_trigger';

COMMENT ON FUNCTION refuse_ledger_change() IS
'Trigger BEFORE UPDATE, DELETE or TRUNCATE of codex.points_ledger: refuses it (55000), unless the entry goes with its user or workspace, by a foreign key or an erasure.';
"#,
    name = "trigger_refuse_ledger_change"
);

// The sum is taken of the stats row that was just locked: whoever is to change it waits.
statement!(
    ADJUST(UUID, UUID, INT4) = "
UPDATE public.user_stats AS s
SET total_points = coalesce(s.total_points, 0) + $3,
    stats_last_updated = now()
WHERE s.workspace_id = $1
  AND s.user_id = $2
  AND coalesce(s.total_points, 0)::bigint + $3 BETWEEN 0 AND 2147483647
RETURNING s.total_points"
);

/// Gives a user points, or takes some away, by an entry with a reason; returns the new total.
///
/// - `points`: what to add, negative to take away; not 0. The total stays from 0 to 2147483647.
/// - `reason`: not blank, at most 1000 characters.
/// - `idempotency_key`: the same call again with it changes nothing and returns the same total.
///
/// Refuses: 22004 NULL; 22023 points that are 0 or take the total out of its bounds, a blank reason, a key of another
/// call; 42501 not a member, not the current workspace, or a caller who may not write points.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn adjust_points(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
    points: Option<i32>,
    reason: Option<&str>,
    idempotency_key: default!(Option<&str>, "NULL"),
) -> i32 {
    let run = || -> Outcome<i32> {
        let workspace = required(workspace, "workspace")?;
        let user = required(user_id, "user_id")?;
        let points = required(points, "points")?;
        let reason = argument::key(Some(required(reason, "reason")?), "reason", LONGEST_REASON)?;
        argument::key(idempotency_key, "idempotency_key", LONGEST_KEY)?;
        if points == 0 || points == i32::MIN {
            return Err(CodexError::bad_value(format!(
                "points is {points}; it must be from -2147483647 to 2147483647 and not 0"
            )));
        }
        context::require_workspace(workspace)?;
        if !context::is_member(workspace, user)? {
            return Err(context::not_a_member(workspace, user));
        }
        let request = json!({ "user_id": user.to_string(), "points": points, "reason": reason });
        Spi::connect_mut(|client| {
            idempotency::once(
                client,
                "adjust_points",
                workspace,
                idempotency_key,
                &request,
                |client| {
                    lock_stats(client, workspace, user, "user_id")?;
                    let key = [workspace.into(), user.into(), points.into()];
                    let total = ADJUST
                        .with(|s| s.write_one(client, &key, |row| row.get::<i32>(1)))?
                        .flatten()
                        .ok_or_else(|| {
                            CodexError::bad_value(format!(
                                "points is {points}, which takes the total of user {user} out of 0 to 2147483647"
                            ))
                        })?;
                    let entry = [
                        workspace.into(),
                        user.into(),
                        "adjustment".into(),
                        points.into(),
                        None::<Uuid>.into(),
                        reason.into(),
                    ];
                    ENTER.with(|s| s.execute(client, &entry))?;
                    Ok(total)
                },
            )
        })
    };
    run().or_raise()
}

statement!(
    DRIFT(UUID) = "
SELECT coalesce(s.workspace_id, l.workspace_id),
       coalesce(s.user_id, l.user_id),
       coalesce(s.total_points, 0)::bigint,
       coalesce(l.points, 0)::bigint
FROM (
    SELECT s.workspace_id, s.user_id, s.total_points
    FROM public.user_stats AS s
    WHERE $1 IS NULL OR s.workspace_id = $1
) AS s
FULL JOIN (
    SELECT e.workspace_id, e.user_id, sum(e.points) AS points
    FROM codex.points_ledger AS e
    WHERE $1 IS NULL OR e.workspace_id = $1
    GROUP BY e.workspace_id, e.user_id
) AS l ON l.workspace_id = s.workspace_id
    AND l.user_id = s.user_id
WHERE coalesce(s.total_points, 0) <> coalesce(l.points, 0)
ORDER BY 1, 2"
);
statement!(
    REPAIR(UUID, UUID) = "
UPDATE public.user_stats AS s
SET total_points = (
        SELECT greatest(0, least(2147483647, coalesce(sum(e.points), 0)))::integer
        FROM codex.points_ledger AS e
        WHERE e.workspace_id = $1
          AND e.user_id = $2
    ),
    stats_last_updated = now()
WHERE s.workspace_id = $1
  AND s.user_id = $2"
);

/// The users whose `user_stats.total_points` is not the sum of their entries in the ledger: no rows when all is well.
/// `drift` is the total less the sum.
///
/// - `workspace`: NULL for the current one, else all.
/// - `repair`: whether to set these totals to the sums of the ledger.
///
/// Refuses: 22004 `repair` NULL; 42501 a workspace that is not the current one.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn reconcile_points(
    workspace: default!(Option<Uuid>, "NULL"),
    repair: default!(Option<bool>, false),
) -> TableIterator<
    'static,
    (
        name!(workspace_id, Uuid),
        name!(user_id, Uuid),
        name!(total_points, i64),
        name!(ledger_points, i64),
        name!(drift, i64),
    ),
> {
    let run = || {
        let repair = required(repair, "repair")?;
        let workspace = match workspace {
            Some(workspace) => {
                context::require_workspace(workspace)?;
                Some(workspace)
            }
            None => context::workspace_or_all()?,
        };
        let found = Spi::connect_mut(|client| {
            let found = DRIFT.with(|s| {
                s.read(client, &[workspace.into()], |row| {
                    Ok((
                        row.get::<Uuid>(1)?,
                        row.get::<Uuid>(2)?,
                        row.get::<i64>(3)?.unwrap_or(0),
                        row.get::<i64>(4)?.unwrap_or(0),
                    ))
                })
            })?;
            if repair {
                for (workspace, user, ..) in &found {
                    if let (Some(workspace), Some(user)) = (workspace, user) {
                        lock_stats(client, *workspace, *user, "user_id")?;
                        REPAIR
                            .with(|s| s.execute(client, &[(*workspace).into(), (*user).into()]))?;
                    }
                }
            }
            Ok::<_, CodexError>(found)
        })?;
        Ok::<_, CodexError>(
            found
                .into_iter()
                .filter_map(|(workspace, user, total, ledger)| {
                    Some((workspace?, user?, total, ledger, total - ledger))
                })
                .collect::<Vec<_>>(),
        )
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION adjust_points(uuid, uuid, integer, text, text) IS
'Gives a user points, or takes some away (negative), by an entry of the ledger with a reason; returns the new total, which stays from 0 to 2147483647. The same call again with its idempotency_key changes nothing. Errors: 22004 NULL, 22023 bad value, 42501 not a member, not your workspace or no right to write points.';
COMMENT ON FUNCTION reconcile_points(uuid, boolean) IS
'The users whose user_stats.total_points is not the sum of their entries in codex.points_ledger, with both and the difference; no rows when all is well. With repair the totals are set to the sums. Of a workspace; NULL: the current one, else all. Errors: 22004 NULL, 42501 not the current workspace.';
"#,
    name = "comment_points_ledger",
    requires = [adjust_points, reconcile_points]
);
