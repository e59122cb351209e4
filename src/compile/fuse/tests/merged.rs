//! Operators that an optimiser has merged, beside tract's own reading of them where it has one, and
//! beside the same written out where it has none.

use super::draft::OnnxDraft;
use super::{Value, compare, config, counts, import, linear, run, to_tract, tokens};
use proptest::prelude::*;
use tract_nnef::internal::*;

fn float(name: &'static str, value: f32) -> (&'static str, Value) {
    (name, Value::Float(value))
}

fn int(name: &'static str, value: usize) -> (&'static str, Value) {
    (name, Value::Int(value as i64))
}

/// What a draft computes once it is taken apart and fused.
fn computed(draft: OnnxDraft, output: &str, ids: &Tensor) -> Vec<f32> {
    let imported = import(draft.finish(output), None, "draft").unwrap();
    run(
        to_tract(&imported, None).unwrap(),
        std::slice::from_ref(ids),
    )
}

#[test]
fn a_merged_operator_reads_an_input_with_channels_last() {
    let bases = tensor1(&[0f32, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let bases = bases.into_shape(&[1, 4, 2]).unwrap();
    let [merged, plain] = [true, false].map(|merged| {
        let mut d = OnnxDraft::new("bases", 1, &[Some(1), None, Some(4)], 3);
        let weight = d.weights("w", &[4, 8]);
        let x = if merged {
            d.merged("FusedMatMul", &["bases", &weight], &[float("alpha", 0.5)])
        } else {
            let half = d.scalar(0.5);
            let x = d.op("MatMul", &["bases", &weight], &[]);
            d.op("Mul", &[&x, &half], &[])
        };
        let x = d.op("Relu", &[&x], &[]);
        let y = linear(&mut d, &x, "head", [8, 3]);
        computed(d, &y, &bases)
    });
    super::close(&merged, &plain, 1e-5);
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_tract_reads_too(
        seed in 1u32..1000,
        rows in 2usize..9,
        heads in 1usize..4,
        half in 1usize..4,
        by_tanh in any::<bool>(),
        biased in any::<bool>(),
    ) {
        let width = heads * half * 2;
        let (mut d, x, ids) = tokens(seed, rows, width);
        let ones = |d: &mut OnnxDraft, name: &str| d.weights(name, &[width]);
        let (gamma, beta, bias) = (ones(&mut d, "g"), ones(&mut d, "b"), ones(&mut d, "c"));
        let [q, k, v] = ["q", "k", "v"].map(|name| linear(&mut d, &x, name, [width, width]));
        let y = d.merged("MultiHeadAttention", &[&q, &k, &v], &[int("num_heads", heads)]);
        let more = if biased { vec![x.as_str(), &y, &gamma, &beta, &bias] } else {
            vec![x.as_str(), &y, &gamma, &beta]
        };
        let y = d.merged("SkipLayerNormalization", &more, &[float("epsilon", 1e-5)]);
        let up = d.weights("up", &[width, 6]);
        let up = d.op("MatMul", &[&y, &up], &[]);
        let term = d.weights("term", &[6]);
        let up = d.merged(if by_tanh { "FastGelu" } else { "BiasGelu" }, &[&up, &term], &[]);
        let down = linear(&mut d, &up, "down", [6, width]);
        let y = d.merged("SkipSimplifiedLayerNormalization", &[&y, &down, &gamma], &[]);
        let y = linear(&mut d, &y, "head", [width, 3]);
        let imported = compare(&d.finish(&y), &[ids]);
        for (kind, count) in [("Attention", 1), ("LayerNorm", 2), ("Gelu", 1), ("Linear", 6)] {
            prop_assert_eq!(counts(&imported, kind), count, "{}", kind);
        }
    }

    #[test]
    fn attention_and_embeddings(
        seed in 1u32..1000,
        rows in 2usize..9,
        heads in 1usize..4,
        size in 1usize..5,
    ) {
        let width = heads * size;
        let scale = 1.0 / (size as f32).sqrt();
        let parts: Vec<Vec<f32>> = [true, false].into_iter().map(|merged| {
            let (mut d, _, ids) = tokens(seed, rows, width);
            let (gamma, beta) = (d.weights("g", &[width]), d.weights("b", &[width]));
            let (word, place) = (d.weights("word", &[9, width]), d.weights("place", &[9, width]));
            let weight = d.weights("w", &[width, 3 * width]);
            let bias = d.weights("bias", &[3 * width]);
            let y = if merged {
                let inputs = ["ids", "", &word, &place, "", &gamma, &beta];
                let x = d.merged("EmbedLayerNormalization", &inputs, &[float("epsilon", 1e-5)]);
                let inputs = [x.as_str(), &weight, &bias];
                let y = d.merged("Attention", &inputs, &[int("num_heads", heads)]);
                d.merged("FusedMatMul", &[&y, &weight], &[float("alpha", 0.5)])
            } else {
                let x = d.op("Gather", &[&word, "ids"], &[]);
                let order: Vec<i64> = (0..rows as i64).collect();
                let order = d.shape(&order);
                let positions = d.op("Gather", &[&place, &order], &[]);
                let x = d.op("Add", &[&x, &positions], &[]);
                let norm = [("axis", Value::Int(-1)), float("epsilon", 1e-5)];
                let x = d.op("LayerNormalization", &[&x, &gamma, &beta], &norm);
                let all = d.op("MatMul", &[&x, &weight], &[]);
                let all = d.op("Add", &[&all, &bias], &[]);
                let all = d.reshape(&all, &[0, 0, 3, heads as i64, size as i64]);
                let all = d.transpose(&all, &[2, 0, 3, 1, 4]);
                let [q, k, v] = [0, 1, 2].map(|at| {
                    let at = d.constant(&format!("at{at}"), &tensor0(at as i64));
                    d.op("Gather", &[&all, &at], &[])
                });
                let k = d.transpose(&k, &[0, 1, 3, 2]);
                let scores = d.op("MatMul", &[&q, &k], &[]);
                let by = d.scalar(scale);
                let scores = d.op("Mul", &[&scores, &by], &[]);
                let shares = d.op("Softmax", &[&scores], &[("axis", Value::Int(-1))]);
                let y = d.op("MatMul", &[&shares, &v], &[]);
                let y = d.transpose(&y, &[0, 2, 1, 3]);
                let y = d.reshape(&y, &[0, 0, width as i64]);
                let y = d.op("MatMul", &[&y, &weight], &[]);
                let by = d.scalar(0.5);
                d.op("Mul", &[&y, &by], &[])
            };
            computed(d, &y, &ids)
        }).collect();
        super::close(&parts[0], &parts[1], 1e-4);
    }

    /// Both orders of inputs, both ways to pair elements, of all or of some.
    #[test]
    fn rotation(
        seed in 1u32..1000,
        rows in 2usize..9,
        heads in 1usize..4,
        half in 1usize..4,
        rest in 0usize..2,
        interleaved in any::<bool>(),
    ) {
        let size = 2 * half + 2 * rest;
        let width = heads * size;
        let (mut d, x, ids) = tokens(seed, rows, width);
        let angles: Vec<f32> = (0..16 * half)
            .map(|at| (at / half) as f32 * 100f32.powf(-((at % half) as f32) / half as f32))
            .collect();
        let table = |of: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&angle| of(angle)).collect();
            tensor1(&values).into_shape(&[16, half]).unwrap()
        };
        let cosine = d.constant("cos", &table(f32::cos));
        let sine = d.constant("sin", &table(f32::sin));
        let order: Vec<i64> = (0..rows as i64).collect();
        let order = tensor1(&order).into_shape(&[1, rows]).unwrap();
        d.input("position_ids", 7, &[Some(1), None]);
        let split = d.reshape(&x, &[0, 0, heads as i64, size as i64]);
        let split = d.transpose(&split, &[0, 2, 1, 3]);
        let mut attributes = vec![int("interleaved", usize::from(interleaved))];
        if rest > 0 {
            attributes.push(int("rotary_embedding_dim", 2 * half));
        }
        let y = d.op("RotaryEmbedding", &[&split, &cosine, &sine, "position_ids"], &attributes);
        let y = d.transpose(&y, &[0, 2, 1, 3]);
        let y = d.reshape(&y, &[0, 0, width as i64]);
        let y = linear(&mut d, &y, "head", [width, 3]);
        compare(&d.finish(&y), &[ids, order]);
    }
}
