//! A workspace as JSON lines.
//!
//! The whole export is one statement behind a cursor: all tables are read as of the same moment, and a batch of rows
//! is all that is ever held.

use super::plan::{Plan, Subject};
use crate::context::{self, membership};
use crate::error::{CodexError, OrRaise, Outcome, required};
use crate::schema::database;
use crate::schema::release::LIBRARY_VERSION;
use pgrx::Uuid;
use pgrx::iter::SetOfIterator;
use pgrx::prelude::*;
use pgrx::spi::{SpiClient, quote_literal};
use serde_json::json;
use std::collections::VecDeque;
use std::ffi::CStr;

/// How many rows are fetched at once.
const BATCH: i64 = 100;

/// The version of the format: see docs/engines/departures.md.
const FORMAT: i32 = 1;

/// How values are written, whatever the session has: so that they read the same wherever they are loaded.
const SETTINGS: &[(&CStr, &CStr)] = &[
    (c"TimeZone", c"UTC"),
    (c"DateStyle", c"ISO, YMD"),
    (c"IntervalStyle", c"postgres"),
    (c"extra_float_digits", c"1"),
    (c"bytea_output", c"hex"),
];

/// All rows of a workspace, as JSON lines in the order of foreign keys: what a row refers to comes before it.
///
/// | line | how many | holds |
/// |---|---|---|
/// | `{"export": {"format": 1, "workspace": …, "at": …, "library": …}}` | one, the first | what this is |
/// | `{"needs": "public.users", "row": {"id": …}}` | one a row | the key of a row outside of the workspace that its rows refer to: a user, an agent |
/// | `{"table": "public.campaigns", "row": {…}}` | one a row | a row with all its columns, but for computed ones |
/// | `{"end": {"public.campaigns": 12, …}}` | one, the last | how many rows of each table: an export without it is cut off |
///
/// Every table that holds rows of a workspace takes part, those of the application too (see
/// `codex.departure_plan()`). All is read as of one moment; memory does not grow with the workspace. Nothing is written.
///
/// For the owner of the tables, and for service roles in their workspace; an export from which row-level security
/// might hide rows is refused. Refuses: NULL (22004), a workspace that does not exist (P0002), that is not the caller's,
/// and tables that the caller may not read whole (42501).
#[pg_extern(stable, parallel_unsafe)]
#[search_path(pg_catalog, pg_temp)]
fn export_workspace(workspace: Option<Uuid>) -> SetOfIterator<'static, String> {
    let begin = || {
        let workspace = required(workspace, "workspace")?;
        context::require_workspace(workspace)?;
        Spi::connect(|client| Lines::of(client, workspace))
    };
    SetOfIterator::new(begin().or_raise())
}

extension_sql!(
    r#"
COMMENT ON FUNCTION export_workspace(uuid) IS
'All rows of a workspace as JSON lines, in the order of foreign keys and as of one moment: {"export": …} first, {"needs": table, "row": key} for each row outside of the workspace that is referred to, {"table": name, "row": {…}} for each row, {"end": {table: rows}} last. For the owner of the tables, and for service roles in their workspace. Errors: 22004 NULL, P0002 no such workspace, 42501 not your workspace, or a table that you may not read whole.';
"#,
    name = "comment_export_workspace",
    requires = [export_workspace]
);

/// The lines that are still to come.
struct Lines {
    /// The open cursor; None when all rows were fetched.
    cursor: Option<String>,
    fetched: VecDeque<String>,
    /// Tables and how many of their rows went out.
    counts: Vec<(String, i64)>,
    ended: bool,
}

impl Lines {
    fn of(client: &SpiClient<'_>, workspace: Uuid) -> Outcome<Self> {
        let plan = Plan::make(client, Subject::Workspace)?;
        refuse_what_hides_rows(&plan)?;
        let found: Option<bool> = database::value(
            client,
            &format!(
                "SELECT true FROM {} AS r0 WHERE {}",
                plan.root().only(),
                Plan::is_root("r0")
            ),
            &[workspace.into()],
        )?;
        if found.is_none() {
            return Err(CodexError::not_found(format!(
                "there is no workspace {workspace}"
            )));
        }
        let tables = std::iter::once(plan.root())
            .chain(plan.members.iter().map(|member| plan.table(member)));
        let counts = tables.map(|table| (table.name.clone(), 0)).collect();
        let sql = statement(&plan, workspace);
        let cursor = with_settings(|| {
            Ok(client
                .try_open_cursor(sql.as_str(), &[workspace.into()])?
                .detach_into_name())
        })?;
        Ok(Self {
            cursor: Some(cursor),
            fetched: VecDeque::new(),
            counts,
            ended: false,
        })
    }

    fn fetch(&mut self, name: &str) -> Outcome<()> {
        let counts = &mut self.counts;
        let fetched = &mut self.fetched;
        let more = Spi::connect(|client| {
            with_settings(|| {
                let mut cursor = client.find_cursor(name)?;
                let rows = cursor.fetch(BATCH)?;
                let more = !rows.is_empty();
                for row in rows {
                    if let Some(place) = row.get::<i32>(1)?
                        && let Some(count) = counts.get_mut(usize::try_from(place).unwrap_or(0))
                    {
                        count.1 += 1;
                    }
                    fetched.extend(row.get::<String>(2)?);
                }
                if more {
                    cursor.detach_into_name();
                }
                Ok::<_, CodexError>(more)
            })
        })?;
        if more {
            self.cursor = Some(name.to_string());
        }
        Ok(())
    }

    fn end(&self) -> String {
        let counts = self
            .counts
            .iter()
            .map(|(table, rows)| format!("{}: {rows}", json!(table)))
            .collect::<Vec<_>>();
        format!("{{\"end\": {{{}}}}}", counts.join(", "))
    }
}

impl Iterator for Lines {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if let Some(line) = self.fetched.pop_front() {
            return Some(line);
        }
        if let Some(cursor) = self.cursor.take() {
            self.fetch(&cursor).or_raise();
            return self.next();
        }
        if self.ended {
            return None;
        }
        self.ended = true;
        Some(self.end())
    }
}

/// Refuses a caller from whom row-level security may hide rows: an export has all or is none.
fn refuse_what_hides_rows(plan: &Plan) -> Outcome<()> {
    for member in &plan.members {
        let table = plan.table(member);
        let whole = !table.filtered
            || table.workspace_column.is_some()
                && table.ours_alone
                && membership::acts_for_workspace();
        if !whole {
            return Err(CodexError::not_allowed(format!(
                "row-level security may hide rows of {} from this role",
                table.name
            ))
            .with_hint("Export as the owner of the tables, or as a service role (codex.grant_service_role())."));
        }
    }
    Ok(())
}

/// The statement that gives all lines but the last: the place of the table that a row is of, and the line.
fn statement(plan: &Plan, workspace: Uuid) -> String {
    let head =
        json!({ "format": FORMAT, "workspace": workspace.to_string(), "library": LIBRARY_VERSION });
    let mut parts = vec![format!(
        "(SELECT NULL::integer AS place, '{{\"export\": ' || ({}::jsonb || jsonb_build_object('at', now()))::text || '}}' AS line)",
        quote_literal(head.to_string())
    )];
    let needs = needs(plan);
    if !needs.is_empty() {
        parts.push(format!(
            "(SELECT NULL, '{{\"needs\": ' || to_json(n.name)::text || ', \"row\": ' || n.key::text || '}}' FROM ({}) AS n ORDER BY n.name, n.key)",
            needs.join(" UNION ")
        ));
    }
    parts.push(rows(plan, plan.root, 0, &Plan::is_root("r0")));
    for (place, member) in plan.members.iter().enumerate() {
        parts.push(rows(
            plan,
            member.table,
            place + 1,
            &plan.belongs(member, "r0"),
        ));
    }
    parts.join("\nUNION ALL\n")
}

/// The lines of one table.
fn rows(plan: &Plan, table: usize, place: usize, belongs: &str) -> String {
    let own = &plan.catalog.tables[table];
    let row = if own.stored.is_empty() {
        "to_json(r0.*)".to_string()
    } else {
        let columns = own
            .stored
            .iter()
            .map(|column| format!("r0.{column}"))
            .collect::<Vec<_>>();
        format!(
            "(SELECT to_json(s.*) FROM (SELECT {}) AS s)",
            columns.join(", ")
        )
    };
    // A value of type json keeps its line breaks; in valid JSON they stand between values only.
    let line = format!(
        "{} || translate({row}::text, E'\\n\\r', '  ') || '}}'",
        quote_literal(format!("{{\"table\": {}, \"row\": ", json!(own.name)))
    );
    match parents_first(plan, table, belongs) {
        None => format!(
            "(SELECT {place}, {line} FROM {} AS r0 WHERE {belongs})",
            own.only()
        ),
        Some((depths, order)) => format!(
            "({depths}SELECT {place}, {line} FROM {} AS r0 {order})",
            own.only()
        ),
    }
}

/// For a table that refers to itself: how deep each row lies below one that refers to none, and the order by it.
///
/// Rows that refer to each other in a circle lie below none; they come last.
fn parents_first(plan: &Plan, table: usize, belongs: &str) -> Option<(String, String)> {
    let own = &plan.catalog.tables[table];
    let keys = plan
        .catalog
        .foreign_keys
        .iter()
        .filter(|key| key.child == table && key.parent == table)
        .collect::<Vec<_>>();
    if keys.is_empty() {
        return None;
    }
    let condition = |child: &str, parent: &str| {
        keys.iter()
            .map(|key| {
                let pairs = key.columns.iter().zip(&key.refers_to);
                let equal = pairs.map(|(from, to)| format!("{parent}.{to} = {child}.{from}"));
                format!("({})", equal.collect::<Vec<_>>().join(" AND "))
            })
            .collect::<Vec<_>>()
            .join(" OR ")
    };
    // What the children of a row are found by, carried along.
    let mut carried = keys
        .iter()
        .flat_map(|key| key.refers_to.clone())
        .collect::<Vec<_>>();
    carried.sort_unstable();
    carried.dedup();
    let columns = |alias: &str| {
        carried
            .iter()
            .map(|column| format!(", {alias}.{column}"))
            .collect::<String>()
    };
    let only = own.only();
    // A row can be reached on several ways only where the table refers to itself more than once.
    let cycle = if keys.len() > 1 {
        " CYCLE relation, place SET circular USING way"
    } else {
        ""
    };
    let depths = format!(
        "WITH RECURSIVE below (relation, place, depth{names}) AS (
             SELECT r0.tableoid, r0.ctid, 0{top} FROM {only} AS r0
             WHERE ({belongs}) AND NOT EXISTS (
                 SELECT FROM {only} AS p WHERE ({to_parent}) AND (p.tableoid, p.ctid) IS DISTINCT FROM (r0.tableoid, r0.ctid)
             )
             UNION ALL
             SELECT r0.tableoid, r0.ctid, b.depth + 1{next} FROM below AS b JOIN {only} AS r0 ON ({to_below})
             WHERE (r0.tableoid, r0.ctid) IS DISTINCT FROM (b.relation, b.place)
         ){cycle} ",
        names = carried.iter().map(|c| format!(", {c}")).collect::<String>(),
        top = columns("r0"),
        next = columns("r0"),
        to_parent = condition("r0", "p"),
        to_below = condition("r0", "b"),
    );
    let order = format!(
        "LEFT JOIN (SELECT b.relation, b.place, max(b.depth) AS depth FROM below AS b GROUP BY b.relation, b.place) AS d
             ON d.relation = r0.tableoid AND d.place = r0.ctid
         WHERE {belongs}
         ORDER BY d.depth NULLS LAST"
    );
    Some((depths, order))
}

/// For each table with references out of the workspace: the keys of what its rows refer to there.
fn needs(plan: &Plan) -> Vec<String> {
    let inside = |table: usize| {
        table == plan.root || plan.members.iter().any(|member| member.table == table)
    };
    let of_root = (plan.root, Plan::is_root("r0"));
    let of_members = plan
        .members
        .iter()
        .map(|member| (member.table, plan.belongs(member, "r0")));
    std::iter::once(of_root)
        .chain(of_members)
        .filter_map(|(table, belongs)| {
            let keys = plan
                .catalog
                .foreign_keys
                .iter()
                .filter(|key| key.child == table && !inside(key.parent))
                .map(|key| {
                    let given = key.columns.iter().map(|c| format!("r0.{c} IS NOT NULL"));
                    let built = key.columns.iter().zip(&key.refers_to).map(|(from, to)| {
                        // The quoted name of the column, without its quotes, as a key of the object.
                        format!("{}, r0.{from}", quote_literal(unquoted(to)))
                    });
                    format!(
                        "({}, CASE WHEN {} THEN jsonb_build_object({}) END)",
                        quote_literal(&plan.catalog.tables[key.parent].name),
                        given.collect::<Vec<_>>().join(" AND "),
                        built.collect::<Vec<_>>().join(", ")
                    )
                })
                .collect::<Vec<_>>();
            (!keys.is_empty()).then(|| {
                format!(
                    "SELECT v.name, v.key FROM {} AS r0 CROSS JOIN LATERAL (VALUES {}) AS v (name, key) WHERE ({belongs}) AND v.key IS NOT NULL",
                    plan.catalog.tables[table].only(),
                    keys.join(", ")
                )
            })
        })
        .collect()
}

/// The name that `quote_ident` quoted.
fn unquoted(name: &str) -> String {
    match name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
    {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_string(),
    }
}

/// Runs `work` with [`SETTINGS`], which end with it.
fn with_settings<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    // SAFETY: a level of settings of its own, as a function with SET clauses has it. When `work` raises, the end of the
    // (sub)transaction takes the level back; else it is ended below. Names and values are terminated strings.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in SETTINGS {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        let outcome = work();
        pg_sys::AtEOXact_GUC(false, level);
        outcome
    }
}
