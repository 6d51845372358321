//! Random steps, spending, shares and quests of campaigns, against a few numbers in memory that say what has to come of
//! them.

use crate::dice::{Dice, seed, setting};
use crate::scene::{Scene, campaign};
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Uuid, sqlstate, value};
use std::collections::BTreeMap;

const STATUSES: [&str; 6] = [
    "draft",
    "planning",
    "active",
    "paused",
    "completed",
    "archived",
];

#[derive(Clone, Debug)]
struct Quest {
    parent: Option<Uuid>,
    completed: bool,
}

/// A campaign, as it has to be. Dates are days from today; amounts are whole numbers.
#[derive(Clone, Debug, Default)]
struct Campaign {
    status: &'static str,
    /// from, to, guarded
    history: Vec<(&'static str, &'static str, bool)>,
    start: Option<i32>,
    end: Option<i32>,
    budget: Option<i64>,
    spent: i64,
    quests: BTreeMap<Uuid, Quest>,
    shares: [i64; 3],
}

impl Campaign {
    fn version(&self) -> i32 {
        1 + self.history.len() as i32
    }

    fn may_become(&self, to: &str) -> bool {
        match (self.status, to) {
            ("draft", "planning") | ("active", "paused") | ("completed", "archived") => true,
            ("planning" | "paused", "active") => {
                self.start.is_some()
                    && self.end.is_some_and(|end| end >= 0)
                    && self.budget.is_some()
                    && !self.quests.is_empty()
            }
            ("active" | "paused", "completed") => self.start.is_none_or(|start| start <= 0),
            _ => false,
        }
    }

    fn become_(&mut self, to: &'static str, guarded: bool) {
        if self.status != to {
            self.history.push((self.status, to, guarded));
            self.status = to;
        }
    }

    fn may_spend(&self, amount: i64) -> bool {
        if amount < 0 {
            return self.spent + amount >= 0;
        }
        self.status != "archived"
            && self
                .budget
                .is_some_and(|budget| self.spent + amount <= budget)
    }

    fn is_below(&self, quest: Uuid, other: Uuid) -> bool {
        let mut at = Some(quest);
        while let Some(id) = at {
            if id == other {
                return true;
            }
            at = self.quests[&id].parent;
        }
        false
    }

    /// Hundredths of a percent.
    fn progress(&self) -> Option<i64> {
        let leaves: Vec<&Quest> = self
            .quests
            .iter()
            .filter(|(id, _)| !self.quests.values().any(|quest| quest.parent == Some(**id)))
            .map(|(_, quest)| quest)
            .collect();
        let done = leaves.iter().filter(|quest| quest.completed).count() as i64;
        (!leaves.is_empty()).then(|| done * 10_000 / leaves.len() as i64)
    }
}

/// Whether a call went through; that it failed with one of `states` where it had to fail.
fn holds(answer: Result<u64, Error>, may: bool, states: &[&str], what: &str) {
    match answer {
        Ok(_) => assert!(may, "{what} went through"),
        Err(error) => {
            assert!(!may, "{what} failed: {error:?}");
            let state = sqlstate(&error);
            assert!(states.contains(&state.as_str()), "{what}: {state}");
        }
    }
}

fn check(admin: &mut Client, id: Uuid, model: &Campaign) {
    let row = admin
        .query_one(
            "SELECT status, version, allocated::bigint, spent::bigint, remaining::bigint,
                    (codex.campaign_progress($1) * 100)::bigint,
                    (SELECT coalesce(sum(s.amount), 0)::bigint FROM codex.campaign_spending AS s WHERE s.campaign_id = $1)
             FROM codex.campaign_state($1)",
            &[&id],
        )
        .unwrap();
    let is: (String, i32, Option<i64>, i64, Option<i64>, Option<i64>) = (
        row.get(0),
        row.get(1),
        row.get(2),
        row.get(3),
        row.get(4),
        row.get(5),
    );
    let has_to_be = (
        model.status.to_string(),
        model.version(),
        model.budget,
        model.spent,
        model.budget.map(|budget| budget - model.spent),
        model.progress(),
    );
    assert_eq!(is, has_to_be, "{model:?}");
    assert_eq!(row.get::<_, i64>(6), model.spent, "the ledger");
    let history: Vec<(i32, String, String, bool)> = admin
        .query(
            "SELECT version, from_status, to_status, guarded FROM codex.campaign_history WHERE campaign_id = $1 ORDER BY version",
            &[&id],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    let expected: Vec<(i32, String, String, bool)> = (2..)
        .zip(&model.history)
        .map(|(version, (from, to, guarded))| {
            (version, (*from).to_string(), (*to).to_string(), *guarded)
        })
        .collect();
    assert_eq!(history, expected);
    let mut allowed: Vec<String> = admin
        .query(
            "SELECT to_status FROM codex.campaign_transitions($1) WHERE allowed AND missing = '{}'",
            &[&id],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    allowed.sort_unstable();
    let mut possible: Vec<&str> = STATUSES
        .into_iter()
        .filter(|to| model.may_become(to))
        .collect();
    possible.sort_unstable();
    assert_eq!(allowed, possible, "{model:?}");
}

#[test]
fn random_lives_of_campaigns_are_what_the_model_says() {
    let mut dice = Dice::new(seed("campaign model"), 0);
    let mut scene = Scene::new();
    let acme = scene.acme;
    let admin = &mut scene.admin;
    let mut model: BTreeMap<Uuid, Campaign> = BTreeMap::new();
    let mut cohorts = Vec::new();
    for n in 0..3 {
        let cohort: Uuid = value(
            admin,
            "INSERT INTO public.cohorts (workspace_id, name) VALUES ($1, $2) RETURNING id",
            &[&acme, &format!("Cohort {n}")],
        );
        cohorts.push(cohort);
        let status = "draft";
        let id = campaign(admin, acme);
        model.insert(
            id,
            Campaign {
                status,
                ..Campaign::default()
            },
        );
    }
    let mut guarding = false;
    for _ in 0..setting("CODEX_TEST_STEPS", 500) {
        let ids: Vec<Uuid> = model.keys().copied().collect();
        let id = *dice.pick(&ids);
        let other = *dice.pick(&ids);
        let foreign = model[&other].quests.keys().next().copied();
        let campaign = model.get_mut(&id).unwrap();
        let quests: Vec<Uuid> = campaign.quests.keys().copied().collect();
        match dice.below(14) {
            0..4 => {
                let to = *dice.pick(&STATUSES);
                let version = campaign.version();
                let expected = *dice.pick(&[None, Some(version), Some(version + 1)]);
                let may = campaign.may_become(to) && expected.is_none_or(|it| it == version);
                let answer = admin.execute(
                    "SELECT codex.transition_campaign($1, $2, expected_version => $3)",
                    &[&id, &to, &expected],
                );
                holds(answer, may, &["55000"], "a step");
                if may {
                    campaign.become_(to, true);
                }
            }
            4 => {
                let to = *dice.pick(&STATUSES);
                let may = !guarding || campaign.status == to || campaign.may_become(to);
                let answer = admin.execute(
                    "UPDATE public.campaigns SET status = $2 WHERE id = $1",
                    &[&id, &to],
                );
                holds(answer, may, &["55000"], "an update");
                if may {
                    campaign.become_(to, guarding);
                }
            }
            5 => {
                guarding = !guarding;
                admin
                    .execute(
                        "INSERT INTO codex.campaign_policies AS p (workspace_id, guard_updates) VALUES ($1, $2)
                         ON CONFLICT (workspace_id) DO UPDATE SET guard_updates = excluded.guard_updates",
                        &[&acme, &guarding],
                    )
                    .unwrap();
            }
            6 => {
                let start = *dice.pick(&[None, Some(-3), Some(0), Some(2)]);
                let end = *dice.pick(&[None, Some(-1), Some(0), Some(5)]);
                if let (Some(start), Some(end)) = (start, end)
                    && start > end
                {
                    continue;
                }
                admin
                    .execute(
                        "UPDATE public.campaigns SET start_date = current_date + $2::integer, end_date = current_date + $3::integer WHERE id = $1",
                        &[&id, &start, &end],
                    )
                    .unwrap();
                (campaign.start, campaign.end) = (start, end);
            }
            7 => {
                let budget = *dice.pick(&[None, Some(0), Some(10), Some(100), Some(1000)]);
                let may = budget >= campaign.budget || campaign.spent <= budget.unwrap_or(0);
                let answer = admin.execute(
                    "UPDATE public.campaigns SET allocated_budget_amount = $2::bigint WHERE id = $1",
                    &[&id, &budget],
                );
                holds(answer, may, &["55000"], "a budget");
                if may {
                    campaign.budget = budget;
                }
            }
            8 | 9 => {
                let amount = *dice.pick(&[-20, -3, 1, 5, 40, 300]);
                let may = campaign.may_spend(amount);
                let answer = admin.execute(
                    "SELECT codex.spend_campaign_budget($1, $2::bigint, 'Ads')",
                    &[&id, &amount],
                );
                holds(answer, may, &["55000", "22023"], "spending");
                if may {
                    campaign.spent += amount;
                }
            }
            10 => {
                let parent = quests.get(dice.below(4)).copied();
                let quest: Uuid = value(
                    admin,
                    "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, parent_quest_id) VALUES ($1, $2, 'Quest', $3) RETURNING id",
                    &[&acme, &id, &parent],
                );
                let completed = false;
                campaign.quests.insert(quest, Quest { parent, completed });
            }
            11 if !quests.is_empty() => {
                let quest = *dice.pick(&quests);
                let own = *dice.pick(&quests);
                let parent = match dice.below(4) {
                    0 => None,
                    1 if foreign.is_some() => foreign,
                    _ => Some(own),
                };
                let may = parent.is_none_or(|parent| {
                    campaign.quests.contains_key(&parent) && !campaign.is_below(parent, quest)
                });
                let answer =
                    admin.execute("SELECT codex.reparent_quest($1, $2)", &[&quest, &parent]);
                holds(answer, may, &["22023"], "moving a quest");
                if may {
                    campaign.quests.get_mut(&quest).unwrap().parent = parent;
                }
            }
            12 if !quests.is_empty() => {
                let quest = *dice.pick(&quests);
                let completed = dice.once_in(2);
                let status = if completed { "completed" } else { "blocked" };
                admin
                    .execute(
                        "UPDATE public.campaign_quests SET status = $2 WHERE id = $1",
                        &[&quest, &status],
                    )
                    .unwrap();
                campaign.quests.get_mut(&quest).unwrap().completed = completed;
            }
            _ => {
                let mut shares = campaign.shares;
                for _ in 0..=dice.below(2) {
                    shares[dice.below(3)] = *dice.pick(&[0, 10, 30, 50, 90]);
                }
                let sum = |shares: [i64; 3]| shares.iter().sum::<i64>();
                let may = sum(shares) <= 100;
                let answer = admin.execute(
                    "INSERT INTO public.campaign_cohorts (workspace_id, campaign_id, cohort_id, allocation_percentage)
                     SELECT $1, $2, k.id, k.share FROM unnest($3::uuid[], $4::bigint[]) AS k (id, share)
                     ON CONFLICT (workspace_id, campaign_id, cohort_id) DO UPDATE
                     SET allocation_percentage = excluded.allocation_percentage",
                    &[&acme, &id, &cohorts, &shares.to_vec()],
                );
                holds(answer, may, &["22023"], "shares");
                if may {
                    campaign.shares = shares;
                }
            }
        }
        check(admin, id, &model[&id]);
    }
}
