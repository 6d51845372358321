//! 011 and 012: what databases that are older than the Codex need first.
//!
//! 011 mends three tables that came in two shapes: every one of them must say to which workspace a row
//! belongs. A row whose workspace cannot be told from the tables it refers to stops the step; it is never given
//! to some workspace. 012 moves the nine tables that nothing uses any more into schema `codex_archive`, rows
//! and all, and only when asked to.

use super::database::{self, column_type, table_exists, value};
use crate::error::{CodexError, Outcome};
use pgrx::spi::SpiClient;

/// Columns that a mended table has, besides those it had; a line a table.
/// Part of the checksum of 011.
pub const MEND_RULES: &str = "\
agent_recommendations: workspace_id uuid, agent_id text, recommendation_type text, confidence_score numeric, evidence jsonb, outcome_status text, created_at timestamptz
agent_trust_scores: workspace_id uuid
competitors: workspace_id uuid
";

/// The tables that 012 moves to `codex_archive`.
pub const UNUSED_TABLES: &[&str] = &[
    "quests",
    "quest_moves",
    "quest_milestones",
    "capability_nodes",
    "maneuver_prerequisites",
    "quick_wins",
    "cohort_relations",
    "move_decisions",
    "notifications",
];

/// Columns that tell a row's workspace through the table they refer to.
const WAYS_TO_TELL: &[(&str, &str)] = &[
    ("move_id", "moves"),
    ("cohort_id", "cohorts"),
    ("campaign_id", "campaigns"),
];

/// What a legacy step would do here.
pub struct Plan {
    /// Statements, in order.
    pub statements: Vec<String>,
    /// What it does, in words.
    pub words: Vec<String>,
    /// What keeps it from being done.
    pub obstacles: Vec<String>,
}

/// What 011 has to do in this database.
pub fn plan_mend(client: &SpiClient<'_>) -> Outcome<Plan> {
    let mut plan = Plan {
        statements: Vec::new(),
        words: Vec::new(),
        obstacles: Vec::new(),
    };
    for line in MEND_RULES.lines() {
        let Some((table, columns)) = line.split_once(": ") else {
            continue;
        };
        let name = format!("public.{table}");
        if !table_exists(client, &name)? {
            continue;
        }
        let mut added = Vec::new();
        for column in columns.split(", ") {
            let Some((column, kind)) = column.split_once(' ') else {
                continue;
            };
            if column_type(client, &name, column)?.is_none() {
                added.push(column);
                let default = if column == "created_at" {
                    " DEFAULT now()"
                } else {
                    ""
                };
                plan.statements.push(format!(
                    "ALTER TABLE {name}\n    ADD COLUMN {column} {kind}{default};"
                ));
            }
        }
        mend_workspace(client, &name, added.contains(&"workspace_id"), &mut plan)?;
        if !added.is_empty() {
            plan.words.push(format!("{name} gets {}", added.join(", ")));
        }
    }
    if plan.words.is_empty() {
        plan.words.push("nothing to mend".to_string());
    }
    Ok(plan)
}

/// Makes `workspace_id` of a table complete and NOT NULL.
fn mend_workspace(
    client: &SpiClient<'_>,
    table: &str,
    is_new: bool,
    plan: &mut Plan,
) -> Outcome<()> {
    let (schema, name) = database::split(table);
    let not_null: Option<bool> = value(
        client,
        "SELECT a.attnotnull
           FROM pg_catalog.pg_attribute AS a
           JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname = $1::text
            AND c.relname = $2::text
            AND a.attname = 'workspace_id'
            AND NOT a.attisdropped",
        &[schema.into(), name.into()],
    )?;
    if not_null == Some(true) {
        return Ok(());
    }
    let mut told_by = Vec::new();
    for (column, parent) in WAYS_TO_TELL {
        let parent_name = format!("public.{parent}");
        if column_type(client, table, column)?.as_deref() == Some("uuid")
            && column_type(client, &parent_name, "workspace_id")?.as_deref() == Some("uuid")
        {
            plan.statements.push(format!(
                "UPDATE {table} AS t\n   SET workspace_id = p.workspace_id\n  FROM {parent_name} AS p\n WHERE p.id = t.{column}\n   AND t.workspace_id IS NULL;"
            ));
            told_by.push(format!(
                "EXISTS (SELECT FROM {parent_name} AS p WHERE p.id = t.{column} AND p.workspace_id IS NOT NULL)"
            ));
        }
    }
    let mut untold = if is_new {
        "true".to_string()
    } else {
        "t.workspace_id IS NULL".to_string()
    };
    for way in &told_by {
        untold.push_str(" AND NOT ");
        untold.push_str(way);
    }
    let rows: i64 = value(
        client,
        &format!("SELECT pg_catalog.count(*) FROM {table} AS t WHERE {untold}"),
        &[],
    )?
    .unwrap_or(0);
    if rows > 0 {
        plan.obstacles.push(format!(
            "{table}: the workspace of {rows} row(s) cannot be told; set workspace_id of each, or delete them"
        ));
    }
    plan.statements.push(format!(
        "ALTER TABLE {table}\n    ALTER COLUMN workspace_id SET NOT NULL;"
    ));
    plan.words.push(format!(
        "workspace_id of {table} is filled in and becomes NOT NULL"
    ));
    Ok(())
}

/// The error that a plan with obstacles ends in.
pub fn cannot(plan: &Plan, step: &str) -> CodexError {
    CodexError::wrong_state(format!("{step} cannot be applied to this database"))
        .with_detail(plan.obstacles.join("\n"))
        .with_hint(
            "Nothing was changed. Mend what the detail lists, then run codex.migrate() again.",
        )
}

/// The unused tables that this database still has in `public`.
pub fn unused_here(client: &SpiClient<'_>) -> Outcome<Vec<&'static str>> {
    let mut here = Vec::new();
    for table in UNUSED_TABLES {
        if table_exists(client, &format!("public.{table}"))? {
            here.push(*table);
        }
    }
    Ok(here)
}

/// What 012 does with these tables.
pub fn plan_archive(client: &SpiClient<'_>, tables: &[&str]) -> Outcome<Plan> {
    let mut plan = Plan {
        statements: Vec::new(),
        words: Vec::new(),
        obstacles: Vec::new(),
    };
    if tables.is_empty() {
        plan.words.push("no unused table is there".to_string());
        return Ok(plan);
    }
    plan.statements
        .push("CREATE SCHEMA IF NOT EXISTS codex_archive;".to_string());
    plan.statements
        .push("REVOKE ALL ON SCHEMA codex_archive FROM PUBLIC;".to_string());
    for table in tables {
        if table_exists(client, &format!("codex_archive.{table}"))? {
            plan.obstacles.push(format!(
                "codex_archive.{table} is there already; rename or drop it"
            ));
        }
        plan.statements.push(format!(
            "ALTER TABLE public.{table}\n    SET SCHEMA codex_archive;"
        ));
        let rows: i64 = value(
            client,
            &format!("SELECT pg_catalog.count(*) FROM public.{table}"),
            &[],
        )?
        .unwrap_or(0);
        plan.words.push(format!(
            "public.{table} moves to codex_archive with its {rows} row(s)"
        ));
    }
    Ok(plan)
}

/// What taking 012 back does: the archived tables return to `public`.
pub fn plan_unarchive(client: &SpiClient<'_>) -> Outcome<Plan> {
    let mut plan = Plan {
        statements: Vec::new(),
        words: Vec::new(),
        obstacles: Vec::new(),
    };
    for table in UNUSED_TABLES {
        if !table_exists(client, &format!("codex_archive.{table}"))? {
            continue;
        }
        if table_exists(client, &format!("public.{table}"))? {
            plan.obstacles
                .push(format!("public.{table} is there again; rename or drop it"));
        }
        plan.statements.push(format!(
            "ALTER TABLE codex_archive.{table}\n    SET SCHEMA public;"
        ));
        plan.words.push(format!("{table} moves back to public"));
    }
    Ok(plan)
}
