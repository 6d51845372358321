//! The conditions of achievements, where they are written.
//!
//! | `condition_value` | what it means |
//! |---|---|
//! | NULL | no rule: unlocked by `codex.unlock_achievement()` alone |
//! | fits `condition_type` (crate `codex-rules`) | unlocked by events, and by hand as well |
//! | does not fit | refused when it is written (22023). A row that was there before the trigger was stays as it is, is named by `codex.unfit_achievements()`, and is never unlocked by an event |
//!
//! `codex.achievement_metrics` says which active achievements depend on which metric, so that an event looks at
//! no others. A trigger keeps it, as the owner of that table.

use crate::argument::Jsonb;
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, shorten};
use crate::owner::as_owner_of;
use crate::row_triggers::{Event, Row};
use crate::{statement, trigger_function};
use codex_rules::Clause;
use pgrx::Uuid;
use pgrx::prelude::*;

/// The words of the grammar, for hints.
const GRAMMAR: &str = "count and milestone: {\"metric\": …, \"threshold\": …}; time_based: the same with \"window\": {\"days\": …} or \"streak\": {\"days\": …}; combination: {\"all\": [{\"count\": …}, …]} or {\"any\": […]}. NULL: no rule.";

/// Type and value of a condition as a row has them.
type Condition = (Option<String>, Option<String>);

/// Refuses (22023) a condition that is not in the grammar. A condition that the statement leaves as it was is not
/// looked at.
fn with_a_rule(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let row = Row::of(data)?;
    let value_column = row.column("condition_value", pg_sys::JSONBOID)?;
    let type_column = row.text_column("condition_type")?;
    let Some(value) = row.new_value::<Jsonb>(value_column) else {
        return Ok(row.unchanged());
    };
    let new: Condition = (row.new_value(type_column), Some(value.text()));
    if row.is_update() {
        let old: Condition = (
            row.old_value(type_column),
            row.old_value::<Jsonb>(value_column).map(Jsonb::text),
        );
        if old == new {
            return Ok(row.unchanged());
        }
    }
    // What is no type at all is left to the CHECK of the table.
    if let (Some(condition_type), Some(condition_value)) = &new
        && ["count", "milestone", "combination", "time_based"].contains(&condition_type.as_str())
        && let Err(problem) = Clause::parse(condition_type, condition_value)
    {
        return Err(CodexError::bad_value(format!(
            "condition_value is {}, which is no condition of type {condition_type}: {problem}",
            shorten(condition_value)
        ))
        .with_hint(GRAMMAR));
    }
    Ok(row.unchanged())
}

trigger_function!(check_achievement_rule, with_a_rule);

statement!(
    FORGET_METRICS(UUID, UUID) = "
DELETE FROM codex.achievement_metrics AS m
WHERE m.workspace_id = $1
  AND m.achievement_id = $2"
);
statement!(
    KEEP_METRICS(UUID, UUID, TEXT_ARRAY) = "
INSERT INTO codex.achievement_metrics (workspace_id, achievement_id, metric)
SELECT $1, $2, m.metric
FROM unnest($3) AS m (metric)"
);

/// The metrics of a condition, in order; none where it has no rule or does not fit.
fn metrics_of(condition_type: Option<&str>, condition_value: Option<&str>) -> Vec<String> {
    let (Some(condition_type), Some(condition_value)) = (condition_type, condition_value) else {
        return Vec::new();
    };
    Clause::parse(condition_type, condition_value).map_or_else(
        |_| Vec::new(),
        |rule| rule.metrics().into_iter().map(str::to_string).collect(),
    )
}

/// Keeps `codex.achievement_metrics` in step with an achievement that was written.
fn keep_metrics(data: &pg_sys::TriggerData) -> Outcome<pg_sys::HeapTuple> {
    let (event, row) = Row::after(data)?;
    let type_column = row.text_column("condition_type")?;
    let value_column = row.column("condition_value", pg_sys::JSONBOID)?;
    let active_column = row.column("is_active", pg_sys::BOOLOID)?;
    let metrics = |active: Option<bool>, kind: Option<String>, value: Option<Jsonb>| {
        if active == Some(true) {
            metrics_of(kind.as_deref(), value.map(Jsonb::text).as_deref())
        } else {
            Vec::new()
        }
    };
    let old = metrics(
        row.old_value(active_column),
        row.old_value(type_column),
        row.old_value(value_column),
    );
    let new = metrics(
        row.new_value(active_column),
        row.new_value(type_column),
        row.new_value(value_column),
    );
    if event == Event::Delete || old == new {
        return Ok(std::ptr::null_mut());
    }
    let workspace: Option<Uuid> = row.new_value(row.column("workspace_id", pg_sys::UUIDOID)?);
    let achievement: Option<Uuid> = row.new_value(row.column("id", pg_sys::UUIDOID)?);
    as_owner_of(c"codex", c"achievement_metrics", || {
        Spi::connect_mut(|client| {
            if !old.is_empty() {
                FORGET_METRICS
                    .with(|s| s.execute(client, &[workspace.into(), achievement.into()]))?;
            }
            if !new.is_empty() {
                let arguments = [workspace.into(), achievement.into(), new.into()];
                KEEP_METRICS.with(|s| s.execute(client, &arguments))?;
            }
            Ok(())
        })
    })?;
    Ok(std::ptr::null_mut())
}

trigger_function!(keep_achievement_metrics, keep_metrics);

extension_sql!(
    r#"
CREATE FUNCTION check_achievement_rule() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'check_achievement_rule_trigger';

COMMENT ON FUNCTION check_achievement_rule() IS
'Trigger BEFORE INSERT OR UPDATE of an achievement: refuses (22023) a condition_value that is not in the grammar of its condition_type. NULL is no rule; what an UPDATE leaves as it was is not looked at.';

CREATE FUNCTION keep_achievement_metrics() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'keep_achievement_metrics_trigger';

COMMENT ON FUNCTION keep_achievement_metrics() IS
'Trigger AFTER INSERT OR UPDATE of an achievement: keeps in codex.achievement_metrics, as the owner of that table, which metrics it depends on while it is active.';
"#,
    name = "triggers_achievement_rules"
);

/// The metrics that a condition depends on, in order, each once; an empty list for one that is not in the grammar, NULL
/// for NULL.
#[pg_extern(immutable, parallel_safe)]
fn rule_metrics(
    condition_type: Option<&str>,
    condition_value: Option<Jsonb>,
) -> Option<Vec<String>> {
    let (condition_type, condition_value) = (condition_type?, condition_value?.text());
    Some(metrics_of(Some(condition_type), Some(&condition_value)))
}

statement!(
    CONDITIONS(UUID) = "
SELECT a.workspace_id, a.id, a.name, a.condition_type, a.condition_value::text
FROM public.achievements AS a
WHERE a.condition_value IS NOT NULL
  AND ($1 IS NULL OR a.workspace_id = $1)
ORDER BY a.workspace_id, a.id"
);

/// The achievements whose condition is not in the grammar, and what is wrong with each: rows from before conditions
/// were checked. They can be unlocked by hand; events pass them by until their condition is written anew.
///
/// Of `workspace`, or where that is NULL of the current workspace, else of all. Refuses: 42501 a workspace that is not
/// the current one.
#[pg_extern(stable, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn unfit_achievements(
    workspace: default!(Option<Uuid>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(workspace_id, Uuid),
        name!(achievement_id, Uuid),
        name!(name, String),
        name!(problem, String),
    ),
> {
    let run = || {
        let workspace = match workspace {
            Some(workspace) => {
                context::require_workspace(workspace)?;
                Some(workspace)
            }
            None => context::workspace_or_all()?,
        };
        let mut unfit = Vec::new();
        Spi::connect(|client| {
            CONDITIONS.with(|s| {
                s.scan(client, &[workspace.into()], |row| {
                    let condition_type: String = row.get(4)?.unwrap_or_default();
                    let condition_value: String = row.get(5)?.unwrap_or_default();
                    if let (Some(workspace), Some(id), Err(problem)) = (
                        row.get::<Uuid>(1)?,
                        row.get::<Uuid>(2)?,
                        Clause::parse(&condition_type, &condition_value),
                    ) {
                        let name = row.get::<String>(3)?.unwrap_or_default();
                        unfit.push((workspace, id, name, problem.to_string()));
                    }
                    Ok(())
                })
            })
        })?;
        Ok::<_, CodexError>(unfit)
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION rule_metrics(text, jsonb) IS
'The metrics that the condition of an achievement depends on, in order, each once; an empty list for one that is not in the grammar, NULL for NULL.';
COMMENT ON FUNCTION unfit_achievements(uuid) IS
'The achievements whose condition_value is not in the grammar of their condition_type, and what is wrong: rows from before conditions were checked. Events never unlock them. Of a workspace; NULL: the current one, else all. Errors: 42501 not the current workspace.';
"#,
    name = "comment_achievement_rules",
    requires = [rule_metrics, unfit_achievements]
);
