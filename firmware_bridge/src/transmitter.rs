//! What both sides do when they speak.

use crate::{Frame, KEEP_ALIVE, Message, NoRoom};
use heapless::Vec;

/// Numbers frames, and knows when the last one was made.
#[derive(Debug)]
pub(crate) struct Voice {
    /// The sequence number of the next frame.
    pub(crate) next: u16,
    said: Option<u32>,
}

impl Voice {
    pub(crate) const fn new() -> Voice {
        Voice {
            next: 0,
            said: None,
        }
    }

    pub(crate) fn say<const N: usize>(
        &mut self,
        message: Message<'_>,
        now: u32,
        out: &mut Vec<u8, N>,
    ) -> Result<(), NoRoom> {
        let sequence = self.next;
        Frame { sequence, message }.encode(out)?;
        self.next = self.next.wrapping_add(1);
        self.said = Some(now);
        Ok(())
    }

    /// True where a keep-alive is due.
    pub(crate) fn is_silent(&self, now: u32) -> bool {
        self.said
            .is_none_or(|said| now.wrapping_sub(said) >= KEEP_ALIVE)
    }
}
