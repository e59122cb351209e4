//! What one read keeps of one strand between pushes.

use super::network::Carried;

/// The rows that later positions of one strand of a read still need.
#[derive(Debug, Default)]
pub(crate) struct KeptRows {
    pub(super) mirrored: bool,
    /// Codes so far.
    pub(super) codes: usize,
    /// No more will come.
    pub(super) ended: bool,
    /// The next row of each layer.
    pub(super) next: Vec<usize>,
    /// For each value the first row that is kept, and how many are. Rows before row 0 are zeros.
    pub(super) held: Vec<(isize, usize)>,
    /// Their bytes, value after value.
    pub(super) bytes: Vec<u8>,
    /// Rows of the first stage's output, where they say what the second is asked for.
    pub(super) early: FloatRows,
    /// Rows of the output.
    pub(super) output: FloatRows,
}

/// Float rows from some row on.
#[derive(Debug, Default)]
pub(super) struct FloatRows {
    pub from: usize,
    pub values: Vec<f32>,
}

impl FloatRows {
    /// The row behind the last.
    pub fn end(&self, columns: usize) -> usize {
        self.from + self.values.len() / columns
    }

    /// Drops the rows before this one.
    pub fn forget(&mut self, row: usize, columns: usize) {
        let rows = row.saturating_sub(self.from);
        let rows = rows.min(self.values.len() / columns);
        self.values.drain(..rows * columns);
        self.from += rows;
    }

    /// Becomes a copy, with no more room than it takes.
    pub fn copy(&mut self, other: &FloatRows) {
        self.from = other.from;
        self.values.clear();
        self.values.reserve_exact(other.values.len());
        self.values.extend_from_slice(&other.values);
    }

    fn clear(&mut self) {
        self.from = 0;
        self.values.clear();
    }
}

impl KeptRows {
    /// Those of a read that has not begun.
    pub(crate) fn new(carried: &Carried, mirrored: bool) -> KeptRows {
        let mut kept = KeptRows {
            mirrored,
            ..KeptRows::default()
        };
        kept.reset(carried);
        kept
    }

    /// Makes them those of another read.
    pub(crate) fn reset(&mut self, carried: &Carried) {
        let network = carried.network(self.mirrored);
        self.codes = 0;
        self.ended = false;
        self.next.clear();
        self.next.resize(network.layers.len(), 0);
        self.held.clear();
        let mut bytes = 0;
        for (number, value) in network.values.iter().enumerate() {
            // The second stage begins where it is first asked for something.
            let before = if number <= network.first_stage {
                value.pads.0
            } else {
                0
            };
            self.held.push((-(before as isize), before));
            bytes += before * value.channels;
        }
        self.bytes.clear();
        self.bytes.resize(bytes, 0);
        self.early.clear();
        self.output.clear();
    }

    /// Codes so far.
    pub(crate) fn codes(&self) -> usize {
        self.codes
    }

    /// Bytes in use.
    pub(crate) fn size(&self) -> usize {
        let floats = self.early.values.capacity() + self.output.values.capacity();
        let numbers = self.next.capacity() * size_of::<usize>();
        let held = self.held.capacity() * size_of::<(isize, usize)>();
        self.bytes.capacity() + floats * size_of::<f32>() + numbers + held
    }
}
