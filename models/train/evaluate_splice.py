"""The splice section of `evaluate.py`: both tiers on whole held-out genes, GUE's windows, sites
without the usual dinucleotides, and the cascade.

Calls are the program's: local maxima at or above the default threshold. The calibration's slope and
shift and the thresholds were fitted on the held-out genes; `splice_report.json` has the same
figures with each half of the genes measured by what the other half gives. GUE's three classes by
two probabilities: neither where both are below one half, else the higher one.
"""

import copy
import csv
import json
import os
import re
import subprocess
import tempfile

import numpy as np

from evaluate_clades import gc_donors, interval
from packed import TIERS, Packed, calls, scores
from read_errors import simulate
from scoring import average_precision, calibration_error, correlation, top_k
from sequences import encode, letters, write_fasta
from splice_data import KINDS, load_genes

AROUND = 2500  # bases either side of a site that is scored alone: more than any context
USUAL = ("AG", "GT")
CLASSES = {
    "GC donors": ("donor", ("GC",)),
    "AT donors": ("donor", ("AT",)),
    "AC acceptors": ("acceptor", ("AC",)),
    "other donors": ("donor", None),
    "other acceptors": ("acceptor", None),
}


def unusual_sites(genes):
    """(kind, dinucleotide of the intron, held out, bases around, place among them) of sites that
    are not GT or AG."""
    for gene in genes:
        bases = gene["bases"]
        for at, c in zip(*np.nonzero(gene["hard"] == 255)):
            low, high = (at - 2, at) if c == 0 else (at + 1, at + 3)
            pair = letters(bases[max(low, 0) : high])
            if len(pair) == 2 and pair != USUAL[c]:
                start = max(0, at - AROUND)
                yield KINDS[c], pair, gene["held_out"], bases[start : at + AROUND + 1], at - start


def wilson(count, of, z=1.645):
    """90 % interval of a share."""
    share, more = count / of, z * z / of
    middle, half = share + more / 2, z * np.sqrt(share * (1 - share) / of + more / of / 4)
    return (middle - half) / (1 + more), (middle + half) / (1 + more)


def three_classes(p):
    return np.where(p.max(1) < 0.5, 2, p.argmax(1))


def annotate(packed, sequences, tier):
    """Calls as (sequence, place, strand, kind), and the share of positions that were looked at
    twice, as the program's summary says."""
    with tempfile.TemporaryDirectory() as folder:
        fasta, out = os.path.join(folder, "in.fa"), os.path.join(folder, "out.jsonl")
        write_fasta(fasta, [letters(s) for s in sequences])
        done = subprocess.run(
            [
                packed.binary,
                "annotate",
                "--tasks",
                "splice",
                "--model",
                packed.path,
                "--tier",
                tier,
                "--format",
                "jsonl",
                "-o",
                out,
                fasta,
            ],
            check=True,
            stderr=subprocess.PIPE,
            text=True,
        )
        with open(out) as lines:
            found = {
                tuple(call[key] for key in ("read", "start", "strand", "kind"))
                for call in map(json.loads, lines)
            }
    share = re.search(r"second look.*?([0-9.]+) ?%", done.stderr)
    return found, float(share[1]) / 100 if share else float("nan")


def splice(data, packed, network):
    genes = load_genes(os.path.join(data, "splice"))
    held = [g for g in genes if g["held_out"]]
    truth = np.concatenate([g["hard"] > 0 for g in held])
    with open(os.path.join(data, "splice", "gue_reconstructed_dev.csv")) as lines:
        gue = [(row["sequence"], int(row["label"])) for row in csv.DictReader(lines)]
    unusual = list(unusual_sites(genes))
    print(
        f"splice: {len(held)} genes, {len(truth):,} nt, {truth.sum():,} sites; GUE {len(gue):,}"
        " windows"
    )
    for tier in TIERS:
        own, plain = Packed(packed.binary, packed.path, tier), copy.copy(network)
        plain.manifest = own.manifest
        as_read = lambda codes: scores(own.manifest, plain.scan(codes), read=True)
        both = [own.scan([letters(g["bases"]) for g in held]), [as_read(g["bases"]) for g in held]]
        whole = [np.concatenate(side) for side in both]
        for c, output in enumerate(own.manifest["outputs"]):
            label = truth[:, c]
            name = f"{tier} {output['name']}"
            for title, value in (("top-k", top_k), ("AUPRC", average_precision)):
                yield f"{name} {title} *", [value(side[:, c], label) for side in whole]
                genes_of = [[(p[:, c], g["hard"][:, c] > 0) for p, g in zip(s, held)] for s in both]
                rng = np.random.default_rng(1)
                intervals = [interval(value, parts, rng) for parts in genes_of]
                yield f"{name} {title}, 95 % by gene, from", [low for low, _ in intervals]
                yield f"{name} {title}, 95 % by gene, to", [high for _, high in intervals]
            called = [
                [
                    (g["hard"][at, c] > 0)
                    for g, at in zip(
                        held,
                        ([calls(p[:, c], output["threshold"], output["separation"]) for p in side]),
                    )
                ]
                for side in both
            ]
            hits = [np.concatenate(side) for side in called]
            yield f"{name} precision of calls", [side.mean() for side in hits]
            yield f"{name} recall of calls", [side.sum() / label.sum() for side in hits]
            yield (
                f"{name} calibration error",
                [calibration_error(side[:, c], label)["ece"] for side in whole],
            )
            yield (
                f"{name} the same if calibrated perfectly",
                [calibration_error(side[:, c], label)["ece_if_perfect"] for side in whole],
            )
        windows = [
            own.whole([s for s, _ in gue]),
            scores(
                own.manifest,
                np.array([plain.whole(encode(s.encode())) for s, _ in gue]),
                whole=True,
            ),
        ]
        table = np.zeros((2, 3, 3), np.int64)
        for t, side in zip(table, windows):
            np.add.at(t, (np.array([y for _, y in gue]), three_classes(side)), 1)
        yield f"{tier} GUE, three classes, MCC *", [correlation(t) for t in table]
        pieces = [own.scan([letters(u[3]) for u in unusual]), [as_read(u[3]) for u in unusual]]
        for name, (kind, pairs) in CLASSES.items():
            c = KINDS.index(kind)
            named = [p for k, ps in CLASSES.values() if k == kind and ps for p in ps]
            for which, wanted in (
                ("held out", (True,)),
                ("all genes, seen in training", (True, False)),
            ):
                at = [
                    i
                    for i, u in enumerate(unusual)
                    if u[0] == kind
                    and (u[1] in pairs if pairs else u[1] not in named)
                    and u[2] in wanted
                ]
                if at:
                    least = own.manifest["outputs"][c]["threshold"]
                    found = [sum(side[i][unusual[i][4], c] >= least for i in at) for side in pieces]
                    title = f"{tier} recall, {name}, {which} ({len(at)})"
                    yield title, [count / len(at) for count in found]
                    limits = [wilson(count, len(at)) for count in found]
                    yield f"{title}, 90 %, from", [low for low, _ in limits]
                    yield f"{title}, 90 %, to", [high for _, high in limits]
        # Few genes have one, so the clades' contigs count, too, each by its own model.
        at = [i for i, u in enumerate(unusual) if u[0] == "donor" and u[1] == "GC" and u[2]]
        least = own.manifest["outputs"][KINDS.index("donor")]["threshold"]
        own_found = sum(pieces[0][i][unusual[i][4], KINDS.index("donor")] >= least for i in at)
        found, every = gc_donors(data, packed.binary, os.path.dirname(packed.path), tier)
        found, every = int(own_found) + found, len(at) + every
        title = f"{tier} recall, GC donors, held out, all clades ({every})"
        low, high = wilson(found, every)
        for name, value in ((title, found / every), (f"{title}, 90 %, from", low)):
            yield name, [value, float("nan")]
        yield f"{title}, 90 %, to", [high, float("nan")]
    for name, rate in (("no errors", 0.0), ("5 % errors", 0.05)):
        rng = np.random.default_rng(1)
        reads = [simulate(g["bases"], rate, rng)[0] for g in held]
        (every, _), (kept, share) = (
            annotate(packed, reads, "accurate"),
            annotate(packed, reads, "auto"),
        )
        yield (
            f"auto: share of the accurate tier's calls, {name} ({len(every):,})",
            [len(kept & every) / len(every), float("nan")],
        )
        yield (
            f"auto: calls that the accurate tier has not, {name}",
            [len(kept - every), float("nan")],
        )
        yield f"auto: share of positions looked at twice, {name}", [share, float("nan")]
