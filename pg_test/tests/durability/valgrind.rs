//! One process of the server under valgrind, doing everything: no read of memory that is not ours, no decision on
//! bytes that nobody wrote.
//!
//! Postgres' own programs are not built for it and give a few findings of their own (its regular expressions' cache, the
//! padding of what it writes to disk), so that what counts is whose code the finding is in.

use crate::private_server::PrivateServer;
use crate::story;

/// The functions below which the culprit is one frame further up.
const PLUMBING: &[&str] = &[
    "malloc", "memcpy", "memmove", "memcmp", "strlen", "strncmp", "bcmp", "realloc",
];

/// The findings of a report whose innermost frame, plumbing aside, is the library's.
fn findings_in_the_library(report: &str) -> Vec<&str> {
    report
        .split("== \n")
        .filter(|finding| {
            finding
                .lines()
                .filter(|line| line.contains("==    at 0x") || line.contains("==    by 0x"))
                .find(|frame| !PLUMBING.iter().any(|function| frame.contains(function)))
                .is_some_and(|frame| frame.contains("raptorflow_codex"))
        })
        .collect()
}

#[test]
fn a_finding_is_told_by_its_innermost_frame() {
    let report = "==7== Memcheck\n==7== \n\
        ==7== Invalid read of size 8\n\
        ==7==    at 0x1: memcpy (in vgpreload)\n\
        ==7==    by 0x2: raptorflow_codex::sketch (in lib/raptorflow_codex.so)\n\
        ==7==    by 0x3: ExecScan (in bin/postgres)\n==7== \n\
        ==7== Conditional jump depends on uninitialised value(s)\n\
        ==7==    at 0x4: RE_compile_and_cache (in bin/postgres)\n\
        ==7==    by 0x5: SPI_execute (in lib/raptorflow_codex.so)\n==7== \n\
        ==7== ERROR SUMMARY: 2 errors\n";
    let ours = findings_in_the_library(report);
    assert_eq!(ours.len(), 1, "{ours:?}");
    assert!(ours[0].contains("Invalid read"));
}

#[test]
#[ignore = "a minute, and needs valgrind: make test-long"]
fn the_library_touches_no_memory_that_is_not_its_own() {
    let server = PrivateServer::make("valgrind", None);
    let mut statements = vec![
        "CREATE EXTENSION raptorflow_codex".to_string(),
        "SELECT count(*) FROM codex.migrate()".to_string(),
    ];
    statements.extend(story::statements());
    statements.extend(story::statements_of_the_engines());
    for report in [
        "codex.verify()",
        "codex.status()",
        "codex.isolation_report()",
        "codex.isolation_selftest()",
        "codex.schema_shape()",
        "codex.rollback(0, true)",
    ] {
        statements.push(format!("SELECT count(*) FROM {report}"));
    }
    // An error unwinds through the library.
    statements.push("SELECT codex.migrate(3)".to_string());
    let (printed, report) = server.run_alone_checked(&statements);
    let errors: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains("ERROR: ") || line.contains("FATAL: "))
        .collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].contains("there is no such migration"),
        "{errors:?}"
    );
    assert!(report.contains("ERROR SUMMARY"), "{report}");

    let ours = findings_in_the_library(&report);
    assert!(ours.is_empty(), "{}", ours.join("\n"));
    println!(
        "valgrind: {} statements, nothing in the library",
        statements.len()
    );
}
