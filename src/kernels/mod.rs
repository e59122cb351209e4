//! Arithmetic by instruction set, with one scalar reference.
//!
//! **Activations** are rows of channels, `[position][channel]`: seven-bit unsigned (0 to 127, after a ReLU) or signed
//! (-127 to 127), zero point 0 in both cases, so that zero padding is a row of zero bytes. Every buffer has [`Rows::halo`] rows of
//! zeros before position 0 and as many after the last one; a convolution reads them instead of testing for ends.
//!
//! **Weights** of a convolution are int8 in -127 to 127, one scale an output channel, laid out
//! `[tap][channels_in / 4][channels_out rounded up to 16][4]`: one 64-byte line is 16 output channels of 4 inputs, what one
//! `vpdpbusd` takes, two AVX2 registers, four NEON registers for `sdot`. Seven-bit activations keep the pairwise
//! 16-bit sums of `vpmaddubsw` below saturation (2 · 127 · 127 < 32768), so sums are exact everywhere.
//!
//! **Requantisation**, the same on every instruction set to the bit: the exact i32 sum is converted to f32 (ties to even), then
//! `y = fma(sum, scale[c], bias[c])`, with a residual `y = fma(residual, residual_scale, y)`, both single roundings. An integer
//! output has its own scale already divided into `scale`, `bias` and `residual_scale`: `y` is clamped to [0, 127]
//! (unsigned) or [-127, 127] (signed) and rounded ties to even. A float output is `y`, or `max(y, 0)` after a ReLU.
//!
//! To add an instruction set: a variant of [`Isa`], a line in [`Isa::available`], and a function beside
//! [`scalar::conv_int8`] that passes `tests/kernels.rs`.

#[cfg(target_arch = "aarch64")]
mod aarch64;
pub mod float;
pub mod math;
pub mod pool;
pub mod scalar;
pub mod table;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::fmt;
use std::sync::OnceLock;

/// Output channels are computed in blocks of this many; weights, scales and biases are padded to it with zeros.
pub const LANES: usize = 16;

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
    /// x86-64 with AVX-512 F, BW, VL and VNNI: `vpdpbusd`.
    Avx512Vnni,
    /// aarch64 as it always is: `smull`, `smlal2`, `sadalp`.
    Neon,
    /// aarch64 with the dot product extension: `sdot`.
    NeonDot,
}

impl Isa {
    /// Those that this machine can run, best last. Never empty: [`Isa::Scalar`] is always there.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut found = vec![Isa::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            if avx2 {
                found.push(Isa::Avx2);
            }
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                found.push(Isa::Avx512Vnni);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            found.push(Isa::Neon);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                found.push(Isa::NeonDot);
            }
        }
        found
    }

    /// The one in use: the best available, or what the environment variable `STRANDLINE_ISA` names
    /// (`scalar`, `avx2`, `avx512vnni`, `neon`, `neondot`). A name that this machine cannot run is reported and ignored.
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
            Isa::Avx512Vnni => "avx512vnni",
            Isa::Neon => "neon",
            Isa::NeonDot => "neondot",
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
}

/// The shape of a 1-D convolution of stride 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}

impl ConvShape {
    /// Rows that are read before the first and after the last position.
    pub fn reach(&self) -> usize {
        let after = (self.width - 1).saturating_sub(self.before);
        self.before.max(after) * self.dilation
    }

    /// Bytes of the packed int8 weights, or the number of packed float weights.
    pub fn packed_len(&self) -> usize {
        self.width * self.channels_in * padded(self.channels_out)
    }

    /// Row of the input, halo included, that tap 0 of position 0 reads.
    fn first_row(&self, halo: usize) -> usize {
        halo - self.before * self.dilation
    }
}

/// Where an integer convolution writes, and what it does to a sum on the way.
pub enum Output<'a> {
    /// ReLU, then 7 bits: 0 to 127.
    Unsigned(&'a mut [u8]),
    /// 8 bits signed, -127 to 127, as the bytes of i8.
    Signed(&'a mut [u8]),
    /// f32 without halo, `[position][channel]`.
    Float {
        /// `positions × channels_out` values.
        out: &'a mut [f32],
        /// Negative values become 0.
        relu: bool,
    },
}

/// An int8 convolution, ready to run.
pub struct ConvInt8<'a> {
    /// Its shape.
    pub shape: ConvShape,
    /// Rows of input, output and residual.
    pub rows: Rows,
    /// True where the input holds signed bytes.
    pub signed_input: bool,
    /// `rows.len(channels_in)` bytes.
    pub input: &'a [u8],
    /// [`ConvShape::packed_len`] weights.
    pub weights: &'a [i8],
    /// One a padded output channel.
    pub scale: &'a [f32],
    /// One a padded output channel.
    pub bias: &'a [f32],
    /// Unsigned rows of `channels_out` to add, and their scale.
    pub residual: Option<(&'a [u8], f32)>,
}

impl ConvInt8<'_> {
    /// Runs on `isa`, writing positions of `out`; halo rows are left alone.
    ///
    /// # Panics
    /// Where a buffer's length does not fit the shape: the lengths are checked once here so that the kernels need not.
    pub fn run(&self, isa: Isa, out: &mut Output) {
        let s = &self.shape;
        let stored = s.channels_out;
        assert!(s.channels_in > 0 && s.channels_in.is_multiple_of(4));
        assert!(s.width > 0 && s.before < s.width);
        assert!(s.reach() <= self.rows.halo, "halo too small");
        assert_eq!(self.input.len(), self.rows.len(s.channels_in));
        assert_eq!(self.weights.len(), s.packed_len());
        assert_eq!(self.scale.len(), padded(stored));
        assert_eq!(self.bias.len(), padded(stored));
        if let Some((residual, _)) = self.residual {
            assert_eq!(residual.len(), self.rows.len(stored));
        }
        match out {
            Output::Unsigned(o) | Output::Signed(o) => assert_eq!(o.len(), self.rows.len(stored)),
            Output::Float { out, .. } => assert_eq!(out.len(), self.rows.positions * stored),
        }
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => x86::conv_int8_vnni(self, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::conv_int8_avx2(self, out),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => aarch64::conv_int8_dot(self, out),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => aarch64::conv_int8_neon(self, out),
            _ => scalar::conv_int8(self, out),
        }
    }
}

/// Turns 16 accumulators of one position into outputs; shared by every instruction set whose epilogue is not its own.
#[inline(always)]
fn finish_lanes(
    conv: &ConvInt8,
    sums: &[i32; LANES],
    position: usize,
    block: usize,
    out: &mut Output,
) {
    let channels = conv.shape.channels_out;
    let first = block * LANES;
    let count = LANES.min(channels - first);
    let row = (conv.rows.halo + position) * channels + first;
    let mut lanes = [0f32; LANES];
    for (lane, y) in lanes.iter_mut().enumerate().take(count) {
        *y = (sums[lane] as f32).mul_add(conv.scale[first + lane], conv.bias[first + lane]);
    }
    if let Some((residual, scale)) = conv.residual {
        for (y, &r) in lanes.iter_mut().zip(&residual[row..row + count]) {
            *y = f32::from(r).mul_add(scale, *y);
        }
    }
    let lanes = &lanes[..count];
    match out {
        Output::Unsigned(o) => {
            for (o, y) in o[row..row + count].iter_mut().zip(lanes) {
                *o = y.clamp(0.0, 127.0).round_ties_even() as u8;
            }
        }
        Output::Signed(o) => {
            for (o, y) in o[row..row + count].iter_mut().zip(lanes) {
                *o = (y.clamp(-127.0, 127.0).round_ties_even() as i8) as u8;
            }
        }
        Output::Float { out, relu } => {
            let at = position * channels + first;
            for (o, &y) in out[at..at + count].iter_mut().zip(lanes) {
                // Written so that -0 and NaN become +0, as the vector instructions do.
                *o = if !*relu || y > 0.0 { y } else { 0.0 };
            }
        }
    }
}
