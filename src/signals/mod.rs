//! Signals that fade and meet: the same news is one signal however often it comes, it loses weight with age, and the
//! insights drawn from it follow.
//!
//! | what happens | to the signal |
//! |---|---|
//! | news that nobody has brought yet | a new row of `public.intelligence_signals` |
//! | the same news again (same fingerprint) | a sighting: counted, its date moves on, another source makes it surer |
//! | the same news after the signal's `expiry_date` | a new row; the old one stays as it is |
//! | the same news of a signal that somebody archived | a sighting; it stays archived |
//!
//! *Fingerprint*: given by the caller, or computed from category and title (crate `codex-fingerprint`).
//!
//! *Sureness*: with several independent sources the confidence of a signal is 100·(1 − Π(1 − cᵢ/100)) over them, cᵢ being the
//! surest sighting of each (noisy-OR, crate `codex-confidence`). A source is what it is in
//! `codex.create_insight_from_signals()`: the agent that found it, else the place, else the kind of source.
//!
//! *Fading*: at an age of t a confidence of c is worth c · 2^(−t/h), where h is the half-life of the category
//! ([`half_lives`]) and t counts from the latest date of the news. Nothing is stored of it: it is reckoned when it is read.
//!
//! *Insights*, kept by [`insights`]:
//!
//! ```text
//! active ──rescored──▶ active      the signals faded, or were seen again
//!        ──superseded─▶ superseded  a newer active insight of the same type is drawn from all of its signals
//!        ──expired────▶ archived    its window ended, no signal is left that counts, or it fell below 10
//! ```

mod insights;

pub use insights::upkeep;

use crate::argument::{self, Jsonb, LONGEST_KEY};
use crate::context::{self, membership};
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::idempotency;
use crate::instant;
use crate::statement::{Reference, Statement, naming_what_is_missing};
use crate::{list_statement, statement};
use codex_confidence::{Evidence, HALF_LIVES, confidence, half_life_seconds};
use codex_fingerprint::fingerprint as computed_fingerprint;
use pgrx::datum::{Array, TimestampWithTimeZone};
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, SpiHeapTupleData, SpiResult};
use pgrx::{AnyNumeric, Uuid};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::thread::LocalKey;

const SOURCE_TYPES: &[&str] = &["competitor", "market", "trend", "industry", "customer"];

const CATEGORIES: &[&str] = &[
    "competitor_activity",
    "market_trend",
    "industry_news",
    "customer_sentiment",
    "technology_shift",
];

const SECONDS_A_DAY: f64 = 86_400.0;

/// The longest `data_source`, in characters: it is part of a key.
const LONGEST_PLACE: usize = 500;

/// To two decimals, as scores are.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

// One statement, so that both foreign keys are checked when both rows are there. Whoever comes second with a
// fingerprint waits for the first and then counts up.
statement!(
    INGEST(
        UUID, TEXT, UUID, TEXT, TEXT, UUID, TEXT, TEXT, TEXT, TEXT_ARRAY, JSONB, NUMERIC, NUMERIC,
        TIMESTAMPTZ, TIMESTAMPTZ, UUID
    ) = "
WITH news AS (
    SELECT CASE WHEN isfinite($14) THEN least($14, now()) ELSE now() END AS seen_at
),
known AS (
    INSERT INTO codex.signal_fingerprints AS f (workspace_id, fingerprint, signal_id, first_seen_at, last_seen_at)
    SELECT $1, $2, $3, n.seen_at, n.seen_at
    FROM news AS n
    ON CONFLICT (workspace_id, fingerprint) DO UPDATE
    SET (signal_id, sighting_count, first_seen_at, last_seen_at) = (
        SELECT
            CASE WHEN o.over THEN excluded.signal_id ELSE f.signal_id END,
            CASE WHEN o.over THEN 1 ELSE f.sighting_count + 1 END,
            CASE WHEN o.over THEN excluded.first_seen_at ELSE least(f.first_seen_at, excluded.first_seen_at) END,
            CASE WHEN o.over THEN excluded.last_seen_at ELSE greatest(f.last_seen_at, excluded.last_seen_at) END
        FROM (
            SELECT EXISTS (
                SELECT
                FROM public.intelligence_signals AS s
                WHERE s.workspace_id = f.workspace_id
                  AND s.id = f.signal_id
                  AND s.expiry_date <= now()
            ) AS over
        ) AS o
    )
    RETURNING f.signal_id, f.sighting_count
),
written AS (
    INSERT INTO public.intelligence_signals (
        id, workspace_id, source_type, data_source, source_agent_id, signal_title, signal_description, signal_category,
        key_findings, data_points, confidence_score, relevance_score, signal_date, expiry_date, created_by
    )
    SELECT k.signal_id, $1, $4, $5, $6, $7, $8, $9, $10, $11, round($12, 6), round($13, 6), n.seen_at, $15, $16
    FROM known AS k
        CROSS JOIN news AS n
    WHERE k.signal_id = $3
)
SELECT k.signal_id, k.sighting_count
FROM known AS k"
);

// The source is attributed as in codex.create_insight_from_signals().
statement!(
    SIGHT(UUID, UUID, TEXT, TEXT, UUID, NUMERIC, TIMESTAMPTZ) = "
INSERT INTO codex.signal_sightings AS t (workspace_id, signal_id, source, confidence_score, first_seen_at, last_seen_at)
SELECT
    $1,
    $2,
    CASE
        WHEN $5 IS NOT NULL THEN 'agent:' || $5::text
        WHEN btrim($4) <> '' THEN 'place:' || lower(btrim($4))
        ELSE 'kind:' || $3
    END,
    round($6, 6),
    n.seen_at,
    n.seen_at
FROM (
    SELECT CASE WHEN isfinite($7) THEN least($7, now()) ELSE now() END AS seen_at
) AS n
ON CONFLICT (workspace_id, signal_id, source) DO UPDATE
SET sighting_count = t.sighting_count + 1,
    confidence_score = greatest(t.confidence_score, excluded.confidence_score),
    first_seen_at = least(t.first_seen_at, excluded.first_seen_at),
    last_seen_at = greatest(t.last_seen_at, excluded.last_seen_at)"
);

statement!(
    SOURCES(UUID, UUID) = "
SELECT t.source, t.confidence_score::float8
FROM codex.signal_sightings AS t
WHERE t.workspace_id = $1
  AND t.signal_id = $2"
);

statement!(
    MOVE_ON(UUID, UUID, FLOAT8, TIMESTAMPTZ) = "
UPDATE public.intelligence_signals AS s
SET signal_date = greatest(s.signal_date, n.seen_at),
    confidence_score = coalesce($3::numeric, s.confidence_score)
FROM (
    SELECT CASE WHEN isfinite($4) THEN least($4, now()) ELSE now() END AS seen_at
) AS n
WHERE s.workspace_id = $1
  AND s.id = $2"
);

statement!(
    CHOSEN_HALF_LIVES(UUID) = "
SELECT h.signal_category, h.half_life_days::float8
FROM codex.signal_half_lives AS h
WHERE h.workspace_id = $1"
);

/// What `codex.ingest_signal()` answers.
#[derive(Serialize, Deserialize)]
struct Ingested {
    signal: [u8; 16],
    is_new: bool,
    sightings: i64,
    sources: i64,
}

/// Takes in a piece of news: a new signal, or one more sighting of a signal that is there.
///
/// - `source_type`: competitor, market, trend, industry or customer. `signal_title`: not blank.
/// - `signal_category`: competitor_activity, market_trend, industry_news, customer_sentiment or technology_shift.
/// - `data_source`: where it was found, at most 500 characters; `source_agent_id`: the agent that found it. They tell independent sources apart.
/// - `confidence`, `relevance`: 0 to 100, or NULL for unknown.
/// - `signal_date`: when the news appeared; NULL, or a date to come, counts as now. `expiry_date`: until when it is of use.
/// - `description`, `key_findings`, `data_points`: kept with a new signal; of a sighting they are not.
/// - `fingerprint`: what makes two pieces of news the same, at most 200 characters. NULL: computed from category and title, and
///   for titles of fewer than four words from the source, too: Unicode NFKC, lower case, letters and digits only.
///
/// A sighting counts up, moves the signal's date on to the latest, and, from a source that is new or surer than before, makes the
/// confidence 100·(1 − Π(1 − cᵢ/100)) over the sources. A signal that has expired is not seen again: the news starts a
/// new one. Many sessions with the same news at once make one signal.
///
/// Gives the signal, whether it is new, how often it was seen, and from how many sources.
///
/// Refuses: NULL for the first four (22004); values out of the lists or ranges, blank texts (22023); an agent that
/// does not exist (23503); a workspace that is not the caller's (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn ingest_signal(
    workspace: Option<Uuid>,
    source_type: Option<&str>,
    signal_title: Option<&str>,
    signal_category: Option<&str>,
    data_source: default!(Option<&str>, "NULL"),
    source_agent_id: default!(Option<Uuid>, "NULL"),
    confidence: default!(Option<AnyNumeric>, "NULL"),
    relevance: default!(Option<AnyNumeric>, "NULL"),
    signal_date: default!(Option<TimestampWithTimeZone>, "NULL"),
    expiry_date: default!(Option<TimestampWithTimeZone>, "NULL"),
    description: default!(Option<&str>, "NULL"),
    key_findings: default!(Option<Array<'_, &str>>, "NULL"),
    data_points: default!(Option<Jsonb>, "NULL"),
    fingerprint: default!(Option<&str>, "NULL"),
    idempotency_key: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(signal_id, Uuid),
        name!(is_new, bool),
        name!(sightings, i64),
        name!(sources, i64),
    ),
> {
    let run = || -> Outcome<Ingested> {
        let workspace = required(workspace, "workspace")?;
        let source_type = argument::one_of(source_type, "source_type", SOURCE_TYPES)?;
        let title = argument::not_blank(signal_title, "signal_title")?;
        let category = argument::one_of(signal_category, "signal_category", CATEGORIES)?;
        if let Some(place) = data_source
            && place.chars().count() > LONGEST_PLACE
        {
            return Err(CodexError::bad_value(format!(
                "data_source has {} characters; at most {LONGEST_PLACE} are taken: \"{}\"",
                place.chars().count(),
                shorten(place)
            )));
        }
        let sure = optional_score(confidence, "confidence")?;
        let relevance = optional_score(relevance, "relevance")?;
        let findings = key_findings
            .map(|findings| argument::texts(Some(findings), "key_findings"))
            .transpose()?;
        let fingerprint = match argument::key(fingerprint, "fingerprint", LONGEST_KEY)? {
            Some(given) => given.to_string(),
            None => computed_fingerprint(category, title, data_source.unwrap_or_default()),
        };
        context::require_workspace(workspace)?;
        let request = json!({
            "source_type": source_type, "title": title, "category": category, "data_source": data_source,
            "agent": source_agent_id.map(|agent| agent.to_string()),
            "confidence": sure.as_ref().map(ToString::to_string),
            "relevance": relevance.as_ref().map(ToString::to_string),
            "signal_date": signal_date, "expiry_date": expiry_date, "description": description,
            "findings": findings, "data_points": data_points.map(Jsonb::text), "fingerprint": fingerprint,
        });
        Spi::connect_mut(|client| {
            idempotency::once(
                client,
                "ingest_signal",
                workspace,
                idempotency_key,
                &request,
                |client| {
                    let new = crate::identifier::uuid_v7();
                    let (signal, sightings) = naming_what_is_missing(
                        &[Reference {
                            foreign_key: "intelligence_signals_source_agent_id_fkey",
                            argument: "source_agent_id",
                            what: "agent",
                            value: source_agent_id,
                        }],
                        || {
                            INGEST.with(|statement| {
                                statement.write_one(
                                    client,
                                    &[
                                        workspace.into(),
                                        fingerprint.as_str().into(),
                                        new.into(),
                                        source_type.into(),
                                        data_source.into(),
                                        source_agent_id.into(),
                                        title.into(),
                                        description.into(),
                                        category.into(),
                                        findings.clone().into(),
                                        data_points.into(),
                                        sure.clone().into(),
                                        relevance.clone().into(),
                                        signal_date.into(),
                                        expiry_date.into(),
                                        context::current_user().into(),
                                    ],
                                    |row| Ok((row.get::<Uuid>(1)?, row.get::<i64>(2)?)),
                                )
                            })
                        },
                    )?
                    .and_then(|(signal, sightings)| Some((signal?, sightings?)))
                    .ok_or_else(|| {
                        CodexError::wrong_state(
                            "the signal was not written: a trigger or rule suppressed it",
                        )
                    })?;
                    SIGHT.with(|statement| {
                        statement.execute(
                            client,
                            &[
                                workspace.into(),
                                signal.into(),
                                source_type.into(),
                                data_source.into(),
                                source_agent_id.into(),
                                sure.clone().into(),
                                signal_date.into(),
                            ],
                        )
                    })?;
                    let sources = sources_of(client, workspace, signal)?;
                    if signal != new {
                        MOVE_ON.with(|statement| {
                            statement.execute(
                                client,
                                &[
                                    workspace.into(),
                                    signal.into(),
                                    combined(&sources)?.into(),
                                    signal_date.into(),
                                ],
                            )
                        })?;
                    }
                    Ok(Ingested {
                        signal: *signal.as_bytes(),
                        is_new: signal == new,
                        sightings,
                        sources: i64::try_from(sources.len()).unwrap_or(i64::MAX),
                    })
                },
            )
        })
    };
    let ingested = run().or_raise();
    TableIterator::once((
        Uuid::from_bytes(ingested.signal),
        ingested.is_new,
        ingested.sightings,
        ingested.sources,
    ))
}

fn optional_score(value: Option<AnyNumeric>, name: &str) -> Outcome<Option<AnyNumeric>> {
    value
        .map(|value| argument::score(Some(value), name))
        .transpose()
}

/// The sources of a signal, with the surest sighting of each; read with a fresh snapshot, as the rows were just written.
fn sources_of(
    client: &mut SpiClient<'_>,
    workspace: Uuid,
    signal: Uuid,
) -> Outcome<Vec<(String, Option<f64>)>> {
    SOURCES.with(|statement| {
        statement.write(client, &[workspace.into(), signal.into()], |row| {
            Ok((row.get::<String>(1)?.unwrap_or_default(), row.get(2)?))
        })
    })
}

/// How sure a signal is of which each source is so sure; None where no source says.
fn combined(sources: &[(String, Option<f64>)]) -> Outcome<Option<f64>> {
    let evidence = sources
        .iter()
        .zip(0..)
        .filter_map(|((source, confidence), signal_id)| {
            Some(Evidence {
                signal_id,
                source,
                confidence: (*confidence)?,
                age_seconds: 0.0,
                half_life_seconds: SECONDS_A_DAY,
            })
        })
        .collect::<Vec<_>>();
    if evidence.is_empty() {
        return Ok(None);
    }
    match confidence(&evidence) {
        Ok(confidence) => Ok(Some(confidence.score)),
        Err(error) => Err(CodexError::wrong_state(error.to_string())),
    }
}

/// The half-lives that hold in a workspace, in seconds by category: those it chose, else the defaults.
pub struct HalfLives(HashMap<String, f64>);

impl HalfLives {
    /// Reads them. A database without migration 024 has the defaults.
    pub fn of(client: &SpiClient<'_>, workspace: Uuid) -> Outcome<Self> {
        if membership::table_named(c"codex", c"signal_half_lives").is_none() {
            return Ok(Self(HashMap::new()));
        }
        let chosen = CHOSEN_HALF_LIVES.with(|statement| {
            statement.read(client, &[workspace.into()], |row| {
                Ok((
                    row.get::<String>(1)?.unwrap_or_default(),
                    row.get::<f64>(2)?.unwrap_or_default() * SECONDS_A_DAY,
                ))
            })
        })?;
        Ok(Self(chosen.into_iter().collect()))
    }

    /// Whether the workspace has chosen none of its own.
    fn are_defaults(&self) -> bool {
        self.0.is_empty()
    }

    /// The half-life of a category in seconds; None for a category that is not known.
    pub fn seconds(&self, category: &str) -> Option<f64> {
        let chosen = self.0.get(category).copied();
        chosen.or_else(|| half_life_seconds(category))
    }
}

/// The half-lives of a workspace: after how many days a signal of each category is worth half. A workspace chooses its own by
/// writing to `codex.signal_half_lives` (services may); the defaults are those of `codex.create_insight_from_signals()`.
///
/// Refuses: NULL (22004); a workspace that is not the caller's (42501).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn half_lives(
    workspace: Option<Uuid>,
) -> TableIterator<
    'static,
    (
        name!(signal_category, String),
        name!(half_life_days, f64),
        name!(is_default, bool),
    ),
> {
    let run = || {
        let workspace = required(workspace, "workspace")?;
        context::require_workspace(workspace)?;
        let chosen = Spi::connect(|client| HalfLives::of(client, workspace))?;
        Ok::<_, CodexError>(
            HALF_LIVES
                .iter()
                .map(|(category, default)| {
                    let own = chosen.0.get(*category);
                    (
                        (*category).to_string(),
                        own.unwrap_or(default) / SECONDS_A_DAY,
                        own.is_none(),
                    )
                })
                .collect::<Vec<_>>(),
        )
    };
    TableIterator::new(run().or_raise())
}

// Rounded, because a numeric can be smaller than any float8 but 0, and is refused then.
macro_rules! candidate {
    () => {
        "
    s.id,
    s.signal_title,
    s.signal_category,
    round(s.confidence_score, 6)::float8,
    round(coalesce(s.relevance_score, 50), 6)::float8,
    coalesce(extract(epoch FROM now() - coalesce(
        CASE WHEN isfinite(s.signal_date) THEN s.signal_date END,
        CASE WHEN isfinite(s.detection_date) THEN s.detection_date END,
        CASE WHEN isfinite(s.created_at) THEN s.created_at END
    )), 0)::float8,
    round(s.confidence_score * coalesce(s.relevance_score, 50), 6)::float8,
    coalesce(s.expiry_date <= now(), false)"
    };
}

// The expression of intelligence_signals_fading_idx.
macro_rules! fading_key {
    () => {
        "CASE
            WHEN round(s.confidence_score * coalesce(s.relevance_score, 50), 6) > 0
            THEN ln(round(s.confidence_score * coalesce(s.relevance_score, 50), 6)::float8)
            ELSE '-1e9'::float8
        END
        + coalesce(
            date_part('epoch', coalesce(
                CASE WHEN isfinite(s.signal_date) THEN s.signal_date END,
                CASE WHEN isfinite(s.detection_date) THEN s.detection_date END,
                CASE WHEN isfinite(s.created_at) THEN s.created_at END
            ) - '2000-01-01 00:00:00+00'::timestamptz),
            '1e15'::float8
        ) * ln('2'::float8) / 86400 / CASE s.signal_category
            WHEN 'industry_news' THEN 14
            WHEN 'competitor_activity' THEN 30
            WHEN 'customer_sentiment' THEN 45
            WHEN 'market_trend' THEN 90
            WHEN 'technology_shift' THEN 180
            ELSE 30
        END"
    };
}

// In the order of intelligence_signals_new_idx, like codex.get_priority_signals().
list_statement!(
    BY_WORTH_WHEN_NEW(UUID; "$2") = concat!(
        "
SELECT",
        candidate!(),
        "
FROM public.intelligence_signals AS s
WHERE s.workspace_id = $1
  AND s.action_status = 'new'
ORDER BY
    (s.confidence_score * coalesce(s.relevance_score, 50)) DESC NULLS LAST,
    s.created_at DESC NULLS LAST"
    )
);

// As many of each category, in the order of intelligence_signals_fading_idx. The number is in the text for the
// planner's sake: see `list_statement!`.
macro_rules! by_worth_now {
    ($name:ident, $limit:literal) => {
        statement!(
            $name(UUID, TEXT_ARRAY) = concat!(
                "
SELECT signal.*
FROM unnest($2) AS category (name)
CROSS JOIN LATERAL (
    SELECT",
                candidate!(),
                ",
        ",
                fading_key!(),
                "
    FROM public.intelligence_signals AS s
    WHERE s.workspace_id = $1
      AND s.action_status = 'new'
      AND s.signal_category = category.name
    ORDER BY ",
                fading_key!(),
                " DESC
    LIMIT ",
                $limit,
                "
) AS signal"
            )
        );
    };
}

by_worth_now!(FIRST_BY_WORTH_NOW, 25);
by_worth_now!(MORE_BY_WORTH_NOW, 250);

statement!(
    SEEN(UUID, UUID_ARRAY) = "
SELECT t.signal_id, sum(t.sighting_count)::bigint, count(*)
FROM codex.signal_sightings AS t
WHERE t.workspace_id = $1
  AND t.signal_id = ANY ($2)
GROUP BY t.signal_id"
);

/// A signal that waits for somebody, as it is worth now.
struct Current {
    id: Uuid,
    title: String,
    category: String,
    confidence: f64,
    relevance: f64,
    age_seconds: f64,
    half_life_seconds: f64,
    effective: f64,
}

impl Current {
    /// Reads one of [`candidate!`]; with what it was worth when new, and whether it has expired.
    fn read(row: &SpiHeapTupleData<'_>) -> SpiResult<(Self, f64, bool)> {
        Ok((
            Self {
                id: row.get(1)?.unwrap_or_else(|| Uuid::from_bytes([0; 16])),
                title: row.get(2)?.unwrap_or_default(),
                category: row.get(3)?.unwrap_or_default(),
                confidence: row.get(4)?.unwrap_or_default(),
                relevance: row.get(5)?.unwrap_or_default(),
                age_seconds: row.get(6)?.unwrap_or_default(),
                half_life_seconds: 0.0,
                effective: 0.0,
            },
            row.get::<f64>(7)?.unwrap_or_default(),
            row.get::<bool>(8)?.unwrap_or_default(),
        ))
    }

    fn priority(&self) -> f64 {
        self.effective * self.relevance
    }

    /// The same, faded by the half-life of its category; None where there is no such category.
    fn faded(mut self, half_lives: &HalfLives) -> Option<Self> {
        self.half_life_seconds = half_lives.seconds(&self.category)?;
        self.effective =
            self.confidence * (-self.age_seconds.max(0.0) / self.half_life_seconds).exp2();
        Some(self)
    }
}

/// The `wanted` best, best first.
fn sort_best(best: &mut Vec<Current>, wanted: usize) {
    best.sort_by(|a, b| {
        b.priority()
            .total_cmp(&a.priority())
            .then(b.id.as_bytes().cmp(a.id.as_bytes()))
    });
    best.truncate(wanted);
}

/// The signals of a workspace that wait for somebody (new, not expired), by what they are worth now: effective confidence ×
/// relevance, where no relevance counts as 50. `codex.get_priority_signals()` is the same list without fading.
///
/// - `confidence_threshold`: the least effective confidence, 0 to 100. `max_rows`: how many at most, NULL for all.
///
/// `effective_confidence` is confidence · 2^(−age / half-life of the category), to two decimals like `age_days`; `sightings` and `sources` are those of
/// `codex.ingest_signal()`, 1 for a signal that came in otherwise. Reads the first signals of each category in the order in which they
/// fade, which an index has for the default half-lives; in a workspace with half-lives of its own, or for a long list, in the order of
/// what they were worth when new. It stops where no further one can be worth more than those found.
///
/// Refuses: NULL for the workspace or the threshold (22004); a threshold outside 0 to 100, a negative number of
/// rows (22023); a workspace that is not the caller's (42501).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn get_current_signals(
    workspace: Option<Uuid>,
    confidence_threshold: default!(Option<AnyNumeric>, 0),
    max_rows: default!(Option<i32>, 20),
) -> TableIterator<
    'static,
    (
        name!(id, Uuid),
        name!(title, String),
        name!(category, String),
        name!(confidence, f64),
        name!(effective_confidence, f64),
        name!(relevance, f64),
        name!(age_days, f64),
        name!(half_life_days, f64),
        name!(sightings, i64),
        name!(sources, i64),
    ),
> {
    let run = || {
        let workspace = required(workspace, "workspace")?;
        let threshold = argument::score(confidence_threshold, "confidence_threshold")?;
        let threshold: f64 = threshold.to_string().parse().unwrap_or(100.0);
        let wanted = match max_rows {
            Some(negative @ ..0) => {
                return Err(CodexError::bad_value(format!(
                    "max_rows is {negative}; it must be 0 or more, or NULL for all"
                )));
            }
            Some(rows) => usize::try_from(rows).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        context::require_workspace(workspace)?;
        Spi::connect(|client| {
            let half_lives = HalfLives::of(client, workspace)?;
            let best = best_now(client, workspace, &half_lives, threshold, wanted)?;
            let ids = best.iter().map(|signal| signal.id).collect::<Vec<_>>();
            let seen: HashMap<Uuid, (i64, i64)> = SEEN
                .with(|statement| {
                    statement.read(client, &[workspace.into(), ids.into()], |row| {
                        Ok((
                            row.get::<Uuid>(1)?,
                            (row.get(2)?.unwrap_or(1), row.get(3)?.unwrap_or(1)),
                        ))
                    })
                })?
                .into_iter()
                .filter_map(|(id, seen)| Some((id?, seen)))
                .collect();
            Ok(best
                .into_iter()
                .map(|signal| {
                    let (sightings, sources) = seen.get(&signal.id).copied().unwrap_or((1, 1));
                    (
                        signal.id,
                        signal.title,
                        signal.category,
                        signal.confidence,
                        rounded(signal.effective),
                        signal.relevance,
                        rounded(signal.age_seconds.max(0.0) / SECONDS_A_DAY),
                        signal.half_life_seconds / SECONDS_A_DAY,
                        sightings,
                        sources,
                    )
                })
                .collect::<Vec<_>>())
        })
    };
    TableIterator::new(run().or_raise())
}

/// The best signals as of now, best first.
///
/// Where all half-lives are the defaults, the first ones of each category in the order in which they fade; where these do
/// not settle it, or the workspace has half-lives of its own, by what they were worth when new. Either way the search
/// is over when no further signal can be worth more than those found (Fagin's threshold algorithm).
fn best_now(
    client: &SpiClient<'_>,
    workspace: Uuid,
    half_lives: &HalfLives,
    threshold: f64,
    wanted: usize,
) -> Outcome<Vec<Current>> {
    if half_lives.are_defaults() {
        for (statement, limit) in [(&FIRST_BY_WORTH_NOW, 25), (&MORE_BY_WORTH_NOW, 250)] {
            if wanted < limit
                && let Some(best) = best_of_each_category(
                    client, statement, limit, workspace, half_lives, threshold, wanted,
                )?
            {
                return Ok(best);
            }
        }
    }
    best_by_worth_when_new(client, workspace, half_lives, threshold, wanted)
}

/// The best of the first `limit` of each category; None where a further one could be among them.
#[allow(clippy::too_many_arguments)]
fn best_of_each_category(
    client: &SpiClient<'_>,
    statement: &'static LocalKey<Statement>,
    limit: usize,
    workspace: Uuid,
    half_lives: &HalfLives,
    threshold: f64,
    wanted: usize,
) -> Outcome<Option<Vec<Current>>> {
    let categories: Vec<String> = HALF_LIVES
        .iter()
        .map(|(category, _)| (*category).to_string())
        .collect();
    let rows = statement.with(|statement| {
        statement.read(client, &[workspace.into(), categories.into()], |row| {
            Ok((
                Current::read(&row)?,
                row.get::<f64>(9)?.unwrap_or(f64::INFINITY),
            ))
        })
    })?;
    let now = pg_sys::TimestampTz::from(instant::now()) as f64 / 1e6;
    // Of each category: how many were read, and what a further one can be worth at most.
    let mut seen: HashMap<String, (usize, f64)> = HashMap::new();
    let mut best = Vec::new();
    for ((signal, _, expired), key) in rows {
        let Some(signal) = signal.faded(half_lives) else {
            continue;
        };
        let (read, most) = seen
            .entry(signal.category.clone())
            .or_insert((0, f64::INFINITY));
        *read += 1;
        *most = (key - now * std::f64::consts::LN_2 / signal.half_life_seconds).exp();
        if !expired && signal.effective >= threshold {
            best.push(signal);
        }
    }
    sort_best(&mut best, wanted);
    let further = seen
        .values()
        .filter(|(read, _)| *read == limit)
        .map(|(_, most)| *most)
        .fold(0.0, f64::max);
    let settled = further == 0.0
        || wanted == 0
        || best.len() == wanted && best.last().is_some_and(|last| last.priority() >= further);
    Ok(settled.then_some(best))
}

fn best_by_worth_when_new(
    client: &SpiClient<'_>,
    workspace: Uuid,
    half_lives: &HalfLives,
    threshold: f64,
    wanted: usize,
) -> Outcome<Vec<Current>> {
    let mut limit = 100;
    loop {
        let rows = BY_WORTH_WHEN_NEW.with(|list| {
            let limit = (wanted != usize::MAX).then_some(limit);
            list.read(client, vec![workspace.into()], limit, |row| {
                Current::read(&row)
            })
        })?;
        let all_read = wanted == usize::MAX || (rows.len() as i64) < limit;
        let mut least_when_new = f64::INFINITY;
        let mut best = Vec::new();
        for (signal, when_new, expired) in rows {
            least_when_new = least_when_new.min(when_new);
            let Some(signal) = signal.faded(half_lives) else {
                continue;
            };
            if !expired && signal.effective >= threshold {
                best.push(signal);
            }
        }
        sort_best(&mut best, wanted);
        let full = best.len() == wanted;
        if all_read
            || wanted == 0
            || full && best.last().is_some_and(|l| l.priority() >= least_when_new)
        {
            return Ok(best);
        }
        limit *= 4;
    }
}

extension_sql!(
    r#"
COMMENT ON FUNCTION ingest_signal(uuid, text, text, text, text, uuid, numeric, numeric, timestamptz, timestamptz, text, text[], jsonb, text, text) IS
'Takes in a piece of news: a new signal, or one more sighting of the signal with the same fingerprint (given, or computed from category and title). A sighting counts up and moves the signal''s date on; sources combine to 100 * (1 - product of (1 - c/100)). After its expiry_date the news starts a new signal. source_type: competitor, market, trend, industry, customer; category: competitor_activity, market_trend, industry_news, customer_sentiment, technology_shift; confidence, relevance: 0 to 100. Errors: 22004 NULL, 22023 bad value, 23503 no such agent, 42501 not your workspace.';
COMMENT ON FUNCTION half_lives(uuid) IS
'After how many days a signal of each category is worth half in a workspace: its own choice (codex.signal_half_lives) or the default. Errors: 22004 NULL, 42501 not your workspace.';
COMMENT ON FUNCTION get_current_signals(uuid, numeric, integer) IS
'New, unexpired signals by what they are worth now: confidence * 2^(-age / half-life) * relevance (none counts as 50). confidence_threshold: the least effective confidence, 0 to 100; max_rows: how many at most, NULL for all. Errors: 22004 NULL, 22023 bad threshold or number, 42501 not your workspace.';
"#,
    name = "comment_signals",
    requires = [ingest_signal, half_lives, get_current_signals]
);
