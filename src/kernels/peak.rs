//! Multiply-accumulates on registers alone, in as many independent chains as hide their latency:
//! the most that a core can do, and the yardstick of the benches.
#![allow(unsafe_code)]

use super::Isa;
use std::hint::black_box;
use std::time::Instant;

/// Instructions of a chain.
const ROUNDS: usize = 4096;

/// Independent chains.
const CHAINS: usize = 12;

/// Something to time: `run` gives `expected` and takes `macs` multiply-accumulates.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    /// The loop.
    pub run: fn() -> i64,
    /// What it gives.
    pub expected: i64,
    /// What it takes.
    pub macs: u64,
}

impl Peak {
    /// Multiply-accumulates a second, in 10^9: the fastest of several runs.
    pub fn rate(&self) -> f64 {
        let mut best = f64::INFINITY;
        for _ in 0..500 {
            let start = Instant::now();
            black_box((self.run)());
            best = best.min(start.elapsed().as_secs_f64());
        }
        self.macs as f64 / best / 1e9
    }
}

/// `macs` an instruction, all of them 1 · 1, so that their sum is their number.
fn peak(run: fn() -> i64, macs: usize) -> Option<Peak> {
    let macs = (macs * ROUNDS * CHAINS) as i64;
    Some(Peak {
        run,
        expected: macs,
        macs: macs as u64,
    })
}

/// The int8 instructions of `isa`.
pub fn int8(isa: Isa) -> Option<Peak> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => peak(x86::avx2, 32),
        #[cfg(target_arch = "x86_64")]
        Isa::AvxVnni => peak(x86::avxvnni, 32),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => peak(x86::avx512vnni, 64),
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => peak(x86::amx, 16 * 16 * 64),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => peak(arm::neon, 16),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => peak(arm::neondot, 16),
        #[cfg(target_arch = "aarch64")]
        Isa::NeonI8mm => peak(arm::neoni8mm, 32),
        _ => None,
    }
}

/// Its fused multiply-adds in f32; `None` where another set has the same.
pub fn f32(isa: Isa) -> Option<Peak> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => peak(x86::fma_256, 8),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => peak(x86::fma_512, 16),
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => peak(arm::fmla, 4),
        _ => None,
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{CHAINS, ROUNDS};
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Tiles of 16 by 16 sums.
    pub fn amx() -> i64 {
        crate::kernels::amx::peak(ROUNDS * CHAINS / 4)
    }

    macro_rules! chains {
        ($name:ident, $inner:ident, $features:literal, $zero:expr, $one:expr, $round:expr, $store:expr, $lanes:literal, $lane:ty) => {
            pub fn $name() -> i64 {
                // SAFETY: called for a set that Isa::available lists only after detecting the
                // features.
                unsafe { $inner() }
            }

            #[target_feature(enable = $features)]
            fn $inner() -> i64 {
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
        avx2_inner,
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
        avxvnni_inner,
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
        avx512vnni_inner,
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
        fma_256_inner,
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
        fma_512_inner,
        "avx512f",
        _mm512_setzero_ps(),
        _mm512_set1_ps(1.0),
        |sum, ones| _mm512_fmadd_ps(ones, ones, sum),
        _mm512_storeu_ps,
        16,
        f32
    );
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{CHAINS, ROUNDS};
    use std::arch::aarch64::*;
    use std::arch::asm;

    macro_rules! chains {
        ($name:ident, $inner:ident, $features:literal, $ones:expr, $add:literal, [$($line:literal),*]) => {
            pub fn $name() -> i64 {
                // SAFETY: called for a set that Isa::available lists only after detecting the
                // features.
                unsafe { $inner() }
            }

            #[target_feature(enable = $features)]
            fn $inner() -> i64 {
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
        neon_inner,
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
        neondot_inner,
        "neon,dotprod",
        vdupq_n_s8(1),
        "sdot {s:v}.4s, {one:v}.16b, {one:v}.16b",
        []
    );
    chains!(
        neoni8mm,
        neoni8mm_inner,
        "neon,dotprod,i8mm",
        vdupq_n_s8(1),
        "smmla {s:v}.4s, {one:v}.16b, {one:v}.16b",
        []
    );

    pub fn fmla() -> i64 {
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
}
