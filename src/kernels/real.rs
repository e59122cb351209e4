//! A number of a specification.

use serde::{Deserialize, Serialize};

/// A finite f32 below 1e12, equal to itself by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Real(u32);

impl Real {
    /// 1.
    pub const ONE: Real = Real(1f32.to_bits());

    /// As a number.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl TryFrom<f32> for Real {
    type Error = String;
    fn try_from(value: f32) -> Result<Real, String> {
        if value.abs() < 1e12 {
            Ok(Real(value.to_bits()))
        } else {
            Err(format!("{value} is not below 1e12"))
        }
    }
}

impl From<Real> for f32 {
    fn from(value: Real) -> f32 {
        value.get()
    }
}
