//! In-silico mutagenesis: every base replaced by the three others, and scored again.

use super::{BaseMap, Target};
use crate::annotate::{AnnotateError, Scorer, WholeScorer, kind};
use crate::call::Strand;
use crate::model::Model;
use crate::model::manifest::Manifest;
use std::ops::Range;

/// Replaces bases and scores again.
pub struct Mutagenesis {
    kind: Kind,
    /// Bases on each side of a scored one that are replaced.
    flank: usize,
}

enum Kind {
    /// Scores of single bases. Where every layer is an integer convolution, a substitution costs
    /// the rows that it reaches.
    Scan(Box<Scorer>),
    /// A score of a whole record.
    Whole(Box<WholeScorer>),
}

/// Where a record is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Where each score is highest.
    Best,
    /// At this position, 0-based in forward order.
    At(u64),
}

impl Mutagenesis {
    /// Prepares a model; `flank` bases on each side of a scored one are replaced, of a model that
    /// scores single bases.
    ///
    /// # Errors
    /// Where it cannot be run.
    pub fn new(model: Model, flank: usize) -> Result<Mutagenesis, AnnotateError> {
        let kind = if model.manifest().is_scan() {
            Kind::Scan(Box::new(Scorer::new(model)?))
        } else {
            Kind::Whole(Box::new(WholeScorer::new(model)?))
        };
        Ok(Mutagenesis { kind, flank })
    }

    /// The model's manifest.
    pub fn manifest(&self) -> &Manifest {
        match &self.kind {
            Kind::Scan(scorer) => scorer.manifest(),
            Kind::Whole(scorer) => scorer.manifest(),
        }
    }

    /// A map for each score of a record: of the strand, among `strands`, where it is highest. None
    /// where the record is too short.
    ///
    /// # Errors
    /// Where the model fails, or the record has no such place.
    pub fn maps(
        &mut self,
        codes: &[u8],
        strands: &[Strand],
        place: Place,
    ) -> Result<Vec<BaseMap>, AnnotateError> {
        match (&mut self.kind, place) {
            (_, Place::At(at)) if at >= codes.len() as u64 => {
                let reason = format!("position {at} of {} bases", codes.len());
                Err(AnnotateError::Options(reason))
            }
            (Kind::Scan(scorer), _) => scanned(scorer, codes, strands, place, self.flank),
            (Kind::Whole(_), Place::At(_)) => {
                let reason = "the model scores records as a whole, not at a position";
                Err(AnnotateError::Options(reason.into()))
            }
            (Kind::Whole(scorer), Place::Best) => whole(scorer, codes, strands),
        }
    }
}

/// Maps of scores of single bases.
fn scanned(
    scorer: &mut Scorer,
    codes: &[u8],
    strands: &[Strand],
    place: Place,
    flank: usize,
) -> Result<Vec<BaseMap>, AnnotateError> {
    let outputs = scorer.manifest().outputs.iter().enumerate();
    let called = outputs.filter(|(_, output)| kind(output).ok().flatten().is_some());
    let called: Vec<(usize, String)> = called.map(|(c, o)| (c, o.name.clone())).collect();
    let columns = scorer.manifest().outputs.len();
    let mut best: Vec<Option<Target>> = vec![None; columns];
    for &strand in strands {
        let mut consider = |at: u64, scores: &[f32]| {
            for (column, name) in &called {
                let (own, score) = (&mut best[*column], scores[*column]);
                if own.as_ref().is_none_or(|own| score > own.score) {
                    *own = Some(Target {
                        name: name.clone(),
                        strand,
                        at,
                        score,
                    });
                }
            }
        };
        match place {
            Place::Best => {
                let mut at = 0;
                scorer.score(codes, strand, |scores| {
                    for scores in scores.chunks_exact(columns) {
                        consider(at, scores);
                        at += 1;
                    }
                    Ok::<(), AnnotateError>(())
                })?;
            }
            Place::At(at) => {
                let (part, first, index) = around(codes, at as usize, scorer.margin());
                let ends = (first as u64, first + part.len() == codes.len());
                let wanted = index..index + 1;
                scorer.part(part, ends, wanted, strand, |scores| consider(at, scores))?;
            }
        }
    }
    let mut maps = vec![];
    for (column, target) in best.into_iter().enumerate() {
        let Some(target) = target else {
            continue;
        };
        let at = target.at as usize;
        let (part, first, index) = around(codes, at, scorer.margin());
        let ended = first + part.len() == codes.len();
        let wanted = index..index + 1;
        let mut own = 0.0;
        let ends = (first as u64, ended);
        scorer.take_in(part, ends, wanted, target.strand, |scores| {
            own = scores[column]
        })?;
        let range = at.saturating_sub(flank)..(at + flank + 1).min(codes.len());
        let changes = changes(codes, &range, own, |position, code| {
            let mut score = own;
            // What lies beyond the margin changes nothing.
            if (first..first + part.len()).contains(&position) {
                scorer.with(position - first, code, |scores| score = scores[column])?;
            }
            Ok(score)
        })?;
        maps.push(map(target, codes, range, changes));
    }
    Ok(maps)
}

/// The part of a sequence within `margin` of a position, where it begins, and the position in it.
fn around(codes: &[u8], at: usize, margin: usize) -> (&[u8], usize, usize) {
    let first = at.saturating_sub(margin);
    let last = (at + margin + 1).min(codes.len());
    (&codes[first..last], first, at - first)
}

/// Maps of scores of a whole record.
fn whole(
    scorer: &mut WholeScorer,
    codes: &[u8],
    strands: &[Strand],
) -> Result<Vec<BaseMap>, AnnotateError> {
    let names: Vec<String> = scorer
        .manifest()
        .outputs
        .iter()
        .map(|o| o.name.clone())
        .collect();
    let mut best: Vec<Option<(Strand, f32)>> = vec![None; names.len()];
    for &strand in strands {
        let Some(scores) = scorer.score(codes, strand)? else {
            return Ok(vec![]);
        };
        for (best, score) in best.iter_mut().zip(scores) {
            if best.is_none_or(|(_, own)| score > own) {
                *best = Some((strand, score));
            }
        }
    }
    let mut maps = vec![];
    let mut changed = codes.to_vec();
    for (column, (name, best)) in names.into_iter().zip(best).enumerate() {
        let Some((strand, own)) = best else {
            continue;
        };
        let range = 0..codes.len();
        let changes = changes(codes, &range, own, |position, code| {
            changed[position] = code;
            let scores = scorer.score(&changed, strand);
            changed[position] = codes[position];
            Ok(scores?.map_or(own, |scores| scores[column]))
        })?;
        let target = Target {
            name,
            strand,
            at: 0,
            score: own,
        };
        maps.push(map(target, codes, range, changes));
    }
    Ok(maps)
}

/// What each base of a range would change, less the score as it is.
fn changes(
    codes: &[u8],
    range: &Range<usize>,
    own: f32,
    mut score: impl FnMut(usize, u8) -> Result<f32, AnnotateError>,
) -> Result<Vec<[f32; 4]>, AnnotateError> {
    let mut all = Vec::with_capacity(range.len());
    for position in range.clone() {
        let mut changes = [0.0; 4];
        for (change, code) in changes.iter_mut().zip(0..) {
            if code != codes[position] {
                *change = score(position, code)? - own;
            }
        }
        all.push(changes);
    }
    Ok(all)
}

fn map(target: Target, codes: &[u8], range: Range<usize>, changes: Vec<[f32; 4]>) -> BaseMap {
    let own = &codes[range.clone()];
    let importance = own.iter().zip(&changes).map(|(&code, changes)| {
        // Of an N all four are others.
        let others = if code < 4 { 3.0 } else { 4.0 };
        -changes.iter().sum::<f32>() / others
    });
    BaseMap {
        target: Some(target),
        first: range.start as u64,
        importance: importance.collect(),
        codes: own.to_vec(),
        changes,
    }
}
