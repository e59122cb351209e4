//! The reference: arrays and plain Rust.

use super::{LINE, Lanes, power};
use crate::kernels::LANES;

/// Sixteen lanes without vector instructions.
#[derive(Clone, Copy)]
pub(crate) struct ScalarLanes;

/// One expression for every lane.
macro_rules! lanes {
    ($lane:ident => $value:expr) => {{
        let mut all = [Default::default(); LANES];
        for $lane in 0..LANES {
            all[$lane] = $value;
        }
        all
    }};
}

impl Lanes for ScalarLanes {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type Line = [u8; LINE];
    const SIGN_FLIP: u8 = 0;
    const EXCESS: i32 = 0;
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }
    #[inline(always)]
    fn store(self, x: Self::F, to: &mut [f32; LANES]) {
        *to = x;
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(l => a[l] + b[l])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(l => a[l] - b[l])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(l => a[l] * b[l])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(l => a[l] / b[l])
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        lanes!(l => a[l].mul_add(b[l], c[l]))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(l => if a[l] < b[l] { a[l] } else { b[l] })
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        lanes!(l => if a[l] > b[l] { a[l] } else { b[l] })
    }
    #[inline(always)]
    fn round(self, x: Self::F) -> Self::F {
        lanes!(l => x[l].round_ties_even())
    }
    #[inline(always)]
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        lanes!(l => if a[l] < b[l] { x[l] } else { y[l] })
    }
    #[inline(always)]
    fn splat_i(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn load_i(self, x: &[i32; LANES]) -> Self::I {
        *x
    }
    #[inline(always)]
    fn store_i(self, x: Self::I, to: &mut [i32; LANES]) {
        *to = x;
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanes!(l => a[l].wrapping_add(b[l]))
    }
    #[inline(always)]
    fn max_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanes!(l => a[l].max(b[l]))
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanes!(l => a[l] & b[l])
    }
    #[inline(always)]
    fn or_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanes!(l => a[l] | b[l])
    }
    #[inline(always)]
    fn to_exponent(self, x: Self::I) -> Self::I {
        lanes!(l => x[l] << 23)
    }
    #[inline(always)]
    fn signed_byte(self, x: Self::I, byte: usize) -> Self::I {
        lanes!(l => x[l] << (24 - 8 * byte) >> 24)
    }
    #[inline(always)]
    fn bits(self, x: Self::F) -> Self::I {
        lanes!(l => x[l].to_bits() as i32)
    }
    #[inline(always)]
    fn float_of_bits(self, x: Self::I) -> Self::F {
        lanes!(l => f32::from_bits(x[l] as u32))
    }
    #[inline(always)]
    fn to_int(self, x: Self::F) -> Self::I {
        lanes!(l => x[l].round_ties_even() as i32)
    }
    #[inline(always)]
    fn to_float(self, x: Self::I) -> Self::F {
        lanes!(l => x[l] as f32)
    }
    #[inline(always)]
    fn load_bytes(self, x: &[u8; LANES]) -> Self::I {
        lanes!(l => i32::from(x[l] as i8))
    }
    #[inline(always)]
    fn store_bytes(self, x: Self::I, to: &mut [u8; LANES]) {
        *to = lanes!(l => x[l] as u8);
    }
    #[inline(always)]
    fn store_woven(self, x: [Self::I; 4], to: &mut [u8; LINE]) {
        for (r, x) in x.iter().enumerate() {
            for (l, x) in x.iter().enumerate() {
                to[4 * l + r] = *x as u8;
            }
        }
    }
    #[inline(always)]
    fn powers(self, x: [Self::I; 4]) -> Self::Line {
        let limits = (i32::from(i16::MIN), i32::from(i16::MAX));
        let mut all = [0; LINE];
        for (r, x) in x.iter().enumerate() {
            for (l, x) in x.iter().enumerate() {
                all[4 * l + r] = power((*x).clamp(limits.0, limits.1) as i16);
            }
        }
        all
    }
    #[inline(always)]
    fn store_line(self, x: Self::Line, to: &mut [u8; LINE]) {
        *to = x;
    }
    #[inline(always)]
    fn interleave(self, rows: [&[u8; LANES]; 4], to: &mut [u8; LINE]) {
        for (r, row) in rows.into_iter().enumerate() {
            for (c, byte) in row.iter().enumerate() {
                to[4 * c + r] = *byte;
            }
        }
    }
    #[inline(always)]
    fn line(self, x: &[u8; LINE]) -> Self::Line {
        *x
    }
    #[inline(always)]
    fn dot(self, sum: Self::I, four: [u8; 4], line: Self::Line) -> Self::I {
        self.dot_signed(sum, four, line)
    }
    #[inline(always)]
    fn dot_signed(self, mut sum: Self::I, four: [u8; 4], line: Self::Line) -> Self::I {
        for (sum, line) in sum.iter_mut().zip(line.as_chunks::<4>().0) {
            for (x, w) in four.iter().zip(line) {
                *sum += i32::from(*x as i8) * i32::from(*w as i8);
            }
        }
        sum
    }
    #[inline(always)]
    fn dot_powers(self, sum: Self::I, line: Self::Line, four: [u8; 4]) -> Self::I {
        self.dot_signed(sum, four, line)
    }
}
