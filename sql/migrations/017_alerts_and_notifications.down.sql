-- 017 alerts and notifications, taken back.

DROP TABLE public.user_notifications;
DROP TABLE public.system_alerts;
