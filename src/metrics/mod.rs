//! Counters that must add up, and the latency from bytes received to calls written.

mod endpoint;
mod page;
mod prometheus;
mod summary;

pub use endpoint::Endpoint;
pub use page::Recent;
pub use summary::{Channels, LiveSummary, SourceSummary, Summary};

use hdrhistogram::Histogram;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The longest latency that is measured, in microseconds: an hour.
const LONGEST: u64 = 3_600_000_000;

/// Most kinds of calls that are counted.
const MOST_KINDS: usize = 16;

/// Counts of one run, readable from any thread while it goes on.
#[derive(Debug)]
pub struct Metrics {
    started: Instant,
    reads_in: AtomicU64,
    reads_out: AtomicU64,
    rejected: AtomicU64,
    shed: AtomicU64,
    passed: AtomicU64,
    bases_in: AtomicU64,
    bases_out: AtomicU64,
    /// Calls by kind, and what the kinds are called.
    calls: [AtomicU64; MOST_KINDS],
    kinds: OnceLock<(&'static [&'static str], usize)>,
    queued: AtomicU64,
    latency: Mutex<Histogram<u64>>,
    live: OnceLock<Live>,
}

/// What only a live run counts.
#[derive(Debug)]
struct Live {
    sources: Vec<OneSource>,
    deadline: Option<Duration>,
    partial: AtomicU64,
    bases_partial: AtomicU64,
    bases_shed: AtomicU64,
    bases_rejected: AtomicU64,
    without_context: AtomicU64,
    late: AtomicU64,
    keep: AtomicU64,
    eject: AtomicU64,
    to_decision: Mutex<Histogram<u64>>,
    /// Lanes whose fast tier stands in, one bit each, and how often one came or went.
    fast: AtomicU64,
    tier_changes: AtomicU64,
    /// What reads keep of what was computed, in bytes, and how often there was no room.
    kept: AtomicU64,
    recomputed: AtomicU64,
}

struct OneSource {
    name: String,
    reads: AtomicU64,
    bases: AtomicU64,
    channels: Mutex<Channels>,
    own: Option<Arc<dyn SourceCounters>>,
}

impl fmt::Debug for OneSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneSource({})", self.name)
    }
}

/// Counters that a source keeps itself.
pub trait SourceCounters: Send + Sync {
    /// Their names, in lower case with underscores, and their values at this moment.
    fn counters(&self) -> Vec<(&'static str, u64)>;
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
            passed: AtomicU64::new(0),
            bases_in: AtomicU64::new(0),
            bases_out: AtomicU64::new(0),
            calls: Default::default(),
            kinds: OnceLock::new(),
            queued: AtomicU64::new(0),
            latency: Mutex::new(
                latency.expect("1 to an hour at three digits are bounds that the crate accepts"),
            ),
            live: OnceLock::new(),
        }
    }

    /// A live run of these sources begins.
    pub(crate) fn live(
        &self,
        sources: impl Iterator<Item = (String, Option<Arc<dyn SourceCounters>>)>,
        deadline: Option<Duration>,
    ) {
        let sources = sources.map(|(name, own)| OneSource {
            name,
            reads: AtomicU64::new(0),
            bases: AtomicU64::new(0),
            channels: Mutex::default(),
            own,
        });
        let latency = Histogram::new_with_bounds(1, LONGEST, 3);
        let live = Live {
            sources: sources.collect(),
            deadline,
            partial: AtomicU64::new(0),
            bases_partial: AtomicU64::new(0),
            bases_shed: AtomicU64::new(0),
            bases_rejected: AtomicU64::new(0),
            without_context: AtomicU64::new(0),
            late: AtomicU64::new(0),
            keep: AtomicU64::new(0),
            eject: AtomicU64::new(0),
            to_decision: Mutex::new(
                latency.expect("1 to an hour at three digits are bounds that the crate accepts"),
            ),
            fast: AtomicU64::new(0),
            tier_changes: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            recomputed: AtomicU64::new(0),
        };
        // A second run counts on in the first one's counters.
        let _ = self.live.set(live);
    }

    fn add(&self, of: impl Fn(&Live) -> &AtomicU64, count: u64) {
        if let Some(live) = self.live.get() {
            of(live).fetch_add(count, Relaxed);
        }
    }

    /// A read's beginning, or bases of one, came from a source.
    pub(crate) fn received(&self, source: usize, reads: u64, bases: u64) {
        self.reads_in.fetch_add(reads, Relaxed);
        self.bases_in.fetch_add(bases, Relaxed);
        if let Some(source) = self.live.get().and_then(|l| l.sources.get(source)) {
            source.reads.fetch_add(reads, Relaxed);
            source.bases.fetch_add(bases, Relaxed);
        }
    }

    /// The channels of a source do something else now.
    pub(crate) fn channels(&self, source: usize, now: Channels) {
        if let Some(source) = self.live.get().and_then(|l| l.sources.get(source)) {
            *source
                .channels
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = now;
        }
    }

    /// Positions were scored.
    pub(crate) fn bases_scored(&self, bases: u64) {
        self.bases_out.fetch_add(bases, Relaxed);
    }

    /// Of those scored, these had an end of the read, or of a stretch of it, within their context.
    pub(crate) fn without_context(&self, bases: u64) {
        self.add(|l| &l.without_context, bases);
    }

    /// Bases were shed because of overload, or of a stop.
    pub(crate) fn bases_shed(&self, bases: u64) {
        self.add(|l| &l.bases_shed, bases);
    }

    /// Bases came in whose read was rejected.
    pub(crate) fn bases_rejected(&self, bases: u64) {
        self.add(|l| &l.bases_rejected, bases);
    }

    /// A read that is out has bases missing; `scored` of it were not.
    pub(crate) fn read_partial(&self, scored: u64) {
        self.add(|l| &l.partial, 1);
        self.add(|l| &l.bases_partial, scored);
    }

    /// A lane's fast tier stands in, or no longer does.
    pub(crate) fn fast_tier(&self, lane: usize, on: bool) {
        let Some(live) = self.live.get() else { return };
        let bit = 1 << (lane % 64);
        if (live.fast.load(Relaxed) & bit != 0) == on {
            return;
        }
        let was = if on {
            live.fast.fetch_or(bit, Relaxed)
        } else {
            live.fast.fetch_and(!bit, Relaxed)
        };
        if (was & bit != 0) != on {
            live.tier_changes.fetch_add(1, Relaxed);
        }
    }

    /// Reads keep so many bytes of what was computed, and so many went on without.
    pub(crate) fn kept(&self, bytes: u64, recomputed: u64) {
        if let Some(live) = self.live.get() {
            live.kept.store(bytes, Relaxed);
            live.recomputed.fetch_max(recomputed, Relaxed);
        }
    }

    /// A read was decided on, by calls of bases that came in at `received`.
    pub fn decided(&self, eject: bool, received: Instant) {
        let Some(live) = self.live.get() else { return };
        let counter = if eject { &live.eject } else { &live.keep };
        counter.fetch_add(1, Relaxed);
        record(&live.to_decision, received);
    }

    /// Calls were written, of pieces that came in at these times.
    pub(crate) fn flushed(&self, received: &[Instant]) {
        for &received in received {
            record(&self.latency, received);
            if let Some(live) = self.live.get()
                && live.deadline.is_some_and(|most| received.elapsed() > most)
            {
                live.late.fetch_add(1, Relaxed);
            }
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

    /// A record was passed over that is no read of its own, or lacks bases of it.
    pub fn read_passed(&self) {
        self.passed.fetch_add(1, Relaxed);
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
    pub fn written(&self, bases: u64, kinds: impl Iterator<Item = usize>, received: Instant) {
        self.bases_out.fetch_add(bases, Relaxed);
        self.calls(kinds);
        record(&self.latency, received);
    }

    /// Calls were made that are about to be written, of these kinds by their index in
    /// [`Metrics::kinds`].
    pub(crate) fn calls(&self, kinds: impl Iterator<Item = usize>) {
        for kind in kinds {
            if let Some(count) = self.calls.get(kind) {
                count.fetch_add(1, Relaxed);
            }
        }
    }

    /// A run begins whose calls are of these kinds, 16 at most. The first `expected` are listed in
    /// a summary even where there are no calls of them.
    pub fn kinds(&self, names: &'static [&'static str], expected: usize) {
        debug_assert!(names.len() <= MOST_KINDS);
        // A second run counts on in the first one's counters.
        let _ = self.kinds.set((names, expected));
    }

    /// Microseconds from bytes received to calls written.
    pub fn latency(&self) -> Histogram<u64> {
        let latency = self.latency.lock();
        latency.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bases handed to workers so far.
    pub fn bases_received(&self) -> u64 {
        self.bases_in.load(Relaxed)
    }

    /// The numbers of this moment.
    pub fn summary(&self) -> Summary {
        let latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        // What leaves is read before what comes in, so that a look in mid-run never shows more out
        // than in.
        let reads_out = self.reads_out.load(Relaxed);
        let rejected = self.rejected.load(Relaxed);
        let shed = self.shed.load(Relaxed);
        let passed = self.passed.load(Relaxed);
        let live = self.live.get().map(Live::summary);
        let bases_out = self.bases_out.load(Relaxed);
        let kinds = self.kinds.get().copied().unwrap_or_default();
        Summary {
            expected_kinds: kinds.1,
            reads_in: self.reads_in.load(Relaxed),
            reads_out,
            rejected,
            shed,
            passed,
            bases_in: self.bases_in.load(Relaxed),
            bases_out,
            calls: {
                let names = kinds.0;
                let counts = self.calls.iter().map(|count| count.load(Relaxed));
                names.iter().copied().zip(counts).collect()
            },
            queued: self.queued.load(Relaxed),
            latency: quantiles(&latency),
            elapsed: self.started.elapsed(),
            live,
        }
    }
}

fn record(histogram: &Mutex<Histogram<u64>>, since: Instant) {
    let micros = u64::try_from(since.elapsed().as_micros()).unwrap_or(LONGEST);
    let mut histogram = histogram.lock().unwrap_or_else(PoisonError::into_inner);
    histogram.saturating_record(micros.max(1));
}

/// p50, p90, p99 and p99.9.
fn quantiles(histogram: &Histogram<u64>) -> Option<[Duration; 4]> {
    let quantile = |q| Duration::from_micros(histogram.value_at_quantile(q));
    (!histogram.is_empty()).then(|| [0.5, 0.9, 0.99, 0.999].map(quantile))
}

impl Live {
    fn summary(&self) -> LiveSummary {
        let sources = self.sources.iter().map(|source| SourceSummary {
            name: source.name.clone(),
            reads: source.reads.load(Relaxed),
            bases: source.bases.load(Relaxed),
            channels: *source
                .channels
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
            own: source.own.as_ref().map_or(vec![], |own| own.counters()),
        });
        let to_decision = self.to_decision.lock();
        LiveSummary {
            partial: self.partial.load(Relaxed),
            bases_partial: self.bases_partial.load(Relaxed),
            bases_shed: self.bases_shed.load(Relaxed),
            bases_rejected: self.bases_rejected.load(Relaxed),
            without_context: self.without_context.load(Relaxed),
            late: self.late.load(Relaxed),
            deadline: self.deadline,
            keep: self.keep.load(Relaxed),
            eject: self.eject.load(Relaxed),
            to_decision: quantiles(&to_decision.unwrap_or_else(PoisonError::into_inner)),
            fast_lanes: self.fast.load(Relaxed).count_ones(),
            tier_changes: self.tier_changes.load(Relaxed),
            kept: self.kept.load(Relaxed),
            recomputed: self.recomputed.load(Relaxed),
            sources: sources.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        metrics.kinds(&["donor", "acceptor", "promoter", "expression"], 3);
        metrics.written(400, [2, 2].into_iter(), Instant::now());
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
             latency  p50 1.0ms, p90 20.0ms, p99 300.0ms, p99.9 4.0s \
             from bytes received to calls written"
        );
        metrics.read_shed();
        assert!(metrics.summary().adds_up());
    }

    #[test]
    fn latencies_are_microseconds() {
        let metrics = Metrics::new();
        for millis in [10, 10, 10, 1000] {
            metrics.written(
                1,
                [].into_iter(),
                Instant::now() - Duration::from_millis(millis),
            );
        }
        let [p50, .., p999] = metrics.summary().latency.expect("recorded");
        assert!(
            p50 >= Duration::from_millis(10) && p50 < Duration::from_millis(500),
            "{p50:?}"
        );
        assert!(p999 >= Duration::from_millis(999), "{p999:?}");
    }
}
