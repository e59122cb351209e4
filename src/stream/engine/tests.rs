use super::mode::Mode;
use super::port::Port;
use super::run::{Ended, Source, Worker, run_threads};
use super::shared::{Engine, Setup, SourceSlots};
use super::sink::Sink;
use crate::metrics::Metrics;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SLOTS: usize = 4;
const LANES: usize = 2;

/// Numbers on their way; each source has a last slot for its end.
#[derive(Default)]
struct Numbers {
    /// Ends that were sent, by source.
    closed: Mutex<Vec<usize>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Slot {
    source: usize,
    number: u64,
    worked: bool,
    closes: bool,
}

fn slot(source: usize) -> Box<Slot> {
    Box::new(Slot {
        source,
        number: 0,
        worked: false,
        closes: false,
    })
}

impl Mode for Numbers {
    type Slot = Slot;

    const LOOK: Duration = Duration::from_millis(5);

    const READ_LIMIT: Duration = Duration::from_millis(20);

    fn source(slot: &Slot) -> usize {
        slot.source
    }

    fn load(_: &Slot) -> u64 {
        1
    }

    fn clear(slot: &mut Slot) {
        slot.worked = false;
    }

    fn close(&self, source: usize, send: &mut dyn FnMut(usize, Box<Slot>)) {
        self.closed.lock().unwrap().push(source);
        let mut last = slot(source);
        last.closes = true;
        send(source % LANES, last);
    }
}

/// Counts to `most`; then ends, or never comes back from a read.
struct Counts {
    next: u64,
    most: u64,
    stuck: bool,
    /// It has gone into that read.
    reads: Arc<AtomicBool>,
    closed: Arc<AtomicUsize>,
}

fn counts(most: u64) -> Counts {
    Counts {
        next: 0,
        most,
        stuck: false,
        reads: Arc::default(),
        closed: Arc::default(),
    }
}

impl Source<Numbers> for Counts {
    fn read(&mut self, port: &Port<Numbers>) -> Ended {
        while let Some(mut slot) = port.free_slot() {
            if self.next == self.most && self.stuck {
                let read = port.blocking(|| {
                    self.reads.store(true, SeqCst);
                    std::thread::sleep(Duration::from_secs(3600));
                });
                assert!(read.is_none());
                return Ended::Early;
            }
            if self.next == self.most {
                port.engine.return_unused(slot);
                return Ended::Complete;
            }
            slot.number = self.next;
            self.next += 1;
            port.engine.send(port.engine.least_loaded(), slot);
        }
        Ended::Early
    }

    fn close(&mut self, port: &Port<Numbers>) {
        port.all_written();
        self.closed.fetch_add(1, SeqCst);
    }
}

/// Marks what it sees; panics at a number.
struct Marks {
    panics_at: Option<u64>,
}

impl Worker<Numbers> for Marks {
    fn work(&mut self, _: &Engine<Numbers>, slot: &mut Slot) {
        assert_ne!(Some(slot.number), self.panics_at, "a panic in a test");
        slot.worked = true;
    }
}

fn setup(sources: usize, stop: &Arc<AtomicBool>) -> (Setup<Numbers>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let slots = (0..sources).map(|source| SourceSlots {
        free: (0..SLOTS).map(|_| slot(source)).collect(),
        closing: 1,
    });
    let setup = Setup {
        mode: Numbers::default(),
        threads: LANES,
        slots: slots.collect(),
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    (setup, metrics)
}

/// Takes everything, and asks `each` for every slot.
fn collect(sink: &Sink<'_, Numbers>, mut each: impl FnMut(&Slot)) -> Vec<Slot> {
    let mut all = vec![];
    while let Some(slot) = sink.next() {
        each(&slot);
        all.push((*slot).clone());
        sink.give_back(slot);
    }
    all
}

fn marks(_lane: usize) -> Marks {
    Marks { panics_at: None }
}

#[test]
fn everything_comes_out_once_and_sources_close() {
    let stop = Arc::default();
    let (setup, metrics) = setup(3, &stop);
    let sources: Vec<Counts> = [100, 0, 7].map(counts).into();
    let closed: Vec<_> = sources.iter().map(|s| s.closed.clone()).collect();
    let ran = run_threads(setup, sources, marks, |sink| collect(sink, |_| {})).unwrap();
    for (source, most) in [(0, 100), (1, 0), (2, 7)] {
        let own = ran.sink.iter().filter(|s| s.source == source && !s.closes);
        let mut numbers: Vec<u64> = own.map(|s| s.number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..most).collect::<Vec<_>>());
    }
    assert!(ran.sink.iter().all(|s| s.worked));
    assert_eq!(ran.sink.iter().filter(|s| s.closes).count(), 3);
    assert!(closed.iter().all(|c| c.load(SeqCst) == 1));
    assert!(!ran.engine.stopped_early() && !ran.engine.thread_died());
    assert_eq!(metrics.summary().queued, 0);
}

#[test]
fn a_stop_goes_on_without_a_source_stuck_in_a_read() {
    let stop = Arc::new(AtomicBool::new(false));
    let (setup, metrics) = setup(2, &stop);
    let mut stuck = counts(10);
    stuck.stuck = true;
    let (closed, reads) = (stuck.closed.clone(), stuck.reads.clone());
    let begun = Instant::now();
    let ran = run_threads(setup, vec![stuck, counts(5)], marks, |sink| {
        let mut seen = 0;
        collect(sink, |_| {
            seen += 1;
            // Fifteen numbers, and the end of the source that has one.
            if seen == 16 {
                while !reads.load(SeqCst) {
                    std::thread::yield_now();
                }
                stop.store(true, SeqCst);
            }
        })
    });
    let ran = ran.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(ran.sink.len(), 17);
    assert!(ran.sink.iter().all(|s| s.worked));
    let mut ended = ran.engine.mode.closed.lock().unwrap().clone();
    ended.sort_unstable();
    assert_eq!(ended, [0, 1], "each is ended once");
    assert!(ran.engine.stopped_early());
    assert_eq!(
        closed.load(SeqCst),
        0,
        "who was left behind touches nothing"
    );
    assert_eq!(metrics.summary().queued, 0);
}

#[test]
fn a_panicking_worker_ends_the_run_and_loses_no_slot() {
    let stop = Arc::default();
    let (setup, metrics) = setup(1, &stop);
    let worker = |_| Marks {
        panics_at: Some(20),
    };
    let ran = run_threads(setup, vec![counts(u64::MAX)], worker, |sink| {
        collect(sink, |slot| {
            let unworked = !slot.worked;
            assert!(!unworked || sink.engine.halted(), "known before it comes");
        })
    });
    let ran = ran.unwrap();
    assert!(ran.engine.thread_died() && ran.engine.stopped_early());
    let mut numbers: Vec<u64> = ran
        .sink
        .iter()
        .filter(|s| !s.closes)
        .map(|s| s.number)
        .collect();
    numbers.sort_unstable();
    let all: Vec<u64> = (0..numbers.len() as u64).collect();
    assert_eq!(numbers, all, "none is missing of those sent");
    assert!(numbers.len() > 20);
    assert_eq!(metrics.summary().queued, 0);
}

#[test]
fn a_panicking_source_is_ended() {
    struct Panics;
    impl Source<Numbers> for Panics {
        fn read(&mut self, port: &Port<Numbers>) -> Ended {
            let slot = port.free_slot().unwrap();
            port.engine.send(0, slot);
            panic!("a panic in a test");
        }
    }
    let (setup, _) = setup(1, &Arc::default());
    let ran = run_threads(setup, vec![Panics], marks, |sink| collect(sink, |_| {})).unwrap();
    assert_eq!(ran.sink.len(), 2);
    assert!(ran.engine.thread_died() && ran.engine.stopped_early());
}

#[test]
fn a_source_that_panics_in_a_read_is_ended_once() {
    enum Reads {
        Panics,
        Stuck(Counts),
    }
    impl Source<Numbers> for Reads {
        fn read(&mut self, port: &Port<Numbers>) -> Ended {
            match self {
                Reads::Panics => {
                    port.blocking(|| panic!("a panic in a test"));
                    Ended::Complete
                }
                Reads::Stuck(counts) => counts.read(port),
            }
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (setup, metrics) = setup(2, &stop);
    let mut stuck = counts(10);
    stuck.stuck = true;
    let sources = vec![Reads::Panics, Reads::Stuck(stuck)];
    let ran = run_threads(setup, sources, marks, |sink| {
        let mut seen = 0;
        collect(sink, |_| {
            seen += 1;
            // Ten numbers, and the end of the source that panicked.
            if seen == 11 {
                stop.store(true, SeqCst);
            }
        })
    });
    let ran = ran.unwrap();
    assert_eq!(ran.sink.len(), 12);
    let mut ended = ran.engine.mode.closed.lock().unwrap().clone();
    ended.sort_unstable();
    assert_eq!(ended, [0, 1], "each is ended once");
    assert!(ran.engine.thread_died() && ran.engine.stopped_early());
    assert_eq!(metrics.summary().queued, 0);
}

#[test]
fn a_panicking_sink_does_not_hang_though_a_source_is_stuck() {
    let stop = Arc::default();
    let (setup, _) = setup(2, &stop);
    let mut stuck = counts(1);
    stuck.stuck = true;
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
        run_threads(setup, vec![stuck, counts(u64::MAX)], marks, |sink| {
            let mut seen = 0;
            collect(sink, |_| {
                seen += 1;
                assert!(seen < 50, "a panic in a test");
            })
        })
        .map(|ran| ran.sink)
    }));
    assert!(result.is_err());
}

#[test]
fn what_lies_in_a_lane_without_a_worker_reaches_the_sink() {
    let stop = Arc::default();
    let (setup, metrics) = setup(1, &stop);
    let (engine, parkers) = Engine::new(setup);
    let fill = |number| {
        let mut slot = engine.free_slot(0, &parkers.sources[0]).unwrap();
        slot.number = number;
        slot
    };
    engine.send(0, fill(0));
    engine.send(1, fill(1));
    // Neither lane ever gets its worker: what was sent before and what comes after.
    engine.worker_ended(0);
    engine.worker_ended(1);
    engine.send(0, fill(2));
    engine.end_source(0, false);
    let sink = Sink {
        engine: &engine,
        parker: parkers.sink,
    };
    let mut numbers: Vec<(u64, bool)> = collect(&sink, |slot| assert!(!slot.worked))
        .iter()
        .map(|slot| (slot.number, slot.closes))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [(0, false), (0, true), (1, false), (2, false)]);
    assert!(engine.all_slots_back(0));
    assert_eq!(metrics.summary().queued, 0);
}
