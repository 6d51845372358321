//! Signals: taking news in, the list of what they are worth now, and the call that finds nothing due.

use crate::Result;
use crate::compare::{Bench, Side};
use crate::reading::fixed_id;
use crate::session::{CODEX, OWNER, SERVICE, Session};

/// How much more a call may cost with the most rows than with the fewest.
const FLAT: f64 = 1.5;

pub fn measure(bench: &mut Bench) -> Result<()> {
    ingest(bench)?;
    current(bench)?;
    upkeep(bench)
}

fn ingest(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "ingest signal";
    const CALLS: u32 = 500;
    if !bench.wants(NAME) {
        return Ok(());
    }
    Session::open(CODEX, OWNER)?.batch_execute(
        "CREATE SEQUENCE IF NOT EXISTS public.bench_key CACHE 1000;
         GRANT USAGE ON SEQUENCE public.bench_key TO PUBLIC",
    )?;
    let workspace = fixed_id("workspace")?;
    let side = |name, title: &str| -> Result<Side<'static>> {
        let mut session = Session::in_workspace(CODEX, SERVICE)?;
        let statement = session.prepare(&format!(
            "SELECT * FROM codex.ingest_signal($1, 'market', {title}, 'market_trend', data_source => 'feed', confidence => 60)"
        ))?;
        Ok(Side::new(name, session, CALLS, move |session| {
            for _ in 0..CALLS {
                session.query_one(&statement, &[&workspace])?;
            }
            Ok(())
        }))
    };
    bench.compare(
        NAME,
        "one piece of news that nobody has brought; again: news that is there, a sighting",
        vec![
            side(
                "codex",
                "'Demand grows in region number ' || nextval('public.bench_key')",
            )?,
            side("again", "'Demand grows in region number one'")?,
        ],
    )?;
    flat(bench, NAME, "codex");
    Ok(())
}

fn current(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "current signals";
    const CALLS: u32 = 20;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let workspace = fixed_id("workspace")?;
    let side = |name, function: &str| -> Result<Side<'static>> {
        let mut session = Session::in_workspace(CODEX, SERVICE)?;
        let statement = session.prepare(&format!("SELECT * FROM codex.{function}"))?;
        Ok(Side::new(name, session, CALLS, move |session| {
            for _ in 0..CALLS {
                session.query(&statement, &[&workspace])?;
            }
            Ok(())
        }))
    };
    bench.compare(
        NAME,
        "the first 20 by what they are worth now; when new: get_priority_signals",
        vec![
            side("codex", "get_current_signals($1)")?,
            side("when new", "get_priority_signals($1, 0, 20)")?,
        ],
    )?;
    flat(bench, NAME, "codex");
    Ok(())
}

fn upkeep(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "maintenance";
    const CALLS: u32 = 20;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let mut session = Session::open(CODEX, OWNER)?;
    // What the rows so far have made due is done first.
    while session
        .query_one(
            "SELECT coalesce(bool_or(more), false) FROM codex.run_maintenance(10000)",
            &[],
        )?
        .get::<_, bool>(0)
    {}
    let statement = session.prepare("SELECT * FROM codex.run_maintenance()")?;
    let side = Side::new("codex", session, CALLS, move |session| {
        for _ in 0..CALLS {
            session.query(&statement, &[])?;
        }
        Ok(())
    });
    bench.compare(NAME, "a call that finds nothing due", vec![side])?;
    flat(bench, NAME, "codex");
    Ok(())
}

/// Holds what a call costs now against what it cost at the smallest size.
pub fn flat(bench: &mut Bench, name: &str, side: &str) {
    let of_this = |m: &&crate::compare::Measure| m.name == name;
    let (Some(first), Some(last)) = (
        bench.measures.iter().find(of_this),
        bench.measures.iter().rfind(of_this),
    ) else {
        return;
    };
    if let (Some(few), Some(many)) = (first.rows, last.rows)
        && many > few
    {
        let ratio = last.cpu(side) / first.cpu(side);
        let what = format!("{many} rows ÷ {few} rows");
        bench.at_most(name, &what, ratio, FLAT, "×");
    }
}
