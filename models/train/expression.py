"""Trains the 5'UTR expression network: mean ribosome load (MRL) of a 5'UTR of 25 to 100 nt.

What: residual convolutions of width 7, then pooling by reading frame (maximum and mean of each channel at the
  positions 0, 1, 2 modulo 3, so that the dense layers can tell an AUG in frame from one out of frame), then two
  dense layers. The frame is counted from the UTR's end, that is from the start codon: the input is padded on the
  left with all-zero columns to a multiple of three. Of a longer UTR the last 100 nt are used.
Data: `expression/mrl_random16k.csv` and `mrl_human25k.csv` (Sample et al. 2019), 50-nt UTRs. Buckets 0..19 of 100 of a
  hash of the sequence are the test fifth of each, never trained on. The libraries differ in scale and offset (other
  experiments), so each has an affine output of its own on a shared network; the random library's is exported.
Lengths: all measured UTRs have 50 nt, behind the reporter's constant leader of 25 nt. Other lengths come from
  - the leader in front, whole or in part (51..75 nt; with all of it the label is exact, for it was there);
  - random AUG-free bases in front of the leader (76..100 nt, label approximate, half weight);
  - truncation on the left where no AUG goes with it (25..49 nt, label approximate, half weight).
Last fifth of the training: int8 fake quantisation of the convolutions (the dense layers stay float).

    python expression.py --data DIR --out DIR        about 7 minutes on one core; goes on from OUT/expression_checkpoint.pt
"""

import argparse
import csv
import hashlib
import json
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from quantize_aware import ActivationQuantizer, ConvBlock, calibrate, parameters, set_mode

LEADER = "GGGACATCGTAGAGAGTCGTACTTA"
LIBRARIES = ("random16k", "human25k")
LONGEST = 100

CODE = np.full(256, 4, np.uint8)
for _i, _b in enumerate("ACGT"):
    CODE[ord(_b)] = CODE[ord(_b.lower())] = _i
ONE_HOT = torch.eye(5)[:, :4]


def encode(text):
    """Bases as 0..3, anything else as 4."""
    return CODE[np.frombuffer(text.encode(), np.uint8)]


def bucket(text, count):
    return int(hashlib.md5(text.encode()).hexdigest(), 16) % count


def one_hot(codes):
    """[B, L] codes to [B, 4, T] with T the next multiple of three, zero columns on the left."""
    x = ONE_HOT[torch.as_tensor(codes[:, -LONGEST:], dtype=torch.long)].transpose(1, 2)
    return F.pad(x, ((-x.shape[2]) % 3, 0)).contiguous()


class Expression(nn.Module):
    def __init__(self, channels, layers, width, hidden, drop):
        super().__init__()
        self.channels = channels
        self.blocks = nn.ModuleList([ConvBlock(4, channels, width)] +
                                    [ConvBlock(channels, channels, width) for _ in range(layers - 1)])
        self.dense = nn.Linear(6 * channels, hidden)
        self.out = nn.Linear(hidden, 1)
        self.gain = nn.Parameter(torch.ones(len(LIBRARIES)))
        self.offset = nn.Parameter(torch.zeros(len(LIBRARIES)))
        self.drop = drop

    def forward(self, x, library=0):
        x = self.blocks[0](x)
        for block in self.blocks[1:]:
            x = block(x, x)
        x = x.reshape(x.shape[0], self.channels, -1, 3)
        pooled = [x.amax(2), x.mean(2)]
        h = torch.cat([t.reshape(-1, 3 * self.channels) for t in pooled], 1)
        h = F.dropout(h, self.drop, self.training)
        h = F.dropout(F.relu(self.dense(h)), self.drop, self.training)
        return self.out(h)[:, 0] * self.gain[library] + self.offset[library]


class Exported(nn.Module):
    """One UTR, MRL in the random library's units; the standardisation lies in the last layer."""

    def __init__(self, model, mean, std):
        super().__init__()
        self.model = model
        self.out = nn.Linear(model.out.in_features, 1)
        gain, offset = model.gain.data[0] * std, model.offset.data[0] * std + mean
        self.out.weight.data = model.out.weight.data * gain
        self.out.bias.data = model.out.bias.data * gain + offset

    def forward(self, x):
        m = self.model
        x = m.blocks[0](x)
        for block in m.blocks[1:]:
            x = block(x, x)
        x = x.reshape(1, m.channels, -1, 3)
        h = torch.cat([x.amax(2).reshape(1, -1), x.mean(2).reshape(1, -1)], 1)
        return self.out(F.relu(m.dense(h)))


def aug_free(rng, rows, length):
    """Random bases without AUG, the last never A, so that none arises with what follows a G."""
    x = rng.integers(0, 4, (rows, length)).astype(np.uint8)
    for i in range(2, length):
        x[(x[:, i - 2] == 0) & (x[:, i - 1] == 3) & (x[:, i] == 2), i] = 1
    # the leader starts with GGG: an "AU" at the end would make an AUG
    if length > 1:
        x[(x[:, -2] == 0) & (x[:, -1] == 3), -1] = 1
    return x


def has_aug(codes):
    return ((codes[:, :-2] == 0) & (codes[:, 1:-1] == 3) & (codes[:, 2:] == 2)).any(1)


def vary(codes, rng):
    """A batch at another length (one length a batch, for its padding to be the true one), and label weights."""
    rows = len(codes)
    leader = np.tile(encode(LEADER), (rows, 1))
    weight = np.ones(rows, np.float32)
    kind = rng.random()
    if kind < 0.5:
        return codes, weight
    if kind < 0.7:
        return np.hstack([leader, codes]), weight
    if kind < 0.78:
        return np.hstack([leader[:, -rng.integers(1, 25):], codes]), weight
    if kind < 0.9:
        return np.hstack([aug_free(rng, rows, rng.integers(1, 26)), leader, codes]), weight * 0.5
    cut = rng.integers(1, 26)
    weight = np.where(has_aug(codes[:, :cut + 2]), 0, 0.5).astype(np.float32)
    return codes[:, cut:], weight


@torch.no_grad()
def predict(model, codes):
    model.eval()
    return torch.cat([model(one_hot(c)) for c in np.array_split(codes, max(1, len(codes) // 512))]).numpy()


def r2(a, b):
    return float(np.corrcoef(a, b)[0, 1] ** 2)


def read(path):
    rows = list(csv.DictReader(open(path)))
    return (np.array([encode(r["utr"]) for r in rows]), np.array([float(r["mrl"]) for r in rows], np.float32),
            np.array([bucket(r["utr"], 100) for r in rows]))


def length_checks(model, mean, std, codes, mrl):
    """What the network does at other lengths, on test sequences; MRL in the random library's units."""
    rng = np.random.default_rng(7)
    leader = np.tile(encode(LEADER), (len(codes), 1))
    result = {"r2_by_length": {}, "upstream_aug": {}}
    for cut in (10, 25):  # the cut bases take their AUGs with them, so only rows without any there count
        rows = ~has_aug(codes[:, :cut + 2])
        result["r2_by_length"][50 - cut] = round(r2(predict(model, codes[rows][:, cut:]), mrl[rows]), 4)
    result["r2_by_length"]["50_same_rows_as_25"] = round(r2(predict(model, codes[rows]), mrl[rows]), 4)
    result["r2_by_length"][75] = round(r2(predict(model, np.hstack([leader, codes])), mrl), 4)
    result["r2_by_length"][100] = round(r2(predict(model, np.hstack([aug_free(rng, len(codes), 25), leader, codes])), mrl), 4)
    # an AUG put into AUG-free random UTRs, in frame with the start codon or not
    for length in (25, 37, 50, 64, 75, 88, 100):
        base = aug_free(rng, 400, length)
        plain = predict(model, base) * std + mean
        row = {"without": float(plain.mean())}
        for frame, name in ((0, "in_frame"), (1, "frame_1"), (2, "frame_2")):
            x = base.copy()
            at = length - 15 - frame
            x[:, at - 3:at + 3] = encode("ACCATG")
            change = predict(model, x) * std + mean - plain
            row[name] = float(change.mean())
            row[name + "_lower"] = float((change < 0).mean())
        result["upstream_aug"][length] = {k: round(v, 3) for k, v in row.items()}
    return result


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--channels", type=int, default=64)
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--width", type=int, default=7)
    p.add_argument("--hidden", type=int, default=64)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--decay", type=float, default=1e-2)
    p.add_argument("--drop", type=float, default=0.2)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--tune", action="store_true", help="to choose settings: score on buckets 20..29 instead, untrained on")
    a = p.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    os.makedirs(a.out, exist_ok=True)
    begin = time.time()

    codes, label, library, test, scale = [], [], [], [], []
    for index, name in enumerate(LIBRARIES):
        x, y, where = read(os.path.join(a.data, "expression", f"mrl_{name}.csv"))
        train = where >= (30 if a.tune else 20)
        held = (where >= 20) & (where < 30) if a.tune else where < 20
        scale.append((float(y[train].mean()), float(y[train].std())))
        codes.append(x[train])
        label.append((y[train] - scale[-1][0]) / scale[-1][1])
        library.append(np.full(train.sum(), index))
        test.append((x[held], y[held]))
    codes, label, library = np.vstack(codes), np.hstack(label), np.hstack(library)

    model = Expression(a.channels, a.layers, a.width, a.hidden, a.drop)
    opt = torch.optim.AdamW(model.parameters(), a.lr, weight_decay=a.decay)
    per_epoch = len(codes) // a.batch
    steps, int8_epoch = a.epochs * per_epoch, int(0.8 * a.epochs)
    checkpoint = os.path.join(a.out, "expression_checkpoint.pt")
    first, spent = 0, 0.0
    if os.path.exists(checkpoint):
        saved = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(saved["model"])
        opt.load_state_dict(saved["opt"])
        rng.bit_generator.state = saved["rng"]
        torch.set_rng_state(saved["torch_rng"])
        first, spent = saved["epoch"], saved["spent"]
        set_mode(model, "int8" if first > int8_epoch else "float")
    log_path = os.path.join(a.out, "expression_log.csv")
    log = open(log_path, "a" if first else "w")
    if not first:
        print("step,minutes,loss,r2_random,r2_human", file=log)

    for epoch in range(first, a.epochs):
        if epoch == int8_epoch:
            calibrate(model, [one_hot(vary(codes[rng.choice(len(codes), 512)], rng)[0]) for _ in range(20)])
            set_mode(model, "int8")
        order = rng.permutation(len(codes))
        total = 0.0
        for i in range(per_epoch):
            step = epoch * per_epoch + i
            for g in opt.param_groups:
                g["lr"] = a.lr * min(1, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / steps))
            pick = order[i * a.batch:(i + 1) * a.batch]
            x, weight = vary(codes[pick], rng)
            weight = torch.as_tensor(weight)
            model.train()
            y = model(one_hot(x), torch.as_tensor(library[pick]))
            loss = (weight * F.smooth_l1_loss(y, torch.as_tensor(label[pick]), reduction="none")).sum() / a.batch
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            total += loss.item()
        figures = [r2(predict(model, x), y) for x, y in test]
        minutes = (spent + time.time() - begin) / 60
        row = f"{(epoch + 1) * per_epoch},{minutes:.2f},{total / per_epoch:.4f},{figures[0]:.4f},{figures[1]:.4f}"
        print(row, file=log, flush=True)
        print(row, flush=True)
        torch.save(dict(model=model.state_dict(), opt=opt.state_dict(), rng=rng.bit_generator.state,
                        torch_rng=torch.get_rng_state(), epoch=epoch + 1, spent=minutes * 60), checkpoint)

    int8 = [r2(predict(model, x), y) for x, y in test]
    set_mode(model, "float")
    plain = [r2(predict(model, x), y) for x, y in test]
    mean, std = scale[0]
    exported = Exported(model, mean, std).eval()
    path = os.path.join(a.out, "expression.onnx")
    torch.onnx.export(exported, (one_hot(test[0][0][:1]),), path, input_names=["sequence"], output_names=["mrl"],
                      opset_version=17, dynamo=False, dynamic_axes={"sequence": {2: "T"}})

    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for length in (25, 27, 49, 50, 73, 100):
        x = rng.integers(0, 4, (1, length)).astype(np.uint8)
        got = session.run(None, {"sequence": one_hot(x).numpy()})[0]
        assert got.shape == (1, 1)
        worst = max(worst, abs(float(got[0, 0]) - (float(predict(model, x)[0]) * std + mean)))
    assert worst < 1e-3, worst

    macs = sum(b.conv.weight.numel() for b in model.blocks)
    dense = model.dense.weight.numel() + model.out.weight.numel()
    y = predict(model, test[0][0]) * std + mean
    report = dict(
        task="expression", output="mean ribosome load, random library's units",
        r2_random_test={"float": round(plain[0], 4), "int8": round(int8[0], 4)},
        r2_human_test={"float": round(plain[1], 4), "int8": round(int8[1], 4)},
        rmse_random_test=round(float(np.sqrt(np.mean((y - test[0][1]) ** 2))), 4),
        test_rows={n: len(t[0]) for n, t in zip(LIBRARIES, test)},
        split="test: md5(sequence) mod 100 < 20, of each library",
        lengths=length_checks(model, mean, std, *test[0]),
        activation_limits=[round(float(b.quantizer.limit), 4) for b in model.blocks],
        onnx_max_difference=worst, input_length="multiple of 3, at most 102, zero columns on the left",
        parameters=parameters(model) + sum(t.numel() for m in (model.dense, model.out) for t in m.parameters()),
        macs_per_base=macs, macs_dense=dense, macs_longest=macs * 102 + dense,
        convolution_reach=(a.width // 2) * a.layers, channels=a.channels, layers=a.layers, width=a.width,
        epochs=a.epochs, seconds=round(spent + time.time() - begin))
    json.dump(report, open(os.path.join(a.out, "expression.json"), "w"), indent=1)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
