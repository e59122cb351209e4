//! The int8 kernel; see the module above for what it computes.

use super::{Attention, AttentionScratch, Output, pack};
use crate::kernels::LANES;
use crate::kernels::lanes::{Aligned, Kernel, LINE, Lanes};
use crate::kernels::norm::{self, Int8Rows};
use std::f32::consts::LOG2_E;

/// 2^23: one in the exponent of a float's bits.
const ONE_EXPONENT: f32 = 8_388_608.0;
/// 127 · 2^(x-1) / x on [1, 2), from the highest power down.
const EXP2: [f32; 4] = [-13.518_872, 89.850_92, -174.920_68, 225.505_34];

pub(super) struct Int8<'a> {
    pub attention: &'a Attention<'a>,
    pub scratch: &'a mut AttentionScratch,
    pub out: Output<'a>,
}

impl Kernel for Int8<'_> {
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
            match self.out {
                Output::Float(out) => out.fill(0.0),
                // Zeros are a scale of 0 as well.
                Output::Int8(Int8Rows::Static { bytes, .. } | Int8Rows::Dynamic { bytes }) => {
                    bytes.fill(0);
                }
            }
            return;
        }
        for head in 0..self.attention.heads {
            self.head(s, head);
        }
        if let Output::Int8(bytes @ Int8Rows::Dynamic { .. }) = &mut self.out {
            let channels = self.attention.heads * self.attention.width;
            let rows = &self.scratch.rows[..tokens * channels];
            norm::quantise_rows(s, rows, channels, bytes);
        }
    }
}

/// What a tile needs to know of its head.
#[derive(Clone, Copy)]
struct Head {
    head: usize,
    k_scale: f32,
    v_scale: f32,
}

impl Int8<'_> {
    #[inline(always)]
    fn head<S: Lanes>(&mut self, s: S, head: usize) {
        pack::queries(s, self.attention, head, self.scratch);
        let head = Head {
            head,
            k_scale: pack::keys(s, self.attention, head, self.scratch),
            v_scale: pack::values(s, self.attention, head, self.scratch),
        };
        if S::WIDE {
            self.tiles::<S, 6, 4>(s, head);
        } else {
            self.tiles::<S, 4, 1>(s, head);
        }
    }

    #[inline(always)]
    fn tiles<S: Lanes, const P: usize, const R: usize>(&mut self, s: S, head: Head) {
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

    /// Tokens `start` to `start + P`.
    #[inline(always)]
    fn tile<S: Lanes, const P: usize, const R: usize>(&mut self, s: S, head: Head, start: usize) {
        let largest = self.scores::<S, P, R>(s, start);
        let sums = self.probabilities::<S, P>(s, head, start, largest);
        self.output::<S, P, R>(s, head, start, sums);
    }

    /// Scores of a tile, and the largest of each row.
    #[inline(always)]
    fn scores<S: Lanes, const P: usize, const R: usize>(&mut self, s: S, start: usize) -> [i32; P] {
        let blocks = self.scratch.kept.len().div_ceil(LANES);
        let row = row_blocks(self.scratch.kept.len());
        let mut largest = [s.splat_i(i32::MIN); P];
        let mut block = 0;
        while block + R <= blocks {
            self.score_blocks::<S, P, R>(s, start, block, row, &mut largest);
            block += R;
        }
        while block + 2 <= blocks {
            self.score_blocks::<S, P, 2>(s, start, block, row, &mut largest);
            block += 2;
        }
        if block < blocks {
            self.score_blocks::<S, P, 1>(s, start, block, row, &mut largest);
        }
        let mut all = [0; P];
        for (all, largest) in all.iter_mut().zip(largest) {
            *all = s.max_lane_i(largest);
        }
        all
    }

    #[inline(always)]
    fn score_blocks<S: Lanes, const P: usize, const R: usize>(
        &mut self,
        s: S,
        start: usize,
        block: usize,
        row: usize,
        largest: &mut [S::I; P],
    ) {
        let scratch = &mut *self.scratch;
        let quads = self.attention.width.div_ceil(4);
        let pitch = quads * 4;
        let mut first = [s.splat_i(0); R];
        for (first, start) in first.iter_mut().zip(&scratch.starts[block..block + R]) {
            *first = s.load_i(start);
        }
        let rows = &scratch.queries[start * pitch..];
        let lines = &scratch.keys[block * quads..];
        let sums = dots::<S, P, R, true>(s, first, rows, pitch, lines, quads, quads);
        for p in 0..P {
            let scores = &mut scratch.scores[p * row + block..][..R];
            for r in 0..R {
                s.store_i(sums[p][r], &mut scores[r].0);
                largest[p] = s.max_i(largest[p], sums[p][r]);
            }
        }
    }

    /// Probabilities of a tile, and their sums.
    #[inline(always)]
    fn probabilities<S: Lanes, const P: usize>(
        &mut self,
        s: S,
        head: Head,
        start: usize,
        largest: [i32; P],
    ) -> [f32; P] {
        let scratch = &mut *self.scratch;
        let kept = scratch.kept.len();
        let row = row_blocks(kept);
        let mut last = [[-1; LANES]; 4];
        let filled = kept - (row / 4 - 1) * LINE;
        last.as_flattened_mut()[filled..].fill(0);
        let mut sums = [s.splat_i(0); P];
        for p in 0..P {
            let q_scale = scratch.query_scales[start + p];
            let factor = q_scale * head.k_scale * self.attention.scale * (LOG2_E * ONE_EXPONENT);
            let base = (-(largest[p] as f32)).mul_add(factor, 127.0 * ONE_EXPONENT);
            let (factor, base) = (s.splat(factor), s.splat(base));
            let scores = &scratch.scores[p * row..][..row].as_chunks::<4>().0;
            let lines = &mut scratch.probabilities[p * row / 4..][..row / 4];
            let mut sum = s.splat_i(0);
            let end = lines.len() - 1;
            for (scores, line) in scores[..end].iter().zip(&mut lines[..end]) {
                let mut four = [s.splat_i(0); 4];
                for (x, scores) in four.iter_mut().zip(scores) {
                    *x = probability(s, s.load_i(&scores.0), factor, base);
                }
                s.store_line(four, line);
                sum = s.add_i(sum, total(s, four));
            }
            let mut four = [s.splat_i(0); 4];
            for ((x, scores), last) in four.iter_mut().zip(&scores[end]).zip(&last) {
                let any = probability(s, s.load_i(&scores.0), factor, base);
                *x = s.and_i(any, s.load_i(last));
            }
            s.store_line(four, &mut lines[end]);
            sums[p] = s.add_i(sum, total(s, four));
        }
        // Apart from the loop above, so that the reductions of several rows overlap.
        let mut all = [0.0; P];
        for (all, sum) in all.iter_mut().zip(sums) {
            *all = s.sum_i(sum) as f32;
        }
        all
    }

    #[inline(always)]
    fn output<S: Lanes, const P: usize, const R: usize>(
        &mut self,
        s: S,
        head: Head,
        start: usize,
        sums: [f32; P],
    ) {
        let factor = match self.out {
            Output::Int8(Int8Rows::Static { scale, .. }) => head.v_scale * (1.0 / scale),
            _ => head.v_scale,
        };
        let mut factors = [0.0; P];
        for (to, sum) in factors.iter_mut().zip(sums) {
            *to = factor / sum;
        }
        let blocks = self.attention.width.div_ceil(LANES);
        let mut block = 0;
        while block + R <= blocks {
            self.output_blocks::<S, P, R>(s, head.head, start, block, &factors);
            block += R;
        }
        while block + 2 <= blocks {
            self.output_blocks::<S, P, 2>(s, head.head, start, block, &factors);
            block += 2;
        }
        if block < blocks {
            self.output_blocks::<S, P, 1>(s, head.head, start, block, &factors);
        }
    }

    #[inline(always)]
    fn output_blocks<S: Lanes, const P: usize, const R: usize>(
        &mut self,
        s: S,
        head: usize,
        start: usize,
        block: usize,
        factors: &[f32; P],
    ) {
        let Attention { heads, width, .. } = *self.attention;
        let scratch = &mut *self.scratch;
        let kept = scratch.kept.len();
        let quads = kept.div_ceil(LANES) * 4;
        let pitch = row_blocks(kept) * LANES;
        let rows = scratch.probabilities.as_flattened();
        let lines = &scratch.values[block * quads..];
        let first = [s.splat_i(0); R];
        let sums = dots::<S, P, R, false>(s, first, rows, pitch, lines, quads, quads);
        for (p, sums) in sums.into_iter().enumerate() {
            let factor = s.splat(factors[p]);
            for (r, sum) in sums.into_iter().enumerate() {
                let y = s.mul(s.to_float(sum), factor);
                let channel = (block + r) * LANES;
                let at = ((start + p) * heads + head) * width + channel;
                let count = LANES.min(width - channel);
                match &mut self.out {
                    Output::Float(out) => store(s, y, &mut out[at..at + count]),
                    Output::Int8(Int8Rows::Dynamic { .. }) => {
                        store(s, y, &mut scratch.rows[at..at + count]);
                    }
                    Output::Int8(Int8Rows::Static { bytes, .. }) => {
                        let to = &mut bytes[at..at + count];
                        let y = s.to_signed_byte(y);
                        match to.first_chunk_mut() {
                            Some(all) => s.store_bytes(y, all),
                            None => {
                                let mut all = [0; LANES];
                                s.store_bytes(y, &mut all);
                                match to.first_chunk_mut::<8>() {
                                    // Heads of eight are common, and a copy of known length is not a call.
                                    Some(eight) if count == 8 => eight.copy_from_slice(&all[..8]),
                                    _ => to.copy_from_slice(&all[..count]),
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Blocks of 16 keys in a row of scores, in whole lines of probabilities.
#[inline(always)]
fn row_blocks(kept: usize) -> usize {
    super::key_blocks(kept)
}

#[inline(always)]
fn store<S: Lanes>(s: S, y: S::F, to: &mut [f32]) {
    match to.first_chunk_mut() {
        Some(all) => s.store(y, all),
        None => s.store_part(y, to),
    }
}

/// 127 times e to the scaled distance from the largest score, in integers.
#[inline(always)]
fn probability<S: Lanes>(s: S, score: S::I, factor: S::F, base: S::F) -> S::I {
    let t = s.fma(s.to_float(score), factor, base);
    let bits = s.to_int(s.max(t, s.splat(97.0 * ONE_EXPONENT)));
    let linear = s.float_of_bits(bits);
    let fraction = s.and_i(bits, s.splat_i(0x007f_ffff));
    let x = s.float_of_bits(s.or_i(fraction, s.splat_i(0x3f80_0000)));
    let mut g = s.splat(EXP2[0]);
    for c in &EXP2[1..] {
        g = s.fma(g, x, s.splat(*c));
    }
    s.to_int(s.mul(linear, g))
}

#[inline(always)]
fn total<S: Lanes>(s: S, four: [S::I; 4]) -> S::I {
    s.add_i(s.add_i(four[0], four[1]), s.add_i(four[2], four[3]))
}

/// `first[r]` plus, for each of P rows of `4 · quads` bytes and R blocks of `quads` lines, the sums of products.
#[inline(always)]
fn dots<S: Lanes, const P: usize, const R: usize, const SIGNED: bool>(
    s: S,
    first: [S::I; R],
    rows: &[u8],
    pitch: usize,
    lines: &[Aligned<[u8; LINE]>],
    stride: usize,
    quads: usize,
) -> [[S::I; R]; P] {
    let mut sums = [first; P];
    let mut bytes: [&[[u8; 4]]; P] = [&[]; P];
    for (p, bytes) in bytes.iter_mut().enumerate() {
        *bytes = &rows[p * pitch..][..quads * 4].as_chunks::<4>().0[..quads];
    }
    let mut blocks: [&[Aligned<[u8; LINE]>]; R] = [&[]; R];
    for (r, block) in blocks.iter_mut().enumerate() {
        *block = &lines[r * stride..][..quads];
    }
    for quad in 0..quads {
        let mut line = [s.line(&blocks[0][quad].0); R];
        for r in 1..R {
            line[r] = s.line(&blocks[r][quad].0);
        }
        for p in 0..P {
            let four = bytes[p][quad];
            for r in 0..R {
                sums[p][r] = if SIGNED {
                    s.dot_signed(sums[p][r], four, line[r])
                } else {
                    s.dot(sums[p][r], four, line[r])
                };
            }
        }
    }
    sums
}
