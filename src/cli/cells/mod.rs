//! `cells`: profiles of single cells to types, vectors, responses and networks of genes.

mod annotate;
mod copy;
mod embed;
mod follow;
mod growth;
mod map;
mod network;
mod perturb;
mod session;
mod vectors;

use super::arguments::cells::CellsCommand;
use super::error::CliError;

pub(super) fn run(command: CellsCommand, quiet: bool) -> Result<(), CliError> {
    match command {
        CellsCommand::Annotate(arguments) if arguments.follow => follow::run(&arguments, quiet),
        CellsCommand::Annotate(arguments) => annotate::run(&arguments, quiet),
        CellsCommand::Embed(arguments) => embed::run(&arguments, quiet),
        CellsCommand::Map(arguments) => map::run(&arguments, quiet),
        CellsCommand::Perturb(arguments) => perturb::run(&arguments, quiet),
        CellsCommand::Network(arguments) => network::run(&arguments, quiet),
    }
}
