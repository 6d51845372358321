//! Random calls to the budgets of agents, against sums in memory that say what has to come of them.

use crate::agent_budgets::{RUN_OUT, budget, release, reserve, settle, stands};
use crate::agent_tasks::agent;
use crate::dice::{Dice, seed, setting};
use crate::scene::{Scene, rows};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Uuid, sqlstate};
use std::collections::BTreeMap;

/// Tokens and cents that are left; None where nothing limits.
type Left = (Option<i64>, Option<i64>);

/// A budget, as it has to stand. Money is in cents.
#[derive(Clone, Debug)]
struct Budget {
    id: Uuid,
    agent: Option<usize>,
    tokens: Option<i64>,
    cents: Option<i64>,
    used: (i64, i64),
    reserved: (i64, i64),
    alerted: bool,
}

impl Budget {
    fn left(&self) -> Left {
        (
            self.tokens.map(|most| most - self.used.0 - self.reserved.0),
            self.cents.map(|most| most - self.used.1 - self.reserved.1),
        )
    }

    fn fits(&self, ask: (i64, i64)) -> bool {
        let (tokens, cents) = self.left();
        tokens.is_none_or(|left| ask.0 <= left) && cents.is_none_or(|left| ask.1 <= left)
    }

    /// Changes it; true when that raises its alert.
    fn count(&mut self, reserved: (i64, i64), used: (i64, i64)) -> bool {
        self.reserved.0 += reserved.0;
        self.reserved.1 += reserved.1;
        self.used.0 += used.0;
        self.used.1 += used.1;
        let reached =
            |limit: Option<i64>, stands: i64| limit.is_some_and(|most| 100 * stands >= 80 * most);
        let raised = !self.alerted
            && (reached(self.tokens, self.used.0 + self.reserved.0)
                || reached(self.cents, self.used.1 + self.reserved.1));
        self.alerted |= raised;
        raised
    }
}

#[derive(Clone, Debug)]
struct Reservation {
    status: &'static str,
    asked: (i64, i64),
    used: Option<(i64, i64)>,
    /// Whether its time has run out.
    overdue: bool,
    budgets: Vec<Uuid>,
}

struct Model {
    workspace: Uuid,
    agents: Vec<Uuid>,
    budgets: BTreeMap<Uuid, Budget>,
    reservations: BTreeMap<Uuid, Reservation>,
    alerts: i64,
}

impl Model {
    fn count(&mut self, budgets: &[Uuid], reserved: (i64, i64), used: (i64, i64)) {
        for id in budgets {
            // One that was taken away is passed over.
            if let Some(budget) = self.budgets.get_mut(id) {
                self.alerts += i64::from(budget.count(reserved, used));
            }
        }
    }

    fn expire(&mut self) {
        let gone: Vec<Uuid> = self
            .reservations
            .iter()
            .filter(|(_, one)| one.status == "held" && one.overdue)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let one = self.reservations.get_mut(&id).unwrap();
            one.status = "expired";
            let (asked, budgets) = (one.asked, one.budgets.clone());
            self.count(&budgets, (-asked.0, -asked.1), (0, 0));
        }
    }

    fn reserve(&mut self, admin: &mut Client, agent: usize, ask: (i64, i64)) {
        let answer = reserve(
            admin,
            self.workspace,
            self.agents[agent],
            ask.0,
            ask.1,
            None,
        )
        .unwrap();
        self.expire();
        let under: Vec<Uuid> = self
            .budgets
            .values()
            .filter(|one| one.agent.is_none_or(|of| of == agent))
            .map(|one| one.id)
            .collect();
        let fits = under.iter().all(|id| self.budgets[id].fits(ask));
        assert_eq!(
            answer.reservation.is_some(),
            fits,
            "{ask:?} in {:?}",
            self.budgets
        );
        let Some(reservation) = answer.reservation else {
            let by = &self.budgets[&answer.refused_by.unwrap()];
            assert!(!by.fits(ask));
            assert_eq!((answer.tokens_left, answer.cents_left), by.left());
            return;
        };
        self.count(&under, ask, (0, 0));
        let left = |part: fn(Left) -> Option<i64>| {
            under
                .iter()
                .filter_map(|id| part(self.budgets[id].left()))
                .min()
        };
        assert_eq!(answer.tokens_left, left(|(tokens, _)| tokens));
        assert_eq!(answer.cents_left, left(|(_, cents)| cents));
        self.reservations.insert(
            reservation,
            Reservation {
                status: "held",
                asked: ask,
                used: None,
                overdue: false,
                budgets: under,
            },
        );
    }

    fn settle(&mut self, admin: &mut Client, id: Uuid, used: (i64, i64)) {
        let answer = settle(admin, self.workspace, id, used.0, used.1);
        let one = self.reservations.get_mut(&id).unwrap();
        let (asked, budgets) = (one.asked, one.budgets.clone());
        match one.status {
            "held" | "expired" => {
                answer.unwrap();
                let back = if one.status == "held" {
                    (-asked.0, -asked.1)
                } else {
                    (0, 0)
                };
                (one.status, one.used) = ("settled", Some(used));
                self.count(&budgets, back, used);
            }
            "settled" if one.used == Some(used) => drop(answer.unwrap()),
            _ => assert_eq!(sqlstate(&answer.unwrap_err()), "55000"),
        }
    }

    fn release(&mut self, admin: &mut Client, id: Uuid) {
        let answer = release(admin, self.workspace, id);
        let one = self.reservations.get_mut(&id).unwrap();
        let (asked, budgets) = (one.asked, one.budgets.clone());
        match one.status {
            "held" => {
                answer.unwrap();
                one.status = "released";
                self.count(&budgets, (-asked.0, -asked.1), (0, 0));
            }
            "released" | "expired" => drop(answer.unwrap()),
            _ => assert_eq!(sqlstate(&answer.unwrap_err()), "55000"),
        }
    }

    fn check(&self, admin: &mut Client) {
        for one in self.budgets.values() {
            let has_to_be = (one.used.0, one.reserved.0, one.used.1, one.reserved.1);
            assert_eq!(stands(admin, one.id), has_to_be, "{one:?}");
        }
        for row in admin
            .query("SELECT id, status FROM codex.budget_reservations", &[])
            .unwrap()
        {
            let id: Uuid = row.get(0);
            assert_eq!(row.get::<_, &str>(1), self.reservations[&id].status);
        }
        assert_eq!(
            rows(admin, "codex.budget_reservations"),
            self.reservations.len() as i64
        );
        assert_eq!(rows(admin, "public.system_alerts"), self.alerts);
    }
}

#[test]
fn random_calls_do_what_the_model_says() {
    let seed = seed("agent budget model");
    let mut dice = Dice::new(seed, 0);
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let agents = (0..3)
        .map(|n| agent(admin, &format!("Agent {n}")))
        .collect();
    let mut model = Model {
        workspace: scene.acme,
        agents,
        budgets: BTreeMap::new(),
        reservations: BTreeMap::new(),
        alerts: 0,
    };
    for _ in 0..setting("CODEX_TEST_STEPS", 600) {
        let ids: Vec<Uuid> = model.reservations.keys().copied().collect();
        let recent = ids.len().min(15);
        match dice.below(20) {
            0..8 => {
                let ask = (dice.below(300) as i64, dice.below(100) as i64);
                let agent = dice.below(model.agents.len());
                model.reserve(admin, agent, ask);
            }
            8..12 if recent > 0 => {
                let id = ids[ids.len() - 1 - dice.below(recent)];
                // Now and then the same again, to hit what was settled before.
                let used = match model.reservations[&id].used {
                    Some(used) if dice.once_in(2) => used,
                    _ => (dice.below(350) as i64, dice.below(100) as i64),
                };
                model.settle(admin, id, used);
            }
            12..15 if recent > 0 => {
                let id = ids[ids.len() - 1 - dice.below(recent)];
                model.release(admin, id);
            }
            15 => {
                admin.execute(RUN_OUT, &[]).unwrap();
                for one in model.reservations.values_mut() {
                    one.overdue |= one.status == "held";
                }
            }
            16 => {
                admin.execute("SELECT codex.upkeep_agents()", &[]).unwrap();
                model.expire();
            }
            // Only the total never begins anew, so that midnight does not matter.
            17 | 18 => {
                let agent = [None, Some(0), Some(1)][dice.below(3)];
                let tokens = (!dice.once_in(4)).then(|| 500 + dice.below(3000) as i64);
                let cents = dice.once_in(2).then(|| 200 + dice.below(1000) as i64);
                let of = agent.map(|place| model.agents[place]);
                let set = budget(admin, model.workspace, of, "total", tokens, cents);
                let old = model
                    .budgets
                    .values()
                    .find(|one| one.agent == agent)
                    .map(|one| one.id);
                assert_eq!(set.is_none(), tokens.is_none() && cents.is_none());
                match (old, set) {
                    (Some(old), None) => drop(model.budgets.remove(&old)),
                    (Some(old), Some(id)) => {
                        assert_eq!(old, id);
                        let one = model.budgets.get_mut(&id).unwrap();
                        (one.tokens, one.cents) = (tokens, cents);
                    }
                    (None, Some(id)) => {
                        model.budgets.insert(
                            id,
                            Budget {
                                id,
                                agent,
                                tokens,
                                cents,
                                used: (0, 0),
                                reserved: (0, 0),
                                alerted: false,
                            },
                        );
                    }
                    (None, None) => {}
                }
            }
            _ => {}
        }
        model.check(admin);
    }
}
