-- 021 alert life: alert_life, alert_events, alert_silences, alert_policies, alert_fan_out.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE TABLE codex.alert_silences (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    alert_type text
        CHECK (alert_type IN ('performance', 'error', 'milestone', 'anomaly', 'action_required', 'opportunity')),
    severity_level text
        CHECK (severity_level IN ('critical', 'high', 'medium', 'low', 'info')),
    dedup_glob text
        CHECK (btrim(dedup_glob) <> '' AND length(dedup_glob) <= 200),
    reason text NOT NULL
        CHECK (btrim(reason) <> ''),
    starts_at timestamptz NOT NULL DEFAULT now(),
    ends_at timestamptz NOT NULL DEFAULT now() + interval '1 hour',
    lifted_at timestamptz,
    created_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT alert_silences_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT alert_silences_times_check CHECK (starts_at < ends_at)
);

COMMENT ON TABLE codex.alert_silences IS
    'For a time, alerts that match are stored and not told to anybody. NULL in a matcher matches all.';
COMMENT ON COLUMN codex.alert_silences.dedup_glob IS
    'Pattern of the dedup key: * stands for any characters, ? for one. An alert without a key does not match it.';
COMMENT ON COLUMN codex.alert_silences.lifted_at IS
    'When it was ended before its time.';

CREATE INDEX alert_silences_ends_at_idx
    ON codex.alert_silences (workspace_id, ends_at)
    WHERE lifted_at IS NULL;
CREATE INDEX alert_silences_created_by_idx
    ON codex.alert_silences (created_by)
    WHERE created_by IS NOT NULL;

SELECT codex.protect('codex.alert_silences');


CREATE TABLE codex.alert_policies (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    severity_level text NOT NULL
        CHECK (severity_level IN ('critical', 'high', 'medium', 'low', 'info')),
    acknowledge_within interval
        CHECK (acknowledge_within > interval '0'),
    resolve_within interval
        CHECK (resolve_within > interval '0'),
    max_level integer NOT NULL DEFAULT 3
        CHECK (max_level BETWEEN 0 AND 100),
    reopen_within interval
        CHECK (reopen_within > interval '0'),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, severity_level)
);

COMMENT ON TABLE codex.alert_policies IS
    'What time does to the alerts of a severity. Without a row: nothing.';
COMMENT ON COLUMN codex.alert_policies.acknowledge_within IS
    'An alert that nobody has acknowledged after this time escalates; after as much time again, once more.';
COMMENT ON COLUMN codex.alert_policies.resolve_within IS
    'An acknowledgement that has not led to a resolution after this time lapses: the alert is active again, and escalates.';
COMMENT ON COLUMN codex.alert_policies.max_level IS
    'How many times it escalates at most.';
COMMENT ON COLUMN codex.alert_policies.reopen_within IS
    'How long after it was closed an alert can be reopened (7 days without a value), and, where there is a value, how long after it was resolved an alert that is raised again with its dedup key reopens by itself.';

SELECT codex.protect('codex.alert_policies');

CREATE TRIGGER alert_policies_updated_at
    BEFORE UPDATE ON codex.alert_policies
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE codex.alert_fan_out (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    severity_level text NOT NULL
        CHECK (severity_level IN ('critical', 'high', 'medium', 'low', 'info')),
    from_level integer NOT NULL DEFAULT 0
        CHECK (from_level BETWEEN 0 AND 100),
    user_id uuid REFERENCES :users (id) ON DELETE CASCADE,
    channel text NOT NULL DEFAULT 'in_app'
        CHECK (channel IN ('in_app', 'email', 'slack', 'sms', 'push')),
    CONSTRAINT alert_fan_out_rule_key UNIQUE NULLS NOT DISTINCT (workspace_id, severity_level, channel, user_id)
);

COMMENT ON TABLE codex.alert_fan_out IS
    'Who is told of the alerts of a severity, and by which channel.';
COMMENT ON COLUMN codex.alert_fan_out.from_level IS
    'Told from this level of escalation on; 0 is when the alert opens.';
COMMENT ON COLUMN codex.alert_fan_out.user_id IS
    'NULL: every member of the workspace. Who is not a member is not told.';

CREATE INDEX alert_fan_out_user_id_idx
    ON codex.alert_fan_out (user_id)
    WHERE user_id IS NOT NULL;

SELECT codex.protect('codex.alert_fan_out');


-- No foreign key to the alert: the triggers below make the row and take it away.
CREATE TABLE codex.alert_life (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    alert_id uuid NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    escalation_level integer NOT NULL DEFAULT 0
        CHECK (escalation_level >= 0),
    due_at timestamptz,
    silenced_by uuid,
    PRIMARY KEY (workspace_id, alert_id),
    CONSTRAINT alert_life_silenced_by_fkey FOREIGN KEY (workspace_id, silenced_by)
        REFERENCES codex.alert_silences (workspace_id, id) ON DELETE SET NULL (silenced_by)
);

COMMENT ON TABLE codex.alert_life IS
    'What the engine knows of an alert beside its row: one row an alert, written by triggers as the owner of this table.';
COMMENT ON COLUMN codex.alert_life.opened_at IS
    'When it was opened, or reopened last.';
COMMENT ON COLUMN codex.alert_life.due_at IS
    'When codex.upkeep_alerts() has to look at it: to escalate it, or because a silence is over. NULL: never.';
COMMENT ON COLUMN codex.alert_life.silenced_by IS
    'The silence that keeps it from being told.';

CREATE INDEX alert_life_due_at_idx
    ON codex.alert_life (due_at)
    WHERE due_at IS NOT NULL;
CREATE INDEX alert_life_open_idx
    ON codex.alert_life (workspace_id)
    WHERE closed_at IS NULL;
-- For retention.
CREATE INDEX alert_life_closed_at_idx
    ON codex.alert_life (closed_at)
    WHERE closed_at IS NOT NULL;
CREATE INDEX alert_life_silenced_by_idx
    ON codex.alert_life (workspace_id, silenced_by)
    WHERE silenced_by IS NOT NULL;

SELECT codex.protect('codex.alert_life');


-- Nor here: what happened to an alert stays known when it is deleted.
CREATE TABLE codex.alert_events (
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    alert_id uuid NOT NULL,
    position integer NOT NULL
        CHECK (position >= 1),
    event text NOT NULL
        CHECK (event IN (
            'opened', 'acknowledged', 'unacknowledged', 'resolved', 'dismissed', 'expired', 'reopened',
            'severity_changed', 'escalated', 'silenced', 'unsilenced', 'deleted'
        )),
    from_status text,
    to_status text,
    severity_level text,
    escalation_level integer,
    user_id uuid REFERENCES :users (id) ON DELETE SET NULL,
    database_role text NOT NULL DEFAULT current_user,
    note text,
    occurred_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, alert_id, position)
);

COMMENT ON TABLE codex.alert_events IS
    'What happened to an alert, in order. Rows are added by triggers as the owner of this table, and never changed: nobody else may write them.';
COMMENT ON COLUMN codex.alert_events.position IS
    'From 1 on, without a gap.';
COMMENT ON COLUMN codex.alert_events.user_id IS
    'Who did it, where that is known: the user that a function was told, else the user of the transaction.';
COMMENT ON COLUMN codex.alert_events.database_role IS
    'The role that the session worked as.';

CREATE INDEX alert_events_opened_idx
    ON codex.alert_events (workspace_id, occurred_at)
    WHERE event IN ('opened', 'reopened');
CREATE INDEX alert_events_user_id_idx
    ON codex.alert_events (user_id)
    WHERE user_id IS NOT NULL;

SELECT codex.protect('codex.alert_events');


-- What is known of the alerts that are there.
INSERT INTO codex.alert_life (workspace_id, alert_id, opened_at, closed_at)
SELECT
    a.workspace_id,
    a.id,
    coalesce(a.triggered_at, a.created_at, now()),
    CASE WHEN a.status IN ('resolved', 'dismissed') THEN coalesce(a.resolved_at, a.updated_at, now()) END
FROM public.system_alerts AS a;

INSERT INTO codex.alert_events (
    workspace_id, alert_id, position, event, from_status, to_status, severity_level, user_id, note, occurred_at
)
SELECT
    a.workspace_id,
    a.id,
    row_number() OVER (PARTITION BY a.id ORDER BY e.place)::integer,
    e.event,
    e.from_status,
    e.to_status,
    a.severity_level,
    e.user_id,
    e.note,
    e.occurred_at
FROM public.system_alerts AS a
CROSS JOIN LATERAL (
    VALUES
        (1, 'opened', NULL, 'active', coalesce(a.triggered_at, a.created_at, now()), a.created_by, NULL),
        (2, 'acknowledged', 'active', 'acknowledged', a.acknowledged_at, a.acknowledged_by, NULL),
        (3, 'resolved', 'acknowledged', 'resolved', CASE WHEN a.status = 'resolved' THEN coalesce(a.resolved_at, a.updated_at, now()) END, NULL, a.action_taken),
        (4, 'dismissed', 'acknowledged', 'dismissed', CASE WHEN a.status = 'dismissed' THEN coalesce(a.updated_at, now()) END, NULL, a.action_taken)
) AS e (place, event, from_status, to_status, occurred_at, user_id, note)
WHERE e.occurred_at IS NOT NULL;


CREATE INDEX system_alerts_open_expiry_idx
    ON public.system_alerts (expiry_date)
    WHERE expiry_date IS NOT NULL AND status IN ('active', 'acknowledged');
CREATE INDEX system_alerts_resolved_dedup_idx
    ON public.system_alerts (workspace_id, dedup_key, resolved_at)
    WHERE dedup_key IS NOT NULL AND status = 'resolved';

CREATE TRIGGER system_alerts_opened
    AFTER INSERT OR DELETE ON public.system_alerts
    FOR EACH ROW EXECUTE FUNCTION codex.follow_alert();
CREATE TRIGGER system_alerts_changed
    AFTER UPDATE ON public.system_alerts
    FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR OLD.severity_level IS DISTINCT FROM NEW.severity_level)
    EXECUTE FUNCTION codex.follow_alert();
