//! The queue of an agent's tasks: claims, leases, attempts.

use crate::scene::{Scene, rows};
use codex_pg_test::postgres::{Client, Error, GenericClient};
use codex_pg_test::{Database, Uuid, fails_with, sqlstate, value};
use std::collections::BTreeSet;

/// A claimed task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub workspace: Uuid,
    pub task: Uuid,
    pub agent: Uuid,
    pub priority: String,
    pub attempt: i32,
    pub token: Uuid,
}

/// An agent of that name.
pub fn agent(admin: &mut Client, name: &str) -> Uuid {
    value(
        admin,
        "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ($1, 'creative') RETURNING id",
        &[&name],
    )
}

/// An assignment of an agent in a workspace.
pub fn assignment(admin: &mut Client, workspace: Uuid, agent: Uuid) -> Uuid {
    value(
        admin,
        "INSERT INTO public.agent_assignments (workspace_id, agent_id) VALUES ($1, $2) RETURNING id",
        &[&workspace, &agent],
    )
}

/// Puts a task into the queue of an assignment.
pub fn enqueue(
    client: &mut impl GenericClient,
    workspace: Uuid,
    assignment: Uuid,
    priority: &str,
) -> Uuid {
    value(
        client,
        "SELECT codex.enqueue_agent_task($1, $2, 'write', '{\"about\": \"boots\"}', $3)",
        &[&workspace, &assignment, &priority],
    )
}

/// Claims up to `n` for an hour.
pub fn claim(client: &mut Client, n: i32, agent: Option<Uuid>) -> Vec<Claimed> {
    client
        .query(
            "SELECT workspace_id, task_id, assigned_agent_id, priority, attempt, lease_token
             FROM codex.claim_agent_tasks('test', $1, '1 hour', $2)",
            &[&n, &agent],
        )
        .unwrap_or_else(|error| panic!("{}", codex_pg_test::Failure::from(&error)))
        .iter()
        .map(|row| Claimed {
            workspace: row.get(0),
            task: row.get(1),
            agent: row.get(2),
            priority: row.get(3),
            attempt: row.get(4),
            token: row.get(5),
        })
        .collect()
}

pub fn complete(client: &mut Client, one: &Claimed) -> Result<(), Error> {
    client
        .execute(
            "SELECT codex.complete_agent_task($1, $2, $3, '{\"words\": 90}')",
            &[&one.workspace, &one.task, &one.token],
        )
        .map(|_| ())
}

/// Whether it is tried again.
pub fn fail(client: &mut Client, one: &Claimed, permanent: bool) -> Result<bool, Error> {
    client
        .query_one(
            "SELECT codex.fail_agent_task($1, $2, $3, 'no answer', permanent => $4) IS NOT NULL",
            &[&one.workspace, &one.task, &one.token, &permanent],
        )
        .map(|row| row.get(0))
}

pub fn heartbeat(client: &mut Client, one: &Claimed) -> Result<(), Error> {
    client
        .execute(
            "SELECT codex.heartbeat_agent_task($1, $2, $3, '2 hours')",
            &[&one.workspace, &one.task, &one.token],
        )
        .map(|_| ())
}

/// Status, reason and attempts.
pub fn state(admin: &mut Client, task: Uuid) -> (String, Option<String>, i32) {
    let row = admin
        .query_one(
            "SELECT status, reason, attempts FROM codex.agent_tasks WHERE id = $1",
            &[&task],
        )
        .unwrap();
    (row.get(0), row.get(1), row.get(2))
}

fn stands(status: &str, reason: Option<&str>, attempts: i32) -> (String, Option<String>, i32) {
    (status.into(), reason.map(Into::into), attempts)
}

const RUN_OUT: &str =
    "UPDATE codex.agent_tasks SET due_at = now() - interval '1 second' WHERE status = 'leased'";

/// Acme with an agent and its assignment.
fn scene() -> (Scene, Uuid, Uuid) {
    let mut scene = Scene::new();
    let scribe = agent(&mut scene.admin, "Scribe");
    let work = assignment(&mut scene.admin, scene.acme, scribe);
    (scene, scribe, work)
}

#[test]
fn a_payload_comes_to_the_worker_as_it_was_however_deep_and_exact() {
    let (mut scene, _, assignment) = scene();
    let admin = &mut scene.admin;
    let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
    let long = format!("\"{}\"", "x".repeat(100_000));
    let payloads = [
        deep.as_str(),
        "1.00000000000000000000000000000000000001",
        "null",
        &long,
    ];
    for payload in payloads {
        admin
            .execute(
                "SELECT codex.enqueue_agent_task($1, $2, 'write', $3::text::jsonb)",
                &[&scene.acme, &assignment, &payload],
            )
            .unwrap();
    }
    let claimed: Vec<String> = admin
        .query(
            "SELECT payload::text FROM codex.claim_agent_tasks('test', 10)",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(claimed, payloads);
}

#[test]
fn a_task_is_queued_once_a_key_and_counted_in_its_assignment() {
    let (mut scene, scribe, work) = scene();
    let admin = &mut scene.admin;
    let call = "SELECT codex.enqueue_agent_task($1, $2, $3, '[1]', idempotency_key => 'monday')";
    let first: Uuid = value(admin, call, &[&scene.acme, &work, &"write"]);
    let again: Uuid = value(admin, call, &[&scene.acme, &work, &"write"]);
    assert_eq!(first, again);
    fails_with(admin.query(call, &[&scene.acme, &work, &"read"]), "22023");
    let kept: (Uuid, i32, String) = {
        let row = admin
            .query_one(
                "SELECT agent_id, priority_rank, payload::text FROM codex.agent_tasks",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1), row.get(2))
    };
    assert_eq!(kept, (scribe, 2, "[1]".to_string()));
    let counted: i32 = value(
        admin,
        "SELECT tasks_assigned FROM public.agent_assignments",
        &[],
    );
    assert_eq!(counted, 1);
    // Without a priority, that of the assignment; paused is no reason to queue nothing, ended is.
    for (status, outcome) in [
        ("paused", Ok(1)),
        ("completed", Err("55000")),
        ("failed", Err("55000")),
        ("archived", Err("55000")),
    ] {
        admin
            .execute(
                "UPDATE public.agent_assignments SET assignment_status = $1, priority_level = 'high'",
                &[&status],
            )
            .unwrap();
        let queued = admin.query_one(
            "SELECT codex.enqueue_agent_task($1, $2, 'write')",
            &[&scene.acme, &work],
        );
        match outcome {
            Ok(rank) => {
                let id: Uuid = queued.unwrap().get(0);
                let is: i32 = value(
                    admin,
                    "SELECT priority_rank FROM codex.agent_tasks WHERE id = $1",
                    &[&id],
                );
                assert_eq!(is, rank);
            }
            Err(state) => drop(fails_with(queued, state)),
        }
    }
    let failure = fails_with(
        admin.query(
            "SELECT codex.enqueue_agent_task($1, $2, 'write')",
            &[&scene.bolt, &work],
        ),
        "23503",
    );
    assert!(
        failure.message.contains("no such assignment in workspace"),
        "{failure}"
    );
    assert_eq!(rows(admin, "codex.agent_tasks"), 2);
}

#[test]
fn critical_tasks_go_first_and_then_what_is_due_longest() {
    let (mut scene, scribe, work) = scene();
    let admin = &mut scene.admin;
    let other = agent(admin, "Eye");
    let watch = assignment(admin, scene.acme, other);
    for priority in ["low", "critical", "normal", "high"] {
        enqueue(admin, scene.acme, work, priority);
        enqueue(admin, scene.acme, watch, priority);
    }
    admin
        .execute(
            "UPDATE codex.agent_tasks SET due_at = due_at + interval '1 hour' WHERE agent_id = $1 AND priority_rank = 1",
            &[&scribe],
        )
        .unwrap();
    let mine: Vec<String> = claim(admin, 10, Some(scribe))
        .into_iter()
        .inspect(|one| assert_eq!((one.agent, one.attempt), (scribe, 1)))
        .map(|one| one.priority)
        .collect();
    assert_eq!(mine, ["critical", "normal", "low"], "one is not due yet");
    let others: Vec<Claimed> = claim(admin, 2, None);
    assert_eq!(others[0].priority, "critical");
    assert_eq!(others[1].priority, "high");
    assert!(others.iter().all(|one| one.agent == other));
    assert_ne!(others[0].token, others[1].token, "a token each");
}

#[test]
fn what_is_done_is_done_and_saying_so_twice_changes_nothing() {
    let (mut scene, _, work) = scene();
    let admin = &mut scene.admin;
    let task = enqueue(admin, scene.acme, work, "normal");
    let claimed = claim(admin, 1, None);
    heartbeat(admin, &claimed[0]).unwrap();
    let longer: bool = value(
        admin,
        "SELECT due_at > clock_timestamp() + interval '119 minutes' FROM codex.agent_tasks",
        &[],
    );
    assert!(longer, "a heartbeat prolongs the lease");
    complete(admin, &claimed[0]).unwrap();
    let before: String = value(admin, "SELECT t::text FROM codex.agent_tasks AS t", &[]);
    complete(admin, &claimed[0]).unwrap();
    let after: String = value(admin, "SELECT t::text FROM codex.agent_tasks AS t", &[]);
    assert_eq!(before, after);
    assert_eq!(state(admin, task), stands("done", None, 1));
    for refused in [
        fail(admin, &claimed[0], false).map(|_| ()),
        heartbeat(admin, &claimed[0]),
        admin
            .execute(
                "SELECT codex.cancel_agent_task($1, $2)",
                &[&scene.acme, &task],
            )
            .map(|_| ()),
        admin
            .execute(
                "SELECT codex.requeue_agent_task($1, $2)",
                &[&scene.acme, &task],
            )
            .map(|_| ()),
    ] {
        fails_with(refused, "55000");
    }
    let none = Claimed {
        task: Uuid::from_u128(7),
        ..claimed[0].clone()
    };
    fails_with(complete(admin, &none), "P0002");
}

#[test]
fn a_failure_waits_longer_each_time_and_ends_dead() {
    let (mut scene, _, work) = scene();
    let admin = &mut scene.admin;
    let task = enqueue(admin, scene.acme, work, "normal");
    for attempt in 1..=5_i32 {
        admin
            .execute("UPDATE codex.agent_tasks SET due_at = now()", &[])
            .unwrap();
        let claimed = claim(admin, 1, None);
        assert_eq!(claimed[0].attempt, attempt);
        assert_eq!(fail(admin, &claimed[0], false).unwrap(), attempt < 5);
        assert_eq!(
            fail(admin, &claimed[0], false).unwrap(),
            attempt < 5,
            "twice"
        );
        if attempt < 5 {
            // Half of 30 seconds, doubled each time, is fixed, the other half spread.
            let whole = 30.0 * f64::from(1 << (attempt - 1));
            let waits: f64 = value(
                admin,
                "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM codex.agent_tasks",
                &[],
            );
            assert!(
                waits <= whole && waits > whole / 2.0 - 10.0,
                "attempt {attempt} waits {waits} of {whole}"
            );
            assert!(claim(admin, 1, None).is_empty(), "not before it is due");
        }
    }
    assert_eq!(state(admin, task), stands("dead", Some("attempts"), 5));
    admin
        .execute(
            "SELECT codex.requeue_agent_task($1, $2)",
            &[&scene.acme, &task],
        )
        .unwrap();
    assert_eq!(state(admin, task), stands("waiting", None, 0));
    let claimed = claim(admin, 1, None);
    assert!(!fail(admin, &claimed[0], true).unwrap());
    assert_eq!(state(admin, task), stands("dead", Some("permanent"), 1));
    admin
        .execute(
            "SELECT codex.requeue_agent_task($1, $2)",
            &[&scene.acme, &task],
        )
        .unwrap();
    let claimed = claim(admin, 1, None);
    let patient: bool = value(
        admin,
        "SELECT codex.fail_agent_task($1, $2, $3, 'budget used up', '2 days')
                BETWEEN clock_timestamp() + interval '47 hours' AND clock_timestamp() + interval '48 hours'",
        &[&scene.acme, &task, &claimed[0].token],
    );
    assert!(patient);
}

#[test]
fn a_worker_whose_lease_ran_out_is_refused_once_somebody_took_notice() {
    let (mut scene, _, work) = scene();
    let admin = &mut scene.admin;
    let task = enqueue(admin, scene.acme, work, "normal");
    let first = claim(admin, 1, None);
    admin.execute(RUN_OUT, &[]).unwrap();
    let second = claim(admin, 1, None);
    assert_eq!((second[0].task, second[0].attempt), (task, 2));
    for refused in [
        complete(admin, &first[0]),
        heartbeat(admin, &first[0]),
        fail(admin, &first[0], false).map(|_| ()),
    ] {
        let failure = fails_with(refused, "55000");
        assert!(failure.message.contains(&task.to_string()), "{failure}");
    }
    // Nobody took notice of this one: it can be taken up again.
    admin.execute(RUN_OUT, &[]).unwrap();
    heartbeat(admin, &second[0]).unwrap();
    complete(admin, &second[0]).unwrap();
    assert_eq!(state(admin, task), stands("done", None, 2));
}

#[test]
fn time_puts_back_gives_up_and_deletes() {
    let (mut scene, _, work) = scene();
    let admin = &mut scene.admin;
    let tasks: Vec<Uuid> = (0..4)
        .map(|_| enqueue(admin, scene.acme, work, "normal"))
        .collect();
    admin
        .execute(
            "UPDATE codex.agent_tasks SET attempts = 4 WHERE id = $1",
            &[&tasks[0]],
        )
        .unwrap();
    let claimed = claim(admin, 4, None);
    let by_task = |task: Uuid| claimed.iter().find(|one| one.task == task).unwrap();
    complete(admin, by_task(tasks[1])).unwrap();
    complete(admin, by_task(tasks[2])).unwrap();
    admin.execute(RUN_OUT, &[]).unwrap();
    admin
        .execute(
            "UPDATE codex.agent_tasks SET finished_at = now() - interval '91 days' WHERE id = $1",
            &[&tasks[1]],
        )
        .unwrap();
    let done: Vec<(String, i64)> = admin
        .query(
            "SELECT work, rows FROM codex.run_maintenance() WHERE rows > 0",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let has_to_be = [
        ("tasks put back after their lease ran out", 1),
        ("tasks given up after their last attempt", 1),
        ("finished tasks deleted", 1),
    ]
    .map(|(work, rows)| (work.to_string(), rows));
    assert_eq!(done, has_to_be);
    assert_eq!(state(admin, tasks[0]), stands("dead", Some("attempts"), 5));
    assert_eq!(state(admin, tasks[3]), stands("waiting", None, 1));
    assert_eq!(rows(admin, "codex.agent_tasks"), 3);
    fails_with(complete(admin, by_task(tasks[3])), "55000");
}

#[test]
fn a_cancelled_task_is_not_claimed_and_its_worker_learns_of_it() {
    let (mut scene, _, work) = scene();
    let admin = &mut scene.admin;
    let leased = enqueue(admin, scene.acme, work, "critical");
    let claimed = claim(admin, 1, None);
    let waiting = enqueue(admin, scene.acme, work, "normal");
    for task in [leased, waiting, waiting] {
        admin
            .execute(
                "SELECT codex.cancel_agent_task($1, $2)",
                &[&scene.acme, &task],
            )
            .unwrap();
    }
    assert!(claim(admin, 5, None).is_empty());
    fails_with(heartbeat(admin, &claimed[0]), "55000");
    fails_with(complete(admin, &claimed[0]), "55000");
    assert_eq!(
        state(admin, leased),
        stands("cancelled", Some("cancelled"), 1)
    );
    assert_eq!(
        state(admin, waiting),
        stands("cancelled", Some("cancelled"), 0)
    );
}

#[test]
fn an_agent_that_may_not_work_gets_nothing_and_what_has_ended_is_cancelled() {
    let (mut scene, scribe, work) = scene();
    let admin = &mut scene.admin;
    let eye = agent(admin, "Eye");
    let ended = assignment(admin, scene.acme, eye);
    let ear = agent(admin, "Ear");
    let good = assignment(admin, scene.acme, ear);
    // More than a claim looks at in one go, before the one that may be done.
    let paused: Vec<Uuid> = (0..40)
        .map(|_| enqueue(admin, scene.acme, work, "high"))
        .collect();
    let gone = enqueue(admin, scene.acme, ended, "high");
    let wanted = enqueue(admin, scene.acme, good, "low");
    admin
        .execute(
            "UPDATE public.agent_assignments SET assignment_status = 'paused' WHERE id = $1",
            &[&work],
        )
        .unwrap();
    admin
        .execute(
            "UPDATE public.agent_assignments SET assignment_status = 'completed' WHERE id = $1",
            &[&ended],
        )
        .unwrap();
    let claimed = claim(admin, 1, None);
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].task, wanted);
    for task in &paused {
        assert_eq!(
            state(admin, *task),
            stands("waiting", Some("assignment_paused"), 0)
        );
    }
    assert_eq!(
        state(admin, gone),
        stands("cancelled", Some("assignment_ended"), 0)
    );
    admin
        .batch_execute(
            "UPDATE public.agent_assignments SET assignment_status = 'active';
             UPDATE codex.agent_tasks SET due_at = now() WHERE status = 'waiting'",
        )
        .unwrap();
    admin
        .execute(
            "UPDATE public.agent_registry SET is_active = false WHERE id = $1",
            &[&scribe],
        )
        .unwrap();
    assert!(claim(admin, 5, None).is_empty());
    assert_eq!(
        state(admin, paused[0]),
        stands("waiting", Some("agent_inactive"), 0)
    );
    admin
        .batch_execute(
            "UPDATE public.agent_registry SET is_active = true;
             UPDATE codex.agent_tasks SET due_at = now() WHERE status = 'waiting'",
        )
        .unwrap();
    assert_eq!(claim(admin, 100, Some(scribe)).len(), 40);
}

#[test]
fn a_service_claims_in_its_workspace_only_and_a_member_not_at_all() {
    let (mut scene, scribe, work) = scene();
    let other = assignment(&mut scene.admin, scene.bolt, scribe);
    let acme = enqueue(&mut scene.admin, scene.acme, work, "normal");
    let bolt = enqueue(&mut scene.admin, scene.bolt, other, "normal");
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
    let seen: Vec<Uuid> = transaction
        .query("SELECT id FROM codex.agent_tasks", &[])
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(seen, [acme], "a member sees what agents have to do");
    fails_with(
        transaction.query("SELECT codex.claim_agent_tasks('w')", &[]),
        "42501",
    );
    drop(transaction);

    let mut service = scene.db.login("service");
    let failure = fails_with(
        service.query("SELECT codex.claim_agent_tasks('w')", &[]),
        "42501",
    );
    assert_eq!(failure.message, "no workspace is entered in this session");
    service
        .execute(
            "SELECT set_config('app.current_workspace_id', $1::uuid::text, false)",
            &[&scene.acme],
        )
        .unwrap();
    for by_agent in [None, Some(scribe)] {
        scene
            .admin
            .execute(
                "UPDATE codex.agent_tasks SET status = 'waiting', due_at = now()",
                &[],
            )
            .unwrap();
        let claimed = claim(&mut service, 10, by_agent);
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].task, acme);
    }
    let foreign = claim(&mut scene.admin, 10, Some(scribe));
    assert_eq!(foreign.len(), 1, "the owner works for all workspaces");
    assert_eq!(foreign[0].task, bolt);
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
    fails_with(heartbeat(&mut service, &smuggled), "P0002");
    fails_with(
        service.query(
            "SELECT codex.enqueue_agent_task($1, $2, 'write')",
            &[&scene.acme, &other],
        ),
        "23503",
    );
}

#[test]
fn eight_workers_do_a_thousand_each_exactly_once() {
    let (mut scene, scribe, work) = scene();
    scene
        .admin
        .execute(
            "INSERT INTO codex.agent_tasks (workspace_id, assignment_id, agent_id, task_type, priority_rank)
             SELECT $1, $2, $3, 'write', g % 4 FROM generate_series(1, 1000) AS g",
            &[&scene.acme, &work, &scribe],
        )
        .unwrap();
    let done: Vec<Vec<Uuid>> = scene.db.parallel(8, |number, worker| {
        let mut done = Vec::new();
        // Some take any task, some those of the agent: two statements, one queue.
        let agent = (number % 2 == 0).then_some(scribe);
        loop {
            let claimed = claim(worker, 7 + number as i32, agent);
            if claimed.is_empty() {
                return done;
            }
            for one in claimed {
                complete(worker, &one).unwrap();
                done.push(one.task);
            }
        }
    });
    let all: Vec<Uuid> = done.concat();
    let different: BTreeSet<Uuid> = all.iter().copied().collect();
    assert_eq!((all.len(), different.len()), (1000, 1000));
    let finished: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM codex.agent_tasks WHERE status = 'done' AND attempts = 1",
        &[],
    );
    assert_eq!(finished, 1000);
}

#[test]
fn workers_that_vanish_lose_nothing_and_nobody_completes_what_another_has() {
    let (mut scene, scribe, work) = scene();
    scene
        .admin
        .execute(
            "INSERT INTO codex.agent_tasks (workspace_id, assignment_id, agent_id, task_type, max_attempts)
             SELECT $1, $2, $3, 'write', 100 FROM generate_series(1, 200) AS g",
            &[&scene.acme, &work, &scribe],
        )
        .unwrap();
    // Every worker lets leases run out under the hands of all others, and says done whenever it can.
    let completed: Vec<Vec<Uuid>> = scene.db.parallel(8, |number, worker| {
        let mut done = Vec::new();
        for round in 0.. {
            let claimed = claim(worker, 5, None);
            if claimed.is_empty() {
                let open: i64 = value(
                    worker,
                    "SELECT count(*) FROM codex.agent_tasks WHERE status IN ('waiting', 'leased')",
                    &[],
                );
                if open == 0 {
                    return done;
                }
            }
            if round < 3 && number % 2 == 0 {
                worker
                    .execute(
                        "UPDATE codex.agent_tasks SET due_at = now() - interval '1 second'
                         WHERE ctid IN (SELECT ctid FROM codex.agent_tasks WHERE status = 'leased' LIMIT 20 FOR UPDATE SKIP LOCKED)
                           AND status = 'leased'",
                        &[],
                    )
                    .unwrap();
            }
            for one in claimed {
                match complete(worker, &one) {
                    Ok(()) => done.push(one.task),
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
fn the_same_task_is_queued_once_by_eight_sessions_at_once() {
    let (mut scene, _, work) = scene();
    let acme = scene.acme;
    let ids: BTreeSet<Uuid> = scene
        .db
        .parallel(8, |_, session| {
            value::<Uuid>(
                session,
                "SELECT codex.enqueue_agent_task($1, $2, 'write', idempotency_key => 'once')",
                &[&acme, &work],
            )
        })
        .into_iter()
        .collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(rows(&mut scene.admin, "codex.agent_tasks"), 1);
    let counted: i32 = value(
        &mut scene.admin,
        "SELECT tasks_assigned FROM public.agent_assignments",
        &[],
    );
    assert_eq!(counted, 1);
}

#[test]
fn a_claim_touches_what_it_gives_however_many_wait() {
    let (mut scene, scribe, work) = scene();
    let admin = &mut scene.admin;
    admin
        .execute(
            "INSERT INTO codex.agent_tasks (workspace_id, assignment_id, agent_id, task_type, due_at)
             SELECT $1, $2, $3, 'write', now() - random() * interval '1 day' FROM generate_series(1, 20000)",
            &[&scene.acme, &work, &scribe],
        )
        .unwrap();
    admin.batch_execute("ANALYZE codex.agent_tasks").unwrap();
    let read = |admin: &mut Client| -> i64 {
        // What this session has read so far, its own statistics not yet reported included.
        value(
            admin,
            "SELECT pg_stat_get_xact_tuples_returned('codex.agent_tasks'::regclass) + pg_stat_get_xact_tuples_fetched('codex.agent_tasks'::regclass)",
            &[],
        )
    };
    for in_workspace in [false, true] {
        for agent in [None, Some(scribe)] {
            for _ in 0..12 {
                // As often as it takes until the plan is kept.
                admin.batch_execute("BEGIN").unwrap();
                if in_workspace {
                    admin
                        .execute(
                            "SELECT set_config('app.current_workspace_id', $1::uuid::text, true)",
                            &[&scene.acme],
                        )
                        .unwrap();
                }
                let before = read(admin);
                let claimed = claim(admin, 20, agent);
                let touched = read(admin) - before;
                admin.batch_execute("ROLLBACK").unwrap();
                assert_eq!(claimed.len(), 20);
                assert!(touched <= 200, "{touched} rows were touched for 20");
            }
        }
    }
}

#[test]
fn a_database_that_stays_at_17_says_what_is_missing() {
    let db = Database::with_extension();
    let mut admin = db.admin();
    admin.batch_execute("SELECT codex.migrate(17)").unwrap();
    for call in [
        "codex.claim_agent_tasks('w')",
        "codex.reserve_agent_budget(gen_random_uuid(), (SELECT id FROM public.agent_registry), 1)",
    ] {
        agent_if_none(&mut admin);
        let failure = fails_with(admin.query(&format!("SELECT {call}"), &[]), "55000");
        assert!(failure.hint.contains("codex.migrate()"), "{failure:?}");
    }
    let found: i64 = value(
        &mut admin,
        "SELECT count(*) FROM codex.find_agents('write')",
        &[],
    );
    assert_eq!(found, 0);
}

fn agent_if_none(admin: &mut Client) {
    admin
        .execute(
            "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Scribe', 'creative') ON CONFLICT DO NOTHING",
            &[],
        )
        .unwrap();
}
