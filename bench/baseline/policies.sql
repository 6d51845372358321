-- Row-level security as it is written by hand: the setting, cast, in every policy.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'campaigns', 'campaign_quests', 'achievements', 'user_achievements', 'user_stats', 'agent_assignments',
        'agent_performance', 'intelligence_signals', 'market_insights', 'system_alerts', 'user_notifications'
    ] LOOP
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY %I ON public.%I USING (workspace_id = current_setting(''app.current_workspace_id'')::uuid)',
            name || '_workspace_isolation', name
        );
    END LOOP;
END $$;

GRANT USAGE ON SCHEMA public TO bench_baseline;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO bench_baseline;
