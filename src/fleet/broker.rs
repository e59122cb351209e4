//! The connection to a broker, and what is asked of it.

use super::error::FleetError;
use super::url::BrokerUrl;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, Stream,
};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event};
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How long an answer may take before it is asked for again.
const ANSWER: Duration = Duration::from_secs(5);

/// Between two attempts, at first and at most.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Bytes of a message that are kept for what stands around its lines.
const HEAD: usize = 4096;

/// What a stream may hold that nobody set up before.
const CALLS_BYTES: i64 = 1 << 30;
const WORK_BYTES: i64 = 1 << 28;

/// One thread's worth of what runs at the same time.
pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A broker, connected or not.
#[derive(Clone)]
pub(super) struct Broker {
    client: Client,
    context: Context,
    url: BrokerUrl,
}

/// The outcome of a publication.
pub(super) enum Sent {
    /// It is in the stream, under this sequence number.
    Stored(u64),
    /// The stream has other messages of the subject than was thought, or had this one before.
    Refused,
}

impl Broker {
    /// A connection that is made, and made again, in the background.
    pub(super) async fn open(url: &BrokerUrl) -> Result<Broker, FleetError> {
        let shown = url.to_string();
        let options = ConnectOptions::new()
            .name("strandline")
            .retry_on_initial_connect()
            .connection_timeout(ANSWER)
            .request_timeout(Some(ANSWER))
            .reconnect_delay_callback(pause)
            .event_callback(move |event| {
                let broker = shown.clone();
                async move {
                    match event {
                        Event::Connected => log::info!("{broker}: connected"),
                        Event::Disconnected => log::warn!("{broker}: connection lost"),
                        other => log::debug!("{broker}: {other}"),
                    }
                }
            });
        let connected = options.connect(&url.server).await;
        let client = connected.map_err(|error| FleetError::Broker {
            broker: url.to_string(),
            reason: error.to_string(),
        })?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER);
        Ok(Broker {
            client,
            context,
            url: url.clone(),
        })
    }

    pub(super) fn stream(&self) -> &str {
        &self.url.stream
    }

    /// The most bytes that go into one message beside its head; as many as a server takes that was
    /// not changed, until one was asked.
    pub(super) fn room(&self) -> usize {
        let most = match self.client.server_info().max_payload {
            0 => 1 << 20,
            most => most,
        };
        most.saturating_sub(HEAD)
    }

    /// A stream that keeps what it takes and refuses what it has no room for; made unless it is
    /// there. Not for a stream that belongs to another subject.
    pub(super) async fn calls(&self, name: &str) -> Result<Stream, FleetError> {
        self.made(name, RetentionPolicy::Limits, CALLS_BYTES).await
    }

    /// The same for messages that go when their work is done.
    pub(super) async fn queue(&self, name: &str) -> Result<Stream, FleetError> {
        self.made(name, RetentionPolicy::WorkQueue, WORK_BYTES)
            .await
    }

    async fn made(
        &self,
        name: &str,
        retention: RetentionPolicy,
        max_bytes: i64,
    ) -> Result<Stream, FleetError> {
        let config = Config {
            name: name.to_owned(),
            subjects: vec![format!("{name}.>")],
            retention,
            // The default would drop the oldest, whether or not somebody has seen it.
            discard: DiscardPolicy::New,
            max_bytes,
            ..Config::default()
        };
        let made = self.context.get_or_create_stream(config).await;
        made.map_err(|error| self.away(error))
    }

    /// The last message of a subject, if the stream has one.
    pub(super) async fn last(
        &self,
        stream: &Stream,
        subject: &str,
    ) -> Result<Option<StreamMessage>, FleetError> {
        match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(self.away(error)),
        }
    }

    /// Publishes a message whose subject has `last` as its last one, 0 for none.
    pub(super) async fn publish(
        &self,
        stream: &str,
        subject: &str,
        message: Vec<u8>,
        id: &str,
        last: u64,
    ) -> Result<Sent, FleetError> {
        let message = PublishMessage::build()
            .payload(message.into())
            .message_id(id)
            .expected_stream(stream)
            .expected_last_subject_sequence(last);
        let sent = async {
            let waiting = self
                .context
                .send_publish(subject.to_owned(), message)
                .await?;
            waiting.await
        };
        match sent.await {
            Ok(stored) if stored.duplicate => Ok(Sent::Refused),
            Ok(stored) => Ok(Sent::Stored(stored.sequence)),
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Ok(Sent::Refused),
            Err(error) => Err(self.away(with_reason(&error))),
        }
    }

    /// Something that may be otherwise the next time.
    pub(super) fn away(&self, reason: impl ToString) -> FleetError {
        FleetError::Away {
            broker: self.url.to_string(),
            reason: reason.to_string(),
        }
    }

    /// Waits until what was sent has left.
    pub(super) async fn close(self) {
        // It has been acknowledged already, or was given up.
        let _ = tokio::time::timeout(SHORTEST, self.client.flush()).await;
    }
}

/// An error and what is behind it: the broker's own words.
fn with_reason(error: &PublishError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// How long to wait before the next attempt, after so many.
pub(super) fn pause(attempts: usize) -> Duration {
    let factor = 1 << attempts.clamp(1, 10).saturating_sub(1);
    LONGEST.min(SHORTEST * factor)
}

/// Tries again while the broker is away, until `give_up` says that nobody waits any more. Says once
/// why it waits.
pub(super) async fn patiently<T, F, R>(
    mut attempt: F,
    give_up: impl Fn() -> bool,
) -> Result<T, FleetError>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, FleetError>>,
{
    let mut attempts = 0;
    loop {
        match attempt().await {
            Err(error @ FleetError::Away { .. }) if !give_up() => {
                attempts += 1;
                if attempts == 3 {
                    log::warn!("{error}; trying on");
                }
                tokio::time::sleep(pause(attempts)).await;
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_an_end() {
        let pauses: Vec<u128> = (0..9).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [50, 50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(pause(usize::MAX), LONGEST);
    }
}
