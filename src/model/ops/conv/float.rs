//! A convolution of float rows.

use super::spec::{Added, ConvSpec};
use crate::kernels::float::{ConvFloat, Weights};
use crate::kernels::{Target, View};
use crate::model::manifest::Precision;
use crate::model::ops::form::Written;
use crate::model::ops::operator::{Attributes, floats};
use tract_core::internal::*;

/// Computes the first `count` rows of the output; `added` is what is added.
pub(super) fn run(
    spec: &ConvSpec,
    attributes: &Attributes,
    added: Option<&TValue>,
    output: &mut Tensor,
    (count, input): (usize, View<f32>),
) -> TractResult<()> {
    let channels = spec.row_channels();
    ensure!(spec.step == 1, "float rows go one at a time");
    let weight = attributes.tensor(0)?;
    let weights = match attributes.precision {
        Precision::F32 => Weights::F32(weight.f32().context("weights")?),
        _ => Weights::F16(weight.f16().context("weights")?),
    };
    let first = attributes.halo * channels;
    let residual = match (spec.added, added) {
        (Added::None, _) => None,
        (Added::Float, Some(rows)) => {
            attributes.rows_of(rows, channels, count)?;
            Some(View {
                data: floats(rows)?,
                first,
                pitch: channels,
            })
        }
        (other, _) => bail!("float rows and {other:?}"),
    };
    let conv = ConvFloat {
        shape: spec.shape,
        positions: count,
        input,
        weights,
        bias: attributes.floats(1)?,
        residual,
        activation: spec.activation,
    };
    let mut memory = output.try_as_plain_ram_mut()?;
    let data = memory.as_slice_mut::<f32>()?;
    let first = match spec.output {
        Written::Rows => first,
        Written::Last => 0,
        other => bail!("a float convolution does not write {other:?}"),
    };
    let pitch = channels;
    conv.run(attributes.isa, &mut Target { data, first, pitch });
    Ok(())
}
