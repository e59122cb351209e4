//! What is known of the cells of a matrix that grows, and which of them are to be scored again.

use super::annotate::{Counts, UNKNOWN};
use std::collections::{HashMap, VecDeque};
use std::fmt;

/// A cell by its name, and by how many of that name stand before it.
type Key = (String, u32);

#[derive(Debug)]
struct Known {
    /// Its counts when it was scored last.
    counts: f64,
    /// Its type; none where it could not be used.
    called: Option<String>,
    /// The last revision that it was in.
    seen: u64,
}

/// All cells so far.
#[derive(Debug, Default)]
pub(super) struct Cells {
    growth: f64,
    known: HashMap<Key, Known>,
    revision: u64,
    again: u64,
}

/// A state of the matrix while it is read. Nothing of it counts until [`Cells::settle`].
#[derive(Debug, Default)]
pub(super) struct Reading {
    names: HashMap<String, u32>,
    seen: Vec<Key>,
    /// Cells that are being scored, and their counts.
    waiting: VecDeque<(Key, f64)>,
    scored: Vec<(Key, f64, Option<String>)>,
}

/// What a state of the matrix brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Revision {
    /// From 1 on.
    pub(super) number: u64,
    pub(super) new: u64,
    pub(super) again: u64,
    /// Those scored again that are of another type now.
    pub(super) changed: u64,
    /// Names of those that were in the state before.
    pub(super) gone: Vec<String>,
}

impl Reading {
    /// Cells whose names others have, too.
    pub(super) fn of_one_name(&self) -> u64 {
        let all = self.names.values().filter(|count| **count > 1);
        all.map(|count| u64::from(*count)).sum()
    }

    /// What came out of the next cell that was wanted; none where it cannot be used.
    pub(super) fn result(&mut self, called: Option<String>) {
        if let Some((key, counts)) = self.waiting.pop_front() {
            self.scored.push((key, counts, called));
        }
    }
}

impl Cells {
    /// None yet; they are scored again when their counts have grown by this share.
    pub(super) fn new(growth: f64) -> Cells {
        Cells {
            growth,
            ..Cells::default()
        }
    }

    /// Revisions so far.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether one of the last state could be used.
    pub(super) fn any_used(&self) -> bool {
        let mut last = self.known.values().filter(|own| own.seen == self.revision);
        last.any(|known| known.called.is_some())
    }

    /// Whether the next cell of a state is to be scored.
    pub(super) fn wants(&self, reading: &mut Reading, name: &str, values: &[f32]) -> bool {
        let before = reading.names.entry(name.to_string()).or_default();
        let key = (name.to_string(), *before);
        *before += 1;
        let counts: f64 = values.iter().map(|value| f64::from(*value)).sum();
        let wanted = match self.known.get(&key) {
            Some(known) => known.seen < self.revision || self.has_changed(known, counts),
            None => true,
        };
        if wanted {
            reading.waiting.push_back((key.clone(), counts));
        }
        reading.seen.push(key);
        wanted
    }

    /// A matrix that is written anew may have fewer counts of a cell, too.
    fn has_changed(&self, known: &Known, counts: f64) -> bool {
        if counts.to_bits() == known.counts.to_bits() {
            return false;
        }
        let has_grown = counts >= known.counts * (1.0 + self.growth);
        known.called.is_none() || !counts.is_finite() || counts < known.counts || has_grown
    }

    /// Takes over what a state brought.
    pub(super) fn settle(&mut self, reading: Reading) -> Revision {
        self.revision += 1;
        let seen = self.revision;
        let mut revision = Revision {
            number: seen,
            ..Revision::default()
        };
        for (key, counts, called) in reading.scored {
            match self.known.get(&key) {
                None => revision.new += 1,
                Some(known) => {
                    revision.again += 1;
                    revision.changed += u64::from(known.called != called);
                }
            }
            let known = Known {
                counts,
                called,
                seen,
            };
            self.known.insert(key, known);
        }
        for key in &reading.seen {
            if let Some(known) = self.known.get_mut(key) {
                known.seen = seen;
            }
        }
        let before = self
            .known
            .iter()
            .filter(|(_, known)| known.seen + 1 == seen);
        revision.gone = before.map(|((name, _), _)| name.clone()).collect();
        revision.gone.sort();
        self.again += revision.again;
        revision
    }
}

/// The summary of a run.
impl fmt::Display for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut typed, mut unknown, mut rejected, mut gone) = (0, 0, 0, 0);
        let mut counts = Counts::default();
        for known in self.known.values() {
            if known.seen < self.revision {
                gone += 1;
                continue;
            }
            match known.called.as_deref() {
                None => rejected += 1,
                Some(UNKNOWN) => unknown += 1,
                Some(name) => {
                    typed += 1;
                    counts.add(name);
                }
            }
        }
        let all = self.known.len() - gone;
        writeln!(
            f,
            "cells    {all} = {typed} typed + {unknown} unknown + {rejected} rejected; {} scores \
             made again",
            self.again
        )?;
        if gone > 0 {
            writeln!(
                f,
                "gone     {gone} cells that the last matrix does not have"
            )?;
        }
        write!(f, "types    {counts}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cells with one value each; their type is whether it is above 10, and what is not finite is
    /// rejected. Gives what was scored.
    fn look(cells: &mut Cells, state: &[(&str, f32)]) -> (Vec<f32>, Revision) {
        let mut reading = Reading::default();
        let mut scored = vec![];
        for (name, value) in state {
            if cells.wants(&mut reading, name, &[*value]) {
                let called = if *value > 10.0 { "much" } else { UNKNOWN };
                reading.result(value.is_finite().then(|| called.to_string()));
                scored.push(*value);
            }
        }
        (scored, cells.settle(reading))
    }

    #[test]
    fn cells_are_scored_again_when_they_have_grown_or_shrunk() {
        let mut cells = Cells::new(0.5);
        let (scored, first) = look(&mut cells, &[("a", 8.0), ("b", 8.0), ("c", 8.0)]);
        assert_eq!((scored.len(), first.new, first.again), (3, 3, 0));
        let state = [("a", 12.0), ("b", 11.0), ("c", 7.0), ("d", 1.0)];
        let (scored, second) = look(&mut cells, &state);
        assert_eq!(scored, [12.0, 7.0, 1.0]);
        let expected = Revision {
            number: 2,
            new: 1,
            again: 2,
            changed: 1,
            gone: vec![],
        };
        assert_eq!(second, expected);
        assert!(look(&mut cells, &state).0.is_empty());
        // Growth of nothing still asks for a change.
        let mut cells = Cells::new(0.0);
        look(&mut cells, &[("a", 8.0)]);
        assert!(look(&mut cells, &[("a", 8.0)]).0.is_empty());
    }

    #[test]
    fn a_cell_that_was_broken_is_looked_at_again() {
        for broken in [f32::NAN, f32::INFINITY] {
            let mut cells = Cells::new(0.5);
            look(&mut cells, &[("a", broken)]);
            assert!(look(&mut cells, &[("a", broken)]).0.is_empty());
            assert_eq!(look(&mut cells, &[("a", 1.0)]).0, [1.0]);
            assert_eq!(look(&mut cells, &[("a", broken)]).0.len(), 1);
            assert!(
                cells
                    .to_string()
                    .contains("1 = 0 typed + 0 unknown + 1 rejected")
            );
        }
    }

    #[test]
    fn names_that_stand_twice_are_two_cells() {
        let mut cells = Cells::new(0.5);
        let (_, first) = look(&mut cells, &[("a", 1.0), ("a", 20.0)]);
        assert_eq!(first.new, 2);
        assert!(look(&mut cells, &[("a", 1.0), ("a", 20.0)]).0.is_empty());
        assert!(cells.to_string().contains("2 = 1 typed + 1 unknown"));
    }

    #[test]
    fn cells_that_are_gone_are_counted_apart() {
        let mut cells = Cells::new(0.5);
        look(&mut cells, &[("a", 20.0), ("b", 20.0)]);
        let (_, second) = look(&mut cells, &[("b", 20.0)]);
        assert_eq!(second.gone, ["a"]);
        let said = cells.to_string();
        assert!(said.contains("cells    1 = 1 typed + 0 unknown"), "{said}");
        assert!(said.contains("gone     1 cells"), "{said}");
        let (scored, third) = look(&mut cells, &[("a", 20.0), ("b", 20.0)]);
        assert_eq!((scored.len(), third.gone.len()), (1, 0));
        assert!(!cells.to_string().contains("gone"));
    }
}
