//! The answers of a job, in order.

use super::broker::{Broker, patiently, runtime};
use super::error::FleetError;
use super::queue::{Filled, answers_of, end_of, split, subject_of};
use super::url::BrokerUrl;
use super::work::Head;
use async_nats::jetstream::stream::RetentionPolicy;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Between two looks for an answer that is not there.
const LOOK: Duration = Duration::from_millis(100);

/// So many of them, and somebody may have forgotten something.
const QUIET: u32 = 300;

/// What was collected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// Answers; all of them if the two numbers are equal.
    pub chunks: u64,
    /// The chunks of the job.
    pub of: u64,
    /// Records annotated.
    pub records: u64,
    /// Records that were bad, where they were queued or where they were annotated.
    pub rejected: u64,
    /// Records that were too long for the queue, and are in no answer.
    pub too_long: u64,
}

/// Waits for the answers of `job` and gives the lines of each to `take`, with the format's name, in
/// the order of the chunks; until `stop` is set.
///
/// # Errors
/// Where a chunk could not be annotated; where answers do not go together, since their workers had
/// other models or options; and [`FleetError::Output`] of `take`.
pub fn collect<F>(
    url: &BrokerUrl,
    job: &str,
    stop: &AtomicBool,
    mut take: F,
) -> Result<Collected, FleetError>
where
    F: FnMut(&str, &[u8]) -> io::Result<()>,
{
    runtime()?.block_on(async {
        let broker = Broker::open(url).await?;
        let answers = answers_of(&url.stream);
        let stopped = || stop.load(Ordering::SeqCst);
        let look = || broker.existing(&answers, RetentionPolicy::Limits);
        let stream = patiently(look, stopped).await?;
        // Asks for a message until it is there.
        let wait = async |subject: String| {
            let mut looks = 0;
            loop {
                let look = || broker.last(&stream, &subject);
                match patiently(look, stopped).await {
                    Ok(Some(message)) => return Ok(Some(message.payload)),
                    _ if stopped() => return Ok(None),
                    Ok(None) => tokio::time::sleep(LOOK).await,
                    Err(error) => return Err(error),
                }
                looks += 1;
                if looks == QUIET {
                    log::warn!("{url}: {subject} is not there yet: are there workers?");
                }
            }
        };
        let mut collected = Collected {
            chunks: 0,
            of: 0,
            records: 0,
            rejected: 0,
            too_long: 0,
        };
        let Some(end) = wait(end_of(&answers, job)).await? else {
            return Ok(collected);
        };
        let foreign = |what: &str| FleetError::Foreign(format!("job {job}: {what}"));
        let filled = split(&end).and_then(|(head, _)| serde_json::from_slice(head).ok());
        let filled: Filled = filled.ok_or_else(|| foreign("its end is no such message"))?;
        collected.of = filled.chunks;
        collected.rejected = filled.rejected;
        collected.too_long = filled.too_long;
        let mut first: Option<Head> = None;
        for chunk in 1..=filled.chunks {
            let Some(answer) = wait(subject_of(&answers, job, chunk)).await? else {
                break;
            };
            let head = Head::of(&answer).filter(|head| head.job == job && head.chunk == chunk);
            let (Some(head), Some((_, lines))) = (head, split(&answer)) else {
                return Err(foreign(&format!("the answer to chunk {chunk} is none")));
            };
            if let Some(error) = &head.error {
                return Err(foreign(&format!("chunk {chunk}: {error}")));
            }
            let first = first.get_or_insert_with(|| head.clone());
            if (&head.options, &head.format) != (&first.options, &first.format) {
                return Err(foreign(&format!(
                    "chunk {chunk} was annotated with {}, chunk 1 with {}: begin a new job, with \
                     the same models and options for all workers",
                    head.options, first.options
                )));
            }
            take(&head.format, lines).map_err(FleetError::Output)?;
            collected.chunks += 1;
            collected.records += head.records;
            collected.rejected += head.rejected;
        }
        Ok(collected)
    })
}
