//! What the server said yes to is there after it was killed, and nothing is there by halves.

use crate::dice::{Dice, seed, setting};
use crate::private_server::PrivateServer;
use codex_pg_test::postgres::{Client, Error};
use codex_pg_test::{Uuid, member, value, workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const SESSIONS: usize = 6;
const USERS: usize = 20;

/// What the sessions of the load work with.
struct Scene {
    workspaces: Vec<Workspace>,
    agents: Vec<Uuid>,
}

struct Workspace {
    id: Uuid,
    users: Vec<Uuid>,
}

/// An execution as it was sent.
#[derive(Clone)]
struct Execution {
    workspace: Uuid,
    agent: Uuid,
    id: Uuid,
    tokens: i64,
    /// In millionths.
    cost: i64,
    success: bool,
}

/// What one session or all of them did: what was answered, and what was under way when the answer failed to come.
#[derive(Default)]
struct Deeds {
    /// Workspace, user and achievement, with the points that were answered.
    unlocked: BTreeMap<(Uuid, Uuid, Uuid), i32>,
    recorded: Vec<Execution>,
    /// Times that a key was raised, and the ids that were answered.
    raised: BTreeMap<String, i64>,
    alerts: BTreeSet<Uuid>,
    /// Alerts that were sent to everybody in one transaction.
    announced: BTreeSet<Uuid>,
    insights: BTreeSet<Uuid>,
    read: BTreeSet<Uuid>,
    /// The one thing each session had under way.
    lost: Vec<Lost>,
    calls: u64,
}

enum Lost {
    Execution(Execution),
    Raised(String),
    Other,
}

impl Deeds {
    fn add(&mut self, other: Self) {
        self.unlocked.extend(other.unlocked);
        self.recorded.extend(other.recorded);
        for (key, times) in other.raised {
            *self.raised.entry(key).or_default() += times;
        }
        self.alerts.extend(other.alerts);
        self.announced.extend(other.announced);
        self.insights.extend(other.insights);
        self.read.extend(other.read);
        self.lost.extend(other.lost);
        self.calls += other.calls;
    }
}

fn set_up(admin: &mut Client) -> Scene {
    let workspaces = (0..2)
        .map(|number| {
            let id = workspace(admin, &format!("Workspace {number}"));
            let users = (0..USERS)
                .map(|user| member(admin, id, &format!("user{user}@{number}.example")))
                .collect();
            Workspace { id, users }
        })
        .collect();
    let agents = (0..3)
        .map(|number| {
            value(
                admin,
                "INSERT INTO public.agent_registry (agent_name, agent_type)
                 VALUES ('Agent ' || $1::integer, 'researcher') RETURNING id",
                &[&number],
            )
        })
        .collect();
    Scene { workspaces, agents }
}

/// Achievements that nobody has unlocked yet.
fn new_achievements(admin: &mut Client) -> BTreeMap<Uuid, Vec<Uuid>> {
    let mut achievements: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
    for row in admin
        .query(
            "INSERT INTO public.achievements (workspace_id, name, badge_type, condition_type, points_reward)
             SELECT w.id, 'Achievement', 'milestone', 'count', n
             FROM public.workspaces AS w, generate_series(1, 30) AS n
             RETURNING workspace_id, id",
            &[],
        )
        .expect("new achievements")
    {
        achievements.entry(row.get(0)).or_default().push(row.get(1));
    }
    achievements
}

fn record(client: &mut Client, execution: &Execution) -> Result<u64, Error> {
    client.execute(
        "SELECT codex.record_agent_execution($1, $2, 1.5, $3, 1, $4::bigint * 0.000001, $5, p_execution_id => $6)",
        &[
            &execution.workspace,
            &execution.agent,
            &execution.tokens,
            &execution.cost,
            &execution.success,
            &execution.id,
        ],
    )
}

/// Works until the server is gone, or until told to stop.
fn work(
    client: &mut Client,
    dice: &mut Dice,
    scene: &Scene,
    achievements: &BTreeMap<Uuid, Vec<Uuid>>,
    stop: &AtomicBool,
) -> Deeds {
    let mut deeds = Deeds::default();
    while !stop.load(Ordering::Relaxed) {
        let workspace = dice.pick(&scene.workspaces);
        let done = match dice.below(12) {
            0..=3 => {
                let user = *dice.pick(&workspace.users);
                let achievement = *dice.pick(&achievements[&workspace.id]);
                unlock(client, &mut deeds, workspace.id, user, achievement)
            }
            4..=7 => {
                let execution = Execution {
                    workspace: workspace.id,
                    agent: *dice.pick(&scene.agents),
                    id: dice.uuid(),
                    tokens: dice.below(10_000) as i64,
                    cost: dice.below(1_000_000) as i64,
                    success: !dice.once_in(5),
                };
                match record(client, &execution) {
                    Ok(_) => {
                        deeds.recorded.push(execution);
                        Ok(())
                    }
                    Err(error) => Err((error, Lost::Execution(execution))),
                }
            }
            8..=9 => raise(client, &mut deeds, workspace.id, dice.below(8)),
            10 => announce(client, &mut deeds, workspace).map_err(|error| (error, Lost::Other)),
            _ => {
                gain_insight(client, &mut deeds, workspace.id).map_err(|error| (error, Lost::Other))
            }
        };
        match done {
            Ok(()) => deeds.calls += 1,
            Err((error, lost)) => {
                // 57P01 to 57P03: the server is going, is gone, or is coming back. Anything else it must not say.
                let code = codex_pg_test::sqlstate(&error);
                assert!(code.is_empty() || code.starts_with("57P"), "{error:?}");
                deeds.lost.push(lost);
                break;
            }
        }
    }
    deeds
}

fn unlock(
    client: &mut Client,
    deeds: &mut Deeds,
    workspace: Uuid,
    user: Uuid,
    achievement: Uuid,
) -> Result<(), (Error, Lost)> {
    let row = client
        .query_one(
            "SELECT success, points_awarded FROM codex.unlock_achievement($1, $2, $3)",
            &[&user, &achievement, &workspace],
        )
        .map_err(|error| (error, Lost::Other))?;
    if row.get(0) {
        let earlier = deeds
            .unlocked
            .insert((workspace, user, achievement), row.get(1));
        assert_eq!(earlier, None, "paid twice");
    }
    Ok(())
}

fn raise(
    client: &mut Client,
    deeds: &mut Deeds,
    workspace: Uuid,
    key: usize,
) -> Result<(), (Error, Lost)> {
    let key = format!("{workspace} {key}");
    match client.query_one(
        "SELECT codex.create_system_alert($1, 'anomaly', 'low', 'Raised', 'Again and again', p_dedup_key => $2)",
        &[&workspace, &key],
    ) {
        Ok(row) => {
            *deeds.raised.entry(key).or_default() += 1;
            deeds.alerts.insert(row.get(0));
            Ok(())
        }
        Err(error) => Err((error, Lost::Raised(key))),
    }
}

/// An alert and a message to every member, in one transaction; then one member reads it.
fn announce(client: &mut Client, deeds: &mut Deeds, workspace: &Workspace) -> Result<(), Error> {
    let mut transaction = client.transaction()?;
    let alert: Uuid = transaction
        .query_one(
            "SELECT codex.create_system_alert($1, 'milestone', 'high', 'Announced', 'To everybody')",
            &[&workspace.id],
        )?
        .get(0);
    transaction.execute(
        "SELECT codex.send_user_notifications($1, $2, 'alert', 'Announced', 'To you', p_alert_id => $3)",
        &[&workspace.id, &workspace.users, &alert],
    )?;
    transaction.commit()?;
    deeds.announced.insert(alert);
    let notification: Uuid = client
        .query_one(
            "SELECT id FROM public.user_notifications WHERE workspace_id = $1 AND related_alert_id = $2 LIMIT 1",
            &[&workspace.id, &alert],
        )?
        .get(0);
    client.execute(
        "SELECT codex.mark_notification_as_read($1)",
        &[&notification],
    )?;
    deeds.read.insert(notification);
    Ok(())
}

/// Three new signals in one transaction, and an insight from them in another.
fn gain_insight(client: &mut Client, deeds: &mut Deeds, workspace: Uuid) -> Result<(), Error> {
    let signals: Vec<Uuid> = client
        .query_one(
            "WITH made AS (
                 INSERT INTO public.intelligence_signals
                     (workspace_id, source_type, signal_title, signal_category, confidence_score, data_source)
                 SELECT $1, 'market', 'Signal', 'market_trend', 60, 'source ' || n
                 FROM generate_series(1, 3) AS n
                 RETURNING id
             )
             SELECT array_agg(id) FROM made",
            &[&workspace],
        )?
        .get(0);
    let insight = client
        .query_one(
            "SELECT codex.create_insight_from_signals($1, $2, 'Insight', 'trend', ARRAY['So'], NULL)",
            &[&workspace, &signals],
        )?
        .get(0);
    deeds.insights.insert(insight);
    Ok(())
}

/// All of `ids` are among the answers of a query.
#[track_caller]
fn all_there(client: &mut Client, what: &str, ids: &BTreeSet<Uuid>, sql: &str) {
    let there: BTreeSet<Uuid> = client
        .query(sql, &[])
        .unwrap_or_else(|error| panic!("{what}: {error:?}"))
        .iter()
        .map(|row| row.get(0))
        .collect();
    let lost: Vec<_> = ids.difference(&there).collect();
    assert!(
        lost.is_empty(),
        "{what}: {} of {} lost: {lost:?}",
        lost.len(),
        ids.len()
    );
}

/// Queries that find what must not be, each with its name.
const CONTRADICTIONS: &[(&str, &str)] = &[
    (
        "points that are not the sum of the unlocked rewards",
        "SELECT s.user_id, s.total_points, sum(a.points_reward)
         FROM public.user_stats AS s
         LEFT JOIN public.user_achievements AS u
             ON u.workspace_id = s.workspace_id AND u.user_id = s.user_id AND NOT u.is_locked
         LEFT JOIN public.achievements AS a ON a.workspace_id = u.workspace_id AND a.id = u.achievement_id
         GROUP BY s.workspace_id, s.user_id, s.total_points, s.achievements_unlocked, s.experience_level
         HAVING s.total_points <> coalesce(sum(a.points_reward), 0)
             OR s.achievements_unlocked <> count(u.id)
             OR s.experience_level <> s.total_points / 1000 + 1",
    ),
    (
        "unlocked and not paid",
        "SELECT u.id
         FROM public.user_achievements AS u
         WHERE u.is_locked
            OR u.progress_percentage <> 100
            OR u.unlocked_at IS NULL
            OR NOT EXISTS (
                   SELECT FROM public.user_stats AS s WHERE s.workspace_id = u.workspace_id AND s.user_id = u.user_id)",
    ),
    (
        "counts that are not the number of executions",
        "SELECT p.workspace_id, p.agent_id, sum(p.execution_count), e.executions
         FROM public.agent_performance AS p
         FULL JOIN (
             SELECT workspace_id, agent_id, count(*) AS executions FROM codex.agent_executions GROUP BY 1, 2
         ) AS e ON e.workspace_id = p.workspace_id AND e.agent_id = p.agent_id
         GROUP BY p.workspace_id, p.agent_id, e.executions
         HAVING sum(p.execution_count) IS DISTINCT FROM e.executions
             OR sum(p.success_count + p.failure_count) <> sum(p.execution_count)
             OR sum(p.total_output_tokens) <> e.executions
             OR sum(p.total_execution_time_seconds) <> e.executions * 1.5
             OR bool_or(p.p50_execution_time_seconds NOT BETWEEN 1.48 AND 1.52)",
    ),
    (
        "an alert that is not whole",
        "SELECT s.id
         FROM public.system_alerts AS s
         WHERE s.triggered_at IS NULL
            OR s.last_seen_at IS NULL
            OR (s.title = 'Announced') <> (s.dedup_key IS NULL)",
    ),
    (
        "an announcement that did not reach everybody",
        "SELECT s.id, count(n.id)
         FROM public.system_alerts AS s
         LEFT JOIN public.user_notifications AS n ON n.related_alert_id = s.id
         WHERE s.title = 'Announced'
         GROUP BY s.id
         HAVING count(n.id) <> 20 OR count(DISTINCT n.user_id) <> 20",
    ),
    (
        "an insight without what went into it",
        "SELECT i.id, i.number_of_signals_analyzed, count(k.signal_id)
         FROM public.market_insights AS i
         LEFT JOIN codex.insight_signals AS k ON k.workspace_id = i.workspace_id AND k.insight_id = i.id
         GROUP BY i.id
         HAVING count(k.signal_id) <> 3
             OR i.number_of_signals_analyzed <> 3
             OR cardinality(i.source_signal_ids) <> 3",
    ),
    (
        "a signal that was used and is new, or that was not used and is actioned",
        "SELECT s.id
         FROM public.intelligence_signals AS s
         WHERE (s.action_status = 'actioned')
            <> EXISTS (SELECT FROM codex.insight_signals AS k WHERE k.signal_id = s.id)",
    ),
    (
        "a check of codex.verify() that fails",
        "SELECT id, what, actual FROM codex.verify() WHERE NOT passed",
    ),
];

fn check(client: &mut Client, deeds: &Deeds) {
    for (what, sql) in CONTRADICTIONS {
        let found: Vec<String> = client
            .query(&format!("SELECT c::text FROM ({sql}) AS c LIMIT 5"), &[])
            .unwrap_or_else(|error| panic!("{what}: {error:?}"))
            .iter()
            .map(|row| row.get(0))
            .collect();
        assert!(found.is_empty(), "{what}: {found:?}");
    }
    let unlocked: BTreeMap<(Uuid, Uuid, Uuid), i32> = client
        .query(
            "SELECT u.workspace_id, u.user_id, u.achievement_id, a.points_reward
             FROM public.user_achievements AS u
             JOIN public.achievements AS a ON a.id = u.achievement_id",
            &[],
        )
        .expect("what was unlocked")
        .iter()
        .map(|row| ((row.get(0), row.get(1), row.get(2)), row.get(3)))
        .collect();
    for (key, points) in &deeds.unlocked {
        assert_eq!(
            unlocked.get(key),
            Some(points),
            "acknowledged, and lost: {key:?}"
        );
    }
    all_there(
        client,
        "executions",
        &deeds
            .recorded
            .iter()
            .map(|execution| execution.id)
            .collect(),
        "SELECT execution_id FROM codex.agent_executions",
    );
    all_there(
        client,
        "alerts",
        &deeds.alerts,
        "SELECT id FROM public.system_alerts",
    );
    all_there(
        client,
        "announcements",
        &deeds.announced,
        "SELECT id FROM public.system_alerts",
    );
    all_there(
        client,
        "insights",
        &deeds.insights,
        "SELECT id FROM public.market_insights",
    );
    all_there(
        client,
        "read notifications",
        &deeds.read,
        "SELECT id FROM public.user_notifications WHERE is_read AND read_at IS NOT NULL",
    );
    // An answer that was lost may be of a call that was done.
    for row in client
        .query(
            "SELECT dedup_key, sum(occurrence_count)::bigint
             FROM public.system_alerts WHERE dedup_key IS NOT NULL GROUP BY 1",
            &[],
        )
        .expect("raised alerts")
    {
        let (key, times): (String, i64) = (row.get(0), row.get(1));
        let known = deeds.raised.get(&key).copied().unwrap_or(0);
        let perhaps = (deeds.lost.iter())
            .filter(|lost| matches!(lost, Lost::Raised(lost) if *lost == key))
            .count() as i64;
        assert!(
            (known..=known + perhaps).contains(&times),
            "{key} was raised {times} times, {known} were acknowledged, {perhaps} lost"
        );
    }
}

/// What every session had under way is sent again: with its id it counts once, whether it had been done or not.
fn send_again(client: &mut Client, deeds: &mut Deeds) {
    let lost = std::mem::take(&mut deeds.lost);
    for lost in lost {
        match lost {
            Lost::Execution(execution) => {
                record(client, &execution).expect("recorded at last");
                deeds.recorded.push(execution);
            }
            other => deeds.lost.push(other),
        }
    }
    let sum = |of: fn(&Execution) -> i64| deeds.recorded.iter().map(of).sum::<i64>();
    let (executions, tokens, cost, successes) = (
        deeds.recorded.len() as i64,
        sum(|execution| execution.tokens),
        sum(|execution| execution.cost),
        sum(|execution| i64::from(execution.success)),
    );
    let row = client
        .query_one(
            "SELECT coalesce(sum(execution_count), 0)::bigint, coalesce(sum(total_input_tokens), 0)::bigint,
                    coalesce(sum(total_cost_incurred) * 1000000, 0)::bigint, coalesce(sum(success_count), 0)::bigint
             FROM public.agent_performance",
            &[],
        )
        .expect("the sums");
    let stored: (i64, i64, i64, i64) = (row.get(0), row.get(1), row.get(2), row.get(3));
    assert_eq!(stored, (executions, tokens, cost, successes));
}

/// Every index of ours agrees with its table, where the server has the means to check that.
fn check_indexes(client: &mut Client) -> i64 {
    let has_amcheck: bool = value(
        client,
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_available_extensions WHERE name = 'amcheck')",
        &[],
    );
    if !has_amcheck {
        println!("this server has no amcheck: indexes are not compared with their tables");
        return 0;
    }
    client
        .batch_execute("CREATE EXTENSION IF NOT EXISTS amcheck")
        .expect("amcheck");
    value(
        client,
        "WITH checked AS MATERIALIZED (
             SELECT bt_index_check(x.indexrelid, true)
             FROM pg_catalog.pg_index AS x
             JOIN pg_catalog.pg_class AS i ON i.oid = x.indexrelid
             JOIN pg_catalog.pg_am AS m ON m.oid = i.relam AND m.amname = 'btree'
             WHERE i.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace)
         )
         SELECT count(*) FROM checked",
        &[],
    )
}

#[test]
fn a_killed_server_comes_back_with_everything_it_acknowledged() {
    let rounds = setting("CODEX_CRASH_ROUNDS", 10);
    let seed = seed("crash");
    let server = PrivateServer::new();
    let mut admin = server.connect().expect("a new server");
    let scene = set_up(&mut admin);
    let mut all = Deeds::default();
    for round in 0..rounds {
        let achievements = new_achievements(&mut admin);
        let stop = AtomicBool::new(false);
        let victim = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let sessions: Vec<_> = (0..SESSIONS)
                .map(|number| {
                    let mut client = server.connect().expect("a session");
                    if number == 0 {
                        let pid: i32 = value(&mut client, "SELECT pg_backend_pid()", &[]);
                        victim.store(pid.cast_unsigned(), Ordering::Relaxed);
                    }
                    let (scene, achievements, stop) = (&scene, &achievements, &stop);
                    scope.spawn(move || {
                        let mut dice = Dice::new(seed, (round * SESSIONS + number) as u64);
                        work(&mut client, &mut dice, scene, achievements, stop)
                    })
                })
                .collect();
            // At another point of the load each time.
            let mut dice = Dice::new(seed, u64::MAX - round as u64);
            std::thread::sleep(Duration::from_millis(400 + dice.below(600) as u64));
            match round % 3 {
                0 => server.kill_postmaster(),
                1 => server.kill_everything(),
                _ => server.kill_a_backend(victim.load(Ordering::Relaxed)),
            }
            for session in sessions {
                let deeds = session
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                assert_eq!(deeds.lost.len(), 1, "a session that was not thrown out");
                all.add(deeds);
            }
            stop.store(true, Ordering::Relaxed);
        });
        if round % 3 != 2 {
            server.start();
        }
        admin = server.connect_when_it_is_back();
        check(&mut admin, &all);
        send_again(&mut admin, &mut all);
        check(&mut admin, &all);
    }
    let indexes = check_indexes(&mut admin);
    println!(
        "{rounds} crashes, {} calls acknowledged: {} unlocks, {} executions, {} alerts raised, {} announced, \
         {} insights; {indexes} indexes agree with their tables",
        all.calls,
        all.unlocked.len(),
        all.recorded.len(),
        all.raised.values().sum::<i64>(),
        all.announced.len(),
        all.insights.len()
    );
    assert!(
        all.calls as usize > rounds * SESSIONS * 5,
        "only {} calls in {rounds} rounds",
        all.calls
    );
    let log = server.log();
    let recoveries = log
        .matches("database system was not properly shut down")
        .count()
        + log
            .matches("all server processes terminated; reinitializing")
            .count();
    assert!(
        recoveries >= rounds,
        "{recoveries} recoveries in {rounds} rounds"
    );
    // A process that we did not kill ended by itself: no signal but ours (9) and what follows it (3, quit).
    for line in log
        .lines()
        .filter(|line| line.contains("was terminated by signal"))
    {
        assert!(
            line.contains("signal 9") || line.contains("signal 3"),
            "{line}"
        );
    }
    assert!(!log.contains("PANIC"), "{log}");
}
