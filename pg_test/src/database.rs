//! A database of a test's own, and the sessions in it.

use crate::server::{config, connect, maintain, retry_while_in_use, server};
use postgres::{Client, Config};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex, PoisonError};

/// A database that lives as long as this value, with the roles made for it.
pub struct Database {
    name: String,
    /// What the test calls a role, and what the server calls it: roles belong to the whole server.
    roles: Mutex<BTreeMap<String, String>>,
}

/// What the server said beside results: `NOTICE: …`, `WARNING: …`, in order.
#[derive(Clone, Default)]
pub struct Notices(Arc<Mutex<Vec<String>>>);

impl Notices {
    /// All notices so far, each as `SEVERITY: message`, and forgets them.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Database {
    /// A database without the extension.
    pub fn empty() -> Self {
        Self::copy_of("template0")
    }

    /// A database with the extension and none of its tables.
    pub fn with_extension() -> Self {
        let database = Self::empty();
        database
            .admin()
            .batch_execute("CREATE EXTENSION raptorflow_codex")
            .unwrap_or_else(|error| panic!("CREATE EXTENSION: {}", crate::error_message(&error)));
        database
    }

    /// A database in which `CREATE EXTENSION` and `codex.migrate()` ran as a superuser.
    pub fn migrated() -> Self {
        Self::copy_of(server().template())
    }

    fn copy_of(template: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{number}", server().run);
        retry_while_in_use(|| maintain(&format!("CREATE DATABASE {name} TEMPLATE {template}")))
            .unwrap_or_else(|error| {
                panic!(
                    "creating a database from {template}: {}",
                    crate::error_message(&error)
                )
            });
        Self {
            name,
            roles: Mutex::default(),
        }
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A session of the superuser.
    pub fn admin(&self) -> Client {
        connect(&config(&self.name))
    }

    /// A session of the superuser, and what the server says in it.
    pub fn admin_with_notices(&self) -> (Client, Notices) {
        let notices = Notices::default();
        let heard = notices.clone();
        let mut config = config(&self.name);
        config.notice_callback(move |notice| {
            heard
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(format!("{}: {}", notice.severity(), notice.message()));
        });
        (connect(&config), notices)
    }

    /// The server's name of the role that this test calls `label`: a login role without any attribute,
    /// made at the first call and dropped with the database.
    pub fn role(&self, label: &str) -> String {
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(role) = roles.get(label) {
            return role.clone();
        }
        let role = format!("{}_{label}", self.name);
        assert!(
            role.len() < 64
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
            "a role label is short, of a-z, 0-9 and _: {label}"
        );
        maintain(&format!(
            "CREATE ROLE {role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS"
        ))
        .unwrap_or_else(|error| panic!("creating role {role}: {}", crate::error_message(&error)));
        roles.insert(label.to_owned(), role.clone());
        role
    }

    /// A session of a role: `role` is a label as [`Database::role`] takes it (the role is made when it is
    /// not there) or the name that it returned.
    pub fn login(&self, role: &str) -> Client {
        self.connect_as(role, "")
    }

    /// The same, with settings given when the session starts, as in `PGOPTIONS`:
    /// `-c raptorflow_codex.context=transaction`.
    pub fn connect_as(&self, role: &str, options: &str) -> Client {
        connect(&self.config_of(role, options))
    }

    /// How a role connects; for a test in which connecting fails or the client needs more settings.
    pub fn config_of(&self, role: &str, options: &str) -> Config {
        let known = (self.roles.lock().unwrap_or_else(PoisonError::into_inner))
            .values()
            .any(|name| name == role);
        let role = if known {
            role.to_owned()
        } else {
            self.role(role)
        };
        let mut config = config(&self.name);
        config.user(&role);
        if !options.is_empty() {
            config.options(options);
        }
        config
    }

    /// Runs `work` in `sessions` sessions of the superuser at once, each on its thread, let go together, and
    /// gives their results in the order of their numbers (0 to `sessions - 1`).
    pub fn parallel<T: Send>(
        &self,
        sessions: usize,
        work: impl Fn(usize, &mut Client) -> T + Sync,
    ) -> Vec<T> {
        let clients = (0..sessions).map(|_| self.admin()).collect();
        together(clients, work)
    }

    /// [`Database::parallel`] with sessions of a role.
    pub fn parallel_as<T: Send>(
        &self,
        role: &str,
        sessions: usize,
        work: impl Fn(usize, &mut Client) -> T + Sync,
    ) -> Vec<T> {
        let clients = (0..sessions).map(|_| self.login(role)).collect();
        together(clients, work)
    }

    /// A program of the server's own version (`psql`, `pg_dump`, `pg_restore`) told to work on this database.
    pub fn program(&self, name: &str) -> Command {
        let mut session = self.admin();
        let folder: String = crate::value(
            &mut session,
            "SELECT setting FROM pg_catalog.pg_config() WHERE name = 'BINDIR'",
            &[],
        );
        let config = config(&self.name);
        let mut command = Command::new(format!("{folder}/{name}"));
        command
            .env("PGDATABASE", &self.name)
            .env("PGUSER", config.get_user().unwrap_or_default());
        if let Some(host) = config.get_hosts().first() {
            match host {
                postgres::config::Host::Tcp(host) => command.env("PGHOST", host),
                postgres::config::Host::Unix(folder) => command.env("PGHOST", folder),
            };
        }
        if let Some(port) = config.get_ports().first() {
            command.env("PGPORT", port.to_string());
        }
        command
    }
}

fn together<T: Send>(
    clients: Vec<Client>,
    work: impl Fn(usize, &mut Client) -> T + Sync,
) -> Vec<T> {
    // Connected before the first thread starts: a session that cannot be had fails the test, and leaves
    // nobody waiting at the barrier.
    let barrier = Barrier::new(clients.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, mut client)| {
                let (barrier, work) = (&barrier, &work);
                scope.spawn(move || {
                    barrier.wait();
                    work(number, &mut client)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() && std::env::var_os("CODEX_TEST_KEEP").is_some() {
            eprintln!("kept database {} until the next run", self.name);
            return;
        }
        let roles = std::mem::take(self.roles.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut statements = vec![format!(
            "DROP DATABASE IF EXISTS {} WITH (FORCE)",
            self.name
        )];
        statements.extend(
            roles
                .values()
                .map(|role| format!("DROP ROLE IF EXISTS {role}")),
        );
        for statement in statements {
            if let Err(error) = maintain(&statement) {
                // A second panic would hide the first.
                eprintln!("{statement}: {}", crate::error_message(&error));
            }
        }
    }
}
