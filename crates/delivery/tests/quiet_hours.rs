//! Quiet hours, minute by minute against the plainest model there is, and at their edges.

use codex_delivery::{DAY, QuietHours, SECOND};
use proptest::prelude::*;

const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

fn quiet(starts: i64, ends: i64) -> QuietHours {
    QuietHours {
        starts: starts * MINUTE,
        ends: ends * MINUTE,
    }
}

#[test]
fn a_nap_ends_the_same_day() {
    let nap = quiet(13 * 60, 14 * 60);
    assert_eq!(nap.end_after(13 * HOUR - 1), None);
    assert_eq!(nap.end_after(13 * HOUR), Some(14 * HOUR));
    assert_eq!(nap.end_after(14 * HOUR - 1), Some(14 * HOUR));
    assert_eq!(nap.end_after(14 * HOUR), None);
    assert_eq!(
        nap.end_after(3 * DAY + 13 * HOUR + 30 * MINUTE),
        Some(3 * DAY + 14 * HOUR)
    );
}

#[test]
fn a_night_ends_the_next_morning() {
    let night = quiet(22 * 60, 7 * 60 + 30);
    assert_eq!(night.end_after(21 * HOUR), None);
    assert_eq!(
        night.end_after(22 * HOUR),
        Some(DAY + 7 * HOUR + 30 * MINUTE)
    );
    assert_eq!(
        night.end_after(DAY + 3 * HOUR),
        Some(DAY + 7 * HOUR + 30 * MINUTE)
    );
    assert_eq!(night.end_after(DAY + 7 * HOUR + 30 * MINUTE), None);
    // Before the epoch, too.
    assert_eq!(
        night.end_after(-HOUR),
        Some(7 * HOUR + 30 * MINUTE),
        "23:00 of the day before"
    );
}

#[test]
fn midnight_may_be_written_as_0_or_as_24() {
    assert_eq!(quiet(22 * 60, 24 * 60).end_after(23 * HOUR), Some(DAY));
    assert_eq!(quiet(22 * 60, 0).end_after(23 * HOUR), Some(DAY));
    assert_eq!(quiet(0, 6 * 60).end_after(DAY), Some(DAY + 6 * HOUR));
}

#[test]
fn no_hours_are_no_hours() {
    for time in 0..24 {
        assert_eq!(quiet(8 * 60, 8 * 60).end_after(time * HOUR), None);
    }
}

/// Walks on minute by minute until it is not quiet any more.
fn walk(starts: i64, ends: i64, mut minute: i64) -> Option<i64> {
    let is_quiet = |minute: i64| {
        let mut at = starts;
        while at != ends {
            if at == minute.rem_euclid(1440) {
                return true;
            }
            at = (at + 1) % 1440;
        }
        false
    };
    let from = minute;
    while is_quiet(minute) {
        minute += 1;
    }
    (minute > from).then_some(minute)
}

proptest! {
    #[test]
    fn as_somebody_with_a_clock_would_tell(starts in 0_i64..1440, ends in 0_i64..1440, minute in -5000_i64..5000) {
        prop_assert_eq!(
            quiet(starts, ends).end_after(minute * MINUTE),
            walk(starts, ends, minute).map(|end| end * MINUTE)
        );
    }

    #[test]
    fn the_end_is_ahead_within_a_day_and_not_quiet(starts in 0..DAY, ends in 0..=DAY, local in any::<i32>()) {
        let hours = QuietHours { starts, ends };
        let local = i64::from(local) * 7919;
        if let Some(end) = hours.end_after(local) {
            prop_assert!(end > local && end - local <= DAY);
            prop_assert_eq!(hours.end_after(end), None);
        }
    }

    #[test]
    fn no_instant_overflows(starts in 0..DAY, ends in 0..=DAY, local in any::<i64>()) {
        let _ = QuietHours { starts, ends }.end_after(local);
    }
}
