//! How sure an insight is, given the signals it was drawn from.
//!
//! ```
//! use codex_confidence::{Evidence, Level, confidence, half_life_seconds};
//!
//! let month = half_life_seconds("competitor_activity").expect("a known category");
//! let fresh = Evidence { signal_id: 1, source: "crunchbase", confidence: 60.0, age_seconds: 0.0, half_life_seconds: month };
//! let month_old = Evidence { signal_id: 2, source: "pricing page", confidence: 80.0, age_seconds: month, ..fresh };
//!
//! let insight = confidence(&[fresh, month_old])?;
//! assert_eq!(insight.score, 76.0); // 100 * (1 - (1 - 0.6) * (1 - 0.8 / 2))
//! assert_eq!(insight.level, Level::Medium);
//! # Ok::<(), codex_confidence::ConfidenceError>(())
//! ```
//!
//! # The formula
//!
//! ```text
//! w     = confidence / 100 * 2^(-age / half-life)      of each signal
//! c     = the largest w                                of each source
//! score = 100 * (1 - product of (1 - c))               over the sources
//! ```
//!
//! *Sources combine by noisy-OR* (Pearl, *Probabilistic Reasoning in Intelligent Systems*, 1988,
//! section 4.3.2): each source alone would be enough, and is wrong with probability 1 - c; the insight
//! is wrong only if all are wrong, and independent errors multiply. So two sources of 50 make 75, a
//! source of 0 changes nothing, and one that is certain decides.
//!
//! *Signals of one source do not combine*: ten posts of one blog repeat one error, they are not ten
//! witnesses. The strongest counts.
//!
//! *A signal fades exponentially*: after each half-life it is worth half. This is the decay of whatever loses
//! its truth at a constant rate, and the only one where it does not matter how old the signal was when
//! the clock was started. See [`HALF_LIVES`] for the half-life of each category.
//!
//! # What is guaranteed
//!
//! - The result is a function of the *set* of signals: their order does not change a bit of it, for
//!   all is reckoned in the order of source and signal id; and a signal that is given twice counts once.
//! - A higher confidence or one more source never lowers the score. One more signal, of any source, does not
//!   either. More age never raises it.
//! - The score is from 0 to 100. That of a single source is the faded value of its strongest signal.

mod half_life;

pub use half_life::{HALF_LIVES, half_life_seconds};

use std::error::Error;
use std::fmt;

/// A signal, as far as it bears on the confidence of an insight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence<'a> {
    /// Identifies the signal. A UUID as a big-endian number has the order that it has in Postgres.
    pub signal_id: u128,
    /// Identifies where the signal comes from: signals of one source are not independent.
    pub source: &'a str,
    /// How sure the signal is of itself, from 0 to 100.
    pub confidence: f64,
    /// How long ago the signal was seen. Negative (from a clock that is ahead) counts as 0; infinity fades it to 0.
    pub age_seconds: f64,
    /// The age at which the signal is worth half, finite and more than 0; see [`half_life_seconds`].
    pub half_life_seconds: f64,
}

/// How sure an insight is, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Confidence<'a> {
    /// From 0 to 100, rounded half up to two decimals.
    pub score: f64,
    /// The level of the score.
    pub level: Level,
    /// One entry a signal, ordered by source (bytewise), then signal id.
    pub trace: Vec<TraceEntry<'a>>,
}

/// What one signal contributed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceEntry<'a> {
    /// As in the evidence.
    pub signal_id: u128,
    /// As in the evidence.
    pub source: &'a str,
    /// As in the evidence, from 0 to 100.
    pub confidence: f64,
    /// As in the evidence, but never negative.
    pub age_seconds: f64,
    /// As in the evidence.
    pub half_life_seconds: f64,
    /// What the signal is worth at its age, from 0 to `confidence`.
    pub faded: f64,
    /// Whether it stands for its source: no other signal of the source is worth more, and none that
    /// is worth the same has a smaller id.
    pub counted: bool,
}

/// How sure, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A score below 50: more likely wrong than right.
    Low,
    /// A score of 50 or more, below 80.
    Medium,
    /// A score of 80 or more.
    High,
}

impl Level {
    /// The level of a score from 0 to 100.
    #[must_use]
    pub fn of(score: f64) -> Self {
        if score >= 80.0 {
            Self::High
        } else if score >= 50.0 {
            Self::Medium
        } else {
            Self::Low
        }
    }

    /// The level as it is stored: `low`, `medium` or `high`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How sure an insight is that was drawn from these signals, in any order.
///
/// # Errors
/// No evidence, evidence with a number out of range, and two different pieces of evidence with the same
/// signal id. (The same evidence twice counts once.)
pub fn confidence<'a>(evidence: &[Evidence<'a>]) -> Result<Confidence<'a>, ConfidenceError> {
    if evidence.is_empty() {
        return Err(ConfidenceError::NoEvidence);
    }
    let mut trace = evidence.iter().map(faded).collect::<Result<Vec<_>, _>>()?;
    drop_duplicates(&mut trace)?;
    trace
        .sort_by(|left, right| (left.source, left.signal_id).cmp(&(right.source, right.signal_id)));

    let mut all_wrong = 1.0;
    let mut strongest: f64 = 0.0;
    let mut sources = 0;
    for of_one_source in trace.chunk_by_mut(|left, right| left.source == right.source) {
        let c = count_strongest(of_one_source) / 100.0;
        all_wrong *= 1.0 - c;
        strongest = strongest.max(c);
        sources += 1;
    }
    // In exact arithmetic 1 - all_wrong is at least the strongest source, and equal to it if there is no
    // other. Taking it so keeps both true to the last bit, and with them the promise that one more
    // source never lowers the score.
    let combined = if sources == 1 {
        strongest
    } else {
        strongest.max(1.0 - all_wrong)
    };
    let score = round_half_up(100.0 * combined);
    Ok(Confidence {
        score,
        level: Level::of(score),
        trace,
    })
}

/// Checks a piece of evidence and fades it.
fn faded<'a>(evidence: &Evidence<'a>) -> Result<TraceEntry<'a>, ConfidenceError> {
    let Evidence {
        signal_id,
        source,
        confidence,
        age_seconds,
        half_life_seconds,
    } = *evidence;
    if !(0.0..=100.0).contains(&confidence) {
        return Err(ConfidenceError::ConfidenceOutOfRange {
            signal_id,
            confidence,
        });
    }
    if age_seconds.is_nan() {
        return Err(ConfidenceError::AgeIsNotANumber { signal_id });
    }
    if !(half_life_seconds.is_finite() && half_life_seconds > 0.0) {
        return Err(ConfidenceError::HalfLifeOutOfRange {
            signal_id,
            half_life_seconds,
        });
    }
    // Also turns -0 into 0, so that equal evidence has equal bits.
    let age_seconds = if age_seconds > 0.0 { age_seconds } else { 0.0 };
    let confidence = confidence.abs();
    let faded = confidence * (-age_seconds / half_life_seconds).exp2();
    Ok(TraceEntry {
        signal_id,
        source,
        confidence,
        age_seconds,
        half_life_seconds,
        faded,
        counted: false,
    })
}

/// Leaves one entry of each signal id, and refuses different ones.
fn drop_duplicates(trace: &mut Vec<TraceEntry<'_>>) -> Result<(), ConfidenceError> {
    trace.sort_by_key(|entry| entry.signal_id);
    if let Some(pair) = trace
        .windows(2)
        .find(|pair| pair[0].signal_id == pair[1].signal_id && pair[0] != pair[1])
    {
        return Err(ConfidenceError::DifferentDuplicates {
            signal_id: pair[0].signal_id,
        });
    }
    trace.dedup_by_key(|entry| entry.signal_id);
    Ok(())
}

/// Marks the entry that stands for a source, and returns what it is worth:
/// the one with the most, and of those the one with the smallest id.
fn count_strongest(of_one_source: &mut [TraceEntry<'_>]) -> f64 {
    let stronger = |left: &&mut TraceEntry<'_>, right: &&mut TraceEntry<'_>| {
        left.faded
            .total_cmp(&right.faded)
            .then(right.signal_id.cmp(&left.signal_id))
    };
    of_one_source
        .iter_mut()
        .max_by(stronger)
        .map_or(0.0, |strongest| {
            strongest.counted = true;
            strongest.faded
        })
}

/// To two decimals, half up as decimal numbers are rounded by hand. A score such as 12.345 has no exact
/// binary form and may be a little below; it is brought to the nearest billionth first.
fn round_half_up(score: f64) -> f64 {
    let hundredths = (score * 1e9).round() / 1e7;
    ((hundredths + 0.5).floor() / 100.0).clamp(0.0, 100.0)
}

/// Evidence that no confidence can be drawn from.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConfidenceError {
    /// There is no evidence at all. No evidence is no confidence, not full confidence.
    NoEvidence,
    /// A confidence is not a number from 0 to 100.
    ConfidenceOutOfRange {
        /// The signal.
        signal_id: u128,
        /// Its confidence.
        confidence: f64,
    },
    /// An age is NaN.
    AgeIsNotANumber {
        /// The signal.
        signal_id: u128,
    },
    /// A half-life is not a finite number above 0.
    HalfLifeOutOfRange {
        /// The signal.
        signal_id: u128,
        /// Its half-life.
        half_life_seconds: f64,
    },
    /// A signal was given twice, with different contents.
    DifferentDuplicates {
        /// The signal.
        signal_id: u128,
    },
}

impl fmt::Display for ConfidenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoEvidence => write!(f, "no confidence can be drawn from no signals"),
            Self::ConfidenceOutOfRange {
                signal_id,
                confidence,
            } => {
                write!(
                    f,
                    "the confidence of signal {} must be from 0 to 100, not {confidence}",
                    Uuid(signal_id)
                )
            }
            Self::AgeIsNotANumber { signal_id } => {
                write!(f, "the age of signal {} is not a number", Uuid(signal_id))
            }
            Self::HalfLifeOutOfRange {
                signal_id,
                half_life_seconds,
            } => write!(
                f,
                "the half-life of signal {} must be a finite number of seconds above 0, not {half_life_seconds}",
                Uuid(signal_id)
            ),
            Self::DifferentDuplicates { signal_id } => {
                write!(
                    f,
                    "signal {} is given more than once, and not always the same",
                    Uuid(signal_id)
                )
            }
        }
    }
}

impl Error for ConfidenceError {}

/// Shows a signal id as the database does.
struct Uuid(u128);

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:032x}", self.0);
        let parts = [
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..],
        ];
        f.write_str(&parts.join("-"))
    }
}
