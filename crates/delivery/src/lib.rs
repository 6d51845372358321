//! When a message goes out: quiet hours, and how long to wait before trying again.
//!
//! Pure arithmetic on microseconds. What a local time is in which zone is for the caller to know.

#![forbid(unsafe_code)]

/// Microseconds of a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds of a day of 24 hours.
pub const DAY: i64 = 86_400 * SECOND;

/// The wait before the second attempt, in microseconds: half a minute.
pub const FIRST_WAIT: i64 = 30 * SECOND;
/// The longest wait between two attempts, in microseconds: six hours.
pub const LONGEST_WAIT: i64 = 6 * 3_600 * SECOND;

/// The hours in which somebody wants to be left alone, by the clock on the wall: from `starts` (included) to `ends`
/// (excluded), both in microseconds since midnight. Where they end earlier than they start, they last over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuietHours {
    /// When they begin.
    pub starts: i64,
    /// When they are over.
    pub ends: i64,
}

impl QuietHours {
    /// Where `local` (microseconds of local time since any midnight) lies within the quiet hours: the local time at
    /// which they end. None outside of them. Hours that start and end at the same time are none at all.
    #[must_use]
    pub fn end_after(self, local: i64) -> Option<i64> {
        let Self { starts, ends } = self;
        let time = local.rem_euclid(DAY);
        let midnight = local.saturating_sub(time);
        let same_day = Some(midnight.saturating_add(ends));
        let next_day = || Some(midnight.saturating_add(DAY).saturating_add(ends));
        if starts < ends {
            (starts <= time && time < ends).then_some(same_day)?
        } else if starts > ends && time < ends {
            same_day
        } else if starts > ends && time >= starts {
            next_day()
        } else {
            None
        }
    }
}

/// How long to wait after the attempt with this number (from 1 on) has failed, in microseconds.
///
/// The wait doubles from [`FIRST_WAIT`] up to [`LONGEST_WAIT`]; half of it is fixed, the other half is spread by
/// `seed`, so that what failed together is not tried again together. The same seed and attempt give the same wait.
/// Source: "Exponential Backoff And Jitter", M. Brooker, AWS Architecture Blog 2015, there "equal jitter".
#[must_use]
pub fn wait_after(attempt: u32, seed: u128) -> i64 {
    let doublings = attempt.saturating_sub(1).min(20);
    let whole = (FIRST_WAIT << doublings).min(LONGEST_WAIT);
    let half = whole / 2;
    half + ((u128::from(spread(seed, attempt)) * half as u128) >> 64) as i64
}

/// 64 bits that look random, of a seed and an attempt: the finalizer of SplitMix64 (Steele, Lea, Flood 2014) over
/// both.
fn spread(seed: u128, attempt: u32) -> u64 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(mix(seed as u64) ^ (seed >> 64) as u64) ^ u64::from(attempt))
}
