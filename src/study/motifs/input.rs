//! What comes in: sequences, scores and settings; and what may be wrong with them.

/// A positive sequence and its scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored<'a> {
    /// A, C, G, T and N, in either case.
    pub sequence: &'a [u8],
    /// One for each letter, in any unit: only their order within the sequence, their mean and 10
    /// times their minimum count.
    pub scores: &'a [f32],
}

/// Where an occurrence of a string counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strands {
    /// In the sequence as it is, as published.
    #[default]
    Forward,
    /// In the sequence or in its reverse complement.
    Both,
}

/// The numbers of the procedure. The defaults are those of DNABERT's `find_motifs.py`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The shortest region in bases; 5. Also the number of letters, less one, in which two strings
    /// must agree to be merged.
    pub min_length: usize,
    /// A string is kept whose adjusted p is below this; 0.005.
    pub max_adjusted_p: f64,
    /// Bases of a window, and so columns of a motif; 24.
    pub window: usize,
    /// The fewest windows of a motif; 3.
    pub min_sites: usize,
    /// Where occurrences count for the test. Regions are on the forward strand in any case.
    pub strands: Strands,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            min_length: 5,
            max_adjusted_p: 0.005,
            window: 24,
            min_sites: 3,
            strands: Strands::Forward,
        }
    }
}

/// The widest window: a motif of thousands of columns is a mistake, and its logo no picture.
const MAX_WINDOW: usize = 1000;

impl Settings {
    pub(crate) fn check(&self) -> Result<(), MotifError> {
        if self.min_length == 0 {
            return Err(MotifError::Setting("the shortest region must have a base"));
        }
        if !(self.max_adjusted_p > 0.0 && self.max_adjusted_p <= 1.0) {
            return Err(MotifError::Setting(
                "the limit of adjusted p must be above 0 and at most 1",
            ));
        }
        if !(1..=MAX_WINDOW).contains(&self.window) {
            return Err(MotifError::Setting("a window must have 1 to 1000 bases"));
        }
        if self.min_sites == 0 {
            return Err(MotifError::Setting("a motif must have at least one window"));
        }
        Ok(())
    }
}

/// One of the two sets of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SequenceSet {
    /// Those with scores.
    Positive,
    /// Those without.
    Negative,
}

impl std::fmt::Display for SequenceSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            SequenceSet::Positive => "positive",
            SequenceSet::Negative => "negative",
        })
    }
}

/// Why no motifs can be looked for. Sequences and positions are counted from 0.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MotifError {
    /// A setting is out of range.
    #[error("{0}")]
    Setting(&'static str),
    /// A letter is none of A, C, G, T and N.
    #[error(
        "{set} sequence {sequence} has `{}` at position {position}, not A, C, G, T or N",
        letter.escape_ascii()
    )]
    Letter {
        /// The set of the sequence.
        set: SequenceSet,
        /// Its number in the set.
        sequence: usize,
        /// Where in the sequence.
        position: usize,
        /// The letter.
        letter: u8,
    },
    /// Letters and scores do not belong together.
    #[error("positive sequence {sequence} has {letters} letters and {scores} scores")]
    ScoreCount {
        /// Its number.
        sequence: usize,
        /// Letters of the sequence.
        letters: usize,
        /// Scores given for it.
        scores: usize,
    },
    /// A score is infinite or no number.
    #[error("positive sequence {sequence} has the score {score} at position {position}")]
    Score {
        /// Its number.
        sequence: usize,
        /// Where in the sequence.
        position: usize,
        /// The score.
        score: f32,
    },
    /// There are too many distinct strings under regions to look for all of them.
    #[error("{candidates} strings of together {letters} letters are too many to look for at once")]
    TooManyCandidates {
        /// Distinct strings.
        candidates: usize,
        /// Their letters.
        letters: usize,
    },
}

/// The letters of the positives in upper case, if all that came in is as it should be.
pub(crate) fn checked(
    positives: &[Scored<'_>],
    negatives: &[&[u8]],
) -> Result<Vec<Vec<u8>>, MotifError> {
    let mut letters = Vec::with_capacity(positives.len());
    for (number, positive) in positives.iter().enumerate() {
        check_letters(SequenceSet::Positive, number, positive.sequence)?;
        if positive.sequence.len() != positive.scores.len() {
            return Err(MotifError::ScoreCount {
                sequence: number,
                letters: positive.sequence.len(),
                scores: positive.scores.len(),
            });
        }
        if let Some(position) = positive.scores.iter().position(|s| !s.is_finite()) {
            return Err(MotifError::Score {
                sequence: number,
                position,
                score: positive.scores[position],
            });
        }
        letters.push(positive.sequence.to_ascii_uppercase());
    }
    for (number, sequence) in negatives.iter().enumerate() {
        check_letters(SequenceSet::Negative, number, sequence)?;
    }
    Ok(letters)
}

fn check_letters(set: SequenceSet, number: usize, sequence: &[u8]) -> Result<(), MotifError> {
    let known = |letter: &u8| b"ACGTN".contains(&letter.to_ascii_uppercase());
    match sequence.iter().position(|letter| !known(letter)) {
        Some(position) => Err(MotifError::Letter {
            set,
            sequence: number,
            position,
            letter: sequence[position],
        }),
        None => Ok(()),
    }
}
