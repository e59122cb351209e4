//! How far a run has come, while it goes on.

use super::events::Events;
use super::report::note;
use crate::metrics::Metrics;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A line on standard error every so often.
pub(super) struct Status {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Status {
    /// The line is also one of the `events`, if there are such.
    pub(super) fn every(
        period: Duration,
        metrics: &Arc<Metrics>,
        events: Option<Events>,
    ) -> Status {
        let ended = Arc::new(AtomicBool::new(false));
        let (own, metrics) = (ended.clone(), metrics.clone());
        let thread = std::thread::spawn(move || {
            loop {
                let start = Instant::now();
                while start.elapsed() < period {
                    if own.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::park_timeout(period.saturating_sub(start.elapsed()));
                }
                let summary = metrics.summary();
                note(summary.line());
                if let Some(events) = &events {
                    events.status(&summary, false);
                }
            }
        });
        Status {
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic, and there is nothing to do if it did.
            let _ = thread.join();
        }
    }
}

/// A line on the terminal while the run goes on.
pub(super) struct Progress {
    bar: ProgressBar,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Progress {
    pub(super) fn show(metrics: &Arc<Metrics>) -> Progress {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let ended = Arc::new(AtomicBool::new(false));
        let (own_bar, own_ended, metrics) = (bar.clone(), ended.clone(), metrics.clone());
        let thread = std::thread::spawn(move || {
            while !own_ended.load(Ordering::Relaxed) {
                let now = metrics.summary();
                let calls: u64 = now.calls.iter().map(|(_, count)| count).sum();
                own_bar.set_message(format!(
                    "{} reads, {:.1} Mb, {:.2} Mb/s, {calls} calls, {} chunks queued",
                    now.reads_out,
                    now.bases_out as f64 / 1e6,
                    now.bases_per_second() / 1e6,
                    now.queued,
                ));
                own_bar.tick();
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        Progress {
            bar,
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot panic, and if it did there would be nothing to do but to end the line.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}
