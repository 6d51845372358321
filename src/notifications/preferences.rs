//! What a user wants to get outside of the product, and when.
//!
//! | | where | without a row |
//! |---|---|---|
//! | which types by which channel | `codex.notification_preferences`; a type's own row counts before the one for `*` | all |
//! | quiet hours, by the clock on the wall of a time zone | `codex.quiet_hours` | none |
//!
//! Both belong to a user in one workspace. They are judged when a worker claims the message ([`super::queue`]), in this
//! order: who is not a member gets nothing, what has expired does not go out, what is not wanted does not, and
//! what is wanted but falls into quiet hours waits for their end, unless it is urgent.

use super::TYPES;
use crate::argument;
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::instant;
use crate::row_triggers::Row;
use crate::statement::{Reference, naming_what_is_missing};
use crate::{statement, trigger_function};
use codex_delivery::QuietHours;
use pgrx::Uuid;
use pgrx::datum::{Time, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::ffi::CString;

/// The channels that a user can refuse.
const CHANNELS: &[&str] = &["email", "slack", "sms", "push"];

/// Quiet hours, and the zone whose clock they go by.
pub struct ZonedHours {
    hours: QuietHours,
    zone: String,
}

/// What decides over a message.
pub struct Wishes {
    pub expired: bool,
    pub enabled: bool,
    pub quiet: Option<ZonedHours>,
}

/// What becomes of a message.
pub enum Verdict {
    GoesOut,
    Suppressed(&'static str),
    PutOff(TimestampWithTimeZone),
}

impl Wishes {
    /// What becomes of the message now.
    pub fn verdict(
        &self,
        is_member: bool,
        urgent: bool,
        now: TimestampWithTimeZone,
    ) -> Outcome<Verdict> {
        if !is_member {
            return Ok(Verdict::Suppressed("not_a_member"));
        }
        if self.expired {
            return Ok(Verdict::Suppressed("expired"));
        }
        if !self.enabled {
            return Ok(Verdict::Suppressed("preference"));
        }
        let end = match &self.quiet {
            Some(quiet) if !urgent => quiet.end(now)?,
            _ => None,
        };
        Ok(end.map_or(Verdict::GoesOut, Verdict::PutOff))
    }
}

/// The quiet hours of a row; none where it has none.
pub fn quiet_hours(
    starts: Option<Time>,
    ends: Option<Time>,
    zone: Option<String>,
) -> Option<ZonedHours> {
    let (starts, ends) = (starts?.into_inner(), ends?.into_inner());
    Some(ZonedHours {
        hours: QuietHours { starts, ends },
        zone: zone?,
    })
}

impl ZonedHours {
    /// When the quiet hours end that are at `now`; None when it is not quiet.
    ///
    /// A zone that this server does not know (any more) counts as UTC: time zones come with the operating system, and
    /// a message must not be lost over a database that has moved. An end that a change of the clocks leaves out is
    /// an hour later, one that it repeats is the second.
    fn end(&self, now: TimestampWithTimeZone) -> Outcome<Option<TimestampWithTimeZone>> {
        let known = CString::new(self.zone.as_str()).is_ok_and(|zone| {
            // SAFETY: looks a terminated name up in Postgres's own list; NULL where it is not in it.
            !unsafe { pg_sys::pg_tzset(zone.as_ptr()) }.is_null()
        });
        let zone = if known { self.zone.as_str() } else { "UTC" };
        let micros = pg_sys::TimestampTz::from(now);
        // SAFETY: both functions take a text and a timestamp, which is 64 bits as they are, and raise no error for a
        // zone that is known. They read nothing but their arguments.
        let convert = |function, micros: i64| unsafe {
            pgrx::direct_function_call::<i64>(function, &[zone.into_datum(), micros.into_datum()])
        };
        let Some(local) = convert(pg_sys::timestamptz_zone, micros) else {
            return Ok(None);
        };
        let Some(end) = self.hours.end_after(local) else {
            return Ok(None);
        };
        match convert(pg_sys::timestamp_zone, end) {
            Some(end) if end > micros => Ok(Some(instant::of(end)?)),
            _ => Ok(None),
        }
    }
}

statement!(
    /// Zones in the list have a place and its history; `UTC+2` and the like are understood by Postgres, too, but
    /// mean the opposite of what they say.
    IS_TIME_ZONE(TEXT) = "
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_timezone_names AS z
    WHERE lower(z.name) = lower($1)
)"
);

fn is_time_zone(client: &SpiClient<'_>, zone: &str) -> Outcome<bool> {
    let found = IS_TIME_ZONE
        .with(|statement| statement.read_one(client, &[zone.into()], |row| row.get::<bool>(1)))?;
    Ok(found.flatten().unwrap_or(false))
}

fn require_time_zone(zone: &str) -> Outcome<()> {
    if Spi::connect(|client| is_time_zone(client, zone))? {
        return Ok(());
    }
    Err(
        CodexError::bad_value(format!("time_zone is \"{}\"", shorten(zone))).with_hint(
            "Give a name such as Europe/Berlin; SELECT name FROM pg_timezone_names lists them.",
        ),
    )
}

/// Refuses a `time_zone` that is not in the list of Postgres (22023).
fn check_zone(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let row = Row::of(data)?;
    let column = row.text_column("time_zone")?;
    if let Some(zone) = row.new_value::<String>(column) {
        require_time_zone(&zone)?;
    }
    Ok(row.unchanged())
}

trigger_function!(check_time_zone, check_zone);

extension_sql!(
    r#"
CREATE FUNCTION check_time_zone() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'check_time_zone_trigger';

COMMENT ON FUNCTION check_time_zone() IS
'Trigger BEFORE INSERT OR UPDATE: refuses a time_zone that pg_timezone_names does not list (22023).';
"#,
    name = "trigger_check_time_zone"
);

statement!(
    SET_PREFERENCE(UUID, UUID, TEXT, TEXT, BOOL) = "
INSERT INTO codex.notification_preferences AS p (workspace_id, user_id, channel, notification_type, enabled)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (workspace_id, user_id, channel, notification_type) DO UPDATE
SET enabled = excluded.enabled
WHERE p.enabled <> excluded.enabled"
);
statement!(
    FORGET_PREFERENCE(UUID, UUID, TEXT, TEXT) = "
DELETE FROM codex.notification_preferences AS p
WHERE p.workspace_id = $1
  AND p.user_id = $2
  AND p.channel = $3
  AND p.notification_type = $4"
);
statement!(
    SET_QUIET_HOURS(UUID, UUID, TIME, TIME, TEXT) = "
INSERT INTO codex.quiet_hours AS q (workspace_id, user_id, starts_at, ends_at, time_zone)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (workspace_id, user_id) DO UPDATE
SET starts_at = excluded.starts_at,
    ends_at = excluded.ends_at,
    time_zone = excluded.time_zone
WHERE (q.starts_at, q.ends_at, q.time_zone) IS DISTINCT FROM (excluded.starts_at, excluded.ends_at, excluded.time_zone)"
);
statement!(
    FORGET_QUIET_HOURS(UUID, UUID) = "
DELETE FROM codex.quiet_hours AS q
WHERE q.workspace_id = $1
  AND q.user_id = $2"
);

/// The user of a wish, who has to be a member of the workspace.
fn member(workspace: Option<Uuid>, user: Option<Uuid>) -> Outcome<(Uuid, Uuid)> {
    let workspace = required(workspace, "workspace")?;
    let user = required(user, "user_id")?;
    context::require_workspace(workspace)?;
    context::require_self(user)?;
    if context::is_member(workspace, user)? {
        Ok((workspace, user))
    } else {
        Err(context::not_a_member(workspace, user))
    }
}

fn user_reference(constraint: &'static str, user: Uuid) -> [Reference<'static>; 1] {
    [Reference {
        foreign_key: constraint,
        argument: "user_id",
        what: "user",
        value: Some(user),
    }]
}

/// Sets whether a user wants a type of notification by a channel.
///
/// - `channel`: email, slack, sms or push; the inbox of the product is always there.
/// - `enabled`: NULL forgets the wish, so that the one for all types counts, or else the default: yes.
/// - `notification_type`: alert, achievement, message, reminder or summary; NULL for all that have no wish of
///   their own.
///
/// It counts for what goes out from now on, what is waiting included. Refuses: NULL for another argument (22004); a value
/// out of its list (22023); a user who is not a member, a workspace that is not the caller's, and another user's
/// wishes unless the caller acts for the workspace (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_notification_preference(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
    channel: Option<&str>,
    enabled: Option<bool>,
    notification_type: default!(Option<&str>, "NULL"),
) {
    let run = || -> Outcome<()> {
        required(workspace, "workspace")?;
        required(user_id, "user_id")?;
        let channel = argument::one_of(channel, "channel", CHANNELS)?;
        let notification_type = match notification_type {
            None => "*",
            some => argument::one_of(some, "notification_type", TYPES)?,
        };
        let (workspace, user) = member(workspace, user_id)?;
        let mut arguments = vec![
            workspace.into(),
            user.into(),
            channel.into(),
            notification_type.into(),
        ];
        Spi::connect_mut(|client| match enabled {
            None => FORGET_PREFERENCE.with(|statement| statement.execute(client, &arguments)),
            Some(enabled) => {
                arguments.push(enabled.into());
                naming_what_is_missing(
                    &user_reference("notification_preferences_user_id_fkey", user),
                    || SET_PREFERENCE.with(|statement| statement.execute(client, &arguments)),
                )
            }
        })?;
        Ok(())
    };
    run().or_raise();
}

/// Sets the hours in which a user wants no message outside of the product: from `starts_at` (included) to
/// `ends_at` (excluded) by the clock of `time_zone`, over midnight where it ends earlier than it starts.
///
/// `time_zone` is a name of `pg_timezone_names`. With NULL for all three there are no quiet hours any more. Urgent
/// messages go out all the same, others when the quiet hours end.
///
/// Refuses: NULL for the workspace or the user, or for some of the three (22004); a time zone that is not in the list,
/// hours that start and end at the same time (22023); a user who is not a member, a workspace that is not the
/// caller's, and another user's hours unless the caller acts for the workspace (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_quiet_hours(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
    starts_at: default!(Option<Time>, "NULL"),
    ends_at: default!(Option<Time>, "NULL"),
    time_zone: default!(Option<&str>, "NULL"),
) {
    let run = || -> Outcome<()> {
        let (workspace, user) = member(workspace, user_id)?;
        if starts_at.is_none() && ends_at.is_none() && time_zone.is_none() {
            let arguments = [workspace.into(), user.into()];
            Spi::connect_mut(|client| {
                FORGET_QUIET_HOURS.with(|statement| statement.execute(client, &arguments))
            })?;
            return Ok(());
        }
        let starts = required(starts_at, "starts_at")?;
        let ends = required(ends_at, "ends_at")?;
        let zone = required(time_zone, "time_zone")?;
        require_time_zone(zone)?;
        if starts.into_inner() == ends.into_inner() {
            return Err(CodexError::bad_value(
                "quiet hours must not start and end at the same time (24:00 is 00:00)",
            )
            .with_hint("Switch a channel off with codex.set_notification_preference() instead."));
        }
        let arguments = [
            workspace.into(),
            user.into(),
            starts.into(),
            ends.into(),
            zone.into(),
        ];
        Spi::connect_mut(|client| {
            naming_what_is_missing(&user_reference("quiet_hours_user_id_fkey", user), || {
                SET_QUIET_HOURS.with(|statement| statement.execute(client, &arguments))
            })
        })?;
        Ok(())
    };
    run().or_raise();
}

extension_sql!(
    r#"
COMMENT ON FUNCTION set_notification_preference(uuid, uuid, text, boolean, text) IS
'Sets whether a user wants a type of notification (NULL: all without a wish of their own) by a channel (email, slack, sms, push); enabled NULL forgets the wish. It counts for what is waiting, too. Errors: 22004 NULL, 22023 bad value, 42501 not a member, not your workspace, or another user''s wishes.';
COMMENT ON FUNCTION set_quiet_hours(uuid, uuid, time, time, text) IS
'Sets the hours in which a user gets nothing outside of the product but what is urgent, by the clock of a time zone of pg_timezone_names, over midnight where they end earlier than they start; all three NULL: none. Errors: 22004 NULL for some of them, 22023 unknown zone or no hours, 42501 not a member, not your workspace, or another user''s hours.';
"#,
    name = "comment_notification_preferences",
    requires = [set_notification_preference, set_quiet_hours]
);
