//! `codex.migrate()` beside sessions that hold locks.

use crate::support::verified;
use codex_pg_test::{Database, fails_with, value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A database with an app's own `workspaces`, in use.
fn in_use() -> Database {
    let db = Database::with_extension();
    db.admin()
        .batch_execute(
            "CREATE TABLE public.workspaces (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), name text);
             INSERT INTO public.workspaces (name) SELECT 'w' || n FROM generate_series(1, 20) AS n;",
        )
        .expect("an app's table");
    db
}

#[test]
fn it_gives_up_after_the_timeout_and_leaves_nothing_half_done() {
    let db = in_use();
    let mut holder = db.admin();
    holder
        .batch_execute("BEGIN; LOCK TABLE public.workspaces IN ROW EXCLUSIVE MODE")
        .expect("holds a lock");
    let pid: i32 = value(&mut holder, "SELECT pg_catalog.pg_backend_pid()", &[]);

    let stop = AtomicBool::new(false);
    let (reads, writes, failure) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut client = db.admin();
            let mut done = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let rows: i64 = value(&mut client, "SELECT count(*) FROM public.workspaces", &[]);
                assert_eq!(rows, 20);
                done += 1;
            }
            done
        });
        let writer = scope.spawn(|| {
            let mut client = db.admin();
            let mut done = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                client
                    .execute(
                        "UPDATE public.workspaces SET name = name || '!' WHERE name LIKE 'w1%'",
                        &[],
                    )
                    .expect("a writer goes on");
                done += 1;
            }
            done
        });
        let mut admin = db.admin();
        admin
            .batch_execute("SET lock_timeout = '1500ms'")
            .expect("sets the patience");
        let failure = fails_with(admin.query("SELECT codex.migrate()", &[]), "55P03");
        stop.store(true, Ordering::Relaxed);
        let writes = writer.join().expect("the writer ends well");
        (
            reader.join().expect("the reader ends well"),
            writes,
            failure,
        )
    });
    assert!(failure.message.contains("could not lock"), "{failure}");
    assert!(
        failure.detail.contains(&format!("process {pid}")),
        "{}",
        failure.detail
    );
    // A migration that stood in the queue all the time would have let in one write, at its end.
    assert!(
        reads > 3 && writes > 3,
        "{reads} reads and {writes} writes went on"
    );

    let mut admin = db.admin();
    let ledger: Option<String> = value(
        &mut admin,
        "SELECT to_regclass('codex.migrations')::text",
        &[],
    );
    assert_eq!(ledger, None, "nothing half done");
    holder.batch_execute("ROLLBACK").expect("lets go");
    admin
        .query("SELECT codex.migrate()", &[])
        .expect("and now it runs");
    verified(&mut admin);
}

#[test]
fn it_runs_as_soon_as_the_lock_is_free() {
    let db = in_use();
    let mut holder = db.admin();
    holder
        .batch_execute("BEGIN; LOCK TABLE public.workspaces IN ACCESS EXCLUSIVE MODE")
        .expect("holds a lock");
    std::thread::scope(|scope| {
        let migration = scope.spawn(|| {
            let mut admin = db.admin();
            admin
                .batch_execute("SET lock_timeout = '30s'")
                .expect("sets the patience");
            admin
                .query("SELECT codex.migrate()", &[])
                .expect("migrates");
            value::<String>(&mut admin, "SHOW lock_timeout", &[])
        });
        std::thread::sleep(Duration::from_millis(600));
        holder.batch_execute("COMMIT").expect("lets go");
        assert_eq!(
            migration.join().expect("ends well"),
            "30s",
            "the setting is as before"
        );
    });
    verified(&mut db.admin());
}

#[test]
fn a_cancelled_migration_leaves_nothing() {
    let db = in_use();
    let mut holder = db.admin();
    holder
        .batch_execute("BEGIN; LOCK TABLE public.workspaces IN ROW EXCLUSIVE MODE")
        .expect("holds a lock");
    let mut admin = db.admin();
    admin
        .batch_execute("SET statement_timeout = '700ms'")
        .expect("sets a timeout");
    fails_with(admin.query("SELECT codex.migrate()", &[]), "57014");
    let ledger: Option<String> = value(
        &mut admin,
        "SELECT to_regclass('codex.migrations')::text",
        &[],
    );
    assert_eq!(ledger, None);
}

#[test]
fn tables_of_an_older_application_are_waited_for_with_all_the_others() {
    let db = Database::empty();
    db.admin()
        .batch_execute(include_str!("../../fixtures/product_52_tables.sql"))
        .expect("the product's tables");
    let mut admin = db.admin();
    admin
        .batch_execute("CREATE EXTENSION raptorflow_codex; SET lock_timeout = '1200ms'")
        .expect("the extension");
    for table in ["agent_recommendations", "agent_trust_scores", "quests"] {
        let mut holder = db.admin();
        holder
            .batch_execute(&format!(
                "BEGIN; LOCK TABLE public.{table} IN ROW EXCLUSIVE MODE"
            ))
            .expect("holds a lock");
        // Nobody else waits for longer than one try meanwhile.
        let mut writer = db.admin();
        writer
            .batch_execute("SET lock_timeout = '1s'")
            .expect("sets the patience");
        let failure = std::thread::scope(|scope| {
            let migration = scope.spawn(|| {
                fails_with(
                    admin.query("SELECT codex.migrate(archive_unused => true)", &[]),
                    "55P03",
                )
            });
            while !migration.is_finished() {
                writer
                    .batch_execute(&format!(
                        "INSERT INTO public.cohorts (workspace_id, name) SELECT id, 'New' FROM public.workspaces;
                         SELECT count(*) FROM public.{table}"
                    ))
                    .expect("goes on");
            }
            migration.join().expect("ends")
        });
        assert!(
            failure.detail.contains(&format!("on public.{table}")),
            "{}",
            failure.detail
        );
        holder.batch_execute("ROLLBACK").expect("lets go");
    }
    admin
        .query("SELECT codex.migrate(archive_unused => true)", &[])
        .expect("and now it runs");
    verified(&mut admin);
}
