//! Which models annotate, and how, in the words of the command line: for whoever embeds this.

use super::annotator::Annotator;
use super::builtin::BuiltIn;
use super::clade::Clade;
use super::error::AnnotateError;
use super::options::{Molecule, Options, Priors, Strands, default_tasks};
use super::task::Task;
use crate::call::CallKind;
use crate::model::Model;
use crate::model::manifest::Tier;
use std::path::PathBuf;
use std::str::FromStr;

/// Which models are in use.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// What to look for, besides what model files are for.
    pub tasks: Vec<Task>,
    /// The tasks were given: files for other tasks are wrong.
    pub named: bool,
    /// The branch of life of the built-in splice model.
    pub clade: Clade,
    /// Model files instead of built-in ones.
    pub files: Vec<PathBuf>,
    /// Check their tensors against their hash.
    pub check_tensors: bool,
}

impl Choice {
    /// Opens them: those of files, else the built-in ones.
    ///
    /// # Errors
    /// For a file that is no model, or one for none of the tasks that were given; for a clade where
    /// no built-in splice model is in use.
    pub fn models(&self, tier: Tier) -> Result<Vec<Model>, AnnotateError> {
        let mut given: Vec<Model> = vec![];
        for path in &self.files {
            let model = Model::open_tier(path, tier)?;
            if self.check_tensors {
                model.file().check_payload()?;
            }
            given.push(model);
        }
        let mut tasks = self.tasks.clone();
        if !self.named {
            for model in &given {
                tasks.push(Task::of_model(model)?);
            }
        }
        tasks.sort_unstable();
        tasks.dedup();
        let is_unused =
            |model: &&Model| !tasks.iter().any(|task| task.is_named_by(model.manifest()));
        if let Some(model) = given.iter().find(is_unused) {
            return Err(AnnotateError::Options(format!(
                "{} is for {}, which is not among the tasks",
                model.file().name(),
                model.manifest().task
            )));
        }
        let (mut models, mut built_in) = (vec![], vec![]);
        let clade = self.clade;
        for task in tasks {
            let mut own = given.extract_if(.., |m| task.is_named_by(m.manifest()));
            match own.next() {
                Some(model) => models.push(model),
                None => {
                    built_in.push(task);
                    models.push(BuiltIn { task, clade }.model(tier)?);
                }
            }
            models.extend(own);
        }
        clade_of(clade, built_in)?;
        Ok(models)
    }
}

/// A clade chooses among built-in splice models, for which one of the tasks must be.
///
/// # Errors
/// Where none is.
pub fn clade_of(
    clade: Clade,
    built_in: impl IntoIterator<Item = Task>,
) -> Result<Clade, AnnotateError> {
    if clade == Clade::default() || built_in.into_iter().any(|task| task == Task::Splice) {
        return Ok(clade);
    }
    Err(AnnotateError::Options(format!(
        "clade {clade}: none of the built-in splice models, which it chooses from, is in use"
    )))
}

/// Tasks, and those around whose calls they look.
pub fn with_gates(mut tasks: Vec<Task>, everywhere: bool) -> Vec<Task> {
    if tasks.contains(&Task::Tf) && !everywhere {
        tasks.push(Task::Promoter);
    }
    tasks
}

/// What an annotator is to be, said word by word.
///
/// | key | value | without it |
/// | --- | --- | --- |
/// | `tasks` | names, with commas between | what suits the molecule and the clade |
/// | `tier` | `fast`, `accurate`, `auto` | `auto` |
/// | `clade` | `vertebrate`, `insect`, `nematode`, `plant` | `vertebrate` |
/// | `molecule` | `dna`, `rna` | `dna` |
/// | `strand` | `both`, `forward`, `reverse` | `both` for DNA, `forward` for RNA |
/// | `min-score` | least probability of a call | each model's own |
/// | `prior` | `KIND=RATE` (may be said again) | the models' own |
/// | `model` | a model file (may be said again) | the built-in ones |
/// | `max-starts` | start codons a read and strand whose 5'UTR is scored | 1 |
/// | `everywhere` | `true`, `false`: transcription factors at every base | `false` |
#[derive(Debug, Clone, Default)]
pub struct Request {
    tasks: Option<Vec<Task>>,
    strands: Option<Strands>,
    priors: Vec<(CallKind, f64)>,
    choice: Choice,
    options: Options,
}

impl Request {
    /// Says one thing.
    ///
    /// # Errors
    /// For a key that there is none of, or a value that it cannot have.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), AnnotateError> {
        let wrong = |expected: &str| {
            let reason = format!("{key} is {value:?}: expected {expected}");
            AnnotateError::Options(reason)
        };
        match key {
            "tasks" => {
                let tasks = value.split(',').map(|name| Task::from_str(name.trim()));
                let tasks: Result<_, _> = tasks.collect();
                self.tasks = Some(tasks.map_err(|error| wrong(&error.to_string()))?);
            }
            "tier" => {
                let tiers = [Tier::Fast, Tier::Accurate, Tier::Auto];
                let tier = tiers.into_iter().find(|tier| tier.name() == value);
                self.options.tier = tier.ok_or_else(|| wrong("fast, accurate or auto"))?;
            }
            "clade" => {
                let clade = value.parse().map_err(AnnotateError::Options)?;
                (self.choice.clade, self.options.clade) = (clade, clade);
            }
            "molecule" => {
                self.options.molecule = match value {
                    "dna" => Molecule::Dna,
                    "rna" => Molecule::Rna,
                    _ => return Err(wrong("dna or rna")),
                }
            }
            "strand" => {
                self.strands = Some(match value {
                    "both" => Strands::Both,
                    "forward" => Strands::Forward,
                    "reverse" => Strands::Reverse,
                    _ => return Err(wrong("both, forward or reverse")),
                })
            }
            "min-score" => {
                let score: Option<f32> = value.parse().ok().filter(|score: &f32| !score.is_nan());
                self.options.min_score = Some(score.ok_or_else(|| wrong("a number"))?);
            }
            "prior" => {
                let expected = || wrong("KIND=RATE, such as donor=0.0005");
                self.priors.push(Priors::parse(value).ok_or_else(expected)?);
            }
            "model" => self.choice.files.push(value.into()),
            "max-starts" => {
                let starts = value.parse().map_err(|_| wrong("a whole number"))?;
                self.options.max_starts = starts;
            }
            "everywhere" => {
                self.options.everywhere = value.parse().map_err(|_| wrong("true or false"))?;
            }
            _ => {
                return Err(AnnotateError::Options(format!(
                    "there is no option {key:?}"
                )));
            }
        }
        Ok(())
    }

    /// Opens the models. `grows`: reads come in pieces, and calls are wanted as soon as they are
    /// certain.
    ///
    /// # Errors
    /// As [`Choice::models`] and [`Annotator::new`].
    pub fn open(self, grows: bool) -> Result<Annotator, AnnotateError> {
        let Request {
            tasks,
            strands,
            priors,
            mut choice,
            mut options,
        } = self;
        choice.named = tasks.is_some();
        choice.tasks = match tasks {
            Some(tasks) => with_gates(tasks, options.everywhere),
            None => default_tasks(options.molecule, choice.clade).to_vec(),
        };
        options.strands = strands.unwrap_or(match options.molecule {
            Molecule::Dna => Strands::Both,
            Molecule::Rna => Strands::Forward,
        });
        options.priors = Priors::new(&priors)?;
        options.eager = grows;
        Annotator::new(choice.models(options.tier)?, options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(words: &[(&str, &str)]) -> Result<Annotator, AnnotateError> {
        let mut request = Request::default();
        for (key, value) in words {
            request.set(key, value)?;
        }
        request.open(true)
    }

    #[test]
    fn words_say_what_is_wanted() {
        let names = |words: &[(&str, &str)]| -> Vec<String> {
            let annotator = request(words).unwrap();
            annotator.models().iter().map(|m| m.name.clone()).collect()
        };
        assert_eq!(names(&[]), ["splice-auto", "promoter-auto"]);
        assert_eq!(names(&[("clade", "plant")]), ["splice-plant-auto"]);
        assert_eq!(names(&[("molecule", "rna")]).len(), 1);
        let both = [("tasks", "splice, promoter"), ("tier", "fast")];
        assert_eq!(names(&both), ["splice-fast", "promoter-fast"]);
        // Five factors, which are looked for around promoters.
        assert_eq!(names(&[("tasks", "tf")]).len(), 6);
        assert_eq!(names(&[("tasks", "tf"), ("everywhere", "true")]).len(), 5);
    }

    #[test]
    fn wrong_words_are_named() {
        for (key, value, expected) in [
            ("task", "splice", "no option \"task\""),
            ("tasks", "splicing", "splicing"),
            ("tier", "best", "fast, accurate or auto"),
            ("clade", "fungus", "fungus"),
            ("strand", "+", "both, forward or reverse"),
            ("min-score", "nan", "a number"),
            ("prior", "donor", "KIND=RATE"),
            ("prior", "donor=2", "above 0 and below 1"),
            ("model", "missing.safetensors", "missing.safetensors"),
            ("max-starts", "-1", "whole number"),
            ("everywhere", "yes", "true or false"),
        ] {
            let error = request(&[(key, value)]).err().unwrap().to_string();
            assert!(error.contains(expected), "{key} {value}: {error}");
        }
    }
}
