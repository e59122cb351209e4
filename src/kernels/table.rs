//! The first convolution of a network that reads bases: one-hot columns make it a sum of table rows, one a tap.
//!
//! Weights are int8, `[tap][code][channels_out rounded up to 16]` with codes A, C, G, T and a fifth row of zeros for "no base".
//! The sums fit 16 bits up to 258 taps (127 · 258 < 32768), and are finished like those of [`super::ConvInt8`].

use super::{ConvInt8, ConvShape, Isa, LANES, Output, Rows, finish_lanes, padded};

/// Rows of the table for one tap: four bases and none.
pub const CODES: usize = 5;

/// Most taps whose sums are certain to fit 16 bits.
pub const MAX_WIDTH: usize = 258;

/// A convolution over base codes.
pub struct ConvCodes<'a> {
    /// Its shape; `channels_in` is 4, dilation any.
    pub shape: ConvShape,
    /// Rows of the output; the codes have no halo.
    pub rows: Rows,
    /// One code (0 to 4) a position; taps beyond the ends read nothing.
    pub codes: &'a [u8],
    /// `width · 5 · padded(channels_out)` weights.
    pub table: &'a [i8],
    /// One a padded output channel.
    pub scale: &'a [f32],
    /// One a padded output channel.
    pub bias: &'a [f32],
}

impl ConvCodes<'_> {
    /// Length of the table of a shape.
    pub fn table_len(shape: &ConvShape) -> usize {
        shape.width * CODES * padded(shape.channels_out)
    }

    /// What the shared epilogue needs: shape, rows, scale and bias.
    pub(super) fn epilogue(&self) -> ConvInt8<'_> {
        ConvInt8 {
            shape: self.shape,
            rows: self.rows,
            signed_input: false,
            input: &[],
            weights: &[],
            scale: self.scale,
            bias: self.bias,
            residual: None,
        }
    }

    /// Runs on `isa`, writing positions of `out`.
    ///
    /// # Panics
    /// Where a length does not fit the shape.
    pub fn run(&self, isa: Isa, out: &mut Output) {
        let lanes = padded(self.shape.channels_out);
        assert!(self.shape.width > 0 && self.shape.width <= MAX_WIDTH);
        assert_eq!(self.codes.len(), self.rows.positions);
        assert_eq!(self.table.len(), Self::table_len(&self.shape));
        assert_eq!(self.scale.len(), lanes);
        assert_eq!(self.bias.len(), lanes);
        match out {
            Output::Unsigned(o) | Output::Signed(o) => {
                assert_eq!(o.len(), self.rows.len(self.shape.channels_out));
            }
            Output::Float { out, .. } => {
                assert_eq!(out.len(), self.rows.positions * self.shape.channels_out);
            }
        }
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => super::x86::conv_codes_vnni(self, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => super::x86::conv_codes_avx2(self, out),
            _ => run_anywhere(self, out),
        }
    }
}

/// The reference.
fn run_anywhere(conv: &ConvCodes, out: &mut Output) {
    let s = &conv.shape;
    let lanes = padded(s.channels_out);
    let view = conv.epilogue();
    let reach_back = (s.before * s.dilation) as isize;
    for position in 0..conv.rows.positions {
        for block in 0..lanes / LANES {
            let mut sums = [0i16; LANES];
            for tap in 0..s.width {
                let at = position as isize - reach_back + (tap * s.dilation) as isize;
                if at < 0 || at >= conv.codes.len() as isize {
                    continue;
                }
                let code = usize::from(conv.codes[at as usize]).min(CODES - 1);
                let start = (tap * CODES + code) * lanes + block * LANES;
                let row = &conv.table[start..start + LANES];
                for (sum, &w) in sums.iter_mut().zip(row) {
                    *sum += i16::from(w);
                }
            }
            let wide = sums.map(i32::from);
            finish_lanes(&view, &wide, position, block, out);
        }
    }
}
