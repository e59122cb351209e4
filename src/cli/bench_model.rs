//! `bench-model`: how long a model takes, and what it gives for sequences of any kind.

use super::sequences::{samples, token_lines};
use super::{BenchModelArguments, CliError};
use crate::annotate::Scorer;
use crate::annotate::Task;
use crate::annotate::builtin;
use crate::call::Strand;
use crate::kernels::{Isa, peak};
use crate::model::manifest::Tokeniser;
use crate::model::{Model, ModelError, Parallel, Runner};
use std::fs::File;
use std::io::{BufRead, BufWriter, Write, stdin};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// Runs before those that count.
const WARM_RUNS: usize = 3;

pub(super) fn run(arguments: &BenchModelArguments) -> Result<(), CliError> {
    if arguments.peak {
        let isa = Isa::selected();
        match peak::int8(isa) {
            Some(peak) => say!("peak {:.1} GMAC/s on {isa}", peak.rate()),
            None => say!("peak unknown on {isa}"),
        }
        return Ok(());
    }
    let Some(name) = &arguments.model else {
        return Err(CliError::Usage(
            "a model file or the name of a built-in model".to_string(),
        ));
    };
    let opened = Instant::now();
    let model = match Task::from_str(name) {
        Ok(task) => builtin::model(task, arguments.tier.into())?,
        Err(_) => Model::open_tier(Path::new(name), arguments.tier.into())?,
    };
    let opened = opened.elapsed();
    let ids = model.manifest().tokeniser == Tokeniser::Ids;
    let length = arguments.length.unwrap_or(model.manifest().tile);
    let given = match &arguments.input {
        Some(path) if ids => token_lines(path)?,
        Some(path) => samples(path, false)?,
        None => vec![made_up(length, ids)],
    };
    let macs = model.manifest().macs() as f64;
    let scan = model.manifest().is_scan();
    let all = model.computes_all();
    let mut bench = Bench::new(model, arguments)?;
    if let Some(path) = &arguments.output {
        return write(&mut bench, &given, path);
    }
    let input = given.first().map(Vec::as_slice).unwrap_or_default();
    let input = Input::new(input, ids);
    let mut times = vec![];
    for _ in 0..WARM_RUNS {
        times.push(bench.once(&input)?);
    }
    if arguments.steps {
        for line in stdin().lock().lines() {
            line.map_err(|e| CliError::Input(e.to_string()))?;
            say!("{}", bench.once(&input)?.as_nanos());
        }
        return Ok(());
    }
    times.clear();
    for _ in 0..arguments.runs.max(1) {
        times.push(bench.once(&input)?);
    }
    times.sort_unstable();
    let median = times[times.len() / 2].as_secs_f64();
    let strands = if scan && arguments.both_strands() {
        2.0
    } else {
        1.0
    };
    say!("opened in      {:.3} ms", opened.as_secs_f64() * 1e3);
    say!("length         {}", input.len());
    say!("instructions   {}", Isa::selected());
    say!("threads        {}", arguments.threads);
    say!("median of {:<4} {:.4} ms", times.len(), median * 1e3);
    say!("fastest        {:.4} ms", times[0].as_secs_f64() * 1e3);
    let positions = input.len() as f64;
    say!(
        "rate           {:.3} M positions/s",
        positions / median / 1e6
    );
    if all {
        say!(
            "arithmetic     {:.1} GMAC/s",
            positions * macs * strands / median / 1e9
        );
    }
    Ok(())
}

/// A sequence of the same kind on every machine.
fn made_up(length: usize, ids: bool) -> Vec<u32> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u32
    };
    // Every vocabulary of nucleotides has ids up to 9, those of k-mers many more.
    let most = if ids { 10 } else { 4 };
    (0..length).map(|_| next() % most).collect()
}

/// A sequence in the type that the model reads.
enum Input {
    Codes(Vec<u8>),
    Ids(Vec<u32>),
}

impl Input {
    fn new(values: &[u32], ids: bool) -> Input {
        match ids {
            true => Input::Ids(values.to_vec()),
            false => Input::Codes(values.iter().map(|&code| code as u8).collect()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Input::Codes(codes) => codes.len(),
            Input::Ids(ids) => ids.len(),
        }
    }
}

/// What runs the model.
enum Bench {
    /// A scanning model over both strands, in tiles, as `annotate` and `score` do it.
    Strands(Box<Scorer>),
    /// One run.
    One { runner: Box<Runner>, columns: usize },
    /// One read on several threads.
    Shared(Box<Parallel>),
}

impl Bench {
    fn new(model: Model, arguments: &BenchModelArguments) -> Result<Bench, CliError> {
        if arguments.both_strands() {
            return Ok(Bench::Strands(Box::new(Scorer::new(model)?)));
        }
        if arguments.threads > 1 {
            return Ok(Bench::Shared(Box::new(Parallel::new(
                &model,
                arguments.threads,
            )?)));
        }
        Ok(Bench::One {
            columns: model.manifest().outputs.len(),
            runner: Box::new(model.spawn()?),
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
            (Bench::One { runner, .. }, Input::Codes(codes)) => {
                runner.run(codes)?;
            }
            (Bench::One { runner, .. }, Input::Ids(ids)) => {
                runner.run_ids(ids)?;
            }
            (Bench::Shared(parallel), Input::Codes(codes)) => {
                parallel.run(codes)?;
            }
            (Bench::Strands(_) | Bench::Shared(_), Input::Ids(_)) => {
                return Err(CliError::Usage(
                    "ids go to one thread and have one strand".to_string(),
                ));
            }
        }
        Ok(start.elapsed())
    }
}

/// One line a position, or one in all for a vector, and an empty line after each sequence.
fn write(bench: &mut Bench, sequences: &[Vec<u32>], path: &Path) -> Result<(), CliError> {
    let Bench::One { runner, columns } = bench else {
        return Err(CliError::Usage(
            "--output takes one thread and one strand".to_string(),
        ));
    };
    let mut out = BufWriter::new(File::create(path).map_err(CliError::io(path))?);
    for sequence in sequences {
        let rows: Result<&[f32], ModelError> = match Input::new(sequence, runner.reads_ids()) {
            Input::Codes(codes) => runner.run(&codes),
            Input::Ids(ids) => runner.run_ids(&ids),
        };
        for row in rows?.chunks_exact(*columns) {
            let text: Vec<String> = row.iter().map(f32::to_string).collect();
            writeln!(out, "{}", text.join(" ")).map_err(CliError::io(path))?;
        }
        writeln!(out).map_err(CliError::io(path))?;
    }
    out.flush().map_err(CliError::io(path))
}
