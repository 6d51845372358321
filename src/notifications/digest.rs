//! Digests: what is collected for a user for a while, and sent as one notification.
//!
//! A user has at most one *open* digest under a key. The first item opens it and sets when it closes; every further one
//! joins it; closing sends it as one notification of type `summary`, and the next item opens another. Adding and closing
//! lock the digest's row, so that each item is in exactly one digest, and each digest is sent exactly once.

use super::{CHANNELS, Message, send_to_one};
use crate::argument::{self, LONGEST_KEY};
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten_to};
use crate::idempotency;
use crate::instant;
use crate::statement;
use crate::statement::{Reference, naming_what_is_missing};
use codex_delivery::SECOND;
use pgrx::Uuid;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde_json::json;

/// How many items a digest shows; what is beyond is counted.
const MOST_SHOWN: usize = 50;

/// How much of an item is shown, in characters.
const LONGEST_SHOWN: usize = 500;

statement!(
    JOIN_DIGEST(UUID, UUID, TEXT, TEXT, TIMESTAMPTZ, TIMESTAMPTZ) = "
INSERT INTO codex.digests AS d (workspace_id, user_id, digest_key, channel, opened_at, closes_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (workspace_id, user_id, digest_key) WHERE closed_at IS NULL DO UPDATE
SET item_count = d.item_count + 1
RETURNING d.id, d.item_count"
);
statement!(
    ADD_ITEM(UUID, UUID, INT4, TEXT, TEXT) = "
INSERT INTO codex.digest_items (workspace_id, digest_id, position, title, message)
VALUES ($1, $2, $3, $4, $5)"
);

/// Puts something into the open digest of a user under a key, or opens one; returns the digest's id.
///
/// - `digest_key`: what is collected, at most 200 characters.
/// - `title`, `message`: not blank.
/// - `channel`: in_app, email, slack, sms or push, and `closes_after`: from a minute to 31 days; of the item that opens the
///   digest. Those of items that join it do not count.
/// - `idempotency_key`: the same call with the same key adds once and returns the same id.
///
/// Refuses: NULL for an argument without a default (22004); a value out of its list or bounds, a blank text or key, a key
/// used for another call (22023); a user who is not a member, a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn add_to_digest(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
    digest_key: Option<&str>,
    title: Option<&str>,
    message: Option<&str>,
    channel: default!(Option<&str>, "'email'"),
    closes_after: default!(Option<Interval>, "'1 hour'"),
    idempotency_key: default!(Option<&str>, "NULL"),
) -> Uuid {
    let run = || -> Outcome<Uuid> {
        let workspace = required(workspace, "workspace")?;
        let user = required(user_id, "user_id")?;
        let digest_key = required(digest_key, "digest_key")?;
        argument::key(Some(digest_key), "digest_key", LONGEST_KEY)?;
        let title = argument::not_blank(title, "title")?;
        let message = argument::not_blank(message, "message")?;
        let channel = argument::one_of(channel, "channel", CHANNELS)?;
        let closes_after = argument::duration(
            closes_after,
            "closes_after",
            60 * SECOND..=31 * 86_400 * SECOND,
        )?;
        context::require_workspace(workspace)?;
        let request = json!([
            user.to_string(),
            digest_key,
            title,
            message,
            channel,
            closes_after
        ]);
        let add = |client: &mut SpiClient<'_>| -> Outcome<Option<String>> {
            if !context::is_member(workspace, user)? {
                return Err(context::not_a_member(workspace, user));
            }
            let now = instant::now();
            let arguments = [
                workspace.into(),
                user.into(),
                digest_key.into(),
                channel.into(),
                now.into(),
                instant::after(now, closes_after)?.into(),
            ];
            let references = [Reference {
                foreign_key: "digests_user_id_fkey",
                argument: "user_id",
                what: "user",
                value: Some(user),
            }];
            let digest = naming_what_is_missing(&references, || {
                JOIN_DIGEST.with(|statement| {
                    statement.write_one(client, &arguments, |row| {
                        Ok((row.get::<Uuid>(1)?, row.get::<i32>(2)?))
                    })
                })
            })?;
            let Some((Some(digest), position)) = digest else {
                return Ok(None);
            };
            let arguments = [
                workspace.into(),
                digest.into(),
                position.into(),
                title.into(),
                message.into(),
            ];
            ADD_ITEM.with(|statement| statement.execute(client, &arguments))?;
            Ok(Some(digest.to_string()))
        };
        let digest = Spi::connect_mut(|client| {
            let operation = "add_to_digest";
            idempotency::once(client, operation, workspace, idempotency_key, &request, add)
        })?;
        let digest = digest.and_then(|id| uuid::Uuid::parse_str(&id).ok());
        let digest = digest.map(|id| Uuid::from_bytes(id.into_bytes()));
        digest.ok_or_else(|| {
            CodexError::wrong_state(
                "the digest was not written: a trigger or rule on codex.digests suppressed it",
            )
        })
    };
    run().or_raise()
}

statement!(
    LOCK_OPEN(UUID, UUID, TEXT) = "
SELECT d.id, d.workspace_id, d.user_id, d.channel, d.item_count
FROM codex.digests AS d
WHERE d.workspace_id = $1
  AND d.user_id = $2
  AND d.digest_key = $3
  AND d.closed_at IS NULL
FOR UPDATE"
);
statement!(
    LOCK_DUE(TIMESTAMPTZ, INT8) = "
SELECT d.id, d.workspace_id, d.user_id, d.channel, d.item_count
FROM codex.digests AS d
WHERE d.closed_at IS NULL
  AND d.closes_at <= $1
ORDER BY d.closes_at
LIMIT $2
FOR UPDATE SKIP LOCKED"
);
statement!(
    SHOWN(UUID, UUID, INT8) = "
SELECT i.title, i.message
FROM codex.digest_items AS i
WHERE i.workspace_id = $1
  AND i.digest_id = $2
ORDER BY i.position
LIMIT $3"
);
statement!(
    CLOSE(UUID, TIMESTAMPTZ, UUID) = "
UPDATE codex.digests AS d
SET closed_at = $2,
    notification_id = $3
WHERE d.id = $1"
);

/// An open digest, locked.
struct Open {
    id: Uuid,
    workspace: Uuid,
    user: Uuid,
    channel: String,
    items: i32,
}

impl Open {
    fn of(row: pgrx::spi::SpiHeapTupleData<'_>) -> pgrx::spi::SpiResult<Option<Self>> {
        let (id, workspace, user) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let (channel, items) = (row.get(4)?, row.get(5)?);
        Ok((|| {
            Some(Self {
                id: id?,
                workspace: workspace?,
                user: user?,
                channel: channel?,
                items: items?,
            })
        })())
    }

    /// Sends it as one notification, and closes it. A user who has left the workspace gets nothing.
    fn close(
        &self,
        client: &mut SpiClient<'_>,
        now: TimestampWithTimeZone,
    ) -> Outcome<Option<Uuid>> {
        let sent = if context::is_member(self.workspace, self.user)? {
            let arguments = [
                self.workspace.into(),
                self.id.into(),
                (MOST_SHOWN as i64).into(),
            ];
            let shown = SHOWN.with(|statement| {
                statement.write(client, &arguments, |row| {
                    Ok((
                        row.get::<String>(1)?.unwrap_or_default(),
                        row.get::<String>(2)?.unwrap_or_default(),
                    ))
                })
            })?;
            let (title, message) = in_words(&shown, usize::try_from(self.items).unwrap_or(1));
            let message = Message::summary(&title, &message, &self.channel);
            let key = format!("digest:{}", self.id);
            Some(send_to_one(
                self.workspace,
                self.user,
                Some(&key),
                &message,
            )?)
        } else {
            None
        };
        let arguments = [self.id.into(), now.into(), sent.into()];
        CLOSE.with(|statement| statement.execute(client, &arguments))?;
        Ok(sent)
    }
}

/// Title and message of a digest: the item itself where it is the only one, else a line for each.
fn in_words(items: &[(String, String)], count: usize) -> (String, String) {
    match items {
        [] => ("Nothing new".into(), "Nothing new".into()),
        [(title, message)] if count == 1 => (title.clone(), message.clone()),
        [(first, _), ..] => {
            let mut lines: Vec<String> = items
                .iter()
                .map(|(title, message)| {
                    format!(
                        "• {}",
                        shorten_to(&format!("{title}: {message}"), LONGEST_SHOWN)
                    )
                })
                .collect();
            if count > items.len() {
                lines.push(format!("… and {} more", count - items.len()));
            }
            let title = format!(
                "{} and {} more",
                shorten_to(first, LONGEST_SHOWN),
                count - 1
            );
            (title, lines.join("\n"))
        }
    }
}

/// Closes the open digest of a user under a key and sends it, before its time; returns the id of the notification.
///
/// NULL when there is no open digest, which makes a retry harmless, or when the user has left the workspace. Refuses: NULL
/// (22004); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn send_digest(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
    digest_key: Option<&str>,
) -> Option<Uuid> {
    let run = || -> Outcome<Option<Uuid>> {
        let workspace = required(workspace, "workspace")?;
        let user = required(user_id, "user_id")?;
        let digest_key = required(digest_key, "digest_key")?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            let arguments = [workspace.into(), user.into(), digest_key.into()];
            let open = LOCK_OPEN
                .with(|statement| statement.write_one(client, &arguments, Open::of))?
                .flatten();
            match open {
                Some(digest) => digest.close(client, instant::now()),
                None => Ok(None),
            }
        })
    };
    run().or_raise()
}

/// Sends up to `batch` digests whose time has come; gives how many.
pub fn send_due(
    client: &mut SpiClient<'_>,
    now: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<i64> {
    let due = LOCK_DUE
        .with(|statement| statement.write(client, &[now.into(), batch.into()], Open::of))?;
    let due: Vec<Open> = due.into_iter().flatten().collect();
    for digest in &due {
        digest.close(client, now)?;
    }
    Ok(due.len() as i64)
}

statement!(
    FORGET(TIMESTAMPTZ, INT8) = "
DELETE FROM codex.digests AS d
WHERE d.id = ANY (ARRAY(
    SELECT o.id
    FROM codex.digests AS o
    WHERE o.closed_at IS NOT NULL
      AND o.closed_at < $1
    ORDER BY o.closed_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
))"
);

/// Forgets up to `batch` digests that were closed before a time; gives how many.
pub fn forget(
    client: &mut SpiClient<'_>,
    before: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<i64> {
    let arguments = [before.into(), batch.into()];
    Ok(FORGET.with(|statement| statement.execute(client, &arguments))? as i64)
}

extension_sql!(
    r#"
COMMENT ON FUNCTION add_to_digest(uuid, uuid, text, text, text, text, interval, text) IS
'Puts something into the open digest of a user under a key, or opens one that closes after a time (a minute to 31 days); returns its id. The same call with the same idempotency_key adds once. Errors: 22004 NULL, 22023 bad value, 42501 not a member or not your workspace.';
COMMENT ON FUNCTION send_digest(uuid, uuid, text) IS
'Closes the open digest of a user under a key and sends it as one notification of type summary; returns its id, NULL when there is none open or the user has left. Errors: 22004 NULL, 42501 not your workspace.';
"#,
    name = "comment_digest",
    requires = [add_to_digest, send_digest]
);
