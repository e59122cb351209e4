//! Built-in models written again with another manifest: the same weights under other terms.

use strandline::annotate::Task;
use strandline::annotate::builtin;
use strandline::model::file::{ModelFile, TensorData, serialize};
use strandline::model::manifest::Manifest;

/// The bytes of a task's built-in model file after `change` to its manifest.
pub fn builtin_bytes(task: Task, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let file = builtin::file(task).unwrap();
    let mut manifest = file.manifest().clone();
    change(&mut manifest);
    serialize(&manifest, tensors(&file)).unwrap()
}

/// A file's tensors, without those that only fill it up.
pub fn tensors(file: &ModelFile) -> Vec<TensorData> {
    file.tensors()
        .into_iter()
        .filter(|(name, ..)| !name.starts_with("pad."))
        .map(|(name, dtype, shape, _)| TensorData {
            data: file.tensor(&name, dtype).unwrap().bytes().to_vec(),
            name,
            dtype,
            shape,
        })
        .collect()
}
