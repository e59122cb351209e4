//! `replay`: a flow cell in a box.

use super::arguments::replay::ReplayArguments;
use super::arguments::values::is_link;
use super::error::CliError;
use super::guard::Files;
use super::interrupt::Interrupt;
use super::report::note;
use crate::lab::replay::{
    Bursts, FastqStream, FlowCell, FlowCellConfig, Folder, OverLink, ReadData, Target, load, play,
};
use crate::reads::source::Input;
use crate::stream::link::{Sender, SenderError};
use firmware_bridge::MAX_NAME;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// How long a host is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// After so long a line says what is waited for.
const NOTED: Duration = Duration::from_secs(1);

/// What is played, and to whom.
struct ReplayPlan {
    reads: PathBuf,
    cell: FlowCellConfig,
    to: PathBuf,
    form: Form,
}

/// How reads leave.
enum Form {
    /// Chunk by chunk in frames, over the link of this URL.
    Link(String),
    /// As FASTQ on standard output, with bursts of broken bytes.
    Stream { bursts: Option<u64> },
    /// In files of a folder.
    Folder { reads_per_file: u64, gzip: bool },
}

impl ReplayPlan {
    fn new(arguments: ReplayArguments) -> Result<ReplayPlan, CliError> {
        Files::default().read([&arguments.reads]).check()?;
        let to = arguments.to;
        let form = if let Some(url) = to.to_str().filter(|_| is_link(&to)) {
            if arguments.bursts.is_some() {
                let message = "--bursts breaks FASTQ on standard output, not the frames of a link";
                return Err(CliError::usage(message));
            }
            Form::Link(url.to_string())
        } else if to.as_os_str() == "-" {
            Form::Stream {
                bursts: arguments.bursts,
            }
        } else if arguments.bursts.is_some() {
            return Err(CliError::usage("--bursts breaks streams, not files"));
        } else {
            Files::keep(&to, is_replayed)?;
            Form::Folder {
                reads_per_file: arguments.reads_per_file,
                gzip: arguments.gzip,
            }
        };
        Ok(ReplayPlan {
            reads: arguments.reads,
            cell: arguments.cell.config(arguments.speed, arguments.duration),
            to,
            form,
        })
    }
}

pub(super) fn run(arguments: ReplayArguments, quiet: bool) -> Result<(), CliError> {
    let plan = ReplayPlan::new(arguments)?;
    let reads = load(Input::from_argument(&plan.reads)).map_err(CliError::input)?;
    if reads.is_empty() {
        let message = format!("{}: no reads", plan.reads.display());
        return Err(CliError::Input(message));
    }
    if matches!(plan.form, Form::Link(_)) {
        let is_long = |read: &&ReadData| read.name.len() > MAX_NAME;
        let long = reads.iter().filter(is_long).count();
        if long > 0 {
            log::warn!("{long} reads have names of over {MAX_NAME} bytes: a link carries no more");
        }
    }
    let seed = plan.cell.seed;
    let cell = FlowCell::new(reads.into(), plan.cell);
    let interrupt = Interrupt::new();
    let stop = interrupt.stop.clone();
    let failed = CliError::io(&plan.to);
    let mut over_link = None;
    let mut target: Box<dyn Target + '_> = match plan.form {
        Form::Link(url) => {
            let sender = connect(&url, &interrupt, quiet)?;
            Box::new(over_link.insert(OverLink::new(sender, stop.clone())))
        }
        Form::Stream { bursts } => {
            let out = io::stdout().lock();
            Box::new(FastqStream::new(Bursts::new(out, bursts, seed)))
        }
        Form::Folder {
            reads_per_file,
            gzip,
        } => Box::new(Folder::new(&plan.to, reads_per_file, gzip).map_err(&failed)?),
    };
    let played = play(cell, &mut *target, &stop).map_err(&failed)?;
    drop(target);
    if !quiet {
        note(format_args!(
            "played   {} reads, {} to their end, {} bases; {:.1?} late at most",
            played.reads, played.complete, played.bases, played.latest
        ));
        if let Some(link) = &over_link {
            let (calls, ejected) = (link.calls(), link.ejected());
            note(format_args!(
                "received {calls} calls, {ejected} reads ejected"
            ));
        }
    }
    if stop.load(SeqCst) {
        return Err(CliError::Stopped(interrupt.exit_code()));
    }
    match over_link.as_ref().and_then(OverLink::undelivered) {
        Some(what) => {
            let to = plan.to.display();
            Err(CliError::Input(format!(
                "{to}: not all was delivered: {what}"
            )))
        }
        None => Ok(()),
    }
}

/// Waits for a host, until a signal ends the wait.
fn connect(url: &str, interrupt: &Interrupt, quiet: bool) -> Result<Sender, CliError> {
    let (begun, mut noted) = (Instant::now(), quiet);
    loop {
        let error = match Sender::connect(url, Duration::ZERO) {
            Ok(sender) => return Ok(sender),
            Err(error) => error,
        };
        if interrupt.stop.load(SeqCst) {
            return Err(CliError::Stopped(interrupt.exit_code()));
        }
        if begun.elapsed() >= PATIENCE || matches!(error, SenderError::Url(_)) {
            return Err(CliError::Input(format!("{url}: {error}")));
        }
        if !noted && begun.elapsed() >= NOTED {
            note(format_args!(
                "waiting {} s for {url}: {error}",
                PATIENCE.as_secs()
            ));
            noted = true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// True for names that a folder's files have.
fn is_replayed(name: &str) -> bool {
    name.starts_with("reads_") && name.contains(".fastq")
}
