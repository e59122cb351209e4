//! An ONNX graph with what its rewriting needs: who writes a tensor, what is constant, and shapes
//! in which the length stays a symbol.

use super::dim::{Dim, Fact};
use super::meaning::Meaning;
use super::tensor;
use std::collections::{BTreeMap, HashMap, HashSet};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto, ValueInfoProto};

/// Bytes of a constant that is not kept longer than it is read: weights that were copied into
/// others are most of a large network's memory.
const LARGE: usize = 1 << 16;

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
    pub(super) facts: HashMap<String, Fact>,
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

    /// A constant's values as f32; `None` for what is no number.
    pub fn floats(&self, tensor: &str) -> Option<Vec<f32>> {
        tensor::floats(self.constants.get(tensor)?).ok()
    }

    /// A constant of one element.
    pub fn scalar(&self, tensor: &str) -> Option<f32> {
        let constant = self.constants.get(tensor)?;
        if constant.dims.iter().product::<i64>() != 1 {
            return None;
        }
        tensor::floats(constant).ok()?.first().copied()
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

    /// Drops large constants that a node has read, which is no longer there, and no other reads.
    pub fn drop_unread(&mut self, gone: &NodeProto) {
        for name in &gone.input {
            let large = |tensor: &TensorProto| tensor.raw_data.len() > LARGE;
            let unread = || self.readers(name).is_empty() && !self.is_output(name);
            if self.constants.get(name).is_some_and(large) && unread() {
                self.constants.remove(name);
            }
        }
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
        self.behind(tensor, |_| true)
    }

    /// The graph inputs whose values a tensor may depend on, not their shapes alone.
    pub fn sources(&self, tensor: &str) -> Vec<String> {
        let values = |node: &NodeProto| !["Shape", "Size"].contains(&node.op_type.as_str());
        self.behind(tensor, values).1
    }

    /// True where no value of such an input can change a tensor.
    pub fn is_free_of(&self, tensor: &str, meanings: &[Meaning]) -> bool {
        let sources = self.sources(tensor);
        let found = |(name, meaning): &(String, Meaning)| {
            meanings.contains(meaning) && sources.contains(name)
        };
        !self.meanings.iter().any(found)
    }

    /// Nodes and inputs behind a tensor; behind a node only where `through` says so.
    fn behind(
        &self,
        tensor: &str,
        through: impl Fn(&NodeProto) -> bool,
    ) -> (Vec<usize>, Vec<String>) {
        let mut nodes = HashSet::new();
        let mut inputs = vec![];
        let mut open = vec![tensor.to_string()];
        while let Some(name) = open.pop() {
            if let Some(&at) = self.producer.get(&name) {
                if nodes.insert(at) && through(&self.nodes[at]) {
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
