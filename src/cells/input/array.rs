//! Arrays of a file, read from front to back in pieces.

use crate::cells::error::CellsError;
use half::f16;

/// Elements that are read at once.
pub(super) const PIECE: usize = 1 << 14;

/// How a number lies in a file: little-endian, of so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    /// IEEE 754, 2, 4 or 8 bytes.
    Float(usize),
    /// Two's complement, up to 8 bytes.
    Signed(usize),
    /// Up to 8 bytes.
    Unsigned(usize),
}

impl Element {
    /// Its bytes.
    pub(super) fn size(self) -> usize {
        match self {
            Element::Float(size) | Element::Signed(size) | Element::Unsigned(size) => size,
        }
    }

    /// Appends the numbers of some bytes. Doubles and large integers are rounded.
    pub(super) fn reals(self, bytes: &[u8], out: &mut Vec<f32>) {
        let elements = bytes.chunks_exact(self.size());
        match self {
            Element::Float(4) => {
                let (elements, _) = bytes.as_chunks();
                out.extend(elements.iter().copied().map(f32::from_le_bytes));
            }
            Element::Float(_) => out.extend(elements.map(|bytes| float(bytes) as f32)),
            Element::Signed(_) => out.extend(elements.map(|bytes| signed(bytes) as f32)),
            Element::Unsigned(_) => out.extend(elements.map(|bytes| unsigned(bytes) as f32)),
        }
    }

    /// Appends the numbers of some bytes, which must be integers that are not negative.
    pub(super) fn wholes(self, bytes: &[u8], out: &mut Vec<u64>) -> Result<(), String> {
        let mut elements = bytes.chunks_exact(self.size());
        match self {
            Element::Float(_) => return Err("it has no whole numbers".into()),
            Element::Unsigned(_) => out.extend(elements.map(unsigned)),
            Element::Signed(_) => {
                if let Some(below) = elements.clone().map(signed).find(|&number| number < 0) {
                    return Err(format!("{below} is negative"));
                }
                out.extend(elements.by_ref().map(unsigned));
            }
        }
        Ok(())
    }

    /// A number as Python shows it; one that is missing (NaN) is empty.
    pub(super) fn shown(self, bytes: &[u8]) -> String {
        match self {
            Element::Float(_) if float(bytes).is_nan() => String::new(),
            Element::Float(_) => format!("{:?}", float(bytes)),
            Element::Signed(_) => signed(bytes).to_string(),
            Element::Unsigned(_) => unsigned(bytes).to_string(),
        }
    }
}

fn unsigned(bytes: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(wide)
}

fn signed(bytes: &[u8]) -> i64 {
    let unused = 64 - 8 * bytes.len() as u32;
    ((unsigned(bytes) << unused) as i64) >> unused
}

fn float(bytes: &[u8]) -> f64 {
    match *bytes {
        [a, b] => f16::from_le_bytes([a, b]).to_f64(),
        [a, b, c, d] => f64::from(f32::from_le_bytes([a, b, c, d])),
        _ => f64::from_bits(unsigned(bytes)),
    }
}

/// Numbers of one array, in the order of the file; a matrix row by row.
pub(super) trait Numbers {
    /// How many there are, read or not.
    fn len(&self) -> u64;

    /// An error that names file and array.
    fn wrong(&self, reason: String) -> CellsError;

    /// Appends the next ones. Doubles and large integers are rounded.
    fn reals(&mut self, count: usize, out: &mut Vec<f32>) -> Result<(), CellsError>;

    /// Appends the next ones, which must be integers that are not negative.
    fn wholes(&mut self, count: usize, out: &mut Vec<u64>) -> Result<(), CellsError>;

    /// Begins again.
    fn rewind(&mut self) -> Result<(), CellsError>;
}

/// Texts of one array.
pub(super) trait Words {
    /// How many there are, read or not.
    fn len(&self) -> u64;

    /// The next one.
    fn next(&mut self) -> Result<String, CellsError>;
}

/// An array's few numbers, all of them.
pub(super) fn all_wholes(numbers: &mut dyn Numbers) -> Result<Vec<u64>, CellsError> {
    let (mut all, mut left) = (vec![], numbers.len());
    while left > 0 {
        let piece = left.min(PIECE as u64);
        numbers.wholes(piece as usize, &mut all)?;
        left -= piece;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_width() {
        assert_eq!(signed(&[0xff]), -1);
        assert_eq!(signed(&(-300i16).to_le_bytes()), -300);
        assert_eq!(signed(&i64::MIN.to_le_bytes()), i64::MIN);
        assert_eq!(unsigned(&[0xff, 1]), 511);
        assert_eq!(float(&[0, 0x3c]), 1.0);
    }

    #[test]
    fn numbers_of_bytes() {
        let mut reals = vec![];
        Element::Signed(2).reals(&[1, 0, 0xff, 0xff], &mut reals);
        Element::Float(8).reals(&0.1f64.to_le_bytes(), &mut reals);
        assert_eq!(reals, [1.0, -1.0, 0.1]);
        let mut wholes = vec![];
        Element::Unsigned(1).wholes(&[7, 255], &mut wholes).unwrap();
        assert_eq!(wholes, [7, 255]);
        let error = Element::Signed(1).wholes(&[7, 255], &mut wholes);
        assert_eq!(error.unwrap_err(), "-1 is negative");
        assert!(Element::Float(4).wholes(&[0; 4], &mut wholes).is_err());
        assert_eq!(Element::Float(8).shown(&2f64.to_le_bytes()), "2.0");
        assert_eq!(Element::Float(4).shown(&f32::NAN.to_le_bytes()), "");
        assert_eq!(Element::Signed(1).shown(&[0xfe]), "-2");
    }
}
