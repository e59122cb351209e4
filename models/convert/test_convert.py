"""Checks the converters: checkpoints of random weights under the published names are converted,
packed and run, and compared with the published forward passes, written out here in PyTorch.

    python models/convert/test_convert.py --strandline target/release/strandline
    python models/convert/test_convert.py --only scgpt

Needs the full build of strandline, and some minutes. `--only small` leaves out the 12 layers of
768. `--keep FOLDER` keeps the files. Those of scGPT are in test_scgpt.py; those that pack nothing
need no strandline.
"""

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
import tomllib
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import test_scgpt

HERE = Path(__file__).parent
PRECISIONS = ("f32", "fp16", "int8")

# Largest differences, and least cosines in int8 of logits and of vectors.
NEAR = {"f32": 1e-4, "fp16": 1e-2}
LOGITS, VECTORS = 0.995, 0.99
ALLOWED = 0.95

# What packing the large network may take, and opening it.
SECONDS, MEGABYTES, OPENED = 30, 1200, 30

torch.set_num_threads(1)

# Runs a program from a small process: what a large one takes would count as its child's.
MEASURED = """
import resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], stderr=subprocess.STDOUT)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
seconds = used.ru_utime + used.ru_stime
print(f"\\n{time.perf_counter() - start} {seconds} {used.ru_maxrss / 1024}", flush=True)
sys.exit(done.returncode)
"""


# Tokens.


def kmers(sequence, k):
    """DNABERT's ids: [CLS], every k-mer, [SEP]. Letters in the order A, T, C, G; [UNK] is 1."""
    ids = {"".join(letters): 5 + at for at, letters in enumerate(product("ATCG", repeat=k))}
    found = [ids.get(sequence[at : at + k], 1) for at in range(len(sequence) - k + 1)]
    return [2, *found, 3]


def letters(sequence):
    """UTR-LM's ids: <cls>, letters, <eos>."""
    return [7, *({"A": 3, "G": 4, "C": 5, "T": 6}[base] for base in sequence), 1]


def sequences(lengths, count, seed):
    """Of several compositions, as regions differ in theirs."""
    made = random.Random(seed)
    found = []
    for at in range(count):
        gc = made.choice((0.35, 0.5, 0.65))
        weights = ((1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2)
        length = lengths[at % len(lengths)]
        found.append("".join(made.choices("ACGT", weights, k=length)))
    return found


# Checkpoints.


class Weights:
    """Random tensors by name, of the size that trained ones have."""

    def __init__(self, seed):
        self.made, self.tensors = torch.Generator().manual_seed(seed), {}

    def normal(self, name, *shape, deviation, mean=0.0):
        self.tensors[name] = torch.randn(*shape, generator=self.made) * deviation + mean

    def linear(self, name, inputs, outputs, deviation):
        self.normal(f"{name}.weight", outputs, inputs, deviation=deviation)
        self.normal(f"{name}.bias", outputs, deviation=0.05)

    def norm(self, name, width):
        self.normal(f"{name}.weight", width, deviation=0.1, mean=1.0)
        self.normal(f"{name}.bias", width, deviation=0.1)

    def head(self, name, vectors, outputs):
        """A linear layer that reads where vectors of different sequences differ, as trained ones
        do; a random one would read what they have in common.
        """
        mean = torch.stack(vectors).mean(0)
        _, sizes, directions = torch.linalg.svd(torch.stack(vectors) - mean, full_matrices=False)
        self.normal(f"{name}.weight", outputs, 4, deviation=1.0)
        spread = sizes[0] / math.sqrt(len(vectors))
        self.tensors[f"{name}.weight"] = self.tensors[f"{name}.weight"] @ directions[:4] / spread
        self.normal(f"{name}.bias", outputs, deviation=0.2)
        self.tensors[f"{name}.bias"] -= self.tensors[f"{name}.weight"] @ mean


def dnabert(k, layers, width, heads, labels=0, masked=False, seed=1):
    made, hidden = Weights(seed), 4 * width
    # Rows of a narrower network are shorter, so weights are larger.
    size = math.sqrt(768 / width)
    made.normal("bert.embeddings.word_embeddings.weight", 4**k + 5, width, deviation=0.05)
    made.normal("bert.embeddings.position_embeddings.weight", 512, width, deviation=0.02)
    made.normal("bert.embeddings.token_type_embeddings.weight", 2, width, deviation=0.05)
    made.norm("bert.embeddings.LayerNorm", width)
    for at in range(layers):
        name = f"bert.encoder.layer.{at}"
        for part in ("query", "key", "value"):
            made.linear(f"{name}.attention.self.{part}", width, width, 0.05 * size)
        made.linear(f"{name}.attention.output.dense", width, width, 0.03 * size)
        made.norm(f"{name}.attention.output.LayerNorm", width)
        made.linear(f"{name}.intermediate.dense", width, hidden, 0.04 * size)
        made.linear(f"{name}.output.dense", hidden, width, 0.03 * size)
        made.norm(f"{name}.output.LayerNorm", width)
    made.linear("bert.pooler.dense", width, width, 0.03 * size)
    if labels:
        published = Bert(made.tensors, heads)
        lines = sequences((70, 101, 200), 16, seed)
        made.head("classifier", [published.pooled(kmers(line, k)) for line in lines], labels)
    if masked:
        head = "cls.predictions"
        made.linear(f"{head}.transform.dense", width, width, 0.05 * size)
        made.norm(f"{head}.transform.LayerNorm", width)
        made.normal(f"{head}.bias", 4**k + 5, deviation=0.1)
        table = made.tensors["bert.embeddings.word_embeddings.weight"]
        made.tensors[f"{head}.decoder.weight"] = table
        made.tensors[f"{head}.decoder.bias"] = made.tensors[f"{head}.bias"]
    return made.tensors


def old_names(tensors):
    """As DataParallel and TensorFlow's checkpoints name them."""
    found = {}
    for name, tensor in tensors.items():
        if "LayerNorm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        found[f"module.{name}"] = tensor
    return found


def utr_lm(head=True, seed=2):
    made, width = Weights(seed), 128
    esm = "module.esm2." if head else "module."
    made.normal(f"{esm}embed_tokens.weight", 10, width, deviation=0.3)
    for at in range(6):
        name = f"{esm}layers.{at}"
        for part in "kvq":
            made.linear(f"{name}.self_attn.{part}_proj", width, width, 0.1)
        made.linear(f"{name}.self_attn.out_proj", width, width, 0.08)
        frequencies = torch.tensor([10000.0 ** -(i / 4) for i in range(4)])
        made.tensors[f"{name}.self_attn.rot_emb.inv_freq"] = frequencies
        made.norm(f"{name}.self_attn_layer_norm", width)
        made.linear(f"{name}.fc1", width, 512, 0.08)
        made.linear(f"{name}.fc2", 512, width, 0.08)
        made.norm(f"{name}.final_layer_norm", width)
    made.norm(f"{esm}emb_layer_norm_after", width)
    # What a downstream file holds and never uses.
    made.linear(f"{esm}contact_head.regression", 96, 1, 0.1)
    made.linear(f"{esm}lm_head.dense", width, width, 0.1)
    made.linear(f"{esm}supervised_linear", width, 1, 0.1)
    if head:
        published = UtrLm(made.tensors)
        lines = sequences((50, 75, 100), 24, seed)
        made.head("module.fc", [published.first(letters(line)) for line in lines], 40)
        made.linear("module.output", 40, 1, 0.15)
        made.linear("module.linear", width, 40, 0.1)
        made.normal("module.conv1.weight", 16, 1, 3, deviation=0.1)
        made.normal("module.conv2.weight", 16, 16, 3, deviation=0.1)
    return made.tensors


# The published forward passes, of one unpadded sequence.


class Published:
    def __init__(self, tensors):
        self.tensors = tensors

    def linear(self, x, name):
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def norm(self, x, name, epsilon):
        gain, shift = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], gain, shift, epsilon)


class Bert(Published):
    def __init__(self, tensors, heads):
        super().__init__(tensors)
        self.heads = heads

    @torch.no_grad()
    def run(self, ids):
        """Rows of the last layer, and the last layer's attention."""
        name = "bert.embeddings"
        words, positions, kinds = (
            self.tensors[f"{name}.{part}_embeddings.weight"]
            for part in ("word", "position", "token_type")
        )
        ids = torch.tensor(ids)
        x = words[ids] + positions[torch.arange(len(ids))] + kinds[torch.zeros_like(ids)]
        x = self.norm(x, f"{name}.LayerNorm", 1e-12)
        attention, at = None, 0
        while f"bert.encoder.layer.{at}.output.dense.weight" in self.tensors:
            x, attention = self.layer(x, f"bert.encoder.layer.{at}")
            at += 1
        return x, attention

    def layer(self, x, name):
        split = lambda y: y.view(len(y), self.heads, -1).transpose(0, 1)
        q, k, v = (
            split(self.linear(x, f"{name}.attention.self.{part}"))
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        attention = torch.softmax(scores, -1)
        y = (attention @ v).transpose(0, 1).reshape(x.shape)
        y = self.linear(y, f"{name}.attention.output.dense")
        x = self.norm(y + x, f"{name}.attention.output.LayerNorm", 1e-12)
        y = self.linear(x, f"{name}.intermediate.dense")
        y = self.linear(y * 0.5 * (1 + torch.erf(y / math.sqrt(2))), f"{name}.output.dense")
        return self.norm(y + x, f"{name}.output.LayerNorm", 1e-12), attention

    @torch.no_grad()
    def pooled(self, ids):
        return torch.tanh(self.linear(self.run(ids)[0][0], "bert.pooler.dense"))

    @torch.no_grad()
    def logits(self, ids):
        return self.linear(self.pooled(ids), "classifier")

    def probabilities(self, ids, labels):
        return torch.softmax(self.logits(ids), -1)[labels]

    def attention(self, ids):
        return self.run(ids)[1][:, 0].sum(0)

    @torch.no_grad()
    def masked(self, ids):
        name = "cls.predictions"
        x = F.gelu(self.linear(self.run(ids)[0], f"{name}.transform.dense"))
        x = self.norm(x, f"{name}.transform.LayerNorm", 1e-12)
        return x @ self.tensors[f"{name}.decoder.weight"].T + self.tensors[f"{name}.bias"]


class UtrLm(Published):
    def __init__(self, tensors):
        bare = {name.replace("module.", "").replace("esm2.", ""): x for name, x in tensors.items()}
        super().__init__(bare)

    @torch.no_grad()
    def first(self, ids):
        x = self.tensors["embed_tokens.weight"][torch.tensor(ids)]
        # Token dropout: as if 12 % of the tokens had been zeroed.
        masked = torch.zeros(len(ids), dtype=torch.bool)
        x = x.masked_fill(masked[:, None], 0.0)
        x = x * (1 - 0.15 * 0.8) / (1 - masked.float().mean())
        for at in range(6):
            x = self.layer(x, f"layers.{at}")
        return self.norm(x, "emb_layer_norm_after", 1e-5)[0]

    def layer(self, x, name):
        y = self.norm(x, f"{name}.self_attn_layer_norm", 1e-5)
        q, k, v = (self.linear(y, f"{name}.self_attn.{part}_proj") for part in "qkv")
        q = q * 8**-0.5
        q, k, v = (part.view(len(x), 16, 8).transpose(0, 1) for part in (q, k, v))
        frequencies = self.tensors[f"{name}.self_attn.rot_emb.inv_freq"]
        turns = torch.outer(torch.arange(len(x)).float(), frequencies)
        turns = torch.cat((turns, turns), -1)
        half = lambda y: torch.cat((-y[..., 4:], y[..., :4]), -1)
        q, k = (y * turns.cos() + half(y) * turns.sin() for y in (q, k))
        y = torch.softmax(q @ k.transpose(1, 2), -1) @ v
        y = y.transpose(0, 1).reshape(x.shape)
        x = x + self.linear(y, f"{name}.self_attn.out_proj")
        y = self.linear(self.norm(x, f"{name}.final_layer_norm", 1e-5), f"{name}.fc1")
        y = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
        return x + self.linear(y, f"{name}.fc2")

    @torch.no_grad()
    def score(self, ids):
        return self.linear(torch.relu(self.linear(self.first(ids), "fc")), "output")


# Running things.


class Taken(NamedTuple):
    """Seconds by the clock and of processors, and the most memory in MB."""

    seconds: float
    busy: float
    memory: float

    def __str__(self):
        return f"{self.seconds:.1f} s ({self.busy:.1f} s busy), {self.memory:.0f} MB"


class Bench:
    """A folder, the program, and what failed."""

    def __init__(self, strandline, folder):
        self.strandline = Path(strandline).resolve() if strandline else None
        self.folder, self.failed = folder, []

    def expect(self, holds, text):
        print(f"  {'ok    ' if holds else 'FAILED'} {text}", flush=True)
        if not holds:
            self.failed.append(text)

    def convert(self, script, *arguments):
        return subprocess.run(
            [sys.executable, HERE / f"{script}.py", *map(str, arguments)],
            capture_output=True,
            text=True,
        )

    def converted(self, script, *arguments):
        done = self.convert(script, *arguments)
        if done.returncode:
            sys.exit(f"{script}.py {' '.join(map(str, arguments))}\n{done.stderr}")
        return done

    def program(self, *arguments):
        """What it printed, and what it took, its children included."""
        command = [sys.executable, "-S", "-c", MEASURED, self.strandline, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"strandline {' '.join(map(str, arguments))}\n{done.stderr}{done.stdout}")
        text, last = done.stdout.rstrip("\n").rsplit("\n", 1)
        return text, Taken(*map(float, last.split()))

    def pack(self, out, precision, ids, name="model", manifest="manifest"):
        """The packed file, and what packing took."""
        sample, packed = self.folder / "sample.txt", out / f"{name}.{precision}.safetensors"
        sample.write_text("".join(" ".join(map(str, line)) + "\n" for line in ids))
        _, taken = self.program(
            "pack",
            out / f"{name}.onnx",
            "--manifest",
            out / f"{manifest}.toml",
            "--precision",
            precision,
            "--calibrate",
            sample,
            # Other work on the machine is no failure.
            "--budget",
            "900s,4GB",
            # Its own comparison is of few sequences for a large network, and some are made up.
            *(("--allow-difference", ALLOWED) if precision == "int8" else ()),
            "-o",
            packed,
        )
        return packed, taken

    def outputs(self, packed, ids):
        """The packed file's outputs, an array for each sequence."""
        sample, found = self.folder / "input.txt", self.folder / "output.txt"
        sample.write_text("".join(" ".join(map(str, line)) + "\n" for line in ids))
        self.program("bench-model", packed, "--input", sample, "--output", found)
        blocks = found.read_text().strip("\n").split("\n\n")
        return [np.array([line.split() for line in b.split("\n")], np.float64) for b in blocks]

    def left_to_tract(self, packed):
        text, _ = self.program("inspect", packed)
        return [line.split()[0] for line in text.split("\n") if "(tract" in line]

    def opened(self, packed, ids):
        """Milliseconds to open a file, the best of three."""
        (self.folder / "input.txt").write_text(" ".join(map(str, ids)) + "\n")
        times = []
        for _ in range(3):
            text, _ = self.program(
                "bench-model", packed, "--input", self.folder / "input.txt", "--runs", 1
            )
            line = next(line for line in text.split("\n") if line.startswith("opened in"))
            times.append(float(line.split()[2]))
        return min(times)


def cosine(a, b):
    a, b = (np.concatenate([x.ravel() for x in rows]) for rows in (a, b))
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def centred(rows):
    """Around the mean of each column."""
    mean = np.concatenate(rows).mean(0)
    return [x - mean for x in rows]


def compare(bench, what, precision, found, expected, least):
    expected = [x.numpy().astype(np.float64) for x in expected]
    expected = [x.reshape(found[0].shape[-1] and (-1, found[0].shape[-1])) for x in expected]
    if [x.shape for x in found] != [x.shape for x in expected]:
        shapes = f"{[x.shape for x in found][:3]}, not {[x.shape for x in expected][:3]}"
        return bench.expect(False, f"{what} {precision}: shapes {shapes}")
    largest = max(float(np.abs(a - b).max()) for a, b in zip(found, expected))
    alike = cosine(found, expected)
    around = cosine(centred(found), centred(expected))
    holds = alike >= least if precision == "int8" else largest <= NEAR[precision]
    bench.expect(
        holds,
        f"{what} {precision}: largest difference {largest:.2e}, cosine {alike:.6f}, around the"
        f" mean {around:.6f}, {len(found)} sequences",
    )


def check(bench, what, out, ids, expected, sample, precisions=PRECISIONS, least=LOGITS, **files):
    """Packs with a sample, runs and compares; nothing may be left to tract."""
    for precision in precisions:
        packed, taken = bench.pack(out, precision, sample, **files)
        found = bench.outputs(packed, ids)
        compare(bench, what, precision, found, expected, least)
        print(f"         packed to {packed.stat().st_size / 1e6:.1f} MB in {taken}")
        left = bench.left_to_tract(packed)
        if files:
            print(f"         left to tract: {', '.join(left)}")
        else:
            bench.expect(not left, f"{what} {precision}: left to tract: {', '.join(left) or '-'}")
    return packed, taken


def checkpoint(folder, tensors, name="pytorch_model.bin", config=None):
    folder.mkdir(parents=True)
    if name.endswith(".safetensors"):
        save_file({key: x.clone() for key, x in tensors.items()}, folder / name)
    else:
        torch.save(tensors, folder / name)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


# The tests.


def small(bench):
    print("DNABERT-3, 2 layers of 64, names of old files, config.json")
    folder = bench.folder / "small"
    tensors = dnabert(3, 2, 64, 4, labels=3)
    config = {"num_attention_heads": 4, "hidden_act": "gelu", "vocab_size": 69, "num_labels": 3}
    source = checkpoint(folder / "checkpoint", old_names(tensors), config=config)
    published = Bert(tensors, 4)
    lines = sequences((3, 70, 101, 400), 16, 101)
    lines[1] = lines[1][:30] + "N" + lines[1][31:].lower()
    others = sequences((70, 101, 200, 400), 16, 102)
    ids, sample = ([kmers(line, 3) for line in each] for each in (lines, others))
    out = folder / "splice"
    bench.converted("dnabert", source, "--out", out, "--task", "splice", "--ids")
    expected = [published.probabilities(x, [0, 1]) for x in ids]
    check(bench, "splice", out, ids, expected, sample)

    # Another order of labels; and the same tensors out of another kind of file.
    again = checkpoint(folder / "again", old_names(tensors), "model.safetensors", config)
    out = folder / "order"
    bench.converted(
        "dnabert",
        again,
        "--out",
        out,
        "--task",
        "splice",
        "--ids",
        "--labels",
        "none,acceptor,donor",
    )
    expected = [published.probabilities(x, [1, 2]) for x in ids]
    check(bench, "splice, other order", out, ids, expected, sample, ("f32",))
    out = folder / "same"
    bench.converted("dnabert", again, "--out", out, "--task", "splice", "--ids")
    same = (out / "model.onnx").read_bytes() == (folder / "splice/model.onnx").read_bytes()
    bench.expect(same, "safetensors and pickle give the same network")

    out = folder / "raw"
    bench.converted("dnabert", source, "--out", out, "--ids", "--attention")
    # A k-mer alone is far from what the head was made for.
    usual = [x for x in ids if len(x) > 20]
    check(bench, "logits", out, usual, [published.logits(x) for x in usual], sample)
    attention = [published.attention(x) for x in ids]
    check(
        bench,
        "attention of [CLS]",
        out,
        ids,
        attention,
        sample,
        least=VECTORS,
        name="attention",
        manifest="attention",
    )

    print("DNABERT-3, 2 layers of 128, no config.json")
    for task, precisions in (("promoter", PRECISIONS), ("tf", ("f32",))):
        tensors = dnabert(3, 2, 128, 2, labels=2, seed=3)
        published = Bert(tensors, 2)
        source = checkpoint(folder / f"{task}-checkpoint", tensors, "model.safetensors")
        out = folder / task
        bench.converted("dnabert", source, "--out", out, "--task", task, "--ids")
        expected = [published.probabilities(x, [1]) for x in ids]
        check(bench, task, out, ids, expected, sample, precisions)

    print("DNABERT-4, 2 layers of 128, head of masked tokens")
    tensors = dnabert(4, 2, 128, 2, masked=True, seed=4)
    published = Bert(tensors, 2)
    ids, sample = ([kmers(line, 4) for line in each] for each in (lines, others))
    source = checkpoint(folder / "masked-checkpoint", tensors)
    out = folder / "masked"
    bench.converted("dnabert", source, "--out", out, "--ids")
    check(bench, "masked tokens", out, ids, [published.masked(x) for x in ids], sample)
    out = folder / "pooled"
    bench.converted("dnabert", source, "--out", out, "--ids", "--head", "pooled")
    pooled = [published.pooled(x) for x in ids]
    check(bench, "pooled vector", out, ids, pooled, sample, least=VECTORS)


def large(bench):
    print("DNABERT-6, 12 layers of 768")
    folder = bench.folder / "large"
    tensors = dnabert(6, 12, 768, 12, labels=2, seed=5)
    source = checkpoint(folder / "checkpoint", tensors)
    published = Bert(tensors, 12)
    lengths = (70, 101, 300)
    ids, sample = (
        [kmers(line, 6) for line in sequences(lengths, count, seed)]
        for count, seed in ((12, 101), (16, 102))
    )
    logits = [published.logits(x) for x in ids]
    start = time.perf_counter()
    bench.converted("dnabert", source, "--out", folder / "raw", "--ids", "--attention")
    print(f"         converted in {time.perf_counter() - start:.1f} s")
    for precision in PRECISIONS:
        packed, taken = check(bench, "logits", folder / "raw", ids, logits, sample, (precision,))
        text = f"opened in {bench.opened(packed, ids[0]):.1f} ms"
        if precision == "f32":
            # For comparison only: every weight is looked at.
            print(f"         {text}")
            continue
        bench.expect(float(text.split()[2]) < OPENED, f"{precision}: {text}")
    # The last one, int8. By the clock it depends on what else runs.
    bench.expect(taken.busy <= SECONDS and taken.memory <= MEGABYTES, f"int8: packed in {taken}")
    bench.converted("dnabert", source, "--out", folder / "pooled", "--ids", "--head", "pooled")
    pooled = [published.pooled(x) for x in ids]
    check(bench, "pooled vector", folder / "pooled", ids, pooled, sample, ("int8",), VECTORS)
    attention = [published.attention(x) for x in ids]
    check(
        bench,
        "attention of [CLS]",
        folder / "raw",
        ids,
        attention,
        sample,
        ("f32", "int8"),
        VECTORS,
        name="attention",
        manifest="attention",
    )


def utr(bench):
    print("UTR-LM, 6 layers of 128")
    folder = bench.folder / "utr"
    lengths = (25, 50, 75, 100)
    ids, sample = ([letters(x) for x in sequences(lengths, 24, seed)] for seed in (101, 102))
    tensors = utr_lm()
    source = checkpoint(folder / "checkpoint", tensors, "model.pkl")
    expected = [UtrLm(tensors).score(x) for x in ids]
    for task in ("ribosome-load", "te", "ires", "raw"):
        out = folder / task
        bench.converted("utrlm", source / "model.pkl", "--out", out, "--task", task, "--ids")
        precisions = PRECISIONS if task == "ribosome-load" else ("f32",)
        check(bench, task, out, ids, expected, sample, precisions)
    tensors = utr_lm(head=False)
    source = checkpoint(folder / "bare", tensors, "model.pkl")
    bench.converted("utrlm", source, "--out", folder / "first", "--ids")
    expected = [UtrLm(tensors).first(x) for x in ids]
    check(bench, "row of <cls>", folder / "first", ids, expected, sample, least=VECTORS)


def manifests(bench):
    """What stands in them without --ids."""
    print("Manifests")
    folder = bench.folder / "manifests"
    classes = checkpoint(folder / "classes", dnabert(5, 1, 64, 1, labels=3))
    two = checkpoint(folder / "two", dnabert(6, 1, 64, 1, labels=2))
    utr = checkpoint(folder / "utr", utr_lm(), "model.pkl")
    for script, source, task, tokeniser, tile, names, link in (
        ("dnabert", classes, "splice", "dnabert-5", 512, ["acceptor", "donor"], "probability"),
        ("dnabert", two, "promoter", "dnabert-6", 512, ["promoter"], "probability"),
        ("dnabert", two, "tf", "dnabert-6", 512, ["bound"], "probability"),
        ("dnabert", two, "raw", "dnabert-6", 512, ["c0", "c1"], "identity"),
        ("utrlm", utr, "ribosome-load", "utr-lm", 102, ["mean_ribosome_load"], "identity"),
        ("utrlm", utr, "te", "utr-lm", 102, ["te"], "identity"),
        ("utrlm", utr, "ires", "utr-lm", 1022, ["ires"], "logit"),
        ("utrlm", utr, "raw", "utr-lm", 1022, ["c0"], "identity"),
    ):
        out = folder / f"{script}-{task}"
        bench.converted(script, source, "--out", out, "--task", task)
        found = tomllib.loads((out / "manifest.toml").read_text())
        columns = found["outputs"]
        named = {"ribosome-load": "expression"}.get(task, task)
        holds = (found["task"], found["tokeniser"], found["tile"]) == (named, tokeniser, tile)
        holds &= [x["name"] for x in columns] == names and {x["link"] for x in columns} == {link}
        bench.expect(holds, f"{script}, {task}: tokeniser {found['tokeniser']}, tile {tile}")


def faults(bench):
    print("Checkpoints that do not fit")
    folder = bench.folder / "faults"
    out = folder / "out"

    def refused(what, script, source, *arguments, says):
        done = bench.convert(script, source, "--out", out, *arguments)
        left = [path.name for path in folder.iterdir() if "out" in path.name]
        text = done.stderr.strip().replace(str(folder), "")
        one = done.returncode == 1 and len(text.split("\n")) == 1
        bench.expect(one and says in text and not left, f"{what}: {text} {' '.join(left)}")

    tensors = dnabert(3, 2, 64, 1, labels=2)

    def changed(name, **changes):
        copy = {key: x for key, x in {**tensors, **changes.pop("put", {})}.items()}
        for key in changes.pop("drop", ()):
            del copy[key]
        return checkpoint(folder / name, copy, **changes)

    lost, wide = "bert.encoder.layer.1.output.dense.bias", "bert.pooler.dense.weight"
    refused(
        "a tensor is missing",
        "dnabert",
        changed("lost", drop=[lost]),
        says="no tensor encoder.layer.1.output.dense.bias",
    )
    refused(
        "a layer is missing",
        "dnabert",
        changed("gap", drop=[key for key in tensors if ".layer.0." in key]),
        says="no tensor encoder.layer.0.*",
    )
    refused(
        "a wrong shape",
        "dnabert",
        changed("wide", put={wide: torch.zeros(64, 32)}),
        says="pooler.dense.weight is [64, 32], expected [64, 64]",
    )
    spoilt = torch.full((64, 64), math.nan)
    refused("not finite", "dnabert", changed("nan", put={wide: spoilt}), says="not finite")
    table = "bert.embeddings.word_embeddings.weight"
    refused(
        "another vocabulary",
        "dnabert",
        changed("bpe", put={table: torch.zeros(4096, 64)}),
        says="has 4096 rows, expected one of 69, 261, 1029, 4101",
    )
    refused(
        "another network",
        "dnabert",
        changed("act", config={"hidden_act": "relu"}),
        says="hidden_act is relu, expected gelu",
    )
    refused(
        "config.json of another",
        "dnabert",
        changed("other", config={"num_hidden_layers": 12}),
        says="config.json says num_hidden_layers 12, the tensors 2",
    )
    plain = changed("plain")
    refused(
        "two labels for three",
        "dnabert",
        plain,
        "--task",
        "splice",
        says="classifier.weight has 2 rows, expected 3",
    )
    bare = changed("bare", drop=["classifier.weight", "classifier.bias"])
    refused("no head", "dnabert", bare, "--task", "promoter", says="no tensor classifier.weight")
    refused("no such folder", "dnabert", folder / "none", says="no such file or folder")
    (folder / "empty").mkdir()
    refused("an empty folder", "dnabert", folder / "empty", says="pytorch_model.bin")
    for name in ("text.bin", "text.safetensors"):
        (folder / name).write_text("not a checkpoint\n")
        refused(name, "dnabert", folder / name, says="no ")
    torch.save(Path("code"), folder / "code.pkl")
    refused(
        "a pickle of other things", "dnabert", folder / "code.pkl", says="no file of tensors alone"
    )
    torch.save([1, 2], folder / "list.pkl")
    refused("a pickle without names", "dnabert", folder / "list.pkl", says="a dictionary")
    refused("DNABERT as UTR-LM", "utrlm", plain, says="no tensor embed_tokens.weight")
    tensors = utr_lm()
    refused(
        "UTR-LM as DNABERT",
        "dnabert",
        changed("utr"),
        says="no tensor embeddings.word_embeddings.weight",
    )
    refused(
        "a norm is missing",
        "utrlm",
        changed("norm", drop=["module.esm2.emb_layer_norm_after.weight"]),
        says="no tensor emb_layer_norm_after.weight",
    )
    refused(
        "27 features",
        "utrlm",
        changed("features", put={"module.fc.weight": torch.zeros(40, 155)}),
        "--task",
        "te",
        says="fc.weight is [40, 155], expected [any, 128]",
    )
    refused("other heads", "utrlm", changed("heads"), "--heads", "8", says="inv_freq is [4]")
    refused(
        "no head",
        "utrlm",
        changed("headless", drop=["module.fc.weight", "module.fc.bias"]),
        "--task",
        "te",
        says="no tensor fc.weight",
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strandline", help="the program; not needed where nothing is packed")
    tests = {
        "small": small,
        "utr": utr,
        "manifests": manifests,
        "faults": faults,
        "large": large,
        "scgpt": test_scgpt.network,
        "scgpt-faults": test_scgpt.faults,
        "scgpt-packed": test_scgpt.packed,
    }
    unpacked = ("manifests", "faults", "scgpt", "scgpt-faults")
    parser.add_argument("--only", choices=tests)
    parser.add_argument("--keep", help="a folder to be made for the files")
    arguments = parser.parse_args()
    if not arguments.strandline and arguments.only not in unpacked:
        parser.error("--strandline, or --only with one of " + ", ".join(unpacked))
    with tempfile.TemporaryDirectory() as folder:
        if arguments.keep:
            folder = arguments.keep
            Path(folder).mkdir(parents=True)
        bench = Bench(arguments.strandline, Path(folder))
        for name, test in tests.items():
            if arguments.only in (None, name):
                test(bench)
    if bench.failed:
        sys.exit(f"{len(bench.failed)} failed:\n" + "\n".join(bench.failed))
    print("all passed")


if __name__ == "__main__":
    main()
