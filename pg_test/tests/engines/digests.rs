//! Digests: each item in one digest, each digest sent once.

use crate::scene::{Scene, rows};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Uuid, fails_with, value};

fn add(client: &mut Client, workspace: Uuid, user: Uuid, key: &str, title: &str) -> Uuid {
    value(
        client,
        "SELECT codex.add_to_digest($1, $2, $3, $4, 'said so')",
        &[&workspace, &user, &key, &title],
    )
}

fn send(client: &mut Client, workspace: Uuid, user: Uuid, key: &str) -> Option<Uuid> {
    value(
        client,
        "SELECT codex.send_digest($1, $2, $3)",
        &[&workspace, &user, &key],
    )
}

#[test]
fn what_is_collected_under_a_key_is_sent_as_one_notification() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let (acme, anna) = (scene.acme, scene.anna);
    let first = add(admin, acme, anna, "comments", "Ben");
    assert_eq!(add(admin, acme, anna, "comments", "Cleo"), first);
    assert_ne!(add(admin, acme, anna, "likes", "Dora"), first);
    assert_eq!(rows(admin, "public.user_notifications"), 0);
    let sent = send(admin, acme, anna, "comments").expect("there is one open");
    let row = admin
        .query_one(
            "SELECT notification_type, channel, title, message FROM public.user_notifications WHERE id = $1",
            &[&sent],
        )
        .unwrap();
    let texts: Vec<String> = (0..4).map(|place| row.get(place)).collect();
    assert_eq!(
        texts,
        [
            "summary",
            "email",
            "Ben and 1 more",
            "• Ben: said so\n• Cleo: said so"
        ]
    );
    assert_eq!(send(admin, acme, anna, "comments"), None, "sent already");
    assert_eq!(rows(admin, "codex.deliveries"), 1);
    assert_ne!(
        add(admin, acme, anna, "comments", "Ed"),
        first,
        "the next one"
    );
    // The only item goes out as it is.
    let single = send(admin, acme, anna, "likes").unwrap();
    let title: String = value(
        admin,
        "SELECT title FROM public.user_notifications WHERE id = $1",
        &[&single],
    );
    assert_eq!(title, "Dora");
}

#[test]
fn a_long_digest_shows_fifty_and_counts_the_rest() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    for n in 0..60 {
        add(admin, scene.acme, scene.anna, "k", &format!("Item {n}"));
    }
    let sent = send(admin, scene.acme, scene.anna, "k").unwrap();
    let message: String = value(
        admin,
        "SELECT message FROM public.user_notifications WHERE id = $1",
        &[&sent],
    );
    assert_eq!(message.lines().count(), 51);
    assert!(
        message.ends_with("• Item 49: said so\n… and 10 more"),
        "{message}"
    );
}

#[test]
fn upkeep_sends_what_is_due_and_nobody_who_has_left_gets_one() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    add(admin, scene.acme, scene.anna, "k", "T");
    add(admin, scene.bolt, scene.bob, "k", "T");
    let sent = "SELECT rows FROM codex.upkeep_notifications() WHERE done = 'digests sent'";
    assert_eq!(value::<i64>(admin, sent, &[]), 0, "an hour has not passed");
    admin
        .batch_execute("UPDATE codex.digests SET closes_at = now() - interval '1 second'")
        .unwrap();
    admin
        .execute(
            "DELETE FROM public.workspace_members WHERE user_id = $1",
            &[&scene.bob],
        )
        .unwrap();
    assert_eq!(value::<i64>(admin, sent, &[]), 2);
    assert_eq!(value::<i64>(admin, sent, &[]), 0);
    let who: Uuid = value(admin, "SELECT user_id FROM public.user_notifications", &[]);
    assert_eq!(who, scene.anna);
    let unsent: i64 = value(
        admin,
        "SELECT count(*) FROM codex.digests WHERE closed_at IS NOT NULL AND notification_id IS NULL",
        &[],
    );
    assert_eq!(unsent, 1);
}

#[test]
fn the_same_call_with_the_same_key_adds_once() {
    let mut scene = Scene::new();
    let add = "SELECT codex.add_to_digest($1, $2, 'k', $3, 'M', idempotency_key => 'one')";
    let ids: Vec<Uuid> = scene.db.parallel(8, |_, client| {
        value(client, add, &[&scene.acme, &scene.anna, &"T"])
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(rows(&mut scene.admin, "codex.digest_items"), 1);
    fails_with(
        scene
            .admin
            .query(add, &[&scene.acme, &scene.anna, &"another"]),
        "22023",
    );
}

#[test]
fn while_others_add_every_item_is_in_one_digest_and_every_digest_sent_once() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    scene.db.parallel(8, |number, client| {
        for item in 0..40 {
            if number == 0 {
                send(client, acme, anna, "k");
            } else {
                add(client, acme, anna, "k", &format!("{number}/{item}"));
            }
        }
    });
    send(&mut scene.admin, acme, anna, "k");
    let (items, titles, counted, open): (i64, i64, i64, i64) = {
        let row = scene
            .admin
            .query_one(
                "SELECT (SELECT count(*) FROM codex.digest_items), (SELECT count(DISTINCT title) FROM codex.digest_items),
                        (SELECT sum(item_count) FROM codex.digests),
                        (SELECT count(*) FROM codex.digests AS d WHERE closed_at IS NULL
                             OR item_count <> (SELECT count(*) FROM codex.digest_items AS i WHERE i.digest_id = d.id))",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1), row.get(2), row.get(3))
    };
    assert_eq!((items, titles, counted, open), (280, 280, 280, 0));
    let unmatched: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM codex.digests AS d FULL JOIN public.user_notifications AS n ON n.id = d.notification_id
         WHERE d.id IS NULL OR n.id IS NULL",
        &[],
    );
    assert_eq!(unmatched, 0);
}
