//! Models and options, checked against each other: what makes states for reads.

use super::annotation::{Annotate, Kept};
use super::builtin::BuiltIn;
use super::carry::Keeping;
use super::error::AnnotateError;
use super::info::ModelInfo;
use super::models::{IDLE_RUNNERS, Models};
use super::options::{Options, default_tasks};
use super::read::ReadState;
use super::scan::Scan;
use super::starts::Starts;
use super::task::Task;
use super::tokens::Intake;
use super::whole::{self, Whole};
use crate::model::{Model, SecondLook};
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Models and options; clones share them.
#[derive(Clone)]
pub struct Annotator {
    shared: Arc<Models>,
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
        if models.is_empty() {
            return Err(AnnotateError::Options("0 models: 1 to 255".to_string()));
        }
        if let Some(score) = options.min_score.filter(|s| !(0.0..=1.0).contains(s)) {
            let reason = format!("a least score of {score} is no probability");
            return Err(AnnotateError::Options(reason));
        }
        let priors = &options.priors;
        priors.check(&models)?;
        let all = models.iter().chain(&fast);
        let infos: Result<Vec<_>, _> = all.map(|m| ModelInfo::each(m, priors)).collect();
        let infos = infos?;
        // The number of the first name of each model.
        let numbers = infos.iter().scan(0, |next, names| {
            let own = *next;
            *next += names.len();
            Some(own)
        });
        let numbers: Vec<usize> = numbers.collect();
        let infos: Vec<ModelInfo> = infos.into_iter().flatten().collect();
        if infos.len() > 255 {
            let reason = format!("{} models: 1 to 255", infos.len());
            return Err(AnnotateError::Options(reason));
        }
        let (of_models, of_fast) = numbers.split_at(models.len());
        let (mut scans, mut starts, mut wholes) = (vec![], vec![], vec![]);
        for (&number, model) in of_models.iter().zip(models) {
            let number = number as u8;
            whole::check(&model)?;
            let intake = Intake::of(model.manifest()).map_err(AnnotateError::Options)?;
            match (Task::of_model(&model)?, intake) {
                (Task::Expression, Some(intake)) => {
                    starts.push(Starts::new(model, number, intake, &options)?);
                }
                (Task::Splice, Some(intake)) if intake.stride() > 1 => {
                    return Err(AnnotateError::Options(format!(
                        "{} scores a window every {} bases, and splice sites are single bases: \
                         `stride = 1` in its manifest scores each, `score` takes it as it is",
                        model.manifest().name,
                        intake.stride()
                    )));
                }
                (task, Some(intake)) if task.is_scan() => {
                    let scan = Scan::new(model, number, &options);
                    scans.push(scan.with_windows(intake));
                }
                (_, Some(intake)) => wholes.push(Whole::new(model, number, intake)),
                (_, None) => scans.push(Scan::new(model, number, &options)),
            }
        }
        let gates = gates(&scans, options.everywhere)?;
        let scans = scans.into_iter().enumerate();
        let scans: Vec<Scan> = scans
            .map(|(number, scan)| {
                if gates.contains(&Some(number)) {
                    scan.into_gate()
                } else {
                    scan
                }
            })
            .collect();
        let mut stand_ins: Vec<Option<Scan>> = scans.iter().map(|_| None).collect();
        for (&number, model) in of_fast.iter().zip(fast) {
            let task = Task::of_model(&model)?;
            let place = scans
                .iter()
                .position(|s| task.is_named_by(s.model().manifest()))
                .filter(|_| model.manifest().sequence.is_none());
            let Some(place) = place else {
                let reason = format!("a fast tier for {task}, which no scanning model is for");
                return Err(AnnotateError::Options(reason));
            };
            let scan = Scan::new(model, number as u8, &options);
            stand_ins[place] = Some(scan);
        }
        let scanning = || scans.iter().chain(stand_ins.iter().flatten());
        let steps = scanning().map(|s| s.tile() - 2 * s.margin());
        let keeping = Arc::new(Keeping::new(options.kept_memory, 2 * scans.len()));
        Ok(Annotator {
            shared: Arc::new(Models {
                step: steps.min().unwrap_or(4096).max(1),
                scans,
                gates,
                fast: stand_ins,
                starts,
                wholes,
                models: infos,
                keeping,
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
        let tasks = default_tasks(options.molecule, options.clade);
        let clade = options.clade;
        let models = tasks
            .iter()
            .map(|&task| BuiltIn { task, clade }.model(options.tier));
        Annotator::new(models.collect::<Result<_, _>>()?, options)
    }

    /// The models in use; [`Call::model`](crate::call::Call::model) counts from 0 in this list.
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

    /// What reads that are open, or that states wait for, keep of what was computed.
    pub fn kept(&self) -> Kept {
        self.shared.keeping.state()
    }

    /// Bases on either side of a position that scores depend on, at most.
    pub fn context(&self) -> usize {
        let scans = self.shared.scans.iter();
        let reach = scans.map(|scan| {
            let (left, right) = scan.reach();
            left.max(right)
        });
        reach.max().unwrap_or(0)
    }

    /// The options in use.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// A state for one read after another.
    pub fn read(&self) -> ReadState {
        ReadState::new(self.shared.clone())
    }
}

/// For each scanning model the one whose calls it is looked for around.
fn gates(scans: &[Scan], everywhere: bool) -> Result<Vec<Option<usize>>, AnnotateError> {
    let is = |scan: &Scan, task: Task| task.is_named_by(scan.model().manifest());
    let promoter = scans.iter().position(|scan| is(scan, Task::Promoter));
    let gate = |scan: &Scan| match (is(scan, Task::Tf) && !everywhere, promoter) {
        (false, _) => Ok(None),
        (true, Some(promoter)) => Ok(Some(promoter)),
        (true, None) => {
            let reason = "tf looks around promoter calls: add the task promoter, or everywhere";
            Err(AnnotateError::Options(reason.to_string()))
        }
    };
    scans.iter().map(gate).collect()
}

impl Annotate for Annotator {
    type State = ReadState;

    fn read(&self) -> ReadState {
        Annotator::read(self)
    }

    fn context(&self) -> usize {
        Annotator::context(self)
    }

    fn kept(&self) -> Kept {
        Annotator::kept(self)
    }

    fn has_fast_tier(&self) -> bool {
        self.shared.fast.iter().any(Option::is_some)
    }
}
