//! Frames as bytes, there and back, and everything that is none.

use firmware_bridge::{
    Bases, Frame, FrameError, MAX_BASES, MAX_BASES_BYTES, MAX_BODY, MAX_FRAME, Message, NoRoom,
};
use heapless::Vec as Fixed;
use proptest::prelude::*;

fn encoded(frame: &Frame) -> Fixed<u8, MAX_FRAME> {
    let mut out = Fixed::new();
    frame.encode(&mut out).unwrap();
    out
}

/// The bytes of a frame on the wire without their closing zero.
fn stuffed(frame: &Frame) -> Vec<u8> {
    let out = encoded(frame);
    assert_eq!(out.iter().position(|&b| b == 0), Some(out.len() - 1));
    out[..out.len() - 1].to_vec()
}

/// A body, checksum added, stuffed.
fn stuff(body: &[u8]) -> Vec<u8> {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(body);
    let whole = [body, &crc.to_le_bytes()].concat();
    let mut out = vec![0; cobs::max_encoding_length(whole.len())];
    let length = cobs::encode(&whole, &mut out);
    out.truncate(length);
    out
}

fn decode_error(stuffed: &[u8]) -> FrameError {
    Frame::decode(stuffed, &mut [0; MAX_BODY]).unwrap_err()
}

fn read_end(sequence: u16) -> Frame<'static> {
    Frame {
        sequence,
        message: Message::ReadEnd {
            channel: 511,
            length: 1_000_000,
        },
    }
}

#[test]
fn golden_bytes() {
    let start = Frame {
        sequence: 0x0102,
        message: Message::ReadStart {
            channel: 7,
            read: 66_000,
        },
    };
    assert_eq!(
        encoded(&start)[..],
        [
            0x06, 0x01, 0x01, 0x02, 0x01, 0x06, 0x02, 0x07, 0x04, 0xd0, 0x01, 0x01, 0x05, 0x6e,
            0x4a, 0x97, 0xd7, 0x00
        ]
    );
    let mut room = [0; MAX_BASES_BYTES];
    // ACGTN NACG: A C G T | N N A C | G
    let (bases, taken) = Bases::pack(&[0, 1, 2, 3, 4, 4, 0, 1, 2], &mut room);
    assert_eq!(taken, 9);
    let message = Message::Bases {
        channel: 300,
        bases,
    };
    let frame = Frame {
        sequence: 65_535,
        message,
    };
    assert_eq!(
        encoded(&frame)[..],
        [
            0x06, 0x01, 0x02, 0xff, 0xff, 0x0b, 0x04, 0x2c, 0x01, 0x09, 0x05, 0xe4, 0x40, 0x02,
            0x04, 0x02, 0x02, 0x05, 0x4d, 0x4f, 0x3f, 0xfd, 0x00
        ]
    );
    assert_eq!(
        encoded(&read_end(3))[..],
        [
            0x04, 0x01, 0x03, 0x03, 0x02, 0x06, 0x06, 0xff, 0x01, 0x40, 0x42, 0x0f, 0x05, 0xa5,
            0xc1, 0xfc, 0xe2, 0x00
        ]
    );
}

#[test]
fn overhead_is_fourteen_bytes_at_most() {
    let mut room = [0; MAX_BASES_BYTES];
    for code in [0, 3] {
        let codes = vec![code; MAX_BASES + 100];
        let (bases, taken) = Bases::pack(&codes, &mut room);
        assert_eq!(taken, MAX_BASES);
        let message = Message::Bases { channel: 1, bases };
        let length = encoded(&Frame {
            sequence: 0,
            message,
        })
        .len();
        assert!(length <= 512 + 14 && length <= MAX_FRAME);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let needed = encoded(&read_end(0)).len();
    assert_eq!(needed, 18);
    assert!(read_end(0).encode(&mut Fixed::<u8, 18>::new()).is_ok());
    let mut small = Fixed::<u8, 17>::new();
    assert_eq!(read_end(0).encode(&mut small), Err(NoRoom { capacity: 17 }));
    assert!(small.is_empty());
    assert!(read_end(0).encode(&mut Fixed::<u8, 0>::new()).is_err());
}

#[test]
fn every_wrong_body_has_its_error() {
    assert_eq!(decode_error(&[]), FrameError::Short { found: 0 });
    assert_eq!(decode_error(&[1, 1]), FrameError::Short { found: 1 });
    assert_eq!(decode_error(&[9, 1]), FrameError::Stuffing);
    assert_eq!(decode_error(&[2, 1, 0]), FrameError::Stuffing);
    assert_eq!(decode_error(&[1; 4000]), FrameError::Stuffing);
    let end = [1, 3, 0, 0, 6, 0, 1, 0, 9, 0, 0, 0];
    let changed = |at: usize, to: u8| {
        let mut body = end;
        body[at] = to;
        decode_error(&stuff(&body))
    };
    assert_eq!(changed(0, 2), FrameError::Version { found: 2 });
    assert_eq!(changed(1, 0), FrameError::Type { found: 0 });
    assert_eq!(changed(1, 4), FrameError::Type { found: 4 });
    assert_eq!(
        changed(4, 5),
        FrameError::Length {
            stated: 5,
            found: 6
        }
    );
    let short = decode_error(&stuff(&[1, 3, 0, 0, 5, 0, 1, 0, 9, 0, 0]));
    assert_eq!(short, FrameError::Payload { kind: 3, offset: 2 });
    let none = decode_error(&stuff(&[1, 1, 0, 0, 0, 0]));
    assert_eq!(none, FrameError::Payload { kind: 1, offset: 0 });
}

#[test]
fn bases_have_one_form_only() {
    let at = |payload: &[u8]| {
        let body = [&[1, 2, 0, 0, payload.len() as u8, 0], payload].concat();
        match Frame::decode(&stuff(&body), &mut [0; MAX_BODY]) {
            Ok(_) => None,
            Err(FrameError::Payload { kind: 2, offset }) => Some(offset),
            Err(other) => panic!("{other}"),
        }
    };
    // Channel 9, six bases, two bytes of them; then runs of N.
    assert_eq!(at(&[9, 0, 6, 0, 0b1110_0100, 0b0011]), None);
    assert_eq!(at(&[9, 0, 6, 0, 0, 0, 0, 0, 2, 0, 3, 0, 3, 0]), None);
    // Cut off; bits beyond the last base; a run cut off.
    assert_eq!(at(&[9, 0, 6, 0, 0b1110_0100]), Some(2));
    assert_eq!(at(&[9, 0, 6, 0, 0, 0b1_0000]), Some(5));
    assert_eq!(at(&[9, 0, 6, 0, 0, 0, 0, 0, 2]), Some(6));
    // Runs that are empty, past the end, touching, descending, over a base that is not blank.
    assert_eq!(at(&[9, 0, 6, 0, 0, 0, 0, 0, 0, 0]), Some(6));
    assert_eq!(at(&[9, 0, 6, 0, 0, 0, 5, 0, 2, 0]), Some(6));
    assert_eq!(at(&[9, 0, 6, 0, 0, 0, 255, 255, 255, 255]), Some(6));
    assert_eq!(at(&[9, 0, 6, 0, 0, 0, 0, 0, 2, 0, 2, 0, 1, 0]), Some(10));
    assert_eq!(at(&[9, 0, 6, 0, 0, 0, 3, 0, 1, 0, 0, 0, 1, 0]), Some(10));
    assert_eq!(at(&[9, 0, 6, 0, 0b0100, 0, 0, 0, 2, 0]), Some(6));
}

#[test]
fn every_changed_bit_and_every_lost_byte_is_seen() {
    let mut room = [0; MAX_BASES_BYTES];
    let codes: Vec<u8> = (0..1500u32).map(|i| (i * i % 5) as u8 % 4).collect();
    let (bases, _) = Bases::pack(&codes, &mut room);
    let message = Message::Bases { channel: 2, bases };
    for frame in [
        read_end(77),
        Frame {
            sequence: 9,
            message,
        },
    ] {
        let good = stuffed(&frame);
        let rejected = |bytes: &[u8]| Frame::decode(bytes, &mut [0; MAX_BODY]).is_err();
        assert!(!rejected(&good));
        for i in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[i] ^= 1 << bit;
                assert!(rejected(&bad), "byte {i}, bit {bit}");
            }
            let mut bad = good.clone();
            bad.remove(i);
            assert!(rejected(&bad), "byte {i} lost");
            assert!(rejected(&good[..i]), "cut at {i}");
            let twice = [&good[..=i], &good[i..]].concat();
            assert!(rejected(&twice), "byte {i} twice");
        }
    }
}

proptest! {
    #[test]
    fn bases_come_back(
        codes in prop::collection::vec(prop_oneof![20 => 0u8..4, 1 => Just(4u8)], 0..3000),
        channel: u16, sequence: u16,
    ) {
        let mut room = [0; MAX_BASES_BYTES];
        let mut rest = &codes[..];
        let mut received = Vec::new();
        while !rest.is_empty() {
            let (bases, taken) = Bases::pack(rest, &mut room);
            prop_assert!(taken > 0);
            let frame = Frame { sequence, message: Message::Bases { channel, bases } };
            let wire = stuffed(&frame);
            let mut body = [0; MAX_BODY];
            let back = Frame::decode(&wire, &mut body).unwrap();
            prop_assert_eq!(back, frame);
            let Message::Bases { bases, .. } = back.message else { unreachable!() };
            prop_assert_eq!(bases.len(), taken);
            received.extend(bases.codes());
            rest = &rest[taken..];
        }
        prop_assert_eq!(received, codes);
    }

    #[test]
    fn read_borders_come_back(channel: u16, sequence: u16, number: u32, start: bool) {
        let message = if start {
            Message::ReadStart { channel, read: number }
        } else {
            Message::ReadEnd { channel, length: number }
        };
        let frame = Frame { sequence, message };
        let mut body = [0; MAX_BODY];
        prop_assert_eq!(Frame::decode(&stuffed(&frame), &mut body).unwrap(), frame);
    }

    #[test]
    fn any_bytes_are_refused_or_are_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let _ = Frame::decode(&bytes, &mut [0; MAX_BODY]);
    }

    /// Random bytes seldom pass the checksum; these do.
    #[test]
    fn any_checked_body_is_refused_or_is_its_own_encoding(
        kind in 0u8..5, payload in prop::collection::vec(prop_oneof![Just(0u8), 0u8..12, any::<u8>()], 0..40),
    ) {
        let body = [&[1, kind, 5, 0, payload.len() as u8, 0], &payload[..]].concat();
        let wire = stuff(&body);
        if let Ok(frame) = Frame::decode(&wire, &mut [0; MAX_BODY]) {
            prop_assert_eq!(stuffed(&frame), wire);
        }
    }
}
