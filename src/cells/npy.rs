//! `.npy` files of float32 rows, read; [`NpyWriter`] writes them.

pub use crate::sink::npy::NpyWriter;

use std::io::{self, Read};

/// The longest header that is read: that of a matrix has some hundred bytes.
const LONGEST_HEADER: usize = 4096;
/// Bytes that are asked for at once. Memory grows with what is there, not with what a header says.
const PIECE: u64 = 1 << 20;

/// Why an array cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// The system could not read on.
    #[error("byte {byte}: {source}")]
    Io {
        /// Bytes read before.
        byte: u64,
        /// What the system says.
        source: io::Error,
    },
    /// It is no array of float32 rows.
    #[error("byte {byte}: {reason}")]
    Byte {
        /// Where, from 0.
        byte: u64,
        /// What is wrong.
        reason: String,
    },
}

/// An array \[rows, `width`\].
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Values of a row, at least 1.
    pub width: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

/// Reads an array of two dimensions, float32, little-endian, row by row: what [`NpyWriter`] and
/// `numpy.save` of such an array write, format 1.0 to 3.0.
///
/// # Errors
/// Where it is none, is cut off, or goes on after its last row; with the byte.
pub fn read(mut reader: impl Read) -> Result<Array, NpyError> {
    let mut start = [0; 8];
    whole(&mut reader, &mut start, 0)?;
    let wrong = |byte: usize, reason: String| NpyError::Byte {
        byte: byte as u64,
        reason,
    };
    if start[..6] != *b"\x93NUMPY" {
        return Err(wrong(0, "no .npy file".to_string()));
    }
    let mut length = [0; 4];
    let words = match start[6] {
        1 => 2,
        2 | 3 => 4,
        version => return Err(wrong(6, format!("format {version} is not known"))),
    };
    whole(&mut reader, &mut length[..words], 8)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST_HEADER {
        return Err(wrong(8, format!("a header of {length} bytes")));
    }
    let first = 8 + words;
    let mut header = vec![0; length];
    whole(&mut reader, &mut header, first as u64)?;
    let text = std::str::from_utf8(&header).map_err(|e| wrong(first, e.to_string()))?;
    let (rows, width) = shape(text).map_err(|reason| wrong(first, reason))?;
    let bytes = (rows as u64)
        .checked_mul(width as u64)
        .and_then(|values| values.checked_mul(4))
        .ok_or_else(|| wrong(first, format!("a shape of {rows} × {width}")))?;
    let values = data(reader, (first + length) as u64, bytes)?;
    Ok(Array { width, values })
}

fn whole(reader: &mut impl Read, out: &mut [u8], byte: u64) -> Result<(), NpyError> {
    reader
        .read_exact(out)
        .map_err(|source| NpyError::Io { byte, source })
}

/// The values of `bytes` bytes, and nothing after them.
fn data(mut reader: impl Read, first: u64, bytes: u64) -> Result<Vec<f32>, NpyError> {
    let (mut values, mut piece, mut done) = (vec![], vec![], 0);
    while done < bytes {
        piece.clear();
        let count = PIECE.min(bytes - done);
        let mut limited = reader.by_ref().take(count);
        let byte = first + done;
        let read = limited
            .read_to_end(&mut piece)
            .map_err(|source| NpyError::Io { byte, source })?;
        if (read as u64) < count {
            return Err(NpyError::Byte {
                byte: byte + read as u64,
                reason: format!(
                    "the file ends, {} bytes too early",
                    bytes - done - read as u64
                ),
            });
        }
        let words = piece.chunks_exact(4);
        values.extend(words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])));
        done += count;
    }
    let byte = first + bytes;
    let more = reader.take(1).read_to_end(&mut piece);
    if more.map_err(|source| NpyError::Io { byte, source })? > 0 {
        let reason = "the file goes on after its last row".to_string();
        return Err(NpyError::Byte { byte, reason });
    }
    Ok(values)
}

/// Rows and width of a header, a Python dictionary of three keys.
fn shape(header: &str) -> Result<(usize, usize), String> {
    let value = |key: &str| {
        let (_, rest) = header.split_once(&format!("'{key}':"))?;
        Some(rest.trim_start())
    };
    let kind = value("descr").ok_or("no type in the header")?;
    let kind = kind.split(',').next().unwrap_or_default().trim();
    if kind != "'<f4'" {
        let kind: String = kind.chars().take(40).collect();
        return Err(format!("values of type {kind:?}, not '<f4'"));
    }
    if !value("fortran_order").is_some_and(|order| order.starts_with("False")) {
        return Err("the array is not stored row by row".to_string());
    }
    let shape = value("shape").and_then(|shape| shape.strip_prefix('(')?.split(')').next());
    let shape = shape.ok_or("no shape in the header")?;
    let sizes: Vec<&str> = shape.split(',').map(str::trim).collect();
    let numbers: Option<Vec<usize>> = sizes.iter().map(|size| size.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[rows, width]) if width > 0 => Ok((rows, width)),
        _ => Err(format!("a shape of ({shape}), not rows and columns")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, values: &[f32]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        bytes
    }

    fn matrix(shape: &str) -> String {
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}  \n")
    }

    #[test]
    fn what_was_written_is_read() {
        let values: Vec<f32> = (0..600_000).map(|value| value as f32).collect();
        let mut writer = NpyWriter::new(io::Cursor::new(vec![]), 0, 3).unwrap();
        writer.write(&values).unwrap();
        let bytes = writer.finish_patched().unwrap().into_inner();
        let array = read(&bytes[..]).unwrap();
        assert_eq!((array.width, array.values.len()), (3, 600_000));
        assert!(array.values == values);
        // As NumPy writes format 2.0, whose length has four bytes.
        let mut second = file(&matrix("(1, 2)"), &[1.0, 2.0]);
        second[6] = 2;
        second.splice(10..10, [0, 0]);
        assert_eq!(read(&second[..]).unwrap().values, [1.0, 2.0]);
        assert_eq!(
            read(&file(&matrix("(0, 2)"), &[])[..]).unwrap().values,
            [0f32; 0]
        );
    }

    #[test]
    fn what_is_wrong_has_a_byte() {
        let said = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert!(said(b"\x93NUM").starts_with("byte 0: "));
        assert_eq!(said(b"PK\x03\x04PK\x03\x04"), "byte 0: no .npy file");
        assert_eq!(said(b"\x93NUMPY\x09\x00"), "byte 6: format 9 is not known");
        assert_eq!(
            said(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
            "byte 8: a header of 4294967295 bytes"
        );
        let other = |header: &str| said(&file(header, &[1.0; 4]));
        assert_eq!(other("{}"), "byte 10: no type in the header");
        let doubles = matrix("(1, 2)").replace("f4", "f8");
        assert_eq!(
            other(&doubles),
            "byte 10: values of type \"'<f8'\", not '<f4'"
        );
        let columns = matrix("(1, 2)").replace("False", "True");
        assert_eq!(
            other(&columns),
            "byte 10: the array is not stored row by row"
        );
        for shape in ["(4,)", "(1, 2, 2)", "(4, 0)", "(-1, 2)", "()"] {
            let reason = format!("byte 10: a shape of {shape}, not rows and columns");
            assert_eq!(other(&matrix(shape)), reason);
        }
        let huge = format!("({0}, {0})", u64::MAX);
        assert!(other(&matrix(&huge)).starts_with("byte 10: a shape of 184467"));
        let claims = matrix("(1000000000000, 1000)");
        let end = 10 + claims.len() + 16;
        let reason = format!("byte {end}: the file ends, 3999999999999984 bytes too early");
        assert_eq!(other(&claims), reason);
        let header = matrix("(1, 3)");
        let reason = "the file goes on after its last row";
        assert_eq!(
            other(&header),
            format!("byte {}: {reason}", 10 + header.len() + 12)
        );
    }
}
