//! Scales of activations by calibration, and weights as the kernels read them.

mod calibrate;
mod weights;

pub use calibrate::{Ranges, measure};
pub use weights::{Layout, conv_weights, dense_weights, float_conv_weights, table_rows};
