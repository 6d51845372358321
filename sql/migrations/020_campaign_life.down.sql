-- 020 campaign_life, taken back.

DROP TRIGGER campaign_cohorts_shares_update ON public.campaign_cohorts;
DROP TRIGGER campaign_cohorts_shares_insert ON public.campaign_cohorts;
DROP TRIGGER campaign_quests_tree_update ON public.campaign_quests;
DROP TRIGGER campaign_quests_tree_insert ON public.campaign_quests;
DROP TRIGGER campaigns_followed ON public.campaigns;
DROP TABLE codex.campaign_spending;
DROP TABLE codex.campaign_history;
DROP TABLE codex.campaign_life;
DROP TABLE codex.campaign_policies;
