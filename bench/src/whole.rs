//! The engine: `migrate()` and `verify()` on a fresh database.

use crate::Result;
use crate::compare::{Bench, Spread};
use crate::session::{OWNER, Session};
use crate::stage::make_database;

const DATABASE: &str = "bench_fresh";

pub fn measure(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "engine";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let mut seen: [Vec<f64>; 4] = Default::default();
    for _ in 0..bench.rounds.max(3) {
        make_database(DATABASE)?;
        Session::open(DATABASE, OWNER)?.batch_execute("CREATE EXTENSION raptorflow_codex")?;
        // A session of its own for each, as a person has it.
        for (at, sql) in [
            "SELECT * FROM codex.migrate()",
            "SELECT * FROM codex.verify()",
        ]
        .iter()
        .enumerate()
        {
            let mut session = Session::open(DATABASE, OWNER)?;
            session.batch_execute("SET client_min_messages = warning")?;
            let begin = session.now()?;
            session.query(*sql, &[])?;
            let (cpu, wall) = begin.until(session.now()?);
            seen[2 * at].push(cpu / 1e6);
            seen[2 * at + 1].push(wall / 1e6);
        }
    }
    Session::open("postgres", OWNER)?
        .batch_execute(&format!("DROP DATABASE {DATABASE} WITH (FORCE)"))?;
    let [migrate, migrate_wall, verify, verify_wall] = seen.map(|values| Spread::of(values).median);
    let values = [
        ("migrate(), CPU", migrate),
        ("migrate(), wall", migrate_wall),
        ("verify(), CPU", verify),
        ("verify(), wall", verify_wall),
    ]
    .map(|(name, value)| (name.to_string(), value));
    bench.figure(
        NAME,
        "a fresh database, in a fresh session",
        values.to_vec(),
        "ms",
    );
    bench.at_most(NAME, "migrate(), CPU", migrate, 500.0, "ms");
    bench.at_most(NAME, "verify(), CPU", verify, 100.0, "ms");
    Ok(())
}
