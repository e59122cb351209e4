"""From a checkpoint of `clades.py` to the model: float network, calibration, thresholds, cascade,
figures, manifest, packed file.

What: OUT/splice-CLADE.onnx, .json (all figures), .toml (manifest), .safetensors, as
  `splice_report.py` makes them for the human network. Everything is fitted on the raw outputs of
  the packed int8 network as the program computes them.
Where: the transcripts of the held-out contigs (and fly loci), each on its strand, in two parts,
  every other stretch of transcripts: what is reported is fitted on the other part, the file gets
  what is fitted on both. The calibration's shape is that of the contigs that were trained on.
Figures: top-k, AUPRC, precision and recall with 95 % intervals by stretch; recall by the length of
  the intron; calls a megabase and strand between the transcripts, where every call counts as false.
How: python models/train/clade_report.py --clade plant --data DIR --checkpoint OUT/splice.pt \\
         --out OUT (a minute on one core; needs `cargo build --release --features full`)
"""

import argparse
import json
import os

import numpy as np

from calibration import fit_knots
from clade_data import SHORT, SPECIES, CladeCrops, Strand, held_strands, introns, stretches
from evaluate_clades import interval
from manifest import clade
from packed import calls
from scoring import apply_knots, average_precision, calibration_error, sigmoid, top_k
from splice_data import KINDS
from splice_net import export, load
from splice_report import (
    COLUMNS,
    ENDS,
    KEEP,
    MARGIN,
    SEPARATION,
    apply_ends,
    arithmetic,
    best_near,
    equal_level,
    fit_ends,
    fit_map,
    precision_recall_at,
    raw_scores,
    write_model,
)

COVER = 6  # how often the reads that are cut from the contigs cover a base


def dinucleotides(bases, kind):
    """How many AG (acceptors) or GT (donors)."""
    pair = (0, 2) if kind == 0 else (2, 3)
    return int(((bases[:-1] == pair[0]) & (bases[1:] == pair[1])).sum())


def rounded(values):
    return [round(float(v), 4) for v in values]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clade", choices=SPECIES, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--reads", default="tests/data/reads.fastq.gz")
    parser.add_argument("--binary", default="target/release/strandline")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    model, saved = load(args.checkpoint)
    stem = os.path.join(args.out, f"splice-{args.clade}")
    fast_reach, reach = model.reach()
    data = CladeCrops(args.data, args.clade, 1, 1)
    held, whole = (
        held_strands(args.data, args.clade),
        [s for c in data.trained for s in c.strands()],
    )
    rates = {}
    for c, kind in enumerate(KINDS):
        known = [(s.bases[s.inside], s.hard[s.inside, c]) for s in held + whole]
        sites, places = sum((h > 0).sum() for _, h in known), 0
        places = sum(dinucleotides(b, c) for b, _ in known)
        rates[kind] = round(float(sites / places), 5)
    report = {
        "clade": args.clade,
        "step": saved["step"],
        "trunk": saved["trunk"],
        "tower": saved["tower"],
        "macs": model.macs(),
        "onnx_difference": export(model, stem + ".onnx"),
        "context": {"left": reach, "right": reach},
        "base_rates": rates,
        "columns": [],
        "cascade": {
            "columns": 2,
            "context": {"left": fast_reach, "right": fast_reach},
            "survive": [0.0, 0.0],
        },
    }

    def pack(path, raw):
        write_model(args.binary, stem + ".onnx", clade(report, raw), path, args.reads)

    raw_path = os.path.join(args.out, "raw")
    pack(raw_path, True)
    scan = lambda sequences: raw_scores(args.binary, raw_path + ".safetensors", sequences)
    held_z, whole_z = (scan([s.bases for s in part]) for part in (held, whole))
    training_z = np.concatenate([v[s.inside] for v, s in zip(whole_z, whole)])
    training_truth = np.concatenate([s.hard[s.inside] > 0 for s in whole])

    places = [(n, a, b) for n, s in enumerate(held) for a, b in stretches(s.inside)]
    part = np.arange(len(places)) % 2
    z = [held_z[s][a:b] for s, a, b in places]
    truths = [held[s].hard[a:b] > 0 for s, a, b in places]
    lengths = [introns(held[s].hard)[a:b] for s, a, b in places]
    rng = np.random.default_rng(1)
    reads = []  # (logits, labels, distance to the nearer end, part)
    cut = []
    for s, a, b in places:
        for _ in range(max(1, COVER * (b - a) // 1350)):
            bases = held[s].bases
            n = min(len(bases), int(np.exp(rng.uniform(np.log(400), np.log(3000)))))
            start = int(np.clip(rng.integers(a - n // 2, b - n // 2 + 1), 0, len(bases) - n))
            cut.append((s, start, n))
    owner = {}
    for number, (s, a, b) in enumerate(places):
        owner.setdefault(s, np.full(len(held[s].bases), -1))[a:b] = part[number]
    for (s, start, n), own in zip(cut, scan([held[s].bases[a : a + n] for s, a, n in cut])):
        at = np.arange(n)
        use = owner[s][start : start + n] >= 0
        reads.append(
            (
                own[use],
                held[s].hard[start : start + n][use] > 0,
                np.minimum(at, n - 1 - at)[use],
                owner[s][start : start + n][use],
            )
        )
    cut_z, cut_truth, distance, cut_part = (np.concatenate(column) for column in zip(*reads))
    free = sum(int(s.between.sum()) for s in held)

    levels = []
    for c, (tier, kind) in enumerate(COLUMNS):
        k = c % 2
        own, labels = [v[:, c] for v in z], [t[:, k] for t in truths]
        shape = fit_knots(training_z[:, c], training_truth[:, k])
        crossed, level_of = [None] * len(own), {}
        every = lambda numbers, of: np.concatenate([of[i] for i in numbers])
        for side in (0, 1):
            others = np.flatnonzero(part != side)
            knots = fit_map(shape, every(others, own), every(others, labels))
            level_of[side] = equal_level(
                [apply_knots(knots, own[i]) for i in others], [labels[i] for i in others]
            )
            for i in np.flatnonzero(part == side):
                crossed[i] = apply_knots(knots, own[i])
        flat, truth = np.concatenate(own), np.concatenate(labels)
        knots = fit_map(shape, flat, truth)
        ends = fit_ends(knots, cut_z[:, c], cut_truth[:, k], distance, int(truth.sum()))
        mapped = [apply_knots(knots, v) for v in own]
        level = equal_level(mapped, labels)
        levels.append(level)
        precision, recall = precision_recall_at(crossed, labels, [level_of[s] for s in part])
        called = [calls(v, level_of[s], SEPARATION) for v, s in zip(crossed, part)]
        found = np.concatenate([np.isin(np.arange(len(v)), at) for v, at in zip(crossed, called)])
        size = np.concatenate([n[:, k] for n in lengths])
        by_size = {}
        for name, use in (
            ("short", (size > 0) & (size <= SHORT)),
            ("long", size > SHORT),
        ):
            use &= truth
            by_size[name] = {
                "sites": int(use.sum()),
                "recall": round(float(found[use].mean()), 4),
            }
        parts = list(zip(own, labels))
        false = 0
        for v, s in zip(held_z, held):
            at = calls(apply_knots(knots, v[:, c]), level, SEPARATION)
            false += int(s.between[at].sum())
        report["columns"].append(
            {
                "tier": tier,
                "kind": kind,
                "sites": int(truth.sum()),
                "top_k": round(top_k(flat, truth), 4),
                "top_k_95": rounded(interval(top_k, parts, rng)),
                "auprc": round(average_precision(flat, truth), 4),
                "auprc_95": rounded(interval(average_precision, parts, rng)),
                "knots": knots,
                "ends": ends,
                "threshold": round(float(sigmoid(level)), 4),
                "level": round(level, 4),
                "precision": precision,
                "recall": recall,
                "recall_by_intron": by_size,
                "false_calls_a_megabase_between_genes": round(false / free * 1e6, 1),
                "calibration": calibration_error(sigmoid(np.concatenate(crossed)), truth),
            }
        )
        print(
            json.dumps(
                {k: v for k, v in report["columns"][-1].items() if k not in ("knots", "ends")}
            ),
            flush=True,
        )

    nearest = [best_near(v[:, :2]) for v in z]
    found = [
        [
            calls(
                apply_knots(report["columns"][2 + k]["knots"], v[:, 2 + k]),
                levels[2 + k],
                SEPARATION,
            )
            for k in range(2)
        ]
        for v in z
    ]
    reached = lambda chosen, k: np.sort(
        np.concatenate([nearest[i][found[i][k], k] for i in chosen])
    )
    limit = lambda chosen: np.array(
        [v[int((1 - KEEP) * len(v))] - MARGIN for v in (reached(chosen, k) for k in range(2))]
    )
    kept = total = 0
    for side in (0, 1):
        survive = limit(np.flatnonzero(part != side))
        for i in np.flatnonzero(part == side):
            ok = [(nearest[i][at] >= survive).any(1) for at in found[i]]
            kept, total = kept + sum(int(v.sum()) for v in ok), total + sum(len(v) for v in ok)
    survive = limit(range(len(z)))
    report["cascade"] |= {
        "survive": [round(float(v), 3) for v in survive],
        "calls": total,
        "kept": round(kept / total, 4),
        "arithmetic": arithmetic(model, held_z, survive),
    }
    print(json.dumps(report["cascade"]), flush=True)
    with open(stem + ".json", "w") as out:
        json.dump(report, out, indent=1)
    pack(stem, False)
    for name in ("raw.toml", "raw.safetensors"):
        os.remove(os.path.join(args.out, name))


if __name__ == "__main__":
    main()
