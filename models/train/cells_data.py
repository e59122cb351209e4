"""Single-cell matrices of the data kit as counts, and the tokens that a network reads of them.

What: readers of the kit's `.npz` and of 10x `.h5ad`, labels where a set has them, and for training
  the changes that another chemistry, depth or gene panel would make to a cell.
Why: a network that has seen one set knows that set's genes and depth. What it must not rely on is
  drawn anew for every batch (`Lab`): how many molecules were caught, how well each gene is
  caught, what else was in the droplet, which genes the table has.
How: log-normalised cells become counts again: a cell's smallest value is one molecule, which gives
  the cell's total. Then everything is Poisson in counts, and is normalised as the runtime does.
"""

import os
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

PAD, CLS = 0, 1  # ids of the special tokens, which come first
SPECIAL = ("<pad>", "<cls>")
TARGET = 1e4  # molecules that a cell is normalised to


@dataclass
class Cells:
    """Counts [cells, genes], molecules of a cell over all genes ever measured, names, labels."""

    counts: sp.csr_matrix
    totals: np.ndarray
    genes: list
    labels: np.ndarray | None = None
    names: np.ndarray | None = None

    def part(self, which):
        pick = lambda x: None if x is None else x[which]
        return Cells(
            self.counts[which], self.totals[which], self.genes, pick(self.labels), pick(self.names)
        )

    def over(self, genes):
        """Dense counts [cells, len(genes)], and which of the genes there are."""
        at = {g: i for i, g in enumerate(self.genes)}
        known = np.array([g in at for g in genes])
        dense = np.zeros((self.counts.shape[0], len(genes)), np.float32)
        dense[:, known] = self.counts[:, [at[g] for g in genes if g in at]].toarray()
        return dense, known


def counted(values):
    """Counts and totals of log-normalised rows: the smallest value of a cell is one molecule."""
    values = sp.csr_matrix(values, dtype=np.float64)
    values.eliminate_zeros()
    values.data = np.expm1(values.data)
    totals = np.zeros(values.shape[0])
    for i in range(values.shape[0]):
        row = values.data[values.indptr[i] : values.indptr[i + 1]]
        if len(row):
            totals[i] = TARGET / row.min()
            row *= totals[i] / TARGET
    values.data = np.round(values.data)
    return values.astype(np.float32), totals


def read_npz(path):
    """The CSR arrays of a file of the kit, and the file."""
    file = np.load(path, allow_pickle=False)
    matrix = sp.csr_matrix((file["data"], file["indices"], file["indptr"]), shape=file["shape"])
    genes = [str(g).removeprefix("hg19_") for g in file["genes"]]
    return matrix.astype(np.float32), genes, file


def read_pbmc3k(folder):
    values, genes, file = read_npz(os.path.join(folder, "pbmc3k_2638x2000.npz"))
    counts, totals = counted(values)
    return Cells(counts, totals, genes, file["label"].astype(str), file["cells"].astype(str))


def read_counts(path):
    """A file of raw counts without labels."""
    counts, genes, _ = read_npz(path)
    return Cells(counts, np.asarray(counts.sum(1)).ravel().astype(float), genes)


TYPES = (
    "B",
    "CD14+ Mono",
    "CD8 T",
    "DC",
    "FCGR3A+ Mono",
    "Memory CD4 T",
    "NK",
    "Naive CD4 T",
    "Platelet",
)

# What the bulk-matched labels of pbmc68k_reduced are in pbmc3k's words.
PBMC68K = {
    "CD19+ B": "B",
    "CD4+/CD25 T Reg": "Memory CD4 T",
    "CD4+/CD45RA+/CD25- Naive T": "Naive CD4 T",
    "CD4+/CD45RO+ Memory": "Memory CD4 T",
    "CD56+ NK": "NK",
    "CD8+ Cytotoxic T": "CD8 T",
    "CD8+/CD45RA+ Naive Cytotoxic": "CD8 T",
}


def read_pbmc68k(path):
    """scanpy's `10x_pbmc68k_reduced.h5ad`, as anndata wrote it in 2018."""
    import h5py

    with h5py.File(path) as file:
        raw = file["raw.X"]
        parts = raw["data"][:], raw["indices"][:], raw["indptr"][:]
        values = sp.csr_matrix(parts, shape=raw.attrs["h5sparse_shape"])
        genes = [g.decode() for g in file["raw.var"]["index"]]
        kinds = np.array([x.decode() for x in file["uns/bulk_labels_categories"][:]])
        own = kinds[file["obs"]["bulk_labels"]]
    counts, totals = counted(values)
    label = np.array([PBMC68K.get(x, "") for x in own], object)
    # "CD14+ Monocyte" and "Dendritic" are mixtures there: nearly all of the first have FCGR3A.
    dense = counts.toarray()
    of = lambda *names: sum(dense[:, genes.index(n)] for n in names)
    myeloid = (own == "CD14+ Monocyte") | (own == "Dendritic")
    sixteen, dendritic, fourteen = of("FCGR3A"), of("FCER1A", "CLEC10A"), of("S100A8", "S100A9")
    label[myeloid & (sixteen >= 2) & (dendritic == 0)] = "FCGR3A+ Mono"
    label[myeloid & (sixteen == 0) & (dendritic >= 2)] = "DC"
    label[myeloid & (sixteen == 0) & (dendritic == 0) & (fourteen >= 4)] = "CD14+ Mono"
    return Cells(counts, totals, genes, label.astype(str))


def read_citeseq(folder):
    """Cells with their proteins, and a label by gates on these; "" where no gate is clear."""
    cells = read_counts(os.path.join(folder, "citeseq_rna.npz"))
    proteins, names, _ = read_npz(os.path.join(folder, "citeseq_adt.npz"))
    log = np.log1p(proteins.toarray())
    high = lambda name, limit: log[:, names.index(name)] > limit
    cd4, cd8, cd3 = high("CD4", 4.0), high("CD8", 4.0), high("CD3", 1.0)
    ra = log[:, names.index("CD45RA")] - log[:, names.index("CD45RO")]
    b = high("CD19", 4.0)
    myeloid = high("CD11c", 4.0) & high("CD11b", 2.5) & ~b & ~cd8
    t = cd3 & ~b & ~myeloid
    label = np.full(len(log), "", object)
    label[t & cd8 & ~high("CD4", 3.0)] = "CD8 T"
    label[t & cd4 & ~high("CD8", 3.0)] = "CD4 T"
    label[(label == "CD4 T") & (ra > 1.0)] = "Naive CD4 T"
    label[(label == "CD4 T") & (ra <= 0.0)] = "Memory CD4 T"
    label[b & ~t] = "B"
    label[high("CD56", 4.0) & ~cd3] = "NK"
    label[myeloid & high("CD14", 2.5)] = "CD14+ Mono"
    cells.labels = label.astype(str)
    return cells


# ------------------------------------------------------------------------------------ to tokens


def levels(counts, totals):
    """Natural logarithm of one plus molecules in TARGET."""
    return np.log1p(counts * (TARGET / np.maximum(totals, 1.0))[:, None]).astype(np.float32)


def tokens(values, most, first=(CLS,), rng=None):
    """Padded ids [n, T], values [n, T] and which are padding, of rows of values over the genes of
    the vocabulary. Zeros are left out. Where a cell has more than `most` tokens, the highest values
    stay (ties: the lower id), or with `rng` genes that are drawn."""
    count = np.minimum((values > 0).sum(1), most - len(first))
    longest = max(1, int(count.max(initial=0)))
    if rng is None:
        order = np.argsort(-values, axis=1, kind="stable")[:, :longest]
    else:
        keys = np.where(values > 0, rng.random(values.shape, dtype=np.float32), 2.0)
        order = np.argpartition(keys, longest - 1, axis=1)[:, :longest]
        order = np.take_along_axis(order, np.take_along_axis(keys, order, 1).argsort(1), 1)
    inside = np.arange(longest) < count[:, None]
    ids = np.where(inside, order + len(SPECIAL), PAD)
    seen = np.where(inside, np.take_along_axis(values, order, 1), 0).astype(np.float32)
    lead = np.tile(np.array(first, ids.dtype), (len(ids), 1))
    ids = np.concatenate([lead, ids], 1)
    seen = np.concatenate([np.zeros(lead.shape, np.float32), seen], 1)
    ignored = np.concatenate([np.zeros(lead.shape, bool), ~inside], 1)
    return ids, seen, ignored


class Lab:
    """Cells as another experiment would have measured them.

    A batch has several experiments. Each has its panel, a factor for every gene (the chemistry),
    and its own rule of what a cell is normalised by. A cell has its own depth, may be a mixture of
    two of its type, and catches what floats about (ambient molecules)."""

    def __init__(self, sets, shares, experiments=8):
        """`sets`: (counts [n, genes], totals [n], targets [n, types] of 0 and 1)."""
        self.sets, self.experiments = sets, experiments
        self.shares = np.array(shares) / sum(shares)
        self.ambient, self.kinds = [], []
        for counts, totals, targets in sets:
            self.ambient.append(counts.sum(0) / totals.sum())
            # A kind is a set of types that a label allows.
            kinds, own = np.unique(targets, axis=0, return_inverse=True)
            members = [np.flatnonzero(own.ravel() == k) for k in range(len(kinds))]
            weight = np.sqrt([len(m) for m in members])
            self.kinds.append((members, weight / weight.sum()))

    def draw(self, rng, batch):
        """Values [batch, genes] and targets."""
        genes = self.ambient[0].size
        counts, totals, targets = np.zeros((batch, genes), np.float32), np.zeros(batch), []
        for i, own in enumerate(rng.choice(len(self.sets), batch, p=self.shares)):
            members, weight = self.kinds[own]
            cells = members[rng.choice(len(members), p=weight)]
            one, two = rng.choice(cells, 2)
            share = rng.uniform(0.2, 0.8) if rng.random() < 0.3 else 1.0
            known, sums, labels = self.sets[own]
            mixed = share * known[one] + (1 - share) * known[two]
            total = share * sums[one] + (1 - share) * sums[two]
            depth = np.exp(rng.uniform(np.log(0.3), np.log(2.0)))
            soup = rng.uniform(0, 0.08) if rng.random() < 0.5 else 0.0
            mixed = (1 - soup) * mixed + soup * total * self.ambient[own]
            still = share == 1.0 and rng.random() < 0.3  # the cell as it was measured
            counts[i] = known[one] if still else mixed * -depth  # negative: still to be drawn
            totals[i] = sums[one] if still else total * depth
            targets.append(labels[one])
        size = -(-batch // self.experiments)
        values = np.empty_like(counts)
        for first in range(0, batch, size):
            part = slice(first, first + size)
            values[part] = self.experiment(rng, counts[part], totals[part])
        return values, np.stack(targets)

    def experiment(self, rng, counts, totals):
        genes = counts.shape[1]
        factor = np.exp(rng.uniform(0, 0.9) * rng.standard_normal(genes)).astype(np.float32)
        drawn = rng.poisson(np.maximum(-counts, 0) * factor)
        counts = np.where(counts > 0, counts, drawn).astype(np.float32)
        kept = rng.random(genes) < rng.uniform(0.2, 1.0)
        counts[:, ~kept] = 0
        if rng.random() < 0.3:  # normalised by what the panel has
            totals = np.maximum(counts.sum(1), 20) / rng.uniform(0.3, 1.0)
        scale = np.exp(0.25 * rng.standard_normal(len(counts)))
        return levels(counts, totals * scale)
