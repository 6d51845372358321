//! What a database holds, in a form in which two databases can be compared.

use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, value};
use std::collections::BTreeMap;

/// Rows, definitions, privileges and comments of a database, each with the name of what it is about.
#[derive(PartialEq, Eq, Debug)]
pub struct Picture(BTreeMap<String, String>);

/// Everything but rows and the text of a dump: one query a kind, each giving a name and what is to be equal.
const KINDS: &[(&str, &str)] = &[
    (
        "shape",
        "SELECT relation || ' ' || kind || ' ' || name, definition FROM codex.schema_shape()",
    ),
    (
        "function",
        "SELECT name, definition FROM codex.function_shape()",
    ),
    (
        "verify",
        "SELECT id, concat_ws(' | ', what, expected, actual, passed, hint) FROM codex.verify()",
    ),
    (
        "status",
        "SELECT item, concat_ws(' | ', state, mend) FROM codex.status() WHERE item <> 'largest tables'",
    ),
    (
        "isolation",
        "SELECT object || ': ' || finding, severity FROM codex.isolation_report()",
    ),
    (
        "unprotected",
        "SELECT table_name, reason FROM codex.unprotected_tables()",
    ),
    // Grantee by grantee: a restore writes them in another order, and spells out what was the default. MAINTAIN came
    // with version 17: it is a part of all privileges there.
    (
        "privileges on relation",
        "SELECT c.oid::regclass::text, string_agg(replace(a::text, 'arwdDxtm', 'arwdDxt'), ' ' ORDER BY a::text)
         FROM pg_class AS c,
              unnest(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", c.relowner))) AS a
         WHERE c.relkind IN ('r', 'v', 'm', 'S', 'p')
           AND c.relnamespace IN (SELECT oid FROM ours)
         GROUP BY 1",
    ),
    (
        "privileges on column",
        "SELECT t.attrelid::regclass || '.' || t.attname, string_agg(a::text, ' ' ORDER BY a::text)
         FROM pg_attribute AS t, unnest(t.attacl) AS a
         WHERE t.attrelid IN (SELECT c.oid FROM pg_class AS c WHERE c.relnamespace IN (SELECT oid FROM ours))
         GROUP BY 1",
    ),
    (
        "privileges on function",
        "SELECT p.oid::regprocedure::text,
                string_agg(a::text, ' ' ORDER BY a::text) || ' owner ' || p.proowner::regrole
         FROM pg_proc AS p, unnest(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
         WHERE p.pronamespace IN (SELECT oid FROM ours)
         GROUP BY p.oid",
    ),
    (
        "privileges on schema",
        "SELECT n.nspname, string_agg(a::text, ' ' ORDER BY a::text)
         FROM pg_namespace AS n, unnest(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
         WHERE n.oid IN (SELECT oid FROM ours)
         GROUP BY 1",
    ),
    (
        "owner",
        "SELECT c.oid::regclass::text, c.relowner::regrole || coalesce(' ' || c.reloptions::text, '') || c.relrowsecurity || c.relforcerowsecurity
         FROM pg_class AS c
         WHERE c.relnamespace IN (SELECT oid FROM ours)",
    ),
    (
        "comment",
        "SELECT (pg_identify_object(d.classoid, d.objoid, d.objsubid)).identity, d.description
         FROM pg_description AS d
         WHERE d.classoid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_policy'::regclass, 'pg_trigger'::regclass,
                              'pg_extension'::regclass, 'pg_namespace'::regclass)
           AND coalesce((pg_identify_object(d.classoid, d.objoid, d.objsubid)).schema, 'codex')
               IN (SELECT nspname FROM ours)",
    ),
    (
        "trigger",
        "SELECT t.tgrelid::regclass || ' ' || t.tgname, t.tgenabled::text || pg_get_triggerdef(t.oid)
         FROM pg_trigger AS t
         WHERE NOT t.tgisinternal",
    ),
    (
        "policy",
        "SELECT schemaname || '.' || tablename || ' ' || policyname, concat_ws(' | ', permissive, roles, cmd, qual, with_check)
         FROM pg_policies",
    ),
    // NOT NULL is listed among the constraints from version 18 on, and with the columns in all.
    (
        "constraint",
        "SELECT k.conrelid::regclass || ' ' || k.conname, concat_ws(' | ', pg_get_constraintdef(k.oid), k.convalidated)
         FROM pg_constraint AS k
         WHERE k.connamespace IN (SELECT oid FROM ours)
           AND k.contype <> 'n'",
    ),
    (
        "member of the extension",
        "SELECT (pg_identify_object(d.classid, d.objid, 0)).identity, d.deptype::text
         FROM pg_depend AS d
         JOIN pg_extension AS e ON e.oid = d.refobjid
         WHERE d.refclassid = 'pg_extension'::regclass
           AND e.extname = 'raptorflow_codex'
           AND d.deptype = 'e'",
    ),
];

/// Schemas whose contents count.
const OURS: &str = "WITH ours AS (
    SELECT n.oid, n.nspname
    FROM pg_catalog.pg_namespace AS n
    WHERE n.nspname NOT IN ('information_schema', 'pg_toast')
      AND n.nspname NOT LIKE 'pg\\_%'
)";

impl Picture {
    /// Of a database.
    pub fn of(db: &Database) -> Self {
        Self::seen_by(&mut db.admin())
    }

    /// Of the database of a superuser's session.
    pub fn seen_by(admin: &mut Client) -> Self {
        let mut all = BTreeMap::new();
        for (kind, sql) in KINDS {
            let rows = admin
                .query(
                    &format!(
                        "{OURS} SELECT name::text, value::text FROM ({sql}) AS one (name, value)"
                    ),
                    &[],
                )
                .unwrap_or_else(|error| panic!("{kind}: {error:?}"));
            for row in rows {
                let name: &str = row.get(0);
                let value: Option<String> = row.get(1);
                all.insert(format!("{kind} {name}"), value.unwrap_or_default());
            }
        }
        for table in tables(admin) {
            let sum = checksum(admin, &table);
            all.insert(format!("rows of {table}"), sum);
        }
        Self(all)
    }

    /// How many things were compared, and how many rows are among them.
    pub fn size(&self) -> (usize, usize) {
        let rows = (self.0.iter())
            .filter(|(name, _)| name.starts_with("rows of "))
            .filter_map(|(_, sum)| sum.split(' ').next()?.parse::<usize>().ok())
            .sum();
        (self.0.len(), rows)
    }

    /// Fails, with everything that differs, unless both hold the same.
    #[track_caller]
    pub fn assert_same(&self, other: &Self, what: &str) {
        let mut differences = Vec::new();
        for name in self
            .0
            .keys()
            .chain(other.0.keys().filter(|name| !self.0.contains_key(*name)))
        {
            let (before, after) = (self.0.get(name), other.0.get(name));
            if before != after {
                differences.push(format!("{name}:\n  before {before:?}\n  after  {after:?}"));
            }
        }
        assert!(
            differences.is_empty(),
            "{what}:\n{}",
            differences.join("\n")
        );
    }

    /// The picture without the things whose names begin with one of these.
    pub fn without(mut self, beginnings: &[&str]) -> Self {
        self.0.retain(|name, _| {
            !beginnings
                .iter()
                .any(|beginning| name.starts_with(beginning))
        });
        self
    }
}

/// All tables and materialised views with rows, as `schema.name`.
pub fn tables(admin: &mut Client) -> Vec<String> {
    admin
        .query(
            &format!(
                "{OURS}
                 SELECT format('%I.%I', o.nspname, c.relname)
                 FROM pg_catalog.pg_class AS c
                 JOIN ours AS o ON o.oid = c.relnamespace
                 WHERE c.relkind IN ('r', 'm')
                 ORDER BY 1"
            ),
            &[],
        )
        .expect("listing the tables")
        .iter()
        .map(|row| row.get(0))
        .collect()
}

/// How many rows a table has and the md5 of all of them, with every column; the same for any order of rows.
pub fn checksum(admin: &mut Client, table: &str) -> String {
    value(
        admin,
        &format!(
            "SELECT count(*) || ' ' || coalesce(md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))), '')
             FROM {table} AS t"
        ),
        &[],
    )
}
