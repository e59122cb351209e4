//! From sums to outputs. Nothing is clamped in float: conversions to integers saturate, and so does
//! narrowing them.
#![allow(unsafe_code)]

use crate::kernels::activation::Activation;
use crate::kernels::conv::finish_lanes;
use crate::kernels::isa::float_neon::{activate, load, store};
use crate::kernels::{ConvInt8, LANES, Output, Residual};
use std::arch::aarch64::*;

/// No residual, row scale or activation.
pub(super) const PLAIN: u8 = 0;
/// An unsigned residual, no row scale or activation.
pub(super) const ADD: u8 = 1;
/// Anything else, looked at position by position.
pub(super) const ANY: u8 = 2;

/// The epilogue of a tile; see the module docs of `kernels` for the formula.
///
/// # Safety
/// The positions and `block` exist in `conv`, whose lengths have been checked.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn finish<const P: usize, const KIND: u8>(
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
