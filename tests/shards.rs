//! `annotate --shard` and `--records`: every record in exactly one share, and the outputs of all
//! shares, end to end, those of one run.

mod binary;

use binary::{Ran, data, run};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use strandline::sink::bgzf::BgzfWriter;

fn annotate(files: &[PathBuf], more: &[&str]) -> Ran {
    let options = ["-q", "annotate", "--tasks", "promoter", "--min-score", "0"];
    let words = options.iter().chain(more).map(PathBuf::from);
    run(words.chain(files.iter().cloned()))
}

/// The outputs of all shards end to end, and whether each ended well.
fn shards(files: &[PathBuf], more: &[&str], of: usize) -> (Vec<u8>, Vec<i32>) {
    let mut all = vec![];
    let mut codes = vec![];
    for index in 1..=of {
        let shard = format!("{index}/{of}");
        let mut own = vec!["--shard", &shard];
        own.extend(more);
        if index > 1 {
            own.push("--no-header");
        }
        let ran = annotate(files, &own);
        all.extend(ran.out);
        codes.push(ran.code);
    }
    (all, codes)
}

/// Letters of the sample reads, cut into reads of many lengths.
fn reads() -> Vec<(String, String)> {
    let mut text = String::new();
    let packed = fs::File::open(data("reads.fastq.gz")).unwrap();
    flate2::read::MultiGzDecoder::new(packed)
        .read_to_string(&mut text)
        .unwrap();
    let letters: String = text.lines().skip(1).step_by(4).collect();
    let mut rest = &letters[..120_000];
    let mut all = vec![];
    while rest.len() > 1_500 {
        let length = [40, 900, 1, 311, 1_200, 77, 5, 640][all.len() % 8];
        let (own, behind) = rest.split_at(length);
        all.push((format!("read{}", all.len()), own.to_string()));
        rest = behind;
    }
    all
}

/// Reads as FASTQ: some with qualities that begin with `@` or `+`, some broken, blank lines, CRLF.
fn fastq(reads: &[(String, String)]) -> String {
    let mut text = String::new();
    for (number, (name, letters)) in reads.iter().enumerate() {
        let first = ["I", "@", "+", "A"][number % 4];
        let qualities = first.to_string() + &"ACGTI"[number % 5..].repeat(letters.len());
        let qualities = &qualities[..letters.len()];
        match number % 23 {
            7 => text += &format!("@{name}\n{letters}!\n+\n{qualities}I\n"),
            11 => text += &format!("@{name}\n{letters}\n+\n{qualities}I\n"),
            13 => text += &format!("@{name}\n{letters}\n"),
            17 => text += &format!("@{name}\r\n{letters}\r\n+{name}\r\n{qualities}\r\n\n\n"),
            19 => text += &format!("no record\n@{name} a comment\n{letters}\n+\n{qualities}\n"),
            _ => text += &format!("@{name}\n{letters}\n+\n{qualities}\n"),
        }
    }
    text
}

fn fasta(reads: &[(String, String)]) -> String {
    let record = |(name, letters): &(String, String)| {
        let lines: Vec<&str> = letters
            .as_bytes()
            .chunks(60)
            .map(|line| std::str::from_utf8(line).unwrap())
            .collect();
        format!(">{name} >not a header\n{}\n", lines.join("\n"))
    };
    reads.iter().map(record).collect()
}

/// Unaligned records, not packed.
fn bam(reads: &[(String, String)]) -> Vec<u8> {
    let mut bytes = b"BAM\x01\0\0\0\0\x01\0\0\0\x05\0\0\0chr1\0\xff\xff\0\0".to_vec();
    for (name, letters) in reads {
        let nibble = |letter: &u8| b"=ACMGRSVTWYHKDBN".iter().position(|l| l == letter);
        let nibble = |letter: Option<&u8>| letter.and_then(nibble).unwrap_or(0) as u8;
        let mut body = [0xff; 8].to_vec();
        body.extend([name.len() as u8 + 1, 0, 0, 0, 0, 0, 4, 0]);
        body.extend((letters.len() as u32).to_le_bytes());
        body.extend([0xff; 8]);
        body.extend([0; 4]);
        body.extend(name.as_bytes());
        body.push(0);
        for pair in letters.as_bytes().chunks(2) {
            body.push(nibble(pair.first()) << 4 | nibble(pair.get(1)));
        }
        body.extend(vec![30; letters.len()]);
        body.extend(b"mvBc\x03\0\0\0\x05\x01\x01");
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
    }
    bytes
}

/// BGZF, whose blocks of `size` bytes begin anywhere in a record.
fn bgzf(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut writer = BgzfWriter::new(vec![]);
    for piece in bytes.chunks(size) {
        writer.write_all(piece).unwrap();
        writer.flush().unwrap();
    }
    writer.finish(true).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzEncoder::new(vec![], Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn save(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn shards_give_the_bytes_of_one_run() {
    let folder = tempfile::tempdir().unwrap();
    let reads = reads();
    let (fastq, fasta, bam) = (fastq(&reads), fasta(&reads), bam(&reads));
    let save = |name: &str, bytes: &[u8]| save(folder.path(), name, bytes);
    let files = [
        save("a.fastq", fastq.as_bytes()),
        save("b.fasta", fasta.as_bytes()),
        save("c.bam", &bgzf(&bam, 3_000)),
        save("d.fastq.gz", &bgzf(fastq.as_bytes(), 1_000)),
        save("e.fastq.gz", &gzip(fastq.as_bytes())),
        save("f.bam", &bgzf(&bam, 60_000)),
        save("g.fasta.gz", &bgzf(fasta.as_bytes(), 40_000)),
        save("h.bam", &bam),
        save("i.fasta", b""),
    ];
    for files in files.iter().map(std::slice::from_ref).chain([&files[..]]) {
        let whole = annotate(files, &[]);
        assert_eq!(whole.code, 0, "{}", whole.err);
        let lines = whole.text().lines().count();
        assert!(lines > 1_000 || files[0].ends_with("i.fasta"), "{lines}");
        for of in [1, 2, 7, 40] {
            let (joined, codes) = shards(files, &[], of);
            assert_eq!(codes, vec![0; of], "{files:?}");
            assert!(joined == whole.out, "{files:?} in {of}");
        }
    }
    for format in ["bed", "gff3", "bedgraph", "jsonl"] {
        let whole = annotate(&files[..3], &["--format", format]);
        let (joined, _) = shards(&files[..3], &["--format", format], 5);
        assert!(joined == whole.out, "{format}");
    }
}

/// Shards that lie within one record have none.
#[test]
fn records_are_longer_than_shards() {
    let folder = tempfile::tempdir().unwrap();
    let reads = reads();
    let letters: String = reads.iter().map(|(_, letters)| letters.as_str()).collect();
    let long: Vec<(String, String)> = (0..4)
        .map(|number| {
            (
                format!("long{number}"),
                letters[number..].repeat(1 + number % 2),
            )
        })
        .collect();
    let fastq: String = long
        .iter()
        .map(|(name, letters)| format!("@{name}\n{letters}\n+\n{}\n", "I".repeat(letters.len())))
        .collect();
    let small = (10..90).map(|number| format!(">{number}\nACGT\n"));
    let small: String = small.collect();
    let save = |name: &str, bytes: &[u8]| save(folder.path(), name, bytes);
    for file in [
        save("a.fasta", fasta(&long).as_bytes()),
        save("b.fasta.gz", &bgzf(fasta(&long).as_bytes(), 5_000)),
        save("c.fastq", fastq.as_bytes()),
        save("d.fastq.gz", &bgzf(fastq.as_bytes(), 20_000)),
        save("e.bam", &bgzf(&bam(&long), 9_000)),
        // Blocks of some bytes, so that many begin before a record's first line has been seen.
        save("f.fastq.gz", &bgzf(self::fastq(&reads[..7]).as_bytes(), 1)),
        save("g.bam", &bgzf(&bam(&reads[..7]), 3)),
        // What tells the format lies in several blocks, and a shard begins with the second one.
        save("i.fastq.gz", &{
            let text = self::fastq(&reads[..7]);
            let mut writer = BgzfWriter::new(vec![]);
            for piece in [&text[..1], &text[1..]] {
                writer.write_all(piece.as_bytes()).unwrap();
                writer.flush().unwrap();
            }
            writer.finish(true).unwrap()
        }),
        // A record at each block's beginning, and others behind it.
        save("h.fasta.gz", &bgzf(small.as_bytes(), 9 * 7)),
    ] {
        let files = std::slice::from_ref(&file);
        let whole = annotate(files, &[]).exit(0);
        for of in [3, 50, 211] {
            let (joined, codes) = shards(files, &[], of);
            assert_eq!(codes, vec![0; of], "{file:?}");
            assert!(joined == whole.out, "{file:?} in {of}");
        }
    }
}

#[test]
fn records_are_shared_by_number() {
    let folder = tempfile::tempdir().unwrap();
    let text = fastq(&reads());
    let files = [
        save(folder.path(), "a.fastq.gz", gzip(text.as_bytes())),
        save(folder.path(), "b.fastq", &text),
    ];
    let counted = run(["count".as_ref(), files[0].as_path(), &files[1]]).exit(0);
    let total: u64 = counted
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("total\t")?.split('\t').next())
        .unwrap()
        .parse()
        .unwrap();
    let whole = annotate(&files, &[]);
    for of in [1, 2, 9] {
        let mut joined = String::new();
        for index in 0..of {
            let range = format!("{}-{}", index * total / of + 1, (index + 1) * total / of);
            let header = if index > 0 { &["--no-header"][..] } else { &[] };
            let more = [&["--records", &range], header].concat();
            joined += annotate(&files, &more).exit(0).text();
        }
        assert!(joined == whole.text(), "{of} shares of {total}");
    }
    let behind = format!("{}-{}", total + 1, total + 100);
    let behind = annotate(&files, &["--records", &behind]).exit(0);
    assert_eq!(behind.text().lines().count(), 1, "{}", behind.text());
}

/// What each share ends with says whether it is whole.
#[test]
fn good_and_bad_files_are_shared_as_they_are() {
    for entry in fs::read_dir(data("inputs")).unwrap() {
        let file = entry.unwrap().path();
        let files = std::slice::from_ref(&file);
        let whole = annotate(files, &[]);
        for of in [2, 5] {
            let (joined, codes) = shards(files, &[], of);
            let failed = codes.iter().any(|&code| code != 0);
            // Where a share cannot be cut out of a damaged file, it says so.
            if !failed || whole.code == 0 {
                let joined = String::from_utf8_lossy(&joined);
                assert_eq!(joined, whole.text(), "{file:?} {codes:?}");
            }
            let all_rejected = whole.err.contains("none of its");
            assert_eq!(failed, whole.code != 0 && !all_rejected, "{file:?}");
        }
    }
}

#[test]
fn what_looks_like_a_record_and_is_none_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    // Wrapped qualities that look like records.
    let mut text = String::new();
    for number in 0..200 {
        let letters = "ACGTACGTAC".repeat(4);
        let qualities = "@read\nACGTACGTAC\n+\nACGTACGTACACGTACGTACACGTA";
        text += &format!("@r{number}\n{letters}\nA\n+\n{qualities}\n");
    }
    let file = save(folder.path(), "wrapped.fastq", &text);
    let files = std::slice::from_ref(&file);
    let whole = annotate(files, &[]).exit(0);
    let mut failed = 0;
    for of in [2, 3, 4, 5, 6, 7, 8, 16] {
        let (joined, codes) = shards(files, &[], of);
        if codes.iter().all(|&code| code == 0) {
            assert!(joined == whole.out, "{of}");
        } else {
            failed += 1;
        }
    }
    assert!(failed > 0, "nothing was taken for a record");
    let shares = ["--records=1-90", "--records=91-200"];
    let first = annotate(files, &[shares[0]]).exit(0);
    let second = annotate(files, &[shares[1], "--no-header"]).exit(0);
    assert!([first.out, second.out].concat() == whole.out);
}
