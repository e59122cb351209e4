//! The sums of a few positions by one block of 16 output channels.
//!
//! `sdot` and `smmla` are written as assembly because their intrinsics are not stable; `asm!` is,
//! and every operand is a register.
#![allow(unsafe_code)]

use crate::kernels::{ConvInt8, LANES};
use std::arch::aarch64::*;
use std::arch::asm;

/// Positions of a tile with `sdot`: 20 registers of sums, 5 of activations, 4 of weights.
pub(super) const DOT_POSITIONS: usize = 5;

/// Positions of a tile with `smull`: 16 registers of sums (two partial sums a channel), 4 of
/// activations.
pub(super) const MULL_POSITIONS: usize = 2;

/// Pairs of positions of a tile with `smmla`: 24 registers of sums, 3 of activations, 4 of weights.
const PAIRS: usize = 3;
pub(super) const MATRIX_POSITIONS: usize = 2 * PAIRS;

/// Addresses and steps in bytes that all tiles share.
pub(super) struct Walk {
    /// Tap 0 of position 0.
    x: *const u8,
    /// From one position to the next.
    row: usize,
    /// From one tap to the next.
    tap: usize,
    taps: usize,
    /// Quads of input channels of a tap.
    quads: usize,
    pub(super) weights: *const i8,
    /// From one block of output channels to the next.
    pub(super) block: usize,
}

impl Walk {
    /// `input` is that of the convolution, or its shifted copy.
    ///
    /// # Safety
    /// [`ConvInt8::run`] has checked the lengths, and `input` is as long as the convolution's own.
    pub(super) unsafe fn new(conv: &ConvInt8, input: &[u8]) -> Walk {
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
            // SAFETY: the rows before row 0 exist, as the caller promises.
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
pub(super) unsafe fn dot_tile<const P: usize>(
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
        for tap in 0..walk.taps {
            let x_tap = walk.x.add(start * walk.row + tap * walk.tap);
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
        }
    }
    sums
}

// ---- smmla ----

/// Two quads of input channels of all pairs. Lines of weights hold four inputs a channel where
/// `smmla` wants eight: two lines are interleaved, one `zip` for every three `smmla`. `smmla` adds
/// two rows of eight activations by two channels of eight weights, `[position][channel]`. Of the
/// last quad of an odd number there is one line: `PAIR` is false, zeros stand for the second.
///
/// # Safety
/// 64 bytes can be read at `w`, 128 where `PAIR`.
#[target_feature(enable = "neon,i8mm")]
#[inline]
unsafe fn matrix_quads<const PAIR: bool>(
    sums: &mut [[int32x4_t; 8]; PAIRS],
    w: *const i8,
    x: &[int8x16_t; PAIRS],
) {
    let [first, second, third] = sums;
    for i in 0..4 {
        // SAFETY: four times 16 bytes of each line, as the caller promises.
        let a = unsafe { vld1q_s8(w.add(i * 16)) };
        let b = if PAIR {
            // SAFETY: as above.
            unsafe { vld1q_s8(w.add(64 + i * 16)) }
        } else {
            vdupq_n_s8(0)
        };
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
pub(super) unsafe fn matrix_tile(
    walk: &Walk,
    weights: *const i8,
    start: usize,
) -> [[int32x4_t; 4]; MATRIX_POSITIONS] {
    // Register i of a pair: channels 2i and 2i + 1 of its first position, then of its second.
    let mut pairs = [[vdupq_n_s32(0); 8]; PAIRS];
    let mut w = weights;
    // SAFETY: as in dot_tile; rows are read eight bytes at a time, or four where no more are left.
    unsafe {
        for tap in 0..walk.taps {
            let x_tap = walk.x.add(start * walk.row + tap * walk.tap);
            let mut quad = 0;
            while quad + 2 <= walk.quads {
                let mut x = [vdupq_n_s8(0); PAIRS];
                for (pair, x) in x.iter_mut().enumerate() {
                    let at = x_tap.add(2 * pair * walk.row + quad * 4).cast::<i8>();
                    *x = vcombine_s8(vld1_s8(at), vld1_s8(at.add(walk.row)));
                }
                matrix_quads::<true>(&mut pairs, w, &x);
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
                matrix_quads::<false>(&mut pairs, w, &x);
                w = w.add(64);
            }
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
pub(super) unsafe fn mull_tile<const P: usize>(
    walk: &Walk,
    weights: *const i8,
    start: usize,
) -> [[int32x4_t; 4]; P] {
    // Register i of a position holds channels 2i and 2i + 1, each as two partial sums.
    let mut parts = [[vdupq_n_s32(0); 8]; P];
    let mut w = weights;
    // SAFETY: as in dot_tile; rows are read four bytes at a time.
    unsafe {
        for tap in 0..walk.taps {
            let x_tap = walk.x.add(start * walk.row + tap * walk.tap);
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
