//! Two workspaces with rows in every table, and the sessions of the people in them.

use codex_pg_test::postgres::{Client, Transaction};
use codex_pg_test::{Database, Uuid, member, value, workspace};

/// The tables that hold a workspace's rows.
pub const WORKSPACE_TABLES: &[&str] = &[
    "public.positioning",
    "public.message_architecture",
    "public.campaigns",
    "public.campaign_quests",
    "public.campaign_cohorts",
    "public.achievements",
    "public.user_achievements",
    "public.user_stats",
    "public.agent_assignments",
    "public.agent_performance",
    "codex.agent_executions",
    "codex.agent_tasks",
    "codex.agent_budgets",
    "codex.agent_budget_periods",
    "codex.budget_reservations",
    "public.intelligence_signals",
    "public.market_insights",
    "codex.insight_signals",
    "public.system_alerts",
    "public.user_notifications",
    "codex.campaign_policies",
    "codex.campaign_life",
    "codex.campaign_history",
    "codex.campaign_spending",
    "codex.alert_silences",
    "codex.alert_policies",
    "codex.alert_fan_out",
    "codex.alert_life",
    "codex.alert_events",
    "codex.deliveries",
    "codex.notification_preferences",
    "codex.quiet_hours",
    "codex.digests",
    "codex.digest_items",
    "codex.user_time_zones",
    "codex.metric_events",
    "codex.metric_totals",
    "codex.metric_days",
    "codex.achievement_metrics",
    "codex.points_ledger",
    "public.workspace_members",
    "public.cohorts",
    "public.moves",
];

/// Those of which a row belongs to one user.
pub const USER_TABLES: &[&str] = &[
    "public.user_achievements",
    "public.user_stats",
    "public.user_notifications",
    "codex.notification_preferences",
    "codex.quiet_hours",
    "codex.user_time_zones",
    "codex.metric_events",
    "codex.metric_totals",
    "codex.metric_days",
    "codex.points_ledger",
];

/// Those that members have no privilege on.
pub const SERVICE_TABLES: &[&str] = &[
    "codex.agent_executions",
    "codex.deliveries",
    "codex.digests",
    "codex.digest_items",
];

/// Those that all workspaces share.
pub const SHARED_TABLES: &[&str] = &["public.agent_registry", "public.agent_capabilities"];

/// Acme (Anna and her neighbour Abe) and Bolt (Bob), each with a row in every table. Anna is a member of Cask,
/// too, where she has a stats row of her own.
pub struct Scene {
    pub db: Database,
    pub admin: Client,
    pub acme: Uuid,
    pub bolt: Uuid,
    pub cask: Uuid,
    pub anna: Uuid,
    pub abe: Uuid,
    pub bob: Uuid,
    pub acme_rows: Rows,
    pub bolt_rows: Rows,
}

/// Ids of what a workspace has.
pub struct Rows {
    pub positioning: Uuid,
    pub campaign: Uuid,
    pub quest: Uuid,
    pub cohort: Uuid,
    pub achievement: Uuid,
    pub signal: Uuid,
    pub insight: Uuid,
    pub alert: Uuid,
    pub notification: Uuid,
    pub agent: Uuid,
}

impl Scene {
    pub fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        for (label, function) in [
            ("member", "grant_member_role"),
            ("service", "grant_service_role"),
        ] {
            let role = db.role(label);
            admin
                .execute(
                    &format!("SELECT codex.{function}($1::text::regrole)"),
                    &[&role],
                )
                .unwrap();
        }
        let agent: Uuid = value(
            &mut admin,
            "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Scout', 'researcher') RETURNING id",
            &[],
        );
        admin
            .execute(
                "INSERT INTO public.agent_capabilities (agent_id, capability_name, category) VALUES ($1, 'look', 'research')",
                &[&agent],
            )
            .unwrap();
        let acme = workspace(&mut admin, "Acme");
        let bolt = workspace(&mut admin, "Bolt");
        let cask = workspace(&mut admin, "Cask");
        let anna = member(&mut admin, acme, "anna@acme.example");
        let abe = member(&mut admin, acme, "abe@acme.example");
        let bob = member(&mut admin, bolt, "bob@bolt.example");
        admin
            .execute(
                "INSERT INTO public.workspace_members (workspace_id, user_id) VALUES ($1, $2)",
                &[&cask, &anna],
            )
            .unwrap();
        admin
            .execute(
                "INSERT INTO public.user_stats (workspace_id, user_id, total_points) VALUES ($1, $2, 7)",
                &[&cask, &anna],
            )
            .unwrap();
        let acme_rows = fill(&mut admin, acme, &[anna, abe], agent, "Acme");
        let bolt_rows = fill(&mut admin, bolt, &[bob], agent, "Bolt");
        Self {
            db,
            admin,
            acme,
            bolt,
            cask,
            anna,
            abe,
            bob,
            acme_rows,
            bolt_rows,
        }
    }

    /// Anna at work in Acme, as an application would have it: a login role with the privileges of a member.
    pub fn anna(&self) -> Client {
        self.session("member", Some(self.acme), Some(self.anna))
    }

    /// A backend at work in Acme, for nobody in particular.
    pub fn service(&self) -> Client {
        self.session("service", Some(self.acme), None)
    }

    /// A session of a role, with a context for the session.
    pub fn session(&self, role: &str, workspace: Option<Uuid>, user: Option<Uuid>) -> Client {
        let mut session = self.db.login(role);
        set(&mut session, workspace, user);
        session
    }
}

/// Sets the context of a session.
pub fn set(session: &mut Client, workspace: Option<Uuid>, user: Option<Uuid>) {
    let text = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    session
        .batch_execute(&format!(
            "SET app.current_workspace_id = '{}'; SET app.current_user_id = '{}'",
            text(workspace),
            text(user)
        ))
        .unwrap();
}

/// How many rows a session sees in a table.
pub fn count(session: &mut Client, table: &str) -> i64 {
    value(session, &format!("SELECT count(*) FROM {table}"), &[])
}

/// The current workspace of a session.
pub fn here(session: &mut Client) -> Option<Uuid> {
    value(session, "SELECT codex.current_workspace_id()", &[])
}

/// The current workspace inside a transaction.
pub fn here_in(transaction: &mut Transaction<'_>) -> Option<Uuid> {
    value(transaction, "SELECT codex.current_workspace_id()", &[])
}

/// A row for the workspace in every table; in those of users one for each user.
fn fill(admin: &mut Client, workspace: Uuid, users: &[Uuid], agent: Uuid, word: &str) -> Rows {
    let mut one = |sql: &str| -> Uuid {
        let sql = sql
            .replace(":word", word)
            .replace(":agent", &format!("'{agent}'"))
            .replace(":w", &format!("'{workspace}'"));
        value(admin, &sql, &[])
    };
    let positioning = one(
        "INSERT INTO public.positioning (workspace_id, name, market_segment) VALUES (:w, ':word positioning', 'small') RETURNING id",
    );
    let message = one(&format!(
        "INSERT INTO public.message_architecture (workspace_id, name, primary_message, positioning_id) VALUES (:w, ':word message', 'buy', '{positioning}') RETURNING id"
    ));
    let campaign = one(&format!(
        "INSERT INTO public.campaigns (workspace_id, name, status, positioning_id, message_architecture_id) VALUES (:w, ':word campaign', 'active', '{positioning}', '{message}') RETURNING id"
    ));
    let quest = one(&format!(
        "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES (:w, '{campaign}', ':word quest') RETURNING id"
    ));
    let cohort = one(
        "INSERT INTO public.cohorts (workspace_id, name) VALUES (:w, ':word cohort') RETURNING id",
    );
    one("INSERT INTO public.moves (workspace_id, name) VALUES (:w, ':word move') RETURNING id");
    one(&format!(
        "INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id) VALUES (:w, '{campaign}', '{cohort}') RETURNING id"
    ));
    let achievement = one(
        "INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type, condition_value, points_reward) VALUES (:w, ':word achievement', 'milestone', 'count', '{\"metric\": \"login\", \"threshold\": 3}', 50) RETURNING id",
    );
    let assignment = one(&format!(
        "INSERT INTO public.agent_assignments (workspace_id, agent_id, assigned_to_campaign_id) VALUES (:w, :agent, '{campaign}') RETURNING id"
    ));
    one(&format!(
        "INSERT INTO codex.agent_tasks (workspace_id, assignment_id, agent_id, task_type) VALUES (:w, '{assignment}', :agent, ':word task') RETURNING id"
    ));
    let budget = one(
        "INSERT INTO codex.agent_budgets (workspace_id, agent_id, period, token_limit) VALUES (:w, :agent, 'day', 1000) RETURNING id",
    );
    let period = one(&format!(
        "INSERT INTO codex.agent_budget_periods (workspace_id, budget_id, period_start) VALUES (:w, '{budget}', '2026-01-01 00:00+00') RETURNING id"
    ));
    one(&format!(
        "INSERT INTO codex.budget_reservations (workspace_id, agent_id, tokens, cost, period_ids, idempotency_key, expires_at) VALUES (:w, :agent, 0, 0, ARRAY['{period}']::uuid[], ':word key', now() + interval '1 day') RETURNING id"
    ));
    one(
        "INSERT INTO public.agent_performance (workspace_id, agent_id, measurement_date, measurement_hour) VALUES (:w, :agent, '2026-01-01', 3) RETURNING id",
    );
    one(
        "INSERT INTO codex.agent_executions (workspace_id, execution_id, agent_id, executed_at) VALUES (:w, codex.uuid_v7(), :agent, now()) RETURNING execution_id",
    );
    let signal = one(
        "INSERT INTO public.intelligence_signals (workspace_id, source_type, signal_title, signal_category, confidence_score) VALUES (:w, 'market', ':word signal', 'market_trend', 90) RETURNING id",
    );
    let insight = one(
        "INSERT INTO public.market_insights (workspace_id, insight_title, insight_type, confidence_score) VALUES (:w, ':word insight', 'trend', 90) RETURNING id",
    );
    one(&format!(
        "INSERT INTO codex.insight_signals (workspace_id, insight_id, signal_id, source, confidence_score, age_days, half_life_days, faded_confidence, counted)
         VALUES (:w, '{insight}', '{signal}', 'a', 90, 0, 30, 90, true) RETURNING signal_id"
    ));
    one(&format!(
        "UPDATE public.campaigns SET allocated_budget_amount = 100, status = 'planning' WHERE workspace_id = :w AND id = '{campaign}' RETURNING id"
    ));
    one(&format!(
        "INSERT INTO codex.campaign_spending (workspace_id, campaign_id, amount, description) VALUES (:w, '{campaign}', 1, ':word ads') RETURNING id"
    ));
    one(
        "INSERT INTO codex.campaign_policies (workspace_id, guard_updates) VALUES (:w, false) RETURNING workspace_id",
    );
    let alert = one(
        "INSERT INTO public.system_alerts (workspace_id, alert_type, severity_level, title) VALUES (:w, 'error', 'critical', ':word alert') RETURNING id",
    );
    one(
        "INSERT INTO codex.alert_silences (workspace_id, dedup_glob, reason) VALUES (:w, 'none', ':word reason') RETURNING id",
    );
    one(
        "INSERT INTO codex.alert_policies (workspace_id, severity_level, reopen_within) VALUES (:w, 'info', '1 hour') RETURNING workspace_id",
    );
    one(
        "INSERT INTO codex.alert_fan_out (workspace_id, severity_level) VALUES (:w, 'info') RETURNING id",
    );
    let mut notification = None;
    for user in users {
        one(&format!(
            "INSERT INTO public.user_achievements (workspace_id, user_id, achievement_id) VALUES (:w, '{user}', '{achievement}') RETURNING id"
        ));
        one(&format!(
            "INSERT INTO public.user_stats (workspace_id, user_id, total_points) VALUES (:w, '{user}', 100) RETURNING id"
        ));
        let sent = one(&format!(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message) VALUES (:w, '{user}', 'message', ':word notification', 'hello') RETURNING id"
        ));
        one(&format!(
            "INSERT INTO codex.notification_preferences (workspace_id, user_id, channel, enabled) VALUES (:w, '{user}', 'sms', false) RETURNING user_id"
        ));
        one(&format!(
            "INSERT INTO codex.quiet_hours (workspace_id, user_id, starts_at, ends_at, time_zone) VALUES (:w, '{user}', '22:00', '07:00', 'UTC') RETURNING user_id"
        ));
        one(&format!(
            "INSERT INTO codex.user_time_zones (workspace_id, user_id, time_zone) VALUES (:w, '{user}', 'Europe/Berlin') RETURNING user_id"
        ));
        one(&format!(
            "INSERT INTO codex.metric_events (workspace_id, user_id, metric, event_id, value, occurred_at) VALUES (:w, '{user}', 'login', ':word event', 1, now()) RETURNING user_id"
        ));
        one(&format!(
            "INSERT INTO codex.metric_totals (workspace_id, user_id, metric, events, total, first_at, last_at) VALUES (:w, '{user}', 'login', 1, 1, now(), now()) RETURNING user_id"
        ));
        one(&format!(
            "INSERT INTO codex.metric_days (workspace_id, user_id, metric, day, events, total) VALUES (:w, '{user}', 'login', current_date, 1, 1) RETURNING user_id"
        ));
        one(&format!(
            "INSERT INTO codex.points_ledger (workspace_id, user_id, kind, points, reason) VALUES (:w, '{user}', 'adjustment', 100, ':word points') RETURNING user_id"
        ));
        if notification.is_none() {
            one(&format!(
                "INSERT INTO codex.deliveries (workspace_id, notification_id, channel, priority_rank, last_error) VALUES (:w, '{sent}', 'email', 2, ':word error') RETURNING notification_id"
            ));
            one(&format!(
                "WITH opened AS (INSERT INTO codex.digests (workspace_id, user_id, digest_key, channel, closes_at) VALUES (:w, '{user}', ':word digest', 'email', now()) RETURNING id)
                 INSERT INTO codex.digest_items (workspace_id, digest_id, position, title, message) SELECT :w, id, 1, ':word item', 'x' FROM opened RETURNING digest_id"
            ));
        }
        notification.get_or_insert(sent);
    }
    Rows {
        positioning,
        campaign,
        quest,
        cohort,
        achievement,
        signal,
        insight,
        alert,
        notification: notification.expect("a workspace of the scene has a user"),
        agent,
    }
}
