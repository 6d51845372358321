//! A hot standby of the server under test: what reads have to work on.

use crate::Database;
use crate::server::{config, connect};
use postgres::{Client, Config};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A hot standby that follows the server under test; it is stopped and removed with this value.
///
/// There is room for one: its data lies beside the primary's, under the primary's name and `-standby`.
pub struct Standby {
    data: PathBuf,
    programs: PathBuf,
    owner: String,
}

impl Standby {
    /// Copies the server under test as it is now and lets the copy follow it.
    pub fn of_the_server() -> Self {
        let mut primary = connect(&config("postgres"));
        let data: String = crate::value(&mut primary, "SHOW data_directory", &[]);
        let programs: String = crate::value(
            &mut primary,
            "SELECT setting FROM pg_catalog.pg_config() WHERE name = 'BINDIR'",
            &[],
        );
        let metadata = fs::metadata(&data).unwrap_or_else(|error| {
            panic!(
                "{data}: {error}; a standby needs the server of these tests on this machine: make test-pg"
            )
        });
        let standby = Self {
            data: PathBuf::from(format!("{data}-standby")),
            programs: programs.into(),
            owner: user_name(metadata.uid()),
        };
        standby.stop_and_remove();
        fs::create_dir(&standby.data).expect("making the data folder of the standby");
        fs::set_permissions(&standby.data, fs::Permissions::from_mode(0o700))
            .expect("closing the data folder of the standby");
        chown(&standby.data, Some(metadata.uid()), Some(metadata.gid()))
            .expect("giving away the data folder of the standby");

        let mut backup = standby.program("pg_basebackup");
        backup
            .args([
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--no-sync",
                "--pgdata",
            ])
            .arg(&standby.data)
            .args(["--dbname", &connection_string(&config("postgres"))]);
        run(&mut backup).unwrap_or_else(|failure| panic!("{failure}"));
        let mut start = standby.program("pg_ctl");
        start
            .arg("start")
            .arg("--wait")
            .arg("--pgdata")
            .arg(&standby.data)
            .arg("--log")
            .arg(standby.data.join("server.log"))
            .arg("--options")
            .arg(format!(
                "-c unix_socket_directories='{}' -c listen_addresses='' -c port=5432",
                standby.data.display()
            ));
        // The primary keeps its log and the lock of its socket in its data folder, so both were copied.
        let log = standby.data.join("server.log");
        for copied in [log.clone(), standby.data.join(".s.PGSQL.5432.lock")] {
            let _ = fs::remove_file(copied);
        }
        if let Err(failure) = run(&mut start) {
            panic!(
                "{failure}\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            );
        }
        standby
    }

    /// A session of the superuser in a database that the primary had when it was last caught up with.
    pub fn admin(&self, database: &Database) -> Client {
        connect(&self.here(config(database.name())))
    }

    /// A session of a role of that database; `role` as [`Database::login`] takes it.
    pub fn login(&self, database: &Database, role: &str) -> Client {
        connect(&self.here(database.config_of(role, "")))
    }

    /// The same user and database, here.
    fn here(&self, other: Config) -> Config {
        let mut config = Config::new();
        config
            .host_path(&self.data)
            .port(5432)
            .user(other.get_user().unwrap_or_default())
            .dbname(other.get_dbname().unwrap_or_default());
        if let Some(options) = other.get_options() {
            config.options(options);
        }
        config
    }

    /// Waits until the standby shows everything that was committed on the primary before the call.
    pub fn catch_up(&self) {
        let mut primary = connect(&config("postgres"));
        let target: String = crate::value(
            &mut primary,
            "SELECT pg_catalog.pg_current_wal_insert_lsn()::text",
            &[],
        );
        let mut here = connect(&self.here(config("postgres")));
        let started = Instant::now();
        while !crate::value::<bool>(
            &mut here,
            &format!("SELECT pg_catalog.pg_last_wal_replay_lsn() >= '{target}'::pg_lsn"),
            &[],
        ) {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the standby did not reach {target} in a minute"
            );
            // Makes the primary write out what it holds back under synchronous_commit = off.
            primary
                .batch_execute(
                    "SET synchronous_commit = on; SELECT pg_catalog.pg_current_xact_id()",
                )
                .expect("a commit on the primary");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A program of the server's version, run as the user that the server runs as.
    fn program(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = if self.owner == user_name(own_uid()) {
            Command::new(program)
        } else {
            let mut command = Command::new("runuser");
            command.args(["-u", &self.owner, "--"]).arg(program);
            command
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn stop_and_remove(&self) {
        if self.data.join("postmaster.pid").exists() {
            let mut stop = self.program("pg_ctl");
            stop.args(["stop", "--mode=immediate", "--wait", "--pgdata"])
                .arg(&self.data)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            // One that is gone already has nothing to stop.
            let _ = stop.status();
        }
        if self.data.exists() {
            fs::remove_dir_all(&self.data).expect("removing the data folder of the standby");
        }
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.stop_and_remove();
    }
}

/// Runs a program to its end; a failure tells what it said.
fn run(command: &mut Command) -> Result<(), String> {
    let log = std::env::temp_dir().join(format!("codex-standby-{}.log", std::process::id()));
    // To a file: a server that pg_ctl starts would hold a pipe open for ever.
    let output = fs::File::create(&log).expect("a log file");
    let errors = output.try_clone().expect("the same log file");
    let status = command.stdout(output).stderr(errors).status();
    let said = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("{command:?}: {other:?}\n{said}")),
    }
}

fn connection_string(config: &Config) -> String {
    let mut words = vec![format!("user={}", config.get_user().unwrap_or_default())];
    match config.get_hosts().first() {
        Some(postgres::config::Host::Unix(folder)) => {
            words.push(format!("host={}", quoted(folder)))
        }
        Some(postgres::config::Host::Tcp(host)) => words.push(format!("host={host}")),
        None => {}
    }
    words.extend(
        config
            .get_ports()
            .first()
            .map(|port| format!("port={port}")),
    );
    words.join(" ")
}

fn quoted(path: &Path) -> String {
    format!(
        "'{}'",
        path.display()
            .to_string()
            .replace('\\', "\\\\")
            .replace('\'', "\\'")
    )
}

fn own_uid() -> u32 {
    fs::metadata("/proc/self").map_or(0, |metadata| metadata.uid())
}

fn user_name(uid: u32) -> String {
    let output = Command::new("id")
        .args(["-nu", &uid.to_string()])
        .output()
        .expect("id tells the name of a user");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
