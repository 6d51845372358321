//! Who calls: what a member and a service get from the functions, and what they do not.

use crate::scene::{Scene, Signal, rows};
use codex_pg_test::postgres::{Client, Transaction};
use codex_pg_test::{Uuid, fails_with, member, value};

/// A session of a role that was granted what members or services have.
fn session(scene: &mut Scene, kind: &str) -> Client {
    let role = scene.db.role(kind);
    scene
        .admin
        .batch_execute(&format!("SELECT codex.grant_{kind}_role('{role}')"))
        .unwrap();
    scene.db.login(&role)
}

/// A transaction in a workspace, for a user.
fn enter(client: &mut Client, workspace: Uuid, user: Uuid) -> Transaction<'_> {
    let mut transaction = client.transaction().unwrap();
    transaction
        .execute("SELECT codex.enter_workspace($1, $2)", &[&workspace, &user])
        .unwrap();
    transaction
}

fn alert(admin: &mut Client, workspace: Uuid) -> Uuid {
    value(
        admin,
        "SELECT codex.create_system_alert($1, 'error', 'critical', 'Down', 'D')",
        &[&workspace],
    )
}

fn notification(admin: &mut Client, workspace: Uuid, user: Uuid) -> Uuid {
    value(
        admin,
        "SELECT codex.send_user_notification($1, $2, 'message', 'Hello', 'M')",
        &[&workspace, &user],
    )
}

#[test]
fn a_member_works_with_alerts_and_insights_of_the_own_workspace() {
    let mut scene = Scene::new();
    let mut client = session(&mut scene, "member");
    let signal = Signal::fresh(scene.acme, "blog", 60.0).insert(&mut scene.admin);
    let mut anna = enter(&mut client, scene.acme, scene.anna);
    let insight: Uuid = value(
        &mut anna,
        "SELECT codex.create_insight_from_signals($1, ARRAY[$2::uuid], 'T', 'trend', '{}', $3)",
        &[&scene.acme, &signal, &scene.anna],
    );
    assert_eq!(
        value::<Uuid>(
            &mut anna,
            "SELECT id FROM codex.get_active_insights($1)",
            &[&scene.acme]
        ),
        insight
    );
    let raise =
        "SELECT codex.create_system_alert($1, 'error', 'critical', 'T', 'D', p_dedup_key => 'k')";
    let alert: Uuid = value(&mut anna, raise, &[&scene.acme]);
    assert_eq!(value::<Uuid>(&mut anna, raise, &[&scene.acme]), alert);
    let (id, creator): (Uuid, Uuid) = {
        let row = anna
            .query_one(
                "SELECT c.id, a.created_by FROM codex.get_critical_alerts($1) AS c JOIN public.system_alerts AS a USING (id)",
                &[&scene.acme],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!((id, creator), (alert, scene.anna));
    for step in ["acknowledge", "resolve"] {
        anna.execute(
            &format!("SELECT codex.{step}_alert($1, $2)"),
            &[&alert, &scene.anna],
        )
        .unwrap();
    }
    anna.commit().unwrap();
}

#[test]
fn a_member_reads_and_marks_the_own_notifications_only() {
    let mut scene = Scene::new();
    let cleo = member(&mut scene.admin, scene.acme, "cleo@acme.example");
    let mut client = session(&mut scene, "member");
    let own = notification(&mut scene.admin, scene.acme, scene.anna);
    let another = notification(&mut scene.admin, scene.acme, scene.anna);
    let neighbours = notification(&mut scene.admin, scene.acme, cleo);

    let mut anna = enter(&mut client, scene.acme, scene.anna);
    let unread = "SELECT count(*) FROM codex.get_user_unread_notifications($1)";
    assert_eq!(value::<i64>(&mut anna, unread, &[&scene.anna]), 2);
    assert_eq!(value::<i64>(&mut anna, unread, &[&cleo]), 0);
    anna.execute("SELECT codex.mark_notification_as_read($1)", &[&own])
        .unwrap();
    let all = "SELECT codex.mark_all_notifications_read($1)";
    assert_eq!(value::<i64>(&mut anna, all, &[&cleo]), 0);
    assert_eq!(value::<i64>(&mut anna, all, &[&scene.anna]), 1);
    fails_with(
        anna.execute("SELECT codex.mark_notification_as_read($1)", &[&neighbours]),
        "P0002",
    );
    drop(anna);

    let mut anna = enter(&mut client, scene.acme, scene.anna);
    anna.execute("SELECT codex.mark_notification_as_read($1)", &[&another])
        .unwrap();
    anna.commit().unwrap();
    let read: Vec<Uuid> = scene
        .admin
        .query(
            "SELECT id FROM public.user_notifications WHERE is_read",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(read, [another]);
}

#[test]
fn a_member_sends_no_notifications() {
    let mut scene = Scene::new();
    let mut client = session(&mut scene, "member");
    for sql in [
        "SELECT codex.send_user_notification($1, $2, 'message', 'T', 'M')",
        "SELECT codex.send_user_notifications($1, ARRAY[$2::uuid], 'message', 'T', 'M')",
    ] {
        let mut anna = enter(&mut client, scene.acme, scene.anna);
        fails_with(anna.query(sql, &[&scene.acme, &scene.anna]), "42501");
    }
    assert_eq!(rows(&mut scene.admin, "public.user_notifications"), 0);
}

#[test]
fn another_workspace_is_refused_in_the_same_words_whether_it_exists_or_not() {
    let mut scene = Scene::new();
    let signal = Signal::fresh(scene.bolt, "blog", 60.0).insert(&mut scene.admin);
    for kind in ["member", "service"] {
        let mut client = session(&mut scene, kind);
        for sql in [
            "SELECT codex.get_active_insights($1) WHERE $2::uuid IS NOT NULL",
            "SELECT codex.get_priority_signals($1) WHERE $2::uuid IS NOT NULL",
            "SELECT codex.get_critical_alerts($1) WHERE $2::uuid IS NOT NULL",
            "SELECT codex.create_system_alert($1, 'error', 'high', 'T', 'D') WHERE $2::uuid IS NOT NULL",
            "SELECT codex.create_insight_from_signals($1, ARRAY[$2::uuid], 'T', 'trend', '{}', NULL)",
        ] {
            for (entered, current) in [
                (true, format!("the current workspace is {}", scene.acme)),
                (false, "no workspace is entered".to_string()),
            ] {
                for elsewhere in [scene.bolt, Uuid::new_v4()] {
                    let mut transaction = if entered {
                        enter(&mut client, scene.acme, scene.anna)
                    } else {
                        client.transaction().unwrap()
                    };
                    let failure =
                        fails_with(transaction.query(sql, &[&elsewhere, &signal]), "42501");
                    assert_eq!(
                        failure.message,
                        format!("workspace {elsewhere} is not open to this session: {current}"),
                        "{kind}: {sql}"
                    );
                }
            }
        }
    }
    assert_eq!(rows(&mut scene.admin, "public.system_alerts"), 0);
    assert_eq!(rows(&mut scene.admin, "public.market_insights"), 0);
}

#[test]
fn what_belongs_to_another_workspace_is_not_found() {
    let mut scene = Scene::new();
    let foreign_alert = alert(&mut scene.admin, scene.bolt);
    let foreign_notification = notification(&mut scene.admin, scene.bolt, scene.bob);
    for kind in ["member", "service"] {
        let mut client = session(&mut scene, kind);
        for step in ["acknowledge", "resolve", "dismiss"] {
            for id in [foreign_alert, Uuid::new_v4()] {
                let mut transaction = enter(&mut client, scene.acme, scene.anna);
                let failure = fails_with(
                    transaction.query(
                        &format!("SELECT codex.{step}_alert($1, $2)"),
                        &[&id, &scene.bob],
                    ),
                    "P0002",
                );
                assert_eq!(failure.message, format!("there is no alert {id} here"));
            }
        }
        for id in [foreign_notification, Uuid::new_v4()] {
            let mut transaction = enter(&mut client, scene.acme, scene.anna);
            let failure = fails_with(
                transaction.query("SELECT codex.mark_notification_as_read($1)", &[&id]),
                "P0002",
            );
            assert_eq!(
                failure.message,
                format!("there is no notification {id} here")
            );
        }
        let mut transaction = enter(&mut client, scene.acme, scene.anna);
        assert_eq!(
            value::<i64>(
                &mut transaction,
                "SELECT codex.mark_all_notifications_read($1) + (SELECT count(*) FROM codex.get_user_unread_notifications($1))",
                &[&scene.bob]
            ),
            0
        );
    }
    let untouched: bool = value(
        &mut scene.admin,
        "SELECT (SELECT status = 'active' FROM public.system_alerts) AND (SELECT NOT is_read FROM public.user_notifications)",
        &[],
    );
    assert!(untouched);
}

#[test]
fn a_service_sends_to_members_and_raises_alerts_without_a_user() {
    let mut scene = Scene::new();
    let cleo = member(&mut scene.admin, scene.acme, "cleo@acme.example");
    let mut client = session(&mut scene, "service");
    let mut service = client.transaction().unwrap();
    service
        .execute("SELECT codex.enter_workspace($1)", &[&scene.acme])
        .unwrap();
    let alert: Uuid = value(
        &mut service,
        "SELECT codex.create_system_alert($1, 'error', 'critical', 'T', 'D')",
        &[&scene.acme],
    );
    let send = "SELECT codex.send_user_notification($1, $2, 'alert', 'T', 'M', p_alert_id => $3, p_idempotency_key => 'k')";
    let first: Uuid = value(&mut service, send, &[&scene.acme, &scene.anna, &alert]);
    assert_eq!(
        value::<Uuid>(&mut service, send, &[&scene.acme, &scene.anna, &alert]),
        first
    );
    assert_eq!(
        value::<i64>(
            &mut service,
            "SELECT codex.send_user_notifications($1, ARRAY[$2, $3]::uuid[], 'alert', 'T', 'M')",
            &[&scene.acme, &scene.anna, &cleo]
        ),
        2
    );
    assert_eq!(
        value::<i64>(
            &mut service,
            "SELECT count(*) FROM codex.get_user_unread_notifications($1)",
            &[&scene.anna]
        ),
        2
    );
    let creator: Option<Uuid> = value(
        &mut service,
        "SELECT created_by FROM public.system_alerts WHERE id = $1",
        &[&alert],
    );
    assert_eq!(creator, None);
    fails_with(
        service.query(send, &[&scene.acme, &scene.bob, &alert]),
        "22023",
    );
    drop(service);
    let mut service = client.transaction().unwrap();
    service
        .execute("SELECT codex.enter_workspace($1)", &[&scene.acme])
        .unwrap();
    fails_with(
        service.query(
            "SELECT codex.send_user_notification($1, $2, 'alert', 'T', 'M')",
            &[&scene.acme, &scene.bob],
        ),
        "42501",
    );
}
