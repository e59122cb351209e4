//! MatrixMarket: the header and then a gene, a cell and a value a line, by numbers from 1.
//!
//! 10x writes genes × cells, all values of a cell together. Nothing here trusts the header: numbers
//! are compared with it as lines come, and its count at the end.

use super::gather::{BATCH, Entries, Entry};
use super::text::Text;
use crate::cells::error::CellsError;
use std::path::{Path, PathBuf};

/// What the banner and the line of sizes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Rows.
    pub(super) genes: u64,
    /// Columns.
    pub(super) cells: u64,
    /// Lines with a value.
    pub(super) entries: u64,
}

/// Lines of values.
pub(super) struct Reader {
    path: PathBuf,
    text: Text,
    sizes: Sizes,
    whole: bool,
    /// Values so far.
    read: u64,
}

impl Reader {
    /// Reads banner, comments and sizes.
    pub(super) fn open(path: &Path) -> Result<Reader, CellsError> {
        let mut text = Text::open(path)?;
        let first = text.next()?.unwrap_or_default();
        let whole = banner(first).map_err(|reason| text.wrong(reason))?;
        let second = entry_line(&mut text)?;
        let sizes = second
            .ok_or_else(|| "the line with the sizes is missing".to_string())
            .and_then(sizes)
            .map_err(|reason| text.wrong(reason))?;
        Ok(Reader {
            path: path.into(),
            text,
            sizes,
            whole,
            read: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The line that the last entry stands in.
    pub(super) fn line(&self) -> u64 {
        self.text.number()
    }

    /// An error at the line of the last entry.
    pub(super) fn wrong(&self, reason: impl ToString) -> CellsError {
        self.text.wrong(reason)
    }

    /// The next entry; `None` behind the last one, which must be the header's last.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, CellsError> {
        let (read, entries) = (self.read, self.sizes.entries);
        let Some(line) = entry_line(&mut self.text)? else {
            if read < entries {
                return Err(self.wrong(format!(
                    "the file ends after {read} values, where its header says {entries}"
                )));
            }
            return Ok(None);
        };
        if read == entries {
            return Err(self.wrong(format!(
                "there are more values than the {entries} of the header"
            )));
        }
        let entry = entry(line, self.sizes, self.whole).map_err(|reason| self.wrong(reason))?;
        self.read += 1;
        Ok(Some(entry))
    }
}

/// The next line that is neither empty nor a comment.
fn entry_line(text: &mut Text) -> Result<Option<&[u8]>, CellsError> {
    text.next_that(|line| {
        let first = line.iter().find(|byte| !byte.is_ascii_whitespace());
        first.is_some_and(|&byte| byte != b'%')
    })
}

/// Whether values are whole numbers.
fn banner(line: &[u8]) -> Result<bool, String> {
    let text = String::from_utf8_lossy(line).to_ascii_lowercase();
    let mut words = text.split_ascii_whitespace();
    if words.next() != Some("%%matrixmarket") || words.next() != Some("matrix") {
        return Err("it does not begin with `%%MatrixMarket matrix`".into());
    }
    let [format, field, symmetry] = [(); 3].map(|()| words.next().unwrap_or_default());
    if format != "coordinate" {
        let reason = format!("the format is `{format}`, where `coordinate` is read");
        return Err(reason);
    }
    if symmetry != "general" {
        return Err(format!(
            "the matrix is `{symmetry}`, where `general` is read"
        ));
    }
    match field {
        "integer" => Ok(true),
        "real" | "double" => Ok(false),
        _ => Err(format!(
            "values are `{field}`, where `integer` and `real` are read"
        )),
    }
}

fn sizes(line: &[u8]) -> Result<Sizes, String> {
    let mut words = words(line);
    let sizes = [(); 3].map(|()| words.next().and_then(whole));
    let ([Some(genes), Some(cells), Some(entries)], None) = (sizes, words.next()) else {
        return Err("the sizes are not three whole numbers".into());
    };
    // Indices are kept in 32 bits.
    if genes > u64::from(u32::MAX) || cells > u64::from(u32::MAX) {
        return Err("rows or columns are more than 4,294,967,295".into());
    }
    Ok(Sizes {
        genes,
        cells,
        entries,
    })
}

fn entry(line: &[u8], sizes: Sizes, integer: bool) -> Result<Entry, String> {
    let mut words = words(line);
    let gene = words.next().and_then(whole);
    let cell = words.next().and_then(whole);
    let (Some(gene), Some(cell), Some(value), None) = (gene, cell, words.next(), words.next())
    else {
        return Err("it is not two whole numbers and a value".into());
    };
    let within = |what: &str, number: u64, all: u64| {
        if number == 0 || number > all {
            return Err(format!("{what} {number} is not one of 1 to {all}"));
        }
        Ok((number - 1) as u32)
    };
    Ok(Entry {
        gene: within("gene (row)", gene, sizes.genes)?,
        cell: within("cell (column)", cell, sizes.cells)?,
        value: value_of(value, integer)?,
    })
}

fn value_of(word: &[u8], integer: bool) -> Result<f32, String> {
    if let Some(value) = whole(word) {
        return Ok(value as f32);
    }
    let text = String::from_utf8_lossy(word);
    match text.parse::<f32>() {
        // Some writers say `integer` and write `2.0`.
        Ok(value) if !integer || value.fract() == 0.0 => Ok(value),
        _ if integer => Err(format!("`{text}` is not a whole number")),
        _ => Err(format!("`{text}` is not a number")),
    }
}

impl Entries for Reader {
    fn rewind(&mut self) -> Result<(), CellsError> {
        *self = Reader::open(&self.path)?;
        Ok(())
    }

    fn next(&mut self, batch: &mut Vec<Entry>) -> Result<bool, CellsError> {
        batch.clear();
        while batch.len() < BATCH
            && let Some(entry) = Reader::next(self)?
        {
            batch.push(entry);
        }
        Ok(!batch.is_empty())
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// A whole number of digits alone.
fn whole(word: &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for &byte in word {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (!word.is_empty()).then_some(number)
}

/// True where the values of the first cells do not stand together: a matrix that was written gene
/// by gene. As many lines are looked at as a gene can fill, at least 65,536.
pub(super) fn is_by_gene(path: &Path) -> Result<bool, CellsError> {
    let mut reader = Reader::open(path)?;
    let lines = reader.sizes().cells.clamp(1 << 16, 1 << 24) + 1;
    let mut last = 0;
    for _ in 0..lines {
        // What is wrong is said when the cells before it have been given.
        let Ok(Some(entry)) = reader.next() else {
            return Ok(false);
        };
        if entry.cell < last {
            return Ok(true);
        }
        last = entry.cell;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(u32, u32, f32)>, CellsError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut reader = Reader::open(file.path())?;
        let mut entries = vec![];
        while let Some(entry) = reader.next()? {
            entries.push((entry.cell, entry.gene, entry.value));
        }
        Ok(entries)
    }

    #[test]
    fn integers_and_reals() {
        let head = "%%MatrixMarket matrix coordinate integer general\n%metadata: {}\n3 2 2\n";
        let entries = read(&format!("{head}1 1 5\n\n3 2 -1\n")).unwrap();
        assert_eq!(entries, [(0, 0, 5.0), (1, 2, -1.0)]);
        let head = head.replace("integer", "real");
        let entries = read(&format!("{head}1 1 1.5e-1\r\n % c\n3\t2  nan\n")).unwrap();
        assert_eq!(entries[0], (0, 0, 0.15));
        assert!(entries[1].2.is_nan());
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let head = "%%MatrixMarket matrix coordinate integer general\n3 2 2\n";
        let wrong = [
            ("", 2, "ends after 0 values"),
            ("1 1 5\n", 3, "ends after 1 values"),
            ("1 1 5\n2 1 5\n3 1 5\n", 5, "more values than the 2"),
            ("0 1 5\n2 1 5\n", 3, "gene (row) 0 is not one of 1 to 3"),
            ("1 1 5\n4 1 5\n", 4, "gene (row) 4"),
            ("1 3 5\n4 1 5\n", 3, "cell (column) 3"),
            ("1 1\n2 1 1\n", 3, "not two whole numbers"),
            ("1 1 2 2\n2 1 1\n", 3, "not two whole numbers"),
            ("1 1 2.5\n2 1 1\n", 3, "not a whole number"),
            ("1 1 x\n2 1 1\n", 3, "not a whole number"),
            ("-1 1 2\n2 1 1\n", 3, "not two whole numbers"),
            ("99999999999999999999 1 2\n2 1 1\n", 3, "not two"),
        ];
        for (lines, line, reason) in wrong {
            let error = read(&format!("{head}{lines}")).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}: ")), "{error}");
            assert!(error.contains(reason), "{error}");
        }
        for banner in [
            "",
            "%%MatrixMarket matrix array real general",
            "%%MatrixMarket matrix coordinate pattern general",
            "%%MatrixMarket matrix coordinate real symmetric",
        ] {
            let error = read(&format!("{banner}\n1 1 1\n1 1 1\n")).unwrap_err();
            assert!(error.to_string().contains("line 1: "), "{error}");
        }
    }
}
