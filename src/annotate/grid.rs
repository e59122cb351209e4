//! Models that score windows, on reads: as scanning models that have a score at some positions
//! only.

use super::error::AnnotateError;
use super::tokens::{Batch, Intake};
use crate::call::Strand;
use crate::model::Runner;
use crate::model::manifest::Manifest;
use crate::reads::nucleotide;
use std::ops::Range;

/// Which positions of a read have a window, and where it lies.
pub(super) struct Grid {
    intake: Intake,
    /// Bases from one position to the next, counted from the read's first base.
    stride: u64,
    /// The base of a window that its score is for, in its own direction.
    index: usize,
}

/// Where codes lie in their read.
pub(super) struct Place {
    /// Position of the first of them.
    pub first: u64,
    /// Whether they begin and end with the read.
    pub ends: [bool; 2],
}

impl Grid {
    /// That of a model which reads letters.
    pub fn new(manifest: &Manifest, intake: Intake) -> Grid {
        let length = intake.sequence().longest;
        let stated = manifest.whole.as_ref().filter(|w| w.length == length);
        let index = stated.and_then(|whole| whole.index.first()).copied();
        Grid {
            index: index.unwrap_or(length / 2),
            stride: intake.stride() as u64,
            intake,
        }
    }

    /// Bases before and behind a position that its window takes, in 5' to 3' order.
    pub fn reach(&self) -> (usize, usize) {
        (self.index, self.intake.sequence().longest - 1 - self.index)
    }

    /// Raw outputs of `wanted` positions among codes, one row a code, into `rows`: minus infinity
    /// where there is no window. A read that is no longer than a window is one; the position of a
    /// shorter one is its middle. Rows and what is wanted of them are in 5' to 3' order of the
    /// strand.
    pub fn run(
        &self,
        (runner, batch): (&mut Runner, &mut Batch),
        (codes, place): (&[u8], Place),
        wanted: Range<usize>,
        strand: Strand,
        (columns, rows): (usize, &mut Vec<f32>),
    ) -> Result<(), AnnotateError> {
        rows.clear();
        rows.resize(codes.len() * columns, f32::NEG_INFINITY);
        let longest = self.intake.sequence().longest;
        let whole = place.ends == [true, true] && codes.len() <= longest;
        let (length, before) = match (codes.len(), strand) {
            (shorter, _) if whole && shorter < longest => (shorter, shorter / 2),
            (_, Strand::Forward) => (longest, self.index),
            (_, Strand::Reverse) => (longest, longest - 1 - self.index),
        };
        if length < self.intake.sequence().shortest {
            return Ok(());
        }
        let row = |at: usize| match strand {
            Strand::Forward => at,
            Strand::Reverse => codes.len() - 1 - at,
        };
        let mut positions = wanted.map(row).filter(|&at| {
            let on_grid = whole || (place.first + at as u64).is_multiple_of(self.stride);
            on_grid && at >= before && at - before + length <= codes.len()
        });
        let next = |window: &mut Vec<u8>| {
            let at = positions.find(|at| !whole || *at == before)?;
            let own = &codes[at - before..at - before + length];
            window.extend_from_slice(own);
            if strand == Strand::Reverse {
                nucleotide::reverse_complement(own, window);
            }
            Some(at)
        };
        self.intake.each(runner, batch, next, |at, raw| {
            rows[row(at) * columns..][..columns].copy_from_slice(raw);
            Ok(())
        })
    }
}
