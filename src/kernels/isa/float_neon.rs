//! Float convolutions and dense layers on aarch64: f32 `fmla`, and fp16 `fmla` for fp16 weights
//! where the processor has it.
//!
//! A tile is P positions by one block of 16 output channels. In f32: 5 positions, 20 registers of
//! sums, 5 of inputs, 4 of weights. In fp16: 8 positions, 16 registers of sums that hold a run of
//! products, 8 of inputs, 2 of weights; the f32 sums wait in memory. A tile at the end of the rows
//! is moved back to overlap its predecessor; fewer positions than a tile holds go one by one.
//!
//! fp16 is written as assembly, since its vector types and conversions are newer than the oldest
//! compiler supported.
#![allow(unsafe_code)]

use crate::kernels::activation::Activation;
use crate::kernels::dense::Columns;
use crate::kernels::float::{ConvFloat, HALF_RUN, Walk, Weights, finish_lanes};
use crate::kernels::{LANES, Target, lanes, padded};
use std::arch::aarch64::*;
use std::arch::asm;

/// Positions of a tile in f32.
const SINGLE_POSITIONS: usize = 5;

/// Positions of a tile in fp16.
const HALF_POSITIONS: usize = 8;

/// # Safety
/// [`ConvFloat::run`] has checked the lengths: every pointer below is derived from them. NEON is
/// part of every aarch64 target of Rust's.
pub(super) unsafe fn conv(conv: &ConvFloat, out: &mut Target<f32>) {
    // SAFETY: the caller's.
    unsafe {
        match conv.weights {
            Weights::F16(w) => singles::<true>(conv, &Walk::new(conv, w.as_ptr().cast(), 2), out),
            Weights::F32(w) => singles::<false>(conv, &Walk::new(conv, w.as_ptr().cast(), 4), out),
        }
    }
}

/// The same, in fp16 where weights and processor are.
///
/// # Safety
/// As above.
pub(super) unsafe fn conv_half(conv_: &ConvFloat, out: &mut Target<f32>) {
    match conv_.weights {
        Weights::F16(w) if std::arch::is_aarch64_feature_detected!("fp16") => {
            // SAFETY: the feature is there; lengths are the caller's.
            unsafe { halves(conv_, &Walk::new(conv_, w.as_ptr().cast(), 2), out) }
        }
        // SAFETY: the caller's.
        _ => unsafe { conv(conv_, out) },
    }
}

/// 16 values as they lie in memory.
///
/// # Safety
/// 16 values can be read at `from`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn load(from: *const f32) -> [float32x4_t; 4] {
    // SAFETY: forwarded to the caller.
    unsafe {
        [
            vld1q_f32(from),
            vld1q_f32(from.add(4)),
            vld1q_f32(from.add(8)),
            vld1q_f32(from.add(12)),
        ]
    }
}

/// The opposite.
///
/// # Safety
/// 16 values can be written at `to`.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn store(to: *mut f32, y: [float32x4_t; 4]) {
    for (i, y) in y.into_iter().enumerate() {
        // SAFETY: forwarded to the caller.
        unsafe { vst1q_f32(to.add(i * 4), y) };
    }
}

#[target_feature(enable = "neon")]
#[inline]
pub(super) fn activate(y: [float32x4_t; 4], activation: Activation, gain: f32) -> [float32x4_t; 4] {
    match activation {
        Activation::Relu => {
            // `fmax` would keep NaN; a mask makes -0 and NaN +0, like the reference.
            y.map(|y| {
                let positive = vcgtq_f32(y, vdupq_n_f32(0.0));
                vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(y), positive))
            })
        }
        Activation::Gelu => {
            let y = lanes::activate_neon(Activation::Gelu, y);
            y.map(|y| vmulq_n_f32(y, gain))
        }
        Activation::LeakyRelu { slope } => lanes::activate_neon(Activation::LeakyRelu { slope }, y),
        // A ReLU that comes first has been applied before the residual.
        _ => y,
    }
}

/// Adds the residual, applies the activation and writes.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn finish<const P: usize>(
    conv: &ConvFloat,
    sums: [[float32x4_t; 4]; P],
    start: usize,
    block: usize,
    out: &mut Target<f32>,
) {
    let first = block * LANES;
    for (p, mut y) in sums.into_iter().enumerate() {
        // SAFETY: residual and output have channels_out values at each position, checked in
        // ConvFloat::run; a block that is not full goes through finish_lanes.
        unsafe {
            if conv.shape.channels_out - first < LANES {
                let mut values = [0f32; LANES];
                store(values.as_mut_ptr(), y);
                finish_lanes(conv, &values, start + p, block, out);
                continue;
            }
            if conv.activation == Activation::ReluFirst {
                y = activate(y, Activation::Relu, 1.0);
            }
            if let Some(rows) = &conv.residual {
                let at = rows.first + (start + p) * rows.pitch + first;
                for (y, value) in y.iter_mut().zip(load(rows.data.as_ptr().add(at))) {
                    *y = vaddq_f32(*y, value);
                }
            }
            let at = out.first + (start + p) * out.pitch + first;
            let y = activate(y, conv.activation, 1.0);
            store(out.data.as_mut_ptr().add(at), y);
        }
    }
}

// ---- f32 ----

#[target_feature(enable = "neon")]
unsafe fn singles<const HALF: bool>(conv: &ConvFloat, walk: &Walk, out: &mut Target<f32>) {
    let positions = conv.positions;
    for block in 0..padded(conv.shape.channels_out) / LANES {
        // SAFETY: forwarded from the caller; the block and the positions of every tile exist.
        unsafe {
            if positions >= SINGLE_POSITIONS {
                let mut start = 0;
                while start < positions {
                    let at = start.min(positions - SINGLE_POSITIONS);
                    let sums = single_tile::<SINGLE_POSITIONS, HALF>(conv, walk, at, block);
                    finish(conv, sums, at, block, out);
                    start += SINGLE_POSITIONS;
                }
            } else {
                for at in 0..positions {
                    let sums = single_tile::<1, HALF>(conv, walk, at, block);
                    finish(conv, sums, at, block, out);
                }
            }
        }
    }
}

/// 16 weights.
///
/// # Safety
/// They can be read at `w`, in fp16 where `HALF`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn weights<const HALF: bool>(w: *const u8) -> [float32x4_t; 4] {
    // SAFETY: forwarded to the caller.
    unsafe {
        if HALF {
            let (low, high) = (vld1q_u16(w.cast()), vld1q_u16(w.add(16).cast()));
            let (a, b) = widen(low);
            let (c, d) = widen(high);
            [a, b, c, d]
        } else {
            load(w.cast())
        }
    }
}

/// The sums of P positions from `start`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn single_tile<const P: usize, const HALF: bool>(
    conv: &ConvFloat,
    walk: &Walk,
    start: usize,
    block: usize,
) -> [[float32x4_t; 4]; P] {
    // SAFETY: start + P <= positions, so all rows exist that taps and positions name, and each is
    // read four values at a time only where four of its channels are left; every block has taps ·
    // channels lines of weights and 16 biases.
    unsafe {
        let mut sums = [load(conv.bias.as_ptr().add(block * LANES)); P];
        let mut w = walk.weights.add(block * walk.block);
        for tap in 0..walk.taps {
            let x_tap = walk.x.add(start * walk.row + tap * walk.tap);
            let mut channel = 0;
            while channel + 4 <= walk.channels {
                let mut x = [vdupq_n_f32(0.0); P];
                for (p, x) in x.iter_mut().enumerate() {
                    *x = vld1q_f32(x_tap.add(p * walk.row + channel));
                }
                single_channel::<0, P>(&mut sums, weights::<HALF>(w), &x);
                single_channel::<1, P>(&mut sums, weights::<HALF>(w.add(walk.line)), &x);
                single_channel::<2, P>(&mut sums, weights::<HALF>(w.add(2 * walk.line)), &x);
                single_channel::<3, P>(&mut sums, weights::<HALF>(w.add(3 * walk.line)), &x);
                w = w.add(4 * walk.line);
                channel += 4;
            }
            while channel < walk.channels {
                let mut x = [vdupq_n_f32(0.0); P];
                for (p, x) in x.iter_mut().enumerate() {
                    *x = vdupq_n_f32(*x_tap.add(p * walk.row + channel));
                }
                single_channel::<0, P>(&mut sums, weights::<HALF>(w), &x);
                w = w.add(walk.line);
                channel += 1;
            }
        }
        sums
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn single_channel<const LANE: i32, const P: usize>(
    sums: &mut [[float32x4_t; 4]; P],
    w: [float32x4_t; 4],
    x: &[float32x4_t; P],
) {
    for (sums, &x) in sums.iter_mut().zip(x) {
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum = vfmaq_laneq_f32::<LANE>(*sum, w, x);
        }
    }
}

// ---- fp16 ----

/// Eight fp16 as two registers of f32.
#[target_feature(enable = "neon")]
#[inline]
fn widen(x: uint16x8_t) -> (float32x4_t, float32x4_t) {
    let (low, high): (float32x4_t, float32x4_t);
    // SAFETY: reads and writes only the registers named; part of every aarch64.
    unsafe {
        asm!(
            "fcvtl {low:v}.4s, {x:v}.4h",
            "fcvtl2 {high:v}.4s, {x:v}.8h",
            low = out(vreg) low,
            high = lateout(vreg) high,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    (low, high)
}

/// Eight f32 as fp16, ties to even.
#[target_feature(enable = "neon")]
#[inline]
fn narrow(low: float32x4_t, high: float32x4_t) -> uint16x8_t {
    let x: uint16x8_t;
    // SAFETY: as above.
    unsafe {
        asm!(
            "fcvtn {x:v}.4h, {low:v}.4s",
            "fcvtn2 {x:v}.8h, {high:v}.4s",
            x = out(vreg) x,
            low = in(vreg) low,
            high = in(vreg) high,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    x
}

/// `sum += w · x[LANE]`, all fp16.
#[target_feature(enable = "neon,fp16")]
#[inline]
fn fmla_half<const LANE: usize>(mut sum: uint16x8_t, w: uint16x8_t, x: uint16x8_t) -> uint16x8_t {
    // SAFETY: reads and writes only the registers named; fp16 is enabled for this function. An
    // element can be named in the lower half of the registers alone.
    unsafe {
        asm!(
            "fmla {sum:v}.8h, {w:v}.8h, {x:v}.h[{lane}]",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg_low16) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

#[target_feature(enable = "neon,fp16")]
unsafe fn halves(conv: &ConvFloat, walk: &Walk, out: &mut Target<f32>) {
    let positions = conv.positions;
    for block in 0..padded(conv.shape.channels_out) / LANES {
        // SAFETY: forwarded from the caller; the block and the positions of every tile exist.
        unsafe {
            if positions >= HALF_POSITIONS {
                let mut start = 0;
                while start < positions {
                    let at = start.min(positions - HALF_POSITIONS);
                    let sums = half_tile::<HALF_POSITIONS>(conv, walk, at, block);
                    finish(conv, sums, at, block, out);
                    start += HALF_POSITIONS;
                }
            } else {
                for at in 0..positions {
                    let sums = half_tile::<1>(conv, walk, at, block);
                    finish(conv, sums, at, block, out);
                }
            }
        }
    }
}

/// The sums of P positions from `start`. Each position's order of additions is the same whatever P.
#[target_feature(enable = "neon,fp16")]
#[inline]
unsafe fn half_tile<const P: usize>(
    conv: &ConvFloat,
    walk: &Walk,
    start: usize,
    block: usize,
) -> [[float32x4_t; 4]; P] {
    // SAFETY: as in single_tile; rows are read eight values at a time only where eight channels are
    // left.
    unsafe {
        let mut sums = [load(conv.bias.as_ptr().add(block * LANES)); P];
        let mut w = walk.weights.add(block * walk.block).cast::<u16>();
        for tap in 0..walk.taps {
            let x_tap = walk.x.add(start * walk.row + tap * walk.tap);
            let mut channel = 0;
            while channel < walk.channels {
                let end = walk.channels.min(channel + HALF_RUN);
                let mut runs = [[vdupq_n_u16(0); 2]; P];
                while channel + 8 <= end {
                    let mut x = [vdupq_n_u16(0); P];
                    for (p, x) in x.iter_mut().enumerate() {
                        let at = x_tap.add(p * walk.row + channel);
                        *x = narrow(vld1q_f32(at), vld1q_f32(at.add(4)));
                    }
                    half_channel::<0, P>(&mut runs, w, &x);
                    half_channel::<1, P>(&mut runs, w.add(16), &x);
                    half_channel::<2, P>(&mut runs, w.add(32), &x);
                    half_channel::<3, P>(&mut runs, w.add(48), &x);
                    half_channel::<4, P>(&mut runs, w.add(64), &x);
                    half_channel::<5, P>(&mut runs, w.add(80), &x);
                    half_channel::<6, P>(&mut runs, w.add(96), &x);
                    half_channel::<7, P>(&mut runs, w.add(112), &x);
                    w = w.add(128);
                    channel += 8;
                }
                while channel < end {
                    let mut x = [vdupq_n_u16(0); P];
                    for (p, x) in x.iter_mut().enumerate() {
                        let value = vdupq_n_f32(*x_tap.add(p * walk.row + channel));
                        *x = narrow(value, value);
                    }
                    half_channel::<0, P>(&mut runs, w, &x);
                    w = w.add(16);
                    channel += 1;
                }
                for (sums, [low, high]) in sums.iter_mut().zip(runs) {
                    let (a, b) = widen(low);
                    let (c, d) = widen(high);
                    for (sum, part) in sums.iter_mut().zip([a, b, c, d]) {
                        *sum = vaddq_f32(*sum, part);
                    }
                }
            }
        }
        sums
    }
}

/// One input channel of P positions: the 16 weights at `w` against lane `LANE` of each `x`.
///
/// # Safety
/// 16 weights can be read at `w`.
#[target_feature(enable = "neon,fp16")]
#[inline]
unsafe fn half_channel<const LANE: usize, const P: usize>(
    runs: &mut [[uint16x8_t; 2]; P],
    w: *const u16,
    x: &[uint16x8_t; P],
) {
    // SAFETY: forwarded to the caller.
    let w = unsafe { [vld1q_u16(w), vld1q_u16(w.add(8))] };
    for (runs, &x) in runs.iter_mut().zip(x) {
        for (run, w) in runs.iter_mut().zip(w) {
            *run = fmla_half::<LANE>(*run, w, x);
        }
    }
}

// ---- dense layer ----

/// Adds all products of one to four blocks of columns.
///
/// # Safety
/// [`dense`](crate::kernels::dense::dense) has checked the lengths.
pub(super) unsafe fn dense(part: &Columns, sums: &mut [[f32; LANES]]) {
    // SAFETY: NEON is part of every aarch64 target; the lengths are the caller's.
    unsafe {
        match sums.len() {
            1 => dense_neon::<1>(part, sums),
            2 => dense_neon::<2>(part, sums),
            3 => dense_neon::<3>(part, sums),
            _ => dense_neon::<4>(part, sums),
        }
    }
}

/// R is the length of `sums`.
#[target_feature(enable = "neon")]
unsafe fn dense_neon<const R: usize>(part: &Columns, sums: &mut [[f32; LANES]]) {
    let at = |i: usize, r: usize| i * part.lanes + part.first + r * LANES;
    // SAFETY: every input has part.lanes weights, of which 16 · R from column `first` exist.
    unsafe {
        let mut y = [[vdupq_n_f32(0.0); 4]; R];
        for (y, sums) in y.iter_mut().zip(&*sums) {
            *y = load(sums.as_ptr());
        }
        for (i, &x) in part.input.iter().enumerate() {
            for (r, y) in y.iter_mut().enumerate() {
                let w = match part.weights {
                    Weights::F16(w) => weights::<true>(w.as_ptr().add(at(i, r)).cast()),
                    Weights::F32(w) => weights::<false>(w.as_ptr().add(at(i, r)).cast()),
                };
                for (y, w) in y.iter_mut().zip(w) {
                    *y = vfmaq_n_f32(*y, w, x);
                }
            }
        }
        for (y, sums) in y.into_iter().zip(sums) {
            store(sums.as_mut_ptr(), y);
        }
    }
}
