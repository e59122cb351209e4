//! `explain`: which bases a score depends on.

use super::arguments::explain::{ExplainArguments, ExplainFormat, ExplainedModel};
use super::error::CliError;
use super::guard::Files;
use super::output::{End, Target, Writer};
use super::records::each_record;
use super::scorer::OneModel;
use super::variants::no_auto;
use crate::annotate::Strands;
use crate::call::Strand;
use crate::reads::nucleotide::letter;
use crate::sink::clean;
use crate::study::explain::BaseMap;
use crate::study::explain::attention::Attention;
use crate::study::explain::draw::svg;
use crate::study::explain::mutagenesis::{Mutagenesis, Place};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

struct ExplainPlan {
    input: PathBuf,
    model: ExplainedModel,
    place: Place,
    written: Written,
}

enum Written {
    Tsv(Target),
    Bedgraph(Target),
    Pictures(PathBuf),
}

impl ExplainPlan {
    fn new(arguments: ExplainArguments) -> Result<ExplainPlan, CliError> {
        let files = Files::default()
            .read([&arguments.input])
            .read(&arguments.model.model);
        let output = arguments.output;
        let written = match arguments.format {
            ExplainFormat::Svg => {
                if output.as_os_str() == "-" {
                    return Err(CliError::usage("--format svg needs -o, a folder"));
                }
                files.check()?;
                Files::keep(&output, is_picture)?;
                Written::Pictures(output)
            }
            format => {
                files.write([&output]).check()?;
                let target = Target::new(Some(output));
                match format {
                    ExplainFormat::Tsv => Written::Tsv(target),
                    _ => Written::Bedgraph(target),
                }
            }
        };
        Ok(ExplainPlan {
            input: arguments.input,
            model: arguments.model,
            place: arguments.at.map_or(Place::Best, Place::At),
            written,
        })
    }
}

fn is_picture(name: &str) -> bool {
    name.ends_with(".svg")
}

/// What explains a record.
pub(super) enum Explainer {
    Attention(Box<Attention>),
    Mutagenesis(Box<Mutagenesis>, &'static [Strand]),
}

impl Explainer {
    /// Opens the model: attention where it gives that, and mutagenesis otherwise.
    pub(super) fn new(arguments: &ExplainedModel) -> Result<Explainer, CliError> {
        no_auto(arguments.tier)?;
        let named = OneModel {
            task: arguments.task,
            file: arguments.model.clone(),
            clade: arguments.clade,
            tier: arguments.tier.into(),
        };
        let model = named.open()?;
        if model.manifest().tokeniser.reads_letters() && !model.is_pooled() {
            let attention = Attention::new(&model).map_err(CliError::options)?;
            return Ok(Explainer::Attention(Box::new(attention)));
        }
        let flank = arguments.flank as usize;
        let mutagenesis = Mutagenesis::new(model, flank).map_err(CliError::options)?;
        let strands = Strands::from(arguments.strand).each();
        Ok(Explainer::Mutagenesis(Box::new(mutagenesis), strands))
    }

    /// True where scores are of single bases.
    fn has_positions(&self) -> bool {
        match self {
            Explainer::Attention(_) => false,
            Explainer::Mutagenesis(mutagenesis, _) => mutagenesis.manifest().is_scan(),
        }
    }

    /// The maps of a record; a record that is too short has none, which is said.
    pub(super) fn maps(
        &mut self,
        name: &str,
        codes: &[u8],
        place: Place,
    ) -> Result<Vec<BaseMap>, CliError> {
        let maps = match self {
            Explainer::Attention(attention) => attention.map(codes)?.into_iter().collect(),
            Explainer::Mutagenesis(mutagenesis, strands) => {
                if let Place::At(at) = place
                    && at >= codes.len() as u64
                {
                    log::warn!("{name}: {} nt, and no position {at}", codes.len());
                    return Ok(vec![]);
                }
                let maps = mutagenesis.maps(codes, strands, place);
                maps.map_err(CliError::options)?
            }
        };
        if maps.is_empty() {
            log::warn!("{name}: {} nt are too few for this model", codes.len());
        }
        Ok(maps)
    }
}

pub(super) fn run(arguments: ExplainArguments) -> Result<(), CliError> {
    let plan = ExplainPlan::new(arguments)?;
    let mut explainer = Explainer::new(&plan.model)?;
    if plan.place != Place::Best && !explainer.has_positions() {
        return Err(CliError::usage(
            "--at is for models that score single bases",
        ));
    }
    let target = match &plan.written {
        Written::Pictures(folder) => return pictures(&plan, folder, &mut explainer),
        Written::Tsv(target) | Written::Bedgraph(target) => target,
    };
    let is_tsv = matches!(plan.written, Written::Tsv(_));
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    if is_tsv {
        let columns = "record\tscore\tat\tstrand\tvalue\tposition\tbase\timportance\tA\tC\tG\tT";
        writeln!(out, "{columns}").map_err(failed)?;
    }
    let result = each_record(&plan.input, |_, name, codes| {
        let name = clean(name);
        for map in explainer.maps(&name, codes, plan.place)? {
            let written = if is_tsv {
                tsv(&mut out, &name, &map)
            } else {
                bedgraph(&mut out, &name, &map)
            };
            written.map_err(failed)?;
        }
        Ok(())
    });
    let end = match &result {
        Ok(()) => End::Complete,
        Err(_) => End::Incomplete,
    };
    out.end(end).map_err(failed)?;
    result
}

fn tsv(out: &mut Writer, name: &str, map: &BaseMap) -> std::io::Result<()> {
    let head = match &map.target {
        Some(of) => format!(
            "{name}\t{}\t{}\t{}\t{:.6}",
            of.name, of.at, of.strand, of.score
        ),
        None => format!("{name}\tattention\t.\t.\tNA"),
    };
    for (index, (&code, importance)) in map.codes.iter().zip(&map.importance).enumerate() {
        let (position, base) = (map.first + index as u64, char::from(letter(code)));
        write!(out, "{head}\t{position}\t{base}\t{importance:.6}")?;
        match map.changes.get(index) {
            Some(changes) => {
                for change in changes {
                    write!(out, "\t{change:.6}")?;
                }
            }
            None => out.write_all(b"\tNA\tNA\tNA\tNA")?,
        }
        writeln!(out)?;
    }
    Ok(())
}

fn bedgraph(out: &mut Writer, name: &str, map: &BaseMap) -> std::io::Result<()> {
    let track = match &map.target {
        Some(of) => format!("{} at {} on {}", of.name, of.at, of.strand),
        None => "attention".to_string(),
    };
    let name = name.split_whitespace().next().unwrap_or(".");
    writeln!(out, "track type=bedGraph name=\"{name}: {track}\"")?;
    for (position, importance) in (map.first..).zip(&map.importance) {
        writeln!(out, "{name}\t{position}\t{}\t{importance:.6}", position + 1)?;
    }
    Ok(())
}

/// A picture for each map, by the record's number and the score's name.
fn pictures(plan: &ExplainPlan, folder: &Path, explainer: &mut Explainer) -> Result<(), CliError> {
    fs::create_dir_all(folder).map_err(CliError::io(folder))?;
    each_record(&plan.input, |number, name, codes| {
        let name = clean(name);
        for map in explainer.maps(&name, codes, plan.place)? {
            let score = map
                .target
                .as_ref()
                .map_or("attention", |target| &target.name);
            let safe = |letter: char| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '_'
                }
            };
            let score: String = score.chars().map(safe).collect();
            let target = Target::File(folder.join(format!("{number:08}.{score}.svg")));
            let failed = |source| target.failed(source);
            let mut out = target.open()?;
            out.write_all(svg(&name, &map).as_bytes()).map_err(failed)?;
            out.end(End::Complete).map_err(failed)?;
        }
        Ok(())
    })
}
