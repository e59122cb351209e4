//! `.npy` files (NumPy format 1.0) of float32 rows, written as a stream.
//!
//! | bytes | content |
//! | --- | --- |
//! | 0..6 | `\x93NUMPY` |
//! | 6..8 | version 1, 0 |
//! | 8..10 | 118, little-endian: length of the header text |
//! | 10..128 | `{'descr': '<f4', 'fortran_order': False, 'shape': (rows, outputs), }`, padding |
//! | 128.. | rows × outputs float32, little-endian, row by row |
//!
//! The header always takes 128 bytes, so the data are 64-byte aligned in a mapped file and a length
//! that is known only at the end can be written over the first one.

use std::io::{self, Seek, SeekFrom, Write};

/// Bytes before the first row.
pub const HEADER_LEN: usize = 128;

/// Writes float32 rows to a `.npy` stream.
#[derive(Debug)]
pub struct NpyWriter<W: Write> {
    writer: W,
    outputs: usize,
    values: u64,
    bytes: Vec<u8>,
}

impl<W: Write> NpyWriter<W> {
    /// Starts an array of shape \[`rows`, `outputs`\]. Where the number of rows is not known yet,
    /// any number may stand here, and [`NpyWriter::finish_patched`] ends the file.
    ///
    /// # Errors
    /// The writer's; [`io::ErrorKind::InvalidInput`] for no outputs at all.
    pub fn new(mut writer: W, rows: u64, outputs: usize) -> io::Result<Self> {
        if outputs == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an array of zero outputs",
            ));
        }
        writer.write_all(&header(rows, outputs))?;
        Ok(NpyWriter {
            writer,
            outputs,
            values: 0,
            bytes: Vec::new(),
        })
    }

    /// Appends values, row by row; a row may be split between two calls.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&mut self, values: &[f32]) -> io::Result<()> {
        for part in values.chunks(4096) {
            self.bytes.clear();
            self.bytes.extend(part.iter().flat_map(|v| v.to_le_bytes()));
            self.writer.write_all(&self.bytes)?;
        }
        self.values += values.len() as u64;
        Ok(())
    }

    /// Whole rows written so far.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] where the last row is not whole.
    pub fn rows(&self) -> io::Result<u64> {
        let outputs = self.outputs as u64;
        if self.values.is_multiple_of(outputs) {
            Ok(self.values / outputs)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} values do not make whole rows of {outputs}", self.values),
            ))
        }
    }

    /// Ends an array of `rows` rows as stated at the start, and gives the writer back.
    ///
    /// # Errors
    /// The writer's; [`io::ErrorKind::InvalidInput`] where another number of rows was written.
    pub fn finish(mut self, rows: u64) -> io::Result<W> {
        let written = self.rows()?;
        if written != rows {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{written} rows were written where the header states {rows}"),
            ));
        }
        self.writer.flush()?;
        Ok(self.writer)
    }
}

impl<W: Write + Seek> NpyWriter<W> {
    /// Writes the true number of rows into the header, and gives the writer back, at its end. The
    /// array must start where the stream starts.
    ///
    /// # Errors
    /// The writer's; [`io::ErrorKind::InvalidInput`] where the last row is not whole.
    pub fn finish_patched(mut self) -> io::Result<W> {
        let rows = self.rows()?;
        self.writer.seek(SeekFrom::Start(0))?;
        self.writer.write_all(&header(rows, self.outputs))?;
        self.writer.seek(SeekFrom::End(0))?;
        self.writer.flush()?;
        Ok(self.writer)
    }
}

fn header(rows: u64, outputs: usize) -> [u8; HEADER_LEN] {
    let mut bytes = [b' '; HEADER_LEN];
    bytes[..10].copy_from_slice(b"\x93NUMPY\x01\x00\x76\x00");
    let text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {outputs}), }}");
    // Two 64-bit numbers of 20 digits leave the text below the 117 bytes there are.
    bytes[10..10 + text.len()].copy_from_slice(text.as_bytes());
    bytes[HEADER_LEN - 1] = b'\n';
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn expected(shape: &str) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00v\x00".to_vec();
        bytes.extend(
            format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}").bytes(),
        );
        bytes.resize(127, b' ');
        bytes.push(b'\n');
        bytes
    }

    #[test]
    fn rows_follow_an_aligned_header() {
        let mut npy = NpyWriter::new(Vec::new(), 2, 2).unwrap();
        npy.write(&[0.0, 1.0, -2.0]).unwrap();
        npy.write(&[0.5]).unwrap();
        let bytes = npy.finish(2).unwrap();
        let mut want = expected("(2, 2)");
        want.extend(b"\0\0\0\0\0\0\x80\x3f\0\0\0\xc0\0\0\0\x3f");
        assert_eq!(bytes, want);
        assert_eq!(HEADER_LEN % 64, 0);
    }

    #[test]
    fn the_length_can_come_last() {
        let mut npy = NpyWriter::new(Cursor::new(Vec::new()), 0, 3).unwrap();
        npy.write(&vec![1.0; 30_000]).unwrap();
        let bytes = npy.finish_patched().unwrap().into_inner();
        assert_eq!(bytes[..128], expected("(10000, 3)"));
        assert_eq!(bytes.len(), 128 + 120_000);
        assert!(bytes[128..].chunks(4).all(|v| v == b"\0\0\x80\x3f"));
    }

    #[test]
    fn a_length_of_zero_and_the_greatest_one_fit() {
        let bytes = NpyWriter::new(Vec::new(), 0, 1).unwrap().finish(0).unwrap();
        assert_eq!(bytes, expected("(0, 1)"));
        assert_eq!(header(u64::MAX, usize::MAX)[127], b'\n');
    }

    #[test]
    fn a_wrong_number_of_rows_is_an_error() {
        let mut npy = NpyWriter::new(Vec::new(), 2, 2).unwrap();
        npy.write(&[0.0; 2]).unwrap();
        assert_eq!(
            npy.finish(2).unwrap_err().to_string(),
            "1 rows were written where the header states 2"
        );
        let mut npy = NpyWriter::new(Vec::new(), 2, 2).unwrap();
        npy.write(&[0.0; 3]).unwrap();
        assert_eq!(
            npy.finish(2).unwrap_err().to_string(),
            "3 values do not make whole rows of 2"
        );
        assert!(NpyWriter::new(Vec::new(), 2, 0).is_err());
    }
}
