//! aarch64: NEON with the matrix extension (`smmla`), with the dot product extension (`sdot`), and
//! without (`smull`, `smlal`, `sadalp`).
//!
//! A tile is P positions by one block of 16 output channels, all sums in registers. All of these
//! multiply signed bytes: unsigned activations are copied once with 128 taken off, and sums get 128
//! times the column sums of the weights. A tile at the end of the rows is moved back to overlap its
//! predecessor (positions are independent, so computing some twice changes nothing); fewer than P
//! positions in all go one by one, and a block that output channels do not fill takes the scalar
//! epilogue. Blocks are not paired: sixteen bytes of activations serve four quads of inputs, so a
//! second block would save fewer loads of activations than the positions it displaces cost in loads
//! of weights.
#![allow(unsafe_code)]

mod finish;
mod tile;

use super::{Kernels, float_neon, peak_neon};
use crate::kernels::activation::Activation;
use crate::kernels::lanes::Registers;
use crate::kernels::{ConvInt8, LANES, Output, Residual, Scratch, padded};
use finish::{ADD, ANY, PLAIN, finish};
use std::arch::aarch64::*;
use std::arch::is_aarch64_feature_detected;
use tile::{
    DOT_POSITIONS, MATRIX_POSITIONS, MULL_POSITIONS, Walk, dot_tile, matrix_tile, mull_tile,
};

pub(super) const NEON: Kernels = Kernels {
    name: "neon",
    // Part of every aarch64 target of Rust's.
    available: || true,
    registers: Registers::Neon,
    conv_int8: conv_int8_mull,
    conv_float: float_neon::conv,
    dense: float_neon::dense,
    peak_int8: Some(peak_neon::NEON),
    peak_f32: Some(peak_neon::FMLA),
};

pub(super) const NEON_DOT: Kernels = Kernels {
    name: "neondot",
    available: || is_aarch64_feature_detected!("dotprod"),
    registers: Registers::NeonDot,
    conv_int8: conv_int8_dot,
    conv_float: float_neon::conv_half,
    peak_int8: Some(peak_neon::NEON_DOT),
    peak_f32: None,
    ..NEON
};

pub(super) const NEON_I8MM: Kernels = Kernels {
    name: "neoni8mm",
    available: || is_aarch64_feature_detected!("dotprod") && is_aarch64_feature_detected!("i8mm"),
    conv_int8: conv_int8_matrix,
    peak_int8: Some(peak_neon::NEON_I8MM),
    ..NEON_DOT
};

/// # Safety
/// [`ConvInt8::run`] has checked the lengths: every pointer below is derived from them. NEON is
/// part of every aarch64 target of Rust's.
unsafe fn conv_int8_mull(conv: &ConvInt8, scratch: &mut Scratch, out: &mut Output) {
    // SAFETY: the caller's; a copy is as long as the input.
    unsafe { mull(conv, signed(conv, scratch), out) }
}

/// # Safety
/// As above, and [`NEON_DOT`] is available.
unsafe fn conv_int8_dot(conv: &ConvInt8, scratch: &mut Scratch, out: &mut Output) {
    // SAFETY: the caller's; a copy is as long as the input.
    unsafe { dot(conv, signed(conv, scratch), out) }
}

/// # Safety
/// As above, and [`NEON_I8MM`] is available.
unsafe fn conv_int8_matrix(conv: &ConvInt8, scratch: &mut Scratch, out: &mut Output) {
    // SAFETY: the caller's; a copy is as long as the input.
    unsafe { i8mm(conv, signed(conv, scratch), out) }
}

/// The activations as signed bytes.
fn signed<'a>(conv: &ConvInt8<'a>, scratch: &'a mut Scratch) -> &'a [u8] {
    if conv.signed_input {
        conv.input.data
    } else {
        scratch.flipped(conv.input.data)
    }
}

/// What the sums of a block lack where 128 was taken off every activation.
fn begin(conv: &ConvInt8, block: usize, block_len: usize) -> [i32; LANES] {
    let mut sums = [0; LANES];
    if !conv.signed_input {
        let weights = &conv.weights[block * block_len..(block + 1) * block_len];
        for line in weights.chunks_exact(4 * LANES) {
            for (sum, four) in sums.iter_mut().zip(line.chunks_exact(4)) {
                *sum += 128 * four.iter().map(|&w| i32::from(w)).sum::<i32>();
            }
        }
    }
    sums
}

#[target_feature(enable = "neon")]
#[inline]
fn add<const P: usize>(sums: &mut [[int32x4_t; 4]; P], begin: &[i32; LANES]) {
    for sums in sums {
        for (sum, begin) in sums.iter_mut().zip(begin.chunks_exact(4)) {
            // SAFETY: four i32 are there.
            *sum = vaddq_s32(*sum, unsafe { vld1q_s32(begin.as_ptr()) });
        }
    }
}

/// All tiles of a convolution: `$tile` gives the sums of `$p` positions, `$one` those of one.
macro_rules! conv_neon {
    ($conv:ident, $rows:ident, $features:literal, $p:expr, $tile:expr, $one:expr) => {
        #[target_feature(enable = $features)]
        unsafe fn $conv(conv: &ConvInt8, input: &[u8], out: &mut Output) {
            // SAFETY: forwarded from the caller.
            let walk = unsafe { Walk::new(conv, input) };
            let plain = conv.activation == Activation::Identity && !conv.row_scales;
            // SAFETY: forwarded from the caller.
            unsafe {
                match conv.residual {
                    Residual::None if plain => $rows::<PLAIN>(conv, &walk, out),
                    Residual::Unsigned(..) if plain => $rows::<ADD>(conv, &walk, out),
                    _ => $rows::<ANY>(conv, &walk, out),
                }
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $rows<const KIND: u8>(conv: &ConvInt8, walk: &Walk, out: &mut Output) {
            let positions = conv.positions;
            for block in 0..padded(conv.shape.channels_out) / LANES {
                // SAFETY: forwarded from the caller; the block and the positions of every tile
                // exist.
                unsafe {
                    let weights = walk.weights.add(block * walk.block);
                    let begin = begin(conv, block, walk.block);
                    if positions >= $p {
                        let mut start = 0;
                        while start < positions {
                            let at = start.min(positions - $p);
                            let mut sums = $tile(walk, weights, at);
                            add(&mut sums, &begin);
                            finish::<{ $p }, KIND>(conv, sums, at, block, out);
                            start += $p;
                        }
                    } else {
                        for at in 0..positions {
                            let mut sums = $one(walk, weights, at);
                            add(&mut sums, &begin);
                            finish::<1, KIND>(conv, sums, at, block, out);
                        }
                    }
                }
            }
        }
    };
}

conv_neon!(
    i8mm,
    rows_i8mm,
    "neon,dotprod,i8mm",
    MATRIX_POSITIONS,
    matrix_tile,
    dot_tile::<1>
);
conv_neon!(
    dot,
    rows_dot,
    "neon,dotprod",
    DOT_POSITIONS,
    dot_tile::<DOT_POSITIONS>,
    dot_tile::<1>
);
conv_neon!(
    mull,
    rows_mull,
    "neon",
    MULL_POSITIONS,
    mull_tile::<MULL_POSITIONS>,
    mull_tile::<1>
);
