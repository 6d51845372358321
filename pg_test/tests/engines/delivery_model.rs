//! Random calls to the delivery queue, against a list in memory that says what has to come of them.

use crate::delivery::{Claimed, claim, complete, fail, send};
use crate::dice::{Dice, seed, setting};
use crate::scene::Scene;
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Uuid, member, sqlstate};
use std::collections::{BTreeMap, BTreeSet};

const PRIORITIES: [&str; 4] = ["urgent", "high", "normal", "low"];

/// A delivery, as it has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Delivery {
    user: usize,
    rank: usize,
    status: &'static str,
    reason: Option<&'static str>,
    attempts: i32,
    token: Option<Uuid>,
    /// Waiting: may be claimed now. Leased: the lease holds.
    ripe: bool,
    shown: Option<&'static str>,
}

/// A user, as he is.
#[derive(Clone, Default)]
struct User {
    id: Uuid,
    left: bool,
    refuses: bool,
    quiet: bool,
}

struct Model {
    workspace: Uuid,
    users: Vec<User>,
    deliveries: BTreeMap<Uuid, Delivery>,
    /// All that was ever claimed, so that stale workers speak up.
    claims: Vec<Claimed>,
}

impl Model {
    /// What becomes of a message at a claim: None when it goes out.
    fn set_aside(&self, one: &Delivery) -> Option<(&'static str, &'static str)> {
        let user = &self.users[one.user];
        if user.left {
            Some(("suppressed", "not_a_member"))
        } else if user.refuses {
            Some(("suppressed", "preference"))
        } else if user.quiet && one.rank != 0 {
            Some(("waiting", "quiet_hours"))
        } else {
            None
        }
    }

    fn put_aside(&mut self, id: Uuid, status: &'static str, reason: &'static str) {
        let one = self.deliveries.get_mut(&id).unwrap();
        (one.status, one.reason, one.ripe, one.token) = (status, Some(reason), false, None);
        if status == "suppressed" {
            one.shown = None;
        }
    }

    fn reap(&mut self) {
        for one in self.deliveries.values_mut() {
            if one.status == "leased" && !one.ripe {
                one.token = None;
                if one.attempts < 8 {
                    (one.status, one.reason, one.ripe) = ("waiting", None, true);
                } else {
                    (one.status, one.reason, one.shown) =
                        ("dead", Some("attempts"), Some("failed"));
                }
            }
        }
    }

    fn claim(&mut self, admin: &mut Client, n: i32) {
        let claimed = claim(admin, n);
        self.reap();
        let ripe: Vec<(Uuid, Delivery)> = self
            .deliveries
            .iter()
            .filter(|(_, one)| one.status == "waiting" && one.ripe)
            .map(|(id, one)| (*id, one.clone()))
            .collect();
        let mut wanted: Vec<usize> = ripe
            .iter()
            .filter(|(_, one)| self.set_aside(one).is_none())
            .map(|(_, one)| one.rank)
            .collect();
        wanted.sort_unstable();
        wanted.truncate(n as usize);
        let ids: BTreeSet<Uuid> = claimed.iter().map(|one| one.notification).collect();
        assert_eq!(ids.len(), claimed.len(), "each once");
        let got: Vec<usize> = claimed
            .iter()
            .map(|one| self.deliveries[&one.notification].rank)
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
            "as many as there are, the most urgent ones, in order"
        );
        for one in claimed {
            let delivery = self.deliveries.get_mut(&one.notification).unwrap();
            assert!(delivery.status == "waiting" && delivery.ripe);
            delivery.attempts += 1;
            assert_eq!(one.attempt, delivery.attempts);
            assert_eq!(one.workspace, self.workspace);
            (delivery.status, delivery.reason, delivery.token) = ("leased", None, Some(one.token));
            self.claims.push(one);
        }
        // Which of those that may not go out were looked at, the table says; all of them, where none was found.
        let all = got.is_empty();
        for (id, one) in ripe {
            let Some((status, reason)) = self.set_aside(&one) else {
                continue;
            };
            if all || read(admin, id).1.as_deref() == Some(reason) {
                self.put_aside(id, status, reason);
            }
        }
        // The clock goes on for real: what is put off must not come back by itself while the test runs.
        admin
            .execute(
                "UPDATE codex.deliveries SET due_at = now() + interval '1 day' WHERE status = 'waiting' AND reason = 'quiet_hours' AND due_at < now() + interval '1 hour'",
                &[],
            )
            .unwrap();
    }

    /// What a worker says of a claim, and whether it has to be believed.
    fn settle(&mut self, admin: &mut Client, claim: &Claimed, outcome: &'static str) {
        let answer: Result<Option<bool>, Error> = match outcome {
            "delivered" => complete(admin, claim).map(|()| None),
            _ => fail(admin, claim, outcome == "bounced").map(Some),
        };
        let Some(one) = self.deliveries.get_mut(&claim.notification) else {
            assert_eq!(sqlstate(&answer.unwrap_err()), "P0002");
            return;
        };
        let is_last = one.token == Some(claim.token);
        match (one.status, outcome) {
            ("leased", "delivered") if is_last => {
                answer.unwrap();
                (one.status, one.shown) = ("delivered", Some("delivered"));
            }
            ("leased", _) if is_last => {
                let again = answer.unwrap().unwrap();
                assert_eq!(again, outcome == "failed" && one.attempts < 8);
                if again {
                    (one.status, one.ripe) = ("waiting", false);
                    admin
                        .execute(
                            "UPDATE codex.deliveries SET due_at = now() + interval '1 day' WHERE notification_id = $1",
                            &[&claim.notification],
                        )
                        .unwrap();
                } else if outcome == "bounced" {
                    (one.status, one.reason, one.shown) =
                        ("dead", Some("permanent"), Some("bounced"));
                } else {
                    (one.status, one.reason, one.shown) =
                        ("dead", Some("attempts"), Some("failed"));
                }
            }
            // Said twice.
            ("delivered", "delivered") if is_last => assert_eq!(answer.unwrap(), None),
            ("waiting", "failed" | "bounced") if is_last => assert_eq!(answer.unwrap(), Some(true)),
            ("dead", "failed" | "bounced") if is_last => assert_eq!(answer.unwrap(), Some(false)),
            _ => assert_eq!(sqlstate(&answer.unwrap_err()), "55000"),
        }
    }

    fn check(&self, admin: &mut Client) {
        let rows = admin
            .query(
                "SELECT d.notification_id, d.status, d.reason, d.attempts, d.lease_token, n.delivery_status
                 FROM codex.deliveries AS d
                 JOIN public.user_notifications AS n ON n.id = d.notification_id
                 ORDER BY d.notification_id",
                &[],
            )
            .unwrap();
        assert_eq!(rows.len(), self.deliveries.len());
        for row in rows {
            let id: Uuid = row.get(0);
            let one = &self.deliveries[&id];
            let is = (
                row.get::<_, String>(1),
                row.get::<_, Option<String>>(2),
                row.get::<_, i32>(3),
                row.get::<_, Option<Uuid>>(4),
                row.get::<_, Option<String>>(5),
            );
            let has_to_be = (
                one.status.to_string(),
                one.reason.map(str::to_string),
                one.attempts,
                one.token,
                one.shown.map(str::to_string),
            );
            assert_eq!(is, has_to_be, "{id}");
        }
    }
}

/// Status and reason of a delivery.
fn read(admin: &mut Client, id: Uuid) -> (String, Option<String>) {
    let row = admin
        .query_one(
            "SELECT status, reason FROM codex.deliveries WHERE notification_id = $1",
            &[&id],
        )
        .unwrap();
    (row.get(0), row.get(1))
}

#[test]
fn random_calls_do_what_the_model_says() {
    let seed = seed("delivery model");
    let mut dice = Dice::new(seed, 0);
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let mut users = vec![User {
        id: scene.anna,
        ..User::default()
    }];
    for n in 0..3 {
        users.push(User {
            id: member(admin, scene.acme, &format!("{n}@acme.example")),
            ..User::default()
        });
    }
    let mut model = Model {
        workspace: scene.acme,
        users,
        deliveries: BTreeMap::new(),
        claims: Vec::new(),
    };
    for _ in 0..setting("CODEX_TEST_STEPS", 600) {
        let user = dice.below(model.users.len());
        let id = model.users[user].id;
        match dice.below(20) {
            0..6 => {
                let rank = dice.below(4);
                // Recipients are members when they are sent to.
                if !model.users[user].left {
                    let sent = send(admin, scene.acme, id, PRIORITIES[rank]);
                    model.deliveries.insert(
                        sent,
                        Delivery {
                            user,
                            rank,
                            status: "waiting",
                            reason: None,
                            attempts: 0,
                            token: None,
                            ripe: true,
                            shown: Some("pending"),
                        },
                    );
                }
            }
            6..10 => model.claim(admin, 1 + dice.below(4) as i32),
            10..14 => {
                if !model.claims.is_empty() {
                    let newest = model.claims.len().min(12);
                    let claim = model.claims[model.claims.len() - 1 - dice.below(newest)].clone();
                    let outcome =
                        *dice.pick(&["delivered", "failed", "failed", "failed", "bounced"]);
                    model.settle(admin, &claim, outcome);
                }
            }
            14 => {
                // Leases run out.
                admin
                    .execute("UPDATE codex.deliveries SET due_at = now() - interval '1 second' WHERE status = 'leased'", &[])
                    .unwrap();
                for one in model.deliveries.values_mut() {
                    if one.status == "leased" {
                        one.ripe = false;
                    }
                }
                if dice.once_in(2) {
                    admin
                        .execute("SELECT codex.upkeep_notifications()", &[])
                        .unwrap();
                    model.reap();
                }
            }
            15 => {
                // Time passes for what waits.
                admin
                    .execute("UPDATE codex.deliveries SET due_at = now() - interval '1 second', reason = NULL WHERE status = 'waiting'", &[])
                    .unwrap();
                for one in model.deliveries.values_mut() {
                    if one.status == "waiting" {
                        (one.ripe, one.reason) = (true, None);
                    }
                }
            }
            16 => {
                let refuses = dice.once_in(2);
                if !model.users[user].left {
                    admin
                        .execute(
                            "SELECT codex.set_notification_preference($1, $2, 'email', $3)",
                            &[&scene.acme, &id, &!refuses],
                        )
                        .unwrap();
                    model.users[user].refuses = refuses;
                }
            }
            17 => {
                let quiet = dice.once_in(2);
                if !model.users[user].left {
                    let hours = if quiet {
                        "'00:00', '23:59:59.999999', 'UTC'"
                    } else {
                        "NULL, NULL, NULL"
                    };
                    admin
                        .execute(
                            &format!("SELECT codex.set_quiet_hours($1, $2, {hours})"),
                            &[&scene.acme, &id],
                        )
                        .unwrap();
                    model.users[user].quiet = quiet;
                }
            }
            18 => {
                let left = dice.once_in(3);
                let sql = if left {
                    "DELETE FROM public.workspace_members WHERE workspace_id = $1 AND user_id = $2"
                } else {
                    "INSERT INTO public.workspace_members (workspace_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING"
                };
                admin.execute(sql, &[&scene.acme, &id]).unwrap();
                model.users[user].left = left;
            }
            _ => {
                let ids: Vec<Uuid> = model.deliveries.keys().copied().collect();
                if ids.is_empty() {
                    continue;
                }
                let id = *dice.pick(&ids);
                if dice.once_in(4) {
                    admin
                        .execute(
                            "DELETE FROM public.user_notifications WHERE id = $1",
                            &[&id],
                        )
                        .unwrap();
                    model.deliveries.remove(&id);
                    continue;
                }
                let answer =
                    admin.execute("SELECT codex.requeue_delivery($1, $2)", &[&scene.acme, &id]);
                let one = model.deliveries.get_mut(&id).unwrap();
                match one.status {
                    "waiting" => drop(answer.unwrap()),
                    "dead" | "suppressed" => {
                        answer.unwrap();
                        (one.status, one.reason, one.attempts) = ("waiting", None, 0);
                        (one.token, one.ripe, one.shown) = (None, true, Some("pending"));
                    }
                    _ => assert_eq!(sqlstate(&answer.unwrap_err()), "55000"),
                }
            }
        }
        model.check(admin);
    }
    let reached: BTreeSet<&str> = model.deliveries.values().map(|one| one.status).collect();
    println!(
        "{} deliveries, {} claims, {reached:?}",
        model.deliveries.len(),
        model.claims.len()
    );
}
