//! Inputs that follow from there being one sequence without padding.

use super::meaning::Meaning;
use super::net::Net;
use super::node::{PREFIX, Value, element_kind, node, with};
use tract_onnx::pb::tensor_proto::DataType;

/// Gives operators that stay tract's own what a mask and token types are in a sequence without
/// padding: ones and zeros. A packed file takes nothing but the tokens.
pub fn give(net: &mut Net) {
    let of = |meaning: Meaning| net.meanings.iter().find(|(_, m)| *m == meaning);
    let Some((ids, _)) = of(Meaning::Ids).cloned() else {
        return;
    };
    let given = [Meaning::Mask, Meaning::Types].map(|meaning| of(meaning).cloned());
    let mut first = vec![];
    for (name, meaning) in given.into_iter().flatten() {
        let kind = net
            .inputs
            .iter()
            .find(|input| input.name == name)
            .and_then(element_kind);
        let replaced = format!("{name}.unpadded");
        let mut read = false;
        for node in &mut net.nodes {
            if node.op_type.starts_with(PREFIX) {
                continue;
            }
            for input in node.input.iter_mut().filter(|input| **input == name) {
                input.clone_from(&replaced);
                read = true;
            }
        }
        if !read {
            continue;
        }
        let all = format!("{name}.all");
        first.push(node("Equal", &all, &[&ids, &ids], &[&all]));
        let mut truth = all;
        if meaning == Meaning::Types {
            let none = format!("{name}.none");
            first.push(node("Not", &none, &[&truth], &[&none]));
            truth = none;
        }
        let to = i64::from(kind.unwrap_or(DataType::Int64 as i32));
        let cast = node("Cast", &replaced, &[&truth], &[&replaced]);
        first.push(with(cast, "to", Value::Int(to)));
    }
    net.nodes.splice(0..0, first);
    net.index();
}
