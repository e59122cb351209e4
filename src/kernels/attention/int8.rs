//! The int8 kernel; see the module above for what it computes.
//!
//! Lanes are queries. Scores, probabilities and outputs of sixteen queries are columns, so that the
//! largest score, the sum of the probabilities and the division by it need no reduction within a
//! register.

use super::{Attention, AttentionScratch, Output, pack, rotate};
use crate::kernels::LANES;
use crate::kernels::lanes::{Aligned, Kernel, LINE, Lanes};
use crate::kernels::norm::{self, Int8Rows};
use std::f32::consts::LOG2_E;

/// Steps of a distance to the power of two.
const OCTAVE: f32 = 2048.0;
/// Distance of the largest score: half an octave, as [`Lanes::powers`] has it, and as much as
/// rounding may take away.
const NEAREST: f32 = OCTAVE / 2.0 + 8.0;
/// Distances of scores at most, so that they are off by less than what [`NEAREST`] has for it.
const FARTHEST: f32 = (1 << 27) as f32;
/// Further than any key has weight.
const NOWHERE: i32 = i16::MAX as i32;

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
        if let Some(rotary) = self
            .attention
            .rotary
            .filter(|_| rotate::serves::<S>(self.attention))
        {
            rotate::turns(rotary, tokens, self.scratch);
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
        let by_lane = rotate::serves::<S>(self.attention);
        if by_lane {
            rotate::queries(s, self.attention, head, self.scratch);
        }
        pack::queries(s, self.attention, head, self.scratch, by_lane);
        let head = Head {
            head,
            k_scale: if by_lane {
                rotate::keys(s, self.attention, head, self.scratch)
            } else {
                pack::keys(s, self.attention, head, self.scratch)
            },
            v_scale: pack::values(s, self.attention, head, self.scratch),
        };
        let blocks = self.attention.queries.div_ceil(LANES);
        let mut block = 0;
        if S::WIDE {
            while block + 2 <= blocks {
                self.tile::<S, 12, 2>(s, head, block);
                block += 2;
            }
            if block < blocks {
                self.tile::<S, 12, 1>(s, head, block);
            }
        } else {
            while block < blocks {
                self.tile::<S, 4, 1>(s, head, block);
                block += 1;
            }
        }
    }

    /// R blocks of 16 queries, by P keys at a time.
    #[inline(always)]
    fn tile<S: Lanes, const P: usize, const R: usize>(&mut self, s: S, head: Head, block: usize) {
        let largest = self.scores::<S, P, R>(s, block);
        let sums = self.probabilities::<S, R>(s, head, block, largest);
        if S::WIDE {
            self.output::<S, 8, R>(s, head, block, sums);
        } else {
            self.output::<S, 4, R>(s, head, block, sums);
        }
    }

    /// Scores of a tile, and the largest of each query.
    #[inline(always)]
    fn scores<S: Lanes, const P: usize, const R: usize>(
        &mut self,
        s: S,
        block: usize,
    ) -> [S::I; R] {
        // Known lengths make addresses constants and short loops straight.
        match self.attention.width {
            8 => self.scores_of::<S, P, R, 2>(s, block),
            64 => self.scores_of::<S, P, R, 16>(s, block),
            _ => self.scores_of::<S, P, R, 0>(s, block),
        }
    }

    /// The same for heads of QUADS · 4 channels, or, by 0, any.
    #[inline(always)]
    fn scores_of<S: Lanes, const P: usize, const R: usize, const QUADS: usize>(
        &mut self,
        s: S,
        block: usize,
    ) -> [S::I; R] {
        let kept = self.scratch.kept.len();
        let mut largest = [s.splat_i(i32::MIN); R];
        let mut key = 0;
        while key + P <= kept {
            self.score_keys::<S, P, R, QUADS>(s, block, key, &mut largest);
            key += P;
        }
        if P > 4 {
            while key + 4 <= kept {
                self.score_keys::<S, 4, R, QUADS>(s, block, key, &mut largest);
                key += 4;
            }
        }
        while key < kept {
            self.score_keys::<S, 1, R, QUADS>(s, block, key, &mut largest);
            key += 1;
        }
        largest
    }

    #[inline(always)]
    fn score_keys<S: Lanes, const P: usize, const R: usize, const QUADS: usize>(
        &mut self,
        s: S,
        block: usize,
        key: usize,
        largest: &mut [S::I; R],
    ) {
        let scratch = &mut *self.scratch;
        let quads = match QUADS {
            0 => self.attention.width.div_ceil(4),
            known => known,
        };
        let mut first = [s.splat_i(0); R];
        let mut queries: [&[_]; R] = [&[]; R];
        let lines = &scratch.queries[block * quads..][..R * quads];
        for r in 0..R {
            first[r] = s.load_i(&scratch.starts[block + r]);
            queries[r] = &lines[r * quads..][..quads];
        }
        let mut keys: [&[[u8; 4]]; P] = [&[]; P];
        let rows = &scratch.keys[key * quads..][..P * quads];
        for (p, fours) in keys.iter_mut().enumerate() {
            *fours = &rows[p * quads..][..quads];
        }
        let mut sums = [first; P];
        for quad in 0..quads {
            let mut line = [s.line(&queries[0][quad].0); R];
            for r in 1..R {
                line[r] = s.line(&queries[r][quad].0);
            }
            for p in 0..P {
                for r in 0..R {
                    sums[p][r] = s.dot_signed(sums[p][r], keys[p][quad], line[r]);
                }
            }
        }
        let scores = &mut scratch.scores[key * R..][..P * R];
        for p in 0..P {
            for r in 0..R {
                s.store_i(sums[p][r], &mut scores[p * R + r].0);
                largest[r] = s.max_i(largest[r], sums[p][r]);
            }
        }
    }

    /// Probabilities of a tile, and their sums.
    #[inline(always)]
    fn probabilities<S: Lanes, const R: usize>(
        &mut self,
        s: S,
        head: Head,
        block: usize,
        largest: [S::I; R],
    ) -> [S::I; R] {
        let scratch = &mut *self.scratch;
        let kept = scratch.kept.len();
        let limit = s.splat(FARTHEST / (127 * 127 * self.attention.width) as f32);
        let (mut factor, mut base) = ([s.splat(0.0); R], [s.splat(0.0); R]);
        for r in 0..R {
            let scale = s.mul(
                s.load(&scratch.query_scales[block + r]),
                s.splat(head.k_scale),
            );
            let scale = s.mul(
                s.mul(scale, s.splat(self.attention.scale)),
                s.splat(LOG2_E * OCTAVE),
            );
            let scale = s.min(scale, limit);
            base[r] = s.fma(s.to_float(largest[r]), scale, s.splat(NEAREST));
            factor[r] = s.sub(s.splat(0.0), scale);
        }
        let mut sums = [s.splat_i(0); R];
        let (whole, rest) = (kept / 4, kept % 4);
        let scores = &scratch.scores[..kept * R];
        let (groups, last) = scores.split_at(whole * 4 * R);
        let lines = &mut scratch.probabilities[..kept.div_ceil(4) * R];
        for (scores, lines) in groups.chunks_exact(4 * R).zip(lines.chunks_exact_mut(R)) {
            for r in 0..R {
                let mut four = [s.splat_i(0); 4];
                for k in 0..4 {
                    let score = s.to_float(s.load_i(&scores[k * R + r].0));
                    four[k] = s.to_int(s.fma(score, factor[r], base[r]));
                }
                let line = s.powers(four);
                s.store_line(line, &mut lines[r].0);
                sums[r] = s.dot(sums[r], [1; 4], line);
            }
        }
        if rest > 0 {
            for r in 0..R {
                let mut four = [s.splat_i(NOWHERE); 4];
                for k in 0..rest {
                    let score = s.to_float(s.load_i(&last[k * R + r].0));
                    four[k] = s.to_int(s.fma(score, factor[r], base[r]));
                }
                let line = s.powers(four);
                s.store_line(line, &mut lines[whole * R + r].0);
                sums[r] = s.dot(sums[r], [1; 4], line);
            }
        }
        sums
    }

    #[inline(always)]
    fn output<S: Lanes, const P: usize, const R: usize>(
        &mut self,
        s: S,
        head: Head,
        block: usize,
        sums: [S::I; R],
    ) {
        let factor = match self.out {
            Output::Int8(Int8Rows::Static { scale, .. }) => head.v_scale * (1.0 / scale),
            _ => head.v_scale,
        };
        let mut factors = [s.splat(0.0); R];
        for r in 0..R {
            factors[r] = s.div(s.splat(factor), s.to_float(sums[r]));
        }
        let quads = self.scratch.kept.len().div_ceil(4);
        let mut channel = 0;
        while channel < self.attention.width {
            let lines = &self.scratch.values[channel / LANES * quads..][..quads];
            let probabilities = &self.scratch.probabilities[..quads * R];
            let at = channel % LANES;
            let mut sums = [[s.splat_i(0); R]; P];
            for (values, probabilities) in lines.iter().zip(probabilities.chunks_exact(R)) {
                let mut line = [s.line(&probabilities[0].0); R];
                for r in 1..R {
                    line[r] = s.line(&probabilities[r].0);
                }
                let fours = &values.0.as_chunks::<4>().0[at..][..P];
                for p in 0..P {
                    for r in 0..R {
                        sums[p][r] = s.dot_powers(sums[p][r], line[r], fours[p]);
                    }
                }
            }
            for r in 0..R {
                let mut columns = [s.splat(0.0); P];
                for p in 0..P {
                    columns[p] = s.mul(s.to_float(sums[p][r]), factors[r]);
                }
                self.write(s, head.head, block + r, channel, columns);
            }
            channel += P;
        }
    }

    /// P channels of 16 queries.
    #[inline(always)]
    fn write<S: Lanes, const P: usize>(
        &mut self,
        s: S,
        head: usize,
        block: usize,
        channel: usize,
        columns: [S::F; P],
    ) {
        let Attention {
            tokens,
            heads,
            width,
            ..
        } = *self.attention;
        let first = block * LANES;
        let queries = LANES.min(tokens - first);
        let channels = P.min(width - channel);
        let pitch = heads * width;
        let at = first * pitch + head * width + channel;
        let floats = match &mut self.out {
            Output::Float(out) => &mut out[at..],
            Output::Int8(Int8Rows::Dynamic { .. }) => &mut self.scratch.rows[at..],
            Output::Int8(Int8Rows::Static { bytes, .. }) => {
                let mut lines = [Aligned([0; LINE]); 2];
                for (i, line) in lines.iter_mut().take(P / 4).enumerate() {
                    let mut four = [s.splat_i(0); 4];
                    for (k, x) in four.iter_mut().enumerate() {
                        *x = s.to_signed_byte(columns[4 * i + k]);
                    }
                    s.store_woven(four, &mut line.0);
                }
                let [low, high] = lines.each_ref().map(|line| line.0.as_chunks::<4>().0);
                let number = |four: &[u8; 4]| u64::from(u32::from_le_bytes(*four));
                // Joined in a register: bytes written one by one would have to reach the cache
                // before eight can be read.
                let eight =
                    |lane: usize| (number(&low[lane]) | number(&high[lane]) << 32).to_le_bytes();
                let bytes = &mut bytes[at..];
                match channels {
                    8 => {
                        for lane in 0..queries {
                            bytes[lane * pitch..][..8].copy_from_slice(&eight(lane));
                        }
                    }
                    4 => {
                        for lane in 0..queries {
                            bytes[lane * pitch..][..4].copy_from_slice(&low[lane]);
                        }
                    }
                    _ => {
                        for lane in 0..queries {
                            let all = eight(lane);
                            bytes[lane * pitch..][..channels].copy_from_slice(&all[..channels]);
                        }
                    }
                }
                return;
            }
        };
        let mut all = [[0.0; LANES]; P];
        for p in 0..P {
            s.store(columns[p], &mut all[p]);
        }
        for (lane, to) in floats.chunks_mut(pitch).take(queries).enumerate() {
            for (p, to) in to[..channels].iter_mut().enumerate() {
                *to = all[p][lane];
            }
        }
    }
}
