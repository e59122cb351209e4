//! From an ONNX file to the graph that the lowering reads.

use super::dim::{Dim, Fact};
use super::fault::Fault;
use super::imported::Imported;
use super::meaning::Input;
use super::net::Net;
use super::node::{self, label};
use super::qdq::Ranges;
use super::{
    axes, crop, dilate, half, inputs, qdq, rounded, rules, shape, standard, tidy, unpadded, window,
};
use crate::compile::reference;
use crate::model::error::ModelError;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto};
use tract_onnx::prelude::Framework;

/// Strides in all that a network may have.
const MOST_STRIDE: i64 = 65_536;

/// Reads an ONNX file.
///
/// # Errors
/// Where it is no ONNX, has inputs that are neither bases nor tokens, control flow, or quantisation
/// that is not understood; the error names the node.
pub fn read(path: &Path) -> Result<Imported, ModelError> {
    let file = path.display().to_string();
    let failed = |reason: String| ModelError::Graph {
        file: file.clone(),
        action: "reading the ONNX file",
        reason,
    };
    let proto = tract_onnx::onnx().proto_model_for_path(path);
    let proto = proto.map_err(|error| failed(format!("{error:#}")))?;
    let folder = path.parent().and_then(Path::to_str);
    let imported = import(proto, folder, &file)
        .map_err(|fault| failed(format!("{}: {}", fault.node, fault.reason)))?;
    log::debug!(
        "{file}: fused {:?}, {} ranges stated",
        imported.fused,
        imported.ranges.len()
    );
    log(&file, &imported.notes);
    Ok(imported)
}

/// The files that hold weights of an ONNX file.
pub fn external_data(path: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let proto = tract_onnx::onnx().proto_model_for_path(path);
    let proto = proto.map_err(|error| ModelError::Graph {
        file: path.display().to_string(),
        action: "reading the ONNX file",
        reason: format!("{error:#}"),
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let tensors = proto.graph.iter().flat_map(|graph| &graph.initializer);
    let mut files: Vec<PathBuf> = tensors
        .flat_map(|tensor| &tensor.external_data)
        .filter(|entry| entry.key == "location")
        .map(|entry| folder.join(&entry.value))
        .collect();
    files.sort_unstable();
    files.dedup();
    Ok(files)
}

/// An ONNX file in operators and types that tract computes as they are meant; where it is so
/// itself, as it is.
///
/// # Errors
/// Where it is no ONNX, or an operator cannot be written so.
pub fn standardised(path: &Path) -> Result<ModelProto, ModelError> {
    let failed = |reason: String| ModelError::Graph {
        file: path.display().to_string(),
        action: "reading the ONNX file",
        reason,
    };
    let proto = tract_onnx::onnx().proto_model_for_path(path);
    let mut proto = proto.map_err(|error| failed(format!("{error:#}")))?;
    let opset = opset(&proto);
    let folder = path.parent().and_then(Path::to_str);
    let Some(graph) = proto.graph.as_mut() else {
        return Ok(proto);
    };
    if half::is_needed(graph) || standard::is_needed(graph) {
        let standard = inputs::check(graph)
            .and_then(|()| half::widen(graph, folder))
            .and_then(|()| standard::take_apart(graph, opset, folder));
        standard.map_err(|fault| failed(format!("{}: {}", fault.node, fault.reason)))?;
    }
    rounded::in_float(graph, opset);
    Ok(proto)
}

/// The version of the default operator set.
fn opset(proto: &ModelProto) -> i64 {
    let default = |set: &&OperatorSetIdProto| set.domain.is_empty() || set.domain == "ai.onnx";
    let set = proto.opset_import.iter().find(default);
    set.map_or(1, |set| set.version)
}

/// Checks and rewrites a model whose external data is nowhere.
pub fn rewritten(onnx: &[u8]) -> Result<(), String> {
    let proto = tract_onnx::onnx().proto_model_for_read(&mut &*onnx);
    let proto = proto.map_err(|error| format!("{error:#}"))?;
    import(proto, None, "memory")
        .map(drop)
        .map_err(|fault| fault.reason)
}

/// Reads an ONNX model that is in memory; `folder` is where its external data lies, `name` what
/// errors call it.
pub fn import(mut proto: ModelProto, folder: Option<&str>, name: &str) -> Result<Imported, Fault> {
    let opset = opset(&proto);
    let mut graph = proto
        .graph
        .take()
        .ok_or_else(|| Fault::new("the model", "it has no graph"))?;
    inputs::check(&graph)?;
    if half::is_needed(&graph) {
        half::widen(&mut graph, folder)?;
    }
    standard::take_apart(&mut graph, opset, folder)?;
    let (mut net, inputs) = inputs::open(graph, opset, folder)?;
    let mut ranges = Ranges::new();
    let quantised = net.nodes.iter().any(qdq::is_quantised);
    // Products of scales must stay apart until the integers are gone.
    tidy::constants(&mut net, true);
    qdq::remove(&mut net, &mut ranges)?;
    tidy::drop_identities(&mut net);
    tidy::constants(&mut net, false);
    net.infer();
    let mut notes = vec![];
    dilate::recognise(&mut net, &mut notes);
    axes_exist(&net)?;
    let crop = crop::open(&mut net).unwrap_or_else(|reason| {
        notes.push(reason);
        None
    });
    tidy::drop_identities(&mut net);
    let stride = divide_length(&mut net, &inputs)?;
    tidy::constants(&mut net, false);
    notes.extend(written_lengths(&net));
    rules::fuse(&mut net, &mut notes)?;
    unpadded::give(&mut net);
    net.infer();
    tidy::settle_shapes(&mut net);
    tidy::drop_views(&mut net);
    net.drop_dead();
    known_operators(&net).inspect_err(|_| log(name, &notes))?;
    tidy::name_apart(&mut net);
    let read: HashSet<String> = net.nodes.iter().flat_map(|n| n.input.clone()).collect();
    let (inputs, dropped) = inputs.into_iter().partition(|i| read.contains(&i.name));
    let mut fused = BTreeMap::new();
    for node in &net.nodes {
        if let Some(kind) = node.op_type.strip_prefix(node::PREFIX) {
            *fused.entry(kind.to_string()).or_insert(0) += 1;
        }
    }
    net.inputs.retain(|i| read.contains(&i.name));
    proto.graph = Some(GraphProto {
        name: "graph".to_string(),
        node: net.nodes,
        initializer: net.constants.into_values().collect(),
        input: net.inputs,
        output: net.outputs,
        ..GraphProto::default()
    });
    proto.opset_import.push(OperatorSetIdProto {
        domain: node::DOMAIN.to_string(),
        version: 1,
    });
    proto.functions.clear();
    Ok(Imported {
        proto,
        ranges,
        inputs,
        dropped,
        stride,
        crop: crop.unwrap_or((0, 0)),
        quantised,
        fused,
        notes,
        name: name.to_string(),
    })
}

fn log(file: &str, notes: &[String]) {
    for note in notes {
        log::debug!("{file}: {note}");
    }
}

/// Every operator is one that can be run at all.
fn known_operators(net: &Net) -> Result<(), Fault> {
    let known = reference::framework().op_register.0;
    let constant = |name: &String| name.is_empty() || net.constants.contains_key(name);
    let open = |n: &&NodeProto| n.op_type == "Pad" && !n.input.iter().skip(1).all(constant);
    if let Some(node) = net.nodes.iter().find(open) {
        return Err(Fault::new(
            format!("{} (Pad)", label(node)),
            "it pads by what follows from the length: export the network at a fixed length, which \
             is opened again here",
        ));
    }
    let unknown = |n: &&NodeProto| !known.contains_key(&n.op_type);
    let Some(node) = net.nodes.iter().find(unknown) else {
        return Ok(());
    };
    let name = format!("{} ({})", label(node), node.op_type);
    let default = ["", "ai.onnx"].contains(&node.domain.as_str());
    Err(Fault::new(
        name,
        if default {
            format!("no such operator is known, of opset {}", net.opset)
        } else if node.domain == "com.microsoft.nchwc" {
            "its weights are laid out for one processor: save the optimised network at \
             ORT_ENABLE_EXTENDED, or export it without an optimiser"
                .to_string()
        } else {
            format!(
                "an operator of {}, not of ONNX: export the network without it, or without an \
                 optimiser that merges operators",
                node.domain
            )
        },
    ))
}

/// Every axis that is named is one of the input's: tract counts far beyond.
fn axes_exist(net: &Net) -> Result<(), Fault> {
    const OF_INPUT: [&str; 8] = [
        "ArgMax",
        "Gather",
        "GatherElements",
        "Hardmax",
        "LayerNormalization",
        "LogSoftmax",
        "Softmax",
        "Split",
    ];
    for node in &net.nodes {
        let named: Vec<i64> = match node.op_type.as_str() {
            name if OF_INPUT.contains(&name) => node::int(node, "axis").into_iter().collect(),
            name if name.starts_with("Reduce") => axes::axes(net, node).unwrap_or_default(),
            _ => continue,
        };
        let Some(rank) = node.input.first().and_then(|input| net.rank(input)) else {
            continue;
        };
        if let Some(axis) = named.iter().find(|&&axis| axes::axis(axis, rank).is_none()) {
            return Err(Fault::new(
                format!("{} ({})", label(node), node.op_type),
                format!("axis {axis} of {rank}"),
            ));
        }
    }
    Ok(())
}

/// Takes the length for a multiple of what strides divide it by; gives that multiple.
fn divide_length(net: &mut Net, inputs: &[Input]) -> Result<usize, Fault> {
    while let Some(factor) = window::missing_factor(net).filter(|_| net.rows.fixed().is_none()) {
        let times = net
            .rows
            .times
            .checked_mul(factor)
            .filter(|&t| t <= MOST_STRIDE);
        let times = times.ok_or_else(|| {
            Fault::new(
                "the graph",
                format!("strides of more than {MOST_STRIDE} in all"),
            )
        })?;
        net.rows = Dim { times, plus: 0 };
        for input in inputs {
            let fact = Fact::shaped(
                input
                    .meaning
                    .shape(net.rows)
                    .into_iter()
                    .map(Some)
                    .collect(),
            );
            net.set_fact(&input.name, fact);
        }
        net.infer();
    }
    Ok(net.rows.times.max(1) as usize)
}

/// Reshapes that hold the length of the exporter's example, which is taken for any length.
fn written_lengths(net: &Net) -> Vec<String> {
    let reshapes = net.nodes.iter().filter(|n| n.op_type == "Reshape");
    let written = reshapes.filter_map(|n| {
        let from = net.fact(&n.input[0]).shape?;
        let to: Vec<Option<Dim>> = net
            .integers(&n.input[1])?
            .into_iter()
            .map(|d| Some(Dim::new(d)))
            .collect();
        if to.contains(&Some(Dim::new(0))) || to.contains(&Some(Dim::new(-1))) {
            return None;
        }
        let (at, dim) = shape::written_length(&from, &to)?;
        let length = to[at]?.fixed()? / dim.times;
        Some(format!(
            "{}: a length of {length} is written into the graph; taken for any length",
            label(n)
        ))
    });
    written.collect()
}
