//! The Codex of RaptorFlow as a Postgres extension.
//!
//! What is here, in the order in which a newcomer wants it:
//!
//! | room | what it holds | what it may touch |
//! |---|---|---|
//! | [`mod@error`] | every error a user can meet | nothing |
//! | [`argument`] | what a function asks of its arguments | nothing |
//! | [`mod@statement`] | SQL prepared once a backend | nothing of its own |
//! | [`writing`] | what a statement that writes has to make ready, made ready cheaply | nothing of its own |
//! | [`subtransaction`] | work that can fail without failing the transaction | nothing of its own |
//! | [`idempotency`] | calls that can be sent again | `codex.requests` |
//! | [`context`] | who is asking: workspace and user of this transaction | reads the membership table |
//! | [`instant`] | points in time | nothing |
//! | [`retention`] | for how many days an engine keeps what has served | nothing |
//! | [`owner`] | what a trigger does as the owner of a table | nothing of its own |
//! | [`policy`] | row-level security of a table, and the grants that go with it | policies and grants |
//! | [`identifier`] | time-ordered UUIDs | nothing |
//! | [`row_triggers`] | triggers that several tables share | the row at hand |
//! | [`schema`] | migrate, rollback, verify, the ledger | every table's definition |
//! | [`campaigns`] [`achievements`] [`agents`] [`intelligence`] [`alerts`] [`notifications`] | the product's functions | the tables of the same name |
//! | [`signals`] | signals that fade, and insights that follow them | signals, insights and what is kept of them |
//! | [`maintenance`] | what time does, engine by engine | what each engine's upkeep does |
//! | [`departures`] | export and erasure of a workspace, erasure of a user | every table with rows of a workspace or a user |
//! | [`expose`] | call-throughs in another schema | functions in that schema |
//!
//! All functions are installed into schema `codex` (the control file says so); the tables are made by
//! `codex.migrate()` and never belong to the extension.

use pgrx::prelude::*;

mod achievements;
mod agents;
mod alerts;
mod argument;
mod campaigns;
mod context;
mod departures;
mod error;
mod expose;
mod idempotency;
mod identifier;
mod instant;
mod intelligence;
mod maintenance;
mod notifications;
mod owner;
mod policy;
mod retention;
mod row_triggers;
mod schema;
mod signals;
mod statement;
mod subtransaction;
mod writing;

pgrx::pg_module_magic!(name = c"raptorflow_codex", version = VERSION);

/// The version of the library, as Postgres takes it.
const VERSION: &std::ffi::CStr = match std::ffi::CStr::from_bytes_with_nul(
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes(),
) {
    Ok(version) => version,
    Err(_) => c"",
};

/// Called by Postgres when the library is loaded into a backend.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    agents::upkeep::define_settings();
    alerts::life::define_settings();
    context::define_settings();
    writing::watch();
    schema::release::watch();
    notifications::define_settings();
    achievements::upkeep::define_settings();
}

/// What `cargo pgrx test` asks of the crate.
#[cfg(test)]
pub mod pg_test {
    /// Nothing to prepare.
    pub fn setup(_options: Vec<&str>) {}

    /// Settings of the server that the tests run in.
    #[must_use]
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec![]
    }
}
