//! Language models as exporters write them: masks, positions, norms and gates, packed and compared.

use super::draft::{Draft, Rows, attribute};
use super::exported::{BASES, THREE, TOKENS, agrees, lowered_whole};

/// A factor of 0 or 1 a token, `[1, T, 1]`.
fn gate(d: &mut Draft, operator: &str, token: i64, inverted: bool) -> String {
    let (token, axis) = (d.scalar_index(token), d.integers(&[1], &[2]));
    let mut y = d.op(operator, &["ids", &token], &[]);
    if inverted {
        y = d.op("Not", &[&y], &[]);
    }
    let y = d.op("Unsqueeze", &[&y, &axis], &[]);
    d.op("Cast", &[&y], &[attribute("to", 1)])
}

#[test]
fn what_depends_on_tokens_stays() {
    // A factor that follows from a token alone goes into the table.
    for (operator, token, inverted) in [("Equal", 5, false), ("Less", 3, false), ("Equal", 1, true)]
    {
        let mut d = Draft::ids(3, false);
        let x = d.embedding(8, None);
        let factor = gate(&mut d, operator, token, inverted);
        let x = d.op("Mul", &[&x, &factor], &[]);
        let out = d.linear(&x, 8, 3);
        lowered_whole(d, &out, &TOKENS);
    }
    // Behind positions it does not, and neither does one of all tokens together.
    let mut d = Draft::ids(3, false);
    let x = d.embedding(8, Some(24));
    let factor = gate(&mut d, "Equal", 5, true);
    let x = d.op("Mul", &[&x, &factor], &[]);
    let out = d.linear(&x, 8, 3);
    assert!(!agrees(d, &out, &TOKENS, true).is_empty());
    let mut d = Draft::ids(3, false);
    let x = d.embedding(8, None);
    let factor = gate(&mut d, "Less", 3, false);
    let most = d.op("ReduceMax", &[&factor], &[attribute("axes", vec![1])]);
    let x = d.op("Mul", &[&x, &most], &[]);
    let out = d.linear(&x, 8, 3);
    assert!(!agrees(d, &out, &TOKENS, true).is_empty());
}

#[test]
fn a_mask_of_attention_that_depends_on_tokens_stays() {
    let mut d = Draft::ids(3, false);
    let x = d.embedding(8, None);
    let factor = gate(&mut d, "Equal", 1, true);
    let (one, large) = (d.scalar(1.0), d.scalar(-1e4));
    let hidden = d.op("Sub", &[&one, &factor], &[]);
    let hidden = d.op("Mul", &[&hidden, &large], &[]);
    let hidden = d.op("Transpose", &[&hidden], &[attribute("perm", vec![0, 2, 1])]);
    let k = d.op("Transpose", &[&x], &[attribute("perm", vec![0, 2, 1])]);
    let scores = d.op("MatMul", &[&x, &k], &[]);
    let scores = d.op("Add", &[&scores, &hidden], &[]);
    let p = d.op("Softmax", &[&scores], &[attribute("axis", -1)]);
    let y = d.op("MatMul", &[&p, &x], &[]);
    let out = d.linear(&y, 8, 3);
    assert!(!agrees(d, &out, &TOKENS, true).is_empty());
}

#[test]
fn a_recurrent_layer_starts_anew_with_each_sequence() {
    for (operator, gates) in [("GRU", 3), ("LSTM", 4)] {
        let mut d = Draft::ids(3, false);
        let x = d.embedding(8, None);
        let x = d.op("Transpose", &[&x], &[attribute("perm", vec![1, 0, 2])]);
        let (w, r) = (
            d.weights(&[1, gates * 8, 8], 2),
            d.weights(&[1, gates * 8, 8], 2),
        );
        let y = d.op(operator, &[&x, &w, &r], &[attribute("hidden_size", 8)]);
        let axis = d.integers(&[1], &[1]);
        let y = d.op("Squeeze", &[&y, &axis], &[]);
        let y = d.op("Transpose", &[&y], &[attribute("perm", vec![1, 0, 2])]);
        let out = d.linear(&y, 8, 3);
        assert!(!agrees(d, &out, &TOKENS, true).is_empty());
    }
}

#[test]
fn constants_of_booleans_are_kept_for_operators_of_tract() {
    let mut d = Draft::ids(3, false);
    let x = d.embedding(8, None);
    let (one, scale) = (d.scalar_index(1), d.scalar(0.5));
    let known = d.op("Greater", &["ids", &one], &[]);
    // Of type 9, as ONNX numbers them.
    let columns = d.store(9, &[8], vec![1, 0, 1, 1, 0, 0, 1, 1]);
    let axis = d.integers(&[1], &[2]);
    let known = d.op("Unsqueeze", &[&known, &axis], &[]);
    let both = d.op("And", &[&known, &columns], &[]);
    let less = d.op("Mul", &[&x, &scale], &[]);
    let y = d.op("Where", &[&both, &x, &less], &[]);
    let out = d.linear(&y, 8, 3);
    assert!(!agrees(d, &out, &TOKENS, true).is_empty());
}

/// 0, 1, 2 and so on, i64 `[T]`.
fn count_up(d: &mut Draft) -> String {
    let (zero, one, length) = (d.scalar_index(0), d.scalar_index(1), d.length());
    d.op("Range", &[&zero, &length, &one], &[])
}

#[test]
fn a_window_of_attention_is_no_mask_of_padding() {
    // Wider than the few tokens that a mask is first tried on.
    let mut d = Draft::ids(3, false);
    let x = d.embedding(8, None);
    let at = count_up(&mut d);
    let at = d.op("Cast", &[&at], &[attribute("to", 1)]);
    let [across, down] = [0, 1].map(|axis| {
        let axis = d.integers(&[1], &[axis]);
        d.op("Unsqueeze", &[&at, &axis], &[])
    });
    let apart = d.op("Sub", &[&across, &down], &[]);
    let apart = d.op("Abs", &[&apart], &[]);
    let (width, low) = (d.scalar(7.5), d.scalar(-1e9));
    let near = d.op("Less", &[&apart, &width], &[]);
    let k = d.op("Transpose", &[&x], &[attribute("perm", vec![0, 2, 1])]);
    let scores = d.op("MatMul", &[&x, &k], &[]);
    let scores = d.op("Where", &[&near, &scores, &low], &[]);
    let p = d.op("Softmax", &[&scores], &[attribute("axis", -1)]);
    let y = d.op("MatMul", &[&p, &x], &[]);
    let out = d.linear(&y, 8, 3);
    assert!(!agrees(d, &out, &TOKENS, true).is_empty());
}

#[test]
fn positions_that_do_not_count_on_are_no_positions() {
    let mut d = Draft::ids(3, false);
    let x = d.embedding(8, None);
    let (at, most) = (count_up(&mut d), d.scalar_index(9));
    let at = d.op("Min", &[&at, &most], &[]);
    let table = d.weights(&[30, 8], 3);
    let rows = d.op("Gather", &[&table, &at], &[]);
    let x = d.op("Add", &[&x, &rows], &[]);
    let out = d.linear(&x, 8, 3);
    assert!(!agrees(d, &out, &TOKENS, true).is_empty());
}

#[test]
fn positions_that_are_counted_run() {
    // RoBERTa: padding has no position of its own.
    let mut d = Draft::ids(3, false);
    let x = d.embedding(8, None);
    let (padding, axis) = (d.scalar_index(1), d.scalar_index(1));
    let real = d.op("Equal", &["ids", &padding], &[]);
    let real = d.op("Not", &[&real], &[]);
    let real = d.op("Cast", &[&real], &[attribute("to", 7)]);
    let at = d.op("CumSum", &[&real, &axis], &[]);
    let at = d.op("Mul", &[&at, &real], &[]);
    let at = d.op("Add", &[&at, &padding], &[]);
    let table = d.weights(&[30, 8], 3);
    let rows = d.op("Gather", &[&table, &at], &[]);
    let x = d.op("Add", &[&x, &rows], &[]);
    let out = d.linear(&x, 8, 3);
    // tract has no such sum of integers.
    agrees(d, &out, &TOKENS, false);
}

#[test]
fn attention_of_opset_23() {
    let mut d = Draft::ids(3, false).opset(23);
    let x = d.embedding(8, None);
    let heads = [attribute("q_num_heads", 2), attribute("kv_num_heads", 2)];
    let y = d.op("Attention", &[&x, &x, &x], &heads);
    let out = d.linear(&y, 8, 3);
    lowered_whole(d, &out, &TOKENS);
}

#[test]
fn a_root_mean_square_norm_is_a_layer() {
    for parts in [false, true] {
        let mut d = Draft::ids(3, false).opset(23);
        let x = d.embedding(8, None);
        let gamma = d.around(1.0, 8);
        let y = if parts {
            // As PyTorch writes it.
            let (two, axis, epsilon) = (d.scalar(2.0), d.integers(&[1], &[-1]), d.scalar(1e-6));
            let square = d.op("Pow", &[&x, &two], &[]);
            let mean = d.op("ReduceMean", &[&square, &axis], &[]);
            let sum = d.op("Add", &[&mean, &epsilon], &[]);
            let root = d.op("Sqrt", &[&sum], &[]);
            let factor = d.op("Reciprocal", &[&root], &[]);
            let y = d.op("Mul", &[&x, &factor], &[]);
            d.op("Mul", &[&y, &gamma], &[])
        } else {
            d.op("RMSNormalization", &[&x, &gamma], &[])
        };
        let out = d.linear(&y, 8, 3);
        lowered_whole(d, &out, &TOKENS);
    }
}

#[test]
fn a_gate_is_a_product_of_two_layers() {
    // SwiGLU, its two linear layers in one, as a split or as two slices.
    for split in [true, false] {
        let mut d = Draft::ids(3, false);
        let x = d.embedding(8, None);
        let both = d.linear(&x, 8, 32);
        let [a, b] = if split {
            let parts = d.parts("Split", &[&both], &[attribute("axis", -1)], 2);
            [parts[0].clone(), parts[1].clone()]
        } else {
            [[0, 16], [16, 32]].map(|bounds| {
                let [from, to] = bounds.map(|at| d.integers(&[1], &[at]));
                let axis = d.integers(&[1], &[2]);
                d.op("Slice", &[&both, &from, &to, &axis], &[])
            })
        };
        let open = d.op("Sigmoid", &[&a], &[]);
        let a = d.op("Mul", &[&a, &open], &[]);
        let y = d.op("Mul", &[&a, &b], &[]);
        let y = d.linear(&y, 16, 8);
        let x = d.op("Add", &[&x, &y], &[]);
        let out = d.linear(&x, 8, 3);
        lowered_whole(d, &out, &TOKENS);
    }
    // A gated convolution, as of WaveNet.
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let x = d.op("Relu", &[&x], &[]);
    let [a, b] = ["Tanh", "Sigmoid"].map(|function| {
        let y = d.conv(&x, 8, 8, THREE, 1, 1);
        d.op(function, &[&y], &[])
    });
    let y = d.op("Mul", &[&a, &b], &[]);
    let y = d.conv(&y, 8, 8, THREE, 1, 1);
    let x = d.op("Add", &[&x, &y], &[]);
    let out = d.conv(&x, 8, 3, THREE, 1, 1);
    lowered_whole(d, &out, &BASES);
}

/// A row a token without the first and the last, which are special: the file has all of them.
#[test]
fn rows_without_special_tokens() {
    let mut d = Draft::ids(3, false);
    let x = d.embedding(8, None);
    let rows = Rows {
        width: 8,
        heads: 2,
        rotary: false,
        masked: false,
    };
    let x = d.transformer_block(&x, &rows, true, 1);
    let (from, to, axis) = (
        d.integers(&[1], &[1]),
        d.integers(&[1], &[-1]),
        d.integers(&[1], &[1]),
    );
    let x = d.op("Slice", &[&x, &from, &to, &axis], &[]);
    let out = d.linear(&x, 8, 3);
    lowered_whole(d, &out, &TOKENS);
}

/// What `Attention` of opset 23 is given to hide tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hides {
    /// Truth values `[1, 1, 1, T]` of the input `attention_mask`.
    Padding,
    /// The same as a term.
    PaddingByTerm,
    /// Truth values `[1, 1, T, T]`: a real token asks, a real token answers.
    Pairs,
    /// Truth values that follow from the tokens.
    Token,
    /// A term that falls with the distance.
    Distance,
}

#[test]
fn attention_of_opset_23_with_a_mask() {
    use Hides::*;
    for hides in [Padding, PaddingByTerm, Pairs, Token, Distance] {
        let from_input = matches!(hides, Padding | PaddingByTerm | Pairs);
        let mut d = Draft::ids(3, from_input).opset(23);
        let x = d.embedding(8, None);
        let (one, axes) = (d.scalar_index(1), d.integers(&[2], &[1, 2]));
        let real = match hides {
            Distance => count_up(&mut d),
            Token => {
                let is = d.op("Equal", &["ids", &one], &[]);
                d.op("Not", &[&is], &[])
            }
            _ => d.op("Equal", &["attention_mask", &one], &[]),
        };
        let mut mask = match hides {
            Distance => d.op("Cast", &[&real], &[attribute("to", 1)]),
            _ => d.op("Unsqueeze", &[&real, &axes], &[]),
        };
        if hides == PaddingByTerm {
            let (none, low) = (d.scalar(0.0), d.scalar(f32::NEG_INFINITY));
            mask = d.op("Where", &[&mask, &none, &low], &[]);
        }
        if hides == Pairs {
            let axes = d.integers(&[2], &[1, 3]);
            let queries = d.op("Unsqueeze", &[&real, &axes], &[]);
            mask = d.op("And", &[&queries, &mask], &[]);
        }
        if hides == Distance {
            let [across, down] = [0, 1].map(|axis| {
                let axis = d.integers(&[1], &[axis]);
                d.op("Unsqueeze", &[&mask, &axis], &[])
            });
            let (apart, rate) = (d.op("Sub", &[&across, &down], &[]), d.scalar(-0.25));
            let apart = d.op("Abs", &[&apart], &[]);
            mask = d.op("Mul", &[&apart, &rate], &[]);
        }
        let heads = [attribute("q_num_heads", 2), attribute("kv_num_heads", 2)];
        let y = d.op("Attention", &[&x, &x, &x, &mask], &heads);
        let out = d.linear(&y, 8, 3);
        let plain = agrees(d, &out, &TOKENS, true);
        assert_eq!(plain.is_empty(), from_input, "{hides:?}: {plain:?}");
    }
}

/// A packed file takes tokens alone: what stays tract's own reads ones in the place of a mask.
#[test]
fn a_mask_that_no_layer_reads() {
    let mut d = Draft::ids(3, true);
    let x = d.embedding(8, None);
    let axis = d.integers(&[1], &[2]);
    let real = d.op("Unsqueeze", &["attention_mask", &axis], &[]);
    let real = d.op("Cast", &[&real], &[attribute("to", 1)]);
    let odd = d.op("Sin", &[&x], &[]);
    let x = d.op("Mul", &[&odd, &real], &[]);
    let out = d.linear(&x, 8, 3);
    assert!(!agrees(d, &out, &TOKENS, true).is_empty());
}
