//! The layers of a network as a push runs them, in either direction.

use crate::kernels::{Activation, BASES, ConvShape, Isa};
use crate::model::file::ModelFile;
use crate::model::layers::{self, INPUT, LENGTH, LayerEntry, LayerGraph};
use crate::model::manifest::{Precision, Reproducible, Tier, Tokeniser};
use crate::model::map::Region;
use crate::model::ops::conv::spec::Added;
use crate::model::ops::form::Written;
use crate::model::ops::layer::Layer;
use crate::model::ops::spec::Spec;
use std::collections::HashMap;
use std::sync::OnceLock;
use tract_core::internal::*;

/// A network whose rows can be kept.
#[derive(Debug)]
pub(crate) struct Carried {
    pub(super) forward: Network,
    /// For the reverse strand, over forward bases, with weights of its own: made for the first read
    /// that needs it.
    mirrored: OnceLock<Network>,
    pub(super) isa: Isa,
    /// Columns of the output.
    pub(super) columns: usize,
    pub(super) look: Option<Look>,
}

/// Which rows the second stage is asked for.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// Raw output of the first stage from which on a position survives; `None`: every row is asked
    /// for.
    pub survive: Option<Vec<f32>>,
    /// Rows around a survivor.
    pub around: usize,
    /// Columns of the first stage's output.
    pub columns: usize,
}

/// Its layers in one direction.
#[derive(Debug)]
pub(super) struct Network {
    /// Those of the first stage, then those of the second.
    pub layers: Vec<Conv>,
    /// How many belong to the first stage.
    pub first_stage: usize,
    /// Value 0 are the codes as rows, value n + 1 is what layer n writes.
    pub values: Vec<Value>,
}

/// A value: rows of a layer, or codes.
#[derive(Debug, Clone, Default)]
pub(super) struct Value {
    /// Bytes of a row.
    pub channels: usize,
    /// Rows of zeros that layers read before the first row and behind the last.
    pub pads: (usize, usize),
    /// Rows before and behind a row of the second stage's output that it depends on; `None` where
    /// that stage does not read it.
    pub spread: Option<(usize, usize)>,
    /// The layers that read it, and how far before the next row of theirs.
    pub readers: Vec<(usize, usize)>,
}

/// A convolution.
#[derive(Debug)]
pub(super) struct Conv {
    pub shape: ConvShape,
    pub step: usize,
    pub signed: bool,
    /// The value that it reads, and the one that it adds.
    pub input: usize,
    pub added: Option<(usize, Added)>,
    /// Rows that a row depends on, before and behind its own.
    pub reach: (usize, usize),
    pub activation: Activation,
    pub gain: f32,
    pub output: Written,
    pub weights: Weights,
    pub scale: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Weights in the model file, or those of a mirrored layer.
#[derive(Debug)]
pub(super) enum Weights {
    Mapped(Region),
    Own(Vec<i8>),
}

impl Weights {
    pub fn values(&self) -> &[i8] {
        match self {
            Weights::Mapped(region) => region.i8(),
            Weights::Own(values) => values,
        }
    }
}

impl Carried {
    /// The network of a file's tier; `None` where it has layers of other kinds.
    ///
    /// # Errors
    /// Where the file's graph cannot be read.
    pub(crate) fn new(
        file: &ModelFile,
        isa: Isa,
        tier: Option<Tier>,
    ) -> TractResult<Option<Carried>> {
        let manifest = file.manifest();
        let fits = manifest.reproducible == Some(Reproducible::Bits)
            && manifest.tokeniser == Tokeniser::OneHot
            && manifest.is_scan()
            && manifest.multiple == 1;
        let Some(graph) = layers::parse(file)?.filter(|graph| fits && graph.stride == 1) else {
            return Ok(None);
        };
        let outputs = graph.outputs()?;
        let (first, look) = match (&*outputs, &manifest.cascade, tier) {
            ([_], None, _) => (None, None),
            ([early, _], Some(_), Some(Tier::Fast)) => (Some(early), None),
            ([early, _], Some(cascade), Some(tier)) => {
                let look = Look {
                    survive: (tier == Tier::Auto).then(|| cascade.survive.clone()),
                    around: manifest
                        .outputs
                        .iter()
                        .map(|o| o.separation)
                        .max()
                        .unwrap_or(0),
                    columns: cascade.columns,
                };
                (Some(early), Some(look))
            }
            _ => return Ok(None),
        };
        let (stages, first_stage) = staged(&graph, first, look.is_some());
        let Some(layers) = loaded(file, &graph, &stages)? else {
            return Ok(None);
        };
        let columns = match (&manifest.cascade, tier) {
            (Some(cascade), Some(Tier::Fast)) => cascade.columns,
            (Some(cascade), _) => manifest.outputs.len() - cascade.columns,
            (None, _) => manifest.outputs.len(),
        };
        let forward = Network::new(layers, first_stage);
        let fits = forward.ends(columns, look.as_ref());
        Ok(fits.then_some(Carried {
            forward,
            mirrored: OnceLock::new(),
            isa,
            columns,
            look,
        }))
    }

    /// Codes that must have come behind a row, at most, before the row is there.
    pub(crate) fn lag(&self) -> usize {
        let around = self.look.as_ref().map_or(0, |look| look.around);
        // What lies behind a row in one direction lies before it in the other.
        let lag = |side: fn((usize, usize)) -> usize| {
            let reach = self.forward.reach(side);
            let early = reach[self.forward.first_stage] + around;
            reach.last().map_or(early, |last| early.max(*last))
        };
        lag(|(before, _)| before).max(lag(|(_, behind)| behind))
    }

    pub(super) fn network(&self, mirrored: bool) -> &Network {
        if mirrored {
            self.mirrored.get_or_init(|| self.forward.mirrored())
        } else {
            &self.forward
        }
    }
}

/// The layers that are run, those of the first stage before the others, and how many those are.
fn staged<'a>(
    graph: &'a LayerGraph,
    early: Option<&String>,
    both: bool,
) -> (Vec<&'a LayerEntry>, usize) {
    let Some(early) = early else {
        return (graph.layers.iter().collect(), graph.layers.len());
    };
    let needed = graph.needed_by(early);
    let (mut all, second): (Vec<_>, Vec<_>) = graph
        .layers
        .iter()
        .partition(|entry| needed.contains(entry.label.as_str()));
    let first_stage = all.len();
    if both {
        all.extend(second);
    }
    (all, first_stage)
}

/// The layers with their weights; `None` where one is of another kind.
fn loaded(
    file: &ModelFile,
    graph: &LayerGraph,
    entries: &[&LayerEntry],
) -> TractResult<Option<Vec<Conv>>> {
    let mut values = HashMap::from([(INPUT, 0)]);
    let mut layers = vec![];
    for entry in entries {
        let Some(conv) = conv_of(file, graph, entry, &values)? else {
            return Ok(None);
        };
        layers.push(conv);
        values.insert(&entry.label, layers.len());
    }
    Ok(Some(layers))
}

fn conv_of(
    file: &ModelFile,
    graph: &LayerGraph,
    entry: &LayerEntry,
    values: &HashMap<&str, usize>,
) -> TractResult<Option<Conv>> {
    let Spec::Conv(spec) = &entry.spec else {
        return Ok(None);
    };
    let (shape, step) = (spec.shape, spec.step);
    let strides = match spec.output {
        Written::Unsigned | Written::Signed => step == 1,
        // Several rows at a time, each of the same layer.
        Written::Last => step == 1 || shape.dilation == 1,
        _ => false,
    };
    let own = entry.precision == Precision::Int8 && !spec.row_scales && spec.rate == 1;
    let after = shape.width.checked_sub(step + shape.before);
    let names: Vec<Option<usize>> = entry
        .inputs
        .iter()
        .map(|name| values.get(name.as_str()).copied())
        .collect();
    let (input, added) = match (&*names, spec.added) {
        ([Some(input), _], Added::None) => (*input, None),
        ([Some(input), _, Some(value)], added) if added != Added::Float => {
            (*input, Some((*value, added)))
        }
        _ => return Ok(None),
    };
    let (true, true, Some(after)) = (own, strides && shape.stride == step, after) else {
        return Ok(None);
    };
    if spec.codes != (input == 0) || entry.inputs[1] != LENGTH {
        return Ok(None);
    }
    let precision = entry.precision;
    let layer = Layer::load(
        file,
        spec.clone().into(),
        precision,
        graph.halo,
        &entry.label,
    )?;
    let tensors = &layer.attributes.tensors;
    let conv = Conv {
        shape,
        step,
        signed: spec.signed,
        input,
        added,
        reach: (shape.before * shape.dilation, after * shape.dilation),
        // Unsigned rows clamp at 0 by themselves.
        activation: match (spec.activation, spec.output) {
            (Activation::Relu, Written::Unsigned) => Activation::Identity,
            (other, _) => other,
        },
        gain: spec.gain.get(),
        output: spec.output,
        weights: Weights::Mapped(tensors[0].clone()),
        bias: tensors[1].f32().context("an f32 tensor")?.to_vec(),
        scale: tensors[2].f32().context("an f32 tensor")?.to_vec(),
    };
    Ok(conv.steps_are_alike().then_some(conv))
}

impl Conv {
    /// Channels of a row.
    pub fn row_channels(&self) -> usize {
        self.shape.channels_out / self.step
    }

    /// True where each row of a step reads no farther than the first one does from its own place.
    fn steps_are_alike(&self) -> bool {
        let s = &self.shape;
        let (taps, weights) = (s.width - self.step + 1, self.weights.values());
        (0..s.channels_out).all(|channel| {
            let row = channel / self.row_channels();
            (0..s.width)
                .filter(|tap| !(row..row + taps).contains(tap))
                .all(|tap| (0..s.channels_in).all(|c| weights[s.packed_at(channel, tap, c)] == 0))
        })
    }

    /// The layer of the mirrored network, in which rows stand in reverse, and bases are their
    /// complements.
    fn mirrored(&self) -> Conv {
        let (old, channels) = (self.shape, self.row_channels());
        let shape = ConvShape {
            before: old.width - self.step - old.before,
            ..old
        };
        let place = |channel: usize| {
            let (row, column) = (channel / channels, channel % channels);
            (self.step - 1 - row) * channels + column
        };
        let own = self.weights.values();
        let mut weights = vec![0; own.len()];
        let (mut scale, mut bias) = (self.scale.clone(), self.bias.clone());
        for channel in 0..old.channels_out {
            scale[channel] = self.scale[place(channel)];
            bias[channel] = self.bias[place(channel)];
            for tap in 0..old.width {
                for c in 0..old.channels_in {
                    // A and T, C and G change places.
                    let other = if self.input == 0 { BASES - 1 - c } else { c };
                    weights[shape.packed_at(channel, tap, c)] =
                        own[old.packed_at(place(channel), old.width - 1 - tap, other)];
                }
            }
        }
        Conv {
            shape,
            reach: (self.reach.1, self.reach.0),
            weights: Weights::Own(weights),
            scale,
            bias,
            ..*self
        }
    }
}

impl Network {
    fn new(layers: Vec<Conv>, first_stage: usize) -> Network {
        let mut values = vec![Value::default(); layers.len() + 1];
        values[0].channels = BASES;
        for (n, layer) in layers.iter().enumerate() {
            values[n + 1].channels = layer.row_channels();
            let (before, after) = layer.reach;
            let input = &mut values[layer.input];
            input.pads = (input.pads.0.max(before), input.pads.1.max(after));
            if n < first_stage {
                input.readers.push((n, before));
                if let Some((added, _)) = layer.added {
                    values[added].readers.push((n, 0));
                }
            }
        }
        if first_stage < layers.len() {
            values[layers.len()].spread = Some((0, 0));
        }
        for n in (first_stage..layers.len()).rev() {
            let own = values[n + 1].spread.unwrap_or_default();
            let mut spread = |value: usize, (before, after): (usize, usize)| {
                let old = values[value].spread.unwrap_or_default();
                let new = (own.0 + before, own.1 + after);
                values[value].spread = Some((old.0.max(new.0), old.1.max(new.1)));
            };
            spread(layers[n].input, layers[n].reach);
            if let Some((added, _)) = layers[n].added {
                spread(added, (0, 0));
            }
        }
        Network {
            layers,
            first_stage,
            values,
        }
    }

    /// The network of the other strand.
    fn mirrored(&self) -> Network {
        let layers = self.layers.iter().map(Conv::mirrored);
        Network::new(layers.collect(), self.first_stage)
    }

    /// For each value how many codes to one side of its own a row depends on.
    fn reach(&self, side: fn((usize, usize)) -> usize) -> Vec<usize> {
        let mut reach = vec![0; self.values.len()];
        for (n, layer) in self.layers.iter().enumerate() {
            let read = reach[layer.input] + side(layer.reach);
            let added = layer.added.map_or(0, |(value, _)| reach[value]);
            reach[n + 1] = read.max(added);
        }
        reach
    }

    /// True where each stage ends with the float rows that are expected, and with nothing else of
    /// that kind.
    fn ends(&self, columns: usize, look: Option<&Look>) -> bool {
        let last = |stage: &[Conv], columns: usize| match stage.split_last() {
            Some((last, others)) => {
                last.output == Written::Last
                    && last.row_channels() == columns
                    && others.iter().all(|layer| layer.output != Written::Last)
            }
            None => false,
        };
        let (first, second) = self.layers.split_at(self.first_stage);
        let reads_ends = self.layers.iter().any(|layer| {
            let read = [Some(layer.input), layer.added.map(|(value, _)| value)];
            let mut read = read.into_iter().flatten();
            read.any(|value| value == self.first_stage || value == self.layers.len())
        });
        let ends = match look {
            Some(look) => last(first, look.columns) && last(second, columns),
            None => last(first, columns) && second.is_empty(),
        };
        ends && !reads_ends
    }
}
