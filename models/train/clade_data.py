"""What the recipe of the clade networks trains on: introns with their exons' ends, joined to genes
of random makeup, annotated contigs and gene loci; and what they are measured on.

Species: Drosophila melanogaster (insect), Caenorhabditis elegans (nematode), Arabidopsis thaliana
  (plant).
Pieces: 50 bases of an exon, an intron of 40 to 150, 50 bases of the next exon. Consecutive pieces
  of a gene that share bases are put together again; elsewhere exon sequence of the contigs stands
  between them. Introns are made longer with sequence from the inside of long introns and from
  between genes, as often as the species' own introns are longer than 150.
Split: by place. Held out are Chr5, III and the second half of 2L of the development contigs, a
  fifth of the fly loci. Pieces whose donor or acceptor lies in either, and loci that share sequence
  with the held-out half of the contig, are not trained on.
"""

import gzip
import os
import re
from collections import defaultdict

import numpy as np

from read_errors import SHARES, carry, simulate
from sequences import bucket, encode, read_sequences, reverse_complement
from splice_data import MOSTLY_SUBSTITUTIONS

SPECIES = {"insect": "dm", "nematode": "ce", "plant": "at"}
LONG = {"insect": 0.45, "nematode": 0.4, "plant": 0.3}  # of the introns: longer than 150
HELD_OUT = {"insect": {"2L": 142_700}, "nematode": {"III": 0}, "plant": {"Chr5": 0}}
SHORT = 150  # longest intron of the pieces
NEAR = 15  # bases on both sides that tell a site from others of its gene
SHARED = 12  # fewest bases that two pieces of one exon share


class Contig:
    """Both strands' bases, sites and transcripts: those of strand 1 in its own orientation."""

    def __init__(self, name, bases):
        self.name, self.length = name, len(bases)
        self.bases = (bases, reverse_complement(bases))
        self.hard = tuple(np.zeros((len(bases), 2), np.uint8) for _ in range(2))
        self.inside = tuple(np.zeros(len(bases), bool) for _ in range(2))

    def strands(self):
        free = ~(self.inside[0] | self.inside[1][::-1])
        for s in range(2):
            yield Strand(self.bases[s], self.hard[s], self.inside[s], free[:: 1 - 2 * s])

    def strand(self, start, end, sign):
        return (start, end) if sign == "+" else (self.length - end, self.length - start)


class Strand:
    """Bases, sites and transcripts of one strand, in its own orientation; `between`: where neither
    strand has a transcript."""

    def __init__(self, bases, hard, inside, between):
        self.bases, self.hard, self.inside, self.between = bases, hard, inside, between


def load_contigs(folder, clade):
    code = SPECIES[clade]
    contigs = {}
    for header, text in read_sequences(os.path.join(folder, f"dev_{code}.fa.gz")):
        name = header.split()[0]
        contigs[name] = Contig(name, encode(text))
    with open(os.path.join(folder, f"dev_{code}.tsv")) as lines:
        next(lines)
        for line in lines:
            name, sign, kind, start, end = line.split()
            contig, s = contigs[name], int(sign == "-")
            start, end = contig.strand(int(start), int(end), sign)
            if kind == "transcript":
                contig.inside[s][start:end] = True
            else:
                contig.hard[s][start, ("acceptor", "donor").index(kind)] = 255
    return list(contigs.values())


def part(contig, start, end):
    """The bases from start to end of the forward strand, as a contig."""
    other = Contig(contig.name, contig.bases[0][start:end])
    for s, (a, b) in enumerate([(start, end), (contig.length - end, contig.length - start)]):
        other.hard[s][:] = contig.hard[s][a:b]
        other.inside[s][:] = contig.inside[s][a:b]
    return other


def split_contigs(contigs, clade):
    """(those to train on, those held out)"""
    train, held = [], []
    for contig in contigs:
        start = HELD_OUT[clade].get(contig.name)
        if start is None:
            train.append(contig)
            continue
        held.append(part(contig, start, contig.length))
        if start:
            train.append(part(contig, 0, start))
    return train, held


def load_loci(path):
    """Fly genes: (bases, hard), from 200 bases before the start codon to 200 behind the stop.
    Introns of the untranslated regions are not known."""
    with gzip.open(path, "rt") as file:
        records = file.read().split("\n//")
    for record in records:
        at = re.search(r"CDS\s+([^/]+)", record)
        if not at:
            continue
        exons = [
            (int(a) - 1, int(b)) for a, b in re.findall(r"(\d+)\.\.(\d+)", re.sub(r"\s", "", at[1]))
        ]
        origin = record.split("ORIGIN", 1)[1]
        bases = encode(re.sub(r"[^a-zA-Z]", "", origin))
        name = record.split()[1]
        if "complement" in at[1]:
            bases = reverse_complement(bases)
            exons = [(len(bases) - b, len(bases) - a) for a, b in reversed(exons)]
        hard = np.zeros((len(bases), 2), np.uint8)
        for (_, end), (start, _) in zip(exons, exons[1:]):
            if start - end >= 20:
                hard[end - 1, 1] = hard[start, 0] = 255
        a, b = max(0, exons[0][0] - 200), min(len(bases), exons[-1][1] + 200)
        yield name, bases[a:b], hard[a:b]


def split_loci(data, clade):
    """(those to train on, those held out)"""
    if clade != "insect":
        return [], []
    loci = list(load_loci(os.path.join(data, "genome", "fly_chr2L_392_loci.gb.gz")))
    part = lambda held: [(b, h) for name, b, h in loci if (bucket(name) < 20) == held]
    return part(False), part(True)


def held_strands(data, clade):
    """What is measured: strands of held-out contigs, and held-out loci from the start codon on."""
    _, held = split_contigs(load_contigs(os.path.join(data, "clades"), clade), clade)
    strands = [s for contig in held for s in contig.strands()]
    for bases, hard in split_loci(data, clade)[1]:
        none = np.zeros(len(bases), bool)
        strands.append(Strand(bases, hard, np.arange(len(bases)) > 200, none))
    return strands


class Piece:
    __slots__ = ("bases", "donor", "acceptor", "at", "channel", "next", "shared", "of")

    def __init__(self, left, intron, right):
        self.bases = encode(left + intron + right)
        self.donor, self.acceptor = len(left) - 1, len(left) + len(intron)
        self.next, self.shared = None, 0
        self.of = None  # of a crossed one, the piece that its end is of


def load_pieces(folder, clade, held):
    """Pieces by gene, joined where they share an exon; without those of held-out sequence."""
    known = set()
    for bases in held:
        text = bytes(bases)
        known.update(text[i : i + 24] for i in range(len(text) - 23))
    genes, dropped = defaultdict(list), 0
    with gzip.open(os.path.join(folder, f"eie_{SPECIES[clade]}.txt.gz"), "rt") as lines:
        for line in lines:
            left, intron, right, _, gene = line.split()
            piece = Piece(left, intron, right)
            donor = bytes(piece.bases[piece.donor - 11 : piece.donor + 13])
            acceptor = bytes(piece.bases[piece.acceptor - 12 : piece.acceptor + 12])
            if donor in known or acceptor in known:
                dropped += 1
                continue
            genes[gene].append(piece)
    for pieces in genes.values():
        sites = set()
        for p in pieces:
            for c, at in enumerate((p.acceptor, p.donor)):
                sites.add((c, bytes(p.bases[at - NEAR : at + NEAR])))
        for i, p in enumerate(pieces):
            text, found = bytes(p.bases), {(0, p.acceptor), (1, p.donor)}
            for c, near in sites:
                at = text.find(near)
                if at >= 0:
                    found.add((c, at + NEAR))
            p.channel = np.array([c for c, _ in found])
            p.at = np.array([a for _, a in found])
            for q in pieces[i + 1 : i + 4]:
                shared = common(text[p.acceptor :], bytes(q.bases[: q.donor + 1]))
                if shared:
                    p.next, p.shared = q, shared
                    break
    return list(genes.values()), dropped


def common(right, left):
    """How many bases the end of one exon's first 50 and the start of its last 50 share."""
    for n in range(min(len(right), len(left)), SHARED - 1, -1):
        if right[-n:] == left[:n]:
            return n
    return 0


class Reservoir:
    """Sequence to draw stretches from."""

    def __init__(self, parts, shortest):
        self.parts = [p for p in parts if len(p) >= shortest]
        lengths = np.array([len(p) for p in self.parts], float)
        self.share = np.cumsum(lengths / lengths.sum())

    def draw(self, rng, length):
        p = self.parts[min(int(np.searchsorted(self.share, rng.random())), len(self.parts) - 1)]
        a = int(rng.integers(max(1, len(p) - length + 1)))
        return p[a : a + length]


def introns(hard):
    """Length of the intron at a site, 0 for none: from a donor to the next acceptor."""
    length = np.zeros(hard.shape, np.int64)
    at, kind = np.nonzero(hard)
    for a, b, x, y in zip(at, at[1:], kind, kind[1:]):
        if x == 1 and y == 0:
            length[a, 1] = length[b, 0] = b - a - 1
    return length


def stretches(flags):
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return zip(edges[::2], edges[1::2])


def insides(contigs):
    """(exons, long introns, between genes): bases in the orientation of their strand. An intron
    goes from a donor to the nearest acceptor behind it, an exon from an acceptor to the nearest
    donor."""
    exons, introns, between = [], [], []
    for contig in contigs:
        free = ~(contig.inside[0] | contig.inside[1][::-1])
        between += [contig.bases[0][a:b] for a, b in stretches(free)]
        for bases, hard in zip(contig.bases, contig.hard):
            at, kind = np.nonzero(hard)
            for a, b, x, y in zip(at, at[1:], kind, kind[1:]):
                if x == 1 and y == 0 and b - a > SHORT:
                    introns.append(bases[a + 20 : b - 60])
                if x == 0 and y == 1 and b - a > 60:
                    exons.append(bases[a + 10 : b - 10])
    return exons, introns, between


class CladeCrops:
    """Random crops for `splice.py`'s steps: base codes [B, T], labels [B, T, 2] of 255, lengths.

    `real`: part of the crops that are of contigs and loci. `crossed`: part of the introns that are
    made of two. `errors`: part of the crops that get errors, at a rate of up to `most`, lower ones
    the commoner."""

    def __init__(
        self,
        data,
        clade,
        batch,
        crop,
        real=0.2,
        crossed=0.0,
        errors=0.45,
        power=1.5,
        most=0.12,
    ):
        self.batch, self.crop, self.real, self.crossed = batch, crop, real, crossed
        self.errors, self.most, self.power, self.long = errors, most, power, LONG[clade]
        folder = os.path.join(data, "clades")
        train, self.held = split_contigs(load_contigs(folder, clade), clade)
        loci, self.held_loci = split_loci(data, clade)
        # A locus may lie in the held-out half of the contig.
        near = {bytes(c.bases[0][i : i + 24]) for c in self.held for i in range(c.length - 23)}
        near |= {bytes(c.bases[1][i : i + 24]) for c in self.held for i in range(c.length - 23)}
        fresh = lambda b: not any(bytes(b[i : i + 24]) in near for i in range(0, len(b) - 24, 50))
        loci = [(b, h) for b, h in loci if fresh(b)]
        held = [b for c in self.held for b in c.bases] + [b for b, _ in self.held_loci]
        self.genes, self.dropped = load_pieces(folder, clade, held)
        self.sizes = np.cumsum([len(g) for g in self.genes])
        exons, introns, between = insides(train)
        for bases, hard in loci:
            at, kind = np.nonzero(hard)
            for a, b, x, y in zip(at, at[1:], kind, kind[1:]):
                if x == 1 and b - a > SHORT:
                    introns.append(bases[a + 20 : b - 60])
                if x == 0 and b - a > 60:
                    exons.append(bases[a + 10 : b - 10])
        self.exons = Reservoir(exons, 40)
        self.introns = Reservoir(introns, 60)
        self.between = Reservoir(between, 60)
        self.trained = train
        self.whole = [(b, h) for c in train for b, h in zip(c.bases, c.hard)] + loci
        weights = np.array([len(b) for b, _ in self.whole], float)
        self.weights = np.cumsum(weights / weights.sum())

    def stuffing(self, rng, length):
        """The inside of a long intron."""
        parts = []
        while length > 0:
            source = self.introns if rng.random() < 0.7 else self.between
            p = source.draw(rng, length)
            if source is self.between and rng.random() < 0.5:
                p = reverse_complement(p)
            parts.append(p)
            length -= len(p)
        return parts

    def filling(self, rng):
        """Exon sequence between two pieces that share none, or at a gene's ends."""
        length = int(np.exp(rng.uniform(np.log(20), np.log(800))))
        return [self.exons.draw(rng, length)]

    def cross(self, rng, own, piece):
        """The donor of one intron and the acceptor of another gene's: tens of thousands of introns
        make billions of pairs, so that none of them can be learnt by heart."""
        g = self.genes[int(np.searchsorted(self.sizes, rng.integers(self.sizes[-1]), "right"))]
        other = g[int(rng.integers(len(g)))]
        left = int(rng.integers(12, max(13, piece.acceptor - piece.donor - 12)))
        right = int(rng.integers(20, max(21, other.acceptor - other.donor - 12)))
        if left + right < 40:
            return own, piece
        p, q = piece.donor + 1 + left, other.acceptor - right
        made = Piece.__new__(Piece)
        made.bases = np.concatenate([piece.bases[:p], other.bases[q:]])
        made.donor, made.acceptor = piece.donor, p + right
        before, behind = piece.at < p, other.at >= q
        made.at = np.concatenate([piece.at[before], other.at[behind] - q + p])
        made.channel = np.concatenate([piece.channel[before], other.channel[behind]])
        made.next, made.shared, made.of = other.next, other.shared, other
        return g, made

    def gene(self, rng, room):
        """Parts, positions and channels of a gene of up to `room` bases."""
        g = self.genes[int(np.searchsorted(self.sizes, rng.integers(self.sizes[-1]), "right"))]
        i = int(rng.integers(len(g)))
        parts, at, channel, length = [], [], [], 0
        if rng.random() < 0.7:
            parts = self.filling(rng)
            length = len(parts[0])
        skip = 0 if rng.random() < 0.7 else int(rng.integers(0, 35))
        piece = g[i]
        while True:
            if self.crossed and rng.random() < self.crossed:
                g, piece = self.cross(rng, g, piece)
            bases, a = piece.bases[skip:], piece.at - skip
            end = len(bases)
            jump = piece.next is None
            cut_off = int(rng.integers(0, 30)) if jump and rng.random() < 0.5 else 0
            bases = bases[: end - cut_off]
            use = (a >= 0) & (a < len(bases))
            a, c = a[use], piece.channel[use]
            donor, acceptor = piece.donor - skip, piece.acceptor - skip
            if rng.random() < self.long and acceptor - donor > 40:
                low, high = donor + 22, acceptor - 12
                if acceptor - donor > 80:
                    high = acceptor - 40
                if high <= low:
                    high = low + 1
                cut = int(rng.integers(low, high))
                size = int(np.exp(rng.uniform(np.log(60), np.log(2000))))
                stuff = self.stuffing(rng, size)
                parts += [bases[:cut], *stuff, bases[cut:]]
                a = np.where(a >= cut, a + size, a)
                at.append(a + length)
                length += len(bases) + size
            else:
                parts.append(bases)
                at.append(a + length)
                length += len(bases)
            channel.append(c)
            if length > room or rng.random() < 0.06:
                break
            if piece.next is not None:
                skip, piece = piece.shared, piece.next
                continue
            i = g.index(piece.of or piece)
            later = [q for q in g[i + 1 : i + 4] if distinct(piece, q)]
            if not later:
                break
            piece = later[0]
            skip = int(rng.integers(0, 30)) if rng.random() < 0.5 else 0
            if rng.random() < 0.6:
                fill = self.filling(rng)
                parts += fill
                length += len(fill[0])
        if rng.random() < 0.7:
            parts += self.filling(rng)
        return parts, np.concatenate(at), np.concatenate(channel)

    def made(self, rng, room):
        parts, at, channel, length = [], [], [], 0
        while length < room:
            draw = rng.random()
            if draw < 0.3:
                size = int(np.exp(rng.uniform(np.log(50), np.log(3000))))
                p = self.between.draw(rng, size)
                parts.append(reverse_complement(p) if rng.random() < 0.5 else p)
                length += len(p)
                continue
            ps, a, c = self.gene(rng, min(room - length, 3000))
            bases = np.concatenate(ps)
            if draw < 0.4:
                bases = reverse_complement(bases)
            else:
                at.append(a + length)
                channel.append(c)
            parts.append(bases)
            length += len(bases)
        empty = np.zeros(0, np.int64)
        return (
            np.concatenate(parts)[:room],
            np.concatenate(at) if at else empty,
            np.concatenate(channel) if channel else empty,
        )

    def pick(self, rng):
        room = int(self.crop * 1.1)
        if rng.random() >= self.real:
            return self.made(rng, room)
        parts, at, channel, length = [], [], [], 0
        while length < room:
            w = min(int(np.searchsorted(self.weights, rng.random())), len(self.whole) - 1)
            bases, hard = self.whole[w]
            n = min(len(bases), int(np.exp(rng.uniform(np.log(800), np.log(6000)))))
            a = int(rng.integers(len(bases) - n + 1))
            p, c = np.nonzero(hard[a : a + n])
            parts.append(bases[a : a + n])
            at.append(p + length)
            channel.append(c)
            length += n
        return np.concatenate(parts)[:room], np.concatenate(at), np.concatenate(channel)

    def next(self, rng):
        x = np.full((self.batch, self.crop), 4, np.uint8)
        y = np.zeros((self.batch, self.crop, 2), np.uint8)
        lengths = np.empty(self.batch, np.int32)
        for i in range(self.batch):
            bases, at, channel = self.pick(rng)
            inside = at < len(bases)
            at, channel = at[inside], channel[inside]
            if rng.random() < self.errors:
                rate = rng.random() ** self.power * self.most
                bases, places = simulate(
                    bases, rate, rng, SHARES if rng.random() < 0.6 else MOSTLY_SUBSTITUTIONS
                )
                at = carry(at, places, channel, len(bases))
            n = min(len(bases), self.crop)
            inside = (at >= 0) & (at < n)
            x[i, :n], lengths[i] = bases[:n], n
            y[i, at[inside], channel[inside]] = 255
        return x, y, lengths


def distinct(p, q):
    """Whether two pieces are introns of different places, not variants of one."""
    return bytes(p.bases[:50]) != bytes(q.bases[:50]) and bytes(p.bases[-50:]) != bytes(
        q.bases[-50:]
    )
