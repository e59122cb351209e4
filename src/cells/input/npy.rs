//! One array of an `.npz`: NumPy's `.npy` format, versions 1 to 3, little-endian.

use super::array::{Element, Numbers, PIECE, Words};
use super::zip::{Archive, MemberReader};
use crate::cells::error::CellsError;
use std::rc::Rc;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Longest header in bytes; NumPy itself reads no longer one.
const LONGEST_HEADER: usize = 10_000;

/// Longest text of an array in bytes.
const LONGEST_TEXT: usize = 1 << 16;

/// What an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Number(Element),
    /// UTF-32, so many bytes.
    Unicode(usize),
    /// Bytes, so many.
    Bytes(usize),
}

impl Kind {
    /// What `descr` says.
    fn new(descr: &str) -> Result<Kind, String> {
        let refused = |what: &str| Err(format!("elements of type `{descr}` are {what}"));
        let Some((order, rest)) = descr.split_at_checked(1) else {
            return refused("not read");
        };
        let Some((letter, size)) = rest.split_at_checked(1) else {
            return refused("not read");
        };
        if letter == "O" {
            return refused("Python objects (pickle), which are never read: store text as `<U`");
        }
        let Ok(size) = size.parse::<usize>() else {
            return refused("not read");
        };
        if order == ">" && size > 1 {
            return refused("big-endian, where little-endian is read");
        }
        match (letter, size) {
            ("b", 1) => Ok(Kind::Bool),
            ("f", 2 | 4 | 8) => Ok(Kind::Number(Element::Float(size))),
            ("i", 1 | 2 | 4 | 8) => Ok(Kind::Number(Element::Signed(size))),
            ("u", 1 | 2 | 4 | 8) => Ok(Kind::Number(Element::Unsigned(size))),
            ("U", _) if size <= LONGEST_TEXT / 4 => Ok(Kind::Unicode(4 * size)),
            ("S", _) if size <= LONGEST_TEXT => Ok(Kind::Bytes(size)),
            _ => refused("not read"),
        }
    }

    fn size(self) -> usize {
        match self {
            Kind::Bool => 1,
            Kind::Number(element) => element.size(),
            Kind::Unicode(size) | Kind::Bytes(size) => size,
        }
    }
}

/// What stands before the elements.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    kind: Kind,
    by_column: bool,
    shape: Vec<u64>,
}

/// The text behind a key of the header, which Python writes as a literal of a dictionary.
fn value<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let quoted = format!("'{key}':");
    let (_, rest) = header.split_once(&quoted)?;
    Some(rest.trim_start())
}

impl Header {
    fn parse(text: &str) -> Result<Header, String> {
        let lacks = |key: &str| format!("its header lacks `{key}`");
        let descr = value(text, "descr").ok_or_else(|| lacks("descr"))?;
        if descr.starts_with('[') {
            return Err("it is a record array, which is not read".into());
        }
        let descr = descr
            .strip_prefix('\'')
            .and_then(|rest| rest.split_once('\''));
        let kind = Kind::new(descr.ok_or_else(|| lacks("descr"))?.0)?;
        let order = value(text, "fortran_order").ok_or_else(|| lacks("fortran_order"))?;
        let shape = value(text, "shape").and_then(|rest| rest.strip_prefix('('));
        let shape = shape.and_then(|rest| rest.split_once(')'));
        let sizes = shape
            .ok_or_else(|| lacks("shape"))?
            .0
            .split(',')
            .map(str::trim);
        let sizes = sizes.filter(|size| !size.is_empty()).map(str::parse);
        let shape: Result<Vec<u64>, _> = sizes.collect();
        Ok(Header {
            kind,
            by_column: order.starts_with("True"),
            shape: shape.map_err(|_| "its shape is not of whole numbers".to_string())?,
        })
    }
}

/// A reader of one array.
pub(super) struct Npy {
    archive: Rc<Archive>,
    /// Name of the array, without `.npy`.
    name: String,
    member: MemberReader,
    header: Header,
    len: u64,
    bytes: Vec<u8>,
}

impl Npy {
    /// Opens an array; `None` where the archive has none of this name.
    pub(super) fn open(archive: &Rc<Archive>, name: &str) -> Result<Option<Npy>, CellsError> {
        let Some(mut member) = archive.member(&format!("{name}.npy"))? else {
            return Ok(None);
        };
        let mut start = [0; 10];
        member.fill(&mut start)?;
        let length = if !start.starts_with(MAGIC) {
            return Err(member.wrong("it does not begin as an npy file"));
        } else if start[6] == 1 {
            usize::from(u16::from_le_bytes([start[8], start[9]]))
        } else if matches!(start[6], 2 | 3) {
            let mut more = [0; 2];
            member.fill(&mut more)?;
            u32::from_le_bytes([start[8], start[9], more[0], more[1]]) as usize
        } else {
            return Err(member.wrong(format!("npy version {} is not read", start[6])));
        };
        if length > LONGEST_HEADER {
            return Err(member.wrong(format!("its header is longer than {LONGEST_HEADER} bytes")));
        }
        let mut text = vec![0; length];
        member.fill(&mut text)?;
        let header = Header::parse(&String::from_utf8_lossy(&text));
        let header = header.map_err(|reason| member.wrong(reason))?;
        if header.by_column && header.shape.len() > 1 {
            return Err(member.wrong("it is in Fortran order, where C order is read"));
        }
        let len = header
            .shape
            .iter()
            .try_fold(1u64, |all, &size| all.checked_mul(size));
        let bytes = len.and_then(|len| len.checked_mul(header.kind.size() as u64));
        let Some(len) = len.filter(|_| bytes == Some(member.left())) else {
            return Err(member.wrong(format!(
                "{} bytes follow its header, which is not what its shape {:?} needs",
                member.left(),
                header.shape
            )));
        };
        Ok(Some(Npy {
            archive: archive.clone(),
            name: name.into(),
            member,
            header,
            len,
            bytes: vec![],
        }))
    }

    /// Its sizes.
    pub(super) fn shape(&self) -> &[u64] {
        &self.header.shape
    }

    /// What its numbers are; flags are 0 and 1.
    fn element(&self) -> Result<Element, CellsError> {
        match self.header.kind {
            Kind::Number(element) => Ok(element),
            Kind::Bool => Ok(Element::Unsigned(1)),
            Kind::Unicode(_) | Kind::Bytes(_) => {
                Err(self.wrong("it has texts, where numbers are needed".into()))
            }
        }
    }

    /// Reads the bytes of some elements.
    fn fill(&mut self, count: usize) -> Result<(), CellsError> {
        self.bytes.resize(count * self.header.kind.size(), 0);
        self.member.fill(&mut self.bytes)
    }

    /// An element as text, numbers as Python shows them.
    pub(super) fn next_shown(&mut self) -> Result<String, CellsError> {
        match self.header.kind {
            Kind::Unicode(_) | Kind::Bytes(_) => Words::next(self),
            Kind::Number(element) => {
                self.fill(1)?;
                Ok(element.shown(&self.bytes))
            }
            Kind::Bool => {
                self.fill(1)?;
                Ok(if self.bytes == [0] { "False" } else { "True" }.into())
            }
        }
    }
}

impl Numbers for Npy {
    fn len(&self) -> u64 {
        self.len
    }

    fn wrong(&self, reason: String) -> CellsError {
        CellsError::part(self.archive.file(), &self.name, reason)
    }

    fn reals(&mut self, count: usize, out: &mut Vec<f32>) -> Result<(), CellsError> {
        let (element, mut left) = (self.element()?, count);
        while left > 0 {
            let piece = left.min(PIECE);
            self.fill(piece)?;
            element.reals(&self.bytes, out);
            left -= piece;
        }
        Ok(())
    }

    fn wholes(&mut self, count: usize, out: &mut Vec<u64>) -> Result<(), CellsError> {
        let (element, mut left) = (self.element()?, count);
        while left > 0 {
            let piece = left.min(PIECE);
            self.fill(piece)?;
            element
                .wholes(&self.bytes, out)
                .map_err(|reason| self.wrong(reason))?;
            left -= piece;
        }
        Ok(())
    }

    fn rewind(&mut self) -> Result<(), CellsError> {
        match Npy::open(&self.archive, &self.name)? {
            Some(again) => *self = again,
            None => return Err(self.wrong("it is no longer there".into())),
        }
        Ok(())
    }
}

impl Words for Npy {
    fn len(&self) -> u64 {
        self.len
    }

    fn next(&mut self) -> Result<String, CellsError> {
        let text = match self.header.kind {
            Kind::Unicode(0) | Kind::Bytes(0) => Some(String::new()),
            Kind::Unicode(_) => {
                self.fill(1)?;
                let (letters, _) = self.bytes.as_chunks();
                let letters = letters.iter().map(|&letter| u32::from_le_bytes(letter));
                let length = letters.clone().rposition(|letter| letter != 0);
                let own = letters.take(length.map_or(0, |last| last + 1));
                own.map(char::from_u32).collect()
            }
            Kind::Bytes(_) => {
                self.fill(1)?;
                let length = self.bytes.iter().rposition(|&byte| byte != 0);
                let own = &self.bytes[..length.map_or(0, |last| last + 1)];
                String::from_utf8(own.to_vec()).ok()
            }
            _ => return Err(self.wrong("it has numbers, where texts are needed".into())),
        };
        text.ok_or_else(|| self.wrong("it has a text that is not Unicode".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_numpy() {
        let parse = Header::parse;
        let header = parse("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }   \n");
        let expected = Header {
            kind: Kind::Number(Element::Float(4)),
            by_column: false,
            shape: vec![3],
        };
        assert_eq!(header.unwrap(), expected);
        let header = parse("{'shape': (2, 5), 'fortran_order': True, 'descr': '<U17'}").unwrap();
        assert_eq!((header.kind, header.by_column), (Kind::Unicode(68), true));
        assert_eq!(header.shape, [2, 5]);
        let header = parse("{'descr':'|S3','fortran_order':False,'shape':()}").unwrap();
        assert_eq!((header.kind, header.shape), (Kind::Bytes(3), vec![]));
    }

    #[test]
    fn what_is_refused_is_named() {
        let error = |descr: &str| {
            let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,), }}");
            Header::parse(&text).unwrap_err()
        };
        assert!(error("'|O'").contains("pickle"));
        assert!(error("'>f4'").contains("big-endian"));
        assert!(error("'<c8'").contains("`<c8`"));
        assert!(error("[('a', '<f4')]").contains("record array"));
        assert!(error("'<U99999999999999999999'").contains("not read"));
        assert!(Header::parse("").unwrap_err().contains("descr"));
    }
}
