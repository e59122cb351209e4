//! A byte stream split at its zeros.

use crate::{Frame, FrameError, MAX_BODY, MAX_FRAME};
use heapless::Vec;

/// What a decoder has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes.
    pub bytes: u64,
    /// Whole frames, those of unknown kinds among them.
    pub frames: u32,
    /// Runs of bytes between zeros that are no frame.
    pub broken: u32,
    /// Frames of unknown kinds.
    pub unknown: u32,
}

/// Takes bytes as they come and gives frames. After any damage nothing is accepted until the next
/// zero; what is longer than a frame can be is dropped whole. `N` is the longest stuffed frame that
/// is accepted, without its zero.
#[derive(Debug)]
pub struct Decoder<const N: usize = { MAX_FRAME - 1 }> {
    stuffed: Vec<u8, N>,
    /// The frame at hand has grown beyond the buffer.
    overflow: bool,
    body: [u8; MAX_BODY],
    counts: Counts,
}

impl<const N: usize> Default for Decoder<N> {
    fn default() -> Self {
        Decoder::new()
    }
}

impl<const N: usize> Decoder<N> {
    /// Nothing received yet.
    pub const fn new() -> Self {
        Decoder {
            stuffed: Vec::new(),
            overflow: false,
            body: [0; MAX_BODY],
            counts: Counts {
                bytes: 0,
                frames: 0,
                broken: 0,
                unknown: 0,
            },
        }
    }

    /// What was seen so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Forgets what was received since the last zero: the line was cut.
    pub fn reset(&mut self) {
        if !self.stuffed.is_empty() || self.overflow {
            self.counts.broken += 1;
        }
        self.stuffed.clear();
        self.overflow = false;
    }

    /// Takes bytes off the front of `bytes` up to the end of the next frame, good or bad; `None`
    /// where none ends in all of them.
    pub fn next<'a>(&'a mut self, bytes: &mut &[u8]) -> Option<Result<Frame<'a>, FrameError>> {
        loop {
            let Some(end) = bytes.iter().position(|&byte| byte == 0) else {
                self.keep(bytes);
                *bytes = &[];
                return None;
            };
            self.keep(&bytes[..end]);
            self.counts.bytes += 1;
            *bytes = &bytes[end + 1..];
            // Zeros that follow one another end nothing.
            if self.overflow || !self.stuffed.is_empty() {
                break;
            }
        }
        let result = if self.overflow {
            Err(FrameError::Stuffing)
        } else {
            Frame::decode(&self.stuffed, &mut self.body)
        };
        self.stuffed.clear();
        self.overflow = false;
        match &result {
            Ok(_) => self.counts.frames += 1,
            Err(FrameError::Kind { .. }) => {
                self.counts.frames += 1;
                self.counts.unknown += 1;
            }
            Err(_) => self.counts.broken += 1,
        }
        Some(result)
    }

    /// The same for one byte.
    pub fn byte(&mut self, byte: u8) -> Option<Result<Frame<'_>, FrameError>> {
        self.next(&mut &[byte][..])
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.counts.bytes += bytes.len() as u64;
        if !self.overflow && self.stuffed.extend_from_slice(bytes).is_err() {
            self.stuffed.clear();
            self.overflow = true;
        }
    }
}
