//! One connection or opened port: its bytes, and how far the talk over it is.

use super::transport::Stream;
use firmware_bridge::{Decoder, FrameError, Host, HostEvent, MAX_FRAME, Message};
use std::io;

/// A stream and the state of this side's talk over it.
pub(super) struct Line {
    stream: Box<dyn Stream>,
    /// Who is at the other end, for people.
    pub(super) peer: String,
    pub(super) host: Host,
    decoder: Decoder,
    /// Bytes received and not yet looked at: `from..to` of the buffer.
    buffer: Box<[u8; 4096]>,
    from: usize,
    to: usize,
    out: heapless::Vec<u8, { 4 * MAX_FRAME }>,
    /// Why nothing more can be sent. What has come in is read all the same.
    failed: Option<io::Error>,
}

/// What a line has received.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) bytes: u64,
    pub(super) frames: u64,
    pub(super) broken: u64,
    pub(super) unknown: u64,
    pub(super) missing: u64,
}

impl Line {
    pub(super) fn new(stream: Box<dyn Stream>, peer: String, host: Host) -> Line {
        Line {
            stream,
            peer,
            host,
            decoder: Decoder::new(),
            buffer: Box::new([0; 4096]),
            from: 0,
            to: 0,
            out: heapless::Vec::new(),
            failed: None,
        }
    }

    /// True where received bytes are to be looked at.
    pub(super) fn has_bytes(&self) -> bool {
        self.from < self.to
    }

    /// Receives what there is; 0 where the other side is gone.
    pub(super) fn read(&mut self) -> io::Result<usize> {
        let n = self.stream.read(&mut self.buffer[..])?;
        (self.from, self.to) = (0, n);
        Ok(n)
    }

    /// Looks at the next received bytes. Gives what they mean, and the frames missing so far.
    pub(super) fn next(&mut self, now: u32) -> (HostEvent<'_>, u64) {
        let mut bytes = &self.buffer[self.from..self.to];
        let result = self.decoder.next(&mut bytes);
        self.from = self.to - bytes.len();
        let event = match result {
            None => HostEvent::Nothing,
            Some(Ok(frame)) => self.host.receive(&frame, now),
            Some(Err(FrameError::Kind { sequence, .. })) => {
                self.host.receive_unknown(sequence, now);
                HostEvent::Nothing
            }
            Some(Err(error)) => {
                log::debug!("{}: {error}", self.peer);
                HostEvent::Nothing
            }
        };
        (event, self.host.missing())
    }

    /// Sends what is due: hello, credit, a refusal.
    pub(super) fn speak(&mut self, now: u32) {
        // All that can be due fits the buffer, and what does not would come again.
        let _ = self.host.send_due(now, &mut self.out);
        self.flush();
    }

    /// Sends a message once [`Line::flush`] is called, or the buffer is full; false where it breaks
    /// a rule.
    pub(super) fn say(&mut self, message: Message<'_>, now: u32) -> bool {
        if self.room() < MAX_FRAME {
            self.flush();
        }
        self.host.send(message, now, &mut self.out).is_ok()
    }

    /// Bytes that may be said before they are sent.
    pub(super) fn room(&self) -> usize {
        self.out.capacity() - self.out.len()
    }

    pub(super) fn flush(&mut self) {
        let out = std::mem::take(&mut self.out);
        if out.is_empty() || self.failed.is_some() {
            return;
        }
        let written = self.stream.write_all(&out);
        self.failed = written.and_then(|()| self.stream.flush()).err();
    }

    /// Why nothing can be sent, once.
    pub(super) fn failed(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    /// True where a device is there and can be spoken to.
    pub(super) fn is_open(&self) -> bool {
        self.failed.is_none() && self.host.has_device()
    }

    /// What the device is to know when it has finished.
    pub(super) fn statistics(&self) -> Message<'static> {
        self.host.statistics(self.decoder.counts().broken)
    }

    pub(super) fn counts(&self) -> Counts {
        let counts = self.decoder.counts();
        Counts {
            bytes: counts.bytes,
            frames: counts.frames.into(),
            broken: counts.broken.into(),
            unknown: counts.unknown.into(),
            missing: self.host.missing(),
        }
    }
}
