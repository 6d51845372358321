//! Alerts: raising and answering them, and what time does, among ever more that are open.

use crate::Result;
use crate::compare::{Bench, Side};
use crate::engines_signals::flat;
use crate::reading::fixed_id;
use crate::session::{CODEX, OWNER, SERVICE, Session};
use uuid::Uuid;

/// What the triggers know of alerts that were not loaded behind their back; half of all are open, and due tomorrow.
const FILL: &str = "
INSERT INTO codex.alert_policies (workspace_id, severity_level, acknowledge_within, max_level)
SELECT w.id, s.level, interval '1 day', 100
FROM public.workspaces AS w
    CROSS JOIN unnest(ARRAY['critical', 'high', 'medium', 'low', 'info']) AS s (level)
ON CONFLICT DO NOTHING;
INSERT INTO codex.alert_life (workspace_id, alert_id, opened_at, closed_at, due_at)
SELECT a.workspace_id, a.id, a.triggered_at, CASE WHEN a.status = 'resolved' THEN a.triggered_at END,
       CASE WHEN a.status = 'active' THEN now() + interval '1 day' END
FROM public.system_alerts AS a
ON CONFLICT DO NOTHING;
ANALYZE codex.alert_life";

pub fn measure(bench: &mut Bench) -> Result<()> {
    if bench.wants("raise alert") || bench.wants("escalate alerts") {
        Session::open(CODEX, OWNER)?.batch_execute(FILL)?;
    }
    raise(bench)?;
    escalate(bench)
}

fn raise(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "raise alert";
    const CALLS: u32 = 300;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let (workspace, user) = (fixed_id("workspace")?, fixed_id("user")?);
    let side = |name, key: &str, answered: bool| -> Result<Side<'static>> {
        let mut session = Session::in_workspace(CODEX, SERVICE)?;
        let raise = session.prepare(&format!(
            "SELECT codex.create_system_alert($1, 'error', 'high', 'The shop is slow', 'For a minute.', p_dedup_key => {key})"
        ))?;
        let answers = [
            session.prepare("SELECT codex.acknowledge_alert($1, $2)")?,
            session.prepare("SELECT codex.resolve_alert($1, $2)")?,
        ];
        Ok(Side::new(name, session, CALLS, move |session| {
            for _ in 0..CALLS {
                let alert: Uuid = session.query_one(&raise, &[&workspace])?.get(0);
                if answered {
                    for answer in &answers {
                        session.execute(answer, &[&alert, &user])?;
                    }
                }
            }
            Ok(())
        }))
    };
    bench.compare(
        NAME,
        "one that is new; again: with the key of an open one; answered: a new one, acknowledged and resolved",
        vec![
            side("codex", "gen_random_uuid()::text", false)?,
            side("again", "'shop-slow'", false)?,
            side("answered", "gen_random_uuid()::text", true)?,
        ],
    )?;
    flat(bench, NAME, "codex");
    flat(bench, NAME, "answered");
    Ok(())
}

fn escalate(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "escalate alerts";
    const BATCHES: u32 = 2;
    const BATCH: u32 = 100;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let mut session = Session::open(CODEX, OWNER)?;
    let due = i64::from(BATCHES * BATCH) * (i64::try_from(bench.rounds)? + 1);
    session.execute(
        "UPDATE codex.alert_life AS l
         SET due_at = now() - interval '1 minute'
         WHERE (l.workspace_id, l.alert_id) IN (
             SELECT o.workspace_id, o.alert_id FROM codex.alert_life AS o WHERE o.due_at > now() LIMIT $1
         )",
        &[&due],
    )?;
    let statement = session.prepare("SELECT * FROM codex.upkeep_alerts($1)")?;
    let batch = i32::try_from(BATCH)?;
    let side = Side::new("codex", session, BATCHES * BATCH, move |session| {
        for _ in 0..BATCHES {
            session.query(&statement, &[&batch])?;
        }
        Ok(())
    });
    bench.compare(
        NAME,
        "an alert that nobody acknowledged in time, of a hundred in a call",
        vec![side],
    )?;
    flat(bench, NAME, "codex");
    Ok(())
}
