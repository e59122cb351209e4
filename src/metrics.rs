//! Counters that must add up, and the latency from bytes received to calls written.

use crate::call::{Call, CallKind};
use hdrhistogram::Histogram;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest latency told apart, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// Counts of one run, readable from any thread while it goes on.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    reads_in: AtomicU64,
    reads_out: AtomicU64,
    rejected: AtomicU64,
    shed: AtomicU64,
    bases_in: AtomicU64,
    bases_out: AtomicU64,
    calls: [AtomicU64; CallKind::ALL.len()],
    queued: AtomicU64,
    latency: Mutex<Histogram<u64>>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// All zero; the clock starts.
    pub fn new() -> Metrics {
        let latency = Histogram::new_with_bounds(1, LONGEST, 3);
        Metrics {
            started: Instant::now(),
            reads_in: AtomicU64::new(0),
            reads_out: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            bases_in: AtomicU64::new(0),
            bases_out: AtomicU64::new(0),
            calls: Default::default(),
            queued: AtomicU64::new(0),
            latency: Mutex::new(latency.expect("constant bounds that the crate accepts")),
        }
    }

    /// A record was begun.
    pub fn read_in(&self) {
        self.reads_in.fetch_add(1, Relaxed);
    }

    /// A record's last call was written.
    pub fn read_out(&self) {
        self.reads_out.fetch_add(1, Relaxed);
    }

    /// A record was not annotated, or not to its end.
    pub fn read_rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    /// A record was dropped because more came in than could be annotated.
    pub fn read_shed(&self) {
        self.shed.fetch_add(1, Relaxed);
    }

    /// `bases` were handed to a worker.
    pub fn bases_in(&self, bases: u64) {
        self.bases_in.fetch_add(bases, Relaxed);
    }

    /// A chunk entered the queues.
    pub fn queued(&self) {
        self.queued.fetch_add(1, Relaxed);
    }

    /// A chunk left the queues.
    pub fn unqueued(&self) {
        self.queued.fetch_sub(1, Relaxed);
    }

    /// The calls of `bases` bases, which came in at `received`, were written.
    pub fn written(&self, bases: u64, calls: &[Call], received: Instant) {
        self.bases_out.fetch_add(bases, Relaxed);
        for call in calls {
            if let Some(i) = CallKind::ALL.iter().position(|&kind| kind == call.kind) {
                self.calls[i].fetch_add(1, Relaxed);
            }
        }
        let micros = u64::try_from(received.elapsed().as_micros()).unwrap_or(LONGEST);
        self.latency
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .saturating_record(micros.max(1));
    }

    /// The numbers of this moment.
    pub fn summary(&self) -> Summary {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let quantile = |q| Duration::from_micros(latency.value_at_quantile(q));
        // What leaves is read before what comes in, so that a look in mid-run never shows more out than in.
        let reads_out = self.reads_out.load(Relaxed);
        let rejected = self.rejected.load(Relaxed);
        let shed = self.shed.load(Relaxed);
        let bases_out = self.bases_out.load(Relaxed);
        Summary {
            reads_in: self.reads_in.load(Relaxed),
            reads_out,
            rejected,
            shed,
            bases_in: self.bases_in.load(Relaxed),
            bases_out,
            calls: CallKind::ALL.map(|kind| (kind, self.calls[kind as usize].load(Relaxed))),
            queued: self.queued.load(Relaxed),
            latency: (!latency.is_empty()).then(|| [0.5, 0.9, 0.99, 0.999].map(quantile)),
            elapsed: self.started.elapsed(),
        }
    }
}

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
    /// Bases handed to workers.
    pub bases_in: u64,
    /// Bases whose calls were written.
    pub bases_out: u64,
    /// Calls written, by kind.
    pub calls: [(CallKind, u64); CallKind::ALL.len()],
    /// Chunks in the queues.
    pub queued: u64,
    /// p50, p90, p99 and p99.9 from a chunk's last byte received to its calls written; `None` before the first.
    pub latency: Option<[Duration; 4]>,
    /// Since the metrics were made.
    pub elapsed: Duration,
}

impl Summary {
    /// Records that are neither out, nor rejected, nor shed: those on their way, and 0 at the end of a run.
    pub fn unaccounted(&self) -> i128 {
        i128::from(self.reads_in)
            - i128::from(self.reads_out)
            - i128::from(self.rejected)
            - i128::from(self.shed)
    }

    /// reads in = reads out + rejected + shed.
    pub fn adds_up(&self) -> bool {
        self.unaccounted() == 0
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
        writeln!(
            f,
            "reads    {} in = {} out + {} rejected + {} shed",
            self.reads_in, self.reads_out, self.rejected, self.shed
        )?;
        if !self.adds_up() {
            writeln!(f, "         {} reads UNACCOUNTED FOR", self.unaccounted())?;
        }
        writeln!(
            f,
            "bases    {} in, {} out in {:.1} s, {:.3} Mb/s",
            self.bases_in,
            self.bases_out,
            self.elapsed.as_secs_f64(),
            self.bases_per_second() / 1e6
        )?;
        write!(f, "calls   ")?;
        let told = |(kind, count): &&(CallKind, u64)| kind.is_probability() || *count > 0;
        for (i, (kind, count)) in self.calls.iter().filter(told).enumerate() {
            write!(f, "{} {count} {kind}", if i == 0 { "" } else { "," })?;
        }
        let Some([p50, p90, p99, p999]) = self.latency else {
            return Ok(());
        };
        write!(
            f,
            "\nlatency  p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, p99.9 {p999:.1?} from bytes received to calls written"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Flags;
    use crate::nucleotide::Strand;

    #[test]
    fn kinds_count_where_they_belong() {
        for (i, kind) in CallKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, i);
        }
    }

    #[test]
    fn the_summary_says_what_happened() {
        let metrics = Metrics::new();
        assert!(metrics.summary().latency.is_none());
        for _ in 0..3 {
            metrics.read_in();
        }
        metrics.bases_in(900);
        metrics.read_out();
        metrics.read_rejected();
        let call = Call {
            start: 1,
            end: 2,
            strand: Strand::Forward,
            kind: CallKind::Promoter,
            score: 0.5,
            flags: Flags::NONE,
            model: 0,
        };
        metrics.written(400, &[call, call], Instant::now());
        let mut summary = metrics.summary();
        assert_eq!(summary.unaccounted(), 1);
        assert!(!summary.adds_up());
        summary.elapsed = Duration::from_millis(2000);
        summary.latency = Some([1, 20, 300, 4000].map(Duration::from_millis));
        assert_eq!(
            summary.to_string(),
            "reads    3 in = 1 out + 1 rejected + 0 shed\n\
             \x20        1 reads UNACCOUNTED FOR\n\
             bases    900 in, 400 out in 2.0 s, 0.000 Mb/s\n\
             calls    0 donor, 0 acceptor, 2 promoter\n\
             latency  p50 1.0ms, p90 20.0ms, p99 300.0ms, p99.9 4.0s from bytes received to calls written"
        );
        metrics.read_shed();
        assert!(metrics.summary().adds_up());
    }

    #[test]
    fn latencies_are_microseconds() {
        let metrics = Metrics::new();
        for millis in [10, 10, 10, 1000] {
            metrics.written(1, &[], Instant::now() - Duration::from_millis(millis));
        }
        let [p50, .., p999] = metrics.summary().latency.expect("recorded");
        assert!(
            p50 >= Duration::from_millis(10) && p50 < Duration::from_millis(500),
            "{p50:?}"
        );
        assert!(p999 >= Duration::from_millis(999), "{p999:?}");
    }
}
