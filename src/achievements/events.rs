//! Metrics that are recorded, and what they unlock.
//!
//! `codex.record_metric_event()` does all of it in one transaction, one user at a time:
//!
//! ```text
//! lock the user's stats row ─► metric_events: new? ──no──► the first answer again
//!                                   │yes
//!                                   ▼
//!            metric_totals, metric_days (the user's local day) ─► active achievements of this metric,
//!            bronze before silver before gold before platinum ─► judged ─► progress, or
//!            unlocked ─► paid through the ledger ─► those that required it are judged, too, and so on
//! ```
//!
//! - **Once.** An event is its user, its metric and its `event_id`. Sent again it changes nothing and is answered as
//!   the first time; with another value it is refused.
//! - **Lock order**: stats row, event, total, day, unlocks, ledger. All that happens to one user's points begins with
//!   the stats row, so that sessions queue up there. A transaction that records for several users takes them in the
//!   order of their ids, or it can meet another one in a deadlock.
//! - **Time.** An event may be late and out of order: it is added to the day on which it occurred, and rules look at all
//!   days that are kept. It may be as old as events are kept (`raptorflow_codex.keep_metric_events_days`), since an older one
//!   could not be known again; and at most five minutes in the future, as clocks differ.
//! - **Days** are those of the user's time zone at the moment of recording; UTC unless `codex.set_user_time_zone()` said
//!   otherwise. A change of the zone leaves the days that are recorded as they are.
//! - Values are zero or more. So what a rule has reached it keeps, and the order of events does not matter. (A window that is
//!   one part of a combination is known for as long as its days are kept: `raptorflow_codex.keep_metric_days`.)
//! - What is unlocked by hand unlocks nothing else; what depends on it is judged with the next event, or by
//!   `codex.evaluate_achievements()`, which judges all.

use super::{lock_stats, look_up, pay, turn_unlocked};
use crate::argument::{self, LONGEST_KEY};
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::instant;
use crate::notifications;
use crate::statement;
use crate::statement::Statement;
use codex_rules::{Clause, Day, Facts, Metric};
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use pgrx::{AnyNumeric, JsonB, Uuid};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;

/// The largest value of an event.
const LARGEST_VALUE: i64 = 1_000_000_000_000;
/// How far ahead of this server's clock an event may be, in microseconds.
const AHEAD: i64 = 5 * 60 * 1_000_000;
const DAY: i64 = 86_400 * 1_000_000;

/// An achievement that was unlocked, as it is answered and remembered.
#[derive(Serialize, Deserialize)]
struct Unlocked {
    achievement: [u8; 16],
    name: String,
    tier: Option<String>,
    points: i32,
}

/// What the functions here answer. (pgrx resolves no alias in the signature of an SQL function.)
type Answer = TableIterator<
    'static,
    (
        name!(achievement_id, Uuid),
        name!(name, String),
        name!(tier, Option<String>),
        name!(points_awarded, i32),
    ),
>;

fn answer(unlocked: Vec<Unlocked>) -> Answer {
    TableIterator::new(unlocked.into_iter().map(|one| {
        (
            Uuid::from_bytes(one.achievement),
            one.name,
            one.tier,
            one.points,
        )
    }))
}

statement!(
    ADD_EVENT(UUID, UUID, TEXT, TEXT, NUMERIC, TIMESTAMPTZ) = "
INSERT INTO codex.metric_events (workspace_id, user_id, metric, event_id, value, occurred_at)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (workspace_id, user_id, metric, event_id) DO NOTHING"
);
statement!(
    KNOWN_EVENT(UUID, UUID, TEXT, TEXT, NUMERIC) = "
SELECT e.value = round($5, 6), e.unlocked::text
FROM codex.metric_events AS e
WHERE e.workspace_id = $1
  AND e.user_id = $2
  AND e.metric = $3
  AND e.event_id = $4"
);
statement!(
    REMEMBER(UUID, UUID, TEXT, TEXT, JSONB) = "
UPDATE codex.metric_events AS e
SET unlocked = $5
WHERE e.workspace_id = $1
  AND e.user_id = $2
  AND e.metric = $3
  AND e.event_id = $4"
);
statement!(
    ADD_TO_TOTAL(UUID, UUID, TEXT, NUMERIC, TIMESTAMPTZ) = "
INSERT INTO codex.metric_totals AS t (workspace_id, user_id, metric, events, total, first_at, last_at)
VALUES ($1, $2, $3, 1, round($4, 6), $5, $5)
ON CONFLICT (workspace_id, user_id, metric) DO UPDATE
SET events = t.events + 1,
    total = t.total + excluded.total,
    first_at = least(t.first_at, excluded.first_at),
    last_at = greatest(t.last_at, excluded.last_at)"
);
statement!(
    ADD_TO_DAY(UUID, UUID, TEXT, NUMERIC, TIMESTAMPTZ, TEXT) = "
INSERT INTO codex.metric_days AS d (workspace_id, user_id, metric, day, events, total)
VALUES ($1, $2, $3, ($5 AT TIME ZONE $6)::date, 1, round($4, 6))
ON CONFLICT (workspace_id, user_id, metric, day) DO UPDATE
SET events = d.events + 1,
    total = d.total + excluded.total"
);
statement!(
    ZONE(UUID, UUID) = "
SELECT z.time_zone
FROM codex.user_time_zones AS z
WHERE z.workspace_id = $1
  AND z.user_id = $2"
);

/// The zone by whose days a user's events are counted. One that this server does not know (any more) counts as UTC.
fn zone_of(client: &mut SpiClient<'_>, workspace: Uuid, user: Uuid) -> Outcome<String> {
    let zone = ZONE
        .with(|s| {
            s.write_one(client, &[workspace.into(), user.into()], |row| {
                row.get::<String>(1)
            })
        })?
        .flatten();
    let known = |zone: &String| {
        CString::new(zone.as_str()).is_ok_and(|zone| {
            // SAFETY: looks a terminated name up in Postgres's own list; NULL where it is not in it.
            !unsafe { pg_sys::pg_tzset(zone.as_ptr()) }.is_null()
        })
    };
    Ok(zone.filter(known).unwrap_or_else(|| "UTC".to_string()))
}

/// Records that `metric` happened to a user, and unlocks what is reached by it.
///
/// - `metric`: 1 to 100 of the characters a-z, A-Z, 0-9, `_ . : -`.
/// - `value`: what it adds to the metric, from 0 to 10^12, kept with six decimals. An event of 0 counts as an event.
/// - `event_id`: the caller's own, not blank, at most 200 characters. The same event again changes nothing and is
///   answered as the first time.
/// - `occurred_at`: NULL for now. Not further back than `raptorflow_codex.keep_metric_events_days`, and at most five minutes
///   ahead.
/// - `notify`: whether the user gets a notification (in_app) for each achievement.
///
/// Returns what was unlocked, in order, with the points that were paid; no rows for nothing.
///
/// Refuses: 22004 NULL; 22023 a metric, value, event or time as not described here, and a known event with another value;
/// 23503 a member who is not in the table of users; 42501 not a member, not the current workspace, or a caller who may
/// not record (members may not). In REPEATABLE READ and SERIALIZABLE sessions that lose get 40001.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn record_metric_event(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
    metric: Option<&str>,
    value: Option<AnyNumeric>,
    event_id: Option<&str>,
    occurred_at: default!(Option<TimestampWithTimeZone>, "NULL"),
    notify: default!(Option<bool>, false),
) -> TableIterator<
    'static,
    (
        name!(achievement_id, Uuid),
        name!(name, String),
        name!(tier, Option<String>),
        name!(points_awarded, i32),
    ),
> {
    answer(
        record(
            workspace,
            user_id,
            metric,
            value,
            event_id,
            occurred_at,
            notify,
        )
        .or_raise(),
    )
}

fn record(
    workspace: Option<Uuid>,
    user: Option<Uuid>,
    metric: Option<&str>,
    value: Option<AnyNumeric>,
    event: Option<&str>,
    occurred_at: Option<TimestampWithTimeZone>,
    notify: Option<bool>,
) -> Outcome<Vec<Unlocked>> {
    let workspace = required(workspace, "workspace")?;
    let user = required(user, "user_id")?;
    let metric = required(metric, "metric")?;
    codex_rules::check_metric(metric)
        .map_err(|problem| CodexError::bad_value(format!("metric: {problem}")))?;
    let value = value_of(value)?;
    let event = required(event, "event_id")?;
    argument::key(Some(event), "event_id", LONGEST_KEY)?;
    let occurred_at = time_of(occurred_at)?;
    let notify = required(notify, "notify")?;
    context::require_workspace(workspace)?;
    if !context::is_member(workspace, user)? {
        return Err(context::not_a_member(workspace, user));
    }
    Spi::connect_mut(|client| {
        lock_stats(client, workspace, user, "user_id")?;
        let of_event = |last: DatumWithOid<'static>| {
            [
                workspace.into(),
                user.into(),
                metric.to_string().into(),
                event.to_string().into(),
                last,
            ]
        };
        let mut new = Vec::from(of_event(value.clone().into()));
        new.push(occurred_at.into());
        if ADD_EVENT.with(|s| s.execute(client, &new))? == 0 {
            return known_event(client, &of_event(value.into()), event);
        }
        let mut amount = vec![
            workspace.into(),
            user.into(),
            metric.into(),
            value.into(),
            occurred_at.into(),
        ];
        ADD_TO_TOTAL.with(|s| s.execute(client, &amount))?;
        amount.push(zone_of(client, workspace, user)?.into());
        ADD_TO_DAY.with(|s| s.execute(client, &amount))?;

        let first = read_candidates(client, &OF_METRIC, workspace, user, metric.into())?;
        let unlocked = Evaluation::of(workspace, user, metric).run(client, first)?;
        if !unlocked.is_empty() {
            let kept = serde_json::to_value(&unlocked).map_err(|error| {
                CodexError::wrong_state(format!("the answer cannot be kept: {error}"))
            })?;
            REMEMBER.with(|s| s.execute(client, &of_event(JsonB(kept).into())))?;
        }
        if notify {
            tell(workspace, user, &unlocked)?;
        }
        Ok(unlocked)
    })
}

/// What the first call with an event was answered.
fn known_event(
    client: &mut SpiClient<'_>,
    event: &[DatumWithOid<'_>],
    event_id: &str,
) -> Outcome<Vec<Unlocked>> {
    let known = KNOWN_EVENT.with(|s| {
        s.write_one(client, event, |row| {
            Ok((row.get::<bool>(1)?, row.get::<String>(2)?))
        })
    })?;
    match known {
        Some((Some(true), None)) => Ok(Vec::new()),
        Some((Some(true), Some(unlocked))) => serde_json::from_str(&unlocked).map_err(|error| {
            CodexError::corrupt(format!(
                "what event \"{}\" unlocked does not read: {error}",
                shorten(event_id)
            ))
        }),
        Some(_) => Err(CodexError::bad_value(format!(
            "event_id \"{}\" was recorded with another value",
            shorten(event_id)
        ))),
        None => Err(CodexError::busy(format!(
            "event_id \"{}\" was there a moment ago and is not any more",
            shorten(event_id)
        ))
        .with_hint("Send the call again.")),
    }
}

fn value_of(value: Option<AnyNumeric>) -> Outcome<AnyNumeric> {
    let value = required(value, "value")?;
    // Postgres sorts NaN and infinity above everything, so that the upper bound refuses them as well.
    if value < AnyNumeric::from(0) || value > AnyNumeric::from(LARGEST_VALUE) {
        return Err(CodexError::bad_value(format!(
            "value is {}; it must be from 0 to {LARGEST_VALUE}",
            shorten(&value.to_string())
        )));
    }
    Ok(value)
}

fn time_of(occurred_at: Option<TimestampWithTimeZone>) -> Outcome<TimestampWithTimeZone> {
    let now = instant::now();
    let Some(occurred_at) = occurred_at else {
        return Ok(now);
    };
    let (at, now) = (
        pg_sys::TimestampTz::from(occurred_at),
        pg_sys::TimestampTz::from(now),
    );
    if at > now.saturating_add(AHEAD) {
        return Err(CodexError::bad_value(
            "occurred_at is more than five minutes in the future",
        ));
    }
    let days = i64::from(super::upkeep::events_kept());
    if at < now.saturating_sub(days * DAY) {
        return Err(CodexError::bad_value(format!(
            "occurred_at is more than {days} days ago, for which events are kept"
        ))
        .with_hint("raptorflow_codex.keep_metric_events_days says for how long; an older event could not be told from one that was counted."));
    }
    Ok(occurred_at)
}

fn tell(workspace: Uuid, user: Uuid, unlocked: &[Unlocked]) -> Outcome<()> {
    for one in unlocked {
        let achievement = Uuid::from_bytes(one.achievement);
        notifications::of_an_unlock(workspace, user, achievement, &one.name, one.points)?;
    }
    Ok(())
}

/// Judges all active achievements of the workspace for a user and unlocks what is reached: after an achievement was
/// written or changed, or unlocked by hand. What it unlocks says 'evaluation' as its event.
///
/// Returns what was unlocked, as `codex.record_metric_event()`; again, it unlocks nothing more. Refuses: 22004 NULL; 42501
/// not a member, not the current workspace, or a caller who may not write points.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn evaluate_achievements(
    workspace: Option<Uuid>,
    user_id: Option<Uuid>,
    notify: default!(Option<bool>, false),
) -> TableIterator<
    'static,
    (
        name!(achievement_id, Uuid),
        name!(name, String),
        name!(tier, Option<String>),
        name!(points_awarded, i32),
    ),
> {
    let run = || {
        let workspace = required(workspace, "workspace")?;
        let user = required(user_id, "user_id")?;
        let notify = required(notify, "notify")?;
        context::require_workspace(workspace)?;
        if !context::is_member(workspace, user)? {
            return Err(context::not_a_member(workspace, user));
        }
        Spi::connect_mut(|client| {
            lock_stats(client, workspace, user, "user_id")?;
            let all = read_candidates(client, &OF_ALL, workspace, user, None::<Uuid>.into())?;
            let unlocked = Evaluation::of(workspace, user, "evaluation").run(client, all)?;
            if notify {
                tell(workspace, user, &unlocked)?;
            }
            Ok(unlocked)
        })
    };
    answer(run().or_raise())
}

extension_sql!(
    r#"
ALTER FUNCTION record_metric_event(uuid, uuid, text, numeric, text, timestamptz, boolean) ROWS 1;
ALTER FUNCTION evaluate_achievements(uuid, uuid, boolean) ROWS 1;
COMMENT ON FUNCTION record_metric_event(uuid, uuid, text, numeric, text, timestamptz, boolean) IS
'Records that a metric happened to a user: once for an event_id, with a value from 0 to 10^12. Keeps the progress of the active achievements that depend on it, unlocks those that are reached (prerequisites first, bronze before platinum, and what follows from them), pays them through the ledger, notifies where told, and returns what was unlocked. The same event again is answered the same. Errors: 22004 NULL, 22023 bad metric, value, event or time, or a known event with another value, 23503 unknown user, 42501 not a member, not your workspace, or no right to record.';
COMMENT ON FUNCTION evaluate_achievements(uuid, uuid, boolean) IS
'Judges all active achievements of a workspace for a user by what was recorded so far, and unlocks what is reached: after an achievement was written, or unlocked by hand. Returns what was unlocked. Errors: 22004 NULL, 42501 not a member, not your workspace, or no right to write points.';
"#,
    name = "comment_metric_events",
    requires = [record_metric_event, evaluate_achievements]
);

/// An achievement that is still locked, and may have been reached.
struct Candidate {
    id: Uuid,
    name: String,
    tier: Option<String>,
    rule: Clause,
    is_free: bool,
    has_row: bool,
    shown: (i32, i32),
}

macro_rules! candidates {
    ($from:literal) => {
        concat!(
            "
SELECT a.id,
       a.name,
       a.tier,
       a.condition_type,
       a.condition_value::text,
       a.required_previous_achievement_id IS NULL OR EXISTS (
           SELECT
           FROM public.user_achievements AS p
           WHERE p.workspace_id = $1
             AND p.achievement_id = a.required_previous_achievement_id
             AND p.user_id = $2
             AND NOT p.is_locked
       ),
       u.id IS NOT NULL,
       coalesce(u.progress_percentage, 0),
       coalesce(u.progress_value, 0)",
            $from,
            "
LEFT JOIN public.user_achievements AS u ON u.workspace_id = $1
    AND u.achievement_id = a.id
    AND u.user_id = $2
WHERE a.workspace_id = $1
  AND a.is_active
  AND a.condition_value IS NOT NULL
  AND u.is_locked IS NOT FALSE
ORDER BY array_position(ARRAY['bronze', 'silver', 'gold', 'platinum'], coalesce(a.tier, 'bronze')), a.id"
        )
    };
}

statement!(
    OF_METRIC(UUID, UUID, TEXT) = candidates!(
        "
FROM codex.achievement_metrics AS m
JOIN public.achievements AS a ON a.workspace_id = m.workspace_id
    AND a.id = m.achievement_id
    AND m.workspace_id = $1
    AND m.metric = $3"
    )
);
statement!(
    OF_PREREQUISITE(UUID, UUID, UUID) = candidates!(
        "
FROM (
    SELECT n.*
    FROM public.achievements AS n
    WHERE n.workspace_id = $1
      AND n.required_previous_achievement_id = $3
) AS a"
    )
);
statement!(
    OF_ALL(UUID, UUID, UUID) = candidates!(
        "
FROM (
    SELECT n.*
    FROM public.achievements AS n
    WHERE n.workspace_id = $1
      AND ($3 IS NULL OR n.id = $3)
) AS a"
    )
);

/// Locked active achievements with a rule, lower tiers first. One whose condition does not fit is passed by.
fn read_candidates(
    client: &mut SpiClient<'_>,
    statement: &'static std::thread::LocalKey<Statement>,
    workspace: Uuid,
    user: Uuid,
    which: DatumWithOid<'_>,
) -> Outcome<Vec<Candidate>> {
    let rows = statement.with(|s| {
        s.write(client, &[workspace.into(), user.into(), which], |row| {
            let condition_type: String = row.get(4)?.unwrap_or_default();
            let condition_value: String = row.get(5)?.unwrap_or_default();
            let (Some(id), Ok(rule)) = (
                row.get::<Uuid>(1)?,
                Clause::parse(&condition_type, &condition_value),
            ) else {
                return Ok(None);
            };
            Ok(Some(Candidate {
                id,
                name: row.get(2)?.unwrap_or_default(),
                tier: row.get(3)?,
                rule,
                is_free: row.get(6)? == Some(true),
                has_row: row.get(7)? == Some(true),
                shown: (row.get(8)?.unwrap_or(0), row.get(9)?.unwrap_or(0)),
            }))
        })
    })?;
    Ok(rows.into_iter().flatten().collect())
}

statement!(
    TOTALS(UUID, UUID, TEXT_ARRAY) = "
SELECT t.metric, t.events, t.total::double precision
FROM codex.metric_totals AS t
WHERE t.workspace_id = $1
  AND t.user_id = $2
  AND t.metric = ANY ($3)"
);
statement!(
    DAYS(UUID, UUID, TEXT_ARRAY) = "
SELECT d.metric, d.day - DATE '2000-01-01', d.total::double precision
FROM codex.metric_days AS d
WHERE d.workspace_id = $1
  AND d.user_id = $2
  AND d.metric = ANY ($3)
ORDER BY d.metric, d.day"
);

/// What is known of the metrics of some rules, beside what is known already. With `fresh`, as it is now; else as the
/// statement that calls sees it, without taking a transaction id.
pub fn add_facts<'a>(
    client: &mut SpiClient<'_>,
    workspace: Uuid,
    user: Uuid,
    rules: impl Iterator<Item = &'a Clause> + Clone,
    facts: &mut Facts,
    fresh: bool,
) -> Outcome<()> {
    let key = |metrics: Vec<String>| [workspace.into(), user.into(), metrics.into()];
    let names = |wanted: BTreeSet<&str>| -> Vec<String> {
        wanted.into_iter().map(str::to_string).collect()
    };
    let all = names(rules.clone().flat_map(Clause::metrics).collect());
    let daily = names(rules.flat_map(Clause::daily_metrics).collect());
    let totals = |row: pgrx::spi::SpiHeapTupleData<'_>| {
        Ok((
            row.get::<String>(1)?.unwrap_or_default(),
            row.get::<i64>(2)?.unwrap_or(0),
            row.get::<f64>(3)?.unwrap_or(0.0),
        ))
    };
    let days = |row: pgrx::spi::SpiHeapTupleData<'_>| {
        Ok((
            row.get::<String>(1)?.unwrap_or_default(),
            row.get::<i32>(2)?.unwrap_or(0),
            row.get::<f64>(3)?.unwrap_or(0.0),
        ))
    };
    let found = TOTALS.with(|s| {
        if fresh {
            s.write(client, &key(all), totals)
        } else {
            s.read(client, &key(all), totals)
        }
    })?;
    for (metric, events, total) in found {
        let known: &mut Metric = facts.entry(metric).or_default();
        (known.events, known.total) = (events, total);
    }
    if daily.is_empty() {
        return Ok(());
    }
    for metric in &daily {
        if let Some(known) = facts.get_mut(metric) {
            known.days.clear();
        }
    }
    let found = DAYS.with(|s| {
        if fresh {
            s.write(client, &key(daily), days)
        } else {
            s.read(client, &key(daily), days)
        }
    })?;
    for (metric, number, total) in found {
        let known: &mut Metric = facts.entry(metric).or_default();
        known.days.push(Day { number, total });
    }
    Ok(())
}

statement!(
    KEEP_PROGRESS(UUID, UUID, UUID_ARRAY, FLOAT8_ARRAY, FLOAT8_ARRAY) = "
INSERT INTO public.user_achievements AS u (
    workspace_id, user_id, achievement_id, progress_percentage, progress_value
)
SELECT $1, $2, p.achievement_id, p.percentage::integer, p.value::integer
FROM unnest($3, $4, $5) AS p (achievement_id, percentage, value)
ON CONFLICT (workspace_id, user_id, achievement_id) DO UPDATE
SET progress_percentage = excluded.progress_percentage,
    progress_value = excluded.progress_value
WHERE u.is_locked IS NOT FALSE"
);

/// The achievements of one user being judged; the user's stats row is locked.
struct Evaluation<'a> {
    workspace: Uuid,
    user: Uuid,
    event: &'a str,
    facts: Facts,
    progress: BTreeMap<Uuid, (i32, i32)>,
    unlocked: Vec<Unlocked>,
}

impl<'a> Evaluation<'a> {
    fn of(workspace: Uuid, user: Uuid, event: &'a str) -> Self {
        Self {
            workspace,
            user,
            event,
            facts: Facts::new(),
            progress: BTreeMap::new(),
            unlocked: Vec::new(),
        }
    }

    /// Judges the first ones, and after each that is unlocked those that required it.
    fn run(mut self, client: &mut SpiClient<'_>, first: Vec<Candidate>) -> Outcome<Vec<Unlocked>> {
        let mut batch = first;
        while !batch.is_empty() {
            let rules = batch.iter().map(|candidate| &candidate.rule);
            add_facts(
                client,
                self.workspace,
                self.user,
                rules,
                &mut self.facts,
                true,
            )?;
            let mut next = Vec::new();
            for candidate in batch {
                if self.judge(client, &candidate)? {
                    let which = candidate.id.into();
                    next.extend(read_candidates(
                        client,
                        &OF_PREREQUISITE,
                        self.workspace,
                        self.user,
                        which,
                    )?);
                }
            }
            batch = next;
        }
        self.keep_progress(client)?;
        Ok(self.unlocked)
    }

    /// Whether it was unlocked.
    fn judge(&mut self, client: &mut SpiClient<'_>, candidate: &Candidate) -> Outcome<bool> {
        let verdict = candidate.rule.judge(&self.facts);
        if verdict.met && candidate.is_free && self.unlock(client, candidate)? {
            self.progress.remove(&candidate.id);
            return Ok(true);
        }
        let value = verdict.findings.first().map_or(0.0, |whole| whole.reached);
        let shown = (
            (verdict.progress * 100.0) as i32,
            value.min(f64::from(i32::MAX)) as i32,
        );
        if shown != candidate.shown || (!candidate.has_row && shown != (0, 0)) {
            self.progress.insert(candidate.id, shown);
        }
        Ok(false)
    }

    fn unlock(&mut self, client: &mut SpiClient<'_>, candidate: &Candidate) -> Outcome<bool> {
        let Some(found) = look_up(client, self.workspace, candidate.id)? else {
            return Ok(false);
        };
        let key = [
            self.workspace.into(),
            self.user.into(),
            candidate.id.into(),
            self.event.into(),
        ];
        if !turn_unlocked(client, &key, candidate.has_row)? {
            return Ok(false);
        }
        let points = pay(
            client,
            self.workspace,
            self.user,
            candidate.id,
            self.event,
            found.points,
            found.badges,
        )?;
        self.unlocked.push(Unlocked {
            achievement: *candidate.id.as_bytes(),
            name: candidate.name.clone(),
            tier: candidate.tier.clone(),
            points,
        });
        Ok(true)
    }

    fn keep_progress(&self, client: &mut SpiClient<'_>) -> Outcome<()> {
        if self.progress.is_empty() {
            return Ok(());
        }
        let ids: Vec<Uuid> = self.progress.keys().copied().collect();
        let (percentages, values): (Vec<f64>, Vec<f64>) = self
            .progress
            .values()
            .map(|(percentage, value)| (f64::from(*percentage), f64::from(*value)))
            .unzip();
        let arguments = [
            self.workspace.into(),
            self.user.into(),
            ids.into(),
            percentages.into(),
            values.into(),
        ];
        KEEP_PROGRESS.with(|s| s.execute(client, &arguments))?;
        Ok(())
    }
}
