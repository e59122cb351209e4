//! Files in half precision: every value as f32, as they were before their conversion.

use super::fault::Fault;
use super::tensor;
use tract_nnef::internal::{DatumType, Tensor, TractResult};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, TensorProto, ValueInfoProto, type_proto};

const FLOAT: i32 = DataType::Float as i32;

fn is_half(kind: i64) -> bool {
    [DataType::Float16 as i64, DataType::Bfloat16 as i64].contains(&kind)
}

/// True where anything in a graph is of 16 bits.
pub fn is_needed(graph: &GraphProto) -> bool {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    graph
        .initializer
        .iter()
        .any(|t| is_half(t.data_type.into()))
        || graph
            .input
            .iter()
            .any(|input| element(input).is_some_and(is_half))
        || attributes.into_iter().any(|a| {
            names_type(a) && is_half(a.i)
                || a.t.as_ref().is_some_and(|t| is_half(t.data_type.into()))
        })
}

/// Turns constants, inputs, outputs and casts of 16 bits into such of 32; `folder` is where
/// external data lies.
pub fn widen(graph: &mut GraphProto, folder: Option<&str>) -> Result<(), Fault> {
    for tensor in &mut graph.initializer {
        widen_tensor(tensor, folder)?;
    }
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        if names_type(attribute) && is_half(attribute.i) {
            attribute.i = FLOAT.into();
        }
        if let Some(tensor) = attribute.t.as_mut() {
            widen_tensor(tensor, folder)?;
        }
    }
    for info in graph.input.iter_mut().chain(&mut graph.output) {
        if element(info).is_some_and(is_half)
            && let Some(type_proto::Value::TensorType(tensor)) =
                info.r#type.as_mut().and_then(|t| t.value.as_mut())
        {
            tensor.elem_type = FLOAT;
        }
    }
    graph.value_info.clear();
    Ok(())
}

/// An attribute that names a type of elements.
fn names_type(attribute: &AttributeProto) -> bool {
    ["to", "dtype", "output_dtype", "stash_type"].contains(&attribute.name.as_str())
}

fn element(info: &ValueInfoProto) -> Option<i64> {
    match info.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(tensor.elem_type.into()),
    }
}

fn widen_tensor(tensor: &mut TensorProto, folder: Option<&str>) -> Result<(), Fault> {
    if !is_half(tensor.data_type.into()) {
        return Ok(());
    }
    let wide = if tensor.data_type == DataType::Float16 as i32 {
        half(tensor, folder)
    } else {
        brain(tensor)
    };
    *tensor = wide.map_err(|error| Fault::new(&tensor.name, format!("{error:#}")))?;
    Ok(())
}

fn half(tensor: &TensorProto, folder: Option<&str>) -> TractResult<TensorProto> {
    let loaded = tensor::load(tensor, folder)?;
    tensor::store(&tensor.name, loaded.cast_to_dt(DatumType::F32)?.as_ref())
}

/// bfloat16 is the upper half of an f32. Kept as raw bytes, or one by one in integers.
fn brain(tensor: &TensorProto) -> TractResult<TensorProto> {
    let bits: Vec<u16> = if tensor.raw_data.is_empty() {
        tensor.int32_data.iter().map(|&bits| bits as u16).collect()
    } else {
        let pairs = tensor.raw_data.chunks_exact(2);
        pairs
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .collect()
    };
    let values: Vec<f32> = bits
        .into_iter()
        .map(|bits| f32::from_bits(u32::from(bits) << 16))
        .collect();
    let shape: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
    tensor::store(&tensor.name, &Tensor::from_shape(&shape, &values)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::NodeProto;

    #[test]
    fn both_kinds_of_16_bits_become_32() {
        let constant = |name: &str, kind: DataType, bits: [u16; 2], raw: bool| {
            let mut tensor = TensorProto {
                name: name.to_string(),
                dims: vec![2],
                data_type: kind as i32,
                ..TensorProto::default()
            };
            if raw {
                tensor.raw_data = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            } else {
                tensor.int32_data = bits.map(i32::from).to_vec();
            }
            tensor
        };
        // 1 and -2.5.
        let (half, brain) = ([0x3c00, 0xc100], [0x3f80, 0xc020]);
        let mut cast = NodeProto::default();
        cast.attribute.push(AttributeProto {
            name: "to".to_string(),
            i: DataType::Bfloat16 as i64,
            ..AttributeProto::default()
        });
        let mut graph = GraphProto {
            initializer: vec![
                constant("a", DataType::Float16, half, true),
                constant("b", DataType::Bfloat16, brain, true),
                constant("c", DataType::Bfloat16, brain, false),
            ],
            node: vec![cast],
            ..GraphProto::default()
        };
        assert!(is_needed(&graph));
        widen(&mut graph, None).unwrap();
        for tensor in &graph.initializer {
            let values = tensor::floats(tensor).unwrap();
            assert_eq!((&*values, &*tensor.dims), (&[1.0, -2.5][..], &[2][..]));
        }
        assert_eq!(graph.node[0].attribute[0].i, DataType::Float as i64);
        assert!(!is_needed(&graph));
        // As many bits as the shape says.
        graph.initializer = vec![constant("d", DataType::Bfloat16, brain, true)];
        graph.initializer[0].dims = vec![3];
        assert_eq!(widen(&mut graph, None).unwrap_err().node, "d");
    }
}
