//! One record of a VCF from its line to what is written of it.

use super::allele::{Change, Unscored, codes};
use super::effect::{Comparison, Place, Shift, around};
use super::error::StudyError;
use super::genes::{Gene, Genes};
use super::reference::Reference;
use super::vcf::{self, Record};
use crate::annotate::AnnotateError;
use crate::call::{CallKind, Strand};
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The VCF with fields of ours in INFO.
    Vcf,
    /// A line for each allele, strand and score.
    Tsv,
}

/// The header of [`Format::Tsv`].
pub const TSV_HEADER: &str = "chrom\tpos\tid\tref\talt\tstrand\tsymbol\tscore\tgain\tloss\
    \tgain_pos\tloss_pos\tlog_odds_ratio\tunscored";

/// How records are scored.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What is written.
    pub format: Format,
    /// As [`Shift::masked`]; for genes of an annotation only.
    pub mask: bool,
}

/// A record that is ready to be scored: nothing of the reference is read any more.
#[derive(Debug)]
pub struct Prepared {
    line: Vec<u8>,
    info: Range<usize>,
    position: u64,
    /// CHROM, POS, ID, REF with tabs between.
    head: String,
    alleles: Vec<Allele>,
}

#[derive(Debug)]
struct Allele {
    letters: String,
    place: Result<Place, Unscored>,
    /// Whose scores are compared; without an annotation both strands of none.
    genes: Vec<(Strand, Option<Arc<Gene>>)>,
}

/// What became of the alleles of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Alleles that were scored.
    pub scored: u64,
    /// Those that were not.
    pub unscored: Vec<(String, Unscored)>,
}

/// Why a record is not prepared.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The line is no record.
    #[error("{0}")]
    Line(String),
    /// The reference cannot be read.
    #[error(transparent)]
    Reference(#[from] StudyError),
}

/// An allele's reason, or why nothing can be read at all.
enum Stop {
    Allele(Unscored),
    Reference(StudyError),
}

impl From<Unscored> for Stop {
    fn from(reason: Unscored) -> Stop {
        Stop::Allele(reason)
    }
}

impl From<StudyError> for Stop {
    fn from(error: StudyError) -> Stop {
        Stop::Reference(error)
    }
}

impl Prepared {
    /// Reads a line, and of the reference what `reach` bases around each change takes.
    ///
    /// # Errors
    /// Where the line is no record, or the reference cannot be read.
    pub fn new(
        line: Vec<u8>,
        reference: &mut Reference,
        genes: Option<&Genes>,
        reach: usize,
    ) -> Result<Prepared, Failed> {
        let record = Record::new(&line).map_err(Failed::Line)?;
        let mut alleles = vec![];
        for letters in record.alleles() {
            let mut allele = Allele {
                letters: letters.to_string(),
                place: Err(Unscored::NoChange),
                genes: vec![],
            };
            match place(&record, letters, reference, reach) {
                Ok((place, spread)) => {
                    allele.genes = match genes {
                        None => [Strand::Forward, Strand::Reverse].map(|s| (s, None)).into(),
                        Some(genes) => genes
                            .at(record.contig, spread)
                            .map(|gene| (gene.strand, Some(gene.clone())))
                            .collect(),
                    };
                    allele.place = if allele.genes.is_empty() {
                        Err(Unscored::NoGene)
                    } else {
                        Ok(place)
                    };
                }
                Err(Stop::Allele(reason)) => allele.place = Err(reason),
                Err(Stop::Reference(error)) => return Err(error.into()),
            }
            alleles.push(allele);
        }
        Ok(Prepared {
            info: record.info.clone(),
            position: record.position,
            head: format!(
                "{}\t{}\t{}\t{}",
                record.contig, record.position, record.id, record.reference
            ),
            alleles,
            line,
        })
    }

    /// CHROM and POS, for messages.
    pub fn name(&self) -> String {
        self.head.split('\t').take(2).collect::<Vec<_>>().join(":")
    }

    /// Scores all alleles and appends what is written of the record.
    ///
    /// # Errors
    /// Where a model fails.
    pub fn score(
        &self,
        comparisons: &mut [Comparison],
        settings: Settings,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, AnnotateError> {
        let mut outcome = Outcome::default();
        let mut fields = vec![String::new(); comparisons.len()];
        let (mut unscored, mut rows) = (String::new(), String::new());
        let mut shifts = vec![];
        for allele in &self.alleles {
            let letters = escaped(&allele.letters);
            let place = match &allele.place {
                Ok(place) => place,
                Err(reason) => {
                    let comma = if unscored.is_empty() { "" } else { "," };
                    let _ = write!(unscored, "{comma}{letters}|{reason}");
                    let _ = writeln!(
                        rows,
                        "{}\t{}\t.\t.\t.\tNA\tNA\tNA\tNA\tNA\t{reason}",
                        self.head, allele.letters
                    );
                    outcome.unscored.push((allele.letters.clone(), *reason));
                    continue;
                }
            };
            outcome.scored += 1;
            for (comparison, field) in comparisons.iter_mut().zip(&mut fields) {
                for (strand, gene) in &allele.genes {
                    comparison.run(place, *strand, &mut shifts)?;
                    if let (true, Some(gene), "splice") = (settings.mask, gene, comparison.task()) {
                        shifts
                            .iter_mut()
                            .for_each(|shift| *shift = shift.masked(gene));
                    }
                    let symbol = gene.as_ref().map_or(".", |gene| &gene.symbol);
                    match settings.format {
                        Format::Vcf => {
                            let head = format!("{letters}|{strand}|{}", escaped(symbol));
                            self.entries(comparison, &head, &shifts, field);
                        }
                        Format::Tsv => {
                            let head = format!(
                                "{}\t{}\t{strand}\t{}",
                                self.head,
                                allele.letters,
                                symbol.replace('\t', " ")
                            );
                            self.rows(comparison, &head, &shifts, &mut rows);
                        }
                    }
                }
            }
        }
        match settings.format {
            Format::Tsv => out.extend_from_slice(rows.as_bytes()),
            Format::Vcf => {
                let keys = comparisons.iter().map(|comparison| key(comparison.task()));
                let all = keys.zip(fields).chain([(key("unscored"), unscored)]);
                let all = all.filter(|(_, values)| !values.is_empty());
                let all: Vec<String> = all.map(|(key, values)| format!("{key}={values}")).collect();
                vcf::with_info(&self.line, self.info.clone(), &all.join(";"), out);
            }
        }
        Ok(outcome)
    }

    /// Bases from POS, as it is written, to a position.
    fn beyond_pos(&self, at: u64) -> i64 {
        at as i64 + 1 - self.position as i64
    }

    fn entries(&self, comparison: &Comparison, head: &str, shifts: &[Shift], field: &mut String) {
        let mut add = |values: std::fmt::Arguments<'_>| {
            let comma = if field.is_empty() { "" } else { "," };
            let _ = write!(field, "{comma}{head}|{values}");
        };
        if let Some([acceptor, donor]) = sites(comparison, shifts) {
            return add(format_args!(
                "{:.4}|{:.4}|{:.4}|{:.4}|{}|{}|{}|{}",
                acceptor.gain,
                acceptor.loss,
                donor.gain,
                donor.loss,
                self.beyond_pos(acceptor.gain_at),
                self.beyond_pos(acceptor.loss_at),
                self.beyond_pos(donor.gain_at),
                self.beyond_pos(donor.loss_at)
            ));
        }
        for (compared, shift) in comparison.compared().iter().zip(shifts) {
            add(format_args!(
                "{}|{:.4}|{:.4}|{}|{}|{:.4}",
                escaped(&compared.name),
                shift.gain,
                shift.loss,
                self.beyond_pos(shift.gain_at),
                self.beyond_pos(shift.loss_at),
                shift.log_odds
            ));
        }
    }

    fn rows(&self, comparison: &Comparison, head: &str, shifts: &[Shift], rows: &mut String) {
        for (compared, shift) in comparison.compared().iter().zip(shifts) {
            let _ = writeln!(
                rows,
                "{head}\t{}\t{:.6}\t{:.6}\t{}\t{}\t{:.6}\t.",
                compared.name,
                shift.gain,
                shift.loss,
                self.beyond_pos(shift.gain_at),
                self.beyond_pos(shift.loss_at),
                shift.log_odds
            );
        }
    }
}

/// The shifts of acceptors and donors, where a model has just these.
fn sites<'a>(comparison: &Comparison, shifts: &'a [Shift]) -> Option<[&'a Shift; 2]> {
    let compared = comparison.compared();
    let of = |kind: CallKind| {
        let at = compared.iter().position(|own| own.kind == kind)?;
        shifts.get(at)
    };
    let both = [of(CallKind::Acceptor)?, of(CallKind::Donor)?];
    (compared.len() == 2).then_some(both)
}

/// The sequence of an allele and around it, and the bases that it touches.
fn place(
    record: &Record<'_>,
    letters: &str,
    reference: &mut Reference,
    reach: usize,
) -> Result<(Place, Range<u64>), Stop> {
    let alternative = codes(letters)?;
    let own = codes(record.reference).map_err(|reason| match reason {
        Unscored::TooLong => reason,
        _ => Unscored::Letters,
    })?;
    let contig = reference.contig(record.contig).ok_or(Unscored::NoContig)?;
    let length = reference.length(contig);
    // A telomere has POS 0, and there is no base.
    let position = record.position.checked_sub(1);
    let position = position.ok_or(Unscored::BeyondContig)?;
    let end = position.saturating_add(own.len() as u64);
    if end > length {
        return Err(Unscored::BeyondContig.into());
    }
    let mut there = vec![];
    reference.read(contig, position..end, &mut there)?;
    if there != own {
        return Err(Unscored::ReferenceDiffers.into());
    }
    let change = Change::new(position, &own, &alternative, |at| {
        reference.base(contig, at).map_err(Stop::Reference)
    })?;
    let spread = change.spread(length, |at| reference.base(contig, at))?;
    let [before, behind] = around(&change.replaced, reach as u64, length);
    let ended = behind.end == length;
    let mut read = |range: Range<u64>| {
        let mut codes = vec![];
        reference.read(contig, range, &mut codes).map(|()| codes)
    };
    let place = Place {
        start: change.replaced.start,
        before: read(before)?,
        replaced: read(change.replaced.clone())?,
        by: change.by,
        behind: read(behind)?,
        ended,
    };
    Ok((place, spread))
}

/// The INFO key of a task.
pub fn key(task: &str) -> String {
    match task {
        "splice" => vcf::PREFIX.to_string(),
        _ => format!("{}_{}", vcf::PREFIX, task.to_uppercase().replace('-', "_")),
    }
}

/// Header lines for the fields that `comparisons` fill, in the order in which they are written.
pub fn header_lines(comparisons: &[Comparison], distance: usize) -> String {
    let mut lines = String::new();
    let version = env!("CARGO_PKG_VERSION");
    for comparison in comparisons {
        let (model, key) = (comparison.model_name(), key(comparison.task()));
        let values = match sites(comparison, &vec![NONE; comparison.compared().len()]) {
            Some(_) => {
                "ALLELE|STRAND|SYMBOL|DS_AG|DS_AL|DS_DG|DS_DL|DP_AG|DP_AL|DP_DG|DP_DL: greatest \
                 gain and loss of acceptor and donor probability, and where, from POS"
            }
            None => {
                "ALLELE|STRAND|SYMBOL|SCORE|DS_G|DS_L|DP_G|DP_L|LOR: greatest gain and loss of \
                 probability, where, from POS, and the natural logarithm of the odds ratio"
            }
        };
        let _ = writeln!(
            lines,
            "##INFO=<ID={key},Number=.,Type=String,Description=\"{values}; within {distance} \
             bases, strandline {version}, {model}\">"
        );
    }
    let _ = writeln!(
        lines,
        "##INFO=<ID={},Number=.,Type=String,Description=\"ALLELE|REASON: why strandline \
         {version} does not score it\">",
        key("unscored")
    );
    lines
}

const NONE: Shift = Shift {
    gain: 0.0,
    gain_at: 0,
    loss: 0.0,
    loss_at: 0,
    log_odds: 0.0,
};

/// A value of INFO, without what has a meaning there.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            ';' | '=' | '|' | ',' | '%' | ' ' => {
                let _ = write!(out, "%{:02X}", letter as u32);
            }
            _ if letter.is_control() => out.push('_'),
            _ => out.push(letter),
        }
    }
    out
}
