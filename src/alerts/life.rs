//! What is done with an alert beyond its first answer: reopening, silences, and what time does.

use super::history::{Alert, Happened, Intent, add_event, fan_out, intending, role};
use super::{SEVERITIES, TYPES};
use crate::argument;
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::idempotency;
use crate::instant;
use crate::owner::as_owner_of;
use crate::retention::Keep;
use crate::{covering_silence, glob_as_like, statement};
use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::json;
use std::panic::AssertUnwindSafe;

static KEEP: Keep = Keep::days(365);

pub fn define_settings() {
    KEEP.define(
        c"raptorflow_codex.keep_alerts_days",
        c"How many days an alert is kept after it was resolved, dismissed or has expired; 365 by default, 0 for ever.",
        c"codex.upkeep_alerts() deletes what is older, with the notifications about it, in small batches. What is open is never deleted, and neither are the events of codex.alert_events.",
    );
}

/// The longest pattern of a dedup key, in characters.
const LONGEST_GLOB: usize = 200;

// Locked first, and read in a statement of its own, so that what is read is what the lock found.
statement!(
    LOCK_CLOSED(UUID) = "
SELECT a.workspace_id, a.status
FROM public.system_alerts AS a
WHERE a.id = $1
FOR NO KEY UPDATE"
);
statement!(
    WITHIN_WINDOW(UUID, UUID, TIMESTAMPTZ) = "
SELECT
    $3 - coalesce(l.closed_at, a.resolved_at, a.updated_at, a.created_at) <= coalesce(p.reopen_within, interval '7 days'),
    a.dedup_key,
    (
        SELECT o.id
        FROM public.system_alerts AS o
        WHERE o.workspace_id = a.workspace_id
          AND o.dedup_key = a.dedup_key
          AND o.status IN ('active', 'acknowledged')
    )
FROM public.system_alerts AS a
LEFT JOIN codex.alert_life AS l
    ON l.workspace_id = a.workspace_id
    AND l.alert_id = a.id
LEFT JOIN codex.alert_policies AS p
    ON p.workspace_id = a.workspace_id
    AND p.severity_level = a.severity_level
WHERE a.workspace_id = $1
  AND a.id = $2"
);
statement!(
    REOPEN(UUID) = "
UPDATE public.system_alerts AS a
SET status = 'active',
    acknowledged_at = NULL,
    acknowledged_by = NULL,
    resolved_at = NULL,
    expiry_date = CASE WHEN a.expiry_date > now() THEN a.expiry_date END
WHERE a.id = $1"
);

/// Reopens an alert that is resolved or dismissed: it is active again, as if nobody had acknowledged it.
///
/// Within a window after it was closed: `reopen_within` of the policy of its severity (`codex.alert_policies`), else 7
/// days. `p_reason`: not blank when given; kept in the event. An alert that is open stays as it is.
///
/// Refuses: NULL for the alert or the user (22004); a blank reason (22023); an alert that does not exist or is not
/// visible here (P0002); a user who is not a member of its workspace (42501); an alert that was closed too long ago, or
/// whose dedup key another open alert has (55000).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn reopen_alert(
    p_alert_id: Option<Uuid>,
    p_user_id: Option<Uuid>,
    p_reason: default!(Option<&str>, "NULL"),
) {
    let run = || -> Outcome<()> {
        let alert = required(p_alert_id, "p_alert_id")?;
        let user = required(p_user_id, "p_user_id")?;
        if p_reason.is_some() {
            argument::not_blank(p_reason, "p_reason")?;
        }
        Spi::connect_mut(|client| {
            let found = LOCK_CLOSED.with(|statement| {
                statement.write_one(client, &[alert.into()], |row| {
                    Ok((row.get::<Uuid>(1)?, row.get::<String>(2)?))
                })
            })?;
            let Some((Some(workspace), Some(status))) = found else {
                return Err(CodexError::not_found(format!(
                    "there is no alert {alert} here"
                )));
            };
            if !context::is_member(workspace, user)? {
                return Err(context::not_a_member(workspace, user));
            }
            if status == "active" || status == "acknowledged" {
                return Ok(());
            }
            let arguments = [workspace.into(), alert.into(), instant::now().into()];
            let window = WITHIN_WINDOW.with(|statement| {
                statement.write_one(client, &arguments, |row| {
                    Ok((
                        row.get::<bool>(1)?,
                        row.get::<String>(2)?,
                        row.get::<Uuid>(3)?,
                    ))
                })
            })?;
            let (within, key, other) = window.unwrap_or_default();
            if within != Some(true) {
                return Err(CodexError::wrong_state(format!(
                    "alert {alert} was closed too long ago to be reopened"
                ))
                .with_hint("Raise a new one with codex.create_system_alert()."));
            }
            let taken = |other: Option<Uuid>| {
                CodexError::wrong_state(format!(
                    "alert {alert} cannot be reopened: another one with the key \"{}\" is open{}",
                    crate::error::shorten(key.as_deref().unwrap_or_default()),
                    other.map(|other| format!(", {other}")).unwrap_or_default()
                ))
            };
            if other.is_some() {
                return Err(taken(other));
            }
            let intent = Intent {
                event: None,
                user: Some(user),
                note: p_reason.map(str::to_string),
            };
            // The key may be taken this very moment.
            PgTryBuilder::new(AssertUnwindSafe(|| {
                intending(intent, || {
                    REOPEN.with(|statement| statement.execute(client, &[alert.into()]))
                })
            }))
            .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, |_| {
                Err(taken(None))
            })
            .execute()?;
            Ok(())
        })
    };
    run().or_raise();
}

statement!(
    SILENCE(UUID, TEXT, TEXT, TEXT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ, UUID) = "
INSERT INTO codex.alert_silences (
    workspace_id, alert_type, severity_level, dedup_glob, reason, starts_at, ends_at, created_by
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING id"
);
// In the order of their ids, so that two silences at once wait for each other instead of running into a deadlock.
statement!(
    OPEN_AND_COVERED(UUID, TEXT, TEXT, TEXT) = concat!(
        "
SELECT a.id
FROM codex.alert_life AS l
JOIN public.system_alerts AS a
    ON a.workspace_id = l.workspace_id
    AND a.id = l.alert_id
WHERE l.workspace_id = $1
  AND l.closed_at IS NULL
  AND l.silenced_by IS NULL
  AND a.status IN ('active', 'acknowledged')
  AND ($2 IS NULL OR a.alert_type = $2)
  AND ($3 IS NULL OR a.severity_level = $3)
  AND ($4 IS NULL OR a.dedup_key LIKE ",
        glob_as_like!("$4"),
        ")
ORDER BY a.id
FOR NO KEY UPDATE OF a"
    )
);

/// Silences alerts for a time: those that match are stored as ever, but nobody is told and they do not escalate;
/// returns the silence's id.
///
/// - `reason`: not blank. `ends_at`: later than now and than `starts_at`.
/// - `alert_type`, `severity`: as of `codex.create_system_alert()`; NULL for all.
/// - `dedup_glob`: pattern of the dedup key, at most 200 characters: `*` stands for any characters, `?` for one; NULL for
///   all alerts, those without a key included.
/// - `idempotency_key`: the same call with the same key makes one silence and returns its id.
///
/// Open alerts that match are silenced, too, where it starts at once. What is still open when it ends is told then
/// (`codex.upkeep_alerts()`).
///
/// Refuses: NULL for an argument without a default, or the start (22004); a value out of its list, a blank text, times that are
/// not in order (22023); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn silence_alerts(
    workspace: Option<Uuid>,
    reason: Option<&str>,
    ends_at: Option<TimestampWithTimeZone>,
    starts_at: default!(Option<TimestampWithTimeZone>, "now()"),
    alert_type: default!(Option<&str>, "NULL"),
    severity: default!(Option<&str>, "NULL"),
    dedup_glob: default!(Option<&str>, "NULL"),
    idempotency_key: default!(Option<&str>, "NULL"),
) -> Uuid {
    let run = || -> Outcome<Uuid> {
        let workspace = required(workspace, "workspace")?;
        let reason = argument::not_blank(reason, "reason")?;
        let ends_at = required(ends_at, "ends_at")?;
        let starts_at = required(starts_at, "starts_at")?;
        if alert_type.is_some() {
            argument::one_of(alert_type, "alert_type", TYPES)?;
        }
        if severity.is_some() {
            argument::one_of(severity, "severity", SEVERITIES)?;
        }
        argument::key(dedup_glob, "dedup_glob", LONGEST_GLOB)?;
        context::require_workspace(workspace)?;
        // Without the start, whose default is another one at every call.
        let request = json!([
            reason,
            pg_sys::TimestampTz::from(ends_at),
            alert_type,
            severity,
            dedup_glob
        ]);
        let silence = |client: &mut SpiClient<'_>| -> Outcome<Option<String>> {
            let now = instant::now();
            if ends_at <= starts_at || ends_at <= now {
                return Err(CodexError::bad_value(
                    "ends_at must be later than starts_at, and in the future",
                ));
            }
            let user = match context::current_user() {
                Some(user) if context::is_member(workspace, user)? => Some(user),
                _ => None,
            };
            let arguments = [
                workspace.into(),
                alert_type.into(),
                severity.into(),
                dedup_glob.into(),
                reason.into(),
                starts_at.into(),
                ends_at.into(),
                user.into(),
            ];
            let id = SILENCE.with(|statement| {
                statement.write_one(client, &arguments, |row| row.get::<Uuid>(1))
            })?;
            if starts_at <= now {
                let arguments = [
                    workspace.into(),
                    alert_type.into(),
                    severity.into(),
                    dedup_glob.into(),
                ];
                let covered = as_owner_of(c"codex", c"alert_life", || {
                    OPEN_AND_COVERED.with(|statement| {
                        statement.write(client, &arguments, |row| row.get::<Uuid>(1))
                    })
                })?;
                for alert in covered.into_iter().flatten() {
                    look_at(client, workspace, alert, now)?;
                }
            }
            Ok(id.flatten().map(|id| id.to_string()))
        };
        let id = Spi::connect_mut(|client| {
            let operation = "silence_alerts";
            idempotency::once(
                client,
                operation,
                workspace,
                idempotency_key,
                &request,
                silence,
            )
        })?;
        let id = id.and_then(|id| uuid::Uuid::parse_str(&id).ok());
        id.map(|id| Uuid::from_bytes(id.into_bytes()))
            .ok_or_else(|| {
                CodexError::wrong_state(
                    "the silence was not written: a trigger or rule on codex.alert_silences suppressed it",
                )
            })
    };
    run().or_raise()
}

statement!(
    LIFT(UUID, UUID, TIMESTAMPTZ) = "
UPDATE codex.alert_silences AS s
SET lifted_at = $3
WHERE s.workspace_id = $1
  AND s.id = $2
  AND s.lifted_at IS NULL
RETURNING s.id"
);
statement!(
    SILENCE_EXISTS(UUID, UUID) = "
SELECT s.id
FROM codex.alert_silences AS s
WHERE s.workspace_id = $1
  AND s.id = $2"
);
statement!(
    SILENCED_BY(UUID, UUID) = "
SELECT a.id
FROM codex.alert_life AS l
JOIN public.system_alerts AS a
    ON a.workspace_id = l.workspace_id
    AND a.id = l.alert_id
WHERE l.workspace_id = $1
  AND l.silenced_by = $2
ORDER BY a.id
FOR NO KEY UPDATE OF a"
);

/// Ends a silence before its time: what it covers and is still open is told now, unless another silence covers it.
///
/// One that was lifted already stays as it is. Refuses: NULL (22004); a silence that does not exist or is not visible
/// here (P0002); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn lift_silence(workspace: Option<Uuid>, silence_id: Option<Uuid>) {
    let run = || -> Outcome<()> {
        let workspace = required(workspace, "workspace")?;
        let silence = required(silence_id, "silence_id")?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            let now = instant::now();
            let arguments = [workspace.into(), silence.into(), now.into()];
            let lifted = LIFT.with(|statement| {
                statement.write_one(client, &arguments, |row| row.get::<Uuid>(1))
            })?;
            if lifted.is_none() {
                let known = SILENCE_EXISTS.with(|statement| {
                    statement.write_one(client, &arguments[..2], |row| row.get::<Uuid>(1))
                })?;
                return match known {
                    Some(_) => Ok(()),
                    None => Err(CodexError::not_found(format!(
                        "there is no silence {silence} here"
                    ))),
                };
            }
            let covered = as_owner_of(c"codex", c"alert_life", || {
                SILENCED_BY.with(|statement| {
                    statement.write(client, &arguments[..2], |row| row.get::<Uuid>(1))
                })
            })?;
            for alert in covered.into_iter().flatten() {
                look_at(client, workspace, alert, now)?;
            }
            Ok(())
        })
    };
    run().or_raise();
}

// $3 to $6 are those of the silence.
statement!(
    ALERT(UUID, UUID) = "
SELECT a.alert_type, a.status, a.severity_level, a.dedup_key, a.title, a.description
FROM public.system_alerts AS a
WHERE a.workspace_id = $1
  AND a.id = $2"
);
statement!(
    LIFE(UUID, UUID, TEXT, TEXT, TEXT, TIMESTAMPTZ) = concat!(
        "
SELECT l.escalation_level, l.silenced_by, l.due_at <= $6, silence.id, silence.ends_at, p.max_level
FROM codex.alert_life AS l
LEFT JOIN LATERAL (",
        covering_silence!(),
        "
) AS silence ON true
LEFT JOIN codex.alert_policies AS p
    ON p.workspace_id = $1
    AND p.severity_level = $4
WHERE l.workspace_id = $1
  AND l.alert_id = $2"
    )
);
statement!(
    /// NULL for `$3` counts from now on, by the policy of the severity.
    GO_ON(UUID, UUID, TIMESTAMPTZ, UUID, INT4, TIMESTAMPTZ, TEXT, TEXT) = "
UPDATE codex.alert_life AS l
SET silenced_by = $4,
    escalation_level = $5,
    due_at = coalesce($3, $6 + (
        SELECT CASE WHEN $7 = 'acknowledged' THEN p.resolve_within ELSE p.acknowledge_within END
        FROM codex.alert_policies AS p
        WHERE p.workspace_id = $1
          AND p.severity_level = $8
    ))
WHERE l.workspace_id = $1
  AND l.alert_id = $2"
);
statement!(
    NEVER_AGAIN(UUID, UUID) = "
UPDATE codex.alert_life AS l
SET due_at = NULL
WHERE l.workspace_id = $1
  AND l.alert_id = $2"
);
statement!(
    LAPSE(UUID) = "
UPDATE public.system_alerts AS a
SET status = 'active',
    acknowledged_at = NULL,
    acknowledged_by = NULL
WHERE a.id = $1
  AND a.status = 'acknowledged'"
);

/// What became of an alert that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Silenced,
    Told,
    Escalated,
}

/// Does what time and silences do to an alert, which the caller has chosen and locked.
pub fn look_at(
    client: &mut SpiClient<'_>,
    workspace: Uuid,
    id: Uuid,
    now: TimestampWithTimeZone,
) -> Outcome<Seen> {
    let role = role();
    as_owner_of(c"codex", c"alert_life", || {
        let key = [workspace.into(), id.into()];
        let found = ALERT.with(|statement| {
            statement.write_one(client, &key, |row| {
                Ok(Alert {
                    workspace,
                    id,
                    kind: row.get(1)?.unwrap_or_default(),
                    status: row.get(2)?.unwrap_or_default(),
                    severity: row.get(3)?.unwrap_or_default(),
                    dedup_key: row.get(4)?,
                    title: row.get(5)?.unwrap_or_default(),
                    description: row.get(6)?,
                })
            })
        })?;
        let Some(mut alert) = found else {
            return Ok(Seen::Nothing);
        };
        let arguments = [
            workspace.into(),
            id.into(),
            alert.kind.as_str().into(),
            alert.severity.as_str().into(),
            alert.dedup_key.as_deref().into(),
            now.into(),
        ];
        let life = LIFE.with(|statement| {
            statement.write_one(client, &arguments, |row| {
                Ok((
                    row.get::<i32>(1)?.unwrap_or(0),
                    row.get::<Uuid>(2)?,
                    row.get::<bool>(3)?.unwrap_or(false),
                    row.get::<Uuid>(4)?,
                    row.get::<TimestampWithTimeZone>(5)?,
                    row.get::<i32>(6)?.unwrap_or(0),
                ))
            })
        })?;
        let Some((level, silenced_by, due, silence, silent_until, max_level)) = life else {
            return Ok(Seen::Nothing);
        };
        if alert.status != "active" && alert.status != "acknowledged" {
            NEVER_AGAIN.with(|statement| statement.execute(client, &key))?;
            return Ok(Seen::Nothing);
        }
        let go_on = |client: &mut SpiClient<'_>,
                     alert: &Alert,
                     until,
                     silence: Option<Uuid>,
                     level: i32| {
            let arguments = [
                workspace.into(),
                id.into(),
                Option::<TimestampWithTimeZone>::into(until),
                silence.into(),
                level.into(),
                now.into(),
                alert.status.as_str().into(),
                alert.severity.as_str().into(),
            ];
            GO_ON.with(|statement| statement.execute(client, &arguments))
        };
        let status = alert.status.clone();
        let mut happened = Happened {
            event: "silenced",
            from: Some(&status),
            to: Some(&status),
            level: Some(level),
            user: None,
            role: &role,
            note: None,
        };
        if silence.is_some() {
            go_on(client, &alert, silent_until, silence, level)?;
            if silenced_by.is_none() {
                add_event(client, &alert, &happened)?;
            }
            return Ok(Seen::Silenced);
        }
        if silenced_by.is_some() {
            go_on(client, &alert, None, None, level)?;
            happened.event = "unsilenced";
            add_event(client, &alert, &happened)?;
            fan_out(client, &alert, level)?;
            return Ok(Seen::Told);
        }
        if !due {
            return Ok(Seen::Nothing);
        }
        if alert.status == "acknowledged" {
            let intent = Intent {
                note: Some("the acknowledgement timed out".to_string()),
                ..Intent::default()
            };
            intending(intent, || {
                LAPSE.with(|statement| statement.execute(client, &[id.into()]))
            })?;
            alert.status = "active".to_string();
        }
        if level >= max_level {
            NEVER_AGAIN.with(|statement| statement.execute(client, &key))?;
            return Ok(Seen::Nothing);
        }
        go_on(client, &alert, None, None, level + 1)?;
        add_event(
            client,
            &alert,
            &Happened {
                event: "escalated",
                from: Some("active"),
                to: Some("active"),
                level: Some(level + 1),
                ..happened
            },
        )?;
        fan_out(client, &alert, level + 1)?;
        Ok(Seen::Escalated)
    })
}

statement!(
    EXPIRED(TIMESTAMPTZ, INT8) = "
SELECT a.id
FROM public.system_alerts AS a
WHERE a.status IN ('active', 'acknowledged')
  AND a.expiry_date IS NOT NULL
  AND a.expiry_date <= $1
ORDER BY a.expiry_date
LIMIT $2
FOR NO KEY UPDATE SKIP LOCKED"
);
statement!(
    EXPIRE(UUID_ARRAY) = "
UPDATE public.system_alerts AS a
SET status = 'dismissed'
WHERE a.id = ANY ($1)"
);
// The alert is locked, and not its life: functions lock them in this order.
statement!(
    DUE(TIMESTAMPTZ, INT8) = "
SELECT a.workspace_id, a.id
FROM codex.alert_life AS l
JOIN public.system_alerts AS a
    ON a.workspace_id = l.workspace_id
    AND a.id = l.alert_id
WHERE l.due_at IS NOT NULL
  AND l.due_at <= $1
ORDER BY l.due_at
LIMIT $2
FOR NO KEY UPDATE OF a SKIP LOCKED"
);

// One that is reopened meanwhile is open when its lock is had.
statement!(
    DELETE_CLOSED(TIMESTAMPTZ, INT8) = "
DELETE FROM public.system_alerts AS a
WHERE a.ctid = ANY (ARRAY(
    SELECT o.ctid
    FROM codex.alert_life AS l
    JOIN public.system_alerts AS o
        ON o.workspace_id = l.workspace_id
        AND o.id = l.alert_id
    WHERE l.closed_at IS NOT NULL
      AND l.closed_at < $1
      AND o.status IN ('resolved', 'dismissed')
    ORDER BY l.closed_at
    LIMIT $2
    FOR UPDATE OF o SKIP LOCKED
))"
);

/// Does one batch of everything that is to be done at `now`; gives what was done, and to how many rows. Whatever
/// another session is at is left to it, so that two at once do no harm.
pub fn upkeep(
    client: &mut SpiClient<'_>,
    now: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<Vec<(&'static str, i64)>> {
    let arguments = [now.into(), batch.into()];
    let expired =
        EXPIRED.with(|statement| statement.write(client, &arguments, |row| row.get::<Uuid>(1)))?;
    let expired: Vec<Uuid> = expired.into_iter().flatten().collect();
    let mut done = vec![("alerts expired", expired.len() as i64)];
    if !expired.is_empty() {
        let intent = Intent {
            event: Some("expired"),
            ..Intent::default()
        };
        intending(intent, || {
            EXPIRE.with(|statement| statement.execute(client, &[expired.into()]))
        })?;
    }
    let due = DUE.with(|statement| {
        statement.write(client, &arguments, |row| {
            Ok((row.get::<Uuid>(1)?, row.get::<Uuid>(2)?))
        })
    })?;
    let (mut escalated, mut told) = (0, 0);
    for (workspace, alert) in due {
        let (Some(workspace), Some(alert)) = (workspace, alert) else {
            continue;
        };
        match look_at(client, workspace, alert, now)? {
            Seen::Escalated => escalated += 1,
            Seen::Told => told += 1,
            Seen::Nothing | Seen::Silenced => {}
        }
    }
    done.push(("alerts escalated", escalated));
    done.push(("alerts told after a silence", told));
    if let Some(before) = KEEP.limit(now)? {
        let deleted = DELETE_CLOSED.with(|s| s.execute(client, &[before.into(), batch.into()]))?;
        done.push(("closed alerts deleted", deleted as i64));
    }
    Ok(done)
}

/// Does what time does to alerts, up to `batch` rows of each kind (1 to 100000): closes what has expired, escalates
/// what nobody acknowledged or resolved in time (`codex.alert_policies`), tells what a silence covered that is over,
/// deletes what was closed more than `raptorflow_codex.keep_alerts_days` ago. Of the current workspace when there is
/// one, else of all.
///
/// Returns what was done, to how many rows. Two at once are safe. Refuses: NULL (22004); a batch out of bounds (22023); a
/// caller to whom row-level security applies and who has entered no workspace (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn upkeep_alerts(
    batch: default!(Option<i32>, 1000),
) -> TableIterator<'static, (name!(done, &'static str), name!(rows, i64))> {
    let run = || -> Outcome<_> {
        let batch = argument::between(batch, "batch", 1..=100_000)?;
        context::workspace_or_all()?;
        Spi::connect_mut(|client| upkeep(client, instant::now(), batch))
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
ALTER FUNCTION upkeep_alerts(integer) SET enable_seqscan = off;
ALTER FUNCTION upkeep_alerts(integer) SET enable_bitmapscan = off;
ALTER FUNCTION upkeep_alerts(integer) SET enable_sort = off;
COMMENT ON FUNCTION reopen_alert(uuid, uuid, text) IS
'Reopens an alert that is resolved or dismissed, within reopen_within of the policy of its severity, else 7 days. Open: no change. Errors: 22004 NULL, 22023 blank reason, P0002 unknown or not visible, 42501 not a member, 55000 closed too long ago, or another alert with its key is open.';
COMMENT ON FUNCTION silence_alerts(uuid, text, timestamptz, timestamptz, text, text, text, text) IS
'Silences alerts that match (type, severity, pattern of the dedup key with * and ?; NULL matches all) for a time: they are stored, not told, and do not escalate. Returns the id of the silence; the same call with the same idempotency_key makes one. Errors: 22004 NULL, 22023 bad value, 42501 not your workspace.';
COMMENT ON FUNCTION lift_silence(uuid, uuid) IS
'Ends a silence before its time; what it covers and is open is told now. Lifted already: no change. Errors: 22004 NULL, P0002 unknown, 42501 not your workspace.';
COMMENT ON FUNCTION upkeep_alerts(integer) IS
'Closes alerts that have expired, escalates those that nobody acknowledged or resolved in time, tells those whose silence is over, deletes those that were closed more than raptorflow_codex.keep_alerts_days ago; up to batch rows of each. Returns what was done, to how many rows. Errors: 22004 NULL, 22023 batch out of bounds, 42501 no workspace entered.';
"#,
    name = "comment_alert_life",
    requires = [reopen_alert, silence_alerts, lift_silence, upkeep_alerts]
);
