//! The server under test: where it is, and the template that databases are copied from.

use postgres::{Client, Config, NoTls};
use std::env;
use std::sync::{Mutex, OnceLock};
use uuid::Uuid;

/// Every database and role that the tests make begins with this.
const PREFIX: &str = "codex_test_";
/// Names of template databases begin with this; what follows tells the installed build.
const TEMPLATE_PREFIX: &str = "codex_template_";
/// First half of the advisory lock keys of the harness ("cdxt"): runs, and with 0 the making of the template.
const LOCK_SPACE: i32 = 0x6364_7874;

/// What this process knows of the server.
pub struct Server {
    /// Tells the databases of this process from those of another.
    pub run: String,
    /// The database that `Database::migrated()` copies.
    template: OnceLock<String>,
    /// Holds the advisory lock that says "this run is alive" for as long as the process lives.
    _alive: Mutex<Client>,
}

/// The server under test; the first call clears up after runs that were killed.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let mut client = connect(&config("postgres"));
        let number = Uuid::new_v4().as_u128() as u32;
        client
            .execute(
                "SELECT pg_catalog.pg_advisory_lock($1, $2)",
                &[&LOCK_SPACE, &number.cast_signed()],
            )
            .expect("taking the lock of this test run");
        clear_up_after_killed_runs(&mut client);
        Server {
            run: format!("{PREFIX}{number:08x}"),
            template: OnceLock::new(),
            _alive: Mutex::new(client),
        }
    })
}

/// `server_version_num` of the server under test, such as 150018.
pub fn server_version() -> i32 {
    connect(&config("postgres"))
        .query_one("SELECT current_setting('server_version_num')::integer", &[])
        .expect("asking for the version of the server")
        .get(0)
}

/// How to reach `database` as the superuser of the tests.
pub fn config(database: &str) -> Config {
    let setting = |name: &str| {
        env::var(format!("CODEX_TEST_{name}"))
            .or_else(|_| env::var(name))
            .ok()
            .filter(|value| !value.is_empty())
    };
    let Some(host) = setting("PGHOST") else {
        panic!(
            "no server to test against: run `make test-pg`, which starts one, or set CODEX_TEST_PGHOST to the \
             socket folder of a Postgres that has this build of raptorflow_codex installed"
        );
    };
    let mut config = Config::new();
    config
        .host(&host)
        .user(&setting("PGUSER").unwrap_or_else(|| "postgres".into()))
        .dbname(database)
        .application_name("codex-pg-test");
    if let Some(port) = setting("PGPORT") {
        let port = port
            .parse()
            .unwrap_or_else(|_| panic!("PGPORT is \"{port}\", which is no port number"));
        config.port(port);
    }
    config
}

/// A session, or a failure that tells how to get a server.
pub fn connect(config: &Config) -> Client {
    config.connect(NoTls).unwrap_or_else(|error| {
        panic!(
            "cannot connect to {:?} as {:?}, database {:?}: {}\n\
             Run `make test-pg`, which starts a server for the tests.",
            config.get_hosts(),
            config.get_user().unwrap_or_default(),
            config.get_dbname().unwrap_or_default(),
            crate::error_message(&error),
        )
    })
}

/// Runs one statement that cannot be in a transaction, such as CREATE DATABASE.
pub fn maintain(sql: &str) -> Result<(), postgres::Error> {
    connect(&config("postgres")).batch_execute(sql)
}

impl Server {
    /// The name of a database in which `CREATE EXTENSION` and `codex.migrate()` ran, made at most once for
    /// an installed build whatever number of processes ask at once.
    pub fn template(&self) -> &str {
        self.template.get_or_init(|| {
            let mut client = connect(&config("postgres"));
            let name = format!("{TEMPLATE_PREFIX}{}", installed_build(&mut client));
            client
                .execute("SELECT pg_catalog.pg_advisory_lock($1, 0)", &[&LOCK_SPACE])
                .expect("waiting for the template database");
            let exists: bool = client
                .query_one(
                    "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)",
                    &[&name],
                )
                .expect("looking for the template database")
                .get(0);
            if !exists {
                make_template(&mut client, &name);
            }
            name
        })
    }
}

/// Makes the template under another name first: what is called a template is always a whole one.
fn make_template(client: &mut Client, name: &str) {
    for old in databases(client, TEMPLATE_PREFIX) {
        // One that is being copied by a run of an older build stays for the next time.
        let _ = client.batch_execute(&format!("ALTER DATABASE {old} IS_TEMPLATE false"));
        let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {old}"));
    }
    let raw = format!("{name}_raw");
    client
        .batch_execute(&format!("CREATE DATABASE {raw} TEMPLATE template0"))
        .expect("creating the template database");
    let migrated = config(&raw).connect(NoTls).and_then(|mut inside| {
        inside.batch_execute("CREATE EXTENSION raptorflow_codex; SELECT * FROM codex.migrate()")
    });
    if let Err(error) = migrated {
        let message = crate::error_message(&error);
        let _ = client.batch_execute(&format!("DROP DATABASE {raw} WITH (FORCE)"));
        panic!("CREATE EXTENSION and codex.migrate() failed in a fresh database: {message}");
    }
    // A database that nobody can connect to can always be copied.
    for sql in [
        format!("ALTER DATABASE {raw} WITH ALLOW_CONNECTIONS false IS_TEMPLATE true"),
        format!(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datname = '{raw}'"
        ),
        format!("ALTER DATABASE {raw} RENAME TO {name}"),
    ] {
        retry_while_in_use(|| client.batch_execute(&sql)).expect("finishing the template database");
    }
}

/// Repeats a statement that fails because a session that just left has not gone yet (55006).
pub fn retry_while_in_use(
    mut statement: impl FnMut() -> Result<(), postgres::Error>,
) -> Result<(), postgres::Error> {
    let mut tries = 0;
    loop {
        match statement() {
            Err(error) if crate::sqlstate(&error) == "55006" && tries < 100 => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            other => return other,
        }
    }
}

/// Tells one installed build of the extension from another: its SQL, and when its library was written.
fn installed_build(client: &mut Client) -> String {
    client
        .query_one(
            "WITH folder AS (
                 SELECT max(setting) FILTER (WHERE name = 'SHAREDIR') AS share,
                        max(setting) FILTER (WHERE name = 'PKGLIBDIR') AS lib
                 FROM pg_catalog.pg_config()
             )
             SELECT substr(md5(
                 string_agg(md5(pg_read_binary_file(share || '/extension/' || file)), ',' ORDER BY file)
                 || (SELECT modification::text || size::text
                     FROM pg_catalog.pg_stat_file(lib || '/raptorflow_codex.so'))), 1, 12)
             FROM folder,
                  LATERAL pg_catalog.pg_ls_dir(share || '/extension') AS file
             WHERE file LIKE 'raptorflow!_codex%' ESCAPE '!'
             GROUP BY share, lib",
            &[],
        )
        .unwrap_or_else(|error| {
            panic!(
                "the server has no raptorflow_codex installed ({}): run `make test-pg`, which installs it",
                crate::error_message(&error)
            )
        })
        .get(0)
}

/// Drops what runs left behind whose process is gone: their lock is free.
fn clear_up_after_killed_runs(client: &mut Client) {
    let databases = databases(client, PREFIX);
    let roles: Vec<String> = client
        .query(
            "SELECT rolname::text FROM pg_catalog.pg_roles WHERE starts_with(rolname, $1)",
            &[&PREFIX],
        )
        .expect("listing the roles of earlier runs")
        .iter()
        .map(|row| row.get(0))
        .collect();
    let drops = (databases.iter().map(|name| (name, "DATABASE")))
        .chain(roles.iter().map(|name| (name, "ROLE")));
    for (name, kind) in drops {
        let Some(number) = run_number(name) else {
            continue;
        };
        let dead: bool = client
            .query_one(
                "SELECT pg_catalog.pg_try_advisory_lock($1, $2)",
                &[&LOCK_SPACE, &number],
            )
            .expect("asking whether a run is alive")
            .get(0);
        if dead {
            let force = if kind == "DATABASE" {
                "WITH (FORCE)"
            } else {
                ""
            };
            // Another process that starts now may be dropping the same.
            let _ = client.batch_execute(&format!("DROP {kind} IF EXISTS {name} {force}"));
            client
                .execute(
                    "SELECT pg_catalog.pg_advisory_unlock($1, $2)",
                    &[&LOCK_SPACE, &number],
                )
                .expect("letting go of the lock of a dead run");
        }
    }
}

/// The run that a database or role belongs to, as the number of its lock.
fn run_number(name: &str) -> Option<i32> {
    let hexadecimal = name.strip_prefix(PREFIX)?.get(..8)?;
    u32::from_str_radix(hexadecimal, 16)
        .ok()
        .map(u32::cast_signed)
}

fn databases(client: &mut Client, prefix: &str) -> Vec<String> {
    client
        .query(
            "SELECT datname::text FROM pg_catalog.pg_database WHERE starts_with(datname, $1)",
            &[&prefix],
        )
        .expect("listing databases")
        .iter()
        .map(|row| row.get(0))
        .collect()
}
