//! The way of a notification to its user outside of the product: by email, slack, sms or push.
//!
//! A notification that is not `in_app` has a row in `codex.deliveries`, made by a trigger in the same transaction,
//! however it was inserted. Workers *claim* rows for a while (a *lease*), hand them to a provider and say how it went:
//!
//! ```text
//!                    ┌──── the lease runs out, or fail_delivery() ────┐
//!                    ▼                                                │
//!  (inserted) ──► waiting ──── claim_notifications() ──────────► leased ──► delivered
//!                    ▲    └──► suppressed                             └───► dead
//!                    └──────────── requeue_delivery() ──── dead, suppressed
//! ```
//!
//! - A claim takes the most urgent first, then what is due longest. Two claims never take the same row: each skips
//!   what another has locked. What it costs does not depend on how many rows wait.
//! - A claim carries a *token*. Who does not have the token of the last claim is a stale worker: another one may be
//!   delivering the same message, so that its word does not count (55000).
//! - At the claim, and not before, is judged whether the message may go out: to somebody who has left the workspace it
//!   does not, nor when it has expired, nor when the user does not want it; these are *suppressed*, and the row
//!   says why. In the user's quiet hours it is put off until they end, unless it is urgent.
//! - After a failure the message waits, longer each time, with half of the wait spread by its id
//!   ([`codex_delivery::wait_after`]). When the last attempt fails it is *dead*: it stays, to be looked at and
//!   sent again by hand.
//! - `delivery_status` of the notification follows: pending until the end, then delivered, failed (dead) or bounced
//!   (dead, and the provider said that it will never work); NULL for what is suppressed, as nothing is to be expected.
//!
//! A message is delivered at least once: a worker that dies between the provider's answer and `complete_delivery()`
//! leaves its row to the next one.

use super::preferences::{self, Wishes};
use super::{PRIORITIES, announce};
use crate::argument;
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten_to};
use crate::instant;
use crate::owner::as_owner_of;
use crate::row_triggers::{Event, Row};
use crate::{statement, trigger_function};
use codex_delivery::SECOND;
use pgrx::Uuid;
use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::collections::HashMap;

/// The channels that have a queue.
const CHANNELS: &[&str] = &["email", "slack", "sms", "push"];

/// The longest name of a worker, and the longest error that is kept, in characters.
const LONGEST_WORKER: usize = 200;
const LONGEST_ERROR: usize = 2000;

/// How often a claim looks for more in place of what it had to set aside, before it gives what it has. With nothing in
/// hand it goes on, so that no row means that nothing is due.
const MOST_ROUNDS: usize = 16;

/// How many leases that ran out a claim puts back at most.
const REAPED_BY_A_CLAIM: i64 = 100;

fn rank_of(priority: Option<&str>) -> i32 {
    let rank = PRIORITIES
        .iter()
        .position(|one| Some(*one) == priority)
        .unwrap_or(2);
    rank as i32
}

statement!(
    QUEUE(UUID, UUID, TEXT, INT4) = "
INSERT INTO codex.deliveries (workspace_id, notification_id, channel, priority_rank)
VALUES ($1, $2, $3, $4)"
);
statement!(
    UNQUEUE(UUID, UUID) = "
DELETE FROM codex.deliveries AS d
WHERE d.workspace_id = $1
  AND d.notification_id = $2"
);

/// Queues a notification that was inserted and announces it where that is wanted; takes the delivery of one that
/// was deleted away.
fn follow_notification(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let (event, row) = Row::after(data)?;
    let id = row.column("id", pg_sys::UUIDOID)?;
    let workspace = row.column("workspace_id", pg_sys::UUIDOID)?;
    match event {
        Event::Insert => {
            let channel = row.new_value::<String>(row.text_column("channel")?);
            let notification = row.new_value::<Uuid>(id);
            if let Some(channel) = &channel
                && CHANNELS.contains(&channel.as_str())
            {
                let priority = row.new_value::<String>(row.text_column("priority_level")?);
                let arguments = [
                    row.new_value::<Uuid>(workspace).into(),
                    notification.into(),
                    channel.as_str().into(),
                    rank_of(priority.as_deref()).into(),
                ];
                as_owner_of(c"codex", c"deliveries", || {
                    Spi::connect_mut(|client| {
                        QUEUE.with(|statement| statement.execute(client, &arguments))
                    })
                })?;
            }
            if announce::wanted() {
                announce::notification(
                    row.new_value(workspace),
                    row.new_value(row.column("user_id", pg_sys::UUIDOID)?),
                    notification,
                    channel.as_deref(),
                )?;
            }
        }
        Event::Delete => {
            let arguments = [
                row.old_value::<Uuid>(workspace).into(),
                row.old_value::<Uuid>(id).into(),
            ];
            as_owner_of(c"codex", c"deliveries", || {
                Spi::connect_mut(|client| {
                    UNQUEUE.with(|statement| statement.execute(client, &arguments))
                })
            })?;
        }
        Event::Update => {}
    }
    Ok(std::ptr::null_mut())
}

trigger_function!(queue_delivery, follow_notification);

extension_sql!(
    r#"
CREATE FUNCTION queue_delivery() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'queue_delivery_trigger';

COMMENT ON FUNCTION queue_delivery() IS
'Trigger AFTER INSERT OR DELETE of a notification: puts what is not in_app into codex.deliveries, as the owner of that table, and takes it out again; announces it when raptorflow_codex.notify is on.';
"#,
    name = "trigger_queue_delivery"
);

// The row is found by the place at which it was locked: a join would be planned for a guess of how many there are.
macro_rules! claim {
    ($($of_workspace:literal)?) => {
        concat!(
            "
UPDATE codex.deliveries AS d
SET status = 'leased',
    reason = NULL,
    attempts = d.attempts + 1,
    due_at = $5,
    leased_at = $3,
    lease_token = $6,
    worker = $7
WHERE d.ctid = ANY (ARRAY(
    SELECT w.ctid
    FROM codex.deliveries AS w
    WHERE w.status = 'waiting'
      AND w.channel = $1
      AND w.priority_rank = $2
      AND w.due_at <= $3",
            $($of_workspace,)?
            "
    ORDER BY w.due_at
    LIMIT $4
    FOR NO KEY UPDATE SKIP LOCKED
))
  AND d.status = 'waiting'
RETURNING d.workspace_id, d.notification_id, d.attempts"
        )
    };
}

statement!(CLAIM(TEXT, INT4, TIMESTAMPTZ, INT8, TIMESTAMPTZ, UUID, TEXT) = claim!());
statement!(
    CLAIM_IN_WORKSPACE(TEXT, INT4, TIMESTAMPTZ, INT8, TIMESTAMPTZ, UUID, TEXT, UUID) = claim!(
        "
      AND w.workspace_id = $8"
    )
);

statement!(
    /// What was claimed, with what its user wishes.
    CLAIMED(UUID_ARRAY, UUID_ARRAY, TEXT, TIMESTAMPTZ) = "
SELECT
    c.position::integer,
    n.user_id,
    n.notification_type,
    n.title,
    n.message,
    n.action_url,
    n.action_label,
    n.priority_level,
    n.expires_at <= $4,
    coalesce(exact.enabled, every.enabled, true),
    q.starts_at,
    q.ends_at,
    q.time_zone
FROM unnest($1, $2) WITH ORDINALITY AS c (workspace_id, notification_id, position)
JOIN public.user_notifications AS n
    ON n.id = c.notification_id
    AND n.workspace_id = c.workspace_id
LEFT JOIN codex.notification_preferences AS exact
    ON exact.workspace_id = n.workspace_id
    AND exact.user_id = n.user_id
    AND exact.channel = $3
    AND exact.notification_type = n.notification_type
LEFT JOIN codex.notification_preferences AS every
    ON every.workspace_id = n.workspace_id
    AND every.user_id = n.user_id
    AND every.channel = $3
    AND every.notification_type = '*'
LEFT JOIN codex.quiet_hours AS q
    ON q.workspace_id = n.workspace_id
    AND q.user_id = n.user_id"
);

statement!(
    /// Takes the claim of one row back: it is suppressed, or waits until `due_at`.
    SET_ASIDE(UUID, UUID, TEXT, TIMESTAMPTZ, TIMESTAMPTZ) = "
UPDATE codex.deliveries AS d
SET status = CASE WHEN $4 IS NULL THEN 'suppressed' ELSE 'waiting' END,
    reason = $3,
    attempts = d.attempts - 1,
    due_at = coalesce($4, d.due_at),
    lease_token = NULL,
    worker = NULL,
    leased_at = NULL,
    finished_at = CASE WHEN $4 IS NULL THEN $5 END
WHERE d.workspace_id = $1
  AND d.notification_id = $2"
);

statement!(
    SET_DELIVERY_STATUS(UUID, UUID, TEXT, TEXT) = "
UPDATE public.user_notifications AS n
SET delivery_status = $3,
    delivery_method = coalesce($4, n.delivery_method)
WHERE n.id = $2
  AND n.workspace_id = $1"
);

fn set_delivery_status(
    client: &mut SpiClient<'_>,
    workspace: Uuid,
    notification: Uuid,
    status: Option<&str>,
    method: Option<&str>,
) -> Outcome<()> {
    let arguments = [
        workspace.into(),
        notification.into(),
        status.into(),
        method.into(),
    ];
    SET_DELIVERY_STATUS.with(|statement| statement.execute(client, &arguments))?;
    Ok(())
}

statement!(
    REAP(TIMESTAMPTZ, INT8) = "
UPDATE codex.deliveries AS d
SET status = CASE WHEN d.attempts < d.max_attempts THEN 'waiting' ELSE 'dead' END,
    reason = CASE WHEN d.attempts >= d.max_attempts THEN 'attempts' END,
    finished_at = CASE WHEN d.attempts >= d.max_attempts THEN $1 END,
    due_at = $1,
    lease_token = NULL,
    worker = NULL,
    leased_at = NULL,
    last_error = concat('the lease of ', d.worker, ' ran out')
WHERE d.ctid = ANY (ARRAY(
    SELECT l.ctid
    FROM codex.deliveries AS l
    WHERE l.status = 'leased'
      AND l.due_at <= $1
    ORDER BY l.due_at
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
))
  AND d.status = 'leased'
RETURNING d.workspace_id, d.notification_id, d.status"
);

/// Puts up to `batch` deliveries back whose lease ran out, or gives them up after the last attempt; gives how many of
/// each.
pub fn reap(
    client: &mut SpiClient<'_>,
    now: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<(i64, i64)> {
    let reaped = REAP.with(|statement| {
        statement.write(client, &[now.into(), batch.into()], |row| {
            Ok((
                row.get::<Uuid>(1)?,
                row.get::<Uuid>(2)?,
                row.get::<String>(3)?,
            ))
        })
    })?;
    let mut given_up = 0;
    for (workspace, notification, status) in &reaped {
        if let (Some(workspace), Some(notification), Some("dead")) =
            (workspace, notification, status.as_deref())
        {
            set_delivery_status(client, *workspace, *notification, Some("failed"), None)?;
            given_up += 1;
        }
    }
    Ok((reaped.len() as i64 - given_up, given_up))
}

/// A notification in the hands of a worker.
struct Claimed {
    workspace: Uuid,
    notification: Uuid,
    attempt: i32,
    user: Uuid,
    notification_type: Option<String>,
    title: Option<String>,
    message: Option<String>,
    action_url: Option<String>,
    action_label: Option<String>,
    priority: Option<String>,
}

/// One claim.
struct Claim<'a> {
    channel: &'a str,
    worker: &'a str,
    workspace: Option<Uuid>,
    now: TimestampWithTimeZone,
    until: TimestampWithTimeZone,
    token: Uuid,
}

impl Claim<'_> {
    /// Leases up to `n` rows of a rank: workspace, notification and attempt of each.
    fn lease(
        &self,
        client: &mut SpiClient<'_>,
        rank: i32,
        n: i64,
    ) -> Outcome<Vec<(Uuid, Uuid, i32)>> {
        let mut arguments = vec![
            self.channel.into(),
            rank.into(),
            self.now.into(),
            n.into(),
            self.until.into(),
            self.token.into(),
            self.worker.into(),
        ];
        let statement = match self.workspace {
            None => &CLAIM,
            Some(workspace) => {
                arguments.push(workspace.into());
                &CLAIM_IN_WORKSPACE
            }
        };
        let leased = statement.with(|statement| {
            statement.write(client, &arguments, |row| {
                Ok((row.get(1)?, row.get(2)?, row.get(3)?))
            })
        })?;
        Ok(leased
            .into_iter()
            .filter_map(|(workspace, notification, attempt)| {
                Some((workspace?, notification?, attempt?))
            })
            .collect())
    }

    /// Judges what was leased: what may go out is added to `claimed`, the rest is set aside.
    fn judge(
        &self,
        client: &mut SpiClient<'_>,
        leased: &[(Uuid, Uuid, i32)],
        claimed: &mut Vec<Claimed>,
    ) -> Outcome<()> {
        let (workspaces, notifications): (Vec<Uuid>, Vec<Uuid>) = leased
            .iter()
            .map(|(workspace, notification, _)| (*workspace, *notification))
            .unzip();
        let arguments = [
            workspaces.into(),
            notifications.into(),
            self.channel.into(),
            self.now.into(),
        ];
        let found = CLAIMED.with(|statement| {
            statement.write(client, &arguments, |row| {
                let place = (row.get::<i32>(1)?.unwrap_or(1) - 1) as usize;
                let Some(&(workspace, notification, attempt)) = leased.get(place) else {
                    return Ok(None);
                };
                let Some(user) = row.get::<Uuid>(2)? else {
                    return Ok(None);
                };
                let claimed = Claimed {
                    workspace,
                    notification,
                    attempt,
                    user,
                    notification_type: row.get(3)?,
                    title: row.get(4)?,
                    message: row.get(5)?,
                    action_url: row.get(6)?,
                    action_label: row.get(7)?,
                    priority: row.get(8)?,
                };
                let wishes = Wishes {
                    expired: row.get::<bool>(9)?.unwrap_or(false),
                    enabled: row.get::<bool>(10)?.unwrap_or(true),
                    quiet: preferences::quiet_hours(row.get(11)?, row.get(12)?, row.get(13)?),
                };
                Ok(Some((claimed, wishes)))
            })
        })?;
        let found: Vec<(Claimed, Wishes)> = found.into_iter().flatten().collect();
        // Their notification is gone, as where triggers were switched off: nothing is left to say.
        for (workspace, notification, _) in leased {
            if !found
                .iter()
                .any(|(one, _)| one.notification == *notification)
            {
                let arguments = [(*workspace).into(), (*notification).into()];
                UNQUEUE.with(|statement| statement.execute(client, &arguments))?;
            }
        }
        let mut recipients: HashMap<Uuid, Vec<Uuid>> = HashMap::new();
        for (one, _) in &found {
            recipients.entry(one.workspace).or_default().push(one.user);
        }
        let mut strangers = Vec::new();
        for (workspace, users) in recipients {
            for user in context::non_members(workspace, &users)? {
                strangers.push((workspace, user));
            }
        }
        for (one, wishes) in found {
            let is_member = !strangers.contains(&(one.workspace, one.user));
            let urgent = one.priority.as_deref() == Some("urgent");
            match wishes.verdict(is_member, urgent, self.now)? {
                preferences::Verdict::GoesOut => claimed.push(one),
                preferences::Verdict::Suppressed(reason) => {
                    self.set_aside(client, &one, reason, None)?;
                    set_delivery_status(client, one.workspace, one.notification, None, None)?;
                }
                preferences::Verdict::PutOff(until) => {
                    self.set_aside(client, &one, "quiet_hours", Some(until))?;
                }
            }
        }
        Ok(())
    }

    fn set_aside(
        &self,
        client: &mut SpiClient<'_>,
        one: &Claimed,
        reason: &str,
        until: Option<TimestampWithTimeZone>,
    ) -> Outcome<()> {
        let arguments = [
            one.workspace.into(),
            one.notification.into(),
            reason.into(),
            until.into(),
            self.now.into(),
        ];
        SET_ASIDE.with(|statement| statement.execute(client, &arguments))?;
        Ok(())
    }

    /// Up to `n` notifications that may go out now.
    fn run(&self, client: &mut SpiClient<'_>, n: usize) -> Outcome<Vec<Claimed>> {
        reap(client, self.now, REAPED_BY_A_CLAIM)?;
        let mut claimed = Vec::new();
        let mut rounds = 0;
        for rank in 0..PRIORITIES.len() as i32 {
            // What is set aside is not looked at again before it is due, so that each row costs this once.
            while claimed.len() < n {
                if rounds >= MOST_ROUNDS && !claimed.is_empty() {
                    return Ok(claimed);
                }
                let wanted = n - claimed.len();
                let leased = self.lease(client, rank, wanted as i64)?;
                if leased.is_empty() {
                    break;
                }
                rounds += 1;
                self.judge(client, &leased, &mut claimed)?;
            }
        }
        Ok(claimed)
    }
}

/// Leases up to `n` notifications of a channel that are due to a worker, and returns them with what to send.
///
/// - `channel`: email, slack, sms or push. `worker`: a name for people to read, at most 200 characters.
/// - `n`: from 1 to 1000. `lease`: from a second to a day; what is not completed or failed by then goes to
///   somebody else.
///
/// Those of the current workspace when there is one, else of all. Urgent ones come first, then high, normal, low, and of
/// each what is due longest. Any number of workers at once get different ones. No row means that nothing is due;
/// fewer than `n` need not mean that. `lease_token` is for [`complete_delivery`] and [`fail_delivery`], `attempt` counts from 1.
///
/// Judged at this moment: whether the user is still a member, has expired what was to be sent, wants this type by
/// this channel, and has quiet hours. What may not go out is suppressed or put off, and not returned.
///
/// Refuses: NULL (22004); a channel out of its list, a blank or too long worker, a number or lease out of bounds
/// (22023); a caller to whom row-level security applies and who has entered no workspace (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn claim_notifications(
    channel: Option<&str>,
    worker: Option<&str>,
    n: default!(Option<i32>, 100),
    lease: default!(Option<Interval>, "'1 minute'"),
) -> TableIterator<
    'static,
    (
        name!(workspace_id, Uuid),
        name!(notification_id, Uuid),
        name!(user_id, Uuid),
        name!(notification_type, Option<String>),
        name!(title, Option<String>),
        name!(message, Option<String>),
        name!(action_url, Option<String>),
        name!(action_label, Option<String>),
        name!(priority, Option<String>),
        name!(attempt, i32),
        name!(lease_token, Uuid),
        name!(leased_until, TimestampWithTimeZone),
    ),
> {
    let run = || -> Outcome<_> {
        let channel = argument::one_of(channel, "channel", CHANNELS)?;
        let worker = required(worker, "worker")?;
        argument::key(Some(worker), "worker", LONGEST_WORKER)?;
        let n = argument::between(n, "n", 1..=1000)? as usize;
        let lease = argument::duration(lease, "lease", SECOND..=86_400 * SECOND)?;
        let workspace = context::workspace_or_all()?;
        let now = instant::now();
        let claim = Claim {
            channel,
            worker,
            workspace,
            now,
            until: instant::after(now, lease)?,
            token: Uuid::from_bytes(*uuid::Uuid::now_v7().as_bytes()),
        };
        let claimed = Spi::connect_mut(|client| claim.run(client, n))?;
        let (token, until) = (claim.token, claim.until);
        Ok(claimed.into_iter().map(move |one| {
            (
                one.workspace,
                one.notification,
                one.user,
                one.notification_type,
                one.title,
                one.message,
                one.action_url,
                one.action_label,
                one.priority,
                one.attempt,
                token,
                until,
            )
        }))
    };
    TableIterator::new(run().or_raise())
}

statement!(
    LOCK_DELIVERY(UUID, UUID) = "
SELECT d.status, d.lease_token, d.attempts, d.max_attempts, d.due_at
FROM codex.deliveries AS d
WHERE d.workspace_id = $1
  AND d.notification_id = $2
FOR NO KEY UPDATE"
);

/// A delivery, locked.
struct Delivery {
    status: String,
    token: Option<Uuid>,
    attempts: i32,
    max_attempts: i32,
    due_at: Option<TimestampWithTimeZone>,
}

impl Delivery {
    fn lock(client: &mut SpiClient<'_>, workspace: Uuid, notification: Uuid) -> Outcome<Self> {
        let found = LOCK_DELIVERY.with(|statement| {
            statement.write_one(client, &[workspace.into(), notification.into()], |row| {
                Ok(Self {
                    status: row.get(1)?.unwrap_or_default(),
                    token: row.get(2)?,
                    attempts: row.get(3)?.unwrap_or(0),
                    max_attempts: row.get(4)?.unwrap_or(0),
                    due_at: row.get(5)?,
                })
            })
        })?;
        found.ok_or_else(|| {
            CodexError::not_found(format!(
                "there is no delivery of notification {notification} here"
            ))
        })
    }

    fn refuse(&self, notification: Uuid, token: Uuid) -> CodexError {
        CodexError::wrong_state(format!(
            "the delivery of notification {notification} is {}, and lease {token} is not its lease any more",
            self.status
        ))
        .with_hint("The lease ran out, or this delivery was settled. Drop it, and claim again.")
    }
}

statement!(
    COMPLETE(UUID, UUID, TIMESTAMPTZ, TEXT) = "
UPDATE codex.deliveries AS d
SET status = 'delivered',
    finished_at = $3,
    last_error = NULL,
    provider_reference = $4
WHERE d.workspace_id = $1
  AND d.notification_id = $2"
);

/// Says that a leased notification was delivered.
///
/// - `lease_token`: of the claim. A lease that ran out still counts as long as nobody has taken notice.
/// - `provider_reference`: what the provider calls the message, to be kept. `method`: how it went out, such as the
///   provider's name; kept as `delivery_method` of the notification.
///
/// Said twice with the same token it changes nothing. Refuses: NULL for a required argument (22004); a blank reference or
/// method (22023); a delivery that is not there (P0002); a token that is not the last claim's, or one whose
/// delivery has failed or was given up (55000); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn complete_delivery(
    workspace: Option<Uuid>,
    notification_id: Option<Uuid>,
    lease_token: Option<Uuid>,
    provider_reference: default!(Option<&str>, "NULL"),
    method: default!(Option<&str>, "NULL"),
) {
    let run = || -> Outcome<()> {
        let workspace = required(workspace, "workspace")?;
        let notification = required(notification_id, "notification_id")?;
        let token = required(lease_token, "lease_token")?;
        argument::key(provider_reference, "provider_reference", LONGEST_ERROR)?;
        argument::key(method, "method", LONGEST_WORKER)?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            let delivery = Delivery::lock(client, workspace, notification)?;
            if delivery.token != Some(token) {
                return Err(delivery.refuse(notification, token));
            }
            match delivery.status.as_str() {
                "delivered" => return Ok(()),
                "leased" => {}
                _ => return Err(delivery.refuse(notification, token)),
            }
            let arguments = [
                workspace.into(),
                notification.into(),
                instant::now().into(),
                provider_reference.into(),
            ];
            COMPLETE.with(|statement| statement.execute(client, &arguments))?;
            set_delivery_status(client, workspace, notification, Some("delivered"), method)
        })
    };
    run().or_raise();
}

statement!(
    FAIL(UUID, UUID, TEXT, TIMESTAMPTZ, TEXT, TIMESTAMPTZ) = "
UPDATE codex.deliveries AS d
SET status = CASE WHEN $5 IS NULL THEN 'waiting' ELSE 'dead' END,
    reason = $5,
    due_at = coalesce($4, d.due_at),
    last_error = $3,
    finished_at = CASE WHEN $5 IS NOT NULL THEN $6 END
WHERE d.workspace_id = $1
  AND d.notification_id = $2"
);

/// Says that a leased notification could not be delivered; returns when it is tried again, NULL for never.
///
/// - `error`: what went wrong, not blank; the first 2000 characters are kept.
/// - `retry_after`: not before this long from now, as where the provider says so; up to 30 days.
/// - `permanent`: it will never work (no such address): dead at once, and the notification is `bounced`.
///
/// It waits 30 seconds after the first failure, twice as long after each further one, up to 6 hours, half of it spread
/// by the notification's id ([`codex_delivery::wait_after`]). After `max_attempts` (8) it is dead and the
/// notification `failed`. Said twice with the same token it changes nothing and returns the same.
///
/// Refuses what [`complete_delivery`] refuses, and a `retry_after` out of bounds (22023).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn fail_delivery(
    workspace: Option<Uuid>,
    notification_id: Option<Uuid>,
    lease_token: Option<Uuid>,
    error: Option<&str>,
    retry_after: default!(Option<Interval>, "NULL"),
    permanent: default!(Option<bool>, false),
) -> Option<TimestampWithTimeZone> {
    let run = || -> Outcome<Option<TimestampWithTimeZone>> {
        let workspace = required(workspace, "workspace")?;
        let notification = required(notification_id, "notification_id")?;
        let token = required(lease_token, "lease_token")?;
        let error = shorten_to(argument::not_blank(error, "error")?, LONGEST_ERROR);
        let at_least = match retry_after {
            None => 0,
            some => argument::duration(some, "retry_after", 0..=30 * 86_400 * SECOND)?,
        };
        let permanent = required(permanent, "permanent")?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            let delivery = Delivery::lock(client, workspace, notification)?;
            if delivery.token != Some(token) {
                return Err(delivery.refuse(notification, token));
            }
            match delivery.status.as_str() {
                "leased" => {}
                "waiting" => return Ok(delivery.due_at),
                "dead" => return Ok(None),
                _ => return Err(delivery.refuse(notification, token)),
            }
            let dead = if permanent {
                Some("permanent")
            } else if delivery.attempts >= delivery.max_attempts {
                Some("attempts")
            } else {
                None
            };
            let now = instant::now();
            let again = match dead {
                Some(_) => None,
                None => {
                    let attempt = u32::try_from(delivery.attempts).unwrap_or(1);
                    let seed = u128::from_be_bytes(*notification.as_bytes());
                    let wait = codex_delivery::wait_after(attempt, seed).max(at_least);
                    Some(instant::after(now, wait)?)
                }
            };
            let arguments = [
                workspace.into(),
                notification.into(),
                error.as_str().into(),
                again.into(),
                dead.into(),
                now.into(),
            ];
            FAIL.with(|statement| statement.execute(client, &arguments))?;
            if dead.is_some() {
                let status = if permanent { "bounced" } else { "failed" };
                set_delivery_status(client, workspace, notification, Some(status), None)?;
            }
            Ok(again)
        })
    };
    run().or_raise()
}

statement!(
    REQUEUE(UUID, UUID, TIMESTAMPTZ) = "
UPDATE codex.deliveries AS d
SET status = 'waiting',
    reason = NULL,
    attempts = 0,
    due_at = $3,
    lease_token = NULL,
    finished_at = NULL
WHERE d.workspace_id = $1
  AND d.notification_id = $2"
);

/// Puts a delivery that is dead or suppressed back into the queue, due now, with all attempts ahead of it.
///
/// One that waits already stays as it is. Refuses: NULL (22004); a delivery that is not there (P0002); one that is
/// leased or delivered (55000); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn requeue_delivery(workspace: Option<Uuid>, notification_id: Option<Uuid>) {
    let run = || -> Outcome<()> {
        let workspace = required(workspace, "workspace")?;
        let notification = required(notification_id, "notification_id")?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            let delivery = Delivery::lock(client, workspace, notification)?;
            match delivery.status.as_str() {
                "waiting" => return Ok(()),
                "dead" | "suppressed" => {}
                status => {
                    return Err(CodexError::wrong_state(format!(
                        "the delivery of notification {notification} is {status} and cannot be put back into the queue"
                    )));
                }
            }
            let arguments = [workspace.into(), notification.into(), instant::now().into()];
            REQUEUE.with(|statement| statement.execute(client, &arguments))?;
            set_delivery_status(client, workspace, notification, Some("pending"), None)
        })
    };
    run().or_raise();
}

// A claim has to take the first rows of an index, whatever the planner thinks of a LIMIT that it does not know.
extension_sql!(
    r#"
ALTER FUNCTION claim_notifications(text, text, integer, interval) SET enable_seqscan = off;
ALTER FUNCTION claim_notifications(text, text, integer, interval) SET enable_bitmapscan = off;
ALTER FUNCTION claim_notifications(text, text, integer, interval) SET enable_sort = off;
COMMENT ON FUNCTION claim_notifications(text, text, integer, interval) IS
'Leases up to n notifications (1 to 1000) of a channel (email, slack, sms, push) that are due to a worker, for a time (a second to a day), and returns them: of the current workspace when there is one, else of all; urgent first, then what is due longest. Different workers get different ones. What its user may not or does not want to get is suppressed, what falls into quiet hours put off, unless urgent. No row: nothing is due. Errors: 22004 NULL, 22023 bad value, 42501 no workspace entered.';
COMMENT ON FUNCTION complete_delivery(uuid, uuid, uuid, text, text) IS
'Says that a leased notification was delivered; with the token of the claim, and what the provider calls it. Twice: no change. Errors: 22004 NULL, 22023 bad value, P0002 no such delivery, 55000 not the token of its last claim, 42501 not your workspace.';
COMMENT ON FUNCTION fail_delivery(uuid, uuid, uuid, text, interval, boolean) IS
'Says that a leased notification could not be delivered; returns when it is tried again, NULL for never. It waits 30 seconds, doubled after each failure up to 6 hours, half of it spread by its id, and at least retry_after; after 8 attempts, or at once when permanent, it is dead. Twice: no change. Errors: as complete_delivery.';
COMMENT ON FUNCTION requeue_delivery(uuid, uuid) IS
'Puts a delivery that is dead or suppressed back into the queue, due now. One that waits stays as it is. Errors: 22004 NULL, P0002 no such delivery, 55000 leased or delivered, 42501 not your workspace.';
"#,
    name = "comment_delivery",
    requires = [
        claim_notifications,
        complete_delivery,
        fail_delivery,
        requeue_delivery
    ]
);
