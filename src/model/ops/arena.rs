//! The activations of a worker: buffers that layers take for their output and that come back when
//! nobody holds them any more.
//!
//! One arena a thread, because a worker is a thread. A buffer is reused as soon as the values
//! computed from it are done, by any layer whose output has the same type, shape and halo, so the
//! memory in use is that of the values that live at the same time.

use super::Layer;
use std::cell::RefCell;
use tract_core::internal::*;

/// Buffers of shapes that are no longer asked for are dropped beyond this number.
const MOST: usize = 64;

thread_local! {
    static ARENA: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// An output, and how many of its rows the last run filled.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// The tensor, zero when it is new.
    pub tensor: Arc<Tensor>,
    /// Rows after which the end halo is zero.
    pub cleared: usize,
    /// Rows at the beginning that have always been zero. Another model's layers may have buffers of
    /// the same shape with fewer of them.
    halo: usize,
}

/// A buffer that nobody reads, of this type, shape and halo.
pub fn take(dt: DatumType, shape: &[usize], halo: usize) -> TractResult<Buffer> {
    let found = ARENA.with_borrow_mut(|arena| {
        let fits = |b: &Buffer| {
            Arc::strong_count(&b.tensor) == 1
                && b.tensor.shape() == shape
                && b.tensor.datum_type() == dt
                && b.halo == halo
        };
        let index = arena.iter().position(fits)?;
        Some(arena.swap_remove(index))
    });
    match found {
        Some(buffer) => Ok(buffer),
        None => Ok(Buffer {
            tensor: Arc::new(Tensor::zero_dt(dt, shape)?),
            cleared: 0,
            halo,
        }),
    }
}

/// Hands a buffer's tensor out and keeps the buffer for later.
pub fn put(buffer: Buffer) -> Arc<Tensor> {
    let tensor = buffer.tensor.clone();
    ARENA.with_borrow_mut(|arena| {
        if arena.len() >= MOST
            && let Some(unused) = arena.iter().position(|b| Arc::strong_count(&b.tensor) == 1)
        {
            arena.swap_remove(unused);
        }
        arena.push(buffer);
    });
    tensor
}

/// Bytes that this thread's arena holds.
#[cfg(test)]
pub fn held() -> usize {
    ARENA.with_borrow(|arena| arena.iter().map(|b| b.tensor.as_bytes().len()).sum())
}

/// Bytes that the arena of a worker will hold which runs some graphs alone, one after another, with
/// all their outputs kept to the end: each with its nodes in order of evaluation. `values` are what
/// the symbols of their shapes stand for.
pub fn predicted<'a>(
    graphs: impl IntoIterator<Item = (&'a TypedModel, &'a [usize])>,
    values: &SymbolValues,
) -> TractResult<usize> {
    let mut free = HashMap::new();
    let mut held = 0;
    for (model, order) in graphs {
        held += added(model, order, values, &mut free)?;
    }
    Ok(held)
}

/// Type, shape and halo of a buffer.
type Kind = (DatumType, TVec<usize>, usize);

/// Bytes of the buffers that a graph needs beyond those that are `free`.
fn added(
    model: &TypedModel,
    order: &[usize],
    values: &SymbolValues,
    free: &mut HashMap<Kind, usize>,
) -> TractResult<usize> {
    let mut last_read: HashMap<OutletId, usize> = HashMap::new();
    for (step, id) in order.iter().enumerate() {
        last_read.extend(model.node(*id).inputs.iter().map(|input| (*input, step)));
    }
    for output in model.output_outlets()? {
        last_read.insert(*output, order.len());
    }
    let mut live: Vec<(OutletId, Kind)> = vec![];
    let mut held = 0;
    for (step, id) in order.iter().enumerate() {
        let node = model.node(*id);
        if let Some(layer) = node.op_as::<Layer>() {
            let fact = &node.outputs[0].fact;
            let shape = fact.shape.eval_to_usize(values)?.into_owned();
            let bytes = shape.iter().product::<usize>() * fact.datum_type.size_of();
            let kind = (fact.datum_type, shape, layer.halo_rows());
            match free.get_mut(&kind).filter(|count| **count > 0) {
                Some(count) => *count -= 1,
                None => held += bytes,
            }
            live.push((OutletId::new(*id, 0), kind));
        }
        // An operator's inputs are held until its output is there.
        live.retain(|(outlet, kind)| {
            let needed = last_read.get(outlet).is_some_and(|last| *last > step);
            if !needed {
                *free.entry(kind.clone()).or_insert(0) += 1;
            }
            needed
        });
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotate::Task;
    use crate::annotate::builtin;
    use crate::compile::pack::pack;
    use crate::model::manifest::{Manifest, Precision, Tier};
    use crate::model::{Model, ops};
    use std::path::Path;

    /// A worker is a thread, so each gets one of its own.
    fn measured(model: &Model) -> (usize, usize) {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut runner = model.spawn().unwrap();
                let tile = runner.tile();
                for length in [tile, tile, tile / 4 * 2] {
                    match runner.reads_ids() {
                        true => runner.run_ids(&vec![1; length]).unwrap().len(),
                        false => runner.run(&vec![1; length]).unwrap().len(),
                    };
                }
                (held(), ops::scratch_held())
            });
            worker.join().unwrap()
        })
    }

    #[test]
    fn what_is_reported_is_what_is_held() {
        for task in [Task::Splice, Task::Promoter] {
            // Not auto: its second part holds nothing before a position needs it.
            let model = builtin::model(task, Tier::Accurate).unwrap();
            let reported = (model.activation_bytes().unwrap(), model.scratch_bytes());
            let held = measured(&model);
            assert_eq!(held.1, reported.1, "{task}");
            // What the second part of a network reads of the first is given back when it is read
            // for the last time.
            match model.computes_all() && model.manifest().name.ends_with("accurate") {
                true => assert!(
                    held.0 <= reported.0 && held.0 * 5 > reported.0 * 4,
                    "{task}"
                ),
                false => assert_eq!(held.0, reported.0, "{task}"),
            }
        }
        for (name, multiple, columns) in [("bert_script", 1, 2), ("branches_script", 4, 3)] {
            let ids = multiple == 1;
            let file = builtin::file(Task::Splice).unwrap();
            let mut manifest: Manifest = file.manifest().of_tier(Tier::Fast);
            let mut output = manifest.outputs.swap_remove(0);
            output.kind = None;
            output.short_context.clear();
            manifest.outputs = vec![output; columns];
            (manifest.task, manifest.whole) = (Task::Raw.to_string(), None);
            manifest.tokeniser = if ids { "ids" } else { "one-hot" }.to_string();
            (manifest.tile, manifest.multiple) = (if ids { 32 } else { 256 }, multiple);
            manifest.precision = Precision::Int8;
            let path =
                Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/onnx/{name}.onnx"));
            let packed = pack(&path, &manifest, &[(0..32).map(|t| t % 4).collect()]).unwrap();
            assert_eq!(packed.plain, [""; 0]);
            let model = &packed.model;
            let reported = (model.activation_bytes().unwrap(), model.scratch_bytes());
            assert_eq!(measured(model), reported, "{name}");
        }
    }
}
