//! A database of the product: 52 tables, then 43, then 59, and not a row lost.

use crate::support::{outcomes, tables_in_public, verified};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, fails_with, value};

fn product() -> Database {
    let db = Database::empty();
    db.admin()
        .batch_execute(include_str!("../../fixtures/product_52_tables.sql"))
        .unwrap_or_else(|error| panic!("{:?}", codex_pg_test::Failure::from(&error)));
    db.admin()
        .batch_execute("CREATE EXTENSION raptorflow_codex")
        .expect("the extension");
    db
}

fn rows(client: &mut Client) -> Vec<(String, i64)> {
    [
        "workspaces",
        "user_workspaces",
        "cohorts",
        "moves",
        "assets",
        "agent_recommendations",
    ]
    .map(|table| {
        let rows = value(client, &format!("SELECT count(*) FROM public.{table}"), &[]);
        (table.to_string(), rows)
    })
    .to_vec()
}

#[test]
fn from_52_tables_to_43_to_59() {
    let db = product();
    let mut admin = db.admin();
    assert_eq!(tables_in_public(&mut admin), 52);
    let before = rows(&mut admin);
    outcomes(&mut admin, "codex.migrate(12, archive_unused => true)");
    assert_eq!(tables_in_public(&mut admin), 43);
    outcomes(&mut admin, "codex.migrate(17)");
    assert_eq!(tables_in_public(&mut admin), 59);
    verified(&mut admin);
    assert_eq!(rows(&mut admin), before);
    assert_eq!(before[3], ("moves".to_string(), 156));

    let archived: i64 = value(&mut admin, "SELECT count(*) FROM codex_archive.quests", &[]);
    assert_eq!(archived, 4, "archived with their rows");
    let told: i64 = value(
        &mut admin,
        "SELECT count(*)
           FROM public.agent_recommendations AS r
           JOIN public.moves AS m ON m.id = r.move_id AND m.workspace_id = r.workspace_id",
        &[],
    );
    assert_eq!(told, 5, "each recommendation got the workspace of its move");
    let users: String = value(
        &mut admin,
        "SELECT actual FROM codex.verify() WHERE id = 'foundation.users'",
        &[],
    );
    assert_eq!(users, "auth.users");

    // The only thing added to a table that was there: a unique key on cohorts and moves.
    let added: Vec<String> = admin
        .query(
            "SELECT c.relname || ' ' || i.relname
               FROM pg_catalog.pg_index AS x
               JOIN pg_catalog.pg_class AS c ON c.oid = x.indrelid
               JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
              WHERE c.relname IN ('workspaces', 'user_workspaces', 'cohorts', 'moves', 'assets')
                AND i.relname !~ '_(pkey|slug_key)$'
              ORDER BY 1",
            &[],
        )
        .expect("indexes")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(
        added,
        [
            "cohorts cohorts_workspace_id_id_key",
            "moves moves_workspace_id_id_key"
        ]
    );
    let touched: i64 = value(
        &mut admin,
        "SELECT count(*)
           FROM pg_catalog.pg_trigger AS t
          WHERE NOT t.tgisinternal
            AND t.tgrelid IN ('public.workspaces'::regclass, 'public.cohorts'::regclass, 'public.moves'::regclass)",
        &[],
    );
    assert_eq!(touched, 0);
}

#[test]
fn unused_tables_stay_unless_asked_and_are_named() {
    let db = product();
    let (mut admin, notices) = db.admin_with_notices();
    let lines = outcomes(&mut admin, "codex.migrate()");
    assert!(lines.contains(&"12 skipped".to_string()), "{lines:?}");
    let said = notices.take().join("\n");
    assert!(said.contains("quests, quest_moves"), "{said}");
    assert!(said.contains("archive_unused => true"), "{said}");
    assert_eq!(tables_in_public(&mut admin), 52 + 16);
    verified(&mut admin);
    let lines = outcomes(&mut admin, "codex.migrate(archive_unused => true)");
    assert!(lines.contains(&"12 applied".to_string()), "{lines:?}");
    assert_eq!(tables_in_public(&mut admin), 59);
    // And back again: the archived tables return, the app's tables stay.
    outcomes(&mut admin, "codex.rollback(11)");
    assert_eq!(tables_in_public(&mut admin), 52);
    let quests: i64 = value(&mut admin, "SELECT count(*) FROM public.quests", &[]);
    assert_eq!(quests, 4);
}

#[test]
fn a_row_whose_workspace_cannot_be_told_stops_the_step() {
    let db = product();
    let mut admin = db.admin();
    admin
        .batch_execute(
            "INSERT INTO public.agent_recommendations (agent_id) VALUES ('LORD-001'), ('LORD-002');
             INSERT INTO public.agent_trust_scores (agent_id) VALUES ('LORD-001');",
        )
        .expect("rows of nobody");
    for call in ["codex.migrate()", "codex.migrate(dry_run => true)"] {
        let failure = fails_with(admin.query(&format!("SELECT {call}"), &[]), "55000");
        assert!(
            failure
                .detail
                .contains("public.agent_recommendations: the workspace of 2 row(s) cannot be told"),
            "{}",
            failure.detail
        );
        assert!(
            failure.detail.contains("public.agent_trust_scores"),
            "{}",
            failure.detail
        );
    }
    let filled: i64 = value(
        &mut admin,
        "SELECT count(*) FROM information_schema.columns
          WHERE table_name = 'agent_recommendations' AND column_name = 'workspace_id'",
        &[],
    );
    assert_eq!(filled, 0, "nothing half done");
}
