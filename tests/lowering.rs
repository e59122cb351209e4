//! Every pattern that is lowered, over random shapes: against tract's own float operators on the
//! very ONNX graph, in tiles, on every instruction set, on several threads.

#[path = "lowering/draft.rs"]
mod draft;
#[path = "lowering/exported.rs"]
mod exported;
#[path = "lowering/language.rs"]
mod language;
#[path = "lowering/stated.rs"]
mod stated;
#[path = "lowering/table.rs"]
mod table;
#[path = "lowering/tiers.rs"]
mod tiers;

use draft::{Draft, Rows, Shape, attribute};
use proptest::prelude::*;
use std::path::Path;
use strandline::compile::check::Check;
use strandline::compile::pack::{Packed, pack};
use strandline::kernels::Isa;
use strandline::model::file::ModelFile;
use strandline::model::manifest::{Manifest, Precision};
use strandline::model::map::Bytes;
use strandline::model::{Model, Parallel};
use tract_onnx::prelude::*;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// What a test says of its network beside the graph.
#[derive(Clone, Copy)]
struct Terms {
    ids: bool,
    columns: usize,
    context: usize,
    tile: usize,
    multiple: usize,
}

impl Terms {
    fn manifest(&self, precision: Precision) -> Manifest {
        let mut text = format!(
            "name = \"draft\"\nversion = \"1\"\ntask = \"raw\"\ndescription = \"\"\n\
             alphabet = \"ACGT\"\n\
             tokeniser = \"{}\"\nstride = 1\nlicence = \"\"\ntile = {}\nmultiple = {}\n\
             context = {{ left = {context}, right = {context} }}\n\
             training = {{ data = \"\", split = \"\", recipe = \"\" }}\n",
            if self.ids { "ids" } else { "one-hot" },
            self.tile,
            self.multiple,
            context = self.context,
        );
        for column in 0..self.columns {
            text += &format!(
                "[[outputs]]\nname = \"c{column}\"\nmeaning = \"\"\nlink = \"identity\"\n"
            );
        }
        let mut manifest = Manifest::from_toml(&text).unwrap();
        manifest.precision = precision;
        manifest
    }
}

/// A sequence of codes or ids, the same for a seed.
fn sequence(seed: u32, length: usize, most: u32) -> Vec<u32> {
    let mut state = u64::from(seed) * 2 + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u32 % most
    };
    (0..length).map(|_| next()).collect()
}

/// The graph as tract reads it, run on one sequence.
fn float(path: &Path, terms: &Terms, sequence: &[u32]) -> Vec<f32> {
    let mut model = tract_onnx::onnx().model_for_path(path).unwrap();
    let length = sequence.len();
    let inputs = model.input_outlets().unwrap().len();
    let mut values: TVec<TValue> = tvec!();
    for input in 0..inputs {
        let tensor = if terms.ids {
            // A second input is a mask of real tokens.
            let ids = sequence
                .iter()
                .map(|&id| if input == 0 { i64::from(id) } else { 1 });
            tensor1(&ids.collect::<Vec<i64>>())
                .into_shape(&[1, length])
                .unwrap()
        } else {
            let mut bases = vec![0f32; 4 * length];
            for (t, &code) in sequence.iter().enumerate().filter(|(_, code)| **code < 4) {
                bases[code as usize * length + t] = 1.0;
            }
            tensor1(&bases).into_shape(&[1, 4, length]).unwrap()
        };
        let fact = tensor.datum_type().fact(tensor.shape());
        model.set_input_fact(input, fact.into()).unwrap();
        values.push(tensor.into());
    }
    let plan = model.into_optimized().unwrap().into_runnable().unwrap();
    let output = plan.run(values).unwrap().remove(0);
    let shape = output.shape().to_vec();
    let values = output
        .try_as_plain_ram()
        .unwrap()
        .as_slice::<f32>()
        .unwrap();
    if shape.len() == 3 && shape[1] == terms.columns && !terms.ids {
        let at = |i: usize| values[i % shape[1] * shape[2] + i / shape[1]];
        return (0..values.len()).map(at).collect();
    }
    values.to_vec()
}

fn run(runner: &mut strandline::model::Runner, ids: bool, sequence: &[u32]) -> Vec<f32> {
    if ids {
        runner.run_ids(sequence).unwrap().to_vec()
    } else {
        let codes: Vec<u8> = sequence.iter().map(|&code| code as u8).collect();
        runner.run(&codes).unwrap().to_vec()
    }
}

fn packed(path: &Path, terms: &Terms, precision: Precision) -> Packed {
    let samples: Vec<Vec<u32>> = (0..12)
        .map(|seed| sequence(1000 + seed, terms.length(), terms.most()))
        .collect();
    pack(path, &terms.manifest(precision), &samples, Check::Skip).unwrap()
}

impl Terms {
    /// Codes are A, C, G, T and "no base".
    fn most(&self) -> u32 {
        if self.ids { 9 } else { 5 }
    }

    /// Of a calibration sample: nearly a tile.
    fn length(&self) -> usize {
        if self.ids {
            self.tile
        } else {
            40 * self.multiple.max(4)
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-30)
}

/// Packs a graph and compares: float precision and int8 with tract, tiles with one large tile,
/// instruction sets with each other, threads with one. Names of operators that stay tract's begin
/// with `plain`.
fn check(draft: Draft, output: &str, terms: Terms, lengths: &[usize], plain: &str, least: f64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draft.onnx");
    std::fs::write(&path, draft.finish(output)).unwrap();
    let exact = packed(&path, &terms, Precision::F32);
    let int8 = packed(&path, &terms, Precision::Int8);
    for packed in [&exact, &int8] {
        let listed = &packed.plain;
        assert_eq!(listed.is_empty(), plain.is_empty(), "{listed:?}");
        assert!(
            listed.iter().all(|name| name.starts_with(plain)),
            "{listed:?}"
        );
    }
    let mut exact_runner = exact.model.spawn().unwrap();
    let mut runner = int8.model.spawn().unwrap();
    let whole = Terms {
        tile: terms.tile * 8,
        ..terms
    };
    let whole = (!terms.ids).then(|| packed(&path, &whole, Precision::Int8));
    let mut whole_runner = whole.map(|whole| whole.model.spawn().unwrap());
    let others: Vec<(Isa, Model)> = Isa::available()
        .into_iter()
        .map(|isa| {
            let bytes = Bytes::copy_of(&int8.bytes).unwrap();
            let file = ModelFile::parse(bytes, "draft").unwrap();
            (isa, Model::build_on(file, isa).unwrap())
        })
        .collect();
    let (mut all, mut all_expected) = (vec![], vec![]);
    for (number, &length) in lengths.iter().enumerate() {
        let sequence = sequence(number as u32, length, terms.most());
        let expected = float(&path, &terms, &sequence);
        let found = run(&mut exact_runner, terms.ids, &sequence);
        assert_eq!(found.len(), expected.len());
        let top = expected.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
        for (at, (a, b)) in found.iter().zip(&expected).enumerate() {
            assert!(
                (a - b).abs() <= 1e-4 * top,
                "length {length}, value {at}: {a} for {b}, of {top}"
            );
        }
        let found = run(&mut runner, terms.ids, &sequence);
        if let Some(whole) = &mut whole_runner {
            assert_eq!(
                run(whole, false, &sequence),
                found,
                "in tiles, length {length}"
            );
        }
        for (isa, model) in &others {
            let on = run(&mut model.spawn().unwrap(), terms.ids, &sequence);
            assert!(on == found, "{isa}, length {length}");
        }
        let rows = length > 1 && found.len() == length * terms.columns;
        if !terms.ids && rows && terms.tile > 2 * terms.context + terms.multiple {
            let codes: Vec<u8> = sequence.iter().map(|&code| code as u8).collect();
            for threads in 1..=3 {
                let mut parallel = Parallel::new(&int8.model, threads).unwrap();
                assert!(
                    parallel.run(&codes).unwrap() == found,
                    "{threads} threads, length {length}"
                );
            }
        }
        all.extend(found);
        all_expected.extend(expected);
    }
    let cosine = cosine(&all, &all_expected);
    assert!(cosine >= least, "cosine {cosine}");
}

/// Lengths of one position to more than a tile, in whole multiples.
fn lengths(terms: &Terms) -> Vec<usize> {
    let m = terms.multiple;
    let mut all: Vec<usize> = (1..=4).map(|n| n * m).collect();
    let tile = terms.tile;
    all.extend([
        tile / 2 / m * m + m,
        tile - m,
        tile,
        tile + m,
        2 * tile + 3 * m,
    ]);
    all
}

fn shape() -> impl Strategy<Value = Shape> {
    (1usize..6, 1usize..4, 0usize..6).prop_map(|(width, dilation, before)| Shape {
        width,
        dilation,
        before: before.min(width - 1),
    })
}

impl Shape {
    fn reach(&self) -> usize {
        (self.width - 1) * self.dilation
    }
}

fn terms(columns: usize, context: usize, multiple: usize) -> Terms {
    let context = context.next_multiple_of(multiple);
    Terms {
        ids: false,
        columns,
        context,
        tile: (2 * context + 40).next_multiple_of(multiple),
        multiple,
    }
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn convolutions_with_dilation_groups_and_padding(
        seed in 1u32..9999,
        a in shape(),
        b in shape(),
        hidden in 1usize..10,
        group in 1usize..4,
        columns in 1usize..9,
        function in 0usize..5,
    ) {
        let mut d = Draft::bases(seed);
        let hidden = hidden * group;
        let x = d.conv("x", 4, hidden, a, 1, 1);
        let x = d.function(&x, function);
        let x = d.conv(&x, hidden, hidden, b, group, 1);
        let x = d.function(&x, (function + 1) % 5);
        let x = d.conv(
            &x,
            hidden,
            columns,
            Shape {
                width: 3,
                dilation: 1,
                before: 1,
            },
            1,
            1,
        );
        let terms = terms(columns, a.reach() + b.reach() + 2, 1);
        check(d, &x, terms, &lengths(&terms), "", 0.99);
    }

    #[test]
    fn batch_norms_and_residuals(
        seed in 1u32..9999,
        a in shape(),
        b in shape(),
        quads in 1usize..9,
        order in 0usize..6,
        head in 1usize..5,
        softmax in any::<bool>(),
    ) {
        let mut d = Draft::bases(seed);
        let c = 4 * quads;
        let mut x = d.conv("x", 4, c, a, 1, 1);
        if order == 5 {
            x = d.op("Relu", &[&x], &[]);
        }
        let y = match order {
            // Before the activation, as in "pre-activation" networks: batch norm, ReLU,
            // convolution.
            0 | 5 => {
                let y = d.batch_norm(&x, c);
                let y = d.op("Relu", &[&y], &[]);
                d.conv(&y, c, c, b, 1, 1)
            }
            1 => {
                let y = d.conv(&x, c, c, b, 1, 1);
                let y = d.batch_norm(&y, c);
                d.op("Relu", &[&y], &[])
            }
            2 => {
                let y = d.conv(&x, c, c, b, 1, 1);
                let y = d.op("Relu", &[&y], &[]);
                d.batch_norm(&y, c)
            }
            _ => d.conv(&x, c, c, b, 1, 1),
        };
        let mut z = d.op("Add", &[&x, &y], &[]);
        if order != 3 {
            z = d.op("Relu", &[&z], &[]);
        }
        let last = Shape {
            width: 1,
            dilation: 1,
            before: 0,
        };
        let mut out = d.conv(&z, c, head, last, 1, 1);
        if softmax && head > 1 {
            out = d.op("Softmax", &[&out], &[attribute("axis", 1)]);
        }
        let terms = terms(head, a.reach() + b.reach(), 1);
        check(d, &out, terms, &lengths(&terms), "", 0.99);
    }

    #[test]
    fn sums_that_are_no_part_of_a_convolution(
        seed in 1u32..9999,
        a in shape(),
        quads in 1usize..5,
        relu in 0usize..4,
        last in any::<bool>(),
    ) {
        let mut d = Draft::bases(seed);
        let c = 4 * quads;
        let mut x = d.conv("x", 4, c, a, 1, 1);
        let mut y = d.conv("x", 4, c, a, 1, 1);
        if relu % 2 == 1 {
            x = d.op("Relu", &[&x], &[]);
        }
        if relu / 2 == 1 {
            y = d.op("Relu", &[&y], &[]);
        }
        // Both are read twice, so neither convolution can take the sum in.
        let joined = d.op("Concat", &[&x, &y], &[attribute("axis", 1)]);
        let sum = d.op("Add", &[&x, &y], &[]);
        let all = d.op("Concat", &[&sum, &joined], &[attribute("axis", 1)]);
        let terms;
        let out = if last {
            terms = self::terms(3 * c, a.reach(), 1);
            all
        } else {
            terms = self::terms(2, a.reach(), 1);
            d.conv(
                &all,
                3 * c,
                2,
                Shape {
                    width: 1,
                    dilation: 1,
                    before: 0,
                },
                1,
                1,
            )
        };
        check(d, &out, terms, &lengths(&terms), "", 0.99);
    }

    #[test]
    fn strides_pools_and_upsampling(
        seed in 1u32..9999,
        stride in 2usize..5,
        width in 1usize..8,
        pooled in 0usize..4,
        channels in 1usize..20,
        one in any::<bool>(),
    ) {
        let mut d = Draft::bases(seed);
        let full = d.conv(
            "x",
            4,
            12,
            Shape {
                width: 5,
                dilation: 1,
                before: 2,
            },
            1,
            1,
        );
        let full = d.op("Relu", &[&full], &[]);
        let width = width.max(stride);
        let coarse = match pooled {
            0 => d.conv(
                "x",
                4,
                channels,
                Shape {
                    width,
                    dilation: 1,
                    before: (width - stride).div_ceil(2),
                },
                1,
                stride,
            ),
            1 => {
                let y = d.conv(
                    &full,
                    12,
                    channels,
                    Shape {
                        width,
                        dilation: 1,
                        before: (width - stride).div_ceil(2),
                    },
                    1,
                    stride,
                );
                d.op("Relu", &[&y], &[])
            }
            kind => {
                let y = d.pool(
                    &full,
                    kind == 2,
                    width,
                    (width - stride).div_ceil(2),
                    stride,
                    seed % 2 == 0,
                );
                d.conv(
                    &y,
                    12,
                    channels,
                    Shape {
                        width: 3,
                        dilation: 1,
                        before: 1,
                    },
                    1,
                    1,
                )
            }
        };
        let coarse = if one {
            // What follows an upsampling with one tap is done before it.
            let y = d.upsample(&coarse, stride);
            d.conv(
                &y,
                channels,
                8,
                Shape {
                    width: 1,
                    dilation: 1,
                    before: 0,
                },
                1,
                1,
            )
        } else {
            let y = d.conv(
                &coarse,
                channels,
                8,
                Shape {
                    width: 1,
                    dilation: 1,
                    before: 0,
                },
                1,
                1,
            );
            let y = d.op("Relu", &[&y], &[]);
            d.upsample(&y, stride)
        };
        let all = d.op("Concat", &[&full, &coarse], &[attribute("axis", 1)]);
        let out = d.conv(
            &all,
            20,
            3,
            Shape {
                width: 3,
                dilation: 1,
                before: 1,
            },
            1,
            1,
        );
        let terms = terms(3, 4 + 2 * width + 4 * stride, stride);
        check(d, &out, terms, &lengths(&terms), "", 0.99);
    }

    #[test]
    fn pools_over_all_positions_and_dense_heads(
        seed in 1u32..9999,
        a in shape(),
        channels in 1usize..20,
        kind in 0usize..2,
        outputs in 1usize..20,
        end in 0usize..4,
    ) {
        let mut d = Draft::bases(seed);
        let x = d.conv("x", 4, channels, a, 1, 1);
        let x = d.op("Relu", &[&x], &[]);
        let x = d.op(["GlobalAveragePool", "GlobalMaxPool"][kind], &[&x], &[]);
        let x = d.op("Flatten", &[&x], &[]);
        let x = d.dense(&x, channels, 9);
        let x = d.op("Relu", &[&x], &[]);
        let mut x = d.dense(&x, 9, outputs);
        match end {
            1 => x = d.op("Sigmoid", &[&x], &[]),
            2 => x = d.op("Tanh", &[&x], &[]),
            3 => x = d.op("Softmax", &[&x], &[attribute("axis", 1)]),
            _ => (),
        }
        let mut terms = terms(outputs, a.reach(), 1);
        terms.tile = 64;
        check(d, &x, terms, &[1, 2, 3, 17, 63, 64], "", 0.99);
    }

    #[test]
    fn what_is_not_covered_runs_between_lowered_layers(
        seed in 1u32..9999,
        a in shape(),
        channels in 1usize..20,
        stride in 1usize..3,
    ) {
        let mut d = Draft::bases(seed);
        let one = Shape {
            width: 1,
            dilation: 1,
            before: 0,
        };
        let x = d.conv("x", 4, channels, a, 1, 1);
        let x = d.conv(
            &x,
            channels,
            channels,
            Shape {
                width: stride,
                dilation: 1,
                before: 0,
            },
            1,
            stride,
        );
        let y = d.op("Softsign", &[&x], &[]);
        let y = d.conv(&y, channels, channels, one, 1, 1);
        let y = d.op("Add", &[&x, &y], &[]);
        let y = if stride > 1 {
            d.upsample(&y, stride)
        } else {
            y
        };
        let out = d.conv(&y, channels, 2, one, 1, 1);
        let terms = terms(2, a.reach() + 2 * stride, stride);
        check(d, &out, terms, &lengths(&terms), "softsign", 0.99);
    }
}

proptest! {
    #![proptest_config(cases(10))]

    #[test]
    fn transformers(
        seed in 1u32..9999,
        heads in 1usize..9,
        half in 1usize..9,
        positions in any::<bool>(),
        before in any::<bool>(),
        end in 0usize..3,
        masked in any::<bool>(),
        rotary in any::<bool>(),
        gelu in 0usize..3,
    ) {
        let size = 2 * half;
        let width = heads * size;
        let tile = 40;
        let mut d = Draft::ids(seed, masked);
        let rows = Rows {
            width,
            heads,
            masked,
            rotary,
        };
        let mut x = d.embedding(width, positions.then_some(tile));
        if !before {
            x = d.layer_norm(&x, width);
        }
        for _ in 0..2 {
            x = d.transformer_block(&x, &rows, before, gelu);
        }
        let (out, columns) = match end {
            0 => (d.linear(&x, width, 3), 3),
            1 => {
                let y = d.op(
                    "ReduceMean",
                    &[&x],
                    &[attribute("axes", vec![1]), attribute("keepdims", 0)],
                );
                (d.dense(&y, width, 40), 40)
            }
            _ => {
                let first = d.scalar_index(0);
                let y = d.op("Gather", &[&x, &first], &[attribute("axis", 1)]);
                (d.dense(&y, width, 40), 40)
            }
        };
        let terms = Terms {
            ids: true,
            columns,
            context: 0,
            tile,
            multiple: 1,
        };
        // Two channels, normalised, are 1 and -1, whichever is larger by however little: no bound.
        // The narrower, the more of that is left, and one row a sequence averages over less.
        let least = match (width, end) {
            (2, _) => -1.0,
            (_, 0) => 0.98,
            (4..8, _) => 0.8,
            (8..16, _) => 0.9,
            _ => 0.95,
        };
        check(d, &out, terms, &[1, 2, 3, 16, 17, 39, 40], "", least);
    }
}

/// A mean over the letters alone, without the tokens around them, as many networks take it.
#[test]
fn a_network_that_leaves_tokens_out_says_how_short_a_sequence_may_be() {
    let (width, columns) = (8, 2);
    let mut d = Draft::ids(5, false);
    let x = d.embedding(width, None);
    let [one, last] = [1, -1].map(|at| d.integers(&[1], &[at]));
    let inner = d.op("Slice", &[&x, &one, &last, &one], &[]);
    let pool = [attribute("axes", vec![1]), attribute("keepdims", 0)];
    let y = d.op("ReduceMean", &[&inner], &pool);
    let out = d.dense(&y, width, columns);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("draft.onnx");
    std::fs::write(&path, d.finish(&out)).unwrap();
    let terms = Terms {
        ids: true,
        columns,
        context: 0,
        tile: 40,
        multiple: 1,
    };
    let samples: Vec<Vec<u32>> = (0..4)
        .map(|seed| sequence(seed, 20, terms.most()))
        .collect();
    for precision in [Precision::F32, Precision::Int8] {
        // The check compares sequences of as few tokens, too.
        let manifest = terms.manifest(precision);
        let packed = pack(&path, &manifest, &samples, Check::Precision).unwrap();
        assert_eq!(packed.model.manifest().shortest, 3);
        assert!(packed.notes.iter().any(|note| note.contains("3 tokens")));
        let file = ModelFile::parse(Bytes::copy_of(&packed.bytes).unwrap(), "draft").unwrap();
        let mut runner = Model::build(file).unwrap().spawn().unwrap();
        assert_eq!(runner.run_ids(&[4, 5, 6]).unwrap().len(), columns);
        let error = runner.run_ids(&[4, 5]).unwrap_err().to_string();
        assert!(
            error.contains("2 tokens, of which the network needs 3"),
            "{error}"
        );
        assert_eq!(runner.run_ids(&[4, 5, 6, 7]).unwrap().len(), columns);
    }
}
