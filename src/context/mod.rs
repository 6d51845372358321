//! Who is asking: the workspace and the user of this transaction.
//!
//! Two sources say it, and they must not contradict each other:
//!
//! 1. the settings `app.current_workspace_id` and `app.current_user_id` ([`settings`]);
//! 2. the verified claims that an API gateway puts into `request.jwt.claims` ([`claims`]): `sub` is the user,
//!    `workspace_id` the workspace.
//!
//! | what is known | context |
//! |---|---|
//! | nothing | none |
//! | a workspace, no user | that workspace; nobody's own rows |
//! | a workspace and a user who is a member of it | both |
//! | a workspace and a user who is not | the user, no workspace |
//! | two different users | none |
//! | two different workspaces and a user | the setting's, when the user is a member of it |
//! | two different workspaces, no user | none |
//! | claims that cannot be read, or a `sub` that is no uuid | none |
//!
//! No context means no rows. Nothing here raises an error while a query runs: a value that makes no sense is
//! refused when it is set, or counts as none.
//!
//! Membership is looked up at most once a transaction ([`membership`]), outside of row-level security, without
//! taking a transaction id.

pub mod claims;
pub mod membership;
pub mod settings;
pub mod transaction;

use crate::error::{CodexError, OrRaise, Outcome, required};
use pgrx::Uuid;
use pgrx::prelude::*;
use settings::Mode;

/// Defines the settings that this room reads.
pub fn define_settings() {
    settings::define();
    transaction::watch();
    membership::watch();
}

/// What the settings and the claims say, before membership is looked at.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Asked {
    workspace: Option<Uuid>,
    user: Option<Uuid>,
}

fn asked() -> Asked {
    let mode = settings::mode();
    let set = Asked {
        workspace: settings::WORKSPACE.get(mode),
        user: settings::USER.get(mode),
    };
    let claimed = match claims::current(mode) {
        claims::Read::Absent => return set,
        claims::Read::Unusable => return Asked::default(),
        claims::Read::Claims(claimed) => claimed,
    };
    let user = match (set.user, claimed.user) {
        (Some(set), Some(claimed)) if set != claimed => return Asked::default(),
        (set, claimed) => set.or(claimed),
    };
    let workspace = match (set.workspace, claimed.workspace) {
        (Some(set), Some(claimed)) if set != claimed && user.is_none() => None,
        (set, claimed) => set.or(claimed),
    };
    Asked { workspace, user }
}

/// The workspace of this transaction, or none.
pub fn current_workspace() -> Option<Uuid> {
    let Asked { workspace, user } = asked();
    let workspace = workspace?;
    if let Some(user) = user
        && !membership::of(workspace, user)
    {
        return None;
    }
    if settings::mode() == Mode::Sealed && !transaction::seal(workspace, user) {
        return None;
    }
    Some(workspace)
}

/// The user of this transaction, or none.
pub fn current_user() -> Option<Uuid> {
    asked().user
}

/// The user in whose own name the session works; none for a service, which acts for its whole workspace.
pub fn caller() -> Option<Uuid> {
    if membership::acts_for_workspace() {
        None
    } else {
        current_user()
    }
}

/// Whether `user` is a member of `workspace`, as of the first time that this transaction asked.
///
/// False when there is no membership table that can be read (see [`membership`]).
pub fn is_member(workspace: Uuid, user: Uuid) -> Outcome<bool> {
    Ok(membership::of(workspace, user))
}

/// Those of `users` who are no members of `workspace`, in their order: [`is_member`] for many at once.
pub fn non_members(workspace: Uuid, users: &[Uuid]) -> Outcome<Vec<Uuid>> {
    Ok(membership::non_members(workspace, users))
}

/// Lets a caller go on who is not subject to row-level security, or who works in `workspace`; anybody else
/// gets 42501.
pub fn require_workspace(workspace: Uuid) -> Outcome<()> {
    let current = current_workspace();
    if current == Some(workspace) || !subject_to_policies() {
        return Ok(());
    }
    let where_we_are = match current {
        Some(current) => format!("the current workspace is {current}"),
        None => "no workspace is entered".to_string(),
    };
    Err(CodexError::not_allowed(format!(
        "workspace {workspace} is not open to this session: {where_we_are}"
    ))
    .with_hint(format!(
        "Enter it first, in the same transaction: SELECT codex.enter_workspace('{workspace}', <user id>);"
    )))
}

/// The workspace that a caller who works through a queue works for: the current one, or None for all, where row-level
/// security does not apply to the caller; else 42501.
pub fn workspace_or_all() -> Outcome<Option<Uuid>> {
    let current = current_workspace();
    if current.is_some() || !subject_to_policies() {
        return Ok(current);
    }
    Err(
        CodexError::not_allowed("no workspace is entered in this session").with_hint(
            "Enter one first, in the same transaction: SELECT codex.enter_workspace(<workspace id>);",
        ),
    )
}

/// Lets a caller go on who acts for the workspace, who is not subject to row-level security, or who is `user`;
/// anybody else gets 42501.
pub fn require_self(user: Uuid) -> Outcome<()> {
    if membership::acts_for_workspace() || current_user() == Some(user) || !subject_to_policies() {
        return Ok(());
    }
    Err(CodexError::not_allowed(format!(
        "user {user} is not the user of this session"
    )))
}

/// Whether the policies of the Codex tables apply to the current role (superusers, roles with BYPASSRLS and
/// the owner of the tables are exempt).
pub fn subject_to_policies() -> bool {
    let Some(campaigns) = membership::table_named(c"public", c"campaigns") else {
        return false;
    };
    // SAFETY: reads the catalog cache for a table that exists; with `noError` it does not raise.
    let answer = unsafe { pg_sys::check_enable_rls(campaigns, pg_sys::InvalidOid, true) };
    answer == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32
}

/// The workspace of this transaction: `app.current_workspace_id`, else the claim `workspace_id` of
/// `request.jwt.claims`. NULL when there is none, when the sources contradict each other, or when the known
/// user is not a member of it. Never raises.
///
/// Written into policies as `(SELECT codex.current_workspace_id())`, which is evaluated once a statement.
#[pg_extern(stable, parallel_restricted)]
fn current_workspace_id() -> Option<Uuid> {
    current_workspace()
}

/// The user of this transaction: `app.current_user_id`, else the claim `sub` of `request.jwt.claims`. NULL when
/// there is none or when the two contradict each other. Never raises.
#[pg_extern(stable, parallel_restricted)]
fn current_user_id() -> Option<Uuid> {
    current_user()
}

/// Whether `user_id` is a member of `workspace`, by `public.workspace_members`, else `public.user_workspaces`.
/// Judged once a transaction, and again after the transaction itself wrote to the membership table.
/// NULL for either argument is refused (22004).
#[pg_extern(stable, parallel_restricted)]
fn is_workspace_member(workspace: Option<Uuid>, user_id: Option<Uuid>) -> bool {
    required(workspace, "workspace")
        .and_then(|workspace| is_member(workspace, required(user_id, "user_id")?))
        .or_raise()
}

/// Whether the current role works for a whole workspace rather than for one user: it is, or inherits, a role
/// that was given to `codex.grant_service_role()`. Such a role sees the user-owned rows of its current
/// workspace, whoever they belong to; it is still bound to that workspace.
#[pg_extern(stable, parallel_restricted)]
fn acts_for_workspace() -> bool {
    membership::acts_for_workspace()
}

/// Makes `workspace` the current one until the end of the transaction, for `user_id` when one is given.
///
/// With a user, membership is checked first: 42501 when the user is not a member, in the same words when there
/// is no such workspace. Without one the user of the session's claims is taken; when there is no user at all,
/// user-owned rows stay hidden from everybody but service roles. A user other than the claims' is 42501.
/// NULL for `workspace` is refused (22004).
#[pg_extern(volatile, parallel_unsafe)]
fn enter_workspace(workspace: Option<Uuid>, user_id: default!(Option<Uuid>, "NULL")) {
    enter(workspace, user_id).or_raise();
}

fn enter(workspace: Option<Uuid>, user: Option<Uuid>) -> Outcome<()> {
    let workspace = required(workspace, "workspace")?;
    let claimed = match claims::current(settings::mode()) {
        claims::Read::Absent => None,
        claims::Read::Claims(claims) => claims.user,
        claims::Read::Unusable => {
            return Err(
                CodexError::not_allowed("request.jwt.claims cannot be read as claims").with_hint(
                    "It must be a JSON object whose \"sub\" and \"workspace_id\", where given, are uuids.",
                ),
            );
        }
    };
    if let (Some(user), Some(claimed)) = (user, claimed)
        && user != claimed
    {
        return Err(CodexError::not_allowed(format!(
            "user {user} is not the user of this session's claims, {claimed}"
        )));
    }
    if let Some(user) = user.or(claimed)
        && !membership::of(workspace, user)
    {
        return Err(not_a_member(workspace, user));
    }
    settings::USER.set_local(user);
    settings::WORKSPACE.set_local(Some(workspace));
    if current_workspace() != Some(workspace) {
        return Err(CodexError::not_allowed(format!(
            "workspace {workspace} cannot be entered: this transaction works in another one"
        ))
        .with_hint(
            "With raptorflow_codex.context = 'sealed' a transaction has one workspace; begin another transaction.",
        ));
    }
    Ok(())
}

/// 42501 in the words that every function uses: they do not tell whether the workspace exists.
pub fn not_a_member(workspace: Uuid, user: Uuid) -> CodexError {
    CodexError::not_allowed(format!(
        "user {user} is not a member of workspace {workspace}"
    ))
}

extension_sql!(
    r#"
COMMENT ON FUNCTION current_workspace_id() IS
'The workspace of this transaction: app.current_workspace_id, else the claim workspace_id of request.jwt.claims. NULL when there is none, when the sources contradict each other, or when the known user is not a member. Never raises. In policies: (SELECT codex.current_workspace_id()).';
COMMENT ON FUNCTION current_user_id() IS
'The user of this transaction: app.current_user_id, else the claim sub of request.jwt.claims. NULL when there is none or when the two contradict each other. Never raises.';
COMMENT ON FUNCTION is_workspace_member(uuid, uuid) IS
'Whether a user is a member of a workspace, by public.workspace_members, else public.user_workspaces. Judged once a transaction, and again after the transaction itself wrote to that table. Refuses NULL (22004).';
COMMENT ON FUNCTION acts_for_workspace() IS
'Whether the current role is, or inherits, a role given to codex.grant_service_role(): it sees the user-owned rows of its current workspace, whoever they belong to.';
COMMENT ON FUNCTION enter_workspace(uuid, uuid) IS
'Makes a workspace the current one until the end of the transaction, for a user when one is given (else the user of the claims, else none). Refuses a user who is not a member, and a user other than the claims'' (42501), and a NULL workspace (22004).';
"#,
    name = "comment_context",
    requires = [
        current_workspace_id,
        current_user_id,
        is_workspace_member,
        acts_for_workspace,
        enter_workspace
    ]
);
