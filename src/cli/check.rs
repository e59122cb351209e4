//! Everything that makes a run of `annotate` wrong usage in its options and its models; for files
//! see `guard`. All of it is checked before anything is opened for writing.

use super::arguments::annotate::AnnotateArguments;
use super::arguments::values::OutputFormat;
use super::error::CliError;
use super::output::is_gz;
use crate::annotate::Task;
use crate::call::CallKind;
use crate::model::Model;
use crate::model::manifest::Tier;
use crate::sink::Format;
use crate::stream::decide::Policy;
use std::path::Path;

/// What a build says that cannot speak with a broker.
pub(super) const LACKS_FLEET: &str = "this build lacks `publish`, `queue`, `work` and `collect`: \
                                      build it with `cargo build --release --features fleet`";

/// Options that do not go together, or mean nothing without another. The first one counts.
pub(super) fn options(arguments: &AnnotateArguments) -> Result<(), CliError> {
    let live = arguments.is_live();
    let follow = arguments.follow.is_some();
    let bam = arguments.format == OutputFormat::Bam;
    let format = arguments.format.of_calls();
    let is_text = format.is_some_and(Format::is_text);
    let binary = !bam && !is_text;
    let keys: Vec<&str> = arguments.labels.iter().map(|(key, _)| &**key).collect();
    let labelled_twice = (1..keys.len()).any(|at| keys[..at].contains(&keys[at]));
    let output = arguments.output.as_deref();
    let auto = arguments.clade.named().is_none();
    let shared = arguments.shard.is_some() || arguments.records.is_some();
    let standard_input = arguments.inputs.iter().any(|path| path.as_os_str() == "-");
    let to_file = output.is_some_and(|path| path.as_os_str() != "-");
    let report = arguments.report.as_deref();
    let rules = [
        (
            report.is_some_and(|path| path.as_os_str() == "-"),
            "--report needs a file: standard output is for calls",
        ),
        (
            arguments.report_gff.is_some() && !cfg!(feature = "study"),
            "this build lacks what --report-gff needs, the feature `study`: build it with `cargo \
             build --release --features full`",
        ),
        (
            shared && (follow || live),
            "--shard and --records share files: they go with no live option",
        ),
        (
            arguments.shard.is_some() && standard_input,
            "--shard reads files from their middle, which standard input has none of: use \
             --records",
        ),
        (
            shared && auto,
            "--clade auto looks at the first records, and every share must look for the same: name \
             the clade (`strandline clade READS` guesses it)",
        ),
        (
            !arguments.labels.is_empty() && !format.is_some_and(Format::has_labels),
            "--label adds fields to JSON objects and columns to Parquet: it needs --format jsonl \
             or parquet",
        ),
        (
            arguments.publish.is_some() && !cfg!(feature = "fleet"),
            LACKS_FLEET,
        ),
        (
            arguments.publish.is_some()
                && (format != Some(Format::Jsonl) || !to_file || output.is_some_and(is_gz)),
            "--publish sends what stands in a file of JSON Lines: it needs --format jsonl and \
             --output FILE, not in .gz",
        ),
        (
            labelled_twice,
            "--label gives the same key twice: leave one of them away",
        ),
        (
            arguments.no_header && (!is_text || follow),
            "--no-header is for text that is written to its end: it goes with none of --format \
             bam, --format parquet and --follow",
        ),
        (
            binary && output.is_some_and(is_gz),
            "--format parquet compresses by itself: leave .gz away",
        ),
        (
            arguments.on_overload.is_some() && arguments.deadline.is_none(),
            "--on-overload needs --deadline, which says what overload is",
        ),
        (
            arguments.decisions.is_some() && arguments.policy.is_none(),
            "--decisions needs --policy",
        ),
        (
            live && arguments.strict,
            "--strict ends a run at the first bad read, and a live run goes on",
        ),
        (
            bam && (follow || live),
            "--format bam writes a record when its read is over: it goes with no live option",
        ),
        (
            bam && arguments.inputs.len() != 1,
            "--format bam passes the records of one input through: give one BAM file",
        ),
        (
            follow && !to_file,
            "--follow needs --output: what was written there is what need not be read again",
        ),
        (
            follow && format.is_some_and(|format| !format.can_be_continued()),
            "--follow writes each call at once, and bedgraph and parquet hold some back: use \
             another format",
        ),
        (
            live && format == Some(Format::Bedgraph),
            "bedgraph needs a read's calls in order, to see which overlap: it goes with no live \
             option",
        ),
        (
            follow && output.is_some_and(is_gz),
            "--follow adds to its output, which a compressed file cannot have: leave .gz away",
        ),
        (
            arguments.until_idle.is_some() && !follow,
            "--until-idle needs --follow",
        ),
        (
            arguments.journal.is_some() && !follow,
            "--journal needs --follow",
        ),
        (
            arguments.everywhere
                && arguments.models.is_empty()
                && !arguments.tasks.contains(&Task::Tf),
            "--everywhere is for transcription factors: it needs --tasks tf",
        ),
        (
            follow && live,
            "--follow reads files as they are completed: it goes with no live option",
        ),
    ];
    match rules.iter().find(|(broken, _)| *broken) {
        Some((_, message)) => Err(CliError::usage(message)),
        None => Ok(()),
    }
}

/// What splice-tsv cannot hold must not have been asked for by name, nor be all there is.
pub(super) fn splice_tsv(splice: &[Model], others: &[Model], named: bool) -> Result<(), CliError> {
    match others.first() {
        Some(other) if named || splice.is_empty() => Err(CliError::Usage(format!(
            "splice-tsv holds splice sites only, not {}: add --tasks splice",
            other.manifest().task
        ))),
        _ => Ok(()),
    }
}

/// A policy may only rest on calls that are made.
pub(super) fn policy(file: &Path, policy: &Policy, called: &[CallKind]) -> Result<(), CliError> {
    match policy.kinds().find(|kind| !called.contains(kind)) {
        Some(kind) => Err(CliError::Usage(format!(
            "{}: no model in use calls a {kind}",
            file.display()
        ))),
        None => Ok(()),
    }
}

/// Some model must have a faster tier than the one in use.
pub(super) fn fast_tier(tier: Tier, models: &[Model]) -> Result<(), CliError> {
    if tier == Tier::Fast || !models.iter().any(is_tiered) {
        let message = "--on-overload fast-tier: no model in use has a faster tier";
        return Err(CliError::usage(message));
    }
    Ok(())
}

/// True where a model's file holds two tiers.
pub(super) fn is_tiered(model: &Model) -> bool {
    model.file().manifest().cascade.is_some()
}
