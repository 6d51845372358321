-- 021 alert life, taken back.

DROP TRIGGER system_alerts_changed ON public.system_alerts;
DROP TRIGGER system_alerts_opened ON public.system_alerts;
DROP INDEX public.system_alerts_resolved_dedup_idx;
DROP INDEX public.system_alerts_open_expiry_idx;
DROP TABLE codex.alert_events;
DROP TABLE codex.alert_life;
DROP TABLE codex.alert_fan_out;
DROP TABLE codex.alert_policies;
DROP TABLE codex.alert_silences;
