//! One head of a projection, from where it lies to the layouts of the kernels.

use super::{Attention, AttentionScratch, Projection, Rotary};
use crate::kernels::LANES;
use crate::kernels::lanes::{Aligned, LINE, Lanes};
use crate::kernels::norm::{SCALE_BYTES, dynamic_scale};

/// The bytes of a head in the row of a token, and the scale of that row.
#[inline(always)]
pub(super) fn head_bytes(
    bytes: &[u8],
    pitch: usize,
    first: usize,
    width: usize,
    token: usize,
) -> &[u8] {
    &bytes[token * pitch + first..][..width]
}

/// Up to 16 bytes, zeros behind them.
#[inline(always)]
fn sixteen(bytes: &[u8]) -> [u8; LANES] {
    if let Some(all) = bytes.first_chunk() {
        return *all;
    }
    // Heads of eight are common; this way they need no call and never wait for memory.
    if let Ok(eight) = <[u8; 8]>::try_from(bytes) {
        return u128::from(u64::from_le_bytes(eight)).to_le_bytes();
    }
    let mut all = [0; LANES];
    all[..bytes.len()].copy_from_slice(bytes);
    all
}

/// One head of one token as f32, rotated where asked for; `to` is as wide as the head, rounded up to 16, and zero there.
#[inline(always)]
pub(super) fn load_head<S: Lanes>(
    s: S,
    projection: &Projection,
    rotary: Option<Rotary>,
    (head, width): (usize, usize),
    token: usize,
    to: &mut [f32],
) {
    let (blocks, _) = to.as_chunks_mut::<LANES>();
    match *projection {
        Projection::Float {
            values,
            pitch,
            offset,
        } => {
            let row = &values[token * pitch + offset + head * width..][..width];
            for (i, block) in blocks.iter_mut().enumerate() {
                let x = &row[i * LANES..];
                match x.first_chunk() {
                    Some(all) => *block = *all,
                    None => s.store(s.load_part(x), block),
                }
            }
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
        } => {
            let row = head_bytes(bytes, pitch, offset + head * width, width, token);
            let scale = s.splat(row_scale(projection, token));
            for (i, block) in blocks.iter_mut().enumerate() {
                let x = s.to_float(s.load_bytes(&sixteen(&row[i * LANES..])));
                s.store(s.mul(x, scale), block);
            }
        }
    }
    if let Some(rotary) = rotary {
        let half = width / 2;
        let (x, y) = to.split_at_mut(half);
        let cos = &rotary.cos[token * half..][..half];
        let sin = &rotary.sin[token * half..][..half];
        let (x, y) = (&mut x[..half], &mut y[..half]);
        for i in 0..half {
            let (a, b) = (x[i], y[i]);
            x[i] = (-b).mul_add(sin[i], a * cos[i]);
            y[i] = a.mul_add(sin[i], b * cos[i]);
        }
    }
}

/// The scale of a token's row of bytes; 1 for floats.
#[inline(always)]
fn row_scale(projection: &Projection, token: usize) -> f32 {
    match *projection {
        Projection::Static { scale, .. } => scale,
        Projection::Dynamic { bytes, pitch, .. } => {
            let at = (token + 1) * pitch - SCALE_BYTES;
            bytes[at..]
                .first_chunk()
                .map_or(0.0, |b| f32::from_le_bytes(*b))
        }
        Projection::Float { .. } => 1.0,
    }
}

/// The largest magnitude of a padded row joined with `largest`.
#[inline(always)]
fn largest<S: Lanes>(s: S, row: &[f32], mut largest: S::F) -> S::F {
    for block in row.as_chunks::<LANES>().0 {
        largest = s.max(largest, s.abs(s.load(block)));
    }
    largest
}

#[inline(always)]
fn quantise<S: Lanes>(s: S, row: &[f32], inverse: f32, to: &mut [u8]) {
    let inverse = s.splat(inverse);
    let (to, _) = to.as_chunks_mut::<LANES>();
    for (block, to) in row.as_chunks::<LANES>().0.iter().zip(to) {
        s.store_bytes(s.to_signed_byte(s.mul(s.load(block), inverse)), to);
    }
}

/// Queries of a head, all tokens, in bytes that [`Lanes::dot_signed`] takes, and their scales.
#[inline(always)]
pub(super) fn queries<S: Lanes>(
    s: S,
    attention: &Attention,
    head: usize,
    scratch: &mut AttentionScratch,
) {
    let width = attention.width;
    let padded = width.next_multiple_of(LANES);
    let pitch = width.next_multiple_of(4);
    for token in 0..attention.tokens {
        let to = &mut scratch.queries[token * pitch..][..pitch];
        match (attention.q, attention.rotary) {
            (
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
                },
                None,
            ) => {
                let row = head_bytes(bytes, pitch, offset + head * width, width, token);
                flip(row, S::SIGN_FLIP, to);
                scratch.query_scales[token] = row_scale(&attention.q, token);
            }
            _ => {
                let row = &mut scratch.head[..padded];
                let size = (head, width);
                load_head(s, &attention.q, attention.rotary, size, token, row);
                let all = s.max_lane(largest(s, row, s.splat(0.0)));
                let (scale, inverse) = dynamic_scale(all);
                let bytes = &mut scratch.head_bytes[..padded];
                quantise(s, row, inverse, bytes);
                flip(&bytes[..width], S::SIGN_FLIP, to);
                scratch.query_scales[token] = scale;
            }
        }
    }
}

/// Copies bytes, xored; behind them anything.
#[inline(always)]
fn flip(row: &[u8], flip: u8, to: &mut [u8]) {
    if let (Ok(eight), Ok(to)) = (<[u8; 8]>::try_from(row), <&mut [u8; 8]>::try_from(&mut *to)) {
        *to = (u64::from_ne_bytes(eight) ^ u64::from_ne_bytes([flip; 8])).to_ne_bytes();
        return;
    }
    let (fours, rest) = row.as_chunks::<4>();
    let (to_fours, to_rest) = to[..row.len()].as_chunks_mut::<4>();
    let mask = u32::from_ne_bytes([flip; 4]);
    for (to, four) in to_fours.iter_mut().zip(fours) {
        *to = (u32::from_ne_bytes(*four) ^ mask).to_ne_bytes();
    }
    for (to, x) in to_rest.iter_mut().zip(rest) {
        *to = x ^ flip;
    }
}

/// Brings a head of all kept tokens to one scale, in `scratch.head_bytes` (`[kept][width rounded up to 16]`).
#[inline(always)]
fn one_scale<S: Lanes>(
    s: S,
    projection: &Projection,
    rotary: Option<Rotary>,
    size: (usize, usize),
    scratch: &mut AttentionScratch,
) -> f32 {
    let padded = size.1.next_multiple_of(LANES);
    let mut all = s.splat(0.0);
    for (i, token) in scratch.kept.iter().enumerate() {
        let row = &mut scratch.head[i * padded..][..padded];
        load_head(s, projection, rotary, size, *token as usize, row);
        all = largest(s, row, all);
    }
    let (scale, inverse) = dynamic_scale(s.max_lane(all));
    let len = scratch.kept.len() * padded;
    quantise(
        s,
        &scratch.head[..len],
        inverse,
        &mut scratch.head_bytes[..len],
    );
    scale
}

/// Keys of a head into lines, with first accumulators; their scale.
#[inline(always)]
pub(super) fn keys<S: Lanes>(
    s: S,
    attention: &Attention,
    head: usize,
    scratch: &mut AttentionScratch,
) -> f32 {
    let width = attention.width;
    let quads = width.div_ceil(4);
    let kept = scratch.kept.len();
    let blocks = kept.div_ceil(LANES);
    if !kept.is_multiple_of(LANES) {
        scratch.keys[(blocks - 1) * quads..][..quads].fill(Aligned([0; LINE]));
    }
    let scale = match (attention.k, attention.rotary) {
        (
            Projection::Static {
                bytes,
                pitch,
                offset,
                scale,
            },
            None,
        ) => {
            for (i, token) in scratch.kept.iter().enumerate() {
                let first = offset + head * width;
                let row = head_bytes(bytes, pitch, first, width, *token as usize);
                let lines = &mut scratch.keys[i / LANES * quads..][..quads];
                key(row, i % LANES, lines);
            }
            scale
        }
        _ => {
            let size = (head, width);
            let scale = one_scale(s, &attention.k, attention.rotary, size, scratch);
            let padded = width.next_multiple_of(LANES);
            for i in 0..kept {
                let row = &scratch.head_bytes[i * padded..][..width];
                let lines = &mut scratch.keys[i / LANES * quads..][..quads];
                key(row, i % LANES, lines);
            }
            scale
        }
    };
    for block in 0..blocks {
        let start = &mut scratch.starts[block];
        *start = [0; LANES];
        if S::EXCESS != 0 {
            let mut sum = s.splat_i(0);
            for line in &scratch.keys[block * quads..][..quads] {
                sum = s.dot(sum, [1; 4], s.line(&line.0));
            }
            s.store_i(sum, start);
            for start in start.iter_mut() {
                *start *= -S::EXCESS;
            }
        }
        // Keys that do not exist: far below any sum, so that they are never the largest.
        let filled = LANES.min(kept - block * LANES);
        start[filled..].fill(i32::MIN / 2);
    }
    scale
}

/// One key into its lane.
#[inline(always)]
fn key(row: &[u8], lane: usize, lines: &mut [Aligned<[u8; LINE]>]) {
    let (fours, rest) = row.as_chunks::<4>();
    for (line, four) in lines.iter_mut().zip(fours) {
        line.0.as_chunks_mut::<4>().0[lane] = *four;
    }
    if !rest.is_empty() {
        let mut four = [0; 4];
        four[..rest.len()].copy_from_slice(rest);
        lines[fours.len()].0.as_chunks_mut::<4>().0[lane] = four;
    }
}

/// Values of a head into lines; their scale.
#[inline(always)]
pub(super) fn values<S: Lanes>(
    s: S,
    attention: &Attention,
    head: usize,
    scratch: &mut AttentionScratch,
) -> f32 {
    let width = attention.width;
    let padded = width.next_multiple_of(LANES);
    let kept = scratch.kept.len();
    // Lines of a block of channels.
    let lines = kept.div_ceil(LANES) * 4;
    let scale = match attention.v {
        Projection::Static { scale, .. } => scale,
        _ => one_scale(s, &attention.v, None, (head, width), scratch),
    };
    for quad in 0..lines {
        let mut rows: [&[u8]; 4] = [&[]; 4];
        for (r, row) in rows.iter_mut().enumerate() {
            let i = quad * 4 + r;
            if i < kept {
                *row = match attention.v {
                    Projection::Static {
                        bytes,
                        pitch,
                        offset,
                        ..
                    } => {
                        let token = scratch.kept[i] as usize;
                        head_bytes(bytes, pitch, offset + head * width, width, token)
                    }
                    _ => &scratch.head_bytes[i * padded..][..width],
                };
            }
        }
        for block in 0..padded / LANES {
            let mut sixteens = [[0; LANES]; 4];
            for (row, all) in rows.iter().zip(&mut sixteens) {
                if !row.is_empty() {
                    *all = sixteen(&row[block * LANES..]);
                }
            }
            let [a, b, c, d] = &sixteens;
            s.interleave([a, b, c, d], &mut scratch.values[block * lines + quad].0);
        }
    }
    scale
}
