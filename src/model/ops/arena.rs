//! The activations of a runner: buffers that layers take for their output and that come back when
//! nobody holds them any more.
//!
//! A buffer is reused as soon as the values computed from it are done, by any layer whose output
//! has the same type, shape and halo, so the memory in use is that of the values that live at the
//! same time.

use tract_core::internal::*;

/// Buffers of shapes that are no longer asked for are dropped beyond this number.
const MOST: usize = 64;

/// An output, and how many of its rows the last run filled.
#[derive(Debug, Clone)]
pub(super) struct Buffer {
    /// The tensor, zero when it is new.
    pub tensor: Arc<Tensor>,
    /// Rows after which the end halo is zero.
    pub cleared: usize,
    /// Rows at the beginning that have always been zero. Layers of a smaller halo may have buffers
    /// of the same shape.
    halo: usize,
}

/// The buffers of one runner.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    buffers: Vec<Buffer>,
}

impl Arena {
    /// A buffer that nobody reads, of this type, shape and halo.
    pub(super) fn take(
        &mut self,
        dt: DatumType,
        shape: &[usize],
        halo: usize,
    ) -> TractResult<Buffer> {
        let fits = |b: &Buffer| {
            Arc::strong_count(&b.tensor) == 1
                && b.tensor.shape() == shape
                && b.tensor.datum_type() == dt
                && b.halo == halo
        };
        match self.buffers.iter().position(fits) {
            Some(index) => Ok(self.buffers.swap_remove(index)),
            None => Ok(Buffer {
                tensor: Arc::new(Tensor::zero_dt(dt, shape)?),
                cleared: 0,
                halo,
            }),
        }
    }

    /// Hands a buffer's tensor out and keeps the buffer for later.
    pub(super) fn put(&mut self, buffer: Buffer) -> Arc<Tensor> {
        let tensor = buffer.tensor.clone();
        if self.buffers.len() >= MOST {
            let mut buffers = self.buffers.iter();
            if let Some(unused) = buffers.position(|b| Arc::strong_count(&b.tensor) == 1) {
                self.buffers.swap_remove(unused);
            }
        }
        self.buffers.push(buffer);
        tensor
    }

    /// Bytes of all buffers.
    #[cfg(all(test, feature = "pack"))]
    pub(super) fn bytes(&self) -> usize {
        let buffers = self.buffers.iter();
        buffers.map(|b| b.tensor.as_bytes().len()).sum()
    }
}
