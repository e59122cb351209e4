//! A picture of a map: letters as high as they are worth, and what each replacement would change.
//! One SVG that needs nothing beside it.

use super::BaseMap;
use crate::reads::nucleotide::letter;
use crate::sink::markup::escaped;
use std::fmt::Write;

/// Units a base is wide.
const WIDTH: f64 = 10.0;
/// Units from the axis to the greatest letter.
const HEIGHT: f64 = 80.0;
/// Units left of the first base.
const LEFT: f64 = 60.0;
/// Where the letters' axis lies.
const AXIS: f64 = 40.0 + HEIGHT;
/// Where the rows of replacements begin.
const ROWS: f64 = AXIS + HEIGHT + 24.0;
/// Units from one row to the next.
const ROW: f64 = 12.0;
/// Units from a letter's base to its top, of one unit of font size; of the fonts of `monospace`.
const CAP: f64 = 0.72;

/// Fills of A, C, G, T, N.
const FILLS: [&str; 5] = ["#109648", "#255c99", "#f7b32b", "#d62839", "#888888"];

/// Draws a map under a record's name.
pub fn svg(name: &str, map: &BaseMap) -> String {
    let bases = map.codes.len() as f64;
    let (width, with_rows) = (LEFT + bases * WIDTH + 20.0, !map.changes.is_empty());
    let height = if with_rows {
        ROWS + 4.0 * ROW + 30.0
    } else {
        AXIS + HEIGHT + 30.0
    };
    let mut out = String::new();
    let mut draw = |text: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{text}");
    };
    draw(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"monospace\" font-size=\"10\">"
    ));
    draw(format_args!(
        "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
    ));
    let title = match &map.target {
        Some(target) => format!(
            "{} of {}: {:.4} at {} on {}",
            target.name, name, target.score, target.at, target.strand
        ),
        None => format!("attention over {name}"),
    };
    draw(format_args!(
        "<text x=\"{LEFT}\" y=\"20\" font-size=\"13\">{}</text>",
        escaped(&title)
    ));
    let most = greatest(map.importance.iter());
    draw(format_args!(
        "<path d=\"M{LEFT} {AXIS}H{:.1}\" stroke=\"#444444\"/>",
        LEFT + bases * WIDTH
    ));
    draw(format_args!(
        "<text x=\"4\" y=\"{:.1}\">{most:.3}</text>",
        AXIS - HEIGHT + 8.0
    ));
    for (index, (&code, &value)) in map.codes.iter().zip(&map.importance).enumerate() {
        let x = LEFT + index as f64 * WIDTH;
        let high = HEIGHT * f64::from(value) / f64::from(most.max(f32::MIN_POSITIVE));
        if high.abs() >= 0.5 {
            // A letter of font size 10 is 6 wide; below the axis it stands upside down.
            draw(format_args!(
                "<text transform=\"translate({x:.1} {AXIS}) scale({:.3} {:.3})\" \
                 fill=\"{}\">{}</text>",
                WIDTH / 6.1,
                high / (10.0 * CAP),
                FILLS[usize::from(code.min(4))],
                char::from(letter(code))
            ));
        }
        if (map.first + index as u64).is_multiple_of(10) {
            draw(format_args!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"8\">{}</text>",
                AXIS + HEIGHT + 12.0,
                map.first + index as u64
            ));
        }
    }
    let most = greatest(map.changes.iter().flatten());
    if with_rows {
        for (row, base) in "ACGT".chars().enumerate() {
            draw(format_args!(
                "<text x=\"{:.1}\" y=\"{:.1}\">{base}</text>",
                LEFT - 12.0,
                ROWS + (row as f64 + 0.8) * ROW
            ));
        }
        draw(format_args!(
            "<text x=\"{LEFT}\" y=\"{:.1}\">change of the score with another base: blue lowers, \
             red raises, at most {most:.3}</text>",
            ROWS + 4.0 * ROW + 14.0
        ));
    }
    for (index, (changes, &code)) in map.changes.iter().zip(&map.codes).enumerate() {
        let x = LEFT + index as f64 * WIDTH;
        for (row, &change) in changes.iter().enumerate() {
            let y = ROWS + row as f64 * ROW;
            if usize::from(code) == row {
                let (x, y) = (x + WIDTH / 2.0, y + ROW / 2.0);
                draw(format_args!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.5\"/>"
                ));
                continue;
            }
            let share = f64::from(change / most.max(f32::MIN_POSITIVE));
            let pale = ((1.0 - share.abs()) * 255.0).round() as u8;
            if pale > 250 {
                continue;
            }
            let fill = if share > 0.0 {
                format!("#ff{pale:02x}{pale:02x}")
            } else {
                format!("#{pale:02x}{pale:02x}ff")
            };
            draw(format_args!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{WIDTH}\" height=\"{ROW}\" \
                 fill=\"{fill}\"/>"
            ));
        }
    }
    out.push_str("</svg>\n");
    out
}

fn greatest<'a>(values: impl Iterator<Item = &'a f32>) -> f32 {
    values.fold(0.0, |most, value| most.max(value.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Strand;
    use crate::study::explain::Target;

    #[test]
    fn every_base_has_its_letter_and_its_replacements() {
        let map = BaseMap {
            target: Some(Target {
                name: "donor".into(),
                strand: Strand::Reverse,
                at: 9,
                score: 0.5,
            }),
            first: 9,
            codes: vec![0, 1, 4],
            importance: vec![0.5, -0.25, 0.0],
            changes: vec![[0.0, -0.5, -0.5, -0.5], [0.5, 0.0, 0.2, 0.1], [0.0; 4]],
        };
        let text = svg("a<b", &map);
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert!(text.contains("donor of a&lt;b: 0.5000 at 9 on -"));
        assert_eq!(text.matches(">A</text>").count(), 2, "a letter and a row");
        // One base is worth nothing, and is not drawn.
        assert!(!text.contains(">N</text>"));
        assert_eq!(text.matches("#0000ff").count(), 3);
        assert_eq!(text.matches("#ff0000").count(), 1);
        assert_eq!(text.matches("<circle").count(), 2);
        // Below the axis a letter hangs.
        assert!(text.contains("scale(1.639 -5.556)"));
    }
}
