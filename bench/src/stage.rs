//! The two databases: made once a run, then filled up from size to size.

use crate::Result;
use crate::compare::in_words;
use crate::session::{BASELINE, CODEX, MEMBER, OWNER, PLAIN, SERVICE, Session};
use codex_sketch::Sketch;

const FIXED: &str = include_str!("../data/fixed.sql");
const GROWING: &str = include_str!("../data/growing.sql");
const TABLES: &str = include_str!("../baseline/tables.sql");
const FUNCTIONS: &str = include_str!("../baseline/functions.sql");
const POLICIES: &str = include_str!("../baseline/policies.sql");

/// Both databases, as a superuser who is not held up by foreign keys while loading.
fn loaders() -> Result<[Session; 2]> {
    let mut loaders = [
        Session::open(CODEX, OWNER)?,
        Session::open(BASELINE, OWNER)?,
    ];
    for loader in &mut loaders {
        loader.batch_execute("SET session_replication_role = replica")?;
    }
    Ok(loaders)
}

fn run(session: &mut Session, what: &str, sql: &str) -> Result<()> {
    session
        .batch_execute(sql)
        .map_err(|error| format!("{what}: {}", in_words(&error)).into())
}

/// Makes a database anew.
pub fn make_database(name: &str) -> Result<()> {
    let mut admin = Session::open("postgres", OWNER)?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))?;
    admin.batch_execute(&format!("CREATE DATABASE {name}"))?;
    Ok(())
}

/// Roles, the two databases with their tables and functions, and the data that does not grow.
pub fn build() -> Result<()> {
    println!("\ntwo databases: codex and baseline");
    for database in [CODEX, BASELINE] {
        make_database(database)?;
    }
    let mut admin = Session::open("postgres", OWNER)?;
    for role in [MEMBER, SERVICE, PLAIN] {
        admin.batch_execute(&format!(
            "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN"
        ))?;
    }
    let mut codex = Session::open(CODEX, OWNER)?;
    run(
        &mut codex,
        "migrate",
        &format!(
            "CREATE EXTENSION raptorflow_codex;
             ALTER DATABASE {CODEX} SET session_preload_libraries = 'raptorflow_codex';
             SELECT * FROM codex.migrate();
             SELECT codex.grant_member_role('{MEMBER}');
             SELECT codex.grant_service_role('{SERVICE}');"
        ),
    )?;
    let mut plain = Session::open(BASELINE, OWNER)?;
    for (what, sql) in [
        ("baseline/tables.sql", TABLES),
        ("baseline/functions.sql", FUNCTIONS),
        ("baseline/policies.sql", POLICIES),
    ] {
        run(&mut plain, what, sql)?;
    }
    for loader in &mut loaders()? {
        run(loader, "data/fixed.sql", FIXED)?;
    }
    performance()?;
    settle()
}

/// Thirty days of hours of 87 agents, each hour with two hundred executions.
fn performance() -> Result<()> {
    let [mut codex, mut plain] = loaders()?;
    let sketches: Vec<Vec<u8>> = (0..87_u32)
        .map(|agent| sketch(200, agent).to_bytes())
        .collect();
    codex.batch_execute("CREATE TEMP TABLE sketch (number bigint, bytes bytea)")?;
    for (number, bytes) in sketches.iter().enumerate() {
        codex.execute(
            "INSERT INTO sketch VALUES ($1, $2)",
            &[&(number as i64), bytes],
        )?;
    }
    let rows = |extra: &str, value: &str, from: &str| {
        format!(
            "INSERT INTO public.agent_performance (
                 workspace_id, agent_id, measurement_date, measurement_hour, execution_count, success_count,
                 failure_count, error_count, total_input_tokens, total_output_tokens, total_cost_incurred,
                 avg_execution_time_seconds, min_execution_time_seconds, max_execution_time_seconds{extra}
             )
             SELECT bench_id('workspace', 0), bench_id('agent', a.number), day::date,
                    extract(hour FROM day)::integer, 200, 190, 10, 10, 200000, 40000, 12.5, 1.9, 0.2, 9.7{value}
             FROM generate_series(
                 date_trunc('day', now() AT TIME ZONE 'UTC') - interval '30 days',
                 date_trunc('day', now() AT TIME ZONE 'UTC') - interval '1 hour',
                 interval '1 hour'
             ) AS day
             CROSS JOIN {from}"
        )
    };
    run(
        &mut codex,
        "performance",
        &rows(
            ", total_execution_time_seconds, execution_time_sketch",
            ", 380, a.bytes",
            "sketch AS a",
        ),
    )?;
    run(
        &mut plain,
        "performance",
        &rows("", "", "generate_series(0, 86) AS a (number)"),
    )
}

/// A sketch of `count` execution times around two seconds.
pub fn sketch(count: u32, agent: u32) -> Sketch {
    let mut sketch = Sketch::new();
    for place in 0..count {
        let spread = f64::from(place * 7919 % count) + 0.5;
        let u = spread / f64::from(count);
        let seconds = (1.5 + f64::from(agent) / 87.0) * (u / (1.0 - u)).powf(0.3);
        // Finite and positive by the formula.
        let _ = sketch.add(seconds);
    }
    sketch
}

/// Fills the growing tables of both databases up to `to` rows; `largest` is where it will end.
pub fn grow(from: u64, to: u64, largest: u64) -> Result<()> {
    println!("\n{to} rows in each of four tables");
    let sql = GROWING
        .replace("{from}", &from.to_string())
        .replace("{to}", &to.to_string())
        .replace("{scale}", &largest.to_string());
    for loader in &mut loaders()? {
        run(loader, "data/growing.sql", &sql)?;
    }
    settle()
}

/// Statistics and visibility as autovacuum leaves them behind, and no dirty page waiting.
pub fn settle() -> Result<()> {
    for database in [CODEX, BASELINE] {
        let mut session = Session::open(database, OWNER)?;
        session.batch_execute("VACUUM ANALYZE")?;
        session.batch_execute("CHECKPOINT")?;
    }
    Ok(())
}
