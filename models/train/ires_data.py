"""The IRES rows of the kit, and which of them may be judged by which.

`expression/ires_174.csv`: 174 nt each, label, activity in the assay (background 206.29) and source.
Rows of one source, and rows that share 50 nt, are one group; `upstream_CDS` is no source but what
lies before many genes. Held out of the shipped model, in every step of it: groups that hold a row
with md5(source) mod 5 = 0 (of `upstream_CDS`: md5(sequence)); this is fold 0 of five. The others
have as many positives each.
"""

import csv
import os

import numpy as np

from scoring import average_precision
from sequences import bucket, encode

LENGTH, SHARED, FOLDS = 174, 50, 5
BACKGROUND = 206.29
SCATTERED = "upstream_CDS"


def groups(texts, sources):
    """The number of each row's group."""
    parent = list(range(len(texts)))

    def find(i):
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first = {}
    for i, (text, source) in enumerate(zip(texts, sources)):
        keys = [text[j : j + SHARED] for j in range(len(text) - SHARED + 1)]
        keys += [("source", source)] * (source != SCATTERED)
        for key in keys:
            parent[find(i)] = find(first.setdefault(key, i))
    return np.array([find(i) for i in range(len(texts))])


def folds(group, label, held, seed=0):
    """The fold of each row: 0 for what is held out; else groups in falling number of positives to
    the fold of 1 to 4 with the fewest."""
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.unique(group[~held]))
    size = {g: (int(label[group == g].sum()), int((group == g).sum())) for g in names}
    total, fold = np.zeros((FOLDS - 1, 2)), {}
    for g in sorted(names, key=lambda g: -size[g][0]):
        column = 0 if size[g][0] else 1
        at = int(np.argmin(total[:, column] + 1e-3 * total[:, 1]))
        total[at] += size[g]
        fold[g] = at + 1
    return np.array([0 if h else fold[g] for g, h in zip(group, held)])


def interval(score, label, group, draws=1000):
    """95 % of bootstrap draws over groups."""
    rng = np.random.default_rng(11)
    names = np.unique(group)
    members = [np.flatnonzero(group == g) for g in names]
    found = []
    for _ in range(draws):
        at = np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))])
        if label[at].any():
            found.append(average_precision(score[at], label[at]))
    return [round(float(v), 3) for v in np.percentile(found, (2.5, 97.5))]


class Rows:
    """texts, codes [n, 174], label, activity (log over background), group, fold, held."""

    def __init__(self, data, seed=0):
        with open(os.path.join(data, "expression", "ires_174.csv")) as lines:
            rows = list(csv.DictReader(lines))
        self.texts = [r["sequence"] for r in rows]
        self.codes = np.stack([encode(t) for t in self.texts])
        self.label = np.array([int(r["label"]) for r in rows])
        self.activity = np.log(np.array([float(r["ires_activity"]) for r in rows]) / BACKGROUND)
        source = [r["source"] for r in rows]
        self.group = groups(self.texts, source)
        key = [t if s == SCATTERED else s for t, s in zip(self.texts, source)]
        own = np.array([bucket(k, 5) == 0 for k in key])
        self.held = np.isin(self.group, self.group[own])
        self.fold = folds(self.group, self.label, self.held, seed)
