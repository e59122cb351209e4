//! The reference: plain loops that say what every other instruction set must reproduce to the bit.

use super::{ConvInt8, LANES, Output, finish_lanes, padded};

/// An int8 convolution; lengths have been checked by [`ConvInt8::run`].
pub fn conv_int8(conv: &ConvInt8, out: &mut Output) {
    let s = &conv.shape;
    let lanes_out = padded(s.channels_out);
    let first_row = s.first_row(conv.rows.halo);
    for position in 0..conv.rows.positions {
        for block in 0..lanes_out / LANES {
            let mut sums = [0i32; LANES];
            for tap in 0..s.width {
                let row = (first_row + position + tap * s.dilation) * s.channels_in;
                let x = &conv.input[row..row + s.channels_in];
                for (quad, bytes) in x.chunks_exact(4).enumerate() {
                    let start =
                        ((tap * (s.channels_in / 4) + quad) * lanes_out + block * LANES) * 4;
                    let w = &conv.weights[start..start + 4 * LANES];
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
