//! aarch64: NEON with the dot product extension (`sdot`) and without (`smull`, `smlal`, `sadalp`).
//!
//! A tile is P positions by one block of 16 output channels, all sums in registers. Activations reach 127 at most, so unsigned
//! and signed ones are the same signed bytes here. A tile at the end of the rows is moved back to overlap its predecessor
//! (positions are independent, so computing some twice changes nothing); fewer than P positions in all go one by one, and a
//! block that output channels do not fill takes the scalar epilogue.
//!
//! `sdot` is written as assembly because its intrinsics are not stable; `asm!` is, and every operand is a register.
#![allow(unsafe_code)]

use super::{ConvInt8, LANES, Output, finish_lanes, padded};
use std::arch::aarch64::*;
use std::arch::asm;

/// Positions of a tile with `sdot`: 20 registers of sums, 5 of activations, 4 of weights.
const DOT_POSITIONS: usize = 5;

/// Positions of a tile without: 16 registers of sums (two partial sums a channel), 4 of activations.
const MULL_POSITIONS: usize = 2;

pub(super) fn conv_int8_dot(conv: &ConvInt8, out: &mut Output) {
    // SAFETY: this function is called for Isa::NeonDot alone, which Isa::available lists only after detecting dotprod;
    // ConvInt8::run has checked every length that the pointers of the tiles are derived from.
    unsafe { dot(conv, out) }
}

pub(super) fn conv_int8_neon(conv: &ConvInt8, out: &mut Output) {
    // SAFETY: NEON is part of every aarch64 target of Rust's; lengths as above.
    unsafe { mull(conv, out) }
}

/// First positions of the tiles of `size` that cover `positions`, the last one moved back; needs `positions >= size`.
fn tiles(positions: usize, size: usize) -> impl Iterator<Item = usize> {
    (0..positions)
        .step_by(size)
        .map(move |start| start.min(positions - size))
}

/// The byte of the input that tap 0 of position `start` reads first, and that of the weights of `block`.
fn first_bytes(conv: &ConvInt8, start: usize, block: usize) -> (usize, usize) {
    let row = conv.shape.first_row(conv.rows.halo) + start;
    (row * conv.shape.channels_in, block * LANES * 4)
}

// ---- sdot ----

#[target_feature(enable = "neon,dotprod")]
unsafe fn dot(conv: &ConvInt8, out: &mut Output) {
    let positions = conv.rows.positions;
    for block in 0..padded(conv.shape.channels_out) / LANES {
        // SAFETY: forwarded from the caller; the block and the positions of every tile exist.
        unsafe {
            if positions >= DOT_POSITIONS {
                for start in tiles(positions, DOT_POSITIONS) {
                    dot_tile::<DOT_POSITIONS>(conv, out, start, block);
                }
            } else {
                for start in 0..positions {
                    dot_tile::<1>(conv, out, start, block);
                }
            }
        }
    }
}

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

/// One quad of input channels of P positions: the 64 bytes of weights at `w` against quad `QUAD` of each `x`.
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

#[target_feature(enable = "neon,dotprod")]
unsafe fn dot_tile<const P: usize>(conv: &ConvInt8, out: &mut Output, start: usize, block: usize) {
    let s = &conv.shape;
    let quads = s.channels_in / 4;
    // Bytes of weights of one tap and quad.
    let step = padded(s.channels_out) * 4;
    let (x_first, w_first) = first_bytes(conv, start, block);
    let mut sums = [[vdupq_n_s32(0); 4]; P];
    for tap in 0..s.width {
        let x_offset = x_first + tap * s.dilation * s.channels_in;
        let w_offset = w_first + tap * quads * step;
        // SAFETY: tap < width, quads below `quads` and an existing block, so the 64-byte lines lie inside packed_len bytes; the
        // rows read lie inside halo + positions + halo rows because reach() <= halo and start + P <= positions, and each row
        // is read in 16 bytes only where 16 of its channels are left.
        unsafe {
            let x_tap = conv.input.as_ptr().add(x_offset);
            let w_tap = conv.weights.as_ptr().add(w_offset);
            let mut quad = 0;
            while quad + 4 <= quads {
                let mut x = [vdupq_n_s8(0); P];
                for (p, x) in x.iter_mut().enumerate() {
                    *x = vld1q_s8(x_tap.add(p * s.channels_in + quad * 4).cast());
                }
                let w = w_tap.add(quad * step);
                dot_quad::<0, P>(&mut sums, w, &x);
                dot_quad::<1, P>(&mut sums, w.add(step), &x);
                dot_quad::<2, P>(&mut sums, w.add(2 * step), &x);
                dot_quad::<3, P>(&mut sums, w.add(3 * step), &x);
                quad += 4;
            }
            while quad < quads {
                let mut x = [vdupq_n_s8(0); P];
                for (p, x) in x.iter_mut().enumerate() {
                    let x4 = broadcast(x_tap.add(p * s.channels_in + quad * 4));
                    *x = vcombine_s8(x4, x4);
                }
                dot_quad::<0, P>(&mut sums, w_tap.add(quad * step), &x);
                quad += 1;
            }
        }
    }
    let mut lanes = [[0i32; LANES]; P];
    for (lanes, sums) in lanes.iter_mut().zip(&sums) {
        store(lanes, sums);
    }
    for (p, lanes) in lanes.iter().enumerate() {
        // SAFETY: position start + p < positions and the block exists, as finish requires.
        unsafe { finish(conv, lanes, start + p, block, out) };
    }
}

/// Sums go to the epilogue through memory: an array of registers whose address is passed on would be kept in memory throughout.
#[target_feature(enable = "neon")]
#[inline]
fn store(lanes: &mut [i32; LANES], sums: &[int32x4_t; 4]) {
    for (sum, lanes) in sums.iter().zip(lanes.chunks_exact_mut(4)) {
        // SAFETY: four i32 fit the chunk.
        unsafe { vst1q_s32(lanes.as_mut_ptr(), *sum) };
    }
}

// ---- smull, smlal, sadalp ----

#[target_feature(enable = "neon")]
unsafe fn mull(conv: &ConvInt8, out: &mut Output) {
    let positions = conv.rows.positions;
    for block in 0..padded(conv.shape.channels_out) / LANES {
        // SAFETY: forwarded from the caller; the block and the positions of every tile exist.
        unsafe {
            if positions >= MULL_POSITIONS {
                for start in tiles(positions, MULL_POSITIONS) {
                    mull_tile::<MULL_POSITIONS>(conv, out, start, block);
                }
            } else {
                for start in 0..positions {
                    mull_tile::<1>(conv, out, start, block);
                }
            }
        }
    }
}

#[target_feature(enable = "neon")]
unsafe fn mull_tile<const P: usize>(conv: &ConvInt8, out: &mut Output, start: usize, block: usize) {
    let s = &conv.shape;
    let quads = s.channels_in / 4;
    // Bytes of weights of one tap and quad.
    let step = padded(s.channels_out) * 4;
    let (x_first, w_first) = first_bytes(conv, start, block);
    // Register i of a position holds channels 2i and 2i + 1, each as two partial sums.
    let mut sums = [[vdupq_n_s32(0); 8]; P];
    for tap in 0..s.width {
        let x_offset = x_first + tap * s.dilation * s.channels_in;
        let w_offset = w_first + tap * quads * step;
        // SAFETY: as in dot_tile; rows are read four bytes at a time.
        unsafe {
            let x_tap = conv.input.as_ptr().add(x_offset);
            let w_tap = conv.weights.as_ptr().add(w_offset);
            let mut quad = 0;
            while quad + 2 <= quads {
                let mut x = [[vdup_n_s8(0); 2]; P];
                for (p, x) in x.iter_mut().enumerate() {
                    let at = x_tap.add(p * s.channels_in + quad * 4);
                    *x = [broadcast(at), broadcast(at.add(4))];
                }
                let w = w_tap.add(quad * step);
                for i in 0..8 {
                    let w = [vld1_s8(w.add(i * 8)), vld1_s8(w.add(step + i * 8))];
                    for (sums, x) in sums.iter_mut().zip(&x) {
                        // Two products fit 16 bits: 2 · 127 · 127 < 32768.
                        let pair = vmlal_s8(vmull_s8(w[0], x[0]), w[1], x[1]);
                        sums[i] = vpadalq_s16(sums[i], pair);
                    }
                }
                quad += 2;
            }
            if quad < quads {
                let w = w_tap.add(quad * step);
                for (p, sums) in sums.iter_mut().enumerate() {
                    let x = broadcast(x_tap.add(p * s.channels_in + quad * 4));
                    for (i, sum) in sums.iter_mut().enumerate() {
                        *sum = vpadalq_s16(*sum, vmull_s8(vld1_s8(w.add(i * 8)), x));
                    }
                }
            }
        }
    }
    let mut lanes = [[0i32; LANES]; P];
    for (lanes, sums) in lanes.iter_mut().zip(&sums) {
        let whole = [
            vpaddq_s32(sums[0], sums[1]),
            vpaddq_s32(sums[2], sums[3]),
            vpaddq_s32(sums[4], sums[5]),
            vpaddq_s32(sums[6], sums[7]),
        ];
        store(lanes, &whole);
    }
    for (p, lanes) in lanes.iter().enumerate() {
        // SAFETY: position start + p < positions and the block exists, as finish requires.
        unsafe { finish(conv, lanes, start + p, block, out) };
    }
}

/// Four bytes, twice.
///
/// # Safety
/// Four bytes can be read at `x`.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn broadcast(x: *const u8) -> int8x8_t {
    // SAFETY: four bytes, as the caller promises.
    let bytes = unsafe { x.cast::<i32>().read_unaligned() };
    vreinterpret_s8_s32(vdup_n_s32(bytes))
}

// ---- epilogue ----

/// The epilogue of one position and block; see the module docs of `kernels` for the formula.
///
/// # Safety
/// `position` and `block` exist in `conv`, whose lengths have been checked.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn finish(
    conv: &ConvInt8,
    sums: &[i32; LANES],
    position: usize,
    block: usize,
    out: &mut Output,
) {
    let channels = conv.shape.channels_out;
    let first = block * LANES;
    if channels - first < LANES {
        return finish_lanes(conv, sums, position, block, out);
    }
    let row = (conv.rows.halo + position) * channels + first;
    let mut y = [vdupq_n_f32(0.0); 4];
    // SAFETY: scale and bias hold padded(channels_out) values and the residual its rows, checked in ConvInt8::run; 16
    // channels from `first` exist, tested above.
    unsafe {
        for (i, y) in y.iter_mut().enumerate() {
            let sum = vld1q_s32(sums.as_ptr().add(i * 4));
            let scale = vld1q_f32(conv.scale.as_ptr().add(first + i * 4));
            let bias = vld1q_f32(conv.bias.as_ptr().add(first + i * 4));
            *y = vfmaq_f32(bias, vcvtq_f32_s32(sum), scale);
        }
        if let Some((residual, residual_scale)) = conv.residual {
            let bytes = vld1q_u8(residual.as_ptr().add(row));
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes));
            let words = [
                vmovl_u16(vget_low_u16(low)),
                vmovl_high_u16(low),
                vmovl_u16(vget_low_u16(high)),
                vmovl_high_u16(high),
            ];
            for (y, word) in y.iter_mut().zip(words) {
                *y = vfmaq_f32(*y, vcvtq_f32_u32(word), vdupq_n_f32(residual_scale));
            }
        }
    }
    match out {
        // SAFETY: the output holds its rows, and 16 channels from `first` exist.
        Output::Unsigned(o) => unsafe { vst1q_u8(o.as_mut_ptr().add(row), narrow(y, 0.0)) },
        // SAFETY: the same.
        Output::Signed(o) => unsafe { vst1q_u8(o.as_mut_ptr().add(row), narrow(y, -127.0)) },
        Output::Float { out, relu } => {
            let zero = vdupq_n_f32(0.0);
            for (i, mut y) in y.into_iter().enumerate() {
                if *relu {
                    // `fmax` would keep NaN; a mask makes -0 and NaN +0, like the reference.
                    let positive = vcgtq_f32(y, zero);
                    y = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(y), positive));
                }
                // SAFETY: positions × channels_out values, 16 of them from this block's first channel.
                unsafe { vst1q_f32(out.as_mut_ptr().add(position * channels + first + i * 4), y) };
            }
        }
    }
}

/// Clamps to [`low`, 127], rounds ties to even and keeps the low byte of each.
#[target_feature(enable = "neon")]
#[inline]
fn narrow(y: [float32x4_t; 4], low: f32) -> uint8x16_t {
    let (low, high) = (vdupq_n_f32(low), vdupq_n_f32(127.0));
    let words = y.map(|y| vcvtnq_s32_f32(vminq_f32(vmaxq_f32(y, low), high)));
    let shorts = [
        vcombine_s16(vmovn_s32(words[0]), vmovn_s32(words[1])),
        vcombine_s16(vmovn_s32(words[2]), vmovn_s32(words[3])),
    ];
    vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(shorts[0]), vmovn_s16(shorts[1])))
}
