//! Chunks out of a queue, and answers to them.

use super::broker::{Broker, Sent, patiently, runtime};
use super::error::FleetError;
use super::queue::{Label, answers_of, join, split, subject_of};
use super::url::{BrokerUrl, is_token};
use async_nats::jetstream::AckKind;
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::stream::RetentionPolicy;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A chunk whose worker has said nothing for so long goes to another one.
const CLAIM: Duration = Duration::from_secs(10);

/// How long to wait for a chunk before looking whether to go on waiting.
const WAIT: Duration = Duration::from_secs(1);

/// The claims on chunks: all workers share them.
const CONSUMER: &str = "workers";

/// What was found in a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Lines, without a header.
    pub lines: Vec<u8>,
    /// Records in and out.
    pub records: u64,
    /// Records that were bad.
    pub rejected: u64,
}

/// What stands before an answer's lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) job: String,
    pub(super) chunk: u64,
    /// Of the chunk's records.
    pub(super) reads: String,
    /// What the lines depend on besides: models and options.
    pub(super) options: String,
    pub(super) format: String,
    pub(super) records: u64,
    pub(super) rejected: u64,
    /// Why there are no lines.
    pub(super) error: Option<String>,
}

impl Head {
    pub(super) fn of(message: &[u8]) -> Option<Head> {
        serde_json::from_slice(split(message)?.0).ok()
    }
}

/// What tells chunks apart.
pub(super) fn digest(records: &[u8]) -> String {
    blake3::hash(records).to_hex().to_string()
}

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Worked {
    /// Chunks that it answered.
    pub chunks: u64,
    /// Of these, those without an answer but an error.
    pub failed: u64,
}

/// Takes chunks from the queue that `url` names and gives each one's records, as FASTA, to
/// `annotate`, until `stop` is set or nothing has come for `until_idle`. `options` says what the
/// answers depend on, `format` what they are. Waits while the broker is away.
///
/// # Errors
/// Where the broker refuses the worker.
pub fn work<F>(
    url: &BrokerUrl,
    (options, format): (&str, &str),
    annotate: F,
    until_idle: Option<Duration>,
    stop: &AtomicBool,
) -> Result<Worked, FleetError>
where
    F: Fn(Vec<u8>) -> Result<Answer, String> + Send + Sync + 'static,
{
    runtime()?.block_on(async {
        let broker = Broker::open(url).await?;
        let mut worker = Worker {
            answers: answers_of(&url.stream),
            broker: &broker,
            options,
            format,
            annotate: Arc::new(annotate),
            stop,
            worked: Worked::default(),
        };
        let mut last = Instant::now();
        let mut away = None;
        while !stop.load(Ordering::SeqCst) && until_idle.is_none_or(|most| last.elapsed() < most) {
            match worker.next().await {
                Ok(true) => (last, away) = (Instant::now(), None),
                Ok(false) => away = None,
                Err(error @ FleetError::Away { .. }) => {
                    if away.is_none() {
                        log::warn!("{error}; waiting");
                    }
                    away = Some(error);
                    tokio::time::sleep(WAIT).await;
                }
                Err(error) => return Err(error),
            }
        }
        let worked = worker.worked;
        broker.close().await;
        match away {
            // Nobody knows whether there was something to do.
            Some(error) if !stop.load(Ordering::SeqCst) => Err(error),
            _ => Ok(worked),
        }
    })
}

struct Worker<'a, F> {
    broker: &'a Broker,
    answers: String,
    options: &'a str,
    format: &'a str,
    annotate: Arc<F>,
    stop: &'a AtomicBool,
    worked: Worked,
}

impl<F: Fn(Vec<u8>) -> Result<Answer, String> + Send + Sync + 'static> Worker<'_, F> {
    /// Takes chunks and answers them, until there is none; false where there was none at all.
    async fn next(&mut self) -> Result<bool, FleetError> {
        let away = |error: &dyn std::fmt::Display| self.broker.away(error.to_string());
        let (limits, queue) = (RetentionPolicy::Limits, RetentionPolicy::WorkQueue);
        let queue = self.broker.existing(self.broker.stream(), queue).await?;
        let consumer: PullConsumer = queue
            .get_or_create_consumer(
                CONSUMER,
                Config {
                    durable_name: Some(CONSUMER.into()),
                    ack_policy: AckPolicy::Explicit,
                    ack_wait: CLAIM,
                    max_ack_pending: 10_000,
                    ..Config::default()
                },
            )
            .await
            .map_err(|error| away(&error))?;
        let answered = self.broker.existing(&self.answers, limits).await?;
        let room = self.broker.room(&answered)?;
        let mut any = false;
        loop {
            let fetched = consumer.fetch().max_messages(1).expires(WAIT);
            let mut fetched = fetched.messages().await.map_err(|error| away(&error))?;
            let Some(message) = fetched.next().await else {
                return Ok(any);
            };
            let message = message.map_err(|error| away(&error))?;
            self.one(message, room).await?;
            any = true;
            if self.stop.load(Ordering::SeqCst) {
                return Ok(true);
            }
        }
    }

    /// Answers a chunk, and lets it go when the answer is there.
    async fn one(&mut self, message: Message, room: usize) -> Result<(), FleetError> {
        let parts = split(&message.payload)
            .and_then(|(head, records)| Some((serde_json::from_slice(head).ok()?, records)));
        // Only what stands where its label says.
        let parts = parts.filter(|(Label { job, chunk }, _)| {
            is_token(job) && *message.subject == subject_of(self.broker.stream(), job, *chunk)
        });
        let Some((Label { job, chunk }, records)) = parts else {
            let subject = &message.subject;
            log::error!("{subject}: a message that is no chunk was taken out of the queue");
            let term = message.double_ack_with(AckKind::Term).await;
            return term.map_err(|error| self.broker.away(error));
        };
        let reads = digest(records);
        let answer = self.held(&message, records.to_vec()).await?;
        let subject = subject_of(&self.answers, &job, chunk);
        let mut head = Head {
            job,
            chunk,
            reads,
            options: self.options.to_owned(),
            format: self.format.to_owned(),
            records: 0,
            rejected: 0,
            error: None,
        };
        let mut lines = vec![];
        match answer {
            Ok(answer) if answer.lines.len() <= room => {
                (head.records, head.rejected) = (answer.records, answer.rejected);
                lines = answer.lines;
            }
            Ok(_) => {
                let error = FleetError::TooLong {
                    what: "the answer".into(),
                    limit: room,
                };
                head.error = Some(error.to_string());
            }
            Err(error) => head.error = Some(error),
        }
        if let Some(error) = &head.error {
            log::error!("job {}, chunk {chunk}: {error}", head.job);
            self.worked.failed += 1;
        }
        let body = join(&head, &lines)?;
        let publish = || {
            self.broker
                .publish(&self.answers, &subject, body.clone(), None, 0)
        };
        let stopped = || self.stop.load(Ordering::SeqCst);
        let sent = self
            .held_while(&message, patiently(publish, stopped))
            .await?;
        match sent {
            Sent::Stored(_) => self.worked.chunks += 1,
            // Another worker was given the chunk when this one was thought dead.
            Sent::Refused => log::info!("job {}, chunk {chunk}: was answered", head.job),
        }
        // Twice: the broker says that it knows.
        let acknowledged = message.double_ack().await;
        acknowledged.map_err(|error| self.broker.away(error))
    }

    /// Works on records on a thread of their own.
    async fn held(
        &self,
        message: &Message,
        records: Vec<u8>,
    ) -> Result<Result<Answer, String>, FleetError> {
        let annotate = self.annotate.clone();
        let working = tokio::task::spawn_blocking(move || annotate(records));
        let done = self
            .held_while(message, async { Ok(working.await) })
            .await?;
        Ok(match done {
            Ok(answer) => answer,
            Err(died) => Err(format!("internal error: {died}")),
        })
    }

    /// Keeps the claim on a chunk until something is done.
    async fn held_while<T>(
        &self,
        message: &Message,
        done: impl Future<Output = Result<T, FleetError>>,
    ) -> Result<T, FleetError> {
        let mut done = std::pin::pin!(done);
        loop {
            match tokio::time::timeout(CLAIM / 3, &mut done).await {
                Ok(done) => return done,
                // Where it does not get through, another worker takes the chunk, and one answer of
                // the two is refused.
                Err(_) => drop(message.ack_with(AckKind::Progress).await),
            }
        }
    }
}
