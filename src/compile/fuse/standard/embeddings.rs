//! Embeddings of tokens, positions and token types, summed and normed.

use super::parts::Parts;
use crate::compile::fuse::node;
use tract_onnx::pb::NodeProto;

/// `EmbedLayerNormalization`: the rows of tokens, positions and types (tables by that order) summed
/// and normed.
pub fn embeddings(
    op: &NodeProto,
    [tokens, positions, types]: [Option<String>; 3],
    [gamma, beta]: [&str; 2],
    order: Option<&str>,
    parts: &mut Parts,
) -> Result<String, String> {
    let (Some(ids), Some(tokens), Some(positions)) = (op.input.first(), tokens, positions) else {
        return Err("it lacks a table".to_string());
    };
    let rows = parts.op("Gather", &[&tokens, ids]);
    let positions = match order {
        Some(order) => parts.op("Gather", &[&positions, order]),
        None => {
            let shape = parts.op("Shape", &[ids]);
            let [zero, one] = [0, 1].map(|value| parts.integers(&[value]));
            let length = parts.op("Gather", &[&shape, &one]);
            parts.op("Slice", &[&positions, &zero, &length, &zero])
        }
    };
    let mut sum = parts.op("Add", &[&rows, &positions]);
    if let (Some(types), Some(kinds)) = (types, op.input.get(1).filter(|name| !name.is_empty())) {
        let rows = parts.op("Gather", &[&types, kinds]);
        sum = parts.op("Add", &[&sum, &rows]);
    }
    let away = op.output.get(2).filter(|name| !name.is_empty());
    if let Some(name) = away {
        parts.call(&sum, name);
    }
    let epsilon = node::float(op, "epsilon").unwrap_or(1e-12);
    Ok(parts.layer_norm(away.unwrap_or(&sum), gamma, Some(beta), epsilon))
}
