//! Lines of a VCF: what of them is read, and what is added. Everything else of a line stays byte
//! for byte as it was, so nothing is lost that only its maker understands.

use std::ops::Range;

/// Names of our fields begin with this.
pub const PREFIX: &str = "STRANDLINE";

/// Columns before those of samples.
pub const FIXED: usize = 8;

/// Columns of a line.
pub fn columns(line: &[u8]) -> usize {
    1 + line.iter().filter(|&&byte| byte == b'\t').count()
}

/// One record, in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// CHROM.
    pub contig: &'a str,
    /// POS, 1-based; 0 for a telomere.
    pub position: u64,
    /// ID.
    pub id: &'a str,
    /// REF.
    pub reference: &'a str,
    /// ALT, alleles with commas between.
    pub alternatives: &'a str,
    /// Bytes of INFO in the line.
    pub info: Range<usize>,
}

impl<'a> Record<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, with the byte in the line where that can be said.
    pub fn new(line: &'a [u8]) -> Result<Record<'a>, String> {
        let mut at = 0;
        let mut columns = line.split(|&byte| byte == b'\t').map(|column| {
            let range = at..at + column.len();
            at = range.end + 1;
            (column, range)
        });
        let mut next = |name: &str| {
            let missing = || format!("ends before {name}: {FIXED} columns with tabs between");
            columns.next().ok_or_else(missing)
        };
        // What is read must be text; the rest is whatever its maker understands.
        let text = |(column, range): (&'a [u8], Range<usize>), name: &str| {
            if range.is_empty() {
                return Err(format!("{name} is empty at byte {}", range.start));
            }
            let text = std::str::from_utf8(column).map_err(|error| {
                let byte = range.start + error.valid_up_to();
                format!("{name} is no UTF-8 at byte {byte}")
            })?;
            Ok((text, range))
        };
        let (contig, _) = text(next("CHROM")?, "CHROM")?;
        let (position, place) = text(next("POS")?, "POS")?;
        let (id, _) = text(next("ID")?, "ID")?;
        let (reference, _) = text(next("REF")?, "REF")?;
        let (alternatives, _) = text(next("ALT")?, "ALT")?;
        next("QUAL")?;
        next("FILTER")?;
        let (_, info) = next("INFO")?;
        let digits = position.bytes().all(|byte| byte.is_ascii_digit());
        let position = position.parse::<u64>().ok().filter(|_| digits);
        Ok(Record {
            contig,
            position: position
                .ok_or_else(|| format!("POS at byte {} is no position", place.start))?,
            id,
            reference,
            alternatives,
            info,
        })
    }

    /// The alternative alleles.
    pub fn alleles(&self) -> impl Iterator<Item = &'a str> {
        self.alternatives.split(',')
    }
}

/// Appends a line to `out` with other fields of ours in INFO: those that stood there are replaced.
/// `fields` has semicolons between; nothing is added where it is empty.
pub fn with_info(line: &[u8], info: Range<usize>, fields: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&line[..info.start]);
    let own = |field: &&[u8]| {
        let key = field.split(|&byte| byte == b'=').next().unwrap_or(field);
        is_own(key)
    };
    let mut first = true;
    let old = line[info.clone()].split(|&byte| byte == b';');
    let is_none = matches!(&line[info.clone()], b"." | b"");
    let old = old.filter(|field| !own(field) && !is_none);
    for field in old.chain((!fields.is_empty()).then_some(fields.as_bytes())) {
        if !first {
            out.push(b';');
        }
        out.extend_from_slice(field);
        first = false;
    }
    if first {
        out.push(b'.');
    }
    out.extend_from_slice(&line[info.end..]);
    out.push(b'\n');
}

fn is_own(key: &[u8]) -> bool {
    let Some(rest) = key.strip_prefix(PREFIX.as_bytes()) else {
        return false;
    };
    rest.is_empty() || rest.starts_with(b"_")
}

/// True for a header line that describes a field of ours, of an earlier run.
pub fn describes_own(line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"##INFO=<ID=") else {
        return false;
    };
    let id = rest.split(|byte| b",>".contains(byte)).next();
    id.is_some_and(is_own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "1\t10\trs1\tA\tC,<DEL>\t.\tPASS\tDP=3\tGT\t0|1";

    #[test]
    fn records_have_their_columns() {
        let record = Record::new(LINE.as_bytes()).unwrap();
        assert_eq!(
            (record.contig, record.position, record.id),
            ("1", 10, "rs1")
        );
        assert_eq!(record.reference, "A");
        assert_eq!(record.alleles().collect::<Vec<_>>(), ["C", "<DEL>"]);
        assert_eq!(&LINE[record.info.clone()], "DP=3");
    }

    #[test]
    fn broken_lines_say_where() {
        for (line, reason) in [
            ("", "CHROM is empty at byte 0"),
            ("1\t10\trs1\tA", "ends before ALT"),
            ("1\t10\t.\tA\tC\t.\tPASS", "ends before INFO"),
            ("1\tx\t.\tA\tC\t.\t.\t.", "POS at byte 2 is no position"),
            ("1\t+1\t.\tA\tC\t.\t.\t.", "POS at byte 2"),
            ("1\t99999999999999999999\t.\tA\tC\t.\t.\t.", "POS at byte 2"),
            ("1\t1\t.\t\tC\t.\t.\t.", "REF is empty at byte 6"),
        ] {
            let error = Record::new(line.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
        let error = Record::new(b"1\t10\ta\xff\tA").unwrap_err();
        assert_eq!(error, "ID is no UTF-8 at byte 6");
        // What is not read may be in any encoding.
        assert!(Record::new(b"1\t10\t.\tA\tC\t.\t.\tNOTE=\xe9").is_ok());
    }

    #[test]
    fn fields_are_added_and_replaced_and_the_rest_stays() {
        let added = |info: &str, fields: &str| {
            let line = format!("1\t10\t.\tA\tC\t.\t.\t{info}\tGT\t0/1");
            let record = Record::new(line.as_bytes()).unwrap();
            let mut out = vec![];
            with_info(line.as_bytes(), record.info, fields, &mut out);
            let text = String::from_utf8(out).unwrap();
            let text = text.strip_prefix("1\t10\t.\tA\tC\t.\t.\t").unwrap();
            text.strip_suffix("\tGT\t0/1\n").unwrap().to_string()
        };
        assert_eq!(added(".", "STRANDLINE=x"), "STRANDLINE=x");
        assert_eq!(added("DP=1;H2", "STRANDLINE=x"), "DP=1;H2;STRANDLINE=x");
        let twice = "STRANDLINE=old;DP=1;STRANDLINE_PROMOTER=old;STRANDLINES=7";
        assert_eq!(
            added(twice, "STRANDLINE=x"),
            "DP=1;STRANDLINES=7;STRANDLINE=x"
        );
        assert_eq!(added("STRANDLINE=old", ""), ".");
        assert_eq!(added("DP=1", ""), "DP=1");
        assert_eq!(added("", "STRANDLINE=x"), "STRANDLINE=x");
        // Odd, but not ours to mend.
        assert_eq!(added("DP=1;;DB;", "STRANDLINE=x"), "DP=1;;DB;;STRANDLINE=x");
    }

    #[test]
    fn own_header_lines_are_known() {
        assert!(describes_own(b"##INFO=<ID=STRANDLINE,Number=."));
        assert!(describes_own(b"##INFO=<ID=STRANDLINE_PROMOTER,Number=."));
        assert!(!describes_own(b"##INFO=<ID=STRANDLINES,Number=."));
        assert!(!describes_own(b"##FORMAT=<ID=STRANDLINE,"));
    }
}
