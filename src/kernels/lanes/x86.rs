//! x86-64: one register of 512 bits, or two of 256.
#![allow(unsafe_code)]

use super::{HALVES, Kernel, LINE, Lanes, POWER};
use crate::kernels::LANES;
use crate::kernels::activation::Activation;
use std::arch::x86_64::*;

/// Sixteen lanes in a register of AVX-512. Made only where AVX-512 F, BW, VL and VNNI are enabled.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Lanes(());

/// Sixteen lanes in two registers of AVX2. Made only where AVX2 and FMA are enabled.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Lanes(());

/// Runs a kernel compiled for AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) fn run_512<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512Lanes(()))
}

/// Runs a kernel compiled for AVX2.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run_256<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx2Lanes(()))
}

/// Intrinsics of a token's instruction set.
macro_rules! with {
    ($value:expr) => {
        // SAFETY: a token of these lanes is made only in functions compiled for the features, so
        // they are there; every pointer comes from a reference to an array of just the bytes that
        // the instruction reads or writes.
        unsafe { $value }
    };
}

/// A non-linearity of 16 lanes, for functions that hold their sums in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
#[inline]
pub(crate) fn activate_512(activation: Activation, x: __m512) -> __m512 {
    activation.lanes(Avx512Lanes(()), x)
}

/// A non-linearity of 16 lanes, for functions that hold their sums in registers.
#[target_feature(enable = "avx2,fma")]
#[inline]
pub(crate) fn activate_256(activation: Activation, x: [__m256; 2]) -> [__m256; 2] {
    activation.lanes(Avx2Lanes(()), x)
}

impl Lanes for Avx512Lanes {
    type F = __m512;
    type I = __m512i;
    type Line = __m512i;
    const SIGN_FLIP: u8 = 0x80;
    const EXCESS: i32 = 128;
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        with!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        with!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, x: __m512, to: &mut [f32; LANES]) {
        with!(_mm512_storeu_ps(to.as_mut_ptr(), x))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        with!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        with!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        with!(_mm512_roundscale_ps::<
            { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
        >(x))
    }
    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        with!(_mm512_mask_blend_ps(
            _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b),
            y,
            x
        ))
    }
    #[inline(always)]
    fn permute(self, a: __m512, b: __m512, from: &[i32; LANES]) -> __m512 {
        with!(_mm512_permutex2var_ps(
            a,
            _mm512_loadu_si512(from.as_ptr().cast()),
            b
        ))
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> __m512i {
        with!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> __m512i {
        with!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn store_i(self, x: __m512i, to: &mut [i32; LANES]) {
        with!(_mm512_storeu_si512(to.as_mut_ptr().cast(), x))
    }
    #[inline(always)]
    fn add_i(self, a: __m512i, b: __m512i) -> __m512i {
        with!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn max_i(self, a: __m512i, b: __m512i) -> __m512i {
        with!(_mm512_max_epi32(a, b))
    }
    #[inline(always)]
    fn and_i(self, a: __m512i, b: __m512i) -> __m512i {
        with!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or_i(self, a: __m512i, b: __m512i) -> __m512i {
        with!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn to_exponent(self, x: __m512i) -> __m512i {
        with!(_mm512_slli_epi32::<23>(x))
    }
    #[inline(always)]
    fn signed_byte(self, x: __m512i, byte: usize) -> __m512i {
        let left = 24 - 8 * byte as i32;
        with!(_mm512_srai_epi32::<24>(_mm512_sll_epi32(
            x,
            _mm_cvtsi32_si128(left)
        )))
    }
    #[inline(always)]
    fn bits(self, x: __m512) -> __m512i {
        with!(_mm512_castps_si512(x))
    }
    #[inline(always)]
    fn float_of_bits(self, x: __m512i) -> __m512 {
        with!(_mm512_castsi512_ps(x))
    }
    #[inline(always)]
    fn to_int(self, x: __m512) -> __m512i {
        with!(_mm512_cvtps_epi32(x))
    }
    #[inline(always)]
    fn to_float(self, x: __m512i) -> __m512 {
        with!(_mm512_cvtepi32_ps(x))
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; LANES]) -> __m512i {
        with!(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn store_bytes(self, x: __m512i, to: &mut [u8; LANES]) {
        with!(_mm_storeu_si128(
            to.as_mut_ptr().cast(),
            _mm512_cvtepi32_epi8(x)
        ))
    }
    #[inline(always)]
    fn store_woven(self, x: [__m512i; 4], to: &mut [u8; LINE]) {
        with!({
            let low = _mm512_packs_epi32(x[0], x[1]);
            let high = _mm512_packs_epi32(x[2], x[3]);
            let woven = weave_512(_mm512_packs_epi16(low, high));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), woven);
        })
    }
    #[inline(always)]
    fn powers(self, x: [__m512i; 4]) -> __m512i {
        with!({
            let low = powers_512(_mm512_packs_epi32(x[0], x[1]));
            let high = powers_512(_mm512_packs_epi32(x[2], x[3]));
            weave_512(_mm512_packs_epi16(low, high))
        })
    }
    #[inline(always)]
    fn store_line(self, x: __m512i, to: &mut [u8; LINE]) {
        with!(_mm512_storeu_si512(to.as_mut_ptr().cast(), x))
    }
    #[inline(always)]
    fn interleave(self, rows: [&[u8; LANES]; 4], to: &mut [u8; LINE]) {
        interleave(rows, to);
    }
    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        with!(sum_256(_mm256_add_ps(
            _mm512_castps512_ps256(x),
            upper_256(x)
        )))
    }
    #[inline(always)]
    fn max_lane(self, x: __m512) -> f32 {
        with!(max_256(_mm256_max_ps(
            _mm512_castps512_ps256(x),
            upper_256(x)
        )))
    }
    #[inline(always)]
    fn line(self, x: &[u8; LINE]) -> __m512i {
        with!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn dot(self, sum: __m512i, four: [u8; 4], line: __m512i) -> __m512i {
        with!(_mm512_dpbusd_epi32(
            sum,
            _mm512_set1_epi32(i32::from_le_bytes(four)),
            line
        ))
    }
    #[inline(always)]
    fn dot_signed(self, sum: __m512i, four: [u8; 4], line: __m512i) -> __m512i {
        self.dot(sum, four, line)
    }
    #[inline(always)]
    fn dot_powers(self, sum: __m512i, line: __m512i, four: [u8; 4]) -> __m512i {
        with!(_mm512_dpbusd_epi32(
            sum,
            line,
            _mm512_set1_epi32(i32::from_le_bytes(four))
        ))
    }
}

/// Lanes 8 to 15.
#[inline(always)]
fn upper_256(x: __m512) -> __m256 {
    with!(_mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(
        _mm512_castps_pd(x)
    )))
}

/// Sum of eight lanes, joined 4, 2, 1.
#[inline(always)]
fn sum_256(x: __m256) -> f32 {
    with!({
        let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    })
}

/// The largest of eight lanes.
#[inline(always)]
fn max_256(x: __m256) -> f32 {
    with!({
        let four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
    })
}

/// Puts quarters of a register, four bytes of each of four rows after another, in the order of the
/// lanes.
const WOVEN: [i8; LANES] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];

#[inline(always)]
fn weave_512(x: __m512i) -> __m512i {
    with!(_mm512_shuffle_epi8(
        x,
        _mm512_broadcast_i32x4(_mm_loadu_si128(WOVEN.as_ptr().cast()))
    ))
}

#[inline(always)]
fn weave_256(x: __m256i) -> __m256i {
    with!(_mm256_shuffle_epi8(
        x,
        _mm256_broadcastsi128_si256(_mm_loadu_si128(WOVEN.as_ptr().cast()))
    ))
}

/// [`super::power`] of 32 words.
#[inline(always)]
fn powers_512(x: __m512i) -> __m512i {
    with!({
        let n = _mm512_mulhrs_epi16(x, _mm512_set1_epi16(16));
        let halves = _mm512_broadcast_i32x4(_mm_loadu_si128(HALVES.as_ptr().cast()));
        let r = _mm512_slli_epi16::<5>(x);
        let y = _mm512_mulhrs_epi16(r, _mm512_set1_epi16(POWER[0]));
        let y = _mm512_mulhrs_epi16(r, _mm512_add_epi16(y, _mm512_set1_epi16(POWER[1])));
        let y = _mm512_add_epi16(y, _mm512_set1_epi16(POWER[2]));
        _mm512_mulhrs_epi16(y, _mm512_shuffle_epi8(halves, n))
    })
}

/// [`super::power`] of 16 words.
#[inline(always)]
fn powers_256(x: __m256i) -> __m256i {
    with!({
        let n = _mm256_mulhrs_epi16(x, _mm256_set1_epi16(16));
        let halves = _mm256_broadcastsi128_si256(_mm_loadu_si128(HALVES.as_ptr().cast()));
        let r = _mm256_slli_epi16::<5>(x);
        let y = _mm256_mulhrs_epi16(r, _mm256_set1_epi16(POWER[0]));
        let y = _mm256_mulhrs_epi16(r, _mm256_add_epi16(y, _mm256_set1_epi16(POWER[1])));
        let y = _mm256_add_epi16(y, _mm256_set1_epi16(POWER[2]));
        _mm256_mulhrs_epi16(y, _mm256_shuffle_epi8(halves, n))
    })
}

#[inline(always)]
fn interleave(rows: [&[u8; LANES]; 4], to: &mut [u8; LINE]) {
    with!({
        let [a, b, c, d] = [
            _mm_loadu_si128(rows[0].as_ptr().cast()),
            _mm_loadu_si128(rows[1].as_ptr().cast()),
            _mm_loadu_si128(rows[2].as_ptr().cast()),
            _mm_loadu_si128(rows[3].as_ptr().cast()),
        ];
        let (ab, cd) = (_mm_unpacklo_epi8(a, b), _mm_unpacklo_epi8(c, d));
        let (ab_high, cd_high) = (_mm_unpackhi_epi8(a, b), _mm_unpackhi_epi8(c, d));
        let to = to.as_mut_ptr().cast::<__m128i>();
        _mm_storeu_si128(to, _mm_unpacklo_epi16(ab, cd));
        _mm_storeu_si128(to.add(1), _mm_unpackhi_epi16(ab, cd));
        _mm_storeu_si128(to.add(2), _mm_unpacklo_epi16(ab_high, cd_high));
        _mm_storeu_si128(to.add(3), _mm_unpackhi_epi16(ab_high, cd_high));
    })
}

/// One intrinsic for both halves.
macro_rules! halves {
    ($half:ident => $value:expr) => {
        with!([
            {
                let $half = 0;
                $value
            },
            {
                let $half = 1;
                $value
            }
        ])
    };
}

impl Lanes for Avx2Lanes {
    type F = [__m256; 2];
    type I = [__m256i; 2];
    type Line = [__m256i; 2];
    const SIGN_FLIP: u8 = 0;
    const EXCESS: i32 = 0;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        with!([_mm256_set1_ps(x); 2])
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        halves!(h => _mm256_loadu_ps(x.as_ptr().add(8 * h)))
    }
    #[inline(always)]
    fn store(self, x: Self::F, to: &mut [f32; LANES]) {
        halves!(h => _mm256_storeu_ps(to.as_mut_ptr().add(8 * h), x[h]));
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(h => _mm256_add_ps(a[h], b[h]))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(h => _mm256_sub_ps(a[h], b[h]))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(h => _mm256_mul_ps(a[h], b[h]))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(h => _mm256_div_ps(a[h], b[h]))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        halves!(h => _mm256_fmadd_ps(a[h], b[h], c[h]))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(h => _mm256_min_ps(a[h], b[h]))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        halves!(h => _mm256_max_ps(a[h], b[h]))
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::F {
        halves!(h => _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x[h]))
    }
    #[inline(always)]
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        halves!(h => _mm256_blendv_ps(y[h], x[h], _mm256_cmp_ps::<_CMP_LT_OQ>(a[h], b[h])))
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        with!([_mm256_set1_epi32(x); 2])
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> Self::I {
        halves!(h => _mm256_loadu_si256(x.as_ptr().add(8 * h).cast()))
    }
    #[inline(always)]
    fn store_i(self, x: Self::I, to: &mut [i32; LANES]) {
        halves!(h => _mm256_storeu_si256(to.as_mut_ptr().add(8 * h).cast(), x[h]));
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(h => _mm256_add_epi32(a[h], b[h]))
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(h => _mm256_max_epi32(a[h], b[h]))
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(h => _mm256_and_si256(a[h], b[h]))
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        halves!(h => _mm256_or_si256(a[h], b[h]))
    }
    #[inline(always)]
    fn to_exponent(self, x: Self::I) -> Self::I {
        halves!(h => _mm256_slli_epi32::<23>(x[h]))
    }
    #[inline(always)]
    fn signed_byte(self, x: Self::I, byte: usize) -> Self::I {
        let left = 24 - 8 * byte as i32;
        halves!(h => _mm256_srai_epi32::<24>(_mm256_sll_epi32(x[h], _mm_cvtsi32_si128(left))))
    }
    #[inline(always)]
    fn bits(self, x: Self::F) -> Self::I {
        halves!(h => _mm256_castps_si256(x[h]))
    }
    #[inline(always)]
    fn float_of_bits(self, x: Self::I) -> Self::F {
        halves!(h => _mm256_castsi256_ps(x[h]))
    }
    #[inline(always)]
    fn to_int(self, x: Self::F) -> Self::I {
        halves!(h => _mm256_cvtps_epi32(x[h]))
    }
    #[inline(always)]
    fn to_float(self, x: Self::I) -> Self::F {
        halves!(h => _mm256_cvtepi32_ps(x[h]))
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; LANES]) -> Self::I {
        halves!(h => _mm256_cvtepi8_epi32(_mm_loadl_epi64(x.as_ptr().add(8 * h).cast())))
    }
    #[inline(always)]
    fn store_bytes(self, x: Self::I, to: &mut [u8; LANES]) {
        with!({
            // Halves of 128 bits are packed by themselves; the permutation puts their bytes in
            // order.
            let shorts = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(x[0], x[1]));
            let bytes = _mm_packs_epi16(
                _mm256_castsi256_si128(shorts),
                _mm256_extracti128_si256::<1>(shorts),
            );
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        })
    }
    #[inline(always)]
    fn store_woven(self, x: [Self::I; 4], to: &mut [u8; LINE]) {
        let woven = halves!(h => {
            let low = _mm256_packs_epi32(x[0][h], x[1][h]);
            let high = _mm256_packs_epi32(x[2][h], x[3][h]);
            weave_256(_mm256_packs_epi16(low, high))
        });
        self.store_line(woven, to);
    }
    #[inline(always)]
    fn powers(self, x: [Self::I; 4]) -> Self::Line {
        halves!(h => {
            let low = powers_256(_mm256_packs_epi32(x[0][h], x[1][h]));
            let high = powers_256(_mm256_packs_epi32(x[2][h], x[3][h]));
            weave_256(_mm256_packs_epi16(low, high))
        })
    }
    #[inline(always)]
    fn store_line(self, x: Self::Line, to: &mut [u8; LINE]) {
        halves!(h => _mm256_storeu_si256(to.as_mut_ptr().add(32 * h).cast(), x[h]));
    }
    #[inline(always)]
    fn interleave(self, rows: [&[u8; LANES]; 4], to: &mut [u8; LINE]) {
        interleave(rows, to);
    }
    #[inline(always)]
    fn sum(self, x: Self::F) -> f32 {
        with!(sum_256(_mm256_add_ps(x[0], x[1])))
    }
    #[inline(always)]
    fn max_lane(self, x: Self::F) -> f32 {
        with!(max_256(_mm256_max_ps(x[0], x[1])))
    }
    #[inline(always)]
    fn line(self, x: &[u8; LINE]) -> Self::Line {
        halves!(h => _mm256_loadu_si256(x.as_ptr().add(32 * h).cast()))
    }
    #[inline(always)]
    fn dot(self, sum: Self::I, four: [u8; 4], line: Self::Line) -> Self::I {
        // Two products fit 16 bits: 2 · 127 · 127 < 32768.
        halves!(h => {
            let four = _mm256_set1_epi32(i32::from_le_bytes(four));
            let pairs = _mm256_maddubs_epi16(four, line[h]);
            _mm256_add_epi32(sum[h], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
    #[inline(always)]
    fn dot_signed(self, sum: Self::I, four: [u8; 4], line: Self::Line) -> Self::I {
        // |x| times w with the sign of x.
        halves!(h => {
            let four = _mm256_set1_epi32(i32::from_le_bytes(four));
            let line = _mm256_sign_epi8(line[h], four);
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(four), line);
            _mm256_add_epi32(sum[h], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
    #[inline(always)]
    fn dot_powers(self, sum: Self::I, line: Self::Line, four: [u8; 4]) -> Self::I {
        halves!(h => {
            let four = _mm256_set1_epi32(i32::from_le_bytes(four));
            let pairs = _mm256_maddubs_epi16(line[h], four);
            _mm256_add_epi32(sum[h], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }
}
