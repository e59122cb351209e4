//! Heads of eight channels that are rotated, as UTR-LM has them: sixteen tokens at a time, one a
//! lane, and the values of [`super::pack`] to the bit.

use super::pack::{head_bytes, row_scale};
use super::{Attention, AttentionScratch, Projection, Rotary, grow};
use crate::kernels::LANES;
use crate::kernels::lanes::{Aligned, LINE, Lanes};
use crate::kernels::norm::{SMALLEST, dynamic_scale};

/// Channels of a head.
pub(super) const EIGHT: usize = 8;
/// Pairs of them.
const PAIRS: usize = EIGHT / 2;
/// Lines of a head's bytes.
const QUADS: usize = EIGHT / 4;

/// Cosines and sines of sixteen tokens, by pair of channels.
pub(super) type Turns = [[[f32; LANES]; PAIRS]; 2];

/// True where heads are packed here: not with AVX2, whose registers do not hold eight channels of
/// sixteen tokens.
pub(super) fn serves<S: Lanes>(attention: &Attention) -> bool {
    (S::WIDE || cfg!(target_arch = "aarch64")) && fits(attention)
}

fn fits(attention: &Attention) -> bool {
    attention.rotary.is_some() && attention.width == EIGHT && attention.mask.is_none()
}

/// Brings the tables into lanes, for all heads.
pub(super) fn turns(rotary: Rotary, tokens: usize, scratch: &mut AttentionScratch) {
    let blocks = tokens.div_ceil(LANES);
    // Room that was made for heads of another width may be less.
    grow(&mut scratch.turns, blocks, Turns::default());
    grow(&mut scratch.head, blocks * LANES * EIGHT, 0.0);
    for (block, turns) in scratch.turns.iter_mut().enumerate().take(blocks) {
        let first = block * LANES;
        for (table, lines) in [rotary.cos, rotary.sin].into_iter().zip(turns) {
            let rows = table[first * PAIRS..tokens.min(first + LANES) * PAIRS].as_chunks::<PAIRS>();
            for (lane, row) in rows.0.iter().enumerate() {
                for (line, x) in lines.iter_mut().zip(row) {
                    line[lane] = *x;
                }
            }
        }
    }
}

/// Channels of sixteen tokens, one a lane.
type Channels<S> = [<S as Lanes>::F; EIGHT];

/// A head of the tokens of a block as it lies there, zeros behind the last.
#[inline(always)]
fn load<S: Lanes>(
    s: S,
    projection: &Projection,
    head: usize,
    (block, tokens): (usize, usize),
) -> Channels<S> {
    let first = block * LANES;
    let there = first..tokens.min(first + LANES);
    let mut channels = [s.splat(0.0); EIGHT];
    let (bytes, pitch, offset) = match *projection {
        Projection::Float {
            values,
            pitch,
            offset,
        } => {
            let mut lines = [[0.0; LANES]; EIGHT];
            for (lane, token) in there.enumerate() {
                let row = &values[token * pitch + offset + head * EIGHT..][..EIGHT];
                for (line, x) in lines.iter_mut().zip(row) {
                    line[lane] = *x;
                }
            }
            for (channel, line) in channels.iter_mut().zip(&lines) {
                *channel = s.load(line);
            }
            return channels;
        }
        Projection::Static {
            bytes,
            pitch,
            offset,
            ..
        }
        | Projection::Dynamic {
            bytes,
            pitch,
            offset,
        } => (bytes, pitch, offset),
    };
    let mut fours = [[0; LANES]; QUADS];
    let mut scales = [0.0; LANES];
    for (lane, token) in there.enumerate() {
        let row = head_bytes(bytes, pitch, offset + head * EIGHT, EIGHT, token);
        for (four, own) in fours.iter_mut().zip(row.as_chunks::<4>().0) {
            four[lane] = i32::from_le_bytes(*own);
        }
        scales[lane] = row_scale(projection, token);
    }
    let scale = s.load(&scales);
    let fours = [s.load_i(&fours[0]), s.load_i(&fours[1])];
    for (c, channel) in channels.iter_mut().enumerate() {
        let byte = s.signed_byte(fours[c / 4], c % 4);
        *channel = s.mul(s.to_float(byte), scale);
    }
    channels
}

/// The same rotated, and the largest magnitude of each token.
#[inline(always)]
fn rotated<S: Lanes>(
    s: S,
    projection: &Projection,
    turns: &Turns,
    head: usize,
    place: (usize, usize),
) -> (Channels<S>, S::F) {
    let mut x = load(s, projection, head, place);
    let mut largest = s.splat(0.0);
    for i in 0..PAIRS {
        let (a, b) = (x[i], x[i + PAIRS]);
        let (cos, sin) = (s.load(&turns[0][i]), s.load(&turns[1][i]));
        let back = s.sub(s.splat(0.0), sin);
        x[i] = s.fma(b, back, s.mul(a, cos));
        x[i + PAIRS] = s.fma(a, sin, s.mul(b, cos));
        largest = s.max(s.max(largest, s.abs(x[i])), s.abs(x[i + PAIRS]));
    }
    (x, largest)
}

/// Bytes of channels, four to a line.
#[inline(always)]
fn lines<S: Lanes>(s: S, x: Channels<S>, inverse: S::F) -> [Aligned<[u8; LINE]>; QUADS] {
    let mut lines = [Aligned([0; LINE]); QUADS];
    for (quad, line) in lines.iter_mut().enumerate() {
        let byte = |k: usize| s.to_signed_byte(s.mul(x[quad * 4 + k], inverse));
        s.store_woven([byte(0), byte(1), byte(2), byte(3)], &mut line.0);
    }
    lines
}

/// Queries of a head, and their scales.
#[inline(always)]
pub(super) fn queries<S: Lanes>(
    s: S,
    attention: &Attention,
    head: usize,
    scratch: &mut AttentionScratch,
) {
    let tokens = attention.tokens;
    for block in 0..tokens.div_ceil(LANES) {
        let turns = &scratch.turns[block];
        let (x, largest) = rotated(s, &attention.q, turns, head, (block, tokens));
        // As `dynamic_scale` of each.
        let least = s.splat(SMALLEST);
        let of = |scale: S::F| s.select_less(largest, least, s.splat(0.0), scale);
        let scale = of(s.div(largest, s.splat(127.0)));
        let inverse = of(s.div(s.splat(127.0), largest));
        s.store(scale, &mut scratch.query_scales[block]);
        let lines = lines(s, x, inverse);
        scratch.queries[block * QUADS..][..QUADS].copy_from_slice(&lines);
    }
}

/// Keys of a head as rows of bytes that [`Lanes::dot_signed`] takes; their scale.
#[inline(always)]
pub(super) fn keys<S: Lanes>(
    s: S,
    attention: &Attention,
    head: usize,
    scratch: &mut AttentionScratch,
) -> f32 {
    let tokens = attention.tokens;
    let blocks = tokens.div_ceil(LANES);
    let mut all = s.splat(0.0);
    for block in 0..blocks {
        let turns = &scratch.turns[block];
        let (x, largest) = rotated(s, &attention.k, turns, head, (block, tokens));
        all = s.max(all, largest);
        let to = &mut scratch.head[block * LANES * EIGHT..][..LANES * EIGHT];
        for (x, to) in x.into_iter().zip(to.as_chunks_mut::<LANES>().0) {
            s.store(x, to);
        }
    }
    let (scale, inverse) = dynamic_scale(s.max_lane(all));
    for block in 0..blocks {
        let mut x = [s.splat(0.0); EIGHT];
        let from = &scratch.head[block * LANES * EIGHT..][..LANES * EIGHT];
        for (x, from) in x.iter_mut().zip(from.as_chunks::<LANES>().0) {
            *x = s.load(from);
        }
        let lines = lines(s, x, s.splat(inverse));
        let first = block * LANES;
        let keys = scratch.keys[first * QUADS..tokens.min(first + LANES) * QUADS].as_chunks_mut();
        let keys: &mut [[[u8; 4]; QUADS]] = keys.0;
        let [low, high] = lines.each_ref().map(|line| line.0.as_chunks::<4>().0);
        for (key, (low, high)) in keys.iter_mut().zip(low.iter().zip(high)) {
            *key = [*low, *high].map(|four| four.map(|byte| byte ^ S::SIGN_FLIP));
        }
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::super::{Attention, pack};
    use super::*;
    use crate::kernels::Isa;
    use crate::kernels::lanes::{Kernel, dispatch};
    use crate::kernels::norm::SCALE_BYTES;

    const HEADS: usize = 3;
    const PITCH: usize = 40;

    struct Numbers(u64);

    impl Numbers {
        fn byte(&mut self) -> u8 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 40) as u8
        }

        fn float(&mut self) -> f32 {
            f32::from(self.byte() as i8) / 100.0
        }
    }

    /// All that is made ready of a head.
    #[derive(Debug, PartialEq)]
    struct Packed {
        queries: Vec<[u8; LINE]>,
        query_scales: Vec<[f32; LANES]>,
        starts: Vec<[i32; LANES]>,
        keys: Vec<[u8; 4]>,
        scale: f32,
    }

    struct Pack<'a>(&'a Attention<'a>, usize, bool);

    impl Kernel for Pack<'_> {
        type Out = Packed;

        #[inline(always)]
        fn run<S: Lanes>(self, s: S) -> Packed {
            let Pack(attention, head, by_lane) = self;
            let tokens = attention.tokens;
            let mut scratch = AttentionScratch::default();
            scratch.reserve(tokens, EIGHT);
            scratch.kept.extend(0..tokens as u32);
            let scale = if by_lane {
                if let Some(rotary) = attention.rotary {
                    turns(rotary, tokens, &mut scratch);
                }
                queries(s, attention, head, &mut scratch);
                keys(s, attention, head, &mut scratch)
            } else {
                pack::keys(s, attention, head, &mut scratch)
            };
            pack::queries(s, attention, head, &mut scratch, by_lane);
            Packed {
                queries: scratch.queries.iter().map(|line| line.0).collect(),
                query_scales: scratch.query_scales,
                starts: scratch.starts,
                keys: scratch.keys[..tokens * QUADS].to_vec(),
                scale,
            }
        }
    }

    #[test]
    fn heads_are_packed_as_one_token_at_a_time() {
        let mut numbers = Numbers(5);
        for tokens in [1, 2, 15, 16, 17, 40] {
            let mut bytes: Vec<u8> = (0..tokens * PITCH).map(|_| numbers.byte()).collect();
            let values: Vec<f32> = (0..tokens * PITCH).map(|_| numbers.float()).collect();
            let mut table = || (0..tokens * PAIRS).map(|_| numbers.float()).collect();
            let (cos, sin): (Vec<f32>, Vec<f32>) = (table(), table());
            for (token, row) in bytes.chunks_exact_mut(PITCH).enumerate() {
                let scale = 0.25 + token as f32 / 64.0;
                row[PITCH - SCALE_BYTES..].copy_from_slice(&scale.to_le_bytes());
            }
            // A token of zeros has no scale.
            bytes[(tokens - 1) * PITCH..][..HEADS * EIGHT].fill(0);
            let (bytes, values) = (&bytes[..], &values[..]);
            let (pitch, offset) = (PITCH, 0);
            for projection in [
                Projection::Static {
                    bytes,
                    pitch,
                    offset: 4,
                    scale: 0.3,
                },
                Projection::Dynamic {
                    bytes,
                    pitch,
                    offset,
                },
                Projection::Float {
                    values,
                    pitch,
                    offset,
                },
            ] {
                let attention = Attention {
                    tokens,
                    queries: tokens,
                    heads: HEADS,
                    width: EIGHT,
                    q: projection,
                    k: projection,
                    v: projection,
                    scale: 0.35,
                    mask: None,
                    rotary: Some(Rotary {
                        cos: &cos,
                        sin: &sin,
                    }),
                };
                assert!(fits(&attention));
                for isa in Isa::available() {
                    for head in 0..HEADS {
                        let own = dispatch(isa, Pack(&attention, head, true));
                        let expected = dispatch(isa, Pack(&attention, head, false));
                        assert_eq!(own, expected, "{isa} {tokens} tokens {projection:?}");
                    }
                }
            }
        }
    }
}
