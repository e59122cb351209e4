//! Attention of a sequence over its bases, as DNABERT-viz shows it (Ji et al. 2021;
//! `run_finetune.py`, `visualize`).

use super::BaseMap;
use crate::annotate::{AnnotateError, Intake};
use crate::model::{Model, Runner};

/// A model that gives the attention of its first token to every token, summed over the heads.
pub struct Attention {
    runner: Runner,
    intake: Intake,
    ids: Vec<u32>,
}

impl Attention {
    /// Prepares a model: one whose tokens are made of letters, with a row of one number for each.
    ///
    /// # Errors
    /// Where it is another kind, or cannot be run.
    pub fn new(model: &Model) -> Result<Attention, AnnotateError> {
        let manifest = model.manifest();
        let intake = Intake::of(manifest).map_err(AnnotateError::Options)?;
        let fits = !model.is_pooled() && manifest.outputs.len() == 1;
        match intake.filter(|intake| fits && intake.vocabulary().is_some()) {
            Some(intake) => Ok(Attention {
                runner: model.spawn()?,
                intake,
                ids: vec![],
            }),
            None => Err(AnnotateError::Options(format!(
                "{} gives no attention: that is one number for each token of letters",
                manifest.name
            ))),
        }
    }

    /// The share of each base: the mean of those of the tokens that cover it, all scaled to a
    /// length of 1. A longer sequence is cut into windows, and a base has its share in the one
    /// whose centre is nearest. None where the sequence is shorter than a token.
    ///
    /// # Errors
    /// Where the model fails.
    pub fn map(&mut self, codes: &[u8]) -> Result<Option<BaseMap>, AnnotateError> {
        let Some(vocabulary) = self.intake.vocabulary() else {
            return Ok(None);
        };
        if codes.len() < vocabulary.width().max(self.intake.sequence().shortest) {
            return Ok(None);
        }
        let windows = self.intake.windows(codes.len(), None);
        let mut shares = vec![];
        for range in windows.ranges() {
            let window = &codes[range.clone()];
            let rows = self.intake.run(&mut self.runner, window, &mut self.ids)?;
            // Without the tokens around.
            let own = rows.get(1..rows.len() - 1).unwrap_or_default();
            shares.push((range.start, covered(own, vocabulary.width(), window.len())));
        }
        let share = |position: usize| {
            let (start, shares) = &shares[windows.nearest(position)];
            shares[position - start]
        };
        let mut importance: Vec<f32> = (0..codes.len()).map(share).collect();
        let squares: f64 = importance.iter().map(|&x| f64::from(x).powi(2)).sum();
        if squares > 0.0 {
            let length = squares.sqrt();
            for value in &mut importance {
                *value = (f64::from(*value) / length) as f32;
            }
        }
        Ok(Some(BaseMap {
            target: None,
            first: 0,
            codes: codes.to_vec(),
            importance,
            changes: vec![],
        }))
    }
}

/// The mean over the tokens of `width` bases that cover each of `bases`.
fn covered(tokens: &[f32], width: usize, bases: usize) -> Vec<f32> {
    (0..bases)
        .map(|base| {
            let from = (base + 1).saturating_sub(width);
            let own = &tokens[from..(base + 1).min(tokens.len())];
            own.iter().sum::<f32>() / own.len() as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_has_the_mean_of_what_covers_it() {
        assert_eq!(covered(&[1.0, 3.0], 3, 4), [1.0, 2.0, 2.0, 3.0]);
        assert_eq!(covered(&[1.0, 3.0], 1, 2), [1.0, 3.0]);
        assert_eq!(covered(&[5.0], 3, 3), [5.0; 3]);
    }
}
