//! x86-64: AVX2 (`vpmaddubsw`) and AVX-512 VNNI (`vpdpbusd`).
//!
//! A tile is P positions by R blocks of 16 output channels, all sums in registers; each weight register serves P
//! positions and each four activations, broadcast, serve R blocks. A tile at the end of the rows is moved back to overlap its
//! predecessor (positions are independent, so computing some twice changes nothing); fewer than P positions in all, or output channels
//! that do not fill a block, take the scalar epilogue.
#![allow(unsafe_code)]

use super::float::{self, ConvFloat};
use super::table::{CODES, ConvCodes};
use super::{ConvInt8, LANES, Output, finish_lanes, padded};
use std::arch::x86_64::*;

/// Runs `tile` over all positions in steps of P, the last one moved back; the rest one by one.
macro_rules! over_positions {
    ($positions:expr, $p:literal, $tile:expr, $single:expr) => {{
        let positions: usize = $positions;
        if positions >= $p {
            let mut start = 0;
            while start + $p <= positions {
                $tile(start);
                start += $p;
            }
            if start < positions {
                $tile(positions - $p);
            }
        } else {
            for start in 0..positions {
                $single(start);
            }
        }
    }};
}

pub(super) fn conv_int8_vnni(conv: &ConvInt8, out: &mut Output) {
    // SAFETY: this function is called for Isa::Avx512Vnni alone, which Isa::available lists only after detecting the
    // features; ConvInt8::run has checked every length that the pointers below are derived from.
    unsafe { vnni(conv, out) }
}

pub(super) fn conv_int8_avx2(conv: &ConvInt8, out: &mut Output) {
    // SAFETY: as above, for Isa::Avx2.
    unsafe { avx2(conv, out) }
}

pub(super) fn conv_codes_vnni(conv: &ConvCodes, out: &mut Output) {
    // SAFETY: this function is called for Isa::Avx512Vnni alone; ConvCodes::run has checked every length.
    unsafe { codes_512(conv, out) }
}

pub(super) fn conv_codes_avx2(conv: &ConvCodes, out: &mut Output) {
    // SAFETY: as above, for Isa::Avx2.
    unsafe { codes_256(conv, out) }
}

pub(super) fn conv_float(conv: &ConvFloat, out: &mut [f32], first_out: usize) {
    // SAFETY: as above.
    unsafe { conv_float_avx2(conv, out, first_out) }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn conv_float_avx2(conv: &ConvFloat, out: &mut [f32], first_out: usize) {
    float::run_anywhere(conv, out, first_out);
}

// ---- base codes ----

/// 16-bit sums of 16 output channels for one position.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn codes_sum(conv: &ConvCodes, position: usize, block: usize) -> __m256i {
    let s = &conv.shape;
    let lanes = padded(s.channels_out);
    let mut sum = _mm256_setzero_si256();
    // Wraps to a huge index before the first base, which then lies outside like one behind the last.
    let first = position.wrapping_sub(s.before * s.dilation);
    for tap in 0..s.width {
        if let Some(&code) = conv.codes.get(first.wrapping_add(tap * s.dilation)) {
            let code = usize::from(code).min(CODES - 1);
            let at = (tap * CODES + code) * lanes + block * LANES;
            // SAFETY: tap < width, code < CODES and the block exists, so 16 bytes from `at` lie in the table, whose length
            // ConvCodes::run has checked.
            let row = unsafe { _mm_loadu_si128(conv.table.as_ptr().add(at).cast()) };
            sum = _mm256_add_epi16(sum, _mm256_cvtepi8_epi16(row));
        }
    }
    sum
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn codes_512(conv: &ConvCodes, out: &mut Output) {
    let view = conv.epilogue();
    for position in 0..conv.rows.positions {
        for block in 0..padded(conv.shape.channels_out) / LANES {
            // SAFETY: the position and the block exist.
            unsafe {
                let sum = _mm512_cvtepi16_epi32(codes_sum(conv, position, block));
                finish_512(&view, &[[sum]], position, block, out);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn codes_256(conv: &ConvCodes, out: &mut Output) {
    let view = conv.epilogue();
    for position in 0..conv.rows.positions {
        for block in 0..padded(conv.shape.channels_out) / LANES {
            let mut values = [0i32; LANES];
            // SAFETY: the position and the block exist; the array holds 16 i32.
            unsafe {
                let sum = codes_sum(conv, position, block);
                let low = _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sum));
                let high = _mm256_cvtepi16_epi32(_mm256_extracti128_si256(sum, 1));
                _mm256_storeu_si256(values.as_mut_ptr().cast(), low);
                _mm256_storeu_si256(values.as_mut_ptr().add(8).cast(), high);
                finish_256(&view, &values, &[low, high], position, block, out);
            }
        }
    }
}

// ---- AVX-512 VNNI ----

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn vnni(conv: &ConvInt8, out: &mut Output) {
    // SAFETY: forwarded from the caller. The number of input channels is made a constant where it is a common one, so that addresses are
    // constants too.
    unsafe {
        match (conv.signed_input, conv.shape.channels_in) {
            (false, 16) => vnni_blocks::<false, 4>(conv, out),
            (false, 32) => vnni_blocks::<false, 8>(conv, out),
            (false, 64) => vnni_blocks::<false, 16>(conv, out),
            (false, _) => vnni_blocks::<false, 0>(conv, out),
            (true, _) => vnni_blocks::<true, 0>(conv, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn vnni_blocks<const SIGNED: bool, const QUADS: usize>(conv: &ConvInt8, out: &mut Output) {
    let blocks = padded(conv.shape.channels_out) / LANES;
    let mut block = 0;
    while block < blocks {
        // SAFETY: forwarded from the caller; blocks block..block + R exist.
        unsafe {
            if blocks - block >= 2 {
                over_positions!(
                    conv.rows.positions,
                    12,
                    |start| vnni_tile::<12, 2, SIGNED, QUADS>(conv, out, start, block),
                    |start| vnni_tile::<1, 2, SIGNED, QUADS>(conv, out, start, block)
                );
                block += 2;
            } else {
                over_positions!(
                    conv.rows.positions,
                    16,
                    |start| vnni_tile::<16, 1, SIGNED, QUADS>(conv, out, start, block),
                    |start| vnni_tile::<1, 1, SIGNED, QUADS>(conv, out, start, block)
                );
                block += 1;
            }
        }
    }
}

/// `QUADS` is a fourth of the input channels, or 0 where it is not known before the run.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn vnni_tile<const P: usize, const R: usize, const SIGNED: bool, const QUADS: usize>(
    conv: &ConvInt8,
    out: &mut Output,
    start: usize,
    block: usize,
) {
    let s = &conv.shape;
    let lanes = padded(s.channels_out);
    let quads = if QUADS > 0 { QUADS } else { s.channels_in / 4 };
    let row = s.first_row(conv.rows.halo) + start;
    let mut sums = [[_mm512_setzero_si512(); R]; P];
    // Signed activations are read as unsigned ones, 128 too large; 128 times the column sums is taken off again.
    let mut excess = [_mm512_setzero_si512(); R];
    let all_128 = _mm512_set1_epi8(-128);
    for tap in 0..s.width {
        // SAFETY: tap < width, quad < quads and the blocks exist, so the 64-byte lines lie inside packed_len bytes; the
        // rows row + tap·dilation .. + P lie inside halo + positions + halo rows because reach() <= halo and
        // start + P <= positions.
        unsafe {
            let x = conv
                .input
                .as_ptr()
                .add((row + tap * s.dilation) * quads * 4);
            let weights = conv
                .weights
                .as_ptr()
                .add((tap * quads * lanes + block * LANES) * 4);
            for quad in 0..quads {
                let mut w = [_mm512_setzero_si512(); R];
                for (r, w) in w.iter_mut().enumerate() {
                    let line = weights.add((quad * lanes + r * LANES) * 4);
                    *w = _mm512_loadu_si512(line.cast());
                    if SIGNED {
                        excess[r] = _mm512_dpbusd_epi32(excess[r], all_128, *w);
                    }
                }
                for (p, sums) in sums.iter_mut().enumerate() {
                    let four = x.add((p * quads + quad) * 4).cast::<i32>();
                    let mut x = _mm512_set1_epi32(four.read_unaligned());
                    if SIGNED {
                        x = _mm512_xor_si512(x, all_128);
                    }
                    for (sum, w) in sums.iter_mut().zip(&w) {
                        *sum = _mm512_dpbusd_epi32(*sum, x, *w);
                    }
                }
            }
        }
    }
    if SIGNED {
        for sums in &mut sums {
            for (sum, excess) in sums.iter_mut().zip(&excess) {
                *sum = _mm512_sub_epi32(*sum, *excess);
            }
        }
    }
    // SAFETY: positions start..start + P and blocks block..block + R exist.
    unsafe { finish_512(conv, &sums, start, block, out) };
}

/// The epilogue of a tile; see the module docs of `kernels` for the formula.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
#[inline]
unsafe fn finish_512<const P: usize, const R: usize>(
    conv: &ConvInt8,
    sums: &[[__m512i; R]; P],
    start: usize,
    block: usize,
    out: &mut Output,
) {
    let channels = conv.shape.channels_out;
    for r in 0..R {
        let first = (block + r) * LANES;
        if channels - first < LANES {
            for (p, sums) in sums.iter().enumerate() {
                let mut lanes = [0i32; LANES];
                // SAFETY: 16 i32 fit the array.
                unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), sums[r]) };
                finish_lanes(conv, &lanes, start + p, block + r, out);
            }
            continue;
        }
        let row = (conv.rows.halo + start) * channels + first;
        // SAFETY: scale and bias hold padded(channels_out) values; residual and outputs hold their rows, checked in
        // ConvInt8::run and ConvCodes::run; 16 channels from `first` exist, tested above.
        unsafe {
            let scale = _mm512_loadu_ps(conv.scale.as_ptr().add(first));
            let bias = _mm512_loadu_ps(conv.bias.as_ptr().add(first));
            let value = |p: usize| {
                let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[p][r]), scale, bias);
                let Some((residual, residual_scale)) = conv.residual else {
                    return y;
                };
                let bytes = residual.as_ptr().add(row + p * channels).cast();
                let x = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(bytes)));
                _mm512_fmadd_ps(x, _mm512_set1_ps(residual_scale), y)
            };
            match out {
                Output::Unsigned(o) => {
                    let target = o.as_mut_ptr().add(row);
                    for p in 0..P {
                        let bytes = bytes_512(value(p), 0.0);
                        _mm_storeu_si128(target.add(p * channels).cast(), bytes);
                    }
                }
                Output::Signed(o) => {
                    let target = o.as_mut_ptr().add(row);
                    for p in 0..P {
                        let bytes = bytes_512(value(p), -127.0);
                        _mm_storeu_si128(target.add(p * channels).cast(), bytes);
                    }
                }
                Output::Float { out, relu } => {
                    let target = out.as_mut_ptr().add(start * channels + first);
                    for p in 0..P {
                        let mut y = value(p);
                        if *relu {
                            y = _mm512_max_ps(y, _mm512_setzero_ps());
                        }
                        _mm512_storeu_ps(target.add(p * channels), y);
                    }
                }
            }
        }
    }
}

/// Clamped to `low`..=127 and rounded, ties to even.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
#[inline]
fn bytes_512(y: __m512, low: f32) -> __m128i {
    let y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(low)), _mm512_set1_ps(127.0));
    _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(y))
}

// ---- AVX2 ----

#[target_feature(enable = "avx2,fma")]
unsafe fn avx2(conv: &ConvInt8, out: &mut Output) {
    let blocks = padded(conv.shape.channels_out) / LANES;
    for block in 0..blocks {
        // SAFETY: forwarded from the caller; the block exists.
        unsafe {
            over_positions!(
                conv.rows.positions,
                5,
                |start| avx2_tile::<5>(conv, out, start, block),
                |start| avx2_tile::<1>(conv, out, start, block)
            );
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn avx2_tile<const P: usize>(conv: &ConvInt8, out: &mut Output, start: usize, block: usize) {
    let s = &conv.shape;
    let lanes = padded(s.channels_out);
    let quads = s.channels_in / 4;
    let row = s.first_row(conv.rows.halo) + start;
    let ones = _mm256_set1_epi16(1);
    let mut sums = [[_mm256_setzero_si256(); 2]; P];
    for tap in 0..s.width {
        let x_offset = (row + tap * s.dilation) * s.channels_in;
        for quad in 0..quads {
            let w_offset = (tap * quads + quad) * lanes * 4 + block * LANES * 4;
            // SAFETY: as in vnni_tile: 64 bytes of weights from w_offset and P rows from x_offset exist.
            unsafe {
                let w = [
                    _mm256_loadu_si256(conv.weights.as_ptr().add(w_offset).cast()),
                    _mm256_loadu_si256(conv.weights.as_ptr().add(w_offset + 32).cast()),
                ];
                for (p, sums) in sums.iter_mut().enumerate() {
                    let at = x_offset + p * s.channels_in + quad * 4;
                    let x = conv.input.as_ptr().add(at).cast::<i32>().read_unaligned();
                    let x = _mm256_set1_epi32(x);
                    for (sum, &w) in sums.iter_mut().zip(&w) {
                        // |x| times w with x's sign: no operand leaves [-127, 127], so no pair saturates.
                        let pairs = if conv.signed_input {
                            _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x))
                        } else {
                            _mm256_maddubs_epi16(x, w)
                        };
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
        }
    }
    for (p, sums) in sums.iter().enumerate() {
        let mut values = [0i32; LANES];
        // SAFETY: the array holds 16 i32; the position and the block exist.
        unsafe {
            _mm256_storeu_si256(values.as_mut_ptr().cast(), sums[0]);
            _mm256_storeu_si256(values.as_mut_ptr().add(8).cast(), sums[1]);
            finish_256(conv, &values, sums, start + p, block, out);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn finish_256(
    conv: &ConvInt8,
    values: &[i32; LANES],
    sums: &[__m256i; 2],
    position: usize,
    block: usize,
    out: &mut Output,
) {
    let channels = conv.shape.channels_out;
    let first = block * LANES;
    if channels - first < LANES {
        return finish_lanes(conv, values, position, block, out);
    }
    let row = (conv.rows.halo + position) * channels + first;
    for (half, sum) in sums.iter().enumerate() {
        let c = first + half * 8;
        // SAFETY: as in finish_512, for eight channels from c.
        unsafe {
            let scale = _mm256_loadu_ps(conv.scale.as_ptr().add(c));
            let bias = _mm256_loadu_ps(conv.bias.as_ptr().add(c));
            let mut y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(*sum), scale, bias);
            if let Some((residual, residual_scale)) = conv.residual {
                let bytes = _mm_loadl_epi64(residual.as_ptr().add(row + half * 8).cast());
                let x = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
                y = _mm256_fmadd_ps(x, _mm256_set1_ps(residual_scale), y);
            }
            let (low, high) = match out {
                Output::Unsigned(_) => (0.0, 127.0),
                _ => (-127.0, 127.0),
            };
            match out {
                Output::Unsigned(o) | Output::Signed(o) => {
                    let y =
                        _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(low)), _mm256_set1_ps(high));
                    let words = _mm256_cvtps_epi32(y);
                    let low = _mm256_castsi256_si128(words);
                    let high = _mm256_extracti128_si256(words, 1);
                    let shorts = _mm_packs_epi32(low, high);
                    // All values lie in [-127, 127], where signed packing keeps the byte pattern wanted.
                    let bytes = _mm_packs_epi16(shorts, shorts);
                    _mm_storel_epi64(o.as_mut_ptr().add(row + half * 8).cast(), bytes);
                }
                Output::Float { out, relu } => {
                    let y = if *relu {
                        _mm256_max_ps(y, _mm256_setzero_ps())
                    } else {
                        y
                    };
                    _mm256_storeu_ps(out.as_mut_ptr().add(position * channels + c), y);
                }
            }
        }
    }
}
