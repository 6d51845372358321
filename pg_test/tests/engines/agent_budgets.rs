//! Budgets of agents: reservations, and that nobody spends what is not there.

use crate::agent_tasks::{agent, assignment};
use crate::scene::{Scene, rows};
use codex_pg_test::postgres::{Client, Error, GenericClient, Transaction};
use codex_pg_test::{Uuid, fails_with, sqlstate, value};
use std::collections::BTreeSet;

/// What came of asking for a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub reservation: Option<Uuid>,
    pub refused_by: Option<Uuid>,
    pub tokens_left: Option<i64>,
    /// In cents.
    pub cents_left: Option<i64>,
}

/// Sets a budget; limits of money are in cents.
pub fn budget(
    client: &mut Client,
    workspace: Uuid,
    agent: Option<Uuid>,
    period: &str,
    tokens: Option<i64>,
    cents: Option<i64>,
) -> Option<Uuid> {
    value(
        client,
        "SELECT codex.set_agent_budget($1, $2, $3, $4, $5::bigint * 0.01)",
        &[&workspace, &period, &agent, &tokens, &cents],
    )
}

pub fn reserve(
    client: &mut impl GenericClient,
    workspace: Uuid,
    agent: Uuid,
    tokens: i64,
    cents: i64,
    key: Option<&str>,
) -> Result<Answer, Error> {
    client
        .query_one(
            "SELECT reservation_id, refused_by, tokens_left, (cost_left * 100)::bigint
             FROM codex.reserve_agent_budget($1, $2, $3, $4::bigint * 0.01, idempotency_key => $5)",
            &[&workspace, &agent, &tokens, &cents, &key],
        )
        .map(|row| Answer {
            reservation: row.get(0),
            refused_by: row.get(1),
            tokens_left: row.get(2),
            cents_left: row.get(3),
        })
}

pub fn settle(
    client: &mut impl GenericClient,
    workspace: Uuid,
    reservation: Uuid,
    tokens: i64,
    cents: i64,
) -> Result<u64, Error> {
    client.execute(
        "SELECT codex.settle_agent_budget($1, $2, $3, $4::bigint * 0.01)",
        &[&workspace, &reservation, &tokens, &cents],
    )
}

pub fn release(
    client: &mut impl GenericClient,
    workspace: Uuid,
    reservation: Uuid,
) -> Result<u64, Error> {
    client.execute(
        "SELECT codex.release_agent_budget($1, $2)",
        &[&workspace, &reservation],
    )
}

/// Lets what is held run out.
pub const RUN_OUT: &str = "UPDATE codex.budget_reservations
     SET reserved_at = reserved_at - interval '2 hours', expires_at = now() - interval '1 second'
     WHERE status = 'held'";

/// Tokens used and reserved, cents used and reserved, of all periods of a budget together.
pub fn stands(client: &mut Client, budget: Uuid) -> (i64, i64, i64, i64) {
    let row = client
        .query_one(
            "SELECT coalesce(sum(tokens_used), 0)::bigint, coalesce(sum(tokens_reserved), 0)::bigint,
                    coalesce(sum(cost_used) * 100, 0)::bigint, coalesce(sum(cost_reserved) * 100, 0)::bigint
             FROM codex.agent_budget_periods
             WHERE budget_id = $1",
            &[&budget],
        )
        .unwrap();
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

/// Acme with an agent. Not in the last two minutes of a day in UTC: a period must not end while a test is at it.
fn scene() -> (Scene, Uuid) {
    let mut scene = Scene::new();
    let ends_soon = "SELECT (now() AT TIME ZONE 'UTC')::time > '23:58'";
    while value(&mut scene.admin, ends_soon, &[]) {
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let scribe = agent(&mut scene.admin, "Scribe");
    (scene, scribe)
}

#[test]
fn a_reservation_is_taken_from_every_budget_or_from_none() {
    let (mut scene, scribe) = scene();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let unlimited = reserve(admin, acme, scribe, 1_000_000, 0, None).unwrap();
    assert!(unlimited.reservation.is_some(), "no budget, no limit");
    assert_eq!((unlimited.tokens_left, unlimited.cents_left), (None, None));

    let day = budget(admin, acme, Some(scribe), "day", Some(1000), Some(250)).unwrap();
    let all = budget(admin, acme, None, "month", Some(1500), None).unwrap();
    let first = reserve(admin, acme, scribe, 600, 100, None).unwrap();
    assert_eq!(
        (first.refused_by, first.tokens_left, first.cents_left),
        (None, Some(400), Some(150))
    );
    let refused = reserve(admin, acme, scribe, 401, 0, None).unwrap();
    assert_eq!(
        refused,
        Answer {
            reservation: None,
            refused_by: Some(day),
            tokens_left: Some(400),
            cents_left: Some(150),
        }
    );
    let too_dear = reserve(admin, acme, scribe, 1, 151, None).unwrap();
    assert_eq!(too_dear.refused_by, Some(day));
    assert_eq!(stands(admin, day), (0, 600, 0, 100));
    assert_eq!(stands(admin, all), (0, 600, 0, 100));
    // Another agent has the workspace's budget only.
    let eye = agent(admin, "Eye");
    let other = reserve(admin, acme, eye, 901, 9999, None).unwrap();
    assert_eq!(other.refused_by, Some(all));
    let exactly = reserve(admin, acme, eye, 900, 9999, None).unwrap();
    assert_eq!((exactly.tokens_left, exactly.cents_left), (Some(0), None));
    assert_eq!(stands(admin, day), (0, 600, 0, 100));
    assert_eq!(rows(admin, "codex.budget_reservations"), 3);
    // When it opens again.
    let resets: bool = value(
        admin,
        "SELECT resets_at = (date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC'
         FROM codex.reserve_agent_budget($1, $2, 500)",
        &[&acme, &scribe],
    );
    // The day's budget opens first, but that of the month refuses as well.
    assert!(!resets);
    // Neighbours have budgets of their own.
    let bolt = scene.bolt;
    assert!(
        reserve(admin, bolt, scribe, 1_000_000, 0, None)
            .unwrap()
            .reservation
            .is_some()
    );
}

#[test]
fn what_was_used_counts_whatever_was_reserved() {
    let (mut scene, scribe) = scene();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let day = budget(admin, acme, Some(scribe), "day", Some(1000), Some(500)).unwrap();
    let ask = |admin: &mut Client, tokens, cents| {
        reserve(admin, acme, scribe, tokens, cents, None)
            .unwrap()
            .reservation
    };
    let first = ask(admin, 400, 100).unwrap();
    settle(admin, acme, first, 250, 30).unwrap();
    assert_eq!(stands(admin, day), (250, 0, 30, 0));
    settle(admin, acme, first, 250, 30).unwrap();
    assert_eq!(stands(admin, day), (250, 0, 30, 0), "said twice");
    fails_with(settle(admin, acme, first, 251, 30), "55000");
    fails_with(release(admin, acme, first), "55000");

    let second = ask(admin, 700, 0).unwrap();
    release(admin, acme, second).unwrap();
    release(admin, acme, second).unwrap();
    assert_eq!(stands(admin, day), (250, 0, 30, 0));
    fails_with(settle(admin, acme, second, 1, 1), "55000");

    let third = ask(admin, 750, 470).unwrap();
    assert_eq!(ask(admin, 1, 0), None);
    settle(admin, acme, third, 900, 470).unwrap();
    assert_eq!(stands(admin, day), (1150, 0, 500, 0), "more than there was");
    assert_eq!(
        ask(admin, 0, 0),
        None,
        "nothing fits into what is overdrawn"
    );
    budget(admin, acme, Some(scribe), "day", Some(2000), Some(500));
    assert!(ask(admin, 850, 0).is_some(), "a new limit counts at once");
    fails_with(settle(admin, acme, Uuid::from_u128(7), 1, 1), "P0002");
}

#[test]
fn what_is_not_heard_of_expires_and_can_still_be_settled() {
    let (mut scene, scribe) = scene();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let day = budget(admin, acme, Some(scribe), "day", Some(1000), None).unwrap();
    let lost = reserve(admin, acme, scribe, 900, 5, None)
        .unwrap()
        .reservation
        .unwrap();
    admin.execute(RUN_OUT, &[]).unwrap();
    // The next who asks does not wait for maintenance.
    let next = reserve(admin, acme, scribe, 800, 0, None).unwrap();
    assert_eq!(next.tokens_left, Some(200));
    assert_eq!(stands(admin, day), (0, 800, 0, 0));
    release(admin, acme, lost).unwrap();
    settle(admin, acme, lost, 300, 5).unwrap();
    assert_eq!(
        stands(admin, day),
        (300, 800, 5, 0),
        "what was used is used"
    );
    admin.execute(RUN_OUT, &[]).unwrap();
    let expired: i64 = value(
        admin,
        "SELECT rows FROM codex.run_maintenance() WHERE work = 'reservations expired'",
        &[],
    );
    assert_eq!(expired, 1);
    assert_eq!(stands(admin, day), (300, 0, 5, 0));
    // What is long finished goes; what the period came to stays.
    admin
        .execute(
            "UPDATE codex.budget_reservations SET finished_at = now() - interval '91 days'",
            &[],
        )
        .unwrap();
    admin.execute("SELECT codex.upkeep_agents()", &[]).unwrap();
    assert_eq!(rows(admin, "codex.budget_reservations"), 0);
    assert_eq!(stands(admin, day), (300, 0, 5, 0));
}

#[test]
fn a_period_ends_and_the_next_begins_with_nothing_used() {
    let (mut scene, scribe) = scene();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    for period in ["day", "week", "month", "total"] {
        budget(admin, acme, Some(scribe), period, Some(100), None);
    }
    let before = reserve(admin, acme, scribe, 80, 0, None)
        .unwrap()
        .reservation
        .unwrap();
    // A day ago, a week ago, a month ago; once and for all stays.
    admin
        .execute(
            "UPDATE codex.agent_budget_periods AS p
             SET period_start = (p.period_start AT TIME ZONE 'UTC' - ('1 ' || b.period)::interval) AT TIME ZONE 'UTC'
             FROM codex.agent_budgets AS b
             WHERE b.id = p.budget_id AND b.period <> 'total'",
            &[],
        )
        .unwrap();
    let total: Uuid = value(
        admin,
        "SELECT id FROM codex.agent_budgets WHERE period = 'total'",
        &[],
    );
    let refused = reserve(admin, acme, scribe, 21, 0, None).unwrap();
    assert_eq!(
        (refused.refused_by, refused.tokens_left),
        (Some(total), Some(20))
    );
    assert!(
        reserve(admin, acme, scribe, 20, 0, None)
            .unwrap()
            .reservation
            .is_some()
    );
    // It counts where it was reserved.
    settle(admin, acme, before, 60, 0).unwrap();
    let standing: Vec<(String, i64, i64, bool)> = admin
        .query(
            "SELECT period, tokens_used, tokens_reserved, resets_at > now() FROM codex.agent_budget_status($1, $2)",
            &[&acme, &scribe],
        )
        .unwrap()
        .iter()
        .map(|row| {
            let resets: Option<bool> = row.get(3);
            (row.get(0), row.get(1), row.get(2), resets.unwrap_or(false))
        })
        .collect();
    assert_eq!(
        standing,
        [
            ("day".to_string(), 0, 20, true),
            ("week".to_string(), 0, 20, true),
            ("month".to_string(), 0, 20, true),
            ("total".to_string(), 60, 20, false),
        ]
    );
    // Weeks begin on Monday, all by UTC, whatever the session's time zone.
    admin
        .batch_execute("SET TimeZone = 'Pacific/Kiritimati'")
        .unwrap();
    let starts: Vec<String> = admin
        .query(
            "SELECT to_char(period_start AT TIME ZONE 'UTC', 'FMDD HH24:MI') || to_char(period_start AT TIME ZONE 'UTC', ' FMDay')
             FROM codex.agent_budget_status($1) WHERE period = 'week'
             UNION ALL
             SELECT to_char(period_start AT TIME ZONE 'UTC', 'FMDD HH24:MI')
             FROM codex.agent_budget_status($1) WHERE period = 'month'",
            &[&acme],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(starts[0].ends_with("00:00 Monday"), "{starts:?}");
    assert_eq!(starts[1], "1 00:00");
}

#[test]
fn a_soft_limit_raises_one_alert_a_period() {
    let (mut scene, scribe) = scene();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let day = budget(admin, acme, Some(scribe), "day", Some(1000), Some(1000)).unwrap();
    let ask = |admin: &mut Client, tokens, cents| {
        reserve(admin, acme, scribe, tokens, cents, None)
            .unwrap()
            .reservation
            .unwrap()
    };
    ask(admin, 799, 100);
    assert_eq!(rows(admin, "public.system_alerts"), 0);
    let at_the_limit = ask(admin, 1, 0);
    for _ in 0..3 {
        ask(admin, 10, 10);
    }
    settle(admin, acme, at_the_limit, 50, 0).unwrap();
    let alerts: Vec<(String, String, i32, Option<Uuid>)> = admin
        .query(
            "SELECT title, description, occurrence_count, triggered_by_agent_id FROM public.system_alerts",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect();
    assert_eq!(
        alerts,
        [(
            "The daily budget of Scribe has reached 80 %".to_string(),
            "Used and reserved: 800 of 1000 tokens, 1 of 10 in money.".to_string(),
            1,
            Some(scribe),
        )]
    );
    let key: String = value(
        admin,
        "SELECT dedup_key FROM public.system_alerts WHERE dedup_key = format('agent-budget:%s:%s', $1::uuid, to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'))",
        &[&day],
    );
    assert!(key.len() <= 200);
    // A new day, another alert; without a percentage none.
    admin
        .execute(
            "UPDATE codex.agent_budget_periods SET period_start = period_start - interval '1 day'",
            &[],
        )
        .unwrap();
    admin
        .execute(
            "UPDATE public.system_alerts SET dedup_key = 'yesterday'",
            &[],
        )
        .unwrap();
    ask(admin, 900, 0);
    assert_eq!(rows(admin, "public.system_alerts"), 2);
    value::<Option<Uuid>>(
        admin,
        "SELECT codex.set_agent_budget($1, 'total', NULL, 10, soft_limit_percentage => NULL)",
        &[&acme],
    );
    ask(admin, 10, 0);
    assert_eq!(rows(admin, "public.system_alerts"), 2);
}

#[test]
fn a_key_reserves_once_and_a_refused_call_can_be_tried_again() {
    let (mut scene, scribe) = scene();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let day = budget(admin, acme, Some(scribe), "day", Some(100), None).unwrap();
    let first = reserve(admin, acme, scribe, 60, 0, Some("a")).unwrap();
    let again = reserve(admin, acme, scribe, 60, 0, Some("a")).unwrap();
    assert_eq!(first, again);
    assert_eq!(stands(admin, day), (0, 60, 0, 0));
    fails_with(reserve(admin, acme, scribe, 61, 0, Some("a")), "22023");
    let refused = reserve(admin, acme, scribe, 60, 0, Some("b")).unwrap();
    assert_eq!(refused.refused_by, Some(day));
    release(admin, acme, first.reservation.unwrap()).unwrap();
    let granted = reserve(admin, acme, scribe, 60, 0, Some("b")).unwrap();
    assert!(granted.reservation.is_some());
    let acme_only: BTreeSet<Uuid> = scene
        .db
        .parallel(8, |_, session| {
            reserve(session, acme, scribe, 5, 0, Some("c"))
                .unwrap()
                .reservation
                .unwrap()
        })
        .into_iter()
        .collect();
    assert_eq!(acme_only.len(), 1);
    assert_eq!(stands(&mut scene.admin, day), (0, 65, 0, 0));
}

#[test]
fn a_budget_is_set_changed_and_taken_away() {
    let (mut scene, scribe) = scene();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let day = budget(admin, acme, Some(scribe), "day", Some(100), None);
    assert_eq!(
        budget(admin, acme, Some(scribe), "day", Some(200), Some(5)),
        day
    );
    assert_eq!(rows(admin, "codex.agent_budgets"), 1);
    let held = reserve(admin, acme, scribe, 150, 5, None)
        .unwrap()
        .reservation
        .unwrap();
    assert_eq!(budget(admin, acme, Some(scribe), "day", None, None), None);
    assert_eq!(budget(admin, acme, Some(scribe), "day", None, None), None);
    assert_eq!(rows(admin, "codex.agent_budget_periods"), 0);
    settle(admin, acme, held, 150, 5).unwrap();
    for (sql, state) in [
        ("'year', NULL, 5", "22023"),
        ("'day', NULL, -1", "22023"),
        ("'day', NULL, 5, 'NaN'", "22023"),
        ("'day', NULL, 5, 5, 101", "22023"),
        ("NULL, NULL, 5", "22004"),
        ("'day', gen_random_uuid(), 5", "23503"),
    ] {
        fails_with(
            admin.query(
                &format!("SELECT codex.set_agent_budget('{acme}', {sql})"),
                &[],
            ),
            state,
        );
    }
    let unknown = reserve(admin, acme, Uuid::from_u128(7), 1, 0, None);
    let failure = fails_with(unknown, "23503");
    assert!(failure.message.contains("no such agent"), "{failure}");
}

#[test]
fn eight_sessions_never_reserve_more_than_there_is() {
    let (mut scene, scribe) = scene();
    let acme = scene.acme;
    let eye = agent(&mut scene.admin, "Eye");
    let day = budget(
        &mut scene.admin,
        acme,
        Some(scribe),
        "day",
        Some(10_000),
        None,
    )
    .unwrap();
    let all = budget(
        &mut scene.admin,
        acme,
        None,
        "week",
        Some(15_000),
        Some(1_000),
    )
    .unwrap();
    // Each asks until it is refused, settles some with less, releases some, loses some.
    let used: Vec<(i64, i64)> = scene.db.parallel(8, |number, session| {
        let agent = if number % 2 == 0 { scribe } else { eye };
        let (mut used, mut granted) = (0, 0);
        for turn in 0..80_i64 {
            let ask = 100 + (turn * 37 + number as i64 * 11) % 200;
            let answer = reserve(session, acme, agent, ask, 1, None).unwrap();
            let Some(reservation) = answer.reservation else {
                continue;
            };
            granted += 1;
            match turn % 4 {
                0 => drop(release(session, acme, reservation).unwrap()),
                1 => {}
                _ => {
                    settle(session, acme, reservation, ask / 2, 1).unwrap();
                    used += ask / 2;
                }
            }
        }
        (used, granted)
    });
    let admin = &mut scene.admin;
    let all_used: i64 = used.iter().map(|(used, _)| used).sum();
    let of_scribe: i64 = used.iter().step_by(2).map(|(used, _)| used).sum();
    let (tokens, reserved, cents, cents_reserved) = stands(admin, all);
    assert_eq!(tokens, all_used);
    assert!(tokens + reserved <= 15_000, "{tokens} + {reserved}");
    assert!(cents + cents_reserved <= 1_000);
    let (tokens, reserved, ..) = stands(admin, day);
    assert_eq!(tokens, of_scribe);
    assert!(tokens + reserved <= 10_000, "{tokens} + {reserved}");
    let held: i64 = value(
        admin,
        "SELECT coalesce(sum(tokens), 0)::bigint FROM codex.budget_reservations WHERE status = 'held'",
        &[],
    );
    assert_eq!(stands(admin, all).1, held);
    assert!(used.iter().map(|(_, granted)| granted).sum::<i64>() >= 50);
    assert!(rows(admin, "public.system_alerts") <= 2, "one a budget");
}

#[test]
fn reserving_settling_and_expiring_at_once_loses_nothing() {
    let (mut scene, scribe) = scene();
    let acme = scene.acme;
    let agents: Vec<Uuid> = (0..3)
        .map(|n| agent(&mut scene.admin, &format!("Agent {n}")))
        .chain([scribe])
        .collect();
    for agent in &agents {
        budget(
            &mut scene.admin,
            acme,
            Some(*agent),
            "day",
            Some(1_000_000),
            None,
        );
    }
    let all = budget(&mut scene.admin, acme, None, "total", Some(4_000_000), None).unwrap();
    let spent: Vec<i64> = scene.db.parallel(8, |number, session| {
        let mut spent = 0;
        for turn in 0..60 {
            if number == 7 {
                session.execute("SELECT codex.upkeep_agents(20)", &[]).unwrap();
                continue;
            }
            let agent = agents[(number + turn) % agents.len()];
            let answer = reserve(session, acme, agent, 10, 0, None).unwrap();
            let reservation = answer.reservation.unwrap();
            if turn % 2 == 0 {
                // It runs out, and somebody takes notice, or nobody.
                session
                    .execute(
                        "UPDATE codex.budget_reservations
                         SET reserved_at = now() - interval '2 hours', expires_at = now() - interval '1 second'
                         WHERE workspace_id = $1 AND id = $2 AND status = 'held'",
                        &[&acme, &reservation],
                    )
                    .unwrap();
            }
            if turn % 3 == 0 {
                match settle(session, acme, reservation, 7, 0) {
                    Ok(_) => spent += 7,
                    Err(error) => panic!("{}", sqlstate(&error)),
                }
            }
        }
        spent
    });
    let admin = &mut scene.admin;
    admin.execute(RUN_OUT, &[]).unwrap();
    admin
        .execute("SELECT codex.upkeep_agents(10000)", &[])
        .unwrap();
    assert_eq!(stands(admin, all), (spent.iter().sum(), 0, 0, 0));
    let left: i64 = value(
        admin,
        "SELECT count(*) FROM codex.agent_budget_periods WHERE tokens_reserved <> 0 OR cost_reserved <> 0",
        &[],
    );
    assert_eq!(left, 0);
}

#[test]
fn a_member_reads_the_budgets_of_his_workspace_and_spends_nothing() {
    let (mut scene, scribe) = scene();
    let (acme, bolt) = (scene.acme, scene.bolt);
    budget(&mut scene.admin, acme, Some(scribe), "day", Some(100), None);
    let theirs = budget(&mut scene.admin, bolt, Some(scribe), "day", Some(100), None).unwrap();
    let foreign = reserve(&mut scene.admin, bolt, scribe, 5, 0, None)
        .unwrap()
        .reservation
        .unwrap();
    assignment(&mut scene.admin, acme, scribe);
    for kind in ["member", "service"] {
        let role = scene.db.role(kind);
        scene
            .admin
            .batch_execute(&format!("SELECT codex.grant_{kind}_role('{role}')"))
            .unwrap();
    }
    let set = "SELECT set_config('app.current_workspace_id', $1::uuid::text, false), set_config('app.current_user_id', $2::uuid::text, false)";
    let mut anna = scene.db.login("member");
    anna.execute(set, &[&acme, &scene.anna]).unwrap();
    let seen: i64 = value(
        &mut anna,
        "SELECT count(*) FROM codex.agent_budget_status($1)",
        &[&acme],
    );
    assert_eq!(seen, 1);
    fails_with(
        anna.query("SELECT * FROM codex.agent_budget_status($1)", &[&bolt]),
        "42501",
    );
    fails_with(reserve(&mut anna, acme, scribe, 1, 0, None), "42501");
    fails_with(
        anna.query(
            "SELECT codex.set_agent_budget($1, 'day', NULL, 5)",
            &[&acme],
        ),
        "42501",
    );

    let mut service = scene.db.login("service");
    service
        .execute(
            "SELECT set_config('app.current_workspace_id', $1::uuid::text, false)",
            &[&acme],
        )
        .unwrap();
    let ours = reserve(&mut service, acme, scribe, 90, 0, None).unwrap();
    assert_eq!(ours.tokens_left, Some(10));
    fails_with(reserve(&mut service, bolt, scribe, 1, 0, None), "42501");
    fails_with(settle(&mut service, bolt, foreign, 1, 0), "42501");
    fails_with(settle(&mut service, acme, foreign, 1, 0), "P0002");
    fails_with(release(&mut service, acme, foreign), "P0002");
    // What runs out elsewhere stays as it is.
    scene.admin.execute(RUN_OUT, &[]).unwrap();
    service
        .execute("SELECT codex.upkeep_agents()", &[])
        .unwrap();
    assert_eq!(stands(&mut scene.admin, theirs), (0, 5, 0, 0));
    let alerts: i64 = rows(&mut scene.admin, "public.system_alerts");
    assert_eq!(alerts, 1, "a service may raise the alert of a soft limit");
}

#[test]
fn a_reservation_touches_as_much_however_many_were_made() {
    let (mut scene, scribe) = scene();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    budget(admin, acme, Some(scribe), "day", Some(1_000_000), None);
    budget(admin, acme, None, "month", Some(1_000_000), None);
    admin
        .execute(
            "INSERT INTO codex.budget_reservations (workspace_id, agent_id, tokens, cost, period_ids, expires_at)
             SELECT $1, $2, 0, 0, '{}', now() + n * interval '1 minute' FROM generate_series(60, 20060) AS n",
            &[&acme, &scribe],
        )
        .unwrap();
    admin
        .batch_execute("ANALYZE codex.budget_reservations")
        .unwrap();
    let read = |client: &mut Transaction<'_>| -> i64 {
        // What this session has read so far, its own statistics not yet reported included.
        value(
            client,
            "SELECT pg_stat_get_xact_tuples_returned('codex.budget_reservations'::regclass)
                 + pg_stat_get_xact_tuples_fetched('codex.budget_reservations'::regclass)",
            &[],
        )
    };
    for _ in 0..12 {
        // As often as it takes until the plan is kept.
        let mut transaction = admin.transaction().unwrap();
        let before = read(&mut transaction);
        let reservation = reserve(&mut transaction, acme, scribe, 10, 1, None)
            .unwrap()
            .reservation
            .unwrap();
        settle(&mut transaction, acme, reservation, 10, 1).unwrap();
        let touched = read(&mut transaction) - before;
        transaction.rollback().unwrap();
        assert!(touched <= 50, "{touched} rows were touched for one");
    }
}
