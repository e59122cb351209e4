//! What `eval` takes.

use super::values::{StrandArgument, TierArgument, prior};
use crate::annotate::{Clade, Task};
use crate::call::CallKind;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct EvalArguments {
    /// Reads whose sites are known
    pub reads: PathBuf,
    /// The known sites, as `simulate` writes them
    #[arg(long, value_name = "TRUTH")]
    pub truth: PathBuf,
    /// What to measure: splice
    #[arg(long, default_value = "splice")]
    pub task: Task,
    /// A model file instead of the built-in one
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The branch of life, of the built-in splice model: vertebrate, insect, nematode or plant
    #[arg(long, default_value_t)]
    pub clade: Clade,
    /// Which network of models that have two
    #[arg(long, value_enum, default_value = "auto")]
    pub tier: TierArgument,
    /// As in annotate: how often a site occurs where it could (repeatable)
    #[arg(long = "prior", value_name = "KIND=RATE", value_parser = prior)]
    pub priors: Vec<(CallKind, f64)>,
    /// Strands that are scored
    #[arg(long, value_enum, default_value = "both")]
    pub strand: StrandArgument,
}
