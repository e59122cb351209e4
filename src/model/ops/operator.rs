//! What an operator is: the facts of its specification that a graph is built by, and its run.

use super::form::{Input, RowKind, Written};
use super::scratch::{Scratch, ScratchBytes};
use crate::kernels::norm::SCALE_BYTES;
use crate::kernels::{Isa, Rows};
use crate::model::manifest::Precision;
use crate::model::map::Region;
use safetensors::tensor::Dtype;
use std::ops::Range;
use tract_core::internal::*;

/// Largest number of channels, taps or rows that a graph may ask for; keeps products far from
/// overflow.
const MOST: usize = 1 << 16;

/// One operator's specification, and what follows from it.
pub(crate) trait Operator {
    /// The name that reports use.
    fn name(&self) -> &'static str;

    /// The reason why this cannot be run, if there is one; `halo` rows are there at each end.
    /// Other methods are called only where there is none.
    fn validate(&self, precision: Precision, halo: usize) -> Result<(), String>;

    /// The tensors it needs, in order.
    fn tensors(&self, _precision: Precision) -> Vec<Need> {
        vec![]
    }

    /// The inputs it takes, in order.
    fn operands(&self, precision: Precision) -> Vec<Operand>;

    /// The form of the first input.
    fn input(&self) -> Input {
        Input::Rows
    }

    /// The form of the output.
    fn written(&self) -> Written;

    /// Channels of an output row, or the length of a vector.
    fn channels(&self) -> usize;

    /// Positions of the network's input for a row of this layer's input.
    fn rate(&self) -> usize {
        1
    }

    /// Output rows for input rows, as a fraction; rounded up.
    fn rows_ratio(&self) -> (usize, usize) {
        (1, 1)
    }

    /// True where row n of the output stands where row n of the network's input does.
    fn keeps_rows(&self) -> bool {
        let (multiplied, divided) = self.rows_ratio();
        self.rate() == 1 && multiplied == divided
    }

    /// Rows of the input, before and behind, that a row of the output may depend on.
    fn reach(&self) -> usize {
        usize::MAX
    }

    /// True where [`Run::sequences`] side by side do not meet: by default where a row of the output
    /// depends on the same row of the input alone.
    fn keeps_apart(&self) -> bool {
        self.reach() == 0 && self.keeps_rows()
    }

    /// Working memory for a tile, where that grows with it.
    fn scratch(&self, _attributes: &Attributes, _tile: usize) -> ScratchBytes {
        ScratchBytes::default()
    }

    /// Writes the rows of the output that hold data.
    fn run(&self, run: Run) -> TractResult<()>;
}

/// A tensor that a layer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// Its name behind the layer's label and a dot.
    pub name: &'static str,
    /// Its type.
    pub dtype: Dtype,
    /// How many values.
    pub len: usize,
}

impl Need {
    pub(super) fn new(name: &'static str, dtype: Dtype, len: usize) -> Need {
        Need { name, dtype, len }
    }

    pub(super) fn floats(name: &'static str, len: usize) -> Need {
        Need::new(name, Dtype::F32, len)
    }
}

/// The type of weights that are integers in an int8 layer.
pub(super) fn weight_type(precision: Precision) -> Dtype {
    match precision {
        Precision::Int8 => Dtype::I8,
        Precision::Fp16 => Dtype::F16,
        Precision::F32 => Dtype::F32,
    }
}

/// What an input of a layer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand {
    /// Codes of a sequence, `[T]`.
    Codes,
    /// Token ids, `[T]`.
    Ids,
    /// One number a token, `[T]`.
    Values,
    /// How many positions of the tile hold data.
    Length,
    /// Rows with halo of so many channels.
    Rows(usize, RowKind),
    /// Float rows without halo of so many channels.
    Unpadded(usize),
    /// tract's own `[1, channels, T]`.
    Plain(usize),
    /// A float vector of this length.
    Vector(usize),
}

impl Operand {
    /// True where a value of this fact can be the operand. Axes that are not known yet can.
    pub(super) fn accepts(self, fact: &TypedFact) -> bool {
        let float = f32::datum_type();
        let any = None;
        let (dt, axes): (DatumType, TVec<Option<usize>>) = match self {
            Operand::Codes => (u8::datum_type(), tvec![any]),
            Operand::Ids => (u32::datum_type(), tvec![any]),
            Operand::Values => (float, tvec![any]),
            Operand::Length => (i64::datum_type(), tvec![]),
            Operand::Rows(channels, RowKind::Float) => (float, tvec![any, Some(channels)]),
            Operand::Rows(channels, kind) => {
                (u8::datum_type(), tvec![any, Some(kind.pitch(channels))])
            }
            Operand::Unpadded(channels) => (float, tvec![any, Some(channels)]),
            Operand::Plain(channels) => (float, tvec![Some(1), Some(channels), any]),
            Operand::Vector(len) => (float, tvec![Some(len)]),
        };
        let fits = |(dim, axis): (&TDim, &Option<usize>)| match (dim.to_usize(), axis) {
            (Ok(size), Some(expected)) => size == *expected,
            _ => true,
        };
        fact.datum_type == dt && fact.rank() == axes.len() && fact.shape.iter().zip(&axes).all(fits)
    }
}

/// What every layer has, whatever its operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Name of its tensors in the file.
    pub label: String,
    /// Precision of its weights; integer rows where `Int8`.
    pub precision: Precision,
    /// Zero rows at each end of every buffer of the graph.
    pub halo: usize,
    /// Its tensors in the order of [`Operator::tensors`].
    pub tensors: Vec<Region>,
    /// Instruction set.
    pub isa: Isa,
    /// How far from a wanted row of the graph's output the rows of this layer are needed; `None`:
    /// all of them, always.
    pub spread: Option<usize>,
    /// True where nothing is read of it but the first row of a sequence.
    pub first: bool,
}

impl Attributes {
    pub(super) fn tensor(&self, index: usize) -> TractResult<&Region> {
        let label = &self.label;
        self.tensors
            .get(index)
            .with_context(|| format!("layer {label} lacks its tensor {index}"))
    }

    pub(super) fn floats(&self, index: usize) -> TractResult<&[f32]> {
        self.tensor(index)?.f32().context("an f32 tensor")
    }

    /// The geometry of a tensor of rows with halo, of which at least `count` can hold data.
    pub(super) fn rows_of(
        &self,
        value: &Tensor,
        channels: usize,
        count: usize,
    ) -> TractResult<Rows> {
        let shape = value.shape();
        let positions = match shape {
            [rows, pitch] if *pitch == channels => rows.checked_sub(2 * self.halo),
            _ => None,
        };
        let positions = positions.filter(|positions| *positions >= count);
        let label = &self.label;
        Ok(Rows {
            halo: self.halo,
            positions: positions.with_context(|| {
                format!("{label}: rows of {shape:?}, not {count} of {channels} channels")
            })?,
        })
    }

    /// Where the data of rows with halo stands, counted in values.
    pub(super) fn data(&self, count: usize, channels: usize) -> Range<usize> {
        let first = self.halo * channels;
        first..first + count * channels
    }
}

/// How many rows a layer reads and writes for a given length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Rows of the input that hold data.
    pub rows_in: usize,
    /// Rows of the output that hold data.
    pub rows_out: usize,
}

/// All that a run of an operator reads and writes.
pub(crate) struct Run<'a> {
    pub attributes: &'a Attributes,
    pub extent: Extent,
    pub inputs: &'a [TValue],
    pub output: &'a mut Tensor,
    pub scratch: &'a mut Scratch,
    /// Rows of the graph's output that are asked for; `None`: every row.
    pub wanted: Option<&'a [Range<usize>]>,
    /// How far from these the rows of this layer are needed; `None`: all of them.
    pub spread: Option<usize>,
    /// How many sequences the rows are of, all of one length.
    pub sequences: usize,
}

/// The reason why a size of a specification is out of bounds.
pub(super) fn check_size(name: &str, value: usize) -> Result<(), String> {
    match value {
        0 => Err(format!("{name} is 0")),
        _ if value > MOST => Err(format!("{name} {value} is above {MOST}")),
        _ => Ok(()),
    }
}

/// The reason why an operator that copies rows cannot write this form.
pub(super) fn check_padded(form: Written) -> Result<(), String> {
    match form {
        Written::Unsigned | Written::Signed | Written::Rows => Ok(()),
        other => Err(format!("copied rows are not written as {other:?}")),
    }
}

impl RowKind {
    /// Bytes or floats from one row of this kind to the next.
    pub(super) fn pitch(self, channels: usize) -> usize {
        match self {
            RowKind::Dynamic => channels.saturating_add(SCALE_BYTES),
            RowKind::Unsigned(_) | RowKind::Signed(_) | RowKind::Float => channels,
        }
    }
}

pub(super) fn bytes(value: &Tensor) -> TractResult<&[u8]> {
    value.try_as_plain_ram()?.as_slice::<u8>()
}

pub(super) fn floats(value: &Tensor) -> TractResult<&[f32]> {
    value.try_as_plain_ram()?.as_slice::<f32>()
}
