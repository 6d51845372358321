-- 017 alerts and notifications: system_alerts, user_notifications.
-- :users is the table of users of this database; codex.migrate() and codex.migration_sql() fill it in.

CREATE TABLE public.system_alerts (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    alert_type text NOT NULL
        CHECK (alert_type IN ('performance', 'error', 'milestone', 'anomaly', 'action_required', 'opportunity')),
    severity_level text NOT NULL DEFAULT 'info'
        CHECK (severity_level IN ('critical', 'high', 'medium', 'low', 'info')),
    status text NOT NULL DEFAULT 'active'
        CHECK (status IN ('active', 'acknowledged', 'resolved', 'dismissed')),
    title text NOT NULL
        CHECK (btrim(title) <> ''),
    description text,
    message text,
    action_url text,
    triggered_by_agent_id uuid REFERENCES public.agent_registry (id) ON DELETE SET NULL,
    triggered_by_signal_id uuid,
    triggered_by_event text,
    related_campaign_id uuid,
    related_cohort_id uuid,
    related_move_id uuid,
    data_points jsonb,
    recommended_actions text[],
    created_at timestamptz DEFAULT now(),
    triggered_at timestamptz,
    acknowledged_at timestamptz,
    resolved_at timestamptz,
    expiry_date timestamptz,
    acknowledged_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    action_taken text,
    created_by uuid REFERENCES :users (id) ON DELETE SET NULL,
    updated_at timestamptz DEFAULT now(),
    dedup_key text
        CHECK (btrim(dedup_key) <> '' AND length(dedup_key) <= 200),
    occurrence_count integer NOT NULL DEFAULT 1
        CHECK (occurrence_count >= 1),
    last_seen_at timestamptz,
    CONSTRAINT system_alerts_workspace_id_id_key UNIQUE (workspace_id, id),
    CONSTRAINT system_alerts_triggered_by_signal_id_fkey FOREIGN KEY (workspace_id, triggered_by_signal_id)
        REFERENCES public.intelligence_signals (workspace_id, id) ON DELETE SET NULL (triggered_by_signal_id),
    CONSTRAINT system_alerts_related_campaign_id_fkey FOREIGN KEY (workspace_id, related_campaign_id)
        REFERENCES public.campaigns (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT system_alerts_related_cohort_id_fkey FOREIGN KEY (workspace_id, related_cohort_id)
        REFERENCES public.cohorts (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT system_alerts_related_move_id_fkey FOREIGN KEY (workspace_id, related_move_id)
        REFERENCES public.moves (workspace_id, id) ON DELETE CASCADE
) WITH (fillfactor = 90);

COMMENT ON TABLE public.system_alerts IS
    'Something the workspace has to know or act on.';
COMMENT ON COLUMN public.system_alerts.dedup_key IS
    'While an alert with this key is open (active or acknowledged), codex.create_system_alert() updates it instead of making another.';
COMMENT ON COLUMN public.system_alerts.occurrence_count IS
    'How many times the alert was raised while it was open.';
COMMENT ON COLUMN public.system_alerts.last_seen_at IS
    'When the alert was last raised.';

CREATE INDEX system_alerts_critical_idx
    ON public.system_alerts (workspace_id, severity_level, created_at DESC NULLS LAST)
    WHERE status = 'active' AND severity_level IN ('critical', 'high');
CREATE UNIQUE INDEX system_alerts_open_dedup_key
    ON public.system_alerts (workspace_id, dedup_key)
    WHERE dedup_key IS NOT NULL AND status IN ('active', 'acknowledged');
CREATE INDEX system_alerts_triggered_by_agent_id_idx
    ON public.system_alerts (triggered_by_agent_id)
    WHERE triggered_by_agent_id IS NOT NULL;
CREATE INDEX system_alerts_workspace_id_triggered_by_signal_id_idx
    ON public.system_alerts (workspace_id, triggered_by_signal_id)
    WHERE triggered_by_signal_id IS NOT NULL;
CREATE INDEX system_alerts_workspace_id_related_campaign_id_idx
    ON public.system_alerts (workspace_id, related_campaign_id)
    WHERE related_campaign_id IS NOT NULL;
CREATE INDEX system_alerts_workspace_id_related_cohort_id_idx
    ON public.system_alerts (workspace_id, related_cohort_id)
    WHERE related_cohort_id IS NOT NULL;
CREATE INDEX system_alerts_workspace_id_related_move_id_idx
    ON public.system_alerts (workspace_id, related_move_id)
    WHERE related_move_id IS NOT NULL;
CREATE INDEX system_alerts_acknowledged_by_idx
    ON public.system_alerts (acknowledged_by)
    WHERE acknowledged_by IS NOT NULL;
CREATE INDEX system_alerts_created_by_idx
    ON public.system_alerts (created_by)
    WHERE created_by IS NOT NULL;

SELECT codex.protect('public.system_alerts');

CREATE TRIGGER system_alerts_updated_at
    BEFORE UPDATE ON public.system_alerts
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();


CREATE TABLE public.user_notifications (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id) ON DELETE CASCADE,
    user_id uuid NOT NULL REFERENCES :users (id) ON DELETE CASCADE,
    notification_type text NOT NULL
        CHECK (notification_type IN ('alert', 'achievement', 'message', 'reminder', 'summary')),
    title text NOT NULL,
    message text NOT NULL,
    description text,
    related_alert_id uuid,
    related_achievement_id uuid,
    related_campaign_id uuid,
    channel text NOT NULL DEFAULT 'in_app'
        CHECK (channel IN ('in_app', 'email', 'slack', 'sms', 'push')),
    is_read boolean DEFAULT false,
    read_at timestamptz,
    delivery_status text DEFAULT 'pending'
        CHECK (delivery_status IN ('pending', 'delivered', 'failed', 'bounced')),
    delivery_method text,
    action_url text,
    action_label text,
    call_to_action text,
    priority_level text DEFAULT 'normal'
        CHECK (priority_level IN ('low', 'normal', 'high', 'urgent')),
    expires_at timestamptz,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    idempotency_key text,
    -- One check over three columns: Postgres parses every check anew for every statement that writes.
    CONSTRAINT user_notifications_texts_check CHECK (
        least(btrim(title), btrim(message), btrim(idempotency_key)) > ''
    ),
    CONSTRAINT user_notifications_related_alert_id_fkey FOREIGN KEY (workspace_id, related_alert_id)
        REFERENCES public.system_alerts (workspace_id, id) ON DELETE CASCADE,
    CONSTRAINT user_notifications_related_achievement_id_fkey FOREIGN KEY (workspace_id, related_achievement_id)
        REFERENCES public.achievements (workspace_id, id) ON DELETE SET NULL (related_achievement_id),
    CONSTRAINT user_notifications_related_campaign_id_fkey FOREIGN KEY (workspace_id, related_campaign_id)
        REFERENCES public.campaigns (workspace_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE public.user_notifications IS
    'A message to one member of the workspace. The user sees his own rows.';
COMMENT ON COLUMN public.user_notifications.idempotency_key IS
    'A second codex.send_user_notification() with this key returns the first id and writes nothing.';

CREATE INDEX user_notifications_unread_idx
    ON public.user_notifications (
        user_id,
        workspace_id,
        (CASE priority_level WHEN 'urgent' THEN 0 WHEN 'high' THEN 1 WHEN 'low' THEN 3 ELSE 2 END),
        created_at DESC NULLS LAST
    )
    WHERE NOT is_read;
CREATE UNIQUE INDEX user_notifications_idempotency_key
    ON public.user_notifications (workspace_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX user_notifications_user_id_idx
    ON public.user_notifications (user_id);
-- In place of UNIQUE (workspace_id, id), which other tables have for those that refer to them: nothing refers to a
-- notification, there are more of them than of anything else, and this index has a thirteenth of the size.
CREATE INDEX user_notifications_workspace_id_idx
    ON public.user_notifications (workspace_id);
CREATE INDEX user_notifications_workspace_id_related_alert_id_idx
    ON public.user_notifications (workspace_id, related_alert_id)
    WHERE related_alert_id IS NOT NULL;
CREATE INDEX user_notifications_workspace_id_related_achievement_id_idx
    ON public.user_notifications (workspace_id, related_achievement_id)
    WHERE related_achievement_id IS NOT NULL;
CREATE INDEX user_notifications_workspace_id_related_campaign_id_idx
    ON public.user_notifications (workspace_id, related_campaign_id)
    WHERE related_campaign_id IS NOT NULL;

SELECT codex.protect('public.user_notifications', user_column => 'user_id');

CREATE TRIGGER user_notifications_updated_at
    BEFORE UPDATE ON public.user_notifications
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();
