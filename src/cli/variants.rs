//! `variants`: what the alleles of a VCF change.

use super::arguments::values::TierArgument;
use super::arguments::variants::{VariantFormat, VariantsArguments};
use super::error::CliError;
use super::guard::Files;
use super::interrupt::Interrupt;
use super::output::{End, Target, Writer};
use super::report::note;
use crate::annotate::builtin::BuiltIn;
use crate::annotate::{Molecule, clade_of, default_tasks};
use crate::model::Model;
use crate::model::manifest::Tier;
use crate::reads::lines::Lines;
use crate::reads::source::Input;
use crate::sink::clean;
use crate::study::variants::allele::Unscored;
use crate::study::variants::effect::Comparison;
use crate::study::variants::genes::Genes;
use crate::study::variants::reference::Reference;
use crate::study::variants::scored::{
    Failed, Format, Outcome, Prepared, Settings, TSV_HEADER, header_lines,
};
use crate::study::variants::{StudyError, vcf};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Records that a thread has at a time.
const BATCH: usize = 32;

struct VariantsPlan {
    vcf: PathBuf,
    reference: PathBuf,
    gff: Option<PathBuf>,
    models: Vec<Named>,
    tier: Tier,
    distance: usize,
    settings: Settings,
    threads: usize,
    target: Target,
}

enum Named {
    BuiltIn(BuiltIn),
    File(PathBuf),
}

impl VariantsPlan {
    fn new(arguments: VariantsArguments) -> Result<VariantsPlan, CliError> {
        let beside = ["fai", "gzi"].map(|ending| arguments.reference.with_added_extension(ending));
        Files::default()
            .read([&arguments.vcf, &arguments.reference])
            .read(&beside)
            .read(&arguments.gff)
            .read(&arguments.models)
            .write(&arguments.output)
            .check()?;
        no_auto(arguments.tier)?;
        if let Some(task) = arguments.tasks.iter().find(|task| !task.is_scan()) {
            let message =
                format!("{task} scores no single bases: splice, promoter, promoter-300 or tf");
            return Err(CliError::Usage(message));
        }
        let mut tasks = arguments.tasks;
        if tasks.is_empty() && arguments.models.is_empty() {
            tasks = default_tasks(Molecule::Dna, arguments.clade).to_vec();
        }
        // A splice model of one's own stands in for the built-in one, whatever the clade.
        let clade = clade_of(arguments.clade, tasks.iter().copied()).map_err(CliError::options)?;
        let built_in = |task| Named::BuiltIn(BuiltIn { task, clade });
        let files = arguments.models.into_iter().map(Named::File);
        let target = Target::new(arguments.output);
        let is_tsv = target.path().is_some_and(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.to_lowercase();
            name.trim_end_matches(".gz").ends_with(".tsv")
        });
        let format = match arguments.format {
            Some(VariantFormat::Vcf) => Format::Vcf,
            Some(VariantFormat::Tsv) => Format::Tsv,
            None if is_tsv => Format::Tsv,
            None => Format::Vcf,
        };
        Ok(VariantsPlan {
            models: tasks.into_iter().map(built_in).chain(files).collect(),
            vcf: arguments.vcf,
            reference: arguments.reference,
            gff: arguments.gff,
            tier: arguments.tier.into(),
            distance: arguments.distance as usize,
            settings: Settings {
                format,
                mask: arguments.mask,
            },
            threads: match arguments.threads {
                Some(threads) => threads.into(),
                None => thread::available_parallelism().map_or(1, NonZero::get),
            },
            target,
        })
    }

    /// A set of models for one thread. Of a task that a file is for, the built-in model is left
    /// out.
    fn comparisons(&self) -> Result<Vec<Comparison>, CliError> {
        let mut all: Vec<Comparison> = vec![];
        for named in self.models.iter().rev() {
            let model = match named {
                Named::BuiltIn(model) => model.model(self.tier)?,
                Named::File(file) => Model::open_tier(file, self.tier)?,
            };
            let comparison = Comparison::new(model, self.distance).map_err(CliError::options)?;
            if !all.iter().any(|own| own.task() == comparison.task()) {
                all.push(comparison);
            }
        }
        all.reverse();
        Ok(all)
    }
}

/// Scores are compared, also where the first network rules a site out.
pub(super) fn no_auto(tier: TierArgument) -> Result<(), CliError> {
    if tier == TierArgument::Auto {
        let message = "--tier auto has no scores where it rules a site out: fast or accurate";
        return Err(CliError::usage(message));
    }
    Ok(())
}

/// What became of the input.
#[derive(Debug, Default)]
struct Counts {
    records: u64,
    written: u64,
    rejected: u64,
    scored: u64,
    unscored: BTreeMap<&'static str, u64>,
    /// Alleles whose REF is that of the reference, and those whose place it does not have so.
    fitting: u64,
    misfits: u64,
}

pub(super) fn run(arguments: VariantsArguments, quiet: bool) -> Result<(), CliError> {
    let plan = VariantsPlan::new(arguments)?;
    let mut reference = Reference::open(&plan.reference).map_err(wrong)?;
    let genes = plan.gff.as_ref().map(|path| {
        let mut lines = Lines::open(Input::from_argument(path)).map_err(CliError::input)?;
        Genes::read(&mut lines).map_err(wrong)
    });
    let genes = genes.transpose()?;
    if let (Some(0), Some(path)) = (genes.as_ref().map(Genes::count), &plan.gff) {
        return Err(CliError::Input(format!(
            "{}: holds no gene",
            path.display()
        )));
    }
    let sets = (0..plan.threads).map(|_| plan.comparisons());
    let mut sets: Vec<Vec<Comparison>> = sets.collect::<Result<_, _>>()?;
    let mut lines = Lines::open(Input::from_argument(&plan.vcf)).map_err(CliError::input)?;
    let mut out = plan.target.open_text()?;
    let interrupt = Interrupt::new();
    let mut counts = Counts::default();
    let result = header(&mut lines, &plan, &sets[0], &mut out).and_then(|columns| {
        let mut run = Run {
            plan: &plan,
            lines: &mut lines,
            columns,
            reference: &mut reference,
            genes: genes.as_ref(),
            counts: &mut counts,
        };
        run.records(&mut sets, &mut out, &interrupt)
    });
    let end = match &result {
        Ok(()) => End::Complete,
        // Without its header it is no file at all.
        Err(_) if counts.records == 0 => End::Nothing,
        Err(_) => End::Incomplete,
    };
    let ended = out.end(end).map_err(|source| plan.target.failed(source));
    if !quiet {
        counts.say();
    }
    result.and(ended)?;
    if counts.scored == 0 && counts.unscored.contains_key(Unscored::NoGene.name()) {
        log::warn!("no allele lies in a gene: does the annotation call contigs otherwise?");
    }
    if counts.fitting == 0 && counts.misfits > 0 {
        return Err(CliError::Input(format!(
            "{}: no allele fits {}: is it another build of the genome?",
            plan.vcf.display(),
            plan.reference.display()
        )));
    }
    Ok(())
}

fn wrong(error: StudyError) -> CliError {
    match error {
        StudyError::Annotate(error) => error.into(),
        other => CliError::input(other),
    }
}

/// Copies the header with lines of ours; how many columns it names.
fn header(
    lines: &mut Lines,
    plan: &VariantsPlan,
    comparisons: &[Comparison],
    out: &mut Writer,
) -> Result<usize, CliError> {
    let file = lines.file().to_string();
    let failed = |source| plan.target.failed(source);
    let (mut line, mut begun) = (vec![], false);
    loop {
        let place = lines.next(&mut line).map_err(CliError::input)?;
        let first = place.is_none_or(|place| place.number == 1);
        if first && line.starts_with(b"BCF") {
            let message = format!("{file}: is BCF: `bcftools view` makes a VCF of it");
            return Err(CliError::Input(message));
        }
        if first && !begun && !line.starts_with(b"##fileformat=VCF") {
            let message = format!("{file}: no VCF: it does not begin with ##fileformat=VCF");
            return Err(CliError::Input(message));
        }
        let Some(place) = place else {
            let message = format!("{file}: ends in its header, before #CHROM");
            return Err(CliError::Input(message));
        };
        begun = true;
        let is_vcf = plan.settings.format == Format::Vcf;
        if line.starts_with(b"##") {
            if is_vcf && !vcf::describes_own(&line) {
                line.push(b'\n');
                out.write_all(&line).map_err(failed)?;
            }
        } else if line.starts_with(b"#CHROM") {
            let columns = vcf::columns(&line);
            if is_vcf {
                let own = header_lines(comparisons, plan.distance);
                line.push(b'\n');
                out.write_all(own.as_bytes()).map_err(failed)?;
                out.write_all(&line).map_err(failed)?;
            } else {
                writeln!(out, "{TSV_HEADER}").map_err(failed)?;
            }
            return Ok(columns);
        } else {
            let message = format!("{file}: line {}: a record before #CHROM", place.number);
            return Err(CliError::Input(message));
        }
    }
}

/// Records on their way.
struct Run<'a> {
    plan: &'a VariantsPlan,
    lines: &'a mut Lines,
    /// What the header names.
    columns: usize,
    reference: &'a mut Reference,
    genes: Option<&'a Genes>,
    counts: &'a mut Counts,
}

impl Run<'_> {
    fn records(
        &mut self,
        sets: &mut [Vec<Comparison>],
        out: &mut Writer,
        interrupt: &Interrupt,
    ) -> Result<(), CliError> {
        let reach = sets[0].iter().map(Comparison::reach).max().unwrap_or(0);
        loop {
            if interrupt.stop.load(Ordering::Relaxed) {
                return Err(CliError::Stopped(interrupt.exit_code()));
            }
            // What was read before an input broke off is written.
            let mut batch = vec![];
            let read = self.read(BATCH * sets.len(), reach, &mut batch);
            self.write(&batch, sets, out)?;
            if !read? {
                return Ok(());
            }
        }
    }

    /// Reads some records; false where there are no more.
    fn read(
        &mut self,
        most: usize,
        reach: usize,
        batch: &mut Vec<Prepared>,
    ) -> Result<bool, CliError> {
        while batch.len() < most {
            let mut line = vec![];
            let Some(place) = self.lines.next(&mut line).map_err(CliError::input)? else {
                return Ok(false);
            };
            self.counts.records += 1;
            let prepared = if line.is_empty() {
                Err(Failed::Line("is empty".into()))
            } else if place.cut {
                Err(Failed::Line("is too long".into()))
            } else if vcf::columns(&line) >= vcf::FIXED && vcf::columns(&line) != self.columns {
                // Cut off among its samples, say; what would be written is no VCF.
                Err(Failed::Line(format!(
                    "{} columns, and the header names {}",
                    vcf::columns(&line),
                    self.columns
                )))
            } else {
                Prepared::new(line, self.reference, self.genes, reach)
            };
            match prepared {
                Ok(prepared) => batch.push(prepared),
                Err(Failed::Reference(error)) => return Err(wrong(error)),
                Err(Failed::Line(reason)) => {
                    self.counts.rejected += 1;
                    log::warn!(
                        "{}: line {}, byte {}: left out: {}",
                        self.lines.file(),
                        place.number,
                        place.offset,
                        clean(reason.as_bytes())
                    );
                }
            }
        }
        Ok(true)
    }

    /// Scores records on all threads and writes them in their order.
    fn write(
        &mut self,
        batch: &[Prepared],
        sets: &mut [Vec<Comparison>],
        out: &mut Writer,
    ) -> Result<(), CliError> {
        type Done = Option<Result<(Vec<u8>, Outcome), CliError>>;
        let done: Vec<Mutex<Done>> = batch.iter().map(|_| Mutex::new(None)).collect();
        let next = AtomicUsize::new(0);
        let settings = self.plan.settings;
        let work = |comparisons: &mut [Comparison]| {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(record) = batch.get(number) else {
                    return;
                };
                let mut bytes = vec![];
                let scored = record.score(comparisons, settings, &mut bytes);
                let scored = scored
                    .map(|outcome| (bytes, outcome))
                    .map_err(CliError::from);
                *done[number].lock().unwrap_or_else(PoisonError::into_inner) = Some(scored);
            }
        };
        thread::scope(|scope| {
            let work = &work;
            for comparisons in sets.iter_mut() {
                scope.spawn(move || work(comparisons));
            }
        });
        for (record, done) in batch.iter().zip(done) {
            let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
            let lost = || Err(CliError::input("a record was not scored"));
            let (bytes, outcome) = done.unwrap_or_else(lost)?;
            let failed = |source: io::Error| self.plan.target.failed(source);
            out.write_all(&bytes).map_err(failed)?;
            self.counts.add(record, &outcome);
        }
        Ok(())
    }
}

impl Counts {
    fn add(&mut self, record: &Prepared, outcome: &Outcome) {
        self.written += 1;
        self.scored += outcome.scored;
        self.fitting += outcome.scored;
        for (allele, reason) in &outcome.unscored {
            *self.unscored.entry(reason.name()).or_default() += 1;
            self.fitting += u64::from(reason.fits());
            if reason.is_error() {
                self.misfits += 1;
                let name = format!("{} {allele}", record.name());
                log::warn!("{}: not scored: {}", clean(name.as_bytes()), words(*reason));
            }
        }
    }

    fn say(&self) {
        let unscored: u64 = self.unscored.values().sum();
        // Where the run broke off.
        let lost = match self.records - self.written - self.rejected {
            0 => String::new(),
            lost => format!(", {lost} not reached"),
        };
        note(format_args!(
            "{} records in: {} written, {} left out{lost}; {} alleles scored, {unscored} not",
            self.records, self.written, self.rejected, self.scored
        ));
        for (reason, count) in &self.unscored {
            note(format_args!("  {count} {reason}"));
        }
    }
}

/// What is wrong, in words.
fn words(reason: Unscored) -> &'static str {
    match reason {
        Unscored::ReferenceDiffers => "REF is not what stands in the reference",
        Unscored::NoContig => "the reference has no such contig",
        Unscored::BeyondContig => "the contig ends before",
        other => other.name(),
    }
}
