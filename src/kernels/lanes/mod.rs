//! Sixteen f32 or i32 lanes, so that a function is written once and has the same bits on every
//! instruction set.
//!
//! A [`Lanes`] value is a token without size: it exists only where its instruction set has been
//! detected, so its methods are safe. [`dispatch`] makes one inside a function compiled for that
//! set; everything generic over `Lanes` is `#[inline(always)]` and so becomes part of that
//! function. Closures and iterator adapters around lane arithmetic would not be, and would cost a
//! call for every operation: loops here are plain `for`.
//!
//! Every operation is one correctly rounded IEEE operation, a comparison, or integer arithmetic.
//! Minimum and maximum of two zeros of opposite sign may be either zero, and NaN is excluded:
//! callers state finite inputs as their precondition.
//!
//! **Reductions**: lane `l` accumulates elements `l`, `l + 16`, ...; then lane `l` is joined with
//! `l + 8`, `l + 4`, `l + 2`, `l + 1`. Missing elements of the last group are zeros.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::{Isa, LANES};

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::activate_neon;
pub(crate) use scalar::ScalarLanes;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{activate_256, activate_512};

/// Bytes of a line: 16 lanes of four.
pub(crate) const LINE: usize = 4 * LANES;

/// On a boundary of 64 bytes, so that no load of a line touches two lines of the cache.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Aligned<T>(pub T);

/// `y = POWER[2] + r · (POWER[1] + r · POWER[0])`, products rounded, is within 0.18 % of `127 ·
/// 2^(15/2) · 2^(-r / 2^16)` for r in -2^15 to 2^15: least largest relative error over all that
/// there are.
pub(crate) const POWER: [i16; 3] = [1370, -8086, 23_000];

/// 2^(8 - n) at place n for 1 to 8, 0 elsewhere.
pub(crate) const HALVES: [u8; LANES] = [0, 128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0];

/// The definition of [`Lanes::powers`]: `127 · 2^(1/2 - x / 2048)` as an integer of 0 to 127, for x
/// from 1024; 0 for all below.
///
/// With `a ∘ b = ⌊(a · b + 2^14) / 2^15⌋`, what `vpmulhrsw` and `sqrdmulh` compute, `n = ⌊(x +
/// 1024) / 2048⌋` and r the lower 16 bits of `32 x`, signed: `(POWER[2] + r ∘ (POWER[1] + r ∘
/// POWER[0])) ∘ HALVES[n]`.
pub(crate) fn power(x: i16) -> u8 {
    let product = |a: i16, b: i16| ((i32::from(a) * i32::from(b) + (1 << 14)) >> 15) as i16;
    let n = (i32::from(x) + 1024) >> 11;
    let r = x << 5;
    let y = POWER[2] + product(r, POWER[1] + product(r, POWER[0]));
    let half = usize::try_from(n).ok().and_then(|n| HALVES.get(n));
    product(y, half.map_or(0, |half| i16::from(*half))) as u8
}

/// Arithmetic on 16 lanes. Names without suffix work on floats, those with `_i` on i32, which
/// wraps.
pub(crate) trait Lanes: Copy {
    /// 16 f32.
    type F: Copy;
    /// 16 i32.
    type I: Copy;
    /// 64 bytes of i8, ready to be multiplied.
    type Line: Copy;
    /// What has to be xored to the signed bytes that [`Lanes::dot_signed`] takes.
    const SIGN_FLIP: u8;
    /// What that adds to each of them.
    const EXCESS: i32;
    /// Whether registers hold a tile of dot products of 6 rows by 4 blocks of 16, or 12 by 2, and
    /// not 4 by 1.
    const WIDE: bool;

    fn splat(self, x: f32) -> Self::F;
    fn load(self, x: &[f32; LANES]) -> Self::F;
    fn store(self, x: Self::F, to: &mut [f32; LANES]);
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// To the nearest integer, ties to even.
    fn round(self, x: Self::F) -> Self::F;
    /// `x` where `a < b`, else `y`.
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;

    /// Lane `l` is value `from[l]` of `a`, or, from 16 on, of `b`.
    #[inline(always)]
    fn permute(self, a: Self::F, b: Self::F, from: &[i32; LANES]) -> Self::F {
        let mut both = [[0.0; LANES]; 2];
        self.store(a, &mut both[0]);
        self.store(b, &mut both[1]);
        let mut all = [0.0; LANES];
        for lane in 0..LANES {
            let at = from[lane] as usize % (2 * LANES);
            all[lane] = both[at / LANES][at % LANES];
        }
        self.load(&all)
    }

    fn splat_i(self, x: i32) -> Self::I;
    fn load_i(self, x: &[i32; LANES]) -> Self::I;
    fn store_i(self, x: Self::I, to: &mut [i32; LANES]);
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I;
    /// Shifted left by 23, to where a float has its exponent.
    fn to_exponent(self, x: Self::I) -> Self::I;
    /// A byte of each lane, counted from the lowest, with its sign.
    fn signed_byte(self, x: Self::I, byte: usize) -> Self::I;
    /// The bits of the floats.
    fn bits(self, x: Self::F) -> Self::I;
    /// Floats of these bits.
    fn float_of_bits(self, x: Self::I) -> Self::F;
    /// Ties to even; the value lies within i32.
    fn to_int(self, x: Self::F) -> Self::I;
    fn to_float(self, x: Self::I) -> Self::F;

    /// Widens i8.
    fn load_bytes(self, x: &[u8; LANES]) -> Self::I;
    /// Narrows lanes of -128 to 127.
    fn store_bytes(self, x: Self::I, to: &mut [u8; LANES]);
    /// Narrows lanes of -128 to 127: byte `4l + r` of the result is lane `l` of `x[r]`.
    fn store_woven(self, x: [Self::I; 4], to: &mut [u8; LINE]);
    /// [`power`] of every lane, saturated to 16 bits before: byte `4l + r` of the result is that of
    /// lane `l` of `x[r]`.
    fn powers(self, x: [Self::I; 4]) -> Self::Line;
    fn store_line(self, x: Self::Line, to: &mut [u8; LINE]);
    /// Byte `4c + r` of the result is byte `c` of row `r`.
    fn interleave(self, rows: [&[u8; LANES]; 4], to: &mut [u8; LINE]);

    fn line(self, x: &[u8; LINE]) -> Self::Line;
    /// Adds to lane `l` the products of four bytes of 0 to 127 with bytes `4l` to `4l + 3` of the
    /// line (-127 to 127).
    fn dot(self, sum: Self::I, four: [u8; 4], line: Self::Line) -> Self::I;
    /// The same for four signed bytes (-127 to 127), xored with [`Lanes::SIGN_FLIP`]: the sum comes
    /// out too large by [`Lanes::EXCESS`] times the sum of the four bytes of the line.
    fn dot_signed(self, sum: Self::I, four: [u8; 4], line: Self::Line) -> Self::I;

    /// The same with the signs the other way round: four bytes of -127 to 127 and a line of 0 to
    /// 127.
    fn dot_powers(self, sum: Self::I, line: Self::Line, four: [u8; 4]) -> Self::I;

    /// Up to 16 values, zeros behind them.
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::F {
        let mut all = [0.0; LANES];
        all[..x.len()].copy_from_slice(x);
        self.load(&all)
    }

    /// The first lanes.
    #[inline(always)]
    fn store_part(self, x: Self::F, to: &mut [f32]) {
        let mut all = [0.0; LANES];
        self.store(x, &mut all);
        to.copy_from_slice(&all[..to.len()]);
    }

    /// Sum of the lanes, joined 8, 4, 2, 1.
    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        let mut all = [0.0; LANES];
        self.store(x, &mut all);
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                all[lane] += all[lane + half];
            }
            half /= 2;
        }
        all[0]
    }

    /// The largest lane.
    #[inline(always)]
    fn max_lane(self, x: Self::F) -> f32 {
        let mut all = [0.0; LANES];
        self.store(x, &mut all);
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                let other = all[lane + half];
                all[lane] = if all[lane] > other { all[lane] } else { other };
            }
            half /= 2;
        }
        all[0]
    }

    /// |x|.
    #[inline(always)]
    fn abs(self, x: Self::F) -> Self::F {
        self.float_of_bits(self.and_i(self.bits(x), self.splat_i(i32::MAX)))
    }

    /// Clamped to -127 to 127 and rounded, ties to even.
    #[inline(always)]
    fn to_signed_byte(self, x: Self::F) -> Self::I {
        let low = self.max(x, self.splat(-127.0));
        self.to_int(self.min(low, self.splat(127.0)))
    }
}

/// Work that is written over [`Lanes`].
pub(crate) trait Kernel {
    /// What comes out.
    type Out;
    /// Does it; `#[inline(always)]` in every implementation.
    fn run<S: Lanes>(self, s: S) -> Self::Out;
}

/// The registers of an instruction set, by which [`dispatch`] picks its lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registers {
    /// Arrays.
    Scalar,
    /// Two of 256 bits, with AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// One of 512 bits, with AVX-512 F, BW, VL and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// Four of 128 bits.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// The same with the dot product extension.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

/// Runs `kernel` with the lanes of `isa`.
#[allow(unsafe_code)]
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Out {
    match isa.kernels().registers {
        Registers::Scalar => kernel.run(ScalarLanes),
        // SAFETY: an Isa is one that this machine has, and its registers are part of it.
        #[cfg(target_arch = "x86_64")]
        Registers::Avx2 => unsafe { x86::run_256(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Registers::Avx512 => unsafe { x86::run_512(kernel) },
        #[cfg(target_arch = "aarch64")]
        Registers::Neon => aarch64::run_neon(kernel),
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Registers::NeonDot => unsafe { aarch64::run_dot(kernel) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Powers<'a>(&'a [[[i32; LANES]; 4]], &'a mut Vec<[u8; LINE]>);

    impl Kernel for Powers<'_> {
        type Out = ();

        #[inline(always)]
        fn run<S: Lanes>(self, s: S) {
            for x in self.0 {
                let x = [
                    s.load_i(&x[0]),
                    s.load_i(&x[1]),
                    s.load_i(&x[2]),
                    s.load_i(&x[3]),
                ];
                let mut line = [0; LINE];
                s.store_line(s.powers(x), &mut line);
                self.1.push(line);
            }
        }
    }

    #[test]
    fn powers_are_close_and_the_same_everywhere() {
        for x in i16::MIN..=i16::MAX {
            let exact = 127.0 * (0.5 - f64::from(x) / 2048.0).exp2();
            let expected = if x < 1024 { 0.0 } else { exact };
            let error = (f64::from(power(x)) - expected).abs();
            assert!(error < 0.5 + 0.002 * expected, "{x}");
        }
        let numbers: Vec<i32> = (-33_000..33_000).chain([i32::MIN, i32::MAX]).collect();
        let mut blocks = Vec::new();
        for block in numbers.chunks(LINE) {
            let mut all = [0; LINE];
            all[..block.len()].copy_from_slice(block);
            let mut four = [[0; LANES]; 4];
            four.as_flattened_mut().copy_from_slice(&all);
            blocks.push(four);
        }
        let mut expected = Vec::new();
        dispatch(Isa::SCALAR, Powers(&blocks, &mut expected));
        for isa in Isa::available() {
            let mut found = Vec::new();
            dispatch(isa, Powers(&blocks, &mut found));
            assert!(found == expected, "{isa}");
        }
    }
}
