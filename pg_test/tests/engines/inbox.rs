//! The inbox: pages, counts, marks, and what is deleted in time.

use crate::dice::{Dice, seed};
use crate::scene::{Scene, rows};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Uuid, fails_with, value};
use std::collections::BTreeMap;

fn fill(admin: &mut Client, workspace: Uuid, user: Uuid, count: i32) -> Vec<Uuid> {
    // Three to a moment, so that pages are cut between rows of the same time.
    let mut rows: Vec<(i64, Uuid)> = admin
        .query(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, created_at)
             SELECT $1, $2, 'message', 'T', 'M', now() - interval '1 hour' + g / 3 * interval '1 second'
             FROM generate_series(1, $3::integer) AS g
             RETURNING extract(epoch FROM created_at)::bigint, id",
            &[&workspace, &user, &count],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    rows.sort_unstable();
    rows.into_iter().rev().map(|(_, id)| id).collect()
}

fn page(
    client: &mut Client,
    of: (Uuid, Uuid),
    size: i32,
    after: Option<&str>,
    folder: &str,
) -> Vec<(Uuid, String)> {
    client
        .query(
            "SELECT id, cursor FROM codex.inbox($1, $2, $3, $4, $5)",
            &[&of.0, &of.1, &size, &after, &folder],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}

fn counts(client: &mut Client, of: (Uuid, Uuid)) -> (i64, i64) {
    let row = client
        .query_one(
            "SELECT unread, unseen FROM codex.inbox_counts($1, $2)",
            &[&of.0, &of.1],
        )
        .unwrap();
    (row.get(0), row.get(1))
}

fn mark(client: &mut Client, of: (Uuid, Uuid), mark: &str, ids: &[Uuid]) -> i64 {
    value(
        client,
        "SELECT codex.mark_notifications($1, $2, $3, $4)",
        &[&of.0, &of.1, &mark, &ids],
    )
}

#[test]
fn pages_go_through_everything_once_whatever_comes_in_meanwhile() {
    let mut scene = Scene::new();
    let of = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let all = fill(admin, of.0, of.1, 50);
    for size in [1, 7, 100] {
        let mut read = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let rows = page(admin, of, size, cursor.as_deref(), "inbox");
            let Some(last) = rows.last() else { break };
            cursor = Some(last.1.clone());
            read.extend(rows.iter().map(|row| row.0));
            if read.len() == 14 {
                fill(admin, of.0, of.1, 0);
                value::<Uuid>(
                    admin,
                    "SELECT codex.send_user_notification($1, $2, 'message', 'New', 'M')",
                    &[&of.0, &of.1],
                );
            }
        }
        let expected: Vec<Uuid> = read.iter().copied().filter(|id| all.contains(id)).collect();
        assert_eq!(expected, all, "pages of {size}");
    }
    for unreadable in [
        "",
        "x",
        "1.x",
        "1",
        "99999999999999999999.",
        "1.5a000000-0000-4000-8000-00000000000",
    ] {
        fails_with(
            admin.query(
                "SELECT codex.inbox($1, $2, after => $3)",
                &[&of.0, &of.1, &unreadable],
            ),
            "22023",
        );
    }
}

#[test]
fn what_is_undated_comes_last_and_what_has_expired_not_at_all() {
    let mut scene = Scene::new();
    let of = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let dated = fill(admin, of.0, of.1, 1)[0];
    let undated: Uuid = value(
        admin,
        "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, created_at)
         VALUES ($1, $2, 'message', 'T', 'M', NULL) RETURNING id",
        &[&of.0, &of.1],
    );
    value::<Uuid>(
        admin,
        "SELECT codex.send_user_notification($1, $2, 'message', 'T', 'M', p_expires_at => now())",
        &[&of.0, &of.1],
    );
    let first = page(admin, of, 1, None, "inbox");
    let second = page(admin, of, 1, Some(&first[0].1), "inbox");
    assert_eq!((first[0].0, second[0].0), (dated, undated));
    assert!(page(admin, of, 1, Some(&second[0].1), "inbox").is_empty());
    assert_eq!(counts(admin, of), (2, 2));
}

#[test]
fn counts_come_from_the_index_and_pages_from_theirs() {
    let mut scene = Scene::new();
    let of = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    fill(admin, of.0, of.1, 20_000);
    fill(admin, of.0, scene.bob, 40_000);
    admin
        .execute(
            "UPDATE public.user_notifications SET is_read = true, read_at = now()
             WHERE id NOT IN (SELECT id FROM public.user_notifications WHERE user_id = $1 ORDER BY created_at DESC LIMIT 30)",
            &[&of.1],
        )
        .unwrap();
    admin
        .batch_execute("VACUUM ANALYZE public.user_notifications")
        .unwrap();
    let read = |admin: &mut Client| -> i64 {
        value(
            admin,
            "SELECT pg_stat_get_xact_tuples_returned('public.user_notifications'::regclass) + pg_stat_get_xact_tuples_fetched('public.user_notifications'::regclass)",
            &[],
        )
    };
    for sql in [
        "SELECT * FROM codex.inbox_counts($1, $2)",
        "SELECT * FROM codex.inbox($1, $2, 20)",
    ] {
        for _ in 0..12 {
            admin.batch_execute("BEGIN").unwrap();
            let before = read(admin);
            admin.query(sql, &[&of.0, &of.1]).unwrap();
            let touched = read(admin) - before;
            admin.batch_execute("COMMIT").unwrap();
            assert!(touched <= 200, "{sql}: {touched} rows");
        }
    }
    assert_eq!(counts(admin, of), (30, 30));
}

/// What is known of a notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    seen: bool,
    read: bool,
    archived: bool,
}

#[test]
fn random_marks_do_what_the_model_says() {
    let mut dice = Dice::new(seed("inbox model"), 0);
    let mut scene = Scene::new();
    let of = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let ids = fill(admin, of.0, of.1, 12);
    let times: Vec<chrono::DateTime<chrono::Utc>> = ids
        .iter()
        .map(|id| {
            value(
                admin,
                "SELECT created_at FROM public.user_notifications WHERE id = $1",
                &[id],
            )
        })
        .collect();
    let mut model: BTreeMap<Uuid, Marks> = ids.iter().map(|id| (*id, Marks::default())).collect();
    for _ in 0..300 {
        let made = *dice.pick(&["seen", "read", "unread", "archived", "unarchived", "old"]);
        let some: Vec<Uuid> = (0..1 + dice.below(4)).map(|_| *dice.pick(&ids)).collect();
        let up_to = matches!(made, "seen" | "read" | "archived") && dice.once_in(6);
        let limit = *dice.pick(&times);
        let mut changed = 0;
        for (id, time) in ids.iter().zip(&times) {
            let chosen = if up_to {
                *time <= limit
            } else {
                some.contains(id)
            };
            if !chosen {
                continue;
            }
            let marks = model.get_mut(id).unwrap();
            let before = *marks;
            match made {
                "seen" if !marks.read => marks.seen = true,
                "seen" => {}
                "read" if !marks.read => (marks.read, marks.seen) = (true, true),
                "read" => {}
                // The function of the first release, for one: it knows nothing of what is seen.
                "old" => marks.read |= *id == some[0],
                "unread" if marks.read && !marks.archived => {
                    (marks.read, marks.seen) = (false, true)
                }
                "unread" => {}
                "archived" if !marks.archived => {
                    *marks = Marks {
                        seen: true,
                        read: true,
                        archived: true,
                    }
                }
                "archived" => {}
                _ if marks.archived => (marks.archived, marks.seen) = (false, true),
                _ => {}
            }
            changed += i64::from(*marks != before);
        }
        if made == "old" {
            admin
                .execute("SELECT codex.mark_notification_as_read($1)", &[&some[0]])
                .unwrap();
        } else if up_to {
            let marked: i64 = value(
                admin,
                "SELECT codex.mark_inbox($1, $2, $3, $4)",
                &[&of.0, &of.1, &made, &limit],
            );
            assert_eq!(marked, changed, "{made} up to a time");
        } else {
            assert_eq!(mark(admin, of, made, &some), changed, "{made}");
        }
        for row in admin
            .query(
                "SELECT id, seen_at IS NOT NULL, is_read, archived_at IS NOT NULL, is_read = (read_at IS NOT NULL)
                 FROM public.user_notifications",
                &[],
            )
            .unwrap()
        {
            let marks = model[&row.get::<_, Uuid>(0)];
            assert_eq!(
                (row.get(1), row.get(2), row.get(3), row.get(4)),
                (marks.seen, marks.read, marks.archived, true),
                "after {made}"
            );
        }
        let unread = model.values().filter(|marks| !marks.read);
        let unseen = unread.clone().filter(|marks| !marks.seen).count();
        assert_eq!(counts(admin, of), (unread.count() as i64, unseen as i64));
        for (folder, archived) in [("inbox", false), ("archive", true)] {
            let shown: Vec<Uuid> = page(admin, of, 100, None, folder)
                .into_iter()
                .map(|row| row.0)
                .collect();
            let expected: Vec<Uuid> = ids
                .iter()
                .copied()
                .filter(|id| model[id].archived == archived)
                .collect();
            assert_eq!(shown, expected, "{folder}");
        }
    }
}

#[test]
fn the_first_time_of_a_mark_stays() {
    let mut scene = Scene::new();
    let of = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let id = fill(admin, of.0, of.1, 1)[0];
    assert_eq!(mark(admin, of, "seen", &[id]), 1);
    assert_eq!(mark(admin, of, "read", &[id, id]), 1);
    let times = "SELECT concat_ws(' ', seen_at, read_at) FROM public.user_notifications";
    let before: String = value(admin, times, &[]);
    for again in ["seen", "read", "archived"] {
        mark(admin, of, again, &[id]);
    }
    assert_eq!(value::<String>(admin, times, &[]), before);
}

#[test]
fn a_member_marks_the_own_ones_only() {
    let mut scene = Scene::new();
    let cleo = codex_pg_test::member(&mut scene.admin, scene.acme, "cleo@acme.example");
    let cleos = fill(&mut scene.admin, scene.acme, cleo, 1)[0];
    let own = fill(&mut scene.admin, scene.acme, scene.anna, 1)[0];
    let role = scene.db.role("member");
    scene
        .admin
        .batch_execute(&format!("SELECT codex.grant_member_role('{role}')"))
        .unwrap();
    let mut client = scene.db.login(&role);
    let (acme, anna) = (scene.acme, scene.anna);
    for context in [acme, anna] {
        let name = if context == acme { "workspace" } else { "user" };
        client
            .batch_execute(&format!(
                "SELECT set_config('app.current_{name}_id', '{context}', false)"
            ))
            .unwrap();
    }
    assert_eq!(page(&mut client, (acme, anna), 10, None, "inbox").len(), 1);
    assert!(page(&mut client, (acme, cleo), 10, None, "inbox").is_empty());
    assert_eq!(counts(&mut client, (acme, cleo)), (0, 0));
    assert_eq!(
        mark(&mut client, (acme, anna), "archived", &[own, cleos]),
        1
    );
    for sql in [
        "SELECT codex.mark_inbox($1, $2, 'read')",
        "SELECT codex.set_notification_preference($1, $2, 'email', false)",
        "SELECT codex.set_quiet_hours($1, $2, '22:00', '07:00', 'UTC')",
        "INSERT INTO codex.quiet_hours (workspace_id, user_id, starts_at, ends_at, time_zone) VALUES ($1, $2, '22:00', '07:00', 'UTC')",
    ] {
        fails_with(client.execute(sql, &[&acme, &cleo]), "42501");
        fails_with(client.execute(sql, &[&scene.bolt, &scene.bob]), "42501");
    }
    client
        .execute(
            "SELECT codex.set_quiet_hours($1, $2, '22:00', '07:00', 'UTC')",
            &[&acme, &anna],
        )
        .unwrap();
    assert_eq!(rows(&mut client, "codex.quiet_hours"), 1);
    assert_eq!(rows(&mut scene.admin, "codex.quiet_hours"), 1);
}

#[test]
fn upkeep_deletes_what_is_long_read_or_expired_in_batches_and_nothing_else() {
    let mut scene = Scene::new();
    let of = (scene.acme, scene.anna);
    let admin = &mut scene.admin;
    let ids = fill(admin, of.0, of.1, 10);
    for (id, set) in ids.iter().zip([
        "is_read = true, read_at = now() - interval '181 days'",
        "is_read = true, read_at = now() - interval '200 days'",
        "is_read = true, read_at = now() - interval '300 days', archived_at = now()",
        "is_read = true, read_at = now() - interval '179 days'",
        "expires_at = now() - interval '181 days'",
        "expires_at = now() - interval '179 days'",
        "expires_at = now() + interval '1 day'",
        "created_at = now() - interval '10 years'",
        "is_read = true, read_at = NULL",
    ]) {
        admin
            .execute(
                &format!("UPDATE public.user_notifications SET {set} WHERE id = $1"),
                &[id],
            )
            .unwrap();
    }
    let deleted = |admin: &mut Client| -> (i64, i64) {
        let rows = admin
            .query("SELECT rows FROM codex.upkeep_notifications(2) WHERE done LIKE '% notifications deleted' ORDER BY done DESC", &[])
            .unwrap();
        (rows[0].get(0), rows[1].get(0))
    };
    assert_eq!(deleted(admin), (2, 1));
    assert_eq!(deleted(admin), (1, 0));
    assert_eq!(deleted(admin), (0, 0));
    let left: Vec<Uuid> = admin
        .query("SELECT id FROM public.user_notifications", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let expected: Vec<Uuid> = [3, 5, 6, 7, 8, 9].iter().map(|place| ids[*place]).collect();
    assert_eq!(left.len(), expected.len());
    assert!(expected.iter().all(|id| left.contains(id)));
    admin
        .batch_execute("SET raptorflow_codex.keep_notifications_days = 0; UPDATE public.user_notifications SET is_read = true, read_at = '2000-01-01'")
        .unwrap();
    admin
        .query("SELECT codex.upkeep_notifications()", &[])
        .unwrap();
    assert_eq!(
        rows(admin, "public.user_notifications"),
        6,
        "0 keeps them for ever"
    );
}
