//! Calls along the longest reads.

use super::charts::kinds;
use super::svg::{TRACK, call_table, legend, picture, track};
use super::text::{details, whole};
use crate::sink::markup::escaped;
use crate::stream::tally::{LongRead, Tally};

/// The section of the longest reads.
pub(super) fn section(tally: &Tally) -> String {
    let reads = tally.longest.iter().zip(1..);
    let reads: String = reads.map(|(read, number)| figure(read, number)).collect();
    let count = tally.longest.len();
    let none = if count == 0 {
        "<p>No read was annotated to its end.</p>"
    } else {
        ""
    };
    let kinds = kinds(tally);
    let lines = if kinds.iter().all(|kind| kind.is_probability()) {
        "are a probability of 1"
    } else {
        "are a probability of 1, or the end of a kind's scale above"
    };
    format!(
        "<section id=\"longest\"><h2>Calls along the longest reads</h2>{none}{}<p \
         class=\"note\">Longest first, each over the whole width. Calls of the + strand stand \
         above the line, those of the − strand below it, as high as they score: the thin lines \
         {lines}.</p>{reads}</section>\n",
        legend(&kinds)
    )
}

fn figure(read: &LongRead, number: usize) -> String {
    let (calls, left_out) = read.calls.clone().finish();
    let name = &read.name;
    let mut about = format!(
        "{} bases, {} calls",
        whole(read.length),
        whole(read.calls.seen())
    );
    if left_out > 0 {
        about += &format!("; the weakest {} are not drawn", whole(left_out));
    }
    let id = format!("read-{number}");
    let picture = picture(&id, TRACK, name, &about, &track(&calls, 0, read.length));
    let table = if calls.is_empty() {
        String::new()
    } else {
        details(
            "Calls as a table",
            &call_table(&format!("Calls of {name}"), &calls),
        )
    };
    format!(
        "<figure class=\"track\"><figcaption><bdi>{}</bdi> <small>{about}</small></figcaption>\
         {picture}{table}</figure>\n",
        escaped(name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Call, CallKind, Flags, Strand};
    use crate::stream::observe::{ReadObserver, SeenRead};

    #[test]
    fn reads_are_drawn_whatever_they_are_called() {
        let mut tally = Tally::default();
        let name = "<script>alert(1)</script>\"'&\u{202e}".as_bytes();
        let read = SeenRead { id: (0, 0), name };
        let calls: Vec<Call> = (0..2000)
            .map(|at| Call {
                start: at * 10,
                end: at * 10 + 1,
                strand: if at % 2 == 0 {
                    Strand::Forward
                } else {
                    Strand::Reverse
                },
                kind: CallKind::Donor,
                score: at as f32 / 2000.0,
                flags: Flags::PARTIAL,
                model: 0,
            })
            .collect();
        tally.calls(read, &calls);
        tally.end(read, Some(20_000));
        let html = section(&tally);
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"));
        assert_eq!(
            html.matches("<use href=\"#m-donor\"").count(),
            501,
            "and one in the legend"
        );
        assert!(html.contains("2,000 calls; the weakest 1,500 are not drawn"));
        assert!(
            html.contains("donor − 19,990: 0.9995 (partial)") || html.contains("donor - 19,990")
        );
        // Across they stay within the plot.
        let places = html.split("<use href=\"#m-donor\" x=\"").skip(2);
        for place in places {
            let x: f64 = place.split('%').next().unwrap().parse().unwrap();
            assert!((10.0..=98.0).contains(&x), "{x}");
        }
        assert!(section(&Tally::default()).contains("No read was annotated"));
    }
}
