//! A sequence with one code changed at a time: only the rows that the change reaches, and that
//! the wanted output reads, are computed again.

use super::network::{Carried, Network};
use crate::kernels::{self, BASES, ConvInt8, Output, Residual, Target, View};
use crate::model::ops::conv::spec::Added;
use crate::model::ops::form::Written;
use std::mem;
use std::ops::Range;

/// All rows of a sequence that some rows of its output depend on.
#[derive(Debug, Default)]
pub(crate) struct Altered {
    mirrored: bool,
    length: usize,
    /// Rows of each value, zeros before and behind them included.
    values: Vec<Vec<u8>>,
    /// Rows of each value that are there.
    needed: Vec<Range<usize>>,
    /// Those of them that the last change reached.
    reached: Vec<Range<usize>>,
    wanted: Range<usize>,
    output: Vec<f32>,
    /// What a change overwrites: the value, the first row, and its bytes.
    saved: Vec<(usize, usize, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    floats: Vec<f32>,
    scratch: kernels::Scratch,
    /// Rows computed for changes, all layers together.
    rows: u64,
}

/// Two ranges and all between.
fn hull(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b.clone(),
        (_, true) => a.clone(),
        _ => a.start.min(b.start)..a.end.max(b.end),
    }
}

fn both(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
}

impl Altered {
    /// Takes in a sequence, and computes rows `wanted` of its output. Reverse: of the other strand,
    /// in order of the bases, as everything here.
    pub(crate) fn take(
        &mut self,
        carried: &Carried,
        mirrored: bool,
        codes: &[u8],
        wanted: Range<usize>,
    ) {
        let network = carried.network(mirrored);
        (self.mirrored, self.length) = (mirrored, codes.len());
        self.wanted = both(&wanted, &(0..codes.len()));
        self.rows = 0;
        self.needed.clear();
        self.needed.resize(network.values.len(), 0..0);
        let last = network.layers.len();
        self.needed[last] = self.wanted.clone();
        for (n, layer) in network.layers.iter().enumerate().rev() {
            let own = self.needed[n + 1].clone();
            if own.is_empty() {
                continue;
            }
            let (before, behind) = layer.reach;
            let read = own.start.saturating_sub(before)..(own.end + behind).min(self.length);
            self.needed[layer.input] = hull(&self.needed[layer.input], &read);
            if let Some((added, _)) = layer.added {
                self.needed[added] = hull(&self.needed[added], &own);
            }
        }
        self.values
            .resize_with(network.values.len().max(self.values.len()), Vec::new);
        for (value, rows) in network.values.iter().zip(&mut self.values) {
            let [before, behind] = [value.pads.0, value.pads.1 + SLACK];
            let room = (before + self.length + behind) * value.channels;
            // Rows that nothing needs stay what they were.
            rows.resize(rows.len().max(room), 0);
            rows[..before * value.channels].fill(0);
            rows[(before + self.length) * value.channels..room].fill(0);
        }
        let first = network.values[0].pads.0 * BASES;
        let own = &mut self.values[0][first..first + codes.len() * BASES];
        kernels::one_hot(codes, own);
        for n in 0..network.layers.len() {
            let rows = self.needed[n + 1].clone();
            if !rows.is_empty() {
                self.compute(carried, network, n, rows);
            }
        }
        let columns = carried.columns;
        self.output.clear();
        self.output
            .extend_from_slice(&self.floats[..self.wanted.len() * columns]);
    }

    /// The wanted rows of the sequence as it is, in order of the bases.
    pub(crate) fn output(&self) -> &[f32] {
        &self.output
    }

    /// Puts the wanted rows with another code at `position` into `out`. The sequence stays as it
    /// is.
    pub(crate) fn with(
        &mut self,
        carried: &Carried,
        position: usize,
        code: u8,
        out: &mut Vec<f32>,
    ) {
        let network = carried.network(self.mirrored);
        out.clear();
        out.extend_from_slice(&self.output);
        let mut reached = mem::take(&mut self.reached);
        reached.clear();
        reached.resize(network.values.len(), 0..0);
        reached[0] = both(&(position..position + 1), &self.needed[0]);
        if reached[0].is_empty() {
            self.reached = reached;
            return;
        }
        self.save(network, 0, &reached[0]);
        let first = (network.values[0].pads.0 + position) * BASES;
        kernels::one_hot(&[code], &mut self.values[0][first..first + BASES]);
        for (n, layer) in network.layers.iter().enumerate() {
            let read = &reached[layer.input];
            let (before, behind) = layer.reach;
            // A row reads `before` rows before its own.
            let mut rows = if read.is_empty() {
                0..0
            } else {
                read.start.saturating_sub(behind)..read.end + before
            };
            if let Some((added, _)) = layer.added {
                rows = hull(&rows, &reached[added]);
            }
            let rows = both(&rows, &self.needed[n + 1]);
            if rows.is_empty() {
                continue;
            }
            if layer.output != Written::Last {
                self.save(network, n + 1, &rows);
            }
            self.compute(carried, network, n, rows.clone());
            self.rows += rows.len() as u64;
            if layer.output == Written::Last {
                let columns = carried.columns;
                let from = (rows.start - self.wanted.start) * columns;
                let made = &self.floats[..rows.len() * columns];
                out[from..from + made.len()].copy_from_slice(made);
            }
            reached[n + 1] = rows;
        }
        self.reached = reached;
        for (value, first, bytes) in self.saved.drain(..) {
            self.values[value][first..first + bytes.len()].copy_from_slice(&bytes);
            self.spare.push(bytes);
        }
    }

    /// Rows that changes cost since the sequence was taken in, all layers together.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    fn save(&mut self, network: &Network, value: usize, rows: &Range<usize>) {
        let about = &network.values[value];
        let first = (about.pads.0 + rows.start) * about.channels;
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        let end = first + rows.len() * about.channels;
        bytes.extend_from_slice(&self.values[value][first..end]);
        self.saved.push((value, first, bytes));
    }

    /// Computes rows of a layer from those that it reads; those of the last into `floats`.
    fn compute(&mut self, carried: &Carried, network: &Network, n: usize, rows: Range<usize>) {
        let layer = &network.layers[n];
        let mut output = mem::take(&mut self.values[n + 1]);
        let steps = rows.len().div_ceil(layer.step);
        let channels = layer.shape.channels_in;
        let read = (steps - 1) * layer.step + (layer.shape.width - 1) * layer.shape.dilation + 1;
        let place = |value: usize, row: usize| {
            let about = &network.values[value];
            (about.pads.0 + row) * about.channels
        };
        let begin = place(layer.input, rows.start) - layer.reach.0 * channels;
        let conv = ConvInt8 {
            shape: layer.shape,
            positions: steps,
            signed_input: layer.signed,
            input: View {
                data: &self.values[layer.input][begin..begin + read * channels],
                first: layer.reach.0 * channels,
                pitch: channels,
            },
            row_scales: false,
            weights: layer.weights.values(),
            scale: &layer.scale,
            bias: &layer.bias,
            residual: match layer.added {
                Some((value, added)) => residual(
                    added,
                    View {
                        data: &self.values[value],
                        first: place(value, rows.start),
                        pitch: layer.shape.channels_out,
                    },
                ),
                None => Residual::None,
            },
            activation: layer.activation,
            gain: layer.gain,
        };
        let (isa, pitch) = (carried.isa, layer.shape.channels_out);
        match layer.output {
            Written::Last => {
                self.floats.resize(steps * pitch, 0.0);
                let target = Target::dense(&mut self.floats, pitch);
                conv.run(isa, &mut self.scratch, &mut Output::Float(target));
            }
            form => {
                let first = place(n + 1, rows.start);
                let data = &mut output[..first + rows.len() * pitch];
                let target = Target { data, first, pitch };
                let mut target = match form {
                    Written::Signed => Output::Signed(target),
                    _ => Output::Unsigned(target),
                };
                conv.run(isa, &mut self.scratch, &mut target);
            }
        }
        self.values[n + 1] = output;
    }
}

/// Rows behind the last that a step of several rows may reach, with weights of zero.
const SLACK: usize = 64;

fn residual(added: Added, view: View<'_, u8>) -> Residual<'_> {
    match added {
        Added::Unsigned(scale) => Residual::Unsigned(view, scale.get()),
        Added::Signed(scale) => Residual::Signed(view, scale.get()),
        Added::None | Added::Float => Residual::None,
    }
}
