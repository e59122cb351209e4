//! The connection to a broker, and what is asked of it.

use super::error::FleetError;
use super::url::BrokerUrl;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, LastRawMessageErrorKind, RetentionPolicy, Stream,
};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, ConnectOptions, Event};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// How long an answer may take before it is asked for again.
const ANSWER: Duration = Duration::from_secs(5);

/// Between two attempts, at first and at most.
const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Bytes of a message that are kept for what stands around its lines.
const HEAD: usize = 1024;

/// What a stream may hold that nobody set up before.
const CALLS_BYTES: i64 = 1 << 30;
const WORK_BYTES: i64 = 1 << 28;

/// One thread's worth of what runs at the same time.
pub(super) fn runtime() -> Result<Runtime, FleetError> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|error| FleetError::Foreign(format!("cannot wait for a network: {error}")))
}

/// A broker, connected or not.
#[derive(Clone)]
pub(super) struct Broker {
    client: Client,
    context: Context,
    url: BrokerUrl,
    /// Why there is no connection.
    why: Why,
}

/// What the last attempt to connect ended with, where none has succeeded since.
type Why = Arc<Mutex<Option<String>>>;

fn locked(why: &Why) -> MutexGuard<'_, Option<String>> {
    why.lock().unwrap_or_else(PoisonError::into_inner)
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
        let why = Why::default();
        let (shown, own) = (url.to_string(), why.clone());
        let options = match &url.user {
            Some((user, Some(password))) => {
                ConnectOptions::with_user_and_password(user.clone(), password.clone())
            }
            Some((token, None)) => ConnectOptions::with_token(token.clone()),
            None => ConnectOptions::new(),
        };
        let options = options
            .name("strandline")
            .retry_on_initial_connect()
            .connection_timeout(ANSWER)
            .request_timeout(Some(ANSWER))
            .reconnect_delay_callback(pause)
            .event_callback(move |event| {
                let (broker, why) = (shown.clone(), own.clone());
                async move {
                    match event {
                        Event::Connected => {
                            *locked(&why) = None;
                            log::info!("{broker}: connected");
                        }
                        Event::Disconnected => log::warn!("{broker}: connection lost"),
                        other => {
                            log::debug!("{broker}: {other}");
                            *locked(&why) = Some(other.to_string());
                        }
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
            why,
        })
    }

    pub(super) fn stream(&self) -> &str {
        &self.url.stream
    }

    /// The most bytes that go into one message of a stream beside its head.
    ///
    /// # Errors
    /// Where that is next to nothing.
    pub(super) fn room(&self, stream: &Stream) -> Result<usize, FleetError> {
        let own = usize::try_from(stream.cached_info().config.max_message_size);
        let own = own.ok().filter(|&most| most > 0);
        let server = self.client.server_info().max_payload;
        let most = own.unwrap_or(server).min(server);
        most.checked_sub(2 * HEAD)
            .map(|least| least + HEAD)
            .ok_or_else(|| {
                self.refused(format!(
                "it takes messages of {most} bytes at most, and {} are the least: see max_payload \
                 of the server and max_msg_size of the stream",
                2 * HEAD
            ))
            })
    }

    /// A stream that keeps what it takes and refuses what it has no room for; made unless it is
    /// there.
    pub(super) async fn calls(&self, name: &str) -> Result<Stream, FleetError> {
        self.made(name, RetentionPolicy::Limits, CALLS_BYTES).await
    }

    /// The same for messages that go when their work is done.
    pub(super) async fn queue(&self, name: &str) -> Result<Stream, FleetError> {
        self.made(name, RetentionPolicy::WorkQueue, WORK_BYTES)
            .await
    }

    /// A stream that somebody else makes.
    pub(super) async fn existing(
        &self,
        name: &str,
        retention: RetentionPolicy,
    ) -> Result<Stream, FleetError> {
        match self.context.get_stream(name).await {
            Ok(stream) => self.fit(stream, retention),
            Err(error) => Err(match error.kind() {
                GetStreamErrorKind::JetStream(answer)
                    if answer.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    self.away(format!(
                        "there is no stream {name}: `strandline queue` makes it"
                    ))
                }
                _ => self.away(error),
            }),
        }
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
        match self.context.get_or_create_stream(config).await {
            Ok(stream) => self.fit(stream, retention),
            // Each stream that is made here is promised its place from the beginning.
            Err(error) => match error.kind() {
                CreateStreamErrorKind::JetStream(answer)
                    if [
                        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
                        ErrorCode::INSUFFICIENT_RESOURCES,
                    ]
                    .contains(&answer.error_code()) =>
                {
                    Err(self.refused(format!(
                        "no room for a new stream {name} of {max_bytes} bytes ({answer}): make it \
                         by hand with fewer max_bytes, or give the server more"
                    )))
                }
                _ => Err(self.away(error)),
            },
        }
    }

    /// The stream, if it keeps what it takes.
    fn fit(&self, stream: Stream, wanted: RetentionPolicy) -> Result<Stream, FleetError> {
        let config = &stream.cached_info().config;
        match unfit(config, wanted) {
            Some(reason) => Err(self.refused(format!("stream {}: {reason}", config.name))),
            None => Ok(stream),
        }
    }

    /// Something that will be the same the next time.
    fn refused(&self, reason: String) -> FleetError {
        FleetError::Broker {
            broker: self.url.to_string(),
            reason,
        }
    }

    /// True if the stream has ever had a message.
    pub(super) async fn begun(&self, stream: &Stream) -> Result<bool, FleetError> {
        let info = stream.get_info().await.map_err(|error| self.away(error))?;
        Ok(info.state.last_sequence > 0)
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

    /// Publishes a message whose subject has `last` as its last one, 0 for none. With an `id` the
    /// broker refuses it where it has had it lately, even if somebody has removed it since.
    pub(super) async fn publish(
        &self,
        stream: &str,
        subject: &str,
        message: Vec<u8>,
        id: Option<&str>,
        last: u64,
    ) -> Result<Sent, FleetError> {
        let mut message = PublishMessage::build()
            .payload(message.into())
            .expected_stream(stream)
            .expected_last_subject_sequence(last);
        if let Some(id) = id {
            message = message.message_id(id);
        }
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
            Err(error) => Err(self.away(error)),
        }
    }

    /// Something that may be otherwise the next time.
    pub(super) fn away(&self, reason: impl ToString) -> FleetError {
        // Without a connection every answer is late.
        let reason = locked(&self.why)
            .clone()
            .unwrap_or_else(|| reason.to_string());
        FleetError::Away {
            broker: self.url.to_string(),
            reason,
        }
    }

    /// Waits until what was sent has left.
    pub(super) async fn close(self) {
        // It has been acknowledged already, or was given up.
        let _ = tokio::time::timeout(SHORTEST, self.client.flush()).await;
    }
}

/// Why a stream that is there would lose messages, or not keep them in order, if it would.
fn unfit(config: &Config, wanted: RetentionPolicy) -> Option<&'static str> {
    let limited = config.max_bytes > 0 || config.max_messages > 0;
    if config.retention != wanted {
        Some(match wanted {
            RetentionPolicy::WorkQueue => "its retention is not `workqueue`",
            _ => "its retention is not `limits`: it would not keep what nobody waits for",
        })
    } else if config.max_messages_per_subject > 0 {
        Some("max_msgs_per_subject: it would keep only some of a run's messages")
    } else if config.discard != DiscardPolicy::New && limited {
        Some("discard is not `new`: full, it would drop messages that nobody has seen")
    } else if config.no_ack {
        Some("no_ack: it does not say what it has stored")
    } else {
        None
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
