"""Draws what accuracy.py found: AUPRC against the rate of read errors, one strand and both, and
against the distance from a read's end.

How: python curves.py splice_fast.csv [splice_accurate.csv ...] -o splice.svg
     (the files' names are the legend)
"""

import argparse
import csv
import os

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # distinct for the colour-blind, too
WIDTH, HEIGHT, MARGIN, GAP = 380, 240, 50, 60


def panel(out, left, title, conditions, lines):
    """lines: (name, colour, dash, values by condition)."""
    x = lambda i: left + MARGIN + i * (WIDTH - MARGIN) / (len(conditions) - 1)
    y = lambda v: MARGIN + (1 - v) * HEIGHT
    out.append(f'<text x="{left + MARGIN}" y="{MARGIN - 22}" font-weight="bold">{title}</text>')
    for v in (0, 0.2, 0.4, 0.6, 0.8, 1):
        out.append(f'<path d="M{x(0):.0f} {y(v):.1f}H{x(len(conditions) - 1):.0f}" stroke="#ccc"/>')
        out.append(f'<text x="{x(0) - 8:.0f}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>')
    for i, condition in enumerate(conditions):
        out.append(
            f'<text x="{x(i):.0f}" y="{MARGIN + HEIGHT + 18}"'
            f' text-anchor="middle">{condition}</text>'
        )
    for name, colour, dash, values in lines:
        points = " ".join(
            f"{x(i):.1f},{y(values[c]):.1f}" for i, c in enumerate(conditions) if c in values
        )
        out.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"'
            f' stroke-dasharray="{dash}"><title>{name}</title></polyline>'
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+")
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args()
    conditions, found, names = {"errors": [], "ends": []}, {}, []
    for path in args.tables:
        names.append(os.path.splitext(os.path.basename(path))[0].replace("_", " "))
        with open(path) as file:
            for row in csv.DictReader(file):
                if row["section"] in conditions:
                    if row["condition"] not in conditions[row["section"]]:
                        conditions[row["section"]].append(row["condition"])
                    key = (row["section"], names[-1], row["kind"], row["figure"])
                    found.setdefault(key, {})[row["condition"]] = float(row["value"])
    width, height = 2 * WIDTH + GAP + MARGIN, HEIGHT + 2 * MARGIN + 20 * len(names) + 44
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            ' font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    kinds = ("acceptor", "donor")
    lines = []
    for i, name in enumerate(names):
        for j, kind in enumerate(kinds):
            colour = COLOURS[(2 * i + j) % len(COLOURS)]
            lines.append((f"{name} {kind}", colour, "", found["errors", name, kind, "auprc"]))
            lines.append(
                (
                    f"{name} {kind}, both strands",
                    colour,
                    "4 3",
                    found["errors", name, kind, "auprc_both_strands"],
                )
            )
    panel(
        out, 0, "AUPRC by read errors (dashed: both strands scanned)", conditions["errors"], lines
    )
    ends = [
        (n, c, d, found["ends", n.rsplit(" ", 1)[0], n.rsplit(" ", 1)[1], "auprc"])
        for n, c, d, _ in lines
        if not d
    ]
    panel(out, WIDTH + GAP, "AUPRC by bases to the read's nearer end", conditions["ends"], ends)
    for i, (name, colour, _, _) in enumerate(line for line in lines if not line[2]):
        at = MARGIN + (i % 2) * 200, HEIGHT + 2 * MARGIN + 20 + 20 * (i // 2)
        out.append(
            f'<path d="M{at[0]} {at[1]}h24" stroke="{colour}" stroke-width="2"/><text'
            f' x="{at[0] + 32}" y="{at[1] + 4}">{name}</text>'
        )
    out.append("</svg>")
    with open(args.output, "w") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
