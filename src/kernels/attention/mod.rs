//! Multi-head attention over one sequence: scores, soft-max and the weighted sum of values in one
//! pass, without transposed tensors and without a matrix of scores in memory.
//!
//! # In int8, to the bit
//!
//! Per head, with queries q, keys k and values v as integers of -127 to 127 and their scales:
//! 1. `s[i][j] = Σ q[i] · k[j]`, exact.
//! 2. `c[i] = min(((q_scale[i] · k_scale) · scale) · (log2 e · 2048), 2^27 / (127² · width))`,
//!    `m[i] = max s[i]`, and with `b[i] = fma(m[i], c[i], 1032)` the distance from the largest
//!    score `x[i][j] = fma(s[i][j], -c[i], b[i])`, to an integer (ties to even), saturated to 16
//!    bits: in 2048ths of an octave, from half an octave on. The 8 are for the rounding of b, so
//!    that the nearest is never below 1024; the bound of c, which scores of 45,000 would have to
//!    pass, keeps it to that.
//! 3. `p[i][j]`, 0 to 127: 127 times 2 to the distance, in integers of 16 bits with a quadratic
//!    polynomial, within 0.5 + 0.2 % of it; the formula stands at `lanes::power`. Beyond eight
//!    octaves it is 0.
//! 4. `o[i] = Σ p[i][j] · v[j]` and `d[i] = Σ p[i][j]`, exact; the output is `o[i] · ((v_scale · (1
//!    / out_scale)) / d[i])`, without `out_scale` for f32 and dynamic rows.
//!
//! Masked keys are left out; where all are masked the output is 0. Queries are computed whether
//! masked or not.
//!
//! One scale each for keys and values of a head is what makes step 1 and step 4 integer sums. Where
//! they do not come that way (a scale a token, f32, or after a rotation), they are brought to the
//! scale `max / 127` of all tokens of that head; queries keep one scale a token. The error is at
//! most half a step of that scale a value.
//!
//! # Rotary positions
//!
//! The first half of a head is rotated against the second ("NeoX" style): `x' = fma(-y, sin, x ·
//! cos)`, `y' = fma(x, sin, y · cos)`.
//!
//! # Layout
//!
//! In int8, queries are packed as `[token / 16][width / 4][16 tokens][4]` and lie in the lanes:
//! sums, largest scores and soft-max of 16 or 32 queries go down their columns, without reductions.
//! Keys stay rows, of which four bytes at a time are broadcast. The probabilities of four keys are
//! a line again, `[16 queries][4 keys]`, what one `vpdpbusd` takes, against four broadcast bytes of
//! the values, which are packed as `[width / 16][key / 4][16 channels][4 keys]`. Outputs come
//! channel by channel and are put into rows at the end.
//!
//! In f32, keys are packed `[token / 16][width][16 tokens]` and values `[width / 16][token][16
//! channels]`; some tokens (6 or 4) are computed at a time, so that each line is read once for
//! them; a tile at the end of the sequence is moved back to overlap its predecessor.

mod float;
mod int8;
mod pack;
mod rotate;

use super::lanes::{Aligned, LINE, dispatch};
use super::norm::{Int8Rows, SCALE_BYTES};
use super::{Isa, LANES, Scratch};

/// Tokens of a tile of the f32 kernel at most.
const TILE: usize = 6;

/// Blocks of 16 queries in a tile of the int8 kernel at most.
const BLOCKS: usize = 2;

/// Tokens of a sequence at most, so that every integer sum is exact in 32 bits and every sum of
/// probabilities in f32.
pub const MAX_TOKENS: usize = 1 << 16;

/// Width of a head at most.
pub const MAX_WIDTH: usize = 1 << 12;

/// Where queries, keys or values are: token t in row t, the heads side by side from `offset`.
#[derive(Debug, Clone, Copy)]
pub enum Projection<'a> {
    /// Signed bytes, one scale.
    Static {
        /// Rows of `pitch` bytes.
        bytes: &'a [u8],
        /// Bytes from row to row.
        pitch: usize,
        /// First byte of head 0.
        offset: usize,
        /// The value of one step.
        scale: f32,
    },
    /// Signed bytes, each row ending in its scale as four bytes, little-endian.
    Dynamic {
        /// Rows of `pitch` bytes.
        bytes: &'a [u8],
        /// Bytes from row to row, the scale included.
        pitch: usize,
        /// First byte of head 0.
        offset: usize,
    },
    /// Floats.
    Float {
        /// Rows of `pitch` values.
        values: &'a [f32],
        /// Values from row to row.
        pitch: usize,
        /// First value of head 0.
        offset: usize,
    },
}

impl Projection<'_> {
    fn check(&self, tokens: usize, channels: usize) {
        let (len, pitch, offset, scale) = match *self {
            Projection::Static {
                bytes,
                pitch,
                offset,
                ..
            } => (bytes.len(), pitch, offset, 0),
            Projection::Dynamic {
                bytes,
                pitch,
                offset,
            } => (bytes.len(), pitch, offset, SCALE_BYTES),
            Projection::Float {
                values,
                pitch,
                offset,
            } => (values.len(), pitch, offset, 0),
        };
        let end = offset
            .checked_add(channels)
            .and_then(|end| end.checked_add(scale));
        let fits = end.is_some_and(|end| end <= pitch);
        assert!(fits, "the heads must fit their row");
        let rows = tokens.checked_mul(pitch);
        assert!(rows.is_some_and(|rows| rows <= len), "too few rows");
    }
}

/// Tables of a rotary embedding, `[token][width / 2]` each.
#[derive(Debug, Clone, Copy)]
pub struct Rotary<'a> {
    /// Cosines.
    pub cos: &'a [f32],
    /// Sines.
    pub sin: &'a [f32],
}

/// Where the result goes, `[token][heads × width]`.
#[derive(Debug)]
pub enum Output<'a> {
    /// f32.
    Float(&'a mut [f32]),
    /// Signed bytes.
    Int8(Int8Rows<'a>),
}

/// Attention over one sequence, ready to run.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Tokens of the sequence.
    pub tokens: usize,
    /// Tokens from the first on whose outputs are wanted; others mean nothing.
    pub queries: usize,
    /// Heads.
    pub heads: usize,
    /// Channels of a head; even where there is a rotary embedding.
    pub width: usize,
    /// Queries.
    pub q: Projection<'a>,
    /// Keys.
    pub k: Projection<'a>,
    /// Values.
    pub v: Projection<'a>,
    /// What scores are multiplied by before the soft-max, usually `1 / √width`; positive.
    pub scale: f32,
    /// One byte a token, 0 where its key is to be left out.
    pub mask: Option<&'a [u8]>,
    /// Applied to queries and keys.
    pub rotary: Option<Rotary<'a>>,
}

impl Attention<'_> {
    /// Runs in int8 on `isa`, the same on each to the bit. Scales and floats must be finite, scales
    /// below 1e10.
    ///
    /// # Panics
    /// Where a length does not fit, or a size exceeds [`MAX_TOKENS`] or [`MAX_WIDTH`].
    pub fn run_int8(&self, isa: Isa, scratch: &mut Scratch, out: Output) {
        self.check(&out);
        let scratch = &mut scratch.attention;
        scratch.reserve(self.tokens, self.width);
        if matches!(out, Output::Int8(Int8Rows::Dynamic { .. })) {
            scratch
                .rows
                .resize(self.tokens * self.heads * self.width, 0.0);
        }
        dispatch(
            isa,
            int8::Int8 {
                attention: self,
                scratch,
                out,
            },
        );
    }

    /// Runs in f32, whatever the projections are: for networks of f32 or fp16.
    ///
    /// # Panics
    /// As [`Attention::run_int8`].
    pub fn run_float(&self, isa: Isa, scratch: &mut Scratch, out: &mut [f32]) {
        self.check(&Output::Float(out));
        let scratch = &mut scratch.attention;
        scratch.reserve(self.tokens, self.width);
        scratch.reserve_float(self.tokens, self.width);
        dispatch(
            isa,
            float::Float {
                attention: self,
                scratch,
                out,
            },
        );
    }

    fn check(&self, out: &Output) {
        let tokens = self.tokens;
        assert!(tokens <= MAX_TOKENS, "more than {MAX_TOKENS} tokens");
        assert!(self.queries <= tokens, "more queries than tokens");
        assert!(self.heads > 0 && (1..=MAX_WIDTH).contains(&self.width));
        let Some(channels) = self.heads.checked_mul(self.width) else {
            panic!("more channels than can be counted");
        };
        assert!(self.scale > 0.0);
        for projection in [self.q, self.k, self.v] {
            projection.check(tokens, channels);
        }
        if let Some(mask) = self.mask {
            assert_eq!(mask.len(), tokens);
        }
        if let Some(rotary) = self.rotary {
            assert!(self.width.is_multiple_of(2));
            assert!(rotary.cos.len() >= tokens * self.width / 2);
            assert!(rotary.sin.len() >= tokens * self.width / 2);
        }
        match out {
            Output::Float(out) => assert_eq!(Some(out.len()), tokens.checked_mul(channels)),
            Output::Int8(bytes) => bytes.check(tokens, channels),
        }
    }
}

/// Working memory of [`Attention`].
#[derive(Debug, Default)]
pub(super) struct AttentionScratch {
    /// It is large enough for a sequence of so many tokens and heads of such a width.
    tokens: usize,
    width: usize,
    /// Tokens whose keys count.
    kept: Vec<u32>,
    /// Lines of a head's queries.
    queries: Vec<Aligned<[u8; LINE]>>,
    query_scales: Vec<[f32; LANES]>,
    /// First accumulators, one a query.
    starts: Vec<[i32; LANES]>,
    /// A head's keys, `[key][width / 4, rounded up][4]`.
    keys: Vec<[u8; 4]>,
    /// Lines of a head's values.
    values: Vec<Aligned<[u8; LINE]>>,
    /// One head of one projection, `[token][width rounded up to 16]`.
    head: Vec<f32>,
    /// The same in bytes.
    head_bytes: Vec<u8>,
    /// Tables of the rotary embedding, for heads that [`rotate`] packs.
    turns: Vec<rotate::Turns>,
    /// Scores of a tile, `[key][block][16 queries]`.
    scores: Vec<Aligned<[i32; LANES]>>,
    /// Probabilities of a tile, `[key / 4][block][16 queries][4 keys]`.
    probabilities: Vec<Aligned<[u8; LINE]>>,
    /// Output before a dynamic quantisation.
    rows: Vec<f32>,
    /// Queries, keys, values and probabilities of the float kernel.
    float: float::Scratch,
}

impl AttentionScratch {
    /// Grows where it is too small for a sequence of `tokens` and heads of `width`, but for what
    /// only the f32 kernel and dynamic rows need.
    pub(super) fn reserve(&mut self, tokens: usize, width: usize) {
        if tokens <= self.tokens && width <= self.width {
            return;
        }
        assert!(tokens <= MAX_TOKENS && width <= MAX_WIDTH);
        let need = Lengths::new(tokens, width);
        self.kept.clear();
        self.kept.reserve_exact(need.kept);
        grow(&mut self.queries, need.queries, Aligned([0; LINE]));
        grow(&mut self.query_scales, need.blocks, [0.0; LANES]);
        grow(&mut self.starts, need.blocks, [0; LANES]);
        grow(&mut self.keys, need.keys, [0; 4]);
        grow(&mut self.values, need.values, Aligned([0; LINE]));
        grow(&mut self.head, need.head, 0.0);
        grow(&mut self.head_bytes, need.head, 0);
        grow(&mut self.turns, need.turns, Default::default());
        grow(&mut self.scores, need.scores, Aligned([0; LANES]));
        let lines = need.probabilities;
        grow(&mut self.probabilities, lines, Aligned([0; LINE]));
        (self.tokens, self.width) = (tokens, width);
    }

    /// Bytes that a new one holds after [`AttentionScratch::reserve`].
    pub(super) fn bytes_for(tokens: usize, width: usize) -> usize {
        let need = Lengths::new(tokens, width);
        let lines = need.queries + need.values + need.scores + need.probabilities;
        need.kept * size_of::<u32>()
            + lines * LINE
            + need.blocks * (size_of::<[f32; LANES]>() + size_of::<[i32; LANES]>())
            + need.keys * size_of::<[u8; 4]>()
            + need.head * (size_of::<f32>() + size_of::<u8>())
            + need.turns * size_of::<rotate::Turns>()
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.kept.capacity() * size_of::<u32>()
            + size_of_val(&self.queries[..])
            + size_of_val(&self.query_scales[..])
            + size_of_val(&self.keys[..])
            + size_of_val(&self.starts[..])
            + size_of_val(&self.values[..])
            + size_of_val(&self.head[..])
            + self.head_bytes.len()
            + size_of_val(&self.turns[..])
            + size_of_val(&self.scores[..])
            + size_of_val(&self.probabilities[..])
            + self.rows.capacity() * size_of::<f32>()
            + self.float.bytes()
    }
}

/// Elements of the parts of an [`AttentionScratch`].
struct Lengths {
    kept: usize,
    queries: usize,
    /// Of the scales and first accumulators of queries.
    blocks: usize,
    keys: usize,
    values: usize,
    /// Of a head's floats, and of its bytes.
    head: usize,
    turns: usize,
    scores: usize,
    probabilities: usize,
}

impl Lengths {
    /// For a sequence of `tokens` and heads of `width`.
    fn new(tokens: usize, width: usize) -> Lengths {
        let (blocks, quads) = (tokens.div_ceil(LANES), width.div_ceil(4));
        // Whole blocks of tokens, where these are lanes.
        let (turns, rows) = match width {
            rotate::EIGHT => (blocks, tokens.max(blocks * LANES / 2)),
            _ => (0, tokens),
        };
        Lengths {
            turns,
            kept: tokens,
            queries: blocks * quads,
            blocks,
            keys: tokens * quads,
            values: tokens.div_ceil(4) * width.div_ceil(LANES),
            head: rows * width.next_multiple_of(LANES),
            scores: tokens * BLOCKS,
            probabilities: tokens.div_ceil(4) * BLOCKS,
        }
    }
}

/// Makes room for `len` elements, and no more.
fn grow<T: Clone>(elements: &mut Vec<T>, len: usize, zero: T) {
    if elements.len() < len {
        elements.reserve_exact(len - elements.len());
        elements.resize(len, zero);
    }
}

/// Blocks of 16 keys, in whole groups of four: a line of probabilities.
fn key_blocks(tokens: usize) -> usize {
    tokens.div_ceil(LINE) * 4
}
