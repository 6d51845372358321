//! Achievements: unlocking one, and the points, level and rates of a user.
//!
//! | part | what it does |
//! |---|---|
//! | this file | unlocking by hand; the triggers of `user_stats` |
//! | [`rules`] | conditions, checked where they are written |
//! | [`events`] | metrics that are recorded, and what they unlock |
//! | [`ledger`] | every change of points, append-only |
//! | [`standing`] | what is missing, who leads, whose day it is |
//! | [`upkeep`] | what time does |

mod events;
mod ledger;
mod rules;
mod standing;
pub mod upkeep;

use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::row_triggers::Row;
use crate::statement::{Reference, Statement, naming_what_is_missing};
use crate::{statement, trigger_function};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::collections::HashSet;

/// Points that make one level.
const POINTS_PER_LEVEL: i32 = 1000;

/// What an unlock gives back: whether it was unlocked now, a sentence, and the points added.
type Answer = (bool, String, i32);

fn refused(message: &str) -> Outcome<Answer> {
    Ok((false, message.to_string(), 0))
}

/// Unlocks an achievement for a user, once, and pays for it.
///
/// Takes the user, the achievement, the workspace, and what the unlock came from (`unlocked_by_event`, any text).
///
/// Of any number of sessions that unlock the same achievement for the same user at the same time, one is answered
/// `true, 'Achievement unlocked successfully'` and the points; the others wait for it. On success the row of
/// `user_achievements` is complete (unlocked, 100 percent, when and by what), and that of `user_stats` has the
/// points, one achievement more and the badges that it did not have; both rows are made where they are missing.
/// `points_awarded` is what was added: the reward, or less where the total would exceed 2147483647 (it is filled up
/// to that). A reward of NULL pays 0.
///
/// What cannot be unlocked is answered `false`, 0 points and, in this order, `'Achievement not found'` (also for
/// one of another workspace), `'Achievement already unlocked'`, `'Achievement is not active'`,
/// `'Required achievement is not unlocked'`, `'User is not a member of the workspace'`.
///
/// Refuses: 22004 a NULL argument; 23503 a member who is not in the table of users; 42501 a workspace that is not
/// the caller's current one, and a caller who may not write points (members may not). In REPEATABLE READ and
/// SERIALIZABLE the sessions that lose get 40001, to be tried again.
#[pg_extern(volatile)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn unlock_achievement(
    p_user_id: Option<pgrx::Uuid>,
    p_achievement_id: Option<pgrx::Uuid>,
    p_workspace_id: Option<pgrx::Uuid>,
    p_event_type: default!(Option<String>, "'manual'"),
) -> TableIterator<
    'static,
    (
        name!(success, bool),
        name!(message, String),
        name!(points_awarded, i32),
    ),
> {
    TableIterator::once(
        unlock(p_user_id, p_achievement_id, p_workspace_id, p_event_type).or_raise(),
    )
}

fn unlock(
    user: Option<pgrx::Uuid>,
    achievement: Option<pgrx::Uuid>,
    workspace: Option<pgrx::Uuid>,
    event: Option<String>,
) -> Outcome<Answer> {
    let user = required(user, "p_user_id")?;
    let achievement = required(achievement, "p_achievement_id")?;
    let workspace = required(workspace, "p_workspace_id")?;
    let event = required(event, "p_event_type")?;
    context::require_workspace(workspace)?;

    let key: [DatumWithOid<'_>; 3] = [workspace.into(), user.into(), achievement.into()];
    Spi::connect_mut(|client| {
        let unlocked = is_unlocked(client, &key)?;
        if unlocked == Some(true) {
            return refused("Achievement already unlocked");
        }
        let Some(found) = look_up(client, workspace, achievement)? else {
            return refused("Achievement not found");
        };
        if !found.active {
            return refused("Achievement is not active");
        }
        if let Some(prerequisite) = found.prerequisite
            && is_unlocked(
                client,
                &[workspace.into(), user.into(), prerequisite.into()],
            )? != Some(true)
        {
            return refused("Required achievement is not unlocked");
        }
        if !context::is_member(workspace, user)? {
            return refused("User is not a member of the workspace");
        }
        lock_stats(client, workspace, user, "p_user_id")?;
        let key = [
            workspace.into(),
            user.into(),
            achievement.into(),
            event.as_str().into(),
        ];
        if !turn_unlocked(client, &key, unlocked.is_some())? {
            return refused("Achievement already unlocked");
        }
        let added = pay(
            client,
            workspace,
            user,
            achievement,
            &event,
            found.points,
            found.badges,
        )?;
        Ok((true, "Achievement unlocked successfully".to_string(), added))
    })
}

statement!(
    IS_UNLOCKED(UUID, UUID, UUID) = "
    SELECT NOT u.is_locked
    FROM public.user_achievements AS u
    WHERE u.workspace_id = $1
      AND u.user_id = $2
      AND u.achievement_id = $3"
);

/// Whether the user has unlocked the achievement; None where there is no row of it at all.
fn is_unlocked(client: &SpiClient<'_>, key: &[DatumWithOid<'_>; 3]) -> Outcome<Option<bool>> {
    IS_UNLOCKED.with(|s| s.read_one(client, key, |row| Ok(row.get::<bool>(1)? == Some(true))))
}

/// What has to be known of an achievement before it is unlocked.
struct Found {
    active: bool,
    points: i32,
    badges: Option<Vec<Option<String>>>,
    prerequisite: Option<pgrx::Uuid>,
}

statement!(
    ACHIEVEMENT(UUID, UUID) = "
    SELECT a.is_active IS TRUE,
           coalesce(a.points_reward, 0),
           a.badge_unlocks,
           a.required_previous_achievement_id
    FROM public.achievements AS a
    WHERE a.workspace_id = $1
      AND a.id = $2"
);

fn look_up(
    client: &SpiClient<'_>,
    workspace: pgrx::Uuid,
    achievement: pgrx::Uuid,
) -> Outcome<Option<Found>> {
    ACHIEVEMENT.with(|s| {
        s.read_one(client, &[workspace.into(), achievement.into()], |row| {
            Ok(Found {
                active: row.get(1)? == Some(true),
                points: row.get(2)?.unwrap_or(0),
                badges: row.get(3)?,
                prerequisite: row.get(4)?,
            })
        })
    })
}

// The stats row is locked first, always, as it is what all unlocks of a user have in common: transactions that
// unlock several, each in its order, queue up and do not deadlock.
statement!(
    LOCK_STATS(UUID, UUID) = "
    SELECT s.id
    FROM public.user_stats AS s
    WHERE s.workspace_id = $1
      AND s.user_id = $2
    FOR NO KEY UPDATE"
);

statement!(
    MAKE_STATS(UUID, UUID) = "
    INSERT INTO public.user_stats (workspace_id, user_id)
    VALUES ($1, $2)
    ON CONFLICT (workspace_id, user_id) DO NOTHING"
);

/// Locks the stats row of a user until the transaction ends, and makes it where there is none; `argument` is where the
/// user came from.
fn lock_stats(
    client: &mut SpiClient<'_>,
    workspace: pgrx::Uuid,
    user: pgrx::Uuid,
    argument: &str,
) -> Outcome<()> {
    let key = [workspace.into(), user.into()];
    if LOCK_STATS.with(|s| s.execute(client, &key))? > 0 {
        return Ok(());
    }
    let reference = Reference {
        foreign_key: "user_stats_user_id_fkey",
        argument,
        what: "user",
        value: Some(user),
    };
    naming_what_is_missing(&[reference], || {
        // Of several sessions one makes it; for the others it is there now.
        if MAKE_STATS.with(|s| s.execute(client, &key))? == 0 {
            LOCK_STATS.with(|s| s.execute(client, &key))?;
        }
        Ok(())
    })
}

// The gate: of any number of sessions that come here with one key, the row turns from locked to unlocked in exactly
// one. There is a row only where progress was kept before. Two narrow statements: an upsert would set up the
// policies' checks of both, though one of them is enough.
statement!(
    ADD_UNLOCKED(UUID, UUID, UUID, TEXT) = "
    INSERT INTO public.user_achievements (
        workspace_id, user_id, achievement_id,
        progress_percentage, unlocked_at, unlocked_by_event, is_locked
    )
    VALUES ($1, $2, $3, 100, now(), $4, false)
    ON CONFLICT (workspace_id, user_id, achievement_id) DO NOTHING"
);

statement!(
    TURN_UNLOCKED(UUID, UUID, UUID, TEXT) = "
    UPDATE public.user_achievements AS u
    SET progress_percentage = 100,
        unlocked_at = now(),
        unlocked_by_event = $4,
        is_locked = false
    WHERE u.workspace_id = $1
      AND u.user_id = $2
      AND u.achievement_id = $3
      AND u.is_locked IS NOT FALSE"
);

/// Whether it was this call that unlocked it; `has_row` says which statement will probably do.
fn turn_unlocked(
    client: &mut SpiClient<'_>,
    key: &[DatumWithOid<'_>; 4],
    has_row: bool,
) -> Outcome<bool> {
    let mut turn = |statement: &'static std::thread::LocalKey<Statement>| {
        statement
            .with(|s| s.execute(client, key))
            .map(|written| written == 1)
    };
    Ok((has_row && turn(&TURN_UNLOCKED)?) || turn(&ADD_UNLOCKED)? || turn(&TURN_UNLOCKED)?)
}

// With badges and without, which is most of the time: the array of badges costs more to set up than the rest to run.
macro_rules! pay {
    ($badges:expr) => {
        concat!(
            "
    UPDATE public.user_stats AS s
    SET total_points = coalesce(s.total_points, 0) + $3,
        achievements_unlocked = least(coalesce(s.achievements_unlocked, 0)::bigint + 1, 2147483647)::integer,",
            $badges,
            "
        stats_last_updated = now()
    WHERE s.workspace_id = $1
      AND s.user_id = $2
      AND coalesce(s.total_points, 0) <= 2147483647 - $3"
        )
    };
}

statement!(PAY_POINTS(UUID, UUID, INT4) = pay!(""));

statement!(
    PAY_POINTS_AND_BADGES(UUID, UUID, INT4, TEXT_ARRAY) = pay!(
        "
        badges_earned = CASE
            WHEN $4 <@ s.badges_earned THEN s.badges_earned
            ELSE ARRAY(
                SELECT b.badge
                FROM unnest(ARRAY(SELECT unnest(s.badges_earned)) || $4) WITH ORDINALITY AS b (badge, position)
                WHERE b.badge IS NOT NULL
                GROUP BY b.badge
                ORDER BY min(b.position)
            )
        END,"
    )
);

// The total is so near to 2^31 that it does not hold the reward: it is filled up.
statement!(
    ROOM_LEFT(UUID, UUID) = "
    SELECT 2147483647 - coalesce(s.total_points, 0)
    FROM public.user_stats AS s
    WHERE s.workspace_id = $1
      AND s.user_id = $2"
);

/// Adds the reward of an achievement to the stats of a user, whose row is locked, and enters it into the ledger; gives
/// the points that were added.
fn pay(
    client: &mut SpiClient<'_>,
    workspace: pgrx::Uuid,
    user: pgrx::Uuid,
    achievement: pgrx::Uuid,
    event: &str,
    points: i32,
    badges: Option<Vec<Option<String>>>,
) -> Outcome<i32> {
    let added = add_to_stats(client, workspace, user, points, badges)?;
    ledger::enter_unlock(client, workspace, user, added, achievement, event)?;
    Ok(added)
}

fn add_to_stats(
    client: &mut SpiClient<'_>,
    workspace: pgrx::Uuid,
    user: pgrx::Uuid,
    points: i32,
    badges: Option<Vec<Option<String>>>,
) -> Outcome<i32> {
    let badges = distinct(badges);
    let add = |client: &mut SpiClient<'_>, points: i32| {
        let (workspace, user, points) = (workspace.into(), user.into(), points.into());
        match badges.clone() {
            None => PAY_POINTS.with(|s| s.execute(client, &[workspace, user, points])),
            Some(badges) => PAY_POINTS_AND_BADGES
                .with(|s| s.execute(client, &[workspace, user, points, badges.into()])),
        }
    };
    if add(client, points)? == 1 {
        return Ok(points);
    }
    let room = ROOM_LEFT
        .with(|s| {
            s.read_one(client, &[workspace.into(), user.into()], |row| {
                row.get::<i32>(1)
            })
        })?
        .flatten()
        .ok_or_else(|| {
            CodexError::wrong_state(format!(
                "the row of user {user} in user_stats cannot be written"
            ))
            .with_hint("A policy or trigger of this database hides it or keeps it from being made.")
        })?;
    let points = points.min(room);
    add(client, points)?;
    Ok(points)
}

/// The badges without NULLs and repetitions, in their order; None when none is left.
fn distinct(badges: Option<Vec<Option<String>>>) -> Option<Vec<String>> {
    let mut seen = HashSet::new();
    let kept: Vec<String> = badges
        .into_iter()
        .flatten()
        .flatten()
        .filter(|badge| seen.insert(badge.clone()))
        .collect();
    (!kept.is_empty()).then_some(kept)
}

extension_sql!(
    r#"
COMMENT ON FUNCTION unlock_achievement(uuid, uuid, uuid, text) IS
'Unlocks an achievement for a user, once, however many sessions try at the same time, and adds its points and badges to the user''s stats; makes the rows that are missing.
Answers true, ''Achievement unlocked successfully'' and the points added (less than the reward only where the total would exceed 2147483647), or false, 0 and: ''Achievement not found'', ''Achievement already unlocked'', ''Achievement is not active'', ''Required achievement is not unlocked'', ''User is not a member of the workspace''.
Refuses: 22004 a NULL argument; 23503 a member who is not in the table of users; 42501 not the current workspace, or a caller who may not write points.';

ALTER FUNCTION unlock_achievement(uuid, uuid, uuid, text) ROWS 1;
"#,
    name = "comment_unlock_achievement",
    requires = [unlock_achievement]
);

/// Keeps the level of a user: `total_points / 1000 + 1`, and the way to the next level in percent,
/// `total_points % 1000 / 10`. NULL points count as 0.
fn with_level(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let row = Row::of(data)?;
    let level_column = row.column("experience_level", pg_sys::INT4OID)?;
    let percentage_column = row.column("experience_percentage", pg_sys::NUMERICOID)?;
    let points: i32 = row
        .new_value(row.column("total_points", pg_sys::INT4OID)?)
        .unwrap_or(0);
    let level = points / POINTS_PER_LEVEL + 1;
    // A level has 1000 points, so a point is a tenth of a percent.
    let percentage = row.fit(percentage_column, tenths(points % POINTS_PER_LEVEL));
    if row.new_value::<i32>(level_column) == Some(level)
        && row.new_value::<AnyNumeric>(percentage_column).as_ref() == Some(&percentage)
    {
        return Ok(row.unchanged());
    }
    Ok(row.with([
        (level_column, pg_sys::Datum::from(level)),
        (percentage_column, datum(percentage)),
    ]))
}

trigger_function!(update_experience_level, with_level);

/// Keeps the success rate of a user's moves in percent: `moves_successful / moves_executed * 100`, 0 when
/// none was executed. NULL counters count as 0.
fn with_success_rate(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let row = Row::of(data)?;
    let rate_column = row.column("success_rate_percentage", pg_sys::NUMERICOID)?;
    let executed: i32 = row
        .new_value(row.column("moves_executed", pg_sys::INT4OID)?)
        .unwrap_or(0);
    let successful: i32 = row
        .new_value(row.column("moves_successful", pg_sys::INT4OID)?)
        .unwrap_or(0);
    let rate = if executed == 0 {
        AnyNumeric::from(0)
    } else {
        AnyNumeric::from(i64::from(successful) * 100) / AnyNumeric::from(executed)
    };
    let rate = row.fit(rate_column, rate);
    if row.new_value::<AnyNumeric>(rate_column).as_ref() == Some(&rate) {
        return Ok(row.unchanged());
    }
    Ok(row.with([(rate_column, datum(rate))]))
}

trigger_function!(calculate_move_success_rate, with_success_rate);

extension_sql!(
    r#"
CREATE FUNCTION update_experience_level() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'update_experience_level_trigger';

COMMENT ON FUNCTION update_experience_level() IS
'Trigger BEFORE INSERT OR UPDATE of a row of user_stats: experience_level becomes total_points / 1000 + 1 and experience_percentage total_points % 1000 / 10. NULL points count as 0.';

CREATE FUNCTION calculate_move_success_rate() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'calculate_move_success_rate_trigger';

COMMENT ON FUNCTION calculate_move_success_rate() IS
'Trigger BEFORE INSERT OR UPDATE of a row of user_stats: success_rate_percentage becomes moves_successful / moves_executed * 100, 0 when none was executed. NULL counters count as 0.';
"#,
    name = "triggers_user_stats"
);

/// `value / 10` as a numeric with one decimal.
fn tenths(value: i32) -> AnyNumeric {
    // SAFETY: int64_div_fast_to_numeric takes any value with a small scale and gives a palloc'd numeric.
    let made = unsafe {
        let made = pg_sys::int64_div_fast_to_numeric(i64::from(value), 1);
        AnyNumeric::from_datum(pg_sys::Datum::from(made), false)
    };
    made.unwrap_or_else(|| AnyNumeric::from(0))
}

fn datum(value: AnyNumeric) -> pg_sys::Datum {
    value.into_datum().unwrap_or(pg_sys::Datum::from(0))
}
