use super::*;
use crate::reads::nucleotide::{N, letter};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use std::io::{self, Cursor, Write};

const SMALL: Limits = Limits {
    max_read_len: 20,
    chunk_bases: 4,
};

/// What a whole input gave: good records as `name:BASES`, rejects as their message without the
/// file.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    records: Vec<String>,
    rejects: Vec<String>,
    failure: Option<String>,
}

fn drain(mut reader: Reader) -> (Seen, u64) {
    let mut chunk = Chunk::with_capacity(8);
    let mut seen = Seen {
        records: Vec::new(),
        rejects: Vec::new(),
        failure: None,
    };
    let mut text: Option<String> = None;
    loop {
        match reader.next_chunk(&mut chunk) {
            Ok(Step::Chunk) => {
                assert_eq!(chunk.first, text.is_none());
                let open = text
                    .get_or_insert_with(|| format!("{}:", String::from_utf8_lossy(&chunk.name)));
                let header = String::from_utf8_lossy(&chunk.name).len() + 1;
                if !matches!(chunk.end, Some(RecordEnd::Rejected(_))) {
                    assert_eq!(chunk.start, (open.len() - header) as u64);
                }
                open.extend(chunk.codes.iter().map(|&c| letter(c) as char));
                match chunk.end.take() {
                    Some(RecordEnd::Complete) => seen.records.extend(text.take()),
                    Some(RecordEnd::Rejected(reject)) => {
                        text = None;
                        seen.rejects.push(reject.to_string());
                    }
                    None => {}
                }
            }
            Ok(Step::Rejected(reject)) => {
                assert!(text.is_none());
                seen.rejects.push(reject.to_string());
            }
            Ok(Step::End) => break,
            Err(e) => {
                seen.failure = Some(e.to_string());
                assert_eq!(reader.next_chunk(&mut chunk).ok(), Some(Step::End));
                break;
            }
        }
    }
    assert!(text.is_none(), "a record without an end");
    (seen, reader.records())
}

fn read_with(reader: impl Read + Send + 'static, limits: Limits) -> Seen {
    match Reader::new("f".into(), Box::new(reader), limits, 0) {
        Ok(reader) => {
            let (seen, records) = drain(reader);
            assert_eq!(records as usize, seen.records.len() + seen.rejects.len());
            seen
        }
        Err(e) => Seen {
            records: Vec::new(),
            rejects: Vec::new(),
            failure: Some(e.to_string()),
        },
    }
}

fn read(bytes: &[u8]) -> Seen {
    read_with(Cursor::new(bytes.to_vec()), Limits::default())
}

#[track_caller]
fn expect(bytes: &[u8], records: &[&str], rejects: &[&str], failure: Option<&str>) {
    let expected = Seen {
        records: records.iter().map(|s| s.to_string()).collect(),
        rejects: rejects.iter().map(|s| format!("f: {s}")).collect(),
        failure: failure.map(|s| format!("f: {s}")),
    };
    for step in [1, 2, 3, 7, 1 << 20] {
        assert_eq!(
            read_with(Dribble::new(bytes, step), Limits::default()),
            expected
        );
    }
}

/// Hands out at most `step` bytes a read.
struct Dribble {
    bytes: Cursor<Vec<u8>>,
    step: usize,
}

impl Dribble {
    fn new(bytes: &[u8], step: usize) -> Dribble {
        Dribble {
            bytes: Cursor::new(bytes.to_vec()),
            step,
        }
    }
}

impl Read for Dribble {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = out.len().min(self.step);
        self.bytes.read(&mut out[..n])
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("a Vec");
    encoder.finish().expect("a Vec")
}

#[test]
fn letters_lines_and_names() {
    expect(b">a b c\nacgtuN\nryK\n", &["a:ACGTTNNNN"], &[], None);
    expect(
        b">a\tx\r\nAC\r\nGT\r\n>b\r\nT\r\n",
        &["a:ACGT", "b:T"],
        &[],
        None,
    );
    expect(b">a\nACGT", &["a:ACGT"], &[], None);
    expect(b">a\n\nAC\n\n\nGT\n\n>b\n\n", &["a:ACGT", "b:"], &[], None);
    expect(b"@a b\nACgu\n+a b\nII~!\n", &["a:ACGT"], &[], None);
    expect(b"@a\r\nACGT\r\n+\r\nIIII\r\n", &["a:ACGT"], &[], None);
    expect(b"@a\nACGT\n+\nIIII", &["a:ACGT"], &[], None);
    expect(
        b"\n \n@a\nA\n+\nI\n\n\r\n@a\nC\n+\n@\n\n",
        &["a:A", "a:C"],
        &[],
        None,
    );
    expect(b"@a\n\n+\n\n@b\nA\n+\nI\n", &["a:", "b:A"], &[], None);
    expect(b"@b\nA\n+\nI\n@a\n\n+\n", &["b:A", "a:"], &[], None);
    expect(b">a", &["a:"], &[], None);
    expect(b"", &[], &[], None);
    expect(b" \n\r\n", &[], &[], None);
}

#[test]
fn long_reads_and_contigs_come_in_chunks() {
    let bases = "ACGTN".repeat(80_000);
    let fastq = format!(
        "@long x\n{bases}\n+\n{}\n@b\nA\n+\nI\n",
        "@".repeat(400_000)
    );
    let seen = read(fastq.as_bytes());
    assert_eq!(seen.records, [format!("long:{bases}"), "b:A".into()]);
    let lines: String = bases
        .as_bytes()
        .chunks(60)
        .map(|l| format!("{}\n", String::from_utf8_lossy(l)))
        .collect();
    let seen = read(format!(">long x\n{lines}>b\nA").as_bytes());
    assert_eq!(seen.records, [format!("long:{bases}"), "b:A".into()]);

    let mut reader = Reader::new(
        "f".into(),
        Box::new(&b">a\nACG\nTA\nCGT\n>b\nACGT\n"[..]),
        SMALL,
        7,
    )
    .expect("FASTA");
    let mut chunk = Chunk::with_capacity(4);
    let mut pieces = Vec::new();
    while reader.next_chunk(&mut chunk).expect("good") == Step::Chunk {
        let complete = chunk.end == Some(RecordEnd::Complete);
        pieces.push((
            chunk.record,
            chunk.start,
            chunk.codes.len(),
            chunk.first,
            complete,
        ));
    }
    assert_eq!(
        pieces,
        [
            (7, 0, 4, true, false),
            (7, 4, 4, false, true),
            (8, 0, 4, true, true)
        ]
    );
}

#[test]
fn bad_fasta_records() {
    expect(
        b">a x\nA\n\n>b\nAC-T\nAC\n>c\nG\n",
        &["a:A", "c:G"],
        &["record 2 (b) at byte 8: '-' at byte 13 is no nucleotide"],
        None,
    );
    expect(
        b">\nACGT\n>b\nA\n",
        &["b:A"],
        &["record 1 at byte 0: the header has no name"],
        None,
    );
    expect(
        b">b\nA\n>",
        &["b:A"],
        &["record 2 at byte 5: the header has no name"],
        None,
    );
    expect(
        b"> b\nA\n",
        &[],
        &["record 1 at byte 0: the header has no name"],
        None,
    );
    expect(
        b">a\nAC\rGT\n>b\nA\n",
        &["b:A"],
        &["record 1 (a) at byte 0: byte 0x0d at byte 5 is no nucleotide"],
        None,
    );
    expect(
        b">a\nAC>b\nA\n",
        &[],
        &["record 1 (a) at byte 0: '>' at byte 5 is no nucleotide"],
        None,
    );
    expect(
        b">a\nAC A\n>b\nC \t\r\n",
        &["b:C"],
        &["record 1 (a) at byte 0: byte 0x20 at byte 5 is no nucleotide"],
        None,
    );
    expect(
        b">a\nA\n\x00\xff\x01\n\n\x1f>x\n>b\nC\n",
        &["b:C"],
        &["record 1 (a) at byte 0: byte 0x00 at byte 5 is no nucleotide"],
        None,
    );
    expect(
        b">a\x07b\nA\n>b\nC\n",
        &["b:C"],
        &["record 1 (a?b) at byte 0: byte 0x07 in the header, at byte 2"],
        None,
    );
    let long = format!(">{}\nA\n>b\nC\n", "n".repeat(MAX_HEADER));
    let shown = "n".repeat(60);
    expect(
        long.as_bytes(),
        &["b:C"],
        &[&format!(
            "record 1 ({shown}…) at byte 0: the header is longer than 65536 bytes"
        )],
        None,
    );
}

#[test]
fn a_contig_may_turn_out_bad_after_it_began() {
    let seen = read_with(Cursor::new(b">a\nACGTACGT*A\n>b\nC\n".to_vec()), SMALL);
    assert_eq!(seen.records, ["b:C"]);
    assert_eq!(
        seen.rejects,
        ["f: record 1 (a) at byte 0: '*' at byte 11 is no nucleotide"]
    );
}

#[test]
fn bad_fastq_records() {
    let after = b"@n\nA\n+\nI\n";
    let with = |bad: &[u8]| [b"@p\nC\n+\nI\n", bad, after].concat();
    let cases: [(&[u8], &str); 13] = [
        (
            b"@b x\nACGT\n+\nIII\n",
            " (b) at byte 9: 4 bases but 3 quality values",
        ),
        (
            b"@b\nACGT\n+\nIIIII\n",
            " (b) at byte 9: 4 bases but 5 quality values",
        ),
        (
            b"@b\nACGT\n+\n",
            " (b) at byte 9: 4 bases but 2 quality values",
        ),
        (
            b"@b\nAC!T\n+\nIIII\n",
            " (b) at byte 9: '!' at byte 14 is no nucleotide",
        ),
        (
            b"@b\nACGT\n+\nII\x07I\n",
            " (b) at byte 9: byte 0x07 at byte 21 is no quality value",
        ),
        (
            b"@b\nACGT\n+\nI I\n",
            " (b) at byte 9: 4 bases but 3 quality values",
        ),
        (b"@\nACGT\n+\nIIII\n", " at byte 9: the header has no name"),
        (
            b"@b\nAC\nGT\n@c",
            " (b) at byte 9: no line with '+' behind the sequence",
        ),
        (
            b"@b\nAC\n+c\nII\n",
            " (b) at byte 9: the line with '+' names another record",
        ),
        (b"@b\n", " (b) at byte 9: '@' at byte 12 is no nucleotide"),
        (
            b"junk\x00\x01\n@junk\xfe\n\n\n\x7f",
            " at byte 9: expected '@', found 'j'",
        ),
        (
            b"\xff\xfe\n+\n",
            " at byte 9: expected '@', found byte 0xff",
        ),
        (b"ACGT\n+\nIIII\n", " at byte 9: expected '@', found 'A'"),
    ];
    for (bad, message) in cases {
        // The junk without a line end takes the next header with it.
        let glued = bad.last() != Some(&b'\n');
        let mut bytes = with(bad);
        if glued {
            bytes = [&b"@p\nC\n+\nI\n"[..], bad, b"\n", after].concat();
        }
        expect(
            &bytes,
            &["p:C", "n:A"],
            &[&format!("record 2{message}")],
            None,
        );
    }
}

#[test]
fn a_quality_line_may_look_like_a_header() {
    // A lost quality line: what stands in its place is the next header.
    expect(
        b"@a\nACGT\n+\n@b\nCC\n+\n@I\n",
        &["b:CC"],
        &["record 1 (a) at byte 0: 4 bases but 2 quality values"],
        None,
    );
    // Lost in the middle, past quality lines that begin with '@'.
    expect(
        b"@a\nACGT\nAA\n+\n@III\n@b\nCC\n+\n@I\n",
        &["b:CC"],
        &["record 1 (a) at byte 0: 6 bases but 4 quality values"],
        None,
    );
}

#[test]
fn sequences_and_qualities_may_be_wrapped() {
    // In lines of their own lengths, with line ends that others leave behind.
    expect(
        b"@a x\nAC\nG\n+a x\nI\n@I\n\n@b\nAC \n \n+ \n@I\t\r\n@c\nAC\n+\n+\nI\n",
        &["a:ACG", "b:AC", "c:AC"],
        &[],
        None,
    );
    // A line of qualities that looks like a header, and the last one of the file.
    expect(
        b"@a\nACGTACGT\n+\nIIII\n@III\n@b\nAC\nGT\n+\n@I\n+I",
        &["a:ACGTACGT", "b:ACGT"],
        &[],
        None,
    );
    // Each header in a broken stretch is a record, and a damaged line costs its own.
    expect(
        b"@a\nAC\n+\nII\nII\n@b\nAC!\n+\nIII\n@c\nAC\n+\nI\n@d\nAC\n+\nII\n",
        &["a:AC", "d:AC"],
        &[
            "record 2 at byte 11: expected '@', found 'I'",
            "record 3 (c) at byte 27: 2 bases but 1 quality values",
        ],
        None,
    );
    // Without its qualities a wrapped record does not take those behind it along.
    expect(
        b"@a\nACGT\nACGT\nACGT\n+\nIIII\n@b\nAC\n+\nII\n@c\nACGTA\n+\nIIIII\n",
        &["b:AC", "c:ACGTA"],
        &["record 1 (a) at byte 0: 12 bases but 4 quality values"],
        None,
    );
}

#[test]
fn behind_a_lost_record_only_bases_make_a_cut_off_one() {
    let first = "record 1 (a) at byte 0: 4 bases but 2 quality values";
    // The last line may as well be one of qualities that begins with '@'.
    for last in ["AZ", "Z", "ACZ\nAC"] {
        let bytes = format!("@a\nACGT\n+\nII\n@II\n{last}");
        expect(bytes.as_bytes(), &[], &[first], None);
    }
    let second = "record 2 (II) at byte 13: cut off: the input ends inside the record";
    let failure = "cut off: the last record, 2 (II) at byte 13, has no end";
    expect(
        b"@a\nACGT\n+\nII\n@II\nAC",
        &[],
        &[first, second],
        Some(failure),
    );
}

#[test]
fn reads_above_the_limit_are_never_held() {
    let long = "A".repeat(1_000_000);
    let fastq = format!(
        "@a\n{long}\n+\n{long}\n@b\n{0}\n+\n{0}\n@c\n{0}A\n+\n{0}A\n",
        "C".repeat(20)
    );
    let mut reader = Reader::new(
        "f".into(),
        Box::new(Cursor::new(fastq.into_bytes())),
        SMALL,
        0,
    )
    .expect("FASTQ");
    let mut chunk = Chunk::with_capacity(4);
    let mut rejects = Vec::new();
    let mut bases = 0;
    loop {
        match reader.next_chunk(&mut chunk).expect("good") {
            Step::Chunk => bases += chunk.codes.len(),
            Step::Rejected(reject) => rejects.push(reject.reason.to_string()),
            Step::End => break,
        }
    }
    assert_eq!(
        rejects,
        [
            "1000000 bases, more than the limit of 20",
            "21 bases, more than the limit of 20"
        ]
    );
    assert_eq!(bases, 20);
    assert_eq!(chunk.codes.capacity(), 4);
    let Format::Fastq(fastq) = &reader.format else {
        panic!("FASTQ")
    };
    assert!(fastq.held() <= 20);
}

#[test]
fn records_cut_off() {
    let failure = |number, name, offset| {
        format!("cut off: the last record, {number} ({name}) at byte {offset}, has no end")
    };
    let reject = |number, name, offset| {
        format!(
            "record {number} ({name}) at byte {offset}: cut off: the input ends inside the record"
        )
    };
    for tail in [
        "@b",
        "@b\n",
        "@b\nAC",
        "@b\nAC\n",
        "@b\nAC\n+",
        "@b\nAC\n+\n",
        "@b\nAC\n+\nI",
    ] {
        let bytes = format!("@a\nA\n+\nI\n{tail}");
        expect(
            bytes.as_bytes(),
            &["a:A"],
            &[&reject(2, "b", 9)],
            Some(&failure(2, "b", 9)),
        );
    }
    // After a bad record too, where what follows looks like one.
    let bad = "record 1 (a) at byte 0: 1 bases but 2 quality values";
    expect(
        b"@a\nA\n+\nII\n@b\nAC",
        &[],
        &[bad, &reject(2, "b", 10)],
        Some(&failure(2, "b", 10)),
    );
    expect(
        b"@a\nA\n+\nII\n@b\nAC\n+\n",
        &[],
        &[bad, &reject(2, "b", 10)],
        Some(&failure(2, "b", 10)),
    );
    expect(b"@a\nA\n+\nII\n@II\n", &[], &[bad], None);
    // A whole line of the wrong length is no cut.
    expect(
        b"@b\nAC\n+\nI\n",
        &[],
        &["record 1 (b) at byte 0: 2 bases but 1 quality values"],
        None,
    );
    expect(
        b"@b\nAC\n+\nIII",
        &[],
        &["record 1 (b) at byte 0: 2 bases but 3 quality values"],
        None,
    );
}

#[test]
fn gzip_members_and_their_ends() {
    let one = gzip(b"@a\nA\n+\nI\n");
    let two = gzip(b"@b\nC\n+\nI\n");
    let both = [&one[..], &two].concat();
    expect(&both, &["a:A", "b:C"], &[], None);
    expect(&gzip(b""), &[], &[], None);
    for cut in 1..two.len() {
        let seen = read(&both[..one.len() + cut]);
        let message = format!(
            "f: gzip data cut off at byte {} of the compressed file",
            one.len() + cut
        );
        assert_eq!(seen.records[0], "a:A");
        assert_eq!(seen.failure, Some(message), "{cut}");
    }
    let bases = "ACGT".repeat(50_000);
    let contig = gzip(format!(">c\n{bases}\n").as_bytes());
    let seen = read(&contig[..contig.len() - 4]);
    assert_eq!(
        seen.rejects,
        ["f: record 1 (c) at byte 0: cut off: the input ends inside the record"]
    );
    let cut = contig.len() - 4;
    assert_eq!(
        seen.failure,
        Some(format!(
            "f: gzip data cut off at byte {cut} of the compressed file"
        ))
    );
    let mut damaged = one.clone();
    let crc = one.len() - 8;
    damaged[crc] ^= 1;
    let failure = read(&damaged).failure.expect("damage");
    assert!(
        failure.starts_with(&format!(
            "f: bad gzip data before byte {} of the compressed file: ",
            one.len() - 4
        )),
        "{failure}"
    );
    expect(
        &[&one[..], b"\x1f\x8b"].concat(),
        &["a:A"],
        &[],
        Some(&format!(
            "gzip data cut off at byte {} of the compressed file",
            one.len() + 2
        )),
    );
}

#[test]
fn bgzf_without_its_last_block_is_cut_off() {
    // A BGZF block: gzip with the extra field BC, here with a plain deflate stream of ">a\nAC\n".
    let plain = gzip(b">a\nAC\n");
    let mut block = plain[..10].to_vec();
    block[3] = 4;
    block.extend([6, 0, b'B', b'C', 2, 0, (plain.len() + 8 - 1) as u8, 0]);
    block.extend(&plain[10..]);
    let end: [u8; 28] = [
        31, 139, 8, 4, 0, 0, 0, 0, 0, 255, 6, 0, 66, 67, 2, 0, 27, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    expect(&[&block[..], &end].concat(), &["a:AC"], &[], None);
    // What is no block of BGZF needs no end block, and zeros behind the end are none.
    let other = gzip(b">b\nC\n");
    let mixed = [&block[..], &other].concat();
    expect(&mixed, &["a:AC", "b:C"], &[], None);
    for whole in [&[&block[..], &end].concat(), &mixed, &plain] {
        let padded = [whole, &[0; 1000][..]].concat();
        let records = &["a:AC", "b:C"][..if *whole == mixed { 2 } else { 1 }];
        expect(&padded, records, &[], None);
    }
    let failure = format!(
        "no end block behind byte {} of the compressed file: it may have been cut off between two \
         blocks",
        block.len()
    );
    expect(
        &block,
        &[],
        &["record 1 (a) at byte 0: cut off: the input ends inside the record"],
        Some(&failure),
    );
}

#[test]
fn what_is_no_sequence_file() {
    let cases: [(&[u8], &str); 7] = [
        (b"\x8bPOD\r\n\x1a\n123", "POD5 data at byte 0"),
        (b"\x89HDF\r\n\x1a\n123", "FAST5 (HDF5) data at byte 0"),
        (b"@HD\tVN:1.6\n", "SAM text at byte 0"),
        (b"\x00\x01\x02", "byte 0x00 at byte 0"),
        (b"\n\nhello", "'h' at byte 2"),
        (b";comment\n>a\nA\n", "';' at byte 0"),
        (&gzip(&gzip(b">a\nA\n")), "gzip data inside gzip at byte 0"),
    ];
    for (bytes, message) in cases {
        expect(
            bytes,
            &[],
            &[],
            Some(&format!("not a FASTA, FASTQ or BAM file: {message}")),
        );
    }
}

#[test]
fn files_that_cannot_be_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().display().to_string();
    let open =
        |path: &str| Reader::open(Input::from_argument(path), Limits::default(), 0).map(drop);
    assert_eq!(
        open(&path).expect_err("folder").to_string(),
        format!("{path}: is a folder, not a file")
    );
    let missing = format!("{path}/reads.fq");
    assert_eq!(
        open(&missing).expect_err("missing").to_string(),
        format!("{missing}: no such file")
    );
    std::fs::write(&missing, "").expect("writes");
    open(&missing).expect("an empty file");
    assert!(matches!(Input::from_argument("-"), Input::Stdin));
}

#[test]
fn an_error_of_the_system_comes_after_what_was_read() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let seen = read_with(
        Cursor::new(b"@a\nA\n+\nI\n@b\nAC\n+".to_vec()).chain(Fails),
        Limits::default(),
    );
    assert_eq!(seen.records, ["a:A"]);
    assert_eq!(
        seen.rejects,
        ["f: record 2 (b) at byte 9: cut off: the input ends inside the record"]
    );
    assert_eq!(
        seen.failure.as_deref(),
        Some("f: cannot read on at byte 16: the disk is gone")
    );
    let seen = read_with(
        Cursor::new(gzip(b"@a\nA\n+\nI\n")).chain(Fails),
        Limits::default(),
    );
    assert_eq!(seen.records, ["a:A"]);
    assert!(seen.failure.expect("fails").ends_with(": the disk is gone"));
}

#[derive(Debug, Clone)]
struct Record {
    name: String,
    bases: String,
}

fn records(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Record>> {
    let record =
        ("[!-~]{1,12}", "[ACGTUNacgtunRYK]{0,20}").prop_map(|(name, bases)| Record { name, bases });
    prop::collection::vec(record, count)
}

fn naive(record: &Record) -> String {
    let mut codes = Vec::new();
    crate::reads::nucleotide::encode(record.bases.as_bytes(), &mut codes);
    assert!(codes.iter().all(|&c| c <= N));
    let bases: String = codes.iter().map(|&c| letter(c) as char).collect();
    format!("{}:{bases}", record.name)
}

fn fastq(records: &[Record], quality: char) -> Vec<u8> {
    let record = |r: &Record| {
        let qualities = quality.to_string().repeat(r.bases.len());
        format!("@{} x\n{}\n+\n{qualities}\n", r.name, r.bases)
    };
    records.iter().map(record).collect::<String>().into_bytes()
}

fn fasta(records: &[Record], width: usize, end: &str) -> Vec<u8> {
    let mut text = String::new();
    for record in records {
        text += &format!(">{}{end}", record.name);
        for line in record.bases.as_bytes().chunks(width) {
            text += &format!("{}{end}", String::from_utf8_lossy(line));
        }
    }
    text.into_bytes()
}

proptest! {
    #[test]
    fn good_records_whatever_the_cutting(
        records in records(0..8),
        step in 1usize..40,
        width in 1usize..30,
        quality in "[!-~]",
        crlf: bool,
        zip: bool,
    ) {
        let expected: Vec<String> = records.iter().map(naive).collect();
        let end = if crlf { "\r\n" } else { "\n" };
        let quality = quality.chars().next().expect("one");
        for mut bytes in [fastq(&records, quality), fasta(&records, width, end)] {
            if zip {
                bytes = gzip(&bytes);
            }
            let seen = read_with(Dribble::new(&bytes, step), SMALL);
            prop_assert_eq!(&seen.records, &expected);
            prop_assert_eq!(seen.rejects.len(), 0);
            prop_assert_eq!(seen.failure, None);
        }
    }

    #[test]
    fn damage_never_panics_and_everything_is_counted(
        records in records(0..8),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6),
        step in 1usize..40, as_fasta: bool,
    ) {
        let mut bytes = if as_fasta { fasta(&records, 7, "\n") } else { fastq(&records, '@') };
        for (index, byte, what) in hits {
            if bytes.is_empty() {
                break;
            }
            let i = index.index(bytes.len());
            match what {
                0 => bytes[i] = byte,
                1 => drop(bytes.remove(i)),
                _ => bytes.insert(i, byte),
            }
        }
        // That records in = complete + rejected is asserted where they are read.
        let whole = read_with(Cursor::new(bytes.clone()), SMALL);
        prop_assert_eq!(read_with(Dribble::new(&bytes, step), SMALL), whole);
    }

    #[test]
    fn a_lost_byte_costs_one_record_and_its_neighbour_at_most(
        records in records(4..8), index: prop::sample::Index,
    ) {
        let mut bytes = fastq(&records, 'I');
        // Without its first byte it is no FASTQ file.
        bytes.remove(1 + index.index(bytes.len() - 1));
        let seen = read_with(Cursor::new(bytes), SMALL);
        prop_assert!(seen.records.len() + 2 >= records.len(), "{seen:?}");
    }
}
