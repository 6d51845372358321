//! The parts of the manual that are written from a database: the reference of functions and tables, and the diagram of
//! the tables. What they say is what `COMMENT ON` and the catalog say, so that they cannot say anything else.

use crate::{Database, script};
use postgres::Client;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The generated pages: their names in `docs`, and their texts.
pub fn pages(db: &Database) -> Vec<(&'static str, String)> {
    let mut admin = db.admin();
    let (member, service) = (db.role("member"), db.role("service"));
    admin
        .batch_execute(&format!(
            "SELECT codex.grant_member_role('{member}'); SELECT codex.grant_service_role('{service}')"
        ))
        .unwrap_or_else(|error| panic!("{error:?}"));
    vec![
        ("functions.md", functions(&mut admin, &member, &service)),
        ("tables.md", tables(&mut admin, &member, &service)),
    ]
}

const GENERATED: &str = "<!-- Written by `make shape` from the comments and definitions in a database: change those, not this. -->\n\n";

/// The rooms of the source, in the order of the page, with their headings.
const ROOMS: &[(&str, &str)] = &[
    ("schema", "Installing, verifying, rolling back"),
    ("context", "Who is asking"),
    ("policy", "Protection and privileges"),
    ("campaigns", "Campaigns"),
    ("achievements", "Achievements"),
    ("agents", "Agents"),
    ("intelligence", "Intelligence"),
    ("alerts", "Alerts"),
    ("notifications", "Notifications"),
    ("expose", "In another schema"),
    ("maintenance", "Upkeep"),
    ("departures", "Departures"),
    ("row_triggers", "Triggers"),
    ("identifier", "Identifiers"),
];

/// The room of the source in which each function is made, from the comments that pgrx puts into the script.
fn rooms(script: &str) -> BTreeMap<String, String> {
    let mut rooms = BTreeMap::new();
    let mut room = String::new();
    for line in script.lines() {
        if let Some(file) = line.strip_prefix("-- src/") {
            let first = file.split(['/', '.']).next().unwrap_or_default();
            room = first.to_string();
        }
        let made = line
            .trim_start()
            .strip_prefix("CREATE ")
            .map(str::trim_start)
            .and_then(|rest| rest.strip_prefix("FUNCTION "));
        if let Some((name, _)) = made.and_then(|rest| rest.split_once('(')) {
            rooms.insert(name.trim().trim_matches('"').to_string(), room.clone());
        }
    }
    rooms
}

fn functions(admin: &mut Client, member: &str, service: &str) -> String {
    let rooms = rooms(&script::installed(admin));
    let rows = admin
        .query(
            "SELECT p.proname::text,
                    pg_catalog.pg_get_function_arguments(p.oid),
                    pg_catalog.pg_get_function_result(p.oid),
                    pg_catalog.obj_description(p.oid, 'pg_proc'),
                    pg_catalog.has_function_privilege($1, p.oid, 'EXECUTE'),
                    pg_catalog.has_function_privilege($2, p.oid, 'EXECUTE'),
                    EXISTS (SELECT
                              FROM pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) AS a
                             WHERE a.grantee = 0),
                    p.provolatile::text
               FROM pg_catalog.pg_proc AS p
              WHERE p.pronamespace = 'codex'::regnamespace
              ORDER BY p.proname COLLATE \"C\", pg_catalog.pg_get_function_arguments(p.oid) COLLATE \"C\"",
            &[&member, &service],
        )
        .expect("the functions");
    let mut by_room: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in &rows {
        let (name, arguments, result): (String, String, String) =
            (row.get(0), row.get(1), row.get(2));
        let comment: Option<String> = row.get(3);
        let (by_member, by_service, by_all): (bool, bool, bool) =
            (row.get(4), row.get(5), row.get(6));
        let callers = match (by_all, by_member, by_service) {
            (true, _, _) => "everybody with USAGE on schema codex",
            (false, true, true) => "members and services",
            (false, true, false) => "members",
            (false, false, true) => "services",
            (false, false, false) => "the owner",
        };
        let volatility = match row.get::<_, &str>(7) {
            "i" => "immutable",
            "s" => "reads only",
            _ => "may write",
        };
        let mut text = format!("### {name}\n\n```\n{name}({arguments})\n  → {result}\n```\n\n");
        if result == "trigger" {
            let _ = write!(text, "{}\n\n", comment.unwrap_or_default());
        } else {
            let _ = write!(
                text,
                "{}\n\nCallable by {callers}; {volatility}.\n\n",
                comment.unwrap_or_default()
            );
        }
        let room = rooms.get(&name).cloned().unwrap_or_default();
        by_room.entry(room).or_default().push(text);
    }
    let mut page = format!(
        "# Functions\n\n{GENERATED}All {} functions are in schema `codex`. NULL for a required argument is error 22004, and an error names the value it \
         refuses. Members and services are the roles that `codex.grant_member_role()` and `codex.grant_service_role()` were called for.\n\n",
        rows.len()
    );
    let known = ROOMS
        .iter()
        .map(|(room, heading)| (*room, (*heading).to_string()));
    let others: Vec<String> = by_room
        .keys()
        .filter(|room| !ROOMS.iter().any(|(known, _)| known == room))
        .cloned()
        .collect();
    let all: Vec<(String, String)> = known
        .map(|(room, heading)| (room.to_string(), heading))
        .chain(
            others
                .into_iter()
                .map(|room| (room.clone(), capital(&room))),
        )
        .collect();
    for (room, heading) in all {
        if let Some(functions) = by_room.get(&room) {
            let _ = write!(page, "## {heading}\n\n{}", functions.concat());
        }
    }
    page.trim_end().to_string() + "\n"
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// The tables that the migrations make, with what they refer to.
const OURS: &str = "
    SELECT c.oid, n.nspname || '.' || c.relname AS name
      FROM pg_catalog.pg_class AS c
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p')
       AND n.nspname IN ('public', 'codex')";

fn tables(admin: &mut Client, member: &str, service: &str) -> String {
    let mut page = format!("# Tables\n\n{GENERATED}");
    let keys = admin
        .query(
            &format!(
                "WITH ours AS ({OURS})
                 SELECT DISTINCT parent.name, child.name,
                        bool_and(a.attnotnull) OVER (PARTITION BY k.oid)
                   FROM pg_catalog.pg_constraint AS k
                   JOIN ours AS child ON child.oid = k.conrelid
                   JOIN ours AS parent ON parent.oid = k.confrelid
                   JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
                  WHERE k.contype = 'f'
                  ORDER BY 1, 2, 3"
            ),
            &[],
        )
        .expect("the foreign keys");
    page.push_str(
        "What refers to what. `workspaces` and the table of users are left out: every table of a workspace refers to both or one.\n\n```mermaid\nerDiagram\n",
    );
    let plain = |name: &str| name.replace("public.", "").replace('.', "_");
    let mut seen = std::collections::BTreeSet::new();
    for row in &keys {
        let (parent, child): (String, String) = (row.get(0), row.get(1));
        if ["public.workspaces", "public.users"].contains(&parent.as_str())
            || !seen.insert((parent.clone(), child.clone()))
        {
            continue;
        }
        let needed: bool = row.get(2);
        let _ = writeln!(
            page,
            "    {} {}--o{{ {} : \"\"",
            plain(&parent),
            if needed { "||" } else { "|o" },
            plain(&child)
        );
    }
    page.push_str("```\n\n");
    let names = admin
        .query(
            &format!(
                "WITH ours AS ({OURS})
                 SELECT o.name, pg_catalog.obj_description(o.oid, 'pg_class'),
                        pg_catalog.concat_ws(', ',
                            CASE WHEN pg_catalog.has_table_privilege($1, o.oid, 'SELECT') THEN 'read' END,
                            CASE WHEN pg_catalog.has_table_privilege($1, o.oid, 'INSERT') THEN 'add' END,
                            CASE WHEN pg_catalog.has_any_column_privilege($1, o.oid, 'UPDATE') THEN 'change' END,
                            CASE WHEN pg_catalog.has_table_privilege($1, o.oid, 'DELETE') THEN 'delete' END),
                        pg_catalog.concat_ws(', ',
                            CASE WHEN pg_catalog.has_table_privilege($2, o.oid, 'SELECT') THEN 'read' END,
                            CASE WHEN pg_catalog.has_table_privilege($2, o.oid, 'INSERT') THEN 'add' END,
                            CASE WHEN pg_catalog.has_any_column_privilege($2, o.oid, 'UPDATE') THEN 'change' END,
                            CASE WHEN pg_catalog.has_table_privilege($2, o.oid, 'DELETE') THEN 'delete' END)
                   FROM ours AS o
                  ORDER BY o.name LIKE 'codex.%', o.name COLLATE \"C\""
            ),
            &[&member, &service],
        )
        .expect("the tables");
    for row in &names {
        let name: String = row.get(0);
        let comment: Option<String> = row.get(1);
        let (members, services): (String, String) = (row.get(2), row.get(3));
        let or_nothing = |text: String| {
            if text.is_empty() {
                "nothing".to_string()
            } else {
                text
            }
        };
        let _ = write!(
            page,
            "## {}\n\n{}\n\nMembers: {}. Services: {}.\n\n| column | type | |\n|---|---|---|\n",
            name.replace("public.", ""),
            comment.unwrap_or_default(),
            or_nothing(members),
            or_nothing(services)
        );
        let columns = admin
            .query(
                "SELECT a.attname::text,
                        pg_catalog.format_type(a.atttypid, a.atttypmod) || CASE WHEN a.attnotnull THEN ', not null' ELSE '' END,
                        pg_catalog.concat_ws('. ',
                            pg_catalog.rtrim(pg_catalog.col_description(a.attrelid, a.attnum), '.'),
                            'Default `' || pg_catalog.pg_get_expr(d.adbin, d.adrelid) || '`',
                            (SELECT 'One of ' || pg_catalog.string_agg(v.value[1], ', ')
                               FROM pg_catalog.pg_constraint AS k,
                                    pg_catalog.regexp_matches(pg_catalog.pg_get_constraintdef(k.oid), '''([^'']*)''::text', 'g') AS v (value)
                              WHERE k.conrelid = a.attrelid
                                AND k.contype = 'c'
                                AND k.conkey = ARRAY[a.attnum]
                                AND pg_catalog.pg_get_constraintdef(k.oid) LIKE '%= ANY (ARRAY[%'))
                   FROM pg_catalog.pg_attribute AS a
                   LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                  WHERE a.attrelid = pg_catalog.to_regclass($1::text)
                    AND a.attnum > 0
                    AND NOT a.attisdropped
                  ORDER BY a.attnum",
                &[&name],
            )
            .expect("the columns");
        for column in &columns {
            let (name, kind, words): (&str, &str, &str) =
                (column.get(0), column.get(1), column.get(2));
            let _ = writeln!(page, "| {name} | {kind} | {} |", words.replace('|', "\\|"));
        }
        page.push('\n');
    }
    page.trim_end().to_string() + "\n"
}
