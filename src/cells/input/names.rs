//! Names as texts list them: a gene or a cell a line.

use super::source::Gene;
use super::text::Text;
use crate::cells::error::CellsError;
use std::path::Path;

/// Longest name of a cell or gene in bytes.
const LONGEST_NAME: usize = 1 << 12;

/// A name: UTF-8, and neither empty nor endless.
pub(super) fn name(what: &str, bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > LONGEST_NAME {
        return Err(format!("the {what} is longer than {LONGEST_NAME} bytes"));
    }
    let text = str::from_utf8(bytes).map_err(|_| format!("the {what} is not UTF-8"))?;
    let text = text.trim();
    if text.is_empty() {
        return Err(format!("the {what} is empty"));
    }
    Ok(text.to_string())
}

/// Genes, one a line: a symbol; or id and symbol; or id, symbol and modality, separated by tabs.
/// Further columns, which some programs write, are passed over.
pub(super) fn genes(path: &Path) -> Result<Vec<Gene>, CellsError> {
    all_genes(Text::open(path)?)
}

/// The same in a text that people write.
pub(super) fn genes_by_hand(path: &Path) -> Result<Vec<Gene>, CellsError> {
    all_genes(Text::by_hand(path)?)
}

fn all_genes(mut text: Text) -> Result<Vec<Gene>, CellsError> {
    let mut genes = vec![];
    while let Some(line) = text.next()? {
        genes.push(gene(line).map_err(|reason| text.wrong(reason))?);
    }
    if genes.is_empty() {
        return Err(CellsError::file(text.file(), "it names no gene"));
    }
    Ok(genes)
}

/// Names that people list, one a line; empty lines are passed over.
///
/// # Errors
/// Where the text cannot be read, or names nothing.
pub fn list(path: &Path) -> Result<Vec<String>, CellsError> {
    let mut text = Text::by_hand(path)?;
    let mut names = vec![];
    while let Some(line) = text.next_that(|line| !line.trim_ascii().is_empty())? {
        names.push(name("name", line).map_err(|reason| text.wrong(reason))?);
    }
    if names.is_empty() {
        return Err(CellsError::file(text.file(), "it names no gene"));
    }
    Ok(names)
}

fn gene(line: &[u8]) -> Result<Gene, String> {
    let mut columns = line.split(|&byte| byte == b'\t');
    let first = name("gene's name", columns.next().unwrap_or_default())?;
    let Some(symbol) = columns.next() else {
        return Ok(Gene {
            symbol: first,
            ..Gene::default()
        });
    };
    Ok(Gene {
        symbol: name("gene's name", symbol)?,
        id: Some(first),
        modality: match columns.next() {
            Some(modality) if !modality.is_empty() => Some(name("modality", modality)?),
            _ => None,
        },
    })
}

/// Names of cells: those of a text, or numbers from 0 where there is none.
pub(super) struct CellNames {
    text: Option<Text>,
    /// Cells so far.
    at: u64,
}

impl CellNames {
    pub(super) fn open(path: Option<&Path>) -> Result<CellNames, CellsError> {
        Ok(CellNames {
            text: path.map(Text::open).transpose()?,
            at: 0,
        })
    }

    /// The next cell's name; further columns of its line are passed over.
    pub(super) fn next(&mut self) -> Result<Option<String>, CellsError> {
        let number = self.at;
        self.at += 1;
        let Some(text) = &mut self.text else {
            return Ok(Some(number.to_string()));
        };
        let Some(line) = text.next()? else {
            return Ok(None);
        };
        let first = line.split(|&byte| byte == b'\t').next();
        match name("cell's name", first.unwrap_or_default()) {
            Ok(name) => Ok(Some(name)),
            Err(reason) => Err(text.wrong(reason)),
        }
    }
}

/// How many names a text has. All are looked at, so that a bad one is an error before any cell.
pub(super) fn count_cells(path: &Path) -> Result<u64, CellsError> {
    let mut names = CellNames::open(Some(path))?;
    while names.next()?.is_some() {}
    Ok(names.at - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn genes_have_one_two_or_more_columns() {
        let file = text(b"ENSG1\tCD3D\tGene Expression\r\nENSG2\tCD8A\nLYZ\nE4\tS\tA\tchr1\n");
        let genes = genes(file.path()).unwrap();
        let of = |symbol: &str, id: Option<&str>, modality: Option<&str>| Gene {
            symbol: symbol.into(),
            id: id.map(Into::into),
            modality: modality.map(Into::into),
        };
        let expected = [
            of("CD3D", Some("ENSG1"), Some("Gene Expression")),
            of("CD8A", Some("ENSG2"), None),
            of("LYZ", None, None),
            of("S", Some("E4"), Some("A")),
        ];
        assert_eq!(genes, expected);
    }

    #[test]
    fn a_list_by_hand_may_have_empty_lines() {
        let file = text(b"\xef\xbb\xbfCD3D\r\n\n LYZ ");
        assert_eq!(list(file.path()).unwrap(), ["CD3D", "LYZ"]);
        for none in [&b""[..], b"\n \n"] {
            let file = text(none);
            let error = list(file.path()).unwrap_err().to_string();
            assert!(error.contains("no gene"), "{error}");
        }
        assert!(genes_by_hand(text(b"").path()).is_err());
        assert_eq!(genes_by_hand(text(b"A").path()).unwrap().len(), 1);
        assert!(genes(text(b"A").path()).is_err());
    }

    #[test]
    fn an_empty_name_is_an_error_with_its_line() {
        for (content, line) in [(&b"A\n\nB\n"[..], 2), (b"E\t \n", 1), (b"A\n\xff\n", 2)] {
            let file = text(content);
            match genes(file.path()) {
                Err(CellsError::Line { line: at, .. }) => assert_eq!(at, line),
                other => panic!("{other:?}"),
            }
        }
        let file = text(b"a\n\n");
        assert!(count_cells(file.path()).is_err());
        assert_eq!(count_cells(text(b"a\tx\nb\n").path()).unwrap(), 2);
    }
}
