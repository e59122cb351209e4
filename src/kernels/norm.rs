//! Layer norm over rows of f32, and the quantisation of rows.
//!
//! For a row of D values, in the lane order of `lanes`: `mean = Σx / D`; `variance = Σ(x - mean)² /
//! D`, accumulated by fused multiply-add; `y = fma((x - mean) · (1 / √(variance + ε)), gamma,
//! beta)`. A norm that is not centred (root mean square) takes 0 for the mean.
//!
//! A quantised row is `round(y · (1 / scale))` clamped to [-127, 127], ties to even. A dynamic
//! scale is `max|y| / 127` with `1 / scale` taken as `127 / max|y|`; it follows the row as four
//! bytes, little-endian. A row whose largest magnitude is below [`SMALLEST`] becomes zeros with
//! scale 0.

use super::lanes::{Kernel, Lanes, dispatch};
use super::{Isa, LANES};

/// Below this magnitude a row is taken for zeros, so that 127 / max|y| stays finite.
pub const SMALLEST: f32 = 1e-30;

/// Bytes of a dynamic scale behind its row.
pub const SCALE_BYTES: usize = 4;

/// Where int8 rows go.
#[derive(Debug)]
pub enum Int8Rows<'a> {
    /// `rows × D` bytes, one scale for all.
    Static {
        /// The rows, as the bytes of i8.
        bytes: &'a mut [u8],
        /// The value of one step; greater than 0.
        scale: f32,
    },
    /// `rows × (D + 4)` bytes: each row followed by its own scale.
    Dynamic {
        /// The rows, as the bytes of i8.
        bytes: &'a mut [u8],
    },
}

impl Int8Rows<'_> {
    pub(super) fn check(&self, rows: usize, width: usize) {
        match self {
            Int8Rows::Static { bytes, scale } => {
                assert_eq!(Some(bytes.len()), rows.checked_mul(width));
                assert!(*scale > 0.0, "the scale of int8 rows is positive");
            }
            Int8Rows::Dynamic { bytes } => {
                let pitch = width.checked_add(SCALE_BYTES);
                let len = pitch.and_then(|pitch| rows.checked_mul(pitch));
                assert_eq!(Some(bytes.len()), len);
            }
        }
    }
}

/// What is normalised.
#[derive(Debug)]
pub enum Input<'a> {
    /// These rows.
    Plain(&'a [f32]),
    /// The sum of two, which is not kept.
    Sum(&'a [f32], &'a [f32]),
    /// The first after the second has been added to it: a residual stream.
    Accumulate(&'a mut [f32], &'a [f32]),
}

/// A layer norm.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm<'a> {
    /// D values; multiplied. Its length is the width of the rows.
    pub gamma: &'a [f32],
    /// D values; added.
    pub beta: &'a [f32],
    /// Added to the variance; positive.
    pub epsilon: f32,
    /// True where the mean is subtracted.
    pub centred: bool,
}

impl LayerNorm<'_> {
    /// Normalises `rows` of `[row][D]` finite values into `float` (`[row][D]`), `bytes`, or both.
    ///
    /// # Panics
    /// Where a length does not fit, or the width is 0.
    pub fn run(&self, isa: Isa, rows: Input, float: Option<&mut [f32]>, bytes: Option<Int8Rows>) {
        let width = self.gamma.len();
        assert!(width > 0);
        assert_eq!(self.beta.len(), width);
        let len = match &rows {
            Input::Plain(x) => x.len(),
            Input::Sum(a, b) => {
                assert_eq!(a.len(), b.len());
                a.len()
            }
            Input::Accumulate(a, b) => {
                assert_eq!(a.len(), b.len());
                a.len()
            }
        };
        assert!(len.is_multiple_of(width));
        if let Some(float) = &float {
            assert_eq!(float.len(), len);
        }
        if let Some(bytes) = &bytes {
            bytes.check(len / width, width);
        }
        dispatch(
            isa,
            Norm {
                norm: *self,
                rows,
                float,
                bytes,
            },
        );
    }
}

/// Quantises `[row][width]` finite values.
///
/// # Panics
/// Where a length does not fit, or the width is 0.
pub fn quantise(isa: Isa, rows: &[f32], width: usize, bytes: Int8Rows) {
    assert!(width > 0 && rows.len().is_multiple_of(width));
    bytes.check(rows.len() / width, width);
    // With one scale for all, rows are one long row.
    let width = match bytes {
        Int8Rows::Static { .. } => rows.len().max(1),
        Int8Rows::Dynamic { .. } => width,
    };
    dispatch(isa, Quantise { rows, width, bytes });
}

struct Quantise<'a> {
    rows: &'a [f32],
    width: usize,
    bytes: Int8Rows<'a>,
}

impl Kernel for Quantise<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(mut self, s: S) {
        quantise_rows(s, self.rows, self.width, &mut self.bytes);
    }
}

#[inline(always)]
pub(super) fn quantise_rows<S: Lanes>(s: S, rows: &[f32], width: usize, bytes: &mut Int8Rows) {
    for (i, row) in rows.chunks_exact(width).enumerate() {
        write(s, &Whole(row), width, i, bytes);
    }
}

/// A row of which groups of 16 can be had.
trait Groups<S: Lanes> {
    /// Elements from `at`, which is a multiple of 16; zeros, or anything finite, behind the end.
    fn group(&self, s: S, at: usize) -> S::F;
}

/// `LANES` elements from `at` or those that there are.
#[inline(always)]
fn load<S: Lanes>(s: S, row: &[f32], at: usize) -> S::F {
    match row[at..].first_chunk() {
        Some(all) => s.load(all),
        None => s.load_part(&row[at..]),
    }
}

#[inline(always)]
fn store<S: Lanes>(s: S, x: S::F, row: &mut [f32], at: usize) {
    match row[at..].first_chunk_mut() {
        Some(all) => s.store(x, all),
        None => s.store_part(x, &mut row[at..]),
    }
}

/// Zero behind `left` elements.
#[inline(always)]
fn only<S: Lanes>(s: S, x: S::F, left: usize) -> S::F {
    if left >= LANES {
        return x;
    }
    let mut mask = [0; LANES];
    mask[..left].fill(-1);
    s.float_of_bits(s.and_i(s.bits(x), s.load_i(&mask)))
}

struct Whole<'a>(&'a [f32]);

impl<S: Lanes> Groups<S> for Whole<'_> {
    #[inline(always)]
    fn group(&self, s: S, at: usize) -> S::F {
        load(s, self.0, at)
    }
}

struct Pair<'a>(&'a [f32], &'a [f32]);

impl<S: Lanes> Groups<S> for Pair<'_> {
    #[inline(always)]
    fn group(&self, s: S, at: usize) -> S::F {
        s.add(load(s, self.0, at), load(s, self.1, at))
    }
}

/// A normalised row.
struct Normalised<'a, S: Lanes, X> {
    x: X,
    mean: S::F,
    factor: S::F,
    norm: LayerNorm<'a>,
}

impl<S: Lanes, X: Groups<S>> Groups<S> for Normalised<'_, S, X> {
    #[inline(always)]
    fn group(&self, s: S, at: usize) -> S::F {
        let centred = s.sub(self.x.group(s, at), self.mean);
        let gamma = load(s, self.norm.gamma, at);
        s.fma(
            s.mul(centred, self.factor),
            gamma,
            load(s, self.norm.beta, at),
        )
    }
}

struct Norm<'a> {
    norm: LayerNorm<'a>,
    rows: Input<'a>,
    float: Option<&'a mut [f32]>,
    bytes: Option<Int8Rows<'a>>,
}

impl Kernel for Norm<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Norm {
            norm,
            rows,
            mut float,
            mut bytes,
        } = self;
        let width = norm.gamma.len();
        match rows {
            Input::Plain(x) => {
                for (i, x) in x.chunks_exact(width).enumerate() {
                    row(s, norm, Whole(x), i, &mut float, &mut bytes);
                }
            }
            Input::Sum(a, b) => {
                for (i, a) in a.chunks_exact(width).enumerate() {
                    let b = &b[i * width..][..width];
                    row(s, norm, Pair(a, b), i, &mut float, &mut bytes);
                }
            }
            Input::Accumulate(a, b) => {
                for (i, a) in a.chunks_exact_mut(width).enumerate() {
                    let b = &b[i * width..][..width];
                    for at in (0..width).step_by(LANES) {
                        let sum = s.add(load(s, a, at), load(s, b, at));
                        store(s, sum, a, at);
                    }
                    row(s, norm, Whole(a), i, &mut float, &mut bytes);
                }
            }
        }
    }
}

#[inline(always)]
fn row<S: Lanes, X: Groups<S>>(
    s: S,
    norm: LayerNorm,
    x: X,
    i: usize,
    float: &mut Option<&mut [f32]>,
    bytes: &mut Option<Int8Rows>,
) {
    let width = norm.gamma.len();
    let mut mean = s.splat(0.0);
    if norm.centred {
        let mut sum = s.splat(0.0);
        for at in (0..width).step_by(LANES) {
            sum = s.add(sum, x.group(s, at));
        }
        mean = s.splat(s.sum(sum) / width as f32);
    }
    let mut squares = s.splat(0.0);
    for at in (0..width).step_by(LANES) {
        let centred = only(s, s.sub(x.group(s, at), mean), width - at);
        squares = s.fma(centred, centred, squares);
    }
    let variance = s.sum(squares) / width as f32;
    let factor = s.splat(1.0 / (variance + norm.epsilon).sqrt());
    let y = Normalised {
        x,
        mean,
        factor,
        norm,
    };
    match (float, bytes) {
        (Some(float), bytes) => {
            let float = &mut float[i * width..][..width];
            for at in (0..width).step_by(LANES) {
                store(s, y.group(s, at), float, at);
            }
            if let Some(bytes) = bytes {
                write(s, &Whole(float), width, i, bytes);
            }
        }
        (None, Some(bytes)) => write(s, &y, width, i, bytes),
        (None, None) => {}
    }
}

/// The scale of values up to `largest` in magnitude, and what to multiply them by.
#[inline(always)]
pub(super) fn dynamic_scale(largest: f32) -> (f32, f32) {
    if largest >= SMALLEST {
        (largest / 127.0, 127.0 / largest)
    } else {
        (0.0, 0.0)
    }
}

/// Quantises row `i`.
#[inline(always)]
fn write<S: Lanes, Y: Groups<S>>(s: S, y: &Y, width: usize, i: usize, bytes: &mut Int8Rows) {
    let (bytes, inverse) = match bytes {
        Int8Rows::Static { bytes, scale } => (&mut bytes[i * width..][..width], 1.0 / *scale),
        Int8Rows::Dynamic { bytes } => {
            let mut largest = s.splat(0.0);
            for at in (0..width).step_by(LANES) {
                largest = s.max(largest, only(s, s.abs(y.group(s, at)), width - at));
            }
            let (scale, inverse) = dynamic_scale(s.max_lane(largest));
            let row = &mut bytes[i * (width + SCALE_BYTES)..][..width + SCALE_BYTES];
            let (row, after) = row.split_at_mut(width);
            after.copy_from_slice(&scale.to_le_bytes());
            (row, inverse)
        }
    };
    let inverse = s.splat(inverse);
    for at in (0..width).step_by(LANES) {
        let x = s.to_signed_byte(s.mul(y.group(s, at), inverse));
        match bytes[at..].first_chunk_mut() {
            Some(all) => s.store_bytes(x, all),
            None => {
                let mut all = [0; LANES];
                s.store_bytes(x, &mut all);
                let rest = &mut bytes[at..];
                rest.copy_from_slice(&all[..rest.len()]);
            }
        }
    }
}
