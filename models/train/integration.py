"""Measures how the built-in embedding of cells mixes batches, with PCA and Harmony beside it.

What: mixing of batches, and silhouettes of types and of batches, all by cosine, as `strandline
  cells embed --label --batch` prints them, and how well a regression still tells the batches.
Sets:
  ifnb      2 x 1,000 blood cells without and with interferon beta; the batch is the condition. No
            expert has labelled them: types are the labels of `cell_types.lend_labels`, a regression
            on pbmc3k, CD4 T cells as one. Cells without a clear label count for batches only.
  papalexi  12,823 cells of one line in two replicates; types are cells of the `STRONG` targets and
            non-targeting ones, the other cells count for batches only.
Methods:
  pca       the first 50 components of log1p(10,000 x / total) over all genes, centred, not scaled;
            `pca_scaled`: each gene of a deviation of 1, at most 10
  harmony   harmonypy 2.1.0 with its own settings on either PCA; the ranges are of `SEEDS` seeds
  built_in  what the program gives, and with Harmony after it (`built_in_harmony`). It has learned
            from the labelled cells of ifnb. So `built_in_blind` is the same recipe without ifnb, in
            float, and `ifnb_without_label` are the cells without a label, of which it did not
            learn. The program refuses papalexi, whose genes it does not know; what it gives there
            is of a file with the few known genes only.
How: mixing is the share of another batch among the 30 nearest, divided by that of drawn cells. What
  the program prints must agree with what is computed here.

    cd models/train
    python cell_types.py --data DIR --pbmc68k FILE --out OUT --without ifnb
    python integration.py --data DIR --blind OUT/cell-types-without-ifnb.pt --out report.json

The first trains the blind network, 12 minutes on one core (FILE: see `cell_types.py`); the second
takes three.
"""

import argparse
import json
import os
import re
import subprocess
import tempfile

import harmonypy
import numpy as np
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cell_types import MOST, held_out, lend_labels, merged
from cells_data import SPECIAL, Cells, levels, read_counts, read_npz, read_pbmc3k, tokens
from cells_net import Network

NEIGHBOURS = 30
COMPONENTS = 50
SEEDS = 5
# Targets whose change in one replicate tells that in the other: `perturbation_report.json`.
STRONG = ("BRD4", "CUL3", "IFNGR1", "IRF1", "SMAD4", "STAT1", "STAT2", "non-targeting")


def read_ifnb(folder):
    """Both conditions as one set, and their names."""
    whole = read_pbmc3k(folder)
    teacher = whole.part(~held_out(whole.names))
    kinds = ("ctrl", "stim")
    two = [read_counts(os.path.join(folder, f"ifnb_pbmc_{kind}.npz")) for kind in kinds]
    assert two[0].genes == two[1].genes
    labels = np.concatenate([merged(lend_labels(cells, teacher).labels) for cells in two])
    counts = sp.vstack([cells.counts for cells in two]).tocsr()
    totals = np.concatenate([cells.totals for cells in two])
    batches = np.repeat(kinds, [len(cells.totals) for cells in two])
    return Cells(counts, totals, two[0].genes, labels), batches


def read_papalexi(folder):
    path = os.path.join(folder, "papalexi_crispr.npz")
    cells, file = read_counts(path), read_npz(path)[2]
    target = file["target"].astype(str)
    cells.labels = np.where(np.isin(target, STRONG), target, "")
    return cells, file["replicate"].astype(str)


def mixing(vectors, batches):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cells, others = len(unit), 0
    for first in range(0, cells, 1000):
        part = np.arange(first, min(first + 1000, cells))
        cosines = unit[part] @ unit.T
        cosines[np.arange(len(part)), part] = -2
        near = np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        others += (batches[near] != batches[part][:, None]).sum()
    count = np.unique(batches, return_counts=True)[1]
    chance = (count / cells * (cells - count) / (cells - 1)).sum()
    return others / (cells * NEIGHBOURS) / chance


def named(vectors, batches):
    """Balanced accuracy of a regression from a vector to its batch, on cells it did not see."""
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_score(model, vectors, batches, cv=folds, scoring="balanced_accuracy").mean()


def measured(vectors, types, batches):
    vectors = vectors.astype(np.float64)
    known = types != ""
    found = {"cells": len(vectors), "mixing": mixing(vectors, batches)}
    found["silhouette_batches"] = silhouette_score(vectors, batches, metric="cosine")
    if known.any():
        found["cells_with_type"] = int(known.sum())
        found["silhouette_types"] = silhouette_score(vectors[known], types[known], metric="cosine")
    found["batch_named"] = named(vectors, batches)
    return {k: round(float(v), 4) if isinstance(v, float) else v for k, v in found.items()}


def components(cells, scaled):
    values = levels(cells.counts.toarray(), cells.totals)
    values = values[:, (values > 0).any(0)].astype(np.float64)
    values -= values.mean(0)
    if scaled:
        values = np.minimum(values / values.std(0, ddof=1), 10)
    return PCA(COMPONENTS, svd_solver="arpack", random_state=0).fit_transform(values)


def harmony(vectors, batches):
    """Corrected vectors, by seed."""
    for seed in range(SEEDS):
        settings = dict(random_state=seed, ncores=1, verbose=False)
        moved = harmonypy.run_harmony(vectors, {"batch": batches}, "batch", **settings).Z_corr
        yield np.asarray(moved if moved.shape == vectors.shape else moved.T)


def of_seeds(every):
    """Figures of the first seed, and the ranges of all."""
    ranges = {k: [min(x[k] for x in every), max(x[k] for x in every)] for k in every[0]}
    return every[0] | {"ranges": {k: v for k, v in ranges.items() if "cells" not in k}}


def write_cells(path, cells, batches):
    parts = {name: getattr(cells.counts, name) for name in ("data", "indices", "indptr", "shape")}
    columns = {"genes": np.array(cells.genes), "type": cells.labels, "batch": batches}
    np.savez(path, **parts, **columns)


def program(a, cells, batches):
    """Vectors, and what the program prints of them; without --label where no type is known."""
    with tempfile.TemporaryDirectory() as folder:
        source, out = (os.path.join(folder, name) for name in ("cells.npz", "vectors.npy"))
        write_cells(source, cells, batches)
        command = [a.program, "cells", "embed", source, "-o", out, "--batch", "batch", "-t", "1"]
        command += ["--label", "type"] if (cells.labels != "").any() else []
        ended = subprocess.run(command, capture_output=True, text=True)
        if ended.returncode:
            return None, ended.stderr.split("error: ")[-1].replace(source, "FILE").strip()
        vectors = np.load(out)
    said = re.findall(r"(type|batch): (silhouette|mixing) (-?[0-9.]+)", ended.stderr)
    names = {"type silhouette": "silhouette_types", "batch silhouette": "silhouette_batches"}
    names["batch mixing"] = "mixing"
    return vectors, {names[f"{column} {score}"]: float(x) for column, score, x in said}


def agree(found, said):
    assert said and all(abs(found[k] - x) < 5e-4 for k, x in said.items()), (found, said)
    found["printed_by_the_program"] = said


@torch.no_grad()
def blind(path, cells):
    saved = torch.load(path, weights_only=True)
    model = Network(len(saved["genes"]) + len(SPECIAL), **saved["shape"])
    model.load_state_dict(saved["model"])
    values, rows = levels(cells.over(saved["genes"])[0], cells.totals), []
    for part in np.array_split(values, len(values) // 64 + 1):
        rows.append(model.eval().embedding(*map(torch.from_numpy, tokens(part, MOST))).numpy())
    return np.concatenate(rows)


def methods(a, cells, batches, parts):
    """Figures of each part of the cells (all, or those of a mask). The vectors are of all."""
    found = {name: {} for name in parts}

    def add(method, every, ranges=True):
        for name, part in parts.items():
            own = [measured(x[part], cells.labels[part], batches[part]) for x in every]
            found[name][method] = of_seeds(own) if ranges else own[0]
            print(name, method, found[name][method], flush=True)

    for end, scaled in (("", False), ("_scaled", True)):
        own = components(cells, scaled)
        add(f"pca{end}", [own], False)
        add(f"harmony{end}", list(harmony(own, batches)))
    vectors, said = program(a, cells, batches)
    if vectors is None:
        return found | {"refused": said}
    add("built_in", [vectors], False)
    add("built_in_harmony", list(harmony(vectors.astype(np.float64), batches)))
    agree(found[next(iter(parts))]["built_in"], said)
    return found


def known_genes(a, cells):
    """The same cells with the columns that the built-in vocabulary has."""
    with open(a.genes) as file:
        vocabulary = set(file.read().split())
    at = [i for i, gene in enumerate(cells.genes) if gene in vocabulary]
    counts = cells.counts[:, at].tocsr()
    totals = np.asarray(counts.sum(1)).ravel()
    return Cells(counts, totals, [cells.genes[i] for i in at], cells.labels)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True, help="the kit's folder of cells")
    p.add_argument("--blind", required=True, help="what cell_types.py has trained without ifnb")
    p.add_argument("--out", required=True, help="the report")
    p.add_argument("--genes", default="../cell-types.genes.txt")
    p.add_argument("--program", default="strandline")
    a = p.parse_args()
    torch.set_num_threads(1)
    cells, batches = read_ifnb(a.data)
    none, every = cells.labels == "", slice(None)
    report = {"neighbours": NEIGHBOURS, "components": COMPONENTS, "seeds": SEEDS}
    report["harmonypy"] = harmonypy.__version__
    report["ifnb_cells"] = {
        kind: dict(zip(*(x.tolist() for x in np.unique(labels, return_counts=True))))
        for kind in np.unique(batches).tolist()
        for labels in [np.where(none, "no label", cells.labels)[batches == kind]]
    }
    parts = {"ifnb": every, "ifnb_without_label": none}
    report |= methods(a, cells, batches, parts)
    other = blind(a.blind, cells)
    for name, part in parts.items():
        own = measured(other[part], cells.labels[part], batches[part])
        report[name]["built_in_blind"] = own
    cells, batches = read_papalexi(a.data)
    own = methods(a, cells, batches, {"papalexi": every})
    report["papalexi"], few = own.pop("papalexi") | own, known_genes(a, cells)
    vectors, said = program(a, few, batches)
    own = measured(vectors, few.labels, batches)
    agree(own, said)
    report["papalexi"] |= {"genes": len(cells.genes), "genes_known": len(few.genes)}
    report["papalexi"]["built_in_of_known_genes"] = own
    with open(a.out, "w") as out:
        json.dump(report, out, indent=1)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
