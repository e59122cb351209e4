"""Trains the IRES network: is a window of 174 nt active between two reporters in the assay of
internal ribosome entry sites?

What: convolutions of 16 channels, then of 32, on the rows of the tokeniser `utr-lm` (zeros for
  `<cls>` and `<eos>`), the maximum of every channel over the window beside the channel itself, the
  mean of both over the window, two dense layers. The first layers start from the splice network's
  (`../float/splice.onnx`): see below.
What the labels measure: a window that is spliced out of the transcript together with the first
  reporter gives the same signal as an entry site. The kit's rows are without the artefacts that the
  assay's own controls find; yet the best acceptor score of a window between the reporters, by the
  splice network as it is, without any training on this assay, ranks them better than any model of
  k-mers or structure. So this recipe learns that on purpose, and the card says it.
Stages:
  windows   16,800 windows: human genes (chr1, symbols of bucket 20 on), joined pieces of human
            5'UTRs, random ones, and the rows of the kit with 3 to 30 % of their bases changed. The
            splice network labels all of them, between 150 nt of either reporter
  trunk     the network learns these labels at every base (acceptor and donor of both tiers), from
            the windows that are no changed rows of the kit
  teacher   extremely randomised trees on the splice network's scores, within the reporters and
            without them, composition by place and dinucleotides; they give windows a logit
  network   trunk and head learn the teacher's logits of windows, the labels and the activities of
            rows, a fifth of the batches cut to 120 nt or more; at the end under int8 rounding
Splits: five folds by source and shared 50-mer; fold 0 is `Rows.held` of `ires_data.py`. Teacher and
  network are trained five times, each without one fold, and changed copies of a fold's rows are out
  with it. Shipped is the network of fold 0. Calibration: logits of folds 1 to 4, each by the
  network that has not seen them.
Beside it: logistic regressions on k-mers, structure and the splice score, the teacher itself, on
  the same folds; intervals from 1,000 bootstrap draws of groups.

    python ires.py --data DATA --out OUT --strandline ../../target/release/strandline

About 6 minutes on one core with bfloat16 instructions; it goes on from what is in OUT. Then

    python manifest.py ires OUT/ires.json -o ../ires.toml
    strandline pack OUT/ires.onnx --manifest ../ires.toml --calibrate OUT/ires.fa --require-bits \\
        -o ../ires.safetensors
"""

import argparse
import json
import os
import subprocess
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import ires_data
import manifest
from calibration import fit_knots
from ires_teacher import SpliceNet, counts, features, make_windows, teach
from packed import Packed
from promoter import one_hot_2d
from quantize_aware import ConvBlock, Head, calibrate, parameters, set_mode
from scoring import apply_knots, average_precision, calibration_error
from sequences import letters, write_fasta
from training import Average, descend, largest_difference, replace, set_rate
from utrlm_small import TOKENS, tokens_of

LENGTH, HELD = ires_data.LENGTH, 0
# Output channels, width, dilation, input (-1: the sequence), what is added to it (-1: nothing), and
# the layer of the splice network that it starts from.
LAYERS = (
    (16, 7, 1, -1, -1, "trunk.0"),
    (16, 7, 1, 0, 0, "trunk.1"),
    (16, 7, 6, 1, 1, "trunk.2"),
    (16, 7, 36, 2, 2, "trunk.3"),
    (16, 7, 2, 3, 3, "trunk.5"),
    (32, 13, 1, -1, -1, "tower.2"),
    (32, 7, 1, 4, 5, "tower.3"),
    (32, 9, 5, 4, 6, "tower.4"),
    (32, 7, 24, 7, 7, "tower.10"),
    (32, 7, 6, 8, 8, "tower.11"),
    (32, 7, 1, 9, 9, "tower.12"),
)
POOLED = (5, 10)  # layers whose channels are pooled
WIDE = 351  # the maximum of so many bases is that of the window
SHORTEST = 120  # of windows that are cut in training


class Ires(nn.Module):
    """[B, 4, 1, 176] to the logits of the splice network at every base, and [B, 2] of the window:
    the logit and the activity."""

    def __init__(self, dropout=0.3, hidden=24):
        super().__init__()
        channels = [layer[0] for layer in LAYERS]
        self.blocks = nn.ModuleList(
            ConvBlock(4 if source < 0 else channels[source], outputs, width, dilation)
            for outputs, width, dilation, source, _, _ in LAYERS
        )
        pooled = 2 * sum(channels[i] for i in POOLED)
        self.sites = Head(channels[-1], 4)
        self.norm = nn.BatchNorm1d(pooled, affine=False)
        self.dense, self.out = nn.Linear(pooled, hidden), nn.Linear(hidden, 2)
        self.dropout = dropout

    def start(self, splice):
        """From the splice network's layers, under batch norms that change nothing."""
        for block, layer in zip(self.blocks, LAYERS):
            weight, bias = splice.layer(layer[-1])
            block.conv.weight.data = weight.clone()
            block.bn.bias.data = bias.clone()
            block.bn.running_var.fill_(1 - block.bn.eps)
        return self

    def rows(self, x):
        rows = []
        for block, (_, _, _, source, added, _) in zip(self.blocks, LAYERS):
            skip = rows[added] if added >= 0 else None
            rows.append(block(x if source < 0 else rows[source], skip))
        return rows

    def forward(self, x):
        rows = self.rows(x)
        sites = self.sites(rows[-1])[:, :, 0, 1:-1]
        h = torch.cat([rows[i] for i in POOLED], 1).flatten(2)
        h = self.norm(torch.cat([h.amax(2), h.mean(2)], 1).float())
        h = F.relu(self.dense(F.dropout(h, self.dropout, self.training)))
        return sites, self.out(F.dropout(h, self.dropout, self.training))


class Exported(nn.Module):
    """Token ids [1, T] to the logit [1, 1], in float, batch norms folded."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.table = nn.Parameter(table())
        norm, factor = model.norm, torch.rsqrt(model.norm.running_var + model.norm.eps)
        self.dense = nn.Linear(model.dense.in_features, model.dense.out_features)
        self.dense.weight.data = model.dense.weight.data * factor
        self.dense.bias.data = model.dense.bias.data - self.dense.weight.data @ norm.running_mean
        self.out = nn.Linear(model.out.in_features, 1)
        self.out.weight.data, self.out.bias.data = (
            model.out.weight.data[:1],
            model.out.bias.data[:1],
        )

    def forward(self, ids):
        x, rows = F.embedding(ids, self.table).transpose(1, 2), []
        for block, (_, _, _, source, added, _) in zip(self.model.blocks, LAYERS):
            weight, bias = block.folded()
            y = x if source < 0 else rows[source]
            y = F.conv1d(y, weight, bias, padding=block.padding, dilation=block.dilation)
            rows.append(F.relu(y if added < 0 else rows[added] + y))
        h = torch.cat([rows[i] for i in POOLED], 1)
        h = torch.cat([F.max_pool1d(h, WIDE, 1, WIDE // 2), h], 1)
        h = F.adaptive_avg_pool1d(h, 1).flatten(1)
        return self.out(F.relu(self.dense(h)))


def table():
    """Rows of token ids: one-hot for bases, zeros else."""
    rows = torch.zeros(TOKENS, 4)
    rows[tokens_of(np.arange(4)[None])[0, 1:-1], range(4)] = 1
    return rows


def image(codes):
    """[B, 4, 1, 176], channels last: what the table makes of tokens."""
    return one_hot_2d(np.pad(codes, ((0, 0), (1, 1)), constant_values=4))


@torch.no_grad()
def predict(model, codes):
    model.eval()
    parts = np.array_split(codes, -(-len(codes) // 128))
    return np.concatenate([model(image(p))[1][:, 0].numpy() for p in parts])


def sites_error(found, label):
    """Errors count in proportion to how likely a site is."""
    weight = 0.05 + torch.sigmoid(label)
    error = F.smooth_l1_loss(found.float(), label, reduction="none")
    return (weight * error).sum() / weight.sum()


def train_trunk(a, windows, inside, splice):
    path = os.path.join(a.out, "ires_trunk.pt")
    model = Ires()
    if os.path.exists(path):
        model.load_state_dict(torch.load(path, weights_only=True))
        return model
    torch.manual_seed(a.seed)
    model.start(splice)
    opt = torch.optim.AdamW(model.parameters(), a.lr, weight_decay=1e-3)
    begin, losses = time.process_time(), []
    for step in range(a.steps_trunk):
        rng = np.random.default_rng((a.seed, step))
        set_rate(opt, a.lr, 50, step, a.steps_trunk)
        at = rng.integers(0, len(windows), a.batch)
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            sites, _ = model(image(windows[at]))
        loss = sites_error(sites, torch.from_numpy(inside[at]))
        descend(opt, model, loss)
        losses.append(loss.item())
        if step % 100 == 99:
            minutes = (time.process_time() - begin) / 60
            print(f"trunk {step + 1} {np.mean(losses[-100:]):.4f} {minutes:.1f} min", flush=True)
    replace(path, model.state_dict())
    return model


def train_fold(a, fold, trunk, windows, inside, origin, soft, rows, inside_rows, soft_rows):
    """The network without one fold: (float average, under int8 rounding)."""
    path = os.path.join(a.out, f"ires_fold_{fold}.pt")
    model = Ires(a.dropout)
    if os.path.exists(path):
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    torch.manual_seed(a.seed)
    model.load_state_dict(trunk.state_dict())
    average = Average(model, 0.99)
    opt = torch.optim.AdamW(model.parameters(), a.lr, weight_decay=a.decay)
    own = np.flatnonzero(rows.fold != fold)
    known = np.flatnonzero((origin < 0) | (rows.fold[origin] != fold))
    likely = 1 / (1 + np.exp(-soft[known]))
    share = 0.15 + likely  # windows that may be active are shown more often
    share /= share.sum()
    positive = rows.label[own] == 1
    chance = np.where(positive, 0.3 / positive.sum(), 0.7 / (~positive).sum())
    weight = np.where(positive, positive.mean() / 0.3, (~positive).mean() / 0.7)
    weight = dict(zip(own, weight))
    spread = rows.activity.std()
    begin, losses, rounding = time.process_time(), [], int(a.steps * (1 - a.int8))
    for step in range(a.steps):
        rng = np.random.default_rng((a.seed, 9, step))
        set_rate(opt, a.lr, 50, step, a.steps)
        at = rng.choice(known, a.batch - few_rows(a), p=share)
        pick = rng.choice(own, few_rows(a), p=chance)
        if step == rounding:
            model.load_state_dict(average.values)
            calibrate(model, [image(windows[rng.choice(known, 256)]) for _ in range(2)])
            set_mode(model, "int8")
            average = Average(model, 0.99)
        cut = slice(None)
        if rng.random() < a.cut:
            length = int(rng.integers(SHORTEST, LENGTH))
            start = int(rng.integers(0, LENGTH - length + 1))
            cut = slice(start, start + length)
        codes = np.concatenate([windows[at], rows.codes[pick]])[:, cut]
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=step < rounding):
            sites, out = model(image(codes))
        out = out.float()
        label = torch.from_numpy(rows.label[pick].astype(np.float32))
        w = torch.tensor([weight[i] for i in pick], dtype=torch.float32)
        logits = torch.from_numpy(np.concatenate([soft[at], soft_rows[pick]]))
        hard = F.binary_cross_entropy_with_logits(out[len(at) :, 0], label, w)
        target = torch.sigmoid(logits)
        likeness = F.binary_cross_entropy_with_logits(out[:, 0], target)
        level = torch.from_numpy((rows.activity[pick] / spread).astype(np.float32))
        activity = (w * F.smooth_l1_loss(out[len(at) :, 1], level, reduction="none")).mean()
        all_sites = np.concatenate([inside[at], inside_rows[pick]])[..., cut]
        loss = (
            likeness
            + a.hard * hard
            + a.activity * activity
            + a.sites * sites_error(sites, torch.from_numpy(all_sites))
        )
        descend(opt, model, loss)
        average.update(model, step if step < rounding else step - rounding)
        losses.append([likeness.item(), hard.item(), activity.item()])
        if step % 100 == 99 or step + 1 == a.steps:
            minutes = (time.process_time() - begin) / 60
            print(fold, step + 1, np.round(np.mean(losses[-100:], 0), 4), f"{minutes:.1f} min")
    set_mode(model, "float")
    model.load_state_dict(average.values)
    replace(path, model.state_dict())
    return model.eval()


def few_rows(a):
    return a.batch // 3


def taught(a, fold, rows, x, x_rows):
    """Logits of the teacher that has not seen a fold: of the fold's rows, of windows, of the other
    rows."""
    path = os.path.join(a.out, f"ires_teacher_{fold}.npz")
    if not os.path.exists(path):
        test, train = rows.fold == fold, rows.fold != fold
        teacher = teach(a, x_rows[train], rows.label[train])
        # What it says of rows that it was shown is too sure: a row gets the logit of another that
        # has not seen the row's own fold either.
        soft_rows = np.zeros(len(x_rows), np.float32)
        for inner in set(range(ires_data.FOLDS)) - {fold}:
            rest, at = train & (rows.fold != inner), rows.fold == inner
            soft_rows[at] = teach(a, x_rows[rest], rows.label[rest])(x_rows[at])
        np.savez(path, test=teacher(x_rows[test]), windows=teacher(x), rows=soft_rows)
    saved = np.load(path)
    return saved["test"], saved["windows"], saved["rows"]


def baselines(a, rows, x, inside):
    """Scores of rows by regressions on the same folds, and the splice score as it is."""
    import RNA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    path = os.path.join(a.out, "ires_structure.npy")
    if not os.path.exists(path):
        folded = [RNA.fold(t) for t in rows.texts]
        paired = np.array([[c != "." for c in s] for s, _ in folded], np.float32)
        by_place = paired.reshape(len(folded), 6, 29).mean(2)
        np.save(path, np.column_stack([[e for _, e in folded], by_place]))
    one, two, three = (counts(rows.codes, k) for k in (1, 2, 3))
    sets = {
        "composition": one,
        "k-mers of 1 to 3": np.hstack([one, two, three]),
        "k-mers of 1 to 4": np.hstack([one, two, three, counts(rows.codes, 4)]),
        "composition and structure": np.hstack([one, np.load(path)]),
        "composition and splice scores": np.hstack([one, x[:, :28]]),
    }
    found = {"share of U, no training": one[:, 3], "splice acceptor, no training": inside}
    for name, features_ in sets.items():
        scores = np.empty(len(x))
        for fold in range(ires_data.FOLDS):
            train = rows.fold != fold
            model = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=500))
            model.fit(
                np.sqrt(np.abs(features_))[train] if "k-mers" in name else features_[train],
                rows.label[train],
            )
            test = np.sqrt(np.abs(features_)) if "k-mers" in name else features_
            scores[~train] = model.decision_function(test[~train])
        found[name] = scores
    return found


def export(model, path, codes):
    """The ONNX file, and its largest difference from the network."""
    import onnxruntime

    exported = Exported(model).eval()
    torch.onnx.export(
        exported,
        (tokens_of(codes[:1]),),
        path,
        input_names=["input_ids"],
        output_names=["ires"],
        opset_version=17,
        dynamo=False,
        dynamic_axes={"input_ids": {1: "T"}},
    )
    file = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = [file.run(None, {"input_ids": tokens_of(c[None]).numpy()})[0][0, 0] for c in codes[:50]]
    return largest_difference(np.array(found), predict(model, codes[:50]))


def packed_scores(a, fold, model, codes, sample):
    """What the packed int8 network of a fold gives, as logits."""
    stem = os.path.join(a.out, f"ires_packed_{fold}")
    if not os.path.exists(f"{stem}.safetensors"):
        export(model, f"{stem}.onnx", codes)
        plain = {"figures": {"network": {"auprc": 0, "held_out": 0, "interval_95": [0, 0]}}}
        plain |= {"calibration": {"knots": [], "held_out": {"ece": 0}}, "base_rate": 0.1}
        with open(f"{stem}.toml", "w") as out:
            manifest.write_toml(manifest.whole("ires", plain | {"split": "one fold"}), out)
        write_fasta(f"{stem}.fa", [letters(c) for c in sample])
        command = [a.strandline, "-q", "pack", f"{stem}.onnx", "--manifest", f"{stem}.toml"]
        command += ["--calibrate", f"{stem}.fa", "--require-bits", "-o", f"{stem}.safetensors"]
        subprocess.run(command, check=True)
    packed = Packed(a.strandline, f"{stem}.safetensors")
    p = np.clip(packed.whole([letters(c) for c in codes])[:, 0], 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--strandline", help="the program, full build: figures of packed files, too")
    p.add_argument("--trees", type=int, default=500)
    p.add_argument("--steps-trunk", type=int, default=600)
    p.add_argument("--steps", type=int, default=450)
    p.add_argument("--batch", type=int, default=96)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--decay", type=float, default=0.02)
    p.add_argument("--dropout", type=float, default=0.3)
    p.add_argument("--hard", type=float, default=0.3)
    p.add_argument("--activity", type=float, default=0.1)
    p.add_argument("--sites", type=float, default=0.3)
    p.add_argument("--cut", type=float, default=0.2, help="share of batches of shorter windows")
    p.add_argument("--int8", type=float, default=0.15, help="share of the steps under rounding")
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    begin = time.process_time()
    rows = ires_data.Rows(a.data)
    splice = SpliceNet(os.path.join(os.path.dirname(__file__), "..", "float", "splice.onnx"))
    none = np.zeros(0, np.uint8)
    path = os.path.join(a.out, "ires_windows.npz")
    if not os.path.exists(path):
        windows, origin = make_windows(a, rows)
        inside, alone = splice.between(windows), splice.between(windows, none, none)
        x = features(windows, inside, alone).astype(np.float32)
        np.savez(path, windows=windows, origin=origin, inside=inside.astype(np.float16), x=x)
        print(f"windows {(time.process_time() - begin) / 60:.1f} min", flush=True)
    saved = np.load(path)
    windows, origin, x = (saved[k] for k in ("windows", "origin", "x"))
    inside = saved["inside"].astype(np.float32)
    inside_rows, alone = splice.between(rows.codes), splice.between(rows.codes, none, none)
    x_rows = features(rows.codes, inside_rows, alone).astype(np.float32)

    trunk = train_trunk(a, windows[origin < 0], inside[origin < 0], splice)
    found = baselines(a, rows, x_rows, inside_rows[:, 0].max(1))
    found["splice acceptor of the window alone, no training"] = alone[:, 0].max(1)
    names = ("teacher", "network") + ("network, int8",) * bool(a.strandline)
    found |= {name: np.empty(len(x_rows)) for name in names}
    for fold in range(ires_data.FOLDS):
        test, train = rows.fold == fold, rows.fold != fold
        found["teacher"][test], soft, soft_rows = taught(a, fold, rows, x, x_rows)
        model = train_fold(
            a, fold, trunk, windows, inside, origin, soft, rows, inside_rows, soft_rows
        )
        found["network"][test] = predict(model, rows.codes[test])
        if a.strandline:
            scores = packed_scores(a, fold, model, rows.codes[test], rows.codes[train][:400])
            found["network, int8"][test] = scores
        if fold == HELD:
            shipped = model
        for name in names:
            value = average_precision(found[name][test], rows.label[test] == 1)
            print(f"fold {fold} {name} {value:.3f}", flush=True)
    label = rows.label == 1
    table_ = {
        name: {
            "auprc": round(average_precision(score, label), 4),
            "interval_95": ires_data.interval(score, label, rows.group),
            "held_out": round(average_precision(score[rows.held], label[rows.held]), 4),
        }
        for name, score in found.items()
    }
    acceptor = found["splice acceptor, no training"]
    low = acceptor < np.quantile(acceptor, 0.8)
    best = np.argsort(-acceptor)[:60]
    likely = 1 / (1 + np.exp(-acceptor)) > 0.1
    splicing = {
        "active_of_60_best_acceptors": int(label[best].sum()),
        "acceptor_above_.1_active": round(float(likely[label].mean()), 3),
        "acceptor_above_.1_others": round(float(likely[~label].mean()), 3),
        "lowest_80_percent": {"rows": int(low.sum()), "positive": int(label[low].sum())}
        | {name: round(average_precision(s[low], label[low]), 3) for name, s in found.items()},
    }
    others = ~rows.held
    knots = fit_knots(found["network"][others], label[others], count=4)
    probability = 1 / (1 + np.exp(-apply_knots(knots, found["network"][rows.held])))
    onnx_path = os.path.join(a.out, "ires.onnx")
    worst = export(shipped, onnx_path, rows.codes)
    write_fasta(os.path.join(a.out, "ires.fa"), [t for t, h in zip(rows.texts, rows.held) if not h])
    np.savez(os.path.join(a.out, "ires_scores.npz"), **found)
    report = {
        "task": "ires",
        "rows": {"all": len(label), "positive": int(label.sum()), "groups": len(set(rows.group))},
        "held_out": {"rows": int(rows.held.sum()), "positive": int(label[rows.held].sum())},
        "split": "by source and shared 50-mer; held out: groups with md5(source) mod 5 = 0",
        "figures": table_,
        "splicing": splicing,
        "calibration": {
            "knots": knots,
            "held_out": calibration_error(probability, label[rows.held]),
        },
        "base_rate": round(float(label.mean()), 4),
        "macs_per_base": sum(b.conv.weight.numel() for b in shipped.blocks),
        "parameters": parameters(shipped),
        "onnx_max_difference": worst,
        "options": {k: v for k, v in vars(a).items() if k not in ("data", "out", "strandline")},
        "cpu_minutes": round((time.process_time() - begin) / 60, 1),
    }
    with open(os.path.join(a.out, "ires.json"), "w") as file:
        json.dump(report, file, indent=1)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
