//! What every input gives: genes once, then blocks of cells.

use crate::cells::error::CellsError;
use std::path::PathBuf;

/// Non-zero values in a block, at most, unless a single cell has more.
pub const BLOCK_VALUES: usize = 4 << 20;

/// What was measured: a gene, or a protein where `modality` says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gene {
    /// Its symbol, never empty; the only name that the file has where it has one.
    pub symbol: String,
    /// Its Ensembl id, where the file has such a column.
    pub id: Option<String>,
    /// `Gene Expression`, `Antibody Capture` and so on, where the file says it.
    pub modality: Option<String>,
}

/// Cells one after another, in compressed rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    /// One name a cell.
    pub names: Vec<String>,
    /// Where each cell's values begin, and where the last one's end: one more than there are cells,
    /// or none where nothing has been read yet.
    pub starts: Vec<usize>,
    /// Indices into [`CellSource::genes`], ascending inside a cell, none twice.
    pub genes: Vec<u32>,
    /// The values that are not zero, unchecked: negative ones, NaN and infinities pass.
    pub values: Vec<f32>,
}

impl Block {
    /// How many cells it holds.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True where it holds none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Makes it empty and keeps its memory.
    pub fn clear(&mut self) {
        self.names.clear();
        self.starts.clear();
        self.starts.push(0);
        self.genes.clear();
        self.values.clear();
    }

    /// Name, genes and values of a cell.
    ///
    /// # Panics
    /// Where there are not so many cells.
    pub fn cell(&self, index: usize) -> (&str, &[u32], &[f32]) {
        let own = self.starts[index]..self.starts[index + 1];
        (
            &self.names[index],
            &self.genes[own.clone()],
            &self.values[own],
        )
    }

    /// Drops the values of all columns but these; where the list is empty, none.
    pub fn keep(&mut self, columns: &[bool]) {
        if columns.is_empty() {
            return;
        }
        let (mut kept, mut from) = (0, 0);
        for end in self.starts.iter_mut().skip(1) {
            for at in from..*end {
                if columns
                    .get(self.genes[at] as usize)
                    .is_none_or(|keep| *keep)
                {
                    self.genes[kept] = self.genes[at];
                    self.values[kept] = self.values[at];
                    kept += 1;
                }
            }
            from = *end;
            *end = kept;
        }
        self.genes.truncate(kept);
        self.values.truncate(kept);
    }

    /// Ends a cell whose values have been appended: brings its genes into order and drops zeros.
    /// Both are as cheap as a look where there is nothing to do. `Err` is a gene that stands twice.
    pub(super) fn close(&mut self, name: String, order: &mut Order) -> Result<(), u32> {
        let from = *self.starts.last().unwrap_or(&0);
        if !self.genes[from..].is_sorted_by(|a, b| a < b) {
            order.sort(&mut self.genes[from..], &mut self.values[from..])?;
        }
        if self.values[from..].contains(&0.0) {
            let mut kept = from;
            for at in from..self.values.len() {
                if self.values[at] != 0.0 {
                    self.values[kept] = self.values[at];
                    self.genes[kept] = self.genes[at];
                    kept += 1;
                }
            }
            self.values.truncate(kept);
            self.genes.truncate(kept);
        }
        self.names.push(name);
        self.starts.push(self.values.len());
        Ok(())
    }

    /// True where `more` values of a next cell still fit.
    pub(super) fn has_room(&self, most: usize, more: u64) -> bool {
        self.is_empty()
            || (self.len() < most && self.values.len() as u64 + more <= BLOCK_VALUES as u64)
    }
}

/// Memory to sort a cell with.
#[derive(Debug, Default)]
pub(super) struct Order {
    pairs: Vec<(u32, f32)>,
}

impl Order {
    /// Sorts by gene. `Err` is a gene that stands twice.
    fn sort(&mut self, genes: &mut [u32], values: &mut [f32]) -> Result<(), u32> {
        let pairs = &mut self.pairs;
        pairs.clear();
        pairs.extend(genes.iter().copied().zip(values.iter().copied()));
        pairs.sort_by_key(|pair| pair.0);
        if let Some(twice) = pairs.windows(2).find(|two| two[0].0 == two[1].0) {
            return Err(twice[0].0);
        }
        for (at, &(gene, value)) in pairs.iter().enumerate() {
            genes[at] = gene;
            values[at] = value;
        }
        Ok(())
    }
}

/// Cells of one input, in its order.
pub trait CellSource {
    /// The file or folder, as it was named.
    fn name(&self) -> &str;

    /// What the cells are measured in. Names may stand twice: what that means, the matching to a
    /// vocabulary decides.
    fn genes(&self) -> &[Gene];

    /// How many cells there are, where that is known before the last one is read.
    fn cells(&self) -> Option<u64>;

    /// Replaces what `block` holds by the next cells: at most `most` of them (at least one), and
    /// at most [`BLOCK_VALUES`] values unless a single cell has more. False behind the last cell.
    ///
    /// # Errors
    /// Where the file is wrong. Cells of earlier blocks have been given; what the block holds then
    /// is not to be used, and the source has nothing more to give.
    fn next(&mut self, block: &mut Block, most: usize) -> Result<bool, CellsError>;

    /// A column that says something of each cell, such as its type or batch, in the order of the
    /// cells; `None` where the input has no such column. Missing values are empty.
    ///
    /// # Errors
    /// Where the column cannot be read, or does not have one value a cell.
    fn labels(&self, column: &str) -> Result<Option<Vec<String>>, CellsError>;
}

/// Which matrix of a file is meant, where it has several, and names that it lacks.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// AnnData: the matrix of this name in `layers`, in place of `X`.
    pub layer: Option<String>,
    /// AnnData: `raw/X` and its genes, in place of `X`.
    pub raw: bool,
    /// A text with a gene a line, for a matrix that comes without names (MatrixMarket, npz), or in
    /// place of those it has: symbol, or id and symbol and modality, separated by tabs.
    pub genes: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_closed_in_order_and_without_zeros() {
        let mut block = Block::default();
        block.clear();
        block.genes.extend([7, 2, 5]);
        block.values.extend([1.0, 0.0, f32::NAN]);
        block.close("a".into(), &mut Order::default()).unwrap();
        let (name, genes, values) = block.cell(0);
        assert_eq!((name, genes), ("a", &[5, 7][..]));
        assert!(values[0].is_nan() && values[1] == 1.0);
        block.genes.extend([3, 1, 3]);
        block.values.extend([1.0; 3]);
        assert_eq!(block.close("b".into(), &mut Order::default()), Err(3));
    }

    #[test]
    fn columns_can_be_dropped() {
        let mut block = Block::default();
        block.clear();
        for (name, genes) in [("a", &[0, 1, 2][..]), ("b", &[1]), ("c", &[0, 2])] {
            block.genes.extend(genes);
            block
                .values
                .extend(genes.iter().map(|gene| *gene as f32 + 0.5));
            block.close(name.into(), &mut Order::default()).unwrap();
        }
        let whole = block.clone();
        block.keep(&[]);
        assert_eq!(block, whole);
        block.keep(&[true, false, true]);
        assert_eq!(block.cell(0), ("a", &[0, 2][..], &[0.5, 2.5][..]));
        assert_eq!(block.cell(1), ("b", &[][..], &[][..]));
        assert_eq!(block.cell(2), ("c", &[0, 2][..], &[0.5, 2.5][..]));
    }

    #[test]
    fn a_block_takes_one_cell_whatever_its_size() {
        let mut block = Block::default();
        block.clear();
        assert!(block.has_room(1, u64::MAX));
        block.close("a".into(), &mut Order::default()).unwrap();
        assert!(!block.has_room(1, 0));
        assert!(block.has_room(2, BLOCK_VALUES as u64));
        assert!(!block.has_room(2, BLOCK_VALUES as u64 + 1));
    }
}
