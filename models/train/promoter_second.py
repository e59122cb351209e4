"""Trains the second look of promoters: the tier `accurate` on top of the network of `promoter.py`,
which becomes the tier `fast` as it is.

What: the logit of the same question, for the few places that the first look does not rule out.
  - near: a wider copy of the first network, from 228 nt upstream to 48 nt downstream;
  - far: 1,935 nt to either side at low resolution. A convolution of width 11 reads words, sums of
    them over 13 and over 117 bases follow, and one over 33 of those. CpG islands, base composition
    and the first exon's donor are what it can see;
  - join: the first network's last rows are added, then the head. All are convolutions at stride 1,
    so a base's score does not depend on where a read begins.
Why so: the core promoter alone does not tell a promoter from what looks like one inside of genes.
  Surroundings do, but only some hundred starts of genes have any in the kit, and none upstream. So
  surroundings may only speak against a promoter: whatever a promoter's logit gains by them is a
  loss (`veto`). Reads that end near a promoter are scored as if nothing spoke against it.
Data: GUE promoters in their 300 nt; starts of the chr1 genes (EPDnew promoters found there, else
  the first network's best base within 300 nt) with what follows them; the same with a GUE promoter
  in place of the start, and upstream what follows another start, on the other strand. Negatives:
  peaks of the first network in the genes beyond their first 1,000 nt, both strands, without 500 nt
  around known promoters, weighted as they occur. All are cut as reads are, promoters and negatives
  alike. Balanced core windows as in `promoter.py`, with the same teachers.
Splits: those of `promoter.py`.
Weights are running means. The last fifth of the steps is trained under int8 rounding.

    python promoter_second.py --data DIR --first FIRST --out OUT    about 18 minutes on one core

FIRST is where `promoter.py` left promoter.onnx, promoter.json and its checkpoint. It goes on from
OUT/promoter_second.pt where there is one.
"""

import argparse
import copy
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from packed import TIERS
from promoter import (
    MERGE,
    PIECE,
    SCAN,
    START_ZONE,
    TAIL,
    TEACHER_FRONT,
    TEACHER_TAIL,
    TSS,
    TSS_300,
    WINDOW,
    WINDOW_300,
    Promoter,
    Windows,
    fit_calibration,
    mcc,
    mutate,
    one_hot_2d,
    peaks,
    pick,
    read_genes,
    threshold_for,
)
from promoter import scan as scan_first
from quantize_aware import ConvBlock, Head, _BatchNorm, round_weight, set_mode
from sequences import bucket, encode, read_sequences, reverse_complement
from training import (
    OnnxFile,
    descend,
    export_onnx,
    largest_difference,
    one_hot,
    replace,
    set_rate,
)

LEFT, RIGHT = 228, 48  # bases that the first network and `near` read
NEAR_FRONT = [(32, 11, 1, 5), (32, 7, 1, 3), (32, 7, 1, 3), (32, 15, 1, 7)]
NEAR_TAIL = [(32, *rest) for _, *rest in TAIL]
# Widths of `far`: each layer reads every row that the one before it does not cover already.
WORD, SUMS, STEPS, TAPS = 11, 13, 9, 33
SPAN = SUMS * STEPS
NOTHING = -99.0  # of a place that the first look rules out


def reach(taps):
    """Bases either side of a position that `taps` taps of the last layer of `far` read."""
    return (taps * SPAN - 1) // 2 + WORD // 2


FAR = reach(TAPS)


class Cell(ConvBlock):
    """relu(bn(conv(x)) + skip) without padding, and nothing beyond a sequence's ends."""

    def forward(self, x, mask=None, skip=None, stride=1, dilation=1, taps=None):
        if self.mode == "int8":
            weight, bias = self.folded()
            weight = round_weight(weight)
        else:
            weight, bias = self.conv.weight, None
        if taps is not None:
            side = (weight.shape[2] - taps) // 2
            weight = weight[:, :, side : side + taps]
        y = F.conv2d(x, weight.unsqueeze(2), bias, stride=(1, stride), dilation=(1, dilation))
        if self.mode != "int8":
            y = self.bn(y)
        if skip is not None:
            y = y + skip
        y = self.quantizer(y)
        return y if mask is None else y * mask


def near_rows(net, codes, inside):
    """Rows of a network's last block at the base LEFT of [B, LEFT + 1 + RIGHT] codes; rows beyond
    a sequence's ends are nothing, as the runtime computes them."""
    x, mask = one_hot_2d(codes), inside[:, None, None]
    blocks = list(zip(net.blocks, net.residual()))
    for block, same in blocks[: net.front - 1]:
        x = block(x, x if same else None) * mask
    first = LEFT % PIECE
    mask = mask[..., first::PIECE]
    x = net.blocks[net.front - 1](x, first=first) * mask
    for block, same in blocks[net.front :]:
        x = block(x, x if same else None, step=PIECE) * mask
    return x[..., LEFT // PIECE : LEFT // PIECE + 1]


class Second(nn.Module):
    def __init__(self, channels=8, dropout=0.0):
        super().__init__()
        self.near = Promoter(NEAR_FRONT, NEAR_TAIL, outputs=1)
        wide = NEAR_TAIL[-1][0]
        layers = [(4, channels, WORD), (channels, channels, SUMS), (channels, channels, STEPS)]
        self.far = nn.ModuleList(Cell(*layer) for layer in [*layers, (channels, wide, TAPS)])
        self.join = Cell(TAIL[-1][0], wide, 1)
        self.head = Head(wide, 1)
        self.dropout = dropout

    def at(self, first, codes):
        """Logits at the middle of [B, 2 * reach + 1] codes, 4 where there is no sequence; and the
        same without what lies beyond the near bases."""
        codes = torch.as_tensor(codes, dtype=torch.long)
        middle = codes.shape[1] // 2
        around = F.pad(codes, (LEFT, 0), value=4)[:, middle : middle + LEFT + RIGHT + 1]
        inside = (around < 4).float()
        with torch.no_grad():
            below = near_rows(first, around, inside)
        near = near_rows(self.near, around, inside)
        taps = (codes.shape[1] - WORD + 1) // SPAN
        mask = (codes < 4).float()[:, None, None, WORD // 2 : codes.shape[1] - WORD // 2]
        x = self.far[0](one_hot_2d(codes), mask)
        for cell, stride in zip(self.far[1:], (SUMS, STEPS)):
            mask = mask[..., stride // 2 :: stride]
            x = cell(x, mask, stride=stride)
        if self.training and self.dropout:
            x = F.dropout(x, self.dropout)
        rows = [self.far[3](x, skip=near, taps=taps) for x in (x, torch.zeros_like(x))]
        rows = [self.head(self.join(below, skip=y))[:, 0, 0, 0].float() for y in rows]
        return rows

    def scan(self, first, codes):
        """(fast, accurate) logits of a whole sequence."""
        x, rows = one_hot_2d(codes[None]), []
        for net in (first, self.near):
            y = x
            for block, same in zip(net.blocks, net.residual()):
                y = block(y, y if same else None)
            rows.append(y)
        y = x
        for cell, dilation in zip(self.far, (1, 1, SUMS, SPAN)):
            side = dilation * (cell.conv.kernel_size[0] // 2)
            skip = rows[1] if dilation == SPAN else None
            y = cell(F.pad(y, (side, side)), skip=skip, dilation=dilation)
        y = self.join(rows[0], skip=y)
        return first.head(rows[0])[0, SCAN, 0], self.head(y)[0, 0, 0]

    def macs(self):
        convolutions = [m for m in self.modules() if isinstance(m, nn.Conv1d)]
        own = sum(m.weight.numel() for m in convolutions)
        return own - self.near.head.conv.weight.numel()  # which nothing reads


@torch.no_grad()
def widened(model, channels=16):
    """The same network, its far layers filled up with channels of zeros. The runtime computes
    narrower ones several rows at a time, and does not keep such rows of a growing read."""
    wide = Second(channels)
    values = wide.state_dict()
    for name, own in model.state_dict().items():
        values[name].fill_(1.0 if name.endswith("running_var") else 0.0)
        values[name][tuple(slice(n) for n in own.shape)] = own
    wide.load_state_dict(values)
    return set_mode(wide, "int8").eval()


def first_of(folder):
    """The network of `promoter.py` from its file and report, as it ships."""
    import onnx
    from onnx import numpy_helper

    file = onnx.load(os.path.join(folder, "promoter.onnx"))
    values = {i.name: numpy_helper.to_array(i) for i in file.graph.initializer}
    convolutions = [n for n in file.graph.node if n.op_type == "Conv"]
    with open(os.path.join(folder, "promoter.json")) as text:
        report = json.load(text)
    model = Promoter()
    with torch.no_grad():
        for block, node, limit in zip(model.blocks, convolutions, report["activation_limits"]):
            weight, bias = (torch.tensor(values[name]) for name in node.input[1:])
            block.conv.weight.copy_(weight)
            block.bn.bias.copy_(bias)
            block.bn.running_var.fill_(1 - block.bn.eps)
            block.quantizer.limit.fill_(limit)
        weight, bias = (torch.tensor(values[name]) for name in convolutions[-1].input[1:])
        model.head.conv.weight[SCAN] = weight[0]
        model.head.conv.bias[SCAN] = bias[0]
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return set_mode(model, "int8").eval(), report


@torch.no_grad()
def scan(model, first, codes, piece=65536):
    """Logits [2, T] of a whole sequence."""
    model.eval()
    out = np.empty((2, len(codes)), np.float32)
    for a in range(0, len(codes), piece):
        b = min(len(codes), a + piece)
        lo, hi = max(0, a - FAR), min(len(codes), b + FAR)
        for row, found in zip(out, model.scan(first, codes[lo:hi])):
            row[a:b] = found[a - lo : b - lo].numpy()
    return out


def crop_at(codes, at, side):
    """The bases around one, 4 where there is none."""
    out = np.full(2 * side + 1, 4, np.uint8)
    lo, hi = max(0, at - side), min(len(codes), at + side + 1)
    out[lo - at + side : hi - at + side] = codes[lo:hi]
    return out


def padded(windows, at, side):
    """Windows in crops whose middle is their base `at`."""
    out = np.full((len(windows), 2 * side + 1), 4, np.uint8)
    out[:, side - at : side - at + windows.shape[1]] = windows
    return out


class Genes:
    """Where promoters are known in the training genes, and what the first look takes for some."""

    def __init__(self, data, first, windows):
        cores = {bytes(core) for kind in ("+n", "+t") for core in windows.train[kind]}
        self.windows, self.strands, self.starts, events = windows, [], [], []
        for header, text in read_sequences(os.path.join(data, "splice", "genes_chr1.fa.gz")):
            if bucket(header.split()[1], 100) < 20:
                continue
            codes = encode(text)
            for sense, strand in ((True, codes), (False, reverse_complement(codes))):
                raw, letters = scan_first(first, strand), bytes(strand)
                known = [
                    at + TSS
                    for at in range(len(letters) - WINDOW)
                    if letters[at : at + WINDOW] in cores
                ]
                keep = np.ones(len(strand), bool)
                for at in known:
                    keep[max(0, at - 500) : at + 500] = False
                keep[slice(0, START_ZONE) if sense else slice(-START_ZONE, None)] = False
                best = int(raw[:WINDOW_300].argmax())
                if sense and raw[best] > 1 and not any(at < 1500 for at in known):
                    known.append(best)
                index = len(self.strands)
                self.strands.append(strand)
                self.starts += [(index, at) for at in known]
                events += [(top, index, at) for top, at in zip(*peaks(raw, keep, -2.0))]
        self.events = np.array(events)
        self.megabases = sum(map(len, self.strands)) / 1e6
        strong = self.events[:, 0] > 0.5
        self.pools = [np.flatnonzero(strong), np.flatnonzero(~strong)]
        rates = [round(len(pool) / self.megabases) for pool in self.pools]
        print("starts", len(self.starts), "peaks a Mb, strong and weak", rates, flush=True)

    def negatives(self, counts, side, rng):
        """Crops, and how many peaks a megabase each stands for."""
        crops, weights = [], []
        for pool, count in zip(self.pools, counts):
            for event in rng.choice(pool, count):
                _, index, at = self.events[event]
                # a call is the highest base of many: those beside a peak are to be low, too
                moved = int(rng.integers(-MERGE, MERGE + 1)) if rng.random() < 0.4 else 0
                crops.append(crop_at(self.strands[int(index)], int(at) + moved, side))
                weights.append(len(pool) / self.megabases / count)
        return np.array(crops), torch.tensor(np.float32(weights))

    def start(self, side, rng):
        index, at = self.starts[rng.integers(len(self.starts))]
        return crop_at(self.strands[index], at, side)

    def positives(self, count, rng, own=0.4):
        """Promoters in surroundings; `own` of them starts of genes as they are."""
        crops = []
        for k, window in enumerate(pick(self.windows.train["+c"], count, rng)):
            crop, room = self.start(FAR, rng), 60
            if k >= own * count:
                crop[FAR - TSS_300 : FAR + WINDOW_300 - TSS_300] = window
                room = TSS_300
            if rng.random() < 0.7:
                upstream = crop[: FAR - room]
                other = reverse_complement(self.start(FAR, rng))[: FAR - room]
                upstream[:] = np.where(upstream > 3, other, upstream)
            crops.append(crop)
        return np.array(crops)


def shorten(crops, rng):
    """Ends some reads somewhere around the middle."""
    side, out = crops.shape[1] // 2, crops.copy()
    at = np.arange(crops.shape[1]) - side
    for row in out:
        kind = rng.random()
        if kind < 0.35:
            row[at < -int(rng.integers(40, side))] = 4
        if 0.2 < kind < 0.5:
            row[at > int(rng.integers(20, side))] = 4
    return out


def survivors(fast, floor):
    """Places that are looked at a second time."""
    keep = np.zeros(len(fast) + 1, np.int32)
    at = np.flatnonzero(fast >= floor)
    np.add.at(keep, np.maximum(at - MERGE, 0), 1)
    np.add.at(keep, np.minimum(at + MERGE + 1, len(fast)), -1)
    return keep.cumsum()[:-1] > 0


def looked(scanned, floor):
    """Logits of the second look where there is one."""
    return np.where(survivors(scanned[0], floor), scanned[1], NOTHING)


def top_of(scores, lo, hi):
    return np.array([s[lo:hi].max() for s in scores])


def all_peaks(scores):
    """Peaks of all sequences together, highest first, and their length in Mb."""
    tops = np.concatenate([peaks(s, floor=NOTHING + 1)[0] for s in scores])
    return np.sort(tops)[::-1], sum(map(len, scores)) / 1e6


def windows_mcc(model, first, windows):
    found, side = {}, reach(3)
    for part, (x, y) in [("calibration", windows.calibration["core"]), *windows.dev.items()]:
        if x.shape[1] == WINDOW:
            with torch.no_grad():
                z = [model.at(first, padded(c, TSS, side))[0] for c in np.array_split(x, 8)]
            found[part] = round(mcc(y, torch.cat(z).numpy() > 0), 4)
    return found


def freeze(model):
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def train(a, model, first, teachers, windows, genes, state):
    rng = np.random.default_rng(a.seed)
    optimiser = torch.optim.AdamW(model.parameters(), a.lr, weight_decay=a.decay)
    mean, int8_from = copy.deepcopy(model), int(0.8 * a.steps)
    begun, began = state["step"], time.process_time() - 60 * state["minutes"]
    if begun:
        model.load_state_dict(state["model"])
        mean.load_state_dict(state["mean"])
        optimiser.load_state_dict(state["opt"])
        rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])
        if begun > int8_from:
            for net in (model, mean):
                set_mode(net, "int8")
    balanced = argparse.Namespace(
        notata=a.core - a.core // 8,
        tata=a.core // 8,
        long=2,
        fresh=0.8,
        mined=0.25,
        errors=a.errors,
    )
    core_side, window_side = reach(3), reach(5)
    log = open(os.path.join(a.out, "promoter_second_log.csv"), "a" if begun else "w")
    if not begun:
        print("step,cpu_minutes,loss_core,loss_promoters,loss_peaks,mcc_core", file=log)
    sums = np.zeros(3)
    for step in range(begun, a.steps):
        set_rate(optimiser, a.lr, 100, step, a.steps)
        if step == int8_from:
            model.eval()
            set_mode(model, "observe")
            with torch.no_grad():
                for _ in range(4):
                    for crops in (genes.positives(48, rng), genes.negatives((48, 48), FAR, rng)[0]):
                        model.at(first, shorten(crops, rng))
            for net in (model, mean):
                set_mode(net, "int8")
            mean.load_state_dict(model.state_dict())
        model.train()
        if step >= 0.1 * a.steps:
            freeze(model)
        core, y, _, _ = windows.balanced(balanced, rng)
        y = torch.as_tensor(y)
        with torch.autocast("cpu", torch.bfloat16, enabled=step < int8_from):
            with torch.no_grad():
                soft = torch.sigmoid(sum(t.at(core, TSS, SCAN) for t in teachers) / len(teachers))
            y = y + a.soft * (soft - y)
            z, _ = model.at(first, padded(core, TSS, core_side))
            loss_core = F.binary_cross_entropy_with_logits(z, y)
            # promoters in their 300 nt, and peaks cut alike
            near = mutate(pick(windows.train["+c"], 64, rng), a.errors, rng)
            far, weight = genes.negatives((64, 32), window_side, rng)
            far[:, : window_side - TSS_300] = 4
            far[:, window_side + WINDOW_300 - TSS_300 :] = 4
            z, _ = model.at(first, padded(near, TSS_300, window_side))
            promoters = F.softplus(-z).mean()
            z, _ = model.at(first, mutate(far, a.errors, rng))
            found = (F.softplus(z) * weight).sum()
            # both in surroundings
            near = mutate(shorten(genes.positives(48, rng), rng), a.errors, rng)
            far, weight = genes.negatives((48, 24), FAR, rng)
            far = mutate(shorten(far, rng), a.errors, rng)
            z, alone = model.at(first, near)
            promoters = (promoters + F.softplus(-z).mean()) / 2
            raised = F.relu(z - alone.detach()).mean()
            z, alone = model.at(first, far)
            found = (found + (F.softplus(z) * weight).sum()) / 2
            raised = raised + F.relu(z - alone.detach()).mean()
            loss = loss_core + a.scan * (promoters + a.peak * found) + a.veto * raised
        descend(optimiser, model, loss, 2.0)
        with torch.no_grad():
            for kept, own in zip(mean.state_dict().values(), model.state_dict().values()):
                if kept.is_floating_point():
                    kept.lerp_(own, 1 - min(0.997, (step + 1) / (step + 20)))
        sums += [loss_core.item(), promoters.item(), found.item()]
        if (step + 1) % a.every == 0 or step + 1 == a.steps:
            mean.eval()
            minutes = (time.process_time() - began) / 60
            n = step % a.every + 1
            row = [f"{v / n:.4f}" for v in sums]
            agreed = windows_mcc(mean, first, windows)["calibration"]
            text = ",".join([str(step + 1), f"{minutes:.2f}", *row, str(agreed)])
            print(text, file=log, flush=True)
            print(text, flush=True)
            sums[:] = 0
            state.update(
                step=step + 1,
                minutes=minutes,
                model=model.state_dict(),
                mean=mean.state_dict(),
                opt=optimiser.state_dict(),
                rng=rng.bit_generator.state,
                torch_rng=torch.get_rng_state(),
            )
            replace(os.path.join(a.out, "promoter_second.pt"), state)
    log.close()
    return mean.eval()


class Exported(nn.Module):
    """Both networks as one, with the same padding on both sides, as the exporter wants it."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def layers(self):
        """Of every convolution in its order: the block, dilation, bases to the left and right."""
        second = self.second
        for net in (self.first, second.near):
            yield from ((b, b.dilation, b.left, b.right) for b in net.blocks)
            if net is self.first:
                yield net.head, 1, 0, 0
        for cell, dilation in zip(second.far, (1, 1, SUMS, SPAN)):
            side = dilation * (cell.conv.kernel_size[0] // 2)
            yield cell, dilation, side, side
        yield second.join, 1, 0, 0
        yield second.head, 1, 0, 0

    def convolve(self, x, block, dilation, left, right, skip=None):
        padding = (left + right) // 2
        if isinstance(block, Head):
            conv = block.conv
            return F.conv1d(x, conv.weight[SCAN : SCAN + 1], conv.bias[SCAN : SCAN + 1])
        weight, bias = block.folded()
        y = F.conv1d(x, weight, bias, padding=padding, dilation=dilation)
        # The residual before the convolution: the runtime evaluates inputs in their order, and adds
        # what is there already in the convolution's own loop.
        return F.relu(y if skip is None else skip + y)

    def forward(self, sequence):
        layers, rows = iter(self.layers()), []
        for net in (self.first, self.second.near):
            x = sequence
            for same in net.residual():
                x = self.convolve(x, *next(layers), skip=x if same else None)
            rows.append(x)
            if net is self.first:
                fast = self.convolve(x, *next(layers))
        x = sequence
        for k in range(len(self.second.far)):
            x = self.convolve(x, *next(layers), skip=rows[1] if k == 3 else None)
        x = self.convolve(rows[0], *next(layers), skip=x)
        return fast, self.convolve(x, *next(layers))


def export(first, second, path, sequence):
    """Writes the float network with its true paddings, and compares it with PyTorch."""
    import onnx

    for net in (first, second):
        set_mode(net, "float")
    module = Exported(first, second).eval()
    with torch.no_grad():
        export_onnx(module, one_hot(sequence[None, :WINDOW]), path, TIERS, True)
    file = onnx.load(path)
    convolutions = [n for n in file.graph.node if n.op_type == "Conv"]
    layers = list(module.layers())
    assert len(convolutions) == len(layers)
    for node, (_, _, left, right) in zip(convolutions, layers):
        for attribute in node.attribute:
            if attribute.name == "pads":
                attribute.ints[:] = [left, right]
    onnx.checker.check_model(file)
    onnx.save(file, path)
    network, worst = OnnxFile(path), 0.0
    for length in (1, WINDOW, 333, 6000):
        with torch.no_grad():
            expected = second.scan(first, sequence[:length])
        for found, own in zip(network(one_hot(sequence[None, :length])), expected):
            worst = max(worst, largest_difference(found[0, 0], own.numpy()))
    assert worst < 1e-3, worst
    return worst


def finish(a, second, first, windows, report, minutes):
    """What survives, calibration, threshold, figures, export."""
    second = widened(second)
    genes = read_genes(a.data)
    scans = {
        part: [scan(second, first, g) for g in genes[part]] for part in ("calibration", "test")
    }
    context = {
        "calibration": [scan(second, first, w) for w in windows.calibration["context"][0]],
        "dev": [scan(second, first, w) for w in windows.context_dev],
    }
    near = lambda scores, by: top_of(scores, TSS_300 - by, TSS_300 + by + 1)
    # What survives: nearly all that would be called, by the windows and the calibration genes.
    everywhere = [s[1] for s in scans["calibration"]]
    raw = threshold_for(*all_peaks(everywhere), a.rate)
    reached = [
        s[0, max(0, at - MERGE) : at + MERGE + 1].max()
        for s in scans["calibration"]
        for top, at in zip(*peaks(s[1], floor=raw))
    ]
    called = near([w[1] for w in context["calibration"]], 50) > raw
    reached += list(near([w[0] for w in context["calibration"]], 150)[called])
    survive = float(np.quantile(reached, 1 - a.keep)) - a.margin
    result = dict(
        survive=round(survive, 3),
        kept=round(float(np.mean(np.array(reached) >= survive)), 4),
        share=round(
            float(np.mean(np.concatenate([survivors(s[0], survive) for s in scans["test"]]))), 5
        ),
    )
    scores = {part: [looked(s, survive) for s in scans[part]] for part in scans}
    inside = {part: [looked(w, survive) for w in context[part]] for part in context}
    tops, megabases = all_peaks(scores["calibration"])
    raw = threshold_for(tops, megabases, a.rate)
    # Where there is no second look there is no probability either: both sides of the odds lack it.
    positive = np.array([w[TSS_300] for w in inside["calibration"]])
    bases = np.concatenate(scores["calibration"])
    seen = [x[x > NOTHING] for x in (positive, bases)]
    odds = a.density / (1 - a.density) * (len(seen[0]) / len(positive))
    odds /= len(seen[1]) / len(bases)
    knots = fit_calibration(*seen, odds / (1 + odds), bins=8)
    curve = []
    own, own_megabases = all_peaks(scores["test"])
    fast = {part: [s[0] for s in scans[part]] for part in scans}
    first_tops = all_peaks(fast["test"])
    beginnings = [
        scan(second, first, encode(text)[: 3 * FAR])
        for header, text in read_sequences(os.path.join(a.data, "splice", "genes_chr1.fa.gz"))
        if bucket(header.split()[1], 100) < 10
    ]
    share = lambda scores, limit: round(float((scores > limit).mean()), 4)
    for rate in (1, 2, 3, 5, 10, 20):
        limits = threshold_for(*first_tops, rate), threshold_for(own, own_megabases, rate)
        curve.append(
            dict(
                rate_test_genes=rate,
                recall_within_50={
                    "fast": share(near([w[0] for w in context["dev"]], 50), limits[0]),
                    "accurate": share(near(inside["dev"], 50), limits[1]),
                },
                starts_of_test_genes_within_400={
                    "fast": share(top_of([b[0] for b in beginnings], 0, 400), limits[0]),
                    "accurate": share(
                        top_of([looked(b, survive) for b in beginnings], 0, 400), limits[1]
                    ),
                },
            )
        )
    figures = dict(
        mcc_dev=windows_mcc(second, first, windows),
        calls_per_mb_strand={
            part: round(
                len(all_peaks([np.where(s > raw, s, NOTHING) for s in scores[part]])[0])
                / (sum(map(len, scores[part])) / 1e6),
                2,
            )
            for part in scores
        },
        **{
            f"recall_true_context_within_{by}": share(near(inside["dev"], by), raw)
            for by in (0, 10, 50)
        },
    )
    limits = [m.quantizer.limit for m in second.modules() if isinstance(m, ConvBlock)]
    macs = second.macs()
    worst = export(first, second, os.path.join(a.out, "promoter.onnx"), genes["test"][0])
    result.update(
        task="promoter",
        threshold=float(1 / (1 + np.exp(-np.interp(raw, *zip(*knots))))),
        threshold_raw_logit=round(raw, 4),
        threshold_rule=(
            f"{a.rate} calls a megabase and strand on the interiors of the calibration genes, int8"
        ),
        knots=knots,
        figures=figures,
        curve=curve,
        macs_per_base=report["macs_per_base"] + macs,
        receptive_field={"left": FAR, "right": FAR},
        activation_limits=[round(float(limit), 4) for limit in limits],
        onnx_max_difference=worst,
        steps=a.steps,
        cpu_minutes=round(minutes, 1),
        first=report,
    )
    with open(os.path.join(a.out, "promoter_second.json"), "w") as out:
        json.dump(result, out, indent=1)
    print(json.dumps({k: v for k, v in result.items() if k != "first"}, indent=1))


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True)
    p.add_argument("--first", required=True, help="folder of promoter.py's output")
    p.add_argument("--out", required=True)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, default=2000)
    p.add_argument("--every", type=int, default=250)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--decay", type=float, default=0.05)
    p.add_argument("--dropout", type=float, default=0.2, help="of what lies far")
    p.add_argument("--core", type=int, default=192, help="core promoters a step")
    p.add_argument("--soft", type=float, default=0.7, help="share of the teachers in a label")
    p.add_argument("--errors", type=float, default=0.1, help="most substitutions a base")
    p.add_argument("--scan", type=float, default=1.0, help="weight of scanning, core windows = 1")
    p.add_argument("--peak", type=float, default=0.03, help="weight of a peak a Mb, promoters = 1")
    p.add_argument("--veto", type=float, default=1.0, help="weight of a gain by surroundings")
    p.add_argument("--keep", type=float, default=0.99, help="calls that survive the first look")
    p.add_argument("--margin", type=float, default=0.5, help="by which more survive")
    p.add_argument("--rate", type=float, default=3.0, help="calls a Mb and strand by default")
    p.add_argument("--density", type=float, default=1e-5, help="as in promoter.py")
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    first, report = first_of(a.first)
    windows = Windows(a.data)
    windows.mine(a.data)
    saved = torch.load(os.path.join(a.first, "promoter_checkpoint.pt"), weights_only=False)
    teachers = []
    for weights in saved["done"]:
        teacher = Promoter(TEACHER_FRONT, TEACHER_TAIL)
        teacher.load_state_dict(weights)
        teachers.append(teacher.eval())
    torch.manual_seed(a.seed)
    model = Second(dropout=a.dropout)
    print("MAC a base", report["macs_per_base"], "+", model.macs(), "reach", FAR, flush=True)
    state, path = dict(step=0, minutes=0.0), os.path.join(a.out, "promoter_second.pt")
    if os.path.exists(path):
        state = torch.load(path, weights_only=False)
    genes = Genes(a.data, first, windows)
    second = train(a, model, first, teachers, windows, genes, state)
    finish(a, second, first, windows, report, state["minutes"])


if __name__ == "__main__":
    main()
