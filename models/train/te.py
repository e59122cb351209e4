"""Trains the translation-efficiency network (experimental): log TE of a 5'UTR in muscle, PC3 and
HEK293.

What: residual convolutions of 32 channels, pooling by reading frame, two dense layers, three
  outputs; `promoter_strength.py` has it.
Data: `expression/te_endogenous.tsv` (Cao et al. 2021), 5,366 windows of 949 genes: 100 nt of a
  human 5'UTR between constant ends of a vector, 20 nt each. Shown in that form and bare. A row is
  of one cell type, and trains that output only. Windows of one transcript overlap and share their
  TE, so only a split by gene tells what is known of a new gene.
Figures: five folds each by row, by transcript and by gene; Spearman within each fold, averaged; an
  interval from 1,000 bootstrap draws of genes. Beside it a ridge regression on counts of 1- to
  5-mers. The exported network is that of the first fold by gene: md5(gene) mod 100 < 20 held out.

    python te.py --data DIR --out DIR    about 3 minutes on one core; OUT keeps finished folds
"""

import argparse
import csv
import json
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

import scoring
from promoter_strength import Exported, Strength, export, predict, stack
from quantize_aware import parameters
from sequences import bucket, encode
from training import Average, descend, set_rate

CELLS = (("MUSCLE", "muscle"), ("PC3", "pc3"), ("HEK293", "hek"))
SPLITS = {"gene": "gene", "row": "utr", "transcript": "transcript"}
LAYERS = ((7, 1), (5, 1), (5, 3), (5, 9))  # width, dilation
END = 20
LONGEST = 200
FOLDS = 5


def spearman(a, b):
    if len(a) < 5 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return scoring.spearman(a, b)


def by_fold(prediction, truth, fold, rows):
    """Spearman within each fold, averaged by its rows: pooled folds would count differences of the
    folds' means."""
    total = count = 0
    for f in range(FOLDS):
        r = rows[fold[rows] == f]
        s = spearman(prediction[r], truth[r])
        if not math.isnan(s):
            total, count = total + s * len(r), count + len(r)
    return total / max(1, count)


def interval(prediction, truth, fold, rows, gene, rng, draws=1000):
    """95 % of bootstrap draws over genes."""
    names, where = np.unique(gene[rows], return_inverse=True)
    members = [rows[where == i] for i in range(len(names))]
    found = [
        by_fold(
            prediction,
            truth,
            fold,
            np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))]),
        )
        for _ in range(draws)
    ]
    return [round(float(v), 3) for v in np.percentile(found, (2.5, 97.5))]


def kmers(codes, longest=5):
    """Square roots of k-mer counts of the 100 nt between the ends, [n, 1364]."""
    parts = []
    for k in range(1, longest + 1):
        index = sum(
            codes[:, i : codes.shape[1] - k + 1 + i].astype(np.int64) * 4**i for i in range(k)
        )
        counts = np.zeros((len(codes), 4**k))
        for column in index.T:
            np.add.at(counts, (np.arange(len(codes)), column), 1)
        parts.append(np.sqrt(counts))
    return np.hstack(parts)


def ridge(x, y, train, test, strength):
    mean, std = x[train].mean(0), x[train].std(0) + 1e-3
    a, b = (x[train] - mean) / std, (x[test] - mean) / std
    target = y[train] - y[train].mean()
    # as many equations as rows: the dual form is the smaller one
    return b @ (a.T @ np.linalg.solve(a @ a.T + strength * np.eye(len(a)), target))


def train_fold(a, codes, target, cell, weight, train, seed):
    """A network on these rows, and its mean loss at the end."""
    torch.manual_seed(seed)
    model, smooth = (
        Strength(a.channels, a.hidden, len(CELLS), drop, LAYERS, True) for drop in (a.drop, 0)
    )
    average = Average(model, 0.99)
    opt = torch.optim.AdamW(model.parameters(), a.lr, weight_decay=a.decay)
    losses = []
    for step in range(a.steps):
        rng = np.random.default_rng((seed, step))
        set_rate(opt, a.lr, 50, step, a.steps)
        pick = rng.choice(train, a.batch)
        # one form a batch, so that its padding is the true one
        rows = [codes[i] if step % 2 else codes[i][END:-END] for i in pick]
        model.train()
        y = model(stack(rows, LONGEST))[torch.arange(a.batch), torch.as_tensor(cell[pick])]
        loss = (
            torch.as_tensor(weight[pick])
            * F.smooth_l1_loss(y, torch.as_tensor(target[pick]), reduction="none")
        ).mean()
        descend(opt, model, loss)
        average.update(model, step)
        losses.append(loss.item())
    smooth.load_state_dict(average.values)
    return smooth.eval(), float(np.mean(losses[-50:]))


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--steps", type=int, default=500)
    p.add_argument("--channels", type=int, default=32)
    p.add_argument("--hidden", type=int, default=32)
    p.add_argument("--lr", type=float, default=1.5e-3)
    p.add_argument("--decay", type=float, default=1e-2)
    p.add_argument("--drop", type=float, default=0.2)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--ridge", type=float, default=3000.0)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)

    with open(os.path.join(a.data, "expression", "te_endogenous.tsv")) as lines:
        rows = list(csv.DictReader(lines, delimiter="\t"))
    codes = np.array([encode(r["utr"]) for r in rows])
    truth = np.log(np.array([float(r["te"]) for r in rows]))
    cell = np.array([[c for c, _ in CELLS].index(r["cell"]) for r in rows])
    gene = np.array([r["gene"] for r in rows])
    mean = np.array([truth[cell == c].mean() for c in range(3)])
    std = np.array([truth[cell == c].std() for c in range(3)])
    target = ((truth - mean[cell]) / std[cell]).astype(np.float32)
    count = dict(zip(*np.unique(gene, return_counts=True)))
    weight = np.array(
        [count[g] ** -0.5 for g in gene], np.float32
    )  # genes of 30 windows are not 30 genes
    weight /= weight.mean()
    words = kmers(codes[:, END:-END])

    log_path = os.path.join(a.out, "te_log.csv")
    log = open(log_path, "a")
    if not log.tell():
        print("split,fold,cpu_minutes,loss," + ",".join(n for _, n in CELLS), file=log)
    figures, shipped = {}, None
    for split, column in SPLITS.items():
        fold = np.array([bucket(r[column], 100) * FOLDS // 100 for r in rows])
        prediction = np.zeros((2, len(rows)))  # with the vector's ends, bare
        baseline = np.zeros(len(rows))
        for f in range(FOLDS):
            begin = time.process_time()
            train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
            path = os.path.join(a.out, f"te_checkpoint_{split}_{f}.pt")
            model = Strength(a.channels, a.hidden, len(CELLS), 0, LAYERS, True)
            if os.path.exists(path):
                model.load_state_dict(torch.load(path))
            else:
                model, loss = train_fold(a, codes, target, cell, weight, train, a.seed)
                torch.save(model.state_dict(), path)
            for form, shown in enumerate((codes[test], codes[test][:, END:-END])):
                prediction[form, test] = predict(model, list(shown), LONGEST)[
                    np.arange(len(test)), cell[test]
                ]
            for c in range(3):
                baseline[test[cell[test] == c]] = ridge(
                    words, truth, train[cell[train] == c], test[cell[test] == c], a.ridge
                )
            if (split, f) == ("gene", 0):
                shipped = model, test
            if "loss" in locals():
                found = [
                    spearman(prediction[0, test[cell[test] == c]], truth[test[cell[test] == c]])
                    for c in range(3)
                ]
                print(
                    f"{split},{f},{(time.process_time() - begin) / 60:.2f},{loss:.4f},"
                    + ",".join(f"{v:.4f}" for v in found),
                    file=log,
                    flush=True,
                )
                del loss
        rng = np.random.default_rng(11)
        figures[split] = {}
        for c, (_, name) in enumerate(CELLS):
            r = np.flatnonzero(cell == c)
            figures[split][name] = {
                "rows": len(r),
                "genes": len(np.unique(gene[r])),
                "spearman": round(by_fold(prediction[0], truth, fold, r), 3),
                "interval_95": interval(prediction[0], truth, fold, r, gene, rng),
                "bare": round(by_fold(prediction[1], truth, fold, r), 3),
                "kmer_ridge": round(by_fold(baseline, truth, fold, r), 3),
                "kmer_ridge_interval_95": interval(baseline, truth, fold, r, gene, rng),
            }
        print(split, json.dumps(figures[split]), flush=True)

    model, test = shipped
    exported = Exported(model, [0, 1, 2], std, mean).eval()
    worst = export(exported, os.path.join(a.out, "te.onnx"), "log_te", [codes[i] for i in test])
    macs = sum(b.conv.weight.numel() for b in model.blocks)
    dense = model.dense.weight.numel() + model.out.weight.numel()
    held = {
        name: round(
            spearman(
                predict(model, list(codes[test[cell[test] == c]]), LONGEST)[:, c],
                truth[test[cell[test] == c]],
            ),
            4,
        )
        for c, (_, name) in enumerate(CELLS)
    }
    result = dict(
        task="te",
        output="natural logarithm of translation efficiency",
        five_folds=figures,
        spearman_exported_held_out_genes=held,
        split="exported: md5(gene) mod 100 < 20 held out",
        in_defaults={name: figures["gene"][name]["interval_95"][0] > 0 for _, name in CELLS},
        onnx_max_difference=worst,
        macs_per_base=macs,
        macs_dense=dense,
        parameters=parameters(model)
        + sum(t.numel() for m in (model.dense, model.out) for t in m.parameters()),
        channels=a.channels,
        layers=LAYERS,
        steps=a.steps,
        seed=a.seed,
    )
    json.dump(result, open(os.path.join(a.out, "te.json"), "w"), indent=1)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
