//! BAM records written on as they came, with calls in two local tags.
//!
//! - `yn`: the number of calls, on every record that was annotated, 0 included.
//! - `yc` (`Z`): the calls, as the columns of [`Format::Tsv`](super::Format::Tsv) without the
//!   read's name, with blanks between columns and semicolons between calls.
//!
//! Positions are those of the read as it was sequenced, as those of the base modification tags are;
//! an aligned record's SEQ is its reverse complement where the flag 0x10 is set. `yn` and `yc` of
//! an earlier run are replaced; every other byte of a record stays as it was. The header gets a
//! `@PG` line.

use super::bgzf::BgzfWriter;
use super::{ModelTag, text};
use crate::call::Call;
use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

/// How many calls a record has.
const COUNT: &[u8; 2] = b"yn";
/// The calls.
const CALLS: &[u8; 2] = b"yc";

/// Writes the records of one BAM input on, the annotated ones with their calls.
#[derive(Debug)]
pub struct BamWriter<W: Write> {
    blocks: BgzfWriter<W>,
    header: Arc<OnceLock<Vec<u8>>>,
    begun: bool,
    command: String,
    labels: Vec<String>,
    /// Calls of the record at hand.
    calls: Vec<Call>,
    record: Vec<u8>,
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}

impl<W: Write> BamWriter<W> {
    /// A writer of the records whose header comes to lie in `header`; [`Call::model`] indexes
    /// `models`, and `command` is what was called, for the header.
    pub fn new(
        writer: W,
        header: Arc<OnceLock<Vec<u8>>>,
        command: &str,
        models: &[ModelTag],
    ) -> BamWriter<W> {
        let fit = |c: char| {
            if c.is_ascii_graphic() && c != ';' {
                c
            } else {
                '_'
            }
        };
        let labels = models.iter().map(|m| format!("{}/{}", m.name, m.version));
        BamWriter {
            blocks: BgzfWriter::new(writer),
            header,
            begun: false,
            command: command.replace(|c: char| c.is_control(), " "),
            labels: labels.map(|l| l.chars().map(fit).collect()).collect(),
            calls: vec![],
            record: vec![],
        }
    }

    /// Takes calls of the record that comes next.
    pub fn calls(&mut self, calls: &[Call]) {
        self.calls.extend_from_slice(calls);
    }

    /// Forgets them.
    pub fn forget(&mut self) {
        self.calls.clear();
    }

    /// Writes a record with its calls: its size, fields, bases and qualities as they
    /// came, then its tags.
    ///
    /// # Errors
    /// The writer's; [`io::ErrorKind::InvalidInput`] where a call names no model of this writer, or
    /// a tag is broken, or the record gets too long.
    pub fn annotated<'a>(
        &mut self,
        fields: &[u8],
        tags: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> io::Result<()> {
        let out = &mut self.record;
        out.clear();
        out.extend_from_slice(fields);
        for tag in tags {
            let Some(tag) = tag else {
                return Err(invalid("a record with a broken tag"));
            };
            if !tag.starts_with(COUNT) && !tag.starts_with(CALLS) {
                out.extend_from_slice(tag);
            }
        }
        out.extend_from_slice(COUNT);
        match u8::try_from(self.calls.len()) {
            Ok(count) => out.extend([b'C', count]),
            Err(_) => {
                out.push(b'I');
                out.extend((self.calls.len() as u32).to_le_bytes());
            }
        }
        for (i, call) in self.calls.iter().enumerate() {
            let Some(label) = self.labels.get(usize::from(call.model)) else {
                let models = self.labels.len();
                return Err(invalid(format!(
                    "a call names model {} of {models}",
                    call.model
                )));
            };
            match i {
                0 => out.extend([CALLS[0], CALLS[1], b'Z']),
                _ => out.push(b';'),
            }
            text::columns(out, call, label, ' ')?;
        }
        if !self.calls.is_empty() {
            out.push(0);
        }
        self.calls.clear();
        let size = out
            .len()
            .checked_sub(4)
            .and_then(|size| i32::try_from(size).ok());
        let size = size.ok_or_else(|| invalid("no whole BAM record"))?;
        out[..4].copy_from_slice(&size.to_le_bytes());
        self.begin()?;
        self.blocks.write_all(&self.record)
    }

    /// Writes a record as it came.
    ///
    /// # Errors
    /// The writer's.
    pub fn unannotated(&mut self, record: &[u8]) -> io::Result<()> {
        self.begin()?;
        self.blocks.write_all(record)
    }

    fn begin(&mut self) -> io::Result<()> {
        if self.begun {
            return Ok(());
        }
        let Some(header) = self.header.get() else {
            return Ok(());
        };
        self.begun = true;
        let header = with_program(header, &self.command, &self.labels)
            .ok_or_else(|| invalid("a header too long for BAM"))?;
        self.blocks.write_all(&header)?;
        // A reader of a pipe may learn early what it will get.
        self.blocks.flush()
    }

    /// Ends the file, and gives the writer back. One that is not `whole` gets no end block, so that
    /// whoever reads it notices.
    ///
    /// # Errors
    /// The writer's.
    pub fn finish(mut self, whole: bool) -> io::Result<W> {
        self.begin()?;
        self.blocks.finish(whole && self.begun)
    }
}

/// A header with one more `@PG` line, which follows the last; `None` where it gets too long.
fn with_program(header: &[u8], command: &str, labels: &[String]) -> Option<Vec<u8>> {
    let length = u32::from_le_bytes(*header.get(4..)?.first_chunk()?) as usize;
    let (text, references) = header.get(8..)?.split_at_checked(length)?;
    // The text may be padded.
    let end = text
        .iter()
        .rposition(|&b| b != 0)
        .map_or(0, |last| last + 1);
    let mut text = text[..end].to_vec();
    let programs: Vec<&[u8]> = text
        .split(|&b| b == b'\n')
        .filter(|line| line.starts_with(b"@PG\t"))
        .filter_map(|line| {
            line.split(|&b| b == b'\t')
                .find_map(|f| f.strip_prefix(b"ID:"))
        })
        .collect();
    let own = (0u32..).map(|n| match n {
        0 => "strandline".to_string(),
        n => format!("strandline.{n}"),
    });
    let id = own
        .into_iter()
        .find(|id| !programs.contains(&id.as_bytes()))?;
    let mut line = format!(
        "@PG\tID:{id}\tPN:strandline\tVN:{}",
        env!("CARGO_PKG_VERSION")
    )
    .into_bytes();
    if let Some(last) = programs.last() {
        line.extend([b"\tPP:", *last].concat());
    }
    line.extend(
        format!(
            "\tDS:yn: number of calls, yc: the calls, by {}",
            labels.join(", ")
        )
        .bytes(),
    );
    line.extend(format!("\tCL:{command}\n").bytes());
    if !matches!(text.last(), None | Some(b'\n')) {
        text.push(b'\n');
    }
    text.extend(line);
    let length = i32::try_from(text.len()).ok()?;
    Some([&header[..4], &length.to_le_bytes(), &text, references].concat())
}

#[cfg(test)]
mod tests {
    use super::super::bgzf::END;
    use super::*;
    use crate::call::Strand;
    use crate::call::{CallKind, Flags};
    use crate::reads::bam::{BamHeader, BamRecord};
    use crate::reads::fastx::{Chunk, Limits, Reader, Step};
    use crate::reads::source::Input;
    use std::io::{Cursor, Read};

    fn input(text: &str, records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"BAM\x01".to_vec();
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text.bytes());
        bytes.extend([1, 0, 0, 0, 3, 0, 0, 0, b'c', b'1', 0, 9, 0, 0, 0]);
        records.iter().for_each(|record| bytes.extend(record));
        bytes
    }

    /// `ACGT`, with these tags.
    fn record(name: &str, flags: u16, tags: &[u8]) -> Vec<u8> {
        let mut body = vec![0xff; 8];
        body.extend([name.len() as u8 + 1, 0, 0, 0, 0, 0]);
        body.extend(flags.to_le_bytes());
        body.extend([4, 0, 0, 0]);
        body.extend([0xff; 12]);
        body.extend(name.bytes());
        body.extend([0, 0x12, 0x48, 30, 30, 30, 30]);
        body.extend(tags);
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    }

    fn call(start: u64) -> Call {
        Call {
            start,
            end: start + 1,
            strand: Strand::Reverse,
            kind: CallKind::Donor,
            score: 0.5,
            flags: Flags::SHORT_CONTEXT | Flags::AMBIGUOUS,
            model: 0,
        }
    }

    /// Every record of `bytes` annotated with its number of calls by `calls`; the uncompressed
    /// file.
    fn written(bytes: Vec<u8>, calls: impl Fn(u64) -> u64) -> (Vec<u8>, Vec<u8>) {
        let file = Input::Reader("x".into(), Box::new(Cursor::new(bytes)));
        let mut reader = Reader::open(file, Limits::default(), 0).unwrap();
        let header = BamHeader::default();
        reader.keep(header.clone()).unwrap();
        let mut out = vec![];
        let tag = ModelTag {
            name: "m x;".into(),
            version: "1".into(),
            base_rates: vec![],
        };
        let mut writer = BamWriter::new(&mut out, header, "a\tb", &[tag]);
        let mut chunk = Chunk::with_capacity(16);
        loop {
            match reader.next_chunk(&mut chunk).unwrap() {
                Step::End => break,
                Step::Rejected(_) => writer.unannotated(&chunk.bam).unwrap(),
                Step::Chunk => {
                    let made: Vec<Call> = (0..calls(chunk.record)).map(call).collect();
                    writer.calls(&made);
                    let record = BamRecord::parse(&chunk.bam).unwrap();
                    writer.annotated(record.fields, record.tags()).unwrap();
                }
            }
        }
        writer.finish(true).unwrap();
        let mut plain = vec![];
        let mut gunzip = flate2::read::MultiGzDecoder::new(&out[..]);
        gunzip.read_to_end(&mut plain).unwrap();
        (plain, out)
    }

    #[test]
    fn calls_are_added_and_all_else_stays() {
        let kept = b"qsC\x09mvBs\x02\0\0\0\x01\0\x02\0RGZa\0MLBC\0\0\0\0";
        let old = b"ynC\x07ycZold\0";
        let records = [
            record("a", 4, &[&kept[..4], old, &kept[4..]].concat()),
            record("b", 0x904, old),
            record("c", 16, b""),
            record("d", 4, b"zz?"),
        ];
        let (plain, out) = written(
            input("@HD\tVN:1.6\n@PG\tID:x\n@PG\tID:strandline", &records),
            |n| match n {
                0 => 2,
                _ => 300,
            },
        );
        let at = plain
            .windows(4)
            .position(|w| w == b"\nc1\0" || w[1..] == *b"c1\0")
            .unwrap();
        let text = String::from_utf8_lossy(&plain[8..at - 7]).into_owned();
        assert_eq!(
            text,
            "@HD\tVN:1.6\n@PG\tID:x\n@PG\tID:strandline\n\
             @PG\tID:strandline.1\tPN:strandline\tVN:0.1.0\tPP:strandline\t\
             DS:yn: number of calls, yc: the calls, by m_x_/1\tCL:a b\n"
        );
        let rest = &plain[at + 8..];
        let yc = "0 1 - donor 0.5000 m_x_/1 short-context,ambiguous;\
            1 2 - donor 0.5000 m_x_/1 short-context,ambiguous";
        let a = record(
            "a",
            4,
            &[&kept[..], b"ynC\x02ycZ", yc.as_bytes(), b"\0"].concat(),
        );
        assert!(rest.starts_with(&a), "{}", String::from_utf8_lossy(rest));
        let rest = &rest[a.len()..];
        assert!(rest.starts_with(&records[1]));
        let rest = &rest[records[1].len()..];
        let many: Vec<u8> = [&b"ynI\x2c\x01\0\0ycZ0 1 -"[..]].concat();
        assert!(rest.windows(many.len()).any(|w| w == many));
        // Broken tags: as it came.
        assert!(rest.ends_with(&records[3]));
        assert!(out.ends_with(&END));
    }

    #[test]
    fn a_file_that_is_not_whole_does_not_look_so() {
        let mut out = vec![];
        let header = BamHeader::default();
        let writer = BamWriter::new(&mut out, header.clone(), "", &[]);
        writer.finish(true).unwrap();
        assert!(out.is_empty(), "no header, no file");
        let (plain, out) = written(input("", &[]), |_| 0);
        assert!(plain.starts_with(b"BAM\x01") && out.ends_with(&END));
    }
}
