//! Install scripts of the extension: their statements, and the script that leads from one version to the next.
//!
//! pgrx writes the install script of a version from the Rust source. What an older database lacks of it is the
//! upgrade script: every statement that the older script does not have, in the new one's order. A function that the
//! older script makes differently is replaced, and DO blocks, which give privileges to all functions there are, run
//! again. Nothing is taken away: an older database's policies, triggers and callers go on finding what they call.
//!
//! What was released is frozen: `sql/released.tsv` has a line a file, with the version that it was released in and its
//! SHA-256, and a line a migration, with the checksum that ledgers keep of it.

use postgres::Client;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The version that is being worked on.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The folder `sql` of this project.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../sql"))
}

/// One thing that was released.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released {
    /// The version that it came with.
    pub version: String,
    /// A file in `sql`, or `migration NNN`.
    pub what: String,
    /// SHA-256 in hexadecimal: of the file, or what the ledger keeps.
    pub checksum: String,
}

/// What was released, from `sql/released.tsv`.
pub fn released() -> Vec<Released> {
    std::fs::read_to_string(folder().join("released.tsv"))
        .expect("sql/released.tsv")
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [version, what, checksum] = fields[..] else {
                panic!("sql/released.tsv: {line}");
            };
            Released {
                version: version.to_string(),
                what: what.to_string(),
                checksum: checksum.to_string(),
            }
        })
        .collect()
}

/// The last version that was released before the one that is being worked on.
pub fn version_before() -> String {
    released()
        .into_iter()
        .rfind(|released| released.version != VERSION)
        .expect("a version was released before")
        .version
}

/// All files and migrations that a release of `VERSION` freezes, as they are now.
pub fn freezable(migrated: &mut Client) -> Vec<Released> {
    let mut things = Vec::new();
    for inner in ["", "foundation", "migrations"] {
        let entries = std::fs::read_dir(folder().join(inner)).expect("a folder of sql");
        for entry in entries {
            let path = entry.expect("a file").path();
            if path.extension().is_some_and(|extension| extension == "sql") {
                let name = path.strip_prefix(folder()).expect("in sql");
                things.push(Released {
                    version: VERSION.to_string(),
                    what: name.display().to_string(),
                    checksum: checksum(&path),
                });
            }
        }
    }
    let rows = migrated
        .query(
            "SELECT m.version, m.checksum FROM codex.migrations AS m",
            &[],
        )
        .expect("a ledger");
    things.extend(rows.iter().map(|row| Released {
        version: VERSION.to_string(),
        what: format!("migration {:03}", row.get::<_, i32>(0)),
        checksum: row.get(1),
    }));
    things.sort_by(|a, b| a.what.cmp(&b.what));
    things
}

fn checksum(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The install script of this version, as it was installed into the server.
pub fn installed(session: &mut Client) -> String {
    let path = extension_folder(session).join(format!("raptorflow_codex--{VERSION}.sql"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folder in which the server finds its extensions' scripts.
pub fn extension_folder(session: &mut Client) -> PathBuf {
    let share: String = crate::value(
        session,
        "SELECT setting FROM pg_catalog.pg_config() WHERE name = 'SHAREDIR'",
        &[],
    );
    PathBuf::from(share).join("extension")
}

/// The script that leads from the version before to the one that is being worked on, and its file's name.
pub fn upgrade(new: &str) -> (String, String) {
    let before = version_before();
    let old = std::fs::read_to_string(folder().join(format!("raptorflow_codex--{before}.sql")))
        .expect("the script of the version before");
    let name = format!("raptorflow_codex--{before}--{VERSION}.sql");
    let mut text = format!(
        "-- From {before} to {VERSION}: what a database of {before} lacks. Written by `make shape` from the two install scripts.\n"
    );
    for statement in difference(&old, new) {
        text.push('\n');
        text.push_str(&statement);
        text.push_str(";\n");
    }
    (name, text)
}

/// What `new` has and `old` has not. Panics where `new` lacks a function of `old`.
pub fn difference(old: &str, new: &str) -> Vec<String> {
    let old_statements: BTreeSet<String> = statements(old).into_iter().collect();
    let old_functions: BTreeSet<String> = old_statements
        .iter()
        .filter_map(|statement| function(statement))
        .collect();
    let new_statements = statements(new);
    let new_functions: BTreeSet<String> = new_statements
        .iter()
        .filter_map(|statement| function(statement))
        .collect();
    let gone: Vec<&String> = old_functions.difference(&new_functions).collect();
    assert!(
        gone.is_empty(),
        "functions may not go, nor change their arguments: {gone:?}"
    );
    new_statements
        .into_iter()
        .filter(|statement| statement.starts_with("DO ") || !old_statements.contains(statement))
        .map(|statement| match function(&statement) {
            Some(name) if old_functions.contains(&name) => {
                statement.replacen("CREATE ", "CREATE OR REPLACE ", 1)
            }
            _ => statement,
        })
        .collect()
}

/// The name and the arguments' types of the function that a statement makes.
fn function(statement: &str) -> Option<String> {
    let rest = statement.strip_prefix("CREATE ")?.trim_start();
    let rest = rest.strip_prefix("FUNCTION ")?;
    let (name, rest) = rest.split_once('(')?;
    let mut depth = 1;
    let end = rest.find(|c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    let arguments = rest[..end].replace("\"", "");
    Some(format!(
        "{}({})",
        name.trim().trim_matches('"'),
        arguments.split_whitespace().collect::<Vec<_>>().join(" ")
    ))
}

/// The statements of a script, without comments, each without its semicolon.
pub fn statements(script: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut current = String::new();
    let mut rest = script;
    while let Some(c) = rest.chars().next() {
        let taken = if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            current.push('\n');
            continue;
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, rest)| rest);
            continue;
        } else if c == '\'' || c == '"' {
            // A doubled quote ends one piece and begins the next: the same text.
            rest[1..].find(c).map_or(rest.len(), |end| end + 2)
        } else if let Some(tag) = dollar_tag(rest) {
            rest[tag.len()..]
                .find(tag)
                .map_or(rest.len(), |end| end + 2 * tag.len())
        } else {
            c.len_utf8()
        };
        if c == ';' {
            keep(&mut statements, &mut current);
        } else {
            current.push_str(&rest[..taken]);
        }
        rest = &rest[taken..];
    }
    keep(&mut statements, &mut current);
    statements
}

fn keep(statements: &mut Vec<String>, current: &mut String) {
    let lines: Vec<&str> = current
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let text = lines.join("\n").trim().to_string();
    if !text.is_empty() {
        statements.push(text);
    }
    current.clear();
}

/// `$tag$` at the beginning of a text.
fn dollar_tag(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('$')?;
    let end = inner.find('$')?;
    inner[..end]
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_')
        .then(|| &text[..end + 2])
}

#[cfg(test)]
mod tests {
    use super::{difference, statements};

    #[test]
    fn a_script_falls_into_its_statements() {
        assert_eq!(
            statements(
                "/* a; b */ CREATE FUNCTION a() -- no; comment\nAS 'it''s; x', $q$;$q$;\n\n;SELECT \"a;b\"; SELECT 1"
            ),
            [
                "CREATE FUNCTION a()\nAS 'it''s; x', $q$;$q$",
                "SELECT \"a;b\"",
                "SELECT 1"
            ]
        );
    }

    #[test]
    fn the_difference_is_what_is_new_and_what_changed() {
        let old = "CREATE FUNCTION a(x integer DEFAULT 1) RETURNS void AS 'm', 'a'; CREATE FUNCTION b() RETURNS void AS 'm', 'b'; COMMENT ON FUNCTION b() IS 'B';";
        let new = "CREATE FUNCTION c() RETURNS void AS 'm', 'c'; CREATE  FUNCTION \"b\"() RETURNS void AS 'm', 'b2'; CREATE FUNCTION a(x integer DEFAULT 1) RETURNS void AS 'm', 'a'; COMMENT ON FUNCTION b() IS 'B';";
        assert_eq!(
            difference(old, new),
            [
                "CREATE FUNCTION c() RETURNS void AS 'm', 'c'",
                "CREATE OR REPLACE  FUNCTION \"b\"() RETURNS void AS 'm', 'b2'",
            ]
        );
    }

    #[test]
    #[should_panic(expected = "functions may not go")]
    fn a_function_that_goes_is_noticed() {
        difference(
            "CREATE FUNCTION a(x integer) RETURNS void",
            "CREATE FUNCTION a(x text) RETURNS void",
        );
    }
}
