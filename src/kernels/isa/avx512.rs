//! x86-64 with AVX-512 VNNI: `vpdpbusd` on 64 bytes.
//!
//! A tile is P positions by R blocks of 16 output channels, all sums in registers: 16 × 1, 12 × 2
//! or 8 × 3 (4 positions where no more are left), so that each weight register serves P positions
//! and each four activations, broadcast, serve R blocks. A tile at the end of the rows is moved
//! back to overlap its predecessor (positions are independent, so computing some twice changes
//! nothing); fewer than P positions go one by one.
//!
//! `vpdpbusd` takes unsigned activations. Signed ones are copied once with 128 added, and sums
//! begin at -128 times the column sums of the weights.
//!
//! The epilogue needs no clamp before it rounds, because [`ConvInt8::run`] has bounded the values:
//! packing four registers of i32 to bytes saturates to 0 and 255, and for signed rows one maximum
//! over 64 bytes brings -128 to -127.
#![allow(unsafe_code)]

use super::{Kernels, avx, float_x86, peak_x86};
use crate::kernels::activation::Activation;
use crate::kernels::lanes::{Registers, activate_512};
use crate::kernels::{ConvInt8, LANES, Output, Residual, Scratch, padded};
use std::arch::asm;
use std::arch::x86_64::*;

pub(super) const AVX512_VNNI: Kernels = Kernels {
    name: "avx512vnni",
    available,
    registers: Registers::Avx512,
    conv_int8,
    conv_float: float_x86::conv_512,
    dense: float_x86::dense,
    peak_int8: Some(peak_x86::AVX512_VNNI),
    peak_f32: Some(peak_x86::FMA_512),
};

/// True where the processor has AVX-512 F, BW, VL and VNNI.
pub(super) fn available() -> bool {
    avx::available()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

/// # Safety
/// [`available`], and [`ConvInt8::run`] has checked the lengths: every pointer below is derived
/// from them.
pub(super) unsafe fn conv_int8(conv: &ConvInt8, scratch: &mut Scratch, out: &mut Output) {
    // SAFETY: the caller's; a copy is as long as the input.
    unsafe {
        let input = if conv.signed_input {
            flipped(scratch, conv.input.data)
        } else {
            conv.input.data
        };
        vnni(conv, input, out)
    }
}

/// In registers of this instruction set.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn flipped<'a>(scratch: &'a mut Scratch, bytes: &[u8]) -> &'a [u8] {
    scratch.flipped(bytes)
}

/// Positions of the tile that ends the rows where no more are left: sequences of tokens are short.
const SHORT: usize = 4;

/// Addresses and steps in bytes that all tiles share.
struct Walk {
    /// Tap 0 of position 0.
    x: *const u8,
    /// From one position to the next.
    row: usize,
    /// From one tap to the next.
    tap: usize,
    taps: usize,
    quads: usize,
    weights: *const i8,
    /// From one block of output channels to the next.
    block: usize,
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn vnni(conv: &ConvInt8, input: &[u8], out: &mut Output) {
    let s = &conv.shape;
    let pitch = conv.input.pitch;
    let quads = s.channels_in / 4;
    let walk = Walk {
        // SAFETY: ConvInt8::run has checked that the rows before row 0 exist.
        x: unsafe {
            input
                .as_ptr()
                .add(conv.input.first - s.before * s.dilation * pitch)
        },
        row: s.stride * pitch,
        tap: s.dilation * pitch,
        taps: s.width,
        quads,
        weights: conv.weights.as_ptr(),
        block: s.width * quads * 64,
    };
    // SAFETY: forwarded from the caller.
    unsafe {
        match kind_of(conv, out) {
            kind::UNSIGNED => sized::<{ kind::UNSIGNED }>(conv, &walk, out),
            kind::UNSIGNED_ADD => sized::<{ kind::UNSIGNED_ADD }>(conv, &walk, out),
            kind::UNSIGNED_RELU_ADD => sized::<{ kind::UNSIGNED_RELU_ADD }>(conv, &walk, out),
            kind::SIGNED => blocks::<0, 0, { kind::SIGNED }>(conv, &walk, out),
            kind::SIGNED_GELU => blocks::<0, 0, { kind::SIGNED_GELU }>(conv, &walk, out),
            kind::SIGNED_ADD => sized::<{ kind::SIGNED_ADD }>(conv, &walk, out),
            kind::SIGNED_LEAKY => sized::<{ kind::SIGNED_LEAKY }>(conv, &walk, out),
            kind::SCALED_SIGNED => blocks::<0, 0, { kind::SCALED_SIGNED }>(conv, &walk, out),
            kind::SCALED_GELU => blocks::<0, 0, { kind::SCALED_GELU }>(conv, &walk, out),
            kind::SCALED_FLOAT => blocks::<0, 0, { kind::SCALED_FLOAT }>(conv, &walk, out),
            kind::SCALED_FLOAT_ADD => blocks::<0, 0, { kind::SCALED_FLOAT_ADD }>(conv, &walk, out),
            kind::FLOAT => blocks::<0, 0, { kind::FLOAT }>(conv, &walk, out),
            kind::FLOAT_ADD => match walk.row {
                32 if walk.quads == 8 => blocks::<8, 32, { kind::FLOAT_ADD }>(conv, &walk, out),
                _ => blocks::<0, 0, { kind::FLOAT_ADD }>(conv, &walk, out),
            },
            _ => blocks::<0, 0, { kind::ANY }>(conv, &walk, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn sized<const KIND: u8>(conv: &ConvInt8, walk: &Walk, out: &mut Output) {
    // SAFETY: forwarded from the caller. Channels and pitch are made constants where they are
    // common ones, so that addresses are constants too.
    unsafe {
        match (walk.quads, walk.row) {
            (1, 4) => blocks::<1, 4, KIND>(conv, walk, out),
            (4, 16) => blocks::<4, 16, KIND>(conv, walk, out),
            (8, 32) => blocks::<8, 32, KIND>(conv, walk, out),
            (16, 64) => blocks::<16, 64, KIND>(conv, walk, out),
            _ => blocks::<0, 0, KIND>(conv, walk, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn blocks<const QUADS: usize, const ROW: usize, const KIND: u8>(
    conv: &ConvInt8,
    walk: &Walk,
    out: &mut Output,
) {
    let blocks = padded(conv.shape.channels_out) / LANES;
    let mut block = 0;
    while block < blocks {
        // SAFETY: forwarded from the caller; the blocks exist.
        unsafe {
            block += match blocks - block {
                1 => rows::<16, 1, QUADS, ROW, KIND>(conv, walk, block, out),
                2 | 4 => rows::<12, 2, QUADS, ROW, KIND>(conv, walk, block, out),
                _ => rows::<8, 3, QUADS, ROW, KIND>(conv, walk, block, out),
            };
        }
    }
}

/// All positions of R blocks; gives R.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn rows<
    const P: usize,
    const R: usize,
    const QUADS: usize,
    const ROW: usize,
    const KIND: u8,
>(
    conv: &ConvInt8,
    walk: &Walk,
    block: usize,
    out: &mut Output,
) -> usize {
    // SAFETY: block + r < blocks, each of walk.block bytes.
    unsafe {
        let weights = walk.weights.add(block * walk.block);
        let mut begin = [_mm512_setzero_si512(); R];
        if conv.signed_input {
            let all_128 = _mm512_set1_epi8(-128);
            let lines = walk.taps * walk.quads;
            // Of a short sequence these sums are a good part of the work: two of each block, so
            // that none waits for the one before.
            let mut sums = [[_mm512_setzero_si512(); 2]; R];
            for pair in (0..lines).step_by(2) {
                for (r, sums) in sums.iter_mut().enumerate() {
                    let line = weights.add(r * walk.block + pair * 64);
                    sums[0] =
                        _mm512_dpbusd_epi32(sums[0], all_128, _mm512_loadu_si512(line.cast()));
                    if pair + 1 < lines {
                        let next = _mm512_loadu_si512(line.add(64).cast());
                        sums[1] = _mm512_dpbusd_epi32(sums[1], all_128, next);
                    }
                }
            }
            for (begin, sums) in begin.iter_mut().zip(sums) {
                let sum = _mm512_add_epi32(sums[0], sums[1]);
                *begin = _mm512_sub_epi32(_mm512_setzero_si512(), sum);
            }
        }
        let positions = conv.positions;
        if positions >= P {
            let mut start = 0;
            while start < positions {
                let left = positions - start;
                if left <= SHORT {
                    let at = positions - SHORT;
                    let sums = tile::<SHORT, R, QUADS, ROW>(walk, weights, &begin, at);
                    finish::<SHORT, R, KIND>(conv, &sums, at, block, out);
                } else {
                    let at = start.min(positions - P);
                    let sums = tile::<P, R, QUADS, ROW>(walk, weights, &begin, at);
                    finish::<P, R, KIND>(conv, &sums, at, block, out);
                }
                start += P;
            }
        } else {
            for at in 0..positions {
                let sums = tile::<1, R, QUADS, ROW>(walk, weights, &begin, at);
                finish::<1, R, KIND>(conv, &sums, at, block, out);
            }
        }
    }
    R
}

/// The sums of P positions from `start`. `QUADS` is a fourth of the input channels and `ROW` the
/// bytes from one position to the next, or 0 where they are not known before the run.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
#[inline]
unsafe fn tile<const P: usize, const R: usize, const QUADS: usize, const ROW: usize>(
    walk: &Walk,
    weights: *const i8,
    begin: &[__m512i; R],
    start: usize,
) -> [[__m512i; R]; P] {
    let quads = if QUADS > 0 { QUADS } else { walk.quads };
    let row = if ROW > 0 { ROW } else { walk.row };
    let mut sums = [*begin; P];
    let mut w = weights;
    // SAFETY: start + P <= positions, so all rows exist that taps and positions name; every block
    // has taps · quads lines of 64 bytes.
    unsafe {
        for tap in 0..walk.taps {
            let x_tap = walk.x.add(start * row + tap * walk.tap);
            for quad in 0..quads {
                let mut lines = [_mm512_setzero_si512(); R];
                for (r, line) in lines.iter_mut().enumerate() {
                    *line = _mm512_loadu_si512(w.add(r * walk.block).cast());
                }
                for (p, sums) in sums.iter_mut().enumerate() {
                    let four = x_tap.add(p * row + quad * 4).cast::<i32>();
                    let x = _mm512_set1_epi32(four.read_unaligned());
                    for (sum, &line) in sums.iter_mut().zip(&lines) {
                        *sum = _mm512_dpbusd_epi32(*sum, x, line);
                    }
                    // Loads stay with their use: moved ahead in an unrolled loop, they would fill
                    // all registers and spill.
                    asm!("", options(nostack, preserves_flags));
                }
                w = w.add(64);
            }
        }
    }
    sums
}

/// What an epilogue does, known when it is compiled; whole blocks of 16 output channels, but for
/// `FLOAT` and `ANY`.
mod kind {
    /// Unsigned rows.
    pub const UNSIGNED: u8 = 0;
    /// Unsigned rows, unsigned ones added.
    pub const UNSIGNED_ADD: u8 = 1;
    /// Unsigned rows, unsigned ones added after a ReLU.
    pub const UNSIGNED_RELU_ADD: u8 = 2;
    /// Signed rows.
    pub const SIGNED: u8 = 3;
    /// Signed rows after a GELU.
    pub const SIGNED_GELU: u8 = 4;
    /// Float rows.
    pub const FLOAT: u8 = 5;
    /// Float rows, float ones added.
    pub const FLOAT_ADD: u8 = 6;
    /// Anything else, looked at as it runs.
    pub const ANY: u8 = 7;
    /// Signed rows, signed ones added.
    pub const SIGNED_ADD: u8 = 8;
    /// Signed rows after a leaky ReLU.
    pub const SIGNED_LEAKY: u8 = 9;
    /// With that, the sums of a position are multiplied by the scale of its input row.
    pub const SCALED: u8 = 16;
    pub const SCALED_SIGNED: u8 = SIGNED | SCALED;
    pub const SCALED_GELU: u8 = SIGNED_GELU | SCALED;
    pub const SCALED_FLOAT: u8 = FLOAT | SCALED;
    pub const SCALED_FLOAT_ADD: u8 = FLOAT_ADD | SCALED;
}

fn kind_of(conv: &ConvInt8, out: &Output) -> u8 {
    let kind = plain_kind_of(conv, out);
    match kind {
        _ if !conv.row_scales => kind,
        kind::SIGNED | kind::SIGNED_GELU | kind::FLOAT | kind::FLOAT_ADD => kind | kind::SCALED,
        _ => kind::ANY,
    }
}

/// The same of sums that no row's scale is multiplied with.
fn plain_kind_of(conv: &ConvInt8, out: &Output) -> u8 {
    let whole = conv.shape.channels_out.is_multiple_of(LANES);
    match (out, &conv.residual, conv.activation) {
        (Output::Float(_), Residual::None, Activation::Identity) => kind::FLOAT,
        _ if !whole => kind::ANY,
        (Output::Unsigned(_), Residual::None, Activation::Identity) => kind::UNSIGNED,
        (Output::Unsigned(_), Residual::Unsigned(..), Activation::Identity) => kind::UNSIGNED_ADD,
        (Output::Unsigned(_), Residual::Unsigned(..), Activation::ReluFirst) => {
            kind::UNSIGNED_RELU_ADD
        }
        (Output::Signed(_), Residual::None, Activation::Identity) => kind::SIGNED,
        (Output::Signed(_), Residual::None, Activation::Gelu) => kind::SIGNED_GELU,
        (Output::Signed(_), Residual::Signed(..), Activation::Identity) => kind::SIGNED_ADD,
        (Output::Signed(_), Residual::None, Activation::LeakyRelu { .. }) => kind::SIGNED_LEAKY,
        (Output::Float(_), Residual::Float(_), Activation::Identity) => kind::FLOAT_ADD,
        _ => kind::ANY,
    }
}

/// The epilogue of 16 positions by one block.
///
/// # Safety
/// [`ConvInt8::run`] has checked the lengths, and positions and block exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
pub(super) unsafe fn finish_sixteen(
    conv: &ConvInt8,
    sums: &[[__m512i; 1]; 16],
    start: usize,
    block: usize,
    out: &mut Output,
) {
    macro_rules! finish {
        ($($kind:ident)*) => {
            // SAFETY: forwarded from the caller.
            unsafe {
                match kind_of(conv, out) {
                    $(kind::$kind => {
                        finish::<16, 1, { kind::$kind }>(conv, sums, start, block, out)
                    })*
                    _ => finish_any(conv, sums, start, block, out),
                }
            }
        };
    }
    finish!(
        UNSIGNED UNSIGNED_ADD UNSIGNED_RELU_ADD SIGNED SIGNED_GELU FLOAT FLOAT_ADD SIGNED_ADD
        SIGNED_LEAKY SCALED_SIGNED SCALED_GELU SCALED_FLOAT SCALED_FLOAT_ADD
    )
}

/// The epilogue of a tile; see the module docs of `kernels` for the formula.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
#[inline]
unsafe fn finish<const P: usize, const R: usize, const KIND: u8>(
    conv: &ConvInt8,
    sums: &[[__m512i; R]; P],
    start: usize,
    block: usize,
    out: &mut Output,
) {
    if KIND == kind::ANY {
        // SAFETY: forwarded from the caller.
        unsafe { finish_any(conv, sums, start, block, out) };
        return;
    }
    let is = |kind: u8| KIND & !kind::SCALED == kind;
    for (r, block) in (block..block + R).enumerate() {
        let first = block * LANES;
        // SAFETY: scale and bias hold padded(channels_out) values; residual and output have
        // channels_out values at each position, checked in ConvInt8::run, as are the scales behind
        // the input rows; blocks are whole, or the mask keeps to the channels.
        unsafe {
            let scale = _mm512_loadu_ps(conv.scale.as_ptr().add(first));
            let bias = _mm512_loadu_ps(conv.bias.as_ptr().add(first));
            let mut values = [_mm512_setzero_ps(); P];
            for (p, y) in values.iter_mut().enumerate() {
                let mut sum = _mm512_cvtepi32_ps(sums[p][r]);
                if KIND & kind::SCALED != 0 {
                    let row = conv.input.first + (start + p) * conv.input.pitch;
                    let scale = conv.input.data.as_ptr().add(row + conv.shape.channels_in);
                    let scale = _mm512_set1_ps(scale.cast::<f32>().read_unaligned());
                    sum = _mm512_mul_ps(sum, scale);
                }
                *y = _mm512_fmadd_ps(sum, scale, bias);
                if KIND == kind::UNSIGNED_RELU_ADD {
                    *y = _mm512_max_ps(*y, _mm512_setzero_ps());
                }
            }
            if KIND == kind::UNSIGNED_ADD
                || KIND == kind::UNSIGNED_RELU_ADD
                || KIND == kind::SIGNED_ADD
            {
                let (Residual::Unsigned(rows, scale) | Residual::Signed(rows, scale)) =
                    &conv.residual
                else {
                    return;
                };
                let from = rows
                    .data
                    .as_ptr()
                    .add(rows.first + start * rows.pitch + first);
                let scale = _mm512_set1_ps(*scale);
                for (p, y) in values.iter_mut().enumerate() {
                    let bytes = _mm_loadu_si128(from.add(p * rows.pitch).cast());
                    let words = if KIND == kind::SIGNED_ADD {
                        _mm512_cvtepi8_epi32(bytes)
                    } else {
                        _mm512_cvtepu8_epi32(bytes)
                    };
                    *y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(words), scale, *y);
                }
            }
            if KIND == kind::SIGNED_LEAKY
                && let Activation::LeakyRelu { slope } = conv.activation
            {
                for y in &mut values {
                    *y = activate_512(Activation::LeakyRelu { slope }, *y);
                }
            }
            if is(kind::FLOAT_ADD) {
                let Residual::Float(rows) = &conv.residual else {
                    return;
                };
                let from = rows
                    .data
                    .as_ptr()
                    .add(rows.first + start * rows.pitch + first);
                for (p, y) in values.iter_mut().enumerate() {
                    *y = _mm512_add_ps(*y, _mm512_loadu_ps(from.add(p * rows.pitch)));
                }
            }
            if KIND == kind::SCALED_SIGNED {
                // A row's scale is not part of the bound that ConvInt8::run has checked.
                for y in &mut values {
                    *y = _mm512_min_ps(*y, _mm512_set1_ps(127.0));
                    *y = _mm512_max_ps(*y, _mm512_set1_ps(-127.0));
                }
            }
            if is(kind::SIGNED_GELU) {
                for y in &mut values {
                    let gelu = activate_512(Activation::Gelu, *y);
                    let gelu = _mm512_mul_ps(gelu, _mm512_set1_ps(conv.gain));
                    // The gain is not part of the bound that ConvInt8::run has checked.
                    let gelu = _mm512_min_ps(gelu, _mm512_set1_ps(127.0));
                    *y = _mm512_max_ps(gelu, _mm512_set1_ps(-127.0));
                }
            }
            match out {
                Output::Unsigned(rows) if KIND <= kind::UNSIGNED_RELU_ADD => {
                    let to = rows
                        .data
                        .as_mut_ptr()
                        .add(rows.first + start * rows.pitch + first);
                    store::<P, false, true>(&values, to, rows.pitch, !0);
                }
                Output::Signed(rows)
                    if is(kind::SIGNED)
                        || is(kind::SIGNED_GELU)
                        || KIND == kind::SIGNED_ADD
                        || KIND == kind::SIGNED_LEAKY =>
                {
                    let to = rows
                        .data
                        .as_mut_ptr()
                        .add(rows.first + start * rows.pitch + first);
                    store::<P, true, true>(&values, to, rows.pitch, !0);
                }
                Output::Float(rows) if is(kind::FLOAT) || is(kind::FLOAT_ADD) => {
                    let mask = tail_mask(conv, first);
                    let to = rows
                        .data
                        .as_mut_ptr()
                        .add(rows.first + start * rows.pitch + first);
                    for (p, y) in values.iter().enumerate() {
                        _mm512_mask_storeu_ps(to.add(p * rows.pitch), mask, *y);
                    }
                }
                _ => (),
            }
        }
    }
}

/// Channels from `first` on that exist.
fn tail_mask(conv: &ConvInt8, first: usize) -> __mmask16 {
    let left = (conv.shape.channels_out - first).min(LANES);
    ((1u32 << left) - 1) as __mmask16
}

/// The epilogue of whatever has none of its own.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
unsafe fn finish_any<const P: usize, const R: usize>(
    conv: &ConvInt8,
    sums: &[[__m512i; R]; P],
    start: usize,
    block: usize,
    out: &mut Output,
) {
    for (r, block) in (block..block + R).enumerate() {
        let first = block * LANES;
        let mask = tail_mask(conv, first);
        // SAFETY: as in finish; the mask keeps to the channels that exist.
        unsafe {
            let scale = _mm512_loadu_ps(conv.scale.as_ptr().add(first));
            let bias = _mm512_loadu_ps(conv.bias.as_ptr().add(first));
            let mut values = [_mm512_setzero_ps(); P];
            for (p, y) in values.iter_mut().enumerate() {
                let mut sum = _mm512_cvtepi32_ps(sums[p][r]);
                if let Some(scale) = conv.row_scale(start + p) {
                    sum = _mm512_mul_ps(sum, _mm512_set1_ps(scale));
                }
                *y = _mm512_fmadd_ps(sum, scale, bias);
                if conv.activation == Activation::ReluFirst {
                    *y = _mm512_max_ps(*y, _mm512_setzero_ps());
                }
            }
            match &conv.residual {
                Residual::None => (),
                Residual::Unsigned(rows, scale) | Residual::Signed(rows, scale) => {
                    let signed = matches!(conv.residual, Residual::Signed(..));
                    let from = rows
                        .data
                        .as_ptr()
                        .add(rows.first + start * rows.pitch + first);
                    for (p, y) in values.iter_mut().enumerate() {
                        let bytes = _mm_maskz_loadu_epi8(mask, from.add(p * rows.pitch).cast());
                        let words = if signed {
                            _mm512_cvtepi8_epi32(bytes)
                        } else {
                            _mm512_cvtepu8_epi32(bytes)
                        };
                        *y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(words), _mm512_set1_ps(*scale), *y);
                    }
                }
                Residual::Float(rows) => {
                    let from = rows
                        .data
                        .as_ptr()
                        .add(rows.first + start * rows.pitch + first);
                    for (p, y) in values.iter_mut().enumerate() {
                        let x = _mm512_maskz_loadu_ps(mask, from.add(p * rows.pitch));
                        *y = _mm512_add_ps(*y, x);
                    }
                }
            }
            match conv.activation {
                Activation::Relu => {
                    for y in &mut values {
                        *y = _mm512_max_ps(*y, _mm512_setzero_ps());
                    }
                }
                Activation::Gelu => {
                    for y in &mut values {
                        let gelu = activate_512(Activation::Gelu, *y);
                        *y = _mm512_mul_ps(gelu, _mm512_set1_ps(conv.gain));
                    }
                }
                Activation::LeakyRelu { slope } => {
                    for y in &mut values {
                        *y = activate_512(Activation::LeakyRelu { slope }, *y);
                    }
                }
                _ => (),
            }
            let (rows, signed) = match out {
                Output::Unsigned(rows) => (rows, false),
                Output::Signed(rows) => (rows, true),
                Output::Float(rows) => {
                    let to = rows
                        .data
                        .as_mut_ptr()
                        .add(rows.first + start * rows.pitch + first);
                    for (p, y) in values.iter().enumerate() {
                        _mm512_mask_storeu_ps(to.add(p * rows.pitch), mask, *y);
                    }
                    continue;
                }
            };
            if conv.needs_clamp() {
                for y in &mut values {
                    *y = _mm512_min_ps(*y, _mm512_set1_ps(255.0));
                    *y = _mm512_max_ps(*y, _mm512_set1_ps(-127.0));
                }
            }
            let to = rows
                .data
                .as_mut_ptr()
                .add(rows.first + start * rows.pitch + first);
            if signed {
                store::<P, true, false>(&values, to, rows.pitch, mask);
            } else {
                store::<P, false, false>(&values, to, rows.pitch, mask);
            }
        }
    }
}

/// Rounds, saturates and stores the 16 values of each of P positions as bytes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
#[inline]
unsafe fn store<const P: usize, const SIGNED: bool, const WHOLE: bool>(
    values: &[__m512; P],
    to: *mut u8,
    pitch: usize,
    mask: __mmask16,
) {
    // SAFETY: forwarded from the caller: 16 masked bytes can be written at each of P positions.
    let store = |p: usize, bytes: __m128i| unsafe {
        if WHOLE {
            _mm_storeu_si128(to.add(p * pitch).cast(), bytes);
        } else {
            _mm_mask_storeu_epi8(to.add(p * pitch).cast(), mask, bytes);
        }
    };
    let mut fours = values.chunks_exact(4);
    let mut p = 0;
    for four in &mut fours {
        let low = _mm512_packs_epi32(_mm512_cvtps_epi32(four[0]), _mm512_cvtps_epi32(four[1]));
        let high = _mm512_packs_epi32(_mm512_cvtps_epi32(four[2]), _mm512_cvtps_epi32(four[3]));
        let packed = if SIGNED {
            _mm512_max_epi8(_mm512_packs_epi16(low, high), _mm512_set1_epi8(-127))
        } else {
            _mm512_packus_epi16(low, high)
        };
        // Each 128-bit lane holds four channels of each of the four positions.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        let packed = _mm512_permutexvar_epi32(order, packed);
        if WHOLE && pitch == LANES {
            // SAFETY: four whole rows without a gap.
            unsafe { _mm512_storeu_si512(to.add(p * LANES).cast(), packed) };
        } else {
            store(p, _mm512_castsi512_si128(packed));
            store(p + 1, _mm512_extracti32x4_epi32(packed, 1));
            store(p + 2, _mm512_extracti32x4_epi32(packed, 2));
            store(p + 3, _mm512_extracti32x4_epi32(packed, 3));
        }
        p += 4;
    }
    for y in fours.remainder() {
        let (low, high) = if SIGNED { (-127, 127) } else { (0, 255) };
        let words = _mm512_max_epi32(_mm512_cvtps_epi32(*y), _mm512_set1_epi32(low));
        let words = _mm512_min_epi32(words, _mm512_set1_epi32(high));
        store(p, _mm512_cvtepi32_epi8(words));
        p += 1;
    }
}
