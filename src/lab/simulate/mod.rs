//! Nanopore-like reads with known splice sites, cut from real genes.
//!
//! A read is a piece of a gene or, as often, the reverse complement of one. Where it begins is
//! uniform over all bases of all genes; its length is log-normal-like with a median of 5 kb (σ =
//! 0.8), at least 200 nt and at most the gene. Errors are put in at `error_rate` a base of the
//! gene, in one of two ways ([`Errors`]):
//!
//! - Uniform, base by base: 40 % substitutions, 20 % insertions of one random base before the base,
//!   40 % deletions. Deletions are the commoner the longer the homopolymer: in a run of n bases, n
//!   (at most 8) times as common as elsewhere, with the mean over each read's piece kept. A base's
//!   own error rate is the mean times 1/4, 1/2, 1 or 9/4.
//! - Nanopore: in patches, at a rate of the read's own, with the substitutes, the lengths and the
//!   homopolymers that real reads show (`nanopore.toml`, `models/train/error_profile.py`). At
//!   another rate than theirs all rates are scaled alike, but in no patch more than half of the
//!   bases are wrong.
//!
//! A base's Phred quality tells the rate that it had, between 2 and 50.
//!
//! The truth of a read are the sites of the gene whose exon-edge base is in the read, substituted
//! or not; a site whose base was deleted is gone. On a reversed read the sites lie on its `-`
//! strand. Sites at the very end of a read are kept although nothing of the intron may be left to
//! tell them by.
//!
//! The same seed gives the same bytes on every platform and whatever the number of reads: each read
//! has a ChaCha8 stream of its own, and all arithmetic is that of integers and of IEEE additions
//! and multiplications, without the platform's exponentials.

mod errors;
mod genes;
mod profile;

pub use genes::{GenesError, read_genes};

use crate::call::Strand;
use crate::lab::truth::{GeneSite, GeneSites, READ_HEADER, ReadSite};
use crate::reads::nucleotide;
use errors::ErrorModel;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use std::fmt::Write as _;
use std::io::{self, Write};

const MEDIAN_LENGTH: f64 = 5000.0;
/// The spread of the logarithm (base 2) of the length: 0.8 / ln 2.
const LOG2_SPREAD: f64 = 1.154_156_032_711_17;
const MIN_LENGTH: u64 = 200;

/// The greatest error rate that makes sense of a read.
pub const MAX_ERROR_RATE: f64 = 0.3;

/// Where errors fall and what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Errors {
    /// On any base alike, single, of the same shares.
    #[default]
    Uniform,
    /// As in genomic nanopore reads of 2022 (`nanopore.toml`).
    Nanopore,
}

impl Errors {
    /// Errors a base where no rate is given: 0.02, or that of the reads that were measured.
    pub fn usual_rate(self) -> f64 {
        match self {
            Errors::Uniform => 0.02,
            Errors::Nanopore => profile::measured_rate(),
        }
    }
}

/// What to simulate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SimulationConfig {
    /// Number of reads.
    pub reads: u64,
    /// Errors a base of the gene, 0 to [`MAX_ERROR_RATE`]; of a profile, wrong bases.
    pub error_rate: f64,
    /// Which they are.
    pub errors: Errors,
    /// Chooses the reads.
    pub seed: u64,
}

/// Why nothing can be simulated.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulateError {
    /// The error rate is none.
    #[error("an error rate of {0}: expected 0 to {MAX_ERROR_RATE}")]
    ErrorRate(f64),
    /// Every gene is empty, or there is none.
    #[error("no gene has a base")]
    NoGenes,
    /// A site lies beyond its gene: the two files do not belong together.
    #[error("gene {gene} has {length} bases but a site ({kind}) at position {position}")]
    SiteBeyondGene {
        /// The gene's id.
        gene: String,
        /// Its length.
        length: usize,
        /// The site's position, 0-based.
        position: u64,
        /// The site's kind.
        kind: crate::call::CallKind,
    },
}

#[derive(Debug)]
struct Gene {
    /// What read names call it: the symbol of the table of sites, else the id.
    label: String,
    codes: Vec<u8>,
    sites: Vec<GeneSite>,
    /// Bases of this gene and of all before it.
    bases_up_to_here: u64,
}

/// One simulated read; its buffers are reused.
#[derive(Debug, Clone, Default)]
pub struct SimulatedRead {
    /// `sim000012_PRUNE_+_1200-6200`: number, gene, the read's strand on the gene, and the piece of
    /// the gene (0-based, half-open, gene orientation).
    pub name: String,
    /// Bases, as codes.
    pub codes: Vec<u8>,
    /// Phred qualities, one a base.
    pub qualities: Vec<u8>,
    /// True sites in order of position.
    pub truth: Vec<ReadSite>,
    /// The piece of the gene in the direction of the read.
    template: Vec<u8>,
    /// For each base of the template its place in the read, or [`DELETED`].
    places: Vec<u32>,
}

const DELETED: u32 = u32::MAX;

impl SimulatedRead {
    /// Writes the read as a FASTQ record.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_fastq<W: Write + ?Sized>(&self, out: &mut W) -> io::Result<()> {
        writeln!(out, "@{}", self.name)?;
        write_mapped(out, &self.codes, nucleotide::letter)?;
        out.write_all(b"\n+\n")?;
        write_mapped(out, &self.qualities, |q| q + b'!')?;
        out.write_all(b"\n")
    }

    /// Writes a line of the table of true sites for each site.
    ///
    /// # Errors
    /// The writer's.
    pub fn write_truth<W: Write + ?Sized>(&self, out: &mut W) -> io::Result<()> {
        self.truth
            .iter()
            .try_for_each(|site| site.write(&self.name, out))
    }
}

fn write_mapped<W: Write + ?Sized>(
    out: &mut W,
    values: &[u8],
    letter: impl Fn(u8) -> u8,
) -> io::Result<()> {
    let mut block = [0; 1024];
    for values in values.chunks(block.len()) {
        let block = &mut block[..values.len()];
        for (b, &v) in block.iter_mut().zip(values) {
            *b = letter(v);
        }
        out.write_all(block)?;
    }
    Ok(())
}

/// What was simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimulationSummary {
    /// Reads written.
    pub reads: u64,
    /// Their bases.
    pub bases: u64,
    /// True sites written.
    pub sites: u64,
}

/// Holds the genes (a byte a base) and makes reads of them.
#[derive(Debug)]
pub struct Simulator {
    genes: Vec<Gene>,
    config: SimulationConfig,
    errors: ErrorModel,
}

impl Simulator {
    /// A simulator of reads from `genes`, each its id (the first word of its FASTA header) and its
    /// base codes in gene orientation. Genes without sites give reads without true sites.
    ///
    /// # Errors
    /// [`SimulateError`].
    pub fn new(
        genes: impl IntoIterator<Item = (String, Vec<u8>)>,
        sites: &GeneSites,
        config: SimulationConfig,
    ) -> Result<Simulator, SimulateError> {
        if !(0.0..=MAX_ERROR_RATE).contains(&config.error_rate) {
            return Err(SimulateError::ErrorRate(config.error_rate));
        }
        let mut total = 0;
        let mut kept = Vec::new();
        for (id, codes) in genes {
            let (label, sites) = sites.get(&id).unwrap_or((&id, &[]));
            if let Some(site) = sites.iter().find(|s| s.position >= codes.len() as u64) {
                return Err(SimulateError::SiteBeyondGene {
                    gene: id,
                    length: codes.len(),
                    position: site.position,
                    kind: site.kind,
                });
            }
            total += codes.len() as u64;
            kept.push(Gene {
                label: label.replace(|c: char| c.is_whitespace() || c.is_control(), "_"),
                sites: sites.to_vec(),
                codes,
                bases_up_to_here: total,
            });
        }
        if total == 0 {
            return Err(SimulateError::NoGenes);
        }
        Ok(Simulator {
            genes: kept,
            config,
            errors: ErrorModel::new(config.errors, config.error_rate),
        })
    }

    /// Makes read number `index`; the same one whatever was made before it.
    pub fn read(&self, index: u64, read: &mut SimulatedRead) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        rng.set_stream(index);

        let total = self.genes.last().map_or(0, |g| g.bases_up_to_here);
        let base = below(&mut rng, total);
        let gene = self.genes.partition_point(|g| g.bases_up_to_here <= base);
        let gene = &self.genes[gene];
        let gene_length = gene.codes.len() as u64;
        let length = length(&mut rng).max(MIN_LENGTH).min(gene_length);
        let start = below(&mut rng, gene_length - length + 1);
        let end = start + length;
        let strand = if rng.next_u32() & 1 == 0 {
            Strand::Forward
        } else {
            Strand::Reverse
        };

        read.name.clear();
        // Writing to a String cannot fail.
        let _ = write!(
            read.name,
            "sim{index:06}_{}_{strand}_{start}-{end}",
            gene.label
        );
        // Both fit usize: they index a slice.
        let piece = &gene.codes[start as usize..end as usize];
        read.template.clear();
        read.template.extend_from_slice(piece);
        if strand == Strand::Reverse {
            nucleotide::reverse_complement(piece, &mut read.template);
        }
        self.errors.apply(&mut rng, read);

        read.truth.clear();
        let first = gene.sites.partition_point(|s| s.position < start);
        for site in gene.sites[first..].iter().take_while(|s| s.position < end) {
            let in_template = match strand {
                Strand::Forward => site.position - start,
                Strand::Reverse => end - 1 - site.position,
            };
            let place = read.places[in_template as usize];
            if place != DELETED {
                read.truth.push(ReadSite {
                    position: u64::from(place),
                    strand,
                    kind: site.kind,
                });
            }
        }
        read.truth.sort_unstable();
    }

    /// Writes all reads as FASTQ to `reads` and the table of their true sites, with its header, to
    /// `truth`.
    ///
    /// # Errors
    /// The writers'.
    pub fn write(
        &self,
        reads: &mut dyn Write,
        truth: &mut dyn Write,
    ) -> io::Result<SimulationSummary> {
        let mut summary = SimulationSummary::default();
        let mut read = SimulatedRead::default();
        writeln!(truth, "{READ_HEADER}")?;
        for index in 0..self.config.reads {
            self.read(index, &mut read);
            read.write_fastq(reads)?;
            read.write_truth(truth)?;
            summary.reads += 1;
            summary.bases += read.codes.len() as u64;
            summary.sites += read.truth.len() as u64;
        }
        reads.flush()?;
        truth.flush()?;
        Ok(summary)
    }
}

/// A number below `bound`; the bias of 2⁻⁶⁴ × `bound` is of no account.
fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    // The product of two 64-bit numbers, shifted by 64, is below `bound`.
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// A length of about log-normal distribution.
fn length(rng: &mut ChaCha8Rng) -> u64 {
    // The sum of twelve uniform numbers has variance 1 and is close to normal.
    let sum: u64 = (0..12).map(|_| u64::from(rng.next_u32())).sum();
    let normal = sum as f64 / 4_294_967_296.0 - 6.0;
    (MEDIAN_LENGTH * exp2(normal * LOG2_SPREAD)) as u64
}

/// 2^x to six digits, of additions and multiplications alone so that it is the same on every
/// platform.
fn exp2(x: f64) -> f64 {
    let whole = x.floor();
    let y = (x - whole) * std::f64::consts::LN_2;
    let mut power = 1.0;
    for n in (1..=9).rev() {
        power = 1.0 + power * y / f64::from(n);
    }
    // |x| stays below 7 here.
    for _ in 0..whole.abs() as u32 {
        power *= if whole < 0.0 { 0.5 } else { 2.0 };
    }
    power
}

#[cfg(test)]
mod tests;
