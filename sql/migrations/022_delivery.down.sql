-- 022 delivery, taken back.

DROP TABLE codex.digest_items;
DROP TABLE codex.digests;
DROP TABLE codex.quiet_hours;
DROP TABLE codex.notification_preferences;
DROP TRIGGER user_notifications_deleted ON public.user_notifications;
DROP TRIGGER user_notifications_sent ON public.user_notifications;
DROP TABLE codex.deliveries;
DROP INDEX public.user_notifications_expires_at_idx;
DROP INDEX public.user_notifications_read_at_idx;
DROP INDEX public.user_notifications_counts_idx;
DROP INDEX public.user_notifications_archive_idx;
DROP INDEX public.user_notifications_inbox_idx;
ALTER TABLE public.user_notifications
    DROP COLUMN archived_at,
    DROP COLUMN seen_at;
