//! Steady state allocates nothing: counted by an allocator that passes everything on.
//!
//! One test, since the counter is the whole process's.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use strandline::Annotator;
use strandline::annotate::Task;
use strandline::annotate::builtin;
use strandline::annotate::{Molecule, Options, Scorer, Strands};
use strandline::call::{Call, Strand};
use strandline::compile::check::Check;
use strandline::compile::pack::pack;
use strandline::lab::simulate::read_genes;
use strandline::metrics::Metrics;
use strandline::model::manifest::{Context, Manifest, Precision, Tier, Tokeniser};
use strandline::reads::nucleotide::letter;
use strandline::reads::source::Input;
use strandline::sink::{CallWriter, Format, ModelTag};
use strandline::stream::batch::{self, FinishedChunk, PipelineConfig};
use strandline::study::variants::effect::{Comparison, Place};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        // SAFETY: as in `alloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Relaxed);
    work();
    ALLOCATIONS.load(Relaxed) - before
}

fn genes() -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/genes.fa.gz");
    let genes = read_genes(Input::Path(path)).unwrap();
    genes.into_iter().map(|(_, codes)| codes).collect()
}

/// Everything at once: three models, both strands, several start codons.
fn annotator(molecule: Molecule, eager: bool) -> Annotator {
    let options = Options {
        molecule,
        strands: Strands::Both,
        min_score: Some(0.02),
        max_starts: 3,
        eager,
        ..Options::default()
    };
    let models = Task::CALLING.map(|task| builtin::model(task, Tier::Auto).unwrap());
    Annotator::new(models.into(), options).unwrap()
}

/// A read of every length and way of arriving, several times over.
fn read_states_allocate_nothing(genes: &[Vec<u8>]) {
    for (molecule, eager) in [
        (Molecule::Dna, true),
        (Molecule::Dna, false),
        (Molecule::Rna, true),
    ] {
        let annotator = annotator(molecule, eager);
        let mut read = annotator.read();
        let mut calls: Vec<Call> = Vec::with_capacity(100_000);
        let mut letters = vec![];
        let mut pass = || {
            for (gene, length) in genes.iter().zip([15_000, 8_200, 120, 1, 3_000]) {
                calls.clear();
                letters.clear();
                letters.extend(gene[..length].iter().map(|&c| letter(c)));
                for piece in letters.chunks(if length == 3_000 { 400 } else { 6_000 }) {
                    read.push(piece, &mut calls).unwrap();
                }
                read.finish(&mut calls).unwrap();
                read.push_codes(&gene[..500], &mut calls).unwrap();
                read.abort();
            }
        };
        pass();
        pass();
        let count = allocations(&mut pass);
        assert_eq!(count, 0, "{molecule:?}, eager {eager}");
        assert!(!calls.is_empty());
    }
}

/// FASTQ records cut from the genes, made as they are read, so that the input itself is of no size.
struct Reads<'a> {
    genes: &'a [Vec<u8>],
    record: Vec<u8>,
    given: usize,
    left: u64,
}

impl Read for Reads<'static> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.given == self.record.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.left -= 1;
            self.given = 0;
            self.record.clear();
            let gene = &self.genes[[0, 1, 2, 4][(self.left % 4) as usize]];
            let from = (self.left * 7_919 % 8_000) as usize;
            let length = 300 + (self.left * 31 % 900) as usize;
            self.record.extend_from_slice(b"@read\n");
            let codes = &gene[from..from + length];
            self.record.extend(codes.iter().map(|&c| letter(c)));
            self.record.extend_from_slice(b"\n+\n");
            self.record.extend(codes.iter().map(|_| b'I'));
            self.record.push(b'\n');
        }
        let rest = &self.record[self.given..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

/// Allocations of a run over `reads` reads.
fn run(annotator: &Annotator, genes: &'static [Vec<u8>], reads: u64, threads: usize) -> u64 {
    let tags: Vec<ModelTag> = annotator
        .models()
        .iter()
        .map(|m| ModelTag {
            name: m.name.clone(),
            version: m.version.clone(),
            base_rates: m.base_rates.clone(),
        })
        .collect();
    let config = PipelineConfig {
        threads,
        pool: 8,
        ..PipelineConfig::default()
    };
    let metrics = Arc::new(Metrics::new());
    let count = allocations(|| {
        let mut calls = CallWriter::new(io::sink(), Format::Tsv, tags);
        let source = Reads {
            genes,
            record: Vec::with_capacity(4_096),
            given: 0,
            left: reads,
        };
        let input = Input::Reader("reads".into(), Box::new(source));
        let stop = Arc::new(AtomicBool::new(false));
        let mut output =
            |finished: &FinishedChunk<'_>| calls.write_calls(&finished.chunk.name, finished.calls);
        batch::run(
            &config,
            vec![input],
            annotator,
            &metrics,
            &stop,
            &mut output,
        )
        .unwrap();
    });
    let summary = metrics.summary();
    assert_eq!((summary.reads_in, summary.reads_out), (reads, reads));
    assert!(summary.calls.iter().map(|(_, n)| n).sum::<u64>() > reads / 4);
    count
}

/// Three times the reads cost not one allocation more, beyond buffers that grow to what the largest
/// read needs.
fn the_pipeline_allocates_nothing_per_read(genes: &'static [Vec<u8>]) {
    let annotator = annotator(Molecule::Dna, false);
    for threads in [1, 3] {
        // The first run makes the models' states.
        run(&annotator, genes, 200, threads);
        // Each thread makes its arena with its first read, and one that starts late may get none.
        let few = (0..4).map(|_| run(&annotator, genes, 1_000, threads));
        let few = few.max().unwrap_or(0);
        let many = run(&annotator, genes, 3_000, threads);
        // A slot's list of calls doubles whenever a read with more calls than any before lands in
        // it, and which slots those are is up to the threads: a few times for each of 8 slots,
        // however many reads there are.
        assert!(
            many <= few + 24,
            "{threads} threads: {few} for 1,000 reads, {many} for 3,000"
        );
    }
}

/// Networks of every kind, as `pack` makes them of ONNX files: convolutions at full resolution and
/// in strides, with pools and upsampling, and a transformer with its mask.
fn networks_allocate_nothing() {
    for (name, ids, columns, multiple) in [
        ("keras", false, 2, 1),
        ("branches_script", false, 3, 4),
        ("bert_script", true, 2, 1),
    ] {
        let path = format!("{}/tests/data/onnx/{name}.onnx", env!("CARGO_MANIFEST_DIR"));
        for precision in [Precision::Int8, Precision::Fp16] {
            let manifest = raw_manifest(ids, columns, multiple, precision);
            let sample: Vec<u32> = (0..32).map(|t| t * 7 % 4).collect();
            let packed = pack(Path::new(&path), &manifest, &[sample], Check::Precision).unwrap();
            assert!(packed.plain.is_empty(), "{name}: {:?}", packed.plain);
            let mut runner = packed.model.spawn().unwrap();
            let values: Vec<u32> = (0..200).map(|t| t * 5 % 4).collect();
            let codes: Vec<u8> = values.iter().map(|&code| code as u8).collect();
            // Rows of a longer sequence are computed in tiles.
            let most = if name == "branches_script" { 200 } else { 32 };
            let mut pass = || {
                for length in [32, 4, 20, most] {
                    let outputs = if ids {
                        runner.run_ids(&values[..length])
                    } else {
                        runner.run(&codes[..length])
                    };
                    assert!(!outputs.unwrap().is_empty());
                }
                if ids {
                    let three = runner.run_sequences(&values[..30], 10);
                    assert_eq!(three.unwrap().len(), 3 * columns);
                }
            };
            pass();
            pass();
            assert_eq!(allocations(pass), 0, "{name} {precision}");
        }
    }
}

fn raw_manifest(ids: bool, columns: usize, multiple: usize, precision: Precision) -> Manifest {
    let file = builtin::file(Task::Splice).unwrap();
    let mut manifest = file.manifest().of_tier(Tier::Fast);
    let mut output = manifest.outputs.swap_remove(0);
    output.kind = None;
    output.calibration.clear();
    output.short_context.clear();
    manifest.outputs = vec![output; columns];
    manifest.task = Task::Raw.to_string();
    manifest.whole = None;
    manifest.tokeniser = if ids {
        Tokeniser::Ids
    } else {
        Tokeniser::OneHot
    };
    manifest.context = Context {
        left: if ids { 0 } else { 60 },
        right: if ids { 0 } else { 60 },
    };
    manifest.tile = if ids { 32 } else { 160 };
    (manifest.multiple, manifest.precision) = (multiple, precision);
    manifest
}

/// Alleles side by side, as `variants` compares them, and one substitution after another, as
/// `explain` makes them.
fn changes_allocate_nothing(gene: &[u8]) {
    let model = |task| builtin::model(task, Tier::Accurate).unwrap();
    for task in [Task::Splice, Task::Promoter] {
        let mut comparison = Comparison::new(model(task), 50).unwrap();
        let reach = comparison.reach();
        let place = |replaced: usize, by: &[u8]| {
            let behind = reach + replaced;
            Place {
                start: 100 + reach as u64,
                before: gene[100..100 + reach].to_vec(),
                replaced: gene[100 + reach..100 + behind].to_vec(),
                by: by.to_vec(),
                behind: gene[100 + behind..100 + behind + reach].to_vec(),
                ended: false,
            }
        };
        let other = 3 - gene[100 + reach];
        let places = [place(1, &[other]), place(0, &[1, 2]), place(3, &[])];
        let mut shifts = vec![];
        let mut pass = || {
            for place in &places {
                for strand in [Strand::Forward, Strand::Reverse] {
                    comparison.run(place, strand, &mut shifts).unwrap();
                    assert!(!shifts.is_empty());
                }
            }
        };
        pass();
        pass();
        assert_eq!(allocations(pass), 0, "alleles, {task}");
        let mut scorer = Scorer::new(model(task)).unwrap();
        let margin = scorer.margin();
        let part = &gene[100..101 + 2 * margin];
        let wanted = margin..margin + 1;
        let (ends, strand, mut seen) = ((100, false), Strand::Forward, 0.0);
        let mut pass = || {
            let take = |scores: &[f32]| seen += scores[0];
            let part = scorer.take_in(part, ends, wanted.clone(), strand, take);
            part.unwrap();
            for index in margin - 20..margin + 20 {
                let take = |scores: &[f32]| seen += scores[0];
                scorer.with(index, 2, take).unwrap();
            }
        };
        pass();
        pass();
        assert_eq!(allocations(pass), 0, "substitutions, {task}");
        assert!(seen > 0.0);
    }
}

#[test]
fn steady_state_allocates_nothing() {
    networks_allocate_nothing();
    let genes: &'static [Vec<u8>] = genes().leak();
    changes_allocate_nothing(&genes[0]);
    read_states_allocate_nothing(genes);
    the_pipeline_allocates_nothing_per_read(genes);
}
