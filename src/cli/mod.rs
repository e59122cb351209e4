//! The command line: arguments to a plan, the plan carried out, errors to exit codes.
//!
//! ```text
//! main --> arguments --> plan (and check) --> annotate --> annotator
//!                                                 \--> batch, live or follow --> run, output, html
//!      \-> arguments --> score, eval, bench, ...: each plans itself and runs
//! ```
//!
//! A run of `annotate` is decided once, in `plan::Plan`, and every check of
//! options and files is in `check`; behind it nobody reads arguments. Options of a file become
//! arguments in `config`, before all. The other commands have a small plan of their own beside
//! them.

// It panics where standard error is full or closed; `report::note` does not.
#![warn(clippy::print_stderr)]

mod annotate;
mod annotator;
mod arguments;
mod batch;
mod bench;
mod bench_model;
#[cfg(feature = "pack")]
mod budget;
#[cfg(feature = "cells")]
mod cells;
mod check;
mod clade;
mod config;
mod count;
mod error;
mod eval;
mod events;
#[cfg(feature = "study")]
mod explain;
#[cfg(feature = "fleet")]
mod fleet;
mod follow;
mod guard;
mod html;
mod inspect;
mod interrupt;
mod live;
mod main;
mod models;
#[cfg(feature = "study")]
mod motifs;
#[cfg(target_os = "linux")]
mod notify;
mod output;
#[cfg(feature = "pack")]
mod pack;
mod plan;
#[cfg(feature = "fleet")]
mod publication;
mod records;
mod replay;
mod report;
mod run;
mod score;
mod scorer;
mod sequences;
mod simulate;
mod status;
#[cfg(feature = "study")]
mod variants;
#[cfg(feature = "pack")]
mod verify;

pub use main::main;

/// All commands and their options, for those who describe them.
pub fn command() -> clap::Command {
    <arguments::program::Arguments as clap::CommandFactory>::command()
}
