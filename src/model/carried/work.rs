//! The values of one strand while a push is worked on: one room for all reads of a worker.

use super::kept::KeptRows;
use super::network::Network;
use crate::kernels;

/// Working memory of pushes.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(super) values: Vec<Held>,
    pub(super) floats: Vec<f32>,
    pub(super) ranges: Vec<std::ops::Range<usize>>,
    pub(super) kernels: kernels::Scratch,
}

/// Rows of a value from some row on.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub from: isize,
    pub data: Vec<u8>,
}

impl Held {
    /// The row behind the last.
    pub fn end(&self, channels: usize) -> isize {
        self.from + (self.data.len() / channels) as isize
    }

    /// Where a row begins.
    pub fn place(&self, row: isize, channels: usize) -> usize {
        (row - self.from) as usize * channels
    }

    /// Adds rows of zeros.
    pub fn zeros(&mut self, rows: usize, channels: usize) {
        self.data.resize(self.data.len() + rows * channels, 0);
    }

    /// Drops the rows before this one.
    pub fn forget(&mut self, row: isize, channels: usize) {
        let rows = (row - self.from).max(0) as usize;
        let rows = rows.min(self.data.len() / channels);
        self.data.drain(..rows * channels);
        self.from += rows as isize;
    }
}

impl Work {
    /// Takes up what a read has kept.
    pub(super) fn load(&mut self, network: &Network, kept: &KeptRows) {
        self.values.resize_with(network.values.len(), Held::default);
        let mut rest = &*kept.bytes;
        let values = self.values.iter_mut().zip(&network.values);
        for ((work, value), &(from, rows)) in values.zip(&kept.held) {
            let (own, others) = rest.split_at(rows * value.channels);
            work.from = from;
            work.data.clear();
            work.data.extend_from_slice(own);
            rest = others;
        }
    }

    /// Gives back what the read keeps.
    pub(super) fn save(&self, network: &Network, kept: &mut KeptRows) {
        kept.bytes.clear();
        kept.bytes
            .reserve_exact(self.values.iter().map(|held| held.data.len()).sum());
        let values = self.values.iter().zip(&network.values);
        for ((work, value), held) in values.zip(&mut kept.held) {
            *held = (work.from, work.data.len() / value.channels);
            kept.bytes.extend_from_slice(&work.data);
        }
    }
}
