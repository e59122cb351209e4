//! The live page: a look at a run's numbers, for people.

use super::{Metrics, endpoint::answer};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const PAGE: &str = include_str!("page.html");

/// Between two looks at the numbers.
const STEP: Duration = Duration::from_secs(1);

/// Looks that are kept: ten minutes.
const LOOKS: usize = 600;

/// Calls that are kept.
const CALLS: usize = 20;

/// Between two reads whose calls are kept: people read no faster.
const APART: Duration = Duration::from_millis(20);

/// The page itself. It asks for its numbers and for nothing else.
pub(super) fn page() -> Vec<u8> {
    let policy = "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
                  script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; \
                  form-action 'none'; frame-ancestors 'none'";
    answer(
        "200 OK",
        &format!("text/html; charset=utf-8\r\n{policy}"),
        PAGE,
    )
}

/// A call as the page shows it.
#[derive(Debug, Clone)]
struct Call {
    read: String,
    kind: &'static str,
    strand: char,
    place: Range<u64>,
    score: f32,
}

/// The calls that were made last.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    calls: VecDeque<Call>,
    /// When the last of them came.
    at: Option<Instant>,
}

impl Recent {
    /// Takes note of the last ones of a read: kind, strand, place and score of each. Not of those
    /// that come at once behind others, and not while somebody looks: a run does not wait for its
    /// page.
    pub fn add(
        &self,
        read: &str,
        calls: impl DoubleEndedIterator<Item = (&'static str, char, Range<u64>, f32)>,
    ) {
        let Ok(mut latest) = self.0.try_lock() else {
            return;
        };
        if latest.at.is_some_and(|at| at.elapsed() < APART) {
            return;
        }
        let newest = calls.rev().take(CALLS);
        let newest: Vec<Call> = newest
            .map(|(kind, strand, place, score)| Call {
                read: read.to_string(),
                kind,
                strand,
                place,
                score,
            })
            .collect();
        if newest.is_empty() {
            return;
        }
        latest.at = Some(Instant::now());
        let calls = &mut latest.calls;
        calls.extend(newest.into_iter().rev());
        let surplus = calls.len().saturating_sub(CALLS);
        calls.drain(..surplus);
    }

    fn json(&self) -> Vec<Value> {
        let calls = match self.0.lock() {
            Ok(latest) => latest.calls.clone(),
            Err(_) => VecDeque::new(),
        };
        let newest = calls.iter().rev();
        let shown = newest.map(|call| {
            json!({
                "read": call.read,
                "kind": call.kind,
                "strand": call.strand,
                "start": call.place.start,
                "end": call.place.end,
                "score": call.score,
            })
        });
        shown.collect()
    }
}

/// What was seen at one look: seconds since the start, bases a second since the look before,
/// pieces in the queues, and milliseconds at p50, p99 and p99.9 since the look before.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: f64,
    rate: f64,
    queued: u64,
    latency: Option<[f64; 3]>,
}

/// Numbers of the last minutes.
#[derive(Debug, Default)]
pub(super) struct History {
    looks: VecDeque<Look>,
    last: Option<Last>,
}

/// What the next look is compared with.
#[derive(Debug)]
struct Last {
    at: Instant,
    bases: u64,
    latency: Histogram<u64>,
}

impl History {
    /// Looks at the numbers, once a second.
    pub(super) fn look(&mut self, metrics: &Metrics) {
        let last = self.last.as_ref();
        if last.is_some_and(|last| last.at.elapsed() < STEP) {
            return;
        }
        let (summary, latency) = (metrics.summary(), metrics.latency());
        if let Some(last) = last {
            let seconds = last.at.elapsed().as_secs_f64();
            let mut since = latency.clone();
            // They only grow, so the earlier ones are part of the later ones.
            let quantiles = since
                .subtract(&last.latency)
                .ok()
                .filter(|()| !since.is_empty());
            let milliseconds = |q: f64| since.value_at_quantile(q) as f64 / 1e3;
            self.looks.push_back(Look {
                at: summary.elapsed.as_secs_f64(),
                rate: summary.bases_out.saturating_sub(last.bases) as f64 / seconds,
                queued: summary.queued,
                latency: quantiles.map(|()| [0.5, 0.99, 0.999].map(milliseconds)),
            });
            if self.looks.len() > LOOKS {
                self.looks.pop_front();
            }
        }
        self.last = Some(Last {
            at: Instant::now(),
            bases: summary.bases_out,
            latency,
        });
    }

    /// All that the page shows.
    pub(super) fn numbers(&self, metrics: &Metrics, models: &[String], recent: &Recent) -> String {
        let summary = metrics.summary();
        let milliseconds =
            |of: Option<[Duration; 4]>| of.map(|all| all.map(|d| d.as_secs_f64() * 1e3));
        let history = self.looks.iter().map(|look| {
            let round = |x: f64| (x * 1000.0).round() / 1000.0;
            let [p50, p99, p999] = match look.latency {
                Some(all) => all.map(|x| json!(round(x))),
                None => [Value::Null, Value::Null, Value::Null],
            };
            json!([
                round(look.at),
                look.rate.round(),
                look.queued,
                p50,
                p99,
                p999
            ])
        });
        let live = summary.live.as_ref().map(|live| {
            let sources = live.sources.iter().map(|source| {
                json!({
                    "name": source.name,
                    "reads": source.reads,
                    "bases": source.bases,
                    "channels": source.channels.states(),
                    "counters": source.own,
                })
            });
            json!({
                "partial": live.partial,
                "bases_shed": live.bases_shed,
                "late": live.late,
                "deadline": live.deadline.map(|d| d.as_secs_f64() * 1e3),
                "keep": live.keep,
                "eject": live.eject,
                "to_decision": milliseconds(live.to_decision),
                "fast_workers": live.fast_lanes,
                "tier_changes": live.tier_changes,
                "kept": live.kept,
                "recomputed": live.recomputed,
                "sources": sources.collect::<Vec<_>>(),
            })
        });
        let kinds = summary.calls.iter().enumerate();
        let shown = kinds.filter(|(at, (_, count))| *at < summary.expected_kinds || *count > 0);
        let calls: Vec<_> = shown.map(|(_, call)| call).collect();
        let open = u64::try_from(summary.unaccounted()).unwrap_or_default();
        let numbers = json!({
            "elapsed": summary.elapsed.as_secs_f64(),
            "models": models,
            "reads": {
                "in": summary.reads_in,
                "open": open,
                "out": summary.reads_out,
                "rejected": summary.rejected,
                "shed": summary.shed,
                "passed": summary.passed,
            },
            "bases": { "in": summary.bases_in, "out": summary.bases_out },
            "calls": calls,
            "queued": summary.queued,
            "latency": milliseconds(summary.latency),
            "live": live,
            "history": history.collect::<Vec<_>>(),
            "recent": recent.json(),
        });
        numbers.to_string()
    }
}
