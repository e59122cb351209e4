use super::*;
use crate::annotate::{Annotate, Annotation};
use crate::call::Strand;
use crate::call::{Call, CallKind, CallSink, Flags};
use crate::metrics::{Metrics, Summary};
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Calls every G once the base after it is there, or at the end. T (3) fails, N (4) panics.
struct Mock {
    pause: Duration,
}

struct MockState {
    position: u64,
    waiting: Option<u64>,
    fast: bool,
    pause: Duration,
}

fn g(position: u64, fast: bool) -> Call {
    Call {
        start: position,
        end: position + 1,
        strand: Strand::Forward,
        kind: CallKind::Donor,
        score: 1.0,
        flags: if fast { Flags::FAST_TIER } else { Flags::NONE },
        model: 0,
    }
}

impl Annotate for Mock {
    type State = MockState;

    fn read(&self) -> MockState {
        MockState {
            position: 0,
            waiting: None,
            fast: false,
            pause: self.pause,
        }
    }

    fn context(&self) -> usize {
        1
    }

    fn has_fast_tier(&self) -> bool {
        true
    }
}

impl Annotation for MockState {
    type Error = &'static str;

    fn push_codes(&mut self, codes: &[u8], sink: &mut dyn CallSink) -> Result<(), &'static str> {
        let pause = if self.fast {
            self.pause / 50
        } else {
            self.pause
        };
        std::thread::sleep(pause);
        for &code in codes {
            if let Some(at) = self.waiting.take() {
                sink.take(g(at, self.fast));
            }
            match code {
                2 => self.waiting = Some(self.position),
                3 => return Err("a mock error"),
                4 => panic!("a panic in a test"),
                _ => {}
            }
            self.position += 1;
        }
        Ok(())
    }

    fn finish(&mut self, sink: &mut dyn CallSink) -> Result<(), &'static str> {
        if let Some(at) = self.waiting.take() {
            sink.take(g(at, self.fast));
        }
        self.position = 0;
        Ok(())
    }

    fn abort(&mut self) {
        self.waiting = None;
        self.position = 0;
    }

    fn use_fast_tier(&mut self, on: bool) {
        self.fast = on;
    }

    fn scored(&self) -> u64 {
        self.position.saturating_sub(1)
    }
}

/// Says what it was given to say.
struct Script {
    pieces: VecDeque<Piece>,
    slots: usize,
    /// After the last piece: idle until the run stops, not the end.
    stays: bool,
}

impl LiveSource for Script {
    fn name(&self) -> String {
        "script".into()
    }

    fn next(&mut self, piece: &mut Piece) -> Result<LiveStep, SourceError> {
        let Some(mut next) = self.pieces.pop_front() else {
            if self.stays {
                std::thread::sleep(Duration::from_millis(5));
                return Ok(LiveStep::Idle);
            }
            return Ok(LiveStep::End);
        };
        next.received = Instant::now();
        *piece = next;
        Ok(LiveStep::Piece)
    }

    fn slots(&self) -> (usize, usize) {
        (self.slots, 16)
    }
}

/// A source that never comes back from a read.
struct Stuck;

impl LiveSource for Stuck {
    fn name(&self) -> String {
        "stuck".into()
    }

    fn next(&mut self, _: &mut Piece) -> Result<LiveStep, SourceError> {
        loop {
            std::thread::sleep(Duration::from_secs(3600));
        }
    }
}

#[derive(Default)]
struct Received {
    calls: HashMap<(usize, String), Vec<Call>>,
    ends: HashMap<(usize, String), PieceEnd>,
    shed: Vec<String>,
    rejected: Vec<String>,
    pieces: usize,
}

impl LiveOutput for Received {
    fn piece(&mut self, finished: &FinishedPiece<'_>) -> io::Result<()> {
        self.pieces += 1;
        let name = String::from_utf8(finished.name.to_vec()).unwrap();
        let key = (finished.source, name.clone());
        if finished.shed {
            assert_eq!(finished.end, Some(PieceEnd::Partial));
            self.shed.push(name);
        }
        let calls = self.calls.entry(key.clone()).or_default();
        for call in finished.calls {
            assert!(call.start < finished.known_to);
            assert!(
                calls.last().is_none_or(|last| last.start < call.start),
                "out of order"
            );
            calls.push(*call);
        }
        if let Some(end) = finished.end {
            assert_eq!(self.ends.insert(key, end), None, "two ends");
        }
        Ok(())
    }

    fn rejected(&mut self, reason: &str) {
        self.rejected.push(reason.to_string());
    }
}

fn piece(channel: u16, name: &str, codes: &[u8], first: bool, end: Option<PieceEnd>) -> Piece {
    Piece {
        channel,
        read: 1,
        name: name.into(),
        first,
        codes: codes.to_vec(),
        lost: 0,
        end,
        received: Instant::now(),
    }
}

fn script(pieces: Vec<Piece>) -> Box<dyn LiveSource> {
    Box::new(Script {
        pieces: pieces.into(),
        slots: 8,
        stays: false,
    })
}

fn run_all(
    config: &LiveConfig,
    sources: Vec<Box<dyn LiveSource>>,
    pause: Duration,
) -> (Received, Summary) {
    let metrics = Arc::new(Metrics::new());
    let stop = Arc::new(AtomicBool::new(false));
    let mut received = Received::default();
    run(
        config,
        sources,
        &Mock { pause },
        &metrics,
        &stop,
        &mut received,
    )
    .unwrap();
    let summary = metrics.summary();
    assert!(summary.adds_up(), "{summary:?}");
    assert_eq!(summary.queued, 0);
    (received, summary)
}

fn starts(received: &Received, source: usize, name: &str) -> Vec<u64> {
    let calls = received.calls.get(&(source, name.to_string()));
    calls.into_iter().flatten().map(|call| call.start).collect()
}

fn config(threads: usize) -> LiveConfig {
    LiveConfig {
        threads,
        ..LiveConfig::default()
    }
}

const FULL: Option<PieceEnd> = Some(PieceEnd::Complete);

/// Reads on channels, cut anywhere and dealt in any order that keeps each channel's own.
fn dealt() -> impl Strategy<Value = (Vec<Vec<u8>>, Vec<Piece>)> {
    let read = proptest::collection::vec(0..3u8, 0..200);
    let reads = proptest::collection::vec(read, 1..12);
    (reads, any::<u64>()).prop_map(|(reads, seed)| {
        let mut random = seed | 1;
        let mut below = |n: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % n as u64) as usize
        };
        // Four channels, reads one after another on each.
        let mut queues: Vec<VecDeque<Piece>> = vec![VecDeque::new(); 4];
        for (i, codes) in reads.iter().enumerate() {
            let (channel, name) = (i % 4, format!("r{i}"));
            let (mut at, mut first) = (0, true);
            loop {
                let to = (at + below(60)).min(codes.len());
                let end = (to == codes.len() && below(2) == 0).then_some(PieceEnd::Complete);
                queues[channel].push_back(piece(channel as u16, &name, &codes[at..to], first, end));
                (at, first) = (to, false);
                if end.is_some() {
                    break;
                }
            }
        }
        let mut pieces = vec![];
        while queues.iter().any(|q| !q.is_empty()) {
            pieces.extend(queues[below(4)].pop_front());
        }
        (reads, pieces)
    })
}

proptest! {
    #[test]
    fn calls_are_those_of_whole_reads((reads, pieces) in dealt(), threads in 1..4usize) {
        // The same from two sources at once.
        let sources = vec![script(pieces.clone()), script(pieces)];
        let (received, summary) = run_all(&config(threads), sources, Duration::ZERO);
        prop_assert_eq!(summary.reads_out, 2 * reads.len() as u64);
        for (i, codes) in reads.iter().enumerate() {
            let name = format!("r{i}");
            let every_g = codes.iter().enumerate().filter(|(_, c)| **c == 2);
            let every_g: Vec<u64> = every_g.map(|(at, _)| at as u64).collect();
            for source in 0..2 {
                prop_assert_eq!(starts(&received, source, &name), every_g.clone());
                prop_assert_eq!(received.ends[&(source, name.clone())], PieceEnd::Complete);
            }
        }
        let calls = received.calls.values().flatten();
        prop_assert!(calls.into_iter().all(|c| c.flags == Flags::NONE));
        let live = summary.live.unwrap();
        // A base on either side: two a read that has as many.
        let short: u64 = reads.iter().map(|r| 2 * r.len().min(2) as u64).sum();
        prop_assert_eq!(live.without_context, short);
    }
}

#[test]
fn an_output_is_paused_while_nothing_comes() {
    struct Pauses(Arc<AtomicBool>, usize);
    impl LiveOutput for Pauses {
        fn piece(&mut self, _: &FinishedPiece<'_>) -> io::Result<()> {
            Ok(())
        }

        fn pause(&mut self) -> io::Result<()> {
            self.1 += 1;
            self.0.fetch_or(self.1 >= 3, SeqCst);
            Ok(())
        }
    }
    let source: Box<dyn LiveSource> = Box::new(Script {
        pieces: VecDeque::new(),
        slots: 8,
        stays: true,
    });
    let stop = Arc::new(AtomicBool::new(false));
    let mock = Mock {
        pause: Duration::ZERO,
    };
    let mut output = Pauses(stop.clone(), 0);
    let metrics = Arc::new(Metrics::new());
    run(
        &config(1),
        vec![source],
        &mock,
        &metrics,
        &stop,
        &mut output,
    )
    .unwrap();
    // Only a pause ended it.
    assert!(output.1 >= 3);
}

#[test]
fn a_gap_splits_a_read_and_is_flagged() {
    let mut second = piece(1, "", &[2, 0, 2], false, None);
    second.lost = 100;
    let end = piece(1, "", &[], false, FULL);
    let pieces = vec![piece(1, "a", &[0, 2, 2], true, None), second, end];
    let (received, summary) = run_all(&config(1), vec![script(pieces)], Duration::ZERO);
    assert_eq!(starts(&received, 0, "a"), [1, 2, 103, 105]);
    let calls = &received.calls[&(0, "a".to_string())];
    let flagged: Vec<bool> = calls
        .iter()
        .map(|c| c.flags.contains(Flags::PARTIAL))
        .collect();
    // The first call left before anybody knew.
    assert_eq!(flagged, [false, true, true, true]);
    let live = summary.live.unwrap();
    assert_eq!((live.partial, summary.reads_out), (1, 1));
    assert_eq!(live.without_context, 4);
}

#[test]
fn reads_without_an_end_are_partial() {
    // A new read begins on the channel; the source ends within another.
    let pieces = vec![
        piece(1, "a", &[2, 0], true, None),
        piece(1, "b", &[0, 2, 0], true, FULL),
        piece(2, "c", &[2], true, None),
        piece(3, "", &[2, 2], false, None),
    ];
    let (received, summary) = run_all(&config(2), vec![script(pieces)], Duration::ZERO);
    assert_eq!(received.ends[&(0, "a".to_string())], PieceEnd::Partial);
    assert_eq!(received.ends[&(0, "b".to_string())], PieceEnd::Complete);
    assert_eq!(received.ends[&(0, "c".to_string())], PieceEnd::Partial);
    assert_eq!(starts(&received, 0, "c"), [0]);
    let live = summary.live.unwrap();
    // Bases of a read whose beginning was not received.
    assert_eq!(live.bases_rejected, 2);
    assert_eq!(
        (summary.reads_in, summary.reads_out, live.partial),
        (3, 3, 2)
    );
}

#[test]
fn a_read_whose_bases_the_wire_lost_is_partial_and_one_that_was_shed_is_shed() {
    let mut lost = piece(1, "lost", &[], false, Some(PieceEnd::Partial));
    lost.lost = 100;
    let pieces = vec![piece(1, "lost", &[], true, None), lost];
    let (received, summary) = run_all(&config(1), vec![script(pieces)], Duration::ZERO);
    assert_eq!(received.ends[&(0, "lost".into())], PieceEnd::Partial);
    assert_eq!((summary.reads_out, summary.shed), (1, 0));
    assert_eq!(summary.live.unwrap().partial, 1);
}

#[test]
fn a_read_that_fails_costs_only_itself() {
    for bad in [3, 4] {
        let pieces = vec![
            piece(1, "a", &[2, 0, 0], true, None),
            piece(2, "b", &[2, 0], true, None),
            piece(1, "", &[2, bad, 0], false, None),
            piece(2, "", &[2, 0], false, FULL),
            piece(1, "", &[2, 2, 2], false, FULL),
            piece(1, "c", &[0, 2], true, FULL),
        ];
        let (received, summary) = run_all(&config(1), vec![script(pieces)], Duration::ZERO);
        assert_eq!(starts(&received, 0, "b"), [0, 2]);
        assert_eq!(starts(&received, 0, "c"), [1]);
        assert_eq!((summary.rejected, summary.reads_out), (1, 2));
        assert_eq!(received.rejected.len(), 1);
        assert!(
            received.rejected[0].starts_with("read a: a "),
            "{:?}",
            received.rejected
        );
        assert!(summary.live.unwrap().bases_rejected >= 6);
    }
}

#[test]
fn channels_beyond_the_limit_are_refused_and_counted() {
    let config = LiveConfig {
        channels: 2,
        ..config(1)
    };
    let mut pieces: Vec<Piece> = (1..=3)
        .map(|c| piece(c, &format!("r{c}"), &[2, 0], true, None))
        .collect();
    pieces.extend((1..=3).map(|c| piece(c, "", &[2], false, FULL)));
    // A channel is free again after its read.
    pieces.push(piece(3, "r4", &[2], true, FULL));
    let (received, summary) = run_all(&config, vec![script(pieces)], Duration::ZERO);
    assert_eq!(
        (summary.reads_in, summary.reads_out, summary.rejected),
        (4, 3, 1)
    );
    assert_eq!(summary.live.unwrap().bases_rejected, 3);
    assert_eq!(starts(&received, 0, "r4"), [0]);
}

/// A read a channel, of many pieces, all at once.
fn flood(channels: u16, pieces: usize) -> Vec<Piece> {
    let mut all = vec![];
    for at in 0..pieces {
        for channel in 0..channels {
            let end = (at + 1 == pieces).then_some(PieceEnd::Complete);
            all.push(piece(
                channel,
                &format!("r{channel}"),
                &[2, 0, 0, 0],
                at == 0,
                end,
            ));
        }
    }
    all
}

#[test]
fn under_overload_everything_is_still_counted() {
    for overload in OverloadPolicy::ALL {
        let config = LiveConfig {
            threads: 2,
            deadline: Some(Duration::from_millis(20)),
            overload,
            ..LiveConfig::default()
        };
        let source = Script {
            pieces: flood(4, 40).into(),
            slots: 64,
            stays: false,
        };
        let (received, summary) =
            run_all(&config, vec![Box::new(source)], Duration::from_millis(4));
        assert_eq!(received.ends.len(), 4);
        assert_eq!(summary.reads_in, 4);
        let live = summary.live.unwrap();
        let calls: Vec<&Call> = received.calls.values().flatten().collect();
        let fast = calls
            .iter()
            .filter(|c| c.flags.contains(Flags::FAST_TIER))
            .count();
        match overload {
            OverloadPolicy::Block => {
                assert_eq!((calls.len(), live.bases_shed), (160, 0));
                assert!(live.late > 0);
            }
            OverloadPolicy::ShedNewest | OverloadPolicy::ShedOldest => {
                assert!(live.bases_shed > 0, "{overload:?}");
                // Each is whole, or was shed.
                for ((_, name), end) in &received.ends {
                    assert_eq!(*end == PieceEnd::Partial, received.shed.contains(name));
                    let whole = starts(&received, 0, name).len() == 40;
                    assert_eq!(*end == PieceEnd::Complete, whole);
                }
                assert_eq!(live.partial + summary.shed, received.shed.len() as u64);
            }
            OverloadPolicy::FastTier => {
                assert_eq!((calls.len(), live.bases_shed), (160, 0));
                assert!(fast > 0 && fast < 160 && live.tier_changes > 0, "{fast}");
            }
        }
    }
}

/// So many channels that each give a piece of four bases every so often, in reads of 25 pieces.
struct Steady {
    channels: u16,
    every: Duration,
    start: Instant,
    given: u32,
    pieces: u32,
}

impl LiveSource for Steady {
    fn name(&self) -> String {
        "steady".into()
    }

    fn next(&mut self, into: &mut Piece) -> Result<LiveStep, SourceError> {
        if self.given == self.pieces {
            return Ok(LiveStep::End);
        }
        let due = self.start + self.every * self.given / u32::from(self.channels);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let channel = (self.given % u32::from(self.channels)) as u16;
        // They are in the midst of their first reads when it begins.
        let at = self.given / u32::from(self.channels) + u32::from(channel);
        let (read, at) = (at / 25, at % 25);
        let first = at == 0 || self.given < self.channels.into();
        let end = (at == 24).then_some(PieceEnd::Complete);
        *into = piece(
            channel,
            &format!("{channel}/{read}"),
            &[2, 0, 0, 0],
            first,
            end,
        );
        into.received = due;
        self.given += 1;
        Ok(LiveStep::Piece)
    }
}

#[test]
fn under_overload_what_is_scored_is_whole() {
    for overload in [OverloadPolicy::ShedNewest, OverloadPolicy::ShedOldest] {
        let config = LiveConfig {
            deadline: Some(Duration::from_millis(250)),
            overload,
            ..config(1)
        };
        // Four milliseconds of work every millisecond, for three seconds.
        let source = Steady {
            channels: 40,
            every: Duration::from_millis(40),
            start: Instant::now(),
            given: 0,
            pieces: 3000,
        };
        let (received, summary) =
            run_all(&config, vec![Box::new(source)], Duration::from_millis(4));
        let live = summary.live.unwrap();
        let ends = received.ends.values();
        let partial = ends.filter(|end| **end == PieceEnd::Partial).count() as u64;
        assert_eq!(partial, live.partial + summary.shed);
        let (whole, partial) = (summary.bases_out - live.bases_partial, live.bases_partial);
        println!("{overload:?}: {whole} bases in whole reads, {partial} in partial ones");
        // A lane could do 750 pieces, the rest of the machine permitting. Some are open at the end.
        assert!(
            whole > 4 * 200 && whole > partial,
            "{overload:?}: {whole}, {partial}"
        );
    }
}

#[test]
fn a_stop_ends_the_run_though_sources_stay_silent_or_stuck() {
    let stays = Script {
        pieces: vec![piece(1, "a", &[2, 0, 2], true, None)].into(),
        slots: 8,
        stays: true,
    };
    let metrics = Arc::new(Metrics::new());
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let mut received = Received::default();
    let ended = std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            flag.store(true, SeqCst);
        });
        let mock = Mock {
            pause: Duration::ZERO,
        };
        let sources: Vec<Box<dyn LiveSource>> = vec![Box::new(stays), Box::new(Stuck)];
        run(&config(2), sources, &mock, &metrics, &stop, &mut received).unwrap()
    });
    assert!(ended.stopped);
    assert_eq!(starts(&received, 0, "a"), [0, 2]);
    assert_eq!(received.ends[&(0, "a".to_string())], PieceEnd::Partial);
    assert!(metrics.summary().adds_up());
}

#[test]
fn what_cannot_be_scored_in_time_after_a_stop_is_counted() {
    let slow = Script {
        pieces: flood(4, 500).into(),
        slots: 1000,
        stays: true,
    };
    let metrics = Arc::new(Metrics::new());
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let mut received = Received::default();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            flag.store(true, SeqCst);
        });
        let mock = Mock {
            pause: Duration::from_millis(10),
        };
        let sources: Vec<Box<dyn LiveSource>> = vec![Box::new(slow)];
        run(&config(1), sources, &mock, &metrics, &stop, &mut received).unwrap()
    });
    let summary = metrics.summary();
    assert!(summary.adds_up(), "{summary:?}");
    assert_eq!(received.ends.len(), 4);
    assert!(summary.live.unwrap().bases_shed > 0);
}

#[test]
fn an_output_that_fails_ends_the_run() {
    struct Full;
    impl LiveOutput for Full {
        fn piece(&mut self, _: &FinishedPiece<'_>) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    let metrics = Arc::new(Metrics::new());
    let stop = Arc::new(AtomicBool::new(false));
    let mock = Mock {
        pause: Duration::ZERO,
    };
    let sources = vec![script(flood(4, 100))];
    let result = run(&config(2), sources, &mock, &metrics, &stop, &mut Full);
    assert!(matches!(result, Err(LiveError::Output(_))));
}

#[test]
fn records_of_a_file_are_reads_of_one_channel() {
    let text = b"@a\nACGG\n+\nIIII\n@b\nAC\n+\nIII\n@c\nGAAA\n+\nIIII\n";
    let input = crate::reads::source::Input::Reader("x.fq".into(), Box::new(io::Cursor::new(text)));
    let records = Records::new(input, crate::reads::fastx::Limits::default());
    // T fails in the mock.
    let (received, summary) = run_all(&config(2), vec![Box::new(records)], Duration::ZERO);
    assert_eq!(starts(&received, 0, "a"), [2, 3]);
    assert_eq!(starts(&received, 0, "c"), [0]);
    assert_eq!(
        (summary.reads_in, summary.reads_out, summary.rejected),
        (3, 2, 1)
    );
    assert!(
        received.rejected[0].contains("x.fq: record 2 (b)"),
        "{:?}",
        received.rejected
    );
}
