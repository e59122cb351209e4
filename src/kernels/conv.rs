//! The int8 convolution: its shape, its operands and what follows the sum.

use super::activation::Activation;
use super::isa::{Isa, scalar_conv_int8};
use super::lanes::ScalarLanes;
use super::norm::SCALE_BYTES;
use super::{LANES, Scratch, Target, View, padded};
use serde::{Deserialize, Serialize};

/// The shape of a 1-D convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvShape {
    /// Channels of the input, a multiple of 4.
    pub channels_in: usize,
    /// Channels of the output.
    pub channels_out: usize,
    /// Taps.
    pub width: usize,
    /// Distance between taps.
    pub dilation: usize,
    /// Taps before the output's own position.
    pub before: usize,
    /// Input rows from one output row to the next.
    pub stride: usize,
}

impl ConvShape {
    /// A linear map of each row by itself: width 1.
    pub fn linear(channels_in: usize, channels_out: usize) -> ConvShape {
        ConvShape {
            channels_in,
            channels_out,
            width: 1,
            dilation: 1,
            before: 0,
            stride: 1,
        }
    }

    /// Rows that are read before the first and after the last position.
    pub fn reach(&self) -> usize {
        let after = self.width.saturating_sub(1).saturating_sub(self.before);
        self.before.max(after).saturating_mul(self.dilation)
    }

    /// Bytes of the packed int8 weights, or the number of packed float weights; the largest number
    /// where no buffer could hold so many.
    pub fn packed_len(&self) -> usize {
        let taps = self.width.saturating_mul(self.channels_in);
        taps.saturating_mul(padded(self.channels_out))
    }

    /// Where the weight of an output channel, tap and input channel lies in the packed int8
    /// weights.
    pub fn packed_at(&self, channel_out: usize, tap: usize, channel_in: usize) -> usize {
        let block = channel_out / LANES * self.width + tap;
        let quad = block * (self.channels_in / 4) + channel_in / 4;
        (quad * LANES + channel_out % LANES) * 4 + channel_in % 4
    }

    /// Checks that the rows of `channels` that `positions` output rows read lie inside `input`:
    /// kernels do not look again. No product or sum of sizes may wrap here.
    pub(super) fn check_input<T>(&self, positions: usize, input: &View<T>, channels: usize) {
        assert!(self.channels_in > 0 && self.channels_out > 0);
        assert!(self.width > 0 && self.before < self.width && self.stride > 0);
        for step in [self.stride, self.dilation] {
            let bytes = step
                .checked_mul(input.pitch)
                .and_then(|values| values.checked_mul(size_of::<T>()));
            let exists = bytes.is_some_and(|bytes| bytes <= isize::MAX as usize);
            assert!(exists, "a stride or dilation beyond all memory");
        }
        let back = self
            .before
            .checked_mul(self.dilation)
            .and_then(|rows| rows.checked_mul(input.pitch))
            .filter(|back| *back <= input.first);
        let Some(back) = back else {
            panic!("halo too small");
        };
        if positions > 0 {
            let whole = View {
                first: input.first - back,
                ..*input
            };
            let rows = self.rows_read(positions);
            let fits = rows.is_some_and(|rows| whole.fits(rows, channels));
            assert!(fits, "halo too small");
        }
    }

    /// Input rows from the first to the last that `positions` output rows read; `None` where there
    /// are none, or more than can be counted.
    fn rows_read(&self, positions: usize) -> Option<usize> {
        let strides = positions.checked_sub(1)?.checked_mul(self.stride)?;
        let taps = self.width.checked_sub(1)?.checked_mul(self.dilation)?;
        strides.checked_add(taps)?.checked_add(1)
    }
}

/// What is added to a sum before the activation.
#[derive(Debug, Clone, Copy)]
pub enum Residual<'a> {
    /// Nothing.
    None,
    /// Unsigned rows and their scale.
    Unsigned(View<'a, u8>, f32),
    /// Signed rows, as the bytes of i8, and their scale.
    Signed(View<'a, u8>, f32),
    /// Float rows.
    Float(View<'a, f32>),
}

/// Where an integer convolution writes, and what it does to a value on the way.
#[derive(Debug)]
pub enum Output<'a> {
    /// 8 bits: 0 to 255.
    Unsigned(Target<'a, u8>),
    /// 8 bits signed, -127 to 127, as the bytes of i8.
    Signed(Target<'a, u8>),
    /// f32.
    Float(Target<'a, f32>),
}

/// An int8 convolution, or matrix product where its width is 1, ready to run.
#[derive(Debug, Clone, Copy)]
pub struct ConvInt8<'a> {
    /// Its shape.
    pub shape: ConvShape,
    /// Output rows.
    pub positions: usize,
    /// True where the input holds signed bytes.
    pub signed_input: bool,
    /// Input rows; output row 0 lies at row 0, and rows before it and behind the last are read as
    /// far as the shape reaches.
    pub input: View<'a, u8>,
    /// True where each input row is followed by its own scale, four bytes of an f32; only with a
    /// width and stride of 1.
    pub row_scales: bool,
    /// [`ConvShape::packed_len`] weights.
    pub weights: &'a [i8],
    /// One a padded output channel.
    pub scale: &'a [f32],
    /// One a padded output channel.
    pub bias: &'a [f32],
    /// What is added before the activation.
    pub residual: Residual<'a>,
    /// What is applied before writing: [`Activation::Identity`], [`Activation::Relu`],
    /// [`Activation::ReluFirst`], [`Activation::LeakyRelu`] or [`Activation::Gelu`]. Unsigned rows
    /// clamp at 0, so for them the identity is a ReLU.
    pub activation: Activation,
    /// What the value of a GELU is multiplied by: the inverse of an integer output's scale.
    pub gain: f32,
}

impl ConvInt8<'_> {
    /// Runs on `isa`, writing `positions` rows of `out`; other rows are left alone.
    ///
    /// # Panics
    /// Where a buffer's length does not fit the shape, or no convolution applies the activation:
    /// all of it is checked once here so that the kernels need not.
    #[allow(unsafe_code)]
    pub fn run(&self, isa: Isa, scratch: &mut Scratch, out: &mut Output) {
        let s = &self.shape;
        let (positions, stored) = (self.positions, s.channels_out);
        assert!(s.channels_in.is_multiple_of(4));
        assert!(!self.row_scales || (s.width == 1 && s.stride == 1));
        assert!(self.activation.follows_convolution());
        let row_scale = if self.row_scales { SCALE_BYTES } else { 0 };
        let channels = s.channels_in.saturating_add(row_scale);
        s.check_input(positions, &self.input, channels);
        assert_eq!(self.weights.len(), s.packed_len());
        assert_eq!(self.scale.len(), padded(stored));
        assert_eq!(self.bias.len(), padded(stored));
        let fits = match &self.residual {
            Residual::None => true,
            Residual::Unsigned(rows, _) | Residual::Signed(rows, _) => rows.fits(positions, stored),
            Residual::Float(rows) => rows.fits(positions, stored),
        };
        assert!(fits, "residual too small");
        let fits = match out {
            Output::Unsigned(rows) | Output::Signed(rows) => rows.fits(positions, stored),
            Output::Float(rows) => rows.fits(positions, stored),
        };
        assert!(fits, "output too small");
        if positions == 0 {
            return;
        }
        if !self.bounded() {
            // Vector conversions to integers need values below 2^31; a file that asks for more gets
            // the slow way.
            return scalar_conv_int8(self, out);
        }
        // SAFETY: an Isa is one that this machine has; the lengths have been checked above.
        unsafe { (isa.kernels().conv_int8)(self, scratch, out) }
    }

    /// True where a value may still leave the range of i32 after [`ConvInt8::bounded`] has held:
    /// its parts are not known before the run.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn needs_clamp(&self) -> bool {
        self.row_scales
            || matches!(self.residual, Residual::Float(_))
            || self.activation == Activation::Gelu
    }

    /// True where no value before rounding can leave ±2^30, or be NaN.
    fn bounded(&self) -> bool {
        const MOST: f32 = (1u32 << 30) as f32;
        let sums = (self.shape.width * self.shape.channels_in) as f32 * (255 * 128) as f32;
        let rest = match self.residual {
            Residual::Unsigned(_, scale) | Residual::Signed(_, scale) => scale.abs() * 256.0,
            _ => 0.0,
        };
        // Row scales and float residuals are not known here: see needs_clamp.
        let pairs = self.scale.iter().zip(self.bias);
        pairs.fold(true, |all, (scale, bias)| {
            all & (scale.abs() * sums + bias.abs() + rest < MOST)
        })
    }
}

/// Turns 16 accumulators of one position into outputs: the definition, used where an instruction
/// set has no epilogue of its own.
#[inline(always)]
pub(super) fn finish_lanes(
    conv: &ConvInt8,
    sums: &[i32; LANES],
    position: usize,
    block: usize,
    out: &mut Output,
) {
    let first = block * LANES;
    let count = LANES.min(conv.shape.channels_out - first);
    let mut lanes = [0f32; LANES];
    let row_scale = conv.row_scale(position);
    for (lane, y) in lanes.iter_mut().enumerate().take(count) {
        let mut sum = sums[lane] as f32;
        if let Some(scale) = row_scale {
            sum *= scale;
        }
        *y = sum.mul_add(conv.scale[first + lane], conv.bias[first + lane]);
    }
    let values = &mut lanes[..count];
    // Written so that -0 and NaN become +0, as the vector instructions do.
    let relu = |values: &mut [f32]| {
        for y in values {
            *y = if *y > 0.0 { *y } else { 0.0 };
        }
    };
    if conv.activation == Activation::ReluFirst {
        relu(values);
    }
    match &conv.residual {
        Residual::None => (),
        Residual::Unsigned(rows, scale) => {
            let at = rows.first + position * rows.pitch + first;
            for (y, &r) in values.iter_mut().zip(&rows.data[at..]) {
                *y = f32::from(r).mul_add(*scale, *y);
            }
        }
        Residual::Signed(rows, scale) => {
            let at = rows.first + position * rows.pitch + first;
            for (y, &r) in values.iter_mut().zip(&rows.data[at..]) {
                *y = f32::from(r as i8).mul_add(*scale, *y);
            }
        }
        Residual::Float(rows) => {
            let at = rows.first + position * rows.pitch + first;
            for (y, &r) in values.iter_mut().zip(&rows.data[at..]) {
                *y += r;
            }
        }
    }
    match conv.activation {
        Activation::Relu => relu(values),
        Activation::Gelu | Activation::LeakyRelu { .. } => {
            let gain = match conv.activation {
                Activation::Gelu => conv.gain,
                _ => 1.0,
            };
            let mut all = [0f32; LANES];
            all[..count].copy_from_slice(values);
            let all = conv.activation.lanes(ScalarLanes, all);
            for (y, one) in values.iter_mut().zip(all) {
                *y = one * gain;
            }
        }
        _ => (),
    }
    match out {
        Output::Unsigned(rows) => {
            let at = rows.first + position * rows.pitch + first;
            for (o, y) in rows.data[at..].iter_mut().zip(values.iter()) {
                *o = y.clamp(0.0, 255.0).round_ties_even() as u8;
            }
        }
        Output::Signed(rows) => {
            let at = rows.first + position * rows.pitch + first;
            for (o, y) in rows.data[at..].iter_mut().zip(values.iter()) {
                *o = (y.clamp(-127.0, 127.0).round_ties_even() as i8) as u8;
            }
        }
        Output::Float(rows) => {
            let at = rows.first + position * rows.pitch + first;
            for (o, y) in rows.data[at..].iter_mut().zip(values.iter()) {
                *o = *y;
            }
        }
    }
}

impl ConvInt8<'_> {
    /// The scale that follows an input row.
    #[inline(always)]
    pub(super) fn row_scale(&self, position: usize) -> Option<f32> {
        if !self.row_scales {
            return None;
        }
        let at = self.input.first + position * self.input.pitch + self.shape.channels_in;
        let bytes = self.input.data.get(at..)?.first_chunk::<4>()?;
        Some(f32::from_le_bytes(*bytes))
    }
}
