//! Alerts: something the workspace has to know or act on.
//!
//! An alert is *active* until somebody acknowledges, resolves or dismisses it:
//!
//! ```text
//! active ◄─► acknowledged ──► resolved
//!    │ └─────────────┴──────► dismissed
//!    └─────── reopened ◄──────────┘
//! ```
//!
//! While it is *open* (active or acknowledged), raising it again with the same dedup key counts one more
//! occurrence instead of making another row.
//!
//! | part | what it does |
//! |---|---|
//! | this file | raising, the first answers, the list of what cannot wait |
//! | [`history`] | the trigger behind every change: events, life, telling people |
//! | [`life`] | reopening, silences, and what time does |
//! | [`sla`] | how fast alerts are answered |

mod history;
pub mod life;
mod sla;

use crate::argument::{self, Jsonb, LONGEST_KEY};
use crate::context;
use crate::context::membership::table_named;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::statement::{Reference, naming_what_is_missing};
use crate::subtransaction::subtransaction_if;
use crate::{list_statement, statement};
use history::{Intent, intending};
use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use std::panic::AssertUnwindSafe;

const TYPES: &[&str] = &[
    "performance",
    "error",
    "milestone",
    "anomaly",
    "action_required",
    "opportunity",
];

const SEVERITIES: &[&str] = &["critical", "high", "medium", "low", "info"];

// The first title and description stay: they say what began. Severity only goes up, so that a later, milder
// report does not hide a critical one. An alert that had expired is back when it is seen again.
statement!(
    RAISE_ALERT(UUID, TEXT, TEXT, TEXT, TEXT, UUID, UUID, JSONB, TEXT, UUID) = "
INSERT INTO public.system_alerts AS a (
    workspace_id, alert_type, severity_level, title, description,
    triggered_by_agent_id, related_campaign_id, data_points, dedup_key, created_by,
    triggered_at, last_seen_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, now(), now())
ON CONFLICT (workspace_id, dedup_key)
    WHERE dedup_key IS NOT NULL AND status IN ('active', 'acknowledged')
DO UPDATE SET
    occurrence_count = least(a.occurrence_count, 2147483646) + 1,
    last_seen_at = greatest(a.last_seen_at, excluded.last_seen_at),
    severity_level = CASE
        WHEN array_position(ARRAY['critical', 'high', 'medium', 'low', 'info'], excluded.severity_level)
            < array_position(ARRAY['critical', 'high', 'medium', 'low', 'info'], a.severity_level)
        THEN excluded.severity_level
        ELSE a.severity_level
    END,
    data_points = coalesce(excluded.data_points, a.data_points),
    expiry_date = CASE WHEN a.expiry_date > now() THEN a.expiry_date END
RETURNING a.id"
);

// Only where a policy says so. It is not locked here: whoever waits for a lock keeps it, also when the alert is no longer
// one to be reopened, and would hold one alert of the key while waiting for another.
statement!(
    RESOLVED_A_MOMENT_AGO(UUID, TEXT) = "
SELECT a.id
FROM public.system_alerts AS a
JOIN codex.alert_policies AS p
    ON p.workspace_id = a.workspace_id
    AND p.severity_level = a.severity_level
WHERE a.workspace_id = $1
  AND a.dedup_key = $2
  AND a.status = 'resolved'
  AND a.resolved_at > now() - p.reopen_within
  AND NOT EXISTS (
      SELECT
      FROM public.system_alerts AS o
      WHERE o.workspace_id = $1
        AND o.dedup_key = $2
        AND o.status IN ('active', 'acknowledged')
  )
ORDER BY a.resolved_at DESC
LIMIT 1"
);
statement!(
    RAISE_AGAIN(UUID, TEXT, JSONB) = "
UPDATE public.system_alerts AS a
SET status = 'active',
    acknowledged_at = NULL,
    acknowledged_by = NULL,
    resolved_at = NULL,
    occurrence_count = least(a.occurrence_count, 2147483646) + 1,
    last_seen_at = now(),
    severity_level = CASE
        WHEN array_position(ARRAY['critical', 'high', 'medium', 'low', 'info'], $2)
            < array_position(ARRAY['critical', 'high', 'medium', 'low', 'info'], a.severity_level)
        THEN $2
        ELSE a.severity_level
    END,
    data_points = coalesce($3, a.data_points),
    expiry_date = CASE WHEN a.expiry_date > now() THEN a.expiry_date END
WHERE a.id = $1
  AND a.status = 'resolved'"
);

/// Reopens the alert that was resolved under this key a moment ago, as long as a policy of its severity allows; gives
/// its id. None when there is none, and when somebody else was faster, with this one or with another one under the key:
/// what is open is raised then. A database at a version without policies has none.
fn raise_again(
    workspace: Uuid,
    key: &str,
    severity: &str,
    data_points: Option<Jsonb>,
) -> Outcome<Option<Uuid>> {
    if table_named(c"codex", c"alert_policies").is_none() {
        return Ok(None);
    }
    let found = Spi::connect_mut(|client| {
        RESOLVED_A_MOMENT_AGO.with(|statement| {
            statement.write_one(client, &[workspace.into(), key.into()], |row| {
                row.get::<Uuid>(1)
            })
        })
    })?;
    let Some(alert) = found.flatten() else {
        return Ok(None);
    };
    let intent = Intent {
        note: Some("raised again".to_string()),
        ..Intent::default()
    };
    let raise = || {
        let arguments = [alert.into(), severity.into(), data_points.into()];
        intending(intent, || {
            Spi::connect_mut(|client| {
                RAISE_AGAIN.with(|statement| statement.execute(client, &arguments))
            })
        })
    };
    // Where it is not resolved any more, the lock on it goes with the subtransaction.
    match subtransaction_if(AssertUnwindSafe(raise), |raised| *raised > 0) {
        Ok(raised) => Ok((raised > 0).then_some(alert)),
        Err(caught) if caught.sqlstate() == PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION => Ok(None),
        Err(caught) => caught.rethrow(),
    }
}

/// An alert to be raised, its values checked.
pub struct NewAlert<'a> {
    pub workspace: Uuid,
    /// One of [`TYPES`].
    pub alert_type: &'a str,
    /// One of [`SEVERITIES`].
    pub severity: &'a str,
    pub title: &'a str,
    pub description: &'a str,
    pub agent: Option<Uuid>,
    pub campaign: Option<Uuid>,
    pub data_points: Option<Jsonb>,
    pub dedup_key: Option<&'a str>,
}

impl NewAlert<'_> {
    /// Raises it, as [`create_system_alert`] says; gives its id.
    pub fn raise(self) -> Outcome<Uuid> {
        let workspace = self.workspace;
        let created_by = match context::current_user() {
            Some(user) if context::is_member(workspace, user)? => Some(user),
            _ => None,
        };
        if let Some(key) = self.dedup_key
            && let Some(again) = raise_again(workspace, key, self.severity, self.data_points)?
        {
            return Ok(again);
        }
        let id = naming_what_is_missing(
            &[
                Reference {
                    foreign_key: "system_alerts_workspace_id_fkey",
                    argument: "p_workspace_id",
                    what: "workspace",
                    value: Some(workspace),
                },
                Reference {
                    foreign_key: "system_alerts_triggered_by_agent_id_fkey",
                    argument: "p_agent_id",
                    what: "agent",
                    value: self.agent,
                },
                Reference {
                    foreign_key: "system_alerts_related_campaign_id_fkey",
                    argument: "p_campaign_id",
                    what: "campaign in this workspace",
                    value: self.campaign,
                },
            ],
            || {
                Spi::connect_mut(|client| {
                    RAISE_ALERT.with(|statement| {
                        statement.write_one(
                            client,
                            &[
                                workspace.into(),
                                self.alert_type.into(),
                                self.severity.into(),
                                self.title.into(),
                                self.description.into(),
                                self.agent.into(),
                                self.campaign.into(),
                                self.data_points.into(),
                                self.dedup_key.into(),
                                created_by.into(),
                            ],
                            |row| row.get::<Uuid>(1),
                        )
                    })
                })
            },
        )?;
        id.flatten().ok_or_else(|| {
            CodexError::wrong_state(format!(
                "the alert \"{}\" was not written: a trigger or rule on public.system_alerts suppressed it",
                shorten(self.title)
            ))
        })
    }
}

/// Raises an alert in a workspace and returns its id.
///
/// - `p_alert_type`: performance, error, milestone, anomaly, action_required or opportunity.
/// - `p_severity`: critical, high, medium, low or info.
/// - `p_title`: not blank. `p_description`: not NULL; it may be empty.
/// - `p_agent_id`: the agent that raised it; `p_campaign_id`: the campaign that it is about, of the same workspace.
/// - `p_data_points`: any JSON, kept as it is.
/// - `p_dedup_key`: at most 200 characters. While an alert of the workspace with this key is open (active or
///   acknowledged), that one is updated and its id returned: one more in `occurrence_count`, `last_seen_at`
///   now, the severity if the new one is higher, the data points if given; title and description stay as
///   first raised. Any number of sessions at once make one row. Where the policy of its severity
///   (`codex.alert_policies`) has a `reopen_within`, an alert with this key that was resolved less than that ago
///   is reopened instead of another made.
///
/// `created_by` is the user of the transaction (`codex.current_user_id()`) when that is a member of the
/// workspace, else NULL: agents and backends raise alerts too. `triggered_at` is the start of the transaction.
///
/// Refuses: NULL for an argument without a default (22004); a value out of its list, a blank title, a
/// blank or too long key (22023); an agent, campaign or workspace that does not exist, and a campaign of
/// another workspace, which is not told apart (23503); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn create_system_alert(
    p_workspace_id: Option<Uuid>,
    p_alert_type: Option<&str>,
    p_severity: Option<&str>,
    p_title: Option<&str>,
    p_description: Option<&str>,
    p_agent_id: default!(Option<Uuid>, "NULL"),
    p_campaign_id: default!(Option<Uuid>, "NULL"),
    p_data_points: default!(Option<Jsonb>, "NULL"),
    p_dedup_key: default!(Option<&str>, "NULL"),
) -> Uuid {
    let run = || -> Outcome<Uuid> {
        let workspace = required(p_workspace_id, "p_workspace_id")?;
        let alert_type = argument::one_of(p_alert_type, "p_alert_type", TYPES)?;
        let severity = argument::one_of(p_severity, "p_severity", SEVERITIES)?;
        let title = argument::not_blank(p_title, "p_title")?;
        let description = required(p_description, "p_description")?;
        let dedup_key = argument::key(p_dedup_key, "p_dedup_key", LONGEST_KEY)?;
        context::require_workspace(workspace)?;
        NewAlert {
            workspace,
            alert_type,
            severity,
            title,
            description,
            agent: p_agent_id,
            campaign: p_campaign_id,
            data_points: p_data_points,
            dedup_key,
        }
        .raise()
    };
    run().or_raise()
}

extension_sql!(
    r#"
COMMENT ON FUNCTION create_system_alert(uuid, text, text, text, text, uuid, uuid, jsonb, text) IS
'Raises an alert and returns its id. Types: performance, error, milestone, anomaly, action_required, opportunity. Severities: critical, high, medium, low, info. While an alert with p_dedup_key is open (active or acknowledged), that one is updated (occurrence count, last seen, severity only upwards) and its id returned. created_by is the user of the transaction, NULL when none is known. Errors: 22004 NULL, 22023 bad value, 23503 unknown agent, campaign or workspace, 42501 not your workspace.';
"#,
    name = "comment_create_system_alert",
    requires = [create_system_alert]
);

/// What a member does with an alert.
#[derive(Clone, Copy)]
enum Step {
    Acknowledge,
    Resolve,
    Dismiss,
}

impl Step {
    /// The state after the step; an alert that is in it already stays untouched.
    fn target(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledged",
            Self::Resolve => "resolved",
            Self::Dismiss => "dismissed",
        }
    }

    /// Whether the step may be taken from `status`.
    fn follows(self, status: &str) -> bool {
        status == "active" || (status == "acknowledged" && !matches!(self, Self::Acknowledge))
    }
}

// The lock makes the first of two sessions win: the second waits, and then sees what the first made of it.
statement!(
    LOCK_ALERT(UUID) = "
SELECT a.workspace_id, a.status
FROM public.system_alerts AS a
WHERE a.id = $1
FOR NO KEY UPDATE"
);

// Who closes an alert that nobody has acknowledged is the one who took note of it.
statement!(
    MOVE_ALERT(UUID, TEXT, UUID, TEXT) = "
UPDATE public.system_alerts AS a
SET status = $2,
    acknowledged_by = CASE WHEN a.acknowledged_at IS NULL THEN $3 ELSE a.acknowledged_by END,
    acknowledged_at = coalesce(a.acknowledged_at, now()),
    resolved_at = CASE WHEN $2 = 'resolved' THEN now() ELSE a.resolved_at END,
    action_taken = coalesce($4, a.action_taken)
WHERE a.id = $1"
);

/// Takes `step` on an alert for `user`, once.
fn take(
    step: Step,
    alert: Option<Uuid>,
    user: Option<Uuid>,
    action_taken: Option<&str>,
) -> Outcome<()> {
    let alert = required(alert, "p_alert_id")?;
    let user = required(user, "p_user_id")?;
    if action_taken.is_some() {
        argument::not_blank(action_taken, "p_action_taken")?;
    }
    Spi::connect_mut(|client| {
        let found = LOCK_ALERT.with(|statement| {
            statement.write_one(client, &[alert.into()], |row| {
                Ok((row.get::<Uuid>(1)?, row.get::<String>(2)?))
            })
        })?;
        let Some((Some(workspace), Some(status))) = found else {
            return Err(CodexError::not_found(format!(
                "there is no alert {alert} here"
            )));
        };
        if !context::is_member(workspace, user)? {
            return Err(context::not_a_member(workspace, user));
        }
        if status == step.target() {
            return Ok(());
        }
        if !step.follows(&status) {
            return Err(CodexError::wrong_state(format!(
                "alert {alert} is {status} and cannot become {}",
                step.target()
            )));
        }
        let arguments = [
            alert.into(),
            step.target().into(),
            user.into(),
            action_taken.into(),
        ];
        let intent = Intent {
            event: None,
            user: Some(user),
            note: action_taken.map(str::to_string),
        };
        intending(intent, || {
            MOVE_ALERT.with(|statement| statement.execute(client, &arguments))
        })?;
        Ok(())
    })
}

/// Acknowledges an active alert: `p_user_id` has taken note of it, now.
///
/// An alert that is acknowledged already stays as it is, the first user and time included.
///
/// Refuses: NULL (22004); an alert that does not exist or is not visible here (P0002); a user who is not
/// a member of its workspace (42501); an alert that is resolved or dismissed (55000).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn acknowledge_alert(p_alert_id: Option<Uuid>, p_user_id: Option<Uuid>) {
    take(Step::Acknowledge, p_alert_id, p_user_id, None).or_raise();
}

/// Resolves an open (active or acknowledged) alert, now, and keeps what was done about it.
///
/// `p_action_taken`: not blank when given. An alert that nobody has acknowledged counts as acknowledged by
/// `p_user_id`. An alert that is resolved already stays as it is.
///
/// Refuses: NULL (22004); a blank action (22023); an alert that does not exist or is not visible here (P0002);
/// a user who is not a member of its workspace (42501); an alert that is dismissed (55000).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn resolve_alert(
    p_alert_id: Option<Uuid>,
    p_user_id: Option<Uuid>,
    p_action_taken: default!(Option<&str>, "NULL"),
) {
    take(Step::Resolve, p_alert_id, p_user_id, p_action_taken).or_raise();
}

/// Dismisses an open (active or acknowledged) alert: nothing will be done about it.
///
/// An alert that nobody has acknowledged counts as acknowledged by `p_user_id`. An alert that is dismissed
/// already stays as it is.
///
/// Refuses: NULL (22004); an alert that does not exist or is not visible here (P0002); a user who is not
/// a member of its workspace (42501); an alert that is resolved (55000).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn dismiss_alert(p_alert_id: Option<Uuid>, p_user_id: Option<Uuid>) {
    take(Step::Dismiss, p_alert_id, p_user_id, None).or_raise();
}

extension_sql!(
    r#"
COMMENT ON FUNCTION acknowledge_alert(uuid, uuid) IS
'Acknowledges an active alert for a member of its workspace. Acknowledged already: no change, the first user and time stay. Errors: 22004 NULL, P0002 unknown or not visible, 42501 not a member, 55000 resolved or dismissed.';
COMMENT ON FUNCTION resolve_alert(uuid, uuid, text) IS
'Resolves an open (active or acknowledged) alert and keeps the action taken. Resolved already: no change. Errors: 22004 NULL, 22023 blank action, P0002 unknown or not visible, 42501 not a member, 55000 dismissed.';
COMMENT ON FUNCTION dismiss_alert(uuid, uuid) IS
'Dismisses an open (active or acknowledged) alert. Dismissed already: no change. Errors: 22004 NULL, P0002 unknown or not visible, 42501 not a member, 55000 resolved.';
"#,
    name = "comment_alert_steps",
    requires = [acknowledge_alert, resolve_alert, dismiss_alert]
);

// In the order of system_alerts_critical_idx: "critical" sorts before "high" as text too.
list_statement!(
    CRITICAL_ALERTS(UUID; "$2") = "
SELECT a.id, a.title, a.description, a.alert_type, a.created_at
FROM public.system_alerts AS a
WHERE a.workspace_id = $1
  AND a.status = 'active'
  AND a.severity_level IN ('critical', 'high')
  AND (a.expiry_date IS NULL OR a.expiry_date > now())
ORDER BY a.severity_level, a.created_at DESC NULLS LAST"
);

/// The alerts of a workspace that cannot wait: active, not expired, of severity critical or high; critical
/// before high, newest first.
///
/// `p_limit`: how many at most; NULL for all.
///
/// Refuses: NULL for the workspace (22004); a negative limit (22023); a workspace that is not the caller's (42501).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn get_critical_alerts(
    p_workspace_id: Option<Uuid>,
    p_limit: default!(Option<i32>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(id, Option<Uuid>),
        name!(title, Option<String>),
        name!(description, Option<String>),
        name!(alert_type, Option<String>),
        name!(created_at, Option<TimestampWithTimeZone>),
    ),
> {
    let run = || -> Outcome<_> {
        let workspace = required(p_workspace_id, "p_workspace_id")?;
        let limit = argument::limit(p_limit)?;
        context::require_workspace(workspace)?;
        Spi::connect(|client| {
            CRITICAL_ALERTS.with(|list| {
                list.read(client, vec![workspace.into()], limit, |row| {
                    Ok((
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                    ))
                })
            })
        })
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION get_critical_alerts(uuid, integer) IS
'Active, unexpired alerts of severity critical or high: critical first, then the newest. p_limit: how many at most, NULL for all. Errors: 22004 NULL workspace, 22023 negative limit, 42501 not your workspace.';
"#,
    name = "comment_get_critical_alerts",
    requires = [get_critical_alerts]
);
