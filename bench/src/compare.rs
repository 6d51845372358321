//! Sides of a measure run in turn, and what comes of it.

use crate::Result;
use crate::session::{OWNER, Session};
use serde::Serialize;

/// What runs one batch of a side.
pub type Work<'a> = Box<dyn FnMut(&mut Session) -> Result<()> + 'a>;

/// One way to do the same thing.
pub struct Side<'a> {
    name: &'static str,
    session: Session,
    calls: u32,
    work: Work<'a>,
}

impl<'a> Side<'a> {
    /// `work` makes `calls` calls in `session`.
    pub fn new(
        name: &'static str,
        session: Session,
        calls: u32,
        work: impl FnMut(&mut Session) -> Result<()> + 'a,
    ) -> Self {
        Self {
            name,
            session,
            calls,
            work: Box::new(work),
        }
    }
}

/// Median, least and most of the rounds.
#[derive(Clone, Copy, Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Spread {
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.is_empty() {
            f64::NAN
        } else if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Self {
            median,
            least: values.first().copied().unwrap_or(f64::NAN),
            most: values.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// What one call of a side costs.
#[derive(Clone, Serialize)]
pub struct Cost {
    pub side: String,
    /// CPU time of the backend.
    pub cpu_microseconds: Spread,
    pub wall_microseconds: Spread,
    pub wal_bytes: Spread,
}

/// A measure at one size, with all its sides.
#[derive(Clone, Serialize)]
pub struct Measure {
    pub name: String,
    pub what: String,
    pub rows: Option<u64>,
    pub costs: Vec<Cost>,
}

impl Measure {
    pub fn side(&self, name: &str) -> Option<&Cost> {
        self.costs.iter().find(|cost| cost.side == name)
    }

    /// CPU time of one side, in microseconds.
    pub fn cpu(&self, side: &str) -> f64 {
        self.side(side)
            .map_or(f64::NAN, |cost| cost.cpu_microseconds.median)
    }

    pub fn wal(&self, side: &str) -> f64 {
        self.side(side)
            .map_or(f64::NAN, |cost| cost.wal_bytes.median)
    }
}

/// A figure that has a target.
#[derive(Clone, Serialize)]
pub struct Verdict {
    pub measure: String,
    pub what: String,
    pub value: f64,
    pub unit: String,
    pub target: f64,
    /// Whether the target is a least value; otherwise it is the most.
    pub at_least: bool,
    pub met: bool,
}

/// A figure without sides.
#[derive(Clone, Serialize)]
pub struct Figure {
    pub name: String,
    pub what: String,
    pub values: Vec<(String, f64)>,
    pub unit: String,
}

/// A run: what is measured so far.
pub struct Bench {
    pub rounds: usize,
    only: String,
    /// The size of the data that is loaded.
    pub rows: Option<u64>,
    pub measures: Vec<Measure>,
    pub figures: Vec<Figure>,
    pub verdicts: Vec<Verdict>,
}

impl Bench {
    pub fn new(rounds: usize, only: String) -> Self {
        Self {
            rounds,
            only,
            rows: None,
            measures: Vec::new(),
            figures: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// Whether a measure was asked for.
    pub fn wants(&self, name: &str) -> bool {
        name.starts_with(&self.only)
    }

    /// Runs the sides in turn, once to warm up and then `rounds` times.
    pub fn compare(&mut self, name: &str, what: &str, mut sides: Vec<Side<'_>>) -> Result<Measure> {
        let mut log = Session::open("postgres", OWNER)?;
        let mut position = || -> Result<i64> {
            Ok(log
                .query_one("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint", &[])?
                .get(0))
        };
        let mut seen: Vec<[Vec<f64>; 3]> = sides.iter().map(|_| Default::default()).collect();
        for round in 0..=self.rounds {
            for (side, seen) in sides.iter_mut().zip(&mut seen) {
                let written = position()?;
                let begin = side.session.now()?;
                (side.work)(&mut side.session)
                    .map_err(|error| format!("{name}, {}: {}", side.name, in_words(&*error)))?;
                let (cpu, wall) = begin.until(side.session.now()?);
                let wal = (position()? - written) as f64;
                if round > 0 {
                    let calls = f64::from(side.calls);
                    for (values, value) in seen.iter_mut().zip([cpu / 1e3, wall / 1e3, wal]) {
                        values.push(value / calls);
                    }
                }
            }
        }
        let costs = sides
            .iter()
            .zip(seen)
            .map(|(side, [cpu, wall, wal])| Cost {
                side: side.name.to_string(),
                cpu_microseconds: Spread::of(cpu),
                wall_microseconds: Spread::of(wall),
                wal_bytes: Spread::of(wal),
            })
            .collect();
        let measure = Measure {
            name: name.to_string(),
            what: what.to_string(),
            rows: self.rows,
            costs,
        };
        crate::report::print(&measure);
        self.measures.push(measure.clone());
        Ok(measure)
    }

    /// Holds a figure against the most that it should be.
    pub fn at_most(&mut self, measure: &str, what: &str, value: f64, target: f64, unit: &str) {
        self.judge(measure, what, value, target, unit, false);
    }

    /// Holds a figure against the least that it should be.
    pub fn at_least(&mut self, measure: &str, what: &str, value: f64, target: f64, unit: &str) {
        self.judge(measure, what, value, target, unit, true);
    }

    fn judge(
        &mut self,
        measure: &str,
        what: &str,
        value: f64,
        target: f64,
        unit: &str,
        at_least: bool,
    ) {
        let verdict = Verdict {
            measure: measure.to_string(),
            what: what.to_string(),
            value,
            unit: unit.to_string(),
            target,
            at_least,
            met: if at_least {
                value >= target
            } else {
                value <= target
            },
        };
        println!("    {}", crate::report::in_a_line(&verdict));
        self.verdicts.push(verdict);
    }

    /// Keeps a figure without sides.
    pub fn figure(&mut self, name: &str, what: &str, values: Vec<(String, f64)>, unit: &str) {
        let figure = Figure {
            name: name.to_string(),
            what: what.to_string(),
            values,
            unit: unit.to_string(),
        };
        crate::report::print_figure(&figure);
        self.figures.push(figure);
    }

    /// How the lists grow from the smallest size to the largest.
    pub fn growth(&mut self, sizes: &[u64]) {
        let (Some(&smallest), Some(&largest)) = (sizes.first(), sizes.last()) else {
            return;
        };
        if smallest == largest {
            return;
        }
        let at = |bench: &Self, name: &str, rows: u64| {
            bench
                .measures
                .iter()
                .find(|measure| measure.name == name && measure.rows == Some(rows))
                .map(|measure| measure.cpu("codex"))
        };
        println!("\ngrowth from {smallest} to {largest} rows");
        for name in crate::reading::LISTS {
            if let (Some(small), Some(large)) = (at(self, name, smallest), at(self, name, largest))
            {
                let what = format!("{largest} rows ÷ {smallest} rows");
                self.at_most(name, &what, large / small, 1.5, "×");
            }
        }
    }
}

/// An error with what the server said.
pub fn in_words(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<postgres::Error>() {
        Some(error) => error
            .as_db_error()
            .map_or_else(|| error.to_string(), ToString::to_string),
        None => error.to_string(),
    }
}
