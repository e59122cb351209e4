"""What the published code of scGPT computes for a padded batch of cells, written out with PyTorch's
own encoder; random weights under the published names, and cells. For test_scgpt.py.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class Genes(nn.Module):
    """A table and a norm: of genes, and of batches."""

    def __init__(self, rows, width):
        super().__init__()
        self.embedding = nn.Embedding(rows, width)
        self.enc_norm = nn.LayerNorm(width)

    def forward(self, ids):
        return self.enc_norm(self.embedding(ids))


class Values(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(1, width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, values):
        x = torch.clamp(values.unsqueeze(-1), max=512)
        return self.norm(self.linear2(torch.relu(self.linear1(x))))


class Expression(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(inputs, width),
            nn.LeakyReLU(),
            nn.Linear(width, width),
            nn.LeakyReLU(),
            nn.Linear(width, 1),
        )

    def forward(self, x):
        return self.fc(x).squeeze(-1)


class Affine(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.coeff_decoder = Expression(width, width)
        self.bias_decoder = Expression(width, width)

    def forward(self, x):
        return torch.stack((self.coeff_decoder(x), self.bias_decoder(x)), -1)


class Types(nn.Module):
    def __init__(self, width, types, layers):
        super().__init__()
        self._decoder = nn.ModuleList()
        for _ in range(layers - 1):
            self._decoder.extend((nn.Linear(width, width), nn.ReLU(), nn.LayerNorm(width)))
        self.out_layer = nn.Linear(width, types)

    def forward(self, x):
        for layer in self._decoder:
            x = layer(x)
        return self.out_layer(x)


class Dsbn(nn.Module):
    def __init__(self, width, batches):
        super().__init__()
        norms = (nn.BatchNorm1d(width, eps=6.1e-5, affine=False) for _ in range(batches))
        self.bns = nn.ModuleList(norms)


class ScGpt(nn.Module):
    """`kind` is the decoder: plain, batch (it reads the batch's row) or affine; `bn` one batch norm
    for all, `dsbn` one a batch.
    """

    def __init__(self, sizes, types=0, cls_layers=3, kind="plain", norm=None, flags=False):
        super().__init__()
        rows, width, heads, hidden, layers = self.sizes = sizes
        self.kind, self.norm = kind, norm
        self.encoder, self.value_encoder = Genes(rows, width), Values(width)
        # In the published files, and not used in inference.
        self.flag_encoder = nn.Embedding(2, width)
        if flags:
            self.pert_encoder = nn.Embedding(3, width)
        if norm == "bn":
            self.bn = nn.BatchNorm1d(width, eps=6.1e-5)
        if norm == "dsbn":
            self.dsbn = Dsbn(width, 3)
        layer = nn.TransformerEncoderLayer(width, heads, hidden, batch_first=True)
        self.transformer_encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        if kind == "affine":
            self.decoder = Affine(width)
        else:
            self.decoder = Expression(width * (1 + (kind == "batch")), width)
        if kind == "batch":
            self.batch_encoder = Genes(3, width)
        if types:
            self.cls_decoder = Types(width, types, cls_layers)
        self.eval()

    def rows(self, genes, values, padding, flags=None, batch=0):
        x = self.encoder(genes) + self.value_encoder(values)
        if flags is not None:
            x = x + self.pert_encoder(flags)
        norm = {"bn": lambda: self.bn, "dsbn": lambda: self.dsbn.bns[batch]}.get(self.norm)
        if norm:
            x = norm()(x.permute(0, 2, 1)).permute(0, 2, 1)
        return self.transformer_encoder(x, src_key_padding_mask=padding)

    @torch.no_grad()
    def run(self, head, batch=0, **inputs):
        """Of a padded batch, what a head gives for each cell, its padding included."""
        x = self.rows(**inputs, batch=batch)
        if head == "embedding":
            return x[:, 0]
        if head == "annotation":
            return self.cls_decoder(x[:, 0])
        if self.kind == "batch":
            row = self.batch_encoder(torch.tensor([batch]))
            x = torch.cat((x, row[:, None].expand_as(x)), -1)
        decoded = self.decoder(x)
        if head == "expression":
            return decoded[..., None]
        if self.kind == "affine":
            return decoded
        # The prediction itself.
        return torch.stack((torch.zeros_like(decoded), decoded), -1)


def random_weights(model, seed):
    """Of the size that trained ones have."""
    made = torch.Generator().manual_seed(seed)
    normal = lambda x: torch.randn(x.shape, generator=made)
    for name, x in model.state_dict().items():
        if name.endswith("running_mean"):
            x.copy_(normal(x) * 0.3)
        elif name.endswith("running_var"):
            x.copy_(0.2 + torch.rand(x.shape, generator=made))
        elif not x.is_floating_point():
            continue
        elif name == "value_encoder.linear1.bias":
            # ReLUs that bend where values lie; else all large values would give the same row.
            x.copy_(20 * normal(x))
        elif x.dim() == 1 and name.endswith("weight"):
            x.copy_(1 + 0.1 * normal(x))
        elif x.dim() == 1:
            x.copy_(0.1 * normal(x))
        elif "embedding" in name or "encoder.weight" in name:
            x.copy_(0.3 * normal(x))
        else:
            x.copy_(normal(x) * 1.2 / math.sqrt(x.shape[1]))
    return model


# Cells.


class Cell(NamedTuple):
    genes: list
    values: list
    flags: list


def cells(lengths, rows, seed, cls=(None, -2.0), flags=False):
    """Cells of distinct genes in bins of 1 to 50; the last two rows are <pad> and <cls>. A few
    values are what no bin is, as profiles that are not binned have them.
    """
    made, found = np.random.default_rng(seed), []
    for length in lengths:
        first, value = cls
        genes = made.choice(rows - 3, length, replace=length > rows - 3)
        values = made.integers(1, 51, length).astype(np.float32)
        values[1:3] = (0.25, 700.0)[: max(length - 1, 0)]
        if first is not None:
            genes[0], values[0] = first, value
        flag = (made.random(length) < 0.05).astype(int) if flags else []
        found.append(Cell(genes.tolist(), values.tolist(), list(map(int, flag))))
    return found


def binned(batch):
    """The same cells with no value but bins: what a model of bins has a table for."""
    whole = lambda values: [float(round(min(max(v, 1.0), 50.0))) for v in values[1:]]
    return [cell._replace(values=[cell.values[0], *whole(cell.values)]) for cell in batch]


def padded(batch, pad):
    """The tensors of a batch as the published code pads it: value -2, and True where a token is
    ignored.
    """
    longest = max(len(cell.genes) for cell in batch)
    fill = lambda items, by: items + [by] * (longest - len(items))
    found = {
        "genes": torch.tensor([fill(cell.genes, pad) for cell in batch]),
        "values": torch.tensor([fill(cell.values, -2.0) for cell in batch]),
        "padding": torch.tensor([fill([False] * len(cell.genes), True) for cell in batch]),
    }
    if batch[0].flags:
        found["flags"] = torch.tensor([fill(cell.flags, 0) for cell in batch])
    return found


def feed(cell):
    found = {
        "genes": np.array([cell.genes], np.int64),
        "values": np.array([cell.values], np.float32),
    }
    return found | ({"flags": np.array([cell.flags], np.int64)} if cell.flags else {})


def expected(model, head, batch_of_cells, batch=0):
    """What the published pass gives for each cell, without the padding."""
    rows = model.sizes[0]
    found = model.run(head, batch, **padded(batch_of_cells, rows - 3)).numpy()
    if head in ("embedding", "annotation"):
        return [x[None] for x in found]
    return [x[None, : len(cell.genes)] for x, cell in zip(found, batch_of_cells)]
