//! Frames of the accessory board: any bytes, any body under a right checksum, any bases, any
//! stream.
#![no_main]

use firmware_bridge::{Bases, Decoder, Frame, MAX_BASES_BYTES, MAX_BODY, MAX_FRAME, Message};
use heapless::Vec as Fixed;
use libfuzzer_sys::fuzz_target;

fn encoded(frame: &Frame) -> Fixed<u8, MAX_FRAME> {
    let mut out = Fixed::new();
    frame.encode(&mut out).unwrap();
    assert_eq!(out.iter().position(|&b| b == 0), Some(out.len() - 1));
    out
}

/// A frame that decodes must be the frame that its encoding decodes to; compared as bytes, since a
/// score may be no number.
fn decode(stuffed: &[u8]) -> bool {
    let mut body = [0; MAX_BODY];
    let Ok(frame) = Frame::decode(stuffed, &mut body) else {
        return false;
    };
    let wire = encoded(&frame);
    let mut body = [0; MAX_BODY];
    let again = Frame::decode(&wire[..wire.len() - 1], &mut body).unwrap();
    assert_eq!(encoded(&again), wire);
    if let Message::Bases { bases, .. } = frame.message {
        assert_eq!(bases.codes().count(), bases.len());
    }
    true
}

fuzz_target!(|data: &[u8]| {
    decode(data);

    // The checksum would keep nearly everything out.
    let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(data);
    let body = [data, &checksum.to_le_bytes()].concat();
    let mut stuffed = vec![0; cobs::max_encoding_length(body.len())];
    let length = cobs::encode(&body, &mut stuffed);
    decode(&stuffed[..length]);

    let mut decoder = Decoder::<64>::new();
    let mut rest = data;
    while !rest.is_empty() {
        let _ = decoder.next(&mut rest);
    }
    assert_eq!(decoder.counts().bytes, data.len() as u64);

    let codes: Vec<u8> = data.iter().map(|b| b % 5).collect();
    let mut rest = &codes[..];
    while !rest.is_empty() {
        let mut room = [0; MAX_BASES_BYTES];
        let (bases, count) = Bases::pack(rest, &mut room);
        assert!(count > 0);
        assert!(bases.codes().eq(rest[..count].iter().copied()));
        let message = Message::Bases {
            channel: 1,
            read: 2,
            position: 3,
            bases,
        };
        let wire = encoded(&Frame {
            sequence: 9,
            message,
        });
        assert!(decode(&wire[..wire.len() - 1]));
        rest = &rest[count..];
    }
});
