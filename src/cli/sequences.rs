//! Sequences that models take as they are: bases, or token ids.

use super::error::CliError;
use super::records::each_record;
use crate::annotate::Intake;
use crate::model::manifest::{Manifest, Tokeniser};
use std::fs;
use std::io::Read;
use std::path::Path;

/// Sequences of a file as a model reads them: ids as they stand there, or bases of FASTA, FASTQ or
/// with one sequence a line, or the tokens of such bases, window by window.
pub(super) fn samples(path: &Path, manifest: &Manifest) -> Result<Vec<Vec<u32>>, CliError> {
    if manifest.tokeniser == Tokeniser::Ids {
        return token_lines(path);
    }
    let bases = bases(path)?;
    let intake = Intake::of(manifest).map_err(CliError::Input)?;
    let Some((intake, vocabulary)) = intake.and_then(|i| Some((i.clone(), i.vocabulary()?))) else {
        return Ok(bases);
    };
    let mut all = vec![];
    for sequence in bases {
        let codes: Vec<u8> = sequence.iter().map(|&code| code as u8).collect();
        let windows = intake.windows(codes.len(), Some(intake.sequence().longest));
        for range in windows.ranges() {
            let mut ids = vec![];
            vocabulary.encode(&codes[range], &mut ids);
            all.push(ids);
        }
    }
    Ok(all)
}

/// Base codes of FASTA, FASTQ, or of lines of letters.
fn bases(path: &Path) -> Result<Vec<Vec<u32>>, CliError> {
    // Looked at, then read: a pipe gives its bytes once.
    let standard = path.as_os_str() == "-";
    if !standard && !fs::metadata(path).map_err(CliError::io(path))?.is_file() {
        let message = format!("{}: is no file", path.display());
        return Err(CliError::Input(message));
    }
    let mut first = [0u8; 1];
    let mut letters = 0;
    if !standard {
        let mut file = fs::File::open(path).map_err(CliError::io(path))?;
        letters = file.read(&mut first).map_err(CliError::io(path))?;
    }
    if letters == 1 && first[0].is_ascii_alphabetic() {
        let text = fs::read_to_string(path).map_err(CliError::io(path))?;
        let code = |letter: u8| u32::from(crate::reads::nucleotide::code(letter));
        return Ok(text
            .lines()
            .map(|line| line.bytes().map(code).collect())
            .collect());
    }
    let mut all = vec![];
    each_record(path, |_, _, codes| {
        all.push(codes.iter().map(|&code| u32::from(code)).collect());
        Ok(())
    })?;
    Ok(all)
}

/// Token ids of a text file, one sequence a line, blanks between ids.
fn token_lines(path: &Path) -> Result<Vec<Vec<u32>>, CliError> {
    let text = fs::read_to_string(path).map_err(CliError::io(path))?;
    let parse = |(number, line): (usize, &str)| {
        let ids = line.split_whitespace().map(str::parse::<u32>);
        ids.collect::<Result<Vec<u32>, _>>()
            .map_err(|e| CliError::Input(format!("{}: line {}: {e}", path.display(), number + 1)))
    };
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty())
        .map(parse)
        .collect()
}
