//! The numbers of a run as text.

use std::fmt;
use std::time::Duration;

/// The numbers of a run, of a moment or at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Records begun.
    pub reads_in: u64,
    /// Records annotated to their end and written.
    pub reads_out: u64,
    /// Records that were bad, or could not be annotated to their end.
    pub rejected: u64,
    /// Records dropped because of overload.
    pub shed: u64,
    /// BAM records passed over: secondary, supplementary or hard-clipped.
    pub passed: u64,
    /// Bases handed to workers.
    pub bases_in: u64,
    /// Bases whose calls were written.
    pub bases_out: u64,
    /// Calls written, by kind.
    pub calls: Vec<(&'static str, u64)>,
    /// So many of the kinds are listed even where there are no calls of them.
    pub expected_kinds: usize,
    /// Chunks in the queues.
    pub queued: u64,
    /// p50, p90, p99 and p99.9 from a chunk's last byte received to its calls written; `None`
    /// before the first.
    pub latency: Option<[Duration; 4]>,
    /// Since the metrics were made.
    pub elapsed: Duration,
    /// What only a live run counts.
    pub live: Option<LiveSummary>,
}

/// The numbers of a live run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSummary {
    /// Of the reads out, those with bases missing.
    pub partial: u64,
    /// Bases of those that were scored.
    pub bases_partial: u64,
    /// Bases that were shed.
    pub bases_shed: u64,
    /// Bases of rejected reads.
    pub bases_rejected: u64,
    /// Of the bases out, those scored with an end of the read, or of a stretch of it, within their
    /// context.
    pub without_context: u64,
    /// Pieces whose calls were written after their deadline.
    pub late: u64,
    /// The deadline.
    pub deadline: Option<Duration>,
    /// Reads to keep.
    pub keep: u64,
    /// Reads to eject.
    pub eject: u64,
    /// As [`Summary::latency`], from the bytes received to a decision.
    pub to_decision: Option<[Duration; 4]>,
    /// Lanes where the fast tier stands in.
    pub fast_lanes: u32,
    /// How often it came or went.
    pub tier_changes: u64,
    /// Bytes that reads keep of what was computed.
    pub kept: u64,
    /// Reads that went on without because there was no room.
    pub recomputed: u64,
    /// Each source.
    pub sources: Vec<SourceSummary>,
}

/// Channels of a source at a moment, by what they do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Channels {
    /// Reads of them are annotated.
    pub reading: u64,
    /// Their reads are shed.
    pub shed: u64,
    /// Their reads were refused, since there were too many at a time.
    pub refused: u64,
    /// Between two reads, or silent.
    pub waiting: u64,
}

impl Channels {
    /// Each state's name and number.
    pub fn states(&self) -> [(&'static str, u64); 4] {
        [
            ("reading", self.reading),
            ("shed", self.shed),
            ("refused", self.refused),
            ("waiting", self.waiting),
        ]
    }
}

/// The numbers of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSummary {
    /// Its name.
    pub name: String,
    /// Reads begun.
    pub reads: u64,
    /// Bases received.
    pub bases: u64,
    /// Its channels.
    pub channels: Channels,
    /// Counters of its own.
    pub own: Vec<(&'static str, u64)>,
}

impl Summary {
    /// Records that are neither out, nor rejected, shed or passed over: those on their way, and 0
    /// at the end of a run.
    pub fn unaccounted(&self) -> i128 {
        i128::from(self.reads_in)
            - i128::from(self.reads_out)
            - i128::from(self.rejected)
            - i128::from(self.shed)
            - i128::from(self.passed)
    }

    /// reads in = reads out + rejected + shed + passed over; at the end of a live run also bases in
    /// = scored + shed + rejected.
    pub fn adds_up(&self) -> bool {
        self.unaccounted() == 0
            && self.live.as_ref().is_none_or(|live| {
                self.bases_in == self.bases_out + live.bases_shed + live.bases_rejected
            })
    }

    /// One line for a run that goes on.
    pub fn line(&self) -> String {
        let calls: u64 = self.calls.iter().map(|(_, count)| count).sum();
        let mut line = format!(
            "{:.0} s: {} reads in, {} out, {:.3} Mb in, {:.3} Mb/s, {calls} calls, {} queued",
            self.elapsed.as_secs_f64(),
            self.reads_in,
            self.reads_out,
            self.bases_in as f64 / 1e6,
            self.bases_per_second() / 1e6,
            self.queued,
        );
        if let Some([p50, .., p999]) = self.latency {
            line += &format!(", p50 {p50:.1?}, p99.9 {p999:.1?}");
        }
        if let Some(live) = &self.live {
            line += &format!(
                ", {} late, {} bases shed, {} rejected, fast tier on {} workers",
                live.late, live.bases_shed, self.rejected, live.fast_lanes
            );
            line += &format!(", {:.1} MB kept", live.kept as f64 / 1e6);
            if live.recomputed > 0 {
                line += &format!(" and {} reads without", live.recomputed);
            }
        }
        line
    }

    /// Bases written a second since the start.
    pub fn bases_per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 {
            self.bases_out as f64 / seconds
        } else {
            0.0
        }
    }
}

impl fmt::Display for Summary {
    /// The text at the end of a run, without a last line end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "reads    {} in = {} out + {} rejected + {} shed",
            self.reads_in, self.reads_out, self.rejected, self.shed
        )?;
        match self.passed {
            0 => writeln!(f)?,
            passed => writeln!(f, " + {passed} passed over")?,
        }
        if !self.adds_up() {
            writeln!(f, "         {} reads UNACCOUNTED FOR", self.unaccounted())?;
        }
        match &self.live {
            None => write!(f, "bases    {} in, {} out", self.bases_in, self.bases_out)?,
            Some(live) => write!(
                f,
                "bases    {} in = {} scored + {} without context + {} shed + {} rejected",
                self.bases_in,
                self.bases_out.saturating_sub(live.without_context),
                live.without_context,
                live.bases_shed,
                live.bases_rejected
            )?,
        }
        writeln!(
            f,
            " in {:.1} s, {:.3} Mb/s",
            self.elapsed.as_secs_f64(),
            self.bases_per_second() / 1e6
        )?;
        write!(f, "calls   ")?;
        let listed =
            |(i, (_, count)): &(usize, &(&str, u64))| *i < self.expected_kinds || *count > 0;
        let listed = self.calls.iter().enumerate().filter(listed);
        for (i, (_, (kind, count))) in listed.enumerate() {
            write!(f, "{} {count} {kind}", if i == 0 { "" } else { "," })?;
        }
        if let Some([p50, p90, p99, p999]) = self.latency {
            write!(
                f,
                "\nlatency  p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?} \
                 from bytes received to calls written"
            )?;
        }
        self.live
            .as_ref()
            .map_or(Ok(()), |live| write!(f, "{live}"))
    }
}

impl fmt::Display for LiveSummary {
    /// What follows the common lines, each with its line end before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(deadline) = self.deadline {
            write!(f, "\ndeadline {deadline:?} missed by {} pieces", self.late)?;
            if self.tier_changes > 0 {
                write!(f, "; {} changes of tier", self.tier_changes)?;
            }
        }
        if self.recomputed > 0 {
            write!(
                f,
                "\nkept     {:.1} MB; {} reads had no room",
                self.kept as f64 / 1e6,
                self.recomputed
            )?;
        }
        if self.partial > 0 {
            let (reads, bases) = (self.partial, self.bases_partial);
            write!(f, "\npartial  {reads} reads, {bases} bases scored of them")?;
        }
        if let Some([p50, .., p999]) = self.to_decision {
            write!(
                f,
                "\ndecided  {} keep, {} eject; p50 {p50:.1?}, p99.9 {p999:.1?} from bytes received",
                self.keep, self.eject
            )?;
        }
        for source in &self.sources {
            let SourceSummary {
                name,
                reads,
                bases,
                own,
                // At the end all are silent.
                channels: _,
            } = source;
            write!(f, "\nsource   {name}: {reads} reads, {bases} bases")?;
            for (name, count) in own.iter().filter(|(_, count)| *count > 0) {
                write!(f, ", {count} {}", name.replace('_', " "))?;
            }
        }
        Ok(())
    }
}
