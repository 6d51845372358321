//! A database with something in every table, made through the functions where there is one.

use codex_pg_test::postgres::Client;

/// Three workspaces with four members each and a piece of everything: run by the owner of the tables.
const STORY: &str = "
INSERT INTO public.users (id, email, full_name)
SELECT md5('user ' || n)::uuid, 'user' || n || '@example.com', 'User ' || n
FROM generate_series(1, 12) AS n;
INSERT INTO public.workspaces (id, name)
SELECT md5('workspace ' || n)::uuid, 'Workspace ' || n
FROM generate_series(1, 3) AS n;
INSERT INTO public.workspace_members (workspace_id, user_id, role)
SELECT md5('workspace ' || (n % 3 + 1))::uuid, md5('user ' || n)::uuid, CASE WHEN n <= 3 THEN 'owner' ELSE 'member' END
FROM generate_series(1, 12) AS n;
INSERT INTO public.cohorts (workspace_id, name)
SELECT w.id, 'Cohort ' || n
FROM public.workspaces AS w, generate_series(1, 3) AS n;
INSERT INTO public.moves (workspace_id, name)
SELECT w.id, 'Move ' || n
FROM public.workspaces AS w, generate_series(1, 3) AS n;

INSERT INTO public.positioning (workspace_id, name, market_segment, target_pain_points)
SELECT w.id, 'Position of ' || w.name, E'tabs\\t, \"quotes\", back\\\\slashes and\\nlines', ARRAY['a', NULL, 'NULL', '']
FROM public.workspaces AS w;
INSERT INTO public.message_architecture (workspace_id, name, primary_message, positioning_id)
SELECT p.workspace_id, 'Messages', 'Überall 🧭', p.id
FROM public.positioning AS p;
INSERT INTO public.campaigns (workspace_id, name, status, positioning_id, start_date, end_date, budget_allocation, resource_allocation)
SELECT w.id, 'Campaign ' || n, CASE WHEN n % 2 = 0 THEN 'active' ELSE 'draft' END, p.id, '2024-02-29', 'infinity',
       1e-20 * n, '{\"people\": [1, null, 1e-7]}'
FROM public.workspaces AS w
JOIN public.positioning AS p ON p.workspace_id = w.id, generate_series(1, 5) AS n;
-- A tree of quests, five deep.
DO $$
BEGIN
    FOR level IN 1..5 LOOP
        INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, quest_order, parent_quest_id)
        SELECT c.workspace_id, c.id, 'Quest', level,
               (SELECT q.id FROM public.campaign_quests AS q WHERE q.campaign_id = c.id AND q.quest_order = level - 1)
        FROM public.campaigns AS c;
    END LOOP;
END $$;
INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id, allocation_percentage)
SELECT c.workspace_id, c.id, h.id, 33.333
FROM public.campaigns AS c
JOIN public.cohorts AS h ON h.workspace_id = c.workspace_id;

INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type, points_reward, badge_unlocks)
SELECT w.id, 'Achievement ' || n, 'milestone', 'count', 100 * n, ARRAY['badge ' || n]
FROM public.workspaces AS w, generate_series(1, 4) AS n;
UPDATE public.achievements AS a
SET required_previous_achievement_id = b.id
FROM public.achievements AS b
WHERE b.workspace_id = a.workspace_id
  AND a.name = 'Achievement 4'
  AND b.name = 'Achievement 1';
SELECT codex.unlock_achievement(m.user_id, a.id, m.workspace_id)
FROM public.workspace_members AS m
JOIN public.achievements AS a ON a.workspace_id = m.workspace_id
WHERE a.name <> 'Achievement 3'
ORDER BY m.user_id, a.name;

INSERT INTO public.agent_registry (agent_name, agent_type)
SELECT 'Agent ' || n, 'researcher'
FROM generate_series(1, 3) AS n;
INSERT INTO public.agent_capabilities (agent_id, capability_name, category)
SELECT a.id, 'reads', 'research'
FROM public.agent_registry AS a;
INSERT INTO public.agent_assignments (workspace_id, agent_id, assigned_to_campaign_id)
SELECT c.workspace_id, a.id, c.id
FROM public.campaigns AS c, public.agent_registry AS a;
SELECT codex.record_agent_execution(
           w.id, a.id, n * 1.75, n * 1000, n, 0.000123 * n, n % 7 > 0,
           p_execution_id => md5(concat(w.id, a.id, n))::uuid,
           p_executed_at => timestamptz '2025-03-30 00:30 UTC' + n * interval '25 minutes')
FROM public.workspaces AS w, public.agent_registry AS a, generate_series(1, 40) AS n;

INSERT INTO public.intelligence_signals (workspace_id, source_type, signal_title, signal_category, confidence_score, data_source)
SELECT w.id, 'market', 'Signal ' || n, 'market_trend', 50 + n, 'source ' || n % 4
FROM public.workspaces AS w, generate_series(1, 12) AS n;
SELECT codex.create_insight_from_signals(
           w.id, ARRAY(SELECT s.id FROM public.intelligence_signals AS s WHERE s.workspace_id = w.id ORDER BY s.signal_title LIMIT 8),
           'Insight', 'trend', ARRAY['So it is'], NULL)
FROM public.workspaces AS w;
SELECT codex.create_system_alert(w.id, 'anomaly', 'high', 'Alert ' || n, 'Described', p_dedup_key => 'key ' || n % 3)
FROM public.workspaces AS w, generate_series(1, 7) AS n;
SELECT codex.create_system_alert(
           c.workspace_id, 'error', 'critical', 'Alert of a campaign', 'Described', p_campaign_id => c.id,
           p_data_points => '{\"a\": \"\\u00e9\"}')
FROM public.campaigns AS c;
SELECT codex.acknowledge_alert(s.id, m.user_id)
FROM public.system_alerts AS s
JOIN public.workspace_members AS m ON m.workspace_id = s.workspace_id AND m.role = 'owner'
WHERE s.severity_level = 'critical';
SELECT codex.send_user_notifications(
           s.workspace_id, ARRAY(SELECT m.user_id FROM public.workspace_members AS m WHERE m.workspace_id = s.workspace_id),
           'alert', s.title, 'Look', p_alert_id => s.id)
FROM public.system_alerts AS s;
SELECT codex.send_user_notification(m.workspace_id, m.user_id, 'message', 'Hello', 'You', p_idempotency_key => 'hello ' || m.user_id)
FROM public.workspace_members AS m;
SELECT codex.mark_notification_as_read(n.id)
FROM public.user_notifications AS n
WHERE n.title = 'Hello';
-- So that a trigger that runs once more than it should shows in what it writes.
UPDATE public.campaign_quests SET status = 'in_progress' WHERE quest_order = 2;
UPDATE public.user_stats SET moves_executed = 3, moves_successful = 2;
";

/// What the engines add to it: something in every table that they keep, through their functions.
const ENGINES: &str = "
SELECT codex.set_agent_budget(w.id, 'month', NULL, 1000000, 100)
FROM public.workspaces AS w;
SELECT codex.enqueue_agent_task(a.workspace_id, a.id, 'write', '{\"a\": [1, null]}', idempotency_key => 'task of ' || a.id)
FROM public.agent_assignments AS a;
SELECT codex.claim_agent_tasks('worker', 5);
SELECT codex.reserve_agent_budget(w.id, a.id, 10, 0.1, idempotency_key => 'reserved ' || a.id)
FROM public.workspaces AS w, public.agent_registry AS a;
SELECT codex.silence_alerts(w.id, 'Planned', now() + interval '1 day', dedup_glob => 'planned*')
FROM public.workspaces AS w;
SELECT codex.ingest_signal(w.id, 'market', 'Ingested ' || n % 4, 'market_trend', 'source ' || n, confidence => 60 + n)
FROM public.workspaces AS w, generate_series(1, 8) AS n;
SELECT codex.refresh_insights(w.id)
FROM public.workspaces AS w;
SELECT codex.record_metric_event(m.workspace_id, m.user_id, 'moves_executed', n, 'event ' || n)
FROM public.workspace_members AS m, generate_series(1, 3) AS n;
SELECT codex.adjust_points(m.workspace_id, m.user_id, 5, 'A present')
FROM public.workspace_members AS m;
SELECT codex.set_user_time_zone(m.workspace_id, m.user_id, 'Pacific/Auckland')
FROM public.workspace_members AS m;
SELECT codex.set_quiet_hours(m.workspace_id, m.user_id, '22:00', '07:00', 'Europe/Berlin')
FROM public.workspace_members AS m
WHERE m.role = 'owner';
SELECT codex.set_notification_preference(m.workspace_id, m.user_id, 'sms', false)
FROM public.workspace_members AS m;
SELECT codex.add_to_digest(m.workspace_id, m.user_id, 'daily', 'Item ' || n, 'Of the day')
FROM public.workspace_members AS m, generate_series(1, 2) AS n;
SELECT codex.send_user_notification(m.workspace_id, m.user_id, 'summary', 'By mail', 'Dear ' || n, 'email')
FROM public.workspace_members AS m, generate_series(1, 3) AS n
WHERE m.role = 'member';
SELECT codex.claim_notifications('email', 'worker', 3);
UPDATE public.campaigns SET allocated_budget_amount = 100 WHERE name <> 'Campaign 1';
SELECT codex.spend_campaign_budget(c.id, 1e-21, 'Posters')
FROM public.campaigns AS c
WHERE c.name <> 'Campaign 1';
SELECT codex.transition_campaign(c.id, 'paused', reason => 'Holidays')
FROM public.campaigns AS c
WHERE c.status = 'active'
  AND c.name = 'Campaign 2';
SELECT codex.run_maintenance();
";

/// What people add to such a database: columns, indexes, policies, triggers, foreign keys and tables of their own.
const ADDITIONS: &str = "
CREATE SCHEMA app;
ALTER TABLE public.campaigns
    ADD COLUMN utm_source text DEFAULT 'direct' CHECK (utm_source <> ''),
    ADD COLUMN budget_in_cents numeric GENERATED ALWAYS AS (budget_allocation * 100) STORED,
    ADD COLUMN external_id uuid DEFAULT codex.uuid_v7() UNIQUE,
    ADD COLUMN predecessor_id uuid REFERENCES public.campaigns (id) DEFERRABLE INITIALLY DEFERRED;
CREATE UNIQUE INDEX campaigns_name_lower_key
    ON public.campaigns (workspace_id, lower(name));
CREATE INDEX app_alerts_data_points_idx
    ON public.system_alerts USING gin (data_points);
ALTER TABLE public.campaigns ALTER COLUMN name SET STATISTICS 500;
CREATE STATISTICS app.campaign_dates (dependencies) ON start_date, end_date FROM public.campaigns;
CREATE POLICY campaigns_only_members_delete
    ON public.campaigns
    AS RESTRICTIVE
    FOR DELETE
    USING (
        CASE
            WHEN (SELECT codex.current_user_id()) IS NULL THEN (SELECT codex.acts_for_workspace())
            ELSE codex.is_workspace_member(workspace_id, (SELECT codex.current_user_id()))
        END
    );
CREATE POLICY signals_of_services
    ON public.intelligence_signals
    AS RESTRICTIVE
    FOR DELETE
    USING ((SELECT codex.acts_for_workspace()));

SET CONSTRAINTS ALL IMMEDIATE;
UPDATE public.campaigns AS c
SET predecessor_id = p.id
FROM public.campaigns AS p
WHERE p.workspace_id = c.workspace_id
  AND p.name = 'Campaign 5';

-- A trigger that would be seen if it ran while rows are restored.
CREATE TABLE app.journal (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, what text NOT NULL);
CREATE FUNCTION app.journal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO app.journal (what) VALUES (TG_TABLE_NAME || ' ' || TG_OP || ' ' || NEW.id);
    NEW.updated_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER app_journal
    BEFORE INSERT OR UPDATE ON public.campaigns
    FOR EACH ROW EXECUTE FUNCTION app.journal();
UPDATE public.campaigns SET description = 'Seen by the journal' WHERE name = 'Campaign 1';

-- A table of theirs, which refers to one of ours and is protected as ours are.
CREATE TABLE app.notes (
    id uuid PRIMARY KEY DEFAULT codex.uuid_v7(),
    workspace_id uuid NOT NULL DEFAULT codex.current_workspace_id(),
    campaign_id uuid,
    author_id uuid REFERENCES public.users (id),
    body text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (workspace_id, campaign_id) REFERENCES public.campaigns (workspace_id, id)
        ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ON app.notes (workspace_id, campaign_id);
SELECT codex.protect('app.notes', user_column => 'author_id');
CREATE TRIGGER notes_updated_at
    BEFORE UPDATE ON app.notes
    FOR EACH ROW EXECUTE FUNCTION codex.set_updated_at();
INSERT INTO app.notes (workspace_id, campaign_id, author_id, body)
SELECT c.workspace_id, c.id, m.user_id, repeat('note ', 1000)
FROM public.campaigns AS c
JOIN public.workspace_members AS m ON m.workspace_id = c.workspace_id;

CREATE VIEW app.open_alerts WITH (security_invoker = true) AS
SELECT a.*
FROM public.system_alerts AS s, LATERAL codex.get_critical_alerts(s.workspace_id) AS a
WHERE s.id = a.id;
CREATE MATERIALIZED VIEW app.campaigns_a_workspace AS
SELECT c.workspace_id, count(*) AS campaigns
FROM public.campaigns AS c
GROUP BY 1;
CREATE UNIQUE INDEX ON app.campaigns_a_workspace (workspace_id);
SELECT codex.expose('app');
COMMENT ON COLUMN public.campaigns.utm_source IS 'Where visitors come from.';
";

/// The statements of the story.
pub fn statements() -> Vec<String> {
    codex_pg_test::script::statements(STORY)
}

/// What the engines add, statement by statement.
pub fn statements_of_the_engines() -> Vec<String> {
    codex_pg_test::script::statements(ENGINES)
}

/// Fills a migrated database; `client` is the owner of its tables.
pub fn tell(client: &mut Client) {
    client
        .batch_execute(STORY)
        .unwrap_or_else(|error| panic!("the story: {error:?}"));
}

/// Lets the engines work on it; `client` as above.
pub fn tell_of_the_engines(client: &mut Client) {
    client
        .batch_execute(ENGINES)
        .unwrap_or_else(|error| panic!("the engines: {error:?}"));
}

/// Adds what an app adds, and gives privileges to roles: `reader` gets some of its own, `member` and `service`
/// those of the Codex.
pub fn add_to_it(client: &mut Client, reader: &str, member: &str, service: &str) {
    client
        .batch_execute(&format!(
            "{ADDITIONS}
             GRANT SELECT ON public.campaigns, app.notes TO {reader};
             GRANT UPDATE (body), REFERENCES (id) ON app.notes TO {reader} WITH GRANT OPTION;
             REVOKE EXECUTE ON FUNCTION app.get_critical_alerts FROM PUBLIC;
             GRANT USAGE ON SCHEMA app TO {reader};
             SELECT codex.grant_member_role('{member}');
             SELECT codex.grant_service_role('{service}');
             ALTER TABLE public.moves ENABLE ALWAYS TRIGGER moves_updated_at;"
        ))
        .unwrap_or_else(|error| panic!("the additions: {error:?}"));
}
