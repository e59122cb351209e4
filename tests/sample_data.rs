//! The sample reads are what the recorded command makes of the sample genes.

use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use strandline::call::CallKind;
use strandline::lab::simulate::{Errors, SimulationConfig, Simulator, read_genes};
use strandline::lab::truth::{GeneSites, ReadSites};
use strandline::reads::source::Input;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

#[test]
fn the_recorded_command_makes_the_sample_reads() {
    let genes = read_genes(Input::Path(data("genes.fa.gz"))).unwrap();
    let sites = File::open(data("sites.tsv")).unwrap();
    let sites = GeneSites::read(BufReader::new(sites), "sites.tsv").unwrap();
    let config = SimulationConfig {
        reads: 150,
        error_rate: 0.02,
        errors: Errors::Uniform,
        seed: 1,
    };
    let simulator = Simulator::new(genes, &sites, config).unwrap();
    let (mut reads, mut truth) = (Vec::new(), Vec::new());
    let summary = simulator.write(&mut reads, &mut truth).unwrap();
    assert_eq!(
        (summary.reads, summary.bases, summary.sites),
        (150, 996_300, 656)
    );

    assert!(truth == fs::read(data("reads_truth.tsv")).unwrap());
    let mut recorded = Vec::new();
    let file = File::open(data("reads.fastq.gz")).unwrap();
    MultiGzDecoder::new(file)
        .read_to_end(&mut recorded)
        .unwrap();
    assert!(reads == recorded);
}

#[test]
fn sample_genes_have_their_sites_where_the_dinucleotides_are() {
    let sites = File::open(data("sites.tsv")).unwrap();
    let sites = GeneSites::read(BufReader::new(sites), "sites.tsv").unwrap();
    let (mut canonical, mut all) = (0, 0);
    for (id, codes) in read_genes(Input::Path(data("genes.fa.gz"))).unwrap() {
        for site in sites.get(&id).unwrap().1 {
            let at = usize::try_from(site.position).unwrap();
            let (intron, wanted) = match site.kind {
                CallKind::Donor => (&codes[at + 1..at + 3], [2, 3]),
                _ => (&codes[at - 2..at], [0, 2]),
            };
            canonical += usize::from(intron == wanted);
            all += 1;
        }
    }
    assert_eq!(all, 96);
    assert!(canonical >= 95, "{canonical}");
}

#[test]
fn the_truth_names_reads_that_exist() {
    let truth = File::open(data("reads_truth.tsv")).unwrap();
    let mut truth = ReadSites::read(BufReader::new(truth), "reads_truth.tsv").unwrap();
    let mut text = String::new();
    let file = File::open(data("reads.fastq.gz")).unwrap();
    MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    for header in text.lines().step_by(4) {
        truth.take(&header.as_bytes()[1..]);
    }
    assert_eq!(truth.unmet(), 0);
}
