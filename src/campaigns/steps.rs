//! From one status to the next.
//!
//! | from | to | conditions |
//! |---|---|---|
//! | draft | planning | |
//! | planning, paused | active | both dates, the end not over; a quest; an allocated budget (0 is one) |
//! | active | paused | |
//! | active, paused | completed | it has begun |
//! | completed | archived | |
//!
//! Whether a date is over is judged by the date of the session's time zone. A condition that is not met is named; nothing
//! else is changed than the status.

use super::history::{Intent, intending};
use crate::argument;
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::idempotency;
use crate::instant;
use crate::statement;
use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use serde::{Deserialize, Serialize};
use serde_json::json;

const STATUSES: &[&str] = &[
    "draft",
    "planning",
    "active",
    "paused",
    "completed",
    "archived",
];

/// What a campaign can become.
fn next(status: &str) -> &'static [&'static str] {
    match status {
        "draft" => &["planning"],
        "planning" => &["active"],
        "active" => &["paused", "completed"],
        "paused" => &["active", "completed"],
        "completed" => &["archived"],
        _ => &[],
    }
}

/// What the conditions look at.
#[derive(Clone, Copy, Default)]
struct Facts {
    has_start: bool,
    has_end: bool,
    begins_later: bool,
    is_over: bool,
    has_budget: bool,
    has_quest: bool,
}

/// The conditions for becoming `to` that are not met.
fn missing(to: &str, facts: &Facts) -> Vec<&'static str> {
    let conditions: &[(bool, &str)] = match to {
        "active" => &[
            (facts.has_start, "start_date is not set"),
            (facts.has_end, "end_date is not set"),
            (!facts.is_over, "end_date is over"),
            (facts.has_quest, "it has no quest"),
            (facts.has_budget, "allocated_budget_amount is not set"),
        ],
        "completed" => &[(!facts.begins_later, "start_date is still to come")],
        _ => &[],
    };
    conditions
        .iter()
        .filter(|(met, _)| !met)
        .map(|(_, words)| *words)
        .collect()
}

statement!(
    FACTS(UUID) = "
SELECT
    c.start_date IS NOT NULL,
    c.end_date IS NOT NULL,
    coalesce(c.start_date > current_date, false),
    coalesce(c.end_date < current_date, false),
    c.allocated_budget_amount IS NOT NULL,
    EXISTS (
        SELECT
        FROM public.campaign_quests AS q
        WHERE q.workspace_id = c.workspace_id
          AND q.campaign_id = c.id
    ),
    c.status
FROM public.campaigns AS c
WHERE c.id = $1"
);

fn facts(row: &pgrx::spi::SpiHeapTupleData<'_>) -> pgrx::spi::SpiResult<Facts> {
    let is = |column| -> pgrx::spi::SpiResult<bool> { Ok(row.get::<bool>(column)? == Some(true)) };
    Ok(Facts {
        has_start: is(1)?,
        has_end: is(2)?,
        begins_later: is(3)?,
        is_over: is(4)?,
        has_budget: is(5)?,
        has_quest: is(6)?,
    })
}

/// Refuses (55000) a step that is none, and one whose conditions are not met. The campaign is locked by the caller.
pub fn judge(client: &mut SpiClient<'_>, campaign: Uuid, from: &str, to: &str) -> Outcome<()> {
    if !next(from).contains(&to) {
        return Err(CodexError::wrong_state(format!(
            "campaign {campaign} is {from} and cannot become {to}"
        ))
        .with_hint(match next(from) {
            [] => "There is nothing that it can become.".to_string(),
            steps => format!("It can become: {}.", steps.join(", ")),
        }));
    }
    let facts = FACTS.with(|s| s.write_one(client, &[campaign.into()], |row| facts(&row)))?;
    let missing = missing(to, &facts.unwrap_or_default());
    if missing.is_empty() {
        return Ok(());
    }
    Err(CodexError::wrong_state(format!(
        "campaign {campaign} cannot become {to}: {}",
        missing.join(", ")
    )))
}

/// P0002: no such campaign, or none that the caller can see.
pub fn not_here(campaign: Uuid) -> CodexError {
    CodexError::not_found(format!("there is no campaign {campaign} here"))
}

statement!(
    WORKSPACE_OF(UUID) = "
SELECT c.workspace_id
FROM public.campaigns AS c
WHERE c.id = $1"
);

/// The workspace of a campaign that the caller can see.
pub fn workspace_of(client: &SpiClient<'_>, campaign: Uuid) -> Outcome<Uuid> {
    WORKSPACE_OF
        .with(|s| s.read_one(client, &[campaign.into()], |row| row.get::<Uuid>(1)))?
        .flatten()
        .ok_or_else(|| not_here(campaign))
}

statement!(
    LOCK_CAMPAIGN(UUID) = "
SELECT c.status
FROM public.campaigns AS c
WHERE c.id = $1
FOR NO KEY UPDATE"
);
statement!(
    VERSION(UUID, UUID) = "
SELECT l.version
FROM codex.campaign_life AS l
WHERE l.workspace_id = $1
  AND l.campaign_id = $2"
);
statement!(
    STEP(UUID, TEXT) = "
UPDATE public.campaigns AS c
SET status = $2
WHERE c.id = $1"
);
statement!(
    CHANGED(UUID, UUID) = "
SELECT h.version, h.changed_at
FROM codex.campaign_history AS h
WHERE h.workspace_id = $1
  AND h.campaign_id = $2
ORDER BY h.version DESC
LIMIT 1"
);

/// A change of status, as a caller is told of it.
#[derive(Serialize, Deserialize)]
struct Change {
    from: String,
    to: String,
    version: i32,
    changed_at: i64,
}

fn step(
    client: &mut SpiClient<'_>,
    workspace: Uuid,
    campaign: Uuid,
    to: &str,
    expected_version: Option<i32>,
    intent: Intent,
) -> Outcome<Change> {
    let from = LOCK_CAMPAIGN
        .with(|s| s.write_one(client, &[campaign.into()], |row| row.get::<String>(1)))?
        .flatten()
        .ok_or_else(|| not_here(campaign))?;
    let key = [workspace.into(), campaign.into()];
    let version = VERSION
        .with(|s| s.write_one(client, &key, |row| row.get::<i32>(1)))?
        .flatten()
        .unwrap_or(1);
    if let Some(expected) = expected_version
        && expected != version
    {
        return Err(CodexError::wrong_state(format!(
            "campaign {campaign} is not at version {expected} any more: it is {from}, at version {version}"
        ))
        .with_hint("Read it again with codex.campaign_state(), and decide anew."));
    }
    judge(client, campaign, &from, to)?;
    intending(intent, || {
        STEP.with(|s| s.execute(client, &[campaign.into(), to.into()]))
    })?;
    let change = CHANGED.with(|s| {
        s.write_one(client, &key, |row| {
            Ok((row.get::<i32>(1)?, row.get::<TimestampWithTimeZone>(2)?))
        })
    })?;
    match change {
        Some((Some(now), Some(changed_at))) if now > version => Ok(Change {
            from,
            to: to.to_string(),
            version: now,
            changed_at: changed_at.into(),
        }),
        _ => Err(CodexError::wrong_state(format!(
            "the change of campaign {campaign} was not recorded: a trigger of public.campaigns is missing or suppressed it"
        ))
        .with_hint("SELECT * FROM codex.verify() tells what is missing.")),
    }
}

/// Takes a campaign to its next status, and keeps who did it and why.
///
/// - `to_status`: draft, planning, active, paused, completed or archived; a step and its conditions as above.
/// - `actor`: who does it, a member of the workspace; NULL for the user of the transaction.
/// - `reason`: not blank when given.
/// - `expected_version`: the version that the caller has seen (`codex.campaign_state()`); refused when somebody changed the
///   status meanwhile. NULL: whatever it is.
/// - `idempotency_key`: the same call with the same key is done once, and gets the first answer.
///
/// Gives the status before and now, the new version, and when.
///
/// Refuses: NULL for the campaign or the status (22004); a status that there is not, a blank reason, a version below 1
/// (22023); a campaign that does not exist or is not visible here (P0002); an actor who is no member, or who is not the
/// user of a session that works for one (42501); a step that there is not, a condition that is not met, another
/// version (55000).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn transition_campaign(
    campaign: Option<Uuid>,
    to_status: Option<&str>,
    actor: default!(Option<Uuid>, "NULL"),
    reason: default!(Option<&str>, "NULL"),
    expected_version: default!(Option<i32>, "NULL"),
    idempotency_key: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(previous_status, String),
        name!(status, String),
        name!(version, i32),
        name!(changed_at, TimestampWithTimeZone),
    ),
> {
    let run = || -> Outcome<_> {
        let campaign = required(campaign, "campaign")?;
        let to = argument::one_of(to_status, "to_status", STATUSES)?;
        if reason.is_some() {
            argument::not_blank(reason, "reason")?;
        }
        if let Some(version @ ..1) = expected_version {
            return Err(CodexError::bad_value(format!(
                "expected_version is {version}; versions begin at 1"
            )));
        }
        let change = Spi::connect_mut(|client| {
            let workspace = workspace_of(client, campaign)?;
            if let Some(actor) = actor {
                if !context::is_member(workspace, actor)? {
                    return Err(context::not_a_member(workspace, actor));
                }
                context::require_self(actor)?;
            }
            let request = json!([
                campaign.to_string(),
                to,
                actor.map(|actor| actor.to_string()),
                reason,
                expected_version
            ]);
            let intent = Intent {
                campaign,
                user: actor,
                reason: reason.map(str::to_string),
            };
            let operation = "transition_campaign";
            idempotency::once(
                client,
                operation,
                workspace,
                idempotency_key,
                &request,
                |client| step(client, workspace, campaign, to, expected_version, intent),
            )
        })?;
        let at = instant::of(change.changed_at)?;
        Ok((change.from, change.to, change.version, at))
    };
    TableIterator::once(run().or_raise())
}

/// What a campaign can become, a row a status: whether its conditions are met, and which are not. No rows for one that is
/// archived.
///
/// Refuses: NULL (22004); a campaign that does not exist or is not visible here (P0002).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn campaign_transitions(
    campaign: Option<Uuid>,
) -> TableIterator<
    'static,
    (
        name!(to_status, &'static str),
        name!(allowed, bool),
        name!(missing, Vec<&'static str>),
    ),
> {
    let run = || -> Outcome<_> {
        let campaign = required(campaign, "campaign")?;
        let found = Spi::connect(|client| {
            FACTS.with(|s| {
                s.read_one(client, &[campaign.into()], |row| {
                    Ok((facts(&row)?, row.get::<String>(7)?))
                })
            })
        })?;
        let (facts, status) = found.ok_or_else(|| not_here(campaign))?;
        let steps = next(status.as_deref().unwrap_or_default());
        Ok(steps.iter().map(move |to| {
            let missing = missing(to, &facts);
            (*to, missing.is_empty(), missing)
        }))
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION transition_campaign(uuid, text, uuid, text, integer, text) IS
'Takes a campaign to its next status (draft, planning, active or paused, completed, archived), and keeps who did it and why in codex.campaign_history. Becoming active asks for both dates, the end not over, a quest and an allocated budget; becoming completed, that it has begun. Refused when expected_version is not the version that it is at. Gives the status before and now, the new version, and when. Errors: 22004 NULL, 22023 no such status, blank reason, version below 1, P0002 no such campaign here, 42501 actor not a member or not the caller, 55000 no such step, a condition not met, another version.';
COMMENT ON FUNCTION campaign_transitions(uuid) IS
'What a campaign can become: for each status whether its conditions are met, and which are not. Errors: 22004 NULL, P0002 no such campaign here.';
"#,
    name = "comment_campaign_steps",
    requires = [transition_campaign, campaign_transitions]
);

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::{Facts, STATUSES, missing, next};
    use pgrx::prelude::*;

    #[pg_test]
    fn the_steps_are_these() {
        let all: Vec<(&str, &str)> = STATUSES
            .iter()
            .flat_map(|from| next(from).iter().map(|to| (*from, *to)))
            .collect();
        assert_eq!(
            all,
            [
                ("draft", "planning"),
                ("planning", "active"),
                ("active", "paused"),
                ("active", "completed"),
                ("paused", "active"),
                ("paused", "completed"),
                ("completed", "archived"),
            ]
        );
    }

    #[pg_test]
    fn all_that_is_missing_is_named() {
        assert_eq!(
            missing("active", &Facts::default()),
            [
                "start_date is not set",
                "end_date is not set",
                "it has no quest",
                "allocated_budget_amount is not set"
            ]
        );
    }
}
