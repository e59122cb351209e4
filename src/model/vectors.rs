//! The vectors that a network has of its tokens: rows of the table, and the layer norm behind it.

use super::error::ModelError;
use super::graph::Model;
use super::layers::{self, INPUT};
use super::manifest::Precision;
use super::ops::layer_norm::LayerNormSpec;
use super::ops::spec::Spec;
use safetensors::tensor::Dtype;
use tract_core::internal::*;

/// Vectors of tokens, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenVectors {
    /// Values of a vector.
    pub width: usize,
    /// `[vocabulary, width]`.
    pub values: Vec<f32>,
}

impl Model {
    /// What the network makes of each token before anything else is known of it.
    ///
    /// # Errors
    /// Where its graph begins with no table of tokens.
    pub fn token_vectors(&self) -> Result<TokenVectors, ModelError> {
        let found = self.find_vectors();
        found.map_err(|error| self.error("reading the vectors of tokens", &error))
    }

    fn find_vectors(&self) -> TractResult<TokenVectors> {
        let file = self.file();
        let graph = layers::parse(file)?.context("the graph is not of our layers alone")?;
        let mut entries = graph.layers.iter();
        let table = entries.find_map(|entry| match &entry.spec {
            Spec::Embed(spec) if entry.inputs.first().is_some_and(|i| i == INPUT) => {
                Some((entry, spec))
            }
            _ => None,
        });
        let (entry, spec) = table.context("there is no table of tokens")?;
        let width = spec.channels;
        let region =
            |label: &str, name: &str, dtype| file.tensor(&format!("{label}.{name}"), dtype);
        let label = &entry.label;
        let mut values: Vec<f32> = match entry.precision {
            Precision::Int8 => {
                let rows = region(label, "tokens", Dtype::I8)?;
                let scales = region(label, "token_scales", Dtype::F32)?;
                let scales = scales.f32().context("scales in f32")?;
                let rows = rows.i8().chunks_exact(width).zip(scales);
                rows.flat_map(|(row, scale)| row.iter().map(move |&x| f32::from(x) * scale))
                    .collect()
            }
            Precision::Fp16 => {
                let rows = region(label, "tokens", Dtype::F16)?;
                let rows = rows.f16().context("rows in fp16")?;
                rows.iter().map(|x| x.to_f32()).collect()
            }
            Precision::F32 => {
                let rows = region(label, "tokens", Dtype::F32)?;
                rows.f32().context("rows in f32")?.to_vec()
            }
        };
        ensure!(
            values.len() == spec.vocabulary.saturating_mul(width),
            "{label}: {} values for {} tokens of {width}",
            values.len(),
            spec.vocabulary
        );
        let norm = graph.layers.iter().find_map(|next| match &next.spec {
            Spec::LayerNorm(spec) if next.inputs.first() == Some(label) => Some((next, spec)),
            _ => None,
        });
        if let Some((next, spec)) = norm {
            let (gamma, beta) = (
                region(&next.label, "gamma", Dtype::F32)?,
                region(&next.label, "beta", Dtype::F32)?,
            );
            let gamma = gamma.f32().context("gamma in f32")?;
            let beta = beta.f32().context("beta in f32")?;
            ensure!(
                gamma.len() == width && beta.len() == width,
                "{}: a norm of other rows",
                next.label
            );
            for row in values.chunks_exact_mut(width) {
                normalise(row, gamma, beta, spec);
            }
        }
        Ok(TokenVectors { width, values })
    }
}

/// Layer norm of a row, in f64, each value rounded once.
fn normalise(row: &mut [f32], gamma: &[f32], beta: &[f32], spec: &LayerNormSpec) {
    let count = row.len() as f64;
    let epsilon = f64::from(spec.epsilon.get());
    let sum = row.iter().map(|x| f64::from(*x)).sum::<f64>();
    let mean = if spec.centred { sum / count } else { 0.0 };
    let squares = row.iter().map(|x| (f64::from(*x) - mean).powi(2));
    let deviation = (squares.sum::<f64>() / count + epsilon).sqrt();
    for ((x, gamma), beta) in row.iter_mut().zip(gamma).zip(beta) {
        let value = (f64::from(*x) - mean) / deviation;
        *x = (value * f64::from(*gamma) + f64::from(*beta)) as f32;
    }
}
