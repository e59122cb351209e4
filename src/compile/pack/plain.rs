//! Operators that stay tract's own.

use super::emitter::Emitter;
use super::form::Value;
use crate::model::manifest::{LayerRecord, Precision};
use tract_nnef::internal::*;

impl Emitter<'_> {
    /// Keeps a node as it is, and says so.
    pub(super) fn plain_node(&mut self, id: usize) -> TractResult<()> {
        let node = self.network.model.node(id);
        let mut inputs = vec![];
        for input in &node.inputs {
            inputs.push(self.plain_value(*input)?);
        }
        let label = self.label(&node.name);
        let count = node.outputs.len();
        let wires = self
            .listing
            .foreign(&label, node.op.clone(), &inputs, count);
        for (slot, wire) in wires.into_iter().enumerate() {
            self.values
                .insert(OutletId::new(id, slot), Value::Plain(wire));
        }
        self.manifest.layers.push(LayerRecord {
            name: label,
            operator: node.op.name().to_string(),
            precision: Precision::F32.to_string(),
            output_scale: None,
            signal_to_noise: None,
            macs: 0,
        });
        self.plain
            .push(format!("{} ({})", node.name, node.op.name()));
        Ok(())
    }

    /// Keeps the nodes of a pattern that turned out not to be lowerable, back from its output to
    /// what is known.
    pub(super) fn plain_nodes(&mut self, output: OutletId) -> TractResult<()> {
        let mut pending = vec![output.node];
        let mut order = vec![];
        while let Some(id) = pending.pop() {
            let node = self.network.model.node(id);
            order.push(id);
            for input in &node.inputs {
                let known = self.values.contains_key(input)
                    || self.network.model.outlet_fact(*input)?.konst.is_some();
                if !known && !order.contains(&input.node) {
                    pending.push(input.node);
                }
            }
        }
        for id in order.into_iter().rev() {
            self.plain_node(id)?;
        }
        Ok(())
    }
}
