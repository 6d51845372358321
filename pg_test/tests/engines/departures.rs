//! A person or a workspace leaves: nothing is forgotten, nothing is left over, nobody else is touched.

use crate::fill::{fill_every_table, picture, workspace_tables};
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, Failure, Uuid, error_message, fails_with, member, value, workspace};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Acme with Anna and Abe, Bolt with Bob and Anna; rows in every table.
struct Scene {
    db: Database,
    admin: Client,
    acme: Uuid,
    anna: Uuid,
    abe: Uuid,
    bolt: Uuid,
    bob: Uuid,
}

impl Scene {
    fn new() -> Self {
        let db = Database::migrated();
        let mut admin = db.admin();
        let acme = workspace(&mut admin, "Acme");
        let bolt = workspace(&mut admin, "Bolt");
        let anna = member(&mut admin, acme, "anna@acme.example");
        let abe = member(&mut admin, acme, "abe@acme.example");
        let bob = member(&mut admin, bolt, "bob@bolt.example");
        for (workspace, user) in [(acme, anna), (acme, abe), (bolt, bob), (bolt, anna)] {
            fill_every_table(&mut admin, workspace, user);
        }
        Self {
            db,
            admin,
            acme,
            anna,
            abe,
            bolt,
            bob,
        }
    }
}

fn export(client: &mut Client, workspace: Uuid) -> Vec<String> {
    client
        .query("SELECT codex.export_workspace($1)", &[&workspace])
        .unwrap_or_else(|error| panic!("{}", error_message(&error)))
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// The receipt without its zeros.
fn receipt(client: &mut Client, call: &str, id: Uuid) -> BTreeMap<(String, String), i64> {
    client
        .query(
            &format!("SELECT table_name, action, rows FROM codex.{call}"),
            &[&id],
        )
        .unwrap_or_else(|error| panic!("{call}: {}", error_message(&error)))
        .iter()
        .map(|row| ((row.get(0), row.get(1)), row.get(2)))
        .filter(|(_, rows)| *rows > 0)
        .collect()
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// How many rows of a workspace there are, by table.
fn counts(admin: &mut Client, workspace: Uuid) -> BTreeMap<String, i64> {
    let mut counts: BTreeMap<String, i64> = workspace_tables(admin)
        .into_iter()
        .map(|table| {
            let sql = format!("SELECT count(*) FROM {table} WHERE workspace_id = $1");
            let rows = value(admin, &sql, &[&workspace]);
            (table, rows)
        })
        .collect();
    counts.insert(
        "public.workspaces".to_string(),
        value(
            admin,
            "SELECT count(*) FROM public.workspaces WHERE id = $1",
            &[&workspace],
        ),
    );
    counts
}

/// The block of the manual that loads an export.
fn loader() -> String {
    let page = include_str!("../../../docs/engines/departures.md");
    let begin = page
        .find("CREATE TEMPORARY TABLE handed_over")
        .expect("the block");
    let block = &page[begin..];
    let block = &block[..block.find("```").expect("its end")];
    block
        .lines()
        .filter(|line| !line.starts_with("\\copy"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Loads an export as the manual says, into a database in which what it needs is there.
fn load(admin: &mut Client, lines: &[String]) {
    let loader = loader();
    let (table, rest) = loader.split_at(loader.find("-- A separator").expect("the comment"));
    admin.batch_execute(table).unwrap();
    for line in lines {
        // A parameter of type json goes as serde_json would write it; as text it goes as it is.
        admin
            .execute(
                "INSERT INTO handed_over (line) VALUES ($1::text::json)",
                &[line],
            )
            .unwrap();
    }
    admin
        .batch_execute(rest)
        .unwrap_or_else(|error| panic!("{}", error_message(&error)));
}

/// Copies the rows that an export says it needs from one database to another.
fn bring_what_is_needed(from: &mut Client, to: &mut Client, lines: &[String]) {
    for line in lines.iter().map(|line| json(line)) {
        let Some(table) = line["needs"].as_str() else {
            continue;
        };
        let id = line["row"]["id"].as_str().expect("an id");
        let row: String = value(
            from,
            &format!("SELECT to_json(t)::text FROM {table} AS t WHERE t.id::text = $1"),
            &[&id],
        );
        to.execute(
            &format!("INSERT INTO {table} SELECT * FROM json_populate_record(NULL::{table}, $1::text::json)"),
            &[&row],
        )
        .unwrap_or_else(|error| panic!("{table}: {}", error_message(&error)));
    }
}

#[test]
fn every_table_with_rows_of_a_workspace_is_covered() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let forgotten: Vec<String> = admin
        .query(
            "SELECT DISTINCT c.oid::regclass::text
             FROM pg_class AS c
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'workspace_id'
                 LEFT JOIN pg_constraint AS k ON k.conrelid = c.oid AND k.confrelid = 'public.workspaces'::regclass
                 LEFT JOIN pg_policy AS p ON p.polrelid = c.oid AND p.polname::text LIKE '%_workspace_isolation'
             WHERE c.relkind IN ('r', 'p')
                 AND n.nspname IN ('public', 'codex')
                 AND (a.attname IS NOT NULL OR k.oid IS NOT NULL OR p.oid IS NOT NULL)
                 AND NOT EXISTS (
                     SELECT FROM codex.departure_plan() AS d
                     WHERE d.table_name = format('%I.%I', n.nspname, c.relname) AND d.workspace_rows IS NOT NULL
                 )",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(forgotten, Vec::<String>::new());
    let tables = workspace_tables(&mut admin);
    assert!(tables.len() >= 20, "{tables:?}");
}

#[test]
fn every_reference_to_a_user_has_its_fate() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let without: Vec<String> = admin
        .query(
            "SELECT format('%s.%s', k.conrelid::regclass, a.attname)
             FROM pg_constraint AS k
                 JOIN pg_class AS c ON c.oid = k.conrelid
                 JOIN pg_namespace AS n ON n.oid = c.relnamespace
                 JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
             WHERE k.contype = 'f'
                 AND k.confrelid = 'public.users'::regclass
                 AND NOT EXISTS (
                     SELECT FROM codex.departure_plan() AS d
                     WHERE d.table_name = format('%I.%I', n.nspname, c.relname)
                         AND CASE
                             WHEN k.confdeltype = 'c' OR a.attnotnull THEN a.attname::text = ANY (string_to_array(d.user_rows_deleted, ', '))
                             ELSE a.attname::text = ANY (string_to_array(d.user_references_nulled, ', '))
                         END
                 )",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(without, Vec::<String>::new());
}

#[test]
fn an_export_loads_into_an_empty_database_and_every_row_is_the_same() {
    let mut scene = Scene::new();
    let lines = export(&mut scene.admin, scene.acme);
    let before = picture(&mut scene.admin, scene.acme);

    let elsewhere = Database::migrated();
    let mut there = elsewhere.admin();
    bring_what_is_needed(&mut scene.admin, &mut there, &lines);
    load(&mut there, &lines);
    assert_eq!(picture(&mut there, scene.acme), before);
    assert!(
        before.iter().all(|(_, rows)| !rows.is_empty()),
        "{before:?}"
    );
    let others: i64 = value(
        &mut there,
        "SELECT count(*) FROM public.workspaces WHERE id <> $1",
        &[&scene.acme],
    );
    assert_eq!(others, 0);
    assert_eq!(
        value::<i64>(
            &mut there,
            "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'O'",
            &[]
        ),
        0,
        "the loader leaves triggers as they were"
    );
}

#[test]
fn the_lines_of_an_export_are_what_the_manual_says_in_an_order_in_which_each_can_be_written() {
    let mut scene = Scene::new();
    // A tree of quests whose children were written before their parents.
    scene
        .admin
        .execute(
            "WITH ids AS (SELECT n, gen_random_uuid() AS id FROM generate_series(1, 40) AS n)
             INSERT INTO public.campaign_quests (id, workspace_id, campaign_id, name, parent_quest_id)
             SELECT i.id, c.workspace_id, c.id, 'quest ' || i.n, p.id
             FROM ids AS i
                 LEFT JOIN ids AS p ON p.n = i.n / 2
                 CROSS JOIN (SELECT * FROM public.campaigns WHERE workspace_id = $1 LIMIT 1) AS c
             ORDER BY i.n DESC",
            &[&scene.acme],
        )
        .unwrap();
    let lines = export(&mut scene.admin, scene.acme);
    let first = json(&lines[0]);
    assert_eq!(first["export"]["format"], 1);
    assert_eq!(first["export"]["workspace"], scene.acme.to_string());
    let expected = counts(&mut scene.admin, scene.acme);
    let last = json(lines.last().expect("a last line"));
    let told: BTreeMap<String, i64> = last["end"]
        .as_object()
        .expect("counts")
        .iter()
        .map(|(table, rows)| (table.clone(), rows.as_i64().expect("a number")))
        .collect();
    assert_eq!(told, expected);

    let elsewhere = Database::migrated();
    let mut there = elsewhere.admin();
    bring_what_is_needed(&mut scene.admin, &mut there, &lines);
    let mut rows = 0;
    for line in &lines {
        let Some(table) = json(line)["table"].as_str().map(str::to_owned) else {
            continue;
        };
        // One statement a line: a foreign key that pointed forward would refuse.
        there
            .execute(
                &format!(
                    "INSERT INTO {table} SELECT * FROM json_populate_record(NULL::{table}, $1::text::json -> 'row')"
                ),
                &[line],
            )
            .unwrap_or_else(|error| panic!("{}: {line}", error_message(&error)));
        rows += 1;
    }
    assert_eq!(rows, expected.values().sum::<i64>());
}

/// Tables of an application, one for each way in which a row can belong.
const OF_THE_APPLICATION: &str = r#"
CREATE SCHEMA "App";
CREATE TABLE "App"."Odd ""table""" (
    "the id" integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant uuid NOT NULL,
    "number" numeric, amount float8, real4 real, moment timestamptz, span interval, bytes bytea, kept json, searched jsonb, words text[], day date,
    doubled numeric GENERATED ALWAYS AS ("number" * 2) STORED
);
SELECT codex.protect('"App"."Odd ""table"""', workspace_column => 'tenant');
CREATE TABLE public.by_reference (id integer PRIMARY KEY, campaign_id uuid NOT NULL REFERENCES public.campaigns (id));
CREATE TABLE public.by_reference_of_reference (id integer PRIMARY KEY, parent_id integer NOT NULL REFERENCES public.by_reference (id));
CREATE TABLE public.measured (workspace_id uuid NOT NULL, day date NOT NULL, reading integer) PARTITION BY RANGE (day);
CREATE TABLE public.measured_2025 PARTITION OF public.measured FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE public.measured_2026 PARTITION OF public.measured FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE public.notes (id integer PRIMARY KEY, workspace_id uuid NOT NULL REFERENCES public.workspaces (id), reply_to integer REFERENCES public.notes (id), see_also integer REFERENCES public.notes (id));
CREATE TABLE public.long_notes (body text, PRIMARY KEY (id)) INHERITS (public.notes);
CREATE TABLE public.hen (id integer PRIMARY KEY, workspace_id uuid NOT NULL, egg_id integer);
CREATE TABLE public.egg (id integer PRIMARY KEY, workspace_id uuid NOT NULL, hen_id integer NOT NULL REFERENCES public.hen (id));
ALTER TABLE public.hen ADD FOREIGN KEY (egg_id) REFERENCES public.egg (id);
CREATE TABLE public.bookmarks (id integer PRIMARY KEY, what text, campaign_id uuid REFERENCES public.campaigns (id));
ALTER TABLE public.users ADD COLUMN last_workspace_id uuid REFERENCES public.workspaces (id);
"#;

fn fill_the_application(admin: &mut Client, workspace: Uuid, base: i32) {
    admin
        .execute(
            r#"INSERT INTO "App"."Odd ""table""" (tenant, "number", amount, real4, moment, span, bytes, kept, searched, words, day)
               VALUES ($1, 'NaN', 'Infinity', 0.1, 'infinity', '-1 year +2 days -03:04:05.678901', '\x00ff', E'{"a" :\n\r 1.50}', '{"b": 1.500, "c": "\u00e9\n"}', ARRAY['a', NULL, E'"\\\t'], '-infinity'),
                      ($1, 12345678901234567890.123456789, 1e-300, 3.4e38, '2026-03-29 02:30:00.123456+01', '1 mon', '', '[]', '{"none": null}', '{}', '0044-03-15 BC')"#,
            &[&workspace],
        )
        .unwrap();
    let sql = format!(
        "INSERT INTO public.by_reference SELECT {base}, id FROM public.campaigns WHERE workspace_id = '{workspace}' LIMIT 1;
         INSERT INTO public.by_reference_of_reference VALUES ({base}, {base}), ({base} + 1, {base});
         INSERT INTO public.measured VALUES ('{workspace}', '2025-05-05', 1), ('{workspace}', '2026-05-05', 2);
         INSERT INTO public.notes VALUES ({base} + 2, '{workspace}', NULL, NULL), ({base} + 1, '{workspace}', {base} + 2, NULL), ({base}, '{workspace}', {base} + 1, {base} + 2), ({base} + 3, '{workspace}', {base} + 3, {base});
         INSERT INTO public.long_notes VALUES ({base} + 9, '{workspace}', NULL, NULL, 'long');
         INSERT INTO public.hen VALUES ({base}, '{workspace}');
         INSERT INTO public.egg VALUES ({base}, '{workspace}', {base});
         UPDATE public.hen SET egg_id = {base} WHERE id = {base};
         INSERT INTO public.bookmarks SELECT {base}, 'kept', id FROM public.campaigns WHERE workspace_id = '{workspace}' LIMIT 1;"
    );
    admin
        .batch_execute(&sql)
        .unwrap_or_else(|error| panic!("{}", error_message(&error)));
}

#[test]
fn tables_of_the_application_take_part_however_their_rows_belong() {
    let mut scene = Scene::new();
    scene.admin.batch_execute(OF_THE_APPLICATION).unwrap();
    fill_the_application(&mut scene.admin, scene.acme, 100);
    fill_the_application(&mut scene.admin, scene.bolt, 200);
    scene
        .admin
        .execute(
            "UPDATE public.users SET last_workspace_id = $1",
            &[&scene.acme],
        )
        .unwrap();
    let of_app = |admin: &mut Client| -> BTreeMap<String, String> {
        [r#""App"."Odd ""table""""#, "public.by_reference", "public.by_reference_of_reference", "public.measured", "public.notes", "public.hen", "public.egg", "public.bookmarks", "public.users"]
            .into_iter()
            .map(|table| {
                let rows = value(
                    admin,
                    &format!("SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM {table} AS t"),
                    &[],
                );
                // What stands between the values of a json column may change.
                let rows: String = rows;
                (table.to_string(), rows.replace("\n\r", "  "))
            })
            .collect()
    };
    let before = of_app(&mut scene.admin);

    // Settings of the session change nothing in what is written.
    scene
        .admin
        .batch_execute("SET TimeZone = 'Asia/Kolkata'; SET IntervalStyle = 'sql_standard'; SET DateStyle = 'SQL, DMY'; SET extra_float_digits = -3; SET bytea_output = 'escape'")
        .unwrap();
    let lines = export(&mut scene.admin, scene.acme);
    let zone: String = value(&mut scene.admin, "SHOW TimeZone", &[]);
    assert_eq!(zone, "Asia/Kolkata", "and they are as they were");
    scene.admin.batch_execute("RESET ALL").unwrap();
    let rows = |lines: &[String]| -> Vec<String> {
        let rows = lines.iter().filter(|line| line.starts_with("{\"table\""));
        rows.cloned().collect()
    };
    assert_eq!(rows(&lines), rows(&export(&mut scene.admin, scene.acme)));
    assert!(lines.iter().all(|line| !line.contains(['\n', '\r'])));

    // Erased here and loaded again, everything is as it was, but for what only pointed at it.
    let erased = receipt(&mut scene.admin, "erase_workspace($1)", scene.acme);
    for (table, rows) in [
        (r#""App"."Odd ""table""""#, 2),
        ("public.by_reference", 1),
        ("public.by_reference_of_reference", 2),
        ("public.measured", 2),
        ("public.notes", 4),
        ("public.long_notes", 1),
        ("public.hen", 1),
        ("public.egg", 1),
    ] {
        assert_eq!(
            erased.get(&(table.to_string(), "deleted".to_string())),
            Some(&rows),
            "{table}: {erased:?}"
        );
    }
    for (table, rows) in [
        ("public.bookmarks", 1),
        ("public.users", 3),
        ("public.hen", 1),
    ] {
        assert_eq!(
            erased.get(&(table.to_string(), "loosened".to_string())),
            Some(&rows),
            "{table}: {erased:?}"
        );
    }
    let hens: i64 = value(&mut scene.admin, "SELECT count(*) FROM public.hen", &[]);
    assert_eq!(hens, 1, "Bolt's");
    // The hen comes before its egg, and points at it: a circle is for whoever may switch foreign keys off.
    scene
        .admin
        .batch_execute("SET session_replication_role = replica")
        .unwrap();
    load(&mut scene.admin, &lines);
    scene
        .admin
        .batch_execute("RESET session_replication_role")
        .unwrap();
    scene
        .admin
        .execute(
            "UPDATE public.bookmarks SET campaign_id = (SELECT campaign_id FROM public.by_reference WHERE id = 100) WHERE id = 100",
            &[],
        )
        .unwrap();
    scene
        .admin
        .execute(
            "UPDATE public.users SET last_workspace_id = $1",
            &[&scene.acme],
        )
        .unwrap();
    let mut after = of_app(&mut scene.admin);
    // updated_at of users is kept by a trigger.
    let mut before = before;
    after.remove("public.users");
    before.remove("public.users");
    for (table, rows) in before {
        assert_eq!(after.get(&table), Some(&rows), "{table}");
    }
}

#[test]
fn an_export_is_of_one_moment_and_holds_a_batch_of_rows_only() {
    let mut scene = Scene::new();
    scene
        .admin
        .execute(
            "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message)
             SELECT $1, $2, 'message', 'n' || n, repeat('x', 1000) FROM generate_series(1, 20000) AS n",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    let mut reader = scene.db.admin();
    let mut reading = reader.transaction().unwrap();
    reading
        .batch_execute(&format!(
            "DECLARE lines NO SCROLL CURSOR FOR SELECT codex.export_workspace('{}')",
            scene.acme
        ))
        .unwrap();
    let held = |reading: &mut codex_pg_test::postgres::Transaction<'_>| -> i64 {
        value(
            reading,
            "SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts",
            &[],
        )
    };
    let mut lines: Vec<String> = Vec::new();
    for row in reading.query("FETCH 300 FROM lines", &[]).unwrap() {
        lines.push(row.get(0));
    }
    let at_first = held(&mut reading);
    // What others do meanwhile is not of this moment.
    let campaign: Uuid = value(
        &mut scene.admin,
        "INSERT INTO public.campaigns (workspace_id, name) VALUES ($1, 'Late') RETURNING id",
        &[&scene.acme],
    );
    scene
        .admin
        .execute(
            "INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ($1, $2, 'late')",
            &[&scene.acme, &campaign],
        )
        .unwrap();
    let mut most = at_first;
    loop {
        let rows = reading.query("FETCH 2000 FROM lines", &[]).unwrap();
        if rows.is_empty() {
            break;
        }
        lines.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        most = most.max(held(&mut reading));
    }
    reading.commit().unwrap();
    assert!(lines.len() > 20_000);
    assert!(
        !lines
            .iter()
            .any(|line| line.contains(&campaign.to_string())),
        "of one moment"
    );
    let end = json(lines.last().expect("a last line"));
    assert_eq!(
        end["end"]["public.user_notifications"],
        lines
            .iter()
            .filter(|line| line.starts_with("{\"table\": \"public.user_notifications\""))
            .count()
    );
    assert!(
        most - at_first < 2_000_000,
        "holds {} bytes more after 20 MB than after the first rows",
        most - at_first
    );
}

#[test]
fn a_workspace_is_exported_by_its_service_and_by_nobody_else() {
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
    let owners = export(&mut scene.admin, scene.acme);
    let mut service = scene.db.login("service");
    let call = "SELECT codex.export_workspace($1)";
    fails_with(service.query(call, &[&scene.acme]), "42501");
    service
        .batch_execute(&format!("SET app.current_workspace_id = '{}'", scene.acme))
        .unwrap();
    let rows = |lines: &[String]| -> Vec<String> { lines[1..].to_vec() };
    assert_eq!(rows(&export(&mut service, scene.acme)), rows(&owners));
    fails_with(service.query(call, &[&scene.bolt]), "42501");
    let mut member = scene.db.login("member");
    member
        .batch_execute(&format!(
            "SET app.current_workspace_id = '{}'; SET app.current_user_id = '{}'",
            scene.acme, scene.anna
        ))
        .unwrap();
    fails_with(member.query(call, &[&scene.acme]), "42501");
    for session in [&mut service, &mut member] {
        for call in [
            "SELECT * FROM codex.erase_workspace($1)",
            "SELECT * FROM codex.erase_user($1)",
        ] {
            fails_with(session.query(call, &[&scene.acme]), "42501");
        }
        fails_with(
            session.query("SELECT * FROM codex.departure_plan()", &[]),
            "42501",
        );
        fails_with(session.query("TABLE codex.departures", &[]), "42501");
    }
    // Policies of somebody else's make may hide rows: then there is no export rather than a part.
    scene
        .admin
        .batch_execute(
            "CREATE POLICY drafts ON public.campaigns AS RESTRICTIVE USING (status <> 'draft')",
        )
        .unwrap();
    let failure = fails_with(service.query(call, &[&scene.acme]), "42501");
    assert_eq!(
        failure.message,
        "row-level security may hide rows of public.campaigns from this role"
    );
    assert_eq!(rows(&export(&mut scene.admin, scene.acme)), rows(&owners));
}

#[test]
fn what_is_not_there_or_not_given_is_refused() {
    let mut scene = Scene::new();
    let nobody = Uuid::new_v4();
    let failure = fails_with(
        scene
            .admin
            .query("SELECT codex.export_workspace($1)", &[&nobody]),
        "P0002",
    );
    assert_eq!(failure.message, format!("there is no workspace {nobody}"));
    for call in [
        "SELECT codex.export_workspace(NULL)",
        "SELECT codex.erase_workspace(NULL)",
        "SELECT codex.erase_user(NULL)",
        "SELECT codex.erase_user(gen_random_uuid(), NULL)",
    ] {
        fails_with(scene.admin.query(call, &[]), "22004");
    }
    assert_eq!(
        receipt(&mut scene.admin, "erase_workspace($1)", nobody).len(),
        0
    );
    assert_eq!(
        receipt(&mut scene.admin, "erase_user($1, true)", nobody).len(),
        0
    );
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        for call in ["erase_workspace", "erase_user"] {
            let mut transaction = scene.admin.transaction().unwrap();
            transaction
                .batch_execute(&format!("SET TRANSACTION ISOLATION LEVEL {level}"))
                .unwrap();
            fails_with(
                transaction.query(&format!("SELECT codex.{call}($1)"), &[&scene.acme]),
                "55000",
            );
        }
    }
    let receipts: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM codex.departures",
        &[],
    );
    assert_eq!(receipts, 0);
}

#[test]
fn an_owner_from_whom_rows_are_hidden_is_refused() {
    let mut scene = Scene::new();
    let owner = scene.db.role("owner");
    scene
        .admin
        .batch_execute(&format!(
            "SELECT codex.grant_operator_role('{owner}');
             GRANT SELECT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, codex TO {owner}"
        ))
        .unwrap();
    let mut session = scene.db.login("owner");
    for call in ["erase_workspace", "erase_user"] {
        let failure = fails_with(
            session.query(&format!("SELECT * FROM codex.{call}($1)"), &[&scene.acme]),
            "42501",
        );
        assert!(
            failure
                .message
                .starts_with("row-level security hides rows of"),
            "{failure}"
        );
    }
    let rows: i64 = value(
        &mut scene.admin,
        "SELECT count(*) FROM public.campaigns WHERE workspace_id = $1",
        &[&scene.acme],
    );
    assert!(rows > 0);
}

#[test]
fn an_erased_workspace_leaves_nothing_and_nobody_else_is_touched() {
    let mut scene = Scene::new();
    // Its delivery goes with it, by a trigger, and is counted all the same.
    scene
        .admin
        .execute(
            "SELECT codex.send_user_notification($1, $2, 'message', 'x', 'y', 'email')",
            &[&scene.acme, &scene.anna],
        )
        .unwrap();
    let expected = counts(&mut scene.admin, scene.acme);
    let others = picture(&mut scene.admin, scene.bolt);
    let users: String = value(
        &mut scene.admin,
        "SELECT string_agg(u::text, ',' ORDER BY u.id) FROM public.users AS u",
        &[],
    );
    let erased = receipt(&mut scene.admin, "erase_workspace($1)", scene.acme);
    let erased: BTreeMap<String, i64> = erased
        .into_iter()
        .map(|((table, action), rows)| {
            assert_eq!(action, "deleted");
            (table, rows)
        })
        .collect();
    assert_eq!(erased, expected);
    assert_eq!(
        counts(&mut scene.admin, scene.acme).values().sum::<i64>(),
        0
    );
    assert_eq!(picture(&mut scene.admin, scene.bolt), others);
    assert_eq!(
        value::<String>(
            &mut scene.admin,
            "SELECT string_agg(u::text, ',' ORDER BY u.id) FROM public.users AS u",
            &[]
        ),
        users
    );

    assert_eq!(
        receipt(&mut scene.admin, "erase_workspace($1)", scene.acme).len(),
        0,
        "again: nothing"
    );
    let kept = scene
        .admin
        .query(
            "SELECT kind, subject, rows_deleted, rows_anonymised FROM codex.departures",
            &[],
        )
        .unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].get::<_, &str>(0), "workspace");
    assert_eq!(kept[0].get::<_, Uuid>(1), scene.acme);
    assert_eq!(kept[0].get::<_, i64>(2), expected.values().sum::<i64>());
    assert_eq!(kept[0].get::<_, i64>(3), 0);
}

/// Everything in which a user can be found: rows that refer to the user by a foreign key, by table and column.
fn traces(admin: &mut Client, user: Uuid) -> BTreeMap<String, i64> {
    let columns: Vec<(String, String)> = admin
        .query(
            "SELECT k.conrelid::regclass::text, quote_ident(a.attname)
             FROM pg_constraint AS k
                 JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
             WHERE k.contype = 'f' AND k.confrelid = 'public.users'::regclass",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    columns
        .into_iter()
        .filter_map(|(table, column)| {
            let rows: i64 = value(
                admin,
                &format!("SELECT count(*) FROM {table} WHERE {column} = $1"),
                &[&user],
            );
            (rows > 0).then(|| (format!("{table}.{column}"), rows))
        })
        .collect()
}

#[test]
fn an_erased_user_is_nowhere_and_what_the_workspaces_keep_is_all_there() {
    let mut scene = Scene::new();
    let personal: Vec<String> = scene
        .admin
        .query(
            "SELECT table_name FROM codex.departure_plan() WHERE user_rows_deleted IS NOT NULL",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    let before = [scene.acme, scene.bolt].map(|workspace| counts(&mut scene.admin, workspace));
    let neighbours = [scene.abe, scene.bob].map(|user| traces(&mut scene.admin, user));
    assert!(traces(&mut scene.admin, scene.anna).len() >= 12);

    let erased = receipt(&mut scene.admin, "erase_user($1)", scene.anna);
    assert_eq!(traces(&mut scene.admin, scene.anna), BTreeMap::new());
    assert_eq!(
        [scene.abe, scene.bob].map(|user| traces(&mut scene.admin, user)),
        neighbours
    );
    assert_eq!(
        erased.get(&("public.users".to_string(), "kept".to_string())),
        Some(&1)
    );
    let after = [scene.acme, scene.bolt].map(|workspace| counts(&mut scene.admin, workspace));
    for table in before[0].keys() {
        let fewer: i64 = (0..2).map(|n| before[n][table] - after[n][table]).sum();
        let told = erased
            .get(&(table.clone(), "deleted".to_string()))
            .copied()
            .unwrap_or(0);
        assert_eq!(fewer, told, "{table}");
        if !personal.contains(table) {
            assert_eq!(fewer, 0, "{table} is the workspace's");
        }
    }
    assert_eq!(
        receipt(&mut scene.admin, "erase_user($1)", scene.anna)
            .into_keys()
            .collect::<Vec<_>>(),
        [("public.users".to_string(), "kept".to_string())],
        "again: nothing but the user's own row"
    );
    let gone = receipt(&mut scene.admin, "erase_user($1, true)", scene.anna);
    assert_eq!(
        gone.into_iter().collect::<Vec<_>>(),
        [(("public.users".to_string(), "deleted".to_string()), 1)]
    );
    assert_eq!(
        receipt(&mut scene.admin, "erase_user($1, true)", scene.anna).len(),
        0
    );
    let receipts: Vec<(Uuid, i64, i64)> = scene
        .admin
        .query(
            "SELECT subject, rows_deleted, rows_anonymised FROM codex.departures ORDER BY id",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let sum = |wanted: &str| -> i64 {
        erased
            .iter()
            .filter(|((_, action), _)| action == wanted)
            .map(|(_, rows)| rows)
            .sum()
    };
    assert_eq!(
        receipts,
        [
            (scene.anna, sum("deleted"), sum("anonymised")),
            (scene.anna, 1, 0)
        ]
    );
}

#[test]
fn a_user_with_whom_a_workspace_would_go_is_refused() {
    let mut scene = Scene::new();
    scene
        .admin
        .batch_execute(&format!(
            "ALTER TABLE public.workspaces ADD COLUMN owner_id uuid REFERENCES public.users (id);
             UPDATE public.workspaces SET owner_id = '{}' WHERE id = '{}';
             UPDATE public.workspaces SET owner_id = '{}' WHERE id = '{}';
             ALTER TABLE public.workspaces ALTER COLUMN owner_id SET NOT NULL",
            scene.anna, scene.acme, scene.bob, scene.bolt
        ))
        .unwrap();
    let before = traces(&mut scene.admin, scene.anna);
    let failure = fails_with(
        scene
            .admin
            .query("SELECT * FROM codex.erase_user($1, true)", &[&scene.anna]),
        "55000",
    );
    assert_eq!(
        failure.message,
        format!(
            "workspaces cannot be without user {}, by public.workspaces.owner_id: {}",
            scene.anna, scene.acme
        )
    );
    assert_eq!(traces(&mut scene.admin, scene.anna), before);
    receipt(&mut scene.admin, "erase_workspace($1)", scene.acme);
    receipt(&mut scene.admin, "erase_user($1, true)", scene.anna);
    assert_eq!(traces(&mut scene.admin, scene.anna), BTreeMap::new());
}

#[test]
fn an_append_only_table_lets_an_erasure_through_and_nothing_else() {
    let mut scene = Scene::new();
    let page = include_str!("../../../docs/engines/departures.md");
    let begin = page
        .find("CREATE FUNCTION public.refuse_change()")
        .expect("the example");
    let example = &page[begin..];
    scene
        .admin
        .batch_execute(&example[..example.find("```").expect("its end")])
        .unwrap();
    scene
        .admin
        .batch_execute(&format!(
            "CREATE TABLE public.journal (id integer PRIMARY KEY, workspace_id uuid NOT NULL REFERENCES public.workspaces (id), by_whom uuid REFERENCES public.users (id));
             CREATE TRIGGER journal_append_only BEFORE UPDATE OR DELETE ON public.journal FOR EACH ROW EXECUTE FUNCTION public.refuse_change();
             INSERT INTO public.journal VALUES (1, '{}', '{anna}'), (2, '{}', '{anna}')",
            scene.acme, scene.bolt, anna = scene.anna
        ))
        .unwrap();
    fails_with(
        scene.admin.batch_execute("DELETE FROM public.journal"),
        "P0001",
    );
    receipt(&mut scene.admin, "erase_user($1)", scene.anna);
    receipt(&mut scene.admin, "erase_workspace($1)", scene.acme);
    let left: Vec<(i32, Option<Uuid>)> = scene
        .admin
        .query("SELECT id, by_whom FROM public.journal", &[])
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(left, [(2, None)]);
    assert!(!value::<bool>(
        &mut scene.admin,
        "SELECT codex.is_erasing()",
        &[]
    ));
    // An erasure that failed leaves no door open either.
    fails_with(
        scene.admin.query("SELECT codex.erase_workspace(NULL)", &[]),
        "22004",
    );
    scene
        .admin
        .batch_execute("CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; CREATE TRIGGER no BEFORE DELETE ON public.campaigns FOR EACH ROW EXECUTE FUNCTION public.no()")
        .unwrap();
    let all_there = picture(&mut scene.admin, scene.bolt);
    fails_with(
        scene
            .admin
            .query("SELECT codex.erase_workspace($1)", &[&scene.bolt]),
        "P0001",
    );
    assert_eq!(
        picture(&mut scene.admin, scene.bolt),
        all_there,
        "all or nothing"
    );
    fails_with(
        scene.admin.batch_execute("DELETE FROM public.journal"),
        "P0001",
    );
}

#[test]
fn no_row_is_left_over_by_writers_at_the_same_moment() {
    let mut scene = Scene::new();
    let (acme, bolt, anna) = (scene.acme, scene.bolt, scene.anna);
    let others = picture(&mut scene.admin, bolt);
    let (written, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let ends = scene.db.parallel(9, |number, client| {
        if number == 0 {
            while written.load(Ordering::Relaxed) < 60 {
                std::thread::yield_now();
            }
            let erased = client
                .query("SELECT * FROM codex.erase_workspace($1)", &[&acme])
                .map_err(|error| Failure::from(&error));
            over.store(true, Ordering::Relaxed);
            return erased.map(|_| Vec::new());
        }
        let mut ends = Vec::new();
        let mut after = 0;
        while after < 3 {
            after += usize::from(over.load(Ordering::Relaxed));
            let written_one = (|| {
                let mut t = client.transaction()?;
                // A row that the erasure wants is held before the workspace is asked for: what makes a deadlock.
                t.execute("UPDATE public.campaigns SET total_reach = total_reach + 1 WHERE workspace_id = $1 AND id = (SELECT id FROM public.campaigns WHERE workspace_id = $1 ORDER BY id LIMIT 1)", &[&acme])?;
                let campaign: Uuid = t
                    .query_one("INSERT INTO public.campaigns (workspace_id, name, created_by) VALUES ($1, 'New', $2) RETURNING id", &[&acme, &anna])?
                    .get(0);
                t.execute("INSERT INTO public.campaign_quests (workspace_id, campaign_id, name) VALUES ($1, $2, 'q')", &[&acme, &campaign])?;
                t.execute("SELECT codex.create_system_alert($1, 'error', 'high', 'x', 'y', p_dedup_key => $2)", &[&acme, &format!("k{number}")])?;
                t.execute("SELECT codex.send_user_notification($1, $2, 'message', 'x', 'y')", &[&acme, &anna])?;
                t.commit()
            })();
            match written_one {
                Ok(()) => {
                    written.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => ends.push(Failure::from(&error)),
            }
        }
        Ok(ends)
    });
    for end in ends {
        for failure in end.expect("the erasure goes through") {
            assert!(
                ["23503", "40P01", "42501"].contains(&failure.sqlstate.as_str()),
                "{failure}"
            );
        }
    }
    assert_eq!(counts(&mut scene.admin, acme).values().sum::<i64>(), 0);
    assert_eq!(picture(&mut scene.admin, bolt), others);
}

#[test]
fn two_erasures_at_once_are_one() {
    let scene = Scene::new();
    let sums = scene.db.parallel(6, |_, client| -> i64 {
        value(
            client,
            "SELECT sum(rows)::bigint FROM codex.erase_workspace($1)",
            &[&scene.acme],
        )
    });
    assert_eq!(sums.iter().filter(|sum| **sum > 0).count(), 1, "{sums:?}");
    let sums = scene.db.parallel(6, |_, client| -> i64 {
        value(
            client,
            "SELECT sum(rows)::bigint FROM codex.erase_user($1, true)",
            &[&scene.anna],
        )
    });
    assert_eq!(sums.iter().filter(|sum| **sum > 0).count(), 1, "{sums:?}");
    let mut admin = scene.db.admin();
    let receipts: i64 = value(&mut admin, "SELECT count(*) FROM codex.departures", &[]);
    assert_eq!(receipts, 2);
}

#[test]
fn no_row_of_an_erased_user_is_left_over_by_writers_at_the_same_moment() {
    let mut scene = Scene::new();
    let (acme, anna) = (scene.acme, scene.anna);
    let (written, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let ends = scene.db.parallel(7, |number, client| {
        if number == 0 {
            while written.load(Ordering::Relaxed) < 60 {
                std::thread::yield_now();
            }
            let erased = client
                .query("SELECT * FROM codex.erase_user($1, true)", &[&anna])
                .map_err(|error| Failure::from(&error));
            over.store(true, Ordering::Relaxed);
            return erased.map(|_| Vec::new());
        }
        let mut ends = Vec::new();
        let mut after = 0;
        while after < 3 {
            after += usize::from(over.load(Ordering::Relaxed));
            let sql = if number % 2 == 0 {
                "SELECT codex.send_user_notification($1, $2, 'message', 'x', 'y')::text"
            } else {
                "INSERT INTO public.campaigns (workspace_id, name, created_by) VALUES ($1, 'New', $2) RETURNING id::text"
            };
            match client.query(sql, &[&acme, &anna]) {
                Ok(_) => {
                    written.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => ends.push(Failure::from(&error)),
            }
        }
        Ok(ends)
    });
    for end in ends {
        for failure in end.expect("the erasure goes through") {
            assert!(
                ["23503", "40P01", "42501"].contains(&failure.sqlstate.as_str()),
                "{failure}"
            );
        }
    }
    assert_eq!(traces(&mut scene.admin, anna), BTreeMap::new());
}

/// What the model knows of a row: where it is, whom it goes with, and who made it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    table: &'static str,
    workspace: usize,
    goes_with: Option<usize>,
    made_by: Option<usize>,
}

/// Workspaces and users by their numbers, as the model has them.
#[derive(Default)]
struct Model {
    workspaces: Vec<(Uuid, bool)>,
    users: Vec<(Uuid, bool)>,
    rows: BTreeMap<Uuid, Known>,
}

impl Model {
    fn erase_user(&mut self, user: usize) -> (i64, i64) {
        let before = self.rows.len();
        self.rows.retain(|_, row| row.goes_with != Some(user));
        let mut anonymised = 0;
        for row in self
            .rows
            .values_mut()
            .filter(|row| row.made_by == Some(user))
        {
            row.made_by = None;
            anonymised += 1;
        }
        ((before - self.rows.len()) as i64, anonymised)
    }

    fn erase_workspace(&mut self, workspace: usize) -> i64 {
        let before = self.rows.len();
        self.rows.retain(|_, row| row.workspace != workspace);
        let there = std::mem::replace(&mut self.workspaces[workspace].1, false);
        (before - self.rows.len()) as i64 + i64::from(there)
    }
}

/// The rows of the tables that the model knows, as the database has them.
fn known_to(admin: &mut Client, model: &Model) -> BTreeMap<Uuid, Known> {
    let mut found = BTreeMap::new();
    for (table, goes_with, made_by) in [
        ("public.campaigns", "NULL::uuid", "created_by"),
        ("public.campaign_quests", "NULL::uuid", "created_by"),
        ("public.user_notifications", "user_id", "NULL::uuid"),
        ("public.user_stats", "user_id", "NULL::uuid"),
    ] {
        for row in admin
            .query(
                &format!("SELECT id, workspace_id, {goes_with}, {made_by} FROM {table}"),
                &[],
            )
            .unwrap()
        {
            let user = |place: usize| -> Option<usize> {
                let id: Option<Uuid> = row.get(place);
                id.map(|id| {
                    model
                        .users
                        .iter()
                        .position(|(user, _)| *user == id)
                        .expect("a user of the model")
                })
            };
            let workspace: Uuid = row.get(1);
            found.insert(
                row.get(0),
                Known {
                    table,
                    workspace: model
                        .workspaces
                        .iter()
                        .position(|(id, _)| *id == workspace)
                        .expect("a workspace of the model"),
                    goes_with: user(2),
                    made_by: user(3),
                },
            );
        }
    }
    found
}

#[test]
fn any_sequence_of_writing_and_erasing_ends_where_the_model_does() {
    let seed = crate::dice::seed("departures against a model");
    for game in 0..3 {
        let mut dice = crate::dice::Dice::new(seed, game);
        let db = Database::migrated();
        let mut admin = db.admin();
        let mut model = Model::default();
        for step in 0..120 {
            let workspaces: Vec<usize> = (0..model.workspaces.len())
                .filter(|n| model.workspaces[*n].1)
                .collect();
            let users: Vec<usize> = (0..model.users.len())
                .filter(|n| model.users[*n].1)
                .collect();
            let roll = dice.below(20);
            if roll == 0 || workspaces.is_empty() {
                let id = workspace(&mut admin, &format!("W{step}"));
                model.workspaces.push((id, true));
            } else if roll <= 2 || users.is_empty() {
                let id = codex_pg_test::user(&mut admin, &format!("u{step}@x.example"));
                model.users.push((id, true));
            } else if roll == 3 {
                // An id that was erased before is taken as well: nothing is found.
                let gone = dice.below(model.workspaces.len());
                let expected = model.erase_workspace(gone);
                let told: i64 = value(
                    &mut admin,
                    "SELECT sum(rows)::bigint FROM codex.erase_workspace($1)",
                    &[&model.workspaces[gone].0],
                );
                assert_eq!(told, expected, "step {step} of game {game}");
            } else if roll == 4 {
                let gone = dice.below(model.users.len());
                let with_row = dice.once_in(2);
                let (mut deleted, anonymised) = model.erase_user(gone);
                if with_row {
                    deleted += i64::from(std::mem::replace(&mut model.users[gone].1, false));
                }
                let row = admin
                    .query_one(
                        "SELECT coalesce(sum(rows) FILTER (WHERE action = 'deleted'), 0)::bigint,
                                coalesce(sum(rows) FILTER (WHERE action = 'anonymised'), 0)::bigint
                         FROM codex.erase_user($1, $2)",
                        &[&model.users[gone].0, &with_row],
                    )
                    .unwrap();
                assert_eq!(
                    (row.get::<_, i64>(0), row.get::<_, i64>(1)),
                    (deleted, anonymised),
                    "step {step} of game {game}"
                );
            } else {
                let (w, u) = (*dice.pick(&workspaces), *dice.pick(&users));
                let (workspace, user) = (model.workspaces[w].0, model.users[u].0);
                let campaigns: Vec<Uuid> = model
                    .rows
                    .iter()
                    .filter(|(_, row)| row.workspace == w && row.table == "public.campaigns")
                    .map(|(id, _)| *id)
                    .collect();
                let (table, personal, sql) = match (dice.below(4), campaigns.first()) {
                    (0, Some(campaign)) => (
                        "public.campaign_quests",
                        false,
                        format!("INSERT INTO public.campaign_quests (workspace_id, campaign_id, name, created_by) VALUES ($1, '{campaign}', 'q', $2) RETURNING id"),
                    ),
                    (1, _) => (
                        "public.user_notifications",
                        true,
                        "INSERT INTO public.user_notifications (workspace_id, user_id, notification_type, title, message) VALUES ($1, $2, 'message', 'x', 'y') RETURNING id".to_string(),
                    ),
                    (2, _) => (
                        "public.user_stats",
                        true,
                        "INSERT INTO public.user_stats (workspace_id, user_id) VALUES ($1, $2) ON CONFLICT (workspace_id, user_id) DO UPDATE SET login_count = 1 RETURNING id".to_string(),
                    ),
                    _ => (
                        "public.campaigns",
                        false,
                        "INSERT INTO public.campaigns (workspace_id, name, created_by) VALUES ($1, 'c', $2) RETURNING id".to_string(),
                    ),
                };
                let id: Uuid = value(&mut admin, &sql, &[&workspace, &user]);
                let known = Known {
                    table,
                    workspace: w,
                    goes_with: personal.then_some(u),
                    made_by: (!personal).then_some(u),
                };
                model.rows.insert(id, known);
            }
            let found = known_to(&mut admin, &model);
            assert_eq!(found, model.rows, "step {step} of game {game}");
        }
    }
}
