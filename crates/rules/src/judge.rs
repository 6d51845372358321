//! How far somebody has come.

use crate::Clause;
use std::collections::BTreeMap;

/// What is known of one metric of one user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metric {
    /// How often it was recorded.
    pub events: i64,
    /// What its values add up to.
    pub total: f64,
    /// The days on which it was recorded, in order, each once.
    pub days: Vec<Day>,
}

/// A metric on one day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Day {
    /// Days are numbered; neighbours differ by 1.
    pub number: i32,
    /// What the values of the day add up to.
    pub total: f64,
}

/// What is known, by metric. A metric that is not in it was never recorded.
pub type Facts = BTreeMap<String, Metric>;

/// What is to be said of one clause.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Where it stands: `rule` is the whole, `rule.all[2]` the third part of it.
    pub place: String,
    /// `count`, `milestone`, `window`, `streak`, `all` or `any`.
    pub kind: &'static str,
    /// The metric, where it has one.
    pub metric: Option<String>,
    /// What is needed: times, the sum, days in a row, or how many parts.
    pub needed: f64,
    /// What is there of it.
    pub reached: f64,
    /// Whether it is met.
    pub met: bool,
    /// A sentence that says so.
    pub text: String,
}

impl Finding {
    /// What is missing.
    #[must_use]
    pub fn missing(&self) -> f64 {
        (self.needed - self.reached).max(0.0)
    }
}

/// What is to be said of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Whether it is met.
    pub met: bool,
    /// The way so far, from 0 to 1; 1 when it is met, and only then.
    pub progress: f64,
    /// A finding a clause, the whole first and parts after what they belong to.
    pub findings: Vec<Finding>,
}

impl Clause {
    /// How far the facts go towards this rule.
    #[must_use]
    pub fn judge(&self, facts: &Facts) -> Verdict {
        let mut findings = Vec::new();
        let (met, progress) = self.add_findings("rule".to_string(), facts, &mut findings);
        Verdict {
            met,
            progress,
            findings,
        }
    }

    fn add_findings(
        &self,
        place: String,
        facts: &Facts,
        findings: &mut Vec<Finding>,
    ) -> (bool, f64) {
        let (kind, parts) = match self {
            Self::All(parts) => ("all", parts),
            Self::Any(parts) => ("any", parts),
            _ => {
                let finding = self.finding(place, facts);
                let way = (finding.met, share(&finding));
                findings.push(finding);
                return way;
            }
        };
        // The whole is said before its parts, and known after them.
        let slot = findings.len();
        findings.push(Finding {
            place: place.clone(),
            kind,
            metric: None,
            needed: if kind == "all" {
                parts.len() as f64
            } else {
                1.0
            },
            reached: 0.0,
            met: false,
            text: String::new(),
        });
        let ways: Vec<(bool, f64)> = parts
            .iter()
            .enumerate()
            .map(|(number, part)| {
                part.add_findings(format!("{place}.{kind}[{number}]"), facts, findings)
            })
            .collect();
        let met_parts = ways.iter().filter(|(met, _)| *met).count();
        let (met, progress) = if kind == "all" {
            let sum: f64 = ways.iter().map(|(_, progress)| progress).sum();
            (met_parts == parts.len(), sum / parts.len() as f64)
        } else {
            let best = ways
                .iter()
                .map(|(_, progress)| *progress)
                .fold(0.0, f64::max);
            (met_parts > 0, best)
        };
        let whole = &mut findings[slot];
        whole.reached = met_parts as f64;
        whole.met = met;
        whole.text = format!(
            "{met_parts} of {} met, {} needed",
            parts.len(),
            if kind == "all" { "all" } else { "one" }
        );
        (met, if met { 1.0 } else { below_one(progress) })
    }

    /// The finding of a clause that has no parts.
    fn finding(&self, place: String, facts: &Facts) -> Finding {
        let nothing = Metric::default();
        let name = self.metric().unwrap_or_default();
        let metric = facts.get(name).unwrap_or(&nothing);
        let (kind, needed, reached, text) = match self {
            Self::Count { times, .. } => {
                let (needed, reached) = (f64::from(*times), metric.events as f64);
                let text = format!("{name} recorded {reached} of {needed} times");
                ("count", needed, reached, text)
            }
            Self::Milestone { threshold, .. } => {
                let text = format!("{name} adds up to {} of {threshold}", metric.total);
                ("milestone", *threshold, metric.total, text)
            }
            Self::Window {
                threshold, days, ..
            } => {
                let best = best_window(&metric.days, *days);
                let text = format!(
                    "{name} adds up to {best} of {threshold} within the best {days} days in a row"
                );
                ("window", *threshold, best, text)
            }
            Self::Streak {
                threshold, days, ..
            } => {
                let run = longest_run(&metric.days, *threshold);
                let each = threshold.map_or(String::new(), |each| format!(" with {each} or more"));
                let text = format!("{name} on {run} of {days} days in a row{each}");
                ("streak", f64::from(*days), f64::from(run), text)
            }
            Self::All(_) | Self::Any(_) => ("", 0.0, 0.0, String::new()),
        };
        Finding {
            place,
            kind,
            metric: Some(name.to_string()),
            needed,
            reached,
            met: reached >= needed,
            text,
        }
    }
}

/// The way of a clause without parts.
fn share(finding: &Finding) -> f64 {
    if finding.met {
        1.0
    } else {
        below_one((finding.reached / finding.needed).max(0.0))
    }
}

/// A way that is not at its end, even where it is so near that a double cannot tell.
fn below_one(progress: f64) -> f64 {
    progress.min(1.0 - f64::EPSILON)
}

/// The largest sum of `length` days in a row.
fn best_window(days: &[Day], length: u32) -> f64 {
    let mut best = 0.0_f64;
    let mut first = 0;
    for (last, day) in days.iter().enumerate() {
        while i64::from(day.number) - i64::from(days[first].number) >= i64::from(length) {
            first += 1;
        }
        // Summed anew each time: taking the first day off a running sum would leave rounding errors in it.
        let sum = days[first..=last].iter().map(|day| day.total).sum();
        best = best.max(sum);
    }
    best
}

/// The most days in a row with `threshold` or more each.
fn longest_run(days: &[Day], threshold: Option<f64>) -> u32 {
    let (mut longest, mut run) = (0_u32, 0_u32);
    let mut before = None;
    for day in days {
        if threshold.is_some_and(|threshold| day.total < threshold) {
            continue;
        }
        let follows = before == day.number.checked_sub(1) && before.is_some();
        run = if follows { run + 1 } else { 1 };
        longest = longest.max(run);
        before = Some(day.number);
    }
    longest
}
