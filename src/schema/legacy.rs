//! 011 and 012: what databases that are older than the Codex need first.
//!
//! 011 mends three tables that came in two shapes: every one of them must say to which workspace a row
//! belongs. A row whose workspace cannot be told from the tables it refers to stops the step; it is never given
//! to some workspace. 012 moves the nine tables that nothing uses any more into schema `codex_archive`, rows
//! and all, and only when asked to.

use super::adopt::{self, Filling};
use super::catalogue::Body;
use super::database::{self, column_type, table_exists, value};
use super::shape;
use crate::error::{CodexError, Outcome};
use pgrx::spi::SpiClient;

/// Columns that a mended table has, besides those it had; a line a table.
/// Part of the checksum of 011.
pub const MEND_RULES: &str = "\
agent_recommendations: workspace_id uuid, agent_id text, recommendation_type text, confidence_score numeric, evidence jsonb, outcome_status text, created_at timestamptz
agent_trust_scores: workspace_id uuid
competitors: workspace_id uuid
";

impl Plan {
    fn empty() -> Self {
        Self {
            statements: Vec::new(),
            words: Vec::new(),
            obstacles: Vec::new(),
        }
    }
}

/// The migration that mends.
pub const VERSION_OF_MENDING: i32 = 11;

/// The tables that 011 mends, those of [`MEND_RULES`].
pub const MENDED_TABLES: &[&str] = &[
    "public.agent_recommendations",
    "public.agent_trust_scores",
    "public.competitors",
];

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

/// What 011 has to do in this database. Rows are counted where the plan is to say what is in the way; not under locks.
pub fn plan_mend(client: &SpiClient<'_>, look: adopt::Look) -> Outcome<Plan> {
    let mut plan = Plan::empty();
    for line in MEND_RULES.lines() {
        let Some((table, columns)) = line.split_once(": ") else {
            continue;
        };
        let name = format!("public.{table}");
        match database::kind_of(client, &name)? {
            Some(database::Kind::Table) => {}
            // A view of that name is somebody's own, and stores nothing.
            Some(database::Kind::Other(_)) | None => continue,
        }
        let mut added = Vec::new();
        let large = adopt::is_filled_first(client, &name)?;
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
                if large && column == "workspace_id" {
                    plan.obstacles.push(format!(
                        "{name} is large, and {column} is to be filled in first; add the column, which takes a moment: ALTER TABLE {name} ADD COLUMN {column} {kind};"
                    ));
                }
                plan.statements.push(format!(
                    "ALTER TABLE {name}\n    ADD COLUMN {column} {kind}{default};"
                ));
            }
        }
        mend_workspace(
            client,
            &name,
            added.contains(&"workspace_id"),
            large,
            look,
            &mut plan,
        )?;
        if !added.is_empty() {
            plan.words.push(format!("{name} gets {}", added.join(", ")));
        }
    }
    if plan.words.is_empty() {
        plan.words.push("nothing to mend".to_string());
    }
    Ok(plan)
}

/// Makes `workspace_id` of a table complete and NOT NULL, and has a trigger complete the rows that the old application
/// goes on inserting without it.
fn mend_workspace(
    client: &SpiClient<'_>,
    table: &str,
    is_new: bool,
    large: bool,
    look: adopt::Look,
    plan: &mut Plan,
) -> Outcome<()> {
    let here = shape::of_table(client, table)?;
    let not_null = here.iter().any(|definition| {
        definition.kind == "column"
            && definition.name == "workspace_id"
            && definition.text.contains(" NOT NULL")
    });
    if not_null {
        return Ok(());
    }
    let proven = adopt::is_proven(&here, table, "workspace_id");
    let mut ways = Vec::new();
    let mut arguments = Vec::new();
    let mut untold = if is_new {
        "true".to_string()
    } else {
        "t.workspace_id IS NULL".to_string()
    };
    for (column, parent) in WAYS_TO_TELL {
        let parent_name = format!("public.{parent}");
        if column_type(client, table, column)?.as_deref() == Some("uuid")
            && column_type(client, &parent_name, "workspace_id")?.as_deref() == Some("uuid")
        {
            ways.push(Filling {
                set: "workspace_id = p.workspace_id".to_string(),
                from: format!(" FROM {parent_name} AS p"),
                condition: format!("p.id = t.{column} AND t.workspace_id IS NULL"),
            });
            arguments.extend([
                "workspace_id".to_string(),
                (*column).to_string(),
                parent_name.clone(),
            ]);
            untold.push_str(&format!(
                " AND NOT EXISTS (SELECT FROM {parent_name} AS p WHERE p.id = t.{column} AND p.workspace_id IS NOT NULL)"
            ));
        }
    }
    let mut adoption = adopt::Plan::default();
    let trigger = adopt::completing_trigger(table);
    let trigger_here = here
        .iter()
        .find(|definition| definition.kind == "trigger" && definition.name == trigger);
    adopt::complete_rows(table, &arguments, large, trigger_here, &mut adoption);
    if !proven {
        let count = |condition: &str| -> Outcome<i64> {
            if look == adopt::Look::AtDefinitions {
                return Ok(0);
            }
            Ok(value(
                client,
                &format!("SELECT pg_catalog.count(*) FROM {table} AS t WHERE {condition}"),
                &[],
            )?
            .unwrap_or(0))
        };
        let rows = count(&untold)?;
        if rows > 0 {
            adoption.obstacles.push(format!(
                "{table}: the workspace of {rows} row(s) cannot be told; set workspace_id of each, or delete them"
            ));
        }
        let to_fill = large
            && count(if is_new {
                "true"
            } else {
                "t.workspace_id IS NULL"
            })? > 0;
        for way in &ways {
            if to_fill {
                adoption.obstacles.push(format!(
                    "{table} is large; fill in workspace_id, some thousand rows at a time: {};",
                    way.in_batches(table)
                ));
            }
            adoption.statements.push(way.at_once(table));
        }
    }
    adopt::set_not_null(table, "workspace_id", large, proven, &mut adoption);
    adoption.in_order();
    plan.obstacles.append(&mut adoption.obstacles);
    plan.statements.extend(
        adoption
            .statements
            .into_iter()
            .map(|statement| format!("{statement};")),
    );
    plan.words.push(format!(
        "workspace_id of {table} is filled in and becomes NOT NULL"
    ));
    if !arguments.is_empty() {
        plan.words.push(format!(
            "{trigger} completes rows that the old application inserts"
        ));
    }
    Ok(())
}

/// What taking 011 back does: what it filled in stays. Its NOT NULL goes where a trigger of the extension completes rows
/// for an application that does not know the column: that application has to get along without the extension, too.
pub fn plan_unmend(client: &SpiClient<'_>) -> Outcome<Plan> {
    let mut plan = Plan::empty();
    for table in MENDED_TABLES {
        plan.statements.extend(adopt::let_go(client, table)?);
    }
    plan.words.push("what it filled in stays".to_string());
    Ok(plan)
}

/// The older tables that a step changes, whether they are here or not.
pub fn tables_of(body: &Body) -> Vec<String> {
    match body {
        Body::MendLegacy => MENDED_TABLES
            .iter()
            .map(|table| (*table).to_string())
            .collect(),
        Body::ArchiveUnused => UNUSED_TABLES
            .iter()
            .map(|table| format!("public.{table}"))
            .collect(),
        Body::Foundation | Body::Text { .. } => Vec::new(),
    }
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
    let mut plan = Plan::empty();
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
    let mut plan = Plan::empty();
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
