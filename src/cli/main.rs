//! The program: arguments, logging, a command.

use super::arguments::program::{Arguments, Command};
#[cfg(feature = "cells")]
use super::cells;
use super::error::{CliError, exit_code};
#[cfg(feature = "fleet")]
use super::fleet;
use super::plan::Plan;
use super::{
    annotate, bench, bench_model, clade, config, count, eval, inspect, models, replay, score,
    simulate,
};
#[cfg(feature = "study")]
use super::{explain, motifs, variants};
#[cfg(feature = "pack")]
use super::{pack, verify};
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program and gives its exit code.
pub fn main() -> ExitCode {
    let words = match config::with_file(std::env::args_os().collect()) {
        Ok(words) => words,
        Err(error) => return exit_code(Err(error)),
    };
    let arguments = Arguments::parse_from(&words);
    let level = match (arguments.quiet, arguments.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        _ => "debug",
    };
    // tract warns of every opset that it has no tests of; what is packed is compared.
    let filter = match level {
        "warn" => "warn,tract_onnx=error",
        level => level,
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(filter))
        .format_timestamp(None)
        .format_target(false)
        .init();
    exit_code(run(arguments.command, arguments.quiet, &words))
}

/// Runs a command of a command line.
fn run(command: Command, quiet: bool, words: &[OsString]) -> Result<(), CliError> {
    match command {
        Command::Annotate(arguments) => {
            let words = words.join(" ".as_ref());
            let words = words.to_string_lossy().into_owned();
            annotate::run(Plan::new(*arguments, words, quiet)?)
        }
        Command::Clade(arguments) => clade::run(&arguments, quiet),
        Command::Count(arguments) => count::run(&arguments),
        Command::Score(arguments) => score::run(arguments),
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Replay(arguments) => replay::run(arguments, quiet),
        Command::Eval(arguments) => eval::run(arguments, quiet),
        #[cfg(feature = "pack")]
        Command::Pack(arguments) => pack::run(&arguments, quiet),
        Command::Inspect(arguments) => inspect::run(&arguments),
        #[cfg(feature = "pack")]
        Command::Verify(arguments) => verify::run(arguments),
        #[cfg(feature = "study")]
        Command::Variants(arguments) => variants::run(arguments, quiet),
        #[cfg(feature = "study")]
        Command::Explain(arguments) => explain::run(arguments),
        #[cfg(feature = "study")]
        Command::Motifs(arguments) => motifs::run(arguments, quiet),
        #[cfg(feature = "cells")]
        Command::Cells(command) => cells::run(command, quiet),
        #[cfg(not(feature = "cells"))]
        Command::Cells(_) => Err(CliError::usage(
            "this build lacks `cells`: build it with `cargo build --release --features full`",
        )),
        #[cfg(feature = "fleet")]
        Command::Publish(arguments) => fleet::publish(&arguments, quiet),
        #[cfg(feature = "fleet")]
        Command::Queue(arguments) => fleet::queue(&arguments, quiet),
        #[cfg(feature = "fleet")]
        Command::Work(arguments) => fleet::work(&arguments, quiet),
        #[cfg(feature = "fleet")]
        Command::Collect(arguments) => fleet::collect(arguments, quiet),
        #[cfg(not(feature = "fleet"))]
        Command::Publish(_) | Command::Queue(_) | Command::Work(_) | Command::Collect(_) => {
            Err(CliError::usage(super::check::LACKS_FLEET))
        }
        #[cfg(not(feature = "study"))]
        Command::Variants(_) | Command::Explain(_) | Command::Motifs(_) => Err(CliError::usage(
            "this build lacks `variants`, `explain` and `motifs`: build it with \
             `cargo build --release --features full`",
        )),
        #[cfg(not(feature = "pack"))]
        Command::Pack(_) | Command::Verify(_) => Err(CliError::usage(
            "this build has no compiler, which `pack` and `verify` need: build it with \
             `cargo build --release --features full`",
        )),
        Command::Models => models::run(),
        Command::BenchModel(arguments) => bench_model::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the wrong usage of a command line without the program's name.
    fn refused(line: &[&str]) -> String {
        let words = ["strandline"].iter().chain(line);
        let ran = match Arguments::try_parse_from(words) {
            Ok(arguments) => run(arguments.command, true, &[]),
            Err(error) => Err(CliError::usage(error)),
        };
        match ran {
            Err(CliError::Usage(message)) => message,
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn wrong_usage_is_found_before_any_file_is_looked_for() {
        let score = ["score", "r.fa", "--task", "promoter", "-o", "out"];
        let simulate = [
            "simulate", "g.fa", "--sites", "s", "--reads", "1", "-o", "o",
        ];
        let bench = ["bench-model", "splice", "--input", "i", "--output", "o"];
        let both = "--whole scores one strand";
        for (line, more, expected) in [
            (&score[..], &["--whole", "--strand", "both"][..], both),
            (&score, &["--whole", "--prior", "donor=0.1"], "--prior"),
            (&score, &["--prior", "expression=0.1"], "of a probability"),
            (&["score", "r.fa", "-o", "out"], &[], "--task"),
            (&simulate, &[], "--truth"),
            (
                &["eval", "r.fa", "--truth", "t"],
                &["--task=te"],
                "eval measures splice",
            ),
            (
                &["replay", "r.fa"],
                &["--to", "run", "--bursts", "9"],
                "breaks streams",
            ),
            (
                &["replay", "r.fa"],
                &["--to", "tcp://127.0.0.1:1", "--bursts", "9"],
                "not the frames of a link",
            ),
            (&["replay", "r.fa"], &["--channels", "0"], "--channels"),
            (&["bench-model"], &[], "the name of a built-in model"),
            (&bench, &["--strand", "both"], "one thread and one strand"),
            (&bench, &["--threads", "2"], "one thread and one strand"),
            (&["bench-model", "splice"], &["--output", "o"], "--input"),
            (&["bench"], &["--on-overload", "block"], "--deadline"),
            (&["verify", "m"], &["--against", "n.onnx"], "verify"),
            (&["verify", "m"], &["r.fa"], "--against"),
            (&["pack", "n.onnx"], &[], "--output"),
        ] {
            let expected = match (expected, cfg!(feature = "pack")) {
                ("verify", true) => "--against needs READS",
                ("verify", false) => "no compiler",
                (other, _) => other,
            };
            let message = refused(&[line, more].concat());
            assert!(message.contains(expected), "{line:?} {more:?}: {message}");
        }
    }

    #[test]
    fn what_is_read_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kept");
        std::fs::write(&file, "kept").unwrap();
        let file = file.to_str().unwrap();
        for line in [
            &["score", file, "--task", "te", "--whole", "-o", file][..],
            &[
                "simulate",
                "g",
                "--sites",
                file,
                "--reads=1",
                "-o=o",
                "--truth",
                file,
            ],
            &["bench-model", "splice", "--input", file, "--output", file],
            #[cfg(feature = "pack")]
            &["pack", "n.onnx", "--manifest", file, "-o", file],
        ] {
            let message = refused(line);
            assert!(
                message.contains("cannot be written at the same time"),
                "{message}"
            );
            assert_eq!(std::fs::read(file).unwrap(), b"kept");
        }
    }
}
