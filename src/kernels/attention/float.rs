//! The f32 kernel: the same walk over heads and tiles, with fused multiply-adds in the order of
//! channels and of tokens.

use super::pack::load_head;
use super::{Attention, AttentionScratch, TILE, grow, key_blocks};
use crate::kernels::LANES;
use crate::kernels::activation::exp;
use crate::kernels::lanes::{Kernel, Lanes};

/// Working memory of this kernel.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[token][width rounded up to 16]`.
    queries: Vec<f32>,
    /// `[token / 16][width][16 tokens]`.
    keys: Vec<[f32; LANES]>,
    /// `[width / 16][token][16 channels]`.
    values: Vec<[f32; LANES]>,
    /// Scores, then probabilities, of a tile.
    scores: Vec<[f32; LANES]>,
}

impl Scratch {
    pub(super) fn bytes(&self) -> usize {
        self.queries.capacity() * size_of::<f32>()
            + (self.keys.capacity() + self.values.capacity() + self.scores.capacity())
                * size_of::<[f32; LANES]>()
    }
}

impl AttentionScratch {
    /// Grows the float part where it is too small.
    pub(super) fn reserve_float(&mut self, tokens: usize, width: usize) {
        let float = &mut self.float;
        let padded = width.next_multiple_of(LANES);
        grow(&mut float.queries, tokens * padded, 0.0);
        let lines = tokens.div_ceil(LANES) * width;
        grow(&mut float.keys, lines, [0.0; LANES]);
        let lines = width.div_ceil(LANES) * tokens;
        grow(&mut float.values, lines, [0.0; LANES]);
        let lines = TILE * key_blocks(tokens);
        grow(&mut float.scores, lines, [0.0; LANES]);
    }
}

pub(super) struct Float<'a> {
    pub attention: &'a Attention<'a>,
    pub scratch: &'a mut AttentionScratch,
    pub out: &'a mut [f32],
}

impl Kernel for Float<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(mut self, s: S) {
        let Attention { tokens, mask, .. } = *self.attention;
        let kept = &mut self.scratch.kept;
        kept.clear();
        for token in 0..tokens {
            if mask.is_none_or(|mask| mask[token] != 0) {
                kept.push(token as u32);
            }
        }
        if kept.is_empty() {
            self.out.fill(0.0);
            return;
        }
        for head in 0..self.attention.heads {
            self.load(s, head);
            if S::WIDE {
                self.tiles::<S, 6, 4>(s, head);
            } else {
                self.tiles::<S, 4, 1>(s, head);
            }
        }
    }
}

impl Float<'_> {
    #[inline(always)]
    fn load<S: Lanes>(&mut self, s: S, head: usize) {
        let attention = self.attention;
        let size = (head, attention.width);
        let padded = attention.width.next_multiple_of(LANES);
        let AttentionScratch {
            float,
            kept,
            head: row,
            ..
        } = &mut *self.scratch;
        for token in 0..attention.tokens {
            let to = &mut float.queries[token * padded..][..padded];
            load_head(s, &attention.q, attention.rotary, size, token, to);
        }
        let row = &mut row[..padded];
        for (i, token) in kept.iter().enumerate() {
            let token = *token as usize;
            load_head(s, &attention.k, attention.rotary, size, token, row);
            let lines = &mut float.keys[i / LANES * attention.width..][..attention.width];
            for (line, x) in lines.iter_mut().zip(&*row) {
                line[i % LANES] = *x;
            }
            load_head(s, &attention.v, None, size, token, row);
            for (block, x) in row.as_chunks::<LANES>().0.iter().enumerate() {
                float.values[block * kept.len() + i] = *x;
            }
        }
    }

    #[inline(always)]
    fn tiles<S: Lanes, const P: usize, const R: usize>(&mut self, s: S, head: usize) {
        let tokens = self.attention.tokens;
        if tokens < P {
            for token in 0..tokens {
                self.tile::<S, 1, R>(s, head, token);
            }
            return;
        }
        let mut start = 0;
        while start < tokens {
            self.tile::<S, P, R>(s, head, start.min(tokens - P));
            start += P;
        }
    }

    #[inline(always)]
    fn tile<S: Lanes, const P: usize, const R: usize>(&mut self, s: S, head: usize, start: usize) {
        let Attention {
            heads,
            width,
            scale,
            ..
        } = *self.attention;
        let Scratch {
            queries,
            keys,
            values,
            scores,
        } = &mut self.scratch.float;
        let kept = self.scratch.kept.len();
        let blocks = kept.div_ceil(LANES);
        let pitch = width.next_multiple_of(LANES);
        let rows = &queries[start * pitch..];
        let mut block = 0;
        while block < blocks {
            let lines = &keys[block * width..];
            let scores = &mut scores[block..];
            if block + R <= blocks {
                let sums = products::<S, P, R>(s, rows, pitch, lines, width, width);
                keep(s, &sums, scores, blocks);
                block += R;
            } else {
                let sums = products::<S, P, 1>(s, rows, pitch, lines, width, width);
                keep(s, &sums, scores, blocks);
                block += 1;
            }
        }
        let mut factors = [0.0; P];
        for p in 0..P {
            let row = &mut scores[p * blocks..][..blocks];
            row.as_flattened_mut()[kept..].fill(f32::NEG_INFINITY);
            let mut largest = s.splat(f32::NEG_INFINITY);
            for x in row.iter() {
                largest = s.max(largest, s.load(x));
            }
            let largest = s.splat(s.max_lane(largest));
            let mut sum = s.splat(0.0);
            for x in row.iter_mut() {
                let distance = s.mul(s.sub(s.load(x), largest), s.splat(scale));
                let e = exp(s, distance);
                s.store(e, x);
                sum = s.add(sum, e);
            }
            // A key that does not exist has e^-87, which is nothing beside the largest one's 1; its
            // value is not read.
            factors[p] = 1.0 / s.sum(sum);
        }
        let rows = scores.as_flattened();
        let pitch = blocks * LANES;
        let mut block = 0;
        while block < width.div_ceil(LANES) {
            let lines = &values[block * kept..];
            let first = (start * heads + head) * width + block * LANES;
            let left = width - block * LANES;
            let out = &mut self.out[first..];
            if left > (R - 1) * LANES {
                let sums = products::<S, P, R>(s, rows, pitch, lines, kept, kept);
                write(s, &sums, &factors, out, heads * width, left);
                block += R;
            } else {
                let sums = products::<S, P, 1>(s, rows, pitch, lines, kept, kept);
                write(s, &sums, &factors, out, heads * width, left);
                block += 1;
            }
        }
    }
}

/// Sums over `len` of P rows times R blocks of lines.
#[inline(always)]
fn products<S: Lanes, const P: usize, const R: usize>(
    s: S,
    rows: &[f32],
    pitch: usize,
    lines: &[[f32; LANES]],
    stride: usize,
    len: usize,
) -> [[S::F; R]; P] {
    let mut sums = [[s.splat(0.0); R]; P];
    let mut x: [&[f32]; P] = [&[]; P];
    for (p, x) in x.iter_mut().enumerate() {
        *x = &rows[p * pitch..][..len];
    }
    let mut blocks: [&[[f32; LANES]]; R] = [&[]; R];
    for (r, block) in blocks.iter_mut().enumerate() {
        *block = &lines[r * stride..][..len];
    }
    for i in 0..len {
        let mut line = [s.load(&blocks[0][i]); R];
        for r in 1..R {
            line[r] = s.load(&blocks[r][i]);
        }
        for p in 0..P {
            let x = s.splat(x[p][i]);
            for r in 0..R {
                sums[p][r] = s.fma(x, line[r], sums[p][r]);
            }
        }
    }
    sums
}

#[inline(always)]
fn keep<S: Lanes, const P: usize, const R: usize>(
    s: S,
    sums: &[[S::F; R]; P],
    scores: &mut [[f32; LANES]],
    pitch: usize,
) {
    for p in 0..P {
        for r in 0..R {
            s.store(sums[p][r], &mut scores[p * pitch + r]);
        }
    }
}

#[inline(always)]
fn write<S: Lanes, const P: usize, const R: usize>(
    s: S,
    sums: &[[S::F; R]; P],
    factors: &[f32; P],
    out: &mut [f32],
    pitch: usize,
    left: usize,
) {
    for p in 0..P {
        for r in 0..R {
            let y = s.mul(sums[p][r], s.splat(factors[p]));
            let count = LANES.min(left - r * LANES);
            let to = &mut out[p * pitch + r * LANES..][..count];
            match to.first_chunk_mut() {
                Some(all) => s.store(y, all),
                None => s.store_part(y, to),
            }
        }
    }
}
