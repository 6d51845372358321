//! `codex.migrate()` and `codex.migration_sql()`: bringing a database to a version.

use super::adopt;
use super::catalogue::{self, Body, Migration};
use super::database;
use super::foundation::Foundation;
use super::ledger;
use super::legacy;
use super::locks::{self, Mode};
use super::release;
use super::repair;
use crate::error::{CodexError, OrRaise, Outcome, required};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::time::Instant;

/// One line of what was done: version, name, outcome, detail.
pub type Line = (i32, String, &'static str, String);

/// Brings the database to a version, in one transaction.
///
/// - `target`: the version to reach, one of `codex.status()`'s; NULL (the default) for the newest.
/// - `users`: the table of users, with a uuid key `id`; NULL for the one in use, else `auth.users`, else
///   `public.users`, else one is made.
/// - `dry_run`: says what would be done and changes nothing.
/// - `archive_unused`: lets 012 move the nine unused tables of a legacy database to schema `codex_archive`;
///   otherwise that step is skipped and the tables are named.
///
/// Gives a row a migration: `applied`, `unchanged`, `skipped`, `repaired`, or `would apply`. Running it again
/// changes nothing, except that what was lost with the extension (triggers, policies, defaults) comes back.
/// Any number of sessions may run it at once. It waits for locks in short tries and gives up after
/// `lock_timeout` (10 s where that is 0) with 55P03.
///
/// Under a library that is newer than the extension in the database it goes as far as that version's migrations.
///
/// Refuses with 55000 inside CREATE or ALTER EXTENSION, above READ COMMITTED, where a relation of a new
/// table's name is in the way, and where an applied migration's text has changed; with 42501 where
/// privileges lack (all are named); with 22023 a target that there is not.
#[pg_extern(sql = "
CREATE FUNCTION migrate(target integer DEFAULT NULL, users regclass DEFAULT NULL, dry_run boolean DEFAULT false, archive_unused boolean DEFAULT false)
RETURNS TABLE (version integer, name text, outcome text, detail text)
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
SET row_security = off
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION migrate(integer, regclass, boolean, boolean) IS
'Brings this database to a version of the Codex (target; NULL: the newest), in one transaction; a row a migration says what was done. users names the table of users (default: the one in use, else auth.users, else public.users, else one is made). dry_run changes nothing. archive_unused lets 012 move unused legacy tables to schema codex_archive. Running it again changes nothing. Gives up with 55P03 after lock_timeout (10 s where that is 0).';
")]
fn migrate(
    target: Option<i32>,
    users: Option<pg_sys::Oid>,
    dry_run: Option<bool>,
    archive_unused: Option<bool>,
) -> TableIterator<
    'static,
    (
        name!(version, i32),
        name!(name, String),
        name!(outcome, &'static str),
        name!(detail, String),
    ),
> {
    TableIterator::new(run(target, users, dry_run, archive_unused).or_raise())
}

fn run(
    target: Option<i32>,
    users: Option<pg_sys::Oid>,
    dry_run: Option<bool>,
    archive_unused: Option<bool>,
) -> Outcome<Vec<Line>> {
    let dry_run = required(dry_run, "dry_run")?;
    let archive_unused = required(archive_unused, "archive_unused")?;
    let wanted = match target {
        None => None,
        Some(version) => Some(known(version, "target")?.version),
    };
    refuse_bad_moment("codex.migrate()")?;
    Spi::connect_mut(|client| {
        crate::statement::refuse_on_a_standby();
        if !dry_run {
            locks::exclude_other_migrations(client)?;
        }
        release::refuse_outdated_library(client)?;
        let fitting = release::newest_migration(client)?;
        let target = wanted.unwrap_or(fitting);
        if target > fitting {
            return Err(release::needs_update(target, fitting));
        }
        let entries = ledger::read(client)?;
        ledger::check(&entries)?;
        let reached = ledger::version(&entries);
        if target < reached {
            return Err(CodexError::bad_value(format!(
                "target is {target}, but this database is at {reached} already"
            ))
            .with_hint(format!(
                "SELECT * FROM codex.rollback({target}) takes migrations back."
            )));
        }
        let pending: Vec<&Migration> = catalogue::ALL
            .iter()
            .filter(|migration| migration.version <= target)
            .filter(|migration| {
                !entries
                    .iter()
                    .any(|entry| entry.version == migration.version)
            })
            .collect();
        let foundation = Foundation::look(client, users)?;
        let mut steps = Steps {
            foundation,
            archive_unused,
            dry_run,
        };
        let mut lines: Vec<Line> = entries
            .iter()
            .map(|entry| {
                (
                    entry.version,
                    entry.name.clone(),
                    "unchanged",
                    format!("applied {} by {}", entry.applied_at, entry.applied_by),
                )
            })
            .collect();
        let is_pending = |migration: &Migration| match migration.body {
            Body::ArchiveUnused => {
                archive_unused || legacy::unused_here(client).is_ok_and(|here| here.is_empty())
            }
            _ => true,
        };
        let to_do = pending.iter().any(|migration| is_pending(migration));
        if to_do {
            steps.refuse_obstacles(client, &pending)?;
            if !dry_run {
                let mut wanted: Vec<(pg_sys::Oid, Mode)> = steps
                    .foundation
                    .referenced
                    .iter()
                    .map(|table| (*table, Mode::BlockWriters))
                    .collect();
                let concerned = pending.iter().flat_map(|migration| {
                    migration
                        .tables
                        .iter()
                        .copied()
                        .chain(migration.tables_added_to())
                        .chain(migration.tables_read_under_lock().iter().copied())
                });
                let older = pending
                    .iter()
                    .filter(|migration| is_pending(migration))
                    .flat_map(|migration| legacy::tables_of(&migration.body));
                for table in concerned.map(str::to_string).chain(older) {
                    let there = database::oid_of(client, &table)?;
                    wanted.extend(there.map(|table| (table, Mode::BlockAll)));
                }
                locks::take(client, &wanted, "codex.migrate()")?;
            }
        }
        for migration in &pending {
            lines.push(steps.apply(client, migration)?);
        }
        if !entries.is_empty() {
            let mut repaired = repair::repair(client, &entries, &steps.foundation, dry_run)?;
            // Not while the locks of an adoption are held: validating reads whole tables.
            let validated = if to_do {
                Vec::new()
            } else {
                adopt::validate(client, dry_run)?
            };
            for (relation, constraint) in validated {
                if let Some(version) = catalogue::version_of_table(&relation) {
                    repaired.push((version, format!("validated {constraint} of {relation}")));
                }
            }
            for (version, what) in repaired {
                let verb = if dry_run { "would repair" } else { "repaired" };
                match lines.iter_mut().find(|line| line.0 == version) {
                    Some(line) if line.2 == "unchanged" => {
                        line.2 = verb;
                        line.3 = what;
                    }
                    Some(line) => {
                        line.3.push_str("; ");
                        line.3.push_str(&what);
                    }
                    None => {}
                }
            }
        }
        lines.sort_by_key(|line| line.0);
        let changed = lines
            .iter()
            .filter(|line| line.2 != "unchanged" && line.2 != "skipped")
            .count();
        if dry_run {
            notice!("codex.migrate(): dry run, nothing was changed");
        } else if changed == 0 {
            notice!("codex.migrate(): nothing to do, this database is at version {reached}");
        } else {
            settle_grants(client)?;
            tell_of_older_functions(client)?;
            notice!(
                "codex.migrate(): this database is at version {}",
                ledger::version(&ledger::read(client)?)
            );
        }
        if wanted.is_none() && fitting < catalogue::latest() {
            notice!(
                "codex.migrate(): migrations after {fitting:03} wait for ALTER EXTENSION raptorflow_codex UPDATE"
            );
        }
        Ok(lines)
    })
}

/// Brings the privileges in order after tables were made: what default privileges of the database gave too
/// broadly is taken back, and registered roles get theirs on what is new.
fn settle_grants(client: &mut SpiClient<'_>) -> Outcome<()> {
    for told in crate::policy::grants::take_back_broad_grants(client, &[])? {
        notice!("codex.migrate(): {told}");
    }
    for told in crate::policy::grants::reapply_grants(client)? {
        notice!("codex.migrate(): {told}");
    }
    Ok(())
}

/// The product's PL/pgSQL functions of another age stay where they are, and go on being called, until somebody
/// replaces them; says so.
fn tell_of_older_functions(client: &SpiClient<'_>) -> Outcome<()> {
    let older = database::query(
        client,
        "SELECT DISTINCT p.proname::text
           FROM pg_catalog.pg_proc AS p
           JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
          WHERE p.pronamespace = 'public'::regnamespace
            AND l.lanname = 'plpgsql'
            AND p.prorettype <> 'trigger'::regtype
            AND EXISTS (
                    SELECT
                      FROM pg_catalog.pg_proc AS c
                     WHERE c.pronamespace = 'codex'::regnamespace
                       AND c.proname = p.proname)
          ORDER BY 1",
        &[],
        |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
    )?;
    if !older.is_empty() {
        notice!(
            "codex.migrate(): older functions in public are still called by unqualified names: {}; SELECT * FROM codex.expose('public') replaces them",
            older.join(", ")
        );
    }
    Ok(())
}

/// How the pending migrations are applied to this database.
struct Steps {
    foundation: Foundation,
    archive_unused: bool,
    dry_run: bool,
}

impl Steps {
    /// Fails, naming all at once, where something keeps the pending migrations from being applied.
    fn refuse_obstacles(&self, client: &SpiClient<'_>, pending: &[&Migration]) -> Outcome<()> {
        let obstacles = self.foundation.obstacles(client)?;
        if !obstacles.is_empty() {
            return Err(CodexError::not_allowed(
                "codex.migrate() cannot build on this database as it is, or as you",
            )
            .with_detail(obstacles.join("\n"))
            .with_hint(
                "Nothing was changed. Mend what the detail lists, then run codex.migrate() again.",
            ));
        }
        let mut in_the_way = self.foundation.keys_to_build_first(client)?;
        for migration in pending {
            match migration.body {
                Body::MendLegacy => {
                    in_the_way.extend(legacy::plan_mend(client, adopt::Look::AtRows)?.obstacles);
                }
                Body::ArchiveUnused if self.archive_unused => {
                    let here = legacy::unused_here(client)?;
                    in_the_way.extend(legacy::plan_archive(client, &here)?.obstacles);
                }
                Body::Foundation | Body::ArchiveUnused | Body::Text { .. } => {}
            }
            if !matches!(migration.body, Body::Text { .. }) {
                continue;
            }
            in_the_way.extend(adopt::obstacles(client, &self.foundation, migration)?);
        }
        if in_the_way.is_empty() {
            return Ok(());
        }
        Err(CodexError::wrong_state(format!(
            "codex.migrate() cannot build its tables beside what is in this database: {} obstacle(s)",
            in_the_way.len()
        ))
        .with_detail(in_the_way.join("\n"))
        .with_hint("Nothing was changed. Mend what the detail lists, then run codex.migrate() again."))
    }

    fn apply(&mut self, client: &mut SpiClient<'_>, migration: &Migration) -> Outcome<Line> {
        let begun = Instant::now();
        let words = match &migration.body {
            Body::Foundation => {
                let words = self.foundation.in_words();
                if !self.dry_run {
                    let text = self.foundation.up_text();
                    database::run(client, &text)?;
                }
                words.join("; ")
            }
            Body::MendLegacy => {
                // What is in the way was found before, among the rows that everybody could still write.
                let plan = legacy::plan_mend(client, adopt::Look::AtDefinitions)?;
                let words = self.run_plan(client, &plan)?;
                if !self.dry_run {
                    for table in legacy::MENDED_TABLES {
                        adopt::keep_trigger_in_mind(client, table)?;
                    }
                }
                words
            }
            Body::ArchiveUnused => {
                let here = legacy::unused_here(client)?;
                if !here.is_empty() && !self.archive_unused {
                    let told = format!(
                        "left where they are: {}; migrate(archive_unused => true) moves them to schema codex_archive",
                        here.join(", ")
                    );
                    notice!("codex.migrate(): {} skipped, {told}", migration.label());
                    return Ok((
                        migration.version,
                        migration.name.to_string(),
                        "skipped",
                        told,
                    ));
                }
                let plan = legacy::plan_archive(client, &here)?;
                if !plan.obstacles.is_empty() {
                    return Err(legacy::cannot(&plan, &migration.label()));
                }
                self.run_plan(client, &plan)?
            }
            Body::Text { up, .. } if adopt::is_needed(client, migration)? => {
                adopt::apply(client, &self.foundation, migration, up, self.dry_run)?
            }
            Body::Text { up, .. } => {
                if !self.dry_run {
                    database::run(client, &self.foundation.fill_in(up))?;
                }
                migration.in_words()
            }
        };
        if self.dry_run {
            return Ok((
                migration.version,
                migration.name.to_string(),
                "would apply",
                words,
            ));
        }
        ledger::record(client, migration, begun.elapsed())?;
        notice!("codex.migrate(): {} applied: {words}", migration.label());
        Ok((
            migration.version,
            migration.name.to_string(),
            "applied",
            words,
        ))
    }

    fn run_plan(&self, client: &mut SpiClient<'_>, plan: &legacy::Plan) -> Outcome<String> {
        if !self.dry_run {
            for statement in &plan.statements {
                database::run(client, statement)?;
            }
        }
        Ok(plan.words.join("; "))
    }
}

/// The migration of that number, or 22023 with the numbers there are.
pub fn known(version: i32, argument: &str) -> Outcome<&'static Migration> {
    catalogue::find(version).ok_or_else(|| {
        CodexError::bad_value(format!(
            "{argument} is {version}; there is no such migration"
        ))
        .with_hint(format!(
            "Migrations: {}.",
            catalogue::ALL
                .iter()
                .map(Migration::label)
                .collect::<Vec<_>>()
                .join(", ")
        ))
    })
}

/// Refuses to change the schema where that cannot be done rightly.
pub fn refuse_bad_moment(what: &str) -> Outcome<()> {
    // SAFETY: plain variables of this backend.
    let (creating_extension, isolation) =
        unsafe { (pg_sys::creating_extension, pg_sys::XactIsoLevel) };
    if creating_extension {
        return Err(CodexError::wrong_state(format!(
            "{what} cannot run while an extension is being created or updated: its tables would become members of the extension"
        ))
        .with_hint("Run it on its own, after CREATE EXTENSION."));
    }
    // REPEATABLE READ is 2, SERIALIZABLE 3.
    if u32::try_from(isolation).unwrap_or(0) >= pg_sys::XACT_REPEATABLE_READ {
        return Err(CodexError::wrong_state(format!(
            "{what} runs under READ COMMITTED only: at a higher level it would not see what another session has just installed"
        ))
        .with_hint("BEGIN ISOLATION LEVEL READ COMMITTED; and call it there."));
    }
    Ok(())
}

/// The text of one migration for this database, to be run by psql or by the app's own migration tool.
///
/// - `version`: one of the migrations of `codex.status()`.
/// - `direction`: `up` (the default) or `down`.
///
/// The text is what `codex.migrate()` itself would run here, in a transaction, with the ledger's row at its end.
/// Refuses an unknown version or direction with 22023, and with 55000 a migration that is newer than the extension in
/// this database.
#[pg_extern(sql = "
CREATE FUNCTION migration_sql(version integer, direction text DEFAULT 'up')
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION migration_sql(integer, text) IS
'The text of one migration for this database (direction: up or down), as codex.migrate() would run it, in a transaction and with its row of the ledger: for psql -f, or for the app''s own migration tool.';
")]
fn migration_sql(version: Option<i32>, direction: Option<&str>) -> String {
    text_of(version, direction).or_raise()
}

fn text_of(version: Option<i32>, direction: Option<&str>) -> Outcome<String> {
    let version = required(version, "version")?;
    let direction = required(direction, "direction")?;
    let migration = known(version, "version")?;
    Spi::connect(|client| {
        let fitting = release::newest_migration(client)?;
        if version > fitting {
            return Err(release::needs_update(version, fitting));
        }
        let foundation = Foundation::look(client, None)?;
        let (body, bookkeeping) = match direction {
            "up" => {
                let body = match &migration.body {
                    Body::Foundation => foundation.up_text(),
                    Body::MendLegacy => legacy::plan_mend(client, adopt::Look::AtDefinitions)?
                        .statements
                        .join("\n\n"),
                    Body::ArchiveUnused => {
                        let here = legacy::unused_here(client)?;
                        legacy::plan_archive(client, &here)?.statements.join("\n\n")
                    }
                    Body::Text { up, .. } => foundation.fill_in(up),
                };
                let settled = format!(
                    "{}\nSELECT s.done FROM codex.settle_grants() AS s;\n",
                    ledger::record_text(migration)
                );
                (body, settled)
            }
            "down" => {
                let body = match &migration.body {
                    Body::Foundation => super::rollback::foundation_down_text(client)?,
                    Body::MendLegacy => {
                        let mut text = "-- What 011 filled in stays.\n".to_string();
                        for statement in legacy::plan_unmend(client)?.statements {
                            text.push_str(&format!("{statement};\n"));
                        }
                        text
                    }
                    Body::ArchiveUnused => legacy::plan_unarchive(client)?.statements.join("\n\n"),
                    Body::Text { down, .. } => (*down).to_string(),
                };
                let bookkeeping = match migration.body {
                    // The ledger itself goes.
                    Body::Foundation => String::new(),
                    _ => ledger::forget_text(migration),
                };
                (body, bookkeeping)
            }
            other => return Err(CodexError::not_one_of("direction", other, &["up", "down"])),
        };
        Ok(format!(
            "BEGIN;\n\nSET LOCAL search_path = pg_catalog, pg_temp;\nSET LOCAL lock_timeout = '5s';\n\n{}\n\n{bookkeeping}\nCOMMIT;\n",
            body.trim_end()
        ))
    })
}
