//! One sequence on several threads: each takes a part of its tiles.

use super::error::ModelError;
use super::graph::Model;
use super::runner::Runner;
use crossbeam::thread;

/// A model with a worker for each of several threads. Rows of a sequence do not depend on how many
/// there are.
#[derive(Debug)]
pub struct Parallel {
    runners: Vec<Runner>,
    multiple: usize,
    columns: usize,
    output: Vec<f32>,
}

impl Parallel {
    /// Workers for `threads` threads.
    ///
    /// # Errors
    /// Where the model cannot be run, or its output is no rows.
    pub fn new(model: &Model, threads: usize) -> Result<Parallel, ModelError> {
        let runners = (0..threads.max(1)).map(|_| model.spawn());
        Ok(Parallel {
            runners: runners.collect::<Result<_, _>>()?,
            multiple: model.manifest().multiple,
            columns: model.manifest().outputs.len(),
            output: Vec::new(),
        })
    }

    /// Runs the model on `codes` as [`Runner::run`] does, on all threads.
    ///
    /// # Errors
    /// As [`Runner::run_range`].
    pub fn run(&mut self, codes: &[u8]) -> Result<&[f32], ModelError> {
        self.output.resize(codes.len() * self.columns, 0.0);
        let part = codes.len().div_ceil(self.runners.len()).max(1);
        let part = part.next_multiple_of(self.multiple);
        let parts = self.output.chunks_mut(part * self.columns);
        let work = self.runners.iter_mut().zip(parts).enumerate();
        let results = thread::scope(|scope| {
            let threads: Vec<_> = work
                .map(|(number, (runner, out))| {
                    let from = number * part;
                    let to = (from + part).min(codes.len());
                    scope.spawn(move |_| runner.run_range(codes, from..to, out))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join())
                .collect::<Vec<_>>()
        });
        for result in results.into_iter().flatten() {
            // A worker that panics has met a mistake of ours, which is passed on.
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(&self.output)
    }
}
