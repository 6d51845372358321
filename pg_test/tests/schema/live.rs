//! Adoption and rollback while the application reads and writes.
//!
//! `CODEX_TEST_ROWS` says how many campaigns there are: 20,000 without it, a million in the long run.

use crate::adoption::older;
use crate::support::verified;
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Failure, value};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn rows() -> i64 {
    std::env::var("CODEX_TEST_ROWS")
        .ok()
        .and_then(|rows| rows.parse().ok())
        .unwrap_or(20_000)
}

/// Calls an engine function until it gets its locks; any other failure fails the test. Gives how often it tried.
fn patiently(client: &mut Client, call: &str) -> u32 {
    for tries in 1..=20 {
        match client.query(&format!("SELECT * FROM {call}"), &[]) {
            Ok(_) => return tries,
            Err(error) => {
                let failure = Failure::from(&error);
                assert_eq!(failure.sqlstate, "55P03", "{call}: {failure:?}");
            }
        }
    }
    panic!("{call} never got its locks");
}

/// Runs what a large table needs beforehand, as `codex.migrate()` lists it.
fn prepare_large_tables(client: &mut Client) -> usize {
    let failure = match client.query("SELECT * FROM codex.migrate(dry_run => true)", &[]) {
        Ok(_) => return 0,
        Err(error) => Failure::from(&error),
    };
    assert_eq!(failure.sqlstate, "55000", "{failure:?}");
    let mut done = 0;
    for line in failure.detail.lines() {
        let (_, statement) = line
            .split_once(": ")
            .unwrap_or_else(|| panic!("no statement in: {line}"));
        client
            .batch_execute(statement)
            .unwrap_or_else(|error| panic!("{statement}: {:?}", Failure::from(&error)));
        done += 1;
    }
    done
}

#[test]
fn the_application_goes_on_while_its_tables_are_adopted_and_given_back() {
    let rows = rows();
    let db: Database = older();
    let mut admin = db.admin();
    admin
        .batch_execute(&format!(
            "INSERT INTO public.campaigns (workspace_id, name, objective)
             SELECT md5('workspace' || (n % 3 + 1))::uuid, 'Bulk ' || n, 'awareness'
               FROM generate_series(1, {rows}) AS n;
             CREATE INDEX bulk ON public.campaigns (name);
             ANALYZE public.campaigns;"
        ))
        .expect("many campaigns");
    let before: i64 = value(&mut admin, "SELECT count(*) FROM public.campaigns", &[]);

    let stop = AtomicBool::new(false);
    let (reads, writes) = (AtomicU64::new(0), AtomicU64::new(0));
    let longest = std::thread::scope(|scope| {
        let mut sessions = Vec::new();
        for session in 0..8 {
            let (db, stop, reads, writes) = (&db, &stop, &reads, &writes);
            sessions.push(scope.spawn(move || {
                let mut client = db.admin();
                let mut longest = Duration::ZERO;
                let mut number: i64 = session;
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    number = (number * 31 + 7) % rows + 1;
                    let name = format!("Bulk {number}");
                    let done = if session % 2 == 0 {
                        client
                            .query("SELECT id, name, status FROM public.campaigns WHERE name = $1", &[&name])
                            .map(|found| assert_eq!(found.len(), 1, "{name}"))
                            .map(|()| reads.fetch_add(1, Ordering::Relaxed))
                    } else {
                        let mut work = || -> Result<u64, codex_pg_test::postgres::Error> {
                            let mut transaction = client.transaction()?;
                            transaction.execute(
                                "UPDATE public.campaigns SET health_score = $2 WHERE name = $1",
                                &[&name, &i32::try_from(number % 100).unwrap_or(0)],
                            )?;
                            transaction.execute(
                                "INSERT INTO public.campaigns (workspace_id, name, objective, status)
                                 VALUES (md5('workspace1')::uuid, 'Written live', 'retention', 'cancelled')",
                                &[],
                            )?;
                            transaction.commit()?;
                            Ok(writes.fetch_add(1, Ordering::Relaxed))
                        };
                        work()
                    };
                    if let Err(error) = done {
                        panic!("the application failed: {:?}", Failure::from(&error));
                    }
                    longest = longest.max(begun.elapsed());
                }
                longest
            }));
        }
        let prepared = prepare_large_tables(&mut admin);
        let mut tries = Vec::new();
        for call in [
            "codex.migrate()",
            // Validates what was added without reading a large table.
            "codex.migrate()",
            "codex.rollback(12)",
            "codex.migrate()",
            "codex.migrate()",
        ] {
            tries.push(format!("{call} {}", patiently(&mut admin, call)));
        }
        stop.store(true, Ordering::Relaxed);
        let longest = sessions
            .into_iter()
            .map(|session| {
                session
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .max()
            .unwrap_or_default();
        println!(
            "{rows} rows; {prepared} statements beforehand; tries: {}",
            tries.join(", ")
        );
        longest
    });
    let (reads, writes) = (reads.into_inner(), writes.into_inner());
    println!(
        "{reads} reads and {writes} writes went on, none failed; the longest took {longest:?}"
    );
    assert!(reads > 20 && writes > 20, "{reads} reads, {writes} writes");
    verified(&mut admin);
    let after: i64 = value(&mut admin, "SELECT count(*) FROM public.campaigns", &[]);
    assert_eq!(
        after,
        before + i64::try_from(writes).unwrap_or(0),
        "no row lost, none written twice"
    );
}
