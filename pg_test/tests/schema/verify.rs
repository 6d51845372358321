//! `codex.verify()` sees every kind of damage, says it in words, and says what mends it.

use crate::support::{failed_checks, verified};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, fails_with, value};

/// Breaks a migrated database, expects these failed checks with these words, mends it by the hint of the first,
/// and expects that all is well again.
#[track_caller]
fn broken(damage: &str, expected: &[(&str, &str)]) {
    let db = Database::migrated();
    let mut admin = db.admin();
    admin
        .batch_execute(damage)
        .unwrap_or_else(|error| panic!("{damage}: {:?}", codex_pg_test::Failure::from(&error)));
    for (id, words) in expected {
        let row = admin
            .query_opt(
                "SELECT actual, passed, hint FROM codex.verify() WHERE id = $1",
                &[id],
            )
            .expect("verify runs")
            .unwrap_or_else(|| panic!("no check {id}"));
        let actual: String = row.get(0);
        assert!(!row.get::<_, bool>(1), "{id} passed after {damage}");
        assert!(actual.contains(words), "{id} says: {actual}");
        assert!(
            row.get::<_, Option<String>>(2).is_some(),
            "{id} gives no hint"
        );
    }
    let raised = fails_with(admin.query("SELECT codex.verify_or_raise()", &[]), "55000");
    assert!(raised.detail.contains(expected[0].1), "{}", raised.detail);
    let mend: String = value(
        &mut admin,
        "SELECT hint FROM codex.verify() WHERE id = $1",
        &[&expected[0].0],
    );
    admin
        .batch_execute(&mend)
        .unwrap_or_else(|error| panic!("{mend}: {:?}", codex_pg_test::Failure::from(&error)));
    verified(&mut admin);
}

#[test]
fn a_migrated_database_passes_everything() {
    let db = Database::migrated();
    let mut admin = db.admin();
    verified(&mut admin);
    let said: String = value(&mut admin, "SELECT codex.verify_or_raise()", &[]);
    assert!(
        said.starts_with("all ") && said.ends_with(" checks passed"),
        "{said}"
    );
    let named: Vec<String> = admin
        .query(
            "SELECT id FROM codex.verify() WHERE id ~ '^01[3-7]\\.' ORDER BY id",
            &[],
        )
        .expect("verify runs")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(
        named,
        [
            "013.1", "013.2", "013.3", "013.4", "014.1", "014.2", "014.3", "014.4", "015.1",
            "015.2", "015.3", "015.4", "016.1", "016.2", "017.1", "017.2"
        ]
    );
    for (id, at_least) in [
        ("total.tables", 21),
        ("total.new_tables", 16),
        ("total.policies", 19),
        ("total.indexes", 60),
        ("total.foreign_keys", 40),
        ("total.functions", 14),
    ] {
        let actual: i64 = value(
            &mut admin,
            "SELECT actual::bigint FROM codex.verify() WHERE id = $1",
            &[&id],
        );
        assert!(actual >= at_least, "{id}: {actual}");
    }
}

#[test]
fn an_empty_database_fails_clearly() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    let failed = failed_checks(&mut admin);
    for id in ["013.1", "014.3", "017.2"] {
        let line = failed
            .iter()
            .find(|line| line.starts_with(id))
            .expect("fails");
        assert!(line.contains("does not exist"), "{line}");
    }
    let hint: String = value(
        &mut admin,
        "SELECT hint FROM codex.verify() WHERE id = '013.1'",
        &[],
    );
    assert_eq!(hint, "SELECT * FROM codex.migrate();");
    fails_with(admin.query("SELECT codex.verify_or_raise()", &[]), "55000");
    let state: String = value(
        &mut admin,
        "SELECT state FROM codex.status() WHERE item = 'schema'",
        &[],
    );
    assert_eq!(state, "not migrated");
}

#[test]
fn a_dropped_index() {
    broken(
        "DROP INDEX public.user_notifications_workspace_id_idx",
        &[
            (
                "017.2",
                "index user_notifications_workspace_id_idx is missing",
            ),
            (
                "indexes.public.user_notifications",
                "index user_notifications_workspace_id_idx is missing",
            ),
        ],
    );
}

#[test]
fn an_index_of_the_same_name_on_other_columns() {
    broken(
        "DROP INDEX public.campaigns_active_idx; CREATE INDEX campaigns_active_idx ON public.campaigns (status)",
        &[(
            "013.3",
            "index campaigns_active_idx is: CREATE INDEX campaigns_active_idx ON public.campaigns USING btree (status)",
        )],
    );
}

#[test]
fn an_invalid_index() {
    broken(
        "UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'public.campaigns_active_idx'::regclass",
        &[("indexes.public.campaigns", "(invalid)")],
    );
}

#[test]
fn a_dropped_column() {
    broken(
        "ALTER TABLE public.positioning DROP COLUMN key_message",
        &[
            (
                "columns.public.positioning",
                "column key_message is missing",
            ),
            ("013.1", "column key_message is missing"),
        ],
    );
}

#[test]
fn a_column_of_another_type_default_or_nullability() {
    broken(
        "ALTER TABLE public.positioning ALTER COLUMN description TYPE varchar(50)",
        &[(
            "columns.public.positioning",
            "column description is: character varying(50)",
        )],
    );
    broken(
        "ALTER TABLE public.positioning ALTER COLUMN id DROP DEFAULT",
        &[("columns.public.positioning", "column id is: uuid NOT NULL")],
    );
    broken(
        "ALTER TABLE public.positioning ALTER COLUMN market_segment DROP NOT NULL",
        &[(
            "columns.public.positioning",
            "column market_segment is: text",
        )],
    );
}

#[test]
fn a_dropped_policy() {
    broken(
        "DROP POLICY campaigns_workspace_isolation ON public.campaigns",
        &[
            (
                "policies.public.campaigns",
                "policy campaigns_workspace_isolation is missing",
            ),
            ("013.3", "policy campaigns_workspace_isolation is missing"),
        ],
    );
}

#[test]
fn a_policy_that_lets_everybody_in() {
    broken(
        "ALTER POLICY campaigns_workspace_isolation ON public.campaigns USING (true)",
        &[("policies.public.campaigns", "USING (true)")],
    );
    broken(
        "CREATE POLICY everybody ON public.campaigns USING (true)",
        &[("policies.additional", "everybody on public.campaigns")],
    );
}

#[test]
fn a_dropped_or_disabled_trigger() {
    broken(
        "DROP TRIGGER user_stats_experience_level ON public.user_stats",
        &[
            (
                "triggers.public.user_stats",
                "trigger user_stats_experience_level is missing",
            ),
            ("014.3", "is missing"),
        ],
    );
    broken(
        "ALTER TABLE public.user_stats DISABLE TRIGGER user_stats_updated_at",
        &[("triggers.public.user_stats", "(disabled)")],
    );
}

#[test]
fn row_security_switched_off() {
    broken(
        "ALTER TABLE public.user_notifications DISABLE ROW LEVEL SECURITY",
        &[
            ("row_security.public.user_notifications", "row security off"),
            ("017.2", "row security off"),
        ],
    );
}

#[test]
fn a_loosened_check() {
    broken(
        "ALTER TABLE public.achievements DROP CONSTRAINT achievements_points_reward_check;
         ALTER TABLE public.achievements ADD CONSTRAINT achievements_points_reward_check CHECK (points_reward >= -5)",
        &[("constraints.public.achievements", "achievements_points_reward_check is: CHECK ((points_reward >= '-5'::integer))")],
    );
    broken(
        "ALTER TABLE public.achievements DROP CONSTRAINT achievements_points_reward_check;
         ALTER TABLE public.achievements ADD CONSTRAINT achievements_points_reward_check CHECK (points_reward >= 0) NOT VALID",
        &[("constraints.public.achievements", "NOT VALID")],
    );
}

#[test]
fn a_dropped_foreign_key() {
    broken(
        "ALTER TABLE public.campaign_quests DROP CONSTRAINT campaign_quests_campaign_id_fkey",
        &[(
            "013.4",
            "constraint campaign_quests_campaign_id_fkey is missing",
        )],
    );
}

#[test]
fn a_dropped_function() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let drop: String = value(
        &mut admin,
        "SELECT format('ALTER EXTENSION raptorflow_codex DROP FUNCTION %1$s; DROP FUNCTION %1$s', p.oid::regprocedure)
           FROM pg_catalog.pg_proc AS p
          WHERE p.pronamespace = 'codex'::regnamespace
            AND p.proname = 'unlock_achievement'",
        &[],
    );
    admin.batch_execute(&drop).expect("drops the function");
    let failed = failed_checks(&mut admin);
    for id in ["014.4", "functions.codex"] {
        let line = failed
            .iter()
            .find(|line| line.starts_with(id))
            .expect("fails");
        assert!(
            line.contains("unlock_achievement") && line.contains("missing"),
            "{line}"
        );
    }
}

#[test]
fn a_changed_migration_file() {
    let db = Database::migrated();
    let mut admin = db.admin();
    admin
        .execute(
            "UPDATE codex.migrations SET checksum = repeat('0', 64) WHERE version = 14",
            &[],
        )
        .expect("the ledger of another library");
    let failed = failed_checks(&mut admin);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(
        failed[0].starts_with(
            "ledger.014: sql/migrations/014_achievements.up.sql changed after it was applied"
        ),
        "{}",
        failed[0]
    );
}

#[test]
fn what_a_user_adds_does_not_disturb() {
    let db = Database::migrated();
    let mut admin: Client = db.admin();
    admin
        .batch_execute(
            "ALTER TABLE public.campaigns ADD COLUMN colour text CHECK (colour <> '');
             CREATE INDEX mine ON public.campaigns (colour);
             CREATE FUNCTION public.mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
             CREATE TRIGGER mine BEFORE INSERT ON public.campaigns FOR EACH ROW EXECUTE FUNCTION public.mine();
             CREATE POLICY mine ON public.campaigns AS RESTRICTIVE USING (colour IS DISTINCT FROM 'red');",
        )
        .expect("additions");
    verified(&mut admin);
}

#[test]
fn a_role_without_any_privilege_may_verify() {
    let db = Database::migrated();
    db.role("nobody");
    db.admin()
        .batch_execute(&format!(
            "GRANT USAGE ON SCHEMA codex TO {}",
            db.role("nobody")
        ))
        .expect("may use the schema");
    let mut session = db.login("nobody");
    let checks: i64 = value(&mut session, "SELECT count(*) FROM codex.verify()", &[]);
    assert!(checks > 100, "{checks}");
}

#[test]
fn the_status_screen_says_what_a_dba_asks_first() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let line = |admin: &mut Client, item: &str| -> (String, Option<String>) {
        let row = admin
            .query_one(
                "SELECT state, mend FROM codex.status() WHERE item = $1",
                &[&item],
            )
            .unwrap_or_else(|_| panic!("no line {item}"));
        (row.get(0), row.get(1))
    };
    assert_eq!(
        line(&mut admin, "pending migrations"),
        ("none".to_string(), None)
    );
    let latest = crate::support::latest();
    let schema = line(&mut admin, "schema").0;
    assert!(
        schema.starts_with(&format!("{latest:03} ")) && schema.ends_with(&format!(" of {latest}")),
        "{schema}"
    );
    assert_eq!(line(&mut admin, "users").0, "public.users");
    assert!(line(&mut admin, "verify").0.starts_with("all "));
    assert_eq!(
        line(&mut admin, "service roles").1.as_deref(),
        Some("SELECT codex.grant_service_role('…');")
    );
    let workspace_tables: i64 = value(
        &mut admin,
        "SELECT count(DISTINCT polrelid) FROM pg_policy WHERE pg_get_expr(polqual, polrelid) LIKE '%codex.current_%'",
        &[],
    );
    let (protected, mend) = line(&mut admin, "protected tables");
    assert_eq!(
        (protected, mend),
        (workspace_tables.to_string(), None),
        "each table of a workspace"
    );

    let role = db.role("worker");
    admin
        .batch_execute(&format!(
            "SELECT codex.grant_service_role('{role}');
             CREATE TABLE public.documents (id uuid PRIMARY KEY, workspace_id uuid NOT NULL);
             DROP INDEX public.campaigns_active_idx;"
        ))
        .expect("a role, a table of the app, and some damage");
    assert_eq!(line(&mut admin, "service roles").0, role);
    let (state, mend) = line(&mut admin, "protected tables");
    assert!(state.contains("public.documents"), "{state}");
    assert_eq!(
        mend.as_deref(),
        Some("SELECT * FROM codex.unprotected_tables();")
    );
    let (state, mend) = line(&mut admin, "problem: indexes.public.campaigns");
    assert!(state.contains("campaigns_active_idx is missing"), "{state}");
    assert!(
        mend.expect("a mend")
            .starts_with("CREATE INDEX campaigns_active_idx")
    );
}
