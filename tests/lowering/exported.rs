//! What exporters write, packed and compared by `pack` itself with tract's run of the very file.

use super::draft::{Draft, Shape, attribute};
use super::{Terms, sequence};
use std::fs;
use strandline::compile::check::{Check, check};
use strandline::compile::pack::{Packed, pack};
use strandline::model::ModelError;
use strandline::model::manifest::{Link, Precision};
use strandline::{Annotator, CallKind, Options, Strands};

const UINT8: i32 = 2;
const INT8: i32 = 3;

pub const TOKENS: Terms = Terms {
    ids: true,
    columns: 3,
    context: 0,
    tile: 24,
    multiple: 1,
};

pub const BASES: Terms = Terms {
    ids: false,
    columns: 3,
    context: 40,
    tile: 160,
    multiple: 1,
};

/// A convolution of three taps.
pub const THREE: Shape = Shape {
    width: 3,
    dilation: 1,
    before: 1,
};

fn packed(
    file: &[u8],
    terms: &Terms,
    precision: Precision,
    samples: &[Vec<u32>],
) -> Result<Packed, ModelError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draft.onnx");
    fs::write(&path, file).unwrap();
    let manifest = terms.manifest(precision);
    pack(&path, &manifest, samples, Check::Precision)
}

fn samples(terms: &Terms) -> Vec<Vec<u32>> {
    let length = if terms.ids {
        terms.tile
    } else {
        2 * terms.tile
    };
    (0..9)
        .map(|seed| sequence(seed, length, if terms.ids { 9 } else { 5 }))
        .collect()
}

/// Packs in both precisions; gives what stayed tract's own. Each is compared with the file's own
/// graph, where tract can run that.
pub fn agrees(draft: Draft, output: &str, terms: &Terms, original: bool) -> Vec<String> {
    let file = draft.finish(output);
    let mut plain = vec![];
    for precision in [Precision::F32, Precision::Int8] {
        let packed = packed(&file, terms, precision, &samples(terms)).unwrap();
        let agreement = packed.agreement.unwrap();
        assert!(
            agreement.sequences > 5 && agreement.magnitude > 0.0,
            "{agreement}"
        );
        assert_eq!(agreement.rewritten.is_none(), original, "{agreement}");
        plain = packed.plain;
    }
    plain
}

pub fn lowered_whole(draft: Draft, output: &str, terms: &Terms) {
    let plain = agrees(draft, output, terms, true);
    assert!(plain.is_empty(), "{plain:?}");
}

#[test]
fn a_function_is_one_operator() {
    type Write = fn(&mut Draft, &str) -> String;
    let all: [(&str, Write); 19] = [
        ("elu", |d, x| d.op("Elu", &[x], &[attribute("alpha", 0.7)])),
        ("selu", |d, x| d.op("Selu", &[x], &[])),
        ("celu", |d, x| {
            d.op("Celu", &[x], &[attribute("alpha", 0.6)])
        }),
        ("softplus", |d, x| d.op("Softplus", &[x], &[])),
        ("mish", |d, x| d.op("Mish", &[x], &[])),
        ("hard swish", |d, x| d.op("HardSwish", &[x], &[])),
        ("swish of opset 24", |d, x| {
            d.op("Swish", &[x], &[attribute("alpha", 0.4)])
        }),
        ("hard sigmoid", |d, x| {
            d.op("HardSigmoid", &[x], &[attribute("alpha", 0.3)])
        }),
        ("leaky", |d, x| {
            d.op("LeakyRelu", &[x], &[attribute("alpha", 0.1)])
        }),
        ("one slope", |d, x| {
            let slope = d.floats(&[1], &[0.3]);
            d.op("PRelu", &[x, &slope], &[])
        }),
        ("a slope a channel", |d, x| {
            let slopes = [0.3, -0.2, 0.0, 1.0, 0.25, 0.1, 0.7, 0.5];
            let slope = d.floats(&[8, 1], &slopes);
            d.op("PRelu", &[x, &slope], &[])
        }),
        ("relu 6", |d, x| {
            let (low, high) = (d.scalar(0.0), d.scalar(0.6));
            d.op("Clip", &[x, &low, &high], &[])
        }),
        ("hard tanh", |d, x| {
            let (low, high) = (d.scalar(-0.5), d.scalar(0.4));
            d.op("Clip", &[x, &low, &high], &[])
        }),
        ("silu", |d, x| {
            let y = d.op("Sigmoid", &[x], &[]);
            d.op("Mul", &[x, &y], &[])
        }),
        ("swish", |d, x| {
            let rate = d.scalar(1.702);
            let y = d.op("Mul", &[&rate, x], &[]);
            let y = d.op("Sigmoid", &[&y], &[]);
            d.op("Mul", &[&y, x], &[])
        }),
        ("mish in parts", |d, x| {
            let y = d.op("Softplus", &[x], &[]);
            let y = d.op("Tanh", &[&y], &[]);
            d.op("Mul", &[x, &y], &[])
        }),
        ("softplus in parts", |d, x| {
            let one = d.scalar(1.0);
            let y = d.op("Exp", &[x], &[]);
            let y = d.op("Add", &[&y, &one], &[]);
            d.op("Log", &[&y], &[])
        }),
        ("softplus of PyTorch", |d, x| {
            let (rate, one, far) = (d.scalar(3.0), d.scalar(1.0), d.scalar(20.0));
            let of = d.op("Mul", &[x, &rate], &[]);
            let y = d.op("Exp", &[&of], &[]);
            let y = d.op("Add", &[&y, &one], &[]);
            let y = d.op("Log", &[&y], &[]);
            let y = d.op("Div", &[&y, &rate], &[]);
            let large = d.op("Greater", &[&of, &far], &[]);
            d.op("Where", &[&large, x, &y], &[])
        }),
        ("GELU of a product", |d, x| {
            let (two, half, one) = (d.scalar(2.0), d.scalar(0.5), d.scalar(1.0));
            let root = d.scalar(std::f32::consts::FRAC_1_SQRT_2);
            let x = d.op("Mul", &[x, &two], &[]);
            let y = d.op("Mul", &[&x, &root], &[]);
            let y = d.op("Erf", &[&y], &[]);
            let y = d.op("Add", &[&y, &one], &[]);
            let y = d.op("Mul", &[&half, &y], &[]);
            d.op("Mul", &[&x, &y], &[])
        }),
    ];
    for (name, write) in all {
        let mut d = Draft::bases(7);
        let x = d.conv("x", 4, 8, THREE, 1, 1);
        let x = write(&mut d, &x);
        let out = d.conv(&x, 8, 3, THREE, 1, 1);
        println!("{name}");
        lowered_whole(d, &out, &BASES);
    }
}

#[test]
fn what_no_layer_computes_gets_no_rounded_input() {
    let mut d = Draft::bases(7);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let (shift, small) = (d.scalar(1.5), d.scalar(1e-3));
    // Values that int8 would round to a few steps, between two operators that it has not.
    let y = d.op("Abs", &[&x], &[]);
    let y = d.op("Mul", &[&y, &small], &[]);
    let y = d.op("Add", &[&y, &shift], &[]);
    let y = d.op("Log", &[&y], &[]);
    let y = d.op("Sub", &[&y, &shift], &[]);
    let y = d.op("Exp", &[&y], &[]);
    let out = d.conv(&y, 8, 3, THREE, 1, 1);
    let plain = agrees(d, &out, &BASES, true);
    assert_eq!(plain.len(), 3, "{plain:?}");
}

#[test]
fn what_tract_alone_runs_is_written_or_named() {
    let mut d = Draft::ids(3, false).opset(23);
    let x = d.embedding(8, None);
    let heads = [("q_num_heads", 2), ("kv_num_heads", 2), ("is_causal", 1)];
    let heads = heads.map(|(name, value)| attribute(name, value));
    let y = d.op("Attention", &[&x, &x, &x], &heads);
    let out = d.linear(&y, 8, 3);
    assert!(!agrees(d, &out, &TOKENS, true).is_empty());
    // A remainder of floats has no form in a file.
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let by = d.scalar(0.75);
    let x = d.op("Mod", &[&x, &by], &[attribute("fmod", 1)]);
    let out = d.conv(&x, 8, 3, THREE, 1, 1);
    let refused = packed(&d.finish(&out), &BASES, Precision::F32, &samples(&BASES));
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("no way to write it to a file"),
        "{refused}"
    );
}

#[test]
fn a_soft_max_between_rounded_values_is_compared_as_the_file_says() {
    let mut d = Draft::bases(3);
    let mut y = d.conv("x", 4, 3, THREE, 1, 1);
    // Of type 2, bytes without a sign, as ONNX numbers them.
    for (step, zero, softmax) in [(0.05, 128, true), (1.0 / 256.0, 0, false)] {
        let (step, zero) = (d.scalar(step), d.store(2, &[], vec![zero]));
        let rounded = d.op("QuantizeLinear", &[&y, &step, &zero], &[]);
        y = d.op("DequantizeLinear", &[&rounded, &step, &zero], &[]);
        if softmax {
            y = d.op("Softmax", &[&y], &[attribute("axis", 1)]);
        }
    }
    lowered_whole(d, &y, &BASES);
}

#[test]
fn outputs_that_are_cut_and_convolutions_without_padding() {
    let open = |d: &mut Draft, x: &str, pads: [i64; 2], width: usize| {
        let weight = d.weights(&[8, 8, width], 8 * width);
        d.op("Conv", &[x, &weight], &[attribute("pads", pads.to_vec())])
    };
    let cut = |d: &mut Draft, x: &str, from: i64, to: i64| {
        let [from, to, axis] = [from, to, 2].map(|at| d.integers(&[1], &[at]));
        d.op("Slice", &[x, &from, &to, &axis], &[])
    };
    // Cut behind the last layer.
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 3, THREE, 1, 1);
    let out = cut(&mut d, &x, 20, -19);
    lowered_whole(d, &out, &BASES);
    // Sequences of little more than a tile: the first two tiles meet near what is cut.
    let terms = Terms {
        context: 6,
        tile: 256,
        ..BASES
    };
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 3, THREE, 1, 1);
    let out = cut(&mut d, &x, 5, -5);
    let sequences: Vec<Vec<u32>> = (0..4).map(|seed| sequence(seed, 300, 5)).collect();
    packed(&d.finish(&out), &terms, Precision::F32, &sequences).unwrap();
    // A residual that is cut as the convolutions beside it shorten theirs.
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let y = open(&mut d, &x, [0, 0], 5);
    let y = d.op("Relu", &[&y], &[]);
    let y = open(&mut d, &y, [0, 0], 3);
    let x = cut(&mut d, &x, 3, -3);
    let x = d.op("Add", &[&x, &y], &[]);
    let x = open(&mut d, &x, [0, 0], 4);
    let out = d.conv(
        &x,
        8,
        3,
        Shape {
            width: 1,
            dilation: 1,
            before: 0,
        },
        1,
        1,
    );
    lowered_whole(d, &out, &BASES);
    // Padding of its own, as much on one side.
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let pads = d.integers(&[6], &[0, 0, 4, 0, 0, 0]);
    let x = d.op("Pad", &[&x, &pads], &[]);
    let x = open(&mut d, &x, [0, 0], 5);
    let out = d.conv(&x, 8, 3, THREE, 1, 1);
    lowered_whole(d, &out, &BASES);
    // Zeros that the first convolution does not use up become its bias.
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let pads = d.integers(&[6], &[0, 0, 4, 0, 0, 4]);
    let x = d.op("Pad", &[&x, &pads], &[]);
    let (weight, bias) = (d.weights(&[8, 8, 5], 40), d.around(0.5, 8));
    let x = d.op("Conv", &[&x, &weight, &bias], &[]);
    let x = d.op("Relu", &[&x], &[]);
    let x = open(&mut d, &x, [0, 0], 5);
    let out = d.conv(&x, 8, 3, THREE, 1, 1);
    assert!(!agrees(d, &out, &BASES, true).is_empty());
    // A convolution that pads what was cut sees zeros where the network had values.
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let x = cut(&mut d, &x, 3, -3);
    let out = d.conv(&x, 8, 3, THREE, 1, 1);
    let refused = packed(&d.finish(&out), &BASES, Precision::F32, &samples(&BASES));
    assert!(refused.is_err());
}

#[test]
fn channels_that_are_sliced_or_split() {
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let x = d.batch_norm(&x, 8);
    let x = d.op("Relu", &[&x], &[]);
    let [from, to, axis] = [2, 5, 1].map(|at| d.integers(&[1], &[at]));
    let out = d.op("Slice", &[&x, &from, &to, &axis], &[]);
    lowered_whole(d, &out, &BASES);
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let sizes = d.integers(&[2], &[4, 4]);
    let parts = d.parts("Split", &[&x, &sizes], &[attribute("axis", 1)], 2);
    let x = d.op("Add", &[&parts[0], &parts[1]], &[]);
    let out = d.conv(&x, 4, 3, THREE, 1, 1);
    lowered_whole(d, &out, &BASES);
}

#[test]
fn bases_with_channels_last() {
    // Cast first, and read beside their transposition.
    let mut d = Draft::rows(3);
    let cast = d.op("Cast", &["x"], &[attribute("to", 1)]);
    let x = d.op("Transpose", &[&cast], &[attribute("perm", vec![0, 2, 1])]);
    let x = d.conv(&x, 4, 3, THREE, 1, 1);
    let x = d.op("Transpose", &[&x], &[attribute("perm", vec![0, 2, 1])]);
    let known = d.op("ReduceMax", &["x"], &[attribute("axes", vec![2])]);
    let out = d.op("Mul", &[&x, &known], &[]);
    agrees(d, &out, &BASES, true);
}

#[test]
fn bytes_of_a_table_are_no_values() {
    let mut d = Draft::ids(3, false);
    let table: Vec<u8> = (0..9 * 8).map(|i| (i * 37 % 256) as u8).collect();
    let table = d.store(UINT8, &[9, 8], table);
    let weight: Vec<u8> = (0..8 * 3).map(|i| (i * 53 % 251) as u8).collect();
    let weight = d.store(INT8, &[8, 3], weight);
    let [small, scale, wide] = [0.004, 0.01, 0.03].map(|scale| d.scalar(scale));
    let middle = d.store(UINT8, &[], vec![128]);
    let zero = d.store(INT8, &[], vec![0]);
    let rows = d.op("Gather", &[&table, "ids"], &[]);
    let inputs = [
        &rows, &small, &middle, &weight, &scale, &zero, &wide, &middle,
    ];
    let product = d.op("QLinearMatMul", &inputs.map(String::as_str), &[]);
    let out = d.op("DequantizeLinear", &[&product, &wide, &middle], &[]);
    lowered_whole(d, &out, &TOKENS);
}

/// As ONNX Runtime's optimiser saves a dynamically quantised file: the scale of the table times
/// that of the weights is one constant, and another reader of the same rows has the table's own.
#[test]
fn scales_that_an_optimiser_multiplied() {
    for second_reader in [false, true] {
        let mut d = Draft::ids(3, false);
        let table: Vec<u8> = (0..9 * 8).map(|i| (i * 37 % 256) as u8).collect();
        let table = d.store(UINT8, &[9, 8], table);
        let weight: Vec<u8> = (0..8 * 3).map(|i| (i * 53 % 251) as u8).collect();
        let weight = d.store(INT8, &[8, 3], weight);
        let [small, both] = [0.004, 0.00004].map(|scale| d.scalar(scale));
        let middle = d.store(UINT8, &[], vec![128]);
        let zero = d.store(INT8, &[], vec![0]);
        let rows = d.op("Gather", &[&table, "ids"], &[]);
        let product = d.op("MatMulInteger", &[&rows, &weight, &middle, &zero], &[]);
        let product = d.op("Cast", &[&product], &[attribute("to", 1)]);
        let mut out = d.op("Mul", &[&product, &both], &[]);
        if second_reader {
            let rows = d.op("DequantizeLinear", &[&rows, &small, &middle], &[]);
            let rows = d.linear(&rows, 8, 3);
            out = d.op("Add", &[&out, &rows], &[]);
        }
        lowered_whole(d, &out, &TOKENS);
    }
}

#[test]
fn weights_of_four_bits_are_read() {
    let mut d = Draft::ids(3, false);
    let x = d.embedding(32, None);
    let bytes: Vec<u8> = (0..3 * 16).map(|i| (i * 29 % 256) as u8).collect();
    let weight = d.store(UINT8, &[3, 2, 8], bytes);
    let scales = d.around(0.5, 6);
    let attributes = [
        attribute("K", 32),
        attribute("N", 3),
        attribute("bits", 4),
        attribute("block_size", 16),
    ];
    let out = d.op("MatMulNBits", &[&x, &weight, &scales], &attributes);
    lowered_whole(d, &out, &TOKENS);
}

#[test]
fn another_network_is_no_match() {
    let network = |seed| {
        let mut d = Draft::bases(seed);
        let x = d.conv("x", 4, 8, THREE, 1, 1);
        let x = d.op("Relu", &[&x], &[]);
        let out = d.conv(&x, 8, 3, THREE, 1, 1);
        d.finish(&out)
    };
    let own = packed(&network(3), &BASES, Precision::Int8, &samples(&BASES)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.onnx");
    fs::write(&other, network(4)).unwrap();
    let watch = |_: &str, _, _| ();
    let compare = |least| check(least, &own.model, &other, &samples(&BASES), 0, &watch);
    let refused = compare(Check::Precision).unwrap_err().to_string();
    assert!(refused.contains("would give other numbers"), "{refused}");
    assert!(compare(Check::Cosine(-1.0)).unwrap().is_some());
    assert_eq!(compare(Check::Skip).unwrap(), None);
    assert_eq!(own.model.manifest().checked, None);
}

#[test]
fn sequences_that_say_nothing_calibrate_nothing() {
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let out = d.conv(&x, 8, 3, THREE, 1, 1);
    let file = d.finish(&out);
    for letters in [vec![4; 400], vec![2; 400], [2, 4].repeat(200)] {
        let refused = packed(&file, &BASES, Precision::Int8, &[letters]).unwrap_err();
        assert!(refused.to_string().contains("calibrate"), "{refused}");
    }
}

#[test]
fn what_reads_all_positions_is_refused_by_name() {
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let (scale, bias) = (d.around(1.0, 8), d.around(0.0, 8));
    let x = d.op("InstanceNormalization", &[&x, &scale, &bias], &[]);
    let out = d.conv(&x, 8, 3, THREE, 1, 1);
    let refused = packed(&d.finish(&out), &BASES, Precision::F32, &samples(&BASES));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("reads all positions at once"), "{refused}");
    // "Squeeze and excite": a factor for each channel from all positions.
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let mean = d.op("GlobalAveragePool", &[&x], &[]);
    let factor = d.op("Sigmoid", &[&mean], &[]);
    let x = d.op("Mul", &[&x, &factor], &[]);
    let out = d.conv(&x, 8, 3, THREE, 1, 1);
    let refused = packed(&d.finish(&out), &BASES, Precision::Int8, &samples(&BASES));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("reads all positions"), "{refused}");
}

#[test]
fn operators_that_are_not_known_are_named() {
    let mut d = Draft::bases(3);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let x = d.op("MadeUp", &[&x], &[]);
    let out = d.conv(&x, 8, 3, THREE, 1, 1);
    let refused = packed(&d.finish(&out), &BASES, Precision::F32, &samples(&BASES));
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("madeup_1 (MadeUp): no such operator"),
        "{refused}"
    );
}

#[test]
fn a_soft_max_of_three_classes_calls_two() {
    let mut d = Draft::bases(9);
    let x = d.conv("x", 4, 8, THREE, 1, 1);
    let x = d.op("Relu", &[&x], &[]);
    let x = d.conv(&x, 8, 3, THREE, 1, 1);
    let out = d.op("Softmax", &[&x], &[attribute("axis", 1)]);
    let mut manifest = BASES.manifest(Precision::Int8);
    manifest.task = "splice".to_string();
    for (output, kind) in manifest
        .outputs
        .iter_mut()
        .zip([None, Some("acceptor"), Some("donor")])
    {
        output.kind = kind.map(str::to_string);
        output.link = Link::Probability;
        (output.threshold, output.separation, output.base_rate) = (0.4, 2, 0.01);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draft.onnx");
    fs::write(&path, d.finish(&out)).unwrap();
    let packed = pack(&path, &manifest, &samples(&BASES), Check::Precision).unwrap();
    let codes: Vec<u8> = sequence(77, 700, 4)
        .iter()
        .map(|&code| code as u8)
        .collect();
    let mut runner = packed.model.spawn().unwrap();
    let rows = runner.run(&codes).unwrap().to_vec();
    let options = Options {
        strands: Strands::Forward,
        ..Options::default()
    };
    let annotator = Annotator::new(vec![packed.model], options).unwrap();
    let (mut read, mut calls) = (annotator.read(), vec![]);
    read.push_codes(&codes, &mut calls).unwrap();
    read.finish(&mut calls).unwrap();
    let mut expected = vec![];
    for (column, kind) in [(1, CallKind::Acceptor), (2, CallKind::Donor)] {
        let at = |row: usize| rows[3 * row + column];
        for row in 0..codes.len() {
            let near = row.saturating_sub(2)..(row + 3).min(codes.len());
            let peak = near
                .into_iter()
                .all(|other| at(other) < at(row) || (other >= row && at(other) <= at(row)));
            if peak && at(row) >= 0.4 {
                expected.push((row as u64, kind, at(row).to_bits()));
            }
        }
    }
    expected.sort_unstable();
    let found: Vec<_> = calls
        .iter()
        .map(|c| (c.start, c.kind, c.score.to_bits()))
        .collect();
    assert!(found.len() > 10, "{found:?}");
    assert_eq!(found, expected);
}
