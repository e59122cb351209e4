//! The beginning of the page: what was run, and what came of it.

use super::text::{bases, details, fact, table, whole};
use crate::annotate::{Molecule, Options, Strands};
use crate::call::CallKind;
use crate::metrics::Summary;
use crate::sink::markup::escaped;

/// What was run.
pub(in crate::cli) struct Facts {
    /// As on the command line.
    pub inputs: Vec<String>,
    /// All of it.
    pub command: String,
    pub options: Options,
    /// What comes besides, where it changes what is called: name and value.
    pub more: Vec<(&'static str, String)>,
    /// Name and version, and hash.
    pub models: Vec<(String, String)>,
    /// Of the kernels.
    pub instruction_set: String,
    /// How it ended.
    pub ended: String,
}

/// Inputs that are named; a shell may give thousands.
const INPUTS: usize = 20;

/// The title, and the run in one sentence.
pub(super) fn lead(facts: &Facts, summary: &Summary) -> String {
    let calls: Vec<String> = listed(summary)
        .map(|(kind, count)| format!("{} {kind}", whole(count)))
        .collect();
    format!(
        "<header><h1>What the run saw</h1><p class=\"lead\">{} of {} reads, {} of sequence; calls: \
         {}.</p><p>{}</p>",
        whole(summary.reads_out),
        whole(summary.reads_in),
        bases(summary.bases_out),
        calls.join(", "),
        escaped(&facts.ended)
    )
}

/// Kinds of calls as a summary lists them.
fn listed(summary: &Summary) -> impl Iterator<Item = (&'static str, u64)> + '_ {
    let kinds = summary.calls.iter().enumerate();
    let listed = kinds.filter(|(at, (_, count))| *at < summary.expected_kinds || *count > 0);
    listed.map(|(_, &(kind, count))| (kind, count))
}

/// The section of the run itself.
pub(super) fn section(facts: &Facts, summary: &Summary) -> String {
    let mut reads = String::new();
    for (name, count) in [
        ("in", summary.reads_in),
        ("out", summary.reads_out),
        ("rejected", summary.rejected),
        ("shed", summary.shed),
        ("passed over", summary.passed),
    ] {
        if name != "passed over" || count > 0 {
            reads += &fact(&format!("reads {name}"), whole(count));
        }
    }
    reads += &fact("bases in", whole(summary.bases_in));
    reads += &fact("bases out", whole(summary.bases_out));
    for (kind, count) in listed(summary) {
        reads += &fact(&format!("{kind} calls"), whole(count));
    }
    let seconds = summary.elapsed.as_secs_f64();
    let rate = summary.bases_per_second() / 1e6;
    reads += &fact("time", format!("{seconds:.1} s, {rate:.3} Mb/s"));
    let (options, mut run) = (&facts.options, String::new());
    let shown = facts.inputs.iter().take(INPUTS);
    for input in shown {
        run += &fact("input", input);
    }
    if facts.inputs.len() > INPUTS {
        run += &fact("more inputs", facts.inputs.len() - INPUTS);
    }
    for (name, value) in described(options) {
        run += &fact(name, value);
    }
    for (name, value) in &facts.more {
        run += &fact(name, value);
    }
    run += &fact("program", concat!("strandline ", env!("CARGO_PKG_VERSION")));
    run += &fact("instruction set", &facts.instruction_set);
    let models = facts.models.iter();
    let models: Vec<Vec<String>> = models
        .map(|(name, hash)| vec![name.clone(), hash.clone()])
        .collect();
    let models = table("Models", 2, &["model", "BLAKE3"], &models);
    let command = format!("<pre>{}</pre>", escaped(&facts.command));
    let summary = format!("<pre>{}</pre>", escaped(&summary.to_string()));
    format!(
        "<section id=\"run\"><h2>The run</h2><div class=\"pair\"><dl>{reads}</dl><dl>{run}</dl>\
         </div><h3>Models</h3>{models}{}{}</section>\n",
        details("Command line", &command),
        details("Counts as printed", &summary)
    )
}

/// Options that calls depend on, in words.
fn described(options: &Options) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("clade", options.clade.to_string()),
        ("tier", options.tier.name().to_string()),
        (
            "molecule",
            match options.molecule {
                Molecule::Dna => "DNA",
                Molecule::Rna => "RNA",
            }
            .to_string(),
        ),
        (
            "strands",
            match options.strands {
                Strands::Both => "both",
                Strands::Forward => "forward",
                Strands::Reverse => "reverse",
            }
            .to_string(),
        ),
        (
            "least probability",
            match options.min_score {
                Some(score) => score.to_string(),
                None => "each model's own".to_string(),
            },
        ),
    ];
    let kinds = CallKind::ALL.into_iter();
    let given = kinds.filter_map(|kind| Some((kind, options.priors.of(kind)?)));
    all.extend(given.map(|(kind, rate)| ("prior", format!("{kind}={rate}"))));
    if options.everywhere {
        all.push(("everywhere", "yes".to_string()));
    }
    all
}
