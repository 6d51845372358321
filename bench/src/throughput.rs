//! Calls a second with several connections at once.

use crate::Result;
use crate::compare::{Bench, Spread};
use crate::session::{BASELINE, CODEX, PLAIN, SERVICE, Session};
use crate::writing::{Executions, MEMBERS, Pairs, RECORD, SEND, UNLOCK, ids};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: [usize; 3] = [1, 4, 16];
const SECONDS: f64 = 1.0;
/// Calls that a connection makes before it counts: those of a connection that lives in a pool.
const WARM_UP: usize = 20;
const ROUNDS: usize = 5;

#[derive(Clone, Copy)]
enum Call {
    Unlock,
    Record,
    Send,
}

/// The next pair to unlock, for the Codex and for the baseline; the measures before took the first ones.
static PAIRS: [AtomicUsize; 2] = [AtomicUsize::new(10_000), AtomicUsize::new(10_000)];

/// What a connection costs that was opened for one call: with the throughput of those that live on, the whole picture.
fn first_calls(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "first call";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let mut values = Vec::new();
    for (name, call) in [
        ("unlock", Call::Unlock),
        ("record", Call::Record),
        ("send", Call::Send),
    ] {
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (side, costs) in costs.iter_mut().enumerate() {
                let session = open(side)?;
                let clock = session.clock();
                let mut work = prepare(session, call, side, 0)?;
                work()?;
                costs.push(clock.now()?.cpu_microseconds());
            }
        }
        let [codex, plain] = costs.map(|costs| Spread::of(costs).median);
        values.push((format!("codex, {name}"), codex));
        values.push((format!("baseline, {name}"), plain));
    }
    bench.figure(
        NAME,
        "CPU time of a connection from its start to the end of its first call",
        values,
        "µs",
    );
    Ok(())
}

pub fn measure(bench: &mut Bench) -> Result<()> {
    first_calls(bench)?;
    for (name, call) in [
        ("throughput, unlock", Call::Unlock),
        ("throughput, record", Call::Record),
        ("throughput, send", Call::Send),
    ] {
        if !bench.wants(name) {
            continue;
        }
        let mut values = Vec::new();
        let mut ratios = Vec::new();
        for connections in CONNECTIONS {
            let mut rates = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (side, rates) in rates.iter_mut().enumerate() {
                    rates.push(rate(call, side, connections)?);
                }
            }
            let ratio = Spread::of(rates[0].iter().zip(&rates[1]).map(|(a, b)| a / b).collect());
            let [codex, plain] = rates.map(|rates| Spread::of(rates).median);
            values.push((format!("codex, {connections}"), codex));
            values.push((format!("baseline, {connections}"), plain));
            ratios.push((connections, ratio.median));
        }
        bench.figure(
            name,
            "calls a second, by number of connections",
            values,
            "/s",
        );
        for (connections, ratio) in ratios {
            let what = format!("codex ÷ baseline, {connections} connections");
            bench.at_least(name, &what, ratio, 1.0, "×");
        }
    }
    Ok(())
}

/// Calls a second of one side.
fn rate(call: Call, side: usize, connections: usize) -> Result<f64> {
    at_once(connections, |number| {
        prepare(open(side)?, call, side, number)
    })
}

/// What is done a second by as many connections as are told, for [`SECONDS`]: each prepares for itself and warms up, all
/// begin at the same time, and a call of what was prepared says how much it did.
pub fn at_once(connections: usize, prepare: impl Fn(usize) -> Result<Work> + Sync) -> Result<f64> {
    let stop = AtomicBool::new(false);
    let ready = Barrier::new(connections + 1);
    let calls = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    let elapsed = thread::scope(|scope| {
        for number in 0..connections {
            let (stop, ready, calls, failure) = (&stop, &ready, &calls, &failure);
            let prepare = &prepare;
            scope.spawn(move || {
                let prepared = prepare(number).and_then(|mut work| {
                    for _ in 0..WARM_UP {
                        work()?;
                    }
                    Ok(work)
                });
                ready.wait();
                let done = prepared.and_then(|mut work| {
                    let mut done = 0;
                    while !stop.load(Ordering::Relaxed) {
                        done += work()?;
                    }
                    Ok(done)
                });
                match done {
                    Ok(done) => {
                        calls.fetch_add(done, Ordering::Relaxed);
                    }
                    Err(error) => {
                        if let Ok(mut failure) = failure.lock() {
                            *failure = Some(crate::compare::in_words(&*error));
                        }
                    }
                }
            });
        }
        ready.wait();
        let begin = Instant::now();
        thread::sleep(Duration::from_secs_f64(SECONDS));
        stop.store(true, Ordering::Relaxed);
        begin.elapsed()
    });
    if let Ok(Some(failure)) = failure.into_inner() {
        return Err(failure.into());
    }
    Ok(calls.into_inner() as f64 / elapsed.as_secs_f64())
}

/// One call of a connection; it gives how much it did.
pub type Work = Box<dyn FnMut() -> Result<usize>>;

/// Opens a session of a side.
fn open(side: usize) -> Result<Session> {
    let (database, role) = [(CODEX, SERVICE), (BASELINE, PLAIN)][side];
    Session::in_workspace(database, role)
}

fn prepare(mut session: Session, call: Call, side: usize, number: usize) -> Result<Work> {
    let schema = ["codex", "public"][side];
    let workspace = crate::reading::fixed_id("workspace")?;
    Ok(match call {
        Call::Unlock => {
            let statement = session.prepare(&format!("SELECT * FROM {schema}.{UNLOCK}"))?;
            let pairs = Pairs::new(0)?;
            Box::new(move || {
                let (user, achievement) = pairs.at(PAIRS[side].fetch_add(1, Ordering::Relaxed));
                session.query_one(&statement, &[&user, &achievement, &workspace])?;
                Ok(1)
            })
        }
        Call::Record => {
            let statement = session.prepare(&format!("SELECT {schema}.{RECORD}"))?;
            let executions = Executions::new(number * 5)?;
            Box::new(move || {
                executions.record(&mut session, &statement)?;
                Ok(1)
            })
        }
        Call::Send => {
            let statement = session.prepare(&format!("SELECT {schema}.{SEND}"))?;
            let users = ids("user", MEMBERS)?;
            let mut turn = number * 61;
            Box::new(move || {
                turn = (turn + 7) % users.len();
                session.execute(
                    &statement,
                    &[
                        &workspace,
                        &users[turn],
                        &"Checkout is slow",
                        &"Who takes it?",
                    ],
                )?;
                Ok(1)
            })
        }
    })
}
