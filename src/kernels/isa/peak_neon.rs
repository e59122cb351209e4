//! The yardsticks of the sets of aarch64.
#![allow(unsafe_code)]

use crate::kernels::peak::{CHAINS, Peak, ROUNDS};
use std::arch::aarch64::*;
use std::arch::asm;

// SAFETY: runs what its instruction set has, and is that set's alone.
pub(super) const NEON: Peak = unsafe { Peak::new(neon, 16) };
// SAFETY: as above.
pub(super) const NEON_DOT: Peak = unsafe { Peak::new(neondot, 16) };
// SAFETY: as above.
pub(super) const NEON_I8MM: Peak = unsafe { Peak::new(neoni8mm, 32) };
// SAFETY: as above.
pub(super) const FMLA: Peak = unsafe { Peak::new(fmla, 4) };

macro_rules! chains {
    ($name:ident, $features:literal, $ones:expr, $add:literal, [$($line:literal),*]) => {
        #[target_feature(enable = $features)]
        fn $name() -> i64 {
            let mut sums = [vdupq_n_s32(0); CHAINS];
            let ones = $ones;
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    // SAFETY: reads and writes only the registers named; the features are
                    // enabled for this function.
                    unsafe {
                        asm!(
                            $($line,)*
                            $add,
                            s = inout(vreg) *sum,
                            one = in(vreg) ones,
                            out("v31") _,
                            options(pure, nomem, nostack, preserves_flags),
                        );
                    }
                }
            }
            sums.into_iter().map(|sum| i64::from(vaddvq_s32(sum))).sum()
        }
    };
}

chains!(
    neon,
    "neon",
    vdupq_n_s8(1),
    "sadalp {s:v}.4s, v31.8h",
    [
        "smull v31.8h, {one:v}.8b, {one:v}.8b",
        "smlal v31.8h, {one:v}.8b, {one:v}.8b"
    ]
);
chains!(
    neondot,
    "neon,dotprod",
    vdupq_n_s8(1),
    "sdot {s:v}.4s, {one:v}.16b, {one:v}.16b",
    []
);
chains!(
    neoni8mm,
    "neon,dotprod,i8mm",
    vdupq_n_s8(1),
    "smmla {s:v}.4s, {one:v}.16b, {one:v}.16b",
    []
);

fn fmla() -> i64 {
    let mut sums = [[0f32; 4]; CHAINS];
    // SAFETY: NEON is part of every aarch64 target.
    unsafe { fmla_inner(&mut sums) };
    sums.as_flattened().iter().map(|&sum| sum as i64).sum()
}

#[target_feature(enable = "neon")]
fn fmla_inner(out: &mut [[f32; 4]; CHAINS]) {
    let mut sums = [vdupq_n_f32(0.0); CHAINS];
    let ones = std::hint::black_box(vdupq_n_f32(1.0));
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = vfmaq_f32(*sum, ones, ones);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        // SAFETY: four f32.
        unsafe { vst1q_f32(out.as_mut_ptr(), sum) };
    }
}
