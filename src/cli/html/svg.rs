//! Numbers, tables and charts of the page. Charts are as wide as their place, whatever that is:
//! across they are in percent, down in pixels, so letters keep their size on a phone.

use crate::call::{Call, CallKind, Strand};
use crate::sink::markup::escaped;
use crate::stream::tally::height;
use std::fmt::Display;

/// Percent of the width left and right of a plot.
const LEFT: f64 = 10.0;
const RIGHT: f64 = 2.0;

/// Pixels above a plot of bars, of the plot, and below it.
const ABOVE: f64 = 22.0;
const PLOT: f64 = 130.0;
const BELOW: f64 = 20.0;

/// Pixels from the axis of calls to a score of 1, and from there to the edge.
const STEM: f64 = 40.0;
const EDGE: f64 = 10.0;

/// Pixels that a track of calls takes, its axis of bases included.
pub(super) const TRACK: f64 = 2.0 * (STEM + EDGE) + BELOW;

/// With commas between thousands.
pub(super) fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Three digits and a unit, or all where there are no more.
pub(super) fn short(number: f64) -> String {
    let units = [(1e9, " G"), (1e6, " M"), (1e3, " k")];
    let unit = units.into_iter().find(|(size, _)| number >= *size);
    let Some((size, unit)) = unit else {
        return format!("{number:.0}");
    };
    let scaled = number / size;
    let decimals = match scaled {
        _ if scaled.fract() < 0.005 || scaled >= 100.0 => 0,
        _ if scaled >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{unit}")
}

/// The same of bases.
pub(super) fn bases(number: u64) -> String {
    let text = short(number as f64);
    let gap = if text.contains(' ') { "" } else { " " };
    format!("{text}{gap}b")
}

/// A part of a whole in percent, or a dash where there is no whole.
pub(super) fn share(part: f64, whole: f64) -> String {
    if whole > 0.0 {
        format!("{:.1} %", 100.0 * part / whole)
    } else {
        "–".to_string()
    }
}

/// Where something stands across, from a place in the plot from 0 to 1.
pub(super) fn across(place: f64) -> String {
    format!("{:.3}%", LEFT + place * (100.0 - LEFT - RIGHT))
}

/// The same of a width.
pub(super) fn wide(part: f64) -> String {
    format!("{:.3}%", part * (100.0 - LEFT - RIGHT))
}

/// A table that scrolls sideways where it must; the first columns of `text` are no numbers.
pub(super) fn table(label: &str, text: usize, head: &[&str], rows: &[Vec<String>]) -> String {
    let class = |place: usize| if place < text { "" } else { " class=\"n\"" };
    let head = head.iter().enumerate();
    let head: String = head
        .map(|(place, name)| format!("<th scope=\"col\"{}>{}</th>", class(place), escaped(name)))
        .collect();
    let rows = rows.iter().map(|row| {
        let cells = row.iter().enumerate();
        let cells: String = cells
            .map(|(place, cell)| format!("<td{}><bdi>{}</bdi></td>", class(place), escaped(cell)))
            .collect();
        format!("<tr>{cells}</tr>\n")
    });
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{}\"><table><thead><tr>\
         {head}</tr></thead><tbody>\n{}</tbody></table></div>",
        escaped(label),
        rows.collect::<String>()
    )
}

/// What is behind a chart, shown on request.
pub(super) fn details(summary: &str, content: &str) -> String {
    format!(
        "<details><summary>{}</summary>{content}</details>",
        escaped(summary)
    )
}

/// A picture with its title and description; `id` names it in the page.
pub(super) fn picture(id: &str, high: f64, title: &str, about: &str, content: &str) -> String {
    format!(
        "<svg role=\"img\" width=\"100%\" height=\"{high}\" aria-labelledby=\"{id}-t {id}-d\">\
         <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>\n{content}</svg>",
        escaped(title),
        escaped(about)
    )
}

/// A letter or a word in a picture; `anchor` is start, middle or end.
pub(super) fn text(x: &str, y: f64, anchor: &str, text: &str) -> String {
    format!(
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
        escaped(text)
    )
}

/// A bar of a histogram: its ends from 0 to 1, its count, and what is said of it.
pub(super) struct Bar {
    pub from: f64,
    pub to: f64,
    pub count: u64,
    pub about: String,
}

/// A histogram.
pub(super) struct Histogram<'a> {
    /// Its name in the page.
    pub id: &'a str,
    pub title: &'a str,
    pub about: &'a str,
    /// The class of its bars.
    pub class: &'a str,
    pub bars: Vec<Bar>,
    /// Places and labels.
    pub ticks: Vec<(f64, String)>,
    /// A place that stands out, and what it is.
    pub marked: Option<(f64, String)>,
}

impl Histogram<'_> {
    pub(super) fn svg(&self) -> String {
        let most = self.bars.iter().map(|bar| bar.count).max().unwrap_or(0);
        let top = round_up(most);
        let bottom = ABOVE + PLOT;
        let mut out = String::new();
        for part in [0.0, 0.5, 1.0] {
            let y = bottom - part * PLOT;
            let x = LEFT - 1.5;
            out += &format!(
                "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>",
                across(0.0),
                across(1.0)
            );
            // Half a call is none.
            if top.is_multiple_of(2) || part != 0.5 {
                let label = short(part * top as f64);
                out += &text(&format!("{x}%"), y + 4.0, "end", &label);
            }
        }
        for bar in self.bars.iter().filter(|bar| bar.count > 0) {
            let high = (PLOT * bar.count as f64 / top as f64).max(1.0);
            out += &format!(
                "\n<rect class=\"{}\" x=\"{}\" width=\"{}\" y=\"{:.1}\" height=\"{high:.1}\">\
                 <title>{}</title></rect>",
                self.class,
                across(bar.from),
                wide((bar.to - bar.from) * 0.92),
                bottom - high,
                escaped(&bar.about)
            );
        }
        out += &ticks(&self.ticks, bottom + 15.0);
        if let Some((place, label)) = &self.marked {
            let x = across(*place);
            let anchor = if *place > 0.5 { "end" } else { "start" };
            out += &format!(
                "<line class=\"marked\" x1=\"{x}\" x2=\"{x}\" y1=\"{}\" y2=\"{bottom}\"/>",
                ABOVE - 8.0
            );
            out += &text(&x, ABOVE - 11.0, anchor, label);
        }
        picture(self.id, bottom + BELOW, self.title, self.about, &out)
    }
}

/// Labels below an axis; those at its ends stay inside.
fn ticks(ticks: &[(f64, String)], y: f64) -> String {
    let labels = ticks.iter().map(|(place, label)| {
        let anchor = match place {
            _ if *place < 0.01 => "start",
            _ if *place > 0.99 => "end",
            _ => "middle",
        };
        text(&across(*place), y, anchor, label)
    });
    labels.collect()
}

/// The least of 1, 2 and 5 times a power of ten that is not below.
fn round_up(count: u64) -> u64 {
    let powers = (0..19).map(|power| 10_u64.pow(power));
    let rounds = powers.flat_map(|power| [power, 2 * power, 5 * power.min(u64::MAX / 5)]);
    rounds
        .into_iter()
        .find(|round| *round >= count)
        .unwrap_or(count)
}

/// Calls along bases: forward above the axis, reverse below it, as high as they score.
pub(super) fn track(calls: &[Call], from: u64, to: u64) -> String {
    let axis = STEM + EDGE;
    let length = (to - from).max(1) as f64;
    let place = |position: u64| position.saturating_sub(from) as f64 / length;
    let (start, end) = (across(0.0), across(1.0));
    let mut out = String::new();
    for (y, class) in [(axis - STEM, "grid"), (axis + STEM, "grid"), (axis, "axis")] {
        out +=
            &format!("<line class=\"{class}\" x1=\"{start}\" x2=\"{end}\" y1=\"{y}\" y2=\"{y}\"/>");
    }
    let sign = format!("{}%", LEFT - 1.5);
    out += &text(&sign, axis - STEM / 2.0 + 4.0, "end", "+ strand");
    out += &text(&sign, axis + STEM / 2.0 + 4.0, "end", "− strand");
    for call in calls {
        let high = STEM * f64::from(height(call.kind, call.score));
        let y = match call.strand {
            Strand::Forward => axis - high,
            Strand::Reverse => axis + high,
        };
        let x = across(place(call.start));
        let name = call.kind.name();
        out += &format!(
            "\n<g class=\"{name}\"><title>{}</title><line x1=\"{x}\" x2=\"{x}\" y1=\"{axis}\" \
             y2=\"{y:.1}\"/><use href=\"#m-{name}\" x=\"{x}\" y=\"{y:.1}\"/></g>",
            escaped(&about(call))
        );
    }
    let quarters = (0..=4).map(|quarter| {
        let part = f64::from(quarter) / 4.0;
        let at = from + (part * length).round() as u64;
        (part, bases(at))
    });
    out + &ticks(&quarters.collect::<Vec<_>>(), 2.0 * axis + 15.0)
}

/// What a call is, in words.
fn about(call: &Call) -> String {
    let place = if call.end == call.start + 1 {
        whole(call.start)
    } else {
        format!("{}-{}", whole(call.start), whole(call.end))
    };
    let (kind, strand, score) = (call.kind, call.strand, call.score);
    match call.flags.to_string().as_str() {
        "." => format!("{kind} {strand} {place}: {score:.4}"),
        flags => format!("{kind} {strand} {place}: {score:.4} ({flags})"),
    }
}

/// The table of the same calls.
pub(super) fn call_table(label: &str, calls: &[Call]) -> String {
    let rows = calls.iter().map(|call| {
        vec![
            call.kind.to_string(),
            call.strand.to_string(),
            call.flags.to_string(),
            whole(call.start),
            whole(call.end),
            format!("{:.4}", call.score),
        ]
    });
    let head = ["kind", "strand", "flags", "start", "end", "score"];
    table(label, 3, &head, &rows.collect::<Vec<_>>())
}

/// The shape of each kind, around the point that it stands for.
pub(super) fn shapes() -> String {
    let shapes = CallKind::ALL.into_iter().map(|kind| {
        let path = match kind {
            CallKind::Donor => "M-4 -4.5L4.5 0L-4 4.5Z",
            CallKind::Acceptor => "M4 -4.5L-4.5 0L4 4.5Z",
            CallKind::Promoter => "M0 -5L5 0L0 5L-5 0Z",
            CallKind::Tf => "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0Z",
            CallKind::Expression => "M-3.5 -3.5H3.5V3.5H-3.5Z",
            CallKind::PromoterStrength => "M-1.5 -5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5V-1.5H-1.5Z",
        };
        format!("<path id=\"m-{kind}\" d=\"{path}\"/>")
    });
    format!(
        "<svg width=\"0\" height=\"0\" class=\"shapes\" aria-hidden=\"true\"><defs>{}</defs></svg>",
        shapes.collect::<String>()
    )
}

/// Which shape is which kind, of those that are drawn.
pub(super) fn legend(kinds: &[CallKind]) -> String {
    let items = kinds.iter().map(|kind| {
        format!(
            "<li><svg width=\"14\" height=\"14\" aria-hidden=\"true\"><g class=\"{kind}\">\
             <use href=\"#m-{kind}\" x=\"7\" y=\"7\"/></g></svg> {kind}</li>"
        )
    });
    format!("<ul class=\"legend\">{}</ul>", items.collect::<String>())
}

/// A row of a list of facts.
pub(super) fn fact(name: &str, value: impl Display) -> String {
    format!(
        "<dt>{}</dt><dd><bdi>{}</bdi></dd>",
        escaped(name),
        escaped(&value.to_string())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(whole),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.0, 999.0, 1000.0, 1234.0, 12_345.0, 123_456.0, 2.5e9].map(short),
            ["0", "999", "1 k", "1.23 k", "12.3 k", "123 k", "2.50 G"]
        );
        assert_eq!([7, 23_616].map(bases), ["7 b", "23.6 kb"]);
        assert_eq!([share(1.0, 3.0), share(0.0, 0.0)], ["33.3 %", "–"]);
        assert_eq!(
            [0, 1, 3, 7, 11, 50, 51].map(round_up),
            [1, 1, 5, 10, 20, 50, 100]
        );
        assert!(round_up(u64::MAX) > 0);
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let hostile = "<script>x</script>\"'&";
        for html in [
            table(hostile, 1, &[hostile], &[vec![hostile.to_string()]]),
            picture(
                "p",
                9.0,
                hostile,
                hostile,
                &text("1%", 2.0, "start", hostile),
            ),
            fact(hostile, hostile),
            details(hostile, ""),
        ] {
            assert!(
                !html.contains("<script") && !html.contains("\"'&"),
                "{html}"
            );
            assert!(
                html.contains("&lt;script&gt;x&lt;/script&gt;&quot;&#39;&amp;"),
                "{html}"
            );
        }
    }
}
