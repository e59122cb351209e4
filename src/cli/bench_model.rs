//! `bench-model`: how long a model takes, and what it gives for sequences of any kind.

use super::arguments::bench_model::BenchModelArguments;
use super::arguments::values::StrandArgument;
use super::error::CliError;
use super::guard::Files;
use super::output::{End, Target, say};
use super::sequences::{Amount, samples};
use crate::annotate::builtin::BuiltIn;
use crate::annotate::{Scorer, Task};
use crate::call::Strand;
#[cfg(feature = "cells")]
use crate::cells::model::Kind;
use crate::kernels::{Isa, peak};
use crate::model::genes;
use crate::model::manifest::{Tier, Tokeniser};
use crate::model::{Model, Parallel, Runner};
use std::io::{BufRead, Write, stdin};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Runs before those that count.
const WARM_RUNS: usize = 3;

/// What is measured.
enum BenchModelPlan {
    /// The processor.
    Peak,
    /// A model.
    Model(ModelPlan),
}

/// Which model runs on what, and what is wanted of it.
struct ModelPlan {
    model: Named,
    tier: Tier,
    sequences: Sequences,
    lanes: Lanes,
    wanted: Wanted,
}

enum Named {
    BuiltIn(BuiltIn),
    #[cfg(feature = "cells")]
    Cells(Kind),
    File(PathBuf),
}

enum Sequences {
    /// Those of a file.
    File(PathBuf),
    /// One of this length, or of a tile's.
    Invented(Option<usize>),
}

/// What runs at a time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lanes {
    /// One sequence on one thread.
    One,
    /// Its two strands, one after the other, as calls need them.
    Strands,
    /// One sequence on several threads.
    Threads(usize),
}

enum Wanted {
    /// The outputs, in a file.
    Outputs(PathBuf),
    /// The nanoseconds of a run for each line on standard input.
    Steps,
    /// The median of so many runs.
    Median(usize),
}

impl BenchModelPlan {
    fn new(arguments: BenchModelArguments) -> Result<BenchModelPlan, CliError> {
        if arguments.peak {
            return Ok(BenchModelPlan::Peak);
        }
        let Some(name) = arguments.model else {
            let message = "a model file or the name of a built-in model";
            return Err(CliError::usage(message));
        };
        let model = named(name);
        if arguments.strand == StrandArgument::Both && arguments.threads > 1 {
            let message = "--strand both takes one thread: --threads shares one strand";
            return Err(CliError::usage(message));
        }
        let lanes = if arguments.strand == StrandArgument::Both {
            Lanes::Strands
        } else if arguments.threads > 1 {
            Lanes::Threads(arguments.threads)
        } else {
            Lanes::One
        };
        let wanted = if let Some(output) = arguments.output {
            if lanes != Lanes::One {
                return Err(CliError::usage("--output takes one thread and one strand"));
            }
            let model = match &model {
                Named::File(file) => Some(file),
                _ => None,
            };
            let files = Files::default().read(&arguments.input).read(model);
            files.write([&output]).check()?;
            Wanted::Outputs(output)
        } else if arguments.steps {
            Wanted::Steps
        } else {
            Wanted::Median(arguments.runs.max(1))
        };
        Ok(BenchModelPlan::Model(ModelPlan {
            model,
            tier: arguments.tier.into(),
            sequences: match arguments.input {
                Some(file) => Sequences::File(file),
                None => Sequences::Invented(arguments.length),
            },
            lanes,
            wanted,
        }))
    }
}

/// A built-in model by its task, or a file.
fn named(name: String) -> Named {
    if let Ok(model) = BuiltIn::from_str(&name) {
        return Named::BuiltIn(model);
    }
    #[cfg(feature = "cells")]
    if let Some(kind) = Kind::BUILT_IN.into_iter().find(|kind| kind.task() == name) {
        return Named::Cells(kind);
    }
    Named::File(name.into())
}

pub(super) fn run(arguments: BenchModelArguments) -> Result<(), CliError> {
    match BenchModelPlan::new(arguments)? {
        BenchModelPlan::Peak => {
            let isa = Isa::selected();
            match peak::int8(isa) {
                Some(peak) => say!("peak {:.1} GMAC/s on {isa}", peak.rate()),
                None => say!("peak unknown on {isa}"),
            }
            Ok(())
        }
        BenchModelPlan::Model(plan) => measure(&plan),
    }
}

fn measure(plan: &ModelPlan) -> Result<(), CliError> {
    let start = Instant::now();
    let model = match &plan.model {
        Named::BuiltIn(model) => model.model(plan.tier)?,
        #[cfg(feature = "cells")]
        Named::Cells(kind) => kind.builtin()?.into_model(),
        Named::File(file) => {
            let model = Model::open_tier(file, plan.tier)?;
            Task::of_model(&model)?;
            model
        }
    };
    let opened = start.elapsed();
    let sequences = match &plan.sequences {
        Sequences::File(file) => {
            // Outputs are those of all cells; only the first one is timed.
            let amount = match &plan.wanted {
                Wanted::Outputs(_) => Amount::All,
                _ => Amount::Some,
            };
            samples(file, model.manifest(), &model.file().genes()?, amount)?
        }
        Sequences::Invented(length) => {
            let length = length.unwrap_or(model.manifest().tile);
            vec![invented(length, model.manifest().tokeniser)]
        }
    };
    let input = sequences.first().map(Vec::as_slice).unwrap_or_default();
    let input = Input::new(input, model.manifest().tokeniser);
    let strands = if model.manifest().is_scan() && plan.lanes == Lanes::Strands {
        2.0
    } else {
        1.0
    };
    let macs = model.manifest().macs() as f64 * strands;
    let all = model.computes_all();
    let look = match &input {
        Input::Codes(codes) => model.look_cost(codes),
        Input::Ids(_) | Input::Genes(..) => None,
    };
    let runs = match &plan.wanted {
        Wanted::Outputs(path) => return write(model, &sequences, path),
        Wanted::Steps => None,
        Wanted::Median(runs) => Some(*runs),
    };
    let mut bench = Bench::new(model, plan.lanes)?;
    for _ in 0..WARM_RUNS {
        bench.once(&input)?;
    }
    let Some(runs) = runs else {
        for line in stdin().lock().lines() {
            line.map_err(CliError::input)?;
            say!("{}", bench.once(&input)?.as_nanos());
        }
        return Ok(());
    };
    let mut times = vec![];
    for _ in 0..runs {
        times.push(bench.once(&input)?);
    }
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64();
    let threads = match plan.lanes {
        Lanes::One | Lanes::Strands => 1,
        Lanes::Threads(threads) => threads,
    };
    say!("opened in      {:.3} ms", opened.as_secs_f64() * 1e3);
    say!("length         {}", input.len());
    say!("instructions   {}", Isa::selected());
    say!("threads        {threads}");
    say!("median of {:<4} {:.4} ms", times.len(), median * 1e3);
    say!("fastest        {:.4} ms", times[0].as_secs_f64() * 1e3);
    let rate = input.len() as f64 / median;
    say!("rate           {:.3} M positions/s", rate / 1e6);
    if all {
        say!("arithmetic     {:.1} GMAC/s", rate * macs / 1e9);
    }
    if let Some(look) = look {
        let share = 100.0 * look.survivors as f64 / input.len().max(1) as f64;
        let rows = look.rows as f64 / (look.layers * look.survivors).max(1) as f64;
        say!("second look    {share:.2} % of positions, {rows:.1} rows of a layer for each");
    }
    Ok(())
}

/// A sequence of the same kind on every machine.
fn invented(length: usize, tokeniser: Tokeniser) -> Vec<u32> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u32
    };
    // Every vocabulary of nucleotides has ids up to 9, those of k-mers many more.
    let most = if tokeniser.reads_ids() { 10 } else { 4 };
    let ids: Vec<u32> = (0..length).map(|_| next() % most).collect();
    if tokeniser != Tokeniser::Genes {
        return ids;
    }
    let bins: Vec<f32> = (0..length).map(|_| (1 + next() % 4) as f32).collect();
    genes::join(&ids, &bins, &[])
}

/// A sequence in the type that the model reads.
enum Input {
    Codes(Vec<u8>),
    Ids(Vec<u32>),
    Genes(Vec<u32>, Vec<f32>, Vec<u32>),
}

impl Input {
    fn new(values: &[u32], tokeniser: Tokeniser) -> Input {
        match tokeniser {
            Tokeniser::OneHot => Input::Codes(values.iter().map(|&code| code as u8).collect()),
            Tokeniser::Genes => {
                let (ids, values, flags) = genes::split(values);
                Input::Genes(ids, values, flags)
            }
            _ => Input::Ids(values.to_vec()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Input::Codes(codes) => codes.len(),
            Input::Ids(ids) | Input::Genes(ids, ..) => ids.len(),
        }
    }
}

/// What runs the model.
enum Bench {
    /// A scanning model over both strands, in tiles, as `annotate` and `score` do it.
    Strands(Box<Scorer>),
    /// One run.
    One(Box<Runner>),
    /// One read on several threads.
    Shared(Box<Parallel>),
}

impl Bench {
    fn new(model: Model, lanes: Lanes) -> Result<Bench, CliError> {
        Ok(match lanes {
            Lanes::Strands => Bench::Strands(Box::new(Scorer::new(model)?)),
            Lanes::Threads(threads) => Bench::Shared(Box::new(Parallel::new(&model, threads)?)),
            Lanes::One => Bench::One(Box::new(model.spawn()?)),
        })
    }

    fn once(&mut self, input: &Input) -> Result<Duration, CliError> {
        let start = Instant::now();
        match (self, input) {
            (Bench::Strands(scorer), Input::Codes(codes)) => {
                for strand in [Strand::Forward, Strand::Reverse] {
                    scorer.each_raw(codes, strand, |_| ())?;
                }
            }
            (Bench::One(runner), Input::Codes(codes)) => {
                runner.run(codes)?;
            }
            (Bench::One(runner), Input::Ids(ids)) => {
                runner.run_ids(ids)?;
            }
            (Bench::One(runner), Input::Genes(ids, values, flags)) => {
                runner.run_genes(ids, values, flags)?;
            }
            (Bench::Shared(parallel), Input::Codes(codes)) => {
                parallel.run(codes)?;
            }
            (Bench::Strands(_) | Bench::Shared(_), _) => {
                let message = "ids go to one thread and have one strand";
                return Err(CliError::usage(message));
            }
        }
        Ok(start.elapsed())
    }
}

/// One line a position, or one in all for a vector, and an empty line after each sequence.
fn write(model: Model, sequences: &[Vec<u32>], path: &Path) -> Result<(), CliError> {
    let columns = model.manifest().outputs.len();
    let mut runner = model.spawn()?;
    let target = Target::File(path.to_owned());
    let failed = |source| target.failed(source);
    let mut out = target.open()?;
    for sequence in sequences {
        for row in runner.run_sample(sequence)?.chunks_exact(columns) {
            let text: Vec<String> = row.iter().map(f32::to_string).collect();
            writeln!(out, "{}", text.join(" ")).map_err(failed)?;
        }
        writeln!(out).map_err(failed)?;
    }
    out.end(End::Complete).map_err(failed)
}
