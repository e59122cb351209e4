//! Nodes of an ONNX graph: their attributes, and new ones.

use tract_nnef::internal::*;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto, ValueInfoProto, type_proto};

/// The domain of the operators that this front end writes.
pub const DOMAIN: &str = "strandline";

/// Names of fused operators begin with it: tract finds operators by name alone, and ONNX has an
/// Attention and a Gelu of its own.
pub const PREFIX: &str = "strandline.";

/// A node's name, or else its output's.
pub fn label(node: &NodeProto) -> &str {
    if node.name.is_empty() {
        &node.output[0]
    } else {
        &node.name
    }
}

/// An input that may be left out.
pub fn given(node: &NodeProto, at: usize) -> Option<&str> {
    let name = node.input.get(at)?.as_str();
    (!name.is_empty()).then_some(name)
}

/// An attribute of one integer.
pub fn int(node: &NodeProto, name: &str) -> Option<i64> {
    Some(node.attribute.iter().find(|a| a.name == name)?.i)
}

/// An attribute of integers.
pub fn ints(node: &NodeProto, name: &str) -> Option<Vec<i64>> {
    Some(node.attribute.iter().find(|a| a.name == name)?.ints.clone())
}

/// An attribute of one float.
pub fn float(node: &NodeProto, name: &str) -> Option<f32> {
    Some(node.attribute.iter().find(|a| a.name == name)?.f)
}

/// An attribute of text.
pub fn text(node: &NodeProto, name: &str) -> Option<String> {
    let attribute = node.attribute.iter().find(|a| a.name == name)?;
    String::from_utf8(attribute.s.clone()).ok()
}

/// What an attribute of a new node holds.
#[derive(Debug, Clone)]
pub enum Value {
    /// An integer.
    Int(i64),
    /// Integers.
    Ints(Vec<i64>),
    /// A float.
    Float(f32),
    /// Text.
    Text(String),
}

/// A new node.
pub fn node(operator: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let domain = if operator.starts_with(PREFIX) {
        DOMAIN
    } else {
        ""
    };
    NodeProto {
        name: name.to_string(),
        op_type: operator.to_string(),
        domain: domain.to_string(),
        input: inputs.iter().map(ToString::to_string).collect(),
        output: outputs.iter().map(ToString::to_string).collect(),
        ..NodeProto::default()
    }
}

/// The node with one attribute more.
pub fn with(mut node: NodeProto, name: &str, value: Value) -> NodeProto {
    let mut attribute = AttributeProto {
        name: name.to_string(),
        ..AttributeProto::default()
    };
    let kind = match value {
        Value::Int(i) => {
            attribute.i = i;
            AttributeType::Int
        }
        Value::Ints(ints) => {
            attribute.ints = ints;
            AttributeType::Ints
        }
        Value::Float(f) => {
            attribute.f = f;
            AttributeType::Float
        }
        Value::Text(s) => {
            attribute.s = s.as_bytes().to_vec();
            AttributeType::String
        }
    };
    attribute.r#type = kind as i32;
    node.attribute.push(attribute);
    node
}

/// The element type that a graph input states.
pub fn element_type(input: &ValueInfoProto) -> Option<DatumType> {
    DataType::try_from(element_kind(input)?)
        .ok()?
        .try_into()
        .ok()
}

/// The same as the file has it.
pub fn element_kind(input: &ValueInfoProto) -> Option<i32> {
    match &input.r#type.as_ref()?.value {
        Some(type_proto::Value::TensorType(tensor)) => Some(tensor.elem_type),
        _ => None,
    }
}
