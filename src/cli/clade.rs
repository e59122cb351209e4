//! `clade`, and `--clade auto`: what the first megabase of reads tells.

use super::arguments::program::CladeArguments;
use super::error::CliError;
use super::output::say;
use super::plan::{Mode, Plan, journalled};
use super::report::note;
use crate::annotate::{Clade, CladeGuess, CladeGuesser};
use crate::reads::fastx::{Chunk, Limits, Reader, Step};
use crate::reads::source::Input;
use crate::stream::follow::{journal_of, options_of, reads_of};
use std::path::Path;

/// Bases that are looked at.
const BASES: u64 = 1_000_000;

pub(super) fn run(arguments: &CladeArguments, quiet: bool) -> Result<(), CliError> {
    let mut guesser = CladeGuesser::new().map_err(CliError::input)?;
    for path in &arguments.reads {
        look_at(&mut guesser, path)?;
    }
    let Some(guess) = guesser.guess() else {
        return Err(CliError::Input("no reads to tell a clade from".to_string()));
    };
    if !quiet {
        note(told(&guess));
    }
    say!("{}\t{:.1}", guess.clade, guess.margin);
    Ok(())
}

/// The clade of a plan that leaves it to the reads.
pub(super) fn of_plan(plan: &Plan) -> Result<Clade, CliError> {
    let named = "name the clade: vertebrate, insect, nematode or plant";
    let path = match &plan.mode {
        Mode::Batch { inputs, .. } => inputs.first().and_then(file),
        Mode::Bam { input, .. } => file(input),
        Mode::Live(_) => None,
        Mode::Follow(follow) => {
            let own = follow.journal.clone();
            let journal = own.unwrap_or_else(|| journal_of(&follow.output));
            if let Some(options) = options_of(&journal) {
                return Ok(journalled(&options));
            }
            for file in reads_of(&follow.folder) {
                if let Some(clade) = guessed(&file)? {
                    return Ok(clade);
                }
            }
            return Err(CliError::Usage(format!(
                "--clade auto: {} holds no reads yet to tell it from: {named}",
                follow.folder.display()
            )));
        }
    };
    let Some(path) = path else {
        return Err(CliError::Usage(format!(
            "--clade auto looks at a file before it is annotated, which standard input and live \
             sources do not allow: {named} (`strandline clade READS` guesses it)"
        )));
    };
    guessed(path)?.ok_or_else(|| {
        let file = path.display();
        CliError::Input(format!("{file}: no reads to tell the clade from: {named}"))
    })
}

/// The path of what can be read twice; that nothing is there is said when it is opened.
fn file(input: &Input) -> Option<&Path> {
    match input {
        Input::Path(path) if path.is_file() || !path.exists() => Some(path),
        _ => None,
    }
}

/// What a file tells; `None` where it holds no bases.
fn guessed(path: &Path) -> Result<Option<Clade>, CliError> {
    let mut guesser = CladeGuesser::new().map_err(CliError::input)?;
    look_at(&mut guesser, path)?;
    let guess = guesser.guess();
    if let Some(guess) = &guess {
        log::warn!("--clade auto: {}", told(guess));
    }
    Ok(guess.map(|guess| guess.clade))
}

fn told(guess: &CladeGuess) -> String {
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

/// Looks at the first bases of a file, as far as they can be read.
fn look_at(guesser: &mut CladeGuesser, path: &Path) -> Result<(), CliError> {
    let limits = Limits::default();
    let opened = Reader::open(Input::from_argument(path), limits, 0);
    let mut reader = opened.map_err(CliError::input)?;
    let mut chunk = Chunk::with_capacity(limits.chunk_bases);
    let mut codes: Vec<u8> = vec![];
    let mut left = BASES;
    while left > 0 {
        // What is wrong with the file is said when it is annotated.
        match reader.next_chunk(&mut chunk) {
            Ok(Step::Chunk) => {
                let count = chunk.codes.len().min(left as usize);
                codes.extend_from_slice(&chunk.codes[..count]);
                left -= count as u64;
                if chunk.end.is_some() || left == 0 {
                    guesser.look_at(&codes).map_err(CliError::input)?;
                    codes.clear();
                }
            }
            Ok(Step::Rejected(_)) => {}
            Ok(Step::End) | Err(_) => break,
        }
    }
    Ok(())
}
