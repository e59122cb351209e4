//! The values of one strand while a push is worked on: one room for all reads of a worker.

use super::kept::{FloatRows, KeptRows};
use super::network::Network;
use crate::kernels;
use std::ops::Range;

/// Working memory of pushes.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(super) values: Vec<Held>,
    pub(super) early: FloatRows,
    pub(super) output: FloatRows,
    pub(super) floats: Vec<f32>,
    pub(super) ranges: Vec<Range<usize>>,
    pub(super) kernels: kernels::Scratch,
    pub(super) cost: LookCost,
}

/// What the second look at a sequence costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LookCost {
    /// Positions that the first stage did not rule out.
    pub survivors: u64,
    /// Rows that the second stage computed, all its layers together.
    pub rows: u64,
    /// Layers of the second stage.
    pub layers: u64,
}

/// Rows of a value from some row on. What stands behind them is left over from other pushes: most
/// of it is overwritten next.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub from: isize,
    used: usize,
    data: Vec<u8>,
}

impl Held {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.data[..self.used]
    }

    /// The row behind the last.
    pub fn end(&self, channels: usize) -> isize {
        self.from + (self.used / channels) as isize
    }

    /// Where a row begins.
    pub fn place(&self, row: isize, channels: usize) -> usize {
        (row - self.from) as usize * channels
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Makes room for so many bytes more, which hold anything, and gives the whole with the place
    /// where they begin.
    pub fn grow(&mut self, bytes: usize) -> (&mut [u8], usize) {
        let begin = self.used;
        self.used += bytes;
        if self.data.len() < self.used {
            self.data.resize(self.used, 0);
        }
        (&mut self.data[..self.used], begin)
    }

    /// Adds rows of zeros.
    pub fn zeros(&mut self, rows: usize, channels: usize) {
        let (all, begin) = self.grow(rows * channels);
        all[begin..].fill(0);
    }

    /// Lets bytes up to `end` be read, of which there may be fewer: the others are anything.
    pub fn reserve(&mut self, end: usize) {
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
    }

    /// Bytes that were reserved.
    pub fn reserved(&self, range: Range<usize>) -> &[u8] {
        &self.data[range]
    }

    /// Drops the rows before this one.
    pub fn forget(&mut self, row: isize, channels: usize) {
        let rows = (row - self.from).max(0) as usize;
        let rows = rows.min(self.used / channels);
        self.data.copy_within(rows * channels..self.used, 0);
        self.used -= rows * channels;
        self.from += rows as isize;
    }

    fn load(&mut self, from: isize, bytes: &[u8]) {
        (self.from, self.used) = (from, 0);
        let (all, _) = self.grow(bytes.len());
        all.copy_from_slice(bytes);
    }
}

impl Work {
    /// The output's rows, with the number of the first, in order of the bases.
    pub(crate) fn output(&self) -> (usize, &[f32]) {
        (self.output.from, &self.output.values)
    }

    /// Takes up what a read has kept.
    pub(super) fn load(&mut self, network: &Network, kept: &KeptRows) {
        self.early.copy(&kept.early);
        self.output.copy(&kept.output);
        // Networks take turns, and the largest has its room in the end.
        if self.values.len() < network.values.len() {
            self.values.resize_with(network.values.len(), Held::default);
        }
        let mut rest = &*kept.bytes;
        let values = self.values.iter_mut().zip(&network.values);
        for ((work, value), &(from, rows)) in values.zip(&kept.held) {
            let (own, others) = rest.split_at(rows * value.channels);
            work.load(from, own);
            rest = others;
        }
    }

    /// Gives back what the read keeps.
    pub(super) fn save(&self, network: &Network, kept: &mut KeptRows) {
        kept.early.copy(&self.early);
        kept.output.copy(&self.output);
        kept.bytes.clear();
        let values = self.values.iter().zip(&network.values);
        let bytes = values.map(|(held, _)| held.bytes().len());
        kept.bytes.reserve_exact(bytes.sum());
        let values = self.values.iter().zip(&network.values);
        for ((work, value), held) in values.zip(&mut kept.held) {
            let bytes = work.bytes();
            *held = (work.from, bytes.len() / value.channels);
            kept.bytes.extend_from_slice(bytes);
        }
    }
}
