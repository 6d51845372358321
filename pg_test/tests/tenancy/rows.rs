//! Reading and writing another tenant's rows, by every verb.

use crate::scene::{SHARED_TABLES, Scene, USER_TABLES, WORKSPACE_TABLES, count, set};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Uuid, fails_with, sqlstate, value};
use std::io::{Read, Write};

/// What a workspace's rows are, all tables together, as text: changes when anything in them does.
fn fingerprint(admin: &mut Client, workspace: Uuid) -> Vec<String> {
    WORKSPACE_TABLES
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

/// The statement went through without a row, or was refused for lack of privilege.
#[track_caller]
fn nothing(result: Result<u64, codex_pg_test::postgres::Error>, sql: &str) {
    match result {
        Ok(rows) => assert_eq!(rows, 0, "{sql}"),
        Err(error) => assert_eq!(sqlstate(&error), "42501", "{sql}: {error:?}"),
    }
}

#[test]
fn no_verb_reaches_another_workspace() {
    let mut scene = Scene::new();
    let bolt = scene.bolt;
    let before = fingerprint(&mut scene.admin, bolt);
    let mut tried = 0;
    for mut session in [scene.anna(), scene.service()] {
        for table in WORKSPACE_TABLES {
            let column: String = value(
                &mut scene.admin,
                "SELECT a.attname::text FROM pg_attribute AS a
                 WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND a.attname NOT IN ('id', 'workspace_id', 'user_id') ORDER BY a.attnum LIMIT 1",
                &[table],
            );
            for sql in [
                format!("SELECT 1 FROM {table} WHERE workspace_id = '{bolt}'"),
                format!("SELECT 1 FROM {table} WHERE workspace_id = '{bolt}' FOR UPDATE"),
                format!("SELECT 1 FROM {table} WHERE workspace_id = '{bolt}' FOR SHARE"),
                format!("SELECT 1 FROM ONLY {table} WHERE workspace_id = '{bolt}'"),
                format!(
                    "TABLE {table} EXCEPT ALL SELECT * FROM {table} WHERE workspace_id <> '{bolt}'"
                ),
                format!(
                    "UPDATE {table} SET {column} = {column} WHERE workspace_id = '{bolt}' RETURNING *"
                ),
                format!(
                    "UPDATE {table} AS t SET {column} = o.{column} FROM {table} AS o WHERE t.workspace_id = '{bolt}' AND o.workspace_id = '{bolt}'"
                ),
                format!("DELETE FROM {table} WHERE workspace_id = '{bolt}' RETURNING *"),
                format!(
                    "DELETE FROM {table} AS t USING {table} AS o WHERE o.workspace_id = '{bolt}'"
                ),
                format!(
                    "MERGE INTO {table} AS t USING (VALUES ('{bolt}'::uuid)) AS s (w) ON t.workspace_id = s.w WHEN MATCHED THEN DELETE"
                ),
                format!(
                    "WITH gone AS (DELETE FROM {table} WHERE workspace_id = '{bolt}' RETURNING *) SELECT * FROM gone"
                ),
            ] {
                nothing(session.execute(sql.as_str(), &[]), &sql);
                tried += 1;
            }
            for sql in [
                format!("UPDATE {table} SET workspace_id = '{bolt}'"),
                format!(
                    "INSERT INTO {table} SELECT (jsonb_populate_record(r, '{{\"workspace_id\": \"{bolt}\"}}')).* FROM (SELECT t AS r FROM {table} AS t LIMIT 1) AS x"
                ),
                format!("TRUNCATE {table} CASCADE"),
                format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"),
                format!(
                    "DROP POLICY {}_workspace_isolation ON {table}",
                    table.split_once('.').unwrap().1
                ),
                format!("CREATE POLICY open ON {table} USING (true)"),
                format!("DROP TABLE {table} CASCADE"),
            ] {
                // codex.agent_executions has no row to copy that a member could see.
                fails_with(session.execute(sql.as_str(), &[]), "42501");
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 2 * WORKSPACE_TABLES.len() * 18);
    assert_eq!(fingerprint(&mut scene.admin, bolt), before);
}

#[test]
fn copy_reads_the_own_rows_only_and_does_not_write() {
    let scene = Scene::new();
    let mut anna = scene.anna();
    for sql in [
        "COPY public.campaigns TO STDOUT".to_string(),
        format!(
            "COPY (SELECT * FROM public.campaigns WHERE workspace_id <> '{}' OR true) TO STDOUT",
            scene.acme
        ),
    ] {
        let mut text = String::new();
        anna.copy_out(sql.as_str())
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(text.contains("Acme campaign"), "{text}");
        assert!(!text.contains("Bolt"), "{text}");
    }
    let mut refused = false;
    match anna.copy_in("COPY public.campaigns (workspace_id, name) FROM STDIN") {
        Ok(mut writer) => {
            let line = format!("{}\tforged\n", scene.bolt);
            refused |= writer.write_all(line.as_bytes()).is_err();
            refused |= writer.finish().is_err();
        }
        Err(_) => refused = true,
    }
    assert!(
        refused,
        "COPY FROM goes past row-level security and has to be refused"
    );
}

#[test]
fn row_security_off_is_an_error_and_not_a_way_around() {
    let scene = Scene::new();
    let mut anna = scene.anna();
    anna.batch_execute("SET row_security = off").unwrap();
    fails_with(anna.query("SELECT * FROM public.campaigns", &[]), "42501");
    assert_eq!(
        crate::scene::here(&mut anna),
        Some(scene.acme),
        "the look-up of memberships is not disturbed"
    );
}

#[test]
fn on_conflict_on_a_foreign_row_neither_shows_nor_changes_it() {
    let mut scene = Scene::new();
    let bolt = scene.bolt;
    let before = fingerprint(&mut scene.admin, bolt);
    let mut anna = scene.anna();
    let theirs = scene.bolt_rows.campaign;
    let insert = format!(
        "INSERT INTO public.campaigns (id, workspace_id, name) VALUES ('{theirs}', '{}', 'mine')",
        scene.acme
    );
    let update = fails_with(
        anna.query(
            &format!("{insert} ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING *"),
            &[],
        ),
        "42501",
    );
    assert!(
        !update.message.contains("Bolt") && update.detail.is_empty(),
        "{update:?}"
    );
    let rows = anna
        .query(&format!("{insert} ON CONFLICT DO NOTHING RETURNING *"), &[])
        .unwrap();
    assert!(rows.is_empty());
    let plain = fails_with(anna.query(&insert, &[]), "23505");
    assert!(
        plain.detail.is_empty(),
        "the message does not show the key: {plain:?}"
    );
    assert_eq!(fingerprint(&mut scene.admin, bolt), before);
}

#[test]
fn deletes_do_not_cascade_into_another_workspace() {
    let mut scene = Scene::new();
    let bolt = scene.bolt;
    let before = fingerprint(&mut scene.admin, bolt);
    let mut service = scene.service();
    for table in [
        "public.campaigns",
        "public.positioning",
        "public.achievements",
        "public.intelligence_signals",
        "public.market_insights",
        "public.system_alerts",
        "public.cohorts",
        "public.moves",
        "public.workspaces",
    ] {
        let rows = service
            .execute(&format!("DELETE FROM {table}"), &[])
            .unwrap();
        assert_eq!(rows, 1, "{table}");
    }
    assert_eq!(fingerprint(&mut scene.admin, bolt), before);
    let left: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM public.campaigns WHERE workspace_id = $1",
        &[&scene.acme],
    );
    assert_eq!(left, 0);
}

#[test]
fn a_neighbour_cannot_read_change_or_delete_user_owned_rows() {
    let mut scene = Scene::new();
    let (anna, abe, acme, cask) = (scene.anna, scene.abe, scene.acme, scene.cask);
    let before = fingerprint(&mut scene.admin, acme);
    let mut session = scene.anna();
    for table in USER_TABLES {
        assert_eq!(count(&mut session, table), 1, "{table}: the own row");
        let owner: Uuid = value(&mut session, &format!("SELECT user_id FROM {table}"), &[]);
        assert_eq!(owner, anna);
        // Where there is one that somebody may change, that one.
        let column: String = value(
            &mut session,
            "SELECT coalesce(max(attname::text) FILTER (WHERE has_column_privilege(attrelid, attnum, 'UPDATE')), 'user_id')
             FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
            &[table],
        );
        for sql in [
            format!("SELECT 1 FROM {table} WHERE user_id = '{abe}'"),
            format!("SELECT 1 FROM {table} WHERE workspace_id = '{cask}'"),
            format!("DELETE FROM {table} WHERE user_id = '{abe}'"),
            format!("UPDATE {table} SET {column} = {column} WHERE user_id = '{abe}'"),
        ] {
            nothing(session.execute(sql.as_str(), &[]), &sql);
        }
    }
    nothing(
        session.execute(
            "UPDATE public.user_notifications SET is_read = true WHERE user_id <> $1",
            &[&anna],
        ),
        "mark the neighbour's notifications",
    );
    assert_eq!(fingerprint(&mut scene.admin, acme), before);
    // The own ones of another workspace show there and only there.
    set(&mut session, Some(cask), Some(anna));
    let points: i32 = value(
        &mut session,
        "SELECT total_points FROM public.user_stats",
        &[],
    );
    assert_eq!(points, 7);
    // The service sees both, and still no other workspace.
    let mut service = scene.service();
    for table in USER_TABLES {
        assert_eq!(count(&mut service, table), 2, "{table}");
    }
}

#[test]
fn a_member_cannot_award_himself_anything() {
    let mut scene = Scene::new();
    let (anna, acme, achievement) = (scene.anna, scene.acme, scene.acme_rows.achievement);
    let attempts = [
        "UPDATE public.user_stats SET total_points = 1000000".to_string(),
        "UPDATE public.user_achievements SET is_locked = false, progress_percentage = 100"
            .to_string(),
        "UPDATE public.achievements SET points_reward = 1000000".to_string(),
        format!(
            "INSERT INTO public.user_stats (workspace_id, user_id, total_points) VALUES ('{acme}', '{anna}', 5)"
        ),
        format!(
            "INSERT INTO public.user_achievements (workspace_id, user_id, achievement_id, is_locked) VALUES ('{acme}', '{anna}', '{achievement}', false)"
        ),
        format!(
            "INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type) VALUES ('{acme}', 'x', 'milestone', 'count')"
        ),
        "DELETE FROM public.user_stats".to_string(),
        format!("SELECT codex.unlock_achievement('{anna}', '{achievement}', '{acme}')"),
        format!(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message) VALUES ('{acme}', '{anna}', 'message', 'a', 'b')"
        ),
        "UPDATE public.user_notifications SET title = 'x'".to_string(),
        "UPDATE public.agent_performance SET total_cost_incurred = 0".to_string(),
    ];
    let mut session = scene.anna();
    for sql in &attempts {
        fails_with(session.execute(sql.as_str(), &[]), "42501");
    }
    assert_eq!(
        session
            .execute(
                "UPDATE public.user_notifications SET is_read = true, read_at = now()",
                &[]
            )
            .unwrap(),
        1
    );
    // Even when everything was granted by a careless hand, unlocks and stats stay the services' to write.
    let member = scene.db.role("member");
    scene
        .admin
        .batch_execute(&format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {member}; GRANT ALL ON ALL FUNCTIONS IN SCHEMA codex TO {member}"))
        .unwrap();
    let mut session = scene.anna();
    for sql in [
        &attempts[0],
        &attempts[1],
        &attempts[3],
        &attempts[4],
        &attempts[7],
    ] {
        fails_with(session.execute(sql.as_str(), &[]), "42501");
    }
    let points: i32 = value(
        &mut session,
        "SELECT total_points FROM public.user_stats",
        &[],
    );
    assert_eq!(points, 100);
}

#[test]
fn shared_tables_are_read_by_all_and_written_by_none() {
    let mut scene = Scene::new();
    let names = ["member", "service"]
        .map(|label| scene.db.role(label))
        .join(", ");
    for broad in [false, true] {
        if broad {
            scene
                .admin
                .batch_execute(&format!("GRANT INSERT, UPDATE, DELETE ON public.agent_registry, public.agent_capabilities TO {names}"))
                .unwrap();
        }
        for mut session in [scene.anna(), scene.service()] {
            for table in SHARED_TABLES {
                assert_eq!(count(&mut session, table), 1);
                for sql in [
                    format!("UPDATE {table} SET created_at = created_at"),
                    format!("DELETE FROM {table}"),
                ] {
                    nothing(session.execute(sql.as_str(), &[]), &sql);
                }
                fails_with(
                    session.execute(&format!("TRUNCATE {table} CASCADE"), &[]),
                    "42501",
                );
            }
            fails_with(
                session.execute("INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Mole', 'lord')", &[]),
                "42501",
            );
        }
    }
    assert_eq!(count(&mut scene.admin, "public.agent_registry"), 1);
}
