//! What can be tested inside one backend and one transaction; the rest is tested from outside, in `pg_test/`.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use crate::schema::catalogue::{self, Body};
    use crate::schema::{foundation, repair, shape};
    use pgrx::prelude::*;

    #[pg_test]
    fn migrations_are_numbered_upwards_and_named_once() {
        let versions: Vec<i32> = catalogue::ALL
            .iter()
            .map(|migration| migration.version)
            .collect();
        let mut sorted = versions.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(versions, sorted);
        assert_eq!(
            catalogue::latest(),
            *versions.last().expect("there are migrations")
        );
        assert_eq!(catalogue::product_tables().count(), 16);
    }

    #[pg_test]
    fn a_checksum_covers_both_ways() {
        let mut seen = std::collections::BTreeSet::new();
        for migration in catalogue::ALL {
            let checksum = migration.checksum();
            assert_eq!(checksum.len(), 64);
            assert!(
                seen.insert(checksum),
                "{} has the text of another",
                migration.label()
            );
        }
    }

    #[pg_test]
    fn users_are_filled_in_outside_comments_only() {
        let filled = foundation::fill_in_users(
            "-- :users is a placeholder\nREFERENCES :users (id) -- here\n",
            "auth.\"Users\"",
        );
        assert_eq!(
            filled,
            "-- :users is a placeholder\nREFERENCES auth.\"Users\" (id) -- here\n"
        );
    }

    #[pg_test]
    fn a_migration_falls_into_its_statements() {
        let statements = repair::statements(
            "-- a comment; with a semicolon\nCREATE TABLE a (b text);\n\nSELECT\n    1;\n",
        );
        assert_eq!(statements, ["CREATE TABLE a (b text)", "SELECT\n    1"]);
        for migration in catalogue::ALL {
            if let Body::Text { up, .. } = &migration.body {
                for statement in repair::statements(up) {
                    let first = statement.split_whitespace().next().unwrap_or_default();
                    assert!(
                        [
                            "CREATE", "DROP", "COMMENT", "SELECT", "ALTER", "INSERT", "DO"
                        ]
                        .contains(&first),
                        "{}: {statement}",
                        migration.label()
                    );
                }
            }
        }
    }

    #[pg_test]
    fn the_expected_shape_names_every_table_of_every_migration() {
        for migration in catalogue::ALL {
            for table in migration.tables {
                assert!(
                    shape::EXPECTED_TABLES
                        .iter()
                        .any(|definition| definition.relation == *table
                            && definition.kind == "column"),
                    "{table}"
                );
            }
        }
        for definition in shape::EXPECTED_TABLES.iter() {
            assert!(
                catalogue::version_of_table(&definition.relation).is_some(),
                "{} is made by no migration",
                definition.relation
            );
        }
    }

    #[pg_test]
    fn identifiers_are_version_7_and_increase() {
        let mut previous = None;
        for _ in 0..1000 {
            let id = Spi::get_one::<pgrx::Uuid>("SELECT codex.uuid_v7()")
                .expect("runs")
                .expect("is not NULL");
            assert_eq!(id.as_bytes()[6] >> 4, 7);
            assert_eq!(id.as_bytes()[8] >> 6, 0b10);
            let bytes = *id.as_bytes();
            assert!(previous.is_none_or(|before| before < bytes));
            previous = Some(bytes);
        }
    }

    #[pg_test]
    fn migrate_verify_and_roll_back_in_one_transaction() {
        Spi::run("SELECT codex.migrate()").expect("migrates");
        let failed =
            Spi::get_one::<i64>("SELECT pg_catalog.count(*) FROM codex.verify() WHERE NOT passed");
        assert_eq!(failed, Ok(Some(0)));
        Spi::run("SELECT codex.rollback(0)").expect("rolls back");
        let left = Spi::get_one::<i64>(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_tables WHERE schemaname IN ('public', 'codex')",
        );
        assert_eq!(left, Ok(Some(0)));
    }
}
