//! How both sides send: frames in one sequence, and silence noticed.

use crate::{Frame, KEEP_ALIVE, Message, NoRoom};
use heapless::Vec;

/// Numbers frames, and knows when the last one was sent.
#[derive(Debug)]
pub(crate) struct Transmitter {
    /// The sequence number of the next frame.
    pub(crate) next: u16,
    last_sent: Option<u32>,
}

impl Transmitter {
    pub(crate) const fn new() -> Transmitter {
        Transmitter {
            next: 0,
            last_sent: None,
        }
    }

    pub(crate) fn send<const N: usize>(
        &mut self,
        message: Message<'_>,
        now: u32,
        out: &mut Vec<u8, N>,
    ) -> Result<(), NoRoom> {
        let sequence = self.next;
        Frame { sequence, message }.encode(out)?;
        self.next = self.next.wrapping_add(1);
        self.last_sent = Some(now);
        Ok(())
    }

    /// True where a keep-alive is due.
    pub(crate) fn is_silent(&self, now: u32) -> bool {
        self.last_sent
            .is_none_or(|sent| now.wrapping_sub(sent) >= KEEP_ALIVE)
    }
}
