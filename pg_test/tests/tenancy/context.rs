//! Forging, keeping and confusing who one is.

use crate::scene::{
    SERVICE_TABLES, SHARED_TABLES, Scene, USER_TABLES, WORKSPACE_TABLES, count, here, here_in, set,
};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Uuid, fails_with, value};

/// The name of every campaign that a session sees, in order.
fn campaigns(session: &mut Client) -> Vec<String> {
    session
        .query("SELECT name FROM public.campaigns ORDER BY name", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn user(session: &mut Client) -> Option<Uuid> {
    value(session, "SELECT codex.current_user_id()", &[])
}

fn claims(session: &mut Client, claims: &str) {
    session
        .execute(
            "SELECT set_config('request.jwt.claims', $1, false)",
            &[&claims],
        )
        .unwrap();
}

#[test]
fn without_a_context_every_table_is_empty_and_nothing_fails() {
    let scene = Scene::new();
    for role in ["member", "service"] {
        let mut session = scene.db.login(role);
        assert_eq!(here(&mut session), None);
        for table in WORKSPACE_TABLES {
            if SERVICE_TABLES.contains(table) && role == "member" {
                continue;
            }
            assert_eq!(count(&mut session, table), 0, "{table} as {role}");
        }
        for table in SHARED_TABLES {
            assert_eq!(count(&mut session, table), 1, "{table} as {role}");
        }
    }
}

#[test]
fn with_a_context_each_sees_the_own_workspace_and_no_other() {
    let scene = Scene::new();
    let mut anna = scene.anna();
    let mut service = scene.service();
    for table in WORKSPACE_TABLES {
        let member_may = !SERVICE_TABLES.contains(table);
        let own = match *table {
            "public.workspace_members" => 2,
            _ => 1,
        };
        if member_may {
            assert_eq!(count(&mut anna, table), own, "{table} as a member");
        }
        let all = match *table {
            table if USER_TABLES.contains(&table) => 2,
            _ => own,
        };
        assert_eq!(count(&mut service, table), all, "{table} as a service");
    }
    assert_eq!(campaigns(&mut anna), ["Acme campaign"]);
}

#[test]
fn a_workspace_without_a_user_hides_the_rows_of_all_users_from_members() {
    let scene = Scene::new();
    let mut session = scene.session("member", Some(scene.acme), None);
    assert_eq!(count(&mut session, "public.campaigns"), 1);
    for table in crate::scene::USER_TABLES {
        assert_eq!(count(&mut session, table), 0, "{table}");
    }
}

#[test]
fn a_malformed_uuid_is_refused_when_it_is_set() {
    let scene = Scene::new();
    let mut session = scene.anna();
    assert_eq!(
        here(&mut session),
        Some(scene.acme),
        "the library is loaded"
    );
    for text in [
        "acme",
        "1",
        " ",
        "11111111-1111-1111-1111-11111111111",
        "11111111-1111-1111-1111-1111111111111",
        "11111111-1111-1111-1111-11111111111g",
        " 11111111-1111-1111-1111-111111111111",
        "{11111111-1111-1111-1111-111111111111}",
        "urn:uuid:11111111-1111-1111-1111-111111111111",
        "111111111111111111111111111111111111",
        "1111-11111111-1111-1111-111111111111",
        "' OR true --",
        "ααααααααααααααααα",
    ] {
        for setting in ["app.current_workspace_id", "app.current_user_id"] {
            let refused = session.execute("SELECT set_config($1, $2, false)", &[&setting, &text]);
            let failure = fails_with(refused, "22023");
            assert_eq!(
                failure.message,
                format!("invalid value for parameter \"{setting}\": \"{text}\"")
            );
            assert!(
                failure.detail.starts_with("It must be a uuid"),
                "{failure:?}"
            );
        }
    }
    assert_eq!(
        here(&mut session),
        Some(scene.acme),
        "what was set before stays"
    );
    for text in [
        scene.cask.simple().to_string(),
        scene.cask.to_string().to_uppercase(),
    ] {
        session
            .execute(
                "SELECT set_config('app.current_workspace_id', $1, false)",
                &[&text],
            )
            .unwrap();
        assert_eq!(here(&mut session), Some(scene.cask));
    }
}

#[test]
fn an_empty_string_is_no_context_also_after_a_transaction_that_had_one() {
    let scene = Scene::new();
    let mut session = scene.db.login("member");
    let mut transaction = session.transaction().unwrap();
    transaction
        .batch_execute(&format!(
            "SET LOCAL app.current_workspace_id = '{}'",
            scene.acme
        ))
        .unwrap();
    assert_eq!(here_in(&mut transaction), Some(scene.acme));
    transaction.commit().unwrap();
    assert_eq!(campaigns(&mut session), Vec::<String>::new());
    set(&mut session, None, None);
    assert_eq!(campaigns(&mut session), Vec::<String>::new());
    session
        .batch_execute("SET app.current_workspace_id TO DEFAULT")
        .unwrap();
    assert_eq!(campaigns(&mut session), Vec::<String>::new());
}

#[test]
fn a_value_that_was_set_before_the_library_was_loaded_is_taken_over_or_dropped() {
    let scene = Scene::new();
    // The library is loaded by the first call of one of its functions.
    let mut session = scene.db.login("member");
    session
        .batch_execute(&format!("SET app.current_workspace_id = '{}'", scene.acme))
        .unwrap();
    assert_eq!(campaigns(&mut session), ["Acme campaign"]);

    let mut session = scene.db.login("member");
    session
        .batch_execute("SET app.current_workspace_id = 'acme'")
        .unwrap();
    assert_eq!(campaigns(&mut session), Vec::<String>::new());
    let shown: String = value(&mut session, "SHOW app.current_workspace_id", &[]);
    assert_eq!(shown, "");

    let mut session = scene.db.login("member");
    let mut transaction = session.transaction().unwrap();
    transaction
        .batch_execute(&format!(
            "SET LOCAL raptorflow_codex.context = 'transaction';
             SET LOCAL app.current_workspace_id = '{}'",
            scene.acme
        ))
        .unwrap();
    assert_eq!(here_in(&mut transaction), Some(scene.acme));
    transaction.rollback().unwrap();
    assert_eq!(here(&mut session), None);
}

#[test]
fn with_the_library_preloaded_a_malformed_value_is_refused_from_the_start() {
    let mut scene = Scene::new();
    let database = scene.db.name().to_string();
    scene
        .admin
        .batch_execute(&format!(
            "ALTER DATABASE {database} SET session_preload_libraries = 'raptorflow_codex'"
        ))
        .unwrap();
    let mut session = scene.db.login("member");
    fails_with(
        session.batch_execute("SET app.current_workspace_id = 'acme'"),
        "22023",
    );
    set(&mut session, Some(scene.acme), Some(scene.anna));
    assert_eq!(campaigns(&mut session), ["Acme campaign"]);
}

#[test]
fn a_session_setting_left_on_a_pooled_connection_does_not_count_in_transaction_mode() {
    let scene = Scene::new();
    for mode in ["transaction", "sealed"] {
        let mut pooled = scene
            .db
            .connect_as("member", &format!("-c raptorflow_codex.context={mode}"));
        set(&mut pooled, Some(scene.acme), None);
        assert_eq!(here(&mut pooled), None);
        assert_eq!(campaigns(&mut pooled), Vec::<String>::new());
        claims(
            &mut pooled,
            &format!(
                r#"{{"sub":"{}","workspace_id":"{}"}}"#,
                scene.anna, scene.acme
            ),
        );
        assert_eq!(here(&mut pooled), None, "nor do claims of the session");
        assert_eq!(user(&mut pooled), None);
        let mut transaction = pooled.transaction().unwrap();
        transaction
            .batch_execute(&format!(
                "SET LOCAL app.current_workspace_id = '{}'",
                scene.acme
            ))
            .unwrap();
        assert_eq!(here_in(&mut transaction), Some(scene.acme));
        transaction.batch_execute("SAVEPOINT a").unwrap();
        transaction
            .batch_execute(&format!("SET app.current_workspace_id = '{}'", scene.bolt))
            .unwrap();
        assert_eq!(
            here_in(&mut transaction),
            None,
            "a plain SET would outlive the transaction"
        );
        transaction.batch_execute("ROLLBACK TO a").unwrap();
        assert_eq!(here_in(&mut transaction), Some(scene.acme));
        transaction.batch_execute("RELEASE a").unwrap();
        assert_eq!(here_in(&mut transaction), Some(scene.acme));
        transaction.commit().unwrap();
        assert_eq!(here(&mut pooled), None);
    }
    // The default honours the session, as the product's documents use it.
    let mut session = scene.session("member", Some(scene.acme), None);
    assert_eq!(here(&mut session), Some(scene.acme));
}

#[test]
fn a_savepoint_released_or_a_set_over_a_set_local_keeps_the_mode_right() {
    let scene = Scene::new();
    let mut session = scene
        .db
        .connect_as("member", "-c raptorflow_codex.context=transaction");
    let local = format!("SET LOCAL app.current_workspace_id = '{}'", scene.acme);
    let plain = format!("SET app.current_workspace_id = '{}'", scene.acme);

    let mut t = session.transaction().unwrap();
    t.batch_execute(&format!("SAVEPOINT a; {local}; RELEASE a"))
        .unwrap();
    assert_eq!(
        here_in(&mut t),
        Some(scene.acme),
        "local, by a released savepoint"
    );
    t.rollback().unwrap();

    let mut t = session.transaction().unwrap();
    t.batch_execute(&format!("{plain}; {local}")).unwrap();
    assert_eq!(here_in(&mut t), Some(scene.acme), "SET, then SET LOCAL");
    t.rollback().unwrap();

    let mut t = session.transaction().unwrap();
    t.batch_execute(&format!("{local}; {plain}")).unwrap();
    assert_eq!(here_in(&mut t), None, "SET LOCAL, then SET");
    t.rollback().unwrap();

    let mut t = session.transaction().unwrap();
    t.batch_execute(&format!("{plain}; SAVEPOINT a; {local}; RELEASE a"))
        .unwrap();
    assert_eq!(
        here_in(&mut t),
        Some(scene.acme),
        "SET, then SET LOCAL in a savepoint"
    );
    t.commit().unwrap();
    assert_eq!(
        here(&mut session),
        None,
        "after the commit only the SET is left"
    );
}

#[test]
fn the_set_clause_of_a_function_is_a_context_for_its_call_only() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute(&format!(
            "CREATE FUNCTION public.bolts_campaigns() RETURNS bigint LANGUAGE sql
             SET app.current_workspace_id = '{}'
             AS 'SELECT count(*) FROM public.campaigns'",
            scene.bolt
        ))
        .unwrap();
    // For a session without a user this is how a fixed workspace is bound to a function ...
    let mut session = scene
        .db
        .connect_as("member", "-c raptorflow_codex.context=transaction");
    assert_eq!(
        value::<i64>(&mut session, "SELECT public.bolts_campaigns()", &[]),
        1
    );
    assert_eq!(here(&mut session), None);
    // ... and for a user who is not a member there it is none.
    let mut anna = scene.anna();
    assert_eq!(
        value::<i64>(&mut anna, "SELECT public.bolts_campaigns()", &[]),
        0
    );
    assert_eq!(here(&mut anna), Some(scene.acme));
}

#[test]
fn options_of_the_connection_and_settings_of_the_role_are_no_way_in() {
    let mut scene = Scene::new();
    let forged = format!("-c app.current_workspace_id={}", scene.bolt);
    let mut session = scene.db.connect_as(
        "member",
        &format!("{forged} -c raptorflow_codex.context=transaction"),
    );
    assert_eq!(campaigns(&mut session), Vec::<String>::new());
    let mut session = scene
        .db
        .connect_as("member", "-c app.current_workspace_id=acme");
    assert_eq!(campaigns(&mut session), Vec::<String>::new());
    // The database's own choice is stricter than what the role tries.
    let database = scene.db.name().to_string();
    let role = scene.db.role("member");
    scene
        .admin
        .batch_execute(&format!(
            "ALTER DATABASE {database} SET raptorflow_codex.context = 'transaction'"
        ))
        .unwrap();
    let mut session = scene.db.login("member");
    session
        .batch_execute(&format!(
            "ALTER ROLE {role} IN DATABASE {database} SET app.current_workspace_id = '{}'",
            scene.bolt
        ))
        .unwrap_or_default();
    let mut session = scene.db.login("member");
    assert_eq!(campaigns(&mut session), Vec::<String>::new());
    // A known user who is not a member gets nothing by it, in any mode.
    let mut session = scene.db.connect_as(
        "member",
        &format!(
            "{forged} -c raptorflow_codex.context=session -c app.current_user_id={}",
            scene.anna
        ),
    );
    assert_eq!(campaigns(&mut session), Vec::<String>::new());
}

#[test]
fn the_mode_can_only_be_made_stricter_by_the_session() {
    let scene = Scene::new();
    let mut session = scene
        .db
        .connect_as("member", "-c raptorflow_codex.context=transaction");
    set(&mut session, Some(scene.acme), None);
    for attempt in [
        "SET raptorflow_codex.context = 'session'",
        "SET LOCAL raptorflow_codex.context = 'session'",
        "SELECT set_config('raptorflow_codex.context', 'session', false)",
        "DO $$ BEGIN PERFORM set_config('raptorflow_codex.context', 'session', true); END $$",
    ] {
        // The first call loads the library.
        assert_eq!(here(&mut session), None);
        let failure = fails_with(session.batch_execute(attempt), "22023");
        assert!(
            failure.detail.starts_with("SET can only make it stricter"),
            "{failure:?}"
        );
    }
    session
        .batch_execute("SET raptorflow_codex.context = 'sealed'")
        .unwrap();
    fails_with(
        session.batch_execute("SET raptorflow_codex.context = 'transaction'"),
        "22023",
    );
    session
        .batch_execute("RESET raptorflow_codex.context; RESET ALL")
        .unwrap();
    let mode: String = value(&mut session, "SHOW raptorflow_codex.context", &[]);
    assert_eq!(
        mode, "transaction",
        "RESET goes back to what the connection began with"
    );
    fails_with(
        session.batch_execute("SET raptorflow_codex.contxt = 'session'"),
        "42602",
    );
}

#[test]
fn a_second_set_in_a_transaction_changes_the_workspace_or_is_none_when_sealed() {
    let scene = Scene::new();
    let set_to = |workspace: Uuid| format!("SET LOCAL app.current_workspace_id = '{workspace}'");
    let mut session = scene.db.login("member");
    let mut t = session.transaction().unwrap();
    t.batch_execute(&format!("SET LOCAL app.current_user_id = '{}'", scene.anna))
        .unwrap();
    t.batch_execute(&set_to(scene.acme)).unwrap();
    assert_eq!(here_in(&mut t), Some(scene.acme));
    t.batch_execute(&set_to(scene.cask)).unwrap();
    assert_eq!(here_in(&mut t), Some(scene.cask), "she is a member of both");
    t.batch_execute(&set_to(scene.bolt)).unwrap();
    assert_eq!(here_in(&mut t), None, "she is not of this one");
    t.rollback().unwrap();

    let mut session = scene
        .db
        .connect_as("member", "-c raptorflow_codex.context=sealed");
    let mut t = session.transaction().unwrap();
    t.execute(
        "SELECT codex.enter_workspace($1, $2)",
        &[&scene.acme, &scene.anna],
    )
    .unwrap();
    t.batch_execute(&set_to(scene.cask)).unwrap();
    assert_eq!(here_in(&mut t), None, "another one in the same transaction");
    t.batch_execute(&set_to(scene.acme)).unwrap();
    assert_eq!(here_in(&mut t), Some(scene.acme), "back to the first");
    t.batch_execute("SET LOCAL app.current_user_id = ''")
        .unwrap();
    assert_eq!(
        here_in(&mut t),
        None,
        "another user, too, is another context"
    );
    t.batch_execute("SAVEPOINT a").unwrap();
    fails_with(
        t.execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&scene.cask, &scene.anna],
        ),
        "42501",
    );
    t.batch_execute("ROLLBACK TO a").unwrap();
    t.commit().unwrap();
    let mut t = session.transaction().unwrap();
    t.execute(
        "SELECT codex.enter_workspace($1, $2)",
        &[&scene.cask, &scene.anna],
    )
    .unwrap();
    assert_eq!(
        here_in(&mut t),
        Some(scene.cask),
        "the next transaction is free again"
    );
}

#[test]
fn set_config_inside_a_query_does_not_show_other_rows() {
    let scene = Scene::new();
    let injected = [
        format!(
            "SELECT name FROM public.campaigns WHERE set_config('app.current_workspace_id', '{}', true) IS NOT NULL",
            scene.bolt
        ),
        format!(
            "WITH s AS MATERIALIZED (SELECT set_config('app.current_workspace_id', '{}', true) AS x) SELECT c.name FROM s CROSS JOIN public.campaigns AS c WHERE s.x <> ''",
            scene.bolt
        ),
        format!(
            "SELECT c.name FROM (SELECT set_config('app.current_workspace_id', '{}', true) AS x OFFSET 0) AS s, LATERAL (SELECT name FROM public.campaigns WHERE s.x <> '') AS c",
            scene.bolt
        ),
        format!(
            "SELECT name FROM public.campaigns UNION ALL SELECT set_config('app.current_workspace_id', '{}', true) UNION ALL SELECT name FROM public.campaigns",
            scene.bolt
        ),
    ];
    let mut tried = 0;
    for (user, options) in [
        // A known user: the other workspace is none, whatever the mode.
        (Some(scene.anna), ""),
        (Some(scene.anna), "-c raptorflow_codex.context=transaction"),
        // No user: a sealed transaction keeps the workspace that it entered.
        (None, "-c raptorflow_codex.context=sealed"),
    ] {
        for sql in &injected {
            let mut session = scene.db.connect_as("member", options);
            let mut t = session.transaction().unwrap();
            t.execute(
                "SELECT codex.enter_workspace($1, $2)",
                &[&scene.acme, &user],
            )
            .unwrap();
            let seen: Vec<String> = t
                .query(sql.as_str(), &[])
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            assert!(
                !seen.iter().any(|name| name.starts_with("Bolt")),
                "{sql}: {seen:?}"
            );
            tried += 1;
        }
    }
    assert_eq!(tried, 12);
}

#[test]
fn reset_and_rollback_leave_no_context_behind() {
    let scene = Scene::new();
    let mut session = scene.anna();
    assert_eq!(here(&mut session), Some(scene.acme));
    session
        .batch_execute("RESET app.current_workspace_id")
        .unwrap();
    assert_eq!(here(&mut session), None);
    session
        .batch_execute(&format!("SET app.current_workspace_id = '{}'", scene.cask))
        .unwrap();
    assert_eq!(here(&mut session), Some(scene.cask));
    session.batch_execute("DISCARD ALL").unwrap();
    assert_eq!(here(&mut session), None);

    let mut t = session.transaction().unwrap();
    t.batch_execute(&format!("SET app.current_workspace_id = '{}'", scene.acme))
        .unwrap();
    t.batch_execute("SAVEPOINT a").unwrap();
    t.batch_execute(&format!(
        "SET LOCAL app.current_workspace_id = '{}'",
        scene.cask
    ))
    .unwrap();
    assert_eq!(here_in(&mut t), Some(scene.cask));
    t.batch_execute("ROLLBACK TO a").unwrap();
    assert_eq!(here_in(&mut t), Some(scene.acme));
    t.batch_execute(&format!(
        "SET LOCAL app.current_workspace_id = '{}'",
        scene.cask
    ))
    .unwrap();
    assert_eq!(here_in(&mut t), Some(scene.cask));
    t.rollback().unwrap();
    assert_eq!(here(&mut session), None, "a SET that was rolled back");
}

#[test]
fn a_prepared_plan_follows_the_tenant_and_the_role() {
    let mut scene = Scene::new();
    let bypassing = scene.db.role("reader");
    let member = scene.db.role("member");
    scene
        .admin
        .batch_execute(&format!(
            "GRANT SELECT ON public.campaigns TO {bypassing}; GRANT {bypassing} TO {member};
             ALTER ROLE {bypassing} BYPASSRLS"
        ))
        .unwrap();
    let mut session = scene.db.login("member");
    let plan = session
        .prepare("SELECT name FROM public.campaigns ORDER BY name")
        .unwrap();
    let names = |session: &mut Client| -> Vec<String> {
        session
            .query(&plan, &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    // Often enough for a generic plan.
    for _ in 0..8 {
        set(&mut session, Some(scene.acme), Some(scene.anna));
        assert_eq!(names(&mut session), ["Acme campaign"]);
        set(&mut session, Some(scene.bolt), Some(scene.bob));
        assert_eq!(names(&mut session), ["Bolt campaign"]);
        set(&mut session, Some(scene.bolt), Some(scene.anna));
        assert_eq!(names(&mut session), Vec::<String>::new());
        set(&mut session, None, None);
        assert_eq!(names(&mut session), Vec::<String>::new());
    }
    for _ in 0..3 {
        session
            .batch_execute(&format!("SET ROLE {bypassing}"))
            .unwrap();
        assert_eq!(names(&mut session), ["Acme campaign", "Bolt campaign"]);
        session.batch_execute("RESET ROLE").unwrap();
        assert_eq!(names(&mut session), Vec::<String>::new());
    }
}

#[test]
fn a_function_with_kept_plans_follows_the_tenant() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute(
            "CREATE FUNCTION public.names() RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
             BEGIN RETURN QUERY SELECT c.name FROM public.campaigns AS c ORDER BY 1; END $$",
        )
        .unwrap();
    let mut session = scene.db.login("member");
    for _ in 0..8 {
        for (workspace, user, expected) in [
            (scene.acme, scene.anna, Some("Acme campaign")),
            (scene.bolt, scene.bob, Some("Bolt campaign")),
            (scene.bolt, scene.anna, None),
        ] {
            set(&mut session, Some(workspace), Some(user));
            let seen: Vec<String> = session
                .query("SELECT public.names()", &[])
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            assert_eq!(seen, expected.into_iter().collect::<Vec<_>>());
        }
    }
}

#[test]
fn claims_are_read_and_must_not_contradict_the_settings() {
    let scene = Scene::new();
    let Scene {
        acme,
        bolt,
        cask,
        anna,
        bob,
        ..
    } = &scene;
    let both = |sub: &Uuid, workspace: &Uuid| {
        format!(r#"{{"role":"authenticated","sub":"{sub}","workspace_id":"{workspace}"}}"#)
    };
    let sub = |sub: &Uuid| format!(r#"{{"sub":"{sub}"}}"#);
    let only = |workspace: &Uuid| format!(r#"{{"workspace_id":"{workspace}"}}"#);
    let none: Option<Uuid> = None;
    // The claims; workspace and user of the settings; the workspace and the user that follow.
    type Id = Option<Uuid>;
    let table: Vec<(String, Id, Id, Id, Id)> = vec![
        (both(anna, acme), none, none, Some(*acme), Some(*anna)),
        (both(anna, bolt), none, none, none, Some(*anna)),
        (
            both(anna, acme),
            Some(*cask),
            none,
            Some(*cask),
            Some(*anna),
        ),
        (both(anna, acme), Some(*bolt), none, none, Some(*anna)),
        (
            both(anna, acme),
            Some(*acme),
            Some(*anna),
            Some(*acme),
            Some(*anna),
        ),
        (both(anna, acme), Some(*acme), Some(*bob), none, none),
        (both(anna, bolt), Some(*bolt), Some(*bob), none, none),
        (sub(anna), Some(*acme), none, Some(*acme), Some(*anna)),
        (sub(anna), none, none, none, Some(*anna)),
        (sub(bob), Some(*acme), none, none, Some(*bob)),
        (only(acme), none, none, Some(*acme), none),
        (only(acme), none, Some(*anna), Some(*acme), Some(*anna)),
        (only(acme), none, Some(*bob), none, Some(*bob)),
        (only(acme), Some(*bolt), none, none, none),
        (
            only(acme),
            Some(*cask),
            Some(*anna),
            Some(*cask),
            Some(*anna),
        ),
        ("{}".into(), Some(*acme), none, Some(*acme), none),
        (
            r#"{"role":"anon"}"#.into(),
            Some(*acme),
            Some(*anna),
            Some(*acme),
            Some(*anna),
        ),
        (
            r#"{"workspace_id":null}"#.into(),
            Some(*acme),
            none,
            Some(*acme),
            none,
        ),
        (
            "".into(),
            Some(*acme),
            Some(*anna),
            Some(*acme),
            Some(*anna),
        ),
        // What cannot be read is no context, and no error.
        ("junk".into(), Some(*acme), Some(*anna), none, none),
        ("[]".into(), Some(*acme), Some(*anna), none, none),
        (format!(r#"["{anna}","{acme}"]"#), none, none, none, none),
        (
            format!(r#" [ "{anna}", "{acme}" ]"#),
            Some(*acme),
            none,
            none,
            none,
        ),
        (
            format!(" {}", both(anna, acme)),
            none,
            none,
            Some(*acme),
            Some(*anna),
        ),
        ("null".into(), Some(*acme), Some(*anna), none, none),
        ("\"x\"".into(), Some(*acme), none, none, none),
        (
            r#"{"sub":"anna"}"#.into(),
            Some(*acme),
            Some(*anna),
            none,
            none,
        ),
        (r#"{"sub":""}"#.into(), Some(*acme), none, none, none),
        (r#"{"sub":null}"#.into(), Some(*acme), none, none, none),
        (r#"{"sub":5}"#.into(), Some(*acme), none, none, none),
        (r#"{"sub":{"a":1}}"#.into(), Some(*acme), none, none, none),
        (
            r#"{"workspace_id":"acme"}"#.into(),
            Some(*acme),
            none,
            none,
            none,
        ),
        (
            format!(r#"{{"sub":"{anna}","sub":"{bob}"}}"#),
            Some(*bolt),
            none,
            none,
            none,
        ),
        (
            format!(r#"{{"sub":"{anna}"}} {{"sub":"{bob}"}}"#),
            Some(*acme),
            none,
            none,
            none,
        ),
        (
            format!("{}{}", "[".repeat(5000), "]".repeat(5000)),
            Some(*acme),
            none,
            none,
            none,
        ),
        (
            format!(
                r#"{{"x":{}{},"sub":"{anna}"}}"#,
                "[".repeat(5000),
                "]".repeat(5000)
            ),
            Some(*acme),
            none,
            Some(*acme),
            Some(*anna),
        ),
    ];
    let mut session = scene.db.login("member");
    for (text, workspace, user_set, expected_workspace, expected_user) in table {
        set(&mut session, workspace, user_set);
        claims(&mut session, &text);
        let shown = &text[..text.len().min(120)];
        assert_eq!(
            here(&mut session),
            expected_workspace,
            "workspace: {shown} {workspace:?} {user_set:?}"
        );
        assert_eq!(
            user(&mut session),
            expected_user,
            "user: {shown} {workspace:?} {user_set:?}"
        );
    }
}

#[test]
fn a_subject_is_read_with_its_escapes() {
    let scene = Scene::new();
    let mut session = scene.db.login("member");
    let escaped = scene.anna.to_string().replace('-', r"\u002d");
    claims(
        &mut session,
        &format!(r#"{{"sub":"{escaped}","workspace_id":"{}"}}"#, scene.acme),
    );
    assert_eq!(here(&mut session), Some(scene.acme));
    assert_eq!(user(&mut session), Some(scene.anna));
}

#[test]
fn claims_of_another_login_than_the_gateways_do_not_count_when_it_is_named() {
    let mut scene = Scene::new();
    let database = scene.db.name().to_string();
    let gateway = scene.db.role("gateway");
    let api = scene.db.role("member");
    scene
        .admin
        .batch_execute(&format!(
            "GRANT {api} TO {gateway};
             ALTER DATABASE {database} SET raptorflow_codex.claims_from = 'somebody, {gateway}'"
        ))
        .unwrap();
    let text = format!(
        r#"{{"sub":"{}","workspace_id":"{}"}}"#,
        scene.anna, scene.acme
    );
    let mut other = scene.db.login("member");
    claims(&mut other, &text);
    assert_eq!(here(&mut other), None);
    assert_eq!(user(&mut other), None);
    fails_with(
        other.batch_execute(&format!("SET raptorflow_codex.claims_from = '{api}'")),
        "22023",
    );
    // The gateway switches roles as PostgREST does: it is the login that counts.
    let mut session = scene.db.login("gateway");
    session.batch_execute(&format!("SET ROLE {api}")).unwrap();
    claims(&mut session, &text);
    assert_eq!(here(&mut session), Some(scene.acme));
    assert_eq!(campaigns(&mut session), ["Acme campaign"]);
}

#[test]
fn enter_workspace_checks_and_is_over_with_the_transaction() {
    let scene = Scene::new();
    let mut session = scene.db.login("member");
    let missing = Uuid::new_v4();
    let stranger = fails_with(
        session.execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&scene.acme, &scene.bob],
        ),
        "42501",
    );
    let nowhere = fails_with(
        session.execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&missing, &scene.bob],
        ),
        "42501",
    );
    assert_eq!(
        stranger.message.replace(&scene.acme.to_string(), "?"),
        nowhere.message.replace(&missing.to_string(), "?"),
        "the words do not tell whether the workspace exists"
    );
    let null: Option<Uuid> = None;
    let failure = fails_with(
        session.execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&null, &scene.anna],
        ),
        "22004",
    );
    assert_eq!(failure.message, "workspace must not be NULL");

    let mut t = session.transaction().unwrap();
    t.execute(
        "SELECT codex.enter_workspace($1, $2)",
        &[&scene.acme, &scene.anna],
    )
    .unwrap();
    assert_eq!(here_in(&mut t), Some(scene.acme));
    t.execute(
        "SELECT codex.enter_workspace(workspace => $1)",
        &[&scene.bolt],
    )
    .unwrap();
    assert_eq!(here_in(&mut t), Some(scene.bolt));
    let user: Option<Uuid> = value(&mut t, "SELECT codex.current_user_id()", &[]);
    assert_eq!(user, None, "entering without a user leaves no user behind");
    t.commit().unwrap();
    assert_eq!(here(&mut session), None);

    // With claims it is their user, and nobody else.
    claims(&mut session, &format!(r#"{{"sub":"{}"}}"#, scene.anna));
    fails_with(
        session.execute("SELECT codex.enter_workspace($1)", &[&scene.bolt]),
        "42501",
    );
    fails_with(
        session.execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&scene.bolt, &scene.bob],
        ),
        "42501",
    );
    session
        .execute("SELECT codex.enter_workspace($1)", &[&scene.cask])
        .unwrap();
    claims(&mut session, "junk");
    fails_with(
        session.execute("SELECT codex.enter_workspace($1)", &[&scene.acme]),
        "42501",
    );
}

#[test]
fn a_pre_request_function_enters_the_workspace_of_a_header() {
    let mut scene = Scene::new();
    let page = include_str!("../../../docs/security.md");
    let function = page
        .split("```sql\n")
        .find(|block| block.starts_with("CREATE FUNCTION public.enter_workspace_of_request()"))
        .and_then(|block| block.split("```").next())
        .unwrap();
    scene.admin.batch_execute(function).unwrap();
    let gateway = scene.db.role("gateway");
    let api = scene.db.role("member");
    scene
        .admin
        .batch_execute(&format!("GRANT {api} TO {gateway}"))
        .unwrap();
    let mut session = scene
        .db
        .connect_as("gateway", "-c raptorflow_codex.context=transaction");
    // What PostgREST does for a request.
    let mut request = |sub: Uuid, workspace: Uuid| {
        let mut t = session.transaction().unwrap();
        t.batch_execute(&format!(
            r#"SELECT set_config('role', '{api}', true),
                   set_config('request.jwt.claims', '{{"role":"{api}","sub":"{sub}"}}', true),
                   set_config('request.headers', '{{"x-workspace":"{workspace}"}}', true)"#
        ))
        .unwrap();
        t.execute("SELECT public.enter_workspace_of_request()", &[])?;
        t.query("SELECT name FROM public.campaigns", &[])
    };
    let names = |rows: Vec<codex_pg_test::postgres::Row>| -> Vec<String> {
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(
        names(request(scene.anna, scene.acme).unwrap()),
        ["Acme campaign"]
    );
    assert_eq!(
        names(request(scene.bob, scene.bolt).unwrap()),
        ["Bolt campaign"]
    );
    fails_with(request(scene.anna, scene.bolt), "42501");
}

/// A transaction of random settings, savepoints and function calls, against a model of what is to count.
#[test]
fn whatever_a_transaction_did_its_context_ends_with_it() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute(
            "CREATE FUNCTION public.sets_and_returns(workspace text, is_local boolean) RETURNS text LANGUAGE plpgsql
             SET work_mem = '4MB' AS $$
             BEGIN
                 PERFORM set_config('app.current_workspace_id', workspace, is_local);
                 RETURN codex.current_workspace_id()::text;
             END $$",
        )
        .unwrap();
    let mut session = scene
        .db
        .connect_as("member", "-c raptorflow_codex.context=transaction");
    assert_eq!(here(&mut session), None);
    let mut state: u64 = 20_260_101;
    let mut below = |bound: u64| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    };
    let workspaces = [scene.acme, scene.bolt, scene.cask];
    let mut seen_inside = 0;
    for round in 0..150 {
        // What counts now, and what counted when each savepoint was made.
        let mut now: Option<Uuid> = None;
        let mut before: Vec<Option<Uuid>> = Vec::new();
        let mut done = Vec::new();
        let mut t = session.transaction().unwrap();
        for _ in 0..below(12) {
            let workspace = workspaces[below(3) as usize];
            let statement = match below(8) {
                0 | 1 => {
                    now = Some(workspace);
                    format!("SET LOCAL app.current_workspace_id = '{workspace}'")
                }
                2 => {
                    now = None;
                    format!("SET app.current_workspace_id = '{workspace}'")
                }
                3 => {
                    now = None;
                    "RESET app.current_workspace_id".to_string()
                }
                4 => {
                    before.push(now);
                    format!("SAVEPOINT s{}", before.len())
                }
                5 if !before.is_empty() => {
                    now = before[before.len() - 1];
                    format!("ROLLBACK TO s{}", before.len())
                }
                6 if !before.is_empty() => {
                    before.pop();
                    format!("RELEASE s{}", before.len() + 1)
                }
                // The SET clause is for another setting: what is local stays until the end of the transaction.
                _ => {
                    now = Some(workspace);
                    format!("SELECT public.sets_and_returns('{workspace}', true)")
                }
            };
            t.batch_execute(&statement).unwrap();
            done.push(statement);
            assert_eq!(here_in(&mut t), now, "round {round}: {done:#?}");
            seen_inside += usize::from(now.is_some());
        }
        if below(2) == 0 {
            t.commit().unwrap();
        } else {
            t.rollback().unwrap();
        }
        assert_eq!(
            here(&mut session),
            None,
            "round {round}, after its end: {done:#?}"
        );
    }
    assert!(seen_inside > 100, "{seen_inside}");
}

#[test]
fn the_mode_cannot_be_loosened_before_the_library_is_loaded_either() {
    let mut scene = Scene::new();
    let database = scene.db.name().to_string();
    let gateway = scene.db.role("gateway");
    scene
        .admin
        .batch_execute(&format!(
            "ALTER DATABASE {database} SET raptorflow_codex.context = 'transaction';
             ALTER DATABASE {database} SET raptorflow_codex.claims_from = '{gateway}'"
        ))
        .unwrap();
    for local in ["", "LOCAL"] {
        let mut session = scene.db.login("member");
        let mut t = session.transaction().unwrap();
        // Nothing of the library is known yet, so Postgres takes any value for now.
        t.batch_execute(&format!(
            "SET {local} raptorflow_codex.context = 'session'; SET {local} raptorflow_codex.claims_from = ''; SET app.current_workspace_id = '{}'",
            scene.acme
        ))
        .unwrap();
        assert_eq!(here_in(&mut t), None);
        t.execute(
            "SELECT set_config('request.jwt.claims', $1, true)",
            &[&format!(r#"{{"workspace_id":"{}"}}"#, scene.acme)],
        )
        .unwrap();
        assert_eq!(here_in(&mut t), None);
        t.commit().unwrap();
        assert_eq!(here(&mut session), None);
        let settings: String = value(
            &mut session,
            "SELECT concat_ws(' ', current_setting('raptorflow_codex.context'), current_setting('raptorflow_codex.claims_from'))",
            &[],
        );
        assert_eq!(settings, format!("transaction {gateway}"));
    }
}
