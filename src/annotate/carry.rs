//! What a read keeps for the models whose rows can be kept: see [`crate::model::carried`].

use super::annotation::Kept;
use super::models::Models;
use super::piece::Piece;
use super::scan::Scan;
use crate::call::{Call, Strand};
use crate::model::SecondLook;
use crate::model::carried::{Carried, KeptRows, Work};
use crossbeam::queue::ArrayQueue;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Kept rows without a read that a model has at most.
const MOST_IDLE: usize = 4096;

/// The kept rows of all reads together.
#[derive(Debug)]
pub(super) struct Keeping {
    /// Bytes that they may take.
    most: usize,
    bytes: AtomicUsize,
    /// Reads that went on without, because there was no room.
    recomputed: AtomicU64,
    /// For each network, rows of reads that are over: the next reads take them, unless open ones
    /// need the room.
    idle: Vec<ArrayQueue<Rows>>,
}

/// The rows of a read for one model, by strand, and the bytes that are counted for them.
#[derive(Debug, Default)]
struct Rows {
    strands: Vec<KeptRows>,
    counted: usize,
}

impl Keeping {
    pub fn new(most: usize, networks: usize) -> Keeping {
        Keeping {
            most,
            bytes: AtomicUsize::new(0),
            recomputed: AtomicU64::new(0),
            idle: (0..networks).map(|_| ArrayQueue::new(MOST_IDLE)).collect(),
        }
    }

    /// Bytes in use, and reads that went on without kept rows.
    pub fn state(&self) -> Kept {
        Kept {
            bytes: self.bytes.load(Relaxed),
            recomputed: self.recomputed.load(Relaxed),
        }
    }

    /// Another read went on without.
    pub fn count_recomputed(&self) {
        self.recomputed.fetch_add(1, Relaxed);
    }

    fn drop_rows(&self, rows: Rows) {
        self.bytes.fetch_sub(rows.counted, Relaxed);
    }

    /// Counts what rows take now; true where there is room for it, if need be that of reads that
    /// are over.
    fn settle(&self, rows: &mut Rows) -> bool {
        let size = rows.strands.iter().map(KeptRows::size).sum();
        // Wraps where it shrinks, as atomics do.
        let more = usize::wrapping_sub(size, rows.counted);
        self.bytes.fetch_add(more, Relaxed);
        rows.counted = size;
        for idle in &self.idle {
            while self.bytes.load(Relaxed) > self.most {
                match idle.pop() {
                    Some(rows) => self.drop_rows(rows),
                    None => break,
                }
            }
        }
        self.bytes.load(Relaxed) <= self.most
    }
}

/// What one read keeps for one network.
#[derive(Debug)]
pub(super) struct Carry {
    state: State,
    /// Where its rows begin: the read's start, or as much context before the first position that it
    /// is asked for as the network needs.
    first: u64,
    /// Which network.
    number: usize,
    keeping: Arc<Keeping>,
}

/// What one read keeps for a scanning model: rows of its own network, or of the one that stands in.
/// `None` for a network that is computed anew.
#[derive(Debug)]
pub(super) struct Carries {
    pub own: Option<Carry>,
    pub fast: Option<Carry>,
}

#[derive(Debug)]
enum State {
    /// Nothing has been asked of it yet.
    New,
    Kept(Rows),
    /// There was no room.
    Without,
}

impl Drop for Carry {
    fn drop(&mut self) {
        if let State::Kept(rows) = mem::replace(&mut self.state, State::New) {
            self.keeping.drop_rows(rows);
        }
    }
}

impl Carries {
    /// One for each scanning model.
    pub fn of(shared: &Models) -> Vec<Carries> {
        let carry = |number: usize, scan: &Scan| {
            let certain = |carried: &&Carried| carried.lag() + scan.separation() <= scan.margin();
            scan.model().carried().filter(certain)?;
            Some(Carry {
                state: State::New,
                first: 0,
                number,
                keeping: shared.keeping.clone(),
            })
        };
        let scans = shared.scans.iter().zip(&shared.fast).enumerate();
        let carries = scans.map(|(number, (scan, fast))| Carries {
            own: carry(2 * number, scan),
            fast: fast.as_ref().and_then(|fast| carry(2 * number + 1, fast)),
        });
        carries.collect()
    }

    /// Makes them those of another read.
    pub fn reset(&mut self) {
        for carry in [&mut self.own, &mut self.fast].into_iter().flatten() {
            carry.release();
            carry.state = State::New;
        }
    }
}

impl Carry {
    /// Gives up what is kept; where the network is asked again, it begins anew.
    pub fn release(&mut self) {
        if !matches!(self.state, State::Kept(_)) {
            return;
        }
        if let State::Kept(rows) = mem::replace(&mut self.state, State::New)
            && let Err(rows) = self.keeping.idle[self.number].push(rows)
        {
            self.keeping.drop_rows(rows);
        }
    }

    /// False where the read does without.
    pub fn is_kept(&self) -> bool {
        !matches!(self.state, State::Without)
    }

    /// The rows of a read that begins.
    fn begin(&self, carried: &Carried, strands: &[Strand]) -> Rows {
        if let Some(mut rows) = self.keeping.idle[self.number].pop() {
            rows.strands.iter_mut().for_each(|kept| kept.reset(carried));
            return rows;
        }
        let kept = strands
            .iter()
            .map(|&strand| KeptRows::new(carried, strand == Strand::Reverse));
        Rows {
            strands: kept.collect(),
            counted: 0,
        }
    }

    /// Takes in the codes of the piece that are new, and appends the calls of positions `range`.
    pub fn call(
        &mut self,
        scan: &Scan,
        work: &mut Work,
        piece: &Piece,
        range: Range<u64>,
        strands: &[Strand],
        calls: &mut Vec<Call>,
    ) -> SecondLook {
        let mut looked = SecondLook::default();
        let Some(carried) = scan.model().carried() else {
            return looked;
        };
        let mut rows = match mem::replace(&mut self.state, State::Without) {
            State::New => {
                self.first = piece.first;
                self.begin(carried, strands)
            }
            State::Kept(rows) => rows,
            State::Without => return looked,
        };
        for (kept, &strand) in rows.strands.iter_mut().zip(strands) {
            let known = (self.first + kept.codes() as u64 - piece.first) as usize;
            let more = carried.push(kept, work, &piece.codes[known..], piece.ended);
            looked.positions += more.positions;
            looked.looked += more.looked;
            let (row, rows) = work.output();
            let row = self.first + row as u64;
            scan.call_kept((row, rows), piece, range.clone(), strand, calls);
            let from = (range.end - self.first) as usize;
            carried.keep(kept, work, from.saturating_sub(scan.separation()));
        }
        if self.keeping.settle(&mut rows) {
            self.state = State::Kept(rows);
        } else {
            self.keeping.drop_rows(rows);
        }
        looked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotate::Task;
    use crate::annotate::builtin;
    use crate::kernels::Isa;
    use crate::model::Model;
    use crate::model::manifest::Tier;
    use crate::reads::nucleotide::{N, reverse_complement};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Rows of a strand, cut at random into pushes.
    fn pushed(model: &Model, codes: &[u8], strand: Strand, rng: &mut ChaCha8Rng) -> Vec<u32> {
        let carried = model.carried().unwrap();
        let mut kept = KeptRows::new(carried, strand == Strand::Reverse);
        // A state that has been used, too.
        if rng.random() {
            let mut work = Work::default();
            carried.push(
                &mut kept,
                &mut work,
                &codes[..codes.len() / 2],
                rng.random(),
            );
            carried.keep(&mut kept, &mut work, 0);
            kept.reset(carried);
        }
        let (mut work, mut rest, mut all) = (Work::default(), codes, vec![]);
        let longest = [1, 30, 400, 5000][rng.random_range(0..4)];
        let columns = model.manifest().outputs.len();
        loop {
            let (piece, others) = rest.split_at(rest.len().min(rng.random_range(0..=longest)));
            rest = others;
            // Sometimes the end comes with the last codes, sometimes behind them.
            let ended = rest.is_empty() && (piece.is_empty() || rng.random());
            carried.push(&mut kept, &mut work, piece, ended);
            let (first, rows) = work.output();
            all.extend(
                rows[all.len() - first * columns..]
                    .iter()
                    .map(|x| x.to_bits()),
            );
            carried.keep(&mut kept, &mut work, all.len() / columns);
            if ended {
                return all;
            }
        }
    }

    #[test]
    fn kept_rows_have_the_bits_of_the_whole_read() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let tiers = [Some(Tier::Fast), Some(Tier::Accurate), Some(Tier::Auto)];
        let tasks = [Task::Splice, Task::Promoter].into_iter();
        let tasks = tasks.flat_map(|task| tiers.map(|tier| (task, tier)));
        let tasks = tasks.chain([(Task::Promoter300, None)]);
        // The reference is the same everywhere, and an emulated processor takes a hundred times as
        // long.
        let emulated = cfg!(not(target_arch = "x86_64"));
        let sets = Isa::available().into_iter();
        let sets: Vec<Isa> = sets
            .filter(|isa| !emulated || *isa != Isa::SCALAR)
            .collect();
        assert!(!sets.is_empty());
        for (task, tier) in tasks {
            for &isa in &sets {
                let file = builtin::file(task).unwrap();
                let model = Model::build_as(file, isa, tier).unwrap();
                if model.carried().is_none() {
                    assert_eq!(task, Task::Promoter300);
                    continue;
                }
                let mut runner = model.spawn().unwrap();
                let (rounds, longest) = if emulated { (3, 2500) } else { (12, 7000) };
                for round in 0..rounds {
                    let length = rng.random_range(0..[40, 900, longest][round % 3]);
                    let mut codes: Vec<u8> = (0..length).map(|_| rng.random_range(0..4)).collect();
                    for _ in 0..rng.random_range(0..4) {
                        if length > 0 {
                            codes[rng.random_range(0..length)] = N;
                        }
                    }
                    let whole = runner.run(&codes).unwrap().to_vec();
                    let found = pushed(&model, &codes, Strand::Forward, &mut rng);
                    let whole: Vec<u32> = whole.iter().map(|x| x.to_bits()).collect();
                    assert!(found == whole, "{task} {tier:?} {isa} {length} forward");
                    let mut reverse = vec![N; length];
                    reverse_complement(&codes, &mut reverse);
                    let rows = runner.run(&reverse).unwrap();
                    let columns = model.manifest().outputs.len();
                    let rows = rows.chunks_exact(columns).rev().flatten();
                    let whole: Vec<u32> = rows.map(|x| x.to_bits()).collect();
                    let found = pushed(&model, &codes, Strand::Reverse, &mut rng);
                    assert!(found == whole, "{task} {tier:?} {isa} {length} reverse");
                }
            }
        }
    }
}
