"""Figures of scores against labels, and calibration: what the recipes and `evaluate.py` measure by.

A calibration is a list of knots [raw, calibrated] of a piecewise linear map of logits, as in a
model's manifest.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-np.maximum(x, -700.0)))


def top_k(score, truth):
    """Share of true sites among as many best-scored bases as there are true sites."""
    k = int(truth.sum())
    return float(truth[np.argpartition(-score, k - 1)[:k]].mean())


def precision_recall(score, truth, candidates=300_000):
    """Scores in falling order (candidates only: the best hold all but nothing of it), precision and
    recall there."""
    n = min(len(score), candidates)
    best = np.argpartition(-score, n - 1)[:n]
    best = best[np.argsort(-score[best], kind="stable")]
    hits = np.cumsum(truth[best])
    return score[best], hits / np.arange(1, n + 1), hits / truth.sum()


def average_precision(score, truth):
    """Area under precision over recall."""
    _, precision, recall = precision_recall(score, truth)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def figures(scores, truth, kinds):
    return {
        kind: {
            "top_k": round(top_k(scores[:, c], truth[:, c]), 4),
            "auprc": round(average_precision(scores[:, c], truth[:, c]), 4),
        }
        for c, kind in enumerate(kinds)
    }


def r2(a, b):
    return float(np.corrcoef(a, b)[0, 1] ** 2)


def ranks(x):
    """Ranks with ties averaged."""
    _, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[inverse]


def spearman(a, b):
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def correlation(table):
    """Matthews correlation of a confusion matrix [true class, called class]."""
    true, called, right, n = table.sum(1), table.sum(0), np.trace(table), table.sum()
    return float(
        (right * n - true @ called)
        / np.sqrt(float(n * n - called @ called) * float(n * n - true @ true))
    )


def apply_knots(knots, logit):
    """Piecewise linear, continued with the slopes of the first and last pieces; no knots: as it
    is.
    """
    if not knots:
        return logit
    x, y = np.array(knots, np.float64).T
    at = np.clip(np.searchsorted(x[1:-1], logit, side="right"), 0, len(x) - 2)
    return y[at] + (logit - x[at]) * ((y[1:] - y[:-1]) / (x[1:] - x[:-1]))[at]


def calibration_error(probability, truth, bins=15):
    """Expected calibration error over candidates with P >= .05, bins of equal mass; and what a
    perfectly calibrated model would show with as few candidates (mean of 200 draws)."""
    use = probability >= 0.05
    p, t = probability[use], truth[use].astype(float)
    if len(p) == 0:
        return {"ece": None, "ece_if_perfect": None, "candidates": 0}
    groups = np.array_split(np.argsort(p), bins)
    error = lambda t: (
        sum(len(g) * abs(p[g].mean() - t[g].mean()) for g in groups if len(g)) / len(p)
    )
    rng = np.random.default_rng(0)
    chance = np.mean([error((rng.random(len(p)) < p).astype(float)) for _ in range(200)])
    return {
        "ece": round(float(error(t)), 4),
        "ece_if_perfect": round(float(chance), 4),
        "candidates": int(use.sum()),
    }
