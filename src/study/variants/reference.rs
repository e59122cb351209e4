//! The reference genome: bases of a contig by position, from a FASTA file.

use super::error::StudyError;
use super::genes::key;
use crate::reads::fastx::{Chunk, Limits, Reader, RecordEnd, Step};
use crate::reads::nucleotide;
use crate::reads::source::Input;
use noodles_core::{Position, Region};
use noodles_fasta::fai;
use noodles_fasta::io::{BufReader, IndexedReader, indexed_reader};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Bases read at once, so that variants in order of position share them.
const BLOCK: u64 = 1 << 18;

/// Most bases of a reference that is held in memory, because gzip lets nobody read in its middle.
const MOST_HELD: u64 = 1 << 30;

/// Contigs of a reference, and their bases.
pub struct Reference {
    name: String,
    contigs: Vec<Contig>,
    by_name: HashMap<String, usize>,
    /// By what other files may call it; contigs that share that are left out.
    by_key: HashMap<String, Option<usize>>,
    source: Source,
    block: Block,
}

struct Contig {
    name: String,
    length: u64,
}

enum Source {
    Indexed(Box<IndexedReader<BufReader<File>>>),
    Held(Vec<Vec<u8>>),
}

/// Codes that were read last.
#[derive(Default)]
struct Block {
    contig: usize,
    start: u64,
    codes: Vec<u8>,
}

impl Reference {
    /// Opens a FASTA file. A plain one is read through its index FILE.fai; where there is none, one
    /// is made and put beside it, if that can be done. One in bgzip needs FILE.fai and FILE.gzi, or
    /// is held in memory like one in gzip.
    ///
    /// # Errors
    /// Where it cannot be read, is no FASTA, or is too large to be held.
    pub fn open(path: &Path) -> Result<Reference, StudyError> {
        let name = path.display().to_string();
        let failed = |source| StudyError::Io {
            file: name.clone(),
            source,
        };
        let compressed = is_compressed(path).map_err(failed)?;
        let (contigs, source) = if compressed && !with(path, "gzi").exists() {
            held(path, &name)?
        } else {
            let index = index(path, compressed, &name)?;
            let records: &[fai::Record] = index.as_ref();
            let contigs = records.iter().map(|record| Contig {
                name: record.name().to_string(),
                length: record.length(),
            });
            let contigs = contigs.collect();
            let builder = indexed_reader::Builder::default().set_index(index);
            let reader = builder.build_from_path(path).map_err(failed)?;
            (contigs, Source::Indexed(Box::new(reader)))
        };
        let mut by_name = HashMap::new();
        let mut by_key = HashMap::new();
        for (number, Contig { name, .. }) in contigs.iter().enumerate() {
            if by_name.insert(name.clone(), number).is_some() {
                let reason = format!("has two sequences of the name {name}");
                return Err(StudyError::input(&path.display().to_string(), reason));
            }
            by_key
                .entry(key(name).to_string())
                .and_modify(|own| *own = None)
                .or_insert(Some(number));
        }
        if contigs.is_empty() {
            return Err(StudyError::input(&name, "holds no sequence"));
        }
        Ok(Reference {
            name,
            contigs,
            by_name,
            by_key,
            source,
            block: Block::default(),
        })
    }

    /// The number of a contig: by its name, or with or without `chr`.
    pub fn contig(&self, name: &str) -> Option<usize> {
        let own = self.by_name.get(name).copied();
        own.or_else(|| self.by_key.get(key(name)).copied().flatten())
    }

    /// Bases of a contig.
    ///
    /// # Panics
    /// Where there is no such contig.
    pub fn length(&self, contig: usize) -> u64 {
        self.contigs[contig].length
    }

    /// The code of one base.
    ///
    /// # Errors
    /// Where the file cannot be read.
    ///
    /// # Panics
    /// Where the contig has no such base.
    pub fn base(&mut self, contig: usize, position: u64) -> Result<u8, StudyError> {
        let codes = self.block(contig, position)?;
        Ok(codes[0])
    }

    /// Appends the codes of some bases, which the contig has.
    ///
    /// # Errors
    /// Where the file cannot be read.
    ///
    /// # Panics
    /// Where the contig ends before.
    pub fn read(
        &mut self,
        contig: usize,
        range: Range<u64>,
        codes: &mut Vec<u8>,
    ) -> Result<(), StudyError> {
        assert!(range.end <= self.length(contig));
        let mut from = range.start;
        while from < range.end {
            let block = self.block(contig, from)?;
            let count = block.len().min((range.end - from) as usize);
            codes.extend_from_slice(&block[..count]);
            from += count as u64;
        }
        Ok(())
    }

    /// Codes from a position on, as many as are at hand: at least one.
    fn block(&mut self, contig: usize, position: u64) -> Result<&[u8], StudyError> {
        let length = self.length(contig);
        assert!(position < length);
        let reader = match &mut self.source {
            Source::Held(contigs) => return Ok(&contigs[contig][position as usize..]),
            Source::Indexed(reader) => reader,
        };
        let block = &mut self.block;
        let held = block.start..block.start + block.codes.len() as u64;
        if block.contig != contig || !held.contains(&position) {
            let start = position - position % BLOCK;
            let end = (start + BLOCK).min(length);
            let name = &self.contigs[contig].name;
            let read = query(reader, name, start..end);
            let letters = read.map_err(|source| StudyError::Io {
                file: format!("{}: {name}:{}-{end}", self.name, start + 1),
                source,
            })?;
            block.codes.clear();
            (block.contig, block.start) = (contig, start);
            nucleotide::encode(&letters, &mut block.codes);
        }
        Ok(&block.codes[(position - block.start) as usize..])
    }
}

/// Letters of a contig.
fn query(
    reader: &mut IndexedReader<BufReader<File>>,
    name: &str,
    range: Range<u64>,
) -> io::Result<Vec<u8>> {
    let position = |at: u64| {
        let at = usize::try_from(at).ok().and_then(Position::new);
        at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
    };
    let region = Region::new(name, position(range.start + 1)?..=position(range.end)?);
    let record = reader.query(&region)?;
    let letters: &[u8] = record.sequence().as_ref();
    if letters.len() as u64 != range.end - range.start {
        let reason = "its index does not belong to it: remove the file that ends in .fai";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(letters.to_vec())
}

fn with(path: &Path, ending: &str) -> PathBuf {
    path.with_added_extension(ending)
}

fn is_compressed(path: &Path) -> io::Result<bool> {
    let mut magic = [0u8; 2];
    let mut file = File::open(path)?;
    match io::Read::read_exact(&mut file, &mut magic) {
        Ok(()) => Ok(magic == [0x1f, 0x8b]),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The index beside a file, or one that is made.
fn index(path: &Path, compressed: bool, name: &str) -> Result<fai::Index, StudyError> {
    let beside = with(path, "fai");
    let failed = |file: &Path| {
        let file = file.display().to_string();
        move |source| StudyError::Io { file, source }
    };
    if beside.exists() {
        let older = || Some(modified(&beside)? < modified(path)?);
        if older() == Some(true) {
            log::warn!("{} is older than {name}", beside.display());
        }
        return fai::fs::read(&beside).map_err(failed(&beside));
    }
    if compressed {
        let reason = format!("{name}.gzi is there, {name}.fai is not: samtools faidx makes both");
        return Err(StudyError::input(name, reason));
    }
    let index = noodles_fasta::fs::index(path).map_err(|error| {
        StudyError::input(name, format!("no FASTA file that can be indexed: {error}"))
    })?;
    // Whole or not at all, also after a power cut: others read it, too.
    let part = with(&beside, "part");
    let written = fai::fs::write(&part, &index).and_then(|()| File::open(&part)?.sync_all());
    let placed = written.and_then(|()| fs::rename(&part, &beside));
    match placed {
        Ok(()) => log::info!("made {}", beside.display()),
        Err(error) => {
            let _ = fs::remove_file(&part);
            log::warn!("{}: {error}; the next run makes it again", beside.display());
        }
    }
    Ok(index)
}

fn modified(path: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// All of a compressed file.
fn held(path: &Path, name: &str) -> Result<(Vec<Contig>, Source), StudyError> {
    let limits = Limits::default();
    let wrong = |error: crate::reads::source::InputError| StudyError::input(name, error);
    let mut reader = Reader::open(Input::from_argument(path), limits, 0).map_err(wrong)?;
    let mut chunk = Chunk::with_capacity(limits.chunk_bases);
    let (mut contigs, mut all, mut codes): (Vec<Contig>, Vec<Vec<u8>>, Vec<u8>) =
        (vec![], vec![], vec![]);
    let mut total = 0;
    loop {
        match reader.next_chunk(&mut chunk).map_err(wrong)? {
            Step::End => return Ok((contigs, Source::Held(all))),
            Step::Rejected(reject) => return Err(StudyError::input(name, reject)),
            Step::Chunk => (),
        }
        total += chunk.codes.len() as u64;
        if total > MOST_HELD {
            let reason = "compressed, and too large to be held in memory: decompress it, or \
                compress it with bgzip and run samtools faidx";
            return Err(StudyError::input(name, reason));
        }
        codes.extend_from_slice(&chunk.codes);
        match &chunk.end {
            None => (),
            Some(RecordEnd::Rejected(reject)) => return Err(StudyError::input(name, reject)),
            Some(RecordEnd::Complete) => {
                contigs.push(Contig {
                    name: String::from_utf8_lossy(&chunk.name).into_owned(),
                    length: codes.len() as u64,
                });
                all.push(std::mem::take(&mut codes));
            }
        }
    }
}
