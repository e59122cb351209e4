//! Which branch of life reads are of.

use super::annotator::Annotator;
use super::builtin::BuiltIn;
use super::clade::Clade;
use super::error::AnnotateError;
use super::options::Options;
use super::read::ReadState;
use super::task::Task;
use crate::call::{Call, CallKind, Strand};
use crate::model::manifest::Tier;
use crate::reads::nucleotide::N;
use std::ops::RangeInclusive;

/// Bases between a donor and the next acceptor that make a short intron.
const SHORT: RangeInclusive<u64> = 36..=160;

/// Least probability of both.
const CERTAIN: f32 = 0.9;

/// Short introns of which a clade's own network is certain, a megabase of its species' genome.
const USUAL: [(Clade, f64); 3] = [
    (Clade::Insect, 80.0),
    (Clade::Nematode, 213.0),
    (Clade::Plant, 737.0),
];

/// With less than this part of what is usual in each other clade, reads are taken for a
/// vertebrate's, which have few short introns.
const LITTLE: f64 = 0.3;

/// Introns without which nothing speaks for a clade.
const FEWEST: u64 = 4;

/// Evidence below this counts as this much where two clades are compared.
const CHANCE: f64 = 0.05;

/// Bases without which nothing is guessed: in fewer, chance decides.
const ENOUGH: u64 = 50_000;

/// Tells from reads which clade they are of: by how many short introns the networks of insects,
/// nematodes and plants are certain of, beside how many they find in their own species. Vertebrates
/// are what is left.
pub struct CladeGuesser {
    read: ReadState,
    calls: Vec<Call>,
    bases: u64,
    introns: [u64; USUAL.len()],
}

/// What reads tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CladeGuess {
    /// The clade.
    pub clade: Clade,
    /// How many times as much speaks for it as for the next.
    pub margin: f64,
    /// What speaks for each, as a part of what is usual in it; of vertebrates a fixed part.
    pub evidence: [(Clade, f64); Clade::ALL.len()],
    /// Bases that were looked at, those that are known.
    pub bases: u64,
}

impl CladeGuesser {
    /// Opens the networks.
    ///
    /// # Errors
    /// Where a built-in model cannot be opened.
    pub fn new() -> Result<CladeGuesser, AnnotateError> {
        let task = Task::Splice;
        let models = USUAL.map(|(clade, _)| BuiltIn { task, clade }.model(Tier::Fast));
        let models: Result<Vec<_>, _> = models.into_iter().collect();
        let options = Options {
            tier: Tier::Fast,
            min_score: Some(CERTAIN),
            ..Options::default()
        };
        Ok(CladeGuesser {
            read: Annotator::new(models?, options)?.read(),
            calls: vec![],
            bases: 0,
            introns: [0; USUAL.len()],
        })
    }

    /// Looks at a read, or at the first bases of one, as codes.
    ///
    /// # Errors
    /// Where a model fails.
    pub fn look_at(&mut self, codes: &[u8]) -> Result<(), AnnotateError> {
        self.calls.clear();
        self.read.push_codes(codes, &mut self.calls)?;
        self.read.finish(&mut self.calls)?;
        self.bases += codes.iter().filter(|&&code| code != N).count() as u64;
        for (model, introns) in self.introns.iter_mut().enumerate() {
            for strand in [Strand::Forward, Strand::Reverse] {
                let own = |call: &&Call| usize::from(call.model) == model && call.strand == strand;
                let sites: Vec<&Call> = self.calls.iter().filter(own).collect();
                // On the reverse strand the acceptor comes first.
                let kinds = match strand {
                    Strand::Forward => [CallKind::Donor, CallKind::Acceptor],
                    Strand::Reverse => [CallKind::Acceptor, CallKind::Donor],
                };
                let intron = |pair: &&[&Call]| {
                    let length = pair[1].start.saturating_sub(pair[0].start + 1);
                    [pair[0].kind, pair[1].kind] == kinds && SHORT.contains(&length)
                };
                *introns += sites.windows(2).filter(intron).count() as u64;
            }
        }
        Ok(())
    }

    /// Bases so far that are known.
    pub fn bases(&self) -> u64 {
        self.bases
    }

    /// What all reads so far tell; `None` where they have fewer than 50,000 bases.
    pub fn guess(&self) -> Option<CladeGuess> {
        if self.bases < ENOUGH {
            return None;
        }
        let megabases = self.bases as f64 / 1e6;
        let found = USUAL.iter().zip(self.introns);
        let found = found.map(|(&(clade, usual), n)| {
            let enough = if n < FEWEST { 0 } else { n };
            (clade, enough as f64 / megabases / usual)
        });
        let mut evidence = [(Clade::Vertebrate, LITTLE); Clade::ALL.len()];
        for (place, own) in evidence[1..].iter_mut().zip(found) {
            *place = own;
        }
        let mut ranks = evidence;
        ranks.sort_by(|a, b| b.1.total_cmp(&a.1));
        let [(clade, most), (_, next), ..] = ranks;
        Some(CladeGuess {
            clade,
            margin: most / next.max(CHANCE),
            evidence,
            bases: self.bases,
        })
    }
}
