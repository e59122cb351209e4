//! The side of the program that annotates.

use crate::transmitter::Transmitter;
use crate::{CONFIRMS, DECISIONS, ERROR_VERSION, Frame, GONE, MAJOR, MINOR, Message, NoRoom, Role};
use heapless::Vec;

/// True where `a` comes before `b` in sequence numbers, which wrap around.
pub(crate) fn is_before(a: u16, b: u16) -> bool {
    let distance = b.wrapping_sub(a);
    distance != 0 && distance < 0x8000
}

/// What a frame from the device means to a host.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum HostEvent<'a> {
    /// Nothing that the program need know of.
    Nothing,
    /// A device has started, for the first time or again: reads that were open are over.
    DeviceStarted,
    /// A read start, bases or a read end; or statistics, an error, the finish.
    Message(Message<'a>),
    /// A frame that came before, or was overtaken by one that counts as its successor.
    Old,
    /// Data of a device whose hello has not come.
    Early,
    /// The device's version is not understood.
    Refused {
        /// Its major version.
        major: u8,
    },
}

/// The state of a host. Time is milliseconds of any clock, wrapping.
#[derive(Debug)]
pub struct Host {
    nonce: u32,
    window: u16,
    transmitter: Transmitter,
    /// The sequence number that the device's next frame should have.
    expected: u16,
    /// The device's nonce, once its hello has come.
    device: Option<u32>,
    minor: u8,
    granted: u16,
    hello: bool,
    refuse: bool,
    refused: bool,
    last_received: u32,
    missing: u64,
    /// Frames received, and missing before, since the device's hello.
    received: u32,
    missing_before: u64,
}

impl Host {
    /// A host that has just started. `window` is how many frames a device may be ahead, at least 2
    /// and below 32,768: what they take must fit the buffers on the way.
    pub fn new(nonce: u32, window: u16) -> Host {
        Host {
            nonce,
            window: window.clamp(2, 0x7fff),
            transmitter: Transmitter::new(),
            expected: 0,
            device: None,
            minor: 0,
            granted: 0,
            hello: true,
            refuse: false,
            refused: false,
            last_received: 0,
            missing: 0,
            received: 0,
            missing_before: 0,
        }
    }

    /// Frames missing so far.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// True where a device is there whose version is understood.
    pub fn has_device(&self) -> bool {
        self.device.is_some()
    }

    /// True where the device speaks a newer minor version, so that kinds may be unknown.
    pub fn is_older(&self) -> bool {
        self.minor > MINOR
    }

    /// What this side has received since the device's hello, to be sent when it finishes; `broken`
    /// are runs of bytes that were no frame.
    pub fn statistics(&self, broken: u32) -> Message<'static> {
        Message::Statistics {
            frames: self.received,
            broken,
            missing: u32::try_from(self.missing - self.missing_before).unwrap_or(u32::MAX),
        }
    }

    /// The device was there at `now`, which may be of another clock than before.
    pub fn seen(&mut self, now: u32) {
        self.last_received = now;
    }

    /// True where a device was there and has been silent for too long. It counts as gone from then
    /// on.
    pub fn gone(&mut self, now: u32) -> bool {
        let gone = self.device.is_some() && now.wrapping_sub(self.last_received) >= GONE;
        if gone {
            self.device = None;
            // As if started anew, so that the device announces its open reads when it comes back.
            self.nonce = self.nonce.wrapping_add(1);
            self.hello = true;
        }
        gone
    }

    /// Takes a frame of an unknown kind: it counts in the sequence.
    pub fn receive_unknown(&mut self, sequence: u16, now: u32) {
        if self.device.is_some() {
            self.count(sequence, now);
        }
    }

    /// False where it is an old one.
    fn count(&mut self, sequence: u16, now: u32) -> bool {
        self.last_received = now;
        let ahead = sequence.wrapping_sub(self.expected);
        if ahead >= 0x8000 {
            return false;
        }
        self.missing += u64::from(ahead);
        self.expected = sequence.wrapping_add(1);
        self.received = self.received.saturating_add(1);
        true
    }

    /// Takes a frame of the device's.
    pub fn receive<'a>(&mut self, frame: &Frame<'a>, now: u32) -> HostEvent<'a> {
        if let Message::Hello {
            major,
            minor,
            role: Role::Device,
            nonce,
            ..
        } = frame.message
        {
            if major != MAJOR {
                self.refuse = !self.refused;
                self.refused = true;
                self.device = None;
                return HostEvent::Refused { major };
            }
            self.refused = false;
            if self.device == Some(nonce) {
                let new = self.count(frame.sequence, now);
                return if new {
                    HostEvent::Nothing
                } else {
                    HostEvent::Old
                };
            }
            self.device = Some(nonce);
            self.minor = minor;
            self.expected = frame.sequence.wrapping_add(1);
            self.granted = self.expected;
            (self.received, self.missing_before) = (1, self.missing);
            self.last_received = now;
            // Its hello may have come before this side's reached it.
            self.hello = true;
            return HostEvent::DeviceStarted;
        }
        if self.device.is_none() {
            return HostEvent::Early;
        }
        if !self.count(frame.sequence, now) {
            return HostEvent::Old;
        }
        match frame.message {
            Message::KeepAlive | Message::Hello { .. } | Message::Credit { .. } => {
                HostEvent::Nothing
            }
            message => HostEvent::Message(message),
        }
    }

    /// Appends what is due without being asked for: hello, credit, keep-alive, a refusal. To be
    /// called every now and then, and whenever frames have been dealt with.
    ///
    /// # Errors
    /// Where `out` is full; call again with more room.
    pub fn send_due<const N: usize>(
        &mut self,
        now: u32,
        out: &mut Vec<u8, N>,
    ) -> Result<(), NoRoom> {
        let silent = self.transmitter.is_silent(now);
        if self.refuse {
            self.transmitter.send(
                Message::Error {
                    code: ERROR_VERSION,
                    text: b"another major version of the protocol",
                },
                now,
                out,
            )?;
            self.refuse = false;
        }
        if self.hello || (silent && self.device.is_none() && !self.refused) {
            let hello = Message::Hello {
                major: MAJOR,
                minor: MINOR,
                role: Role::Host,
                capabilities: DECISIONS | CONFIRMS,
                nonce: self.nonce,
            };
            self.transmitter.send(hello, now, out)?;
            self.hello = false;
        }
        if self.device.is_some() {
            let up_to = self.expected.wrapping_add(self.window);
            // Half a window at a time, and as often as silence asks for: a credit that was lost
            // comes again.
            let grown = up_to.wrapping_sub(self.granted);
            if grown >= self.window / 2 || silent {
                self.transmitter.send(Message::Credit { up_to }, now, out)?;
                self.granted = up_to;
            }
        }
        Ok(())
    }

    /// Appends a message: a decision, a call, statistics.
    ///
    /// # Errors
    /// Where it does not fit.
    pub fn send<const N: usize>(
        &mut self,
        message: Message,
        now: u32,
        out: &mut Vec<u8, N>,
    ) -> Result<(), NoRoom> {
        self.transmitter.send(message, now, out)
    }
}
