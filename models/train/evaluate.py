"""Prints the figures of the model cards: each packed model as the program runs it, beside its float
network.

    cargo build --release
    python models/train/evaluate.py --data DIR    the data kit; a minute and a half, one core

Packed figures come from `strandline score` and `strandline annotate`, float figures from ONNX
Runtime with the same calibration, thresholds and call rule. All sequences are held out, by the
rules that the recipes train by:
  splice             genes with md5(symbol) mod 100 < 10, whole, sense strand, all bases pooled;
                     GUE's windows; the cascade
  splice-CLADE       transcripts of contigs and fly loci that were not trained on (`clade_data.py`)
  promoter           GUE core windows of the dev files; promoters of theirs in their true
                     surroundings; interiors of the same held-out genes (beyond their first
                     1,000 nt), and the chr9 megabase
  tf                 GUE's windows of the dev files, mean of the scores of both orientations
  promoter-300       300-nt windows of the dev file
  expression         UTRs with md5(sequence) mod 100 < 20; and made-up UTRs of 25 to 100 nt, which
                     FramePool labels
  te                 genes with md5(gene) mod 100 < 20; intervals from 1,000 bootstrap draws of
                     genes
  ires               windows of sources with md5(source) mod 5 = 0 and what shares 50 nt or a source
                     with them (`ires_data.py`); interval from 1,000 bootstrap draws of groups
  promoter-strength  promoters with md5(sequence) mod 100 < 50 (La Fleur) and < 20 (Urtecho)
  dnabert-small      GUE's windows of the dev files; the float figures are those of
                     `dnabert_small_report.json`
The exit code is 1 where the packed model loses more than 0.005 of a figure marked with '*'.
"""

import argparse
import copy
import csv
import gzip
import json
import os
import sys

import numpy as np

from clade_data import SPECIES
from evaluate_clades import splice_of
from evaluate_splice import splice
from ires_data import Rows, interval
from packed import TIERS, FloatNetwork, Packed, calls, of_tier, read_manifest, scores
from scoring import average_precision, calibration_error, r2, spearman
from scoring import correlation as of_classes
from sequences import bucket, encode, letters, read_sequences, reverse_complement

MOST_LOST = 0.005
# bases after a gene's start, and either side of one, where a promoter call is no false call
START_ZONE = 1000
ALLOWED = 5  # false calls a megabase and strand that promoters are compared at
FLOOR = 1e-4  # probability; calls that are compared lie far above it
TSS, TSS_300 = 34, 250  # index of the start site in GUE core windows and in those of 300 nt


def correlation(label, call):
    """Matthews correlation coefficient."""
    return float(np.corrcoef(label, call)[0, 1])


def held_out_genes(data):
    """(id, sequence) of whole genes in gene orientation."""
    for header, text in read_sequences(os.path.join(data, "splice", "genes_chr1.fa.gz")):
        name, symbol = header.split()[:2]
        if bucket(symbol) < 10:
            yield name, text


def rows_of(data, *path, delimiter=","):
    with open(os.path.join(data, *path)) as lines:
        return list(csv.DictReader(lines, delimiter=delimiter))


def windows(data, name):
    return [
        (row["sequence"], row["label"] == "1")
        for row in rows_of(data, "promoter", f"gue_prom_{name}.csv")
    ]


def in_context(data):
    """300-nt windows of the promoters whose core is a dev row: their true surroundings."""
    held = {
        sequence
        for part in ("all", "notata", "tata")
        for sequence, _ in windows(data, f"core_{part}_dev")
    }
    held |= {sequence[TSS_300 - TSS :][:70] for sequence, _ in windows(data, "300_tata_dev")}
    held |= {letters(reverse_complement(encode(sequence))) for sequence in held}
    rows = {
        sequence
        for name in ("300_all_dev", "300_notata_dev", "300_tata_train")
        for sequence, label in windows(data, name)
        if label
    }
    return sorted(
        sequence
        for sequence in rows
        if sequence[TSS_300 - TSS :][:70] in held and set(sequence) <= set("ACGT")
    )


def gene_interiors(data):
    """The held-out genes beyond their first 1,000 nt, and megabases of both strands."""
    genes = [text[START_ZONE:] for _, text in held_out_genes(data) if len(text) > 3 * START_ZONE]
    return genes, 2 * sum(int((encode(text) < 4).sum()) for text in genes) / 1e6


def chr9(data):
    """The megabase, and by what counts as a false call where one is."""
    stem = os.path.join(data, "genome", "human_GRCh38_chr9_1_1000000")
    ((_, text),) = read_sequences(stem + ".fa.gz")
    keep = {
        what: encode(text) < 4
        for what in (
            "beyond 1 kb of gene starts",
            "beyond 1 kb of transcript starts",
            "outside genes by 1 kb",
        )
    }
    with gzip.open(stem + ".gtf.gz", "rt") as lines:
        for fields in (line.split("\t") for line in lines if not line.startswith("#")):
            first, last = int(fields[3]) - 1, int(fields[4]) - 1
            start = first if fields[6] == "+" else last
            if fields[2] in ("gene", "transcript"):
                keep[f"beyond 1 kb of {fields[2]} starts"][
                    max(0, start - START_ZONE) : start + START_ZONE + 1
                ] = False
            if fields[2] == "gene":
                keep["outside genes by 1 kb"][
                    max(0, first - START_ZONE) : last + START_ZONE + 1
                ] = False
    return text, keep


def float_calls(network, output, text):
    """Starts of the calls on both strands, in forward coordinates."""
    codes = encode(text)
    for strand in (codes, reverse_complement(codes)):
        score = scores(network.manifest, network.scan(strand))[:, 0]
        for at in calls(score, output["threshold"], output["separation"]):
            yield at if strand is codes else len(codes) - 1 - at


def whole_windows(packed, network, texts):
    """Scores of whole windows or sequences: (packed, float), all outputs."""
    raw = np.array([network.whole(encode(text)) for text in texts])
    return packed.whole(texts), scores(packed.manifest, raw, whole=True)


def window_mcc(data, packed, network, name, mark):
    rows = windows(data, name + "_dev")
    label = np.array([label for _, label in rows])
    both = whole_windows(packed, network, [sequence for sequence, _ in rows])
    return f"GUE prom_{name} MCC{mark} ({len(rows):,} windows)", [
        correlation(label, side[:, 0] >= 0.5) for side in both
    ]


def best_at(scores, rate, megabases, separation):
    """The threshold at which `rate` calls a megabase remain, of scores [length] of sequences."""
    tops = []
    for score in scores:
        for at in calls(score, FLOOR, separation):
            tops.append(score[at])
    tops.sort(reverse=True)
    return tops[min(int(rate * megabases), len(tops) - 1)]


def promoter(data, packed, network):
    genes, strands = gene_interiors(data)
    rows = in_context(data)
    beginnings = [text[:6000] for _, text in held_out_genes(data)]
    text, keep = chr9(data)
    for tier in TIERS:
        own, plain = Packed(packed.binary, packed.path, tier), copy.copy(network)
        plain.manifest = of_tier(read_manifest(packed.path), tier)
        (output,) = own.manifest["outputs"]
        for part in ("all", "notata", "tata"):
            # of 542 windows one is more than 0.003
            name, both = window_mcc(
                data, own, plain, f"core_{part}", "" if part == "tata" else " *"
            )
            yield f"{tier} {name}", both
        both = own.scan(rows), [scores(plain.manifest, plain.scan(encode(row))) for row in rows]
        near = lambda score, by: score[max(0, TSS_300 - by) : TSS_300 + by + 1, 0].max()
        for by in (10, 50):
            yield (
                f"{tier} recall in true surroundings, within {by} nt ({len(rows):,})",
                [
                    np.mean([near(score, by) >= output["threshold"] for score in side])
                    for side in both
                ],
            )
        yield (
            f"{tier} false calls a Mb and strand, genes ({strands:.2f} Mb)",
            [
                len(own.annotate(genes)) / strands,
                sum(len(list(float_calls(plain, output, text))) for text in genes) / strands,
            ],
        )
        # the same at as many false calls, whatever the default threshold is
        limits = [
            best_at(
                [score[:, 0] for strand in side for score in strand],
                ALLOWED,
                strands,
                output["separation"],
            )
            for side in (
                [own.scan(genes, strand) for strand in ("forward", "reverse")],
                [
                    [scores(plain.manifest, plain.scan(encode(text))) for text in genes],
                    [
                        scores(plain.manifest, plain.scan(reverse_complement(encode(text))))
                        for text in genes
                    ],
                ],
            )
        ]
        yield (
            f"{tier} recall within 50 nt at {ALLOWED} false calls a Mb and strand of genes",
            [
                np.mean([near(score, 50) >= limit for score in side])
                for side, limit in zip(both, limits)
            ],
        )
        starts = (
            own.scan(beginnings),
            [scores(plain.manifest, plain.scan(encode(text))) for text in beginnings],
        )
        yield (
            f"{tier} genes with a call in their first 400 nt, at as many ({len(beginnings)})",
            [
                np.mean([score[:400, 0].max() >= limit for score in side])
                for side, limit in zip(starts, limits)
            ],
        )
        found = (
            [call["start"] for call in own.annotate([text])],
            list(float_calls(plain, output, text)),
        )
        for what, where in keep.items():
            megabases = 2 * int(where.sum()) / 1e6
            yield (
                f"{tier} false calls, chr9 {what} ({megabases:.2f} Mb)",
                [where[side].sum() / megabases for side in found],
            )
    place = lambda call: (call["read"], call["start"], call["strand"])
    auto, every = (
        {place(call) for call in Packed(packed.binary, packed.path, tier).annotate(genes + rows)}
        for tier in ("auto", "accurate")
    )
    kept = len(auto & every) / len(every)
    yield f"auto: share of the accurate tier's calls ({len(every)})", [kept, kept]


def tf(data, packed, network):
    means = []
    for factor in range(5):
        rows = rows_of(data, "tf", f"gue_tf{factor}_dev.csv")
        label = np.array([int(row["label"]) for row in rows])
        texts = [row["sequence"] for row in rows]
        both = [
            whole_windows(packed, network, [letters(reverse_complement(encode(t))) for t in texts]),
            whole_windows(packed, network, texts),
        ]
        # The mean of logits, at 0.
        logit = lambda p: np.log(np.clip(p, 1e-9, 1) / np.clip(1 - p, 1e-9, 1))
        sides = [
            sum(logit(np.asarray(one[side])[:, factor].astype(np.float64)) for one in both)
            for side in range(2)
        ]
        mcc = [correlation(label, side >= 0) for side in sides]
        means.append(mcc)
        yield f"tf{factor} MCC ({len(rows):,})", mcc
    yield "mean MCC *", np.mean(means, axis=0)


def promoter_300(data, packed, network):
    yield window_mcc(data, packed, network, "300_tata", "")


def expression(data, packed, network):
    # torch and h5py are needed here only
    from expression import MADE, ask, made_up
    from framepool import FramePool

    teacher = FramePool(os.path.join(data, "reference", "framepool_combined_residual.h5"))
    for name in ("random16k", "human25k"):
        rows = [
            row for row in rows_of(data, "expression", f"mrl_{name}.csv") if bucket(row["utr"]) < 20
        ]
        load = np.array([float(row["mrl"]) for row in rows])
        both = whole_windows(packed, network, [row["utr"] for row in rows])
        peer = [ask(teacher, encode(row["utr"])[None])[0] for row in rows]
        yield (
            f"{name} r2 * ({len(rows):,} UTRs; FramePool {r2(load, peer):.3f})",
            [r2(load, side[:, 0]) for side in both],
        )
    pieces = [encode(row["utr"]) for row in rows]  # of held-out human UTRs
    for kind in (0, 1):
        label, both = [], ([], [])
        for length in (25, 40, 60, 80, 100):
            codes, _ = made_up(10**6 + length, pieces, length, kind)
            label.extend(ask(teacher, codes))
            for side, values in zip(
                both, whole_windows(packed, network, [letters(row) for row in codes])
            ):
                side.extend(values[:, 0])
        yield (
            f"agreement with FramePool r2, {MADE[kind]}, 25 to 100 nt ({len(label):,})",
            [r2(label, side) for side in both],
        )


def te(data, packed, network):
    rows = [
        row
        for row in rows_of(data, "expression", "te_endogenous.tsv", delimiter="\t")
        if bucket(row["gene"]) < 20
    ]
    for c, (cell, column) in enumerate((("MUSCLE", "muscle"), ("PC3", "pc3"), ("HEK293", "hek"))):
        own = [row for row in rows if row["cell"] == cell]
        truth = np.log([float(row["te"]) for row in own])
        both = [side[:, c] for side in whole_windows(packed, network, [row["utr"] for row in own])]
        bare = [
            side[:, c]
            for side in whole_windows(packed, network, [row["utr"][20:-20] for row in own])
        ]
        gene = np.unique([row["gene"] for row in own], return_inverse=True)[1]
        yield f"{column} Spearman, windows ({len(own):,})", [spearman(truth, side) for side in both]
        yield f"{column} Spearman, bare windows", [spearman(truth, side) for side in bare]
        for unit in ("transcript", "gene"):
            # windows of one transcript share its TE: their mean counts once
            group = np.unique([row[unit] for row in own], return_inverse=True)[1]
            mean = lambda x: np.bincount(group, x) / np.bincount(group)
            truths, sides = mean(truth), [mean(side) for side in both]
            of_gene = mean(gene).astype(int)
            members = [np.flatnonzero(of_gene == g) for g in range(gene.max() + 1)]
            rng = np.random.default_rng(11)
            draws = [
                np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
                for _ in range(1000)
            ]
            low, high = np.percentile(
                [spearman(truths[d], sides[0][d]) for d in draws], (2.5, 97.5)
            )
            yield (
                f"{column} Spearman by {unit} ({len(truths)}; 95 %: {low:.2f} to {high:.2f})",
                [spearman(truths, side) for side in sides],
            )


def ires(data, packed, network):
    rows = Rows(data)
    at = np.flatnonzero(rows.held)
    label = rows.label[at] == 1
    both = [side[:, 0] for side in whole_windows(packed, network, [rows.texts[i] for i in at])]
    low, high = interval(both[0], label, rows.group[at])
    yield (
        f"AUPRC * ({len(at)} windows, {label.sum()} active; 95 %: {low:.2f} to {high:.2f})",
        [average_precision(side, label) for side in both],
    )
    called = [side >= packed.manifest["outputs"][0]["threshold"] for side in both]
    yield f"precision at the threshold ({called[0].sum()} calls)", [label[c].mean() for c in called]
    yield "recall at the threshold", [c[label].mean() for c in called]
    for length in (150, 120):
        cut = (len(rows.texts[0]) - length) // 2
        texts = [rows.texts[i][cut : cut + length] for i in at]
        yield (
            f"AUPRC of the middle {length} nt",
            [average_precision(s[:, 0], label) for s in whole_windows(packed, network, texts)],
        )
    yield (
        "AUPRC of the share of U",
        [average_precision((rows.codes[at] == 3).mean(1), label)] * 2,
    )
    yield "calibration error", [calibration_error(side, label)["ece"] for side in both]


def promoter_strength(data, packed, network):
    value, sequence = "Observed log(TX/Txref)", "Promoter Sequence"
    lafleur = [
        row
        for row in rows_of(data, "expression", "ecoli_promoter_lafleur.csv")
        if bucket(row[sequence]) < 50
    ]
    urtecho = [
        row
        for row in rows_of(data, "expression", "ecoli_promoter_urtecho.csv")
        if bucket(row[sequence]) < 20
    ]
    truth = [float(row[value]) for row in lafleur]
    theirs = r2(truth, [float(row["Predicted log(TX/Txref)"]) for row in lafleur])
    flanked = [row["Upstream DNA"] + row[sequence] + row["Downstream DNA"] for row in lafleur]
    for name, texts, truth in (
        (
            f"La Fleur r2 * ({len(lafleur):,} promoters; their model {theirs:.3f})",
            [row[sequence] for row in lafleur],
            truth,
        ),
        ("La Fleur r2, with the vector's 20 nt on both sides *", flanked, truth),
        (
            f"Urtecho r2 * ({len(urtecho):,} promoters)",
            [row[sequence] for row in urtecho],
            [float(row[value]) for row in urtecho],
        ),
    ):
        yield name, [r2(truth, side[:, 0]) for side in whole_windows(packed, network, texts)]


def window_figures(task, data, score):
    """Figures of a language model of windows, by name; `score` gives [n, outputs] of texts."""
    found = {}
    if task == "tf":
        # The mean of the logits of both orientations, at 0.
        logit = lambda p: np.log(np.clip(p, 1e-9, 1) / np.clip(1 - p, 1e-9, 1))
        for factor in range(5):
            rows = rows_of(data, "tf", f"gue_tf{factor}_dev.csv")
            texts = [row["sequence"] for row in rows]
            turned = [letters(reverse_complement(encode(text))) for text in texts]
            both = [logit(np.asarray(score(own))[:, factor]) for own in (texts, turned)]
            label = np.array([int(row["label"]) for row in rows])
            found[f"gue_tf{factor}_dev_mcc"] = correlation(label, sum(both) >= 0)
        found["gue_dev_mean_mcc"] = float(np.mean(list(found.values())))
    elif task == "promoter":
        rows = {part: windows(data, f"core_{part}_dev") for part in ("all", "notata", "tata")}
        texts = sorted({text for own in rows.values() for text, _ in own})
        scored = dict(zip(texts, np.asarray(score(texts))[:, 0]))
        for part, own in rows.items():
            label = np.array([label for _, label in own])
            called = np.array([scored[text] >= 0.5 for text, _ in own])
            found[f"gue_core_{part}_dev_mcc"] = correlation(label, called)
    else:
        rows = rows_of(data, "splice", "gue_reconstructed_dev.csv")
        p = np.asarray(score([row["sequence"] for row in rows]))
        called = np.c_[p, 1 - p.sum(1)].argmax(1)
        table = np.zeros((3, 3))
        np.add.at(table, ([int(row["label"]) for row in rows], called), 1)
        found["gue_dev_mcc"] = of_classes(table)
    return {name: round(value, 4) for name, value in found.items()}


def dnabert_small(data, folder, binary):
    """Of its packed models, beside what the recipe printed for the float networks."""
    with open(os.path.join(os.path.dirname(__file__), "dnabert_small_report.json")) as file:
        report = json.load(file)
    for task in ("tf", "promoter", "splice"):
        packed = Packed(binary, os.path.join(folder, "dnabert-small", f"{task}.safetensors"))
        for name, value in window_figures(task, data, packed.whole).items():
            mark = "" if "_tf" in name or "_tata" in name else " *"
            yield f"{task} {name}{mark}", (value, report[task]["float"][name])


MEASURES = {
    "splice": splice,
    "promoter": promoter,
    "tf": tf,
    "promoter-300": promoter_300,
    "expression": expression,
    "te": te,
    "ires": ires,
    "promoter-strength": promoter_strength,
}


MEASURES |= {f"splice-{clade}": splice_of(clade) for clade in SPECIES}
TASKS = (*MEASURES, "dnabert-small")


def show(task, figures, too_much):
    """Prints the figures as they come; names of those that lose too much are added."""
    print(f"{'':66} {'packed':>8} {'float':>8} {'lost':>8}")
    for name, (own, plain) in figures:
        print(f"{name:66} {own:8.4f} {plain:8.4f} {plain - own:8.4f}", flush=True)
        if "*" in name and plain - own > MOST_LOST:
            too_much.append(f"{task} {name}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="the data kit")
    parser.add_argument("--binary", default="target/release/strandline")
    parser.add_argument(
        "--models", default="models", help="folder of TASK.safetensors and float/TASK.onnx"
    )
    parser.add_argument("--tasks", default=",".join(TASKS), help="default: all")
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.binary)
    too_much = []
    for task in arguments.tasks.split(","):
        if task == "dnabert-small":
            print(f"\n{task}, int8")
            show(task, dnabert_small(arguments.data, arguments.models, binary), too_much)
            continue
        packed = Packed(binary, os.path.join(arguments.models, f"{task}.safetensors"))
        network = FloatNetwork(
            os.path.join(arguments.models, "float", f"{task}.onnx"), packed.manifest
        )
        print(
            f"\n{packed.manifest['name']} {packed.manifest['version']},"
            f" {packed.manifest['precision']}"
        )
        show(task, MEASURES[task](arguments.data, packed, network), too_much)
    for name in too_much:
        print(f"lost more than {MOST_LOST}: {name}")
    return 1 if too_much else 0


if __name__ == "__main__":
    sys.exit(main())
