//! From JSON to a clause.

use crate::Clause;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::fmt;

/// The longest condition, in bytes of JSON.
pub const LONGEST: usize = 16 * 1024;
/// How deep combinations may be nested; one without another in it is 1.
pub const DEEPEST: usize = 5;
/// How many clauses a condition may have, combinations included.
pub const MOST_CLAUSES: usize = 50;
/// The longest window or streak, in days.
pub const MOST_DAYS: u32 = 366;
/// The longest name of a metric, in characters.
pub const LONGEST_METRIC: usize = 100;
/// The largest threshold.
pub const LARGEST_THRESHOLD: f64 = 1e15;

/// Why a condition is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

fn problem<T>(text: impl Into<String>) -> Result<T, Problem> {
    Err(Problem(text.into()))
}

/// An object. Without this a list of its values in their order would be taken, too.
struct Object<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Map::deserialize(deserializer)?;
        serde_json::from_value(Value::Object(keys))
            .map(Self)
            .map_err(D::Error::custom)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reached {
    metric: String,
    threshold: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Timed {
    metric: String,
    threshold: Option<f64>,
    window: Option<Object<Span>>,
    streak: Option<Object<Span>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Span {
    days: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Combined {
    all: Option<Vec<Part>>,
    any: Option<Vec<Part>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    Count(Object<Reached>),
    Milestone(Object<Reached>),
    TimeBased(Object<Timed>),
    All(Vec<Part>),
    Any(Vec<Part>),
}

pub(crate) fn clause(condition_type: &str, condition_value: &str) -> Result<Clause, Problem> {
    if condition_value.len() > LONGEST {
        return problem(format!(
            "it has {} bytes; at most {LONGEST} are taken",
            condition_value.len()
        ));
    }
    let part = match condition_type {
        "count" => Part::Count(read(condition_value)?),
        "milestone" => Part::Milestone(read(condition_value)?),
        "time_based" => Part::TimeBased(read(condition_value)?),
        "combination" => match read(condition_value)? {
            Object(Combined {
                all: Some(parts),
                any: None,
            }) => Part::All(parts),
            Object(Combined {
                all: None,
                any: Some(parts),
            }) => Part::Any(parts),
            _ => return problem("a combination has one key, \"all\" or \"any\""),
        },
        other => return problem(format!("there is no condition of type \"{other}\"")),
    };
    let mut left = MOST_CLAUSES;
    checked(part, DEEPEST, &mut left)
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Problem> {
    serde_json::from_str(text).map_err(|error| {
        // Where in the text it is says nothing: Postgres does not keep it as it was written.
        let words = error.to_string();
        let place = words.rfind(" at line ").unwrap_or(words.len());
        Problem(words[..place].to_string())
    })
}

/// The clause of a part, `deeper` more combinations and `left` more clauses being allowed.
fn checked(part: Part, deeper: usize, left: &mut usize) -> Result<Clause, Problem> {
    let Some(fewer) = left.checked_sub(1) else {
        return problem(format!("it has more than {MOST_CLAUSES} clauses"));
    };
    *left = fewer;
    match part {
        Part::Count(Object(Reached { metric, threshold })) => {
            check_metric(&metric)?;
            if !(1.0..=f64::from(u32::MAX)).contains(&threshold) || threshold.fract() != 0.0 {
                return problem(format!(
                    "the threshold of a count is {threshold}; it must be a whole number from 1 to {}",
                    u32::MAX
                ));
            }
            Ok(Clause::Count {
                metric,
                times: threshold as u32,
            })
        }
        Part::Milestone(Object(Reached { metric, threshold })) => {
            check_metric(&metric)?;
            check_threshold(threshold)?;
            Ok(Clause::Milestone { metric, threshold })
        }
        Part::TimeBased(Object(Timed {
            metric,
            threshold,
            window,
            streak,
        })) => {
            check_metric(&metric)?;
            if let Some(threshold) = threshold {
                check_threshold(threshold)?;
            }
            match (threshold, window, streak) {
                (Some(threshold), Some(window), None) => Ok(Clause::Window {
                    metric,
                    threshold,
                    days: check_days("window", &window)?,
                }),
                (None, Some(_), None) => problem("a window needs a \"threshold\""),
                (threshold, None, Some(streak)) => Ok(Clause::Streak {
                    metric,
                    threshold,
                    days: check_days("streak", &streak)?,
                }),
                _ => problem("what is time_based has either a \"window\" or a \"streak\""),
            }
        }
        Part::All(parts) => Ok(Clause::All(all_checked(parts, deeper, left)?)),
        Part::Any(parts) => Ok(Clause::Any(all_checked(parts, deeper, left)?)),
    }
}

fn all_checked(parts: Vec<Part>, deeper: usize, left: &mut usize) -> Result<Vec<Clause>, Problem> {
    let Some(deeper) = deeper.checked_sub(1) else {
        return problem(format!("it is nested deeper than {DEEPEST} combinations"));
    };
    if parts.is_empty() {
        return problem("a combination of no clauses says nothing");
    }
    parts
        .into_iter()
        .map(|part| checked(part, deeper, left))
        .collect()
}

/// Whether this is the name of a metric: letters and digits of ASCII, `_`, `.`, `:` and `-`, up to [`LONGEST_METRIC`].
pub fn check_metric(metric: &str) -> Result<(), Problem> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    if metric.is_empty() || metric.len() > LONGEST_METRIC || !metric.chars().all(allowed) {
        let shown: String = metric.chars().take(80).collect();
        return problem(format!(
            "\"{shown}\" is no name of a metric: 1 to {LONGEST_METRIC} of the characters a-z, A-Z, 0-9, _ . : -"
        ));
    }
    Ok(())
}

fn check_threshold(threshold: f64) -> Result<(), Problem> {
    if threshold > 0.0 && threshold <= LARGEST_THRESHOLD {
        return Ok(());
    }
    problem(format!(
        "a threshold is {threshold}; it must be more than 0 and at most {LARGEST_THRESHOLD}"
    ))
}

fn check_days(what: &str, Object(span): &Object<Span>) -> Result<u32, Problem> {
    if (1..=MOST_DAYS).contains(&span.days) {
        return Ok(span.days);
    }
    problem(format!(
        "a {what} has {} days; it must have 1 to {MOST_DAYS}",
        span.days
    ))
}
