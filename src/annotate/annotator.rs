//! Models and options, shared; and one read that may still be growing.

use super::annotation::{Annotate, Annotation};
use super::scan::Scan;
use super::starts::{Starts, StartsState};
use super::task::{Task, called, kind};
use super::whole::{self, Whole, WholeState};
use crate::call::Strand;
use crate::call::{Call, CallKind, CallSink, Flags};
use crate::model::manifest::Tier;
use crate::model::{Context, Model, ModelError, Runner, SecondLook};
use crate::reads::nucleotide;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the reads are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Molecule {
    /// Genomic DNA, or anything that still has its introns.
    #[default]
    Dna,
    /// RNA: calls of a 5'UTR carry [`Flags::UNVERIFIED_5P`](crate::call::Flags::UNVERIFIED_5P).
    Rna,
}

/// Which strands are annotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strands {
    /// Both.
    #[default]
    Both,
    /// The read as it is.
    Forward,
    /// Its reverse complement.
    Reverse,
}

impl Strands {
    /// The strands themselves.
    pub fn each(self) -> &'static [Strand] {
        match self {
            Strands::Both => &[Strand::Forward, Strand::Reverse],
            Strands::Forward => &[Strand::Forward],
            Strands::Reverse => &[Strand::Reverse],
        }
    }
}

/// How often features occur where they could (see
/// [`OutputColumn::base_rate`](crate::model::manifest::OutputColumn::base_rate)) in what is
/// annotated, where that is not the population that a model's probabilities are for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Priors(Vec<(CallKind, f64)>);

impl Priors {
    /// Rates by kind; the last of a kind counts.
    ///
    /// # Errors
    /// Where one is not above 0 and below 1, or of a kind whose scores are no probabilities.
    pub fn new(rates: &[(CallKind, f64)]) -> Result<Priors, AnnotateError> {
        for &(kind, rate) in rates {
            if !(kind.is_probability() && rate > 0.0 && rate < 1.0) {
                let reason = format!("prior {kind}={rate}: above 0 and below 1, of a probability");
                return Err(AnnotateError::Options(reason));
            }
        }
        Ok(Priors(rates.to_vec()))
    }

    pub(super) fn of(&self, kind: CallKind) -> Option<f64> {
        let last = self.0.iter().rev().find(|(own, _)| *own == kind);
        last.map(|(_, rate)| *rate)
    }

    /// Refuses a rate that no model can use.
    pub(super) fn check<'a>(
        &self,
        models: impl IntoIterator<Item = &'a Model>,
    ) -> Result<(), AnnotateError> {
        let outputs = models.into_iter().flat_map(|m| &m.manifest().outputs);
        let known: Vec<CallKind> = outputs
            .filter(|o| o.base_rate > 0.0 && o.base_rate < 1.0)
            .filter_map(|o| kind(o).ok().flatten())
            .collect();
        match self.0.iter().find(|(kind, _)| !known.contains(kind)) {
            Some((kind, _)) => Err(AnnotateError::Options(format!(
                "prior of {kind}: no model in use calls it and states its own base rate"
            ))),
            None => Ok(()),
        }
    }
}

/// How reads are annotated.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the reads are.
    pub molecule: Molecule,
    /// Which strands.
    pub strands: Strands,
    /// Which tier of built-in models that have several.
    pub tier: Tier,
    /// Least score of a call that is a probability; `None`: each model's own threshold.
    pub min_score: Option<f32>,
    /// Rates of features, where they are others than those of the models' populations.
    pub priors: Priors,
    /// Start codons a read and strand whose 5'UTR is scored.
    pub max_starts: usize,
    /// True: every push scores all that has its context, so that calls leave as early as they can.
    /// False: positions are scored by whole tiles, which costs less where the rest of the read
    /// follows at once. The calls are the same.
    pub eager: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            molecule: Molecule::Dna,
            strands: Strands::Both,
            tier: Tier::Auto,
            min_score: None,
            priors: Priors::default(),
            max_starts: 1,
            eager: true,
        }
    }
}

/// What is known of a model in use.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInfo {
    /// Its name.
    pub name: String,
    /// Version of its weights.
    pub version: String,
    /// Its task.
    pub task: Task,
    /// Per kind of call, how often it occurs where it could.
    pub base_rates: Vec<(CallKind, f64)>,
    /// BLAKE3 of its tensors.
    pub hash: String,
}

impl ModelInfo {
    fn new(model: &Model, priors: &Priors) -> Result<ModelInfo, ModelError> {
        let manifest = model.manifest();
        Ok(ModelInfo {
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            task: Task::of_model(model)?,
            base_rates: manifest
                .outputs
                .iter()
                .map(|o| {
                    let kind = called(o);
                    (kind, priors.of(kind).unwrap_or(o.base_rate))
                })
                .collect(),
            hash: model.file().content_hash().to_string(),
        })
    }
}

/// Why a read could not be annotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnnotateError {
    /// A model failed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The models or options do not go together.
    #[error("{0}")]
    Options(String),
}

/// Runner states waiting for a read.
const IDLE_RUNNERS: usize = 256;

/// Models and options; clones share them.
#[derive(Clone)]
pub struct Annotator {
    shared: Arc<Shared>,
}

struct Shared {
    scans: Vec<Scan>,
    /// What stands in for each of them under overload.
    fast: Vec<Option<Scan>>,
    starts: Vec<Starts>,
    wholes: Vec<Whole>,
    models: Vec<ModelInfo>,
    options: Options,
    /// Positions scored at once.
    step: usize,
    /// Bases needed on each side of a position.
    margin: usize,
    idle: ArrayQueue<Box<Runners>>,
    /// [`SecondLook`] of all workers.
    positions: AtomicU64,
    looked: AtomicU64,
}

/// The mutable states of all models, lent to one push at a time.
struct Runners {
    scans: Vec<Runner>,
    fast: Vec<Option<Runner>>,
    starts: Vec<Runner>,
    wholes: Vec<Runner>,
    /// Buffers of all of them, which run one after another.
    context: Context,
    reverse: Vec<u8>,
}

impl Annotator {
    /// Joins models and options.
    ///
    /// # Errors
    /// Where there is no model, more than 255, one that makes no calls, a score outside [0, 1] is
    /// asked for, or a prior of what no model calls.
    pub fn new(models: Vec<Model>, options: Options) -> Result<Annotator, AnnotateError> {
        Annotator::with_fast_tier(models, vec![], options)
    }

    /// The same with a cheaper model for some of them, by task, which [`ReadState::use_fast_tier`]
    /// switches to. The models in use are then `models`, and after them `fast`.
    ///
    /// # Errors
    /// As [`Annotator::new`]; also where one of `fast` is for a task that no scanning model is for.
    pub fn with_fast_tier(
        models: Vec<Model>,
        fast: Vec<Model>,
        options: Options,
    ) -> Result<Annotator, AnnotateError> {
        let count = models.len() + fast.len();
        if models.is_empty() || count > 255 {
            let reason = format!("{count} models: 1 to 255");
            return Err(AnnotateError::Options(reason));
        }
        if let Some(score) = options.min_score.filter(|s| !(0.0..=1.0).contains(s)) {
            let reason = format!("a least score of {score} is no probability");
            return Err(AnnotateError::Options(reason));
        }
        let priors = &options.priors;
        priors.check(&models)?;
        let all = models.iter().chain(&fast);
        let infos: Result<Vec<_>, _> = all.map(|m| ModelInfo::new(m, priors)).collect();
        let infos = infos?;
        let first_fast = models.len();
        let (mut scans, mut starts, mut wholes) = (vec![], vec![], vec![]);
        for (number, model) in models.into_iter().enumerate() {
            let number = number as u8;
            whole::check(&model)?;
            match (Task::of_model(&model)?, model.manifest().sequence.clone()) {
                (Task::Expression, Some(sequence)) => {
                    starts.push(Starts::new(model, number, sequence, &options)?);
                }
                (_, Some(sequence)) => wholes.push(Whole::new(model, number, sequence)),
                (_, None) => scans.push(Scan::new(model, number, options.min_score, priors)),
            }
        }
        let mut stand_ins: Vec<Option<Scan>> = scans.iter().map(|_| None).collect();
        for (number, model) in (first_fast..).zip(fast) {
            let task = Task::of_model(&model)?;
            let place = scans
                .iter()
                .position(|s| s.model().manifest().task == task)
                .filter(|_| model.manifest().sequence.is_none());
            let Some(place) = place else {
                let reason = format!("a fast tier for {task}, which no scanning model is for");
                return Err(AnnotateError::Options(reason));
            };
            let scan = Scan::new(model, number as u8, options.min_score, priors);
            stand_ins[place] = Some(scan);
        }
        let scanning = || scans.iter().chain(stand_ins.iter().flatten());
        let margins = scanning().map(Scan::margin);
        let margins = margins.chain(starts.iter().map(Starts::margin));
        let margin = margins.chain(wholes.iter().map(Whole::margin)).max();
        let steps = scanning().map(|s| s.tile() - 2 * s.margin());
        Ok(Annotator {
            shared: Arc::new(Shared {
                step: steps.min().unwrap_or(4096).max(1),
                margin: margin.unwrap_or(0),
                scans,
                fast: stand_ins,
                starts,
                wholes,
                models: infos,
                options,
                idle: ArrayQueue::new(IDLE_RUNNERS),
                positions: AtomicU64::new(0),
                looked: AtomicU64::new(0),
            }),
        })
    }

    /// The built-in models that suit the molecule, and their default thresholds.
    ///
    /// # Errors
    /// Where the options are wrong.
    pub fn builtin(options: Options) -> Result<Annotator, AnnotateError> {
        let tasks = default_tasks(options.molecule);
        let models = tasks
            .iter()
            .map(|&task| super::builtin::model(task, options.tier));
        Annotator::new(models.collect::<Result<_, _>>()?, options)
    }

    /// The models in use; [`Call::model`] counts from 0 in this list.
    pub fn models(&self) -> &[ModelInfo] {
        &self.shared.models
    }

    /// How often positions were looked at twice, in all reads so far; nothing where no model has
    /// tiers.
    pub fn second_look(&self) -> SecondLook {
        SecondLook {
            positions: self.shared.positions.load(Ordering::Relaxed),
            looked: self.shared.looked.load(Ordering::Relaxed),
        }
    }

    /// Bases on either side of a position that scores depend on, at most.
    pub fn context(&self) -> usize {
        let scans = self.shared.scans.iter();
        let reach = scans.map(|s| {
            let context = &s.model().manifest().context;
            context.left.max(context.right)
        });
        reach.max().unwrap_or(0)
    }

    /// The options in use.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// A state for one read after another.
    pub fn read(&self) -> ReadState {
        let reverse = self
            .shared
            .options
            .strands
            .each()
            .contains(&Strand::Reverse);
        ReadState {
            starts: self
                .shared
                .starts
                .iter()
                .map(|s| s.state(reverse))
                .collect(),
            wholes: self.shared.wholes.iter().map(Whole::state).collect(),
            shared: self.shared.clone(),
            codes: Vec::new(),
            letters: Vec::new(),
            first: 0,
            done: 0,
            calls: Vec::new(),
            use_fast: false,
        }
    }
}

/// The tasks that suit a molecule.
pub fn default_tasks(molecule: Molecule) -> &'static [Task] {
    match molecule {
        Molecule::Dna => &[Task::Splice, Task::Promoter],
        Molecule::Rna => &[Task::Expression],
    }
}

impl Shared {
    fn runners(&self) -> Result<Box<Runners>, ModelError> {
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
            reverse: Vec::new(),
        }))
    }
}

/// One read, whole or still growing. After [`ReadState::finish`], [`ReadState::abort`] or
/// [`ReadState::reset`] it is ready for the next; its buffers stay.
pub struct ReadState {
    shared: Arc<Shared>,
    /// Codes from position `first` on, as far back as context needs.
    codes: Vec<u8>,
    letters: Vec<u8>,
    first: u64,
    /// Every position before this one has been scored.
    done: u64,
    starts: Vec<StartsState>,
    wholes: Vec<WholeState>,
    calls: Vec<Call>,
    use_fast: bool,
}

/// Codes of a read that are at hand.
pub(crate) struct Piece<'a> {
    pub codes: &'a [u8],
    /// Position of the first of them.
    pub first: u64,
    /// True where the last of them is the read's last base.
    pub ended: bool,
}

impl ReadState {
    /// Takes the next bases of the read, as letters (case, U and IUPAC codes as in [`nucleotide`];
    /// anything else counts as N), and gives every call that they make certain to `sink`, in order
    /// of the call's end.
    ///
    /// # Errors
    /// Where a model fails; the read is lost then, and the state must be reset.
    pub fn push(&mut self, bases: &[u8], sink: &mut dyn CallSink) -> Result<(), AnnotateError> {
        let mut letters = std::mem::take(&mut self.letters);
        let mut result = Ok(());
        for piece in bases.chunks(1 << 16) {
            letters.clear();
            nucleotide::encode(piece, &mut letters);
            result = self.push_codes(&letters, sink);
            if result.is_err() {
                break;
            }
        }
        self.letters = letters;
        result
    }

    /// The same for bases that are codes already.
    ///
    /// # Errors
    /// As [`ReadState::push`].
    pub fn push_codes(
        &mut self,
        codes: &[u8],
        sink: &mut dyn CallSink,
    ) -> Result<(), AnnotateError> {
        for (whole, state) in self.shared.wholes.iter().zip(&mut self.wholes) {
            whole.push(state, codes);
        }
        let step = self.shared.step;
        for piece in codes.chunks(step) {
            self.codes.extend_from_slice(piece);
            let known = self.first + self.codes.len() as u64;
            let limit = known.saturating_sub(self.shared.margin as u64);
            let least = if self.shared.options.eager {
                1
            } else {
                step as u64
            };
            if limit >= self.done + least {
                self.score(limit, false, sink)?;
            }
        }
        Ok(())
    }

    /// Ends the read: its last positions are scored, with the context they have.
    ///
    /// # Errors
    /// As [`ReadState::push`].
    pub fn finish(&mut self, sink: &mut dyn CallSink) -> Result<(), AnnotateError> {
        let end = self.first + self.codes.len() as u64;
        self.score(end, true, sink)?;
        self.reset();
        Ok(())
    }

    /// From now on positions are scored by the models that stand in (true), or no longer (false).
    /// Calls that these make carry [`Flags::FAST_TIER`](crate::call::Flags::FAST_TIER). Which
    /// positions these are depends on the pushes.
    pub fn use_fast_tier(&mut self, on: bool) {
        self.use_fast = on;
    }

    /// Positions before this one have been scored, and their calls have left.
    pub fn scored(&self) -> u64 {
        self.done
    }

    /// Drops the read; no more calls are made of it.
    pub fn abort(&mut self) {
        self.reset();
    }

    /// Makes the state ready for another read, whatever became of the last.
    pub fn reset(&mut self) {
        self.codes.clear();
        self.calls.clear();
        self.first = 0;
        self.done = 0;
        self.starts.iter_mut().for_each(StartsState::reset);
        self.wholes.iter_mut().for_each(WholeState::reset);
    }

    /// Scores positions `done..limit`.
    fn score(
        &mut self,
        limit: u64,
        ended: bool,
        sink: &mut dyn CallSink,
    ) -> Result<(), AnnotateError> {
        let shared = self.shared.clone();
        let mut runners = shared.runners()?;
        let Runners {
            scans,
            fast,
            starts: starts_runners,
            wholes: whole_runners,
            context,
            reverse,
        } = &mut *runners;
        while self.done < limit {
            let to = limit.min(self.done + shared.step as u64);
            let piece = Piece {
                codes: &self.codes,
                first: self.first,
                ended,
            };
            let strands = shared.options.strands.each();
            let scanning = shared.scans.iter().zip(&mut *scans);
            let stand_ins = shared.fast.iter().zip(&mut *fast);
            for ((mut scan, mut runner), fast) in scanning.zip(stand_ins) {
                let made = self.calls.len();
                let mut flags = Flags::NONE;
                if let (true, (Some(stand_in), Some(its))) = (self.use_fast, fast) {
                    (scan, runner, flags) = (stand_in, its, Flags::FAST_TIER);
                }
                for &strand in strands {
                    let range = self.done..to;
                    let calls = &mut self.calls;
                    runner.with_context(context, |runner| {
                        scan.call(runner, &piece, range, strand, reverse, calls)
                    })?;
                }
                self.calls[made..].iter_mut().for_each(|c| c.flags |= flags);
            }
            let starts = shared.starts.iter().zip(&mut self.starts);
            for ((starts, state), runner) in starts.zip(&mut *starts_runners) {
                let (range, calls) = (self.done..to, &mut self.calls);
                runner.with_context(context, |runner| {
                    starts.call(runner, state, &piece, range, strands, calls)
                })?;
            }
            // The last go with those that the read's end makes certain, in one order.
            if !ended || to < limit {
                self.emit(sink);
            }
            self.done = to;
            self.forget();
        }
        if ended {
            let starts = shared.starts.iter().zip(&mut self.starts);
            for ((starts, state), runner) in starts.zip(starts_runners) {
                let calls = &mut self.calls;
                runner
                    .with_context(context, |runner| starts.finish(runner, state, limit, calls))?;
            }
            let wholes = shared.wholes.iter().zip(&mut self.wholes);
            for ((whole, state), runner) in wholes.zip(whole_runners) {
                let (last, strands) = (&self.codes, shared.options.strands.each());
                let calls = &mut self.calls;
                runner.with_context(context, |runner| {
                    whole.finish(runner, state, last, limit, strands, calls)
                })?;
            }
            self.emit(sink);
        }
        for runner in scans {
            let SecondLook { positions, looked } = runner.take_second_look();
            shared.positions.fetch_add(positions, Ordering::Relaxed);
            shared.looked.fetch_add(looked, Ordering::Relaxed);
        }
        // A full queue means more idle runners than anybody can use.
        let _ = shared.idle.push(runners);
        Ok(())
    }

    fn emit(&mut self, sink: &mut dyn CallSink) {
        self.calls
            .sort_unstable_by_key(|c| (c.end, c.strand, c.kind, c.model, c.start));
        for call in self.calls.drain(..) {
            sink.take(call);
        }
    }

    /// Drops codes that no later position needs.
    fn forget(&mut self) {
        let keep_from = self.done.saturating_sub(self.shared.margin as u64);
        let drop = (keep_from.saturating_sub(self.first)) as usize;
        if drop > 0 {
            self.codes.drain(..drop);
            self.first += drop as u64;
        }
    }
}

impl Annotate for Annotator {
    type State = ReadState;

    fn read(&self) -> ReadState {
        Annotator::read(self)
    }

    fn context(&self) -> usize {
        Annotator::context(self)
    }

    fn has_fast_tier(&self) -> bool {
        self.shared.fast.iter().any(Option::is_some)
    }
}

impl Annotation for ReadState {
    type Error = AnnotateError;

    fn push_codes(&mut self, codes: &[u8], sink: &mut dyn CallSink) -> Result<(), AnnotateError> {
        ReadState::push_codes(self, codes, sink)
    }

    fn finish(&mut self, sink: &mut dyn CallSink) -> Result<(), AnnotateError> {
        ReadState::finish(self, sink)
    }

    fn abort(&mut self) {
        ReadState::abort(self);
    }

    fn use_fast_tier(&mut self, on: bool) {
        ReadState::use_fast_tier(self, on);
    }

    fn scored(&self) -> u64 {
        ReadState::scored(self)
    }
}
