-- 013 positioning and campaigns, taken back.

DROP TABLE public.campaign_cohorts;
DROP TABLE public.campaign_quests;
DROP TABLE public.campaigns;
DROP TABLE public.message_architecture;
DROP TABLE public.positioning;
