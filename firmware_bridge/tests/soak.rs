//! Random frames, each damaged in some way: none may pass for another. A million here;
//! `STRANDLINE_SOAK=100000000` for more.

use firmware_bridge::{Bases, Decoder, EndReason, Frame, MAX_BASES_BYTES, MAX_FRAME, Message};
use heapless::Vec as Fixed;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

#[test]
fn no_damaged_frame_passes_for_another() {
    let count = std::env::var("STRANDLINE_SOAK").ok();
    let count: u64 = count.map_or(1_000_000, |n| n.parse().expect("a number"));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut damaged, mut undetected, mut unharmed) = (0u64, 0u64, 0u64);
    let mut decoder: Decoder = Decoder::new();
    for round in 0..count {
        let codes: Vec<u8> = (0..random.below(120))
            .map(|_| random.below(33).min(4) as u8 % 5)
            .collect();
        let mut room = [0; MAX_BASES_BYTES];
        let message = match random.below(4) {
            0 => Message::ReadEnd {
                channel: random.below(4096) as u16,
                read: random.next() as u32,
                length: random.next() as u32,
                reason: EndReason::Complete,
            },
            1 => Message::ReadStart {
                channel: random.below(4096) as u16,
                read: random.next() as u32,
                mux: 1,
                start: random.next(),
                from: 0,
                name: b"2f1c8f1e-77d0-4b0b-a9a5-5c1f0d3c9b11",
            },
            _ => Message::Bases {
                channel: random.below(4096) as u16,
                read: random.below(16) as u8,
                position: random.next() as u16,
                bases: Bases::pack(&codes, &mut room).0,
            },
        };
        let frame = Frame {
            sequence: round as u16,
            message,
        };
        let mut good = Fixed::<u8, MAX_FRAME>::new();
        frame.encode(&mut good).expect("room");
        let mut wire = good.to_vec();
        // Within the frame: its closing zero is the next one's business.
        let inside = wire.len() - 1;
        match random.below(5) {
            0 => wire[random.below(inside)] ^= 1 << random.below(8),
            1 => {
                for _ in 0..2 + random.below(6) {
                    let at = random.below(inside);
                    wire[at] = random.next() as u8;
                }
            }
            2 => {
                let from = random.below(inside);
                let to = from + random.below(inside - from) + 1;
                wire.drain(from..to);
            }
            3 => {
                let from = random.below(inside);
                let more: Vec<u8> = wire[from..inside].to_vec();
                wire.splice(from..from, more);
            }
            _ => {
                let (a, b) = (random.below(inside), random.below(inside));
                wire.swap(a, b);
            }
        }
        if wire[..] == good[..] {
            unharmed += 1;
            continue;
        }
        damaged += 1;
        let mut rest = &wire[..];
        while !rest.is_empty() {
            if let Some(Ok(frame)) = decoder.next(&mut rest) {
                let mut again = Fixed::<u8, MAX_FRAME>::new();
                frame.encode(&mut again).expect("room");
                // Damage may leave the frame whole beside rubbish.
                undetected += u64::from(again != good);
            }
        }
    }
    println!(
        "{damaged} damaged frames, {undetected} passed for others, {unharmed} came out unharmed"
    );
    assert_eq!(undetected, 0);
}
