//! From the released version to this one, with data; and what happens while library and database differ.

use crate::picture::{Picture, checksum, tables};
use crate::story;
use codex_pg_test::postgres::Client;
use codex_pg_test::{Database, fails_with, script, value};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The newest migration of the version before.
const NEWEST_BEFORE: i32 = 17;

/// An installation holds the script of its own version and the ways to it; the frozen script of the version before is
/// put beside them.
fn install_version_before(session: &mut Client) {
    let name = format!("raptorflow_codex--{}.sql", script::version_before());
    let there = script::extension_folder(session).join(&name);
    let text = fs::read(script::folder().join(&name)).expect("the frozen script");
    if fs::read(&there).ok().as_ref() == Some(&text) {
        return;
    }
    // Another test may be doing the same.
    let half = there.with_extension(format!("sql.{:?}", std::thread::current().id()));
    fs::write(&half, text).unwrap_or_else(|error| panic!("{}: {error}", half.display()));
    fs::rename(&half, &there).expect("the script is put in its place");
}

/// A database of the version before, with data and a role of either kind.
fn database_of_the_version_before() -> Database {
    let db = Database::empty();
    let mut admin = db.admin();
    install_version_before(&mut admin);
    admin
        .batch_execute(&format!(
            "CREATE EXTENSION raptorflow_codex VERSION '{}'; SELECT * FROM codex.migrate()",
            script::version_before()
        ))
        .unwrap_or_else(|error| panic!("{error:?}"));
    story::tell(&mut admin);
    db
}

fn version_of_schema(admin: &mut Client) -> i32 {
    value(admin, "SELECT max(version) FROM codex.migrations", &[])
}

/// The columns of each table; a new migration may add some.
fn columns(admin: &mut Client) -> BTreeMap<String, String> {
    tables(admin)
        .into_iter()
        .filter(|table| table != "codex.migrations")
        .map(|table| {
            let columns = value(
                admin,
                "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
                 FROM pg_attribute
                 WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped",
                &[&table],
            );
            (table, columns)
        })
        .collect()
}

/// What these columns of each table hold.
fn sums(admin: &mut Client, columns: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    columns
        .iter()
        .map(|(table, columns)| {
            let sum = checksum(admin, &format!("(SELECT {columns} FROM {table})"));
            (table.clone(), sum)
        })
        .collect()
}

#[test]
fn an_updated_database_is_the_same_as_a_fresh_one_and_keeps_every_row() {
    let old = database_of_the_version_before();
    let fresh = Database::migrated();
    let (member, service) = (old.role("member"), old.role("service"));
    let grant = format!(
        "SELECT codex.grant_member_role('{member}'); SELECT codex.grant_service_role('{service}')"
    );
    let mut admin = old.admin();
    admin.batch_execute(&grant).unwrap();
    let columns = columns(&mut admin);
    let before = sums(&mut admin, &columns);

    let name: String = value(
        &mut admin,
        "SELECT extversion FROM pg_extension WHERE extname = 'raptorflow_codex'",
        &[],
    );
    assert_eq!(name, script::version_before());
    admin
        .batch_execute("ALTER EXTENSION raptorflow_codex UPDATE")
        .unwrap_or_else(|error| panic!("{error:?}"));
    let waiting: String = value(
        &mut admin,
        "SELECT state FROM codex.status() WHERE item = 'schema'",
        &[],
    );
    assert!(
        waiting.starts_with(&format!("{NEWEST_BEFORE:03} ")),
        "{waiting}"
    );
    let answer: String = value(&mut admin, "SELECT codex.verify_or_raise()", &[]);
    assert!(
        answer.starts_with("all "),
        "complete without the new migrations"
    );
    admin
        .batch_execute("SELECT codex.migrate(); SELECT codex.verify_or_raise()")
        .unwrap_or_else(|error| panic!("{error:?}"));

    let after = sums(&mut admin, &columns);
    for (table, sum) in &before {
        assert_eq!(after.get(table), Some(sum), "rows of {table}");
    }
    fresh.admin().batch_execute(&grant).unwrap();
    let definitions = |db: &Database| Picture::of(db).without(&["rows of ", "verify ledger."]);
    let (updated, fresh) = (definitions(&old), definitions(&fresh));
    assert!(fresh.size().0 > 1500, "{}", fresh.size().0);
    fresh.assert_same(&updated, "a fresh database and an updated one");
}

/// Every way that Postgres knows from a released version to this one is walked, and all end at the same definitions.
#[test]
fn every_update_path_ends_where_a_fresh_database_is() {
    let fresh = Database::migrated();
    let mut admin = fresh.admin();
    install_version_before(&mut admin);
    let paths: Vec<(String, String)> = admin
        .query(
            "SELECT p.source, p.path
             FROM pg_extension_update_paths('raptorflow_codex') AS p
             WHERE p.target = $1
               AND p.path IS NOT NULL
             ORDER BY 1",
            &[&script::VERSION],
        )
        .expect("the paths")
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    let released: std::collections::BTreeSet<String> = script::released()
        .into_iter()
        .map(|thing| thing.version)
        .collect();
    let sources: std::collections::BTreeSet<String> =
        paths.iter().map(|(source, _)| source.clone()).collect();
    assert_eq!(sources, released, "a way from each released version");
    let definitions = |db: &Database| Picture::of(db).without(&["rows of ", "verify ledger."]);
    let expected = definitions(&fresh);
    for (source, path) in paths {
        let db = Database::empty();
        db.admin()
            .batch_execute(&format!(
                "CREATE EXTENSION raptorflow_codex VERSION '{source}';
                 SELECT codex.migrate();
                 ALTER EXTENSION raptorflow_codex UPDATE TO '{}';
                 SELECT codex.migrate();
                 SELECT codex.verify_or_raise()",
                script::VERSION
            ))
            .unwrap_or_else(|error| panic!("{path}: {error:?}"));
        expected.assert_same(&definitions(&db), &path);
    }
}

#[test]
fn a_newer_library_serves_an_older_database_and_says_what_waits() {
    let db = database_of_the_version_before();
    let (mut admin, notices) = db.admin_with_notices();
    assert_eq!(version_of_schema(&mut admin), NEWEST_BEFORE);
    notices.take();
    admin.batch_execute("SELECT codex.migrate()").unwrap();
    assert!(
        notices
            .take()
            .join("\n")
            .contains("wait for ALTER EXTENSION raptorflow_codex UPDATE"),
        "the notice"
    );
    assert_eq!(version_of_schema(&mut admin), NEWEST_BEFORE);
    let refusal = fails_with(
        admin.query("SELECT codex.migrate($1)", &[&(NEWEST_BEFORE + 1)]),
        "55000",
    );
    assert!(
        refusal
            .hint
            .contains("ALTER EXTENSION raptorflow_codex UPDATE"),
        "{}",
        refusal.hint
    );
    fails_with(
        admin.query("SELECT codex.migration_sql($1)", &[&(NEWEST_BEFORE + 1)]),
        "55000",
    );
    let row = admin
        .query_one(
            "SELECT passed, hint FROM codex.verify() WHERE id = 'library.version'",
            &[],
        )
        .unwrap();
    assert!(!row.get::<_, bool>(0));
    assert!(
        row.get::<_, String>(1)
            .starts_with("ALTER EXTENSION raptorflow_codex UPDATE")
    );
    fails_with(
        admin.batch_execute("SELECT codex.verify_or_raise()"),
        "55000",
    );
    // The story was told with the functions of the older version; a roll back and forth works, too.
    admin
        .batch_execute("SELECT codex.rollback(12, allow_data_loss => true); SELECT codex.migrate()")
        .unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(version_of_schema(&mut admin), NEWEST_BEFORE);
}

/// A version that the server is told of for the time of a test, with an update that makes one function.
struct VersionToCome {
    file: PathBuf,
}

impl VersionToCome {
    const NAME: &str = "99.0.0";

    fn announce(session: &mut Client) -> Self {
        let file = script::extension_folder(session).join(format!(
            "raptorflow_codex--{}--{}.sql",
            script::VERSION,
            Self::NAME
        ));
        fs::write(
            &file,
            "CREATE FUNCTION of_a_version_to_come() RETURNS integer LANGUAGE sql AS 'SELECT 99';\n",
        )
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self { file }
    }
}

impl Drop for VersionToCome {
    fn drop(&mut self) {
        fs::remove_file(&self.file).ok();
    }
}

#[test]
fn a_session_with_an_older_library_reads_on_and_writes_nothing() {
    let db = Database::migrated();
    let mut admin = db.admin();
    story::tell(&mut admin);
    let mut session = db.admin();
    let notify = "SELECT codex.send_user_notification(m.workspace_id, m.user_id, 'message', 'Hello', 'Hello')
         FROM public.workspace_members AS m
         LIMIT 1";
    session
        .batch_execute(notify)
        .expect("the library is loaded");
    let unread = "SELECT count(*) FROM public.workspace_members AS m, codex.get_user_unread_notifications(m.user_id)";
    let seen: i64 = value(&mut session, unread, &[]);
    assert!(seen > 0);

    let to_come = VersionToCome::announce(&mut admin);
    admin
        .batch_execute(&format!(
            "ALTER EXTENSION raptorflow_codex UPDATE TO '{}'",
            VersionToCome::NAME
        ))
        .unwrap_or_else(|error| panic!("{error:?}"));
    drop(to_come);
    for write in [
        notify,
        "SELECT codex.mark_all_notifications_read(m.user_id) FROM public.workspace_members AS m",
        "SELECT codex.migrate()",
        "SELECT codex.rollback(17)",
    ] {
        let refusal = fails_with(session.batch_execute(write), "55000");
        assert!(
            refusal.message.contains(script::VERSION) && refusal.message.contains("99.0.0"),
            "{}",
            refusal.message
        );
        assert!(refusal.hint.starts_with("Reconnect"), "{}", refusal.hint);
    }
    let seen_then: i64 = value(&mut session, unread, &[]);
    assert_eq!(seen_then, seen);
    let context: Option<String> = value(
        &mut session,
        "SELECT codex.current_workspace_id()::text",
        &[],
    );
    assert_eq!(context, None, "policies can still ask");
    // The database comes back to this version, and the session writes again.
    admin
        .batch_execute(&format!(
            "ALTER EXTENSION raptorflow_codex DROP FUNCTION codex.of_a_version_to_come();
             DROP FUNCTION codex.of_a_version_to_come();
             UPDATE pg_catalog.pg_extension SET extversion = '{}' WHERE extname = 'raptorflow_codex'",
            script::VERSION
        ))
        .unwrap_or_else(|error| panic!("{error:?}"));
    session.batch_execute(notify).expect("writes again");
}
