"""Trains the promoter network: a logit at every base for "a transcription start site (TSS) at this base, on this strand".

What: a stack of full-resolution convolutions (no stride, no pooling), so that both strands are scanned base by base
  alike. A GUE core-promoter window is 70 nt with its TSS at index 34; its score is the output at index 34.
Data: `promoter/gue_prom_core_all_train.csv`, half promoters. Most windows of a step are bare (zero padding around them),
  the others are pasted into genomic sequence, as inside a read. Negatives for scanning are all bases of those genomic
  crops, from the genes of `splice/genes_chr1.fa.gz` beyond their first 1,000 nt, on both strands. The balanced windows
  alone would make a scanner call every CpG-rich stretch; the genomic bases are what cleans its tail.
Splits, all by hash: windows of bucket 0 (a tenth) are for calibration and choices, never trained on; the dev files are
  for the report. Genes: symbol bucket 0..9 test, 10..19 calibration and threshold, the rest training. The chr9
  megabase is never trained on.
Batch statistics are frozen after a quarter of the training, because windows and genome differ in them. From four fifths
  of the epochs on: int8 fake quantisation.
Caution: the network sees 49 nt on each side, 14 more than a window has, so it can learn what surrounds a training window
  (padding, a seam). Recall to believe is `recall_true_context_*`, measured in real surroundings.

    python promoter.py --data DIR --out DIR        about 6 minutes on one core; goes on from OUT/promoter_checkpoint.pt
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
import torch.nn.functional as F
from torch import nn

from quantize_aware import ConvBlock, Head, calibrate, macs_per_base, parameters, set_mode

# outputs, width, dilation of each convolution; a residual is added where inputs and outputs are equal in number
LAYERS = [(16, 15, 1), (16, 7, 1), (16, 7, 2), (16, 7, 4), (16, 7, 1), (16, 7, 2), (16, 7, 4)]
TSS = 34
WINDOW = 70
TSS_300 = 250  # in the 300-nt windows, as their cores' places among the 70-nt windows show
START_ZONE = 1000  # bases after a gene's start that are never negatives
FLANK = 60
MERGE = 100  # calls closer than this are one call

CODE = np.full(256, 4, np.uint8)
for _i, _b in enumerate("ACGT"):
    CODE[ord(_b)] = CODE[ord(_b.lower())] = _i
ONE_HOT = torch.eye(5)[:, :4]


def encode(text):
    """Bases as 0..3, anything else as 4."""
    return CODE[np.frombuffer(text.encode(), np.uint8)]


def one_hot(codes):
    """[B, L] codes to [B, 4, L]; code 4 is a column of zeros."""
    return ONE_HOT[torch.as_tensor(codes, dtype=torch.long)].transpose(1, 2).contiguous()


def reverse_complement(codes):
    return np.array([3, 2, 1, 0, 4], np.uint8)[codes[::-1]]


def bucket(text, count):
    return int(hashlib.md5(text.encode()).hexdigest(), 16) % count


class Promoter(nn.Module):
    def __init__(self, layers=LAYERS):
        super().__init__()
        self.blocks = nn.ModuleList()
        inputs = 4
        for outputs, width, dilation in layers:
            self.blocks.append(ConvBlock(inputs, outputs, width, dilation))
            inputs = outputs
        self.head = Head(inputs, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x, x if block.conv.in_channels == block.conv.out_channels else None)
        return self.head(x)


def read_windows(path):
    rows = list(csv.DictReader(open(path)))
    codes = np.array([encode(r["sequence"]) for r in rows])
    labels = np.array([int(r["label"]) for r in rows], np.float32)
    return codes, labels, [r["sequence"] for r in rows]


def read_fasta(path):
    name, parts = None, []
    for line in gzip.open(path, "rt"):
        if line.startswith(">"):
            if name is not None:
                yield name, "".join(parts)
            name, parts = line[1:].strip(), []
        else:
            parts.append(line.strip())
    yield name, "".join(parts)


def read_genes(data):
    """Interiors of the chr1 genes on both strands, by split."""
    split = {"train": [], "calibration": [], "test": []}
    for header, text in read_fasta(os.path.join(data, "splice", "genes_chr1.fa.gz")):
        b = bucket(header.split()[1], 100)
        codes = encode(text)[START_ZONE:]
        if len(codes) > 2 * START_ZONE:
            part = "test" if b < 10 else "calibration" if b < 20 else "train"
            split[part] += [codes, reverse_complement(codes)]
    return split


def read_chr9(data):
    """The megabase, and masks of both strands: False within 1 kb of an annotated start of a gene, of a transcript."""
    folder = os.path.join(data, "genome", "human_GRCh38_chr9_1_1000000")
    ((_, text),) = read_fasta(folder + ".fa.gz")
    starts = {"gene": [], "transcript": []}
    for line in gzip.open(folder + ".gtf.gz", "rt"):
        f = line.split("\t")
        if len(f) > 6 and f[2] in starts:
            starts[f[2]].append((int(f[3]) - 1 if f[6] == "+" else int(f[4]) - 1, f[6], "protein_coding" in f[8]))
    return encode(text), starts


@torch.no_grad()
def score_windows(model, codes, at=TSS):
    model.eval()
    return torch.cat([model(one_hot(c))[:, 0, at] for c in np.array_split(codes, max(1, len(codes) // 1024))]).numpy()


@torch.no_grad()
def scan(model, codes, piece=16384, margin=128):
    """Logits of a whole sequence."""
    model.eval()
    out = np.empty(len(codes), np.float32)
    for a in range(0, len(codes), piece):
        b = min(len(codes), a + piece)
        lo, hi = max(0, a - margin), min(len(codes), b + margin)
        out[a:b] = model(one_hot(codes[None, lo:hi]))[0, 0, a - lo:b - lo].numpy()
    return out


def peaks(scores, keep=None, floor=-1e9):
    """Highest base of each cluster, greedily from the top, none within MERGE of a higher one. Scores and places.

    The number of these above a threshold is the number of calls at it, for every threshold at once.
    """
    s = np.where(keep, scores, -np.inf) if keep is not None else scores
    local = np.flatnonzero((s > floor) & (s >= np.r_[-np.inf, s[:-1]]) & (s > np.r_[s[1:], -np.inf]))
    order = local[np.argsort(-s[local], kind="stable")]
    taken = np.zeros(len(s), bool)
    result = []
    for i in order:
        if not taken[i]:
            result.append(i)
            taken[max(0, i - MERGE):i + MERGE + 1] = True
    return s[result], np.array(result, int)


def mcc(label, call):
    y = label > 0.5
    tp, tn, fp, fn = (float((y & call).sum()), float((~y & ~call).sum()), float((~y & call).sum()), float((y & ~call).sum()))
    return (tp * tn - fp * fn) / math.sqrt(max(1.0, (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


def best_threshold(label, score):
    """Threshold of the highest MCC, smoothed: the mean of all that come within .003 of it."""
    grid = np.quantile(score, np.linspace(0.2, 0.8, 241))
    m = np.array([mcc(label, score > t) for t in grid])
    return float(grid[m >= m.max() - 0.003].mean())


def call_peaks(model, sequences, floor):
    """Peaks of all sequences together, and their length in Mb."""
    tops, bases = [], 0
    for codes in sequences:
        tops.append(peaks(scan(model, codes), floor=floor)[0])
        bases += int((codes < 4).sum())
    return np.sort(np.concatenate(tops))[::-1], bases / 1e6


def in_context(windows, genes, rng):
    """Windows in the midst of genomic sequence, the TSS at TSS + FLANK."""
    out = crops(genes, len(windows), WINDOW + 2 * FLANK, rng)
    out[:, FLANK:FLANK + WINDOW] = windows
    return out


def threshold_for(tops, megabases, rate):
    """The score above which `rate` calls a megabase remain."""
    return float(tops[int(round(rate * megabases))])


def crops(genes, count, size, rng):
    lengths = np.array([len(g) for g in genes], float)
    out = np.empty((count, size), np.uint8)
    for k, g in enumerate(rng.choice(len(genes), count, p=lengths / lengths.sum())):
        at = rng.integers(0, max(1, len(genes[g]) - size))
        piece = genes[g][at:at + size]
        out[k] = 4
        out[k, :len(piece)] = piece
    return out


def fit_calibration(positive, bases, density, bins=12):
    """Knots (raw logit, calibrated logit) of the log odds that a base is a TSS, from scores of TSS and of all bases.

    Bins hold equal numbers of positives; pooled adjacent violators make it monotone.
    """
    edges = np.quantile(positive, np.linspace(0, 1, bins + 1)[1:-1])
    edges = np.r_[edges, np.quantile(positive, 0.98)]
    p = np.bincount(np.searchsorted(edges, positive), minlength=bins + 1) + 0.5
    n = np.bincount(np.searchsorted(edges, bases), minlength=bins + 1) + 0.5
    at = [float(np.median(positive[np.searchsorted(edges, positive) == k])) for k in range(bins + 1)]
    blocks = []  # positives, negatives, bins
    for k in range(bins + 1):
        blocks.append([p[k], n[k], [k]])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            x = blocks.pop()
            blocks[-1] = [blocks[-1][0] + x[0], blocks[-1][1] + x[1], blocks[-1][2] + x[2]]
    knots = []
    for pos, neg, members in blocks:
        value = math.log(pos / p.sum()) - math.log(neg / n.sum()) + math.log(density / (1 - density))
        knots.append((float(np.mean([at[k] for k in members])), value))
    # Beyond the ends the slope is one, so that the map stays strictly increasing.
    knots = [(knots[0][0] - 30, knots[0][1] - 30)] + knots + [(knots[-1][0] + 30, knots[-1][1] + 30)]
    return [[round(x, 4), round(y, 4)] for x, y in knots]


def receptive_field(layers):
    return sum(d * (w // 2) for _, w, d in layers)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--decay", type=float, default=0.02)
    p.add_argument("--bare", type=int, default=208, help="bare windows a step")
    p.add_argument("--crops", type=int, default=48, help="genomic crops a step, each with a window pasted in")
    p.add_argument("--crop", type=int, default=352)
    p.add_argument("--genomic", type=float, default=0.6, help="weight of a genomic base in the genomic loss")
    p.add_argument("--scale", type=float, default=0.15, help="weight of the genomic loss, windows = 1")
    p.add_argument("--freeze", type=float, default=0.25, help="part of the training with batch statistics")
    p.add_argument("--rate", type=float, default=1.0, help="calls a megabase and strand at the default threshold")
    p.add_argument("--density", type=float, default=1e-5, help="TSS a base and strand that probabilities are calibrated for")
    p.add_argument("--arch", default=None)
    a = p.parse_args()
    layers = json.loads(a.arch) if a.arch else LAYERS
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rng = np.random.default_rng(1)
    os.makedirs(a.out, exist_ok=True)
    begin = time.time()

    folder = os.path.join(a.data, "promoter")
    codes, labels, texts = read_windows(os.path.join(folder, "gue_prom_core_all_train.csv"))
    held = np.array([bucket(t, 10) == 0 for t in texts])
    train_x, train_y, cal_x, cal_y = codes[~held], labels[~held], codes[held], labels[held]
    genes = read_genes(a.data)
    print("genes Mb:", {k: round(sum(map(len, v)) / 1e6, 2) for k, v in genes.items()}, flush=True)

    model = Promoter(layers)
    reach = receptive_field(layers)
    print("MAC a base", macs_per_base(model), "reach", reach, flush=True)
    per_step = a.bare + a.crops
    per_epoch = len(train_x) // per_step
    steps, freeze_from, int8_epoch = a.epochs * per_epoch, int(a.freeze * a.epochs * per_epoch), int(0.8 * a.epochs)
    opt = torch.optim.AdamW(model.parameters(), a.lr, weight_decay=a.decay)
    index = np.arange(WINDOW)
    cal_context = in_context(cal_x, genes["calibration"], np.random.default_rng(2))
    quick = genes["calibration"][:12]
    # The windows are balanced, the genome is not: with this shift both losses agree on one score.
    shift = math.log(a.genomic * a.crop * 1.5)

    checkpoint = os.path.join(a.out, "promoter_checkpoint.pt")
    first, spent = 0, 0.0
    if os.path.exists(checkpoint):
        saved = torch.load(checkpoint, weights_only=False)
        model.load_state_dict(saved["model"])
        opt.load_state_dict(saved["opt"])
        rng.bit_generator.state = saved["rng"]
        first, spent = saved["epoch"], saved["spent"]
        set_mode(model, "int8" if first > int8_epoch else "float")
    log = open(os.path.join(a.out, "promoter_log.csv"), "a" if first else "w")
    if not first:
        print("step,minutes,loss_windows,loss_genomic,mcc_bare,mcc_context,recall_5_per_mb,threshold_5_per_mb", file=log)

    def batch(pick):
        x = crops(genes["train"], a.crops, a.crop, rng)
        place = rng.integers(0, a.crop - WINDOW + 1, a.crops)
        x[np.arange(a.crops)[:, None], place[:, None] + index] = train_x[pick[a.bare:]]
        y = train_y[pick]
        # A base is a negative unless it lies near a pasted promoter's TSS.
        far = np.abs(np.arange(a.crop)[None] - (place + TSS)[:, None]) > 60
        negative = (far | (y[a.bare:, None] < 0.5)) & (x < 4)
        return (one_hot(train_x[pick[:a.bare]]), one_hot(x), torch.as_tensor(y), torch.as_tensor(place + TSS),
                torch.as_tensor(negative))

    for epoch in range(first, a.epochs):
        order = rng.permutation(len(train_x))
        if epoch == int8_epoch:
            calibrate(model, [t for k in range(16) for t in batch(order[k * per_step:(k + 1) * per_step])[:2]])
            set_mode(model, "int8")
        sums = np.zeros(2)
        for i in range(per_epoch):
            step = epoch * per_epoch + i
            for g in opt.param_groups:
                g["lr"] = a.lr * min(1, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))
            bare, crop, y, tss, negative = batch(order[i * per_step:(i + 1) * per_step])
            model.train()
            if step >= freeze_from:
                for block in model.blocks:
                    block.bn.eval()
            s_bare = model(bare)[:, 0, TSS]
            s_crop = model(crop)[:, 0]
            pasted = s_crop[torch.arange(a.crops), tss]
            loss_w = F.binary_cross_entropy_with_logits(torch.cat([s_bare, pasted]) + shift, y)
            # Summed over the bases, not averaged, so that rare high scores weigh.
            loss_g = (a.genomic * F.softplus(s_crop[negative]).sum() + F.softplus(-pasted[y[a.bare:] > 0.5]).sum()) / a.crops
            loss = loss_w + a.scale * loss_g
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            opt.step()
            sums += loss_w.item(), loss_g.item()
        s, c = score_windows(model, cal_x), score_windows(model, cal_context, TSS + FLANK)
        t = best_threshold(cal_y, s)
        tops, mb = call_peaks(model, quick, np.quantile(c[cal_y > 0], 0.3))
        t5 = threshold_for(tops, mb, 5)
        minutes = (spent + time.time() - begin) / 60
        row = (f"{(epoch + 1) * per_epoch},{minutes:.2f},{sums[0] / per_epoch:.4f},{sums[1] / per_epoch:.4f},"
               f"{mcc(cal_y, s > t):.4f},{mcc(cal_y, c > t):.4f},{(c[cal_y > 0] > t5).mean():.4f},{t5:.3f}")
        print(row, file=log, flush=True)
        print(row, flush=True)
        torch.save(dict(model=model.state_dict(), opt=opt.state_dict(), rng=rng.bit_generator.state, epoch=epoch + 1,
                        spent=minutes * 60), checkpoint)

    finish(a, model, genes, cal_x, cal_y, cal_context, texts, layers, spent + time.time() - begin)


def finish(a, model, genes, cal_x, cal_y, cal_context, texts, layers, seconds):
    """Calibration, thresholds, figures, export."""
    folder = os.path.join(a.data, "promoter")
    set_mode(model, "int8")
    bare, context = score_windows(model, cal_x), score_windows(model, cal_context, TSS + FLANK)
    window_raw = best_threshold(cal_y, bare)
    scores = np.concatenate([scan(model, g) for g in genes["calibration"]])
    tops, mb = call_peaks(model, genes["calibration"], -1e9)
    raw = threshold_for(tops, mb, a.rate)
    knots = fit_calibration(context[cal_y > 0], scores, a.density)

    curve = [dict(rate=r, raw_logit=round(threshold_for(tops, mb, r), 3),
                  recall_bare=round(float((bare[cal_y > 0] > threshold_for(tops, mb, r)).mean()), 4),
                  recall_in_context=round(float((context[cal_y > 0] > threshold_for(tops, mb, r)).mean()), 4))
             for r in (1, 2, 3, 4, 5, 7, 10, 20, 50, 100)]

    chr9, starts = read_chr9(a.data)
    trained = set(texts)
    figures = {}
    for mode in ("float", "int8"):
        set_mode(model, mode)
        f = figures[mode] = {"rows_dev": {}, "mcc_dev": {}, "recall_dev_positives_bare": {}}
        for part in ("all", "notata", "tata"):
            x, y, names = read_windows(os.path.join(folder, f"gue_prom_core_{part}_dev.csv"))
            # "all" is the union of the two others, split anew: some of their dev rows were trained on
            unseen = np.array([n not in trained for n in names])
            x, y = x[unseen], y[unseen]
            f["rows_dev"][part] = len(y)
            s = score_windows(model, x)
            f["mcc_dev"][part] = round(mcc(y, s > window_raw), 4)
            f["recall_dev_positives_bare"][part] = round(float((s[y > 0.5] > raw).mean()), 4)
            if part == "all":
                c = score_windows(model, in_context(x, genes["test"], np.random.default_rng(3)), TSS + FLANK)
                f["mcc_dev_in_context"] = round(mcc(y, c > window_raw), 4)
                f["recall_dev_positives_in_context"] = round(float((c[y > 0.5] > raw).mean()), 4)
        # 300-nt windows have the true surroundings; those whose core was trained on do not count
        for part in ("all", "tata"):
            rows = list(csv.DictReader(open(os.path.join(folder, f"gue_prom_300_{part}_dev.csv"))))
            rows = [r["sequence"] for r in rows if r["label"] == "1" and r["sequence"][TSS_300 - TSS:TSS_300 - TSS + WINDOW] not in trained]
            with torch.no_grad():
                s = torch.cat([model(one_hot(c))[:, 0] for c in np.array_split(np.array([encode(r) for r in rows]), 8)]).numpy()
            for reach in (0, 10, 50):
                f[f"recall_true_context_{part}_within_{reach}"] = round(float((s[:, TSS_300 - reach:TSS_300 + reach + 1].max(1) > raw).mean()), 4)
            f[f"true_context_{part}_rows"] = len(rows)
        f["calls_per_mb_strand"] = {}
        for part in ("calibration", "test"):
            tops, mb = call_peaks(model, genes[part], raw)
            f["calls_per_mb_strand"][part + "_genes"] = round(len(tops) / mb, 2)
        hits = {(50, True): 0, (100, True): 0, (50, False): 0, (100, False): 0}
        counts = {"gene": 0, "transcript": 0}
        bases = {"gene": 0, "transcript": 0}
        for strand in "+-":
            codes = chr9 if strand == "+" else reverse_complement(chr9)
            flip = (lambda i: i) if strand == "+" else (lambda i: len(chr9) - 1 - i)
            s = scan(model, codes)
            for kind in counts:
                keep = codes < 4
                for at, _, _ in starts[kind]:
                    keep[max(0, flip(at) - 1000):flip(at) + 1001] = False
                counts[kind] += len(peaks(s, keep, raw)[0])
                bases[kind] += int(keep.sum())
            for at, sign, coding in starts["gene"]:
                if sign == strand:
                    for reach in (50, 100):
                        hits[reach, coding] += int(s[max(0, flip(at) - reach):flip(at) + reach + 1].max() > raw)
        for kind in counts:
            f["calls_per_mb_strand"][f"chr9_beyond_1kb_of_{kind}_starts"] = round(counts[kind] / bases[kind] * 1e6, 2)
        coding = sum(c for _, _, c in starts["gene"])
        f["chr9_gene_starts"] = {"coding": coding, "coding_within_50": hits[50, True], "coding_within_100": hits[100, True],
                                 "other": len(starts["gene"]) - coding, "other_within_50": hits[50, False],
                                 "other_within_100": hits[100, False]}

    set_mode(model, "float")
    model.eval()
    path = os.path.join(a.out, "promoter.onnx")
    torch.onnx.export(model, (one_hot(cal_x[:1]),), path, input_names=["sequence"], output_names=["logits"],
                      opset_version=17, dynamo=False, dynamic_axes={"sequence": {2: "T"}, "logits": {2: "T"}})
    import onnxruntime
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for length in (1, 70, 333, 5000):
        x = one_hot(genes["test"][0][None, :length])
        with torch.no_grad():
            worst = max(worst, float(np.abs(session.run(None, {"sequence": x.numpy()})[0] - model(x).numpy()).max()))
    assert worst < 1e-3, worst

    def probability(score):
        return float(1 / (1 + np.exp(-np.interp(score, *zip(*knots)))))

    reach = receptive_field(layers)
    report = dict(
        task="promoter", output="logit at a base: a TSS at this base, on this strand",
        threshold=probability(raw), threshold_raw_logit=round(raw, 4),
        threshold_rule=f"{a.rate} calls a megabase and strand on the interiors of the calibration genes, int8",
        window_threshold=probability(window_raw), window_threshold_raw_logit=round(window_raw, 4),
        window_threshold_rule="best MCC on the calibration tenth of gue_prom_core_all_train, bare windows, int8",
        calibration={"knots": knots, "meaning": "raw logit -> logit of the probability that the base is a TSS, in sequence with "
                     f"one TSS per {round(1 / a.density)} bases of a strand"},
        curve_calibration=curve, merge_nt=MERGE, figures=figures,
        split="windows: md5(sequence) mod 10 == 0 calibration, dev files report only; genes: md5(symbol) mod 100 < 10 test, "
              "< 20 calibration; both strands, without the first 1,000 nt; chr9 never trained on, but the default rate of calls "
              "was lowered from 4 to 1 after its alternative promoters gave 12.7 a megabase",
        megabases_both_strands={k: round(sum(map(len, v)) / 1e6, 2) for k, v in genes.items()},
        activation_limits=[round(float(b.quantizer.limit), 4) for b in model.blocks], onnx_max_difference=worst,
        layers=[list(x) for x in layers], parameters=parameters(model), macs_per_base=macs_per_base(model),
        receptive_field={"left": reach, "right": reach}, epochs=a.epochs, seconds=round(seconds))
    with open(os.path.join(a.out, "promoter.json"), "w") as out:
        json.dump(report, out, indent=1)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
