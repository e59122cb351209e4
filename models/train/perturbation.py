"""Trains the network that answers a knock-out: scGPT's generator at a small size, on THP-1 cells.

What: two post-norm layers of 64 (4 heads of 16), feed-forward 128, over all measured genes, zeros
  too, and the flagged gene, which has a token even where it is not measured. No `<cls>`. Every gene
  gets a coefficient and a bias; the answer is `coefficient · value + bias`, of log1p values.
Why: a cell is measured once, so nobody has its before and after, and most knock-outs here change
  less than the noise of their few hundred cells. A network trained on pairs drawn at random learns
  the mean change, slowly and with all its noise. So the mean change is estimated first, with the
  noise known, and the network learns that estimate.
How: the change of mean log1p(10,000 x / total) against non-targeting cells of the same replicate
  is Gaussian with a known error. Prior (`Estimate`): changes of different knock-outs share a common
  part, members of one pathway (`PATHWAYS`) share a part more, the rest is each one's own. For a
  target that was not seen the posterior mean is what its pathway does, or only the common part;
  its own transcript falls as those of the measured targets do. A target that was seen has 70 % of
  its own mean and 30 % of what would be expected of it had it not been seen: between the
  replicates this is better than the mean, and hardly ever worse. A fall is a coefficient below 1,
  a rise is a bias.
What is known beforehand: IFNGR2 and JAK2 are no targets in these data. That they belong with
  IFNGR1 and STAT1 is written in `PATHWAYS`, from textbooks (KEGG hsa04630, Reactome R-HSA-877300):
  it is not learned.
Data: `papalexi_crispr.npz`, replicates 1 and 2: 12,823 cells, 299 genes, 23 targets.
Figures (`perturbation_report.json`): from one replicate to the other; every target left out in
  turn, with no change, the mean of the other targets, and ridge regression on embeddings of the
  targets' genes (from cells of ifnb) beside it.

    cd models/train; run="python perturbation.py --data DIR --out OUT"
    $run
    $run --replicate 1
    $run --report --models FOLDER

trains on both replicates, for what ships; on one, for the figures; and measures. 1.5 minutes, 2 and
1 on one core; goes on from its last checkpoint. A run with `--replicate 1 --without TARGET` adds a
network that has not seen this target to the report.
"""

import argparse
import json
import os
import time

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge

from cells_data import SPECIAL, levels, read_counts, read_npz
from cells_net import Network, macs, parameters, write_onnx
from manifest import write_toml
from training import Average, descend, keep, resume, set_rate

SHAPE = dict(width=64, heads=4, layers=2, hidden=128)
CONTROL = "non-targeting"
# How much of a pathway's answer a member gives: IRF1 is one of several arms below STAT1.
PATHWAYS = {
    "interferon gamma": {"IFNGR1": 1.0, "IFNGR2": 1.0, "JAK2": 1.0, "STAT1": 1.0, "IRF1": 0.4},
    "interferon alpha and beta": {"STAT2": 1.0, "STAT1": 0.3, "IRF7": 0.3},
}
COMMON, PATHWAY, OWN = 0.1, 1.0, 1.0  # variances of the prior, in a gene's own
SEEN = 0.7  # share of a target's own mean
UNSEEN = ("IFNGR2", "JAK2")
BATCH, TOKENS, EVERY = 16, 80, 200


class Screen:
    """The cells of some replicates, and what each knock-out changes in them."""

    def __init__(self, folder, replicates):
        counts, self.genes, file = read_npz(os.path.join(folder, "papalexi_crispr.npz"))
        keep_rows = np.isin(file["replicate"], replicates)
        counts = counts[keep_rows].toarray()
        self.target = file["target"][keep_rows].astype(str)
        self.replicate = file["replicate"][keep_rows]
        self.values = levels(counts, counts.sum(1))
        self.control = self.values[self.target == CONTROL]
        self.names = [str(t) for t in np.unique(self.target) if t != CONTROL]
        self.noise = self.values.var(0)
        both = [self.change(name) for name in self.names]
        self.changes = np.array([b[0] for b in both])
        self.error = np.array([b[1] for b in both])  # of a mean, in variances of a cell

    def change(self, name, rows=None):
        """Mean change against the control of the same replicate, and its variance's factor."""
        rows = np.arange(len(self.target)) if rows is None else rows
        parts, weights = [], []
        for r in np.unique(self.replicate):
            own = rows[(self.replicate[rows] == r) & (self.target[rows] == name)]
            control = rows[(self.replicate[rows] == r) & (self.target[rows] == CONTROL)]
            if len(own):
                parts.append(self.values[own].mean(0) - self.values[control].mean(0))
                weights.append(1 / (1 / len(own) + 1 / len(control)))
        return np.average(parts, axis=0, weights=weights), 1 / sum(weights)


def members(names):
    """[names, pathways]."""
    return np.array([[p.get(n, 0.0) for p in PATHWAYS.values()] for n in names])


class Estimate:
    """Changes by the prior and what was seen, in fractions of the control's mean."""

    def __init__(self, screen, without=()):
        self.screen, self.without = screen, tuple(without)
        used = [i for i, n in enumerate(screen.names) if n not in self.without]
        self.names = [screen.names[i] for i in used]
        self.seen, self.error = screen.changes[used], screen.error[used]
        self.mean = screen.control.mean(0)
        power = (self.seen**2 - self.error[:, None] * screen.noise).mean(0)
        floor = 0.05 * self.error.mean() * screen.noise
        self.power = np.maximum(power, floor)  # a gene's own variance over knock-outs
        self.fall = self.own_transcripts()

    def own_transcripts(self):
        """What is left of the transcript of a gene that is knocked out, on average."""
        genes, left = self.screen.genes, []
        for name, change in zip(self.names, self.seen):
            if name in genes:
                mean = self.mean[genes.index(name)]
                left.append(min(1.0, 1 + change[genes.index(name)] / mean))
        return float(np.mean(left)) if left else 1.0

    def change(self, name):
        """Of one knock-out, [genes]."""
        if name not in self.names:
            return self.expected(name)
        own = self.seen[self.names.index(name)]
        blind = Estimate(self.screen, {*self.without, name})
        return SEEN * own + (1 - SEEN) * blind.expected(name)

    def expected(self, name):
        """Of one that was not seen."""
        path = members(self.names)
        prior = COMMON + PATHWAY * path @ path.T + OWN * np.eye(len(self.names))
        row = COMMON + PATHWAY * path @ members([name])[0]
        # A gene by itself, as its noise is its own: [genes, targets, targets].
        power, noise = self.power[:, None, None], self.screen.noise[:, None, None]
        cover = power * prior + noise * np.diag(self.error)
        result = self.power * (row @ np.linalg.solve(cover, self.seen.T[..., None])[..., 0].T)
        if name in self.screen.genes:
            at = self.screen.genes.index(name)
            result[at] = min(result[at], (self.fall - 1) * self.mean[at])
        return result

    def response(self, change):
        """Coefficients and biases [genes, 2] that make this change of the mean."""
        change = np.maximum(change, -self.mean)
        ratio = np.minimum(1, 1 + change / np.maximum(self.mean, 1e-6))
        return np.stack([ratio, np.maximum(change, 0)], 1).astype(np.float32)


def correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1])


class Tokens:
    """Which id a gene has; flagged genes without a measurement come behind the measured ones."""

    def __init__(self, measured, targets):
        self.genes = sorted({*measured, *targets, *UNSEEN})
        self.number = {g: i + len(SPECIAL) for i, g in enumerate(self.genes)}
        self.measured = np.array([self.number[g] for g in measured])
        self.place = {g: i for i, g in enumerate(measured)}

    def batch(self, values, flagged, columns=None):
        """Ids, values and flags [n, T] of cells and the genes flagged in each, and how many of the
        rows are those of `columns` of the measured genes."""
        columns = np.arange(len(self.measured)) if columns is None else columns
        more = sorted({g for own in flagged for g in own if self.place.get(g, -1) not in columns})
        ids = np.concatenate([self.measured[columns], [self.number[g] for g in more]]).astype(int)
        ids = np.tile(ids, (len(values), 1))
        seen = np.zeros(ids.shape, np.float32)
        seen[:, : len(columns)] = values[:, columns]
        ignored = np.zeros(ids.shape, bool)
        for i, own in enumerate(flagged):
            for j, g in enumerate(more):
                ignored[i, len(columns) + j] = g not in own
                if g in own and g in self.place:
                    seen[i, len(columns) + j] = values[i, self.place[g]]
        flags = np.array(
            [np.isin(ids[i], [self.number[g] for g in own]) for i, own in enumerate(flagged)]
        ).astype(np.int64)
        return tuple(map(torch.from_numpy, (ids, seen, flags * ~ignored, ignored)))


@torch.no_grad()
def predicted(model, book, control, name, most=100):
    """Mean change that the network gives to control cells, [genes]."""
    model.eval()
    total = np.zeros(control.shape[1])
    control = control[np.linspace(0, len(control) - 1, min(most, len(control))).astype(int)]
    for part in np.array_split(control, -(-len(control) // 25)):
        found = model.response(*book.batch(part, [[name]] * len(part))).numpy()
        found = found[:, : control.shape[1]]
        total += (found[..., 0] * part + found[..., 1] - part).sum(0)
    return total / len(control)


def train(a, screen, name):
    torch.manual_seed(a.seed)
    book = Tokens(screen.genes, targets(a))
    estimate = Estimate(screen, a.without)
    main = sorted({*targets(a), *UNSEEN})
    other = [g for g in screen.genes if g not in main]
    changes = {g: estimate.change(g) for g in main + other}
    none = np.zeros(len(estimate.mean))
    model = Network(len(book.genes) + len(SPECIAL), dropout=0.0, **SHAPE)
    # It starts as the identity, or as the network of one replicate, where that is wanted.
    for kind, value in (("coeff", 1.0), ("bias", 0.0)):
        last = model.decoder[f"{kind}_decoder"].fc[4]
        torch.nn.init.constant_(last.bias, value)
        last.weight.data *= 0.1
    if a.start:
        model.load_state_dict(torch.load(a.start, weights_only=True)["model"])
    opt = torch.optim.AdamW(model.parameters(), a.rate, weight_decay=0.0)
    average, path = Average(model, 0.995), os.path.join(a.out, f"{name}.part")
    first, spent = resume(path, model, opt, average)
    began, total = time.process_time() - spent, 0.0
    mean = torch.from_numpy(estimate.mean.astype(np.float32))
    for step in range(first, a.steps):
        set_rate(opt, a.rate, 100, step, a.steps)
        rng = np.random.default_rng([a.seed, step])
        flagged, wanted, weight = [], [], []
        for _ in range(BATCH):
            u = rng.random()
            own = [] if u < 0.04 else [str(rng.choice(main if u < 0.75 else other))]
            if u > 0.95:
                own = [str(x) for x in rng.choice(main, 2, replace=False)]
            flagged.append(own)
            change = sum((changes[g] for g in own), none)  # changes of several add up
            wanted.append(estimate.response(change))
            weight.append(1 / (0.3 + np.square(change).sum()))
        whole = step % 4 == 3
        genes = len(screen.genes)
        columns = np.arange(genes) if whole else np.sort(rng.choice(genes, TOKENS, replace=False))
        rows = rng.choice(len(screen.control), BATCH)
        count = BATCH // 4 if whole else BATCH
        seen = book.batch(screen.control[rows[:count]], flagged[:count], columns)
        found = model.response(*seen)[:, : len(columns)]
        off = found - torch.from_numpy(np.stack(wanted[:count]))[:, columns]
        fall, rise = off[..., 0] * mean[columns], off[..., 1]
        own = (fall + rise).square() + 0.3 * (fall.square() + rise.square())
        weight = torch.tensor(weight[:count], dtype=torch.float32)
        loss = (own.sum(1) * weight).mean() * genes / len(columns)
        descend(opt, model, loss)
        average.update(model, step)
        total += loss.item()
        if (step + 1) % EVERY == 0 or step + 1 == a.steps:
            minutes = (time.process_time() - began) / 60
            print(f"{name},{step + 1},{minutes:.2f},{total / EVERY:.5f}", flush=True)
            total = 0.0
            keep(path, model, opt, average, step + 1, time.process_time() - began)
    model.load_state_dict(average.values)
    minutes = round((time.process_time() - began) / 60, 1)
    state = dict(model=model.state_dict(), genes=book.genes, shape=SHAPE, minutes=minutes)
    state["steps"] = a.steps
    torch.save(state, os.path.join(a.out, f"{name}.pt"))
    found = {g: predicted(model, book, screen.control, g, 50) for g in main}
    agree = {g: round(correlation(x, changes[g]), 4) for g, x in found.items()}
    print(name, "network with estimate", json.dumps(agree), flush=True)


def targets(a):
    file = np.load(os.path.join(a.data, "papalexi_crispr.npz"))
    return [str(t) for t in np.unique(file["target"]) if t != CONTROL]


# ---------------------------------------------------------------------------------- the report


def embeddings(a, names):
    """Of genes by what they vary with in the cells of ifnb; zeros for those not measured there."""
    parts = [read_counts(os.path.join(a.data, f"ifnb_pbmc_{k}.npz")) for k in ("ctrl", "stim")]
    values = np.concatenate([levels(c.counts.toarray(), c.totals) for c in parts])
    values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-6)
    rows = PCA(20, random_state=0).fit_transform(values.T)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    at = {g: i for i, g in enumerate(parts[0].genes)}
    return np.array([rows[at[n]] if n in at else np.zeros(20) for n in names])


def load(path):
    saved = torch.load(path, weights_only=True)
    model = Network(len(saved["genes"]) + len(SPECIAL), dropout=0.0, **saved["shape"])
    model.load_state_dict(saved["model"])
    return model.eval(), saved


def interval(screen, name, guess, draws=400):
    """The middle 95 % of the correlation over draws of the cells that give the truth. A draw of
    cells has their noise twice, so that draws correlate less than the cells did. So only the spread
    of draws about their own mean counts (as inverse hyperbolic tangents), mirrored about the
    correlation that was measured."""
    rng, found = np.random.default_rng(7), []
    rows = np.flatnonzero(np.isin(screen.target, (name, CONTROL)))
    for _ in range(draws):
        drawn = rng.choice(rows, len(rows))
        found.append(correlation(guess, screen.change(name, drawn)[0]))
    found = np.arctanh(found)
    low, high = np.quantile(found - found.mean(), (0.025, 0.975))
    measured = np.arctanh(correlation(guess, screen.change(name)[0]))
    return [round(float(x), 3) for x in np.tanh((measured - high, measured - low))]


def across(a, screens, book):
    """From replicate 1 to replicate 2, where all targets were seen, and each left out."""
    table, codes = {}, None
    one, two = screens[1], screens[2]
    path = os.path.join(a.out, "perturbation-replicate-1.pt")
    model = load(path)[0] if os.path.exists(path) else None
    truth = dict(zip(two.names, two.changes))
    own = dict(zip(one.names, one.changes))
    everyone = np.mean(list(own.values()), 0)
    estimate = Estimate(one)
    codes = dict(zip(one.names, embeddings(a, one.names)))
    for name in one.names:
        others = [n for n in one.names if n != name]
        ridge = Ridge(alpha=1.0).fit([codes[n] for n in others], [own[n] for n in others])
        guesses = {
            "target_mean": own[name],
            "mean_of_all": everyone,
            "estimate": estimate.change(name),
            "left_out_mean_of_others": np.mean([own[n] for n in others], 0),
            "left_out_ridge": ridge.predict([codes[name]])[0],
            "left_out_estimate": Estimate(one, [name]).change(name),
        }
        if model:
            guesses["network"] = predicted(model, book, one.control, name)
        left = os.path.join(a.out, f"perturbation-replicate-1-without-{name}.pt")
        if os.path.exists(left):
            guesses["left_out_network"] = predicted(load(left)[0], book, one.control, name)
        row = {k: round(correlation(g, truth[name]), 4) for k, g in guesses.items()}
        row["cells"] = [int((s.target == name).sum()) for s in (one, two)]
        row["size"] = round(float(np.linalg.norm(truth[name])), 2)
        if model:
            row["network_interval_95"] = interval(two, name, guesses["network"])
        table[name] = row
    return table


def back(screens):
    """The estimate the other way, from replicate 2 to replicate 1: mean correlations."""
    one, two = screens[1], screens[2]
    truth, estimate = dict(zip(one.names, one.changes)), Estimate(two)
    rows = [
        (correlation(estimate.change(n), truth[n]), correlation(own, truth[n]))
        for n, own in zip(two.names, two.changes)
    ]
    return dict(zip(("estimate", "target_mean"), np.round(np.mean(rows, 0), 4).tolist()))


def manifest(figures, known):
    return {
        "name": "perturbation-thp1",
        "version": "1.0.0",
        "alphabet": "",
        "tokeniser": "genes",
        "stride": 1,
        "licence": "MIT OR Apache-2.0",
        "task": "perturbation",
        "description": "Change of 299 genes of THP-1 cells in which a gene is knocked out",
        "tile": 512,
        "context": {"left": 0, "right": 0},
        "cells": {
            "genes": "perturbation.genes.txt",
            "normalise": 10000.0,
            "log1p": True,
            "zeros": True,
            "targets": sorted({*known, *UNSEEN}),
        },
        "training": {
            "data": (
                "THP-1 cells with knock-outs (Papalexi et al. 2021, through sceptredata, MIT),"
                " replicates 1 and 2: 12,823 cells, 299 genes, 23 targets; a table of two pathways"
            ),
            "split": "for the figures: replicate 1 training, replicate 2 test",
            "recipe": "models/train/perturbation.py",
        },
        "figures": figures,
        "outputs": [
            {"name": name, "meaning": meaning, "link": "identity"}
            for name, meaning in (
                ("coefficient", "what a gene's value is multiplied by"),
                ("bias", "what is added then, natural logarithm"),
            )
        ],
    }


def report(a):
    screens = {r: Screen(a.data, [r]) for r in (1, 2)}
    both = Screen(a.data, [1, 2])
    book = Tokens(both.genes, targets(a))
    table = across(a, screens, book)
    mean = lambda key: round(float(np.mean([row[key] for row in table.values() if key in row])), 4)
    keys = {k for row in table.values() for k in row if isinstance(row[k], float)} - {"size"}
    summary = {k: mean(k) for k in sorted(keys)}
    strong = [n for n in table if table[n]["target_mean"] > 0.25]
    summary["strong_targets"] = strong
    summary["strong"] = {
        k: round(float(np.mean([table[n][k] for n in strong if k in table[n]])), 4)
        for k in sorted(keys)
        if any(k in table[n] for n in strong)
    }
    for other in ("target_mean", "estimate"):
        less = [row["network"] - row[other] for row in table.values() if "network" in row]
        if less:
            summary[f"network_less_{other}_worst"] = round(min(less), 4)
            summary[f"network_less_{other}_best"] = round(max(less), 4)
            summary[f"targets_above_{other}"] = sum(x > 0 for x in less)
    result = {"replicate_1_to_2": table, "summary": summary, "replicate_2_to_1": back(screens)}
    model, saved = load(os.path.join(a.out, "perturbation.pt"))
    estimate, whole = Estimate(both), dict(zip(both.names, both.changes))
    result |= {k: saved[k] for k in ("minutes", "steps") if k in saved}
    result |= {"genes": len(book.genes), "measured": len(both.genes)}
    result["parameters"] = parameters(model)
    result["mmac"] = {"300_tokens": round(macs(model, 300) / 1e6, 1)}
    everyone = np.mean(both.changes, 0)
    final = {}
    for name in [*both.names, *UNSEEN]:
        found = predicted(model, book, both.control, name)
        row = {"with_estimate": round(correlation(found, estimate.change(name)), 4)}
        if name in whole:
            row["with_training_mean"] = round(correlation(found, whole[name]), 4)
        row["with_mean_of_all"] = round(correlation(found, everyone), 4)
        if name in both.genes:
            at = both.genes.index(name)
            row["own_transcript"] = {"network": round(float(found[at]), 2)}
            if name in whole:
                row["own_transcript"]["measured"] = round(float(whole[name][at]), 2)
        top = np.argsort(-abs(found))[:8]
        row["top"] = {both.genes[i]: round(float(found[i]), 2) for i in top}
        final[name] = row
    result["final"] = final
    os.makedirs(a.models, exist_ok=True)
    path = os.path.join(a.models, "perturbation")
    result["onnx_against_torch"] = write_onnx(model, [*SPECIAL, *book.genes], "response", path)
    wanted = ("network", "target_mean", "mean_of_all", "left_out_estimate")
    figures = {f"replicate_2_correlation_{k}": summary[k] for k in wanted if k in summary}
    with open(f"{path}.toml", "w") as out:
        write_toml(manifest(figures, targets(a)), out)
    with open(f"{path}_report.json", "w") as out:
        json.dump(result, out, indent=1)
    print(json.dumps({k: result[k] for k in ("summary", "replicate_2_to_1", "final")}, indent=1))


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True, help="the kit's folder of cells")
    p.add_argument("--out", required=True)
    p.add_argument("--replicate", type=int, choices=(1, 2), help="only this one")
    p.add_argument("--without", action="append", default=[], help="a target that is left out")
    p.add_argument("--start", help="a network of this recipe to start from")
    p.add_argument("--report", action="store_true")
    p.add_argument("--models", help="where the report puts its files")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, default=2500)
    p.add_argument("--rate", type=float, default=2e-3)
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    if a.report:
        return report(a)
    parts = [f"replicate-{a.replicate}"] if a.replicate else []
    name = "-".join(["perturbation", *parts, *(f"without-{w}" for w in a.without)])
    train(a, Screen(a.data, [a.replicate] if a.replicate else [1, 2]), name)


if __name__ == "__main__":
    main()
