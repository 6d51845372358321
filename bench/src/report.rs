//! What a person reads while it runs, the same as data, and the page.

use crate::Result;
use crate::compare::{Bench, Cost, Figure, Measure, Spread, Verdict};
use crate::plot;
use crate::session::{CODEX, OWNER, Session};
use serde::Serialize;
use std::fmt::Write;
use std::fs;

/// What was measured, where and when.
#[derive(Serialize)]
struct Results<'a> {
    date: String,
    postgres: String,
    extension: String,
    commit: String,
    machine: String,
    load_average: String,
    rounds: usize,
    rows: &'a [u64],
    verdicts: &'a [Verdict],
    measures: &'a [Measure],
    figures: &'a [Figure],
}

/// A number with as many digits as it deserves.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_string();
    }
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (sign, text) = text
        .strip_prefix('-')
        .map_or(("", &*text), |rest| ("-", rest));
    let (whole, fraction) = text
        .split_once('.')
        .map_or((text, String::new()), |(whole, rest)| {
            (whole, format!(".{rest}"))
        });
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

fn size(rows: Option<u64>) -> String {
    rows.map_or_else(|| "–".to_string(), |rows| number(rows as f64))
}

/// Prints a measure as it comes.
pub fn print(measure: &Measure) {
    let rows = measure.rows.map_or_else(String::new, |rows| {
        format!(" ({} rows)", number(rows as f64))
    });
    println!("\n{}{rows}: {}", measure.name, measure.what);
    println!(
        "    {:<10}{:>12}{:>22}{:>12}{:>12}{:>10}",
        "a call of", "CPU µs", "least – most", "wall µs", "WAL bytes", "÷ codex"
    );
    let codex = measure.cpu("codex");
    for cost in &measure.costs {
        println!(
            "    {:<10}{:>12}{:>22}{:>12}{:>12}{:>10}",
            cost.side,
            number(cost.cpu_microseconds.median),
            range(&cost.cpu_microseconds),
            number(cost.wall_microseconds.median),
            number(cost.wal_bytes.median),
            format!("{:.2}", cost.cpu_microseconds.median / codex),
        );
    }
}

fn range(spread: &Spread) -> String {
    format!("{} – {}", number(spread.least), number(spread.most))
}

pub fn print_figure(figure: &Figure) {
    println!("\n{}: {}", figure.name, figure.what);
    for (name, value) in &figure.values {
        println!("    {name:<36}{:>12} {}", number(*value), figure.unit);
    }
}

/// `met     send, CPU, codex ÷ baseline: 0.70 × (target ≤ 0.80)`
pub fn in_a_line(verdict: &Verdict) -> String {
    format!(
        "{:<8}{}: {} {} (target {} {})",
        if verdict.met { "met" } else { "MISSED" },
        verdict.what,
        number(verdict.value),
        verdict.unit,
        if verdict.at_least { "≥" } else { "≤" },
        number(verdict.target),
    )
}

/// Prints the summary and writes the results.
pub fn write(bench: &Bench, sizes: &[u64], folder: &str) -> Result<()> {
    let mut session = Session::open(CODEX, OWNER)?;
    let row = session.query_one(
        "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
                current_setting('server_version'),
                current_setting('server_version_num')::integer / 10000,
                (SELECT extversion FROM pg_extension WHERE extname = 'raptorflow_codex')",
        &[],
    )?;
    let (date, version, major): (String, String, i32) = (row.get(0), row.get(1), row.get(2));
    let results = Results {
        date: date.clone(),
        postgres: version,
        extension: row.get(3),
        commit: std::env::var("BENCH_COMMIT").unwrap_or_default(),
        machine: machine(),
        load_average: fs::read_to_string("/proc/loadavg")
            .unwrap_or_default()
            .split_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" "),
        rounds: bench.rounds,
        rows: sizes,
        verdicts: &bench.verdicts,
        measures: &bench.measures,
        figures: &bench.figures,
    };
    println!("\n== Targets");
    for verdict in &bench.verdicts {
        println!("{:<26}{}", verdict.measure, in_a_line(verdict));
    }
    let met = bench.verdicts.iter().filter(|verdict| verdict.met).count();
    println!("\n{met} of {} targets met", bench.verdicts.len());

    fs::create_dir_all(folder)?;
    let name = format!("{date}-pg{major}");
    fs::write(
        format!("{folder}/{name}.json"),
        format!("{}\n", serde_json::to_string_pretty(&results)?),
    )?;
    let plots = plot::draw(bench, sizes, folder, &name)?;
    fs::write(
        format!("{folder}/README.md"),
        page(&results, &name, &plots)?,
    )?;
    println!(
        "bench/results: README.md, {name}.json and {} plots",
        plots.len()
    );
    Ok(())
}

/// The processor, how many of them, and the memory.
fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("an unnamed processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let count = processors
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = fs::read_to_string("/proc/meminfo")
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .split_whitespace()
                .next()?
                .parse::<f64>()
                .ok()
        })
        .map_or(0.0, |kilobytes| kilobytes / 1024.0 / 1024.0);
    format!("{model}, {count} CPUs, {memory:.0} GB")
}

fn page(results: &Results<'_>, name: &str, plots: &[(String, String)]) -> Result<String> {
    let mut page = String::new();
    let out = &mut page;
    writeln!(out, "# Measured on {}\n", results.date)?;
    writeln!(
        out,
        "Postgres {}, raptorflow_codex {}{}, {}. Medians of {} rounds in turn; load average at the end {}. As data: \
         [{name}.json]({name}.json). Written by `make bench`; [docs/performance.md](../../docs/performance.md) tells what is \
         measured and how to read it.\n",
        results.postgres,
        results.extension,
        if results.commit.is_empty() {
            String::new()
        } else {
            format!(" at {}", results.commit)
        },
        results.machine,
        results.rounds,
        results.load_average,
    )?;
    writeln!(out, "## Targets\n")?;
    writeln!(
        out,
        "| measure | what | value | target | |\n|---|---|--:|--:|---|"
    )?;
    for verdict in results.verdicts {
        writeln!(
            out,
            "| {} | {} | {} {} | {} {} | {} |",
            verdict.measure,
            verdict.what,
            number(verdict.value),
            verdict.unit,
            if verdict.at_least { "≥" } else { "≤" },
            number(verdict.target),
            if verdict.met { "met" } else { "**missed**" },
        )?;
    }
    if !plots.is_empty() {
        writeln!(out, "\n## Plots\n")?;
        for (file, title) in plots {
            writeln!(out, "![{title}]({file})\n")?;
        }
    }
    writeln!(out, "## Costs\n")?;
    writeln!(
        out,
        "A call, in microseconds of CPU time of the backend (and of wall time), and bytes of WAL.\n"
    )?;
    writeln!(
        out,
        "| measure | rows | side | CPU µs | least – most | wall µs | WAL bytes | CPU ÷ codex |\n|---|--:|---|--:|--:|--:|--:|--:|"
    )?;
    for measure in results.measures {
        let codex = measure.cpu("codex");
        for (place, cost) in measure.costs.iter().enumerate() {
            let first = place == 0;
            writeln!(
                out,
                "| {} | {} | {} |",
                if first { &*measure.name } else { "" },
                if first {
                    size(measure.rows)
                } else {
                    String::new()
                },
                cells(cost, codex),
            )?;
        }
    }
    writeln!(out, "\nWhat each measure is:\n")?;
    let mut told: Vec<&str> = Vec::new();
    for measure in results.measures {
        if !told.contains(&&*measure.name) {
            told.push(&measure.name);
            writeln!(out, "- **{}**: {}", measure.name, measure.what)?;
        }
    }
    writeln!(out, "\n## Figures\n\n| figure | | |\n|---|---|--:|")?;
    for figure in results.figures {
        for (place, (name, value)) in figure.values.iter().enumerate() {
            writeln!(
                out,
                "| {} | {name} | {} {} |",
                if place == 0 {
                    format!("{} ({})", figure.name, figure.what)
                } else {
                    String::new()
                },
                number(*value),
                figure.unit,
            )?;
        }
    }
    Ok(page)
}

fn cells(cost: &Cost, codex: f64) -> String {
    format!(
        "{} | {} | {} | {} | {} | {:.2}",
        cost.side,
        number(cost.cpu_microseconds.median),
        range(&cost.cpu_microseconds),
        number(cost.wall_microseconds.median),
        number(cost.wal_bytes.median),
        cost.cpu_microseconds.median / codex,
    )
}
