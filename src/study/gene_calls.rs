//! Calls in a gene beside its annotation: the gene of most calls among those that a record holds
//! whole, or the one that is asked for.

use super::variants::genes::{Gene, Genes};
use crate::call::{Call, CallKind};
use crate::sink::clean;
use crate::stream::observe::{ReadObserver, SeenRead};
use crate::stream::tally::Strongest;
use std::collections::HashMap;
use std::sync::Arc;

/// Calls of a gene that are kept.
const CALLS: usize = 1000;

/// Calls may come later than those of other models of so many bases further on.
const LATE: u64 = 1_000_000;

/// Genes of a record that are open at a time, before those are closed that calls have passed.
const OPEN: usize = 64;

/// Splice sites of one kind in a gene, on its strand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sites {
    /// The first base or the last one of an exon, ascending, and whether it was called.
    pub annotated: Vec<(u64, bool)>,
    /// Calls at other places.
    pub elsewhere: u64,
}

impl Sites {
    /// Annotated sites that were called.
    pub fn found(&self) -> usize {
        self.annotated.iter().filter(|(_, called)| *called).count()
    }

    fn take(&mut self, position: u64) {
        match self.annotated.binary_search_by_key(&position, |own| own.0) {
            Ok(place) => self.annotated[place].1 = true,
            Err(_) => self.elsewhere += 1,
        }
    }
}

/// A gene and the calls in it.
#[derive(Debug, Clone)]
pub struct CalledGene {
    /// The gene.
    pub gene: Arc<Gene>,
    /// The record that holds it.
    pub record: String,
    /// Calls of both strands.
    pub calls: Strongest,
    /// Donors and acceptors on the gene's strand.
    pub sites: [Sites; 2],
}

impl CalledGene {
    fn new(gene: Arc<Gene>) -> CalledGene {
        let sites = gene.sites().map(|sites| Sites {
            annotated: sites.into_iter().map(|site| (site, false)).collect(),
            elsewhere: 0,
        });
        CalledGene {
            gene,
            record: String::new(),
            calls: Strongest::new(CALLS),
            sites,
        }
    }

    fn add(&mut self, call: &Call) {
        self.calls.add(std::slice::from_ref(call));
        if call.strand == self.gene.strand {
            match call.kind {
                CallKind::Donor => self.sites[0].take(call.start),
                CallKind::Acceptor => self.sites[1].take(call.start),
                _ => (),
            }
        }
    }
}

/// Genes of a record that is not over.
#[derive(Default)]
struct Open {
    genes: Vec<CalledGene>,
    /// The best of those that calls have passed.
    best: Option<CalledGene>,
    /// So many open genes call for closing some.
    most: usize,
}

impl Open {
    fn offer(best: &mut Option<CalledGene>, gene: CalledGene) {
        let least = best.as_ref().map_or(0, |best| best.calls.seen());
        if best.is_none() || gene.calls.seen() > least {
            *best = Some(gene);
        }
    }

    /// Closes the genes that end before this position.
    fn close(&mut self, position: u64) {
        for gene in self.genes.extract_if(.., |own| own.gene.end <= position) {
            Open::offer(&mut self.best, gene);
        }
    }
}

/// Finds the gene of most calls.
pub struct GeneCalls {
    genes: Genes,
    /// The only gene that is wanted.
    symbol: Option<String>,
    open: HashMap<(usize, u64), Open>,
    best: Option<CalledGene>,
}

impl GeneCalls {
    /// Looks at all `genes`, or at that of a symbol.
    pub fn new(genes: Genes, symbol: Option<String>) -> GeneCalls {
        GeneCalls {
            genes,
            symbol,
            open: HashMap::new(),
            best: None,
        }
    }

    /// The gene, if a record held one whole that has calls.
    pub fn best(&self) -> Option<&CalledGene> {
        self.best.as_ref()
    }
}

impl ReadObserver for GeneCalls {
    fn calls(&mut self, read: SeenRead<'_>, calls: &[Call]) {
        let Ok(name) = std::str::from_utf8(read.name) else {
            return;
        };
        for call in calls {
            let here = self.genes.at(name, call.start..call.start + 1);
            let wanted = |gene: &&Arc<Gene>| {
                let symbol = self.symbol.as_ref();
                symbol.is_none_or(|symbol| *symbol == gene.symbol)
            };
            for gene in here.filter(wanted) {
                let open = self.open.entry(read.id).or_default();
                let mut known = open.genes.iter_mut();
                if let Some(own) = known.find(|own| Arc::ptr_eq(&own.gene, gene)) {
                    own.add(call);
                    continue;
                }
                if open.genes.len() >= open.most.max(OPEN) {
                    open.close(call.start.saturating_sub(LATE));
                    open.most = 2 * open.genes.len();
                }
                let mut own = CalledGene::new(gene.clone());
                own.add(call);
                open.genes.push(own);
            }
        }
    }

    fn end(&mut self, read: SeenRead<'_>, length: Option<u64>) {
        let (Some(mut open), Some(length)) = (self.open.remove(&read.id), length) else {
            return;
        };
        open.close(length);
        if let Some(mut gene) = open.best {
            gene.record = clean(read.name);
            Open::offer(&mut self.best, gene);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Flags, Strand};
    use crate::reads::lines::Lines;
    use crate::reads::source::Input;
    use std::fmt::Write;
    use std::io::Cursor;

    fn genes(text: String) -> Genes {
        let reader = Box::new(Cursor::new(text.into_bytes()));
        Genes::read(&mut Lines::open(Input::Reader("genes".into(), reader)).unwrap()).unwrap()
    }

    /// Genes of 1,000 bases with two exons of 100, one behind the other.
    fn row(count: u64) -> String {
        let mut text = String::new();
        for number in 0..count {
            let at = number * 2000;
            for (from, to) in [(at + 1, at + 100), (at + 901, at + 1000)] {
                let id = format!("gene_id \"g{number}\"; transcript_id \"t{number}\"");
                writeln!(text, "chr1\tx\texon\t{from}\t{to}\t.\t+\t.\t{id}").unwrap();
            }
        }
        text
    }

    fn call(kind: CallKind, strand: Strand, start: u64) -> Call {
        Call {
            start,
            end: start + 1,
            strand,
            kind,
            score: 0.9,
            flags: Flags::NONE,
            model: 0,
        }
    }

    fn read(id: u64, name: &[u8]) -> SeenRead<'_> {
        SeenRead { id: (0, id), name }
    }

    #[test]
    fn sites_on_the_strand_are_found_or_elsewhere() {
        let mut seen = GeneCalls::new(genes(row(1)), None);
        let (ahead, behind) = (Strand::Forward, Strand::Reverse);
        let calls = [
            call(CallKind::Donor, ahead, 99),
            call(CallKind::Donor, ahead, 98),
            call(CallKind::Acceptor, behind, 900),
            call(CallKind::Promoter, ahead, 0),
            call(CallKind::Donor, ahead, 1000),
        ];
        seen.calls(read(1, b"1"), &calls);
        seen.calls(read(2, b"other"), &calls);
        seen.end(read(2, b"other"), Some(5000));
        assert!(seen.best().is_none());
        seen.end(read(1, b"1"), Some(1000));
        let best = seen.best().unwrap();
        assert_eq!((&*best.record, best.calls.seen()), ("1", 4));
        let [donors, acceptors] = &best.sites;
        assert_eq!((donors.found(), donors.elsewhere), (1, 1));
        assert_eq!(acceptors.annotated, [(900, false)]);
        assert!(seen.open.is_empty());
    }

    #[test]
    fn a_gene_that_a_record_holds_in_part_does_not_count() {
        let mut seen = GeneCalls::new(genes(row(1)), None);
        for (id, length) in [(1, Some(999)), (2, None)] {
            seen.calls(
                read(id, b"1"),
                &[call(CallKind::Donor, Strand::Forward, 99)],
            );
            seen.end(read(id, b"1"), length);
            assert!(seen.best().is_none() && seen.open.is_empty());
        }
    }

    #[test]
    fn the_gene_of_most_calls_is_found_with_few_open_at_a_time() {
        let count = 3000;
        for (symbol, expected) in [(None, "g7"), (Some("g9"), "g9")] {
            let mut seen = GeneCalls::new(genes(row(count)), symbol.map(str::to_string));
            for number in 0..count {
                let calls = 1 + u64::from(number == 7);
                let one = call(CallKind::Donor, Strand::Forward, number * 2000 + 99);
                (0..calls).for_each(|_| seen.calls(read(1, b"chr1"), &[one]));
                let open = seen.open.get(&(0, 1)).map_or(0, |open| open.genes.len());
                // 500 genes begin within the bases by which calls may be late.
                assert!(open <= 1002, "{open}");
            }
            seen.end(read(1, b"chr1"), Some(count * 2000));
            assert_eq!(seen.best().unwrap().gene.symbol, expected);
        }
    }
}
