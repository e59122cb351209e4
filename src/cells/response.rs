//! What a perturbation changes: predicted profiles beside those of the control cells.

use super::run::Outcome;
use std::collections::BTreeMap;

/// Sums over cells, gene by gene.
#[derive(Debug, Clone, Default)]
pub struct Response {
    genes: BTreeMap<u32, Sums>,
}

/// Of one gene.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    cells: u64,
    control: f64,
    predicted: f64,
}

/// Means of one gene over all cells.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Its id.
    pub gene: u32,
    /// Mean value in the control cells, ln(1 + x) of normalised counts where the model reads these.
    pub control: f64,
    /// Mean of the predicted values.
    pub predicted: f64,
}

impl Change {
    /// Predicted less control.
    pub fn change(&self) -> f64 {
        self.predicted - self.control
    }
}

impl Response {
    /// Adds a cell of a network of [`Kind::Perturbation`](super::model::Kind::Perturbation), whose
    /// outputs are coefficient and bias of each token. Tokens in `unmeasured` stand for genes that
    /// the input has no column for, and are left out.
    pub fn add(&mut self, cell: &Outcome, unmeasured: &[u32]) {
        let tokens = cell.ids.iter().zip(cell.values);
        for ((id, value), output) in tokens.zip(cell.outputs.chunks_exact(2)) {
            if unmeasured.contains(id) {
                continue;
            }
            let value = f64::from(*value);
            let sums = self.genes.entry(*id).or_default();
            sums.cells += 1;
            sums.control += value;
            sums.predicted += f64::from(output[0]) * value + f64::from(output[1]);
        }
    }

    /// Every gene, by id.
    pub fn changes(&self) -> Vec<Change> {
        let genes = self.genes.iter();
        genes
            .map(|(gene, sums)| Change {
                gene: *gene,
                control: sums.control / sums.cells as f64,
                predicted: sums.predicted / sums.cells as f64,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_of_all_cells() {
        let mut response = Response::default();
        for (values, outputs) in [
            ([1.0, 0.0, 9.0], [1.0, 0.5, 2.0, 1.0, 0.0, 0.0]),
            ([3.0, 2.0, 9.0], [0.0, 0.5, 2.0, 1.0, 0.0, 0.0]),
        ] {
            let cell = Outcome {
                ids: &[4, 7, 9],
                values: &values,
                outputs: &outputs,
            };
            response.add(&cell, &[9]);
        }
        let changes = response.changes();
        assert_eq!(changes.len(), 2);
        // 1 · 1 + .5 and 0 · 3 + .5; 2 · 0 + 1 and 2 · 2 + 1.
        assert_eq!(
            (changes[0].gene, changes[0].control, changes[0].predicted),
            (4, 2.0, 1.0)
        );
        assert_eq!((changes[1].control, changes[1].predicted), (1.0, 3.0));
        assert_eq!(changes[1].change(), 2.0);
    }
}
