//! The state of the emission: what the values of the float graph have become, and what has been
//! listed so far.

use super::form::{RowsRecord, Value};
use super::listing::{Listing, Wire};
use crate::compile::lower::{Network, Step};
use crate::compile::quantize::{Layout, Ranges};
use crate::model::file::TensorData;
use crate::model::layers::LayerEntry;
use crate::model::manifest::{LayerRecord, Manifest, Precision};
use crate::model::ops::layer::Layer;
use crate::model::ops::spec::Spec;
use safetensors::tensor::Dtype;
use std::collections::HashSet;
use tract_nnef::internal::*;

/// Writes the steps of a network as layers.
pub(super) struct Emitter<'a> {
    pub(super) network: &'a Network,
    pub(super) manifest: Manifest,
    pub(super) ranges: &'a Ranges,
    pub(super) listing: Listing,
    pub(super) length: Wire,
    pub(super) input: Wire,
    pub(super) values: HashMap<OutletId, Value>,
    /// Integer rows made of float ones.
    pub(super) quantised: HashMap<OutletId, Value>,
    pub(super) plain_values: HashMap<OutletId, Wire>,
    pub(super) tensors: Vec<TensorData>,
    /// Operators that stay tract's own.
    pub(super) plain: Vec<String>,
    /// Values that a soft-max at the end or the output itself reads.
    pub(super) without_halo: HashSet<OutletId>,
    /// Values that something reads in float.
    pub(super) wanted_float: HashSet<OutletId>,
    /// Values that an operator of tract's own reads, at once or behind layers that only copy.
    pub(super) foreign_read: HashSet<OutletId>,
    /// Values that would lose too much as integers: they stay float, and so do the weights of the
    /// convolutions and linear layers that read them.
    pub(super) kept: HashSet<OutletId>,
    /// Rows that are made of single numbers.
    pub(super) scalars: HashSet<OutletId>,
    /// Values that something reads in float or in one scale.
    pub(super) plainly_read: HashSet<OutletId>,
    pub(super) halo: usize,
    pub(super) precision: Precision,
}

impl<'a> Emitter<'a> {
    pub(super) fn new(
        network: &'a Network,
        manifest: &Manifest,
        ranges: &'a Ranges,
    ) -> TractResult<Self> {
        let integer = manifest.precision == Precision::Int8;
        let source = network.input;
        let kept = if integer {
            kept(network, ranges, manifest.least_signal_to_noise())?
        } else {
            HashSet::new()
        };
        let reach = network.steps.iter().filter_map(|step| match step {
            Step::Conv(conv) if conv.input != source => {
                let integer = integer && !kept.contains(&conv.input);
                Some(Layout::of(conv, integer, false).shape.reach())
            }
            _ => None,
        });
        let mut plainly_read = HashSet::new();
        for step in &network.steps {
            plainly_read.extend(step.plainly_read());
            if let Step::Plain(node) = step {
                plainly_read.extend(network.model.node(*node).inputs.iter().copied());
            }
        }
        let first = if network.ids {
            Value::Ids(Wire::INPUT)
        } else {
            Value::Codes
        };
        let mut values = HashMap::from([(source, first)]);
        values.extend(network.values.map(|of| (of, Value::Values(Wire::VALUES))));
        values.extend(network.flags.map(|of| (of, Value::Ids(Wire::FLAGS))));
        Ok(Emitter {
            halo: reach.max().unwrap_or(0),
            precision: manifest.precision,
            manifest: Manifest {
                layers: vec![],
                reproducible: None,
                ..manifest.clone()
            },
            network,
            ranges,
            listing: Listing::new(),
            length: Wire::LENGTH,
            input: Wire::INPUT,
            values,
            quantised: HashMap::new(),
            plain_values: HashMap::new(),
            tensors: vec![],
            plain: vec![],
            without_halo: without_halo(network)?,
            wanted_float: network.steps.iter().filter_map(Step::float_rows).collect(),
            foreign_read: foreign_read(network),
            kept,
            scalars: scalars(network).collect(),
            plainly_read,
        })
    }

    fn tensor(&mut self, name: String, dtype: Dtype, shape: &[usize], data: Vec<u8>) {
        self.tensors.push(TensorData {
            name,
            dtype,
            shape: shape.to_vec(),
            data,
        });
    }

    pub(super) fn floats(&mut self, name: String, values: &[f32]) {
        let data = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, Dtype::F32, &[values.len()], data);
    }

    pub(super) fn integers(&mut self, name: String, values: &[i8]) {
        let data = values.iter().map(|&w| w as u8).collect();
        self.tensor(name, Dtype::I8, &[values.len()], data);
    }

    /// Writes weights as fp16 or f32.
    pub(super) fn float_weights(&mut self, name: String, values: &[f32]) {
        if self.precision == Precision::F32 {
            return self.floats(name, values);
        }
        let halves = values.iter().map(|&x| half::f16::from_f32(x));
        let data = halves.flat_map(|x| x.to_le_bytes()).collect();
        self.tensor(name, Dtype::F16, &[values.len()], data);
    }

    /// A label that is not used yet.
    pub(super) fn label(&self, name: &str) -> String {
        self.listing.label(name)
    }

    /// Lists a layer.
    pub(super) fn wire(&mut self, label: &str, spec: Spec, inputs: &[Wire]) -> TractResult<Wire> {
        // Checks it.
        let layer = Layer::new(spec, self.precision, self.halo, label)?;
        Ok(self.listing.layer(LayerEntry {
            label: label.to_string(),
            precision: self.precision,
            inputs: self.listing.names(inputs),
            spec: layer.spec,
        }))
    }

    /// Lists an operator of tract's own with one output.
    pub(super) fn wire_foreign(
        &mut self,
        label: &str,
        operator: impl Into<Box<dyn TypedOp>>,
        input: Wire,
    ) -> Wire {
        self.listing.foreign(label, operator.into(), &[input], 1)[0]
    }

    /// Describes a layer in the manifest.
    pub(super) fn record(
        &mut self,
        label: &str,
        operator: &str,
        macs: u64,
        rows: Option<RowsRecord>,
    ) {
        let precision = match operator {
            "strandline_dense" | "strandline_rows_dense" if self.precision == Precision::Int8 => {
                Precision::Fp16
            }
            _ => self.precision,
        };
        self.manifest.layers.push(LayerRecord {
            name: label.to_string(),
            operator: operator.to_string(),
            precision: precision.to_string(),
            output_scale: rows.and_then(|r| r.scale),
            signal_to_noise: rows.map(|r| r.signal_to_noise),
            macs,
        });
    }

    /// Remembers what a value became.
    pub(super) fn put(&mut self, output: OutletId, value: Value) -> bool {
        self.values.insert(output, value);
        true
    }

    /// Channels of a value of rows, and whether they come last, `[1, T, channels]`.
    pub(super) fn layout(&self, outlet: OutletId) -> TractResult<(usize, bool)> {
        let fact = self.network.model.outlet_fact(outlet)?;
        let shape = &fact.shape;
        ensure!(
            shape.rank() == 3,
            "{outlet:?}: rank {}, not 3",
            shape.rank()
        );
        let last = self.network.channels_last(outlet)?;
        let channels = shape[if last { 2 } else { 1 }].to_usize()?;
        Ok((channels, last))
    }
}

/// Values whose integer rows would have more noise than allowed, and those of single numbers: the
/// rows of all tokens go one way there, and so does the error of all of them.
fn kept(network: &Network, ranges: &Ranges, least: f32) -> TractResult<HashSet<OutletId>> {
    let mut found = HashSet::new();
    for (outlet, channels) in network.hidden() {
        let Ok(range) = ranges.of(outlet) else {
            continue;
        };
        let last = network.channels_last(outlet)?;
        let by_row = last && range.by_row() && channels.is_multiple_of(4);
        if range.signal_to_noise(by_row) < least {
            found.insert(outlet);
        }
    }
    found.extend(scalars(network));
    Ok(found)
}

/// Rows that are made of single numbers.
fn scalars(network: &Network) -> impl Iterator<Item = OutletId> {
    network.steps.iter().filter_map(|step| match step {
        Step::Scalar(scalar) => Some(scalar.output),
        _ => None,
    })
}

/// What an operator of tract's own reads is rounded to int8 by no layer before it.
fn foreign_read(network: &Network) -> HashSet<OutletId> {
    let mut found = HashSet::new();
    for step in network.steps.iter().rev() {
        match step {
            Step::Plain(node) => found.extend(network.model.node(*node).inputs.iter().copied()),
            _ if found.contains(&step.output()) => found.extend(step.copied()),
            _ => {}
        }
    }
    found
}

/// Values that are written without halo: the output, and what a soft-max at the end reads. Where
/// something else reads them, too, they are not.
fn without_halo(network: &Network) -> TractResult<HashSet<OutletId>> {
    let model = &network.model;
    let readers = |outlet: &OutletId| {
        model.node(outlet.node).outputs[outlet.slot]
            .successors
            .len()
    };
    let outputs = model.output_outlets()?.iter();
    let mut found: HashSet<OutletId> = outputs.copied().filter(|o| readers(o) == 0).collect();
    for step in network.steps.iter().rev() {
        if let Step::Softmax { input, output, .. } | Step::View { input, output } = step
            && found.contains(output)
            && readers(input) == 1
        {
            found.insert(*input);
        }
    }
    Ok(found)
}
