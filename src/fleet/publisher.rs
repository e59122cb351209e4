//! An outbox on its way to a broker, on a thread of its own.

use super::broker::{Broker, Sent, pause, runtime};
use super::error::FleetError;
use super::outbox::Outbox;
use super::url::BrokerUrl;
use async_nats::jetstream::stream::Stream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of lines that go into one message at most. Each message is waited for, so it is the
/// broker's pace that decides how many lines gather meanwhile.
const MESSAGE: usize = 1 << 16;

/// After so long without a step somebody may wonder.
const SILENT: Duration = Duration::from_secs(3);

/// Between two looks at a file that has nothing new.
const LOOK: Duration = Duration::from_millis(20);

/// How far a publisher came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Bytes of the outbox that the broker has.
    pub bytes: u64,
    /// Bytes of the outbox.
    pub of: u64,
    /// Bytes at its end that are no whole line: those of a run that was killed.
    pub cut: u64,
    /// Why the broker took no more at last, where it did not.
    pub reason: Option<String>,
}

impl Published {
    /// True if the broker has every line.
    pub fn is_all(&self) -> bool {
        self.bytes + self.cut >= self.of
    }
}

/// What a publisher and the run share.
#[derive(Debug, Default)]
struct Shared {
    /// The run writes no more.
    ended: AtomicBool,
    /// Nobody waits any more.
    given_up: AtomicBool,
    /// Bytes that the broker has.
    published: AtomicU64,
}

/// Publishes an outbox while it grows. The run never waits for it.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<Published, FleetError>>,
    file: PathBuf,
}

impl Publisher {
    /// Starts to publish what `outbox` holds and what is added to it.
    ///
    /// # Errors
    /// Where a thread cannot be started.
    pub fn start(outbox: Outbox, broker: BrokerUrl) -> Result<Publisher, FleetError> {
        let file = outbox.path().to_owned();
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let thread = std::thread::Builder::new()
            .name("publisher".into())
            .spawn(move || {
                let result = runtime()
                    .and_then(|runtime| runtime.block_on(Course::run(outbox, &broker, &own)));
                if let Err(error) = &result {
                    log::error!("{error}; nothing more is published");
                }
                result
            })
            .map_err(|source| FleetError::Io {
                file: file.clone(),
                source,
            })?;
        Ok(Publisher {
            shared,
            thread,
            file,
        })
    }

    /// Bytes of the outbox that the broker has.
    pub fn published(&self) -> u64 {
        self.shared.published.load(Ordering::Relaxed)
    }

    /// Publishes the rest, now that the outbox grows no more, for up to `patience` in which nothing
    /// goes on, or until `stop` is set.
    ///
    /// # Errors
    /// What publishing broke off with, which was logged; a broker that is away is no error.
    pub fn finish(
        self,
        patience: Duration,
        stop: impl Fn() -> bool,
    ) -> Result<Published, FleetError> {
        self.shared.ended.store(true, Ordering::Release);
        let (mut last, mut since) = (self.published(), Instant::now());
        let mut waiting = false;
        while !self.thread.is_finished() {
            let now = self.published();
            if now != last {
                (last, since) = (now, Instant::now());
            } else if !waiting && since.elapsed() > SILENT {
                waiting = true;
                log::warn!(
                    "waiting for the broker to take the rest, {} s at most",
                    patience.as_secs()
                );
            } else if since.elapsed() > patience || stop() {
                self.shared.given_up.store(true, Ordering::Release);
            }
            std::thread::sleep(LOOK / 4);
        }
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => Err(FleetError::Foreign(format!(
                "{}: internal error: its publisher died",
                self.file.display()
            ))),
        }
    }
}

/// One publisher at work.
struct Course<'a> {
    broker: Broker,
    outbox: Outbox,
    shared: &'a Shared,
    stream: Option<Stream>,
    subject: String,
    /// The broker knows the next message's id, and has not the message.
    known: bool,
}

/// Behind which message to go on.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    /// The sequence number of the last message of the subject, 0 for none.
    last: u64,
}

impl Course<'_> {
    async fn run(
        outbox: Outbox,
        url: &BrokerUrl,
        shared: &Shared,
    ) -> Result<Published, FleetError> {
        let broker = Broker::open(url).await?;
        let mut course = Course {
            subject: outbox.subject(&url.stream),
            broker,
            outbox,
            shared,
            stream: None,
            known: false,
        };
        let result = course.publish().await;
        course.broker.close().await;
        result
    }

    async fn publish(&mut self) -> Result<Published, FleetError> {
        let mut place = None;
        let mut attempts = 0;
        let mut why;
        let mut more = true;
        loop {
            // In this order: nothing is added after the end.
            let ended = self.shared.ended.load(Ordering::Acquire);
            let found = match place {
                Some(place) => Ok(place),
                None => self.look().await,
            };
            let sent = match found {
                Ok(place) => self.send(place).await,
                Err(error) => Err(error),
            };
            match sent {
                Ok((next, sent)) => {
                    // What was refused is not tried again at once.
                    let moved = place.is_none_or(|place: Place| place.offset != next.offset);
                    attempts = if sent && !moved { attempts + 1 } else { 0 };
                    (place, why, more) = (Some(next), None, sent);
                    self.shared.published.store(next.offset, Ordering::Relaxed);
                    if !more && ended {
                        break;
                    }
                    if !more {
                        tokio::time::sleep(LOOK).await;
                    } else if attempts > 1 {
                        tokio::time::sleep(pause(attempts)).await;
                    }
                }
                Err(FleetError::Away { broker, reason }) => {
                    place = None;
                    why = Some(reason.clone());
                    attempts += 1;
                    if attempts == 3 {
                        log::warn!("{broker}: {reason}; the output keeps what is to be published");
                    }
                    tokio::time::sleep(pause(attempts)).await;
                }
                Err(error) => return Err(error),
            }
            if self.shared.given_up.load(Ordering::Acquire) {
                break;
            }
        }
        let bytes = self.shared.published.load(Ordering::Relaxed);
        let of = self.outbox.length()?;
        let all = why.is_none() && self.shared.ended.load(Ordering::Acquire);
        Ok(Published {
            bytes,
            of,
            // Where all lines are published, what is left is none.
            cut: if all && !more {
                of.saturating_sub(bytes)
            } else {
                0
            },
            reason: why,
        })
    }

    /// Publishes the next lines, and says where to go on; false where there were none.
    async fn send(&mut self, place: Place) -> Result<(Place, bool), FleetError> {
        let room = self.room()?;
        let lines = match self.outbox.lines(place.offset, MESSAGE.min(room)) {
            // A line of its own.
            Err(FleetError::TooLong { .. }) if room > MESSAGE => {
                self.outbox.lines(place.offset, room)?
            }
            lines => lines?,
        };
        if lines.is_empty() {
            return Ok((place, false));
        }
        let envelope = self.outbox.envelope(place.offset, &lines);
        let message = envelope.seal(&lines);
        let message = message.map_err(|error| FleetError::Foreign(error.to_string()))?;
        let (stream, id) = (self.broker.stream(), envelope.id());
        let id = (!self.known).then_some(&*id);
        let sent = self
            .broker
            .publish(stream, &self.subject, message, id, place.last)
            .await?;
        let next = match sent {
            Sent::Stored(last) => Place {
                offset: envelope.offset + envelope.bytes,
                last,
            },
            // Not what was thought: an attempt of which the answer was lost has come through, say.
            Sent::Refused => self.look().await?,
        };
        // An id outlives a message that was removed; the order is kept without it.
        self.known = next.offset == place.offset;
        Ok((next, true))
    }

    fn room(&self) -> Result<usize, FleetError> {
        match &self.stream {
            Some(stream) => self.broker.room(stream),
            None => Ok(MESSAGE),
        }
    }

    /// Where the stream says to go on.
    async fn look(&mut self) -> Result<Place, FleetError> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.broker.calls(self.broker.stream()).await?,
        };
        let last = self.broker.last(&stream, &self.subject).await?;
        let begun = self.broker.begun(&stream).await?;
        self.stream = Some(stream);
        let published = self.shared.published.load(Ordering::Relaxed);
        let place = match last {
            Some(message) => Place {
                offset: self.outbox.behind(&message.payload, &self.subject)?,
                last: message.sequence,
            },
            // Where somebody has cleared the stream, what it had is not sent again. One that never
            // had anything has lost it.
            None => Place {
                offset: if begun { published } else { 0 },
                last: 0,
            },
        };
        if place.offset < published {
            log::warn!(
                "{}: the broker has lost what it had from byte {} on: it is sent again",
                self.outbox.path().display(),
                place.offset
            );
        }
        Ok(place)
    }
}
