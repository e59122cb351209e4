//! A list with operators of tract's own as an NNEF text, which needs tract's graph.

use super::listing::{Entry, Listing, Wire};
use crate::compile::foreign::{PLAIN, framework};
use crate::compile::lower::Network;
use crate::model::file::TensorData;
use crate::model::layers::{INPUT, LENGTH, TILE};
use crate::model::ops::layer::Layer;
use safetensors::tensor::Dtype;
use tract_nnef::internal::*;

/// The text, and the constants of tract's own operators as tensors of the file.
pub(super) fn write(
    listing: &Listing,
    outputs: &[Wire],
    network: &Network,
    halo: usize,
) -> TractResult<(Vec<u8>, Vec<TensorData>)> {
    let model = graph(listing, outputs, network, halo)?;
    let nnef = framework();
    let proto = tract_nnef::ser::to_proto_model(&nnef, &model).map_err(unwritten)?;
    let mut tensors = vec![];
    // By name: a packing gives the same bytes each time.
    let mut constants: Vec<_> = proto.tensors.iter().collect();
    constants.sort_by(|a, b| a.0.0.cmp(&b.0.0));
    for (name, tensor) in constants {
        let dtype = match tensor.datum_type() {
            DatumType::F32 => Dtype::F32,
            DatumType::F16 => Dtype::F16,
            DatumType::I64 => Dtype::I64,
            DatumType::I32 => Dtype::I32,
            DatumType::Bool => Dtype::BOOL,
            other => bail!("constant {} of {other:?}", name.0),
        };
        tensors.push(TensorData {
            name: format!("{PLAIN}{}", name.0),
            dtype,
            shape: tensor.shape().to_vec(),
            data: tensor.as_bytes().to_vec(),
        });
    }
    let mut text = vec![];
    tract_nnef::ast::dump::Dumper::new(&nnef, &mut text).document(&proto.doc)?;
    Ok((text, tensors))
}

/// Says what to do about an operator that tract runs and cannot write to a file.
fn unwritten(error: TractError) -> TractError {
    let text = format!("{error:#}");
    let Some((_, node)) = text.split_once("No serializer found for node ") else {
        return error;
    };
    format_err!(
        "node {node}: it is not lowered here, and tract, which could run it, has no way to write \
         it to a file; export the network without this operator"
    )
}

/// The list as a graph of tract's.
fn graph(
    listing: &Listing,
    outputs: &[Wire],
    network: &Network,
    halo: usize,
) -> TractResult<TypedModel> {
    let mut model = TypedModel {
        symbols: network.model.symbols.clone(),
        ..TypedModel::default()
    };
    let tile = model.symbols.sym(TILE).to_dim() * network.stride as i64;
    let codes = if network.ids {
        u32::fact([tile])
    } else {
        u8::fact([tile])
    };
    let input = model.add_source(INPUT, codes)?;
    let length = model.add_source(LENGTH, i64::fact::<&[usize]>(&[]))?;
    let mut values = HashMap::from([(INPUT, input), (LENGTH, length)]);
    let find = |values: &HashMap<&str, OutletId>, names: &[String]| {
        let outlets = names.iter().map(|name| {
            let found = values.get(name.as_str()).copied();
            found.with_context(|| format!("no value {name}"))
        });
        outlets.collect::<TractResult<TVec<OutletId>>>()
    };
    for entry in &listing.entries {
        match entry {
            Entry::Layer(entry) => {
                let (spec, label) = (entry.spec.clone(), &entry.label);
                let layer = Layer::new(spec, entry.precision, halo, label)?;
                let inputs = find(&values, &entry.inputs)?;
                let outlets = model.wire_node(&entry.label, layer, &inputs)?;
                values.insert(&entry.label, outlets[0]);
            }
            Entry::Foreign {
                label,
                operator,
                inputs,
                outputs,
            } => {
                let inputs = find(&values, inputs)?;
                let outlets = model.wire_node(label, operator.clone(), &inputs)?;
                values.extend(outputs.iter().map(String::as_str).zip(outlets));
            }
            Entry::Constant { label, value } => {
                let outlet = model.add_const(label, value.clone())?;
                values.insert(label, outlet);
            }
        }
    }
    let outlets = find(&values, &listing.names(outputs))?;
    model.select_output_outlets(&outlets)?;
    Ok(model)
}
