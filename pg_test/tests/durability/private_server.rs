//! A server of a test's own, which it may kill.

use codex_pg_test::postgres::{Client, Config, Error, NoTls};
use codex_pg_test::{Database, value};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Programs of the server under test, with data of its own beside the data of that server; removed with this value.
pub struct PrivateServer {
    data: PathBuf,
    programs: PathBuf,
    /// The user that the server under test runs as.
    owner: u32,
    /// A child of this process: once killed it is gone only when its parent has asked for it.
    postmaster: Mutex<Option<Child>>,
}

impl PrivateServer {
    /// A new server that writes as safely as a production server does, with the extension migrated in database
    /// `postgres`.
    pub fn new() -> Self {
        let server = Self::make("crash", None);
        server.start();
        server
            .connect()
            .expect("connecting to the new server")
            .batch_execute("CREATE EXTENSION raptorflow_codex; SELECT * FROM codex.migrate()")
            .unwrap_or_else(|error| panic!("{error:?}"));
        server
    }

    /// A server without anything in it and not started, of the programs in another folder than those of the server
    /// under test where one is given. `suffix` tells its data from those of the others.
    pub fn make(suffix: &str, programs: Option<PathBuf>) -> Self {
        let database = Database::empty();
        let mut session = database.admin();
        let beside: String = value(&mut session, "SHOW data_directory", &[]);
        let own_programs: String = value(
            &mut session,
            "SELECT setting FROM pg_catalog.pg_config() WHERE name = 'BINDIR'",
            &[],
        );
        let metadata = fs::metadata(&beside).unwrap_or_else(|error| {
            panic!("{beside}: {error}; the server of these tests has to be on this machine")
        });
        let server = Self {
            data: PathBuf::from(format!("{beside}-{suffix}")),
            programs: programs.unwrap_or_else(|| own_programs.into()),
            owner: metadata.uid(),
            postmaster: Mutex::default(),
        };
        server.remove();
        fs::create_dir(&server.data).expect("making the folder");
        fs::set_permissions(&server.data, fs::Permissions::from_mode(0o700))
            .expect("closing the folder");
        chown(&server.data, Some(metadata.uid()), Some(metadata.gid()))
            .expect("giving away the folder");
        let mut initdb = server.program("initdb");
        initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        if server.major() >= 18 {
            // What older versions do unless told otherwise.
            initdb.arg("--no-data-checksums");
        }
        succeeds(initdb.arg("--pgdata").arg(&server.data));
        let settings = format!(
            "unix_socket_directories = '{}'\nlisten_addresses = ''\nport = 5432\nmax_connections = 50\n\
             fsync = on\nsynchronous_commit = on\nfull_page_writes = on\nrestart_after_crash = on\n\
             log_line_prefix = '%m [%p] %e '\n",
            server.data.display()
        );
        let file = server.data.join("postgresql.conf");
        let before = fs::read_to_string(&file).expect("reading the settings");
        fs::write(&file, before + &settings).expect("writing the settings");
        server
    }

    /// The major version of its programs.
    pub fn major(&self) -> u32 {
        let output = Command::new(self.programs.join("postgres"))
            .arg("--version")
            .output()
            .expect("the version");
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text
            .split(' ')
            .nth(2)
            .and_then(|version| version.split(['.', '\n']).next());
        number
            .and_then(|number| number.trim_end_matches(char::is_alphabetic).parse().ok())
            .unwrap_or_else(|| panic!("which version is {text}?"))
    }

    /// Takes over everything from a server of an older version, both stopped; with `--check` only asks whether it
    /// could. Gives what the program said.
    pub fn upgrade_from(&self, old: &Self, arguments: &[&str]) -> String {
        let mut upgrade = self.program("pg_upgrade");
        upgrade
            .arg("--old-bindir")
            .arg(&old.programs)
            .arg("--new-bindir")
            .arg(&self.programs)
            .arg("--old-datadir")
            .arg(&old.data)
            .arg("--new-datadir")
            .arg(&self.data)
            .args(["--username=postgres", "--no-sync"])
            .args(arguments)
            // It writes a script here.
            .current_dir(&old.data);
        let output = upgrade.output().expect("pg_upgrade starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            // It names a file with the cause.
            let cause = said
                .split('"')
                .find(|word| word.ends_with(".log"))
                .and_then(|log| fs::read_to_string(log).ok())
                .unwrap_or_default();
            panic!("{upgrade:?}: {}\n{said}\n{cause}", output.status);
        }
        said
    }

    /// Runs statements in one process without a server, under a memory checker; gives what the process printed, and the
    /// checker's report.
    pub fn run_alone_checked(&self, statements: &[String]) -> (String, String) {
        let script = self.data.join("script.sql");
        let report = self.data.join("memory.log");
        let text: String = statements
            .iter()
            .map(|statement| format!("{statement};\n\n"))
            .collect();
        fs::write(&script, text).expect("writing the script");
        let output = self
            .wrapped(
                &[
                    "valgrind",
                    "--num-callers=20",
                    &format!("--log-file={}", report.display()),
                ],
                "postgres",
            )
            .args(["--single", "-j", "-D"])
            .arg(&self.data)
            .arg("postgres")
            .stdin(fs::File::open(&script).expect("reading the script"))
            .output()
            .expect("valgrind starts");
        let printed =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let report =
            fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {printed}"));
        (printed.into_owned(), report)
    }

    /// Starts it, and returns when it answers.
    pub fn start(&self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.data.join("server.log"))
            .expect("opening the log");
        let postmaster = self
            .program("postgres")
            .arg("-D")
            .arg(&self.data)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting the server");
        *self
            .postmaster
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(postmaster);
        self.connect_when_it_is_back();
    }

    /// A session of the superuser.
    pub fn connect(&self) -> Result<Client, Error> {
        let mut config = Config::new();
        config
            .host_path(&self.data)
            .port(5432)
            .user("postgres")
            .dbname("postgres");
        config.connect(NoTls)
    }

    /// A session, as soon as one can be had again.
    pub fn connect_when_it_is_back(&self) -> Client {
        let begun = Instant::now();
        loop {
            match self.connect() {
                Ok(client) => return client,
                Err(error) if begun.elapsed() > Duration::from_secs(60) => {
                    panic!("the server did not come back: {error}\n{}", self.log())
                }
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// What the server wrote into its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.data.join("server.log")).unwrap_or_default()
    }

    /// Stops it as an administrator does: sessions are ended, everything is written.
    pub fn stop(&self) {
        let postmaster = self.postmaster();
        signal("-INT", &[postmaster]);
        self.wait_for_postmaster();
    }

    /// Kills the postmaster; its children find out by themselves.
    pub fn kill_postmaster(&self) {
        let postmaster = self.postmaster();
        let children = children_of(postmaster);
        self.kill_and_wait(&[postmaster]);
        wait_until_gone(&children);
    }

    /// Kills every process of the server at once, as a machine does that loses its power.
    pub fn kill_everything(&self) {
        let postmaster = self.postmaster();
        let mut all = children_of(postmaster);
        all.insert(0, postmaster);
        self.kill_and_wait(&all);
        wait_until_gone(&all);
    }

    fn kill_and_wait(&self, processes: &[u32]) {
        signal("-9", processes);
        self.wait_for_postmaster();
    }

    fn wait_for_postmaster(&self) {
        let child = self
            .postmaster
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(mut child) = child {
            child.wait().expect("the postmaster ends");
        }
    }

    /// The process that the data folder says serves it.
    fn postmaster(&self) -> u32 {
        let file = fs::read_to_string(self.data.join("postmaster.pid")).expect("a running server");
        file.lines()
            .next()
            .and_then(|line| line.parse().ok())
            .expect("the first line is a process id")
    }

    /// Kills one session; the postmaster then throws out all others and recovers.
    pub fn kill_a_backend(&self, pid: u32) {
        signal("-9", &[pid]);
    }

    /// A program of the server's version, run as the user that the server under test runs as.
    fn program(&self, name: &str) -> Command {
        self.wrapped(&[], name)
    }

    /// A program of the server's version, run by another one that is given it as its arguments.
    fn wrapped(&self, wrapper: &[&str], name: &str) -> Command {
        let program = self.programs.join(name);
        let mut words: Vec<std::ffi::OsString> =
            wrapper.iter().map(std::ffi::OsString::from).collect();
        words.push(program.into_os_string());
        let own = fs::metadata("/proc/self").map_or(0, |own| own.uid());
        let mut command = if self.owner == own {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            command
        } else {
            let group = fs::metadata(&self.data).map_or(0, |folder| folder.gid());
            let mut command = Command::new("setpriv");
            command
                .arg(format!("--reuid={}", self.owner))
                .arg(format!("--regid={group}"))
                .arg("--clear-groups")
                .args(&words);
            command
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    fn remove(&self) {
        if self.data.join("postmaster.pid").exists() {
            let postmaster = self.postmaster();
            // Only a process that is still this server: the file outlives a server that was killed.
            let is_ours = fs::read(format!("/proc/{postmaster}/cmdline")).is_ok_and(|line| {
                String::from_utf8_lossy(&line).contains(&self.data.display().to_string())
            });
            if is_ours {
                self.kill_everything();
            }
        }
        if self.data.exists() {
            fs::remove_dir_all(&self.data).expect("removing the data of the private server");
        }
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            for line in tail.iter().rev() {
                eprintln!("server: {line}");
            }
        }
        self.remove();
    }
}

/// Runs a program to its end.
fn succeeds(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

fn children_of(parent: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            // After the name in parentheses: the state, then the parent.
            fs::read_to_string(format!("/proc/{pid}/stat"))
                .ok()
                .and_then(|stat| stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok())
                == Some(parent)
        })
        .collect()
}

fn signal(signal: &str, processes: &[u32]) {
    // The shell's own: a small Debian has no program of that name.
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"kill "$@""#, "kill", signal])
        .args(processes.iter().map(u32::to_string));
    // It fails for one that is gone already, which is none that lives on.
    command
        .stderr(Stdio::null())
        .status()
        .expect("a shell that sends signals");
}

fn wait_until_gone(processes: &[u32]) {
    let begun = Instant::now();
    let lives = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("").starts_with('Z'))
    };
    while processes.iter().any(lives) {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "processes that do not end"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
