-- 024 signal_life: signal_half_lives, signal_fingerprints, signal_sightings, insight_changes.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

-- How fast signals fade, where a workspace wants it otherwise than the defaults.
CREATE TABLE codex.signal_half_lives (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    signal_category text NOT NULL
        CHECK (signal_category IN ('competitor_activity', 'market_trend', 'industry_news', 'customer_sentiment', 'technology_shift')),
    half_life_days numeric NOT NULL
        CHECK (half_life_days > 0 AND half_life_days <= 36525),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, signal_category)
);

COMMENT ON TABLE codex.signal_half_lives IS
    'Half-lives that a workspace chose; a category without a row has the default. codex.half_lives() gives both.';
COMMENT ON COLUMN codex.signal_half_lives.half_life_days IS
    'After so many days a signal of the category is worth half.';

SELECT codex.protect('codex.signal_half_lives');

CREATE TRIGGER signal_half_lives_updated_at
    BEFORE UPDATE ON codex.signal_half_lives
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


-- Which signal stands for a piece of news: one, however many sessions bring it.
CREATE TABLE codex.signal_fingerprints (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    fingerprint text NOT NULL
        CHECK (btrim(fingerprint) <> '' AND length(fingerprint) <= 200),
    signal_id uuid NOT NULL,
    sighting_count bigint NOT NULL DEFAULT 1
        CHECK (sighting_count >= 1),
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, fingerprint),
    CONSTRAINT signal_fingerprints_seen_check CHECK (first_seen_at <= last_seen_at),
    CONSTRAINT signal_fingerprints_signal_id_fkey FOREIGN KEY (workspace_id, signal_id)
        REFERENCES public.intelligence_signals (workspace_id, id) ON DELETE CASCADE
) WITH (fillfactor = 90);

COMMENT ON TABLE codex.signal_fingerprints IS
    'Pieces of news by their fingerprints, each with the signal that stands for it and how often it was seen. Written by codex.ingest_signal().';
COMMENT ON COLUMN codex.signal_fingerprints.fingerprint IS
    'Given by the caller, or computed from category and title: see docs/engines/signals.md.';

CREATE INDEX signal_fingerprints_workspace_id_signal_id_idx
    ON codex.signal_fingerprints (workspace_id, signal_id);

SELECT codex.protect('codex.signal_fingerprints');


-- Who brought the news, one row a source.
CREATE TABLE codex.signal_sightings (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    signal_id uuid NOT NULL,
    source text NOT NULL
        CHECK (btrim(source) <> ''),
    sighting_count bigint NOT NULL DEFAULT 1
        CHECK (sighting_count >= 1),
    confidence_score numeric
        CHECK (confidence_score BETWEEN 0 AND 100),
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, signal_id, source),
    CONSTRAINT signal_sightings_seen_check CHECK (first_seen_at <= last_seen_at),
    CONSTRAINT signal_sightings_signal_id_fkey FOREIGN KEY (workspace_id, signal_id)
        REFERENCES public.intelligence_signals (workspace_id, id) ON DELETE CASCADE
) WITH (fillfactor = 90);

COMMENT ON TABLE codex.signal_sightings IS
    'From which independent sources a signal was seen, how often, and how sure the surest of each source was.';
COMMENT ON COLUMN codex.signal_sightings.source IS
    'As in codex.insight_signals: the agent that found it, else the place, else the kind of source.';

SELECT codex.protect('codex.signal_sightings');


-- What became of insights: append-only.
CREATE TABLE codex.insight_changes (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    insight_id uuid NOT NULL,
    change text NOT NULL
        CHECK (change IN ('superseded', 'rescored', 'expired')),
    reason text NOT NULL
        CHECK (btrim(reason) <> ''),
    score_before numeric
        CHECK (score_before BETWEEN 0 AND 100),
    score_after numeric
        CHECK (score_after BETWEEN 0 AND 100),
    superseded_by uuid,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT insight_changes_superseded_by_check CHECK ((change = 'superseded') OR superseded_by IS NULL),
    CONSTRAINT insight_changes_insight_id_fkey FOREIGN KEY (workspace_id, insight_id)
        REFERENCES public.market_insights (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT insight_changes_superseded_by_fkey FOREIGN KEY (workspace_id, superseded_by)
        REFERENCES public.market_insights (workspace_id, id) ON DELETE SET NULL (superseded_by)
);

COMMENT ON TABLE codex.insight_changes IS
    'What codex.refresh_insights() changed: levels that rose or fell, insights superseded by others or over. Added to, never changed.';
COMMENT ON COLUMN codex.insight_changes.reason IS
    'For an expired insight: window (it ended), signals (none is left that counts), faded (its confidence fell below 10). For others the new level, or the same type.';

CREATE INDEX insight_changes_workspace_id_insight_id_idx
    ON codex.insight_changes (workspace_id, insight_id, changed_at);
CREATE INDEX insight_changes_workspace_id_superseded_by_idx
    ON codex.insight_changes (workspace_id, superseded_by)
    WHERE superseded_by IS NOT NULL;

SELECT codex.protect('codex.insight_changes');


-- The active insights that were looked at longest ago.
CREATE INDEX market_insights_stale_idx
    ON public.market_insights (updated_at NULLS FIRST)
    WHERE insight_status = 'active';
-- Signals whose time is over, for whoever clears them away.
CREATE INDEX intelligence_signals_expiry_idx
    ON public.intelligence_signals (expiry_date)
    WHERE expiry_date IS NOT NULL;

-- In which order signals of a category fade does not change as time passes, as long as all have one half-life:
-- c · r · 2^(-(now - t) / h) is the larger, the larger ln(c · r) + t · ln(2) / h is ("forward decay": Cormode, Shkapenyuk,
-- Srivastava and Xu, ICDE 2009). So what is worth most now is read from an index, by the default half-lives.
CREATE INDEX intelligence_signals_fading_idx
    ON public.intelligence_signals (workspace_id, signal_category, (
        CASE
            WHEN round(confidence_score * coalesce(relevance_score, 50), 6) > 0
            THEN ln(round(confidence_score * coalesce(relevance_score, 50), 6)::float8)
            ELSE '-1e9'::float8
        END
        + coalesce(
            date_part('epoch', coalesce(
                CASE WHEN isfinite(signal_date) THEN signal_date END,
                CASE WHEN isfinite(detection_date) THEN detection_date END,
                CASE WHEN isfinite(created_at) THEN created_at END
            ) - '2000-01-01 00:00:00+00'::timestamptz),
            '1e15'::float8
        ) * ln('2'::float8) / 86400 / CASE signal_category
            WHEN 'industry_news' THEN 14
            WHEN 'competitor_activity' THEN 30
            WHEN 'customer_sentiment' THEN 45
            WHEN 'market_trend' THEN 90
            WHEN 'technology_shift' THEN 180
            ELSE 30
        END
    ))
    WHERE action_status = 'new';
