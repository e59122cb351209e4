//! x86-64: AVX2 (`vpmaddubsw`) and AVX-512 VNNI (`vpdpbusd`).
//!
//! A tile is P positions by R blocks of 16 output channels, all sums in registers; each weight register serves P
//! positions and each four activations, broadcast, serve R blocks. A tile at the end of the rows is moved back to overlap its
//! predecessor (positions are independent, so computing some twice changes nothing); fewer than P positions in all, or output channels
//! that do not fill a block, take the scalar epilogue.
#![allow(unsafe_code)]

use super::float::{self, ConvFloat};
use super::table::{self, ConvCodes};
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

pub(super) fn conv_codes(conv: &ConvCodes, out: &mut Output) {
    // SAFETY: Isa::Avx2 and Isa::Avx512Vnni are available only where AVX2 and FMA were detected.
    unsafe { conv_codes_avx2(conv, out) }
}

pub(super) fn conv_float(conv: &ConvFloat, out: &mut [f32], first_out: usize) {
    // SAFETY: as above.
    unsafe { conv_float_avx2(conv, out, first_out) }
}

#[target_feature(enable = "avx2,fma")]
fn conv_codes_avx2(conv: &ConvCodes, out: &mut Output) {
    table::run_anywhere(conv, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn conv_float_avx2(conv: &ConvFloat, out: &mut [f32], first_out: usize) {
    float::run_anywhere(conv, out, first_out);
}

// ---- AVX-512 VNNI ----

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn vnni(conv: &ConvInt8, out: &mut Output) {
    let blocks = padded(conv.shape.channels_out) / LANES;
    let mut block = 0;
    while block < blocks {
        // SAFETY: forwarded from the caller; blocks block..block + R exist.
        unsafe {
            if blocks - block >= 2 {
                over_positions!(
                    conv.rows.positions,
                    12,
                    |start| vnni_tile::<12, 2>(conv, out, start, block),
                    |start| vnni_tile::<1, 2>(conv, out, start, block)
                );
                block += 2;
            } else {
                over_positions!(
                    conv.rows.positions,
                    14,
                    |start| vnni_tile::<14, 1>(conv, out, start, block),
                    |start| vnni_tile::<1, 1>(conv, out, start, block)
                );
                block += 1;
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn vnni_tile<const P: usize, const R: usize>(
    conv: &ConvInt8,
    out: &mut Output,
    start: usize,
    block: usize,
) {
    let s = &conv.shape;
    let lanes = padded(s.channels_out);
    let quads = s.channels_in / 4;
    let row = s.first_row(conv.rows.halo) + start;
    let mut sums = [[_mm512_setzero_si512(); R]; P];
    // Signed activations are read as unsigned ones, 128 too large; 128 times the column sums is taken off again.
    let flip = _mm512_set1_epi32(if conv.signed_input {
        0x8080_8080_u32 as i32
    } else {
        0
    });
    let mut excess = [_mm512_setzero_si512(); R];
    let all_128 = _mm512_set1_epi8(-128);
    for tap in 0..s.width {
        let x_offset = (row + tap * s.dilation) * s.channels_in;
        let w_offset = tap * quads * lanes * 4 + block * LANES * 4;
        for quad in 0..quads {
            // SAFETY: tap < width, quad < quads and the blocks exist, so the 64-byte lines lie inside packed_len bytes; the
            // rows row + tap·dilation .. + P lie inside halo + positions + halo rows because reach() <= halo and
            // start + P <= positions.
            unsafe {
                let mut w = [_mm512_setzero_si512(); R];
                for (r, w) in w.iter_mut().enumerate() {
                    let at = w_offset + quad * lanes * 4 + r * LANES * 4;
                    *w = _mm512_loadu_si512(conv.weights.as_ptr().add(at).cast());
                    if conv.signed_input {
                        excess[r] = _mm512_dpbusd_epi32(excess[r], all_128, *w);
                    }
                }
                for (p, sums) in sums.iter_mut().enumerate() {
                    let at = x_offset + p * s.channels_in + quad * 4;
                    let x = conv.input.as_ptr().add(at).cast::<i32>().read_unaligned();
                    let x = _mm512_xor_si512(_mm512_set1_epi32(x), flip);
                    for (sum, w) in sums.iter_mut().zip(&w) {
                        *sum = _mm512_dpbusd_epi32(*sum, x, *w);
                    }
                }
            }
        }
    }
    for (p, sums) in sums.iter().enumerate() {
        for (r, sum) in sums.iter().enumerate() {
            let sum = _mm512_sub_epi32(*sum, excess[r]);
            // SAFETY: position start + p < positions and block + r < blocks, as finish_512 requires.
            unsafe { finish_512(conv, sum, start + p, block + r, out) };
        }
    }
}

/// The epilogue of one position and block; see the module docs of `kernels` for the formula.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
#[inline]
unsafe fn finish_512(
    conv: &ConvInt8,
    sum: __m512i,
    position: usize,
    block: usize,
    out: &mut Output,
) {
    let channels = conv.shape.channels_out;
    let first = block * LANES;
    if channels - first < LANES {
        let mut lanes = [0i32; LANES];
        // SAFETY: 16 i32 fit the array.
        unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), sum) };
        return finish_lanes(conv, &lanes, position, block, out);
    }
    let row = (conv.rows.halo + position) * channels + first;
    // SAFETY: scale and bias hold padded(channels_out) values and residual and outputs hold their rows, checked in
    // ConvInt8::run; 16 channels from `first` exist, tested above.
    unsafe {
        let scale = _mm512_loadu_ps(conv.scale.as_ptr().add(first));
        let bias = _mm512_loadu_ps(conv.bias.as_ptr().add(first));
        let mut y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, bias);
        if let Some((residual, residual_scale)) = conv.residual {
            let bytes = _mm_loadu_si128(residual.as_ptr().add(row).cast());
            let values = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
            y = _mm512_fmadd_ps(values, _mm512_set1_ps(residual_scale), y);
        }
        let (low, high) = match out {
            Output::Unsigned(_) => (0.0, 127.0),
            _ => (-127.0, 127.0),
        };
        match out {
            Output::Unsigned(o) | Output::Signed(o) => {
                // max, min in this order give `clamp`; the conversion rounds ties to even.
                let y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(low)), _mm512_set1_ps(high));
                let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(y));
                _mm_storeu_si128(o.as_mut_ptr().add(row).cast(), bytes);
            }
            Output::Float { out, relu } => {
                let y = if *relu {
                    _mm512_max_ps(y, _mm512_setzero_ps())
                } else {
                    y
                };
                _mm512_storeu_ps(out.as_mut_ptr().add(position * channels + first), y);
            }
        }
    }
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
