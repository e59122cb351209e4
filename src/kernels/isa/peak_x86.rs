//! The yardsticks of the sets of x86-64; AMX has its own.
#![allow(unsafe_code)]

use crate::kernels::peak::{CHAINS, Peak, ROUNDS};
use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

// SAFETY: runs what its instruction set has, and is that set's alone.
pub(super) const AVX2: Peak = unsafe { Peak::new(avx2, 32) };
// SAFETY: as above.
pub(super) const AVX_VNNI: Peak = unsafe { Peak::new(avxvnni, 32) };
// SAFETY: as above.
pub(super) const AVX512_VNNI: Peak = unsafe { Peak::new(avx512vnni, 64) };
// SAFETY: as above.
pub(super) const FMA_256: Peak = unsafe { Peak::new(fma_256, 8) };
// SAFETY: as above.
pub(super) const FMA_512: Peak = unsafe { Peak::new(fma_512, 16) };

macro_rules! chains {
    (
        $name:ident, $features:literal, $zero:expr, $one:expr, $round:expr, $store:expr,
        $lanes:literal, $lane:ty
    ) => {
        #[target_feature(enable = $features)]
        fn $name() -> i64 {
            let mut sums = [$zero; CHAINS];
            let ones = black_box($one);
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    *sum = $round(*sum, ones);
                }
            }
            let mut total = 0;
            for sum in sums {
                let mut lanes = [<$lane>::default(); $lanes];
                // SAFETY: the array is as large as the register.
                unsafe { $store(lanes.as_mut_ptr().cast(), sum) };
                total += lanes.iter().map(|&lane| lane as i64).sum::<i64>();
            }
            total
        }
    };
}

chains!(
    avx2,
    "avx2",
    _mm256_setzero_si256(),
    _mm256_set1_epi8(1),
    |sum, ones| {
        let mut weights = ones;
        // SAFETY: no instruction. For all the compiler knows the operand changes, or it would
        // take the products out of the loop.
        unsafe {
            asm!("/* {0} */", inout(ymm_reg) weights, options(nomem, nostack, preserves_flags));
        }
        let pairs = _mm256_maddubs_epi16(ones, weights);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    },
    _mm256_storeu_si256,
    8,
    i32
);
chains!(
    avxvnni,
    "avx2,avxvnni",
    _mm256_setzero_si256(),
    _mm256_set1_epi8(1),
    |sum, ones| _mm256_dpbusd_avx_epi32(sum, ones, ones),
    _mm256_storeu_si256,
    8,
    i32
);
chains!(
    avx512vnni,
    "avx512f,avx512bw,avx512vnni",
    _mm512_setzero_si512(),
    _mm512_set1_epi8(1),
    |sum, ones| _mm512_dpbusd_epi32(sum, ones, ones),
    _mm512_storeu_si512,
    16,
    i32
);
chains!(
    fma_256,
    "avx2,fma",
    _mm256_setzero_ps(),
    _mm256_set1_ps(1.0),
    |sum, ones| _mm256_fmadd_ps(ones, ones, sum),
    _mm256_storeu_ps,
    8,
    f32
);
chains!(
    fma_512,
    "avx512f",
    _mm512_setzero_ps(),
    _mm512_set1_ps(1.0),
    |sum, ones| _mm512_fmadd_ps(ones, ones, sum),
    _mm512_storeu_ps,
    16,
    f32
);
