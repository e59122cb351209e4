//! Specifications as files may hold them, changed in a field or two: what passes every check runs,
//! or says why it does not, and never panics.

use super::context::Context;
use super::form::RowKind;
use super::layer::Layer;
use super::operator::Operand;
use super::spec::Spec;
use super::spec::tests::TEXTS;
use crate::kernels::norm::SCALE_BYTES;
use crate::model::manifest::Precision;
use crate::model::map::{Bytes, Region};
use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tract_core::internal::*;

/// Positions of the tile.
const TILE: usize = 12;

/// Zero rows at each end.
const HALO: usize = 8;

/// More forms of operators, which two changes do not reach from those of the list.
const MORE: [&str; 4] = [
    concat!(
        r#"{"op":"conv","shape":{"channels_in":4,"channels_out":8,"width":1,"#,
        r#""dilation":1,"before":0,"stride":1},"step":1,"codes":false,"signed":true,"#,
        r#""row_scales":true,"added":"float","function":"gelu","#,
        r#""gain":1.0,"rate":1,"output":"signed"}"#,
    ),
    concat!(
        r#"{"op":"conv","shape":{"channels_in":4,"channels_out":16,"width":3,"#,
        r#""dilation":2,"before":1,"stride":2},"step":1,"codes":false,"signed":false,"#,
        r#""row_scales":false,"added":"none","function":"identity","#,
        r#""gain":1.0,"rate":2,"output":"last"}"#,
    ),
    concat!(
        r#"{"op":"attention","heads":2,"width":4,"scale":0.5,"rotary":16,"#,
        r#""rows":["float","float","float"],"output_scale":1.0,"output":"signed"}"#,
    ),
    r#"{"op":"embed","channels":4,"vocabulary":9,"positions":16}"#,
];

/// Values that a field of this type may have.
fn replacements(value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(value) => vec![json!(!value)],
        Value::Number(number) if number.is_u64() => {
            [0, 1, 2, 3, 4, 5, 8, 16].map(|x| json!(x)).to_vec()
        }
        Value::Number(_) => [-1.0, 0.0, 1e11].map(|x| json!(x)).to_vec(),
        // Which of them an enumeration has is the reader's to say.
        _ => {
            let names = "unsigned signed dynamic rows last vector plain float none max mean first \
                padded_mean identity relu relu_first gelu gelu_tanh sigmoid tanh softplus mish";
            let scaled = ["unsigned", "signed"].map(|name| json!({name: 0.5}));
            let names = names.split_whitespace().map(|name| json!(name));
            let functions = [
                json!({"swish": {"rate": 1e11}}),
                json!({"elu": {"above": 1e11, "below": -1e11, "rate": -1e11}}),
                json!({"clip": {"low": 6.0, "high": -6.0}}),
            ];
            names.chain(scaled).chain(functions).collect()
        }
    }
}

/// The text with each of its fields in turn replaced.
fn changed(value: &Value) -> Vec<Value> {
    let mut all = replacements(value);
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter().filter(|(name, _)| *name != "op") {
                all.extend(changed(field).into_iter().map(|field| {
                    let mut fields = fields.clone();
                    fields.insert(name.clone(), field);
                    Value::Object(fields)
                }));
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                all.extend(changed(item).into_iter().map(|item| {
                    let mut items = items.clone();
                    items[at] = item;
                    Value::Array(items)
                }));
            }
            all.push(items[1..].into());
            all.push([&items[..1], items].concat().into());
        }
        _ => (),
    }
    all
}

/// Those of `values` that a file may hold.
fn readable(values: Vec<Value>) -> impl Iterator<Item = (Value, Spec)> {
    values.into_iter().filter_map(|value| {
        let spec = serde_json::from_value(value.clone()).ok()?;
        Some((value, spec))
    })
}

/// A tensor that an operand may be.
fn input(operand: Operand, rate: usize, length: usize) -> Tensor {
    let positions = TILE.div_ceil(rate);
    let rows = positions + 2 * HALO;
    match operand {
        Operand::Codes => tensor1(&[1u8; TILE]),
        Operand::Ids => tensor1(&[1u32; TILE]),
        Operand::Values => tensor1(&[0f32; TILE]),
        Operand::Length => tensor0(length as i64),
        Operand::Rows(channels, RowKind::Float) => Tensor::zero::<f32>(&[rows, channels]).unwrap(),
        Operand::Rows(channels, RowKind::Dynamic) => {
            Tensor::zero::<u8>(&[rows, channels + SCALE_BYTES]).unwrap()
        }
        Operand::Rows(channels, RowKind::Unsigned(_) | RowKind::Signed(_)) => {
            Tensor::zero::<u8>(&[rows, channels]).unwrap()
        }
        Operand::Unpadded(channels) => Tensor::zero::<f32>(&[positions, channels]).unwrap(),
        Operand::Plain(channels) => Tensor::zero::<f32>(&[1, channels, positions]).unwrap(),
        Operand::Vector(len) => Tensor::zero::<f32>(&[len]).unwrap(),
    }
}

/// Runs a specification on sequences of several lengths, whole and in the rows that a second stage
/// asks for, where it passes every check that a graph makes; true where it does.
fn run(spec: Spec, precision: Precision) -> bool {
    let Ok(mut layer) = Layer::new(spec, precision, HALO, "layer") else {
        return false;
    };
    let operator = layer.spec.operator();
    let (rate, operands) = (operator.rate(), operator.operands(precision));
    let mut tensors = vec![];
    for need in operator.tensors(precision) {
        let len = need.len * need.dtype.bitsize() / 8;
        let bytes = Bytes::copy_of(&vec![0; len]).unwrap();
        tensors.push(Region::new(&bytes, 0..len).unwrap());
    }
    let keeps_rows = operator.keeps_rows();
    layer.attributes.tensors = tensors;
    let mut context = Context::default();
    for length in [TILE, 0, 1, 7] {
        let inputs = operands.iter().map(|operand| input(*operand, rate, length));
        let inputs: TVec<TValue> = inputs.map(Tensor::into_tvalue).collect();
        let facts: TVec<TypedFact> = inputs
            .iter()
            .map(|value| value.datum_type().fact(value.shape()))
            .collect();
        if layer
            .output_facts(&facts.iter().collect::<TVec<_>>())
            .is_err()
        {
            return false;
        }
        context.wanted = None;
        drop(layer.run(&mut context, &inputs));
        if keeps_rows && length > 6 {
            layer.attributes.spread = Some(1);
            context.wanted = Some(vec![0..1, 4..6]);
            drop(layer.run(&mut context, &inputs));
            layer.attributes.spread = None;
        }
    }
    true
}

#[test]
fn what_validates_runs_without_a_panic() {
    for text in TEXTS.into_iter().chain(MORE) {
        let value: Value = serde_json::from_str(text).unwrap();
        let mut all: Vec<_> = readable(vec![value.clone()]).collect();
        for (once, spec) in readable(changed(&value)) {
            // A second change reaches what the first alone keeps from passing.
            all.extend(readable(changed(&once)));
            all.push((once, spec));
        }
        let mut ran = 0;
        for precision in [Precision::Int8, Precision::Fp16, Precision::F32] {
            // The shapes are looked at by the same code everywhere; an emulated board takes its
            // time.
            let step = if cfg!(target_arch = "aarch64") { 7 } else { 1 };
            for (value, spec) in all.iter().step_by(step) {
                let done = catch_unwind(AssertUnwindSafe(|| run(spec.clone(), precision)));
                ran += usize::from(done.unwrap_or_else(|_| panic!("{precision}: {value}")));
            }
        }
        assert!(ran > 0, "{text}");
    }
}
