//! `motifs`: what positive sequences have in common where their scores depend on it.

use super::arguments::explain::MotifsArguments;
use super::error::CliError;
use super::explain::Explainer;
use super::guard::Files;
use super::output::{End, Target};
use super::records::each_record;
use super::report::note;
use crate::reads::nucleotide::letter;
use crate::sink::clean;
use crate::study::explain::mutagenesis::Place;
use crate::study::motifs::{self, MotifError, Scored, Settings, Strands};
use std::fs;
use std::io::Write;
use std::path::Path;

pub(super) fn run(arguments: MotifsArguments, quiet: bool) -> Result<(), CliError> {
    Files::default()
        .read([&arguments.positives, &arguments.negatives])
        .read(&arguments.model.model)
        .write([&arguments.output])
        .check()?;
    if let Some(folder) = &arguments.logos {
        Files::keep(folder, |name| name.ends_with(".svg"))?;
    }
    let settings = Settings {
        min_length: arguments.min_length,
        window: arguments.window,
        min_sites: arguments.min_sites,
        max_adjusted_p: arguments.max_p,
        strands: if arguments.both_strands {
            Strands::Both
        } else {
            Strands::Forward
        },
    };
    let mut explainer = Explainer::new(&arguments.model)?;
    let mut scored: Vec<(Vec<u8>, Vec<f32>)> = vec![];
    each_record(&arguments.positives, |_, name, codes| {
        for map in explainer.maps(&clean(name), codes, Place::Best)? {
            scored.push((letters(&map.codes), map.importance));
        }
        Ok(())
    })?;
    let mut negatives: Vec<Vec<u8>> = vec![];
    each_record(&arguments.negatives, |_, _, codes| {
        negatives.push(letters(codes));
        Ok(())
    })?;
    for (path, none) in [
        (&arguments.positives, scored.is_empty()),
        (&arguments.negatives, negatives.is_empty()),
    ] {
        if none {
            let message = format!("{}: no sequences to compare", path.display());
            return Err(CliError::Input(message));
        }
    }
    let positives: Vec<Scored<'_>> = scored
        .iter()
        .map(|(sequence, scores)| Scored { sequence, scores })
        .collect();
    let others: Vec<&[u8]> = negatives.iter().map(Vec::as_slice).collect();
    let found = motifs::find(&positives, &others, &settings).map_err(|error| match error {
        MotifError::Setting(_) => CliError::usage(error),
        other => CliError::input(other),
    })?;
    let target = Target::new(Some(arguments.output));
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    let all = positives.iter().map(|own| own.sequence).chain(others);
    let background = motifs::background(all, settings.strands);
    motifs::write_meme(&found, background, settings.strands, &mut out).map_err(failed)?;
    out.end(End::Complete).map_err(failed)?;
    if let Some(folder) = &arguments.logos {
        logos(folder, &found)?;
    }
    if !quiet {
        note(format_args!(
            "{} motifs in {} positive and {} negative sequences",
            found.len(),
            positives.len(),
            negatives.len()
        ));
    }
    Ok(())
}

fn letters(codes: &[u8]) -> Vec<u8> {
    codes.iter().map(|&code| letter(code)).collect()
}

fn logos(folder: &Path, found: &[motifs::Motif]) -> Result<(), CliError> {
    fs::create_dir_all(folder).map_err(CliError::io(folder))?;
    for (number, motif) in found.iter().enumerate() {
        let name = format!("{:03}.{}.svg", number + 1, motif.best.letters);
        let target = Target::File(folder.join(name));
        let failed = |source| target.failed(source);
        let mut out = target.open()?;
        out.write_all(motifs::logo_svg(motif).as_bytes())
            .map_err(failed)?;
        out.end(End::Complete).map_err(failed)?;
    }
    Ok(())
}
