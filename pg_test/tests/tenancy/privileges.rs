//! The golden matrix: who has which privilege on what, as Postgres itself answers, against `privileges.tsv`.
//!
//! `CODEX_WRITE_GOLDEN=1 cargo test -p codex-pg-test --test tenancy privileges` writes the file anew; its diff is
//! what a reviewer looks at.

use crate::scene::Scene;
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, fails_with, value};

/// A line a role and object; privileges in one column, updatable columns in brackets.
fn matrix(admin: &mut Client, roles: &[(&str, &str)]) -> String {
    let mut lines = Vec::new();
    for (label, role) in roles {
        let tables = admin
            .query(
                "SELECT n.nspname || '.' || c.relname,
                     concat_ws(', ',
                         (SELECT string_agg(p, ', ' ORDER BY p) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p WHERE has_table_privilege($1, c.oid, p)),
                         (SELECT 'UPDATE (' || string_agg(a.attname, ', ' ORDER BY a.attnum) || ')' FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND has_column_privilege($1, c.oid, a.attnum, 'UPDATE'))
                     )
                 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 WHERE n.nspname IN ('public', 'codex') AND c.relkind = 'r'
                 ORDER BY 1",
                &[role],
            )
            .unwrap();
        for row in tables {
            let (object, privileges): (String, String) = (row.get(0), row.get(1));
            let shown = if privileges.is_empty() {
                "-".to_string()
            } else {
                privileges
            };
            lines.push(format!("{label}\ttable\t{object}\t{shown}"));
        }
        let functions = admin
            .query(
                "SELECT p.oid::regprocedure::text, has_function_privilege($1, p.oid, 'EXECUTE')
                 FROM pg_proc AS p WHERE p.pronamespace = 'codex'::regnamespace ORDER BY 1",
                &[role],
            )
            .unwrap();
        for row in functions {
            let (object, may): (String, bool) = (row.get(0), row.get(1));
            lines.push(format!(
                "{label}\tfunction\t{object}\t{}",
                if may { "EXECUTE" } else { "-" }
            ));
        }
        for schema in ["public", "codex"] {
            let privileges: String = value(
                admin,
                "SELECT coalesce(string_agg(p, ', ' ORDER BY p), '-') FROM unnest(ARRAY['USAGE', 'CREATE']) AS p WHERE has_schema_privilege($1, $2, p)",
                &[role, &schema],
            );
            lines.push(format!("{label}\tschema\t{schema}\t{privileges}"));
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn privileges_are_those_of_the_committed_matrix() {
    let mut scene = Scene::new();
    let member = scene.db.role("member");
    let service = scene.db.role("service");
    let stranger = scene.db.role("stranger");
    let actual = matrix(
        &mut scene.admin,
        &[
            ("member", &member),
            ("service", &service),
            ("nobody", &stranger),
        ],
    );
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tenancy/privileges.tsv");
    if std::env::var_os("CODEX_WRITE_GOLDEN").is_some() {
        std::fs::write(file, &actual).unwrap();
    }
    let expected = std::fs::read_to_string(file).unwrap();
    for (number, (actual, expected)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(actual, expected, "line {} of privileges.tsv", number + 1);
    }
    assert_eq!(actual.lines().count(), expected.lines().count());
}

#[test]
fn nobody_has_what_row_level_security_does_not_see_and_nobody_updates_keys() {
    let mut scene = Scene::new();
    let roles = ["member", "service", "stranger"].map(|label| scene.db.role(label));
    let broken: Vec<String> = scene
        .admin
        .query(
            "SELECT r || ' on ' || c.relname
             FROM unnest($1::text[]) AS r, pg_class AS c
             WHERE c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace) AND c.relkind = 'r'
                 AND (has_table_privilege(r, c.oid, 'TRUNCATE') OR has_any_column_privilege(r, c.oid, 'REFERENCES') OR has_table_privilege(r, c.oid, 'TRIGGER')
                     OR EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname IN ('id', 'workspace_id', 'user_id') AND has_column_privilege(r, c.oid, a.attnum, 'UPDATE')))",
            &[&roles.to_vec()],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn broad_default_grants_are_taken_back_and_told() {
    let db = Database::with_extension();
    let anon = db.role("anon");
    let authenticated = db.role("authenticated");
    let bypassing = db.role("bypassing");
    let (mut admin, notices) = db.admin_with_notices();
    admin
        .batch_execute(&format!(
            "ALTER ROLE {bypassing} BYPASSRLS;
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {anon}, {authenticated}, {bypassing};
             GRANT USAGE ON SCHEMA codex TO {authenticated};
             SELECT codex.migrate()"
        ))
        .unwrap();
    let told: Vec<String> = notices
        .take()
        .into_iter()
        .filter(|line| line.contains("took back"))
        // A privilege that tables have from version 17 on.
        .map(|line| line.replace("MAINTAIN, ", ""))
        .collect();
    assert!(
        told.contains(&format!(
            "NOTICE: codex.migrate(): took back from {authenticated} on public.user_stats: DELETE, INSERT, REFERENCES, TRIGGER, TRUNCATE, UPDATE"
        )),
        "{told:#?}"
    );
    assert!(
        told.contains(&format!(
            "NOTICE: codex.migrate(): took back from {authenticated} on public.campaigns: REFERENCES, TRIGGER, TRUNCATE, UPDATE of the keys"
        )),
        "{told:#?}"
    );
    assert!(
        told.contains(&format!(
            "NOTICE: codex.migrate(): took back from {bypassing} on public.user_stats: REFERENCES, TRIGGER, TRUNCATE"
        )),
        "{told:#?}"
    );
    let mut may = |role: &str, table: &str| -> String {
        value(
            &mut admin,
            "SELECT coalesce(string_agg(p, ' ' ORDER BY p), '') FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p WHERE has_table_privilege($1, $2, p)",
            &[&role, &table],
        )
    };
    for role in [&anon, &authenticated] {
        for table in [
            "agent_registry",
            "agent_capabilities",
            "achievements",
            "user_achievements",
            "user_stats",
            "agent_performance",
        ] {
            assert_eq!(may(role, &format!("public.{table}")), "SELECT", "{table}");
        }
        assert_eq!(may(role, "public.campaigns"), "DELETE INSERT SELECT");
        assert_eq!(may(role, "public.user_notifications"), "SELECT");
    }
    assert_eq!(
        may(&bypassing, "public.user_stats"),
        "DELETE INSERT SELECT UPDATE"
    );
    // What is left works, within the policies.
    let mut session = db.login("authenticated");
    assert_eq!(
        value::<i64>(&mut session, "SELECT count(*) FROM public.campaigns", &[]),
        0
    );
    fails_with(
        session.execute(
            "UPDATE public.campaigns SET workspace_id = codex.uuid_v7()",
            &[],
        ),
        "42501",
    );
    assert_eq!(
        session
            .execute("UPDATE public.campaigns SET name = 'x'", &[])
            .unwrap(),
        0
    );
    assert_eq!(
        session
            .execute("UPDATE public.user_notifications SET is_read = true", &[])
            .unwrap(),
        0
    );
}

#[test]
fn an_operator_who_is_no_superuser_runs_all_of_it() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    let operator = db.role("operator");
    let member = db.role("member");
    let service = db.role("service");
    admin
        .batch_execute(&format!(
            "GRANT CREATE ON SCHEMA public TO {operator};
             SELECT codex.grant_operator_role('{operator}')"
        ))
        .unwrap();
    let mut session = db.login("operator");
    session.execute("SELECT codex.migrate()", &[]).unwrap();
    for (function, role) in [
        ("grant_member_role", &member),
        ("grant_service_role", &service),
    ] {
        session
            .execute(
                &format!("SELECT codex.{function}($1::text::regrole)"),
                &[role],
            )
            .unwrap();
    }
    let actual = matrix(&mut admin, &[("member", &member), ("service", &service)]);
    let expected = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/tenancy/privileges.tsv"
    ))
    .unwrap();
    let expected: String = expected
        .lines()
        .filter(|line| !line.starts_with("nobody"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(actual, expected, "the same as when a superuser does it");
    // Not without the grant, and not from one who only has CREATE.
    let halfway = Database::with_extension();
    let mut admin = halfway.admin();
    let operator = halfway.role("operator");
    let member = halfway.role("member");
    admin
        .batch_execute(&format!("GRANT CREATE ON SCHEMA public TO {operator}; GRANT USAGE, CREATE ON SCHEMA codex TO {operator}"))
        .unwrap();
    let mut session = halfway.login("operator");
    session.execute("SELECT codex.migrate()", &[]).unwrap();
    let refused = fails_with(
        session.execute(
            "SELECT codex.grant_member_role($1::text::regrole)",
            &[&member],
        ),
        "42501",
    );
    assert!(
        refused.hint.contains("codex.grant_operator_role"),
        "{refused:?}"
    );
    fails_with(
        session.execute(
            "SELECT codex.grant_operator_role($1::text::regrole)",
            &[&member],
        ),
        "42501",
    );
}

#[test]
fn grants_follow_to_tables_of_a_later_migration() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    let member = db.role("member");
    admin.execute("SELECT codex.migrate(13)", &[]).unwrap();
    admin
        .execute(
            "SELECT codex.grant_member_role($1::text::regrole)",
            &[&member],
        )
        .unwrap();
    admin.execute("SELECT codex.migrate()", &[]).unwrap();
    let may: bool = value(
        &mut admin,
        "SELECT has_table_privilege($1, 'public.system_alerts', 'INSERT')",
        &[&member],
    );
    assert!(may);
}

#[test]
fn printed_migrations_take_back_broad_grants_too() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    let authenticated = db.role("authenticated");
    admin
        .batch_execute(&format!(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {authenticated}"
        ))
        .unwrap();
    for version in [10, 11, 12, 13, 14] {
        let text: String = value(&mut admin, "SELECT codex.migration_sql($1)", &[&version]);
        admin.batch_execute(&text).unwrap();
    }
    let left: String = value(
        &mut admin,
        "SELECT string_agg(p, ' ' ORDER BY p) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p
         WHERE has_table_privilege($1, 'public.user_stats', p)",
        &[&authenticated],
    );
    assert_eq!(left, "SELECT");
    assert!(
        admin
            .query("SELECT * FROM codex.settle_grants()", &[])
            .unwrap()
            .is_empty()
    );
}
