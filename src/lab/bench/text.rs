//! The report as text, and beside an earlier one.

use super::{Measured, Report, Scenario};
use std::fmt::Write as _;

/// Bytes a second, and such, with the unit that suits.
fn amount(value: f64, unit: &str) -> String {
    match value {
        v if v >= 1e6 => format!("{:.2} M{unit}", v / 1e6),
        v if v >= 1e3 => format!("{:.1} k{unit}", v / 1e3),
        v => format!("{v:.1} {unit}"),
    }
}

impl Report {
    /// A table for a terminal.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_table(&mut text);
        text
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let machine = &self.machine;
        writeln!(
            out,
            "machine   {}, {} cores, {}, kernel {}, governor {}",
            machine.processor,
            machine.cores,
            machine.architecture,
            machine.kernel,
            machine.governor
        )?;
        let models: Vec<&str> = self.models.iter().map(|m| &*m.name).collect();
        writeln!(
            out,
            "program   strandline {}, {} on {}, {} threads, reads: {}",
            self.version,
            models.join(", "),
            self.isa,
            self.threads,
            self.reads
        )?;
        for row in &self.accuracy {
            writeln!(
                out,
                "accuracy  {}: top-k {:.3}, AUPRC {:.3} on {} sites of the bundled sample",
                row.kind, row.top_k, row.auprc, row.sites
            )?;
        }
        if let Some(start) = self.start {
            writeln!(
                out,
                "start     {start:.1} ms from process to last call of a short read"
            )?;
        }
        if let Some(resident) = self.resident {
            writeln!(
                out,
                "memory    {:.1} MiB resident at most",
                resident as f64 / 1048576.0
            )?;
        }
        for measured in &self.results {
            write!(out, "\n{}", measured.text())?;
        }
        if !self.holds() {
            write!(
                out,
                "\nNO HEADLINE: the run was disturbed or slowed down, see above.\n"
            )?;
        }
        Ok(())
    }
}

impl Measured {
    fn text(&self) -> String {
        let mut out = format!("{}: {}\n", self.scenario.name(), self.load);
        let rate = |value| amount(value, "b/s");
        if let Some(offered) = self.offered {
            out += &format!("  offered    {}\n", rate(offered));
        }
        out += &format!(
            "  throughput {}, {:.1} reads/s over {:.1} s; {} calls\n",
            rate(self.bases_per_second),
            self.reads as f64 / self.seconds.max(1e-9),
            self.seconds,
            self.calls
        );
        // A schedule goes at its own pace, cold or warm.
        if !matches!(self.scenario, Scenario::MultiStream | Scenario::Channels) {
            out += &format!(
                "  over time  cold {}, last third {}\n",
                rate(self.cold_bases_per_second),
                rate(self.sustained_bases_per_second)
            );
        }
        if let Some(l) = &self.latency {
            out += &format!(
                "  latency    p50 {:.2} ms, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}\n",
                l.p50, l.p90, l.p99, l.p999, l.max
            );
        }
        if let Some(seconds) = self.seconds_per_megabase {
            out += &format!("  processor  {seconds:.2} s a megabase\n");
        }
        if self.shed > 0 || self.late > 0 {
            out += &format!(
                "  overload   {} bases shed, {} chunks late\n",
                self.shed, self.late
            );
        }
        if let Some(joules) = self.watched.joules {
            let megabases = self.bases as f64 / 1e6;
            out += &format!(
                "  energy     {joules:.1} J, {:.2} J/Mb\n",
                joules / megabases.max(1e-9)
            );
        }
        let degrees = self.watched.samples.iter().filter_map(|s| s.celsius);
        let (low, high) = degrees.fold((f64::MAX, f64::MIN), |(l, h), c| (c.min(l), c.max(h)));
        if high > f64::MIN {
            out += &format!("  heat       {low:.0} to {high:.0} °C\n");
        }
        for doubt in &self.watched.doubts {
            out += &format!("  DOUBT      {doubt}\n");
        }
        out
    }
}

/// How this report's figures stand to those of an earlier one: lines of text.
pub fn compared(now: &Report, before: &Report) -> Vec<String> {
    let mut lines = vec![];
    if now.machine != before.machine {
        lines.push("another machine, or another state of it".to_string());
    }
    if (now.isa.as_str(), now.threads) != (before.isa.as_str(), before.threads) {
        lines.push("another instruction set or number of threads".to_string());
    }
    if now.models != before.models {
        lines.push("other models".to_string());
    }
    for measured in &now.results {
        let same = |other: &&Measured| {
            (other.scenario, &other.load) == (measured.scenario, &measured.load)
        };
        let Some(other) = before.results.iter().find(same) else {
            lines.push(format!(
                "{}: not measured before under this load",
                measured.scenario.name()
            ));
            continue;
        };
        let mut line = format!(
            "{}: {:.2} times the throughput",
            measured.scenario.name(),
            measured.bases_per_second / other.bases_per_second.max(1e-9)
        );
        if let (Some(a), Some(b)) = (&measured.latency, &other.latency) {
            let ratio = |now: f64, then: f64| now / then.max(1e-9);
            line += &format!(
                ", {:.2} times the p50, {:.2} times the p99.9",
                ratio(a.p50, b.p50),
                ratio(a.p999, b.p999)
            );
        }
        lines.push(line);
    }
    if !(now.holds() && before.holds()) {
        lines.push("one of the runs was disturbed: the ratios mean little".to_string());
    }
    lines
}
