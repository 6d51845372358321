//! Random calls to the queue of agents' tasks, against a list in memory that says what has to come of them.

use crate::agent_tasks::{
    Claimed, agent, assignment, claim, complete, enqueue, fail, heartbeat, state,
};
use crate::dice::{Dice, seed, setting};
use crate::scene::Scene;
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Uuid, sqlstate};
use std::collections::{BTreeMap, BTreeSet};

const PRIORITIES: [&str; 4] = ["critical", "high", "normal", "low"];
const ATTEMPTS: i32 = 5;

/// A task, as it has to be.
#[derive(Clone, Debug)]
struct Task {
    assignment: usize,
    rank: usize,
    status: &'static str,
    reason: Option<&'static str>,
    attempts: i32,
    token: Option<Uuid>,
    /// Waiting: may be claimed now. Leased: the lease holds.
    ripe: bool,
}

/// An assignment with an agent of its own.
struct Assignment {
    id: Uuid,
    agent: Uuid,
    status: &'static str,
    agent_is_active: bool,
}

struct Model {
    workspace: Uuid,
    assignments: Vec<Assignment>,
    tasks: BTreeMap<Uuid, Task>,
    /// All that was ever claimed, so that stale workers speak up.
    claims: Vec<Claimed>,
}

impl Model {
    /// What becomes of a task at a claim: None when it is given out.
    fn set_aside(&self, one: &Task) -> Option<(&'static str, &'static str)> {
        let assignment = &self.assignments[one.assignment];
        match assignment.status {
            "active" if assignment.agent_is_active => None,
            "active" => Some(("waiting", "agent_inactive")),
            "paused" => Some(("waiting", "assignment_paused")),
            _ => Some(("cancelled", "assignment_ended")),
        }
    }

    fn reap(&mut self) {
        for one in self.tasks.values_mut() {
            if one.status == "leased" && !one.ripe {
                one.token = None;
                if one.attempts < ATTEMPTS {
                    (one.status, one.reason, one.ripe) = ("waiting", None, true);
                } else {
                    (one.status, one.reason) = ("dead", Some("attempts"));
                }
            }
        }
    }

    fn claim(&mut self, admin: &mut Client, n: i32, of: Option<usize>) {
        let claimed = claim(admin, n, of.map(|place| self.assignments[place].agent));
        self.reap();
        let ripe: Vec<(Uuid, Task)> = self
            .tasks
            .iter()
            .filter(|(_, one)| one.status == "waiting" && one.ripe)
            .filter(|(_, one)| of.is_none_or(|place| one.assignment == place))
            .map(|(id, one)| (*id, one.clone()))
            .collect();
        let mut wanted: Vec<usize> = ripe
            .iter()
            .filter(|(_, one)| self.set_aside(one).is_none())
            .map(|(_, one)| one.rank)
            .collect();
        wanted.sort_unstable();
        wanted.truncate(n as usize);
        let ids: BTreeSet<Uuid> = claimed.iter().map(|one| one.task).collect();
        assert_eq!(ids.len(), claimed.len(), "each once");
        let got: Vec<usize> = claimed
            .iter()
            .map(|one| self.tasks[&one.task].rank)
            .collect();
        // A claim that has looked sixteen times gives what it has.
        let enough = if got.is_empty() || ripe.len() < 16 {
            wanted.len()
        } else {
            got.len()
        };
        assert_eq!(
            got,
            wanted[..enough],
            "as many as there are, the most pressing ones, in order"
        );
        for one in claimed {
            let task = self.tasks.get_mut(&one.task).unwrap();
            assert!(task.status == "waiting" && task.ripe);
            task.attempts += 1;
            assert_eq!(one.attempt, task.attempts);
            assert_eq!(one.priority, PRIORITIES[task.rank]);
            assert_eq!(one.agent, self.assignments[task.assignment].agent);
            (task.status, task.reason, task.token) = ("leased", None, Some(one.token));
            self.claims.push(one);
        }
        // Which of those that may not be done were looked at, the table says; all of them, where none was found.
        let all = got.is_empty();
        for (id, one) in ripe {
            let Some((status, reason)) = self.set_aside(&one) else {
                continue;
            };
            if all || state(admin, id).1.as_deref() == Some(reason) {
                let one = self.tasks.get_mut(&id).unwrap();
                (one.status, one.reason, one.ripe, one.token) = (status, Some(reason), false, None);
            }
        }
        self.keep_off(admin);
    }

    /// The clock goes on for real: what is put off must not come back by itself while the test runs.
    fn keep_off(&self, admin: &mut Client) {
        admin
            .execute(
                "UPDATE codex.agent_tasks SET due_at = now() + interval '1 day'
                 WHERE status = 'waiting' AND due_at > now() AND due_at < now() + interval '12 hours'",
                &[],
            )
            .unwrap();
    }

    /// What a worker says of a claim, and whether it has to be believed.
    fn settle(&mut self, admin: &mut Client, claim: &Claimed, outcome: &'static str) {
        let answer: Result<Option<bool>, Error> = match outcome {
            "done" => complete(admin, claim).map(|()| None),
            "alive" => heartbeat(admin, claim).map(|()| None),
            _ => fail(admin, claim, outcome == "hopeless").map(Some),
        };
        let one = self.tasks.get_mut(&claim.task).unwrap();
        let is_last = one.token == Some(claim.token);
        match (one.status, outcome) {
            ("leased", "done") if is_last => {
                answer.unwrap();
                one.status = "done";
            }
            ("leased", "alive") if is_last => {
                answer.unwrap();
                one.ripe = true;
            }
            ("leased", _) if is_last => {
                let again = answer.unwrap().unwrap();
                assert_eq!(again, outcome == "failed" && one.attempts < ATTEMPTS);
                if again {
                    (one.status, one.ripe) = ("waiting", false);
                } else if outcome == "hopeless" {
                    (one.status, one.reason) = ("dead", Some("permanent"));
                } else {
                    (one.status, one.reason) = ("dead", Some("attempts"));
                }
            }
            // Said twice.
            ("done", "done") if is_last => assert_eq!(answer.unwrap(), None),
            ("waiting", "failed" | "hopeless") if is_last => {
                assert_eq!(answer.unwrap(), Some(true));
            }
            ("dead", "failed" | "hopeless") if is_last => {
                assert_eq!(answer.unwrap(), Some(false));
            }
            _ => assert_eq!(sqlstate(&answer.unwrap_err()), "55000"),
        }
        self.keep_off(admin);
    }

    fn by_hand(&mut self, admin: &mut Client, id: Uuid, requeue: bool) {
        let name = if requeue {
            "requeue_agent_task"
        } else {
            "cancel_agent_task"
        };
        let answer = admin.execute(
            &format!("SELECT codex.{name}($1, $2)"),
            &[&self.workspace, &id],
        );
        let one = self.tasks.get_mut(&id).unwrap();
        match (requeue, one.status) {
            (true, "waiting") | (false, "cancelled") => drop(answer.unwrap()),
            (true, "dead" | "cancelled") => {
                answer.unwrap();
                (one.status, one.reason, one.attempts) = ("waiting", None, 0);
                (one.token, one.ripe) = (None, true);
            }
            (false, "waiting" | "leased") => {
                answer.unwrap();
                (one.status, one.reason, one.token) = ("cancelled", Some("cancelled"), None);
            }
            _ => assert_eq!(sqlstate(&answer.unwrap_err()), "55000"),
        }
    }

    fn check(&self, admin: &mut Client) {
        let rows = admin
            .query(
                "SELECT id, status, reason, attempts, lease_token FROM codex.agent_tasks ORDER BY id",
                &[],
            )
            .unwrap();
        assert_eq!(rows.len(), self.tasks.len());
        for row in rows {
            let id: Uuid = row.get(0);
            let one = &self.tasks[&id];
            let is = (
                row.get::<_, String>(1),
                row.get::<_, Option<String>>(2),
                row.get::<_, i32>(3),
                row.get::<_, Option<Uuid>>(4),
            );
            let has_to_be = (
                one.status.to_string(),
                one.reason.map(str::to_string),
                one.attempts,
                one.token,
            );
            assert_eq!(is, has_to_be, "{id}");
        }
    }
}

#[test]
fn random_calls_do_what_the_model_says() {
    let seed = seed("agent task model");
    let mut dice = Dice::new(seed, 0);
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let assignments = (0..4)
        .map(|n| {
            let agent = agent(admin, &format!("Agent {n}"));
            Assignment {
                id: assignment(admin, scene.acme, agent),
                agent,
                status: "active",
                agent_is_active: true,
            }
        })
        .collect();
    let mut model = Model {
        workspace: scene.acme,
        assignments,
        tasks: BTreeMap::new(),
        claims: Vec::new(),
    };
    for _ in 0..setting("CODEX_TEST_STEPS", 600) {
        let place = dice.below(model.assignments.len());
        match dice.below(20) {
            0..6 => {
                let rank = dice.below(4);
                if matches!(model.assignments[place].status, "active" | "paused") {
                    let id = model.assignments[place].id;
                    let task = enqueue(admin, scene.acme, id, PRIORITIES[rank]);
                    model.tasks.insert(
                        task,
                        Task {
                            assignment: place,
                            rank,
                            status: "waiting",
                            reason: None,
                            attempts: 0,
                            token: None,
                            ripe: true,
                        },
                    );
                }
            }
            6..10 => {
                let of = dice.once_in(3).then_some(place);
                model.claim(admin, 1 + dice.below(4) as i32, of);
            }
            10..14 => {
                if !model.claims.is_empty() {
                    let newest = model.claims.len().min(12);
                    let claim = model.claims[model.claims.len() - 1 - dice.below(newest)].clone();
                    let outcome =
                        *dice.pick(&["done", "alive", "failed", "failed", "failed", "hopeless"]);
                    model.settle(admin, &claim, outcome);
                }
            }
            14 => {
                // Leases run out.
                admin
                    .execute("UPDATE codex.agent_tasks SET due_at = now() - interval '1 second' WHERE status = 'leased'", &[])
                    .unwrap();
                for one in model.tasks.values_mut() {
                    if one.status == "leased" {
                        one.ripe = false;
                    }
                }
                if dice.once_in(2) {
                    admin.execute("SELECT codex.upkeep_agents()", &[]).unwrap();
                    model.reap();
                }
            }
            15 => {
                // Time passes for what waits.
                admin
                    .execute("UPDATE codex.agent_tasks SET due_at = now() - interval '1 second', reason = NULL WHERE status = 'waiting'", &[])
                    .unwrap();
                for one in model.tasks.values_mut() {
                    if one.status == "waiting" {
                        (one.ripe, one.reason) = (true, None);
                    }
                }
            }
            16 => {
                let status = *dice.pick(&["active", "active", "paused", "archived"]);
                let one = &mut model.assignments[place];
                admin
                    .execute(
                        "UPDATE public.agent_assignments SET assignment_status = $2 WHERE id = $1",
                        &[&one.id, &status],
                    )
                    .unwrap();
                one.status = status;
            }
            17 => {
                let is_active = !dice.once_in(3);
                let one = &mut model.assignments[place];
                admin
                    .execute(
                        "UPDATE public.agent_registry SET is_active = $2 WHERE id = $1",
                        &[&one.agent, &is_active],
                    )
                    .unwrap();
                one.agent_is_active = is_active;
            }
            _ => {
                let ids: Vec<Uuid> = model.tasks.keys().copied().collect();
                if !ids.is_empty() {
                    let id = *dice.pick(&ids);
                    model.by_hand(admin, id, dice.once_in(2));
                }
            }
        }
        model.check(admin);
    }
}
