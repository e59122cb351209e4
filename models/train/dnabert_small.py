"""Trains DNABERT-small: the architecture of DNABERT (Ji et al. 2021) with little more than 1 % of
its parameters, on what one core does in a quarter of an hour, so that three language models ship.

What: a post-norm BERT over overlapping k-mers, 3 layers of 128 (4 heads of 32), feed-forward 512,
  512 learned positions, erf GELU, layer norms with an epsilon of 1e-12, a tanh pooler on [CLS].
  Vocabulary and names are DNABERT's, so `models/convert/dnabert.py` converts the folders that this
  writes. 4 layers of 256 would cost five times the arithmetic of a step. First masked k-mers, then
  three networks from there: five transcription factors (five logits), core promoter (two labels),
  splice site in the middle of 400 nt (three labels). Shipped with k = 6.
Pre-training: masks of k neighbours around centres (`MASK_LIST`), 15 % of the tokens in all but for
  overlaps; of them 80 % [MASK], 10 % another k-mer, 10 % as they were. Windows of 100 to 400 nt of
  the chr1 genes with symbol bucket 20 and above, and of the chr9 megabase, both strands. No labels
  are used. Embeddings start as sums of their letters and positions as waves (`Bert.plant`).
Fine-tuning data and splits:
  tf        as `tf.py` (`Rows`): no row of a dev file, nor what overlaps one by 40 nt; calibration
            on md5(sequence) mod 20 = 0. Random orientation; figures are those of the mean of the
            logits of both
  promoter  as `promoter.py` (`Windows`): no row of a dev file nor its reverse complement;
            calibration md5(core) mod 20 = 0. Negatives are made anew, as there
  splice    windows of 400 nt of the chr1 genes: an acceptor's first exon base at 200, a donor's
            last one at 199, as in GUE's. Of the rest, decoys have AG before 200 or GT from 200 on
            and are the best of three by a position weight matrix; others lie anywhere. The shares
            of classes and decoys are those of GUE's windows. Gene bucket 20 and above training,
            10 to 19 calibration. No training window shares a 40-mer, of either strand, with a
            window of the dev file, which is the test. At first the middle 80 nt only, at their
            positions in the window: with whole windows nothing was learned in as many minutes
Dev files are measured once, at the end. The table (`--table`) compares k = 3 to 6, with and without
pre-training (of equal steps), after equal and short fine-tuning. Its splice rows are of every third
dev window, its tf rows of one orientation.

    python dnabert_small.py --data DIR --out OUT                       trains
    python dnabert_small.py --data DIR --out OUT --pack strandline     packs and measures
    python dnabert_small.py --data DIR --out OUT --table               the table

about 15, 5 and 30 minutes on one core (a last `--pack` adds the table to the report). Finished
parts are kept in OUT, and a part that was interrupted goes on from its last checkpoint.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
import tomllib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import tf
from calibration import fit_knots
from evaluate import window_figures
from manifest import write_toml
from packed import Packed
from promoter import Windows, mcc, read_chr9
from scoring import apply_knots, correlation, sigmoid
from sequences import bucket, encode, letters, read_sequences, write_fasta
from splice_data import K as HALF
from splice_data import KINDS, contains, kmers
from training import Average, descend, keep, replace, resume, set_rate

SPECIAL, UNKNOWN, CLS, SEP, MASK = 5, 1, 2, 3, 4
DIGIT = np.array([0, 2, 3, 1, 0])  # A C G T in the vocabulary's order A T C G
POSITIONS = 512
MASK_LIST = {3: (-1, 0, 1), 4: (-1, 0, 1, 2), 5: (-2, -1, 0, 1, 2), 6: (-2, -1, 0, 1, 2, 3)}
MASKED = 0.15  # of the tokens
LENGTHS = (100, 130, 170, 220, 300, 400)  # nt, in pre-training; few, as each is compiled anew
TOKENS = 6400  # a step
HORIZON = 1800  # steps of pre-training at most
EVERY = 50  # steps from one checkpoint to the next
SHAPE = dict(layers=3, width=128, heads=4, hidden=512)
ACCEPTOR, DONOR = 200, 199  # where a site lies in its window of 400 nt
SPLICE = 400
MIDDLE = 80  # nt around a site, of which there is most to learn
# Shares of GUE's splice windows: acceptors, donors, and of the rest decoys of either kind.
CLASSES, DECOYS = (0.22, 0.22, 0.56), (0.36, 0.24, 0.40)
BEST_OF = 3  # decoys, of which the best by the matrix is kept
STEPS = {"promoter": 500, "tf": 500, "splice": 500}
TABLE_STEPS = {"promoter": 120, "tf": 120, "splice": 100}


def tokens(codes, k):
    """[n, L] base codes to [n, L - k + 3] ids: [CLS], a k-mer at every base, [SEP]."""
    seen = np.lib.stride_tricks.sliding_window_view(codes, k, axis=1)
    ids = SPECIAL + DIGIT[seen] @ 4 ** np.arange(k)[::-1]
    ids[(seen == 4).any(2)] = UNKNOWN
    ends = np.full((len(codes), 1), CLS), np.full((len(codes), 1), SEP)
    return torch.from_numpy(np.concatenate([ends[0], ids, ends[1]], 1))


def norm(width):
    return nn.LayerNorm(width, 1e-12)


class Layer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        dense = lambda: nn.Linear(width, width)
        own = nn.ModuleDict({name: dense() for name in ("query", "key", "value")})
        after = nn.ModuleDict({"dense": dense(), "LayerNorm": norm(width)})
        self.attention = nn.ModuleDict({"self": own, "output": after})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, hidden)})
        self.output = nn.ModuleDict({"dense": nn.Linear(hidden, width), "LayerNorm": norm(width)})

    def forward(self, x):
        own, after = self.attention["self"], self.attention["output"]
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = (split(own[name](x)) for name in ("query", "key", "value"))
        product = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
        with torch.autocast("cpu", enabled=False):  # else in float32, twice as slow
            shares = product.softmax(-1)
        mixed = (shares @ v).transpose(1, 2).flatten(2)
        x = after["LayerNorm"](x + after["dense"](mixed))
        y = self.output["dense"](F.gelu(self.intermediate["dense"](x)))
        return self.output["LayerNorm"](x + y)


class Bert(nn.Module):
    """Of sequences of one length, so that none is padded and no mask is needed."""

    def __init__(self, k, layers, width, heads, hidden):
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(4**k + SPECIAL, width),
                "position_embeddings": nn.Embedding(POSITIONS, width),
                "token_type_embeddings": nn.Embedding(2, width),
                "LayerNorm": norm(width),
            }
        )
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))}
        )
        self.pooler = nn.ModuleDict({"dense": nn.Linear(width, width)})
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.05)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        self.plant(k, width)

    @torch.no_grad()
    def plant(self, k, width):
        """K-mers start as sums of their letters, and positions as waves: else a budget as small as
        this is spent on learning that neighbours overlap."""
        letter, number = 0.05 * torch.randn(k, 4, width), torch.arange(4**k)
        table = self.embeddings["word_embeddings"].weight
        table[SPECIAL:] *= 0.4
        for at in range(k):
            table[SPECIAL:] += letter[at, number // 4 ** (k - 1 - at) % 4]
        place = torch.arange(POSITIONS)[:, None] * 500 ** (-torch.arange(0, width, 2) / width)
        waves = torch.stack([place.sin(), place.cos()], 2).flatten(1)
        self.embeddings["position_embeddings"].weight.mul_(0.2).add_(0.1 * waves)

    def forward(self, ids, dropout=0.0, places=None):
        """`places`: positions of the tokens, where they are not all those of a window."""
        e = self.embeddings
        places = slice(ids.shape[1]) if places is None else places
        x = e["word_embeddings"](ids) + e["position_embeddings"].weight[places]
        x = e["LayerNorm"](x + e["token_type_embeddings"].weight[0])
        x = F.dropout(x, dropout, self.training)
        for layer in self.encoder["layer"]:
            x = layer(x)
        return x

    def pooled(self, ids, dropout=0.0, places=None):
        return self.pooler["dense"](self(ids, dropout, places)[:, 0]).tanh()


class Masked(nn.Module):
    """With the head of masked tokens, whose decoder is the table of words."""

    def __init__(self, k, shape):
        super().__init__()
        self.bert = Bert(k, **shape)
        width = shape["width"]
        transform = nn.ModuleDict({"dense": nn.Linear(width, width), "LayerNorm": norm(width)})
        self.cls = nn.ModuleDict({"predictions": nn.ModuleDict({"transform": transform})})
        self.cls["predictions"].bias = nn.Parameter(torch.zeros(4**k + SPECIAL))

    def forward(self, ids, where):
        """Logits of the tokens at `where` [n, T]."""
        head = self.cls["predictions"]
        x = F.gelu(head["transform"]["dense"](self.bert(ids)[where]))
        table = self.bert.embeddings["word_embeddings"].weight
        return F.linear(head["transform"]["LayerNorm"](x), table, head.bias).float()


class Classifier(nn.Module):
    def __init__(self, k, shape, outputs, dropout=0.1):
        super().__init__()
        self.bert, self.dropout = Bert(k, **shape), dropout
        self.classifier = nn.Linear(shape["width"], outputs)
        nn.init.normal_(self.classifier.weight, std=0.05)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, ids, places=None):
        x = self.bert.pooled(ids, self.dropout, places)
        return self.classifier(F.dropout(x, self.dropout, self.training)).float()


def quick():
    return torch.autocast("cpu", torch.bfloat16)


def stream(*numbers):
    """Random numbers of one step, the same after an interruption."""
    return np.random.default_rng(numbers)


def descent(path, model, steps, rate, loss_of, log, horizon=None):
    """Trains, with checkpoints at `path`; the model ends as the running mean of its weights. With a
    horizon the rate falls towards that step, and from three quarters of the steps on to nothing, so
    that how many steps there are can be decided on the way."""
    opt = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.01, fused=True)
    average = Average(model, 0.99)
    first, spent = resume(path, model, opt, average)
    began, total = time.process_time() - spent, 0.0
    model.train()
    for step in range(first, steps):
        own = rate * min(1, 4 * (1 - step / steps)) if horizon else rate
        warm_up = max(1, min(200, (horizon or steps) // 10))
        set_rate(opt, own, warm_up, step, horizon or steps)
        with quick():
            loss = loss_of(step)
        descend(opt, model, loss)
        average.update(model, step)
        total += loss.item()
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            minutes = (time.process_time() - began) / 60
            print(f"{log},{step + 1},{minutes:.2f},{total / (step % EVERY + 1):.4f}", flush=True)
            total = 0.0
            keep(path, model, opt, average, step + 1, time.process_time() - began)
    model.load_state_dict(average.values)
    model.eval()
    return (time.process_time() - began) / 60


# ------------------------------------------------------------------------------------ pre-training


def read_text(data):
    """Sequence to pre-train on, and genes to check it by, N between the pieces."""
    parts = {True: [], False: []}
    for header, text in read_sequences(os.path.join(data, "splice", "genes_chr1.fa.gz")):
        parts[bucket(header.split()[1]) >= 20] += [encode(text), np.full(1, 4, np.uint8)]
    parts[True].append(read_chr9(data)[0])
    return np.concatenate(parts[True]), np.concatenate(parts[False])


def masked_batch(text, k, length, rng):
    """Ids with masks, the true ones, and where they are to be predicted."""
    count = round(TOKENS / length)
    rows = np.empty((0, length), np.uint8)
    while len(rows) < count:
        at = rng.integers(0, len(text) - length, count)
        more = text[at[:, None] + np.arange(length)]
        rows = np.concatenate([rows, more[(more < 4).all(1)]])[:count]
    turn = rng.random(count) < 0.5
    true = tokens(np.where(turn[:, None], tf.complement(rows), rows), k)
    inner = true.shape[1] - 2
    centre = rng.random((count, inner)) < MASKED / k
    where = np.zeros((count, inner), bool)
    for d in MASK_LIST[k]:
        low, high = max(0, d), min(inner, inner + d)
        where[:, low:high] |= centre[:, low - d : high - d]
    where = torch.from_numpy(np.pad(where, ((0, 0), (1, 1))))
    kind = torch.from_numpy(rng.random(true.shape))
    other = torch.from_numpy(rng.integers(SPECIAL, 4**k + SPECIAL, true.shape))
    ids = torch.where(where & (kind < 0.8), MASK, true)
    return torch.where(where & (kind >= 0.9), other, ids), true, where


def pretrain(a, k, steps, name):
    """The checkpoint's path, after training it where it is not there."""
    path = os.path.join(a.out, f"{name}.pt")
    if os.path.exists(path):
        return path
    torch.manual_seed(a.seed)
    model, (text, held) = Masked(k, SHAPE), read_text(a.data)

    def loss_of(step):
        rng = stream(a.seed, k, step)
        ids, true, where = masked_batch(text, k, int(rng.choice(LENGTHS)), rng)
        return F.cross_entropy(model(ids, where), true[where])

    minutes = descent(path + ".part", model, steps, a.rate, loss_of, name, HORIZON)
    hits = losses = count = 0
    with torch.no_grad(), quick():
        for step in range(20):
            ids, true, where = masked_batch(held, k, 250, stream(99, k, step))
            logits, wanted = model(ids, where), true[where]
            hits += int((logits.argmax(1) == wanted).sum())
            losses += float(F.cross_entropy(logits, wanted, reduction="sum"))
            count += len(wanted)
    found = dict(
        k=k,
        steps=steps,
        tokens=steps * TOKENS,
        cpu_minutes=round(minutes, 1),
        held_out_genes_loss=round(losses / count, 4),
        held_out_genes_accuracy=round(hits / count, 4),
    )
    print(name, json.dumps(found), flush=True)
    replace(path, dict(model=model.state_dict(), figures=found))
    os.remove(path + ".part")
    return path


# ------------------------------------------------------------------------------------- fine-tuning


@torch.no_grad()
def logits(model, codes, k, fast=False):
    """[n, outputs]; `fast`: in bfloat16."""
    model.eval()
    parts = np.array_split(codes, max(1, len(codes) * codes.shape[1] // 20_000))
    with torch.autocast("cpu", torch.bfloat16, enabled=fast):
        return np.concatenate([model(tokens(c, k)).numpy() for c in parts])


class Factors:
    name, outputs, length, batch = "tf", 5, 101, 64

    def __init__(self, data):
        self.rows = tf.Rows(data)
        self.label, self.weight = map(torch.as_tensor, self.rows.weigh(0.15))

    def draw(self, rng, done=1.0):
        at = rng.integers(0, len(self.label), self.batch)
        seen = tf.turn_and_shift(self.rows.train[0][at], 0, rng)
        return seen, (self.label[at], self.weight[at])

    def loss(self, found, target):
        return tf.masked(found, *target)

    def figures(self, scorer, brief=False):
        if brief:
            dev = enumerate(self.rows.dev)
            found = [round(mcc(y, scorer(x)[:, k] > 0), 4) for k, (x, y) in dev]
            return {"mcc_dev": round(float(np.mean(found)), 4), "mcc_dev_by_factor": found}
        found = tf.evaluate(lambda x: (scorer(x) + scorer(tf.complement(x))) / 2, self.rows)
        own = {k: found[f"mean_{k}"] for k in ("mcc_calibration", "mcc_dev", "auc_dev")}
        return own | {"mcc_dev_by_factor": found["mcc_dev"]}

    def calibrate(self, scorer):
        """Knots of each output, as if half of the windows were bound; and errors on dev rows."""
        x, labels = self.rows.calibration
        raw, outputs = scorer(x), []
        for k in range(self.outputs):
            known = ~np.isnan(labels[:, k])
            y = labels[known, k] == 1
            shift = float(np.log((~y).sum() / y.sum()))
            knots = fit_knots(raw[known, k], y, count=5)
            outputs.append([[a, round(b + shift, 4)] for a, b in knots])
        return outputs


class Core:
    name, outputs, length, batch = "promoter", 2, 70, 96

    def __init__(self, data):
        self.windows = Windows(data)
        self.windows.mine(data)
        # As in `promoter.py`, but for the errors.
        self.shares = argparse.Namespace(
            notata=43, tata=5, fresh=0.8, mined=0.5, long=0, errors=0.0
        )

    def draw(self, rng, done=1.0):
        seen, label, _, _ = self.windows.balanced(self.shares, rng)
        return seen, torch.as_tensor(label).long()

    def loss(self, found, target):
        return F.cross_entropy(found, target)

    def figures(self, scorer, brief=False):
        sets = {"dev": self.windows.dev["all"]}
        if not brief:
            sets["calibration"] = self.windows.calibration["core"]
        return {
            f"mcc_{part}": round(mcc(y, np.diff(scorer(x))[:, 0] > 0), 4)
            for part, (x, y) in sets.items()
        }

    def calibrate(self, scorer):
        x, y = self.windows.calibration["core"]
        return [of_probability(fit_knots(np.diff(scorer(x))[:, 0], y == 1))]


class Splice:
    name, outputs, length, batch = "splice", 3, SPLICE, 16

    def __init__(self, data):
        folder = os.path.join(data, "splice")
        with open(os.path.join(folder, "gue_reconstructed_dev.csv")) as lines:
            rows = [(encode(r["sequence"]), int(r["label"])) for r in csv.DictReader(lines)]
        self.dev = np.array([s for s, _ in rows]), np.array([y for _, y in rows])
        pairs = lambda v: (
            (v[..., :-HALF] << np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
            ^ (v[..., HALF:] * np.uint64(0xC2B2AE3D27D4EB4F))
        )
        both = (self.dev[0], tf.complement(self.dev[0]))
        held = np.unique(np.concatenate([pairs(kmers(s)).ravel() for s in both]))
        sites = {}
        with open(os.path.join(folder, "sites_chr1.tsv")) as lines:
            for row in csv.DictReader(lines, delimiter="\t"):
                sites.setdefault(row["gene_idx"], ([], []))[KINDS.index(row["kind"])].append(
                    int(row["pos0"])
                )
        self.text, starts, label, place = [], [], [], 0
        for header, text in read_sequences(os.path.join(folder, "genes_chr1.fa.gz")):
            name, symbol = header.split()[:2]
            codes, part = encode(text), bucket(symbol)
            last = len(codes) - SPLICE
            if part < 10 or last < 0:
                continue
            free = np.ones(len(codes) + 1, bool)
            if part >= 20:
                shared = contains(held, pairs(kmers(codes & 3)))
                sums = np.r_[0, np.cumsum(shared)]
                width = SPLICE - 2 * HALF + 1
                free[: last + 1] = sums[width:] == sums[: len(sums) - width]
            unknown = np.r_[0, np.cumsum(codes == 4)]
            free[: last + 1] &= unknown[SPLICE:] == unknown[: last + 1]
            free = free[: last + 1]
            middle = np.arange(last + 1)
            true = [np.zeros(last + 1, bool) for _ in KINDS]
            for own, at, where in zip(true, sites.get(name, ([], [])), (ACCEPTOR, DONOR)):
                at = np.array(at, int) - where
                own[at[(at >= 0) & (at <= last)]] = True
            pair = lambda i, x, y: (codes[middle + i] == x) & (codes[middle + i + 1] == y)
            decoy = [pair(ACCEPTOR - 2, 0, 2), pair(DONOR + 1, 2, 3)]
            for kind, chosen in enumerate(
                [*true, *(d & ~t for d, t in zip(decoy, true)), ~true[0] & ~true[1]]
            ):
                at = np.flatnonzero(chosen & free)
                starts.append(at + place)
                label.append(np.full(len(at), kind + 5 * (part < 20)))
            self.text.append(codes)
            place += len(codes)
        self.text = np.concatenate(self.text)
        starts, label = np.concatenate(starts), np.concatenate(label)
        self.starts = [starts[label == kind] for kind in range(10)]
        counts = [len(s) for s in self.starts]
        print("splice windows", counts[:5], "calibration", counts[5:], flush=True)
        self.matrices = [self.matrix(c, reach) for c, reach in enumerate(((-20, 3), (-2, 7)))]
        self.calibration = self.windows(stream(7), 2000, 5)

    def matrix(self, c, reach):
        """Log odds of the letters around sites over those around their decoys."""
        at = np.arange(*reach) + (ACCEPTOR, DONOR)[c]
        shares = []
        for kind in (c, c + 2):
            letter = self.text[self.starts[kind][:20_000, None] + at]
            shares.append([(letter == b).mean(0) + 0.01 for b in range(4)])
        return at, np.log(shares[0]) - np.log(shares[1])

    def windows(self, rng, count, first=0):
        """In the shares of GUE's windows; `first`: 0 training, 5 calibration."""
        label = rng.choice(3, count, p=CLASSES)
        kind = np.where(label < 2, label, 2 + rng.choice(3, count, p=DECOYS))
        starts = np.empty(count, np.int64)
        for own in range(5):
            (which,) = np.nonzero(kind == own)
            at = self.starts[first + own]
            at = at[rng.integers(0, len(at), (len(which), BEST_OF if own in (2, 3) else 1))]
            if own in (2, 3):
                where, odds = self.matrices[own - 2]
                score = odds[self.text[at[..., None] + where], np.arange(len(where))].sum(-1)
                at = np.take_along_axis(at, score.argmax(1)[:, None], 1)
            starts[which] = at[:, 0]
        return self.text[starts[:, None] + np.arange(SPLICE)], label

    def draw(self, rng, done=1.0):
        """In the first 65 % of the steps more windows, but their middles only."""
        cut = (SPLICE - MIDDLE) // 2 if done < 0.65 else 0
        seen, label = self.windows(rng, self.batch * (SPLICE // MIDDLE if cut else 1))
        return seen[:, cut : SPLICE - cut], torch.from_numpy(label)

    def loss(self, found, target):
        return F.cross_entropy(found, target)

    def figures(self, scorer, brief=False):
        """`brief`: of every third window of the dev file only."""
        sets = {"dev": [part[:: 3 if brief else 1] for part in self.dev]}
        if not brief:
            sets["calibration"] = self.calibration
        result = {}
        for part, (x, y) in sets.items():
            table = np.zeros((3, 3))
            np.add.at(table, (y, scorer(x).argmax(1)), 1)
            result[f"mcc_{part}"] = round(correlation(table), 4)
        return result

    def calibrate(self, scorer):
        x, y = self.calibration
        found = scorer(x)
        probability = np.exp(found - found.max(1, keepdims=True))
        probability /= probability.sum(1, keepdims=True)
        p = np.clip(probability, 1e-6, 1 - 1e-6)
        return [of_probability(fit_knots(np.log(p / (1 - p))[:, c], y == c)) for c in (0, 1)]


TASKS = {own.name: own for own in (Factors, Core, Splice)}


def of_probability(knots):
    """Knots of logits as those of probabilities."""
    result = [[0.0, 0.0]]
    for pair in sigmoid(np.array(knots)):
        raw, value = (round(float(v), 5) for v in pair)
        if result[-1][0] < raw < 1:
            result.append([raw, value])
    return [*result, [1.0, 1.0]]


def finetune(a, data, task, k, start, steps, name, brief=False):
    """Trains one head; the checkpoint's path."""
    path = os.path.join(a.out, f"{name}.pt")
    if os.path.exists(path):
        return path
    task = data[task]
    torch.manual_seed(a.seed)
    model = Classifier(k, SHAPE, task.outputs)
    if start:
        state = torch.load(start)["model"]
        own = {n: v for n, v in state.items() if n.startswith("bert.")}
        model.load_state_dict(own, strict=False)

    def loss_of(step):
        seen, target = task.draw(stream(a.seed, 1000, step), step / steps)
        ids, places = tokens(seen, k), None
        if seen.shape[1] < task.length:  # the middle, at the positions that it has in the window
            first = (task.length - seen.shape[1]) // 2
            places = torch.arange(first, first + ids.shape[1])
            places[0], places[-1] = 0, task.length - k + 2
        return task.loss(model(ids, places), target)

    minutes = descent(path + ".part", model, steps, a.tune_rate, loss_of, name)
    found = task.figures(lambda x: logits(model, x, k, fast=True), brief)
    found = dict(task=task.name, k=k, pretrained=bool(start), steps=steps) | found
    found["cpu_minutes"] = round(minutes, 2)
    print(name, json.dumps(found), flush=True)
    replace(path, dict(model=model.state_dict(), figures=found))
    os.remove(path + ".part")
    return path


class Lazily(dict):
    """Data of a task, read when first wanted."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def __missing__(self, name):
        self[name] = TASKS[name](self.data)
        return self[name]


# ----------------------------------------------------------------------------- what becomes of them


def train(a, data):
    start = pretrain(a, a.k, a.pretrain_steps, f"pretrained-{a.k}")
    for name, steps in STEPS.items():
        finetune(a, data, name, a.k, start, steps, f"{name}-{a.k}")


def table(a, data):
    """Equal budgets for every k, with and without pre-training; what costs least comes first."""
    rows = [
        (begun and k != a.k, name == "splice", k != a.k, k, begun, name)
        for k in MASK_LIST
        for begun in (False, True)
        for name in TABLE_STEPS
    ]
    for *_, k, begun, name in sorted(rows):
        start = pretrain(a, k, a.pretrain_steps, f"pretrained-{k}") if begun else None
        label = f"table-{name}-{k}-{'pretrained' if begun else 'new'}"
        finetune(a, data, name, k, start, TABLE_STEPS[name], label, True)


def classifier(a, name):
    """The trained network of a task, and what is known of it."""
    saved = torch.load(os.path.join(a.out, f"{name}-{a.k}.pt"))
    model = Classifier(a.k, SHAPE, TASKS[name].outputs)
    model.load_state_dict(saved["model"])
    return model.eval(), saved["figures"]


def write_checkpoint(a, name, model):
    """A folder as transformers writes it."""
    folder = os.path.join(a.out, "checkpoints", name)
    os.makedirs(folder, exist_ok=True)
    config = dict(
        architectures=["BertForSequenceClassification"],
        model_type="bert",
        hidden_act="gelu",
        hidden_size=SHAPE["width"],
        intermediate_size=SHAPE["hidden"],
        layer_norm_eps=1e-12,
        max_position_embeddings=POSITIONS,
        num_attention_heads=SHAPE["heads"],
        num_hidden_layers=SHAPE["layers"],
        num_labels=TASKS[name].outputs,
        type_vocab_size=2,
        vocab_size=4**a.k + SPECIAL,
    )
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump(config, out, indent=1)
    save_file(model.state_dict(), os.path.join(folder, "model.safetensors"))
    return folder


def run(*command):
    print("+", *command, flush=True)
    subprocess.run(command, check=True)


DATA = {
    "tf": "five ENCODE ChIP-seq sets of GUE (tf0 to tf4), 101 nt around peaks and genomic windows",
    "promoter": "GUE core promoters (EPDnew), 70 nt, their negatives made anew",
    "splice": "400-nt windows around the canonical splice sites of human chr1 genes (hg19, GENCODE)"
    " and around decoys",
}
SPLIT = {
    "tf": "no row that is one of a dev file, its reverse complement, or overlaps one by 40 nt;"
    " md5(sequence) mod 20 == 0 and what overlaps it is calibration",
    "promoter": "no row of a core dev file nor its reverse complement; md5(core) mod 20 == 0"
    " calibration",
    "splice": "genes: md5(symbol) mod 100 < 10 unused, < 20 calibration; no training window shares"
    " a 40-mer of either strand with a window of gue_reconstructed_dev",
}
PRETRAINING = "; pre-trained without labels on human chr1 genes (hg19) and a megabase of chr9"
COLUMNS = {
    "tf": [
        (f"tf{i}", "tf", f"probability that tf{i} of GUE binds the window, as one of two does")
        for i in range(5)
    ],
    "promoter": [
        ("promoter", "promoter", "probability that the window is a promoter, as one of two is")
    ],
    "splice": [
        (kind, kind, f"probability that the middle of the window is {article} {kind}, as .22 are")
        for kind, article in (("acceptor", "an"), ("donor", "a"))
    ],
}
RATE = {"tf": 0.5, "promoter": 0.5, "splice": 0.22}


def manifest(a, name, knots, figures):
    return {
        "name": f"dnabert-small-{name}",
        "version": "1.0.0",
        "alphabet": "ACGT",
        "tokeniser": f"dnabert-{a.k}",
        "stride": 1,
        "licence": "MIT OR Apache-2.0",
        "task": name,
        "description": f"DNABERT's architecture, small: {DESCRIPTIONS[name]}",
        "tile": POSITIONS,
        "context": {"left": 0, "right": 0},
        "window": {"shortest": a.k, "longest": TASKS[name].length},
        "training": {
            "data": DATA[name] + PRETRAINING,
            "split": SPLIT[name],
            "recipe": "models/train/dnabert_small.py",
        },
        "figures": figures,
        "outputs": [
            {
                "name": column,
                "kind": kind,
                "meaning": meaning,
                "link": "logit" if name == "tf" else "probability",
                "threshold": 0.5,
                "base_rate": RATE[name],
                "calibration": own,
            }
            for (column, kind, meaning), own in zip(COLUMNS[name], knots)
        ],
    }


DESCRIPTIONS = {
    "tf": "which of five transcription factors bind 101 nt",
    "promoter": "is 70 nt a core promoter",
    "splice": "is the middle of 400 nt a splice site",
}


def calibrated(name, knots, raw):
    """Scores, as the program gives them, of the network's logits."""
    if name == "tf":
        found = np.stack([apply_knots(own, raw[:, c]) for c, own in enumerate(knots)], 1)
        return sigmoid(found)
    shares = np.exp(raw - raw.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    wanted = shares[:, 1:] if name == "promoter" else shares[:, :2]
    return np.stack([apply_knots(own, wanted[:, c]) for c, own in enumerate(knots)], 1)


def pack(a, data):
    """Calibrates, converts and packs, with the figures of the packed files in their manifests."""
    os.makedirs(a.models, exist_ok=True)
    report = {"pretraining": torch.load(os.path.join(a.out, f"pretrained-{a.k}.pt"))["figures"]}
    convert = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../convert/dnabert.py")
    for name in STEPS:
        kept = os.path.join(a.out, f"packed-{name}.json")
        if os.path.exists(kept):
            with open(kept) as file:
                report[name] = json.load(file)
            continue
        (model, known), task = classifier(a, name), data[name]
        plain = lambda x: logits(model, x, a.k)
        knots = task.calibrate(plain)
        folder, onnx = write_checkpoint(a, name, model), os.path.join(a.out, "onnx", name)
        os.makedirs(os.path.dirname(onnx), exist_ok=True)
        more = ["--task", "raw", "--labels", "tf0,tf1,tf2,tf3,tf4", "--attention"]
        more = more if name == "tf" else ["--task", name]
        run(sys.executable, convert, folder, "--out", onnx, "--window", str(task.length), *more)
        samples = os.path.join(a.out, f"{name}.fa")
        seen = task.draw(stream(a.seed, 2000))[0]
        write_fasta(samples, [letters(x) for x in seen[(seen < 4).all(1)]])

        def packed_file(stem, network, contents):
            paths = [os.path.join(a.models, f"{stem}.{end}") for end in ("toml", "safetensors")]
            with open(paths[0], "w") as out:
                write_toml(contents, out)
            command = [a.pack, "-q", "pack", os.path.join(onnx, network), "--manifest", paths[0]]
            run(*command, "--calibrate", samples, "-o", paths[1])
            return paths[1]

        path = packed_file(name, "model.onnx", manifest(a, name, knots, {}))
        scorer = lambda texts: calibrated(name, knots, plain(np.array([encode(t) for t in texts])))
        found = [window_figures(name, a.data, own) for own in (Packed(a.pack, path).whole, scorer)]
        packed_file(name, "model.onnx", manifest(a, name, knots, found[0]))
        report[name] = known | {"knots": knots, "packed": found[0], "float": found[1]}
        if name == "tf":
            with open(os.path.join(onnx, "attention.toml"), "rb") as file:
                own = tomllib.load(file)
            whole = manifest(a, name, knots, {})
            own |= {key: whole[key] for key in ("version", "licence", "training")}
            text = "DNABERT's architecture, small: where [CLS] of the tf model looks"
            own |= {"name": "dnabert-small-tf-attention", "description": text}
            packed_file("tf-attention", "attention.onnx", own)
        with open(kept, "w") as out:
            json.dump(report[name], out)
        print(name, json.dumps(report[name]), flush=True)
    rows = sorted(f for f in os.listdir(a.out) if f.startswith("table-") and f.endswith(".pt"))
    report["table"] = [torch.load(os.path.join(a.out, f))["figures"] for f in rows]
    with open(os.path.join(a.out, "dnabert_small.json"), "w") as out:
        json.dump(report, out, indent=1)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--k", type=int, default=6)
    p.add_argument("--pretrain-steps", type=int, default=1000)
    p.add_argument("--rate", type=float, default=1e-3, help="of pre-training")
    p.add_argument("--tune-rate", type=float, default=5e-4, help="of fine-tuning")
    p.add_argument("--table", action="store_true", help="the table")
    p.add_argument("--pack", help="the program: pack and measure")
    p.add_argument("--models", default="models/dnabert-small", help="for the packed files")
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    data = Lazily(a.data)
    (pack if a.pack else table if a.table else train)(a, data)


if __name__ == "__main__":
    main()
