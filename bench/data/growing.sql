-- Rows number {from} up to {to} (not included) of the four tables that grow, the same in both databases. A row's
-- values follow from its number. The first workspace has a tenth of the rows of each, the user looked at a tenth of
-- its notifications; half of what can need attention does, and a quarter of the notifications is unread. Time passes with the number, over 90 days.

INSERT INTO public.intelligence_signals (
    workspace_id, source_agent_id, source_type, data_source, signal_title, signal_description, signal_category,
    confidence_score, relevance_score, signal_date, expiry_date, action_status, created_at
)
SELECT bench_id('workspace', n % 10), bench_id('agent', n % 87),
       (ARRAY['competitor', 'market', 'trend', 'industry', 'customer'])[1 + n % 5],
       'feed ' || n % 31, 'Signal number ' || n, repeat('What was seen, in a sentence or two. ', 3),
       (ARRAY['competitor_activity', 'market_trend', 'industry_news', 'customer_sentiment', 'technology_shift'])[1 + n % 5],
       (n * 7919 % 1001)::numeric / 10, CASE WHEN n % 4 > 0 THEN (n * 104729 % 101)::numeric END,
       moment, CASE WHEN n / 10 % 3 = 0 THEN moment + interval '200 days' END,
       CASE WHEN n / 10 % 2 = 0 THEN 'new' ELSE 'actioned' END, moment
FROM generate_series({from}::bigint, {to}::bigint - 1) AS n,
     LATERAL (SELECT now() - interval '90 days' + n * interval '7 seconds' * (1000000.0 / {scale}) AS moment) AS t;

INSERT INTO public.market_insights (
    workspace_id, insight_title, insight_description, insight_type, source_signal_ids, number_of_signals_analyzed,
    confidence_score, confidence_level, time_relevance_start, insight_status, created_at
)
SELECT bench_id('workspace', n % 10), 'Insight number ' || n, repeat('What follows from it, in a sentence or two. ', 3),
       (ARRAY['opportunity', 'threat', 'trend', 'gap', 'pattern'])[1 + n % 5], NULL, 3,
       (n * 7919 % 1001)::numeric / 10, 'medium', moment::date,
       CASE WHEN n / 10 % 2 = 0 THEN 'active' ELSE 'archived' END, moment
FROM generate_series({from}::bigint, {to}::bigint - 1) AS n,
     LATERAL (SELECT now() - interval '90 days' + n * interval '7 seconds' * (1000000.0 / {scale}) AS moment) AS t;

INSERT INTO public.system_alerts (
    workspace_id, alert_type, severity_level, status, title, description, triggered_by_agent_id, triggered_at,
    created_at
)
SELECT bench_id('workspace', n % 10),
       (ARRAY['performance', 'error', 'milestone', 'anomaly', 'action_required', 'opportunity'])[1 + n % 6],
       (ARRAY['critical', 'high', 'medium', 'low', 'info'])[1 + n / 20 % 5],
       CASE WHEN n / 10 % 2 = 0 THEN 'active' ELSE 'resolved' END,
       'Alert number ' || n, repeat('What happened, in a sentence or two. ', 3), bench_id('agent', n % 87), moment, moment
FROM generate_series({from}::bigint, {to}::bigint - 1) AS n,
     LATERAL (SELECT now() - interval '90 days' + n * interval '7 seconds' * (1000000.0 / {scale}) AS moment) AS t;

INSERT INTO public.user_notifications (
    workspace_id, user_id, notification_type, title, message, is_read, read_at, priority_level, expires_at, created_at
)
SELECT bench_id('workspace', n % 10),
       bench_id('user', CASE
           WHEN n % 100 = 0 THEN 0
           WHEN n % 10 = 0 THEN 1 + n / 10 % 999
           ELSE 1000 + (n % 10 - 1) * 100 + n / 10 % 100
       END),
       (ARRAY['alert', 'achievement', 'message', 'reminder', 'summary'])[1 + n % 5],
       'Notification number ' || n, repeat('What there is to know, in a sentence or two. ', 3),
       n / 100 % 4 > 0, CASE WHEN n / 100 % 4 > 0 THEN moment END,
       (ARRAY['urgent', 'high', 'normal', 'low'])[1 + n / 400 % 4],
       CASE WHEN n / 100 % 3 = 0 THEN moment + interval '200 days' END, moment
FROM generate_series({from}::bigint, {to}::bigint - 1) AS n,
     LATERAL (SELECT now() - interval '90 days' + n * interval '7 seconds' * (1000000.0 / {scale}) AS moment) AS t;
