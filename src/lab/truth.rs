//! True sites: the table of sites of genes that reads are simulated from, and the table of sites of
//! reads that calls are judged by. Both are tab-separated with a header line.
//!
//! - Genes: `gene_idx gene chrom strand pos0 kind`. The gene's id in the FASTA file, its symbol,
//!   then the site's exon-edge base, 0-based, in the sequence as the FASTA file has it.
//! - Reads: `read pos strand kind`. The exon-edge base in forward coordinates of the read, 0-based,
//!   as the start of a call.
//!
//! Kinds are `donor`, `acceptor` and `promoter`. Columns are found by their names; others are
//! ignored.

use crate::call::CallKind;
use crate::call::Strand;
use std::collections::HashMap;
use std::io::{self, BufRead, Write};

/// The header line of a table of reads.
pub const READ_HEADER: &str = "read\tpos\tstrand\tkind";

/// A site of a gene.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GeneSite {
    /// The exon-edge base, 0-based, in the gene's sequence.
    pub position: u64,
    /// What it is.
    pub kind: CallKind,
}

/// A true site of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadSite {
    /// The exon-edge base, 0-based, in forward coordinates of the read.
    pub position: u64,
    /// The strand of the gene on the read.
    pub strand: Strand,
    /// What it is.
    pub kind: CallKind,
}

impl ReadSite {
    /// Writes the site's line.
    ///
    /// # Errors
    /// The writer's.
    pub fn write<W: Write + ?Sized>(&self, read: &str, out: &mut W) -> io::Result<()> {
        writeln!(
            out,
            "{read}\t{}\t{}\t{}",
            self.position, self.strand, self.kind
        )
    }
}

/// Why a table of sites cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TruthError {
    /// The file cannot be read.
    #[error("{file}, line {line}: {source}")]
    Read {
        /// The file, as it was named.
        file: String,
        /// 1-based.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The first line names not all of the columns.
    #[error("{file}, line 1: the header has no column `{column}` (expected {expected})")]
    Header {
        /// The file, as it was named.
        file: String,
        /// The missing column.
        column: &'static str,
        /// The columns there should be.
        expected: &'static str,
    },
    /// A line has too few columns.
    #[error("{file}, line {line}: no column `{column}`")]
    Column {
        /// The file, as it was named.
        file: String,
        /// 1-based.
        line: u64,
        /// The missing column.
        column: &'static str,
    },
    /// A value is not what its column holds.
    #[error("{file}, line {line}: `{value}` in column `{column}` is not {expected}")]
    Value {
        /// The file, as it was named.
        file: String,
        /// 1-based.
        line: u64,
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What should stand there.
        expected: &'static str,
    },
}

/// The sites of every gene of a table, by the gene's id.
#[derive(Debug, Clone, Default)]
pub struct GeneSites {
    genes: HashMap<String, (String, Vec<GeneSite>)>,
}

impl GeneSites {
    /// Reads a table of genes; `file` names it in errors.
    ///
    /// # Errors
    /// [`TruthError`] with file and line.
    pub fn read(reader: impl BufRead, file: &str) -> Result<GeneSites, TruthError> {
        let mut table = GeneSites::default();
        let columns = ["gene_idx", "gene", "pos0", "kind"];
        let expected = "gene_idx gene chrom strand pos0 kind, tab-separated";
        each_row(
            reader,
            file,
            columns,
            expected,
            |row, [id, symbol, pos, kind]| {
                let site = GeneSite {
                    position: row.position("pos0", pos)?,
                    kind: row.kind(kind)?,
                };
                if !table.genes.contains_key(id) {
                    table
                        .genes
                        .insert(id.to_owned(), (symbol.to_owned(), Vec::new()));
                }
                if let Some((_, sites)) = table.genes.get_mut(id) {
                    sites.push(site);
                }
                Ok(())
            },
        )?;
        for (_, sites) in table.genes.values_mut() {
            sites.sort_unstable();
            sites.dedup();
        }
        Ok(table)
    }

    /// True where no gene has a site.
    pub fn is_empty(&self) -> bool {
        self.genes.is_empty()
    }

    /// The symbol of gene `id` and its sites in order of position, where the table has the gene.
    pub fn get(&self, id: &str) -> Option<(&str, &[GeneSite])> {
        let (symbol, sites) = self.genes.get(id)?;
        Some((symbol, sites))
    }
}

/// The true sites of every read of a table, by the read's name. Memory grows with the table.
#[derive(Debug, Clone, Default)]
pub struct ReadSites {
    reads: HashMap<Vec<u8>, (Vec<ReadSite>, bool)>,
}

impl ReadSites {
    /// Reads a table of reads; `file` names it in errors.
    ///
    /// # Errors
    /// [`TruthError`] with file and line.
    pub fn read(reader: impl BufRead, file: &str) -> Result<ReadSites, TruthError> {
        let mut table = ReadSites::default();
        let columns = ["read", "pos", "strand", "kind"];
        let expected = "read pos strand kind, tab-separated";
        each_row(
            reader,
            file,
            columns,
            expected,
            |row, [read, pos, strand, kind]| {
                let site = ReadSite {
                    position: row.position("pos", pos)?,
                    strand: match strand {
                        "+" => Strand::Forward,
                        "-" => Strand::Reverse,
                        _ => return Err(row.value("strand", strand, "+ or -")),
                    },
                    kind: row.kind(kind)?,
                };
                match table.reads.get_mut(read.as_bytes()) {
                    Some((sites, _)) => sites.push(site),
                    None => {
                        let entry = (vec![site], false);
                        table.reads.insert(read.as_bytes().to_vec(), entry);
                    }
                }
                Ok(())
            },
        )?;
        for (sites, _) in table.reads.values_mut() {
            sites.sort_unstable();
            sites.dedup();
        }
        Ok(table)
    }

    /// The true sites of the read `name` in order of position, none for a read that the table does
    /// not name. The read counts as met.
    pub fn take(&mut self, name: &[u8]) -> &[ReadSite] {
        match self.reads.get_mut(name) {
            Some((sites, met)) => {
                *met = true;
                sites
            }
            None => &[],
        }
    }

    /// Reads that the table names and that nobody has asked for yet.
    pub fn unmet(&self) -> usize {
        self.reads.values().filter(|(_, met)| !met).count()
    }

    /// Reads that the table names.
    pub fn len(&self) -> usize {
        self.reads.len()
    }

    /// True for a table without sites.
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }
}

/// Where a row stands, for its errors.
struct Row<'a> {
    file: &'a str,
    line: u64,
}

impl Row<'_> {
    fn value(&self, column: &'static str, value: &str, expected: &'static str) -> TruthError {
        TruthError::Value {
            file: self.file.to_owned(),
            line: self.line,
            column,
            value: value.to_owned(),
            expected,
        }
    }

    fn position(&self, column: &'static str, value: &str) -> Result<u64, TruthError> {
        value
            .parse()
            .map_err(|_| self.value(column, value, "a 0-based position"))
    }

    fn kind(&self, value: &str) -> Result<CallKind, TruthError> {
        [CallKind::Donor, CallKind::Acceptor, CallKind::Promoter]
            .into_iter()
            .find(|kind| kind.name() == value)
            .ok_or_else(|| self.value("kind", value, "donor, acceptor or promoter"))
    }
}

fn each_row<const N: usize>(
    mut reader: impl BufRead,
    file: &str,
    columns: [&'static str; N],
    expected: &'static str,
    mut take: impl FnMut(Row<'_>, [&str; N]) -> Result<(), TruthError>,
) -> Result<(), TruthError> {
    let mut text = String::new();
    let mut places = [0; N];
    let mut line = 0;
    loop {
        line += 1;
        text.clear();
        let read = reader
            .read_line(&mut text)
            .map_err(|source| TruthError::Read {
                file: file.to_owned(),
                line,
                source,
            })?;
        if line == 1 {
            let header = text.trim_end_matches(['\r', '\n']);
            for (place, column) in places.iter_mut().zip(columns) {
                *place = header
                    .trim_start_matches('#')
                    .split('\t')
                    .position(|name| name == column)
                    .ok_or_else(|| TruthError::Header {
                        file: file.to_owned(),
                        column,
                        expected,
                    })?;
            }
            continue;
        }
        if read == 0 {
            return Ok(());
        }
        let row = text.trim_end_matches(['\r', '\n']);
        if row.is_empty() {
            continue;
        }
        let mut values = [""; N];
        for ((value, &place), column) in values.iter_mut().zip(&places).zip(columns) {
            *value = row
                .split('\t')
                .nth(place)
                .ok_or_else(|| TruthError::Column {
                    file: file.to_owned(),
                    line,
                    column,
                })?;
        }
        take(Row { file, line }, values)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gene_sites_are_sorted_by_gene() {
        let text = "gene_idx\tgene\tchrom\tstrand\tpos0\tkind\r\n\
                    g1\tPRUNE\tchr1\t+\t194\tdonor\r\n\
                    g2\tX\tchr1\t-\t7\tacceptor\n\n\
                    g1\tPRUNE\tchr1\t+\t100\tacceptor";
        let table = GeneSites::read(text.as_bytes(), "sites.tsv").unwrap();
        let (symbol, sites) = table.get("g1").unwrap();
        assert_eq!(symbol, "PRUNE");
        assert_eq!(
            sites
                .iter()
                .map(|s| (s.position, s.kind))
                .collect::<Vec<_>>(),
            [(100, CallKind::Acceptor), (194, CallKind::Donor)]
        );
        assert_eq!(table.get("g2").unwrap().0, "X");
        assert!(table.get("g3").is_none());
    }

    #[test]
    fn read_sites_come_back_as_written() {
        let sites = [
            ReadSite {
                position: 5,
                strand: Strand::Reverse,
                kind: CallKind::Donor,
            },
            ReadSite {
                position: 9,
                strand: Strand::Forward,
                kind: CallKind::Acceptor,
            },
        ];
        let mut text = format!("{READ_HEADER}\n").into_bytes();
        for site in &sites {
            site.write("a", &mut text).unwrap();
        }
        assert_eq!(
            text,
            b"read\tpos\tstrand\tkind\na\t5\t-\tdonor\na\t9\t+\tacceptor\n"
        );
        let mut table = ReadSites::read(text.as_slice(), "truth.tsv").unwrap();
        assert_eq!((table.len(), table.unmet()), (1, 1));
        assert_eq!(table.take(b"a"), sites);
        assert_eq!(table.take(b"b"), []);
        assert_eq!(table.unmet(), 0);
    }

    #[test]
    fn errors_name_file_and_line() {
        let message = |text: &[u8]| ReadSites::read(text, "t.tsv").unwrap_err().to_string();
        assert_eq!(
            message(b""),
            "t.tsv, line 1: the header has no column `read` \
             (expected read pos strand kind, tab-separated)"
        );
        assert_eq!(
            message(b"read\tpos\tstrand\nx"),
            "t.tsv, line 1: the header has no column `kind` \
             (expected read pos strand kind, tab-separated)"
        );
        let head = format!("{READ_HEADER}\na\t1\t+\tdonor\n");
        assert_eq!(
            message(format!("{head}a\t1\n").as_bytes()),
            "t.tsv, line 3: no column `strand`"
        );
        assert_eq!(
            message(format!("{head}a\t-1\t+\tdonor\n").as_bytes()),
            "t.tsv, line 3: `-1` in column `pos` is not a 0-based position"
        );
        assert_eq!(
            message(format!("{head}a\t1\t*\tdonor\n").as_bytes()),
            "t.tsv, line 3: `*` in column `strand` is not + or -"
        );
        assert_eq!(
            message(format!("{head}a\t1\t+\texpression\n").as_bytes()),
            "t.tsv, line 3: `expression` in column `kind` is not donor, acceptor or promoter"
        );
        assert_eq!(
            message(b"read\tpos\tstrand\tkind\n\xff\t1\t+\tdonor\n"),
            "t.tsv, line 2: stream did not contain valid UTF-8"
        );
    }
}
