//! `cells perturb`: the response to a gene that is knocked out, down or over.

use super::session::Session;
use crate::cells::model::{CellModel, Kind};
use crate::cells::response::{Change, Response};
use crate::cells::run::{Flagged, matching};
use crate::cli::arguments::cells::{PerturbArguments, PerturbationArgument};
use crate::cli::error::CliError;
use crate::cli::output::{End, Target};
use crate::sink::clean;
use std::io::Write;

pub(super) fn run(arguments: &PerturbArguments, quiet: bool) -> Result<(), CliError> {
    Session::files(&arguments.options, &[&arguments.input])?
        .write([&arguments.output])
        .check()?;
    let session = Session::new(&arguments.options, Kind::Perturbation, quiet)?;
    let (model, tokens) = (&session.model, session.model.tokens());
    let how = match arguments.how {
        PerturbationArgument::Ko => "ko",
        PerturbationArgument::Kd => "kd",
        PerturbationArgument::Oe => "oe",
    };
    let flag = model.flag(how).map_err(CliError::input)?;
    let mut ids = vec![];
    for name in &arguments.perturbed {
        let id = gene(model, name)?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    warn_of_strangers(model, &ids);
    let mut source = session.open(&arguments.input)?;
    let matching = matching(tokens, &mut *source)?;
    let measured = |id: &u32| matching.genes.binary_search(id).is_ok();
    let unmeasured: Vec<u32> = ids.iter().filter(|id| !measured(id)).copied().collect();
    let unmeasured: Vec<u32> = unmeasured.into_iter().chain(tokens.cls()).collect();
    let mut response = Response::default();
    let flagged = Flagged { ids: &ids, flag };
    session.run(&mut *source, flagged, |cell| {
        if let Ok(outcome) = &cell.result {
            response.add(outcome, &unmeasured);
        }
        Ok(())
    })?;
    let target = Target::new(Some(arguments.output.clone()));
    let failed = |source| target.failed(source);
    let mut out = target.open_text()?;
    writeln!(out, "#gene\tcontrol\tpredicted\tchange\tsign").map_err(failed)?;
    for change in largest(response.changes(), arguments.top) {
        let name = tokens.vocabulary().name(change.gene).unwrap_or("?");
        let by = change.change();
        let sign = if by < 0.0 { "-" } else { "+" };
        writeln!(
            out,
            "{}\t{:.4}\t{:.4}\t{by:.4}\t{sign}",
            clean(name.as_bytes()),
            change.control,
            change.predicted,
        )
        .map_err(failed)?;
    }
    out.end(End::Complete).map_err(failed)?;
    session.sign();
    Ok(())
}

/// The id of a gene that is named, or of the token for those which the model does not know.
fn gene(model: &CellModel, name: &str) -> Result<u32, CliError> {
    let vocabulary = model.tokens().vocabulary();
    if let Some(id) = vocabulary.find(name) {
        return Ok(id);
    }
    if let Some(id) = model.tokens().other() {
        log::warn!(
            "{name}: no gene of {}: its token of others stands for it",
            model.name()
        );
        return Ok(id);
    }
    let alike = match &vocabulary.alike(name)[..] {
        [] => String::new(),
        alike => format!("; it has {}", alike.join(", ")),
    };
    Err(CliError::Input(format!(
        "{name}: no gene of {}{alike}",
        model.name()
    )))
}

/// Genes that a model never saw perturbed.
fn warn_of_strangers(model: &CellModel, ids: &[u32]) {
    let (tokens, targets) = (model.tokens(), &model.tokens().cells().targets);
    if targets.is_empty() {
        return;
    }
    for name in ids.iter().filter_map(|id| tokens.vocabulary().name(*id)) {
        if !targets.iter().any(|target| target == name) {
            log::warn!(
                "{name}: {} learned nothing of this gene; it did of {}",
                model.name(),
                targets.join(", ")
            );
        }
    }
}

/// By how much they change, ties by id.
fn largest(mut changes: Vec<Change>, top: Option<usize>) -> Vec<Change> {
    let by = |change: &Change| change.change().abs();
    changes.sort_by(|a, b| by(b).total_cmp(&by(a)).then(a.gene.cmp(&b.gene)));
    changes.truncate(top.unwrap_or(usize::MAX));
    changes
}
