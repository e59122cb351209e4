//! The reference: plain loops that say what every other instruction set must reproduce to the bit.

use super::Kernels;
use crate::kernels::conv::finish_lanes;
use crate::kernels::lanes::Registers;
use crate::kernels::{ConvInt8, LANES, Output, dense, float, padded};

pub(super) const SCALAR: Kernels = Kernels {
    name: "scalar",
    available: || true,
    registers: Registers::Scalar,
    conv_int8: |conv, _, out| conv_int8(conv, out),
    conv_float: float::scalar,
    dense: dense::scalar,
    peak_int8: None,
    peak_f32: None,
};

/// An int8 convolution; lengths have been checked by [`ConvInt8::run`].
pub(in crate::kernels) fn conv_int8(conv: &ConvInt8, out: &mut Output) {
    let s = &conv.shape;
    let pitch = conv.input.pitch;
    let first = conv.input.first - s.before * s.dilation * pitch;
    let block_len = s.width * s.channels_in * LANES;
    for position in 0..conv.positions {
        for block in 0..padded(s.channels_out) / LANES {
            let mut sums = [0i32; LANES];
            let mut weights =
                conv.weights[block * block_len..][..block_len].chunks_exact(4 * LANES);
            for tap in 0..s.width {
                let at = first + (position * s.stride + tap * s.dilation) * pitch;
                let x = &conv.input.data[at..at + s.channels_in];
                for (bytes, w) in x.chunks_exact(4).zip(&mut weights) {
                    for (sum, w) in sums.iter_mut().zip(w.chunks_exact(4)) {
                        for (&b, &w) in bytes.iter().zip(w) {
                            let x = if conv.signed_input {
                                i32::from(b as i8)
                            } else {
                                i32::from(b)
                            };
                            *sum += x * i32::from(w);
                        }
                    }
                }
            }
            finish_lanes(conv, &sums, position, block, out);
        }
    }
}
