-- A campaign that goes its way by steps, with others at it at the same time.
\ir lib/begin.sql

\echo
\echo '━━━ 10. The life of a campaign ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
\connect - :member
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
\echo 'Anna has an idea. What it can become, and what it lacks for the step after that:'
INSERT INTO public.campaigns (workspace_id, name, created_by)
VALUES (:'alpenglow', 'Night Hikes', :'anna')
RETURNING id AS night_hikes \gset
SELECT previous_status, status, version
FROM codex.transition_campaign(:'night_hikes', 'planning', :'anna', 'The board likes it', expected_version => 1);
SELECT to_status, allowed, missing FROM codex.campaign_transitions(:'night_hikes');

UPDATE public.campaigns
SET start_date = current_date, end_date = current_date + 30, allocated_budget_amount = 1000
WHERE id = :'night_hikes';
INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, quest_order)
VALUES (:'alpenglow', :'night_hikes', 'Find guides', 1) RETURNING id AS guides \gset
INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, quest_order)
VALUES (:'alpenglow', :'night_hikes', 'Order headlamps', 2) RETURNING id AS headlamps \gset
INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, quest_order, parent_quest_id)
VALUES
    (:'alpenglow', :'night_hikes', 'Ask the alpine club', 3, :'guides'),
    (:'alpenglow', :'night_hikes', 'Train them', 4, :'guides');
SELECT status, version FROM codex.transition_campaign(:'night_hikes', 'active', :'anna', expected_version => 2);
COMMIT;

BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'tomas') \gset
\echo 'Tomas has seen version 2, and is too late; a quest cannot hang below its own part:'
SAVEPOINT before;
\set ON_ERROR_STOP off
SELECT codex.transition_campaign(:'night_hikes', 'paused', :'tomas', 'Too early', expected_version => 2);
\ir lib/refused.sql
ROLLBACK TO before;
SELECT id AS train FROM public.campaign_quests WHERE campaign_id = :'night_hikes' AND quest_order = 4 \gset
\set ON_ERROR_STOP off
SELECT codex.reparent_quest(:'guides', :'train');
\ir lib/refused.sql
ROLLBACK TO before;
\echo 'Headlamps become a part of the guides'' quest. Of three leaves one is done:'
SELECT codex.reparent_quest(:'headlamps', parent => :'guides') \gset
UPDATE public.campaign_quests SET status = 'completed' WHERE id = :'headlamps';
SELECT codex.campaign_progress(:'night_hikes') AS percent;
\echo 'Two cohorts with 55 percent each would be 110 in all:'
SAVEPOINT before_shares;
\set ON_ERROR_STOP off
INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id, allocation_percentage)
SELECT c.workspace_id, :'night_hikes', c.id, 55 FROM public.cohorts AS c ORDER BY c.name LIMIT 2;
\ir lib/refused.sql
ROLLBACK TO before_shares;
COMMIT;

\connect - :service
BEGIN;
SELECT codex.enter_workspace(:'alpenglow') \gset
\echo 'The bookkeeping writes down what it costs; an invoice that is sent twice counts once; what is not there cannot be spent:'
SELECT spent, remaining
FROM codex.spend_campaign_budget(:'night_hikes', 640, 'Forty headlamps', idempotency_key => 'invoice-77');
SELECT spent, remaining
FROM codex.spend_campaign_budget(:'night_hikes', 640, 'Forty headlamps', idempotency_key => 'invoice-77');
SAVEPOINT before;
\set ON_ERROR_STOP off
SELECT codex.spend_campaign_budget(:'night_hikes', 360.01, 'Posters');
\ir lib/refused.sql
ROLLBACK TO before;
\set ON_ERROR_STOP off
UPDATE public.campaigns SET allocated_budget_amount = 600 WHERE id = :'night_hikes';
\ir lib/refused.sql
ROLLBACK TO before;
COMMIT;

\connect - :member
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
SELECT codex.transition_campaign(:'night_hikes', 'completed', :'anna', 'Winter came early') \gset
\echo 'It is over. What happened to it:'
SELECT h.version, h.from_status || ' → ' || h.to_status AS change, u.full_name AS by, h.reason
FROM codex.campaign_history AS h
    LEFT JOIN public.users AS u ON u.id = h.user_id
WHERE h.campaign_id = :'night_hikes'
ORDER BY h.version;
SELECT status, version, allocated, spent, remaining FROM codex.campaign_state(:'night_hikes');
COMMIT;
