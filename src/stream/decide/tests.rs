use super::judge::Judge;
use super::*;
use crate::annotate::{Annotate, Annotation};
use crate::call::{Call, CallKind, CallSink, Flags, Strand};
use crate::metrics::Metrics;
use crate::stream::live::{
    self, FinishedPiece, LiveConfig, LiveOutput, LiveSource, LiveStep, Piece, PieceEnd, Replies,
    SourceError, SourceInfo,
};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TEXT: &str = "default = \"eject\"\n\
    [[rule]]\nkinds = [\"donor\", \"acceptor\"]\nat_least = 2\nwithin = 1000\n\
    min_score = 0.5\ndecision = \"keep\"\n\
    [[rule]]\nkinds = [\"promoter\"]\nat_least = 1\nwithin = 300\n\
    decision = \"keep\"\n";

fn call(kind: CallKind, start: u64, score: f32) -> Call {
    Call {
        start,
        end: start + 1,
        strand: Strand::Forward,
        kind,
        score,
        flags: Flags::NONE,
        model: 0,
    }
}

fn piece<'a>(channel: u16, calls: &'a [Call], known_to: u64, ends: bool) -> FinishedPiece<'a> {
    FinishedPiece {
        source: 0,
        channel,
        read: 1,
        id: channel.into(),
        name: b"r",
        first: false,
        calls,
        known_to,
        end: ends.then_some(PieceEnd::Complete),
        shed: false,
        out: None,
        received: Instant::now(),
    }
}

fn judge() -> Judge {
    Judge::new(Policy::parse(TEXT, "policy".into()).unwrap())
}

#[test]
fn a_rule_is_met_across_pieces_and_decides_once() {
    let mut judge = judge();
    let first = [
        call(CallKind::Donor, 100, 0.9),
        call(CallKind::Donor, 200, 0.4),
    ];
    assert_eq!(judge.piece(&piece(7, &first, 400, false)), None);
    // Another channel's calls do not count.
    assert_eq!(judge.piece(&piece(8, &first, 400, false)), None);
    let second = [call(CallKind::Acceptor, 999, 0.5)];
    let keep = Decided {
        decision: Decision::Keep,
        rule: Some(1),
        overload: false,
    };
    assert_eq!(judge.piece(&piece(7, &second, 1000, false)), Some(keep));
    assert_eq!(judge.piece(&piece(7, &second, 2000, false)), None);
    assert_eq!(judge.piece(&piece(7, &[], 3000, true)), None);
}

#[test]
fn the_default_waits_for_the_bases_that_rules_look_at() {
    let mut judge = judge();
    let beyond = [
        call(CallKind::Promoter, 300, 0.9),
        call(CallKind::Donor, 1000, 0.9),
    ];
    assert_eq!(judge.piece(&piece(1, &beyond, 999, false)), None);
    let eject = Decided {
        decision: Decision::Eject,
        rule: None,
        overload: false,
    };
    assert_eq!(judge.piece(&piece(1, &[], 1000, false)), Some(eject));
    // A read that ends before them is decided at its end, and the channel's next one anew.
    assert_eq!(judge.piece(&piece(2, &[], 10, true)), Some(eject));
    assert_eq!(judge.piece(&piece(2, &[], 10, true)), Some(eject));
}

#[test]
fn a_read_that_overtakes_the_last_one_of_its_channel_is_another() {
    let mut judge = judge();
    let keep = [call(CallKind::Promoter, 10, 0.9)];
    let of = |id, calls, ends| FinishedPiece {
        id,
        ..piece(7, calls, 100, ends)
    };
    let (mut kept, mut ejected) = (0, 0);
    for piece in [
        of(1, &[], false),
        of(2, &keep, false),
        of(2, &[], true),
        of(1, &[], true),
    ] {
        match judge.piece(&piece).map(|decided| decided.decision) {
            Some(Decision::Keep) => kept += usize::from(piece.id == 2),
            Some(Decision::Eject) => ejected += usize::from(piece.id == 1),
            None => {}
        }
    }
    assert_eq!((kept, ejected), (1, 1));
}

/// Calls a promoter at each G; takes its time for each C.
struct Slow(u64);

impl Annotate for Slow {
    type State = Slow;

    fn read(&self) -> Slow {
        Slow(0)
    }

    fn context(&self) -> usize {
        0
    }

    fn has_fast_tier(&self) -> bool {
        false
    }
}

impl Annotation for Slow {
    type Error = &'static str;

    fn push_codes(&mut self, codes: &[u8], sink: &mut dyn CallSink) -> Result<(), &'static str> {
        for &code in codes {
            match code {
                1 => std::thread::sleep(Duration::from_millis(2)),
                2 => sink.take(call(CallKind::Promoter, self.0, 0.9)),
                _ => {}
            }
            self.0 += 1;
        }
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn CallSink) -> Result<(), &'static str> {
        self.0 = 0;
        Ok(())
    }

    fn abort(&mut self) {
        self.0 = 0;
    }

    fn use_fast_tier(&mut self, _: bool) {}

    fn scored(&self) -> u64 {
        self.0
    }
}

/// Reads of one channel, all with the same number, in three pieces each: every third slow, every
/// other with a G in its second piece.
struct OneChannel {
    piece: usize,
    reads: usize,
}

impl LiveSource for OneChannel {
    fn name(&self) -> String {
        "one".into()
    }

    fn next(&mut self, piece: &mut Piece) -> Result<LiveStep, SourceError> {
        let (read, part) = (self.piece / 3, self.piece % 3);
        if read == self.reads {
            return Ok(LiveStep::End);
        }
        self.piece += 1;
        piece.channel = 7;
        piece.read = 1;
        piece.first = part == 0;
        piece.name.extend_from_slice(read.to_string().as_bytes());
        piece.codes.push(u8::from(read.is_multiple_of(3)));
        if part == 1 && read % 2 == 1 {
            piece.codes.push(2);
        }
        piece.end = (part == 2).then_some(PieceEnd::Complete);
        piece.received = Instant::now();
        Ok(LiveStep::Piece)
    }

    fn slots(&self) -> (usize, usize) {
        (64, 16)
    }
}

#[test]
fn each_read_of_a_channel_is_decided_once_and_rightly_by_any_number_of_workers() {
    const READS: usize = 200;
    for threads in [1, 2, 4] {
        let mut made = vec![0; READS];
        let mut wrong = 0;
        let decisions = |made_now: &ReadDecision<'_>| {
            let name = std::str::from_utf8(made_now.piece.name).unwrap();
            let read: usize = name.parse().unwrap();
            let keep = made_now.decided.decision == Decision::Keep;
            wrong += usize::from(keep != (read % 2 == 1));
            made[read] += 1;
            Ok(())
        };
        let metrics = Arc::new(Metrics::new());
        let mut decider = Decider::new(Pieces(0), policy(), decisions, metrics.clone());
        let config = LiveConfig {
            threads,
            ..LiveConfig::default()
        };
        let source = Box::new(OneChannel {
            piece: 0,
            reads: READS,
        });
        let stop = Arc::default();
        live::run(
            &config,
            vec![source],
            &Slow(0),
            &metrics,
            &stop,
            &mut decider,
        )
        .unwrap();
        drop(decider);
        let once = made.iter().filter(|&&n| n == 1).count();
        assert_eq!((once, wrong), (READS, 0), "{threads} workers");
    }
}

#[test]
fn what_is_no_policy_is_refused_with_its_place() {
    let error = |text: &str| {
        Policy::parse(text, "p.toml".into())
            .unwrap_err()
            .to_string()
    };
    assert!(error("default = \"maybe\"\nrule = []").starts_with("p.toml: "));
    assert!(error(&TEXT.replace("at_least = 1", "at_least = 0")).contains("rule 2"));
    assert!(error(&TEXT.replace("[\"promoter\"]", "[]")).contains("rule 2: no kinds"));
    assert!(error(&TEXT.replace("within = 300", "withn = 300")).contains("withn"));
}

/// Keeps the decisions that go back.
#[derive(Default)]
struct Back(Mutex<Vec<(u16, u32, bool)>>);

impl Replies for Back {
    fn decision(&self, channel: u16, read: u32, eject: bool) {
        self.0.lock().unwrap().push((channel, read, eject));
    }

    fn call(&self, _: u16, _: u32, _: &Call) {}
}

/// An output that counts pieces.
struct Pieces(usize);

impl LiveOutput for Pieces {
    fn piece(&mut self, _: &FinishedPiece<'_>) -> io::Result<()> {
        self.0 += 1;
        Ok(())
    }
}

fn sources(back: &Arc<Back>) -> [SourceInfo; 2] {
    [
        SourceInfo {
            name: "board".into(),
            replies: Some(back.clone()),
        },
        SourceInfo {
            name: "file".into(),
            replies: None,
        },
    ]
}

fn policy() -> Policy {
    Policy::parse(TEXT, "policy".into()).unwrap()
}

#[test]
fn a_decision_goes_back_is_counted_and_is_written() {
    let back = Arc::new(Back::default());
    let metrics = Arc::new(Metrics::new());
    metrics.live(std::iter::empty(), None);
    let mut lines = vec![];
    let writer = DecisionWriter::new(&mut lines).unwrap();
    let mut decider = Decider::new(Pieces(0), policy(), writer, metrics.clone());
    decider.begin(&sources(&back));
    let promoter = [call(CallKind::Promoter, 10, 0.5)];
    decider.piece(&piece(7, &promoter, 400, false)).unwrap();
    decider.piece(&piece(7, &[], 1000, true)).unwrap();
    let mut of_file = piece(3, &[], 5, true);
    of_file.source = 1;
    decider.piece(&of_file).unwrap();
    decider.pause().unwrap();
    let (Pieces(seen), _) = decider.into_inner();
    assert_eq!(seen, 3);
    assert_eq!(*back.0.lock().unwrap(), [(7, 1, false)]);
    let live = metrics.summary().live.unwrap();
    assert_eq!((live.keep, live.eject), (1, 1));
    let lines = String::from_utf8(lines).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("#read\tsource\tchannel\tdecision\trule\t"));
    assert!(lines[1].starts_with("r\tboard\t7\tkeep\t2\t"));
    assert!(lines[2].starts_with("r\tfile\t3\teject\tdefault\t"));
}

#[test]
fn names_of_strangers_are_made_fit_for_a_column() {
    let mut lines = vec![];
    let mut writer = DecisionWriter::new(&mut lines).unwrap();
    let hostile = FinishedPiece {
        name: b"a\tb\nkeep\x1b[31m\xff",
        ..piece(7, &[], 5, true)
    };
    let decided = Decided {
        decision: Decision::Eject,
        rule: None,
        overload: false,
    };
    let made = ReadDecision {
        source: "tcp://x\ty",
        piece: &hostile,
        decided,
    };
    writer.decision(&made).unwrap();
    writer.flush().unwrap();
    drop(writer);
    let lines = String::from_utf8(lines).unwrap();
    let line = lines.lines().nth(1).unwrap();
    let replaced = "a\u{fffd}b\u{fffd}keep\u{fffd}[31m\u{fffd}\ttcp://x\u{fffd}y\t7\teject\t";
    assert!(line.starts_with(replaced), "{line:?}");
    assert_eq!(lines.lines().count(), 2);
}

#[test]
fn decisions_that_cannot_be_written_are_counted_and_the_run_goes_on() {
    let back = Arc::new(Back::default());
    let full = |_: &ReadDecision<'_>| Err(io::ErrorKind::StorageFull.into());
    let mut decider = Decider::new(Pieces(0), policy(), full, Arc::default());
    decider.begin(&sources(&back));
    for channel in [7, 8] {
        assert!(decider.piece(&piece(channel, &[], 1000, false)).is_ok());
    }
    assert_eq!(decider.lost(), 2);
    assert_eq!(*back.0.lock().unwrap(), [(7, 1, true), (8, 1, true)]);
    let error = decider.decision_error().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

/// A file on a disk with so much room.
struct Disk {
    room: Arc<Mutex<usize>>,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut room = self.room.lock().unwrap();
        if *room == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = bytes.len().min(*room);
        *room -= written;
        self.bytes.lock().unwrap().extend(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_costs_lines_and_cuts_none() {
    let (room, bytes) = (Arc::new(Mutex::new(500)), Arc::new(Mutex::new(vec![])));
    let disk = Disk {
        room: room.clone(),
        bytes: bytes.clone(),
    };
    let writer = DecisionWriter::new(disk).unwrap();
    let mut decider = Decider::new(Pieces(0), policy(), writer, Arc::default());
    decider.begin(&sources(&Arc::default()));
    let decide = |decider: &mut Decider<Pieces, DecisionWriter<Disk>>, count: u16| {
        for channel in 0..count {
            decider.piece(&piece(channel, &[], 5, true)).unwrap();
            decider.pause().unwrap();
        }
    };
    decide(&mut decider, 5000);
    let lines = |bytes: &Mutex<Vec<u8>>| {
        let text = String::from_utf8(bytes.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_string).collect::<Vec<_>>()
    };
    let cut = lines(&bytes).len() as u64;
    assert!(decider.lost() > 4980 && decider.lost() < 5000);
    assert!(cut > 3 && decider.decision_error().is_some());
    // With room again, those that waited are written, and every line is whole.
    *room.lock().unwrap() = usize::MAX;
    decide(&mut decider, 1);
    let lost = decider.lost();
    assert!(lost > 3000 && lost < 4900, "{lost}");
    let whole = lines(&bytes);
    assert_eq!(whole.len() as u64 + lost, 5002);
    assert!(whole.iter().all(|line| line.split('\t').count() == 7));
}

#[test]
fn a_read_that_is_shed_gets_the_decision_for_overload() {
    for (word, more, eject) in [
        ("keep", "", false),
        ("eject", "on-overload = \"eject\"\n", true),
    ] {
        let back = Arc::new(Back::default());
        let policy = Policy::parse(&format!("{more}{TEXT}"), "policy".into()).unwrap();
        let mut lines = vec![];
        let writer = DecisionWriter::new(&mut lines).unwrap();
        let mut decider = Decider::new(Pieces(0), policy, writer, Arc::default());
        decider.begin(&sources(&back));
        let shed = |channel, first| FinishedPiece {
            shed: true,
            first,
            ..piece(channel, &[], u64::MAX, true)
        };
        // One that was not begun; one that was given up; one that was decided on before.
        decider.piece(&shed(1, true)).unwrap();
        decider.piece(&piece(2, &[], 400, false)).unwrap();
        decider.piece(&shed(2, false)).unwrap();
        let promoter = [call(CallKind::Promoter, 10, 0.5)];
        decider.piece(&piece(3, &promoter, 400, false)).unwrap();
        decider.piece(&shed(3, false)).unwrap();
        decider.pause().unwrap();
        drop(decider);
        let expected = [(1, 1, eject), (2, 1, eject), (3, 1, false)];
        assert_eq!(*back.0.lock().unwrap(), expected);
        let lines = String::from_utf8(lines).unwrap();
        let made: Vec<&str> = lines.lines().skip(1).collect();
        assert!(made[0].starts_with(&format!("r\tboard\t1\t{word}\toverload\t")));
        assert!(made[1].starts_with(&format!("r\tboard\t2\t{word}\toverload\t")));
        assert!(made[2].starts_with("r\tboard\t3\tkeep\t2\t"));
        assert_eq!(made.len(), 3);
    }
    let text = "on-overload = \"perhaps\"\ndefault = \"keep\"\nrule = []";
    assert!(Policy::parse(text, "policy".into()).is_err());
}
