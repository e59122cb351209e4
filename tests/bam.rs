//! `annotate --format bam`: every record passed through, the annotated ones with their calls.

mod binary;

use binary::{data, run, run_with};
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

const END: &[u8] = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0\x1b\0\x03\0\0\0\0\0\0\0\0\0";

/// The header's text, and the records with their sizes.
fn parts(packed: &[u8]) -> (String, Vec<Vec<u8>>) {
    let mut bytes = vec![];
    let mut gunzip = flate2::read::MultiGzDecoder::new(packed);
    // A truncated file gives what it has.
    let _ = gunzip.read_to_end(&mut bytes);
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let text = number(4);
    let mut at = 12 + text;
    for _ in 0..number(8 + text) {
        at += 8 + number(at);
    }
    let mut records = vec![];
    while at + 4 <= bytes.len() && at + 4 + number(at) <= bytes.len() {
        records.push(bytes[at..at + 4 + number(at)].to_vec());
        at += 4 + number(at);
    }
    (
        String::from_utf8_lossy(&bytes[8..8 + text]).into_owned(),
        records,
    )
}

fn name(record: &[u8]) -> String {
    String::from_utf8_lossy(&record[36..35 + usize::from(record[12])]).into_owned()
}

/// A record without what was added, and the calls, if it was annotated.
fn split(record: &[u8], original: &[u8]) -> (bool, Option<Vec<String>>) {
    let same = record[4..].starts_with(&original[4..]);
    let added = &record[original.len()..];
    let Some([b'C', count, calls @ ..]) = added.strip_prefix(b"yn") else {
        return (same && added.is_empty(), None);
    };
    let calls: Vec<String> = match calls.strip_prefix(b"ycZ") {
        Some(text) => String::from_utf8_lossy(text)
            .trim_end_matches('\0')
            .split(';')
            .map(str::to_owned)
            .collect(),
        None => vec![],
    };
    assert_eq!(calls.len(), usize::from(*count));
    (same, Some(calls))
}

fn to_bam(input: &Path, output: &Path, code: i32) -> String {
    let arguments: [&Path; 9] = [
        "annotate".as_ref(),
        "--tasks".as_ref(),
        "promoter".as_ref(),
        "--min-score".as_ref(),
        "0".as_ref(),
        "--format=bam".as_ref(),
        "-o".as_ref(),
        output,
        input,
    ];
    run(arguments).exit(code).err
}

/// What a text run gives, by read.
fn calls(input: &Path) -> HashMap<String, Vec<String>> {
    let arguments: [&Path; 6] = [
        "annotate".as_ref(),
        "--tasks".as_ref(),
        "promoter".as_ref(),
        "--min-score".as_ref(),
        "0".as_ref(),
        input,
    ];
    let ran = run(arguments);
    let mut calls: HashMap<String, Vec<String>> = HashMap::new();
    for line in ran.text().lines().skip(1) {
        let (read, rest) = line.split_once('\t').unwrap();
        let list = calls.entry(read.to_owned()).or_default();
        list.push(rest.replace('\t', " "));
    }
    calls
}

#[test]
fn every_record_goes_on_and_has_the_calls_of_a_text_run() {
    let scratch = tempfile::tempdir().unwrap();
    let mut real: Vec<PathBuf> = [
        "good_unaligned.bam",
        "good_aligned.bam",
        "good_no_records.bam",
    ]
    .map(|f| data("inputs").join(f))
    .to_vec();
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/reads");
    if shared.is_dir() {
        real.extend(["ont_duplex_modbases.bam"].map(|f| shared.join(f)))
    } else {
        println!("skipped for real reads: {} is not there", shared.display())
    }
    for input in real {
        let output = scratch.path().join("out.bam");
        let said = to_bam(&input, &output, 0);
        let (before, after) = (fs::read(&input).unwrap(), fs::read(&output).unwrap());
        assert!(after.ends_with(END));
        let ((text, records), (new_text, new)) = (parts(&before), parts(&after));
        let added = new_text.strip_prefix(&text).unwrap();
        assert!(
            added.starts_with("@PG\tID:strandline\t") && added.lines().count() == 1,
            "{added}"
        );
        assert_eq!(new.len(), records.len());
        let expected = calls(&input);
        let mut passed = 0;
        for (record, original) in new.iter().zip(&records) {
            let (same, found) = split(record, original);
            assert!(same, "{}", name(original));
            match found {
                Some(found) => assert_eq!(
                    found,
                    expected.get(&name(original)).cloned().unwrap_or_default()
                ),
                None => passed += 1,
            }
        }
        let reported = said.contains(&format!(" + {passed} passed over"));
        assert_eq!(reported, passed > 0, "{said}");
        // Once more: the old tags give way.
        let again = scratch.path().join("again.bam");
        to_bam(&output, &again, 0);
        let (text, twice) = parts(&fs::read(&again).unwrap());
        assert!(text.contains("\tID:strandline.1\t") && text.contains("\tPP:strandline\t"));
        assert!(twice == new);
    }
}

#[test]
fn what_is_broken_is_reported_and_never_looks_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("out.bam");
    let part = scratch.path().join("out.bam.part");
    // Records in the output, exit code.
    for (file, records, code) in [
        ("bad_layout.bam", 2, 0),
        ("bad_tags.bam", 3, 0),
        ("bad_size.bam", 1, 1),
        ("bad_cut.bam", 2, 1),
        ("bad_no_end.bam", 3, 1),
    ] {
        let input = data("inputs").join(file);
        let said = to_bam(&input, &output, code);
        assert!(said.contains(file), "{said}");
        // What is not whole does not get its name.
        let out = fs::read(if code == 0 { &output } else { &part }).unwrap();
        assert_eq!(parts(&out).1.len(), records, "{file}");
        assert_eq!(out.ends_with(END), code == 0, "{file}");
    }
    // What was written before a strict run ends is there.
    let input = data("inputs").join("bad_layout.bam");
    let arguments = ["annotate", "--strict", "--format=bam", "-o"].map(AsRef::as_ref);
    run(arguments.into_iter().chain([&*output, &*input])).exit(1);
    let out = fs::read(&part).unwrap();
    assert!(parts(&out).1.len() == 1 && !out.ends_with(END));
    let before = fs::read(&output).unwrap();
    for file in ["bad_header.bam", "good_names.fq", "good_empty.fa"] {
        let said = to_bam(&data("inputs").join(file), &output, 1);
        assert!(said.contains(file), "{said}");
        assert!(
            fs::read(&output).unwrap() == before && !part.exists(),
            "{file}"
        );
    }
}

#[test]
fn bam_goes_through_a_pipe_and_with_no_live_option() {
    let input = fs::read(data("inputs").join("good_unaligned.bam")).unwrap();
    let ran = run_with(["annotate", "-", "--format", "bam"], &input).exit(0);
    assert_eq!(parts(&ran.out).1.len(), 3);
    let file = data("inputs").join("good_aligned.bam");
    let file = file.to_str().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("kept");
    fs::write(&output, "kept").unwrap();
    let out = output.to_str().unwrap();
    for wrong in [
        &["--format=bam", file, file][..],
        &["--format=bam", "--order=live", file],
        &["--format=bam", "--follow", "."],
        &["tcp://nowhere"],
        &["--policy", "nowhere.toml", file],
        &["--tasks=promoter", "--format=splice-tsv", file],
    ] {
        run([&["annotate", "-o", out][..], wrong].concat()).exit(2);
        assert_eq!(fs::read(&output).unwrap(), b"kept", "{wrong:?}");
    }
    // An input would be emptied before it is read.
    let own = scratch.path().join("own.bam");
    fs::write(&own, &input).unwrap();
    let own_name = own.to_str().unwrap();
    let dotted = scratch.path().join("./own.bam");
    let dotted = dotted.to_str().unwrap();
    run(["annotate", "--format=bam", own_name, "-o", dotted]).exit(2);
    assert_eq!(fs::read(&own).unwrap(), input);
    // Nothing is wrong with records that are passed over.
    run(["annotate", "--strict", file]).exit(0);
    let live = run(["annotate", "--order=live", file]).exit(0);
    let counted = "reads    5 in = 2 out + 0 rejected + 0 shed + 3 passed over";
    assert!(live.err.contains(counted), "{}", live.err);
    assert!(!live.err.contains("WARN"), "{}", live.err);
}
