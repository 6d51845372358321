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

/// The tables that are adopted or mended, each with so many rows; those that the Codex refers to have them, too.
const ADOPTED: [&str; 8] = [
    "public.cohorts",
    "public.moves",
    "public.positioning",
    "public.message_architecture",
    "public.campaigns",
    "public.campaign_cohorts",
    "public.agent_recommendations",
    "public.agent_trust_scores",
];

/// The product's database with four tables in their older shape, and so many rows in each that is adopted.
fn older(rows: i32) -> Database {
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
    let workspace = "w.ids[n % cardinality(w.ids) + 1]";
    let from = format!(
        "FROM (SELECT array_agg(id ORDER BY id) AS ids FROM public.workspaces) AS w, generate_series(1, {rows}) AS n"
    );
    // Row n of each refers to row n of the others, which is in the same workspace: no key has to be looked up for it.
    admin
        .batch_execute("SET session_replication_role = replica")
        .expect("without triggers");
    for (table, columns, values) in [
        (
            "cohorts",
            "id, workspace_id, name",
            "md5('cohort' || n)::uuid, {w}, 'Cohort ' || n",
        ),
        (
            "moves",
            "id, workspace_id, name",
            "md5('move' || n)::uuid, {w}, 'Move ' || n",
        ),
        (
            "positioning",
            "id, workspace_id, for_cohort_id, who_statement, category_frame",
            "md5('positioning' || n)::uuid, {w}, md5('cohort' || n)::uuid, 'Teams ' || n, 'Category ' || n",
        ),
        (
            "message_architecture",
            "positioning_id, primary_claim",
            "md5('positioning' || n)::uuid, 'Claim ' || n",
        ),
        (
            "campaigns",
            "id, workspace_id, name, objective, status, budget_total",
            "md5('campaign' || n)::uuid, {w}, 'Campaign ' || n, 'retention', 'active', n",
        ),
        (
            "campaign_cohorts",
            "campaign_id, cohort_id",
            "md5('campaign' || n)::uuid, md5('cohort' || n)::uuid",
        ),
        (
            "agent_recommendations",
            "agent_id, move_id, recommendation_text",
            "'MUS-001', md5('move' || n)::uuid, 'Shorten it'",
        ),
        (
            "agent_trust_scores",
            "workspace_id, agent_id",
            "{w}, 'MUS-001'",
        ),
    ] {
        let values = values.replace("{w}", workspace);
        admin
            .batch_execute(&format!(
                "INSERT INTO public.{table} ({columns}) SELECT {values} {from}"
            ))
            .unwrap_or_else(|error| panic!("{table}: {:?}", Failure::from(&error)));
    }
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
                 SELECT $1, c.id, 'secondary'
                 FROM public.cohorts AS c
                 WHERE c.name LIKE 'Cohort _' AND c.workspace_id = $2
                 LIMIT 1",
                &[&campaign, &workspace],
            )
        });
        send(&mut work, || {
            client.execute(
                "WITH new AS (
                     INSERT INTO public.positioning (workspace_id, who_statement, category_frame)
                     VALUES ($1, 'New teams', 'New category') RETURNING id
                 )
                 SELECT count(*) FROM new",
                &[&workspace],
            )
        });
        send(&mut work, || {
            client.execute(
                "INSERT INTO public.message_architecture (positioning_id, primary_claim)
                 SELECT p.id, 'New claim' FROM public.positioning AS p WHERE p.id = md5('positioning7')::uuid",
                &[],
            )
        });
        send(&mut work, || {
            client.execute(
                "INSERT INTO public.agent_recommendations (agent_id, move_id, recommendation_text)
                 VALUES ('MUS-001', md5('move7')::uuid, 'Live')",
                &[],
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
    let rows = setting("CODEX_LIVE_ROWS", 20_000) as i32;
    let seed = seed("live");
    let db = older(rows);
    let mut admin = db.admin();
    let counts = |admin: &mut Client| {
        ADOPTED.map(|table| value::<i64>(admin, &format!("SELECT count(*) FROM {table}"), &[]))
    };
    let before = counts(&mut admin);
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
                    let large = failure.sqlstate == "55000" && failure.detail.contains(" is large");
                    assert!(large && prepared < 200, "{step}: {failure:?}");
                    prepared += prepare(&mut admin, &failure);
                }
                told.push(format!(
                    "{step}: {:?}, {prepared} statements before it",
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
        "{rows} rows in each of {} tables, {} statements of {CONNECTIONS} connections, {} lock timeouts, longest statement {longest:?}",
        ADOPTED.len(),
        works.iter().map(|work| work.statements).sum::<u64>(),
        works.iter().map(|work| work.timeouts).sum::<u64>()
    );
    for line in told {
        println!("  {line}");
    }
    // Each round of the application adds a row to each but cohorts, moves and trust scores.
    let new = inserted.len() as i64;
    let added = [0, 0, new, new, new, new, new, 0];
    let expected: Vec<i64> = before
        .iter()
        .zip(added)
        .map(|(before, added)| before + added)
        .collect();
    assert_eq!(counts(&mut admin).to_vec(), expected, "{ADOPTED:?}");
    let apart: i64 = value(
        &mut admin,
        "SELECT (SELECT count(*) FROM public.campaign_cohorts AS l JOIN public.campaigns AS k ON k.id = l.campaign_id
                 WHERE l.workspace_id IS DISTINCT FROM k.workspace_id)
              + (SELECT count(*) FROM public.message_architecture AS m JOIN public.positioning AS p ON p.id = m.positioning_id
                 WHERE m.workspace_id IS DISTINCT FROM p.workspace_id OR m.primary_message IS DISTINCT FROM m.primary_claim)
              + (SELECT count(*) FROM public.positioning AS p WHERE p.market_segment IS DISTINCT FROM p.category_frame)
              + (SELECT count(*) FROM public.agent_recommendations AS r JOIN public.moves AS m ON m.id = r.move_id
                 WHERE r.workspace_id IS DISTINCT FROM m.workspace_id)",
        &[],
    );
    assert_eq!(apart, 0, "filled in from what the row said");
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
