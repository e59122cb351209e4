//! A push: the rows that new codes make certain.

use super::kept::KeptRows;
use super::network::{Carried, Conv, Look, Network};
use super::work::{Held, LookCost, Work};
use crate::kernels::{self, BASES, ConvInt8, Output, Residual, Target, View};
use crate::model::SecondLook;
use crate::model::ops::conv::spec::Added;
use crate::model::ops::form::Written;
use std::mem;
use std::ops::Range;

/// Codes that are worked on at once: what all layers hold of them stays near the processor.
const BLOCK: usize = 2048;

/// One block of a push on its way through the layers.
struct Block<'a> {
    carried: &'a Carried,
    network: &'a Network,
    kept: &'a mut KeptRows,
    work: &'a mut Work,
    /// The read's length, once it is known.
    length: Option<usize>,
}

impl Carried {
    /// Takes in the next codes of a read; with `ended` they are the last. The output in `work` then
    /// has every row that they make certain, minus infinity where the second stage was not asked
    /// for one. [`Carried::keep`] follows.
    pub(crate) fn push(
        &self,
        kept: &mut KeptRows,
        work: &mut Work,
        codes: &[u8],
        ended: bool,
    ) -> SecondLook {
        let network = self.network(kept.mirrored);
        work.load(network, kept);
        let mut looked = SecondLook::default();
        if kept.ended || (codes.is_empty() && !ended) {
            return looked;
        }
        kept.ended = ended;
        let mut rest = codes;
        loop {
            let (block, others) = rest.split_at(rest.len().min(BLOCK));
            rest = others;
            kept.codes += block.len();
            let last = ended && rest.is_empty();
            let mut block_of = Block {
                carried: self,
                network,
                length: last.then_some(kept.codes),
                kept,
                work,
            };
            let more = block_of.run(block);
            looked.positions += more.positions;
            looked.looked += more.looked;
            if rest.is_empty() {
                return looked;
            }
        }
    }

    /// Takes the second look from other raw outputs of the first stage on.
    pub(crate) fn look_from(&mut self, survive: &[f32]) {
        if let Some(own) = self.look.as_mut().and_then(|look| look.survive.as_mut()) {
            own.copy_from_slice(survive);
        }
    }

    /// What the second look at a whole sequence costs; `None` where nothing is ruled out before.
    pub(crate) fn look_cost(&self, codes: &[u8]) -> Option<LookCost> {
        self.look.as_ref()?.survive.as_ref()?;
        let (mut kept, mut work) = (KeptRows::new(self, false), Work::default());
        self.push(&mut kept, &mut work, codes, true);
        let layers = self.forward.layers.len() - self.forward.first_stage;
        Some(LookCost {
            layers: layers as u64,
            ..work.cost
        })
    }

    /// Keeps what later pushes need. Rows of the output before `from` are not needed any more.
    pub(crate) fn keep(&self, kept: &mut KeptRows, work: &mut Work, from: usize) {
        work.output.forget(from, self.columns);
        work.save(self.network(kept.mirrored), kept);
    }
}

impl Block<'_> {
    fn run(&mut self, codes: &[u8]) -> SecondLook {
        let rows = &mut self.work.values[0];
        let (all, begin) = rows.grow(codes.len() * BASES);
        kernels::one_hot(codes, &mut all[begin..]);
        if self.length.is_some() {
            rows.zeros(self.network.values[0].pads.1, BASES);
        }
        for n in 0..self.network.first_stage {
            let end = self.known(n);
            if end > self.kept.next[n] {
                self.compute(n, self.kept.next[n]..end);
            }
            self.close(n);
        }
        let looked = match &self.carried.look {
            Some(look) => self.second_stage(look),
            None => SecondLook::default(),
        };
        self.forget();
        looked
    }

    /// The rows of a value that are there, without the zeros behind the last.
    fn end(&self, value: usize) -> usize {
        self.length.unwrap_or_else(|| {
            let channels = self.network.values[value].channels;
            self.work.values[value].end(channels).max(0) as usize
        })
    }

    /// The rows of a layer of the first stage that can be computed.
    fn known(&self, n: usize) -> usize {
        if let Some(length) = self.length {
            return length;
        }
        let layer = &self.network.layers[n];
        let read = self.end(layer.input).saturating_sub(layer.reach.1);
        let added = layer.added.map(|(value, _)| self.end(value));
        added.map_or(read, |added| read.min(added))
    }

    /// Computes rows of a layer, which are the next of it, from rows that are there.
    fn compute(&mut self, n: usize, rows: Range<usize>) {
        let layer = &self.network.layers[n];
        let values = &mut self.work.values;
        let mut output = mem::take(&mut values[n + 1]);
        let steps = rows.len().div_ceil(layer.step);
        let channels = layer.shape.channels_in;
        let first = rows.start as isize - layer.reach.0 as isize;
        let read = (steps - 1) * layer.step + (layer.shape.width - 1) * layer.shape.dilation + 1;
        let begin = values[layer.input].place(first, channels);
        let end = begin + read * channels;
        // The last step may reach behind what is there, with weights of zero.
        values[layer.input].reserve(end);
        let conv = ConvInt8 {
            shape: layer.shape,
            positions: steps,
            signed_input: layer.signed,
            input: View {
                data: values[layer.input].reserved(begin..end),
                first: layer.reach.0 * channels,
                pitch: channels,
            },
            row_scales: false,
            weights: layer.weights.values(),
            scale: &layer.scale,
            bias: &layer.bias,
            residual: residual(layer, values, rows.start),
            activation: layer.activation,
            gain: layer.gain,
        };
        let (isa, scratch) = (self.carried.isa, &mut self.work.kernels);
        let pitch = layer.shape.channels_out;
        match layer.output {
            Written::Last => {
                let floats = &mut self.work.floats;
                floats.resize(steps * pitch, 0.0);
                conv.run(
                    isa,
                    scratch,
                    &mut Output::Float(Target::dense(floats, pitch)),
                );
                let made = &floats[..rows.len() * layer.row_channels()];
                let target = if self.carried.look.is_some() && n + 1 == self.network.first_stage {
                    &mut self.work.early
                } else {
                    &mut self.work.output
                };
                if n < self.network.first_stage {
                    target.values.extend_from_slice(made);
                } else {
                    let columns = self.carried.columns;
                    let at = (rows.start - target.from) * columns;
                    target.values[at..at + made.len()].copy_from_slice(made);
                }
            }
            form => {
                let (data, first) = output.grow(rows.len() * pitch);
                let target = Target { data, first, pitch };
                let mut target = if form == Written::Signed {
                    Output::Signed(target)
                } else {
                    Output::Unsigned(target)
                };
                conv.run(isa, scratch, &mut target);
            }
        }
        self.work.values[n + 1] = output;
        self.kept.next[n] = rows.end;
        if n >= self.network.first_stage {
            self.work.cost.rows += rows.len() as u64;
        }
    }

    /// Computes those rows of the second stage that the first asks for, as far as they are certain.
    fn second_stage(&mut self, look: &Look) -> SecondLook {
        let begin = self.work.output.end(self.carried.columns);
        let early = self.work.early.end(look.columns);
        let limit = self.length.unwrap_or_else(|| {
            let values = self.network.values.iter().take(self.network.first_stage);
            let read = values.enumerate().filter_map(|(value, v)| {
                let (_, after) = v.spread?;
                Some(self.end(value).saturating_sub(after))
            });
            read.fold(early.saturating_sub(look.around), usize::min)
        });
        if limit <= begin {
            return SecondLook::default();
        }
        let mut ranges = mem::take(&mut self.work.ranges);
        ranges.clear();
        let survivors = match &look.survive {
            None => {
                ranges.push(begin..limit);
                (limit - begin) as u64
            }
            Some(survive) => self.survivors(look, survive, begin..limit, &mut ranges),
        };
        let values = limit - self.work.output.from;
        let values = values * self.carried.columns;
        self.work.output.values.resize(values, f32::NEG_INFINITY);
        self.work.cost.survivors += survivors;
        for n in self.network.first_stage..self.network.layers.len() {
            self.near(n, &ranges);
        }
        let looked = SecondLook {
            positions: (limit - begin) as u64,
            looked: ranges.iter().map(|range| range.len() as u64).sum(),
        };
        self.work.ranges = ranges;
        looked
    }

    /// The rows of `wanted` that lie near a survivor, in ascending ranges that are apart, and how
    /// many of them are survivors.
    fn survivors(
        &self,
        look: &Look,
        survive: &[f32],
        wanted: Range<usize>,
        ranges: &mut Vec<Range<usize>>,
    ) -> u64 {
        let mut survivors = 0;
        let early = &self.work.early;
        let first = wanted.start.saturating_sub(look.around).max(early.from);
        let behind = wanted.end + look.around;
        let rows = early.values.chunks_exact(look.columns);
        let rows = (early.from..).zip(rows).take(behind - early.from);
        for (row, scores) in rows.skip(first - early.from) {
            if !scores.iter().zip(survive).any(|(x, least)| x >= least) {
                continue;
            }
            survivors += u64::from(wanted.contains(&row));
            let start = row.saturating_sub(look.around).max(wanted.start);
            let end = (row + look.around + 1).min(wanted.end);
            match ranges.last_mut() {
                _ if start >= end => {}
                Some(last) if start <= last.end => last.end = last.end.max(end),
                _ => ranges.push(start..end),
            }
        }
        survivors
    }

    /// Computes the rows of a layer of the second stage on which `ranges` of the output depend, but
    /// for those that are there.
    fn near(&mut self, n: usize, ranges: &[Range<usize>]) {
        let value = &self.network.values[n + 1];
        let (before, after) = value.spread.unwrap_or_default();
        let mut open: Option<Range<usize>> = None;
        for range in ranges {
            let start = range.start.saturating_sub(before);
            let end = (range.end + after).min(self.length.unwrap_or(usize::MAX));
            match &mut open {
                Some(open) if start <= open.end => open.end = open.end.max(end),
                _ => {
                    if let Some(done) = open.replace(start..end) {
                        self.ahead(n, done);
                    }
                }
            }
        }
        if let Some(done) = open {
            self.ahead(n, done);
        }
        self.close(n);
    }

    /// Adds the zeros behind a layer's last row of all.
    fn close(&mut self, n: usize) {
        let value = &self.network.values[n + 1];
        let held = &mut self.work.values[n + 1];
        let length = self.length.map(|length| length as isize);
        if length == Some(held.end(value.channels)) {
            held.zeros(value.pads.1, value.channels);
        }
    }

    /// Computes rows of a layer of the second stage from its next row on, or from their first where
    /// that lies ahead.
    fn ahead(&mut self, n: usize, rows: Range<usize>) {
        let value = &self.network.values[n + 1];
        let next = &mut self.kept.next[n];
        let held = &mut self.work.values[n + 1];
        if held.is_empty() && *next <= rows.start {
            // Zeros before the first row, as in every value.
            let zeros = if rows.start == 0 { value.pads.0 } else { 0 };
            held.from = rows.start as isize - zeros as isize;
            held.zeros(zeros, value.channels);
        } else if *next < rows.start {
            // Nobody reads the rows between.
            held.zeros(rows.start - *next, value.channels);
        }
        let from = rows.start.max(*next);
        *next = from;
        if rows.end > from {
            self.compute(n, from..rows.end);
        }
    }

    /// Drops the rows that nothing needs any more.
    fn forget(&mut self) {
        let Some(look) = &self.carried.look else {
            return self.forget_values(usize::MAX);
        };
        let done = self.work.output.end(self.carried.columns);
        let early = done.saturating_sub(look.around);
        self.work.early.forget(early, look.columns);
        self.forget_values(done);
    }

    /// The same of values, where the second stage's output has its rows up to `done`.
    fn forget_values(&mut self, done: usize) {
        let values = self.work.values.iter_mut().zip(&self.network.values);
        for (held, value) in values {
            let next = |&(reader, before): &(usize, usize)| {
                self.kept.next[reader] as isize - before as isize
            };
            let read = value.readers.iter().map(next).min();
            let spread = value
                .spread
                .map(|(before, _)| done as isize - before as isize);
            let needed = read.into_iter().chain(spread).min();
            let needed = needed.unwrap_or(isize::MAX);
            held.forget(needed, value.channels);
        }
    }
}

fn residual<'a>(layer: &Conv, values: &'a [Held], row: usize) -> Residual<'a> {
    let Some((value, added)) = layer.added else {
        return Residual::None;
    };
    let (held, pitch) = (&values[value], layer.shape.channels_out);
    let view = View {
        data: held.bytes(),
        first: held.place(row as isize, pitch),
        pitch,
    };
    match added {
        Added::Unsigned(scale) => Residual::Unsigned(view, scale.get()),
        Added::Signed(scale) => Residual::Signed(view, scale.get()),
        Added::None | Added::Float => Residual::None,
    }
}
