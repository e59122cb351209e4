//! A layer: one of our operators as a node of tract's graph.

use super::context::Context;
use super::form::{Input, Written};
use super::operator::{Attributes, Extent, Run};
use super::scratch::ScratchBytes;
use super::spec::Spec;
use crate::kernels::Isa;
use crate::kernels::norm::SCALE_BYTES;
use crate::model::error::ModelError;
use crate::model::file::{HASH_AT_OPEN, ModelFile};
use crate::model::manifest::{MOST_POSITIONS, Precision};
use crate::model::map::Region;
use safetensors::tensor::Dtype;
use tract_core::internal::*;

/// Most rows of zeros at each end of a buffer: farther than any convolution over codes may reach.
const MOST_HALO: usize = 1 << 16;

/// Most rows of an output. As many times the largest factor of an operator do not overflow.
const MOST_ROWS: i64 = 1 << 44;

/// Most bytes of an output.
const MOST_BYTES: i64 = 1 << 40;

/// One of our operators, and its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// What it does.
    pub(crate) spec: Spec,
    pub(crate) attributes: Attributes,
}

impl Op for Layer {
    fn name(&self) -> StaticName {
        self.spec.name().into()
    }

    op_as_typed_op!();
}

/// There is no evaluation by tract alone: a runner calls [`Layer::run`] with what it lends.
impl EvalOp for Layer {
    not_out_of_plan!();
}

impl TypedOp for Layer {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let label = &self.attributes.label;
        let operands = self.spec.operator().operands(self.attributes.precision);
        ensure!(
            operands.len() == inputs.len(),
            "layer {label}: {} inputs",
            inputs.len()
        );
        for (operand, fact) in operands.iter().zip(inputs) {
            ensure!(
                operand.accepts(fact),
                "layer {label}: it reads {operand:?}, not {fact:?}"
            );
        }
        let (dt, shape) = self.output_shape(&inputs[0].shape.to_tvec())?;
        Ok(tvec!(dt.fact(&shape)))
    }
}

/// An axis of an output.
#[derive(Debug, Clone, Copy)]
enum Axis {
    One,
    /// Rows, and as many more.
    Rows(usize),
    Channels(usize),
}

impl Layer {
    /// A layer without its tensors, as it is written to a file.
    ///
    /// # Errors
    /// Where its specification cannot be run.
    pub(crate) fn new(
        spec: Spec,
        precision: Precision,
        halo: usize,
        label: &str,
    ) -> TractResult<Layer> {
        ensure!(halo <= MOST_HALO, "a halo of {halo} is above {MOST_HALO}");
        spec.validate(precision, halo)
            .map_err(|reason| format_err!("layer {label}: {reason}"))?;
        let attributes = Attributes {
            label: label.to_string(),
            precision,
            halo,
            tensors: vec![],
            isa: Isa::selected(),
            spread: None,
            first: false,
        };
        Ok(Layer { spec, attributes })
    }

    /// A layer with its tensors, all of it checked.
    pub(crate) fn load(
        file: &ModelFile,
        spec: Spec,
        precision: Precision,
        halo: usize,
        label: &str,
    ) -> TractResult<Layer> {
        let mut layer = Layer::new(spec, precision, halo, label)?;
        for need in layer.spec.operator().tensors(precision) {
            let name = format!("{label}.{}", need.name);
            let tensor = tensor(file, &name, need.dtype, need.len)?;
            layer.attributes.tensors.push(tensor);
        }
        Ok(layer)
    }

    /// Computes the output, in a buffer of the context's.
    pub(crate) fn run(
        &self,
        context: &mut Context,
        inputs: &[TValue],
    ) -> TractResult<TVec<TValue>> {
        let (dt, mut shape) = self.concrete_shape(inputs[0].shape())?;
        if self.spec.operator().written() == Written::Vector {
            shape[0] *= context.sequences.room;
        }
        let mut buffer = context.arena.take(dt, &shape, self.halo_rows())?;
        let output = Arc::get_mut(&mut buffer.tensor).context("an output is still in use")?;
        let mut extent = match self.spec.operator().input() {
            Input::Vector => Extent {
                rows_in: 0,
                rows_out: 0,
            },
            _ => self.extent(inputs)?,
        };
        let (mut wanted, mut spread) = (context.wanted.as_deref(), self.attributes.spread);
        if self.attributes.first && self.spec.is_by_row() {
            let count = context.sequences.count;
            if count == 1 {
                extent.rows_in = extent.rows_in.min(1);
                extent.rows_out = extent.rows_out.min(1);
            } else {
                // Most of the arithmetic is that of operators which heed this; the others' rows of
                // what was not computed are never read.
                let each = (extent.rows_out / count).max(1);
                let firsts = (0..extent.rows_out).step_by(each).map(|row| row..row + 1);
                context.firsts.clear();
                context.firsts.extend(firsts);
                (wanted, spread) = (Some(context.firsts.as_slice()), Some(0));
            }
        }
        self.spec.operator().run(Run {
            attributes: &self.attributes,
            extent,
            inputs,
            output,
            scratch: &mut context.scratch,
            wanted,
            spread,
            sequences: context.sequences.count,
        })?;
        self.clear_halo(extent.rows_out, output, &mut buffer.cleared);
        Ok(tvec!(TValue::from_const(context.arena.put(buffer))))
    }

    /// Fills the end halo behind `rows` rows with zeros; `cleared` is the number of rows behind
    /// which it is zero already.
    fn clear_halo(&self, rows: usize, output: &mut Tensor, cleared: &mut usize) {
        let operator = self.spec.operator();
        let halo = match operator.written() {
            Written::Unsigned | Written::Signed | Written::Rows => self.attributes.halo,
            _ => 0,
        };
        if halo == 0 {
            // What a longer run has left behind the last row is not known any more.
            *cleared = usize::MAX;
        } else if *cleared != rows {
            let row = operator.channels() * output.datum_type().size_of();
            let first = (halo + rows) * row;
            let bytes = output.as_bytes_mut();
            let end = (first + halo * row).min(bytes.len());
            bytes[first.min(end)..end].fill(0);
            *cleared = rows;
        }
    }

    fn output_shape(&self, input: &[TDim]) -> TractResult<(DatumType, TVec<TDim>)> {
        ensure!(!input.is_empty(), "an input of rank 0");
        let operator = self.spec.operator();
        let halo = 2 * self.attributes.halo as i64;
        let rows_in = match operator.input() {
            Input::Codes | Input::Unpadded => input[0].clone(),
            Input::Rows => input[0].clone() - halo,
            Input::Plain => input.last().cloned().unwrap_or_default(),
            Input::Vector => 0.to_dim(),
        };
        let label = &self.attributes.label;
        let most = |rows: &TDim| {
            // Of a shape that is not known yet, for the longest tile.
            let mut values = SymbolValues::default();
            for symbol in rows.symbols() {
                values.set(&symbol, MOST_POSITIONS as i64);
            }
            let most = rows.eval(&values).to_i64();
            most.ok().filter(|rows| *rows <= MOST_ROWS)
        };
        ensure!(most(&rows_in).is_some(), "layer {label}: {rows_in} rows");
        let (multiplied, divided) = operator.rows_ratio();
        let rows = (rows_in * multiplied as i64).divceil(divided);
        let count = most(&rows).with_context(|| format!("layer {label}: {rows} rows"))?;
        let (dt, form) = self.form();
        // Known sizes are what is allocated.
        let known = rows.to_i64().is_ok();
        let values = (count.max(0) + halo).checked_mul(operator.channels() as i64);
        let bytes = values.and_then(|values| values.checked_mul(dt.size_of() as i64));
        ensure!(
            !known || bytes.is_some_and(|bytes| bytes <= MOST_BYTES),
            "layer {label}: {count} rows of {} channels",
            operator.channels()
        );
        let dims = form.map(|axis| match axis {
            Axis::One => 1.to_dim(),
            Axis::Rows(halo) => rows.clone() + halo as i64,
            Axis::Channels(channels) => channels.to_dim(),
        });
        Ok((dt, dims.collect()))
    }

    /// The same for a run, without allocating.
    fn concrete_shape(&self, input: &[usize]) -> TractResult<(DatumType, TVec<usize>)> {
        let rows = self.rows_out(self.room(input)?)?;
        let (dt, form) = self.form();
        let operator = self.spec.operator();
        let values = rows
            .checked_add(2 * self.attributes.halo)
            .and_then(|rows| rows.checked_mul(operator.channels()));
        let bytes = values.and_then(|values| values.checked_mul(dt.size_of()));
        ensure!(
            bytes.is_some_and(|bytes| bytes as u64 <= MOST_BYTES as u64),
            "layer {}: {rows} rows of {} channels",
            self.attributes.label,
            operator.channels()
        );
        let dims = form.map(|axis| match axis {
            Axis::One => 1,
            Axis::Rows(halo) => rows + halo,
            Axis::Channels(channels) => channels,
        });
        Ok((dt, dims.collect()))
    }

    /// Rows that an input of this shape has room for.
    fn room(&self, input: &[usize]) -> TractResult<usize> {
        let (first, last) = match input {
            [] => bail!("an input of rank 0"),
            [first, ..] => (*first, input[input.len() - 1]),
        };
        Ok(match self.spec.operator().input() {
            Input::Codes | Input::Unpadded => first,
            Input::Rows => first
                .checked_sub(2 * self.attributes.halo)
                .context("no halo")?,
            Input::Plain => last,
            Input::Vector => 0,
        })
    }

    fn rows_out(&self, rows_in: usize) -> TractResult<usize> {
        let (multiplied, divided) = self.spec.operator().rows_ratio();
        let rows = rows_in.checked_mul(multiplied);
        let label = &self.attributes.label;
        let rows = rows.with_context(|| format!("layer {label}: {rows_in} rows"))?;
        Ok(rows.div_ceil(divided))
    }

    /// Type and axes of the output.
    fn form(&self) -> (DatumType, impl Iterator<Item = Axis>) {
        let operator = self.spec.operator();
        let written = operator.written();
        let scale = match written {
            Written::Dynamic => SCALE_BYTES,
            _ => 0,
        };
        let channels = Some(Axis::Channels(operator.channels() + scale));
        let halo = Some(Axis::Rows(2 * self.attributes.halo));
        let (dt, axes) = match written {
            Written::Unsigned | Written::Signed | Written::Dynamic => {
                (u8::datum_type(), [halo, channels, None])
            }
            Written::Rows => (f32::datum_type(), [halo, channels, None]),
            Written::Last => (f32::datum_type(), [Some(Axis::Rows(0)), channels, None]),
            Written::Vector => (f32::datum_type(), [channels, None, None]),
            Written::Plain => {
                let axes = [Some(Axis::One), channels, Some(Axis::Rows(0))];
                (f32::datum_type(), axes)
            }
        };
        (dt, axes.into_iter().flatten())
    }

    /// Rows at each end of the output that it leaves alone or clears.
    pub(crate) fn halo_rows(&self) -> usize {
        match self.spec.operator().written() {
            Written::Unsigned | Written::Signed | Written::Dynamic | Written::Rows => {
                self.attributes.halo
            }
            Written::Last | Written::Vector | Written::Plain => 0,
        }
    }

    /// Bytes of working memory for a tile.
    pub(crate) fn scratch_bytes(&self, tile: usize) -> ScratchBytes {
        self.spec.operator().scratch(&self.attributes, tile)
    }

    /// The rows that the run's length fills, checked against the tensors.
    fn extent(&self, inputs: &[TValue]) -> TractResult<Extent> {
        let length = inputs.get(1).context("no length")?;
        let length = length.try_as_plain_ram()?.as_slice::<i64>()?;
        let length = *length.first().context("an empty length")?;
        let rows_in = usize::try_from(length)?.div_ceil(self.spec.operator().rate());
        let room = self.room(inputs[0].shape())?;
        ensure!(rows_in <= room, "{rows_in} rows in a tile of {room}");
        Ok(Extent {
            rows_in,
            rows_out: self.rows_out(rows_in)?,
        })
    }
}

/// A tensor of the file, checked: its length, and that no value can make a sum overflow.
fn tensor(file: &ModelFile, name: &str, dtype: Dtype, count: usize) -> Result<Region, ModelError> {
    let wrong = |expected: String, found: String| ModelError::Tensor {
        file: file.name().to_string(),
        tensor: name.to_string(),
        expected,
        found,
    };
    let region = file.tensor(name, dtype)?;
    let found = region.bytes().len() * 8 / dtype.bitsize();
    if found != count {
        return Err(wrong(format!("{count} values"), found.to_string()));
    }
    // Looking at every weight of a large file would read it whole at every start; a wrong one there
    // gives wrong scores, nothing worse.
    if dtype == Dtype::I8 && file.len() <= HASH_AT_OPEN && region.i8().contains(&-128) {
        return Err(wrong("weights from -127".to_string(), "-128".to_string()));
    }
    let values = match dtype {
        Dtype::F32 => region.f32().unwrap_or_default(),
        _ => &[],
    };
    match values.iter().find(|x| x.is_nan() || x.abs() >= 1e12) {
        Some(bad) => Err(wrong("values below 1e12".to_string(), bad.to_string())),
        None => Ok(region),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::form::Written;
    use crate::model::ops::repeat::RepeatSpec;

    /// A layer whose output is 65,536 times its input.
    fn huge() -> Layer {
        let spec = Spec::from(RepeatSpec {
            channels: 1 << 16,
            factor: 1 << 16,
            rate: 1,
            output: Written::Signed,
        });
        Layer::new(spec, Precision::Int8, 3, "repeat").unwrap()
    }

    #[test]
    fn rows_that_grow_from_layer_to_layer_are_refused() {
        let layer = huge();
        let symbols = SymbolScope::default();
        let length = i64::fact::<&[usize]>(&[]);
        for rows in [symbols.sym("T").to_dim(), 100.to_dim()] {
            let mut fact = u8::datum_type().fact([rows, (1 << 16).to_dim()]);
            let refused = (0..6).any(|_| match layer.output_facts(&[&fact, &length]) {
                Ok(facts) => {
                    fact = facts[0].clone();
                    false
                }
                Err(error) => error.to_string().contains("repeat"),
            });
            assert!(refused, "{fact:?}");
        }
    }

    #[test]
    fn rows_whose_number_a_run_brings_are_bounded_too() {
        let layer = huge();
        assert!(layer.concrete_shape(&[8, 1 << 16]).is_ok());
        for rows in [1 << 10, 1 << 40, usize::MAX >> 16, usize::MAX] {
            let refused = layer.concrete_shape(&[rows, 1 << 16]).unwrap_err();
            assert!(refused.to_string().contains("repeat"), "{refused}");
        }
    }

    #[test]
    fn inputs_of_another_form_are_refused() {
        let spec = Spec::from(RepeatSpec {
            channels: 4,
            factor: 2,
            rate: 1,
            output: Written::Signed,
        });
        let layer = Layer::new(spec, Precision::Int8, 3, "repeat").unwrap();
        let length = i64::fact::<&[usize]>(&[]);
        let refused = |fact: TypedFact| layer.output_facts(&[&fact, &length]).is_err();
        assert!(!refused(u8::fact([20, 4])));
        for fact in [f32::fact([20, 4]), u8::fact([20, 5]), u8::fact([20])] {
            assert!(refused(fact));
        }
        assert!(layer.output_facts(&[&u8::fact([20, 4])]).is_err());
    }
}
