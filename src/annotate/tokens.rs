//! Models that take a sequence at once: of base codes as they are, or of tokens made of them.

#[cfg(feature = "tract")]
use super::error::AnnotateError;
use crate::model::manifest::{Manifest, Sequence, Window};
#[cfg(feature = "tract")]
use crate::model::{ModelError, Runner};
use crate::tokenise::{Vocabulary, Windows};

/// How such a model takes a sequence.
#[derive(Debug, Clone)]
pub struct Intake {
    vocabulary: Option<Vocabulary>,
    sequence: Sequence,
    stride: usize,
}

impl Intake {
    /// That of a manifest; none where the model scans, or reads ids that others make.
    ///
    /// # Errors
    /// Where the window has more tokens than a tile.
    pub fn of(manifest: &Manifest) -> Result<Option<Intake>, String> {
        let Some(vocabulary) = Vocabulary::named(manifest.tokeniser.name()) else {
            let sequence = manifest.sequence.clone();
            return Ok(sequence.map(|sequence| Intake {
                vocabulary: None,
                stride: sequence.longest.div_ceil(2),
                sequence,
            }));
        };
        let most = vocabulary.bases(manifest.tile);
        let window = manifest.window.unwrap_or(Window {
            shortest: vocabulary.width(),
            longest: most,
            stride: 0,
        });
        if most == 0 || window.longest > most {
            return Err(format!(
                "a window of {} bases has {} tokens with \"{vocabulary}\", a tile has {}",
                window.longest.max(1),
                vocabulary.tokens(window.longest.max(1)),
                manifest.tile
            ));
        }
        Ok(Some(Intake {
            vocabulary: Some(vocabulary),
            stride: match window.stride {
                0 => window.longest.div_ceil(2),
                stride => stride,
            },
            sequence: Sequence {
                shortest: window.shortest.max(vocabulary.bases(manifest.shortest)),
                longest: window.longest,
                multiple: 1,
            },
        }))
    }

    /// What makes its tokens, where it does not read base codes.
    pub fn vocabulary(&self) -> Option<Vocabulary> {
        self.vocabulary
    }

    /// Lengths in bases.
    pub fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// Bases from one window of a longer sequence to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Windows over a sequence of so many bases, `stride` apart; the model's own stride by default.
    pub fn windows(&self, length: usize, stride: Option<usize>) -> Windows {
        let longest = self.sequence.longest;
        let stride = stride.unwrap_or(self.stride).clamp(1, longest);
        Windows::new(length, longest, stride)
    }

    /// Runs the model on codes that have a length it takes, and gives its raw outputs. `ids` is
    /// room for tokens.
    #[cfg(feature = "tract")]
    pub(crate) fn run<'a>(
        &self,
        runner: &'a mut Runner,
        codes: &[u8],
        ids: &mut Vec<u32>,
    ) -> Result<&'a [f32], ModelError> {
        match self.vocabulary {
            None => runner.run(codes),
            Some(vocabulary) => {
                vocabulary.encode(codes, ids);
                runner.run_ids(ids)
            }
        }
    }

    /// Runs the model on windows, as many at once as share a run. `next` fills a window and says
    /// what it is, until there are no more; all have one length. `take` is given that and the raw
    /// outputs, in the same order.
    #[cfg(feature = "tract")]
    pub(crate) fn each<E: From<AnnotateError>>(
        &self,
        runner: &mut Runner,
        batch: &mut Batch,
        mut next: impl FnMut(&mut Vec<u8>) -> Option<usize>,
        mut take: impl FnMut(usize, &[f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Batch { window, ids, own } = batch;
        let Some(vocabulary) = self.vocabulary else {
            return Ok(());
        };
        loop {
            ids.clear();
            own.clear();
            let mut tokens = 0;
            while own.is_empty() || own.len() < runner.at_once(tokens) {
                window.clear();
                let Some(next) = next(window) else {
                    break;
                };
                own.push(next);
                vocabulary.append(window, ids);
                tokens = vocabulary.tokens(window.len());
            }
            if own.is_empty() {
                return Ok(());
            }
            let raw = runner.run_sequences(ids, tokens);
            let raw = raw.map_err(AnnotateError::from)?;
            let columns = raw.len() / own.len();
            for (own, raw) in own.iter().zip(raw.chunks_exact(columns)) {
                take(*own, raw)?;
            }
        }
    }
}

/// Windows on their way through a model: room that is used again.
#[cfg(feature = "tract")]
#[derive(Debug, Default)]
pub(crate) struct Batch {
    window: Vec<u8>,
    ids: Vec<u32>,
    own: Vec<usize>,
}
