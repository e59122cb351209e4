//! What a table says of cells: a column of types or batches, by the names of the cells.

use super::table::{Fields, OPEN_QUOTE, separator};
use super::text::Text;
use crate::cells::error::CellsError;
use std::collections::HashMap;
use std::path::Path;

/// How tables write that nothing is known.
const MISSING: [&str; 4] = ["", "nan", "NaN", "NA"];

/// A column of a table with a header, by the cells' names in the first column; fields are separated
/// by tabs, or by commas where the header has no tab. Missing values are empty.
///
/// # Errors
/// Where the table cannot be read, has no such column or several, or has a cell twice.
pub fn column(path: &Path, column: &str) -> Result<HashMap<String, String>, CellsError> {
    let mut text = Text::by_hand(path)?;
    let header = text.next()?.unwrap_or_default();
    let separator = separator(header);
    let names = row(header, separator).map_err(|reason| text.wrong(reason))?;
    let is_asked = |name: &String| name.trim_start_matches('#').trim() == column;
    let mut found = names.iter().enumerate().filter(|(_, name)| is_asked(name));
    let at = match (found.next(), found.next()) {
        (Some((at, _)), None) => at,
        (None, _) => return Err(text.wrong(format!("no column {column:?} in the header"))),
        (Some((a, _)), Some((b, _))) => {
            let (a, b) = (a + 1, b + 1);
            let reason = format!("column {column:?} stands twice, as field {a} and {b}");
            return Err(text.wrong(reason));
        }
    };
    let mut all: HashMap<String, (String, u64)> = HashMap::new();
    while let Some(line) = text.next_that(|line| !line.trim_ascii().is_empty())? {
        let fields = row(line, separator);
        let number = text.number();
        let fields = fields.map_err(|reason| text.wrong(reason))?;
        let (Some(cell), Some(label)) = (fields.first(), fields.get(at)) else {
            let reason = format!("{} fields, not {}", fields.len(), at + 1);
            return Err(text.wrong(reason));
        };
        let label = if MISSING.contains(&&**label) {
            String::new()
        } else {
            label.clone()
        };
        if let Some((_, first)) = all.insert(cell.clone(), (label, number)) {
            return Err(text.wrong(format!("cell {cell} stands on line {first}, too")));
        }
    }
    let all = all.into_iter().map(|(cell, (label, _))| (cell, label));
    Ok(all.collect())
}

/// The fields of a line without blanks around them.
fn row(line: &[u8], separator: u8) -> Result<Vec<String>, String> {
    let fields = Fields::new(line, separator).map(|field| {
        let field = field.ok_or(OPEN_QUOTE)?;
        let field = str::from_utf8(&field).map_err(|_| "no UTF-8")?;
        Ok(field.trim().to_string())
    });
    fields.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str, asked: &str) -> Result<HashMap<String, String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        column(file.path(), asked).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_are_found_by_their_names() {
        for content in [
            "#cell\ttype\tbatch\na \t B cell\tx\n\nb\tnan\ty",
            "\u{feff}cell,type\r\na,\"B cell\"\r\nb,NA\r\n",
        ] {
            let all = read(content, "type").unwrap();
            assert_eq!((all.len(), &*all["a"], &*all["b"]), (2, "B cell", ""));
        }
    }

    #[test]
    fn what_is_not_clear_is_an_error_with_its_line() {
        for (content, part) in [
            ("cell\tt\na\tB\na\tT\n", "line 3: cell a stands on line 2"),
            ("cell\tt\tt\na\tB\tT\n", "field 2 and 3"),
            ("cell\tu\na\tB\n", "no column \"t\""),
            ("cell\tu\tt\na\tB\n", "line 2: 2 fields, not 3"),
            ("", "no column"),
        ] {
            let error = read(content, "t").unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
