//! What holds for any rule and any facts.

use codex_rules::{Clause, Day, Facts, Metric};
use proptest::prelude::*;
use std::collections::BTreeMap;

const METRICS: [&str; 3] = ["a", "b", "c"];

/// Something that was recorded: which metric, on which day, with what value. Quarters add up without rounding.
type Event = (usize, i32, f64);

fn events() -> impl Strategy<Value = Vec<Event>> {
    let value = (0..=20_u32).prop_map(|quarters| f64::from(quarters) / 4.0);
    prop::collection::vec((0..METRICS.len(), -10..30_i32, value), 0..40)
}

fn leaf() -> impl Strategy<Value = Clause> {
    let metric = || prop::sample::select(&METRICS).prop_map(str::to_string);
    let sum = || (1..=80_u32).prop_map(|quarters| f64::from(quarters) / 4.0);
    prop_oneof![
        (metric(), 1..10_u32).prop_map(|(metric, times)| Clause::Count { metric, times }),
        (metric(), sum()).prop_map(|(metric, threshold)| Clause::Milestone { metric, threshold }),
        (metric(), sum(), 1..9_u32).prop_map(|(metric, threshold, days)| Clause::Window {
            metric,
            threshold,
            days
        }),
        (metric(), prop::option::of(sum()), 1..6_u32).prop_map(|(metric, threshold, days)| {
            Clause::Streak {
                metric,
                threshold,
                days,
            }
        }),
    ]
}

fn rule() -> impl Strategy<Value = Clause> {
    leaf().prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Clause::All),
            prop::collection::vec(inner, 1..4).prop_map(Clause::Any),
        ]
    })
}

fn facts(events: &[Event]) -> Facts {
    let mut facts = Facts::new();
    let mut days: BTreeMap<(usize, i32), f64> = BTreeMap::new();
    for (metric, day, value) in events {
        let known = facts.entry(METRICS[*metric].to_string()).or_default();
        known.events += 1;
        known.total += value;
        *days.entry((*metric, *day)).or_default() += value;
    }
    for ((metric, number), total) in days {
        let known: &mut Metric = facts.entry(METRICS[metric].to_string()).or_default();
        known.days.push(Day { number, total });
    }
    facts
}

/// The same, from the events themselves and the words of the manual.
fn is_met(rule: &Clause, events: &[Event]) -> bool {
    let of = |metric: &str| {
        let metric = METRICS.iter().position(|one| *one == metric);
        events.iter().filter(move |event| Some(event.0) == metric)
    };
    match rule {
        Clause::Count { metric, times } => of(metric).count() >= *times as usize,
        Clause::Milestone { metric, threshold } => {
            of(metric).map(|event| event.2).sum::<f64>() >= *threshold
        }
        Clause::Window {
            metric,
            threshold,
            days,
        } => (-20..40).any(|begin| {
            let end = begin + *days as i32;
            let sum: f64 = of(metric)
                .filter(|event| (begin..end).contains(&event.1))
                .map(|event| event.2)
                .sum();
            sum >= *threshold
        }),
        Clause::Streak {
            metric,
            threshold,
            days,
        } => (-20..40).any(|begin| {
            (begin..begin + *days as i32).all(|day| {
                let mut on_it = of(metric).filter(|event| event.1 == day).peekable();
                on_it.peek().is_some()
                    && threshold
                        .is_none_or(|least| on_it.map(|event| event.2).sum::<f64>() >= least)
            })
        }),
        Clause::All(parts) => parts.iter().all(|part| is_met(part, events)),
        Clause::Any(parts) => parts.iter().any(|part| is_met(part, events)),
    }
}

/// The JSON of a rule: the key of a clause in a combination, and its value.
fn written(rule: &Clause) -> (&'static str, String) {
    let parts = |parts: &[Clause]| {
        let parts: Vec<String> = parts
            .iter()
            .map(|part| {
                let (key, value) = written(part);
                format!(r#"{{"{key}": {value}}}"#)
            })
            .collect();
        format!("[{}]", parts.join(", "))
    };
    match rule {
        Clause::Count { metric, times } => (
            "count",
            format!(r#"{{"metric": "{metric}", "threshold": {times}}}"#),
        ),
        Clause::Milestone { metric, threshold } => (
            "milestone",
            format!(r#"{{"metric": "{metric}", "threshold": {threshold}}}"#),
        ),
        Clause::Window {
            metric,
            threshold,
            days,
        } => (
            "time_based",
            format!(
                r#"{{"metric": "{metric}", "threshold": {threshold}, "window": {{"days": {days}}}}}"#
            ),
        ),
        Clause::Streak {
            metric,
            threshold,
            days,
        } => {
            let least =
                threshold.map_or(String::new(), |least| format!(r#""threshold": {least}, "#));
            (
                "time_based",
                format!(r#"{{"metric": "{metric}", {least}"streak": {{"days": {days}}}}}"#),
            )
        }
        Clause::All(all) => ("all", parts(all)),
        Clause::Any(any) => ("any", parts(any)),
    }
}

proptest! {
    #[test]
    fn a_rule_is_met_when_the_events_say_so(rule in rule(), events in events()) {
        let verdict = rule.judge(&facts(&events));
        prop_assert_eq!(verdict.met, is_met(&rule, &events));
        prop_assert_eq!(verdict.progress >= 1.0, verdict.met);
        prop_assert!((0.0..=1.0).contains(&verdict.progress));
        prop_assert_eq!(verdict.findings[0].met, verdict.met);
    }

    #[test]
    fn more_events_never_take_anything_away(rule in rule(), events in events(), more in events()) {
        let before = rule.judge(&facts(&events));
        let after = rule.judge(&facts(&[events, more].concat()));
        prop_assert!(after.progress >= before.progress);
        for (before, after) in before.findings.iter().zip(&after.findings) {
            prop_assert!(after.reached >= before.reached && after.met >= before.met);
            prop_assert!(after.missing() <= before.missing());
        }
    }

    #[test]
    fn the_order_of_events_does_not_matter(rule in rule(), events in events(), turn in 0..40_usize) {
        let mut turned = events.clone();
        if !turned.is_empty() {
            let middle = turn % turned.len();
            turned.rotate_left(middle);
        }
        prop_assert_eq!(rule.judge(&facts(&events)), rule.judge(&facts(&turned)));
    }

    #[test]
    fn what_is_missing_is_said_clause_by_clause(rule in rule(), events in events()) {
        for finding in rule.judge(&facts(&events)).findings {
            prop_assert_eq!(finding.met, finding.missing() == 0.0);
            prop_assert!(!finding.text.is_empty() && finding.place.starts_with("rule"));
            prop_assert_eq!(finding.metric.is_none(), matches!(finding.kind, "all" | "any"));
        }
    }

    #[test]
    fn a_rule_is_read_as_it_was_written(rule in rule()) {
        let (key, value) = written(&rule);
        let read = match key {
            "all" | "any" => Clause::parse("combination", &format!(r#"{{"{key}": {value}}}"#)),
            key => Clause::parse(key, &value),
        };
        prop_assert_eq!(read.unwrap(), rule);
    }

    #[test]
    fn no_text_makes_the_reader_panic(kind in "count|milestone|time_based|combination|x", value in ".{0,200}") {
        let _ = Clause::parse(&kind, &value);
    }
}
