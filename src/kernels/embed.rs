//! Embeddings: a row of a token table plus a row of a position table.
//!
//! A value is `token + position`, rounded once; a value of an int8 table is its step times the
//! scale of its row, rounded once before the addition. fp16 is widened exactly.

use super::lanes::{Kernel, Lanes, dispatch};
use super::{Isa, LANES};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// A table of rows, each as wide as the embedding.
#[derive(Debug, Clone, Copy)]
pub enum Table<'a> {
    /// Signed bytes.
    Int8 {
        /// `rows × width` values.
        values: &'a [i8],
        /// One a row.
        scales: &'a [f32],
    },
    /// Half precision.
    F16(&'a [f16]),
    /// Single precision.
    F32(&'a [f32]),
}

impl Table<'_> {
    /// Rows of `width`.
    ///
    /// # Panics
    /// Where the table is not whole rows, or scales are missing.
    fn rows(&self, width: usize) -> usize {
        let len = match self {
            Table::Int8 { values, scales } => {
                assert_eq!(Some(values.len()), scales.len().checked_mul(width));
                values.len()
            }
            Table::F16(values) => values.len(),
            Table::F32(values) => values.len(),
        };
        assert!(len.is_multiple_of(width));
        len / width
    }

    /// Sixteen values from `at` of row `row`, or those up to the end of the row and zeros.
    #[inline(always)]
    fn group<S: Lanes>(&self, s: S, row: usize, width: usize, at: usize) -> S::F {
        let from = row * width + at;
        let count = LANES.min(width - at);
        match self {
            Table::Int8 { values, scales } => {
                let mut all = [0u8; LANES];
                let values: &[u8] = bytemuck::cast_slice(&values[from..from + count]);
                match values.first_chunk() {
                    Some(sixteen) => all = *sixteen,
                    None => all[..count].copy_from_slice(values),
                }
                s.mul(s.to_float(s.load_bytes(&all)), s.splat(scales[row]))
            }
            Table::F16(values) => {
                let mut all = [0.0; LANES];
                values[from..from + count].convert_to_f32_slice(&mut all[..count]);
                s.load(&all)
            }
            Table::F32(values) => match values[from..from + count].first_chunk() {
                Some(sixteen) => s.load(sixteen),
                None => s.load_part(&values[from..from + count]),
            },
        }
    }
}

/// Why a sequence has no embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// An id that the token table has no row for.
    #[error("token {index} is {id}, but the vocabulary has {vocabulary} tokens")]
    UnknownToken {
        /// Its place in the sequence, from 0.
        index: usize,
        /// The id.
        id: u32,
        /// Rows of the table.
        vocabulary: usize,
    },
    /// More tokens than the position table has rows.
    #[error("{tokens} tokens, but positions for {positions}")]
    TooLong {
        /// Tokens of the sequence.
        tokens: usize,
        /// Rows of the table.
        positions: usize,
    },
}

/// An embedding, ready to run.
#[derive(Debug, Clone, Copy)]
pub struct Embedding<'a> {
    /// Values of a row.
    pub width: usize,
    /// A row for each id.
    pub tokens: Table<'a>,
    /// Row t is added to token t.
    pub positions: Option<Table<'a>>,
}

impl Embedding<'_> {
    /// Writes `[token][width]`; nothing where there is an error.
    ///
    /// # Panics
    /// Where a length does not fit.
    pub fn run(&self, isa: Isa, ids: &[u32], out: &mut [f32]) -> Result<(), EmbedError> {
        assert!(self.width > 0);
        assert_eq!(Some(out.len()), ids.len().checked_mul(self.width));
        let vocabulary = self.tokens.rows(self.width);
        for (index, &id) in ids.iter().enumerate() {
            if id as usize >= vocabulary {
                return Err(EmbedError::UnknownToken {
                    index,
                    id,
                    vocabulary,
                });
            }
        }
        if let Some(table) = &self.positions {
            let positions = table.rows(self.width);
            if ids.len() > positions {
                return Err(EmbedError::TooLong {
                    tokens: ids.len(),
                    positions,
                });
            }
        }
        dispatch(
            isa,
            Embed {
                embedding: *self,
                ids,
                out,
            },
        );
        Ok(())
    }
}

struct Embed<'a> {
    embedding: Embedding<'a>,
    ids: &'a [u32],
    out: &'a mut [f32],
}

impl Kernel for Embed<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let width = self.embedding.width;
        for (t, &id) in self.ids.iter().enumerate() {
            let row = &mut self.out[t * width..][..width];
            for at in (0..width).step_by(LANES) {
                let mut x = self.embedding.tokens.group(s, id as usize, width, at);
                if let Some(positions) = &self.embedding.positions {
                    x = s.add(x, positions.group(s, t, width, at));
                }
                match row[at..].first_chunk_mut() {
                    Some(all) => s.store(x, all),
                    None => s.store_part(x, &mut row[at..]),
                }
            }
        }
    }
}
