"""Draws one held-out gene: its exons, and what the two tiers of the splice model call there.

What: of the sample genes in tests/data, all held out, the one of median length, chosen before any
  look at calls. Acceptors are triangles that point to the right, into the exon; donors point to the
  left. Filled: an annotated site. Hollow: not annotated. A cross is an annotated site that is not
  called. Height is the score. Calls on the other strand, all wrong, hang below the line. Exons
  between the first donor and the last acceptor are those of sites.tsv; the outer ones end where the
  gene does.
How: python models/train/gene.py -o models/figures/splice_gene.svg
     (from a clone, without the data kit)
"""

import argparse
import csv
import os

from packed import TIERS, Packed
from sequences import read_sequences

COLOURS = {
    "acceptor": "#0072b2",
    "donor": "#d55e00",
}  # distinct for the colour-blind, and by their direction
WIDTH, LEFT, TRACK, LOW, TOP = 1000, 90, 110, 50, 90


def triangle(x, y, kind, filled, strand="+"):
    tip = 5 if (kind == "acceptor") == (strand == "+") else -5
    shape = f"M{x - tip:.1f} {y - 5:.1f}L{x + tip:.1f} {y:.1f}L{x - tip:.1f} {y + 5:.1f}Z"
    return (
        f'<path d="{shape}" fill="{COLOURS[kind] if filled else "white"}" stroke="{COLOURS[kind]}"'
        ' stroke-width="1.5"/>'
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--genes", default="tests/data", help="folder of genes.fa.gz and sites.tsv")
    parser.add_argument("--model", default="models/splice.safetensors")
    parser.add_argument("--binary", default="target/release/strandline")
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args()
    genes = sorted(
        read_sequences(os.path.join(args.genes, "genes.fa.gz")), key=lambda gene: len(gene[1])
    )
    header, text = genes[len(genes) // 2]
    name, symbol = header.split()[:2]
    with open(os.path.join(args.genes, "sites.tsv")) as lines:
        sites = {
            (int(row["pos0"]), row["kind"])
            for row in csv.DictReader(lines, delimiter="\t")
            if row["gene_idx"] == name
        }
    edges = [0] + [at for at, _ in sorted(sites)] + [len(text) - 1]
    x = lambda at: LEFT + at / len(text) * (WIDTH - LEFT - 20)
    height = TOP + len(TIERS) * (TRACK + LOW) + 40
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
            ' font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        (
            f'<text x="{LEFT}" y="22" font-size="14" font-weight="bold">{symbol}, {len(text):,} nt,'
            f" held out: {len(sites)} splice sites</text>"
        ),
    ]
    for i, kind in enumerate(COLOURS):
        out += [
            triangle(LEFT + 6 + 90 * i, 40, kind, True),
            f'<text x="{LEFT + 18 + 90 * i}" y="44">{kind}</text>',
        ]
    out.append(
        f'<text x="{LEFT + 190}" y="44">filled: annotated; hollow: not; cross: annotated, not'
        " called; below a line: on the other strand</text>"
    )
    out.append(
        f'<text x="{LEFT - 10}" y="{TOP - 16}" text-anchor="end">exons</text><path d="M{x(0):.1f}'
        f' {TOP - 20}H{x(len(text)):.1f}" stroke="#555"/>'
    )
    for start, end in zip(edges[::2], edges[1::2]):
        out.append(
            f'<rect x="{x(start):.1f}" y="{TOP - 27}" width="{max(1.5, x(end + 1) - x(start)):.1f}"'
            ' height="14" fill="#555"/>'
        )
    for at, _ in sorted(sites):
        out.append(f'<path d="M{x(at):.1f} {TOP - 13}V{height - LOW - 40}" stroke="#eee"/>')
    for row, tier in enumerate(TIERS):
        base = TOP + row * (TRACK + LOW) + TRACK
        calls = Packed(os.path.abspath(args.binary), args.model, tier).annotate([text])
        here = {
            (call["start"], call["kind"]): call["score"] for call in calls if call["strand"] == "+"
        }
        out.append(
            f'<path d="M{x(0):.1f} {base}H{x(len(text)):.1f}" stroke="#999"/><text x="{LEFT - 10}"'
            f' y="{base + 4}" text-anchor="end">{tier}</text>'
        )
        out.append(
            f'<text x="{LEFT - 10}" y="{base + 18}" text-anchor="end"'
            f' fill="#555">{len(set(here) & sites)} of {len(sites)}</text>'
        )
        for (at, kind), score in sorted(here.items()):
            y = base - score * (TRACK - 20)
            out += [
                f'<path d="M{x(at):.1f} {base}V{y:.1f}" stroke="{COLOURS[kind]}"/>',
                triangle(x(at), y, kind, (at, kind) in sites),
            ]
        for at, kind in sorted(sites - set(here)):
            out.append(
                f'<path d="M{x(at) - 4:.1f} {base - 4}l8 8m0 -8l-8 8" stroke="{COLOURS[kind]}"'
                ' stroke-width="1.5"/>'
            )
        for call in calls:
            if call["strand"] == "-":
                y = base + call["score"] * (LOW - 10)
                out += [
                    (
                        f'<path d="M{x(call["start"]):.1f} {base}V{y:.1f}"'
                        f' stroke="{COLOURS[call["kind"]]}" stroke-dasharray="2 2"/>'
                    ),
                    triangle(x(call["start"]), y, call["kind"], False, "-"),
                ]
        print(
            f"{tier}: {len(set(here) & sites)} of {len(sites)} sites called,"
            f" {len(set(here) - sites)} other calls, {sum(call['strand'] == '-' for call in calls)}"
            " on the other strand"
        )
    out.append("</svg>")
    os.makedirs(os.path.dirname(os.path.abspath(args.output)), exist_ok=True)
    with open(args.output, "w") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
