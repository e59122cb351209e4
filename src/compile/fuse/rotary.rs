//! Rotation of queries and keys by position: `x · cos + rotate(x) · sin`, where rotate(x) is the
//! second half, negated, then the first.

use super::meaning::Meaning;
use super::net::Net;
use super::view::{Atom, View};
use super::{axes, node, probe};
use tract_onnx::pb::NodeProto;

/// Positions at which the angles are computed.
const ROWS: usize = 131;

/// Finds the view that a tensor is.
type Follow<'a> = &'a dyn Fn(&str) -> Option<View>;

/// The view behind `x · cos + rotate(x) · sin`, with the base of its angles.
pub fn rotated(net: &Net, sum: &NodeProto, follow: Follow) -> Option<View> {
    let product = |at: usize| net.producer_of(sum.input.get(at)?, "Mul");
    let (a, b) = (product(0)?, product(1)?);
    matched(net, a, b, follow).or_else(|| matched(net, b, a, follow))
}

fn matched(net: &Net, straight: &NodeProto, crossed: &NodeProto, follow: Follow) -> Option<View> {
    for (halves, sine) in [(0, 1), (1, 0)] {
        let Some(concat) = net.producer_of(crossed.input.get(halves)?, "Concat") else {
            continue;
        };
        for (x, cosine) in [(0, 1), (1, 0)] {
            let view = follow(straight.input.get(x)?);
            if let Some(mut view) = view
                && view.rotary.is_none()
                && rotates(net, concat, &view, follow).is_some()
            {
                let (elements, back) = elements(&view)?;
                let tables = [&straight.input[cosine], &crossed.input[sine]];
                view.rotary = Some(base(net, tables, elements, back)?);
                return Some(view);
            }
        }
    }
    None
}

/// Elements of the last axis, where they lie next to each other, and how many axes before it is
/// that of the rows.
fn elements(view: &View) -> Option<(usize, usize)> {
    let (last, before) = view.axes.split_last()?;
    let back = before.iter().rev().position(|axis| axis == &[Atom::Row])?;
    match last.as_slice() {
        [Atom::Column { size, stride: 1 }] if size % 2 == 0 => Some((*size, back + 1)),
        _ => None,
    }
}

fn rotates(net: &Net, concat: &NodeProto, view: &View, follow: Follow) -> Option<()> {
    let half = elements(view)?.0 / 2;
    let rank = view.axes.len();
    if axes::axis(node::int(concat, "axis")?, rank)? != rank - 1 {
        return None;
    }
    let [second, first] = concat.input.as_slice() else {
        return None;
    };
    let (second, sign) = match net.producer_of(second, "Neg") {
        Some(neg) => (neg.input.first()?, 1.0),
        None => (second, -1.0),
    };
    let is_half = |name: &str, offset: usize, scale: f32| {
        let part = follow(name)?;
        let last = [Atom::Column {
            size: half,
            stride: 1,
        }];
        let same = part.source == view.source
            && part.offset == view.offset + offset
            && part.scale == view.scale * scale
            && part.rotary.is_none()
            && part.axes.get(..rank - 1) == view.axes.get(..rank - 1)
            && part.axes.last()?[..] == last[..];
        // A half of one element is an axis of one.
        let single = half == 1
            && part.axes.last()?.is_empty()
            && part.offset == view.offset + offset
            && part.source == view.source;
        (same || single).then_some(())
    };
    is_half(second, half, sign)?;
    is_half(first, 0, 1.0)
}

/// The base of angles t · base^(-2 j / d), where cosine and sine are of such, t along an axis
/// `back` before the last.
fn base(net: &Net, [cosine, sine]: [&String; 2], d: usize, back: usize) -> Option<f32> {
    let read = Meaning::CONTENT;
    if !net.is_free_of(cosine, &read) || !net.is_free_of(sine, &read) {
        return None;
    }
    let feeds = net.feeds(ROWS);
    let (shape, cosine) = probe::floats(net, cosine, &feeds).ok()?;
    let (_, sine) = probe::floats(net, sine, &feeds).ok()?;
    let half = d / 2;
    // A constant table may be longer than the positions asked for, or be cut to a fixed length.
    let rows = cosine.len() / d;
    let along = shape
        .len()
        .checked_sub(1 + back)
        .and_then(|axis| shape.get(axis));
    if shape.last() != Some(&d)
        || along != Some(&rows)
        || rows < 2
        || cosine.len() != sine.len()
        || cosine.len() != rows * d
    {
        return None;
    }
    let angle = |t: usize, j: usize| sine[t * d + j].atan2(cosine[t * d + j]);
    let base = match half {
        1 => 10_000.0,
        _ => {
            let slowest = angle(1, half - 1);
            if slowest <= 0.0 {
                return None;
            }
            slowest.powf(-(d as f32) / (2.0 * (half - 1) as f32))
        }
    };
    // Rounding in an exponent of a few thousandths; bases are round numbers.
    let rounded = base.round();
    let base = if (base - rounded).abs() < 1e-3 * base {
        rounded
    } else {
        base
    };
    let nearest = [10_000.0f32, 500_000.0, 1_000_000.0, 1_000.0, 100.0];
    let base = nearest
        .into_iter()
        .find(|n| (n - base).abs() < 2e-3 * n)
        .unwrap_or(base);
    for t in 0..rows.min(ROWS) {
        for j in 0..d {
            let expected = t as f32 * base.powf(-2.0 * (j % half) as f32 / d as f32);
            let off = (cosine[t * d + j] - expected.cos()).abs()
                + (sine[t * d + j] - expected.sin()).abs();
            if off > 1e-3 {
                return None;
            }
        }
    }
    Some(base)
}
