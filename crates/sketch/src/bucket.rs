//! Which bucket a positive number belongs to, and which number stands for a bucket.
//!
//! A number is 2^e · m with 1 ≤ m < 2. Each power of two is cut into 40 buckets, at equal steps of
//!
//! ```text
//! p(m) = (4 - (3 - m)²) / 3        p(1) = 0, p(2) = 1
//! ```
//!
//! a parabola close to log₂(m) (the quadratic mapping of DDSketch's reference implementations). With
//! j steps done, m = 3 - √(4 - 3j/40), so edges are exact to the last bits. The widest bucket is the first
//! one: from 1 to 1.01884, and the number 2ab/(a+b) between edges a and b is off by at most
//! (b-a)/(b+a) = 0.00933.
//!
//! Subtraction, multiplication and the square root are correctly rounded everywhere and 3 - m is exact, so
//! that p never falls as m rises and is the same on every machine. `ln` promises neither.

/// Buckets in a group.
pub(crate) const GROUP: usize = 8;

/// Groups in a power of two: 40 buckets.
const GROUPS: i32 = 5;

const BUCKETS: i32 = GROUPS * GROUP as i32;

/// The exponents that a positive `f64` has, subnormal numbers included.
const EXPONENTS: std::ops::RangeInclusive<i32> = -1074..=1023;

/// The groups that a positive `f64` can belong to.
pub(crate) const GROUP_NUMBERS: std::ops::RangeInclusive<i16> =
    (*EXPONENTS.start() * GROUPS) as i16..=((*EXPONENTS.end() + 1) * GROUPS - 1) as i16;

/// The group of a positive finite number, and the place of its bucket in the group.
pub(crate) fn of(positive: f64) -> (i16, usize) {
    let (exponent, m) = exponent_and_mantissa(positive);
    let rest = 3.0 - m;
    let step = ((4.0 - rest * rest) * (f64::from(BUCKETS) / 3.0)) as i32;
    let bucket = exponent * BUCKETS + step.min(BUCKETS - 1);
    (
        bucket.div_euclid(GROUP as i32) as i16,
        bucket.rem_euclid(GROUP as i32) as usize,
    )
}

/// The number that stands for a bucket: at most 0.933 % from every number in it.
pub(crate) fn estimate(group: i16, place: usize) -> f64 {
    let bucket = i32::from(group) * GROUP as i32 + place as i32;
    let (exponent, step) = (bucket.div_euclid(BUCKETS), bucket.rem_euclid(BUCKETS));
    let (low, high) = (edge(step), edge(step + 1));
    2.0 * low * high / (low + high) * power_of_two(exponent)
}

/// The number at which the buckets of a group end; infinity for the last group of all.
pub(crate) fn upper_edge_of_group(group: i16) -> f64 {
    let next = i32::from(group) + 1;
    let (exponent, groups) = (next.div_euclid(GROUPS), next.rem_euclid(GROUPS));
    edge(groups * GROUP as i32) * power_of_two(exponent)
}

/// Where, from 1 to 2, the given number of buckets end.
fn edge(steps: i32) -> f64 {
    3.0 - (4.0 - 3.0 * f64::from(steps) / f64::from(BUCKETS)).sqrt()
}

const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;
const EXPONENT_BIAS: i32 = f64::MAX_EXP - 1;

fn exponent_and_mantissa(positive: f64) -> (i32, f64) {
    // A subnormal number gets the exponent of its leading bit by being made 2^54 times larger.
    let (normal, shift) = if positive < f64::MIN_POSITIVE {
        (positive * power_of_two(54), 54)
    } else {
        (positive, 0)
    };
    let exponent = (normal.to_bits() >> MANTISSA_BITS) as i32 - EXPONENT_BIAS;
    let mantissa = normal.to_bits() & ((1 << MANTISSA_BITS) - 1) | 1.0_f64.to_bits();
    (exponent - shift, f64::from_bits(mantissa))
}

/// 2^exponent, from 2^-1074 on; infinity above 2^1023.
fn power_of_two(exponent: i32) -> f64 {
    if exponent > EXPONENT_BIAS {
        f64::INFINITY
    } else if exponent >= f64::MIN_EXP - 1 {
        f64::from_bits(((exponent + EXPONENT_BIAS) as u64) << MANTISSA_BITS)
    } else {
        f64::from_bits(1 << (exponent - EXPONENTS.start()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RELATIVE_ACCURACY;

    /// Every edge of the normal numbers, with its two neighbours.
    fn around_every_edge() -> impl Iterator<Item = f64> {
        (-1022..=1023).flat_map(|exponent| {
            (0..BUCKETS).flat_map(move |step| {
                let at = edge(step) * power_of_two(exponent);
                [at.next_down(), at, at.next_up()]
            })
        })
    }

    #[test]
    fn the_estimate_is_within_the_promised_accuracy_around_every_edge() {
        let mut worst = 0.0_f64;
        for x in around_every_edge().filter(|&x| x >= f64::MIN_POSITIVE) {
            let (group, place) = of(x);
            worst = worst.max((estimate(group, place) / x - 1.0).abs());
        }
        assert!(
            (0.0093..=0.00934).contains(&worst),
            "the worst relative error is {worst}"
        );
        assert!(worst < RELATIVE_ACCURACY);
    }

    #[test]
    fn a_larger_number_never_has_a_lower_bucket() {
        let mut previous = of(f64::from_bits(1));
        for x in around_every_edge() {
            let bucket = of(x);
            assert!(
                bucket >= previous,
                "{x:e} is in {bucket:?}, below {previous:?}"
            );
            previous = bucket;
        }
    }

    #[test]
    fn the_smallest_and_the_largest_number_are_in_the_first_and_the_last_group() {
        assert_eq!(GROUP_NUMBERS, -5370..=5119);
        assert_eq!(of(f64::from_bits(1)), (*GROUP_NUMBERS.start(), 0));
        assert_eq!(of(f64::MAX), (*GROUP_NUMBERS.end(), GROUP - 1));
        assert_eq!(of(1.0), (0, 0));
        assert_eq!(of(1.0_f64.next_down()), (-1, GROUP - 1));
        assert!(estimate(*GROUP_NUMBERS.end(), GROUP - 1).is_finite());
        assert_eq!(upper_edge_of_group(*GROUP_NUMBERS.end()), f64::INFINITY);
        assert_eq!(upper_edge_of_group(-1), 1.0);
        assert_eq!(upper_edge_of_group(4), 2.0);
    }

    #[test]
    fn subnormal_numbers_have_the_bucket_of_their_value() {
        assert_eq!(of(power_of_two(-1050)), ((-1050 * GROUPS) as i16, 0));
        assert_eq!(power_of_two(-1074), f64::from_bits(1));
        assert_eq!(power_of_two(-1023), f64::MIN_POSITIVE / 2.0);
        assert_eq!(power_of_two(-1022), f64::MIN_POSITIVE);
    }
}
