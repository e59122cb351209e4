//! `variants`: the effect of alleles against scores of whole sequences, and what becomes of lines
//! that cannot be scored.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use strandline::annotate::{Scorer, builtin};
use strandline::call::Strand;
use strandline::model::manifest::Tier;
use strandline::reads::nucleotide;
use strandline::study::variants::allele::{Change, Unscored};
use strandline::study::variants::effect::{Comparison, Place, Shift, around};
use strandline::{CallKind, Task};

/// Alleles that are compared with scores of the whole sequences.
const ALLELES: usize = 2000;

const DISTANCE: usize = 50;

/// Numbers without a pattern, the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most as u64) as usize
    }

    fn bases(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.below(4) as u8).collect()
    }
}

fn gene() -> Vec<u8> {
    use std::io::Read;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/genes.fa.gz");
    let mut text = String::new();
    let mut reader = flate2::read::MultiGzDecoder::new(fs::File::open(path).unwrap());
    reader.read_to_string(&mut text).unwrap();
    let mut codes = vec![];
    for line in text
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('>'))
    {
        nucleotide::encode(line.as_bytes(), &mut codes);
    }
    codes
}

/// Scores of one column over a whole sequence.
fn whole(scorer: &mut Scorer, codes: &[u8], strand: Strand) -> Vec<f32> {
    let mut all = vec![];
    let done: Result<(), strandline::AnnotateError> = scorer.score(codes, strand, |scores| {
        all.extend_from_slice(scores);
        Ok(())
    });
    done.unwrap();
    all
}

/// Gain and loss of a column by position: the sequences are aligned by what they have in common at
/// their ends, as far to the left as that goes.
fn expected(
    [old, new]: [&[u8]; 2],
    [before, after]: [&[f32]; 2],
    (column, columns): (usize, usize),
) -> Option<Shift> {
    let shorter = old.len().min(new.len());
    let suffix = (0..shorter)
        .take_while(|k| old[old.len() - 1 - k] == new[new.len() - 1 - k])
        .count();
    let prefix = (0..shorter - suffix)
        .take_while(|&k| old[k] == new[k])
        .count();
    let (lost, come) = (old.len() - suffix - prefix, new.len() - suffix - prefix);
    if lost + come == 0 {
        return None;
    }
    let from = prefix.saturating_sub(DISTANCE);
    let to = (prefix + lost + DISTANCE).min(old.len());
    let score = |scores: &[f32], at: usize| scores[at * columns + column];
    let mut best = [(f32::NEG_INFINITY, 0u64); 2];
    let mut changes = vec![];
    for at in from..to {
        let own = score(before, at);
        let mut other = if at < prefix + lost.min(come) {
            score(after, at)
        } else if at < prefix + lost {
            0.0
        } else {
            score(after, at + come - lost.min(at + come))
        };
        // Bases that come in count with the one before them.
        let last = (prefix + lost.min(come)).saturating_sub(1);
        if at == last && come > lost {
            for inserted in prefix + lost..prefix + come {
                other = other.max(score(after, inserted));
            }
        }
        changes.push((own, other));
        for (best, change) in best.iter_mut().zip([other - own, own - other]) {
            if change > best.0 {
                *best = (change, at as u64);
            }
        }
    }
    let most = changes
        .iter()
        .fold((0.0f32, 0.0f32), |most, &(own, other)| {
            if (other - own).abs() > (most.1 - most.0).abs() {
                (own, other)
            } else {
                most
            }
        });
    let odds = |p: f32| f64::from(p).clamp(1e-6, 1.0 - 1e-6);
    let odds = |p: f32| (odds(p) / (1.0 - odds(p))).ln();
    Some(Shift {
        gain: best[0].0.max(0.0),
        gain_at: best[0].1,
        loss: best[1].0.max(0.0),
        loss_at: best[1].1,
        log_odds: (odds(most.1) - odds(most.0)) as f32,
    })
}

#[test]
fn alleles_have_the_effect_that_whole_sequences_show() {
    let gene = gene();
    // Short, so that context is missing at either end, too.
    let contig = &gene[3000..5600];
    let model = || builtin::model(Task::Splice, Tier::Accurate).unwrap();
    let mut scorer = Scorer::new(model()).unwrap();
    let mut comparison = Comparison::new(model(), DISTANCE).unwrap();
    let columns = scorer.manifest().outputs.len();
    let whole_contig = [Strand::Forward, Strand::Reverse].map(|s| whole(&mut scorer, contig, s));
    let mut random = Random(7);
    let (mut compared, mut large) = (0, 0);
    while compared < ALLELES {
        let length = match random.below(3) {
            0 => 1,
            _ => 1 + random.below(9),
        };
        let position = match random.below(10) {
            0 => random.below(40),
            1 => contig.len() - length - random.below(40),
            // An exon's ends lie there.
            2 => 650 + random.below(20),
            3 => 750 + random.below(20),
            _ => random.below(contig.len() - length),
        };
        let reference = &contig[position..position + length];
        let by = 1 + random.below(9);
        let alternative = match random.below(4) {
            // Spelled with bases that stay.
            0 => [&reference[..1], &random.bases(by)].concat(),
            1 => reference[..1 + random.below(length)].to_vec(),
            2 => [reference, reference].concat(),
            3 if random.below(2) == 0 => random.bases(length),
            _ => random.bases(by),
        };
        let sequence = [
            &contig[..position],
            &alternative,
            &contig[position + length..],
        ]
        .concat();
        let base = |at: u64| Ok::<u8, Unscored>(contig[at as usize]);
        let change = Change::new(position as u64, reference, &alternative, base);
        let Ok(change) = change else {
            assert_eq!(sequence, contig);
            continue;
        };
        let reach = comparison.reach() as u64;
        let [before, behind] = around(&change.replaced, reach, contig.len() as u64);
        let codes =
            |range: std::ops::Range<u64>| contig[range.start as usize..range.end as usize].to_vec();
        let place = Place {
            start: change.replaced.start,
            before: codes(before),
            replaced: codes(change.replaced.clone()),
            by: change.by,
            ended: behind.end == contig.len() as u64,
            behind: codes(behind),
        };
        let strand = [Strand::Forward, Strand::Reverse][compared % 2];
        let after = whole(&mut scorer, &sequence, strand);
        let mut shifts = vec![];
        comparison.run(&place, strand, &mut shifts).unwrap();
        assert_eq!(shifts.len(), 2);
        let kinds = comparison.compared().iter().map(|own| own.kind);
        assert!(kinds.eq([CallKind::Acceptor, CallKind::Donor]));
        for (column, shift) in shifts.iter().enumerate() {
            let scores = [&whole_contig[compared % 2][..], &after];
            let expected = expected([contig, &sequence], scores, (column, columns)).unwrap();
            let what = format!("{position} {reference:?} {alternative:?} {strand} {column}");
            assert_eq!(shift.gain, expected.gain, "{what}");
            assert_eq!(shift.loss, expected.loss, "{what}");
            if shift.gain > 0.0 {
                assert_eq!(shift.gain_at, expected.gain_at, "{what}");
            }
            if shift.loss > 0.0 {
                assert_eq!(shift.loss_at, expected.loss_at, "{what}");
            }
            large += usize::from(shift.gain.max(shift.loss) > 0.2);
        }
        compared += 1;
    }
    assert!(large > 20, "{large} alleles with an effect");
}

fn strandline(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strandline"))
        .current_dir(folder)
        .args(words)
        .output()
        .unwrap()
}

fn letters(codes: &[u8]) -> String {
    codes
        .iter()
        .map(|&c| char::from(nucleotide::letter(c)))
        .collect()
}

/// A gene as contig `chr7`, with lines of 60, and a VCF whose header has two lines and samples.
fn files(folder: &Path, records: &[String]) -> Vec<u8> {
    let gene = gene();
    let text = letters(&gene);
    let lines: Vec<&str> = (0..text.len())
        .step_by(60)
        .map(|from| &text[from..text.len().min(from + 60)])
        .collect();
    let fasta = format!(">chr7 a gene\n{}\n>chrM\nACGT\n", lines.join("\n"));
    fs::write(folder.join("ref.fa"), fasta).unwrap();
    let header = "##fileformat=VCFv4.3\n##INFO=<ID=STRANDLINE,Number=1,Type=String,\
        Description=\"old\">\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n";
    fs::write(
        folder.join("in.vcf"),
        format!("{header}{}\n", records.join("\n")),
    )
    .unwrap();
    gene
}

fn line(position: usize, reference: &str, alternative: &str) -> String {
    format!("7\t{position}\t.\t{reference}\t{alternative}\t.\tPASS\tDP=3\tGT\t0|1")
}

#[test]
fn every_record_comes_out_with_scores_or_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let gene = gene();
    let at = |position: usize| letters(&gene[position - 1..position]);
    let other = |position: usize| match at(position).as_str() {
        "A" => "C",
        _ => "A",
    };
    let wrong = other(300).to_string();
    let records = [
        line(300, &at(300), other(300)),
        line(300, &at(300).to_lowercase(), other(300)),
        line(300, &wrong, &at(300)),
        line(301, &at(301), "*"),
        line(301, &at(301), "<DEL>,<*>"),
        line(301, &at(301), "."),
        line(301, &at(301), "]13:123456]A"),
        line(301, &at(301), "R"),
        line(301, &at(301), &at(301)),
        line(300, &at(300), &format!("{},<NON_REF>", other(300))),
        line(900_000, "A", "C"),
        line(0, "N", "<DEL>"),
        "8\t5\t.\tA\tC\t.\t.\t.\tGT\t0/1".into(),
        "MT\t1\t.\tA\tC\t.\t.\tSTRANDLINE=old\tGT\t0/1".into(),
        "7\tx\t.\tA\tC\t.\t.\t.\tGT\t0/1".into(),
        "7\t12".into(),
        line(300, &at(300), other(300)) + "\t0/1",
    ];
    files(folder.path(), &records);
    let run = strandline(
        folder.path(),
        &[
            "variants", "--vcf", "in.vcf", "--ref", "ref.fa", "-o", "out.vcf",
        ],
    );
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success(), "{said}");
    assert!(
        said.contains("17 records in: 14 written, 3 left out; 4 alleles scored, 12 not"),
        "{said}"
    );
    for expected in [
        "in.vcf: line 18, byte",
        "POS at byte 2 is no position",
        "in.vcf: line 19, byte",
        "ends before ID",
        "11 columns, and the header names 10",
        "7:300",
        "REF is not what stands in the reference",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(folder.path().join("ref.fa.fai").exists());
    let out = fs::read_to_string(folder.path().join("out.vcf")).unwrap();
    let own: Vec<&str> = out.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(own.len(), 14);
    assert_eq!(out.matches("ID=STRANDLINE,").count(), 1);
    for ((line, record), reason) in own.iter().zip(&records).zip([
        "",
        "",
        "reference-differs",
        "spanning-deletion",
        "symbolic",
        "no-alternative",
        "breakend",
        "letters",
        "no-change",
        "any-allele",
        "beyond-contig",
        "symbolic",
        "no-contig",
        "",
    ]) {
        let (own, given): (Vec<&str>, Vec<&str>) =
            (line.split('\t').collect(), record.split('\t').collect());
        assert_eq!(own.len(), given.len());
        for (column, (own, given)) in own.iter().zip(&given).enumerate() {
            assert!(column == 7 || own == given, "{line}");
        }
        assert!(own[7].contains(reason), "{line}");
        assert_eq!(
            own[7].contains("STRANDLINE_UNSCORED="),
            !reason.is_empty(),
            "{line}"
        );
        assert!(!own[7].contains("old"), "{line}");
    }
    let scores = |line: &str| {
        let fields = line.split('\t').nth(7).unwrap().split(';');
        let own = fields
            .filter(|field| field.starts_with("STRANDLINE="))
            .collect::<Vec<_>>();
        own.concat()
    };
    // Case of letters does not count, nor do alleles beside.
    assert!(scores(own[0]).matches('|').count() == 20, "{}", own[0]);
    assert_eq!(scores(own[0]), scores(own[1]));
    assert_eq!(scores(own[0]), scores(own[9]));
}

#[test]
fn spellings_threads_and_compression_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let gene = gene();
    let text = letters(&gene);
    // The first repeat of a letter: one more of it can be written before, between and behind.
    let repeat = (400..).find(|&at| gene[at] == gene[at + 1]).unwrap();
    let letter = &text[repeat..=repeat];
    let before = &text[repeat - 1..repeat];
    let mut records = vec![
        line(repeat, before, &format!("{before}{letter}")),
        line(repeat + 1, letter, &format!("{letter}{letter}")),
        line(repeat + 2, letter, &format!("{letter}{letter}")),
        line(
            repeat,
            &text[repeat - 1..=repeat],
            &format!("{before}{letter}{letter}"),
        ),
    ];
    for at in 0..80 {
        let position = 1000 + 97 * at;
        let own = &text[position - 1..position];
        records.push(line(position, own, if own == "G" { "T" } else { "G" }));
    }
    files(folder.path(), &records);
    let compressed = fs::File::create(folder.path().join("in.vcf.gz")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(compressed, flate2::Compression::fast());
    let plain = fs::read(folder.path().join("in.vcf")).unwrap();
    std::io::Write::write_all(&mut gzip, &plain).unwrap();
    gzip.finish().unwrap();
    let reference = fs::read(folder.path().join("ref.fa")).unwrap();
    let held = fs::File::create(folder.path().join("held.fa.gz")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(held, flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &reference).unwrap();
    gzip.finish().unwrap();
    let run = |words: &[&str]| {
        let all = [&["variants", "--tier", "fast", "--vcf"][..], words].concat();
        let run = strandline(folder.path(), &all);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{said}");
        String::from_utf8(run.stdout).unwrap()
    };
    let one = run(&["in.vcf", "--ref", "ref.fa", "--threads", "1"]);
    assert_eq!(one, run(&["in.vcf", "--ref", "ref.fa", "--threads", "3"]));
    assert_eq!(one, run(&["in.vcf.gz", "--ref", "held.fa.gz"]));
    let tsv = run(&[
        "in.vcf", "--ref", "ref.fa", "--format", "tsv", "--tasks", "splice",
    ]);
    let rows: Vec<Vec<&str>> = tsv.lines().map(|line| line.split('\t').collect()).collect();
    // Two strands with two scores each, and the header.
    assert_eq!(rows.len(), 1 + 4 * records.len());
    assert!(rows.iter().all(|row| row.len() == 14));
    for row in 0..4 {
        // What is the same is told from POS as it is written.
        let own: Vec<i64> = (0..4)
            .map(|spelling| {
                let own = &rows[1 + 4 * spelling + row];
                assert_eq!(own[7..10], rows[1 + row][7..10]);
                own[10].parse::<i64>().unwrap() + own[1].parse::<i64>().unwrap()
            })
            .collect();
        assert_eq!(own, [own[0]; 4]);
    }
}

#[test]
fn what_is_no_vcf_or_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    files(folder.path(), &[line(5, "N", "A")]);
    for (name, text, expected) in [
        ("a.vcf", "", "a.vcf: no VCF"),
        ("b.vcf", "chr1\t1\n", "b.vcf: no VCF"),
        (
            "c.vcf",
            "##fileformat=VCFv4.2\n",
            "c.vcf: ends in its header",
        ),
        (
            "d.vcf",
            "##fileformat=VCFv4.2\n7\t5\t.\tA\tC\t.\t.\t.\n",
            "before #CHROM",
        ),
        ("e.vcf", "BCF\u{2}\u{2}", "bcftools view"),
        ("in.vcf", "", "is it another build"),
    ] {
        if !text.is_empty() || name == "a.vcf" {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let words = [
            "variants", "--vcf", name, "--ref", "ref.fa", "-o", "out.vcf",
        ];
        let run = strandline(folder.path(), &words);
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(expected), "{name}: {said}");
    }
    for (words, expected) in [
        (&["--mask"][..], "--gff"),
        (&["--tasks", "te"], "scores no single bases"),
        (&["--distance", "0"], "0 is not in"),
        (&["-o", "in.vcf"], "is read"),
        (&["-o", "ref.fa"], "is read"),
        (&["--tier", "auto"], "fast or accurate"),
    ] {
        let all = [&["variants", "--vcf", "in.vcf", "--ref", "ref.fa"], words].concat();
        let run = strandline(folder.path(), &all);
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(expected), "{words:?}: {said}");
    }
    let words = ["variants", "--vcf", "-", "--ref", "ref.fa", "--gff", "-"];
    let run = strandline(folder.path(), &words);
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(2), "{said}");
    assert!(said.contains("can be read once only"), "{said}");
    // Which of two sequences of one name is meant?
    fs::write(folder.path().join("two.fa"), ">a\nACGT\n>a\nTTTT\n").unwrap();
    let words = ["variants", "--vcf", "in.vcf", "--ref", "two.fa"];
    let run = strandline(folder.path(), &words);
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("two sequences of the name a"), "{said}");
    let words = ["variants", "--vcf", "in.vcf", "--ref", "none.fa"];
    let run = strandline(folder.path(), &words);
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("none.fa"), "{said}");
}

#[test]
fn genes_give_strands_symbols_and_a_mask() {
    let folder = tempfile::tempdir().unwrap();
    let gene = gene();
    // A donor of the sample gene, by the table of its sites.
    let sites = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sites.tsv");
    let sites = fs::read_to_string(sites).unwrap();
    let donor = sites
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>());
    let donor = donor
        .filter(|site| site[0] == "g172" && site[5] == "donor")
        .nth(1)
        .unwrap();
    // 0-based, the last base of the exon; the G of its GT is the next.
    let edge: usize = donor[4].parse().unwrap();
    assert_eq!(letters(&gene[edge + 1..edge + 3]), "GT");
    let broken = line(edge + 2, "G", "C");
    let outside = line(
        3,
        &letters(&gene[2..3]),
        if gene[2] == 0 { "C" } else { "A" },
    );
    files(folder.path(), &[broken.clone(), outside]);
    let gff = format!(
        "chr7\tx\tgene\t10\t{}\t.\t+\t.\tID=g;Name=ONE 1\nchr7\tx\tmRNA\t10\t{}\t.\t+\t.\tID=t;\
         Parent=g\nchr7\tx\texon\t10\t{}\t.\t+\t.\tParent=t\n",
        gene.len(),
        gene.len(),
        edge + 1
    );
    fs::write(folder.path().join("g.gff3"), gff).unwrap();
    let words = [
        "variants", "--vcf", "in.vcf", "--ref", "ref.fa", "--gff", "g.gff3",
    ];
    let run = |more: &[&str]| {
        let run = strandline(folder.path(), &[&words[..], more].concat());
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(run.status.success(), "{said}");
        let text = String::from_utf8(run.stdout).unwrap();
        let own = text.lines().filter(|line| !line.starts_with('#'));
        own.map(str::to_string).collect::<Vec<_>>()
    };
    let own = run(&[]);
    assert!(own[1].contains("STRANDLINE_UNSCORED="), "{}", own[1]);
    assert!(own[1].contains("no-gene"), "{}", own[1]);
    let field = own[0]
        .split("STRANDLINE=")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    let parts: Vec<&str> = field.split('|').collect();
    assert_eq!(parts.len(), 11);
    assert_eq!(parts[..3], ["C", "+", "ONE%201"]);
    let loss: f32 = parts[6].parse().unwrap();
    assert!(loss > 0.5, "the donor is lost: {field}");
    assert_eq!(parts[10], "-1", "{field}");
    // A deletion that begins before the gene and reaches into it.
    let reaching = line(8, &letters(&gene[7..14]), &letters(&gene[7..8]));
    let header = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\n";
    fs::write(
        folder.path().join("in.vcf"),
        format!("{header}{reaching}\n"),
    )
    .unwrap();
    assert!(run(&[])[0].contains("STRANDLINE="), "{:?}", run(&[]));
    fs::write(folder.path().join("in.vcf"), format!("{header}{broken}\n")).unwrap();
    // It is an exon's end of the annotation: its loss counts with the mask, too.
    let masked = run(&["--mask"]);
    assert!(
        masked[0].contains(&format!("|{}|", parts[6])),
        "{}",
        masked[0]
    );
}
