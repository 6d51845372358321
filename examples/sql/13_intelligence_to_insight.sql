-- Workflow 3: signals become an insight with a confidence that can be explained.
\ir lib/begin.sql
\connect - :member

\echo
\echo '━━━ 3. Intelligence to insight ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
\echo 'What needs Anna''s attention: new signals with a confidence of 75 or more, strongest first. The hut bookings'
\echo 'are not among them (expired), nor is the sizing (already acknowledged).'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
SELECT title, category, confidence, relevance FROM codex.get_priority_signals(:'alpenglow', 75);

\echo 'She draws a conclusion from four of them:'
SELECT codex.create_insight_from_signals(
    :'alpenglow',
    (SELECT array_agg(s.id ORDER BY s.confidence_score DESC)
     FROM public.intelligence_signals AS s
     WHERE s.action_status = 'new' AND s.confidence_score >= 75 AND (s.expiry_date > now() OR s.expiry_date IS NULL)),
    'Win the light-pack season with repair, not price',
    'opportunity',
    ARRAY['NorthPeak buys attention with price and weight', 'Hikers worry about what breaks', 'Nobody else promises a repair'],
    :'anna'
) AS insight \gset
SELECT title, type, round(confidence, 1) AS confidence, signal_count AS signals FROM codex.get_active_insights(:'alpenglow');

\echo 'Why that confidence: each source counts once, with its strongest signal, faded by age. Independent sources'
\echo 'add up as 100 · (1 − (1 − c₁)(1 − c₂)…).'
SELECT s.signal_title AS signal, r.agent_name AS source, i.confidence_score AS confidence, round(i.age_days, 1) AS "age, days",
       round(i.faded_confidence, 1) AS faded, i.counted
FROM codex.insight_signals AS i
JOIN public.intelligence_signals AS s ON (s.workspace_id, s.id) = (i.workspace_id, i.signal_id)
JOIN public.agent_registry AS r ON r.id = s.source_agent_id
WHERE i.insight_id = :'insight'
ORDER BY i.faded_confidence DESC;

\echo 'The signals are marked as actioned and leave the list:'
SELECT count(*) AS signals_left FROM codex.get_priority_signals(:'alpenglow', 75);
COMMIT;

\echo 'An insight out of nothing is refused, and so is one from another workspace''s signal:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
SAVEPOINT before_mistake;
\set ON_ERROR_STOP off
SELECT codex.create_insight_from_signals(:'alpenglow', ARRAY[]::uuid[], 'Out of nothing', 'trend', NULL, :'anna');
\ir lib/refused.sql
ROLLBACK TO before_mistake;
\set ON_ERROR_STOP off
SELECT codex.create_insight_from_signals(
    :'alpenglow', ARRAY[md5('signal:Bookwise dropped its free tier')::uuid], 'Theirs', 'threat', ARRAY['Theirs'], :'anna');
\ir lib/refused.sql
ROLLBACK;
