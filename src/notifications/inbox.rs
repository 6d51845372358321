//! The inbox: what a user sees of the notifications, in the product.
//!
//! | mark | means | set by |
//! |---|---|---|
//! | *seen* | was shown in a list; the bell has no number any more | `seen_at` |
//! | *read* | was opened | `is_read`, `read_at` |
//! | *archived* | is put away, into the archive | `archived_at` |
//!
//! What is read was seen, and what is archived was read. Only *read* and *archived* can be taken back.
//!
//! All notifications of a user are in the inbox, whatever their channel. Pages follow a cursor and not a number of rows
//! to skip: a page costs the same wherever it is, and what comes in meanwhile moves nothing.

use crate::argument;
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::instant;
use crate::statement::Statement;
use crate::{list_page, statement};
use pgrx::Uuid;
use pgrx::datum::{Array, DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;
use std::thread::LocalKey;

/// The folders.
const FOLDERS: &[&str] = &["inbox", "archive"];

/// What can be made of a notification.
const MARKS: &[&str] = &["seen", "read", "unread", "archived", "unarchived"];

// The order is that of user_notifications_inbox_idx, of which each folder is a stretch. The inner LIMIT is a number for
// the planner's sake: see `list_statement!`.
macro_rules! page {
    ($inbox:literal) => {
        concat!(
            "
SELECT *
FROM (
    SELECT
        n.id,
        n.notification_type,
        n.title,
        n.message,
        n.priority_level,
        n.channel,
        n.action_url,
        n.is_read,
        n.seen_at,
        n.read_at,
        n.archived_at,
        n.created_at,
        CASE WHEN n.created_at IS NULL THEN '-infinity'::timestamptz ELSE n.created_at END
    FROM public.user_notifications AS n
    WHERE n.user_id = $1
      AND n.workspace_id = $2
      AND (n.archived_at IS NULL) IS ",
            $inbox,
            "
      AND (CASE WHEN n.created_at IS NULL THEN '-infinity'::timestamptz ELSE n.created_at END, n.id) < ($3, $4)
      AND (n.expires_at IS NULL OR n.expires_at > $5)
    ORDER BY CASE WHEN n.created_at IS NULL THEN '-infinity'::timestamptz ELSE n.created_at END DESC, n.id DESC
    LIMIT ",
            list_page!(sql),
            "
) AS page
LIMIT $6"
        )
    };
}

statement!(INBOX(UUID, UUID, TIMESTAMPTZ, UUID, TIMESTAMPTZ, INT8) = page!("TRUE"));
statement!(ARCHIVE(UUID, UUID, TIMESTAMPTZ, UUID, TIMESTAMPTZ, INT8) = page!("FALSE"));

/// A place in a list: the time and the id of a row, as `<microseconds>.<id>`.
fn place(cursor: Option<&str>) -> Outcome<(TimestampWithTimeZone, Uuid)> {
    let Some(cursor) = cursor else {
        return Ok((instant::of(i64::MAX)?, Uuid::from_bytes([0xff; 16])));
    };
    let read = || {
        let (micros, id) = cursor.split_once('.')?;
        let at = TimestampWithTimeZone::try_from(micros.parse::<i64>().ok()?).ok()?;
        Some((
            at,
            Uuid::from_bytes(*uuid::Uuid::parse_str(id).ok()?.as_bytes()),
        ))
    };
    read().ok_or_else(|| {
        CodexError::bad_value(format!("after is \"{}\"", shorten(cursor))).with_hint(
            "Give the cursor of the last row of the page before, or NULL for the first page.",
        )
    })
}

/// A page of the notifications of a user in a workspace, newest first, without those that have expired.
///
/// - `page_size`: from 1 to 100.
/// - `after`: the `cursor` of the last row of the page before; NULL for the first page.
/// - `folder`: inbox, or archive for what was archived.
///
/// A user who may see only the own ones gets nothing for another user. Refuses: NULL for the workspace, the user, the
/// size or the folder (22004); a size out of bounds, a folder that is none, a cursor that cannot be read (22023); a
/// workspace that is not the caller's (42501).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn inbox(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
    page_size: default!(Option<i32>, 50),
    after: default!(Option<&str>, "NULL"),
    folder: default!(Option<&str>, "'inbox'"),
) -> TableIterator<
    'static,
    (
        name!(id, Option<Uuid>),
        name!(notification_type, Option<String>),
        name!(title, Option<String>),
        name!(message, Option<String>),
        name!(priority, Option<String>),
        name!(channel, Option<String>),
        name!(action_url, Option<String>),
        name!(is_read, bool),
        name!(seen_at, Option<TimestampWithTimeZone>),
        name!(read_at, Option<TimestampWithTimeZone>),
        name!(archived_at, Option<TimestampWithTimeZone>),
        name!(created_at, Option<TimestampWithTimeZone>),
        name!(cursor, Option<String>),
    ),
> {
    let run = || -> Outcome<_> {
        let workspace = required(workspace, "workspace")?;
        let user = required(user_id, "user_id")?;
        let size = argument::between(page_size, "page_size", 1..=list_page!(number))?;
        let (at, id) = place(after)?;
        let folder = argument::one_of(folder, "folder", FOLDERS)?;
        context::require_workspace(workspace)?;
        let statement = if folder == "archive" {
            &ARCHIVE
        } else {
            &INBOX
        };
        let arguments = [
            user.into(),
            workspace.into(),
            at.into(),
            id.into(),
            instant::now().into(),
            size.into(),
        ];
        Spi::connect(|client| {
            statement.with(|statement| {
                statement.read(client, &arguments, |row| {
                    let id = row.get::<Uuid>(1)?;
                    let place = row.get::<TimestampWithTimeZone>(13)?;
                    let cursor = place
                        .zip(id)
                        .map(|(at, id)| format!("{}.{id}", pg_sys::TimestampTz::from(at)));
                    Ok((
                        id,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                        row.get(6)?,
                        row.get(7)?,
                        row.get::<bool>(8)?.unwrap_or(false),
                        row.get(9)?,
                        row.get(10)?,
                        row.get(11)?,
                        row.get(12)?,
                        cursor,
                    ))
                })
            })
        })
    };
    TableIterator::new(run().or_raise())
}

statement!(
    COUNTS(UUID, UUID, TIMESTAMPTZ) = "
SELECT count(*), count(*) FILTER (WHERE n.seen_at IS NULL)
FROM public.user_notifications AS n
WHERE n.user_id = $1
  AND n.workspace_id = $2
  AND NOT n.is_read
  AND (n.expires_at IS NULL OR n.expires_at > $3)"
);

/// How many notifications of a user in a workspace are unread, and how many of these were not even seen; what has
/// expired does not count.
///
/// A user who may see only the own ones gets zeros for another user. Refuses: NULL (22004); a workspace that is not
/// the caller's (42501).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn inbox_counts(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
) -> TableIterator<'static, (name!(unread, i64), name!(unseen, i64))> {
    let run = || -> Outcome<_> {
        let workspace = required(workspace, "workspace")?;
        let user = required(user_id, "user_id")?;
        context::require_workspace(workspace)?;
        let arguments = [user.into(), workspace.into(), instant::now().into()];
        let counts = Spi::connect(|client| {
            COUNTS.with(|statement| {
                statement.read_one(client, &arguments, |row| {
                    Ok((row.get::<i64>(1)?, row.get::<i64>(2)?))
                })
            })
        })?;
        Ok(counts.map(|(unread, unseen)| (unread.unwrap_or(0), unseen.unwrap_or(0))))
    };
    TableIterator::new(run().or_raise())
}

// Locked in the order of their ids, so that two sessions that mark the same ones wait for each other instead of
// running into a deadlock.
macro_rules! mark {
    ($set:literal where $condition:literal among $which:literal) => {
        concat!(
            "
UPDATE public.user_notifications AS n
SET ",
            $set,
            "
WHERE n.id IN (
    SELECT o.id
    FROM public.user_notifications AS o
    WHERE o.user_id = $1
      AND o.workspace_id = $2
      AND ",
            $which,
            "
      AND ",
            $condition,
            "
    ORDER BY o.id
    FOR NO KEY UPDATE
)"
        )
    };
}
macro_rules! mark_statements {
    ($($these:ident $until:ident = $set:literal where $condition:literal;)+) => {
        $(
            statement!(
                $these(UUID, UUID, TIMESTAMPTZ, UUID_ARRAY) =
                    mark!($set where $condition among "o.id = ANY ($4)")
            );
            statement!(
                $until(UUID, UUID, TIMESTAMPTZ, TIMESTAMPTZ) =
                    mark!($set where $condition among "coalesce(o.created_at, '-infinity'::timestamptz) <= $4")
            );
        )+
    };
}

mark_statements! {
    SEEN SEEN_UNTIL = "
    seen_at = $3" where "o.seen_at IS NULL AND NOT o.is_read";
    READ READ_UNTIL = "
    is_read = true,
    read_at = coalesce(n.read_at, $3),
    seen_at = coalesce(n.seen_at, $3)" where "NOT o.is_read";
    ARCHIVED ARCHIVED_UNTIL = "
    archived_at = $3,
    is_read = true,
    read_at = coalesce(n.read_at, $3),
    seen_at = coalesce(n.seen_at, $3)" where "o.archived_at IS NULL";
}
statement!(
    UNREAD_AGAIN(UUID, UUID, TIMESTAMPTZ, UUID_ARRAY) = mark!("
    is_read = false,
    read_at = NULL,
    seen_at = coalesce(n.seen_at, $3)" where "o.is_read AND o.archived_at IS NULL" among "o.id = ANY ($4)")
);
statement!(
    UNARCHIVED(UUID, UUID, TIMESTAMPTZ, UUID_ARRAY) = mark!("
    archived_at = NULL,
    seen_at = coalesce(n.seen_at, $3)" where "o.archived_at IS NOT NULL" among "o.id = ANY ($4)")
);

type Mark = &'static LocalKey<Statement>;

/// The statements of a mark: for some notifications, and for all until a time where that makes sense.
fn statements_of(mark: &str) -> (Mark, Option<Mark>) {
    match mark {
        "seen" => (&SEEN, Some(&SEEN_UNTIL)),
        "read" => (&READ, Some(&READ_UNTIL)),
        "archived" => (&ARCHIVED, Some(&ARCHIVED_UNTIL)),
        "unread" => (&UNREAD_AGAIN, None),
        _ => (&UNARCHIVED, None),
    }
}

fn run_mark(statement: Mark, workspace: Uuid, user: Uuid, which: DatumWithOid<'_>) -> Outcome<i64> {
    context::require_workspace(workspace)?;
    context::require_self(user)?;
    let arguments = [user.into(), workspace.into(), instant::now().into(), which];
    let marked = Spi::connect_mut(|client| {
        statement.with(|statement| statement.execute(client, &arguments))
    })?;
    Ok(marked as i64)
}

/// Marks some notifications of a user in a workspace; returns how many it changed.
///
/// - `mark`: seen, read (then it is seen, too), archived (then it is read, too); unread and unarchived take that back.
///   The first time counts: what is marked already stays as it is. What is in the archive is not made unread.
/// - `notification_ids`: which; those that are not there, or not visible here, are left out.
///
/// Refuses: NULL (22004); a mark that is none, an empty list or one with a NULL (22023); a workspace that is not the
/// caller's, another user's inbox unless the caller acts for the workspace (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn mark_notifications(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
    mark: Option<&str>,
    notification_ids: Option<Array<'_, Uuid>>,
) -> i64 {
    let run = || -> Outcome<i64> {
        let workspace = required(workspace, "workspace")?;
        let user = required(user_id, "user_id")?;
        let mark = argument::one_of(mark, "mark", MARKS)?;
        let ids = argument::ids(notification_ids, "notification_ids")?;
        let (these, _) = statements_of(mark);
        run_mark(these, workspace, user, ids.into())
    };
    run().or_raise()
}

/// Marks all notifications of a user in a workspace that were created until `up_to` (included); returns how many it
/// changed.
///
/// `mark`: seen, read (then it is seen, too) or archived (then it is read, too). Give as `up_to` when the list was
/// read, so that what came in since keeps its number on the bell.
///
/// Refuses: NULL (22004); a mark that is none of the three (22023); a workspace that is not the caller's, another
/// user's inbox unless the caller acts for the workspace (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn mark_inbox(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
    mark: Option<&str>,
    up_to: default!(Option<TimestampWithTimeZone>, "now()"),
) -> i64 {
    let run = || -> Outcome<i64> {
        let workspace = required(workspace, "workspace")?;
        let user = required(user_id, "user_id")?;
        let mark = required(mark, "mark")?;
        let up_to = required(up_to, "up_to")?;
        let (_, until) = statements_of(mark);
        let until = until
            .ok_or_else(|| CodexError::not_one_of("mark", mark, &["seen", "read", "archived"]))?;
        run_mark(until, workspace, user, up_to.into())
    };
    run().or_raise()
}

extension_sql!(
    r#"
COMMENT ON FUNCTION inbox(uuid, uuid, integer, text, text) IS
'A page of the notifications of a user in a workspace, newest first, unexpired; after is the cursor of the last row of the page before. Folders: inbox, archive. Errors: 22004 NULL, 22023 page_size not from 1 to 100, unknown folder or unreadable cursor, 42501 not your workspace.';
COMMENT ON FUNCTION inbox_counts(uuid, uuid) IS
'How many unexpired notifications of a user in a workspace are unread, and how many of these were not seen. Errors: 22004 NULL, 42501 not your workspace.';
COMMENT ON FUNCTION mark_notifications(uuid, uuid, text, uuid[]) IS
'Marks some notifications of a user as seen, read, unread, archived or unarchived. Returns how many it changed; the first time of a mark stays. Errors: 22004 NULL, 22023 bad value, 42501 not your workspace or another user''s inbox.';
COMMENT ON FUNCTION mark_inbox(uuid, uuid, text, timestamptz) IS
'Marks all notifications of a user that were created until up_to (included) as seen, read or archived. Returns how many it changed. Errors: 22004 NULL, 22023 bad value, 42501 not your workspace or another user''s inbox.';
"#,
    name = "comment_inbox",
    requires = [inbox, inbox_counts, mark_notifications, mark_inbox]
);
