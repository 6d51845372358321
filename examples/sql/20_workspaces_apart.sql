-- What the other workspaces see of all this: nothing.
\ir lib/begin.sql

\echo
\echo '━━━ Workspaces apart ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
SELECT current_user AS owner \gset
\connect - :member
\echo 'The same login, the same query, without a filter; what a request sees depends on who asks:'
CREATE TEMP TABLE seen (n integer, who text, campaigns bigint, quests bigint, alerts bigint, insights bigint, notifications bigint);
PREPARE look(integer, text) AS
    INSERT INTO seen
    SELECT $1, $2, (SELECT count(*) FROM public.campaigns), (SELECT count(*) FROM public.campaign_quests),
           (SELECT count(*) FROM public.system_alerts), (SELECT count(*) FROM public.market_insights),
           (SELECT count(*) FROM public.user_notifications);
BEGIN; SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
EXECUTE look(1, 'Anna in Alpenglow Outdoor'); COMMIT;
BEGIN; SELECT codex.enter_workspace(:'ledgerline', :'grace') \gset
EXECUTE look(2, 'Grace in Ledgerline'); COMMIT;
BEGIN; SELECT codex.enter_workspace(:'alpenglow', :'priya') \gset
EXECUTE look(3, 'Priya in Alpenglow Outdoor'); COMMIT;
BEGIN; SELECT codex.enter_workspace(:'hearth', :'priya') \gset
EXECUTE look(4, 'Priya in Harvest & Hearth'); COMMIT;
BEGIN;
EXECUTE look(5, 'nobody, no workspace entered'); COMMIT;
SELECT who, campaigns, quests, alerts, insights, notifications FROM seen ORDER BY n;

\echo 'Grace knows the id of Anna''s campaign. She finds nothing under it, changes nothing, and cannot hang a quest on it:'
BEGIN;
SELECT codex.enter_workspace(:'ledgerline', :'grace') \gset
WITH changed AS (
    UPDATE public.campaigns SET status = 'archived' WHERE id = md5('campaign:Pack Light Summer')::uuid RETURNING id
)
SELECT (SELECT count(*) FROM public.campaigns WHERE id = md5('campaign:Pack Light Summer')::uuid) AS found,
       (SELECT count(*) FROM changed) AS changed;
SAVEPOINT before_mistake;
\set ON_ERROR_STOP off
INSERT INTO public.campaign_quests (workspace_id, campaign_id, name)
VALUES (:'ledgerline', md5('campaign:Pack Light Summer')::uuid, 'A quest on your campaign');
\ir lib/refused.sql
ROLLBACK TO before_mistake;
\set ON_ERROR_STOP off
INSERT INTO public.campaigns (workspace_id, name) VALUES (:'alpenglow', 'A campaign in your workspace');
\ir lib/refused.sql
ROLLBACK;

\echo
\echo 'Nor can she enter a workspace that she is no member of:'
\set ON_ERROR_STOP off
SELECT codex.enter_workspace(:'alpenglow', :'grace');
\ir lib/refused.sql

\connect - :owner
\echo
\echo 'The same, systematically: two throwaway workspaces, every verb on every table, as a member of one against the'
\echo 'other. Nothing of it stays.'
SELECT role, count(*) AS tries, count(*) FILTER (WHERE NOT passed) AS "not as expected"
FROM codex.isolation_selftest()
GROUP BY role
ORDER BY role;
\echo 'And what weakens isolation in this database right now, each with the statement that mends it:'
SELECT severity, finding, mend FROM codex.isolation_report();
