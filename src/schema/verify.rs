//! `codex.verify()`: whether this database has the Codex it should have, a labelled row a check.

use super::adopt;
use super::catalogue::{self, Migration};
use super::database::{has_unique_key, query, table_exists};
use super::ledger::{self, Entry};
use super::legacy;
use super::release::{self, LIBRARY_VERSION};
use super::shape::{self, Definition};
use crate::error::{CodexError, OrRaise, Outcome};
use pgrx::prelude::*;
use pgrx::spi::SpiClient;
use std::collections::BTreeMap;

/// One check and how it ended.
pub struct Check {
    /// Its label: `013.1`, `total.indexes`, `policies.public.campaigns`.
    pub id: String,
    /// What it looks at.
    pub what: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub actual: String,
    /// Whether they agree.
    pub passed: bool,
    /// What mends it, when it failed.
    pub hint: Option<String>,
}

/// The sixteen named checks of the product: label, and the tables or functions each is about.
const NAMED: &[(&str, &[&str])] = &[
    ("013.1", &["positioning"]),
    ("013.2", &["message_architecture"]),
    ("013.3", &["campaigns"]),
    ("013.4", &["campaign_quests", "campaign_cohorts"]),
    ("014.1", &["achievements"]),
    ("014.2", &["user_achievements"]),
    ("014.3", &["user_stats"]),
    ("014.4", &["unlock_achievement()"]),
    ("015.1", &["agent_registry"]),
    ("015.2", &["agent_capabilities"]),
    ("015.3", &["agent_assignments"]),
    ("015.4", &["agent_performance"]),
    ("016.1", &["intelligence_signals"]),
    ("016.2", &["market_insights"]),
    ("017.1", &["system_alerts"]),
    ("017.2", &["user_notifications"]),
];

/// The functions of the product's contract.
const PRODUCT_FUNCTIONS: &[&str] = &[
    "unlock_achievement",
    "update_experience_level",
    "calculate_move_success_rate",
    "update_campaign_timestamp",
    "record_agent_execution",
    "agent_performance_summary",
    "create_insight_from_signals",
    "get_active_insights",
    "get_priority_signals",
    "create_system_alert",
    "acknowledge_alert",
    "get_critical_alerts",
    "send_user_notification",
    "mark_notification_as_read",
    "get_user_unread_notifications",
];

/// The kinds of definitions, with the word for one and for many.
const KINDS: &[(&str, &str, &str)] = &[
    ("table", "table", "row security"),
    ("column", "column", "columns"),
    ("constraint", "constraint", "constraints"),
    ("index", "index", "indexes"),
    ("policy", "policy", "policies"),
    ("trigger", "trigger", "triggers"),
];

/// Compares this database with the Codex it should have; changes nothing and needs no privilege.
///
/// Gives a row a check: `id`, `what`, `expected`, `actual`, `passed`, `hint` (what mends it). First the sixteen
/// named checks of the product (013.1 to 017.2), then totals, then every kind of definition of every table,
/// the functions, the ledger and the foundation. Definitions are compared, not names. Tables, columns, indexes,
/// policies and triggers that somebody added do not disturb it, except permissive policies, which widen access.
#[pg_extern(stable, parallel_safe)]
#[search_path(pg_catalog, pg_temp)]
fn verify() -> TableIterator<
    'static,
    (
        name!(id, String),
        name!(what, String),
        name!(expected, String),
        name!(actual, String),
        name!(passed, bool),
        name!(hint, Option<String>),
    ),
> {
    TableIterator::new(Spi::connect(checks).or_raise().into_iter().map(|check| {
        (
            check.id,
            check.what,
            check.expected,
            check.actual,
            check.passed,
            check.hint,
        )
    }))
}

/// Like `codex.verify()`, for scripts: a sentence when all checks passed, else the error 55000 that lists the
/// failed ones.
#[pg_extern(stable, parallel_safe)]
#[search_path(pg_catalog, pg_temp)]
fn verify_or_raise() -> String {
    Spi::connect(|client| {
        let checks = checks(client)?;
        let failed: Vec<&Check> = checks.iter().filter(|check| !check.passed).collect();
        if failed.is_empty() {
            return Ok(format!("all {} checks passed", checks.len()));
        }
        Err(CodexError::wrong_state(format!(
            "{} of {} checks of the Codex failed",
            failed.len(),
            checks.len()
        ))
        .with_detail(
            failed
                .iter()
                .map(|check| format!("{} {}: {}", check.id, check.what, check.actual))
                .collect::<Vec<_>>()
                .join("\n"),
        )
        .with_hint("SELECT * FROM codex.verify() WHERE NOT passed; says what mends each."))
    })
    .or_raise()
}

extension_sql!(
    r#"
COMMENT ON FUNCTION verify() IS
'Compares this database with the Codex it should have, a row a check: the sixteen named checks of the product, totals, then the definition of every column, constraint, index, policy and trigger, the functions, the ledger and the foundation. hint says what mends a failed check. Changes nothing.';
COMMENT ON FUNCTION verify_or_raise() IS
'Like verify(), for scripts: a sentence when all checks passed, else error 55000 with the failed ones.';
"#,
    name = "comment_verify",
    requires = [verify, verify_or_raise]
);

/// What differs between an expected shape and this database.
struct Difference<'a> {
    expected: &'a Definition,
    actual: Option<&'a Definition>,
}

impl Difference<'_> {
    fn in_words(&self) -> String {
        let expected = self.expected;
        match (expected.kind.as_str(), self.actual) {
            ("table", Some(actual)) => format!("it is a {}", actual.text),
            ("table", None) => format!("table {} does not exist", expected.relation),
            (kind, None) => format!("{kind} {} is missing", expected.name),
            (kind, Some(actual)) => format!("{kind} {} is: {}", expected.name, actual.text),
        }
    }

    /// The statement that mends it.
    fn mend(&self) -> String {
        let Definition {
            relation,
            kind,
            name,
            text,
        } = self.expected;
        match (kind.as_str(), self.actual) {
            ("table", Some(actual)) if actual.text.starts_with("table") => {
                format!("ALTER TABLE {relation} ENABLE ROW LEVEL SECURITY;")
            }
            ("table", _) => "SELECT * FROM codex.migrate();".to_string(),
            ("column", None) => format!("ALTER TABLE {relation} ADD COLUMN {name} {text};"),
            ("column", Some(actual)) => mend_column(relation, name, text, &actual.text),
            ("constraint", None) => format!("ALTER TABLE {relation} ADD CONSTRAINT {name} {text};"),
            ("constraint", Some(actual)) if actual.text == format!("{text} NOT VALID") => {
                format!("ALTER TABLE {relation} VALIDATE CONSTRAINT {name};")
            }
            ("constraint", Some(_)) => format!(
                "ALTER TABLE {relation} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {text};"
            ),
            ("index", None) => format!("{text};"),
            ("index", Some(_)) => {
                let (schema, _) = relation.split_once('.').unwrap_or(("public", ""));
                format!("DROP INDEX {schema}.{name}; {text};")
            }
            ("trigger", None) => format!("{text};"),
            ("trigger", Some(actual)) if actual.text == format!("{text} (disabled)") => {
                format!("ALTER TABLE {relation} ENABLE TRIGGER {name};")
            }
            ("trigger", Some(_)) => format!("DROP TRIGGER {name} ON {relation}; {text};"),
            _ => "SELECT * FROM codex.migrate();".to_string(),
        }
    }
}

/// The statement that brings a column's type, NOT NULL or default back.
fn mend_column(relation: &str, name: &str, expected: &str, actual: &str) -> String {
    fn parts(text: &str) -> (&str, bool, Option<&str>) {
        let (head, default) = match text.split_once(" DEFAULT ") {
            Some((head, default)) => (head, Some(default)),
            None => (text, None),
        };
        match head.strip_suffix(" NOT NULL") {
            Some(kind) => (kind, true, default),
            None => (head, false, default),
        }
    }
    let (kind, not_null, default) = parts(expected);
    let (actual_kind, actual_not_null, actual_default) = parts(actual);
    let mut actions = Vec::new();
    if kind != actual_kind {
        actions.push(format!("ALTER COLUMN {name} TYPE {kind}"));
    }
    if not_null != actual_not_null {
        let verb = if not_null { "SET" } else { "DROP" };
        actions.push(format!("ALTER COLUMN {name} {verb} NOT NULL"));
    }
    if default != actual_default {
        actions.push(match default {
            Some(default) => format!("ALTER COLUMN {name} SET DEFAULT {default}"),
            None => format!("ALTER COLUMN {name} DROP DEFAULT"),
        });
    }
    format!("ALTER TABLE {relation} {};", actions.join(", "))
}

/// What of `expected` is missing or different in `here`.
fn differences<'a>(
    expected: impl Iterator<Item = &'a Definition>,
    here: &'a BTreeMap<(&'a str, &'a str, &'a str), &'a Definition>,
) -> Vec<Difference<'a>> {
    expected
        .filter_map(|expected| {
            let key = (
                expected.relation.as_str(),
                expected.kind.as_str(),
                expected.name.as_str(),
            );
            let actual = here.get(&key).copied();
            (actual.map(|actual| &actual.text) != Some(&expected.text))
                .then_some(Difference { expected, actual })
        })
        .collect()
}

fn index(shape: &[Definition]) -> BTreeMap<(&str, &str, &str), &Definition> {
    shape
        .iter()
        .map(|definition| {
            (
                (
                    definition.relation.as_str(),
                    definition.kind.as_str(),
                    definition.name.as_str(),
                ),
                definition,
            )
        })
        .collect()
}

/// A check of a list of differences: passed when there are none.
fn compare(id: String, what: String, expected: String, differences: &[Difference<'_>]) -> Check {
    const SHOWN: usize = 8;
    let passed = differences.is_empty();
    let mut words: Vec<String> = differences
        .iter()
        .take(SHOWN)
        .map(Difference::in_words)
        .collect();
    if differences.len() > SHOWN {
        words.push(format!("and {} more", differences.len() - SHOWN));
    }
    let mut mends: Vec<String> = Vec::new();
    for mend in differences.iter().map(Difference::mend) {
        if !mends.contains(&mend) {
            mends.push(mend);
        }
    }
    Check {
        id,
        what,
        expected,
        actual: if passed {
            "as defined".to_string()
        } else {
            words.join("; ")
        },
        passed,
        hint: (!passed).then(|| mends.join(" ")),
    }
}

/// All checks, in the order in which they are shown.
pub fn checks(client: &SpiClient<'_>) -> Outcome<Vec<Check>> {
    let mut tables = shape::of_tables(client)?;
    let expected = adopt::expected_tables(client)?;
    // Tables of an older application that 011 mended are not ours but for this.
    for table in legacy::MENDED_TABLES {
        let completing = shape::of_table(client, table)?
            .into_iter()
            .filter(|definition| ["table", "trigger"].contains(&definition.kind.as_str()));
        tables.extend(completing);
    }
    let functions = shape::of_functions(client)?;
    let mut checks = Vec::new();
    named(&expected, &tables, &functions, &mut checks);
    totals(client, &functions, &mut checks)?;
    definitions(&expected, &tables, &mut checks);
    extra_policies(&tables, &mut checks);
    functions_as_released(&functions, &mut checks);
    library(client, &mut checks)?;
    if ledger::is_hidden(client)? {
        checks.push(Check {
            id: "ledger".to_string(),
            what: "the ledger codex.migrations".to_string(),
            expected: "readable".to_string(),
            actual: "you may not read it, so that what was applied was not checked".to_string(),
            passed: false,
            hint: Some("Ask its owner: GRANT SELECT ON codex.migrations TO your role;".to_string()),
        });
    } else {
        the_ledger(&ledger::read(client)?, &mut checks);
    }
    foundation(client, &mut checks)?;
    Ok(checks)
}

fn named(
    all: &[Definition],
    tables: &[Definition],
    functions: &[Definition],
    checks: &mut Vec<Check>,
) {
    let here = index(tables);
    let functions_here = index(functions);
    for (id, subjects) in NAMED {
        let what = subjects.join(" and ");
        if let Some(function) = subjects
            .first()
            .and_then(|subject| subject.strip_suffix("()"))
        {
            let expected: Vec<&Definition> = shape::EXPECTED_FUNCTIONS
                .iter()
                .filter(|definition| definition.name.starts_with(&format!("{function}(")))
                .collect();
            let found = differences(expected.into_iter(), &functions_here);
            let mut check = compare(
                (*id).to_string(),
                format!("function {what}"),
                "the function with its arguments and result".to_string(),
                &found,
            );
            check.hint = check.hint.map(|_| REINSTALL.to_string());
            checks.push(check);
            continue;
        }
        let relations: Vec<String> = subjects
            .iter()
            .map(|table| format!("public.{table}"))
            .collect();
        let expected: Vec<&Definition> = all
            .iter()
            .filter(|definition| relations.contains(&definition.relation))
            .collect();
        let count = |kind: &str| {
            expected
                .iter()
                .filter(|definition| definition.kind == kind)
                .count()
        };
        let wanted = format!(
            "{} column(s), {} constraint(s), {} index(es), {} policy(ies), {} trigger(s)",
            count("column"),
            count("constraint"),
            count("index"),
            count("policy"),
            count("trigger")
        );
        let absent: Vec<&String> = relations
            .iter()
            .filter(|relation| !here.contains_key(&(relation.as_str(), "table", "")))
            .collect();
        if absent.is_empty() {
            let found = differences(expected.into_iter(), &here);
            checks.push(compare(
                (*id).to_string(),
                format!("table {what}"),
                wanted,
                &found,
            ));
        } else {
            checks.push(Check {
                id: (*id).to_string(),
                what: format!("table {what}"),
                expected: wanted,
                actual: absent
                    .iter()
                    .map(|relation| format!("table {relation} does not exist"))
                    .collect::<Vec<_>>()
                    .join("; "),
                passed: false,
                hint: Some("SELECT * FROM codex.migrate();".to_string()),
            });
        }
    }
}

fn totals(
    client: &SpiClient<'_>,
    functions: &[Definition],
    checks: &mut Vec<Check>,
) -> Outcome<()> {
    let names: Vec<String> = catalogue::product_tables()
        .map(|(_, table)| table.to_string())
        .collect();
    let counts = query(
        client,
        "WITH new AS (
             SELECT c.oid
               FROM pg_catalog.pg_class AS c
               JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
              WHERE n.nspname = 'public'
                AND c.relkind IN ('r', 'p')
                AND c.relname = ANY ($1::text[])
         )
         SELECT (SELECT pg_catalog.count(*)
                   FROM pg_catalog.pg_class AS c
                   JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                  WHERE n.nspname = 'public'
                    AND c.relkind IN ('r', 'p')
                    AND NOT c.relispartition),
                (SELECT pg_catalog.count(*) FROM new),
                (SELECT pg_catalog.count(*) FROM pg_catalog.pg_policy AS p JOIN new ON new.oid = p.polrelid),
                (SELECT pg_catalog.count(*) FROM pg_catalog.pg_index AS i JOIN new ON new.oid = i.indrelid WHERE i.indisvalid),
                (SELECT pg_catalog.count(*) FROM pg_catalog.pg_constraint AS k JOIN new ON new.oid = k.conrelid WHERE k.contype = 'f')",
        &[names.clone().into()],
        |row| {
            Ok((
                row.get::<i64>(1)?.unwrap_or(0),
                row.get::<i64>(2)?.unwrap_or(0),
                row.get::<i64>(3)?.unwrap_or(0),
                row.get::<i64>(4)?.unwrap_or(0),
                row.get::<i64>(5)?.unwrap_or(0),
            ))
        },
    )?;
    let (in_public, new, policies, indexes, keys) = counts.into_iter().next().unwrap_or_default();
    let present = PRODUCT_FUNCTIONS
        .iter()
        .filter(|name| {
            functions
                .iter()
                .any(|function| function.name.split('(').next() == Some(**name))
        })
        .count();
    let sixteen = i64::try_from(names.len()).unwrap_or(i64::MAX);
    // The sixteen stand beside at least workspaces, cohorts and moves.
    let least_in_public = sixteen + 3;
    let rows: [(&str, &str, i64, i64, bool); 6] = [
        (
            "total.tables",
            "tables in public",
            least_in_public,
            in_public,
            in_public >= least_in_public,
        ),
        (
            "total.new_tables",
            "tables of the Codex in public",
            sixteen,
            new,
            new == sixteen,
        ),
        (
            "total.policies",
            "policies on them",
            15,
            policies,
            policies >= 15,
        ),
        (
            "total.indexes",
            "valid indexes on them",
            60,
            indexes,
            indexes >= 60,
        ),
        (
            "total.foreign_keys",
            "foreign keys on them",
            40,
            keys,
            keys >= 40,
        ),
        (
            "total.functions",
            "functions of the product",
            14,
            i64::try_from(present).unwrap_or(0),
            present >= 14,
        ),
    ];
    for (id, what, expected, actual, passed) in rows {
        let exactly = id == "total.new_tables";
        checks.push(Check {
            id: id.to_string(),
            what: what.to_string(),
            expected: if exactly {
                format!("{expected}")
            } else {
                format!("at least {expected}")
            },
            actual: actual.to_string(),
            passed,
            hint: (!passed).then(|| {
                if id == "total.functions" {
                    REINSTALL.to_string()
                } else {
                    "SELECT * FROM codex.migrate();".to_string()
                }
            }),
        });
    }
    Ok(())
}

const REINSTALL: &str = "ALTER EXTENSION raptorflow_codex UPDATE; or, where a function was dropped, DROP EXTENSION raptorflow_codex CASCADE; CREATE EXTENSION raptorflow_codex; SELECT * FROM codex.migrate();";

fn definitions(all: &[Definition], tables: &[Definition], checks: &mut Vec<Check>) {
    let here = index(tables);
    let of_migrations = catalogue::ALL
        .iter()
        .map(|migration| migration.tables)
        .chain([legacy::MENDED_TABLES]);
    for tables in of_migrations {
        for table in tables {
            for (kind, _, many) in KINDS {
                let expected: Vec<&Definition> = all
                    .iter()
                    .filter(|definition| definition.relation == *table && definition.kind == *kind)
                    .collect();
                if expected.is_empty() {
                    continue;
                }
                let wanted = match *kind {
                    "table" => expected[0].text.clone(),
                    _ => format!("{} as defined", expected.len()),
                };
                let mut found = differences(expected.into_iter(), &here);
                if !here.contains_key(&(*table, "table", "")) && *kind != "table" {
                    // The row of the table itself says that it is not there.
                    found.clear();
                    checks.push(Check {
                        id: format!("{}.{table}", many.replace(' ', "_")),
                        what: format!("{many} of {table}"),
                        expected: wanted,
                        actual: format!("table {table} does not exist"),
                        passed: false,
                        hint: Some("SELECT * FROM codex.migrate();".to_string()),
                    });
                    continue;
                }
                checks.push(compare(
                    format!("{}.{table}", many.replace(' ', "_")),
                    format!("{many} of {table}"),
                    wanted,
                    &found,
                ));
            }
        }
    }
}

/// A permissive policy that is not ours is OR-ed with ours and widens access.
fn extra_policies(tables: &[Definition], checks: &mut Vec<Check>) {
    let extra: Vec<&Definition> = tables
        .iter()
        .filter(|definition| {
            definition.kind == "policy" && definition.text.starts_with("PERMISSIVE")
        })
        .filter(|definition| {
            !shape::EXPECTED_TABLES.iter().any(|expected| {
                expected.kind == "policy"
                    && expected.relation == definition.relation
                    && expected.name == definition.name
            })
        })
        .collect();
    checks.push(Check {
        id: "policies.additional".to_string(),
        what: "permissive policies that the Codex did not make".to_string(),
        expected: "none: permissive policies are OR-ed, so that one more shows more rows"
            .to_string(),
        actual: if extra.is_empty() {
            "none".to_string()
        } else {
            extra
                .iter()
                .map(|policy| format!("{} on {}: {}", policy.name, policy.relation, policy.text))
                .collect::<Vec<_>>()
                .join("; ")
        },
        passed: extra.is_empty(),
        hint: (!extra.is_empty()).then(|| {
            extra
                .iter()
                .map(|policy| format!("DROP POLICY {} ON {};", policy.name, policy.relation))
                .collect::<Vec<_>>()
                .join(" ")
        }),
    });
}

fn functions_as_released(functions: &[Definition], checks: &mut Vec<Check>) {
    let here = index(functions);
    let found = differences(shape::EXPECTED_FUNCTIONS.iter(), &here);
    let mut check = compare(
        "functions.codex".to_string(),
        "functions of the extension".to_string(),
        format!("{} as released", shape::EXPECTED_FUNCTIONS.len()),
        &found,
    );
    check.hint = check.hint.map(|_| REINSTALL.to_string());
    checks.push(check);
}

fn library(client: &SpiClient<'_>, checks: &mut Vec<Check>) -> Outcome<()> {
    let installed = release::installed(client)?.unwrap_or_else(|| "none".to_string());
    let passed = installed == LIBRARY_VERSION;
    checks.push(Check {
        id: "library.version".to_string(),
        what: "version of the library, and of the extension in this database".to_string(),
        expected: LIBRARY_VERSION.to_string(),
        actual: installed,
        passed,
        hint: (!passed)
            .then(|| format!("ALTER EXTENSION raptorflow_codex UPDATE TO '{LIBRARY_VERSION}';")),
    });
    Ok(())
}

fn the_ledger(entries: &[Entry], checks: &mut Vec<Check>) {
    let expected_version = ledger::version(entries).max(catalogue::PRODUCT);
    for migration in catalogue::ALL {
        let mut check = ledger_row(migration, entries);
        if migration.version > expected_version {
            // Waiting is no fault: a database may stay at the product's own version.
            check.expected = "applied, or waiting".to_string();
            check.actual = "waiting: SELECT * FROM codex.migrate() applies it".to_string();
            check.passed = true;
            check.hint = None;
        }
        checks.push(check);
    }
    for entry in entries
        .iter()
        .filter(|entry| catalogue::find(entry.version).is_none())
    {
        checks.push(Check {
            id: format!("ledger.{:03}", entry.version),
            what: format!("migration {:03} {}", entry.version, entry.name),
            expected: "a migration that this library knows".to_string(),
            actual: format!(
                "applied by version {}, unknown to {LIBRARY_VERSION}",
                entry.extension_version
            ),
            passed: false,
            hint: Some(format!(
                "Install raptorflow_codex {} or newer.",
                entry.extension_version
            )),
        });
    }
}

fn ledger_row(migration: &Migration, entries: &[Entry]) -> Check {
    let mut check = Check {
        id: format!("ledger.{:03}", migration.version),
        what: format!("migration {}", migration.label()),
        expected: "applied, from the text this library has".to_string(),
        actual: String::new(),
        passed: false,
        hint: None,
    };
    match entries
        .iter()
        .find(|entry| entry.version == migration.version)
    {
        None if migration.version == 12 && !entries.is_empty() => {
            // Optional by design: it moves tables only when asked to.
            check.expected = "applied, or skipped because unused tables were to stay".to_string();
            check.actual = "skipped".to_string();
            check.passed = true;
        }
        None => {
            check.actual = "not applied".to_string();
            check.hint = Some("SELECT * FROM codex.migrate();".to_string());
        }
        Some(entry) if entry.checksum != migration.checksum() => {
            check.actual = format!(
                "{} changed after it was applied: checksum {}… then, {}… now",
                migration.file(),
                entry.checksum.chars().take(12).collect::<String>(),
                migration.checksum().chars().take(12).collect::<String>()
            );
            check.hint = Some(
                "Install the library that this database was migrated with, or a newer release."
                    .to_string(),
            );
        }
        Some(entry) => {
            check.actual = format!("applied {}", entry.applied_at);
            check.passed = true;
        }
    }
    check
}

fn foundation(client: &SpiClient<'_>, checks: &mut Vec<Check>) -> Outcome<()> {
    let users = query(
        client,
        "SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname)
           FROM pg_catalog.pg_constraint AS k
           JOIN pg_catalog.pg_class AS t ON t.oid = k.conrelid
           JOIN pg_catalog.pg_namespace AS tn ON tn.oid = t.relnamespace
           JOIN pg_catalog.pg_class AS c ON c.oid = k.confrelid
           JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_attribute AS a
             ON a.attrelid = t.oid
            AND a.attnum = k.conkey[1]
          WHERE k.contype = 'f'
            AND tn.nspname = 'public'
            AND t.relname = ANY ($1::text[])
            AND a.attname IN ('created_by', 'user_id', 'assigned_by', 'assigned_to_user_id', 'reviewed_by', 'acknowledged_by')
          ORDER BY 1",
        &[catalogue::product_tables().map(|(_, table)| table.to_string()).collect::<Vec<_>>().into()],
        |row| Ok(row.get::<String>(1)?.unwrap_or_default()),
    )?;
    checks.push(Check {
        id: "foundation.users".to_string(),
        what: "the table of users".to_string(),
        expected: "one table that all user columns refer to".to_string(),
        actual: if users.is_empty() {
            "none".to_string()
        } else {
            users.join(", ")
        },
        passed: users.len() == 1,
        hint: (users.len() != 1).then(|| "SELECT * FROM codex.migrate();".to_string()),
    });
    let members: Vec<&str> = {
        let mut found = Vec::new();
        for table in ["public.workspace_members", "public.user_workspaces"] {
            if table_exists(client, table)? {
                found.push(table);
            }
        }
        found
    };
    checks.push(Check {
        id: "foundation.members".to_string(),
        what: "the table that says who belongs to which workspace".to_string(),
        expected: "public.workspace_members, or the older public.user_workspaces".to_string(),
        actual: members
            .first()
            .map_or("none".to_string(), |table| (*table).to_string()),
        passed: !members.is_empty(),
        hint: members
            .is_empty()
            .then(|| "SELECT * FROM codex.migrate();".to_string()),
    });
    for table in ["public.cohorts", "public.moves"] {
        let passed =
            table_exists(client, table)? && has_unique_key(client, table, &["workspace_id", "id"])?;
        checks.push(Check {
            id: format!("foundation.{}", table.trim_start_matches("public.")),
            what: format!("unique key of {table}"),
            expected: "(workspace_id, id)".to_string(),
            actual: if passed { "there" } else { "missing" }.to_string(),
            passed,
            hint: (!passed).then(|| "SELECT * FROM codex.migrate();".to_string()),
        });
    }
    Ok(())
}
