//! Releases: which version of the extension this library is, and which one this database has.
//!
//! The library is a file of the server; the functions in `pg_extension`'s catalog are those of the version that
//! `CREATE EXTENSION` or `ALTER EXTENSION … UPDATE` last brought to the database. After an upgrade of the package the two
//! differ for a while, in one direction or in the other:
//!
//! | the library is | where that comes from | what happens |
//! |---|---|---|
//! | the same | | everything works |
//! | newer than the database's version | the package was upgraded, `ALTER EXTENSION` not yet run | the functions that there are work on, policies and triggers included: no C symbol is ever taken away. `codex.migrate()` goes as far as the migrations of the database's version, and says what is waiting. `codex.verify()` fails, with the statement that mends it |
//! | older than the database's version | a session that has had the old library loaded since before the update; a server to which the package was not brought | reading works on; every function that writes, and `migrate()` and `rollback()`, raise 55000: reconnect, or install the package |
//!
//! An older library may not write, because it does not know what newer functions and tables expect of a write.
//! Whether it is older is asked once, and again after somebody changed a function: a look at one flag otherwise.

use super::catalogue;
use super::database::value;
use crate::error::{CodexError, Outcome};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::cell::Cell;

/// The version of this library.
pub const LIBRARY_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The releases before this one, oldest first, each with the newest migration it had.
const EARLIER: &[(&str, i32)] = &[("0.1.0", 17)];

thread_local! {
    /// Whether the library was found to be no older than the extension, and no function changed since.
    static IS_CURRENT: Cell<bool> = const { Cell::new(false) };
}

/// Has Postgres tell us when a function is made or changed, as every update of an extension does. Called once, when
/// the library is loaded.
pub fn watch() {
    // SAFETY: the callback is a plain function of a library that is never unloaded; it touches one cell.
    unsafe {
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            Some(at_changed_function),
            pg_sys::Datum::from(0),
        );
    }
}

unsafe extern "C-unwind" fn at_changed_function(_: pg_sys::Datum, _: i32, _: u32) {
    IS_CURRENT.set(false);
}

/// The version of the extension in this database.
pub fn installed(client: &SpiClient<'_>) -> Outcome<Option<String>> {
    value(
        client,
        "SELECT e.extversion::text
           FROM pg_catalog.pg_extension AS e
          WHERE e.extname = 'raptorflow_codex'",
        &[],
    )
}

/// Major, minor and patch; a version in another form counts as newer than any.
fn parts(version: &str) -> [u32; 3] {
    let mut parts = [0; 3];
    let mut texts = version.split(['.', '-']);
    for part in &mut parts {
        match texts.next().map(str::parse) {
            Some(Ok(number)) => *part = number,
            _ => return [u32::MAX; 3],
        }
    }
    parts
}

/// Fails where this library is older than the extension in the database.
pub fn refuse_outdated_library(client: &SpiClient<'_>) -> Outcome<()> {
    if IS_CURRENT.get() {
        return Ok(());
    }
    // Set first: a message that arrives while the version is read has it read again next time.
    IS_CURRENT.set(true);
    let installed = installed(client)?;
    match installed {
        Some(installed) if parts(&installed) > parts(LIBRARY_VERSION) => {
            IS_CURRENT.set(false);
            Err(CodexError::wrong_state(format!(
                "this session runs the library of raptorflow_codex {LIBRARY_VERSION}, and the extension in this database is {installed}"
            ))
            .with_hint(format!(
                "Reconnect: a new session loads the library that is installed now. Where that does not help, install raptorflow_codex {installed} on this server."
            )))
        }
        _ => Ok(()),
    }
}

/// The newest migration that fits the version of the extension in this database.
pub fn newest_migration(client: &SpiClient<'_>) -> Outcome<i32> {
    let Some(installed) = installed(client)? else {
        return Ok(catalogue::latest());
    };
    Ok(newest_migration_of(&installed))
}

fn newest_migration_of(installed: &str) -> i32 {
    if parts(installed) >= parts(LIBRARY_VERSION) {
        return catalogue::latest();
    }
    EARLIER
        .iter()
        .filter(|(version, _)| parts(version) <= parts(installed))
        .map(|(_, newest)| *newest)
        .next_back()
        .unwrap_or(catalogue::PRODUCT)
}

/// Refuses a migration that is newer than the extension in this database.
pub fn needs_update(version: i32, fitting: i32) -> CodexError {
    CodexError::wrong_state(format!(
        "migration {version:03} comes with raptorflow_codex {LIBRARY_VERSION}; the extension in this database is older, and goes as far as {fitting:03}"
    ))
    .with_hint("ALTER EXTENSION raptorflow_codex UPDATE; then run codex.migrate() again.")
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use super::*;

    #[pg_test]
    fn versions_compare_by_number() {
        assert!(parts("0.10.0") > parts("0.9.9"));
        assert!(parts("1.0.0") > parts("0.99.99"));
        assert_eq!(parts("0.2.0-rc1"), [0, 2, 0]);
        assert!(parts("next") > parts(LIBRARY_VERSION));
        assert_eq!(parts("0.2"), [u32::MAX; 3]);
    }

    #[pg_test]
    fn each_release_has_its_migrations() {
        assert_eq!(newest_migration_of("0.1.0"), 17);
        assert_eq!(newest_migration_of("0.1.7"), 17);
        assert_eq!(newest_migration_of(LIBRARY_VERSION), catalogue::latest());
        assert_eq!(newest_migration_of("99.0.0"), catalogue::latest());
    }
}
