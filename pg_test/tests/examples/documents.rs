//! The manual: its generated pages are up to date, and its SQL runs.
//!
//! Each page of `docs` is read from top to bottom in a database of its own, which holds what `make demo` shows, and in
//! one session, as somebody would who has psql open beside the page. What a block needs said stands in a comment before
//! it, which a reader of the page does not see:
//!
//! - `<!-- sql: not run: why -->`
//! - `<!-- sql: raises 42501 -->`
//! - `<!-- sql: in an empty database -->`: on its own, without the extension

use crate::{project, psql, scripts};
use codex_pg_test::{Database, manual};
use std::path::{Path, PathBuf};

#[test]
fn the_pages_written_from_a_database_are_up_to_date() {
    let db = Database::migrated();
    for (name, text) in manual::pages(&db) {
        let here = std::fs::read_to_string(project().join("docs").join(name)).unwrap_or_default();
        let differs = here
            .lines()
            .zip(text.lines())
            .position(|(here, new)| here != new);
        assert!(
            here == text,
            "docs/{name} is out of date, from line {} on: make shape",
            differs.map_or(here.lines().count().min(text.lines().count()), |line| line) + 1
        );
    }
}

/// How a block is to be run.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Runs,
    Raises(String),
    InAnEmptyDatabase,
    NotRun,
}

struct Block {
    line: usize,
    way: Way,
    sql: String,
}

fn blocks(markdown: &str, page: &Path) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut way = Way::Runs;
    let mut open: Option<Block> = None;
    for (number, line) in markdown.lines().enumerate() {
        let here = format!("{}:{}", page.display(), number + 1);
        if let Some(block) = &mut open {
            if line.trim_end() == "```" {
                blocks.extend(open.take());
            } else {
                block.sql.push_str(line);
                block.sql.push('\n');
            }
        } else if let Some(said) = line.trim().strip_prefix("<!-- sql: ") {
            let said = said.trim_end_matches("-->").trim();
            way = if let Some(state) = said.strip_prefix("raises ") {
                Way::Raises(state.to_string())
            } else if said == "in an empty database" {
                Way::InAnEmptyDatabase
            } else if said
                .strip_prefix("not run: ")
                .is_some_and(|why| why.len() > 8)
            {
                Way::NotRun
            } else {
                panic!("{here}: {said} is nothing that can be said of a block");
            };
        } else if line.starts_with("```sql") {
            assert_eq!(line.trim_end(), "```sql", "{here}");
            open = Some(Block {
                line: number + 1,
                way: std::mem::replace(&mut way, Way::Runs),
                sql: String::new(),
            });
        } else if !line.trim().is_empty() {
            assert_eq!(
                way,
                Way::Runs,
                "{here}: no block of SQL follows the comment"
            );
        }
    }
    blocks
}

/// The pages of the manual.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for folder in ["docs", "docs/engines"] {
        let Ok(entries) = std::fs::read_dir(project().join(folder)) else {
            continue;
        };
        pages.extend(
            entries
                .map(|entry| entry.expect("a readable entry").path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "md")),
        );
    }
    pages.sort();
    pages
}

/// A database with what the demo shows, before anybody worked in it.
fn demo() -> (Database, String, String) {
    let db = Database::empty();
    let (member, service) = (db.role("member"), db.role("service"));
    for script in scripts().into_iter().take(2) {
        let text = std::fs::read_to_string(&script).expect("a readable script");
        psql(
            &db,
            &script.display().to_string(),
            &text,
            &[("member", &member), ("service", &service)],
        );
    }
    (db, member, service)
}

/// Roles are the server's, so that those of a page get names of this test's own.
fn with_own_names(sql: &str, db: &Database, member: &str, service: &str) -> String {
    let mut text = String::new();
    for line in sql.lines() {
        // The role is there already. An empty line in its place keeps the numbers that an error names.
        if !line.starts_with("CREATE ROLE ") {
            text.push_str(line);
        }
        text.push('\n');
    }
    for role in ["authenticated", "authenticator", "agents"] {
        for quoted in [format!("'{role}'"), format!("{role};")] {
            if text.contains(&quoted) {
                text = text.replace(&quoted, &quoted.replace(role, &db.role(role)));
            }
        }
    }
    for database in ["my_database", "your_database", "restored", "postgres"] {
        text = text.replace(
            &format!("ALTER DATABASE {database} "),
            &format!("ALTER DATABASE {} ", db.name()),
        );
    }
    text.replace("demo_member", member)
        .replace("demo_service", service)
}

/// What is left of a page when only its SQL is read, in lines of the same numbers.
#[derive(Default)]
struct Script {
    sql: String,
    lines: usize,
}

impl Script {
    fn add(&mut self, block: &Block, sql: &str) {
        while self.lines < block.line {
            self.sql.push('\n');
            self.lines += 1;
        }
        self.sql.push_str(sql);
        self.lines += sql.lines().count();
    }

    /// Runs what is there, in a session of its own.
    fn run(&mut self, db: &Database, page: &Path) {
        if !self.sql.is_empty() {
            psql(db, &page.display().to_string(), &self.sql, &[]);
        }
        *self = Self::default();
    }
}

#[test]
fn the_sql_of_every_page_runs() {
    let (mut ran, mut raised, mut not_run) = (0, 0, 0);
    for page in pages() {
        let markdown = std::fs::read_to_string(&page).expect("a readable page");
        let blocks = blocks(&markdown, &page);
        if blocks.is_empty() {
            continue;
        }
        let (db, member, service) = demo();
        let mut script = Script::default();
        for block in blocks {
            match &block.way {
                Way::NotRun => not_run += 1,
                Way::Runs => {
                    script.add(&block, &with_own_names(&block.sql, &db, &member, &service));
                    ran += 1;
                }
                Way::InAnEmptyDatabase => {
                    let empty = Database::empty();
                    let mut alone = Script::default();
                    alone.add(&block, &with_own_names(&block.sql, &empty, "", ""));
                    alone.run(&empty, &page);
                    ran += 1;
                }
                Way::Raises(state) => {
                    script.run(&db, &page);
                    let sql = with_own_names(&block.sql, &db, &member, &service);
                    codex_pg_test::fails_with(db.admin().batch_execute(&sql), state);
                    raised += 1;
                }
            }
        }
        script.run(&db, &page);
    }
    println!("{ran} blocks ran, {raised} raised what they say, {not_run} were not run");
    assert!(ran + raised >= 15, "{ran} blocks ran");
    assert!(not_run * 4 <= ran, "{not_run} of {ran} were not run");
}
