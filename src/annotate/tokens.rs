//! Models that take a sequence at once: of base codes as they are, or of tokens made of them.

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
                shortest: window.shortest,
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
}
