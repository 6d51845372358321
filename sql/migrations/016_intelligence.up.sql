-- 016 intelligence: intelligence_signals, market_insights.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE TABLE public.intelligence_signals (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    source_agent_id uuid REFERENCES public.agent_registry (id) ON DELETE SET NULL,
    source_type text NOT NULL
        CHECK (source_type IN ('competitor', 'market', 'trend', 'industry', 'customer')),
    data_source text,
    signal_title text NOT NULL
        CHECK (btrim(signal_title) <> ''),
    signal_description text,
    signal_category text NOT NULL
        CHECK (signal_category IN ('competitor_activity', 'market_trend', 'industry_news', 'customer_sentiment', 'technology_shift')),
    key_findings text[],
    data_points jsonb,
    confidence_score numeric
        CHECK (confidence_score BETWEEN 0 AND 100),
    relevance_score numeric
        CHECK (relevance_score BETWEEN 0 AND 100),
    related_competitor_ids uuid[],
    related_cohort_ids uuid[],
    related_campaign_ids uuid[],
    signal_date timestamptz,
    detection_date timestamptz DEFAULT now(),
    expiry_date timestamptz,
    action_status text DEFAULT 'new'
        CHECK (action_status IN ('new', 'acknowledged', 'actioned', 'archived')),
    assigned_to_user_id uuid REFERENCES :users (id) ON DELETE SET NULL,
    action_notes text,
    created_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT intelligence_signals_workspace_id_id_key UNIQUE (workspace_id, id)
);

COMMENT ON TABLE public.intelligence_signals IS
    'A piece of market intelligence, with its confidence and relevance (0 to 100).';

CREATE INDEX intelligence_signals_new_idx
    ON public.intelligence_signals (
        workspace_id,
        (confidence_score * coalesce(relevance_score, 50)) DESC NULLS LAST,
        created_at DESC NULLS LAST
    )
    WHERE action_status = 'new';
CREATE INDEX intelligence_signals_source_agent_id_idx
    ON public.intelligence_signals (source_agent_id)
    WHERE source_agent_id IS NOT NULL;
CREATE INDEX intelligence_signals_assigned_to_user_id_idx
    ON public.intelligence_signals (assigned_to_user_id)
    WHERE assigned_to_user_id IS NOT NULL;
CREATE INDEX intelligence_signals_created_by_idx
    ON public.intelligence_signals (created_by)
    WHERE created_by IS NOT NULL;

SELECT codex.protect('public.intelligence_signals');

CREATE TRIGGER intelligence_signals_updated_at
    BEFORE UPDATE ON public.intelligence_signals
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.market_insights (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    insight_title text NOT NULL
        CHECK (btrim(insight_title) <> ''),
    insight_description text,
    insight_type text NOT NULL
        CHECK (insight_type IN ('opportunity', 'threat', 'trend', 'gap', 'pattern')),
    category text,
    source_signal_ids uuid[],
    source_agent_id uuid REFERENCES public.agent_registry (id) ON DELETE SET NULL,
    number_of_signals_analyzed integer
        CHECK (number_of_signals_analyzed >= 0),
    key_conclusions text[],
    supporting_evidence text[],
    confidence_level text DEFAULT 'medium'
        CHECK (confidence_level IN ('low', 'medium', 'high')),
    confidence_score numeric
        CHECK (confidence_score BETWEEN 0 AND 100),
    business_implications text[],
    recommended_actions text[],
    potential_impact text,
    potential_roi_percentage numeric
        CHECK (potential_roi_percentage > '-Infinity' AND potential_roi_percentage < 'Infinity'),
    relevant_for_competitors uuid[],
    relevant_for_cohorts uuid[],
    relevant_for_campaigns uuid[],
    relevant_segments text[],
    time_relevance_start date,
    time_relevance_end date,
    discovery_date timestamptz DEFAULT now(),
    insight_status text DEFAULT 'active'
        CHECK (insight_status IN ('active', 'archived', 'superseded')),
    actioned_date timestamptz,
    created_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    reviewed_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    CONSTRAINT market_insights_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT market_insights_window_check CHECK (time_relevance_start <= time_relevance_end)
);

COMMENT ON TABLE public.market_insights IS
    'A conclusion drawn from signals. codex.insight_signals keeps what went into its confidence.';

CREATE INDEX market_insights_active_idx
    ON public.market_insights (workspace_id, confidence_score DESC NULLS LAST, created_at DESC NULLS LAST)
    WHERE insight_status = 'active';
CREATE INDEX market_insights_source_agent_id_idx
    ON public.market_insights (source_agent_id)
    WHERE source_agent_id IS NOT NULL;
CREATE INDEX market_insights_created_by_idx
    ON public.market_insights (created_by)
    WHERE created_by IS NOT NULL;
CREATE INDEX market_insights_reviewed_by_idx
    ON public.market_insights (reviewed_by)
    WHERE reviewed_by IS NOT NULL;

SELECT codex.protect('public.market_insights');

CREATE TRIGGER market_insights_updated_at
    BEFORE UPDATE ON public.market_insights
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


-- What went into the confidence of an insight, one row a signal.
CREATE TABLE codex.insight_signals (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    insight_id uuid NOT NULL,
    signal_id uuid NOT NULL,
    source text NOT NULL,
    confidence_score numeric NOT NULL
        CHECK (confidence_score BETWEEN 0 AND 100),
    age_days numeric NOT NULL
        CHECK (age_days >= 0 AND age_days < 'Infinity'),
    half_life_days numeric NOT NULL
        CHECK (half_life_days > 0 AND half_life_days < 'Infinity'),
    faded_confidence numeric NOT NULL
        CHECK (faded_confidence BETWEEN 0 AND 100),
    counted boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, insight_id, signal_id),
    CONSTRAINT insight_signals_insight_id_fkey FOREIGN KEY (workspace_id, insight_id)
        REFERENCES public.market_insights (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT insight_signals_signal_id_fkey FOREIGN KEY (workspace_id, signal_id)
        REFERENCES public.intelligence_signals (workspace_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE codex.insight_signals IS
    'Which signals an insight was drawn from, and what each gave to its confidence.';
COMMENT ON COLUMN codex.insight_signals.source IS
    'The independent source the signal was attributed to; only the strongest signal of a source counts.';
COMMENT ON COLUMN codex.insight_signals.faded_confidence IS
    'confidence_score * 2 ^ (-age_days / half_life_days) when the insight was made.';
COMMENT ON COLUMN codex.insight_signals.counted IS
    'Whether this was the signal that counted for its source.';

CREATE INDEX insight_signals_workspace_id_signal_id_idx
    ON codex.insight_signals (workspace_id, signal_id);

SELECT codex.protect('codex.insight_signals');
