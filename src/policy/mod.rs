//! Row-level security: what the protection of a table is, and making it so.
//!
//! | table | policies |
//! |---|---|
//! | of a workspace | `<table>_workspace_isolation`: permissive, for all commands, `workspace_id = (SELECT codex.current_workspace_id())` |
//! | of a user in a workspace | the same, and `<table>_own_access`: restrictive, for all commands, `user_id = (SELECT codex.current_user_id()) OR (SELECT codex.acts_for_workspace())` |
//! | shared by all workspaces | `<table>_shared_read`: permissive, for SELECT, `true`; nobody but the owner writes |
//!
//! One permissive policy a table, because permissive policies are OR-ed; what narrows is restrictive, because
//! restrictive ones are AND-ed. The context stands in a subquery, so that the planner evaluates it once a
//! statement, uses it as an index condition, and never folds one tenant's value into a kept plan.
//!
//! [`protect`] writes them, for the Codex tables and for the application's own alike.

pub mod grants;
mod report;
mod selftest;

use crate::argument::Regclass;
use crate::error::{CodexError, OrRaise, Outcome, required, shorten};
use crate::schema::locks::one_at_a_time;
use pgrx::PgRelation;
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, quote_identifier};

/// The table that policies are to be written for.
struct Target {
    oid: pg_sys::Oid,
    schema: String,
    name: String,
}

impl Target {
    /// The name as it stands in a statement.
    fn quoted(&self) -> String {
        format!(
            "{}.{}",
            quote_identifier(&self.schema),
            quote_identifier(&self.name)
        )
    }

    /// The quoted name of one of its policies; a long table name is cut, so that the ending stays.
    fn policy(&self, ending: &str) -> String {
        quote_identifier(policy_name(&self.name, ending))
    }

    fn of(relation: &PgRelation) -> Outcome<Self> {
        let target = Self {
            oid: relation.oid(),
            schema: relation.namespace().to_string(),
            name: relation.name().to_string(),
        };
        if !relation.is_table() && !relation.is_partitioned_table() {
            return Err(
                CodexError::bad_value(format!("{} is not a table", target.quoted()))
                    .with_hint("Row-level security applies to tables and partitioned tables only."),
            );
        }
        Ok(target)
    }

    /// Refuses a column that is not there or is no uuid.
    fn require_uuid(&self, client: &SpiClient<'_>, argument: &str, column: &str) -> Outcome<()> {
        let found = client
            .select(
                "SELECT a.atttypid
                 FROM pg_catalog.pg_attribute AS a
                 WHERE a.attrelid = $1
                     AND a.attname = $2
                     AND a.attnum > 0
                     AND NOT a.attisdropped",
                Some(1),
                &[self.oid.into(), column.into()],
            )?
            .next()
            .map(|row| row.get::<pg_sys::Oid>(1))
            .transpose()?
            .flatten();
        match found {
            Some(pg_sys::UUIDOID) => Ok(()),
            Some(_) => Err(CodexError::bad_value(format!(
                "column {} of {} is not a uuid",
                shorten(column),
                self.quoted()
            ))),
            None => Err(CodexError::bad_value(format!(
                "{} has no column {}",
                self.quoted(),
                shorten(column)
            ))
            .with_hint(format!("Name it with the argument {argument}."))),
        }
    }
}

/// `<table><ending>` within the 63 bytes of an identifier.
fn policy_name(table: &str, ending: &str) -> String {
    let mut end = table
        .len()
        .min(pg_sys::NAMEDATALEN as usize - 1 - ending.len());
    while !table.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ending}", &table[..end])
}

const ISOLATION: &str = "_workspace_isolation";
const OWN_ACCESS: &str = "_own_access";
const SHARED_READ: &str = "_shared_read";

/// The Codex tables of which a row belongs to one user, by the column `user_id`.
const USER_OWNED: &[&str] = &[
    "codex.digests",
    "codex.metric_days",
    "codex.metric_events",
    "codex.metric_totals",
    "codex.notification_preferences",
    "codex.points_ledger",
    "codex.quiet_hours",
    "codex.user_time_zones",
    "public.user_achievements",
    "public.user_notifications",
    "public.user_stats",
];

/// What the rows of a table belong to.
struct Columns<'a> {
    workspace: &'a str,
    user: Option<&'a str>,
}

/// Writes row-level security onto `target`, a table or a partitioned table with all its partitions: rows are
/// seen and written only in their own workspace and, with a `user_column`, only by their own user or a service.
///
/// `workspace_column` and `user_column` are names of uuid columns. `subquery` false writes the plain form of the
/// expressions, for Citus, which refuses subqueries in policies; it costs a call a row in a sequential scan.
/// `user_writes` false lets only services and the owner write user-owned rows, whatever was granted.
///
/// Running it again writes the same policies anew. It warns of other permissive policies on the table, which
/// widen what is seen. Only the owner of the table may do this (42501). NULL for a required argument is
/// refused (22004), and so is what is no table or a column that is missing or no uuid (22023).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn protect(
    target: Option<Regclass>,
    workspace_column: default!(Option<&str>, "'workspace_id'"),
    user_column: default!(Option<&str>, "NULL"),
    subquery: default!(Option<bool>, true),
    user_writes: default!(Option<bool>, true),
) {
    (|| {
        let target = required(target, "target")?;
        one_at_a_time()?;
        let target = Target::of(&target.open("target")?)?;
        let columns = Columns {
            workspace: required(workspace_column, "workspace_column")?,
            user: user_column,
        };
        let subquery = required(subquery, "subquery")?;
        let user_writes = required(user_writes, "user_writes")?;
        Spi::connect_mut(|client| {
            target.require_uuid(client, "workspace_column", columns.workspace)?;
            if let Some(user) = columns.user {
                target.require_uuid(client, "user_column", user)?;
            }
            for table in with_partitions(client, &target)? {
                write_policies(client, &table, &columns, subquery, user_writes)?;
            }
            Ok(())
        })
    })()
    .or_raise()
}

fn write_policies(
    client: &mut SpiClient<'_>,
    table: &Target,
    columns: &Columns<'_>,
    subquery: bool,
    user_writes: bool,
) -> Outcome<()> {
    let call = |function: &str| {
        if subquery {
            format!("(SELECT codex.{function}())")
        } else {
            format!("codex.{function}()")
        }
    };
    begin_policies(client, table)?;
    client.update(
        &format!(
            "CREATE POLICY {} ON {}
             AS PERMISSIVE
             FOR ALL
             USING ({} = {})",
            table.policy(ISOLATION),
            table.quoted(),
            quote_identifier(columns.workspace),
            call("current_workspace_id"),
        ),
        None,
        &[],
    )?;
    if let Some(user) = columns.user {
        let own = format!(
            "{} = {} OR {}",
            quote_identifier(user),
            call("current_user_id"),
            call("acts_for_workspace"),
        );
        let write = if user_writes {
            own.clone()
        } else {
            call("acts_for_workspace")
        };
        client.update(
            &format!(
                "CREATE POLICY {} ON {}
                 AS RESTRICTIVE
                 FOR ALL
                 USING ({own})
                 WITH CHECK ({write})",
                table.policy(OWN_ACCESS),
                table.quoted(),
            ),
            None,
            &[],
        )?;
    }
    warn_of_other_policies(client, table)
}

/// Writes row-level security onto a table that all workspaces share: everybody with the privilege reads, only
/// the owner writes. Refuses like `codex.protect()`.
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn protect_shared(target: Option<Regclass>) {
    (|| {
        let target = required(target, "target")?;
        one_at_a_time()?;
        let target = Target::of(&target.open("target")?)?;
        Spi::connect_mut(|client| {
            for table in with_partitions(client, &target)? {
                begin_policies(client, &table)?;
                client.update(
                    &format!(
                        "CREATE POLICY {} ON {}
                         AS PERMISSIVE
                         FOR SELECT
                         USING (true)",
                        table.policy(SHARED_READ),
                        table.quoted(),
                    ),
                    None,
                    &[],
                )?;
                warn_of_other_policies(client, &table)?;
            }
            Ok(())
        })
    })()
    .or_raise()
}

/// Takes from `target`, and its partitions, what `codex.protect()` or `codex.protect_shared()` wrote. Where no
/// other policy is left, row-level security is switched off: everybody with the privilege then sees every row.
///
/// Refuses the tables of the Codex themselves (55000), what is no table (22023), NULL (22004), and everybody but
/// the owner (42501).
#[pg_extern(volatile, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn unprotect(target: Option<Regclass>) {
    (|| {
        let target = required(target, "target")?;
        one_at_a_time()?;
        let target = Target::of(&target.open("target")?)?;
        if grants::is_codex_table(&format!("{}.{}", target.schema, target.name)) {
            return Err(CodexError::wrong_state(format!(
                "{} is a table of the Codex and stays protected",
                target.quoted()
            ))
            .with_hint("codex.rollback() takes the tables of the Codex away."));
        }
        Spi::connect_mut(|client| {
            for table in with_partitions(client, &target)? {
                drop_policies(client, &table)?;
                if policies_of(client, &table)?.is_empty() {
                    client.update(
                        &format!("ALTER TABLE {} DISABLE ROW LEVEL SECURITY", table.quoted()),
                        None,
                        &[],
                    )?;
                    notice!(
                        "{} has no policy any more: everybody with the privilege sees every row",
                        table.quoted()
                    );
                }
            }
            Ok(())
        })
    })()
    .or_raise()
}

/// Row-level security on, and none of our policies there.
fn begin_policies(client: &mut SpiClient<'_>, table: &Target) -> Outcome<()> {
    client.update(
        &format!("ALTER TABLE {} ENABLE ROW LEVEL SECURITY", table.quoted()),
        None,
        &[],
    )?;
    drop_policies(client, table)
}

/// Drops those of our policies that the table has.
fn drop_policies(client: &mut SpiClient<'_>, table: &Target) -> Outcome<()> {
    for policy in policies_of(client, table)? {
        if policy.ours {
            client.update(
                &format!(
                    "DROP POLICY {} ON {}",
                    quote_identifier(&policy.name),
                    table.quoted()
                ),
                None,
                &[],
            )?;
        }
    }
    Ok(())
}

struct Policy {
    name: String,
    permissive: bool,
    ours: bool,
}

fn policies_of(client: &SpiClient<'_>, table: &Target) -> Outcome<Vec<Policy>> {
    let ours = [ISOLATION, OWN_ACCESS, SHARED_READ].map(|ending| policy_name(&table.name, ending));
    client
        .select(
            "SELECT p.polname::text, p.polpermissive
             FROM pg_catalog.pg_policy AS p
             WHERE p.polrelid = $1
             ORDER BY p.polname",
            None,
            &[table.oid.into()],
        )?
        .map(|row| {
            let name = row.get::<String>(1)?.unwrap_or_default();
            Ok(Policy {
                permissive: row.get::<bool>(2)?.unwrap_or(true),
                ours: ours.contains(&name),
                name,
            })
        })
        .collect()
}

fn warn_of_other_policies(client: &SpiClient<'_>, table: &Target) -> Outcome<()> {
    let others = policies_of(client, table)?
        .into_iter()
        .filter(|policy| policy.permissive && !policy.ours)
        .map(|policy| quote_identifier(&policy.name))
        .collect::<Vec<_>>();
    if !others.is_empty() {
        warning!(
            "{} has further permissive policies, which let through more than its workspace: {}. Drop them (DROP POLICY <name> ON {}) or make them restrictive.",
            table.quoted(),
            others.join(", "),
            table.quoted(),
        );
    }
    Ok(())
}

/// The table, and every partition or child of it: each is readable by its own name, past the parent's policies.
fn with_partitions(client: &SpiClient<'_>, target: &Target) -> Outcome<Vec<Target>> {
    client
        .select(
            "WITH RECURSIVE family (oid) AS (
                 SELECT $1
                 UNION
                 SELECT i.inhrelid
                 FROM pg_catalog.pg_inherits AS i
                     JOIN family AS f ON f.oid = i.inhparent
             )
             SELECT c.oid, n.nspname::text, c.relname::text
             FROM family AS f
                 JOIN pg_catalog.pg_class AS c ON c.oid = f.oid
                 JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p')
             ORDER BY c.oid <> $1, n.nspname, c.relname",
            None,
            &[target.oid.into()],
        )?
        .map(|row| {
            Ok(Target {
                oid: row.get::<pg_sys::Oid>(1)?.unwrap_or(pg_sys::InvalidOid),
                schema: row.get::<String>(2)?.unwrap_or_default(),
                name: row.get::<String>(3)?.unwrap_or_default(),
            })
        })
        .collect()
}

extension_sql!(
    r#"
COMMENT ON FUNCTION protect(regclass, text, text, boolean, boolean) IS
'Writes row-level security onto a table and its partitions: rows are seen and written only in their own workspace and, with user_column, only by their own user or a service role. subquery => false writes the plain form (for Citus). user_writes => false lets only services and the owner write user-owned rows. Again: the same policies anew. Refuses what is no table and a column that is missing or no uuid (22023), NULL (22004), and everybody but the owner (42501).';
COMMENT ON FUNCTION unprotect(regclass) IS
'Takes from a table and its partitions what codex.protect() or codex.protect_shared() wrote; where no other policy is left, row-level security is switched off. Refuses the tables of the Codex themselves (55000), what is no table (22023), NULL (22004), and everybody but the owner (42501).';
COMMENT ON FUNCTION protect_shared(regclass) IS
'Writes row-level security onto a table that all workspaces share: everybody with the privilege reads, only the owner writes. Refuses what is no table (22023), NULL (22004), and everybody but the owner (42501).';
"#,
    name = "comment_policy",
    requires = [protect, protect_shared, unprotect]
);
