//! Functions, views, search paths and leaky operators.

use crate::scene::{Scene, count, here};
use codex_pg_test::postgres::Client;
use codex_pg_test::{fails_with, sqlstate, value};

#[test]
fn a_shadowed_name_does_not_deceive_functions_or_policies() {
    let scene = Scene::new();
    let mut session = scene.session("member", Some(scene.bolt), Some(scene.anna));
    assert_eq!(here(&mut session), None);
    session
        .batch_execute(&format!(
            "CREATE TEMP TABLE workspace_members (workspace_id uuid, user_id uuid);
             INSERT INTO pg_temp.workspace_members VALUES ('{bolt}', '{anna}');
             CREATE TEMP TABLE user_workspaces AS TABLE pg_temp.workspace_members;
             CREATE TEMP TABLE roles (role_name name, kind text);
             INSERT INTO pg_temp.roles VALUES (current_user, 'service');
             CREATE TEMP TABLE campaigns (id uuid, workspace_id uuid, name text, status text);
             CREATE TEMP TABLE market_insights AS SELECT codex.uuid_v7() AS id, '{bolt}'::uuid AS workspace_id;
             CREATE FUNCTION pg_temp.current_workspace_id() RETURNS uuid LANGUAGE sql AS $$ SELECT '{bolt}'::uuid $$;
             CREATE FUNCTION pg_temp.current_user_id() RETURNS uuid LANGUAGE sql AS $$ SELECT '{bob}'::uuid $$;
             CREATE FUNCTION pg_temp.always(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE OPERATOR pg_temp.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = pg_temp.always);
             SET search_path = pg_temp, public, codex, pg_catalog",
            bolt = scene.bolt,
            anna = scene.anna,
            bob = scene.bob,
        ))
        .unwrap();
    assert_eq!(
        here(&mut session),
        None,
        "membership comes from public.workspace_members"
    );
    assert!(!value::<bool>(
        &mut session,
        "SELECT codex.acts_for_workspace()",
        &[]
    ));
    assert_eq!(count(&mut session, "public.campaigns"), 0);
    assert!(!value::<bool>(
        &mut session,
        "SELECT codex.is_workspace_member($1, $2)",
        &[&scene.bolt, &scene.anna]
    ));
    fails_with(
        session.query(
            "SELECT * FROM codex.get_active_insights($1)",
            &[&scene.bolt],
        ),
        "42501",
    );
    session
        .batch_execute(&format!("SET app.current_workspace_id = '{}'", scene.acme))
        .unwrap();
    let names: Vec<String> = session
        .query("SELECT name FROM public.campaigns", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(names, ["Acme campaign"]);
    let insights = session
        .query(
            "SELECT title FROM codex.get_active_insights($1)",
            &[&scene.acme],
        )
        .unwrap();
    assert_eq!(insights.len(), 1);
    assert_eq!(insights[0].get::<_, String>(0), "Acme insight");
}

#[test]
fn a_leaky_function_sees_the_own_rows_only() {
    let scene = Scene::new();
    let mut session = scene.anna();
    session
        .batch_execute(
            "CREATE TEMP TABLE seen (what text);
             CREATE FUNCTION pg_temp.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001
                 AS 'BEGIN INSERT INTO pg_temp.seen VALUES ($1); RETURN true; END';
             CREATE FUNCTION pg_temp.leak_equal(text, text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001
                 AS 'BEGIN INSERT INTO pg_temp.seen VALUES ($1); RETURN true; END';
             CREATE OPERATOR pg_temp.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.leak_equal)",
        )
        .unwrap();
    let theirs = scene.bolt_rows.campaign;
    for sql in [
        "SELECT count(*) FROM public.campaigns WHERE pg_temp.leak(name)".to_string(),
        "SELECT count(*) FROM public.campaigns WHERE name OPERATOR(pg_temp.===) 'x'".to_string(),
        "SELECT count(*) FROM public.campaigns AS c JOIN public.positioning AS p ON pg_temp.leak(c.name || p.name)".to_string(),
        "SELECT count(*) FROM public.campaigns GROUP BY status HAVING bool_and(pg_temp.leak(name))".to_string().replace("HAVING bool_and(pg_temp.leak(name))", "HAVING bool_and(pg_temp.leak(status))"),
        "SELECT count(*) FROM (SELECT name FROM public.campaigns ORDER BY pg_temp.leak(name)) AS x".to_string(),
        "UPDATE public.campaigns SET description = 'x' WHERE pg_temp.leak(name)".to_string(),
        "DELETE FROM public.campaign_quests WHERE pg_temp.leak(name)".to_string(),
        "SELECT count(*) FROM public.campaigns WHERE (1 / length(nullif(name, 'Bolt campaign'))) IS NOT NULL AND pg_temp.leak(name)".to_string(),
    ] {
        session.execute(sql.as_str(), &[]).unwrap();
    }
    let upsert = session.execute(
        &format!(
            "INSERT INTO public.campaigns AS c (id, workspace_id, name) VALUES ('{theirs}', '{}', 'mine')
             ON CONFLICT (id) DO UPDATE SET name = 'taken' WHERE pg_temp.leak(c.name)",
            scene.acme
        ),
        &[],
    );
    assert_eq!(sqlstate(&upsert.unwrap_err()), "42501");
    let seen: i64 = value(
        &mut session,
        "SELECT count(*) FROM pg_temp.seen WHERE what LIKE '%Acme%'",
        &[],
    );
    assert!(seen > 0, "the functions did run");
    let leaked: i64 = value(
        &mut session,
        "SELECT count(*) FROM pg_temp.seen WHERE what LIKE '%Bolt%'",
        &[],
    );
    assert_eq!(leaked, 0);
    // An error that depends on a foreign row would tell of it.
    session
        .query(
            "SELECT 1 / (CASE WHEN name LIKE 'Bolt%' THEN 0 ELSE 1 END) FROM public.campaigns",
            &[],
        )
        .unwrap();
    session
        .query("SELECT 1 FROM public.campaigns WHERE 1 / (CASE WHEN name LIKE 'Bolt%' THEN 0 ELSE 1 END) = 1", &[])
        .unwrap();
}

#[test]
fn query_to_xml_and_other_indirect_queries_see_what_the_caller_sees() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute("CREATE VIEW public.invoker_view WITH (security_invoker = true) AS SELECT name FROM public.campaigns; GRANT SELECT ON public.invoker_view TO PUBLIC")
        .unwrap();
    let mut session = scene.anna();
    for sql in [
        "SELECT query_to_xml('SELECT name FROM public.campaigns', true, false, '')::text",
        "SELECT table_to_xml('public.campaigns', true, false, '')::text",
        "SELECT schema_to_xml('public', true, false, '')::text",
        "SELECT (SELECT string_agg(name, ',') FROM public.campaigns)",
        "SELECT string_agg(name, ',') FROM public.invoker_view",
        "SELECT string_agg(c::text, ',') FROM public.campaigns AS c",
    ] {
        let seen: String = match session.query_one(sql, &[]) {
            Ok(row) => row.get(0),
            Err(error) => {
                // A server may be built without libxml.
                let failure = codex_pg_test::Failure::from(&error);
                assert_eq!(failure.message, "unsupported XML feature", "{sql}");
                continue;
            }
        };
        assert!(seen.contains("Acme campaign"), "{sql}");
        assert!(!seen.contains("Bolt"), "{sql}: {seen}");
    }
    session
        .batch_execute("DO $$ DECLARE seen text; BEGIN EXECUTE 'SELECT string_agg(name, '','') FROM public.campaigns' INTO seen; ASSERT seen = 'Acme campaign'; END $$")
        .unwrap();
}

#[test]
fn every_function_refuses_or_hides_the_ids_of_another_workspace() {
    let mut scene = Scene::new();
    let bolt = scene.bolt;
    let theirs = &scene.bolt_rows;
    // The function, and what a caller who works in another workspace gets: an error, or no row.
    let calls: Vec<(String, &[&str])> = vec![
        (
            format!("SELECT * FROM codex.get_active_insights('{bolt}')"),
            &["42501", "empty"],
        ),
        (
            format!("SELECT * FROM codex.get_priority_signals('{bolt}')"),
            &["42501", "empty"],
        ),
        (
            format!("SELECT * FROM codex.get_critical_alerts('{bolt}')"),
            &["42501", "empty"],
        ),
        (
            format!(
                "SELECT * FROM codex.get_user_unread_notifications('{}')",
                scene.bob
            ),
            &["42501", "empty"],
        ),
        (
            format!("SELECT * FROM codex.agent_performance_summary('{bolt}')"),
            &["42501", "empty"],
        ),
        (
            format!(
                "SELECT codex.create_insight_from_signals('{bolt}', ARRAY['{}']::uuid[], 'x', 'trend', ARRAY['y'], NULL)",
                theirs.signal
            ),
            &["42501", "23503"],
        ),
        (
            format!("SELECT codex.create_system_alert('{bolt}', 'error', 'high', 'x', 'y')"),
            &["42501"],
        ),
        (
            format!(
                "SELECT codex.acknowledge_alert('{}', '{}')",
                theirs.alert, scene.bob
            ),
            &["42501", "P0002"],
        ),
        (
            format!(
                "SELECT codex.resolve_alert('{}', '{}')",
                theirs.alert, scene.bob
            ),
            &["42501", "P0002"],
        ),
        (
            format!(
                "SELECT codex.dismiss_alert('{}', '{}')",
                theirs.alert, scene.bob
            ),
            &["42501", "P0002"],
        ),
        (
            format!(
                "SELECT codex.mark_notification_as_read('{}')",
                theirs.notification
            ),
            &["42501", "P0002"],
        ),
        (
            format!("SELECT codex.mark_all_notifications_read('{}')", scene.bob),
            &["42501", "zero"],
        ),
        (
            format!(
                "SELECT codex.send_user_notification('{bolt}', '{}', 'message', 'x', 'y')",
                scene.bob
            ),
            &["42501"],
        ),
        (
            format!(
                "SELECT codex.send_user_notifications('{bolt}', ARRAY['{}']::uuid[], 'message', 'x', 'y')",
                scene.bob
            ),
            &["42501"],
        ),
        (
            format!(
                "SELECT * FROM codex.unlock_achievement('{}', '{}', '{bolt}')",
                scene.bob, theirs.achievement
            ),
            &["42501"],
        ),
        (
            format!(
                "SELECT codex.record_agent_execution('{bolt}', '{}', 1.5, 10, 20, 0.01, true)",
                theirs.agent
            ),
            &["42501"],
        ),
        (
            format!("SELECT codex.enter_workspace('{bolt}', '{}')", scene.anna),
            &["42501"],
        ),
    ];
    let before: Vec<String> = fingerprint(&mut scene.admin, bolt);
    let mut tried = 0;
    for (who, mut session) in [
        ("a member", scene.anna()),
        ("a service", scene.service()),
        (
            "a member without context",
            scene.session("member", None, None),
        ),
        (
            "a service without context",
            scene.session("service", None, None),
        ),
        (
            "a member who names a workspace that is not the own",
            scene.session("member", Some(bolt), Some(scene.anna)),
        ),
    ] {
        for (sql, expected) in &calls {
            let ended = match session.query(sql.as_str(), &[]) {
                Err(error) => sqlstate(&error),
                Ok(rows) if rows.is_empty() => "empty".to_string(),
                Ok(rows) if rows[0].try_get::<_, i64>(0).is_ok_and(|number| number == 0) => {
                    "zero".to_string()
                }
                Ok(rows) => format!("{} rows", rows.len()),
            };
            assert!(expected.contains(&ended.as_str()), "{who}: {sql}: {ended}");
            tried += 1;
        }
    }
    assert_eq!(tried, 5 * 17);
    assert_eq!(fingerprint(&mut scene.admin, bolt), before);
}

fn fingerprint(admin: &mut Client, workspace: codex_pg_test::Uuid) -> Vec<String> {
    crate::scene::WORKSPACE_TABLES
        .iter()
        .map(|table| {
            value(
                admin,
                &format!("SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM {table} AS t WHERE workspace_id = $1"),
                &[&workspace],
            )
        })
        .collect()
}

#[test]
fn triggers_write_in_the_own_workspace_only() {
    let mut scene = Scene::new();
    let before = fingerprint(&mut scene.admin, scene.bolt);
    let touched = "SELECT updated_at > created_at FROM public.campaigns WHERE id = $1";
    let mut anna = scene.anna();
    anna.execute(
        "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) SELECT $1, $2, 'q' FROM generate_series(1, 5)",
        &[&scene.acme, &scene.acme_rows.campaign],
    )
    .unwrap();
    anna.batch_execute(
        "UPDATE public.campaign_quests SET name = 'r'; DELETE FROM public.campaign_cohorts",
    )
    .unwrap();
    assert!(value::<bool>(
        &mut scene.admin,
        touched,
        &[&scene.acme_rows.campaign]
    ));
    for sql in [
        format!(
            "UPDATE public.campaign_quests SET campaign_id = '{}'",
            scene.bolt_rows.campaign
        ),
        format!(
            "UPDATE public.campaign_quests SET parent_quest_id = '{}'",
            scene.bolt_rows.quest
        ),
    ] {
        fails_with(anna.batch_execute(&sql), "23503");
    }
    assert_eq!(fingerprint(&mut scene.admin, scene.bolt), before);
}

#[test]
fn the_functions_are_invokers_with_a_pinned_path_or_without_sql() {
    let mut scene = Scene::new();
    let definers: Vec<String> = scene
        .admin
        .query("SELECT p.oid::regprocedure::text FROM pg_proc AS p WHERE p.pronamespace = 'codex'::regnamespace AND p.prosecdef", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(definers, Vec::<String>::new());
    // Written in C without SQL in them, and called once a statement by policies: a SET clause would only cost.
    let without_sql = [
        "codex.acts_for_workspace()",
        "codex.current_user_id()",
        "codex.current_workspace_id()",
        "codex.enter_workspace(uuid,uuid)",
        "codex.is_workspace_member(uuid,uuid)",
        "codex.rule_metrics(text,jsonb)",
        "codex.uuid_v7()",
    ];
    let open: Vec<String> = scene
        .admin
        .query(
            "SELECT p.oid::regprocedure::text FROM pg_proc AS p
             WHERE p.pronamespace = 'codex'::regnamespace
                 AND p.prorettype <> 'trigger'::regtype
                 AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS s WHERE s = 'search_path=pg_catalog, pg_temp')
             ORDER BY 1",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(open, without_sql);
}

#[test]
fn what_leaks_by_its_nature_is_found_by_the_report() {
    let mut scene = Scene::new();
    let member = scene.db.role("member");
    scene
        .admin
        .batch_execute(&format!(
            "CREATE VIEW public.leaky_view AS SELECT name FROM public.campaigns;
             CREATE MATERIALIZED VIEW public.leaky_copy AS SELECT name FROM public.campaigns;
             CREATE FUNCTION public.leaky_function() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT name FROM public.campaigns';
             GRANT SELECT ON public.leaky_view, public.leaky_copy TO {member}"
        ))
        .unwrap();
    // They do leak: Postgres reads with the owner's rights.
    let mut anna = scene.anna();
    assert_eq!(count(&mut anna, "public.leaky_view"), 2);
    assert_eq!(count(&mut anna, "public.leaky_copy"), 2);
    assert_eq!(count(&mut anna, "public.leaky_function()"), 2);
    // Each is found, and the statement given with it mends it.
    for _ in 0..2 {
        let findings = scene
            .admin
            .query("SELECT object, mend FROM codex.isolation_report() WHERE object LIKE 'public.leaky%'", &[])
            .unwrap();
        for finding in &findings {
            scene.admin.batch_execute(finding.get(1)).unwrap();
        }
    }
    let left: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM codex.isolation_report() WHERE object LIKE 'public.leaky%'",
        &[],
    );
    assert_eq!(left, 0);
    assert_eq!(count(&mut anna, "public.leaky_view"), 1);
    fails_with(anna.query("SELECT * FROM public.leaky_copy", &[]), "42501");
    fails_with(
        anna.query("SELECT * FROM public.leaky_function()", &[]),
        "42501",
    );
}
