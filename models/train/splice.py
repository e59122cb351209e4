"""Trains the splice site model: for every base the logits of (acceptor, donor) in the sense orientation of the input.

What: a residual stack of dilated convolutions at full resolution, under 10,000 multiply-adds a base and strand, that is
  quantised to 8 bits by the runtime. Acceptor = an exon's first base, donor = an exon's last base.
Why so: no strides and no pooling, so that the model is translation equivariant base by base and the reverse strand
  of a read gets the same answer whatever the read's length; dilations, because context of several hundred bases is
  worth more than channels; fake quantisation in the last fifth of the training, so that rounding costs nothing.
Data (`--data`, the folder with splice/): whole chr1 genes with annotated sites and a 10,000-nt teacher's soft labels,
  and windows re-joined from pieces of those genes with sequencing errors, labelled by a 2,000-nt reference network.
  80 % of the batches are windows: without them the few hundred genes are memorised.
Split: by gene. Held out are the genes with md5(symbol) mod 100 < 10. A window is dropped when it contains sequence of a
  held-out gene: at least three 20-mers that occur in such a gene (either strand) and neither themselves nor within 60
  bases occur in a training gene. Repeats shared by both sides are what that second condition spares.
How: python splice.py --data DIR --out DIR
  Writes splice.onnx (float, logits), splice.json (figures, calibration, thresholds), splice.csv (log), splice.pt
  (checkpoint; run the same command again to resume). About 25 minutes on one core that multiplies bfloat16 natively
  (AVX-512 or AMX); --no-bfloat16 elsewhere, then about twice that.
"""

import argparse
import csv
import gzip
import hashlib
import json
import math
import os
import time

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from quantize_aware import ConvBlock, Head, calibrate, macs_per_base, parameters, set_mode

KINDS = ("acceptor", "donor")
K = 20  # k-mer length of the leakage filter

# Each layer: output channels, width, dilation. A skip is added wherever the channels do not change. Seven-fold widths
# with dilations that grow six-fold leave no gaps up to 686 bases away. The wide head is cheap, having two outputs, and was
# worth more than the same multiply-adds in the first layer; seven layers of width 5 learned no better and ran slower.
LAYERS = "16,7,1 16,7,1 16,7,6 16,7,36 16,7,180 16,7,2"


# ---------------------------------------------------------------------------------------------------------------- data

def held_out(symbol):
    return int(hashlib.md5(symbol.encode()).hexdigest(), 16) % 100 < 10


def encode(text):
    table = np.full(256, 4, np.uint8)
    for i, pair in enumerate((b"Aa", b"Cc", b"Gg", b"Tt")):
        table[list(pair)] = i
    return table[np.frombuffer(text, np.uint8)]


def reverse_complement(x):
    return np.where(x < 4, 3 - x, 4)[::-1].astype(np.uint8)


def load_genes(folder):
    """List of dicts: id, symbol, bases (uint8), hard and soft labels (uint8 [L, 2], 255 = certain)."""
    teacher = np.load(os.path.join(folder, "teacher_chr1.npz"))
    genes, name = {}, None
    with gzip.open(os.path.join(folder, "genes_chr1.fa.gz"), "rb") as lines:
        for line in lines:
            if line[:1] == b">":
                name, symbol = line[1:].decode().split()[:2]
                genes[name] = {"id": name, "symbol": symbol, "text": []}
            else:
                genes[name]["text"].append(line.strip())
    for name, gene in genes.items():
        gene["bases"] = encode(b"".join(gene.pop("text")))
        gene["soft"] = teacher[name]
        gene["hard"] = np.zeros((len(gene["bases"]), 2), np.uint8)
        gene["held_out"] = held_out(gene["symbol"])
    with open(os.path.join(folder, "sites_chr1.tsv")) as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            genes[row["gene_idx"]]["hard"][int(row["pos0"]), KINDS.index(row["kind"])] = 255
    return list(genes.values())


def kmers(bases):
    """2-bit codes of all K-mers of [..., L] bases without N."""
    n = bases.shape[-1] - K + 1
    value = np.zeros(bases.shape[:-1] + (n,), np.uint64)
    for i in range(K):
        value = (value << np.uint64(2)) | bases[..., i:i + n]
    return value


def contains(sorted_values, x):
    return sorted_values[np.searchsorted(sorted_values, x).clip(max=len(sorted_values) - 1)] == x


def unpack(packed):
    return np.stack([(packed >> (2 * j)) & 3 for j in range(4)], -1).reshape(len(packed), -1)


def windows_with_held_out_sequence(genes, packed):
    """Number of held-out-specific K-mers in each window (see the module's docstring)."""
    both = lambda x: np.concatenate([kmers(x & 3), kmers(reverse_complement(x) & 3)])
    training = np.unique(np.concatenate([both(g["bases"]) for g in genes if not g["held_out"]]))
    specific = []
    for gene in genes:
        if gene["held_out"]:
            forward = kmers(gene["bases"] & 3)
            shared = np.concatenate([[0], np.cumsum(contains(training, forward))])
            at, n = np.arange(len(forward)), len(forward)
            own = shared[np.minimum(at + 61, n)] == shared[np.maximum(at - 60, 0)]
            specific += [forward[own], kmers(reverse_complement(gene["bases"]) & 3)[::-1][own]]
    specific = np.unique(np.concatenate(specific))
    slot = lambda v: ((v * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(36)).astype(np.int64)
    bitmap = np.zeros(1 << 28, bool)  # spares most of the binary searches
    bitmap[slot(specific)] = True
    hits = np.zeros(len(packed), np.int64)
    for start in range(0, len(packed), 64):
        codes = kmers(unpack(packed[start:start + 64]))
        window, at = np.nonzero(bitmap[slot(codes)])
        found = contains(specific, codes[window, at])
        hits[start:start + 64] = np.bincount(window[found], minlength=len(codes))
    return hits


def load_windows(folder, genes, cache):
    """Bases [n, 10000], sparse labels sorted by window, and the mask of windows that may be trained on."""
    packed, where, value, count = [], [], [], 0
    for i in (1, 2):
        part = np.load(os.path.join(folder, f"augmented_{i}.npz"))
        packed.append(part["seq"])
        where.append(part["where"] + np.array([count, 0, 0], np.int32))
        value.append(part["value"])
        count += len(packed[-1])
    packed, where, value = np.concatenate(packed), np.concatenate(where), np.concatenate(value)
    if not os.path.exists(cache):
        np.save(cache, windows_with_held_out_sequence(genes, packed))
    hits = np.load(cache)
    order = np.argsort(where[:, 0], kind="stable")
    return unpack(packed), where[order], value[order], hits < 3


ONE_HOT = torch.eye(5, 4)  # the fifth row, N, is all zeros


def as_input(bases):
    """uint8 [B, T] -> [B, 4, 1, T], channels last in memory."""
    return ONE_HOT[torch.from_numpy(bases.astype(np.int64))].unsqueeze(1).permute(0, 3, 1, 2)


class Batches:
    """Random crops. No context beyond their ends: a read has none either."""

    def __init__(self, genes, windows, batch, crop, from_windows, antisense):
        self.batch, self.crop, self.from_windows, self.antisense = batch, crop, from_windows, antisense
        genes = [g for g in genes if not g["held_out"]]
        pad = np.full(crop, 4, np.uint8)  # genes shorter than a crop are padded; unknown bases are all zeros
        self.bases = [g["bases"] if len(g["bases"]) >= crop else np.concatenate([g["bases"], pad])[:crop] for g in genes]
        extend = lambda y: y if len(y) >= crop else np.concatenate([y, np.zeros((crop, 2), np.uint8)])[:crop]
        self.labels = [(extend(g["hard"]), extend(g["soft"])) for g in genes]
        lengths = np.array([len(b) for b in self.bases], float)
        self.weights = lengths / lengths.sum()
        self.windows, where, value, keep = windows
        self.chosen = np.flatnonzero(keep)
        self.start = np.searchsorted(where[:, 0], np.arange(len(self.windows) + 1))
        self.channel, self.at, self.value = where[:, 1], where[:, 2], value
        # Some windows are already antisense: they have no confident site and are not turned again.
        self.sense = np.zeros(len(self.windows), bool)
        self.sense[where[value >= 128, 0]] = True

    def next(self, rng):
        """Input [B, 4, 1, T] and target probabilities [B, T, 2]."""
        x = np.empty((self.batch, self.crop), np.uint8)
        y = np.zeros((self.batch, self.crop, 2), np.uint8)
        for i in range(self.batch):
            if rng.random() < self.from_windows:
                w = self.chosen[rng.integers(len(self.chosen))]
                a = rng.integers(self.windows.shape[1] - self.crop + 1)
                x[i] = self.windows[w, a:a + self.crop]
                rows = slice(self.start[w], self.start[w + 1])
                at = self.at[rows] - a
                inside = (at >= 0) & (at < self.crop)
                y[i, at[inside], self.channel[rows][inside]] = self.value[rows][inside]
                turn = self.sense[w]
            else:
                g = rng.choice(len(self.bases), p=self.weights)
                a = rng.integers(len(self.bases[g]) - self.crop + 1)
                x[i] = self.bases[g][a:a + self.crop]
                y[i] = self.labels[g][rng.integers(2)][a:a + self.crop]
                turn = True
            if turn and rng.random() < self.antisense:
                x[i], y[i] = reverse_complement(x[i]), 0
        return as_input(x), torch.from_numpy(y).float() / 255


# --------------------------------------------------------------------------------------------------------------- model

class SpliceNet(nn.Module):
    def __init__(self, layers=LAYERS, head=17):
        super().__init__()
        spec = [tuple(int(v) for v in layer.split(",")) for layer in layers.split()]
        self.layers, channels, reach = nn.ModuleList(), 4, head // 2
        for outputs, width, dilation in spec:
            self.layers.append(ConvBlock(channels, outputs, width, dilation))
            channels, reach = outputs, reach + dilation * (width // 2)
        self.head = Head(channels, 2, head)
        self.reach = reach  # bases on each side that can influence an output
        nn.init.constant_(self.head.conv.bias, -5.0)  # sites are rare: start near their frequency

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, x if layer.conv.in_channels == layer.conv.out_channels else None)
        return self.head(x)


class Whole(nn.Module):
    """The same network under the runtime's tensor names."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, sequence):
        return self.net(sequence)


# -------------------------------------------------------------------------------------------------------------- scores

@torch.no_grad()
def score_genes(model, sequences):
    """Float32 logits [sum of lengths, 2], one forward pass per whole sequence."""
    model.eval()
    out = [model(as_input(b[None]))[0, :, 0].T.numpy() for b in sequences]
    return np.concatenate(out)


def top_k(score, truth):
    k = int(truth.sum())
    best = np.argpartition(-score, k - 1)[:k]
    return float(truth[best].mean())


def precision_recall(score, truth):
    """Scores in falling order (candidates only: the 300,000 best), precision and recall there."""
    n = min(len(score), 300_000)
    best = np.argpartition(-score, n - 1)[:n]
    best = best[np.argsort(-score[best], kind="stable")]
    hits = np.cumsum(truth[best])
    return score[best], hits / np.arange(1, n + 1), hits / truth.sum()


def average_precision(score, truth):
    _, precision, recall = precision_recall(score, truth)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def figures(scores, truth):
    result = {}
    for c, kind in enumerate(KINDS):
        result[kind] = {"top_k": round(top_k(scores[:, c], truth[:, c]), 4),
                        "auprc": round(average_precision(scores[:, c], truth[:, c]), 4)}
    return result


def with_errors(bases, truth, rate, rng):
    """A noisy copy: `rate` errors a base, 80 % substitutions, 10 % insertions, 10 % deletions. Labels move along; a
    site whose base is deleted goes to the next base."""
    draw = rng.random(len(bases))
    substitute, insert, delete = draw < 0.8 * rate, (draw >= 0.8 * rate) & (draw < 0.9 * rate), (draw >= 0.9 * rate) & (draw < rate)
    x = bases.copy()
    x[substitute] = (x[substitute] + rng.integers(1, 4, substitute.sum())) & 3
    copies = 1 + insert.astype(int) - delete.astype(int)
    start = np.concatenate([[0], np.cumsum(copies)])
    out = np.repeat(x, copies)
    out[start[:-1][insert]] = rng.integers(0, 4, insert.sum())  # the inserted base comes before the original
    moved = np.zeros((len(out), 2), bool)
    for c in range(2):
        at = np.flatnonzero(truth[:, c])
        moved[np.minimum(start[at] + copies[at] - (copies[at] > 0), len(out) - 1), c] = True
    return out, moved


# --------------------------------------------------------------------------------------------------------- calibration

def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def fit_knots(logit, truth, lowest=-6.0, count=8):
    """Monotone piecewise-linear map raw -> calibrated logit: least log loss, slopes drawn towards 1.

    Only bases with a raw logit above `lowest` count: the map is a function of the logit, so leaving the rest out does
    not bias it, and below it the first slope is continued."""
    use = logit > lowest
    z, t = torch.from_numpy(logit[use].astype(np.float64)), torch.from_numpy(truth[use].astype(np.float64))
    top = float(np.quantile(logit[truth], 0.95))
    x = torch.linspace(lowest, top, count, dtype=torch.float64)
    raw = torch.full((count - 1,), math.log(math.e - 1), dtype=torch.float64, requires_grad=True)  # softplus -> 1
    first = torch.tensor(lowest, dtype=torch.float64, requires_grad=True)
    piece = torch.bucketize(z, x[1:-1])

    def knots_y():
        rise = (0.05 + 0.95 * F.softplus(raw)) * (x[1] - x[0])
        return torch.cat([first[None], first + rise.cumsum(0)])

    def loss():
        y = knots_y()
        mapped = y[piece] + (z - x[piece]) * (y[piece + 1] - y[piece]) / (x[1] - x[0])
        return F.binary_cross_entropy_with_logits(mapped, t, reduction="sum") + 4 * (F.softplus(raw) - 1).square().sum()

    optimizer = torch.optim.LBFGS([raw, first], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    return [[round(float(a), 4), round(float(b), 4)] for a, b in zip(x, knots_y().detach())]


def apply_knots(knots, logit):
    """Piecewise linear, continued with the slopes of the first and last pieces."""
    x, y = (np.asarray(v, float) for v in zip(*knots))
    out = np.interp(logit, x, y)
    low, high = (y[1] - y[0]) / (x[1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])
    out = np.where(logit < x[0], y[0] + low * (logit - x[0]), out)
    return np.where(logit > x[-1], y[-1] + high * (logit - x[-1]), out)


def calibration_error(probability, truth, bins=15):
    """Expected calibration error over candidates with P >= .05, bins of equal mass; and what a perfectly calibrated
    model would show with as few candidates (mean of 200 draws)."""
    use = probability >= 0.05
    p, t = probability[use], truth[use].astype(float)
    if len(p) == 0:
        return {"ece": None, "ece_if_perfect": None, "candidates": 0}
    groups = np.array_split(np.argsort(p), bins)
    error = lambda t: sum(len(g) * abs(p[g].mean() - t[g].mean()) for g in groups if len(g)) / len(p)
    rng = np.random.default_rng(0)
    chance = np.mean([error((rng.random(len(p)) < p).astype(float)) for _ in range(200)])
    return {"ece": round(float(error(t)), 4), "ece_if_perfect": round(float(chance), 4), "candidates": int(use.sum())}


def calibration(scores, truth, half):
    """Knots from all held-out genes, and the error of knots fitted on one half of the genes and used on the other."""
    result = {}
    for c, kind in enumerate(KINDS):
        z, t = scores[:, c], truth[:, c]
        crossed = np.empty(len(z))
        parts = {}
        for side in (0, 1):
            knots = fit_knots(z[half != side], t[half != side])
            crossed[half == side] = apply_knots(knots, z[half == side])
            parts[side] = calibration_error(sigmoid(crossed[half == side]), t[half == side])
        knots = fit_knots(z, t)
        calibrated = apply_knots(knots, z)
        level, precision, recall = precision_recall(calibrated, t)
        at = int(t.sum()) - 1
        result[kind] = {
            "knots": knots,
            "threshold": round(float(sigmoid(level[at])), 4),
            "precision": round(float(precision[at]), 4),
            "recall": round(float(recall[at]), 4),
            "raw": calibration_error(sigmoid(z), t),
            "fitted_on_one_half_scored_on_the_other": {
                "first_to_second": parts[1], "second_to_first": parts[0], "pooled": calibration_error(sigmoid(crossed), t)},
        }
    return result


# ------------------------------------------------------------------------------------------------------------ training

def train(args, genes):
    """Trains, or resumes, and returns (model in float mode, seconds used)."""
    torch.manual_seed(args.seed)
    model = SpliceNet(args.layers, args.head)
    print(f"{macs_per_base(model)} MAC a base, {parameters(model)} parameters, {model.reach} bases each side", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    path = os.path.join(args.out, "splice.pt")
    step, seconds, rows = 0, 0.0, []
    if os.path.exists(path):
        saved = torch.load(path, weights_only=True)
        assert saved["layers"] == args.layers, "the checkpoint is of another architecture: use another --out"
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step, seconds, rows = saved["step"], saved["seconds"], saved["rows"]
        print(f"resumed at step {step}", flush=True)
    if step >= args.steps:
        return model, seconds

    windows = load_windows(args.data, genes, os.path.join(args.out, "window_hits.npy"))
    print(f"{(~windows[3]).sum()} of {len(windows[3])} windows dropped: they contain held-out sequence", flush=True)
    batches = Batches(genes, windows, args.batch, args.crop, args.from_windows, args.antisense)
    held = [g for g in genes if g["held_out"]]
    truth = np.concatenate([g["hard"] for g in held]) > 0
    first_int8 = int(args.steps * (1 - args.int8_part))
    running = None
    while step < args.steps:
        if step == first_int8 or (step > first_int8 and model.head.mode == "float"):
            if step == first_int8:
                rng = np.random.default_rng([args.seed, 1 << 40])
                calibrate(model, [batches.next(rng)[0] for _ in range(20)])
            set_mode(model, "int8")
        start = time.process_time()
        model.train()
        rng = np.random.default_rng([args.seed, step])  # by step, so that a resumed run sees the same crops
        x, y = batches.next(rng)
        progress = step / args.steps
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * progress))
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
            logits = model(x)
        # 1000: a loss per kilobase, as nearly all bases are no site and the mean over bases is tiny.
        loss = 1000 * F.binary_cross_entropy_with_logits(logits[:, :, 0].float().transpose(1, 2), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 20.0)
        optimizer.step()
        step += 1
        seconds += time.process_time() - start
        running = loss.item() if running is None else 0.995 * running + 0.005 * loss.item()
        if step % args.every == 0 or step == args.steps:
            mode = model.head.mode
            scores = score_genes(model, [g["bases"] for g in held])
            f = figures(scores, truth)
            row = [step, round(seconds / 60, 2), mode, round(running, 4)]
            row += [f[kind][name] for kind in KINDS for name in ("top_k", "auprc")]
            rows.append(row)
            print(*row, flush=True)
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "layers": args.layers,
                        "step": step, "seconds": seconds, "rows": rows}, path + ".new")
            os.replace(path + ".new", path)
            with open(os.path.join(args.out, "splice.csv"), "w", newline="") as out:
                writer = csv.writer(out)
                writer.writerow(["step", "minutes", "mode", "loss_per_kb", "acceptor_top_k", "acceptor_auprc", "donor_top_k", "donor_auprc"])
                writer.writerows(rows)
    return set_mode(model, "float"), seconds


def export(model, path):
    model.eval()
    set_mode(model, "float")
    torch.onnx.export(Whole(model).eval(), torch.zeros(1, 4, 1000), path, dynamo=False, opset_version=17,
                      input_names=["sequence"], output_names=["logits"],
                      dynamic_axes={"sequence": {2: "T"}, "logits": {2: "T"}})


def check_export(model, path, gene):
    """Largest difference between the file (onnxruntime) and the model on a gene's first 50,000 bases."""
    import onnxruntime
    x = as_input(gene["bases"][None, :50_000])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    got = session.run(None, {"sequence": x[:, :, 0].contiguous().numpy()})[0]
    with torch.no_grad():
        return float(np.abs(got - model(x)[:, :, 0].numpy()).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder that holds splice/")
    parser.add_argument("--out", required=True)
    parser.add_argument("--layers", default=LAYERS, help="channels,width,dilation of each layer")
    parser.add_argument("--head", type=int, default=17, help="width of the last convolution")
    parser.add_argument("--steps", type=int, default=90_000)
    parser.add_argument("--every", type=int, default=2_000, help="steps between figures and checkpoints")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop", type=int, default=4096)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--from-windows", type=float, default=0.8)
    parser.add_argument("--antisense", type=float, default=0.15)
    parser.add_argument("--int8-part", type=float, default=0.2, help="last part of the steps, under fake quantisation")
    parser.add_argument("--no-bfloat16", dest="bfloat16", action="store_false")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.data = os.path.join(args.data, "splice")
    os.makedirs(args.out, exist_ok=True)
    torch.set_num_threads(args.threads)

    genes = load_genes(args.data)
    model, seconds = train(args, genes)
    held = [g for g in genes if g["held_out"]]
    sequences = [g["bases"] for g in held]
    truth = [g["hard"] > 0 for g in held]
    all_truth = np.concatenate(truth)
    path = os.path.join(args.out, "splice.onnx")
    export(model, path)
    if not all(layer.quantizer.limit > 0 for layer in model.layers):  # trained without fake quantisation
        training = [g for g in genes if not g["held_out"]][:20]
        calibrate(model, [as_input(g["bases"][None, :50_000]) for g in training])
    difference = check_export(model, path, held[0])
    rng = np.random.default_rng(args.seed)
    noisy = [with_errors(b, t, 0.05, rng) for b, t in zip(sequences, truth)]
    noisy_truth = np.concatenate([t for _, t in noisy])
    scored = {}
    for mode in ("float", "int8"):
        set_mode(model, mode)
        scores = score_genes(model, sequences)
        scored[mode] = figures(scores, all_truth)
        scored[mode + "_with_5_percent_errors"] = figures(score_genes(model, [b for b, _ in noisy]), noisy_truth)
    # Calibrated with the int8 forward, which is what runs. Halves: every other held-out gene.
    half = np.concatenate([np.full(len(b), i % 2) for i, b in enumerate(sequences)])
    fitted = calibration(scores, all_truth, half)
    set_mode(model, "float")
    result = {
        "outputs": list(KINDS),
        "figures": scored,
        "calibration": fitted,
        "calibration_note": "knots are [raw logit, calibrated logit], linear between and beyond them, fitted on all held-out genes "
                            "under simulated int8; errors are of knots fitted on one half of the genes, scored on the other",
        "split": "by gene; held out: md5(symbol) mod 100 < 10",
        "held_out_bases": len(all_truth),
        "held_out_sites": {kind: int(all_truth[:, c].sum()) for c, kind in enumerate(KINDS)},
        "held_out_genes": [[g["id"], g["symbol"]] for g in held],
        "layers": args.layers,
        "head_width": args.head,
        "parameters": parameters(model),
        "mac_per_base": macs_per_base(model),
        "receptive_field": {"left": model.reach, "right": model.reach},
        "activation_limits": [round(float(layer.quantizer.limit), 4) for layer in model.layers],
        "onnx_difference": difference,
        "steps": args.steps, "batch": args.batch, "crop": args.crop, "seed": args.seed,
        "seconds": round(seconds),
    }
    hits = os.path.join(args.out, "window_hits.npy")
    if os.path.exists(hits):
        hits = np.load(hits)
        result["windows"] = {"dropped_for_held_out_sequence": int((hits >= 3).sum()), "kept": int((hits < 3).sum())}
    with open(os.path.join(args.out, "splice.json"), "w") as out:
        json.dump(result, out, indent=1)
    print(json.dumps({k: result[k] for k in ("figures", "calibration")}, indent=1))


if __name__ == "__main__":
    main()
