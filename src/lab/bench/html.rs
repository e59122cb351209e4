//! The report as one page that needs nothing else.

use super::{Measured, Report};
use crate::sink::markup::escaped;
use std::fmt::Write as _;

/// Width and height of a plot, and its margins.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 40.0;

/// A line through points, with labelled grid lines.
struct Plot<'a> {
    title: &'a str,
    x_label: &'a str,
    /// In units of the plot: 0 to 1.
    points: Vec<(f64, f64)>,
    x_ticks: Vec<(f64, String)>,
    y_ticks: Vec<(f64, String)>,
}

impl Plot<'_> {
    fn svg(&self) -> String {
        let x = |v: f64| LEFT + v * (WIDTH - LEFT - 20.0);
        let y = |v: f64| HEIGHT - BOTTOM - v * (HEIGHT - BOTTOM - 30.0);
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{0}</title>\
             <text x=\"{LEFT}\" y=\"16\" class=\"t\">{0}</text>",
            escaped(self.title)
        );
        // Writing to a string cannot fail, here and below.
        for (at, text) in &self.y_ticks {
            let _ = write!(
                out,
                "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{1}\" y2=\"{1}\" class=\"g\"/>\
                 <text x=\"{2}\" y=\"{3}\" text-anchor=\"end\">{4}</text>",
                x(1.0),
                y(*at),
                LEFT - 6.0,
                y(*at) + 4.0,
                escaped(text)
            );
        }
        for (at, text) in &self.x_ticks {
            let _ = write!(
                out,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                x(*at),
                HEIGHT - BOTTOM + 16.0,
                escaped(text)
            );
        }
        let points: Vec<String> = self
            .points
            .iter()
            .map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b)))
            .collect();
        let _ = write!(
            out,
            "<polyline points=\"{}\" class=\"l\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text></svg>",
            points.join(" "),
            x(0.5),
            HEIGHT - 6.0,
            escaped(self.x_label)
        );
        out
    }
}

/// Even values from 0 to the highest, with room above.
fn linear(low: f64, high: f64, unit: &str) -> (f64, f64, Vec<(f64, String)>) {
    let (low, high) = if high - low < 1e-9 {
        (low - 1.0, high + 1.0)
    } else {
        (low, high)
    };
    let ticks = (0..=4).map(|i| {
        let part = f64::from(i) / 4.0;
        (part, format!("{:.0}{unit}", low + part * (high - low)))
    });
    (low, high, ticks.collect())
}

/// Latency by the share of chunks that were faster, both axes by powers of ten.
fn latency(measured: &Measured) -> Option<String> {
    let latency = measured.latency.as_ref()?;
    let total: u64 = latency.histogram.iter().map(|(_, count)| count).sum();
    let (first, last) = (latency.histogram.first()?.0, latency.histogram.last()?.0);
    let (low, high) = (
        (first as f64).log10().floor(),
        (last as f64).log10().ceil().max(1.0),
    );
    let span = (high - low).max(1.0);
    let most = (total.max(10) as f64).log10();
    let mut below = 0;
    let points = latency.histogram.iter().map(|&(micros, count)| {
        below += count;
        let slower = (total - below) as f64 / total as f64;
        let nines = if slower > 0.0 { -slower.log10() } else { most };
        (
            nines.min(most) / most,
            ((micros as f64).log10() - low) / span,
        )
    });
    let points = points.collect();
    let decades = low as i32..=(low + span) as i32;
    let name = |power: i32| match 10f64.powi(power) / 1000.0 {
        ms if ms >= 1.0 => format!("{ms:.0} ms"),
        ms => format!("{ms} ms"),
    };
    let shares = ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"];
    let ticks = shares
        .iter()
        .enumerate()
        .map(|(i, text)| (i as f64 / most, text.to_string()));
    let plot = Plot {
        title: "Latency from a chunk's bytes to its calls written",
        x_label: "share of chunks that were as fast",
        points,
        x_ticks: ticks.filter(|(at, _)| *at <= 1.0).collect(),
        y_ticks: decades
            .map(|p| ((f64::from(p) - low) / span, name(p)))
            .collect(),
    };
    Some(plot.svg())
}

/// A sensor over time.
fn sensor(
    measured: &Measured,
    title: &str,
    unit: &str,
    of: impl Fn(&super::Sample) -> Option<f64>,
) -> Option<String> {
    let samples = measured.watched.samples.iter();
    let seen: Vec<(f64, f64)> = samples.filter_map(|s| Some((s.seconds, of(s)?))).collect();
    let end = seen.last()?.0.max(1e-9);
    let values = seen.iter().map(|(_, v)| *v);
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (v.min(l), v.max(h)));
    let (low, high, y_ticks) = linear(low, high, unit);
    let x_ticks = (0..=4).map(|i| {
        let part = f64::from(i) / 4.0;
        (part, format!("{:.0} s", part * end))
    });
    let plot = Plot {
        title,
        x_label: "time",
        points: seen
            .iter()
            .map(|(t, v)| (t / end, (v - low) / (high - low)))
            .collect(),
        x_ticks: x_ticks.collect(),
        y_ticks,
    };
    Some(plot.svg())
}

const STYLE: &str = "\
body{font:15px/1.5 sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#222;\
background:#fff}\
pre{background:#f4f4f4;padding:1rem;overflow-x:auto}\
svg{width:100%;font:12px sans-serif;fill:#333}\
.g{stroke:#ddd}\
.t{font-weight:bold}\
.l{fill:none;stroke:#0072b2;stroke-width:2}\
.doubt{background:#d55e00;color:#fff;padding:.5rem 1rem}";

/// The page. `comparison` are the lines of [`super::compared`].
pub fn html(report: &Report, comparison: &[String]) -> String {
    let mut out = format!(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>strandline bench: {0}</title><style>{STYLE}</style>\
         <h1>strandline bench</h1><p>{0}</p>",
        escaped(&report.machine.processor)
    );
    if !report.holds() {
        out += "<p class=\"doubt\">No headline: the run was disturbed or the processor slowed \
                down; the doubts stand with each scenario.</p>";
    }
    let _ = write!(out, "<pre>{}</pre>", escaped(&report.table()));
    if !comparison.is_empty() {
        let lines: Vec<String> = comparison
            .iter()
            .map(|line| format!("<li>{}", escaped(line)))
            .collect();
        let _ = write!(
            out,
            "<h2>Compared with the baseline</h2><ul>{}</ul>",
            lines.concat()
        );
    }
    for measured in &report.results {
        let _ = write!(
            out,
            "<h2>{}</h2><p>{}</p>",
            measured.scenario.name(),
            escaped(&measured.load)
        );
        out.extend(latency(measured));
        out.extend(sensor(
            measured,
            "Temperature of the hottest zone",
            " °C",
            |s| s.celsius,
        ));
        out.extend(sensor(measured, "Mean frequency", " MHz", |s| s.mhz));
        out.extend(sensor(measured, "Resident memory", " MiB", |s| {
            Some(s.resident as f64 / 1048576.0)
        }));
    }
    out += "<h2>Models</h2><ul>";
    for model in &report.models {
        let _ = write!(
            out,
            "<li>{}, BLAKE3 {}",
            escaped(&model.name),
            escaped(&model.hash)
        );
    }
    out += "</ul></html>\n";
    out
}
