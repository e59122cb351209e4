//! One step of the network, one layer; or none, where its input is not what our operators take.

use super::emitter::Emitter;
use crate::compile::lower::Step;
use tract_nnef::internal::*;

impl Emitter<'_> {
    pub(super) fn step(&mut self, step: &Step) -> TractResult<()> {
        let (done, output) = match step {
            Step::Conv(conv) => (self.conv(conv)?, conv.output),
            Step::Dense(dense) => (self.dense(dense)?, dense.output),
            Step::Affine(affine) => (self.affine(affine)?, affine.output),
            Step::Embed(embed) => (self.embed(embed)?, embed.output),
            Step::Scalar(scalar) => (self.scalar(scalar)?, scalar.output),
            Step::Levels(levels) => (self.levels(levels)?, levels.output),
            Step::Attention(attention) => (self.attention(attention)?, attention.output),
            Step::LayerNorm(norm) => (self.layer_norm(norm)?, norm.output),
            Step::Repeat {
                name,
                input,
                factor,
                output,
            } => (self.repeat(name, *input, *factor, *output)?, *output),
            Step::Join {
                name,
                inputs,
                output,
            } => (self.join(name, inputs, *output)?, *output),
            Step::Window { output, .. } => (self.window(step)?, *output),
            Step::Softmax {
                name,
                input,
                output,
            } => (self.softmax(name, *input, *output)?, *output),
            Step::Frames {
                name,
                input,
                channels,
                output,
            } => (self.frames(name, *input, *channels, *output)?, *output),
            Step::Pool {
                name,
                input,
                pooling,
                output,
            } => (self.pool(name, *input, *pooling, *output)?, *output),
            Step::Sum {
                name,
                inputs,
                relu,
                product,
                output,
            } => (
                self.sum(name, *inputs, (*relu, *product), *output)?,
                *output,
            ),
            Step::View { input, output } => (self.view(*input, *output), *output),
            Step::Plain(node) => return self.plain_node(*node),
        };
        if !done {
            self.plain_nodes(output)?;
        }
        Ok(())
    }
}
