//! What is refused, and why.

use std::error::Error;
use std::fmt;

use crate::{MAX_BYTES, MAX_COUNT};

/// A sample, or a merge, that a sketch does not take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OutOfRange {
    /// The sample is infinite or not a number.
    NotFinite(f64),
    /// The sample is less than zero.
    Negative(f64),
    /// The sketch would count more than [`MAX_COUNT`] samples.
    TooMany,
}

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite(sample) => write!(f, "a sample must be a finite number, not {sample}"),
            Self::Negative(sample) => write!(f, "a sample must not be negative, and {sample} is"),
            Self::TooMany => write!(f, "a sketch counts at most {MAX_COUNT} samples"),
        }
    }
}

impl Error for OutOfRange {}

/// Why bytes are not a sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CorruptSketch {
    /// More bytes than any sketch has.
    TooLong {
        /// How many bytes were given.
        length: usize,
    },
    /// The bytes end before this part of a sketch does.
    Truncated {
        /// The part that is missing or cut off.
        part: &'static str,
    },
    /// The first byte is not a version that this release reads.
    UnknownVersion {
        /// The first byte.
        version: u8,
    },
    /// The bytes changed since they were written.
    WrongChecksum {
        /// The checksum in the bytes.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// The counts add up to more than [`MAX_COUNT`].
    TooManySamples,
    /// A bucket stands where no sample can be counted.
    BucketOutOfRange,
    /// A part is not written in the one way in which this crate writes it.
    NotCanonical {
        /// The part in question.
        part: &'static str,
    },
    /// The smallest or largest sample is not a positive number that belongs to the buckets.
    WrongExtremes {
        /// The bits of the smallest positive sample, as given.
        smallest_positive: u64,
        /// The bits of the largest sample, as given.
        largest: u64,
    },
}

impl fmt::Display for CorruptSketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "corrupt sketch: ")?;
        match *self {
            Self::TooLong { length } => {
                write!(f, "{length} bytes where at most {MAX_BYTES} are possible")
            }
            Self::Truncated { part } => write!(f, "the bytes end before the end of {part}"),
            Self::UnknownVersion { version } => write!(
                f,
                "version {version} is unknown, this release reads version 1"
            ),
            Self::WrongChecksum { stored, computed } => {
                write!(
                    f,
                    "the checksum is {computed:08x}, the bytes say {stored:08x}"
                )
            }
            Self::TooManySamples => write!(f, "more than {MAX_COUNT} samples"),
            Self::BucketOutOfRange => write!(f, "a bucket beyond the range of numbers"),
            Self::NotCanonical { part } => {
                write!(f, "{part} is not in the form in which it is written")
            }
            Self::WrongExtremes {
                smallest_positive,
                largest,
            } => write!(
                f,
                "the extremes {:e} and {:e} do not belong to the buckets",
                f64::from_bits(smallest_positive),
                f64::from_bits(largest)
            ),
        }
    }
}

impl Error for CorruptSketch {}
