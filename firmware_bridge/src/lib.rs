//! Frames between a sequencer's accessory board and strandline. No `std`, no allocation: it compiles for a microcontroller
//! and for the host alike, so that both ends share one definition of the bytes.
//!
//! On the wire a frame is COBS-stuffed and ended by one zero byte, the only zero there is: a receiver that has lost its place
//! waits for the next zero and is in step again. Stuffed inside is the body, integers little-endian:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 1 | protocol version, [`VERSION`] |
//! | 1 | 1 | type: 1 read start, 2 bases, 3 read end |
//! | 2 | 2 | sequence number, one more than that of the frame sent before, wrapping |
//! | 4 | 2 | length of the payload, L, at most [`MAX_PAYLOAD`] |
//! | 6 | L | payload |
//! | 6 + L | 4 | CRC-32 (ISO-HDLC, that of Ethernet and gzip) of all bytes before it |
//!
//! Overhead beyond the payload: 10 bytes here, 1 to 3 of stuffing, 1 zero; 14 at most.
//!
//! | type | offset | bytes | field of the payload |
//! | --- | --- | --- | --- |
//! | all | 0 | 2 | channel |
//! | read start | 2 | 4 | number of the read on its channel |
//! | bases | 2 | 2 | n, number of bases, at most [`MAX_BASES`] |
//! | | 4 | ⌈n / 4⌉ | bases, two bits each, A C G T = 0 1 2 3, the first in the lowest bits; 0 for N and beyond n |
//! | | 4 + ⌈n / 4⌉ | 4 a run | runs of N: index of the first (2 bytes), how many (2 bytes); ascending, with a base between any two |
//! | read end | 2 | 4 | number of bases of the whole read |
//!
//! A channel has one read at a time, so bases name only their channel. There is exactly one payload for a message; any other is
//! rejected. What decodes has passed the checksum and every rule of these tables.
//!
//! This is the frame type alone. The link's protocol (credits and flow control, what to do about a gap in the
//! sequence numbers, splitting a byte stream at its zeros) is not here yet.
#![no_std]
#![forbid(unsafe_code)]

mod bases;

pub use bases::{Bases, MAX_BASES, MAX_BASES_BYTES};

use cobs::{CobsDecoder, CobsEncoder};
use crc::{CRC_32_ISO_HDLC, Crc, Table};
use heapless::Vec;

/// The protocol version that this crate writes, and the only one it reads.
pub const VERSION: u8 = 1;

/// Most bytes of a payload.
pub const MAX_PAYLOAD: usize = 512;

const HEADER: usize = 6;
const CHECKSUM: usize = 4;

/// Most bytes of a body, the frame before stuffing.
pub const MAX_BODY: usize = HEADER + MAX_PAYLOAD + CHECKSUM;

/// Most bytes of a frame on the wire, its closing zero included.
pub const MAX_FRAME: usize = cobs::max_encoding_length(MAX_BODY) + 1;

// One table of 1 KiB: the fastest that a small flash should have to hold.
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Message<'a> {
    /// A read begins on a channel; an unfinished one there is over.
    ReadStart {
        /// The channel.
        channel: u16,
        /// The read's number on its channel.
        read: u32,
    },
    /// The next bases of the channel's read.
    Bases {
        /// The channel.
        channel: u16,
        /// The bases.
        bases: Bases<'a>,
    },
    /// The channel's read is complete.
    ReadEnd {
        /// The channel.
        channel: u16,
        /// Bases of the whole read, so that a lost frame shows.
        length: u32,
    },
}

/// A message and its place in the order of sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// One more than that of the frame sent before, wrapping from 65,535 to 0.
    pub sequence: u16,
    /// What it says.
    pub message: Message<'a>,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A zero inside, a run that passes the end, or more than [`MAX_BODY`] bytes.
    #[error("byte stuffing is broken, or hides more than {MAX_BODY} bytes")]
    Stuffing,
    /// Fewer bytes than header and checksum take.
    #[error("{found} bytes, a frame has at least {}", HEADER + CHECKSUM)]
    Short {
        /// Bytes after removal of the stuffing.
        found: usize,
    },
    /// The bytes are not those that were sent.
    #[error("checksum {found:#010x}, but the bytes give {computed:#010x}")]
    Checksum {
        /// As received.
        found: u32,
        /// Of the bytes received.
        computed: u32,
    },
    /// Another protocol version.
    #[error("protocol version {found}, expected {VERSION}")]
    Version {
        /// As received.
        found: u8,
    },
    /// A type that this version does not have.
    #[error("unknown frame type {found}")]
    Type {
        /// As received.
        found: u8,
    },
    /// The length field does not fit the number of bytes.
    #[error("length field says {stated} bytes of payload, there are {found}")]
    Length {
        /// As received.
        stated: usize,
        /// Bytes between header and checksum.
        found: usize,
    },
    /// A payload that breaks the rules of its type.
    #[error("payload of type {kind} breaks its layout at byte {offset}")]
    Payload {
        /// The frame's type.
        kind: u8,
        /// Offset in the payload.
        offset: usize,
    },
}

/// The buffer of [`Frame::encode`] is smaller than the frame; [`MAX_FRAME`] bytes always suffice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the frame does not fit {capacity} bytes")]
pub struct NoRoom {
    /// Bytes that the buffer holds.
    pub capacity: usize,
}

impl Frame<'_> {
    /// Writes the frame to `out`, which it clears first, closing zero included. With an error `out` is left empty.
    pub fn encode<const N: usize>(&self, out: &mut Vec<u8, N>) -> Result<(), NoRoom> {
        out.clear();
        let mut body = Vec::<u8, MAX_BODY>::new();
        let no_room = NoRoom { capacity: N };
        // The body holds the longest payload there is, so filling it cannot fail.
        self.write_body(&mut body).map_err(|_| no_room)?;
        out.resize(N, 0).map_err(|_| no_room)?;
        // One push of the whole body: the encoder's count is off when an empty push follows a full run.
        let mut stuffing = CobsEncoder::new(out);
        let stuffed = stuffing.push(&body).map(|()| stuffing.finalize());
        match stuffed {
            Ok(stuffed) if stuffed < N => {
                out.truncate(stuffed);
                out.push(0).map_err(|_| no_room)
            }
            _ => {
                out.clear();
                Err(no_room)
            }
        }
    }

    fn write_body(&self, body: &mut Vec<u8, MAX_BODY>) -> Result<(), heapless::CapacityError> {
        let kind = match self.message {
            Message::ReadStart { .. } => 1,
            Message::Bases { .. } => 2,
            Message::ReadEnd { .. } => 3,
        };
        let sequence = self.sequence.to_le_bytes();
        body.extend_from_slice(&[VERSION, kind, sequence[0], sequence[1], 0, 0])?;
        match self.message {
            Message::ReadStart {
                channel,
                read: number,
            }
            | Message::ReadEnd {
                channel,
                length: number,
            } => {
                body.extend_from_slice(&channel.to_le_bytes())?;
                body.extend_from_slice(&number.to_le_bytes())?;
            }
            Message::Bases { channel, bases } => {
                body.extend_from_slice(&channel.to_le_bytes())?;
                bases.write(body)?;
            }
        }
        let length = (body.len() - HEADER) as u16;
        body[4..HEADER].copy_from_slice(&length.to_le_bytes());
        let checksum = CRC.checksum(body);
        body.extend_from_slice(&checksum.to_le_bytes())
    }
}

impl<'a> Frame<'a> {
    /// Reads the frame in `stuffed`, the bytes between two zeros of the wire, using `body` as working memory, which
    /// the bases then borrow.
    ///
    /// # Errors
    /// Whatever is not exactly a frame: see [`FrameError`]. No input panics.
    pub fn decode(stuffed: &[u8], body: &'a mut [u8; MAX_BODY]) -> Result<Frame<'a>, FrameError> {
        if stuffed.contains(&0) {
            return Err(FrameError::Stuffing);
        }
        let mut stuffing = CobsDecoder::new(body);
        let length = match (stuffing.push(stuffed), stuffing.feed(0)) {
            (Ok(_), Ok(Some(length))) => length,
            (Ok(_), Ok(None)) => 0,
            _ => return Err(FrameError::Stuffing),
        };
        let body = &body[..length];
        let Some((body, checksum)) = body.split_last_chunk::<CHECKSUM>() else {
            return Err(FrameError::Short { found: length });
        };
        let Some((header, payload)) = body.split_first_chunk::<HEADER>() else {
            return Err(FrameError::Short { found: length });
        };
        let found = u32::from_le_bytes(*checksum);
        let computed = CRC.checksum(body);
        if found != computed {
            return Err(FrameError::Checksum { found, computed });
        }
        let [version, kind, s0, s1, l0, l1] = *header;
        if version != VERSION {
            return Err(FrameError::Version { found: version });
        }
        let stated = usize::from(u16::from_le_bytes([l0, l1]));
        if stated != payload.len() {
            let found = payload.len();
            return Err(FrameError::Length { stated, found });
        }
        let message = read_message(kind, payload)?;
        let sequence = u16::from_le_bytes([s0, s1]);
        Ok(Frame { sequence, message })
    }
}

fn read_message(kind: u8, payload: &[u8]) -> Result<Message<'_>, FrameError> {
    let breaks = |offset| FrameError::Payload { kind, offset };
    if !(1..=3).contains(&kind) {
        return Err(FrameError::Type { found: kind });
    }
    let (channel, rest) = payload.split_first_chunk::<2>().ok_or(breaks(0))?;
    let channel = u16::from_le_bytes(*channel);
    if kind == 2 {
        let bases = Bases::read(rest).map_err(|at| breaks(2 + at))?;
        return Ok(Message::Bases { channel, bases });
    }
    let number = <[u8; 4]>::try_from(rest).map_err(|_| breaks(2))?;
    let number = u32::from_le_bytes(number);
    Ok(if kind == 1 {
        Message::ReadStart {
            channel,
            read: number,
        }
    } else {
        Message::ReadEnd {
            channel,
            length: number,
        }
    })
}
