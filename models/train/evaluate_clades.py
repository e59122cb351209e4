"""The clade sections of `evaluate.py`: splice models of insects, nematodes and plants in the
transcripts of contigs (and fly loci) that they were not trained on, each on its strand.

Calibration and thresholds were fitted there; `splice-CLADE_report.json` has precision and recall of
each half of the transcripts by what the other half gives. Intervals: 95 %, by stretch of
transcripts. Beyond transcripts every call counts as false.
"""

import copy
import os

import numpy as np

from clade_data import SHORT, SPECIES, held_strands, introns, stretches
from packed import TIERS, Packed, calls, scores
from scoring import average_precision, calibration_error, top_k
from sequences import letters
from splice_data import KINDS

DRAWS = 300


def interval(value, parts, rng):
    """95 % interval of a figure of a list of stretches (scores, labels)."""

    def draw():
        some = [parts[i] for i in rng.integers(0, len(parts), len(parts))]
        return value(*(np.concatenate(column) for column in zip(*some)))

    return np.percentile([draw() for _ in range(DRAWS)], [2.5, 97.5])


def gc_donors(data, binary, folder, tier):
    """How many donors before GC each clade's model finds in its held-out transcripts, of how
    many."""
    found, every = 0, 0
    for clade in SPECIES:
        model = Packed(binary, os.path.join(folder, f"splice-{clade}.safetensors"), tier)
        least = model.manifest["outputs"][KINDS.index("donor")]["threshold"]
        strands = held_strands(data, clade)
        for s, score in zip(strands, model.scan([letters(s.bases) for s in strands])):
            for at in np.flatnonzero((s.hard[:, KINDS.index("donor")] > 0) & s.inside):
                if letters(s.bases[at + 1 : at + 3]) == "GC":
                    every += 1
                    found += score[at, KINDS.index("donor")] >= least
    return int(found), every


def splice_of(clade):
    def measure(data, packed, network):
        strands = held_strands(data, clade)
        print(
            f"{sum(len(s.bases) for s in strands):,} nt of strands,"
            f" {sum(int(s.inside.sum()) for s in strands):,} of them in transcripts"
        )
        free = sum(int(s.between.sum()) for s in strands) / 1e6
        for tier in TIERS:
            own, plain = Packed(packed.binary, packed.path, tier), copy.copy(network)
            plain.manifest = own.manifest
            whole = [
                own.scan([letters(s.bases) for s in strands]),
                [scores(own.manifest, plain.scan(s.bases), read=True) for s in strands],
            ]
            for c, output in enumerate(own.manifest["outputs"]):
                name, rng = f"{tier} {output['name']}", np.random.default_rng(1)
                parts = [
                    [
                        (p[a:b, c], s.hard[a:b, c] > 0)
                        for p, s in zip(side, strands)
                        for a, b in stretches(s.inside)
                    ]
                    for side in whole
                ]
                flat = [[np.concatenate(column) for column in zip(*part)] for part in parts]
                sites = int(flat[0][1].sum())
                for title, value in (("top-k", top_k), ("AUPRC", average_precision)):
                    yield f"{name} {title}, {sites} sites *", [value(*side) for side in flat]
                    both = [interval(value, side, rng) for side in parts]
                    yield f"{name} {title}, from", [low for low, _ in both]
                    yield f"{name} {title}, to", [high for _, high in both]
                # Loci are cut from the start codon on; contigs have all that there is.
                alone = [n for n, s in enumerate(strands) if s.between.any()]
                if len(alone) < len(strands):
                    inside = [(n, strands[n].inside) for n in alone]
                    labels = np.concatenate([strands[n].hard[i, c] > 0 for n, i in inside])
                    yield (
                        f"{name} top-k, contigs alone, {int(labels.sum())} sites",
                        [
                            top_k(np.concatenate([side[n][i, c] for n, i in inside]), labels)
                            for side in whole
                        ],
                    )
                at = [
                    [calls(p[:, c], output["threshold"], output["separation"]) for p in side]
                    for side in whole
                ]
                called = [
                    [np.isin(np.arange(len(s.bases)), found) for s, found in zip(strands, side)]
                    for side in at
                ]
                every = lambda of: np.concatenate([of(s)[s.inside] for s in strands])
                hits = [
                    np.concatenate([v[s.inside] for s, v in zip(strands, side)]) for side in called
                ]
                truth, length = (
                    every(lambda s: s.hard[:, c] > 0),
                    every(lambda s: introns(s.hard)[:, c]),
                )
                yield f"{name} precision of calls", [truth[h].mean() for h in hits]
                yield f"{name} recall of calls", [h[truth].mean() for h in hits]
                for title, use in (
                    (f"to {SHORT} nt", (length > 0) & (length <= SHORT)),
                    (f"above {SHORT} nt", length > SHORT),
                ):
                    use = use & truth
                    yield (
                        f"{name} recall, introns {title} ({int(use.sum())})",
                        [h[use].mean() for h in hits],
                    )
                yield (
                    f"{name} calls a megabase between transcripts",
                    [
                        sum(int(v[s.between].sum()) for s, v in zip(strands, side)) / free
                        for side in called
                    ],
                )
                yield (
                    f"{name} calibration error",
                    [calibration_error(*side)["ece"] for side in flat],
                )

    return measure
