//! `--publish`: what a run writes goes to a broker, too, and what is no call with it.

use super::arguments::annotate::AnnotateArguments;
use super::error::CliError;
use super::output::{Target, part_of};
use crate::fleet::{BrokerUrl, Outbox, Publisher, is_token, without_password};
use crate::stream::follow::{journal_of, options_of};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// After the end of a run, how long nothing may go on before what is left is left to
/// `strandline publish`.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same of a run that was stopped.
const STOPPED: Duration = Duration::from_secs(5);

/// The fields that say whose lines they are.
const RUN: &str = "run";
const SOURCE: &str = "source";

/// Where the lines of a run are published, and under which names.
#[derive(Debug)]
pub(super) struct Publication {
    broker: BrokerUrl,
    run: String,
    source: String,
    /// From when the output was opened until the run's end.
    publisher: Mutex<Option<Publisher>>,
}

impl Publication {
    /// What the arguments ask for, if they do. The names become labels, unless they are such
    /// already.
    pub(super) fn new(arguments: &mut AnnotateArguments) -> Result<Option<Publication>, CliError> {
        let Some(url) = &arguments.publish else {
            return Ok(None);
        };
        let broker = url.parse();
        let broker = broker.map_err(|error| {
            let url = without_password(url);
            CliError::Usage(format!("--publish {url}: {error}"))
        })?;
        let before = match (&arguments.follow, &arguments.output) {
            (Some(_), Some(output)) => {
                let journal = arguments.journal.clone();
                options_of(&journal.unwrap_or_else(|| journal_of(output)))
            }
            _ => None,
        };
        let mut named = |key: &str, default: fn() -> String| {
            let given = arguments.labels.iter().find(|(own, _)| own == key);
            let name = match given {
                Some((_, name)) => name.clone(),
                None => {
                    let before = before.as_deref().and_then(|text| journalled(text, key));
                    let name = before.map_or_else(default, str::to_owned);
                    arguments.labels.push((key.to_owned(), name.clone()));
                    name
                }
            };
            if is_token(&name) {
                return Ok(name);
            }
            Err(CliError::Usage(format!(
                "--label {key}={name}: --publish needs a name of up to 64 letters, digits, '-' and \
                 '_' there"
            )))
        };
        Ok(Some(Publication {
            run: named(RUN, some_run)?,
            source: named(SOURCE, this_machine)?,
            broker,
            publisher: Mutex::new(None),
        }))
    }

    /// Starts to publish what `file` holds and gets, up to what is `settled`.
    pub(super) fn start(
        &self,
        file: Option<&Path>,
        settled: Arc<AtomicU64>,
    ) -> Result<(), CliError> {
        let Some(file) = file else {
            let message = "--publish sends what stands in a file, and the output is none";
            return Err(CliError::usage(message));
        };
        let outbox = Outbox::open(file, &self.run, &self.source, settled);
        let publisher = outbox.and_then(|outbox| Publisher::start(outbox, self.broker.clone()));
        *self.publisher() = Some(publisher.map_err(CliError::input)?);
        Ok(())
    }

    fn publisher(&self) -> MutexGuard<'_, Option<Publisher>> {
        self.publisher
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes the rest of what a run wrote to `output`; false where the broker has not all of
    /// it, which is logged.
    pub(super) fn end(&self, output: &Target, stop: &AtomicBool) -> bool {
        let publisher = self.publisher().take();
        let (Some(publisher), Some(file)) = (publisher, output.path()) else {
            return true;
        };
        let part = part_of(file);
        let file = if part.exists() { &part } else { file };
        // A run that was stopped, which is the end of some, is not to go on for long; and while
        // another waits, it can be.
        let stopped = stop.load(Ordering::SeqCst);
        let patience = if stopped { STOPPED } else { PATIENCE };
        let give_up = || !stopped && stop.load(Ordering::SeqCst);
        let Ok(published) = publisher.finish(patience, give_up) else {
            // It was said when it happened.
            return false;
        };
        if !published.is_all() {
            let (file, left) = (file.display(), published.of - published.bytes);
            let (all, broker) = (published.of, &self.broker);
            let reason = published.reason.as_deref().unwrap_or("it takes no more");
            log::error!(
                "{broker}: {reason}; {left} of the {all} bytes of {file} are not published: \
                 strandline publish {file} {broker} sends them"
            );
        }
        published.is_all()
    }
}

/// A label in the options that a journal keeps.
fn journalled<'a>(options: &'a str, key: &str) -> Option<&'a str> {
    let start = format!("label {key}=\"");
    let words = options.split(", ");
    let value = words.filter_map(|word| word.strip_prefix(&start)).next()?;
    value.strip_suffix('"')
}

/// A name that no other run has.
fn some_run() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let seed = format!("{now:?} {} {}", std::process::id(), this_machine());
    blake3::hash(seed.as_bytes()).to_hex()[..16].to_owned()
}

/// This machine's name, up to its first dot.
fn this_machine() -> String {
    let names = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let name = names.iter().find_map(|path| {
        let name = std::fs::read_to_string(path).ok()?;
        let name = name.trim().split('.').next()?.to_owned();
        is_token(&name).then_some(name)
    });
    name.unwrap_or_else(|| "strandline".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_from_a_journal_and_new_ones_differ() {
        let options = "format jsonl, tier Auto, label run=\"r-1\", label source=\"box\"";
        assert_eq!(journalled(options, RUN), Some("r-1"));
        assert_eq!(journalled(options, SOURCE), Some("box"));
        assert_eq!(journalled(options, "sample"), None);
        assert!(is_token(&some_run()) && is_token(&this_machine()));
        assert_ne!(some_run(), some_run());
    }
}
