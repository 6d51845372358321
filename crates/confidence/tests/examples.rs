//! Scores that can be checked by hand.

use codex_confidence::{
    ConfidenceError, Evidence, HALF_LIVES, Level, confidence, half_life_seconds,
};

const DAY: f64 = 86_400.0;

/// A fresh signal with a half-life of a day.
fn signal(signal_id: u128, source: &str, confidence: f64) -> Evidence<'_> {
    Evidence {
        signal_id,
        source,
        confidence,
        age_seconds: 0.0,
        half_life_seconds: DAY,
    }
}

fn aged(evidence: Evidence<'_>, days: f64) -> Evidence<'_> {
    Evidence {
        age_seconds: days * DAY,
        ..evidence
    }
}

fn score(evidence: &[Evidence<'_>]) -> f64 {
    confidence(evidence).expect("valid evidence").score
}

#[test]
fn one_signal_is_worth_its_confidence() {
    for percent in [0.0, 0.01, 33.33, 50.0, 99.99, 100.0] {
        assert_eq!(score(&[signal(1, "a", percent)]), percent);
    }
}

#[test]
fn independent_sources_add_up() {
    assert_eq!(score(&[signal(1, "a", 50.0), signal(2, "b", 50.0)]), 75.0);
    assert_eq!(
        score(&[
            signal(1, "a", 60.0),
            signal(2, "b", 70.0),
            signal(3, "c", 10.0)
        ]),
        89.2
    );
    assert_eq!(score(&[signal(1, "a", 50.0), signal(2, "b", 0.0)]), 50.0);
    assert_eq!(score(&[signal(1, "a", 5.0), signal(2, "b", 100.0)]), 100.0);
}

#[test]
fn signals_of_one_source_do_not_add_up() {
    let result = confidence(&[
        signal(1, "a", 40.0),
        signal(2, "a", 60.0),
        signal(3, "a", 50.0),
    ])
    .unwrap();
    assert_eq!(result.score, 60.0);
    let counted: Vec<u128> = result
        .trace
        .iter()
        .filter(|entry| entry.counted)
        .map(|entry| entry.signal_id)
        .collect();
    assert_eq!(counted, [2]);
}

#[test]
fn each_half_life_halves_a_signal() {
    for (days, expected) in [
        (0.0, 80.0),
        (1.0, 40.0),
        (2.0, 20.0),
        (3.0, 10.0),
        (0.5, 56.57),
        (f64::INFINITY, 0.0),
    ] {
        assert_eq!(
            score(&[aged(signal(1, "a", 80.0), days)]),
            expected,
            "after {days} days"
        );
    }
}

#[test]
fn a_signal_from_the_future_counts_as_fresh() {
    let result = confidence(&[
        aged(signal(1, "a", 80.0), -3.0),
        aged(signal(2, "b", 0.0), f64::NEG_INFINITY),
    ])
    .unwrap();
    assert_eq!(result.score, 80.0);
    assert_eq!(
        (result.trace[0].age_seconds, result.trace[1].age_seconds),
        (0.0, 0.0)
    );
}

#[test]
fn fading_decides_which_signal_counts() {
    let result = confidence(&[aged(signal(1, "a", 90.0), 2.0), signal(2, "a", 30.0)]).unwrap();
    assert_eq!(result.score, 30.0);
    assert_eq!(
        (result.trace[0].faded, result.trace[0].counted),
        (22.5, false)
    );
    assert_eq!(
        (result.trace[1].faded, result.trace[1].counted),
        (30.0, true)
    );
}

#[test]
fn of_equals_the_smallest_id_counts() {
    let result = confidence(&[
        signal(9, "a", 50.0),
        signal(3, "a", 50.0),
        aged(signal(5, "a", 100.0), 1.0),
    ])
    .unwrap();
    let marks: Vec<(u128, bool)> = result
        .trace
        .iter()
        .map(|entry| (entry.signal_id, entry.counted))
        .collect();
    assert_eq!(marks, [(3, true), (5, false), (9, false)]);
}

#[test]
fn the_trace_is_ordered_by_source_then_id() {
    let evidence = [
        signal(4, "b", 1.0),
        signal(1, "c", 1.0),
        signal(3, "a", 1.0),
        signal(2, "b", 1.0),
        signal(4, "b", 1.0),
    ];
    let order: Vec<(&str, u128)> = confidence(&evidence)
        .unwrap()
        .trace
        .iter()
        .map(|entry| (entry.source, entry.signal_id))
        .collect();
    assert_eq!(order, [("a", 3), ("b", 2), ("b", 4), ("c", 1)]);
}

#[test]
fn the_score_is_rounded_half_up() {
    for (exact, rounded) in [
        (12.344, 12.34),
        (12.345, 12.35),
        (0.005, 0.01),
        (49.994, 49.99),
        (49.995, 50.0),
        (1.005, 1.01),
        (99.995, 100.0),
    ] {
        assert_eq!(score(&[signal(1, "a", exact)]), rounded, "{exact}");
    }
}

#[test]
fn the_level_is_that_of_the_rounded_score() {
    for (exact, level) in [
        (0.0, Level::Low),
        (49.994, Level::Low),
        (49.995, Level::Medium),
        (50.0, Level::Medium),
        (79.994, Level::Medium),
        (79.995, Level::High),
        (80.0, Level::High),
        (100.0, Level::High),
    ] {
        assert_eq!(
            confidence(&[signal(1, "a", exact)]).unwrap().level,
            level,
            "{exact}"
        );
    }
    assert_eq!(
        [Level::Low, Level::Medium, Level::High].map(Level::as_str),
        ["low", "medium", "high"]
    );
    assert_eq!(format!("{:>6}", Level::Low), "   low");
}

#[test]
fn no_evidence_is_refused() {
    assert_eq!(confidence(&[]), Err(ConfidenceError::NoEvidence));
}

#[test]
fn numbers_out_of_range_are_refused() {
    let good = signal(7, "a", 50.0);
    for bad in [-0.01, 100.01, f64::INFINITY] {
        let expected = ConfidenceError::ConfidenceOutOfRange {
            signal_id: 7,
            confidence: bad,
        };
        assert_eq!(
            confidence(&[Evidence {
                confidence: bad,
                ..good
            }]),
            Err(expected)
        );
    }
    assert!(matches!(
        confidence(&[Evidence { confidence: f64::NAN, ..good }]),
        Err(ConfidenceError::ConfidenceOutOfRange { signal_id: 7, confidence }) if confidence.is_nan()
    ));
    assert_eq!(
        confidence(&[Evidence {
            age_seconds: f64::NAN,
            ..good
        }]),
        Err(ConfidenceError::AgeIsNotANumber { signal_id: 7 })
    );
    for bad in [0.0, -1.0, f64::INFINITY] {
        let expected = ConfidenceError::HalfLifeOutOfRange {
            signal_id: 7,
            half_life_seconds: bad,
        };
        assert_eq!(
            confidence(&[Evidence {
                half_life_seconds: bad,
                ..good
            }]),
            Err(expected)
        );
    }
    assert!(
        confidence(&[Evidence {
            half_life_seconds: f64::NAN,
            ..good
        }])
        .is_err()
    );
}

#[test]
fn one_id_with_two_contents_is_refused() {
    let twice = [
        signal(7, "a", 50.0),
        signal(8, "a", 50.0),
        signal(7, "b", 50.0),
    ];
    assert_eq!(
        confidence(&twice),
        Err(ConfidenceError::DifferentDuplicates { signal_id: 7 })
    );
}

#[test]
fn messages_name_the_signal_and_the_value() {
    let id = 0x0198_c0de_0000_7000_8000_0000_0000_0001;
    assert_eq!(
        confidence(&[signal(id, "a", 101.5)])
            .unwrap_err()
            .to_string(),
        "the confidence of signal 0198c0de-0000-7000-8000-000000000001 must be from 0 to 100, not 101.5"
    );
}

#[test]
fn every_category_has_a_half_life() {
    let days = |category| half_life_seconds(category).map(|seconds| seconds / DAY);
    assert_eq!(days("competitor_activity"), Some(30.0));
    assert_eq!(days("market_trend"), Some(90.0));
    assert_eq!(days("industry_news"), Some(14.0));
    assert_eq!(days("customer_sentiment"), Some(45.0));
    assert_eq!(days("technology_shift"), Some(180.0));
    assert_eq!(HALF_LIVES.len(), 5);
    assert_eq!((days("Market_Trend"), days("")), (None, None));
}
