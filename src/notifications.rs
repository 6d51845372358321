//! Notifications: messages to members of a workspace.
//!
//! Sending is *idempotent* with a key: what is sent again with the same key is not sent twice, and the
//! first answer comes back. To one user or to ten thousand, it is one statement.
//!
//! | part | what it does |
//! |---|---|
//! | this file | sending, reading, marking as read |
//! | [`queue`] | the way out of the product: claims, leases, attempts |
//! | [`preferences`] | what a user wants to get, and when |
//! | [`inbox`] | seen, read, archived; pages and counts |
//! | [`digest`] | many messages as one |
//! | [`announce`] | NOTIFY |
//! | [`upkeep`] | what time does |

mod announce;
mod digest;
mod inbox;
mod preferences;
mod queue;
pub mod upkeep;

use crate::argument::{self, LONGEST_KEY};
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::identifier;
use crate::statement::{Reference, naming_what_is_missing};
use crate::{list_page, list_statement, statement};
use pgrx::Uuid;
use pgrx::datum::{Array, DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, SpiHeapTupleData, SpiResult};

const TYPES: &[&str] = &["alert", "achievement", "message", "reminder", "summary"];
const CHANNELS: &[&str] = &["in_app", "email", "slack", "sms", "push"];
const PRIORITIES: &[&str] = &["urgent", "high", "normal", "low"];

/// Defines the settings that this room reads.
pub fn define_settings() {
    announce::define_settings();
    upkeep::define_settings();
}

/// The idempotency key of a bulk message is followed by a colon and the 36 characters of the recipient's id.
const LONGEST_BULK_KEY: usize = LONGEST_KEY - 37;

/// A message as it is sent, to whomever: the payload that an idempotency key stands for.
struct Message<'a> {
    notification_type: &'a str,
    title: &'a str,
    message: &'a str,
    channel: &'a str,
    priority: &'a str,
    action_url: Option<&'a str>,
    alert: Option<Uuid>,
    expires_at: Option<TimestampWithTimeZone>,
    achievement: Option<Uuid>,
    campaign: Option<Uuid>,
}

impl<'a> Message<'a> {
    /// Checks what the two sending functions have in common.
    #[allow(clippy::too_many_arguments)]
    fn new(
        notification_type: Option<&'a str>,
        title: Option<&'a str>,
        message: Option<&'a str>,
        channel: Option<&'a str>,
        priority: Option<&'a str>,
        action_url: Option<&'a str>,
        alert: Option<Uuid>,
        expires_at: Option<TimestampWithTimeZone>,
        achievement: Option<Uuid>,
        campaign: Option<Uuid>,
    ) -> Outcome<Self> {
        Ok(Self {
            notification_type: argument::one_of(notification_type, "p_notification_type", TYPES)?,
            title: argument::not_blank(title, "p_title")?,
            message: argument::not_blank(message, "p_message")?,
            channel: argument::one_of(channel, "p_channel", CHANNELS)?,
            priority: argument::one_of(priority, "p_priority", PRIORITIES)?,
            action_url,
            alert,
            expires_at,
            achievement,
            campaign,
        })
    }

    /// A digest: of type `summary`, of normal priority, about nothing in particular.
    fn summary(title: &'a str, message: &'a str, channel: &'a str) -> Self {
        Self {
            notification_type: "summary",
            title,
            message,
            channel,
            priority: "normal",
            action_url: None,
            alert: None,
            expires_at: None,
            achievement: None,
            campaign: None,
        }
    }

    /// An achievement that was unlocked.
    fn unlock(title: &'a str, message: &'a str, achievement: Uuid) -> Self {
        Self {
            notification_type: "achievement",
            achievement: Some(achievement),
            ..Self::summary(title, message, "in_app")
        }
    }

    /// The arguments of the statements below: whom it goes to ($2) and under which keys ($3), the message, and the id
    /// of the notification where there is one ($14).
    fn arguments(
        &self,
        workspace: Uuid,
        recipients: DatumWithOid<'static>,
        keys: DatumWithOid<'static>,
        id: Option<Uuid>,
    ) -> [DatumWithOid<'static>; 14] {
        [
            workspace.into(),
            recipients,
            keys,
            self.notification_type.into(),
            self.title.into(),
            self.message.into(),
            self.channel.into(),
            self.priority.into(),
            self.action_url.into(),
            self.alert.into(),
            self.expires_at.into(),
            self.achievement.into(),
            self.campaign.into(),
            id.into(),
        ]
    }

    /// What its foreign keys check.
    fn references(&self) -> [Reference<'static>; 3] {
        [
            Reference {
                foreign_key: "user_notifications_related_alert_id_fkey",
                argument: "p_alert_id",
                what: "alert in this workspace",
                value: self.alert,
            },
            Reference {
                foreign_key: "user_notifications_related_achievement_id_fkey",
                argument: "p_achievement_id",
                what: "achievement in this workspace",
                value: self.achievement,
            },
            Reference {
                foreign_key: "user_notifications_related_campaign_id_fkey",
                argument: "p_campaign_id",
                what: "campaign in this workspace",
                value: self.campaign,
            },
        ]
    }

    /// What is left to say when a notification was neither written nor there.
    fn suppressed(&self, missing: usize, of: usize) -> CodexError {
        CodexError::wrong_state(format!(
            "{missing} of {of} notifications \"{}\" were not written: a trigger or rule on public.user_notifications suppressed them",
            shorten(self.title)
        ))
    }
}

// For one recipient and for many, with keys and without: ON CONFLICT writes each row twice into the log, first as
// tried and then as there to stay, which only a row that can meet another one has to pay for.
macro_rules! write_notifications {
    ($columns:expr, $recipients:expr, $conflict:expr) => {
        concat!(
            "
INSERT INTO public.user_notifications (",
            $columns,
            "
    workspace_id, user_id, idempotency_key, notification_type, title, message, channel, priority_level,
    action_url, related_alert_id, expires_at, related_achievement_id, related_campaign_id
)",
            $recipients,
            $conflict
        )
    };
}
macro_rules! to_one {
    () => {
        "
VALUES ($14, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
    };
}
macro_rules! to_many {
    () => {
        "
SELECT $1, recipient.user_id, recipient.idempotency_key, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
FROM unnest($2, $3) AS recipient (user_id, idempotency_key)"
    };
}
macro_rules! unless_sent {
    () => {
        "
ON CONFLICT (workspace_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"
    };
}

macro_rules! message_statement {
    ($name:ident to $users:ident under $keys:ident = $sql:expr) => {
        statement!(
            $name(
                UUID,
                $users,
                $keys,
                TEXT,
                TEXT,
                TEXT,
                TEXT,
                TEXT,
                TEXT,
                UUID,
                TIMESTAMPTZ,
                UUID,
                UUID,
                UUID
            ) = $sql
        );
    };
}

message_statement!(WRITE_ONE to UUID under TEXT = write_notifications!("\n    id,", to_one!(), ""));
message_statement!(
    WRITE_ONE_WITH_KEY to UUID under TEXT = write_notifications!("\n    id,", to_one!(), unless_sent!())
);
message_statement!(WRITE_MANY to UUID_ARRAY under TEXT_ARRAY = write_notifications!("", to_many!(), ""));
message_statement!(
    WRITE_MANY_WITH_KEYS to UUID_ARRAY under TEXT_ARRAY =
        write_notifications!("", to_many!(), unless_sent!())
);

// What was sent under these keys before, and in which arguments it differs from what is sent now.
macro_rules! sent_before {
    ($recipients:literal) => {
        concat!(
            "
SELECT
    n.id,
    n.user_id,
    concat_ws(', ',
        CASE WHEN n.user_id <> recipient.user_id THEN 'p_user_id' END,
        CASE WHEN n.notification_type <> $4 THEN 'p_notification_type' END,
        CASE WHEN n.title <> $5 THEN 'p_title' END,
        CASE WHEN n.message <> $6 THEN 'p_message' END,
        CASE WHEN n.channel <> $7 THEN 'p_channel' END,
        CASE WHEN n.priority_level IS DISTINCT FROM $8 THEN 'p_priority' END,
        CASE WHEN n.action_url IS DISTINCT FROM $9 THEN 'p_action_url' END,
        CASE WHEN n.related_alert_id IS DISTINCT FROM $10 THEN 'p_alert_id' END,
        CASE WHEN n.expires_at IS DISTINCT FROM $11 THEN 'p_expires_at' END,
        CASE WHEN n.related_achievement_id IS DISTINCT FROM $12 THEN 'p_achievement_id' END,
        CASE WHEN n.related_campaign_id IS DISTINCT FROM $13 THEN 'p_campaign_id' END
    )
FROM ",
            $recipients,
            "
JOIN public.user_notifications AS n
    ON n.workspace_id = $1
    AND n.idempotency_key = recipient.idempotency_key"
        )
    };
}

message_statement!(
    ONE_SENT_BEFORE to UUID under TEXT = sent_before!("(SELECT $2, $3) AS recipient (user_id, idempotency_key)")
);
message_statement!(
    MANY_SENT_BEFORE to UUID_ARRAY under TEXT_ARRAY =
        sent_before!("unnest($2, $3) AS recipient (user_id, idempotency_key)")
);

/// Sends a message to one user of `workspace`; returns the id of the notification, old or new.
fn send_to_one(
    workspace: Uuid,
    user: Uuid,
    key: Option<&str>,
    message: &Message<'_>,
) -> Outcome<Uuid> {
    context::require_workspace(workspace)?;
    // Made here and not asked for with RETURNING, for which row-level security checks every row a second time.
    let id = identifier::uuid_v7();
    let arguments = message.arguments(workspace, user.into(), key.into(), Some(id));
    Spi::connect_mut(|client| {
        let sent = |client: &mut SpiClient<'_>| -> Outcome<Option<Uuid>> {
            let Some(key) = key else {
                return Ok(None);
            };
            let before =
                ONE_SENT_BEFORE.with(|s| s.write(client, &arguments, sent_notification))?;
            Ok(the_same(before, key)?.into_iter().next().map(|(id, _)| id))
        };
        if !context::is_member(workspace, user)? {
            // A retry is answered from what is there, even if the recipient has left the workspace since.
            return sent(client)?.ok_or_else(|| context::not_a_member(workspace, user));
        }
        let statement = if key.is_some() {
            &WRITE_ONE_WITH_KEY
        } else {
            &WRITE_ONE
        };
        let written = naming_what_is_missing(&message.references(), || {
            statement.with(|s| s.execute(client, &arguments))
        })?;
        if written > 0 {
            return Ok(id);
        }
        sent(client)?.ok_or_else(|| message.suppressed(1, 1))
    })
}

/// Tells a user of an achievement that was unlocked.
pub fn of_an_unlock(
    workspace: Uuid,
    user: Uuid,
    achievement: Uuid,
    name: &str,
    points: i32,
) -> Outcome<()> {
    let title = format!("Achievement unlocked: {name}");
    let message = format!("You have earned {points} points.");
    let message = Message::unlock(&title, &message, achievement);
    send_to_one(workspace, user, None, &message)?;
    Ok(())
}

/// Sends a message to `users` of `workspace`, each with the key of the same position; returns how many have it.
fn send_to_many(
    workspace: Uuid,
    users: &[Uuid],
    keys: Option<Vec<String>>,
    idempotency_key: Option<&str>,
    message: &Message<'_>,
) -> Outcome<usize> {
    context::require_workspace(workspace)?;
    let statement = if keys.is_some() {
        &WRITE_MANY_WITH_KEYS
    } else {
        &WRITE_MANY
    };
    let arguments = message.arguments(workspace, users.to_vec().into(), keys.into(), None);
    Spi::connect_mut(|client| {
        let sent = |client: &mut SpiClient<'_>| -> Outcome<Vec<(Uuid, Uuid)>> {
            let Some(key) = idempotency_key else {
                return Ok(Vec::new());
            };
            let before =
                MANY_SENT_BEFORE.with(|s| s.write(client, &arguments, sent_notification))?;
            the_same(before, key)
        };
        // A retry is answered from what is there, even if a recipient has left the workspace since.
        let before = sent(client)?;
        if before.len() == users.len() {
            return Ok(before.len());
        }
        refuse_strangers(workspace, users, &before)?;
        let mut written = naming_what_is_missing(&message.references(), || {
            statement.with(|s| s.execute(client, &arguments))
        })?;
        if written < users.len() {
            // Either some were there before, or another session was faster; it has committed, or we would
            // have waited for it.
            written = sent(client)?.len();
        }
        if written < users.len() {
            return Err(message.suppressed(users.len() - written, users.len()));
        }
        Ok(written)
    })
}

/// A notification that went out under a key: id, recipient, and where it differs from what is sent now.
type Sent = (Option<Uuid>, Option<Uuid>, Option<String>);

fn sent_notification(row: SpiHeapTupleData<'_>) -> SpiResult<Sent> {
    Ok((row.get(1)?, row.get(2)?, row.get(3)?))
}

/// The notifications (id and recipient) that went out before, or 22023 when one of them was another message.
fn the_same(found: Vec<Sent>, idempotency_key: &str) -> Outcome<Vec<(Uuid, Uuid)>> {
    let mut sent = Vec::with_capacity(found.len());
    for (id, user, differing) in found {
        let (Some(id), Some(user)) = (id, user) else {
            continue;
        };
        if let Some(differing) = differing.filter(|text| !text.is_empty()) {
            return Err(CodexError::bad_value(format!(
                "p_idempotency_key \"{}\" was used before, for notification {id} with another {differing}",
                shorten(idempotency_key)
            ))
            .with_hint("A key stands for one message. Repeat a message with the same arguments, or send another one with a new key."));
        }
        sent.push((id, user));
    }
    Ok(sent)
}

/// Refuses recipients who are not members, but for those who have the message already.
fn refuse_strangers(workspace: Uuid, users: &[Uuid], sent: &[(Uuid, Uuid)]) -> Outcome<()> {
    let strangers: Vec<Uuid> = context::non_members(workspace, users)?
        .into_iter()
        .filter(|user| sent.iter().all(|(_, recipient)| recipient != user))
        .collect();
    match strangers.as_slice() {
        [] => Ok(()),
        [user] => Err(context::not_a_member(workspace, *user)),
        several => Err(CodexError::not_allowed(format!(
            "{} users are not members of workspace {workspace}",
            several.len()
        ))
        .with_detail(format!("They are {}.", argument::listed(several)))),
    }
}

/// Sends a message to one member of a workspace and returns the id of the notification.
///
/// - `p_notification_type`: alert, achievement, message, reminder or summary.
/// - `p_title`, `p_message`: not blank.
/// - `p_channel`: in_app, email, slack, sms or push. `p_priority`: urgent, high, normal or low.
/// - `p_alert_id`, `p_achievement_id`, `p_campaign_id`: what it is about, of the same workspace.
/// - `p_expires_at`: from then on it is not listed as unread any more.
/// - `p_idempotency_key`: at most 200 characters, of this workspace. Sending the same message again with the same key
///   writes nothing and returns the first id, from any number of sessions at once. All other arguments
///   belong to the message: give `p_expires_at` as a fixed time when you may have to repeat it.
///
/// Refuses: NULL for an argument without a default, a type, a channel or a priority (22004); a value out of
/// its list, a blank text, a blank or too long key, a key that was used for another message (22023); a recipient who
/// is not a member, a workspace that is not the caller's, a caller who may not write notifications (42501); an
/// alert, achievement or campaign that does not exist in the workspace (23503).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn send_user_notification(
    p_workspace_id: Option<Uuid>,
    p_user_id: Option<Uuid>,
    p_notification_type: Option<&str>,
    p_title: Option<&str>,
    p_message: Option<&str>,
    p_channel: default!(Option<&str>, "'in_app'"),
    p_priority: default!(Option<&str>, "'normal'"),
    p_action_url: default!(Option<&str>, "NULL"),
    p_alert_id: default!(Option<Uuid>, "NULL"),
    p_idempotency_key: default!(Option<&str>, "NULL"),
    p_expires_at: default!(Option<TimestampWithTimeZone>, "NULL"),
    p_achievement_id: default!(Option<Uuid>, "NULL"),
    p_campaign_id: default!(Option<Uuid>, "NULL"),
) -> Uuid {
    let run = || -> Outcome<Uuid> {
        let workspace = required(p_workspace_id, "p_workspace_id")?;
        let user = required(p_user_id, "p_user_id")?;
        let message = Message::new(
            p_notification_type,
            p_title,
            p_message,
            p_channel,
            p_priority,
            p_action_url,
            p_alert_id,
            p_expires_at,
            p_achievement_id,
            p_campaign_id,
        )?;
        let key = argument::key(p_idempotency_key, "p_idempotency_key", LONGEST_KEY)?;
        send_to_one(workspace, user, key, &message)
    };
    run().or_raise()
}

/// Sends a message to any number of members of a workspace in one statement; returns how many have it.
///
/// `p_user_ids` is not empty and holds no NULL; a user who is named twice gets it once. All other arguments are
/// those of [`send_user_notification`]. With `p_idempotency_key` (here at most 163 characters) each recipient's
/// notification gets the key `<p_idempotency_key>:<user id>`: a repeated call sends to nobody twice and returns
/// the same number; recipients that were not named before get theirs.
///
/// Refuses what [`send_user_notification`] refuses. If one recipient is refused, nobody gets anything.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn send_user_notifications(
    p_workspace_id: Option<Uuid>,
    p_user_ids: Option<Array<'_, Uuid>>,
    p_notification_type: Option<&str>,
    p_title: Option<&str>,
    p_message: Option<&str>,
    p_channel: default!(Option<&str>, "'in_app'"),
    p_priority: default!(Option<&str>, "'normal'"),
    p_action_url: default!(Option<&str>, "NULL"),
    p_alert_id: default!(Option<Uuid>, "NULL"),
    p_idempotency_key: default!(Option<&str>, "NULL"),
    p_expires_at: default!(Option<TimestampWithTimeZone>, "NULL"),
    p_achievement_id: default!(Option<Uuid>, "NULL"),
    p_campaign_id: default!(Option<Uuid>, "NULL"),
) -> i64 {
    let run = || -> Outcome<i64> {
        let workspace = required(p_workspace_id, "p_workspace_id")?;
        // Sorted: two sessions that send the same at once meet the keys in the same order.
        let users = argument::ids(p_user_ids, "p_user_ids")?;
        let message = Message::new(
            p_notification_type,
            p_title,
            p_message,
            p_channel,
            p_priority,
            p_action_url,
            p_alert_id,
            p_expires_at,
            p_achievement_id,
            p_campaign_id,
        )?;
        let key = argument::key(p_idempotency_key, "p_idempotency_key", LONGEST_BULK_KEY)?;
        let keys = key.map(|key| {
            users
                .iter()
                .map(|user| format!("{key}:{user}"))
                .collect::<Vec<_>>()
        });
        Ok(send_to_many(workspace, &users, keys, key, &message)? as i64)
    };
    run().or_raise()
}

extension_sql!(
    r#"
COMMENT ON FUNCTION send_user_notification(uuid, uuid, text, text, text, text, text, text, uuid, text, timestamptz, uuid, uuid) IS
'Sends a message to one member of the workspace and returns the id of the notification. Types: alert, achievement, message, reminder, summary. Channels: in_app, email, slack, sms, push. Priorities: urgent, high, normal, low. The same message again with the same p_idempotency_key writes nothing and returns the first id. Errors: 22004 NULL, 22023 bad value or a key used for another message, 42501 recipient is not a member or not your workspace, 23503 unknown alert, achievement or campaign.';
COMMENT ON FUNCTION send_user_notifications(uuid, uuid[], text, text, text, text, text, text, uuid, text, timestamptz, uuid, uuid) IS
'Sends a message to all of p_user_ids in one statement and returns how many users have it; a user named twice gets it once. With p_idempotency_key (at most 163 characters) a repeated call sends to nobody twice and returns the same number. If one recipient is refused, nobody gets anything. Errors as of send_user_notification.';
"#,
    name = "comment_send_user_notification",
    requires = [send_user_notification, send_user_notifications]
);

// Writes only what a member may write of a notification.
statement!(
    MARK_READ(UUID) = "
UPDATE public.user_notifications AS n
SET is_read = true,
    read_at = coalesce(n.read_at, now())
WHERE n.id = $1
  AND (n.is_read IS NOT true OR n.read_at IS NULL)
RETURNING n.id"
);

statement!(
    NOTIFICATION_EXISTS(UUID) = "
SELECT n.id
FROM public.user_notifications AS n
WHERE n.id = $1"
);

/// Marks a notification as read, now. One that is read already stays as it is: the first time counts.
///
/// Refuses: NULL (22004); a notification that does not exist or is not visible here (P0002).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn mark_notification_as_read(p_notification_id: Option<Uuid>) {
    let run = || -> Outcome<()> {
        let notification = required(p_notification_id, "p_notification_id")?;
        Spi::connect_mut(|client| {
            for statement in [&MARK_READ, &NOTIFICATION_EXISTS] {
                let found = statement.with(|statement| {
                    statement.write_one(client, &[notification.into()], |row| row.get::<Uuid>(1))
                })?;
                if found.is_some() {
                    return Ok(());
                }
            }
            Err(CodexError::not_found(format!(
                "there is no notification {notification} here"
            )))
        })
    };
    run().or_raise();
}

// Locked in the order of their ids, so that two sessions that mark the same ones wait for each other instead of
// running into a deadlock.
macro_rules! mark_all_read {
    ($($of_workspace:literal)?) => {
        concat!(
            "
UPDATE public.user_notifications AS n
SET is_read = true,
    read_at = coalesce(n.read_at, now())
WHERE n.id IN (
    SELECT unread.id
    FROM public.user_notifications AS unread
    WHERE unread.user_id = $1
      AND NOT unread.is_read
      AND coalesce(unread.created_at, '-infinity') <= $2",
            $($of_workspace,)?
            "
    ORDER BY unread.id
    FOR NO KEY UPDATE
)
  AND NOT n.is_read"
        )
    };
}

statement!(MARK_ALL_READ(UUID, TIMESTAMPTZ) = mark_all_read!());
statement!(
    MARK_ALL_READ_IN_WORKSPACE(UUID, TIMESTAMPTZ, UUID) = mark_all_read!(
        "
      AND unread.workspace_id = $3"
    )
);

/// Marks all unread notifications of a user as read that were created until `p_up_to` (included): those of the
/// current workspace when there is one, else those of all workspaces. Returns how many it marked.
///
/// Refuses: NULL (22004). Notifications that are not visible here are left alone.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn mark_all_notifications_read(
    p_user_id: Option<Uuid>,
    p_up_to: default!(Option<TimestampWithTimeZone>, "now()"),
) -> i64 {
    let run = || -> Outcome<i64> {
        let user = required(p_user_id, "p_user_id")?;
        let up_to = required(p_up_to, "p_up_to")?;
        let marked = Spi::connect_mut(|client| match context::current_workspace() {
            Some(workspace) => MARK_ALL_READ_IN_WORKSPACE.with(|statement| {
                statement.execute(client, &[user.into(), up_to.into(), workspace.into()])
            }),
            None => MARK_ALL_READ
                .with(|statement| statement.execute(client, &[user.into(), up_to.into()])),
        })?;
        Ok(marked as i64)
    };
    run().or_raise()
}

extension_sql!(
    r#"
COMMENT ON FUNCTION mark_notification_as_read(uuid) IS
'Marks a notification as read; the first read_at stays. Errors: 22004 NULL, P0002 unknown or not visible.';
COMMENT ON FUNCTION mark_all_notifications_read(uuid, timestamptz) IS
'Marks all unread notifications of a user as read that were created until p_up_to (included), of the current workspace when there is one, else of all. Returns how many it marked. Errors: 22004 NULL.';
"#,
    name = "comment_mark_notifications_read",
    requires = [mark_notification_as_read, mark_all_notifications_read]
);

// The order is that of user_notifications_unread_list_idx (user_notifications_unread_idx before migration 022), whose CASE
// this is.
macro_rules! unread_notifications {
    ($($condition:literal)?) => {
        concat!(
            "
SELECT n.id, n.notification_type, n.title, n.message, n.priority_level, n.created_at
FROM public.user_notifications AS n
WHERE n.user_id = $1
  AND NOT n.is_read
  AND (n.expires_at IS NULL OR n.expires_at > now())",
            $($condition,)?
            "
ORDER BY
    (CASE n.priority_level WHEN 'urgent' THEN 0 WHEN 'high' THEN 1 WHEN 'low' THEN 3 ELSE 2 END),
    n.created_at DESC NULLS LAST"
        )
    };
}

// The top of all workspaces is among the tops of each: the first part hops from workspace to workspace in the
// index, the second takes the top of each, and only those are sorted.
macro_rules! top_of_each_workspace {
    ($one:expr) => {
        concat!(
            "
WITH RECURSIVE workspace (id) AS (
    (
        SELECT n.workspace_id
        FROM public.user_notifications AS n
        WHERE n.user_id = $1
          AND NOT n.is_read
        ORDER BY n.workspace_id
        LIMIT 1
    )
    UNION ALL
    SELECT (
        SELECT n.workspace_id
        FROM public.user_notifications AS n
        WHERE n.user_id = $1
          AND NOT n.is_read
          AND n.workspace_id > workspace.id
        ORDER BY n.workspace_id
        LIMIT 1
    )
    FROM workspace
    WHERE workspace.id IS NOT NULL
)
SELECT n.id, n.notification_type, n.title, n.message, n.priority_level, n.created_at
FROM workspace
CROSS JOIN LATERAL (",
            $one,
            "
LIMIT $2
) AS n
ORDER BY
    (CASE n.priority_level WHEN 'urgent' THEN 0 WHEN 'high' THEN 1 WHEN 'low' THEN 3 ELSE 2 END),
    n.created_at DESC NULLS LAST"
        )
    };
}

list_statement!(
    UNREAD(UUID; "$2") = unread_notifications!(),
    top_of_each_workspace!(concat!(
        "SELECT *\nFROM (",
        unread_notifications!("\n  AND n.workspace_id = workspace.id"),
        "\nLIMIT ",
        list_page!(sql),
        ") AS page"
    )),
    top_of_each_workspace!(unread_notifications!("\n  AND n.workspace_id = workspace.id"))
);
list_statement!(
    UNREAD_IN_WORKSPACE(UUID, UUID; "$3") =
        unread_notifications!("\n  AND n.workspace_id = $2")
);

/// The notifications of a user that are unread and not expired, of the current workspace when there is
/// one, else of all workspaces: urgent, high, normal, low, and newest first.
///
/// `p_limit`: how many at most; NULL for all. A user who may see only the own ones gets nothing for another user.
///
/// Refuses: NULL for the user (22004); a negative limit (22023).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn get_user_unread_notifications(
    p_user_id: Option<Uuid>,
    p_limit: default!(Option<i32>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(id, Option<Uuid>),
        name!(type, Option<String>),
        name!(title, Option<String>),
        name!(message, Option<String>),
        name!(priority, Option<String>),
        name!(created_at, Option<TimestampWithTimeZone>),
    ),
> {
    let run = || -> Outcome<_> {
        let user = required(p_user_id, "p_user_id")?;
        let limit = argument::limit(p_limit)?;
        let (list, arguments): (_, Vec<DatumWithOid<'_>>) = match context::current_workspace() {
            Some(workspace) => (&UNREAD_IN_WORKSPACE, vec![user.into(), workspace.into()]),
            None => (&UNREAD, vec![user.into()]),
        };
        Spi::connect(|client| {
            list.with(|list| {
                list.read(client, arguments, limit, |row| {
                    Ok((
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                        row.get(6)?,
                    ))
                })
            })
        })
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION get_user_unread_notifications(uuid, integer) IS
'Unread, unexpired notifications of a user, of the current workspace when there is one, else of all: urgent, high, normal, low, then the newest. p_limit: how many at most, NULL for all. Errors: 22004 NULL user, 22023 negative limit.';
"#,
    name = "comment_get_user_unread_notifications",
    requires = [get_user_unread_notifications]
);
