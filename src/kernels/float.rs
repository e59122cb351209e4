//! Convolutions in f32 with weights of f32 or fp16: for comparison, and for networks that do not
//! bear eight bits.
//!
//! Rows, strides and pitches are those of the int8 kernels, with any number of input channels.
//! Weights lie `[channels_out / 16, rounded up][tap][channel_in][16]`, see
//! [`ConvShape::packed_float_at`]; fp16 weights are widened exactly.
//!
//! An output is `bias[c]`, then one fused multiply-add a tap and input channel in that order, then
//! the residual, then the activation. Every instruction set does just this, so results are the same
//! to the bit. The exception are fp16 weights on aarch64 with fp16 arithmetic (`neondot` and
//! above, where the processor has it): inputs are rounded to fp16, and products are added in fp16,
//! at most [`HALF_RUN`] before they go to an f32 sum. That is twice as fast; inputs and such runs
//! must stay within ±65504.

use super::{Activation, BASES, ConvShape, Isa, LANES, Target, View, padded};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Most products that are added in fp16 before the sum is continued in f32.
pub const HALF_RUN: usize = 32;

/// Weights in one of two precisions.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// Half precision.
    F16(&'a [f16]),
    /// Single precision.
    F32(&'a [f32]),
}

impl Weights<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            Weights::F16(w) => w.len(),
            Weights::F32(w) => w.len(),
        }
    }

    fn lanes(&self, start: usize) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        match self {
            Weights::F16(w) => w[start..start + LANES].convert_to_f32_slice(&mut out),
            Weights::F32(w) => out.copy_from_slice(&w[start..start + LANES]),
        }
        out
    }
}

impl ConvShape {
    /// Where the weight of an output channel, tap and input channel lies in the packed float
    /// weights.
    pub fn packed_float_at(&self, channel_out: usize, tap: usize, channel_in: usize) -> usize {
        let row = (channel_out / LANES * self.width + tap) * self.channels_in + channel_in;
        row * LANES + channel_out % LANES
    }
}

/// A float convolution, or matrix product where its width is 1, ready to run.
#[derive(Debug, Clone, Copy)]
pub struct ConvFloat<'a> {
    /// Its shape; any number of input channels.
    pub shape: ConvShape,
    /// Output rows.
    pub positions: usize,
    /// Input rows; output row 0 lies at row 0, and rows before it and behind the last are read as
    /// far as the shape reaches.
    pub input: View<'a, f32>,
    /// [`ConvShape::packed_len`] weights.
    pub weights: Weights<'a>,
    /// One a padded output channel.
    pub bias: &'a [f32],
    /// Rows that are added before the activation.
    pub residual: Option<View<'a, f32>>,
    /// What is applied before writing: one of those that
    /// [`ConvInt8`](super::ConvInt8::activation) takes.
    pub activation: Activation,
}

impl ConvFloat<'_> {
    /// Runs on `isa`, writing `positions` rows of `out`; other rows are left alone.
    ///
    /// # Panics
    /// Where a buffer's length does not fit the shape, or no convolution applies the activation:
    /// all of it is checked once here so that the kernels need not.
    #[allow(unsafe_code)]
    pub fn run(&self, isa: Isa, out: &mut Target<f32>) {
        let s = &self.shape;
        assert!(self.activation.follows_convolution());
        s.check_input(self.positions, &self.input, s.channels_in);
        assert_eq!(self.weights.len(), s.packed_len());
        assert_eq!(self.bias.len(), padded(s.channels_out));
        if let Some(residual) = self.residual {
            let fits = residual.fits(self.positions, s.channels_out);
            assert!(fits, "residual too small");
        }
        let fits = out.fits(self.positions, s.channels_out);
        assert!(fits, "output too small");
        if self.positions == 0 {
            return;
        }
        // SAFETY: an Isa is one that this machine has; the lengths have been checked above.
        unsafe { (isa.kernels().conv_float)(self, out) }
    }
}

/// Addresses and steps that all tiles share; those of the input in values, those of the weights in
/// bytes.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) struct Walk {
    /// Tap 0 of position 0.
    pub x: *const f32,
    /// From one position to the next.
    pub row: usize,
    /// From one tap to the next.
    pub tap: usize,
    pub taps: usize,
    /// Input channels of a tap.
    pub channels: usize,
    pub weights: *const u8,
    /// From one input channel to the next.
    pub line: usize,
    /// From one block of output channels to the next.
    pub block: usize,
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Walk {
    pub fn new(conv: &ConvFloat, weights: *const u8, bytes: usize) -> Walk {
        let s = &conv.shape;
        let tap = s.dilation * conv.input.pitch;
        // Taps that follow each other without a gap are one tap of more channels: weights follow
        // each other in the same order.
        let (taps, channels) = if tap == s.channels_in {
            (1, s.width * s.channels_in)
        } else {
            (s.width, s.channels_in)
        };
        Walk {
            // ConvFloat::run has checked that the rows before row 0 exist.
            x: conv.input.data[conv.input.first - s.before * tap..].as_ptr(),
            row: s.stride * conv.input.pitch,
            tap,
            taps,
            channels,
            weights,
            line: LANES * bytes,
            block: s.width * s.channels_in * LANES * bytes,
        }
    }
}

/// The reference.
pub(super) fn scalar(conv: &ConvFloat, out: &mut Target<f32>) {
    let s = &conv.shape;
    let pitch = conv.input.pitch;
    let first = conv.input.first - s.before * s.dilation * pitch;
    for position in 0..conv.positions {
        for block in 0..padded(s.channels_out) / LANES {
            let mut sums = [0f32; LANES];
            sums.copy_from_slice(&conv.bias[block * LANES..(block + 1) * LANES]);
            for tap in 0..s.width {
                let at = first + (position * s.stride + tap * s.dilation) * pitch;
                for (channel, x) in conv.input.data[at..at + s.channels_in].iter().enumerate() {
                    let weights =
                        conv.weights
                            .lanes(s.packed_float_at(block * LANES, tap, channel));
                    for (sum, w) in sums.iter_mut().zip(weights) {
                        *sum = x.mul_add(w, *sum);
                    }
                }
            }
            finish_lanes(conv, &sums, position, block, out);
        }
    }
}

/// Adds the residual, applies the activation and writes one position: the definition, used where an
/// instruction set has nothing of its own for a block that is not full.
#[inline(always)]
pub(super) fn finish_lanes(
    conv: &ConvFloat,
    sums: &[f32; LANES],
    position: usize,
    block: usize,
    out: &mut Target<f32>,
) {
    let first = block * LANES;
    let count = LANES.min(conv.shape.channels_out - first);
    let at = out.first + position * out.pitch + first;
    for (lane, value) in out.data[at..at + count].iter_mut().enumerate() {
        // Written so that -0 and NaN become +0, as the vector instructions do.
        let relu = |y: f32| if y > 0.0 { y } else { 0.0 };
        let mut y = sums[lane];
        if conv.activation == Activation::ReluFirst {
            y = relu(y);
        }
        if let Some(rows) = conv.residual {
            y += rows.data[rows.first + position * rows.pitch + first + lane];
        }
        *value = match conv.activation {
            Activation::Relu => relu(y),
            Activation::Gelu | Activation::LeakyRelu { .. } => conv.activation.one(y),
            _ => y,
        };
    }
}

/// Base codes as rows of four channels, 1 at the base's own; "no base" is a row of zeros. `out`
/// holds four values a code.
///
/// # Panics
/// Where the lengths differ.
pub fn one_hot(codes: &[u8], out: &mut [f32]) {
    assert_eq!(Some(out.len()), codes.len().checked_mul(BASES));
    for (row, &code) in out.chunks_exact_mut(BASES).zip(codes) {
        for (base, value) in row.iter_mut().enumerate() {
            *value = if usize::from(code) == base { 1.0 } else { 0.0 };
        }
    }
}
