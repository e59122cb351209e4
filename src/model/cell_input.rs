//! The sources of a network that reads cells, beside the ids of its genes.

use super::layers::{FLAGS, VALUES};
use tract_core::internal::*;

/// What a network reads of a cell beside its genes.
#[derive(Debug, Default)]
pub(super) struct CellInput {
    /// f32 `[T]`.
    values: Option<Arc<Tensor>>,
    /// u32 `[T]`.
    flags: Option<Arc<Tensor>>,
}

impl CellInput {
    /// Room for what a graph has sources for.
    pub(super) fn new(graph: &TypedModel, room: usize) -> TractResult<CellInput> {
        let mut own = CellInput::default();
        for source in graph.input_outlets()? {
            match graph.node(source.node).name.as_str() {
                VALUES => own.values = Some(Arc::new(Tensor::zero::<f32>(&[room])?)),
                FLAGS => own.flags = Some(Arc::new(Tensor::zero::<u32>(&[room])?)),
                _ => (),
            }
        }
        Ok(own)
    }

    /// What a run is given of it.
    pub(super) fn sources(&self) -> impl Iterator<Item = TValue> {
        let all = self.values.iter().chain(&self.flags);
        all.map(|tensor| TValue::from_const(tensor.clone()))
    }

    /// Fills both; no flags stand for zeros.
    pub(super) fn fill(&mut self, values: &[f32], flags: &[u32]) -> TractResult<()> {
        if let Some(tensor) = &mut self.values {
            write(tensor, values.len(), |room| room.copy_from_slice(values))?;
        }
        match &mut self.flags {
            Some(tensor) => write(tensor, values.len(), |room: &mut [u32]| match flags {
                [] => room.fill(0),
                flags => room.copy_from_slice(flags),
            })?,
            None if flags.iter().any(|flag| *flag != 0) => bail!("a model that reads no flags"),
            None => (),
        }
        Ok(())
    }
}

/// Writes the first `count` elements of an input.
fn write<T: Datum>(
    tensor: &mut Arc<Tensor>,
    count: usize,
    fill: impl FnOnce(&mut [T]),
) -> TractResult<()> {
    let tensor = Arc::get_mut(tensor).context("an input is still in use")?;
    let mut view = tensor.try_as_plain_ram_mut()?;
    let room = view.as_slice_mut::<T>()?.get_mut(..count);
    fill(room.context("more tokens than fit")?);
    Ok(())
}
