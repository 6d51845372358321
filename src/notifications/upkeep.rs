//! What time does to notifications: leases run out, digests close, and what is long read or expired goes.

use super::{digest, queue};
use crate::argument;
use crate::context;
use crate::error::{OrRaise, Outcome};
use crate::instant;
use crate::retention::Keep;
use crate::statement;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

static KEEP: Keep = Keep::days(180);

pub fn define_settings() {
    KEEP.define(
        c"raptorflow_codex.keep_notifications_days",
        c"How many days a notification is kept after it was read or has expired; 180 by default, 0 for ever.",
        c"codex.upkeep_notifications() deletes what is older, in small batches. What is unread and has not expired is never deleted.",
    );
}

statement!(
    DELETE_READ(TIMESTAMPTZ, INT8) = "
DELETE FROM public.user_notifications AS n
WHERE n.ctid = ANY (ARRAY(
    SELECT o.ctid
    FROM public.user_notifications AS o
    WHERE o.read_at IS NOT NULL
      AND o.read_at < $1
      AND o.is_read
    ORDER BY o.read_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
))"
);
statement!(
    DELETE_EXPIRED(TIMESTAMPTZ, INT8) = "
DELETE FROM public.user_notifications AS n
WHERE n.ctid = ANY (ARRAY(
    SELECT o.ctid
    FROM public.user_notifications AS o
    WHERE o.expires_at IS NOT NULL
      AND o.expires_at < $1
    ORDER BY o.expires_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
))"
);

/// Does one batch of everything that is to be done at `now`; gives what was done, and to how many rows. Whatever
/// another session is at is left to it, so that two at once do no harm.
pub fn upkeep(
    client: &mut SpiClient<'_>,
    now: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<Vec<(&'static str, i64)>> {
    let (put_back, given_up) = queue::reap(client, now, batch)?;
    let digests = digest::send_due(client, now, batch)?;
    let mut done = vec![
        ("deliveries put back after their lease ran out", put_back),
        ("deliveries given up after their last attempt", given_up),
        ("digests sent", digests),
    ];
    if let Some(before) = KEEP.limit(now)? {
        let arguments = [before.into(), batch.into()];
        let read = DELETE_READ.with(|statement| statement.execute(client, &arguments))?;
        let expired = DELETE_EXPIRED.with(|statement| statement.execute(client, &arguments))?;
        done.push(("read notifications deleted", read as i64));
        done.push(("expired notifications deleted", expired as i64));
        done.push(("digests deleted", digest::forget(client, before, batch)?));
    }
    Ok(done)
}

/// Does what time does to notifications, up to `batch` rows of each kind (1 to 100000): puts back deliveries whose
/// lease ran out, sends digests whose time has come, deletes what was read or has expired more than
/// `raptorflow_codex.keep_notifications_days` ago. Of the current workspace when there is one, else of all.
///
/// Returns what was done, to how many rows; call it again while a number reaches `batch`. Two at once are safe. Refuses:
/// NULL (22004); a batch out of bounds (22023); a caller to whom row-level security applies and who has entered no
/// workspace (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn upkeep_notifications(
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
ALTER FUNCTION upkeep_notifications(integer) SET enable_seqscan = off;
ALTER FUNCTION upkeep_notifications(integer) SET enable_bitmapscan = off;
ALTER FUNCTION upkeep_notifications(integer) SET enable_sort = off;
COMMENT ON FUNCTION upkeep_notifications(integer) IS
'Puts back deliveries whose lease ran out, sends digests whose time has come, deletes notifications that were read or have expired more than raptorflow_codex.keep_notifications_days ago; up to batch rows of each. Returns what was done, to how many rows. Errors: 22004 NULL, 22023 batch out of bounds, 42501 no workspace entered.';
"#,
    name = "comment_upkeep_notifications",
    requires = [upkeep_notifications]
);
