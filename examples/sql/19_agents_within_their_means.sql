-- Agents within their means: a queue of tasks, and budgets.
\ir lib/begin.sql

\echo
\echo '━━━ 9. Agents within their means ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
SELECT current_user AS owner \gset
\connect - :member
\echo 'Anna looks for somebody who writes mails:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
SELECT agent_name AS agent, capability_name AS capability, typical_tokens AS tokens, typical_cost AS cost
FROM codex.find_agents('write mail');
COMMIT;

\connect - :service
BEGIN;
SELECT codex.enter_workspace(:'alpenglow') \gset
\echo 'The agent may use 20000 tokens a day, all agents together 5.00 a month. Five mails are to be written, one is urgent:'
SELECT codex.set_agent_budget(:'alpenglow', 'day', :'email_persuader', token_limit => 20000) IS NOT NULL AS "a day",
       codex.set_agent_budget(:'alpenglow', 'month', cost_limit => 5) IS NOT NULL AS "a month";
SELECT count(codex.enqueue_agent_task(
           :'alpenglow', md5('assignment:Pack Light Summer/MUS-004')::uuid, 'write mail', jsonb_build_object('mail', n),
           priority => CASE n WHEN 4 THEN 'critical' ELSE 'normal' END, idempotency_key => 'summer-mail-' || n)) AS queued
FROM generate_series(1, 5) AS n;

\echo 'A worker takes three, the urgent one first. Another gets others; nobody gets the same:'
CREATE TEMP TABLE first ON COMMIT DROP AS
SELECT * FROM codex.claim_agent_tasks('writer-1', 3, '5 minutes', :'email_persuader');
CREATE TEMP TABLE second ON COMMIT DROP AS
SELECT * FROM codex.claim_agent_tasks('writer-2', 3, '5 minutes', :'email_persuader');
SELECT 'writer-1' AS worker, payload ->> 'mail' AS mail, priority, attempt FROM first
UNION ALL
SELECT 'writer-2', payload ->> 'mail', priority, attempt FROM second
ORDER BY worker, priority, mail;

\echo 'Each reserves 8000 tokens before it begins. The third does not fit into the day any more:'
CREATE TEMP TABLE reservation ON COMMIT DROP AS
SELECT c.task_id, c.lease_token, c.payload ->> 'mail' AS mail, r.*
FROM (SELECT * FROM first ORDER BY priority, payload ->> 'mail') AS c
CROSS JOIN LATERAL codex.reserve_agent_budget(
    :'alpenglow', :'email_persuader', 8000, 0.05, idempotency_key => c.lease_token::text) AS r;
SELECT mail, reservation_id IS NOT NULL AS granted, tokens_left, resets_at IS NOT NULL AS "opens again"
FROM reservation;

\echo 'Two mails get written, and come to less. The third waits until the budget opens; the attempt is not forgotten:'
SELECT count(codex.settle_agent_budget(:'alpenglow', reservation_id, 5500, 0.03)) AS settled,
       count(codex.complete_agent_task(:'alpenglow', task_id, lease_token, '{"words": 140}')) AS completed
FROM reservation
WHERE reservation_id IS NOT NULL;
SELECT codex.fail_agent_task(:'alpenglow', task_id, lease_token, 'the budget is used up', retry_after => resets_at - now()) >= resets_at AS "waits until it opens"
FROM reservation
WHERE reservation_id IS NULL;
SELECT coalesce(a.agent_name, 'all agents') AS budget_of, s.period, s.token_limit, s.tokens_used, s.tokens_reserved, s.cost_limit, s.cost_used
FROM codex.agent_budget_status(:'alpenglow') AS s
LEFT JOIN public.agent_registry AS a ON a.id = s.budget_agent_id;
\echo 'At 80 % somebody was told, once:'
SELECT severity_level AS severity, title, description, occurrence_count AS times
FROM public.system_alerts
WHERE dedup_key LIKE 'agent-budget:%';

\echo 'A worker is gone: its lease runs out, and when it comes back its word does not count any more.'
COMMIT;

\connect - :owner
UPDATE codex.agent_tasks SET due_at = now() - interval '1 second' WHERE worker = 'writer-2' AND status = 'leased';
SELECT lease_token AS stale, id AS task FROM codex.agent_tasks WHERE worker = 'writer-2' AND status = 'leased' ORDER BY id LIMIT 1 \gset
SELECT done, rows FROM codex.upkeep_agents() WHERE rows > 0;
\set ON_ERROR_STOP off
SELECT codex.complete_agent_task(:'alpenglow', :'task', :'stale');
\ir lib/refused.sql
SELECT payload ->> 'mail' AS mail, status, attempts, last_error
FROM codex.agent_tasks
WHERE workspace_id = :'alpenglow'
ORDER BY mail;
