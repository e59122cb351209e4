//! The board at the other end, as a live source.

use super::counters::LinkCounters;
use super::door::{Door, another_version};
use super::line::{Counts, Line};
use super::outbox::Outbox;
use super::reads::Reads;
use super::transport::{Connect, Listener, PATIENCE, Serial, is_timeout};
use super::url::{LinkUrl, Place, UrlError};
use crate::metrics::SourceCounters;
use crate::sink::clean;
use crate::stream::live::piece::Piece;
use crate::stream::live::source::{LiveSource, LiveStep, Replies, SourceError};
use firmware_bridge::{ERROR_NUMBERS, Host, HostEvent, MAX_FRAME, Message};
use log::Level;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Frames that a board may be ahead: 64 KiB at most, what sockets and drivers buffer.
pub(super) const WINDOW: u16 = 128;

/// Time between two attempts to open a port that is gone: doubled up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Most milliseconds that pass, for the link, between two looks at the clock: looks come every 20
/// while it runs, so that what is more is time in which this program stood still, and says nothing
/// of a board's silence.
const LOOK: u32 = 250;

/// Most reads of what a board still says when the link is closed.
const UNREAD: usize = 64;

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
}

impl From<LinkError> for SourceError {
    fn from(error: LinkError) -> SourceError {
        SourceError::Other(Box::new(error))
    }
}

/// Where boards come from.
enum Entry {
    /// A port of this link's own, which is kept open while its board is silent.
    Port(Box<dyn Connect>),
    /// A socket that several links may share; who is silent has to go.
    Door(Arc<Mutex<Door>>),
}

/// A link as a live source: a place for one board at a time.
pub struct Link {
    name: String,
    entry: Entry,
    once: bool,
    line: Option<Line>,
    retry: Duration,
    retry_at: Instant,
    /// Milliseconds.
    pub(super) clock: Box<dyn Fn() -> u32 + Send>,
    /// The clock when it was last looked at, and the time that has passed for the link.
    looked: u32,
    time: u32,
    nonce: u32,
    /// A board has said hello on this line.
    met: bool,
    /// One of another version has.
    refused: bool,
    reads: Reads,
    received: Instant,
    outbox: Arc<Outbox>,
    pub(super) counters: Arc<LinkCounters>,
    /// Of the lines before.
    before: Counts,
    finished: bool,
}

/// Opens the link that `url` names, which is for one board.
///
/// # Errors
/// Where it is no link, or cannot be listened on. A serial port that is not there is waited for,
/// unless the URL says `once`.
pub fn open(url: &str) -> Result<Link, LinkError> {
    let mut places = open_all(url)?;
    match (places.pop(), places.is_empty()) {
        (Some(link), true) => Ok(link),
        _ => Err(UrlError {
            url: url.to_string(),
            reason: "one board is expected here, not ?boards=N".to_string(),
        }
        .into()),
    }
}

/// Opens the link that `url` names, with a place for each of its `boards`. Each is a source of its
/// own, so that channels and reads of two boards are never one.
///
/// # Errors
/// As [`open`].
pub fn open_all(url: &str) -> Result<Vec<Link>, LinkError> {
    let parsed: LinkUrl = url.parse()?;
    let io = |source| LinkError::Io {
        url: url.to_string(),
        source,
    };
    // Another number at each start: what a board compares it with is the one before.
    let nonce = std::process::id()
        ^ std::time::UNIX_EPOCH
            .elapsed()
            .map_or(1, |t| t.subsec_nanos());
    let listener = match parsed.place {
        Place::Serial { path, baud } => {
            let port = Box::new(Serial { path, baud });
            return Ok(vec![Link::new(url.to_string(), port, parsed.once, nonce)]);
        }
        Place::Tcp { address } => {
            let listener = Listener::tcp(address).map_err(io)?;
            if let Some(bound) = listener.address().filter(|_| address.port() == 0) {
                // Nobody could know it otherwise.
                log::warn!("{url}: listens on {bound}");
            }
            listener
        }
        Place::Unix { path } => Listener::unix(&path).map_err(io)?,
    };
    let door = Door::new(url.to_string(), listener, parsed.from, nonce, WINDOW);
    let door = Arc::new(Mutex::new(door));
    let place = |number| {
        let name = if parsed.boards == 1 {
            url.to_string()
        } else {
            format!("{url} board {number}")
        };
        Link::at(name, Entry::Door(door.clone()), parsed.once, nonce)
    };
    Ok((1..=parsed.boards).map(place).collect())
}

impl Link {
    /// A link called `name` over what `connect` gives. `nonce` tells this host from one before it.
    pub fn new(name: String, connect: Box<dyn Connect>, once: bool, nonce: u32) -> Link {
        Link::at(name, Entry::Port(connect), once, nonce)
    }

    fn at(name: String, entry: Entry, once: bool, nonce: u32) -> Link {
        let counters = Arc::new(LinkCounters::default());
        let start = Instant::now();
        Link {
            name,
            entry,
            once,
            line: None,
            retry: RETRY.0,
            retry_at: Instant::now(),
            clock: Box::new(move || start.elapsed().as_millis() as u32),
            looked: 0,
            time: 0,
            nonce,
            met: false,
            refused: false,
            reads: Reads::new(counters.clone()),
            received: Instant::now(),
            outbox: Arc::new(Outbox::new(counters.clone())),
            counters,
            before: Counts::default(),
            finished: false,
        }
    }

    /// Milliseconds in which this program ran.
    fn now(&mut self) -> u32 {
        let looked = (self.clock)();
        let passed = looked.wrapping_sub(self.looked).min(LOOK);
        self.looked = looked;
        self.time = self.time.wrapping_add(passed);
        self.time
    }

    fn step(&mut self, piece: &mut Piece) -> Result<LiveStep, LinkError> {
        loop {
            if self.reads.next_end(piece, self.received) {
                return Ok(LiveStep::Piece);
            }
            let now = self.now();
            if self.line.as_ref().is_some_and(Line::has_bytes) {
                if self.frame(piece, now) {
                    return Ok(LiveStep::Piece);
                }
                continue;
            }
            if self.finished {
                return Ok(LiveStep::End);
            }
            if self.line.is_none() {
                if !self.connected(now)? {
                    return Ok(LiveStep::Idle);
                }
                // It may have said more than its hello.
                continue;
            }
            self.speak(now);
            let Some(line) = &mut self.line else {
                continue;
            };
            match line.read() {
                Ok(0) if self.reads.has_open() => {
                    self.lost(Level::Warn, "the connection was closed within reads");
                }
                Ok(0) => self.lost(Level::Info, "the connection was closed"),
                Ok(_) => self.received = Instant::now(),
                // Silence, and who takes nothing, is judged only where nothing waits to be read.
                Err(e) if is_timeout(&e) => {
                    if let Some(e) = line.failed() {
                        self.lost(Level::Warn, &e.to_string());
                        continue;
                    }
                    let now = self.now();
                    if !self.silent(now) {
                        return Ok(LiveStep::Idle);
                    }
                }
                Err(e) => self.lost(Level::Warn, &e.to_string()),
            }
        }
    }

    /// True where there is a line now.
    fn connected(&mut self, now: u32) -> Result<bool, LinkError> {
        if Instant::now() < self.retry_at {
            std::thread::sleep(PATIENCE);
            return Ok(false);
        }
        let opened = match &mut self.entry {
            Entry::Port(connect) => connect.connect().map(|stream| {
                let host = Host::new(self.nonce, WINDOW);
                stream.map(|stream| Line::new(stream, self.name.clone(), host))
            }),
            Entry::Door(door) => {
                let mut door = door.lock().unwrap_or_else(PoisonError::into_inner);
                door.board(&self.counters)
            }
        };
        match opened {
            Ok(Some(mut line)) => {
                line.host.seen(now);
                if line.host.has_device() {
                    self.met = true;
                    self.counters.board_starts.fetch_add(1, Relaxed);
                    log::info!("{}: a board at {}", self.name, line.peer);
                }
                self.line = Some(line);
                self.retry = RETRY.0;
                // Steps wide apart: a host counts up by itself when its board was gone.
                self.nonce = self.nonce.wrapping_add(1 << 16);
                Ok(true)
            }
            Ok(None) => {
                // A door does not wait, so that several places can share it.
                if matches!(self.entry, Entry::Door(_)) {
                    std::thread::sleep(PATIENCE);
                }
                Ok(false)
            }
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

    /// The port or connection is gone, and what the board began with it.
    fn lost(&mut self, level: Level, why: &str) {
        log::log!(level, "{}: {why}", self.name);
        self.over();
        self.reads.forget();
        self.count();
        if let Some(line) = self.line.take() {
            let counts = line.counts();
            self.before.bytes += counts.bytes;
            self.before.frames += counts.frames;
            self.before.broken += counts.broken;
            self.before.unknown += counts.unknown;
            self.before.missing += counts.missing;
        }
        self.counters.reconnects.fetch_add(1, Relaxed);
        // A port that was open for nobody was not the one link there is to be.
        self.finished = self.once && self.met;
        (self.met, self.refused) = (false, false);
    }

    /// The board's reads are over, and replies to it are nobody's.
    fn over(&mut self) {
        self.outbox.clear();
        self.reads.close();
    }

    /// True where the board has been silent for too long.
    fn silent(&mut self, now: u32) -> bool {
        let gone = self.line.as_mut().is_some_and(|line| line.host.gone(now));
        if gone {
            let seconds = firmware_bridge::GONE / 1000;
            let why = format!("the board was silent for {seconds} s");
            match self.entry {
                Entry::Door(_) => self.lost(Level::Warn, &why),
                Entry::Port(_) => {
                    log::warn!("{}: {why}", self.name);
                    self.over();
                }
            }
        }
        gone
    }

    /// Looks at the next received bytes; true where they filled `piece`.
    fn frame(&mut self, piece: &mut Piece, now: u32) -> bool {
        let Some(line) = &mut self.line else {
            return false;
        };
        let counters = &self.counters;
        let (event, missing) = line.next(now);
        let mut filled = false;
        match event {
            HostEvent::DeviceStarted => {
                counters.board_starts.fetch_add(1, Relaxed);
                (self.met, self.refused) = (true, false);
                self.over();
            }
            HostEvent::Old => {
                counters.old_frames.fetch_add(1, Relaxed);
            }
            HostEvent::Early => {
                counters.early_frames.fetch_add(1, Relaxed);
            }
            // Once a line, though it says hello again and again.
            HostEvent::Refused { major } if !self.refused => {
                self.refused = true;
                counters.strangers.fetch_add(1, Relaxed);
                let why = format!("board refused: {}", another_version(major));
                // It is to know why.
                line.speak(now);
                match self.entry {
                    Entry::Door(_) => self.lost(Level::Warn, &why),
                    Entry::Port(_) => {
                        log::warn!("{}: {why}", self.name);
                        self.over();
                    }
                }
            }
            HostEvent::Message(Message::Finish) => {
                self.finished = self.once;
                let statistics = line.statistics();
                line.say(statistics, now);
                line.flush();
            }
            HostEvent::Message(Message::Error { code, text }) => {
                let text = clean(text);
                log::warn!("{}: the board reports error {code}: {text}", self.name);
            }
            HostEvent::Message(message) if message.is_data() => {
                filled = self.reads.receive(&message, missing, piece);
                piece.received = self.received;
                if self.reads.miscounts() {
                    let text = b"read numbers of a channel count up by one";
                    log::warn!("{}: the board's read numbers do not count up", self.name);
                    let code = ERROR_NUMBERS;
                    line.say(Message::Error { code, text }, now);
                }
            }
            HostEvent::Message(_) | HostEvent::Nothing => {}
            _ => {}
        }
        self.count();
        filled
    }

    fn count(&self) {
        let Some(line) = &self.line else {
            return;
        };
        let (own, before) = (line.counts(), &self.before);
        let set = |counter: &AtomicU64, value: u64| counter.store(value, Relaxed);
        set(&self.counters.bytes, before.bytes + own.bytes);
        set(&self.counters.frames, before.frames + own.frames);
        set(&self.counters.broken_frames, before.broken + own.broken);
        set(&self.counters.unknown_kinds, before.unknown + own.unknown);
        set(&self.counters.missing_frames, before.missing + own.missing);
    }

    /// Sends what is due: hello, credit, all decisions, and of the calls a buffer's worth, so that
    /// they do not keep this side from reading.
    fn speak(&mut self, now: u32) {
        let Some(line) = &mut self.line else {
            return;
        };
        line.speak(now);
        while line.is_open()
            && let Some(decision) = self.outbox.decision()
        {
            if !line.say(decision.message(), now) {
                self.outbox.dropped(&decision);
            }
        }
        line.flush();
        while line.is_open()
            && line.room() >= MAX_FRAME
            && let Some(call) = self.outbox.call()
        {
            if !line.say(call.message(), now) {
                self.outbox.dropped(&call);
            }
        }
        line.flush();
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
        while !self.outbox.is_empty() {
            if !self.line.as_ref().is_some_and(Line::is_open) {
                self.outbox.clear();
            }
            let now = self.now();
            self.speak(now);
        }
        // Closed with bytes unread, a TCP connection throws away what was sent last.
        if let Some(line) = &mut self.line {
            let _ = (0..UNREAD)
                .take_while(|_| line.read().is_ok_and(|n| n > 0))
                .count();
        }
    }

    fn replies(&self) -> Option<Arc<dyn Replies>> {
        Some(self.outbox.clone())
    }

    fn counters(&self) -> Option<Arc<dyn SourceCounters>> {
        Some(self.counters.clone())
    }
}
