//! The registry of agents: seeding it from a list, and finding who can do what.

use crate::scene::{Scene, rows};
use codex_pg_test::postgres::Client;
use codex_pg_test::{fails_with, value};

/// Seeds a list; gives how many agents were added, changed and retired, and how many capabilities added and changed.
fn seed(client: &mut Client, list: &str, retire_others: bool) -> [i64; 5] {
    let row = client
        .query_one(
            "SELECT * FROM codex.seed_agents($1::text::jsonb, $2)",
            &[&list, &retire_others],
        )
        .unwrap_or_else(|error| panic!("{}\n{list}", codex_pg_test::Failure::from(&error)));
    [0, 1, 2, 3, 4].map(|place| row.get(place))
}

const LIST: &str = r#"[
    {"agent_name": "Scribe", "agent_type": "creative", "guild_name": "Muses", "cost_per_execution": 0.031,
     "success_rate_percentage": 90, "domain_expertise": ["mail", "web"], "model_config": {"temperature": 0.8},
     "release_date": "2024-02-29",
     "capabilities": [
        {"capability_name": "Write mails", "category": "creation", "typical_cost": 0.02, "typical_token_usage": 1200},
        {"capability_name": "Judge mails", "category": "analysis", "success_rate_percentage": 99}]},
    {"agent_name": "Pen", "agent_type": "creative", "version": "2.0",
     "capabilities": [
        {"capability_name": "write MAILS", "category": "creation", "success_rate_percentage": 95, "typical_cost": 0.5},
        {"capability_name": "Write long mails", "category": "creation"}]},
    {"agent_name": "Eye", "agent_type": "guardian", "capabilities": null}
]"#;

#[test]
fn a_list_is_seeded_and_seeding_it_again_changes_nothing() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    assert_eq!(seed(admin, LIST, false), [3, 0, 0, 4, 0]);
    let picture = "SELECT string_agg(a::text, E'\\n' ORDER BY a.id) || (SELECT string_agg(c::text, E'\\n' ORDER BY c.id) FROM public.agent_capabilities AS c) FROM public.agent_registry AS a";
    let before: String = value(admin, picture, &[]);
    assert_eq!(seed(admin, LIST, true), [0, 0, 0, 0, 0]);
    assert_eq!(value::<String>(admin, picture, &[]), before);
    let kept: String = value(
        admin,
        "SELECT concat_ws('|', version, guild_name, cost_per_execution, domain_expertise, model_config, is_active, release_date)
         FROM public.agent_registry WHERE agent_name = 'Scribe'",
        &[],
    );
    assert_eq!(
        kept,
        "1.0|Muses|0.031|{mail,web}|{\"temperature\": 0.8}|t|2024-02-29"
    );

    // What the list does not say stays; what it says is so.
    let less = r#"[{"agent_name": "Scribe", "agent_type": "creative", "guild_name": "Pens",
        "capabilities": [{"capability_name": "Write mails", "category": "creation", "typical_cost": 0.03},
                         {"capability_name": "Write posts", "category": "creation"}]}]"#;
    assert_eq!(seed(admin, less, false), [0, 1, 0, 1, 1]);
    let changed: String = value(
        admin,
        "SELECT concat_ws('|', a.guild_name, a.cost_per_execution, c.typical_cost, c.typical_token_usage)
         FROM public.agent_registry AS a JOIN public.agent_capabilities AS c ON c.agent_id = a.id
         WHERE a.agent_name = 'Scribe' AND c.capability_name = 'Write mails'",
        &[],
    );
    assert_eq!(changed, "Pens|0.031|0.03|1200");
    assert_eq!(seed(admin, less, true), [0, 0, 2, 0, 0]);
    let active: i64 = value(
        admin,
        "SELECT count(*) FROM public.agent_registry WHERE is_active",
        &[],
    );
    assert_eq!(active, 1);
    // Retired is not gone: the list brings them back where it says so, and only there.
    assert_eq!(seed(admin, LIST, false)[0..2], [0, 1]);
    let back = r#"[{"agent_name": "Eye", "agent_type": "guardian", "is_active": true}]"#;
    assert_eq!(seed(admin, back, false), [0, 1, 0, 0, 0]);
}

#[test]
fn a_list_with_a_mistake_is_refused_as_a_whole_and_the_place_is_named() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    let good = r#"{"agent_name": "A", "agent_type": "lord"}"#;
    for (list, said) in [
        (r#"{"agent_name": "A"}"#, "agents is not a list"),
        (r#"[7]"#, "agents[0] is not an object"),
        (
            r#"[{"agent_type": "lord"}]"#,
            "agents[0].agent_name is missing",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": null}]"#,
            "agents[0].agent_type is missing",
        ),
        (
            r#"[{"agent_name": "  ", "agent_type": "lord"}]"#,
            "agents[0].agent_name is \"  \"",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "king"}]"#,
            "agents[0].agent_type is \"king\"",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "id": "x"}]"#,
            "agents[0] has the key \"id\"",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "tool_access": "web"}]"#,
            "agents[0].tool_access is",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "tool_access": [1]}]"#,
            "agents[0].tool_access is",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "cost_per_execution": -1}]"#,
            "agents[0].cost_per_execution is -1",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "cost_per_execution": 1e400}]"#,
            "agents cannot be read",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "success_rate_percentage": 100.5}]"#,
            "agents[0].success_rate_percentage",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "avg_execution_time_seconds": 2147483648}]"#,
            "avg_execution_time_seconds is 2147483648",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "release_date": "2025-02-29"}]"#,
            "release_date is \"2025-02-29\"",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "release_date": "2026-02-01", "deprecated_date": "2026-01-01"}]"#,
            "before its release",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord"}, {"agent_name": "B", "agent_type": "lord", "version": "1.0"}]"#,
            "agents[1] is another \"B\"",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "capabilities": [{"capability_name": "X", "category": "magic"}]}]"#,
            "agents[0].capabilities[0].category is \"magic\"",
        ),
        (
            r#"[{"agent_name": "B", "agent_type": "lord", "capabilities": [{"capability_name": "X", "category": "research"}, {"capability_name": "X", "category": "research"}]}]"#,
            "agents[0].capabilities[1] is another \"X\"",
        ),
    ] {
        // With a good one behind it.
        let list = match list.strip_suffix("}]") {
            Some(list) => format!("{list}}}, {good}]"),
            None => list.to_string(),
        };
        let failure = fails_with(
            admin.query("SELECT * FROM codex.seed_agents($1::text::jsonb)", &[&list]),
            "22023",
        );
        assert!(failure.message.contains(said), "{list}: {failure}");
    }
    assert_eq!(rows(admin, "public.agent_registry"), 0);
    let deep = format!(
        r#"[{{"agent_name": "B", "agent_type": "lord", "model_config": {}{}}}]"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    fails_with(
        admin.query("SELECT * FROM codex.seed_agents($1::text::jsonb)", &[&deep]),
        "22023",
    );
}

#[test]
fn agents_are_found_by_the_words_of_a_capability() {
    let mut scene = Scene::new();
    let admin = &mut scene.admin;
    seed(admin, LIST, false);
    let find = |admin: &mut Client, arguments: &str| -> Vec<String> {
        admin
            .query(
                &format!("SELECT agent_name || ': ' || capability_name FROM codex.find_agents({arguments})"),
                &[],
            )
            .unwrap_or_else(|error| panic!("{}", codex_pg_test::Failure::from(&error)))
            .iter()
            .map(|row| row.get(0))
            .collect()
    };
    let (pen, scribe) = ("Pen: write MAILS", "Scribe: Write mails");
    assert_eq!(
        find(admin, "'Write mails'"),
        [pen, scribe, "Pen: Write long mails"],
        "exact names first, then the better"
    );
    assert_eq!(
        find(admin, "'  mails WRITE long '"),
        ["Pen: Write long mails"]
    );
    assert_eq!(
        find(admin, "'mails', category => 'analysis'"),
        ["Scribe: Judge mails"]
    );
    assert_eq!(find(admin, "'write', max_cost => 0.1"), [scribe]);
    assert_eq!(find(admin, "'write', max_rows => 1"), [pen]);
    assert_eq!(find(admin, "'write', agent_type => 'lord'").len(), 0);
    assert_eq!(find(admin, "'w%e'").len(), 0, "no wildcards");
    for change in [
        "UPDATE public.agent_capabilities SET is_enabled = false WHERE capability_name = 'write MAILS'",
        "UPDATE public.agent_registry SET deprecated_date = '2020-01-01' WHERE agent_name = 'Pen'",
    ] {
        admin.batch_execute(change).unwrap();
        assert!(!find(admin, "'write mails'").contains(&pen.to_string()));
    }
    assert_eq!(find(admin, "'write'"), [scribe]);
    admin
        .batch_execute("UPDATE public.agent_registry SET is_active = false")
        .unwrap();
    assert_eq!(find(admin, "'write'").len(), 0);
    for (arguments, state) in [
        ("NULL", "22004"),
        ("' '", "22023"),
        ("'write', category => 'magic'", "22023"),
        ("'write', agent_type => 'king'", "22023"),
        ("'write', max_cost => 'NaN'", "22023"),
        ("'write', max_rows => 0", "22023"),
    ] {
        fails_with(
            admin.query(
                &format!("SELECT * FROM codex.find_agents({arguments})"),
                &[],
            ),
            state,
        );
    }
}

#[test]
fn everybody_looks_for_agents_and_only_the_owner_seeds_them() {
    let mut scene = Scene::new();
    seed(&mut scene.admin, LIST, false);
    for kind in ["member", "service"] {
        let role = scene.db.role(kind);
        scene
            .admin
            .batch_execute(&format!("SELECT codex.grant_{kind}_role('{role}')"))
            .unwrap();
        let mut session = scene.db.login(kind);
        let found: i64 = value(
            &mut session,
            "SELECT count(*) FROM codex.find_agents('mails')",
            &[],
        );
        assert_eq!(found, 4);
        fails_with(
            session.query("SELECT * FROM codex.seed_agents('[]')", &[]),
            "42501",
        );
    }
}

#[test]
fn a_list_seeded_by_eight_sessions_at_once_is_there_once() {
    let mut scene = Scene::new();
    let added: i64 = scene
        .db
        .parallel(8, |_, session| seed(session, LIST, false)[0])
        .into_iter()
        .sum();
    assert_eq!(added, 3);
    assert_eq!(rows(&mut scene.admin, "public.agent_registry"), 3);
    assert_eq!(rows(&mut scene.admin, "public.agent_capabilities"), 4);
}
