//! The link between a sequencer's accessory board and strandline. No `std`, no allocation: it
//! compiles for a microcontroller and for the host alike, so that both ends share one definition of
//! the bytes and of the protocol.
//!
//! # Frames
//!
//! On the wire a frame is COBS-stuffed and ended by one zero byte, the only zero there is: a
//! receiver that has lost its place waits for the next zero and is in step again. Stuffed inside is
//! the body, integers little-endian:
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 1 | kind in the lower four bits; in the upper four, flags of bases, else 0 |
//! | 1 | 2 | sequence number, one more than that of the frame sent before, wrapping |
//! | 3 | L | payload, at most [`MAX_PAYLOAD`] |
//! | 3 + L | 4 | CRC-32 (ISO-HDLC, that of Ethernet and gzip) of all bytes before it |
//!
//! The length is that of the frame, and the version is agreed on once: neither is in each frame.
//! 400 bases take 100 bytes and 13 more of framing, stuffing and zero; a full frame of 1,988 bases
//! 497 and 14. 32 bits of checksum let one broken frame in 4 billion through, which must then also
//! keep the layout below.
//!
//! | kind | from | payload: bytes and field |
//! | --- | --- | --- |
//! | 1 hello | both | 1 major, 1 minor version, 1 role, 2 capabilities, 4 nonce |
//! | 2 read start | device | 2 channel, 4 read, 1 mux, 8 start, 4 first base, 1 to 64 name |
//! | 3 bases | device | 2 channel and read, 2 position, then the bases |
//! | 4 read end | device | 2 channel, 4 read, 4 bases of the whole read, 1 reason |
//! | 5 decision | host | 2 channel, 4 read, 1 (0 keep, 1 eject) |
//! | 6 call | host | 2 channel, 4 read, 4 position, 1 kind, 1 strand, 4 score |
//! | 7 statistics | both | 4 frames received, 4 broken, 4 missing |
//! | 8 error | both | 2 code, up to 64 text |
//! | 9 credit | host | 2 sequence number |
//! | 10 keep-alive | both | nothing |
//! | 11 finish | device | nothing: no more reads will come |
//!
//! - Hello: the role is 0 for a device, 1 for a host; a newer minor version may add more fields.
//!   The capabilities are bits: 1, bases come with qualities ([`QUALITIES`], of a device); 2,
//!   decisions are obeyed, or may be sent ([`DECISIONS`]); 4, the finish is answered
//!   ([`CONFIRMS`], of a host). The others are 0 and mean nothing yet.
//! - Read start: the start is in milliseconds of the run; the first base is the position of the
//!   first that follows. The name is any bytes, best UTF-8 without blanks and control characters:
//!   whatever is not is shown as U+FFFD. It takes up the rest of the payload and need not be
//!   unique.
//! - Bases: the channel is in the lower 12 bits and the read in the upper 4; the position is that
//!   of the first base, modulo 65,536.
//! - Read end: the reason is 0 for complete, 1 for ejected, 2 for aborted.
//! - Call: the kind is 0 donor, 1 acceptor, 2 promoter, 3 expression, 4 promoter strength, 5
//!   transcription factor; the
//!   strand is 0 forward, 1 reverse; the score is an f32.
//! - Statistics: of a host, since the hello of the device that it speaks to.
//! - Error: code 1 is another major version, 2 that read numbers do not count up by one; those of a
//!   program's own begin at 256.
//! - Credit: read starts, bases and read ends may be sent before this sequence number.
//!
//! Bases: flags 0x30 are how many of the last byte's four places are empty, 0x40 says that runs of
//! N come first (1 byte how many, each 2 index of the first, 2 how many; ascending, with a base
//! between any two), 0x80 that as many bytes as the bases take follow with qualities. Bases have
//! two bits each, A C G T = 0 1 2 3, the first in the lowest bits; 0 for N and in empty places.
//! Qualities likewise, in bins ([`quality_bin`]).
//!
//! There is exactly one payload for a message; any other is rejected. What decodes has passed the
//! checksum and every rule of these tables.
//!
//! # Protocol
//!
//! Both sides send hello until the other's has come. A newer minor version is understood: its
//! unknown kinds are counted and skipped. Another major version is refused with an error, on both
//! sides. The nonce is drawn at each start: a new one says that the other side began anew.
//!
//! [`Device`] sends data only as far as the host's credit reaches, which grows as the host takes
//! frames in; a credit that was lost is repeated. After half a second of silence a side says that
//! it is alive, after three the other counts as gone. Nothing is sent twice: a frame that is lost
//! is a gap in the sequence numbers, and positions say how many bases it held, so that those behind
//! it keep their place. The four bits of the read's number keep bases of two reads apart where
//! one's end and the other's start were lost.
//!
//! # Writing a device without this crate
//!
//! The stuffing is that of Cheshire and Baker: a byte that says how far the next zero is, at most
//! 254 bytes on. The checksum has the reflected polynomial 0xEDB88320, starts at all ones and is
//! inverted at its end: `crc32` of zlib. A device then keeps these rules:
//!
//! 1. **Hello.** It says hello at once, and every half second until a host's has come. A connection
//!    to a socket has three seconds for it. It answers every hello of a host with its own, also
//!    later: a hello that comes again says that the host lacks it.
//! 2. **A new host.** A hello with another nonce is of a host that knows nothing. What it granted
//!    before is void. Each open read is announced to it before its next bases, by a read start with
//!    the position of its first base; the host has it as partial.
//! 3. **Credit.** No read start, bases or read end before the first credit of this host; then each
//!    only if its sequence number lies before the last credit. "Before" is by difference modulo
//!    65,536, which lies from 1 to 32,767; a credit that lies before the last one came late and
//!    means nothing. All other messages need no credit, and take a sequence number like these.
//! 4. **Numbers.** The reads of a channel count up by one, from any number, wrapping at 2^32. Bases
//!    carry only the last four bits, so that a host could take those of another read for this one's
//!    if numbers went otherwise. It places bases behind a gap only once it has seen numbers count;
//!    to a device whose numbers do not it says error 2, and each gap ends the reads at hand.
//! 5. **Reads.** A read start, bases without a gap in their positions, a read end with the number
//!    of all bases: a frame that was sent and lost is the only gap there may be. A read start on
//!    a channel whose read is open ends that one as partial. A decision to eject is obeyed by a
//!    read end with reason 1, or not at all; it may come when the read is over.
//! 6. **Alive.** At least each half second some frame, at worst a keep-alive. After three seconds
//!    of silence the host takes its reads for over, and closes a socket. A device need not judge
//!    the host: one that stands still reads on later, and a new one says hello.
//! 7. **Reading.** It reads whatever comes, also while it waits for credit, and passes over kinds
//!    that it does not need. A host gives up one that takes nothing for two seconds.
//! 8. **Finish.** After the last read end. A host with capability 4 answers it with statistics; 0
//!    missing there says that every frame before has arrived.
//!
//! `tests/link_client.py` of strandline is such a device, in 250 lines of Python.
//!
//! # This crate
//!
//! [`Decoder`] takes bytes, [`Frame`] is what they say, [`Device`] and [`Host`] hold the state;
//! time is passed in. [`Port`] joins a device to an `embedded-io` port: a UART, or USB-CDC, whose
//! baud rate means nothing.
#![no_std]
#![forbid(unsafe_code)]

mod bases;
mod decoder;
mod device;
mod host;
mod message;
mod port;
mod transmitter;

pub use bases::{Bases, MAX_BASES, MAX_BASES_BYTES, quality_bin};
pub use decoder::{Counts, Decoder};
pub use device::{Device, DeviceEvent, SendError};
pub use host::{Host, HostEvent};
pub use message::{EndReason, MAX_CHANNEL, MAX_NAME, MAX_TEXT, Message, Role};
pub use port::{Port, PortError};

use cobs::{CobsDecoder, CobsEncoder};
use crc::{CRC_32_ISO_HDLC, Crc, Table};
use heapless::Vec;

/// The protocol version that this crate speaks: another major version is refused.
pub const MAJOR: u8 = 1;
/// A newer minor version is understood.
pub const MINOR: u8 = 0;

/// Capability of a device: its bases come with qualities.
pub const QUALITIES: u16 = 1;
/// Capability of a device: it obeys decisions; of a host: it may send some.
pub const DECISIONS: u16 = 1 << 1;
/// Capability of a host: it answers the finish with statistics.
pub const CONFIRMS: u16 = 1 << 2;

/// The other side has a version that is not understood.
pub const ERROR_VERSION: u16 = 1;
/// The numbers of a channel's reads do not count up by one.
pub const ERROR_NUMBERS: u16 = 2;

/// Silence after which a side says that it is alive, in milliseconds.
pub const KEEP_ALIVE: u32 = 500;
/// Silence after which the other side counts as gone, in milliseconds.
pub const GONE: u32 = 3000;

/// Most bytes of a body, the frame before stuffing: two runs of COBS.
pub const MAX_BODY: usize = 508;

const HEADER: usize = 3;
const CHECKSUM: usize = 4;

/// Most bytes of a payload.
pub const MAX_PAYLOAD: usize = MAX_BODY - HEADER - CHECKSUM;

/// Most bytes of a frame on the wire, its closing zero included.
pub const MAX_FRAME: usize = cobs::max_encoding_length(MAX_BODY) + 1;

// One table of 1 KiB: the fastest that a small flash should have to hold.
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// A message and its place in the order of sending.
#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// A kind that this version does not have.
    #[error("unknown kind {found} of frame {sequence}")]
    Kind {
        /// As received.
        found: u8,
        /// The frame's sequence number, which counts all the same.
        sequence: u16,
    },
    /// A payload that breaks the rules of its kind.
    #[error("payload of kind {kind} breaks its layout at byte {offset}")]
    Payload {
        /// The frame's kind.
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
    /// Appends the frame to `out`, closing zero included. With an error `out` is as it was.
    ///
    /// # Errors
    /// Where there is no room, or the message breaks a rule: a channel above [`MAX_CHANNEL`], no
    /// name or one above [`MAX_NAME`].
    pub fn encode<const N: usize>(&self, out: &mut Vec<u8, N>) -> Result<(), NoRoom> {
        let mut body = Vec::<u8, MAX_BODY>::new();
        let no_room = NoRoom { capacity: N };
        let sequence = self.sequence.to_le_bytes();
        let written = body
            .extend_from_slice(&[self.message.kind_and_flags(), sequence[0], sequence[1]])
            .and_then(|()| self.message.write(&mut body));
        written.map_err(|_| no_room)?;
        let checksum = CRC.checksum(&body);
        body.extend_from_slice(&checksum.to_le_bytes())
            .map_err(|_| no_room)?;
        let before = out.len();
        let room = cobs::max_encoding_length(body.len()) + 1;
        if before + room > N || out.resize(before + room, 0).is_err() {
            return Err(no_room);
        }
        // One push of the whole body: the encoder's count is off when an empty push follows a full
        // run.
        let mut stuffing = CobsEncoder::new(&mut out[before..]);
        let stuffed = stuffing.push(&body).map(|()| stuffing.finalize());
        match stuffed {
            // The byte behind it is a zero already.
            Ok(stuffed) if stuffed < room => {
                out[before + stuffed] = 0;
                out.truncate(before + stuffed + 1);
                Ok(())
            }
            _ => {
                out.truncate(before);
                Err(no_room)
            }
        }
    }
}

impl<'a> Frame<'a> {
    /// Reads the frame in `stuffed`, the bytes between two zeros of the wire, using `body` as
    /// working memory, which the message then borrows.
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
        let sequence = u16::from_le_bytes([header[1], header[2]]);
        let message = Message::read(header[0], payload, sequence)?;
        Ok(Frame { sequence, message })
    }
}
