//! What models predict: the tasks, and what a manifest must say for each.

use super::tokens::Intake;
use crate::call::CallKind;
#[cfg(feature = "tract")]
use crate::model::Model;
use crate::model::ModelError;
use crate::model::file::ModelFile;
use crate::model::manifest::{Manifest, OutputColumn};
use std::fmt;
use std::str::FromStr;

/// What a model predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Donor and acceptor sites of genomic reads, per base.
    Splice,
    /// Transcription start sites of genomic reads, per base.
    Promoter,
    /// Transcription factors at genomic reads, per base.
    Tf,
    /// TATA promoters among windows of 300 nt, of which half are promoters.
    Promoter300,
    /// Mean ribosome load of a 5'UTR.
    Expression,
    /// Translation efficiency of a 5'UTR in several cell types.
    Te,
    /// Is a sequence an internal ribosome entry site?
    Ires,
    /// Transcription rate of a bacterial promoter.
    PromoterStrength,
    /// Numbers without calls: any network, for `bench-model` and for programs that use the library.
    Raw,
}

impl Task {
    /// The tasks that there are built-in models for.
    pub const ALL: [Task; 8] = [
        Task::Splice,
        Task::Promoter,
        Task::Tf,
        Task::Promoter300,
        Task::Expression,
        Task::Te,
        Task::Ires,
        Task::PromoterStrength,
    ];

    /// Those of them that make calls by themselves; `tf` looks around those of another, and the
    /// rest serve `score`.
    pub const CALLING: [Task; 4] = [
        Task::Splice,
        Task::Promoter,
        Task::Expression,
        Task::PromoterStrength,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Task::Splice => "splice",
            Task::Promoter => "promoter",
            Task::Tf => "tf",
            Task::Promoter300 => "promoter-300",
            Task::Expression => "expression",
            Task::Te => "te",
            Task::Ires => "ires",
            Task::PromoterStrength => "promoter-strength",
            Task::Raw => "raw",
        }
    }

    /// True where every base is scored.
    pub fn is_scan(self) -> bool {
        matches!(
            self,
            Task::Splice | Task::Promoter | Task::Tf | Task::Promoter300
        )
    }

    /// True where a sequence is a 5'UTR, whose last bases count.
    pub fn is_of_leaders(self) -> bool {
        matches!(self, Task::Expression | Task::Te)
    }

    /// True where a manifest names this task.
    pub fn is_named_by(self, manifest: &Manifest) -> bool {
        self.name() == manifest.task
    }

    /// The task of a model.
    ///
    /// # Errors
    /// As [`Task::of`].
    #[cfg(feature = "tract")]
    pub fn of_model(model: &Model) -> Result<Task, ModelError> {
        Task::named(model.manifest(), model.file())
    }

    /// The task of a model file.
    ///
    /// # Errors
    /// As [`Task::of`].
    pub fn of_file(file: &ModelFile) -> Result<Task, ModelError> {
        Task::named(file.manifest(), file)
    }

    /// The task of a manifest of a file, which errors name.
    fn named(manifest: &Manifest, file: &ModelFile) -> Result<Task, ModelError> {
        Task::of(manifest).map_err(|reason| ModelError::manifest(file.name(), reason))
    }

    /// The task of a manifest, checked against what that task needs.
    ///
    /// # Errors
    /// Where the task is unknown, the shape of its output is another, or an output lacks its kind
    /// of calls.
    pub fn of(manifest: &Manifest) -> Result<Task, String> {
        // Models of cells have tasks of their own, which `cells` knows.
        if manifest.cells.is_some() {
            return Ok(Task::Raw);
        }
        let mut known = Task::ALL.into_iter().chain([Task::Raw]);
        let Some(task) = known.find(|task| task.name() == manifest.task) else {
            let names = Task::ALL.map(Task::name).join(", ");
            return Err(format!("no task {:?}: {names} or raw", manifest.task));
        };
        match (task.is_scan(), &manifest.sequence) {
            (true, Some(_)) => return Err("a scanning task takes no table `sequence`".into()),
            (false, None) if task != Task::Raw && !manifest.tokeniser.reads_letters() => {
                return Err("this task needs the table `sequence`".into());
            }
            _ => (),
        }
        Intake::of(manifest)?;
        let mut calls = false;
        for output in &manifest.outputs {
            let called = kind(output)?.is_some();
            calls |= called;
            // A scan may have columns beside those that are called, as a soft-max has.
            if !called && task.makes_calls() && !task.is_scan() {
                return Err(format!("output {}: no kind of calls", output.name));
            }
        }
        if task.makes_calls() && !calls {
            return Err("no output has a kind of calls".into());
        }
        Ok(task)
    }

    /// True where scores become calls in reads.
    pub fn makes_calls(self) -> bool {
        Task::CALLING.contains(&self) || self == Task::Tf
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Task {
    type Err = String;
    fn from_str(name: &str) -> Result<Task, String> {
        Task::ALL
            .into_iter()
            .find(|task| task.name() == name)
            .ok_or_else(|| {
                let names = Task::ALL.map(Task::name).join(", ");
                format!("no task {name:?}: {names}")
            })
    }
}

/// The kind of an output's calls, where it makes any.
///
/// # Errors
/// Where the manifest names a kind that is none.
pub fn kind(output: &OutputColumn) -> Result<Option<CallKind>, String> {
    let Some(name) = &output.kind else {
        return Ok(None);
    };
    let found = CallKind::ALL.into_iter().find(|kind| kind.name() == name);
    match found {
        Some(kind) => Ok(Some(kind)),
        None => Err(format!("output {}: no kind {name:?}", output.name)),
    }
}

/// The kind of the calls of an output of a task that makes calls, which [`Task::of`] has checked.
#[cfg(feature = "tract")]
pub(crate) fn called(output: &OutputColumn) -> CallKind {
    kind(output).ok().flatten().unwrap_or(CallKind::Expression)
}
