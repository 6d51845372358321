//! Insights follow their signals: how a confidence comes about, and what time does to it.

use super::{HalfLives, SECONDS_A_DAY, rounded};
use crate::context;
use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::statement;
use codex_confidence::{Confidence, Evidence, confidence};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use pgrx::{AnyNumeric, Uuid};
use std::collections::{BTreeMap, BTreeSet};

/// Below this confidence an insight says nothing any more.
const FADED_OUT: f64 = 10.0;

/// How many insights are refreshed at once.
const BATCH: i64 = 500;

/// How long an insight may go without being looked at, in hours.
const STALE_AFTER_HOURS: i32 = 24;

/// How long signals stay after they expired, in days, unless an active insight is drawn from them.
const EXPIRED_SIGNALS_STAY_DAYS: i32 = 180;

/// A signal of an insight, as it is now.
struct Piece {
    insight: Uuid,
    signal: Uuid,
    title: String,
    category: String,
    source: String,
    confidence: f64,
    age_seconds: f64,
    archived: bool,
    expired: bool,
    faded_then: f64,
    counted_then: bool,
    sightings: i64,
}

impl Piece {
    fn lives(&self) -> bool {
        !self.archived && !self.expired
    }

    fn state(&self) -> &'static str {
        match (self.archived, self.expired) {
            (true, _) => "archived",
            (_, true) => "expired",
            _ => "living",
        }
    }

    fn number(&self) -> u128 {
        u128::from_be_bytes(*self.signal.as_bytes())
    }
}

// Run as a write where insights are refreshed, for its fresh snapshot.
statement!(
    PIECES(UUID, UUID_ARRAY) = "
SELECT
    t.insight_id,
    t.signal_id,
    s.signal_title,
    s.signal_category,
    t.source,
    round(coalesce(s.confidence_score, 0), 6)::float8,
    coalesce(extract(epoch FROM now() - coalesce(
        CASE WHEN isfinite(s.signal_date) THEN s.signal_date END,
        CASE WHEN isfinite(s.detection_date) THEN s.detection_date END,
        CASE WHEN isfinite(s.created_at) THEN s.created_at END
    )), 0)::float8,
    coalesce(s.action_status = 'archived', false),
    coalesce(s.expiry_date <= now(), false),
    t.faded_confidence::float8,
    t.counted,
    coalesce((
        SELECT sum(g.sighting_count)
        FROM codex.signal_sightings AS g
        WHERE g.workspace_id = t.workspace_id
          AND g.signal_id = t.signal_id
    ), 1)::bigint
FROM codex.insight_signals AS t
    JOIN public.intelligence_signals AS s ON s.workspace_id = t.workspace_id
        AND s.id = t.signal_id
WHERE t.workspace_id = $1
  AND t.insight_id = ANY ($2)
ORDER BY t.insight_id, t.signal_id"
);

statement!(
    WORKSPACE_OF(UUID) = "
SELECT i.workspace_id, i.confidence_score
FROM public.market_insights AS i
WHERE i.id = $1"
);

fn piece(row: pgrx::spi::SpiHeapTupleData<'_>) -> pgrx::spi::SpiResult<Piece> {
    let nothing = || Uuid::from_bytes([0; 16]);
    Ok(Piece {
        insight: row.get(1)?.unwrap_or_else(nothing),
        signal: row.get(2)?.unwrap_or_else(nothing),
        title: row.get(3)?.unwrap_or_default(),
        category: row.get(4)?.unwrap_or_default(),
        source: row.get(5)?.unwrap_or_default(),
        confidence: row.get(6)?.unwrap_or_default(),
        age_seconds: row.get(7)?.unwrap_or_default(),
        archived: row.get(8)?.unwrap_or_default(),
        expired: row.get(9)?.unwrap_or_default(),
        faded_then: row.get(10)?.unwrap_or_default(),
        counted_then: row.get(11)?.unwrap_or_default(),
        sightings: row.get(12)?.unwrap_or(1),
    })
}

/// The confidence that living signals give; None when none is left.
fn confidence_of<'a>(
    pieces: impl Iterator<Item = &'a Piece>,
    half_lives: &HalfLives,
) -> Outcome<Option<Confidence<'a>>> {
    let evidence = pieces
        .filter(|piece| piece.lives())
        .filter_map(|piece| {
            Some(Evidence {
                signal_id: piece.number(),
                source: &piece.source,
                confidence: piece.confidence,
                age_seconds: piece.age_seconds,
                half_life_seconds: half_lives.seconds(&piece.category)?,
            })
        })
        .collect::<Vec<_>>();
    if evidence.is_empty() {
        return Ok(None);
    }
    // Only a table without its CHECKs has values that are refused.
    let reckoned = confidence(&evidence);
    Ok(Some(reckoned.map_err(|error| {
        CodexError::wrong_state(error.to_string())
    })?))
}

/// How the confidence of an insight comes about: a row a signal that it was drawn from, the one that gives most first.
///
/// - `confidence`: the signal's own, 0 to 100. `age_days` counts from the latest date of the news; after each `half_life_days` it
///   is worth half: `faded_confidence`. `counted`: whether it stands for its `source`, of which the strongest counts.
/// - `contribution`: by how much the insight's confidence would be lower without it. `state`: living, archived or expired;
///   only living signals count.
/// - `faded_then`, `counted_then`: the same when the insight was drawn. `sightings`: how often it was seen.
/// - `insight_confidence`: 100·(1 − Π(1 − cᵢ/100)) over the counted signals now, NULL when none is living; `stored_confidence`:
///   what the insight has, as of its last refresh.
///
/// No row for an insight that was written by hand. Refuses: NULL (22004); an insight that does not exist, or is
/// not of the caller's workspace (P0002).
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn explain_insight(
    insight: Option<Uuid>,
) -> TableIterator<
    'static,
    (
        name!(signal_id, Uuid),
        name!(title, String),
        name!(category, String),
        name!(source, String),
        name!(state, String),
        name!(sightings, i64),
        name!(confidence, f64),
        name!(age_days, f64),
        name!(half_life_days, Option<f64>),
        name!(faded_confidence, f64),
        name!(counted, bool),
        name!(contribution, f64),
        name!(faded_then, f64),
        name!(counted_then, bool),
        name!(insight_confidence, Option<f64>),
        name!(stored_confidence, Option<AnyNumeric>),
    ),
> {
    let run = || {
        let insight = required(insight, "insight")?;
        Spi::connect(|client| {
            let not_found = || CodexError::not_found(format!("there is no insight {insight}"));
            let (workspace, stored) = WORKSPACE_OF
                .with(|statement| {
                    statement.read_one(client, &[insight.into()], |row| {
                        Ok((row.get::<Uuid>(1)?, row.get::<AnyNumeric>(2)?))
                    })
                })?
                .and_then(|(workspace, stored)| Some((workspace?, stored)))
                .ok_or_else(not_found)?;
            if context::require_workspace(workspace).is_err() {
                return Err(not_found());
            }
            let half_lives = HalfLives::of(client, workspace)?;
            let pieces = PIECES.with(|statement| {
                statement.read(client, &[workspace.into(), vec![insight].into()], piece)
            })?;
            let whole = confidence_of(pieces.iter(), &half_lives)?;
            let score = whole.as_ref().map(|confidence| confidence.score);
            let mut rows = Vec::with_capacity(pieces.len());
            for piece in &pieces {
                let traced = whole.as_ref().and_then(|confidence| {
                    confidence
                        .trace
                        .iter()
                        .find(|entry| entry.signal_id == piece.number())
                });
                let without = confidence_of(
                    pieces.iter().filter(|other| other.signal != piece.signal),
                    &half_lives,
                )?;
                let without = without.map_or(0.0, |confidence| confidence.score);
                let half_life = half_lives.seconds(&piece.category);
                let age = piece.age_seconds.max(0.0);
                rows.push((
                    piece.signal,
                    piece.title.clone(),
                    piece.category.clone(),
                    piece.source.clone(),
                    piece.state().to_string(),
                    piece.sightings,
                    piece.confidence,
                    rounded(age / SECONDS_A_DAY),
                    half_life.map(|seconds| seconds / SECONDS_A_DAY),
                    half_life.map_or(0.0, |seconds| {
                        rounded(piece.confidence * (-age / seconds).exp2())
                    }),
                    traced.is_some_and(|entry| entry.counted),
                    rounded((score.unwrap_or(0.0) - without).max(0.0)),
                    piece.faded_then,
                    piece.counted_then,
                    score,
                    stored.clone(),
                ));
            }
            rows.sort_by(|a, b| b.11.total_cmp(&a.11).then(b.9.total_cmp(&a.9)));
            Ok(rows)
        })
    };
    TableIterator::new(run().or_raise())
}

// Locked in the order of their ids; what somebody else is changing is left for the next time.
statement!(
    LOCK_NEXT(UUID, UUID, INT8) = "
SELECT
    i.id,
    round(i.confidence_score, 6)::float8,
    i.confidence_level,
    coalesce(i.time_relevance_end < (now() AT TIME ZONE 'UTC')::date, false)
FROM public.market_insights AS i
WHERE i.workspace_id = $1
  AND i.id > $2
  AND i.insight_status = 'active'
ORDER BY i.id
LIMIT $3
FOR NO KEY UPDATE SKIP LOCKED"
);
statement!(
    LOCK_THESE(UUID, UUID_ARRAY) = "
SELECT
    i.id,
    round(i.confidence_score, 6)::float8,
    i.confidence_level,
    coalesce(i.time_relevance_end < (now() AT TIME ZONE 'UTC')::date, false)
FROM public.market_insights AS i
WHERE i.workspace_id = $1
  AND i.id = ANY ($2)
  AND i.insight_status = 'active'
ORDER BY i.id
FOR NO KEY UPDATE SKIP LOCKED"
);

// For each insight the newest of the same type that is drawn from all of its signals and goes on. It starts from
// one signal, so that it reads only insights that share it.
statement!(
    SUPERSEDING(UUID, UUID_ARRAY, UUID_ARRAY) = "
SELECT o.id, n.id
FROM public.market_insights AS o
    CROSS JOIN LATERAL (
        SELECT t.signal_id
        FROM codex.insight_signals AS t
        WHERE t.workspace_id = $1
          AND t.insight_id = o.id
        ORDER BY t.signal_id
        LIMIT 1
    ) AS one
    CROSS JOIN LATERAL (
        SELECT newer.id
        FROM codex.insight_signals AS shared
            JOIN public.market_insights AS newer ON newer.workspace_id = $1
                AND newer.id = shared.insight_id
        WHERE shared.workspace_id = $1
          AND shared.signal_id = one.signal_id
          AND newer.insight_status = 'active'
          AND newer.insight_type = o.insight_type
          AND (newer.created_at, newer.id) > (o.created_at, o.id)
          AND newer.id <> ALL ($3)
          AND NOT EXISTS (
              SELECT
              FROM codex.insight_signals AS own
              WHERE own.workspace_id = $1
                AND own.insight_id = o.id
                AND NOT EXISTS (
                    SELECT
                    FROM codex.insight_signals AS theirs
                    WHERE theirs.workspace_id = $1
                      AND theirs.insight_id = newer.id
                      AND theirs.signal_id = own.signal_id
                )
          )
        ORDER BY newer.created_at DESC, newer.id DESC
        LIMIT 1
    ) AS n
WHERE o.workspace_id = $1
  AND o.id = ANY ($2)"
);

// Rows that do not change are written, too: updated_at says when an insight was last looked at.
statement!(
    WRITE_BACK(UUID, UUID_ARRAY, TEXT_ARRAY, FLOAT8_ARRAY, TEXT_ARRAY) = "
UPDATE public.market_insights AS i
SET insight_status = u.status,
    confidence_score = coalesce(u.score::numeric, i.confidence_score),
    confidence_level = coalesce(u.level, i.confidence_level)
FROM unnest($2, $3, $4, $5) AS u (id, status, score, level)
WHERE i.workspace_id = $1
  AND i.id = u.id"
);
statement!(
    WRITE_CHANGE(UUID, UUID, TEXT, TEXT, FLOAT8, FLOAT8, UUID) = "
INSERT INTO codex.insight_changes (workspace_id, insight_id, change, reason, score_before, score_after, superseded_by)
VALUES ($1, $2, $3, $4, $5::numeric, $6::numeric, $7)"
);

/// An insight that is being refreshed.
struct Insight {
    id: Uuid,
    score: Option<f64>,
    level: Option<String>,
    window_ended: bool,
}

/// What a refresh changed.
#[derive(Clone)]
struct Change {
    insight: Uuid,
    change: &'static str,
    reason: String,
    before: Option<f64>,
    after: Option<f64>,
    superseded_by: Option<Uuid>,
}

/// Refreshes the active insights of a workspace: reckons their confidence anew from their signals as they are now, and ends
/// those whose time is over.
///
/// Gives a row a change, in the order of the insights' ids within batches:
///
/// - `rescored`: the confidence changed; `reason` is the level now.
/// - `superseded`: by the newest active insight of the same type that is drawn from all of its signals and more, or the
///   same; its status is `superseded`.
/// - `expired`: its status is `archived`; `reason` is `window` (`time_relevance_end` has passed, UTC), `signals` (none of its signals is
///   living) or `faded` (its confidence is below 10).
///
/// Insights that were written by hand, without signals, only expire by their window. Endings and changes of level are kept in
/// `codex.insight_changes`. Insights that somebody else is changing at the moment are left for the next time; two
/// refreshes at once share the work. Run again at once, it changes nothing.
///
/// Refuses: NULL (22004); a workspace that is not the caller's (42501). For service roles.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn refresh_insights(
    workspace: Option<Uuid>,
) -> TableIterator<
    'static,
    (
        name!(insight_id, Uuid),
        name!(change, String),
        name!(reason, String),
        name!(confidence_before, Option<f64>),
        name!(confidence_after, Option<f64>),
        name!(superseded_by, Option<Uuid>),
    ),
> {
    let run = || {
        let workspace = required(workspace, "workspace")?;
        context::require_workspace(workspace)?;
        Spi::connect_mut(|client| {
            let half_lives = HalfLives::of(client, workspace)?;
            let mut after = Uuid::from_bytes([0; 16]);
            let mut changes = Vec::new();
            loop {
                let insights = LOCK_NEXT.with(|statement| {
                    statement.write(
                        client,
                        &[workspace.into(), after.into(), BATCH.into()],
                        insight_of,
                    )
                })?;
                let Some(last) = insights.last() else { break };
                after = last.id;
                changes.extend(refresh(client, workspace, &half_lives, &insights)?);
            }
            Ok::<_, CodexError>(changes)
        })
    };
    TableIterator::new(run().or_raise().into_iter().map(|change| {
        (
            change.insight,
            change.change.to_string(),
            change.reason,
            change.before,
            change.after,
            change.superseded_by,
        )
    }))
}

fn insight_of(row: pgrx::spi::SpiHeapTupleData<'_>) -> pgrx::spi::SpiResult<Insight> {
    Ok(Insight {
        id: row.get(1)?.unwrap_or_else(|| Uuid::from_bytes([0; 16])),
        score: row.get(2)?,
        level: row.get(3)?,
        window_ended: row.get(4)?.unwrap_or_default(),
    })
}

/// Refreshes insights that are locked.
fn refresh(
    client: &mut SpiClient<'_>,
    workspace: Uuid,
    half_lives: &HalfLives,
    insights: &[Insight],
) -> Outcome<Vec<Change>> {
    let ids = insights
        .iter()
        .map(|insight| insight.id)
        .collect::<Vec<_>>();
    let pieces = PIECES.with(|statement| {
        statement.write(client, &[workspace.into(), ids.clone().into()], piece)
    })?;
    let mut by_insight: BTreeMap<[u8; 16], Vec<&Piece>> = BTreeMap::new();
    for piece in &pieces {
        by_insight
            .entry(*piece.insight.as_bytes())
            .or_default()
            .push(piece);
    }
    let mut scores: BTreeMap<[u8; 16], (f64, &'static str)> = BTreeMap::new();
    let mut changes = Vec::new();
    let mut ended = BTreeSet::new();
    for insight in insights {
        let own = by_insight.get(insight.id.as_bytes());
        let now = match own {
            Some(own) => confidence_of(own.iter().copied(), half_lives)?,
            None => None,
        };
        let reason = if insight.window_ended {
            Some("window")
        } else if own.is_some() && now.is_none() {
            Some("signals")
        } else if now.as_ref().is_some_and(|now| now.score < FADED_OUT) {
            Some("faded")
        } else {
            None
        };
        if let Some(now) = &now {
            scores.insert(*insight.id.as_bytes(), (now.score, now.level.as_str()));
        }
        if let Some(reason) = reason {
            ended.insert(*insight.id.as_bytes());
            changes.push(Change {
                insight: insight.id,
                change: "expired",
                reason: reason.to_string(),
                before: insight.score,
                after: now.map(|now| now.score),
                superseded_by: None,
            });
        }
    }
    let going_on = |ended: &BTreeSet<[u8; 16]>| {
        insights
            .iter()
            .map(|insight| insight.id)
            .filter(|id| !ended.contains(id.as_bytes()))
            .collect::<Vec<_>>()
    };
    let over = ended
        .iter()
        .map(|id| Uuid::from_bytes(*id))
        .collect::<Vec<_>>();
    let superseding = SUPERSEDING.with(|statement| {
        statement.write(
            client,
            &[workspace.into(), going_on(&ended).into(), over.into()],
            |row| Ok((row.get::<Uuid>(1)?, row.get::<Uuid>(2)?)),
        )
    })?;
    let mut superseded = BTreeSet::new();
    for insight in insights {
        let by = superseding
            .iter()
            .find(|(old, _)| *old == Some(insight.id))
            .and_then(|(_, new)| *new);
        let after = scores.get(insight.id.as_bytes());
        if let Some(by) = by {
            superseded.insert(*insight.id.as_bytes());
            changes.push(Change {
                insight: insight.id,
                change: "superseded",
                reason: "the same type, from all of its signals".to_string(),
                before: insight.score,
                after: after.map(|(score, _)| *score),
                superseded_by: Some(by),
            });
        } else if !ended.contains(insight.id.as_bytes())
            && let Some((score, level)) = after
            && insight
                .score
                .is_none_or(|before| (before - score).abs() > 0.004)
        {
            changes.push(Change {
                insight: insight.id,
                change: "rescored",
                reason: (*level).to_string(),
                before: insight.score,
                after: Some(*score),
                superseded_by: None,
            });
        }
    }
    let statuses = insights
        .iter()
        .map(|insight| {
            if ended.contains(insight.id.as_bytes()) {
                "archived"
            } else if superseded.contains(insight.id.as_bytes()) {
                "superseded"
            } else {
                "active"
            }
        })
        .collect::<Vec<_>>();
    let of = |insight: &Insight| scores.get(insight.id.as_bytes());
    WRITE_BACK.with(|statement| {
        statement.execute(
            client,
            &[
                workspace.into(),
                ids.into(),
                statuses.into(),
                insights
                    .iter()
                    .map(|insight| of(insight).map(|(score, _)| *score))
                    .collect::<Vec<_>>()
                    .into(),
                insights
                    .iter()
                    .map(|insight| of(insight).map(|(_, level)| *level))
                    .collect::<Vec<_>>()
                    .into(),
            ],
        )
    })?;
    for change in &changes {
        let level_changed = insights
            .iter()
            .find(|insight| insight.id == change.insight)
            .is_some_and(|insight| insight.level.as_deref() != Some(change.reason.as_str()));
        if change.change == "rescored" && !level_changed {
            continue;
        }
        WRITE_CHANGE.with(|statement| {
            statement.execute(
                client,
                &[
                    workspace.into(),
                    change.insight.into(),
                    change.change.into(),
                    change.reason.as_str().into(),
                    change.before.into(),
                    change.after.into(),
                    change.superseded_by.into(),
                ],
            )
        })?;
    }
    Ok(changes)
}

// The batch is cut before the date is looked at: nothing but the first entries of the index is read.
statement!(
    STALE(TIMESTAMPTZ, INT4, INT8) = "
SELECT s.workspace_id, s.id
FROM (
    SELECT i.workspace_id, i.id, i.updated_at
    FROM public.market_insights AS i
    WHERE i.insight_status = 'active'
    ORDER BY i.updated_at NULLS FIRST
    LIMIT $3
) AS s
WHERE coalesce(s.updated_at < $1 - $2 * interval '1 hour', true)
ORDER BY s.workspace_id, s.id"
);
statement!(
    CLEAR_EXPIRED_SIGNALS(TIMESTAMPTZ, INT4, INT8) = "
WITH old AS (
    SELECT s.id
    FROM public.intelligence_signals AS s
    WHERE s.expiry_date < $1 - $2 * interval '1 day'
      AND NOT EXISTS (
          SELECT
          FROM codex.insight_signals AS t
              JOIN public.market_insights AS i ON i.workspace_id = t.workspace_id
                  AND i.id = t.insight_id
          WHERE t.workspace_id = s.workspace_id
            AND t.signal_id = s.id
            AND i.insight_status = 'active'
      )
    ORDER BY s.expiry_date
    LIMIT $3
    FOR UPDATE OF s SKIP LOCKED
)
DELETE FROM public.intelligence_signals AS s
USING old
WHERE s.id = old.id
RETURNING 1"
);

/// What time does to insights and signals of all workspaces: refreshes up to `batch` insights that were not looked at
/// for a day, and deletes up to `batch` signals that expired half a year ago and that no active insight is drawn from.
pub fn upkeep(
    client: &mut SpiClient<'_>,
    now: TimestampWithTimeZone,
    batch: i64,
) -> Outcome<Vec<(&'static str, i64)>> {
    let stale = STALE.with(|statement| {
        statement.write(
            client,
            &[now.into(), STALE_AFTER_HOURS.into(), batch.into()],
            |row| Ok((row.get::<Uuid>(1)?, row.get::<Uuid>(2)?)),
        )
    })?;
    let stale: Vec<(Uuid, Uuid)> = stale
        .into_iter()
        .filter_map(|(workspace, insight)| Some((workspace?, insight?)))
        .collect();
    let (mut refreshed, mut superseded, mut expired) = (0, 0, 0);
    for of_one in stale.chunk_by(|left, right| left.0 == right.0) {
        let workspace = of_one[0].0;
        let ids = of_one.iter().map(|(_, id)| *id).collect::<Vec<_>>();
        let insights = LOCK_THESE.with(|statement| {
            statement.write(client, &[workspace.into(), ids.into()], insight_of)
        })?;
        if insights.is_empty() {
            continue;
        }
        let half_lives = HalfLives::of(client, workspace)?;
        refreshed += insights.len() as i64;
        for change in refresh(client, workspace, &half_lives, &insights)? {
            superseded += i64::from(change.change == "superseded");
            expired += i64::from(change.change == "expired");
        }
    }
    let cleared = CLEAR_EXPIRED_SIGNALS.with(|statement| {
        statement.write(
            client,
            &[now.into(), EXPIRED_SIGNALS_STAY_DAYS.into(), batch.into()],
            |_| Ok(()),
        )
    })?;
    Ok(vec![
        ("insights refreshed", refreshed),
        ("insights superseded", superseded),
        ("insights expired", expired),
        ("expired signals deleted", cleared.len() as i64),
    ])
}

extension_sql!(
    r#"
COMMENT ON FUNCTION explain_insight(uuid) IS
'How the confidence of an insight comes about: a row a signal with its source, age, half-life, what it is worth now (confidence * 2^(-age / half-life)), whether it stands for its source, its contribution to the whole, and what it was worth when the insight was drawn. insight_confidence is 100 * (1 - product of (1 - c/100)) over the counted signals. Errors: 22004 NULL, P0002 no such insight in your workspace.';
COMMENT ON FUNCTION refresh_insights(uuid) IS
'Reckons the confidence of the active insights of a workspace anew, and ends those whose time is over: superseded by a newer one of the same type from all of their signals, or expired (window ended, no living signal, confidence below 10). A row a change. Errors: 22004 NULL, 42501 not your workspace.';
"#,
    name = "comment_insights",
    requires = [explain_insight, refresh_insights]
);
