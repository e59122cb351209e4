//! Sequences that models take as they are: bases, token ids, or cells.

use super::error::CliError;
use super::records::each_record;
use crate::annotate::Intake;
use crate::model::manifest::{Manifest, Tokeniser};
use std::fs;
use std::io::Read;
use std::path::Path;

/// How many cells of an input are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    Some,
    All,
}

/// Sequences of a file as a model reads them: ids as they stand there, or bases of FASTA, FASTQ or
/// with one sequence a line, or the tokens of such bases, window by window; or cells, in genes of a
/// vocabulary. Of cells some of the first, unless all are wanted.
pub(super) fn samples(
    path: &Path,
    manifest: &Manifest,
    genes: &[&str],
    wanted: Amount,
) -> Result<Vec<Vec<u32>>, CliError> {
    if manifest.tokeniser == Tokeniser::Ids {
        return token_lines(path);
    }
    if manifest.tokeniser == Tokeniser::Genes {
        return match token_values(path)? {
            Some(all) => Ok(all),
            None => cells(path, manifest, genes, wanted),
        };
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

/// Cells of an input.
#[cfg(feature = "cells")]
fn cells(
    path: &Path,
    manifest: &Manifest,
    genes: &[&str],
    wanted: Amount,
) -> Result<Vec<Vec<u32>>, CliError> {
    use crate::cells::samples::{Cells, samples};
    let wanted = match wanted {
        Amount::Some => Cells::Some,
        Amount::All => Cells::All,
    };
    Ok(samples(path, manifest, genes, wanted)?)
}

#[cfg(not(feature = "cells"))]
fn cells(_: &Path, _: &Manifest, _: &[&str], _: Amount) -> Result<Vec<Vec<u32>>, CliError> {
    Err(CliError::usage(
        "this build reads no cells: build it with `cargo build --release --features full`",
    ))
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

/// Bytes among which the first id of a list of tokens ends.
const LONGEST_ID: u64 = 11;

/// Tokens of cells in a text file, one cell a line, blanks between tokens: `ID:VALUE` or
/// `ID:VALUE:FLAG`. None where the file is something else.
fn token_values(path: &Path) -> Result<Option<Vec<Vec<u32>>>, CliError> {
    if path.is_dir() {
        return Ok(None);
    }
    // What begins with a number and a colon is no other kind of cells.
    let mut bytes = vec![];
    let mut file = fs::File::open(path).map_err(CliError::io(path))?;
    let head = file.by_ref().take(LONGEST_ID).read_to_end(&mut bytes);
    head.map_err(CliError::io(path))?;
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit());
    if bytes.get(digits.count()) != Some(&b':') {
        return Ok(None);
    }
    let rest = file.read_to_end(&mut bytes);
    rest.map_err(CliError::io(path))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        CliError::Input(format!("{}: byte {at}: no text", path.display()))
    })?;
    let token = |token: &str| -> Option<[u32; 3]> {
        let mut parts = token.split(':');
        let id = parts.next()?.parse().ok()?;
        let value: f32 = parts.next()?.parse().ok()?;
        let flag = parts.next().map_or(Some(0), |flag| flag.parse().ok())?;
        parts
            .next()
            .is_none()
            .then_some([id, value.to_bits(), flag])
    };
    let cell = |(number, line): (usize, &str)| -> Result<Vec<u32>, CliError> {
        let mut words = vec![];
        for part in line.split_whitespace() {
            let token = token(part).ok_or_else(|| {
                let (path, line) = (path.display(), number + 1);
                CliError::Input(format!("{path}: line {line}: {part:?} is no ID:VALUE"))
            })?;
            words.extend(token);
        }
        Ok(words)
    };
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines.map(cell).collect::<Result<_, _>>().map(Some)
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
