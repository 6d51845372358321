//! Tests from outside: real sessions, real login roles, real commits.
//!
//! A test takes a database of its own, talks to it through one or more sessions, and asserts values:
//!
//! ```no_run
//! use codex_pg_test::{Database, fails_with, value};
//!
//! let db = Database::migrated();
//! let mut admin = db.admin();
//! let acme = codex_pg_test::workspace(&mut admin, "Acme");
//! let anna = codex_pg_test::member(&mut admin, acme, "anna@acme.example");
//!
//! let role = db.role("member");
//! admin.execute("SELECT codex.grant_member_role($1::text::regrole)", &[&role]).unwrap();
//!
//! let mut session = db.login("member");
//! let refused = session.execute("INSERT INTO public.user_stats (workspace_id, user_id) VALUES ($1, $2)", &[&acme, &anna]);
//! fails_with(refused, "42501");
//! assert_eq!(value::<i64>(&mut session, "SELECT count(*) FROM public.campaigns", &[]), 0);
//! ```
//!
//! | a database with | made by | costs |
//! |---|---|---|
//! | nothing | [`Database::empty`] | a copy of `template0` |
//! | the extension, no tables | [`Database::with_extension`] | `CREATE EXTENSION` |
//! | the extension and all tables | [`Database::migrated`] | a copy of a template made once an installed build |
//!
//! Databases and the roles made for them drop themselves; those of a run that was killed are dropped by the
//! next run. `CODEX_TEST_KEEP=1` keeps the database of a failing test for a look and prints its name.
//!
//! The server is told by the environment: `CODEX_TEST_PGHOST` (a socket folder or a host), `CODEX_TEST_PGPORT`
//! and `CODEX_TEST_PGUSER` (a superuser), each falling back to `PGHOST`, `PGPORT`, `PGUSER`. Without a server
//! the tests fail and say how to run them: a test that is skipped in silence proves nothing.

mod database;
mod failure;
mod fixture;
pub mod manual;
pub mod script;
mod server;
mod standby;

pub use database::{Database, Notices};
pub use failure::{Failure, error_message, fails_with, sqlstate};
pub use fixture::{member, user, value, workspace};
pub use postgres;
pub use server::server_version;
pub use standby::Standby;
pub use uuid::Uuid;
