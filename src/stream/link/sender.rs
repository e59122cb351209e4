//! The other end of a link: reads to give, decisions to take.

use super::transport::{Stream, call, is_timeout};
use super::url::{LinkUrl, UrlError};
use crate::sink::clean;
use firmware_bridge::{
    Bases, CONFIRMS, DECISIONS, Decoder, Device, DeviceEvent, EndReason, MAX_BASES_BYTES,
    MAX_FRAME, MAX_NAME, Message, SendError,
};
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Why a sender gave up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SenderError {
    /// The URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The port or socket.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The host speaks another major version.
    #[error("the host speaks version {0} of the protocol")]
    Version(u8),
    /// A message that breaks a rule of the protocol.
    #[error(transparent)]
    Send(SendError),
    /// It was stopped while it waited for credit.
    #[error("stopped")]
    Stopped,
}

/// A decision that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedDecision {
    /// The channel.
    pub channel: u16,
    /// The read's number on its channel.
    pub read: u32,
    /// Its pore is to be freed.
    pub eject: bool,
}

/// An open read.
struct Open {
    read: u32,
    name: heapless::Vec<u8, MAX_NAME>,
    start: u64,
    /// Where the next base is.
    position: u64,
    /// A host has begun anew, and does not know it.
    announce: bool,
}

/// What a host says that it has received.
#[derive(Debug, Clone, Copy)]
struct Statistics {
    missing: u32,
    broken: u32,
}

/// Gives reads to a host. Sending waits for credit. To a host that begins anew the open reads are
/// announced again, each before its next bases.
pub struct Sender {
    stream: Box<dyn Stream>,
    device: Device,
    decoder: Decoder,
    out: heapless::Vec<u8, { 2 * MAX_FRAME }>,
    start: Instant,
    /// The reads on their channels, as a new host is to learn of them.
    open: HashMap<u16, Open>,
    /// Hosts that have said hello.
    hosts: u32,
    /// Reads that were announced to another host than the one before.
    again: u64,
    /// Data was sent, and its end.
    sent: bool,
    finished: bool,
    /// What the host says that it lacks, once it has answered the finish.
    statistics: Option<Statistics>,
    /// Decisions that have come back and were not dealt with yet.
    pub decisions: Vec<ReceivedDecision>,
    /// Calls that have come back.
    pub calls: u64,
}

impl Sender {
    /// Calls the host that listens at `url`, for as long as `patience` where nobody answers yet.
    ///
    /// # Errors
    /// Where the URL is no link, or nobody answers.
    pub fn connect(url: &str, patience: Duration) -> Result<Sender, SenderError> {
        let url: LinkUrl = url.parse()?;
        let begun = Instant::now();
        loop {
            match call(&url.place) {
                Ok(stream) => return Ok(Sender::new(stream, std::process::id())),
                Err(error) if begun.elapsed() >= patience => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// Speaks over `stream`. `nonce` tells this sender from one before it.
    pub fn new(stream: Box<dyn Stream>, nonce: u32) -> Sender {
        Sender {
            stream,
            device: Device::new(nonce, DECISIONS),
            decoder: Decoder::new(),
            out: heapless::Vec::new(),
            start: Instant::now(),
            open: HashMap::new(),
            hosts: 0,
            again: 0,
            sent: false,
            finished: false,
            statistics: None,
            decisions: vec![],
            calls: 0,
        }
    }

    fn now(&self) -> u32 {
        self.start.elapsed().as_millis() as u32
    }

    /// Takes in what has come back, waiting up to 20 ms for something.
    ///
    /// # Errors
    /// Those of the stream, and another version of the host's.
    pub fn poll(&mut self) -> Result<(), SenderError> {
        let now = self.now();
        // Both fit the buffer, which is empty.
        let _ = self.device.send_due(now, &mut self.out);
        // The other side may be gone, and its last words still to be read.
        let flushed = self.flush();
        let mut bytes = [0; 1024];
        let n = match self.stream.read(&mut bytes) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(n) => n,
            Err(e) if is_timeout(&e) => return Ok(flushed?),
            Err(e) => return Err(e.into()),
        };
        let mut rest = &bytes[..n];
        while !rest.is_empty() {
            let Some(Ok(frame)) = self.decoder.next(&mut rest) else {
                continue;
            };
            match self.device.receive(&frame) {
                DeviceEvent::Decision {
                    channel,
                    read,
                    eject,
                } => self.decisions.push(ReceivedDecision {
                    channel,
                    read,
                    eject,
                }),
                DeviceEvent::HostStarted => {
                    self.hosts += 1;
                    self.open.values_mut().for_each(|open| open.announce = true);
                }
                DeviceEvent::Message(Message::Call { .. }) => self.calls += 1,
                DeviceEvent::Message(Message::Statistics {
                    missing, broken, ..
                }) => self.statistics = Some(Statistics { missing, broken }),
                DeviceEvent::Message(Message::Error { code, text }) => {
                    log::warn!("the host reports error {code}: {}", clean(text));
                }
                DeviceEvent::Refused { major } => return Err(SenderError::Version(major)),
                _ => {}
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        if out.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&out)?;
        self.stream.flush()
    }

    /// Sends a message of a channel's read, behind the read's start where the host lacks that.
    fn send_of(
        &mut self,
        channel: u16,
        message: Message<'_>,
        stop: &AtomicBool,
    ) -> Result<(), SenderError> {
        loop {
            let mut next = message;
            let mut name = heapless::Vec::<u8, MAX_NAME>::new();
            let open = self.open.get(&channel).filter(|open| open.announce);
            if let Some(open) = open {
                name.clone_from(&open.name);
                next = Message::ReadStart {
                    channel,
                    read: open.read,
                    mux: 1,
                    start: open.start,
                    from: u32::try_from(open.position).unwrap_or(u32::MAX),
                    name: &name,
                };
            }
            if !self.try_send(next)? {
                self.poll()?;
            } else if name.is_empty() {
                self.sent = true;
                return Ok(());
            } else if let Some(open) = self.open.get_mut(&channel) {
                open.announce = false;
                self.again += 1;
            }
            if stop.load(Ordering::Relaxed) {
                return Err(SenderError::Stopped);
            }
        }
    }

    /// True where the message was sent, false where the host must say something first.
    fn try_send(&mut self, message: Message<'_>) -> Result<bool, SenderError> {
        let now = self.now();
        match self.device.send(message, now, &mut self.out) {
            Ok(()) => {
                self.flush()?;
                Ok(true)
            }
            Err(SendError::NoCredit | SendError::NoHost) => Ok(false),
            Err(error) => Err(SenderError::Send(error)),
        }
    }

    /// Begins a read; those of a channel count up by one. A name is cut to [`MAX_NAME`] bytes, and
    /// an empty one is sent as `.`.
    ///
    /// # Errors
    /// [`SenderError`].
    pub fn read_start(
        &mut self,
        channel: u16,
        read: u32,
        name: &[u8],
        stop: &AtomicBool,
    ) -> Result<(), SenderError> {
        let name = if name.is_empty() { b"." } else { name };
        let name = &name[..name.len().min(MAX_NAME)];
        let start = self.start.elapsed().as_millis() as u64;
        let message = Message::ReadStart {
            channel,
            read,
            mux: 1,
            start,
            from: 0,
            name,
        };
        // What is open there is over, and need not be announced.
        self.open.remove(&channel);
        self.send_of(channel, message, stop)?;
        let open = Open {
            read,
            name: heapless::Vec::from_slice(name).unwrap_or_default(),
            start,
            position: 0,
            announce: false,
        };
        self.open.insert(channel, open);
        Ok(())
    }

    /// Sends bases of the channel's read, as codes, the first at `position`; in as many frames as
    /// they take.
    ///
    /// # Errors
    /// [`SenderError`].
    pub fn bases(
        &mut self,
        channel: u16,
        read: u32,
        mut position: u64,
        mut codes: &[u8],
        stop: &AtomicBool,
    ) -> Result<(), SenderError> {
        let mut room = [0; MAX_BASES_BYTES];
        while !codes.is_empty() {
            let (bases, packed) = Bases::pack(codes, &mut room);
            let message = Message::Bases {
                channel,
                read: read as u8 & 0xf,
                position: position as u16,
                bases,
            };
            self.send_of(channel, message, stop)?;
            codes = &codes[packed..];
            position += packed as u64;
            if let Some(open) = self.open.get_mut(&channel) {
                open.position = position;
            }
        }
        Ok(())
    }

    /// Ends a read of `length` bases.
    ///
    /// # Errors
    /// [`SenderError`].
    pub fn read_end(
        &mut self,
        channel: u16,
        read: u32,
        length: u64,
        reason: EndReason,
        stop: &AtomicBool,
    ) -> Result<(), SenderError> {
        let message = Message::ReadEnd {
            channel,
            read,
            length: u32::try_from(length).unwrap_or(u32::MAX),
            reason,
        };
        self.send_of(channel, message, stop)?;
        self.open.remove(&channel);
        Ok(())
    }

    /// Says that no more reads will come.
    ///
    /// # Errors
    /// [`SenderError`].
    pub fn finish(&mut self, stop: &AtomicBool) -> Result<(), SenderError> {
        while !self.try_send(Message::Finish)? {
            self.poll()?;
            if stop.load(Ordering::Relaxed) {
                return Err(SenderError::Stopped);
            }
        }
        self.finished = true;
        Ok(())
    }

    /// True where a host is there.
    pub fn has_host(&self) -> bool {
        self.device.has_host()
    }

    /// True where nothing more will be known of what was delivered: the host has answered the
    /// finish, or is one that does not.
    pub fn is_answered(&self) -> bool {
        let confirms = self.device.host_capabilities() & CONFIRMS != 0;
        self.statistics.is_some() || !confirms
    }

    /// What was sent and did not arrive, or not in one piece, as far as this side can know.
    pub fn undelivered(&self) -> Option<String> {
        let mut found = vec![];
        if self.hosts > 1 && self.sent {
            found.push(format!(
                "{} hosts answered; {} reads were announced again and are partial there, and what \
                 was on its way to the one before is lost",
                self.hosts, self.again
            ));
        }
        match self.statistics {
            // What was broken is missing too; noise between frames is not.
            Some(Statistics { missing, broken }) if missing > 0 => {
                found.push(format!(
                    "{missing} frames are missing there, {broken} were broken"
                ));
            }
            None if self.finished && !self.is_answered() => {
                found.push("the host did not say what it has received".to_string());
            }
            _ => {}
        }
        (!found.is_empty()).then(|| found.join("; "))
    }
}
