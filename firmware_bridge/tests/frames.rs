//! Frames as bytes, there and back, and everything that is none.

use firmware_bridge::{
    Bases, Decoder, EndReason, Frame, FrameError, MAX_BASES, MAX_BASES_BYTES, MAX_BODY,
    MAX_CHANNEL, MAX_FRAME, Message, NoRoom, Role, quality_bin,
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
            read: 12,
            length: 1_000_000,
            reason: EndReason::Complete,
        },
    }
}

fn bases_message(bases: Bases<'_>) -> Message<'_> {
    Message::Bases {
        channel: 300,
        read: 5,
        position: 0x0201,
        bases,
    }
}

/// A body without its checksum.
fn body(frame: &Frame) -> Vec<u8> {
    let mut out = vec![0; MAX_FRAME];
    let length = cobs::decode(&stuffed(frame), &mut out).unwrap();
    out.truncate(length.frame_size() - 4);
    out
}

#[test]
fn golden_bytes() {
    assert_eq!(
        encoded(&read_end(3))[..],
        [
            0x03, 0x04, 0x03, 0x04, 0xff, 0x01, 0x0c, 0x01, 0x01, 0x04, 0x40, 0x42, 0x0f, 0x01,
            0x05, 0x50, 0x1e, 0xa2, 0x04, 0x00
        ]
    );
    assert_eq!(
        body(&read_end(3)),
        [4, 3, 0, 0xff, 0x01, 12, 0, 0, 0, 0x40, 0x42, 0x0f, 0, 0]
    );
    let start = Frame {
        sequence: 0x0102,
        message: Message::ReadStart {
            channel: 7,
            read: 66_000,
            mux: 3,
            start: 0x0706_0504_0302_0100,
            from: 9,
            name: b"ab",
        },
    };
    let expected = [
        2, 2, 1, 7, 0, 0xd0, 1, 1, 0, 3, 0, 1, 2, 3, 4, 5, 6, 7, 9, 0, 0, 0, b'a', b'b',
    ];
    assert_eq!(body(&start), expected);
    let mut room = [0; MAX_BASES_BYTES];
    // ACGTN NACG: A C G T | N N A C | G
    let (bases, packed) = Bases::pack(&[0, 1, 2, 3, 4, 4, 0, 1, 2], &mut room);
    assert_eq!(packed, 9);
    let frame = |bases| Frame {
        sequence: 65_535,
        message: bases_message(bases),
    };
    // Three empty places and runs: one, from 4, of 2.
    let expected = [
        0x73, 0xff, 0xff, 0x2c, 0x51, 1, 2, 1, 4, 0, 2, 0, 0xe4, 0x40, 0x02,
    ];
    assert_eq!(body(&frame(bases)), expected);
    let mut room = [0; MAX_BASES_BYTES];
    let (plain, _) = Bases::pack(&[0, 1, 2, 3, 1], &mut room);
    let with = plain.with_qualities(&[0b11_10_01_00, 0b10]).unwrap();
    let expected = [0xb3, 0xff, 0xff, 0x2c, 0x51, 1, 2, 0xe4, 1, 0xe4, 2];
    assert_eq!(body(&frame(with)), expected);
    assert_eq!(
        with.quality_bins().unwrap().collect::<Vec<_>>(),
        [0, 1, 2, 3, 2]
    );
    assert!(plain.with_qualities(&[0, 0, 0]).is_none());
    assert!(plain.with_qualities(&[0, 0b0100]).is_none());
    assert_eq!([9, 10, 15, 20].map(quality_bin), [0, 1, 2, 3]);
}

#[test]
fn every_message_comes_back() {
    let messages = [
        Message::Hello {
            major: 1,
            minor: 0,
            role: Role::Host,
            capabilities: 2,
            nonce: 0xdead_beef,
        },
        Message::ReadEnd {
            channel: MAX_CHANNEL,
            read: u32::MAX,
            length: 5,
            reason: EndReason::Ejected,
        },
        Message::Decision {
            channel: 0,
            read: 1,
            eject: true,
        },
        Message::Call {
            channel: 1,
            read: 2,
            position: 3,
            kind: 4,
            reverse: true,
            score: -0.25,
        },
        Message::Statistics {
            frames: 1,
            broken: 2,
            missing: 3,
        },
        Message::Error {
            code: 1,
            text: b"text",
        },
        Message::Credit { up_to: 65_535 },
        Message::KeepAlive,
        Message::Finish,
    ];
    for message in messages {
        let frame = Frame {
            sequence: 8,
            message,
        };
        let wire = stuffed(&frame);
        assert_eq!(Frame::decode(&wire, &mut [0; MAX_BODY]), Ok(frame));
    }
}

#[test]
fn overhead_is_fourteen_bytes_at_most() {
    let mut room = [0; MAX_BASES_BYTES];
    for (count, most) in [(400, 13), (1200, 14), (MAX_BASES, 14)] {
        for code in [0, 3] {
            let codes = vec![code; count];
            let (bases, packed) = Bases::pack(&codes, &mut room);
            assert_eq!(packed, count);
            let length = encoded(&Frame {
                sequence: 0,
                message: bases_message(bases),
            })
            .len();
            assert!(
                length <= count / 4 + most && length <= MAX_FRAME,
                "{count}: {length}"
            );
        }
    }
    let codes = [1; MAX_BASES + 1];
    assert_eq!(Bases::pack(&codes, &mut room).1, MAX_BASES);
}

#[test]
fn what_does_not_fit_or_breaks_a_rule_is_refused() {
    let needed = encoded(&read_end(0)).len();
    let mut exact = Fixed::<u8, 20>::new();
    assert_eq!(needed, 20);
    assert!(read_end(0).encode(&mut exact).is_ok());
    // A second one does not fit behind it, and the first stays.
    let before = exact.clone();
    assert_eq!(read_end(0).encode(&mut exact), Err(NoRoom { capacity: 20 }));
    assert_eq!(exact, before);
    assert!(read_end(0).encode(&mut Fixed::<u8, 0>::new()).is_err());
    let start = |channel, name| Frame {
        sequence: 0,
        message: Message::ReadStart {
            channel,
            read: 0,
            mux: 0,
            start: 0,
            from: 0,
            name,
        },
    };
    let mut out = Fixed::<u8, MAX_FRAME>::new();
    assert!(start(MAX_CHANNEL, b"a").encode(&mut out).is_ok());
    assert!(start(MAX_CHANNEL + 1, b"a").encode(&mut out).is_err());
    assert!(start(1, b"").encode(&mut out).is_err());
    assert!(start(1, &[b'a'; 65]).encode(&mut out).is_err());
}

#[test]
fn every_wrong_body_has_its_error() {
    assert_eq!(decode_error(&[]), FrameError::Short { found: 0 });
    assert_eq!(decode_error(&[1, 1]), FrameError::Short { found: 1 });
    assert_eq!(decode_error(&[9, 1]), FrameError::Stuffing);
    assert_eq!(decode_error(&[2, 1, 0]), FrameError::Stuffing);
    assert_eq!(decode_error(&[1; 4000]), FrameError::Stuffing);
    let of = |body: &[u8]| decode_error(&stuff(body));
    for found in [0, 12, 15] {
        assert_eq!(
            of(&[found, 7, 1]),
            FrameError::Kind {
                found,
                sequence: 263
            }
        );
    }
    let payload = |kind, offset| FrameError::Payload { kind, offset };
    // Cut off, too long, flags where none belong, a channel, a reason and a name that cannot be.
    assert_eq!(of(&[4, 0, 0, 1, 0, 9]), payload(4, 2));
    assert_eq!(of(&[10, 0, 0, 1]), payload(10, 0));
    assert_eq!(of(&[0x1a, 0, 0]), payload(10, 0));
    assert_eq!(of(&[5, 0, 0, 0, 0x10, 1, 0, 0, 0, 0]), payload(5, 0));
    assert_eq!(of(&[5, 0, 0, 0, 0, 1, 0, 0, 0, 2]), payload(5, 6));
    let start = [&[2, 0, 0][..], &[0; 19]].concat();
    assert_eq!(of(&start), payload(2, 19));
    // A hello of the same version has its length, that of a newer one may be longer.
    let hello = |minor, more: &[u8]| [&[1, 0, 0, 1, minor, 0, 0, 0, 1, 2, 3, 4], more].concat();
    assert_eq!(of(&hello(0, &[0])), payload(1, 9));
    assert!(Frame::decode(&stuff(&hello(1, &[0, 5])), &mut [0; MAX_BODY]).is_ok());
}

#[test]
fn bases_have_one_form_only() {
    let at = |flags: u8, bases: &[u8]| {
        let body = [&[3 | flags, 0, 0, 9, 0, 0, 0], bases].concat();
        match Frame::decode(&stuff(&body), &mut [0; MAX_BODY]) {
            Ok(_) => None,
            // Behind channel and position.
            Err(FrameError::Payload { kind: 3, offset }) => Some(offset - 4),
            Err(other) => panic!("{other}"),
        }
    };
    // Six bases, two bytes of them; with runs of N.
    assert_eq!(at(0x20, &[0b1110_0100, 0b0011]), None);
    assert_eq!(at(0x60, &[1, 0, 0, 2, 0, 0, 0]), None);
    assert_eq!(at(0x60, &[2, 0, 0, 2, 0, 3, 0, 3, 0, 0, 0]), None);
    // Bits beyond the last base; more empty places than there are; a run cut off; none.
    assert_eq!(at(0x20, &[0b1110_0100, 0b1_0000]), Some(1));
    assert_eq!(at(0x20, &[]), Some(0));
    assert_eq!(at(0x60, &[1, 0, 0, 2]), Some(0));
    assert_eq!(at(0x60, &[0, 0, 0]), Some(0));
    // Runs that are empty, past the end, touching, descending, over a base that is not blank.
    assert_eq!(at(0x60, &[1, 0, 0, 0, 0, 0, 0]), Some(1));
    assert_eq!(at(0x60, &[1, 5, 0, 2, 0, 0, 0]), Some(1));
    assert_eq!(at(0x60, &[1, 255, 255, 255, 255, 0, 0]), Some(1));
    assert_eq!(at(0x60, &[2, 0, 0, 2, 0, 2, 0, 1, 0, 0, 0]), Some(5));
    assert_eq!(at(0x60, &[2, 3, 0, 1, 0, 0, 0, 1, 0, 0, 0]), Some(5));
    assert_eq!(at(0x60, &[1, 0, 0, 2, 0, 0b0100, 0]), Some(1));
    // Qualities of another length, or beyond the last base.
    assert_eq!(at(0xa0, &[0, 0, 0]), Some(0));
    assert_eq!(at(0xa0, &[0, 0, 0, 0b1_0000]), Some(3));
    assert_eq!(at(0xa0, &[0, 0, 0xff, 0b1111]), None);
}

#[test]
fn every_changed_bit_and_every_lost_byte_is_seen() {
    let mut room = [0; MAX_BASES_BYTES];
    let codes: Vec<u8> = (0..1500u32).map(|i| (i * i % 5) as u8 % 4).collect();
    let (bases, _) = Bases::pack(&codes, &mut room);
    let message = bases_message(bases);
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

#[test]
fn a_decoder_is_in_step_again_after_the_next_zero() {
    let frames: Vec<Vec<u8>> = (0..3).map(|n| encoded(&read_end(n)).to_vec()).collect();
    // Rubbish longer than any frame, a frame behind it in the same run of bytes, then two good
    // ones.
    let mut wire = vec![7; 2000];
    wire.extend(frames.concat());
    for cut in [1, 3, 100, wire.len()] {
        let mut decoder: Decoder = Decoder::new();
        let mut received = vec![];
        for part in wire.chunks(cut) {
            let mut rest = part;
            while !rest.is_empty() {
                if let Some(Ok(frame)) = decoder.next(&mut rest) {
                    received.push(frame.sequence);
                }
            }
        }
        assert_eq!(received, [1, 2], "cut into {cut}");
        let counts = decoder.counts();
        assert_eq!((counts.frames, counts.broken), (2, 1));
        assert_eq!(counts.bytes, wire.len() as u64);
    }
}

#[test]
fn the_tail_of_an_overlong_frame_is_never_read_as_one() {
    // A buffer of 32 bytes, and a good frame of 19 as the end of a longer run of bytes.
    let good = encoded(&read_end(1));
    for before in 1..100 {
        let mut decoder = Decoder::<32>::new();
        let wire = [&vec![9; before][..], &good].concat();
        let results: Vec<bool> = wire
            .iter()
            .filter_map(|&byte| decoder.byte(byte).map(|r| r.is_ok()))
            .collect();
        assert_eq!(results, [false], "{before} bytes before it");
    }
    let mut decoder = Decoder::<32>::new();
    let accepted = good
        .iter()
        .filter_map(|&b| decoder.byte(b).map(|r| r.is_ok()));
    assert_eq!(accepted.collect::<Vec<_>>(), [true]);
}

proptest! {
    #[test]
    fn bases_come_back(
        codes in prop::collection::vec(prop_oneof![20 => 0u8..4, 1 => Just(4u8)], 0..3000),
        channel in 0..=MAX_CHANNEL, read in 0u8..16, position: u16, sequence: u16,
    ) {
        let mut room = [0; MAX_BASES_BYTES];
        let mut rest = &codes[..];
        let mut received = Vec::new();
        while !rest.is_empty() {
            let (bases, packed) = Bases::pack(rest, &mut room);
            prop_assert!(packed > 0);
            let message = Message::Bases { channel, read, position, bases };
            let frame = Frame { sequence, message };
            let wire = stuffed(&frame);
            let mut body = [0; MAX_BODY];
            let back = Frame::decode(&wire, &mut body).unwrap();
            prop_assert_eq!(back, frame);
            let Message::Bases { bases, .. } = back.message else { unreachable!() };
            prop_assert_eq!(bases.len(), packed);
            received.extend(bases.codes());
            rest = &rest[packed..];
        }
        prop_assert_eq!(received, codes);
    }

    #[test]
    fn any_bytes_are_refused_or_are_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        let _ = Frame::decode(&bytes, &mut [0; MAX_BODY]);
    }

    /// Random bytes seldom pass the checksum; these do.
    #[test]
    fn any_checked_body_is_refused_or_is_its_own_encoding(
        kind: u8,
        payload in prop::collection::vec(prop_oneof![Just(0u8), 0u8..12, any::<u8>()], 0..40),
    ) {
        let body = [&[kind, 5, 0], &payload[..]].concat();
        let wire = stuff(&body);
        let mut room = [0; MAX_BODY];
        let frame = Frame::decode(&wire, &mut room);
        // A newer minor version's hello may hold what this one does not know.
        let newer = match frame.map(|frame| frame.message) {
            Ok(Message::Hello { major, minor, .. }) => (major, minor) > (1, 0),
            _ => false,
        };
        if let Ok(frame) = frame && !newer {
            prop_assert_eq!(stuffed(&frame), wire);
        }
    }
}
