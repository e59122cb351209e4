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

/// One head of one token as f32, rotated where asked for; `to` is as wide as the head, rounded up
/// to 16, and zero there.
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
pub(super) fn row_scale(projection: &Projection, token: usize) -> f32 {
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

/// Queries of a head, all tokens, one a lane, with first accumulators, and their scales; of queries
/// that are `packed` only the accumulators.
#[inline(always)]
pub(super) fn queries<S: Lanes>(
    s: S,
    attention: &Attention,
    head: usize,
    scratch: &mut AttentionScratch,
    packed: bool,
) {
    let Attention { tokens, width, .. } = *attention;
    let padded = width.next_multiple_of(LANES);
    let quads = width.div_ceil(4);
    let blocks = tokens.div_ceil(LANES);
    if !packed && !tokens.is_multiple_of(LANES) {
        scratch.queries[(blocks - 1) * quads..][..quads].fill(Aligned([0; LINE]));
        scratch.query_scales[blocks - 1] = [0.0; LANES];
    }
    let mut token = if packed { tokens } else { 0 };
    if let (
        Projection::Static {
            bytes,
            pitch,
            offset,
            scale,
        },
        None,
    ) = (attention.q, attention.rotary)
        && width.is_multiple_of(4)
    {
        while token + 4 <= tokens {
            let lines = &mut scratch.queries[token / LANES * quads..][..quads];
            let mut rows: [&[[u8; 4]]; 4] = [&[]; 4];
            for (i, row) in rows.iter_mut().enumerate() {
                let row_bytes = head_bytes(bytes, pitch, offset + head * width, width, token + i);
                *row = &row_bytes.as_chunks::<4>().0[..quads];
            }
            four_into_lanes(rows, token % LANES, lines);
            scratch.query_scales[token / LANES][token % LANES..][..4].fill(scale);
            token += 4;
        }
    }
    for token in token..tokens {
        let lines = &mut scratch.queries[token / LANES * quads..][..quads];
        let to_scale = &mut scratch.query_scales[token / LANES][token % LANES];
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
                into_lane(row, token % LANES, lines);
                *to_scale = row_scale(&attention.q, token);
            }
            _ => {
                let row = &mut scratch.head[..padded];
                let size = (head, width);
                load_head(s, &attention.q, attention.rotary, size, token, row);
                let all = s.max_lane(largest(s, row, s.splat(0.0)));
                let (scale, inverse) = dynamic_scale(all);
                let bytes = &mut scratch.head_bytes[..padded];
                quantise(s, row, inverse, bytes);
                into_lane(&bytes[..width], token % LANES, lines);
                *to_scale = scale;
            }
        }
    }
    for block in 0..blocks {
        let start = &mut scratch.starts[block];
        *start = [0; LANES];
        if S::EXCESS != 0 {
            let mut sum = s.splat_i(0);
            for line in &scratch.queries[block * quads..][..quads] {
                sum = s.dot(sum, [1; 4], s.line(&line.0));
            }
            s.store_i(sum, start);
            for start in start.iter_mut() {
                *start *= -S::EXCESS;
            }
        }
    }
}

/// Four rows of as many quads as there are lines, from `lane` on.
#[inline(always)]
fn four_into_lanes(rows: [&[[u8; 4]]; 4], lane: usize, lines: &mut [Aligned<[u8; LINE]>]) {
    let mut quad = 0;
    // Sixteen numbers are exchanged in registers.
    while quad + 4 <= lines.len() {
        let mut block = [[[0; 4]; 4]; 4];
        for (row, block) in rows.iter().zip(&mut block) {
            block.copy_from_slice(&row[quad..][..4]);
        }
        for i in 0..4 {
            let four = [block[0][i], block[1][i], block[2][i], block[3][i]];
            lines[quad + i].0[4 * lane..][..16].copy_from_slice(four.as_flattened());
        }
        quad += 4;
    }
    for quad in quad..lines.len() {
        let four = [rows[0][quad], rows[1][quad], rows[2][quad], rows[3][quad]];
        lines[quad].0[4 * lane..][..16].copy_from_slice(four.as_flattened());
    }
}

/// A row of bytes into its lane.
#[inline(always)]
fn into_lane(row: &[u8], lane: usize, lines: &mut [Aligned<[u8; LINE]>]) {
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

/// Copies bytes, xored; behind them anything.
#[inline(always)]
fn flip(row: &[u8], flip: u8, to: &mut [u8]) {
    if let (Ok(eight), Ok(to)) = (<[u8; 8]>::try_from(row), <&mut [u8; 8]>::try_from(&mut *to)) {
        *to = (u64::from_ne_bytes(eight) ^ u64::from_ne_bytes([flip; 8])).to_ne_bytes();
        return;
    }
    let (lines, rest) = row.as_chunks::<LINE>();
    let (to_lines, to_rest) = to[..row.len()].as_chunks_mut::<LINE>();
    for (to, line) in to_lines.iter_mut().zip(lines) {
        for (to, x) in to.iter_mut().zip(line) {
            *to = x ^ flip;
        }
    }
    for (to, x) in to_rest.iter_mut().zip(rest) {
        *to = x ^ flip;
    }
}

/// Brings a head of all kept tokens to one scale, in `scratch.head_bytes` (`[kept][width rounded up
/// to 16]`).
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

/// Keys of a head as rows of bytes that [`Lanes::dot_signed`] takes; their scale.
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
    match (attention.k, attention.rotary) {
        (
            Projection::Static {
                bytes,
                pitch,
                offset,
                scale,
            },
            None,
        ) => {
            let first = offset + head * width;
            let rows = scratch.keys.chunks_exact_mut(quads);
            for (token, to) in scratch.kept.iter().zip(rows) {
                let row = head_bytes(bytes, pitch, first, width, *token as usize);
                flip(row, S::SIGN_FLIP, to.as_flattened_mut());
            }
            scale
        }
        _ => {
            let size = (head, width);
            let scale = one_scale(s, &attention.k, attention.rotary, size, scratch);
            let padded = width.next_multiple_of(LANES);
            let rows = scratch.head_bytes[..kept * padded].chunks_exact(padded);
            for (row, to) in rows.zip(scratch.keys.chunks_exact_mut(quads)) {
                flip(&row[..width], S::SIGN_FLIP, to.as_flattened_mut());
            }
            scale
        }
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
    let lines = kept.div_ceil(4);
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
