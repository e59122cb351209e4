//! `clade`, and `--clade auto`: what the first megabase of reads tells.

use super::arguments::program::CladeArguments;
use super::error::CliError;
use super::output::say;
use super::plan::{Mode, Plan, journalled};
use super::report::note;
use crate::annotate::{Clade, CladeGuess, CladeGuesser, Task};
use crate::reads::fastx::{Chunk, Limits, Reader, Step};
use crate::reads::source::{Input, InputError};
use crate::stream::follow::{journal_of, options_of, reads_of};
use std::path::{Path, PathBuf};

/// Bases that are looked at.
const BASES: u64 = 1_000_000;

/// Bases that are looked at together.
const PART: usize = 100_000;

pub(super) fn run(arguments: &CladeArguments, quiet: bool) -> Result<(), CliError> {
    let mut failed = false;
    for path in &arguments.reads {
        let mut guesser = guesser()?;
        if let Err(error) = look_at(&mut guesser, path) {
            log::error!("{error}");
            failed = true;
        }
        match guesser.guess() {
            Some(guess) => {
                if !quiet {
                    note(in_words(&guess));
                }
                say!("{}\t{}\t{:.1}", path.display(), guess.clade, guess.margin);
            }
            None => {
                log::error!("{}: {}", path.display(), too_few(&guesser));
                failed = true;
            }
        }
    }
    if failed {
        return Err(CliError::Reported);
    }
    Ok(())
}

/// The clade of a plan that leaves it to the reads: to those of its files, one after the other,
/// until a megabase has been seen.
pub(super) fn of_plan(plan: &Plan) -> Result<Clade, CliError> {
    if !plan.models.tasks.contains(&Task::Splice) {
        let message = "--clade auto: no splice model, which it chooses, is in use";
        return Err(CliError::usage(message));
    }
    let files: Vec<PathBuf> = match &plan.mode {
        Mode::Batch { reads, .. } | Mode::Bam { reads, .. } => {
            reads.inputs().iter().map_while(file).collect()
        }
        Mode::Live(_) => vec![],
        Mode::Follow(follow) => {
            let own = follow.journal.clone();
            let journal = own.unwrap_or_else(|| journal_of(&follow.output));
            if let Some(options) = options_of(&journal) {
                return Ok(journalled(&options));
            }
            reads_of(&follow.folder)
        }
    };
    let follows = matches!(plan.mode, Mode::Follow(_));
    if files.is_empty() && !follows {
        return Err(CliError::Usage(format!(
            "--clade auto looks at a file before it is annotated, which standard input and live \
             sources do not allow: {NAME_IT} (`strandline clade READS` guesses it)"
        )));
    }
    let mut guesser = guesser()?;
    for path in &files {
        if let Err(error) = look_at(&mut guesser, path) {
            log::warn!("--clade auto: {error}");
        }
    }
    let Some(guess) = guesser.guess() else {
        let few = too_few(&guesser);
        return Err(CliError::Usage(format!("--clade auto: {few}: {NAME_IT}")));
    };
    log::warn!("--clade auto: {}", in_words(&guess));
    Ok(guess.clade)
}

const NAME_IT: &str = "name the clade, vertebrate, insect, nematode or plant";

fn guesser() -> Result<CladeGuesser, CliError> {
    CladeGuesser::new().map_err(CliError::input)
}

fn too_few(guesser: &CladeGuesser) -> String {
    format!("{} bases are too few to tell a clade from", guesser.bases())
}

/// The path of what can be read twice; that nothing is there is said when it is opened.
fn file(input: &Input) -> Option<PathBuf> {
    match input {
        Input::Path(path) if path.is_file() || !path.exists() => Some(path.clone()),
        _ => None,
    }
}

fn in_words(guess: &CladeGuess) -> String {
    let evidence = guess.evidence[1..].iter();
    let evidence: Vec<String> = evidence
        .map(|(clade, part)| format!("{clade} {part:.2}"))
        .collect();
    format!(
        "{}: {:.1} times as much speaks for it as for the next, in {} bases; short introns, as a \
         part of the usual: {}",
        guess.clade,
        guess.margin,
        guess.bases,
        evidence.join(", ")
    )
}

/// Looks at the first bases of a file, until a megabase of known ones has been seen in all.
fn look_at(guesser: &mut CladeGuesser, path: &Path) -> Result<(), String> {
    let failed = |error: InputError| error.to_string();
    let limits = Limits::default();
    let mut reader = Reader::open(Input::from_argument(path), limits, 0).map_err(failed)?;
    let mut chunk = Chunk::with_capacity(limits.chunk_bases);
    let mut codes: Vec<u8> = vec![];
    while guesser.bases() < BASES {
        match reader.next_chunk(&mut chunk).map_err(failed)? {
            Step::Chunk => {
                codes.extend_from_slice(&chunk.codes);
                // Long records in parts, which may cut an intron.
                if chunk.end.is_some() || codes.len() >= PART {
                    guesser.look_at(&codes).map_err(|error| error.to_string())?;
                    codes.clear();
                }
            }
            Step::Rejected(_) => {}
            Step::End => break,
        }
    }
    Ok(())
}
