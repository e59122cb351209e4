//! `count`: how many records there are, for those who share them.

use super::arguments::program::CountArguments;
use super::error::CliError;
use super::output::say;
use crate::reads::fastx::Limits;
use crate::reads::shard::{Count, count};

pub(super) fn run(arguments: &CountArguments) -> Result<(), CliError> {
    let mut failed = false;
    let mut sum = Count::default();
    say!("#file\trecords\treads\tbases");
    for path in &arguments.reads {
        let (own, end) = match count(path, Limits::default()) {
            Ok(counted) => counted,
            Err(error) => {
                log::error!("{error}");
                failed = true;
                continue;
            }
        };
        if let Some(error) = end {
            log::error!("{error}");
            failed = true;
        }
        let Count {
            records,
            reads,
            bases,
        } = own;
        say!("{}\t{records}\t{reads}\t{bases}", path.display());
        sum.records += records;
        sum.reads += reads;
        sum.bases += bases;
    }
    if arguments.reads.len() > 1 {
        say!("total\t{}\t{}\t{}", sum.records, sum.reads, sum.bases);
    }
    if failed {
        return Err(CliError::Reported);
    }
    Ok(())
}
