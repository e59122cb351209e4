"""What the splice recipe trains on: genes, windows of the data kit, windows of `windows.py`, and
random crops of them with read errors.

Split: by gene. Held out are the genes with md5(symbol) mod 100 < 10. A window of the kit is dropped
  when it contains sequence of a held-out gene: at least three 20-mers that occur in such a gene
  (either strand) and neither themselves nor within 60 bases occur in a training gene. Repeats
  shared by both sides are what that second condition spares. Windows of `windows.py` are made of
  training genes alone.
Errors: put in while training, as `strandline simulate` makes them or mostly substitutions, with the
  labels carried along: a network then learns to see a site through them. The kit's windows have
  errors of their own under labels that a network gave the sequence with its errors, which teaches
  the opposite; those with 6 and 12 % are left out.
"""

import csv
import gzip
import os

import numpy as np

from read_errors import SHARES, carry, simulate
from sequences import bucket, encode, reverse_complement

KINDS = ("acceptor", "donor")
K = 20  # k-mer length of the leakage filter
MOSTLY_SUBSTITUTIONS = (0.8, 0.1, 0.1)


def held_out(symbol):
    return bucket(symbol) < 10


def load_genes(folder):
    """List of dicts: id, symbol, bases (uint8), hard and soft labels (uint8 [L, 2], 255 =
    certain).
    """
    teacher = np.load(os.path.join(folder, "teacher_chr1.npz"))
    genes, name = {}, None
    with gzip.open(os.path.join(folder, "genes_chr1.fa.gz"), "rb") as lines:
        for line in lines:
            if line[:1] == b">":
                name, symbol = line[1:].decode().split()[:2]
                genes[name] = {"id": name, "symbol": symbol, "text": []}
            else:
                genes[name]["text"].append(line.strip())
    for name, gene in genes.items():
        gene["bases"] = encode(b"".join(gene.pop("text")))
        gene["soft"] = teacher[name]
        gene["hard"] = np.zeros((len(gene["bases"]), 2), np.uint8)
        gene["held_out"] = held_out(gene["symbol"])
    with open(os.path.join(folder, "sites_chr1.tsv")) as lines:
        for row in csv.DictReader(lines, delimiter="\t"):
            genes[row["gene_idx"]]["hard"][int(row["pos0"]), KINDS.index(row["kind"])] = 255
    return list(genes.values())


# -------------------------------------------------------------------------------- the kit's windows


def kmers(bases):
    """2-bit codes of all K-mers of [..., L] bases without N."""
    n = bases.shape[-1] - K + 1
    value = np.zeros(bases.shape[:-1] + (n,), np.uint64)
    for i in range(K):
        value = (value << np.uint64(2)) | bases[..., i : i + n]
    return value


def both_strands(bases):
    return np.concatenate([kmers(bases & 3), kmers(reverse_complement(bases) & 3)])


def contains(sorted_values, x):
    return sorted_values[np.searchsorted(sorted_values, x).clip(max=len(sorted_values) - 1)] == x


def pack_bases(bases):
    """Four bases a byte, lowest bits first."""
    q = bases.reshape(len(bases), -1, 4)
    return (q[..., 0] | q[..., 1] << 2 | q[..., 2] << 4 | q[..., 3] << 6).astype(np.uint8)


def unpack_bases(packed):
    return ((packed[..., None] >> np.array([0, 2, 4, 6], np.uint8)) & 3).reshape(
        *packed.shape[:-1], -1
    )


def windows_with_held_out_sequence(genes, packed):
    """Number of held-out-specific K-mers in each window (see the module's docstring)."""
    training = np.unique(
        np.concatenate([both_strands(g["bases"]) for g in genes if not g["held_out"]])
    )
    specific = []
    for gene in genes:
        if gene["held_out"]:
            forward = kmers(gene["bases"] & 3)
            shared = np.concatenate([[0], np.cumsum(contains(training, forward))])
            at, n = np.arange(len(forward)), len(forward)
            own = shared[np.minimum(at + 61, n)] == shared[np.maximum(at - 60, 0)]
            specific += [forward[own], kmers(reverse_complement(gene["bases"]) & 3)[::-1][own]]
    specific = np.unique(np.concatenate(specific))
    slot = lambda v: ((v * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(36)).astype(np.int64)
    bitmap = np.zeros(1 << 28, bool)  # spares most of the binary searches
    bitmap[slot(specific)] = True
    hits = np.zeros(len(packed), np.int64)
    for start in range(0, len(packed), 64):
        codes = kmers(unpack_bases(packed[start : start + 64]))
        window, at = np.nonzero(bitmap[slot(codes)])
        found = contains(specific, codes[window, at])
        hits[start : start + 64] = np.bincount(window[found], minlength=len(codes))
    return hits


def known_share(genes, packed):
    """Share of each window's K-mers that occur in a gene: 1 where it has no errors, about .82 at 1
    %, .54 at 3 %, .3 at 6 %."""
    known = np.unique(np.concatenate([both_strands(g["bases"]) for g in genes]))
    return np.array([contains(known, kmers(unpack_bases(p))[::37]).mean() for p in packed])


def load_windows(folder, genes, cache):
    """The kit's windows as a source of crops; `cache` is the path that the two filters' results are
    kept under."""
    parts, count = [], 0
    for i in (1, 2):
        part = np.load(os.path.join(folder, f"augmented_{i}.npz"))
        parts.append(
            (part["seq"], part["where"] + np.array([count, 0, 0], np.int32), part["value"])
        )
        count += len(part["seq"])
    seq, where, value = (np.concatenate(column) for column in zip(*parts))
    if not os.path.exists(cache):
        np.savez(
            cache, hits=windows_with_held_out_sequence(genes, seq), known=known_share(genes, seq)
        )
    found = np.load(cache)
    order = np.argsort(where[:, 0], kind="stable")
    return Windows(
        seq,
        where[order],
        value[order],
        (found["hits"] < 3) & (found["known"] > 0.45),
        with_errors=True,
    )


class Windows:
    """Packed sequences [n, L / 4] with sparse labels (window, channel, position; value), sorted by
    window."""

    def __init__(self, seq, where, value, keep=None, with_errors=False):
        self.seq, self.channel, self.at, self.value, self.with_errors = (
            seq,
            where[:, 1],
            where[:, 2],
            value,
            with_errors,
        )
        self.chosen = np.arange(len(seq)) if keep is None else np.flatnonzero(keep)
        self.start = np.searchsorted(where[:, 0], np.arange(len(seq) + 1))
        self.sense = np.zeros(
            len(seq), bool
        )  # the others are antisense: they have no confident site and are not turned again
        self.sense[where[value >= 128, 0]] = True


# -------------------------------------------------------------------------------------------- crops


class Crops:
    """Random crops. No context beyond their ends: a read has none either.

    `parts`: of genes, of `made` windows, of the kit's windows. `errors`: part of the crops that get
    errors, at a rate of up to `most`, lower ones the commoner."""

    def __init__(
        self,
        genes,
        kit,
        made,
        batch,
        crop,
        parts=(0.3, 0.5, 0.2),
        antisense=0.1,
        errors=0.45,
        most=0.12,
        power=1.5,
    ):
        self.batch, self.crop, self.parts, self.antisense = batch, crop, np.cumsum(parts), antisense
        self.errors, self.most, self.power = errors, most, power
        self.kit, self.made = kit, made
        self.genes = [g for g in genes if not g["held_out"]]
        lengths = np.array([len(g["bases"]) for g in self.genes], float)
        self.weights = np.cumsum(lengths / lengths.sum())
        self.labels = []
        for gene in self.genes:
            sparse = []
            for name in ("hard", "soft"):
                at, channel = np.nonzero(gene[name])
                sparse.append((at, channel, gene[name][at, channel]))
            self.labels.append(sparse)

    def pick(self, rng):
        """Bases, positions, channels and values of a crop before errors; whether it may get errors;
        whether it is sense."""
        u, slack = rng.random(), int(self.crop * 1.1)  # deletions shorten it
        if u < self.parts[0]:
            g = min(np.searchsorted(self.weights, rng.random()), len(self.genes) - 1)
            bases = self.genes[g]["bases"]
            n = min(len(bases), slack)
            a = int(rng.integers(len(bases) - n + 1))
            at, channel, value = self.labels[g][rng.integers(2)]
            i, j = np.searchsorted(at, [a, a + n])
            return bases[a : a + n], at[i:j] - a, channel[i:j], value[i:j], True, True
        source = self.kit if u >= self.parts[1] else self.made[rng.integers(len(self.made))]
        w = source.chosen[rng.integers(len(source.chosen))]
        bases = unpack_bases(source.seq[w])
        n = min(len(bases), self.crop if source.with_errors else slack)
        a = int(rng.integers(len(bases) - n + 1))
        rows = slice(source.start[w], source.start[w + 1])
        at = source.at[rows] - a
        inside = (at >= 0) & (at < n)
        return (
            bases[a : a + n],
            at[inside],
            source.channel[rows][inside],
            source.value[rows][inside],
            not source.with_errors,
            source.sense[w],
        )

    def next(self, rng):
        """Base codes [B, T], labels [B, T, 2] of 255, and the lengths of the crops: those of short
        genes are less than T."""
        x = np.full((self.batch, self.crop), 4, np.uint8)
        y = np.zeros((self.batch, self.crop, 2), np.uint8)
        lengths = np.empty(self.batch, np.int32)
        for i in range(self.batch):
            bases, at, channel, value, may_err, sense = self.pick(rng)
            if may_err and rng.random() < self.errors:
                rate = rng.random() ** self.power * self.most
                bases, places = simulate(
                    bases, rate, rng, SHARES if rng.random() < 0.6 else MOSTLY_SUBSTITUTIONS
                )
                at = carry(at, places, channel, len(bases))
            n = min(len(bases), self.crop)
            inside = (at >= 0) & (at < n)
            x[i, :n], lengths[i] = bases[:n], n
            if sense and rng.random() < self.antisense:
                x[i, :n] = reverse_complement(x[i, :n])
            else:
                np.maximum.at(y[i], (at[inside], channel[inside]), value[inside])
        return x, y, lengths
