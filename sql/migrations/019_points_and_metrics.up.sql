-- 019 points_and_metrics: user_time_zones, metric_events, metric_totals, metric_days, achievement_metrics, points_ledger.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE TABLE codex.user_time_zones (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    time_zone text NOT NULL DEFAULT 'UTC'
        CHECK (btrim(time_zone) <> ''),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, user_id)
);

COMMENT ON TABLE codex.user_time_zones IS
    'Where a user''s day begins and ends, for windows and streaks. Without a row: UTC.';
COMMENT ON COLUMN codex.user_time_zones.time_zone IS
    'A name of pg_timezone_names, such as Europe/Berlin; a trigger sees to it.';

CREATE INDEX user_time_zones_user_id_idx
    ON codex.user_time_zones (user_id);

SELECT codex.protect('codex.user_time_zones', user_column => 'user_id');

CREATE TRIGGER user_time_zones_time_zone
    BEFORE INSERT OR UPDATE OF time_zone ON codex.user_time_zones
    FOR EACH ROW EXECUTE FUNCTION codex.check_time_zone();
CREATE TRIGGER user_time_zones_updated_at
    BEFORE UPDATE ON codex.user_time_zones
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE codex.metric_events (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    metric text NOT NULL
        CHECK (btrim(metric) <> '' AND length(metric) <= 100),
    event_id text NOT NULL
        CHECK (btrim(event_id) <> '' AND length(event_id) <= 200),
    value numeric(20, 6) NOT NULL
        CHECK (value >= 0 AND value <= 1000000000000),
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    unlocked jsonb,
    PRIMARY KEY (workspace_id, user_id, metric, event_id)
);

COMMENT ON TABLE codex.metric_events IS
    'What was recorded, so that it counts once. Kept for raptorflow_codex.keep_metric_events_days; what it added to totals and days stays.';
COMMENT ON COLUMN codex.metric_events.event_id IS
    'The caller''s own. One event counts once for a user and a metric.';
COMMENT ON COLUMN codex.metric_events.unlocked IS
    'What the call answered, where it unlocked something: a retry is answered the same.';

CREATE INDEX metric_events_user_id_idx
    ON codex.metric_events (user_id);
CREATE INDEX metric_events_recorded_at_idx
    ON codex.metric_events (recorded_at);

SELECT codex.protect('codex.metric_events', user_column => 'user_id', user_writes => false);


CREATE TABLE codex.metric_totals (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    metric text NOT NULL
        CHECK (btrim(metric) <> '' AND length(metric) <= 100),
    events bigint NOT NULL
        CHECK (events >= 1),
    total numeric NOT NULL
        CHECK (total >= 0 AND total < 'Infinity'),
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, user_id, metric),
    CONSTRAINT metric_totals_times_check CHECK (last_at >= first_at)
) WITH (fillfactor = 80);

COMMENT ON TABLE codex.metric_totals IS
    'What all events of a user and metric come to.';
COMMENT ON COLUMN codex.metric_totals.last_at IS
    'The latest occurred_at, which need not be the one recorded last.';

CREATE INDEX metric_totals_user_id_idx
    ON codex.metric_totals (user_id);

SELECT codex.protect('codex.metric_totals', user_column => 'user_id', user_writes => false);


CREATE TABLE codex.metric_days (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    metric text NOT NULL
        CHECK (btrim(metric) <> '' AND length(metric) <= 100),
    day date NOT NULL
        CHECK (isfinite(day)),
    events bigint NOT NULL
        CHECK (events >= 1),
    total numeric NOT NULL
        CHECK (total >= 0 AND total < 'Infinity'),
    PRIMARY KEY (workspace_id, user_id, metric, day)
) WITH (fillfactor = 80);

COMMENT ON TABLE codex.metric_days IS
    'What the events of a user and metric come to on one day, for windows and streaks. Kept for raptorflow_codex.keep_metric_days.';
COMMENT ON COLUMN codex.metric_days.day IS
    'The day in the time zone that the user had when the event was recorded.';

CREATE INDEX metric_days_user_id_idx
    ON codex.metric_days (user_id);
CREATE INDEX metric_days_day_idx
    ON codex.metric_days (day);

SELECT codex.protect('codex.metric_days', user_column => 'user_id', user_writes => false);


CREATE TABLE codex.achievement_metrics (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    metric text NOT NULL
        CHECK (btrim(metric) <> '' AND length(metric) <= 100),
    achievement_id uuid NOT NULL,
    PRIMARY KEY (workspace_id, metric, achievement_id),
    CONSTRAINT achievement_metrics_achievement_id_fkey FOREIGN KEY (workspace_id, achievement_id)
        REFERENCES public.achievements (workspace_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE codex.achievement_metrics IS
    'Which active achievements depend on a metric. Kept by a trigger on public.achievements.';

CREATE INDEX achievement_metrics_achievement_id_idx
    ON codex.achievement_metrics (workspace_id, achievement_id);

SELECT codex.protect('codex.achievement_metrics');

-- Named so that it comes before the other triggers: what is refused costs nothing.
CREATE TRIGGER achievements_a_rule
    BEFORE INSERT OR UPDATE OF condition_type, condition_value ON public.achievements
    FOR EACH ROW EXECUTE FUNCTION codex.check_achievement_rule();
CREATE TRIGGER achievements_metrics
    AFTER INSERT OR UPDATE OF condition_type, condition_value, is_active ON public.achievements
    FOR EACH ROW EXECUTE FUNCTION codex.keep_achievement_metrics();

-- What is there already and does not fit has no metrics: it stays as it is, and is never unlocked by an event.
INSERT INTO codex.achievement_metrics (workspace_id, metric, achievement_id)
SELECT a.workspace_id, m.metric, a.id
FROM public.achievements AS a
CROSS JOIN LATERAL pg_catalog.unnest(codex.rule_metrics(a.condition_type, a.condition_value)) AS m (metric)
WHERE a.is_active;


-- Whoever is paying at this moment is waited for, and whoever comes later finds the ledger.
-- (In a block, since psql may run this file statement by statement.)
DO $$ BEGIN LOCK TABLE public.user_stats IN EXCLUSIVE MODE; END $$;

CREATE TABLE codex.points_ledger (
    id uuid NOT NULL DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    kind text NOT NULL DEFAULT 'adjustment',
    points integer NOT NULL
        CHECK (points <> 0 AND points > -2147483648),
    achievement_id uuid,
    reason text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, user_id, id),
    CONSTRAINT points_ledger_kind_check CHECK (
        CASE kind
            WHEN 'opening' THEN points > 0 AND achievement_id IS NULL
            WHEN 'achievement' THEN points > 0 AND achievement_id IS NOT NULL
            WHEN 'adjustment' THEN achievement_id IS NULL AND btrim(reason) <> ''
            ELSE false
        END
    )
);

COMMENT ON TABLE codex.points_ledger IS
    'Every change of a user''s points, append-only: user_stats.total_points is its sum. Nobody changes or deletes an entry; it goes with its user or workspace.';
COMMENT ON COLUMN codex.points_ledger.kind IS
    'opening: what the user had when the ledger was made. achievement: an unlock. adjustment: by hand, with a reason.';
COMMENT ON COLUMN codex.points_ledger.achievement_id IS
    'No foreign key: what was paid stays paid when the achievement is deleted.';
COMMENT ON COLUMN codex.points_ledger.reason IS
    'Of an achievement: what it was unlocked by. Of an adjustment: why.';

CREATE INDEX points_ledger_created_at_idx
    ON codex.points_ledger (workspace_id, created_at) INCLUDE (user_id, points);
CREATE INDEX points_ledger_user_id_idx
    ON codex.points_ledger (user_id);

SELECT codex.protect('codex.points_ledger', user_column => 'user_id', user_writes => false);

INSERT INTO codex.points_ledger (workspace_id, user_id, kind, points, reason)
SELECT s.workspace_id, s.user_id, 'opening', s.total_points, 'earned before the ledger was made'
FROM public.user_stats AS s
WHERE s.total_points > 0;

CREATE TRIGGER points_ledger_append_only
    BEFORE UPDATE OR DELETE ON codex.points_ledger
    FOR EACH ROW EXECUTE FUNCTION codex.refuse_ledger_change();
CREATE TRIGGER points_ledger_no_truncate
    BEFORE TRUNCATE ON codex.points_ledger
    FOR EACH STATEMENT EXECUTE FUNCTION codex.refuse_ledger_change();
