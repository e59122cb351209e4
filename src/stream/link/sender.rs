//! The other end of a link: reads to give, decisions to take.

use super::transport::{Stream, call, is_timeout};
use super::url::{LinkUrl, UrlError};
use firmware_bridge::{
    Bases, Decoder, Device, DeviceEvent, EndReason, MAX_BASES_BYTES, MAX_FRAME, MAX_NAME, Message,
    SendError,
};
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

/// Gives reads to a host. Sending waits for credit.
pub struct Sender {
    stream: Box<dyn Stream>,
    device: Device,
    decoder: Decoder,
    out: heapless::Vec<u8, { 2 * MAX_FRAME }>,
    start: Instant,
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
            device: Device::new(nonce, 0b10),
            decoder: Decoder::new(),
            out: heapless::Vec::new(),
            start: Instant::now(),
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
                DeviceEvent::Message(Message::Call { .. }) => self.calls += 1,
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

    fn send(&mut self, message: Message<'_>, stop: &AtomicBool) -> Result<(), SenderError> {
        loop {
            let now = self.now();
            match self.device.send(message, now, &mut self.out) {
                Ok(()) => return Ok(self.flush()?),
                Err(SendError::NoCredit | SendError::NoHost) => self.poll()?,
                Err(error) => return Err(SenderError::Send(error)),
            }
            if stop.load(Ordering::Relaxed) {
                return Err(SenderError::Stopped);
            }
        }
    }

    /// Begins a read. A name is cut to [`MAX_NAME`] bytes.
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
        let message = Message::ReadStart {
            channel,
            read,
            mux: 1,
            start: self.start.elapsed().as_millis() as u64,
            from: 0,
            name: &name[..name.len().min(MAX_NAME)],
        };
        self.send(message, stop)
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
            self.send(message, stop)?;
            codes = &codes[packed..];
            position += packed as u64;
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
        self.send(message, stop)
    }

    /// Says that no more reads will come.
    ///
    /// # Errors
    /// [`SenderError`].
    pub fn finish(&mut self, stop: &AtomicBool) -> Result<(), SenderError> {
        self.send(Message::Finish, stop)
    }
}
