//! A session of the private server, and what its backend has cost so far.

use crate::Result;
use postgres::{Client, Config, NoTls};
use std::fs;
use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;
use std::time::Instant;

/// The database with the extension, and the one with the baseline.
pub const CODEX: &str = "bench_codex";
pub const BASELINE: &str = "bench_baseline";

/// The roles: row-level security applies to the first three.
pub const MEMBER: &str = "bench_member";
pub const SERVICE: &str = "bench_service";
pub const PLAIN: &str = "bench_baseline";
pub const OWNER: &str = "postgres";

static HOST: OnceLock<String> = OnceLock::new();

/// Says where the server is.
pub fn at(host: &str) {
    HOST.get_or_init(|| host.to_string());
}

/// A connection, and the process that serves it.
pub struct Session {
    client: Client,
    process: i32,
}

/// A moment of a session: CPU time of its backend and wall time, both in nanoseconds.
#[derive(Clone, Copy)]
pub struct Moment {
    cpu: u64,
    wall: Instant,
}

impl Session {
    /// Logs in; statements are prepared as they come, and nothing waits for the disk.
    pub fn open(database: &str, role: &str) -> Result<Self> {
        let mut client = Config::new()
            .host(HOST.get().map_or("", String::as_str))
            .user(role)
            .dbname(database)
            .application_name("codex-bench")
            .connect(NoTls)?;
        let process = client.query_one("SELECT pg_backend_pid()", &[])?.get(0);
        Ok(Self { client, process })
    }

    /// A session that works in the first workspace: a member's for the first user, any other for nobody.
    pub fn in_workspace(database: &str, role: &str) -> Result<Self> {
        let mut session = Self::open(database, role)?;
        session.batch_execute(
            "SELECT set_config('app.current_workspace_id', public.bench_id('workspace', 0)::text, false)",
        )?;
        if role == MEMBER {
            session.batch_execute(
                "SELECT set_config('app.current_user_id', public.bench_id('user', 0)::text, false)",
            )?;
        }
        Ok(session)
    }

    /// What tells the time of this session, also where another one has the session.
    pub fn clock(&self) -> Clock {
        Clock {
            process: self.process,
        }
    }

    /// Now.
    pub fn now(&self) -> Result<Moment> {
        self.clock().now()
    }
}

/// The clock of a session.
pub struct Clock {
    process: i32,
}

impl Clock {
    /// Now. The kernel adds up the time of a process when it leaves the CPU, and the backend has: it waits for us.
    pub fn now(&self) -> Result<Moment> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.process))?;
        let cpu = text
            .split_whitespace()
            .next()
            .ok_or("the kernel tells no CPU time")?
            .parse()?;
        Ok(Moment {
            cpu,
            wall: Instant::now(),
        })
    }
}

impl Moment {
    /// CPU time of the backend since it began, in microseconds.
    pub fn cpu_microseconds(self) -> f64 {
        self.cpu as f64 / 1000.0
    }

    /// Nanoseconds of CPU time and of wall time from `self` to `end`.
    pub fn until(self, end: Self) -> (f64, f64) {
        (
            end.cpu.saturating_sub(self.cpu) as f64,
            end.wall.duration_since(self.wall).as_nanos() as f64,
        )
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}
