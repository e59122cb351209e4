//! The forms that values have between layers, and the numbers and names that several operators
//! have in their specifications.

use crate::kernels::Real;
use serde::{Deserialize, Serialize};

/// The form of a layer's first input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Codes or token ids, `[T]`.
    Codes,
    /// Rows with halo.
    Rows,
    /// Rows without halo.
    Unpadded,
    /// tract's own `[1, channels, T]`.
    Plain,
    /// A vector.
    Vector,
}

/// The form of a layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// Rows of 0 to 255, with halo.
    Unsigned,
    /// Rows of -127 to 127, with halo.
    Signed,
    /// Rows of -127 to 127, each followed by its own scale, four bytes of an f32.
    Dynamic,
    /// Float rows with halo.
    Rows,
    /// Float rows without halo: the graph's output.
    Last,
    /// A float vector.
    Vector,
    /// tract's own f32 `[1, channels, T]`.
    Plain,
}

/// Integer or float rows, and the scale of integer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// Unsigned, times a scale.
    Unsigned(Real),
    /// Signed, times a scale.
    Signed(Real),
    /// Signed, each row times the scale that follows it.
    Dynamic,
    /// Float.
    Float,
}

impl RowKind {
    /// Rows as they are written, in steps of 1.
    pub(super) fn unscaled(written: Written) -> RowKind {
        match written {
            Written::Unsigned => RowKind::Unsigned(Real::ONE),
            Written::Signed => RowKind::Signed(Real::ONE),
            _ => RowKind::Float,
        }
    }
}
