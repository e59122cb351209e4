//! What a network consists of: one [`Step`] for each operator of ours, or for a node that stays
//! tract's.

use crate::kernels::Activation;
use crate::kernels::ConvShape;
use crate::kernels::pool::Pooling;
use crate::model::ops::window::WindowPooling;
use tract_nnef::internal::OutletId;

/// A convolution with all that melts into its epilogue.
#[derive(Debug, Clone)]
pub struct ConvStep {
    /// Name of the convolution's node.
    pub name: String,
    /// Its input in the float graph.
    pub input: OutletId,
    /// Its shape as the network has it.
    pub shape: ConvShape,
    /// `[channels_out][channels_in][width]`, batch norm folded; a grouped convolution has zeros
    /// between its groups. Empty where `by_input` is.
    pub weight: Vec<f32>,
    /// Weights of a linear layer as the graph has them, `[channels_in][channels_out]`: a copy of
    /// all of them at once would double the memory of a large network.
    pub by_input: Option<OutletId>,
    /// One an output channel.
    pub bias: Vec<f32>,
    /// What is added before the activation.
    pub residual: Option<OutletId>,
    /// What follows.
    pub function: Activation,
    /// Rows out of one input row, all alike: an upsampling that precedes a convolution of width 1.
    pub repeat: usize,
    /// The float graph's value after all of it.
    pub output: OutletId,
}

/// A product and a sum with one constant a channel, and a function.
#[derive(Debug, Clone)]
pub struct AffineStep {
    /// Name of its last node.
    pub name: String,
    /// Its input.
    pub input: OutletId,
    /// One a channel.
    pub factor: Vec<f32>,
    /// One a channel.
    pub term: Vec<f32>,
    /// What follows.
    pub function: Activation,
    /// The float graph's value after all of it.
    pub output: OutletId,
}

/// A dense layer on a pooled vector.
#[derive(Debug, Clone)]
pub struct DenseStep {
    /// Name of the product's node.
    pub name: String,
    /// Its input.
    pub input: OutletId,
    /// Length of the input.
    pub inputs: usize,
    /// Length of the output.
    pub outputs: usize,
    /// `[outputs][inputs]`.
    pub weight: Vec<f32>,
    /// One an output.
    pub bias: Vec<f32>,
    /// What follows.
    pub function: Activation,
    /// The float graph's value after all of it.
    pub output: OutletId,
}

/// Layer norm.
#[derive(Debug, Clone)]
pub struct LayerNormStep {
    /// Name of the node.
    pub name: String,
    /// The rows.
    pub input: OutletId,
    /// Multiplied.
    pub gamma: Vec<f32>,
    /// Added.
    pub beta: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
    /// False where the mean is not subtracted.
    pub centred: bool,
    /// True where it is of one vector.
    pub vector: bool,
    /// The normalised rows.
    pub output: OutletId,
}

/// Embedding of token ids.
#[derive(Debug, Clone)]
pub struct EmbedStep {
    /// Name of the node.
    pub name: String,
    /// The ids.
    pub input: OutletId,
    /// Values of a row.
    pub width: usize,
    /// `[vocabulary][width]`.
    pub tokens: Vec<f32>,
    /// `[positions][width]`, empty where there are none.
    pub positions: Vec<f32>,
    /// The rows.
    pub output: OutletId,
}

/// One number a token, as a row.
#[derive(Debug, Clone)]
pub struct ScalarStep {
    /// Name of its last node.
    pub name: String,
    /// The values.
    pub input: OutletId,
    /// The least value and the greatest.
    pub clamp: [f32; 2],
    /// One a channel.
    pub weight: Vec<f32>,
    /// One a channel.
    pub bias: Vec<f32>,
    /// What follows.
    pub function: Activation,
    /// The rows.
    pub output: OutletId,
}

/// Values of which there are few, as rows of a table.
#[derive(Debug, Clone)]
pub struct LevelsStep {
    /// Name of the last node that it stands for.
    pub name: String,
    /// The values.
    pub input: OutletId,
    /// Values of a row.
    pub width: usize,
    /// The values that there are, ascending.
    pub levels: Vec<f32>,
    /// `[levels][width]`.
    pub table: Vec<f32>,
    /// The rows.
    pub output: OutletId,
}

/// Multi-head attention.
#[derive(Debug, Clone)]
pub struct AttentionStep {
    /// Name of the node.
    pub name: String,
    /// Queries, keys and values.
    pub inputs: [OutletId; 3],
    /// Heads.
    pub heads: usize,
    /// Channels of a head.
    pub width: usize,
    /// Factor on scores.
    pub scale: f32,
    /// Base of the rotation by position.
    pub rotary: Option<f32>,
    /// The rows.
    pub output: OutletId,
}

/// A part of the network, in order of evaluation.
#[derive(Debug, Clone)]
pub enum Step {
    /// A convolution of our own.
    Conv(ConvStep),
    /// A product, a sum and a function of single values.
    Affine(AffineStep),
    /// Rows several times.
    Repeat {
        /// Name of the node.
        name: String,
        /// The rows.
        input: OutletId,
        /// Rows out of one.
        factor: usize,
        /// All of them.
        output: OutletId,
    },
    /// Rows side by side.
    Join {
        /// Name of the node.
        name: String,
        /// The rows.
        inputs: Vec<OutletId>,
        /// All channels.
        output: OutletId,
    },
    /// The sum of two rows that no convolution could take in, or their product.
    Sum {
        /// Name of the node.
        name: String,
        /// The rows.
        inputs: [OutletId; 2],
        /// True where negative sums become 0.
        relu: bool,
        /// True for a product.
        product: bool,
        /// The sums.
        output: OutletId,
    },
    /// Axes exchanged, added or removed: rows and vectors are the same however the float graph
    /// has them.
    View {
        /// The rows or the vector.
        input: OutletId,
        /// The same.
        output: OutletId,
    },
    /// Maximum or mean of neighbouring rows.
    Window {
        /// Name of the node.
        name: String,
        /// The rows.
        input: OutletId,
        /// Rows of a window.
        width: usize,
        /// From one window to the next.
        stride: usize,
        /// Rows before the output's own position.
        before: usize,
        /// What is kept of a window.
        pooling: WindowPooling,
        /// The pooled rows.
        output: OutletId,
    },
    /// One vector from all rows.
    Pool {
        /// Name of the node.
        name: String,
        /// The rows.
        input: OutletId,
        /// What is kept of them.
        pooling: Pooling,
        /// The vector.
        output: OutletId,
    },
    /// Rows of a table, one an id.
    Embed(EmbedStep),
    /// One number a token, as a row.
    Scalar(ScalarStep),
    /// Values of which there are few, as rows of a table.
    Levels(LevelsStep),
    /// Layer norm.
    LayerNorm(LayerNormStep),
    /// Attention over a whole sequence.
    Attention(AttentionStep),
    /// Soft-max over the channels of rows, or over a vector.
    Softmax {
        /// Name of the node.
        name: String,
        /// The rows, or the vector.
        input: OutletId,
        /// Probabilities.
        output: OutletId,
    },
    /// Maximum and mean by reading frame.
    Frames {
        /// Name of the concatenation's node.
        name: String,
        /// Rows to pool.
        input: OutletId,
        /// Channels of the rows.
        channels: usize,
        /// The pooled vector.
        output: OutletId,
    },
    /// A dense layer of our own.
    Dense(DenseStep),
    /// A node that stays tract's.
    Plain(usize),
}

impl Step {
    /// The value of the float graph after it; the first one of a node that stays tract's.
    pub fn output(&self) -> OutletId {
        match self {
            Step::Conv(step) => step.output,
            Step::Affine(step) => step.output,
            Step::Dense(step) => step.output,
            Step::Embed(step) => step.output,
            Step::Scalar(step) => step.output,
            Step::Levels(step) => step.output,
            Step::LayerNorm(step) => step.output,
            Step::Attention(step) => step.output,
            Step::Repeat { output, .. }
            | Step::Join { output, .. }
            | Step::Sum { output, .. }
            | Step::View { output, .. }
            | Step::Window { output, .. }
            | Step::Pool { output, .. }
            | Step::Softmax { output, .. }
            | Step::Frames { output, .. } => *output,
            Step::Plain(node) => OutletId::new(*node, 0),
        }
    }

    /// True where the result is one vector, not rows.
    pub fn gives_vector(&self) -> bool {
        match self {
            Step::Dense(_) | Step::Pool { .. } | Step::Frames { .. } => true,
            Step::LayerNorm(step) => step.vector,
            Step::Conv(_)
            | Step::Affine(_)
            | Step::Repeat { .. }
            | Step::Join { .. }
            | Step::Sum { .. }
            | Step::View { .. }
            | Step::Window { .. }
            | Step::Embed(_)
            | Step::Scalar(_)
            | Step::Levels(_)
            | Step::Attention(_)
            | Step::Softmax { .. }
            | Step::Plain(_) => false,
        }
    }

    /// True where a row of the result stands for more or fewer positions than one of the input.
    pub fn changes_rate(&self) -> bool {
        match self {
            Step::Conv(step) => step.shape.stride > 1 || step.repeat > 1,
            Step::Window { stride, .. } => *stride > 1,
            Step::Repeat { .. } => true,
            Step::Affine(_)
            | Step::Dense(_)
            | Step::Embed(_)
            | Step::Scalar(_)
            | Step::Levels(_)
            | Step::LayerNorm(_)
            | Step::Attention(_)
            | Step::Join { .. }
            | Step::Sum { .. }
            | Step::View { .. }
            | Step::Pool { .. }
            | Step::Softmax { .. }
            | Step::Frames { .. }
            | Step::Plain(_) => false,
        }
    }

    /// The rows that it reads in float, where something gives them so.
    pub fn float_rows(&self) -> Option<OutletId> {
        match self {
            Step::Conv(step) => step.residual,
            Step::LayerNorm(step) => Some(step.input),
            Step::Pool { input, .. } => Some(*input),
            Step::Affine(step) => Some(step.input),
            Step::Dense(_)
            | Step::Embed(_)
            | Step::Scalar(_)
            | Step::Levels(_)
            | Step::Attention(_)
            | Step::Repeat { .. }
            | Step::Join { .. }
            | Step::Sum { .. }
            | Step::View { .. }
            | Step::Window { .. }
            | Step::Softmax { .. }
            | Step::Frames { .. }
            | Step::Plain(_) => None,
        }
    }

    /// The rows of which its own are made without arithmetic worth the name.
    pub fn copied(&self) -> Vec<OutletId> {
        match self {
            Step::Join { inputs, .. } => inputs.clone(),
            Step::Sum { inputs, .. } => inputs.to_vec(),
            Step::Repeat { input, .. } | Step::Window { input, .. } | Step::View { input, .. } => {
                vec![*input]
            }
            Step::Conv(_)
            | Step::Affine(_)
            | Step::Dense(_)
            | Step::Embed(_)
            | Step::Scalar(_)
            | Step::Levels(_)
            | Step::LayerNorm(_)
            | Step::Attention(_)
            | Step::Pool { .. }
            | Step::Softmax { .. }
            | Step::Frames { .. }
            | Step::Plain(_) => vec![],
        }
    }

    /// The rows that it reads as floats or integers of one scale: those with a scale of their own
    /// serve linear layers and attention only.
    pub fn plainly_read(&self) -> Vec<OutletId> {
        match self {
            Step::Conv(step) => step.residual.into_iter().collect(),
            Step::Affine(step) => vec![step.input],
            Step::LayerNorm(step) => vec![step.input],
            Step::Join { inputs, .. } => inputs.clone(),
            Step::Sum { inputs, .. } => inputs.to_vec(),
            Step::Repeat { input, .. }
            | Step::Window { input, .. }
            | Step::Pool { input, .. }
            | Step::Softmax { input, .. }
            | Step::Frames { input, .. } => vec![*input],
            Step::Dense(_)
            | Step::Embed(_)
            | Step::Scalar(_)
            | Step::Levels(_)
            | Step::Attention(_)
            | Step::View { .. }
            | Step::Plain(_) => vec![],
        }
    }
}
