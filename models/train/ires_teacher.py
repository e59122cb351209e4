"""What the IRES network learns from: the splice network as a teacher, windows for it to label, and
trees on its scores. `ires.py` says how they are used."""

import os

import numpy as np
import onnx
import torch
import torch.nn.functional as F

import ires_data
from packed import TIERS
from promoter import one_hot_2d
from sequences import bucket, encode, read_sequences, reverse_complement
from utrlm_small import rows_of

LENGTH = ires_data.LENGTH
# Of the reporters (mRFP before, eGFP behind), what the splice network sees beside a window.
BEFORE = encode(
    "CGCCGAGGTCAAGACCACCTACATGGCCAAGAAGCCCGTGCAGCTGCCCGGCGCCTACAAGACCGACATCAAGCTGGACATCACCTCC"
    "CACAACGAGGACTACACCATCGTGGAACAGTACGAGCGCGCCGAGGGCCGCCACTCCACCGGCGCCTAA"
)[-150:]
BEHIND = encode(
    "ATGGTGAGCAAGGGCGAGGAGCTGTTCACCGGGGTGGTGCCCATCCTGGTCGAGCTGGACGGCGACGTAAACGGCCACAAGTTCAGCG"
    "TGTCCGGCGAGGGCGAGGGCGATGCCACCTACGGCAAGCTGACCCTGAAGTTCATCTGCACC"
)[:150]
LOWEST = -8.0  # logits of the splice network below are this
WINDOWS = {"gene": 6000, "acceptor": 2500, "antisense": 1200, "utr": 2500, "random": 1000}
COPIES = 3  # changed copies of every row


class SpliceNet:
    """The splice network in float: codes [B, T] to logits [B, 4, T]."""

    def __init__(self, path):
        self.file = onnx.load(path)
        self.weights = {
            i.name: torch.tensor(onnx.numpy_helper.to_array(i)) for i in self.file.graph.initializer
        }

    def layer(self, name):
        """Weight and bias of a convolution."""
        for node in self.file.graph.node:
            if node.op_type == "Conv" and node.output[0] == f"/net/{name}/Conv_output_0":
                return [self.weights[i] for i in node.input[1:]]
        raise KeyError(name)

    @torch.no_grad()
    def __call__(self, codes):
        rows = {"sequence": one_hot_2d(codes)}
        for node in self.file.graph.node:
            x = rows[node.input[0]]
            if node.op_type == "Conv":
                weight, bias = (self.weights[i] for i in node.input[1:])
                by = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
                (dilation,), pad = by["dilations"], by["pads"][0]
                weight = weight.unsqueeze(2)
                y = F.conv2d(x, weight, bias, padding=(0, pad), dilation=(1, dilation))
            elif node.op_type == "Add":
                y = x + rows[node.input[1]]
            else:
                y = F.relu(x)
            rows[node.output[0]] = y
        return torch.cat([rows[t] for t in TIERS], 1)[:, :, 0].numpy()

    def between(self, codes, before=BEFORE, behind=BEHIND):
        """Logits [n, 4, 174] of windows between the reporters."""
        found = []
        for part in np.array_split(codes, -(-len(codes) // 64)):
            sides = [np.tile(side, (len(part), 1)) for side in (before, behind)]
            x = np.concatenate([sides[0], part, sides[1]], 1).astype(np.uint8)
            found.append(self(x)[:, :, len(before) : len(before) + LENGTH])
        return np.maximum(np.concatenate(found), LOWEST).astype(np.float32)


def make_windows(a, rows):
    """Codes [n, 174] and the row that each is a changed copy of, or -1."""
    rng = np.random.default_rng(3)
    folder = os.path.join(a.data, "splice")
    genes = {
        header.split()[0]: encode(text)
        for header, text in read_sequences(os.path.join(folder, "genes_chr1.fa.gz"))
        if bucket(header.split()[1]) >= 20 and len(text) > 1000
    }
    names, acceptors = list(genes), []
    with open(os.path.join(folder, "sites_chr1.tsv")) as lines:
        column = {name: i for i, name in enumerate(next(lines).split())}
        for line in lines:
            fields = line.split("\t")
            if fields[column["kind"]].strip() == "acceptor" and fields[column["gene_idx"]] in genes:
                acceptors.append((fields[column["gene_idx"]], int(fields[column["pos0"]])))
    utrs = [encode(r["utr"]) for r in rows_of(a.data, "mrl_human25k.csv") if bucket(r["utr"]) >= 20]
    found = []

    def piece(kind):
        if kind == "utr":
            joined = np.concatenate([utrs[i] for i in rng.integers(0, len(utrs), 6)])
            return joined[:LENGTH]
        if kind == "random":
            return rng.choice(4, LENGTH, p=rng.dirichlet((4, 4, 4, 4))).astype(np.uint8)
        if kind == "acceptor":
            name, site = acceptors[rng.integers(len(acceptors))]
            start = site - int(rng.integers(5, LENGTH - 5))
        else:
            name = names[rng.integers(len(names))]
            start = int(rng.integers(0, len(genes[name]) - LENGTH))
        codes = genes[name][max(0, start) : max(0, start) + LENGTH]
        return reverse_complement(codes) if kind == "antisense" else codes

    for kind, count in WINDOWS.items():
        while count:
            codes = piece(kind)
            if len(codes) == LENGTH and codes.max() < 4:
                found.append(codes)
                count -= 1
    origin = [-1] * len(found)
    for i, codes in enumerate(rows.codes):
        for _ in range(COPIES):
            change = rng.random(LENGTH) < rng.uniform(0.03, 0.3)
            other = (codes + rng.integers(1, 4, LENGTH)) % 4
            found.append(np.where(change, other, codes).astype(np.uint8))
            origin.append(i)
    return np.array(found), np.array(origin)


def longest_run(hit):
    best = run = np.zeros(len(hit))
    for column in hit.T:
        run = (run + 1) * column
        best = np.maximum(best, run)
    return best


def densest(hit, width):
    sums = np.pad(hit.cumsum(1), ((0, 0), (1, 0)))
    return (sums[:, width:] - sums[:, :-width]).max(1)


def counts(codes, k):
    place = codes.shape[1] - k + 1
    number = sum(codes[:, i : i + place].astype(int) * 4**i for i in range(k))
    result = np.zeros((len(codes), 4**k), np.float32)
    np.add.at(result, (np.arange(len(codes))[:, None], number), 1)
    return result


def features(codes, inside, alone):
    """What the teacher reads: scores of the splice network between the reporters and alone,
    composition."""
    parts = []
    for c in range(4):
        scores = np.sort(inside[:, c], 1)
        parts += [scores[:, -1], scores[:, -2], np.log(np.exp(inside[:, c]).sum(1))]
        parts += [alone[:, c].max(1), np.log(np.exp(alone[:, c]).sum(1))]
        parts += [alone[:, c, :100].max(1), alone[:, c, 100:].max(1)]
    parts += [inside[:, c].argmax(1) for c in (0, 2)]
    for bases in ((3,), (1, 3), (1, 2)):
        hit = np.isin(codes, bases)
        parts += [densest(hit, width) for width in (10, 20, 40)] + [longest_run(hit)]
    parts.append(longest_run(codes == 0))
    by_place = [counts(codes[:, i : i + 29], 1) for i in range(0, LENGTH, 29)]
    return np.hstack([np.column_stack(parts), counts(codes, 1), counts(codes, 2), *by_place])


def logit(p):
    p = np.clip(p, 0.002, 0.998)
    return np.log(p / (1 - p))


def teach(a, x, label):
    from sklearn.ensemble import ExtraTreesClassifier

    trees = ExtraTreesClassifier(
        a.trees, min_samples_leaf=5, max_features="sqrt", random_state=a.seed, n_jobs=1
    )
    trees.fit(x, label)
    return lambda x: logit(trees.predict_proba(x)[:, 1]).astype(np.float32)
