//! ONNX graphs written by hand, with weights from a fixed sequence.

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// Tokens of the vocabulary.
const VOCABULARY: usize = 9;

/// An attribute's value.
pub enum Value {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<Vec<i64>> for Value {
    fn from(values: Vec<i64>) -> Value {
        Value::Ints(values)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Value {
        Value::Float(value)
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Value {
        Value::Text(text)
    }
}

/// An attribute of a node.
pub fn attribute(name: &str, value: impl Into<Value>) -> AttributeProto {
    let mut made = AttributeProto {
        name: name.to_string(),
        ..AttributeProto::default()
    };
    let kind = match value.into() {
        Value::Int(i) => {
            made.i = i;
            AttributeType::Int
        }
        Value::Ints(ints) => {
            made.ints = ints;
            AttributeType::Ints
        }
        Value::Float(f) => {
            made.f = f;
            AttributeType::Float
        }
        Value::Text(s) => {
            made.s = s.as_bytes().to_vec();
            AttributeType::String
        }
    };
    made.r#type = kind as i32;
    made
}

/// A shape of convolution that keeps the length.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub width: usize,
    pub dilation: usize,
    /// Of the padding, how much lies before.
    pub before: usize,
}

/// What the rows of a transformer are.
pub struct Rows {
    pub width: usize,
    pub heads: usize,
    pub masked: bool,
    pub rotary: bool,
}

/// A graph under construction.
pub struct Draft {
    graph: GraphProto,
    state: u32,
    opset: i64,
}

impl Draft {
    /// A network that reads bases, f32 `[1, 4, T]`, called `x`.
    pub fn bases(seed: u32) -> Draft {
        let mut draft = Draft::empty(seed);
        draft.input("x", FLOAT, &[Some(1), Some(4), None]);
        draft
    }

    /// A network that reads token ids, i64 `[1, T]`, and perhaps a mask.
    pub fn ids(seed: u32, masked: bool) -> Draft {
        let mut draft = Draft::empty(seed);
        draft.input("ids", INT64, &[Some(1), None]);
        if masked {
            draft.input("attention_mask", INT64, &[Some(1), None]);
        }
        draft
    }

    /// The same as Keras has it: bases `[1, T, 4]`.
    pub fn rows(seed: u32) -> Draft {
        let mut draft = Draft::empty(seed);
        draft.input("x", FLOAT, &[Some(1), None, Some(4)]);
        draft
    }

    /// Another version of the operators.
    pub fn opset(mut self, version: i64) -> Draft {
        self.opset = version;
        self
    }

    fn empty(seed: u32) -> Draft {
        Draft {
            graph: GraphProto {
                name: "draft".to_string(),
                ..GraphProto::default()
            },
            state: seed | 1,
            opset: 17,
        }
    }

    fn input(&mut self, name: &str, kind: i32, dims: &[Option<i64>]) {
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
            r#type: Some(TypeProto {
                value: Some(type_proto::Value::TensorType(tensor)),
                ..TypeProto::default()
            }),
            ..ValueInfoProto::default()
        });
    }

    /// Between -1 and 1.
    fn random(&mut self) -> f32 {
        self.state = self
            .state
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    }

    /// A constant of raw bytes; `kind` as ONNX counts them.
    pub fn store(&mut self, kind: i32, shape: &[usize], raw_data: Vec<u8>) -> String {
        let name = format!("c{}", self.graph.initializer.len());
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            dims: shape.iter().map(|&d| d as i64).collect(),
            data_type: kind,
            raw_data,
            ..TensorProto::default()
        });
        name
    }

    /// A constant.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.store(FLOAT, shape, bytes)
    }

    /// A constant.
    pub fn integers(&mut self, shape: &[usize], values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.store(INT64, shape, bytes)
    }

    /// Weights whose products with `fan` inputs stay near the inputs' magnitude.
    pub fn weights(&mut self, shape: &[usize], fan: usize) -> String {
        let factor = (3.0 / fan as f32).sqrt();
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| self.random() * factor)
            .collect();
        self.floats(shape, &values)
    }

    /// A constant near a value.
    pub fn around(&mut self, middle: f32, count: usize) -> String {
        let values: Vec<f32> = (0..count).map(|_| middle + self.random() / 4.0).collect();
        self.floats(&[count], &values)
    }

    /// A constant without an axis.
    pub fn scalar(&mut self, value: f32) -> String {
        self.floats(&[], &[value])
    }

    /// An index without an axis.
    pub fn scalar_index(&mut self, value: i64) -> String {
        self.integers(&[], &[value])
    }

    /// Adds a node with several outputs and gives their names.
    pub fn parts(
        &mut self,
        operator: &str,
        inputs: &[&str],
        attributes: &[AttributeProto],
        count: usize,
    ) -> Vec<String> {
        let first = self.op(operator, inputs, attributes);
        let all: Vec<String> = (0..count).map(|i| format!("{first}.{i}")).collect();
        if let Some(node) = self.graph.node.last_mut() {
            node.output.clone_from(&all);
        }
        all
    }

    /// Adds a node and gives the name of its output.
    pub fn op(&mut self, operator: &str, inputs: &[&str], attributes: &[AttributeProto]) -> String {
        let output = format!("{}_{}", operator.to_lowercase(), self.graph.node.len());
        self.graph.node.push(NodeProto {
            name: output.clone(),
            op_type: operator.to_string(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.clone()],
            attribute: attributes.to_vec(),
            ..NodeProto::default()
        });
        output
    }

    /// The file, with `output` as the graph's.
    pub fn finish(self, output: &str) -> Vec<u8> {
        self.finish_all(&[output])
    }

    /// The same with several outputs.
    pub fn finish_all(mut self, outputs: &[&str]) -> Vec<u8> {
        for output in outputs {
            self.graph.output.push(ValueInfoProto {
                name: output.to_string(),
                ..ValueInfoProto::default()
            });
        }
        let model = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: self.opset,
            }],
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    /// A convolution that keeps the length, or divides it by the stride.
    pub fn conv(
        &mut self,
        x: &str,
        channels_in: usize,
        channels_out: usize,
        shape: Shape,
        group: usize,
        stride: usize,
    ) -> String {
        let own = channels_in / group;
        let weight = self.weights(&[channels_out, own, shape.width], own * shape.width);
        let bias = self.around(0.0, channels_out);
        let span = (shape.width - 1) * shape.dilation;
        let before = (shape.before * shape.dilation) as i64;
        // As many windows as there are whole strides.
        let after = (span as i64 - before - (stride as i64 - 1)).max(0);
        let attributes = [
            attribute("kernel_shape", vec![shape.width as i64]),
            attribute("dilations", vec![shape.dilation as i64]),
            attribute("pads", vec![before, after]),
            attribute("strides", vec![stride as i64]),
            attribute("group", group as i64),
        ];
        self.op("Conv", &[x, &weight, &bias], &attributes)
    }

    /// None, ReLU, GELU, sigmoid or tanh.
    pub fn function(&mut self, x: &str, which: usize) -> String {
        match which {
            0 => x.to_string(),
            1 => self.op("Relu", &[x], &[]),
            2 => self.gelu(x, false),
            3 => self.op("Sigmoid", &[x], &[]),
            _ => self.op("Tanh", &[x], &[]),
        }
    }

    fn gelu(&mut self, x: &str, tanh: bool) -> String {
        let (half, one) = (self.scalar(0.5), self.scalar(1.0));
        let bracket = if tanh {
            let (three, small, factor) = (
                self.scalar(3.0),
                self.scalar(0.044_715),
                self.scalar(0.797_884_6),
            );
            let cube = self.op("Pow", &[x, &three], &[]);
            let cube = self.op("Mul", &[&cube, &small], &[]);
            let sum = self.op("Add", &[x, &cube], &[]);
            let inner = self.op("Mul", &[&sum, &factor], &[]);
            self.op("Tanh", &[&inner], &[])
        } else {
            let root = self.scalar(2f32.sqrt());
            let inner = self.op("Div", &[x, &root], &[]);
            self.op("Erf", &[&inner], &[])
        };
        let bracket = self.op("Add", &[&bracket, &one], &[]);
        let y = self.op("Mul", &[x, &bracket], &[]);
        self.op("Mul", &[&y, &half], &[])
    }

    /// Batch norm of trained statistics.
    pub fn batch_norm(&mut self, x: &str, channels: usize) -> String {
        let (gamma, beta) = (self.around(1.0, channels), self.around(0.0, channels));
        let (mean, variance) = (self.around(0.1, channels), self.around(0.8, channels));
        self.op(
            "BatchNormalization",
            &[x, &gamma, &beta, &mean, &variance],
            &[],
        )
    }

    /// The maximum or the mean of windows.
    pub fn pool(
        &mut self,
        x: &str,
        max: bool,
        width: usize,
        before: usize,
        stride: usize,
        padding_counts: bool,
    ) -> String {
        let after = width - stride - before;
        let mut attributes = vec![
            attribute("kernel_shape", vec![width as i64]),
            attribute("strides", vec![stride as i64]),
            attribute("pads", vec![before as i64, after as i64]),
        ];
        if !max {
            attributes.push(attribute("count_include_pad", i64::from(padding_counts)));
        }
        self.op(
            if max { "MaxPool" } else { "AveragePool" },
            &[x],
            &attributes,
        )
    }

    /// Every row so many times.
    pub fn upsample(&mut self, x: &str, factor: usize) -> String {
        let scales = self.floats(&[3], &[1.0, 1.0, factor as f32]);
        let attributes = [
            attribute("mode", "nearest"),
            attribute("nearest_mode", "floor"),
            attribute("coordinate_transformation_mode", "asymmetric"),
        ];
        self.op("Resize", &[x, "", &scales], &attributes)
    }

    /// A dense layer on `[1, inputs]`.
    pub fn dense(&mut self, x: &str, inputs: usize, outputs: usize) -> String {
        let weight = self.weights(&[outputs, inputs], inputs);
        let bias = self.around(0.0, outputs);
        self.op("Gemm", &[x, &weight, &bias], &[attribute("transB", 1)])
    }

    /// A linear layer on `[1, T, inputs]`.
    pub fn linear(&mut self, x: &str, inputs: usize, outputs: usize) -> String {
        let weight = self.weights(&[inputs, outputs], inputs);
        let bias = self.around(0.0, outputs);
        let y = self.op("MatMul", &[x, &weight], &[]);
        self.op("Add", &[&bias, &y], &[])
    }

    /// Embedded tokens, with learned positions where there are some.
    pub fn embedding(&mut self, width: usize, positions: Option<usize>) -> String {
        let table = self.weights(&[VOCABULARY, width], 3);
        let tokens = self.op("Gather", &[&table, "ids"], &[]);
        let Some(count) = positions else {
            return tokens;
        };
        let table = self.weights(&[1, count, width], 3);
        let length = self.length();
        let axis = self.integers(&[1], &[0]);
        let end = self.op("Unsqueeze", &[&length, &axis], &[]);
        let (start, one) = (self.integers(&[1], &[0]), self.integers(&[1], &[1]));
        let rows = self.op("Slice", &[&table, &start, &end, &one], &[]);
        self.op("Add", &[&tokens, &rows], &[])
    }

    /// T, without an axis.
    pub fn length(&mut self) -> String {
        let shape = self.op("Shape", &["ids"], &[]);
        let one = self.scalar_index(1);
        self.op("Gather", &[&shape, &one], &[attribute("axis", 0)])
    }

    /// Layer norm of rows.
    pub fn layer_norm(&mut self, x: &str, width: usize) -> String {
        let (gamma, beta) = (self.around(1.0, width), self.around(0.0, width));
        let attributes = [attribute("epsilon", 1e-5), attribute("axis", -1)];
        self.op("LayerNormalization", &[x, &gamma, &beta], &attributes)
    }

    /// Attention and two linear layers, layer norm before or after each.
    pub fn transformer_block(&mut self, x: &str, rows: &Rows, before: bool, gelu: usize) -> String {
        let width = rows.width;
        let mut y = x.to_string();
        if before {
            y = self.layer_norm(&y, width);
        }
        y = self.attention(&y, rows);
        let mut x = self.op("Add", &[x, &y], &[]);
        if !before {
            x = self.layer_norm(&x, width);
        }
        let mut y = x.clone();
        if before {
            y = self.layer_norm(&y, width);
        }
        y = self.linear(&y, width, 2 * width);
        y = match gelu {
            0 => self.op("Relu", &[&y], &[]),
            kind => self.gelu(&y, kind == 2),
        };
        y = self.linear(&y, 2 * width, width);
        x = self.op("Add", &[&x, &y], &[]);
        if !before {
            x = self.layer_norm(&x, width);
        }
        x
    }

    fn attention(&mut self, x: &str, rows: &Rows) -> String {
        let (width, size) = (rows.width as i64, rows.width / rows.heads);
        let mut parts = vec![];
        for part in 0..3 {
            let y = self.linear(x, rows.width, rows.width);
            let apart = self.integers(&[4], &[1, -1, rows.heads as i64, size as i64]);
            let y = self.op("Reshape", &[&y, &apart], &[]);
            let y = self.op("Transpose", &[&y], &[attribute("perm", vec![0, 2, 1, 3])]);
            parts.push(if rows.rotary && part < 2 {
                self.rotate(&y, size)
            } else {
                y
            });
        }
        let k = self.op(
            "Transpose",
            &[&parts[1]],
            &[attribute("perm", vec![0, 1, 3, 2])],
        );
        let scores = self.op("MatMul", &[&parts[0], &k], &[]);
        let root = self.scalar((size as f32).sqrt());
        let mut scores = self.op("Div", &[&scores, &root], &[]);
        if rows.masked {
            let axes = self.integers(&[2], &[1, 2]);
            let mask = self.op("Unsqueeze", &["attention_mask", &axes], &[]);
            let mask = self.op("Cast", &[&mask], &[attribute("to", 1)]);
            let (one, large) = (self.scalar(1.0), self.scalar(-1e4));
            let mask = self.op("Sub", &[&one, &mask], &[]);
            let mask = self.op("Mul", &[&mask, &large], &[]);
            scores = self.op("Add", &[&scores, &mask], &[]);
        }
        let p = self.op("Softmax", &[&scores], &[attribute("axis", -1)]);
        let y = self.op("MatMul", &[&p, &parts[2]], &[]);
        let y = self.op("Transpose", &[&y], &[attribute("perm", vec![0, 2, 1, 3])]);
        let together = self.integers(&[3], &[1, -1, width]);
        let y = self.op("Reshape", &[&y, &together], &[]);
        self.linear(&y, rows.width, rows.width)
    }

    /// `x · cos + rotate(x) · sin` of angles `t · 10000^(-2 j / size)`.
    fn rotate(&mut self, x: &str, size: usize) -> String {
        let half = size / 2;
        let rates: Vec<f32> = (0..half)
            .map(|j| 10_000f32.powf(-2.0 * j as f32 / size as f32))
            .collect();
        let rates = self.floats(&[1, half], &rates);
        let length = self.length();
        let (zero, one) = (self.scalar_index(0), self.scalar_index(1));
        let t = self.op("Range", &[&zero, &length, &one], &[]);
        let t = self.op("Cast", &[&t], &[attribute("to", 1)]);
        let axis = self.integers(&[1], &[1]);
        let t = self.op("Unsqueeze", &[&t, &axis], &[]);
        let angles = self.op("Mul", &[&t, &rates], &[]);
        let angles = self.op("Concat", &[&angles, &angles], &[attribute("axis", -1)]);
        let (cos, sin) = (
            self.op("Cos", &[&angles], &[]),
            self.op("Sin", &[&angles], &[]),
        );
        let at = |d: &mut Draft, at: usize| d.integers(&[1], &[at as i64]);
        let (start, middle, end, last) = (
            at(self, 0),
            at(self, half),
            at(self, size),
            self.integers(&[1], &[3]),
        );
        let first = self.op("Slice", &[x, &start, &middle, &last], &[]);
        let second = self.op("Slice", &[x, &middle, &end, &last], &[]);
        let second = self.op("Neg", &[&second], &[]);
        let rotated = self.op("Concat", &[&second, &first], &[attribute("axis", -1)]);
        let straight = self.op("Mul", &[x, &cos], &[]);
        let rotated = self.op("Mul", &[&rotated, &sin], &[]);
        self.op("Add", &[&straight, &rotated], &[])
    }
}
