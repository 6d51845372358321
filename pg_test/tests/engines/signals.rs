//! Signals that fade and meet, and insights that follow them.

use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Uuid, error_message, fails_with, member, value, workspace};
use std::collections::{BTreeMap, BTreeSet};

struct Scene {
    db: Database,
    admin: Client,
    acme: Uuid,
    bolt: Uuid,
}

impl Scene {
    fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        let acme = workspace(&mut admin, "Acme");
        let bolt = workspace(&mut admin, "Bolt");
        Self {
            db,
            admin,
            acme,
            bolt,
        }
    }
}

/// News, as it is told.
struct News<'a> {
    title: &'a str,
    source: &'a str,
    confidence: Option<f64>,
    age_days: f64,
}

impl Default for News<'_> {
    fn default() -> Self {
        Self {
            title: "Rival cuts its prices by a tenth",
            source: "blog.example",
            confidence: Some(60.0),
            age_days: 0.0,
        }
    }
}

/// Source, worth now, counted, contribution, state, confidence of the insight.
type Explained = (String, f64, bool, f64, String, Option<f64>);

/// Signal, new, sightings, sources.
type Answer = (Uuid, bool, i64, i64);

fn ingest(client: &mut Client, workspace: Uuid, news: &News<'_>) -> Answer {
    let row = client
        .query_one(
            "SELECT signal_id, is_new, sightings, sources
             FROM codex.ingest_signal($1, 'competitor', $2, 'competitor_activity', $3, confidence => $4::float8::numeric,
                 signal_date => now() - $5::float8 * interval '1 day')",
            &[
                &workspace,
                &news.title,
                &news.source,
                &news.confidence,
                &news.age_days,
            ],
        )
        .unwrap_or_else(|error| panic!("{}", error_message(&error)));
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

fn confidence(admin: &mut Client, signal: Uuid) -> Option<f64> {
    value(
        admin,
        "SELECT confidence_score::float8 FROM public.intelligence_signals WHERE id = $1",
        &[&signal],
    )
}

fn rows(admin: &mut Client, table: &str) -> i64 {
    value(admin, &format!("SELECT count(*) FROM {table}"), &[])
}

fn draw(client: &mut Client, workspace: Uuid, signals: &[Uuid]) -> Uuid {
    value(
        client,
        "SELECT codex.create_insight_from_signals($1, $2, 'Prices fall', 'threat', ARRAY['Hold'], NULL)",
        &[&workspace, &signals],
    )
}

/// What a refresh says: insight, change, reason, confidence after.
fn refresh(client: &mut Client, workspace: Uuid) -> Vec<(Uuid, String, String, Option<f64>)> {
    client
        .query(
            "SELECT insight_id, change, reason, confidence_after FROM codex.refresh_insights($1)",
            &[&workspace],
        )
        .unwrap_or_else(|error| panic!("{}", error_message(&error)))
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect()
}

fn age(admin: &mut Client, signal: Uuid, days: f64) {
    admin
        .execute(
            "UPDATE public.intelligence_signals SET signal_date = now() - $2::float8 * interval '1 day' WHERE id = $1",
            &[&signal, &days],
        )
        .unwrap();
}

#[test]
fn the_same_news_again_is_a_sighting_and_another_source_makes_it_surer() {
    let mut scene = Scene::new();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let (signal, new, sightings, sources) = ingest(
        admin,
        acme,
        &News {
            age_days: 3.0,
            ..News::default()
        },
    );
    assert_eq!((new, sightings, sources), (true, 1, 1));
    let again = ingest(
        admin,
        acme,
        &News {
            title: "  RIVAL cuts its prices — by a tenth!",
            confidence: Some(40.0),
            ..News::default()
        },
    );
    assert_eq!(again, (signal, false, 2, 1));
    assert_eq!(
        confidence(admin, signal),
        Some(60.0),
        "the surest of a source counts"
    );
    let elsewhere = ingest(
        admin,
        acme,
        &News {
            source: "paper.example",
            confidence: Some(50.0),
            ..News::default()
        },
    );
    assert_eq!(elsewhere, (signal, false, 3, 2));
    assert_eq!(
        confidence(admin, signal),
        Some(80.0),
        "100 (1 - (1 - 0.6) (1 - 0.5))"
    );
    assert_eq!(rows(admin, "public.intelligence_signals"), 1);
    let fresh: bool = value(
        admin,
        "SELECT s.signal_date > now() - interval '1 minute' AND f.first_seen_at < now() - interval '2 days' AND f.sighting_count = 3
         FROM public.intelligence_signals AS s JOIN codex.signal_fingerprints AS f ON f.signal_id = s.id",
        &[],
    );
    assert!(fresh, "its date moved on, and when it began is kept");
    // The same words in another workspace are news there.
    let (theirs, new, ..) = ingest(admin, scene.bolt, &News::default());
    assert!(new && theirs != signal);
}

#[test]
fn short_titles_are_told_apart_by_their_source_and_a_given_fingerprint_is_taken_as_it_is() {
    let mut scene = Scene::new();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let short = |source| News {
        title: "Price change",
        source,
        ..News::default()
    };
    let here = ingest(admin, acme, &short("a.example"));
    let there = ingest(admin, acme, &short("b.example"));
    let again = ingest(admin, acme, &short(" A.example "));
    assert!(here.1 && there.1 && !again.1);
    assert_eq!(again.0, here.0);
    let given = "SELECT signal_id FROM codex.ingest_signal($1, 'market', $2, 'market_trend', fingerprint => 'story-7')";
    let first: Uuid = value(admin, given, &[&acme, &"One way to say it"]);
    let second: Uuid = value(admin, given, &[&acme, &"Another way to say it"]);
    assert_eq!(first, second);
}

#[test]
fn expired_news_that_comes_back_is_new_and_archived_news_stays_archived() {
    let mut scene = Scene::new();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let (first, ..) = ingest(admin, acme, &News::default());
    admin
        .execute(
            "UPDATE public.intelligence_signals SET action_status = 'archived'",
            &[],
        )
        .unwrap();
    assert_eq!(ingest(admin, acme, &News::default()), (first, false, 2, 1));
    let status: String = value(
        admin,
        "SELECT action_status FROM public.intelligence_signals WHERE id = $1",
        &[&first],
    );
    assert_eq!(status, "archived");
    admin
        .execute(
            "UPDATE public.intelligence_signals SET expiry_date = now() - interval '1 hour'",
            &[],
        )
        .unwrap();
    let (second, new, sightings, sources) = ingest(admin, acme, &News::default());
    assert!(new && second != first);
    assert_eq!((sightings, sources), (1, 1));
    assert_eq!(ingest(admin, acme, &News::default()), (second, false, 2, 1));
    assert_eq!(rows(admin, "public.intelligence_signals"), 2);
}

#[test]
fn twenty_sessions_with_the_same_news_make_one_signal() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let answers = scene.db.parallel(20, |number, client| {
        (0..5)
            .map(|_| {
                ingest(
                    client,
                    acme,
                    &News {
                        source: ["a.example", "b.example"][number % 2],
                        confidence: Some(50.0),
                        ..News::default()
                    },
                )
            })
            .collect::<Vec<_>>()
    });
    let answers: Vec<Answer> = answers.into_iter().flatten().collect();
    let signals: BTreeSet<Uuid> = answers.iter().map(|answer| answer.0).collect();
    assert_eq!(signals.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.1).count(), 1);
    let mut counts: Vec<i64> = answers.iter().map(|answer| answer.2).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=100).collect::<Vec<_>>(), "each sighting once");
    let admin = &mut scene.admin;
    assert_eq!(rows(admin, "public.intelligence_signals"), 1);
    assert_eq!(
        value::<i64>(
            admin,
            "SELECT sum(sighting_count)::bigint FROM codex.signal_sightings",
            &[]
        ),
        100
    );
    let signal = *signals.iter().next().expect("one");
    assert_eq!(confidence(admin, signal), Some(75.0));
}

#[test]
fn twenty_sessions_with_expired_news_make_one_signal_more() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    ingest(&mut scene.admin, acme, &News::default());
    scene
        .admin
        .execute(
            "UPDATE public.intelligence_signals SET expiry_date = now() - interval '1 hour'",
            &[],
        )
        .unwrap();
    let answers = scene
        .db
        .parallel(20, |_, client| ingest(client, acme, &News::default()));
    assert_eq!(answers.iter().filter(|answer| answer.1).count(), 1);
    assert_eq!(rows(&mut scene.admin, "public.intelligence_signals"), 2);
}

#[test]
fn a_retry_with_its_key_is_no_sighting() {
    let mut scene = Scene::new();
    let call = "SELECT signal_id, is_new, sightings FROM codex.ingest_signal($1, 'market', 'Demand grows in the north', 'market_trend',
        confidence => 70, data_points => '{\"n\": 1.50}', key_findings => ARRAY['a', 'b'], idempotency_key => 'k')";
    let answers: Vec<(Uuid, bool, i64)> = (0..3)
        .map(|_| {
            let row = scene.admin.query_one(call, &[&scene.acme]).unwrap();
            (row.get(0), row.get(1), row.get(2))
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!((answers[0].1, answers[0].2), (true, 1));
    fails_with(
        scene
            .admin
            .query(&call.replace("1.50", "1.51"), &[&scene.acme]),
        "22023",
    );
}

#[test]
fn what_is_no_news_is_refused() {
    let mut scene = Scene::new();
    for (arguments, sqlstate, message) in [
        (
            "NULL, 'market', 'T', 'market_trend'",
            "22004",
            "workspace must not be NULL",
        ),
        (
            "$1, NULL, 'T', 'market_trend'",
            "22004",
            "source_type must not be NULL",
        ),
        (
            "$1, 'gossip', 'T', 'market_trend'",
            "22023",
            "source_type is \"gossip\"",
        ),
        (
            "$1, 'market', ' ', 'market_trend'",
            "22023",
            "signal_title must not be blank",
        ),
        (
            "$1, 'market', 'T', 'weather'",
            "22023",
            "signal_category is \"weather\"",
        ),
        (
            "$1, 'market', 'T', 'market_trend', confidence => 101",
            "22023",
            "confidence is 101; it must be from 0 to 100",
        ),
        (
            "$1, 'market', 'T', 'market_trend', relevance => 'NaN'",
            "22023",
            "relevance is NaN; it must be from 0 to 100",
        ),
        (
            "$1, 'market', 'T', 'market_trend', fingerprint => ' '",
            "22023",
            "fingerprint must not be blank",
        ),
        (
            "$1, 'market', 'T', 'market_trend', key_findings => ARRAY[NULL]::text[]",
            "22023",
            "key_findings has a NULL at position 1",
        ),
        (
            "$1, 'market', 'T', 'market_trend', source_agent_id => '00000000-0000-0000-0000-000000000000'",
            "23503",
            "source_agent_id is 00000000-0000-0000-0000-000000000000, and there is no such agent",
        ),
    ] {
        let sql = format!("SELECT codex.ingest_signal({arguments}) FROM (SELECT $1::uuid) AS w");
        let failure = fails_with(scene.admin.query(&sql, &[&scene.acme]), sqlstate);
        assert_eq!(failure.message, message);
    }
    assert_eq!(rows(&mut scene.admin, "codex.signal_fingerprints"), 0);
    // A date to come, or none at all, counts as now.
    for (word, date) in [
        ("to come", "now() + interval '1 year'"),
        ("endless", "'infinity'"),
        ("before all", "'-infinity'"),
        ("none", "NULL"),
    ] {
        scene
            .admin
            .query(
                &format!("SELECT codex.ingest_signal($1, 'market', 'Title of this one ' || $2, 'market_trend', signal_date => {date})"),
                &[&scene.acme, &word],
            )
            .unwrap();
    }
    let now: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM public.intelligence_signals WHERE signal_date BETWEEN now() - interval '1 minute' AND now()",
        &[],
    );
    assert_eq!(now, 4);
}

#[test]
fn current_signals_come_by_what_they_are_worth_now() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    // Eight hundred signals of any age and sureness, some of them expired or taken.
    scene
        .admin
        .execute(
            "INSERT INTO public.intelligence_signals
                 (workspace_id, source_type, signal_title, signal_category, confidence_score, relevance_score, signal_date, expiry_date, action_status)
             SELECT $1, 'market', 's' || n,
                 (ARRAY['competitor_activity', 'market_trend', 'industry_news', 'customer_sentiment', 'technology_shift'])[n % 5 + 1],
                 n * 37 % 101, CASE WHEN n % 3 > 0 THEN n * 53 % 101 END, now() - (n * 29 % 400) * interval '1 day',
                 CASE WHEN n % 17 = 0 THEN now() - interval '1 day' END, CASE WHEN n % 13 = 0 THEN 'actioned' ELSE 'new' END
             FROM generate_series(1, 800) AS n",
            &[&acme],
        )
        .unwrap();
    let all = "WITH h AS (SELECT * FROM codex.half_lives($1)),
        s AS (
            SELECT s.id, s.confidence_score::float8 * 2 ^ (-extract(epoch FROM now() - s.signal_date)::float8 / 86400 / h.half_life_days) AS worth,
                coalesce(s.relevance_score, 50)::float8 AS relevance
            FROM public.intelligence_signals AS s JOIN h USING (signal_category)
            WHERE s.workspace_id = $1 AND s.action_status = 'new' AND (s.expiry_date IS NULL OR s.expiry_date > now())
        )
        SELECT worth * relevance FROM s WHERE worth >= $2::float8 ORDER BY 1 DESC";
    // By the default half-lives, and by some of its own: they are read from different indexes.
    for own in [
        "SELECT $1::uuid",
        "INSERT INTO codex.signal_half_lives (workspace_id, signal_category, half_life_days) VALUES ($1, 'industry_news', 365)",
    ] {
        scene.admin.execute(own, &[&acme]).unwrap();
        for threshold in [0.0, 5.0, 40.0] {
            let expected: Vec<f64> = scene
                .admin
                .query(all, &[&acme, &threshold])
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
            for limit in [Some(0), Some(1), Some(20), Some(150), Some(10_000), None] {
                let found: Vec<f64> = scene
                .admin
                .query(
                    "SELECT effective_confidence * relevance FROM codex.get_current_signals($1, $2::float8::numeric, $3)",
                    &[&acme, &threshold, &limit],
                )
                .unwrap()
                .iter()
                .map(|row| row.get(0))
                .collect();
                let wanted =
                    limit.map_or(expected.len(), |limit| expected.len().min(limit as usize));
                assert_eq!(found.len(), wanted, "{threshold}, {limit:?}");
                for (found, expected) in found.iter().zip(&expected) {
                    assert!(
                        (found - expected).abs() < 1.0,
                        "{own}: {threshold}, {limit:?}: {found} {expected}"
                    );
                }
            }
        }
    }
    fails_with(
        scene
            .admin
            .query("SELECT codex.get_current_signals($1, 0, -1)", &[&acme]),
        "22023",
    );
    // After one half-life a half.
    let half: (f64, f64) = {
        let (signal, ..) = ingest(
            &mut scene.admin,
            scene.bolt,
            &News {
                age_days: 30.0,
                ..News::default()
            },
        );
        let row = scene
            .admin
            .query_one(
                "SELECT effective_confidence, half_life_days FROM codex.get_current_signals($1) WHERE id = $2",
                &[&scene.bolt, &signal],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert!((half.0 - 30.0).abs() < 0.001, "{half:?}");
    assert_eq!(half.1, 30.0);
}

#[test]
fn an_explanation_adds_up_to_the_confidence_of_the_insight() {
    let mut scene = Scene::new();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let titled = |title, source, confidence, age_days| News {
        title,
        source,
        confidence: Some(confidence),
        age_days,
    };
    let strong = ingest(
        admin,
        acme,
        &titled("Rival opens a second shop", "blog.example", 60.0, 0.0),
    )
    .0;
    let weaker = ingest(
        admin,
        acme,
        &titled("Rival hires many new people", "Blog.example", 30.0, 0.0),
    )
    .0;
    let old = ingest(
        admin,
        acme,
        &titled("Rival raises a lot of money", "paper.example", 80.0, 30.0),
    )
    .0;
    let insight = draw(admin, acme, &[strong, weaker, old]);
    let explained = |admin: &mut Client| -> BTreeMap<Uuid, Explained> {
        admin
            .query(
                "SELECT signal_id, source, round(faded_confidence::numeric, 2)::float8, counted, contribution, state, insight_confidence
                 FROM codex.explain_insight($1)",
                &[&insight],
            )
            .unwrap()
            .iter()
            .map(|row| (row.get(0), (row.get(1), row.get(2), row.get(3), row.get(4), row.get(5), row.get(6))))
            .collect()
    };
    let living = || "living".to_string();
    let blog = || "place:blog.example".to_string();
    let paper = || "place:paper.example".to_string();
    assert_eq!(
        explained(admin),
        BTreeMap::from([
            (strong, (blog(), 60.0, true, 18.0, living(), Some(76.0))),
            (weaker, (blog(), 30.0, false, 0.0, living(), Some(76.0))),
            (old, (paper(), 40.0, true, 16.0, living(), Some(76.0))),
        ])
    );
    let first: Uuid = value(
        admin,
        "SELECT signal_id FROM codex.explain_insight($1) LIMIT 1",
        &[&insight],
    );
    assert_eq!(first, strong, "the one that gives most");
    // Without the strong one the weaker stands for the source.
    admin
        .execute(
            "UPDATE public.intelligence_signals SET action_status = 'archived' WHERE id = $1",
            &[&strong],
        )
        .unwrap();
    let now = explained(admin);
    assert_eq!(now[&strong].4, "archived");
    assert!(!now[&strong].2 && now[&weaker].2);
    assert_eq!(now[&weaker].5, Some(58.0), "100 (1 - 0.7 * 0.6)");
    fails_with(
        admin.query("SELECT codex.explain_insight(gen_random_uuid())", &[]),
        "P0002",
    );
    fails_with(
        admin.query("SELECT codex.explain_insight(NULL)", &[]),
        "22004",
    );
}

#[test]
fn a_refresh_follows_the_signals_and_a_second_one_changes_nothing() {
    let mut scene = Scene::new();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let signal = ingest(
        admin,
        acme,
        &News {
            confidence: Some(90.0),
            ..News::default()
        },
    )
    .0;
    let insight = draw(admin, acme, &[signal]);
    assert_eq!(refresh(admin, acme), []);
    age(admin, signal, 30.0);
    assert_eq!(
        refresh(admin, acme),
        [(
            insight,
            "rescored".to_string(),
            "low".to_string(),
            Some(45.0)
        )]
    );
    assert_eq!(refresh(admin, acme), []);
    let stored: (f64, String) = {
        let row = admin
            .query_one(
                "SELECT confidence_score::float8, confidence_level FROM public.market_insights",
                &[],
            )
            .unwrap();
        (row.get(0), row.get(1))
    };
    assert_eq!(stored, (45.0, "low".to_string()));
    // Seen again, it is worth what it was.
    ingest(
        admin,
        acme,
        &News {
            confidence: Some(10.0),
            ..News::default()
        },
    );
    assert_eq!(
        refresh(admin, acme),
        [(
            insight,
            "rescored".to_string(),
            "high".to_string(),
            Some(90.0)
        )]
    );
    let levels: Vec<String> = admin
        .query(
            "SELECT reason FROM codex.insight_changes WHERE insight_id = $1 ORDER BY id",
            &[&insight],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(levels, ["low", "high"]);
}

#[test]
fn an_insight_ends_with_its_window_its_signals_or_its_confidence() {
    let mut scene = Scene::new();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let insight = |admin: &mut Client, title: &str| {
        let signal = ingest(
            admin,
            acme,
            &News {
                title,
                ..News::default()
            },
        )
        .0;
        (draw(admin, acme, &[signal]), signal)
    };
    let (window, _) = insight(admin, "The first of all these stories");
    let (archived, gone) = insight(admin, "The second of all these stories");
    let (expired, late) = insight(admin, "The third of all these stories");
    let (faded, pale) = insight(admin, "The fourth of all these stories");
    let (stays, _) = insight(admin, "The fifth of all these stories");
    let by_hand: Uuid = value(
        admin,
        "INSERT INTO public.market_insights (workspace_id, insight_title, insight_type, confidence_score) VALUES ($1, 'By hand', 'threat', 5) RETURNING id",
        &[&acme],
    );
    admin
        .batch_execute(&format!(
            "UPDATE public.market_insights SET time_relevance_end = (now() AT TIME ZONE 'UTC')::date - 1 WHERE id = '{window}';
             UPDATE public.market_insights SET time_relevance_end = (now() AT TIME ZONE 'UTC')::date WHERE id = '{stays}';
             UPDATE public.intelligence_signals SET action_status = 'archived' WHERE id = '{gone}';
             UPDATE public.intelligence_signals SET expiry_date = now() - interval '1 minute' WHERE id = '{late}'"
        ))
        .unwrap();
    age(admin, pale, 100.0);
    let ends: BTreeMap<Uuid, (String, String)> = refresh(admin, acme)
        .into_iter()
        .map(|(insight, change, reason, _)| (insight, (change, reason)))
        .collect();
    let over = |reason: &str| ("expired".to_string(), reason.to_string());
    assert_eq!(
        ends,
        BTreeMap::from([
            (window, over("window")),
            (archived, over("signals")),
            (expired, over("signals")),
            (faded, over("faded")),
        ])
    );
    let active: BTreeSet<Uuid> = admin
        .query(
            "SELECT id FROM public.market_insights WHERE insight_status = 'active'",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(active, BTreeSet::from([stays, by_hand]));
    assert_eq!(refresh(admin, acme), []);
    assert_eq!(rows(admin, "codex.insight_changes"), 4);
}

#[test]
fn a_newer_insight_from_the_same_signals_supersedes() {
    let mut scene = Scene::new();
    let (admin, acme) = (&mut scene.admin, scene.acme);
    let signals: Vec<Uuid> = ["one", "two", "three"]
        .iter()
        .map(|word| {
            let title = format!("Rival opens shop number {word}");
            ingest(
                admin,
                acme,
                &News {
                    title: &title,
                    ..News::default()
                },
            )
            .0
        })
        .collect();
    let small = draw(admin, acme, &signals[..1]);
    let middle = draw(admin, acme, &signals[..2]);
    let other_half = draw(admin, acme, &signals[1..]);
    let of_another_type: Uuid = value(
        admin,
        "SELECT codex.create_insight_from_signals($1, $2, 'Prices fall', 'gap', ARRAY['Hold'], NULL)",
        &[&acme, &signals],
    );
    let by = |admin: &mut Client| -> BTreeMap<Uuid, Uuid> {
        admin
            .query("SELECT insight_id, superseded_by FROM codex.refresh_insights($1) WHERE change = 'superseded'", &[&acme])
            .unwrap()
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect()
    };
    assert_eq!(by(admin), BTreeMap::from([(small, middle)]));
    let whole = draw(admin, acme, &signals);
    assert_eq!(
        by(admin),
        BTreeMap::from([(middle, whole), (other_half, whole)])
    );
    let again = draw(admin, acme, &signals);
    assert_eq!(by(admin), BTreeMap::from([(whole, again)]));
    assert_eq!(by(admin), BTreeMap::new());
    let statuses: BTreeMap<Uuid, String> = admin
        .query("SELECT id, insight_status FROM public.market_insights", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(statuses[&again], "active");
    assert_eq!(statuses[&of_another_type], "active");
    assert_eq!(statuses.values().filter(|s| *s == "superseded").count(), 4);
}

#[test]
fn refreshes_at_once_share_the_work_and_report_each_change_once() {
    let mut scene = Scene::new();
    let acme = scene.acme;
    let signal = ingest(&mut scene.admin, acme, &News::default()).0;
    for _ in 0..60 {
        draw(&mut scene.admin, acme, &[signal]);
    }
    // Of one type and one signal: all but the newest are superseded.
    let reports = scene.db.parallel(8, |_, client| refresh(client, acme));
    let mut reported: Vec<Uuid> = reports
        .into_iter()
        .flatten()
        .map(|(insight, ..)| insight)
        .collect();
    let count = reported.len();
    reported.sort_unstable();
    reported.dedup();
    assert_eq!(reported.len(), count, "each once");
    refresh(&mut scene.admin, acme);
    let active: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM public.market_insights WHERE insight_status = 'active'",
        &[],
    );
    assert_eq!(active, 1);
    assert_eq!(rows(&mut scene.admin, "codex.insight_changes"), 59);
}

#[test]
fn a_workspace_does_not_reach_the_signals_of_another() {
    let mut scene = Scene::new();
    for (label, function) in [
        ("member", "grant_member_role"),
        ("service", "grant_service_role"),
    ] {
        let role = scene.db.role(label);
        scene
            .admin
            .execute(
                &format!("SELECT codex.{function}($1::text::regrole)"),
                &[&role],
            )
            .unwrap();
    }
    let anna = member(&mut scene.admin, scene.acme, "anna@acme.example");
    let theirs = ingest(&mut scene.admin, scene.bolt, &News::default()).0;
    let insight = draw(&mut scene.admin, scene.bolt, &[theirs]);
    age(&mut scene.admin, theirs, 60.0);
    scene
        .admin
        .execute(
            "INSERT INTO codex.signal_half_lives (workspace_id, signal_category, half_life_days) VALUES ($1, 'competitor_activity', 1)",
            &[&scene.bolt],
        )
        .unwrap();
    let before: String = value(
        &mut scene.admin,
        "SELECT string_agg(t, E'\\n' ORDER BY t) FROM (
             SELECT s::text FROM public.intelligence_signals AS s UNION ALL SELECT f::text FROM codex.signal_fingerprints AS f
             UNION ALL SELECT g::text FROM codex.signal_sightings AS g UNION ALL SELECT i::text FROM public.market_insights AS i) AS x (t)",
        &[],
    );
    for (role, user) in [("member", Some(anna)), ("service", None)] {
        let mut session = scene.db.login(role);
        session
            .batch_execute(&format!(
                "SET app.current_workspace_id = '{}'; SET app.current_user_id = '{}'",
                scene.acme,
                user.map(|user| user.to_string()).unwrap_or_default()
            ))
            .unwrap();
        for (sql, id, sqlstate) in [
            (
                "SELECT codex.ingest_signal($1, 'competitor', 'Rival cuts its prices by a tenth', 'competitor_activity')",
                scene.bolt,
                "42501",
            ),
            ("SELECT codex.get_current_signals($1)", scene.bolt, "42501"),
            ("SELECT codex.half_lives($1)", scene.bolt, "42501"),
            ("SELECT codex.explain_insight($1)", insight, "P0002"),
            ("SELECT codex.refresh_insights($1)", scene.bolt, "42501"),
        ] {
            fails_with(session.query(sql, &[&id]), sqlstate);
        }
        // The same news in the own workspace is the own, with the own half-life.
        let (own, new, ..) = ingest(&mut session, scene.acme, &News::default());
        assert_eq!(new, user.is_some(), "{role}");
        assert_ne!(own, theirs);
        let half_life: f64 = value(
            &mut session,
            "SELECT half_life_days FROM codex.half_lives($1) WHERE signal_category = 'competitor_activity'",
            &[&scene.acme],
        );
        assert_eq!(half_life, 30.0);
    }
    scene
        .admin
        .execute(
            "DELETE FROM public.intelligence_signals WHERE workspace_id = $1",
            &[&scene.acme],
        )
        .unwrap();
    let after: String = value(
        &mut scene.admin,
        "SELECT string_agg(t, E'\\n' ORDER BY t) FROM (
             SELECT s::text FROM public.intelligence_signals AS s UNION ALL SELECT f::text FROM codex.signal_fingerprints AS f
             UNION ALL SELECT g::text FROM codex.signal_sightings AS g UNION ALL SELECT i::text FROM public.market_insights AS i) AS x (t)",
        &[],
    );
    assert_eq!(after, before);
}

/// A signal as the model has it: confidence by source, sightings, archived, expired.
#[derive(Clone, Default)]
struct Known {
    sources: BTreeMap<usize, Option<f64>>,
    sightings: i64,
    expired: bool,
}

impl Known {
    fn confidence(&self) -> Option<f64> {
        let known: Vec<f64> = self.sources.values().flatten().copied().collect();
        (!known.is_empty())
            .then(|| 100.0 * (1.0 - known.iter().map(|c| 1.0 - c / 100.0).product::<f64>()))
    }
}

#[test]
fn any_sequence_of_news_ends_where_the_model_does() {
    let seed = crate::dice::seed("signals against a model");
    const STORIES: [&str; 4] = [
        "Rival cuts its prices by a tenth",
        "Rival opens a shop in Oslo",
        "Rival hires a new marketing lead",
        "Rival buys a maker of boots",
    ];
    for game in 0..3 {
        let mut dice = crate::dice::Dice::new(seed, game);
        let mut scene = Scene::new();
        let places = [scene.acme, scene.bolt];
        // The signal that stands for a story in a workspace, and all there have been.
        let mut current: BTreeMap<(usize, usize), Uuid> = BTreeMap::new();
        let mut known: BTreeMap<Uuid, Known> = BTreeMap::new();
        for step in 0..150 {
            let (place, story, source) = (dice.below(2), dice.below(STORIES.len()), dice.below(3));
            if dice.once_in(12) {
                if let Some(signal) = current.get(&(place, story)) {
                    scene
                        .admin
                        .execute("UPDATE public.intelligence_signals SET expiry_date = now() - interval '1 hour' WHERE id = $1", &[signal])
                        .unwrap();
                    known.get_mut(signal).expect("known").expired = true;
                }
                continue;
            }
            if dice.once_in(15) {
                if let Some(signal) = current.remove(&(place, story)) {
                    scene
                        .admin
                        .execute(
                            "DELETE FROM public.intelligence_signals WHERE id = $1",
                            &[&signal],
                        )
                        .unwrap();
                    known.remove(&signal);
                }
                continue;
            }
            let sure = (!dice.once_in(4)).then(|| dice.below(101) as f64);
            let title = if dice.once_in(2) {
                STORIES[story].to_uppercase()
            } else {
                STORIES[story].to_string()
            };
            let (signal, new, sightings, sources) = ingest(
                &mut scene.admin,
                places[place],
                &News {
                    title: &title,
                    source: ["a.example", "b.example", "c.example"][source],
                    confidence: sure,
                    age_days: dice.below(50) as f64,
                },
            );
            let standing = current.get(&(place, story)).copied();
            let expected_new = standing.is_none_or(|standing| known[&standing].expired);
            assert_eq!(new, expected_new, "step {step} of game {game}");
            if expected_new {
                current.insert((place, story), signal);
                known.insert(signal, Known::default());
            } else {
                assert_eq!(Some(signal), standing);
            }
            let model = known.get_mut(&signal).expect("known");
            model.sightings += 1;
            let best = model.sources.entry(source).or_default();
            *best = match (*best, sure) {
                (Some(a), Some(b)) => Some(a.max(b)),
                (a, b) => a.or(b),
            };
            assert_eq!(
                (sightings, sources),
                (model.sightings, model.sources.len() as i64),
                "step {step} of game {game}"
            );
            let stored = confidence(&mut scene.admin, signal);
            match (stored, model.confidence()) {
                (Some(stored), Some(expected)) => {
                    assert!((stored - expected).abs() < 0.006, "{stored} {expected}")
                }
                (stored, expected) => assert_eq!(
                    stored.is_some(),
                    expected.is_some(),
                    "step {step} of game {game}"
                ),
            }
        }
        assert_eq!(
            rows(&mut scene.admin, "public.intelligence_signals"),
            known.len() as i64
        );
    }
}
