//! What happened to an alert, and what follows from it in the same transaction.
//!
//! A trigger sees every change of an alert's status or severity, whether a function made it or a plain UPDATE, and
//!
//! 1. keeps `codex.alert_life`: since when it is open, whether a silence covers it, when it is to be looked at again;
//! 2. adds an event to `codex.alert_events`, with who did it and why, where a function said so ([`intending`]);
//! 3. tells those whom `codex.alert_fan_out` names when it opens, reopens, or its severity changes while it is open.
//!
//! It does so as the owner of these tables ([`crate::owner`]): nobody else may write them, so that the history cannot
//! be forged. An alert that is locked before its life is changed keeps two sessions from waiting for each other.

use crate::context;
use crate::context::membership;
use crate::departures::erasing;
use crate::error::Outcome;
use crate::instant;
use crate::owner::as_owner_of;
use crate::row_triggers::{Event, Row};
use crate::{statement, trigger_function};
use pgrx::Uuid;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::cell::RefCell;
use std::ffi::CStr;

/// What a function says of the change that it is about to make.
#[derive(Clone, Default)]
pub struct Intent {
    /// The name of the event, where it is not plain from the statuses.
    pub event: Option<&'static str>,
    /// Who does it.
    pub user: Option<Uuid>,
    /// Why, or what was done.
    pub note: Option<String>,
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

/// An alert as the statements below need it.
pub struct Alert {
    pub workspace: Uuid,
    pub id: Uuid,
    pub kind: String,
    pub status: String,
    pub severity: String,
    pub dedup_key: Option<String>,
    pub title: String,
    pub description: Option<String>,
}

/// An event to be added.
pub struct Happened<'a> {
    pub event: &'a str,
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
    pub level: Option<i32>,
    pub user: Option<Uuid>,
    pub role: &'a str,
    pub note: Option<&'a str>,
}

/// The role that the session works as.
pub fn role() -> String {
    // SAFETY: gives a name in memory of Postgres, or NULL for a role that was dropped meanwhile.
    unsafe {
        let name = pg_sys::GetUserNameFromId(pg_sys::GetUserId(), true);
        if name.is_null() {
            return "unknown".to_string();
        }
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

// A workspace that is being deleted takes its alerts with it, and has no history any more.
statement!(
    ADD_EVENT(UUID, UUID, TEXT, TEXT, TEXT, TEXT, INT4, UUID, TEXT, TEXT) = "
INSERT INTO codex.alert_events (
    workspace_id, alert_id, position, event, from_status, to_status, severity_level, escalation_level,
    user_id, database_role, note
)
SELECT
    $1,
    $2,
    coalesce((
        SELECT e.position
        FROM codex.alert_events AS e
        WHERE e.workspace_id = $1
          AND e.alert_id = $2
        ORDER BY e.position DESC
        LIMIT 1
    ), 0) + 1,
    $3, $4, $5, $6, $7, $8, $9, $10
WHERE EXISTS (
    SELECT
    FROM public.workspaces AS w
    WHERE w.id = $1
)"
);

/// Adds an event; to be called as the owner.
pub fn add_event(
    client: &mut SpiClient<'_>,
    alert: &Alert,
    happened: &Happened<'_>,
) -> Outcome<()> {
    let arguments = [
        alert.workspace.into(),
        alert.id.into(),
        happened.event.into(),
        happened.from.into(),
        happened.to.into(),
        alert.severity.as_str().into(),
        happened.level.into(),
        happened.user.into(),
        happened.role.into(),
        happened.note.into(),
    ];
    ADD_EVENT.with(|statement| statement.execute(client, &arguments))?;
    Ok(())
}

/// The silence that covers an alert of workspace `$1`, type `$3`, severity `$4` and key `$5` at the time `$6`.
#[macro_export]
macro_rules! covering_silence {
    () => {
        concat!(
            "
    SELECT s.id, s.ends_at
    FROM codex.alert_silences AS s
    WHERE s.workspace_id = $1
      AND s.lifted_at IS NULL
      AND s.starts_at <= $6
      AND s.ends_at > $6
      AND (s.alert_type IS NULL OR s.alert_type = $3)
      AND (s.severity_level IS NULL OR s.severity_level = $4)
      AND (s.dedup_glob IS NULL OR $5 LIKE ",
            $crate::glob_as_like!("s.dedup_glob"),
            ")
    ORDER BY s.ends_at DESC
    LIMIT 1"
        )
    };
}

/// A pattern of `*` and `?` as one of LIKE.
#[macro_export]
macro_rules! glob_as_like {
    ($glob:literal) => {
        concat!(
            r"replace(replace(replace(replace(replace(",
            $glob,
            r", '\', '\\'), '%', '\%'), '_', '\_'), '*', '%'), '?', '_')"
        )
    };
}

// $2 alert, $7 status, $8 whether it opens anew.
statement!(
    LIVE_ON(UUID, UUID, TEXT, TEXT, TEXT, TIMESTAMPTZ, TEXT, BOOL) = concat!(
        "
INSERT INTO codex.alert_life AS l (workspace_id, alert_id, opened_at, closed_at, due_at, silenced_by)
SELECT
    $1,
    $2,
    now(),
    CASE WHEN $7 IN ('resolved', 'dismissed') THEN now() END,
    CASE
        WHEN $7 IN ('resolved', 'dismissed') THEN NULL
        WHEN silence.id IS NOT NULL THEN silence.ends_at
        WHEN $7 = 'acknowledged' THEN $6 + p.resolve_within
        ELSE $6 + p.acknowledge_within
    END,
    CASE WHEN $7 IN ('active', 'acknowledged') THEN silence.id END
FROM (SELECT) AS one
LEFT JOIN LATERAL (",
        covering_silence!(),
        "
) AS silence ON true
LEFT JOIN codex.alert_policies AS p
    ON p.workspace_id = $1
    AND p.severity_level = $4
ON CONFLICT (workspace_id, alert_id) DO UPDATE
SET opened_at = CASE WHEN $8 THEN excluded.opened_at ELSE l.opened_at END,
    closed_at = excluded.closed_at,
    escalation_level = CASE WHEN $8 THEN 0 ELSE l.escalation_level END,
    due_at = excluded.due_at,
    silenced_by = excluded.silenced_by
RETURNING l.escalation_level, l.silenced_by"
    )
);

statement!(
    LIVE_NO_MORE(UUID, UUID) = "
DELETE FROM codex.alert_life AS l
WHERE l.workspace_id = $1
  AND l.alert_id = $2"
);

statement!(
    RULES(UUID, TEXT, INT4) = "
SELECT r.user_id, r.channel
FROM codex.alert_fan_out AS r
WHERE r.workspace_id = $1
  AND r.severity_level = $2
  AND r.from_level <= $3"
);
statement!(
    TELL(UUID, UUID_ARRAY, TEXT_ARRAY, TEXT, TEXT, TEXT, UUID) = "
INSERT INTO public.user_notifications (
    workspace_id, user_id, channel, notification_type, title, message, priority_level, related_alert_id
)
SELECT $1, told.user_id, told.channel, 'alert', $4, $5, $6, $7
FROM unnest($2, $3) AS told (user_id, channel)"
);

/// Tells the members whom the rules name, by the channels that they name; to be called as the owner.
pub fn fan_out(client: &mut SpiClient<'_>, alert: &Alert, level: i32) -> Outcome<()> {
    let arguments = [
        alert.workspace.into(),
        alert.severity.as_str().into(),
        level.into(),
    ];
    let rules = RULES.with(|statement| {
        statement.write(client, &arguments, |row| {
            Ok((
                row.get::<Uuid>(1)?,
                row.get::<String>(2)?.unwrap_or_default(),
            ))
        })
    })?;
    if rules.is_empty() {
        return Ok(());
    }
    let members = membership::members(alert.workspace);
    let mut told: Vec<(Uuid, String)> = Vec::new();
    for (user, channel) in rules {
        match user {
            Some(user) if members.contains(&user) => told.push((user, channel)),
            Some(_) => {}
            None => told.extend(members.iter().map(|user| (*user, channel.clone()))),
        }
    }
    told.sort_unstable();
    told.dedup();
    if told.is_empty() {
        return Ok(());
    }
    let (users, channels): (Vec<Uuid>, Vec<String>) = told.into_iter().unzip();
    let message = match alert.description.as_deref() {
        Some(text) if !text.trim().is_empty() => text,
        _ => alert.title.as_str(),
    };
    let priority = match alert.severity.as_str() {
        "critical" => "urgent",
        "high" => "high",
        "medium" => "normal",
        _ => "low",
    };
    let arguments = [
        alert.workspace.into(),
        users.into(),
        channels.into(),
        alert.title.as_str().into(),
        message.into(),
        priority.into(),
        alert.id.into(),
    ];
    as_owner_of(c"public", c"user_notifications", || {
        TELL.with(|statement| statement.execute(client, &arguments))
    })?;
    Ok(())
}

fn is_open(status: &str) -> bool {
    matches!(status, "active" | "acknowledged")
}

/// What a change of status is called, where nobody says otherwise.
fn name_of(from: &str, to: &str) -> &'static str {
    match (from, to) {
        (_, "resolved") => "resolved",
        (_, "dismissed") => "dismissed",
        (from, _) if !is_open(from) => "reopened",
        (_, "acknowledged") => "acknowledged",
        _ => "unacknowledged",
    }
}

/// Keeps the life and the history of an alert that was inserted, changed or deleted.
fn follow(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let (event, row) = Row::after(data)?;
    if event == Event::Delete && erasing() {
        return Ok(std::ptr::null_mut());
    }
    let id = row.column("id", pg_sys::UUIDOID)?;
    let workspace = row.column("workspace_id", pg_sys::UUIDOID)?;
    let status = row.text_column("status")?;
    let severity = row.text_column("severity_level")?;
    let text = |name: &str| -> Outcome<Option<String>> {
        let column = row.text_column(name)?;
        Ok(row.new_value(column).or_else(|| row.old_value(column)))
    };
    let now_or_then =
        |column| -> Option<Uuid> { row.new_value(column).or_else(|| row.old_value(column)) };
    let (Some(id), Some(workspace)) = (now_or_then(id), now_or_then(workspace)) else {
        return Ok(std::ptr::null_mut());
    };
    let alert = Alert {
        workspace,
        id,
        kind: text("alert_type")?.unwrap_or_default(),
        status: text("status")?.unwrap_or_default(),
        severity: text("severity_level")?.unwrap_or_default(),
        dedup_key: text("dedup_key")?,
        title: text("title")?.unwrap_or_default(),
        description: text("description")?,
    };
    let intent = INTENT
        .with_borrow(|intent| intent.clone())
        .unwrap_or_default();
    let user = match intent.user {
        None => context::current_user().filter(|user| membership::of(workspace, *user)),
        some => some,
    };
    let before: Option<String> = row.old_value(status);
    let severity_before: Option<String> = row.old_value(severity);
    let role = role();
    as_owner_of(c"codex", c"alert_events", || {
        Spi::connect_mut(|client| {
            let mut happened = Happened {
                event: "deleted",
                from: before.as_deref(),
                to: None,
                level: None,
                user,
                role: &role,
                note: intent.note.as_deref(),
            };
            if event == Event::Delete {
                let arguments = [alert.workspace.into(), alert.id.into()];
                LIVE_NO_MORE.with(|statement| statement.execute(client, &arguments))?;
                return add_event(client, &alert, &happened);
            }
            happened.to = Some(&alert.status);
            let opens = match before.as_deref() {
                None => true,
                Some(before) => !is_open(before) && is_open(&alert.status),
            };
            let arguments = [
                alert.workspace.into(),
                alert.id.into(),
                alert.kind.as_str().into(),
                alert.severity.as_str().into(),
                alert.dedup_key.as_deref().into(),
                instant::now().into(),
                alert.status.as_str().into(),
                opens.into(),
            ];
            let life = LIVE_ON.with(|statement| {
                statement.write_one(client, &arguments, |row| {
                    Ok((row.get::<i32>(1)?, row.get::<Uuid>(2)?))
                })
            })?;
            let (level, silence) = life.unwrap_or_default();
            let level = level.unwrap_or(0);
            happened.level = Some(level);
            if severity_before.is_some() && severity_before.as_deref() != Some(&alert.severity) {
                add_event(
                    client,
                    &alert,
                    &Happened {
                        event: "severity_changed",
                        to: before.as_deref(),
                        ..happened
                    },
                )?;
            }
            match before.as_deref() {
                None => {
                    happened.event = "opened";
                    add_event(client, &alert, &happened)?;
                }
                Some(from) if from != alert.status => {
                    happened.event = intent.event.unwrap_or(name_of(from, &alert.status));
                    add_event(client, &alert, &happened)?;
                }
                Some(_) => {}
            }
            let raised = severity_before
                .as_deref()
                .is_some_and(|before| place(&alert.severity) < place(before));
            if !is_open(&alert.status) || !(opens || raised) {
                return Ok(());
            }
            if silence.is_some() {
                if opens {
                    happened.event = "silenced";
                    happened.from = happened.to;
                    happened.note = None;
                    add_event(client, &alert, &happened)?;
                }
                return Ok(());
            }
            fan_out(client, &alert, level)
        })
    })?;
    Ok(std::ptr::null_mut())
}

/// The place of a severity, the worst first.
fn place(severity: &str) -> usize {
    super::SEVERITIES
        .iter()
        .position(|one| *one == severity)
        .unwrap_or(super::SEVERITIES.len())
}

trigger_function!(follow_alert, follow);

extension_sql!(
    r#"
CREATE FUNCTION follow_alert() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'follow_alert_trigger';

COMMENT ON FUNCTION follow_alert() IS
'Trigger AFTER INSERT, UPDATE or DELETE of an alert: keeps codex.alert_life, adds to codex.alert_events and tells whom codex.alert_fan_out names, as the owner of these tables.';
"#,
    name = "trigger_follow_alert"
);
