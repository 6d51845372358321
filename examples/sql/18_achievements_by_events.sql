-- Achievements that unlock by what happens.
\ir lib/begin.sql

\echo
\echo '━━━ 8. Achievements by events ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
SELECT md5('achievement:Alpenglow Outdoor/Good Ear')::uuid AS good_ear,
       md5('achievement:Alpenglow Outdoor/Hundred Moves')::uuid AS hundred_moves
\gset
\connect - :service
BEGIN;
SELECT codex.enter_workspace(:'alpenglow') \gset
\echo 'Tomas lives in Lisbon, and reads signals in the evenings: three days in a row are an achievement. The middle day'
\echo 'comes last, from a phone that was offline, and comes twice:'
SELECT codex.set_user_time_zone(:'alpenglow', :'tomas', 'Europe/Lisbon') \gset
SELECT e.turn, e.event, u.name AS unlocked, u.tier, u.points_awarded AS points
FROM (VALUES (1, 'read-monday', 2), (2, 'read-wednesday', 0), (3, 'read-tuesday', 1), (4, 'read-tuesday', 1)) AS e (turn, event, days)
    LEFT JOIN LATERAL codex.record_metric_event(
        :'alpenglow', :'tomas', 'signal.read', 1, e.event, now() - e.days * interval '1 day', notify => true) AS u ON true
ORDER BY e.turn;

\echo 'His first campaign, then four more, completed: one achievement requires the other, and both are paid in one call.'
SELECT 'started' AS event, u.name AS unlocked, u.points_awarded AS points
FROM (SELECT) AS once
    LEFT JOIN LATERAL codex.record_metric_event(:'alpenglow', :'tomas', 'campaign.started', 1, 'c-1') AS u ON true
UNION ALL
SELECT 'completed', u.name, u.points_awarded
FROM generate_series(1, 5) AS n
    CROSS JOIN LATERAL codex.record_metric_event(:'alpenglow', :'tomas', 'campaign.completed', 1, 'c-' || n) AS u;

\echo 'What he still lacks for Hundred Moves, clause by clause:'
SELECT count(u.*) AS unlocked_by_moves
FROM generate_series(1, 17) AS n
    LEFT JOIN LATERAL codex.record_metric_event(:'alpenglow', :'tomas', 'move.executed', 1, 'move-' || n) AS u ON true \gset
SELECT place, kind, met, explanation
FROM codex.explain_achievement(:'hundred_moves', :'tomas');

\echo 'Every point stands in a ledger that nobody can change; the totals are its sums; who leads, with ties:'
SELECT kind, points, reason
FROM codex.points_ledger
WHERE user_id = :'tomas'
ORDER BY id;
SELECT count(*) AS totals_that_differ FROM codex.reconcile_points(:'alpenglow');
SELECT l.rank, l.points FROM codex.leaderboard(:'alpenglow', 'all', 5) AS l;
\set ON_ERROR_STOP off
UPDATE codex.points_ledger SET points = 1000000;
\ir lib/refused.sql
ROLLBACK;
