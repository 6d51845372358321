//! What a session keeps, and what may change under it: kept statements outlive DDL, another installation of the
//! extension and other roles, and nothing that a caller puts in front of a name is taken for ours.

use codex_pg_test::postgres::{Client, GenericClient};
use codex_pg_test::{Database, Uuid, fails_with, member, value, workspace};

/// A workspace with a member, an agent, a campaign and a quest.
struct Scene {
    db: Database,
    admin: Client,
    workspace: Uuid,
    user: Uuid,
    agent: Uuid,
    campaign: Uuid,
}

impl Scene {
    fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        let workspace = workspace(&mut admin, "Acme");
        let user = member(&mut admin, workspace, "anna@acme.example");
        let agent = value(
            &mut admin,
            "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Scribe', 'creative') RETURNING id",
            &[],
        );
        let campaign = value(
            &mut admin,
            "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, 'Spring') RETURNING id",
            &[&workspace],
        );
        Self {
            db,
            admin,
            workspace,
            user,
            agent,
            campaign,
        }
    }

    /// Everything that writes or reads here, once: a new achievement is unlocked, an execution recorded with its
    /// hour summed up, a quest added and moved below another.
    fn work(&self, client: &mut impl GenericClient) {
        let achievement: Uuid = value(
            client,
            "INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type, points_reward, badge_unlocks)
             VALUES ($1, 'A', 'speed', 'count', 10, '{a}')
             RETURNING id",
            &[&self.workspace],
        );
        assert_eq!(
            value::<String>(
                client,
                "SELECT message FROM codex.unlock_achievement($1, $2, $3)",
                &[&self.user, &achievement, &self.workspace]
            ),
            "Achievement unlocked successfully"
        );
        let before = self.executions(client);
        client
            .execute(
                "SELECT codex.record_agent_execution($1, $2, 1.5, 10, 20, 0.5, true, $3, $4)",
                &[
                    &self.workspace,
                    &self.agent,
                    &self.campaign,
                    &Uuid::new_v4(),
                ],
            )
            .unwrap();
        assert_eq!(self.executions(client), before + 1);
        let quest = "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ($1, $2, 'Q') RETURNING id";
        let one: Uuid = value(client, quest, &[&self.workspace, &self.campaign]);
        let two: Uuid = value(client, quest, &[&self.workspace, &self.campaign]);
        client
            .execute(
                "UPDATE public.campaign_quests SET parent_quest_id = $2 WHERE id = $1",
                &[&one, &two],
            )
            .unwrap();
    }

    fn executions(&self, client: &mut impl GenericClient) -> i64 {
        value(
            client,
            "SELECT coalesce(sum(executions), 0)::bigint FROM codex.agent_performance_summary($1)",
            &[&self.workspace],
        )
    }
}

/// Points, unlocked achievements, executions and quests, with no help of the extension.
fn totals(client: &mut Client) -> Vec<i64> {
    value(
        client,
        "SELECT ARRAY[
             (SELECT sum(total_points) FROM public.user_stats),
             (SELECT sum(achievements_unlocked) FROM public.user_stats),
             (SELECT sum(execution_count) FROM public.agent_performance),
             (SELECT count(*) FROM public.campaign_quests)
         ]::bigint[]",
        &[],
    )
}

#[test]
fn hard_case_46_a_temp_table_does_not_shadow_a_real_one() {
    let mut scene = Scene::new();
    let mut session = scene.db.admin();
    session
        .batch_execute(
            "CREATE TEMP TABLE achievements (LIKE public.achievements INCLUDING ALL);
             CREATE TEMP TABLE user_achievements (LIKE public.user_achievements INCLUDING ALL);
             CREATE TEMP TABLE user_stats (LIKE public.user_stats INCLUDING ALL);
             CREATE TEMP TABLE workspace_members (LIKE public.workspace_members INCLUDING ALL);
             CREATE TEMP TABLE agent_registry (LIKE public.agent_registry INCLUDING ALL);
             CREATE TEMP TABLE agent_performance (LIKE public.agent_performance INCLUDING ALL);
             CREATE TEMP TABLE agent_assignments (LIKE public.agent_assignments INCLUDING ALL);
             CREATE TEMP TABLE agent_executions (LIKE codex.agent_executions INCLUDING ALL);
             CREATE TEMP TABLE campaigns (LIKE public.campaigns INCLUDING ALL);
             CREATE TEMP TABLE campaign_quests (LIKE public.campaign_quests INCLUDING ALL);
             SET search_path = pg_temp, public, codex",
        )
        .unwrap();
    scene.work(&mut session);
    for table in [
        "user_achievements",
        "user_stats",
        "agent_performance",
        "agent_assignments",
        "agent_executions",
        "campaigns",
        "campaign_quests",
    ] {
        let rows: i64 = value(
            &mut session,
            &format!("SELECT count(*) FROM pg_temp.{table}"),
            &[],
        );
        assert_eq!(rows, 0, "{table}");
    }
    assert_eq!(totals(&mut scene.admin), [10, 1, 1, 2]);
}

#[test]
fn hard_case_46_functions_and_operators_of_a_hostile_path_are_not_called() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute(
            r#"
            CREATE SCHEMA hostile;
            CREATE FUNCTION hostile.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'now() was called'; END $$;
            CREATE FUNCTION hostile.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RAISE 'unnest() was called'; END $$;
            CREATE FUNCTION hostile.min(bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'min() was called'; END $$;
            CREATE FUNCTION hostile.trap(uuid, uuid) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'uuid = uuid was called'; END $$;
            CREATE OPERATOR hostile.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = hostile.trap);
            CREATE FUNCTION hostile.trap(integer, integer) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE 'integer + integer was called'; END $$;
            CREATE OPERATOR hostile.+ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = hostile.trap);
            CREATE FUNCTION hostile.trap(numeric, numeric) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN RAISE 'numeric / numeric was called'; END $$;
            CREATE OPERATOR hostile.+ (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = hostile.trap);
            CREATE OPERATOR hostile./ (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = hostile.trap);
            CREATE FUNCTION hostile.trap(text[], text[]) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'text[] <@ text[] was called'; END $$;
            CREATE OPERATOR hostile.<@ (LEFTARG = text[], RIGHTARG = text[], FUNCTION = hostile.trap);
            CREATE DOMAIN hostile.uuid AS text;
            CREATE DOMAIN hostile.numeric AS text;
            "#,
        )
        .unwrap();
    let mut session = scene.db.admin();
    session
        .batch_execute("SET search_path = hostile, pg_catalog, public, codex")
        .unwrap();
    let achievement: Uuid = value(
        &mut session,
        "INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type, points_reward, badge_unlocks)
         VALUES ($1, 'A', 'speed', 'count', 10, '{a}')
         RETURNING id",
        &[&scene.workspace],
    );
    let unlock = "SELECT message FROM codex.unlock_achievement($1, $2, $3)";
    assert_eq!(
        value::<String>(
            &mut session,
            unlock,
            &[&scene.user, &achievement, &scene.workspace]
        ),
        "Achievement unlocked successfully"
    );
    session
        .execute(
            "SELECT codex.record_agent_execution($1, $2, 1.5, 10, 20, 0.5, true)",
            &[&scene.workspace, &scene.agent],
        )
        .unwrap();
    session
        .execute(
            "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ($1, $2, 'Q')",
            &[&scene.workspace, &scene.campaign],
        )
        .unwrap();
    let summary = session
        .query_one(
            "SELECT executions FROM codex.agent_performance_summary($1)",
            &[&scene.workspace],
        )
        .unwrap();
    assert_eq!(summary.get::<_, i64>(0), 1);
    assert_eq!(totals(&mut scene.admin), [10, 1, 1, 1]);
}

#[test]
fn a_changed_path_changes_no_kept_statement() {
    let mut scene = Scene::new();
    let mut session = scene.db.admin();
    for path in [
        "\"$user\", public; DISCARD PLANS",
        "codex",
        "pg_temp",
        "''",
        "public, codex",
    ] {
        session
            .batch_execute(&format!("SET search_path = {path}"))
            .unwrap();
        scene.work(&mut session);
    }
    assert_eq!(totals(&mut scene.admin), [50, 5, 5, 10]);
}

#[test]
fn a_session_outlives_a_new_installation_of_the_extension() {
    let mut scene = Scene::new();
    let mut session = scene.db.admin();
    scene.work(&mut session);
    for round in 2..4 {
        scene
            .admin
            .batch_execute(
                "DROP EXTENSION raptorflow_codex CASCADE;
                 CREATE EXTENSION raptorflow_codex;
                 SELECT codex.migrate();",
            )
            .unwrap();
        scene.work(&mut session);
        assert_eq!(
            totals(&mut scene.admin),
            [10 * round, round, round, 2 * round]
        );
    }
}

#[test]
fn a_session_outlives_ddl_on_the_tables() {
    let mut scene = Scene::new();
    let mut session = scene.db.admin();
    for (round, ddl) in [
        "SELECT 1",
        "ALTER TABLE public.user_stats ADD COLUMN mood text DEFAULT 'fine', DROP COLUMN teams_joined",
        "ALTER TABLE public.user_achievements DROP COLUMN progress_data, ADD COLUMN extra integer",
        "ALTER TABLE public.agent_performance DROP COLUMN quality_score, ADD COLUMN extra numeric DEFAULT 1",
        "ALTER TABLE public.campaign_quests DROP COLUMN objective, ADD COLUMN extra text DEFAULT ''",
        "ALTER TABLE public.campaigns DROP COLUMN target_geographies, ADD COLUMN extra integer DEFAULT 5",
        "DROP INDEX public.agent_assignments_active_idx; CREATE INDEX new_one ON public.agent_assignments (agent_id, workspace_id)",
        "CREATE TABLE public.copy (LIKE public.agent_registry); DROP TABLE public.copy; VACUUM FULL public.user_stats",
        "ALTER TABLE public.user_stats ALTER COLUMN success_rate_percentage TYPE numeric(7, 4)",
    ]
    .into_iter()
    .enumerate()
    {
        for statement in ddl.split(';') {
            scene.admin.batch_execute(statement).unwrap();
        }
        scene.work(&mut session);
        let round = round as i64 + 1;
        assert_eq!(
            totals(&mut scene.admin),
            [10 * round, round, round, 2 * round],
            "{ddl}"
        );
    }
}

#[test]
fn without_the_tables_it_is_said_what_to_do() {
    let db = Database::with_extension();
    let mut session = db.admin();
    for call in [
        "SELECT * FROM codex.unlock_achievement(gen_random_uuid(), gen_random_uuid(), gen_random_uuid())",
        "SELECT codex.record_agent_execution(gen_random_uuid(), gen_random_uuid(), 1, 1, 1, 1, true)",
        "SELECT * FROM codex.agent_performance_summary(gen_random_uuid())",
    ] {
        let failure = fails_with(session.batch_execute(call), "55000");
        assert!(failure.hint.contains("codex.migrate()"), "{failure:?}");
    }
    session.batch_execute("SELECT codex.migrate()").unwrap();
    let message: String = value(
        &mut session,
        "SELECT message FROM codex.unlock_achievement(gen_random_uuid(), gen_random_uuid(), gen_random_uuid())",
        &[],
    );
    assert_eq!(message, "Achievement not found");
}

#[test]
fn one_session_in_several_roles() {
    let mut scene = Scene::new();
    let (member_role, service_role) = (scene.db.role("member"), scene.db.role("service"));
    for (grant, role) in [
        ("grant_member_role", &member_role),
        ("grant_service_role", &service_role),
    ] {
        scene
            .admin
            .execute(&format!("SELECT codex.{grant}($1::text::regrole)"), &[role])
            .unwrap();
    }
    let achievement: Uuid = value(
        &mut scene.admin,
        "INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type, points_reward)
         VALUES ($1, 'A', 'speed', 'count', 10)
         RETURNING id",
        &[&scene.workspace],
    );
    let elsewhere = workspace(&mut scene.admin, "Elsewhere");
    let unlock = "SELECT message FROM codex.unlock_achievement($1, $2, $3)";
    let record = "SELECT codex.record_agent_execution($1, $2, 1, 1, 1, 1, true, NULL, $3)";
    let mut session = scene.db.admin();
    for _ in 0..3 {
        // As a member: what a member may not write stays unwritten, with the reason of the table.
        let mut transaction = session.transaction().unwrap();
        transaction
            .batch_execute(&format!("SET LOCAL ROLE {member_role}"))
            .unwrap();
        transaction
            .execute(
                "SELECT codex.enter_workspace($1, $2)",
                &[&scene.workspace, &scene.user],
            )
            .unwrap();
        assert_eq!(
            value::<i64>(
                &mut transaction,
                "SELECT count(*) FROM codex.agent_performance_summary($1)",
                &[&scene.workspace]
            ),
            value::<i64>(
                &mut scene.admin,
                "SELECT count(*) FROM public.agent_performance",
                &[]
            )
        );
        let mut nested = transaction.transaction().unwrap();
        let refused = nested.query(
            "SELECT * FROM codex.agent_performance_summary($1)",
            &[&elsewhere],
        );
        fails_with(refused, "42501");
        nested.rollback().unwrap();
        let refused = transaction.execute(
            record,
            &[&scene.workspace, &scene.agent, &Some(Uuid::new_v4())],
        );
        fails_with(refused, "42501");
        transaction.rollback().unwrap();

        // As the service, in its workspace and in no other.
        let mut transaction = session.transaction().unwrap();
        transaction
            .batch_execute(&format!("SET LOCAL ROLE {service_role}"))
            .unwrap();
        let mut nested = transaction.transaction().unwrap();
        let refused = nested.query(unlock, &[&scene.user, &achievement, &scene.workspace]);
        fails_with(refused, "42501");
        nested.rollback().unwrap();
        transaction
            .execute("SELECT codex.enter_workspace($1)", &[&scene.workspace])
            .unwrap();
        let mut nested = transaction.transaction().unwrap();
        let refused = nested.execute(record, &[&elsewhere, &scene.agent, &None::<Uuid>]);
        fails_with(refused, "42501");
        nested.rollback().unwrap();
        transaction
            .execute(
                record,
                &[&scene.workspace, &scene.agent, &Some(Uuid::new_v4())],
            )
            .unwrap();
        let message: String = value(
            &mut transaction,
            unlock,
            &[&scene.user, &achievement, &scene.workspace],
        );
        assert!(
            message == "Achievement unlocked successfully"
                || message == "Achievement already unlocked"
        );
        transaction.commit().unwrap();

        // As the owner again.
        let message: String = value(
            &mut session,
            unlock,
            &[&scene.user, &achievement, &scene.workspace],
        );
        assert_eq!(message, "Achievement already unlocked");
    }
    let points: i32 = value(
        &mut scene.admin,
        "SELECT total_points FROM public.user_stats",
        &[],
    );
    assert_eq!(points, 10);
    let executions: i32 = value(
        &mut scene.admin,
        "SELECT execution_count FROM public.agent_performance",
        &[],
    );
    assert_eq!(executions, 3);
}

/// CHECKs are remembered by a session that writes, and the one that counts is always the one that the table has.
#[test]
fn a_check_that_changes_counts_at_once_in_a_session_that_has_written() {
    let scene = Scene::new();
    let (mut admin, mut writer) = (scene.db.admin(), scene.db.admin());
    let mut send = |title: &str| {
        writer.execute(
            "SELECT codex.send_user_notification($1, $2, 'message', $3, 'M')",
            &[&scene.workspace, &scene.user, &title],
        )
    };
    send("A").unwrap();
    let mut change = |sql: &str| admin.batch_execute(sql).unwrap();

    change(
        "ALTER TABLE public.user_notifications ADD CONSTRAINT other CHECK (title <> 'A') NOT VALID",
    );
    let refused = send("A").unwrap_err();
    let refused = refused.as_db_error().unwrap();
    assert_eq!(refused.code().code(), "23514");
    assert_eq!(
        refused.message(),
        r#"new row for relation "user_notifications" violates check constraint "other""#
    );
    send("B").unwrap();

    // Under the name and at the place of the one before.
    change(
        "ALTER TABLE public.user_notifications
             DROP CONSTRAINT other,
             ADD CONSTRAINT other CHECK (title <> 'B') NOT VALID",
    );
    send("A").unwrap();
    fails_with(send("B"), "23514");

    // What a CHECK calls is a part of it, also where the planner has put its body in its place.
    change(
        "CREATE FUNCTION public.fine(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT $1 <> 'A' $$;
         ALTER TABLE public.user_notifications
             DROP CONSTRAINT other,
             ADD CONSTRAINT other CHECK (public.fine(title)) NOT VALID",
    );
    fails_with(send("A"), "23514");
    send("B").unwrap();
    change(
        "CREATE OR REPLACE FUNCTION public.fine(text) RETURNS boolean IMMUTABLE LANGUAGE sql AS $$ SELECT $1 <> 'B' $$",
    );
    send("A").unwrap();
    fails_with(send("B"), "23514");

    change("ALTER TABLE public.user_notifications DROP CONSTRAINT other");
    send("B").unwrap();
}

/// So are the conditions of triggers, of either kind of row.
#[test]
fn a_trigger_that_changes_counts_at_once_in_a_session_that_has_written() {
    let scene = Scene::new();
    let (mut admin, mut writer) = (scene.db.admin(), scene.db.admin());
    admin
        .batch_execute(
            "CREATE TABLE public.fired (title text);
             CREATE FUNCTION public.fire() RETURNS trigger LANGUAGE plpgsql
             AS $$ BEGIN INSERT INTO public.fired VALUES (NEW.title); RETURN NULL; END $$;
             CREATE FUNCTION public.chosen(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN $1 = 'A'; END $$",
        )
        .unwrap();
    let mut fired = |condition: &str| -> Vec<String> {
        admin
            .batch_execute(&format!(
                "TRUNCATE public.fired;
                 CREATE OR REPLACE TRIGGER other AFTER {condition} EXECUTE FUNCTION public.fire()"
            ))
            .unwrap();
        for title in ["A", "B", "C"] {
            writer
                .execute(
                    "SELECT codex.mark_notification_as_read(codex.send_user_notification($1, $2, 'message', $3, 'M'))",
                    &[&scene.workspace, &scene.user, &title],
                )
                .unwrap();
        }
        admin
            .query("SELECT title FROM public.fired ORDER BY title", &[])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    let insert = "INSERT ON public.user_notifications FOR EACH ROW WHEN";
    let update = "UPDATE ON public.user_notifications FOR EACH ROW WHEN";
    assert_eq!(fired(&format!("{insert} (NEW.title = 'A')")), ["A"]);
    assert_eq!(
        fired(&format!("{insert} (NEW.title = ANY ('{{B,C}}'))")),
        ["B", "C"]
    );
    assert_eq!(
        fired(&format!(
            "{update} (NEW.is_read AND NOT OLD.is_read AND OLD.title >= 'C')"
        )),
        ["C"]
    );
    assert_eq!(
        fired(&format!(
            "{update} (OLD.is_read IS NOT DISTINCT FROM NEW.is_read)"
        )),
        [""; 0]
    );
    assert_eq!(
        fired(&format!("{insert} (public.chosen(NEW.title))")),
        ["A"]
    );
    assert_eq!(
        fired(
            "UPDATE ON public.user_notifications FOR EACH ROW WHEN (public.chosen(NEW.title) IS NOT TRUE)"
        ),
        ["B", "C"]
    );
}

/// And the predicates and expressions of indexes.
#[test]
fn an_index_that_changes_counts_at_once_in_a_session_that_has_written() {
    let scene = Scene::new();
    let (mut admin, mut writer) = (scene.db.admin(), scene.db.admin());
    let mut send = |title: &str, key: Option<&str>| {
        writer.execute(
            "SELECT codex.send_user_notification($1, $2, 'message', $3, 'M', p_idempotency_key => $4)",
            &[&scene.workspace, &scene.user, &title, &key],
        )
    };
    let mut change = |sql: &str| {
        admin
            .batch_execute(&format!("DELETE FROM public.user_notifications; {sql}"))
            .unwrap()
    };
    send("A", None).unwrap();

    change(
        "CREATE UNIQUE INDEX other ON public.user_notifications (lower(title)) WHERE title <> 'C'",
    );
    send("A", None).unwrap();
    fails_with(send("a", None), "23505");
    fails_with(send("A", Some("key")), "23505");
    for key in [None, Some("key")] {
        send("C", key).unwrap();
    }

    // Of the same name.
    change(
        "DROP INDEX public.other;
         CREATE UNIQUE INDEX other ON public.user_notifications (left(title, 1)) WHERE title <> 'A'",
    );
    send("A", None).unwrap();
    send("A", Some("key")).unwrap();
    send("Bc", None).unwrap();
    fails_with(send("Bd", None), "23505");

    // A row that the index has is found by it, and one that it has not is none of its business.
    change(
        "DROP INDEX public.other;
         CREATE FUNCTION public.turned(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN reverse($1); END $$;
         CREATE INDEX other ON public.user_notifications (public.turned(title)) WHERE public.turned(title) >= 'B'",
    );
    for title in ["xA", "xB", "xC"] {
        send(title, None).unwrap();
    }
    let mut found = |turned: &str| -> i64 {
        admin
            .batch_execute("SET enable_seqscan = off")
            .and_then(|()| {
                admin.query_one(
                    "SELECT count(*) FROM public.user_notifications
                     WHERE public.turned(title) = $1 AND public.turned(title) >= 'B'",
                    &[&turned],
                )
            })
            .unwrap()
            .get(0)
    };
    assert_eq!((found("Ax"), found("Bx"), found("Cx")), (0, 1, 1));
}
