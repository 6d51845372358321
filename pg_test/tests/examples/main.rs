//! What a reader copies works: the scripts of `examples/sql`, and every SQL block of the README.

mod documents;

use codex_pg_test::{Database, value};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("pg_test lies in the project")
        .to_path_buf()
}

/// Runs a script as `make demo` does, and gives what it printed; a script that stops fails the test.
fn psql(db: &Database, title: &str, script: &str, variables: &[(&str, &str)]) -> String {
    let mut command = db.program("psql");
    command
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-"])
        .current_dir(project().join("examples/sql"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, text) in variables {
        command.arg("-v").arg(format!("{name}={text}"));
    }
    let mut running = command.spawn().expect("psql starts");
    let mut input = running.stdin.take().expect("a pipe");
    let text = script.to_owned();
    let writer = std::thread::spawn(move || {
        // psql that stopped at an error no longer reads.
        let _ = input.write_all(text.as_bytes());
    });
    let output = running.wait_with_output().expect("psql ends");
    writer.join().expect("the script is written");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{title} stopped at an error:\n{out}\n{err}"
    );
    out.into_owned()
}

/// The scripts whose names begin with a number, in the order of their names.
fn scripts() -> Vec<PathBuf> {
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(project().join("examples/sql"))
        .expect("examples/sql is there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".sql") && name.starts_with(|first: char| first.is_ascii_digit())
        })
        .collect();
    scripts.sort();
    scripts
}

#[test]
fn the_five_workflows_of_the_demo_run_to_their_end() {
    let db = Database::empty();
    let (member, service) = (db.role("member"), db.role("service"));
    let scripts = scripts();
    assert!(scripts.len() >= 9, "{scripts:?}");
    for script in scripts {
        let text = std::fs::read_to_string(&script).expect("a readable script");
        let title = script.display().to_string();
        psql(
            &db,
            &title,
            &text,
            &[("member", &member), ("service", &service)],
        );
    }

    let mut admin = db.admin();
    let mut count =
        |table: &str| -> i64 { value(&mut admin, &format!("SELECT count(*) FROM {table}"), &[]) };
    assert_eq!(count("public.workspaces"), 3);
    assert_eq!(count("public.cohorts"), 8);
    assert_eq!(count("public.moves"), 156);
    assert_eq!(
        count("public.campaigns"),
        12 + 2,
        "twelve, the one of the first workflow, and the one whose life is shown"
    );
    assert_eq!(count("public.campaign_quests"), 12 * 4 + 3 + 4);
    let roster = std::fs::read_to_string(project().join("examples/sql/agent_roster.tsv"))
        .expect("the roster");
    let agents = i64::try_from(roster.lines().count() - 1).expect("a small number");
    assert_eq!(count("public.agent_registry"), agents);
    assert_eq!(count("public.agent_capabilities"), agents);

    let points: i32 = value(
        &mut admin,
        "SELECT s.total_points FROM public.user_stats AS s JOIN public.users AS u ON u.id = s.user_id
         WHERE u.full_name = 'Anna Lindqvist'",
        &[],
    );
    assert_eq!(
        points,
        250 + 750 + 1500,
        "three achievements, each paid once"
    );
    let executions: i64 = value(
        &mut admin,
        "SELECT sum(execution_count) FROM public.agent_performance",
        &[],
    );
    assert_eq!(executions, 500, "fifty retries counted once");
    let credited: i64 = value(
        &mut admin,
        "SELECT sum(tasks_completed + tasks_failed) FROM public.agent_assignments",
        &[],
    );
    assert_eq!(credited, 500, "each credited to one assignment");
    let alert: (String, i32) = admin
        .query_one(
            "SELECT status, occurrence_count FROM public.system_alerts WHERE dedup_key = 'checkout-slow'",
            &[],
        )
        .map(|row| (row.get(0), row.get(1)))
        .expect("one alert");
    assert_eq!(alert, ("resolved".to_owned(), 3));
    assert_eq!(
        value::<i64>(
            &mut admin,
            "SELECT count(*) FROM public.intelligence_signals WHERE action_status = 'actioned'",
            &[]
        ),
        4
    );
}

/// The text of every block of a Markdown file that is marked as SQL, in order.
fn sql_blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<String> = None;
    for line in markdown.lines() {
        match &mut open {
            None if line.trim_end() == "```sql" => open = Some(String::new()),
            None => {}
            Some(block) if line.trim_end() == "```" => {
                blocks.push(std::mem::take(block));
                open = None;
            }
            Some(block) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    blocks
}

#[test]
fn every_statement_of_the_readme_runs_in_the_order_in_which_it_stands() {
    let db = Database::empty();
    let (api, worker) = (db.role("api"), db.role("worker"));
    let readme = std::fs::read_to_string(project().join("README.md")).expect("the README");
    let blocks = sql_blocks(&readme);
    assert!(blocks.len() >= 5, "{} blocks", blocks.len());
    let script = blocks
        .concat()
        .replace("codex_api", &api)
        .replace("codex_worker", &worker)
        .replace("my_database", db.name());
    psql(&db, "README.md", &script, &[]);
    assert_eq!(
        value::<i64>(
            &mut db.admin(),
            "SELECT count(*) FROM pg_extension WHERE extname = 'raptorflow_codex'",
            &[]
        ),
        0,
        "the README ends with taking it away"
    );
}
