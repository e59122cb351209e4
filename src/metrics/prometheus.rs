//! The numbers of a run in Prometheus' text format (version 0.0.4).

use super::Summary;
use std::fmt::Write as _;
use std::time::Duration;

/// A value of a label, escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

impl Summary {
    /// The numbers in Prometheus' text format.
    pub fn prometheus(&self, models: &[String]) -> String {
        let mut text = String::with_capacity(4096);
        let mut family = |name: &str, kind: &str, help: &str, rows: &[(String, f64)]| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "# HELP strandline_{name} {help}\n# TYPE strandline_{name} {kind}"
            );
            for (labels, value) in rows {
                let _ = writeln!(text, "strandline_{name}{labels} {value}");
            }
        };
        let one = |value: u64| vec![(String::new(), value as f64)];
        let by = |key: &str, rows: &[(&str, u64)]| -> Vec<(String, f64)> {
            let row =
                |&(name, n): &(&str, u64)| (format!("{{{key}=\"{}\"}}", label(name)), n as f64);
            rows.iter().map(row).collect()
        };
        family(
            "reads_in_total",
            "counter",
            "Reads begun.",
            &one(self.reads_in),
        );
        let ends = [
            ("out", self.reads_out),
            ("rejected", self.rejected),
            ("shed", self.shed),
            ("passed_over", self.passed),
        ];
        let help = "Reads that are over, by what became of them.";
        family("reads_total", "counter", help, &by("end", &ends));
        family(
            "bases_in_total",
            "counter",
            "Bases received.",
            &one(self.bases_in),
        );
        let live = self.live.as_ref();
        let without = live.map_or(0, |l| l.without_context);
        let bases = [
            ("scored", self.bases_out.saturating_sub(without)),
            ("without_context", without),
            ("shed", live.map_or(0, |l| l.bases_shed)),
            ("rejected", live.map_or(0, |l| l.bases_rejected)),
        ];
        let help = "Bases dealt with, by what became of them.";
        family("bases_total", "counter", help, &by("end", &bases));
        let calls: Vec<_> = self.calls.clone();
        family(
            "calls_total",
            "counter",
            "Calls written.",
            &by("kind", &calls),
        );
        let help = "Pieces in the queues.";
        family("queued", "gauge", help, &one(self.queued));
        let seconds = self.elapsed.as_secs_f64();
        let help = "Since the start of the run.";
        family(
            "elapsed_seconds",
            "gauge",
            help,
            &[(String::new(), seconds)],
        );
        let quantiles = |of: Option<[Duration; 4]>| -> Vec<(String, f64)> {
            let named = ["0.5", "0.9", "0.99", "0.999"].into_iter();
            let rows = named.zip(of.into_iter().flatten());
            rows.map(|(q, d)| (format!("{{quantile=\"{q}\"}}"), d.as_secs_f64()))
                .collect()
        };
        let help = "From bytes received to calls written.";
        family("latency_seconds", "summary", help, &quantiles(self.latency));
        let models: Vec<(&str, u64)> = models.iter().map(|m| (&**m, 1)).collect();
        family("model", "gauge", "Models in use.", &by("model", &models));
        let Some(live) = live else {
            return text;
        };
        let help = "Of the reads out, those with bases missing.";
        family("reads_partial_total", "counter", help, &one(live.partial));
        let help = "Of the bases scored, those of reads that are out with bases missing.";
        let partial = one(live.bases_partial);
        family("bases_partial_total", "counter", help, &partial);
        let help = "Pieces whose calls were written after their deadline.";
        family("late_total", "counter", help, &one(live.late));
        let decisions = [("keep", live.keep), ("eject", live.eject)];
        family(
            "decisions_total",
            "counter",
            "Reads decided on.",
            &by("decision", &decisions),
        );
        let help = "From bytes received to a decision.";
        family(
            "decision_seconds",
            "summary",
            help,
            &quantiles(live.to_decision),
        );
        let help = "Workers whose fast tier stands in.";
        family(
            "fast_tier_workers",
            "gauge",
            help,
            &one(live.fast_lanes.into()),
        );
        let help = "Bytes that reads keep of what was computed.";
        family("kept_bytes", "gauge", help, &one(live.kept));
        let help = "Reads that had no room for that.";
        let recomputed = one(live.recomputed);
        family("reads_recomputed_total", "counter", help, &recomputed);
        let help = "How often the fast tier came or went.";
        family(
            "tier_changes_total",
            "counter",
            help,
            &one(live.tier_changes),
        );
        let reads: Vec<_> = live.sources.iter().map(|s| (&*s.name, s.reads)).collect();
        family(
            "source_reads_total",
            "counter",
            "Reads begun, by source.",
            &by("source", &reads),
        );
        let bases: Vec<_> = live.sources.iter().map(|s| (&*s.name, s.bases)).collect();
        family(
            "source_bases_total",
            "counter",
            "Bases received, by source.",
            &by("source", &bases),
        );
        let channels: Vec<(String, f64)> = live
            .sources
            .iter()
            .flat_map(|s| {
                s.channels.states().map(|(state, n)| {
                    (
                        format!("{{source=\"{}\",state=\"{state}\"}}", label(&s.name)),
                        n as f64,
                    )
                })
            })
            .collect();
        family(
            "source_channels",
            "gauge",
            "Channels of a source, by what they do.",
            &channels,
        );
        let own: Vec<(String, f64)> = live
            .sources
            .iter()
            .flat_map(|s| {
                s.own.iter().map(move |(counter, n)| {
                    (
                        format!("{{source=\"{}\",counter=\"{counter}\"}}", label(&s.name)),
                        *n as f64,
                    )
                })
            })
            .collect();
        family(
            "source_total",
            "counter",
            "What a source counts itself.",
            &own,
        );
        text
    }
}
