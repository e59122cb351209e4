//! All cells of an input through a model, in their order.

use super::error::CellsError;
use super::genes::{GenesError, Matching};
use super::input::{Block, CellSource, Gene, TRANSPOSE};
use super::model::CellModel;
use super::prepare::{DETECTED_CELLS, Detected, Input, Preparation, Profile, Rejected, detect};
use super::tokens::Tokens;
use crate::model::{ModelError, Runner};
use std::sync::Mutex;

/// Cells of a block for each thread: enough that its end costs little.
const EACH: usize = 64;

/// How cells are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What values are; none for finding out.
    pub input: Option<Input>,
    /// For the published random rules of binning and of choosing genes.
    pub seed: Option<u64>,
    /// Threads, at least 1. They change nothing but the time.
    pub threads: usize,
}

/// Why a run ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The input is wrong.
    #[error(transparent)]
    Cells(#[from] CellsError),
    /// The model knows too little of the input.
    #[error("{file}: {source}{hint}")]
    Genes {
        /// The input.
        file: String,
        /// Why.
        source: Box<GenesError>,
        /// What may help; may be empty.
        hint: String,
    },
    /// Cells that are wanted cannot be used.
    #[error("{file}: {usable} of {cells} cells can be used; {reason}")]
    Unusable {
        /// The input.
        file: String,
        /// Cells that were looked at.
        cells: usize,
        /// Those that can be used.
        usable: usize,
        /// What is wrong with the first other one.
        reason: String,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There are no cells.
    #[error("{file}: no cells")]
    Empty {
        /// The input.
        file: String,
    },
}

/// What a run found, and how many cells there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cells that were wanted: the next two add up to it.
    pub cells: u64,
    /// Cells that the model said something of.
    pub scored: u64,
    /// Cells that cannot be used.
    pub rejected: u64,
    /// Those among them with a negative value.
    pub negative: u64,
    /// Columns of the input that the model knows.
    pub matched: usize,
    /// Columns of the input.
    pub columns: usize,
    /// Columns that are neither genes nor proteins that the model reads.
    pub others: usize,
    /// Proteins that it reads.
    pub proteins: usize,
    /// Columns that the model knows in upper case only.
    pub by_upper_case: usize,
    /// Genes that several columns are.
    pub merged: usize,
    /// What the values are.
    pub input: Option<Input>,
    /// How that was found; none where it was said.
    pub detected: Option<Detected>,
}

/// What came out of a cell.
#[derive(Debug)]
pub struct Scored<'a> {
    /// Its name in the input.
    pub name: &'a str,
    /// Tokens of the model, or why there are none.
    pub result: Result<Outcome<'a>, String>,
}

/// A cell that was run.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// Ids of its tokens.
    pub ids: &'a [u32],
    /// Values of its tokens.
    pub values: &'a [f32],
    /// What the network gave, `[outputs]` or `[tokens, outputs]`.
    pub outputs: &'a [f32],
}

/// A worker's state.
struct Worker {
    runner: Runner,
    profile: Profile,
    flags: Vec<u32>,
}

/// A cell's tokens and outputs, until it is its turn.
type Kept = Result<(Vec<u32>, Vec<f32>, Vec<f32>), Rejected>;

/// Genes that are perturbed in every cell, and the flag that says how. Where a cell has no such
/// token, it gets one, of value 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flagged<'a> {
    /// Ids.
    pub ids: &'a [u32],
    /// Their flag.
    pub flag: u32,
}

/// A run over an input.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The model.
    pub model: &'a CellModel,
    /// How cells are run.
    pub settings: &'a Settings,
    /// What is perturbed.
    pub flagged: Flagged<'a>,
}

/// Runs the cells of an input that `wanted` says by their name and values. `each` is called with
/// every one of these, in the order of the input.
///
/// # Errors
/// Where the input is wrong, or the model fails; an error of `each` is passed on.
pub fn run<E: From<RunError>>(
    job: Job,
    source: &mut dyn CellSource,
    mut wanted: impl FnMut(&str, &[f32]) -> bool,
    mut each: impl FnMut(Scored) -> Result<(), E>,
) -> Result<Tally, E> {
    let Job {
        model,
        settings,
        flagged,
    } = job;
    let threads = settings.threads.max(1);
    let file = source.name().to_string();
    let matching = matching(model.tokens(), source)?;
    let mut tally = Tally {
        matched: matching.matched,
        columns: match &matching.of_genes[..] {
            [] => matching.ids.len(),
            columns => columns.iter().filter(|gene| **gene).count(),
        },
        proteins: matching.proteins.len(),
        others: matching.others,
        by_upper_case: matching.by_upper_case,
        merged: matching.duplicates.len(),
        ..Tally::default()
    };
    let mut workers = vec![];
    for _ in 0..threads {
        workers.push(Mutex::new(Worker {
            runner: model.model().spawn().map_err(RunError::from)?,
            profile: Profile::default(),
            flags: vec![],
        }));
    }
    let mut block = Block::default();
    let mut preparation = None;
    // The first block is larger: it shows what the values are.
    let mut most = DETECTED_CELLS;
    let mut empty = true;
    while source.next(&mut block, most).map_err(RunError::from)? {
        empty = false;
        // What is no gene neither says what values are, nor makes a cell unusable.
        block.keep(&matching.kept);
        let preparation = preparation.get_or_insert_with(|| {
            let input = settings.input.unwrap_or_else(|| {
                let detected = detected(&block, &matching);
                tally.detected = Some(detected);
                detected.input
            });
            tally.input = Some(input);
            let tokens = model.tokens();
            tokens.preparation(input, settings.seed, flagged.ids)
        });
        most = EACH * threads;
        let cells = (0..block.len()).filter(|&cell| {
            let (name, _, values) = block.cell(cell);
            wanted(name, values)
        });
        let cells: Vec<usize> = cells.collect();
        for part in cells.chunks(EACH * threads) {
            let kept = score(&workers, part, &block, preparation, &matching, flagged)
                .map_err(RunError::from)?;
            for (&cell, kept) in part.iter().zip(&kept) {
                let (name, _, _) = block.cell(cell);
                tally.cells += 1;
                let result = match kept {
                    Ok((ids, values, outputs)) => {
                        tally.scored += 1;
                        Ok(Outcome {
                            ids,
                            values,
                            outputs,
                        })
                    }
                    Err(reason) => {
                        tally.rejected += 1;
                        tally.negative += u64::from(matches!(reason, Rejected::Negative { .. }));
                        Err(refusal(&file, name, reason, source.genes()))
                    }
                };
                each(Scored { name, result })?;
            }
        }
    }
    if empty {
        return Err(RunError::Empty { file }.into());
    }
    Ok(tally)
}

/// What the values of genes are, in a block.
pub(super) fn detected(block: &Block, matching: &Matching) -> Detected {
    let mut own = Block::default();
    let block = if matching.proteins.is_empty() {
        block
    } else {
        own.clone_from(block);
        own.keep(&matching.of_genes);
        &own
    };
    detect((0..block.len()).map(|cell| block.cell(cell).2))
}

/// Which columns of an input a model knows.
///
/// # Errors
/// Where these are too few. The input's first cells have been read then.
pub fn matching(tokens: &Tokens, source: &mut dyn CellSource) -> Result<Matching, RunError> {
    let error = match tokens.matching(source.genes()) {
        Ok(matching) => return Ok(matching),
        Err(error) => error,
    };
    let mut block = Block::default();
    let read = source.next(&mut block, DETECTED_CELLS);
    let hint = if read.is_ok() && tokens.are_genes(&block.names) {
        format!("; the cells have names of genes: {TRANSPOSE}")
    } else {
        String::new()
    };
    Err(RunError::Genes {
        file: source.name().to_string(),
        source: Box::new(error),
        hint,
    })
}

/// Scores cells of a block, in any order; gives them in theirs.
fn score(
    workers: &[Mutex<Worker>],
    cells: &[usize],
    block: &Block,
    preparation: &Preparation,
    matching: &Matching,
    flagged: Flagged,
) -> Result<Vec<Kept>, ModelError> {
    let each = cells.len().div_ceil(workers.len()).max(1);
    let own = |worker: &Mutex<Worker>, cells: &[usize]| -> Result<Vec<Kept>, ModelError> {
        let mut worker = worker.lock().unwrap_or_else(|broken| broken.into_inner());
        let all = cells.iter().map(|&cell| {
            let (_, genes, values) = block.cell(cell);
            worker.score(genes, values, preparation, matching, flagged)
        });
        all.collect()
    };
    if workers.len() == 1 {
        return own(&workers[0], cells);
    }
    std::thread::scope(|scope| {
        let parts = cells.chunks(each).zip(workers);
        let own = &own;
        let running: Vec<_> = parts
            .map(|(cells, worker)| scope.spawn(move || own(worker, cells)))
            .collect();
        let mut all = Vec::with_capacity(cells.len());
        for thread in running {
            match thread.join() {
                Ok(kept) => all.extend(kept?),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(all)
    })
}

impl Worker {
    fn score(
        &mut self,
        genes: &[u32],
        values: &[f32],
        preparation: &Preparation,
        matching: &Matching,
        flagged: Flagged,
    ) -> Result<Kept, ModelError> {
        let prepared = preparation.prepare(genes, values, matching, &mut self.profile);
        if let Err(reason) = prepared {
            return Ok(Err(reason));
        }
        let Profile { ids, values, .. } = &mut self.profile;
        self.flags.clear();
        if !flagged.ids.is_empty() {
            let measured = ids.len();
            for id in flagged.ids {
                if ids[..measured].contains(id) {
                    continue;
                }
                // It was not measured; the preparation has left room.
                ids.push(*id);
                values.push(0.0);
            }
            let flag = |id: &u32| {
                if flagged.ids.contains(id) {
                    flagged.flag
                } else {
                    0
                }
            };
            self.flags.extend(ids.iter().map(flag));
        }
        let outputs = self.runner.run_genes(ids, values, &self.flags)?;
        Ok(Ok((ids.clone(), values.clone(), outputs.to_vec())))
    }
}

/// Why a cell is left out, with the names of the file.
fn refusal(file: &str, cell: &str, reason: &Rejected, genes: &[Gene]) -> String {
    let gene = |column: u32| genes.get(column as usize).map_or("?", |gene| &gene.symbol);
    match *reason {
        Rejected::Negative { column, value } => {
            let what = format!("a value of {value}, which is negative");
            CellsError::value(file, cell, gene(column), what).to_string()
        }
        Rejected::NotFinite { column, value } => {
            let what = format!("a value of {value}");
            CellsError::value(file, cell, gene(column), what).to_string()
        }
        ref other => CellsError::cell(file, cell, other).to_string(),
    }
}

/// Probabilities of logits, with the same bits everywhere, largest first, ties by their order; with
/// the index of each.
pub fn ranked(logits: &[f32]) -> Vec<(usize, f32)> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights = logits.iter().map(|x| libm::exp(f64::from(x - top)));
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    let mut all: Vec<(usize, f32)> = weights
        .iter()
        .enumerate()
        .map(|(at, weight)| (at, (weight / sum) as f32))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first() {
        let all = ranked(&[0.0, 2.0, 0.0, 1.0]);
        let order: Vec<usize> = all.iter().map(|(at, _)| *at).collect();
        assert_eq!(order, [1, 3, 0, 2]);
        // e² / (e² + e + 2)
        assert!((all[0].1 - 0.610_296).abs() < 1e-6, "{all:?}");
        assert!((all.iter().map(|(_, p)| p).sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
