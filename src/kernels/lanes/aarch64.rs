//! aarch64: four registers of NEON, with the dot product extension or without.
#![allow(unsafe_code)]

use super::{HALVES, Kernel, LINE, Lanes, POWER};
use crate::kernels::LANES;
use crate::kernels::activation::Activation;
use std::arch::aarch64::*;
use std::arch::asm;

/// Sixteen lanes in four registers; `DOT` with `sdot`, made only where it is enabled.
#[derive(Clone, Copy)]
pub(crate) struct NeonLanes<const DOT: bool>(());

/// Runs a kernel without the dot product extension: NEON is part of every aarch64 target of Rust's.
pub(super) fn run_neon<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(NeonLanes::<false>(()))
}

/// Runs a kernel with the dot product extension.
#[target_feature(enable = "neon,dotprod")]
pub(super) fn run_dot<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(NeonLanes::<true>(()))
}

/// A non-linearity of 16 lanes, for functions that hold their sums in registers.
#[inline]
pub(crate) fn activate_neon(activation: Activation, x: [float32x4_t; 4]) -> [float32x4_t; 4] {
    activation.lanes(NeonLanes::<false>(()), x)
}

/// Intrinsics of a token's instruction set.
macro_rules! with {
    ($value:expr) => {
        // SAFETY: every aarch64 has NEON, and a token with DOT is made in run_dot alone; every
        // pointer comes from a reference to an array of just the bytes that the instruction reads
        // or writes.
        unsafe { $value }
    };
}

/// One expression for each register.
macro_rules! quarters {
    ($quarter:ident => $value:expr) => {
        with!([
            {
                let $quarter = 0;
                $value
            },
            {
                let $quarter = 1;
                $value
            },
            {
                let $quarter = 2;
                $value
            },
            {
                let $quarter = 3;
                $value
            }
        ])
    };
}

#[inline(always)]
fn narrow(x: [int32x4_t; 4]) -> int8x16_t {
    with!({
        let low = vcombine_s16(vmovn_s32(x[0]), vmovn_s32(x[1]));
        let high = vcombine_s16(vmovn_s32(x[2]), vmovn_s32(x[3]));
        vcombine_s8(vmovn_s16(low), vmovn_s16(high))
    })
}

/// Bytes of eight words each: those of four lanes of four rows, row after row, in the order of the
/// lanes.
#[inline(always)]
fn weave(low: int16x8_t, high: int16x8_t) -> int8x16_t {
    const WOVEN: [u8; LANES] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
    with!(vqtbl1q_s8(
        vcombine_s8(vmovn_s16(low), vmovn_s16(high)),
        vld1q_u8(WOVEN.as_ptr())
    ))
}

/// [`super::power`] of eight words.
#[inline(always)]
fn powers(x: int16x8_t) -> int16x8_t {
    with!({
        let n = vreinterpretq_u8_s16(vrshrq_n_s16::<11>(x));
        let halves = vqtbl1q_u8(vld1q_u8(HALVES.as_ptr()), n);
        let r = vshlq_n_s16::<5>(x);
        let y = vqrdmulhq_s16(r, vdupq_n_s16(POWER[0]));
        let y = vqrdmulhq_s16(r, vaddq_s16(y, vdupq_n_s16(POWER[1])));
        let y = vaddq_s16(y, vdupq_n_s16(POWER[2]));
        vqrdmulhq_s16(y, vreinterpretq_s16_u8(halves))
    })
}

impl<const DOT: bool> Lanes for NeonLanes<DOT> {
    type F = [float32x4_t; 4];
    type I = [int32x4_t; 4];
    type Line = [int8x16_t; 4];
    const SIGN_FLIP: u8 = 0;
    const EXCESS: i32 = 0;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        with!([vdupq_n_f32(x); 4])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        quarters!(q => vld1q_f32(x.as_ptr().add(4 * q)))
    }
    #[inline(always)]
    fn store(self, x: Self::F, to: &mut [f32; LANES]) {
        quarters!(q => vst1q_f32(to.as_mut_ptr().add(4 * q), x[q]));
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(q => vaddq_f32(a[q], b[q]))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(q => vsubq_f32(a[q], b[q]))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(q => vmulq_f32(a[q], b[q]))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(q => vdivq_f32(a[q], b[q]))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        quarters!(q => vfmaq_f32(c[q], a[q], b[q]))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(q => vminq_f32(a[q], b[q]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        quarters!(q => vmaxq_f32(a[q], b[q]))
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::F {
        quarters!(q => vrndnq_f32(x[q]))
    }
    #[inline(always)]
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        quarters!(q => vbslq_f32(vcltq_f32(a[q], b[q]), x[q], y[q]))
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        with!([vdupq_n_s32(x); 4])
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> Self::I {
        quarters!(q => vld1q_s32(x.as_ptr().add(4 * q)))
    }
    #[inline(always)]
    fn store_i(self, x: Self::I, to: &mut [i32; LANES]) {
        quarters!(q => vst1q_s32(to.as_mut_ptr().add(4 * q), x[q]));
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        quarters!(q => vaddq_s32(a[q], b[q]))
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        quarters!(q => vmaxq_s32(a[q], b[q]))
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        quarters!(q => vandq_s32(a[q], b[q]))
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        quarters!(q => vorrq_s32(a[q], b[q]))
    }
    #[inline(always)]
    fn to_exponent(self, x: Self::I) -> Self::I {
        quarters!(q => vshlq_n_s32::<23>(x[q]))
    }
    #[inline(always)]
    fn signed_byte(self, x: Self::I, byte: usize) -> Self::I {
        let left = 24 - 8 * byte as i32;
        quarters!(q => vshrq_n_s32::<24>(vshlq_s32(x[q], vdupq_n_s32(left))))
    }
    #[inline(always)]
    fn bits(self, x: Self::F) -> Self::I {
        quarters!(q => vreinterpretq_s32_f32(x[q]))
    }
    #[inline(always)]
    fn float_of_bits(self, x: Self::I) -> Self::F {
        quarters!(q => vreinterpretq_f32_s32(x[q]))
    }
    #[inline(always)]
    fn to_int(self, x: Self::F) -> Self::I {
        quarters!(q => vcvtnq_s32_f32(x[q]))
    }
    #[inline(always)]
    fn to_float(self, x: Self::I) -> Self::F {
        quarters!(q => vcvtq_f32_s32(x[q]))
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; LANES]) -> Self::I {
        with!({
            let bytes = vreinterpretq_s8_u8(vld1q_u8(x.as_ptr()));
            let (low, high) = (vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes));
            [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ]
        })
    }
    #[inline(always)]
    fn store_bytes(self, x: Self::I, to: &mut [u8; LANES]) {
        with!(vst1q_u8(to.as_mut_ptr(), vreinterpretq_u8_s8(narrow(x))))
    }
    #[inline(always)]
    fn store_woven(self, x: [Self::I; 4], to: &mut [u8; LINE]) {
        let woven = quarters!(q => {
            let low = vcombine_s16(vmovn_s32(x[0][q]), vmovn_s32(x[1][q]));
            let high = vcombine_s16(vmovn_s32(x[2][q]), vmovn_s32(x[3][q]));
            weave(low, high)
        });
        self.store_line(woven, to);
    }
    #[inline(always)]
    fn powers(self, x: [Self::I; 4]) -> Self::Line {
        quarters!(q => {
            let low = vcombine_s16(vqmovn_s32(x[0][q]), vqmovn_s32(x[1][q]));
            let high = vcombine_s16(vqmovn_s32(x[2][q]), vqmovn_s32(x[3][q]));
            weave(powers(low), powers(high))
        })
    }
    #[inline(always)]
    fn store_line(self, x: Self::Line, to: &mut [u8; LINE]) {
        quarters!(q => vst1q_u8(to.as_mut_ptr().add(16 * q), vreinterpretq_u8_s8(x[q])));
    }
    #[inline(always)]
    fn interleave(self, rows: [&[u8; LANES]; 4], to: &mut [u8; LINE]) {
        with!({
            let rows = uint8x16x4_t(
                vld1q_u8(rows[0].as_ptr()),
                vld1q_u8(rows[1].as_ptr()),
                vld1q_u8(rows[2].as_ptr()),
                vld1q_u8(rows[3].as_ptr()),
            );
            vst4q_u8(to.as_mut_ptr(), rows);
        })
    }
    #[inline(always)]
    fn line(self, x: &[u8; LINE]) -> Self::Line {
        quarters!(q => vreinterpretq_s8_u8(vld1q_u8(x.as_ptr().add(16 * q))))
    }
    #[inline(always)]
    fn dot(self, sum: Self::I, four: [u8; 4], line: Self::Line) -> Self::I {
        self.dot_signed(sum, four, line)
    }
    #[inline(always)]
    fn dot_signed(self, sum: Self::I, four: [u8; 4], line: Self::Line) -> Self::I {
        let four = with!(vreinterpretq_s8_s32(vdupq_n_s32(i32::from_le_bytes(four))));
        if DOT {
            let mut sum = sum;
            for (sum, line) in sum.iter_mut().zip(line) {
                // SAFETY: a token with DOT exists only where the extension does; registers only.
                unsafe {
                    asm!(
                        "sdot {sum:v}.4s, {line:v}.16b, {four:v}.16b",
                        sum = inout(vreg) *sum,
                        line = in(vreg) line,
                        four = in(vreg) four,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
            }
            sum
        } else {
            // Two products fit 16 bits: 2 · 127 · 127 < 32768.
            quarters!(q => {
                let low = vmull_s8(vget_low_s8(line[q]), vget_low_s8(four));
                let high = vmull_high_s8(line[q], four);
                vpadalq_s16(sum[q], vpaddq_s16(low, high))
            })
        }
    }
    #[inline(always)]
    fn dot_powers(self, sum: Self::I, line: Self::Line, four: [u8; 4]) -> Self::I {
        self.dot_signed(sum, four, line)
    }
}
