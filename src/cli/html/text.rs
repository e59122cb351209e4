//! Numbers, facts and tables of the page.

use crate::sink::markup::escaped;
use std::fmt::Display;

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

/// A row of a list of facts.
pub(super) fn fact(name: &str, value: impl Display) -> String {
    format!(
        "<div><dt>{}</dt><dd><bdi>{}</bdi></dd></div>",
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
    }
}
