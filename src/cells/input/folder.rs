//! The three files of 10x Genomics, `matrix.mtx`, `features.tsv` (once `genes.tsv`) and
//! `barcodes.tsv`, each plain or gzip; and a MatrixMarket file alone.
//!
//! Cells stream: what is in memory is the genes, a cell and the block.

use super::gather::{Entry, Gather, Stopped};
use super::mtx::{Reader, Sizes, is_by_gene};
use super::names::{CellNames, count_cells, genes, genes_by_hand};
use super::source::{Block, CellSource, Choice, Gene, Order};
use crate::cells::error::CellsError;
use std::path::{Path, PathBuf};

const MATRIX: [&str; 2] = ["matrix.mtx.gz", "matrix.mtx"];
const FEATURES: [&str; 4] = [
    "features.tsv.gz",
    "features.tsv",
    "genes.tsv.gz",
    "genes.tsv",
];
const BARCODES: [&str; 2] = ["barcodes.tsv.gz", "barcodes.tsv"];

/// Whether a file of this name is one of the three.
pub fn is_of_folder(name: &str) -> bool {
    let mut all = MATRIX.iter().chain(&FEATURES).chain(&BARCODES);
    all.any(|ending| name.ends_with(ending))
}

/// Where the three files lie.
#[derive(Debug)]
struct Files {
    matrix: PathBuf,
    genes: PathBuf,
    /// Whether somebody named a list of genes.
    by_hand: bool,
    cells: Option<PathBuf>,
}

/// The one of some names that there is, each behind a prefix.
fn one_of(folder: &Path, prefix: &str, names: &[&str]) -> Result<Option<PathBuf>, CellsError> {
    let paths = names
        .iter()
        .map(|name| folder.join(format!("{prefix}{name}")));
    let mut there = paths.filter(|path| path.exists());
    match (there.next(), there.next()) {
        (Some(a), Some(b)) => {
            let reason = format!("is there, and so is {}: which one is meant?", shown(&b));
            Err(CellsError::file(&shown(&a), reason))
        }
        (one, _) => Ok(one),
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// What stands before `matrix.mtx`: nothing, or what an archive such as GEO puts before all three.
fn prefix(folder: &Path) -> Result<String, CellsError> {
    let file = shown(folder);
    let mut prefixes = vec![];
    for entry in std::fs::read_dir(folder).map_err(|source| CellsError::io(&file, source))? {
        let entry = entry.map_err(|source| CellsError::io(&file, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut endings = MATRIX.iter();
        if let Some(prefix) = endings.find_map(|ending| name.strip_suffix(ending)) {
            prefixes.push(prefix.to_string());
        }
    }
    prefixes.sort();
    prefixes.dedup();
    match &prefixes[..] {
        [] => Err(CellsError::file(
            &file,
            "a folder without `matrix.mtx` or `matrix.mtx.gz`",
        )),
        [first, ..] if first.is_empty() => Ok(String::new()),
        [one] => Ok(one.clone()),
        [a, b, ..] => Err(CellsError::file(
            &file,
            format!("several matrices, `{a}matrix.mtx` and `{b}matrix.mtx` among them"),
        )),
    }
}

impl Files {
    fn of_folder(folder: &Path, choice: &Choice) -> Result<Files, CellsError> {
        let file = shown(folder);
        let prefix = prefix(folder)?;
        let lacks = |what: &str| {
            let reason = format!("a folder without `{prefix}{what}`, plain or `.gz`");
            CellsError::file(&file, reason)
        };
        let matrix = one_of(folder, &prefix, &MATRIX)?.ok_or_else(|| lacks("matrix.mtx"))?;
        let genes = match &choice.genes {
            Some(path) => Some(path.clone()),
            None => one_of(folder, &prefix, &FEATURES)?,
        };
        let cells = one_of(folder, &prefix, &BARCODES)?;
        Ok(Files {
            matrix,
            genes: genes.ok_or_else(|| lacks("features.tsv"))?,
            by_hand: choice.genes.is_some(),
            cells: Some(cells.ok_or_else(|| lacks("barcodes.tsv"))?),
        })
    }

    /// A matrix alone may have the other two beside it.
    fn of_matrix(matrix: &Path, choice: &Choice) -> Result<Files, CellsError> {
        let folder = matrix.parent().unwrap_or(Path::new(""));
        let name = matrix.file_name().unwrap_or_default().to_string_lossy();
        let mut endings = MATRIX.iter();
        let prefix = endings.find_map(|ending| name.strip_suffix(ending));
        let beside = |names: &[&str]| match prefix {
            Some(prefix) => one_of(folder, prefix, names),
            None => Ok(None),
        };
        let genes = match &choice.genes {
            Some(path) => Some(path.clone()),
            None => beside(&FEATURES)?,
        };
        let genes = genes.ok_or_else(|| {
            let reason = "a MatrixMarket file has no names of genes, and no `features.tsv` lies \
                          beside it: name a text with a gene a line";
            CellsError::file(&shown(matrix), reason)
        })?;
        Ok(Files {
            matrix: matrix.into(),
            genes,
            by_hand: choice.genes.is_some(),
            cells: beside(&BARCODES)?,
        })
    }

    fn paths(self) -> Vec<PathBuf> {
        let all = [self.matrix, self.genes].into_iter();
        all.chain(self.cells).collect()
    }
}

/// The files of a folder that are read.
pub(super) fn files_of_folder(path: &Path, choice: &Choice) -> Result<Vec<PathBuf>, CellsError> {
    Ok(Files::of_folder(path, choice)?.paths())
}

/// A MatrixMarket file, and those beside it that are read.
pub(super) fn files_of_matrix(path: &Path, choice: &Choice) -> Result<Vec<PathBuf>, CellsError> {
    Ok(Files::of_matrix(path, choice)?.paths())
}

/// How the matrix is read.
enum Way {
    /// Once, cell by cell.
    ByCell {
        reader: Box<Reader>,
        /// The next cell's first entry.
        ahead: Option<Entry>,
        /// Genes of the cell at hand, with the lines they stand in.
        lines: Vec<(u32, u64)>,
    },
    /// Several times.
    ByGene(Box<Gather<Reader>>),
}

/// Cells of a MatrixMarket file.
pub(super) struct Folder {
    name: String,
    genes: Vec<Gene>,
    sizes: Sizes,
    names: CellNames,
    way: Way,
    /// The next cell.
    at: u64,
    order: Order,
}

/// Opens a folder.
pub(super) fn open_folder(path: &Path, choice: &Choice) -> Result<Folder, CellsError> {
    open(shown(path), Files::of_folder(path, choice)?)
}

/// Opens a MatrixMarket file.
pub(super) fn open_matrix(path: &Path, choice: &Choice) -> Result<Folder, CellsError> {
    open(shown(path), Files::of_matrix(path, choice)?)
}

fn open(name: String, files: Files) -> Result<Folder, CellsError> {
    let genes = if files.by_hand {
        genes_by_hand(&files.genes)?
    } else {
        genes(&files.genes)?
    };
    let cells = files.cells.as_deref().map(count_cells).transpose()?;
    let mut reader = Box::new(Reader::open(&files.matrix)?);
    let sizes = reader.sizes();
    let listed = genes.len() as u64;
    if listed == sizes.cells && listed != sizes.genes {
        return Err(reader.wrong(format!(
            "the matrix has {} rows and {} columns, and there are {listed} genes: rows must be \
             genes, so write the transpose",
            sizes.genes, sizes.cells
        )));
    }
    if listed != sizes.genes {
        return Err(reader.wrong(format!(
            "the matrix has {} rows, and {} lists {listed} genes",
            sizes.genes,
            shown(&files.genes)
        )));
    }
    if let Some(cells) = cells
        && cells != sizes.cells
    {
        return Err(reader.wrong(format!(
            "the matrix has {} columns, and {} lists {cells} cells",
            sizes.cells,
            shown(files.cells.as_deref().unwrap_or(Path::new("")))
        )));
    }
    if cells.is_none() && sizes.cells > sizes.entries {
        return Err(reader.wrong(format!(
            "the matrix has {} columns and {} values, and there is no list of cells",
            sizes.cells, sizes.entries
        )));
    }
    let names = CellNames::open(files.cells.as_deref())?;
    let way = if is_by_gene(&files.matrix)? {
        let file = shown(&files.matrix);
        let gather = Gather::new(&file, *reader, sizes.cells, sizes.genes)?;
        Way::ByGene(Box::new(gather))
    } else {
        Way::ByCell {
            ahead: reader.next()?,
            reader,
            lines: vec![],
        }
    };
    Ok(Folder {
        name,
        genes,
        sizes,
        names,
        way,
        at: 0,
        order: Order::default(),
    })
}

impl Folder {
    /// Appends the next cell; false where the block has no room for it.
    fn give(&mut self, block: &mut Block, most: usize) -> Result<bool, CellsError> {
        let at = self.at;
        let room = match &self.way {
            Way::ByCell { .. } => block.has_room(most, self.genes.len() as u64),
            Way::ByGene(gather) => block.has_room(most, gather.count(at as usize)),
        };
        if !room {
            return Ok(false);
        }
        let ended = || CellsError::file(&self.name, "the list of cells changed while it was read");
        let name = self.names.next()?.ok_or_else(ended)?;
        self.at += 1;
        match &mut self.way {
            Way::ByGene(gather) => match gather.give(at as usize, name, block) {
                Ok(()) => Ok(true),
                Err(Stopped::Input(error)) => Err(error),
                Err(Stopped::Twice { gene, cell }) => {
                    let gene = &self.genes[gene as usize].symbol;
                    let reason = "the matrix has it twice";
                    Err(CellsError::value(&self.name, &cell, gene, reason))
                }
            },
            Way::ByCell {
                reader,
                ahead,
                lines,
            } => {
                lines.clear();
                while let Some(entry) = *ahead
                    && u64::from(entry.cell) == at
                {
                    if lines.len() == self.genes.len() {
                        return Err(reader.wrong(format!(
                            "cell {} ({name}) has more values than there are genes",
                            at + 1
                        )));
                    }
                    lines.push((entry.gene, reader.line()));
                    block.genes.push(entry.gene);
                    block.values.push(entry.value);
                    *ahead = reader.next()?;
                    if ahead.is_some_and(|next| next.cell < entry.cell) {
                        return Err(reader.wrong(format!(
                            "cell {} or one before has been read: the values of a cell must \
                             stand together (sort the lines by the second number)",
                            at + 1
                        )));
                    }
                }
                if let Err(gene) = block.close(name.clone(), &mut self.order) {
                    let mut twice = lines.iter().filter(|line| line.0 == gene);
                    let line = twice.nth(1).map_or(reader.line(), |line| line.1);
                    let gene = &self.genes[gene as usize].symbol;
                    let reason = format!("gene {gene} of cell {} ({name}) stands twice", at + 1);
                    let file = shown(reader.path());
                    return Err(CellsError::line(&file, line, reason));
                }
                Ok(true)
            }
        }
    }
}

impl CellSource for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn genes(&self) -> &[Gene] {
        &self.genes
    }

    fn cells(&self) -> Option<u64> {
        Some(self.sizes.cells)
    }

    fn next(&mut self, block: &mut Block, most: usize) -> Result<bool, CellsError> {
        block.clear();
        while self.at < self.sizes.cells && self.give(block, most)? {}
        Ok(!block.is_empty())
    }

    fn labels(&self, _: &str) -> Result<Option<Vec<String>>, CellsError> {
        Ok(None)
    }
}
