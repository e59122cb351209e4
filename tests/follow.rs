//! A folder that fills while the program is killed again and again: each read exactly once.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use strandline::lab::replay::{ReadData, load};
use strandline::reads::source::Input;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn follow(folder: &Path, output: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strandline"));
    command
        .args(["annotate", "--tier", "fast", "--threads", "1", "--follow"])
        .arg(folder)
        .arg("-o")
        .arg(output)
        .args(more)
        .stderr(Stdio::piped());
    command
}

fn fastq(reads: &[ReadData]) -> Vec<u8> {
    let mut text = vec![];
    for read in reads {
        text.push(b'@');
        text.extend(&read.name);
        text.push(b'\n');
        text.extend(&read.letters);
        text.extend(b"\n+\n");
        text.resize(text.len() + read.letters.len(), b'5');
        text.push(b'\n');
    }
    text
}

/// An unaligned BAM file in gzip members of 5,000 bytes.
fn bam(reads: &[ReadData]) -> Vec<u8> {
    let mut bytes = b"BAM\x01\x0b\0\0\0@HD\tVN:1.6\n\x01\0\0\0\x02\0\0\0c\0\x09\0\0\0".to_vec();
    for read in reads {
        let code = |b: &u8| match b.to_ascii_uppercase() {
            b'A' => 1,
            b'C' => 2,
            b'G' => 4,
            b'T' => 8,
            _ => 15,
        };
        let mut body = vec![0xff; 8];
        body.extend([read.name.len() as u8 + 1, 0, 0, 0, 0, 0, 4, 0]);
        body.extend((read.letters.len() as u32).to_le_bytes());
        body.extend([0xff; 12]);
        body.extend(&read.name);
        body.push(0);
        let pairs = read.letters.chunks(2);
        body.extend(pairs.map(|p| code(&p[0]) << 4 | p.get(1).map_or(0, code)));
        body.resize(body.len() + read.letters.len(), 20);
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
    }
    bytes.chunks(5000).flat_map(gzip).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn sorted(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The calls of a plain run.
fn expected(folder: &Path, reads: &[ReadData]) -> Vec<String> {
    let (file, output) = (folder.join("all.fq"), folder.join("all.tsv"));
    fs::write(&file, fastq(reads)).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_strandline"))
        .args(["annotate", "-q", "--tier", "fast", "-o"])
        .args([&output, &file])
        .status();
    assert!(run.unwrap().success());
    sorted(&output)
}

#[test]
fn each_read_comes_out_once_though_the_program_is_killed() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    let nested = folder.join("pass/barcode01");
    fs::create_dir_all(&nested).unwrap();
    let reads = load(Input::Path(data("reads.fastq.gz"))).unwrap();
    let output = scratch.path().join("calls.tsv");

    let filling = {
        let (reads, nested, folder) = (reads.clone(), nested.clone(), folder.clone());
        std::thread::spawn(move || {
            let mut random = ChaCha8Rng::seed_from_u64(5);
            for (number, group) in reads.chunks(13).enumerate() {
                let (bytes, ending) = match number % 3 {
                    0 => (fastq(group), "fastq"),
                    1 => (gzip(&fastq(group)), "fastq.gz"),
                    _ => (bam(group), "bam"),
                };
                let place = if number % 2 == 0 { &folder } else { &nested };
                // Some have another name while they grow.
                let name = place.join(format!("f{number}.{ending}"));
                let part = match number % 4 {
                    3 => place.join(format!("f{number}.{ending}.tmp")),
                    _ => name.clone(),
                };
                let mut file = File::create(&part).unwrap();
                let mut at = 0;
                while at < bytes.len() {
                    let to = (at + random.random_range(1..40_000)).min(bytes.len());
                    file.write_all(&bytes[at..to]).unwrap();
                    at = to;
                    std::thread::sleep(Duration::from_millis(random.random_range(0..40)));
                }
                fs::rename(&part, &name).unwrap();
            }
        })
    };
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let mut kills = 0;
    while !filling.is_finished() {
        let mut child = follow(&folder, &output, &["--quiet"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.random_range(20..500)));
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    filling.join().unwrap();
    assert!(kills > 2, "{kills}");
    // What the last one had begun and not committed goes.
    let last = follow(&folder, &output, &["--until-idle", "0.5"])
        .output()
        .unwrap();
    let said = String::from_utf8(last.stderr).unwrap();
    assert!(last.status.success(), "{said}");
    assert_eq!(sorted(&output), expected(scratch.path(), &reads));

    // A run more finds nothing new, and a compressed file is the one it was.
    let plain = fs::read(folder.join("f0.fastq")).unwrap();
    fs::write(nested.join("late.fastq.gz"), gzip(&plain)).unwrap();
    fs::remove_file(folder.join("f0.fastq")).unwrap();
    let before = fs::read(&output).unwrap();
    let again = follow(&folder, &output, &["--until-idle", "0.5"])
        .output()
        .unwrap();
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(
        again.status.success() && said.contains("reads    0 in"),
        "{said}"
    );
    assert_eq!(fs::read(&output).unwrap(), before);
}

#[test]
fn what_stays_incomplete_or_is_bad_is_reported_and_the_rest_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("run");
    fs::create_dir(&folder).unwrap();
    let reads = load(Input::Path(data("reads.fastq.gz"))).unwrap();
    let whole = fastq(&reads[..4]);
    fs::write(folder.join("a.fastq"), &whole[..whole.len() - 10]).unwrap();
    fs::write(folder.join("b.fastq"), fastq(&reads[4..8])).unwrap();
    fs::write(folder.join("c.fastq"), b"no reads\nat all\nin\nhere\n").unwrap();
    // Neither one that is no gzip behind its first bytes, nor one with damage in it.
    fs::write(folder.join("d.fastq.gz"), b"\x1f\x8b\x08rubbish").unwrap();
    let mut damaged = gzip(&fastq(&reads[8..12]));
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0xff);
    fs::write(folder.join("e.fastq.gz"), damaged).unwrap();
    fs::write(folder.join("f.bam"), bam(&reads[12..16])).unwrap();
    let mut sizes = vec![0xff; 4];
    sizes.splice(0..0, b"BAM\x01\0\0\0\0\0\0\0\0".iter().copied());
    sizes.resize(100, 9);
    fs::write(folder.join("g.bam"), sizes).unwrap();
    let output = scratch.path().join("calls.tsv");
    let run = follow(&folder, &output, &["--until-idle", "0.3"])
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(1), "{said}");
    for bad in ["d.fastq.gz", "e.fastq.gz", "g.bam"] {
        assert!(said.contains(&format!("{bad}: ")), "{bad}: {said}");
    }
    let calls = fs::read_to_string(&output).unwrap();
    let out = calls.lines().skip(1).filter_map(|l| l.split('\t').next());
    let out: std::collections::BTreeSet<&str> = out.collect();
    for read in reads[..3].iter().chain(&reads[4..8]).chain(&reads[12..16]) {
        let name = std::str::from_utf8(&read.name).unwrap();
        let alone = expected(scratch.path(), std::slice::from_ref(read));
        assert_eq!(out.contains(name), alone.len() > 1, "{name}");
    }
    assert!(
        said.contains("a.fastq: cut off: the last record, 4 ("),
        "{said}"
    );
    assert!(
        said.contains("c.fastq: not a FASTA, FASTQ or BAM file"),
        "{said}"
    );

    // What somebody adds is cut off, and said.
    fs::write(&output, format!("{calls}added by hand\n")).unwrap();
    let again = follow(&folder, &output, &["--until-idle", "0.3"])
        .output()
        .unwrap();
    let said = String::from_utf8(again.stderr).unwrap();
    let warning = "calls.tsv: 14 bytes behind its last commit were cut off";
    assert!(said.contains(warning), "{said}");
    assert_eq!(fs::read_to_string(&output).unwrap(), calls);

    let usage = follow(&folder, Path::new("-"), &[]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
    // An output that is not the journal's is left alone.
    fs::write(&output, b"x").unwrap();
    let other = follow(&folder, &output, &["--until-idle", "0.1"])
        .output()
        .unwrap();
    assert_eq!(other.status.code(), Some(1));
    assert_eq!(fs::read(&output).unwrap(), b"x");
}

/// The output was cut back, and the file whose reads must be annotated again has another name by
/// now, is compressed, or is nowhere.
#[test]
fn only_what_is_nowhere_is_said_to_be_gone() {
    let reads = load(Input::Path(data("reads.fastq.gz"))).unwrap();
    for (name, code) in [(Some("other.fastq"), 0), (Some("b.fastq.gz"), 0), (None, 1)] {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("run");
        fs::create_dir(&folder).unwrap();
        let output = scratch.path().join("calls.tsv");
        let run = || {
            let ran = follow(&folder, &output, &["--until-idle", "0.3"])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&ran.stderr).into_owned();
            (ran.status.code(), said)
        };
        // One after the other, so that the second is the last of the journal.
        fs::write(folder.join("a.fastq"), fastq(&reads[..20])).unwrap();
        assert_eq!(run().0, Some(0));
        fs::write(folder.join("b.fastq"), fastq(&reads[20..40])).unwrap();
        assert_eq!(run().0, Some(0));
        let whole = sorted(&output);
        let cut = fs::metadata(&output).unwrap().len() - 1;
        File::options()
            .write(true)
            .open(&output)
            .unwrap()
            .set_len(cut)
            .unwrap();
        let bytes = fs::read(folder.join("b.fastq")).unwrap();
        fs::remove_file(folder.join("b.fastq")).unwrap();
        if let Some(name) = name {
            let packed = name.ends_with(".gz");
            let bytes = if packed { gzip(&bytes) } else { bytes };
            fs::write(folder.join(name), bytes).unwrap();
        }
        let (ended, said) = run();
        assert_eq!(ended, Some(code), "{said}");
        assert_eq!(said.contains("is gone"), name.is_none(), "{said}");
        assert_eq!(sorted(&output) == whole, name.is_some());
    }
}

/// The clade that the first reads tell is that of the whole run, also of its parts after a restart.
#[test]
fn a_guessed_clade_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (reads, output) = (folder.path().join("reads"), folder.path().join("calls.tsv"));
    fs::create_dir(&reads).unwrap();
    let options = ["--clade", "auto", "--until-idle", "0.1"];
    let run = |options: &[&str]| {
        let done = follow(&reads, &output, options).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), said)
    };
    let (code, said) = run(&options);
    assert!(
        code == Some(2) && said.contains("0 bases are too few"),
        "{said}"
    );
    fs::copy(data("reads.fastq.gz"), reads.join("1.fastq.gz")).unwrap();
    let (code, said) = run(&options);
    assert!(
        code == Some(0) && said.contains("auto: vertebrate"),
        "{said}"
    );
    // Nothing is looked at again, and naming what was guessed changes nothing.
    fs::remove_file(reads.join("1.fastq.gz")).unwrap();
    for options in [&options[..], &options[2..]] {
        let (code, said) = run(options);
        assert!(code == Some(0) && !said.contains("auto:"), "{said}");
    }
    let (code, said) = run(&["--clade", "plant", "--until-idle", "0.1"]);
    assert!(code == Some(2) && said.contains("clade plant"), "{said}");
}
