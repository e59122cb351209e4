//! Cells of a matrix that is written gene by gene. A cell's values then stand all over the file, so
//! it is read several times: once to count what each cell has, and then once for every
//! [`AT_ONCE`] values, of which the right ones are kept.

use super::source::{Block, Order};
use crate::cells::error::CellsError;

/// Values that are held at once; 8 bytes each.
const AT_ONCE: u64 = 8 << 20;

/// Cells of such a matrix, at most: each needs 4 bytes beside its values.
pub(super) const MOST_CELLS: u64 = 1 << 24;

/// Entries that are handed over at once.
pub(super) const BATCH: usize = 1 << 14;

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    /// Its cell, from 0.
    pub(super) cell: u32,
    /// Its gene, from 0.
    pub(super) gene: u32,
    /// The value.
    pub(super) value: f32,
}

/// Values of a matrix in the order of its file, as often as is needed.
pub(super) trait Entries {
    /// Begins again.
    fn rewind(&mut self) -> Result<(), CellsError>;

    /// Replaces `batch` by the next entries, all within the matrix; false behind the last one.
    fn next(&mut self, batch: &mut Vec<Entry>) -> Result<bool, CellsError>;
}

/// Collects the values of cells.
pub(super) struct Gather<E> {
    file: String,
    entries: E,
    /// Values of each cell.
    counts: Vec<u32>,
    at_once: u64,
    /// The cells at hand, and where each one's values lie.
    first: usize,
    starts: Vec<usize>,
    genes: Vec<u32>,
    values: Vec<f32>,
    batch: Vec<Entry>,
    order: Order,
}

/// What stops a gatherer.
pub(super) enum Stopped {
    /// The input.
    Input(CellsError),
    /// This cell has the gene twice.
    Twice {
        /// The gene.
        gene: u32,
        /// The cell's name.
        cell: String,
    },
}

impl From<CellsError> for Stopped {
    fn from(error: CellsError) -> Stopped {
        Stopped::Input(error)
    }
}

fn changed(file: &str) -> CellsError {
    CellsError::file(file, "it changed while it was read")
}

impl<E: Entries> Gather<E> {
    /// Counts the values of all `cells`.
    pub(super) fn new(
        file: &str,
        mut entries: E,
        cells: u64,
        genes: u64,
    ) -> Result<Gather<E>, CellsError> {
        if cells > MOST_CELLS {
            return Err(CellsError::file(
                file,
                format!(
                    "its {cells} cells are written gene by gene, which is read up to {MOST_CELLS} \
                     cells: write it cell by cell"
                ),
            ));
        }
        let mut counts = vec![0u32; cells as usize];
        let mut batch = vec![];
        entries.rewind()?;
        while entries.next(&mut batch)? {
            for entry in &batch {
                let count = counts.get_mut(entry.cell as usize);
                let count = count.ok_or_else(|| changed(file))?;
                if u64::from(*count) == genes {
                    let cell = u64::from(entry.cell) + 1;
                    let reason = format!("cell {cell} has more values than there are genes");
                    return Err(CellsError::file(file, reason));
                }
                *count += 1;
            }
        }
        Ok(Gather {
            file: file.to_string(),
            entries,
            counts,
            at_once: AT_ONCE,
            first: 0,
            starts: vec![0],
            genes: vec![],
            values: vec![],
            batch,
            order: Order::default(),
        })
    }

    /// How many values the cell has.
    pub(super) fn count(&self, cell: usize) -> u64 {
        self.counts.get(cell).map_or(0, |&count| u64::from(count))
    }

    /// Reads the values of `first` and as many cells behind it as fit.
    fn load(&mut self, first: usize) -> Result<(), CellsError> {
        self.first = first;
        self.starts.clear();
        self.starts.push(0);
        let mut all = 0;
        for &count in &self.counts[first..] {
            if all > 0 && all as u64 + u64::from(count) > self.at_once {
                break;
            }
            all += count as usize;
            self.starts.push(all);
        }
        self.genes.clear();
        self.values.clear();
        self.genes.resize(all, 0);
        self.values.resize(all, 0.0);
        // Where each cell's next value goes.
        let mut next = self.starts.clone();
        next.pop();
        self.entries.rewind()?;
        while self.entries.next(&mut self.batch)? {
            for entry in &self.batch {
                let Some(cell) = (entry.cell as usize).checked_sub(first) else {
                    continue;
                };
                if cell >= next.len() {
                    continue;
                }
                if next[cell] == self.starts[cell + 1] {
                    return Err(changed(&self.file));
                }
                self.genes[next[cell]] = entry.gene;
                self.values[next[cell]] = entry.value;
                next[cell] += 1;
            }
        }
        if next != self.starts[1..] {
            return Err(changed(&self.file));
        }
        Ok(())
    }

    /// Appends a cell to the block. Cells come in ascending order.
    pub(super) fn give(
        &mut self,
        cell: usize,
        name: String,
        block: &mut Block,
    ) -> Result<(), Stopped> {
        if cell < self.first || cell - self.first + 1 >= self.starts.len() {
            self.load(cell)?;
        }
        let at = cell - self.first;
        let own = self.starts[at]..self.starts[at + 1];
        block.genes.extend_from_slice(&self.genes[own.clone()]);
        block.values.extend_from_slice(&self.values[own]);
        match block.close(name.clone(), &mut self.order) {
            Ok(()) => Ok(()),
            Err(gene) => Err(Stopped::Twice { gene, cell: name }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Listed(Vec<Entry>, usize);

    impl Entries for Listed {
        fn rewind(&mut self) -> Result<(), CellsError> {
            self.1 = 0;
            Ok(())
        }

        fn next(&mut self, batch: &mut Vec<Entry>) -> Result<bool, CellsError> {
            let to = (self.1 + 3).min(self.0.len());
            batch.clear();
            batch.extend(&self.0[self.1..to]);
            self.1 = to;
            Ok(!batch.is_empty())
        }
    }

    #[test]
    fn passes_do_not_show() {
        let (cells, genes) = (13, 5);
        let mut listed = vec![];
        for gene in 0..genes {
            for cell in (0..cells).filter(|cell| (cell * 7 + gene * 3) % 4 != 0) {
                let value = (cell * genes + gene + 1) as f32;
                listed.push(Entry { cell, gene, value });
            }
        }
        let all = |at_once: u64| {
            let entries = Listed(listed.clone(), 0);
            let mut gather = Gather::new("x", entries, 13, 5).unwrap();
            gather.at_once = at_once;
            let mut block = Block::default();
            block.clear();
            for cell in 0..cells as usize {
                let given = gather.give(cell, cell.to_string(), &mut block);
                assert!(given.is_ok());
            }
            block
        };
        let whole = all(1000);
        assert_eq!(whole.len(), 13);
        assert_eq!(whole.values.len(), listed.len());
        for at_once in [1, 4, 11] {
            assert_eq!(all(at_once), whole, "{at_once}");
        }
        let (_, own, values) = whole.cell(1);
        assert_eq!(own, [0, 1, 2, 4]);
        assert_eq!(values, [6.0, 7.0, 8.0, 10.0]);
    }
}
