//! Rows for every table there is, made from the catalog: tables of later migrations are filled without a word here.

use codex_pg_test::postgres::Client;
use codex_pg_test::{Uuid, error_message, value};

/// The tables that hold rows of a workspace, in the order in which they can be filled, without `public.workspaces`.
pub fn workspace_tables(admin: &mut Client) -> Vec<String> {
    admin
        .query(
            "SELECT table_name FROM codex.departure_plan() WHERE workspace_rows IS NOT NULL AND place > 1 ORDER BY place",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// The columns of a table that a row has to have, or that refer to something, each with a value as SQL.
const COLUMNS: &str = r"
WITH keys AS (
    SELECT k.oid, k.confrelid, k.conrelid, k.conkey[cardinality(k.conkey)] AS attnum,
        (SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = k.confrelid AND a.attnum = k.confkey[cardinality(k.confkey)]) AS refers_to,
        EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = k.confrelid AND a.attname = 'workspace_id') AS in_workspace
    FROM pg_constraint AS k
    WHERE k.contype = 'f' AND k.conrelid = $1::text::regclass
)
SELECT quote_ident(a.attname),
    a.attnotnull,
    CASE
        WHEN a.attname = 'workspace_id' THEN format('%L', $2::uuid)
        WHEN f.confrelid = 'public.users'::regclass THEN format('%L', $3::uuid)
        WHEN f.confrelid IS NOT NULL THEN format(
            '(SELECT p.%I FROM %s AS p%s ORDER BY 1 LIMIT 1)',
            f.refers_to, f.confrelid::regclass,
            CASE WHEN f.in_workspace THEN format(' WHERE p.workspace_id = %L', $2::uuid) ELSE '' END
        )
        WHEN c.literal IS NOT NULL THEN format('%L', c.literal)
        WHEN a.atttypid = 'text'::regtype THEN format('%L || %L || $1', 'a ', a.attname)
        WHEN a.atttypid = 'uuid'::regtype THEN 'gen_random_uuid()'
        WHEN a.atttypid IN ('integer'::regtype, 'bigint'::regtype, 'numeric'::regtype, 'smallint'::regtype) THEN '1'
        WHEN a.atttypid = 'boolean'::regtype THEN 'true'
        WHEN a.atttypid = 'timestamptz'::regtype THEN 'now()'
        WHEN a.atttypid = 'date'::regtype THEN 'current_date'
        WHEN a.atttypid = 'time'::regtype THEN 'localtime'
        WHEN a.atttypid = 'interval'::regtype THEN 'interval ''1 hour'''
        WHEN a.atttypid = 'jsonb'::regtype THEN '''[1]'''
        WHEN a.atttypid = 'bytea'::regtype THEN 'decode(md5($1), ''hex'')'
        ELSE '''{}'''
    END
FROM pg_attribute AS a
    LEFT JOIN LATERAL (
        SELECT * FROM keys WHERE keys.attnum = a.attnum AND a.attname <> 'workspace_id' ORDER BY keys.oid LIMIT 1
    ) AS f ON true
    LEFT JOIN LATERAL (
        SELECT (regexp_match(pg_get_constraintdef(k.oid), '''([^'']+)''::text'))[1] AS literal
        FROM pg_constraint AS k
        WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]
            AND pg_get_constraintdef(k.oid) ~ '(= ANY|= '')' AND a.atttypid = 'text'::regtype
        ORDER BY k.oid LIMIT 1
    ) AS c ON true
WHERE a.attrelid = $1::text::regclass
    AND a.attnum > 0
    AND NOT a.attisdropped
    AND a.attgenerated = ''
    AND (a.attname = 'workspace_id' OR f.confrelid IS NOT NULL OR a.attnotnull AND NOT a.atthasdef AND a.attidentity = '')
ORDER BY a.attnum";

/// Puts a row, and another that differs where it can, into every table of a workspace for a user; references are
/// filled in, to users, to agents and within the workspace.
pub fn fill_every_table(admin: &mut Client, workspace: Uuid, user: Uuid) {
    admin
        .batch_execute(
            "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Scout', 'researcher') ON CONFLICT DO NOTHING",
        )
        .unwrap();
    for table in workspace_tables(admin) {
        let columns: Vec<(String, bool, String)> = admin
            .query(COLUMNS, &[&table, &workspace, &user])
            .unwrap_or_else(|error| panic!("{table}: {}", error_message(&error)))
            .iter()
            .map(|row| (row.get(0), row.get(1), row.get(2)))
            .collect();
        for word in ["first", "second"] {
            let insert = |wanted: fn(bool) -> bool| {
                let given = || columns.iter().filter(|(_, needed, _)| wanted(*needed));
                let names: Vec<&str> = given().map(|(name, ..)| name.as_str()).collect();
                let values: Vec<&str> = given().map(|(.., value)| value.as_str()).collect();
                format!(
                    "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT DO NOTHING",
                    names.join(", "),
                    values.join(", ").replace("$1", &format!("'{word}'"))
                )
            };
            // Some rows may not refer to everything at once.
            let (all, bare) = (insert(|_| true), insert(|needed| needed));
            if admin.batch_execute(&all).is_err()
                && let Err(error) = admin.batch_execute(&bare)
            {
                panic!(
                    "{table} cannot be filled, teach tests/engines/fill.rs: {}\n{bare}",
                    error_message(&error)
                );
            }
        }
        let rows: i64 = value(
            admin,
            &format!("SELECT count(*) FROM {table} WHERE workspace_id = $1"),
            &[&workspace],
        );
        assert!(rows > 0, "{table} has no row of the workspace");
    }
}

/// All rows of a workspace in all tables, as text, by table.
pub fn picture(admin: &mut Client, workspace: Uuid) -> Vec<(String, String)> {
    let mut tables = workspace_tables(admin);
    tables.push("public.workspaces".to_string());
    tables
        .into_iter()
        .map(|table| {
            let column = if table == "public.workspaces" { "id" } else { "workspace_id" };
            let rows: String = value(
                admin,
                &format!("SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM {table} AS t WHERE {column} = $1"),
                &[&workspace],
            );
            (table, rows)
        })
        .collect()
}
