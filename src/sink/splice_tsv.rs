//! Splice scores for spliced alignment: what `minimap2 --spsc` (2.30 and later) and `miniprot
//! --spsc` (0.16 and later) read.
//!
//! Five tab-separated columns, no header: contig, offset, strand `+` or `-`, `D` or `A`, and an
//! integer score. The offset is "the number of bases before a splice junction" in forward
//! coordinates on both strands, so the boundary lies between bases offset − 1 and offset:
//!
//! | site | offset |
//! | --- | --- |
//! | `+` donor, `-` acceptor (exon below the boundary) | position of the exon-edge base + 1 |
//! | `+` acceptor, `-` donor (exon above it) | position of the exon-edge base |
//!
//! The score is the site's [`grade`] as a whole number from −7 to 13. A site that stands in no line
//! is as bad as the aligners' `--spsc0` has it (−7 in miniprot, −5 in minimap2), so there is a line
//! for every place that could be a site and whose grade is above −7 (see
//! [`Options::for_aligners`](crate::annotate::Options::for_aligners)).
//!
//! Checked against the sources: minimap2 2.30 `index.c` (`mm_idx_spsc_read2` reads the columns and
//! drops offsets that are not within 0 < offset < contig length; `mm_idx_spsc_get`),
//! `ksw2_exts2_sse.c` (the score of offset t + 1 is added to the donor whose exon ends with base t)
//! and the option in `minimap2.1`; miniprot 0.18 `ntseq.c` (`mp_ntseq_read_spsc`, which turns −
//! offsets into length − offset itself) and `nasw-sse.c` (`ns_prep_seq`); minisplice `bed.c`
//! (`msp_gen_pos`: the exon's end for a donor and its start for an acceptor, half-open) and
//! `predict.c` (`msp_eval_update`: 2 · log2 of the ratio of P to the base rate, where ours is a
//! grade; `msp_predict_print`: the columns).
//!
//! minisplice's base rate is the share of annotated sites among the GT (donor) or AG (acceptor)
//! dinucleotides it scores, not among all bases. A base rate per base would raise every score by
//! several units, so a model for this format states the rate among dinucleotides.

use super::ModelTag;
use crate::call::{Call, CallKind, Strand, grade};
use std::io::{self, Write};

/// The offset of the exon/intron boundary at the exon-edge base `position`; none for a call that is
/// no splice site.
pub fn boundary(position: u64, strand: Strand, kind: CallKind) -> Option<u64> {
    match (kind, strand) {
        (CallKind::Donor, Strand::Forward) | (CallKind::Acceptor, Strand::Reverse) => {
            Some(position + 1)
        }
        (CallKind::Acceptor, Strand::Forward) | (CallKind::Donor, Strand::Reverse) => {
            Some(position)
        }
        (
            CallKind::Promoter | CallKind::Tf | CallKind::Expression | CallKind::PromoterStrength,
            _,
        ) => None,
    }
}

/// Appends the line of a donor or an acceptor; false for any other call.
pub(super) fn line(
    out: &mut Vec<u8>,
    name: &str,
    call: &Call,
    model: &ModelTag,
) -> io::Result<bool> {
    let Some(offset) = boundary(call.start, call.strand, call.kind) else {
        return Ok(false);
    };
    let Some(base_rate) = model.base_rate(call.kind) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "model {} states no base rate for a {}, which splice-tsv needs",
                model.name, call.kind
            ),
        ));
    };
    let letter = if call.kind == CallKind::Donor {
        'D'
    } else {
        'A'
    };
    let strand = call.strand;
    let score = grade::grade(call.score, base_rate).round() as i32;
    writeln!(out, "{name}\t{offset}\t{strand}\t{letter}\t{score}")?;
    Ok(true)
}
