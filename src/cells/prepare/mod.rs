//! A cell's values to what a model reads: counts to one total, logarithms, bins, tokens.

mod bins;
#[cfg(test)]
mod tests;

use super::genes::Matching;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Cells whose values [`detect`] should see.
pub const DETECTED_CELLS: usize = 1000;

/// What the values of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// Counts of molecules, or what is proportional to them.
    Counts,
    /// Counts brought to one total for all cells, then ln(1 + x).
    LogNormalised,
}

/// No logarithm of counts in [`Preparation::normalise`] is above.
const GREATEST_LOGARITHM: f32 = 30.0;
/// Of so many cells, one with a value above it shows that there are no logarithms.
const GREAT_IN: u64 = 20;

/// What [`detect`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detected {
    /// What the values are.
    pub input: Input,
    /// Cells that were looked at: those that can be used.
    pub cells: u64,
    /// Cells among them that look like the other kind.
    pub others: u64,
}

/// What values are, by those of the first [`DETECTED_CELLS`] cells of a file; zeros may be left
/// out. They are counts where those of most cells are all whole, or where some cells have a value
/// above 30: one cell of twenty, so that a broken one does not decide. Cells that cannot be used
/// have no vote. scGPT's `check_logged` asks whether the smallest but zero is at least 1, too; but
/// so it is in cells of few counts, whose logarithms begin at ln(1 + 10,000 / 2,000).
pub fn detect<'a>(cells: impl IntoIterator<Item = &'a [f32]>) -> Detected {
    let (mut whole, mut great, mut parts) = (0, 0, 0);
    for values in cells {
        let is_usable = |value: &f32| value.is_finite() && *value >= 0.0;
        if !values.iter().all(is_usable) || values.iter().all(|value| *value == 0.0) {
            continue;
        }
        if values.iter().all(|value| value.fract() == 0.0) {
            whole += 1;
        } else if values.iter().any(|value| *value > GREATEST_LOGARITHM) {
            great += 1;
        } else {
            parts += 1;
        }
    }
    let cells = whole + great + parts;
    let (input, others) = if whole * 2 > cells || cells == 0 {
        (Input::Counts, great + parts)
    } else if great * GREAT_IN < cells {
        (Input::LogNormalised, whole + great)
    } else if great * 2 < cells {
        (Input::Counts, parts)
    } else {
        // Counts that were corrected or scaled are no whole numbers, and some cells have few.
        (Input::Counts, 0)
    };
    Detected {
        input,
        cells,
        others,
    }
}

/// How a cell becomes a [`Profile`]. The steps, in their order:
///
/// 1. Genes that the vocabulary does not have are dropped, as scGPT's tutorials do before anything
///    else; they count in no total.
/// 2. Columns of one gene are added up. Of log-normalised values, ln(1 + Σ (exp(x) − 1)).
/// 3. `normalise`: value / (total / `normalise`), each division rounded to f32, as scanpy does.
/// 4. `log1p`: ln(1 + x) in f64, rounded to f32; a function of this program, not the system's, so
///    that the bits are the same everywhere.
/// 5. `bins`: the edges are quantiles of the cell's values but zero; see [`Preparation::bins`].
/// 6. Proteins, where a model reads them, skip the third and the fourth step, and have edges of
///    their own in the fifth.
/// 7. Where there are more genes than tokens, some are left out; see [`Preparation::most_tokens`].
///
/// Values that are log-normalised already skip the third and the fourth step.
///
/// What comes out is a function of the set of (gene, value) alone: neither the order of columns
/// nor other cells matter.
#[derive(Debug, Clone, PartialEq)]
pub struct Preparation {
    /// What the values are.
    pub input: Input,
    /// The total of all cells, 10,000 in the published models. None leaves counts as they are.
    pub normalise: Option<f32>,
    /// Whether values become logarithms.
    pub log1p: bool,
    /// Number of bins with the one of zeros, 51 in the published models; at least 2. Values become
    /// 1 to `bins` − 1, zero stays 0. A value that is an edge may belong to several bins, l down to
    /// r + 1: here the middle one, ⌈(r − l) / 2 + l⌉; with a seed a random one.
    pub bins: Option<usize>,
    /// The most tokens of a cell, `cls` among them. Where a cell has more genes, those of the
    /// highest values before binning stay, of equal ones those first in the vocabulary; with a seed
    /// a random choice.
    pub most_tokens: usize,
    /// Id and value of a token before all genes.
    pub cls: Option<(u32, f32)>,
    /// Whether genes of value zero are tokens: all that the file has a column for.
    pub keep_zeros: bool,
    /// Genes that stay where some are left out, and that there is room for where the cell does not
    /// have them.
    pub always: Vec<u32>,
    /// For the published random rules. The numbers come from a ChaCha8 stream of the cell's own,
    /// chosen by its genes and values: two cells that are equal get the same.
    pub seed: Option<u64>,
}

impl Default for Preparation {
    /// Annotation with the published models.
    fn default() -> Preparation {
        Preparation {
            input: Input::Counts,
            normalise: Some(10_000.0),
            log1p: true,
            bins: Some(51),
            most_tokens: 1200,
            cls: None,
            keep_zeros: false,
            always: vec![],
            seed: None,
        }
    }
}

/// Why a cell is left out.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejected {
    /// A value is negative.
    #[error("the value {value} of column {column} is negative")]
    Negative {
        /// The gene's column, from 0.
        column: u32,
        /// The value.
        value: f32,
    },
    /// A value is no finite number.
    #[error("the value of column {column} is {value}")]
    NotFinite {
        /// The gene's column, from 0.
        column: u32,
        /// The value.
        value: f32,
    },
    /// A value stands in a column that the file does not have.
    #[error("column {column} is beyond the {columns} of the file")]
    Column {
        /// The column, from 0.
        column: u32,
        /// Columns of the file.
        columns: usize,
    },
    /// There is not one value a gene.
    #[error("there are {values} values for {genes} genes")]
    Lengths {
        /// Genes.
        genes: usize,
        /// Values.
        values: usize,
    },
    /// The total is beyond what f32 divides by.
    #[error("the total of {total:.3e} cannot be normalised")]
    Total {
        /// The total of the genes in the vocabulary.
        total: f64,
    },
    /// All values are zero.
    #[error("no counts")]
    NoCounts,
    /// No gene with a value but zero is in the vocabulary.
    #[error("no gene of the vocabulary")]
    NoGene,
}

/// What a model reads of a cell, a token an element: `cls` first where there is one, then genes by
/// ascending id. It keeps its memory from cell to cell.
#[derive(Debug, Clone, Default)]
pub struct Profile {
    /// Ids of the vocabulary.
    pub ids: Vec<u32>,
    /// Values or bins.
    pub values: Vec<f32>,
    genes: Vec<(u32, f32)>,
    zeros: Vec<(u32, f32)>,
    sorted: Vec<f32>,
    edges: Vec<f64>,
    protein_edges: Vec<f64>,
    order: Vec<u32>,
}

impl Preparation {
    /// Prepares a cell: `genes` are columns of the file in any order, `values` theirs, and genes
    /// that are not there have the value zero. After an error `out` is empty.
    ///
    /// # Errors
    /// Where the cell cannot be used; the first value at fault, as they stand.
    pub fn prepare(
        &self,
        genes: &[u32],
        values: &[f32],
        matching: &Matching,
        out: &mut Profile,
    ) -> Result<(), Rejected> {
        out.ids.clear();
        out.values.clear();
        gather(genes, values, matching, &mut out.genes)?;
        merge(&mut out.genes, self.input, matching);
        let no_gene = |genes: &[(u32, f32)]| genes.iter().all(|(id, _)| matching.is_protein(*id));
        if no_gene(&out.genes) {
            return Err(Rejected::NoGene);
        }
        let mut random = self.seed.map(|seed| stream(seed, &out.genes));
        if self.input == Input::Counts {
            self.scale(&mut out.genes, matching)?;
        }
        // A quotient may be too small for an f32.
        out.genes.retain(|(_, value)| *value != 0.0);
        if no_gene(&out.genes) {
            return Err(Rejected::NoGene);
        }
        if self.keep_zeros {
            with_zeros(&matching.genes, &mut out.genes, &mut out.zeros);
        }
        // All genes have a part in the edges, those without a token as well.
        if let Some(bins) = self.bins {
            let Profile {
                genes,
                sorted,
                edges,
                protein_edges,
                ..
            } = out;
            for (edges, proteins) in [(edges, false), (protein_edges, true)] {
                let own = genes
                    .iter()
                    .filter(|(id, _)| matching.is_protein(*id) == proteins);
                sorted.clear();
                sorted.extend(own.map(|(_, value)| *value).filter(|value| *value != 0.0));
                sorted.sort_unstable_by(f32::total_cmp);
                edges.clear();
                if !sorted.is_empty() {
                    bins::quantiles(sorted, bins.max(2) - 1, edges);
                }
            }
        }
        self.choose(out, matching, random.as_mut());
        self.write(out, matching, random.as_mut());
        Ok(())
    }

    /// Proteins stay as they are: their depth is that of another experiment.
    fn scale(&self, genes: &mut [(u32, f32)], matching: &Matching) -> Result<(), Rejected> {
        let is_gene = |id: &u32| !matching.is_protein(*id);
        if let Some(target) = self.normalise {
            let own = genes.iter().filter(|(id, _)| is_gene(id));
            let total: f64 = own.map(|(_, value)| f64::from(*value)).sum();
            let part = total as f32 / target;
            if !genes.is_empty() && !part.is_normal() {
                return Err(Rejected::Total { total });
            }
            for (_, value) in genes.iter_mut().filter(|(id, _)| is_gene(id)) {
                *value /= part;
            }
        }
        if self.log1p {
            for (_, value) in genes.iter_mut().filter(|(id, _)| is_gene(id)) {
                *value = libm::log1p(f64::from(*value)) as f32;
            }
        }
        Ok(())
    }

    /// Puts the indices of the genes that become tokens into `out.order`, ascending.
    fn choose(&self, out: &mut Profile, matching: &Matching, random: Option<&mut ChaCha8Rng>) {
        let Profile { genes, order, .. } = out;
        order.clear();
        order.extend(0..genes.len() as u32);
        let has = |id: &u32| genes.binary_search_by_key(id, |gene| gene.0).is_ok();
        let missing = self.always.iter().filter(|id| !has(id)).count();
        let room = self
            .most_tokens
            .saturating_sub(usize::from(self.cls.is_some()) + missing);
        if room >= genes.len() {
            return;
        }
        // Those that stay come first.
        let mut stay = 0;
        for place in 0..order.len() {
            let id = genes[order[place] as usize].0;
            if stay < room && (self.always.contains(&id) || matching.is_protein(id)) {
                order.swap(stay, place);
                stay += 1;
            }
        }
        let (all, rest) = (room, &mut order[stay..]);
        let room = room - stay;
        if let Some(random) = random {
            for place in 0..room {
                let left = (rest.len() - place) as u64;
                // The product of two 64-bit numbers, shifted by 64, is below `left`.
                let drawn = (u128::from(random.next_u64()) * u128::from(left)) >> 64;
                rest.swap(place, place + drawn as usize);
            }
        } else if room > 0 {
            // Genes stand by ascending id, and so an index decides between equal values.
            rest.select_nth_unstable_by(room - 1, |a, b| {
                let value = |index: &u32| genes[*index as usize].1;
                value(b).total_cmp(&value(a)).then(a.cmp(b))
            });
        }
        order.truncate(all);
        order.sort_unstable();
    }

    fn write(&self, out: &mut Profile, matching: &Matching, mut random: Option<&mut ChaCha8Rng>) {
        if let Some((id, value)) = self.cls {
            out.ids.push(id);
            out.values.push(value);
        }
        for &index in &out.order {
            let (id, mut value) = out.genes[index as usize];
            if self.bins.is_some() && value != 0.0 {
                let edges = if matching.is_protein(id) {
                    &out.protein_edges
                } else {
                    &out.edges
                };
                let (left, right) = bins::digits(value, edges);
                let number = random.as_mut().map_or(0.5, |random| uniform(random));
                value = bins::between(left, right, number) as f32;
            }
            out.ids.push(id);
            out.values.push(value);
        }
    }
}

/// The genes of the vocabulary with a value but zero.
fn gather(
    genes: &[u32],
    values: &[f32],
    matching: &Matching,
    out: &mut Vec<(u32, f32)>,
) -> Result<(), Rejected> {
    out.clear();
    if genes.len() != values.len() {
        return Err(Rejected::Lengths {
            genes: genes.len(),
            values: values.len(),
        });
    }
    let mut counts = false;
    for (&column, &value) in genes.iter().zip(values) {
        if !value.is_finite() {
            return Err(Rejected::NotFinite { column, value });
        }
        let Some(id) = matching.ids.get(column as usize) else {
            return Err(Rejected::Column {
                column,
                columns: matching.ids.len(),
            });
        };
        // Values of proteins are often centred.
        if value < 0.0 && !id.is_some_and(|id| matching.is_protein(id)) {
            return Err(Rejected::Negative { column, value });
        }
        if value != 0.0 {
            counts = true;
            out.extend(id.map(|id| (id, value)));
        }
    }
    if !counts {
        return Err(Rejected::NoCounts);
    }
    if out.is_empty() {
        return Err(Rejected::NoGene);
    }
    Ok(())
}

/// Sorts by id, and adds up the values of each. The values of one gene are sorted as well, so that
/// their sum does not depend on their order.
fn merge(genes: &mut Vec<(u32, f32)>, input: Input, matching: &Matching) {
    genes.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut kept = 0;
    let mut from = 0;
    while let Some(&(id, first)) = genes.get(from) {
        let count = genes[from..].iter().take_while(|gene| gene.0 == id).count();
        let own = genes[from..from + count]
            .iter()
            .map(|gene| f64::from(gene.1));
        let value = match (count, input) {
            (1, _) => first,
            (_, Input::Counts) => own.sum::<f64>() as f32,
            (_, Input::LogNormalised) if matching.is_protein(id) => own.sum::<f64>() as f32,
            (_, Input::LogNormalised) => libm::log1p(own.map(libm::expm1).sum::<f64>()) as f32,
        };
        // A sum may be beyond an f32.
        genes[kept] = (id, value.min(f32::MAX));
        kept += 1;
        from += count;
    }
    genes.truncate(kept);
}

/// The random numbers of a cell, by FNV-1a of its genes and values.
fn stream(seed: u64, genes: &[(u32, f32)]) -> ChaCha8Rng {
    let words = genes.iter().flat_map(|(id, value)| [*id, value.to_bits()]);
    let hash = words.fold(0xcbf2_9ce4_8422_2325_u64, |hash, word| {
        (hash ^ u64::from(word)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(hash);
    random
}

/// A number of [0, 1), a multiple of 2⁻⁵³.
fn uniform(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Adds the genes that have no value, as zeros. All are sorted by id.
fn with_zeros(all: &[u32], genes: &mut Vec<(u32, f32)>, scratch: &mut Vec<(u32, f32)>) {
    scratch.clear();
    let mut present = genes.iter().copied().peekable();
    for &id in all {
        let value = present.next_if(|gene| gene.0 == id);
        scratch.push(value.unwrap_or((id, 0.0)));
    }
    std::mem::swap(genes, scratch);
}
