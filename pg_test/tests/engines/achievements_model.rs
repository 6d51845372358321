//! Random events, unlocks by hand and adjustments of two users, against sets in memory that say what has to come of them.

use crate::achievements::{Wanted, points};
use crate::dice::{Dice, seed, setting};
use crate::scene::Scene;
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Uuid, member, sqlstate, value};
use std::collections::{BTreeMap, BTreeSet};

const METRICS: [&str; 3] = ["login", "revenue", "moves"];

/// What was recorded of a metric: the value and the day (days ago) by event.
type Recorded = BTreeMap<String, (i64, i64)>;

/// An achievement: name, tier, condition as it is written, points, the one it requires; and what the condition means,
/// as plainly as it can be said.
struct Rule {
    name: &'static str,
    tier: &'static str,
    condition: (&'static str, &'static str),
    points: i32,
    requires: Option<usize>,
    metrics: &'static [usize],
    met: fn(&[Recorded; 3]) -> bool,
}

fn count(of: &Recorded) -> i64 {
    of.len() as i64
}

fn sum(of: &Recorded) -> i64 {
    of.values().map(|(worth, _)| worth).sum()
}

/// The sum of a day; None where nothing was recorded.
fn day(of: &Recorded, ago: i64) -> Option<i64> {
    let values: Vec<i64> = of
        .values()
        .filter(|(_, day)| *day == ago)
        .map(|(worth, _)| *worth)
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

const RULES: [Rule; 6] = [
    Rule {
        name: "Regular",
        tier: "bronze",
        condition: ("count", r#"{"metric": "login", "threshold": 5}"#),
        points: 10,
        requires: None,
        metrics: &[0],
        met: |facts| count(&facts[0]) >= 5,
    },
    Rule {
        name: "Earner",
        tier: "silver",
        condition: ("milestone", r#"{"metric": "revenue", "threshold": 100}"#),
        points: 20,
        requires: Some(0),
        metrics: &[1],
        met: |facts| sum(&facts[1]) >= 100,
    },
    Rule {
        name: "Sprint",
        tier: "bronze",
        condition: (
            "time_based",
            r#"{"metric": "revenue", "threshold": 60, "window": {"days": 3}}"#,
        ),
        points: 30,
        requires: None,
        metrics: &[1],
        met: |facts| {
            (0..40).any(|last| {
                (last..last + 3)
                    .filter_map(|ago| day(&facts[1], ago))
                    .sum::<i64>()
                    >= 60
            })
        },
    },
    Rule {
        name: "Streak",
        tier: "bronze",
        condition: (
            "time_based",
            r#"{"metric": "login", "streak": {"days": 3}}"#,
        ),
        points: 40,
        requires: None,
        metrics: &[0],
        met: |facts| (0..40).any(|last| (last..last + 3).all(|ago| day(&facts[0], ago).is_some())),
    },
    Rule {
        name: "Both",
        tier: "gold",
        condition: (
            "combination",
            r#"{"all": [{"count": {"metric": "login", "threshold": 8}}, {"milestone": {"metric": "revenue", "threshold": 150}}]}"#,
        ),
        points: 50,
        requires: Some(1),
        metrics: &[0, 1],
        met: |facts| count(&facts[0]) >= 8 && sum(&facts[1]) >= 150,
    },
    Rule {
        name: "Either",
        tier: "bronze",
        condition: (
            "combination",
            r#"{"any": [{"time_based": {"metric": "moves", "threshold": 15, "streak": {"days": 2}}}, {"count": {"metric": "moves", "threshold": 12}}]}"#,
        ),
        points: 60,
        requires: None,
        metrics: &[2],
        met: |facts| {
            let enough = |ago| day(&facts[2], ago).is_some_and(|worth| worth >= 15);
            count(&facts[2]) >= 12 || (0..40).any(|last| enough(last) && enough(last + 1))
        },
    },
];

#[derive(Default)]
struct Person {
    facts: [Recorded; 3],
    answers: BTreeMap<(usize, String), BTreeSet<String>>,
    unlocked: BTreeSet<usize>,
    points: i64,
}

impl Person {
    /// Unlocks what is reached among `candidates`, and among those that required what was unlocked, and so on.
    fn evaluate(&mut self, candidates: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
        let mut waiting: Vec<usize> = candidates.into_iter().collect();
        let mut names = BTreeSet::new();
        while let Some(one) = waiting.pop() {
            let rule = &RULES[one];
            let free = rule
                .requires
                .is_none_or(|other| self.unlocked.contains(&other));
            if !free || !(rule.met)(&self.facts) || !self.unlocked.insert(one) {
                continue;
            }
            self.points += i64::from(rule.points);
            names.insert(rule.name.to_string());
            waiting.extend((0..RULES.len()).filter(|next| RULES[*next].requires == Some(one)));
        }
        names
    }
}

fn names(answer: Result<Vec<codex_pg_test::postgres::Row>, Error>) -> BTreeSet<String> {
    answer
        .unwrap_or_else(|error| panic!("{}", codex_pg_test::error_message(&error)))
        .iter()
        .map(|row| row.get(0))
        .collect()
}

fn check(admin: &mut Client, workspace: Uuid, user: Uuid, ids: &[Uuid], person: &Person) {
    assert_eq!(
        points(admin, workspace, user),
        (person.points, person.points)
    );
    let unlocked: Vec<Uuid> = value(
        admin,
        "SELECT coalesce(array_agg(achievement_id), '{}')
         FROM public.user_achievements WHERE workspace_id = $1 AND user_id = $2 AND NOT is_locked",
        &[&workspace, &user],
    );
    let unlocked: BTreeSet<Uuid> = unlocked.into_iter().collect();
    let has_to_be: BTreeSet<Uuid> = person.unlocked.iter().map(|one| ids[*one]).collect();
    assert_eq!(unlocked, has_to_be);
}

#[test]
fn random_events_do_what_the_model_says() {
    let mut dice = Dice::new(seed("achievements model"), 0);
    let mut scene = Scene::new();
    let acme = scene.acme;
    let ben = member(&mut scene.admin, acme, "ben@acme.example");
    let users = [scene.anna, ben];
    let admin = &mut scene.admin;
    let mut ids: Vec<Uuid> = Vec::new();
    for rule in &RULES {
        let wanted = Wanted {
            name: rule.name,
            tier: rule.tier,
            condition: rule.condition,
            points: rule.points,
            after: rule.requires.map(|other| ids[other]),
        };
        ids.push(wanted.insert(admin, acme));
    }
    // Days count back from one that stays the same, should it be midnight meanwhile.
    let noon: String = value(
        admin,
        "SELECT ((date_trunc('day', now() AT TIME ZONE 'UTC') - interval '12 hours') AT TIME ZONE 'UTC')::text",
        &[],
    );
    let record = format!(
        "SELECT name FROM codex.record_metric_event($1, $2, $3, $4::bigint::numeric, $5, '{noon}'::timestamptz - $6::bigint * interval '1 day')"
    );
    let mut people = [Person::default(), Person::default()];
    for step in 0..setting("CODEX_TEST_STEPS", 250) {
        let who = dice.below(2);
        let (user, person) = (users[who], &mut people[who]);
        match dice.below(10) {
            0..=6 => {
                let metric = dice.below(3);
                let known: Vec<String> = person.facts[metric].keys().cloned().collect();
                let again = !known.is_empty() && dice.once_in(5);
                let event = if again {
                    dice.pick(&known).clone()
                } else {
                    format!("event {step}")
                };
                let known = person.facts[metric].get(&event).copied();
                let (worth, ago) = match known {
                    // Sometimes it is told in another way.
                    Some((worth, ago)) => (worth + i64::from(dice.once_in(3)), ago),
                    None => (dice.below(20) as i64, dice.below(30) as i64),
                };
                let answer = admin.query(
                    record.as_str(),
                    &[&acme, &user, &METRICS[metric], &worth, &event, &ago],
                );
                match known {
                    Some((before, _)) if before != worth => {
                        assert_eq!(sqlstate(&answer.unwrap_err()), "22023");
                    }
                    Some(_) => assert_eq!(names(answer), person.answers[&(metric, event)]),
                    None => {
                        person.facts[metric].insert(event.clone(), (worth, ago));
                        let concerned =
                            (0..RULES.len()).filter(|one| RULES[*one].metrics.contains(&metric));
                        let unlocked = person.evaluate(concerned);
                        assert_eq!(names(answer), unlocked);
                        person.answers.insert((metric, event), unlocked);
                    }
                }
            }
            // Seldom, so that events have something left to unlock.
            7 if dice.once_in(5) => {
                let one = dice.below(RULES.len());
                let done: bool = value(
                    admin,
                    "SELECT success FROM codex.unlock_achievement($1, $2, $3)",
                    &[&user, &ids[one], &acme],
                );
                let free = RULES[one]
                    .requires
                    .is_none_or(|other| person.unlocked.contains(&other));
                assert_eq!(done, free && person.unlocked.insert(one));
                if done {
                    person.points += i64::from(RULES[one].points);
                }
            }
            8 => {
                let change = dice.below(60) as i64 - 30;
                let answer = admin.query(
                    "SELECT codex.adjust_points($1, $2, $3::bigint::integer, 'a correction')",
                    &[&acme, &user, &change],
                );
                if change == 0 || person.points + change < 0 {
                    assert_eq!(sqlstate(&answer.unwrap_err()), "22023");
                } else {
                    person.points += change;
                    assert_eq!(
                        i64::from(answer.unwrap()[0].get::<_, i32>(0)),
                        person.points
                    );
                }
            }
            _ => {
                let answer = admin.query(
                    "SELECT name FROM codex.evaluate_achievements($1, $2)",
                    &[&acme, &user],
                );
                assert_eq!(names(answer), person.evaluate(0..RULES.len()));
            }
        }
        check(admin, acme, user, &ids, person);
        let one = dice.below(RULES.len());
        let met: bool = value(
            admin,
            "SELECT met FROM codex.explain_achievement($1, $2) WHERE place = 'rule'",
            &[&ids[one], &user],
        );
        assert_eq!(met, (RULES[one].met)(&person.facts), "{}", RULES[one].name);
    }
    let drifted: i64 = value(admin, "SELECT count(*) FROM codex.reconcile_points()", &[]);
    assert_eq!(drifted, 0);
}
