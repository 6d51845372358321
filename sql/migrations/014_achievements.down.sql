-- 014 achievements, taken back.

DROP TABLE public.user_stats;
DROP TABLE public.user_achievements;
DROP TABLE public.achievements;
