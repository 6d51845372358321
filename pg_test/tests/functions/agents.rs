//! Recording what agents did, and what they did in a span of time.

use codex_pg_test::postgres::types::ToSql;
use codex_pg_test::postgres::{Client, IsolationLevel};
use codex_pg_test::{Database, Failure, Uuid, fails_with, value, workspace};

/// A workspace and an agent, in a database of their own.
struct Scene {
    db: Database,
    admin: Client,
    workspace: Uuid,
    agent: Uuid,
}

impl Scene {
    fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        let workspace = workspace(&mut admin, "Acme");
        let agent = agent(&mut admin, "Scribe");
        Self {
            db,
            admin,
            workspace,
            agent,
        }
    }

    fn campaign(&mut self) -> Uuid {
        value(
            &mut self.admin,
            "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, 'Spring') RETURNING id",
            &[&self.workspace],
        )
    }

    /// An active assignment, for a campaign or for the whole workspace.
    fn assignment(&mut self, campaign: Option<Uuid>) -> Uuid {
        value(
            &mut self.admin,
            "INSERT INTO public.agent_assignments (workspace_id, agent_id, assigned_to_campaign_id)
             VALUES ($1, $2, $3)
             RETURNING id",
            &[&self.workspace, &self.agent, &campaign],
        )
    }

    /// Calls `record_agent_execution` with the workspace, the agent and these further arguments.
    fn record(&mut self, arguments: &str) -> Result<(), Failure> {
        record(&mut self.admin, self.workspace, self.agent, arguments)
    }

    /// Completed and failed tasks, tokens and cost of an assignment.
    fn credited(&mut self, assignment: Uuid) -> (i32, i32, i64, String) {
        let row = self
            .admin
            .query_one(
                "SELECT tasks_completed, tasks_failed, total_tokens_used, total_cost_incurred::text
                 FROM public.agent_assignments
                 WHERE id = $1",
                &[&assignment],
            )
            .unwrap();
        (row.get(0), row.get(1), row.get(2), row.get(3))
    }

    /// One expression over the only row of `agent_performance`, as text.
    fn hour(&mut self, expression: &str) -> Option<String> {
        let sql = format!("SELECT ({expression})::text FROM public.agent_performance");
        value(&mut self.admin, &sql, &[])
    }

    fn rows(&mut self) -> i64 {
        value(
            &mut self.admin,
            "SELECT (SELECT count(*) FROM public.agent_performance) + (SELECT count(*) FROM codex.agent_executions)",
            &[],
        )
    }
}

fn agent(client: &mut Client, name: &str) -> Uuid {
    value(
        client,
        "INSERT INTO public.agent_registry (agent_name, agent_type) VALUES ($1, 'creative') RETURNING id",
        &[&name],
    )
}

fn record(
    client: &mut Client,
    workspace: Uuid,
    agent: Uuid,
    arguments: &str,
) -> Result<(), Failure> {
    let sql = format!("SELECT codex.record_agent_execution('{workspace}', '{agent}', {arguments})");
    client
        .batch_execute(&sql)
        .map_err(|error| Failure::from(&error))
}

#[track_caller]
fn refused(result: Result<(), Failure>, sqlstate: &str, message: &str) {
    let failure = result.expect_err("refused");
    assert_eq!(
        (failure.sqlstate.as_str(), failure.message.as_str()),
        (sqlstate, message)
    );
}

#[test]
fn hard_case_15_counts_sums_averages_rates_and_percentiles_are_filled() {
    let mut scene = Scene::new();
    for arguments in [
        "1.5, 100, 10, 0.25, true",
        "0.5, 200, 20, 0.50, false",
        "4, 300, 30, 0.75, true",
        "2, 0, 0, 0, true",
    ] {
        scene.record(arguments).unwrap();
    }
    for (column, expected) in [
        ("execution_count", "4"),
        ("success_count", "3"),
        ("failure_count", "1"),
        ("error_count", "1"),
        ("success_rate_percentage = 75", "true"),
        ("error_rate_percentage = 25", "true"),
        ("total_execution_time_seconds", "8.0"),
        ("avg_execution_time_seconds = 2", "true"),
        ("min_execution_time_seconds", "0.5"),
        ("max_execution_time_seconds", "4"),
        ("abs(p50_execution_time_seconds - 1.5) <= 0.015", "true"),
        ("p95_execution_time_seconds", "4"),
        ("p99_execution_time_seconds", "4"),
        ("total_input_tokens", "600"),
        ("total_output_tokens", "60"),
        ("avg_input_tokens_per_execution = 150", "true"),
        ("avg_output_tokens_per_execution = 15", "true"),
        ("total_cost_incurred", "1.50"),
        ("avg_cost_per_execution = 0.375", "true"),
        ("get_byte(execution_time_sketch, 0)", "1"),
    ] {
        assert_eq!(scene.hour(column).as_deref(), Some(expected), "{column}");
    }
}

#[test]
fn hard_case_15_percentiles_are_within_one_percent() {
    for samples in [1, 10, 10_000] {
        let mut scene = Scene::new();
        // Log-normal times, as those of agents are, from a seed of the server's own generator.
        scene
            .admin
            .batch_execute(&format!(
                "SELECT setseed(0.42);
                 CREATE TABLE public.samples AS
                 SELECT round(exp(2 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()))::numeric, 6) AS seconds
                 FROM generate_series(1, {samples});
                 SELECT count(codex.record_agent_execution('{}', '{}', seconds, 1, 2, 0.001, true))
                 FROM public.samples",
                scene.workspace, scene.agent
            ))
            .unwrap();
        let row = scene
            .admin
            .query_one(
                "SELECT p50_execution_time_seconds::float8, p95_execution_time_seconds::float8,
                        p99_execution_time_seconds::float8, execution_count, total_execution_time_seconds::text,
                        total_cost_incurred::float8, length(execution_time_sketch)
                 FROM public.agent_performance",
                &[],
            )
            .unwrap();
        let exact = scene
            .admin
            .query_one(
                "SELECT percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY seconds::float8), sum(seconds)::text
                 FROM public.samples",
                &[],
            )
            .unwrap();
        for (position, exact) in exact.get::<_, Vec<f64>>(0).into_iter().enumerate() {
            let estimate: f64 = row.get(position);
            assert!(
                (estimate - exact).abs() <= 0.01 * exact,
                "{samples} samples: {estimate} for {exact}"
            );
        }
        assert_eq!(row.get::<_, i32>(3), samples);
        assert_eq!(row.get::<_, String>(4), exact.get::<_, String>(1));
        assert!((row.get::<_, f64>(5) - 0.001 * f64::from(samples)).abs() < 1e-9);
        assert!(row.get::<_, i32>(6) <= 2048);
    }
}

#[test]
fn hard_case_16_token_sums_go_beyond_integer() {
    let mut scene = Scene::new();
    let assignment = scene.assignment(None);
    for _ in 0..3 {
        scene.record("1, 2147483647, 2147483648, 0, true").unwrap();
    }
    assert_eq!(scene.hour("total_input_tokens").unwrap(), "6442450941");
    assert_eq!(scene.hour("total_output_tokens").unwrap(), "6442450944");
    assert_eq!(scene.credited(assignment).2, 12_884_901_885);
}

#[test]
fn hard_case_16_a_sum_that_its_column_cannot_hold_is_refused_and_nothing_is_lost() {
    let mut scene = Scene::new();
    let assignment = scene.assignment(None);
    let most = i64::MAX;
    scene.record(&format!("1, {most}, 0, 0, true")).unwrap();
    let credited = scene.credited(assignment);
    let before = scene.hour("to_jsonb(agent_performance)");
    let failure = scene
        .record("1, 1, 0, 0, true, p_execution_id => gen_random_uuid()")
        .unwrap_err();
    assert_eq!(failure.sqlstate, "22023", "{failure}");
    // Both together are too much for the assignment, though each has its own column in the hour.
    let failure = scene.record(&format!("1, 0, {most}, 0, true")).unwrap_err();
    assert_eq!(failure.sqlstate, "22023", "{failure}");
    refused(
        scene.record(&format!(
            "1, {most}, {most}, 0, true, p_executed_at => '2020-01-01'"
        )),
        "22023",
        "p_input_tokens and p_output_tokens together exceed 2^63 - 1",
    );
    scene
        .admin
        .batch_execute("UPDATE public.agent_performance SET execution_count = 2147483647")
        .unwrap();
    let failure = scene.record("1, 0, 0, 0, true").unwrap_err();
    assert_eq!(failure.sqlstate, "22023", "{failure}");
    assert_eq!(
        scene.rows(),
        1,
        "neither a row of an hour nor an execution id"
    );
    assert_eq!(scene.credited(assignment), credited);
    scene
        .admin
        .batch_execute("UPDATE public.agent_performance SET execution_count = 1")
        .unwrap();
    assert_eq!(scene.hour("to_jsonb(agent_performance)"), before);
}

#[test]
fn hard_case_17_a_null_cost_counts_as_nothing() {
    let mut scene = Scene::new();
    let assignment = scene.assignment(None);
    scene.record("1, 5, 5, 0.10, true").unwrap();
    scene.record("1, NULL, NULL, NULL, true").unwrap();
    scene.record("1, 5, NULL, 0.20, true").unwrap();
    assert_eq!(scene.hour("total_cost_incurred").unwrap(), "0.30");
    assert_eq!(scene.hour("total_input_tokens").unwrap(), "10");
    assert_eq!(scene.hour("total_output_tokens").unwrap(), "5");
    assert_eq!(scene.credited(assignment), (3, 0, 15, "0.30".into()));
    // A NULL that was left in the row does not spread either.
    scene
        .admin
        .batch_execute(
            "UPDATE public.agent_performance
             SET execution_count = NULL, success_count = NULL, failure_count = NULL, error_count = NULL,
                 total_input_tokens = NULL, total_output_tokens = NULL, total_cost_incurred = NULL,
                 min_execution_time_seconds = NULL, max_execution_time_seconds = NULL,
                 total_execution_time_seconds = 0, execution_time_sketch = NULL;
             UPDATE public.agent_assignments
             SET tasks_completed = NULL, tasks_failed = NULL, total_tokens_used = NULL, total_cost_incurred = NULL",
        )
        .unwrap();
    scene.record("7, 1, 1, 0.40, false").unwrap();
    assert_eq!(
        scene
            .hour("concat_ws(' ', execution_count, success_count, failure_count, total_cost_incurred, p50_execution_time_seconds)")
            .unwrap(),
        "1 0 1 0.40 7"
    );
    assert_eq!(scene.credited(assignment), (0, 1, 2, "0.40".into()));
}

#[test]
fn hard_case_18_one_of_three_active_assignments_is_credited() {
    let mut scene = Scene::new();
    let spring = scene.campaign();
    let autumn = scene.campaign();
    let of_spring = scene.assignment(Some(spring));
    let of_workspace = scene.assignment(None);
    let of_autumn = scene.assignment(Some(autumn));
    let nothing = || (0, 0, 0, "0".to_owned());

    scene
        .record(&format!("1, 10, 5, 0.5, true, p_campaign_id => '{spring}'"))
        .unwrap();
    assert_eq!(scene.credited(of_spring), (1, 0, 15, "0.5".into()));
    scene.record("1, 10, 6, 0.6, false").unwrap();
    assert_eq!(scene.credited(of_workspace), (0, 1, 16, "0.6".into()));
    assert_eq!(scene.credited(of_autumn), nothing());

    // A campaign without an active assignment falls back to the workspace's.
    scene
        .admin
        .execute(
            "UPDATE public.agent_assignments SET assignment_status = 'paused' WHERE id = $1",
            &[&of_autumn],
        )
        .unwrap();
    scene
        .record(&format!("1, 1, 1, 1, true, p_campaign_id => '{autumn}'"))
        .unwrap();
    assert_eq!(scene.credited(of_autumn), nothing());
    assert_eq!(scene.credited(of_workspace), (1, 1, 18, "1.6".into()));

    // Without one of those either, nothing is credited, and the execution is recorded all the same.
    scene
        .admin
        .execute(
            "UPDATE public.agent_assignments SET assignment_status = 'completed' WHERE id = $1",
            &[&of_workspace],
        )
        .unwrap();
    scene.record("1, 1, 1, 1, true").unwrap();
    assert_eq!(scene.credited(of_workspace), (1, 1, 18, "1.6".into()));
    assert_eq!(scene.credited(of_spring), (1, 0, 15, "0.5".into()));
    assert_eq!(scene.hour("execution_count").unwrap(), "4");
}

#[test]
fn hard_case_18_of_several_for_the_workspace_the_oldest_is_credited() {
    let mut scene = Scene::new();
    let newer = scene.assignment(None);
    let older = scene.assignment(None);
    scene
        .admin
        .execute(
            "UPDATE public.agent_assignments SET assigned_date = '2020-01-01' WHERE id = $1",
            &[&older],
        )
        .unwrap();
    for _ in 0..3 {
        scene.record("1, 1, 1, 1, true").unwrap();
    }
    assert_eq!(scene.credited(older), (3, 0, 6, "3".into()));
    assert_eq!(scene.credited(newer).0, 0);
}

#[test]
fn hard_case_18_an_assignment_of_another_workspace_or_agent_is_not_credited() {
    let mut scene = Scene::new();
    let elsewhere = workspace(&mut scene.admin, "Elsewhere");
    let colleague = agent(&mut scene.admin, "Colleague");
    let other: Vec<Uuid> = [
        (elsewhere, scene.agent),
        (scene.workspace, colleague),
    ]
    .into_iter()
    .map(|(workspace, agent)| {
        value(
            &mut scene.admin,
            "INSERT INTO public.agent_assignments (workspace_id, agent_id) VALUES ($1, $2) RETURNING id",
            &[&workspace, &agent],
        )
    })
    .collect();
    scene.record("1, 1, 1, 1, true").unwrap();
    for assignment in other {
        assert_eq!(scene.credited(assignment).0, 0);
    }
}

#[test]
fn hard_case_19_a_null_hour_is_unique_too() {
    let mut scene = Scene::new();
    let day = "INSERT INTO public.agent_performance (workspace_id, agent_id, measurement_date) VALUES ($1, $2, '2026-01-01')";
    let key: [&(dyn ToSql + Sync); 2] = [&scene.workspace, &scene.agent];
    scene.admin.execute(day, &key).unwrap();
    fails_with(scene.admin.execute(day, &key), "23505");
}

#[test]
fn hard_case_20_an_hour_is_0_to_23() {
    let mut scene = Scene::new();
    for hour in [77, 24, -1] {
        fails_with(
            scene.admin.execute(
                "INSERT INTO public.agent_performance (workspace_id, agent_id, measurement_date, measurement_hour)
                 VALUES ($1, $2, '2026-01-01', $3)",
                &[&scene.workspace, &scene.agent, &hour],
            ),
            "23514",
        );
    }
}

#[test]
fn hard_case_21_the_hour_is_that_of_utc_in_every_time_zone() {
    let mut scene = Scene::new();
    for zone in [
        "UTC",
        "Pacific/Auckland",
        "America/St_Johns",
        "Asia/Kolkata",
        "Pacific/Apia",
    ] {
        scene
            .admin
            .batch_execute(&format!("SET TimeZone = '{zone}'"))
            .unwrap();
        scene
            .record("1, 1, 1, 0.1, true, p_executed_at => '2026-03-29 23:59:59.999999+00'")
            .unwrap();
    }
    let bucket = "concat_ws(' ', measurement_date, measurement_hour, execution_count)";
    assert_eq!(scene.hour(bucket).unwrap(), "2026-03-29 23 5");
    scene
        .record("1, 1, 1, 0.1, true, p_executed_at => '2026-03-30 00:00:00+00'")
        .unwrap();
    let count: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM public.agent_performance WHERE (measurement_date, measurement_hour) = ('2026-03-30', 0)",
        &[],
    );
    assert_eq!(count, 1);
}

#[test]
fn hard_case_21_hours_at_the_ends_of_time() {
    let mut scene = Scene::new();
    for (at, date, hour) in [
        ("1999-12-31 23:59:59.999999+00", "1999-12-31", 23),
        ("2000-01-01 00:00:00+00", "2000-01-01", 0),
        ("1970-01-01 00:59:59+00", "1970-01-01", 0),
        ("4714-11-24 00:00:00+00 BC", "4714-11-24 BC", 0),
        ("294276-12-31 23:59:59.999999+00", "294276-12-31", 23),
    ] {
        scene
            .record(&format!("1, 1, 1, 0.1, true, p_executed_at => '{at}'"))
            .unwrap();
        let found: i64 = value(
            &mut scene.admin,
            "SELECT count(*) FROM public.agent_performance WHERE measurement_date::text = $1 AND measurement_hour = $2",
            &[&date, &hour],
        );
        assert_eq!(found, 1, "{at}");
    }
    for at in ["infinity", "-infinity"] {
        refused(
            scene.record(&format!("1, 1, 1, 0.1, true, p_executed_at => '{at}'")),
            "22023",
            "p_executed_at is infinite",
        );
    }
    // NULL is now.
    scene
        .record("1, 1, 1, 0.1, true, p_executed_at => NULL")
        .unwrap();
    let now: bool = value(
        &mut scene.admin,
        "SELECT EXISTS (
             SELECT FROM public.agent_performance
             WHERE measurement_date = (now() AT TIME ZONE 'UTC')::date
               AND abs(measurement_hour - extract(hour FROM now() AT TIME ZONE 'UTC')) <= 1
         )",
        &[],
    );
    assert!(now);
}

#[test]
fn hard_case_22_deleting_an_agent_keeps_its_history() {
    let mut scene = Scene::new();
    scene.record("1, 1, 1, 0.1, true").unwrap();
    let deleted = (scene.admin).execute(
        "DELETE FROM public.agent_registry WHERE id = $1",
        &[&scene.agent],
    );
    // From version 18 on RESTRICT has a code of its own.
    let refused = if codex_pg_test::server_version() >= 180_000 {
        "23001"
    } else {
        "23503"
    };
    fails_with(deleted, refused);
    assert_eq!(scene.hour("execution_count").unwrap(), "1");
}

#[test]
fn hard_case_23_bad_values_are_refused() {
    let mut scene = Scene::new();
    let hint = "It has to be a finite number, 0 or more.";
    for (arguments, sqlstate, message) in [
        ("1, 1, 1, 1, NULL", "22004", "p_success must not be NULL"),
        (
            "NULL, 1, 1, 1, true",
            "22004",
            "p_execution_time_seconds must not be NULL",
        ),
        ("1, -1, 1, 1, true", "22023", "p_input_tokens is -1"),
        (
            "1, 1, -9223372036854775808, 1, true",
            "22023",
            "p_output_tokens is -9223372036854775808",
        ),
        ("1, 1, 1, 'NaN', true", "22023", "p_cost is NaN"),
        ("1, 1, 1, 'Infinity', true", "22023", "p_cost is Infinity"),
        ("1, 1, 1, '-Infinity', true", "22023", "p_cost is -Infinity"),
        ("1, 1, 1, -0.01, true", "22023", "p_cost is -0.01"),
        (
            "'NaN', 1, 1, 1, true",
            "22023",
            "p_execution_time_seconds is NaN",
        ),
        (
            "'Infinity', 1, 1, 1, true",
            "22023",
            "p_execution_time_seconds is Infinity",
        ),
        (
            "-1, 1, 1, 1, true",
            "22023",
            "p_execution_time_seconds is -1",
        ),
    ] {
        let failure = scene.record(arguments).unwrap_err();
        assert_eq!(
            (failure.sqlstate.as_str(), failure.message.as_str()),
            (sqlstate, message)
        );
        if message.contains("p_cost") {
            assert_eq!(failure.hint, hint);
        }
    }
    // So negative that a double cannot tell it from zero; so large that it has none for it.
    for tiny_or_huge in ["-1e-400", "1e400", "-1e130000", "1e130000"] {
        for arguments in [
            format!("{tiny_or_huge}, 1, 1, 1, true"),
            format!("1, 1, 1, {tiny_or_huge}, true"),
        ] {
            let failure = scene.record(&arguments).unwrap_err();
            assert_eq!(failure.sqlstate, "22023", "{failure}");
            assert!(failure.message.len() < 200, "{failure}");
        }
    }
    assert_eq!(scene.rows(), 0);
}

#[test]
fn hard_case_23_nor_does_a_table_take_them_in_any_column() {
    let mut scene = Scene::new();
    scene.record("1, 1, 1, 1, true").unwrap();
    scene.assignment(None);
    let columns = scene
        .admin
        .query(
            "SELECT table_name::text, column_name::text, data_type = 'numeric', column_name LIKE '%percentage' OR column_name = 'quality_score'
             FROM information_schema.columns
             WHERE table_schema = 'public' AND table_name IN ('agent_performance', 'agent_assignments')
               AND data_type IN ('integer', 'bigint', 'numeric')",
            &[],
        )
        .unwrap();
    assert_eq!(columns.len(), 26);
    for row in columns {
        let (table, column): (&str, &str) = (row.get(0), row.get(1));
        let mut wrong = vec!["-1"];
        if row.get(2) {
            wrong.extend(["'NaN'", "'Infinity'", "'-Infinity'", "-0.000001"]);
        }
        if row.get(3) {
            wrong.push("100.000001");
        }
        for value in wrong {
            let sql = format!("UPDATE public.{table} SET {column} = {value}");
            let failure = fails_with(scene.admin.batch_execute(&sql), "23514");
            assert!(failure.message.contains(table), "{sql}: {failure}");
        }
        scene
            .admin
            .batch_execute(&format!(
                "BEGIN; UPDATE public.{table} SET {column} = 0; ROLLBACK"
            ))
            .unwrap_or_else(|error| {
                // Fewer executions than outcomes, and more outcomes than executions, are refused as well.
                let failure = Failure::from(&error);
                assert!(failure.message.contains("outcomes"), "{column}: {failure}");
                scene.admin.batch_execute("ROLLBACK").unwrap();
            });
    }
}

#[test]
fn tiny_and_huge_amounts_that_a_double_holds_are_recorded() {
    let mut scene = Scene::new();
    for amount in ["0", "1e-400", "1e-300", "1e300", "1.7e308"] {
        scene
            .record(&format!("{amount}, 0, 0, {amount}, true"))
            .unwrap();
    }
    for (column, expected) in [
        ("execution_count", "5"),
        ("max_execution_time_seconds = 1.7e308", "true"),
        ("p99_execution_time_seconds = 1.7e308", "true"),
        (
            "total_cost_incurred = 1.7e308 + 1e300 + 1e-300 + 1e-400",
            "true",
        ),
    ] {
        assert_eq!(scene.hour(column).as_deref(), Some(expected), "{column}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    let mut scene = Scene::new();
    let nobody = Uuid::new_v4();
    let (workspace_id, agent_id) = (scene.workspace, scene.agent);
    refused(
        record(&mut scene.admin, workspace_id, nobody, "1, 1, 1, 1, true"),
        "23503",
        &format!("p_agent_id is {nobody}, and there is no such agent"),
    );
    for id in ["NULL", "gen_random_uuid()"] {
        refused(
            record(
                &mut scene.admin,
                nobody,
                agent_id,
                &format!("1, 1, 1, 1, true, p_execution_id => {id}"),
            ),
            "23503",
            &format!("p_workspace_id is {nobody}, and there is no such workspace"),
        );
    }
    let elsewhere = workspace(&mut scene.admin, "Elsewhere");
    let foreign: Uuid = value(
        &mut scene.admin,
        "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, 'Theirs') RETURNING id",
        &[&elsewhere],
    );
    for campaign in [nobody, foreign] {
        refused(
            scene.record(&format!("1, 1, 1, 1, true, p_campaign_id => '{campaign}'")),
            "23503",
            &format!(
                "p_campaign_id is {campaign}, and there is no such campaign in workspace {workspace_id}"
            ),
        );
    }
    for state in ["false", "NULL"] {
        scene
            .admin
            .execute(
                &format!("UPDATE public.agent_registry SET is_active = {state} WHERE id = $1"),
                &[&agent_id],
            )
            .unwrap();
        refused(
            scene.record("1, 1, 1, 1, true"),
            "55000",
            &format!("agent {agent_id} is not active"),
        );
    }
    for (position, name) in [(0, "p_workspace_id"), (1, "p_agent_id")] {
        let mut ids = [format!("'{workspace_id}'"), format!("'{agent_id}'")];
        ids[position] = "NULL".into();
        let failure = fails_with(
            scene.admin.batch_execute(&format!(
                "SELECT codex.record_agent_execution({}, 1, 1, 1, 1, true)",
                ids.join(", ")
            )),
            "22004",
        );
        assert_eq!(failure.message, format!("{name} must not be NULL"));
    }
    assert_eq!(scene.rows(), 0);
}

#[test]
fn callers_with_integers_still_work() {
    let mut scene = Scene::new();
    scene
        .record("3::integer, 10::integer, 20::smallint, 1::integer, true")
        .unwrap();
    scene
        .admin
        .batch_execute(&format!(
            "SELECT codex.record_agent_execution(
                 p_workspace_id => '{}', p_agent_id => '{}', p_execution_time_seconds => 5,
                 p_input_tokens => 1, p_output_tokens => 2, p_cost => 0, p_success => false
             )",
            scene.workspace, scene.agent
        ))
        .unwrap();
    assert_eq!(scene.hour("execution_count").unwrap(), "2");
}

#[test]
fn the_same_execution_is_recorded_once() {
    let mut scene = Scene::new();
    let assignment = scene.assignment(None);
    let id = Uuid::new_v4();
    let call = format!("1, 10, 20, 0.5, true, p_execution_id => '{id}'");
    for _ in 0..3 {
        scene.record(&call).unwrap();
    }
    // A retry is answered as the first call was, also when the agent has been put to rest since.
    scene
        .admin
        .batch_execute("UPDATE public.agent_registry SET is_active = false")
        .unwrap();
    scene.record(&call).unwrap();
    assert_eq!(scene.hour("execution_count").unwrap(), "1");
    assert_eq!(scene.credited(assignment), (1, 0, 30, "0.5".into()));

    let (workspace_id, first) = (scene.workspace, scene.agent);
    let other = agent(&mut scene.admin, "Other");
    refused(
        record(&mut scene.admin, workspace_id, other, &call),
        "22023",
        &format!("p_execution_id {id} was recorded for agent {first}, not for {other}"),
    );
    // Another workspace has ids of its own.
    let elsewhere = workspace(&mut scene.admin, "Elsewhere");
    record(&mut scene.admin, elsewhere, other, &call).unwrap();
    assert_eq!(
        value::<i64>(
            &mut scene.admin,
            "SELECT count(*) FROM codex.agent_executions",
            &[]
        ),
        2
    );
}

#[test]
fn a_retry_of_a_recorded_execution_costs_no_transaction_id() {
    let mut scene = Scene::new();
    let id = Uuid::new_v4();
    let call = format!("1, 1, 1, 1, true, p_execution_id => '{id}'");
    scene.record(&call).unwrap();
    let assigned: Option<String> = value(
        &mut scene.admin,
        &format!(
            "WITH again AS MATERIALIZED (
                 SELECT codex.record_agent_execution('{}', '{}', {call}) IS NULL AS done
             )
             SELECT pg_catalog.pg_current_xact_id_if_assigned()::text FROM again WHERE done IS NOT NULL",
            scene.workspace, scene.agent
        ),
        &[],
    );
    assert_eq!(assigned, None);
}

#[test]
fn eight_sessions_of_five_hundred_executions_each() {
    let mut scene = Scene::new();
    let assignment = scene.assignment(None);
    let (workspace, agent) = (scene.workspace, scene.agent);
    scene.db.parallel(8, |number, client| {
        let call = client
            .prepare(
                "SELECT codex.record_agent_execution(
                     $1, $2, $3::text::numeric, $4, $5, 0.001, $6, p_executed_at => '2026-05-05 05:05+00'
                 )",
            )
            .unwrap();
        for step in 0..500_i64 {
            let seconds = format!("{}.{:03}", number + 1, step);
            let succeeded = step % 5 != 0;
            client
                .execute(
                    &call,
                    &[&workspace, &agent, &seconds, &step, &2_i64, &succeeded],
                )
                .unwrap();
        }
    });
    for (column, expected) in [
        ("execution_count", "4000"),
        ("success_count", "3200"),
        ("failure_count", "800"),
        ("total_input_tokens", "998000"),
        ("total_output_tokens", "8000"),
        ("total_cost_incurred", "4.000"),
        ("total_execution_time_seconds", "18998.000"),
        ("min_execution_time_seconds", "1.000"),
        ("max_execution_time_seconds", "8.499"),
        // The 2000th of the 4000 samples is 4.499, the 3800th 8.299.
        ("abs(p50_execution_time_seconds - 4.499) <= 0.04499", "true"),
        ("abs(p95_execution_time_seconds - 8.299) <= 0.08299", "true"),
    ] {
        assert_eq!(scene.hour(column).as_deref(), Some(expected), "{column}");
    }
    assert_eq!(
        scene.credited(assignment),
        (3200, 800, 1_006_000, "4.000".into())
    );
}

#[test]
fn eight_sessions_that_send_the_same_executions() {
    let mut scene = Scene::new();
    let assignment = scene.assignment(None);
    let (workspace, agent) = (scene.workspace, scene.agent);
    let ids: Vec<Uuid> = (0..100).map(|_| Uuid::new_v4()).collect();
    scene.db.parallel(8, |number, client| {
        for step in 0..ids.len() {
            // Some sessions begin at the other end.
            let id = ids[if number % 2 == 0 {
                step
            } else {
                ids.len() - 1 - step
            }];
            let call = format!(
                "1, 1, 1, 0.01, true, p_execution_id => '{id}', p_executed_at => '2026-05-05'"
            );
            record(client, workspace, agent, &call).unwrap();
        }
    });
    assert_eq!(scene.hour("execution_count").unwrap(), "100");
    assert_eq!(scene.hour("total_cost_incurred").unwrap(), "1.00");
    assert_eq!(scene.credited(assignment), (100, 0, 200, "1.00".into()));
}

#[test]
fn one_transaction_that_records_much_and_changes_its_mind() {
    let mut scene = Scene::new();
    let spring = scene.campaign();
    let first = scene.assignment(None);
    let call = format!(
        "SELECT codex.record_agent_execution('{}', '{}', 1, 1, 1, 1, true, p_executed_at => '2026-05-05');",
        scene.workspace, scene.agent
    );
    let of_spring = call.replace(
        "p_executed_at",
        &format!("p_campaign_id => '{spring}', p_executed_at"),
    );
    let counted = "SELECT concat_ws(' ', (SELECT execution_count FROM public.agent_performance),
                          (SELECT string_agg(tasks_completed::text, ' ' ORDER BY id) FROM public.agent_assignments))";
    let mut session = scene.db.admin();
    let mut transaction = session.transaction().unwrap();
    let mut after = |sql: &str, expected: &str| {
        transaction.batch_execute(sql).unwrap();
        assert_eq!(
            value::<String>(&mut transaction, counted, &[]),
            expected,
            "{sql}"
        );
    };
    after(&call.repeat(3), "3 3");
    after(&format!("SAVEPOINT s; {call} {call}"), "5 5");
    after("ROLLBACK TO SAVEPOINT s", "3 3");
    after(&call, "4 4");
    // Somebody else in the transaction writes the same rows.
    after(
        "UPDATE public.agent_performance SET quality_score = 5; UPDATE public.agent_assignments SET task_queue = '[]'",
        "4 4",
    );
    after(&call.repeat(2), "6 6");
    // A campaign gets its own assignment, and that one is put to rest again.
    after(&of_spring, "7 7");
    after(
        &format!(
            "INSERT INTO public.agent_assignments (workspace_id, agent_id, assigned_to_campaign_id)
             SELECT workspace_id, agent_id, '{spring}' FROM public.agent_assignments"
        ),
        "7 7 0",
    );
    after(&of_spring.repeat(2), "9 7 2");
    after(
        "UPDATE public.agent_assignments SET assignment_status = 'paused' WHERE assigned_to_campaign_id IS NOT NULL",
        "9 7 2",
    );
    after(&of_spring, "10 8 2");
    after("DELETE FROM public.agent_performance", "8 2");
    after(&call, "1 9 2");
    after("DELETE FROM public.agent_assignments", "1");
    after(&call, "2");
    transaction.commit().unwrap();
    assert_eq!(scene.hour("execution_count").unwrap(), "2");

    // The next transaction remembers nothing of this one.
    let again = scene.assignment(None);
    assert_ne!(again, first);
    session
        .batch_execute(&format!("BEGIN; {call} {call} COMMIT; {call}"))
        .unwrap();
    assert_eq!(scene.hour("execution_count").unwrap(), "5");
    assert_eq!(scene.credited(again).0, 3);
}

#[test]
fn sessions_whose_transactions_record_many() {
    let mut scene = Scene::new();
    let assignment = scene.assignment(None);
    let (workspace, agent) = (scene.workspace, scene.agent);
    scene.db.parallel(6, |number, client| {
        for round in 0..10 {
            let mut transaction = client.transaction().unwrap();
            for step in 0..10 {
                let mut nested = transaction.transaction().unwrap();
                let call = format!(
                    "SELECT codex.record_agent_execution('{workspace}', '{agent}', 1, 1, 1, 0.01, true,
                         p_executed_at => '2026-05-05')"
                );
                nested.batch_execute(&call).unwrap();
                if step % 5 == 4 {
                    nested.rollback().unwrap();
                } else {
                    nested.commit().unwrap();
                }
            }
            if (number + round) % 4 == 0 {
                transaction.rollback().unwrap();
            } else {
                transaction.commit().unwrap();
            }
        }
    });
    // Eight executions of each transaction that was committed.
    let committed = (0..6)
        .flat_map(|number| (0..10).map(move |round| number + round))
        .filter(|sum| sum % 4 != 0)
        .count() as i32;
    assert_eq!(
        scene.hour("execution_count").unwrap(),
        (8 * committed).to_string()
    );
    assert_eq!(scene.credited(assignment).0, 8 * committed);
}

#[test]
fn in_repeatable_read_what_was_committed_is_counted() {
    let mut scene = Scene::new();
    let assignment = scene.assignment(None);
    let (workspace, agent) = (scene.workspace, scene.agent);
    let committed: i32 = scene
        .db
        .parallel(6, |_, client| {
            let mut committed = 0;
            for _ in 0..40 {
                let mut transaction = (client.build_transaction())
                    .isolation_level(IsolationLevel::RepeatableRead)
                    .start()
                    .unwrap();
                let call = format!(
                    "SELECT codex.record_agent_execution('{workspace}', '{agent}', 1, 1, 1, 0.01, true, NULL,
                         gen_random_uuid(), '2026-05-05')"
                );
                match transaction.batch_execute(&call) {
                    Ok(()) => {
                        transaction.commit().unwrap();
                        committed += 1;
                    }
                    Err(error) => assert_eq!(codex_pg_test::sqlstate(&error), "40001"),
                }
            }
            committed
        })
        .into_iter()
        .sum();
    assert!(committed >= 40, "{committed}");
    assert_eq!(
        scene.hour("execution_count").unwrap(),
        committed.to_string()
    );
    assert_eq!(scene.credited(assignment).0, committed);
    let ids: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM codex.agent_executions",
        &[],
    );
    assert_eq!(ids, i64::from(committed));
}

#[test]
fn the_first_execution_of_an_hour_in_twenty_sessions_at_once() {
    let mut scene = Scene::new();
    let (workspace, agent) = (scene.workspace, scene.agent);
    let outcomes = scene.db.parallel(20, |_, client| {
        record(
            client,
            workspace,
            agent,
            "1, 1, 1, 1, true, p_executed_at => '2026-05-05'",
        )
    });
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(scene.hour("execution_count").unwrap(), "20");
}

#[test]
fn a_damaged_sketch_is_a_clear_error() {
    let mut scene = Scene::new();
    scene.record("1, 1, 1, 1, true").unwrap();
    scene.record("2, 1, 1, 1, true").unwrap();
    let id: Uuid = value(
        &mut scene.admin,
        "SELECT id FROM public.agent_performance",
        &[],
    );
    let good: Vec<u8> = value(
        &mut scene.admin,
        "SELECT execution_time_sketch FROM public.agent_performance",
        &[],
    );
    let mut damaged: Vec<Vec<u8>> = vec![vec![], vec![0], vec![1], vec![255; 3000]];
    for position in 0..good.len() {
        let mut bytes = good.clone();
        bytes[position] ^= 0x10;
        damaged.push(bytes);
        damaged.push(good[..position].to_vec());
    }
    for bytes in damaged {
        scene
            .admin
            .execute(
                "UPDATE public.agent_performance SET execution_time_sketch = $1",
                &[&bytes],
            )
            .unwrap();
        let summary = scene.admin.query(
            "SELECT * FROM codex.agent_performance_summary($1)",
            &[&scene.workspace],
        );
        for failure in [
            fails_with(summary, "XX001"),
            scene.record("1, 1, 1, 1, true").unwrap_err(),
        ] {
            assert_eq!(failure.sqlstate, "XX001");
            assert!(
                (failure.message).starts_with(&format!(
                    "execution_time_sketch of row {id} of agent_performance is damaged: "
                )),
                "{failure}"
            );
        }
    }
    // The hint works.
    scene
        .admin
        .batch_execute("UPDATE public.agent_performance SET execution_time_sketch = NULL")
        .unwrap();
    scene.record("3, 1, 1, 1, true").unwrap();
    assert_eq!(scene.hour("execution_count").unwrap(), "3");
    assert_eq!(scene.hour("p50_execution_time_seconds").unwrap(), "3");
}

#[test]
fn a_summary_merges_the_hours_of_each_agent() {
    let mut scene = Scene::new();
    let (workspace_id, first) = (scene.workspace, scene.agent);
    let second = agent(&mut scene.admin, "Second");
    // 90 quick executions in one hour, 10 slow ones in the next: averaged percentiles would be far off.
    for (hour, seconds, count) in [(10, 1, 90), (11, 100, 10)] {
        for step in 0..count {
            scene
                .record(&format!(
                    "{seconds}, 1, 2, 0.5, {}, p_executed_at => '2026-05-05 {hour}:30+00'",
                    step % 10 != 0
                ))
                .unwrap();
        }
    }
    record(
        &mut scene.admin,
        workspace_id,
        second,
        "7, 1, 1, 0, true, p_executed_at => '2026-05-06'",
    )
    .unwrap();

    let summary = |scene: &mut Scene, span: &str| {
        let rows = scene
            .admin
            .query(
                &format!(
                    "SELECT agent_id, executions, success_rate::float8, p50::float8, p95::float8, p99::float8,
                            tokens, cost::text
                     FROM codex.agent_performance_summary($1{span})"
                ),
                &[&scene.workspace],
            )
            .unwrap();
        rows.iter()
            .map(|row| {
                (
                    row.get::<_, Uuid>(0),
                    row.get::<_, i64>(1),
                    row.get::<_, f64>(2),
                    [3, 4, 5].map(|column| row.get::<_, f64>(column).round()),
                    row.get::<_, i64>(6),
                    row.get::<_, String>(7),
                )
            })
            .collect::<Vec<_>>()
    };
    let mut whole = vec![
        (
            first,
            100,
            90.0,
            [1.0, 100.0, 100.0],
            300,
            "50.0".to_owned(),
        ),
        (second, 1, 100.0, [7.0, 7.0, 7.0], 2, "0".to_owned()),
    ];
    whole.sort_by_key(|row| row.0);
    assert_eq!(summary(&mut scene, ""), whole);
    assert_eq!(
        summary(&mut scene, ", p_from => '-infinity', p_to => 'infinity'"),
        whole
    );
    let of_first: Vec<_> = whole.iter().filter(|row| row.0 == first).cloned().collect();
    assert_eq!(summary(&mut scene, &format!(", '{first}'")), of_first);
    let quick = vec![(first, 90, 90.0, [1.0, 1.0, 1.0], 270, "45.0".to_owned())];
    for span in [
        ", p_from => '2026-05-05 10:00+00', p_to => '2026-05-05 11:00+00'",
        ", p_from => '2026-05-05 09:00:00.000001+00', p_to => '2026-05-05 10:00:00.000001+00'",
        ", p_to => '2026-05-05 11:00+00'",
    ] {
        assert_eq!(summary(&mut scene, span), quick, "{span}");
    }
    // Spans that touch hold every hour once, wherever they are cut.
    for cut in ["10:00", "10:00:00.000001", "10:59", "11:00", "11:30"] {
        let executions: i64 = [
            format!(", p_to => '2026-05-05 {cut}+00'"),
            format!(", p_from => '2026-05-05 {cut}+00'"),
        ]
        .iter()
        .flat_map(|span| summary(&mut scene, span))
        .map(|row| row.1)
        .sum();
        assert_eq!(executions, 101, "{cut}");
    }
    for none in [
        ", p_from => 'infinity'",
        ", p_to => '-infinity'",
        ", p_from => '2026-05-05 10:00+00', p_to => '2026-05-05 10:00+00'",
        ", '00000000-0000-0000-0000-000000000000'",
    ] {
        assert_eq!(summary(&mut scene, none), [], "{none}");
    }
}

#[test]
fn a_summary_of_a_million_samples_is_within_one_percent() {
    const HOURS: u32 = 25;
    const EACH: u32 = 40_000;
    let mut scene = Scene::new();
    let mut state = 42_u64;
    let mut samples = Vec::new();
    for hour in 0..HOURS {
        let mut sketch = codex_sketch::Sketch::new();
        for _ in 0..EACH {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            // From 10 milliseconds to 10,000 seconds, evenly over the logarithm.
            let seconds = 10_f64.powf((state >> 11) as f64 / (1_u64 << 53) as f64 * 6.0 - 2.0);
            sketch.add(seconds).unwrap();
            samples.push(seconds);
        }
        scene
            .admin
            .execute(
                "INSERT INTO public.agent_performance (
                     workspace_id, agent_id, measurement_date, measurement_hour,
                     execution_count, success_count, execution_time_sketch
                 )
                 VALUES ($1, $2, '2026-05-05'::date + $3 / 24, $3 % 24, $4, $4, $5)",
                &[
                    &scene.workspace,
                    &scene.agent,
                    &hour.cast_signed(),
                    &EACH.cast_signed(),
                    &sketch.to_bytes(),
                ],
            )
            .unwrap();
    }
    samples.sort_by(f64::total_cmp);
    let row = scene
        .admin
        .query_one(
            "SELECT p50::float8, p95::float8, p99::float8, executions FROM codex.agent_performance_summary($1)",
            &[&scene.workspace],
        )
        .unwrap();
    assert_eq!(row.get::<_, i64>(3), 1_000_000);
    for (column, rank) in [500_000, 950_000, 990_000].into_iter().enumerate() {
        let (estimate, exact): (f64, f64) = (row.get(column), samples[rank - 1]);
        assert!(
            (estimate - exact).abs() <= 0.01 * exact,
            "{estimate} for {exact}"
        );
    }
}

#[test]
fn what_a_summary_refuses() {
    let mut scene = Scene::new();
    let null = (scene.admin).query("SELECT * FROM codex.agent_performance_summary(NULL)", &[]);
    assert_eq!(
        fails_with(null, "22004").message,
        "p_workspace_id must not be NULL"
    );
    let reversed = scene.admin.query(
        "SELECT * FROM codex.agent_performance_summary($1, NULL, 'infinity', '-infinity')",
        &[&scene.workspace],
    );
    assert_eq!(
        fails_with(reversed, "22023").message,
        "p_from is after p_to"
    );
    // Two hours whose tokens are too many together.
    for day in ["2026-01-01", "2026-01-02"] {
        scene
            .record(&format!(
                "1, {}, 0, 0, true, p_executed_at => '{day}'",
                i64::MAX
            ))
            .unwrap();
    }
    let much = scene.admin.query(
        "SELECT * FROM codex.agent_performance_summary($1)",
        &[&scene.workspace],
    );
    assert_eq!(
        fails_with(much, "22023").message,
        "the sums of this span exceed 2^63 - 1"
    );
}

#[test]
fn a_summary_costs_no_transaction_id_and_runs_read_only() {
    let mut scene = Scene::new();
    scene.record("1, 1, 1, 1, true").unwrap();
    let mut transaction = (scene.admin.build_transaction())
        .read_only(true)
        .start()
        .unwrap();
    let executions: i64 = value(
        &mut transaction,
        "SELECT sum(executions)::bigint FROM codex.agent_performance_summary($1)",
        &[&scene.workspace],
    );
    assert_eq!(executions, 1);
    let id: Option<String> = value(
        &mut transaction,
        "SELECT pg_catalog.pg_current_xact_id_if_assigned()::text",
        &[],
    );
    assert_eq!(id, None);
}
