"""Trains the splice network of two tiers (`splice_net.py`).

What: stage 1 trains from nothing; stage 2 goes on, from stage 1's checkpoint, with a network that
  sees 2,000 nt further and with windows whose sites are made of halves of two sites, which tell the
  network what a site's two sides are worth on their own; stage 3 goes on from there with two of the
  late layers dilated.
Why so: the few hundred genes alone are memorised; most crops are re-joined windows that a reference
  network labelled. Both heads are trained at once, and half of the fast head's word on a base is
  taken from the accurate head: it is to keep what that one will call, true or not. The rate stays
  up for long and falls to nothing in the last part, which is worth more than any other hour of the
  run.
Data, split, errors: see `splice_data.py`; run `windows.py` first.
How: python splice.py --stage 1 --data DIR --windows OUT/joined_*.npz --out OUT/1
     python splice.py --stage 2 --data DIR --windows OUT/joined_*.npz OUT/halves_*.npz \\
         --start OUT/1/splice.pt --out OUT/2
     python splice.py --stage 3 --data DIR --windows OUT/joined_*.npz OUT/halves_*.npz \\
         --start OUT/2/splice.pt --out OUT/3
     python splice_report.py --data DIR --checkpoint OUT/3/splice.pt --out OUT/3
  The last writes network, manifest and packed file.
  Writes splice.pt (checkpoint; the same command resumes) and splice.csv (log). One thread; minutes
  are in the logs' `cpu_minutes`, with `--step amx` (amx_step.py), which a processor with AMX runs
  several times as fast as `--step torch`.
"""

import argparse
import copy
import csv
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F

from packed import TIERS
from quantize_aware import parameters
from scoring import figures
from splice_data import KINDS, Crops, Windows, load_genes, load_windows
from splice_net import TOWERS, TRUNK, TwoTierNet, as_input, grow, score
from training import replace

STAGES = {  # parts of the crops: genes, windows of --windows, the kit's windows
    1: {"steps": 200_000, "lr": 4e-3, "anneal": 0.4, "parts": (0.3, 0.5, 0.2), "seed": 1},
    2: {"steps": 180_000, "lr": 3e-3, "anneal": 0.45, "parts": (0.3, 0.55, 0.15), "seed": 2},
    3: {"steps": 120_000, "lr": 3e-3, "anneal": 0.6, "parts": (0.3, 0.55, 0.15), "seed": 3},
}
BATCH, CROP = 2, 8192
ERRORS = 0.45  # part of the crops with read errors
WEIGHT = 0.4  # of the fast head's loss
SHARE = 0.5  # of the accurate head's word in the fast head's labels
MEAN = 0.9995  # decay of the running mean of weights, a step


class Flat:
    """Parameters, gradients and statistics of a model as flat arrays that its tensors are views of,
    so that the optimiser and the running mean are a few calls, not a few hundred."""

    def __init__(self, model):
        self.model = model
        self.parameters = [
            t for layer in model.layers for t in (layer.conv.weight, layer.bn.weight, layer.bn.bias)
        ]
        self.parameters += [t for head in model.heads for t in (head.conv.weight, head.conv.bias)]
        self.statistics = [
            t for layer in model.layers for t in (layer.bn.running_mean, layer.bn.running_var)
        ]
        self.flat = torch.cat([t.detach().reshape(-1) for t in self.parameters])
        self.stats = torch.cat([t.reshape(-1) for t in self.statistics])
        self.grad = torch.zeros_like(self.flat)
        for flat, tensors in ((self.flat, self.parameters), (self.stats, self.statistics)):
            for t, part in zip(tensors, flat.split([t.numel() for t in tensors])):
                t.data = part.view(t.shape)
        for t, part in zip(self.parameters, self.grad.split([t.numel() for t in self.parameters])):
            t.grad = part.view(t.shape)


class TorchStep(Flat):
    """A training step: the losses a kilobase of (accurate, fast), with the gradients of their
    weighted sum in `grad`."""

    def __init__(self, model, weight, share, bfloat16=True):
        super().__init__(model)
        self.weight, self.share, self.bfloat16 = weight, share, bfloat16

    def __call__(self, x, y, lengths):
        self.model.train()
        self.grad.zero_()
        inside = torch.from_numpy(np.arange(x.shape[1]) < lengths[:, None])
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            fast, accurate = (
                z[:, :, 0].float().transpose(1, 2)[inside] for z in self.model(as_input(x))
            )
        target = torch.from_numpy(y).float()[inside] / 255
        # 1000: a loss per kilobase, as nearly all bases are no site and the mean over bases is
        # tiny.
        accurate_loss = 1000 * F.binary_cross_entropy_with_logits(accurate, target)
        target = target.lerp(torch.sigmoid(accurate.detach()), self.share)
        fast_loss = 1000 * F.binary_cross_entropy_with_logits(fast, target)
        (accurate_loss + self.weight * fast_loss).backward()
        return accurate_loss.item(), fast_loss.item()


class Adam:
    """AdamW on flat arrays."""

    def __init__(self, flat, decay=0.01):
        self.flat, self.decay, self.m, self.v = (
            flat,
            decay,
            torch.zeros_like(flat),
            torch.zeros_like(flat),
        )

    def step(self, grad, rate, count):
        grad.mul_(min(1.0, 20.0 / (float(grad.norm()) + 1e-6)))
        self.m.lerp_(grad, 0.1)
        self.v.mul_(0.999).addcmul_(grad, grad, value=0.001)
        self.flat.mul_(1 - rate * self.decay)
        root = self.v.sqrt().mul_(1 / math.sqrt(1 - 0.999**count)).add_(1e-8)
        self.flat.addcdiv_(self.m, root, value=-rate / (1 - 0.9**count))


def options(description):
    """Arguments of a training run, whatever it trains on."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder of the data")
    parser.add_argument("--out", required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--every", type=int, default=5_000, help="steps between figures")
    parser.add_argument("--save", type=int, default=2_500, help="steps between checkpoints")
    parser.add_argument("--step", choices=("torch", "amx"), default="torch")
    return parser


def start(trunk, tower):
    """An untrained network."""
    model = TwoTierNet(trunk, tower)
    print(
        f"{model.macs()} MAC a base, {parameters(model)} parameters, reach {model.reach()}",
        flush=True,
    )
    return model


def fit(model, trunk, tower, stage, crops, measure, args):
    """Trains the model, from the checkpoint in `args.out` if there is one. `measure` gives the
    figures of a model by the names of their columns."""
    steps, path = args.steps or stage["steps"], os.path.join(args.out, "splice.pt")
    mean = copy.deepcopy(model)
    step, seconds, rows, running, saved = 0, 0.0, [], None, None
    if os.path.exists(path):
        saved = torch.load(path, weights_only=True)
        assert (saved["trunk"], saved["tower"]) == (
            trunk,
            tower,
        ), "the checkpoint is of another network: use another --out"
        model.load_state_dict(saved["model"])
        mean.load_state_dict(saved["ema"])
        step, seconds, rows, running = (
            saved["step"],
            saved["seconds"],
            saved["rows"],
            saved["running"],
        )
        print(f"resumed at step {step}", flush=True)
    if args.step == "amx":
        from amx_step import AmxStep

        run = AmxStep(model, BATCH, CROP, WEIGHT, SHARE, args.out)
    else:
        run = TorchStep(model, WEIGHT, SHARE)
    averaged, optimizer = Flat(mean), Adam(run.flat)
    if saved:
        optimizer.m, optimizer.v = saved["optimizer"]["m"], saved["optimizer"]["v"]

    def save():
        state = lambda m: {k: t.clone() for k, t in m.state_dict().items()}
        replace(
            path,
            {
                "model": state(model),
                "ema": state(mean),
                "optimizer": {"m": optimizer.m, "v": optimizer.v},
                "trunk": trunk,
                "tower": tower,
                "step": step,
                "seconds": seconds,
                "rows": rows,
                "running": running,
            },
        )

    while step < steps:
        began = time.process_time()
        rng = np.random.default_rng(
            [stage["seed"], step]
        )  # by step, so that a resumed run sees the same crops
        losses = run(*crops.next(rng))
        assert np.isfinite(losses).all() and torch.isfinite(run.grad).all(), (
            "not finite: resume from the last checkpoint"
        )
        rate = stage["lr"] * min(1.0, (step + 1) / 500, (steps - step) / (stage["anneal"] * steps))
        step += 1
        optimizer.step(run.grad, rate, step)
        if step % 4 == 0:
            part = 1 - min(MEAN**4, 1 - 10 / (step + 10))
            averaged.flat.lerp_(run.flat, part)
            averaged.stats.lerp_(run.stats, part)
        seconds += time.process_time() - began
        running = (
            list(losses)
            if running is None
            else [0.998 * a + 0.002 * b for a, b in zip(running, losses)]
        )
        if step % args.every == 0 or step == steps:
            found = measure(mean)
            row = [step, round(seconds / 60, 2)] + [round(v, 4) for v in running]
            rows.append(row + list(found.values()))
            print(*rows[-1], flush=True)
            with open(os.path.join(args.out, "splice.csv"), "w", newline="") as out:
                writer = csv.writer(out)
                writer.writerow(
                    ["step", "cpu_minutes", "accurate_loss_per_kb", "fast_loss_per_kb", *found]
                )
                writer.writerows(rows)
        if step % args.save == 0 or step == steps:
            save()


def columns(scores, truth):
    """Top-k and AUPRC of logits [n, 4] of both tiers, by the log's names."""
    found = {}
    for tier, part in zip(reversed(TIERS), (scores[:, 2:], scores[:, :2])):
        f = figures(part, truth, KINDS)
        found |= {f"{tier}_{k}_{name}": f[k][name] for k in KINDS for name in ("top_k", "auprc")}
    return found


def main():
    parser = options(__doc__)
    parser.add_argument("--stage", type=int, choices=STAGES, required=True)
    parser.add_argument("--windows", required=True, nargs="+", help="what windows.py wrote")
    parser.add_argument("--start", help="stages 2 and 3: checkpoint of the stage before")
    args = parser.parse_args()
    stage, tower = STAGES[args.stage], TOWERS[args.stage]
    torch.set_num_threads(1)
    torch.manual_seed(stage["seed"])
    os.makedirs(args.out, exist_ok=True)
    model = start(TRUNK, tower)
    if args.stage > 1 and not os.path.exists(os.path.join(args.out, "splice.pt")):
        if not args.start:
            parser.error(f"stage {args.stage} needs --start")
        grow(model, args.start)

    data = os.path.join(args.data, "splice")
    genes = load_genes(data)
    kit = load_windows(data, genes, os.path.join(args.out, "windows.npz"))
    made = [Windows(f["seq"], f["where"], f["value"]) for f in map(np.load, args.windows)]
    crops = Crops(genes, kit, made, BATCH, CROP, stage["parts"], errors=ERRORS)
    held = [g for g in genes if g["held_out"]]
    truth = np.concatenate([g["hard"] for g in held]) > 0
    for g in genes:  # only the held-out ones are scored
        if not g["held_out"]:
            del g["hard"], g["soft"]

    def measure(mean):
        return columns(score(mean, [g["bases"] for g in held]), truth)

    fit(model, TRUNK, tower, stage, crops, measure, args)


if __name__ == "__main__":
    main()
