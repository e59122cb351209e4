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
//! # Safety
//!
//! An [`Isa`] is made by detection alone, so whoever has one may call every kernel with it. Each
//! public function checks the sizes and lengths that it is given, once, with arithmetic that does
//! not wrap, and panics where they do not fit; the kernels behind it do not look again.
//!
//! # Adding an instruction set
//!
//! It touches two files, or four where it has registers of its own. For AVX10, say:
//!
//! 1. `isa/avx10.rs`, new: a constant `AVX10: Kernels` with the set's name, how it is detected, and
//!    its kernels. What it does not have it takes from another set:
//!
//!    ```text
//!    pub(super) const AVX10: Kernels = Kernels {
//!        name: "avx10",
//!        available: || avx512::available() && is_x86_feature_detected!("avx10.1"),
//!        conv_int8,
//!        ..avx512::AVX512_VNNI
//!    };
//!    ```
//!
//! 2. `isa/mod.rs`: the line `mod avx10;`, and `avx10::AVX10` in the list `ALL`, after those that
//!    it is better than. From here on `STRANDLINE_ISA=avx10` selects it.
//! 3. `lanes/`, only where its registers are wider or better than those there are: in `mod.rs` a
//!    variant of `Registers` and its arm in `dispatch`, in the file of the processor its `Lanes`.
//!    Layer norm, attention, soft-max, GELU and the rest come with it.
//!
//! Working memory of its own is a field of [`Scratch`].
//!
//! Its `conv_int8` is a tile, the sums of P positions by R blocks of 16 output channels in
//! registers, as `avx512::tile` has them. All that it has to know of the shape is where tap 0 of
//! position 0 lies and the steps from position to position and from tap to tap; a block's weights
//! are one stream. Choose P and R so that the sums fill the registers but for R lines of weights
//! and one of activations. Where the multiplication takes unsigned activations, take signed ones
//! with their sign bit flipped (`Scratch::flipped`), or the other way round, and correct by the
//! column sums, as the others do. The epilogue can wait: `finish_lanes` is slow and right.
//!
//! Nothing else needs a change. `tests/kernels` compares every available set with the reference to
//! the bit over random shapes, between guard pages and under the address sanitizer;
//! `tests/golden.rs` compares the scores of the built-in models; `benches/kernels` shows GMAC/s
//! beside the set's peak.

mod activation;
pub mod affine;
pub mod attention;
mod codes;
mod conv;
pub mod dense;
pub mod embed;
pub mod float;
mod isa;
mod lanes;
pub mod math;
pub mod norm;
pub mod peak;
pub mod pool;
mod real;
mod rows;
mod scratch;
pub mod softmax;

pub use activation::Activation;
pub use codes::{BASES, NO_BASE, one_hot};
pub use conv::{ConvInt8, ConvShape, Output, Residual};
pub use isa::Isa;
pub use real::Real;
pub use rows::{Rows, Target, View};
pub use scratch::Scratch;

/// Output channels are computed in blocks of this many; weights, scales and biases are padded to it
/// with zeros.
pub const LANES: usize = 16;

/// Most that the weights of a pair of input channels may add up to, in either sign, where the input
/// is unsigned.
pub const PAIR_LIMIT: i32 = 128;

/// `channels` rounded up to whole blocks of [`LANES`]; the largest whole number of blocks where
/// that cannot be counted.
pub fn padded(channels: usize) -> usize {
    const MOST: usize = usize::MAX / LANES * LANES;
    channels.checked_next_multiple_of(LANES).unwrap_or(MOST)
}
