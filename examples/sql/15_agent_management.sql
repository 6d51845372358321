-- Workflow 5: an agent is put to work, its executions are recorded, its performance is read.
\ir lib/begin.sql

\echo
\echo '━━━ 5. Agent management ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
\connect - :member
\echo 'Anna looks for an agent that writes mails, and puts it to work for the whole workspace:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
SELECT r.agent_name AS agent, r.guild_name AS guild, c.capability_name AS capability, c.typical_token_usage AS tokens, c.typical_cost AS cost
FROM public.agent_registry AS r
JOIN public.agent_capabilities AS c ON c.agent_id = r.id
WHERE r.is_active AND c.is_enabled AND c.capability_name LIKE 'Write m%'
ORDER BY r.agent_name;
INSERT INTO public.agent_assignments (workspace_id, agent_id, priority_level, assigned_by)
VALUES (:'alpenglow', :'email_persuader', 'high', :'anna');
COMMIT;

\echo 'The registry is shared by all workspaces; only its operator changes it:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
\set ON_ERROR_STOP off
UPDATE public.agent_registry SET is_active = false;
\ir lib/refused.sql
ROLLBACK;

\connect - :service
\echo
\echo 'The agent runs 500 times in the last three hours, and the backend records each. Every tenth call is retried by a'
\echo 'nervous queue with the same execution id, which counts once; every 25th execution fails.'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow') \gset
DO $$
DECLARE
    alpenglow constant uuid := md5('workspace:Alpenglow Outdoor');
    email_persuader constant uuid := md5('agent:MUS-004');
    campaign constant uuid := md5('campaign:Pack Light Summer');
BEGIN
    FOR n IN 1..500 LOOP
        FOR try IN 1..CASE WHEN n % 10 = 0 THEN 2 ELSE 1 END LOOP
            PERFORM codex.record_agent_execution(
                alpenglow, email_persuader,
                -- Most take one to five seconds, a few up to a minute.
                round((1 + (n * 7919 % 400) / 100.0 + CASE WHEN n % 50 = 0 THEN 30 + n % 23 ELSE 0 END)::numeric, 2),
                900 + n % 300, 400 + n % 150, round((0.012 + (n % 7) * 0.001)::numeric, 4), n % 25 <> 0,
                p_campaign_id => campaign,
                p_execution_id => md5('execution:' || n)::uuid,
                p_executed_at => date_trunc('hour', now()) - (n % 3) * interval '1 hour');
        END LOOP;
    END LOOP;
END $$;

\echo 'Kept as one row an hour (UTC), with percentiles:'
SELECT p.measurement_date AS day, p.measurement_hour AS hour, p.execution_count AS executions, p.failure_count AS failed,
       round(p.avg_execution_time_seconds, 2) AS "avg s", round(p.p50_execution_time_seconds, 2) AS "p50 s",
       round(p.p95_execution_time_seconds, 2) AS "p95 s", round(p.p99_execution_time_seconds, 2) AS "p99 s",
       p.total_input_tokens + p.total_output_tokens AS tokens, p.total_cost_incurred AS cost
FROM public.agent_performance AS p
WHERE p.agent_id = :'email_persuader'
ORDER BY p.measurement_date, p.measurement_hour;

\echo 'Over any time, by merging the hours'' sketches; a percentile is never an average of percentiles:'
SELECT r.agent_name AS agent, s.executions, round(s.success_rate, 1) AS "success %", round(s.p50::numeric, 2) AS "p50 s",
       round(s.p95::numeric, 2) AS "p95 s", round(s.p99::numeric, 2) AS "p99 s", s.tokens, s.cost
FROM codex.agent_performance_summary(:'alpenglow', NULL, now() - interval '1 day', now() + interval '1 hour') AS s
JOIN public.agent_registry AS r ON r.id = s.agent_id;

\echo 'The work is credited to the campaign''s assignment, and to that one only:'
SELECT coalesce(c.name, 'the whole workspace') AS assignment_of, a.tasks_completed AS completed, a.tasks_failed AS failed, a.total_tokens_used AS tokens, a.total_cost_incurred AS cost
FROM public.agent_assignments AS a
LEFT JOIN public.campaigns AS c ON (c.workspace_id, c.id) = (a.workspace_id, a.assigned_to_campaign_id)
WHERE a.agent_id = :'email_persuader'
ORDER BY c.name NULLS LAST;
COMMIT;
