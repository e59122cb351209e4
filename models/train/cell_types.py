"""Trains the network that gives a blood cell its type, of scGPT's architecture at a small size.

What: two post-norm layers of 64 (4 heads of 16), feed-forward 128, over the genes that a cell has
  and `<cls>`; nine types, the clusters of pbmc3k. Values are log1p of molecules in 10,000, not
  bins: with one or two molecules a gene, as here, bins would order ties.
Why: a classifier of one data set fails on the next for want of the same genes, depth or chemistry.
  So every batch is measured anew (`cells_data.Lab`), and other sets join with weaker labels.
Data:
  pbmc3k        2,638 cells, the labels of its clusters. 20 % are held out: md5(barcode) mod 5 = 0
  pbmc68k       700 cells of scanpy's `10x_pbmc68k_reduced.h5ad`; bulk-matched labels, whose
                mixtures of monocytes and dendritic cells are parted by FCGR3A, FCER1A, CLEC10A
  citeseq       500 cells, 5' chemistry; labels by gates on proteins, where these are clear
  ifnb          2 x 1,000 cells without labels: those of a logistic regression on pbmc3k, averaged
                over 15 neighbours. T cells with CD8A or CD8B are CD8 T; of the others it is left
                open whether they are naive or memory cells
  A label may allow several types ("CD4 T"): the loss is that of their summed probability.
Genes: `GENES` by how much of their variance lies between the labels, in any set.
Figures: of held-out pbmc3k cells as they are and as other experiments would show them, and of two
  other sets by a network that never saw either (`--without SET`).

    cd models/train; run="python cell_types.py --data DIR --pbmc68k FILE --out OUT"
    $run
    $run --without pbmc68k --without citeseq

trains, and trains for the figures: 11 to 13 minutes each on one core. It goes on from its last
checkpoint.
FILE is what `scanpy.datasets.pbmc68k_reduced` reads, `scanpy/datasets/10x_pbmc68k_reduced.h5ad` in
the wheel of scanpy 1.11.5.
Then `cell_types_peers.py` and `cell_types_report.py`.
"""

import argparse
import hashlib
import json
import os
import time

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from cells_data import (
    SPECIAL,
    TYPES,
    Cells,
    Lab,
    levels,
    read_citeseq,
    read_counts,
    read_pbmc3k,
    read_pbmc68k,
    tokens,
)
from cells_net import Network
from training import Average, descend, keep, resume, set_rate

SHAPE = dict(width=64, heads=4, layers=2, hidden=128, classes=len(TYPES))
GENES = 1600
MOST = 512  # tokens of a cell
CAP = 128  # tokens in training, drawn
BATCH = 64
EVERY = 100
SHARES = {"pbmc3k": 0.5, "pbmc68k": 0.12, "citeseq": 0.14, "ifnb_ctrl": 0.14, "ifnb_stim": 0.1}
CD4 = ("Memory CD4 T", "Naive CD4 T")


def held_out(names):
    return np.array([int(hashlib.md5(n.encode()).hexdigest(), 16) % 5 == 0 for n in names])


def target(labels):
    """[n, types] of what each label allows."""
    result = np.zeros((len(labels), len(TYPES)), np.float32)
    for i, label in enumerate(labels):
        for kind in CD4 if label == "CD4 T" else (label,):
            result[i, TYPES.index(kind)] = 1
    return result


def lend_labels(cells, teacher):
    """Labels of a set that has none."""
    shared = [g for g in teacher.genes if g in set(cells.genes)]

    def rows(x):
        values = levels(x.over(shared)[0], x.totals)
        return 15 * values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)

    own = rows(teacher)
    axes = PCA(60, random_state=0).fit(own)
    own, seen = axes.transform(own), axes.transform(rows(cells))
    model = LogisticRegression(C=0.02, max_iter=300).fit(own, teacher.labels)
    alone = model.predict_proba(seen)
    place = PCA(25, random_state=0).fit_transform(seen)
    distance = ((place[:, None] - place[None]) ** 2).sum(-1)
    near = np.argsort(distance, 1, kind="stable")[:, :15]
    both = alone[near].mean(1)
    t = [list(model.classes_).index(x) for x in ("CD8 T", *CD4)]
    markers = cells.over(["CD8A", "CD8B", "GNLY", "CD3D", "CD3E"])[0]
    label = model.classes_[both.argmax(1)].astype(object)
    is_t = both[:, t].sum(1) > 0.7
    eight = markers[:, 0] + markers[:, 1] > 0
    label[is_t] = np.where(eight[is_t], "CD8 T", np.where(both[is_t, t[0]] > 0.5, "CD8 T", "CD4 T"))
    # A T cell in which neither CD8 gene was caught may yet be one: half of them are dropped by
    # what else cytotoxic cells have.
    label[is_t & ~eight & (both[:, t[0]] > 0.25) & (both[:, t[0]] <= 0.5)] = ""
    label[~is_t & (both.max(1) < 0.6)] = ""
    label[~is_t & np.isin(label, ("CD8 T", *CD4))] = ""
    cells.labels = label.astype(str)
    return cells


def read_sets(a):
    sets = {"pbmc3k": read_pbmc3k(a.data), "pbmc68k": read_pbmc68k(a.pbmc68k)}
    sets["citeseq"] = read_citeseq(a.data)
    whole = sets["pbmc3k"]
    teacher = whole.part(~held_out(whole.names))
    for kind in ("ctrl", "stim"):
        cells = read_counts(os.path.join(a.data, f"ifnb_pbmc_{kind}.npz"))
        sets[f"ifnb_{kind}"] = lend_labels(cells, teacher)
    return sets


def between(cells):
    """Of each gene the share of its variance that lies between the labels, in standard errors."""
    known = cells.labels != ""
    part = cells.part(known)
    values = levels(part.counts.toarray(), part.totals)
    names, own = np.unique(part.labels, return_inverse=True)
    count = np.bincount(own)
    means = np.stack([values[own == k].mean(0) for k in range(len(names))])
    among = (count[:, None] * (means - values.mean(0)) ** 2).sum(0) / max(1, len(names) - 1)
    within = sum(((values[own == k] - means[k]) ** 2).sum(0) for k in range(len(names)))
    score = among / np.maximum(within / (len(values) - len(names)), 1e-9)
    score[(values > 0).sum(0) < 8] = 0
    return score


def vocabulary(sets):
    """The genes by the best rank that they have in a set; pbmc3k's ranks count twice."""
    best = {}
    for name, cells in sets.items():
        order = np.argsort(-between(cells), kind="stable")
        for rank, i in enumerate(order):
            own = rank if name == "pbmc3k" else 2 * rank
            best[cells.genes[i]] = min(best.get(cells.genes[i], 10**9), own)
    return sorted(sorted(best, key=lambda g: (best[g], g))[:GENES])


def prepared(cells, genes):
    known = cells.labels != ""
    part = cells.part(known)
    return part.over(genes)[0], part.totals, target(part.labels)


@torch.no_grad()
def logits(model, values, most=MOST):
    """[n, types] of rows of values over the vocabulary."""
    model.eval()
    result = np.zeros((len(values), len(TYPES)), np.float32)
    for at in np.array_split(np.argsort((values > 0).sum(1), kind="stable"), len(values) // 64 + 1):
        if len(at):
            result[at] = model.logits(*map(torch.from_numpy, tokens(values[at], most))).numpy()
    return result


def loss_of(found, wanted):
    """Of the summed probability of what is allowed, a little smoothed."""
    log = F.log_softmax(found, 1)
    allowed = torch.logsumexp(log.masked_fill(wanted == 0, -1e9), 1)
    return -(0.95 * allowed + 0.05 * log.mean(1)).mean()


def train(a, sets, genes, name):
    torch.manual_seed(a.seed)
    model = Network(len(genes) + len(SPECIAL), dropout=0.1, **SHAPE)
    used = {n: c.part(~held_out(c.names)) if n == "pbmc3k" else c for n, c in sets.items()}
    lab = Lab([prepared(c, genes) for c in used.values()], [SHARES[n] for n in used])
    opt = torch.optim.AdamW(model.parameters(), a.rate, weight_decay=0.02)
    average, path = Average(model, 0.995), os.path.join(a.out, f"{name}.part")
    first, spent = resume(path, model, opt, average)
    began, total = time.process_time() - spent, 0.0
    for step in range(first, a.steps):
        model.train()
        set_rate(opt, a.rate, 100, step, a.steps)
        rng = np.random.default_rng([a.seed, step])
        values, wanted = lab.draw(rng, BATCH)
        seen = tokens(values, CAP, rng=rng)
        found = model.logits(*map(torch.from_numpy, seen))
        loss = loss_of(found, torch.from_numpy(wanted))
        descend(opt, model, loss)
        average.update(model, step)
        total += loss.item()
        if (step + 1) % EVERY == 0 or step + 1 == a.steps:
            minutes = (time.process_time() - began) / 60
            print(f"{name},{step + 1},{minutes:.2f},{total / EVERY:.4f}", flush=True)
            total = 0.0
            keep(path, model, opt, average, step + 1, time.process_time() - began)
    model.load_state_dict(average.values)
    minutes = round((time.process_time() - began) / 60, 1)
    state = dict(model=model.state_dict(), genes=genes, shape=SHAPE, minutes=minutes)
    state |= dict(steps=a.steps, sets=list(sets))
    torch.save(state, os.path.join(a.out, f"{name}.pt"))
    return model.eval()


def merged(labels):
    """CD4 T cells of one name."""
    return np.array(["CD4 T" if x in CD4 else x for x in labels])


def scores(truth, found):
    """Accuracy and macro F1 over the types of `truth`."""
    f1 = {}
    for kind in np.unique(truth):
        hit = ((found == kind) & (truth == kind)).sum()
        f1[str(kind)] = round(2 * hit / max(1, (found == kind).sum() + (truth == kind).sum()), 3)
    return dict(
        accuracy=round(float((truth == found).mean()), 4),
        macro_f1=round(float(np.mean(list(f1.values()))), 4),
        cells=len(truth),
        f1=f1,
    )


def imitated(cells, seed):
    """Cells as another experiment would show them: factors of genes with a deviation of 0.7,
    45 % of the genes, 60 % of the molecules, 3 % of them from other cells."""
    rng = np.random.default_rng([77, seed])
    genes = len(cells.genes)
    factor = np.exp(0.7 * rng.standard_normal(genes))
    kept = np.flatnonzero(rng.random(genes) < 0.45)
    counts = cells.counts.toarray()
    soup = counts.sum(0) / cells.totals.sum()
    rate = 0.97 * counts + 0.03 * cells.totals[:, None] * soup
    drawn = rng.poisson(0.6 * rate * factor)[:, kept]
    names = [cells.genes[i] for i in kept]
    drawn = sp.csr_matrix(drawn.astype(np.float32))
    return Cells(drawn, 0.6 * cells.totals, names, cells.labels, cells.names)


def called(model, cells, genes):
    values = levels(cells.over(genes)[0], cells.totals)
    return np.array(TYPES)[logits(model, values).argmax(1)]


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True, help="the kit's folder of cells")
    p.add_argument("--pbmc68k", required=True, help="scanpy's 10x_pbmc68k_reduced.h5ad")
    p.add_argument("--out", required=True)
    p.add_argument("--without", action="append", default=[], help="a set that is left out")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, default=4000)
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--name", default="")
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    every = read_sets(a)
    sets = {n: c for n, c in every.items() if not any(n.startswith(w) for w in a.without)}
    name = a.name or "-".join(["cell-types", *(f"without-{w}" for w in a.without)])
    genes = vocabulary(sets)
    model = train(a, sets, genes, name)
    whole = every["pbmc3k"]
    checks = {"held-out": whole.part(held_out(whole.names))}
    for other in ("pbmc68k", "citeseq", "ifnb_ctrl"):
        checks[other] = every[other].part(every[other].labels != "")
    for check, cells in checks.items():
        found, truth = called(model, cells, genes), cells.labels
        print(check, "not seen" if check not in sets else "seen", flush=True)
        if check == "held-out":
            print("  nine", json.dumps(scores(truth, found)))
        print("  eight", json.dumps(scores(merged(truth), merged(found))), flush=True)


if __name__ == "__main__":
    main()
