//! Intelligence: signals from outside, and the insights that are drawn from them.
//!
//! How sure an insight is follows from its signals; the formula is in the crate `codex-confidence`. What
//! each signal gave to it is kept in `codex.insight_signals`, so that every score can be explained.

use crate::argument;
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::signals::HalfLives;
use crate::statement::{Reference, naming_what_is_missing};
use crate::{list_statement, statement};
use codex_confidence::{Confidence, Evidence, confidence};
use pgrx::datum::{Array, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::{AnyNumeric, Uuid};

const INSIGHT_TYPES: &[&str] = &["opportunity", "threat", "trend", "gap", "pattern"];

const SECONDS_A_DAY: f64 = 86_400.0;

/// A signal that an insight is drawn from.
struct Signal {
    id: Uuid,
    /// Where it comes from: signals of one source are not independent.
    source: String,
    category: String,
    confidence: f64,
    age_seconds: f64,
    archived: bool,
    expired: bool,
}

// Locked in the order of the ids, so that nobody archives a signal while it goes into an insight, and two
// sessions with the same signals wait for each other instead of running into a deadlock.
//
// The agent that found a signal is its source, else the place where it was found, else its kind. The prefix keeps
// an agent's id apart from a place of the same name. A date that is infinite tells nothing of the age.
statement!(
    LOCK_SIGNALS(UUID, UUID_ARRAY) = "
SELECT
    s.id,
    CASE
        WHEN s.source_agent_id IS NOT NULL THEN 'agent:' || s.source_agent_id::text
        WHEN btrim(s.data_source) <> '' THEN 'place:' || lower(btrim(s.data_source))
        ELSE 'kind:' || s.source_type
    END,
    s.signal_category,
    coalesce(s.confidence_score, 0)::float8,
    coalesce(extract(epoch FROM now() - coalesce(
        CASE WHEN isfinite(s.signal_date) THEN s.signal_date END,
        CASE WHEN isfinite(s.detection_date) THEN s.detection_date END,
        CASE WHEN isfinite(s.created_at) THEN s.created_at END
    )), 0)::float8,
    coalesce(s.action_status = 'archived', false),
    coalesce(s.expiry_date <= now(), false)
FROM public.intelligence_signals AS s
WHERE s.workspace_id = $1
  AND s.id = ANY ($2)
ORDER BY s.id
FOR NO KEY UPDATE"
);

statement!(
    WRITE_INSIGHT(
        UUID, TEXT, TEXT, TEXT, UUID_ARRAY, INT4, TEXT_ARRAY, FLOAT8, TEXT, UUID
    ) = "
INSERT INTO public.market_insights (
    workspace_id, insight_title, insight_type, category, source_signal_ids,
    number_of_signals_analyzed, key_conclusions, confidence_score, confidence_level, created_by
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::numeric, $9, $10)
RETURNING id"
);

statement!(
    WRITE_TRACE(UUID, UUID, UUID_ARRAY, TEXT_ARRAY, FLOAT8_ARRAY, FLOAT8_ARRAY, FLOAT8_ARRAY, FLOAT8_ARRAY, BOOL_ARRAY) = "
INSERT INTO codex.insight_signals (
    workspace_id, insight_id, signal_id, source,
    confidence_score, age_days, half_life_days, faded_confidence, counted
)
SELECT
    $1, $2, t.signal_id, t.source,
    t.confidence_score::numeric, t.age_days::numeric, t.half_life_days::numeric, t.faded_confidence::numeric, t.counted
FROM unnest($3, $4, $5, $6, $7, $8, $9) AS t (
    signal_id, source, confidence_score, age_days, half_life_days, faded_confidence, counted
)"
);

statement!(
    MARK_ACTIONED(UUID, UUID_ARRAY) = "
UPDATE public.intelligence_signals AS s
SET action_status = 'actioned'
WHERE s.workspace_id = $1
  AND s.id = ANY ($2)
  AND s.action_status IS DISTINCT FROM 'actioned'"
);

/// Draws an insight from signals of the workspace and returns its id.
///
/// - `p_signal_ids`: not empty, without NULL; a signal that is named twice counts once.
/// - `p_insight_title`: not blank. `p_insight_type`: opportunity, threat, trend, gap or pattern.
/// - `p_conclusions`: kept as `key_conclusions`; none of them NULL or blank; the list may be empty.
/// - `p_created_by`: a member of the workspace, or NULL when an agent or a backend drew it.
///
/// The confidence is 100·(1 − Π(1 − cᵢ)) over the independent sources i, where cᵢ is the largest of
/// `confidence_score`/100 · 2^(−age/half-life) over the signals of the source (noisy-OR; Pearl,
/// *Probabilistic Reasoning in Intelligent Systems*, 1988, section 4.3.2). The source of a signal is the agent
/// that found it, else its `data_source` (whatever its case), else its `source_type`. Its age counts from
/// `signal_date`, else `detection_date`, else `created_at`; the half-life depends on its category:
/// (by default, see `codex.half_lives()`) industry_news 14 days, competitor_activity 30, customer_sentiment 45, market_trend 90, technology_shift 180. A
/// signal without a confidence score says nothing: it counts as 0. `confidence_level` is low below 50,
/// medium below 80, else high. What each signal gave is kept in `codex.insight_signals`.
///
/// The insight's `category` is that of its signals, `mixed` when they have several. The signals become `actioned`.
///
/// Refuses: NULL for any other argument or in a list, a list that is empty (22004, 22023); an insight type out
/// of the list, a blank title or conclusion (22023); signals that do not exist in the workspace (23503); signals
/// that are archived or expired (55000), each named; a creator who is not a member, a workspace that is not
/// the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn create_insight_from_signals(
    p_workspace_id: Option<Uuid>,
    p_signal_ids: Option<Array<'_, Uuid>>,
    p_insight_title: Option<&str>,
    p_insight_type: Option<&str>,
    p_conclusions: Option<Array<'_, &str>>,
    p_created_by: Option<Uuid>,
) -> Uuid {
    let run = || -> Outcome<Uuid> {
        let workspace = required(p_workspace_id, "p_workspace_id")?;
        let ids = argument::ids(p_signal_ids, "p_signal_ids")?;
        let title = argument::not_blank(p_insight_title, "p_insight_title")?;
        let insight_type = argument::one_of(p_insight_type, "p_insight_type", INSIGHT_TYPES)?;
        let conclusions = argument::texts(p_conclusions, "p_conclusions")?;
        context::require_workspace(workspace)?;
        if let Some(user) = p_created_by
            && !context::is_member(workspace, user)?
        {
            return Err(context::not_a_member(workspace, user));
        }
        Spi::connect_mut(|client| {
            let signals = LOCK_SIGNALS.with(|statement| {
                statement.write(client, &[workspace.into(), ids.clone().into()], |row| {
                    Ok(Signal {
                        id: row.get(1)?.unwrap_or_else(|| Uuid::from_bytes([0; 16])),
                        source: row.get(2)?.unwrap_or_default(),
                        category: row.get(3)?.unwrap_or_default(),
                        confidence: row.get(4)?.unwrap_or_default(),
                        age_seconds: row.get(5)?.unwrap_or_default(),
                        archived: row.get(6)?.unwrap_or_default(),
                        expired: row.get(7)?.unwrap_or_default(),
                    })
                })
            })?;
            refuse_unusable(&ids, &signals)?;
            let half_lives = HalfLives::of(client, workspace)?;
            let confidence = confidence_of(&signals, &half_lives)?;
            let insight = naming_what_is_missing(
                &[Reference {
                    foreign_key: "market_insights_created_by_fkey",
                    argument: "p_created_by",
                    what: "user",
                    value: p_created_by,
                }],
                || {
                    WRITE_INSIGHT.with(|statement| {
                        statement.write_one(
                            client,
                            &[
                                workspace.into(),
                                title.into(),
                                insight_type.into(),
                                common_category(&signals).into(),
                                ids.clone().into(),
                                (i32::try_from(ids.len()).unwrap_or(i32::MAX)).into(),
                                conclusions.into(),
                                confidence.score.into(),
                                confidence.level.as_str().into(),
                                p_created_by.into(),
                            ],
                            |row| row.get::<Uuid>(1),
                        )
                    })
                },
            )?
            .flatten()
            .ok_or_else(|| {
                CodexError::wrong_state(format!(
                    "the insight \"{}\" was not written: a trigger or rule on public.market_insights suppressed it",
                    shorten(title)
                ))
            })?;
            let trace = &confidence.trace;
            WRITE_TRACE.with(|statement| {
                statement.execute(
                    client,
                    &[
                        workspace.into(),
                        insight.into(),
                        trace
                            .iter()
                            .map(|entry| Uuid::from_bytes(entry.signal_id.to_be_bytes()))
                            .collect::<Vec<_>>()
                            .into(),
                        trace
                            .iter()
                            .map(|entry| entry.source)
                            .collect::<Vec<_>>()
                            .into(),
                        trace
                            .iter()
                            .map(|entry| entry.confidence)
                            .collect::<Vec<_>>()
                            .into(),
                        trace
                            .iter()
                            .map(|entry| entry.age_seconds / SECONDS_A_DAY)
                            .collect::<Vec<_>>()
                            .into(),
                        trace
                            .iter()
                            .map(|entry| entry.half_life_seconds / SECONDS_A_DAY)
                            .collect::<Vec<_>>()
                            .into(),
                        trace
                            .iter()
                            .map(|entry| entry.faded)
                            .collect::<Vec<_>>()
                            .into(),
                        trace
                            .iter()
                            .map(|entry| entry.counted)
                            .collect::<Vec<_>>()
                            .into(),
                    ],
                )
            })?;
            MARK_ACTIONED
                .with(|statement| statement.execute(client, &[workspace.into(), ids.into()]))?;
            Ok(insight)
        })
    };
    run().or_raise()
}

extension_sql!(
    r#"
COMMENT ON FUNCTION create_insight_from_signals(uuid, uuid[], text, text, text[], uuid) IS
'Draws an insight from signals and returns its id; the signals become actioned. Types: opportunity, threat, trend, gap, pattern. Confidence is 100 * (1 - product of (1 - c)) over independent sources, c being the strongest signal of a source, each faded by half per half-life of its category (14 days industry_news, 30 competitor_activity, 45 customer_sentiment, 90 market_trend, 180 technology_shift); level low < 50 <= medium < 80 <= high. codex.insight_signals keeps what each signal gave. p_created_by: a member, or NULL for an agent. Errors: 22004 NULL, 22023 empty list or bad value, 23503 signals that are not in the workspace, 55000 archived or expired signals, 42501 not a member or not your workspace.';
"#,
    name = "comment_create_insight_from_signals",
    requires = [create_insight_from_signals]
);

/// Refuses ids that are not among the signals, and signals that are archived or expired; names them all.
fn refuse_unusable(ids: &[Uuid], signals: &[Signal]) -> Outcome<()> {
    let unknown: Vec<Uuid> = ids
        .iter()
        .filter(|id| {
            signals
                .binary_search_by_key(*id, |signal| signal.id)
                .is_err()
        })
        .copied()
        .collect();
    let those = |unusable: fn(&Signal) -> bool| -> Vec<Uuid> {
        signals
            .iter()
            .filter(|signal| unusable(signal))
            .map(|signal| signal.id)
            .collect()
    };
    let archived = those(|signal| signal.archived);
    let expired = those(|signal| signal.expired && !signal.archived);
    let message = [
        (&unknown, "not in this workspace"),
        (&archived, "archived"),
        (&expired, "expired"),
    ]
    .iter()
    .filter(|(ids, _)| !ids.is_empty())
    .map(|(ids, what)| format!("{what}: {}", argument::listed(ids)))
    .collect::<Vec<_>>()
    .join("; ");
    if message.is_empty() {
        return Ok(());
    }
    let message = format!("p_signal_ids has signals that cannot be used; {message}");
    Err(if unknown.is_empty() {
        CodexError::wrong_state(message)
    } else {
        CodexError::unknown_reference(message)
    })
}

/// The confidence of an insight that is drawn from these signals.
fn confidence_of<'a>(signals: &'a [Signal], half_lives: &HalfLives) -> Outcome<Confidence<'a>> {
    let evidence = signals
        .iter()
        .map(|signal| {
            Ok(Evidence {
                signal_id: u128::from_be_bytes(*signal.id.as_bytes()),
                source: &signal.source,
                confidence: signal.confidence,
                age_seconds: signal.age_seconds,
                half_life_seconds: half_lives.seconds(&signal.category).ok_or_else(|| {
                    CodexError::wrong_state(format!(
                        "signal {} is of category \"{}\", of which no half-life is known",
                        signal.id,
                        shorten(&signal.category)
                    ))
                })?,
            })
        })
        .collect::<Outcome<Vec<_>>>()?;
    // Only a table without its CHECKs has such values.
    confidence(&evidence).map_err(|error| CodexError::wrong_state(error.to_string()))
}

/// The category of all signals, `mixed` when they have several.
fn common_category(signals: &[Signal]) -> &str {
    match signals {
        [first, rest @ ..] if rest.iter().all(|other| other.category == first.category) => {
            &first.category
        }
        _ => "mixed",
    }
}

// In the order of market_insights_active_idx. Days are UTC days: the same insight is not active for one session and
// over for another.
list_statement!(
    ACTIVE_INSIGHTS(UUID; "$2") = "
SELECT
    i.id,
    i.insight_title,
    i.insight_type,
    i.confidence_score,
    coalesce(i.number_of_signals_analyzed, cardinality(i.source_signal_ids), 0),
    i.created_at
FROM public.market_insights AS i
WHERE i.workspace_id = $1
  AND i.insight_status = 'active'
  AND (i.time_relevance_start IS NULL OR i.time_relevance_start <= (now() AT TIME ZONE 'UTC')::date)
  AND (i.time_relevance_end IS NULL OR i.time_relevance_end >= (now() AT TIME ZONE 'UTC')::date)
ORDER BY i.confidence_score DESC NULLS LAST, i.created_at DESC NULLS LAST"
);

/// The insights of a workspace that are active today: of status `active`, with today (UTC) inside their window,
/// first and last day included. The most confident first, those without a confidence last, then the newest.
///
/// `p_limit`: how many at most; NULL for all. `confidence` is from 0 to 100; `signal_count` is the number of signals
/// that the insight was drawn from.
///
/// Refuses: NULL for the workspace (22004); a negative limit (22023); a workspace that is not the caller's (42501).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn get_active_insights(
    p_workspace_id: Option<Uuid>,
    p_limit: default!(Option<i32>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(id, Option<Uuid>),
        name!(title, Option<String>),
        name!(type, Option<String>),
        name!(confidence, Option<AnyNumeric>),
        name!(signal_count, Option<i32>),
        name!(created_at, Option<TimestampWithTimeZone>),
    ),
> {
    let run = || -> Outcome<_> {
        let workspace = required(p_workspace_id, "p_workspace_id")?;
        let limit = argument::limit(p_limit)?;
        context::require_workspace(workspace)?;
        Spi::connect(|client| {
            ACTIVE_INSIGHTS.with(|list| {
                list.read(client, vec![workspace.into()], limit, |row| {
                    Ok((
                        row.get(1)?,
                        row.get(2)?,
                        row.get(3)?,
                        row.get(4)?,
                        row.get(5)?,
                        row.get(6)?,
                    ))
                })
            })
        })
    };
    TableIterator::new(run().or_raise())
}

// In the order of intelligence_signals_new_idx: the product is the one of the index.
list_statement!(
    PRIORITY_SIGNALS(UUID, NUMERIC; "$3") = "
SELECT s.id, s.signal_title, s.signal_category, s.confidence_score, s.relevance_score, s.created_at
FROM public.intelligence_signals AS s
WHERE s.workspace_id = $1
  AND s.action_status = 'new'
  AND s.confidence_score >= $2
  AND (s.expiry_date IS NULL OR s.expiry_date > now())
ORDER BY
    (s.confidence_score * coalesce(s.relevance_score, 50)) DESC NULLS LAST,
    s.created_at DESC NULLS LAST"
);

/// The signals of a workspace that wait for somebody: new, not expired, and with a confidence of at least
/// `p_confidence_threshold` (0 to 100). Ordered by confidence × relevance, where no relevance counts as 50, then
/// newest first.
///
/// `p_limit`: how many at most; NULL for all.
///
/// Refuses: NULL for the workspace or the threshold (22004); a threshold outside 0 to 100 or NaN, a
/// negative limit (22023); a workspace that is not the caller's (42501).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn get_priority_signals(
    p_workspace_id: Option<Uuid>,
    p_confidence_threshold: default!(Option<AnyNumeric>, 75),
    p_limit: default!(Option<i32>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(id, Option<Uuid>),
        name!(title, Option<String>),
        name!(category, Option<String>),
        name!(confidence, Option<AnyNumeric>),
        name!(relevance, Option<AnyNumeric>),
        name!(created_at, Option<TimestampWithTimeZone>),
    ),
> {
    let run = || -> Outcome<_> {
        let workspace = required(p_workspace_id, "p_workspace_id")?;
        let threshold = argument::score(p_confidence_threshold, "p_confidence_threshold")?;
        let limit = argument::limit(p_limit)?;
        context::require_workspace(workspace)?;
        Spi::connect(|client| {
            PRIORITY_SIGNALS.with(|list| {
                list.read(
                    client,
                    vec![workspace.into(), threshold.into()],
                    limit,
                    |row| {
                        Ok((
                            row.get(1)?,
                            row.get(2)?,
                            row.get(3)?,
                            row.get(4)?,
                            row.get(5)?,
                            row.get(6)?,
                        ))
                    },
                )
            })
        })
    };
    TableIterator::new(run().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION get_active_insights(uuid, integer) IS
'Insights of status active whose window includes today (UTC): the most confident first, NULLs last, then the newest. p_limit: how many at most, NULL for all. Errors: 22004 NULL workspace, 22023 negative limit, 42501 not your workspace.';
COMMENT ON FUNCTION get_priority_signals(uuid, numeric, integer) IS
'New, unexpired signals with a confidence of at least p_confidence_threshold (0 to 100), by confidence * relevance (none counts as 50), then the newest. p_limit: how many at most, NULL for all. Errors: 22004 NULL workspace or threshold, 22023 bad threshold or limit, 42501 not your workspace.';
"#,
    name = "comment_intelligence_lists",
    requires = [get_active_insights, get_priority_signals]
);
