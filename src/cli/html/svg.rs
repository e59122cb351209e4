//! The charts of the page. They are as wide as their place, whatever that is:
//! across they are in percent, down in pixels, so letters keep their size on a phone.

use super::text::{bases, short, table, whole};
use crate::call::{Call, CallKind, Strand};
use crate::sink::markup::escaped;
use crate::stream::tally::height;

/// Where a plot lies across its picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plot {
    /// Percent of the picture left of it, for what its lines mean.
    left: f64,
}

/// Of bars, with counts on the left.
const BARS: Plot = Plot { left: 13.0 };

/// Of calls, with strands on the left.
pub(super) const CALLS: Plot = Plot { left: 5.0 };

/// Percent of the width right of a plot.
const RIGHT: f64 = 2.0;

impl Plot {
    /// Where something stands across, from a place in the plot from 0 to 1.
    pub(super) fn across(self, place: f64) -> String {
        format!("{:.3}%", self.left + place * (100.0 - self.left - RIGHT))
    }

    /// The same of a width.
    pub(super) fn wide(self, part: f64) -> String {
        format!("{:.3}%", part * (100.0 - self.left - RIGHT))
    }

    /// Where labels of lines end.
    fn labels(self) -> String {
        format!("{}%", self.left - 1.5)
    }
}

/// Pixels above a plot of bars, of the plot, and below it.
const ABOVE: f64 = 22.0;
const PLOT: f64 = 130.0;
const BELOW: f64 = 20.0;

/// Pixels from the axis of calls to a score of 1, and from there to the edge.
const STEM: f64 = 40.0;
const EDGE: f64 = 10.0;

/// Pixels that a track of calls takes, its axis of bases included.
pub(super) const TRACK: f64 = 2.0 * (STEM + EDGE) + BELOW;

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
            out += &format!(
                "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>",
                BARS.across(0.0),
                BARS.across(1.0)
            );
            // Half a call is none.
            if top.is_multiple_of(2) || part != 0.5 {
                // A phone has no room for blanks.
                let label = short(part * top as f64).replace(' ', "");
                out += &text(&BARS.labels(), y + 4.0, "end", &label);
            }
        }
        for bar in self.bars.iter().filter(|bar| bar.count > 0) {
            let high = (PLOT * bar.count as f64 / top as f64).max(1.0);
            out += &format!(
                "\n<rect class=\"{}\" x=\"{}\" width=\"{}\" y=\"{:.1}\" height=\"{high:.1}\">\
                 <title>{}</title></rect>",
                self.class,
                BARS.across(bar.from),
                BARS.wide((bar.to - bar.from) * 0.92),
                bottom - high,
                escaped(&bar.about)
            );
        }
        out += &ticks(BARS, &self.ticks, bottom + 15.0);
        if let Some((place, label)) = &self.marked {
            let x = BARS.across(*place);
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
fn ticks(plot: Plot, ticks: &[(f64, String)], y: f64) -> String {
    let labels = ticks.iter().map(|(place, label)| {
        let anchor = match place {
            _ if *place < 0.05 && plot.left < BARS.left => "start",
            _ if *place > 0.95 => "end",
            _ => "middle",
        };
        text(&plot.across(*place), y, anchor, label)
    });
    labels.collect()
}

/// The least round number that is not below; beyond 10 half of it is one, too.
fn round_up(count: u64) -> u64 {
    let powers = (0..19).map(|power| 10_u64.pow(power));
    let rounds = powers.flat_map(|power| [1, 2, 3, 4, 6, 8].map(|of| power.saturating_mul(of)));
    rounds
        .into_iter()
        .find(|round| *round >= count)
        .unwrap_or(count)
}

/// Round positions, at most five, and where they lie between `from` and `to`.
fn positions(from: u64, to: u64) -> Vec<(f64, String)> {
    let length = (to - from).max(1);
    let powers = (0..19).map(|power| 10_u64.pow(power));
    let mut steps = powers.flat_map(|power| [1, 2, 5].map(|of| power.saturating_mul(of)));
    let step = steps
        .find(|step| *step >= length.div_ceil(4))
        .unwrap_or(length);
    let multiples = (from.div_ceil(step)..=to / step).map(|multiple| multiple * step);
    let places = multiples.map(|at| ((at - from) as f64 / length as f64, bases(at)));
    places.collect()
}

/// Calls along bases: forward above the axis, reverse below it, as high as they score.
pub(super) fn track(calls: &[Call], from: u64, to: u64) -> String {
    let axis = STEM + EDGE;
    let length = (to - from).max(1) as f64;
    let place = |position: u64| position.saturating_sub(from) as f64 / length;
    let (start, end) = (CALLS.across(0.0), CALLS.across(1.0));
    let mut out = String::new();
    for (y, class) in [(axis - STEM, "grid"), (axis + STEM, "grid"), (axis, "axis")] {
        out +=
            &format!("<line class=\"{class}\" x1=\"{start}\" x2=\"{end}\" y1=\"{y}\" y2=\"{y}\"/>");
    }
    let sign = CALLS.labels();
    out += &text(&sign, axis - STEM / 2.0 + 4.0, "end", "+");
    out += &text(&sign, axis + STEM / 2.0 + 4.0, "end", "−");
    for call in calls {
        let high = STEM * f64::from(height(call.kind, call.score));
        let y = match call.strand {
            Strand::Forward => axis - high,
            Strand::Reverse => axis + high,
        };
        let x = CALLS.across(place(call.start));
        let name = call.kind.name();
        out += &format!(
            "\n<g class=\"{name}\"><title>{}</title><line x1=\"{x}\" x2=\"{x}\" y1=\"{axis}\" \
             y2=\"{y:.1}\"/><use href=\"#m-{name}\" x=\"{x}\" y=\"{y:.1}\"/></g>",
            escaped(&about(call))
        );
    }
    out + &ticks(CALLS, &positions(from, to), 2.0 * axis + 15.0)
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

#[cfg(test)]
mod tests {
    use super::super::text::{details, fact};
    use super::*;

    #[test]
    fn axes_have_few_and_round_positions() {
        let labels = |from, to| {
            let all = positions(from, to);
            assert!(all.len() <= 5 && all.iter().all(|(at, _)| (0.0..=1.0).contains(at)));
            all.into_iter().map(|(_, label)| label).collect::<Vec<_>>()
        };
        assert_eq!(labels(0, 35_721), ["0 b", "10 kb", "20 kb", "30 kb"]);
        assert_eq!(
            labels(14_853, 200_000),
            ["50 kb", "100 kb", "150 kb", "200 kb"]
        );
        assert_eq!(labels(0, 1), ["0 b", "1 b"]);
        assert_eq!(labels(7, 7).len(), 1);
        assert!(!labels(0, u64::MAX).is_empty());
        let rounds = [1, 1, 3, 8, 20, 60, 300];
        assert_eq!([0, 1, 3, 7, 11, 50, 207].map(round_up), rounds);
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
