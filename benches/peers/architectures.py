"""The five benchmark networks as PyTorch modules, and their random weights."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sequences import KMER_VOCABULARY, one_hot, windows


def same(channels_in, channels_out, width, dilation=1, bias=True):
    """A convolution that keeps the length."""
    return nn.Conv1d(
        channels_in,
        channels_out,
        width,
        padding=dilation * (width // 2),
        dilation=dilation,
        bias=bias,
    )


class Tiny(nn.Module):
    """4-16-16-16-3, width 5, soft-max over the channels: [1, 4, T] to [1, 3, T]."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            same(4, 16, 5), nn.ReLU(), same(16, 16, 5), nn.ReLU(), same(16, 16, 5), nn.ReLU()
        )
        self.head = same(16, 3, 5)

    def logits(self, x):
        return self.head(self.body(x))

    def forward(self, x):
        return torch.softmax(self.logits(x), dim=1)


class ResidualBlock(nn.Module):
    """Two times batch norm, ReLU and a dilated convolution, and the input added."""

    def __init__(self, channels, width, dilation):
        super().__init__()
        self.first_norm = nn.BatchNorm1d(channels)
        self.first = same(channels, channels, width, dilation)
        self.second_norm = nn.BatchNorm1d(channels)
        self.second = same(channels, channels, width, dilation)

    def forward(self, x):
        rows = self.first(torch.relu(self.first_norm(x)))
        return x + self.second(torch.relu(self.second_norm(rows)))


class Residual(nn.Module):
    """The shape of a SpliceAI of 400 nt: 32 channels, eight blocks, dilations 1 and 4: [1, 4, T] to
    [1, 3, T]."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(4, 32, 1)
        self.groups = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(32, 11, dilation) for _ in range(4)))
            for dilation in (1, 4)
        )
        self.skips = nn.ModuleList(nn.Conv1d(32, 32, 1) for _ in range(3))
        self.head = nn.Conv1d(32, 3, 1)

    def logits(self, x):
        x = self.first(x)
        skip = self.skips[0](x)
        for group, through in zip(self.groups, self.skips[1:]):
            x = group(x)
            skip = skip + through(x)
        return self.head(skip)

    def forward(self, x):
        return torch.softmax(self.logits(x), dim=1)


class CoarseBlock(nn.Module):
    """A dilated convolution, batch norm and ReLU, and the input added."""

    def __init__(self, channels, width, dilation):
        super().__init__()
        self.conv = same(channels, channels, width, dilation, bias=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x):
        return x + torch.relu(self.norm(self.conv(x)))


class Branches(nn.Module):
    """Full resolution beside a branch of a quarter of it, added after nearest upsampling: [1, 4, T]
    to logits [1, 3, T].

    T is a multiple of 4.
    """

    def __init__(self):
        super().__init__()
        self.fine = nn.Sequential(same(4, 16, 11, bias=False), nn.BatchNorm1d(16), nn.ReLU())
        down = nn.Conv1d(16, 32, 8, stride=4, padding=2, bias=False)
        blocks = (CoarseBlock(32, 7, dilation) for dilation in (1, 4, 16))
        self.coarse = nn.Sequential(down, nn.BatchNorm1d(32), nn.ReLU(), *blocks)
        self.back = nn.Conv1d(32, 16, 1)
        self.join = nn.Sequential(same(16, 16, 7, bias=False), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Conv1d(16, 3, 1)

    def logits(self, x):
        fine = self.fine(x)
        coarse = functional.interpolate(self.coarse(fine), scale_factor=4, mode="nearest")
        return self.head(self.join(torch.relu(fine + self.back(coarse))))

    forward = logits


class Attention(nn.Module):
    """Multi-head attention without projections' fusion, as encoders are written and exported."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def split(self, rows):
        return rows.view(1, -1, self.heads, self.size).transpose(1, 2)

    def forward(self, x, bias):
        query, key, value = (
            self.split(self.query(x)),
            self.split(self.key(x)),
            self.split(self.value(x)),
        )
        scores = torch.matmul(query, key.transpose(-1, -2)) / self.size**0.5
        if bias is not None:
            scores = scores + bias
        rows = torch.matmul(torch.softmax(scores, dim=-1), value)
        return self.out(rows.transpose(1, 2).reshape(1, -1, self.heads * self.size))


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network with GELU; the layer norm before each (ESM) or after the
    addition (BERT)."""

    def __init__(self, width, heads, hidden, norm_first, epsilon):
        super().__init__()
        self.norm_first = norm_first
        self.attention = Attention(width, heads)
        self.attention_norm = nn.LayerNorm(width, epsilon)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.output_norm = nn.LayerNorm(width, epsilon)

    def feed_forward(self, x):
        return self.down(functional.gelu(self.up(x)))

    def forward(self, x, bias):
        if self.norm_first:
            x = x + self.attention(self.attention_norm(x), bias)
            return x + self.feed_forward(self.output_norm(x))
        x = self.attention_norm(x + self.attention(x, bias))
        return self.output_norm(x + self.feed_forward(x))


def mask_bias(mask):
    """Added to the scores: 0 where the int64 mask [1, T] is 1, -10,000 where it is 0."""
    return None if mask is None else (1.0 - mask[:, None, None, :].to(torch.float32)) * -1e4


class UtrLm(nn.Module):
    """Six pre-norm layers of 128 channels and 16 heads, mean over the tokens, one value: ids [1, T]
    to [1, 1]."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(10, 128), nn.Embedding(512, 128)
        self.layers = nn.ModuleList(EncoderLayer(128, 16, 512, True, 1e-5) for _ in range(6))
        self.norm = nn.LayerNorm(128, 1e-5)
        self.head = nn.Linear(128, 1)

    def forward(self, ids, mask=None):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x, mask_bias(mask))
        x = self.norm(x)
        if mask is None:
            return self.head(x.mean(dim=1))
        weight = mask[:, :, None].to(torch.float32)
        return self.head((x * weight).sum(dim=1) / weight.sum(dim=1))


class DnaBert(nn.Module):
    """BERT of 12 layers, 768 channels and 12 heads over 6-mers, pooled at CLS: ids [1, T] to logits
    [1, 2]."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions, self.kinds = (
            nn.Embedding(KMER_VOCABULARY, 768),
            nn.Embedding(512, 768),
            nn.Embedding(2, 768),
        )
        self.norm = nn.LayerNorm(768, 1e-12)
        self.layers = nn.ModuleList(EncoderLayer(768, 12, 3072, False, 1e-12) for _ in range(12))
        self.pooler, self.head = nn.Linear(768, 768), nn.Linear(768, 2)

    def forward(self, ids, mask=None):
        x = (
            self.tokens(ids)
            + self.kinds(torch.zeros_like(ids))
            + self.positions(torch.arange(ids.shape[1]))
        )
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask_bias(mask))
        return self.head(torch.tanh(self.pooler(x[:, 0])))


def initialise_convolutions(module):
    """He weights; batch norms with uneven scales and the statistics of real sequences, as a trained
    network has them."""
    for part in module.modules():
        if isinstance(part, nn.Conv1d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.normal_(part.bias, std=0.1)
        elif isinstance(part, nn.BatchNorm1d):
            nn.init.uniform_(part.weight, 0.6, 1.4)
            nn.init.normal_(part.bias, std=0.3)
            part.momentum = None  # a plain average over the forward passes below
    sample = torch.from_numpy(np.concatenate([one_hot(text) for text in windows(4096, 16)]))
    module.train()
    module(sample)
    module.eval()
    spread = module.logits(sample).std()
    module.head.weight.mul_(
        2 / spread
    )  # logits spread as those of a classifier, so that soft-max has work to do
    module.head.bias.mul_(2 / spread)


def initialise_utrlm(module):
    """Weights that keep the variance, so that attention is not flat."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_normal_(part.weight)
            nn.init.normal_(part.bias, std=0.02)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.5)
        elif isinstance(part, nn.LayerNorm):
            nn.init.uniform_(part.weight, 0.6, 1.4)
            nn.init.normal_(part.bias, std=0.1)


def initialise_bert(module):
    """As BERT initialises: normal of 0.02. Biases and layer norms are drawn too: the exporter
    merges equal tensors."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=0.02)
        elif isinstance(part, nn.LayerNorm):
            nn.init.normal_(part.weight, 1, 0.02)
        if isinstance(part, (nn.Linear, nn.LayerNorm)):
            nn.init.normal_(part.bias, std=0.02)
