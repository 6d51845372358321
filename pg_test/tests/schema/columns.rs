//! The 330 columns of the product, one by one: type, NOT NULL, default, allowed values, references.

use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, value};

struct Column<'a> {
    table: &'a str,
    name: &'a str,
    kind: &'a str,
    not_null: bool,
    default: &'a str,
    allowed: &'a str,
    references: &'a str,
    on_delete: &'a str,
}

fn listed() -> Vec<Column<'static>> {
    include_str!("../../fixtures/columns.tsv")
        .lines()
        .skip(1)
        .map(|line| {
            let mut fields = line.split('\t').chain(std::iter::repeat(""));
            let mut next = || fields.next().unwrap_or_default();
            Column {
                table: next(),
                name: next(),
                kind: next(),
                not_null: next() == "not null",
                default: next(),
                allowed: next(),
                references: next(),
                on_delete: next(),
            }
        })
        .collect()
}

#[test]
fn all_330_columns_are_as_listed() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let columns = listed();
    assert_eq!(columns.len(), 330);
    let mut wrong = Vec::new();
    for column in &columns {
        wrong.extend(differs(&mut admin, column));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn differs(client: &mut Client, column: &Column<'_>) -> Vec<String> {
    let label = format!("{}.{}", column.table, column.name);
    let Some(row) = client
        .query_opt(
            "SELECT replace(pg_catalog.format_type(a.atttypid, a.atttypmod), 'timestamp with time zone', 'timestamptz'),
                    a.attnotnull,
                    pg_catalog.pg_get_expr(d.adbin, d.adrelid)
               FROM pg_catalog.pg_attribute AS a
               LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
              WHERE a.attrelid = pg_catalog.to_regclass('public.' || $1)
                AND a.attname = $2::text",
            &[&column.table, &column.name],
        )
        .expect("reads the catalog")
    else {
        return vec![format!("{label} is missing")];
    };
    let mut wrong = Vec::new();
    let (kind, not_null, default): (String, bool, Option<String>) =
        (row.get(0), row.get(1), row.get(2));
    if kind != column.kind {
        wrong.push(format!("{label} is {kind}, not {}", column.kind));
    }
    if not_null != column.not_null {
        wrong.push(format!("{label}: NOT NULL is {not_null}"));
    }
    let expected = match column.default {
        "" => None,
        "uuid v7" => Some("codex.uuid_v7()".to_string()),
        text if text.starts_with('\'') => Some(format!("{text}::text")),
        other => Some(other.to_string()),
    };
    let default = default.map(|default| default.replace("::numeric", "").replace("::bigint", ""));
    if default != expected {
        wrong.push(format!("{label}: default is {default:?}, not {expected:?}"));
    }
    if !column.allowed.is_empty() {
        wrong.extend(allowed_differs(client, column, &label));
    }
    if !column.references.is_empty() {
        wrong.extend(reference_differs(client, column, &label));
    }
    wrong
}

fn allowed_differs(client: &mut Client, column: &Column<'_>, label: &str) -> Option<String> {
    let checks: String = value(
        client,
        "SELECT coalesce(string_agg(pg_catalog.pg_get_constraintdef(k.oid), ' '), '')
           FROM pg_catalog.pg_constraint AS k
           JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
          WHERE k.conrelid = pg_catalog.to_regclass('public.' || $1)
            AND k.contype = 'c'
            AND k.convalidated
            AND a.attname = $2::text",
        &[&column.table, &column.name],
    );
    let wanted: Vec<String> = match column.allowed.split_once("..") {
        Some((low, high)) => vec![
            format!(">= {low}"),
            format!("<= {high}"),
            format!(">= ({low})"),
            format!("<= ({high})"),
        ],
        None => column
            .allowed
            .split(' ')
            .map(|word| format!("'{word}'::text"))
            .collect(),
    };
    let met = if column.allowed.contains("..") {
        // numeric bounds are printed in parentheses with a cast, integer ones bare
        wanted.iter().filter(|part| checks.contains(*part)).count() >= 2
    } else {
        wanted.iter().all(|part| checks.contains(part))
            && checks.matches("::text").count() == wanted.len()
    };
    (!met).then(|| {
        format!(
            "{label}: allowed values are {checks}, not {}",
            column.allowed
        )
    })
}

fn reference_differs(client: &mut Client, column: &Column<'_>, label: &str) -> Option<String> {
    let action = match column.on_delete {
        "cascade" => "c",
        "set null" => "n",
        "restrict" => "r",
        other => panic!("{label}: on_delete {other}"),
    };
    // Between tables of a workspace the key carries the workspace; a set-null key empties its own column only.
    let composite = !matches!(column.references, "workspaces" | "users" | "agent_registry");
    let found: i64 = value(
        client,
        "SELECT count(*)
           FROM pg_catalog.pg_constraint AS k
           JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attname = $2::text
           LEFT JOIN pg_catalog.pg_attribute AS w ON w.attrelid = k.conrelid AND w.attname = 'workspace_id'
          WHERE k.conrelid = pg_catalog.to_regclass('public.' || $1)
            AND k.contype = 'f'
            AND k.convalidated
            AND k.confrelid = pg_catalog.to_regclass('public.' || $3)
            AND k.confdeltype = $4::text::\"char\"
            AND k.conkey = CASE WHEN $5 THEN ARRAY[w.attnum, a.attnum] ELSE ARRAY[a.attnum] END
            AND (NOT $5 OR $4 <> 'n' OR k.confdelsetcols = ARRAY[a.attnum])",
        &[&column.table, &column.name, &column.references, &action, &composite],
    );
    (found != 1).then(|| {
        format!(
            "{label}: {found} foreign keys to {} on delete {}",
            column.references, column.on_delete
        )
    })
}

#[test]
fn a_column_beyond_the_list_is_a_decision() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let columns = listed();
    let extra: Vec<String> = admin
        .query(
            "SELECT c.relname || '.' || a.attname
               FROM pg_catalog.pg_attribute AS a
               JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
              WHERE c.relnamespace = 'public'::regnamespace
                AND c.relkind = 'r'
                AND a.attnum > 0
                AND NOT a.attisdropped
              ORDER BY 1",
            &[],
        )
        .expect("reads the catalog")
        .iter()
        .map(|row| row.get::<_, String>(0))
        .filter(|name| {
            columns
                .iter()
                .any(|column| name.starts_with(&format!("{}.", column.table)))
        })
        .filter(|name| {
            !columns
                .iter()
                .any(|column| *name == format!("{}.{}", column.table, column.name))
        })
        .collect();
    assert_eq!(
        extra,
        [
            "agent_performance.execution_time_sketch",
            "agent_performance.total_execution_time_seconds",
            "system_alerts.dedup_key",
            "system_alerts.last_seen_at",
            "system_alerts.occurrence_count",
            "user_notifications.archived_at",
            "user_notifications.idempotency_key",
            "user_notifications.seen_at",
        ]
    );
}
