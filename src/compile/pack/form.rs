//! What the values of the float graph have become, and the form in which a layer writes its output.

use super::listing::Wire;
use crate::kernels::Real;
use crate::model::ops::form::{RowKind, Written};
use tract_nnef::internal::*;

/// What a value of the float graph has become. `rate`: positions of the network's input for one
/// row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    /// The base codes.
    Codes,
    /// The token ids, or the flags of a cell's genes.
    Ids(Wire),
    /// The values of a cell's genes.
    Values(Wire),
    /// Integer rows.
    Integer {
        outlet: Wire,
        kind: RowKind,
        rate: usize,
    },
    /// Float rows with halo.
    Rows { outlet: Wire, rate: usize },
    /// Float rows without halo.
    Last { outlet: Wire, rate: usize },
    /// A vector.
    Vector(Wire),
    /// As in the float graph.
    Plain(Wire),
}

pub(super) fn real(value: f32) -> TractResult<Real> {
    Real::try_from(value).map_err(|e| format_err!("{e}"))
}

/// How a layer's output is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) written: Written,
    /// Of integer rows; 1 for float ones.
    pub(super) scale: f32,
    pub(super) record: Option<RowsRecord>,
}

impl Form {
    pub(super) fn float(written: Written) -> Form {
        Form {
            written,
            scale: 1.0,
            record: None,
        }
    }

    pub(super) fn is_float(&self) -> bool {
        matches!(self.written, Written::Rows | Written::Last)
    }

    pub(super) fn value(&self, outlet: Wire, rate: usize) -> TractResult<Value> {
        let scale = real(self.scale)?;
        Ok(match self.written {
            Written::Unsigned => Value::Integer {
                outlet,
                kind: RowKind::Unsigned(scale),
                rate,
            },
            Written::Signed => Value::Integer {
                outlet,
                kind: RowKind::Signed(scale),
                rate,
            },
            Written::Rows => Value::Rows { outlet, rate },
            _ => Value::Last { outlet, rate },
        })
    }
}

/// How rows were quantised.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowsRecord {
    /// One scale for all, or none where each row has its own.
    pub(super) scale: Option<f32>,
    /// In decibels.
    pub(super) signal_to_noise: f32,
}
