-- From 0.1.0 to 0.2.0: what a database of 0.1.0 lacks. Written by `make shape` from the two install scripts.

CREATE FUNCTION keep_quest_tree() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'keep_quest_tree_trigger';

COMMENT ON FUNCTION keep_quest_tree() IS
'Trigger of campaign_quests, once a statement: refuses (22023) a parent of another campaign, and a quest with more than 1000 above it, also far below one that moves. Statements that change the tree of one campaign wait for each other.';

CREATE FUNCTION keep_cohort_shares() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'keep_cohort_shares_trigger';

COMMENT ON FUNCTION keep_cohort_shares() IS
'Trigger of campaign_cohorts, once a statement: refuses (22023) shares of a campaign''s cohorts that rise above 100 percent in all. Statements that raise shares of one campaign wait for each other.';

CREATE FUNCTION check_achievement_rule() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'check_achievement_rule_trigger';

COMMENT ON FUNCTION check_achievement_rule() IS
'Trigger BEFORE INSERT OR UPDATE of an achievement: refuses (22023) a condition_value that is not in the grammar of its condition_type. NULL is no rule; what an UPDATE leaves as it was is not looked at.';

CREATE FUNCTION keep_achievement_metrics() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'keep_achievement_metrics_trigger';

COMMENT ON FUNCTION keep_achievement_metrics() IS
'Trigger AFTER INSERT OR UPDATE of an achievement: keeps in codex.achievement_metrics, as the owner of that table, which metrics it depends on while it is active.';

CREATE FUNCTION check_time_zone() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'check_time_zone_trigger';

COMMENT ON FUNCTION check_time_zone() IS
'Trigger BEFORE INSERT OR UPDATE: refuses a time_zone that pg_timezone_names does not list (22023).';

CREATE FUNCTION count_spending() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'count_spending_trigger';

COMMENT ON FUNCTION count_spending() IS
'Trigger of codex.campaign_spending: keeps the sum in codex.campaign_life, as its owner. Refuses (55000) what is more than the allocated budget of the campaign, spending in an archived one, and changes of a row; (22023) more money back than was spent.';

CREATE FUNCTION queue_delivery() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'queue_delivery_trigger';

COMMENT ON FUNCTION queue_delivery() IS
'Trigger AFTER INSERT OR DELETE of a notification: puts what is not in_app into codex.deliveries, as the owner of that table, and takes it out again; announces it when raptorflow_codex.notify is on.';

CREATE FUNCTION refuse_ledger_change() RETURNS trigger
LANGUAGE c
AS 'MODULE_PATHNAME', 'refuse_ledger_change_trigger';

COMMENT ON FUNCTION refuse_ledger_change() IS
'Trigger BEFORE UPDATE, DELETE or TRUNCATE of codex.points_ledger: refuses it (55000), unless the entry goes with its user or workspace, by a foreign key or an erasure.';

CREATE FUNCTION follow_campaign() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'follow_campaign_trigger';

COMMENT ON FUNCTION follow_campaign() IS
'Trigger AFTER UPDATE of a campaign: keeps codex.campaign_life and adds to codex.campaign_history, as the owner of these tables. Refuses (55000) a status that does not follow where codex.campaign_policies guards it, and a budget below what is spent.';

CREATE FUNCTION follow_alert() RETURNS trigger
LANGUAGE c
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'follow_alert_trigger';

COMMENT ON FUNCTION follow_alert() IS
'Trigger AFTER INSERT, UPDATE or DELETE of an alert: keeps codex.alert_life, adds to codex.alert_events and tells whom codex.alert_fan_out names, as the owner of these tables.';

CREATE  FUNCTION "add_to_digest"(
	"workspace" uuid,
	"user_id" uuid,
	"digest_key" TEXT,
	"title" TEXT,
	"message" TEXT,
	"channel" TEXT DEFAULT 'email',
	"closes_after" interval DEFAULT '1 hour',
	"idempotency_key" TEXT DEFAULT NULL
) RETURNS uuid
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'add_to_digest_wrapper';

CREATE  FUNCTION "adjust_points"(
	"workspace" uuid,
	"user_id" uuid,
	"points" INT,
	"reason" TEXT,
	"idempotency_key" TEXT DEFAULT NULL
) RETURNS INT
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'adjust_points_wrapper';

CREATE  FUNCTION "agent_budget_status"(
	"workspace" uuid,
	"agent_id" uuid DEFAULT NULL
) RETURNS TABLE (
	"budget_id" uuid,
	"budget_agent_id" uuid,
	"period" TEXT,
	"period_start" timestamp with time zone,
	"resets_at" timestamp with time zone,
	"token_limit" bigint,
	"tokens_used" bigint,
	"tokens_reserved" bigint,
	"cost_limit" NUMERIC,
	"cost_used" NUMERIC,
	"cost_reserved" NUMERIC,
	"alerted_at" timestamp with time zone
)
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'agent_budget_status_wrapper';

CREATE  FUNCTION "alert_sla"(
	"workspace" uuid,
	"p_from" timestamp with time zone,
	"p_to" timestamp with time zone
) RETURNS TABLE (
	"severity" TEXT,
	"opened" bigint,
	"acknowledged" bigint,
	"resolved" bigint,
	"mtta_seconds" double precision,
	"acknowledge_p50_seconds" double precision,
	"acknowledge_p95_seconds" double precision,
	"mttr_seconds" double precision,
	"resolve_p50_seconds" double precision,
	"resolve_p95_seconds" double precision
)
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'alert_sla_wrapper';

COMMENT ON FUNCTION alert_sla(uuid, timestamptz, timestamptz) IS
'How fast the alerts of a workspace were answered that opened or reopened from p_from (included) to p_to (excluded), by severity: how many opened, were acknowledged and resolved, and the mean (MTTA, MTTR), median and 95th percentile (percentile_cont) of the seconds until then. Errors: 22004 NULL, 22023 p_to before p_from, 42501 not your workspace.';

CREATE  FUNCTION "campaign_progress"(
	"campaign" uuid
) RETURNS NUMERIC
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'campaign_progress_wrapper';

CREATE  FUNCTION "campaign_state"(
	"campaign" uuid
) RETURNS TABLE (
	"status" TEXT,
	"version" INT,
	"since" timestamp with time zone,
	"allocated" NUMERIC,
	"spent" NUMERIC,
	"remaining" NUMERIC
)
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'campaign_state_wrapper';

COMMENT ON FUNCTION campaign_progress(uuid) IS
'How much of a campaign is done, in percent with two decimals, cut off: of its quests without parts, those that are completed. NULL when it has no quest. Errors: 22004 NULL, P0002 no such campaign here.';

COMMENT ON FUNCTION campaign_state(uuid) IS
'Where a campaign stands: its status, at which version and since when; what is allocated, spent, and left. Errors: 22004 NULL, P0002 no such campaign here.';

CREATE  FUNCTION "campaign_transitions"(
	"campaign" uuid
) RETURNS TABLE (
	"to_status" TEXT,
	"allowed" bool,
	"missing" TEXT[]
)
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'campaign_transitions_wrapper';

CREATE  FUNCTION "cancel_agent_task"(
	"workspace" uuid,
	"task_id" uuid
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'cancel_agent_task_wrapper';

CREATE  FUNCTION "claim_agent_tasks"(
	"worker" TEXT,
	"n" INT DEFAULT 1,
	"lease" interval DEFAULT '5 minutes',
	"agent_id" uuid DEFAULT NULL
) RETURNS TABLE (
	"workspace_id" uuid,
	"task_id" uuid,
	"assignment_id" uuid,
	"assigned_agent_id" uuid,
	"task_type" TEXT,
	"payload" jsonb,
	"priority" TEXT,
	"attempt" INT,
	"lease_token" uuid,
	"leased_until" timestamp with time zone
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'claim_agent_tasks_wrapper';

CREATE  FUNCTION "claim_notifications"(
	"channel" TEXT,
	"worker" TEXT,
	"n" INT DEFAULT 100,
	"lease" interval DEFAULT '1 minute'
) RETURNS TABLE (
	"workspace_id" uuid,
	"notification_id" uuid,
	"user_id" uuid,
	"notification_type" TEXT,
	"title" TEXT,
	"message" TEXT,
	"action_url" TEXT,
	"action_label" TEXT,
	"priority" TEXT,
	"attempt" INT,
	"lease_token" uuid,
	"leased_until" timestamp with time zone
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'claim_notifications_wrapper';

CREATE  FUNCTION "complete_agent_task"(
	"workspace" uuid,
	"task_id" uuid,
	"lease_token" uuid,
	"result" jsonb DEFAULT NULL
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'complete_agent_task_wrapper';

CREATE  FUNCTION "complete_delivery"(
	"workspace" uuid,
	"notification_id" uuid,
	"lease_token" uuid,
	"provider_reference" TEXT DEFAULT NULL,
	"method" TEXT DEFAULT NULL
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'complete_delivery_wrapper';

CREATE  FUNCTION "departure_plan"() RETURNS TABLE (
	"place" INT,
	"table_name" TEXT,
	"workspace_rows" TEXT,
	"user_rows_deleted" TEXT,
	"user_references_nulled" TEXT
)
STRICT STABLE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'departure_plan_wrapper';

CREATE  FUNCTION "enqueue_agent_task"(
	"workspace" uuid,
	"assignment_id" uuid,
	"task_type" TEXT,
	"payload" jsonb DEFAULT '{}',
	"priority" TEXT DEFAULT NULL,
	"run_after" timestamp with time zone DEFAULT NULL,
	"max_attempts" INT DEFAULT 5,
	"idempotency_key" TEXT DEFAULT NULL
) RETURNS uuid
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'enqueue_agent_task_wrapper';

CREATE  FUNCTION "erase_user"(
	"user_id" uuid,
	"delete_user" bool DEFAULT false
) RETURNS TABLE (
	"table_name" TEXT,
	"action" TEXT,
	"rows" bigint
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'erase_user_wrapper';

CREATE  FUNCTION "erase_workspace"(
	"workspace" uuid
) RETURNS TABLE (
	"table_name" TEXT,
	"action" TEXT,
	"rows" bigint
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'erase_workspace_wrapper';

CREATE  FUNCTION "evaluate_achievements"(
	"workspace" uuid,
	"user_id" uuid,
	"notify" bool DEFAULT false
) RETURNS TABLE (
	"achievement_id" uuid,
	"name" TEXT,
	"tier" TEXT,
	"points_awarded" INT
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'evaluate_achievements_wrapper';

CREATE  FUNCTION "explain_achievement"(
	"achievement" uuid,
	"user_id" uuid
) RETURNS TABLE (
	"place" TEXT,
	"kind" TEXT,
	"metric" TEXT,
	"needed" double precision,
	"reached" double precision,
	"missing" double precision,
	"met" bool,
	"explanation" TEXT
)
STABLE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'explain_achievement_wrapper';

CREATE  FUNCTION "explain_insight"(
	"insight" uuid
) RETURNS TABLE (
	"signal_id" uuid,
	"title" TEXT,
	"category" TEXT,
	"source" TEXT,
	"state" TEXT,
	"sightings" bigint,
	"confidence" double precision,
	"age_days" double precision,
	"half_life_days" double precision,
	"faded_confidence" double precision,
	"counted" bool,
	"contribution" double precision,
	"faded_then" double precision,
	"counted_then" bool,
	"insight_confidence" double precision,
	"stored_confidence" NUMERIC
)
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'explain_insight_wrapper';

CREATE  FUNCTION "export_workspace"(
	"workspace" uuid
) RETURNS SETOF TEXT
STABLE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'export_workspace_wrapper';

COMMENT ON FUNCTION export_workspace(uuid) IS
'All rows of a workspace as JSON lines, in the order of foreign keys and as of one moment: {"export": …} first, {"needs": table, "row": key} for each row outside of the workspace that is referred to, {"table": name, "row": {…}} for each row, {"end": {table: rows}} last. For the owner of the tables, and for service roles in their workspace. Errors: 22004 NULL, P0002 no such workspace, 42501 not your workspace, or a table that you may not read whole.';

CREATE  FUNCTION "fail_agent_task"(
	"workspace" uuid,
	"task_id" uuid,
	"lease_token" uuid,
	"error" TEXT,
	"retry_after" interval DEFAULT NULL,
	"permanent" bool DEFAULT false
) RETURNS timestamp with time zone
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'fail_agent_task_wrapper';

CREATE  FUNCTION "fail_delivery"(
	"workspace" uuid,
	"notification_id" uuid,
	"lease_token" uuid,
	"error" TEXT,
	"retry_after" interval DEFAULT NULL,
	"permanent" bool DEFAULT false
) RETURNS timestamp with time zone
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'fail_delivery_wrapper';

CREATE  FUNCTION "find_agents"(
	"capability" TEXT,
	"category" TEXT DEFAULT NULL,
	"agent_type" TEXT DEFAULT NULL,
	"max_cost" NUMERIC DEFAULT NULL,
	"max_rows" INT DEFAULT 20
) RETURNS TABLE (
	"agent_id" uuid,
	"agent_name" TEXT,
	"type_of_agent" TEXT,
	"guild_name" TEXT,
	"version" TEXT,
	"capability_name" TEXT,
	"capability_category" TEXT,
	"is_exact" bool,
	"success_rate" NUMERIC,
	"typical_cost" NUMERIC,
	"typical_seconds" INT,
	"typical_tokens" bigint
)
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'find_agents_wrapper';

CREATE  FUNCTION "get_current_signals"(
	"workspace" uuid,
	"confidence_threshold" NUMERIC DEFAULT 0,
	"max_rows" INT DEFAULT 20
) RETURNS TABLE (
	"id" uuid,
	"title" TEXT,
	"category" TEXT,
	"confidence" double precision,
	"effective_confidence" double precision,
	"relevance" double precision,
	"age_days" double precision,
	"half_life_days" double precision,
	"sightings" bigint,
	"sources" bigint
)
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'get_current_signals_wrapper';

CREATE  FUNCTION "half_lives"(
	"workspace" uuid
) RETURNS TABLE (
	"signal_category" TEXT,
	"half_life_days" double precision,
	"is_default" bool
)
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'half_lives_wrapper';

CREATE  FUNCTION "heartbeat_agent_task"(
	"workspace" uuid,
	"task_id" uuid,
	"lease_token" uuid,
	"lease" interval DEFAULT '5 minutes'
) RETURNS timestamp with time zone
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'heartbeat_agent_task_wrapper';

CREATE  FUNCTION "inbox"(
	"workspace" uuid,
	"user_id" uuid,
	"page_size" INT DEFAULT 50,
	"after" TEXT DEFAULT NULL,
	"folder" TEXT DEFAULT 'inbox'
) RETURNS TABLE (
	"id" uuid,
	"notification_type" TEXT,
	"title" TEXT,
	"message" TEXT,
	"priority" TEXT,
	"channel" TEXT,
	"action_url" TEXT,
	"is_read" bool,
	"seen_at" timestamp with time zone,
	"read_at" timestamp with time zone,
	"archived_at" timestamp with time zone,
	"created_at" timestamp with time zone,
	"cursor" TEXT
)
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'inbox_wrapper';

CREATE  FUNCTION "inbox_counts"(
	"workspace" uuid,
	"user_id" uuid
) RETURNS TABLE (
	"unread" bigint,
	"unseen" bigint
)
STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'inbox_counts_wrapper';

CREATE  FUNCTION "ingest_signal"(
	"workspace" uuid,
	"source_type" TEXT,
	"signal_title" TEXT,
	"signal_category" TEXT,
	"data_source" TEXT DEFAULT NULL,
	"source_agent_id" uuid DEFAULT NULL,
	"confidence" NUMERIC DEFAULT NULL,
	"relevance" NUMERIC DEFAULT NULL,
	"signal_date" timestamp with time zone DEFAULT NULL,
	"expiry_date" timestamp with time zone DEFAULT NULL,
	"description" TEXT DEFAULT NULL,
	"key_findings" TEXT[] DEFAULT NULL,
	"data_points" jsonb DEFAULT NULL,
	"fingerprint" TEXT DEFAULT NULL,
	"idempotency_key" TEXT DEFAULT NULL
) RETURNS TABLE (
	"signal_id" uuid,
	"is_new" bool,
	"sightings" bigint,
	"sources" bigint
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'ingest_signal_wrapper';

COMMENT ON FUNCTION ingest_signal(uuid, text, text, text, text, uuid, numeric, numeric, timestamptz, timestamptz, text, text[], jsonb, text, text) IS
'Takes in a piece of news: a new signal, or one more sighting of the signal with the same fingerprint (given, or computed from category and title). A sighting counts up and moves the signal''s date on; sources combine to 100 * (1 - product of (1 - c/100)). After its expiry_date the news starts a new signal. source_type: competitor, market, trend, industry, customer; category: competitor_activity, market_trend, industry_news, customer_sentiment, technology_shift; confidence, relevance: 0 to 100. Errors: 22004 NULL, 22023 bad value, 23503 no such agent, 42501 not your workspace.';

COMMENT ON FUNCTION half_lives(uuid) IS
'After how many days a signal of each category is worth half in a workspace: its own choice (codex.signal_half_lives) or the default. Errors: 22004 NULL, 42501 not your workspace.';

COMMENT ON FUNCTION get_current_signals(uuid, numeric, integer) IS
'New, unexpired signals by what they are worth now: confidence * 2^(-age / half-life) * relevance (none counts as 50). confidence_threshold: the least effective confidence, 0 to 100; max_rows: how many at most, NULL for all. Errors: 22004 NULL, 22023 bad threshold or number, 42501 not your workspace.';

CREATE  FUNCTION "is_erasing"() RETURNS bool
STRICT STABLE PARALLEL RESTRICTED
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'is_erasing_wrapper';

COMMENT ON FUNCTION erase_workspace(uuid) IS
'Deletes every row of a workspace, in every table, and the workspace itself, in one transaction; gives the number of rows a table and keeps a receipt in codex.departures. Run again it finds nothing. For the owner of the tables. Errors: 22004 NULL, 42501 where row-level security would hide rows, 55000 above READ COMMITTED.';

COMMENT ON FUNCTION erase_user(uuid, boolean) IS
'Deletes what is personal of a user in all workspaces and empties every other reference to the user; with delete_user the user''s row, too. What happens to which table: codex.departure_plan(). Keeps a receipt in codex.departures. Run again it finds nothing. For the owner of the tables. Errors: 22004 NULL, 42501 where row-level security would hide rows, 55000 above READ COMMITTED or when a workspace cannot be without this user.';

COMMENT ON FUNCTION departure_plan() IS
'What would be exported and erased, a row a table in the order of an export: by what a row belongs to a workspace, by what it is deleted with its user, and which references to a user become NULL. Read from the catalog: new tables are in it the day they exist.';

COMMENT ON FUNCTION is_erasing() IS
'Whether this session is inside codex.erase_workspace() or codex.erase_user(): for a trigger that keeps a table append-only and has to let an erasure through.';

CREATE  FUNCTION "leaderboard"(
	"workspace" uuid,
	"period" TEXT DEFAULT 'all',
	"max_rows" INT DEFAULT 10,
	"around_user" uuid DEFAULT NULL
) RETURNS TABLE (
	"rank" bigint,
	"user_id" uuid,
	"points" bigint
)
STABLE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'leaderboard_wrapper';

CREATE  FUNCTION "lift_silence"(
	"workspace" uuid,
	"silence_id" uuid
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'lift_silence_wrapper';

CREATE  FUNCTION "mark_inbox"(
	"workspace" uuid,
	"user_id" uuid,
	"mark" TEXT,
	"up_to" timestamp with time zone DEFAULT now()
) RETURNS bigint
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'mark_inbox_wrapper';

CREATE  FUNCTION "mark_notifications"(
	"workspace" uuid,
	"user_id" uuid,
	"mark" TEXT,
	"notification_ids" uuid[]
) RETURNS bigint
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'mark_notifications_wrapper';

COMMENT ON FUNCTION inbox(uuid, uuid, integer, text, text) IS
'A page of the notifications of a user in a workspace, newest first, unexpired; after is the cursor of the last row of the page before. Folders: inbox, archive. Errors: 22004 NULL, 22023 page_size not from 1 to 100, unknown folder or unreadable cursor, 42501 not your workspace.';

COMMENT ON FUNCTION inbox_counts(uuid, uuid) IS
'How many unexpired notifications of a user in a workspace are unread, and how many of these were not seen. Errors: 22004 NULL, 42501 not your workspace.';

COMMENT ON FUNCTION mark_notifications(uuid, uuid, text, uuid[]) IS
'Marks some notifications of a user as seen, read, unread, archived or unarchived. Returns how many it changed; the first time of a mark stays. Errors: 22004 NULL, 22023 bad value, 42501 not your workspace or another user''s inbox.';

COMMENT ON FUNCTION mark_inbox(uuid, uuid, text, timestamptz) IS
'Marks all notifications of a user that were created until up_to (included) as seen, read or archived. Returns how many it changed. Errors: 22004 NULL, 22023 bad value, 42501 not your workspace or another user''s inbox.';

CREATE  FUNCTION "reconcile_points"(
	"workspace" uuid DEFAULT NULL,
	"repair" bool DEFAULT false
) RETURNS TABLE (
	"workspace_id" uuid,
	"user_id" uuid,
	"total_points" bigint,
	"ledger_points" bigint,
	"drift" bigint
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'reconcile_points_wrapper';

COMMENT ON FUNCTION adjust_points(uuid, uuid, integer, text, text) IS
'Gives a user points, or takes some away (negative), by an entry of the ledger with a reason; returns the new total, which stays from 0 to 2147483647. The same call again with its idempotency_key changes nothing. Errors: 22004 NULL, 22023 bad value, 42501 not a member, not your workspace or no right to write points.';

COMMENT ON FUNCTION reconcile_points(uuid, boolean) IS
'The users whose user_stats.total_points is not the sum of their entries in codex.points_ledger, with both and the difference; no rows when all is well. With repair the totals are set to the sums. Of a workspace; NULL: the current one, else all. Errors: 22004 NULL, 42501 not the current workspace.';

CREATE  FUNCTION "record_metric_event"(
	"workspace" uuid,
	"user_id" uuid,
	"metric" TEXT,
	"value" NUMERIC,
	"event_id" TEXT,
	"occurred_at" timestamp with time zone DEFAULT NULL,
	"notify" bool DEFAULT false
) RETURNS TABLE (
	"achievement_id" uuid,
	"name" TEXT,
	"tier" TEXT,
	"points_awarded" INT
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'record_metric_event_wrapper';

ALTER FUNCTION record_metric_event(uuid, uuid, text, numeric, text, timestamptz, boolean) ROWS 1;

ALTER FUNCTION evaluate_achievements(uuid, uuid, boolean) ROWS 1;

COMMENT ON FUNCTION record_metric_event(uuid, uuid, text, numeric, text, timestamptz, boolean) IS
'Records that a metric happened to a user: once for an event_id, with a value from 0 to 10^12. Keeps the progress of the active achievements that depend on it, unlocks those that are reached (prerequisites first, bronze before platinum, and what follows from them), pays them through the ledger, notifies where told, and returns what was unlocked. The same event again is answered the same. Errors: 22004 NULL, 22023 bad metric, value, event or time, or a known event with another value, 23503 unknown user, 42501 not a member, not your workspace, or no right to record.';

COMMENT ON FUNCTION evaluate_achievements(uuid, uuid, boolean) IS
'Judges all active achievements of a workspace for a user by what was recorded so far, and unlocks what is reached: after an achievement was written, or unlocked by hand. Returns what was unlocked. Errors: 22004 NULL, 42501 not a member, not your workspace, or no right to write points.';

CREATE  FUNCTION "refresh_insights"(
	"workspace" uuid
) RETURNS TABLE (
	"insight_id" uuid,
	"change" TEXT,
	"reason" TEXT,
	"confidence_before" double precision,
	"confidence_after" double precision,
	"superseded_by" uuid
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'refresh_insights_wrapper';

COMMENT ON FUNCTION explain_insight(uuid) IS
'How the confidence of an insight comes about: a row a signal with its source, age, half-life, what it is worth now (confidence * 2^(-age / half-life)), whether it stands for its source, its contribution to the whole, and what it was worth when the insight was drawn. insight_confidence is 100 * (1 - product of (1 - c/100)) over the counted signals. Errors: 22004 NULL, P0002 no such insight in your workspace.';

COMMENT ON FUNCTION refresh_insights(uuid) IS
'Reckons the confidence of the active insights of a workspace anew, and ends those whose time is over: superseded by a newer one of the same type from all of their signals, or expired (window ended, no living signal, confidence below 10). A row a change. Errors: 22004 NULL, 42501 not your workspace.';

CREATE  FUNCTION "release_agent_budget"(
	"workspace" uuid,
	"reservation_id" uuid
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'release_agent_budget_wrapper';

CREATE  FUNCTION "reopen_alert"(
	"p_alert_id" uuid,
	"p_user_id" uuid,
	"p_reason" TEXT DEFAULT NULL
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'reopen_alert_wrapper';

CREATE  FUNCTION "reparent_quest"(
	"quest" uuid,
	"parent" uuid DEFAULT NULL,
	"quest_order" INT DEFAULT NULL,
	"idempotency_key" TEXT DEFAULT NULL
) RETURNS bool
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'reparent_quest_wrapper';

COMMENT ON FUNCTION reparent_quest(uuid, uuid, integer, text) IS
'Hangs a quest, with all that is below it, under another quest of its campaign (NULL: the top), and gives it a place among others (quest_order; NULL leaves it). Returns whether anything changed. Sessions that move quests of one workspace wait for each other. Errors: 22004 NULL quest, 22023 a parent that is the quest itself or below it, of another campaign, or too deep (more than 1000 above a quest), P0002 no such quest here, 23503 no such parent.';

CREATE  FUNCTION "requeue_agent_task"(
	"workspace" uuid,
	"task_id" uuid
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'requeue_agent_task_wrapper';

ALTER FUNCTION claim_agent_tasks(text, integer, interval, uuid) SET enable_seqscan = off;

ALTER FUNCTION claim_agent_tasks(text, integer, interval, uuid) SET enable_bitmapscan = off;

ALTER FUNCTION claim_agent_tasks(text, integer, interval, uuid) SET enable_sort = off;

COMMENT ON FUNCTION enqueue_agent_task(uuid, uuid, text, jsonb, text, timestamptz, integer, text) IS
'Puts a task into the queue of an assignment that is active or paused, and returns its id: a type, a payload for the worker, a priority (critical, high, normal, low; NULL: that of the assignment), not before run_after, tried up to max_attempts times (1 to 100). The same idempotency_key again queues nothing. Errors: 22004 NULL, 22023 bad value or a key of another call, 23503 no such assignment, 55000 one that has ended, 42501 not your workspace.';

COMMENT ON FUNCTION claim_agent_tasks(text, integer, interval, uuid) IS
'Leases up to n tasks (1 to 1000) that are due to a worker, for a time (a second to a day), and returns them: of the current workspace when there is one, else of all; of one agent when given; critical first, then what is due longest. Different workers get different ones. A paused assignment or an inactive agent puts a task off, an ended assignment cancels it. No row: nothing is due. Errors: 22004 NULL, 22023 bad value, 42501 no workspace entered.';

COMMENT ON FUNCTION heartbeat_agent_task(uuid, uuid, uuid, interval) IS
'Says that the worker is still at a leased task: its lease lasts as long again (a second to a day) from now on; returns until when. Errors: 22004 NULL, 22023 bad value, P0002 no such task, 55000 not the token of its last claim, or the task was finished or cancelled, 42501 not your workspace.';

COMMENT ON FUNCTION complete_agent_task(uuid, uuid, uuid, jsonb) IS
'Says that a leased task is done; with the token of the claim, and a result to be kept. Twice: no change. Errors: 22004 NULL, P0002 no such task, 55000 not the token of its last claim, or the task failed or was cancelled, 42501 not your workspace.';

COMMENT ON FUNCTION fail_agent_task(uuid, uuid, uuid, text, interval, boolean) IS
'Says that a leased task failed; returns when it is tried again, NULL for never. It waits 30 seconds, doubled after each failure up to 6 hours, half of it spread by its id, and at least retry_after; after max_attempts, or at once when permanent, it is dead. Twice: no change. Errors: as complete_agent_task, and 22023 bad value.';

COMMENT ON FUNCTION cancel_agent_task(uuid, uuid) IS
'Cancels a task that waits or is leased; its worker is refused from then on. Twice: no change. Errors: 22004 NULL, P0002 no such task, 55000 done or dead, 42501 not your workspace.';

COMMENT ON FUNCTION requeue_agent_task(uuid, uuid) IS
'Puts a task that is dead or cancelled back into the queue, due now. One that waits stays as it is. Errors: 22004 NULL, P0002 no such task, 55000 leased or done, 42501 not your workspace.';

CREATE  FUNCTION "requeue_delivery"(
	"workspace" uuid,
	"notification_id" uuid
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'requeue_delivery_wrapper';

ALTER FUNCTION claim_notifications(text, text, integer, interval) SET enable_seqscan = off;

ALTER FUNCTION claim_notifications(text, text, integer, interval) SET enable_bitmapscan = off;

ALTER FUNCTION claim_notifications(text, text, integer, interval) SET enable_sort = off;

COMMENT ON FUNCTION claim_notifications(text, text, integer, interval) IS
'Leases up to n notifications (1 to 1000) of a channel (email, slack, sms, push) that are due to a worker, for a time (a second to a day), and returns them: of the current workspace when there is one, else of all; urgent first, then what is due longest. Different workers get different ones. What its user may not or does not want to get is suppressed, what falls into quiet hours put off, unless urgent. No row: nothing is due. Errors: 22004 NULL, 22023 bad value, 42501 no workspace entered.';

COMMENT ON FUNCTION complete_delivery(uuid, uuid, uuid, text, text) IS
'Says that a leased notification was delivered; with the token of the claim, and what the provider calls it. Twice: no change. Errors: 22004 NULL, 22023 bad value, P0002 no such delivery, 55000 not the token of its last claim, 42501 not your workspace.';

COMMENT ON FUNCTION fail_delivery(uuid, uuid, uuid, text, interval, boolean) IS
'Says that a leased notification could not be delivered; returns when it is tried again, NULL for never. It waits 30 seconds, doubled after each failure up to 6 hours, half of it spread by its id, and at least retry_after; after 8 attempts, or at once when permanent, it is dead. Twice: no change. Errors: as complete_delivery.';

COMMENT ON FUNCTION requeue_delivery(uuid, uuid) IS
'Puts a delivery that is dead or suppressed back into the queue, due now. One that waits stays as it is. Errors: 22004 NULL, P0002 no such delivery, 55000 leased or delivered, 42501 not your workspace.';

CREATE  FUNCTION "reserve_agent_budget"(
	"workspace" uuid,
	"agent_id" uuid,
	"tokens" bigint,
	"cost" NUMERIC DEFAULT 0,
	"expires_after" interval DEFAULT '1 hour',
	"idempotency_key" TEXT DEFAULT NULL
) RETURNS TABLE (
	"reservation_id" uuid,
	"refused_by" uuid,
	"tokens_left" bigint,
	"cost_left" NUMERIC,
	"resets_at" timestamp with time zone
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'reserve_agent_budget_wrapper';

CREATE  FUNCTION "rule_metrics"(
	"condition_type" TEXT,
	"condition_value" jsonb
) RETURNS TEXT[]
IMMUTABLE PARALLEL SAFE
LANGUAGE c
AS 'MODULE_PATHNAME', 'rule_metrics_wrapper';

CREATE  FUNCTION "run_maintenance"(
	"batch" INT DEFAULT 1000
) RETURNS TABLE (
	"work" TEXT,
	"rows" bigint,
	"more" bool,
	"problem" TEXT
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'run_maintenance_wrapper';

ALTER FUNCTION run_maintenance(integer) SET enable_seqscan = off;

ALTER FUNCTION run_maintenance(integer) SET enable_bitmapscan = off;

ALTER FUNCTION run_maintenance(integer) SET enable_sort = off;

COMMENT ON FUNCTION run_maintenance(integer) IS
'Does what is due by now, in all workspaces: up to batch rows (1 to 100000) of each kind of work. A row a kind: how many rows, whether there is more, and the problem of an engine that failed. One run at a time; a second one says so. To be called every minute, by pg_cron or any scheduler, as the owner of the tables. Errors: 22004 NULL, 22023 batch out of bounds, 42501 where row-level security applies.';

CREATE  FUNCTION "seed_agents"(
	"agents" jsonb,
	"retire_others" bool DEFAULT false
) RETURNS TABLE (
	"agents_added" bigint,
	"agents_changed" bigint,
	"agents_retired" bigint,
	"capabilities_added" bigint,
	"capabilities_changed" bigint
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'seed_agents_wrapper';

ALTER FUNCTION find_agents(text, text, text, numeric, integer) ROWS 5;

COMMENT ON FUNCTION find_agents(text, text, text, numeric, integer) IS
'Finds the active agents with an enabled capability whose name has every word of capability, whatever their case; of a category, of a type, at most at a cost, where given. Exact names first, then by success rate, then the cheapest. A row for each capability that fits. Errors: 22004 NULL, 22023 bad value.';

COMMENT ON FUNCTION seed_agents(jsonb, boolean) IS
'Fills the registry from a JSON list of agents with their capabilities (keys as the columns): adds what is new, changes what the list says otherwise, leaves the rest alone; with retire_others agents that are not in it become inactive. The same list again changes nothing. Returns how many. For the owner of the tables. Errors: 22004 NULL, 22023 unknown key or bad value, 42501 without the privilege.';

CREATE  FUNCTION "send_digest"(
	"workspace" uuid,
	"user_id" uuid,
	"digest_key" TEXT
) RETURNS uuid
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'send_digest_wrapper';

COMMENT ON FUNCTION add_to_digest(uuid, uuid, text, text, text, text, interval, text) IS
'Puts something into the open digest of a user under a key, or opens one that closes after a time (a minute to 31 days); returns its id. The same call with the same idempotency_key adds once. Errors: 22004 NULL, 22023 bad value, 42501 not a member or not your workspace.';

COMMENT ON FUNCTION send_digest(uuid, uuid, text) IS
'Closes the open digest of a user under a key and sends it as one notification of type summary; returns its id, NULL when there is none open or the user has left. Errors: 22004 NULL, 42501 not your workspace.';

CREATE  FUNCTION "set_agent_budget"(
	"workspace" uuid,
	"period" TEXT,
	"agent_id" uuid DEFAULT NULL,
	"token_limit" bigint DEFAULT NULL,
	"cost_limit" NUMERIC DEFAULT NULL,
	"soft_limit_percentage" INT DEFAULT 80
) RETURNS uuid
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'set_agent_budget_wrapper';

CREATE  FUNCTION "set_notification_preference"(
	"workspace" uuid,
	"user_id" uuid,
	"channel" TEXT,
	"enabled" bool,
	"notification_type" TEXT DEFAULT NULL
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'set_notification_preference_wrapper';

CREATE  FUNCTION "set_quiet_hours"(
	"workspace" uuid,
	"user_id" uuid,
	"starts_at" time DEFAULT NULL,
	"ends_at" time DEFAULT NULL,
	"time_zone" TEXT DEFAULT NULL
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'set_quiet_hours_wrapper';

COMMENT ON FUNCTION set_notification_preference(uuid, uuid, text, boolean, text) IS
'Sets whether a user wants a type of notification (NULL: all without a wish of their own) by a channel (email, slack, sms, push); enabled NULL forgets the wish. It counts for what is waiting, too. Errors: 22004 NULL, 22023 bad value, 42501 not a member, not your workspace, or another user''s wishes.';

COMMENT ON FUNCTION set_quiet_hours(uuid, uuid, time, time, text) IS
'Sets the hours in which a user gets nothing outside of the product but what is urgent, by the clock of a time zone of pg_timezone_names, over midnight where they end earlier than they start; all three NULL: none. Errors: 22004 NULL for some of them, 22023 unknown zone or no hours, 42501 not a member, not your workspace, or another user''s hours.';

CREATE  FUNCTION "set_user_time_zone"(
	"workspace" uuid,
	"user_id" uuid,
	"time_zone" TEXT
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'set_user_time_zone_wrapper';

COMMENT ON FUNCTION explain_achievement(uuid, uuid) IS
'Says line by line what a user has and what is missing for an achievement: unlocked, active, prerequisite, then each clause of its condition with what is needed, reached and missing, and a sentence. For the user or a service. Errors: 22004 NULL, P0002 no such achievement, 42501 another user''s.';

COMMENT ON FUNCTION leaderboard(uuid, text, integer, uuid) IS
'The members of a workspace by points, of all time or since the day, week, month, quarter or year began (UTC). Equal points share a rank. With around_user the rows around that user. For services. Errors: 22004 NULL, 22023 bad period or number of rows, 42501 not your workspace.';

COMMENT ON FUNCTION set_user_time_zone(uuid, uuid, text) IS
'Says by which time zone a user''s days are counted, for windows and streaks, from now on; UTC without. For the user or a service. Errors: 22004 NULL, 22023 unknown zone, 42501 not a member, another user''s, or not your workspace.';

CREATE  FUNCTION "settle_agent_budget"(
	"workspace" uuid,
	"reservation_id" uuid,
	"tokens" bigint,
	"cost" NUMERIC DEFAULT 0
) RETURNS void
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'settle_agent_budget_wrapper';

ALTER FUNCTION reserve_agent_budget(uuid, uuid, bigint, numeric, interval, text) SET enable_seqscan = off;

ALTER FUNCTION reserve_agent_budget(uuid, uuid, bigint, numeric, interval, text) SET enable_bitmapscan = off;

ALTER FUNCTION agent_budget_status(uuid, uuid) ROWS 10;

COMMENT ON FUNCTION set_agent_budget(uuid, text, uuid, bigint, numeric, integer) IS
'Sets how many tokens and how much money an agent may use in a period (day, week, month, by the calendar in UTC; total: once and for all); without an agent it is for all agents of the workspace together. Both limits NULL takes the budget away. At soft_limit_percentage (1 to 100, NULL: never) of a limit an alert is raised, once a period. Returns the budget''s id. Errors: 22004 NULL, 22023 bad value, 23503 unknown workspace or agent, 42501 not your workspace.';

COMMENT ON FUNCTION reserve_agent_budget(uuid, uuid, bigint, numeric, interval, text) IS
'Reserves tokens and money for an agent in every budget that it falls under, or in none; held for expires_after (a second to 30 days). One row: reservation_id and the least that is left; or, refused, the budget that it does not fit into, what is left in that, and when its period ends. Any number of sessions at once never reserve more than there is. The same idempotency_key again reserves nothing. Errors: 22004 NULL, 22023 bad value or a key of another call, 23503 unknown workspace or agent, 42501 not your workspace.';

COMMENT ON FUNCTION settle_agent_budget(uuid, uuid, bigint, numeric) IS
'Says what a reservation really came to, be it more than was reserved: that counts as used, in the periods in which it was reserved, and what was held is given back. An expired one can still be settled. Twice with the same amounts: no change. Errors: 22004 NULL, 22023 bad value, P0002 no such reservation, 55000 released, or settled with other amounts, 42501 not your workspace.';

COMMENT ON FUNCTION release_agent_budget(uuid, uuid) IS
'Gives a reservation back of which nothing was used. One that was released or has expired stays as it is. Errors: 22004 NULL, P0002 no such reservation, 55000 settled, 42501 not your workspace.';

COMMENT ON FUNCTION agent_budget_status(uuid, uuid) IS
'How the budgets of a workspace stand in their current periods (limits, used, reserved, when they start anew, when the soft limit was reached): those of an agent and those of all agents together, or all. Errors: 22004 NULL, 42501 not your workspace.';

CREATE  FUNCTION "silence_alerts"(
	"workspace" uuid,
	"reason" TEXT,
	"ends_at" timestamp with time zone,
	"starts_at" timestamp with time zone DEFAULT now(),
	"alert_type" TEXT DEFAULT NULL,
	"severity" TEXT DEFAULT NULL,
	"dedup_glob" TEXT DEFAULT NULL,
	"idempotency_key" TEXT DEFAULT NULL
) RETURNS uuid
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'silence_alerts_wrapper';

CREATE  FUNCTION "spend_campaign_budget"(
	"campaign" uuid,
	"amount" NUMERIC,
	"description" TEXT,
	"spent_on" date DEFAULT NULL,
	"idempotency_key" TEXT DEFAULT NULL
) RETURNS TABLE (
	"spending_id" uuid,
	"spent" NUMERIC,
	"remaining" NUMERIC
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'spend_campaign_budget_wrapper';

COMMENT ON FUNCTION spend_campaign_budget(uuid, numeric, text, date, text) IS
'Writes down what a campaign spends, if its allocated budget has that much left; a negative amount is money that came back. Gives the row''s id, what is spent in all, and what is left. Sessions that spend for one campaign wait for each other. Errors: 22004 NULL, 22023 amount of 0 or no number, more back than was spent, blank description, P0002 no such campaign here, 55000 more than is left, no allocated budget, an archived campaign.';

CREATE  FUNCTION "transition_campaign"(
	"campaign" uuid,
	"to_status" TEXT,
	"actor" uuid DEFAULT NULL,
	"reason" TEXT DEFAULT NULL,
	"expected_version" INT DEFAULT NULL,
	"idempotency_key" TEXT DEFAULT NULL
) RETURNS TABLE (
	"previous_status" TEXT,
	"status" TEXT,
	"version" INT,
	"changed_at" timestamp with time zone
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'transition_campaign_wrapper';

COMMENT ON FUNCTION transition_campaign(uuid, text, uuid, text, integer, text) IS
'Takes a campaign to its next status (draft, planning, active or paused, completed, archived), and keeps who did it and why in codex.campaign_history. Becoming active asks for both dates, the end not over, a quest and an allocated budget; becoming completed, that it has begun. Refused when expected_version is not the version that it is at. Gives the status before and now, the new version, and when. Errors: 22004 NULL, 22023 no such status, blank reason, version below 1, P0002 no such campaign here, 42501 actor not a member or not the caller, 55000 no such step, a condition not met, another version.';

COMMENT ON FUNCTION campaign_transitions(uuid) IS
'What a campaign can become: for each status whether its conditions are met, and which are not. Errors: 22004 NULL, P0002 no such campaign here.';

CREATE  FUNCTION "unfit_achievements"(
	"workspace" uuid DEFAULT NULL
) RETURNS TABLE (
	"workspace_id" uuid,
	"achievement_id" uuid,
	"name" TEXT,
	"problem" TEXT
)
STABLE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'unfit_achievements_wrapper';

COMMENT ON FUNCTION rule_metrics(text, jsonb) IS
'The metrics that the condition of an achievement depends on, in order, each once; an empty list for one that is not in the grammar, NULL for NULL.';

COMMENT ON FUNCTION unfit_achievements(uuid) IS
'The achievements whose condition_value is not in the grammar of their condition_type, and what is wrong: rows from before conditions were checked. Events never unlock them. Of a workspace; NULL: the current one, else all. Errors: 42501 not the current workspace.';

CREATE  FUNCTION "upkeep_achievements"(
	"batch" INT DEFAULT 1000
) RETURNS TABLE (
	"done" TEXT,
	"rows" bigint
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'upkeep_achievements_wrapper';

ALTER FUNCTION upkeep_achievements(integer) SET enable_seqscan = off;

ALTER FUNCTION upkeep_achievements(integer) SET enable_sort = off;

COMMENT ON FUNCTION upkeep_achievements(integer) IS
'Deletes metric events that were recorded more than raptorflow_codex.keep_metric_events_days ago, and days older than raptorflow_codex.keep_metric_days; up to batch rows of each. Returns what was done, to how many rows. Errors: 22004 NULL, 22023 batch out of bounds, 42501 no workspace entered.';

CREATE  FUNCTION "upkeep_agents"(
	"batch" INT DEFAULT 1000
) RETURNS TABLE (
	"done" TEXT,
	"rows" bigint
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'upkeep_agents_wrapper';

ALTER FUNCTION upkeep_agents(integer) SET enable_seqscan = off;

ALTER FUNCTION upkeep_agents(integer) SET enable_bitmapscan = off;

ALTER FUNCTION upkeep_agents(integer) SET enable_sort = off;

COMMENT ON FUNCTION upkeep_agents(integer) IS
'Puts back tasks of agents whose lease ran out, lets reservations of budgets expire, deletes what was finished more than raptorflow_codex.keep_agent_tasks_days ago; up to batch rows of each. Returns what was done, to how many rows. Errors: 22004 NULL, 22023 batch out of bounds, 42501 no workspace entered.';

CREATE  FUNCTION "upkeep_alerts"(
	"batch" INT DEFAULT 1000
) RETURNS TABLE (
	"done" TEXT,
	"rows" bigint
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'upkeep_alerts_wrapper';

ALTER FUNCTION upkeep_alerts(integer) SET enable_seqscan = off;

ALTER FUNCTION upkeep_alerts(integer) SET enable_bitmapscan = off;

ALTER FUNCTION upkeep_alerts(integer) SET enable_sort = off;

COMMENT ON FUNCTION reopen_alert(uuid, uuid, text) IS
'Reopens an alert that is resolved or dismissed, within reopen_within of the policy of its severity, else 7 days. Open: no change. Errors: 22004 NULL, 22023 blank reason, P0002 unknown or not visible, 42501 not a member, 55000 closed too long ago, or another alert with its key is open.';

COMMENT ON FUNCTION silence_alerts(uuid, text, timestamptz, timestamptz, text, text, text, text) IS
'Silences alerts that match (type, severity, pattern of the dedup key with * and ?; NULL matches all) for a time: they are stored, not told, and do not escalate. Returns the id of the silence; the same call with the same idempotency_key makes one. Errors: 22004 NULL, 22023 bad value, 42501 not your workspace.';

COMMENT ON FUNCTION lift_silence(uuid, uuid) IS
'Ends a silence before its time; what it covers and is open is told now. Lifted already: no change. Errors: 22004 NULL, P0002 unknown, 42501 not your workspace.';

COMMENT ON FUNCTION upkeep_alerts(integer) IS
'Closes alerts that have expired, escalates those that nobody acknowledged or resolved in time, tells those whose silence is over, deletes those that were closed more than raptorflow_codex.keep_alerts_days ago; up to batch rows of each. Returns what was done, to how many rows. Errors: 22004 NULL, 22023 batch out of bounds, 42501 no workspace entered.';

CREATE  FUNCTION "upkeep_notifications"(
	"batch" INT DEFAULT 1000
) RETURNS TABLE (
	"done" TEXT,
	"rows" bigint
)
VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
LANGUAGE c
AS 'MODULE_PATHNAME', 'upkeep_notifications_wrapper';

ALTER FUNCTION upkeep_notifications(integer) SET enable_seqscan = off;

ALTER FUNCTION upkeep_notifications(integer) SET enable_bitmapscan = off;

ALTER FUNCTION upkeep_notifications(integer) SET enable_sort = off;

COMMENT ON FUNCTION upkeep_notifications(integer) IS
'Puts back deliveries whose lease ran out, sends digests whose time has come, deletes notifications that were read or have expired more than raptorflow_codex.keep_notifications_days ago; up to batch rows of each. Returns what was done, to how many rows. Errors: 22004 NULL, 22023 batch out of bounds, 42501 no workspace entered.';

DO $$
DECLARE
    function_here pg_catalog.regprocedure;
    for_everybody CONSTANT pg_catalog.text[] := ARRAY[
        -- policies, defaults and triggers
        'current_workspace_id', 'current_user_id', 'acts_for_workspace', 'uuid_v7', 'set_updated_at', 'refuse_cycle',
        'queue_delivery', 'check_time_zone', 'follow_alert', 'update_campaign_timestamp', 'update_experience_level', 'calculate_move_success_rate',
        'queue_delivery', 'check_time_zone', 'update_campaign_timestamp', 'update_experience_level', 'calculate_move_success_rate',
        'check_achievement_rule', 'keep_achievement_metrics', 'refuse_ledger_change',
        'follow_campaign', 'keep_quest_tree', 'keep_cohort_shares', 'count_spending',
        -- what migrations ask
        'rule_metrics',
        -- the context
        'enter_workspace', 'is_workspace_member',
        -- triggers of append-only tables
        'is_erasing',
        -- the engine: it works with the caller's own privileges
        'migrate', 'rollback', 'verify', 'verify_or_raise', 'status', 'migration_sql', 'expose', 'unexpose', 'protect',
        'protect_shared', 'unprotect', 'unprotected_tables', 'grant_member_role', 'grant_service_role',
        'grant_operator_role', 'revoke_role', 'settle_grants', 'isolation_report', 'isolation_selftest'
    ];
BEGIN
    FOR function_here IN
        SELECT p.oid
        FROM pg_catalog.pg_proc AS p
            JOIN pg_catalog.pg_depend AS d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
                AND d.objid OPERATOR(pg_catalog.=) p.oid
                AND d.deptype OPERATOR(pg_catalog.=) 'e'
            JOIN pg_catalog.pg_extension AS e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
        WHERE e.extname OPERATOR(pg_catalog.=) 'raptorflow_codex'
            AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
            AND NOT (p.proname::pg_catalog.text OPERATOR(pg_catalog.=) ANY (for_everybody))
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function_here);
    END LOOP;
END
$$;
