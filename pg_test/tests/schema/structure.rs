//! How the tables are built: keys, indexes, checks, protection.

use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Uuid, fails_with, user, value, workspace};

/// One text a row of a query.
fn lines(client: &mut Client, sql: &str) -> Vec<String> {
    client
        .query(sql, &[])
        .unwrap_or_else(|error| panic!("{:?}", codex_pg_test::Failure::from(&error)))
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// Tables of the Codex, in `public` and in `codex`.
const OURS: &str = "
    SELECT c.oid, c.relname, n.nspname
      FROM pg_catalog.pg_class AS c
      JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r'
       AND n.nspname IN ('public', 'codex')";

#[test]
fn hard_case_50_every_foreign_key_has_an_index() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let bare = lines(
        &mut admin,
        &format!(
            "WITH ours AS ({OURS})
             SELECT o.relname || '.' || k.conname
               FROM pg_catalog.pg_constraint AS k
               JOIN ours AS o ON o.oid = k.conrelid
              WHERE k.contype = 'f'
                AND NOT EXISTS (
                        SELECT
                          FROM pg_catalog.pg_index AS i
                         WHERE i.indrelid = k.conrelid
                           AND i.indisvalid
                           AND (i.indkey::int2[])[0:pg_catalog.cardinality(k.conkey) - 1] @> k.conkey
                           AND (i.indpred IS NULL
                                OR pg_catalog.pg_get_expr(i.indpred, i.indrelid) = '(' || (
                                       SELECT a.attname
                                         FROM pg_catalog.pg_attribute AS a
                                        WHERE a.attrelid = k.conrelid
                                          AND a.attnum = k.conkey[pg_catalog.cardinality(k.conkey)]) || ' IS NOT NULL)'))
              ORDER BY 1"
        ),
    );
    assert!(bare.is_empty(), "{bare:#?}");
}

#[test]
fn hard_case_50_no_index_is_the_beginning_of_another() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let redundant = lines(
        &mut admin,
        &format!(
            "WITH ours AS ({OURS}), i AS (
                 SELECT x.indexrelid::regclass::text AS name, x.indrelid, x.indisunique, x.indexprs,
                        coalesce(pg_catalog.pg_get_expr(x.indpred, x.indrelid), '') AS predicate,
                        x.indkey::int2[] AS key
                   FROM pg_catalog.pg_index AS x
                   JOIN ours AS o ON o.oid = x.indrelid
             )
             SELECT a.name || ' is the beginning of ' || b.name
               FROM i AS a
               JOIN i AS b
                 ON b.indrelid = a.indrelid
                AND b.name <> a.name
                AND b.predicate = a.predicate
                AND b.key[0:pg_catalog.cardinality(a.key) - 1] = a.key
              WHERE NOT a.indisunique
                AND a.indexprs IS NULL
              ORDER BY 1"
        ),
    );
    assert!(redundant.is_empty(), "{redundant:#?}");
}

#[test]
fn every_workspace_table_has_its_key_and_row_security() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let lacking = lines(
        &mut admin,
        &format!(
            "WITH ours AS ({OURS})
             SELECT o.relname::text
               FROM ours AS o
               JOIN pg_catalog.pg_attribute AS w ON w.attrelid = o.oid AND w.attname = 'workspace_id'
               JOIN pg_catalog.pg_attribute AS i ON i.attrelid = o.oid AND i.attname = 'id'
               JOIN pg_catalog.pg_class AS c ON c.oid = o.oid AND c.relnamespace = 'public'::regnamespace
              WHERE NOT EXISTS (
                        SELECT
                          FROM pg_catalog.pg_constraint AS k
                         WHERE k.conrelid = o.oid
                           AND k.contype = 'u'
                           AND k.conkey = ARRAY[w.attnum, i.attnum])
              ORDER BY 1"
        ),
    );
    // Nothing refers to a notification, and there are more of them than of anything else.
    assert_eq!(lacking, ["user_notifications"]);
    let not_found_by_workspace = lines(
        &mut admin,
        &format!(
            "WITH ours AS ({OURS})
             SELECT o.relname::text
               FROM ours AS o
               JOIN pg_catalog.pg_attribute AS w ON w.attrelid = o.oid AND w.attname = 'workspace_id'
              WHERE NOT EXISTS (
                        SELECT
                          FROM pg_catalog.pg_index AS x
                         WHERE x.indrelid = o.oid
                           AND x.indpred IS NULL
                           AND x.indkey[0] = w.attnum)
              ORDER BY 1"
        ),
    );
    assert!(
        not_found_by_workspace.is_empty(),
        "{not_found_by_workspace:?}"
    );
    let open = lines(
        &mut admin,
        &format!(
            "WITH ours AS ({OURS})
             SELECT o.relname::text
               FROM ours AS o
               JOIN pg_catalog.pg_class AS c ON c.oid = o.oid
              WHERE NOT c.relrowsecurity
                 OR NOT EXISTS (SELECT FROM pg_catalog.pg_policy AS p WHERE p.polrelid = o.oid)
              ORDER BY 1"
        ),
    );
    assert!(open.is_empty(), "{open:?}");
    let several = lines(
        &mut admin,
        "SELECT tablename || ' ' || cmd
           FROM pg_catalog.pg_policies
          WHERE permissive = 'PERMISSIVE'
          GROUP BY tablename, cmd
         HAVING count(*) > 1",
    );
    assert!(
        several.is_empty(),
        "one permissive policy a role and command: {several:?}"
    );
}

#[test]
fn hard_case_48_whoever_created_something_can_be_deleted() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let acme = workspace(&mut admin, "Acme");
    let anna = user(&mut admin, "anna@acme.example");
    let positioning: Uuid = value(
        &mut admin,
        "INSERT INTO public.positioning (workspace_id, name, market_segment, created_by)
         VALUES ($1, 'For teams', 'B2B', $2) RETURNING id",
        &[&acme, &anna],
    );
    let campaign: Uuid = value(
        &mut admin,
        "INSERT INTO public.campaigns (workspace_id, name, positioning_id, created_by)
         VALUES ($1, 'Autumn', $2, $3) RETURNING id",
        &[&acme, &positioning, &anna],
    );
    admin
        .execute("DELETE FROM public.users WHERE id = $1", &[&anna])
        .expect("is erased");
    let creator: Option<Uuid> = value(
        &mut admin,
        "SELECT created_by FROM public.campaigns WHERE id = $1",
        &[&campaign],
    );
    assert_eq!(creator, None);
    // ON DELETE SET NULL of a composite key empties the reference and keeps the workspace.
    admin
        .execute(
            "DELETE FROM public.positioning WHERE id = $1",
            &[&positioning],
        )
        .expect("is deleted");
    let row = admin
        .query_one(
            "SELECT workspace_id, positioning_id FROM public.campaigns WHERE id = $1",
            &[&campaign],
        )
        .expect("the campaign stays");
    assert_eq!(row.get::<_, Uuid>(0), acme);
    assert_eq!(row.get::<_, Option<Uuid>>(1), None);
}

#[test]
fn a_row_never_refers_to_another_workspace() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let acme = workspace(&mut admin, "Acme");
    let rival = workspace(&mut admin, "Rival");
    let theirs: Uuid = value(
        &mut admin,
        "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, 'Theirs') RETURNING id",
        &[&rival],
    );
    let mine: Uuid = value(
        &mut admin,
        "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, 'Mine') RETURNING id",
        &[&acme],
    );
    fails_with(
        admin.execute(
            "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ($1, $2, 'Spy')",
            &[&acme, &theirs],
        ),
        "23503",
    );
    admin
        .execute(
            "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ($1, $2, 'Own')",
            &[&acme, &mine],
        )
        .expect("its own campaign is fine");
    // hard case 37: deleting another tenant's campaign deletes nothing of mine
    fails_with(
        admin.execute(
            "INSERT INTO public.system_alerts (workspace_id, alert_type, title, related_campaign_id)
             VALUES ($1, 'error', 'Spy', $2)",
            &[&acme, &theirs],
        ),
        "23503",
    );
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let acme = workspace(&mut admin, "Acme");
    let campaign: Uuid = value(
        &mut admin,
        "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, 'Autumn') RETURNING id",
        &[&acme],
    );
    let agent: Uuid = value(
        &mut admin,
        "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Herald', 'lord') RETURNING id",
        &[],
    );
    let refused = [
        ("campaigns", "name = '  '"),
        (
            "campaigns",
            "start_date = '2026-02-01', end_date = '2026-01-01'",
        ),
        ("campaigns", "budget_allocation = -1"),
        ("campaigns", "budget_allocation = 'NaN'"),
        ("campaigns", "allocated_budget_amount = 'Infinity'"),
        ("campaigns", "roi_percentage = 'NaN'"),
        ("campaigns", "status = 'cancelled'"),
        ("campaigns", "conversion_count = -1"),
        ("campaigns", "planned_duration_days = -1"),
        ("agent_registry", "success_rate_percentage = 100.5"),
        ("agent_registry", "success_rate_percentage = 'NaN'"),
        ("agent_registry", "cost_per_execution = 'NaN'"),
        ("agent_registry", "agent_type = 'wizard'"),
    ];
    for (table, change) in refused {
        fails_with(
            admin.execute(&format!("UPDATE public.{table} SET {change}"), &[]),
            "23514",
        );
    }
    let inserts = [
        (
            "campaign_cohorts (workspace_id, campaign_id, cohort_id, allocation_percentage)",
            "$1, $2, $2, 101",
        ),
        (
            "intelligence_signals (workspace_id, source_type, signal_title, signal_category, confidence_score)",
            "$1, 'market', 'x', 'market_trend', -5",
        ),
        (
            "intelligence_signals (workspace_id, source_type, signal_title, signal_category, relevance_score)",
            "$1, 'market', 'x', 'market_trend', 5000",
        ),
        (
            "achievements (workspace_id, name, badge_type, condition_type, points_reward)",
            "$1, 'x', 'speed', 'count', -1",
        ),
        (
            "agent_performance (workspace_id, agent_id, measurement_date, measurement_hour)",
            "$1, $3, '2026-01-01', 77",
        ),
        (
            "agent_performance (workspace_id, agent_id, measurement_date, total_cost_incurred)",
            "$1, $3, '2026-01-01', 'NaN'",
        ),
        (
            "system_alerts (workspace_id, alert_type, title)",
            "$1, 'error', ''",
        ),
        (
            "campaign_quests (id, workspace_id, campaign_id, name, parent_quest_id)",
            "$2, $1, $2, 'own parent', $2",
        ),
    ];
    for (columns, values) in inserts {
        let sql = format!(
            "INSERT INTO public.{columns} SELECT {values} FROM (SELECT $1::uuid, $2::uuid, $3::uuid) AS p"
        );
        fails_with(admin.execute(&sql, &[&acme, &campaign, &agent]), "23514");
    }
}

#[test]
fn uniques_are_per_workspace_and_null_counts_as_a_value() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let acme = workspace(&mut admin, "Acme");
    let rival = workspace(&mut admin, "Rival");
    let anna = user(&mut admin, "anna@acme.example");
    let agent: Uuid = value(
        &mut admin,
        "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ('Herald', 'lord') RETURNING id",
        &[],
    );
    for workspace in [acme, rival] {
        admin
            .execute(
                "INSERT INTO public.user_stats (workspace_id, user_id) VALUES ($1, $2)",
                &[&workspace, &anna],
            )
            .expect("one a workspace");
    }
    fails_with(
        admin.execute(
            "INSERT INTO public.user_stats (workspace_id, user_id) VALUES ($1, $2)",
            &[&acme, &anna],
        ),
        "23505",
    );
    // hard case 19: the hour is NULL
    let insert = "INSERT INTO public.agent_performance (workspace_id, agent_id, measurement_date) VALUES ($1, $2, '2026-01-01')";
    admin.execute(insert, &[&acme, &agent]).expect("the first");
    fails_with(admin.execute(insert, &[&acme, &agent]), "23505");
    // hard case 22: an agent with history stays
    let refused = admin
        .execute("DELETE FROM public.agent_registry WHERE id = $1", &[&agent])
        .expect_err("it stays");
    // Up to 17 RESTRICT raises the general code for a foreign key, from 18 on its own.
    let state = codex_pg_test::sqlstate(&refused);
    assert!(state == "23503" || state == "23001", "{state}");
}

#[test]
fn ids_are_ordered_by_time() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let ordered: bool = value(
        &mut admin,
        "SELECT bool_and(id > previous)
           FROM (SELECT id, lag(id) OVER (ORDER BY n) AS previous
                   FROM (SELECT n, codex.uuid_v7() AS id FROM generate_series(1, 20000) AS n) AS made) AS pairs
          WHERE previous IS NOT NULL",
        &[],
    );
    assert!(ordered, "strictly increasing within a session");
    let id: Uuid = value(&mut admin, "SELECT codex.uuid_v7()", &[]);
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(id.get_variant(), uuid_variant());
    let made: Vec<Vec<Uuid>> = db.parallel(8, |_, client| {
        (0..200)
            .map(|_| value(client, "SELECT codex.uuid_v7()", &[]))
            .collect()
    });
    let mut all: Vec<Uuid> = made.into_iter().flatten().collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 1600, "no two sessions make the same");
}

fn uuid_variant() -> uuid::Variant {
    uuid::Variant::RFC4122
}

#[test]
fn the_released_shape_is_the_one_the_migrations_make() {
    let db = Database::migrated();
    let mut admin = db.admin();
    for (function, file, released) in [
        (
            "schema_shape",
            "sql/shape.tsv",
            include_str!("../../../sql/shape.tsv"),
        ),
        (
            "function_shape",
            "sql/functions.tsv",
            include_str!("../../../sql/functions.tsv"),
        ),
    ] {
        let here = lines(
            &mut admin,
            &format!(
                "SELECT concat_ws(E'\\t', relation, kind, name, definition) FROM codex.{function}() ORDER BY relation COLLATE \"C\", kind COLLATE \"C\", name COLLATE \"C\""
            ),
        );
        let released: Vec<&str> = released.lines().collect();
        let missing: Vec<&&str> = released
            .iter()
            .filter(|line| !here.iter().any(|other| other == **line))
            .collect();
        let new: Vec<&String> = here
            .iter()
            .filter(|line| !released.contains(&line.as_str()))
            .collect();
        assert!(
            missing.is_empty() && new.is_empty(),
            "{file} is out of date: run `make shape` and look at its diff.\nmissing here: {missing:#?}\nnew here: {new:#?}"
        );
    }
}
