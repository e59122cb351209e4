//! Where cells come from.
//!
//! | what | known by |
//! | --- | --- |
//! | 10x: `matrix.mtx`, `features.tsv` or `genes.tsv`, `barcodes.tsv`, plain or gzip | a folder |
//! | MatrixMarket, with the other two beside it or a list of genes | `%%MatrixMarket` |
//! | `.npz` of NumPy: CSR or CSC arrays, `genes`, maybe `cells` and columns | zip's first bytes |
//! | AnnData `.h5ad` and 10x `.h5` | HDF5's first bytes |
//! | TSV or CSV, plain or gzip: a row a cell | any other text |
//!
//! [`open()`] looks at what a file holds, not at its ending. [`CellSource`] gives cells in blocks,
//! in the order of the file. Memory is that of the genes, of a block, and of buffers of a stated
//! size. A matrix that is written gene by gene is read several times for that: once to count, and
//! once for every eight million values.

pub(super) mod anndata;
mod array;
mod folder;
mod gather;
pub(super) mod hdf5;
mod labels;
mod matrix;
mod mtx;
mod names;
mod npy;
mod npz;
mod open;
mod source;
mod table;
mod tenx;
mod text;
mod zip;

pub use folder::is_of_folder;
pub use labels::column;
pub use names::list;
pub use open::{files, open};
pub use source::{BLOCK_VALUES, Block, CellSource, Choice, Gene};
pub use table::TRANSPOSE;
