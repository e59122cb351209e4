//! Reads on their way in: the records of a file, or what a Python iterable gives.

use crate::errors;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyIterator, PyString, PyTuple};
use std::path::PathBuf;
use strandline::nucleotide::{NOT_A_BASE, code};
use strandline::reads::fastx::{Chunk, Limits, Reader, RecordEnd, Reject, Step};
use strandline::reads::source::{Input, InputError};

/// Bases from which on no more reads are added to a batch.
const MANY_BASES: usize = 1_000_000;

/// A read: name and base codes.
pub struct Read {
    pub name: Vec<u8>,
    pub codes: Vec<u8>,
}

/// Where reads come from.
pub enum Feed {
    File(Box<Records>),
    Iterable {
        reads: Py<PyIterator>,
        /// How many it has given.
        count: u64,
        /// Bases of the longest that is accepted.
        longest: usize,
    },
    /// Nowhere: the garbage collector has cut it off.
    Cut,
}

/// How much is asked for at once.
#[derive(Clone, Copy)]
pub struct Portion {
    /// Reads, good and bad.
    pub most: usize,
    /// The first bad one is the last.
    pub strict: bool,
}

/// The records of a file.
pub struct Records {
    reader: Reader,
    chunk: Chunk,
}

/// What came of a look for more reads.
#[derive(Default)]
pub struct Got {
    pub reads: Vec<Read>,
    /// Reads that were not accepted: instances of `InputError`.
    pub rejected: Vec<Py<PyAny>>,
    /// What ended the input; none where there may be more.
    pub end: Option<Result<(), PyErr>>,
}

/// Base codes of letters; the first byte that is none, where there is one.
pub fn encode(letters: &[u8]) -> Result<Vec<u8>, usize> {
    let codes: Vec<u8> = letters.iter().map(|&letter| code(letter)).collect();
    match codes.iter().position(|&code| code == NOT_A_BASE) {
        Some(at) => Err(at),
        None => Ok(codes),
    }
}

/// The letters of a sequence: `str`, `bytes` or `bytearray`.
pub fn letters(sequence: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = sequence.cast::<PyString>() {
        return match text.to_cow() {
            Ok(text) => Ok(text.as_bytes().to_vec()),
            // Lone surrogates, which are no letters.
            Err(_) => text
                .call_method1("encode", ("utf-8", "surrogatepass"))?
                .extract(),
        };
    }
    if let Ok(bytes) = sequence.cast::<PyBytes>() {
        return Ok(bytes.as_bytes().to_vec());
    }
    if let Ok(bytes) = sequence.cast::<PyByteArray>() {
        return Ok(bytes.to_vec());
    }
    let kind = sequence.get_type();
    let message = format!("a sequence is str, bytes or bytearray, not {kind}");
    Err(PyTypeError::new_err(message))
}

impl Feed {
    /// A path (`str` or `os.PathLike`), or an iterable of reads.
    pub fn new(py: Python<'_>, reads: &Bound<'_, PyAny>, longest: usize) -> PyResult<Feed> {
        if longest == 0 {
            return Err(PyValueError::new_err("max_read_len is at least 1"));
        }
        let is_path = reads.cast::<PyString>().is_ok() || reads.hasattr("__fspath__")?;
        if !is_path {
            return Ok(Feed::Iterable {
                reads: reads.try_iter()?.unbind(),
                count: 0,
                longest,
            });
        }
        let path: PathBuf = reads.extract()?;
        let limits = Limits {
            max_read_len: longest,
            ..Limits::default()
        };
        let opened = py.detach(|| Reader::open(Input::Path(path), limits, 0));
        let reader = opened.map_err(|error| errors::input(py, &error))?;
        let chunk = Chunk::with_capacity(limits.chunk_bases);
        Ok(Feed::File(Box::new(Records { reader, chunk })))
    }

    /// Up to so many reads.
    pub fn take(&mut self, py: Python<'_>, portion: Portion) -> Got {
        match self {
            Feed::File(records) => records.take(py, portion),
            Feed::Iterable {
                reads,
                count,
                longest,
            } => {
                let mut got = Got::default();
                let end = take(py, reads, (count, *longest), portion, &mut got);
                got.end = match end {
                    Ok(false) => None,
                    Ok(true) => Some(Ok(())),
                    Err(error) => Some(Err(error)),
                };
                got
            }
            Feed::Cut => Got {
                end: Some(Ok(())),
                ..Got::default()
            },
        }
    }
}

/// Reads of an iterable; true where it has ended.
fn take(
    py: Python<'_>,
    reads: &Py<PyIterator>,
    (count, longest): (&mut u64, usize),
    portion: Portion,
    got: &mut Got,
) -> PyResult<bool> {
    let mut reads = reads.bind(py).clone();
    let mut bases = 0;
    while got.count() < portion.most && bases < MANY_BASES {
        let Some(item) = reads.next() else {
            return Ok(true);
        };
        let item = item?;
        let (name, sequence) = match item.cast::<PyTuple>() {
            Ok(pair) if pair.len() == 2 => (letters(&pair.get_item(0)?)?, pair.get_item(1)?),
            Ok(_) => {
                let message = "a read is a sequence, or a pair of name and sequence";
                return Err(PyTypeError::new_err(message));
            }
            Err(_) => (count.to_string().into_bytes(), item.clone()),
        };
        let letters = letters(&sequence)?;
        *count += 1;
        let fault = match encode(&letters) {
            Ok(codes) if codes.len() <= longest => {
                bases += codes.len();
                got.reads.push(Read { name, codes });
                continue;
            }
            Ok(codes) => {
                let length = codes.len();
                (
                    None,
                    format!("{length} bases, more than the limit of {longest}"),
                )
            }
            Err(at) => {
                let byte = letters[at].escape_ascii();
                (
                    Some(at as u64),
                    format!("'{byte}' at byte {at} is no nucleotide"),
                )
            }
        };
        let shown = String::from_utf8_lossy(&name);
        let message = format!("read {count} ({shown}): {}", fault.1);
        let error = errors::input_object(py, message, None, Some(*count), fault.0)?;
        if portion.strict {
            return Err(PyErr::from_value(error));
        }
        got.rejected.push(error.unbind());
    }
    Ok(false)
}

impl Got {
    /// Reads, good and bad.
    fn count(&self) -> usize {
        self.reads.len() + self.rejected.len()
    }
}

impl Records {
    fn take(&mut self, py: Python<'_>, portion: Portion) -> Got {
        let (mut reads, mut rejects) = (vec![], vec![]);
        let ended = py.detach(|| self.read(portion, &mut reads, &mut rejects));
        let mut got = Got {
            reads,
            end: ended.map(|end| end.map_err(|error| errors::input(py, &error))),
            ..Got::default()
        };
        for reject in rejects {
            match errors::rejected(py, &reject) {
                Ok(object) if portion.strict => {
                    got.end = Some(Err(PyErr::from_value(object)));
                }
                Ok(object) => got.rejected.push(object.unbind()),
                Err(error) => got.end = Some(Err(error)),
            }
        }
        got
    }

    /// Reads up to so many; how the input ended, if it has.
    fn read(
        &mut self,
        portion: Portion,
        reads: &mut Vec<Read>,
        rejects: &mut Vec<Reject>,
    ) -> Option<Result<(), InputError>> {
        let mut bases = 0;
        let mut open = Read {
            name: vec![],
            codes: vec![],
        };
        while reads.len() + rejects.len() < portion.most && bases < MANY_BASES {
            if portion.strict && !rejects.is_empty() {
                return None;
            }
            match self.reader.next_chunk(&mut self.chunk) {
                Ok(Step::End) => {
                    return Some(self.reader.all_rejected().map_or(Ok(()), Err));
                }
                Err(error) => return Some(Err(error)),
                Ok(Step::Rejected(reject)) => {
                    if !reject.reason.passes_over() {
                        rejects.push(*reject);
                    }
                }
                Ok(Step::Chunk) => {
                    if self.chunk.first {
                        open.name.clone_from(&self.chunk.name);
                        open.codes.clear();
                    }
                    open.codes.extend_from_slice(&self.chunk.codes);
                    match self.chunk.end.take() {
                        None => {}
                        Some(RecordEnd::Rejected(reject)) => rejects.push(*reject),
                        Some(RecordEnd::Complete) => {
                            bases += open.codes.len();
                            reads.push(Read {
                                name: std::mem::take(&mut open.name),
                                codes: std::mem::take(&mut open.codes),
                            });
                        }
                    }
                }
            }
        }
        None
    }
}
