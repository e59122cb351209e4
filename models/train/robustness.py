"""Where the promoter, expression and promoter-strength models fail: accuracy against read errors
and against a read's end.

What: errors as `strandline simulate` makes them, at Q30, Q20, Q15, 5 % and Q10, on the held-out
  sequences of evaluate.py.
  Promoters: Matthews correlation of GUE windows (cut around the start site after the errors, as a
  read that is aligned there), recall at the default threshold of promoters in their true
  surroundings, within 50 nt, and false calls in gene interiors; recall by bases between start site
  and the read's nearer end. Both strands are scored by one network, so what holds for one holds for
  the other: that they are equal to the bit is checked. Expression: r2 of held-out fifths, also by
  bases that a read lacks of the UTR's 50, where the label stays that of the whole. Promoter
  strength: r2 on the La Fleur half.
How: python robustness.py --data DIR [--binary PATH] [--models FOLDER] [--out FOLDER]
     (half a minute on one core)
  Writes promoter.csv, promoter.svg, expression.csv and expression.svg; a row is section, condition,
  series, value, count.
"""

import argparse
import csv
import os

import numpy as np

from curves import COLOURS, GAP, HEIGHT, MARGIN, WIDTH, panel
from evaluate import (
    TSS,
    TSS_300,
    correlation,
    gene_interiors,
    in_context,
    rows_of,
    windows,
)
from packed import Packed
from read_errors import simulate
from scoring import r2
from sequences import bucket, encode, letters, reverse_complement

RATES = {"none": 0.0, "Q30": 0.001, "Q20": 0.01, "Q15": 10**-1.5, "5 %": 0.05, "Q10": 0.1}
UPSTREAM = (0, 10, 25, 50, 75, 100, 150, 200, 250)
DOWNSTREAM = (0, 10, 25, 49)
NEAR = 50
MISSING = (0, 5, 10, 15, 20, 25, 30)


def noisy(codes, at, rate, rng):
    """Codes with errors, and where the base `at` is then; one that was deleted is where its next
    neighbour is."""
    codes, places = simulate(codes, rate, rng)
    kept = places[at:][places[at:] >= 0]
    return codes, int(kept[0]) if len(kept) else len(codes) - 1


def around(codes, at, left, length):
    """`length` bases with `at` at index `left`, filled up with no base."""
    padded = np.r_[np.full(left, 4, np.uint8), codes, np.full(length, 4, np.uint8)]
    return padded[at : at + length]


def promoter(data, open_model):
    core, long = open_model("promoter"), open_model("promoter-300")
    (output,) = core.manifest["outputs"]

    def recall(reads):
        """Share of (codes, start site) with a score above the threshold near the start site."""
        found = core.scan([letters(codes) for codes, _ in reads])
        return np.mean(
            [
                s[max(0, at - NEAR) : at + NEAR + 1, 0].max() >= output["threshold"]
                for s, (_, at) in zip(found, reads)
            ]
        )

    context = [encode(text) for text in in_context(data)]
    sample = [letters(codes) for codes in context[:200]]
    reverse = core.scan([letters(reverse_complement(encode(text))) for text in sample], "reverse")
    assert all(np.array_equal(a, b[::-1]) for a, b in zip(core.scan(sample), reverse)), (
        "strands differ"
    )
    genes, _ = gene_interiors(data)
    for name, rate in RATES.items():
        rng = np.random.default_rng(1)
        for part, model, at in (("core_all", core, TSS), ("300_tata", long, TSS_300)):
            rows = windows(data, part + "_dev")
            reads = [(noisy(encode(text), at, rate, rng), len(text)) for text, _ in rows]
            texts = [letters(around(codes, where, at, length)) for (codes, where), length in reads]
            label = np.array([label for _, label in rows])
            yield (
                "errors",
                name,
                f"MCC, GUE prom_{part}",
                correlation(label, model.whole(texts)[:, 0] >= 0.5),
                len(rows),
            )
        yield (
            "errors",
            name,
            "recall in true surroundings",
            recall([noisy(c, TSS_300, rate, rng) for c in context]),
            len(context),
        )
        reads = [simulate(encode(text), rate, rng)[0] for text in genes]
        strands = 2 * sum(int((codes < 4).sum()) for codes in reads) / 1e6
        calls = len(core.annotate([letters(codes) for codes in reads]))
        yield "errors", name, "false calls a Mb and strand, genes", calls / strands, calls
    for name in ("none", "5 %"):
        for section, distances in (("upstream", UPSTREAM), ("downstream", DOWNSTREAM)):
            for distance in distances:
                rng = np.random.default_rng(1)
                reads = [noisy(c, TSS_300, RATES[name], rng) for c in context]
                if section == "upstream":
                    reads = [(c[max(0, at - distance) :], min(at, distance)) for c, at in reads]
                else:
                    reads = [(c[: at + distance + 1], at) for c, at in reads]
                yield section, distance, f"recall, errors: {name}", recall(reads), len(reads)


def expression(data, open_model):
    model, strength = open_model("expression"), open_model("promoter-strength")
    libraries = {}
    for name in ("random16k", "human25k"):
        rows = [
            row for row in rows_of(data, "expression", f"mrl_{name}.csv") if bucket(row["utr"]) < 20
        ]
        libraries[f"ribosome load, {name}"] = model, rows, "utr", "mrl"
    rows = [
        row
        for row in rows_of(data, "expression", "ecoli_promoter_lafleur.csv")
        if bucket(row["Promoter Sequence"]) < 50
    ]
    libraries["E. coli promoter strength"] = (
        strength,
        rows,
        "Promoter Sequence",
        "Observed log(TX/Txref)",
    )
    for name, rate in RATES.items():
        rng = np.random.default_rng(1)
        for series, (network, rows, text, value) in libraries.items():
            reads = [letters(simulate(encode(row[text]), rate, rng)[0]) for row in rows]
            yield (
                "errors",
                name,
                f"r2, {series}",
                r2([float(row[value]) for row in rows], network.whole(reads)[:, 0]),
                len(rows),
            )
    for name in ("none", "5 %"):
        for series, (network, rows, text, value) in list(libraries.items())[:2]:
            for missing in MISSING:
                rng = np.random.default_rng(1)
                reads = [
                    letters(simulate(encode(row[text]), RATES[name], rng)[0][missing:])
                    for row in rows
                ]
                found = network.whole(reads)[:, 0]
                yield (
                    "missing",
                    missing,
                    f"r2, {series}, errors: {name}",
                    r2([float(row[value]) for row in rows], found),
                    len(rows),
                )


TITLES = {
    "errors": "by read errors",
    "upstream": "by bases upstream of the start site",
    "downstream": "by bases downstream of the start site",
    "missing": "by bases missing at the UTR's 5' end",
}


def draw(path, rows):
    """A panel a section; what is no share (false calls) is in the table only."""
    panels = {}
    for section, condition, series, value, _ in rows:
        if value <= 1 and "false calls" not in series:
            panels.setdefault(section, {}).setdefault(series, {})[condition] = value
    legend = max(len(lines) for lines in panels.values())
    width, height = len(panels) * (WIDTH + GAP) + MARGIN, HEIGHT + 2 * MARGIN + 20 * legend + 20
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            ' font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, (section, lines) in enumerate(panels.items()):
        left = i * (WIDTH + GAP)
        conditions = list(dict.fromkeys(c for values in lines.values() for c in values))
        drawn = [
            (name, COLOURS[k % len(COLOURS)], "", values)
            for k, (name, values) in enumerate(lines.items())
        ]
        panel(out, left, TITLES[section], conditions, drawn)
        for k, (name, colour, _, _) in enumerate(drawn):
            x, y = left + MARGIN, HEIGHT + MARGIN + 44 + 20 * k
            out.append(
                f'<path d="M{x} {y}h24" stroke="{colour}" stroke-width="2"/><text x="{x + 32}"'
                f' y="{y + 4}">{name}</text>'
            )
    with open(path, "w") as file:
        file.write("\n".join([*out, "</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="the data kit")
    parser.add_argument("--binary", default="target/release/strandline")
    parser.add_argument("--models", default="models", help="folder of TASK.safetensors")
    parser.add_argument("--out", default="models/figures")
    parser.add_argument("--tasks", default="promoter,expression")
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    open_model = lambda task: Packed(
        os.path.abspath(arguments.binary), os.path.join(arguments.models, f"{task}.safetensors")
    )
    for task in arguments.tasks.split(","):
        rows = []
        for row in {"promoter": promoter, "expression": expression}[task](
            arguments.data, open_model
        ):
            rows.append(row)
            print(*row[:3], f"{row[3]:.4f}", row[4], sep="\t", flush=True)
        stem = os.path.join(arguments.out, task)
        with open(stem + ".csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["section", "condition", "series", "value", "count"])
            writer.writerows([*row[:3], round(float(row[3]), 4), row[4]] for row in rows)
        draw(stem + ".svg", rows)


if __name__ == "__main__":
    main()
