//! Lines of a VCF and of a GFF or GTF file, and alleles as changes of a sequence.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Cursor;
use strandline::reads::lines::Lines;
use strandline::reads::source::Input;
use strandline::study::variants::allele::{Change, Unscored, codes};
use strandline::study::variants::genes::Genes;
use strandline::study::variants::vcf::{Record, with_info};

const CONTIG: &[u8] = &[0, 1, 0, 1, 0, 1, 3, 3, 3, 2, 2, 0, 1, 4, 2, 0, 3, 1, 1, 1];

fn lines(data: &[u8]) -> Option<Lines> {
    let reader = Box::new(Cursor::new(data.to_vec()));
    Lines::open(Input::Reader("fuzz".into(), reader)).ok()
}

fuzz_target!(|data: &[u8]| {
    if let Some(mut lines) = lines(data) {
        let mut line = vec![];
        while let Ok(Some(_)) = lines.next(&mut line) {
            let Ok(record) = Record::new(&line) else {
                continue;
            };
            // The line comes out as it was, but for fields of ours.
            let (mut once, mut twice) = (vec![], vec![]);
            with_info(&line, record.info.clone(), "STRANDLINE=x", &mut once);
            once.pop();
            let again = Record::new(&once).expect("still a record");
            with_info(&once, again.info.clone(), "STRANDLINE=x", &mut twice);
            twice.pop();
            assert_eq!(once, twice);
            assert_eq!((again.contig, again.position), (record.contig, record.position));
            let Ok(own) = codes(record.reference) else {
                continue;
            };
            let at = (record.position as usize) % CONTIG.len();
            let own = &CONTIG[at..(at + own.len()).min(CONTIG.len())];
            for allele in record.alleles() {
                let Ok(alternative) = codes(allele) else {
                    continue;
                };
                let base = |at: u64| Ok::<u8, Unscored>(CONTIG[at as usize]);
                if let Ok(change) = Change::new(at as u64, own, &alternative, base) {
                    let mut sequence = CONTIG.to_vec();
                    let replaced = change.replaced.start as usize..change.replaced.end as usize;
                    sequence.splice(replaced, change.by);
                    let expected = [&CONTIG[..at], &alternative, &CONTIG[at + own.len()..]];
                    assert_eq!(sequence, expected.concat());
                }
            }
        }
    }
    if let Some(mut lines) = lines(data)
        && let Ok(genes) = Genes::read(&mut lines)
    {
        for gene in genes.at("chr1", 10..11) {
            assert!(gene.start <= 10 && gene.end > 10);
        }
    }
});
