//! The page `docs/security.md` says what is so: the tests it names exist, and its statements run.

use codex_pg_test::Database;

const PAGE: &str = include_str!("../../../docs/security.md");

#[test]
fn every_test_that_the_page_names_is_here() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tenancy");
    let mut named = 0;
    for word in PAGE.split('`') {
        let Some((module, test)) = word.split_once("::") else {
            continue;
        };
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
        };
        if !is_name(module) || !is_name(test) {
            continue;
        }
        let source = std::fs::read_to_string(format!("{folder}/{module}.rs"))
            .unwrap_or_else(|error| panic!("{module}: {error}"));
        assert!(source.contains(&format!("fn {test}()")), "{word}");
        named += 1;
    }
    assert!(named > 40, "{named}");
}

#[test]
fn its_statements_run() {
    let db = Database::migrated();
    let mut admin = db.admin();
    let mut ran = 0;
    for block in PAGE.split("```sql\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        // Those that name the reader's own database, roles and ids are for reading.
        if ["your_database", "CREATE ROLE", "authenticated", "0192f0c1"]
            .iter()
            .any(|name| block.contains(name))
        {
            continue;
        }
        admin
            .batch_execute(block)
            .unwrap_or_else(|error| panic!("{block}\n{error:?}"));
        ran += 1;
    }
    assert_eq!(ran, 3);
}
