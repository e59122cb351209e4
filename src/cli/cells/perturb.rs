//! `cells perturb`: the response to a gene that is knocked out, down or over.

use super::session::Session;
use crate::cells::model::Kind;
use crate::cells::response::{Change, Response};
use crate::cells::run::Flagged;
use crate::cli::arguments::cells::{PerturbArguments, PerturbationArgument};
use crate::cli::error::CliError;
use crate::cli::output::{End, Target};
use crate::sink::clean;
use std::io::Write;

pub(super) fn run(arguments: &PerturbArguments, quiet: bool) -> Result<(), CliError> {
    Session::files(&arguments.options, &[&arguments.input])
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
        let id = tokens.gene(name).ok_or_else(|| {
            let reason = format!("{name}: no gene of {}", model.name());
            CliError::input(reason)
        })?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    let mut source = session.open(&arguments.input)?;
    let matching = tokens.matching(source.genes()).map_err(CliError::input)?;
    let measured = |id: &u32| matching.genes.binary_search(id).is_ok();
    let unmeasured: Vec<u32> = ids.iter().filter(|id| !measured(id)).copied().collect();
    let unmeasured: Vec<u32> = unmeasured.into_iter().chain(tokens.cls()).collect();
    let mut response = Response::default();
    let flagged = Flagged { ids: &ids, flag };
    let tally = session.run(&mut *source, flagged, |cell| {
        if let Ok(outcome) = &cell.result {
            response.add(outcome, &unmeasured);
        }
        Ok(())
    })?;
    if tally.matched * 2 < tokens.known() {
        log::warn!(
            "{}: {} of the {} genes that {} was trained with: its responses mean little here",
            arguments.input.display(),
            tally.matched,
            tokens.known(),
            model.name()
        );
    }
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

/// By how much they change, ties by id.
fn largest(mut changes: Vec<Change>, top: Option<usize>) -> Vec<Change> {
    let by = |change: &Change| change.change().abs();
    changes.sort_by(|a, b| by(b).total_cmp(&by(a)).then(a.gene.cmp(&b.gene)));
    changes.truncate(top.unwrap_or(usize::MAX));
    changes
}
