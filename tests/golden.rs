//! What the built-in models say of the sample reads: how many of the true sites they find, and that
//! every instruction set gives the same scores to the bit. The same of small packed networks with
//! the other operators (attention with positions of every kind, layer norms, strides, upsampling).
//!
//! After a change of a built-in model, `STRANDLINE_BLESS=1 cargo test --release --features full
//! --test golden` writes the digests of `tests/data` again (`*.blake3`); the floors below stand
//! some 0.05 under the figures they were measured at. `tests/data/README.md` says how the networks
//! were packed: the files are those of an earlier build, so this also shows that such files can
//! still be read.

use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use strandline::Annotator;
use strandline::annotate::builtin;
use strandline::annotate::builtin::BuiltIn;
use strandline::annotate::{Clade, Task};
use strandline::annotate::{Options, Scorer, WholeScorer};
use strandline::call::Strand;
use strandline::call::{Call, CallKind};
use strandline::kernels::Isa;
use strandline::lab::truth::{ReadSite, ReadSites};
use strandline::model::Model;
use strandline::model::manifest::{Reproducible, Tier};
use strandline::reads::nucleotide::{self, reverse_complement};

/// Reads whose raw scores go into the digest; the scalar reference takes its time.
const DIGESTED: usize = 12;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// Names and codes of the sample reads.
fn reads() -> Vec<(String, Vec<u8>)> {
    let mut text = String::new();
    let file = File::open(data("reads.fastq.gz")).unwrap();
    MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let read = |record: &[&str]| {
        let mut codes = vec![];
        nucleotide::encode(record[1].as_bytes(), &mut codes);
        (record[0][1..].to_string(), codes)
    };
    lines.chunks_exact(4).map(read).collect()
}

#[test]
fn sites_of_the_sample_reads_are_found() {
    let truth = File::open(data("reads_truth.tsv")).unwrap();
    let mut truth = ReadSites::read(BufReader::new(truth), "reads_truth.tsv").unwrap();
    let options = Options {
        eager: false,
        ..Options::default()
    };
    let annotator = Annotator::builtin(options).unwrap();
    let mut read = annotator.read();
    let (mut sites, mut called, mut hits, mut promoters) = ([0u32; 2], [0u32; 2], [0u32; 2], 0);
    let mut bases = 0;
    for (name, codes) in reads() {
        let mut calls: Vec<Call> = vec![];
        read.push_codes(&codes, &mut calls).unwrap();
        read.finish(&mut calls).unwrap();
        bases += codes.len();
        let known: Vec<ReadSite> = truth.take(name.as_bytes()).to_vec();
        for (k, kind) in [CallKind::Donor, CallKind::Acceptor]
            .into_iter()
            .enumerate()
        {
            sites[k] += known.iter().filter(|s| s.kind == kind).count() as u32;
            for call in calls.iter().filter(|c| c.kind == kind) {
                called[k] += 1;
                let site = ReadSite {
                    position: call.start,
                    strand: call.strand,
                    kind,
                };
                hits[k] += u32::from(known.contains(&site));
            }
        }
        promoters += calls
            .iter()
            .filter(|c| c.kind == CallKind::Promoter)
            .count();
    }
    let share = |a: u32, b: u32| f64::from(a) / f64::from(b);
    for (k, kind, least_recall, least_precision) in [
        (0, CallKind::Donor, RECALL[0], PRECISION[0]),
        (1, CallKind::Acceptor, RECALL[1], PRECISION[1]),
    ] {
        let (recall, precision) = (share(hits[k], sites[k]), share(hits[k], called[k]));
        println!(
            "{kind}: {} sites, {} calls, recall {recall:.3}, precision {precision:.3}",
            sites[k], called[k]
        );
        assert!(recall >= least_recall, "{kind}: recall {recall:.3}");
        assert!(
            precision >= least_precision,
            "{kind}: precision {precision:.3}"
        );
    }
    assert_eq!(sites.iter().sum::<u32>(), 656);
    let promoters = promoters as f64 / (2.0 * bases as f64 / 1e6);
    println!("promoter: {promoters:.1} calls a megabase and strand");
    assert!(
        promoters < 20.0,
        "{promoters:.1} promoter calls a megabase and strand"
    );
}

/// Least recall and precision of donors and acceptors at the default threshold, on reads with 2 %
/// errors.
const RECALL: [f64; 2] = [0.56, 0.62];
const PRECISION: [f64; 2] = [0.65, 0.69];

/// The bits of scores.
struct Bits(blake3::Hasher);

impl Bits {
    fn add(&mut self, scores: &[f32]) {
        for score in scores {
            self.0.update(&score.to_bits().to_le_bytes());
        }
    }

    fn end(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

/// BLAKE3 over the raw scores' bits of the built-in models, then of the packed networks, and the
/// file of the test data that holds it; the same of the models of cells, where they are there.
fn digests() -> Vec<(&'static str, String)> {
    let reads = format!("{} {}", digest_of_models(), digest_of_networks());
    vec![
        ("scores.blake3", reads),
        #[cfg(feature = "cells")]
        ("cells/scores.blake3", digest_of_cells()),
    ]
}

/// Types, vectors and responses of a few cells, from the file on.
#[cfg(feature = "cells")]
fn digest_of_cells() -> String {
    use strandline::cells::input::{Choice, open};
    use strandline::cells::model::Kind;
    use strandline::cells::run::{Flagged, Job, RunError, Settings, run};
    const CELLS: usize = 20;
    let mut bits = Bits(blake3::Hasher::new());
    for kind in [Kind::Type, Kind::Embedding, Kind::Perturbation] {
        let model = kind.builtin().unwrap();
        let gene = model.tokens().vocabulary().id("STAT1").unwrap_or_default();
        let flagged: &[u32] = if kind == Kind::Perturbation {
            &[gene]
        } else {
            &[]
        };
        let mut source = open(&data("cells/pbmc"), &Choice::default()).unwrap();
        let settings = Settings {
            input: None,
            seed: None,
            threads: 1,
        };
        let job = Job {
            model: &model,
            settings: &settings,
            flagged: Flagged {
                ids: flagged,
                flag: 1,
            },
        };
        let mut left = CELLS;
        let wanted = |_: &str, _: &[f32]| {
            left = left.saturating_sub(1);
            left > 0
        };
        let each = |cell: strandline::cells::run::Scored| -> Result<(), RunError> {
            // Some have none of the genes that responses are known of.
            if let Ok(outcome) = cell.result {
                bits.add(outcome.outputs);
            }
            Ok(())
        };
        run(job, &mut *source, wanted, each).unwrap();
    }
    bits.end()
}

/// Rows of as many positions as a tile takes, and of few.
fn digest_of_networks() -> String {
    let mut bits = Bits(blake3::Hasher::new());
    let folder = fs::read_dir(data("packed")).unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 6);
    for file in files {
        let model = Model::open(&file).unwrap();
        assert_eq!(model.manifest().reproducible, Some(Reproducible::Bits));
        let mut runner = model.spawn().unwrap();
        let multiple = model.manifest().multiple;
        for length in [12, 32.min(runner.tile()), runner.tile()] {
            let length = length - length % multiple;
            // Not periodic, the same everywhere.
            let code = |at: usize| ((at * at + at / 3) % 5 % 4) as u8;
            let codes: Vec<u8> = (0..length).map(code).collect();
            if runner.reads_ids() {
                let ids: Vec<u32> = codes.iter().map(|&code| u32::from(code)).collect();
                bits.add(runner.run_ids(&ids).unwrap());
            } else {
                bits.add(runner.run(&codes).unwrap());
            }
        }
    }
    bits.end()
}

/// Scans on both strands, then the end of each strand as a whole.
fn digest_of_models() -> String {
    let reads: Vec<Vec<u8>> = reads()
        .into_iter()
        .take(DIGESTED)
        .map(|(_, codes)| codes)
        .collect();
    let scans = BuiltIn::all().filter(|model| model.task.is_scan());
    let scans = scans.flat_map(|model| {
        // Other clades have the kinds of layers that vertebrates have: a read is enough.
        let every = model.clade == Clade::default();
        let count = if every { reads.len() } else { 1 };
        reads[..count].iter().map(move |codes| {
            move || {
                let mut scorer = Scorer::new(model.model(Tier::Auto).unwrap()).unwrap();
                let mut scores = scorer.raw(codes, Strand::Forward).unwrap().to_vec();
                scores.extend(scorer.raw(codes, Strand::Reverse).unwrap());
                scores
            }
        })
    });
    let tasks = Task::ALL.into_iter().filter(|task| !task.is_scan());
    let wholes = tasks.flat_map(|task| {
        reads.iter().map(move |codes| {
            move || {
                let model = builtin::model(task, Tier::Auto).unwrap();
                let mut scorer = WholeScorer::new(model).unwrap();
                let mut reverse = vec![0; codes.len()];
                reverse_complement(codes, &mut reverse);
                let mut scores = vec![];
                for sequence in [codes, &reverse] {
                    let raw = scorer.raw(sequence).unwrap();
                    // Of a model of windows, the mean of their scores.
                    scores.extend(match raw {
                        Some(raw) => raw.raw,
                        None => scorer.score(sequence, Strand::Forward).unwrap().unwrap(),
                    });
                }
                scores
            }
        })
    });
    let mut bits = Bits(blake3::Hasher::new());
    for scores in [
        in_turn(&scans.collect::<Vec<_>>()),
        in_turn(&wholes.collect::<Vec<_>>()),
    ] {
        scores.iter().for_each(|scores| bits.add(scores));
    }
    bits.end()
}

/// What jobs give, in their order. Several run at a time: an emulated board takes minutes.
fn in_turn<F: Fn() -> Vec<f32> + Sync>(jobs: &[F]) -> Vec<Vec<f32>> {
    let next = AtomicUsize::new(0);
    let results: Vec<OnceLock<Vec<f32>>> = jobs.iter().map(|_| OnceLock::new()).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let own = next.fetch_add(1, Relaxed);
                    let Some(job) = jobs.get(own) else {
                        return;
                    };
                    results[own].set(job()).unwrap();
                }
            });
        }
    });
    results
        .into_iter()
        .map(|own| own.into_inner().unwrap())
        .collect()
}

#[test]
#[ignore = "run by every_instruction_set_gives_the_same_bits, once for each of them"]
fn digest_of_the_selected_instruction_set() {
    println!("\ndigest {} {:?}", Isa::selected(), digests());
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    for model in BuiltIn::all() {
        let file = model.file().unwrap();
        let reproducible = file.manifest().reproducible;
        assert_eq!(reproducible, Some(Reproducible::Bits), "{model}");
    }
    let own = digests();
    for (name, digest) in &own {
        let stored = data(name);
        if std::env::var_os("STRANDLINE_BLESS").is_some() {
            fs::write(&stored, format!("{digest}\n")).unwrap();
        }
        let expected = fs::read_to_string(&stored).unwrap();
        let isa = Isa::selected();
        assert_eq!(
            digest,
            expected.trim_end(),
            "{name}, {isa}; see the top of tests/golden.rs"
        );
    }
    for isa in Isa::available()
        .into_iter()
        .filter(|isa| *isa != Isa::selected())
    {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--ignored",
                "--nocapture",
                "digest_of_the_selected_instruction_set",
            ])
            .env("STRANDLINE_ISA", isa.name())
            .output();
        let child = child.unwrap();
        // Where this program itself is emulated, the kernel cannot start it again, and nothing
        // comes back. The emulated processors of the test run select one instruction set each.
        if cfg!(target_arch = "aarch64") && !child.status.success() && child.stdout.is_empty() {
            eprintln!("{isa} not checked: this program cannot be started from within itself here");
            continue;
        }
        let text = String::from_utf8(child.stdout).unwrap();
        let expected = format!("digest {isa} {own:?}");
        assert!(text.lines().any(|line| line == expected), "{isa}: {text}");
    }
}
