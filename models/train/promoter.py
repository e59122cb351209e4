"""Trains the promoter network: a logit at every base for "a transcription start site (TSS) at this
base, on this strand".

What: full-resolution convolutions, no stride, no pooling, so that both strands are scanned base by
  base alike. Three short ones read motifs, one of width 15 sums them up, three of dilation 15 and
  30 combine such sums from 228 nt upstream to 48 nt downstream: as far as the 300-nt windows reach
  (-250..+49), so that the output at their TSS is what a scan of the genome gives there. The head
  has two outputs, exported as two networks: "promoter" (scans, and 70-nt core windows) and
  "promoter-300" (balanced 300-nt windows of TATA promoters, whose prior and negatives are others).
  In training the network is computed only where outputs are wanted, at every 15th base
  (`Promoter.lattice`): the dilated layers then cost next to nothing.
Data: GUE promoter windows. Their negatives are made in two ways, and both are made anew at every
  step, lest they be memorised:
  - non-TATA: a promoter whose 300-nt window is cut in 20 pieces of 15 nt, of which 12, never the
    last, are replaced by random bases (found by comparing the negatives with the promoters; 97 % of
    pairs show it exactly). Width and dilation of 15 follow from it: what tells these negatives is
    piece by piece whether it reads like promoter DNA. It says nothing about genomes;
  - TATA: genomic sequence with a TATA-like motif at index 2 of the core. More of them are taken
    from the chr1 genes: same octamer at the same place, from the antisense strand or 10 kb and more
    into the gene, where no GUE window lies.
  For scanning: positives are the promoters among the 300-nt windows whose core is trained on, in
  their true surroundings; negatives are genomic crops, from the genes of `splice/genes_chr1.fa.gz`
  beyond their first 1,000 nt, on both strands.
Teachers: wide networks of the same kind with dropout, trained first; their mean is mixed with the
  labels of the balanced windows.
Splits: no row that occurs in a core dev file or as the core of a row of
  `gue_prom_300_tata_dev.csv`, nor its reverse complement, is trained on, whichever file it stands
  in. Rows with md5(core) mod 20 = 0 are for calibration and choices.
  `gue_prom_300_{all,notata}_dev.csv` give true surroundings to promoters that are trained on
  anyway; they are no held-out data. Genes: symbol bucket 0..9 test, 10..19 calibration and
  threshold, the rest training. The chr9 megabase is never trained on.
Batch statistics are frozen after a twentieth of the training, because windows and genome differ in
  them. In the last fifth: int8 fake quantisation.

    python promoter.py --data DIR --out DIR    about 10 minutes on one core

It goes on from OUT/promoter_checkpoint.pt where there is one.
"""

import argparse
import copy
import csv
import gzip
import json
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from quantize_aware import (
    ConvBlock,
    Head,
    calibrate,
    macs_per_base,
    parameters,
    round_weight,
    set_mode,
)
from sequences import bucket, encode, read_sequences, reverse_complement
from training import (
    ONE_HOT,
    OnnxFile,
    descend,
    export_onnx,
    largest_difference,
    one_hot,
    replace,
    set_rate,
)

PIECE = 15  # nt, of the substituted negatives
# outputs, width, dilation, taps to the right; a residual is added where inputs and outputs are
# equal in number
FRONT = [(16, 11, 1, 5), (16, 7, 1, 3), (16, 7, 1, 3), (16, 15, 1, 7)]
TAIL = [(16, 5, PIECE, 2), (16, 5, PIECE, 0), (16, 5, 2 * PIECE, 0)]
TEACHER_FRONT = [(48, 11, 1, 5), (48, 7, 1, 3), (48, 7, 1, 3), (64, 15, 1, 7)]
TEACHER_TAIL = [(64, *rest) for _, *rest in TAIL]
TSS = 34
WINDOW = 70
TSS_300 = 250  # in the 300-nt windows, as their cores' places among the 70-nt windows show
WINDOW_300 = 300
CORE = TSS_300 - TSS  # where a core window begins in its 300-nt window
SCAN, LONG = 0, 1  # outputs
MOTIF = slice(CORE + 2, CORE + 10)  # the octamer that TATA negatives were chosen by
START_ZONE = 1000  # bases after a gene's start that are never negatives
FAR = 10_000  # beyond it mined TATA negatives may lie on the gene's own strand
MERGE = 100  # calls closer than this are one call


def one_hot_2d(codes):
    """[B, 4, 1, L], channels last: convolutions train twice as fast so on a CPU."""
    return ONE_HOT[torch.as_tensor(codes, dtype=torch.long)].transpose(1, 2).unsqueeze(2)


def complement_text(text):
    return text[::-1].translate(str.maketrans("ACGT", "TGCA"))


class Block(ConvBlock):
    """A block that sees further to one side than to the other."""

    def __init__(self, inputs, outputs, width, dilation, right):
        super().__init__(inputs, outputs, width, dilation)
        self.right = right * dilation
        self.left = (width - 1 - right) * dilation

    def forward(self, x, skip=None, step=1, first=None):
        """`step`: bases between positions of x. `first`: compute only this position and every
        PIECE-th after it."""
        left, right, stride = self.left // step, self.right // step, 1
        x = F.pad(x, (left, right))
        if first is not None:
            x, stride = x[..., first:], PIECE
        if self.mode == "int8":
            weight, bias = self.folded()
            weight = round_weight(weight)
        else:
            weight, bias = self.conv.weight, None
        dilation = self.dilation // step
        if x.dim() == 3:
            y = F.conv1d(x, weight, bias, stride=stride, dilation=dilation)
        else:
            y = F.conv2d(x, weight.unsqueeze(2), bias, stride=(1, stride), dilation=(1, dilation))
        if self.mode != "int8":
            y = self.bn(y)
        if skip is not None:
            y = y + skip
        return self.quantizer(y)


class Promoter(nn.Module):
    def __init__(self, front=FRONT, tail=TAIL, outputs=2, dropout=0.0):
        super().__init__()
        self.blocks, self.front, self.dropout = nn.ModuleList(), len(front), dropout
        inputs = 4
        for outputs_, width, dilation, right in [*front, *tail]:
            self.blocks.append(Block(inputs, outputs_, width, dilation, right))
            inputs = outputs_
        self.head = Head(inputs, outputs)

    def residual(self):
        """Around which blocks inputs are added: not the last of the front, so that it can be
        computed at every PIECE-th base only."""
        return [
            b.conv.in_channels == b.conv.out_channels and k != self.front - 1
            for k, b in enumerate(self.blocks)
        ]

    def forward(self, x):
        for block, same in zip(self.blocks, self.residual()):
            x = block(x, x if same else None)
        return self.head(x)

    def lattice(self, x, first):
        """[B, outputs, n] at bases first, first + PIECE, ... of [B, 4, 1, T]: the values of
        `forward` there, as long as `first` < PIECE, so that no base of the lattice is left out."""
        blocks = list(zip(self.blocks, self.residual()))
        for block, same in blocks[: self.front - 1]:
            x = block(x, x if same else None)
        x = self.blocks[self.front - 1](x, first=first)
        if self.training and self.dropout:
            x = F.dropout(x, self.dropout)
        for block, same in blocks[self.front :]:
            x = block(x, x if same else None, step=PIECE)
        if self.training and self.dropout:
            x = F.dropout(x, self.dropout)
        return self.head(x)[:, :, 0]

    def at(self, codes, base, output):
        return self.lattice(one_hot_2d(codes), base % PIECE)[:, output, base // PIECE].float()


def read_genes(data):
    """Interiors of the chr1 genes on both strands, by split."""
    split = {"train": [], "calibration": [], "test": []}
    for header, text in read_sequences(os.path.join(data, "splice", "genes_chr1.fa.gz")):
        b = bucket(header.split()[1], 100)
        codes = encode(text)[START_ZONE:]
        if len(codes) > 2 * START_ZONE:
            part = "test" if b < 10 else "calibration" if b < 20 else "train"
            split[part] += [codes, reverse_complement(codes)]
    return split


def read_chr9(data):
    """The megabase, (base, strand, coding) of the starts of genes and of transcripts, and the spans
    of genes."""
    folder = os.path.join(data, "genome", "human_GRCh38_chr9_1_1000000")
    ((_, text),) = read_sequences(folder + ".fa.gz")
    starts, spans = {"gene": [], "transcript": []}, []
    for line in gzip.open(folder + ".gtf.gz", "rt"):
        f = line.split("\t")
        if len(f) > 6 and f[2] in starts:
            first, last = int(f[3]) - 1, int(f[4]) - 1
            coding = f'{f[2]}_biotype "protein_coding"' in f[8]
            starts[f[2]].append((first if f[6] == "+" else last, f[6], coding))
            if f[2] == "gene":
                spans.append((first, last))
    return encode(text), starts, spans


class Windows:
    """The GUE windows by kind, without what is held out, and what more is made of them.

    train: core promoters and negatives ("+n", "-n" non-TATA, "+t", "-t" TATA), 300-nt TATA windows
    ("+3", "-3"), promoters in their surroundings ("+c"). calibration, dev: (codes, labels) by name.
    """

    def __init__(self, data):
        def read(name):
            with open(os.path.join(data, "promoter", f"gue_prom_{name}.csv")) as file:
                rows = [(r["sequence"], int(r["label"])) for r in csv.DictReader(file)]
            return [(s, y) for s, y in rows if set(s) <= set("ACGT")]

        def arrays(rows):
            return np.array([encode(s) for s, _ in rows]), np.array(
                [y for _, y in rows], np.float32
            )

        core = lambda text: text[CORE : CORE + WINDOW]
        dev = {part: read(f"core_{part}_dev") for part in ("all", "notata", "tata")}
        dev["300_tata"] = read("300_tata_dev")
        held = {s if len(s) == WINDOW else core(s) for rows in dev.values() for s, _ in rows}
        held |= {complement_text(s) for s in held}
        for_calibration = lambda text: bucket(text, 20) == 0
        train = {kind: [] for kind in ("+n", "-n", "+t", "-t", "+3", "-3", "+c")}
        calibration = {"core": [], "300_tata": [], "context": []}
        seen, tata = {}, {s for s, _ in read("core_tata_train")}
        for part in ("tata", "notata", "all"):
            for s, y in read(f"core_{part}_train"):
                if s not in held and s not in seen:
                    seen[s] = y
                    if for_calibration(s):
                        calibration["core"].append((s, y))
                    else:
                        train["-+"[y] + ("t" if s in tata else "n")].append((s, y))
        for s, y in dict(read("300_tata_train")).items():
            if core(s) not in held:
                (
                    calibration["300_tata"].append((s, y))
                    if for_calibration(core(s))
                    else train["-+"[y] + "3"].append((s, y))
                )
        context = {
            s
            for name in ("300_all_dev", "300_notata_dev", "300_tata_train")
            for s, y in read(name)
            if y
        }
        self.context_dev = []
        for s in sorted(context):
            if core(s) in held:
                self.context_dev.append((s, 1))
            elif seen.get(core(s)) == 1:
                (
                    calibration["context"].append((s, 1))
                    if for_calibration(core(s))
                    else train["+c"].append((s, 1))
                )
        self.train = {kind: arrays(rows)[0] for kind, rows in train.items()}
        self.calibration = {kind: arrays(rows) for kind, rows in calibration.items()}
        self.dev = {part: arrays(rows) for part, rows in dev.items()}
        self.context_dev = arrays(self.context_dev)[0]
        print(
            {k: len(v) for k, v in self.train.items()},
            {k: len(v[0]) for k, v in self.calibration.items()},
            {k: len(v[0]) for k, v in self.dev.items()},
            "context dev",
            len(self.context_dev),
            flush=True,
        )

    def mine(self, data):
        """Index of the octamers of sequence that TATA negatives may be taken from."""
        parts, gap = [], np.full(WINDOW_300, 4, np.uint8)
        for header, text in read_sequences(os.path.join(data, "splice", "genes_chr1.fa.gz")):
            if bucket(header.split()[1], 100) >= 20:
                codes = encode(text)
                parts += [codes[FAR:], gap, reverse_complement(codes), gap]
        self.genome = np.concatenate(parts)
        key = self.octamer(np.lib.stride_tricks.sliding_window_view(self.genome, 8))
        self.places = np.argsort(key, kind="stable").astype(np.int32)
        self.bounds = np.searchsorted(key[self.places], np.arange(4**8 + 1))

    @staticmethod
    def octamer(codes):
        key = np.zeros(len(codes), np.int64)
        for j in range(8):
            key = key * 4 + np.minimum(codes[:, j], 3)
        return np.where((codes == 4).any(1), 4**8, key)

    def mined(self, count, rng):
        """At most `count` 300-nt genomic windows with octamers of the TATA negatives in their
        place."""
        like = pick(self.train["-3"], 2 * count, rng)
        key = self.octamer(like[:, MOTIF])
        low, high = self.bounds[key], self.bounds[key + 1]
        at = (
            self.places[
                np.minimum(
                    low + (rng.random(len(key)) * (high - low)).astype(int), len(self.places) - 1
                )
            ]
            - MOTIF.start
        )
        at = at[(high > low) & (at >= 0) & (at + WINDOW_300 <= len(self.genome))]
        windows = self.genome[at[:, None].astype(int) + np.arange(WINDOW_300)]
        return windows[(windows < 4).all(1)][:count]

    def balanced(self, a, rng):
        """Half promoters, half negatives: core windows and labels, 300-nt windows and labels."""
        t, old, mined = (
            self.train,
            rng.binomial(a.notata, 1 - a.fresh),
            rng.binomial(a.tata, a.mined),
        )
        own = self.mined(mined, rng)[:, CORE : CORE + WINDOW]
        core = [
            pick(t["+n"], a.notata, rng),
            pick(t["+t"], a.tata, rng),
            substitute(pick(t["+n"], a.notata - old, rng), rng),
            pick(t["-n"], old, rng),
            own,
            pick(t["-t"], a.tata - len(own), rng),
        ]
        half = a.long // 2
        own = self.mined(rng.binomial(half, a.mined), rng)
        long = np.concatenate([pick(t["+3"], half, rng), own, pick(t["-3"], half - len(own), rng)])
        label = lambda n: np.repeat(np.float32([1, 0]), n)
        return (
            mutate(np.concatenate(core), a.errors, rng),
            label(a.notata + a.tata),
            mutate(cut(long, rng), a.errors, rng),
            label(half),
        )


def pick(windows, count, rng):
    return windows[rng.integers(0, len(windows), count)]


def substitute(cores, rng):
    """GUE's non-TATA negatives: 12 of the 20 pieces of the 300-nt window are random, never the
    last."""
    random = rng.random((len(cores), 19)).argsort(1) < 12
    piece = (CORE + np.arange(WINDOW)) // PIECE
    mask = np.pad(random, ((0, 0), (0, 1)))[:, piece]
    return np.where(mask, rng.integers(0, 4, cores.shape, dtype=np.uint8), cores)


def mutate(windows, most, rng):
    """Substitutions at a rate of its own for each window, up to `most`."""
    hit = (rng.random(windows.shape) < most * rng.random((len(windows), 1))) & (windows < 4)
    return np.where(hit, rng.integers(0, 4, windows.shape, dtype=np.uint8), windows)


def cut(windows, rng):
    """Takes upstream sequence off some 300-nt windows, as the end of a read does."""
    first = np.where(rng.random(len(windows)) < 0.3, rng.integers(0, CORE, len(windows)), 0)
    return np.where(np.arange(WINDOW_300) < first[:, None], 4, windows).astype(np.uint8)


@torch.no_grad()
def scan(model, codes, piece=16384, margin=256):
    """Logits of a whole sequence."""
    model.eval()
    out = np.empty(len(codes), np.float32)
    for a in range(0, len(codes), piece):
        b = min(len(codes), a + piece)
        lo, hi = max(0, a - margin), min(len(codes), b + margin)
        out[a:b] = model(one_hot(codes[None, lo:hi]))[0, 0, a - lo : b - lo].numpy()
    return out


def peaks(scores, keep=None, floor=-1e9):
    """Highest base of each cluster, greedily from the top, none within MERGE of a higher one.
    Scores and places.

    The number of these above a threshold is the number of calls at it, for every threshold at once.
    """
    s = np.where(keep, scores, -np.inf) if keep is not None else scores
    local = np.flatnonzero(
        (s > floor) & (s >= np.r_[-np.inf, s[:-1]]) & (s > np.r_[s[1:], -np.inf])
    )
    order = local[np.argsort(-s[local], kind="stable")]
    covered = np.zeros(len(s), bool)
    result = []
    for i in order:
        if not covered[i]:
            result.append(i)
            covered[max(0, i - MERGE) : i + MERGE + 1] = True
    return s[result], np.array(result, int)


def mcc(label, call):
    y = label > 0.5
    tp, tn, fp, fn = (
        float((y & call).sum()),
        float((~y & ~call).sum()),
        float((~y & call).sum()),
        float((y & ~call).sum()),
    )
    return (tp * tn - fp * fn) / math.sqrt(max(1.0, (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def call_peaks(model, sequences, floor):
    """Peaks of all sequences together, and their length in Mb."""
    tops, bases = [], 0
    for codes in sequences:
        tops.append(peaks(scan(model, codes), floor=floor)[0])
        bases += int((codes < 4).sum())
    return np.sort(np.concatenate(tops))[::-1], bases / 1e6


def threshold_for(tops, megabases, rate):
    """The score above which `rate` calls a megabase remain."""
    return float(tops[int(round(rate * megabases))])


def crops(genes, count, size, rng):
    lengths = np.array([len(g) for g in genes], float)
    out = np.empty((count, size), np.uint8)
    for k, g in enumerate(rng.choice(len(genes), count, p=lengths / lengths.sum())):
        at = rng.integers(0, max(1, len(genes[g]) - size))
        piece = genes[g][at : at + size]
        out[k] = 4
        out[k, : len(piece)] = piece
    return out


def fit_calibration(positive, bases, density, bins=12):
    """Knots (raw logit, calibrated logit) of the log odds that a base is a TSS, from scores of TSS
    and of all bases.

    Bins hold equal numbers of positives; pooled adjacent violators make it monotone.
    """
    edges = np.quantile(positive, np.linspace(0, 1, bins + 1)[1:-1])
    edges = np.r_[edges, np.quantile(positive, 0.98)]
    p = np.bincount(np.searchsorted(edges, positive), minlength=bins + 1) + 0.5
    n = np.bincount(np.searchsorted(edges, bases), minlength=bins + 1) + 0.5
    at = [
        float(np.median(positive[np.searchsorted(edges, positive) == k])) for k in range(bins + 1)
    ]
    blocks = []  # positives, negatives, bins
    for k in range(bins + 1):
        blocks.append([p[k], n[k], [k]])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            x = blocks.pop()
            blocks[-1] = [blocks[-1][0] + x[0], blocks[-1][1] + x[1], blocks[-1][2] + x[2]]
    knots = []
    for pos, neg, members in blocks:
        value = (
            math.log(pos / p.sum()) - math.log(neg / n.sum()) + math.log(density / (1 - density))
        )
        knots.append((float(np.mean([at[k] for k in members])), value))
    # Beyond the ends the slope is one, so that the map stays strictly increasing.
    knots = (
        [(knots[0][0] - 30, knots[0][1] - 30)] + knots + [(knots[-1][0] + 30, knots[-1][1] + 30)]
    )
    return [[round(x, 4), round(y, 4)] for x, y in knots]


def train(a, model, windows, genes, teachers, stage, steps, state):
    """One network. Teachers see the balanced windows only and end as the running mean of their
    weights; the network that ships scans genomic crops too, and learns its last fifth under int8
    rounding."""
    ships = teachers is not None
    rng = np.random.default_rng(10 * a.seed + stage)
    torch.manual_seed(10 * a.seed + stage)
    opt = torch.optim.AdamW(
        model.parameters(), a.lr, weight_decay=a.decay if ships else a.teacher_decay
    )
    mean = copy.deepcopy(model)
    freeze_from, int8_from = int(0.05 * steps), int(0.8 * steps)
    first, sums, began = 0, np.zeros(3), time.process_time() - 60 * state["minutes"]
    if state["step"]:
        first = state["step"]
        model.load_state_dict(state["model"])
        mean.load_state_dict(state["mean"])
        opt.load_state_dict(state["opt"])
        rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        if ships and first > int8_from:
            set_mode(model, "int8")
    fields = (
        "stage,step,cpu_minutes,loss_core,loss_300,loss_scan,mcc_core,mcc_300,"
        "recall_5_per_mb,threshold_5_per_mb"
    )
    log = open(os.path.join(a.out, "promoter_log.csv"), "a" if first or stage else "w")
    if not (first or stage):
        print(fields, file=log)
    for step in range(first, steps):
        set_rate(opt, a.lr, 100, step, steps)
        core, y, long, y3 = windows.balanced(a, rng)
        y, y3 = torch.as_tensor(y), torch.as_tensor(y3)
        if ships and step == int8_from:
            crop = one_hot(crops(genes["train"], 64, a.crop, rng))
            calibrate(
                model,
                [crop, one_hot(core), one_hot(long), one_hot(pick(windows.train["+c"], 64, rng))],
            )
            set_mode(model, "int8")
        model.train()
        if ships and step >= freeze_from:
            for block in model.blocks:
                block.bn.eval()
        # bfloat16 resolves the 128 steps of an int8 activation only just, so not under rounding
        with torch.autocast("cpu", torch.bfloat16, enabled=not (ships and step >= int8_from)):
            if teachers:
                with torch.no_grad():
                    soft = torch.sigmoid(
                        sum(t.at(core, TSS, SCAN) for t in teachers) / len(teachers)
                    )
                    soft3 = torch.sigmoid(
                        sum(t.at(long, TSS_300, LONG) for t in teachers) / len(teachers)
                    )
                y, y3 = y + a.soft * (soft - y), y3 + a.soft * (soft3 - y3)
            losses = [
                F.binary_cross_entropy_with_logits(model.at(core, TSS, SCAN), y),
                F.binary_cross_entropy_with_logits(model.at(long, TSS_300, LONG), y3),
            ]
            if ships:
                # Promoters end where crops do, alike in number: what is cut must not tell one from
                # the other.
                near, place = (
                    mutate(pick(windows.train["+c"], a.context, rng), a.errors, rng),
                    int(rng.integers(0, a.crop)),
                )
                near = near[:, max(0, TSS_300 - place) : TSS_300 + a.crop - place]
                crop = mutate(crops(genes["train"], a.crops, a.crop, rng), a.errors, rng)
                start = int(rng.integers(0, PIECE))
                far = model.lattice(one_hot_2d(crop), start)[:, SCAN].float()
                real = torch.as_tensor(crop[:, start::PIECE] < 4)
                # The weight of the genome grows, so that rare high scores weigh in the end and not
                # all is "no" at first.
                weight = a.genomic ** min(1, 2 * step / steps)
                losses.append(
                    F.softplus(-model.at(near, min(TSS_300, place), SCAN)).mean()
                    + weight * F.softplus(far[real]).mean()
                )
        loss = losses[0] + 0.3 * losses[1] + (a.scale * losses[2] if ships else 0)
        descend(opt, model, loss, 2.0)
        sums[: len(losses)] += [x.item() for x in losses]
        with torch.no_grad():
            for kept, own in zip(mean.state_dict().values(), model.state_dict().values()):
                if kept.is_floating_point():
                    kept.lerp_(own, 1 - min(0.998, (step + 1) / (step + 50)))
        if (step + 1) % a.every == 0 or step + 1 == steps:
            best = model if ships else mean
            (x, t), (x3, t3) = windows.calibration["core"], windows.calibration["300_tata"]
            with torch.no_grad():
                best.eval()
                row = [
                    mcc(t, best.at(x, TSS, SCAN).numpy() > 0),
                    mcc(t3, best.at(x3, TSS_300, LONG).numpy() > 0),
                ]
                if ships:
                    s = best.at(windows.calibration["context"][0], TSS_300, SCAN).numpy()
                    tops, mb = call_peaks(
                        best, genes["calibration"][:12], float(np.quantile(s, 0.3))
                    )
                    limit = threshold_for(tops, mb, 5)
                    row += [(s > limit).mean(), limit]
            n = (step % a.every) + 1
            minutes = (time.process_time() - began) / 60
            text = ",".join(
                [
                    str(stage),
                    str(step + 1),
                    f"{minutes:.2f}",
                    *(f"{v / n:.4f}" for v in sums),
                    *(f"{v:.4f}" for v in row),
                ]
            )
            text += "," * (fields.count(",") - text.count(","))
            print(text, file=log, flush=True)
            print(text, flush=True)
            sums[:] = 0
            state.update(
                stage=stage,
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
    if not ships:
        model.load_state_dict(mean.state_dict())
    return model.eval()


def save(a, state):
    replace(os.path.join(a.out, "promoter_checkpoint.pt"), state)


def receptive_field(blocks):
    return sum(b.left for b in blocks), sum(b.right for b in blocks)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--teachers", type=int, default=2)
    p.add_argument("--teacher-steps", type=int, default=1200)
    p.add_argument("--steps", type=int, default=2000)
    p.add_argument("--every", type=int, default=200)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--decay", type=float, default=0.02)
    p.add_argument("--teacher-decay", type=float, default=0.05)
    p.add_argument("--dropout", type=float, default=0.4, help="of the teachers")
    p.add_argument("--soft", type=float, default=0.7, help="share of the teachers in a label")
    p.add_argument(
        "--notata", type=int, default=224, help="non-TATA promoters a step, and as many negatives"
    )
    p.add_argument(
        "--tata", type=int, default=32, help="TATA promoters a step, and as many negatives"
    )
    p.add_argument("--long", type=int, default=40, help="300-nt windows a step")
    p.add_argument("--fresh", type=float, default=0.8, help="share of non-TATA negatives made anew")
    p.add_argument(
        "--mined", type=float, default=0.25, help="share of TATA negatives from the genes"
    )
    p.add_argument("--errors", type=float, default=0.1, help="most substitutions a base")
    p.add_argument("--context", type=int, default=40, help="promoters in their surroundings a step")
    p.add_argument("--crops", type=int, default=26, help="genomic crops a step")
    p.add_argument("--crop", type=int, default=640)
    p.add_argument(
        "--genomic",
        type=float,
        default=100.0,
        help="weight of genome, promoters in their surroundings = 1",
    )
    p.add_argument(
        "--scale", type=float, default=0.15, help="weight of the loss of scanning, core windows = 1"
    )
    p.add_argument(
        "--rate",
        type=float,
        default=1.0,
        help="calls a megabase and strand at the default threshold",
    )
    p.add_argument(
        "--density",
        type=float,
        default=1e-5,
        help="TSS a base and strand that probabilities are calibrated for",
    )
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    windows = Windows(a.data)
    windows.mine(a.data)
    genes = read_genes(a.data)
    print("genes Mb:", {k: round(sum(map(len, v)) / 1e6, 2) for k, v in genes.items()}, flush=True)

    checkpoint = os.path.join(a.out, "promoter_checkpoint.pt")
    state = dict(stage=0, step=0, minutes=0.0, done=[])
    if os.path.exists(checkpoint):
        state = torch.load(checkpoint, weights_only=False)
    teachers = []
    for k in range(a.teachers):
        torch.manual_seed(100 * a.seed + k)
        teacher = Promoter(TEACHER_FRONT, TEACHER_TAIL, dropout=a.dropout)
        if k < len(state["done"]):
            teacher.load_state_dict(state["done"][k])
        else:
            train(a, teacher, windows, genes, None, k, a.teacher_steps, state)
            state["done"].append(teacher.state_dict())
            state.update(step=0)
            save(a, state)
        teachers.append(teacher.eval())
    torch.manual_seed(a.seed)
    model = Promoter()
    print("MAC a base", macs_per_base(model), "reach", receptive_field(model.blocks), flush=True)
    train(a, model, windows, genes, teachers, a.teachers, a.steps, state)
    finish(a, model, windows, genes, teachers, state["minutes"])


class Exported(nn.Module):
    """The network with one of its outputs, its paddings the same on both sides as the exporter
    wants them."""

    def __init__(self, model, output):
        super().__init__()
        self.model, self.output = model, output

    def forward(self, x):
        for block, same in zip(self.model.blocks, self.model.residual()):
            y = block.bn(
                F.conv1d(
                    x,
                    block.conv.weight,
                    padding=(block.left + block.right) // 2,
                    dilation=block.dilation,
                )
            )
            x = F.relu(y + x if same else y)
        conv = self.model.head.conv
        return F.conv1d(
            x, conv.weight[self.output : self.output + 1], conv.bias[self.output : self.output + 1]
        )


def export(model, output, path, sequence):
    """Writes the float network with its true paddings, and compares it with PyTorch. (A layer
    `Pad`, which the exporter would write for them, is more than the runtime needs.)"""
    import onnx

    set_mode(model, "float")
    export_onnx(
        Exported(model, output).eval(), one_hot(sequence[None, :WINDOW]), path, ["logits"], True
    )
    net = onnx.load(path)
    convolutions = [n for n in net.graph.node if n.op_type == "Conv"]
    assert len(convolutions) == len(model.blocks) + 1
    for node, block in zip(convolutions, model.blocks):
        (pads,) = [x for x in node.attribute if x.name == "pads"]
        pads.ints[:] = [block.left, block.right]
    onnx.checker.check_model(net)
    onnx.save(net, path)
    file, worst = OnnxFile(path), 0.0
    for length in (1, WINDOW, 333, 5000):
        x = one_hot(sequence[None, :length])
        with torch.no_grad():
            expected = model(x)[:, output : output + 1].numpy()
        worst = max(worst, largest_difference(file(x)[0], expected))
    assert worst < 1e-3, worst
    return worst


def recall(model, codes, threshold, reach):
    """Share of the 300-nt windows with a score above the threshold near the TSS."""
    model.eval()
    with torch.no_grad():
        s = torch.cat([model(one_hot(c))[:, SCAN] for c in np.array_split(codes, 16)]).numpy()
    return round(float((s[:, TSS_300 - reach : TSS_300 + reach + 1].max(1) > threshold).mean()), 4)


def chr9_figures(chr9, scores, threshold):
    """False calls by what counts as none, and annotated starts with a call near them. Scores: of
    both strands, forward."""
    codes, starts, spans = chr9
    masks = {
        f"beyond_1kb_of_{kind}_starts": [
            (at - START_ZONE, at + START_ZONE) for at, _, _ in starts[kind]
        ]
        for kind in starts
    }
    masks["outside_genes_and_1kb"] = [(a - START_ZONE, b + START_ZONE) for a, b in spans]
    calls, bases = dict.fromkeys(masks, 0), dict.fromkeys(masks, 0)
    hits = {
        kind: {50: 0, 500: 0} for kind in ("gene", "coding_gene", "transcript", "coding_transcript")
    }
    totals = dict.fromkeys(hits, 0)
    for strand in "+-":
        s = scores[strand]
        for name, zones in masks.items():
            keep = codes < 4
            for a, b in zones:
                keep[max(0, a) : b + 1] = False
            calls[name] += len(peaks(s, keep, threshold)[0])
            bases[name] += int(keep.sum())
        for kind in starts:
            for at, coding in sorted(
                {(at, coding) for at, sign, coding in starts[kind] if sign == strand}
            ):
                for name in [kind] + ["coding_" + kind] * coding:
                    totals[name] += 1
                    for reach in (50, 500):
                        hits[name][reach] += int(
                            s[max(0, at - reach) : at + reach + 1].max() > threshold
                        )
    return dict(
        calls_per_mb_strand={k: round(calls[k] / bases[k] * 1e6, 2) for k in masks},
        megabases_of_strand={k: round(bases[k] / 1e6, 2) for k in masks},
        starts={
            k: dict(annotated=totals[k], within_50=hits[k][50], within_500=hits[k][500])
            for k in totals
        },
    )


def finish(a, model, windows, genes, teachers, minutes):
    """Calibration, threshold, figures, export."""
    set_mode(model, "int8")
    model.eval()
    with torch.no_grad():
        context = model.at(windows.calibration["context"][0], TSS_300, SCAN).numpy()
    scores = np.concatenate([scan(model, g) for g in genes["calibration"]])
    tops, mb = call_peaks(model, genes["calibration"], -1e9)
    raw = threshold_for(tops, mb, a.rate)
    knots = fit_calibration(context, scores, a.density)
    chr9 = read_chr9(a.data)
    both = lambda: {"+": scan(model, chr9[0]), "-": scan(model, reverse_complement(chr9[0]))[::-1]}
    chr9_scores, curve = both(), []
    for rate in (1, 2, 3, 5, 10, 20, 50, 100):
        t = threshold_for(tops, mb, rate)
        found = chr9_figures(chr9, chr9_scores, t)
        curve.append(
            dict(
                rate=rate,
                raw_logit=round(t, 3),
                recall_true_context_within_50=recall(model, windows.context_dev, t, 50),
                chr9_outside_genes=found["calls_per_mb_strand"]["outside_genes_and_1kb"],
                chr9_coding_transcript_starts=found["starts"]["coding_transcript"],
            )
        )

    def mcc_dev(score):
        return {
            part: round(
                mcc(y, score(x, *((TSS_300, LONG) if part == "300_tata" else (TSS, SCAN))) > 0), 4
            )
            for part, (x, y) in windows.dev.items()
        }

    @torch.no_grad()
    def mean_of_teachers(x, base, output):
        return sum(
            np.concatenate([t.at(c, base, output).numpy() for c in np.array_split(x, 8)])
            for t in teachers
        )

    figures = {"teachers": {"mcc_dev": mcc_dev(mean_of_teachers)}}
    for mode in ("float", "int8"):
        set_mode(model, mode)
        model.eval()
        with torch.no_grad():
            f = figures[mode] = {
                "mcc_dev": mcc_dev(lambda x, base, output: model.at(x, base, output).numpy())
            }
        for reach in (0, 10, 50):
            f[f"recall_true_context_within_{reach}"] = recall(
                model, windows.context_dev, raw, reach
            )
        f["genes_calls_per_mb_strand"] = {}
        for part in ("calibration", "test"):
            own, megabases = call_peaks(model, genes[part], raw)
            f["genes_calls_per_mb_strand"][part] = round(len(own) / megabases, 2)
        f["chr9"] = chr9_figures(chr9, chr9_scores if mode == "int8" else both(), raw)

    sequence = genes["test"][0]
    worst = [
        export(model, SCAN, os.path.join(a.out, "promoter.onnx"), sequence),
        export(model, LONG, os.path.join(a.out, "promoter-300.onnx"), sequence),
    ]
    left, right = receptive_field(model.blocks)
    middle = [[-10.0, -10.0], [10.0, 10.0]]  # trained on as many promoters as negatives
    report = dict(
        task="promoter",
        output="logit at a base: a TSS at this base, on this strand",
        threshold=float(1 / (1 + np.exp(-np.interp(raw, *zip(*knots))))),
        threshold_raw_logit=round(raw, 4),
        threshold_rule=(
            f"{a.rate} calls a megabase and strand on the interiors of the calibration genes, int8"
        ),
        calibration={
            "knots": knots,
            "meaning": (
                "raw logit -> logit of the probability that the base is a TSS, in sequence with "
                f"one TSS per {round(1 / a.density)} bases of a strand"
            ),
        },
        window_calibration={
            "knots": middle,
            "meaning": "balanced windows, 0 is the decision: nothing fitted",
        },
        curve_calibration=curve,
        merge_nt=MERGE,
        figures=figures,
        rows={
            "train": {k: len(v) for k, v in windows.train.items()},
            "dev": {k: len(y) for k, (_, y) in windows.dev.items()},
            "calibration": {k: len(y) for k, (_, y) in windows.calibration.items()},
            "true_context_dev": len(windows.context_dev),
        },
        split=(
            "windows: no row of a core dev file or core of gue_prom_300_tata_dev, nor its reverse"
            " complement, is trained on; md5(core) mod 20 == 0 calibration; 300_all_dev and"
            " 300_notata_dev give surroundings to trained cores; genes: md5(symbol) mod 100 < 10"
            " test, < 20 calibration; both strands, without the first 1,000 nt; chr9 never"
            " trained on"
        ),
        megabases_both_strands={k: round(sum(map(len, v)) / 1e6, 2) for k, v in genes.items()},
        activation_limits=[round(float(b.quantizer.limit), 4) for b in model.blocks],
        onnx_max_difference=worst,
        layers=[list(x) for x in [*FRONT, *TAIL]],
        parameters=parameters(model) - model.head.conv.in_channels - 1,
        macs_per_base=macs_per_base(model) - model.head.conv.in_channels,
        receptive_field={"left": left, "right": right},
        steps=a.steps,
        cpu_minutes=round(minutes, 1),
    )
    with open(os.path.join(a.out, "promoter.json"), "w") as out:
        json.dump(report, out, indent=1)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
