//! The rules of the linter that Supabase runs on its users' databases, on the tables in `public` and on `codex`.
//!
//! Written here from the rules' descriptions; each query gives a row a finding, and there are to be none.

use codex_pg_test::Database;
use codex_pg_test::postgres::Client;

fn none(admin: &mut Client, rule: &str, sql: &str) {
    let found: Vec<String> = admin
        .query(sql, &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(found, Vec::<String>::new(), "{rule}");
}

#[test]
fn there_is_no_finding() {
    let db = Database::migrated();
    let mut admin = db.admin();
    none(&mut admin, "unindexed foreign keys", "
        SELECT k.conrelid::regclass || ' ' || k.conname FROM pg_constraint AS k
        WHERE k.contype = 'f' AND k.connamespace IN ('public'::regnamespace, 'codex'::regnamespace)
            AND NOT EXISTS (
                SELECT FROM pg_index AS i
                WHERE i.indrelid = k.conrelid AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
                    AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] <@ k.conkey
            )");
    none(&mut admin, "duplicate indexes", "
        SELECT string_agg(i.indexrelid::regclass::text, ' = ') FROM pg_index AS i
        WHERE i.indrelid IN (SELECT oid FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 'codex'::regnamespace))
        GROUP BY i.indrelid, i.indkey, i.indclass, i.indoption, pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid)
        HAVING count(*) > 1");
    none(&mut admin, "row-level security disabled in an exposed schema", "
        SELECT c.oid::regclass::text FROM pg_class AS c
        WHERE c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace) AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity");
    none(&mut admin, "row-level security enabled without a policy", "
        SELECT c.oid::regclass::text FROM pg_class AS c
        WHERE c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace) AND c.relkind IN ('r', 'p') AND c.relrowsecurity
            AND NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = c.oid)");
    none(&mut admin, "a policy without row-level security", "
        SELECT p.polname::text FROM pg_policy AS p JOIN pg_class AS c ON c.oid = p.polrelid WHERE NOT c.relrowsecurity");
    none(&mut admin, "several permissive policies for one role and command", "
        SELECT p.polrelid::regclass::text FROM pg_policy AS p
            CROSS JOIN LATERAL unnest(CASE p.polcmd WHEN '*' THEN ARRAY['r', 'a', 'w', 'd'] ELSE ARRAY[p.polcmd::text] END) AS command
            CROSS JOIN LATERAL unnest(p.polroles) AS role
        WHERE p.polpermissive GROUP BY p.polrelid, command, role HAVING count(*) > 1");
    none(&mut admin, "calls of auth or settings a row in a policy", "
        SELECT p.polname::text FROM pg_policy AS p
            CROSS JOIN LATERAL (SELECT concat(pg_get_expr(p.polqual, p.polrelid), ' ', pg_get_expr(p.polwithcheck, p.polrelid)) AS text) AS e
        WHERE regexp_replace(e.text, 'SELECT (auth|codex)\\.\\w+\\(\\)', '', 'g') ~ '((auth|codex)\\.\\w+\\(|current_setting\\()'");
    none(&mut admin, "an always-true policy for writing", "
        SELECT p.polname::text FROM pg_policy AS p
        WHERE p.polpermissive AND p.polcmd <> 'r' AND (pg_get_expr(p.polqual, p.polrelid) = 'true' OR pg_get_expr(p.polwithcheck, p.polrelid) = 'true')");
    none(&mut admin, "policies that refer to user_metadata", "
        SELECT p.polname::text FROM pg_policy AS p WHERE pg_get_expr(p.polqual, p.polrelid) LIKE '%user_metadata%'");
    none(&mut admin, "a function with a mutable search path", "
        SELECT p.oid::regprocedure::text FROM pg_proc AS p
        WHERE p.pronamespace IN ('public'::regnamespace, 'codex'::regnamespace)
            AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
            AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE s LIKE 'search_path=%')");
    none(
        &mut admin,
        "an extension in public",
        "
        SELECT extname::text FROM pg_extension WHERE extnamespace = 'public'::regnamespace",
    );
    none(
        &mut admin,
        "a definer function that end users may execute",
        "
        SELECT p.oid::regprocedure::text FROM pg_proc AS p
        WHERE p.pronamespace IN ('public'::regnamespace, 'codex'::regnamespace) AND p.prosecdef",
    );
    none(&mut admin, "a definer view, and a materialised view in the API", "
        SELECT c.oid::regclass::text FROM pg_class AS c
        WHERE c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace) AND c.relkind IN ('v', 'm')");
    none(
        &mut admin,
        "a table without a primary key",
        "
        SELECT c.oid::regclass::text FROM pg_class AS c
        WHERE c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace) AND c.relkind = 'r'
            AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary)",
    );
    none(
        &mut admin,
        "a foreign key to auth that the API exposes, a foreign table",
        "
        SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relkind = 'f'",
    );
}
