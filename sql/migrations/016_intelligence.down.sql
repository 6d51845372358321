-- 016 intelligence, taken back.

DROP TABLE codex.insight_signals;
DROP TABLE public.market_insights;
DROP TABLE public.intelligence_signals;
