//! What unlocks an achievement.
//!
//! An achievement has a condition of one of four types, and a JSON value that says it in full:
//!
//! | type | value | is met when |
//! |---|---|---|
//! | `count` | `{"metric": "campaign.completed", "threshold": 5}` | the metric was recorded five times |
//! | `milestone` | `{"metric": "revenue", "threshold": 10000.5}` | its values add up to that much |
//! | `time_based` | `{"metric": "moves", "threshold": 20, "window": {"days": 7}}` | they do within some seven days in a row |
//! | `time_based` | `{"metric": "login", "streak": {"days": 5}}` | it was recorded on five days in a row |
//! | `time_based` | `{"metric": "moves", "threshold": 3, "streak": {"days": 5}}` | its values add up to 3 on each of five days in a row |
//! | `combination` | `{"all": [clause, …]}` | every clause is met |
//! | `combination` | `{"any": [clause, …]}` | one clause is met |
//!
//! A clause of a combination is an object with one key, `count`, `milestone`, `time_based`, `all` or `any`, and as its
//! value what stands above. Keys that are not in this table are refused, and so are conditions that are larger than
//! [`LONGEST`], nested deeper than [`DEEPEST`], or of more than [`MOST_CLAUSES`] clauses.
//!
//! All values are zero or more, so that a rule that is met stays met, whatever is recorded later and in whatever
//! order. What a day is, the caller says: facts come with numbered days.

#![forbid(unsafe_code)]

mod judge;
mod parse;

pub use judge::{Day, Facts, Finding, Metric, Verdict};
pub use parse::{
    DEEPEST, LARGEST_THRESHOLD, LONGEST, LONGEST_METRIC, MOST_CLAUSES, MOST_DAYS, Problem,
    check_metric,
};

use std::collections::BTreeSet;

/// What has to be met.
#[derive(Clone, Debug, PartialEq)]
pub enum Clause {
    /// The metric was recorded that often.
    Count {
        /// Which.
        metric: String,
        /// How often, from 1 on.
        times: u32,
    },
    /// The values of the metric add up to the threshold.
    Milestone {
        /// Which.
        metric: String,
        /// More than 0.
        threshold: f64,
    },
    /// They add up to the threshold within a number of days in a row.
    Window {
        /// Which.
        metric: String,
        /// More than 0.
        threshold: f64,
        /// How many days, from 1 on.
        days: u32,
    },
    /// The metric was recorded on a number of days in a row.
    Streak {
        /// Which.
        metric: String,
        /// What the values of each of these days have to add up to; None: anything, even 0.
        threshold: Option<f64>,
        /// How many days, from 1 on.
        days: u32,
    },
    /// Every one of them; never empty.
    All(Vec<Clause>),
    /// One of them; never empty.
    Any(Vec<Clause>),
}

impl Clause {
    /// Reads the condition of an achievement: its type, and its value as JSON text.
    pub fn parse(condition_type: &str, condition_value: &str) -> Result<Self, Problem> {
        parse::clause(condition_type, condition_value)
    }

    /// The metrics that it depends on.
    #[must_use]
    pub fn metrics(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        self.visit(&mut |clause| {
            found.extend(clause.metric());
        });
        found
    }

    /// Those of them of which it needs to know the days.
    #[must_use]
    pub fn daily_metrics(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        self.visit(&mut |clause| {
            if matches!(clause, Self::Window { .. } | Self::Streak { .. }) {
                found.extend(clause.metric());
            }
        });
        found
    }

    /// The metric of a clause that has one.
    fn metric(&self) -> Option<&str> {
        match self {
            Self::Count { metric, .. }
            | Self::Milestone { metric, .. }
            | Self::Window { metric, .. }
            | Self::Streak { metric, .. } => Some(metric),
            Self::All(_) | Self::Any(_) => None,
        }
    }

    fn visit<'a>(&'a self, see: &mut impl FnMut(&'a Self)) {
        see(self);
        if let Self::All(parts) | Self::Any(parts) = self {
            for part in parts {
                part.visit(see);
            }
        }
    }
}
