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

/// Sends `reads` reads over a faulty wire, and holds what arrives against what was sent.
fn run(faults: Faults, seed: u64, reads: u32) -> (Outcome, Vec<(&'static str, u64)>) {
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
    // Read number -> bases; what each channel is at.
    let mut sent: HashMap<u32, Vec<u8>> = HashMap::new();
    let mut at: Vec<Option<(u32, usize)>> = vec![None; CHANNELS.into()];
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
            let Some((read, position)) = slot else {
                if next_read < reads {
                    let length = random.random_range(0..4000);
                    let codes = (0..length).map(|_| random.random_range(0..4)).collect();
                    let name = next_read.to_string();
                    let start = Message::ReadStart {
                        channel,
                        read: next_read,
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
                    }
                }
                continue;
            };
            let codes = &sent[read];
            if announce[usize::from(channel)] {
                let name = read.to_string();
                let again = Message::ReadStart {
                    channel,
                    read: *read,
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
                    read: *read,
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
                read: *read as u8 & 0xf,
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
    let error = link.next(&mut piece).unwrap_err();
    assert_eq!(
        error.to_string(),
        "test: the board speaks version 2 of the protocol, this program version 1"
    );
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
fn heard(bytes: &[u8], mut each: impl FnMut(Message<'_>)) {
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
    heard(&said, |message| {
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
