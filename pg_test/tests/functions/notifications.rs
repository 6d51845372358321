//! Notifications: sending once, reading, and the unread list.

use crate::scene::{Scene, campaign, rows, touches_at_most};
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Uuid, fails_with, member, value};
use std::collections::BTreeSet;
use std::time::Duration;

fn send(client: &mut Client, workspace: Uuid, user: Uuid) -> Result<Uuid, Error> {
    client
        .query_one(
            "SELECT codex.send_user_notification($1, $2, 'message', 'Hello', 'Welcome')",
            &[&workspace, &user],
        )
        .map(|row| row.get(0))
}

fn send_once(
    client: &mut Client,
    workspace: Uuid,
    user: Uuid,
    title: &str,
    key: &str,
) -> Result<Uuid, Error> {
    client
        .query_one(
            "SELECT codex.send_user_notification($1, $2, 'message', $3, 'Welcome', p_idempotency_key => $4)",
            &[&workspace, &user, &title, &key],
        )
        .map(|row| row.get(0))
}

fn send_to_all(
    client: &mut Client,
    workspace: Uuid,
    users: &[Uuid],
    title: &str,
    key: Option<&str>,
) -> Result<i64, Error> {
    client
        .query_one(
            "SELECT codex.send_user_notifications($1, $2, 'summary', $3, 'Read this', p_idempotency_key => $4)",
            &[&workspace, &users, &title, &key],
        )
        .map(|row| row.get(0))
}

fn titles(client: &mut Client, sql: &str, user: Uuid) -> Vec<String> {
    client
        .query(sql, &[&user])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect()
}

#[test]
fn hard_case_33_unread_notifications_are_ordered_by_urgency_and_then_newest_first() {
    let mut scene = Scene::new();
    scene
        .admin
        .execute(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, priority_level, is_read, created_at, expires_at)
             SELECT $1, $2, 'reminder', title, 'M', priority, read, now() - minutes * interval '1 minute', now() + days * interval '1 day'
             FROM (VALUES
                 ('low', 'low', false, 1, NULL), ('normal', 'normal', false, 1, 1), ('old urgent', 'urgent', false, 99, NULL), ('high', 'high', false, 5, NULL),
                 ('urgent', 'urgent', false, 5, NULL), ('read', 'urgent', true, 1, NULL), ('expired', 'urgent', false, 1, -1)
             ) AS v (title, priority, read, minutes, days)",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    let all = "SELECT title FROM codex.get_user_unread_notifications($1)";
    assert_eq!(
        titles(&mut scene.admin, all, scene.anna),
        ["urgent", "old urgent", "high", "normal", "low"]
    );
    let top = "SELECT title FROM codex.get_user_unread_notifications($1, 3)";
    assert_eq!(
        titles(&mut scene.admin, top, scene.anna),
        ["urgent", "old urgent", "high"]
    );
    assert!(titles(&mut scene.admin, all, scene.bob).is_empty());
}

#[test]
fn hard_case_34_the_unread_list_is_that_of_the_current_workspace() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    admin
        .execute(
            "INSERT INTO public.workspace_members (workspace_id, user_id) VALUES ($1, $2)",
            &[&scene.bolt, &scene.anna],
        )
        .unwrap();
    for (workspace, title, priority) in [
        (scene.acme, "at Acme", "high"),
        (scene.bolt, "at Bolt", "urgent"),
        (scene.acme, "at Acme too", "low"),
    ] {
        admin
            .execute(
                "SELECT codex.send_user_notification($1, $2, 'message', $3, 'M', p_priority => $4)",
                &[&workspace, &scene.anna, &title, &priority],
            )
            .unwrap();
    }
    for list in ["($1)", "($1, 10)"] {
        let sql = format!("SELECT title FROM codex.get_user_unread_notifications{list}");
        assert_eq!(
            titles(admin, &sql, scene.anna),
            ["at Bolt", "at Acme", "at Acme too"]
        );
        let mut transaction = admin.transaction().unwrap();
        transaction
            .execute(
                "SELECT codex.enter_workspace($1, $2)",
                &[&scene.acme, &scene.anna],
            )
            .unwrap();
        let inside: Vec<String> = transaction
            .query(&sql, &[&scene.anna])
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert_eq!(inside, ["at Acme", "at Acme too"]);
        transaction.commit().unwrap();
    }
}

#[test]
fn hard_case_35_the_recipient_is_a_member() {
    let mut scene = Scene::new();
    for stranger in [scene.bob, Uuid::new_v4()] {
        let failure = fails_with(send(&mut scene.admin, scene.acme, stranger), "42501");
        assert_eq!(
            failure.message,
            format!(
                "user {stranger} is not a member of workspace {}",
                scene.acme
            )
        );
    }
    assert_eq!(rows(&mut scene.admin, "public.user_notifications"), 0);
}

#[test]
fn hard_case_35_what_a_notification_is_about_belongs_to_the_workspace() {
    let mut scene = Scene::new();
    let foreign_alert: Uuid = value(
        &mut scene.admin,
        "SELECT codex.create_system_alert($1, 'error', 'high', 'T', 'D')",
        &[&scene.bolt],
    );
    let foreign_campaign = campaign(&mut scene.admin, scene.bolt);
    for (argument, what, foreign) in [
        ("p_alert_id", "alert", foreign_alert),
        ("p_campaign_id", "campaign", foreign_campaign),
        ("p_achievement_id", "achievement", foreign_campaign),
    ] {
        let sql = format!(
            "SELECT codex.send_user_notification($1, $2, 'alert', 'T', 'M', {argument} => $3)"
        );
        for id in [foreign, Uuid::new_v4()] {
            let failure = fails_with(
                scene.admin.query(&sql, &[&scene.acme, &scene.anna, &id]),
                "23503",
            );
            assert_eq!(
                failure.message,
                format!("{argument} is {id}, and there is no such {what} in this workspace")
            );
        }
    }
}

#[test]
fn hard_case_35_a_delivery_status_is_one_of_four() {
    let mut scene = Scene::new();
    let notification = send(&mut scene.admin, scene.acme, scene.anna).unwrap();
    let sql = "UPDATE public.user_notifications SET delivery_status = $2 WHERE id = $1";
    fails_with(
        scene.admin.execute(sql, &[&notification, &"teleported"]),
        "23514",
    );
    for status in ["pending", "delivered", "failed", "bounced"] {
        assert_eq!(
            scene.admin.execute(sql, &[&notification, &status]).unwrap(),
            1
        );
    }
}

#[test]
fn hard_case_36_reading_again_does_not_move_the_time_of_reading() {
    let mut scene = Scene::new();
    let notification = send(&mut scene.admin, scene.acme, scene.anna).unwrap();
    let mark = "SELECT codex.mark_notification_as_read($1)";
    let version = "SELECT xmin::text || is_read::text || read_at::text FROM public.user_notifications WHERE id = $1";
    scene.admin.execute(mark, &[&notification]).unwrap();
    let first: String = value(&mut scene.admin, version, &[&notification]);
    scene.admin.execute(mark, &[&notification]).unwrap();
    scene
        .admin
        .execute(
            "SELECT codex.mark_all_notifications_read($1)",
            &[&scene.anna],
        )
        .unwrap();
    assert_eq!(
        value::<String>(&mut scene.admin, version, &[&notification]),
        first
    );
    let unknown = Uuid::new_v4();
    let failure = fails_with(scene.admin.execute(mark, &[&unknown]), "P0002");
    assert_eq!(
        failure.message,
        format!("there is no notification {unknown} here")
    );
}

#[test]
fn the_same_key_sends_once_from_any_number_of_sessions() {
    let mut scene = Scene::new();
    let ids: BTreeSet<Uuid> = scene
        .db
        .parallel(20, |_, client| {
            (0..10)
                .map(|_| send_once(client, scene.acme, scene.anna, "Hello", "welcome").unwrap())
                .collect::<Vec<_>>()
        })
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(rows(&mut scene.admin, "public.user_notifications"), 1);
}

#[test]
fn a_key_that_was_rolled_back_is_free_again() {
    let mut scene = Scene::new();
    let mut other = scene.db.admin();
    let mut first = scene.admin.transaction().unwrap();
    let rolled_back: Uuid = value(
        &mut first,
        "SELECT codex.send_user_notification($1, $2, 'message', 'Hello', 'Welcome', p_idempotency_key => 'welcome')",
        &[&scene.acme, &scene.anna],
    );
    let waiting = std::thread::spawn(move || {
        send_once(&mut other, scene.acme, scene.anna, "Another", "welcome")
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(
        !waiting.is_finished(),
        "the second did not wait for the first"
    );
    first.rollback().unwrap();
    let sent = waiting.join().unwrap().unwrap();
    assert_ne!(sent, rolled_back);
    assert_eq!(rows(&mut scene.admin, "public.user_notifications"), 1);
}

#[test]
fn a_key_stands_for_one_message_of_one_workspace() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let first = send_once(admin, scene.acme, scene.anna, "Hello", "welcome").unwrap();
    let failure = fails_with(
        send_once(admin, scene.acme, scene.anna, "Goodbye", "welcome"),
        "22023",
    );
    assert_eq!(
        failure.message,
        format!(
            "p_idempotency_key \"welcome\" was used before, for notification {first} with another p_title"
        )
    );
    let cleo = member(admin, scene.acme, "cleo@acme.example");
    let failure = fails_with(
        send_once(admin, scene.acme, cleo, "Hello", "welcome"),
        "22023",
    );
    assert!(failure.message.ends_with("another p_user_id"), "{failure}");
    let elsewhere = send_once(admin, scene.bolt, scene.bob, "Goodbye", "welcome").unwrap();
    assert_ne!(elsewhere, first);
}

#[test]
fn a_retry_is_answered_even_after_the_recipient_has_left() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let first = send_once(admin, scene.acme, scene.anna, "Hello", "welcome").unwrap();
    admin
        .execute("DELETE FROM public.workspace_members", &[])
        .unwrap();
    assert_eq!(
        send_once(admin, scene.acme, scene.anna, "Hello", "welcome").unwrap(),
        first
    );
    fails_with(send(admin, scene.acme, scene.anna), "42501");
}

#[test]
fn a_message_to_many_is_sent_to_each_once() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let cleo = member(admin, scene.acme, "cleo@acme.example");
    let users = [scene.anna, cleo, scene.anna];
    assert_eq!(
        send_to_all(admin, scene.acme, &users, "News", Some("week 1")).unwrap(),
        2
    );
    assert_eq!(
        send_to_all(admin, scene.acme, &users, "News", Some("week 1")).unwrap(),
        2,
        "a retry returns the first answer"
    );
    assert_eq!(rows(admin, "public.user_notifications"), 2);
    fails_with(
        send_to_all(admin, scene.acme, &users, "Other news", Some("week 1")),
        "22023",
    );
    let dora = member(admin, scene.acme, "dora@acme.example");
    assert_eq!(
        send_to_all(
            admin,
            scene.acme,
            &[scene.anna, dora],
            "News",
            Some("week 1")
        )
        .unwrap(),
        2,
        "one has it, one gets it"
    );
    assert_eq!(rows(admin, "public.user_notifications"), 3);
    assert_eq!(
        send_to_all(admin, scene.acme, &users, "News", None).unwrap(),
        2
    );
    assert_eq!(rows(admin, "public.user_notifications"), 5);
}

#[test]
fn if_one_recipient_is_a_stranger_nobody_gets_anything() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let one = send_to_all(admin, scene.acme, &[scene.anna, scene.bob], "News", None);
    assert_eq!(
        fails_with(one, "42501").message,
        format!(
            "user {} is not a member of workspace {}",
            scene.bob, scene.acme
        )
    );
    let mut strangers: Vec<Uuid> = (0..12).map(|_| Uuid::new_v4()).collect();
    let several = fails_with(
        send_to_all(admin, scene.acme, &strangers, "News", None),
        "42501",
    );
    assert_eq!(
        several.message,
        format!("12 users are not members of workspace {}", scene.acme)
    );
    strangers.sort();
    let named: Vec<String> = strangers[..10].iter().map(Uuid::to_string).collect();
    assert_eq!(
        several.detail,
        format!("They are {} and 2 more.", named.join(", "))
    );
    assert_eq!(rows(admin, "public.user_notifications"), 0);
}

#[test]
fn sessions_that_send_to_the_same_many_at_once_send_once() {
    let mut scene = Scene::new();
    let mut users: Vec<Uuid> = (0..40)
        .map(|n| member(&mut scene.admin, scene.acme, &format!("m{n}@acme.example")))
        .collect();
    let orders = {
        let forwards = users.clone();
        users.reverse();
        [forwards, users]
    };
    let sent = scene.db.parallel(8, |session, client| {
        send_to_all(
            client,
            scene.acme,
            &orders[session % 2],
            "News",
            Some("week 1"),
        )
        .unwrap()
    });
    assert_eq!(sent, [40; 8]);
    assert_eq!(rows(&mut scene.admin, "public.user_notifications"), 40);
}

#[test]
fn ten_thousand_recipients_are_one_statement() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    admin
        .execute(
            "WITH everybody AS (
                 INSERT INTO public.users (id, email)
                 SELECT gen_random_uuid(), 'u' || g || '@acme.example' FROM generate_series(1, 10000) AS g
                 RETURNING id
             )
             INSERT INTO public.workspace_members (workspace_id, user_id) SELECT $1, id FROM everybody",
            &[&scene.acme],
        )
        .unwrap();
    let sql = "SELECT codex.send_user_notifications($1, array_agg(user_id), 'summary', 'News', 'M', p_idempotency_key => 'all')
               FROM public.workspace_members WHERE workspace_id = $1";
    for _ in 0..2 {
        assert_eq!(value::<i64>(admin, sql, &[&scene.acme]), 10_001);
    }
    assert_eq!(rows(admin, "public.user_notifications"), 10_001);
}

#[test]
fn all_are_marked_as_read_up_to_a_time_and_in_the_current_workspace() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    admin
        .batch_execute(&format!(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, created_at)
             SELECT w, '{anna}', 'message', 'T', 'M', now() - days * interval '1 day'
             FROM unnest(ARRAY['{acme}', '{bolt}']::uuid[]) AS w, generate_series(1, 5) AS days",
            anna = scene.anna,
            acme = scene.acme,
            bolt = scene.bolt
        ))
        .unwrap();
    assert_eq!(
        value::<i64>(
            admin,
            "SELECT codex.mark_all_notifications_read($1, now() - interval '5 days')",
            &[&scene.anna]
        ),
        2
    );
    let mut transaction = admin.transaction().unwrap();
    transaction
        .execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    let marked: i64 = transaction
        .query_one(
            "SELECT codex.mark_all_notifications_read($1)",
            &[&scene.anna],
        )
        .unwrap()
        .get(0);
    assert_eq!(marked, 4);
    transaction.commit().unwrap();
    assert_eq!(
        value::<i64>(
            admin,
            "SELECT codex.mark_all_notifications_read($1, '-infinity')",
            &[&scene.anna]
        ),
        0
    );
    assert_eq!(
        value::<i64>(
            admin,
            "SELECT codex.mark_all_notifications_read($1, 'infinity')",
            &[&scene.anna]
        ),
        4
    );
    assert_eq!(
        value::<i64>(
            admin,
            "SELECT count(*) FROM public.user_notifications WHERE NOT is_read OR read_at IS NULL",
            &[]
        ),
        0
    );
}

#[test]
fn sessions_that_mark_all_as_read_share_the_work() {
    let mut scene = Scene::new();
    scene
        .admin
        .execute(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message)
             SELECT $1, $2, 'message', 'T', 'M' FROM generate_series(1, 500)",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    let marked = scene.db.parallel(6, |_, client| {
        value::<i64>(
            client,
            "SELECT codex.mark_all_notifications_read($1)",
            &[&scene.anna],
        )
    });
    assert_eq!(marked.iter().sum::<i64>(), 500);
}

#[test]
fn the_top_of_the_unread_list_is_read_from_the_index() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    admin
        .batch_execute(&format!(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, priority_level, is_read)
             SELECT CASE g % 2 WHEN 0 THEN '{}'::uuid ELSE '{}' END, '{}', 'message', 'T', 'M',
                    (ARRAY['urgent', 'high', 'normal', 'low'])[1 + g % 4], g % 3 = 0
             FROM generate_series(1, 20000) AS g;
             ANALYZE public.user_notifications",
            scene.acme, scene.bolt, scene.anna
        ))
        .unwrap();
    // Without a context, the tops of two workspaces.
    touches_at_most(
        admin,
        "get_user_unread_notifications($1, 20)",
        &[&scene.anna],
        "user_notifications",
        60,
    );
    admin
        .execute(
            "SELECT set_config('app.current_workspace_id', $1, false)",
            &[&scene.acme.to_string()],
        )
        .unwrap();
    touches_at_most(
        admin,
        "get_user_unread_notifications($1, 20)",
        &[&scene.anna],
        "user_notifications",
        20,
    );
}
