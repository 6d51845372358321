-- 024 signal_life, taken back.

DROP INDEX public.intelligence_signals_fading_idx;
DROP INDEX public.intelligence_signals_expiry_idx;
DROP INDEX public.market_insights_stale_idx;
DROP TABLE codex.insight_changes;
DROP TABLE codex.signal_sightings;
DROP TABLE codex.signal_fingerprints;
DROP TABLE codex.signal_half_lives;
