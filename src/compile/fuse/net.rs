//! An ONNX graph with what its rewriting needs: who writes a tensor, what is constant, and shapes
//! in which the length stays a symbol.

use super::Meaning;
use super::dim::{Dim, Fact};
use super::shape;
use std::collections::{BTreeMap, HashMap, HashSet};
use tract_nnef::internal::*;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto,
};

/// The domain of the operators that this front end writes.
pub const DOMAIN: &str = "strandline";

/// Names of fused operators begin with it: tract finds operators by name alone, and ONNX has an
/// Attention and a Gelu of its own.
pub const PREFIX: &str = "strandline.";

/// A graph in order of evaluation.
#[derive(Debug, Clone)]
pub struct Net {
    /// Nodes, each behind those that it reads.
    pub nodes: Vec<NodeProto>,
    /// Initialisers and folded constants.
    pub constants: BTreeMap<String, TensorProto>,
    /// Graph inputs that are no initialisers.
    pub inputs: Vec<ValueInfoProto>,
    /// Graph outputs.
    pub outputs: Vec<ValueInfoProto>,
    /// Version of the default operator set.
    pub opset: i64,
    /// Positions of the input: the symbol, or a number where the file fixes it.
    pub rows: Dim,
    /// What the inputs are, by name.
    pub meanings: Vec<(String, Meaning)>,
    /// A token id that means nothing special.
    pub ordinary: i64,
    facts: HashMap<String, Fact>,
    producer: HashMap<String, usize>,
}

impl Net {
    /// Takes a graph apart. `rows` is the length of its input.
    pub fn new(graph: GraphProto, opset: i64, rows: Dim) -> Net {
        let constants: BTreeMap<String, TensorProto> = graph
            .initializer
            .into_iter()
            .map(|t| (t.name.clone(), t))
            .collect();
        let inputs = graph.input.into_iter();
        let mut net = Net {
            nodes: graph.node,
            inputs: inputs
                .filter(|i| !constants.contains_key(&i.name))
                .collect(),
            outputs: graph.output,
            constants,
            opset,
            rows,
            meanings: vec![],
            ordinary: 0,
            facts: HashMap::new(),
            producer: HashMap::new(),
        };
        net.index();
        net
    }

    /// Finds producers anew, after nodes moved.
    pub fn index(&mut self) {
        self.producer.clear();
        for (at, node) in self.nodes.iter().enumerate() {
            for output in node.output.iter().filter(|o| !o.is_empty()) {
                self.producer.insert(output.clone(), at);
            }
        }
    }

    /// The node that writes a tensor.
    pub fn producer(&self, tensor: &str) -> Option<&NodeProto> {
        self.nodes.get(*self.producer.get(tensor)?)
    }

    /// The node that writes a tensor, if it is of this operator.
    pub fn producer_of(&self, tensor: &str, operator: &str) -> Option<&NodeProto> {
        self.producer(tensor).filter(|n| n.op_type == operator)
    }

    /// Indices of the nodes that read a tensor.
    pub fn readers(&self, tensor: &str) -> Vec<usize> {
        let reads = |n: &NodeProto| n.input.iter().any(|i| i == tensor);
        (0..self.nodes.len())
            .filter(|&at| reads(&self.nodes[at]))
            .collect()
    }

    /// True for an output of the graph.
    pub fn is_output(&self, tensor: &str) -> bool {
        self.outputs.iter().any(|o| o.name == tensor)
    }

    /// True for an input of the graph.
    pub fn is_input(&self, tensor: &str) -> bool {
        self.inputs.iter().any(|i| i.name == tensor)
    }

    /// What is known of a tensor.
    pub fn fact(&self, tensor: &str) -> Fact {
        if let Some(constant) = self.constants.get(tensor) {
            return Fact::of_constant(constant);
        }
        self.facts.get(tensor).cloned().unwrap_or_default()
    }

    /// Shape of a tensor where every dimension is known.
    pub fn shape(&self, tensor: &str) -> Option<Vec<Dim>> {
        self.fact(tensor).shape?.into_iter().collect()
    }

    /// Number of axes of a tensor.
    pub fn rank(&self, tensor: &str) -> Option<usize> {
        Some(self.fact(tensor).shape?.len())
    }

    /// States what is known of a tensor.
    pub fn set_fact(&mut self, tensor: &str, fact: Fact) {
        self.facts.insert(tensor.to_string(), fact);
    }

    /// Infers shapes from the inputs on.
    pub fn infer(&mut self) {
        let inputs: Vec<String> = self.inputs.iter().map(|i| i.name.clone()).collect();
        self.facts.retain(|name, _| inputs.contains(name));
        for at in 0..self.nodes.len() {
            self.infer_node(at);
        }
    }

    /// Infers the shapes of one node's outputs.
    pub fn infer_node(&mut self, at: usize) {
        let node = self.nodes[at].clone();
        let facts = shape::infer(self, &node);
        for (output, fact) in node.output.iter().zip(facts) {
            self.facts.insert(output.clone(), fact);
        }
    }

    /// Puts `new` in the place of node `at`; the last of them writes its output.
    pub fn replace(&mut self, at: usize, new: Vec<NodeProto>) {
        let count = new.len();
        self.nodes.splice(at..=at, new);
        self.index();
        for at in at..at + count {
            self.infer_node(at);
        }
    }

    /// A constant's values as f32; `None` for what is no number.
    pub fn floats(&self, tensor: &str) -> Option<Vec<f32>> {
        floats(self.constants.get(tensor)?).ok()
    }

    /// A constant of one element.
    pub fn scalar(&self, tensor: &str) -> Option<f32> {
        let constant = self.constants.get(tensor)?;
        if constant.dims.iter().product::<i64>() != 1 {
            return None;
        }
        floats(constant).ok()?.first().copied()
    }

    /// Integers known at this point, all of them numbers.
    pub fn integers(&self, tensor: &str) -> Option<Vec<i64>> {
        self.fact(tensor)
            .values?
            .into_iter()
            .map(|v| v?.fixed())
            .collect()
    }

    /// Dimensions of a constant.
    pub fn constant_shape(&self, tensor: &str) -> Option<Vec<usize>> {
        let dims = &self.constants.get(tensor)?.dims;
        dims.iter().map(|&d| usize::try_from(d).ok()).collect()
    }

    /// Adds a constant of floats; an equal name means equal content.
    pub fn add_floats(&mut self, name: String, shape: &[usize], values: &[f32]) -> String {
        let tensor = TensorProto {
            name: name.clone(),
            dims: shape.iter().map(|&d| d as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        self.constants.insert(name.clone(), tensor);
        name
    }

    /// Adds a constant of integers, of one axis.
    pub fn add_integers(&mut self, name: String, values: &[i64]) -> String {
        let tensor = TensorProto {
            name: name.clone(),
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            raw_data: values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        self.constants.insert(name.clone(), tensor);
        name
    }

    /// Lets all readers of `from` read `to`. False where `from` must remain because the graph gives
    /// it out.
    pub fn rename(&mut self, from: &str, to: &str) -> bool {
        if self.is_output(from) {
            return false;
        }
        for node in &mut self.nodes {
            for input in node.input.iter_mut().filter(|i| *i == from) {
                *input = to.to_string();
            }
        }
        true
    }

    /// Drops nodes and constants that no output needs.
    pub fn drop_dead(&mut self) {
        let mut needed: HashSet<String> = self.outputs.iter().map(|o| o.name.clone()).collect();
        let mut alive = vec![false; self.nodes.len()];
        for (at, node) in self.nodes.iter().enumerate().rev() {
            if node.output.iter().any(|o| needed.contains(o)) {
                alive[at] = true;
                needed.extend(node.input.iter().filter(|i| !i.is_empty()).cloned());
            }
        }
        let mut alive = alive.into_iter();
        self.nodes.retain(|_| alive.next().unwrap_or(true));
        self.constants.retain(|name, _| needed.contains(name));
        self.index();
    }

    /// The names of all that a tensor is computed from: nodes (by index), in order, and graph
    /// inputs.
    pub fn ancestors(&self, tensor: &str) -> (Vec<usize>, Vec<String>) {
        let mut nodes = HashSet::new();
        let mut inputs = vec![];
        let mut open = vec![tensor.to_string()];
        while let Some(name) = open.pop() {
            if let Some(&at) = self.producer.get(&name) {
                if nodes.insert(at) {
                    open.extend(
                        self.nodes[at]
                            .input
                            .iter()
                            .filter(|i| !i.is_empty())
                            .cloned(),
                    );
                }
            } else if self.is_input(&name) && !inputs.contains(&name) {
                inputs.push(name);
            }
        }
        let mut nodes: Vec<usize> = nodes.into_iter().collect();
        nodes.sort_unstable();
        (nodes, inputs)
    }
}

/// The element type of a graph input; tokens where none is stated.
pub fn input_type(net: &Net, name: &str) -> DatumType {
    let stated = net
        .inputs
        .iter()
        .find(|i| i.name == name)
        .and_then(element_type);
    stated.unwrap_or(DatumType::I64)
}

/// The element type that a graph input states.
pub fn element_type(input: &ValueInfoProto) -> Option<DatumType> {
    let Some(type_proto::Value::TensorType(tensor)) = &input.r#type.as_ref()?.value else {
        return None;
    };
    DataType::try_from(tensor.elem_type).ok()?.try_into().ok()
}

/// A tensor's values as f32.
pub fn floats(tensor: &TensorProto) -> TractResult<Vec<f32>> {
    let loaded = load(tensor, None)?;
    let cast = loaded.cast_to::<f32>()?;
    Ok(cast.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

/// A tensor's values as i64; for integers only.
pub fn integers(tensor: &TensorProto) -> TractResult<Vec<i64>> {
    let loaded = load(tensor, None)?;
    let dt = loaded.datum_type();
    ensure!(
        dt.is_integer() || dt == bool::datum_type(),
        "values of {dt:?}"
    );
    let cast = loaded.cast_to::<i64>()?;
    Ok(cast.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

/// Reads a tensor; `folder` is where files with external data lie.
pub fn load(tensor: &TensorProto, folder: Option<&str>) -> TractResult<Tensor> {
    let size = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float | DataType::Int32 | DataType::Uint32) => 4,
        Ok(DataType::Double | DataType::Int64 | DataType::Uint64) => 8,
        Ok(DataType::Float16 | DataType::Int16 | DataType::Uint16) => 2,
        Ok(DataType::Int8 | DataType::Uint8 | DataType::Bool) => 1,
        _ => bail!(
            "tensor {}: data type {} is not read",
            tensor.name,
            tensor.data_type
        ),
    };
    let count = tensor.dims.iter().try_fold(size, |count: usize, &d| {
        count.checked_mul(usize::try_from(d).ok()?)
    });
    let count =
        count.with_context(|| format!("tensor {}: shape {:?}", tensor.name, tensor.dims))?;
    // tract takes the length of raw data on trust.
    if !tensor.raw_data.is_empty() {
        ensure!(
            tensor.raw_data.len() == count,
            "tensor {}: {} bytes for shape {:?}",
            tensor.name,
            tensor.raw_data.len(),
            tensor.dims
        );
    }
    let provider = tract_onnx::onnx().provider;
    let loaded = tract_onnx::tensor::load_tensor(&*provider, tensor, folder)?;
    ensure!(
        loaded.len() * size == count,
        "tensor {}: too few values",
        tensor.name
    );
    Ok(loaded)
}

/// A tensor as ONNX stores it.
pub fn store(name: &str, tensor: &Tensor) -> TractResult<TensorProto> {
    let data_type = match tensor.datum_type() {
        DatumType::F32 => DataType::Float,
        DatumType::F16 => DataType::Float16,
        DatumType::F64 => DataType::Double,
        DatumType::I64 => DataType::Int64,
        DatumType::I32 => DataType::Int32,
        DatumType::I8 => DataType::Int8,
        DatumType::U8 => DataType::Uint8,
        DatumType::Bool => DataType::Bool,
        // tract turns what may be a shape into symbolic dimensions.
        DatumType::TDim => {
            let cast = tensor.cast_to::<i64>()?;
            return store(name, &cast);
        }
        other => bail!("tensor {name}: {other:?} cannot be stored"),
    };
    Ok(TensorProto {
        name: name.to_string(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: data_type as i32,
        raw_data: tensor.as_bytes().to_vec(),
        ..TensorProto::default()
    })
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
    Text(&'static str),
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
