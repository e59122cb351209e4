//! Sequence logos (Schneider and Stephens, Nucleic Acids Research 18:6097, 1990) as SVG.

use crate::study::motifs::motif::Motif;
use std::fmt::Write;

/// The most that a column of four letters can have.
const MAX_BITS: f64 = 2.0;
const COLUMN_WIDTH: f64 = 24.0;
const BIT_HEIGHT: f64 = 60.0;
const LEFT: f64 = 48.0;
const TOP: f64 = 12.0;
const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 28.0;

/// A, C, G and T: a colour, and an outline that fills a square of 100. Outlines, not text, so that
/// a letter is as high as it should be whatever fonts a viewer has.
const LETTERS: [(&str, &str); 4] = [
    (
        "#109648",
        "M0 100L38 0H62L100 100H78L70 76H30L22 100ZM36 58H64L50 18Z",
    ),
    (
        "#255c99",
        "M100 21.3A55 50 0 1 0 100 78.7L83.6 65.5A33 31 0 1 1 83.6 34.5Z",
    ),
    (
        "#f7b32b",
        "M100 21.3A55 50 0 1 0 100 78.7L83.6 65.5A33 31 0 1 1 83.6 34.5Z\
         M100 48H56V64H79V84L100 78.7Z",
    ),
    ("#d62839", "M0 0H100V18H61V100H39V18H0Z"),
];

/// The information of a column in bits, 0 to 2, from how often it has A, C, G and T: 2 − H − e.
/// H = −Σ f · log2 f is the entropy over the shares f, and e = 3 / (2 · ln 2 · n) the small-sample
/// correction, n the letters of the column: by about so much the entropy of n random letters falls
/// short of 2 bits (Schneider and others, Journal of Molecular Biology 188:415, 1986). Where it
/// leaves less than nothing the column has 0, and so has one without letters.
pub fn information(column: [u32; 4]) -> f64 {
    let n: f64 = column.iter().copied().map(f64::from).sum();
    if n == 0.0 {
        return 0.0;
    }
    let shares = column.iter().map(|&count| f64::from(count) / n);
    let entropy: f64 = shares.filter(|&f| f > 0.0).map(|f| -f * f.log2()).sum();
    let correction = 3.0 / (2.0 * std::f64::consts::LN_2 * n);
    (MAX_BITS - entropy - correction).clamp(0.0, MAX_BITS)
}

/// A logo of a motif: a whole SVG document that needs nothing else. The stack of a column is as
/// high as its [`information`], which includes the small-sample correction, on an axis of 0 to 2
/// bits; a letter has its share of the stack, the most frequent one on top. Columns are numbered
/// from 1.
pub fn logo_svg(motif: &Motif) -> String {
    let width = LEFT + COLUMN_WIDTH * motif.counts.len() as f64 + RIGHT;
    let bottom = TOP + BIT_HEIGHT * MAX_BITS;
    let height = bottom + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"sans-serif\" \
         font-size=\"11\" text-anchor=\"middle\">\n\
         <title>{}, {} sites</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        motif.best.letters, motif.sites
    );
    axis(&mut svg, bottom);
    for (i, &column) in motif.counts.iter().enumerate() {
        let left = LEFT + COLUMN_WIDTH * i as f64;
        stack(&mut svg, column, left, bottom);
        let (x, y) = (left + COLUMN_WIDTH / 2.0, bottom + 16.0);
        // Writing to a string cannot fail.
        let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\">{}</text>", i + 1);
    }
    svg.push_str("</svg>\n");
    svg
}

/// The axis in bits.
fn axis(svg: &mut String, bottom: f64) {
    let x = LEFT - 6.0;
    let mut path = format!("M{x} {TOP}V{bottom}");
    for bits in 0..=2 {
        let y = bottom - BIT_HEIGHT * f64::from(bits);
        let _ = write!(path, "M{} {y}H{x}", x - 5.0);
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\">{bits}</text>",
            x - 12.0,
            y + 4.0
        );
    }
    let _ = writeln!(svg, "<path d=\"{path}\" stroke=\"#000\" fill=\"none\"/>");
    let (x, y) = (14.0, bottom - BIT_HEIGHT * MAX_BITS / 2.0);
    let _ = writeln!(
        svg,
        "<text transform=\"translate({x} {y}) rotate(-90)\">bits</text>"
    );
}

/// The letters of a column, the rarest at the bottom.
fn stack(svg: &mut String, column: [u32; 4], left: f64, bottom: f64) {
    let n: f64 = column.iter().copied().map(f64::from).sum();
    let pixels = information(column) * BIT_HEIGHT;
    let mut order = [0, 1, 2, 3];
    order.sort_by_key(|&base| column[base]);
    let mut y = bottom;
    for base in order {
        // Where there are no letters there is no information, and nothing is divided.
        let height = if column[base] > 0 {
            pixels * f64::from(column[base]) / n
        } else {
            0.0
        };
        y -= height;
        // Less than what the numbers below can say.
        if height < 0.01 {
            continue;
        }
        let (colour, outline) = LETTERS[base];
        // One pixel between columns.
        let (x, wide, high) = (left + 0.5, (COLUMN_WIDTH - 1.0) / 100.0, height / 100.0);
        let _ = writeln!(
            svg,
            "<path fill=\"{colour}\" transform=\"translate({x:.1} {y:.3}) \
             scale({wide:.4} {high:.5})\" d=\"{outline}\"/>"
        );
    }
}
