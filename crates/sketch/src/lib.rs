//! A mergeable quantile sketch of execution times, small enough to live in a table row.
//!
//! A [`Sketch`] takes samples (finite, zero or positive, in seconds), answers percentiles, and is
//! stored as at most [`MAX_BYTES`] bytes. Two sketches merge into the sketch of all their samples,
//! so a day's p95 comes from its 24 hours and no percentile is ever averaged.
//!
//! ```
//! use codex_sketch::Sketch;
//!
//! let mut hour = Sketch::new();
//! for milliseconds in 1..=1000 {
//!     hour.add(f64::from(milliseconds) / 1000.0)?;
//! }
//! let p95 = hour.quantile(0.95).expect("the sketch has samples");
//! assert!((p95 - 0.950).abs() <= 0.0095 * 0.950);
//!
//! let stored: Vec<u8> = hour.to_bytes();
//! assert_eq!(Sketch::from_bytes(&stored)?, hour);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is guaranteed
//!
//! *The bytes are a function of the samples.* Which order the samples came in, and how they were
//! spread over sketches that were merged, changes nothing: the result is equal byte for byte. Only
//! correctly rounded IEEE 754 arithmetic is used (no `ln`), so this holds across machines too.
//!
//! *A quantile is off by less than [`RELATIVE_ACCURACY`] (0.94 %)* of the exact sample of that rank
//! (nearest rank, see [`Sketch::quantile`]), as long as that sample was not collapsed. Zero, the
//! smallest positive sample and the largest sample are exact, and with them one or two samples, and
//! data of one value. (Subnormal numbers, below 2.2e-308, have too few digits for any relative bound;
//! they are accepted.)
//!
//! *The size never exceeds [`MAX_BYTES`].* If the samples need more, those of the lowest buckets are
//! collapsed into one counter. They still count in every rank; a rank that falls among them is
//! answered with the upper edge of the collapsed range, which is too high.
//! [`Sketch::collapsed`] says how many there are; their ranks come after those of the zeros, which are
//! never collapsed. So **a quantile `q` is within the bound if `collapsed()` is 0, or if
//! `ceil(q * count())` is more than `zeros() + collapsed()`**.
//!
//! When does a collapse begin? Room is 2000 bytes for the buckets. Independent of what the samples
//! look like:
//!
//! | samples           | not collapsed                                                       |
//! |-------------------|---------------------------------------------------------------------|
//! | up to 500         | all, anywhere between the smallest and the largest `f64`            |
//! | up to 4,500       | all, anywhere from 1e-9 to 1e12                                     |
//! | 10,000            | those within a factor of 10^16 of the largest sample                |
//! | 1,000,000         | those within a factor of 10^8 of the largest sample                 |
//! | 1,000,000,000     | those within a factor of 40,000 of the largest sample               |
//! | [`MAX_COUNT`]     | those within a factor of 200 of the largest sample                  |
//!
//! These are the worst cases, where the samples gather in every eighth bucket. Smooth data does much
//! better: a million samples that are spread evenly over the logarithms of 1e-9 to 1e12 keep p50 and
//! everything above it, and a million log-normal ones with a p99 of a hundred times the median
//! collapse nothing. Usual data is far from the bound: log-normal samples with a p99 of six times the
//! median take 160 bytes for 1,000 of them and 400 bytes for 100,000.
//!
//! # How it works
//!
//! The buckets are those of DDSketch (Masson, Rim, Lee: *DDSketch: A Fast and Fully-Mergeable
//! Quantile Sketch with Relative-Error Guarantees*, VLDB 2019): each is as wide as the same small
//! percentage of its value, and a count per bucket is all that is kept. The logarithm is replaced by
//! a parabola within each power of two (module `bucket`), which costs 8 % more buckets and gives the
//! same bits on every machine. Eight neighbouring buckets form a group, whose counts are stored with
//! just as many bits as the largest of them needs (module `bytes`).
//!
//! The collapse is chosen so that it keeps the merge exact: the floor is the lowest group from which
//! on everything fits into the room. The space that groups need only grows with samples, and only
//! shrinks as the floor rises, so the floor of a set of samples is at least that of each subset, and
//! dropping early what a subset cannot hold drops nothing that the whole could hold. The collapsed
//! counter has its own place in the header for that reason: a count added to the lowest bucket, as
//! DDSketch does, would make that bucket wider and the floor depend on history.
//!
//! There is no exact phase for few samples: the exact extremes already answer one and two samples,
//! the bound holds for three, and a second representation would be a second set of bugs.
//!
//! # Why not a published crate
//!
//! Read in November 2026:
//!
//! - `sketches-ddsketch` 0.4.2 bounds the number of buckets, not of bytes: its 2048 buckets take 2 to
//!   18 bytes each. Its bytes carry no checksum and an optional version; decoding adds counts and bucket
//!   numbers without overflow checks and takes the bucket width from the input, so corrupt bytes panic
//!   in debug builds and answer nonsense in release builds. NaN counts as zero, and so does 1e-9. Its
//!   rank, `floor(q (n - 1))`, is not the one of Postgres.
//! - `hdrhistogram` 7.6 counts integers: 1e-9 to 1e12 at a fixed unit needs 70 bits. It has 1 % only as
//!   part of "2 significant digits", which is 128 buckets for each power of two where 40 do. Its size
//!   has no bound, and its decoder allocates what the header asks for (up to 4 GiB) before it reads on.
//! - A t-digest (several crates) has no bound on the error of a value, and merges depend on order.

mod bucket;
mod bytes;
mod error;
mod group;

pub use bytes::MAX_BYTES;
pub use error::{CorruptSketch, OutOfRange};

use group::{Added, Group};

/// The bound on the relative error of a quantile: the estimate is within 0.94 % of the exact sample.
/// The largest error that a bucket can have is 0.933 %.
pub const RELATIVE_ACCURACY: f64 = 0.0094;

/// The most samples that a sketch counts, 2^53 - 1: every count up to it is exact as an `f64`, and fits
/// a Postgres `bigint`. At a million samples a second it is reached after 285 years.
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// Counts of samples by value; see the [crate documentation](crate) for what it guarantees.
///
/// Equality is that of the stored bytes: two sketches of the same samples are equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    /// Samples that are zero.
    zeros: u64,
    /// Positive samples whose group is `collapsed_through` or lower.
    collapsed: u64,
    /// The highest group that was given up for space; [`group::NONE`] as long as none was.
    collapsed_through: i16,
    /// All samples: `zeros`, `collapsed` and every count in `groups`.
    count: u64,
    /// Infinity as long as no sample is positive.
    smallest_positive: f64,
    /// Zero as long as no sample is positive.
    largest: f64,
    /// Ascending by number, each above `collapsed_through` and with at least one sample.
    groups: Vec<Group>,
}

impl Sketch {
    /// A sketch without samples.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            zeros: 0,
            collapsed: 0,
            collapsed_through: group::NONE,
            count: 0,
            smallest_positive: f64::INFINITY,
            largest: 0.0,
            groups: Vec::new(),
        }
    }

    /// Counts one sample, in seconds (any other unit works the same).
    ///
    /// # Errors
    /// A sample that is negative, infinite or not a number, and any sample after [`MAX_COUNT`]; the
    /// sketch is then unchanged.
    pub fn add(&mut self, sample: f64) -> Result<(), OutOfRange> {
        if !sample.is_finite() {
            return Err(OutOfRange::NotFinite(sample));
        }
        if sample < 0.0 {
            return Err(OutOfRange::Negative(sample));
        }
        if self.count == MAX_COUNT {
            return Err(OutOfRange::TooMany);
        }
        self.count += 1;
        if sample == 0.0 {
            self.zeros += 1;
            return Ok(());
        }
        self.smallest_positive = self.smallest_positive.min(sample);
        self.largest = self.largest.max(sample);
        match group::add(&mut self.groups, self.collapsed_through, sample) {
            Added::SameSize => {}
            Added::Grown => self.collapse_to_fit(),
            Added::BelowFloor => self.collapsed += 1,
        }
        Ok(())
    }

    /// Counts all samples of `other`, as if each had been added to `self`.
    ///
    /// # Errors
    /// [`OutOfRange::TooMany`] if both together have more than [`MAX_COUNT`] samples; `self` is then
    /// unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<(), OutOfRange> {
        // Both are at most 2^53: the sum cannot overflow.
        if self.count + other.count > MAX_COUNT {
            return Err(OutOfRange::TooMany);
        }
        self.count += other.count;
        self.zeros += other.zeros;
        self.collapsed += other.collapsed;
        self.smallest_positive = self.smallest_positive.min(other.smallest_positive);
        self.largest = self.largest.max(other.largest);
        self.groups = group::merge(&self.groups, &other.groups);
        let floor = self.collapsed_through.max(other.collapsed_through);
        self.collapse(self.groups.partition_point(|group| group.number <= floor));
        self.collapsed_through = floor;
        self.collapse_to_fit();
        Ok(())
    }

    /// How many samples were added.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How many of the samples are zero.
    #[must_use]
    pub const fn zeros(&self) -> u64 {
        self.zeros
    }

    /// How many of the lowest positive samples were collapsed to keep the size bound; see the
    /// [crate documentation](crate) for when that can happen and what it costs.
    #[must_use]
    pub const fn collapsed(&self) -> u64 {
        self.collapsed
    }

    /// The smallest sample, exactly. None without samples.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        match (self.count, self.zeros) {
            (0, _) => None,
            (_, 0) => Some(self.smallest_positive),
            (_, _) => Some(0.0),
        }
    }

    /// The largest sample, exactly. None without samples.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        (self.count > 0).then_some(self.largest)
    }

    /// The percentile `100 * q` by nearest rank: an estimate of the sample that is the
    /// `ceil(q * count)`-th in ascending order (the first, if that is 0).
    ///
    /// It is the rank of Postgres's `percentile_disc(q)`, computed with the same arithmetic, so that
    /// both name the same sample; `percentile_cont` interpolates between two samples and may be far
    /// from either. The estimate never lies outside of [`min`](Self::min) to [`max`](Self::max), and
    /// it never falls as `q` rises.
    ///
    /// None without samples, and for a `q` that is not from 0 to 1.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if self.count == 0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        // Exact up to 2^53, see MAX_COUNT.
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count);
        Some(self.sample_of_rank(rank))
    }

    /// An estimate of the `rank`-th sample in ascending order, from 1 to `count`.
    fn sample_of_rank(&self, rank: u64) -> f64 {
        if rank <= self.zeros {
            return 0.0;
        }
        if rank == self.zeros + 1 {
            return self.smallest_positive;
        }
        if rank == self.count {
            return self.largest;
        }
        let mut below = self.zeros + self.collapsed;
        if rank <= below {
            return self.clamp(bucket::upper_edge_of_group(self.collapsed_through));
        }
        for group in &self.groups {
            for (place, &samples) in group.counts.iter().enumerate() {
                below += samples;
                if rank <= below {
                    return self.clamp(bucket::estimate(group.number, place));
                }
            }
        }
        self.largest
    }

    fn clamp(&self, estimate: f64) -> f64 {
        estimate.max(self.smallest_positive).min(self.largest)
    }

    /// Gives up as many of the lowest groups as it takes for the rest to fit.
    fn collapse_to_fit(&mut self) {
        let keep_from = bytes::first_group_that_fits(&self.groups);
        if keep_from > 0 {
            self.collapsed_through = self.groups[keep_from - 1].number;
            self.collapse(keep_from);
        }
    }

    /// Moves the samples of the `lowest` first groups to the collapsed ones.
    fn collapse(&mut self, lowest: usize) {
        for group in self.groups.drain(..lowest) {
            self.collapsed += group.samples();
        }
    }
}

impl Default for Sketch {
    fn default() -> Self {
        Self::new()
    }
}
