//! One gene: its transcripts, and the calls above them.

use super::svg::{CALLS, TRACK, call_table, legend, picture, text, track};
use super::text::{bases, details, share, table, whole};
use crate::call::{CallKind, Strand};
use crate::sink::markup::escaped;
use crate::study::gene_calls::{CalledGene, Sites};
use std::ops::Range;

/// Transcripts that are drawn.
const TRANSCRIPTS: usize = 12;

/// Pixels from one transcript to the next, and of an exon.
const ROW: f64 = 26.0;
const EXON: f64 = 9.0;

/// The section of a gene; `asked` is the only one that was looked for.
pub(super) fn section(best: Option<&CalledGene>, asked: Option<&str>) -> String {
    let Some(called) = best else {
        let which = match asked {
            Some(symbol) => format!("the gene {}", escaped(symbol)),
            None => "a gene".to_string(),
        };
        log::warn!("the report shows no gene: no record of the annotation's sequences holds one");
        return format!(
            "<section id=\"gene\"><h2>A gene</h2><p>No record of an annotated sequence held \
             {which} whole and has calls in it. Records must bear the names of the annotation's \
             sequences.</p></section>\n"
        );
    };
    let gene = &called.gene;
    let (calls, left_out) = called.calls.clone().finish();
    let mut kinds: Vec<CallKind> = calls.iter().map(|call| call.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let why = match asked {
        Some(_) => "",
        None => " It is the gene of most calls among those that a record holds whole.",
    };
    let mut about = format!("{} calls on both strands", whole(called.calls.seen()));
    if left_out > 0 {
        about += &format!("; the weakest {} are not drawn", whole(left_out));
    }
    let drawn = gene.transcripts.len().min(TRANSCRIPTS);
    let high = TRACK + 2.0 * ROW + drawn as f64 * ROW;
    let content = track(&calls, gene.start, gene.end) + &sites(called) + &transcripts(called);
    let title = format!("{} and its calls", gene.symbol);
    let more = match gene.transcripts.len() - drawn {
        0 => String::new(),
        more => format!(
            "<p class=\"note\">{more} more transcripts are not drawn, but their sites count.</p>"
        ),
    };
    format!(
        "<section id=\"gene\"><h2>Gene <bdi>{}</bdi></h2><p><bdi>{}</bdi>, bases \
         {} to {} ({}), {} strand; transcripts: {}; {about}.{why}</p>{}\
         <figure class=\"track\">{}</figure>{more}\
         <h3>Sites</h3>{}{}{}<p class=\"note\">Annotated sites are ends of exons at introns, on \
         the gene's strand; a call counts as one where it names the very base. Calls at no \
         annotated site are not all false: an annotation may lack sites.</p></section>\n",
        escaped(&gene.symbol),
        escaped(&called.record),
        whole(gene.start),
        whole(gene.end),
        bases(gene.end - gene.start),
        gene.strand,
        gene.transcripts.len(),
        legend(&kinds),
        picture("gene-picture", high, &title, &about, &content),
        counts(&called.sites),
        details("Annotated sites as a table", &site_table(&called.sites)),
        details("Calls as a table", &call_table("Calls in the gene", &calls))
    )
}

/// How many sites were called, and how many calls are at none.
fn counts(sites: &[Sites; 2]) -> String {
    let rows = ["donor", "acceptor"]
        .into_iter()
        .zip(sites)
        .map(|(kind, own)| {
            let (all, found) = (own.annotated.len(), own.found());
            vec![
                kind.to_string(),
                whole(all as u64),
                whole(found as u64),
                share(found as f64, all as f64),
                whole(own.elsewhere),
            ]
        });
    let head = [
        "kind",
        "annotated",
        "of them called",
        "recall",
        "calls at no site",
    ];
    table("Sites of the gene", 1, &head, &rows.collect::<Vec<_>>())
}

fn site_table(sites: &[Sites; 2]) -> String {
    let mut all: Vec<(u64, &str, bool)> = vec![];
    for (kind, own) in ["donor", "acceptor"].into_iter().zip(sites) {
        all.extend(own.annotated.iter().map(|&(at, called)| (at, kind, called)));
    }
    all.sort_unstable();
    let rows = all.into_iter().map(|(at, kind, called)| {
        let called = if called { "called" } else { "not called" };
        vec![kind.to_string(), called.to_string(), whole(at)]
    });
    table(
        "Annotated sites",
        2,
        &["kind", "was", "base, from 0"],
        &rows.collect::<Vec<_>>(),
    )
}

/// Where a base of the gene stands across.
fn place(gene: &Range<u64>, position: u64) -> f64 {
    let length = (gene.end - gene.start).max(1) as f64;
    (position.saturating_sub(gene.start) as f64 / length).clamp(0.0, 1.0)
}

/// Annotated sites, filled where they were called: donors above acceptors.
fn sites(called: &CalledGene) -> String {
    let gene = called.gene.start..called.gene.end;
    let y = TRACK + 1.2 * ROW;
    let mut out = text(
        &CALLS.across(0.0),
        y - 8.0,
        "start",
        "annotated sites: filled where called",
    );
    let rows = [("donor", y), ("acceptor", y + 9.0)].into_iter();
    for ((kind, y), own) in rows.zip(&called.sites) {
        for &(at, found) in &own.annotated {
            let (state, class) = if found {
                ("called", "found")
            } else {
                ("not called", "missed")
            };
            out += &format!(
                "\n<circle class=\"{class} {kind}\" cx=\"{}\" cy=\"{y:.1}\" r=\"3\"><title>{kind} \
                 {}: {state}</title></circle>",
                CALLS.across(place(&gene, at)),
                whole(at)
            );
        }
    }
    out
}

/// Exons of each transcript on its line.
fn transcripts(called: &CalledGene) -> String {
    let gene = called.gene.start..called.gene.end;
    let mut out = String::new();
    for (row, transcript) in called.gene.transcripts.iter().take(TRANSCRIPTS).enumerate() {
        let y = TRACK + 2.0 * ROW + (row as f64 + 0.6) * ROW;
        let (Some(first), Some(last)) = (transcript.exons.first(), transcript.exons.last()) else {
            continue;
        };
        out += &text(&CALLS.across(0.0), y - 7.0, "start", &transcript.name);
        out += &format!(
            "<line class=\"intron\" x1=\"{}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            CALLS.across(place(&gene, first.start)),
            CALLS.across(place(&gene, last.end))
        );
        for (place_in_row, exon) in transcript.exons.iter().enumerate() {
            // Exons are counted in the direction of the gene.
            let number = match called.gene.strand {
                Strand::Forward => place_in_row + 1,
                Strand::Reverse => transcript.exons.len() - place_in_row,
            };
            let (from, to) = (place(&gene, exon.start), place(&gene, exon.end));
            out += &format!(
                "\n<rect class=\"exon\" x=\"{}\" width=\"{}\" y=\"{:.1}\" height=\"{EXON}\">\
                 <title>exon {} of {}: {} to {}</title></rect>",
                CALLS.across(from),
                CALLS.wide(to - from),
                y - EXON / 2.0,
                number,
                escaped(&transcript.name),
                whole(exon.start),
                whole(exon.end)
            );
        }
    }
    out
}
