//! A matrix of arrays: compressed by cell, compressed by gene, or dense.

use super::array::{Numbers, PIECE, Words, all_wholes};
use super::gather::{Entries, Entry, Gather, Stopped};
use super::source::{Block, CellSource, Gene, Order};
use crate::cells::error::CellsError;

/// The three arrays of a compressed matrix.
pub(super) struct Arrays {
    /// Values, all rows one after another.
    pub(super) data: Box<dyn Numbers>,
    /// The column of each.
    pub(super) indices: Box<dyn Numbers>,
    /// Where each row begins, and where the last one ends.
    pub(super) indptr: Box<dyn Numbers>,
}

impl Arrays {
    /// Compares lengths; `rows` are cells or genes.
    fn check(&self, rows: u64) -> Result<(), CellsError> {
        let (data, indices) = (self.data.len(), self.indices.len());
        if data != indices {
            return Err(self
                .indices
                .wrong(format!("{indices} indices for {data} values")));
        }
        let starts = self.indptr.len();
        if rows.checked_add(1) != Some(starts) {
            return Err(self.indptr.wrong(format!(
                "{starts} starts for {rows} rows, which need one more than there are rows"
            )));
        }
        Ok(())
    }
}

/// Cell by cell.
struct Rows {
    arrays: Arrays,
    /// The next starts, last one first.
    starts: Vec<u64>,
    /// Those that have not been read.
    unread: u64,
    /// Where the next cell begins.
    from: u64,
    indices: Vec<u64>,
}

impl Rows {
    fn new(arrays: Arrays) -> Result<Rows, CellsError> {
        let mut rows = Rows {
            unread: arrays.indptr.len(),
            arrays,
            starts: vec![],
            from: 0,
            indices: vec![],
        };
        rows.look()?;
        if rows.starts.pop() != Some(0) {
            return Err(rows.arrays.indptr.wrong("it does not begin with 0".into()));
        }
        Ok(rows)
    }

    /// Makes sure that a start is at hand where there is one.
    fn look(&mut self) -> Result<(), CellsError> {
        if self.starts.is_empty() && self.unread > 0 {
            let piece = self.unread.min(PIECE as u64);
            self.arrays
                .indptr
                .wholes(piece as usize, &mut self.starts)?;
            self.starts.reverse();
            self.unread -= piece;
        }
        Ok(())
    }

    /// How many values the next cell has.
    fn count(&mut self, genes: usize) -> Result<usize, CellsError> {
        self.look()?;
        let end = self.starts.last().copied().unwrap_or(self.from);
        let all = self.arrays.data.len();
        let wrong = |reason: String| Err(self.arrays.indptr.wrong(reason));
        let Some(count) = end.checked_sub(self.from) else {
            return wrong(format!("a start of {end} follows one of {}", self.from));
        };
        if end > all {
            return wrong(format!("a start of {end}, where there are {all} values"));
        }
        if self.unread == 0 && self.starts.len() == 1 && end != all {
            return wrong(format!("it ends with {end}, where there are {all} values"));
        }
        if count > genes as u64 {
            return wrong(format!(
                "{count} values of one cell, where there are {genes} genes"
            ));
        }
        Ok(count as usize)
    }

    fn give(&mut self, count: usize, block: &mut Block) -> Result<(), CellsError> {
        self.indices.clear();
        self.arrays.indices.wholes(count, &mut self.indices)?;
        self.arrays.data.reals(count, &mut block.values)?;
        self.from += count as u64;
        self.starts.pop();
        Ok(())
    }
}

/// Gene by gene.
struct Columns {
    arrays: Arrays,
    starts: Vec<u64>,
    cells: u64,
    /// The next value, and its gene.
    at: u64,
    gene: usize,
    indices: Vec<u64>,
    values: Vec<f32>,
}

impl Columns {
    fn new(mut arrays: Arrays, cells: u64) -> Result<Columns, CellsError> {
        let starts = all_wholes(&mut *arrays.indptr)?;
        let all = arrays.data.len();
        if starts.first() != Some(&0) || starts.last() != Some(&all) || !starts.is_sorted() {
            return Err(arrays.indptr.wrong(format!(
                "it does not ascend from 0 to {all}, the number of values"
            )));
        }
        Ok(Columns {
            arrays,
            starts,
            cells,
            at: 0,
            gene: 0,
            indices: vec![],
            values: vec![],
        })
    }
}

impl Entries for Columns {
    fn rewind(&mut self) -> Result<(), CellsError> {
        self.arrays.data.rewind()?;
        self.arrays.indices.rewind()?;
        (self.at, self.gene) = (0, 0);
        Ok(())
    }

    fn next(&mut self, batch: &mut Vec<Entry>) -> Result<bool, CellsError> {
        batch.clear();
        let piece = (self.arrays.data.len() - self.at).min(PIECE as u64) as usize;
        self.indices.clear();
        self.values.clear();
        self.arrays.indices.wholes(piece, &mut self.indices)?;
        self.arrays.data.reals(piece, &mut self.values)?;
        for (&cell, &value) in self.indices.iter().zip(&self.values) {
            while self.starts[self.gene + 1] <= self.at {
                self.gene += 1;
            }
            if cell >= self.cells {
                let (gene, cells) = (self.gene, self.cells);
                return Err(self.arrays.indices.wrong(format!(
                    "cell {cell} of gene {gene}, where there are {cells} cells (numbers from 0)"
                )));
            }
            batch.push(Entry {
                cell: cell as u32,
                gene: self.gene as u32,
                value,
            });
            self.at += 1;
        }
        Ok(piece > 0)
    }
}

enum Way {
    ByCell(Box<Rows>),
    ByGene(Box<Gather<Columns>>),
    Dense(Box<dyn Numbers>),
}

/// How a matrix is laid out.
pub(super) enum Layout {
    /// Compressed, a cell a row.
    ByCell(Arrays),
    /// Compressed, a gene a row.
    ByGene(Arrays),
    /// All values of a cell, zeros too, cells one after another.
    Dense(Box<dyn Numbers>),
}

/// Cells of a matrix.
pub(super) struct Matrix {
    file: String,
    genes: Vec<Gene>,
    cells: u64,
    /// Names of cells; numbers from 0 where the file has none.
    names: Option<Box<dyn Words>>,
    way: Way,
    at: u64,
    order: Order,
    row: Vec<f32>,
}

impl Matrix {
    pub(super) fn new(
        file: &str,
        genes: Vec<Gene>,
        cells: u64,
        names: Option<Box<dyn Words>>,
        layout: Layout,
    ) -> Result<Matrix, CellsError> {
        if let Some(names) = &names
            && names.len() != cells
        {
            let reason = format!("{} names for {cells} cells", names.len());
            return Err(CellsError::file(file, reason));
        }
        if genes.len() as u64 > u64::from(u32::MAX) {
            return Err(CellsError::file(file, "more than 4,294,967,295 genes"));
        }
        let way = match layout {
            Layout::ByCell(arrays) => {
                arrays.check(cells)?;
                Way::ByCell(Box::new(Rows::new(arrays)?))
            }
            Layout::ByGene(arrays) => {
                arrays.check(genes.len() as u64)?;
                let columns = Columns::new(arrays, cells)?;
                let gather = Gather::new(file, columns, cells, genes.len() as u64)?;
                Way::ByGene(Box::new(gather))
            }
            Layout::Dense(numbers) => {
                if cells.checked_mul(genes.len() as u64) != Some(numbers.len()) {
                    return Err(numbers.wrong(format!(
                        "{} values for {cells} cells and {} genes",
                        numbers.len(),
                        genes.len()
                    )));
                }
                Way::Dense(numbers)
            }
        };
        Ok(Matrix {
            file: file.into(),
            genes,
            cells,
            names,
            way,
            at: 0,
            order: Order::default(),
            row: vec![],
        })
    }

    fn next_name(&mut self) -> Result<String, CellsError> {
        let Some(names) = &mut self.names else {
            return Ok(self.at.to_string());
        };
        let name = names.next()?;
        if name.is_empty() {
            let reason = format!("the name of cell {} (from 0) is empty", self.at);
            return Err(CellsError::file(&self.file, reason));
        }
        Ok(name)
    }

    fn twice(&self, cell: &str, gene: u32) -> CellsError {
        let gene = &self.genes[gene as usize].symbol;
        CellsError::value(&self.file, cell, gene, "the matrix has it twice")
    }

    /// Appends the next cell; false where the block has no room for it.
    fn give(&mut self, block: &mut Block, most: usize) -> Result<bool, CellsError> {
        let genes = self.genes.len();
        let count = match &mut self.way {
            Way::ByCell(rows) => rows.count(genes)? as u64,
            Way::ByGene(gather) => gather.count(self.at as usize),
            Way::Dense(_) => genes as u64,
        };
        if !block.has_room(most, count) {
            return Ok(false);
        }
        let name = self.next_name()?;
        match &mut self.way {
            Way::ByCell(rows) => {
                rows.give(count as usize, block)?;
                if let Some(gene) = rows.indices.iter().find(|&&gene| gene >= genes as u64) {
                    let reason = format!("gene {gene} (from 0), where there are {genes}");
                    return Err(CellsError::cell(&self.file, &name, reason));
                }
                block
                    .genes
                    .extend(rows.indices.iter().map(|&gene| gene as u32));
            }
            Way::ByGene(gather) => {
                let given = gather.give(self.at as usize, name, block);
                self.at += 1;
                return match given {
                    Ok(()) => Ok(true),
                    Err(Stopped::Input(error)) => Err(error),
                    Err(Stopped::Twice { gene, cell }) => Err(self.twice(&cell, gene)),
                };
            }
            Way::Dense(numbers) => {
                self.row.clear();
                numbers.reals(genes, &mut self.row)?;
                for (gene, &value) in self.row.iter().enumerate().filter(|value| *value.1 != 0.0) {
                    block.genes.push(gene as u32);
                    block.values.push(value);
                }
            }
        }
        self.at += 1;
        match block.close(name.clone(), &mut self.order) {
            Ok(()) => Ok(true),
            Err(gene) => Err(self.twice(&name, gene)),
        }
    }
}

/// A matrix of a file, and what else that file says of its cells.
pub(super) struct Stored<L> {
    pub(super) matrix: Matrix,
    /// A column by its name, one value for each of so many cells.
    pub(super) labels: L,
}

impl<L> CellSource for Stored<L>
where
    L: Fn(&str, u64) -> Result<Option<Vec<String>>, CellsError>,
{
    fn name(&self) -> &str {
        &self.matrix.file
    }

    fn genes(&self) -> &[Gene] {
        &self.matrix.genes
    }

    fn cells(&self) -> Option<u64> {
        Some(self.matrix.cells)
    }

    fn next(&mut self, block: &mut Block, most: usize) -> Result<bool, CellsError> {
        let matrix = &mut self.matrix;
        block.clear();
        while matrix.at < matrix.cells && matrix.give(block, most)? {}
        Ok(!block.is_empty())
    }

    fn labels(&self, column: &str) -> Result<Option<Vec<String>>, CellsError> {
        (self.labels)(column, self.matrix.cells)
    }
}
