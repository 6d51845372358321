//! Functions that only read: they take no transaction id, run in a read-only transaction, and answer on a hot
//! standby what they answer on the primary.

use crate::arguments::{Good, call, functions};
use crate::scene::Scene;
use codex_pg_test::postgres::{Client, SimpleQueryMessage};
use codex_pg_test::{Standby, value};

/// Volatile by name, but they write nothing.
const READING_THOUGH_VOLATILE: &[&str] = &["enter_workspace"];

/// A good call of every function that says that it does not write (STABLE or IMMUTABLE).
fn reading_calls(scene: &mut Scene) -> Vec<String> {
    let good = Good::new(scene);
    let stable: Vec<String> = scene
        .admin
        .query(
            "SELECT p.proname::text FROM pg_catalog.pg_proc AS p
             WHERE p.pronamespace = 'codex'::regnamespace AND p.provolatile <> 'v'",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    functions(&mut scene.admin)
        .iter()
        .filter(|(name, _)| {
            stable.contains(name) || READING_THOUGH_VOLATILE.contains(&name.as_str())
        })
        .map(|(name, arguments)| call(&good, name, arguments, None))
        .collect()
}

/// The rows of a query as text.
fn answer(client: &mut Client, sql: &str) -> Vec<Vec<Option<String>>> {
    client
        .simple_query(sql)
        .unwrap_or_else(|error| panic!("{}\n  {sql}", codex_pg_test::error_message(&error)))
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        })
        // The first line of an export says when it was made.
        .filter(|row: &Vec<Option<String>>| {
            !matches!(row.as_slice(), [Some(line)] if line.starts_with("{\"export\""))
        })
        .collect()
}

#[test]
fn reading_takes_no_transaction_id_and_runs_in_a_read_only_transaction() {
    let mut scene = Scene::new();
    let calls = reading_calls(&mut scene);
    for name in [
        "agent_performance_summary",
        "get_active_insights",
        "get_critical_alerts",
        "get_priority_signals",
        "get_user_unread_notifications",
        "current_workspace_id",
    ] {
        assert!(
            calls
                .iter()
                .any(|sql| sql.contains(&format!("codex.{name}("))),
            "codex.{name} is not declared as reading"
        );
    }
    // The second time the plans are there already.
    for sql in calls.iter().chain(&calls) {
        let mut transaction = scene
            .admin
            .build_transaction()
            .read_only(true)
            .start()
            .unwrap();
        transaction
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{}\n  {sql}", codex_pg_test::error_message(&error)));
        let none: bool = transaction
            .query_one("SELECT pg_current_xact_id_if_assigned() IS NULL", &[])
            .unwrap()
            .get(0);
        assert!(none, "took a transaction id: {sql}");
        transaction.commit().unwrap();

        let mut transaction = scene.admin.transaction().unwrap();
        transaction.batch_execute(sql).unwrap();
        let none: bool = transaction
            .query_one("SELECT pg_current_xact_id_if_assigned() IS NULL", &[])
            .unwrap()
            .get(0);
        assert!(none, "took a transaction id: {sql}");
    }
}

#[test]
fn reading_functions_answer_on_a_hot_standby_what_they_answer_on_the_primary() {
    let mut scene = Scene::new();
    let calls = reading_calls(&mut scene);
    scene
        .admin
        .batch_execute(&format!(
            "SELECT codex.create_system_alert('{0}', 'error', 'critical', 'Down', 'It is down');
             SELECT codex.send_user_notification('{0}', '{1}', 'alert', 'Down', 'It is down');
             INSERT INTO public.market_insights (workspace_id, insight_title, insight_type) VALUES ('{0}', 'Up', 'trend');
             INSERT INTO public.intelligence_signals (workspace_id, source_type, signal_category, signal_title, confidence_score)
             VALUES ('{0}', 'trend', 'market_trend', 'Up', 90)",
            scene.acme, scene.anna
        ))
        .unwrap();
    let standby = Standby::of_the_server();
    standby.catch_up();
    let mut there = standby.admin(&scene.db);
    assert!(value::<bool>(&mut there, "SELECT pg_is_in_recovery()", &[]));
    let enter = format!(
        "SELECT codex.enter_workspace('{}', '{}')",
        scene.acme, scene.anna
    );
    let mut rows = 0;
    for sql in &calls {
        for context in ["", enter.as_str()] {
            let script = format!("BEGIN; {context}; {sql}; COMMIT");
            let here = answer(&mut scene.admin, &script);
            assert_eq!(answer(&mut there, &script), here, "{sql}");
            rows += here.len();
        }
    }
    assert!(rows > calls.len(), "the calls answered next to nothing");
}
