//! `annotate --report`, the real binary: the page has the numbers of the calls beside it, whatever
//! was read and however.

mod binary;

use binary::{data, run, strandline};
use flate2::read::MultiGzDecoder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A call as the TSV has it.
struct Called {
    read: String,
    start: u64,
    strand: String,
    kind: String,
    score: f64,
    flags: String,
}

fn calls(path: &Path) -> Vec<Called> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().skip(1).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        Called {
            read: columns[0].to_string(),
            start: columns[1].parse().unwrap(),
            strand: columns[3].to_string(),
            kind: columns[4].to_string(),
            score: columns[5].parse().unwrap(),
            flags: columns[7].to_string(),
        }
    });
    lines.collect()
}

fn unpacked(path: &Path) -> String {
    let mut text = String::new();
    let mut file = MultiGzDecoder::new(File::open(path).unwrap());
    file.read_to_string(&mut text).unwrap();
    text
}

/// Names and lengths of the records of FASTA.
fn lengths(fasta: &str) -> Vec<(String, u64)> {
    let records = fasta.split('>').skip(1).map(|record| {
        let (header, bases) = record.split_once('\n').unwrap();
        let name = header.split_whitespace().next().unwrap();
        let length = bases.split_whitespace().map(str::len).sum::<usize>();
        (name.to_string(), length as u64)
    });
    records.collect()
}

/// Runs `annotate` and gives the calls and the page.
fn reported(more: &[&str], inputs: &[PathBuf]) -> (Vec<Called>, String) {
    let folder = tempfile::tempdir().unwrap();
    let (tsv, html) = (folder.path().join("calls"), folder.path().join("page"));
    let mut line: Vec<PathBuf> = vec!["annotate".into(), "-o".into(), tsv.clone()];
    line.extend(["--report".into(), html.clone()]);
    line.extend(more.iter().map(PathBuf::from));
    line.extend(inputs.iter().cloned());
    run(line).exit(0);
    assert!(!folder.path().join("page.part").exists());
    let page = fs::read_to_string(html).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    let is_text = !more.contains(&"--format=bam");
    (if is_text { calls(&tsv) } else { vec![] }, page)
}

/// A section of the page.
fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page
        .split_once(&format!("<section id=\"{id}\">"))
        .expect(id);
    rest.split_once("</section>").unwrap().0
}

fn number(text: &str) -> f64 {
    text.replace(',', "").parse().expect(text)
}

/// A fact of a list, by its name.
fn fact(text: &str, name: &str) -> f64 {
    let (_, rest) = text
        .split_once(&format!("<dt>{name}</dt><dd><bdi>"))
        .expect(name);
    number(rest.split_once('<').unwrap().0)
}

/// The rows of a table, by its label.
fn rows(text: &str, label: &str) -> Vec<Vec<String>> {
    let (_, rest) = text
        .split_once(&format!("aria-label=\"{label}\""))
        .expect(label);
    let (_, rest) = rest.split_once("<tbody>").unwrap();
    let body = rest.split_once("</tbody>").unwrap().0;
    let rows = body.split("<tr>").skip(1).map(|row| {
        let cells = row.split("<bdi>").skip(1);
        let cells = cells.map(|cell| cell.split_once('<').unwrap().0.to_string());
        cells.collect()
    });
    rows.collect()
}

#[test]
fn the_numbers_are_those_of_the_calls() {
    let genes = data("genes.fa.gz");
    let (calls, page) = reported(&[], std::slice::from_ref(&genes));
    assert!(calls.len() > 50);
    let (run, scores) = (section(&page, "run"), section(&page, "scores"));
    let meaning = rows(section(&page, "meaning"), "Expected true calls");
    let flags = rows(scores, "Calls by strand and flag");
    let kinds: BTreeSet<&str> = calls.iter().map(|call| &*call.kind).collect();
    assert!(kinds.contains("donor") && kinds.contains("acceptor"));
    for kind in kinds {
        let own: Vec<&Called> = calls.iter().filter(|call| call.kind == kind).collect();
        assert_eq!(fact(run, &format!("{kind} calls")), own.len() as f64);
        let expected: f64 = own.iter().map(|call| call.score).sum();
        let row = meaning.iter().find(|row| row[0] == kind).unwrap();
        assert_eq!(number(&row[2]), own.len() as f64);
        assert!(
            (number(&row[3]) - expected).abs() < 0.1,
            "{row:?}: {expected}"
        );
        let row = flags.iter().find(|row| row[0] == kind).unwrap();
        let count = |of: &dyn Fn(&Called) -> bool| own.iter().filter(|call| of(call)).count();
        assert_eq!(number(&row[1]), count(&|call| call.strand == "+") as f64);
        assert_eq!(number(&row[2]), count(&|call| call.strand == "-") as f64);
        let short = count(&|call| call.flags.contains("short-context"));
        assert_eq!(number(&row[3]), short as f64);
        let bins = rows(scores, &format!("{kind} calls by score"));
        assert_eq!(bins.len(), 20);
        let mut all = 0.0;
        for (bin, row) in bins.iter().enumerate() {
            let low = bin as f64 / 20.0;
            for (column, strand) in [(2, "+"), (3, "-")] {
                // Scores have four decimals in the TSV: one may be written as the edge above it.
                let within = |by: f64| {
                    let (low, high) = (low - by, low + 0.05 + by);
                    count(&|call| {
                        let score = call.score;
                        call.strand == strand && score >= low && (score < high || high > 0.9999)
                    })
                };
                let found = number(&row[column]);
                let (least, most) = (within(-0.0001), within(0.0001));
                assert!(
                    (least as f64..=most as f64).contains(&found),
                    "{row:?}: {least} {most}"
                );
                all += found;
            }
        }
        assert_eq!(all, own.len() as f64);
    }

    let mut reads = lengths(&unpacked(&genes));
    reads.sort_by_key(|(_, length)| std::cmp::Reverse(*length));
    let bases: u64 = reads.iter().map(|(_, length)| length).sum();
    let own = section(&page, "lengths");
    assert_eq!(
        [fact(own, "reads"), fact(own, "bases")],
        [5.0, bases as f64]
    );
    assert_eq!(
        [fact(run, "reads out"), fact(run, "bases out")],
        [5.0, bases as f64]
    );
    assert_eq!(
        [fact(own, "median"), fact(own, "longest")],
        [reads[2].1 as f64, reads[0].1 as f64]
    );
    // The two longest hold more than half of the bases.
    assert_eq!(fact(own, "N50"), reads[1].1 as f64);
    let table = rows(own, "Read lengths");
    let counted: f64 = table.iter().map(|row| number(&row[2])).sum();
    assert_eq!(counted, 5.0);

    let longest = section(&page, "longest");
    let figures: Vec<&str> = longest.split("<figure").skip(1).collect();
    assert_eq!(figures.len(), 5);
    for (figure, (name, _)) in figures.iter().zip(&reads) {
        let own: Vec<&Called> = calls.iter().filter(|call| call.read == *name).collect();
        assert!(figure.contains(&format!("<bdi>{name}</bdi>")), "{name}");
        assert_eq!(figure.matches("<g class=").count(), own.len(), "{name}");
        assert_eq!(rows(figure, &format!("Calls of {name}")).len(), own.len());
    }
}

/// Splice sites of a gene of the sample annotation, on the forward strand.
fn sites(gtf: &str, symbol: &str) -> [BTreeSet<u64>; 2] {
    let mut transcripts: BTreeMap<&str, BTreeSet<(u64, u64)>> = BTreeMap::new();
    for line in gtf
        .lines()
        .filter(|line| line.contains(&format!("\"{symbol}\"")))
    {
        let columns: Vec<&str> = line.split('\t').collect();
        if columns[2] == "exon" {
            let (_, name) = columns[8].split_once("transcript_id \"").unwrap();
            let place = |column: usize| columns[column].parse::<u64>().unwrap();
            let exons = transcripts.entry(name.split('"').next().unwrap());
            exons.or_default().insert((place(3) - 1, place(4) - 1));
        }
    }
    let (mut donors, mut acceptors) = (BTreeSet::new(), BTreeSet::new());
    for exons in transcripts.values() {
        donors.extend(exons.iter().rev().skip(1).map(|(_, last)| *last));
        acceptors.extend(exons.iter().skip(1).map(|(first, _)| *first));
    }
    [donors, acceptors]
}

#[test]
fn a_gene_is_shown_beside_its_annotation() {
    let gff = data("variants/chr9.gtf.gz");
    let gtf = unpacked(&gff);
    let option = format!("--report-gff={}", gff.display());
    let inputs = [data("variants/chr9.fa.gz")];
    for gene in [None, Some("--report-gene=DOCK8")] {
        let options: Vec<&str> = [&*option].into_iter().chain(gene).collect();
        let (calls, page) = reported(&options, &inputs);
        let own = section(&page, "gene");
        assert!(own.contains("Gene <bdi>DOCK8</bdi>"));
        assert_eq!(own.contains("the gene of most calls"), gene.is_none());
        let table = rows(own, "Sites of the gene");
        let states = rows(own, "Annotated sites");
        for ((row, kind), sites) in table
            .iter()
            .zip(["donor", "acceptor"])
            .zip(sites(&gtf, "DOCK8"))
        {
            let sites = &sites;
            let called = calls
                .iter()
                .filter(|call| call.kind == kind && call.strand == "+");
            let inside = called.filter(|call| (14_853..200_000).contains(&call.start));
            let called: BTreeSet<u64> = inside.map(|call| call.start).collect();
            let found = called.intersection(sites).count();
            assert!(found > 10, "{found}");
            let expected = [sites.len(), found, called.len() - found].map(|n| n as f64);
            assert_eq!(
                [number(&row[1]), number(&row[2]), number(&row[4])],
                expected
            );
            let states = states
                .iter()
                .filter(|row| row[0] == kind && row[1] == "called");
            let states: BTreeSet<u64> = states.map(|row| number(&row[2]) as u64).collect();
            assert_eq!(states, called.intersection(sites).copied().collect());
        }
    }
    let (_, page) = reported(&[&option], &[data("genes.fa.gz")]);
    assert!(section(&page, "gene").contains("No record of an annotated sequence"));
}

#[test]
fn every_way_of_reading_gives_the_same_page() {
    let bam = [data("inputs/good_unaligned.bam")];
    let folder = tempfile::tempdir().unwrap();
    fs::copy(data("reads.fastq.gz"), folder.path().join("reads.fastq.gz")).unwrap();
    let copied = [folder.path().join("reads.fastq.gz")];
    let follow = format!("--follow={}", folder.path().display());
    let same = |first: (&[&str], &[PathBuf]), second: (&[&str], &[PathBuf])| {
        let (_, one) = reported(first.0, first.1);
        let (_, other) = reported(second.0, second.1);
        for id in ["lengths", "scores", "meaning", "longest"] {
            assert!(
                section(&one, id) == section(&other, id),
                "{first:?}, {second:?}: {id}"
            );
        }
        one
    };
    let page = same((&[], &copied), (&[&follow, "--until-idle=0.1"], &[]));
    assert_eq!(fact(section(&page, "lengths"), "reads"), 150.0);
    same((&["--order=live"], &copied), (&[], &copied));
    same(
        (&["--order=ready"], &copied),
        (&["--order=ready", "--threads=1"], &copied),
    );
    let page = same((&["--format=bam"], &bam), (&[], &bam));
    assert_eq!(fact(section(&page, "run"), "reads out"), 3.0);
}

#[test]
fn what_cannot_be_reported_is_said_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (calls, report) = (file("calls.tsv"), file("report.html"));
    let (genes, gff) = (data("genes.fa.gz"), data("variants/chr9.gtf.gz"));
    let (genes, gff) = (genes.to_str().unwrap(), gff.to_str().unwrap());
    fs::write(file("none.gff"), "##gff-version 3\n").unwrap();
    fs::write(file("bad.gff"), "chr1\tgene\n").unwrap();
    fs::create_dir(file("folder")).unwrap();
    let to = |more: &[&str]| {
        let line = ["annotate", genes, "-o", &calls, "--report"];
        run([&line[..], more].concat())
    };
    let bad = file("bad.gff");
    for (more, code, expected) in [
        (&[&*report, "--report-gff", &bad][..], 1, "bad.gff: line 1"),
        (
            &[&report, "--report-gff", &file("none.gff")],
            1,
            "holds no gene",
        ),
        (
            &[&report, "--report-gff", gff, "--report-gene=X"],
            1,
            "holds no gene X",
        ),
        (&[&report, "--report-gff", &file("missing")], 1, "missing"),
        (&[&file("folder")], 1, "directory"),
        (&[&file("nowhere/report.html")], 1, "nowhere"),
        (&[&calls], 2, "written twice"),
        (&["-"], 2, "--report needs a file"),
    ] {
        let ran = to(more).exit(code);
        assert!(ran.err.contains(expected), "{more:?}: {}", ran.err);
        assert!(ran.text().is_empty());
        let left: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("calls") || name.contains("report"))
            .collect();
        assert!(left.is_empty(), "{more:?}: {left:?}");
    }
}

/// Ends a run by Ctrl-C while standard input is open.
#[cfg(unix)]
#[test]
fn a_run_that_is_stopped_has_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (calls, report) = (file("calls.tsv"), file("report.html"));
    let line = ["annotate", "-", "-o", &calls, "--report", &report];
    let mut child = strandline(line)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let reads = unpacked(&data("reads.fastq.gz"));
    std::io::Write::write_all(&mut stdin, reads.as_bytes()).unwrap();
    let (part, begun) = (file("calls.tsv.part"), Instant::now());
    while fs::metadata(&part).map_or(0, |about| about.len()) < 1000 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(!Path::new(&report).exists());
    let kill = format!("kill -INT {}", child.id());
    let status = Command::new("sh").args(["-c", &kill]).status();
    assert!(status.unwrap().success());
    let ran = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(ran.status.code(), Some(130));
    let page = fs::read_to_string(&report).unwrap();
    assert!(page.contains("The run was stopped before the end of its input."));
    let err = String::from_utf8(ran.stderr).unwrap();
    let out = fact(section(&page, "run"), "reads out");
    assert!(
        out > 0.0 && err.contains(&format!("in = {out} out + ")),
        "{err}"
    );
    assert_eq!(fact(section(&page, "lengths"), "reads"), out);
}
