//! Tables that were there before the Codex: adopted with every row, every column, and the old application's ways.

use crate::support::{failed_checks, outcomes, tables_in_public, verified};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Uuid, fails_with, value};

const FOUR: [&str; 4] = [
    "positioning",
    "message_architecture",
    "campaigns",
    "campaign_cohorts",
];

/// The product's database with four tables in their older shape.
fn older() -> Database {
    let db = Database::empty();
    for text in [
        include_str!("../../fixtures/product_52_tables.sql"),
        include_str!("../../fixtures/four_older_tables.sql"),
        "CREATE EXTENSION raptorflow_codex",
    ] {
        db.admin()
            .batch_execute(text)
            .unwrap_or_else(|error| panic!("{:?}", codex_pg_test::Failure::from(&error)));
    }
    db
}

/// Every row of the four tables, in the columns they had before, as text.
fn rows(client: &mut Client, columns: &[(String, String)]) -> Vec<String> {
    let mut rows = Vec::new();
    for (table, columns) in columns {
        rows.extend(
            client
                .query(
                    &format!("SELECT row({columns})::text FROM public.{table} ORDER BY id"),
                    &[],
                )
                .expect("reads the rows")
                .iter()
                .map(|row| format!("{table} {}", row.get::<_, String>(0))),
        );
    }
    rows
}

fn columns(client: &mut Client) -> Vec<(String, String)> {
    FOUR.map(|table| {
        let columns = value(
            client,
            "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
               FROM pg_catalog.pg_attribute
              WHERE attrelid = ('public.' || $1::text)::regclass
                AND attnum > 0
                AND NOT attisdropped",
            &[&table],
        );
        (table.to_string(), columns)
    })
    .to_vec()
}

/// What the old application does all day.
fn old_application_writes(client: &mut Client) {
    client
        .batch_execute(
            "INSERT INTO public.positioning (workspace_id, who_statement, category_frame, differentiator)
             SELECT id, 'New teams', 'Category', 'Speed' FROM public.workspaces LIMIT 1;
             INSERT INTO public.message_architecture (positioning_id, primary_claim)
             SELECT id, 'Claim' FROM public.positioning WHERE who_statement = 'New teams' LIMIT 1;
             INSERT INTO public.campaigns (workspace_id, name, objective, status, budget_total)
             SELECT id, 'From the old app', 'retention', 'cancelled', 12 FROM public.workspaces LIMIT 1;
             INSERT INTO public.campaign_cohorts (campaign_id, cohort_id, priority)
             SELECT k.id, c.id, 'secondary'
               FROM public.campaigns AS k
               JOIN public.cohorts AS c ON c.workspace_id = k.workspace_id
              WHERE k.name = 'From the old app'
              LIMIT 1;
             UPDATE public.campaigns SET health_score = 80, status = 'paused' WHERE name = 'From the old app';
             INSERT INTO public.agent_recommendations (agent_id, move_id, recommendation_text)
             SELECT 'MUS-001', m.id, 'From the old app' FROM public.moves AS m LIMIT 1;",
        )
        .unwrap_or_else(|error| panic!("the old application: {:?}", codex_pg_test::Failure::from(&error)));
}

#[test]
fn four_tables_in_another_shape_are_adopted_with_all_their_rows() {
    let db = older();
    let mut admin = db.admin();
    old_application_writes(&mut admin);
    let before_columns = columns(&mut admin);
    let before = rows(&mut admin, &before_columns);
    assert_eq!(tables_in_public(&mut admin), 56);

    outcomes(&mut admin, "codex.migrate(archive_unused => true)");
    verified(&mut admin);
    assert_eq!(tables_in_public(&mut admin), 59);
    assert_eq!(
        rows(&mut admin, &before_columns),
        before,
        "every old row, in every old column"
    );

    // Filled in from what the row said before, never from nowhere.
    let wrong: i64 = value(
        &mut admin,
        "SELECT count(*)
           FROM public.message_architecture AS m
           JOIN public.positioning AS p ON p.id = m.positioning_id
          WHERE m.workspace_id <> p.workspace_id
             OR m.primary_message <> m.primary_claim
             OR m.name <> coalesce(m.tagline, 'Untitled message architecture')
             OR p.market_segment <> p.category_frame",
        &[],
    );
    assert_eq!(wrong, 0);
    let wrong: i64 = value(
        &mut admin,
        "SELECT count(*)
           FROM public.campaign_cohorts AS l
           JOIN public.campaigns AS k ON k.id = l.campaign_id
          WHERE l.workspace_id <> k.workspace_id",
        &[],
    );
    assert_eq!(wrong, 0);

    // The old application goes on, and the Codex's own statuses work, too.
    old_application_writes(&mut admin);
    let completed: String = value(
        &mut admin,
        "SELECT m.primary_message || ' / ' || m.name || ' / ' || (m.workspace_id IS NOT NULL)
           FROM public.message_architecture AS m
          WHERE m.primary_claim = 'Claim'
          ORDER BY m.id DESC
          LIMIT 1",
        &[],
    );
    assert_eq!(completed, "Claim / Untitled message architecture / true");
    for status in ["archived", "cancelled", "active"] {
        admin
            .execute(
                "UPDATE public.campaigns SET status = $1 WHERE name = 'From the old app'",
                &[&status],
            )
            .expect("both words are allowed");
    }
    fails_with(
        admin.execute("UPDATE public.campaigns SET status = 'nonsense'", &[]),
        "23514",
    );
    verified(&mut admin);
}

#[test]
fn an_adopted_table_is_one_of_ours() {
    let db = older();
    let mut admin = db.admin();
    outcomes(&mut admin, "codex.migrate()");
    let campaign: Uuid = value(
        &mut admin,
        "SELECT id FROM public.campaigns ORDER BY name LIMIT 1",
        &[],
    );
    let workspace: Uuid = value(
        &mut admin,
        "SELECT workspace_id FROM public.campaigns WHERE id = $1",
        &[&campaign],
    );
    admin
        .execute(
            "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ($1, $2, 'First')",
            &[&workspace, &campaign],
        )
        .expect("a quest in an old campaign");
    let touched: bool = value(
        &mut admin,
        "SELECT updated_at > (now() AT TIME ZONE 'UTC') - interval '1 minute' FROM public.campaigns WHERE id = $1",
        &[&campaign],
    );
    assert!(
        touched,
        "the campaign's time follows its quests, in a column without time zone, too"
    );
    // A row of another workspace cannot be referred to any more.
    fails_with(
        admin.execute(
            "INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id)
             SELECT $1, $2, c.id FROM public.cohorts AS c WHERE c.workspace_id <> $1 LIMIT 1",
            &[&workspace, &campaign],
        ),
        "23503",
    );
    let renamed: Option<String> = value(
        &mut admin,
        "SELECT to_regclass('public.campaigns_active_idx_before_codex')::text",
        &[],
    );
    assert!(renamed.is_some(), "their index stays under another name");
    // Drift of an adopted table is seen, too.
    admin
        .batch_execute("ALTER TABLE public.campaigns DROP CONSTRAINT campaigns_dates_check")
        .expect("drops a check");
    let failed = failed_checks(&mut admin);
    assert!(
        failed
            .iter()
            .any(|line| line.contains("campaigns_dates_check is missing")),
        "{failed:?}"
    );
}

#[test]
fn a_dry_run_tells_table_by_table_and_changes_nothing() {
    let db = older();
    let mut admin = db.admin();
    let before: Vec<String> = shape(&mut admin);
    let detail: String = value(
        &mut admin,
        "SELECT detail FROM codex.migrate(dry_run => true) WHERE version = 13",
        &[],
    );
    for part in [
        "adopts public.positioning: ",
        "adopts public.message_architecture: ",
        "adds workspace_id",
        "campaigns_status_check allows what it did and what the Codex does",
        "renames index campaigns_active_idx",
        "makes public.campaign_quests",
    ] {
        assert!(detail.contains(part), "{part} in {detail}");
    }
    assert_eq!(shape(&mut admin), before);
}

fn shape(client: &mut Client) -> Vec<String> {
    client
        .query(
            "SELECT s::text FROM codex.schema_shape() AS s ORDER BY 1",
            &[],
        )
        .expect("codex.schema_shape() runs")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[test]
fn rows_that_do_not_fit_are_counted_and_nothing_is_changed() {
    let db = older();
    let mut admin = db.admin();
    admin
        .batch_execute(
            "UPDATE public.campaigns SET start_date = end_date + 1 WHERE name IN ('Campaign 1', 'Campaign 2');
             UPDATE public.campaigns SET positioning_id = (
                 SELECT p.id FROM public.positioning AS p WHERE p.workspace_id <> campaigns.workspace_id LIMIT 1)
              WHERE name = 'Campaign 3';
             UPDATE public.campaigns SET workspace_id = gen_random_uuid(), positioning_id = NULL WHERE name = 'Campaign 4';
             ALTER TABLE public.campaigns ADD COLUMN total_reach text;",
        )
        .expect("rows of a careless past");
    let before = shape(&mut admin);
    let failure = fails_with(admin.query("SELECT codex.migrate()", &[]), "55000");
    for line in [
        "public.campaigns: 2 row(s) break campaigns_dates_check",
        "public.campaigns: 1 row(s) refer to no row of public.positioning, or to one of another workspace",
        "public.campaigns: 1 row(s) refer to no row of public.workspaces",
        "public.campaigns.total_reach is of type text, and has to be bigint",
    ] {
        assert!(
            failure.detail.contains(line),
            "{line} in {}",
            failure.detail
        );
    }
    assert_eq!(shape(&mut admin), before);
    let ledger: Option<String> = value(
        &mut admin,
        "SELECT to_regclass('codex.migrations')::text",
        &[],
    );
    assert_eq!(ledger, None);
}

#[test]
fn a_rollback_leaves_adopted_tables_to_the_application() {
    let db = older();
    let mut admin = db.admin();
    let before_columns = columns(&mut admin);
    let before = rows(&mut admin, &before_columns);
    outcomes(&mut admin, "codex.migrate()");
    outcomes(&mut admin, "codex.rollback(0)");
    assert_eq!(rows(&mut admin, &before_columns), before);
    let open: bool = value(
        &mut admin,
        "SELECT bool_and(NOT relrowsecurity)
           FROM pg_catalog.pg_class
          WHERE oid IN ('public.campaigns'::regclass, 'public.positioning'::regclass)",
        &[],
    );
    assert!(open, "as before");
    old_application_writes(&mut admin);
    outcomes(&mut admin, "codex.migrate()");
    verified(&mut admin);
}

/// Rows of the adopted and mended tables that do not say what their parent says.
fn rows_apart(admin: &mut Client) -> i64 {
    value(
        admin,
        "SELECT (SELECT count(*) FROM public.campaign_cohorts AS l JOIN public.campaigns AS k ON k.id = l.campaign_id
                 WHERE l.workspace_id IS DISTINCT FROM k.workspace_id)
              + (SELECT count(*) FROM public.message_architecture AS m JOIN public.positioning AS p ON p.id = m.positioning_id
                 WHERE m.workspace_id IS DISTINCT FROM p.workspace_id OR m.primary_message IS DISTINCT FROM m.primary_claim)
              + (SELECT count(*) FROM public.agent_recommendations AS r JOIN public.moves AS m ON m.id = r.move_id
                 WHERE r.workspace_id IS DISTINCT FROM m.workspace_id)",
        &[],
    )
}

#[test]
fn what_completes_the_old_applications_rows_comes_back_after_drop_extension() {
    let db = older();
    let mut admin = db.admin();
    outcomes(&mut admin, "codex.migrate(archive_unused => true)");
    let triggers = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%\\_adopted'";
    assert_eq!(value::<i64>(&mut admin, triggers, &[]), 4);
    // One of them alone is missed, and made again.
    for table in ["campaign_cohorts", "agent_recommendations"] {
        admin
            .batch_execute(&format!("DROP TRIGGER {table}_adopted ON public.{table}"))
            .expect("drops it");
        let failed = failed_checks(&mut admin);
        assert!(
            failed
                .iter()
                .any(|line| line.contains(&format!("trigger {table}_adopted is missing"))),
            "{failed:?}"
        );
        outcomes(&mut admin, "codex.migrate()");
        verified(&mut admin);
    }
    admin
        .batch_execute("DROP EXTENSION raptorflow_codex CASCADE; CREATE EXTENSION raptorflow_codex")
        .expect("and back");
    assert_eq!(value::<i64>(&mut admin, triggers, &[]), 0);
    let lines = outcomes(&mut admin, "codex.migrate()");
    assert!(lines.contains(&"11 repaired".to_string()), "{lines:?}");
    verified(&mut admin);
    assert_eq!(value::<i64>(&mut admin, triggers, &[]), 4);
    old_application_writes(&mut admin);
    assert_eq!(rows_apart(&mut admin), 0);
}

#[test]
fn after_a_rollback_the_old_application_goes_on_without_the_extension() {
    let db = older();
    let mut admin = db.admin();
    let ids = "SELECT string_agg(pg_get_expr(d.adbin, d.adrelid), ', ' ORDER BY d.adrelid::regclass::text)
               FROM pg_attrdef AS d
               JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
               WHERE a.attname = 'id'
                 AND d.adrelid::regclass::text IN ('campaigns', 'campaign_cohorts', 'positioning', 'message_architecture')";
    admin
        .batch_execute("ALTER TABLE public.campaigns ALTER COLUMN id SET DEFAULT md5(clock_timestamp()::text)::uuid")
        .expect("a default of its own");
    let before: String = value(&mut admin, ids, &[]);
    outcomes(&mut admin, "codex.migrate(archive_unused => true)");
    assert_ne!(value::<String>(&mut admin, ids, &[]), before);
    outcomes(&mut admin, "codex.rollback(0)");
    assert_eq!(value::<String>(&mut admin, ids, &[]), before);
    old_application_writes(&mut admin);
    assert_eq!(
        rows_apart(&mut admin),
        0,
        "the triggers stay with the extension"
    );
    admin
        .batch_execute("DROP EXTENSION raptorflow_codex CASCADE")
        .expect("goes");
    admin
        .batch_execute(
            "UPDATE public.campaigns SET name = 'Before' WHERE name = 'From the old app'",
        )
        .expect("the old application");
    old_application_writes(&mut admin);
    assert!(
        rows_apart(&mut admin) > 0,
        "nobody completes them meanwhile"
    );
    admin
        .batch_execute("CREATE EXTENSION raptorflow_codex")
        .expect("and back");
    outcomes(&mut admin, "codex.migrate()");
    verified(&mut admin);
    assert_eq!(rows_apart(&mut admin), 0);
    admin
        .batch_execute(
            "UPDATE public.campaigns SET name = 'Before' WHERE name = 'From the old app'",
        )
        .expect("the old application");
    old_application_writes(&mut admin);
    assert_eq!(rows_apart(&mut admin), 0);
}

#[test]
fn hand_run_migrations_are_adopted() {
    let db = Database::empty();
    for text in [
        include_str!("../../fixtures/product_52_tables.sql"),
        include_str!("../../fixtures/hand_run_013_to_017.sql"),
        "CREATE EXTENSION raptorflow_codex",
    ] {
        db.admin()
            .batch_execute(text)
            .unwrap_or_else(|error| panic!("{:?}", codex_pg_test::Failure::from(&error)));
    }
    let mut admin = db.admin();
    admin
        .batch_execute("UPDATE public.agent_performance SET avg_execution_time_seconds = 2.5")
        .expect("three executions of 2.5 s");
    let counts = |admin: &mut Client| -> Vec<i64> {
        [
            "campaigns",
            "campaign_quests",
            "user_achievements",
            "user_stats",
            "agent_performance",
            "user_notifications",
        ]
        .map(|table| value(admin, &format!("SELECT count(*) FROM public.{table}"), &[]))
        .to_vec()
    };
    let before = counts(&mut admin);
    assert!(before.iter().all(|rows| *rows > 0), "{before:?}");
    let points: i64 = value(
        &mut admin,
        "SELECT sum(total_points) FROM public.user_stats",
        &[],
    );

    let (mut talkative, notices) = db.admin_with_notices();
    outcomes(&mut talkative, "codex.migrate()");
    let said = notices.take().join("\n");
    assert!(
        said.contains("unlock_achievement; SELECT * FROM codex.expose('public') replaces them"),
        "{said}"
    );
    verified(&mut admin);
    assert_eq!(counts(&mut admin), before);
    assert_eq!(
        value::<i64>(
            &mut admin,
            "SELECT sum(total_points) FROM public.user_stats",
            &[]
        ),
        points
    );
    admin
        .execute("SELECT codex.expose('public')", &[])
        .expect("replaces the older function");
    let answer: String = value(
        &mut admin,
        "SELECT message
           FROM public.unlock_achievement(
                    p_user_id => md5('user1')::uuid,
                    p_achievement_id => gen_random_uuid(),
                    p_workspace_id => md5('workspace1')::uuid)",
        &[],
    );
    assert_eq!(answer, "Achievement not found", "the older one always paid");
    // No context: no rows, and no error as the hand-written policies raised.
    let role = db.role("app");
    admin
        .batch_execute(&format!(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}; GRANT USAGE ON SCHEMA codex TO {role}"
        ))
        .expect("grants");
    let mut app = db.login("app");
    let rows: i64 = value(&mut app, "SELECT count(*) FROM public.campaigns", &[]);
    assert_eq!(rows, 0);
    // Token counters take what overflowed before.
    let kind: String = value(
        &mut admin,
        "SELECT format_type(atttypid, atttypmod)
           FROM pg_catalog.pg_attribute
          WHERE attrelid = 'public.agent_performance'::regclass AND attname = 'total_input_tokens'",
        &[],
    );
    assert_eq!(kind, "bigint");
    // An older hour goes on with the right average.
    admin
        .batch_execute(
            "SELECT codex.record_agent_execution(p.workspace_id, p.agent_id, 6.5, 1, 1, 0, true,
                        p_executed_at => '2026-01-01 08:30 UTC')
               FROM public.agent_performance AS p
              LIMIT 1",
        )
        .expect("a fourth execution");
    let (executions, average): (i32, String) = {
        let row = admin
            .query_one(
                "SELECT execution_count, round(avg_execution_time_seconds, 6)::text
                   FROM public.agent_performance
                  WHERE execution_count > 3",
                &[],
            )
            .expect("the hour");
        (row.get(0), row.get(1))
    };
    assert_eq!((executions, average.as_str()), (4, "3.500000"));
    // Who created something can be deleted now.
    admin
        .batch_execute("DELETE FROM auth.users WHERE id = md5('user1')::uuid")
        .expect("is erased");
}

#[test]
fn a_large_table_is_adopted_without_holding_anybody_up() {
    let db = older();
    let mut admin = db.admin();
    admin
        .batch_execute(
            "ALTER TABLE public.campaigns SET (autovacuum_enabled = off);
             INSERT INTO public.campaigns (workspace_id, name, objective)
             SELECT md5('workspace' || (n % 3 + 1))::uuid, 'Bulk ' || n, 'awareness'
               FROM generate_series(1, 120000) AS n;",
        )
        .expect("a large table");
    // Known as such before anybody counted its rows.
    fails_with(admin.query("SELECT codex.migrate()", &[]), "55000");
    admin
        .batch_execute("ANALYZE public.campaigns")
        .expect("ANALYZE");
    let failure = fails_with(admin.query("SELECT codex.migrate()", &[]), "55000");
    // The list is a script: what it says, in its order, one statement at a time.
    let statements: Vec<&str> = failure
        .detail
        .lines()
        .map(|line| {
            line.split_once(": ")
                .unwrap_or_else(|| panic!("no statement in: {line}"))
                .1
        })
        .collect();
    assert!(
        statements
            .iter()
            .filter(|statement| statement.contains("INDEX CONCURRENTLY"))
            .count()
            >= 5,
        "{statements:?}"
    );
    for statement in statements {
        admin.batch_execute(statement).unwrap_or_else(|error| {
            panic!("{statement}: {:?}", codex_pg_test::Failure::from(&error))
        });
    }
    outcomes(&mut admin, "codex.migrate()");
    let waiting: i64 = value(
        &mut admin,
        "SELECT count(*) FROM pg_catalog.pg_constraint WHERE NOT convalidated AND conrelid = 'public.campaigns'::regclass",
        &[],
    );
    assert!(
        waiting > 0,
        "constraints are added without reading the table"
    );
    let lines = outcomes(&mut admin, "codex.migrate()");
    assert!(lines.contains(&"13 repaired".to_string()), "{lines:?}");
    verified(&mut admin);
}
