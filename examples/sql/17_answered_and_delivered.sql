-- Alerts that are answered in time or too late, and notifications on their way out of the product.
\ir lib/begin.sql

\echo
\echo '━━━ 7. Alerts answered, messages delivered ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━'
SELECT current_user AS owner \gset
\connect - :service
BEGIN;
SELECT codex.enter_workspace(:'alpenglow') \gset
\echo 'Critical alerts are told to everybody in the product; when nobody acknowledges one within a quarter of an hour, to'
\echo 'Anna by sms. She sleeps from 22 to 7 in Oslo, but what is urgent wakes her. Of summaries she wants no email.'
INSERT INTO codex.alert_policies (workspace_id, severity_level, acknowledge_within, max_level, reopen_within)
VALUES (:'alpenglow', 'critical', '15 minutes', 2, '1 hour');
INSERT INTO codex.alert_fan_out (workspace_id, severity_level, from_level, user_id, channel)
VALUES (:'alpenglow', 'critical', 0, NULL, 'in_app'), (:'alpenglow', 'critical', 1, :'anna', 'sms');
SELECT codex.set_quiet_hours(:'alpenglow', :'anna', '22:00', '07:00', 'Europe/Oslo') \gset
SELECT codex.set_notification_preference(:'alpenglow', :'anna', 'email', false, 'summary') \gset

SELECT codex.create_system_alert(
    :'alpenglow', 'error', 'critical', 'The shop does not answer', 'From Oslo and from Berlin.',
    p_dedup_key => 'shop-down') AS alert \gset
SELECT count(*) AS told_in_the_product FROM public.user_notifications WHERE related_alert_id = :'alert';
COMMIT;

\connect - :owner
\echo 'Twenty minutes later (the demo turns the clock back by hand) nobody has acknowledged it:'
UPDATE codex.alert_life
SET opened_at = opened_at - interval '20 minutes', due_at = due_at - interval '20 minutes'
WHERE alert_id = :'alert';
SELECT work, rows FROM codex.run_maintenance() WHERE work LIKE 'alerts%' AND rows > 0;

\connect - :service
BEGIN;
SELECT codex.enter_workspace(:'alpenglow') \gset
\echo 'A worker takes the sms, whatever the hour, and its gateway is busy. It waits, and is tried again:'
SELECT notification_id AS sms, lease_token AS token, title, priority, attempt
FROM codex.claim_notifications('sms', 'gateway-1') \gset
SELECT :'title' AS title, :'priority' AS priority, :'attempt' AS attempt;
SELECT codex.fail_delivery(:'alpenglow', :'sms', :'token', 'gateway busy') > now() AS tried_again_later;
UPDATE codex.deliveries SET due_at = now() WHERE notification_id = :'sms';
\echo 'Another worker takes it; the first one, which is late, has no say any more; the message is delivered.'
SELECT lease_token AS other_token FROM codex.claim_notifications('sms', 'gateway-2') \gset
\set ON_ERROR_STOP off
SAVEPOINT before;
SELECT codex.complete_delivery(:'alpenglow', :'sms', :'token', 'late');
\ir lib/refused.sql
ROLLBACK TO before;
\set ON_ERROR_STOP on
SELECT codex.complete_delivery(:'alpenglow', :'sms', :'other_token', 'sms-4711') \gset
SELECT d.status, d.attempts, d.worker, d.provider_reference, n.delivery_status
FROM codex.deliveries AS d
    JOIN public.user_notifications AS n ON n.id = d.notification_id
WHERE d.notification_id = :'sms';

\echo 'Comments are collected, and sent as one message; Anna does not want it by email, so that it stays in her inbox:'
SELECT codex.add_to_digest(:'alpenglow', :'anna', 'comments', 'Tomas commented', 'Nice boots.') AS digest \gset
SELECT codex.add_to_digest(:'alpenglow', :'anna', 'comments', 'Jonas commented', 'Very nice boots.') = :'digest' AS same_digest;
SELECT codex.send_digest(:'alpenglow', :'anna', 'comments') AS summary \gset
SELECT count(*) AS handed_to_the_mailer FROM codex.claim_notifications('email', 'mailer-1') AS c WHERE c.notification_id = :'summary';
SELECT status, reason FROM codex.deliveries WHERE notification_id = :'summary';
COMMIT;

\connect - :member
BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
\echo 'Anna is awake. Her inbox, the number on the bell, and the alert, answered:'
SELECT title, priority, channel, is_read FROM codex.inbox(:'alpenglow', :'anna', page_size => 4);
SELECT codex.mark_inbox(:'alpenglow', :'anna', 'seen') > 0 AS seen \gset
SELECT unread, unseen FROM codex.inbox_counts(:'alpenglow', :'anna');
SELECT codex.acknowledge_alert(:'alert', :'anna') \gset
SELECT codex.resolve_alert(:'alert', :'anna', 'The certificate was renewed') \gset
COMMIT;

BEGIN;
SELECT codex.enter_workspace(:'alpenglow', :'anna') \gset
\echo 'It is back within the hour: the same alert opens again. What happened to it:'
SELECT codex.create_system_alert(
    :'alpenglow', 'error', 'critical', 'The shop does not answer', 'Again.', p_dedup_key => 'shop-down') = :'alert' AS same_alert;
SELECT e.position, e.event, coalesce(e.from_status, '') || ' → ' || coalesce(e.to_status, '') AS change,
    e.escalation_level AS level, coalesce(u.full_name, e.database_role) AS by, e.note
FROM codex.alert_events AS e
    LEFT JOIN public.users AS u ON u.id = e.user_id
WHERE e.alert_id = :'alert'
ORDER BY e.position;
SELECT severity, opened, acknowledged, resolved
FROM codex.alert_sla(:'alpenglow', now() - interval '1 day', now() + interval '1 second')
WHERE opened > 0;
ROLLBACK;
