//! The list of operators: what a layer does, as it is written in a graph's text.

use super::affine::AffineSpec;
use super::attention::AttentionSpec;
use super::conv::spec::ConvSpec;
use super::dense::DenseSpec;
use super::embed::EmbedSpec;
use super::frames::FramesSpec;
use super::join::JoinSpec;
use super::layer_norm::LayerNormSpec;
use super::levels::LevelsSpec;
use super::one_hot::OneHotSpec;
use super::operator::{Operator, check_size};
use super::plain::{FromPlainSpec, ToPlainSpec};
use super::pool::PoolSpec;
use super::quantise::QuantiseSpec;
use super::repeat::RepeatSpec;
use super::rows_dense::RowsDenseSpec;
use super::scalar::ScalarSpec;
use super::softmax::SoftmaxSpec;
use super::sum::SumSpec;
use super::vector_norm::VectorNormSpec;
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

        #[cfg(test)]
        const OPERATORS: usize = [$(stringify!($name)),*].len();

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
    /// Dense layer on each row, in float.
    RowsDense(RowsDenseSpec),
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
    /// One number a token, as a row of channels.
    Scalar(ScalarSpec),
    /// Values of which there are few, as rows of a table.
    Levels(LevelsSpec),
    /// Layer norm.
    #[serde(rename = "norm")]
    LayerNorm(LayerNormSpec),
    /// Layer norm of a vector.
    VectorNorm(VectorNormSpec),
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

    /// True where a row of the output depends on the same row of the inputs alone.
    pub(crate) fn is_by_row(&self) -> bool {
        let operator = self.operator();
        operator.reach() == 0 && operator.keeps_rows()
    }

    /// The reason why this cannot be run, if there is one; `halo` rows are there at each end.
    pub fn validate(&self, precision: Precision, halo: usize) -> Result<(), String> {
        let operator = self.operator();
        check_size("rate", operator.rate())?;
        check_size("channels", operator.channels())?;
        operator.validate(precision, halo)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::Value;

    /// Each operator as it stands in files.
    pub(in super::super) const TEXTS: [&str; OPERATORS] = [
        concat!(
            r#"{"op":"conv","shape":{"channels_in":4,"channels_out":8,"width":3,"#,
            r#""dilation":1,"before":1,"stride":1},"step":2,"codes":true,"signed":false,"#,
            r#""row_scales":false,"added":{"signed":0.5},"function":"relu_first","#,
            r#""gain":1.0,"rate":1,"output":"unsigned"}"#,
        ),
        r#"{"op":"dense","inputs":3,"outputs":2,"function":"gelu_tanh"}"#,
        r#"{"op":"rows_dense","inputs":3,"outputs":2,"function":"identity"}"#,
        concat!(
            r#"{"op":"affine","channels":4,"rows":{"unsigned":0.5},"function":"tanh","#,
            r#""gain":2.0,"rate":1,"output":"last"}"#,
        ),
        r#"{"op":"repeat","channels":4,"factor":2,"rate":4,"output":"signed"}"#,
        concat!(
            r#"{"op":"join","channels":[4,8],"rows":["float",{"signed":0.25}],"rate":1,"#,
            r#""output":"rows"}"#,
        ),
        concat!(
            r#"{"op":"sum","channels":4,"rows":["float","float"],"relu":true,"rate":1,"#,
            r#""output":"rows"}"#,
        ),
        r#"{"op":"widen","channels":3,"to":4,"rate":1,"output":"unsigned"}"#,
        concat!(
            r#"{"op":"window","channels":4,"width":3,"stride":2,"before":1,"#,
            r#""taken":"padded_mean","rate":1,"output":"rows"}"#,
        ),
        r#"{"op":"embed","channels":4,"vocabulary":9,"positions":0}"#,
        r#"{"op":"scalar","channels":4,"least":-2.0,"most":512.0,"function":"relu"}"#,
        r#"{"op":"levels","channels":4,"levels":51}"#,
        r#"{"op":"norm","channels":4,"epsilon":0.5,"scale":1.0,"output":"dynamic"}"#,
        r#"{"op":"vector_norm","channels":4,"epsilon":0.5}"#,
        r#"{"op":"quantise","channels":4,"scale":0.5,"rate":1,"output":"signed"}"#,
        concat!(
            r#"{"op":"attention","heads":2,"width":4,"scale":0.5,"rotary":0,"#,
            r#""rows":["dynamic","dynamic","float"],"output_scale":1.0,"output":"rows"}"#,
        ),
        r#"{"op":"softmax","channels":3,"vector":false,"rate":1}"#,
        r#"{"op":"frames","channels":4,"rows":{"unsigned":0.5}}"#,
        r#"{"op":"pool","channels":4,"rows":"float","pooled":"first","rate":1}"#,
        r#"{"op":"one_hot"}"#,
        r#"{"op":"to_plain","channels":4,"rows":"float","rate":1}"#,
        r#"{"op":"from_plain","channels":4,"rate":1,"output":"rows"}"#,
    ];

    #[test]
    fn texts_of_files_stay_what_they_are() {
        for text in TEXTS {
            let spec: Spec = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&spec).unwrap(), text);
            spec.validate(Precision::Int8, 8).unwrap();
        }
    }

    /// The text with each of its counts in turn replaced.
    fn replaced(value: &Value, by: u64) -> Vec<Value> {
        match value {
            Value::Number(number) if number.is_u64() => vec![by.into()],
            Value::Object(fields) => {
                let each = fields.iter().flat_map(|(name, field)| {
                    replaced(field, by).into_iter().map(|field| {
                        let mut fields = fields.clone();
                        fields.insert(name.clone(), field);
                        Value::Object(fields)
                    })
                });
                each.collect()
            }
            Value::Array(items) => {
                let each = items.iter().enumerate().flat_map(|(index, item)| {
                    replaced(item, by).into_iter().map(move |item| {
                        let mut items = items.clone();
                        items[index] = item;
                        Value::Array(items)
                    })
                });
                each.collect()
            }
            _ => vec![],
        }
    }

    #[test]
    fn sizes_beyond_bounds_are_refused() {
        for text in TEXTS {
            let value: Value = serde_json::from_str(text).unwrap();
            for by in [1 << 33, (1 << 61) + 1, 1 << 62, (1 << 63) + 4, u64::MAX] {
                for value in replaced(&value, by) {
                    let spec: Spec = serde_json::from_value(value.clone()).unwrap();
                    let result = spec.validate(Precision::Int8, 8);
                    assert!(result.is_err(), "{value}");
                }
            }
        }
    }
}
