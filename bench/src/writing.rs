//! Writing: notifications, unlocks, executions, quests, insights.

use crate::Result;
use crate::compare::{Bench, Side};
use crate::reading::fixed_id;
use crate::session::{BASELINE, CODEX, MEMBER, OWNER, PLAIN, SERVICE, Session};
use crate::stage;
use codex_sketch::Sketch;
use postgres::Statement;
use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;
use uuid::Uuid;

const TITLE: &str = "Checkout is slow";
const MESSAGE: &str = "The median of the last ten minutes is nine seconds. Who takes it?";

/// The first five arguments of `send_user_notification`.
pub const SEND: &str = "send_user_notification($1, $2, 'alert', $3, $4)";
pub const UNLOCK: &str = "unlock_achievement($1, $2, $3, 'bench')";
pub const RECORD: &str =
    "record_agent_execution($1, $2, $3::float8::numeric, $4, $5, $6::float8::numeric, $7)";

/// Members of the first workspace.
pub const MEMBERS: u64 = 1000;
pub const AGENTS: u64 = 87;

pub fn measure(bench: &mut Bench) -> Result<()> {
    checkpoint_wal(bench)?;
    bulk(bench)?;
    unlock(bench)?;
    record(bench)?;
    sketch(bench);
    quests(bench)?;
    insight(bench)?;
    summary(bench)
}

/// The id of something in the first workspace, as `bench_id` makes it.
pub fn ids(kind: &str, count: u64) -> Result<Vec<Uuid>> {
    let mut session = Session::open(CODEX, OWNER)?;
    Ok(session
        .query(
            "SELECT public.bench_id($1, n) FROM generate_series(0, $2::bigint - 1) AS n ORDER BY n",
            &[&kind, &(count as i64)],
        )?
        .iter()
        .map(|row| row.get(0))
        .collect())
}

/// A side that sends to one member after the other.
fn sending(
    name: &'static str,
    database: &str,
    role: &str,
    sql: &str,
    calls: u32,
) -> Result<Side<'static>> {
    let workspace = fixed_id("workspace")?;
    let users = ids("user", MEMBERS)?;
    let mut session = Session::in_workspace(database, role)?;
    let statement = session.prepare(sql)?;
    let mut turn = 0;
    Ok(Side::new(name, session, calls, move |session| {
        for _ in 0..calls {
            turn = (turn + 7) % users.len();
            session.execute(&statement, &[&workspace, &users[turn], &TITLE, &MESSAGE])?;
        }
        Ok(())
    }))
}

const BARE_SEND: &str = "
    INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, channel, priority_level)
    VALUES ($1, $2, 'alert', $3, $4, 'in_app', 'normal')
    RETURNING id";

/// One notification, with the recipient's membership checked by the Codex and not by the others.
pub fn notification(bench: &mut Bench) -> Result<()> {
    const CALLS: u32 = 1000;
    let what = "one notification; limit: the INSERT, bare";
    if bench.wants("send notification") {
        let measure = bench.compare(
            "send notification",
            what,
            vec![
                sending(
                    "codex",
                    CODEX,
                    SERVICE,
                    &format!("SELECT codex.{SEND}"),
                    CALLS,
                )?,
                sending(
                    "baseline",
                    BASELINE,
                    PLAIN,
                    &format!("SELECT public.{SEND}"),
                    CALLS,
                )?,
                sending("limit", CODEX, OWNER, BARE_SEND, CALLS)?,
            ],
        )?;
        let cpu = measure.cpu("codex") / measure.cpu("baseline");
        bench.at_most("send notification", "CPU, codex ÷ baseline", cpu, 0.8, "×");
        let wal = measure.wal("codex") / measure.wal("baseline");
        bench.at_most("send notification", "WAL, codex ÷ baseline", wal, 0.8, "×");
    }
    if bench.wants("send with a key") {
        let with_key = |key: &str| {
            format!(
                "SELECT codex.send_user_notification($1, $2, 'alert', $3, $4, p_idempotency_key => {key})"
            )
        };
        let fresh = "'key ' || nextval('public.bench_key')";
        Session::open(CODEX, OWNER)?.batch_execute(
            "CREATE SEQUENCE IF NOT EXISTS public.bench_key CACHE 1000;
             GRANT USAGE ON SEQUENCE public.bench_key TO PUBLIC",
        )?;
        let measure = bench.compare(
            "send with a key",
            "the same with an idempotency key, which the baseline does not have; again: sent before",
            vec![
                sending("codex", CODEX, SERVICE, &with_key(fresh), CALLS)?,
                sending("again", CODEX, SERVICE, &with_key("'again ' || $2::uuid::text"), CALLS)?,
                sending("baseline", BASELINE, PLAIN, &format!("SELECT public.{SEND}"), CALLS)?,
            ],
        )?;
        let cpu = measure.cpu("codex") / measure.cpu("baseline");
        bench.at_most(
            "send with a key",
            "CPU, codex ÷ baseline without a key",
            cpu,
            0.8,
            "×",
        );
    }
    Ok(())
}

/// The same, with whole pages in the log after a checkpoint, as a production server writes them.
fn checkpoint_wal(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "send after a checkpoint";
    const CALLS: u32 = 2000;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let switch = |value: &str| -> Result<()> {
        let mut admin = Session::open("postgres", OWNER)?;
        admin.batch_execute(&format!("ALTER SYSTEM SET full_page_writes = {value}"))?;
        admin.batch_execute("SELECT pg_reload_conf(); SELECT pg_sleep(0.2)")?;
        Ok(())
    };
    switch("on")?;
    let sent = (|| {
        let side = |name, database, role, sql: String| -> Result<Side<'static>> {
            let workspace = fixed_id("workspace")?;
            let users = ids("user", MEMBERS)?;
            let mut session = Session::in_workspace(database, role)?;
            let statement = session.prepare(&sql)?;
            let mut admin = Session::open("postgres", OWNER)?;
            Ok(Side::new(name, session, CALLS, move |session| {
                admin.batch_execute("CHECKPOINT")?;
                for turn in 0..CALLS as usize {
                    let user = &users[turn * 7 % users.len()];
                    session.execute(&statement, &[&workspace, user, &TITLE, &MESSAGE])?;
                }
                Ok(())
            }))
        };
        bench.compare(
            NAME,
            "2,000 notifications with full_page_writes on, the first of them right after a checkpoint",
            vec![
                side("codex", CODEX, SERVICE, format!("SELECT codex.{SEND}"))?,
                side("baseline", BASELINE, PLAIN, format!("SELECT public.{SEND}"))?,
            ],
        )
    })();
    switch("off")?;
    sent.map(|_| ())
}

fn bulk(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "send to 1,000";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let many = |name, role, sql: &str| -> Result<Side<'static>> {
        let workspace = fixed_id("workspace")?;
        let users = ids("user", MEMBERS)?;
        let mut session = Session::in_workspace(CODEX, role)?;
        let statement = session.prepare(sql)?;
        Ok(Side::new(name, session, 1, move |session| {
            session.execute(&statement, &[&workspace, &users, &TITLE, &MESSAGE])?;
            Ok(())
        }))
    };
    // A thousand calls are one unit here.
    let one_by_one = |name, database, role, sql: String| -> Result<Side<'static>> {
        let workspace = fixed_id("workspace")?;
        let users = ids("user", MEMBERS)?;
        let mut session = Session::in_workspace(database, role)?;
        let statement = session.prepare(&sql)?;
        Ok(Side::new(name, session, 1, move |session| {
            for user in &users {
                session.execute(&statement, &[&workspace, user, &TITLE, &MESSAGE])?;
            }
            Ok(())
        }))
    };
    let measure = bench.compare(
        NAME,
        "one message to 1,000 members in one call; singles: 1,000 calls; limit: one INSERT … SELECT, bare",
        vec![
            many("codex", SERVICE, "SELECT codex.send_user_notifications($1, $2, 'alert', $3, $4)")?,
            one_by_one("singles", CODEX, SERVICE, format!("SELECT codex.{SEND}"))?,
            one_by_one("baseline", BASELINE, PLAIN, format!("SELECT public.{SEND}"))?,
            many(
                "limit",
                OWNER,
                "INSERT INTO public.user_notifications (
                     workspace_id, user_id, notification_type, title, message, channel, priority_level
                 )
                 SELECT $1, u, 'alert', $3, $4, 'in_app', 'normal'
                 FROM unnest($2::uuid[]) AS u",
            )?,
        ],
    )?;
    let singles = measure.cpu("codex") / measure.cpu("singles");
    bench.at_most(NAME, "CPU, one call ÷ 1,000 calls", singles, 0.4, "×");
    let bare = measure.cpu("codex") / measure.cpu("limit");
    bench.at_most(NAME, "CPU, codex ÷ bare INSERT … SELECT", bare, 1.5, "×");
    Ok(())
}

/// Hands out pairs of a member and an achievement, each once.
pub struct Pairs {
    users: Vec<Uuid>,
    achievements: Vec<Uuid>,
    next: Cell<usize>,
}

impl Pairs {
    /// `begin` is the number of the first pair.
    pub fn new(begin: usize) -> Result<Self> {
        Ok(Self {
            users: ids("user", MEMBERS)?,
            achievements: ids("achievement", 1000)?,
            next: Cell::new(begin),
        })
    }

    pub fn next(&self) -> (Uuid, Uuid) {
        let number = self.next.get();
        self.next.set(number + 1);
        self.at(number)
    }

    pub fn at(&self, number: usize) -> (Uuid, Uuid) {
        let round = number / self.users.len();
        (
            self.users[number % self.users.len()],
            self.achievements[round % self.achievements.len()],
        )
    }
}

fn unlock(bench: &mut Bench) -> Result<()> {
    const CALLS: u32 = 500;
    for (name, what, real, target) in [
        (
            "unlock",
            "an achievement unlocked, with points; the Codex: exactly once under concurrency",
            true,
            1.0,
        ),
        (
            "unlock again",
            "an achievement that is unlocked already",
            false,
            1.0,
        ),
    ] {
        if !bench.wants(name) {
            continue;
        }
        let side = |side, database, role, schema: &str| -> Result<Side<'static>> {
            let workspace = fixed_id("workspace")?;
            let pairs = Pairs::new(if real { 0 } else { 990_000 })?;
            let mut session = Session::in_workspace(database, role)?;
            let statement = session.prepare(&format!("SELECT * FROM {schema}.{UNLOCK}"))?;
            Ok(Side::new(side, session, CALLS, move |session| {
                if !real {
                    pairs.next.set(990_000);
                }
                for _ in 0..CALLS {
                    let (user, achievement) = pairs.next();
                    session.query_one(&statement, &[&user, &achievement, &workspace])?;
                }
                Ok(())
            }))
        };
        let measure = bench.compare(
            name,
            what,
            vec![
                side("codex", CODEX, SERVICE, "codex")?,
                side("baseline", BASELINE, PLAIN, "public")?,
            ],
        )?;
        let cpu = measure.cpu("codex") / measure.cpu("baseline");
        bench.at_most(name, "CPU, codex ÷ baseline", cpu, target, "×");
    }
    Ok(())
}

/// Records one execution after the other, each of the next agent.
pub struct Executions {
    workspace: Uuid,
    agents: Vec<Uuid>,
    turn: Cell<usize>,
}

impl Executions {
    pub fn new(begin: usize) -> Result<Self> {
        Ok(Self {
            workspace: fixed_id("workspace")?,
            agents: ids("agent", AGENTS)?,
            turn: Cell::new(begin),
        })
    }

    pub fn record(&self, session: &mut Session, statement: &Statement) -> Result<()> {
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        let u = (turn * 7919 % 10_007) as f64 / 10_007.0 + 0.5 / 10_007.0;
        let seconds = 1.7 * (u / (1.0 - u)).powf(0.3);
        session.execute(
            statement,
            &[
                &self.workspace,
                &self.agents[turn % self.agents.len()],
                &((seconds * 1000.0).round() / 1000.0),
                &(1000 + turn as i64 % 500),
                &(200 + turn as i64 % 90),
                &0.0125_f64,
                &(!turn.is_multiple_of(20)),
            ],
        )?;
        Ok(())
    }
}

fn record(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "record execution";
    const CALLS: u32 = 1000;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let side = |name, database, role, sql: String| -> Result<Side<'static>> {
        let executions = Executions::new(0)?;
        let mut session = Session::in_workspace(database, role)?;
        let statement = session.prepare(&sql)?;
        Ok(Side::new(name, session, CALLS, move |session| {
            for _ in 0..CALLS {
                executions.record(session, &statement)?;
            }
            Ok(())
        }))
    };
    let measure = bench.compare(
        NAME,
        "one execution of an agent; with id: once, however often it is recorded; the baseline keeps no percentiles",
        vec![
            side("codex", CODEX, SERVICE, format!("SELECT codex.{RECORD}"))?,
            side(
                "with id",
                CODEX,
                SERVICE,
                format!(
                    "SELECT codex.{}, p_execution_id => codex.uuid_v7())",
                    RECORD.trim_end_matches(')')
                ),
            )?,
            side("baseline", BASELINE, PLAIN, format!("SELECT public.{RECORD}"))?,
        ],
    )?;
    let cpu = measure.cpu("codex") / measure.cpu("baseline");
    bench.at_most(
        NAME,
        "CPU, codex with percentiles ÷ baseline without",
        cpu,
        1.0,
        "×",
    );
    Ok(())
}

/// The pure part: from stored bytes to stored bytes with one execution more, and the three percentiles.
fn sketch(bench: &mut Bench) {
    const NAME: &str = "sketch";
    const UPDATES: u32 = 10_000;
    if !bench.wants(NAME) {
        return;
    }
    let best = |mut work: Box<dyn FnMut(u32)>| {
        let mut best = f64::INFINITY;
        for _ in 0..15 {
            let begin = Instant::now();
            (0..UPDATES).for_each(&mut work);
            best = best.min(begin.elapsed().as_nanos() as f64 / f64::from(UPDATES) / 1e3);
        }
        best
    };
    let mut values = Vec::new();
    let mut most: f64 = 0.0;
    for count in [100, 10_000, 100_000] {
        let sketch = stage::sketch(count, 3);
        let bytes = sketch.to_bytes();
        let name = format!("{count} executions, {} bytes", bytes.len());
        let update = best(Box::new(move |turn| {
            if let Ok(mut sketch) = Sketch::from_bytes(black_box(&bytes)) {
                let added = sketch.add(0.5 + f64::from(turn % 100) / 25.0);
                black_box((added.is_ok(), sketch.to_bytes()));
            }
        }));
        let percentiles = best(Box::new(move |_| {
            black_box([0.5, 0.95, 0.99].map(|q| black_box(&sketch).quantile(q)));
        }));
        most = most.max(update);
        values.push((format!("update, {name}"), update));
        values.push((format!("three percentiles, {name}"), percentiles));
    }
    bench.figure(
        NAME,
        "an update decodes, adds and encodes; best of fifteen",
        values,
        "µs",
    );
    bench.at_most(NAME, "one update", most, 2.0, "µs");
}

fn quests(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "1,000 quests";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let insert = "
        INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, quest_order)
        SELECT $1, $2, 'Quest ' || n, n
        FROM generate_series(1, 1000) AS n";
    let workspace = fixed_id("workspace")?;
    let campaign = fixed_id("campaign")?;
    let side = |name, database, role| -> Result<Side<'static>> {
        let mut session = Session::in_workspace(database, role)?;
        let statement = session.prepare(insert)?;
        Ok(Side::new(name, session, 1, move |session| {
            session.execute(&statement, &[&workspace, &campaign])?;
            Ok(())
        }))
    };
    let measure = bench.compare(
        NAME,
        "1,000 quests of one campaign in one INSERT; limit: without policies",
        vec![
            side("codex", CODEX, MEMBER)?,
            side("baseline", BASELINE, PLAIN)?,
            side("limit", CODEX, OWNER)?,
        ],
    )?;
    let cpu = measure.cpu("codex") / measure.cpu("baseline");
    bench.at_most(NAME, "CPU, codex ÷ baseline", cpu, 0.35, "×");

    let mut updates = Vec::new();
    for (name, database, role) in [("codex", CODEX, MEMBER), ("baseline", BASELINE, PLAIN)] {
        let mut session = Session::in_workspace(database, role)?;
        let mut transaction = session.transaction()?;
        transaction.execute(insert, &[&workspace, &campaign])?;
        let count: i64 = transaction
            .query_one(
                "SELECT n_tup_upd FROM pg_stat_xact_user_tables WHERE relid = 'public.campaigns'::regclass",
                &[],
            )?
            .get(0);
        transaction.rollback()?;
        updates.push((name.to_string(), count as f64));
    }
    let codex = updates[0].1;
    bench.figure(
        "campaign updates",
        "by an INSERT of 1,000 quests",
        updates,
        "updates",
    );
    bench.at_most(
        "campaign updates",
        "by an INSERT of 1,000 quests",
        codex,
        1.0,
        "updates",
    );
    Ok(())
}

fn insight(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "insight from 100 signals";
    const SIGNALS: usize = 100;
    const CALLS: u32 = 5;
    if !bench.wants(NAME) {
        return Ok(());
    }
    let needed = ((bench.rounds + 1) * SIGNALS) as i64 * i64::from(CALLS);
    let call =
        "create_insight_from_signals($1, $2, 'What follows', 'trend', ARRAY['A conclusion'], $3)";
    let side = |name, database, role, schema: &str| -> Result<Side<'static>> {
        let workspace = fixed_id("workspace")?;
        let user = fixed_id("user")?;
        let mut owner = Session::open(database, OWNER)?;
        // Where the data is small, there are not enough of them.
        owner.execute(
            "INSERT INTO public.intelligence_signals (
                 workspace_id, source_type, data_source, signal_title, signal_category, confidence_score, signal_date,
                 action_status
             )
             SELECT $1, 'market', 'feed', 'One signal more, ' || n, 'market_trend', 50, now(), 'new'
             FROM generate_series(1, $2 - (
                 SELECT count(*)
                 FROM public.intelligence_signals
                 WHERE workspace_id = $1
                   AND action_status = 'new'
             )) AS n",
            &[&workspace, &needed],
        )?;
        let mut signals: Vec<Uuid> = owner
            .query(
                "SELECT id
                 FROM public.intelligence_signals
                 WHERE workspace_id = $1
                   AND action_status = 'new'
                 ORDER BY md5(signal_title)
                 LIMIT $2",
                &[&workspace, &needed],
            )?
            .iter()
            .map(|row| row.get(0))
            .collect();
        let mut session = Session::in_workspace(database, role)?;
        let statement = session.prepare(&format!("SELECT {schema}.{call}"))?;
        Ok(Side::new(name, session, CALLS, move |session| {
            for _ in 0..CALLS {
                if signals.len() < SIGNALS {
                    return Err("there are too few new signals".into());
                }
                let some = signals.split_off(signals.len() - SIGNALS);
                session.execute(&statement, &[&workspace, &some, &user])?;
            }
            Ok(())
        }))
    };
    bench.compare(
        NAME,
        "an insight; the Codex keeps what each signal gave in a row of its own, the baseline nothing",
        vec![
            side("codex", CODEX, SERVICE, "codex")?,
            side("baseline", BASELINE, PLAIN, "public")?,
        ],
    )?;
    Ok(())
}

fn summary(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "summary of 30 days";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let side = |name, database, role, sql: &str| -> Result<Side<'static>> {
        let workspace = fixed_id("workspace")?;
        let mut session = Session::in_workspace(database, role)?;
        let statement = session.prepare(sql)?;
        Ok(Side::new(name, session, 1, move |session| {
            session.query(&statement, &[&workspace])?;
            Ok(())
        }))
    };
    bench.compare(
        NAME,
        "agent_performance_summary of 87 agents: 62,640 hours; limit: their rows read and added up, bare",
        vec![
            side(
                "codex",
                CODEX,
                MEMBER,
                "SELECT * FROM codex.agent_performance_summary($1, p_from => now() - interval '31 days', p_to => now())",
            )?,
            side(
                "baseline",
                BASELINE,
                PLAIN,
                "SELECT * FROM public.agent_performance_summary($1, now() - interval '31 days', now())",
            )?,
            side(
                "limit",
                CODEX,
                OWNER,
                "SELECT p.agent_id, sum(p.execution_count), sum(p.success_count), sum(p.total_input_tokens),
                        sum(p.total_output_tokens), sum(p.total_cost_incurred),
                        sum(get_byte(p.execution_time_sketch, 1))
                 FROM public.agent_performance AS p
                 WHERE p.workspace_id = $1
                   AND p.measurement_date >= current_date - 31
                 GROUP BY p.agent_id",
            )?,
        ],
    )?;
    Ok(())
}

/// Bytes of the table of notifications and of its indexes, a row, as they are after the load.
pub fn sizes(bench: &mut Bench) -> Result<()> {
    const NAME: &str = "size of notifications";
    if !bench.wants(NAME) {
        return Ok(());
    }
    let mut of = Vec::new();
    for database in [CODEX, BASELINE] {
        let row = Session::open(database, OWNER)?.query_one(
            "SELECT pg_table_size('public.user_notifications')::float8 / count(*),
                    pg_indexes_size('public.user_notifications')::float8 / count(*)
             FROM public.user_notifications",
            &[],
        )?;
        of.push((row.get::<_, f64>(0), row.get::<_, f64>(1)));
    }
    let (codex, plain) = (of[0], of[1]);
    let values = [
        ("codex table", codex.0),
        ("codex indexes", codex.1),
        ("baseline table", plain.0),
        ("baseline indexes", plain.1),
    ]
    .map(|(name, bytes)| (name.to_string(), bytes));
    bench.figure(
        NAME,
        "megabytes a million notifications, as they grew",
        values.to_vec(),
        "MB",
    );
    bench.at_most(
        NAME,
        "indexes, codex ÷ baseline",
        codex.1 / plain.1,
        0.75,
        "×",
    );
    let all = (codex.0 + codex.1) / (plain.0 + plain.1);
    bench.at_most(NAME, "table and indexes, codex ÷ baseline", all, 0.75, "×");
    Ok(())
}
