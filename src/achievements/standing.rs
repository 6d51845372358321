//! Where a user stands: what is missing for an achievement, the place among the others, and the clock that days go by.

use super::events::add_facts;
use crate::argument;
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::statement;
use crate::statement::{Reference, naming_what_is_missing};
use codex_rules::{Clause, Facts};
use pgrx::Uuid;
use pgrx::prelude::*;
use std::collections::HashSet;

/// The periods of a leaderboard, and what `date_trunc` calls them.
const PERIODS: &[&str] = &["day", "week", "month", "quarter", "year", "all"];

statement!(
    ACHIEVEMENT(UUID, UUID) = "
SELECT a.workspace_id,
       a.is_active IS TRUE,
       a.condition_type,
       a.condition_value::text,
       p.name,
       pu.is_locked IS FALSE,
       u.is_locked IS FALSE
FROM public.achievements AS a
LEFT JOIN public.achievements AS p ON p.workspace_id = a.workspace_id
    AND p.id = a.required_previous_achievement_id
LEFT JOIN public.user_achievements AS pu ON pu.workspace_id = a.workspace_id
    AND pu.achievement_id = p.id
    AND pu.user_id = $2
LEFT JOIN public.user_achievements AS u ON u.workspace_id = a.workspace_id
    AND u.achievement_id = a.id
    AND u.user_id = $2
WHERE a.id = $1"
);

/// One line of an explanation.
type Line = (
    String,
    String,
    Option<String>,
    Option<f64>,
    Option<f64>,
    Option<f64>,
    bool,
    String,
);

fn state(place: &str, met: bool, yes: &str, no: &str) -> Line {
    let text = if met { yes } else { no };
    (
        place.to_string(),
        "state".to_string(),
        None,
        None,
        None,
        None,
        met,
        text.to_string(),
    )
}

/// Says line by line what a user has and what is missing for an achievement.
///
/// First come lines of kind `state`: `unlocked`, `active`, `prerequisite` (where it requires one), then a line for each
/// clause of the condition, the whole (`rule`) first, its parts as `rule.all[0]`, `rule.any[1]`, counted from 0. Of a
/// clause: kind (`count`, `milestone`, `window`, `streak`, `all`, `any`), metric, what is needed, reached and missing (times,
/// a sum, days in a row, or parts), whether it is met, and a sentence. A condition that is NULL, or that is not in the
/// grammar, is one line of kind `state` at `rule`, not met.
///
/// For the user, or a service. Refuses: 22004 NULL; P0002 no such achievement in sight; 42501 another user's.
#[pg_extern(stable, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn explain_achievement(
    achievement: Option<Uuid>,
    user_id: Option<Uuid>,
) -> TableIterator<
    'static,
    (
        name!(place, String),
        name!(kind, String),
        name!(metric, Option<String>),
        name!(needed, Option<f64>),
        name!(reached, Option<f64>),
        name!(missing, Option<f64>),
        name!(met, bool),
        name!(explanation, String),
    ),
> {
    TableIterator::new(explain(achievement, user_id).or_raise())
}

fn explain(achievement: Option<Uuid>, user: Option<Uuid>) -> Outcome<Vec<Line>> {
    let achievement = required(achievement, "achievement")?;
    let user = required(user, "user_id")?;
    context::require_self(user)?;
    let not_found =
        || CodexError::not_found(format!("there is no achievement {achievement} in sight"));
    Spi::connect_mut(|client| {
        let found = ACHIEVEMENT.with(|s| {
            s.read_one(client, &[achievement.into(), user.into()], |row| {
                Ok((
                    row.get::<Uuid>(1)?,
                    row.get::<bool>(2)? == Some(true),
                    row.get::<String>(3)?.unwrap_or_default(),
                    row.get::<String>(4)?,
                    row.get::<String>(5)?,
                    row.get::<bool>(6)? == Some(true),
                    row.get::<bool>(7)? == Some(true),
                ))
            })
        })?;
        let (workspace, active, condition_type, condition, prerequisite, is_free, unlocked) =
            found.ok_or_else(not_found)?;
        let workspace = workspace.ok_or_else(not_found)?;
        context::require_workspace(workspace).map_err(|_| not_found())?;
        let mut lines = vec![
            state("unlocked", unlocked, "it is unlocked", "it is still locked"),
            state(
                "active",
                active,
                "it is active",
                "it is not active: nothing unlocks it",
            ),
        ];
        if let Some(name) = prerequisite {
            lines.push(state(
                "prerequisite",
                is_free,
                &format!("\"{name}\" is unlocked"),
                &format!("\"{name}\" has to be unlocked first"),
            ));
        }
        let Some(condition) = condition else {
            lines.push(state(
                "rule",
                false,
                "",
                "it has no rule: it is unlocked by hand",
            ));
            return Ok(lines);
        };
        let rule = match Clause::parse(&condition_type, &condition) {
            Ok(rule) => rule,
            Err(problem) => {
                let text = format!("its condition is not in the grammar: {problem}");
                lines.push(state("rule", false, "", &text));
                return Ok(lines);
            }
        };
        let mut facts = Facts::new();
        let rules = std::iter::once(&rule);
        add_facts(client, workspace, user, rules, &mut facts, false)?;
        lines.extend(rule.judge(&facts).findings.into_iter().map(|finding| {
            let missing = finding.missing();
            (
                finding.place,
                finding.kind.to_string(),
                finding.metric,
                Some(finding.needed),
                Some(finding.reached),
                Some(missing),
                finding.met,
                finding.text,
            )
        }));
        Ok(lines)
    })
}

statement!(
    BY_TOTAL(UUID) = "
SELECT s.user_id, s.total_points::bigint
FROM public.user_stats AS s
WHERE s.workspace_id = $1
  AND s.total_points > 0
ORDER BY s.total_points DESC, s.user_id"
);
// What was there before the ledger was earned before it.
statement!(
    BY_PERIOD(UUID, TEXT) = "
SELECT e.user_id, sum(e.points)::bigint
FROM codex.points_ledger AS e
WHERE e.workspace_id = $1
  AND e.created_at >= date_trunc($2, now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
  AND e.kind <> 'opening'
GROUP BY e.user_id
HAVING sum(e.points) > 0
ORDER BY 2 DESC, e.user_id"
);

/// The members of a workspace by their points, the most first; who has none is not on it, nor who has left.
///
/// - `period`: `all` (`user_stats.total_points`), or what was earned since the `day`, `week` (Monday), `month`, `quarter` or
///   `year` began, in UTC, by the ledger.
/// - `max_rows`: 1 to 1000.
/// - `around_user`: NULL for the top; else as many rows around that user, as far as there are any; none when the user is not
///   on it.
///
/// Returns rank, user and points. Equal points share a rank, and the next rank leaves as many out (1, 2, 2, 4); within
/// a rank by user id. Costs what the workspace has users (`all`) or entries in the period.
///
/// For services: members see nobody's points but their own. Refuses: 22004 NULL; 22023 another period, rows out of bounds;
/// 42501 not the current workspace.
#[pg_extern(stable, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn leaderboard(
    workspace: Option<Uuid>,
    period: default!(Option<&str>, "'all'"),
    max_rows: default!(Option<i32>, 10),
    around_user: default!(Option<Uuid>, "NULL"),
) -> TableIterator<'static, (name!(rank, i64), name!(user_id, Uuid), name!(points, i64))> {
    let run = || -> Outcome<Vec<(i64, Uuid, i64)>> {
        let workspace = required(workspace, "workspace")?;
        let period = argument::one_of(period, "period", PERIODS)?;
        let rows = argument::between(max_rows, "max_rows", 1..=1000)? as usize;
        context::require_workspace(workspace)?;
        let all: Vec<(Uuid, i64)> = Spi::connect(|client| {
            let take = |row: pgrx::spi::SpiHeapTupleData<'_>| {
                Ok((row.get::<Uuid>(1)?, row.get::<i64>(2)?.unwrap_or(0)))
            };
            if period == "all" {
                BY_TOTAL.with(|s| s.read(client, &[workspace.into()], take))
            } else {
                BY_PERIOD.with(|s| s.read(client, &[workspace.into(), period.into()], take))
            }
        })?
        .into_iter()
        .filter_map(|(user, points)| Some((user?, points)))
        .collect();
        let users: Vec<Uuid> = all.iter().map(|(user, _)| *user).collect();
        let gone: HashSet<Uuid> = context::non_members(workspace, &users)?
            .into_iter()
            .collect();
        let mut ranked: Vec<(i64, Uuid, i64)> = Vec::with_capacity(all.len());
        for (user, points) in all {
            if gone.contains(&user) {
                continue;
            }
            let place = ranked.len() as i64 + 1;
            let rank = match ranked.last() {
                Some((rank, _, before)) if *before == points => *rank,
                _ => place,
            };
            ranked.push((rank, user, points));
        }
        let first = match around_user {
            None => 0,
            Some(wanted) => match ranked.iter().position(|(_, user, _)| *user == wanted) {
                None => return Ok(Vec::new()),
                Some(place) => place
                    .saturating_sub(rows / 2)
                    .min(ranked.len().saturating_sub(rows)),
            },
        };
        Ok(ranked.into_iter().skip(first).take(rows).collect())
    };
    TableIterator::new(run().or_raise())
}

statement!(
    SET_ZONE(UUID, UUID, TEXT) = "
INSERT INTO codex.user_time_zones AS z (workspace_id, user_id, time_zone)
VALUES ($1, $2, $3)
ON CONFLICT (workspace_id, user_id) DO UPDATE
SET time_zone = excluded.time_zone
WHERE z.time_zone <> excluded.time_zone"
);

/// Says where a user's day begins and ends, for windows and streaks, from now on; days that were recorded stay.
///
/// - `time_zone`: a name of `pg_timezone_names`, such as Europe/Berlin. UTC until one is given.
///
/// For the user, or a service. Refuses: 22004 NULL; 22023 a name that is not in the list; 42501 not a member, another user's, or
/// not the current workspace.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn set_user_time_zone(workspace: Option<Uuid>, user_id: Option<Uuid>, time_zone: Option<&str>) {
    let run = || -> Outcome<()> {
        let workspace = required(workspace, "workspace")?;
        let user = required(user_id, "user_id")?;
        let zone = argument::not_blank(time_zone, "time_zone")?;
        context::require_workspace(workspace)?;
        context::require_self(user)?;
        if !context::is_member(workspace, user)? {
            return Err(context::not_a_member(workspace, user));
        }
        let reference = Reference {
            foreign_key: "user_time_zones_user_id_fkey",
            argument: "user_id",
            what: "user",
            value: Some(user),
        };
        Spi::connect_mut(|client| {
            naming_what_is_missing(&[reference], || {
                SET_ZONE.with(|s| s.execute(client, &[workspace.into(), user.into(), zone.into()]))
            })
        })?;
        Ok(())
    };
    run().or_raise()
}

extension_sql!(
    r#"
COMMENT ON FUNCTION explain_achievement(uuid, uuid) IS
'Says line by line what a user has and what is missing for an achievement: unlocked, active, prerequisite, then each clause of its condition with what is needed, reached and missing, and a sentence. For the user or a service. Errors: 22004 NULL, P0002 no such achievement, 42501 another user''s.';
COMMENT ON FUNCTION leaderboard(uuid, text, integer, uuid) IS
'The members of a workspace by points, of all time or since the day, week, month, quarter or year began (UTC). Equal points share a rank. With around_user the rows around that user. For services. Errors: 22004 NULL, 22023 bad period or number of rows, 42501 not your workspace.';
COMMENT ON FUNCTION set_user_time_zone(uuid, uuid, text) IS
'Says by which time zone a user''s days are counted, for windows and streaks, from now on; UTC without. For the user or a service. Errors: 22004 NULL, 22023 unknown zone, 42501 not a member, another user''s, or not your workspace.';
"#,
    name = "comment_standing",
    requires = [explain_achievement, leaderboard, set_user_time_zone]
);
