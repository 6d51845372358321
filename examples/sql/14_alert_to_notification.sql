-- Workflow 4: an alert is raised, people are told, one of them deals with it.
\ir lib/begin.sql

\echo
\echo '━━━ 4. Alert to notification ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
\connect - :service
\echo 'The Optimizer watches the shop. It raises the same alert three times, first as medium, then as critical: one'
\echo 'open alert counts the occurrences, and its severity only rises.'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow') \gset
SELECT codex.create_system_alert(
    :'alpenglow', 'anomaly', 'medium', 'Checkout takes 9 seconds', 'Median of the last 15 minutes; normal is 2.',
    p_agent_id => :'optimizer', p_data_points => '{"seconds": 9}', p_dedup_key => 'checkout-slow') AS alert \gset
SELECT codex.create_system_alert(
    :'alpenglow', 'anomaly', 'critical', 'Checkout takes 9 seconds', 'Half of all carts are left.',
    p_agent_id => :'optimizer', p_data_points => '{"seconds": 14}', p_dedup_key => 'checkout-slow') AS alert_again \gset
SELECT codex.create_system_alert(
    :'alpenglow', 'anomaly', 'low', 'Checkout takes 9 seconds', 'Getting better.',
    p_agent_id => :'optimizer', p_data_points => '{"seconds": 6}', p_dedup_key => 'checkout-slow') AS alert_third \gset
SELECT a.title, a.severity_level AS severity, a.status, a.occurrence_count AS occurrences,
       :'alert' = :'alert_again' AND :'alert' = :'alert_third' AS same_id
FROM public.system_alerts AS a
WHERE a.id = :'alert';

\echo 'It tells everybody in the workspace, in one statement; Anna gets one message more that is less pressing. A retry'
\echo 'with the same idempotency key sends nothing and returns the first id.'
SELECT codex.send_user_notifications(
    :'alpenglow', ARRAY[:'anna', :'tomas', :'jonas', :'priya']::uuid[], 'alert', 'Checkout is slow',
    'Half of all carts are left. Who takes it?', p_priority => 'urgent', p_alert_id => :'alert') AS told;
SELECT codex.send_user_notification(
    :'alpenglow', :'anna', 'reminder', 'Sign off the boot posters', 'The printer closes at 18:00.',
    p_priority => 'high', p_idempotency_key => 'boot-posters') AS reminder \gset
SELECT codex.send_user_notification(
    :'alpenglow', :'anna', 'reminder', 'Sign off the boot posters', 'The printer closes at 18:00.',
    p_priority => 'high', p_idempotency_key => 'boot-posters') = :'reminder' AS retry_returned_the_first_id;
COMMIT;

\connect - :member
\echo 'Anna logs in. What she has not read, most pressing first; and the alerts that cannot wait:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
SELECT priority, type, title, message FROM codex.get_user_unread_notifications(:'anna');
SELECT title, description, alert_type FROM codex.get_critical_alerts(:'alpenglow');

\echo 'She takes it, mends it and says how. Reading marks the message; the alert leaves the list:'
SELECT codex.acknowledge_alert(:'alert', :'anna') \gset
SELECT codex.mark_notification_as_read(n.id)
FROM codex.get_user_unread_notifications(:'anna') AS n
WHERE n.priority = 'urgent' \gset
SELECT codex.resolve_alert(:'alert', :'anna', 'Payment provider switched to the backup line') \gset
SELECT a.title, a.status, u.full_name AS acknowledged_by, a.action_taken
FROM public.system_alerts AS a
LEFT JOIN public.users AS u ON u.id = a.acknowledged_by
WHERE a.id = :'alert';
SELECT (SELECT count(*) FROM codex.get_user_unread_notifications(:'anna')) AS unread,
       (SELECT count(*) FROM codex.get_critical_alerts(:'alpenglow')) AS critical_alerts;
COMMIT;

\echo 'What is resolved cannot be acknowledged once more:'
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'tomas') \gset
\set ON_ERROR_STOP off
SELECT codex.acknowledge_alert(:'alert', :'tomas');
\ir lib/refused.sql
ROLLBACK;
