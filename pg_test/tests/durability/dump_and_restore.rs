//! A dump holds everything, and a restore brings back everything, whoever makes it and however.

use crate::picture::Picture;
use crate::story;
use codex_pg_test::postgres::{Client, NoTls};
use codex_pg_test::{Database, value};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(db: &Database) -> Self {
        let folder = std::env::temp_dir().join(db.name());
        std::fs::create_dir_all(&folder).expect("a folder for dumps");
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a program that has to succeed without a word on stderr.
#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{command:?}\n{complaints}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs a program that has to fail, and gives what it complained of.
#[track_caller]
fn complains(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    assert!(!output.status.success(), "{command:?} went through");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// How to dump and how to restore.
struct Way {
    name: &'static str,
    dump: &'static [&'static str],
    restore: &'static [&'static str],
}

const WAYS: &[Way] = &[
    Way {
        name: "plain",
        dump: &["--format=plain"],
        restore: &[],
    },
    Way {
        name: "custom",
        dump: &["--format=custom"],
        restore: &["--single-transaction"],
    },
    Way {
        name: "directory",
        dump: &["--format=directory"],
        restore: &[],
    },
    Way {
        name: "directory, in parallel",
        dump: &["--format=directory", "--jobs=2"],
        restore: &["--jobs=2"],
    },
];

/// Dumps a database, as a role where one is named.
fn dump(db: &Database, role: Option<&str>, way: &Way, to: &Path) {
    let mut command = db.program("pg_dump");
    if let Some(role) = role {
        command.env("PGUSER", role);
    }
    succeeds(command.args(way.dump).arg("--file").arg(to));
}

/// Restores the whole of a dump into an empty database, as the superuser; any error fails the test.
fn restore(way: &Way, from: &Path) -> Database {
    let target = Database::empty();
    if way.name == "plain" {
        succeeds(
            target
                .program("psql")
                .args(["-X", "-q", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-f"])
                .arg(from),
        );
        return target;
    }
    let restore = |arguments: &[&str]| {
        succeeds(
            target
                .program("pg_restore")
                .args(["--exit-on-error", "--dbname", target.name()])
                .args(arguments)
                .arg(from),
        );
    };
    if way
        .restore
        .iter()
        .any(|argument| argument.starts_with("--jobs"))
    {
        in_two_parts(&target, way, from, &restore);
    } else {
        restore(way.restore);
    }
    target
}

/// Parallel jobs grant privileges in any order, and whoever grants one on a function needs USAGE on its schema, which may
/// come later: so everything but the privileges in parallel, then the privileges in their order.
fn in_two_parts(target: &Database, way: &Way, from: &Path, restore: &dyn Fn(&[&str])) {
    let all = succeeds(target.program("pg_restore").arg("--list").arg(from));
    for privileges in [false, true] {
        let part: String = all
            .lines()
            .filter(|line| (line.contains(" ACL ") || line.contains(" DEFAULT ACL ")) == privileges)
            .map(|line| format!("{line}\n"))
            .collect();
        let list = from.with_extension(if privileges { "privileges" } else { "rest" });
        std::fs::write(&list, part).expect("writing the list");
        let use_list = format!("--use-list={}", list.display());
        let mut arguments = vec![use_list.as_str()];
        if !privileges {
            arguments.extend(way.restore);
        }
        restore(&arguments);
    }
}

/// What `pg_dump` itself says a database is made of, without the names that change from run to run.
fn definitions(db: &Database) -> String {
    let text = succeeds(
        db.program("pg_dump")
            .args(["--schema-only", "--format=plain"]),
    );
    // From the minor versions of August 2025 on, a dump has a random word in two lines.
    text.lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// A database with data and additions, and the roles that have privileges in it.
fn lived_in() -> (Database, Client) {
    let db = Database::migrated();
    let mut admin = db.admin();
    story::tell(&mut admin);
    story::tell_of_the_engines(&mut admin);
    story::add_to_it(
        &mut admin,
        &db.role("reader"),
        &db.role("member"),
        &db.role("service"),
    );
    (db, admin)
}

/// The same, owned by a role that is no superuser and ran `codex.migrate()` itself; gives the role, too.
fn lived_in_and_owned() -> (Database, String) {
    let db = Database::with_extension();
    let owner = db.role("owner");
    db.admin()
        .batch_execute(&format!(
            "GRANT CREATE ON DATABASE {} TO {owner};
             GRANT CREATE ON SCHEMA public TO {owner};
             SELECT codex.grant_operator_role('{owner}');",
            db.name()
        ))
        .unwrap();
    let mut session = db.login(&owner);
    session
        .batch_execute("SELECT codex.migrate()")
        .unwrap_or_else(|error| panic!("{error:?}"));
    story::tell(&mut session);
    story::tell_of_the_engines(&mut session);
    story::add_to_it(
        &mut session,
        &db.role("reader"),
        &db.role("member"),
        &db.role("service"),
    );
    (db, owner)
}

#[test]
fn every_format_brings_everything_back() {
    let (db, _) = lived_in();
    let folder = Folder::new(&db);
    let before = Picture::of(&db);
    let definitions_before = definitions(&db);
    let (things, rows) = before.size();
    assert!(things > 900 && rows > 800, "{things} things, {rows} rows");
    for (number, way) in WAYS.iter().enumerate() {
        let file = folder.path(&format!("superuser{number}"));
        dump(&db, None, way, &file);
        let target = restore(way, &file);
        before.assert_same(&Picture::of(&target), way.name);
        assert_eq!(definitions_before, definitions(&target), "{}", way.name);
        works(&mut target.admin());
    }
}

#[test]
fn the_owner_of_the_tables_can_dump_them_without_being_a_superuser() {
    let (db, owner) = lived_in_and_owned();
    let folder = Folder::new(&db);
    let before = Picture::of(&db);
    for (number, way) in WAYS.iter().enumerate() {
        let file = folder.path(&format!("owner{number}"));
        dump(&db, Some(&owner), way, &file);
        let target = restore(way, &file);
        before.assert_same(&Picture::of(&target), way.name);
        works(&mut target.admin());
    }
}

#[test]
fn the_owner_can_restore_where_a_superuser_made_the_extension() {
    let (db, owner) = lived_in_and_owned();
    let folder = Folder::new(&db);
    let file = folder.path("dump");
    dump(&db, Some(&owner), &WAYS[1], &file);

    let target = Database::with_extension();
    target
        .admin()
        .batch_execute(&format!(
            "GRANT CREATE ON DATABASE {} TO {owner};
             GRANT CREATE ON SCHEMA public TO {owner};
             SELECT codex.grant_operator_role('{owner}');",
            target.name()
        ))
        .unwrap();
    // What belongs to the superuser is there already: the schema, the extension, and who may use them.
    let list = succeeds(db.program("pg_restore").arg("--list").arg(&file));
    let wanted: Vec<&str> = list
        .lines()
        .filter(|line| {
            ![
                " SCHEMA - codex ",
                " EXTENSION - raptorflow_codex",
                " COMMENT - EXTENSION raptorflow_codex",
                " ACL - SCHEMA codex ",
                " ACL - SCHEMA public ",
                " ACL codex FUNCTION ",
            ]
            .iter()
            .any(|entry| line.contains(entry))
        })
        .collect();
    assert!(wanted.len() < list.lines().count());
    let list = folder.path("list");
    std::fs::write(&list, wanted.join("\n")).unwrap();
    succeeds(
        target
            .program("pg_restore")
            .env("PGUSER", &owner)
            .args([
                "--exit-on-error",
                "--single-transaction",
                "--dbname",
                target.name(),
                "--use-list",
            ])
            .arg(&list)
            .arg(&file),
    );
    // The registered roles came with the rows; their privileges on the extension's own functions are given anew.
    let mut session = db
        .config_of(&owner, "")
        .dbname(target.name())
        .connect(NoTls)
        .expect("the owner connects");
    session
        .batch_execute(
            "SELECT CASE r.kind
                        WHEN 'member' THEN codex.grant_member_role(r.role_name::text::regrole)
                        ELSE codex.grant_service_role(r.role_name::text::regrole)
                    END
             FROM codex.roles AS r",
        )
        .unwrap_or_else(|error| panic!("{error:?}"));
    // They were granted at another time.
    let but = ["rows of codex.roles"];
    Picture::of(&db)
        .without(&but)
        .assert_same(&Picture::of(&target).without(&but), "restored by the owner");
    works(&mut target.admin());
}

#[test]
fn rows_alone_go_into_a_database_that_was_migrated() {
    let db = Database::migrated();
    story::tell(&mut db.admin());
    let folder = Folder::new(&db);
    let file = folder.path("rows");
    let output = db
        .program("pg_dump")
        .args([
            "--format=custom",
            "--data-only",
            "--exclude-table-data=codex.migrations",
            "--file",
        ])
        .arg(&file)
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.contains("--disable-triggers"),
        "quests and achievements refer to themselves: {complaints}"
    );
    let target = Database::migrated();
    succeeds(
        target
            .program("pg_restore")
            // Without it the triggers would run once more: campaigns would get the time of the restore.
            .args([
                "--disable-triggers",
                "--exit-on-error",
                "--single-transaction",
                "--dbname",
                target.name(),
            ])
            .arg(&file),
    );
    let skip = ["rows of codex.migrations", "status "];
    Picture::of(&db)
        .without(&skip)
        .assert_same(&Picture::of(&target).without(&skip), "rows alone");
    works(&mut target.admin());
}

#[test]
fn broad_default_privileges_of_the_target_are_reported_with_what_mends_them() {
    let db = Database::migrated();
    story::tell(&mut db.admin());
    let folder = Folder::new(&db);
    let file = folder.path("dump");
    dump(&db, None, &WAYS[1], &file);
    let target = Database::empty();
    let mut admin = target.admin();
    let everybody = "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC";
    admin.batch_execute(everybody).unwrap();
    succeeds(
        target
            .program("pg_restore")
            .args(["--exit-on-error", "--dbname", target.name()])
            .arg(&file),
    );
    let may_truncate = "SELECT count(*)
                        FROM pg_class AS c, aclexplode(c.relacl) AS a
                        WHERE c.relnamespace IN ('public'::regnamespace, 'codex'::regnamespace)
                          AND a.grantee = 0
                          AND a.privilege_type = 'TRUNCATE'";
    assert!(value::<i64>(&mut admin, may_truncate, &[]) > 16);
    let mends: Vec<String> = admin
        .query(
            "SELECT DISTINCT mend FROM codex.isolation_report() WHERE severity IN ('high', 'medium') AND mend LIKE '%REVOKE%'",
            &[],
        )
        .expect("codex.isolation_report() runs")
        .iter()
        .map(|row| row.get(0))
        .collect();
    for mend in mends {
        admin
            .batch_execute(&mend)
            .unwrap_or_else(|error| panic!("{mend}: {error:?}"));
    }
    assert_eq!(value::<i64>(&mut admin, may_truncate, &[]), 0);
    let left: i64 = value(
        &mut admin,
        "SELECT count(*) FROM codex.isolation_report() WHERE severity = 'high'",
        &[],
    );
    assert_eq!(left, 0);
}

#[test]
fn a_dump_by_a_role_under_row_level_security_is_refused_or_holds_one_workspace() {
    let (db, mut admin) = lived_in();
    let (member, service) = (db.role("member"), db.role("service"));
    let workspace: String = value(
        &mut admin,
        "SELECT w.id::text FROM public.workspaces AS w WHERE w.name = 'Workspace 1'",
        &[],
    );
    let user: String = value(
        &mut admin,
        "SELECT m.user_id::text FROM public.workspace_members AS m WHERE m.workspace_id = $1::text::uuid LIMIT 1",
        &[&workspace],
    );
    let dump = |role: &str, options: &str, arguments: &[&str]| {
        let mut command = db.program("pg_dump");
        command
            .env("PGUSER", role)
            .args(["--data-only", "--inserts"])
            .args(arguments);
        if !options.is_empty() {
            command.env("PGOPTIONS", options);
        }
        command
    };
    let campaigns = "--table=public.campaigns";

    let refusal = complains(&mut dump(&member, "", &[]));
    assert!(refusal.contains("permission denied"), "{refusal}");
    for role in [&member, &service] {
        let refusal = complains(&mut dump(role, "", &[campaigns]));
        assert!(
            refusal.contains(
                "query would be affected by row-level security policy for table \"campaigns\""
            ),
            "{refusal}"
        );
    }

    let rows = |text: String| text.matches("INSERT INTO ").count();
    let allowed = ["--enable-row-security", "--table=public.system_alerts"];
    for role in [&member, &service] {
        let nothing = succeeds(&mut dump(role, "", &allowed));
        assert_eq!(rows(nothing), 0, "no context, no rows");
    }
    let context = format!("-c app.current_workspace_id={workspace} -c app.current_user_id={user}");
    let total: i64 = value(&mut admin, "SELECT count(*) FROM public.system_alerts", &[]);
    assert_eq!(total, 24);
    for role in [&member, &service] {
        let text = succeeds(&mut dump(role, &context, &allowed));
        assert_eq!(text.matches(&workspace).count(), 8);
        assert_eq!(rows(text), 8, "those of one workspace of three");
    }
}

/// The functions and the policies do their work in a restored database.
pub fn works(admin: &mut Client) {
    let failed: Vec<String> = admin
        .query(
            "SELECT id || ': ' || actual FROM codex.verify() WHERE NOT passed",
            &[],
        )
        .expect("codex.verify() runs")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let attacks: Vec<String> = admin
        .query(
            "SELECT t::text FROM codex.isolation_selftest() AS t WHERE NOT t.passed",
            &[],
        )
        .expect("codex.isolation_selftest() runs")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(attacks.is_empty(), "{attacks:#?}");
    // Sums that go on where they were, a retry that is recognised, an open alert that is found again.
    admin
        .batch_execute(
            "DO $$
             DECLARE
                 w uuid := (SELECT id FROM public.workspaces WHERE name = 'Workspace 1');
                 a uuid := (SELECT id FROM public.agent_registry WHERE agent_name = 'Agent 1');
                 before bigint := (SELECT sum(execution_count) FROM public.agent_performance);
                 alerts bigint := (SELECT count(*) FROM public.system_alerts);
             BEGIN
                 PERFORM codex.record_agent_execution(w, a, 1, 1, 1, 1, true, p_execution_id => md5(concat(w, a, 1))::uuid);
                 ASSERT before = (SELECT sum(execution_count) FROM public.agent_performance);
                 PERFORM codex.record_agent_execution(w, a, 1, 1, 1, 1, true, p_executed_at => '2025-03-30 01:00 UTC');
                 ASSERT before + 1 = (SELECT sum(execution_count) FROM public.agent_performance);
                 PERFORM codex.create_system_alert(w, 'anomaly', 'low', 'Again', 'D', p_dedup_key => 'key 1');
                 ASSERT alerts = (SELECT count(*) FROM public.system_alerts);
                 ASSERT (SELECT NOT success FROM codex.unlock_achievement(
                             (SELECT user_id FROM public.user_achievements LIMIT 1),
                             (SELECT achievement_id FROM public.user_achievements LIMIT 1),
                             (SELECT workspace_id FROM public.user_achievements LIMIT 1)));
             END $$",
        )
        .unwrap_or_else(|error| panic!("{error:?}"));
}
