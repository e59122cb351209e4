use super::splice_tsv::boundary;
use super::*;
use crate::call::Flags;
use crate::call::Strand;

fn models() -> Vec<ModelTag> {
    vec![
        ModelTag {
            name: "splice".into(),
            version: "1.0".into(),
            base_rates: vec![(CallKind::Donor, 0.002), (CallKind::Acceptor, 0.001)],
        },
        ModelTag {
            name: "utr;x| 1".into(),
            version: "2".into(),
            base_rates: Vec::new(),
        },
    ]
}

fn call(start: u64, end: u64, strand: Strand, kind: CallKind, score: f32) -> Call {
    Call {
        start,
        end,
        strand,
        kind,
        score,
        flags: Flags::NONE,
        model: u8::from(kind == CallKind::Expression),
    }
}

/// A donor and an acceptor on each strand, a promoter and a 5'UTR.
fn calls() -> Vec<Call> {
    use CallKind::*;
    use Strand::*;
    let mut calls = vec![
        call(99, 100, Forward, Donor, 0.9),
        call(150, 151, Reverse, Acceptor, 0.123_46),
        call(200, 201, Forward, Acceptor, 0.000_04),
        call(250, 251, Reverse, Donor, 1.0),
        call(300, 301, Forward, Promoter, 0.5),
        call(310, 360, Reverse, Expression, 6.123_6),
    ];
    calls[1].flags = Flags::SHORT_CONTEXT | Flags::AMBIGUOUS;
    calls[5].flags = Flags::UNVERIFIED_5P;
    calls
}

fn written(format: Format, name: &[u8]) -> String {
    let mut writer = CallWriter::new(Vec::new(), format, models());
    writer.header().unwrap();
    // The same bytes must come out when the calls come in two portions.
    let calls = calls();
    writer.write_calls(name, &calls[..2]).unwrap();
    writer.write_calls(name, &calls[2..]).unwrap();
    assert_eq!(writer.written() + writer.left_out(), calls.len() as u64);
    String::from_utf8(writer.finish().unwrap()).unwrap()
}

#[test]
fn names_go_both_ways() {
    for format in Format::ALL {
        assert_eq!(format.to_string().parse(), Ok(*format));
    }
    let error = "bam".parse::<Format>().unwrap_err().to_string();
    let expected = "unknown format `bam`: expected tsv, bed, gff3, bedgraph, jsonl";
    assert!(error.starts_with(expected), "{error}");
    let last = Format::ALL[Format::ALL.len() - 1];
    assert!(error.ends_with(&format!(" or {last}")), "{error}");
}

#[test]
fn tsv() {
    assert_eq!(
        written(Format::Tsv, b"r1"),
        "#read\tstart\tend\tstrand\tkind\tscore\tmodel\tflags\n\
         r1\t99\t100\t+\tdonor\t0.9000\tsplice/1.0\t.\n\
         r1\t150\t151\t-\tacceptor\t0.1235\tsplice/1.0\tshort-context,ambiguous\n\
         r1\t200\t201\t+\tacceptor\t0.0000\tsplice/1.0\t.\n\
         r1\t250\t251\t-\tdonor\t1.0000\tsplice/1.0\t.\n\
         r1\t300\t301\t+\tpromoter\t0.5000\tsplice/1.0\t.\n\
         r1\t310\t360\t-\texpression\t6.124\tutr;x| 1/2\t5p-unverified\n"
    );
}

#[test]
fn bed() {
    assert_eq!(
        written(Format::Bed, b"r1"),
        "#chrom\tchromStart\tchromEnd\tname\tscore\tstrand\tthickStart\tthickEnd\titemRgb\n\
         r1\t99\t100\tdonor|0.9000|splice/1.0|.\t900\t+\t99\t100\t0,114,178\n\
         r1\t150\t151\tacceptor|0.1235|splice/1.0|short-context,ambiguous\t123\t-\t150\t151\t\
         213,94,0\n\
         r1\t200\t201\tacceptor|0.0000|splice/1.0|.\t0\t+\t200\t201\t213,94,0\n\
         r1\t250\t251\tdonor|1.0000|splice/1.0|.\t1000\t-\t250\t251\t0,114,178\n\
         r1\t300\t301\tpromoter|0.5000|splice/1.0|.\t500\t+\t300\t301\t0,158,115\n\
         r1\t310\t360\texpression|6.124|utr;x%7C%201/2|5p-unverified\t612\t-\t310\t360\t\
         230,159,0\n"
    );
}

#[test]
fn gff3() {
    assert_eq!(
        written(Format::Gff3, b">r;1\xff"),
        "##gff-version 3\n\
         %3Er%3B1%EF%BF%BD\tstrandline\tfive_prime_cis_splice_site\t100\t100\t0.9000\t+\t.\t\
         ID=%3Er%3B1%EF%BF%BD:100-100:+:donor:splice/1.0;Name=donor;model=splice/1.0\n\
         %3Er%3B1%EF%BF%BD\tstrandline\tthree_prime_cis_splice_site\t151\t151\t0.1235\t-\t.\t\
         ID=%3Er%3B1%EF%BF%BD:151-151:-:acceptor:splice/1.0;Name=acceptor;model=splice/1.0;\
         flags=short-context,ambiguous\n\
         %3Er%3B1%EF%BF%BD\tstrandline\tthree_prime_cis_splice_site\t201\t201\t0.0000\t+\t.\t\
         ID=%3Er%3B1%EF%BF%BD:201-201:+:acceptor:splice/1.0;Name=acceptor;model=splice/1.0\n\
         %3Er%3B1%EF%BF%BD\tstrandline\tfive_prime_cis_splice_site\t251\t251\t1.0000\t-\t.\t\
         ID=%3Er%3B1%EF%BF%BD:251-251:-:donor:splice/1.0;Name=donor;model=splice/1.0\n\
         %3Er%3B1%EF%BF%BD\tstrandline\tTSS\t301\t301\t0.5000\t+\t.\t\
         ID=%3Er%3B1%EF%BF%BD:301-301:+:promoter:splice/1.0;Name=promoter;model=splice/1.0\n\
         %3Er%3B1%EF%BF%BD\tstrandline\tfive_prime_UTR\t311\t360\t.\t-\t.\t\
         ID=%3Er%3B1%EF%BF%BD:311-360:-:expression:utr%3Bx| 1/2;Name=expression;\
         mean_ribosome_load=6.124;model=utr%3Bx| 1/2;flags=5p-unverified\n"
    );
}

#[test]
fn bedgraph_has_neither_a_track_line_nor_signs() {
    assert_eq!(
        written(Format::Bedgraph, b"r1"),
        "r1\t99\t100\t0.9000\n\
         r1\t150\t151\t0.1235\n\
         r1\t200\t201\t0.0000\n\
         r1\t250\t251\t1.0000\n\
         r1\t300\t301\t0.5000\n\
         r1\t310\t360\t6.124\n"
    );
}

#[test]
fn bedgraph_keeps_the_stronger_of_two_overlapping_calls() {
    use CallKind::*;
    use Strand::*;
    let mut writer = CallWriter::new(Vec::new(), Format::Bedgraph, models());
    writer
        .write_calls(b"a", &[call(5, 6, Forward, Donor, 0.3)])
        .unwrap();
    writer
        .write_calls(b"a", &[call(5, 6, Reverse, Acceptor, 0.7)])
        .unwrap();
    // Another read with the same coordinates, then one of the same name that starts again.
    writer
        .write_calls(b"b", &[call(5, 6, Forward, Donor, 0.6)])
        .unwrap();
    writer
        .write_calls(b"b", &[call(2, 3, Forward, Donor, 0.4)])
        .unwrap();
    assert_eq!((writer.written(), writer.left_out()), (3, 1));
    let text = String::from_utf8(writer.finish().unwrap()).unwrap();
    assert_eq!(text, "a\t5\t6\t0.7000\nb\t5\t6\t0.6000\nb\t2\t3\t0.4000\n");
}

#[test]
fn labels_are_fields_of_each_object() {
    let labels = [("sample", "P\"7"), ("run", "")];
    let labels = labels.map(|(key, value)| (key.to_string(), value.to_string()));
    let mut writer = CallWriter::new(Vec::new(), Format::Jsonl, models()).labelled(&labels);
    let calls = [
        call(2, 3, Strand::Forward, CallKind::Donor, 0.5),
        call(5, 6, Strand::Reverse, CallKind::Donor, 0.25),
    ];
    writer.write_calls(b"b", &calls).unwrap();
    let text = String::from_utf8(writer.finish().unwrap()).unwrap();
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["sample"], "P\"7");
        assert_eq!(object["run"], "");
        assert_eq!(object["read"], "b");
        assert!(
            line.ends_with(r#","flags":[],"sample":"P\"7","run":""}"#),
            "{line}"
        );
    }
}

#[test]
fn json_lines() {
    let text = written(Format::Jsonl, b"r\"1");
    assert_eq!(
        text,
        concat!(
            r#"{"read":"r\"1","start":99,"end":100,"strand":"+","kind":"donor","#,
            r#""score":0.9,"model":"splice","version":"1.0","flags":[]}"#,
            "\n",
            r#"{"read":"r\"1","start":150,"end":151,"strand":"-","kind":"acceptor","#,
            r#""score":0.1235,"model":"splice","version":"1.0","#,
            r#""flags":["short-context","ambiguous"]}"#,
            "\n",
            r#"{"read":"r\"1","start":200,"end":201,"strand":"+","kind":"acceptor","#,
            r#""score":0.0,"model":"splice","version":"1.0","flags":[]}"#,
            "\n",
            r#"{"read":"r\"1","start":250,"end":251,"strand":"-","kind":"donor","#,
            r#""score":1.0,"model":"splice","version":"1.0","flags":[]}"#,
            "\n",
            r#"{"read":"r\"1","start":300,"end":301,"strand":"+","kind":"promoter","#,
            r#""score":0.5,"model":"splice","version":"1.0","flags":[]}"#,
            "\n",
            r#"{"read":"r\"1","start":310,"end":360,"strand":"-","kind":"expression","#,
            r#""score":6.124,"model":"utr;x| 1","version":"2","flags":["5p-unverified"]}"#,
            "\n",
        )
    );
}

#[test]
fn splice_tsv_names_boundaries() {
    // -2.5 + 0.4 log2(odds / base odds): 2.35, 0.36, -4.36 and, of certainty, no limit.
    assert_eq!(
        written(Format::SpliceTsv, b"chr1"),
        "chr1\t100\t+\tD\t2\n\
         chr1\t151\t-\tA\t0\n\
         chr1\t200\t+\tA\t-4\n\
         chr1\t250\t-\tD\t13\n"
    );
}

#[test]
fn a_boundary_lies_on_the_intron_side_of_the_exon_edge() {
    use CallKind::*;
    use Strand::*;
    // Exons [0, 10) and [20, 30) of a forward gene, and of one on the reverse strand: there the
    // exon [20, 30) comes first, so its lowest base is the donor.
    assert_eq!(boundary(9, Forward, Donor), Some(10));
    assert_eq!(boundary(20, Forward, Acceptor), Some(20));
    assert_eq!(boundary(20, Reverse, Donor), Some(20));
    assert_eq!(boundary(9, Reverse, Acceptor), Some(10));
    assert_eq!(boundary(9, Forward, Promoter), None);
}

#[test]
fn splice_tsv_needs_a_base_rate() {
    let mut donor = call(5, 6, Strand::Forward, CallKind::Donor, 0.5);
    donor.model = 1;
    let mut writer = CallWriter::new(Vec::new(), Format::SpliceTsv, models());
    let error = writer.write_calls(b"r", &[donor]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model utr;x| 1 states no base rate for a donor, which splice-tsv needs"
    );
    donor.model = 2;
    let error = writer.write_calls(b"r", &[donor]).unwrap_err();
    assert_eq!(error.to_string(), "a call names model 2 of 2");
    assert_eq!(writer.finish().unwrap(), b"");
}

#[test]
fn names_that_are_no_text_are_made_fit() {
    let one = [call(1, 2, Strand::Forward, CallKind::Donor, 0.5)];
    let first_field = |format, name: &[u8]| {
        let mut writer = CallWriter::new(Vec::new(), format, models());
        writer.write_calls(name, &one).unwrap();
        let text = String::from_utf8(writer.finish().unwrap()).unwrap();
        text.split('\t').next().unwrap().to_owned()
    };
    let seqid = |name: &[u8]| first_field(Format::Gff3, name);
    for (name, in_a_column, in_gff3) in [
        // What the specification of GFF3 allows is the same everywhere.
        (
            "gi|1:c-9*$@!+_?^.2",
            "gi|1:c-9*$@!+_?^.2",
            "gi|1:c-9*$@!+_?^.2",
        ),
        ("a b/c", "a b/c", "a%20b%2Fc"),
        (">a", ">a", "%3Ea"),
        ("gène", "gène", "g%C3%A8ne"),
        ("b\x01c", "b\u{fffd}c", "b%EF%BF%BDc"),
        ("", ".", "."),
        // Not a comment.
        ("#a#", "%23a#", "%23a%23"),
    ] {
        for format in [Format::Tsv, Format::Bed, Format::Bedgraph] {
            assert_eq!(first_field(format, name.as_bytes()), in_a_column);
        }
        assert_eq!(seqid(name.as_bytes()), in_gff3);
    }
    assert_eq!(first_field(Format::Tsv, b"a\xffb"), "a\u{fffd}b");
    assert_eq!(seqid(b"a\xffb"), "a%EF%BF%BDb");
    assert_eq!(first_field(Format::SpliceTsv, b"#a"), "#a");
}
