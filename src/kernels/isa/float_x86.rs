//! Float convolutions and dense layers on x86-64: AVX-512, and AVX2 with FMA and F16C.
//!
//! Tiles are those of the int8 kernels: with AVX-512 16 positions by one block of 16 output
//! channels, 12 by 2 or 8 by 3, with AVX2 6 by one block in two registers, all sums in registers,
//! one weight register or pair for all positions. A tile at the end of the rows is moved back to
//! overlap its predecessor; fewer positions than a tile holds go one by one.
#![allow(unsafe_code)]

use crate::kernels::activation::Activation;
use crate::kernels::dense::Columns;
use crate::kernels::float::{ConvFloat, Walk, Weights, finish_lanes};
use crate::kernels::{LANES, Target, lanes, padded};
use std::arch::x86_64::*;

/// # Safety
/// AVX-512 F, BW, VL and VNNI are there, and [`ConvFloat::run`] has checked the lengths: every
/// pointer below is derived from them.
pub(super) unsafe fn conv_512(conv: &ConvFloat, out: &mut Target<f32>) {
    // SAFETY: the caller's.
    unsafe {
        match conv.weights {
            Weights::F16(w) => rows_512::<true>(conv, &Walk::new(conv, w.as_ptr().cast(), 2), out),
            Weights::F32(w) => rows_512::<false>(conv, &Walk::new(conv, w.as_ptr().cast(), 4), out),
        }
    }
}

/// # Safety
/// As above, for AVX2, FMA and F16C.
pub(super) unsafe fn conv_256(conv: &ConvFloat, out: &mut Target<f32>) {
    // SAFETY: the caller's.
    unsafe {
        match conv.weights {
            Weights::F16(w) => rows_256::<true>(conv, &Walk::new(conv, w.as_ptr().cast(), 2), out),
            Weights::F32(w) => rows_256::<false>(conv, &Walk::new(conv, w.as_ptr().cast(), 4), out),
        }
    }
}

// ---- AVX-512 ----

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn rows_512<const HALF: bool>(conv: &ConvFloat, walk: &Walk, out: &mut Target<f32>) {
    // SAFETY: forwarded from the caller. The pitch is made a constant where it is a common one, so
    // that addresses are constants too.
    unsafe {
        match walk.row {
            4 => blocks_512::<4, HALF>(conv, walk, out),
            16 => blocks_512::<16, HALF>(conv, walk, out),
            32 => blocks_512::<32, HALF>(conv, walk, out),
            64 => blocks_512::<64, HALF>(conv, walk, out),
            _ => blocks_512::<0, HALF>(conv, walk, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn blocks_512<const ROW: usize, const HALF: bool>(
    conv: &ConvFloat,
    walk: &Walk,
    out: &mut Target<f32>,
) {
    let blocks = padded(conv.shape.channels_out) / LANES;
    let mut block = 0;
    while block < blocks {
        // SAFETY: forwarded from the caller; the blocks exist.
        unsafe {
            block += match blocks - block {
                1 => tiles_512::<16, 1, ROW, HALF>(conv, walk, block, out),
                2 | 4 => tiles_512::<12, 2, ROW, HALF>(conv, walk, block, out),
                _ => tiles_512::<8, 3, ROW, HALF>(conv, walk, block, out),
            };
        }
    }
}

/// All positions of R blocks; gives R.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn tiles_512<const P: usize, const R: usize, const ROW: usize, const HALF: bool>(
    conv: &ConvFloat,
    walk: &Walk,
    block: usize,
    out: &mut Target<f32>,
) -> usize {
    let positions = conv.positions;
    // SAFETY: block + R blocks and the positions of every tile exist.
    unsafe {
        if positions >= P {
            let mut start = 0;
            while start < positions {
                let at = start.min(positions - P);
                tile_512::<P, R, ROW, HALF>(conv, walk, at, block, out);
                start += P;
            }
        } else {
            for at in 0..positions {
                tile_512::<1, R, ROW, HALF>(conv, walk, at, block, out);
            }
        }
    }
    R
}

/// P positions of R blocks. `ROW` is the distance from one position to the next, or 0 where it is
/// not known before the run.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
#[inline]
unsafe fn tile_512<const P: usize, const R: usize, const ROW: usize, const HALF: bool>(
    conv: &ConvFloat,
    walk: &Walk,
    start: usize,
    block: usize,
    out: &mut Target<f32>,
) {
    let row = if ROW > 0 { ROW } else { walk.row };
    let mut begin = [_mm512_setzero_ps(); R];
    // SAFETY: start + P <= positions, so all rows exist that taps and positions name; every block
    // has taps · channels lines of weights and 16 biases.
    unsafe {
        for (r, begin) in begin.iter_mut().enumerate() {
            *begin = _mm512_loadu_ps(conv.bias.as_ptr().add((block + r) * LANES));
        }
        let mut sums = [begin; P];
        let mut w = walk.weights.add(block * walk.block);
        for tap in 0..walk.taps {
            let x_tap = walk.x.add(start * row + tap * walk.tap);
            for channel in 0..walk.channels {
                let mut lines = [_mm512_setzero_ps(); R];
                for (r, line) in lines.iter_mut().enumerate() {
                    let from = w.add(r * walk.block);
                    *line = if HALF {
                        _mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))
                    } else {
                        _mm512_loadu_ps(from.cast())
                    };
                }
                for (p, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*x_tap.add(p * row + channel));
                    for (sum, &line) in sums.iter_mut().zip(&lines) {
                        *sum = _mm512_fmadd_ps(x, line, *sum);
                    }
                }
                w = w.add(walk.line);
            }
        }
        // Sums go to the epilogue through memory: an array of registers whose address is passed on
        // would be kept there throughout.
        let mut values = [[[0f32; LANES]; R]; P];
        for (values, sums) in values.iter_mut().zip(&sums) {
            for (values, sum) in values.iter_mut().zip(sums) {
                _mm512_storeu_ps(values.as_mut_ptr(), *sum);
            }
        }
        finish_512(conv, &values, start, block, out);
    }
}

/// Adds the residual, applies the activation and writes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
#[inline(never)]
unsafe fn finish_512<const R: usize>(
    conv: &ConvFloat,
    values: &[[[f32; LANES]; R]],
    start: usize,
    block: usize,
    out: &mut Target<f32>,
) {
    for (p, values) in values.iter().enumerate() {
        for (r, values) in values.iter().enumerate() {
            let first = (block + r) * LANES;
            let left = (conv.shape.channels_out - first).min(LANES);
            let mask = ((1u32 << left) - 1) as __mmask16;
            // SAFETY: residual and output have channels_out values at each position, checked in
            // ConvFloat::run, and the mask keeps to them.
            unsafe {
                let mut y = _mm512_loadu_ps(values.as_ptr());
                if conv.activation == Activation::ReluFirst {
                    y = _mm512_max_ps(y, _mm512_setzero_ps());
                }
                if let Some(rows) = &conv.residual {
                    let at = rows.first + (start + p) * rows.pitch + first;
                    y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, rows.data.as_ptr().add(at)));
                }
                y = match conv.activation {
                    Activation::Relu => _mm512_max_ps(y, _mm512_setzero_ps()),
                    Activation::Gelu => lanes::activate_512(Activation::Gelu, y),
                    Activation::LeakyRelu { slope } => {
                        lanes::activate_512(Activation::LeakyRelu { slope }, y)
                    }
                    _ => y,
                };
                let at = out.first + (start + p) * out.pitch + first;
                _mm512_mask_storeu_ps(out.data.as_mut_ptr().add(at), mask, y);
            }
        }
    }
}

// ---- AVX2 ----

/// Positions of an AVX2 tile: 12 registers of sums, 2 of weights, 1 of input.
const POSITIONS_256: usize = 6;

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows_256<const HALF: bool>(conv: &ConvFloat, walk: &Walk, out: &mut Target<f32>) {
    let positions = conv.positions;
    for block in 0..padded(conv.shape.channels_out) / LANES {
        // SAFETY: forwarded from the caller; the block and the positions of every tile exist.
        unsafe {
            if positions >= POSITIONS_256 {
                let mut start = 0;
                while start < positions {
                    let at = start.min(positions - POSITIONS_256);
                    tile_256::<POSITIONS_256, HALF>(conv, walk, at, block, out);
                    start += POSITIONS_256;
                }
            } else {
                for at in 0..positions {
                    tile_256::<1, HALF>(conv, walk, at, block, out);
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn tile_256<const P: usize, const HALF: bool>(
    conv: &ConvFloat,
    walk: &Walk,
    start: usize,
    block: usize,
    out: &mut Target<f32>,
) {
    let first = block * LANES;
    // SAFETY: as in tile_512.
    unsafe {
        let bias = conv.bias.as_ptr().add(first);
        let mut sums = [[_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))]; P];
        let mut w = walk.weights.add(block * walk.block);
        for tap in 0..walk.taps {
            let x_tap = walk.x.add(start * walk.row + tap * walk.tap);
            for channel in 0..walk.channels {
                let lines = if HALF {
                    [
                        _mm256_cvtph_ps(_mm_loadu_si128(w.cast())),
                        _mm256_cvtph_ps(_mm_loadu_si128(w.add(16).cast())),
                    ]
                } else {
                    [_mm256_loadu_ps(w.cast()), _mm256_loadu_ps(w.add(32).cast())]
                };
                for (p, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_set1_ps(*x_tap.add(p * walk.row + channel));
                    for (sum, &line) in sums.iter_mut().zip(&lines) {
                        *sum = _mm256_fmadd_ps(x, line, *sum);
                    }
                }
                w = w.add(walk.line);
            }
        }
        // Through memory, as in tile_512.
        let mut values = [[0f32; LANES]; P];
        for (values, sums) in values.iter_mut().zip(&sums) {
            _mm256_storeu_ps(values.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(values.as_mut_ptr().add(8), sums[1]);
        }
        finish_256(conv, &values, start, block, out);
    }
}

/// Adds the residual, applies the activation and writes.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
unsafe fn finish_256(
    conv: &ConvFloat,
    values: &[[f32; LANES]],
    start: usize,
    block: usize,
    out: &mut Target<f32>,
) {
    let first = block * LANES;
    for (p, values) in values.iter().enumerate() {
        if conv.shape.channels_out - first < LANES {
            finish_lanes(conv, values, start + p, block, out);
            continue;
        }
        let relu = |y: __m256| _mm256_max_ps(y, _mm256_setzero_ps());
        // SAFETY: residual and output have channels_out values at each position, checked in
        // ConvFloat::run, 16 of them from `first`.
        unsafe {
            let load = |from: *const f32| [_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))];
            let mut y = load(values.as_ptr());
            if conv.activation == Activation::ReluFirst {
                y = y.map(relu);
            }
            if let Some(rows) = &conv.residual {
                let at = rows.first + (start + p) * rows.pitch + first;
                let x = load(rows.data.as_ptr().add(at));
                y = [_mm256_add_ps(y[0], x[0]), _mm256_add_ps(y[1], x[1])];
            }
            y = match conv.activation {
                Activation::Relu => y.map(relu),
                Activation::Gelu => lanes::activate_256(Activation::Gelu, y),
                Activation::LeakyRelu { slope } => {
                    lanes::activate_256(Activation::LeakyRelu { slope }, y)
                }
                _ => y,
            };
            let to = out
                .data
                .as_mut_ptr()
                .add(out.first + (start + p) * out.pitch + first);
            _mm256_storeu_ps(to, y[0]);
            _mm256_storeu_ps(to.add(8), y[1]);
        }
    }
}

// ---- dense layer ----

/// Adds all products of one to four blocks of columns, AVX2 everywhere: the order of additions
/// leaves AVX-512 little to gain.
///
/// # Safety
/// AVX2, FMA and F16C are there, and [`dense`](crate::kernels::dense::dense) has checked the
/// lengths.
pub(super) unsafe fn dense(part: &Columns, sums: &mut [[f32; LANES]]) {
    // SAFETY: the caller's.
    unsafe {
        match sums.len() {
            1 => dense_256::<1>(part, sums),
            2 => dense_256::<2>(part, sums),
            3 => dense_256::<3>(part, sums),
            _ => dense_256::<4>(part, sums),
        }
    }
}

/// R is the length of `sums`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dense_256<const R: usize>(part: &Columns, sums: &mut [[f32; LANES]]) {
    let at = |i: usize, r: usize| i * part.lanes + part.first + r * LANES;
    // SAFETY: every input has part.lanes weights, of which 16 · R from column `first` exist.
    unsafe {
        let mut y = [[_mm256_setzero_ps(); 2]; R];
        for (y, sums) in y.iter_mut().zip(&*sums) {
            *y = [
                _mm256_loadu_ps(sums.as_ptr()),
                _mm256_loadu_ps(sums.as_ptr().add(8)),
            ];
        }
        for (i, &x) in part.input.iter().enumerate() {
            let x = _mm256_set1_ps(x);
            for (r, y) in y.iter_mut().enumerate() {
                let w = match part.weights {
                    Weights::F16(w) => {
                        let w = w.as_ptr().add(at(i, r));
                        [
                            _mm256_cvtph_ps(_mm_loadu_si128(w.cast())),
                            _mm256_cvtph_ps(_mm_loadu_si128(w.add(8).cast())),
                        ]
                    }
                    Weights::F32(w) => {
                        let w = w.as_ptr().add(at(i, r));
                        [_mm256_loadu_ps(w), _mm256_loadu_ps(w.add(8))]
                    }
                };
                for (y, w) in y.iter_mut().zip(w) {
                    *y = _mm256_fmadd_ps(x, w, *y);
                }
            }
        }
        for (y, sums) in y.iter().zip(sums) {
            _mm256_storeu_ps(sums.as_mut_ptr(), y[0]);
            _mm256_storeu_ps(sums.as_mut_ptr().add(8), y[1]);
        }
    }
}
