//! The schema: what the Codex's tables are, and bringing a database there and back.
//!
//! | file | what it holds |
//! |---|---|
//! | `adopt` | tables that were there before the Codex |
//! | `catalogue` | the migrations, in order |
//! | `database` | what is in this database: tables, columns, privileges |
//! | `foundation` | the tables the Codex builds on, made where they are missing |
//! | `legacy` | 011 and 012: what older databases need first |
//! | `ledger` | `codex.migrations`: what was applied |
//! | `locks` | waiting for tables without holding anybody up |
//! | `migrate` | `codex.migrate()`, `codex.migration_sql()` |
//! | `release` | the version of the library, and that of the extension in this database |
//! | `rollback` | `codex.rollback()` |
//! | `shape` | the definitions of a migrated schema, and those of this database |
//! | `verify` | `codex.verify()`, `codex.verify_or_raise()` |
//! | `status` | `codex.status()` |
//!
//! The way of a migration: its text (`sql/migrations/NNN_name.up.sql`) is run by `migrate()` or printed by
//! `migration_sql()`; either way a row of the ledger says so. `sql/shape.tsv` lists every definition that a
//! migrated schema has; it is written from a database (`make shape`), and a test says when it is out of date.

mod adopt;
mod catalogue;
pub(crate) mod database;
pub(crate) mod foundation;
mod ledger;
mod legacy;
pub mod locks;
mod migrate;
pub mod release;
mod repair;
mod rollback;
mod shape;
mod status;
#[cfg(any(test, feature = "pg_test"))]
mod tests;
mod verify;
