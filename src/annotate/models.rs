//! Models and options that all reads share, and the states that their networks run in.

use super::carry::Keeping;
use super::info::ModelInfo;
use super::options::Options;
use super::scan::{Room, Scan};
use super::starts::Starts;
use super::whole::Whole;
use crate::model::carried::Work;
use crate::model::{Context, ModelError, Runner};
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Runner states waiting for a read.
pub(super) const IDLE_RUNNERS: usize = 256;

pub(super) struct Models {
    pub scans: Vec<Scan>,
    /// Those that are run around the calls of another only, by its number.
    pub gates: Vec<Option<usize>>,
    /// What stands in for each of them under overload.
    pub fast: Vec<Option<Scan>>,
    pub starts: Vec<Starts>,
    pub wholes: Vec<Whole>,
    pub models: Vec<ModelInfo>,
    pub options: Options,
    /// Positions scored at once.
    pub step: usize,
    pub idle: ArrayQueue<Box<Runners>>,
    pub keeping: Arc<Keeping>,
    /// [`SecondLook`] of all workers.
    pub positions: AtomicU64,
    pub looked: AtomicU64,
}

/// The mutable states of all models, lent to one push at a time.
pub(super) struct Runners {
    pub scans: Vec<Runner>,
    pub fast: Vec<Option<Runner>>,
    pub starts: Vec<Runner>,
    pub wholes: Vec<Runner>,
    /// Buffers of all of them, which run one after another.
    pub context: Context,
    /// For models whose rows are kept.
    pub work: Work,
    pub room: Room,
}

impl Models {
    /// Bases needed on each side of a position by each scanning model and each that scores start
    /// codons, then by all others. Models whose calls leave together have that of all.
    pub fn margins(&self) -> impl Iterator<Item = u64> {
        let scans = self.scans.iter().zip(&self.fast).map(|(scan, fast)| {
            let fast = fast.as_ref().map_or(0, Scan::margin);
            scan.margin().max(fast)
        });
        let starts = self.starts.iter().map(Starts::margin);
        let others = self.wholes.iter().map(Whole::margin).max();
        let own: Vec<usize> = scans.chain(starts).chain(others).collect();
        let most = own.iter().copied().max().unwrap_or(0);
        let eager = self.options.eager;
        own.into_iter()
            .map(move |own| if eager { own as u64 } else { most as u64 })
    }

    /// True where every call is of one position, and no model lags behind another.
    pub fn scans_only(&self) -> bool {
        let gated = self.gates.iter().any(Option::is_some);
        self.starts.is_empty() && self.wholes.is_empty() && !gated
    }

    pub fn runners(&self) -> Result<Box<Runners>, ModelError> {
        if let Some(runners) = self.idle.pop() {
            return Ok(runners);
        }
        let scans = self.scans.iter().map(|s| s.model().spawn());
        let fast = self.fast.iter();
        let fast = fast.map(|f| f.as_ref().map(|s| s.model().spawn()).transpose());
        let starts = self.starts.iter().map(|s| s.model().spawn());
        let wholes = self.wholes.iter().map(|w| w.model().spawn());
        Ok(Box::new(Runners {
            scans: scans.collect::<Result<_, _>>()?,
            fast: fast.collect::<Result<_, _>>()?,
            starts: starts.collect::<Result<_, _>>()?,
            wholes: wholes.collect::<Result<_, _>>()?,
            context: Context::default(),
            work: Work::default(),
            room: Room::default(),
        }))
    }
}
