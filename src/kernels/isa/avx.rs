//! x86-64 with 256-bit registers: AVX2 (`vpmaddubsw`, `vpmaddwd`) and AVX-VNNI (`vpdpbusd`).
//!
//! A tile is P positions by one block of 16 output channels in two registers, all sums in
//! registers; see `avx512` for how tiles cover the rows. AVX2 takes the sign of a signed activation
//! over to the weight (and relies on paired weights for unsigned ones), AVX-VNNI reads signed
//! activations with 128 added, as AVX-512 does.
#![allow(unsafe_code)]

use super::{Kernels, float_x86, peak_x86};
use crate::kernels::activation::Activation;
use crate::kernels::conv::finish_lanes;
use crate::kernels::lanes::{Registers, activate_256};
use crate::kernels::{ConvInt8, LANES, Output, Residual, Scratch, padded};
use std::arch::x86_64::*;

pub(super) const AVX2: Kernels = Kernels {
    name: "avx2",
    available,
    registers: Registers::Avx2,
    conv_int8: conv_int8_avx2,
    conv_float: float_x86::conv_256,
    dense: float_x86::dense,
    peak_int8: Some(peak_x86::AVX2),
    peak_f32: Some(peak_x86::FMA_256),
};

pub(super) const AVX_VNNI: Kernels = Kernels {
    name: "avxvnni",
    available: || available() && is_x86_feature_detected!("avxvnni"),
    conv_int8: conv_int8_vnni,
    peak_int8: Some(peak_x86::AVX_VNNI),
    peak_f32: None,
    ..AVX2
};

/// True where the processor has AVX2, FMA and F16C.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// # Safety
/// [`AVX2`] is available, and [`ConvInt8::run`] has checked the lengths: every pointer below is
/// derived from them.
unsafe fn conv_int8_avx2(conv: &ConvInt8, _: &mut Scratch, out: &mut Output) {
    // SAFETY: the caller's.
    unsafe {
        if conv.signed_input {
            avx2::<true>(conv, conv.input.data, out);
        } else {
            avx2::<false>(conv, conv.input.data, out);
        }
    }
}

/// # Safety
/// As above, for [`AVX_VNNI`].
unsafe fn conv_int8_vnni(conv: &ConvInt8, scratch: &mut Scratch, out: &mut Output) {
    // SAFETY: the caller's; a copy is as long as the input.
    unsafe {
        if conv.signed_input {
            vnni::<true>(conv, flipped(scratch, conv.input.data), out);
        } else {
            vnni::<false>(conv, conv.input.data, out);
        }
    }
}

/// In registers of this instruction set.
#[target_feature(enable = "avx,avx2")]
fn flipped<'a>(scratch: &'a mut Scratch, bytes: &[u8]) -> &'a [u8] {
    scratch.flipped(bytes)
}

/// The body of both: `$dot(sum, x, w)` adds four products to each i32, `$shifted` where signed
/// activations have 128 added.
macro_rules! conv_256 {
    ($conv:ident, $blocks:ident, $tile:ident, $features:literal, $p:literal, $shifted:literal,
     $dot:expr) => {
        #[target_feature(enable = $features)]
        unsafe fn $conv<const SIGNED: bool>(conv: &ConvInt8, input: &[u8], out: &mut Output) {
            let quads = conv.shape.channels_in / 4;
            let row = conv.shape.stride * conv.input.pitch;
            // SAFETY: forwarded from the caller. Channels and pitch are made constants where they
            // are common ones, so that addresses are constants too.
            unsafe {
                match (quads, row) {
                    (1, 4) => $blocks::<1, 4, SIGNED>(conv, input, out),
                    (4, 16) => $blocks::<4, 16, SIGNED>(conv, input, out),
                    (8, 32) => $blocks::<8, 32, SIGNED>(conv, input, out),
                    (16, 64) => $blocks::<16, 64, SIGNED>(conv, input, out),
                    _ => $blocks::<0, 0, SIGNED>(conv, input, out),
                }
            }
        }

        #[target_feature(enable = $features)]
        unsafe fn $blocks<const QUADS: usize, const ROW: usize, const SIGNED: bool>(
            conv: &ConvInt8,
            input: &[u8],
            out: &mut Output,
        ) {
            let s = &conv.shape;
            let positions = conv.positions;
            let block_len = s.width * s.channels_in * LANES;
            // SAFETY: the caller's lengths: the rows before row 0 exist, and block_len weights for
            // every block.
            unsafe {
                let back = s.before * s.dilation * conv.input.pitch;
                let x = input.as_ptr().add(conv.input.first - back);
                for block in 0..padded(s.channels_out) / LANES {
                    let w = conv.weights.as_ptr().add(block * block_len);
                    let mut begin = [_mm256_setzero_si256(); 2];
                    if $shifted && SIGNED {
                        let all_128 = _mm256_set1_epi8(-128);
                        let mut sums = begin;
                        for line in 0..block_len / 64 {
                            for (half, sum) in sums.iter_mut().enumerate() {
                                let w = _mm256_loadu_si256(w.add(line * 64 + half * 32).cast());
                                *sum = $dot(*sum, all_128, w);
                            }
                        }
                        begin = sums.map(|sum| _mm256_sub_epi32(_mm256_setzero_si256(), sum));
                    }
                    if positions >= $p {
                        let mut start = 0;
                        while start < positions {
                            let at = start.min(positions - $p);
                            let sums = $tile::<$p, QUADS, ROW, SIGNED>(conv, x, w, &begin, at);
                            finish(conv, &sums, at, block, out);
                            start += $p;
                        }
                    } else {
                        for at in 0..positions {
                            let sums = $tile::<1, 0, 0, SIGNED>(conv, x, w, &begin, at);
                            finish(conv, &sums, at, block, out);
                        }
                    }
                }
            }
        }

        /// The sums of P positions from `start`. `QUADS` is a fourth of the input channels and
        /// `ROW` the bytes from one position to the next, or 0 where they are not known before the
        /// run.
        #[target_feature(enable = $features)]
        #[inline]
        unsafe fn $tile<
            const P: usize,
            const QUADS: usize,
            const ROW: usize,
            const SIGNED: bool,
        >(
            conv: &ConvInt8,
            x: *const u8,
            weights: *const i8,
            begin: &[__m256i; 2],
            start: usize,
        ) -> [[__m256i; 2]; P] {
            let s = &conv.shape;
            let quads = if QUADS > 0 { QUADS } else { s.channels_in / 4 };
            let row = if ROW > 0 {
                ROW
            } else {
                s.stride * conv.input.pitch
            };
            let tap_step = s.dilation * conv.input.pitch;
            let mut sums = [*begin; P];
            let mut w = weights;
            // SAFETY: start + P <= positions, so all rows exist that taps and positions name; every
            // block has one line of 64 bytes a tap and quad.
            unsafe {
                for tap in 0..s.width {
                    let x_tap = x.add(start * row + tap * tap_step);
                    for quad in 0..quads {
                        let lines = [
                            _mm256_loadu_si256(w.cast()),
                            _mm256_loadu_si256(w.add(32).cast()),
                        ];
                        for (p, sums) in sums.iter_mut().enumerate() {
                            let four = x_tap.add(p * row + quad * 4).cast::<i32>();
                            let x = _mm256_set1_epi32(four.read_unaligned());
                            for (sum, &line) in sums.iter_mut().zip(&lines) {
                                *sum = if SIGNED && !$shifted {
                                    dot_signed(*sum, x, line)
                                } else {
                                    $dot(*sum, x, line)
                                };
                            }
                        }
                        w = w.add(64);
                    }
                }
            }
            sums
        }
    };
}

conv_256!(
    avx2,
    blocks_avx2,
    tile_avx2,
    "avx2,fma",
    5,
    false,
    dot_unsigned
);
conv_256!(
    vnni,
    blocks_vnni,
    tile_vnni,
    "avx2,fma,avxvnni",
    6,
    true,
    |sum, x, w| { _mm256_dpbusd_avx_epi32(sum, x, w) }
);

/// Unsigned x times w: weights are paired so that no pair of products saturates.
#[target_feature(enable = "avx2")]
#[inline]
fn dot_unsigned(sum: __m256i, x: __m256i, w: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(x, w);
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// |x| times w with x's sign: no operand leaves [-127, 127], so no pair of products saturates.
#[target_feature(enable = "avx2")]
#[inline]
fn dot_signed(sum: __m256i, x: __m256i, w: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
    _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// The epilogue of a tile; see the module docs of `kernels` for the formula.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn finish<const P: usize>(
    conv: &ConvInt8,
    sums: &[[__m256i; 2]; P],
    start: usize,
    block: usize,
    out: &mut Output,
) {
    for (p, sums) in sums.iter().enumerate() {
        // SAFETY: forwarded from the caller; the position and the block exist.
        unsafe { finish_position(conv, sums, start + p, block, out) };
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn finish_position(
    conv: &ConvInt8,
    sums: &[__m256i; 2],
    position: usize,
    block: usize,
    out: &mut Output,
) {
    let first = block * LANES;
    if conv.shape.channels_out - first < LANES {
        let mut values = [0i32; LANES];
        // SAFETY: the array holds 16 i32.
        unsafe {
            _mm256_storeu_si256(values.as_mut_ptr().cast(), sums[0]);
            _mm256_storeu_si256(values.as_mut_ptr().add(8).cast(), sums[1]);
        }
        return finish_lanes(conv, &values, position, block, out);
    }
    let mut values = [_mm256_setzero_ps(); 2];
    for (half, (sum, y)) in sums.iter().zip(&mut values).enumerate() {
        let c = first + half * 8;
        // SAFETY: scale and bias hold padded(channels_out) values; the residual has channels_out
        // values at each position, checked in ConvInt8::run; eight channels from c exist, tested
        // above.
        unsafe {
            let scale = _mm256_loadu_ps(conv.scale.as_ptr().add(c));
            let bias = _mm256_loadu_ps(conv.bias.as_ptr().add(c));
            let mut sum = _mm256_cvtepi32_ps(*sum);
            if let Some(scale) = conv.row_scale(position) {
                sum = _mm256_mul_ps(sum, _mm256_set1_ps(scale));
            }
            *y = _mm256_fmadd_ps(sum, scale, bias);
            if conv.activation == Activation::ReluFirst {
                *y = _mm256_max_ps(*y, _mm256_setzero_ps());
            }
            match &conv.residual {
                Residual::None => (),
                Residual::Unsigned(rows, scale) => {
                    let at = rows.first + position * rows.pitch + c;
                    let bytes = _mm_loadl_epi64(rows.data.as_ptr().add(at).cast());
                    let x = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
                    *y = _mm256_fmadd_ps(x, _mm256_set1_ps(*scale), *y);
                }
                Residual::Signed(rows, scale) => {
                    let at = rows.first + position * rows.pitch + c;
                    let bytes = _mm_loadl_epi64(rows.data.as_ptr().add(at).cast());
                    let x = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
                    *y = _mm256_fmadd_ps(x, _mm256_set1_ps(*scale), *y);
                }
                Residual::Float(rows) => {
                    let at = rows.first + position * rows.pitch + c;
                    *y = _mm256_add_ps(*y, _mm256_loadu_ps(rows.data.as_ptr().add(at)));
                }
            }
        }
    }
    match conv.activation {
        Activation::Relu => values = values.map(|y| _mm256_max_ps(y, _mm256_setzero_ps())),
        Activation::Gelu => {
            values = activate_256(Activation::Gelu, values);
            values = values.map(|y| _mm256_mul_ps(y, _mm256_set1_ps(conv.gain)));
        }
        Activation::LeakyRelu { slope } => {
            values = activate_256(Activation::LeakyRelu { slope }, values);
        }
        _ => (),
    }
    for (half, y) in values.into_iter().enumerate() {
        let c = first + half * 8;
        let (rows, low, high) = match out {
            Output::Unsigned(rows) => (rows, 0.0, 255.0),
            Output::Signed(rows) => (rows, -127.0, 127.0),
            Output::Float(rows) => {
                let at = rows.first + position * rows.pitch + c;
                // SAFETY: the output has channels_out values at each position, checked in
                // ConvInt8::run; eight from c exist.
                unsafe { _mm256_storeu_ps(rows.data.as_mut_ptr().add(at), y) };
                continue;
            }
        };
        let y = _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(low)), _mm256_set1_ps(high));
        let words = _mm256_cvtps_epi32(y);
        let shorts = _mm_packs_epi32(
            _mm256_castsi256_si128(words),
            _mm256_extracti128_si256(words, 1),
        );
        let bytes = if low < 0.0 {
            _mm_packs_epi16(shorts, shorts)
        } else {
            _mm_packus_epi16(shorts, shorts)
        };
        let at = rows.first + position * rows.pitch + c;
        // SAFETY: as above.
        unsafe { _mm_storel_epi64(rows.data.as_mut_ptr().add(at).cast(), bytes) };
    }
}
