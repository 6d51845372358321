-- 019 points_and_metrics, taken back.

DROP TABLE codex.points_ledger;
DROP TRIGGER achievements_metrics ON public.achievements;
DROP TRIGGER achievements_a_rule ON public.achievements;
DROP TABLE codex.achievement_metrics;
DROP TABLE codex.metric_days;
DROP TABLE codex.metric_totals;
DROP TABLE codex.metric_events;
DROP TABLE codex.user_time_zones;
