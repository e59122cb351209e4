//! Arithmetic by instruction set, with one scalar reference.
//!
//! **Activations** are rows of channels, `[position][channel]`: unsigned (0 to 255, after a ReLU)
//! or signed (-127 to 127), zero point 0 in both cases, so that zero padding is a row of zero
//! bytes. Every buffer has [`Rows::halo`] rows of zeros before position 0 and as many after the
//! last one; a convolution reads them instead of testing for ends.
//!
//! **Weights** of a convolution are int8 in -127 to 127, one scale an output channel, laid out
//! `[channels_out / 16, rounded up][tap][channels_in / 4][16][4]`: one 64-byte line is 16 output
//! channels of 4 inputs, what one `vpdpbusd` takes, two AVX2 registers, four NEON registers for
//! `sdot`, and each block of 16 output channels is one stream from beginning to end. A linear layer
//! is a convolution of width 1; base codes are rows of four channels.
//!
//! **Sums are exact** everywhere. `vpmaddubsw` adds two products in 16 bits, saturating, so a layer
//! that reads unsigned rows has *paired* weights: for input channels 2j and 2j + 1 of a tap neither
//! the positive nor the negative ones add up to more than [`PAIR_LIMIT`] (255 · 128 < 32768). The
//! packer sees to that; a file that breaks it gives other scores on AVX2 alone. Signed rows need no
//! such care (2 · 127 · 127 < 32768). NEON, whose products are signed, reads unsigned rows with 128
//! taken off and begins at 128 times the column sums.
//!
//! **Requantisation**, the same on every instruction set to the bit: the exact i32 sum is converted
//! to f32 (ties to even), then `y = fma(sum, scale[c], bias[c])`, with a residual `y =
//! fma(residual, residual_scale, y)`, both single roundings. An integer output has its own scale
//! already divided into `scale`, `bias` and `residual_scale`: `y` is clamped to [0, 255] (unsigned)
//! or [-127, 127] (signed) and rounded ties to even. A float output is `y`, or `max(y, 0)` after a
//! ReLU.
//!
//! # Adding an instruction set, in an afternoon
//!
//! 1. A variant of [`Isa`], its name, and its detection in [`Isa::available`], before the better
//!    ones. From here on `STRANDLINE_ISA` selects it, and everything runs, on the scalar reference.
//! 2. A tile for [`ConvInt8`]: the sums of P positions by R blocks of 16 output channels in
//!    registers, as `x86::tile` has them. All that it has to know of the shape is where tap 0 of
//!    position 0 lies and the steps from position to position and from tap to tap; a block's
//!    weights are one stream. Choose P and R so that the sums fill the registers but for R lines of
//!    weights and one of activations. Where the multiplication takes unsigned activations, copy
//!    signed ones with 128 added, or the other way round, and correct by the column sums, as the
//!    others do.
//! 3. The epilogue, or `finish_lanes`, which is slow and right. An arm of the match in
//!    [`ConvInt8::run`].
//! 4. `Lanes` for sixteen floats, if the set has wider or better registers than what is there:
//!    layer norm, attention, soft-max, GELU and the rest come with it.
//! 5. `tests/kernels` compares every available set with the reference to the bit over random
//!    shapes, between guard pages and under the address sanitizer; `tests/golden.rs` compares the
//!    scores of the built-in models; `benches/kernels` shows GMAC/s beside the set's peak (`peak`).
//!    None of them needs a change, but for the peak's loop.

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod activation;
pub mod affine;
#[cfg(target_arch = "x86_64")]
mod amx;
pub mod attention;
#[cfg(target_arch = "x86_64")]
mod avx;
pub mod embed;
pub mod float;
#[cfg(target_arch = "aarch64")]
mod float_aarch64;
#[cfg(target_arch = "x86_64")]
mod float_x86;
mod lanes;
pub mod math;
pub mod norm;
pub mod peak;
pub mod pool;
pub mod scalar;
pub mod softmax;
pub mod tokens;
#[cfg(target_arch = "x86_64")]
mod x86;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::OnceLock;

/// Output channels are computed in blocks of this many; weights, scales and biases are padded to it
/// with zeros.
pub const LANES: usize = 16;

/// Most that the weights of a pair of input channels may add up to, in either sign, where the input
/// is unsigned.
pub const PAIR_LIMIT: i32 = 128;

/// `channels` rounded up to whole blocks of [`LANES`].
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LANES)
}

/// An instruction set the kernels are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain Rust; the reference.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C: `vpmaddubsw`.
    Avx2,
    /// The same with AVX-VNNI: `vpdpbusd` on 256 bits.
    AvxVnni,
    /// x86-64 with AVX-512 F, BW, VL and VNNI: `vpdpbusd`.
    Avx512Vnni,
    /// The same with AMX, under Linux: `tdpbusd`, `tdpbssd`.
    Amx,
    /// aarch64 as it always is: `smull`, `smlal2`, `sadalp`.
    Neon,
    /// aarch64 with the dot product extension: `sdot`.
    NeonDot,
    /// The same with the 8-bit matrix extension: `smmla`.
    NeonI8mm,
}

impl Isa {
    /// Those that this machine can run, best last. Never empty: [`Isa::Scalar`] is always there.
    pub fn available() -> Vec<Isa> {
        let vectors = Isa::available_vectors();
        std::iter::once(Isa::Scalar).chain(vectors).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn available_vectors() -> Vec<Isa> {
        let mut found = vec![];
        let avx2 = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        if avx2 {
            found.push(Isa::Avx2);
        }
        if avx2 && is_x86_feature_detected!("avxvnni") {
            found.push(Isa::AvxVnni);
        }
        if avx2
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
        {
            found.push(Isa::Avx512Vnni);
            if amx::available() {
                found.push(Isa::Amx);
            }
        }
        found
    }

    #[cfg(target_arch = "aarch64")]
    fn available_vectors() -> Vec<Isa> {
        let mut found = vec![Isa::Neon];
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            found.push(Isa::NeonDot);
        }
        if std::arch::is_aarch64_feature_detected!("dotprod")
            && std::arch::is_aarch64_feature_detected!("i8mm")
        {
            found.push(Isa::NeonI8mm);
        }
        found
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn available_vectors() -> Vec<Isa> {
        vec![]
    }

    /// The one in use: the best available, or what the environment variable `STRANDLINE_ISA` names
    /// (`scalar`, `avx2`, `avxvnni`, `avx512vnni`, `amx`, `neon`, `neondot`, `neoni8mm`). A name
    /// that this machine cannot run is reported and ignored.
    pub fn selected() -> Isa {
        static SELECTED: OnceLock<Isa> = OnceLock::new();
        *SELECTED.get_or_init(|| {
            let available = Isa::available();
            let best = available[available.len() - 1];
            match std::env::var("STRANDLINE_ISA") {
                Ok(name) => match available.iter().find(|isa| isa.name() == name) {
                    Some(isa) => *isa,
                    None => {
                        log::warn!("STRANDLINE_ISA={name}: not available here, using {best}");
                        best
                    }
                },
                Err(_) => best,
            }
        })
    }

    /// The name that `STRANDLINE_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::AvxVnni => "avxvnni",
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Amx => "amx",
            Isa::Neon => "neon",
            Isa::NeonDot => "neondot",
            Isa::NeonI8mm => "neoni8mm",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Rows of an activation buffer: `halo` zero rows, `positions` rows of data, `halo` zero rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Rows of zeros at each end.
    pub halo: usize,
    /// Rows of data.
    pub positions: usize,
}

impl Rows {
    /// Bytes or floats of a whole buffer of `channels`.
    pub fn len(self, channels: usize) -> usize {
        (self.positions + 2 * self.halo) * channels
    }

    /// True where there are no positions.
    pub fn is_empty(self) -> bool {
        self.positions == 0
    }

    /// A whole buffer of these rows as the operand of a kernel.
    pub fn view<T>(self, data: &[T], channels: usize) -> View<'_, T> {
        View {
            data,
            first: self.halo * channels,
            pitch: channels,
        }
    }
}

/// Rows in memory: the values of row `r` begin at `first + r · pitch`. Rows before row 0 may be
/// read by a convolution.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, T> {
    /// The buffer.
    pub data: &'a [T],
    /// Where row 0 begins.
    pub first: usize,
    /// From one row to the next.
    pub pitch: usize,
}

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
        let after = (self.width - 1).saturating_sub(self.before);
        self.before.max(after) * self.dilation
    }

    /// Bytes of the packed int8 weights, or the number of packed float weights.
    pub fn packed_len(&self) -> usize {
        self.width * self.channels_in * padded(self.channels_out)
    }

    /// Where the weight of an output channel, tap and input channel lies in the packed int8
    /// weights.
    pub fn packed_at(&self, channel_out: usize, tap: usize, channel_in: usize) -> usize {
        let block = channel_out / LANES * self.width + tap;
        let quad = block * (self.channels_in / 4) + channel_in / 4;
        (quad * LANES + channel_out % LANES) * 4 + channel_in % 4
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

/// What is applied to a value before it is written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// Nothing. Unsigned rows clamp at 0, so for them this is a ReLU.
    None,
    /// Negative values become 0.
    Relu,
    /// Negative values become 0 before the residual is added; nothing after it.
    ReluFirst,
    /// x · Φ(x), then a multiplication by the value given: the inverse of an integer output's
    /// scale.
    Gelu(f32),
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

/// Rows to be written: row `r` begins at `first + r · pitch`.
#[derive(Debug)]
pub struct Target<'a, T> {
    /// The buffer.
    pub data: &'a mut [T],
    /// Where row 0 begins.
    pub first: usize,
    /// From one row to the next.
    pub pitch: usize,
}

impl<'a, T> Target<'a, T> {
    /// Rows without halo.
    pub fn dense(data: &'a mut [T], channels: usize) -> Target<'a, T> {
        Target {
            data,
            first: 0,
            pitch: channels,
        }
    }

    /// A whole buffer of `rows`.
    pub fn rows(data: &'a mut [T], rows: Rows, channels: usize) -> Target<'a, T> {
        Target {
            data,
            first: rows.halo * channels,
            pitch: channels,
        }
    }

    fn fits(&self, positions: usize, channels: usize) -> bool {
        within(self.data.len(), self.first, self.pitch, positions, channels)
    }
}

impl<T> View<'_, T> {
    fn fits(&self, positions: usize, channels: usize) -> bool {
        within(self.data.len(), self.first, self.pitch, positions, channels)
    }
}

/// True where `positions` rows of `channels` lie inside `len` and do not overlap.
fn within(len: usize, first: usize, pitch: usize, positions: usize, channels: usize) -> bool {
    let last = positions.checked_sub(1).map_or(Some(0), |rows| {
        rows.checked_mul(pitch)?.checked_add(channels)
    });
    pitch >= channels
        && last
            .and_then(|last| last.checked_add(first))
            .is_some_and(|end| end <= len)
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
    /// What is applied before writing.
    pub activation: Activation,
}

impl ConvInt8<'_> {
    /// Runs on `isa`, writing `positions` rows of `out`; other rows are left alone.
    ///
    /// # Panics
    /// Where a buffer's length does not fit the shape: the lengths are checked once here so that
    /// the kernels need not.
    pub fn run(&self, isa: Isa, out: &mut Output) {
        let s = &self.shape;
        let (positions, stored) = (self.positions, s.channels_out);
        assert!(s.channels_in > 0 && s.channels_in.is_multiple_of(4) && stored > 0);
        assert!(s.width > 0 && s.before < s.width && s.stride > 0);
        assert!(!self.row_scales || (s.width == 1 && s.stride == 1));
        let back = s.before * s.dilation * self.input.pitch;
        assert!(back <= self.input.first, "halo too small");
        if positions > 0 {
            let rows = (positions - 1) * s.stride + (s.width - 1) * s.dilation + 1;
            let channels = s.channels_in + if self.row_scales { 4 } else { 0 };
            let whole = View {
                first: self.input.first - back,
                ..self.input
            };
            assert!(whole.fits(rows, channels), "halo too small");
        }
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
        match isa {
            // Vector conversions to integers need values below 2^31; a file that asks for more gets
            // the slow way.
            _ if !self.bounded() => scalar::conv_int8(self, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => amx::conv_int8(self, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => x86::conv_int8_vnni(self, out),
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => avx::conv_int8_vnni(self, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx::conv_int8_avx2(self, out),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonI8mm => aarch64::conv_int8_i8mm(self, out),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => aarch64::conv_int8_dot(self, out),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => aarch64::conv_int8_neon(self, out),
            _ => scalar::conv_int8(self, out),
        }
    }

    /// True where a value may still leave the range of i32 after [`ConvInt8::bounded`] has held:
    /// its parts are not known before the run.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn needs_clamp(&self) -> bool {
        self.row_scales
            || matches!(self.residual, Residual::Float(_))
            || matches!(self.activation, Activation::Gelu(_))
    }

    /// True where no value before rounding can leave ±2^30, or be NaN.
    fn bounded(&self) -> bool {
        const MOST: f32 = (1u32 << 30) as f32;
        let sums = (self.shape.width * self.shape.channels_in * 255 * 128) as f32;
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
fn finish_lanes(
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
        Activation::None | Activation::ReluFirst => (),
        Activation::Relu => relu(values),
        Activation::Gelu(gain) => {
            let mut all = [0f32; LANES];
            all[..count].copy_from_slice(values);
            let gelu = activation::Activation::Gelu.lanes(lanes::ScalarLanes, all);
            for (y, gelu) in values.iter_mut().zip(gelu) {
                *y = gelu * gain;
            }
        }
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
    fn row_scale(&self, position: usize) -> Option<f32> {
        if !self.row_scales {
            return None;
        }
        let at = self.input.first + position * self.input.pitch + self.shape.channels_in;
        let bytes = self.input.data.get(at..)?.first_chunk::<4>()?;
        Some(f32::from_le_bytes(*bytes))
    }
}

/// The code of "no base": no channel is 1.
pub const NO_BASE: u8 = 4;

/// Base codes as rows of four channels, 1 at the base's own; "no base" is a row of zeros. `out`
/// holds four bytes a code.
///
/// # Panics
/// Where the lengths differ.
pub fn one_hot(codes: &[u8], out: &mut [u8]) {
    assert_eq!(out.len(), codes.len() * 4);
    for (row, &code) in out.chunks_exact_mut(4).zip(codes) {
        let bits = if code < NO_BASE {
            1u32 << (8 * code)
        } else {
            0
        };
        row.copy_from_slice(&bits.to_le_bytes());
    }
}
