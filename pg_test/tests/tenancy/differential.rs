//! Random tenants, random data, random queries: what a member sees is what a superuser gets with the tenant's
//! filter written out, and another tenant's rows change nothing in results, errors or plans.

use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Uuid, error_message, member, value, workspace};

/// A small generator (xorshift64*): the seed is printed with every failure, so that a run can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }

    fn pick<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

const TABLES: &[&str] = &[
    "public.campaigns",
    "public.campaign_quests",
    "public.intelligence_signals",
    "public.system_alerts",
    "public.user_stats",
    "public.user_notifications",
];

/// Rows of one tenant in every table; called again, more of them.
fn sow(admin: &mut Client, random: &mut Random, workspace: Uuid, users: &[Uuid]) {
    for _ in 0..random.below(6) {
        let status = random.pick(&["draft", "active", "paused", "completed"]);
        let budget = random.below(4) as i32 * 100;
        let campaign: Uuid = value(
            admin,
            "INSERT INTO public.campaigns (workspace_id, name, status, budget_allocation, total_reach, start_date)
             VALUES ($1, 'c' || $2::int, $3, $2, $2 * 3, CASE WHEN $2 > 100 THEN date '2026-01-01' + $2 END) RETURNING id",
            &[&workspace, &budget, &status],
        );
        for order in 0..random.below(4) as i32 {
            let status = random.pick(&["pending", "in_progress", "completed"]);
            admin
                .execute(
                    "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, quest_order, status) VALUES ($1, $2, 'q', $3, $4)",
                    &[&workspace, &campaign, &order, &status],
                )
                .unwrap();
        }
    }
    for _ in 0..random.below(8) {
        let score = random.below(101) as i32;
        let category = random.pick(&["market_trend", "industry_news", "technology_shift"]);
        admin
            .execute(
                "INSERT INTO public.intelligence_signals (workspace_id, source_type, signal_title, signal_category, confidence_score, relevance_score)
                 VALUES ($1, 'market', 's', $2, $3::int, nullif($3::int, 50))",
                &[&workspace, &category, &score],
            )
            .unwrap();
        let severity = random.pick(&["critical", "high", "low"]);
        admin
            .execute(
                "INSERT INTO public.system_alerts (workspace_id, alert_type, severity_level, title) VALUES ($1, 'error', $2, 'a' || $3::int)",
                &[&workspace, &severity, &score],
            )
            .unwrap();
    }
    for user in users {
        let points = random.below(5000) as i32;
        admin
            .execute(
                "INSERT INTO public.user_stats (workspace_id, user_id, total_points) VALUES ($1, $2, $3)
                 ON CONFLICT (workspace_id, user_id) DO UPDATE SET total_points = excluded.total_points",
                &[&workspace, user, &points],
            )
            .unwrap();
        for _ in 0..random.below(4) {
            admin
                .execute(
                    "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message, is_read)
                     VALUES ($1, $2, 'message', 't' || $3::int, 'm', $3::int % 2 = 0)",
                    &[&workspace, user, &points],
                )
                .unwrap();
        }
    }
}

/// A random query over `{table}` placeholders; its result is one text.
fn query(random: &mut Random) -> String {
    // Which of the rows are looked at, and in which order, is the plan's to choose where a join or a LIMIT lets it
    // stop early; a condition that divides by zero for some row is therefore only put to whole tables.
    let shape = random.below(9);
    let every_row = !matches!(shape, 3 | 4 | 5 | 8);
    let condition = |random: &mut Random, alias: &str, table: &str| -> String {
        let own: &[&str] = match table {
            "campaigns" => &[
                "{a}.status = 'active'",
                "{a}.budget_allocation > 100",
                "{a}.start_date IS NULL",
                "{a}.name LIKE 'c%0'",
                "1 / {a}.total_reach > 0",
            ],
            "campaign_quests" => &[
                "{a}.quest_order < 2",
                "{a}.status <> 'pending'",
                "{a}.parent_quest_id IS NULL",
            ],
            "intelligence_signals" => &[
                "{a}.confidence_score >= 50",
                "{a}.relevance_score IS NULL",
                "{a}.signal_category = 'market_trend'",
                "100 / (50 - {a}.confidence_score) > 1",
            ],
            "system_alerts" => &[
                "{a}.severity_level IN ('critical', 'high')",
                "{a}.title < 'a5'",
            ],
            "user_stats" => &["{a}.total_points > 1000", "{a}.experience_level = 1"],
            _ => &["NOT {a}.is_read", "{a}.title > 't2'"],
        };
        let own: Vec<&str> = own
            .iter()
            .copied()
            .filter(|text| every_row || !text.contains(" / "))
            .collect();
        let own = own.as_slice();
        match random.below(6) {
            0 => "true".into(),
            1 => format!("NOT ({})", random.pick(own).replace("{a}", alias)),
            2 => format!("({} OR {})", random.pick(own), random.pick(own)).replace("{a}", alias),
            _ => random.pick(own).replace("{a}", alias),
        }
    };
    let name = random.pick(&[
        "campaigns",
        "campaign_quests",
        "intelligence_signals",
        "system_alerts",
        "user_stats",
        "user_notifications",
    ]);
    let first = condition(random, "t", name);
    match shape {
        0 => format!("SELECT count(*)::text FROM {{{name}}} AS t WHERE {first}"),
        1 => format!(
            "SELECT string_agg(t::text, ';' ORDER BY t.id) FROM {{{name}}} AS t WHERE {first}"
        ),
        2 => format!(
            "SELECT string_agg(x::text, ';' ORDER BY x) FROM (SELECT t.created_at::date, count(*) AS x FROM {{{name}}} AS t WHERE {first} GROUP BY 1) AS y"
        ),
        3 => {
            let other = condition(random, "q", "campaign_quests");
            format!(
                "SELECT string_agg(c.name || q.quest_order, ';' ORDER BY c.id, q.id) FROM {{campaigns}} AS c JOIN {{campaign_quests}} AS q ON q.campaign_id = c.id WHERE {other}"
            )
        }
        4 => {
            let other = condition(random, "o", name);
            format!(
                "SELECT count(*)::text FROM {{{name}}} AS t WHERE {first} AND NOT EXISTS (SELECT FROM {{{name}}} AS o WHERE o.id <> t.id AND {other})"
            )
        }
        5 => format!(
            "SELECT string_agg(x.id::text, ';' ORDER BY x.id) FROM (SELECT t.id FROM {{{name}}} AS t WHERE {first} ORDER BY t.created_at DESC, t.id LIMIT {}) AS x",
            random.below(5)
        ),
        6 => {
            let other = condition(random, "s", "intelligence_signals");
            format!(
                "WITH s AS MATERIALIZED (SELECT * FROM {{intelligence_signals}} AS s WHERE {other}) SELECT concat((SELECT count(*) FROM s), '/', (SELECT count(*) FROM {{{name}}} AS t WHERE {first}))"
            )
        }
        7 => format!(
            "SELECT string_agg(concat(t.id, row_number) , ';' ORDER BY t.id) FROM (SELECT *, row_number() OVER (ORDER BY id) FROM {{{name}}} AS t WHERE {first}) AS t"
        ),
        _ => {
            let other = condition(random, "c", "campaigns");
            format!(
                "SELECT count(*)::text FROM {{campaigns}} AS c LEFT JOIN LATERAL (SELECT * FROM {{{name}}} AS t WHERE {first} AND t.workspace_id = c.workspace_id LIMIT 2) AS l ON true WHERE {other}"
            )
        }
    }
}

/// The result of a query, or its error.
fn answer(session: &mut Client, sql: &str) -> Result<Option<String>, String> {
    match session.query_one(sql, &[]) {
        Ok(row) => Ok(row.get(0)),
        Err(error) => Err(error_message(&error)),
    }
}

fn as_member(sql: &str) -> String {
    TABLES.iter().fold(sql.to_string(), |sql, table| {
        sql.replace(&format!("{{{}}}", &table["public.".len()..]), table)
    })
}

/// The filter written out, as a superuser would: in front of everything else (OFFSET 0 keeps it there).
fn as_superuser(sql: &str, workspace: Uuid, user: Uuid) -> String {
    TABLES.iter().fold(sql.to_string(), |sql, table| {
        let own = if table.contains("user_") {
            format!(" AND user_id = '{user}'")
        } else {
            String::new()
        };
        sql.replace(
            &format!("{{{}}}", &table["public.".len()..]),
            &format!("(SELECT * FROM {table} WHERE workspace_id = '{workspace}'{own} OFFSET 0)"),
        )
    })
}

fn plan(session: &mut Client, sql: &str) -> String {
    session
        .query(&format!("EXPLAIN (COSTS OFF) {sql}"), &[])
        .map(|rows| {
            rows.iter()
                .map(|row| row.get::<_, String>(0))
                .collect::<Vec<_>>()
                .join("\n")
        })
        .unwrap_or_else(|error| error_message(&error))
}

#[test]
fn a_member_sees_what_a_superuser_sees_with_the_filter_written_out() {
    let seed = std::env::var("CODEX_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_260_101);
    let mut random = Random(seed);
    let db = Database::migrated();
    let mut admin = db.admin();
    let role = db.role("member");
    admin
        .execute(
            "SELECT codex.grant_member_role($1::text::regrole)",
            &[&role],
        )
        .unwrap();
    let tenants: Vec<(Uuid, Vec<Uuid>)> = (0..4)
        .map(|number| {
            let workspace = workspace(&mut admin, &format!("w{number}"));
            let users = (0..2)
                .map(|user| member(&mut admin, workspace, &format!("u{user}@w{number}.example")))
                .collect();
            (workspace, users)
        })
        .collect();
    for (workspace, users) in &tenants {
        sow(&mut admin, &mut random, *workspace, users);
    }
    // A crowd, so that a few rows more or less of the others do not change which plan is the cheapest. The
    // planner goes by the size of the whole table: that, and the time it takes, is all that others can influence.
    admin
        .batch_execute(
            "INSERT INTO public.workspaces (name) SELECT 'crowd' || n FROM generate_series(1, 60) AS n;
             INSERT INTO public.users (email) SELECT 'crowd' || n FROM generate_series(1, 60) AS n;
             CREATE TEMP TABLE crowd AS SELECT w.id AS w, u.id AS u, n FROM public.workspaces AS w, public.users AS u, generate_series(1, 60) AS n WHERE w.name = u.email;
             INSERT INTO public.campaigns (workspace_id, name, status) SELECT w, 'x', 'active' FROM crowd;
             INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) SELECT DISTINCT ON (c.id) c.workspace_id, c.id, 'x' FROM public.campaigns AS c JOIN crowd ON w = c.workspace_id;
             INSERT INTO public.intelligence_signals (workspace_id, source_type, signal_title, signal_category) SELECT w, 'market', 'x', 'market_trend' FROM crowd;
             INSERT INTO public.system_alerts (workspace_id, alert_type, title) SELECT w, 'error', 'x' FROM crowd;
             INSERT INTO public.user_stats (workspace_id, user_id) SELECT DISTINCT a.w, b.u FROM crowd AS a, crowd AS b WHERE a.n = 1 AND b.n = 1;
             INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message) SELECT w, u, 'message', 'x', 'x' FROM crowd;
             ANALYZE",
        )
        .unwrap();
    for table in TABLES {
        admin
            .batch_execute(&format!(
                "ALTER TABLE {table} SET (autovacuum_enabled = false)"
            ))
            .unwrap();
    }
    let mut session = db.login("member");
    let mut compared = 0;
    let mut failing = 0;
    for round in 0..60 {
        let (workspace, users) = &tenants[random.below(tenants.len())];
        let user = users[random.below(users.len())];
        crate::scene::set(&mut session, Some(*workspace), Some(user));
        let queries: Vec<String> = (0..8).map(|_| query(&mut random)).collect();
        let mut before = Vec::new();
        for sql in &queries {
            let seen = answer(&mut session, &as_member(sql));
            let expected = answer(&mut admin, &as_superuser(sql, *workspace, user));
            assert_eq!(seen, expected, "seed {seed}, round {round}: {sql}");
            failing += usize::from(seen.is_err());
            before.push((seen, plan(&mut session, &as_member(sql))));
            compared += 1;
        }
        // The other tenants live on; for this one nothing changes.
        for (other, users) in tenants.iter().filter(|(other, _)| other != workspace) {
            match random.below(3) {
                0 => sow(&mut admin, &mut random, *other, users),
                1 => {
                    admin
                        .execute("UPDATE public.campaigns SET name = name || 'x', total_reach = 0, status = 'active' WHERE workspace_id = $1", &[other])
                        .unwrap();
                    admin
                        .execute("UPDATE public.intelligence_signals SET confidence_score = 50 WHERE workspace_id = $1", &[other])
                        .unwrap();
                }
                _ => {
                    let table = random.pick(TABLES);
                    admin
                        .execute(
                            &format!(
                                "DELETE FROM {table} WHERE workspace_id = $1 AND random() < 0.3"
                            ),
                            &[other],
                        )
                        .unwrap();
                }
            }
        }
        for (sql, (seen, planned)) in queries.iter().zip(before) {
            let now = answer(&mut session, &as_member(sql));
            assert_eq!(
                now, seen,
                "seed {seed}, round {round}, after the others changed: {sql}"
            );
            assert_eq!(
                plan(&mut session, &as_member(sql)),
                planned,
                "seed {seed}, round {round}: {sql}"
            );
        }
    }
    assert_eq!(compared, 480);
    assert!(failing > 5, "errors were compared, too: {failing}");
}
