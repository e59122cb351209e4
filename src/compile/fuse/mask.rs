//! Which tokens are real: masks of attention and of pools, understood by what they compute for a
//! sequence with and without padding.

use super::axes;
use super::dim::Dim;
use super::meaning::Meaning;
use super::net::Net;
use super::node::{PREFIX, Value, label, node, with};
use super::probe::{self, as_input};
use super::view::{Atom, View};
use tract_nnef::internal::{Tensor, TractResult};
use tract_onnx::pb::NodeProto;

/// Tokens of the sequences that masks are tried on, and the one that is padding.
const ROWS: usize = 5;
const PADDED: usize = 3;

/// Longer ones, on which a window shows that hides nothing of a few tokens.
const LONG: [usize; 2] = [67, 1031];

/// The tokens that a mask lets through.
#[derive(Debug, Clone, PartialEq)]
pub enum Tokens {
    /// All, for a sequence without padding.
    All,
    /// Those where a graph input has this value.
    Mask {
        /// The input.
        input: String,
        /// The value of a real token.
        real: i64,
    },
}

/// A term that is added to scores: 0 for real tokens, hugely negative for others.
pub fn additive(net: &Net, name: &str) -> Result<Tokens, String> {
    tokens(net, name, |x| match x {
        0.0 => Some(true),
        x if x <= -1e3 => Some(false),
        _ => None,
    })
}

/// A condition under which scores are kept (or, without `keeps`, replaced).
pub fn condition(net: &Net, name: &str, keeps: bool) -> Result<Tokens, String> {
    tokens(net, name, |x| Some((x != 0.0) == keeps))
}

fn tokens(net: &Net, name: &str, real: impl Fn(f32) -> Option<bool>) -> Result<Tokens, String> {
    let inputs = net.sources(name);
    let meaning = |input: &String| {
        net.meanings
            .iter()
            .find(|(n, _)| n == input)
            .map(|(_, m)| *m)
    };
    // What a few sequences show would prove nothing of others.
    if !net.is_free_of(name, &Meaning::CONTENT) {
        return Err(format!("{name} depends on the bases or tokens"));
    }
    // One answer a token, whatever the query; nobody asks what padding reads.
    let read = |feeds: &[(String, Tensor)], padded: bool| -> Result<Vec<bool>, String> {
        let (shape, values) =
            probe::floats(net, name, feeds).map_err(|e| format!("{name}: {e:#}"))?;
        let rows = shape.last().copied().unwrap_or(1);
        let all: Option<Vec<bool>> = values.iter().map(|&x| real(x)).collect();
        let all = all.ok_or_else(|| format!("{name} is no mask"))?;
        let by_query = rows > 0 && shape.len() > 1 && shape[shape.len() - 2] == rows;
        let asks = |query: &usize| !(padded && by_query && query % rows == PADDED);
        let mut queries = all.chunks(rows.max(1)).enumerate();
        if queries.any(|(query, tokens)| asks(&query) && tokens != &all[..rows]) {
            return Err(format!("{name} masks by position"));
        }
        Ok(all.get(..rows).unwrap_or(&all).to_vec())
    };
    // A table of positions may end before the longest.
    for rows in LONG {
        match read(&net.feeds(rows), false) {
            Ok(all) if all.iter().all(|&r| r) => {}
            Ok(_) => return Err(format!("{name} hides tokens of a sequence of {rows}")),
            Err(reason) if reason.contains("masks by position") => return Err(reason),
            Err(_) => break,
        }
    }
    let mask = inputs.iter().find(|i| meaning(i) == Some(Meaning::Mask));
    let Some(mask) = mask else {
        let plain = read(&net.feeds(ROWS), false)?;
        return if plain.iter().all(|&r| r) {
            Ok(Tokens::All)
        } else {
            Err(format!("{name} hides tokens of a sequence without padding"))
        };
    };
    for value in [1, 0] {
        let mut values = [value; ROWS];
        let feeds = |values: &[i64]| -> TractResult<Vec<(String, Tensor)>> {
            let mut feeds = net.feeds(ROWS);
            for (name, tensor) in &mut feeds {
                if name == mask {
                    *tensor = as_input(values, tensor.datum_type())?;
                }
            }
            Ok(feeds)
        };
        let run =
            |values: &[i64], padded: bool| read(&feeds(values).map_err(|e| e.to_string())?, padded);
        let Ok(whole) = run(&values, false) else {
            continue;
        };
        values[PADDED] = 1 - value;
        let Ok(part) = run(&values, true) else {
            continue;
        };
        let expected = |rows: &[bool]| rows.iter().enumerate().all(|(t, &r)| r == (t != PADDED));
        // Calibrated without padding, a quantised file may have lost its mask.
        if whole.iter().all(|&r| r) && part.iter().all(|&r| r) {
            return Ok(Tokens::All);
        }
        if whole.iter().all(|&r| r) && part.len() == ROWS && expected(&part) {
            return Ok(Tokens::Mask {
                input: mask.clone(),
                real: value,
            });
        }
    }
    Err(format!("{name} is no mask of tokens by {mask}"))
}

/// `sum(x · mask) / sum(mask)`, the mean over real tokens.
pub fn masked_mean(net: &mut Net, at: usize) -> Option<Vec<NodeProto>> {
    let op = net.nodes[at].clone();
    if op.op_type != "Div" {
        return None;
    }
    let sum = net.producer_of(op.input.first()?, "ReduceSum")?.clone();
    let rank = net.rank(&sum.input[0])?;
    let over = axes::axes(net, &sum)?;
    let over = over
        .iter()
        .map(|&a| axes::axis(a, rank))
        .collect::<Option<Vec<usize>>>()?;
    let product = net.producer_of(&sum.input[0], "Mul")?.clone();
    for (x, m) in [(0, 1), (1, 0)] {
        let Some(view) = View::trace(net, &product.input[x]) else {
            continue;
        };
        let rows = over.len() == 1 && view.axes.get(over[0]).is_some_and(|a| a == &[Atom::Row]);
        if !view.is_whole() || !rows || view.channels_first {
            continue;
        }
        let only_mask = |name: &str| {
            let inputs = net.sources(name);
            let others = [Meaning::Types, Meaning::Positions];
            let free = net.is_free_of(name, &Meaning::CONTENT) && net.is_free_of(name, &others);
            inputs.len() == 1 && free
        };
        if !only_mask(&product.input[m])
            || net.sources(&op.input[1]) != net.sources(&product.input[m])
        {
            continue;
        }
        let tokens = mask_over(net, &product.input[m], over[0])?;
        let (input, real) = match tokens {
            Tokens::Mask { input, real } => (input, real),
            Tokens::All => continue,
        };
        // The divisor counts the same tokens.
        let (_, count) = probe::floats(
            net,
            &op.input[1],
            &net.feeds_with(ROWS, &input, &[real; ROWS]),
        )
        .ok()?;
        let mut values = [real; ROWS];
        values[PADDED] = 1 - real;
        let (_, fewer) =
            probe::floats(net, &op.input[1], &net.feeds_with(ROWS, &input, &values)).ok()?;
        let is = |values: &[f32], n: usize| values.iter().all(|v| (v - n as f32).abs() < 1e-3);
        if !is(&count, ROWS) || !is(&fewer, ROWS - 1) {
            return None;
        }
        let out = &op.output[0];
        let shape = net.shape(out)?;
        let hidden = format!("{out}.plain");
        let made = node(
            &format!("{PREFIX}Pool"),
            label(&op),
            &[&view.source, &input],
            &[&hidden],
        );
        let made = with(made, "kind", Value::Text("mean".into()));
        let made = with(made, "axis", Value::Int(1));
        let made = with(made, "real", Value::Int(real));
        let sizes: Vec<i64> = shape.into_iter().map(Dim::fixed).collect::<Option<_>>()?;
        let target = net.add_integers(format!("{out}.shape"), &sizes);
        return Some(vec![
            made,
            node("Reshape", out, &[&hidden, &target], &[out]),
        ]);
    }
    None
}

/// A factor along another axis than the last.
fn mask_over(net: &Net, name: &str, along: usize) -> Option<Tokens> {
    let rank = net.rank(name)?;
    let columns = net
        .shape(name)?
        .get(along + 1..)
        .map(|s| s.iter().try_fold(1, |p, d| Some(p * d.size()?)))??;
    let inputs = net.sources(name);
    let input = inputs.first()?;
    let even = |rows: usize| {
        let all = net.feeds_with(rows, input, &vec![1; rows]);
        probe::floats(net, name, &all).is_ok_and(|(_, all)| all.windows(2).all(|w| w[0] == w[1]))
    };
    if net.rows.size().is_none() && !LONG.into_iter().all(even) {
        return None;
    }
    for real in [1, 0] {
        let run =
            |values: &[i64]| probe::floats(net, name, &net.feeds_with(ROWS, input, values)).ok();
        let mut values = [real; ROWS];
        let (_, whole) = run(&values)?;
        values[PADDED] = 1 - real;
        let (_, part) = run(&values)?;
        let expected = part
            .iter()
            .enumerate()
            .all(|(i, &x)| x == f32::from(u8::from(i / columns.max(1) % ROWS != PADDED)));
        if rank > along && whole.iter().all(|&x| x == 1.0) && expected {
            return Some(Tokens::Mask {
                input: input.clone(),
                real,
            });
        }
    }
    None
}
