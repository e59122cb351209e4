//! `replay`: a flow cell in a box.

use super::{CliError, FlowCellArguments, ReplayArguments};
use crate::lab::replay::{
    Bursts, FastqStream, FlowCell, FlowCellConfig, Folder, OverLink, Target, load, play,
};
use crate::reads::source::Input;
use crate::stream::link::Sender;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a host is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

impl FlowCellArguments {
    /// The schedule that the arguments ask for.
    pub(super) fn config(&self, speed: f64, duration: Option<f64>) -> FlowCellConfig {
        FlowCellConfig {
            channels: self.channels,
            rate: self.rate,
            chunk: self.chunk as usize,
            pause: self.pause,
            speed,
            seed: self.seed,
            duration,
        }
    }
}

pub(super) fn run(arguments: &ReplayArguments, quiet: bool) -> Result<(), CliError> {
    let reads = load(Input::from_argument(&arguments.reads));
    let reads = reads.map_err(|e| CliError::Input(e.to_string()))?;
    if reads.is_empty() {
        let message = format!("{}: no reads", arguments.reads.display());
        return Err(CliError::Input(message));
    }
    let config = arguments.cell.config(arguments.speed, arguments.duration);
    let cell = FlowCell::new(reads.into(), config);
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    if let Err(error) = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)) {
        log::warn!("Ctrl-C will end the program at once: {error}");
    }
    let failed = CliError::io(&arguments.to);
    let url = arguments.to.to_str().filter(|text| text.contains("://"));
    let mut over_link = None;
    let mut target: Box<dyn Target + '_> = if let Some(url) = url {
        let sender = Sender::connect(url, PATIENCE);
        let sender = sender.map_err(|e| CliError::Input(format!("{url}: {e}")))?;
        Box::new(over_link.insert(OverLink::new(sender, stop.clone())))
    } else if arguments.to.as_os_str() == "-" {
        let out = io::stdout().lock();
        let seed = arguments.cell.seed;
        Box::new(FastqStream::new(Bursts::new(out, arguments.bursts, seed)))
    } else if arguments.bursts.is_some() {
        let message = "--bursts breaks streams, not files".to_string();
        return Err(CliError::Usage(message));
    } else {
        let per_file = arguments.reads_per_file;
        Box::new(Folder::new(&arguments.to, per_file, arguments.gzip).map_err(&failed)?)
    };
    let played = play(cell, &mut *target, &stop).map_err(failed)?;
    drop(target);
    if !quiet {
        eprintln!(
            "played   {} reads, {} to their end, {} bases; {:.1?} late at most",
            played.reads, played.complete, played.bases, played.latest
        );
        if let Some(link) = over_link {
            let (calls, ejected) = (link.calls(), link.ejected());
            eprintln!("heard    {calls} calls, {ejected} reads ejected");
        }
    }
    Ok(())
}
