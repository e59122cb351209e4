//! The board at the other end, as a live source.

use super::counters::LinkCounters;
use super::outbox::{Outbox, Reply};
use super::reads::Reads;
use super::transport::{Connect, Stream, is_timeout, listen};
use super::url::{LinkUrl, UrlError};
use crate::metrics::SourceCounters;
use crate::stream::live::piece::Piece;
use crate::stream::live::source::{LiveSource, LiveStep, Replies, SourceError};
use firmware_bridge::{Decoder, FrameError, Host, HostEvent, MAX_FRAME, Message};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Frames that a board may be ahead: 64 KiB at most, what sockets and drivers buffer.
pub(super) const WINDOW: u16 = 128;

/// Time between two attempts to open a port that is gone: doubled up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why a link cannot be used, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// The URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The port or socket.
    #[error("{url}: {source}")]
    Io {
        /// As given.
        url: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The board speaks another major version of the protocol.
    #[error(
        "{url}: the board speaks version {major} of the protocol, this program version {}",
        firmware_bridge::MAJOR
    )]
    Version {
        /// As given.
        url: String,
        /// The board's.
        major: u8,
    },
}

impl From<LinkError> for SourceError {
    fn from(error: LinkError) -> SourceError {
        SourceError::Other(Box::new(error))
    }
}

/// A link as a live source.
pub struct Link {
    name: String,
    connect: Box<dyn Connect>,
    once: bool,
    stream: Option<Box<dyn Stream>>,
    retry: Duration,
    retry_at: Instant,
    /// Milliseconds.
    pub(super) clock: Box<dyn Fn() -> u32 + Send>,
    host: Host,
    decoder: Decoder,
    reads: Reads,
    /// Bytes received and not yet looked at: `from..to` of the buffer.
    buffer: Box<[u8; 4096]>,
    from: usize,
    to: usize,
    received: Instant,
    out: heapless::Vec<u8, { 4 * MAX_FRAME }>,
    outbox: Arc<Outbox>,
    pub(super) counters: Arc<LinkCounters>,
    finished: bool,
}

/// Opens the link that `url` names.
///
/// # Errors
/// Where it is no link, or cannot be listened on. A serial port that is not there is waited for,
/// unless the URL says `once`.
pub fn open(url: &str) -> Result<Link, LinkError> {
    let parsed: LinkUrl = url.parse()?;
    let connect = listen(&parsed.place).map_err(|source| LinkError::Io {
        url: url.to_string(),
        source,
    })?;
    // Another number at each start: what a board compares it with is the one before.
    let nonce = std::process::id()
        ^ std::time::UNIX_EPOCH
            .elapsed()
            .map_or(1, |t| t.subsec_nanos());
    Ok(Link::new(url.to_string(), connect, parsed.once, nonce))
}

impl Link {
    /// A link called `name` over what `connect` gives. `nonce` tells this host from one before it.
    pub fn new(name: String, connect: Box<dyn Connect>, once: bool, nonce: u32) -> Link {
        let counters = Arc::new(LinkCounters::default());
        let start = Instant::now();
        Link {
            name,
            connect,
            once,
            stream: None,
            retry: RETRY.0,
            retry_at: Instant::now(),
            clock: Box::new(move || start.elapsed().as_millis() as u32),
            host: Host::new(nonce, WINDOW),
            decoder: Decoder::new(),
            reads: Reads::new(counters.clone()),
            buffer: Box::new([0; 4096]),
            from: 0,
            to: 0,
            received: Instant::now(),
            out: heapless::Vec::new(),
            outbox: Arc::new(Outbox::new(counters.clone())),
            counters,
            finished: false,
        }
    }

    fn now(&self) -> u32 {
        (self.clock)()
    }

    fn step(&mut self, piece: &mut Piece) -> Result<LiveStep, LinkError> {
        loop {
            if self.reads.next_end(piece, self.received) {
                return Ok(LiveStep::Piece);
            }
            if self.from < self.to {
                if self.frame(piece)? {
                    return Ok(LiveStep::Piece);
                }
                continue;
            }
            if self.finished {
                return Ok(LiveStep::End);
            }
            if self.stream.is_none() && !self.connected()? {
                return Ok(LiveStep::Idle);
            }
            let now = self.now();
            if self.host.gone(now) {
                self.reads.close();
                continue;
            }
            let received = self.speak(now).and_then(|()| match &mut self.stream {
                Some(stream) => stream.read(&mut self.buffer[..]),
                None => Ok(0),
            });
            match received {
                // A closed connection.
                Ok(0) => self.lost(None)?,
                Ok(n) => {
                    (self.from, self.to) = (0, n);
                    self.received = Instant::now();
                }
                Err(e) if is_timeout(&e) => return Ok(LiveStep::Idle),
                Err(e) => self.lost(Some(e))?,
            }
        }
    }

    /// True where there is a stream now.
    fn connected(&mut self) -> Result<bool, LinkError> {
        if Instant::now() < self.retry_at {
            std::thread::sleep(Duration::from_millis(20));
            return Ok(false);
        }
        match self.connect.connect() {
            Ok(Some(stream)) => {
                self.stream = Some(stream);
                self.retry = RETRY.0;
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(source) if self.once => Err(LinkError::Io {
                url: self.name.clone(),
                source,
            }),
            Err(error) => {
                if self.retry == RETRY.0 {
                    log::warn!("{}: {error}; waiting for it", self.name);
                }
                self.retry_at = Instant::now() + self.retry;
                self.retry = (2 * self.retry).min(RETRY.1);
                Ok(false)
            }
        }
    }

    /// The port or connection is gone.
    fn lost(&mut self, error: Option<io::Error>) -> Result<(), LinkError> {
        self.stream = None;
        // Replies to a board that is gone are nobody's.
        self.outbox.clear();
        self.decoder.reset();
        self.reads.close();
        let now = self.now();
        // Whoever comes next is another one.
        self.host.gone(now.wrapping_add(firmware_bridge::GONE));
        self.counters.reconnects.fetch_add(1, Relaxed);
        if let Some(error) = error {
            log::warn!("{}: {error}; waiting for it to come back", self.name);
        }
        self.finished = self.once;
        Ok(())
    }

    /// Looks at the next received bytes; true where they filled `piece`.
    fn frame(&mut self, piece: &mut Piece) -> Result<bool, LinkError> {
        let now = self.now();
        let mut bytes = &self.buffer[self.from..self.to];
        let result = self.decoder.next(&mut bytes);
        self.from = self.to - bytes.len();
        let message = match result {
            None => HostEvent::Nothing,
            Some(Ok(frame)) => self.host.receive(&frame, now),
            Some(Err(FrameError::Kind { sequence, .. })) => {
                self.host.receive_unknown(sequence, now);
                HostEvent::Nothing
            }
            Some(Err(error)) => {
                log::debug!("{}: {error}", self.name);
                HostEvent::Nothing
            }
        };
        let missing = self.host.missing();
        let mut filled = false;
        match message {
            HostEvent::DeviceStarted => {
                self.counters.board_starts.fetch_add(1, Relaxed);
                self.reads.close();
            }
            HostEvent::Old => {
                self.counters.old_frames.fetch_add(1, Relaxed);
            }
            HostEvent::Early => {
                self.counters.early_frames.fetch_add(1, Relaxed);
            }
            HostEvent::Refused { major } => {
                // The other side is to know why.
                let _ = self.speak(now);
                return Err(LinkError::Version {
                    url: self.name.clone(),
                    major,
                });
            }
            HostEvent::Message(Message::Finish) => self.finished = self.once,
            HostEvent::Message(Message::Error { code, text }) => {
                let text = String::from_utf8_lossy(text);
                log::warn!("{}: the board reports error {code}: {text}", self.name);
            }
            HostEvent::Message(message) if message.is_data() => {
                filled = self.reads.receive(&message, missing, piece);
                piece.received = self.received;
            }
            HostEvent::Message(_) | HostEvent::Nothing => {}
            _ => {}
        }
        let counts = self.decoder.counts();
        let set = |counter: &AtomicU64, value: u64| counter.store(value, Relaxed);
        set(&self.counters.bytes, counts.bytes);
        set(&self.counters.frames, counts.frames.into());
        set(&self.counters.broken_frames, counts.broken.into());
        set(&self.counters.unknown_kinds, counts.unknown.into());
        set(&self.counters.missing_frames, missing);
        Ok(filled)
    }

    /// Sends what is due: hello, credit, all decisions, and of the calls a buffer's worth, so that
    /// they do not keep this side from reading.
    fn speak(&mut self, now: u32) -> io::Result<()> {
        self.out.clear();
        // Everything that can be due fits the buffer, and what does not would come again.
        let _ = self.host.send_due(now, &mut self.out);
        while self.host.has_device()
            && let Some(decision) = self.outbox.decision()
        {
            self.reply(&decision, now);
            if self.out.capacity() - self.out.len() < MAX_FRAME {
                self.flush()?;
            }
        }
        while self.host.has_device()
            && self.out.capacity() - self.out.len() >= MAX_FRAME
            && let Some(call) = self.outbox.call()
        {
            self.reply(&call, now);
        }
        self.flush()
    }

    fn reply(&mut self, reply: &Reply, now: u32) {
        if self.host.send(reply.message(), now, &mut self.out).is_err() {
            self.outbox.dropped(reply);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        match &mut self.stream {
            Some(stream) if !out.is_empty() => {
                stream.write_all(&out)?;
                stream.flush()
            }
            _ => Ok(()),
        }
    }
}

impl LiveSource for Link {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn next(&mut self, piece: &mut Piece) -> Result<LiveStep, SourceError> {
        Ok(self.step(piece)?)
    }

    fn close(&mut self) {
        while self.stream.is_some() && self.host.has_device() && !self.outbox.is_empty() {
            let now = self.now();
            if self.speak(now).is_err() {
                break;
            }
        }
    }

    fn replies(&self) -> Option<Arc<dyn Replies>> {
        Some(self.outbox.clone())
    }

    fn counters(&self) -> Option<Arc<dyn SourceCounters>> {
        Some(self.counters.clone())
    }
}
