//! `function(x · factor[c] + term[c]) · gain` of each value of rows: batch norms and functions that
//! no convolution could take in.
//!
//! The value is one fused multiply-add, then the function, then one multiplication (none by a gain
//! of 1); integer outputs are clamped and rounded as those of a convolution. Integer inputs are
//! multiplied by their scale first, rounded once.

use super::activation::{Activation, leaky_relu};
use super::lanes::{Kernel, Lanes, dispatch};
use super::{Isa, LANES};

/// Rows to be read, `[row][channel]`.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// 0 to 255, and their scale.
    Unsigned(&'a [u8], f32),
    /// -127 to 127 as the bytes of i8, and their scale.
    Signed(&'a [u8], f32),
    /// f32.
    Float(&'a [f32]),
}

/// Rows to be written.
#[derive(Debug)]
pub enum Sink<'a> {
    /// 0 to 255.
    Unsigned(&'a mut [u8]),
    /// -127 to 127 as the bytes of i8.
    Signed(&'a mut [u8]),
    /// f32.
    Float(&'a mut [f32]),
}

/// The operation, ready to run. Values must be finite.
#[derive(Debug)]
pub struct Affine<'a> {
    /// One a channel.
    pub factor: &'a [f32],
    /// One a channel.
    pub term: &'a [f32],
    /// What follows; [`Activation::ReluFirst`] is a ReLU.
    pub activation: Activation,
    /// Multiplied to the value of an activation other than the identity and a ReLU.
    pub gain: f32,
    /// What is read.
    pub source: Source<'a>,
}

impl Affine<'_> {
    /// Runs on `isa`, the same on each to the bit.
    ///
    /// # Panics
    /// Where the lengths differ, or are no whole rows.
    pub fn run(self, isa: Isa, sink: Sink) {
        let len = match &self.source {
            Source::Unsigned(rows, _) | Source::Signed(rows, _) => rows.len(),
            Source::Float(rows) => rows.len(),
        };
        let written = match &sink {
            Sink::Unsigned(rows) | Sink::Signed(rows) => rows.len(),
            Sink::Float(rows) => rows.len(),
        };
        assert!(!self.factor.is_empty() && len.is_multiple_of(self.factor.len()));
        assert_eq!(self.term.len(), self.factor.len());
        assert_eq!(len, written);
        dispatch(isa, Run { affine: self, sink });
    }
}

struct Run<'a, 'b> {
    affine: Affine<'a>,
    sink: Sink<'b>,
}

impl Kernel for Run<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let Run { affine, mut sink } = self;
        let width = affine.factor.len();
        let rows = match affine.source {
            Source::Unsigned(rows, _) | Source::Signed(rows, _) => rows.len() / width,
            Source::Float(rows) => rows.len() / width,
        };
        let whole = width - width % LANES;
        // What residual networks do most, without a question a value.
        let constants = (affine.factor, affine.term);
        match (affine.source, &mut sink, affine.activation) {
            _ if whole < width => {}
            (
                Source::Float(values),
                Sink::Unsigned(bytes),
                Activation::Identity | Activation::Relu | Activation::ReluFirst,
            ) => {
                let (zero, high) = (s.splat(0.0), s.splat(255.0));
                let (half, low) = (s.splat_i(128), s.splat_i(-128));
                return blocks(s, values, bytes, constants, |y| {
                    // 128 and above as the signed byte of the same bits.
                    let y = s.to_int(s.min(s.max(y, zero), high));
                    s.add_i(s.and_i(s.add_i(y, half), s.splat_i(255)), low)
                });
            }
            (Source::Float(values), Sink::Signed(bytes), Activation::Identity) => {
                return blocks(s, values, bytes, constants, |y| s.to_signed_byte(y));
            }
            (Source::Float(values), Sink::Signed(bytes), Activation::LeakyRelu { slope }) => {
                // Not `lanes`: what asks which function it is would not become part of the loop.
                let (slope, gain) = (s.splat(slope.get()), s.splat(affine.gain));
                return blocks(s, values, bytes, constants, |y| {
                    s.to_signed_byte(s.mul(leaky_relu(s, y, slope), gain))
                });
            }
            _ => {}
        }
        for row in 0..rows {
            for from in (0..whole).step_by(LANES) {
                let at = row * width + from;
                let constants = (
                    affine.factor[from..].first_chunk(),
                    affine.term[from..].first_chunk(),
                );
                let (Some(factor), Some(term)) = constants else {
                    return;
                };
                let x = match affine.source {
                    Source::Unsigned(bytes, scale) => {
                        let x = load(s, &bytes[at..at + LANES]);
                        s.mul(s.to_float(s.and_i(x, s.splat_i(255))), s.splat(scale))
                    }
                    Source::Signed(bytes, scale) => {
                        s.mul(s.to_float(load(s, &bytes[at..at + LANES])), s.splat(scale))
                    }
                    Source::Float(values) => match values[at..].first_chunk() {
                        Some(sixteen) => s.load(sixteen),
                        None => return,
                    },
                };
                let y = affine.value(s, x, s.load(factor), s.load(term));
                put(s, y, &mut sink, at, LANES);
            }
            if whole < width {
                let at = row * width + whole;
                let count = width - whole;
                let x = match affine.source {
                    Source::Unsigned(bytes, scale) => {
                        let x = load(s, &bytes[at..at + count]);
                        s.mul(s.to_float(s.and_i(x, s.splat_i(255))), s.splat(scale))
                    }
                    Source::Signed(bytes, scale) => {
                        s.mul(s.to_float(load(s, &bytes[at..at + count])), s.splat(scale))
                    }
                    Source::Float(values) => s.load_part(&values[at..at + count]),
                };
                let factor = s.load_part(&affine.factor[whole..]);
                let term = s.load_part(&affine.term[whole..]);
                put(s, affine.value(s, x, factor, term), &mut sink, at, count);
            }
        }
    }
}

impl Affine<'_> {
    #[inline(always)]
    fn value<S: Lanes>(&self, s: S, x: S::F, factor: S::F, term: S::F) -> S::F {
        let y = s.fma(x, factor, term);
        match self.activation {
            Activation::Identity => y,
            Activation::Relu | Activation::ReluFirst => s.max(y, s.splat(0.0)),
            other => s.mul(other.lanes(s, y), s.splat(self.gain)),
        }
    }
}

/// Float rows of whole blocks to bytes: what `function` gives, as signed ones.
#[inline(always)]
fn blocks<S: Lanes>(
    s: S,
    values: &[f32],
    bytes: &mut [u8],
    (factor, term): (&[f32], &[f32]),
    function: impl Fn(S::F) -> S::I,
) {
    let width = factor.len();
    let (factor, _) = factor.as_chunks::<LANES>();
    let (term, _) = term.as_chunks::<LANES>();
    for (from, to) in values
        .chunks_exact(width)
        .zip(bytes.chunks_exact_mut(width))
    {
        let (from, _) = from.as_chunks::<LANES>();
        let (to, _) = to.as_chunks_mut::<LANES>();
        for (((x, y), factor), term) in from.iter().zip(to).zip(factor).zip(term) {
            let value = s.fma(s.load(x), s.load(factor), s.load(term));
            s.store_bytes(function(value), y);
        }
    }
}

/// Writes the first `count` lanes at `at`.
#[inline(always)]
fn put<S: Lanes>(s: S, y: S::F, sink: &mut Sink, at: usize, count: usize) {
    match sink {
        Sink::Unsigned(bytes) => {
            let y = s.to_int(s.min(s.max(y, s.splat(0.0)), s.splat(255.0)));
            // 128 and above as the signed byte of the same bits.
            let y = s.and_i(s.add_i(y, s.splat_i(128)), s.splat_i(255));
            store(s, s.add_i(y, s.splat_i(-128)), &mut bytes[at..at + count]);
        }
        Sink::Signed(bytes) => store(s, s.to_signed_byte(y), &mut bytes[at..at + count]),
        Sink::Float(values) => match values[at..at + count].first_chunk_mut() {
            Some(sixteen) => s.store(y, sixteen),
            None => s.store_part(y, &mut values[at..at + count]),
        },
    }
}

/// Up to 16 bytes, widened.
#[inline(always)]
fn load<S: Lanes>(s: S, x: &[u8]) -> S::I {
    match x.first_chunk() {
        Some(sixteen) => s.load_bytes(sixteen),
        None => {
            let mut all = [0u8; LANES];
            all[..x.len()].copy_from_slice(x);
            s.load_bytes(&all)
        }
    }
}

#[inline(always)]
fn store<S: Lanes>(s: S, y: S::I, to: &mut [u8]) {
    match to.first_chunk_mut() {
        Some(sixteen) => s.store_bytes(y, sixteen),
        None => {
            let mut all = [0u8; LANES];
            s.store_bytes(y, &mut all);
            to.copy_from_slice(&all[..to.len()]);
        }
    }
}
