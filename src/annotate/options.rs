//! How reads are annotated: molecule, strands, thresholds and priors.

use super::clade::Clade;
use super::error::AnnotateError;
use super::task::{Task, kind};
use crate::call::{CallKind, Strand};
use crate::model::Model;
use crate::model::manifest::Tier;

/// What the reads are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Molecule {
    /// Genomic DNA, or anything that still has its introns.
    #[default]
    Dna,
    /// RNA: calls of a 5'UTR carry [`Flags::UNVERIFIED_5P`](crate::call::Flags::UNVERIFIED_5P).
    Rna,
}

/// Which strands are annotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strands {
    /// Both.
    #[default]
    Both,
    /// The read as it is.
    Forward,
    /// Its reverse complement.
    Reverse,
}

impl Strands {
    /// The strands themselves.
    pub fn each(self) -> &'static [Strand] {
        match self {
            Strands::Both => &[Strand::Forward, Strand::Reverse],
            Strands::Forward => &[Strand::Forward],
            Strands::Reverse => &[Strand::Reverse],
        }
    }
}

/// How often features occur where they could (see
/// [`OutputColumn::base_rate`](crate::model::manifest::OutputColumn::base_rate)) in what is
/// annotated, where that is not the population that a model's probabilities are for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Priors(Vec<(CallKind, f64)>);

impl Priors {
    /// Rates by kind; the last of a kind counts.
    ///
    /// # Errors
    /// Where one is not above 0 and below 1, or of a kind whose scores are no probabilities.
    pub fn new(rates: &[(CallKind, f64)]) -> Result<Priors, AnnotateError> {
        for &(kind, rate) in rates {
            if !(kind.is_probability() && rate > 0.0 && rate < 1.0) {
                let reason = format!("prior {kind}={rate}: above 0 and below 1, of a probability");
                return Err(AnnotateError::Options(reason));
            }
        }
        Ok(Priors(rates.to_vec()))
    }

    /// One of them as text, `KIND=RATE`; `None` where it is something else.
    pub fn parse(text: &str) -> Option<(CallKind, f64)> {
        let (name, rate) = text.split_once('=')?;
        let kind = CallKind::ALL.into_iter().find(|kind| kind.name() == name)?;
        Some((kind, rate.parse().ok()?))
    }

    /// The rate of a kind, where one was given.
    pub fn of(&self, kind: CallKind) -> Option<f64> {
        let last = self.0.iter().rev().find(|(own, _)| *own == kind);
        last.map(|(_, rate)| *rate)
    }

    /// Refuses a rate that no model can use.
    pub(super) fn check<'a>(
        &self,
        models: impl IntoIterator<Item = &'a Model>,
    ) -> Result<(), AnnotateError> {
        let outputs = models.into_iter().flat_map(|m| &m.manifest().outputs);
        let known: Vec<CallKind> = outputs
            .filter(|o| o.base_rate > 0.0 && o.base_rate < 1.0)
            .filter_map(|o| kind(o).ok().flatten())
            .collect();
        match self.0.iter().find(|(kind, _)| !known.contains(kind)) {
            Some((kind, _)) => Err(AnnotateError::Options(format!(
                "prior of {kind}: no model in use calls it and states its own base rate"
            ))),
            None => Ok(()),
        }
    }
}

/// Bases on each side of a promoter call, of either strand, in which transcription factors are
/// looked for: what a proximal promoter takes.
pub const AROUND_PROMOTERS: u64 = 500;

/// How reads are annotated.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the reads are.
    pub molecule: Molecule,
    /// Which strands.
    pub strands: Strands,
    /// Which splice model, where the built-in one is taken.
    pub clade: Clade,
    /// Which tier of built-in models that have several.
    pub tier: Tier,
    /// Least score of a call that is a probability; `None`: each model's own threshold.
    pub min_score: Option<f32>,
    /// Rates of features, where they are others than those of the models' populations.
    pub priors: Priors,
    /// True: splice models call every donor before a GT, GC or AT and every acceptor behind an AG
    /// or AC whose [`grade`](crate::call::grade::grade) is not the lowest and whose score reaches
    /// `min_score`, if that is given, instead of the highest scores of their surroundings: an
    /// aligner weighs all places that it could join.
    pub for_aligners: bool,
    /// Start codons a read and strand whose 5'UTR is scored.
    pub max_starts: usize,
    /// True: transcription factors are looked for at every base, not only within
    /// [`AROUND_PROMOTERS`] of promoter calls.
    pub everywhere: bool,
    /// True: every push scores all that has its context, so that the calls of each model leave as
    /// early as they can. False: positions are scored by whole tiles, which costs less where the
    /// rest of the read follows at once, and the calls of all models leave in one order. The calls
    /// are the same.
    pub eager: bool,
    /// Bytes that open reads may keep of what was computed, so that growing costs no more than
    /// coming whole. Reads beyond it compute their margins again with each push. The calls are the
    /// same.
    pub kept_memory: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            molecule: Molecule::Dna,
            strands: Strands::Both,
            clade: Clade::default(),
            tier: Tier::Auto,
            min_score: None,
            priors: Priors::default(),
            for_aligners: false,
            max_starts: 1,
            everywhere: false,
            eager: true,
            kept_memory: 1 << 30,
        }
    }
}

/// The tasks that suit a molecule of a clade: promoters are known of vertebrates only.
pub fn default_tasks(molecule: Molecule, clade: Clade) -> &'static [Task] {
    match (molecule, clade) {
        (Molecule::Dna, Clade::Vertebrate) => &[Task::Splice, Task::Promoter],
        (Molecule::Dna, _) => &[Task::Splice],
        (Molecule::Rna, _) => &[Task::Expression],
    }
}
