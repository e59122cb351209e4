//! What a layer does, as it is written in a graph's text.

use crate::kernels::pool::FRAMES;
use crate::kernels::{Activation, ConvShape};
use serde::{Deserialize, Serialize};

/// A finite f32 below 1e12, equal to itself by its bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Real(u32);

impl Real {
    /// As a number.
    pub fn get(self) -> f32 {
        f32::from_bits(self.0)
    }
}

impl TryFrom<f32> for Real {
    type Error = String;
    fn try_from(value: f32) -> Result<Real, String> {
        match value.abs() < 1e12 {
            true => Ok(Real(value.to_bits())),
            false => Err(format!("{value} is not below 1e12")),
        }
    }
}

impl From<Real> for f32 {
    fn from(value: Real) -> f32 {
        value.get()
    }
}

/// The form of a layer's first input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Base codes or token ids, `[T]`.
    Codes,
    /// Rows with halo.
    Rows,
    /// Rows without halo.
    Bare,
    /// tract's own `[1, channels, T]`.
    Plain,
    /// A vector.
    Vector,
}

/// The form of a layer's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// Rows of 0 to 255, with halo.
    Unsigned,
    /// Rows of -127 to 127, with halo.
    Signed,
    /// Rows of -127 to 127, each followed by its own scale, four bytes of an f32.
    Dynamic,
    /// Float rows with halo.
    Rows,
    /// Float rows without halo: the graph's output.
    Last,
    /// A float vector.
    Vector,
    /// tract's own f32 `[1, channels, T]`.
    Plain,
}

/// What is added to a convolution before its activation: the third input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Added {
    /// Nothing.
    None,
    /// Unsigned rows times a scale.
    Unsigned(Real),
    /// Signed rows times a scale.
    Signed(Real),
    /// Float rows.
    Float,
}

/// A function of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    /// x.
    Identity,
    /// max(x, 0).
    Relu,
    /// max(x, 0) before something is added to x; nothing after it.
    ReluFirst,
    /// x · Φ(x).
    Gelu,
    /// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).
    GeluTanh,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

impl Function {
    /// As the kernel has it.
    pub fn of_kernel(self) -> Activation {
        match self {
            Function::Identity => Activation::Identity,
            Function::Relu => Activation::Relu,
            Function::ReluFirst => Activation::ReluFirst,
            Function::Gelu => Activation::Gelu,
            Function::GeluTanh => Activation::GeluTanh,
            Function::Sigmoid => Activation::Sigmoid,
            Function::Tanh => Activation::Tanh,
        }
    }
}

/// A convolution over rows or base codes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvSpec {
    /// What the kernel computes at a step: `channels_out` holds the channels of all rows of the
    /// step.
    pub shape: ConvShape,
    /// Output rows of a step: more than one where a few channels share the lanes of several
    /// positions, or where rows are repeated.
    pub step: usize,
    /// True where the input is base codes.
    pub codes: bool,
    /// True where the input rows are signed.
    pub signed: bool,
    /// True where each input row is followed by its own scale.
    pub row_scales: bool,
    /// What is added.
    pub added: Added,
    /// What follows.
    pub function: Function,
    /// Inverse of the scale of an integer output, for functions that need the value in its own
    /// unit.
    pub gain: Real,
    /// Positions of the network's input that one row of this input stands for.
    pub rate: usize,
    /// What is written.
    pub output: Written,
}

impl ConvSpec {
    /// Channels of one output row.
    pub fn channels(&self) -> usize {
        self.shape.channels_out / self.step
    }
}

/// A dense layer on a vector: weights of fp16 or f32.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DenseSpec {
    /// Length of the input.
    pub inputs: usize,
    /// Length of the output.
    pub outputs: usize,
    /// What follows.
    pub function: Function,
}

/// What pooling takes over all positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooled {
    /// The mean.
    Mean,
    /// The largest.
    Max,
    /// The first position.
    First,
}

/// What is taken of a window of neighbouring rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Taken {
    /// The largest.
    Max,
    /// The mean of those rows that there are.
    Mean,
    /// The mean with zeros for rows beyond the ends.
    PaddedMean,
}

/// Integer or float rows, and the scale of integer ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// Unsigned, times a scale.
    Unsigned(Real),
    /// Signed, times a scale.
    Signed(Real),
    /// Signed, each row times the scale that follows it.
    Dynamic,
    /// Float.
    Float,
}

/// What a layer does. Unless it says otherwise its inputs are rows and the length.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Spec {
    /// Convolution or linear layer; with something added, that is the third input.
    Conv(ConvSpec),
    /// Dense layer. Its only input is a vector.
    Dense(DenseSpec),
    /// `function(x · factor[c] + term[c])` of each value, to rows of any kind. Tensors: `factor`,
    /// `term`, both in units of the output.
    Affine {
        /// Channels.
        channels: usize,
        /// What the rows are.
        rows: RowKind,
        /// Applied to the sum; integer outputs with a function other than a ReLU have their inverse
        /// scale in `gain`.
        function: Function,
        /// Multiplied to the function's value.
        gain: Real,
        /// As for a convolution.
        rate: usize,
        /// What is written.
        output: Written,
    },
    /// Each row `factor` times.
    Repeat {
        /// Channels.
        channels: usize,
        /// Rows out of one.
        factor: usize,
        /// As for a convolution.
        rate: usize,
        /// What is read and written.
        output: Written,
    },
    /// Rows side by side. Inputs: rows, length, more rows.
    Join {
        /// Channels of each input.
        channels: Vec<usize>,
        /// What each input is; scales in units of the output.
        rows: Vec<RowKind>,
        /// As for a convolution.
        rate: usize,
        /// What is read and written.
        output: Written,
    },
    /// `y = fma(b, scale b, a · scale a)` of the values a and b of two rows, and a ReLU. Inputs:
    /// rows, length, rows.
    Sum {
        /// Channels.
        channels: usize,
        /// What the inputs are; scales in units of the output.
        rows: [RowKind; 2],
        /// True where negative sums become 0.
        relu: bool,
        /// As for a convolution.
        rate: usize,
        /// What is written.
        output: Written,
    },
    /// Rows with channels of zeros behind their own: kernels take integer channels by fours.
    Widen {
        /// Channels of the input.
        channels: usize,
        /// Channels of the output.
        to: usize,
        /// As for a convolution.
        rate: usize,
        /// What is read and written.
        output: Written,
    },
    /// What is taken of `width` rows every `stride` rows.
    Window {
        /// Channels.
        channels: usize,
        /// Rows of a window.
        width: usize,
        /// From one window to the next.
        stride: usize,
        /// Rows before the output's own position.
        before: usize,
        /// What is taken.
        taken: Taken,
        /// As for a convolution.
        rate: usize,
        /// What is read and written.
        output: Written,
    },
    /// Rows of a table of tokens, one an id, plus those of a table of positions. Inputs: ids and
    /// the length. Tensors: `tokens`, `positions` where there are some, and with int8 tables the
    /// scales of their rows, `token_scales` and `position_scales`.
    Embed {
        /// Channels.
        channels: usize,
        /// Rows of the table of tokens.
        vocabulary: usize,
        /// Rows of the table of positions, or 0.
        positions: usize,
    },
    /// Layer norm of float rows. Tensors: `gamma`, `beta`.
    Norm {
        /// Channels.
        channels: usize,
        /// Added to the variance.
        epsilon: Real,
        /// The scale of signed rows.
        scale: Real,
        /// What is written: float, signed or dynamic rows.
        output: Written,
    },
    /// Float rows to signed or dynamic ones.
    Quantise {
        /// Channels.
        channels: usize,
        /// The scale of signed rows.
        scale: Real,
        /// As for a convolution.
        rate: usize,
        /// What is written.
        output: Written,
    },
    /// Multi-head attention. Inputs: queries, the length, keys, values.
    Attention {
        /// Heads.
        heads: usize,
        /// Channels of a head.
        width: usize,
        /// Factor on scores.
        scale: Real,
        /// Positions that queries and keys are rotated for, or 0. Tensors: `cos` and `sin`,
        /// `[positions][width / 2]`.
        rotary: usize,
        /// Queries, keys and values.
        rows: [RowKind; 3],
        /// The scale of signed rows.
        output_scale: Real,
        /// What is written: float, signed or dynamic rows.
        output: Written,
    },
    /// Soft-max over the channels of float rows without halo, in place of them; or over a vector,
    /// its only input.
    Softmax {
        /// Channels.
        channels: usize,
        /// True for a vector.
        vector: bool,
        /// As for a convolution.
        rate: usize,
    },
    /// Maximum and mean by reading frame, to a vector of `6 · channels`.
    Frames {
        /// Channels of the rows.
        channels: usize,
        /// What the rows are.
        rows: RowKind,
    },
    /// One vector from all rows.
    Pool {
        /// Channels of the rows.
        channels: usize,
        /// What the rows are.
        rows: RowKind,
        /// What is taken.
        pooled: Pooled,
        /// As for a convolution.
        rate: usize,
    },
    /// Codes to tract's own one-hot `[1, 4, T]`.
    OneHot,
    /// Rows to tract's own `[1, channels, T]`.
    ToPlain {
        /// Channels of the rows.
        channels: usize,
        /// What the rows are.
        rows: RowKind,
        /// As for a convolution.
        rate: usize,
    },
    /// tract's own `[1, channels, T]` to float rows, with halo or as the graph's output.
    FromPlain {
        /// Channels.
        channels: usize,
        /// As for a convolution.
        rate: usize,
        /// What is written.
        output: Written,
    },
}

impl Spec {
    /// The name that reports use.
    pub fn name(&self) -> &'static str {
        match self {
            Spec::Conv(c) if c.codes => "strandline_codes_conv",
            Spec::Conv(c) if c.shape.width == 1 && c.step == 1 => "strandline_linear",
            Spec::Conv(c) if c.added != Added::None => "strandline_conv_add",
            Spec::Conv(_) => "strandline_conv",
            Spec::Dense(_) => "strandline_dense",
            Spec::Affine { .. } => "strandline_affine",
            Spec::Repeat { .. } => "strandline_repeat",
            Spec::Join { .. } => "strandline_join",
            Spec::Sum { .. } => "strandline_sum",
            Spec::Widen { .. } => "strandline_widen",
            Spec::Window { .. } => "strandline_window",
            Spec::Softmax { .. } => "strandline_softmax",
            Spec::Embed { .. } => "strandline_embed",
            Spec::Norm { .. } => "strandline_norm",
            Spec::Quantise { .. } => "strandline_quantise",
            Spec::Attention { .. } => "strandline_attention",
            Spec::Frames { .. } => "strandline_frames",
            Spec::Pool { .. } => "strandline_pool",
            Spec::OneHot => "strandline_one_hot",
            Spec::ToPlain { .. } => "strandline_to_plain",
            Spec::FromPlain { .. } => "strandline_from_plain",
        }
    }

    /// The form of the first input.
    pub fn input(&self) -> Input {
        match self {
            Spec::Conv(c) if c.codes => Input::Codes,
            Spec::OneHot | Spec::Embed { .. } => Input::Codes,
            Spec::Dense(_) | Spec::Softmax { vector: true, .. } => Input::Vector,
            Spec::FromPlain { .. } => Input::Plain,
            Spec::Softmax { .. } => Input::Bare,
            _ => Input::Rows,
        }
    }

    /// The form of the output.
    pub fn written(&self) -> Written {
        match self {
            Spec::Conv(c) => c.output,
            Spec::Affine { output, .. }
            | Spec::Repeat { output, .. }
            | Spec::Join { output, .. }
            | Spec::Sum { output, .. }
            | Spec::Widen { output, .. }
            | Spec::Window { output, .. }
            | Spec::Norm { output, .. }
            | Spec::Quantise { output, .. }
            | Spec::Attention { output, .. }
            | Spec::FromPlain { output, .. } => *output,
            Spec::Embed { .. } => Written::Rows,
            Spec::Softmax { vector: true, .. } => Written::Vector,
            Spec::Softmax { .. } => Written::Last,
            Spec::Dense(_) | Spec::Frames { .. } | Spec::Pool { .. } => Written::Vector,
            Spec::OneHot | Spec::ToPlain { .. } => Written::Plain,
        }
    }

    /// Output rows for input rows, as a fraction; rounded up.
    pub fn rows_ratio(&self) -> (usize, usize) {
        match self {
            Spec::Conv(c) => (c.step, c.shape.stride),
            Spec::Repeat { factor, .. } => (*factor, 1),
            Spec::Window { stride, .. } => (1, *stride),
            _ => (1, 1),
        }
    }

    /// Positions of the network's input for a row of this layer's input.
    pub fn rate(&self) -> usize {
        match self {
            Spec::Conv(c) => c.rate,
            Spec::Affine { rate, .. }
            | Spec::Repeat { rate, .. }
            | Spec::Join { rate, .. }
            | Spec::Sum { rate, .. }
            | Spec::Widen { rate, .. }
            | Spec::Window { rate, .. }
            | Spec::Softmax { rate, .. }
            | Spec::Pool { rate, .. }
            | Spec::Quantise { rate, .. }
            | Spec::ToPlain { rate, .. }
            | Spec::FromPlain { rate, .. } => *rate,
            Spec::Dense(_)
            | Spec::Frames { .. }
            | Spec::OneHot
            | Spec::Embed { .. }
            | Spec::Norm { .. }
            | Spec::Attention { .. } => 1,
        }
    }

    /// Rows of the input, before and behind, that a row of the output may depend on.
    pub fn reach(&self) -> usize {
        match self {
            Spec::Conv(c) if c.step == 1 && c.shape.stride == 1 => c.shape.reach(),
            // A step writes several rows.
            Spec::Conv(c) => (c.shape.width - 1) * c.shape.dilation + c.step,
            Spec::Affine { .. }
            | Spec::Join { .. }
            | Spec::Sum { .. }
            | Spec::Widen { .. }
            | Spec::Softmax { .. }
            | Spec::Quantise { .. }
            | Spec::Norm { .. }
            | Spec::OneHot => 0,
            _ => usize::MAX,
        }
    }

    /// Channels of an output row, or the length of a vector.
    pub fn channels_out(&self) -> usize {
        match self {
            Spec::Conv(c) => c.channels(),
            Spec::Dense(d) => d.outputs,
            Spec::Join { channels, .. } => channels.iter().sum(),
            Spec::Frames { channels, .. } => 2 * FRAMES * channels,
            Spec::Widen { to, .. } => *to,
            Spec::Affine { channels, .. }
            | Spec::Sum { channels, .. }
            | Spec::Repeat { channels, .. }
            | Spec::Window { channels, .. }
            | Spec::Softmax { channels, .. }
            | Spec::Pool { channels, .. }
            | Spec::Embed { channels, .. }
            | Spec::Norm { channels, .. }
            | Spec::Quantise { channels, .. }
            | Spec::ToPlain { channels, .. }
            | Spec::FromPlain { channels, .. } => *channels,
            Spec::Attention { heads, width, .. } => heads * width,
            Spec::OneHot => 4,
        }
    }
}
