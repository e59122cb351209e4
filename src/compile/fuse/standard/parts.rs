//! Nodes and constants in the place of one operator, while they are made.

use crate::compile::fuse::node::{Value, node, with};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

/// The domain of ONNX Runtime's operators.
pub const DOMAIN: &str = "com.microsoft";

/// What takes the place of one operator.
#[derive(Debug)]
pub struct Parts {
    prefix: String,
    opset: i64,
    /// Nodes, in order.
    pub nodes: Vec<NodeProto>,
    /// What they read beside what the operator did.
    pub constants: Vec<TensorProto>,
}

impl Parts {
    /// None yet.
    pub fn new(op: &NodeProto, opset: i64) -> Parts {
        Parts {
            prefix: op.output[0].clone(),
            opset,
            nodes: vec![],
            constants: vec![],
        }
    }

    /// One node more; gives what it writes.
    pub fn op(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.op_with(operator, inputs, &[])
    }

    /// The same with attributes.
    pub fn op_with(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[(&str, Value)],
    ) -> String {
        let name = format!("{}.part{}", self.prefix, self.nodes.len());
        let mut made = node(operator, &name, inputs, &[&name]);
        for (name, value) in attributes {
            made = with(made, name, value.clone());
        }
        self.nodes.push(made);
        name
    }

    /// Attributes for the node made last.
    pub fn attribute(&mut self, attributes: impl Iterator<Item = AttributeProto>) {
        if let Some(node) = self.nodes.last_mut() {
            node.attribute.extend(attributes);
        }
    }

    /// Lets what is called `name` be called `output`, as the graph's other nodes know it.
    pub fn call(&mut self, name: &str, output: &str) {
        let made = self.nodes.iter().any(|node| node.output[0] == name);
        if !made || self.nodes.iter().any(|node| node.output[0] == output) {
            self.nodes
                .push(node("Identity", output, &[name], &[output]));
            return;
        }
        for node in &mut self.nodes {
            let names = node.input.iter_mut().chain(&mut node.output);
            for of in names.filter(|of| *of == name) {
                *of = output.to_string();
            }
        }
    }

    fn constant(&mut self, kind: DataType, shape: &[i64], bytes: Vec<u8>) -> String {
        let name = format!("{}.constant{}", self.prefix, self.constants.len());
        self.constants.push(TensorProto {
            name: name.clone(),
            dims: shape.to_vec(),
            data_type: kind as i32,
            raw_data: bytes,
            ..TensorProto::default()
        });
        name
    }

    /// A constant of one axis.
    pub fn integers(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(DataType::Int64, &[values.len() as i64], bytes)
    }

    /// A constant of floats.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> String {
        let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(DataType::Float, &shape, bytes)
    }

    /// A constant of no axis.
    pub fn number(&mut self, value: f32) -> String {
        self.constant(DataType::Float, &[], value.to_le_bytes().to_vec())
    }

    /// x + y, where there is a y.
    pub fn plus(&mut self, x: &str, y: Option<&str>) -> String {
        match y {
            Some(y) => self.op("Add", &[x, y]),
            None => x.to_string(),
        }
    }

    /// x · factor.
    pub fn times(&mut self, x: &str, factor: f32) -> String {
        let factor = self.number(factor);
        self.op("Mul", &[x, &factor])
    }

    /// GELU by the hyperbolic tangent.
    pub fn gelu_by_tanh(&mut self, x: &str) -> String {
        let by = Value::Text("tanh".to_string());
        self.op_with("Gelu", &[x], &[("approximate", by)])
    }

    /// Axes in another order.
    pub fn transpose(&mut self, x: &str, order: Vec<i64>) -> String {
        self.op_with("Transpose", &[x], &[("perm", Value::Ints(order))])
    }

    /// Another shape; 0 keeps a size, -1 is what is left.
    pub fn reshape(&mut self, x: &str, sizes: &[i64]) -> String {
        let sizes = self.integers(sizes);
        self.op("Reshape", &[x, &sizes])
    }

    /// Axes of one element more.
    pub fn unsqueeze(&mut self, x: &str, axes: &[i64]) -> String {
        if self.opset < 13 {
            return self.op_with("Unsqueeze", &[x], &[("axes", Value::Ints(axes.to_vec()))]);
        }
        let axes = self.integers(axes);
        self.op("Unsqueeze", &[x, &axes])
    }

    /// Elements from `from` to before `to` of the last axis, in steps.
    pub fn last(&mut self, x: &str, from: i64, to: i64, step: i64) -> String {
        let [from, to, axis, step] = [from, to, -1, step].map(|value| self.integers(&[value]));
        self.op("Slice", &[x, &from, &to, &axis, &step])
    }

    /// Values after one another along the last axis.
    pub fn concat(&mut self, values: &[&str]) -> String {
        self.op_with("Concat", values, &[("axis", Value::Int(-1))])
    }

    /// As floats.
    pub fn float(&mut self, x: &str) -> String {
        let to = Value::Int(DataType::Float as i64);
        self.op_with("Cast", &[x], &[("to", to)])
    }

    /// Integers times their scale; of a scale each along `axis`.
    pub fn dequantised(&mut self, x: &str, scale: &str, zero: Option<&str>, axis: i64) -> String {
        let mut inputs = vec![x, scale];
        inputs.extend(zero);
        self.op_with("DequantizeLinear", &inputs, &[("axis", Value::Int(axis))])
    }

    /// Layer norm over the last axis.
    pub fn layer_norm(&mut self, x: &str, gamma: &str, beta: Option<&str>, epsilon: f32) -> String {
        let mut inputs = vec![x, gamma];
        inputs.extend(beta);
        let of = [("axis", Value::Int(-1)), ("epsilon", Value::Float(epsilon))];
        self.op_with("LayerNormalization", &inputs, &of)
    }

    /// x by the root of its mean square over the last axis, times gamma.
    pub fn rms_norm(&mut self, x: &str, gamma: &str, epsilon: f32) -> String {
        let square = self.op("Mul", &[x, x]);
        let mean = if self.opset < 18 {
            self.op_with("ReduceMean", &[&square], &[("axes", Value::Ints(vec![-1]))])
        } else {
            let axis = self.integers(&[-1]);
            self.op("ReduceMean", &[&square, &axis])
        };
        let epsilon = self.number(epsilon);
        let sum = self.op("Add", &[&mean, &epsilon]);
        let root = self.op("Sqrt", &[&sum]);
        let normed = self.op("Div", &[x, &root]);
        self.op("Mul", &[&normed, gamma])
    }
}
