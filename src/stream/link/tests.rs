use super::board::WINDOW;
use super::*;
use crate::call::{Call, CallKind, Flags, Strand};
use crate::metrics::SourceCounters;
use crate::stream::live::{LiveSource, LiveStep, Piece, PieceEnd};
use firmware_bridge::{
    Bases, Decoder, Device, DeviceEvent, EndReason, Host, HostEvent, MAX_BASES_BYTES, MAX_FRAME,
    Message, SendError,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

type Bytes = Arc<Mutex<VecDeque<u8>>>;

/// One end of a wire in memory.
struct Wire {
    from: Bytes,
    to: Bytes,
}

impl Read for Wire {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self.from.lock().unwrap().read(out)? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            n => Ok(n),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Wired(Option<Wire>);

impl Connect for Wired {
    fn connect(&mut self) -> io::Result<Option<Box<dyn Stream>>> {
        Ok(self.0.take().map(|wire| Box::new(wire) as Box<dyn Stream>))
    }
}

/// What befalls frames, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    flip: u32,
    drop: u32,
    twice: u32,
    late: u32,
    /// Bytes cut out of the middle.
    cut: u32,
    device_resets: u32,
    host_restarts: u32,
}

/// A wire that does to frames what its faults say.
struct Faulty {
    faults: Faults,
    random: ChaCha8Rng,
    to: Bytes,
    late: Option<Vec<u8>>,
}

impl Faulty {
    fn happens(&mut self, thousandths: u32) -> bool {
        self.random.random_range(0..1000) < thousandths
    }

    fn send(&mut self, frame: &[u8]) {
        let mut bytes = frame.to_vec();
        if self.happens(self.faults.drop) {
            return;
        }
        if self.happens(self.faults.flip) {
            for _ in 0..self.random.random_range(1..=3) {
                let at = self.random.random_range(0..bytes.len());
                bytes[at] ^= 1 << self.random.random_range(0..8);
            }
        }
        if self.happens(self.faults.cut) {
            let from = self.random.random_range(0..bytes.len());
            let to = self.random.random_range(from..=bytes.len());
            bytes.drain(from..to);
        }
        if self.happens(self.faults.twice) {
            self.to.lock().unwrap().extend(&bytes);
        }
        if self.late.is_none() && self.happens(self.faults.late) {
            self.late = Some(bytes);
            return;
        }
        let mut to = self.to.lock().unwrap();
        to.extend(&bytes);
        to.extend(self.late.take().unwrap_or_default());
    }
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Received {
    bases: HashMap<u64, u8>,
    end: Option<PieceEnd>,
    next: u64,
}

#[derive(Debug, Default, PartialEq)]
struct Outcome {
    sent_reads: u64,
    sent_bases: u64,
    whole: u64,
    marked: u64,
    unseen: u64,
    recovered: u64,
    missing: u64,
}

const CHANNELS: u16 = 8;

/// Sends `reads` reads over a faulty wire, and holds what arrives against what was sent. The
/// numbers of a channel's reads go up by `step`.
fn run_numbered(
    faults: Faults,
    seed: u64,
    reads: u32,
    step: u32,
) -> (Outcome, Vec<(&'static str, u64)>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (up, down): (Bytes, Bytes) = Default::default();
    let clock = Arc::new(AtomicU32::new(0));
    let link = |nonce| {
        let wire = Wire {
            from: up.clone(),
            to: down.clone(),
        };
        let mut link = Link::new("test".into(), Box::new(Wired(Some(wire))), false, nonce);
        let clock = clock.clone();
        link.clock = Box::new(move || clock.load(Relaxed));
        link
    };
    let (mut nonce, mut host) = (1, link(1));
    let mut device = Device::new(1, 0);
    let mut decoder = Decoder::<64>::new();
    let mut wire = Faulty {
        faults,
        random: ChaCha8Rng::seed_from_u64(seed + 1),
        to: up.clone(),
        late: None,
    };
    // Read -> bases; what each channel is at, and the number there.
    let mut sent: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut at: Vec<Option<(u32, usize)>> = vec![None; CHANNELS.into()];
    let mut numbers = [0; CHANNELS as usize];
    let mut announce = [false; CHANNELS as usize];
    let mut next_read = 0;
    let mut received: HashMap<u32, Received> = HashMap::new();
    let mut open: HashMap<u16, u32> = HashMap::new();
    let mut piece = Piece::with_capacity(64);
    let mut quiet = 0;
    while quiet < 200 {
        let now = clock.fetch_add(20, Relaxed) + 20;
        // The device receives, and says what is due.
        let bytes: Vec<u8> = down.lock().unwrap().drain(..).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if let Some(Ok(frame)) = decoder.next(&mut rest)
                && device.receive(&frame) == DeviceEvent::HostStarted
            {
                announce = [true; CHANNELS as usize];
            }
        }
        let mut out = heapless::Vec::<u8, MAX_FRAME>::new();
        device.send_due(now, &mut out).unwrap();
        if !out.is_empty() {
            wire.send(&out);
        }
        if random.random_range(0..1000) < faults.device_resets {
            // What it was sending is forgotten, as by a board whose power failed.
            device = Device::new(random.random(), 0);
            at.fill(None);
        }
        for channel in 0..CHANNELS {
            let mut send = |message: Message<'_>| {
                let mut out = heapless::Vec::<u8, MAX_FRAME>::new();
                match device.send(message, now, &mut out) {
                    Ok(()) => wire.send(&out),
                    Err(SendError::NoRoom(error)) => panic!("{error}"),
                    Err(_) => return false,
                }
                true
            };
            let slot = &mut at[usize::from(channel)];
            let number = &mut numbers[usize::from(channel)];
            let Some((read, position)) = slot else {
                if next_read < reads {
                    let length = random.random_range(0..4000);
                    let codes = (0..length).map(|_| random.random_range(0..4)).collect();
                    let name = next_read.to_string();
                    let start = Message::ReadStart {
                        channel,
                        read: *number + step,
                        mux: 0,
                        start: 0,
                        from: 0,
                        name: name.as_bytes(),
                    };
                    if send(start) {
                        sent.insert(next_read, codes);
                        *slot = Some((next_read, 0));
                        announce[usize::from(channel)] = false;
                        next_read += 1;
                        *number += step;
                    }
                }
                continue;
            };
            let codes = &sent[read];
            if announce[usize::from(channel)] {
                let name = read.to_string();
                let again = Message::ReadStart {
                    channel,
                    read: *number,
                    mux: 0,
                    start: 0,
                    from: *position as u32,
                    name: name.as_bytes(),
                };
                if send(again) {
                    announce[usize::from(channel)] = false;
                }
                continue;
            }
            if *position == codes.len() {
                let end = Message::ReadEnd {
                    channel,
                    read: *number,
                    length: codes.len() as u32,
                    reason: EndReason::Complete,
                };
                if send(end) {
                    *slot = None;
                }
                continue;
            }
            let most = (*position + random.random_range(1..500)).min(codes.len());
            let mut room = [0; MAX_BASES_BYTES];
            let (bases, packed) = Bases::pack(&codes[*position..most], &mut room);
            let message = Message::Bases {
                channel,
                read: *number as u8 & 0xf,
                position: *position as u16,
                bases,
            };
            if send(message) {
                *position += packed;
            }
        }
        if random.random_range(0..1000) < faults.host_restarts {
            nonce += 1;
            // What the old one had begun is over, and a new one knows nothing of it.
            for (_, read) in open.drain() {
                let known = received.get_mut(&read).unwrap();
                known.end = Some(PieceEnd::Partial);
            }
            host = link(nonce);
        }
        loop {
            piece.clear();
            match host.next(&mut piece).unwrap() {
                LiveStep::Piece => {}
                _ => break,
            }
            if piece.first {
                let read: u32 = std::str::from_utf8(&piece.name).unwrap().parse().unwrap();
                if let Some(before) = open.insert(piece.channel, read) {
                    received.get_mut(&before).unwrap().end = Some(PieceEnd::Partial);
                }
                let known = received.entry(read).or_default();
                (known.next, known.end) = (0, None);
            }
            let read = open[&piece.channel];
            let known = received.get_mut(&read).unwrap();
            known.next += piece.lost;
            for &code in &piece.codes {
                // Never a base that was not sent there, never one twice but to another host.
                assert_eq!(
                    code, sent[&read][known.next as usize],
                    "read {read} at {}",
                    known.next
                );
                known.bases.insert(known.next, code);
                known.next += 1;
            }
            if let Some(end) = piece.end {
                let whole = known.bases.len() == sent[&read].len();
                assert!(
                    end == PieceEnd::Partial || whole,
                    "read {read} is not whole"
                );
                known.end = Some(end);
                open.remove(&piece.channel);
            }
        }
        let busy = next_read < reads || at.iter().any(Option::is_some);
        quiet = if busy { 0 } else { quiet + 1 };
    }
    let mut outcome = Outcome {
        sent_reads: reads.into(),
        ..Outcome::default()
    };
    for (read, codes) in &sent {
        outcome.sent_bases += codes.len() as u64;
        let known = received.get(read);
        let bases = known.map_or(0, |k| k.bases.len()) as u64;
        outcome.recovered += bases;
        outcome.missing += codes.len() as u64 - bases;
        match known.map(|k| k.end) {
            None => outcome.unseen += 1,
            Some(Some(PieceEnd::Complete)) => outcome.whole += 1,
            // An end that was lost shows when the channel's next read begins, or the board is gone.
            Some(_) => outcome.marked += 1,
        }
    }
    let counters = host.counters.counters();
    (outcome, counters)
}

fn run(faults: Faults, seed: u64, reads: u32) -> (Outcome, Vec<(&'static str, u64)>) {
    run_numbered(faults, seed, reads, 1)
}

#[test]
fn a_board_that_misnumbers_its_reads_gets_no_base_into_another_read() {
    let faults = Faults {
        drop: 400,
        ..Faults::default()
    };
    // The last four bits are the same in each read.
    let mut recovered = 0;
    for step in [0, 16, 32] {
        for seed in 0..4 {
            let (outcome, _) = run_numbered(faults, seed, 200, step);
            recovered += outcome.recovered;
        }
    }
    assert!(recovered > 0);
}

#[test]
fn what_a_faulty_link_loses_is_known() {
    let none = Faults::default();
    let cases = [
        ("no faults", none),
        ("bit flips", Faults { flip: 20, ..none }),
        ("frames lost", Faults { drop: 20, ..none }),
        ("frames twice", Faults { twice: 50, ..none }),
        ("frames late", Faults { late: 20, ..none }),
        ("bytes cut out", Faults { cut: 20, ..none }),
        (
            "device resets",
            Faults {
                device_resets: 2,
                ..none
            },
        ),
        (
            "host restarts",
            Faults {
                host_restarts: 2,
                ..none
            },
        ),
        (
            "all at once",
            Faults {
                flip: 20,
                drop: 20,
                twice: 20,
                late: 20,
                cut: 20,
                device_resets: 1,
                host_restarts: 1,
            },
        ),
    ];
    println!("| faults | reads | whole | marked | unseen | bases | recovered |");
    for (name, faults) in cases {
        let (outcome, counters) = run(faults, 7, 400);
        let Outcome {
            sent_reads,
            sent_bases,
            whole,
            marked,
            unseen,
            recovered,
            missing,
        } = outcome;
        let share = 100.0 * recovered as f64 / sent_bases as f64;
        println!(
            "| {name} | {sent_reads} | {whole} | {marked} | {unseen} \
             | {sent_bases} | {share:.1} % |"
        );
        assert_eq!(whole + marked + unseen, sent_reads);
        assert_eq!(recovered + missing, sent_bases);
        let counter = |name| counters.iter().find(|(n, _)| *n == name).unwrap().1;
        match name {
            "no faults" | "frames twice" => assert_eq!((whole, missing), (sent_reads, 0)),
            "host restarts" | "device resets" => assert!(marked + unseen > 0),
            // The last host counted only what it received itself.
            "all at once" => assert!(missing > 0 && whole > 0),
            _ => assert!(missing > 0 && whole > 0 && counter("missing_frames") > 0),
        }
        assert!(share > 75.0, "{name}: {share}");
    }
}

#[test]
fn another_major_version_is_refused_on_both_sides() {
    let (up, down): (Bytes, Bytes) = Default::default();
    let hello = |role| firmware_bridge::Frame {
        sequence: 0,
        message: Message::Hello {
            major: firmware_bridge::MAJOR + 1,
            minor: 0,
            role,
            capabilities: 0,
            nonce: 5,
        },
    };
    let mut out = heapless::Vec::<u8, MAX_FRAME>::new();
    hello(firmware_bridge::Role::Device)
        .encode(&mut out)
        .unwrap();
    up.lock().unwrap().extend(&out);
    let wire = Wire {
        from: up,
        to: down.clone(),
    };
    let mut link = Link::new("test".into(), Box::new(Wired(Some(wire))), false, 1);
    let mut piece = Piece::with_capacity(1);
    // The run goes on: another board may come.
    assert_eq!(link.next(&mut piece).unwrap(), LiveStep::Idle);
    assert_eq!(link.counters.strangers.load(Relaxed), 1);
    let said: Vec<u8> = down.lock().unwrap().drain(..).collect();
    let reported = |bytes: &[u8]| {
        let mut decoder: Decoder = Decoder::new();
        let mut rest = bytes;
        let mut found = false;
        while !rest.is_empty() {
            if let Some(Ok(frame)) = decoder.next(&mut rest) {
                found |= matches!(
                    frame.message,
                    Message::Error {
                        code: firmware_bridge::ERROR_VERSION,
                        ..
                    }
                );
            }
        }
        found
    };
    assert!(reported(&said));
    let mut device = Device::new(1, 0);
    assert_eq!(
        device.receive(&hello(firmware_bridge::Role::Host)),
        DeviceEvent::Refused { major: 2 }
    );
    let mut out = heapless::Vec::<u8, MAX_FRAME>::new();
    device.send_due(0, &mut out).unwrap();
    assert!(reported(&out) && !device.ready());
}

/// What a host has said, all of it.
fn decoded(bytes: &[u8], mut each: impl FnMut(Message<'_>)) {
    let mut decoder: Decoder = Decoder::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        if let Some(Ok(frame)) = decoder.next(&mut rest) {
            each(frame.message);
        }
    }
}

#[test]
fn a_flood_of_calls_costs_no_decision() {
    let (up, down): (Bytes, Bytes) = Default::default();
    let mut out = heapless::Vec::<u8, MAX_FRAME>::new();
    Device::new(1, 0).send_due(0, &mut out).unwrap();
    up.lock().unwrap().extend(&out);
    let wire = Wire {
        from: up,
        to: down.clone(),
    };
    let mut link = Link::new("test".into(), Box::new(Wired(Some(wire))), false, 1);
    let mut piece = Piece::with_capacity(1);
    link.next(&mut piece).unwrap();
    let replies = link.replies().unwrap();
    let call = Call {
        start: 1,
        end: 2,
        strand: Strand::Forward,
        kind: CallKind::Donor,
        score: 0.1,
        flags: Flags::NONE,
        model: 0,
    };
    for read in 0..2000 {
        for _ in 0..20 {
            replies.call(1, read, &call);
        }
        replies.decision(1, read, true);
    }
    down.lock().unwrap().clear();
    link.next(&mut piece).unwrap();
    let said: Vec<u8> = down.lock().unwrap().drain(..).collect();
    let mut decided = vec![];
    decoded(&said, |message| {
        if let Message::Decision { read, .. } = message {
            decided.push(read);
        }
    });
    assert_eq!(decided, (0..2000).collect::<Vec<_>>());
    assert_eq!(link.counters.decisions_dropped.load(Relaxed), 0);
    assert_eq!(link.counters.calls_dropped.load(Relaxed), 40_000 - 4096);
}

#[test]
fn a_newer_minor_version_is_understood() {
    let mut host = Host::new(1, 8);
    let frame = |sequence, message| firmware_bridge::Frame { sequence, message };
    let hello = Message::Hello {
        major: firmware_bridge::MAJOR,
        minor: firmware_bridge::MINOR + 1,
        role: firmware_bridge::Role::Device,
        capabilities: 0xffff,
        nonce: 5,
    };
    assert_eq!(host.receive(&frame(9, hello), 0), HostEvent::DeviceStarted);
    assert!(host.is_older());
    // A kind that only the newer one knows counts in the sequence.
    host.receive_unknown(10, 0);
    assert_eq!(
        host.receive(&frame(11, Message::Finish), 0),
        HostEvent::Message(Message::Finish)
    );
    assert_eq!(host.missing(), 0);
    assert_eq!(host.receive(&frame(11, Message::Finish), 0), HostEvent::Old);
    host.receive(&frame(15, Message::KeepAlive), 0);
    assert_eq!(host.missing(), 3);
}

#[test]
fn a_silent_board_counts_as_gone_and_its_reads_end() {
    let mut host = Host::new(1, 8);
    let hello = Message::Hello {
        major: firmware_bridge::MAJOR,
        minor: 0,
        role: firmware_bridge::Role::Device,
        capabilities: 0,
        nonce: 5,
    };
    let frame = firmware_bridge::Frame {
        sequence: 0,
        message: hello,
    };
    host.receive(&frame, 100);
    assert!(!host.gone(100 + firmware_bridge::GONE - 1));
    assert!(host.gone(100 + firmware_bridge::GONE));
    assert!(!host.has_device());
    assert_eq!(host.receive(&frame, 9000), HostEvent::DeviceStarted);
}

/// A host that said something and is gone.
struct Gone(std::io::Cursor<Vec<u8>>);

impl Read for Gone {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn last_words_are_read_though_nothing_can_be_sent() {
    let mut host = Host::new(7, WINDOW);
    let mut said = vec![];
    let mut out = heapless::Vec::<u8, 4096>::new();
    host.send_due(0, &mut out).unwrap();
    said.extend_from_slice(&out);
    for position in 0..300 {
        out.clear();
        let call = Message::Call {
            channel: 1,
            read: 1,
            position,
            kind: 0,
            reverse: false,
            score: 0.5,
        };
        host.send(call, 0, &mut out).unwrap();
        said.extend_from_slice(&out);
    }
    let mut sender = Sender::new(Box::new(Gone(std::io::Cursor::new(said))), 1);
    while sender.poll().is_ok() {}
    assert_eq!(sender.calls, 300);
}

/// A link over a wire in memory whose clock is the test's, and a device that has met it.
struct Bench {
    link: Link,
    device: Device,
    up: Bytes,
    down: Bytes,
    clock: Arc<AtomicU32>,
}

impl Bench {
    fn new() -> Bench {
        let (up, down): (Bytes, Bytes) = Default::default();
        let wire = Wire {
            from: up.clone(),
            to: down.clone(),
        };
        let mut link = Link::new("test".into(), Box::new(Wired(Some(wire))), false, 1);
        let clock = Arc::new(AtomicU32::new(0));
        let own = clock.clone();
        link.clock = Box::new(move || own.load(Relaxed));
        let mut bench = Bench {
            link,
            device: Device::new(1, 0),
            up,
            down,
            clock,
        };
        for _ in 0..4 {
            bench.talk();
        }
        assert!(bench.device.ready());
        bench
    }

    /// Time passes, and the device says what is due.
    fn talk(&mut self) {
        self.clock.fetch_add(20, Relaxed);
        let mut out = heapless::Vec::<u8, MAX_FRAME>::new();
        let now = self.clock.load(Relaxed);
        self.device.send_due(now, &mut out).unwrap();
        self.up.lock().unwrap().extend(&out);
        assert_eq!(self.next().0, LiveStep::Idle);
        let said: Vec<u8> = self.down.lock().unwrap().drain(..).collect();
        let mut decoder: Decoder = Decoder::new();
        let mut rest = &said[..];
        while !rest.is_empty() {
            if let Some(Ok(frame)) = decoder.next(&mut rest) {
                self.device.receive(&frame);
            }
        }
    }

    fn send(&mut self, message: Message<'_>) {
        let mut out = heapless::Vec::<u8, MAX_FRAME>::new();
        let now = self.clock.load(Relaxed);
        self.device.send(message, now, &mut out).unwrap();
        self.up.lock().unwrap().extend(&out);
    }

    fn start(&mut self) {
        self.send(Message::ReadStart {
            channel: 1,
            read: 1,
            mux: 0,
            start: 0,
            from: 0,
            name: b"r",
        });
    }

    fn bases(&mut self, position: u16) {
        let mut room = [0; MAX_BASES_BYTES];
        let (bases, _) = Bases::pack(&[2; 100], &mut room);
        self.send(Message::Bases {
            channel: 1,
            read: 1,
            position,
            bases,
        });
    }

    fn next(&mut self) -> (LiveStep, Piece) {
        let mut piece = Piece::with_capacity(100);
        let step = self.link.next(&mut piece).unwrap();
        (step, piece)
    }
}

#[test]
fn a_host_that_stood_still_reads_what_waits_and_blames_nobody() {
    let mut bench = Bench::new();
    bench.start();
    bench.bases(0);
    assert!(bench.next().1.first);
    assert_eq!(bench.next().1.codes.len(), 100);
    // It stands still, and the board goes on as far as its credit reaches.
    bench.bases(100);
    bench.clock.fetch_add(10_000, Relaxed);
    let (step, piece) = bench.next();
    assert_eq!(
        (step, piece.codes.len(), piece.end),
        (LiveStep::Piece, 100, None)
    );
    // Both stood still: nothing waits, and nobody was silent.
    bench.clock.fetch_add(10_000, Relaxed);
    assert_eq!(bench.next().0, LiveStep::Idle);
    bench.bases(200);
    let (step, piece) = bench.next();
    assert_eq!(
        (step, piece.codes.len(), piece.end),
        (LiveStep::Piece, 100, None)
    );
    // A board that is silent while the host looks is gone all the same.
    let looks = (0..200).position(|_| {
        bench.clock.fetch_add(20, Relaxed);
        bench.next().1.end == Some(PieceEnd::Partial)
    });
    assert!((140..=160).contains(&looks.unwrap()), "{looks:?}");
}

/// A stream that gives what a test puts in, and keeps what was sent.
fn piped() -> (Sender, Bytes, Bytes) {
    let (up, down): (Bytes, Bytes) = Default::default();
    let wire = Wire {
        from: down.clone(),
        to: up.clone(),
    };
    (Sender::new(Box::new(wire), 9), up, down)
}

#[test]
fn a_sender_announces_its_open_reads_to_a_new_host() {
    let (mut sender, up, down) = piped();
    let never = std::sync::atomic::AtomicBool::new(false);
    let greet = |nonce, sequence: u16| {
        let hello = Message::Hello {
            major: firmware_bridge::MAJOR,
            minor: 0,
            role: firmware_bridge::Role::Host,
            capabilities: firmware_bridge::CONFIRMS,
            nonce,
        };
        let credit = Message::Credit { up_to: 100 };
        for (i, message) in [hello, credit].into_iter().enumerate() {
            let sequence = sequence + i as u16;
            let mut out = heapless::Vec::<u8, MAX_FRAME>::new();
            firmware_bridge::Frame { sequence, message }
                .encode(&mut out)
                .unwrap();
            down.lock().unwrap().extend(&out);
        }
    };
    greet(1, 0);
    sender.read_start(4, 1, b"one", &never).unwrap();
    sender.bases(4, 1, 0, &[0; 50], &never).unwrap();
    assert_eq!(sender.undelivered(), None);
    // The old host is gone, and a new one has come.
    greet(2, 2);
    sender.poll().unwrap();
    sender.bases(4, 1, 50, &[0; 50], &never).unwrap();
    sender
        .read_end(4, 1, 100, EndReason::Complete, &never)
        .unwrap();
    let said: Vec<u8> = up.lock().unwrap().drain(..).collect();
    let mut froms = vec![];
    decoded(&said, |message| match message {
        Message::ReadStart { from, name, .. } => {
            assert_eq!(name, b"one");
            froms.push((from, 0));
        }
        Message::Bases { position, .. } => froms.push((0, position)),
        _ => {}
    });
    assert_eq!(froms, [(0, 0), (0, 0), (50, 0), (0, 50)]);
    sender.finish(&never).unwrap();
    let said = sender.undelivered().unwrap();
    assert!(
        said.contains("2 hosts answered; 1 reads were announced again"),
        "{said}"
    );
    assert!(said.contains("did not say"), "{said}");
}

#[test]
fn a_host_answers_the_finish_with_what_it_lacks() {
    let mut bench = Bench::new();
    bench.start();
    assert!(bench.next().1.first);
    bench.bases(0);
    // Lost on the way.
    bench.up.lock().unwrap().clear();
    bench.send(Message::Finish);
    assert_eq!(bench.next().0, LiveStep::Idle);
    let said: Vec<u8> = bench.down.lock().unwrap().drain(..).collect();
    let mut lacks = None;
    decoded(&said, |message| {
        if let Message::Statistics {
            frames, missing, ..
        } = message
        {
            lacks = Some((frames, missing));
        }
    });
    // A hello or two, a start, the finish.
    let (frames, missing) = lacks.unwrap();
    assert!((3..=4).contains(&frames), "{frames}");
    assert_eq!(missing, 1);
}

/// Links at a door, and how to knock.
struct Doors {
    places: Vec<Link>,
    at: std::net::SocketAddr,
}

impl Doors {
    fn new(options: &str) -> Doors {
        // The system chooses a port; another run may take it in between, which it rarely does.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = free.local_addr().unwrap();
        drop(free);
        let places = open_all(&format!("tcp://{at}{options}")).unwrap();
        Doors { places, at }
    }

    fn knock(&self) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(self.at).unwrap();
        let patience = std::time::Duration::from_millis(50);
        stream.set_read_timeout(Some(patience)).unwrap();
        stream
    }

    fn sender(&self) -> Sender {
        Sender::new(Box::new(self.knock()), 1)
    }

    /// Asks each place a few times; pieces by place.
    fn look(&mut self, times: usize) -> Vec<(usize, Piece)> {
        let mut found = vec![];
        for _ in 0..times {
            for (number, place) in self.places.iter_mut().enumerate() {
                let mut piece = Piece::with_capacity(100);
                if place.next(&mut piece).unwrap() == LiveStep::Piece {
                    found.push((number, piece));
                }
            }
        }
        found
    }

    fn count(&self, of: impl Fn(&LinkCounters) -> &std::sync::atomic::AtomicU64) -> u64 {
        let own = self.places.iter().map(|p| of(&p.counters).load(Relaxed));
        own.sum()
    }

    /// Lets a sender and the places talk until a read of it has begun.
    fn begins(&mut self, sender: Sender, name: &str) -> Sender {
        let name = name.to_owned();
        let own = name.clone();
        let begins = std::thread::spawn(move || {
            let (mut sender, never) = (sender, std::sync::atomic::AtomicBool::new(false));
            sender.read_start(1, 1, own.as_bytes(), &never).unwrap();
            sender
        });
        for _ in 0..500 {
            let found = self.look(1);
            if found.iter().any(|(_, piece)| piece.name == name.as_bytes()) {
                return begins.join().unwrap();
            }
        }
        panic!("{name} did not get in");
    }
}

#[test]
fn strangers_at_the_door_keep_no_board_out() {
    let mut doors = Doors::new("?once");
    // A scan, one that says nothing, one that talks rubbish without end, and another version.
    drop(doors.knock());
    let silent = doors.knock();
    let mut loud = doors.knock();
    let wrong = doors.knock();
    let hello = Message::Hello {
        major: firmware_bridge::MAJOR + 1,
        minor: 0,
        role: firmware_bridge::Role::Device,
        capabilities: 0,
        nonce: 5,
    };
    let mut out = heapless::Vec::<u8, MAX_FRAME>::new();
    let frame = firmware_bridge::Frame {
        sequence: 0,
        message: hello,
    };
    frame.encode(&mut out).unwrap();
    (&wrong).write_all(&out).unwrap();
    loud.write_all(&[7; 5000]).unwrap();
    let sender = doors.sender();
    let _sender = doors.begins(sender, "behind them");
    let mut answer = vec![];
    let _ = (&wrong).read_to_end(&mut answer);
    let mut refused = false;
    decoded(&answer, |message| {
        refused |= matches!(message, Message::Error { code: 1, .. })
    });
    assert!(refused);
    // Nobody is dropped who has not had three seconds; the scan and the version are.
    assert_eq!(doors.count(|c| &c.strangers), 2);
    drop((silent, loud));
}

#[test]
fn who_says_no_hello_within_three_seconds_is_dropped() {
    let mut doors = Doors::new("");
    let mut silent = doors.knock();
    let begun = std::time::Instant::now();
    let mut bytes = [0; 64];
    let closed = loop {
        doors.look(1);
        match silent.read(&mut bytes) {
            Ok(0) => break begun.elapsed().as_secs_f64(),
            _ => assert!(begun.elapsed().as_secs() < 20),
        }
    };
    assert!((2.9..4.5).contains(&closed), "{closed}");
    assert_eq!(doors.count(|c| &c.strangers), 1);
}

#[test]
fn a_board_that_falls_silent_makes_room_for_the_next() {
    let mut doors = Doors::new("");
    let sender = doors.sender();
    let silent = doors.begins(sender, "first");
    let waiting = doors.sender();
    let begun = std::time::Instant::now();
    let next = doors.begins(waiting, "second");
    assert!(begun.elapsed().as_secs_f64() > 2.5, "{:?}", begun.elapsed());
    assert_eq!(doors.count(|c| &c.board_starts), 2);
    drop((silent, next));
}

#[test]
fn two_boards_have_a_place_each() {
    let mut doors = Doors::new("?boards=2");
    let first = doors.sender();
    let first = doors.begins(first, "of the first");
    let second = doors.sender();
    let second = doors.begins(second, "of the second");
    let boards: Vec<u64> = doors
        .places
        .iter()
        .map(|p| p.counters.board_starts.load(Relaxed))
        .collect();
    assert_eq!(boards, [1, 1]);
    assert_ne!(doors.places[0].name(), doors.places[1].name());
    drop((first, second));
}

#[test]
fn addresses_that_are_not_allowed_are_refused_and_counted() {
    let mut doors = Doors::new("?from=127.0.0.2&from=10.0.0.0/8");
    let mut refused = doors.knock();
    doors.look(3);
    assert_eq!(refused.read(&mut [0; 64]).unwrap(), 0);
    assert_eq!(doors.count(|c| &c.refused_peers), 1);
    let mut doors = Doors::new("?from=127.0.0.0/8");
    let sender = doors.sender();
    doors.begins(sender, "allowed");
}

#[cfg(unix)]
#[test]
fn a_socket_file_is_its_owner_s_and_nothing_else_is_replaced() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let url = format!("unix://{}", path.display());
    let link = open(&url).unwrap();
    let found = std::fs::metadata(&path).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert!(open(&url).is_err(), "somebody listens there");
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), found.ino());
    drop(link);
    assert!(!path.exists());
    std::fs::write(&path, "a file of somebody's").unwrap();
    let error = open(&url).err().unwrap().to_string();
    assert!(error.contains("is no socket"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"a file of somebody's");
    // What a killed run left behind is replaced.
    std::fs::remove_file(&path).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    drop(open(&url).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A board that has said all that it had to say, and is gone.
struct Went(Option<Gone>);

impl Connect for Went {
    fn connect(&mut self) -> io::Result<Option<Box<dyn Stream>>> {
        Ok(self.0.take().map(|gone| Box::new(gone) as Box<dyn Stream>))
    }
}

#[test]
fn what_a_board_said_is_read_though_it_is_gone() {
    let mut bench = Bench::new();
    let mut said = heapless::Vec::<u8, MAX_FRAME>::new();
    Device::new(1, 0).send_due(0, &mut said).unwrap();
    let mut said = said.to_vec();
    bench.start();
    // More than one read holds.
    for position in 0..200 {
        let sent = bench.device.ready();
        if sent {
            bench.bases(position * 100);
        }
    }
    said.extend(bench.up.lock().unwrap().drain(..));
    let frames = said.iter().filter(|byte| **byte == 0).count() - 2;
    assert!(frames > 100 && said.len() > 4096);
    let gone = Went(Some(Gone(std::io::Cursor::new(said))));
    let mut link = Link::new("test".into(), Box::new(gone), true, 1);
    let mut pieces = 0;
    loop {
        let mut piece = Piece::with_capacity(100);
        match link.next(&mut piece).unwrap() {
            LiveStep::Piece => pieces += usize::from(!piece.codes.is_empty()),
            LiveStep::End => break,
            _ => {}
        }
    }
    assert_eq!(pieces, frames);
}

#[test]
fn what_a_board_says_behind_its_hello_is_not_lost() {
    let mut doors = Doors::new("");
    let mut board = doors.knock();
    let mut said = vec![];
    let hello = Message::Hello {
        major: firmware_bridge::MAJOR,
        minor: 0,
        role: firmware_bridge::Role::Device,
        capabilities: 0,
        nonce: 5,
    };
    for (sequence, message) in [hello, hello, Message::KeepAlive].into_iter().enumerate() {
        let sequence = sequence as u16;
        let mut out = heapless::Vec::<u8, MAX_FRAME>::new();
        firmware_bridge::Frame { sequence, message }
            .encode(&mut out)
            .unwrap();
        said.extend_from_slice(&out);
    }
    let mut late = heapless::Vec::<u8, MAX_FRAME>::new();
    let finish = firmware_bridge::Frame {
        sequence: 3,
        message: Message::Finish,
    };
    finish.encode(&mut late).unwrap();
    board.write_all(&said).unwrap();
    doors.look(5);
    board.write_all(&late).unwrap();
    doors.look(5);
    assert_eq!(doors.count(|c| &c.frames), 4);
    assert_eq!(doors.count(|c| &c.missing_frames), 0);
}
