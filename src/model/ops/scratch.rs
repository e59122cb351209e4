//! Working memory of layers, which one after another uses.

use crate::kernels;

/// Each part grows to the largest layer that needs it.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Codes as rows, for convolutions over them.
    pub one_hot: OneHotRows,
    /// The last step of a convolution whose rows do not fill it.
    pub step: StepRows,
    /// A row of what an operator reads.
    pub row: Vec<f32>,
    /// A row before it is rounded.
    pub unrounded: Vec<f32>,
    /// What wide windows have in common with the one before.
    pub window: Vec<f32>,
    /// What the kernels need.
    pub kernels: kernels::Scratch,
}

/// Codes as rows of four channels, with zeros before and behind.
#[derive(Debug, Default)]
pub(crate) struct OneHotRows {
    pub integers: Vec<u8>,
    pub floats: Vec<f32>,
}

/// Room for one step: its values as floats or bytes, and what is added to them.
#[derive(Debug, Default)]
pub(crate) struct StepRows {
    pub floats: Vec<f32>,
    pub bytes: Vec<u8>,
    pub added_floats: Vec<f32>,
    pub added_bytes: Vec<u8>,
}

/// Bytes that a layer needs of the parts that are as large as its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ScratchBytes {
    pub one_hot: usize,
    pub attention: usize,
}

impl ScratchBytes {
    /// What two layers need that run one after another.
    pub(crate) fn max(self, other: ScratchBytes) -> ScratchBytes {
        ScratchBytes {
            one_hot: self.one_hot.max(other.one_hot),
            attention: self.attention.max(other.attention),
        }
    }

    /// Bytes of all parts.
    pub(crate) fn sum(self) -> usize {
        self.one_hot + self.attention
    }
}

#[cfg(all(test, feature = "pack"))]
impl Scratch {
    /// Bytes that it holds of those that [`ScratchBytes`] counts.
    pub(super) fn bytes(&self) -> usize {
        let OneHotRows { integers, floats } = &self.one_hot;
        let floats = floats.capacity() * size_of::<f32>();
        integers.capacity() + floats + self.kernels.attention_bytes()
    }
}

/// The first `count` values of a row that is kept; they are 0.
pub(super) fn zeros(row: &mut Vec<f32>, count: usize) -> &mut [f32] {
    row.clear();
    row.resize(count, 0.0);
    row
}
