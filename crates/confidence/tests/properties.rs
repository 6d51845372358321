//! What holds for any evidence.

use codex_confidence::{Confidence, Evidence, Level, confidence};
use proptest::prelude::*;
use proptest::sample::Index;

const SOURCES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Percentages as they are stored (two decimals, which makes ties) and any others.
fn percent() -> impl Strategy<Value = f64> {
    prop_oneof![
        (0..=10_000).prop_map(|hundredths| f64::from(hundredths) / 100.0),
        0.0..=100.0
    ]
}

fn age() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), -1e6..1e8, Just(f64::INFINITY)]
}

fn half_life() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(1_209_600.0),
        1.0..1e8,
        Just(f64::MIN_POSITIVE),
        Just(f64::MAX)
    ]
}

/// Signals with ids 0, 1, 2, …
fn evidence() -> impl Strategy<Value = Vec<Evidence<'static>>> {
    prop::collection::vec((0..SOURCES.len(), percent(), age(), half_life()), 1..20).prop_map(
        |signals| {
            signals
                .into_iter()
                .zip(0..)
                .map(
                    |((source, confidence, age_seconds, half_life_seconds), signal_id)| Evidence {
                        signal_id,
                        source: SOURCES[source],
                        confidence,
                        age_seconds,
                        half_life_seconds,
                    },
                )
                .collect()
        },
    )
}

fn result<'a>(evidence: &[Evidence<'a>]) -> Confidence<'a> {
    confidence(evidence).expect("valid evidence")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_score_is_a_percentage_of_two_decimals_and_the_level_its_own(evidence in evidence()) {
        let Confidence { score, level, .. } = result(&evidence);
        prop_assert!((0.0..=100.0).contains(&score));
        prop_assert_eq!(score, (score * 100.0).round() / 100.0);
        prop_assert_eq!(level == Level::High, score >= 80.0);
        prop_assert_eq!(level == Level::Low, score < 50.0);
    }

    #[test]
    fn order_does_not_matter(evidence in evidence(), shuffled in Just(()).prop_perturb(|(), random| random)) {
        let expected = result(&evidence);
        let (mut evidence, mut random) = (evidence, shuffled);
        for last in (1..evidence.len()).rev() {
            evidence.swap(last, random.random_range(0..=last));
        }
        let found = result(&evidence);
        prop_assert_eq!(found.score.to_bits(), expected.score.to_bits());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn duplicates_do_not_count(evidence in evidence(), again in prop::collection::vec(any::<Index>(), 1..5)) {
        let mut repeated = evidence.clone();
        repeated.extend(again.iter().map(|at| *at.get(&evidence)));
        prop_assert_eq!(result(&repeated), result(&evidence));
    }

    #[test]
    fn more_confidence_never_lowers_the_score(evidence in evidence(), at in any::<Index>(), share in 0.0..=1.0_f64) {
        let mut raised = evidence.clone();
        let signal = &mut raised[at.index(evidence.len())];
        signal.confidence = (signal.confidence + share * (100.0 - signal.confidence)).min(100.0);
        prop_assert!(result(&raised).score >= result(&evidence).score);
    }

    #[test]
    fn one_more_signal_never_lowers_the_score(evidence in evidence()) {
        let mut previous = 0.0;
        for count in 1..=evidence.len() {
            let score = result(&evidence[..count]).score;
            prop_assert!(score >= previous);
            previous = score;
        }
    }

    #[test]
    fn more_age_never_raises_the_score(evidence in evidence(), at in any::<Index>(), more in 0.0..1e8) {
        let mut older = evidence.clone();
        older[at.index(evidence.len())].age_seconds += more;
        prop_assert!(result(&older).score <= result(&evidence).score);
    }

    #[test]
    fn one_source_is_worth_its_strongest_signal(mut evidence in evidence()) {
        for signal in &mut evidence {
            signal.source = "only";
        }
        let together = result(&evidence);
        let strongest = evidence.iter().map(|&signal| result(&[signal]).score).fold(0.0, f64::max);
        prop_assert_eq!(together.score, strongest);
        prop_assert_eq!(together.trace.iter().filter(|entry| entry.counted).count(), 1);
    }

    #[test]
    fn the_trace_explains_the_score(evidence in evidence()) {
        let Confidence { score, trace, .. } = result(&evidence);
        prop_assert_eq!(trace.len(), evidence.len());
        prop_assert!(trace.is_sorted_by(|left, right| (left.source, left.signal_id) < (right.source, right.signal_id)));
        for entry in &trace {
            prop_assert!(entry.faded >= 0.0 && entry.faded <= entry.confidence && entry.age_seconds >= 0.0);
            let of_source = || trace.iter().filter(|other| other.source == entry.source);
            prop_assert_eq!(of_source().filter(|other| other.counted).count(), 1);
            let beaten = of_source().any(|other| {
                other.faded > entry.faded || other.faded == entry.faded && other.signal_id < entry.signal_id
            });
            prop_assert_eq!(entry.counted, !beaten);
        }
        let all_wrong: f64 = trace.iter().filter(|entry| entry.counted).map(|entry| 1.0 - entry.faded / 100.0).product();
        prop_assert!((score - 100.0 * (1.0 - all_wrong)).abs() < 0.005 + 1e-9);
    }
}
