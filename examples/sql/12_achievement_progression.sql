-- Workflow 2: achievements, points and levels.
-- The backend unlocks as the service role; people, as the member role, look at their own.
\ir lib/begin.sql

\echo
\echo '━━━ 2. Achievement progression ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
SELECT md5('achievement:Alpenglow Outdoor/First Campaign')::uuid AS first_campaign,
       md5('achievement:Alpenglow Outdoor/Five in the Field')::uuid AS five_in_the_field,
       md5('achievement:Alpenglow Outdoor/Season Champion')::uuid AS season_champion
\gset

\connect - :service
\echo 'The backend sees that Anna completed a campaign. What it asks for, and what it is told:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow') \gset
SELECT 'Five in the Field, first' AS asked, * FROM codex.unlock_achievement(:'anna', :'five_in_the_field', :'alpenglow', 'campaign_completed')
UNION ALL
SELECT 'First Campaign', * FROM codex.unlock_achievement(:'anna', :'first_campaign', :'alpenglow', 'campaign_completed')
UNION ALL
SELECT 'First Campaign, again', * FROM codex.unlock_achievement(:'anna', :'first_campaign', :'alpenglow', 'campaign_completed')
UNION ALL
SELECT 'Five in the Field', * FROM codex.unlock_achievement(:'anna', :'five_in_the_field', :'alpenglow', 'campaign_completed')
UNION ALL
SELECT 'Season Champion', * FROM codex.unlock_achievement(:'anna', :'season_champion', :'alpenglow', 'campaign_completed')
UNION ALL
SELECT 'First Campaign, for Grace of Ledgerline', * FROM codex.unlock_achievement(:'grace', :'first_campaign', :'alpenglow', 'campaign_completed');
COMMIT;

\connect - :member
\echo 'Anna''s own page. Points pay once; 1,000 points are a level, kept by a trigger, as is the success rate:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
SELECT s.total_points AS points, s.experience_level AS level, s.experience_percentage AS "to next level %",
       s.achievements_unlocked AS unlocked, s.badges_earned AS badges,
       s.moves_executed AS moves, round(s.success_rate_percentage, 1) AS "success %"
FROM public.user_stats AS s;
SELECT a.name AS achievement, a.tier, u.progress_percentage AS progress, NOT u.is_locked AS unlocked, u.unlocked_by_event AS event
FROM public.user_achievements AS u
JOIN public.achievements AS a ON (a.workspace_id, a.id) = (u.workspace_id, u.achievement_id)
ORDER BY a.points_reward;

\echo 'She cannot give herself points:'
\set ON_ERROR_STOP off
UPDATE public.user_stats SET total_points = 1000000;
\ir lib/refused.sql
ROLLBACK;

\echo
\echo 'And Tomas, in the same workspace, does not see her page:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'tomas') \gset
SELECT count(*) FILTER (WHERE user_id = :'anna') AS "Anna's rows he sees", count(*) AS "rows he sees" FROM public.user_stats;
COMMIT;
