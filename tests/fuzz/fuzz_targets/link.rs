//! The host's side of the link: any frames, in any order, damaged or not. Nothing panics, and what
//! comes out keeps the order of reads.
#![no_main]

use firmware_bridge::{Bases, EndReason, Frame, MAX_FRAME, Message, Role};
use heapless::Vec as Fixed;
use libfuzzer_sys::fuzz_target;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use strandline::stream::link::{Connect, Link, Stream};
use strandline::stream::live::{LiveSource, LiveStep, Piece};

struct Wire(VecDeque<u8>);

impl Read for Wire {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Once(Option<Wire>);

impl Connect for Once {
    fn connect(&mut self) -> io::Result<Option<Box<dyn Stream>>> {
        Ok(self.0.take().map(|wire| Box::new(wire) as Box<dyn Stream>))
    }
}

fuzz_target!(|data: &[u8]| {
    let mut wire = VecDeque::new();
    let mut sequence = 0u16;
    for step in data.chunks(4) {
        let [what, a, b, c] = [0, 1, 2, 3].map(|i| step.get(i).copied().unwrap_or(0));
        let (channel, read) = (u16::from(a % 4), u32::from(b % 3));
        let mut room = [0; firmware_bridge::MAX_BASES_BYTES];
        let codes = vec![c % 5; usize::from(c)];
        let message = match what % 8 {
            0 => Message::Hello {
                major: 1 + u8::from(a == 255),
                minor: b % 2,
                role: Role::Device,
                capabilities: 0,
                nonce: u32::from(c % 2),
            },
            1 => Message::ReadStart {
                channel,
                read,
                mux: 0,
                start: 0,
                from: u32::from(c),
                name: b"name",
            },
            2..5 => Message::Bases {
                channel,
                read: read as u8,
                position: u16::from(b) * 7,
                bases: Bases::pack(&codes, &mut room).0,
            },
            5 => Message::ReadEnd {
                channel,
                read,
                length: u32::from(c) * 3,
                reason: EndReason::Complete,
            },
            6 => Message::Finish,
            _ => {
                wire.extend(step);
                continue;
            }
        };
        let mut out = Fixed::<u8, MAX_FRAME>::new();
        Frame { sequence, message }.encode(&mut out).unwrap();
        wire.extend(&out);
        sequence = sequence.wrapping_add(1 + u16::from(what / 64));
    }
    let mut link = Link::new("fuzz".into(), Box::new(Once(Some(Wire(wire)))), true, 1);
    let mut piece = Piece::with_capacity(64);
    loop {
        piece.clear();
        match link.next(&mut piece) {
            Ok(LiveStep::End) | Err(_) => break,
            Ok(LiveStep::Piece) => assert!(piece.first == !piece.name.is_empty()),
            Ok(_) => {}
        }
    }
});
