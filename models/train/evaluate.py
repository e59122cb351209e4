"""Prints the figures of the model cards: each packed model as the program runs it, beside its float network.

    cargo build --release
    python models/train/evaluate.py --data DIR            the data kit; about a quarter of a minute on one core

Packed figures come from `strandline score` and `strandline annotate`, float figures from ONNX Runtime with the same
calibration, thresholds and call rule. All sequences are held out, by the rules that the recipes train by:
  splice      genes with md5(symbol) mod 100 < 10, whole, sense strand, all bases pooled
  promoter    GUE core windows of the dev files that do not occur in the training file; interiors of the same held-out
              genes (beyond their first 1,000 nt), and the chr9 megabase beyond 1 kb of any annotated gene start
  expression  UTRs with md5(sequence) mod 100 < 20
The exit code is 1 where the packed model loses more than 0.005 of a figure marked with '*'.
"""

import argparse
import csv
import gzip
import hashlib
import os
import sys

import numpy as np

from packed import FloatNetwork, Packed, calls, encode, read_sequences, reverse_complement, scores

MOST_LOST = 0.005
START_ZONE = 1000  # bases after a gene's start, and either side of one, where a promoter call is no false call
TSS, TSS_300 = 34, 250  # index of the start site in GUE core windows and in those of 300 nt


def bucket(text, count=100):
    return int(hashlib.md5(text.encode()).hexdigest(), 16) % count


def top_k(score, truth):
    """Share of true sites among as many best-scored bases as there are true sites."""
    k = int(truth.sum())
    return float(truth[np.argpartition(-score, k - 1)[:k]].mean())


def average_precision(score, truth, candidates=300_000):
    """Area under precision over recall; the best candidates hold all but nothing of it."""
    n = min(len(score), candidates)
    best = np.argpartition(-score, n - 1)[:n]
    hits = truth[best[np.argsort(-score[best], kind="stable")]]
    return float((np.cumsum(hits) / np.arange(1, n + 1))[hits].sum() / truth.sum())


def correlation(label, call):
    """Matthews correlation coefficient."""
    return float(np.corrcoef(label, call)[0, 1])


def held_out_genes(data):
    """(id, sequence) of whole genes in gene orientation."""
    for header, text in read_sequences(os.path.join(data, "splice", "genes_chr1.fa.gz")):
        name, symbol = header.split()[:2]
        if bucket(symbol) < 10:
            yield name, text


def splice_truth(data, genes, kinds):
    """[bases of all genes, kinds], true at the sites."""
    truth = {name: np.zeros((len(text), len(kinds)), bool) for name, text in genes}
    with open(os.path.join(data, "splice", "sites_chr1.tsv")) as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            if row["gene_idx"] in truth:
                truth[row["gene_idx"]][int(row["pos0"]), kinds.index(row["kind"])] = True
    return np.concatenate(list(truth.values()))


def splice(data, packed, network):
    genes = list(held_out_genes(data))
    kinds = [output["kind"] for output in packed.manifest["outputs"]]
    truth = splice_truth(data, genes, kinds)
    packed_scores = np.concatenate(packed.scan([text for _, text in genes]))
    # Logits: in float64 their order is that of the probabilities.
    float_scores = np.concatenate([scores(packed.manifest, network.scan(encode(text))) for _, text in genes])
    print(f"splice: {len(genes)} genes, {len(truth):,} nt, {truth.sum():,} sites")
    for c, output in enumerate(packed.manifest["outputs"]):
        sides = [(s[:, c], truth[:, c]) for s in (packed_scores, float_scores)]
        yield f"{output['name']} top-k *", [top_k(*side) for side in sides]
        yield f"{output['name']} AUPRC *", [average_precision(*side) for side in sides]
        called = [score >= output["threshold"] for score, _ in sides]
        yield f"{output['name']} precision at threshold", [truth[c_, c].mean() for c_ in called]
        yield f"{output['name']} recall at threshold", [c_[truth[:, c]].mean() for c_ in called]


def windows(data, name):
    with open(os.path.join(data, "promoter", name)) as lines:
        rows = [(row["sequence"], row["label"] == "1") for row in csv.DictReader(lines)]
    return rows


def chr9(data):
    """The megabase, and where a call is a false one."""
    stem = os.path.join(data, "genome", "human_GRCh38_chr9_1_1000000")
    ((_, text),) = read_sequences(stem + ".fa.gz")
    keep = encode(text) < 4
    with gzip.open(stem + ".gtf.gz", "rt") as lines:
        for fields in (line.split("\t") for line in lines if not line.startswith("#")):
            if fields[2] == "gene":
                start = int(fields[3]) - 1 if fields[6] == "+" else int(fields[4]) - 1
                keep[max(0, start - START_ZONE):start + START_ZONE + 1] = False
    return text, keep


def float_calls(network, output, text):
    """Starts of the calls on both strands, in forward coordinates."""
    codes = encode(text)
    for strand in (codes, reverse_complement(codes)):
        score = scores(network.manifest, network.scan(strand))[:, 0]
        for at in calls(score, output["threshold"], output["separation"]):
            yield at if strand is codes else len(codes) - 1 - at


def promoter(data, packed, network):
    (output,) = packed.manifest["outputs"]
    trained = {sequence for sequence, _ in windows(data, "gue_prom_core_all_train.csv")}
    for part in ("all", "notata", "tata"):
        # "all" is the union of the others, split anew: most of their dev rows were trained on, and too few are left
        # for a difference of 0.005 to mean anything.
        mark = " *" if part == "all" else ""
        rows = [row for row in windows(data, f"gue_prom_core_{part}_dev.csv") if row[0] not in trained]
        label = np.array([label for _, label in rows])
        raw = np.array([network.whole(encode(sequence)) for sequence, _ in rows])
        whole = packed.whole([sequence for sequence, _ in rows])[:, 0], scores(packed.manifest, raw, whole=True)[:, 0]
        yield f"GUE prom_core {part} MCC{mark} ({len(rows):,} windows)", [correlation(label, score >= 0.5) for score in whole]
    rows = [sequence for sequence, label in windows(data, "gue_prom_core_all_dev.csv") if label and sequence not in trained]
    both = packed.scan(rows), [scores(packed.manifest, network.scan(encode(row))) for row in rows]
    yield "recall at threshold, bare windows, at the start", [
        np.mean([score[TSS, 0] >= output["threshold"] for score in side]) for side in both]
    rows = [sequence for sequence, label in windows(data, "gue_prom_300_all_dev.csv")
            if label and sequence[TSS_300 - TSS:TSS_300 - TSS + 70] not in trained]
    both = packed.scan(rows), [scores(packed.manifest, network.scan(encode(row))) for row in rows]
    for reach in (10, 50):
        yield f"recall at threshold, 300-nt windows, within {reach} nt", [
            np.mean([score[TSS_300 - reach:TSS_300 + reach + 1, 0].max() >= output["threshold"] for score in side])
            for side in both]
    genes = [text[START_ZONE:] for _, text in held_out_genes(data) if len(text) > 3 * START_ZONE]
    strands = 2 * sum(int((encode(text) < 4).sum()) for text in genes) / 1e6
    yield f"false calls a Mb and strand, genes ({strands:.2f} Mb)", [
        len(packed.annotate(genes)) / strands,
        sum(len(list(float_calls(network, output, text))) for text in genes) / strands]
    text, keep = chr9(data)
    strands = 2 * int(keep.sum()) / 1e6
    found = [call["start"] for call in packed.annotate([text])], list(float_calls(network, output, text))
    yield f"false calls a Mb and strand, chr9 ({strands:.2f} Mb)", [keep[side].sum() / strands for side in found]


def expression(data, packed, network):
    for name in ("random16k", "human25k"):
        with open(os.path.join(data, "expression", f"mrl_{name}.csv")) as lines:
            rows = [row for row in csv.DictReader(lines) if bucket(row["utr"]) < 20]
        load = np.array([float(row["mrl"]) for row in rows])
        raw = np.array([network.whole(encode(row["utr"])) for row in rows])
        both = packed.whole([row["utr"] for row in rows])[:, 0], scores(packed.manifest, raw)[:, 0]
        yield f"{name} r2 * ({len(rows):,} UTRs)", [np.corrcoef(load, side)[0, 1] ** 2 for side in both]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the data kit")
    parser.add_argument("--binary", default="target/release/strandline")
    parser.add_argument("--models", default="models", help="folder of TASK.safetensors and float/TASK.onnx")
    parser.add_argument("--tasks", default="splice,promoter,expression")
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.binary)
    too_much = []
    for task in arguments.tasks.split(","):
        packed = Packed(binary, os.path.join(arguments.models, f"{task}.safetensors"))
        network = FloatNetwork(os.path.join(arguments.models, "float", f"{task}.onnx"), packed.manifest)
        measure = {"splice": splice, "promoter": promoter, "expression": expression}[task]
        print(f"\n{packed.manifest['name']} {packed.manifest['version']}, {packed.manifest['precision']}")
        print(f"{'':58} {'packed':>8} {'float':>8} {'lost':>8}")
        for name, (own, plain) in measure(arguments.data, packed, network):
            print(f"{name:58} {own:8.4f} {plain:8.4f} {plain - own:8.4f}", flush=True)
            if "*" in name and plain - own > MOST_LOST:
                too_much.append(f"{task} {name}")
    for name in too_much:
        print(f"lost more than {MOST_LOST}: {name}")
    return 1 if too_much else 0


if __name__ == "__main__":
    sys.exit(main())
