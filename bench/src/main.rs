//! `make bench`: the Codex beside what a user would otherwise have, and beside the bare statements.
//!
//! | side | what it is |
//! |---|---|
//! | codex | the functions and policies of the extension, called by a role that row-level security applies to |
//! | baseline | the same functions in plain PL/pgSQL, plain `current_setting(..)::uuid` policies, single-column indexes (`bench/baseline`) |
//! | limit | the bare statement on the Codex's tables, prepared, without functions and without row-level security |
//!
//! Every measure runs its sides in turn, several rounds, and reports medians. What counts is the CPU time of the
//! backend, which other work on the machine disturbs least; the wall time stands beside it. Nothing passes or fails:
//! a target that is missed is said so, and the exit code is 0.
//!
//! Environment: `BENCH_HOST` the socket folder of a server that has the extension (made by tools/bench);
//! `BENCH_ROWS` the sizes, ascending (default `10000 100000 1000000`); `BENCH_ROUNDS` (default 7); `BENCH_ONLY`
//! begins the names of the measures to run; `BENCH_RESULTS` the folder for the results.

mod answers;
mod compare;
mod engines_achievements;
mod engines_agents;
mod engines_alerts;
mod engines_campaigns;
mod engines_departures;
mod engines_notifications;
mod engines_signals;
mod plot;
mod reading;
mod report;
mod session;
mod stage;
mod throughput;
mod whole;
mod writing;

use compare::Bench;
use std::env;

/// What is measured once the data has its largest size, in this order: a subsystem has a module of its own and a
/// line here.
const AT_THE_LARGEST_SIZE: &[fn(&mut Bench) -> Result<()>] = &[
    writing::measure,
    throughput::measure,
    engines_achievements::at_once,
    engines_agents::at_once,
    engines_notifications::at_once,
    engines_campaigns::at_once,
];

/// What stops a run.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn setting(name: &str, default: &str) -> String {
    env::var(name)
        .ok()
        .filter(|value| !value.trim().is_empty())
        .unwrap_or_else(|| default.to_string())
}

fn main() -> Result<()> {
    let host = setting("BENCH_HOST", "");
    if host.is_empty() {
        return Err("BENCH_HOST is not set: run `make bench`, which starts a server".into());
    }
    let sizes = setting("BENCH_ROWS", "10000 100000 1000000")
        .split_whitespace()
        .map(str::parse)
        .collect::<std::result::Result<Vec<u64>, _>>()?;
    if sizes.is_empty() || !sizes.is_sorted() {
        return Err("BENCH_ROWS takes numbers of rows, ascending".into());
    }
    let rounds = setting("BENCH_ROUNDS", "7").parse()?;
    let only = setting("BENCH_ONLY", "");

    session::at(&host);
    let mut bench = Bench::new(rounds, only);
    whole::measure(&mut bench)?;
    stage::build()?;
    let largest = *sizes.last().unwrap_or(&0);
    let mut loaded = 0;
    for &rows in &sizes {
        stage::grow(loaded, rows, largest)?;
        loaded = rows;
        bench.rows = Some(rows);
        answers::check()?;
        reading::measure(&mut bench)?;
        if rows == largest {
            writing::sizes(&mut bench)?;
        }
        writing::notification(&mut bench)?;
        engines_signals::measure(&mut bench)?;
        engines_achievements::measure(&mut bench)?;
        engines_agents::measure(&mut bench)?;
        engines_alerts::measure(&mut bench)?;
        engines_campaigns::measure(&mut bench)?;
        engines_notifications::measure(&mut bench)?;
        engines_departures::measure(&mut bench)?;
    }
    for measure in AT_THE_LARGEST_SIZE {
        measure(&mut bench)?;
    }
    bench.growth(&sizes);
    report::write(
        &bench,
        &sizes,
        &setting(
            "BENCH_RESULTS",
            concat!(env!("CARGO_MANIFEST_DIR"), "/results"),
        ),
    )
}
