//! The list that a network becomes: layers of ours and operators that stay tract's own, each
//! behind those that it reads.

use crate::model::layers::{FLAGS, INPUT, LENGTH, LayerEntry, LayerGraph, VALUES};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tract_nnef::internal::{Tensor, TypedOp};

/// A value of the list: an input of the network, or what an entry gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Wire(usize);

impl Wire {
    /// The base codes or the token ids.
    pub(super) const INPUT: Wire = Wire(0);
    /// How many of them count.
    pub(super) const LENGTH: Wire = Wire(1);
    /// The values of a cell's genes.
    pub(super) const VALUES: Wire = Wire(2);
    /// The flags of a cell's genes.
    pub(super) const FLAGS: Wire = Wire(3);
}

/// Something that is computed. Inputs are names of values before it.
#[derive(Debug)]
pub(super) enum Entry {
    /// One of our layers; its value has its label for a name.
    Layer(LayerEntry),
    /// An operator of tract's own.
    Foreign {
        label: String,
        operator: Box<dyn TypedOp>,
        inputs: Vec<String>,
        /// Names of its values.
        outputs: Vec<String>,
    },
    /// A constant that an operator of tract's own reads.
    Constant { label: String, value: Arc<Tensor> },
}

/// Entries, and the values that they give.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    /// Names of the values, by [`Wire`].
    names: Vec<String>,
    labels: HashSet<String>,
}

impl Listing {
    pub(super) fn new() -> Listing {
        Listing {
            entries: vec![],
            names: [INPUT, LENGTH, VALUES, FLAGS].map(str::to_string).to_vec(),
            labels: HashSet::new(),
        }
    }

    /// A label that no entry has, made of a node's name.
    pub(super) fn label(&self, name: &str) -> String {
        let clean: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        let clean = clean.trim_matches('_').to_string();
        let mut label = format!("n_{clean}");
        let mut number = 1;
        while self.labels.contains(&label) {
            number += 1;
            label = format!("n_{clean}_{number}");
        }
        label
    }

    /// Lists a layer.
    pub(super) fn layer(&mut self, entry: LayerEntry) -> Wire {
        let label = entry.label.clone();
        self.entries.push(Entry::Layer(entry));
        self.labels.insert(label.clone());
        self.value(label)
    }

    /// Lists an operator of tract's own that gives `count` values.
    pub(super) fn foreign(
        &mut self,
        label: &str,
        operator: Box<dyn TypedOp>,
        inputs: &[Wire],
        count: usize,
    ) -> Vec<Wire> {
        // A label has no dot: these names are no layer's.
        let outputs: Vec<String> = (0..count).map(|slot| format!("{label}.{slot}")).collect();
        self.entries.push(Entry::Foreign {
            label: label.to_string(),
            operator,
            inputs: self.names(inputs),
            outputs: outputs.clone(),
        });
        self.labels.insert(label.to_string());
        outputs.into_iter().map(|name| self.value(name)).collect()
    }

    /// Lists a constant.
    pub(super) fn constant(&mut self, label: &str, value: Arc<Tensor>) -> Wire {
        let label = label.to_string();
        self.entries.push(Entry::Constant {
            label: label.clone(),
            value,
        });
        self.labels.insert(label.clone());
        self.value(label)
    }

    /// Names of values.
    pub(super) fn names(&self, wires: &[Wire]) -> Vec<String> {
        let names = wires.iter().map(|wire| self.names[wire.0].clone());
        names.collect()
    }

    fn value(&mut self, name: String) -> Wire {
        self.names.push(name);
        Wire(self.names.len() - 1)
    }

    /// The network as a file holds it, where it consists of our layers alone.
    pub(super) fn layers(
        &self,
        outputs: &[Wire],
        halo: usize,
        stride: usize,
    ) -> Option<LayerGraph> {
        let layer = |entry: &Entry| match entry {
            Entry::Layer(layer) => Some(layer.clone()),
            Entry::Foreign { .. } | Entry::Constant { .. } => None,
        };
        let layers: Option<Vec<LayerEntry>> = self.entries.iter().map(layer).collect();
        let mut outputs = self.names(outputs);
        let layers = operands_first(layers?, &outputs);
        if let ([output], Some(last)) = (&*outputs, layers.last())
            && *output == last.label
        {
            outputs.clear();
        }
        Some(LayerGraph {
            halo,
            stride,
            layers,
            outputs,
        })
    }
}

/// The layers that the outputs need in the order of evaluation: walking back from each output,
/// every layer behind its operands, the first operand first.
fn operands_first(layers: Vec<LayerEntry>, outputs: &[String]) -> Vec<LayerEntry> {
    let labels = layers.iter().enumerate();
    let index: HashMap<&str, usize> = labels.map(|(at, l)| (l.label.as_str(), at)).collect();
    let mut done = vec![false; layers.len()];
    let mut order = vec![];
    for output in outputs {
        let mut open: Vec<(usize, usize)> = vec![];
        open.extend(index.get(output.as_str()).map(|&at| (at, 0)));
        // Layers, and how many of their operands are done.
        while let Some((at, operand)) = open.pop() {
            if done[at] {
                continue;
            }
            let Some(input) = layers[at].inputs.get(operand) else {
                done[at] = true;
                order.push(at);
                continue;
            };
            open.push((at, operand + 1));
            open.extend(index.get(input.as_str()).map(|&at| (at, 0)));
        }
    }
    order.into_iter().map(|at| layers[at].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::Precision;
    use crate::model::ops::one_hot::OneHotSpec;

    fn layer(listing: &mut Listing, name: &str, inputs: &[Wire]) -> Wire {
        let entry = LayerEntry {
            label: listing.label(name),
            precision: Precision::Int8,
            inputs: listing.names(inputs),
            spec: OneHotSpec {}.into(),
        };
        listing.layer(entry)
    }

    #[test]
    fn layers_come_behind_their_operands_and_only_where_an_output_needs_them() {
        let mut listing = Listing::new();
        let a = layer(&mut listing, "a", &[Wire::INPUT, Wire::LENGTH]);
        let b = layer(&mut listing, "/b/", &[a, Wire::LENGTH]);
        layer(&mut listing, "unread", &[a]);
        let c = layer(&mut listing, "a", &[Wire::INPUT, Wire::LENGTH]);
        let d = layer(&mut listing, "d", &[c, Wire::LENGTH, b]);
        let labels = |outputs: &[Wire]| -> (Vec<String>, Vec<String>) {
            let graph = listing.layers(outputs, 3, 1).unwrap();
            let layers = graph.layers.into_iter();
            (layers.map(|layer| layer.label).collect(), graph.outputs)
        };
        let (layers, outputs) = labels(&[d]);
        assert_eq!(layers, ["n_a_2", "n_a", "n_b", "n_d"]);
        assert!(outputs.is_empty());
        let (layers, outputs) = labels(&[b, d]);
        assert_eq!(layers, ["n_a", "n_b", "n_a_2", "n_d"]);
        assert_eq!(outputs, ["n_b", "n_d"]);
    }

    #[test]
    fn a_list_with_an_operator_of_tract_is_no_list_of_layers() {
        let mut listing = Listing::new();
        let a = layer(&mut listing, "a", &[Wire::INPUT]);
        let axis = tract_nnef::internal::AxisOp::Rm(0);
        let found = listing.foreign("n_b", Box::new(axis), &[a], 2);
        assert_eq!(listing.names(&found), ["n_b.0", "n_b.1"]);
        assert_eq!(listing.label("b"), "n_b_2");
        assert!(listing.layers(&found[..1], 0, 1).is_none());
    }
}
