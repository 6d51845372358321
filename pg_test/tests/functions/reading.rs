//! Functions that only read: they take no transaction id, run in a read-only transaction, and answer on a hot
//! standby what they answer on the primary.

use crate::arguments::{Good, call, functions};
use crate::scene::Scene;
use codex_pg_test::postgres::{Client, NoTls, SimpleQueryMessage};
use codex_pg_test::{Database, value};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Volatile by name, but they write nothing.
const READING_THOUGH_VOLATILE: &[&str] = &["enter_workspace"];

/// A good call of every function that says that it does not write (STABLE or IMMUTABLE).
fn reading_calls(scene: &mut Scene) -> Vec<String> {
    let good = Good::new(scene);
    let stable: Vec<String> = scene
        .admin
        .query(
            "SELECT p.proname::text FROM pg_catalog.pg_proc AS p
             WHERE p.pronamespace = 'codex'::regnamespace AND p.provolatile <> 'v'",
            &[],
        )
        .unwrap()
        .iter()
        .map(|row| row.get(0))
        .collect();
    functions(&mut scene.admin)
        .iter()
        .filter(|(name, _)| {
            stable.contains(name) || READING_THOUGH_VOLATILE.contains(&name.as_str())
        })
        .map(|(name, arguments)| call(&good, name, arguments, None))
        .collect()
}

/// The rows of a query as text.
fn answer(client: &mut Client, sql: &str) -> Vec<Vec<Option<String>>> {
    client
        .simple_query(sql)
        .unwrap_or_else(|error| panic!("{}\n  {sql}", codex_pg_test::error_message(&error)))
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|column| row.get(column).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}

#[test]
fn reading_takes_no_transaction_id_and_runs_in_a_read_only_transaction() {
    let mut scene = Scene::new();
    let calls = reading_calls(&mut scene);
    for name in [
        "agent_performance_summary",
        "get_active_insights",
        "get_critical_alerts",
        "get_priority_signals",
        "get_user_unread_notifications",
        "current_workspace_id",
    ] {
        assert!(
            calls
                .iter()
                .any(|sql| sql.contains(&format!("codex.{name}("))),
            "codex.{name} is not declared as reading"
        );
    }
    // The second time the plans are there already.
    for sql in calls.iter().chain(&calls) {
        let mut transaction = scene
            .admin
            .build_transaction()
            .read_only(true)
            .start()
            .unwrap();
        transaction
            .batch_execute(sql)
            .unwrap_or_else(|error| panic!("{}\n  {sql}", codex_pg_test::error_message(&error)));
        let none: bool = transaction
            .query_one("SELECT pg_current_xact_id_if_assigned() IS NULL", &[])
            .unwrap()
            .get(0);
        assert!(none, "took a transaction id: {sql}");
        transaction.commit().unwrap();

        let mut transaction = scene.admin.transaction().unwrap();
        transaction.batch_execute(sql).unwrap();
        let none: bool = transaction
            .query_one("SELECT pg_current_xact_id_if_assigned() IS NULL", &[])
            .unwrap()
            .get(0);
        assert!(none, "took a transaction id: {sql}");
    }
}

/// A hot standby of the server under test, taken by `pg_basebackup`; stopped and removed when dropped.
struct Standby {
    folder: PathBuf,
    programs: PathBuf,
    /// The user that the server runs as, when that is somebody else.
    user: Option<String>,
    port: u16,
}

impl Standby {
    fn of(db: &Database) -> Self {
        let mut admin = db.admin();
        let programs: String = value(
            &mut admin,
            "SELECT setting FROM pg_catalog.pg_config() WHERE name = 'BINDIR'",
            &[],
        );
        let data: String = value(&mut admin, "SELECT current_setting('data_directory')", &[]);
        let owner = fs::metadata(&data)
            .unwrap_or_else(|error| {
                panic!("the server under test is not on this machine ({data}: {error}); a standby of it cannot be made")
            })
            .uid();
        let ourselves = fs::metadata("/proc/self").map_or(owner, |me| me.uid());
        let user = (owner != ourselves).then(|| {
            let name = Command::new("id")
                .arg("-un")
                .arg(owner.to_string())
                .output();
            String::from_utf8_lossy(&name.expect("running id").stdout)
                .trim()
                .to_owned()
        });
        let (host, port): (String, i32) = {
            let row = admin
                .query_one(
                    "SELECT split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port')::integer",
                    &[],
                )
                .unwrap();
            (row.get(0), row.get(1))
        };
        let standby = Self {
            folder: std::env::temp_dir().join(format!("{}_standby", db.name())),
            programs: programs.into(),
            user,
            // Not the primary's: where its socket is in the data folder, the copy has its lock file.
            port: if port == 65535 { port - 1 } else { port + 1 } as u16,
        };
        let user: String = value(&mut admin, "SELECT current_user::text", &[]);
        let folder = standby.folder.display().to_string();
        standby.run(
            "pg_basebackup",
            &[
                "-h",
                &host,
                "-p",
                &port.to_string(),
                "-U",
                &user,
                "-D",
                &folder,
                "-R",
                "-X",
                "stream",
                "-c",
                "fast",
                "--no-sync",
            ],
        );
        let options = format!(
            "-c unix_socket_directories={folder} -c listen_addresses= -c port={} -c hot_standby=on",
            standby.port
        );
        let log = format!("{folder}/standby.log");
        standby.run(
            "pg_ctl",
            &[
                "-D", &folder, "-l", &log, "-o", &options, "-w", "-t", "60", "start",
            ],
        );
        standby
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match &self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
        };
        command.current_dir("/");
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        // A server that is started must not hold the pipes of the test.
        let status = self
            .command(program)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        assert!(
            status.as_ref().is_ok_and(|status| status.success()),
            "{program} {arguments:?}: {status:?}\n{}",
            fs::read_to_string(self.folder.join("standby.log")).unwrap_or_default()
        );
    }

    /// A session of the superuser in `db` on the standby, once it has replayed what the primary has written.
    fn session(&self, db: &Database) -> Client {
        let mut primary = db.admin();
        // A record of our own: the end of the log may lie behind the head of a page that nothing is on yet.
        let written: String = value(
            &mut primary,
            "SELECT pg_logical_emit_message(true, 'standby', 'catch up')::text",
            &[],
        );
        let user: String = value(&mut primary, "SELECT current_user::text", &[]);
        let mut client = codex_pg_test::postgres::Config::new()
            .host_path(&self.folder)
            .port(self.port)
            .user(&user)
            .dbname(db.name())
            .connect(NoTls)
            .expect("a session on the standby");
        let patience = Instant::now() + Duration::from_secs(30);
        while !value::<bool>(
            &mut client,
            "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn",
            &[&written],
        ) {
            assert!(Instant::now() < patience, "the standby does not catch up");
            std::thread::sleep(Duration::from_millis(50));
        }
        client
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let stopped: std::io::Result<Output> = self
            .command("pg_ctl")
            .arg("-D")
            .arg(&self.folder)
            .args(["-m", "immediate", "-w", "stop"])
            .output();
        if let Err(error) = stopped {
            eprintln!("stopping the standby: {error}");
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}

#[test]
fn reading_functions_answer_on_a_hot_standby_what_they_answer_on_the_primary() {
    let mut scene = Scene::new();
    let calls = reading_calls(&mut scene);
    scene
        .admin
        .batch_execute(&format!(
            "SELECT codex.create_system_alert('{0}', 'error', 'critical', 'Down', 'It is down');
             SELECT codex.send_user_notification('{0}', '{1}', 'alert', 'Down', 'It is down');
             INSERT INTO public.market_insights (workspace_id, insight_title, insight_type) VALUES ('{0}', 'Up', 'trend');
             INSERT INTO public.intelligence_signals (workspace_id, source_type, signal_category, signal_title, confidence_score)
             VALUES ('{0}', 'trend', 'market_trend', 'Up', 90)",
            scene.acme, scene.anna
        ))
        .unwrap();
    let standby = Standby::of(&scene.db);
    let mut there = standby.session(&scene.db);
    assert!(value::<bool>(&mut there, "SELECT pg_is_in_recovery()", &[]));
    let enter = format!(
        "SELECT codex.enter_workspace('{}', '{}')",
        scene.acme, scene.anna
    );
    let mut rows = 0;
    for sql in &calls {
        for context in ["", enter.as_str()] {
            let script = format!("BEGIN; {context}; {sql}; COMMIT");
            let here = answer(&mut scene.admin, &script);
            assert_eq!(answer(&mut there, &script), here, "{sql}");
            rows += here.len();
        }
    }
    assert!(rows > calls.len(), "the calls answered next to nothing");
}
