//! Who may do what: the privileges of member roles and service roles.
//!
//! | | member role | service role |
//! |---|---|---|
//! | works for | one user of a workspace | a workspace, whoever is behind it |
//! | the workspace's work (campaigns, quests, signals, alerts …) | reads and writes | reads and writes |
//! | history and spending of campaigns | reads | reads; adds to the spending |
//! | achievements, performance of agents | reads | reads and writes |
//! | unlocks and stats | reads the own | reads and writes |
//! | notifications | reads the own, marks them as read | reads and writes |
//! | tasks and budgets of agents | reads | reads and writes |
//! | agents and their capabilities (shared) | reads | reads |
//! | foundation tables that `codex.migrate()` made | reads; writes cohorts and moves | reads and writes |
//!
//! Nobody gets TRUNCATE (row-level security does not see it), REFERENCES or TRIGGER, and nobody may UPDATE a
//! key: `id`, `workspace_id` and `user_id` stay what they were. Policies narrow all of it to the current workspace.
//!
//! Functions are SECURITY INVOKER, so a privilege to call one gives nothing that the tables do not. PUBLIC may
//! call what policies, defaults and triggers call, what tells the context, and the engine (`migrate`, `protect`,
//! `grant_…`), which works with the caller's own privileges. Without USAGE on schema `codex`, which PUBLIC does
//! not have, none of it can be named.

use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::schema::locks::one_at_a_time;
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, quote_identifier, quote_literal};
use std::fmt;

/// What a role works for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Member,
    Service,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Service => "service",
        }
    }
}

/// Which columns a privilege is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Columns {
    None,
    /// All but the keys.
    Values,
    Only(&'static [&'static str]),
}

/// What may be done with a table.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Rights {
    select: bool,
    insert: bool,
    update: Columns,
    delete: bool,
}

const NOTHING: Rights = Rights {
    select: false,
    insert: false,
    update: Columns::None,
    delete: false,
};
const READ: Rights = Rights {
    select: true,
    ..NOTHING
};
const READ_AND_ADD: Rights = Rights {
    select: true,
    insert: true,
    ..NOTHING
};
const SILENCE: Rights = Rights {
    select: true,
    insert: true,
    update: Columns::Only(&["lifted_at"]),
    ..NOTHING
};
/// For what triggers add and take away.
const CHANGE: Rights = Rights {
    select: true,
    update: Columns::Values,
    ..NOTHING
};
const WORK: Rights = Rights {
    select: true,
    insert: true,
    update: Columns::Values,
    delete: true,
};
const WORK_BUT_DELETE: Rights = Rights {
    select: true,
    insert: true,
    update: Columns::Values,
    delete: false,
};
const MARK_AS_READ: Rights = Rights {
    select: true,
    update: Columns::Only(&["is_read", "read_at", "seen_at", "archived_at"]),
    ..NOTHING
};
const REMEMBER: Rights = Rights {
    select: true,
    insert: true,
    update: Columns::Only(&["answer"]),
    ..NOTHING
};

/// Columns that no role of ours may change.
const KEYS: &[&str] = &["id", "workspace_id", "user_id"];

/// The rights of member and service roles on one table.
struct Rule {
    table: &'static str,
    member: Rights,
    service: Rights,
}

const fn rule(table: &'static str, member: Rights, service: Rights) -> Rule {
    Rule {
        table,
        member,
        service,
    }
}

/// The Codex tables.
const RULES: &[Rule] = &[
    rule("public.positioning", WORK, WORK),
    rule("public.message_architecture", WORK, WORK),
    rule("public.campaigns", WORK, WORK),
    rule("public.campaign_quests", WORK, WORK),
    rule("public.campaign_cohorts", WORK, WORK),
    rule("public.achievements", READ, WORK),
    rule("public.user_achievements", READ, WORK),
    rule("public.user_stats", READ, WORK),
    rule("public.agent_registry", READ, READ),
    rule("public.agent_capabilities", READ, READ),
    rule("public.agent_assignments", WORK, WORK),
    rule("public.agent_performance", READ, WORK),
    rule("codex.agent_executions", NOTHING, WORK),
    rule("codex.agent_tasks", READ, WORK),
    rule("codex.agent_budgets", READ, WORK),
    rule("codex.agent_budget_periods", READ, WORK_BUT_DELETE),
    rule("codex.budget_reservations", READ, WORK),
    rule("public.intelligence_signals", WORK, WORK),
    rule("public.market_insights", WORK, WORK),
    rule("codex.insight_signals", READ_AND_ADD, WORK),
    rule("codex.signal_half_lives", READ, WORK),
    rule("codex.signal_fingerprints", WORK_BUT_DELETE, WORK),
    rule("codex.signal_sightings", WORK_BUT_DELETE, WORK),
    rule("codex.insight_changes", READ, READ_AND_ADD),
    rule("public.system_alerts", WORK, WORK),
    rule("public.user_notifications", MARK_AS_READ, WORK),
    rule("codex.requests", REMEMBER, WORK),
    rule("codex.campaign_policies", READ, WORK),
    rule("codex.campaign_life", READ, READ),
    rule("codex.campaign_history", READ, READ),
    rule("codex.campaign_spending", READ, READ_AND_ADD),
    rule("codex.alert_silences", SILENCE, WORK),
    rule("codex.alert_policies", READ, WORK),
    rule("codex.alert_fan_out", READ, WORK),
    rule("codex.alert_life", READ, READ),
    rule("codex.alert_events", READ, READ),
    rule("codex.user_time_zones", WORK, WORK),
    rule("codex.metric_events", READ, WORK),
    rule("codex.metric_totals", READ, WORK),
    rule("codex.metric_days", READ, WORK),
    rule("codex.achievement_metrics", READ, READ),
    rule("codex.points_ledger", READ, READ_AND_ADD),
    rule("codex.deliveries", NOTHING, CHANGE),
    rule("codex.notification_preferences", WORK, WORK),
    rule("codex.quiet_hours", WORK, WORK),
    rule("codex.digests", NOTHING, WORK),
    rule("codex.digest_items", NOTHING, WORK),
    rule("codex.migrations", NOTHING, NOTHING),
    rule("codex.roles", NOTHING, NOTHING),
    rule("codex.adopted", NOTHING, NOTHING),
    rule("codex.departures", NOTHING, NOTHING),
];

/// Whether `schema.table` is one of the Codex's own.
pub fn is_codex_table(table: &str) -> bool {
    RULES.iter().any(|rule| rule.table == table)
}

/// Whether `schema.table` is one whose privileges are given by role: one of ours, or of the foundation.
pub fn has_rule(table: &str) -> bool {
    is_codex_table(table) || FOUNDATION.iter().any(|rule| rule.table == table)
}

/// The tables that the Codex builds on, where it made them itself. An application's own keep its own grants.
const FOUNDATION: &[Rule] = &[
    rule("public.users", READ, WORK),
    rule("public.workspaces", READ, WORK),
    rule("public.workspace_members", READ, WORK),
    rule("public.cohorts", WORK, WORK),
    rule("public.moves", WORK, WORK),
];

/// Functions that a member role may call, besides those that everybody may.
const MEMBER_FUNCTIONS: &[&str] = &[
    "acknowledge_alert",
    "agent_budget_status",
    "agent_performance_summary",
    "alert_sla",
    "campaign_progress",
    "campaign_state",
    "campaign_transitions",
    "create_insight_from_signals",
    "create_system_alert",
    "dismiss_alert",
    "explain_achievement",
    "get_active_insights",
    "explain_insight",
    "find_agents",
    "get_critical_alerts",
    "get_current_signals",
    "get_priority_signals",
    "get_user_unread_notifications",
    "inbox",
    "inbox_counts",
    "half_lives",
    "ingest_signal",
    "lift_silence",
    "mark_all_notifications_read",
    "mark_inbox",
    "mark_notification_as_read",
    "mark_notifications",
    "reopen_alert",
    "reparent_quest",
    "resolve_alert",
    "set_notification_preference",
    "set_quiet_hours",
    "silence_alerts",
    "set_user_time_zone",
    "transition_campaign",
];

/// Functions that a service role may call besides.
const SERVICE_FUNCTIONS: &[&str] = &[
    "add_to_digest",
    "adjust_points",
    "cancel_agent_task",
    "claim_agent_tasks",
    "claim_notifications",
    "complete_agent_task",
    "complete_delivery",
    "evaluate_achievements",
    "fail_delivery",
    "leaderboard",
    "reconcile_points",
    "record_agent_execution",
    "record_metric_event",
    "enqueue_agent_task",
    "fail_agent_task",
    "heartbeat_agent_task",
    "release_agent_budget",
    "requeue_agent_task",
    "requeue_delivery",
    "reserve_agent_budget",
    "set_agent_budget",
    "settle_agent_budget",
    "send_digest",
    "export_workspace",
    "refresh_insights",
    "send_user_notification",
    "send_user_notifications",
    "spend_campaign_budget",
    "unfit_achievements",
    "unlock_achievement",
    "upkeep_agents",
    "upkeep_alerts",
    "upkeep_achievements",
    "upkeep_notifications",
];

/// A role, by name.
struct Role {
    name: String,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote_identifier(&self.name))
    }
}

impl Role {
    fn of(client: &SpiClient<'_>, oid: pg_sys::Oid) -> Outcome<Self> {
        let name = one::<String>(
            client,
            "SELECT r.rolname::text FROM pg_catalog.pg_roles AS r WHERE r.oid = $1",
            &[oid.into()],
        )?
        .ok_or_else(|| CodexError::bad_value("there is no such role"))?;
        Ok(Self { name })
    }

    /// Whether row-level security applies to the role at all.
    fn bypasses(&self, client: &SpiClient<'_>) -> Outcome<bool> {
        Ok(one::<bool>(
            client,
            "SELECT r.rolsuper OR r.rolbypassrls FROM pg_catalog.pg_roles AS r WHERE r.rolname = $1::name",
            &[self.name.as_str().into()],
        )?
        .unwrap_or(false))
    }
}

/// Gives `role` what somebody needs who works for one user of a workspace: see the matrix in the manual. Anew
/// when the role has been given something before; what it had beyond that on these tables is taken back.
///
/// Registers the role in `codex.roles`, so that `codex.migrate()` extends its privileges to new tables. Refuses
/// NULL (22004), and 42501 where the caller cannot grant all of it.
#[pg_extern(sql = "
CREATE FUNCTION grant_member_role(role regrole)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION grant_member_role(regrole) IS
'Gives a role what somebody needs who works for one user of a workspace: reads and writes the workspace''s work, reads the own stats, unlocks and notifications. No TRUNCATE, no UPDATE of keys. Registered in codex.roles. Refuses NULL (22004), and 42501 where the caller cannot grant all of it.';
")]
fn grant_member_role(role: Option<pg_sys::Oid>) {
    give(role, Kind::Member).or_raise();
}

/// Gives `role` what a backend or an agent needs that works for a whole workspace: it reads and writes all
/// rows of its current workspace, user-owned ones included. It needs no BYPASSRLS and should not have it.
///
/// Registers the role in `codex.roles`, which is what makes `codex.acts_for_workspace()` true for it and for
/// roles that inherit it. Refuses NULL (22004), and 42501 where the caller cannot grant all of it.
#[pg_extern(sql = "
CREATE FUNCTION grant_service_role(role regrole)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION grant_service_role(regrole) IS
'Gives a role what a backend or an agent needs that works for a whole workspace: reads and writes all rows of its current workspace, user-owned ones included, without BYPASSRLS. No TRUNCATE, no UPDATE of keys. Registered in codex.roles. Refuses NULL (22004), and 42501 where the caller cannot grant all of it.';
")]
fn grant_service_role(role: Option<pg_sys::Oid>) {
    give(role, Kind::Service).or_raise();
}

/// Takes from `role` everything on the Codex tables and functions, and forgets it in `codex.roles`. Of the
/// foundation tables only those are touched that `codex.migrate()` made. Refuses NULL (22004).
#[pg_extern(sql = "
CREATE FUNCTION revoke_role(role regrole)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION revoke_role(regrole) IS
'Takes from a role everything on the Codex tables and functions, and forgets it in codex.roles. Refuses NULL (22004).';
")]
fn revoke_role(role: Option<pg_sys::Oid>) {
    let run = || {
        let role = required(role, "role")?;
        one_at_a_time()?;
        Spi::connect_mut(|client| {
            crate::statement::refuse_on_a_standby();
            let role = Role::of(client, role)?;
            require_roles_table(client)?;
            take_everything(client, &role)?;
            client.update(
                "DELETE FROM codex.roles AS r
                 WHERE r.role_name = $1::name",
                None,
                &[role.name.as_str().into()],
            )?;
            Ok(())
        })
    };
    run().or_raise()
}

fn give(role: Option<pg_sys::Oid>, kind: Kind) -> Outcome<()> {
    let role = required(role, "role")?;
    one_at_a_time()?;
    Spi::connect_mut(|client| {
        crate::statement::refuse_on_a_standby();
        let role = Role::of(client, role)?;
        register(client, &role, kind)
    })
}

/// Gives a role that was just made what a member (or a service) has.
pub fn give_by_name(client: &mut SpiClient<'_>, name: &str, service: bool) -> Outcome<()> {
    let role = Role {
        name: name.to_string(),
    };
    register(
        client,
        &role,
        if service { Kind::Service } else { Kind::Member },
    )
}

fn register(client: &mut SpiClient<'_>, role: &Role, kind: Kind) -> Outcome<()> {
    require_roles_table(client)?;
    if role.bypasses(client)? {
        warning!(
            "role {role} bypasses row-level security: it sees every workspace, whatever is granted to it"
        );
    }
    client.update(
        "INSERT INTO codex.roles AS r (role_name, kind)
             VALUES ($1::name, $2)
             ON CONFLICT (role_name) DO UPDATE
             SET kind = excluded.kind,
                 granted_at = now(),
                 granted_by = current_user",
        None,
        &[role.name.as_str().into(), kind.name().into()],
    )?;
    take_everything(client, role)?;
    give_everything(client, role, kind)
}

fn require_roles_table(client: &SpiClient<'_>) -> Outcome<()> {
    if exists(client, "codex.roles")? {
        return Ok(());
    }
    Err(
        CodexError::wrong_state("the tables of the Codex are not in this database yet")
            .with_hint("Run SELECT * FROM codex.migrate(); first."),
    )
}

/// Grants again what the registered roles are to have: for tables and functions that are new, or that lost
/// their grants. Gives a sentence a role.
pub fn reapply_grants(client: &mut SpiClient<'_>) -> Outcome<Vec<String>> {
    if !exists(client, "codex.roles")? {
        return Ok(Vec::new());
    }
    let registered = client
        .select(
            "SELECT r.role_name::text, r.kind, k.oid IS NOT NULL
             FROM codex.roles AS r
                 LEFT JOIN pg_catalog.pg_roles AS k ON k.rolname = r.role_name
             ORDER BY r.role_name",
            None,
            &[],
        )?
        .map(|row| {
            Ok((
                row.get::<String>(1)?.unwrap_or_default(),
                row.get::<String>(2)?.unwrap_or_default(),
                row.get::<bool>(3)?.unwrap_or(false),
            ))
        })
        .collect::<Outcome<Vec<_>>>()?;
    let mut words = Vec::new();
    for (name, kind, exists) in registered {
        let role = Role { name };
        if !exists {
            words.push(format!(
                "role {role} is registered in codex.roles but does not exist: nothing granted"
            ));
            continue;
        }
        let kind = if kind == Kind::Service.name() {
            Kind::Service
        } else {
            Kind::Member
        };
        give_everything(client, &role, kind)?;
        words.push(format!("granted to {role} what a {} role has", kind.name()));
    }
    Ok(words)
}

/// Brings the privileges on the Codex tables in order: takes back what default privileges of the database gave too
/// broadly, and grants registered roles what they are to have, on new tables and columns too.
///
/// `codex.migrate()` does it by itself; the text of `codex.migration_sql()` ends with it. Gives a sentence for
/// everything done. Refuses everybody but the owner of the tables (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn settle_grants() -> TableIterator<'static, (name!(done, String),)> {
    let settle = || {
        Spi::connect_mut(|client| {
            crate::statement::refuse_on_a_standby();
            let mut words = take_back_broad_grants(client, &[])?;
            words.extend(reapply_grants(client)?);
            Ok::<_, CodexError>(words)
        })
    };
    TableIterator::new(settle().or_raise().into_iter().map(|done| (done,)))
}

extension_sql!(
    r#"
COMMENT ON FUNCTION settle_grants() IS
'Brings the privileges on the Codex tables in order: takes back what default privileges of the database gave too broadly, and grants registered roles what they are to have, on new tables and columns too. codex.migrate() does it by itself; run it after migrations that were printed and run elsewhere. A sentence for everything done. Refuses everybody but the owner of the tables (42501).';
"#,
    name = "comment_settle_grants",
    requires = [settle_grants]
);

/// The rules for the tables that are there; of the foundation, for those that `codex.migrate()` made.
fn rules_here(client: &SpiClient<'_>) -> Outcome<Vec<&'static Rule>> {
    let mut rules = Vec::new();
    for rule in RULES {
        if exists(client, rule.table)? {
            rules.push(rule);
        }
    }
    for rule in FOUNDATION {
        let made_here = one::<bool>(
            client,
            "SELECT pg_catalog.obj_description(pg_catalog.to_regclass($1), 'pg_class') LIKE '%Made by codex.migrate()%'",
            &[rule.table.into()],
        )?;
        if made_here == Some(true) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

fn take_everything(client: &mut SpiClient<'_>, role: &Role) -> Outcome<()> {
    for rule in rules_here(client)? {
        run(
            client,
            &format!("REVOKE ALL PRIVILEGES ON TABLE {} FROM {role}", rule.table),
        )?;
    }
    run(
        client,
        &format!("REVOKE ALL PRIVILEGES ON SCHEMA codex FROM {role}"),
    )?;
    for function in functions(client, &[])? {
        if may(client, "function_acl", &function, role)? {
            run(
                client,
                &format!("REVOKE ALL PRIVILEGES ON FUNCTION {function} FROM {role}"),
            )?;
        }
    }
    Ok(())
}

fn give_everything(client: &mut SpiClient<'_>, role: &Role, kind: Kind) -> Outcome<()> {
    for schema in ["public", "codex"] {
        let usage = || {
            one::<bool>(
                client,
                "SELECT pg_catalog.has_schema_privilege($1::name, $2, 'USAGE')",
                &[role.name.as_str().into(), schema.into()],
            )
        };
        if usage()? != Some(true) {
            run(client, &format!("GRANT USAGE ON SCHEMA {schema} TO {role}"))?;
        }
        let has = one::<bool>(
            client,
            "SELECT pg_catalog.has_schema_privilege($1::name, $2, 'USAGE')",
            &[role.name.as_str().into(), schema.into()],
        )?;
        if has != Some(true) {
            return Err(cannot_grant(&format!("USAGE on schema {schema}"), role));
        }
    }
    for rule in rules_here(client)? {
        let rights = match kind {
            Kind::Member => rule.member,
            Kind::Service => rule.service,
        };
        grant_rights(client, rule.table, rights, role)?;
    }
    let wanted = match kind {
        Kind::Member => MEMBER_FUNCTIONS.to_vec(),
        Kind::Service => [MEMBER_FUNCTIONS, SERVICE_FUNCTIONS].concat(),
    };
    for function in functions(client, &wanted)? {
        if !may(client, "function", &function, role)? {
            run(
                client,
                &format!("GRANT EXECUTE ON FUNCTION {function} TO {role}"),
            )?;
            if !may(client, "function", &function, role)? {
                return Err(cannot_grant(&format!("EXECUTE on {function}"), role));
            }
        }
    }
    Ok(())
}

fn cannot_grant(what: &str, role: &Role) -> CodexError {
    CodexError::not_allowed(format!("you cannot grant {what} to {role}")).with_hint(
        "Have a superuser run SELECT codex.grant_operator_role('<your role>'); once, or run this as a superuser.",
    )
}

/// Lets `role` run the Codex in this database without being a superuser: USAGE and CREATE on schema `codex` and
/// EXECUTE on all its functions, each with the right to hand it on. With CREATE on schema `public` such a role
/// runs `codex.migrate()`, owns the tables, and grants to member and service roles.
///
/// To be run by a superuser or the extension's owner (else 42501). Refuses NULL (22004).
#[pg_extern(sql = "
CREATE FUNCTION grant_operator_role(role regrole)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION grant_operator_role(regrole) IS
'Lets a role run the Codex in this database without being a superuser: USAGE and CREATE on schema codex and EXECUTE on all its functions, with the right to hand them on. With CREATE on schema public it runs codex.migrate(), owns the tables, and grants to member and service roles. To be run by a superuser or the extension''s owner (else 42501). Refuses NULL (22004).';
")]
fn grant_operator_role(role: Option<pg_sys::Oid>) {
    let grant = || {
        let role = required(role, "role")?;
        one_at_a_time()?;
        Spi::connect_mut(|client| {
            let role = Role::of(client, role)?;
            run(
                client,
                &format!("GRANT USAGE, CREATE ON SCHEMA codex TO {role} WITH GRANT OPTION"),
            )?;
            let all = functions(client, &[])?;
            for function in &all {
                run(
                    client,
                    &format!("GRANT EXECUTE ON FUNCTION {function} TO {role} WITH GRANT OPTION"),
                )?;
            }
            let has = one::<bool>(
                client,
                "SELECT pg_catalog.has_schema_privilege($1::name, 'codex', 'CREATE WITH GRANT OPTION')",
                &[role.name.as_str().into()],
            )?;
            if has != Some(true) {
                return Err(CodexError::not_allowed(format!(
                    "you cannot grant CREATE on schema codex to {role}"
                ))
                .with_hint("Have a superuser, or the owner of the extension, run this."));
            }
            Ok(())
        })
    };
    grant().or_raise()
}

fn grant_rights(
    client: &mut SpiClient<'_>,
    table: &str,
    rights: Rights,
    role: &Role,
) -> Outcome<()> {
    let mut words = Vec::new();
    if rights.select {
        words.push("SELECT".to_string());
    }
    if rights.insert {
        words.push("INSERT".to_string());
    }
    if rights.delete {
        words.push("DELETE".to_string());
    }
    if let Some(columns) = update_columns(client, table, rights.update)? {
        words.push(format!("UPDATE ({columns})"));
    }
    if words.is_empty() {
        return Ok(());
    }
    run(
        client,
        &format!("GRANT {} ON TABLE {table} TO {role}", words.join(", ")),
    )
}

/// The columns of a table that may be updated, as a list for GRANT.
fn update_columns(
    client: &SpiClient<'_>,
    table: &str,
    columns: Columns,
) -> Outcome<Option<String>> {
    let columns = match columns {
        Columns::None => return Ok(None),
        Columns::Only(columns) => client
            .select(
                "SELECT pg_catalog.quote_ident(a.attname)
                 FROM pg_catalog.pg_attribute AS a
                 WHERE a.attrelid = pg_catalog.to_regclass($1)
                     AND a.attnum > 0
                     AND NOT a.attisdropped
                     AND a.attname = ANY ($2::name[])
                 ORDER BY a.attnum",
                None,
                &[table.into(), format!("{{{}}}", columns.join(",")).into()],
            )?
            .map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()))
            .collect::<Outcome<Vec<_>>>()?,
        Columns::Values => client
            .select(
                "SELECT pg_catalog.quote_ident(a.attname)
                 FROM pg_catalog.pg_attribute AS a
                 WHERE a.attrelid = pg_catalog.to_regclass($1)
                     AND a.attnum > 0
                     AND NOT a.attisdropped
                     AND a.attgenerated = ''
                     AND a.attname <> ALL ($2::name[])
                 ORDER BY a.attnum",
                None,
                &[table.into(), format!("{{{}}}", KEYS.join(",")).into()],
            )?
            .map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()))
            .collect::<Outcome<Vec<_>>>()?,
    };
    Ok((!columns.is_empty()).then(|| columns.join(", ")))
}

/// The functions of schema `codex` by these names (all of them for no names), with their arguments' types.
fn functions(client: &SpiClient<'_>, names: &[&str]) -> Outcome<Vec<String>> {
    client
        .select(
            "SELECT p.oid::regprocedure::text
             FROM pg_catalog.pg_proc AS p
             WHERE p.pronamespace = 'codex'::regnamespace
                 AND ($1::text[] = '{}' OR p.proname::text = ANY ($1::text[]))
                 AND EXISTS (
                     SELECT
                     FROM pg_catalog.pg_depend AS d
                         JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
                     WHERE d.classid = 'pg_catalog.pg_proc'::regclass
                         AND d.objid = p.oid
                         AND d.refclassid = 'pg_catalog.pg_extension'::regclass
                         AND d.deptype = 'e'
                         AND e.extname = 'raptorflow_codex'
                 )
             ORDER BY 1",
            None,
            &[format!("{{{}}}", names.join(",")).into()],
        )?
        .map(|row| Ok(row.get::<String>(1)?.unwrap_or_default()))
        .collect()
}

/// Whether a role may call a function (`function`), or is named in its list of privileges (`function_acl`).
fn may(client: &SpiClient<'_>, what: &str, function: &str, role: &Role) -> Outcome<bool> {
    let sql = if what == "function" {
        "SELECT pg_catalog.has_function_privilege($1::name, $2::regprocedure, 'EXECUTE')"
    } else {
        "SELECT EXISTS (
             SELECT
             FROM pg_catalog.pg_proc AS p
                 CROSS JOIN LATERAL pg_catalog.aclexplode(p.proacl) AS a
                 JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
             WHERE p.oid = $2::regprocedure
                 AND r.rolname = $1::name
         )"
    };
    Ok(one::<bool>(client, sql, &[role.name.as_str().into(), function.into()])?.unwrap_or(false))
}

/// A privilege that was granted on one of our tables, to somebody who is not its owner.
struct Granted {
    table: String,
    /// NULL for PUBLIC.
    role: Option<String>,
    privilege: String,
    bypasses: bool,
    kind: Option<String>,
}

/// Takes back what a database's default privileges gave on the Codex tables and what breaks isolation:
/// TRUNCATE, REFERENCES, TRIGGER (and MAINTAIN) from everybody; writes on the shared tables, on achievements,
/// unlocks and stats, and on the engine's own tables; the UPDATE of keys. Service roles registered in
/// `codex.roles` keep what they have, and roles that bypass row-level security keep their writes.
///
/// `tables` are the tables to look at, as `schema.table`; none for all. Gives a sentence a role and table.
pub fn take_back_broad_grants(client: &mut SpiClient<'_>, tables: &[&str]) -> Outcome<Vec<String>> {
    let rules = rules_here(client)?
        .into_iter()
        .filter(|rule| tables.is_empty() || tables.contains(&rule.table))
        .collect::<Vec<_>>();
    let mut words = Vec::new();
    for rule in rules {
        let mut taken: Vec<(String, Vec<String>)> = Vec::new();
        for granted in grants_on(client, rule.table)? {
            if !breaks_isolation(rule, &granted) {
                continue;
            }
            let role = granted
                .role
                .as_ref()
                .map_or("PUBLIC".to_string(), quote_identifier);
            run(
                client,
                &format!(
                    "REVOKE {} ON TABLE {} FROM {role}",
                    granted.privilege, granted.table
                ),
            )?;
            let mut told = granted.privilege.clone();
            if granted.privilege == "UPDATE"
                && let Some(columns) = update_columns(client, rule.table, rule.member.update)?
            {
                run(
                    client,
                    &format!("GRANT UPDATE ({columns}) ON TABLE {} TO {role}", rule.table),
                )?;
                told = match rule.member.update {
                    Columns::Only(only) => format!("UPDATE of all but {}", only.join(", ")),
                    _ => "UPDATE of the keys".to_string(),
                };
            }
            match taken.iter_mut().find(|(name, _)| *name == role) {
                Some((_, privileges)) => privileges.push(told),
                None => taken.push((role, vec![told])),
            }
        }
        for (role, privileges) in taken {
            words.push(format!(
                "took back from {role} on {}: {}",
                rule.table,
                privileges.join(", ")
            ));
        }
    }
    Ok(words)
}

fn breaks_isolation(rule: &Rule, granted: &Granted) -> bool {
    match granted.privilege.as_str() {
        "TRUNCATE" | "REFERENCES" | "TRIGGER" | "MAINTAIN" => true,
        _ if granted.bypasses || granted.kind.as_deref() == Some(Kind::Service.name()) => false,
        "INSERT" => !rule.member.insert,
        "UPDATE" => true,
        "DELETE" => !rule.member.delete,
        "SELECT" => !rule.member.select,
        _ => false,
    }
}

fn grants_on(client: &SpiClient<'_>, table: &str) -> Outcome<Vec<Granted>> {
    client
        .select(
            "SELECT r.rolname::text,
                 a.privilege_type,
                 coalesce(r.rolsuper OR r.rolbypassrls, false),
                 k.kind
             FROM pg_catalog.pg_class AS c
                 CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
                 LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
                 LEFT JOIN codex.roles AS k ON k.role_name = r.rolname
             WHERE c.oid = pg_catalog.to_regclass($1)
                 AND a.grantee <> c.relowner
             ORDER BY r.rolname NULLS FIRST, a.privilege_type",
            None,
            &[table.into()],
        )?
        .map(|row| {
            Ok(Granted {
                table: table.to_string(),
                role: row.get::<String>(1)?,
                privilege: row.get::<String>(2)?.unwrap_or_default(),
                bypasses: row.get::<bool>(3)?.unwrap_or(false),
                kind: row.get::<String>(4)?,
            })
        })
        .collect()
}

fn run(client: &mut SpiClient<'_>, sql: &str) -> Outcome<()> {
    client.update(sql, None, &[])?;
    Ok(())
}

fn one<T: FromDatum + IntoDatum>(
    client: &SpiClient<'_>,
    sql: &str,
    arguments: &[pgrx::datum::DatumWithOid<'_>],
) -> Outcome<Option<T>> {
    let row = client.select(sql, Some(1), arguments)?.next();
    Ok(row.map(|row| row.get::<T>(1)).transpose()?.flatten())
}

fn exists(client: &SpiClient<'_>, table: &str) -> Outcome<bool> {
    let sql = format!(
        "SELECT pg_catalog.to_regclass({}) IS NOT NULL",
        quote_literal(table)
    );
    Ok(one::<bool>(client, &sql, &[])?.unwrap_or(false))
}

// What PUBLIC may call. Everything is taken from it first, so that a new function is nobody's until it is listed
// here or in the lists above.
extension_sql!(
    r#"
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
"#,
    name = "execute_privileges",
    finalize
);
