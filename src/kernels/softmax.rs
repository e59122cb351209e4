//! Soft-max over the last axis.
//!
//! `y = e^(x - max) · (1 / Σ e^(x - max))` with the exponential of
//! [`Activation::Exp`](super::Activation::Exp). Rows of up to [`SHORT`] values are computed sixteen
//! rows at a time, one a lane, and their exponentials are added in the order of the classes; longer
//! ones in the lane order of `lanes`.

use super::activation::exp;
use super::lanes::{Kernel, Lanes, dispatch};
use super::{Isa, LANES};

/// Values of a row that is computed in one lane.
pub const SHORT: usize = 16;

/// Soft-max of each row of `[row][width]` finite values, into as many of `out`.
///
/// # Panics
/// Where the lengths differ, the width is 0 or it does not divide them.
pub fn softmax(isa: Isa, rows: &[f32], width: usize, out: &mut [f32]) {
    assert!(width > 0 && rows.len().is_multiple_of(width));
    assert_eq!(out.len(), rows.len());
    if width <= SHORT {
        dispatch(isa, Short { rows, width, out });
    } else {
        dispatch(isa, Long { rows, width, out });
    }
}

struct Short<'a, 'b> {
    rows: &'a [f32],
    width: usize,
    out: &'b mut [f32],
}

impl Kernel for Short<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        // A width known beforehand lets the transposition be unrolled.
        match self.width {
            2 => short::<S, 2>(s, self.rows, self.out),
            3 => {
                let (blocks, rest) = self.rows.as_chunks::<{ 3 * LANES }>();
                let (out, rest_out) = self.out.as_chunks_mut::<{ 3 * LANES }>();
                for (block, out) in blocks.iter().zip(out) {
                    three(s, block, out);
                }
                sixteen(s, rest, 3, rest_out);
            }
            4 => short::<S, 4>(s, self.rows, self.out),
            width => {
                let blocks = self.rows.chunks(width * LANES);
                for (rows, out) in blocks.zip(self.out.chunks_mut(width * LANES)) {
                    sixteen(s, rows, width, out);
                }
            }
        }
    }
}

/// Where the classes of 16 rows of three lie: class `k` of row `l` is value `3l + k`, of the first
/// two registers or the third.
const APART: [[[i32; LANES]; 2]; 3] = {
    let mut order = [[[0; LANES]; 2]; 3];
    let mut class = 0;
    while class < 3 {
        let mut lane = 0;
        while lane < LANES {
            let at = 3 * lane + class;
            let late = at >= 2 * LANES;
            order[class][0][lane] = if late { 0 } else { at as i32 };
            order[class][1][lane] = if late {
                (at - LANES) as i32
            } else {
                lane as i32
            };
            lane += 1;
        }
        class += 1;
    }
    order
};

/// The way back: value `e` is class `e % 3` of row `e / 3`.
const TOGETHER: [[[i32; LANES]; 2]; 3] = {
    let mut order = [[[0; LANES]; 2]; 3];
    let mut register = 0;
    while register < 3 {
        let mut lane = 0;
        while lane < LANES {
            let (class, row) = ((register * LANES + lane) % 3, (register * LANES + lane) / 3);
            order[register][0][lane] = if class == 1 {
                (LANES + row) as i32
            } else {
                row as i32
            };
            order[register][1][lane] = if class == 2 {
                (LANES + row) as i32
            } else {
                lane as i32
            };
            lane += 1;
        }
        register += 1;
    }
    order
};

/// Sixteen rows of three, exchanged in registers.
#[inline(always)]
fn three<S: Lanes>(s: S, rows: &[f32; 3 * LANES], out: &mut [f32; 3 * LANES]) {
    let (blocks, _) = rows.as_chunks::<LANES>();
    let (out, _) = out.as_chunks_mut::<LANES>();
    let [a, b, c] = [s.load(&blocks[0]), s.load(&blocks[1]), s.load(&blocks[2])];
    let mut columns = [a, b, c];
    for class in 0..3 {
        let early = s.permute(a, b, &APART[class][0]);
        columns[class] = s.permute(early, c, &APART[class][1]);
    }
    let largest = s.max(s.max(columns[0], columns[1]), columns[2]);
    let mut sum = s.splat(0.0);
    for column in &mut columns {
        *column = exp(s, s.sub(*column, largest));
        sum = s.add(sum, *column);
    }
    let inverse = s.div(s.splat(1.0), sum);
    for column in &mut columns {
        *column = s.mul(*column, inverse);
    }
    for register in 0..3 {
        let early = s.permute(columns[0], columns[1], &TOGETHER[register][0]);
        let all = s.permute(early, columns[2], &TOGETHER[register][1]);
        s.store(all, &mut out[register]);
    }
}

#[inline(always)]
fn short<S: Lanes, const C: usize>(s: S, rows: &[f32], out: &mut [f32]) {
    let blocks = rows.chunks(C * LANES);
    for (rows, out) in blocks.zip(out.chunks_mut(C * LANES)) {
        sixteen(s, rows, C, out);
    }
}

/// Up to sixteen rows.
#[inline(always)]
fn sixteen<S: Lanes>(s: S, rows: &[f32], width: usize, out: &mut [f32]) {
    let mut columns = [[0.0; LANES]; SHORT];
    let columns = &mut columns[..width];
    if rows.len() == width * LANES {
        for lane in 0..LANES {
            for c in 0..width {
                columns[c][lane] = rows[lane * width + c];
            }
        }
    } else {
        for (lane, row) in rows.chunks_exact(width).enumerate() {
            for (column, x) in columns.iter_mut().zip(row) {
                column[lane] = *x;
            }
        }
    }
    let mut largest = s.load(&columns[0]);
    for column in columns.iter() {
        largest = s.max(largest, s.load(column));
    }
    let mut sum = s.splat(0.0);
    for column in columns.iter_mut() {
        let e = exp(s, s.sub(s.load(column), largest));
        s.store(e, column);
        sum = s.add(sum, e);
    }
    let inverse = s.div(s.splat(1.0), sum);
    for column in columns.iter_mut() {
        s.store(s.mul(s.load(column), inverse), column);
    }
    if out.len() == width * LANES {
        for lane in 0..LANES {
            for c in 0..width {
                out[lane * width + c] = columns[c][lane];
            }
        }
    } else {
        for (lane, row) in out.chunks_exact_mut(width).enumerate() {
            for (x, column) in row.iter_mut().zip(columns.iter()) {
                *x = column[lane];
            }
        }
    }
}

struct Long<'a, 'b> {
    rows: &'a [f32],
    width: usize,
    out: &'b mut [f32],
}

impl Kernel for Long<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Lanes>(self, s: S) {
        let rows = self.rows.chunks_exact(self.width);
        for (row, out) in rows.zip(self.out.chunks_exact_mut(self.width)) {
            let (groups, tail) = row.as_chunks::<LANES>();
            let (out, out_tail) = out.as_chunks_mut::<LANES>();
            // Missing values repeat the first one, so that they are never the only largest.
            let mut last = [groups[0][0]; LANES];
            last[..tail.len()].copy_from_slice(tail);
            let mut largest = s.load(&last);
            for group in groups {
                largest = s.max(largest, s.load(group));
            }
            let largest = s.splat(s.max_lane(largest));
            let mut sum = s.splat(0.0);
            for (group, out) in groups.iter().zip(out.iter_mut()) {
                let e = exp(s, s.sub(s.load(group), largest));
                s.store(e, out);
                sum = s.add(sum, e);
            }
            if !tail.is_empty() {
                let e = exp(s, s.sub(s.load(&last), largest));
                s.store(e, &mut last);
                last[tail.len()..].fill(0.0);
                sum = s.add(sum, s.load(&last));
            }
            let inverse = s.div(s.splat(1.0), s.splat(s.sum(sum)));
            for out in out {
                s.store(s.mul(s.load(out), inverse), out);
            }
            if !tail.is_empty() {
                s.store_part(s.mul(s.load(&last), inverse), out_tail);
            }
        }
    }
}
