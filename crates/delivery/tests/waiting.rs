//! How long to wait between attempts.

use codex_delivery::{FIRST_WAIT, LONGEST_WAIT, wait_after};
use proptest::prelude::*;

#[test]
fn the_wait_doubles_from_half_a_minute_to_six_hours() {
    let mut whole = FIRST_WAIT;
    for attempt in 1..=30 {
        let waits: Vec<i64> = (0..1000).map(|seed| wait_after(attempt, seed)).collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*least >= whole / 2 && *least < whole * 51 / 100, "{least}");
        assert!(*most < whole && *most > whole * 99 / 100, "{most}");
        let mean = waits.iter().sum::<i64>() / 1000;
        assert!((mean - whole * 3 / 4).abs() < whole / 50, "{mean}");
        whole = (whole * 2).min(LONGEST_WAIT);
    }
}

#[test]
fn neighbouring_ids_spread() {
    let mut waits: Vec<i64> = (0..1000).map(|id| wait_after(5, id << 64)).collect();
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 990, "{} different waits", waits.len());
}

proptest! {
    #[test]
    fn the_same_attempt_waits_the_same(attempt in any::<u32>(), seed in any::<u128>()) {
        let wait = wait_after(attempt, seed);
        prop_assert_eq!(wait, wait_after(attempt, seed));
        prop_assert!((FIRST_WAIT / 2..LONGEST_WAIT).contains(&wait));
    }
}
