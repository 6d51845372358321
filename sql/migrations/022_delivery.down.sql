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
CREATE INDEX user_notifications_unread_idx
    ON public.user_notifications (
        user_id,
        workspace_id,
        (CASE priority_level WHEN 'urgent' THEN 0 WHEN 'high' THEN 1 WHEN 'low' THEN 3 ELSE 2 END),
        created_at DESC NULLS LAST
    )
    WHERE NOT is_read;
DROP INDEX public.user_notifications_unread_list_idx;
CREATE INDEX user_notifications_user_id_idx
    ON public.user_notifications (user_id);
DROP INDEX public.user_notifications_inbox_idx;
ALTER TABLE public.user_notifications
    DROP COLUMN archived_at,
    DROP COLUMN seen_at;
