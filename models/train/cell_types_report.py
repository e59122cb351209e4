"""Measures what `cell_types.py` trained, and writes what ships.

What: NAME.onnx and NAME.toml of the types and of the embedding, which share NAME.genes.txt; the
  report; and 300 held-out cells of pbmc3k as a 10x folder with their labels.
How: of held-out pbmc3k cells, as they are and as other experiments would show them; of two other
  sets also by a network that never saw either, `WITHOUT`. Intervals are the middle 95 % of 400
  draws of cells. A cell is "unknown" below a probability that 1 % of the rightly called held-out
  cells, as they are and imitated, do not reach: `threshold`. `vectors_of_genes` has how many pairs
  of genes have close vectors, beside vectors that are drawn. With `--packed` what the program makes
  of the same cells, and of the genes, with the packed file (`strandline` is PROGRAM).

    python cell_types_report.py --data DIR --pbmc68k FILE --out OUT --models FOLDER
        [--peers peers.json] [--sample FOLDER] [--packed cell-types.safetensors]
        [--program PROGRAM]
"""

import argparse
import csv
import gzip
import json
import os
import subprocess
import tempfile

import numpy as np
import scipy.sparse as sp
import torch

from cell_types import (
    MOST,
    called,
    held_out,
    imitated,
    logits,
    merged,
    read_sets,
    scores,
)
from cells_data import SPECIAL, TARGET, TYPES, levels, read_npz
from cells_net import Network, macs, parameters, write_onnx
from manifest import write_toml

NAMES = {"logits": "cell-types", "embedding": "cell-embedding"}
OTHERS = ("pbmc68k", "citeseq")
WITHOUT = "cell-types-without-pbmc68k-without-citeseq"
LOST = 0.01
CLOSE = 0.4  # cosine of an edge of `cells network`
DRAWN = 8  # tables of random vectors
SAMPLE = 300


def load(a, name):
    saved = torch.load(os.path.join(a.out, f"{name}.pt"), weights_only=True)
    model = Network(len(saved["genes"]) + len(SPECIAL), **saved["shape"])
    model.load_state_dict(saved["model"])
    return model.eval(), saved


def shift(model, labels):
    """Training draws types by the root of how many cells they have. Half of what that changes in
    their odds goes back into the biases."""
    count = np.array([(labels == kind).sum() for kind in TYPES])
    change = 0.25 * np.log(count / count.max())
    with torch.no_grad():
        model.cls_decoder.out_layer.bias += torch.from_numpy(change.astype(np.float32))


def interval(truth, found, draws=400):
    """Of accuracy and macro F1."""
    rng, kept = np.random.default_rng(5), []
    for _ in range(draws):
        at = rng.integers(0, len(truth), len(truth))
        own = scores(truth[at], found[at])
        kept.append((own["accuracy"], own["macro_f1"]))
    low, high = np.quantile(kept, (0.025, 0.975), axis=0)
    return {
        name: [round(float(low[i]), 4), round(float(high[i]), 4)]
        for i, name in enumerate(("accuracy", "macro_f1"))
    }


def measured(model, genes, cells):
    """CD4 T cells count as one type."""
    truth, found = merged(cells.labels), merged(called(model, cells, genes))
    return scores(truth, found) | {"interval_95": interval(truth, found)}


def probabilities(model, genes, cells):
    raw = logits(model, levels(cells.over(genes)[0], cells.totals))
    shares = np.exp(raw - raw.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def threshold(model, genes, checks):
    kept = []
    for cells in checks:
        shares = probabilities(model, genes, cells)
        right = merged(np.array(TYPES)[shares.argmax(1)]) == merged(cells.labels)
        kept.append(shares.max(1)[right])
    return round(float(np.quantile(np.concatenate(kept), LOST)), 3)


def as_counts(cells):
    """The same cells where only the counts of the measured genes are known."""
    sums = np.asarray(cells.counts.sum(1)).ravel().astype(float)
    return type(cells)(cells.counts, sums, cells.genes, cells.labels, cells.names)


def size(model, saved, cells):
    """Parameters, and multiply-accumulates in millions of the median cell and of the largest: of
    all rows, and as computed where the last layer makes the row of `<cls>` alone."""
    genes = int(np.median((cells.over(saved["genes"])[0] > 0).sum(1)))
    found = {"parameters": parameters(model), "mmac": {}}
    for own in (genes, MOST - 1):
        rows = {"all_rows": False, "first_row_of_the_last_layer": True}
        found["mmac"][f"{own}_genes"] = {
            name: round(macs(model, own + 1, first) / 1e6, 1) for name, first in rows.items()
        }
    return found


def close(vectors):
    """Pairs of vectors with a cosine above CLOSE, and the largest cosine."""
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    return int((cosines > CLOSE).sum()), round(float(cosines.max()), 4)


@torch.no_grad()
def vectors_of_genes(model):
    """The model's genes, and as many random vectors of the same width, as they are drawn and behind
    the norm that the genes' vectors go through."""
    norm = model.encoder.enc_norm
    table = norm(model.encoder.embedding.weight)[len(SPECIAL) :]
    found = {"pairs": len(table) * (len(table) - 1) // 2, "above": CLOSE}
    found["of_the_model"] = dict(zip(("edges", "largest"), close(table.numpy())))
    for name in ("random", "random_behind_the_norm"):
        kept = []
        for seed in range(DRAWN):
            drawn = np.random.default_rng(seed).standard_normal(table.shape).astype(np.float32)
            drawn = torch.from_numpy(drawn)
            kept.append(close((norm(drawn) if name != "random" else drawn).numpy()))
        edges, largest = zip(*kept)
        found[name] = {
            "tables": DRAWN,
            "edges_mean": round(float(np.mean(edges))),
            "edges": [min(edges), max(edges)],
            "largest": [min(largest), max(largest)],
        }
    return found


def packed(a, genes, checks):
    """The same cells and genes by the program, in int8."""
    found = {"bytes": os.path.getsize(a.packed)}
    run = lambda *words: subprocess.run([a.program, "-q", "cells", *words], check=True)
    with tempfile.TemporaryDirectory() as folder:
        cells, table = (os.path.join(folder, x) for x in ("cells.npz", "table.tsv"))
        for name, own in checks.items():
            values = sp.csr_matrix(levels(own.over(genes)[0], own.totals))
            parts = dict(data=values.data, indices=values.indices, indptr=values.indptr)
            np.savez(cells, **parts, shape=values.shape, genes=np.array(genes))
            run("annotate", cells, "--model", a.packed, "-o", table)
            with open(table) as file:
                called = np.array([row["first"] for row in csv.DictReader(file, delimiter="\t")])
            eight = scores(merged(own.labels), merged(called))
            found[name] = {k: eight[k] for k in ("accuracy", "macro_f1")}
            if name == "held_out":
                nine = scores(own.labels, called)
                found["held_out_nine"] = {k: nine[k] for k in ("accuracy", "macro_f1")}
        run("network", "--model", a.packed, "--min-cosine", str(CLOSE), "-o", table)
        with open(table) as file:
            edges = [float(row["cosine"]) for row in csv.DictReader(file, delimiter="\t")]
        found["vectors_of_genes"] = {"edges": len(edges), "largest": max(edges)}
    return found


def manifest(task, name, genes, figures, limit, width):
    kinds = TYPES if task == "cell-type" else [f"e{i}" for i in range(width)]
    what = {
        "cell-type": "Types of human blood cells, nine, from their expression profiles",
        "cell-embedding": "Embedding of a human blood cell: the row of <cls> of cell-types",
    }
    meaning = {
        "cell-type": "logit of {}, to be shared among all by soft-max",
        "cell-embedding": "coordinate {}",
    }
    cells = {
        "genes": "cell-types.genes.txt",
        "cls": "<cls>",
        "cls_value": 0.0,
        "normalise": TARGET,
        "log1p": True,
        "zeros": False,
    }
    return {
        "name": name,
        "version": "1.0.0",
        "alphabet": "",
        "tokeniser": "genes",
        "stride": 1,
        "licence": "MIT OR Apache-2.0",
        "task": task,
        "description": what[task],
        "tile": MOST,
        "context": {"left": 0, "right": 0},
        "cells": cells | ({"unknown": limit} if task == "cell-type" else {}),
        "training": {
            "data": (
                "pbmc3k (10x Genomics, CC BY 4.0) with the labels of its clusters; pbmc68k_reduced"
                " of scanpy (10x Genomics, CC BY 4.0); 500 cells of a CITE-seq set, labelled by"
                " their proteins; 2,000 cells without and with interferon beta (Kang et al. 2018),"
                " labelled by a regression on pbmc3k"
            ),
            "split": "pbmc3k cells with md5(barcode) mod 5 == 0 are held out",
            "recipe": "models/train/cell_types.py",
        },
        "figures": figures,
        "outputs": [
            {"name": kind, "meaning": meaning[task].format(kind), "link": "identity"}
            for kind in kinds
        ],
    }


def sample(a):
    """Held-out cells as 10x writes a folder, log-normalised: rare types whole, the others in
    their shares."""
    values, genes, file = read_npz(os.path.join(a.data, "pbmc3k_2638x2000.npz"))
    label, names = file["label"].astype(str), file["cells"].astype(str)
    held, rng, chosen = np.flatnonzero(held_out(names)), np.random.default_rng(3), []
    kinds, count = np.unique(label[held], return_counts=True)
    rare = count <= 15
    share = (SAMPLE - count[rare].sum()) / count[~rare].sum()
    for kind, own, all_of_it in zip(kinds, count, rare):
        number = own if all_of_it else int(own * share)
        chosen.append(rng.choice(held[label[held] == kind], number, replace=False))
    chosen = np.sort(np.concatenate(chosen))
    os.makedirs(a.sample, exist_ok=True)

    def write(name, lines):
        with open(os.path.join(a.sample, f"{name}.gz"), "wb") as out:
            with gzip.GzipFile("", "wb", 9, out, mtime=0) as packed:
                packed.write("".join(line + "\n" for line in lines).encode())

    part = values[chosen].tocoo()
    order = np.lexsort((part.col, part.row))
    entries = zip(part.col[order] + 1, part.row[order] + 1, part.data[order])
    head = ["%%MatrixMarket matrix coordinate real general", "%"]
    head.append(f"{len(genes)} {len(chosen)} {part.nnz}")
    write("matrix.mtx", head + [f"{g} {c} {v:.4f}".rstrip("0").rstrip(".") for g, c, v in entries])
    write("features.tsv", [f"{g}\t{g}\tGene Expression" for g in genes])
    write("barcodes.tsv", [str(n) for n in names[chosen]])
    with open(os.path.join(a.sample, "labels.tsv"), "w") as out:
        out.write("barcode\tlabel\n")
        out.writelines(f"{names[i]}\t{label[i]}\n" for i in chosen)
    print("sample", len(chosen), dict(zip(*np.unique(label[chosen], return_counts=True))))


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True, help="the kit's folder of cells")
    p.add_argument("--pbmc68k", required=True, help="scanpy's 10x_pbmc68k_reduced.h5ad")
    p.add_argument("--out", required=True, help="where cell_types.py has written")
    p.add_argument("--models", required=True)
    p.add_argument("--name", default="cell-types")
    p.add_argument("--peers", help="what cell_types_peers.py has written")
    p.add_argument("--sample", help="a folder for 300 held-out cells")
    p.add_argument("--packed", help="the packed file, to be measured, too")
    p.add_argument("--program", default="strandline")
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.models, exist_ok=True)
    sets = read_sets(a)
    whole = sets["pbmc3k"]
    own = whole.part(held_out(whole.names))
    imitations = [imitated(own, k) for k in (1, 2, 3)]
    model, saved = load(a, a.name)
    genes = saved["genes"]
    shift(model, whole.labels)
    nine = scores(own.labels, called(model, own, genes))
    report = {k: saved[k] for k in ("minutes", "steps") if k in saved}
    report |= {"genes": len(genes)} | size(model, saved, own) | {"held_out_nine": nine}
    report["held_out"] = measured(model, genes, own)
    report["held_out_counts_of_the_panel"] = measured(model, genes, as_counts(own))
    for k, cells in enumerate(imitations, 1):
        report[f"imitated_{k}"] = measured(model, genes, cells)
        report[f"imitated_{k}_counts_of_the_panel"] = measured(model, genes, as_counts(cells))
    blind = os.path.exists(os.path.join(a.out, f"{WITHOUT}.pt")) and load(a, WITHOUT)
    if blind:
        shift(blind[0], whole.labels)
    for name in OTHERS:
        cells = sets[name].part(sets[name].labels != "")
        report[f"{name}_seen"] = measured(model, genes, cells)
        if blind:
            report[f"{name}_not_seen"] = measured(blind[0], blind[1]["genes"], cells)
    if blind:
        report["of_it"] = {k: blind[1][k] for k in ("minutes", "steps") if k in blind[1]}
        report["held_out_of_it"] = measured(blind[0], blind[1]["genes"], own)
        for k, cells in enumerate(imitations, 1):
            report[f"imitated_{k}_of_it"] = measured(blind[0], blind[1]["genes"], cells)
    limit = threshold(model, genes, [own, *imitations])
    report["unknown"] = {"threshold": limit, "lost": LOST}
    odd = sets["pbmc68k"].part(sets["pbmc68k"].labels == "")
    shown = {"held_out": own, "imitated_1": imitations[0], "pbmc68k_without_label": odd}
    for name, cells in shown.items():
        shares = probabilities(model, genes, cells).max(1)
        report["unknown"][f"share_{name}"] = round(float((shares < limit).mean()), 4)
    report["vectors_of_genes"] = vectors_of_genes(model)
    if a.packed:
        checks = {"held_out": own} | {f"imitated_{k}": x for k, x in enumerate(imitations, 1)}
        for name in OTHERS:
            checks[f"{name}_seen"] = sets[name].part(sets[name].labels != "")
        report["packed"] = packed(a, genes, checks)
    if a.peers:
        with open(a.peers) as file:
            report["peers"] = json.load(file)
    figures = {f"held_out_{k}": report["held_out"][k] for k in ("accuracy", "macro_f1")}
    figures["held_out_nine_types_accuracy"] = nine["accuracy"]
    figures["imitated_accuracy"] = round(
        float(np.mean([report[f"imitated_{k}"]["accuracy"] for k in (1, 2, 3)])), 4
    )
    for method, name in NAMES.items():
        path = os.path.join(a.models, name)
        report[f"{name}_onnx_against_torch"] = write_onnx(model, [*SPECIAL, *genes], method, path)
        task = "cell-type" if method == "logits" else "cell-embedding"
        with open(f"{path}.toml", "w") as out:
            width = saved["shape"]["width"]
            write_toml(manifest(task, name, genes, figures, limit, width), out)
    # Both models have the same genes.
    os.remove(os.path.join(a.models, "cell-embedding.genes.txt"))
    with open(os.path.join(a.models, "cell_types_report.json"), "w") as out:
        json.dump(report, out, indent=1)
    print(json.dumps(report, indent=1))
    if a.sample:
        sample(a)


if __name__ == "__main__":
    main()
