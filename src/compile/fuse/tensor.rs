//! Constants of an ONNX graph: read, cast and stored.

use std::path::Path;
use tract_nnef::internal::*;
use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::DataType;

/// A tensor's values as f32.
pub fn floats(tensor: &TensorProto) -> TractResult<Vec<f32>> {
    let loaded = load(tensor, None)?;
    let cast = loaded.cast_to::<f32>()?;
    Ok(cast.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
}

/// A tensor's values as i64; for integers only.
pub fn integers(tensor: &TensorProto) -> TractResult<Vec<i64>> {
    let loaded = load(tensor, None)?;
    let dt = loaded.datum_type();
    ensure!(
        dt.is_integer() || dt == bool::datum_type(),
        "values of {dt:?}"
    );
    let cast = loaded.cast_to::<i64>()?;
    Ok(cast.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

/// Reads a tensor; `folder` is where files with external data lie.
pub fn load(tensor: &TensorProto, folder: Option<&str>) -> TractResult<Tensor> {
    let size = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float | DataType::Int32 | DataType::Uint32) => 4,
        Ok(DataType::Double | DataType::Int64 | DataType::Uint64) => 8,
        Ok(DataType::Float16 | DataType::Int16 | DataType::Uint16) => 2,
        Ok(DataType::Int8 | DataType::Uint8 | DataType::Bool) => 1,
        _ => bail!(
            "tensor {}: data type {} is not read",
            tensor.name,
            tensor.data_type
        ),
    };
    let count = tensor.dims.iter().try_fold(size, |count: usize, &d| {
        count.checked_mul(usize::try_from(d).ok()?)
    });
    let count =
        count.with_context(|| format!("tensor {}: shape {:?}", tensor.name, tensor.dims))?;
    // tract takes the length of raw data on trust.
    if !tensor.raw_data.is_empty() {
        ensure!(
            tensor.raw_data.len() == count,
            "tensor {}: {} bytes for shape {:?}",
            tensor.name,
            tensor.raw_data.len(),
            tensor.dims
        );
    }
    if let (true, Some(folder)) = (tensor.raw_data.is_empty(), folder) {
        let places = tensor.external_data.iter().filter(|e| e.key == "location");
        for place in places {
            let file = Path::new(folder).join(&place.value);
            // Opening a pipe would wait for somebody to write to it.
            ensure!(
                file.is_file(),
                "tensor {}: {} is no file",
                tensor.name,
                file.display()
            );
        }
    }
    let provider = tract_onnx::onnx().provider;
    let loaded = tract_onnx::tensor::load_tensor(&*provider, tensor, folder)?;
    ensure!(
        loaded.len() * size == count,
        "tensor {}: too few values",
        tensor.name
    );
    Ok(loaded)
}

/// A tensor as ONNX stores it.
pub fn store(name: &str, tensor: &Tensor) -> TractResult<TensorProto> {
    let data_type = match tensor.datum_type() {
        DatumType::F32 => DataType::Float,
        DatumType::F16 => DataType::Float16,
        DatumType::F64 => DataType::Double,
        DatumType::I64 => DataType::Int64,
        DatumType::I32 => DataType::Int32,
        DatumType::I8 => DataType::Int8,
        DatumType::U8 => DataType::Uint8,
        DatumType::Bool => DataType::Bool,
        // tract turns what may be a shape into symbolic dimensions.
        DatumType::TDim => {
            let cast = tensor.cast_to::<i64>()?;
            return store(name, &cast);
        }
        other => bail!("tensor {name}: {other:?} cannot be stored"),
    };
    Ok(TensorProto {
        name: name.to_string(),
        dims: tensor.shape().iter().map(|&d| d as i64).collect(),
        data_type: data_type as i32,
        raw_data: tensor.as_bytes().to_vec(),
        ..TensorProto::default()
    })
}
