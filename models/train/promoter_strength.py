"""Trains the bacterial promoter-strength network: log transcription rate of an E. coli sigma-70
promoter.

What: residual convolutions, maximum and mean of each channel (by position modulo 3, the pooling
  that the runtime has for whole sequences; a promoter has no reading frame), two dense layers.
Data: `expression/ecoli_promoter_lafleur.csv` and `ecoli_promoter_urtecho.csv` (La Fleur et al.
  2022), log(TX/Txref). The libraries differ in scale, assay and surroundings, so each has an output
  of its own; the La Fleur output is exported.
Split: md5(promoter) mod 100 < 50 of the La Fleur set and < 20 of Urtecho's are the test rows, never
  trained on. Most of La Fleur's promoters vary one element of one backbone, so test rows have near
  relatives in training: the figure is for designs of that kind. What the exported output is worth
  elsewhere shows on Urtecho's rows.
Forms: a La Fleur promoter is shown bare, with the vector's 20 nt at either side, or with a part of
  them.

    python promoter_strength.py --data DIR --out DIR    about 2 minutes, one core; resumes
"""

import argparse
import csv
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from quantize_aware import parameters
from scoring import r2
from sequences import bucket, encode
from training import (
    Average,
    OnnxFile,
    descend,
    export_onnx,
    frames,
    frames_of_one,
    keep,
    largest_difference,
    one_hot,
    residual,
    residual_blocks,
    resume,
    set_rate,
)

LAYERS = ((9, 1), (7, 1), (5, 2), (5, 4), (5, 1))  # width, dilation
LONGEST = 150
PAD = 4
OBSERVED, PREDICTED = "Observed log(TX/Txref)", "Predicted log(TX/Txref)"


class Strength(nn.Module):
    """One sequence to `outputs` numbers; also the translation-efficiency network."""

    def __init__(self, channels, hidden, outputs, drop, layers=LAYERS, normalise=False):
        super().__init__()
        self.channels = channels
        # pooled values are all positive: on few, noisy rows the first steps would move them
        # together and leave no ReLU alive
        self.norm = nn.BatchNorm1d(6 * channels, affine=False) if normalise else nn.Identity()
        self.blocks = residual_blocks(channels, layers)
        self.dense = nn.Linear(6 * channels, hidden)
        self.out = nn.Linear(hidden, outputs)
        self.drop = drop

    def forward(self, x):
        h = frames(residual(self.blocks, x), self.channels)
        h = F.dropout(self.norm(h), self.drop, self.training)
        return self.out(F.dropout(F.relu(self.dense(h)), self.drop, self.training))


class Exported(nn.Module):
    """One sequence; the outputs in `columns` with their scales in the last layer."""

    def __init__(self, model, columns, gain, offset):
        super().__init__()
        self.model = model
        self.dense = nn.Linear(model.dense.in_features, model.dense.out_features)
        self.dense.load_state_dict(model.dense.state_dict())
        if isinstance(model.norm, nn.BatchNorm1d):
            factor = torch.rsqrt(model.norm.running_var + model.norm.eps)
            self.dense.weight.data *= factor
            self.dense.bias.data -= self.dense.weight.data @ model.norm.running_mean
        self.out = nn.Linear(model.out.in_features, len(columns))
        gain, offset = (
            torch.tensor(gain, dtype=torch.float32),
            torch.tensor(offset, dtype=torch.float32),
        )
        self.out.weight.data = model.out.weight.data[columns] * gain[:, None]
        self.out.bias.data = model.out.bias.data[columns] * gain + offset

    def forward(self, x):
        m = self.model
        h = frames_of_one(residual(m.blocks, x), m.channels)
        return self.out(F.relu(self.dense(h)))


def stack(rows, longest=LONGEST):
    """Sequences of one padded length to [B, 4, 1, T]: zero columns on the left, to a multiple of
    three."""
    rows = [r[-longest:] for r in rows]
    length = -(-max(len(r) for r in rows) // 3) * 3
    codes = np.full((len(rows), length), PAD, np.uint8)
    for i, r in enumerate(rows):
        codes[i, length - len(r) :] = r
    return one_hot(codes).unsqueeze(2).to(memory_format=torch.channels_last)


@torch.no_grad()
def predict(model, rows, longest=LONGEST):
    """[n, outputs], each row at its own padded length, as the program does it."""
    model.eval()
    result = np.empty((len(rows), model.out.out_features), np.float32)
    padded = np.array([-(-min(len(r), longest) // 3) for r in rows])
    for length in np.unique(padded):
        at = np.flatnonzero(padded == length)
        for part in np.array_split(at, max(1, len(at) // 256)):
            result[part] = model(stack([rows[i] for i in part], longest)).numpy()
    return result


def export(exported, path, name, rows):
    """The ONNX file, and its largest difference from the module on a few rows."""
    export_onnx(exported, stack(rows[:1]).squeeze(2).contiguous(), path, [name])
    file, worst = OnnxFile(path), 0.0
    for row in rows[:20]:
        x = stack([row]).squeeze(2).contiguous()
        worst = max(worst, largest_difference(file(x)[0], exported(x).detach().numpy()))
    assert worst < 1e-3, worst
    return worst


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--steps", type=int, default=1500)
    p.add_argument("--channels", type=int, default=32)
    p.add_argument("--hidden", type=int, default=32)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--decay", type=float, default=2e-2)
    p.add_argument("--drop", type=float, default=0.15)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument(
        "--urtecho", type=float, default=0.5, help="weight of Urtecho's rows in the loss"
    )
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)
    os.makedirs(a.out, exist_ok=True)
    begin = time.process_time()

    with open(os.path.join(a.data, "expression", "ecoli_promoter_lafleur.csv")) as lines:
        rows = list(csv.DictReader(lines))
    left, right = encode(rows[0]["Upstream DNA"]), encode(rows[0]["Downstream DNA"])
    texts = [r["Promoter Sequence"] for r in rows]
    codes = [encode(t) for t in texts]
    value = np.array([float(r[OBSERVED]) for r in rows], np.float32)
    theirs = np.array([float(r[PREDICTED]) for r in rows])
    held = np.array([bucket(t, 100) < 50 for t in texts])
    with open(os.path.join(a.data, "expression", "ecoli_promoter_urtecho.csv")) as lines:
        rows = list(csv.DictReader(lines))
    other = [encode(r["Promoter Sequence"]) for r in rows]
    other_value = np.array([float(r[OBSERVED]) for r in rows], np.float32)
    other_held = np.array([bucket(r["Promoter Sequence"], 100) < 20 for r in rows])
    mean, std = float(value[~held].mean()), float(value[~held].std())
    other_mean, other_std = (
        float(other_value[~other_held].mean()),
        float(other_value[~other_held].std()),
    )
    train, other_train = np.flatnonzero(~held), np.flatnonzero(~other_held)
    test, other_test = np.flatnonzero(held), np.flatnonzero(other_held)

    def dressed(row, rng):
        kind = rng.random()
        if kind < 0.45:
            return row
        if kind < 0.75:
            return np.r_[left, row, right]
        return np.r_[left[rng.integers(0, 21) :], row, right[: rng.integers(0, 21)]]

    def figures(model):
        bare = predict(model, [codes[i] for i in test])[:, 0]
        full = predict(model, [np.r_[left, codes[i], right] for i in test])[:, 0]
        urtecho = predict(model, [other[i] for i in other_test])
        return [
            r2(bare, value[test]),
            r2(full, value[test]),
            r2(urtecho[:, 1], other_value[other_test]),
            r2(urtecho[:, 0], other_value[other_test]),
        ], bare

    model = Strength(a.channels, a.hidden, 2, a.drop)
    smooth = Strength(a.channels, a.hidden, 2, 0)
    average = Average(model, 0.995)
    opt = torch.optim.AdamW(model.parameters(), a.lr, weight_decay=a.decay)
    checkpoint = os.path.join(a.out, "promoter_strength_checkpoint.pt")
    first, spent = resume(checkpoint, model, opt, average)
    log = open(os.path.join(a.out, "promoter_strength_log.csv"), "a" if first else "w")
    if not first:
        print(
            "step,cpu_minutes,loss,r2_lafleur,r2_lafleur_flanked,"
            "r2_urtecho,r2_urtecho_by_lafleur_output",
            file=log,
        )
    losses = []
    for step in range(first, a.steps):
        rng = np.random.default_rng(
            (a.seed, step)
        )  # by step: a resumed run sees what an uninterrupted one sees
        set_rate(opt, a.lr, 100, step, a.steps)
        # rows of a batch are padded to the longest of it: some zero columns more than alone, in
        # training only
        pick, other_pick = rng.choice(train, a.batch), rng.choice(other_train, a.batch)
        x = stack([dressed(codes[i], rng) for i in pick] + [cut(other[i], rng) for i in other_pick])
        model.train()
        y = model(x)
        loss = F.mse_loss(
            y[: a.batch, 0], torch.as_tensor((value[pick] - mean) / std)
        ) + a.urtecho * F.mse_loss(
            y[a.batch :, 1], torch.as_tensor((other_value[other_pick] - other_mean) / other_std)
        )
        descend(opt, model, loss)
        average.update(model, step)
        losses.append(loss.item())
        if (step + 1) % 300 == 0 or step + 1 == a.steps:
            smooth.load_state_dict(average.values)
            minutes = (spent + time.process_time() - begin) / 60
            row = ",".join(
                [str(step + 1), f"{minutes:.2f}"]
                + [f"{v:.4f}" for v in (np.mean(losses), *figures(smooth)[0])]
            )
            losses = []
            print(row, file=log, flush=True)
            print(row, flush=True)
            keep(checkpoint, model, opt, average, step + 1, minutes * 60)

    smooth.load_state_dict(average.values)
    found, bare = figures(smooth)
    exported = Exported(smooth, [0], [std], [mean]).eval()
    worst = export(
        exported,
        os.path.join(a.out, "promoter-strength.onnx"),
        "log_rate",
        [codes[i] for i in test],
    )
    macs = sum(b.conv.weight.numel() for b in smooth.blocks)
    dense = smooth.dense.weight.numel() + smooth.out.in_features
    result = dict(
        task="promoter-strength",
        output="log(TX/Txref), natural logarithm, La Fleur's units",
        split="test: md5(promoter) mod 100 < 50 of La Fleur's set, < 20 of Urtecho's",
        test_rows={"lafleur": len(test), "urtecho": len(other_test)},
        r2_lafleur_bare=round(found[0], 4),
        r2_lafleur_with_vector_ends=round(found[1], 4),
        r2_lafleur_published_model_same_rows=round(r2(theirs[test], value[test]), 4),
        rmse_lafleur=round(float(np.sqrt(np.mean((bare * std + mean - value[test]) ** 2))), 4),
        r2_urtecho_own_output=round(found[2], 4),
        r2_urtecho_exported_output=round(found[3], 4),
        onnx_max_difference=worst,
        parameters=parameters(smooth) + 6 * a.channels * a.hidden + 2 * a.hidden + 1,
        macs_per_base=macs,
        macs_dense=dense,
        macs_longest=macs * LONGEST + dense,
        channels=a.channels,
        layers=LAYERS,
        steps=a.steps,
        seed=a.seed,
        cpu_seconds=round(spent + time.process_time() - begin),
    )
    json.dump(result, open(os.path.join(a.out, "promoter-strength.json"), "w"), indent=1)
    print(json.dumps(result, indent=1))


def cut(row, rng):
    """Urtecho's 150 nt with up to 30 taken off either end: the promoter lies in the middle."""
    return row[rng.integers(0, 31) : len(row) - rng.integers(0, 31)] if rng.random() < 0.5 else row


if __name__ == "__main__":
    main()
