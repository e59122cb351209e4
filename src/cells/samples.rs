//! Cells for the compiler: to calibrate a network on, and to compare it on.

use super::input::{Block, Choice, open};
use super::model::Kind;
use super::prepare::{DETECTED_CELLS, Profile};
use super::run::{RunError, detected, matching};
use super::tokens::Tokens;
use crate::model::ModelError;
use crate::model::genes::join;
use crate::model::manifest::Manifest;
use std::path::Path;

/// Cells that are used of an input.
const MOST: usize = 256;
/// Cells that are used whatever their length.
const LEAST: usize = 8;
/// Tokens from which on no further cell is: the float network that a packed one is compared with
/// takes its time.
const MOST_TOKENS: usize = 40_000;

/// Which cells of an input are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// Some of the first ones, as many as a network is calibrated on; those that cannot be used are
    /// left out.
    Some,
    /// All of them.
    All,
}

/// Cells of an input as words ([`join`]), for a manifest whose vocabulary is `names`.
///
/// # Errors
/// Where the input is wrong, has too little of the vocabulary, or no cell that can be used; where
/// all cells are wanted, and one cannot be.
pub fn samples(
    path: &Path,
    manifest: &Manifest,
    names: &[&str],
    wanted: Cells,
) -> Result<Vec<Vec<u32>>, RunError> {
    let file = path.display().to_string();
    let tokens = Tokens::new(manifest, names).map_err(|reason| ModelError::Manifest {
        file: manifest.name.clone(),
        reason,
    })?;
    let mut source = open(path, &Choice::default())?;
    let matching = matching(&tokens, &mut *source)?;
    let (mut block, mut all, mut profile) = (Block::default(), vec![], Profile::default());
    let (mut refused, mut preparation) = (None, None);
    let (mut cells, mut length) = (0, 0);
    'blocks: while source.next(&mut block, DETECTED_CELLS)? {
        block.keep(&matching.kept);
        let preparation = preparation.get_or_insert_with(|| {
            let detected = detected(&block, &matching);
            tokens.preparation(detected.input, None, &[])
        });
        for cell in 0..block.len() {
            let enough = cells == MOST || (all.len() >= LEAST && length >= MOST_TOKENS);
            if enough && wanted == Cells::Some {
                break 'blocks;
            }
            let (name, genes, values) = block.cell(cell);
            cells += 1;
            let prepared = preparation.prepare(genes, values, &matching, &mut profile);
            if let Err(reason) = prepared {
                refused.get_or_insert_with(|| format!("cell {name}: {reason}"));
                continue;
            }
            length += profile.ids.len();
            // A gene and a perturbation in turn, where the network asks for these.
            let mut flags = vec![0; profile.ids.len()];
            if manifest.task == Kind::Perturbation.task() {
                let ways = tokens.cells().perturbations.len().max(1);
                flags[(cells - 1) % profile.ids.len()] = 1 + ((cells - 1) % ways) as u32;
            }
            all.push(join(&profile.ids, &profile.values, &flags));
        }
    }
    match refused {
        Some(reason) if all.is_empty() || wanted == Cells::All => Err(RunError::Unusable {
            file,
            cells,
            usable: all.len(),
            reason,
        }),
        None if all.is_empty() => Err(RunError::Empty { file }),
        _ => Ok(all),
    }
}
