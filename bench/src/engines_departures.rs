//! Departures: a small workspace leaves, among ever more rows of others; and rows a second of an export.

use crate::Result;
use crate::compare::{Bench, Side};
use crate::engines_signals::flat;
use crate::reading::fixed_id;
use crate::session::{CODEX, OWNER, SERVICE, Session};
use std::time::Instant;
use uuid::Uuid;

/// A workspace with a member, a hundred campaigns with three quests each, and a thousand notifications.
const SMALL: &str = "
WITH w AS (
    INSERT INTO public.workspaces (name) VALUES ('Leaving') RETURNING id
),
u AS (
    INSERT INTO public.users (email) VALUES (gen_random_uuid() || '@bench.example') RETURNING id
),
m AS (
    INSERT INTO public.workspace_members (workspace_id, user_id) SELECT w.id, u.id FROM w, u
),
c AS (
    INSERT INTO public.campaigns (workspace_id, name, created_by)
    SELECT w.id, 'Campaign ' || n, u.id FROM w, u, generate_series(1, 100) AS n
    RETURNING workspace_id, id
),
q AS (
    INSERT INTO public.campaign_quests (workspace_id, campaign_id, name)
    SELECT c.workspace_id, c.id, 'Quest ' || n FROM c, generate_series(1, 3) AS n
),
s AS (
    INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message)
    SELECT w.id, u.id, 'message', 'Title', 'Message' FROM w, u, generate_series(1, 1000)
)
SELECT w.id, u.id FROM w, u";

pub fn measure(bench: &mut Bench) -> Result<()> {
    erase(
        bench,
        "erase workspace",
        "SELECT * FROM codex.erase_workspace($1)",
        0,
    )?;
    erase(
        bench,
        "erase user",
        "SELECT * FROM codex.erase_user($1, true)",
        1,
    )?;
    export(bench)
}

fn erase(bench: &mut Bench, name: &str, call: &'static str, whom: usize) -> Result<()> {
    if !bench.wants(name) {
        return Ok(());
    }
    // One for each round, and one to warm up; made before, so that making them is not measured.
    let mut owner = Session::open(CODEX, OWNER)?;
    let mut leaving = Vec::new();
    for _ in 0..=bench.rounds {
        let row = owner.query_one(SMALL, &[])?;
        leaving.push(row.get::<_, Uuid>(whom));
    }
    let side = Side::new("codex", Session::open(CODEX, OWNER)?, 1, move |session| {
        let id = leaving.pop().ok_or("no one is left to leave")?;
        session.query(call, &[&id])?;
        Ok(())
    });
    bench.compare(
        name,
        "one with 1,400 rows, among those of others",
        vec![side],
    )?;
    flat(bench, name, "codex");
    Ok(())
}

fn export(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "export workspace";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let workspace = fixed_id("workspace")?;
    let mut session = Session::in_workspace(CODEX, SERVICE)?;
    let begin = Instant::now();
    let mut lines = 0_u32;
    let mut reading = session.transaction()?;
    reading.batch_execute(&format!(
        "DECLARE lines NO SCROLL CURSOR FOR SELECT codex.export_workspace('{workspace}')"
    ))?;
    loop {
        let rows = reading.query("FETCH 5000 FROM lines", &[])?.len();
        if rows == 0 {
            break;
        }
        lines += u32::try_from(rows)?;
    }
    reading.commit()?;
    let rate = f64::from(lines) / begin.elapsed().as_secs_f64();
    bench.figure(
        NAME,
        "a tenth of all rows, read by a client",
        vec![
            ("lines".to_string(), f64::from(lines)),
            ("lines a second".to_string(), rate),
        ],
        "",
    );
    Ok(())
}
