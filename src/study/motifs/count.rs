//! In how many sequences each of many strings occurs.
//!
//! The automaton is our own. The crate `aho-corasick` was tried: with the million states of a large
//! set it spends as long on numbering them as on the search, and that grows faster than the set.
//! Four letters allow for a full table, with the states that are most visited side by side.

use crate::study::motifs::input::{MotifError, Strands};
use std::collections::VecDeque;

/// No string.
const NONE: u32 = u32::MAX;

/// The strings as one automaton (Aho and Corasick, Communications of the ACM 18:333, 1975), which
/// finds all of them in one pass.
#[derive(Debug)]
pub(crate) struct Index {
    /// State 0 is the first.
    states: Vec<State>,
    /// For each string the longest other one that it ends with.
    shorter: Vec<u32>,
}

/// The longest beginning of a string that the letters read so far end with; state 0 is the empty
/// one.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The states after an A, C, G and T.
    next: [u32; 4],
    /// The longest string that ends here.
    string: u32,
}

/// A state that is still to be worked out.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// The range of sorted strings that begin with it.
    first: usize,
    end: usize,
    /// Its letters.
    depth: usize,
    /// The state of the longest shorter beginning that it ends with.
    fallback: usize,
}

impl Index {
    /// Of distinct strings of A, C, G and T, sorted, none of them empty.
    ///
    /// # Errors
    /// [`MotifError::TooManyCandidates`] where they have more letters than states can be numbered,
    /// some 4 · 10^9.
    pub(crate) fn new(strings: &[&[u8]]) -> Result<Index, MotifError> {
        let letters: usize = strings.iter().map(|string| string.len()).sum();
        // There is at most one state more than there are letters, and no more strings than letters.
        if u32::try_from(letters).is_ok_and(|letters| letters < NONE - 1) {
            Ok(Index::build(strings))
        } else {
            Err(MotifError::TooManyCandidates {
                candidates: strings.len(),
                letters,
            })
        }
    }

    fn build(strings: &[&[u8]]) -> Index {
        let mut states: Vec<State> = Vec::new();
        let mut shorter = vec![NONE; strings.len()];
        // By depth, so that a fallback is ready before it is needed, and so that the states near
        // the root, in which a search spends its time, are close in memory.
        let mut pending = VecDeque::from([Pending {
            first: 0,
            end: strings.len(),
            depth: 0,
            fallback: 0,
        }]);
        let mut count = 1;
        while let Some(mut at) = pending.pop_front() {
            // Only the root has no fallback yet.
            let mut state = states.get(at.fallback).copied().unwrap_or(State {
                next: [0; 4],
                string: NONE,
            });
            // A string comes before those that it is the beginning of.
            if at.first < at.end && strings[at.first].len() == at.depth {
                shorter[at.first] = state.string;
                state.string = at.first as u32;
                at.first += 1;
            }
            for (letter, next) in b"ACGT".iter().zip(&mut state.next) {
                let rest = &strings[at.first..at.end];
                let with = rest.partition_point(|string| string[at.depth] <= *letter);
                if with > 0 {
                    pending.push_back(Pending {
                        first: at.first,
                        end: at.first + with,
                        depth: at.depth + 1,
                        fallback: *next as usize,
                    });
                    *next = count;
                    count += 1;
                    at.first += with;
                }
            }
            states.push(state);
        }
        Index { states, shorter }
    }

    /// For each string the number of sequences that have it, however often. Either case will do.
    pub(crate) fn count<'a>(
        &self,
        sequences: impl Iterator<Item = &'a [u8]>,
        strands: Strands,
    ) -> Vec<u64> {
        let none = Seen {
            last: usize::MAX,
            sequences: 0,
        };
        let mut seen = vec![none; self.shorter.len()];
        for (number, sequence) in sequences.enumerate() {
            let forward = sequence.iter().map(u8::to_ascii_uppercase);
            match strands {
                Strands::Forward => self.pass(forward, number, &mut seen),
                Strands::Both => {
                    self.pass(forward.clone(), number, &mut seen);
                    self.pass(forward.rev().map(complement), number, &mut seen);
                }
            }
        }
        seen.iter().map(|seen| seen.sequences).collect()
    }

    fn pass(&self, letters: impl Iterator<Item = u8>, number: usize, seen: &mut [Seen]) {
        let mut state = 0;
        for letter in letters {
            let code = match letter {
                b'A' => 0,
                b'C' => 1,
                b'G' => 2,
                b'T' => 3,
                _ => {
                    state = 0;
                    continue;
                }
            };
            state = self.states[state].next[code] as usize;
            // Where a string has been seen in this sequence, so have those that it ends with. If
            // they were gone through again, runs of a letter would cost their length squared.
            let mut string = self.states[state].string;
            while string != NONE {
                let seen = &mut seen[string as usize];
                if seen.last == number {
                    break;
                }
                seen.last = number;
                seen.sequences += 1;
                string = self.shorter[string as usize];
            }
        }
    }
}

/// What is known of a string.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// The number of the last sequence that had it.
    last: usize,
    /// How many had it.
    sequences: u64,
}

fn complement(letter: u8) -> u8 {
    match letter {
        b'A' => b'T',
        b'C' => b'G',
        b'G' => b'C',
        b'T' => b'A',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::study::motifs::count::{Index, complement};
    use crate::study::motifs::input::Strands;
    use std::collections::BTreeSet;

    fn has(sequence: &[u8], string: &[u8]) -> bool {
        sequence.windows(string.len()).any(|w| w == string)
    }

    /// Strings that end and begin in each other, against a plain search.
    #[test]
    fn counts_are_those_of_a_plain_search() {
        let mut state = 7u32;
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        // Two letters make many strings part of others.
        let sequences: Vec<Vec<u8>> = (0..60)
            .map(|i| (0..i).map(|_| b"AATTCN"[next(6) as usize]).collect())
            .collect();
        let mut strings = BTreeSet::new();
        for sequence in &sequences {
            for length in 1..9.min(sequence.len() + 1) {
                let start = next((sequence.len() + 1 - length) as u32) as usize;
                strings.insert(sequence[start..start + length].to_vec());
            }
        }
        for length in 1..12 {
            strings.insert(vec![b'A'; length]);
        }
        strings.retain(|s| !s.contains(&b'N'));
        let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
        assert!(strings.len() > 100);

        let index = Index::new(&strings).expect("an automaton");
        let lower: Vec<Vec<u8>> = sequences.iter().map(|s| s.to_ascii_lowercase()).collect();
        let forward = index.count(lower.iter().map(Vec::as_slice), Strands::Forward);
        let both = index.count(lower.iter().map(Vec::as_slice), Strands::Both);
        for (i, string) in strings.iter().enumerate() {
            let reverse: Vec<u8> = string.iter().rev().copied().map(complement).collect();
            let with = sequences.iter().filter(|s| has(s, string)).count();
            let either = sequences
                .iter()
                .filter(|s| has(s, string) || has(s, &reverse));
            assert_eq!(forward[i], with as u64);
            assert_eq!(both[i], either.count() as u64);
        }
    }
}
