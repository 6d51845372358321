-- Signals that fade and meet, and what time does.
\ir lib/begin.sql

\echo
\echo '━━━ 6. Signals that fade and meet ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
SELECT current_user AS owner \gset
\connect - :service
\echo 'Three places tell the same news, in their own words, one of them twice: one signal, surer with each source.'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow') \gset
SELECT n.place, n.title, i.is_new, i.sightings, i.sources
FROM (
    VALUES
        (1, 'trade-weekly.example', 'Nordfell opens a flagship store in Oslo', 60),
        (2, 'trade-weekly.example', 'NORDFELL opens a flagship store in Oslo!', 40),
        (3, 'oslo-today.example', 'Nordfell opens a flagship store in Oslo', 50),
        (4, 'outdoor-blog.example', 'Nordfell  opens a flagship store — in Oslo', 30)
) AS n (turn, place, title, confidence)
    CROSS JOIN LATERAL codex.ingest_signal(
        :'alpenglow', 'competitor', n.title, 'competitor_activity', data_source => n.place,
        confidence => n.confidence, relevance => 90, signal_date => now() - interval '30 days') AS i
ORDER BY n.turn;
SELECT s.signal_title, s.confidence_score, '100 (1 - 0.4 × 0.5 × 0.7)' AS because
FROM public.intelligence_signals AS s
WHERE s.signal_title LIKE 'Nordfell%';

\echo 'It is a month old, and competitor activity has a half-life of 30 days:'
SELECT title, confidence, effective_confidence, age_days, half_life_days
FROM codex.get_current_signals(:'alpenglow')
WHERE title LIKE 'Nordfell%';

\echo 'An insight is drawn from it and fresher news, and says why it is so sure:'
SELECT signal_id AS hiring
FROM codex.ingest_signal(
    :'alpenglow', 'competitor', 'Nordfell is hiring forty people in Norway', 'competitor_activity',
    data_source => 'jobs.example', confidence => 70) \gset
SELECT codex.create_insight_from_signals(
    :'alpenglow', ARRAY(SELECT s.id FROM public.intelligence_signals AS s WHERE s.signal_title LIKE 'Nordfell%'),
    'Nordfell goes north', 'threat', ARRAY['Open the Norwegian season earlier'], NULL) AS insight \gset
SELECT title, age_days, faded_confidence, contribution, insight_confidence
FROM codex.explain_insight(:'insight');

\echo 'The hiring turns out to be a rumour and is archived; the insight follows:'
UPDATE public.intelligence_signals SET action_status = 'archived' WHERE id = :'hiring';
SELECT change, reason, confidence_before, confidence_after
FROM codex.refresh_insights(:'alpenglow')
WHERE insight_id = :'insight';
ROLLBACK;

\connect - :owner
\echo 'What time does, a scheduler calls every minute:'
SELECT work, rows FROM codex.run_maintenance() WHERE rows > 0 OR problem IS NOT NULL;
