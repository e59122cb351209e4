//! The histograms of the page.

use super::svg::{Bar, Histogram};
use super::text::{bases, details, fact, table, whole};
use crate::call::{CallKind, Flags};
use crate::stream::tally::{BINS, LengthBin, Lengths, Tally, range};

/// Kinds that have calls, in their order.
pub(super) fn kinds(tally: &Tally) -> Vec<CallKind> {
    let all = CallKind::ALL.into_iter();
    all.filter(|&kind| tally.scores[kind as usize].calls() > 0)
        .collect()
}

/// The section of read lengths.
pub(super) fn lengths(lengths: &Lengths) -> String {
    let bins = lengths.by_tenths();
    let (Some(first), Some(last)) = (bins.first(), bins.last()) else {
        return "<section id=\"lengths\"><h2>Read lengths</h2><p>No read was annotated to its \
                end.</p></section>\n"
            .to_string();
    };
    let count = bins.len() as f64;
    let decades = bins.len() / 10;
    // A phone has room for five labels.
    let step = decades.div_ceil(4);
    let ticks: Vec<(f64, String)> = (0..=decades)
        .filter(|decade| decade.is_multiple_of(step))
        .map(|decade| {
            let from = bins.get(10 * decade).map_or(last.to, |bin| bin.from);
            (decade as f64 / decades as f64, bases(from))
        })
        .collect();
    let place = |length: u64| (length.max(1) as f64 / first.from as f64).log10() / decades as f64;
    let marked = |name: &str, length: Option<u64>| {
        length.map(|length| (place(length), format!("{name} {}", bases(length))))
    };
    let chart = |id, title, about: String, of: fn(&LengthBin) -> u64, marked| {
        let bars = bins.iter().enumerate();
        let bars = bars.map(|(at, bin)| Bar {
            from: at as f64 / count,
            to: (at + 1) as f64 / count,
            count: of(bin),
            about: format!(
                "{} to {} b: {} reads, {} bases",
                whole(bin.from),
                whole(bin.to - 1),
                whole(bin.reads),
                whole(bin.bases)
            ),
        });
        let histogram = Histogram {
            id,
            title,
            about: &about,
            class: "bar",
            bars: bars.collect(),
            ticks: ticks.clone(),
            marked,
        };
        format!(
            "<figure><figcaption>{title}</figcaption>{}</figure>",
            histogram.svg()
        )
    };
    let (median, n50) = (lengths.median(), lengths.n50());
    let span = |unit: &str| {
        format!(
            "{unit} by read length on a logarithmic axis, from {} to {} bases",
            whole(first.from),
            whole(last.to)
        )
    };
    let filled = bins.iter().filter(|bin| bin.reads > 0);
    let rows = filled.map(|bin| {
        [bin.from, bin.to - 1, bin.reads, bin.bases]
            .map(whole)
            .to_vec()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let empty = match lengths.empty() {
        0 => String::new(),
        empty => fact("without bases", whole(empty)),
    };
    format!(
        "<section id=\"lengths\"><h2>Read lengths</h2><dl class=\"row\">{}{}{}{}{}{empty}</dl>\
         <div class=\"pair\">{}{}</div>{}<p class=\"note\">Of reads that are out, each as long as \
         it was read. Median and N50 are right to 0.4 %.</p></section>\n",
        fact("reads", whole(lengths.reads())),
        fact("bases", whole(lengths.bases())),
        fact("median", whole(median.unwrap_or(0))),
        fact("N50", whole(n50.unwrap_or(0))),
        fact("longest", whole(lengths.longest())),
        chart(
            "by-reads",
            "Reads by length",
            span("Reads"),
            |bin| bin.reads,
            marked("median", median)
        ),
        chart(
            "by-bases",
            "Bases by length of their read",
            span("Bases"),
            |bin| bin.bases,
            marked("N50", n50)
        ),
        details(
            "Read lengths as a table",
            &table("Read lengths", 0, &["from", "to", "reads", "bases"], &rows)
        )
    )
}

/// The edge of a bin of scores.
fn edge(kind: CallKind, bin: usize) -> String {
    let (low, high) = range(kind);
    format!("{:.2}", low + (high - low) * bin as f32 / BINS as f32)
}

/// What scores of a kind are.
fn unit(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Expression => "mean ribosome load",
        CallKind::PromoterStrength => "ln of the rate",
        _ => "probability",
    }
}

/// The section of calls by kind and score.
pub(super) fn scores(tally: &Tally) -> String {
    let kinds = kinds(tally);
    if kinds.is_empty() {
        return "<section id=\"scores\"><h2>Calls by score</h2><p>No calls.</p></section>\n"
            .to_string();
    }
    let charts = kinds.iter().map(|&kind| {
        let own = &tally.scores[kind as usize];
        let bars = (0..BINS).map(|bin| {
            let [forward, reverse] = own.bins.map(|bins| bins[bin]);
            Bar {
                from: bin as f64 / BINS as f64,
                to: (bin + 1) as f64 / BINS as f64,
                count: forward + reverse,
                about: format!(
                    "{} to {}: {} on +, {} on −",
                    edge(kind, bin),
                    edge(kind, bin + 1),
                    whole(forward),
                    whole(reverse)
                ),
            }
        });
        let ticks = (0..=4).map(|quarter| {
            let label = edge(kind, quarter * BINS / 4);
            (quarter as f64 / 4.0, label)
        });
        let title = format!("{kind}: {} calls by {}", whole(own.calls()), unit(kind));
        let histogram = Histogram {
            id: &format!("scores-{kind}"),
            title: &title,
            about: &format!("Calls in {BINS} bins of the score"),
            class: kind.name(),
            bars: bars.collect(),
            ticks: ticks.collect(),
            marked: None,
        };
        let rows = (0..BINS).map(|bin| {
            let [forward, reverse] = own.bins.map(|bins| whole(bins[bin]));
            vec![edge(kind, bin), edge(kind, bin + 1), forward, reverse]
        });
        let head = ["from", "to", "+ strand", "− strand"];
        let name = format!("{kind} calls by score");
        let rows = table(&name, 0, &head, &rows.collect::<Vec<_>>());
        format!(
            "<figure><figcaption>{title}</figcaption>{}{}</figure>\n",
            histogram.svg(),
            details("As a table", &rows)
        )
    });
    let charts: String = charts.collect();
    let counts = kinds.iter().map(|&kind| {
        let own = &tally.scores[kind as usize];
        let [forward, reverse] = own.strands();
        let counts = [forward, reverse].into_iter().chain(own.flags);
        let counts = counts.map(whole);
        [kind.to_string()].into_iter().chain(counts).collect()
    });
    let flags = Flags::NAMES.iter().map(|(_, name)| *name);
    let head: Vec<&str> = ["kind", "+ strand", "− strand"]
        .into_iter()
        .chain(flags)
        .collect();
    format!(
        "<section id=\"scores\"><h2>Calls by score</h2><div class=\"pair\">{charts}</div>\
         <h3>Strands and flags</h3>{}</section>\n",
        table(
            "Calls by strand and flag",
            1,
            &head,
            &counts.collect::<Vec<_>>()
        )
    )
}
