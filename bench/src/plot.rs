//! The plots: how lists grow with the table, and the writing measures side by side.

use crate::Result;
use crate::compare::Bench;
use crate::reading::LISTS;
use plotters::prelude::*;
use std::ops::Range;

const CODEX: RGBColor = RGBColor(0x1f, 0x6f, 0xb4);
const BASELINE: RGBColor = RGBColor(0xd9, 0x6b, 0x27);
const LIMIT: RGBColor = RGBColor(0x6b, 0x6b, 0x6b);

/// Writes the plots of a run; gives their files and titles.
pub fn draw(
    bench: &Bench,
    sizes: &[u64],
    folder: &str,
    name: &str,
) -> Result<Vec<(String, String)>> {
    let mut drawn = Vec::new();
    if sizes.len() > 1 {
        let file = format!("{name}-lists.svg");
        let title = "CPU time of a list's top 20, by rows in its table";
        if lists(bench, sizes, &format!("{folder}/{file}"))? {
            drawn.push((file, title.to_string()));
        }
    }
    let file = format!("{name}-writing.svg");
    if writing(bench, &format!("{folder}/{file}"))? {
        drawn.push((file, "CPU time of writing, baseline = 1".to_string()));
    }
    Ok(drawn)
}

fn lists(bench: &Bench, sizes: &[u64], path: &str) -> Result<bool> {
    let line = |list: &str, side: &str| -> Vec<(f64, f64)> {
        bench
            .measures
            .iter()
            .filter(|measure| measure.name == list)
            .filter_map(|measure| Some((measure.rows? as f64, measure.cpu(side))))
            .filter(|(_, cost)| cost.is_finite())
            .collect()
    };
    let costs: Vec<f64> = LISTS
        .iter()
        .flat_map(|list| ["codex", "baseline", "limit"].map(|side| line(list, side)))
        .flatten()
        .map(|(_, cost)| cost)
        .collect();
    let Some(most) = costs.iter().copied().max_by(f64::total_cmp) else {
        return Ok(false);
    };
    let least = costs.iter().copied().fold(f64::INFINITY, f64::min);
    let area = SVGBackend::new(path, (960, 720)).into_drawing_area();
    area.fill(&WHITE)?;
    let range = |least: f64, most: f64| -> Range<f64> { least..most };
    for (area, list) in area.split_evenly((2, 2)).iter().zip(LISTS) {
        let smallest = sizes.first().copied().unwrap_or(1) as f64;
        let largest = sizes.last().copied().unwrap_or(1) as f64;
        let mut chart = ChartBuilder::on(area)
            .caption(list, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(34)
            .y_label_area_size(64)
            .build_cartesian_2d(
                range(smallest * 0.8, largest * 1.25).log_scale(),
                range(least * 0.7, most * 1.5).log_scale(),
            )?;
        chart
            .configure_mesh()
            .x_desc("rows")
            .y_desc("µs of CPU")
            .x_label_formatter(&|rows| crate::report::number(*rows))
            .y_label_formatter(&|cost| crate::report::number(*cost))
            .light_line_style(WHITE)
            .draw()?;
        for (side, colour) in [("baseline", BASELINE), ("limit", LIMIT), ("codex", CODEX)] {
            let points = line(list, side);
            chart
                .draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?
                .label(side)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2))
                });
            chart.draw_series(points.iter().map(|&at| Circle::new(at, 3, colour.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .draw()?;
    }
    area.present()?;
    Ok(true)
}

fn writing(bench: &Bench, path: &str) -> Result<bool> {
    // The last size of each, in the order in which they were measured.
    let mut bars: Vec<(&str, f64)> = Vec::new();
    for measure in &bench.measures {
        let ratio = measure.cpu("codex") / measure.cpu("baseline");
        let writes = measure
            .side("codex")
            .is_some_and(|cost| cost.wal_bytes.median > 100.0);
        if !ratio.is_finite() || !writes {
            continue;
        }
        match bars.iter_mut().find(|(name, _)| *name == measure.name) {
            Some(bar) => bar.1 = ratio,
            None => bars.push((&measure.name, ratio)),
        }
    }
    if bars.is_empty() {
        return Ok(false);
    }
    let area = SVGBackend::new(path, (960, 60 + 44 * bars.len() as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = bars.iter().map(|bar| bar.1).fold(1.2, f64::max) * 1.15;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(34)
        .y_label_area_size(190)
        .build_cartesian_2d(0.0..most, 0.0..bars.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc("CPU time, baseline = 1")
        .draw()?;
    for (place, (name, ratio)) in bars.iter().enumerate() {
        let y = (bars.len() - 1 - place) as f64;
        chart.draw_series([Rectangle::new(
            [(0.0, y + 0.2), (*ratio, y + 0.8)],
            CODEX.filled(),
        )])?;
        chart.draw_series([Text::new(
            format!("{ratio:.2}"),
            (*ratio + most * 0.01, y + 0.62),
            ("sans-serif", 15),
        )])?;
        let (x, y) = chart.backend_coord(&(0.0, y + 0.62));
        area.draw(&Text::new(
            (*name).to_string(),
            (x - 185, y),
            ("sans-serif", 15),
        ))?;
    }
    chart.draw_series(LineSeries::new(
        [(1.0, 0.0), (1.0, bars.len() as f64)],
        BASELINE.stroke_width(2),
    ))?;
    area.present()?;
    Ok(true)
}
