-- Workflow 1: a campaign from draft to completed.
-- Runs as the member role, which is the one that a product's API logs in with: every statement is under row-level security.
\ir lib/begin.sql
\connect - :member

\echo
\echo '━━━ 1. Campaign lifecycle ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
\echo 'Anna of Alpenglow Outdoor plans a campaign. Her request enters the workspace first; it holds for this'
\echo 'transaction alone, so the next user of a pooled connection starts with nothing.'

BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset

INSERT INTO public.campaigns (
    workspace_id, name, objective, status, positioning_id, message_architecture_id, start_date, end_date,
    budget_allocation, created_by
)
SELECT p.workspace_id, 'Hut to Hut', 'Sell 600 packs to people who hike from hut to hut', 'draft', p.id, m.id,
       current_date + 7, current_date + 49, 15500, :'anna'
FROM public.positioning AS p
JOIN public.message_architecture AS m ON m.positioning_id = p.id
RETURNING id AS hut_to_hut \gset

INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, quest_order, assigned_to_agents, created_by)
VALUES (:'alpenglow', :'hut_to_hut', 'Plan the routes', 1, ARRAY['Trend Surfer'], :'anna')
RETURNING id AS routes \gset
INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, quest_order, parent_quest_id, assigned_to_agents, created_by)
VALUES
    (:'alpenglow', :'hut_to_hut', 'Photograph three huts', 2, :'routes', ARRAY['Storyboarder'], :'anna'),
    (:'alpenglow', :'hut_to_hut', 'Write the packing list', 3, :'routes', ARRAY['Long-Form Weaver', 'The Editor'], :'anna');

INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id, allocation_percentage, target_count)
SELECT c.workspace_id, :'hut_to_hut', c.id, 50, 4000
FROM public.cohorts AS c
WHERE c.name IN ('Weekend hikers', 'Gear upgraders');
COMMIT;

BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
\echo
\echo 'The draft, with its quests:'
SELECT c.name AS campaign, c.status, q.quest_order AS "#", q.name AS quest, parent.name AS part_of, q.assigned_to_agents AS agents
FROM public.campaigns AS c
JOIN public.campaign_quests AS q ON (q.workspace_id, q.campaign_id) = (c.workspace_id, c.id)
LEFT JOIN public.campaign_quests AS parent ON (parent.workspace_id, parent.id) = (q.workspace_id, q.parent_quest_id)
WHERE c.id = :'hut_to_hut'
ORDER BY q.quest_order;

SELECT updated_at AS before FROM public.campaigns WHERE id = :'hut_to_hut' \gset
COMMIT;

\echo 'Work on a quest moves the campaign''s own updated_at, without anybody writing to the campaign:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'tomas') \gset
UPDATE public.campaign_quests
SET status = 'completed', actual_output = 'Four routes, two of them new'
WHERE id = :'routes';
SELECT c.name AS campaign, c.updated_at > :'before'::timestamptz AS updated_at_moved
FROM public.campaigns AS c
WHERE c.id = :'hut_to_hut';
COMMIT;

\echo 'What cannot be right is refused by the schema: a quest that is its own grandparent, and a negative budget.'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
SAVEPOINT before_mistake;
\set ON_ERROR_STOP off
UPDATE public.campaign_quests
SET parent_quest_id = (SELECT q.id FROM public.campaign_quests AS q WHERE q.campaign_id = :'hut_to_hut' AND q.quest_order = 2)
WHERE id = :'routes';
\ir lib/refused.sql
ROLLBACK TO before_mistake;
\set ON_ERROR_STOP off
UPDATE public.campaigns SET budget_allocation = -1 WHERE id = :'hut_to_hut';
\ir lib/refused.sql
ROLLBACK;

\echo
\echo 'It goes live, runs, and is completed with its results:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
UPDATE public.campaigns SET status = 'active' WHERE id = :'hut_to_hut';
UPDATE public.campaign_quests SET status = 'completed' WHERE campaign_id = :'hut_to_hut';
UPDATE public.campaign_cohorts
SET reached_count = 3120, converted_count = 164
WHERE campaign_id = :'hut_to_hut';
UPDATE public.campaigns
SET status = 'completed', total_reach = 58400, total_engagements = 4310, conversion_count = 328, roi_percentage = 44.5
WHERE id = :'hut_to_hut';
SELECT c.name AS campaign, c.status, c.total_reach AS reach, c.conversion_count AS conversions, c.roi_percentage AS "ROI %",
       (SELECT count(*) FROM public.campaign_quests AS q WHERE q.campaign_id = c.id AND q.status = 'completed') AS quests_done
FROM public.campaigns AS c
ORDER BY c.status = 'completed' DESC, c.start_date;
COMMIT;
