//! What a model file holds: the graph, the tensors and the manifest.

use super::emitter::Emitter;
use super::nnef;
use crate::model::file::{GENES, GRAPH, GRAPH_JSON, TensorData};
use crate::model::manifest::{Manifest, Precision, Reproducible};
use crate::model::map::ALIGNMENT;
use safetensors::tensor::Dtype;
use tract_nnef::internal::*;

/// The contents of a file.
pub(super) struct Contents {
    pub(super) tensors: Vec<TensorData>,
    pub(super) manifest: Manifest,
    /// Operators that stayed tract's own, in float.
    pub(super) plain: Vec<String>,
}

impl Emitter<'_> {
    /// Ends the list with the network's outputs.
    pub(super) fn finish(mut self) -> TractResult<Contents> {
        let outputs = self.network.model.output_outlets()?.to_vec();
        let mut outlets = vec![];
        for &output in &outputs {
            let vector = match outputs.len() {
                1 => self.vector(output)?,
                _ => None,
            };
            outlets.push(match vector {
                Some(vector) => vector,
                None => {
                    let rows = self.last_rows(output)?;
                    let (outlet, rate) = rows.with_context(|| {
                        let name = &self.network.model.node(output.node).name;
                        format!(
                            "{name}: the output has no row for each position of the input; a cut, \
                             a padding or a stride in the network is not understood (-vv says \
                             which)"
                        )
                    })?;
                    ensure!(
                        rate == 1,
                        "the output has one row for {rate} positions, not for each"
                    );
                    outlet
                }
            });
        }
        let layers = &self.manifest.layers;
        let integer = layers.iter().all(|layer| {
            // Their sums have one order, whatever the processor.
            ["strandline_dense", "strandline_rows_dense"].contains(&layer.operator.as_str())
                || layer.precision == Precision::Int8.to_string()
        });
        if self.plain.is_empty() && integer && self.precision == Precision::Int8 {
            self.manifest.reproducible = Some(Reproducible::Bits);
        }
        let whole = self
            .listing
            .layers(&outlets, self.halo, self.network.stride);
        let (name, mut text) = match whole {
            Some(graph) => (GRAPH_JSON, serde_json::to_vec(&graph)?),
            None => {
                let (text, tensors) =
                    nnef::write(&self.listing, &outlets, self.network, self.halo)?;
                self.tensors.extend(tensors);
                (GRAPH, text)
            }
        };
        let len = text.len().next_multiple_of(ALIGNMENT);
        text.resize(len, b'\n');
        let graph = TensorData {
            name: name.to_string(),
            dtype: Dtype::U8,
            shape: vec![len],
            data: text,
        };
        self.tensors.insert(0, graph);
        if let Some(cells) = &self.manifest.cells {
            let names = cells.names.iter();
            let data: Vec<u8> = names
                .flat_map(|name| [name, "\n"].concat().into_bytes())
                .collect();
            self.tensors.push(TensorData {
                name: GENES.to_string(),
                dtype: Dtype::U8,
                shape: vec![data.len()],
                data,
            });
        }
        Ok(Contents {
            tensors: self.tensors,
            manifest: self.manifest,
            plain: self.plain,
        })
    }
}
