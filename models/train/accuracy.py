"""Where the splice model fails: its figures against the rate of read errors, the distance from a
read's end, the strand, and by dinucleotide.

What: a tier of the packed file as the program runs it, on whole held-out genes (md5(symbol) mod 100
  < 10) with errors as `strandline simulate` makes them, uniform ones at Q30, Q20, Q15, 5 %, and
  Q10, and those of real nanopore reads at their own rate and at 5 % (the gene in pieces of 5,000
  nt, each at a rate of its own as reads are); the sites are lifted to read coordinates, and a site
  whose base was deleted is gone. Both strands: the scores of the reverse strand count as so many
  more bases without a site; that strand's own sites would get the same scores, as the program
  scores it by the same network on the reverse complement.
  Reads of 5,000 nt without errors, by the distance of a base from the nearer end, precision and
  recall at the default threshold. Expected calibration error over bases with P >= .05, in 15 bins
  of equal mass, and what a perfectly calibrated model would show with as few.
How, half a minute a tier on one core:
     python models/train/accuracy.py --data DIR --tier fast -o models/figures/splice_fast.csv
     python models/train/accuracy.py --data DIR --tier accurate \\
         -o models/figures/splice_accurate.csv
     python models/train/curves.py models/figures/splice_fast.csv \\
         models/figures/splice_accurate.csv -o models/figures/splice.svg
  One row a figure: section, condition, kind, figure, value, sites.
"""

import argparse
import csv
import functools
import os

import numpy as np

from packed import Packed
from read_errors import Profile, read_profile, simulate, simulate_profile
from scoring import average_precision, calibration_error, top_k
from splice_data import KINDS, load_genes

RATES = {"none": 0.0, "Q30": 0.001, "Q20": 0.01, "Q15": 10**-1.5, "5 %": 0.05, "Q10": 0.1}
# With the errors of real reads: at the rate of those, and at 5 %.
NANOPORE = {"1.7 %": None, "5 %": 0.05}
EDGES = (0, 10, 25, 50, 100, 200, 400, 800, 1600, 2500)
READ = 5000


def lifted(truth, places, count):
    out = np.zeros((count, 2), bool)
    for c in range(2):
        at = places[np.flatnonzero(truth[:, c])]
        out[at[at >= 0], c] = True
    return out


def as_nanopore(codes, profile, rng):
    """A gene as reads of it side by side."""
    noisy, places, length = [], [], 0
    for start in range(0, len(codes), READ):
        piece, at = simulate_profile(codes[start : start + READ], profile, rng)
        noisy.append(piece)
        places.append(np.where(at < 0, -1, at + length))
        length += len(piece)
    return np.concatenate(noisy), np.concatenate(places)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--tier", choices=("fast", "accurate"), required=True)
    parser.add_argument("--model", default="models/splice.safetensors")
    parser.add_argument("--binary", default="target/release/strandline")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", required=True)
    args = parser.parse_args()
    model = Packed(os.path.abspath(args.binary), args.model, args.tier)
    thresholds = [output["threshold"] for output in model.manifest["outputs"]]
    scan = lambda sequences, strand="forward": np.concatenate(
        model.scan(["".join(np.array(list("ACGTN"))[b]) for b in sequences], strand)
    )
    genes = [g for g in load_genes(os.path.join(args.data, "splice")) if g["held_out"]]
    bases, truths = [g["bases"] for g in genes], [g["hard"] > 0 for g in genes]
    rows = []

    def add(section, condition, kind, figure, value, sites):
        rows.append([section, condition, kind, figure, round(float(value), 4), int(sites)])

    def add_calibration(section, condition, kind, p, t):
        found = calibration_error(p, t)
        for figure in ("ece", "ece_if_perfect"):
            add(section, condition, kind, figure, found[figure] or 0, t.sum())

    shape = read_profile()
    makers = {("errors", name): functools.partial(simulate, rate=r) for name, r in RATES.items()}
    for name, rate in NANOPORE.items():
        profile = Profile(shape, rate or shape["rate"])
        makers["nanopore", name] = functools.partial(as_nanopore, profile=profile)
    for (section, name), make in makers.items():
        rng = np.random.default_rng(args.seed)
        noisy = [make(b, rng=rng) for b in bases]
        t = np.concatenate([lifted(y, p, len(x)) for y, (x, p) in zip(truths, noisy)])
        sense, anti = (scan([x for x, _ in noisy], strand) for strand in ("forward", "reverse"))
        for c, kind in enumerate(KINDS):
            n = t[:, c].sum()
            add(section, name, kind, "top_k", top_k(sense[:, c], t[:, c]), n)
            add(section, name, kind, "auprc", average_precision(sense[:, c], t[:, c]), n)
            both, labels = (
                np.concatenate([sense[:, c], anti[:, c]]),
                np.concatenate([t[:, c], np.zeros(len(t), bool)]),
            )
            add(section, name, kind, "top_k_both_strands", top_k(both, labels), n)
            add(section, name, kind, "auprc_both_strands", average_precision(both, labels), n)
            add_calibration(section, name, kind, sense[:, c], t[:, c])
        if name == "none":
            clean = sense
    # Tiled ten times, a tenth of a read apart, so that every site is seen at ten distances.
    cuts = [
        slice(s, s + READ)
        for first in range(0, READ, READ // 10)
        for s in range(first, max(map(len, bases)) - READ + 1, READ)
    ]
    reads = [(b[cut], y[cut]) for b, y in zip(bases, truths) for cut in cuts if cut.stop <= len(b)]
    p, t = scan([b for b, _ in reads]), np.concatenate([y for _, y in reads])
    distance = np.tile(np.minimum(np.arange(READ), np.arange(READ)[::-1]), len(reads))
    for low, high in zip(EDGES[:-1], EDGES[1:]):
        part = (distance >= low) & (distance < high)
        for c, kind in enumerate(KINDS):
            score, label = p[part, c], t[part, c]
            called = score >= thresholds[c]
            add(
                "ends", f"{low}-{high}", kind, "auprc", average_precision(score, label), label.sum()
            )
            add("ends", f"{low}-{high}", kind, "recall", called[label].mean(), label.sum())
            add(
                "ends",
                f"{low}-{high}",
                kind,
                "precision",
                label[called].mean() if called.any() else 0,
                label.sum(),
            )
            add_calibration("ends", f"{low}-{high}", kind, score, label)
    # The two bases of the intron next to a site.
    whole = np.concatenate([np.pad(b, 2, constant_values=4) for b in bases])
    index = np.concatenate(
        [
            np.arange(len(b)) + 2 + s
            for b, s in zip(bases, np.cumsum([0] + [len(b) + 4 for b in bases[:-1]]))
        ]
    )
    truth = np.concatenate(truths)
    for c, kind in enumerate(KINDS):
        at = np.flatnonzero(truth[:, c])
        i = index[at] + (-2 if c == 0 else 1)
        pair = np.array(["ACGTN"[p] + "ACGTN"[q] for p, q in zip(whole[i], whole[i + 1])])
        for name in sorted(set(pair), key=lambda name: -(pair == name).sum()):
            part = pair == name
            add(
                "dinucleotides",
                name,
                kind,
                "recall",
                (clean[at[part], c] >= thresholds[c]).mean(),
                part.sum(),
            )
    os.makedirs(os.path.dirname(os.path.abspath(args.output)), exist_ok=True)
    with open(args.output, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["section", "condition", "kind", "figure", "value", "sites"])
        writer.writerows(rows)


if __name__ == "__main__":
    main()
