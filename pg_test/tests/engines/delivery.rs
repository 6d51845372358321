//! Deliveries: the queue, leases, attempts, and what a user wants.

use crate::scene::{Scene, rows};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Uuid, fails_with, member, sqlstate, value};
use std::collections::BTreeSet;

/// A claimed notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub workspace: Uuid,
    pub notification: Uuid,
    pub attempt: i32,
    pub token: Uuid,
}

/// Sends one by email.
pub fn send(client: &mut Client, workspace: Uuid, user: Uuid, priority: &str) -> Uuid {
    value(
        client,
        "SELECT codex.send_user_notification($1, $2, 'message', 'Title', 'Message', 'email', $3)",
        &[&workspace, &user, &priority],
    )
}

/// Claims up to `n` by email for an hour.
pub fn claim(client: &mut Client, n: i32) -> Vec<Claimed> {
    client
        .query(
            "SELECT workspace_id, notification_id, attempt, lease_token
             FROM codex.claim_notifications('email', 'test', $1, '1 hour')",
            &[&n],
        )
        .unwrap_or_else(|error| panic!("{}", codex_pg_test::Failure::from(&error)))
        .iter()
        .map(|row| Claimed {
            workspace: row.get(0),
            notification: row.get(1),
            attempt: row.get(2),
            token: row.get(3),
        })
        .collect()
}

pub fn complete(client: &mut Client, one: &Claimed) -> Result<(), codex_pg_test::postgres::Error> {
    client
        .execute(
            "SELECT codex.complete_delivery($1, $2, $3)",
            &[&one.workspace, &one.notification, &one.token],
        )
        .map(|_| ())
}

/// Whether it is tried again.
pub fn fail(
    client: &mut Client,
    one: &Claimed,
    permanent: bool,
) -> Result<bool, codex_pg_test::postgres::Error> {
    client
        .query_one(
            "SELECT codex.fail_delivery($1, $2, $3, 'no answer', permanent => $4) IS NOT NULL",
            &[&one.workspace, &one.notification, &one.token, &permanent],
        )
        .map(|row| row.get(0))
}

/// Status, reason, attempts, and the status that the notification shows.
fn state(admin: &mut Client, notification: Uuid) -> (String, Option<String>, i32, Option<String>) {
    let row = admin
        .query_one(
            "SELECT d.status, d.reason, d.attempts, n.delivery_status
             FROM codex.deliveries AS d
             JOIN public.user_notifications AS n ON n.id = d.notification_id
             WHERE d.notification_id = $1",
            &[&notification],
        )
        .unwrap();
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

fn stands(
    status: &str,
    reason: Option<&str>,
    attempts: i32,
    shown: Option<&str>,
) -> (String, Option<String>, i32, Option<String>) {
    (
        status.into(),
        reason.map(Into::into),
        attempts,
        shown.map(Into::into),
    )
}

#[test]
fn what_is_not_in_app_is_queued_however_it_is_inserted() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let more: Vec<Uuid> = (0..999)
        .map(|n| member(admin, scene.acme, &format!("{n}@acme.example")))
        .collect();
    let all = [more, vec![scene.anna]].concat();
    let sent: i64 = value(
        admin,
        "SELECT codex.send_user_notifications($1, $2, 'summary', 'T', 'M', 'push', 'high', p_idempotency_key => 'k')",
        &[&scene.acme, &all],
    );
    assert_eq!((sent, rows(admin, "codex.deliveries")), (1000, 1000));
    // Once more with the same key: nothing new.
    value::<i64>(
        admin,
        "SELECT codex.send_user_notifications($1, $2, 'summary', 'T', 'M', 'push', 'high', p_idempotency_key => 'k')",
        &[&scene.acme, &all],
    );
    for (channel, queued) in [
        ("in_app", 1000),
        ("email", 1001),
        ("slack", 1002),
        ("sms", 1003),
    ] {
        admin
            .execute(
                "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, channel, priority_level)
                 VALUES ($1, $2, 'message', 'T', 'M', $3, NULL)",
                &[&scene.acme, &scene.anna, &channel],
            )
            .unwrap();
        assert_eq!(rows(admin, "codex.deliveries"), queued, "{channel}");
    }
    let ranks: Vec<i64> = admin
        .query("SELECT count(*) FROM codex.deliveries WHERE workspace_id = $1 GROUP BY priority_rank ORDER BY priority_rank", &[&scene.acme])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(ranks, [1000, 3], "high, and normal where nothing is said");
}

#[test]
fn whoever_may_insert_a_notification_needs_no_privilege_on_the_queue() {
    let mut scene = Scene::new();
    let role = scene.db.role("plain");
    scene
        .admin
        .batch_execute(&format!(
            "ALTER ROLE {role} BYPASSRLS;
             GRANT INSERT, DELETE, SELECT ON public.user_notifications TO {role};
             GRANT USAGE ON SCHEMA codex TO {role}"
        ))
        .unwrap();
    let mut plain = scene.db.login(&role);
    plain
        .execute(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, channel)
             VALUES ($1, $2, 'message', 'T', 'M', 'sms')",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    let who: String = value(&mut plain, "SELECT current_user::text", &[]);
    assert_eq!(who, role, "the trigger's identity ends with the trigger");
    fails_with(plain.query("SELECT * FROM codex.deliveries", &[]), "42501");
    assert_eq!(rows(&mut scene.admin, "codex.deliveries"), 1);
    plain
        .execute("DELETE FROM public.user_notifications", &[])
        .unwrap();
    assert_eq!(rows(&mut scene.admin, "codex.deliveries"), 0);
    // The identity is put back after an error in the trigger, too.
    scene
        .admin
        .batch_execute(
            "ALTER TABLE codex.deliveries ADD CONSTRAINT nothing CHECK (false) NOT VALID",
        )
        .unwrap();
    let mut transaction = plain.transaction().unwrap();
    let mut point = transaction.savepoint("before").unwrap();
    fails_with(
        point.execute(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, channel)
             VALUES ($1, $2, 'message', 'T', 'M', 'sms')",
            &[&scene.acme, &scene.anna],
        ),
        "23514",
    );
    point.rollback().unwrap();
    let who: String = value(&mut transaction, "SELECT current_user::text", &[]);
    assert_eq!(who, role);
}

#[test]
fn a_delivery_goes_with_its_notification_and_with_its_workspace() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let one = send(admin, scene.acme, scene.anna, "normal");
    send(admin, scene.acme, scene.anna, "normal");
    send(admin, scene.bolt, scene.bob, "normal");
    admin
        .execute(
            "DELETE FROM public.user_notifications WHERE id = $1",
            &[&one],
        )
        .unwrap();
    assert_eq!(rows(admin, "codex.deliveries"), 2);
    admin
        .execute("DELETE FROM public.users WHERE id = $1", &[&scene.anna])
        .unwrap();
    assert_eq!(rows(admin, "codex.deliveries"), 1);
    admin
        .execute(
            "DELETE FROM public.workspaces WHERE id = $1",
            &[&scene.bolt],
        )
        .unwrap();
    assert_eq!(rows(admin, "codex.deliveries"), 0);
}

#[test]
fn the_most_urgent_go_first_and_then_what_is_due_longest() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let sent: Vec<Uuid> = ["low", "normal", "urgent", "high", "urgent"]
        .iter()
        .map(|priority| send(admin, scene.acme, scene.anna, priority))
        .collect();
    let order: Vec<Uuid> = (0..5).map(|_| claim(admin, 1)[0].notification).collect();
    assert_eq!(order, [sent[2], sent[4], sent[3], sent[1], sent[0]]);
    assert!(claim(admin, 1).is_empty());
}

#[test]
fn a_claim_says_what_to_send_to_whom_and_until_when_it_holds() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let alert: Uuid = value(
        admin,
        "SELECT codex.create_system_alert($1, 'error', 'high', 'T', 'D')",
        &[&scene.acme],
    );
    let id: Uuid = value(
        admin,
        "SELECT codex.send_user_notification($1, $2, 'alert', 'Down', 'The shop', 'slack', 'high', '/alerts', $3)",
        &[&scene.acme, &scene.anna, &alert],
    );
    let row = admin
        .query_one(
            "SELECT workspace_id, notification_id, user_id, notification_type, title, message, action_url, priority, attempt,
                    leased_until - clock_timestamp() BETWEEN interval '4 minutes' AND interval '5 minutes'
             FROM codex.claim_notifications('slack', 'worker 1', lease => '5 minutes')",
            &[],
        )
        .unwrap();
    assert_eq!(
        (
            row.get::<_, Uuid>(0),
            row.get::<_, Uuid>(1),
            row.get::<_, Uuid>(2)
        ),
        (scene.acme, id, scene.anna)
    );
    let texts: Vec<String> = (3..8).map(|place| row.get(place)).collect();
    assert_eq!(texts, ["alert", "Down", "The shop", "/alerts", "high"]);
    assert_eq!((row.get::<_, i32>(8), row.get::<_, bool>(9)), (1, true));
    let worker: String = value(admin, "SELECT worker FROM codex.deliveries", &[]);
    assert_eq!(worker, "worker 1");
}

#[test]
fn what_was_delivered_is_delivered_and_saying_so_twice_changes_nothing() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let id = send(admin, scene.acme, scene.anna, "normal");
    let claimed = claim(admin, 10);
    assert_eq!(claimed.len(), 1);
    assert_eq!(state(admin, id), stands("leased", None, 1, Some("pending")));
    admin
        .execute(
            "SELECT codex.complete_delivery($1, $2, $3, 'ref 7', 'ses')",
            &[&scene.acme, &id, &claimed[0].token],
        )
        .unwrap();
    assert_eq!(
        state(admin, id),
        stands("delivered", None, 1, Some("delivered"))
    );
    let finished: String = value(
        admin,
        "SELECT concat_ws(' ', d.finished_at, d.provider_reference, n.delivery_method)
         FROM codex.deliveries AS d JOIN public.user_notifications AS n ON n.id = d.notification_id",
        &[],
    );
    assert!(finished.ends_with(" ref 7 ses"), "{finished}");
    complete(admin, &claimed[0]).unwrap();
    let again: String = value(
        admin,
        "SELECT concat_ws(' ', d.finished_at, d.provider_reference, n.delivery_method)
         FROM codex.deliveries AS d JOIN public.user_notifications AS n ON n.id = d.notification_id",
        &[],
    );
    assert_eq!(again, finished);
    fails_with(fail(admin, &claimed[0], false), "55000");
}

#[test]
fn a_failure_waits_as_the_formula_says_and_ends_in_the_dead_letter() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let id = send(admin, scene.acme, scene.anna, "normal");
    for attempt in 1..=8 {
        admin
            .execute(
                "UPDATE codex.deliveries SET due_at = now() - interval '1 day'",
                &[],
            )
            .unwrap();
        let claimed = claim(admin, 1);
        assert_eq!(claimed[0].attempt, attempt);
        let again = fail(admin, &claimed[0], false).unwrap();
        assert_eq!(again, attempt < 8);
        assert_eq!(
            fail(admin, &claimed[0], false).unwrap(),
            again,
            "said twice"
        );
        if again {
            // finished_at is not set; last_error is; the wait is counted from the failure.
            let wait: i64 = codex_delivery::wait_after(attempt as u32, id.as_u128());
            let (least, most): (bool, bool) = {
                let row = admin
                    .query_one(
                        "SELECT due_at > clock_timestamp() + $1::float8 * interval '1 microsecond' - interval '1 minute',
                                due_at <= clock_timestamp() + $1::float8 * interval '1 microsecond'
                         FROM codex.deliveries",
                        &[&(wait as f64)],
                    )
                    .unwrap();
                (row.get(0), row.get(1))
            };
            assert!(least && most, "attempt {attempt}");
            assert!(claim(admin, 1).is_empty(), "not before it is due");
        }
    }
    assert_eq!(
        state(admin, id),
        stands("dead", Some("attempts"), 8, Some("failed"))
    );
    let error: String = value(admin, "SELECT last_error FROM codex.deliveries", &[]);
    assert_eq!(error, "no answer");
    admin
        .execute("SELECT codex.requeue_delivery($1, $2)", &[&scene.acme, &id])
        .unwrap();
    assert_eq!(
        state(admin, id),
        stands("waiting", None, 0, Some("pending"))
    );
    let claimed = claim(admin, 1);
    fails_with(
        admin.execute("SELECT codex.requeue_delivery($1, $2)", &[&scene.acme, &id]),
        "55000",
    );
    assert!(!fail(admin, &claimed[0], true).unwrap());
    assert_eq!(
        state(admin, id),
        stands("dead", Some("permanent"), 1, Some("bounced"))
    );
}

#[test]
fn a_provider_can_ask_for_more_patience() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    send(admin, scene.acme, scene.anna, "normal");
    let claimed = claim(admin, 1);
    let ahead: bool = value(
        admin,
        "SELECT codex.fail_delivery($1, $2, $3, 'slow down', '2 days')
                BETWEEN clock_timestamp() + interval '47 hours' AND clock_timestamp() + interval '48 hours'",
        &[&claimed[0].workspace, &claimed[0].notification, &claimed[0].token],
    );
    assert!(ahead);
}

#[test]
fn a_worker_whose_lease_ran_out_is_refused_once_somebody_took_notice() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let id = send(admin, scene.acme, scene.anna, "normal");
    let first = claim(admin, 1);
    let run_out =
        "UPDATE codex.deliveries SET due_at = now() - interval '1 second' WHERE status = 'leased'";
    admin.execute(run_out, &[]).unwrap();
    let second = claim(admin, 1);
    assert_eq!((second[0].notification, second[0].attempt), (id, 2));
    assert_ne!(second[0].token, first[0].token);
    for refused in [
        complete(admin, &first[0]),
        fail(admin, &first[0], false).map(|_| ()),
    ] {
        let failure = fails_with(refused, "55000");
        assert!(failure.message.contains(&id.to_string()), "{failure}");
    }
    // Nobody took notice of this one: what the worker says is true.
    admin.execute(run_out, &[]).unwrap();
    complete(admin, &second[0]).unwrap();
    assert_eq!(
        state(admin, id),
        stands("delivered", None, 2, Some("delivered"))
    );
}

#[test]
fn a_worker_that_dies_at_the_last_attempt_leaves_a_dead_letter() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let id = send(admin, scene.acme, scene.anna, "normal");
    admin
        .execute("UPDATE codex.deliveries SET attempts = 7", &[])
        .unwrap();
    let last = claim(admin, 1);
    assert_eq!(last[0].attempt, 8);
    admin
        .execute(
            "UPDATE codex.deliveries SET due_at = now() - interval '1 second'",
            &[],
        )
        .unwrap();
    let done: Vec<(String, i64)> = admin
        .query(
            "SELECT done, rows FROM codex.upkeep_notifications() WHERE rows > 0",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(
        done,
        [(
            "deliveries given up after their last attempt".to_string(),
            1
        )]
    );
    assert_eq!(
        state(admin, id),
        stands("dead", Some("attempts"), 8, Some("failed"))
    );
    fails_with(complete(admin, &last[0]), "55000");
}

#[test]
fn what_a_user_does_not_want_is_suppressed_and_the_types_own_wish_counts_first() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let wish = "SELECT codex.set_notification_preference($1, $2, 'email', $3, $4)";
    admin
        .execute(
            wish,
            &[&scene.acme, &scene.anna, &Some(false), &None::<&str>],
        )
        .unwrap();
    admin
        .execute(
            wish,
            &[&scene.acme, &scene.anna, &Some(true), &Some("alert")],
        )
        .unwrap();
    let send = |admin: &mut Client, kind: &str, channel: &str, priority: &str| -> Uuid {
        value(
            admin,
            "SELECT codex.send_user_notification($1, $2, $3, 'T', 'M', $4, $5)",
            &[&scene.acme, &scene.anna, &kind, &channel, &priority],
        )
    };
    let alert = send(admin, "alert", "email", "normal");
    let message = send(admin, "message", "email", "urgent");
    let push = send(admin, "message", "push", "normal");
    let claimed: BTreeSet<Uuid> = claim(admin, 10)
        .iter()
        .map(|one| one.notification)
        .collect();
    assert_eq!(claimed, BTreeSet::from([alert]));
    assert_eq!(
        state(admin, message),
        stands("suppressed", Some("preference"), 0, None)
    );
    assert_eq!(state(admin, push).0, "waiting");
    // The wish is forgotten, and the message asked for.
    admin
        .execute(
            wish,
            &[&scene.acme, &scene.anna, &None::<bool>, &None::<&str>],
        )
        .unwrap();
    admin
        .execute(
            "SELECT codex.requeue_delivery($1, $2)",
            &[&scene.acme, &message],
        )
        .unwrap();
    assert_eq!(claim(admin, 10)[0].notification, message);
    let inbox: i64 = value(
        admin,
        "SELECT count(*) FROM codex.inbox($1, $2)",
        &[&scene.acme, &scene.anna],
    );
    assert_eq!(
        inbox, 3,
        "what is not delivered is in the inbox all the same"
    );
}

#[test]
fn who_has_left_gets_nothing_and_what_has_expired_does_not_go_out() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let cleo = member(admin, scene.acme, "cleo@acme.example");
    let left = send(admin, scene.acme, cleo, "normal");
    let late: Uuid = value(
        admin,
        "SELECT codex.send_user_notification($1, $2, 'message', 'T', 'M', 'email', p_expires_at => now() - interval '1 hour')",
        &[&scene.acme, &scene.anna],
    );
    admin
        .execute(
            "DELETE FROM public.workspace_members WHERE user_id = $1",
            &[&cleo],
        )
        .unwrap();
    assert!(claim(admin, 10).is_empty());
    assert_eq!(
        state(admin, left),
        stands("suppressed", Some("not_a_member"), 0, None)
    );
    assert_eq!(
        state(admin, late),
        stands("suppressed", Some("expired"), 0, None)
    );
}

#[test]
fn quiet_hours_go_by_the_clock_of_the_users_zone_and_urgent_messages_go_out() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    for zone in [
        "UTC",
        "Asia/Kathmandu",
        "America/Los_Angeles",
        "Pacific/Kiritimati",
    ] {
        // From an hour ago until in two hours there, so that it may be over midnight, or not.
        admin
            .execute(
                "SELECT codex.set_quiet_hours($1, $2,
                     (now() AT TIME ZONE $3 - interval '1 hour')::time(0),
                     (now() AT TIME ZONE $3 + interval '2 hours')::time(0), $3)",
                &[&scene.acme, &scene.anna, &zone],
            )
            .unwrap();
        let waits = send(admin, scene.acme, scene.anna, "high");
        let urgent = send(admin, scene.acme, scene.anna, "urgent");
        let claimed = claim(admin, 10);
        assert_eq!(claimed.len(), 1, "{zone}");
        assert_eq!(claimed[0].notification, urgent);
        assert_eq!(
            state(admin, waits),
            stands("waiting", Some("quiet_hours"), 0, Some("pending"))
        );
        // The end on the wall, within a second of what Postgres makes of it.
        let exact: bool = value(
            admin,
            "SELECT (d.due_at AT TIME ZONE $2)::time = q.ends_at
                    AND d.due_at BETWEEN now() + interval '1 hour 59 minutes' AND now() + interval '2 hours 1 second'
             FROM codex.deliveries AS d, codex.quiet_hours AS q
             WHERE d.notification_id = $1",
            &[&waits, &zone],
        );
        assert!(exact, "{zone}");
        admin
            .execute(
                "UPDATE codex.deliveries SET due_at = now() WHERE notification_id = $1",
                &[&waits],
            )
            .unwrap();
        admin
            .execute(
                "SELECT codex.set_quiet_hours($1, $2)",
                &[&scene.acme, &scene.anna],
            )
            .unwrap();
        let claimed = claim(admin, 10);
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].notification, waits);
        assert_eq!(claimed[0].attempt, 1, "to be put off is no attempt");
    }
}

#[test]
fn a_time_zone_has_to_be_in_the_list_and_one_that_is_gone_counts_as_utc() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let set = "SELECT codex.set_quiet_hours($1, $2, '22:00', '07:00', $3)";
    for zone in ["UTC+2", "Mars/Olympus", "", "foo", "<+02>-2"] {
        let failure = fails_with(
            admin.execute(set, &[&scene.acme, &scene.anna, &zone]),
            "22023",
        );
        assert_eq!(failure.message, format!("time_zone is \"{zone}\""));
        let written = admin.execute(
            "INSERT INTO codex.quiet_hours (workspace_id, user_id, starts_at, ends_at, time_zone) VALUES ($1, $2, '22:00', '07:00', $3)",
            &[&scene.acme, &scene.anna, &zone],
        );
        fails_with(written, "22023");
    }
    admin
        .execute(set, &[&scene.acme, &scene.anna, &"Europe/Berlin"])
        .unwrap();
    fails_with(
        admin.execute("UPDATE codex.quiet_hours SET time_zone = 'UTC+2'", &[]),
        "22023",
    );
    // As in a database that was restored where the zone is not known.
    admin
        .execute(
            "SELECT codex.set_quiet_hours($1, $2, (now() AT TIME ZONE 'UTC' - interval '1 hour')::time, (now() AT TIME ZONE 'UTC' + interval '1 hour')::time, 'UTC')",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    admin
        .batch_execute(
            "SET session_replication_role = replica;
             UPDATE codex.quiet_hours SET time_zone = 'Gone/Forever';
             RESET session_replication_role",
        )
        .unwrap();
    let id = send(admin, scene.acme, scene.anna, "normal");
    assert!(claim(admin, 1).is_empty());
    assert_eq!(state(admin, id).1.as_deref(), Some("quiet_hours"));
}

#[test]
fn a_claim_passes_many_that_may_not_go_out() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let cleo = member(admin, scene.acme, "cleo@acme.example");
    for _ in 0..100 {
        send(admin, scene.acme, cleo, "high");
    }
    let wanted = send(admin, scene.acme, scene.anna, "high");
    admin
        .execute(
            "SELECT codex.set_notification_preference($1, $2, 'email', false)",
            &[&scene.acme, &cleo],
        )
        .unwrap();
    let claimed = claim(admin, 1);
    assert_eq!(
        claimed.len(),
        1,
        "nothing is only nothing when nothing is due"
    );
    assert_eq!(claimed[0].notification, wanted);
    let suppressed: i64 = value(
        admin,
        "SELECT count(*) FROM codex.deliveries WHERE status = 'suppressed' AND reason = 'preference'",
        &[],
    );
    assert_eq!(suppressed, 100);
}

#[test]
fn a_service_claims_in_its_workspace_only_and_a_member_not_at_all() {
    let mut scene = Scene::new();
    let acme = send(&mut scene.admin, scene.acme, scene.anna, "normal");
    let bolt = send(&mut scene.admin, scene.bolt, scene.bob, "normal");
    for kind in ["member", "service"] {
        let role = scene.db.role(kind);
        scene
            .admin
            .batch_execute(&format!("SELECT codex.grant_{kind}_role('{role}')"))
            .unwrap();
    }
    let mut anna = scene.db.login("member");
    let mut transaction = anna.transaction().unwrap();
    transaction
        .execute(
            "SELECT codex.enter_workspace($1, $2)",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    fails_with(
        transaction.query("SELECT codex.claim_notifications('email', 'w')", &[]),
        "42501",
    );
    drop(transaction);

    let mut service = scene.db.login("service");
    let failure = fails_with(
        service.query("SELECT codex.claim_notifications('email', 'w')", &[]),
        "42501",
    );
    assert_eq!(failure.message, "no workspace is entered in this session");
    service
        .execute(
            "SELECT set_config('app.current_workspace_id', $1::uuid::text, false)",
            &[&scene.acme],
        )
        .unwrap();
    let claimed = claim(&mut service, 10);
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].notification, acme);
    complete(&mut service, &claimed[0]).unwrap();
    let foreign = claim(&mut scene.admin, 10);
    assert_eq!(foreign.len(), 1, "the owner works for all workspaces");
    assert_eq!(foreign[0].notification, bolt);
    let refused = fails_with(complete(&mut service, &foreign[0]), "42501");
    assert!(
        refused.message.contains("is not open to this session"),
        "{refused}"
    );
    // A row of another workspace under the name of one's own is not found.
    let smuggled = Claimed {
        workspace: scene.acme,
        ..foreign[0].clone()
    };
    fails_with(complete(&mut service, &smuggled), "P0002");
    // And the current workspace of the owner narrows, too.
    scene
        .admin
        .execute(
            "UPDATE codex.deliveries SET status = 'waiting', finished_at = NULL, due_at = now()",
            &[],
        )
        .unwrap();
    scene
        .admin
        .execute(
            "SELECT set_config('app.current_workspace_id', $1::uuid::text, false)",
            &[&scene.bolt],
        )
        .unwrap();
    let narrowed = claim(&mut scene.admin, 10);
    assert_eq!(narrowed.len(), 1);
    assert_eq!(narrowed[0].notification, bolt);
}

#[test]
fn eight_workers_deliver_a_thousand_each_exactly_once() {
    let mut scene = Scene::new();
    scene
        .admin
        .execute(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, channel, priority_level)
             SELECT $1, $2, 'message', 'T', 'M', 'email', (ARRAY['urgent', 'high', 'normal', 'low'])[1 + g % 4]
             FROM generate_series(1, 1000) AS g",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    let delivered: Vec<Vec<Uuid>> = scene.db.parallel(8, |number, worker| {
        let mut done = Vec::new();
        loop {
            let claimed = claim(worker, 7 + number as i32);
            if claimed.is_empty() {
                return done;
            }
            for one in claimed {
                complete(worker, &one).unwrap();
                done.push(one.notification);
            }
        }
    });
    let all: Vec<Uuid> = delivered.concat();
    let different: BTreeSet<Uuid> = all.iter().copied().collect();
    assert_eq!((all.len(), different.len()), (1000, 1000));
    let finished: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM codex.deliveries AS d JOIN public.user_notifications AS n ON n.id = d.notification_id
         WHERE d.status = 'delivered' AND d.attempts = 1 AND n.delivery_status = 'delivered'",
        &[],
    );
    assert_eq!(finished, 1000);
}

#[test]
fn workers_that_vanish_lose_nothing_and_nobody_completes_what_another_has() {
    let mut scene = Scene::new();
    scene
        .admin
        .execute(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, channel)
             SELECT $1, $2, 'message', 'T', 'M', 'email' FROM generate_series(1, 200) AS g",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    // Every worker lets leases run out under the hands of all others, and says done whenever it can.
    let completed: Vec<Vec<Uuid>> = scene.db.parallel(8, |number, worker| {
        let mut done = Vec::new();
        for round in 0.. {
            let claimed = claim(worker, 5);
            if claimed.is_empty() {
                let open: i64 = value(
                    worker,
                    "SELECT count(*) FROM codex.deliveries WHERE status IN ('waiting', 'leased')",
                    &[],
                );
                if open == 0 {
                    return done;
                }
            }
            if round < 3 && number % 2 == 0 {
                worker
                    .execute(
                        "UPDATE codex.deliveries SET due_at = now() - interval '1 second'
                         WHERE ctid IN (SELECT ctid FROM codex.deliveries WHERE status = 'leased' LIMIT 20 FOR UPDATE SKIP LOCKED)",
                        &[],
                    )
                    .unwrap();
            }
            for one in claimed {
                match complete(worker, &one) {
                    Ok(()) => done.push(one.notification),
                    Err(error) => assert_eq!(sqlstate(&error), "55000"),
                }
            }
        }
        done
    });
    let all: Vec<Uuid> = completed.concat();
    let different: BTreeSet<Uuid> = all.iter().copied().collect();
    assert_eq!(
        (all.len(), different.len()),
        (200, 200),
        "each was completed by one worker"
    );
}

#[test]
fn a_claim_touches_what_it_gives_however_many_wait() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    admin
        .batch_execute("SET session_replication_role = replica")
        .unwrap();
    admin
        .execute(
            "WITH sent AS (
                 INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, channel)
                 SELECT $1, $2, 'message', 'T', 'M', 'email' FROM generate_series(1, 20000)
                 RETURNING id
             )
             INSERT INTO codex.deliveries (workspace_id, notification_id, channel, priority_rank, due_at)
             SELECT $1, id, 'email', 2, now() - random() * interval '1 day' FROM sent",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    admin
        .batch_execute(
            "RESET session_replication_role; ANALYZE codex.deliveries, public.user_notifications",
        )
        .unwrap();
    let read = |admin: &mut Client| -> i64 {
        // What this session has read so far, its own statistics not yet reported included.
        value(
            admin,
            "SELECT pg_stat_get_xact_tuples_returned('codex.deliveries'::regclass) + pg_stat_get_xact_tuples_fetched('codex.deliveries'::regclass)",
            &[],
        )
    };
    for context in [
        "",
        "SELECT set_config('app.current_workspace_id', :w, true)",
    ] {
        for _ in 0..12 {
            // As often as it takes until the plan is kept.
            admin.batch_execute("BEGIN").unwrap();
            admin
                .batch_execute(&context.replace(":w", &format!("'{}'", scene.acme)))
                .unwrap();
            let before = read(admin);
            let claimed = admin
                .query(
                    "SELECT * FROM codex.claim_notifications('email', 'w', 20)",
                    &[],
                )
                .unwrap();
            let touched = read(admin) - before;
            admin.batch_execute("ROLLBACK").unwrap();
            assert_eq!(claimed.len(), 20);
            assert!(touched <= 200, "{touched} rows were touched for 20");
        }
    }
}

#[test]
fn announcements_are_off_unless_wanted_and_hold_ids_only() {
    let mut scene = Scene::new();
    let mut listener = scene.db.admin();
    listener
        .batch_execute("LISTEN codex_notifications")
        .unwrap();
    send(&mut scene.admin, scene.acme, scene.anna, "normal");
    scene
        .admin
        .batch_execute("SET raptorflow_codex.notify = on")
        .unwrap();
    let in_app: Uuid = value(
        &mut scene.admin,
        "SELECT codex.send_user_notification($1, $2, 'message', 'Secret', 'M')",
        &[&scene.acme, &scene.anna],
    );
    let email = send(&mut scene.admin, scene.acme, scene.anna, "normal");
    // A round trip: what is announced before it is there after it.
    listener.batch_execute("SELECT 1").unwrap();
    use codex_pg_test::postgres::fallible_iterator::FallibleIterator as _;
    let heard: Vec<String> = {
        let mut notifications = listener.notifications();
        let mut heard = Vec::new();
        let mut waiting = notifications.timeout_iter(std::time::Duration::from_secs(30));
        while heard.len() < 2 {
            match waiting.next().unwrap() {
                Some(one) => heard.push(one.payload().to_string()),
                None => panic!("only {heard:?} within half a minute"),
            }
        }
        heard
    };
    let expected: Vec<serde_json::Value> = [(in_app, "in_app"), (email, "email")]
        .iter()
        .map(|(id, channel)| {
            serde_json::json!({
                "workspace_id": scene.acme.to_string(), "user_id": scene.anna.to_string(),
                "notification_id": id.to_string(), "channel": channel,
            })
        })
        .collect();
    let read: Vec<serde_json::Value> = heard
        .iter()
        .map(|payload| serde_json::from_str(payload).unwrap())
        .collect();
    assert_eq!(read, expected, "none of what was sent before");
    let role = scene.db.role("service");
    scene
        .admin
        .batch_execute(&format!("SELECT codex.grant_service_role('{role}')"))
        .unwrap();
    let mut service = scene.db.login(&role);
    service.batch_execute("SELECT codex.uuid_v7()").unwrap();
    fails_with(
        service.batch_execute("SET raptorflow_codex.notify = on"),
        "42501",
    );
}

#[test]
fn a_database_that_stays_at_17_sends_as_before_and_says_what_is_missing() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    admin.batch_execute("SELECT codex.migrate(17)").unwrap();
    let acme = codex_pg_test::workspace(&mut admin, "Acme");
    let anna = member(&mut admin, acme, "anna@acme.example");
    let role = db.role("member");
    admin
        .batch_execute(&format!("SELECT codex.grant_member_role('{role}')"))
        .unwrap();
    send(&mut admin, acme, anna, "normal");
    for sql in [
        "SELECT codex.claim_notifications('email', 'w')".to_string(),
        "SELECT codex.upkeep_notifications()".to_string(),
        format!("SELECT codex.add_to_digest('{acme}', '{anna}', 'k', 'T', 'M')"),
        format!("SELECT codex.set_quiet_hours('{acme}', '{anna}')"),
        format!("SELECT codex.inbox('{acme}', '{anna}')"),
        format!("SELECT codex.mark_inbox('{acme}', '{anna}', 'seen')"),
    ] {
        let failure = fails_with(admin.query(&sql, &[]), "55000");
        assert!(
            failure.hint.contains("codex.migrate()"),
            "{sql}: {failure:?}"
        );
    }
    admin.batch_execute("SELECT codex.migrate()").unwrap();
    assert_eq!(
        rows(&mut admin, "codex.deliveries"),
        0,
        "what was sent before is not queued"
    );
    send(&mut admin, acme, anna, "normal");
    assert_eq!(claim(&mut admin, 10).len(), 1);
    let may: bool = value(
        &mut admin,
        "SELECT has_column_privilege($1, 'public.user_notifications', 'archived_at', 'UPDATE')",
        &[&role],
    );
    assert!(may, "a member that was granted before may archive");
}
