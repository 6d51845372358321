//! Adoption and its rollback while the old application goes on reading and writing.

use crate::dice::{Dice, seed, setting};
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Database, Failure, Uuid, value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 8;

/// How long a statement of the application waits for a lock, before it gives up and is sent again.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one connection did.
#[derive(Default)]
struct Work {
    inserted: Vec<Uuid>,
    statements: u64,
    timeouts: u64,
    longest: Duration,
}

/// The product's database with four tables in their older shape, and so many campaigns in them.
fn older(campaigns: i32) -> Database {
    let db = Database::empty();
    let mut admin = db.admin();
    for text in [
        include_str!("../../fixtures/product_52_tables.sql"),
        include_str!("../../fixtures/four_older_tables.sql"),
        "CREATE EXTENSION raptorflow_codex",
        "SET statement_timeout = 0",
    ] {
        admin
            .batch_execute(text)
            .unwrap_or_else(|error| panic!("{:?}", Failure::from(&error)));
    }
    admin
        .execute(
            "INSERT INTO public.campaigns (workspace_id, name, objective, status, budget_total)
             SELECT w.ids[n % cardinality(w.ids) + 1], 'Campaign ' || n, 'retention', 'active', n
             FROM (SELECT array_agg(id) AS ids FROM public.workspaces) AS w, generate_series(1, $1) AS n",
            &[&campaigns],
        )
        .expect("old campaigns");
    admin.batch_execute("ANALYZE").expect("statistics");
    db
}

/// One statement of the application, sent again when it waited too long for a lock; any other failure is one.
fn send<T>(work: &mut Work, mut statement: impl FnMut() -> Result<T, Error>) -> T {
    loop {
        let begun = Instant::now();
        let result = statement();
        work.longest = work.longest.max(begun.elapsed());
        work.statements += 1;
        match result {
            Ok(value) => return value,
            Err(error) => {
                let failure = Failure::from(&error);
                assert_eq!(
                    failure.sqlstate, "55P03",
                    "the application failed: {failure}"
                );
                work.timeouts += 1;
            }
        }
    }
}

/// What the application does all day: it knows nothing of the Codex.
fn application(client: &mut Client, dice: &mut Dice, stop: &AtomicBool) -> Work {
    let mut work = Work::default();
    client
        .batch_execute(&format!("SET lock_timeout = '{}ms'", PATIENCE.as_millis()))
        .expect("a session");
    let workspaces: Vec<Uuid> = client
        .query("SELECT id FROM public.workspaces", &[])
        .expect("the workspaces")
        .iter()
        .map(|row| row.get(0))
        .collect();
    while !stop.load(Ordering::Relaxed) {
        let workspace = *dice.pick(&workspaces);
        let campaign: Uuid = send(&mut work, || {
            client.query_one(
                "INSERT INTO public.campaigns (workspace_id, name, objective, status, budget_total)
                 VALUES ($1, 'Live', 'retention', 'cancelled', 12) RETURNING id",
                &[&workspace],
            )
        })
        .get(0);
        work.inserted.push(campaign);
        send(&mut work, || {
            client.execute(
                "UPDATE public.campaigns SET health_score = 80, status = 'paused' WHERE id = $1",
                &[&campaign],
            )
        });
        send(&mut work, || {
            client.execute(
                "INSERT INTO public.campaign_cohorts (campaign_id, cohort_id, priority)
                 SELECT $1, c.id, 'secondary' FROM public.cohorts AS c WHERE c.workspace_id = $2 LIMIT 1",
                &[&campaign, &workspace],
            )
        });
        let name: String = send(&mut work, || {
            client.query_one(
                "SELECT name FROM public.campaigns WHERE id = $1",
                &[&campaign],
            )
        })
        .get(0);
        assert_eq!(name, "Live");
    }
    work
}

/// Runs what a large table needs beforehand, as `codex.migrate()` lists it: each statement by itself.
fn prepare(admin: &mut Client, refusal: &Failure) -> usize {
    let statements: Vec<&str> = refusal
        .detail
        .lines()
        .filter_map(|line| {
            let begin = ["CREATE ", "ALTER ", "UPDATE ", "DO ", "SET "]
                .iter()
                .filter_map(|verb| line.find(verb))
                .min()?;
            Some(line[begin..].trim_end_matches(';'))
        })
        .collect();
    for statement in &statements {
        admin
            .batch_execute(statement)
            .unwrap_or_else(|error| panic!("{statement}: {:?}", Failure::from(&error)));
    }
    statements.len()
}

#[test]
fn adoption_and_rollback_beside_eight_busy_connections() {
    let campaigns = setting("CODEX_LIVE_CAMPAIGNS", 20_000) as i32;
    let seed = seed("live");
    let db = older(campaigns);
    let mut admin = db.admin();
    let before: i64 = value(&mut admin, "SELECT count(*) FROM public.campaigns", &[]);
    let stop = AtomicBool::new(false);
    let (works, told) = std::thread::scope(|scope| {
        let connections: Vec<_> = (0..CONNECTIONS)
            .map(|number| {
                let mut client = db.admin();
                let stop = &stop;
                scope.spawn(move || {
                    application(&mut client, &mut Dice::new(seed, number as u64), stop)
                })
            })
            .collect();
        // A failure in here must not leave the connections at work for ever.
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut told = Vec::new();
            std::thread::sleep(Duration::from_millis(500));
            admin
                .batch_execute("SET lock_timeout = '60s'; SET statement_timeout = 0")
                .expect("a session");
            for step in [
                "SELECT codex.migrate(archive_unused => true)",
                "SELECT codex.migrate()",
                "SELECT codex.verify_or_raise()",
                "SELECT codex.rollback(0, true)",
                "SELECT codex.migrate(archive_unused => true)",
                "SELECT codex.migrate()",
                "SELECT codex.verify_or_raise()",
            ] {
                let begun = Instant::now();
                let mut prepared = 0;
                while let Err(error) = admin.batch_execute(step) {
                    let failure = Failure::from(&error);
                    let large =
                        failure.sqlstate == "55000" && failure.detail.contains("CONCURRENTLY");
                    assert!(large && prepared < 200, "{step}: {failure:?}");
                    prepared += prepare(&mut admin, &failure);
                }
                told.push(format!(
                    "{step}: {:?}, {prepared} statements beforehand",
                    begun.elapsed()
                ));
                std::thread::sleep(Duration::from_millis(200));
            }
            told
        }));
        stop.store(true, Ordering::Relaxed);
        let works: Vec<Work> = connections
            .into_iter()
            .map(|connection| {
                connection
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        (
            works,
            told.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    });

    let inserted: Vec<Uuid> = works
        .iter()
        .flat_map(|work| work.inserted.clone())
        .collect();
    let longest = works
        .iter()
        .map(|work| work.longest)
        .max()
        .unwrap_or_default();
    println!(
        "{before} campaigns before, {} statements of {CONNECTIONS} connections, {} lock timeouts, longest statement {longest:?}",
        works.iter().map(|work| work.statements).sum::<u64>(),
        works.iter().map(|work| work.timeouts).sum::<u64>()
    );
    for line in told {
        println!("  {line}");
    }
    let after: i64 = value(&mut admin, "SELECT count(*) FROM public.campaigns", &[]);
    assert_eq!(after, before + inserted.len() as i64);
    let there: i64 = value(
        &mut admin,
        "SELECT count(*) FROM public.campaigns WHERE id = ANY ($1) AND health_score = 80 AND status = 'paused'",
        &[&inserted],
    );

    assert_eq!(there, inserted.len() as i64);
    assert!(inserted.len() > 50, "only {} campaigns", inserted.len());
    // A second for a machine that is busy with other tests.
    assert!(
        longest < PATIENCE + Duration::from_secs(1),
        "a statement took {longest:?}"
    );
}
