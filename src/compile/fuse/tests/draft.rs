//! ONNX graphs, written node by node.

use crate::compile::fuse::node::{Value, node, with};
use crate::compile::fuse::tensor::store;
use tract_nnef::internal::*;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{GraphProto, ModelProto, OperatorSetIdProto};
use tract_onnx::pb::{TensorShapeProto, ValueInfoProto, type_proto};

/// A graph under construction, with weights from a fixed sequence.
pub struct OnnxDraft {
    graph: GraphProto,
    state: u32,
}

impl OnnxDraft {
    pub fn new(input: &str, kind: i32, dims: &[Option<i64>], seed: u32) -> OnnxDraft {
        let mut draft = OnnxDraft {
            graph: GraphProto::default(),
            state: seed | 1,
        };
        draft.input(input, kind, dims);
        draft
    }

    pub fn input(&mut self, name: &str, kind: i32, dims: &[Option<i64>]) {
        let dim = |d: &Option<i64>| Dimension {
            value: Some(match d {
                Some(d) => dimension::Value::DimValue(*d),
                None => dimension::Value::DimParam("length".to_string()),
            }),
            ..Dimension::default()
        };
        let tensor = type_proto::Tensor {
            elem_type: kind,
            shape: Some(TensorShapeProto {
                dim: dims.iter().map(dim).collect(),
            }),
        };
        self.graph.input.push(ValueInfoProto {
            name: name.to_string(),
            r#type: Some(tract_onnx::pb::TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..Default::default()
            }),
            ..ValueInfoProto::default()
        });
    }

    pub fn random(&mut self) -> f32 {
        self.state = self
            .state
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    }

    pub fn weights(&mut self, name: &str, shape: &[usize]) -> String {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.random()).collect();
        self.constant(name, &tensor1(&values).into_shape(shape).unwrap())
    }

    pub fn constant(&mut self, name: &str, tensor: &Tensor) -> String {
        self.graph.initializer.push(store(name, tensor).unwrap());
        name.to_string()
    }

    pub fn scalar(&mut self, value: f32) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        self.constant(&name, &tensor0(value))
    }

    pub fn shape(&mut self, values: &[i64]) -> String {
        let name = format!("s{}", self.graph.initializer.len());
        self.constant(&name, &tensor1(values))
    }

    /// Adds a node and gives the name of its output.
    pub fn op(&mut self, operator: &str, inputs: &[&str], attributes: &[(&str, Value)]) -> String {
        let output = format!("{}_{}", operator.to_lowercase(), self.graph.node.len());
        let mut made = node(operator, &output, inputs, &[&output]);
        for (name, value) in attributes {
            made = with(made, name, value.clone());
        }
        self.graph.node.push(made);
        output
    }

    /// An operator of ONNX Runtime's optimiser.
    pub fn merged(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Value)],
    ) -> String {
        let output = self.op(operator, inputs, attributes);
        if let Some(made) = self.graph.node.last_mut() {
            made.domain = "com.microsoft".to_string();
        }
        output
    }

    pub fn reshape(&mut self, x: &str, to: &[i64]) -> String {
        let shape = self.shape(to);
        self.op("Reshape", &[x, &shape], &[])
    }

    pub fn transpose(&mut self, x: &str, perm: &[i64]) -> String {
        self.op("Transpose", &[x], &[("perm", Value::Ints(perm.to_vec()))])
    }

    pub fn finish(mut self, output: &str) -> ModelProto {
        self.graph.output.push(ValueInfoProto {
            name: output.to_string(),
            ..ValueInfoProto::default()
        });
        ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: 17,
            }],
            graph: Some(self.graph),
            ..ModelProto::default()
        }
    }
}
