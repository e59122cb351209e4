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
//!
//! `sdot` and `smmla` are written as assembly because their intrinsics are not stable; `asm!` is,
//! and every operand is a register.
//!
//! The epilogue needs no clamp in float: conversions to integers saturate, and so does narrowing
//! them.
#![allow(unsafe_code)]

use super::float_neon::{self, activate, load, store};
use super::{Kernels, peak_neon};
use crate::kernels::activation::Activation;
use crate::kernels::conv::finish_lanes;
use crate::kernels::lanes::Registers;
use crate::kernels::{ConvInt8, LANES, Output, Residual, Scratch, padded};
use std::arch::aarch64::*;
use std::arch::asm;
use std::arch::is_aarch64_feature_detected;

/// Positions of a tile with `sdot`: 20 registers of sums, 5 of activations, 4 of weights.
const DOT_POSITIONS: usize = 5;

/// Positions of a tile with `smull`: 16 registers of sums (two partial sums a channel), 4 of
/// activations.
const MULL_POSITIONS: usize = 2;

/// Pairs of positions of a tile with `smmla`: 24 registers of sums, 3 of activations, 4 of weights.
const PAIRS: usize = 3;
const MATRIX_POSITIONS: usize = 2 * PAIRS;

pub(super) const NEON: Kernels = Kernels {
    name: "neon",
    // Part of every aarch64 target of Rust's.
    available: || true,
    registers: Registers::Neon,
    conv_int8: |conv, scratch, out| {
        let input = signed(conv, scratch);
        // SAFETY: NEON is there; the caller has checked the lengths.
        unsafe { mull(conv, input, out) }
    },
    conv_float: float_neon::conv,
    dense: float_neon::dense,
    peak_int8: Some(peak_neon::NEON),
    peak_f32: Some(peak_neon::FMLA),
};

pub(super) const NEON_DOT: Kernels = Kernels {
    name: "neondot",
    available: || is_aarch64_feature_detected!("dotprod"),
    registers: Registers::NeonDot,
    conv_int8: |conv, scratch, out| {
        let input = signed(conv, scratch);
        // SAFETY: called only where the set is available; the caller has checked the lengths.
        unsafe { dot(conv, input, out) }
    },
    conv_float: float_neon::conv_half,
    peak_int8: Some(peak_neon::NEON_DOT),
    peak_f32: None,
    ..NEON
};

pub(super) const NEON_I8MM: Kernels = Kernels {
    name: "neoni8mm",
    available: || is_aarch64_feature_detected!("dotprod") && is_aarch64_feature_detected!("i8mm"),
    conv_int8: |conv, scratch, out| {
        let input = signed(conv, scratch);
        // SAFETY: as above.
        unsafe { i8mm(conv, input, out) }
    },
    peak_int8: Some(peak_neon::NEON_I8MM),
    ..NEON_DOT
};

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

/// Addresses and steps in bytes that all tiles share.
struct Walk {
    /// Tap 0 of position 0.
    x: *const u8,
    /// From one position to the next.
    row: usize,
    /// From one tap to the next.
    tap: usize,
    taps: usize,
    /// Quads of input channels of a tap.
    quads: usize,
    weights: *const i8,
    /// From one block of output channels to the next.
    block: usize,
}

impl Walk {
    /// `input` is that of the convolution, or its shifted copy.
    fn new(conv: &ConvInt8, input: &[u8]) -> Walk {
        let s = &conv.shape;
        let tap = s.dilation * conv.input.pitch;
        // Taps that follow each other without a gap are one tap of more channels: weights follow
        // each other in the same order.
        let (taps, channels) = if tap == s.channels_in {
            (1, s.width * s.channels_in)
        } else {
            (s.width, s.channels_in)
        };
        Walk {
            // SAFETY: ConvInt8::run has checked that the rows before row 0 exist.
            x: unsafe {
                let first = input.as_ptr().add(conv.input.first);
                first.sub(s.before * tap)
            },
            row: s.stride * conv.input.pitch,
            tap,
            taps,
            quads: channels / 4,
            weights: conv.weights.as_ptr(),
            block: s.width * s.channels_in * LANES,
        }
    }
}

/// All tiles of a convolution: `$tile` gives the sums of `$p` positions, `$one` those of one.
macro_rules! conv_neon {
    ($conv:ident, $rows:ident, $features:literal, $p:expr, $tile:expr, $one:expr) => {
        #[target_feature(enable = $features)]
        unsafe fn $conv(conv: &ConvInt8, input: &[u8], out: &mut Output) {
            let walk = Walk::new(conv, input);
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

// ---- sdot ----

/// `sum[i] += w[4i..4i + 4] · x[4·QUAD..4·QUAD + 4]`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
fn sdot<const QUAD: usize>(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: reads and writes only the registers named; dotprod is enabled for this function.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{quad}]",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg) x,
            quad = const QUAD,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// One quad of input channels of P positions: the 64 bytes of weights at `w` against quad `QUAD` of
/// each `x`.
///
/// # Safety
/// 64 bytes can be read at `w`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn dot_quad<const QUAD: usize, const P: usize>(
    sums: &mut [[int32x4_t; 4]; P],
    w: *const i8,
    x: &[int8x16_t; P],
) {
    // SAFETY: 64 bytes, as the caller promises.
    let w = unsafe {
        [
            vld1q_s8(w),
            vld1q_s8(w.add(16)),
            vld1q_s8(w.add(32)),
            vld1q_s8(w.add(48)),
        ]
    };
    for (sums, &x) in sums.iter_mut().zip(x) {
        for (sum, &w) in sums.iter_mut().zip(&w) {
            *sum = sdot::<QUAD>(*sum, w, x);
        }
    }
}

/// The sums of P positions from `start`.
#[target_feature(enable = "neon,dotprod")]
#[inline]
unsafe fn dot_tile<const P: usize>(
    walk: &Walk,
    weights: *const i8,
    start: usize,
) -> [[int32x4_t; 4]; P] {
    let mut sums = [[vdupq_n_s32(0); 4]; P];
    let mut w = weights;
    // SAFETY: start + P <= positions, so all rows exist that taps and positions name, and each is
    // read in 16 bytes only where 16 of its channels are left; every block has taps · quads lines
    // of 64 bytes.
    unsafe {
        let mut x_tap = walk.x.add(start * walk.row);
        for _ in 0..walk.taps {
            let mut quad = 0;
            while quad + 4 <= walk.quads {
                let mut x = [vdupq_n_s8(0); P];
                for (p, x) in x.iter_mut().enumerate() {
                    *x = vld1q_s8(x_tap.add(p * walk.row + quad * 4).cast());
                }
                dot_quad::<0, P>(&mut sums, w, &x);
                dot_quad::<1, P>(&mut sums, w.add(64), &x);
                dot_quad::<2, P>(&mut sums, w.add(128), &x);
                dot_quad::<3, P>(&mut sums, w.add(192), &x);
                w = w.add(256);
                quad += 4;
            }
            while quad < walk.quads {
                let mut x = [vdupq_n_s8(0); P];
                for (p, x) in x.iter_mut().enumerate() {
                    *x = broadcast(x_tap.add(p * walk.row + quad * 4));
                }
                dot_quad::<0, P>(&mut sums, w, &x);
                w = w.add(64);
                quad += 1;
            }
            x_tap = x_tap.add(walk.tap);
        }
    }
    sums
}

// ---- smmla ----

/// Two quads of input channels of all pairs. Lines of weights hold four inputs a channel where
/// `smmla` wants eight: two lines are interleaved, one `zip` for every three `smmla`. `smmla` adds
/// two rows of eight activations by two channels of eight weights, `[position][channel]`.
#[target_feature(enable = "neon,i8mm")]
#[inline]
fn matrix_quads(
    sums: &mut [[int32x4_t; 8]; PAIRS],
    line: impl Fn(usize) -> [int8x16_t; 2],
    x: &[int8x16_t; PAIRS],
) {
    let [first, second, third] = sums;
    for i in 0..4 {
        let [a, b] = line(i);
        // One block, because 24 sums leave the compiler too few registers to order it without
        // copies. SAFETY: reads and writes only the registers named; i8mm is enabled for this
        // function.
        unsafe {
            asm!(
                "zip1 {w:v}.4s, {a:v}.4s, {b:v}.4s",
                "smmla {s0:v}.4s, {x0:v}.16b, {w:v}.16b",
                "smmla {s1:v}.4s, {x1:v}.16b, {w:v}.16b",
                "smmla {s2:v}.4s, {x2:v}.16b, {w:v}.16b",
                "zip2 {w:v}.4s, {a:v}.4s, {b:v}.4s",
                "smmla {t0:v}.4s, {x0:v}.16b, {w:v}.16b",
                "smmla {t1:v}.4s, {x1:v}.16b, {w:v}.16b",
                "smmla {t2:v}.4s, {x2:v}.16b, {w:v}.16b",
                w = out(vreg) _,
                a = in(vreg) a,
                b = in(vreg) b,
                x0 = in(vreg) x[0],
                x1 = in(vreg) x[1],
                x2 = in(vreg) x[2],
                s0 = inout(vreg) first[2 * i],
                s1 = inout(vreg) second[2 * i],
                s2 = inout(vreg) third[2 * i],
                t0 = inout(vreg) first[2 * i + 1],
                t1 = inout(vreg) second[2 * i + 1],
                t2 = inout(vreg) third[2 * i + 1],
                options(nostack, preserves_flags),
            );
        }
    }
}

/// The sums of MATRIX_POSITIONS from `start`.
#[target_feature(enable = "neon,i8mm")]
#[inline]
unsafe fn matrix_tile(
    walk: &Walk,
    weights: *const i8,
    start: usize,
) -> [[int32x4_t; 4]; MATRIX_POSITIONS] {
    // Register i of a pair: channels 2i and 2i + 1 of its first position, then of its second.
    let mut pairs = [[vdupq_n_s32(0); 8]; PAIRS];
    let mut w = weights;
    // SAFETY: as in dot_tile; rows are read eight bytes at a time, or four where no more are left.
    unsafe {
        let mut x_tap = walk.x.add(start * walk.row);
        for _ in 0..walk.taps {
            let mut quad = 0;
            while quad + 2 <= walk.quads {
                let mut x = [vdupq_n_s8(0); PAIRS];
                for (pair, x) in x.iter_mut().enumerate() {
                    let at = x_tap.add(2 * pair * walk.row + quad * 4).cast::<i8>();
                    *x = vcombine_s8(vld1_s8(at), vld1_s8(at.add(walk.row)));
                }
                let line = |i: usize| [vld1q_s8(w.add(i * 16)), vld1q_s8(w.add(64 + i * 16))];
                matrix_quads(&mut pairs, line, &x);
                w = w.add(128);
                quad += 2;
            }
            if quad < walk.quads {
                let mut x = [vdupq_n_s8(0); PAIRS];
                for (pair, x) in x.iter_mut().enumerate() {
                    let at = x_tap.add(2 * pair * walk.row + quad * 4);
                    let first = u64::from(at.cast::<u32>().read_unaligned());
                    let second = u64::from(at.add(walk.row).cast::<u32>().read_unaligned());
                    *x = vcombine_s8(vcreate_s8(first), vcreate_s8(second));
                }
                let line = |i: usize| [vld1q_s8(w.add(i * 16)), vdupq_n_s8(0)];
                matrix_quads(&mut pairs, line, &x);
                w = w.add(64);
            }
            x_tap = x_tap.add(walk.tap);
        }
    }
    let mut sums = [[vdupq_n_s32(0); 4]; MATRIX_POSITIONS];
    for (sums, pair) in sums.chunks_exact_mut(2).zip(&pairs) {
        for i in 0..4 {
            let a = vreinterpretq_s64_s32(pair[2 * i]);
            let b = vreinterpretq_s64_s32(pair[2 * i + 1]);
            sums[0][i] = vreinterpretq_s32_s64(vzip1q_s64(a, b));
            sums[1][i] = vreinterpretq_s32_s64(vzip2q_s64(a, b));
        }
    }
    sums
}

// ---- smull, smlal, sadalp ----

/// The sums of P positions from `start`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn mull_tile<const P: usize>(
    walk: &Walk,
    weights: *const i8,
    start: usize,
) -> [[int32x4_t; 4]; P] {
    // Register i of a position holds channels 2i and 2i + 1, each as two partial sums.
    let mut parts = [[vdupq_n_s32(0); 8]; P];
    let mut w = weights;
    // SAFETY: as in dot_tile; rows are read four bytes at a time.
    unsafe {
        let mut x_tap = walk.x.add(start * walk.row);
        for _ in 0..walk.taps {
            let mut quad = 0;
            while quad + 2 <= walk.quads {
                let mut x = [[vdup_n_s8(0); 2]; P];
                for (p, x) in x.iter_mut().enumerate() {
                    let at = x_tap.add(p * walk.row + quad * 4);
                    *x = [broadcast(at), broadcast(at.add(4))].map(|x| vget_low_s8(x));
                }
                for i in 0..8 {
                    let w = [vld1_s8(w.add(i * 8)), vld1_s8(w.add(64 + i * 8))];
                    for (parts, x) in parts.iter_mut().zip(&x) {
                        // Two products fit 16 bits: 2 · 128 · 127 < 32768.
                        let pair = vmlal_s8(vmull_s8(w[0], x[0]), w[1], x[1]);
                        parts[i] = vpadalq_s16(parts[i], pair);
                    }
                }
                w = w.add(128);
                quad += 2;
            }
            if quad < walk.quads {
                for (p, parts) in parts.iter_mut().enumerate() {
                    let x = vget_low_s8(broadcast(x_tap.add(p * walk.row + quad * 4)));
                    for (i, part) in parts.iter_mut().enumerate() {
                        *part = vpadalq_s16(*part, vmull_s8(vld1_s8(w.add(i * 8)), x));
                    }
                }
                w = w.add(64);
            }
            x_tap = x_tap.add(walk.tap);
        }
    }
    let mut sums = [[vdupq_n_s32(0); 4]; P];
    for (sums, parts) in sums.iter_mut().zip(&parts) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = vpaddq_s32(parts[2 * i], parts[2 * i + 1]);
        }
    }
    sums
}

/// Four bytes, four times.
///
/// # Safety
/// Four bytes can be read at `x`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn broadcast(x: *const u8) -> int8x16_t {
    // SAFETY: four bytes, as the caller promises.
    let bytes = unsafe { x.cast::<i32>().read_unaligned() };
    vreinterpretq_s8_s32(vdupq_n_s32(bytes))
}

// ---- epilogue ----

/// No residual, row scale or activation.
const PLAIN: u8 = 0;
/// An unsigned residual, no row scale or activation.
const ADD: u8 = 1;
/// Anything else, looked at position by position.
const ANY: u8 = 2;

/// The epilogue of a tile; see the module docs of `kernels` for the formula.
///
/// # Safety
/// The positions and `block` exist in `conv`, whose lengths have been checked.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn finish<const P: usize, const KIND: u8>(
    conv: &ConvInt8,
    sums: [[int32x4_t; 4]; P],
    start: usize,
    block: usize,
    out: &mut Output,
) {
    let first = block * LANES;
    if conv.shape.channels_out - first < LANES {
        for (p, sums) in sums.into_iter().enumerate() {
            let mut values = [0i32; LANES];
            for (sum, values) in sums.into_iter().zip(values.chunks_exact_mut(4)) {
                // SAFETY: four i32 fit the chunk.
                unsafe { vst1q_s32(values.as_mut_ptr(), sum) };
            }
            finish_lanes(conv, &values, start + p, block, out);
        }
        return;
    }
    // SAFETY: scale and bias hold padded(channels_out) values.
    let (scale, bias) = unsafe {
        (
            load(conv.scale.as_ptr().add(first)),
            load(conv.bias.as_ptr().add(first)),
        )
    };
    for (p, sums) in sums.into_iter().enumerate() {
        let position = start + p;
        let mut y = sums.map(|sum| vcvtq_f32_s32(sum));
        if KIND == ANY
            && let Some(scale) = conv.row_scale(position)
        {
            for y in &mut y {
                *y = vmulq_n_f32(*y, scale);
            }
        }
        for (i, y) in y.iter_mut().enumerate() {
            *y = vfmaq_f32(bias[i], *y, scale[i]);
        }
        if KIND == ANY && conv.activation == Activation::ReluFirst {
            y = activate(y, Activation::Relu, 1.0);
        }
        // SAFETY: residual and output have channels_out values at each position, checked in
        // ConvInt8::run, and 16 channels from `first` exist, tested above.
        unsafe {
            match &conv.residual {
                Residual::Unsigned(rows, scale) if KIND != PLAIN => {
                    let at = rows.first + position * rows.pitch + first;
                    let bytes = vld1q_u8(rows.data.as_ptr().add(at));
                    let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
                    let words = [
                        vmovl_u16(vget_low_u16(low)),
                        vmovl_high_u16(low),
                        vmovl_u16(vget_low_u16(high)),
                        vmovl_high_u16(high),
                    ];
                    for (y, word) in y.iter_mut().zip(words) {
                        *y = vfmaq_n_f32(*y, vcvtq_f32_u32(word), *scale);
                    }
                }
                Residual::Signed(rows, scale) if KIND == ANY => {
                    let at = rows.first + position * rows.pitch + first;
                    let bytes = vld1q_s8(rows.data.as_ptr().add(at).cast());
                    let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
                    let words = [
                        vmovl_s16(vget_low_s16(low)),
                        vmovl_high_s16(low),
                        vmovl_s16(vget_low_s16(high)),
                        vmovl_high_s16(high),
                    ];
                    for (y, word) in y.iter_mut().zip(words) {
                        *y = vfmaq_n_f32(*y, vcvtq_f32_s32(word), *scale);
                    }
                }
                Residual::Float(rows) if KIND == ANY => {
                    let at = rows.first + position * rows.pitch + first;
                    let values = load(rows.data.as_ptr().add(at));
                    for (y, value) in y.iter_mut().zip(values) {
                        *y = vaddq_f32(*y, value);
                    }
                }
                _ => (),
            }
        }
        if KIND == ANY {
            y = activate(y, conv.activation, conv.gain);
        }
        match out {
            // SAFETY: as above.
            Output::Unsigned(rows) => unsafe {
                let at = rows.first + position * rows.pitch + first;
                vst1q_u8(rows.data.as_mut_ptr().add(at), narrow_unsigned(y));
            },
            // SAFETY: as above.
            Output::Signed(rows) => unsafe {
                let at = rows.first + position * rows.pitch + first;
                vst1q_s8(rows.data.as_mut_ptr().add(at).cast(), narrow_signed(y));
            },
            // SAFETY: as above.
            Output::Float(rows) => unsafe {
                let at = rows.first + position * rows.pitch + first;
                store(rows.data.as_mut_ptr().add(at), y);
            },
        }
    }
}

/// Rounds ties to even and saturates to i16: the conversion saturates at the ends of i32 and makes
/// NaN 0.
#[target_feature(enable = "neon")]
#[inline]
fn shorts(y: [float32x4_t; 4]) -> [int16x8_t; 2] {
    let low = vqmovn_s32(vcvtnq_s32_f32(y[0]));
    let high = vqmovn_s32(vcvtnq_s32_f32(y[2]));
    [
        vqmovn_high_s32(low, vcvtnq_s32_f32(y[1])),
        vqmovn_high_s32(high, vcvtnq_s32_f32(y[3])),
    ]
}

/// To 0 to 255.
#[target_feature(enable = "neon")]
#[inline]
fn narrow_unsigned(y: [float32x4_t; 4]) -> uint8x16_t {
    let [low, high] = shorts(y);
    vqmovun_high_s16(vqmovun_s16(low), high)
}

/// To -127 to 127.
#[target_feature(enable = "neon")]
#[inline]
fn narrow_signed(y: [float32x4_t; 4]) -> int8x16_t {
    let [low, high] = shorts(y);
    vmaxq_s8(vqmovn_high_s16(vqmovn_s16(low), high), vdupq_n_s8(-127))
}
