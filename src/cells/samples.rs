//! Cells for the compiler: to calibrate a network on, and to compare it on.

use super::input::{Block, Choice, open};
use super::model::Kind;
use super::prepare::{DETECTED_CELLS, Profile, detect};
use super::run::RunError;
use super::tokens::Tokens;
use crate::model::ModelError;
use crate::model::genes::join;
use crate::model::manifest::Manifest;
use std::path::Path;

/// Cells that are used of an input.
const MOST: usize = 256;

/// The first cells of an input as words ([`join`]), for a manifest whose vocabulary is `names`.
///
/// # Errors
/// Where the input is wrong, or has too little of the vocabulary.
pub fn samples(
    path: &Path,
    manifest: &Manifest,
    names: &[&str],
) -> Result<Vec<Vec<u32>>, RunError> {
    let file = path.display().to_string();
    let tokens = Tokens::new(manifest, names).map_err(|reason| ModelError::Manifest {
        file: manifest.name.clone(),
        reason,
    })?;
    let mut source = open(path, &Choice::default())?;
    let matching = tokens.matching(source.genes());
    let matching = matching.map_err(|source| RunError::Genes { file, source })?;
    let (mut block, mut all, mut profile) = (Block::default(), vec![], Profile::default());
    source.next(&mut block, DETECTED_CELLS)?;
    let preparation = tokens.preparation(detect(&block.values), None, &[]);
    for cell in 0..block.len().min(MOST) {
        let (_, genes, values) = block.cell(cell);
        let prepared = preparation.prepare(genes, values, &matching, &mut profile);
        if prepared.is_err() {
            continue;
        }
        // A gene in turn, where the network asks which one is perturbed.
        let mut flags = vec![0; profile.ids.len()];
        if manifest.task == Kind::Perturbation.task() {
            flags[cell % profile.ids.len()] = 1;
        }
        all.push(join(&profile.ids, &profile.values, &flags));
    }
    Ok(all)
}
