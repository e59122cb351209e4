use super::*;
use crate::annotate::{Clade, Molecule, Strands};
use crate::cli::arguments::program::{Arguments, Command};
use crate::model::manifest::Tier;
use clap::Parser;
use std::fs;
use std::path::Path;

/// The plan of a command line without the program's name and `annotate`.
fn plan(line: &[&str]) -> Result<Plan, CliError> {
    let words = ["strandline", "annotate"].iter().chain(line);
    let arguments = match Arguments::try_parse_from(words) {
        Ok(arguments) => arguments,
        Err(error) => return Err(CliError::usage(error)),
    };
    let Command::Annotate(own) = arguments.command else {
        panic!("{line:?} is not annotate");
    };
    Plan::new(*own, line.join(" "), arguments.quiet)
}

/// The mode, or what is said of wrong usage.
fn outcome(line: &[&str]) -> String {
    match plan(line) {
        Ok(plan) => match plan.mode {
            Mode::Batch { .. } => "batch".to_string(),
            Mode::Bam { .. } => "bam".to_string(),
            Mode::Live(_) => "live".to_string(),
            Mode::Follow(_) => "follow".to_string(),
        },
        Err(CliError::Usage(message)) => message,
        Err(other) => panic!("{line:?}: {other:?}"),
    }
}

#[test]
fn a_report_does_not_show_the_password_of_a_broker() {
    let url = "nats://me:secret@hub/CALLS";
    let joined = format!("--publish={url}");
    for words in [&["--publish", url][..], &[&*joined]] {
        let line = [
            &["strandline", "annotate", "a.fq", "--report=r.html"][..],
            words,
        ]
        .concat();
        let Command::Annotate(own) = Arguments::try_parse_from(&line).unwrap().command else {
            panic!("{line:?} is not annotate");
        };
        let report = report(&own, &line.join(" ")).unwrap();
        assert!(!report.command.contains("secret"), "{}", report.command);
        assert!(report.command.ends_with("nats://...@hub/CALLS"));
    }
}

/// What is said of `--publish` without what it needs.
const PUBLISH: &str = if cfg!(feature = "fleet") {
    "--format jsonl and"
} else {
    "--features fleet"
};

#[test]
fn arguments_give_one_mode_or_say_what_is_wrong() {
    for (line, expected) in [
        // Files, one after another.
        (&[][..], "batch"),
        (&["-"], "batch"),
        (&["a.fq", "b.fq"], "batch"),
        (&["--order", "ready", "--strict", "a.fq"], "batch"),
        (&["--format", "splice-tsv", "a.fq"], "batch"),
        (
            &["--status-every", "5", "--metrics", "127.0.0.1:0"],
            "batch",
        ),
        (&["--label=a=b", "--format=jsonl", "a.fq"], "batch"),
        (&["--label=a=b", "a.fq"], "--format jsonl"),
        (&["--label=a", "--format=jsonl"], "KEY=VALUE"),
        // A share of files.
        (&["--shard=1/2", "a.fq", "b.fq"], "batch"),
        (&["--shard", "2/2", "--no-header", "a.fq"], "batch"),
        (&["--records=1-5"], "batch"),
        (&["--format=bam", "--shard=1/2", "a.bam"], "bam"),
        (&["--shard=1/2"], "standard input has none of"),
        (&["--shard=3/2", "a.fq"], "I from 1 to N"),
        (&["--shard=0/2", "a.fq"], "I from 1 to N"),
        (&["--records=5-1"], "FROM-TO"),
        (&["--records=1-5", "--shard=1/2", "a.fq"], "cannot be used"),
        (&["--shard=1/2", "--deadline=5", "a.fq"], "no live option"),
        (&["--records=1-2", "--order=live"], "no live option"),
        (&["--shard=1/2", "--clade=auto", "a.fq"], "name the clade"),
        (&["--no-header", "--format=bam", "a.bam"], "--no-header"),
        (&["--follow=.", "-o=c", "--no-header"], "--no-header"),
        // BAM records.
        (&["--format", "bam"], "bam"),
        (&["--format", "bam", "--strict", "a.bam"], "bam"),
        (&["--format=bam", "a.bam", "b.bam"], "give one BAM file"),
        (
            &["--format=bam", "--order=live"],
            "goes with no live option",
        ),
        (
            &["--format=bam", "--deadline=5"],
            "goes with no live option",
        ),
        (&["--format=bam", "tcp://x"], "goes with no live option"),
        (
            &["--format=bam", "--follow", "."],
            "goes with no live option",
        ),
        // A broker.
        (&["--publish=nats://h/C"], PUBLISH),
        (&["--publish=nats://h/C", "--format=jsonl"], PUBLISH),
        // Sources that are still growing.
        (&["--order", "live"], "live"),
        (&["--deadline", "20", "a.fq"], "live"),
        (&["--deadline=20", "--on-overload=shed-oldest"], "live"),
        (&["serial:///dev/ttyACM0", "a.fq"], "live"),
        (&["--on-overload=block"], "--on-overload needs --deadline"),
        (&["--decisions=d.tsv"], "--decisions needs --policy"),
        (&["--order=live", "--strict"], "a live run goes on"),
        (&["--policy=missing.toml"], "missing.toml"),
        // A report.
        (&["a.fq", "--report=r.html"], "batch"),
        (&["a.fq", "--report=-"], "--report needs a file"),
        (&["a.fq", "--report-gff=g.gtf"], "--report"),
        (&["--report=r", "--report-gene=A"], "--report-gff"),
        // A folder.
        (&["--follow", ".", "-o", "calls.tsv"], "follow"),
        (
            &["--follow=.", "-o=c", "--until-idle=1", "--strict"],
            "follow",
        ),
        (&["--follow", "."], "--follow needs --output"),
        (&["a.fq", "--journal=j"], "--journal needs --follow"),
        (&["a.fq", "--everywhere"], "--tasks tf"),
        (&["a.fq", "--everywhere", "--tasks=tf"], "batch"),
        (&["--follow", ".", "-o", "-"], "--follow needs --output"),
        (&["--follow=.", "-o=c", "--format=bedgraph"], "hold some"),
        (&["--format=bedgraph", "--order=live"], "no live option"),
        // Labels.
        (
            &["--label=a=1", "--format=bed"],
            "--format jsonl or parquet",
        ),
        (&["--label=a=1", "--label=a=2", "--format=jsonl"], "twice"),
        (&["--follow=.", "-o=c", "--order=live"], "no live option"),
        (&["--follow=.", "-o=c", "--deadline=1"], "no live option"),
        (&["--follow", ".", "-o", "c", "a.fq"], "cannot be used with"),
        (&["--journal", "j"], "--follow"),
        (&["--until-idle", "1"], "--follow"),
        // Values.
        (&["--threads", "0"], "--threads"),
        (&["--format", "xml"], "or bam"),
        (&["--tasks", "folding"], "--tasks"),
        (&["--deadline", "0"], "a number above 0"),
        (&["--prior", "donor"], "KIND=RATE"),
        (&["--prior", "donor=2"], "above 0 and below 1"),
    ] {
        let outcome = outcome(line);
        let is_mode = ["batch", "bam", "live", "follow"].contains(&expected);
        let as_expected = if is_mode {
            outcome == expected
        } else {
            outcome.contains(expected)
        };
        assert!(as_expected, "{line:?}: {outcome}, not {expected}");
    }
}

#[test]
fn what_is_read_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for name in ["reads.fq", "own.safetensors"] {
        fs::write(folder.path().join(name), "kept").unwrap();
    }
    let policy = "default = \"keep\"\nrule = []\n";
    fs::write(folder.path().join("policy.toml"), policy).unwrap();
    let (reads, dotted) = (at("reads.fq"), at("./reads.fq"));
    let (model, rules) = (at("own.safetensors"), at("policy.toml"));
    for line in [
        &[&*reads, "-o", &dotted][..],
        &[&reads, "--model", &model, "-o", &model],
        &[&reads, "--policy", &rules, "-o", &rules],
        &[&reads, "--policy", &rules, "--decisions", &reads],
        &[&reads, "-o", "calls.tsv", "--report", &reads],
        #[cfg(feature = "study")]
        &["--report-gff", &rules, "--report", &rules],
    ] {
        let outcome = outcome(line);
        assert!(
            outcome.contains("cannot be written at the same time"),
            "{outcome}"
        );
    }
    let calls = at("calls.tsv");
    assert_eq!(outcome(&[&reads, "-o", &calls]), "batch");
    let twice = outcome(&[&reads, "-o", &calls, "--report", &calls]);
    assert!(twice.contains("is written twice"), "{twice}");
    assert_eq!(fs::read(&reads).unwrap(), b"kept");
}

#[test]
fn defaults_are_decided_in_the_plan() {
    let dna = plan(&["a.fq"]).unwrap();
    assert_eq!(
        dna.models.tasks,
        default_tasks(Molecule::Dna, Clade::Vertebrate)
    );
    assert!(!dna.models.named && !dna.models.fast_tier && !dna.options.eager);
    assert_eq!(dna.options.strands, Strands::Both);
    assert_eq!(dna.options.tier, Tier::Auto);
    assert_eq!(dna.output, Target::Standard);
    let rna = plan(&["a.fq", "--molecule", "rna"]).unwrap();
    assert_eq!(
        rna.models.tasks,
        default_tasks(Molecule::Rna, Clade::Vertebrate)
    );
    assert_eq!(rna.options.strands, Strands::Forward);

    let words = [
        "--deadline=250",
        "--on-overload=fast-tier",
        "--threads=3",
        "-",
        "tcp://x",
    ];
    let live = plan(&words).unwrap();
    assert!(live.models.fast_tier && live.options.eager);
    assert!(live.mode.reads_standard_input());
    let Mode::Live(live) = live.mode else {
        panic!("{:?}", live.mode);
    };
    assert_eq!(live.config.deadline, Some(Duration::from_millis(250)));
    assert_eq!(live.config.threads, 3);
    assert!(matches!(
        &*live.sources,
        [Source::Records(Input::Stdin), Source::Link(_)]
    ));

    let follow = plan(&["--follow", "run", "-o", "calls.tsv", "--threads=2"]).unwrap();
    assert_eq!(follow.output, Target::File("calls.tsv".into()));
    let Mode::Follow(follow) = follow.mode else {
        panic!("{:?}", follow.mode);
    };
    assert_eq!(follow.journal, None);
    assert_eq!(follow.folder, Path::new("run"));
    assert_eq!((follow.pipeline.threads, follow.pipeline.pool), (2, 32));
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_is_written_to_its_end_and_not_compressed_again() {
    for (line, expected) in [
        (&["--format=parquet"][..], "batch"),
        (&["--format=parquet", "--shard=1/2", "a.fq"], "batch"),
        (&["--format=parquet", "--label=a=1"], "batch"),
        (&["--format=parquet", "--order=live"], "live"),
        (&["--format=parquet", "--no-header"], "--no-header"),
        (&["--format=parquet", "-o=c.gz"], "leave .gz away"),
        (&["--format=parquet", "--follow=.", "-o=c"], "hold some"),
    ] {
        let outcome = outcome(line);
        assert!(outcome.contains(expected), "{line:?}: {outcome}");
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_parquet_the_program_says_what_to_build() {
    let outcome = outcome(&["--format=parquet"]);
    assert!(outcome.contains("--features parquet"), "{outcome}");
}
