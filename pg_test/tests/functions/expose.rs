//! Call-throughs: the functions under the same names in another schema.

use crate::scene::{Scene, rows};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Uuid, fails_with, value};

/// What the manual promises to expose.
const EXPOSED: [&str; 16] = [
    "acknowledge_alert",
    "agent_performance_summary",
    "create_insight_from_signals",
    "create_system_alert",
    "dismiss_alert",
    "get_active_insights",
    "get_critical_alerts",
    "get_priority_signals",
    "get_user_unread_notifications",
    "mark_all_notifications_read",
    "mark_notification_as_read",
    "record_agent_execution",
    "resolve_alert",
    "send_user_notification",
    "send_user_notifications",
    "unlock_achievement",
];

/// Calls `expose` or `unexpose`; gives function and action of each row.
fn run(client: &mut Client, function: &str, schema: &str) -> Vec<(String, String)> {
    client
        .query(
            &format!("SELECT function, action FROM codex.{function}($1)"),
            &[&schema],
        )
        .unwrap_or_else(|error| panic!("{}", codex_pg_test::error_message(&error)))
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

/// Everything about the functions of schema app, to see that nothing has changed.
fn functions_of_app(client: &mut Client) -> Vec<String> {
    client
        .query(
            "SELECT p::text FROM pg_catalog.pg_proc AS p
             WHERE p.pronamespace = 'app'::regnamespace ORDER BY p.oid",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn scene_with_app() -> Scene {
    let mut scene = Scene::new();
    scene.admin.batch_execute("CREATE SCHEMA app").unwrap();
    scene
}

#[test]
fn a_call_through_looks_like_the_original_and_answers_like_it() {
    let mut scene = scene_with_app();
    let admin = &mut scene.admin;
    let expected = |action: &str| EXPOSED.map(|name| (format!("app.{name}"), action.to_string()));
    assert_eq!(run(admin, "expose", "app"), expected("created"));
    assert_eq!(run(admin, "expose", "app"), expected("refreshed"));

    let unlike: Vec<String> = admin
        .query(
            "SELECT through.proname::text
             FROM pg_catalog.pg_proc AS through
             LEFT JOIN pg_catalog.pg_proc AS original
                 ON original.pronamespace = 'codex'::regnamespace
                 AND original.proname = through.proname
                 AND pg_get_function_arguments(original.oid) = pg_get_function_arguments(through.oid)
                 AND pg_get_function_result(original.oid) = pg_get_function_result(through.oid)
                 AND original.provolatile = through.provolatile
                 AND original.proparallel = through.proparallel
             WHERE through.pronamespace = 'app'::regnamespace
               AND (original.oid IS NULL OR through.prosecdef OR through.proconfig IS NULL
                    OR through.proowner <> current_user::regrole
                    OR NOT starts_with(obj_description(through.oid, 'pg_proc'), 'Call-through made by codex.expose(). '))",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(unlike.is_empty(), "{unlike:?}");

    admin.batch_execute("SET search_path = app").unwrap();
    let alert: Uuid = value(
        admin,
        "SELECT create_system_alert($1, 'error', 'critical', p_title => 'T', p_description => 'D')",
        &[&scene.acme],
    );
    let listed: Uuid = value(
        admin,
        "SELECT id FROM get_critical_alerts($1)",
        &[&scene.acme],
    );
    assert_eq!(listed, alert);
    admin
        .execute("SELECT acknowledge_alert($1, $2)", &[&alert, &scene.anna])
        .unwrap();
    fails_with(
        admin.execute("SELECT acknowledge_alert($1, $2)", &[&alert, &scene.bob]),
        "42501",
    );
}

#[test]
fn old_functions_of_the_product_are_replaced_with_a_notice() {
    let scene = scene_with_app();
    let (mut admin, notices) = scene.db.admin_with_notices();
    admin
        .batch_execute(
            "CREATE FUNCTION app.acknowledge_alert(p_alert_id uuid, p_user_id uuid) RETURNS void
                 LANGUAGE plpgsql AS 'BEGIN END';
             CREATE VIEW app.uses_it AS SELECT app.acknowledge_alert(NULL, NULL)::text AS nothing;
             CREATE FUNCTION app.get_active_insights(p_workspace_id uuid) RETURNS TABLE (id uuid, title varchar)
                 LANGUAGE plpgsql AS 'BEGIN END';
             CREATE FUNCTION app.record_agent_execution(p_workspace_id uuid, p_agent_id uuid, p_execution_time_seconds numeric,
                     p_input_tokens integer, p_output_tokens integer, p_cost numeric, p_success boolean) RETURNS void
                 LANGUAGE plpgsql AS 'BEGIN END'",
        )
        .unwrap();
    let replaced: Vec<String> = run(&mut admin, "expose", "app")
        .into_iter()
        .filter(|(_, action)| action == "replaced")
        .map(|(function, _)| function)
        .collect();
    assert_eq!(
        replaced,
        [
            "app.acknowledge_alert",
            "app.get_active_insights",
            "app.record_agent_execution"
        ]
    );
    let notices = notices.take();
    assert_eq!(notices.len(), 3, "{notices:?}");
    assert_eq!(
        notices[0],
        "NOTICE: replacing the PL/pgSQL function app.acknowledge_alert(p_alert_id uuid, p_user_id uuid) by a call-through to codex.acknowledge_alert"
    );
    assert_eq!(
        value::<i64>(
            &mut admin,
            "SELECT count(*) FROM pg_catalog.pg_proc WHERE pronamespace = 'app'::regnamespace",
            &[]
        ),
        16,
        "one function a name: no call is ambiguous"
    );
    fails_with(admin.query("SELECT * FROM app.uses_it", &[]), "22004");
}

#[test]
fn an_old_function_that_others_depend_on_is_named() {
    let mut scene = scene_with_app();
    let admin = &mut scene.admin;
    admin
        .batch_execute(
            "CREATE FUNCTION app.get_active_insights(p_workspace_id uuid) RETURNS TABLE (id uuid, title text)
                 LANGUAGE plpgsql AS 'BEGIN END';
             CREATE VIEW app.feed AS SELECT * FROM app.get_active_insights(NULL)",
        )
        .unwrap();
    let before = functions_of_app(admin);
    let failure = fails_with(admin.query("SELECT codex.expose('app')", &[]), "55000");
    assert_eq!(
        failure.message,
        "cannot drop function app.get_active_insights(uuid) because other objects depend on it"
    );
    assert!(failure.detail.contains("view app.feed"), "{failure:?}");
    assert_eq!(functions_of_app(admin), before);
}

#[test]
fn a_function_that_is_not_ours_is_never_overwritten() {
    let mut scene = scene_with_app();
    let admin = &mut scene.admin;
    admin
        .batch_execute(
            "CREATE FUNCTION app.get_critical_alerts(uuid) RETURNS integer LANGUAGE sql AS 'SELECT 1';
             CREATE FUNCTION app.send_user_notification(uuid, uuid, text, text, text) RETURNS uuid LANGUAGE sql AS 'SELECT $1'",
        )
        .unwrap();
    let before = functions_of_app(admin);
    let failure = fails_with(admin.query("SELECT codex.expose('app')", &[]), "55000");
    assert_eq!(
        failure.message,
        "functions in schema app are in the way that codex.expose() did not make: \
         app.get_critical_alerts(uuid), language sql; app.send_user_notification(uuid, uuid, text, text, text), language sql"
    );
    assert_eq!(functions_of_app(admin), before);
}

#[test]
fn functions_with_other_arguments_are_left_alone_and_only_ours_are_taken_away() {
    let mut scene = scene_with_app();
    let admin = &mut scene.admin;
    admin
        .batch_execute(
            "CREATE FUNCTION app.get_critical_alerts(days date) RETURNS integer LANGUAGE sql AS 'SELECT 1';
             CREATE FUNCTION app.unrelated() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
        )
        .unwrap();
    let before = functions_of_app(admin);
    run(admin, "expose", "app");
    assert_eq!(functions_of_app(admin).len(), before.len() + 16);
    assert_eq!(
        run(admin, "unexpose", "app"),
        EXPOSED.map(|name| (format!("app.{name}"), "dropped".to_string()))
    );
    assert_eq!(functions_of_app(admin), before);
    assert!(run(admin, "unexpose", "app").is_empty());
}

#[test]
fn call_throughs_of_another_version_go_too() {
    let mut scene = scene_with_app();
    let admin = &mut scene.admin;
    admin
        .batch_execute(
            "CREATE FUNCTION app.get_critical_alerts(p_workspace_id uuid, p_since date) RETURNS integer LANGUAGE sql AS 'SELECT 1';
             COMMENT ON FUNCTION app.get_critical_alerts IS 'Call-through made by codex.expose(). Of long ago.'",
        )
        .unwrap();
    let action = run(admin, "expose", "app")
        .into_iter()
        .find(|(function, _)| function == "app.get_critical_alerts");
    assert_eq!(
        action,
        Some(("app.get_critical_alerts".into(), "refreshed".into()))
    );
    assert_eq!(functions_of_app(admin).len(), 16);
}

#[test]
fn a_call_through_may_be_called_by_those_who_may_call_the_original() {
    let mut scene = scene_with_app();
    let (member, service, anybody) = (
        scene.db.role("member"),
        scene.db.role("service"),
        scene.db.role("anybody"),
    );
    scene
        .admin
        .batch_execute(&format!(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT EXECUTE ON FUNCTIONS TO {anybody};
             GRANT USAGE ON SCHEMA app TO {member}, {service}, {anybody};
             SELECT codex.grant_member_role('{member}');
             SELECT codex.grant_service_role('{service}')"
        ))
        .unwrap();
    run(&mut scene.admin, "expose", "app");
    for (role, send, list) in [
        (&member, false, true),
        (&service, true, true),
        (&anybody, false, false),
    ] {
        let may: Vec<bool> = ["send_user_notification", "get_critical_alerts"]
            .iter()
            .map(|name| {
                value(
                    &mut scene.admin,
                    "SELECT has_function_privilege($1::text::regrole, oid, 'EXECUTE') FROM pg_catalog.pg_proc
                     WHERE pronamespace = 'app'::regnamespace AND proname = $2::text",
                    &[role, name],
                )
            })
            .collect();
        assert_eq!(may, [send, list], "{role}");
    }
    let mut session = scene.db.login(&member);
    let mut transaction = session.transaction().unwrap();
    transaction
        .execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    transaction
        .execute(
            "SELECT app.create_system_alert($1, 'error', 'high', 'T', 'D')",
            &[&scene.acme],
        )
        .unwrap();
    transaction.commit().unwrap();
    assert_eq!(rows(&mut scene.admin, "public.system_alerts"), 1);
}

#[test]
fn the_owner_of_a_schema_needs_no_superuser_to_expose() {
    let mut scene = scene_with_app();
    let owner = scene.db.role("owner");
    scene
        .admin
        .batch_execute(&format!(
            "ALTER SCHEMA app OWNER TO {owner}; GRANT USAGE ON SCHEMA codex TO {owner}"
        ))
        .unwrap();
    let mut session = scene.db.login(&owner);
    assert_eq!(run(&mut session, "expose", "app").len(), 16);
    assert_eq!(run(&mut session, "unexpose", "app").len(), 16);

    let outsider = scene.db.role("outsider");
    scene
        .admin
        .batch_execute(&format!("GRANT USAGE ON SCHEMA codex, app TO {outsider}"))
        .unwrap();
    let mut session = scene.db.login(&outsider);
    let failure = fails_with(session.query("SELECT codex.expose('app')", &[]), "42501");
    assert_eq!(
        failure.message,
        "you may not create functions in schema app"
    );
    run(&mut scene.admin, "expose", "app");
    fails_with(session.query("SELECT codex.unexpose('app')", &[]), "42501");
}

#[test]
fn schemas_that_take_no_call_throughs_are_refused() {
    let mut scene = Scene::new();
    for function in ["expose", "unexpose"] {
        for schema in [
            "codex",
            "pg_catalog",
            "pg_temp",
            "information_schema",
            "",
            "nowhere",
            "Public",
        ] {
            fails_with(
                scene
                    .admin
                    .query(&format!("SELECT codex.{function}($1)"), &[&schema]),
                "22023",
            );
        }
        fails_with(
            scene
                .admin
                .query(&format!("SELECT codex.{function}(NULL)"), &[]),
            "22004",
        );
    }
}

#[test]
fn a_schema_with_an_odd_name_is_exposed_like_any_other() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    admin
        .batch_execute(r#"CREATE SCHEMA "My ""App""; --""#)
        .unwrap();
    let schema = r#"My "App"; --"#;
    let made = run(admin, "expose", schema);
    assert_eq!(made[0].0, r#""My ""App""; --".acknowledge_alert"#);
    assert_eq!(run(admin, "unexpose", schema).len(), 16);
}
