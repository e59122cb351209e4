//! Keep or eject: what the calls of a read's first bases say about the rest of it.
//!
//! ```toml
//! # The first rule that is met decides, as soon as it is met. A read whose bases have all been
//! # looked at as far as any rule reaches, or that ends before, gets the default.
//! default = "eject"
//!
//! # For a read that was shed under overload before that. "keep" where it is left out.
//! on-overload = "keep"
//!
//! [[rule]]
//! kinds = ["donor", "acceptor"]
//! at_least = 2        # calls of these kinds together
//! within = 2000       # bases from the read's start
//! min_score = 0.6     # those that score less do not count
//! decision = "keep"
//! ```
//!
//! A [`Policy`] is such a file. A [`Decider`] stands before the output of a live run: it judges
//! each read by the policy, sends keep and eject back to where the read comes from, and gives each
//! decision to [`Decisions`], such as a [`DecisionWriter`] or a closure.
//!
//! ```no_run
//! use std::sync::Arc;
//! use strandline::sink::{CallWriter, Format};
//! use strandline::stream::decide::{Decider, DecisionWriter, Policy};
//! use strandline::stream::{self, link, live};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let annotator: strandline::Annotator = strandline::Annotator::builtin(Default::default())?;
//! let metrics = Arc::new(strandline::metrics::Metrics::new());
//! let models = stream::model_tags(annotator.models());
//! let mut calls = CallWriter::new(std::io::stdout(), Format::Tsv, models);
//! calls.header()?;
//! let decisions = DecisionWriter::new(std::fs::File::create("decisions.tsv")?)?;
//! let policy = Policy::open("policy.toml".as_ref())?;
//! let mut output = Decider::new(calls, policy, decisions, metrics.clone());
//! let board: Box<dyn live::LiveSource> = Box::new(link::open("serial:///dev/ttyUSB0")?);
//! let (config, stop) = (live::LiveConfig::default(), Arc::default());
//! live::run(&config, vec![board], &annotator, &metrics, &stop, &mut output)?;
//! # Ok(()) }
//! ```

mod decider;
mod judge;
mod policy;
#[cfg(test)]
mod tests;
mod writer;

pub use decider::Decider;
pub use judge::Decided;
pub use policy::{Decision, Policy, PolicyError, Rule};
pub use writer::{DecisionWriter, Decisions, ReadDecision};
