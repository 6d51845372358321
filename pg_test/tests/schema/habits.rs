//! Ways that older databases have of their own: who owns a workspace, what the table of members is called, which of two
//! shapes a table came in, roles with broad grants, and a backend that says nothing of whom it acts for.

use crate::support::{outcomes, verified};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Failure, fails_with, value};

/// The product's database in its older shape, with what `more` adds to it.
fn found(more: &str) -> Database {
    let db = Database::empty();
    for text in [
        include_str!("../../fixtures/product_52_tables.sql"),
        include_str!("../../fixtures/four_older_tables.sql"),
        more,
        "CREATE EXTENSION raptorflow_codex",
    ] {
        db.admin()
            .batch_execute(text)
            .unwrap_or_else(|error| panic!("{:?}", Failure::from(&error)));
    }
    db
}

/// No attack of the self-test succeeds.
fn isolated(admin: &mut Client) {
    let tried: Vec<String> = admin
        .query(
            "SELECT t::text FROM codex.isolation_selftest() AS t WHERE NOT t.passed",
            &[],
        )
        .expect("codex.isolation_selftest() runs")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(tried.is_empty(), "{tried:#?}");
}

#[test]
fn a_backend_with_broad_grants_and_no_context_goes_on_writing() {
    let db = found(
        "ALTER TABLE public.workspaces ADD COLUMN owner_id uuid;
         UPDATE public.workspaces SET owner_id = md5('user1')::uuid;
         ALTER TABLE public.workspaces
             ALTER COLUMN owner_id SET NOT NULL,
             ADD FOREIGN KEY (owner_id) REFERENCES auth.users (id);
         ALTER TABLE public.user_workspaces RENAME TO workspace_members;
         ALTER POLICY user_workspaces_same_workspace ON public.workspace_members
             USING (workspace_id IN (SELECT w.workspace_id FROM public.workspace_members AS w));",
    );
    let [anon, authenticated, service] =
        ["anon", "authenticated", "service_role"].map(|role| db.role(role));
    let mut admin = db.admin();
    admin
        .batch_execute(&format!(
            "ALTER ROLE {service} BYPASSRLS;
             GRANT USAGE ON SCHEMA public TO {anon}, {authenticated}, {service};
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {anon}, {authenticated}, {service};
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {anon}, {authenticated}, {service};
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO {anon}, {authenticated}, {service};
             ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO {anon}, {authenticated}, {service};"
        ))
        .expect("the roles as they are out there");
    outcomes(&mut admin, "codex.migrate(archive_unused => true)");
    verified(&mut admin);
    isolated(&mut admin);

    // The backend acts on the service role, and sets nothing.
    let mut backend = db.login(&service);
    for statement in [
        "INSERT INTO public.workspaces (name, owner_id) VALUES ('New', md5('user1')::uuid)",
        "INSERT INTO public.positioning (workspace_id, who_statement, category_frame)
         SELECT w.id, 'New teams', 'Category' FROM public.workspaces AS w WHERE w.name = 'Workspace 1'",
        "INSERT INTO public.message_architecture (positioning_id, primary_claim)
         SELECT p.id, 'Claim' FROM public.positioning AS p WHERE p.who_statement = 'New teams'",
        "INSERT INTO public.campaigns (workspace_id, name, objective, status)
         SELECT w.id, 'Old ways', 'retention', 'cancelled' FROM public.workspaces AS w WHERE w.name = 'Workspace 1'",
        "INSERT INTO public.campaign_cohorts (campaign_id, cohort_id)
         SELECT k.id, c.id
         FROM public.campaigns AS k
         JOIN public.cohorts AS c ON c.workspace_id = k.workspace_id
         WHERE k.name = 'Old ways'
         LIMIT 1",
        "UPDATE public.campaigns SET health_score = 80, status = 'paused' WHERE name = 'Old ways'",
        "INSERT INTO public.agent_recommendations (agent_id, move_id, recommendation_text)
         SELECT 'MUS-001', m.id, 'Old ways' FROM public.moves AS m WHERE m.name = 'Move 1'",
    ] {
        let rows = backend
            .execute(statement, &[])
            .unwrap_or_else(|error| panic!("{statement}: {:?}", Failure::from(&error)));
        assert_eq!(rows, 1, "{statement}");
    }
    let placed: i64 = value(
        &mut admin,
        "SELECT count(*)
         FROM public.agent_recommendations AS r
         JOIN public.moves AS m ON m.id = r.move_id AND m.workspace_id = r.workspace_id
         WHERE r.recommendation_text = 'Old ways'",
        &[],
    );
    assert_eq!(placed, 1, "in the workspace of its move");
    // A recommendation that names no move is nobody's, and is refused as such.
    fails_with(
        backend.execute(
            "INSERT INTO public.agent_recommendations (agent_id) VALUES ('MUS-001')",
            &[],
        ),
        "23502",
    );

    // A user comes with claims, and sees one workspace; without them, nothing.
    let mut user = db.login(&authenticated);
    admin
        .batch_execute(&format!(
            "SELECT codex.grant_member_role('{authenticated}')"
        ))
        .expect("grants");
    let seen = "SELECT count(*) FROM public.campaigns WHERE name = 'Old ways'";
    assert_eq!(value::<i64>(&mut user, seen, &[]), 0);
    for (workspace, expected) in [("workspace1", 1_i64), ("workspace2", 0)] {
        user.batch_execute(&format!(
            "SELECT set_config('request.jwt.claims',
                 json_build_object('sub', md5('user1')::uuid, 'workspace_id', md5('{workspace}')::uuid)::text, false)"
        ))
        .expect("claims");
        assert_eq!(value::<i64>(&mut user, seen, &[]), expected, "{workspace}");
    }
}

#[test]
fn each_table_of_two_shapes_is_mended_from_either() {
    // Recommendations and competitors in the shape that the first test of these has not.
    let db = found(
        "DROP TABLE public.agent_recommendations, public.agent_trust_scores, public.competitors;
         CREATE TABLE public.agent_recommendations (
             id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
             workspace_id uuid,
             agent_id varchar(50) NOT NULL,
             agent_name varchar(255),
             correlation_id uuid,
             recommendation_type varchar(100),
             recommendation_content jsonb,
             confidence_score numeric(3, 2),
             evidence jsonb,
             outcome_status varchar(50) DEFAULT 'pending',
             created_at timestamp DEFAULT now()
         );
         CREATE TABLE public.agent_trust_scores (
             id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
             agent_id text NOT NULL,
             move_id uuid REFERENCES public.moves (id),
             trust_score numeric
         );
         CREATE TABLE public.competitors (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text NOT NULL);
         INSERT INTO public.agent_recommendations (workspace_id, agent_id, recommendation_type, confidence_score)
         SELECT w.id, 'MUS-001', 'headline', 0.8 FROM public.workspaces AS w;
         INSERT INTO public.agent_trust_scores (agent_id, move_id, trust_score)
         SELECT 'MUS-001', m.id, 1 FROM public.moves AS m WHERE m.name IN ('Move 1', 'Move 2');
         INSERT INTO public.competitors (name) VALUES ('Somebody');",
    );
    let mut admin = db.admin();
    let failure = fails_with(admin.query("SELECT codex.migrate()", &[]), "55000");
    assert!(
        failure
            .detail
            .contains("public.competitors: the workspace of 1 row(s) cannot be told"),
        "{}",
        failure.detail
    );
    admin
        .batch_execute("DELETE FROM public.competitors")
        .expect("the owner decides");
    outcomes(&mut admin, "codex.migrate()");
    verified(&mut admin);
    // The columns that every shape ends with, and what was there before.
    let columns: String = value(
        &mut admin,
        "SELECT string_agg(a.attrelid::regclass || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
                           || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END, ', ' ORDER BY a.attrelid::regclass::text, a.attnum)
         FROM pg_attribute AS a
         WHERE a.attrelid IN ('public.agent_recommendations'::regclass, 'public.agent_trust_scores'::regclass, 'public.competitors'::regclass)
           AND a.attname IN ('workspace_id', 'agent_id', 'recommendation_type', 'confidence_score', 'evidence', 'outcome_status', 'created_at')",
        &[],
    );
    assert_eq!(
        columns,
        "agent_recommendations.workspace_id uuid NOT NULL, agent_recommendations.agent_id character varying(50) NOT NULL, \
         agent_recommendations.recommendation_type character varying(100), agent_recommendations.confidence_score numeric(3,2), \
         agent_recommendations.evidence jsonb, agent_recommendations.outcome_status character varying(50), \
         agent_recommendations.created_at timestamp without time zone, \
         agent_trust_scores.agent_id text NOT NULL, agent_trust_scores.workspace_id uuid NOT NULL, competitors.workspace_id uuid NOT NULL"
    );
    let rows: (i64, i64) = {
        let row = admin
            .query_one(
                "SELECT (SELECT count(*) FROM public.agent_recommendations AS r WHERE r.recommendation_type = 'headline'),
                        (SELECT count(*) FROM public.agent_trust_scores AS s JOIN public.moves AS m USING (workspace_id) WHERE m.id = s.move_id)",
                &[],
            )
            .expect("rows");
        (row.get(0), row.get(1))
    };
    assert_eq!(rows, (3, 2));
    // The old application inserts both as before.
    admin
        .batch_execute(
            "INSERT INTO public.agent_recommendations (workspace_id, agent_id, recommendation_content)
             SELECT w.id, 'MUS-001', '{}' FROM public.workspaces AS w LIMIT 1;
             INSERT INTO public.agent_trust_scores (agent_id, move_id) SELECT 'MUS-001', m.id FROM public.moves AS m LIMIT 1;",
        )
        .expect("the old application");
}

#[test]
fn a_view_where_a_table_must_go_is_named_with_what_mends_it_and_nothing_is_changed() {
    let db = found(
        "CREATE VIEW public.agent_performance AS SELECT m.workspace_id, count(*) AS moves FROM public.moves AS m GROUP BY 1",
    );
    let mut admin = db.admin();
    let everything =
        "SELECT string_agg(c.oid || ' ' || c.relname || ' ' || c.relnatts, ', ' ORDER BY c.oid)
                      FROM pg_class AS c
                      WHERE c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace)";
    let before: String = value(&mut admin, everything, &[]);
    for call in [
        "codex.migrate()",
        "codex.migrate(archive_unused => true)",
        "codex.migrate(dry_run => true)",
    ] {
        let failure = fails_with(admin.query(&format!("SELECT {call}"), &[]), "55000");
        assert_eq!(
            failure.detail,
            "public.agent_performance (migration 015 agents) exists already as a view: rename it, or move it with SET SCHEMA"
        );
        assert!(
            failure.hint.starts_with("Nothing was changed."),
            "{}",
            failure.hint
        );
        assert_eq!(
            value::<String>(&mut admin, everything, &[]),
            before,
            "{call}"
        );
    }
    admin
        .batch_execute("ALTER VIEW public.agent_performance RENAME TO moves_of_workspaces")
        .expect("as the message says");
    outcomes(&mut admin, "codex.migrate(archive_unused => true)");
    verified(&mut admin);
    let moves: i64 = value(
        &mut admin,
        "SELECT sum(moves)::bigint FROM public.moves_of_workspaces",
        &[],
    );
    assert_eq!(moves, 156);
}
