//! Reads cut into chunks, and the chunks in a queue.

use super::broker::{Broker, Sent, patiently, runtime};
use super::error::FleetError;
use super::url::BrokerUrl;
use super::work::{Head, digest};
use crate::reads::fastx::{Chunk, Limits, Reader, RecordEnd, Reject, Step};
use crate::reads::nucleotide::letter;
use crate::reads::source::{Input, InputError};
use async_nats::jetstream::stream::Stream;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Bytes of reads in a chunk, unless one read has more.
const CHUNK: usize = 1 << 18;

/// What stands before the records of a chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    pub(super) job: String,
    /// From 1.
    pub(super) chunk: u64,
}

/// The last message of a job, behind the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// Chunks.
    pub chunks: u64,
    /// Records in them.
    pub records: u64,
    /// Records that were bad.
    pub rejected: u64,
    /// Records that are too long for a message.
    pub too_long: u64,
}

/// The stream of the answers to a queue.
pub(super) fn answers_of(stream: &str) -> String {
    format!("{stream}-answers")
}

/// The subject of a chunk, in the queue or among the answers.
pub(super) fn subject_of(stream: &str, job: &str, chunk: u64) -> String {
    format!("{stream}.{job}.{chunk}")
}

/// The subject of [`Filled`].
pub(super) fn end_of(answers: &str, job: &str) -> String {
    format!("{answers}.{job}.end")
}

/// The head of a message, one JSON object a line, and what follows.
pub(super) fn split(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = message.iter().position(|&byte| byte == b'\n')?;
    Some((&message[..end], &message[end + 1..]))
}

/// The same, joined.
pub(super) fn join<T: Serialize>(head: &T, body: &[u8]) -> Result<Vec<u8>, FleetError> {
    let mut message = serde_json::to_vec(head).map_err(|e| FleetError::Foreign(e.to_string()))?;
    message.push(b'\n');
    message.extend_from_slice(body);
    Ok(message)
}

/// Puts the records of `inputs` into the queue that `url` names, as the chunks of `job`. What is in
/// the queue already, or answered, is not put there again, so a job that broke off goes on; waits
/// while the queue is full or the broker away. Bad records are logged and counted.
///
/// # Errors
/// Of an input; where the job's chunks are of other reads.
pub fn fill(
    url: &BrokerUrl,
    job: &str,
    inputs: &[impl AsRef<Path>],
    limits: Limits,
) -> Result<Filled, FleetError> {
    // Before anything is in the queue.
    for input in inputs.iter().filter(|path| path.as_ref() != Path::new("-")) {
        let opened = Reader::open(Input::from_argument(input.as_ref()), limits, 0);
        opened.map_err(|error| FleetError::Foreign(error.to_string()))?;
    }
    runtime()?.block_on(async {
        let broker = Broker::open(url).await?;
        let never = || false;
        let queue = patiently(|| broker.queue(&url.stream), never).await?;
        let answers = answers_of(&url.stream);
        let answered = patiently(|| broker.calls(&answers), never).await?;
        let mut filler = Filler {
            room: broker.room(&queue)?,
            broker: &broker,
            queue,
            answered,
            answers,
            job: job.to_owned(),
            text: vec![],
            filled: Filled {
                chunks: 0,
                records: 0,
                rejected: 0,
                too_long: 0,
            },
        };
        for input in inputs {
            filler.file(input.as_ref(), limits).await?;
        }
        filler.send().await?;
        filler.end().await
    })
}

struct Filler<'a> {
    broker: &'a Broker,
    /// Bytes that go into a message.
    room: usize,
    queue: Stream,
    answered: Stream,
    answers: String,
    job: String,
    /// Records on their way into a chunk.
    text: Vec<u8>,
    filled: Filled,
}

impl Filler<'_> {
    async fn file(&mut self, path: &Path, limits: Limits) -> Result<(), FleetError> {
        let failed = |error: InputError| FleetError::Foreign(error.to_string());
        let mut reader = Reader::open(Input::from_argument(path), limits, 0).map_err(failed)?;
        let mut chunk = Chunk::with_capacity(limits.chunk_bases);
        let mut record = vec![];
        loop {
            match reader.next_chunk(&mut chunk).map_err(failed)? {
                Step::End => return Ok(()),
                Step::Rejected(reject) => self.reject(&reject),
                Step::Chunk => {
                    if chunk.first {
                        record.clear();
                        record.push(b'>');
                        record.extend_from_slice(&chunk.name);
                        record.push(b'\n');
                    }
                    // No more than what is refused anyway.
                    if record.len() <= self.room {
                        record.extend(chunk.codes.iter().map(|&code| letter(code)));
                    }
                    match chunk.end.take() {
                        None => {}
                        Some(RecordEnd::Rejected(reject)) => self.reject(&reject),
                        Some(RecordEnd::Complete) => {
                            record.push(b'\n');
                            self.record(&record).await?;
                        }
                    }
                }
            }
        }
    }

    fn reject(&mut self, reject: &Reject) {
        log::warn!("{reject}");
        self.filled.rejected += 1;
    }

    async fn record(&mut self, record: &[u8]) -> Result<(), FleetError> {
        if record.len() > self.room {
            let name = record[1..].split(|&byte| byte == b'\n').next();
            let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
            let error = FleetError::TooLong {
                what: format!("read {name}"),
                limit: self.room,
            };
            log::error!("{error}: it is not queued; annotate it by itself");
            self.filled.too_long += 1;
            return Ok(());
        }
        let most = CHUNK.min(self.room);
        if !self.text.is_empty() && self.text.len() + record.len() > most {
            self.send().await?;
        }
        self.text.extend_from_slice(record);
        self.filled.records += 1;
        Ok(())
    }

    /// Sends the chunk, unless it is there.
    async fn send(&mut self) -> Result<(), FleetError> {
        if self.text.is_empty() {
            return Ok(());
        }
        self.filled.chunks += 1;
        let chunk = self.filled.chunks;
        let label = Label {
            job: self.job.clone(),
            chunk,
        };
        let message = join(&label, &self.text)?;
        let this = &*self;
        patiently(|| this.place(chunk, &message), || false).await?;
        self.text.clear();
        Ok(())
    }

    async fn place(&self, chunk: u64, message: &[u8]) -> Result<(), FleetError> {
        let (stream, job) = (self.broker.stream(), &self.job);
        let subject = subject_of(stream, job, chunk);
        // In this order: an answer is there before its chunk goes.
        if let Some(waiting) = self.broker.last(&self.queue, &subject).await? {
            return self.same(waiting.payload == message, chunk);
        }
        let answer = subject_of(&self.answers, job, chunk);
        if let Some(answered) = self.broker.last(&self.answered, &answer).await? {
            let of = Head::of(&answered.payload).map(|head| head.reads);
            return self.same(of == Some(digest(&self.text)), chunk);
        }
        let sent = self
            .broker
            .publish(stream, &subject, message.to_vec(), None, 0)
            .await?;
        match sent {
            Sent::Stored(_) => Ok(()),
            Sent::Refused => Err(self.broker.away("the queue was filled by another, too")),
        }
    }

    fn same(&self, same: bool, chunk: u64) -> Result<(), FleetError> {
        if same {
            return Ok(());
        }
        Err(FleetError::Foreign(format!(
            "job {}: its chunk {chunk} is of other reads; give these a job of their own",
            self.job
        )))
    }

    /// Says how many chunks there are.
    async fn end(&self) -> Result<Filled, FleetError> {
        let subject = end_of(&self.answers, &self.job);
        let message = join(&self.filled, b"")?;
        let place = || async {
            if let Some(said) = self.broker.last(&self.answered, &subject).await? {
                return self.same(said.payload == message, self.filled.chunks);
            }
            let sent = self
                .broker
                .publish(&self.answers, &subject, message.clone(), None, 0)
                .await?;
            match sent {
                Sent::Stored(_) => Ok(()),
                Sent::Refused => Err(self.broker.away("the job was ended by another, too")),
            }
        };
        patiently(place, || false).await?;
        Ok(self.filled)
    }
}
