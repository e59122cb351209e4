//! Pieces of reads.

use std::time::Instant;

/// The next bases of a channel's read.
#[derive(Debug, Clone)]
pub struct Piece {
    /// The channel; it has one read at a time.
    pub channel: u16,
    /// The read's number on its channel, as the source counts.
    pub read: u32,
    /// The read's name; needed on its first piece only.
    pub name: Vec<u8>,
    /// This piece begins its read.
    pub first: bool,
    /// Bases as codes, 0 to 4.
    pub codes: Vec<u8>,
    /// Bases of the read that were lost before these.
    pub lost: u64,
    /// `Some` on the read's last piece.
    pub end: Option<PieceEnd>,
    /// When the last of the bytes it was made from came in.
    pub received: Instant,
}

impl Piece {
    /// An empty piece with room for `bases`.
    pub fn with_capacity(bases: usize) -> Piece {
        Piece {
            channel: 0,
            read: 0,
            name: Vec::with_capacity(64),
            first: false,
            codes: Vec::with_capacity(bases),
            lost: 0,
            end: None,
            received: Instant::now(),
        }
    }

    /// Empties it, keeping its buffers.
    pub fn clear(&mut self) {
        self.name.clear();
        self.codes.clear();
        self.first = false;
        self.lost = 0;
        self.end = None;
    }
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceEnd {
    /// As the sequencer meant it to.
    Complete,
    /// Its end was lost: the link broke, the device began anew, or the run was stopped.
    Partial,
}
