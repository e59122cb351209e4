//! A float network in tract's graph, and what is asked of it: its axes, its rows, how far they
//! reach.

use super::steps::Step;
use crate::kernels::{BASES, NO_BASE};
use crate::model::genes;
use tract_nnef::internal::*;
use tract_nnef::tract_core::ops::nn::{Reduce, Softmax};

/// A float network and its steps.
#[derive(Debug)]
pub struct Network {
    /// The float graph.
    pub model: TypedModel,
    /// What it consists of.
    pub steps: Vec<Step>,
    /// Its source of bases or ids.
    pub input: OutletId,
    /// Its source of the values of a cell, where it has one.
    pub values: Option<OutletId>,
    /// Its source of flags, where it has one.
    pub flags: Option<OutletId>,
    /// True where it reads token ids.
    pub ids: bool,
    /// Positions for one of the symbol of the length.
    pub stride: usize,
    /// True where the file's own graph gives no rows at the ends of a sequence.
    pub cropped: bool,
    /// Symbol of the length, where that is open.
    pub symbol: Option<Symbol>,
}

impl Network {
    /// True where the channels of rows come last, `[1, T, channels]`, as transformers have it.
    pub fn channels_last(&self, outlet: OutletId) -> TractResult<bool> {
        let shape = &self.model.outlet_fact(outlet)?.shape;
        let open = |axis: usize| {
            let symbol = self.symbol.as_ref()?;
            shape.get(axis).map(|dim| dim.symbols().contains(symbol))
        };
        Ok(match (open(1), open(2)) {
            (Some(true), Some(false)) => true,
            (Some(false), Some(true)) => false,
            _ => self.ids,
        })
    }

    /// Hidden rows that may become integers, and their channels.
    pub fn hidden(&self) -> Vec<(OutletId, usize)> {
        let outputs = self.model.output_outlets().unwrap_or_default();
        let mut found = vec![];
        for step in &self.steps {
            if step.gives_vector() {
                continue;
            }
            let output = step.output();
            let Ok(fact) = self.model.outlet_fact(output) else {
                continue;
            };
            let rows = fact.rank() == 3 && fact.datum_type == f32::datum_type();
            let axis = if self.channels_last(output).unwrap_or(false) {
                2
            } else {
                1
            };
            let read = !self.model.node(output.node).outputs[output.slot]
                .successors
                .is_empty();
            let last = outputs.contains(&output) && !read;
            if !rows || last {
                continue;
            }
            if let Ok(channels) = fact.shape[axis].to_usize() {
                found.push((output, channels));
            }
        }
        found
    }

    /// True where it reads cells: a sequence is words then, see `genes::join`.
    pub fn cells(&self) -> bool {
        self.values.is_some() || self.flags.is_some()
    }

    /// A sequence as the float graph takes it.
    pub fn feed(&self, sequence: &[u32]) -> TractResult<TVec<TValue>> {
        let (ids, values, flags) = if self.cells() {
            genes::split(sequence)
        } else {
            (sequence.to_vec(), vec![], vec![])
        };
        let mut inputs = tvec!();
        for input in self.model.input_outlets()? {
            let fact = self.model.outlet_fact(*input)?;
            let is = |other: Option<OutletId>| other == Some(*input);
            inputs.push(if *input == self.input && !self.ids {
                one_hot(sequence)?
            } else {
                let tensor = if is(self.values) {
                    Tensor::from_shape(&[1, values.len()], &values)?
                } else {
                    let row: Vec<i64> = if *input == self.input {
                        ids.iter().map(|&id| i64::from(id)).collect()
                    } else if is(self.flags) {
                        flags.iter().map(|&flag| i64::from(flag)).collect()
                    } else {
                        // A mask says that every token is real.
                        vec![1; ids.len()]
                    };
                    Tensor::from_shape(&[1, row.len()], &row)?
                };
                tensor
                    .cast_to_dt(fact.datum_type)?
                    .into_owned()
                    .into_tvalue()
            });
        }
        Ok(inputs)
    }

    /// Positions of the input that one row of a value stands for.
    ///
    /// # Errors
    /// Where it has no whole number of them.
    pub fn rate(&self, outlet: OutletId) -> TractResult<usize> {
        // Far from lengths that only round to what they should be.
        const SYMBOL: i64 = 1 << 12;
        let values = match &self.symbol {
            Some(symbol) => SymbolValues::default().with(symbol, SYMBOL),
            None => SymbolValues::default(),
        };
        let length = |outlet: OutletId| -> TractResult<usize> {
            let shape = &self.model.outlet_fact(outlet)?.shape;
            let axis = if shape.rank() < 3 || self.channels_last(outlet)? {
                1
            } else {
                2
            };
            let length = shape.get(axis).context("no axis of positions")?;
            Ok(length.eval(&values).to_usize()?)
        };
        let (positions, rows) = (length(self.input)?, length(outlet)?);
        let whole = rows > 0 && positions.is_multiple_of(rows);
        ensure!(whole, "{rows} rows for {positions} positions");
        Ok(positions / rows)
    }

    /// Multiply-accumulates of convolutions and linear layers a position of the input.
    pub fn macs(&self) -> u64 {
        let of = |step: &Step| match step {
            Step::Conv(conv) => {
                let s = &conv.shape;
                let whole = (s.channels_in * s.channels_out * s.width) as u64;
                whole / self.rate(conv.output).unwrap_or(1).max(1) as u64
            }
            _ => 0,
        };
        self.steps.iter().map(of).sum()
    }

    /// What reads all positions at once in a network that gives rows: they would depend on where a
    /// sequence is cut.
    pub fn mixes_positions(&self) -> TractResult<Option<String>> {
        let Some(symbol) = &self.symbol else {
            return Ok(None);
        };
        let outputs = self.model.output_outlets()?.iter();
        let mut shapes = outputs.map(|output| self.model.outlet_fact(*output));
        let rows = shapes.any(|fact| fact.is_ok_and(|fact| fact.rank() == 3));
        for step in &self.steps {
            let id = match step {
                Step::Plain(id) => id,
                Step::Pool { name, .. } if rows => return Ok(Some(format!("{name} (pool)"))),
                Step::Attention(step) if rows => {
                    return Ok(Some(format!("{} (attention)", step.name)));
                }
                _ => continue,
            };
            let node = self.model.node(*id);
            let reduced = match (node.op_as::<Reduce>(), node.op_as::<Softmax>()) {
                (Some(reduce), _) => &reduce.axes,
                (_, Some(softmax)) => &softmax.axes,
                _ => continue,
            };
            let shape = &self.model.outlet_fact(node.inputs[0])?.shape;
            let open = |axis: &usize| shape[*axis].symbols().contains(symbol);
            if reduced.iter().any(open) {
                return Ok(Some(format!("{} ({})", node.name, node.op.name())));
            }
        }
        Ok(None)
    }

    /// True where a row stands for several positions somewhere.
    pub fn strided(&self) -> bool {
        self.steps.iter().any(Step::changes_rate)
    }

    /// Positions to the left and right that the rows of each output depend on, where every step
    /// concerns rows.
    pub fn reach(&self) -> Option<Vec<(usize, usize)>> {
        // Of each value: left, right, and positions a row.
        let mut reach: HashMap<OutletId, (usize, usize, usize)> = HashMap::new();
        let wider =
            |a: (usize, usize, usize), b: (usize, usize, usize)| (a.0.max(b.0), a.1.max(b.1), a.2);
        for step in &self.steps {
            let of = |outlet: &OutletId| reach.get(outlet).copied().unwrap_or((0, 0, 1));
            // A row that is repeated also stands for positions before its own last one.
            let repeated = |(left, right, rate): (usize, usize, usize), factor: usize| {
                (left + rate - 1, right, (rate / factor).max(1))
            };
            let (output, own) = match step {
                Step::Conv(conv) => {
                    let s = &conv.shape;
                    let (mut left, mut right, mut rate) = of(&conv.input);
                    left += s.before * s.dilation * rate;
                    right += (s.width - 1 - s.before) * s.dilation * rate;
                    rate *= s.stride;
                    let mut own = (left, right, rate);
                    if conv.repeat > 1 {
                        own = repeated(own, conv.repeat);
                    }
                    if let Some(residual) = conv.residual.as_ref().map(of) {
                        own = wider(own, residual);
                    }
                    (conv.output, own)
                }
                Step::Affine(affine) => (affine.output, of(&affine.input)),
                Step::Softmax { input, output, .. } | Step::View { input, output } => {
                    (*output, of(input))
                }
                Step::Sum { inputs, output, .. } => {
                    (*output, wider(of(&inputs[0]), of(&inputs[1])))
                }
                Step::Repeat {
                    input,
                    factor,
                    output,
                    ..
                } => (*output, repeated(of(input), *factor)),
                Step::Join { inputs, output, .. } => {
                    let all = inputs.iter().map(of);
                    (*output, all.reduce(wider)?)
                }
                Step::Window {
                    input,
                    width,
                    stride,
                    before,
                    output,
                    ..
                } => {
                    let (left, right, rate) = of(input);
                    let right = right + (width - 1 - before) * rate;
                    (*output, (left + before * rate, right, rate * stride))
                }
                // Vectors, whole sequences, and what is not ours.
                Step::Dense(_)
                | Step::Pool { .. }
                | Step::Frames { .. }
                | Step::Embed(_)
                | Step::Scalar(_)
                | Step::Levels(_)
                | Step::LayerNorm(_)
                | Step::Attention(_)
                | Step::Plain(_) => return None,
            };
            reach.insert(output, own);
        }
        let outputs = self.model.output_outlets().ok()?.iter();
        let found = outputs.map(|output| reach.get(output).map(|(left, right, _)| (*left, *right)));
        found.collect()
    }
}

/// Codes as tract's one-hot `[1, 4, T]`.
pub fn one_hot(codes: &[u32]) -> TractResult<TValue> {
    let mut tensor = Tensor::zero::<f32>(&[1, BASES, codes.len()])?;
    let mut view = tensor.try_as_plain_ram_mut()?;
    let values = view.as_slice_mut::<f32>()?;
    for (t, &code) in codes.iter().enumerate() {
        if code < u32::from(NO_BASE) {
            values[code as usize * codes.len() + t] = 1.0;
        }
    }
    Ok(tensor.into_tvalue())
}
