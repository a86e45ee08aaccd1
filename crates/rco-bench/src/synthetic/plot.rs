//! The plots of the benchmark, as SVG text.

use plotters::coord::ranged1d::SegmentValue;
use plotters::prelude::*;

use super::{Row, Summary, summarise};
use crate::BenchError;

/// Gaps below this (in per cent) are drawn at it: the axis is logarithmic.
const SMALLEST_GAP: f64 = 1e-3;
/// Distinct colours (Okabe and Ito), which stay apart for colour-blind readers.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(110, 110, 110),
    RGBColor(0, 0, 0),
];

fn failed(error: impl std::fmt::Display) -> BenchError {
    BenchError::Plot { message: error.to_string() }
}

fn gap(score: f64) -> f64 {
    (100.0 - score).max(SMALLEST_GAP)
}

/// Names in the order of their first appearance.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut out: Vec<&str> = Vec::new();
    for name in all {
        if !out.contains(&name) {
            out.push(name);
        }
    }
    out
}

/// For every method (rows) and family (colours) the mean gap to the optimum on a
/// logarithmic axis. Points at the left edge reached the optimum.
///
/// # Errors
/// [`BenchError::Plot`].
pub fn gap_plot(title: &str, summaries: &[Summary]) -> Result<String, BenchError> {
    let methods = names(summaries.iter().map(|s| s.method.as_str()));
    let families = names(summaries.iter().map(|s| s.family.as_str()));
    let mut svg = String::new();
    {
        let height = 130 + 26 * methods.len() as u32;
        let area = SVGBackend::with_string(&mut svg, (980, height)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let largest = summaries.iter().map(|s| gap(s.score)).fold(10.0, f64::max) * 1.5;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .margin_right(190)
            .x_label_area_size(40)
            .y_label_area_size(140)
            .build_cartesian_2d(
                (SMALLEST_GAP..largest).log_scale(),
                (0..methods.len()).into_segmented(),
            )
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc("gap to the optimum in per cent of the gap of random plans (mean)")
            .y_labels(methods.len() + 1)
            .y_label_formatter(&|value| match value {
                // The axis also asks for the segments beyond its ends.
                SegmentValue::CenterOf(i) => {
                    methods.iter().rev().nth(*i).map_or_else(String::new, ToString::to_string)
                }
                _ => String::new(),
            })
            .x_label_formatter(&|x| label(*x))
            .light_line_style(WHITE)
            .draw()
            .map_err(failed)?;
        for (at, family) in families.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let filled = at < COLOURS.len();
            let style = if filled { colour.filled() } else { colour.stroke_width(2) };
            let points = summaries.iter().filter(|s| s.family == *family).map(|s| {
                let row = methods.iter().position(|m| *m == s.method).unwrap_or(0);
                (gap(s.score), SegmentValue::CenterOf(methods.len() - 1 - row))
            });
            chart
                .draw_series(points.map(|point| Circle::new(point, 5, style)))
                .map_err(failed)?
                .label(*family)
                .legend(move |(x, y)| Circle::new((x + 8, y), 5, style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::Coordinate(672, 10))
            .border_style(RGBColor(200, 200, 200))
            .background_style(WHITE)
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// For every method the mean gap against the number of evaluations, both axes
/// logarithmic, over the rows of one family.
///
/// # Errors
/// [`BenchError::Plot`].
pub fn effort_plot(title: &str, rows: &[Row]) -> Result<String, BenchError> {
    let methods = names(rows.iter().map(|r| r.method.as_str()));
    let mut limits: Vec<u64> = rows.iter().map(|r| r.limit).collect();
    limits.sort_unstable();
    limits.dedup();
    let (Some(&first), Some(&last)) = (limits.first(), limits.last()) else {
        return Err(BenchError::Plot { message: "there are no rows".into() });
    };
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, 480)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .margin_right(180)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(
                (first as f64 * 0.9..last as f64 * 1.1).log_scale(),
                (SMALLEST_GAP..200.0).log_scale(),
            )
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc("evaluations")
            .y_desc("gap to the optimum, per cent (mean)")
            .x_label_formatter(&|x| label(*x))
            .y_label_formatter(&|y| label(*y))
            .light_line_style(WHITE)
            .draw()
            .map_err(failed)?;
        for (at, method) in methods.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let line: Vec<(f64, f64)> = limits
                .iter()
                .filter_map(|&limit| {
                    let chosen: Vec<Row> = rows
                        .iter()
                        .filter(|r| r.method == *method && r.limit == limit)
                        .cloned()
                        .collect();
                    summarise(&chosen).first().map(|s| (limit as f64, gap(s.score)))
                })
                .collect();
            chart
                .draw_series(LineSeries::new(line, colour.stroke_width(2)).point_size(4))
                .map_err(failed)?
                .label(*method)
                .legend(move |(x, y)| {
                    PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::Coordinate(650, 10))
            .border_style(RGBColor(200, 200, 200))
            .background_style(WHITE)
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

/// A short label for a tick.
fn label(value: f64) -> String {
    if value >= 1.0 { format!("{value:.0}") } else { format!("{value}") }
}
