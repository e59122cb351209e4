//! Drafts of graphs in every way of writing, and the files of exporters and quantisers.

mod draft;
mod merged;

use super::import::{import, read};
use super::imported::{Imported, to_tract};
use super::meaning::Meaning;
use super::node::{self, Value};
use draft::OnnxDraft;
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use tract_nnef::internal::*;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{Framework, InferenceModelExt};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/onnx")
        .join(name)
}

fn run(model: TypedModel, inputs: &[Tensor]) -> Vec<f32> {
    let plan = SimplePlan::new(model.into_optimized().unwrap()).unwrap();
    let inputs = inputs.iter().map(|t| t.clone().into()).collect();
    let outputs = plan.run(inputs).unwrap();
    outputs[0]
        .try_as_plain_ram()
        .unwrap()
        .as_slice::<f32>()
        .unwrap()
        .to_vec()
}

/// Runs a graph as tract reads it and as it is fused, the length open; gives what was fused.
fn compare(proto: &ModelProto, inputs: &[Tensor]) -> Imported {
    let mut plain = tract_onnx::onnx().model_for_proto_model(proto).unwrap();
    for (at, input) in inputs.iter().enumerate() {
        let fact = input.datum_type().fact(input.shape());
        plain.set_input_fact(at, fact.into()).unwrap();
    }
    let expected = run(plain.into_typed().unwrap(), inputs);
    let imported = import(proto.clone(), None, "draft")
        .map_err(|f| f.reason)
        .unwrap();
    let inputs: Vec<Tensor> = imported
        .inputs
        .iter()
        .map(|i| {
            let at = proto
                .graph
                .as_ref()
                .unwrap()
                .input
                .iter()
                .position(|p| p.name == i.name)
                .unwrap();
            if i.transposed {
                inputs[at].clone().permute_axes(&[0, 2, 1]).unwrap()
            } else {
                inputs[at].clone()
            }
        })
        .collect();
    let found = run(to_tract(&imported, None).unwrap(), &inputs);
    // A norm over rows that hardly vary makes more of the rounding of single precision.
    close(&found, &expected, 5e-4);
    imported
}

fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let top = expected.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= tolerance * top, "{a} for {b}, of {top}");
    }
}

/// Embedded tokens, and their ids.
fn tokens(seed: u32, rows: usize, width: usize) -> (OnnxDraft, String, Tensor) {
    let mut draft = OnnxDraft::new("ids", 7, &[Some(1), None], seed);
    let table = draft.weights("table", &[9, width]);
    let x = draft.op("Gather", &[&table, "ids"], &[]);
    let ids: Vec<i64> = (0..rows)
        .map(|t| ((t * 5 + seed as usize) % 9) as i64)
        .collect();
    let ids = tensor1(&ids).into_shape(&[1, rows]).unwrap();
    (draft, x, ids)
}

fn linear(draft: &mut OnnxDraft, x: &str, name: &str, shape: [usize; 2]) -> String {
    let weight = draft.weights(&format!("{name}.w"), &shape);
    let bias = draft.weights(&format!("{name}.b"), &shape[1..]);
    let product = draft.op("MatMul", &[x, &weight], &[]);
    draft.op("Add", &[&bias, &product], &[])
}

fn counts(imported: &Imported, kind: &str) -> usize {
    imported.fused.get(kind).copied().unwrap_or(0)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn attention_in_every_order(
        seed in 1u32..1000,
        rows in 2usize..9,
        heads in 1usize..4,
        half in 1usize..4,
        packed in 0usize..4,
        scaled in 0usize..4,
        three in any::<bool>(),
        first in any::<bool>(),
        masked in 0usize..3,
    ) {
        let size = 2 * half;
        let width = heads * size;
        let (mut d, mut x, ids) = tokens(seed, rows, width);
        let (h, s, w) = (heads as i64, size as i64, width as i64);
        if first {
            x = d.transpose(&x, &[1, 0, 2]);
        }
        // Rows and heads apart: [1, T, h, d], or [T, 1, h, d] where the sequence comes first.
        let apart: Vec<i64> = if first {
            vec![-1, 1, h, s]
        } else {
            vec![1, -1, h, s]
        };
        let to_heads: &[i64] = if first { &[1, 2, 0, 3] } else { &[0, 2, 1, 3] };
        let mut parts = vec![];
        match packed {
            0 => {
                for name in ["q", "k", "v"] {
                    let y = linear(&mut d, &x, name, [width, width]);
                    parts.push(d.reshape(&y, &apart));
                }
            }
            1 => {
                let y = linear(&mut d, &x, "qkv", [width, 3 * width]);
                for part in 0..3 {
                    let (from, to, axis) = (
                        d.shape(&[part * w]),
                        d.shape(&[(part + 1) * w]),
                        d.shape(&[2]),
                    );
                    let y = d.op("Slice", &[&y, &from, &to, &axis], &[]);
                    parts.push(d.reshape(&y, &apart));
                }
            }
            _ => {
                // Three of all heads (2), or three of each head (3).
                let y = linear(&mut d, &x, "qkv", [width, 3 * width]);
                let (a, b) = (apart[0], apart[1]);
                let (to, axis) = if packed == 2 {
                    (vec![a, b, 3, h, s], 2)
                } else {
                    (vec![a, b, h, 3, s], 3)
                };
                let y = d.reshape(&y, &to);
                for part in 0..3 {
                    let index = format!("i{part}");
                    d.constant(&index, &tensor0(part as i64));
                    parts.push(d.op("Gather", &[&y, &index], &[("axis", Value::Int(axis))]));
                }
            }
        }
        let mut parts: Vec<String> = parts.iter().map(|p| d.transpose(p, to_heads)).collect();
        if three {
            parts = parts.iter().map(|p| d.reshape(p, &[h, -1, s])).collect();
        }
        let factor = d.scalar((size as f32).sqrt());
        let root = d.scalar((size as f32).powf(-0.25));
        let perm: &[i64] = if three { &[0, 2, 1] } else { &[0, 1, 3, 2] };
        let mut k = d.transpose(&parts[1], perm);
        let mut q = parts[0].clone();
        match scaled {
            0 => q = d.op("Div", &[&q, &factor], &[]),
            1 => k = d.op("Div", &[&k, &factor], &[]),
            2 => {
                q = d.op("Mul", &[&q, &root], &[]);
                k = d.op("Mul", &[&root, &k], &[]);
            }
            _ => {}
        }
        let mut scores = d.op("MatMul", &[&q, &k], &[]);
        if scaled == 3 {
            scores = d.op("Div", &[&scores, &factor], &[]);
        }
        let mut inputs = vec![ids];
        if masked > 0 {
            d.input("attention_mask", 7, &[Some(1), None]);
            let axes = d.shape(&[1, 2]);
            let mut mask = d.op("Unsqueeze", &["attention_mask", &axes], &[]);
            if three {
                mask = d.reshape(&mask, &[1, 1, -1]);
            }
            if masked == 1 {
                mask = d.op("Cast", &[&mask], &[("to", Value::Int(1))]);
                let (one, large) = (d.scalar(1.0), d.scalar(-1e4));
                mask = d.op("Sub", &[&one, &mask], &[]);
                mask = d.op("Mul", &[&mask, &large], &[]);
                scores = d.op("Add", &[&scores, &mask], &[]);
            } else {
                let zero = d.constant("zero", &tensor0(0i64));
                let hidden = d.op("Equal", &[&mask, &zero], &[]);
                let large = d.scalar(-3e38);
                scores = d.op("Where", &[&hidden, &large, &scores], &[]);
            }
            let mut mask = vec![1i64; rows];
            mask[rows - 1] = 0;
            inputs.push(tensor1(&mask).into_shape(&[1, rows]).unwrap());
        }
        let p = d.op("Softmax", &[&scores], &[("axis", Value::Int(-1))]);
        let mut y = d.op("MatMul", &[&p, &parts[2]], &[]);
        if three {
            y = d.transpose(&y, &[1, 0, 2]);
            y = d.reshape(&y, &[-1, w]);
        } else {
            y = d.transpose(&y, &[0, 2, 1, 3]);
            y = d.reshape(&y, &[1, -1, w]);
        }
        let y = linear(&mut d, &y, "out", [width, 3]);
        let y = d.reshape(&y, &[1, -1, 3]);
        let imported = compare(&d.finish(&y), &inputs);
        prop_assert_eq!(counts(&imported, "Attention"), 1, "{:?}", imported.notes);
        prop_assert_eq!(counts(&imported, "Linear"), 4);
        let graph = imported.proto.graph.as_ref().unwrap();
        let left: Vec<&str> = graph
            .node
            .iter()
            .map(|n| n.op_type.as_str())
            .filter(|o| !o.starts_with(node::PREFIX))
            .collect();
        prop_assert!(left.is_empty(), "{:?}", left);
        if masked == 1 {
            prop_assert!(imported.unpadded().inputs.len() == 1);
        }
    }

    #[test]
    fn norms_and_activations_written_out(
        seed in 1u32..1000,
        rows in 2usize..9,
        width in 2usize..20,
        norm in 0usize..4,
        gelu in 0usize..5,
        flat in any::<bool>(),
    ) {
        let (mut d, mut x, ids) = tokens(seed, rows, width);
        let w = width as i64;
        if flat {
            x = d.reshape(&x, &[-1, w]);
        }
        let (gamma, beta) = (d.weights("gamma", &[width]), d.weights("beta", &[width]));
        let last = ("axes", Value::Ints(vec![-1]));
        x = if norm == 0 {
            d.op(
                "LayerNormalization",
                &[&x, &gamma, &beta],
                &[("epsilon", Value::Float(1e-3)), ("axis", Value::Int(-1))],
            )
        } else {
            let mean = d.op("ReduceMean", &[&x], std::slice::from_ref(&last));
            let centred = d.op("Sub", &[&x, &mean], &[]);
            let (two, epsilon, one) = (d.scalar(2.0), d.scalar(1e-3), d.scalar(1.0));
            let square = match norm {
                1 => d.op("Pow", &[&centred, &two], &[]),
                _ => d.op("Mul", &[&centred, &centred], &[]),
            };
            let variance = d.op("ReduceMean", &[&square], std::slice::from_ref(&last));
            let sum = d.op("Add", &[&epsilon, &variance], &[]);
            let root = d.op("Sqrt", &[&sum], &[]);
            let normal = match norm {
                1 => d.op("Div", &[&centred, &root], &[]),
                2 => {
                    let inverse = d.op("Reciprocal", &[&root], &[]);
                    d.op("Mul", &[&inverse, &centred], &[])
                }
                _ => {
                    let inverse = d.op("Div", &[&one, &root], &[]);
                    d.op("Mul", &[&centred, &inverse], &[])
                }
            };
            let scaled = d.op("Mul", &[&gamma, &normal], &[]);
            d.op("Add", &[&scaled, &beta], &[])
        };
        x = linear(&mut d, &x, "up", [width, 2 * width]);
        let (half, one, root) = (d.scalar(0.5), d.scalar(1.0), d.scalar(2f32.sqrt()));
        let bracket = if gelu < 3 {
            let inner = d.op("Div", &[&x, &root], &[]);
            let erf = d.op("Erf", &[&inner], &[]);
            d.op("Add", &[&erf, &one], &[])
        } else {
            let (three, small, factor) =
                (d.scalar(3.0), d.scalar(0.044_715), d.scalar(0.797_884_6));
            let cube = match gelu {
                3 => d.op("Pow", &[&x, &three], &[]),
                _ => {
                    let square = d.op("Mul", &[&x, &x], &[]);
                    d.op("Mul", &[&square, &x], &[])
                }
            };
            let cube = d.op("Mul", &[&small, &cube], &[]);
            let sum = d.op("Add", &[&x, &cube], &[]);
            let inner = d.op("Mul", &[&factor, &sum], &[]);
            let tanh = d.op("Tanh", &[&inner], &[]);
            d.op("Add", &[&one, &tanh], &[])
        };
        let y = match gelu {
            0 => {
                let y = d.op("Mul", &[&x, &bracket], &[]);
                d.op("Mul", &[&y, &half], &[])
            }
            1 => {
                let y = d.op("Mul", &[&half, &bracket], &[]);
                d.op("Mul", &[&x, &y], &[])
            }
            _ => {
                let y = d.op("Mul", &[&x, &half], &[]);
                d.op("Mul", &[&y, &bracket], &[])
            }
        };
        let (weight, bias) = (
            d.weights("down.w", &[3, 2 * width]),
            d.weights("down.b", &[3]),
        );
        let y = d.reshape(&y, &[-1, 2 * w]);
        let y = d.op("Gemm", &[&y, &weight, &bias], &[("transB", Value::Int(1))]);
        let y = d.reshape(&y, &[1, -1, 3]);
        let y = d.op(
            "ReduceMean",
            &[&y],
            &[("axes", Value::Ints(vec![1])), ("keepdims", Value::Int(0))],
        );
        let imported = compare(&d.finish(&y), &[ids]);
        for (kind, count) in [
            ("LayerNorm", 1),
            ("Gelu", 1),
            ("Linear", 2),
            ("Embedding", 1),
            ("Pool", 1),
        ] {
            prop_assert_eq!(counts(&imported, kind), count, "{}", kind);
        }
        prop_assert_eq!(imported.proto.graph.unwrap().node.len(), 6);
    }

    #[test]
    fn channels_last_and_singleton_axes(
        seed in 1u32..1000,
        rows in 3usize..20,
        channels in 2usize..9,
        width in 1usize..5,
        axis in 0usize..2,
        factor in 1usize..4,
    ) {
        let mut d = OnnxDraft::new("bases", 1, &[Some(1), None, Some(4)], seed);
        let values: Vec<f32> = (0..4 * rows).map(|_| d.random()).collect();
        let x = tensor1(&values).into_shape(&[1, rows, 4]).unwrap();
        let taps = 2 * width - 1;
        let kernel = |i: usize, o: usize| {
            if axis == 0 {
                [o, i, 1, taps]
            } else {
                [o, i, taps, 1]
            }
        };
        let (a, b) = (
            d.weights("a", &kernel(4, channels)),
            d.weights("b", &kernel(channels, 6)),
        );
        let bias = d.weights("bias", &[channels]);
        let pads: Vec<i64> = if axis == 0 {
            vec![0, width as i64 - 1, 0, width as i64 - 1]
        } else {
            vec![width as i64 - 1, 0, width as i64 - 1, 0]
        };
        let unit = d.shape(&[1 + axis as i64]);
        let y = d.op("Unsqueeze", &["bases", &unit], &[]);
        let y = d.transpose(&y, &[0, 3, 1, 2]);
        let y = d.op("Conv", &[&y, &a], &[("pads", Value::Ints(pads.clone()))]);
        let y = d.transpose(&y, &[0, 2, 3, 1]);
        let y = d.op("Add", &[&y, &bias], &[]);
        let y = d.op("Squeeze", &[&y, &unit], &[]);
        let y = d.op("Relu", &[&y], &[]);
        let y = d.op("Unsqueeze", &[&y, &unit], &[]);
        let y = d.transpose(&y, &[0, 3, 1, 2]);
        let y = d.op("Conv", &[&y, &b], &[("pads", Value::Ints(pads))]);
        let last = d.shape(&[2 + axis as i64]);
        let y = d.op("Squeeze", &[&y, &last], &[]);
        let scales = d.constant("scales", &tensor1(&[1.0, 1.0, factor as f32 + 1.0]));
        let resized = [
            ("mode", Value::Text("nearest".into())),
            ("nearest_mode", Value::Text("floor".into())),
            ("coordinate_transformation_mode", Value::Text("asymmetric".into())),
        ];
        let y = d.op("Resize", &[&y, "", &scales], &resized);
        let y = d.transpose(&y, &[0, 2, 1]);
        let y = d.op(
            "ReduceMax",
            &[&y],
            &[("axes", Value::Ints(vec![1])), ("keepdims", Value::Int(0))],
        );
        let imported = compare(&d.finish(&y), &[x]);
        let graph = imported.proto.graph.as_ref().unwrap();
        let left: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
        prop_assert_eq!(
            left,
            [
                "Conv",
                "Relu",
                "Conv",
                "strandline.Upsample",
                "strandline.Pool"
            ]
        );
        prop_assert!(imported.inputs[0].transposed);
    }

    #[test]
    fn damaged_files_are_errors(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        which in 0usize..4,
    ) {
        let name = [
            "bert_script_static.onnx",
            "esm_script.onnx",
            "pooled_script_operators.onnx",
            "keras.onnx",
        ][which];
        let mut bytes = std::fs::read(data(name)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(proto) = tract_onnx::onnx().proto_model_for_read(&mut bytes.as_slice())
            && let Ok(imported) = import(proto, None, name)
        {
            // Whatever it says: no panic comes out.
            drop(to_tract(&imported, None));
        }
    }
}

/// One line an input or output of the file's network: name, shape, values; "=" is the output in
/// ONNX Runtime.
fn recorded(name: &str) -> (HashMap<String, Tensor>, Vec<f32>) {
    let text = std::fs::read_to_string(data(name).with_extension("txt")).unwrap();
    let (mut inputs, mut expected) = (HashMap::new(), vec![]);
    for line in text.lines() {
        let mut parts = line.split(' ');
        let name = parts.next().unwrap().to_string();
        let shape: Vec<usize> = parts
            .next()
            .unwrap()
            .split(',')
            .map(|x| x.parse().unwrap())
            .collect();
        let values: Vec<f32> = parts.map(|x| x.parse().unwrap()).collect();
        match name.as_str() {
            "=" => expected = values,
            _ => drop(inputs.insert(name, tensor1(&values).into_shape(&shape).unwrap())),
        }
    }
    (inputs, expected)
}

#[test]
fn files_of_exporters_and_quantisers() {
    // File, what is fused, and how far from ONNX Runtime on the float network.
    let bert = "Attention 1, Embedding 1, Gelu 1, LayerNorm 3, Linear 6, Pool 1";
    let encoder = "Attention 1, Embedding 1, LayerNorm 2, Linear 7";
    let pre = "Attention 1, Embedding 1, Gelu 1, LayerNorm 2, Linear 7";
    let esm = "Attention 1, Embedding 1, Gelu 1, LayerNorm 2, Linear 6, Pool 1";
    let multihead = "Attention 1, Embedding 1, LayerNorm 1, Linear 4";
    let files = [
        ("bert_script", bert, 1e-4),
        ("bert_dynamo", bert, 1e-4),
        ("bert_sdpa_script", bert, 1e-4),
        ("bert_sdpa_dynamo", bert, 1e-4),
        ("bert_script_static", bert, 0.02),
        ("bert_script_dynamic", bert, 0.02),
        ("encoder_script", encoder, 1e-4),
        ("encoder_dynamo", encoder, 1e-4),
        ("encoder_script_dynamic", encoder, 0.02),
        ("encoder_pre_script", pre, 1e-4),
        ("encoder_pre_dynamo", pre, 1e-4),
        ("esm_script", esm, 1e-4),
        ("esm_dynamo", esm, 1e-4),
        ("multihead_script", multihead, 1e-4),
        ("multihead_dynamo", multihead, 1e-4),
        ("branches_script", "Upsample 1", 1e-4),
        ("branches_dynamo", "Upsample 1", 1e-4),
        ("branches_script_static", "Upsample 1", 0.02),
        ("branches_script_dynamic", "Upsample 1", 0.02),
        ("pooled_script", "Pool 2, Upsample 1", 1e-4),
        ("pooled_dynamo", "Pool 2, Upsample 1", 1e-4),
        ("pooled_script_static", "Pool 2, Upsample 1", 0.02),
        ("pooled_script_dynamic", "Pool 2, Upsample 1", 0.02),
        ("pooled_script_operators", "Pool 2, Upsample 1", 0.02),
        ("keras", "Pool 1", 1e-4),
        ("bert_script_extended", bert, 1e-4),
        ("bert_dynamo_extended", bert, 1e-4),
        ("bert_script_merged", bert, 1e-4),
        ("bert_script_half", bert, 0.02),
        ("bert_script_dynamic_extended", bert, 0.02),
        ("esm_script_extended", esm, 1e-4),
        ("branches_script_extended", "Upsample 1", 1e-4),
        ("branches_script_static_all", "Upsample 1", 0.02),
        ("space_to_batch", "", 1e-4),
    ];
    for (name, fused, tolerance) in files {
        println!("{name}");
        let imported = read(&data(&format!("{name}.onnx"))).unwrap();
        let found: Vec<String> = imported
            .fused
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        assert_eq!(found.join(", "), fused, "{name}");
        let (recorded, expected) = recorded(name);
        let inputs: Vec<Tensor> = imported
            .inputs
            .iter()
            .map(|input| {
                let value = recorded[&input.name].clone();
                match input.meaning {
                    Meaning::OneHot if input.transposed => value.permute_axes(&[0, 2, 1]).unwrap(),
                    Meaning::OneHot => value,
                    _ => value.cast_to::<i64>().unwrap().into_owned(),
                }
            })
            .collect();
        close(
            &run(to_tract(&imported, None).unwrap(), &inputs),
            &expected,
            tolerance,
        );
    }
}

#[test]
fn ranges_of_a_quantised_file_are_kept() {
    let imported = read(&data("branches_script_static.onnx")).unwrap();
    let (low, high) = imported.ranges["sequence"];
    assert_eq!(low, 0.0);
    assert!((high - 1.0).abs() < 1e-3, "{high}");
    assert!(imported.ranges.len() > 6);
    assert_eq!(imported.stride, 4);
}

#[test]
fn what_is_not_understood_is_named() {
    let mut d = OnnxDraft::new("signal", 1, &[Some(1), Some(7), None], 1);
    let y = d.op("Relu", &["signal"], &[]);
    let fault = import(d.finish(&y), None, "draft").unwrap_err();
    assert!(
        fault.node.contains("signal") && fault.reason.contains("neither bases"),
        "{fault:?}"
    );

    let mut d = OnnxDraft::new("bases", 1, &[Some(1), Some(4), None], 1);
    let y = d.op("QLinearLSTM", &["bases"], &[]);
    let fault = import(d.finish(&y), None, "draft").unwrap_err();
    assert!(fault.node.contains("QLinearLSTM"), "{fault:?}");

    let d = OnnxDraft::new("bases", 1, &[Some(1), Some(4), None], 1);
    assert!(import(d.finish("nowhere"), None, "draft").is_err());

    let mut d = OnnxDraft::new("bases", 1, &[Some(1), Some(4), None], 1);
    let gamma = d.weights("gamma", &[4]);
    let y = d.op(
        "LayerNormalization",
        &["bases", &gamma],
        &[("axis", Value::Int(-4))],
    );
    let fault = import(d.finish(&y), None, "draft").unwrap_err();
    assert_eq!(fault.reason, "axis -4 of 3");
}
