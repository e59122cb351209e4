"""Pre-trains a small language model of 5'UTRs and fine-tunes it: what is each pre-training task
worth?

What: the architecture of UTR-LM (Chu et al. 2024) at 4 layers x 64, 4 heads of 16: pre-norm,
  rotary, erf GELU, tokens `<cls>` bases `<eos>`, embeddings times .88, head of the row of <cls>
  64 - 40 - outputs. Names of tensors are the published ones, so that `convert/utrlm.py` reads the
  checkpoints. The published size, 6 x 128 with 16 heads, trains at a quarter of the speed.
Pre-training: 15 % of bases masked; the structure of every base (three classes); the minimum free
  energy from <cls>; labels by ViennaRNA, kept in OUT/folds.json. Five variants: all three tasks,
  each one switched off, none at all.
Data: `expression/mrl_human25k.csv`, `mrl_random16k.csv`, `te_endogenous.tsv` (100 nt without the
  vector's ends), and 2,000 windows of 174 nt of the chr1 genes, none of what is held out below.
  No sequence of `ires_174.csv` is pre-trained on.
Tasks:
  mrl   mean ribosome load of either library; md5(sequence) mod 100 < 20 held out (every third row
        of it is scored); r2
  te    log TE in three cell types; md5(gene) mod 100 < 20 held out; Spearman by gene, the mean of
        the windows of a gene, averaged over the cell types
  ires  five folds by source and shared 50-mer (`ires_data.py`); area under precision and recall of
        all folds' held-out rows
Frozen: regressions on a sequence's rows as pre-training left them: of <cls>, the mean, and the mean
  of either reading frame, counted from the end. All five variants.
Fine-tuned: all weights and the head, a few steps; of `ires` a second output is the log activity.
  With all pre-training and with none; float (PyTorch) and packed int8, through `convert/utrlm.py`.

    python utrlm_small.py --data DATA --out OUT --strandline ../../target/release/strandline

About 10 minutes on one core with bfloat16 instructions. It keeps what is finished in OUT and goes
on from there. OUT/utrlm_small.json is the report.
"""

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import ires_data
from packed import Packed
from scoring import average_precision, r2, spearman
from sequences import bucket, encode, read_sequences
from training import descend, replace, set_rate

LAYERS, WIDTH, HEADS, HIDDEN = 4, 64, 4, 40
PAD, EOS, UNKNOWN, CLS, MASK, TOKENS = 0, 1, 2, 7, 8, 10
TOKEN = np.array([3, 5, 4, 6, UNKNOWN], np.int64)  # of base codes: A C G T, no base
MASKED, KEPT = 0.15, 1 - 0.15 * 0.8  # share of bases; factor of embeddings without masks
BASE = 10_000.0
PARTS = ("bases", "structure", "energy")
VARIANTS = {
    "all three": PARTS,
    "without masked bases": ("structure", "energy"),
    "without structure": ("bases", "energy"),
    "without energy": ("bases", "structure"),
    "no pre-training": (),
}
TUNED = ("all three", "no pre-training")
ROUNDED = ("all three",)  # variants with int8 figures of IRES, five files each
CELLS = ("MUSCLE", "PC3", "HEK293")
LIBRARIES = ("random16k", "human25k")
END = 20  # of the vector, at both sides of a window with a TE
WINDOW, WINDOWS = 174, 2000  # pieces of genes
BATCH = 3328  # tokens
SAMPLE = 80  # sequences that scales are chosen on


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(WIDTH, WIDTH) for _ in range(4)
        )

    def forward(self, x, cos, sin):
        parts = (self.q_proj, self.k_proj, self.v_proj)
        rows = F.linear(x, torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
        split = lambda r: r.unflatten(2, (HEADS, -1)).transpose(1, 2)
        q, k, v = (split(r) for r in rows.chunk(3, 2))
        half = q.shape[3] // 2
        turn = lambda r: r * cos + torch.cat([-r[..., half:], r[..., :half]], 3) * sin
        score = turn(q * (2 * half) ** -0.5) @ turn(k).transpose(2, 3)
        return self.out_proj((score.softmax(3) @ v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.self_attn = Attention()
        self.self_attn_layer_norm, self.final_layer_norm = (nn.LayerNorm(WIDTH) for _ in "12")
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.self_attn_layer_norm(x), cos, sin)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class MaskedHead(nn.Module):
    """Logits of tokens; the last weights are those of the embedding."""

    def __init__(self):
        super().__init__()
        self.dense, self.layer_norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.bias = nn.Parameter(torch.zeros(TOKENS))

    def forward(self, x, table):
        return F.linear(self.layer_norm(F.gelu(self.dense(x))), table, self.bias)


class UtrLm(nn.Module):
    def __init__(self, outputs=0, dropout=0.2):
        super().__init__()
        self.embed_tokens = nn.Embedding(TOKENS, WIDTH)
        nn.init.normal_(self.embed_tokens.weight, std=0.5)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.emb_layer_norm_after = nn.LayerNorm(WIDTH)
        self.lm_head = MaskedHead()
        self.structure_linear, self.supervised_linear = nn.Linear(WIDTH, 3), nn.Linear(WIDTH, 1)
        self.dropout = dropout
        if outputs:
            self.fc, self.output = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, outputs)

    def rows(self, tokens):
        """[B, T] tokens of one length, without padding, to [B, T, width]."""
        masked = tokens == MASK
        share = masked.float().mean(1)[:, None, None]
        x = self.embed_tokens(tokens) * ~masked[..., None] * (KEPT / (1 - share))
        half = WIDTH // HEADS // 2
        frequency = BASE ** (-torch.arange(half) / half)
        angle = torch.arange(tokens.shape[1])[:, None] * frequency.repeat(2)
        fast = torch.is_autocast_enabled("cpu")
        cos, sin = (t.bfloat16() if fast else t for t in (angle.cos(), angle.sin()))
        for layer in self.layers:
            x = layer(x, cos, sin)
        return self.emb_layer_norm_after(x)

    def forward(self, tokens):
        """[B, outputs]."""
        hidden = F.relu(self.fc(self.rows(tokens)[:, 0]))
        return self.output(F.dropout(hidden, self.dropout, self.training))

    def published(self):
        """Tensors without the heads of pre-training."""
        heads = ("lm_head", "structure_linear", "supervised_linear")
        return {k: v for k, v in self.state_dict().items() if not k.startswith(heads)}


def tokens_of(codes):
    """[B, L] base codes to [B, L + 2]."""
    return torch.from_numpy(np.pad(TOKEN[codes], ((0, 0), (1, 1)), constant_values=(CLS, EOS)))


def fast():
    return torch.autocast("cpu", torch.bfloat16)


def rows_of(data, name, delimiter=","):
    with open(os.path.join(data, "expression", name)) as lines:
        return list(csv.DictReader(lines, delimiter=delimiter))


class Set:
    """Sequences by length, with their labels [n, outputs] (NaN: none) and groups."""

    def __init__(self, texts, labels=None, groups=None):
        self.texts, self.labels, self.groups = texts, labels, groups
        self.codes = [encode(t) for t in texts]
        by = {}
        for i, t in enumerate(texts):
            by.setdefault(len(t), []).append(i)
        self.by_length = {n: np.array(at) for n, at in by.items()}

    def draw(self, rng, allowed=None):
        """Numbers of a batch of sequences of one length."""
        lengths = list(self.by_length)
        size = np.array([n * len(self.by_length[n]) for n in lengths], float)
        length = lengths[rng.choice(len(lengths), p=size / size.sum())]
        at = self.by_length[length]
        if allowed is not None:
            at = at[allowed[at]]
        return rng.choice(at, max(1, min(len(at), BATCH // (length + 2))), replace=False)

    def tokens(self, at):
        return tokens_of(np.stack([self.codes[i] for i in at]))


def ribosome_load(data):
    texts, values = [], []
    for column, name in enumerate(LIBRARIES):
        for row in rows_of(data, f"mrl_{name}.csv"):
            texts.append(row["utr"])
            values.append([np.nan, np.nan])
            values[-1][column] = float(row["mrl"])
    return Set(texts, np.array(values, np.float32)), np.array([bucket(t) < 20 for t in texts])


def translation_efficiency(data):
    rows = rows_of(data, "te_endogenous.tsv", "\t")
    values = np.full((len(rows), len(CELLS)), np.nan, np.float32)
    for i, row in enumerate(rows):
        values[i, CELLS.index(row["cell"])] = math.log(float(row["te"]))
    genes = np.array([r["gene"] for r in rows])
    held = np.array([bucket(g) < 20 for g in genes])
    return Set([r["utr"][END:-END] for r in rows], values, genes), held


def folds_of(texts, path):
    """{text: (structure, energy)} by ViennaRNA; the file keeps what was folded."""
    import RNA

    known = json.load(open(path)) if os.path.exists(path) else {}
    missing = [t for t in texts if t not in known]
    for i, text in enumerate(missing):
        known[text] = RNA.fold(text)
        if i % 5000 == 4999 or i + 1 == len(missing):
            with open(path + ".new", "w") as file:
                json.dump(known, file)
            os.replace(path + ".new", path)
    return known


def unlabelled(a):
    """Texts to pre-train on, and 600 held-out ones."""
    train, held = set(), set()
    for data, out in (ribosome_load(a.data), translation_efficiency(a.data)):
        for text, away in zip(data.texts, out):
            (held if away else train).add(text)
    rng = np.random.default_rng(5)
    genes = [
        s
        for header, s in read_sequences(os.path.join(a.data, "splice", "genes_chr1.fa.gz"))
        if bucket(header.split()[1]) >= 20 and len(s) > WINDOW
    ]
    for at in rng.integers(0, len(genes), WINDOWS):
        start = rng.integers(0, len(genes[at]) - WINDOW)
        piece = genes[at][start : start + WINDOW].upper()
        if set(piece) <= set("ACGT"):
            train.add(piece)
    held = sorted(held - train)
    return sorted(train - set(held)), [held[i] for i in rng.permutation(len(held))[:600]]


def labels_of(texts, folds):
    structure = [np.array(["(.)".index(c) for c in folds[t][0]]) for t in texts]
    energy = np.array([folds[t][1] / len(t) for t in texts], np.float32)
    return structure, energy


def pretrain(a, parts, path, texts, held):
    """A checkpoint of these tasks at `path`, and figures of the held-out texts beside it."""
    if os.path.exists(path):
        return
    folds = folds_of(texts + held, os.path.join(a.out, "folds.json"))
    data, (structure, energy) = Set(texts), labels_of(texts, folds)
    mean, std = energy.mean(), energy.std()
    torch.manual_seed(a.seed)
    model, begin = UtrLm(), time.process_time()
    opt = torch.optim.AdamW(model.parameters(), a.lr, weight_decay=0.01)
    half = path + ".half"
    first = 0
    if os.path.exists(half):
        saved = torch.load(half, weights_only=True)
        model.load_state_dict(saved["model"])
        opt.load_state_dict(saved["opt"])
        first = saved["step"]
    for step in range(first, a.steps):
        rng = np.random.default_rng((a.seed, step))
        set_rate(opt, a.lr, 100, step, a.steps)
        at = data.draw(rng)
        true = data.tokens(at)
        count = math.ceil(MASKED * (true.shape[1] - 2))
        where = 1 + rng.random((len(at), true.shape[1] - 2)).argsort(1)[:, :count]
        where = torch.from_numpy(where)
        seen = true.scatter(1, where, MASK) if "bases" in parts else true
        with fast():
            rows = model.rows(seen)
            loss = 0.0
            if "bases" in parts:
                picked = rows.gather(1, where[..., None].expand(-1, -1, WIDTH))
                logits = model.lm_head(picked, model.embed_tokens.weight).float()
                loss += F.cross_entropy(logits.flatten(0, 1), true.gather(1, where).flatten())
            if "structure" in parts:
                logits = model.structure_linear(rows[:, 1:-1]).float()
                label = torch.from_numpy(np.stack([structure[i] for i in at]))
                loss += F.cross_entropy(logits.flatten(0, 1), label.flatten())
            if "energy" in parts:
                label = torch.from_numpy((energy[at] - mean) / std)
                loss += F.mse_loss(model.supervised_linear(rows[:, 0])[:, 0].float(), label)
        descend(opt, model, loss)
        if step % 300 == 299:
            state = dict(model=model.state_dict(), opt=opt.state_dict(), step=step + 1)
            replace(half, state)
            minutes = (time.process_time() - begin) / 60
            print(f"{path} {step + 1} {loss.item():.4f} {minutes:.1f} min", flush=True)
    replace(path, model.state_dict())
    with open(path + ".json", "w") as file:
        json.dump(held_out(model.eval(), held, folds), file)


@torch.no_grad()
def held_out(model, texts, folds):
    """Accuracy of masked bases and of structure, correlation of energy, on texts of 50 nt."""
    texts = [t for t in texts if len(t) == 50]
    structure, energy = labels_of(texts, folds)
    true = Set(texts).tokens(range(len(texts)))
    rng = np.random.default_rng(0)
    where = torch.from_numpy(1 + rng.random((len(texts), 50)).argsort(1)[:, :8])
    picked = model.rows(true.scatter(1, where, MASK)).gather(
        1, where[..., None].expand(-1, -1, WIDTH)
    )
    called = model.lm_head(picked, model.embed_tokens.weight)[..., 3:7].argmax(2) + 3
    rows = model.rows(true)
    found = model.structure_linear(rows[:, 1:-1]).argmax(2).numpy()
    mfe = model.supervised_linear(rows[:, 0])[:, 0].numpy()
    return {
        "masked_bases": round(float((called == true.gather(1, where)).float().mean()), 3),
        "structure": round(float((found == np.stack(structure)).mean()), 3),
        "all_unpaired": round(float((np.stack(structure) == 1).mean()), 3),
        "energy_r": round(float(np.corrcoef(mfe, energy)[0, 1]), 3),
    }


def tune(a, start, data, allowed, loss_of, outputs, steps, path, lr):
    """A checkpoint fine-tuned on the allowed rows. `loss_of(outputs, labels)`; labels are
    standardised with the allowed rows' mean and deviation unless 0 or 1."""
    model = UtrLm(outputs)
    if os.path.exists(path):
        model.load_state_dict(torch.load(path, weights_only=True), strict=False)
        return model.eval()
    torch.manual_seed(a.seed)
    if start:
        model.load_state_dict(torch.load(start, weights_only=True), strict=False)
    opt = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.05)
    begin = time.process_time()
    for step in range(steps):
        rng = np.random.default_rng((a.seed, 1, step))
        set_rate(opt, lr, 30, step, steps)
        at = data.draw(rng, allowed)
        model.train()
        with fast():
            found = model(data.tokens(at))
        loss = loss_of(found.float(), torch.from_numpy(data.labels[at]))
        descend(opt, model, loss)
    print(f"{path} {loss.item():.4f} {(time.process_time() - begin) / 60:.1f} min", flush=True)
    replace(path, model.published())
    return model.eval()


@torch.no_grad()
def predict(model, data, at):
    result = np.empty((len(at), model.output.out_features), np.float32)
    length = np.array([len(data.texts[i]) for i in at])
    for n in np.unique(length):
        rows = np.flatnonzero(length == n)
        for part in np.array_split(rows, -(-len(rows) // 128)):
            result[part] = model(data.tokens(at[part])).numpy()
    return result


def standardised(data, allowed):
    mean, std = np.nanmean(data.labels[allowed], 0), np.nanstd(data.labels[allowed], 0)
    return Set(data.texts, (data.labels - mean) / std, data.groups)


def known_error(found, label):
    """Squared error of the labels that there are."""
    known = ~torch.isnan(label)
    return F.smooth_l1_loss(found[known], label[known])


def ires_loss(found, label):
    logit = F.binary_cross_entropy_with_logits(found[:, 0], label[:, 0])
    return logit + 0.3 * F.smooth_l1_loss(found[:, 1], label[:, 1])


def packed_scores(a, path, texts):
    """What the packed int8 file of a checkpoint gives: converted, packed, scored."""
    folder = Path(path + ".packed")
    file = folder / "model.safetensors"
    if not file.exists():
        folder.mkdir(exist_ok=True)
        convert = Path(__file__).parent.parent / "convert" / "utrlm.py"
        options = ["--out", folder, "--task", "raw", "--heads", str(HEADS)]
        subprocess.run([sys.executable, convert, path, *options, "--longest", "200"], check=True)
        fasta = folder / "sample.fa"
        with open(fasta, "w") as out:
            out.writelines(f">{i}\n{t}\n" for i, t in enumerate(texts[:SAMPLE]))
        command = [a.strandline, "-q", "pack", folder / "model.onnx", "--manifest"]
        command += [folder / "manifest.toml", "--calibrate", fasta, "-o", file]
        subprocess.run(command, check=True)
    return Packed(a.strandline, str(file)).whole(texts)


def load_figures(found, labels):
    return {
        name: round(r2(found[known, c], labels[known, c]), 4)
        for c, name in enumerate(LIBRARIES)
        for known in [~np.isnan(labels[:, c])]
    }


def te_figures(found, labels, genes):
    result = []
    for c in range(len(CELLS)):
        rows = np.flatnonzero(~np.isnan(labels[:, c]))
        group = np.unique(genes[rows], return_inverse=True)[1]
        mean = lambda x: np.bincount(group, x) / np.bincount(group)
        result.append(spearman(mean(found[rows, c]), mean(labels[rows, c])))
    return {"by_cell": [round(v, 3) for v in result], "mean": round(float(np.mean(result)), 4)}


@torch.no_grad()
def frozen_rows(model, data, at):
    """[n, 5 · width]: the rows of <cls>, the mean, and the means of the three frames."""
    result = np.empty((len(at), 5 * WIDTH), np.float32)
    length = np.array([len(data.texts[i]) for i in at])
    for n in np.unique(length):
        rows = np.flatnonzero(length == n)
        for part in np.array_split(rows, -(-len(rows) // 128)):
            with fast():
                found = model.rows(data.tokens(at[part])).float()
            bases = found[:, 1:-1].flip(1)
            means = [bases[:, frame::3].mean(1) for frame in range(3)]
            result[part] = torch.cat([found[:, 0], bases.mean(1), *means], 1).numpy()
    return result


def regression(x, y, train, test, strength):
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(strength)).fit(x[train], y[train]).predict(x[test])


def frozen(a, start):
    """Figures of regressions on frozen rows."""
    torch.manual_seed(a.seed)
    model, result = UtrLm().eval(), {}
    if start:
        model.load_state_dict(torch.load(start, weights_only=True))
    data, held = ribosome_load(a.data)
    at = np.r_[np.flatnonzero(~held)[::3], np.flatnonzero(held)[::3]]
    for task, (data, held), strength in (
        ("mrl", (data, held), 100.0),
        ("te", translation_efficiency(a.data), 3000.0),
    ):
        at = at if task == "mrl" else np.arange(len(held))
        x, y, away = frozen_rows(model, data, at), data.labels[at], held[at]
        found = np.zeros_like(y)
        for c in range(y.shape[1]):
            known = ~np.isnan(y[:, c])
            found[away, c] = regression(x, y[:, c], known & ~away, away, strength)
        if task == "mrl":
            result[task] = load_figures(found[away], y[away])
        else:
            result[task] = te_figures(found[away], y[away], data.groups[at][away])
    rows = ires_data.Rows(a.data)
    x = frozen_rows(model, Set(rows.texts), np.arange(len(rows.texts)))
    found = np.empty(len(x))
    for fold in range(ires_data.FOLDS):
        out = rows.fold == fold
        found[out] = regression(x, rows.label.astype(float), ~out, out, 3000.0)
    result["ires"] = round(average_precision(found, rows.label == 1), 4)
    return result


def variant(a, name, start):
    """Float and int8 figures of one fine-tuned variant; `start` is its checkpoint or None."""
    stem = os.path.join(a.out, name.replace(" ", "_"))
    result = {}
    for task, (data, held), steps, loss_of, figures in (
        ("mrl", ribosome_load(a.data), a.steps_mrl, known_error, load_figures),
        (
            "te",
            translation_efficiency(a.data),
            a.steps_te,
            known_error,
            lambda f, y: te_figures(f, y, data.groups[at]),
        ),
    ):
        at, path = np.flatnonzero(held), f"{stem}_{task}.pt"
        at = at[::3] if task == "mrl" else at
        train = standardised(data, ~held)
        outputs = data.labels.shape[1]
        model = tune(a, start, train, ~held, loss_of, outputs, steps, path, a.lr_tune)
        result[task] = {"float": figures(predict(model, data, at), data.labels[at])}
        if a.strandline:
            scores = packed_scores(a, path, [data.texts[i] for i in at])
            result[task]["int8"] = figures(scores, data.labels[at])
    rows = ires_data.Rows(a.data)
    labels = np.stack([rows.label, rows.activity], 1).astype(np.float32)
    data = Set(rows.texts, labels)
    rounded = a.strandline and name in ROUNDED
    sides = {side: np.empty(len(labels)) for side in ("float",) + ("int8",) * bool(rounded)}
    for fold in range(ires_data.FOLDS):
        at, path = np.flatnonzero(rows.fold == fold), f"{stem}_ires_{fold}.pt"
        model = tune(a, start, data, rows.fold != fold, ires_loss, 2, a.steps_ires, path, a.lr_tune)
        sides["float"][at] = predict(model, data, at)[:, 0]
        if rounded:
            sides["int8"][at] = packed_scores(a, path, [data.texts[i] for i in at])[:, 0]
    result["ires"] = {
        side: round(average_precision(scores, rows.label == 1), 4) for side, scores in sides.items()
    }
    return result


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--strandline", help="the program, full build: also figures of packed files")
    p.add_argument("--steps", type=int, default=500)
    p.add_argument("--steps-mrl", type=int, default=300)
    p.add_argument("--steps-te", type=int, default=60)
    p.add_argument("--steps-ires", type=int, default=30)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--lr-tune", type=float, default=1e-3)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(1)
    os.makedirs(a.out, exist_ok=True)
    begin = time.process_time()
    texts, held = unlabelled(a)
    print(len(texts), "sequences to pre-train on", flush=True)
    report = {"variants": {}, "options": {k: v for k, v in vars(a).items() if "step" in k}}
    for name, parts in VARIANTS.items():
        start = None
        if parts:
            start = os.path.join(a.out, name.replace(" ", "_") + ".pt")
            pretrain(a, parts, start, texts, held)
        report["variants"][name] = {"frozen": frozen(a, start)}
        print(name, json.dumps(report["variants"][name]), flush=True)
    for name, parts in VARIANTS.items():
        start = os.path.join(a.out, name.replace(" ", "_") + ".pt") if parts else None
        if name in TUNED:
            report["variants"][name]["fine_tuned"] = variant(a, name, start)
        if parts:
            report["variants"][name]["pretraining"] = json.load(open(start + ".json"))
        print(name, json.dumps(report["variants"][name]), flush=True)
        with open(os.path.join(a.out, "utrlm_small.json"), "w") as file:
            json.dump(report, file, indent=1)
    print(f"{(time.process_time() - begin) / 60:.1f} CPU minutes")


if __name__ == "__main__":
    main()
