//! Working memory of the kernels, which their caller keeps.

use super::attention::AttentionScratch;
#[cfg(target_arch = "x86_64")]
use super::isa::AmxScratch;

/// Working memory that kernels need beside their operands. The caller keeps one for each thread and
/// passes it to every run; a new one holds nothing, and it grows to the largest run that it has
/// served, after which nothing is allocated.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Activations with their sign bit flipped.
    flipped: Vec<u8>,
    #[cfg(target_arch = "x86_64")]
    pub(super) amx: AmxScratch,
    pub(super) attention: AttentionScratch,
}

impl Scratch {
    /// Grows for attention over sequences of up to `tokens` with heads of up to `width`, so that no
    /// shorter one allocates.
    ///
    /// # Panics
    /// Where a size exceeds [`MAX_TOKENS`](super::attention::MAX_TOKENS) or
    /// [`MAX_WIDTH`](super::attention::MAX_WIDTH).
    pub fn reserve_attention(&mut self, tokens: usize, width: usize) {
        self.attention.reserve(tokens, width);
    }

    /// Bytes that a new one holds for attention after [`Scratch::reserve_attention`].
    pub fn attention_bytes_for(tokens: usize, width: usize) -> usize {
        AttentionScratch::bytes_for(tokens, width)
    }

    /// Bytes held for attention.
    pub fn attention_bytes(&self) -> usize {
        self.attention.bytes()
    }

    /// The bytes with their sign bit flipped: as unsigned ones those of i8 are larger by 128, and
    /// as those of i8 unsigned ones are smaller by 128.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[inline(always)]
    pub(super) fn flipped(&mut self, bytes: &[u8]) -> &[u8] {
        if self.flipped.len() < bytes.len() {
            self.flipped.resize(bytes.len(), 0);
        }
        let flipped = &mut self.flipped[..bytes.len()];
        for (to, x) in flipped.iter_mut().zip(bytes) {
            *to = x ^ 0x80;
        }
        flipped
    }
}
