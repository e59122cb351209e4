"""From a checkpoint of `splice.py` to the model: float network, calibration, thresholds, cascade,
figures, manifest, packed file.

What: OUT/splice.onnx, .json (all figures), .toml (manifest), .safetensors. Everything is fitted on
  the raw outputs of the packed int8 network as the program computes them, and what is reported is
  of genes that it was not fitted on: held-out genes (md5(symbol) mod 100 < 10) in two halves, every
  other gene, fitted on one and measured on the other; the file gets what is fitted on both.
Calibration: its shape is fitted on the training genes, whose sites are ten times as many, then a
  slope and a shift on held-out genes, on which the network is less certain for good reason. Where
  bases are missing towards the nearer end of a read, another slope and shift, fitted on pieces of
  held-out genes of 400 to 3,000 nt.
Threshold: as many calls as there are sites, so that precision equals recall.
Cascade: a call of the accurate tier survives where a base within 4 has a fast logit of its kind of
  at least `survive`: the logit that 99.5 % of the calls have, less 0.75, since reads with errors
  have lower ones. Arithmetic is counted on both strands, by the rows of each layer that the
  surviving bases need.
Whole windows: a map of their own, since half of such windows hold a site in the middle: fitted on
  windows of training genes, a quarter acceptors, a quarter donors, and half neither, of which 40 %
  have AG before the middle and 30 % GT behind it, as in GUE's.
How: python models/train/splice_report.py --data DIR --checkpoint OUT/splice.pt --out OUT
     (two minutes on one core; needs `cargo build --release --features full`)
"""

import argparse
import csv
import json
import os
import subprocess

import numpy as np

from calibration import fit_knots, fit_line
from manifest import COMMON, splice, write_toml
from packed import TIERS, Packed, calls
from scoring import apply_knots, average_precision, calibration_error, correlation, sigmoid, top_k
from sequences import letters, reverse_complement
from splice_data import KINDS, load_genes
from splice_net import export, load

SEPARATION = 4
ENDS = (25, 50, 100, 200)
COVER = 12  # how often the pieces of genes cover a base
KEEP, MARGIN = 0.995, 0.5
COLUMNS = [(tier, kind) for tier in TIERS for kind in KINDS]


def raw_scores(binary, path, sequences):
    """[4 columns] of each sequence."""
    parts = [Packed(binary, path, tier).scan([letters(s) for s in sequences]) for tier in TIERS]
    return [np.concatenate(pair, 1) for pair in zip(*parts)]


def composed(knots, slope, shift):
    return [[x, round(slope * y + shift, 4)] for x, y in knots]


def write_model(binary, network, content, path, reads):
    """Manifest and packed file of a network, under this path and the usual endings."""
    named = {"name": content.pop("name"), "version": content.pop("version")}
    with open(path + ".toml", "w") as out:
        write_toml({**named, **COMMON, **content}, out)
    command = [binary, "-q", "pack", network, "--manifest", path + ".toml", "--calibrate", reads]
    subprocess.check_call([*command, "--require-bits", "-o", path + ".safetensors"])


# -------------------------------------------------------------------------------------- calibration


def fit_map(shape, z, truth):
    """The training genes' map with the slope and shift that these bases ask for."""
    return composed(shape, *fit_line(apply_knots(shape, z), truth))


def fit_ends(main, z, truth, distance, sites):
    """Maps near a read's end: [(below, knots)]."""
    low, found = 0, []
    for below in ENDS:
        part = (distance >= low) & (distance < below)
        # In the wider zones a site is seen in several pieces, and counts once.
        weight = min(1.0, sites / max(1, truth[part].sum()))
        found.append(
            (below, composed(main, *fit_line(apply_knots(main, z[part]), truth[part], weight)))
        )
        low = below
    return found


def apply_ends(main, ends, z, distance):
    y = apply_knots(main, z)
    for below, knots in reversed(ends):
        near = distance < below
        y[near] = apply_knots(knots, z[near])
    return y


def pieces(genes, rng):
    """Reads of held-out genes: (bases, labels, gene)."""
    for i, gene in enumerate(genes):
        bases = gene["bases"]
        for _ in range(max(1, COVER * len(bases) // 1350)):
            n = min(len(bases), int(np.exp(rng.uniform(np.log(400), np.log(3000)))))
            a = int(rng.integers(len(bases) - n + 1))
            yield bases[a : a + n], gene["hard"][a : a + n] > 0, i


# -------------------------------------------------------------------------------------------- calls


def called(parts, level):
    """Of each sequence, the places that are called at this level, by the program's rule."""
    return [np.array(calls(z, level, SEPARATION), int) for z in parts]


def equal_level(parts, truths):
    """Where as many places are called as there are sites."""
    peaks = np.sort(np.concatenate([z[at] for z, at in zip(parts, called(parts, -20.0))]))[::-1]
    return float(peaks[sum(int(t.sum()) for t in truths) - 1])


def precision_recall_at(parts, truths, levels):
    hits = [
        t[at] for t, at in zip(truths, (called([z], level)[0] for z, level in zip(parts, levels)))
    ]
    right, count = sum(int(h.sum()) for h in hits), sum(len(h) for h in hits)
    return round(right / count, 4), round(right / sum(int(t.sum()) for t in truths), 4)


# ------------------------------------------------------------------------------------------ cascade


def rows_needed(model):
    """(multiply-adds a row, distance to the head's output) of each layer that runs around survivors
    only."""
    depth, layers = len(model.trunk), model.layers
    far = [0] * (len(layers) + 1)
    far[-1] = model.accurate.padding
    for i in range(len(layers), depth, -1):
        source, added = model.spec[i - 1]
        far[source] = max(far[source], far[i] + layers[i - 1].padding)
        if added >= 0:
            far[added] = max(far[added], far[i])
    rows = [(layers[i - 1].conv.weight.numel(), far[i]) for i in range(depth + 1, len(layers) + 1)]
    return rows + [(model.accurate.conv.weight.numel(), 0)]


def covered(at, length, half):
    """Rows within `half` of any of the sorted positions."""
    if len(at) == 0:
        return 0
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, length)
    return int((high - np.maximum(low, np.concatenate([[0], high[:-1]]))).sum())


def arithmetic(model, parts, survive):
    """Multiply-adds of the cascade as a share of the accurate tier's."""
    fast, accurate = model.macs()
    needed, bases, cost = rows_needed(model), 0, 0
    for z in parts:
        at = np.flatnonzero((z[:, :2] >= survive).any(1))
        bases += len(z)
        cost += fast * len(z) + sum(
            mac * covered(at, len(z), half + SEPARATION) for mac, half in needed
        )
    return round(cost / bases / accurate, 4)


def best_near(z):
    best = z.copy()
    for d in range(1, SEPARATION + 1):
        best[d:] = np.maximum(best[d:], z[:-d])
        best[:-d] = np.maximum(best[:-d], z[d:])
    return best


# -------------------------------------------------------------------------------------------- whole


def middle_windows(genes, rng):
    """Windows of 400 of training genes with their class: acceptor at 200, donor at 199, or
    neither.
    """
    for gene in genes:
        b, hard = gene["bases"], gene["hard"] > 0
        middles = [(int(i) + c, c) for c in range(2) for i in np.flatnonzero(hard[:, c])]
        decoys = (
            np.flatnonzero((b[:-1] == 0) & (b[1:] == 2)) + 2,
            np.flatnonzero((b[:-1] == 2) & (b[1:] == 3)),
        )
        for _ in range(len(middles)):
            u = rng.random()
            m = int(
                rng.choice(decoys[0])
                if u < 0.4
                else rng.choice(decoys[1])
                if u < 0.7
                else rng.integers(len(b))
            )
            if 0 < m < len(b) and not hard[m, 0] and not hard[m - 1, 1]:
                middles.append((m, 2))
        for m, c in middles:
            if 200 <= m <= len(b) - 200:
                yield b[m - 200 : m + 200], c


def decided(z, y=0.0):
    """Classes by two logits: neither where both are below, else the higher one."""
    return np.where(z.max(1) < y, 2, z.argmax(1))


def mcc(true, got):
    table = np.zeros((3, 3), np.int64)
    np.add.at(table, (true, got), 1)
    return round(correlation(table), 4)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--binary", default="target/release/strandline")
    parser.add_argument(
        "--reads", default="tests/data/reads.fastq.gz", help="that activation scales are chosen on"
    )
    args = parser.parse_args()
    binary, stem = os.path.abspath(args.binary), os.path.join(args.out, "splice")
    os.makedirs(args.out, exist_ok=True)
    model, saved = load(args.checkpoint)
    difference = export(model, stem + ".onnx")
    fast_reach, reach = model.reach()
    report = {
        "step": saved["step"],
        "trunk": saved["trunk"],
        "tower": saved["tower"],
        "macs": model.macs(),
        "onnx_difference": difference,
        "context": {"left": reach, "right": reach},
        "columns": [],
        "whole": {},
        "cascade": {
            "columns": 2,
            "context": {"left": fast_reach, "right": fast_reach},
            "survive": [0.0, 0.0],
        },
    }

    def pack(path, raw):
        write_model(binary, stem + ".onnx", splice(report, raw), path, args.reads)

    raw_path = os.path.join(args.out, "raw")
    pack(raw_path, True)
    scan = lambda sequences: raw_scores(binary, raw_path + ".safetensors", sequences)
    genes = load_genes(os.path.join(args.data, "splice"))
    held, training = ([g for g in genes if g["held_out"] == out] for out in (True, False))
    half = np.arange(len(held)) % 2
    held_z, truths = scan([g["bases"] for g in held]), [g["hard"] > 0 for g in held]
    training_z, training_truth = (
        np.concatenate(scan([g["bases"] for g in training])),
        np.concatenate([g["hard"] > 0 for g in training]),
    )
    cut = list(pieces(held, np.random.default_rng(1)))
    cut_z, cut_truth = (
        np.concatenate(scan([c[0] for c in cut])),
        np.concatenate([c[1] for c in cut]),
    )
    distance = np.concatenate(
        [np.minimum(np.arange(len(c[0])), np.arange(len(c[0]))[::-1]) for c in cut]
    )
    cut_half = np.concatenate([np.full(len(c[0]), half[c[2]]) for c in cut])
    z, truth = np.concatenate(held_z), np.concatenate(truths)
    side_of = np.repeat(half, [len(v) for v in held_z])

    to_end = [np.minimum(np.arange(len(v)), np.arange(len(v))[::-1]) for v in held_z]
    gene_end, lengths = np.concatenate(to_end), np.cumsum([len(v) for v in held_z])[:-1]
    calibrated = []
    for c, (tier, kind) in enumerate(COLUMNS):
        t, sites = truth[:, c % 2], int(truth[:, c % 2].sum())
        labels = [v[:, c % 2] for v in truths]
        shape = fit_knots(training_z[:, c], training_truth[:, c % 2])
        crossed, crossed_cut, plain_cut, levels = (
            np.empty(len(z)),
            np.empty(len(cut_z)),
            np.empty(len(cut_z)),
            {},
        )
        for side in (0, 1):
            own, other, near, away = (
                side_of == side,
                side_of != side,
                cut_half == side,
                cut_half != side,
            )
            knots = fit_map(shape, z[other, c], t[other])
            ends = fit_ends(
                knots, cut_z[away, c], cut_truth[away, c % 2], distance[away], sites / 2
            )
            y = apply_ends(knots, ends, z[:, c], gene_end)
            crossed[own] = y[own]
            plain_cut[near] = apply_knots(knots, cut_z[near, c])
            crossed_cut[near] = apply_ends(knots, ends, cut_z[near, c], distance[near])
            others = [i for i in range(len(held)) if half[i] != side]
            parts = np.split(y, lengths)
            levels[side] = equal_level([parts[i] for i in others], [labels[i] for i in others])
        knots = fit_map(shape, z[:, c], t)
        ends = fit_ends(knots, cut_z[:, c], cut_truth[:, c % 2], distance, sites)
        y = apply_ends(knots, ends, z[:, c], gene_end)
        calibrated.append(np.split(y, lengths))
        level = equal_level(calibrated[-1], labels)
        precision, recall = precision_recall_at(
            np.split(crossed, lengths), labels, [levels[s] for s in half]
        )
        short, low = [], 0
        for below in ENDS:
            part = (distance >= low) & (distance < below)
            errors = [
                calibration_error(sigmoid(v[part]), cut_truth[part, c % 2])
                for v in (crossed_cut, plain_cut)
            ]
            short.append(
                {
                    "from": low,
                    "below": below,
                    **errors[0],
                    "ece_of_the_map_for_whole_context": errors[1]["ece"],
                }
            )
            low = below
        report["columns"].append(
            {
                "tier": tier,
                "kind": kind,
                "top_k": round(top_k(y, t), 4),
                "auprc": round(average_precision(y, t), 4),
                "top_k_of_raw": round(top_k(z[:, c], t), 4),
                "auprc_of_raw": round(average_precision(z[:, c], t), 4),
                "knots": knots,
                "ends": ends,
                "threshold": round(float(sigmoid(level)), 4),
                "level": round(level, 4),
                "precision": precision,
                "recall": recall,
                "calibration": calibration_error(sigmoid(crossed), t),
                "calibration_near_ends": short,
                "calibration_raw": calibration_error(sigmoid(z[:, c]), t),
                "calibration_of_training_genes_alone": calibration_error(
                    sigmoid(apply_knots(shape, z[:, c])), t
                ),
            }
        )
        print(
            json.dumps(
                {k: v for k, v in report["columns"][-1].items() if k not in ("knots", "ends")}
            ),
            flush=True,
        )

    # The cascade.
    nearest = [best_near(v[:, :2]) for v in held_z]
    found = [
        [called([calibrated[2 + k][i]], report["columns"][2 + k]["level"])[0] for k in range(2)]
        for i in range(len(held))
    ]
    both_strands = held_z + scan([reverse_complement(g["bases"]) for g in held])
    reached = lambda chosen, k: np.sort(
        np.concatenate([nearest[i][found[i][k], k] for i in chosen])
    )
    limit = lambda chosen, margin: np.array(
        [v[int((1 - KEEP) * len(v))] - margin for v in (reached(chosen, k) for k in range(2))],
        np.float32,
    )
    checks = []
    for margin in (0.0, MARGIN):
        kept = total = 0
        for side in (0, 1):
            survive = limit([i for i in range(len(held)) if half[i] != side], margin)
            for i in np.flatnonzero(half == side):
                ok = [(nearest[i][at] >= survive).any(1) for at in found[i]]
                kept, total = kept + sum(int(v.sum()) for v in ok), total + sum(len(v) for v in ok)
        survive = limit(range(len(held)), margin)
        checks.append(
            {
                "margin": margin,
                "calls": total,
                "kept": round(kept / total, 4),
                "survive": [round(float(v), 3) for v in survive],
                "arithmetic": arithmetic(model, both_strands, survive),
            }
        )
        print(json.dumps(checks[-1]), flush=True)
    report["cascade"].update(survive=checks[-1]["survive"], checks=checks)

    # Whole windows.
    windows = list(middle_windows(training, np.random.default_rng(1)))
    middle = lambda parts: np.stack([v[[200, 199, 200, 199], range(4)] for v in parts])
    zw, cw = middle(scan([w for w, _ in windows])), np.array([c for _, c in windows])
    slope, shift = fit_line(
        np.concatenate(zw.T), np.concatenate([cw == c % 2 for c in range(4)]), lowest=-12.0
    )
    with open(os.path.join(args.data, "splice", "gue_reconstructed_dev.csv")) as lines:
        rows = [(row["sequence"], int(row["label"])) for row in csv.DictReader(lines)]
    parts = [
        Packed(binary, raw_path + ".safetensors", tier).scan([s for s, _ in rows]) for tier in TIERS
    ]
    zg, label = (
        middle([np.concatenate(pair, 1) for pair in zip(*parts)]),
        np.array([y for _, y in rows]),
    )
    report["whole"] = {
        "calibration": [[round((y - shift) / slope, 4), y] for y in (-8.0, 8.0)],
        "windows": len(windows),
    }
    for j, tier in enumerate(TIERS):
        pair = slice(2 * j, 2 * j + 2)
        plain = np.stack(
            [
                apply_knots(report["columns"][2 * j + k]["ends"][-1][1], zg[:, 2 * j + k])
                for k in range(2)
            ],
            1,
        )
        report["whole"][tier] = {
            "gue_dev_mcc": mcc(label, decided(slope * zg[:, pair] + shift)),
            "gue_dev_mcc_calibrated_for_genes": mcc(label, decided(plain)),
        }
    print(json.dumps(report["whole"]), flush=True)
    with open(stem + ".json", "w") as out:
        json.dump(report, out, indent=1)
    pack(stem, False)
    for part in ("raw.toml", "raw.safetensors"):
        os.remove(os.path.join(args.out, part))


if __name__ == "__main__":
    main()
