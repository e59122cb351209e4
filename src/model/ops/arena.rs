//! The activations of a worker: buffers that layers take for their output and that come back when nobody holds them any more.
//!
//! One arena a thread, because a worker is a thread. A buffer is reused as soon as the values computed from it are done, by any layer whose
//! output has the same type and shape, so the memory in use is that of the values that live at the same time.

use std::cell::RefCell;
use tract_nnef::internal::*;

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
}

/// A buffer that nobody reads, of this type and shape.
pub fn take(dt: DatumType, shape: &[usize]) -> TractResult<Buffer> {
    let found = ARENA.with_borrow_mut(|arena| {
        let fits = |b: &Buffer| {
            Arc::strong_count(&b.tensor) == 1
                && b.tensor.shape() == shape
                && b.tensor.datum_type() == dt
        };
        let index = arena.iter().position(fits)?;
        Some(arena.swap_remove(index))
    });
    match found {
        Some(buffer) => Ok(buffer),
        None => Ok(Buffer {
            tensor: Arc::new(Tensor::zero_dt(dt, shape)?),
            cleared: 0,
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
