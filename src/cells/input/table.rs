//! A table: the first row names the genes, behind a field that names the column of cells; then a
//! row a cell. Fields are separated by tabs, or by commas where the first row has no tab.

use super::names::name;
use super::source::{Block, CellSource, Gene, Order};
use super::text::Text;
use crate::cells::error::CellsError;
use std::borrow::Cow;
use std::path::Path;

/// How a table with genes in rows is brought into the form that is read; for messages.
pub const TRANSPOSE: &str = "cells are rows and genes are columns; where it is the other way \
round, write the transpose, in Python `pandas.read_csv(\"in.tsv\", sep=\"\\t\", index_col=0)\
.T.to_csv(\"out.tsv\", sep=\"\\t\")`";

/// Cells of a table.
pub(super) struct Table {
    text: Text,
    separator: u8,
    genes: Vec<Gene>,
    order: Order,
}

/// What separates the fields of a table, by its first line.
pub(super) fn separator(first: &[u8]) -> u8 {
    if first.contains(&b'\t') { b'\t' } else { b',' }
}

/// The fields of a line. One in quotes may hold the separator, and a quote written twice.
pub(super) struct Fields<'l> {
    rest: Option<&'l [u8]>,
    separator: u8,
}

impl<'l> Fields<'l> {
    pub(super) fn new(line: &'l [u8], separator: u8) -> Fields<'l> {
        let rest = Some(line);
        Fields { rest, separator }
    }
}

impl<'l> Iterator for Fields<'l> {
    /// `None` is a quote without its end.
    type Item = Option<Cow<'l, [u8]>>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.rest.take()?;
        let separator = self.separator;
        let Some(quoted) = line.strip_prefix(b"\"") else {
            let end = line.iter().position(|&byte| byte == separator);
            let field = &line[..end.unwrap_or(line.len())];
            self.rest = end.map(|end| &line[end + 1..]);
            return Some(Some(Cow::Borrowed(field)));
        };
        let (mut field, mut rest) = (vec![], quoted);
        loop {
            let Some(end) = rest.iter().position(|&byte| byte == b'"') else {
                return Some(None);
            };
            field.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.first() {
                Some(b'"') => {
                    field.push(b'"');
                    rest = &rest[1..];
                }
                Some(&byte) if byte == separator => {
                    self.rest = Some(&rest[1..]);
                    return Some(Some(Cow::Owned(field)));
                }
                None => return Some(Some(Cow::Owned(field))),
                Some(_) => return Some(None),
            }
        }
    }
}

pub(super) const OPEN_QUOTE: &str = "a field in quotes does not end at a separator";

/// Opens a table and reads its first row.
pub(super) fn open(path: &Path) -> Result<Table, CellsError> {
    let mut text = Text::open(path)?;
    let first = text.next()?.unwrap_or_default();
    let separator = separator(first);
    let genes = genes(Fields::new(first, separator)).map_err(|reason| text.wrong(reason))?;
    if genes.is_empty() {
        return Err(text.wrong(format!(
            "neither tabs nor commas in the first row: it should name the column of cells and \
             then the genes ({TRANSPOSE})"
        )));
    }
    Ok(Table {
        text,
        separator,
        genes,
        order: Order::default(),
    })
}

fn genes(fields: Fields) -> Result<Vec<Gene>, String> {
    let mut genes = vec![];
    for (number, field) in fields.enumerate().skip(1) {
        let field = field.ok_or(OPEN_QUOTE)?;
        let symbol = name("gene's name", &field)
            .map_err(|reason| format!("field {}: {reason}", number + 1))?;
        genes.push(Gene {
            symbol,
            ..Gene::default()
        });
    }
    Ok(genes)
}

/// Appends a row's values and returns its cell's name.
fn row(fields: Fields, genes: &[Gene], block: &mut Block) -> Result<String, String> {
    let (mut cell, mut count) = (String::new(), 0);
    for (at, field) in fields.enumerate() {
        let field = field.ok_or(OPEN_QUOTE)?;
        count = at;
        let Some(at) = at.checked_sub(1) else {
            cell = name("cell's name", &field)?;
            continue;
        };
        let Some(gene) = genes.get(at) else {
            continue;
        };
        let text = str::from_utf8(&field).unwrap_or("?").trim();
        let value: f32 = text.parse().map_err(|_| {
            let gene = &gene.symbol;
            format!("cell {cell}, gene {gene}: `{text}` is not a number ({TRANSPOSE})")
        })?;
        if value != 0.0 {
            block.genes.push(at as u32);
            block.values.push(value);
        }
    }
    if count == genes.len() + 1 {
        return Err(format!(
            "cell {cell}: one value more than the first row names genes; the first row must begin \
             with a field that names the column of cells"
        ));
    }
    if count != genes.len() {
        let genes = genes.len();
        return Err(format!("cell {cell}: {count} values for {genes} genes"));
    }
    Ok(cell)
}

impl CellSource for Table {
    fn name(&self) -> &str {
        self.text.file()
    }

    fn genes(&self) -> &[Gene] {
        &self.genes
    }

    fn cells(&self) -> Option<u64> {
        None
    }

    fn next(&mut self, block: &mut Block, most: usize) -> Result<bool, CellsError> {
        block.clear();
        while block.has_room(most, self.genes.len() as u64) {
            let Some(line) = self.text.next()? else {
                break;
            };
            let fields = Fields::new(line, self.separator);
            let cell = row(fields, &self.genes, block).map_err(|reason| self.text.wrong(reason))?;
            if let Err(gene) = block.close(cell.clone(), &mut self.order) {
                let gene = &self.genes[gene as usize].symbol;
                let reason = "the table has it twice";
                return Err(CellsError::value(self.name(), &cell, gene, reason));
            }
        }
        Ok(!block.is_empty())
    }

    fn labels(&self, _: &str) -> Result<Option<Vec<String>>, CellsError> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(line: &str) -> Vec<Option<String>> {
        let fields = Fields::new(line.as_bytes(), b',');
        let text = |field: Cow<[u8]>| String::from_utf8(field.into_owned()).unwrap();
        fields.map(|field| field.map(text)).collect()
    }

    #[test]
    fn fields_in_quotes() {
        let some = |texts: &[&str]| -> Vec<Option<String>> {
            texts.iter().map(|text| Some((*text).into())).collect()
        };
        assert_eq!(fields("a,,b,"), some(&["a", "", "b", ""]));
        assert_eq!(fields(r#""a,b","c""d""#), some(&["a,b", "c\"d"]));
        assert_eq!(fields(r#"a,"b"#), [Some("a".into()), None]);
        assert_eq!(fields(r#""b"c,d"#), [None]);
    }
}
