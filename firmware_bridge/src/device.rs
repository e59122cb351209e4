//! The accessory board's side of the protocol.

use crate::host::is_before;
use crate::transmitter::Transmitter;
use crate::{ERROR_VERSION, Frame, MAJOR, MINOR, Message, NoRoom, Role};
use heapless::Vec;

/// What a frame from the host means to a device.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum DeviceEvent<'a> {
    /// Nothing that the program need know of.
    Nothing,
    /// A host has started: reads that are open are to be announced again, by a read start that says
    /// how far they are.
    HostStarted,
    /// What is to become of a read.
    Decision {
        /// The channel.
        channel: u16,
        /// The read's number on its channel.
        read: u32,
        /// Its pore is to be freed.
        eject: bool,
    },
    /// A call, an error or statistics.
    Message(Message<'a>),
    /// The host's version is not understood; nothing is sent any more.
    Refused {
        /// Its major version.
        major: u8,
    },
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No hello of a host has come, or it has another version.
    #[error("no host is there")]
    NoHost,
    /// The host has granted no more; try again after its next frame.
    #[error("no credit")]
    NoCredit,
    /// The message breaks a rule, or does not fit the buffer.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// The state of a device. Time is milliseconds of any clock, wrapping.
#[derive(Debug)]
pub struct Device {
    nonce: u32,
    capabilities: u16,
    transmitter: Transmitter,
    up_to: u16,
    /// The host's nonce, once its hello has come.
    host: Option<u32>,
    host_capabilities: u16,
    refused: bool,
    hello: bool,
    refuse: bool,
}

impl Device {
    /// A device that has just started; the nonce must be another one than at the start before, a
    /// counter in flash, say.
    pub const fn new(nonce: u32, capabilities: u16) -> Device {
        Device {
            nonce,
            capabilities,
            transmitter: Transmitter::new(),
            up_to: 0,
            host: None,
            host_capabilities: 0,
            refused: false,
            hello: true,
            refuse: false,
        }
    }

    /// Takes a frame of the host's.
    pub fn receive<'a>(&mut self, frame: &Frame<'a>) -> DeviceEvent<'a> {
        match frame.message {
            Message::Hello {
                major,
                role: Role::Host,
                capabilities,
                nonce,
                ..
            } => {
                if major != MAJOR {
                    self.refused = true;
                    self.refuse = true;
                    self.host = None;
                    return DeviceEvent::Refused { major };
                }
                self.refused = false;
                if self.host == Some(nonce) {
                    // It lacks the hello of this side.
                    self.hello = true;
                    return DeviceEvent::Nothing;
                }
                self.host = Some(nonce);
                self.host_capabilities = capabilities;
                self.hello = true;
                self.up_to = self.transmitter.next;
                DeviceEvent::HostStarted
            }
            _ if self.host.is_none() => DeviceEvent::Nothing,
            Message::Credit { up_to } => {
                // An old one may come late; credit never shrinks.
                if is_before(self.up_to, up_to) {
                    self.up_to = up_to;
                }
                DeviceEvent::Nothing
            }
            Message::Decision {
                channel,
                read,
                eject,
            } => DeviceEvent::Decision {
                channel,
                read,
                eject,
            },
            message @ (Message::Call { .. }
            | Message::Error { .. }
            | Message::Statistics { .. }) => DeviceEvent::Message(message),
            _ => DeviceEvent::Nothing,
        }
    }

    /// True where data may be sent.
    pub fn ready(&self) -> bool {
        // A hello that is due goes first: the host takes no data before it.
        self.host.is_some() && !self.hello && is_before(self.transmitter.next, self.up_to)
    }

    /// True where a host is there whose version is understood.
    pub fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// What the host that is there can do: [`DECISIONS`](crate::DECISIONS) and the others.
    pub fn host_capabilities(&self) -> u16 {
        self.host_capabilities
    }

    /// Appends what is due without being asked for: hello, keep-alive, a refusal. To be called
    /// every now and then.
    ///
    /// # Errors
    /// Where `out` is full; call again with more room.
    pub fn send_due<const N: usize>(
        &mut self,
        now: u32,
        out: &mut Vec<u8, N>,
    ) -> Result<(), NoRoom> {
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
        let silent = self.transmitter.is_silent(now);
        let waits = self.host.is_none() && !self.refused && silent;
        if self.hello && self.host.is_some() || waits {
            let hello = Message::Hello {
                major: MAJOR,
                minor: MINOR,
                role: Role::Device,
                capabilities: self.capabilities,
                nonce: self.nonce,
            };
            self.transmitter.send(hello, now, out)?;
            self.hello = false;
        } else if silent && self.host.is_some() {
            self.transmitter.send(Message::KeepAlive, now, out)?;
        }
        Ok(())
    }

    /// Appends a message: read starts, bases and read ends as far as the credit reaches, others
    /// always.
    ///
    /// # Errors
    /// [`SendError`]; nothing was appended then.
    pub fn send<const N: usize>(
        &mut self,
        message: Message,
        now: u32,
        out: &mut Vec<u8, N>,
    ) -> Result<(), SendError> {
        if self.host.is_none() {
            return Err(SendError::NoHost);
        }
        if message.is_data() && !self.ready() {
            return Err(SendError::NoCredit);
        }
        Ok(self.transmitter.send(message, now, out)?)
    }
}
