//! The list of operators: what a layer does, as it is written in a graph's text.

use super::affine::AffineSpec;
use super::attention::AttentionSpec;
use super::conv::ConvSpec;
use super::dense::DenseSpec;
use super::embed::EmbedSpec;
use super::frames::FramesSpec;
use super::join::JoinSpec;
use super::layer_norm::LayerNormSpec;
use super::one_hot::OneHotSpec;
use super::operator::{Operator, check_size};
use super::plain::{FromPlainSpec, ToPlainSpec};
use super::pool::PoolSpec;
use super::quantise::QuantiseSpec;
use super::repeat::RepeatSpec;
use super::softmax::SoftmaxSpec;
use super::sum::SumSpec;
use super::widen::WidenSpec;
use super::window::WindowSpec;
use crate::model::manifest::Precision;
use serde::{Deserialize, Serialize};

/// Makes [`Spec`] of a list of operators, and the one place that distinguishes them.
macro_rules! operators {
    ($($(#[$attribute:meta])* $name:ident($spec:ty),)*) => {
        /// What a layer does. In a graph's text, `op` holds the operator's name and the fields of
        /// its specification stand beside it.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(tag = "op", rename_all = "snake_case")]
        pub enum Spec {
            $($(#[$attribute])* $name($spec),)*
        }

        impl Spec {
            /// The operator itself.
            pub(crate) fn operator(&self) -> &dyn Operator {
                match self {
                    $(Spec::$name(spec) => spec,)*
                }
            }
        }

        $(impl From<$spec> for Spec {
            fn from(spec: $spec) -> Spec {
                Spec::$name(spec)
            }
        })*
    };
}

operators! {
    /// Convolution or linear layer.
    Conv(ConvSpec),
    /// Dense layer on a vector.
    Dense(DenseSpec),
    /// Factor, term and function of each value.
    Affine(AffineSpec),
    /// Each row several times.
    Repeat(RepeatSpec),
    /// Rows side by side.
    Join(JoinSpec),
    /// Sum of two rows.
    Sum(SumSpec),
    /// Rows with channels of zeros behind their own.
    Widen(WidenSpec),
    /// Maximum or mean of neighbouring rows.
    Window(WindowSpec),
    /// Rows of a table, one an id.
    Embed(EmbedSpec),
    /// Layer norm.
    #[serde(rename = "norm")]
    LayerNorm(LayerNormSpec),
    /// Float rows to integer ones.
    Quantise(QuantiseSpec),
    /// Multi-head attention.
    Attention(AttentionSpec),
    /// Soft-max over channels.
    Softmax(SoftmaxSpec),
    /// Maximum and mean by reading frame.
    Frames(FramesSpec),
    /// One vector from all rows.
    Pool(PoolSpec),
    /// Codes to tract's own one-hot rows.
    OneHot(OneHotSpec),
    /// Rows to one of tract's own tensors.
    ToPlain(ToPlainSpec),
    /// One of tract's own tensors to rows.
    FromPlain(FromPlainSpec),
}

impl Spec {
    /// The name that reports use.
    pub fn name(&self) -> &'static str {
        self.operator().name()
    }

    /// The reason why this cannot be run, if there is one; `halo` rows are there at each end.
    pub fn validate(&self, precision: Precision, halo: usize) -> Result<(), String> {
        let operator = self.operator();
        check_size("rate", operator.rate())?;
        check_size("channels", operator.channels())?;
        operator.validate(precision, halo)
    }
}
