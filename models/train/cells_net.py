"""scGPT's architecture (Cui et al. 2024) at a small size, with the names of its checkpoints.

What: a token is LN(gene embedding) + value branch, and where a knock-out is marked the embedding
  of its flag; post-norm layers with a ReLU feed-forward; no positions, for a cell is a set. Heads:
  the annotation decoder on the row of `<cls>`, or two decoders on every row, whose outputs are the
  coefficient and the bias of `predicted = coefficient · value + bias`.
Why: `state_dict` has scGPT's names and shapes, so `models/convert/scgpt.py` reads it as it reads a
  published checkpoint: `write_onnx`.
How: batches are padded and masked in training. The exported network reads one cell, unpadded, and
  has no mask.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


class GeneEncoder(nn.Module):
    def __init__(self, genes, width):
        super().__init__()
        self.embedding = nn.Embedding(genes, width, padding_idx=0)
        self.enc_norm = nn.LayerNorm(width)

    def forward(self, ids):
        return self.enc_norm(self.embedding(ids))


class ValueEncoder(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(1, width), nn.Linear(width, width)
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(dropout)

    def forward(self, values):
        x = values.unsqueeze(-1).clamp(max=512.0)
        return self.dropout(self.norm(self.linear2(F.relu(self.linear1(x)))))


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x, ignored=None):
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        split = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        q, k, v = (split(F.linear(x, w, b)) for w, b in zip(weights, biases))
        seen = None if ignored is None else ~ignored[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, seen)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    def __init__(self, width, heads, hidden, dropout):
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, ignored=None):
        x = self.norm1(x + self.dropout(self.self_attn(x, ignored)))
        return self.norm2(x + self.dropout(self.linear2(F.relu(self.linear1(x)))))


class Encoder(nn.Module):
    def __init__(self, layers, *shape):
        super().__init__()
        self.layers = nn.ModuleList(Layer(*shape) for _ in range(layers))

    def forward(self, x, ignored=None):
        for layer in self.layers:
            x = layer(x, ignored)
        return x


class ClsDecoder(nn.Module):
    """(Linear, ReLU, LN) and a last Linear."""

    def __init__(self, width, classes):
        super().__init__()
        self._decoder = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.LayerNorm(width))
        self.out_layer = nn.Linear(width, classes)

    def forward(self, x):
        return self.out_layer(self._decoder(x))


class ExprDecoder(nn.Module):
    """Three linear layers with LeakyReLU between them, to one number a row."""

    def __init__(self, width):
        super().__init__()
        slope = lambda: nn.LeakyReLU(0.01)
        parts = nn.Linear(width, width), slope(), nn.Linear(width, width), slope()
        self.fc = nn.Sequential(*parts, nn.Linear(width, 1))

    def forward(self, x):
        return self.fc(x)


class Network(nn.Module):
    """With `classes`: cell types. Without: responses, where tokens have flags."""

    def __init__(self, genes, width, heads, layers, hidden, classes=0, dropout=0.1):
        super().__init__()
        self.encoder, self.value_encoder = GeneEncoder(genes, width), ValueEncoder(width, dropout)
        self.transformer_encoder = Encoder(layers, width, heads, hidden, dropout)
        if classes:
            self.cls_decoder = ClsDecoder(width, classes)
        else:
            self.pert_encoder = nn.Embedding(3, width, padding_idx=0)
            decoders = {f"{name}_decoder": ExprDecoder(width) for name in ("coeff", "bias")}
            self.decoder = nn.ModuleDict(decoders)

    def rows(self, ids, values, flags=None, ignored=None):
        x = self.encoder(ids) + self.value_encoder(values)
        if flags is not None:
            x = x + self.pert_encoder(flags)
        return self.transformer_encoder(x, ignored)

    def embedding(self, ids, values, ignored=None):
        return self.rows(ids, values, None, ignored)[:, 0]

    def logits(self, ids, values, ignored=None):
        return self.cls_decoder(self.embedding(ids, values, ignored))

    def response(self, ids, values, flags, ignored=None):
        """[n, T, 2]: coefficients and biases."""
        x = self.rows(ids, values, flags, ignored)
        return torch.cat([self.decoder[f"{name}_decoder"](x) for name in ("coeff", "bias")], -1)


# What a method is called by the converter, and by the runtime.
HEADS = {"logits": "annotation", "embedding": "embedding", "response": "perturbation"}


def parameters(network):
    """Of all, of the layers, and of the layers of the published size (12 of 512)."""
    count = lambda module: sum(p.numel() for p in module.parameters())
    published = Layer(512, 8, 512, 0.0)
    return dict(
        all=count(network),
        layers=count(network.transformer_encoder),
        layers_of_the_published_size=12 * count(published),
    )


def macs(network, tokens, first=False):
    """Multiply-accumulates of a cell: attention, and products with weights. `first`: of the last
    layer what the row of `<cls>` needs, as the runtime computes it where it reads no other row."""
    width = network.encoder.embedding.embedding_dim
    layers = network.transformer_encoder.layers
    total = tokens * width**2  # the second layer of the values
    for at, layer in enumerate(layers):
        rows = 1 if first and at + 1 == len(layers) else tokens
        total += 2 * tokens * width**2  # keys and values
        total += rows * (2 * width**2 + 2 * width * layer.linear1.out_features)
        total += 2 * rows * tokens * width  # scores, and what they weigh
    if hasattr(network, "cls_decoder"):
        return total + width**2 + width * network.cls_decoder.out_layer.out_features
    return total + tokens * 2 * (2 * width**2 + width)


def write_checkpoint(network, names, folder):
    """A folder as scGPT writes it: tensors, settings and ids of genes."""
    os.makedirs(folder, exist_ok=True)
    layers = network.transformer_encoder.layers
    settings = dict(
        embsize=network.encoder.embedding.embedding_dim,
        nheads=layers[0].self_attn.heads,
        d_hid=layers[0].linear1.out_features,
        nlayers=len(layers),
        input_emb_style="continuous",
        input_style="log1p",
    )
    torch.save(network.state_dict(), os.path.join(folder, "best_model.pt"))
    vocabulary = {name: i for i, name in enumerate(names)}
    for file, values in (("args.json", settings), ("vocab.json", vocabulary)):
        with open(os.path.join(folder, file), "w") as out:
            json.dump(values, out)


def write_onnx(network, names, method, path):
    """Writes PATH.onnx, PATH.toml and PATH.genes.txt by `models/convert/scgpt.py`; the largest
    difference of ONNX Runtime from torch on random cells. `names`: of all ids, in order."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(network.eval(), names, folder)
        convert = Path(__file__).parent.parent / "convert" / "scgpt.py"
        command = [sys.executable, str(convert), folder, "-o", path, "--head", HEADS[method]]
        subprocess.run(command, check=True)
    session = onnxruntime.InferenceSession(f"{path}.onnx", providers=["CPUExecutionProvider"])
    inputs, worst = [x.name for x in session.get_inputs()], 0.0
    for tokens in (1, 2, 64, 300):
        rng = np.random.default_rng(tokens)
        seen = {
            "genes": rng.integers(1, len(names), (1, tokens)),
            "values": rng.uniform(0, 6, (1, tokens)).astype(np.float32),
            "flags": (rng.random((1, tokens)) < 0.05).astype(np.int64),
        }
        seen = {name: seen[name] for name in inputs}
        with torch.no_grad():
            wanted = getattr(network, method)(*map(torch.from_numpy, seen.values())).numpy()
        worst = max(worst, float(np.abs(session.run(None, seen)[0] - wanted).max()))
    return worst
