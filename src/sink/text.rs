//! The lines of TSV, BED, GFF3 and JSON Lines, and read names made fit for them.

use super::ModelTag;
use crate::call::{Call, CallKind, Flags};
use serde::ser::{Serialize, Serializer};
use std::fmt::{self, Write as _};
use std::io::{self, Write};

/// A call's score as text: four decimals for a probability, three for the others.
pub(super) struct Score<'a>(pub &'a Call);

impl fmt::Display for Score<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.*}", decimals(self.0.kind), self.0.score)
    }
}

fn decimals(kind: CallKind) -> usize {
    if kind.is_probability() { 4 } else { 3 }
}

/// The characters of `name`: U+FFFD for control characters and for what is no UTF-8.
fn cleaned(name: &[u8]) -> impl Iterator<Item = char> {
    let fit = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    name.utf8_chunks().flat_map(move |chunk| {
        let lost = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        chunk.valid().chars().map(fit).chain(lost)
    })
}

/// `name` as UTF-8 without control characters, never empty.
pub(super) fn clean_name(name: &[u8], out: &mut String) {
    out.clear();
    out.extend(cleaned(name));
    if out.is_empty() {
        out.push('.');
    }
}

/// The same at the beginning of a line, which would be a comment if it began with `#`.
pub(super) fn first_column(name: &[u8], out: &mut String) {
    clean_name(name, out);
    if out.starts_with('#') {
        out.replace_range(..1, "%23");
    }
}

/// The same name with all characters percent-encoded that the GFF3 specification does not allow in
/// column 1.
pub(super) fn seqid(name: &[u8], out: &mut String) {
    out.clear();
    for c in cleaned(name) {
        if c.is_ascii_alphanumeric() || ".:^*$@!+_?-|".contains(c) {
            out.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    if out.is_empty() {
        out.push('.');
    }
}

/// Appends `text` with these characters percent-encoded, and control characters.
fn escaped(out: &mut Vec<u8>, text: &str, reserved: &[u8]) -> io::Result<()> {
    for byte in text.bytes() {
        if byte.is_ascii_control() || reserved.contains(&byte) {
            write!(out, "%{byte:02X}")?;
        } else {
            out.push(byte);
        }
    }
    Ok(())
}

pub(super) fn tsv(out: &mut Vec<u8>, name: &str, call: &Call, model: &str) -> io::Result<()> {
    write!(out, "{name}\t")?;
    columns(out, call, model, '\t')?;
    out.push(b'\n');
    Ok(())
}

/// A call without its read's name.
pub(super) fn columns(out: &mut Vec<u8>, call: &Call, model: &str, sep: char) -> io::Result<()> {
    let Call { start, end, .. } = call;
    let (strand, kind, score, flags) = (call.strand, call.kind, Score(call), call.flags);
    write!(
        out,
        "{start}{sep}{end}{sep}{strand}{sep}{kind}{sep}{score}{sep}{model}{sep}{flags}"
    )
}

pub(super) fn bed(out: &mut Vec<u8>, name: &str, call: &Call, model: &str) -> io::Result<()> {
    let Call { start, end, .. } = call;
    let (strand, kind, score, flags) = (call.strand, call.kind, Score(call), call.flags);
    // Of 10 ribosomes, and of rates between e^-5 and e^5 times the reference.
    let share = match kind {
        CallKind::Expression => call.score / 10.0,
        CallKind::PromoterStrength => (call.score + 5.0) / 10.0,
        _ => call.score,
    };
    // `as` takes NaN and negative values to 0.
    let shade = (share * 1000.0).round().min(1000.0) as u32;
    write!(out, "{name}\t{start}\t{end}\t{kind}|{score}|")?;
    // Blanks and quotes part columns in R.
    escaped(out, model, b" \"'%|")?;
    let colour = colour(kind);
    writeln!(out, "|{flags}\t{shade}\t{strand}\t{start}\t{end}\t{colour}")
}

/// Red, green and blue of a kind, from the palette of Okabe and Ito, which colour-blind readers
/// tell apart.
fn colour(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Donor => "0,114,178",
        CallKind::Acceptor => "213,94,0",
        CallKind::Promoter => "0,158,115",
        CallKind::Tf => "204,121,167",
        CallKind::Expression => "230,159,0",
        CallKind::PromoterStrength => "86,180,233",
    }
}

/// What has a meaning of its own in attributes of GFF3.
const RESERVED: &[u8] = b"%;=&,";

pub(super) fn gff3(out: &mut Vec<u8>, seqid: &str, call: &Call, model: &str) -> io::Result<()> {
    let (first, last, strand) = (call.start + 1, call.end, call.strand);
    let term = match call.kind {
        CallKind::Donor => "five_prime_cis_splice_site",
        CallKind::Acceptor => "three_prime_cis_splice_site",
        CallKind::Promoter => "TSS",
        CallKind::Tf => "TF_binding_site",
        CallKind::Expression => "five_prime_UTR",
        CallKind::PromoterStrength => "promoter",
    };
    write!(out, "{seqid}\tstrandline\t{term}\t{first}\t{last}\t")?;
    let (kind, score) = (call.kind, Score(call));
    if kind.is_probability() {
        write!(out, "{score}")?;
    } else {
        out.push(b'.');
    }
    // What is allowed in a seqid stands for itself in an attribute too.
    write!(
        out,
        "\t{strand}\t.\tID={seqid}:{first}-{last}:{strand}:{kind}:"
    )?;
    escaped(out, model, RESERVED)?;
    write!(out, ";Name={kind};")?;
    match kind {
        CallKind::Expression => write!(out, "mean_ribosome_load={score};")?,
        CallKind::PromoterStrength => write!(out, "log_rate={score};")?,
        _ => {}
    }
    out.extend_from_slice(b"model=");
    escaped(out, model, RESERVED)?;
    if call.flags != Flags::NONE {
        write!(out, ";flags={}", call.flags)?;
    }
    out.push(b'\n');
    Ok(())
}

#[derive(serde::Serialize)]
struct Object<'a> {
    read: &'a str,
    start: u64,
    end: u64,
    strand: char,
    kind: &'static str,
    score: f64,
    model: &'a str,
    version: &'a str,
    flags: FlagNames,
}

struct FlagNames(Flags);

impl Serialize for FlagNames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.names())
    }
}

pub(super) fn jsonl(
    out: &mut Vec<u8>,
    name: &str,
    call: &Call,
    model: &ModelTag,
    labels: &str,
) -> io::Result<()> {
    let unit = if decimals(call.kind) == 3 { 1e3 } else { 1e4 };
    let object = Object {
        read: name,
        start: call.start,
        end: call.end,
        strand: call.strand.symbol(),
        kind: call.kind.name(),
        score: (f64::from(call.score) * unit).round() / unit,
        model: &model.name,
        version: &model.version,
        flags: FlagNames(call.flags),
    };
    serde_json::to_writer(&mut *out, &object)?;
    // Before the object's end.
    out.pop();
    out.extend_from_slice(labels.as_bytes());
    out.extend_from_slice(b"}\n");
    Ok(())
}
