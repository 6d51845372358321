//! Reads on a hot standby, and what reads must not do for that: take a transaction id.

use codex_pg_test::postgres::{Client, Transaction};
use codex_pg_test::{Database, Failure, Standby, Uuid, fails_with, member, value, workspace};

/// Two workspaces with something to read in the first.
struct Scene {
    db: Database,
    acme: Uuid,
    anna: Uuid,
    bolt: Uuid,
}

impl Scene {
    fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        let acme = workspace(&mut admin, "Acme");
        let anna = member(&mut admin, acme, "anna@acme.example");
        let bolt = workspace(&mut admin, "Bolt");
        let role = db.role("member");
        admin
            .execute(
                "SELECT codex.grant_member_role($1::text::regrole)",
                &[&role],
            )
            .unwrap();
        let agent: Uuid = value(
            &mut admin,
            "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Scout', 'researcher') RETURNING id",
            &[],
        );
        admin
            .execute(
                "INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type)
                 VALUES ($1, 'First', 'milestone', 'count')",
                &[&acme],
            )
            .unwrap();
        for here in [acme, bolt] {
            admin
                .execute(
                    "INSERT INTO public.campaigns (workspace_id, name, status) VALUES ($1, 'Spring', 'active')",
                    &[&here],
                )
                .unwrap();
            let signals: Vec<Uuid> = (1..=3)
                .map(|number| {
                    value(
                        &mut admin,
                        "INSERT INTO public.intelligence_signals
                             (workspace_id, source_type, data_source, signal_title, signal_category, confidence_score)
                         VALUES ($1, 'market', $2, $2, 'market_trend', 80) RETURNING id",
                        &[&here, &format!("signal {number}")],
                    )
                })
                .collect();
            admin
                .execute(
                    "SELECT codex.create_insight_from_signals($1, $2, 'Insight', 'trend', ARRAY['so'], NULL)",
                    &[&here, &&signals[..2]],
                )
                .unwrap_or_else(|error| panic!("{error:?}"));
            admin
                .execute(
                    "SELECT codex.create_system_alert($1, 'error', 'critical', 'Down', 'Since noon')",
                    &[&here],
                )
                .unwrap();
            admin
                .execute(
                    "SELECT codex.record_agent_execution($1, $2, 1.5, 10, 5, 0.01, true)",
                    &[&here, &agent],
                )
                .unwrap();
        }
        admin
            .execute(
                "SELECT codex.send_user_notification($1, $2, 'message', 'Hello', 'Anna')",
                &[&acme, &anna],
            )
            .unwrap();
        Self {
            db,
            acme,
            anna,
            bolt,
        }
    }

    /// Enters Acme as Anna, in a transaction of a session of the member role.
    fn enter<'a>(&self, session: &'a mut Client) -> Transaction<'a> {
        let mut transaction = session.transaction().unwrap();
        transaction
            .execute(
                "SELECT codex.enter_workspace($1, $2)",
                &[&self.acme, &self.anna],
            )
            .unwrap_or_else(|error| panic!("{error:?}"));
        transaction
    }

    /// Every call that only reads, as SQL that gives one text, and the text that it has to give.
    fn reads(&self) -> Vec<(String, String)> {
        let (acme, anna) = (self.acme, self.anna);
        let expected = |sql: String, text: &str| (sql, text.to_owned());
        vec![
            expected("SELECT codex.current_workspace_id()::text".into(), &acme.to_string()),
            expected("SELECT codex.current_user_id()::text".into(), &anna.to_string()),
            expected(format!("SELECT codex.is_workspace_member('{acme}', '{anna}')::text"), "true"),
            expected("SELECT codex.acts_for_workspace()::text".into(), "false"),
            expected("SELECT count(*)::text FROM public.campaigns".into(), "1"),
            expected("SELECT count(*)::text FROM public.user_notifications".into(), "1"),
            expected(
                format!("SELECT string_agg(title || signal_count, ',') FROM codex.get_active_insights('{acme}')"),
                "Insight2",
            ),
            expected(
                format!("SELECT string_agg(title, ',') FROM codex.get_priority_signals('{acme}')"),
                "signal 3",
            ),
            expected(
                format!("SELECT string_agg(title, ',') FROM codex.get_critical_alerts('{acme}')"),
                "Down",
            ),
            expected(
                format!("SELECT string_agg(title, ',') FROM codex.get_user_unread_notifications('{anna}')"),
                "Hello",
            ),
            expected(
                format!(
                    "SELECT string_agg(executions || '/' || tokens, ',')
                     FROM codex.agent_performance_summary('{acme}', NULL, now() - interval '1 day', now() + interval '1 day')"
                ),
                "1/15",
            ),
        ]
    }

    /// Every call that writes, with arguments that it takes on the primary.
    fn writes(&self) -> Vec<String> {
        let (acme, anna) = (self.acme, self.anna);
        let mut admin = self.db.admin();
        let mut id = |table: &str| -> Uuid {
            value(
                &mut admin,
                &format!(
                    "SELECT id FROM public.{table} WHERE workspace_id = '{acme}' ORDER BY created_at DESC, id DESC LIMIT 1"
                ),
                &[],
            )
        };
        let (alert, notification) = (id("system_alerts"), id("user_notifications"));
        let signal: Uuid = value(
            &mut self.db.admin(),
            "SELECT id FROM public.intelligence_signals WHERE workspace_id = $1 AND action_status = 'new'",
            &[&acme],
        );
        let achievement: Uuid = value(
            &mut self.db.admin(),
            "SELECT id FROM public.achievements WHERE workspace_id = $1",
            &[&acme],
        );
        let agent: Uuid = value(
            &mut self.db.admin(),
            "SELECT id FROM public.agent_registry",
            &[],
        );
        vec![
            format!("unlock_achievement('{anna}', '{achievement}', '{acme}')"),
            format!("record_agent_execution('{acme}', '{agent}', 1.5, 10, 5, 0.01, true)"),
            format!(
                "create_insight_from_signals('{acme}', ARRAY['{signal}']::uuid[], 'I', 'trend', ARRAY['so'], NULL)"
            ),
            format!("create_system_alert('{acme}', 'error', 'high', 'Down', 'Again')"),
            format!(
                "create_system_alert('{acme}', 'error', 'high', 'Down', 'Again', p_dedup_key => 'down')"
            ),
            format!("acknowledge_alert('{alert}', '{anna}')"),
            format!("resolve_alert('{alert}', '{anna}')"),
            format!("dismiss_alert('{alert}', '{anna}')"),
            format!("send_user_notification('{acme}', '{anna}', 'message', 'Hello', 'Again')"),
            format!(
                "send_user_notifications('{acme}', ARRAY['{anna}']::uuid[], 'message', 'Hello', 'Again')"
            ),
            format!("mark_notification_as_read('{notification}')"),
            format!("mark_all_notifications_read('{anna}')"),
            "migrate()".into(),
            "rollback(13, allow_data_loss => true)".into(),
            "protect('public.cohorts')".into(),
            format!("grant_member_role('{}')", self.db.role("member")),
            "expose('public')".into(),
        ]
    }

    /// What one transaction reads.
    fn read_all(&self, session: &mut Client) {
        let mut transaction = self.enter(session);
        for (sql, expected) in self.reads() {
            let row = transaction
                .query_one(&sql, &[])
                .unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
            assert_eq!(
                row.get::<_, Option<String>>(0).as_deref(),
                Some(&*expected),
                "{sql}"
            );
            let assigned: Option<String> = transaction
                .query_one(
                    "SELECT pg_catalog.pg_current_xact_id_if_assigned()::text",
                    &[],
                )
                .map(|row| row.get(0))
                .unwrap();
            assert_eq!(assigned, None, "took a transaction id: {sql}");
        }
        transaction.commit().unwrap();
    }
}

#[test]
fn reads_take_no_transaction_id_and_work_on_a_hot_standby() {
    let scene = Scene::new();
    scene.read_all(&mut scene.db.login("member"));

    let standby = Standby::of_the_server();
    standby.catch_up();
    let mut session = standby.login(&scene.db, "member");
    assert!(value::<bool>(
        &mut session,
        "SELECT pg_catalog.pg_is_in_recovery()",
        &[]
    ));
    scene.read_all(&mut session);
    // Again, with plans and look-ups that the session kept.
    scene.read_all(&mut session);

    // Without a context, nothing; with a workspace of somebody else, a refusal.
    assert_eq!(
        value::<i64>(&mut session, "SELECT count(*) FROM public.campaigns", &[]),
        0
    );
    fails_with(
        session.execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&scene.bolt, &scene.anna],
        ),
        "42501",
    );

    // Verification and the state of the schema are reads, too.
    let mut admin = standby.admin(&scene.db);
    assert_eq!(
        value::<i64>(
            &mut admin,
            "SELECT count(*) FROM codex.verify() WHERE NOT passed",
            &[]
        ),
        0
    );
    assert!(value::<i64>(&mut admin, "SELECT count(*) FROM codex.status()", &[]) > 0);

    // What writes says so, in Postgres's own words.
    for call in scene.writes() {
        let refused = admin.simple_query(&format!("SELECT * FROM codex.{call}"));
        let refused = refused.map_err(|error| Failure::from(&error));
        assert_eq!(
            refused
                .as_ref()
                .map(Vec::len)
                .map_err(|failure| &*failure.sqlstate),
            Err("25006"),
            "{call}: {refused:?}"
        );
    }

    // A membership that ends on the primary ends here.
    scene
        .db
        .admin()
        .execute(
            "DELETE FROM public.workspace_members WHERE user_id = $1",
            &[&scene.anna],
        )
        .unwrap();
    standby.catch_up();
    fails_with(
        session.execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&scene.acme, &scene.anna],
        ),
        "42501",
    );
}
