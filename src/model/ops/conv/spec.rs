//! What a convolution's specification says.

use crate::kernels::Real;
use crate::kernels::{Activation, ConvShape};
use crate::model::ops::form::{RowKind, Written};
use serde::{Deserialize, Serialize};

/// What is added to a convolution before its activation: the third input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Added {
    /// Nothing.
    None,
    /// Unsigned rows times a scale.
    Unsigned(Real),
    /// Signed rows times a scale.
    Signed(Real),
    /// Float rows.
    Float,
}

impl Added {
    /// The rows of the third input, where there is one.
    pub(super) fn kind(self) -> Option<RowKind> {
        match self {
            Added::None => None,
            Added::Unsigned(scale) => Some(RowKind::Unsigned(scale)),
            Added::Signed(scale) => Some(RowKind::Signed(scale)),
            Added::Float => Some(RowKind::Float),
        }
    }
}

/// A convolution over rows or codes, or a linear layer. Inputs: rows or codes, the length, and what
/// is added. Tensors: `weight`, `bias`, and with int8 weights their `scale`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvSpec {
    /// What the kernel computes at a step: `channels_out` holds the channels of all rows of the
    /// step.
    pub shape: ConvShape,
    /// Output rows of a step: more than one where a few channels share the lanes of several
    /// positions, or where rows are repeated.
    pub step: usize,
    /// True where the input is codes.
    pub codes: bool,
    /// True where the input rows are signed.
    pub signed: bool,
    /// True where each input row is followed by its own scale.
    pub row_scales: bool,
    /// What is added.
    pub added: Added,
    /// What follows.
    #[serde(rename = "function")]
    pub activation: Activation,
    /// Inverse of the scale of an integer output, for functions that need the value in its own
    /// unit.
    pub gain: Real,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
    /// What is written.
    pub output: Written,
}

impl ConvSpec {
    /// Channels of an output row.
    pub(super) fn row_channels(&self) -> usize {
        self.shape.channels_out / self.step.max(1)
    }
}
