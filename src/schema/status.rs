//! `codex.status()`: one screen for the DBA.

use super::catalogue::{self, Migration};
use super::database::{query, table_exists, value};
use super::foundation;
use super::ledger;
use super::release::{self, LIBRARY_VERSION};
use super::verify;
use crate::error::{OrRaise, Outcome, shorten_to};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;

/// What fits on one line of a screen; `codex.verify()` has the whole of it.
fn shorten(text: &str) -> String {
    shorten_to(text, 160)
}

/// One line of the screen: what, how it stands, and what to do about it.
type Line = (String, String, Option<String>);

/// Says in a few rows how the Codex stands in this database: versions, pending migrations, users and members,
/// roles, protected tables, findings of
/// `codex.isolation_report()`, row counts, and every failed check of `codex.verify()` with what mends it. Changes nothing.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn status() -> TableIterator<
    'static,
    (
        name!(item, String),
        name!(state, String),
        name!(mend, Option<String>),
    ),
> {
    TableIterator::new(Spi::connect(lines).or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION status() IS
'One screen: versions of library, extension and schema, pending migrations, users and members, roles, protected tables, findings of the isolation report, tables with an estimate of their rows, and every failed check of codex.verify() with what mends it. Changes nothing.';
"#,
    name = "comment_status",
    requires = [status]
);

fn lines(client: &SpiClient<'_>) -> Outcome<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    let mut say = |item: &str, state: String, mend: Option<String>| {
        lines.push((item.to_string(), state, mend))
    };

    let installed = release::installed(client)?;
    let outdated = installed.as_deref() != Some(LIBRARY_VERSION);
    say("library", LIBRARY_VERSION.to_string(), None);
    say(
        "extension",
        installed.unwrap_or_else(|| "not installed".to_string()),
        outdated.then(|| "ALTER EXTENSION raptorflow_codex UPDATE;".to_string()),
    );

    if ledger::is_hidden(client)? {
        say(
            "schema",
            "not visible to you".to_string(),
            Some("Ask the owner: GRANT SELECT ON codex.migrations TO your role;".to_string()),
        );
        return Ok(lines);
    }
    let entries = ledger::read(client)?;
    let version = ledger::version(&entries);
    let pending: Vec<String> = catalogue::ALL
        .iter()
        .filter(|migration| {
            !entries
                .iter()
                .any(|entry| entry.version == migration.version)
        })
        .map(Migration::label)
        .collect();
    say(
        "schema",
        match catalogue::find(version) {
            _ if version == 0 => "not migrated".to_string(),
            Some(migration) => format!("{} of {}", migration.label(), catalogue::latest()),
            None => format!("{version:03}, newer than this library"),
        },
        None,
    );
    say(
        "pending migrations",
        if pending.is_empty() {
            "none".to_string()
        } else {
            pending.join(", ")
        },
        (!pending.is_empty()).then(|| {
            if pending.len() == 1 && pending[0].starts_with("012") {
                "SELECT * FROM codex.migrate(archive_unused => true);".to_string()
            } else if outdated {
                "ALTER EXTENSION raptorflow_codex UPDATE; SELECT * FROM codex.migrate();"
                    .to_string()
            } else {
                "SELECT * FROM codex.migrate();".to_string()
            }
        }),
    );
    let users = match foundation::installed_users(client)? {
        Some(oid) => super::database::name_of(client, oid)?,
        None => None,
    };
    say(
        "users",
        users.unwrap_or_else(|| "no table yet".to_string()),
        None,
    );
    let members = if table_exists(client, "public.workspace_members")? {
        "public.workspace_members"
    } else if table_exists(client, "public.user_workspaces")? {
        "public.user_workspaces"
    } else {
        "no table yet"
    };
    say("members", members.to_string(), None);

    if table_exists(client, "codex.roles")? && readable(client, "codex.roles")? {
        for kind in ["member", "service"] {
            let roles = query(
                client,
                "SELECT r.role_name::text || CASE WHEN a.oid IS NULL THEN ' (does not exist)' ELSE '' END
                   FROM codex.roles AS r
                   LEFT JOIN pg_catalog.pg_roles AS a ON a.rolname = r.role_name
                  WHERE r.kind = $1
                  ORDER BY 1",
                &[kind.into()],
                |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
            )?;
            say(
                &format!("{kind} roles"),
                if roles.is_empty() {
                    "none".to_string()
                } else {
                    roles.join(", ")
                },
                roles
                    .is_empty()
                    .then(|| format!("SELECT codex.grant_{kind}_role('…');")),
            );
        }
    }
    let sizes = query(
        client,
        "SELECT pg_catalog.format('%s: about %s rows, %s',
                    c.relname,
                    greatest(c.reltuples::bigint, 0),
                    pg_catalog.pg_size_pretty(pg_catalog.pg_total_relation_size(c.oid)))
           FROM pg_catalog.pg_class AS c
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = 'public'
            AND c.relkind IN ('r', 'p')
            AND c.relname = ANY ($1::text[])
          ORDER BY pg_catalog.pg_total_relation_size(c.oid) DESC, c.relname
          LIMIT 5",
        &[catalogue::product_tables()
            .map(|(_, table)| table.to_string())
            .collect::<Vec<_>>()
            .into()],
        |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
    )?;
    if !sizes.is_empty() {
        say("largest tables", sizes.join("; "), None);
    }
    if !table_exists(client, "codex.roles")? || readable(client, "codex.roles")? {
        isolation(client, &mut say)?;
    }
    let checks = verify::checks(client)?;
    let failed: Vec<_> = checks.iter().filter(|check| !check.passed).collect();
    say(
        "verify",
        if failed.is_empty() {
            format!("all {} checks passed", checks.len())
        } else {
            format!("{} of {} checks failed", failed.len(), checks.len())
        },
        (!failed.is_empty()).then(|| "SELECT * FROM codex.verify() WHERE NOT passed;".to_string()),
    );
    for check in failed.iter().take(10) {
        say(
            &format!("problem: {}", check.id),
            shorten(&format!("{}: {}", check.what, check.actual)),
            check.hint.as_deref().map(shorten),
        );
    }
    Ok(lines)
}

/// How well tenants are kept apart: how many tables are protected, which are not, and what else weakens it.
fn isolation(
    client: &SpiClient<'_>,
    say: &mut impl FnMut(&str, String, Option<String>),
) -> Outcome<()> {
    let protected: Option<i64> = value(
        client,
        "SELECT pg_catalog.count(DISTINCT p.polrelid)
           FROM pg_catalog.pg_policy AS p
           JOIN pg_catalog.pg_class AS c ON c.oid = p.polrelid
          WHERE c.relrowsecurity
            AND pg_catalog.pg_get_expr(p.polqual, p.polrelid) LIKE '%codex.current_%'",
        &[],
    )?;
    let open = query(
        client,
        "SELECT u.table_name FROM codex.unprotected_tables() AS u ORDER BY 1",
        &[],
        |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
    )?;
    say(
        "protected tables",
        format!(
            "{}{}",
            protected.unwrap_or(0),
            if open.is_empty() {
                String::new()
            } else {
                format!("; not protected: {}", shorten(&open.join(", ")))
            }
        ),
        (!open.is_empty()).then(|| "SELECT * FROM codex.unprotected_tables();".to_string()),
    );
    let findings = query(
        client,
        "SELECT pg_catalog.count(*) || ' ' || r.severity
           FROM codex.isolation_report() AS r
          GROUP BY r.severity
          ORDER BY pg_catalog.array_position(ARRAY['critical', 'high', 'medium', 'low'], r.severity)",
        &[],
        |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
    )?;
    say(
        "isolation",
        if findings.is_empty() {
            "no finding".to_string()
        } else {
            format!("findings: {}", findings.join(", "))
        },
        (!findings.is_empty()).then(|| "SELECT * FROM codex.isolation_report();".to_string()),
    );
    Ok(())
}

fn readable(client: &SpiClient<'_>, table: &str) -> Outcome<bool> {
    match super::database::oid_of(client, table)? {
        Some(oid) => super::database::has_table_privilege(client, oid, "SELECT"),
        None => Ok(false),
    }
}
