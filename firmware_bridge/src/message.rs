//! What a frame says; the layouts are in the crate's documentation.

use crate::{Bases, FrameError, MAX_BODY};
use heapless::{CapacityError, Vec};

/// The highest channel: 12 bits.
pub const MAX_CHANNEL: u16 = 0xfff;
/// Most bytes of a read's name.
pub const MAX_NAME: usize = 64;
/// Most bytes of an error's text.
pub const MAX_TEXT: usize = 64;

/// Which side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The accessory board.
    Device,
    /// The program that annotates.
    Host,
}

/// Why a read is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The molecule has passed.
    Complete,
    /// It was ejected, by a decision.
    Ejected,
    /// Something broke it off.
    Aborted,
}

/// A message.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Message<'a> {
    /// The first of each side.
    Hello {
        /// Another one is refused.
        major: u8,
        /// A newer one is understood.
        minor: u8,
        /// Who speaks.
        role: Role,
        /// [`QUALITIES`](crate::QUALITIES), [`DECISIONS`](crate::DECISIONS),
        /// [`CONFIRMS`](crate::CONFIRMS). Unknown bits mean nothing.
        capabilities: u16,
        /// Drawn at each start.
        nonce: u32,
    },
    /// A read begins on a channel, or goes on before a host that has just started; another one
    /// there is over.
    ReadStart {
        /// The channel, at most [`MAX_CHANNEL`].
        channel: u16,
        /// The read's number on its channel.
        read: u32,
        /// The well of the channel.
        mux: u8,
        /// When it began, in milliseconds of the run.
        start: u64,
        /// Position of the first base that follows; 0 where the read begins.
        from: u32,
        /// Its name, 1 to [`MAX_NAME`] bytes.
        name: &'a [u8],
    },
    /// The next bases of the channel's read.
    Bases {
        /// The channel.
        channel: u16,
        /// The lower four bits of the read's number.
        read: u8,
        /// Position of the first of them in the read, modulo 65,536.
        position: u16,
        /// The bases.
        bases: Bases<'a>,
    },
    /// The channel's read is over.
    ReadEnd {
        /// The channel.
        channel: u16,
        /// The read's number on its channel.
        read: u32,
        /// Bases of the whole read, so that a lost frame shows.
        length: u32,
        /// Why.
        reason: EndReason,
    },
    /// What is to become of a read.
    Decision {
        /// The channel.
        channel: u16,
        /// The read's number on its channel.
        read: u32,
        /// Its pore is to be freed.
        eject: bool,
    },
    /// A call in a read.
    Call {
        /// The channel.
        channel: u16,
        /// The read's number on its channel.
        read: u32,
        /// Forward position of its first base.
        position: u32,
        /// 0 donor, 1 acceptor, 2 promoter, 3 expression, 4 promoter strength.
        kind: u8,
        /// On the reverse strand.
        reverse: bool,
        /// Its score.
        score: f32,
    },
    /// What a side has received.
    Statistics {
        /// Frames.
        frames: u32,
        /// Broken ones.
        broken: u32,
        /// Those missing by their sequence numbers.
        missing: u32,
    },
    /// Something is wrong.
    Error {
        /// [`ERROR_VERSION`](crate::ERROR_VERSION), [`ERROR_NUMBERS`](crate::ERROR_NUMBERS), or
        /// one of the sender's from 256 on.
        code: u16,
        /// In words, at most [`MAX_TEXT`] bytes.
        text: &'a [u8],
    },
    /// Read starts, bases and read ends may be sent.
    Credit {
        /// Up to this sequence number, exclusive.
        up_to: u16,
    },
    /// Nothing but that the sender is there.
    KeepAlive,
    /// No more reads will come.
    Finish,
}

/// Fields of a payload, one after another.
struct Fields<'a> {
    kind: u8,
    all: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn breaks(&self) -> FrameError {
        FrameError::Payload {
            kind: self.kind,
            offset: self.at,
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let rest = &self.all[self.at..];
        let (field, _) = rest.split_first_chunk::<N>().ok_or(self.breaks())?;
        self.at += N;
        Ok(*field)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        Ok(self.take::<1>()?[0])
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u8) -> Result<u8, FrameError> {
        match self.all.get(self.at) {
            Some(&value) if value < limit => {
                self.at += 1;
                Ok(value)
            }
            _ => Err(self.breaks()),
        }
    }

    fn u16(&mut self) -> Result<u16, FrameError> {
        Ok(u16::from_le_bytes(self.take()?))
    }

    fn u32(&mut self) -> Result<u32, FrameError> {
        Ok(u32::from_le_bytes(self.take()?))
    }

    fn channel(&mut self) -> Result<u16, FrameError> {
        let broken = self.breaks();
        let channel = self.u16()?;
        if channel > MAX_CHANNEL {
            return Err(broken);
        }
        Ok(channel)
    }

    /// What is left.
    fn rest(&mut self, least: usize, most: usize) -> Result<&'a [u8], FrameError> {
        let rest = &self.all[self.at..];
        if rest.len() < least || rest.len() > most {
            return Err(self.breaks());
        }
        self.at = self.all.len();
        Ok(rest)
    }
}

type Body = Vec<u8, MAX_BODY>;

impl<'a> Message<'a> {
    /// True for what needs credit.
    pub fn is_data(&self) -> bool {
        matches!(
            self,
            Message::ReadStart { .. } | Message::Bases { .. } | Message::ReadEnd { .. }
        )
    }

    pub(crate) fn kind_and_flags(&self) -> u8 {
        match self {
            Message::Hello { .. } => 1,
            Message::ReadStart { .. } => 2,
            Message::Bases { bases, .. } => 3 | bases.flags(),
            Message::ReadEnd { .. } => 4,
            Message::Decision { .. } => 5,
            Message::Call { .. } => 6,
            Message::Statistics { .. } => 7,
            Message::Error { .. } => 8,
            Message::Credit { .. } => 9,
            Message::KeepAlive => 10,
            Message::Finish => 11,
        }
    }

    pub(crate) fn write(&self, body: &mut Body) -> Result<(), CapacityError> {
        let channel_fits = |channel: u16| {
            if channel <= MAX_CHANNEL {
                Ok(channel.to_le_bytes())
            } else {
                Err(CapacityError::default())
            }
        };
        match *self {
            Message::Hello {
                major,
                minor,
                role,
                capabilities,
                nonce,
            } => {
                let role = u8::from(role == Role::Host);
                body.extend_from_slice(&[major, minor, role])?;
                body.extend_from_slice(&capabilities.to_le_bytes())?;
                body.extend_from_slice(&nonce.to_le_bytes())
            }
            Message::ReadStart {
                channel,
                read,
                mux,
                start,
                from,
                name,
            } => {
                if name.is_empty() || name.len() > MAX_NAME {
                    return Err(CapacityError::default());
                }
                body.extend_from_slice(&channel_fits(channel)?)?;
                body.extend_from_slice(&read.to_le_bytes())?;
                body.push(mux).map_err(|_| CapacityError::default())?;
                body.extend_from_slice(&start.to_le_bytes())?;
                body.extend_from_slice(&from.to_le_bytes())?;
                body.extend_from_slice(name)
            }
            Message::Bases {
                channel,
                read,
                position,
                bases,
            } => {
                channel_fits(channel)?;
                let tag = channel | u16::from(read & 0xf) << 12;
                body.extend_from_slice(&tag.to_le_bytes())?;
                body.extend_from_slice(&position.to_le_bytes())?;
                bases.write(body)
            }
            Message::ReadEnd {
                channel,
                read,
                length,
                reason,
            } => {
                body.extend_from_slice(&channel_fits(channel)?)?;
                body.extend_from_slice(&read.to_le_bytes())?;
                body.extend_from_slice(&length.to_le_bytes())?;
                body.extend_from_slice(&[reason as u8])
            }
            Message::Decision {
                channel,
                read,
                eject,
            } => {
                body.extend_from_slice(&channel_fits(channel)?)?;
                body.extend_from_slice(&read.to_le_bytes())?;
                body.extend_from_slice(&[u8::from(eject)])
            }
            Message::Call {
                channel,
                read,
                position,
                kind,
                reverse,
                score,
            } => {
                body.extend_from_slice(&channel_fits(channel)?)?;
                body.extend_from_slice(&read.to_le_bytes())?;
                body.extend_from_slice(&position.to_le_bytes())?;
                body.extend_from_slice(&[kind, u8::from(reverse)])?;
                body.extend_from_slice(&score.to_le_bytes())
            }
            Message::Statistics {
                frames,
                broken,
                missing,
            } => {
                body.extend_from_slice(&frames.to_le_bytes())?;
                body.extend_from_slice(&broken.to_le_bytes())?;
                body.extend_from_slice(&missing.to_le_bytes())
            }
            Message::Error { code, text } => {
                body.extend_from_slice(&code.to_le_bytes())?;
                body.extend_from_slice(&text[..text.len().min(MAX_TEXT)])
            }
            Message::Credit { up_to } => body.extend_from_slice(&up_to.to_le_bytes()),
            Message::KeepAlive | Message::Finish => Ok(()),
        }
    }

    pub(crate) fn read(first: u8, payload: &'a [u8], sequence: u16) -> Result<Self, FrameError> {
        let (kind, flags) = (first & 0xf, first & 0xf0);
        let mut f = Fields {
            kind,
            all: payload,
            at: 0,
        };
        if flags != 0 && kind != 3 {
            return Err(f.breaks());
        }
        let message = match kind {
            1 => {
                let (major, minor) = (f.u8()?, f.u8()?);
                let role = match f.below(2)? {
                    0 => Role::Device,
                    _ => Role::Host,
                };
                let message = Message::Hello {
                    major,
                    minor,
                    role,
                    capabilities: f.u16()?,
                    nonce: f.u32()?,
                };
                if (major, minor) > (crate::MAJOR, crate::MINOR) {
                    f.rest(0, usize::MAX)?;
                }
                message
            }
            2 => Message::ReadStart {
                channel: f.channel()?,
                read: f.u32()?,
                mux: f.u8()?,
                start: u64::from_le_bytes(f.take()?),
                from: f.u32()?,
                name: f.rest(1, MAX_NAME)?,
            },
            3 => {
                let (tag, position) = (f.u16()?, f.u16()?);
                let bases = Bases::read(flags, &payload[f.at..]);
                let bases = bases.map_err(|at| FrameError::Payload {
                    kind,
                    offset: f.at + at,
                })?;
                f.at = payload.len();
                Message::Bases {
                    channel: tag & MAX_CHANNEL,
                    read: (tag >> 12) as u8,
                    position,
                    bases,
                }
            }
            4 => Message::ReadEnd {
                channel: f.channel()?,
                read: f.u32()?,
                length: f.u32()?,
                reason: match f.below(3)? {
                    0 => EndReason::Complete,
                    1 => EndReason::Ejected,
                    _ => EndReason::Aborted,
                },
            },
            5 => Message::Decision {
                channel: f.channel()?,
                read: f.u32()?,
                eject: f.below(2)? == 1,
            },
            6 => Message::Call {
                channel: f.channel()?,
                read: f.u32()?,
                position: f.u32()?,
                kind: f.below(5)?,
                reverse: f.below(2)? == 1,
                score: f32::from_le_bytes(f.take()?),
            },
            7 => Message::Statistics {
                frames: f.u32()?,
                broken: f.u32()?,
                missing: f.u32()?,
            },
            8 => Message::Error {
                code: f.u16()?,
                text: f.rest(0, MAX_TEXT)?,
            },
            9 => Message::Credit { up_to: f.u16()? },
            10 => Message::KeepAlive,
            11 => Message::Finish,
            found => return Err(FrameError::Kind { found, sequence }),
        };
        if f.at == payload.len() {
            Ok(message)
        } else {
            Err(f.breaks())
        }
    }
}
