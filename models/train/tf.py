"""Trains the transcription-factor network: for each of five factors a logit at every base for "the
101 nt around this base are bound".

What: one trunk at full resolution: a convolution of width 15 that reads motifs, the maximum of
  three neighbours, two convolutions of dilation 3 that read arrangements of them. Then sliding
  windows: maximum and mean of each channel of the motifs, of the arrangements, and of those within
  12 nt; a hidden layer and five outputs, both of width 1. No output depends on anything beyond 50
  nt. Without the windows over motifs the network learns far more slowly.
  In training the network is computed for windows only, but at every third base behind the maximum
  of three, beginning at a random one of three (`Tf.windows`, `start`), and in bfloat16. The last
  16 % of the steps compute all bases, as a scan does, in int8 fake quantisation.
  The first convolution starts from the octamers that tell bound from unbound best, both strands.
Data: the five data sets `tf/gue_tf{0..4}` of GUE: 101 nt around ENCODE ChIP-seq peaks. Negatives
  are other genomic windows, as many as positives and alike in GC content (means within .002 in each
  set, though the sets differ: .48 in tf3, .62 to .67 in the others). They are not shuffled: no two
  rows but copies have equal counts of dinucleotides, CpG are rarer in negatives (.053 and .085 in
  tf1), and Alu and other repeats abound in them. So they are real sequence, and "a repeat" is a
  part of the answer. A negative of one factor is hardly ever a positive of another, so it serves
  the others as well, with a small weight that follows its GC content. In tf0 and tf1 four of nine
  positives overlap one of the other; a fifth of the rows of tf4 are copies of others.
Teachers: a regression on words of 4 and 6 letters with gaps, which knows other things than a
  network does (repeats above all); with `--start` the network of an earlier run, too, which this
  one goes on from: its layers may be smaller. The mean of the teachers' logits is mixed with the
  labels, and it alone labels windows re-joined from two of the same factor.
Splits: no row is trained on that is a row of a dev file, of whichever factor, its reverse
  complement, or overlaps one by 40 nt or more (all of the overlap equal: copies of a repeat do
  not count). Rows with md5(sequence) mod 20 = 0 are for calibration and choices, and what overlaps
  them is not trained on. Genes (thresholds, false calls): symbol bucket 10..19 thresholds, 0..9
  test, the first 1.5 Mb of each. chr9 is not looked at.
Both strands: rows are trained on in a random orientation. Figures are those of the mean of the
  logits of both.

    python tf.py --data DIR --out FIRST --soft .4
    python tf.py --data DIR --out OUT --start FIRST/tf.onnx --seed 2

about 6 minutes each on one core with bfloat16 instructions. It goes on from OUT/tf_checkpoint.pt
where there is one.
"""

import argparse
import copy
import csv
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from calibration import fit_knots
from promoter import mcc, one_hot_2d, peaks, read_genes, threshold_for
from quantize_aware import ActivationQuantizer, ConvBlock, Head, _BatchNorm, round_weight
from scoring import apply_knots, calibration_error, ranks
from sequences import bucket, encode
from training import (
    OnnxFile,
    descend,
    export_onnx,
    largest_difference,
    one_hot,
    replace,
    set_rate,
)

FACTORS = 5
WINDOW, CENTRE = 101, 50
OVERLAP = 40  # nt; rows that share so many are of one place
SEED = 8  # nt, of the octamers that the first convolution starts from
STEP = 3  # bases that one maximum covers, and the dilation behind it
NEAR = 12  # the inner windows reach so far
MERGE = 100  # calls closer than this are one call, as in `promoter.peaks`
# words with gaps, the same read backwards, for the regression
WORDS = [
    (0, 1, 2, 3),
    (0, 1, 2, 3, 4, 5),
    (0, 1, 2, 4, 5, 6),
    (0, 1, 2, 5, 6, 7),
    (0, 2, 3, 4, 5, 7),
    (0, 1, 3, 5, 7, 8),
    (0, 1, 2, 7, 8, 9),
    (0, 1, 3, 6, 8, 9),
    (0, 1, 4, 5, 8, 9),
    (0, 2, 3, 7, 8, 10),
    (0, 3, 4, 7, 8, 11),
    (0, 1, 2, 10, 11, 12),
]
REGRESSION = 0.5  # its share in the mean of the teachers' logits


def complement(codes):
    """Reverse complements of rows; 4 stays."""
    return np.array([3, 2, 1, 0, 4], np.uint8)[codes[:, ::-1]]


def sliding_maximum(x, width):
    reach = 1
    full = x.shape[-1] - width + 1
    while 2 * reach <= width:
        x, reach = torch.maximum(x[..., :-reach], x[..., reach:]), 2 * reach
    rest = width - reach
    return torch.maximum(x[..., :full], x[..., rest : rest + full])


def sliding_mean(x, width):
    sums = F.pad(x.double().cumsum(-1), (1, 0))
    return ((sums[..., width:] - sums[..., :-width]) / width).float()


class Block(ConvBlock):
    """Without padding; the dilation is that of the call. `pool` is computed before the batch norm,
    which is the same, and faster, while that has factors above 0."""

    def forward(self, x, skip=None, dilation=1, pool=None):
        if self.mode == "int8":
            weight, bias = self.folded()
            weight = round_weight(weight)
        else:
            weight, bias = self.conv.weight, None
        y = F.conv2d(x, weight.unsqueeze(2), bias, dilation=(1, dilation))
        if pool is not None:
            y = pool(y)
        if self.mode != "int8":
            y = self.bn(y)
        if skip is not None:
            y = y + skip
        return self.quantizer(y)


class Hidden(nn.Module):
    """ReLU of a dense layer on maxima and means, which are each standardised; in the runtime two
    convolutions of width 1, of which one adds the other's rows."""

    def __init__(self, maxima, means, outputs):
        super().__init__()
        self.norm = nn.ModuleList([_BatchNorm(n, affine=False) for n in (maxima, means)])
        self.conv = nn.ModuleList([nn.Conv1d(n, outputs, 1, bias=False) for n in (maxima, means)])
        self.bn = _BatchNorm(outputs)
        self.rounded = nn.ModuleList([ActivationQuantizer(), ActivationQuantizer()])
        self.quantizer, self.mode = ActivationQuantizer(), "float"

    def folded(self):
        """Weights of either part, and the bias."""
        factor = self.bn.weight * torch.rsqrt(self.bn.running_var + self.bn.eps)
        weights, bias = [], self.bn.bias - self.bn.running_mean * factor
        for norm, conv in zip(self.norm, self.conv):
            scale = torch.rsqrt(norm.running_var + norm.eps)
            weight = conv.weight[..., 0] * factor[:, None] * scale
            bias = bias - weight @ norm.running_mean
            weights.append(weight.unsqueeze(2))
        return weights, bias

    def forward(self, maxima, means):
        """[B, n, 1, 1] to [B, outputs, 1, 1]."""
        pooled = [q(x) for q, x in zip(self.rounded, (maxima, means))]
        if self.mode == "int8":
            weights, bias = self.folded()
            y = bias.view(1, -1, 1, 1)
            for x, weight in zip(pooled, weights):
                y = y + F.conv2d(x, round_weight(weight).unsqueeze(2))
        else:
            y = 0
            for x, norm, conv in zip(pooled, self.norm, self.conv):
                y = y + F.conv2d(norm(x), conv.weight.unsqueeze(2))
            y = self.bn(y)
        return self.quantizer(y)


class Tf(nn.Module):
    def __init__(self, motifs, channels, hidden, width, inner=(5, 5)):
        super().__init__()
        self.first = Block(4, motifs, width)
        self.inner = nn.ModuleList(
            Block(channels if i else motifs, channels, taps, STEP) for i, taps in enumerate(inner)
        )
        # the first layer's rows and twice the last one's: all and near
        self.hidden = Hidden(motifs + 2 * channels, motifs + 2 * channels, hidden)
        self.head = Head(hidden, FACTORS)
        self.reach = width // 2  # of the motifs
        self.reach_inner = self.reach + 1 + sum(STEP * (taps // 2) for taps in inner)

    def arrange(self, h, dilation):
        """The inner convolutions, all but the first with a residual."""
        h = self.inner[0](h, dilation=dilation)
        for block in self.inner[1:]:
            cut = dilation * (block.conv.kernel_size[0] // 2)
            h = block(h, h[..., cut:-cut], dilation)
        return h

    def windows(self, x, start=None):
        """[B, 4, 1, 101] to [B, 5]: what `forward` gives in the middle. `start`: at every third
        base from there only, which is the same but for maxima over fewer bases."""
        if start is None:
            near, dilation = NEAR, STEP
            first = self.first(x, pool=lambda h: F.max_pool2d(h, (1, STEP), 1))
        else:
            near, dilation = NEAR // STEP, 1
            first = self.first(x[..., start:], pool=lambda h: F.max_pool2d(h, (1, STEP)))
        h = self.arrange(first, dilation)
        middle = h.shape[-1] // 2
        parts = (first, h, h[..., middle - near : middle + near + 1])
        maxima = torch.cat([F.max_pool2d(p, (1, p.shape[3])) for p in parts], 1)
        means = torch.cat([F.avg_pool2d(p, (1, p.shape[3])) for p in parts], 1)
        return self.head(self.hidden(maxima, means))[:, :, 0, 0].float()

    def both(self, codes, start=None):
        """Mean of the logits of both orientations, [B, 5]."""
        sides = (self.windows(one_hot_2d(c), start) for c in (codes, complement(codes)))
        return sum(sides) / 2

    def scan(self, x):
        """[1, 4, 1, T + 100] to [5, T], in either mode."""
        first = self.first(x, pool=lambda h: F.max_pool2d(h, (1, STEP), 1))
        h = self.arrange(first, STEP)
        count = x.shape[-1] - WINDOW + 1
        edge = (h.shape[-1] - count) // 2 - NEAR
        parts = (first, h, h[..., edge:-edge])
        maxima = torch.cat([sliding_maximum(p, p.shape[-1] - count + 1) for p in parts], 1)
        means = torch.cat([sliding_mean(p, p.shape[-1] - count + 1) for p in parts], 1)
        return self.head(self.hidden(maxima, means))[0, :, 0]

    def forward(self, x):
        """[1, 4, T] to [1, 5, T], zeros beyond the ends: a scan. Float, and as it is exported."""

        def convolve(block, x, skip=None):
            weight, bias = block.folded()
            padding = block.dilation * (weight.shape[2] // 2)
            y = F.conv1d(x, weight, bias, padding=padding, dilation=block.dilation)
            return F.relu(y if skip is None else y + skip)

        h = F.max_pool1d(convolve(self.first, x), STEP, 1, STEP // 2)
        first, far_first = h, CENTRE - self.reach - STEP // 2
        h = convolve(self.inner[0], h)
        for block in self.inner[1:]:
            h = convolve(block, h, h)
        far = CENTRE - self.reach_inner
        parts = [(first, far_first), (h, far), (h, NEAR)]
        maxima = torch.cat([F.max_pool1d(p, 2 * n + 1, 1, n) for p, n in parts], 1)
        means = torch.cat([F.avg_pool1d(p, 2 * n + 1, 1, n) for p, n in parts], 1)
        (sharp, blunt), bias = self.hidden.folded()
        y = F.relu(F.conv1d(maxima, sharp, bias) + F.conv1d(means, blunt))
        return F.conv1d(y, self.head.conv.weight, self.head.conv.bias)

    def macs_per_base(self):
        return sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Conv1d))


def set_mode(model, mode):
    """As `quantize_aware.set_mode`, for these blocks."""
    for module in model.modules():
        if isinstance(module, (ConvBlock, Head, Hidden)):
            module.mode = "int8" if mode == "int8" else "float"
        elif isinstance(module, ActivationQuantizer):
            module.mode = mode


class Rows:
    """The rows of all factors, each sequence once: codes, labels [n, 5] with NaN where a factor
    has none. train, calibration: (codes, labels). dev: (codes, labels of its factor) by factor."""

    def __init__(self, data):
        def read(factor, part):
            with open(os.path.join(data, "tf", f"gue_tf{factor}_{part}.csv")) as file:
                return [(r["sequence"], int(r["label"])) for r in csv.DictReader(file)]

        turned = lambda s: s[::-1].translate(str.maketrans("ACGT", "TGCA"))
        lengths = range(OVERLAP, WINDOW + 1)
        # an overlap is an end of one row that is a beginning of the other
        ends = lambda s: {hash((0, s[-m:])) for m in lengths} | {hash((1, s[:m])) for m in lengths}
        touched = lambda s: (
            {hash((0, s[:m])) for m in lengths} | {hash((1, s[-m:])) for m in lengths}
        )
        dev = [read(k, "dev") for k in range(FACTORS)]
        held = set()
        for s in {s for rows in dev for s, _ in rows}:
            held |= ends(s) | ends(turned(s))
        label = {}
        for k in range(FACTORS):
            for s, y in read(k, "train"):
                s = min(s, turned(s))
                if s not in label:
                    leaks = touched(s) & held
                    label[s] = None if leaks else np.full(FACTORS, np.nan, np.float32)
                if label[s] is not None:
                    label[s][k] = np.fmax(label[s][k], y)
        label = {s: y for s, y in label.items() if y is not None}
        kept = {s for s in label if bucket(s, 20) == 0}
        held = set()
        for s in kept:
            held |= ends(s) | ends(turned(s))
        train = [s for s in label if s not in kept and not touched(s) & held]
        arrays = lambda texts: (
            np.array([encode(s) for s in texts]),
            np.array([label[s] for s in texts]),
        )
        self.train, self.calibration = arrays(train), arrays(sorted(kept))
        self.dev = [
            (np.array([encode(s) for s, _ in rows]), np.array([y for _, y in rows])) for rows in dev
        ]
        print("train", len(train), "calibration", len(kept), flush=True)

    def weigh(self, others):
        """Labels without NaN and their weights, [n, 5]: `others` is the weight of what is a
        negative of another factor. Each factor's positives and negatives weigh the same."""
        x, y = self.train
        gc = (((x == 1) | (x == 2)).mean(1) * 20).astype(int)
        known, bound = ~np.isnan(y), y == 1
        weight = known.astype(np.float32)
        free = (y == 0).any(1) & ~bound.any(1)
        pool = np.bincount(gc[free], minlength=21) + 1.0
        for k in range(FACTORS):
            own = np.bincount(gc[y[:, k] == 0], minlength=21) / (y[:, k] == 0).sum()
            extra = free & ~known[:, k]
            weight[extra, k] = others * np.minimum(own / (pool / pool.sum()), 3)[gc[extra]]
            # the root, lest the many rows of tf0 and tf1 decide what the trunk looks for
            for side in (bound[:, k], ~bound[:, k]):
                weight[side, k] *= np.sqrt(bound[:, k].sum()) / weight[side, k].sum()
        return bound.astype(np.float32), weight / weight.sum() * len(x)


def octamers(x):
    """Of each window the number of the octamer at each base, the same for both strands."""
    place = 4 ** np.arange(SEED)[::-1]
    seen = np.lib.stride_tricks.sliding_window_view(x, SEED, axis=1).astype(np.int64)
    return np.minimum(seen @ place, (3 - seen[..., ::-1]) @ place)


def telling(rows, count, against):
    """Octamers [count, 8] that tell bound from unbound, in turn from each factor, the last
    `against` of them of the unbound; none is nearly a shifted other."""
    x, y = rows.train
    number, scores = octamers(x), []
    number.sort(1)
    once = np.ones(number.shape, bool)
    once[:, 1:] = number[:, 1:] != number[:, :-1]
    for k in range(FACTORS):
        share = []
        for label in (1, 0):
            at = y[:, k] == label
            hits = np.bincount(number[at][once[at]], minlength=4**SEED)
            share.append(hits / at.sum())
        n = (y[:, k] == 1).sum()
        scores.append((share[0] - share[1]) / np.sqrt((share[0] + share[1] + 2 / n) / n))

    def alike(a, b):
        for d in range(-3, 4):
            u, v = (a[d:], b[: SEED - d]) if d >= 0 else (a[: SEED + d], b[-d:])
            if (u != v).sum() <= 1:
                return True
        return False

    chosen = []
    for sign, limit in ((-1, count - against), (1, count)):
        orders = [iter(np.argsort(sign * s, kind="stable")) for s in scores]
        while len(chosen) < limit:
            for order in orders:
                for value in order:
                    own = value // 4 ** np.arange(SEED)[::-1] % 4
                    if not any(alike(own, c) or alike(3 - own[::-1], c) for c in chosen):
                        chosen.append(own)
                        break
    return np.array(chosen[:count])


@torch.no_grad()
def plant(model, found):
    """The first convolution starts from these octamers and their reverse complements."""
    weight = model.first.conv.weight
    weight.mul_(0.5)
    start = (weight.shape[2] - SEED) // 2
    for c, own in zip(range(len(weight)), (o for f in found for o in (f, 3 - f[::-1]))):
        motif = torch.from_numpy(np.eye(4, dtype=np.float32)[own].T) - 0.25
        weight[c, :, start : start + SEED] += 0.5 * motif


@torch.no_grad()
def begin(model, path, x):
    """Goes on from the network in an exported file, which may have fewer channels and narrower
    convolutions: gives the same at first. Batch norms get the statistics of these windows."""
    import onnx
    import onnxruntime

    file = onnx.load(path)
    names = [node.input[1:] for node in file.graph.node if node.op_type == "Conv"]
    flat = [name for own in names for name in own]
    file.graph.output.extend(onnx.ValueInfoProto(name=name) for name in flat)
    session = onnxruntime.InferenceSession(file.SerializeToString())
    found = session.run(flat, {"sequence": np.zeros((1, 4, 1), np.float32)})
    held = {name: torch.from_numpy(value.copy()) for name, value in zip(flat, found)}
    nodes = [[held[name] for name in own] for own in names]
    *blocks, (sharp, bias), (blunt,), (last, last_bias) = nodes
    seen = one_hot_2d(x)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    for block, (weight, shift) in zip((model.first, *model.inner), blocks):
        outputs, inputs, taps = weight.shape
        at = (block.conv.kernel_size[0] - taps) // 2
        block.conv.weight[:outputs] = 0.0
        block.conv.weight[:outputs, :inputs, at : at + taps] = weight
        model.windows(seen)
        bn = block.bn
        bn.weight[:outputs] = torch.sqrt(bn.running_var + bn.eps)[:outputs]
        bn.bias[:outputs] = shift + bn.running_mean[:outputs]
    model.windows(seen)
    # the channels of `first`, and twice those of the last inner one
    first, before, now = len(blocks[0][0]), len(blocks[-1][0]), len(model.inner[-1].bn.weight)
    more = model.first.bn.weight.numel()
    places = torch.cat(
        [torch.arange(first), more + torch.arange(before), more + now + torch.arange(before)]
    )
    hidden, outputs = model.hidden, len(bias)
    for norm, conv, weight in zip(hidden.norm, hidden.conv, (sharp, blunt)):
        conv.weight[:outputs] = 0.0
        conv.weight[:outputs, places] = weight
        bias = bias + weight[..., 0] @ norm.running_mean[places]
        conv.weight *= torch.sqrt(norm.running_var + norm.eps)[:, None]
    model.windows(seen)
    hidden.bn.weight[:outputs] = torch.sqrt(hidden.bn.running_var + hidden.bn.eps)[:outputs]
    hidden.bn.bias[:outputs] = bias + hidden.bn.running_mean[:outputs]
    model.head.conv.weight.zero_()
    model.head.conv.weight[:, :outputs] = last
    model.head.conv.bias.copy_(last_bias)
    for norm in norms:
        norm.momentum = 0.1


def words(x):
    """The words of windows, the same for both strands, for the regression."""
    parts, offset = [], 0
    for places in WORDS:
        count = x.shape[1] - places[-1]
        letters = [x[:, at : at + count].astype(np.int64) for at in places]
        forth = sum(c << 2 * i for i, c in enumerate(letters))
        back = sum(3 - c << 2 * i for i, c in enumerate(letters[::-1]))
        parts.append(np.minimum(forth, back) + offset)
        offset += 4 ** len(places)
    return torch.from_numpy(np.concatenate(parts, 1))


def regression(x, label, weight, epochs=3, batch=1024):
    """Weights of words, [words, 5] and a bias: the first teacher."""
    torch.manual_seed(0)
    model = nn.EmbeddingBag(sum(4 ** len(w) for w in WORDS), FACTORS, mode="sum")
    nn.init.zeros_(model.weight)
    bias = nn.Parameter(torch.zeros(FACTORS))
    opt, rng = torch.optim.Adam([model.weight, bias]), np.random.default_rng(0)
    for epoch in range(epochs):
        opt.param_groups[0]["lr"] = 2.5e-3 * 0.5**epoch
        for at in np.array_split(rng.permutation(len(x)), len(x) // batch):
            loss = masked(model(words(x[at])) + bias, label[at], weight[at])
            loss = loss + 3e-5 * model.weight.square().sum()
            opt.zero_grad()
            loss.backward()
            opt.step()
    return {"weight": model.weight.detach(), "bias": bias.detach()}


def regress(state, x):
    with torch.no_grad():
        return torch.cat(
            [
                F.embedding_bag(words(c), state["weight"], mode="sum") + state["bias"]
                for c in np.array_split(x, max(1, len(x) // 4096))
            ]
        ).numpy()


def masked(logits, target, weight):
    """Mean over rows of the weighted losses of all factors."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * weight).sum() / len(logits)


@torch.no_grad()
def score(model, x, start=None, rough=True):
    """[n, 5], both orientations. With `start` at every third base; `rough`: in bfloat16."""
    model.eval()
    parts = np.array_split(x, max(1, len(x) // 256))
    with torch.autocast("cpu", torch.bfloat16, enabled=rough):
        return torch.cat([model.both(c, start) for c in parts]).numpy()


def area(y, s):
    """Under the ROC."""
    n = int(y.sum())
    return float((ranks(s)[y].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


def figures(scores_calibration, scores_dev, rows):
    """MCC at 0 and area under the ROC of each factor."""
    result = {}
    labels = rows.calibration[1]
    known = [~np.isnan(labels[:, k]) for k in range(FACTORS)]
    pairs = {
        "calibration": [(labels[m, k] == 1, scores_calibration[m, k]) for k, m in enumerate(known)],
        "dev": [(y == 1, s[:, k]) for k, ((_, y), s) in enumerate(zip(rows.dev, scores_dev))],
    }
    for part, own in pairs.items():
        result["mcc_" + part] = [round(mcc(y, s > 0), 4) for y, s in own]
        result["auc_" + part] = [round(area(y, s), 4) for y, s in own]
        result["mean_mcc_" + part] = round(float(np.mean([mcc(y, s > 0) for y, s in own])), 4)
        result["mean_auc_" + part] = round(float(np.mean([area(y, s) for y, s in own])), 4)
    return result


def evaluate(scorer, rows):
    return figures(scorer(rows.calibration[0]), [scorer(x) for x, _ in rows.dev], rows)


def turn_and_shift(x, most, rng):
    """A random orientation, moved by up to `most`; what is unknown then is no base."""
    x = np.where((rng.random(len(x)) < 0.5)[:, None], complement(x), x)
    at = np.arange(WINDOW) + rng.integers(-most, most + 1, len(x))[:, None]
    inside = (at >= 0) & (at < WINDOW)
    moved = np.take_along_axis(x, np.clip(at, 0, WINDOW - 1), 1)
    return np.where(inside, moved, 4).astype(np.uint8)


def rejoin(x, y, count, rng):
    """Windows of which a part is another's of the same factor, bound or not, and the factors."""
    made, whose = [], np.repeat(np.arange(FACTORS), count // FACTORS)
    for k in range(FACTORS):
        own = np.flatnonzero(~np.isnan(y[:, k]))
        a, b = (x[rng.choice(own, count // FACTORS)] for _ in range(2))
        a = np.where((rng.random(len(a)) < 0.5)[:, None], complement(a), a)
        cut = rng.integers(20, WINDOW - 20, len(a))[:, None]
        made.append(np.where(np.arange(WINDOW) < cut, a, b))
    return np.concatenate(made), whose


def teach(a, rows, label, weight, joined, whose, soft):
    """What the network that ships is trained on: windows, targets, weights. `soft`: the teachers'
    probabilities of rows and re-joined windows. They count a little, too, for the factors that
    nothing is known of."""
    known = torch.as_tensor(~np.isnan(rows.train[1]))
    mixed = (1 - a.soft) * label + a.soft * torch.as_tensor(soft[0])
    target = torch.where(known, mixed, torch.as_tensor(soft[0]))
    own = F.one_hot(torch.as_tensor(whose), FACTORS).float()
    return (
        np.concatenate([rows.train[0], joined]),
        torch.cat([target, torch.as_tensor(soft[1])]),
        torch.cat([torch.where(known, weight, torch.tensor(a.unknown)), own.clamp(min=a.unknown)]),
    )


def observe(model, x):
    """Sets the ranges of activations."""
    set_mode(model, "observe")
    for module in model.modules():
        if isinstance(module, ActivationQuantizer):
            module.limit.zero_()
    with torch.no_grad():
        model.eval()
        for part in np.array_split(x, max(1, len(x) // 256)):
            model.windows(one_hot_2d(part))


def train(a, model, rows, taught, state):
    """The network, which ends as the running mean of its weights. Computed at every third base and
    in bfloat16, in the end at all bases and under int8 rounding."""
    x, target, weight = taught
    rng = np.random.default_rng(a.seed)
    torch.manual_seed(a.seed)
    opt = torch.optim.AdamW(model.parameters(), a.lr, weight_decay=a.decay)
    mean = copy.deepcopy(model)
    int8_from = int((1 - a.rounded) * a.steps)
    first, total, began = 0, 0.0, time.process_time() - 60 * state["minutes"]
    if state["step"]:
        first = state["step"]
        model.load_state_dict(state["model"])
        mean.load_state_dict(state["mean"])
        opt.load_state_dict(state["opt"])
        rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        if first > int8_from:
            set_mode(model, "int8")
            set_mode(mean, "int8")
    log = open(os.path.join(a.out, "tf_log.csv"), "a" if first else "w")
    if not first:
        parts = [f"{f}_{p}" for p in ("calibration", "dev") for f in ("mcc", "auc")]
        print("step,cpu_minutes,loss," + ",".join(parts), file=log)
    for step in range(first, a.steps):
        set_rate(opt, a.lr, 100, step, a.steps)
        exact = step >= int8_from
        if step == int8_from:
            model.load_state_dict(mean.state_dict())
            observe(model, turn_and_shift(x[rng.permutation(len(x))[:2048]], a.shift, rng))
            set_mode(model, "int8")
            mean.load_state_dict(model.state_dict())
            set_mode(mean, "int8")
        model.train()
        at = rng.integers(0, len(x), a.batch // 2 if exact else a.batch)
        seen = one_hot_2d(turn_and_shift(x[at], a.shift, rng))
        with torch.autocast("cpu", torch.bfloat16, enabled=not exact):
            logits = model.windows(seen, None if exact else int(rng.integers(STEP)))
        loss = masked(logits, target[at], weight[at])
        descend(opt, model, loss)
        total += loss.item()
        with torch.no_grad():
            model.first.bn.weight.clamp_(min=0.01)
            for kept, own in zip(mean.state_dict().values(), model.state_dict().values()):
                if kept.is_floating_point():
                    kept.lerp_(own, 1 - min(0.995, (step + 1) / (step + 10)))
        if (step + 1) % a.every == 0 or step + 1 == a.steps:
            found = evaluate(lambda c: score(mean, c, None if exact else 1, not exact), rows)
            minutes = (time.process_time() - began) / 60
            names = [f"mean_{f}_{p}" for p in ("calibration", "dev") for f in ("mcc", "auc")]
            text = f"{step + 1},{minutes:.2f},{total / (step % a.every + 1):.4f},"
            text += ",".join(f"{found[n]:.4f}" for n in names)
            print(text, file=log, flush=True)
            print(text, found["mcc_calibration"], found["mcc_dev"], flush=True)
            total = 0.0
            state.update(
                step=step + 1,
                minutes=minutes,
                model=model.state_dict(),
                mean=mean.state_dict(),
                opt=opt.state_dict(),
                rng=rng.bit_generator.state,
                torch_rng=torch.get_rng_state(),
            )
            save(a, state)
    log.close()
    model.load_state_dict(mean.state_dict())
    return model.eval()


def save(a, state):
    replace(os.path.join(a.out, "tf_checkpoint.pt"), state)


@torch.no_grad()
def scan(model, codes, piece=8192):
    """Logits [5, T] of a whole sequence."""
    model.eval()
    codes = np.pad(codes, CENTRE, constant_values=4)
    out = []
    for at in range(0, len(codes) - 2 * CENTRE, piece):
        out.append(model.scan(one_hot_2d(codes[None, at : at + piece + 2 * CENTRE])).numpy())
    return np.concatenate(out, 1)


def tops(model, sequences, most):
    """By factor the scores of all peaks, falling, and the Mb looked at: `most` and what is left of
    the last gene."""
    found, bases = [[] for _ in range(FACTORS)], 0
    for codes in sequences:
        if bases > 1e6 * most:
            break
        for own, s in zip(found, scan(model, codes)):
            own.append(peaks(s, codes < 4)[0])
        bases += int((codes < 4).sum())
    return [np.sort(np.concatenate(own))[::-1] for own in found], bases / 1e6


def one_strand(model, rows):
    """Logits of either orientation of rows, one after the other."""
    with torch.no_grad():
        return torch.cat(
            [
                model.windows(one_hot_2d(c))
                for turned in (rows, complement(rows))
                for c in np.array_split(turned, max(1, len(rows) // 256))
            ]
        ).numpy()


def probability(knots, raw):
    return 1 / (1 + np.exp(-apply_knots(knots, raw)))


def finish(a, model, teachers, rows, genes, minutes):
    """Calibration, thresholds, figures, export."""
    set_mode(model, "int8")
    model.eval()
    labels = rows.calibration[1]
    single = one_strand(model, rows.calibration[0])
    ours, own_mb = tops(model, genes["calibration"], a.megabases)
    theirs, test_mb = tops(model, genes["test"], a.megabases)
    outputs = []
    dev_single = [one_strand(model, x)[:, k] for k, (x, _) in enumerate(rows.dev)]
    for k in range(FACTORS):
        y = np.tile(labels[:, k], 2)
        known = ~np.isnan(y)
        knots = fit_knots(single[known, k], y[known] == 1, count=5)
        # as if half of the rows were bound, as in the dev files
        shift = float(np.log((y == 0).sum() / (y == 1).sum()))
        knots = [[raw, round(value + shift, 4)] for raw, value in knots]
        y_dev = np.tile(rows.dev[k][1], 2) == 1
        curve = []
        for rate in sorted({1.0, 3.0, 10.0, 30.0, 100.0, a.rate}):
            raw = threshold_for(ours[k], own_mb, rate)
            curve.append(
                dict(
                    rate=rate,
                    raw_logit=round(raw, 4),
                    probability=float(probability(knots, raw)),
                    test_genes_calls_per_mb_strand=round(
                        float((theirs[k] > raw).sum() / test_mb), 2
                    ),
                    recall_dev_centre=round(float((dev_single[k][y_dev] > raw).mean()), 4),
                    false_dev_centre=round(float((dev_single[k][~y_dev] > raw).mean()), 4),
                )
            )
        (chosen,) = [c for c in curve if c["rate"] == a.rate]
        outputs.append(
            dict(
                name=f"tf{k}",
                threshold=chosen["probability"],
                threshold_raw_logit=chosen["raw_logit"],
                knots=knots,
                calls_test_genes_per_mb_strand=chosen["test_genes_calls_per_mb_strand"],
                calls_test_genes_per_mb_strand_at_half=round(
                    float((apply_knots(knots, theirs[k]) > 0).sum() / test_mb), 1
                ),
                recall_dev_at_threshold=chosen["recall_dev_centre"],
                calibration_dev=calibration_error(probability(knots, dev_single[k]), y_dev),
                curve=curve,
            )
        )
    result = {"teachers": teachers}
    for mode in ("float", "int8"):
        set_mode(model, mode)
        result[mode] = evaluate(lambda c: score(model, c, rough=False), rows)
    set_mode(model, "int8")
    result["int8_one_orientation"] = evaluate(lambda c: one_strand(model, c)[: len(c)], rows)
    worst = export(model, os.path.join(a.out, "tf.onnx"), genes["test"][0])
    count = lambda y: {"bound": int((y == 1).sum()), "not": int((y == 0).sum())}
    report = dict(
        task="tf",
        output="logit at a base, by factor: the 101 nt around it are bound; half of windows are",
        threshold_rule=(
            f"{a.rate} calls a megabase and strand on the interiors of the calibration genes, int8"
        ),
        outputs=outputs,
        merge_nt=MERGE,
        base_rate=0.5,
        window_calibration={
            "knots": [[-10.0, -10.0], [10.0, 10.0]],
            "meaning": "balanced windows, mean of both orientations, 0 is the decision",
        },
        figures=result,
        rows={
            "train": [count(rows.train[1][:, k]) for k in range(FACTORS)],
            "calibration": [count(labels[:, k]) for k in range(FACTORS)],
            "dev": [count(y) for _, y in rows.dev],
        },
        split=(
            "no row that is one of a dev file, its reverse complement, or overlaps one by 40 nt is"
            " trained on; md5(sequence) mod 20 == 0 and what overlaps it is calibration; genes:"
            " md5(symbol) mod 100 < 10 test, < 20 thresholds"
        ),
        megabases_both_strands={"calibration": round(own_mb, 2), "test": round(test_mb, 2)},
        onnx_max_difference=worst,
        shape=dict(
            motifs=a.motifs,
            channels=a.channels,
            hidden=a.hidden,
            width=a.width,
            inner=a.inner,
        ),
        parameters=sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv1d))
        + a.motifs
        + len(a.inner) * a.channels
        + a.hidden
        + FACTORS,
        macs_per_base=model.macs_per_base(),
        receptive_field={"left": CENTRE, "right": CENTRE},
        steps=a.steps,
        cpu_minutes=round(minutes, 1),
    )
    with open(os.path.join(a.out, "tf.json"), "w") as out:
        json.dump(report, out, indent=1)
    print(json.dumps(report, indent=1))


def export(model, path, sequence):
    """Writes the float network and compares it with PyTorch, in the middle with windows."""
    set_mode(model, "float")
    model.eval()
    with torch.no_grad():
        export_onnx(model, one_hot(sequence[None, :WINDOW]), path, ["logits"], True)
        file, worst = OnnxFile(path), 0.0
        for length in (1, WINDOW, 333, 5000):
            x = one_hot(sequence[None, :length])
            worst = max(worst, largest_difference(file(x)[0], model(x).numpy()))
        found = file(one_hot(sequence[None, :WINDOW]))[0][0, :, CENTRE]
        expected = model.windows(one_hot_2d(sequence[None, :WINDOW])).numpy()[0]
        worst = max(worst, largest_difference(found, expected))
    assert worst < 1e-3, worst
    return worst


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--motifs", type=int, default=96, help="channels of the first convolution")
    p.add_argument("--channels", type=int, default=48)
    p.add_argument("--hidden", type=int, default=48)
    p.add_argument("--width", type=int, default=15, help="of the first convolution")
    p.add_argument("--inner", type=int, nargs="+", default=[5, 5], help="widths of the others")
    p.add_argument("--start", help="tf.onnx of an earlier run: teaches, and is gone on from")
    p.add_argument("--steps", type=int, default=3200)
    p.add_argument("--rounded", type=float, default=0.16, help="share of steps in int8")
    p.add_argument("--every", type=int, default=400)
    p.add_argument("--batch", type=int, default=512, help="rows a step")
    p.add_argument("--pool", type=int, default=100000, help="re-joined windows")
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--decay", type=float, default=0.02)
    p.add_argument("--soft", type=float, default=0.7, help="share of the teachers in the targets")
    p.add_argument("--shift", type=int, default=4, help="most bases that a row is moved by")
    p.add_argument("--others", type=float, default=0.15, help="weight of others' negatives")
    p.add_argument("--unknown", type=float, default=0.03, help="weight of teachers alone")
    p.add_argument(
        "--megabases", type=float, default=1.5, help="of genes to scan, both strands together"
    )
    p.add_argument(
        "--rate",
        type=float,
        default=30.0,
        help="calls a megabase and strand at the default thresholds",
    )
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    rows = Rows(a.data)
    checkpoint = os.path.join(a.out, "tf_checkpoint.pt")
    state = dict(step=0, minutes=0.0)
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, weights_only=False)
    label, weight = map(torch.as_tensor, rows.weigh(a.others))
    if "regression" not in state:
        began = time.process_time()
        state["octamers"] = telling(rows, a.motifs // 2, 8)
        state["regression"] = regression(rows.train[0], label, weight)
        state["minutes"] = (time.process_time() - began) / 60
        save(a, state)
    scorers = {"regression": lambda x: regress(state["regression"], x)}
    torch.manual_seed(a.seed)
    model = Tf(a.motifs, a.channels, a.hidden, a.width, a.inner)
    plant(model, state["octamers"])
    if a.start:
        begin(model, a.start, rows.train[0][::113])
        earlier = copy.deepcopy(model).eval()
        scorers["start"] = lambda x: score(earlier, x)
    if "taught" not in state:
        began = time.process_time()
        joined, whose = rejoin(*rows.train, a.pool, np.random.default_rng(a.seed))
        shares = [REGRESSION, 1 - REGRESSION] if a.start else [1.0]
        own = {
            name: [scorer(x) for x in (rows.calibration[0], *(x for x, _ in rows.dev))]
            for name, scorer in scorers.items()
        }
        mean = lambda lists: [sum(s * z for s, z in zip(shares, at)) for at in zip(*lists)]
        own["mean"] = mean(list(own.values()))
        found = {name: figures(z[0], z[1:], rows) for name, z in own.items()}
        print(json.dumps(found), flush=True)
        sigmoid = lambda z: (1 / (1 + np.exp(-z))).astype(np.float32)
        soft = mean([[scorer(x) for x in (rows.train[0], joined)] for scorer in scorers.values()])
        state.update(taught=found, joined=joined, whose=whose, soft=[sigmoid(z) for z in soft])
        state["minutes"] += (time.process_time() - began) / 60
        save(a, state)
    print("MAC a base", model.macs_per_base(), flush=True)
    taught = teach(a, rows, label, weight, state["joined"], state["whose"], state["soft"])
    train(a, model, rows, taught, state)
    finish(a, model, state["taught"], rows, read_genes(a.data), state["minutes"])


if __name__ == "__main__":
    main()
