//! Notifications on their way: claims among ever more that wait, a page of an inbox, and what announcements cost.

use crate::Result;
use crate::compare::{Bench, Side, Spread};
use crate::engines_signals::flat;
use crate::reading::fixed_id;
use crate::session::{CODEX, OWNER, SERVICE, Session};
use crate::throughput;
use crate::writing::{MEMBERS, ids};
use postgres::Statement;
use uuid::Uuid;

/// How many a worker takes at a time.
const BATCH: i32 = 20;
/// Connections that work at once.
const WORKERS: usize = 8;
const ROUNDS: usize = 5;

/// All notifications wait to go out by email; they were loaded behind the back of the trigger that queues them.
const FILL: &str = "
INSERT INTO codex.deliveries (workspace_id, notification_id, channel, priority_rank, due_at)
SELECT n.workspace_id, n.id, 'email', 2, coalesce(n.created_at, now())
FROM public.user_notifications AS n
ON CONFLICT DO NOTHING;
ANALYZE codex.deliveries";

pub fn measure(bench: &mut Bench) -> Result<()> {
    claim(bench)?;
    inbox(bench)
}

/// What is measured with several connections.
pub fn at_once(bench: &mut Bench) -> Result<()> {
    workers(bench)?;
    announcements(bench)
}

/// A worker, which claims and hands over.
struct Worker {
    claim: Statement,
    complete: Statement,
}

impl Worker {
    fn new(session: &mut Session) -> Result<Self> {
        Ok(Self {
            claim: session.prepare(
                "SELECT workspace_id, notification_id, lease_token
                 FROM codex.claim_notifications('email', 'bench', $1)",
            )?,
            complete: session.prepare("SELECT codex.complete_delivery($1, $2, $3)")?,
        })
    }

    /// One claim, each of it delivered; gives how many.
    fn work(&self, session: &mut Session) -> Result<usize> {
        let rows = session.query(&self.claim, &[&BATCH])?;
        for row in &rows {
            let [workspace, notification, token]: [Uuid; 3] = [row.get(0), row.get(1), row.get(2)];
            session.execute(&self.complete, &[&workspace, &notification, &token])?;
        }
        Ok(rows.len())
    }
}

fn claim(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "deliver";
    const CLAIMS: u32 = 4;
    if !bench.wants(NAME) {
        return Ok(());
    }
    Session::open(CODEX, OWNER)?.batch_execute(FILL)?;
    let mut session = Session::in_workspace(CODEX, SERVICE)?;
    let worker = Worker::new(&mut session)?;
    let calls = CLAIMS * BATCH.unsigned_abs();
    let side = Side::new("codex", session, calls, move |session| {
        for _ in 0..CLAIMS {
            if worker.work(session)? != BATCH as usize {
                return Err("nothing waits any more".into());
            }
        }
        Ok(())
    });
    bench.compare(
        NAME,
        "a notification: a twentieth of a claim, and complete_delivery()",
        vec![side],
    )?;
    flat(bench, NAME, "codex");
    Ok(())
}

fn inbox(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "inbox";
    const CALLS: u32 = 50;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let (workspace, user) = (fixed_id("workspace")?, fixed_id("user")?);
    let side = |name, call: &str| -> Result<Side<'static>> {
        let mut session = Session::in_workspace(CODEX, SERVICE)?;
        let statement = session.prepare(&format!("SELECT * FROM codex.{call}"))?;
        Ok(Side::new(name, session, CALLS, move |session| {
            for _ in 0..CALLS {
                session.query(&statement, &[&workspace, &user])?;
            }
            Ok(())
        }))
    };
    bench.compare(
        NAME,
        "the first page of 20 rows; counts: of a user with a hundredth of all notifications",
        vec![
            side("codex", "inbox($1, $2, 20)")?,
            side("counts", "inbox_counts($1, $2)")?,
        ],
    )?;
    flat(bench, NAME, "codex");
    Ok(())
}

fn workers(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "throughput, deliver";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let mut owner = Session::open(CODEX, OWNER)?;
    owner.batch_execute(FILL)?;
    let mut values = Vec::new();
    for connections in [1, WORKERS] {
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            // What was delivered waits once more, so that no round runs dry.
            owner.batch_execute(
                "UPDATE codex.deliveries
                 SET status = 'waiting', finished_at = NULL, attempts = 0
                 WHERE status <> 'waiting'",
            )?;
            rates.push(throughput::at_once(connections, |_| {
                let mut session = Session::in_workspace(CODEX, SERVICE)?;
                let worker = Worker::new(&mut session)?;
                Ok(Box::new(move || worker.work(&mut session)))
            })?);
        }
        values.push((format!("{connections} workers"), Spread::of(rates).median));
    }
    bench.figure(
        NAME,
        "notifications a second, claimed 20 at a time and handed over one by one",
        values,
        "/s",
    );
    Ok(())
}

/// The same sending, with and without NOTIFY, in sessions that wait for their commits.
fn announcements(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "announcements";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let (workspace, users) = (fixed_id("workspace")?, ids("user", MEMBERS)?);
    let mut owner = Session::open(CODEX, OWNER)?;
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (value, rates) in ["off", "on"].into_iter().zip(&mut rates) {
            owner.batch_execute(&format!(
                "ALTER ROLE {SERVICE} IN DATABASE {CODEX} SET raptorflow_codex.notify = {value}"
            ))?;
            rates.push(throughput::at_once(WORKERS, |number| {
                let mut session = Session::in_workspace(CODEX, SERVICE)?;
                session.batch_execute("SET synchronous_commit = on")?;
                let statement = session.prepare(
                    "SELECT codex.send_user_notification($1, $2, 'message', 'Title', 'Message')",
                )?;
                let (users, mut turn) = (users.clone(), number * 61);
                Ok(Box::new(move || {
                    turn = (turn + 7) % users.len();
                    session.execute(&statement, &[&workspace, &users[turn]])?;
                    Ok(1)
                }))
            })?);
        }
    }
    owner.batch_execute(&format!(
        "ALTER ROLE {SERVICE} IN DATABASE {CODEX} RESET raptorflow_codex.notify"
    ))?;
    let ratio = Spread::of(rates[1].iter().zip(&rates[0]).map(|(a, b)| a / b).collect());
    let [off, on] = rates.map(|rates| Spread::of(rates).median);
    bench.figure(
        NAME,
        "messages a second by 8 connections, without and with NOTIFY; and the ratio",
        vec![
            ("off".to_string(), off),
            ("on".to_string(), on),
            ("on ÷ off".to_string(), ratio.median),
        ],
        "",
    );
    Ok(())
}
