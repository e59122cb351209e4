"""Do splice scores improve what aligners make of reads and proteins?

What: transcripts of the genes that the splice models never saw are made into reads with errors, and
  into proteins of distant relatives; minimap2 and miniprot align them to the genes, on both
  strands, with and without splice scores. A junction counts where both of its ends are right to the
  base. Printed: F1 of junctions, with a 95 % interval by gene.
Score files: none; those of `strandline annotate --format splice-tsv` (of each program that is
  given, each tier); the annotated sites alone, at the highest score, which is the most that scores
  could give.
How: python benches/peers/junctions.py --data DATA --minimap2 PATH --miniprot PATH \\
         [--strandline PATH ...] [--tier accurate] [--fit]
  `--fit` looks for the two numbers of the score (see `src/call/grade.rs`) on one half of the genes;
  without it the other half is measured, or the one that `--half` names.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "models", "train"))

from packed import Packed  # noqa: E402
from read_errors import simulate  # noqa: E402
from sequences import letters, reverse_complement, write_fasta  # noqa: E402
from splice_data import load_genes  # noqa: E402

AMINO = "ACDEFGHIKLMNPQRSTVWY"
# Residues that replace one another more often than others (BLOSUM62 scores of 1 and above).
ALIKE = "AS CC DEN EDQK FYWL GG HNY IVLM KREQ LIMVF MLIV NDHS PP QEKR RKQ SATN TS VILM WYF YHFW"
ALIKE = {group[0]: group[1:] for group in ALIKE.split()}
CODONS = dict(
    zip(
        (a + b + c for a in "TCAG" for b in "TCAG" for c in "TCAG"),
        "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG",
    )
)
PER_GENE, BASES = 60, (300, 1500)


class Gene:
    """One transcript of a gene; every other gene lies on the reverse strand of its contig."""

    def __init__(self, number, bases, hard):
        self.name, self.reverse = str(number), number % 2 == 1
        self.bases = bases
        at, kind = np.nonzero(hard)
        self.sites = [(int(a), int(k)) for a, k in zip(at, kind)]
        starts, ends = [0], []
        for a, k in self.sites:
            if k == 1 and len(ends) < len(starts):
                ends.append(a + 1)
            elif k == 0 and len(starts) == len(ends):
                starts.append(a)
        ends += [len(bases)] * (len(starts) - len(ends))
        self.exons = list(zip(starts, ends))
        self.spliced = np.concatenate([bases[a:b] for a, b in self.exons])
        self.edges = np.cumsum([b - a for a, b in self.exons])[:-1]

    def contig(self):
        return reverse_complement(self.bases) if self.reverse else self.bases

    def junctions(self, start, end, margin):
        """(start, end) on the contig of the introns between these bases of the transcript."""
        found = set()
        for (a, b), (c, _), edge in zip(self.exons, self.exons[1:], self.edges):
            if start + margin <= edge <= end - margin:
                n = len(self.bases)
                found.add((n - c, n - b) if self.reverse else (b, c))
        return found

    def protein(self):
        """The longest open reading frame: its residues, and where it begins and ends."""
        text, best = letters(self.spliced), (0, 0, 0)
        for frame in range(3):
            residues = "".join(
                CODONS.get(text[i : i + 3], "X") for i in range(frame, len(text) - 2, 3)
            )
            for part in re.finditer(r"M[^*]*", residues):
                begin, end = frame + 3 * part.start(), frame + 3 * part.end()
                best = max(best, (end - begin, begin, end))
        size, begin, end = best
        return (
            "".join(CODONS.get(text[i : i + 3], "X") for i in range(begin, end, 3)),
            begin,
            end,
        )


def diverge(protein, rate, rng):
    """Residues replaced, two thirds of them by ones that are alike; one change in 40 is a gap."""
    out = []
    for residue in protein:
        if rng.random() >= rate:
            out.append(residue)
        elif rng.random() < 1 / 40:
            out.append(residue * int(rng.integers(0, 2) * 2))
        else:
            alike = ALIKE.get(residue, "")
            pool = alike if alike and rng.random() < 2 / 3 else AMINO
            out.append(pool[rng.integers(len(pool))])
    return "".join(out)


def introns(path, of):
    """Query -> introns on its contig."""
    found = {}
    with open(path) as lines:
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            if len(fields) < 12 or (of == "minimap2" and "tp:A:P" not in line):
                continue
            cigar = re.search(r"cg:Z:(\S+)", line)
            if not cigar or fields[5] == "*":
                continue
            name, forward, at = fields[5], fields[4] == "+", int(fields[7])
            operations = [(int(n), op) for n, op in re.findall(r"(\d+)([A-Z])", cigar[1])]
            if of == "miniprot":
                own, length = set(), int(fields[8]) - int(fields[7])
                place = 0  # along the strand
                for n, op in operations:
                    if op in "NUV":
                        # Introns of phase 1 and 2 begin one and two bases inside a codon.
                        a = place + {"N": 0, "U": 1, "V": 2}[op]
                        b = place + n - {"N": 0, "U": 2, "V": 1}[op]
                        own.add((at + a, at + b) if forward else (at + length - b, at + length - a))
                        place += n
                    elif op in "MD":
                        place += 3 * n
                    elif op in "FG":
                        place += n
            else:
                own, place = set(), at
                for n, op in operations:
                    if op == "N":
                        own.add((place, place + n))
                    if op in "MDN=X":
                        place += n
            found.setdefault(fields[0], []).append((name, own))
    return found


def junction_counts(found, expected, genes):
    """[genes, 3]: right, found, true junctions."""
    table = np.zeros((len(genes), 3), np.int64)
    for query, (gene, true) in expected.items():
        own = set()
        for name, parts in found.get(query, []):
            own |= {(name, *part) for part in parts}
        wanted = {(genes[gene].name, *part) for part in true}
        table[gene] += (len(own & wanted), len(own), len(wanted))
    return table


def f1(table):
    right, found, true = table.sum(0)
    return 2 * right / max(1, found + true)


def interval(table, rng):
    draws = [f1(table[rng.integers(0, len(table), len(table))]) for _ in range(500)]
    return np.percentile(draws, [2.5, 97.5])


class Bench:
    def __init__(self, genes, folder, args):
        self.genes, self.folder, self.args = genes, folder, args
        self.genome = os.path.join(folder, "genome.fa")
        with open(self.genome, "w") as out:
            for gene in genes:
                out.write(f">{gene.name}\n{letters(gene.contig())}\n")
        self.queries = []
        for rate in args.errors:
            self.queries.append((f"minimap2, {rate:.0%} errors", "minimap2", self.reads(rate)))
        if args.miniprot:
            for rate in args.diverged:
                name = f"miniprot, {rate:.0%} diverged"
                self.queries.append((name, "miniprot", self.proteins(rate)))

    def reads(self, rate):
        rng, sequences, expected = np.random.default_rng([1, int(rate * 1000)]), [], {}
        for number, gene in enumerate(self.genes):
            for _ in range(self.args.reads if len(gene.edges) else 0):
                n = min(len(gene.spliced), int(np.exp(rng.uniform(*np.log(BASES)))))
                a = int(rng.integers(len(gene.spliced) - n + 1))
                true = gene.junctions(a, a + n, 10)
                codes, _ = simulate(gene.spliced[a : a + n], rate, rng)
                if rng.random() < 0.5:
                    codes = reverse_complement(codes)
                expected[str(len(sequences))] = (number, true)
                sequences.append(letters(codes))
        path = os.path.join(self.folder, f"reads_{rate}.fa")
        write_fasta(path, sequences)
        return path, expected

    def proteins(self, rate):
        rng, sequences, expected = np.random.default_rng([2, int(rate * 1000)]), [], {}
        for number, gene in enumerate(self.genes):
            protein, begin, end = gene.protein()
            true = gene.junctions(begin, end, 1)
            if not true or len(protein) < 60:
                continue
            for _ in range(max(1, self.args.reads // 10)):
                expected[str(len(sequences))] = (number, true)
                sequences.append(diverge(protein, rate, rng))
        path = os.path.join(self.folder, f"proteins_{rate}.fa")
        write_fasta(path, sequences)
        return path, expected

    def align(self, of, query, scores, more):
        out = os.path.join(self.folder, "out.paf")
        extra = [f"--spsc={scores}", *more.get(of, [])] if scores else []
        if of == "minimap2":
            command = [self.args.minimap2, "-t2", "-cx", "splice", *extra, self.genome, query]
        else:
            command = [self.args.miniprot, "-t2", *extra, self.genome, query]
        with open(out, "w") as file:
            subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=True)
        return introns(out, of)

    def row(self, title, scores, more={}):
        """F1 of each set of queries."""
        rng, cells, tables = np.random.default_rng(0), [], []
        for name, of, (path, expected) in self.queries:
            table = junction_counts(self.align(of, path, scores, more), expected, self.genes)
            low, high = interval(table, rng)
            cells.append(f"{f1(table):.4f} ({low:.4f}-{high:.4f})")
            tables.append(f1(table))
        print(f"| {title} | " + " | ".join(cells) + " |", flush=True)
        return tables

    def true_sites(self):
        path = os.path.join(self.folder, "true.tsv")
        with open(path, "w") as out:
            for gene in self.genes:
                for at, kind in gene.sites:
                    write_line(out, gene, at, kind, 13)
        return path

    def probabilities(self, binary, model, tier):
        """(gene, position, kind, log2 of odds over base odds) of every GT, GC, AT and AG, AC."""
        packed = Packed(binary, model, tier)
        rates = [o["base_rate"] for o in packed.manifest["outputs"]]
        base = np.log2([r / (1 - r) for r in rates])
        scores = packed.scan([letters(gene.bases) for gene in self.genes])
        for gene, p in zip(self.genes, scores):
            p, b = np.asarray(p, np.float64), gene.bases
            donor = np.zeros(len(b), bool)
            donor[:-2] = ((b[1:-1] == 2) & ((b[2:] == 3) | (b[2:] == 1))) | (
                (b[1:-1] == 0) & (b[2:] == 3)
            )
            acceptor = np.zeros(len(b), bool)
            acceptor[2:] = (b[:-2] == 0) & ((b[1:-1] == 2) | (b[1:-1] == 1))
            for kind, use in enumerate((acceptor, donor)):
                at = np.flatnonzero(use)
                own = np.clip(p[at, kind], 1e-12, 1 - 1e-7)
                yield gene, at, kind, np.log2(own / (1 - own)) - base[kind]

    def scored(self, table, a, b):
        path, lines = os.path.join(self.folder, "fit.tsv"), 0
        with open(path, "w") as out:
            for gene, at, kind, odds in table:
                value = a + b * odds
                for i in np.flatnonzero(value >= -7):
                    lines += 1
                    write_line(out, gene, int(at[i]), kind, int(min(13, np.rint(value[i]))))
        return path, lines

    def fit(self, binary, model, tier):
        table = list(self.probabilities(binary, model, tier))
        true = np.concatenate(
            [o[np.isin(at, [s for s, k in g.sites if k == kind])] for g, at, kind, o in table]
        )
        bases = sum(len(g.bases) for g in self.genes)
        for b in self.args.slopes:
            for a in self.args.terms:
                path, lines = self.scored(table, a, b)
                top = (np.rint(a + b * true) >= 13).mean()
                self.row(
                    f"{a} + {b} x, {lines / bases * 1e6:.0f} lines/Mb, {top:.2f} of sites at 13",
                    path,
                )


def write_line(out, gene, at, kind, score):
    below = kind == 1
    offset = at + 1 if below else at
    if gene.reverse:
        offset = len(gene.bases) - offset
    out.write(f"{gene.name}\t{offset}\t{'+-'[gene.reverse]}\t{'AD'[kind]}\t{score}\n")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--minimap2", required=True)
    parser.add_argument("--miniprot")
    parser.add_argument("--strandline", nargs="*", default=["target/release/strandline"])
    parser.add_argument("--model", default="models/splice.safetensors")
    parser.add_argument("--tier", nargs="*", default=["fast", "auto", "accurate"])
    parser.add_argument("--errors", nargs="*", type=float, default=[0.01, 0.05, 0.09])
    parser.add_argument("--diverged", nargs="*", type=float, default=[0.45])
    parser.add_argument("--reads", type=int, default=PER_GENE, help="a gene")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--half", type=int, choices=(0, 1), help="of the genes")
    parser.add_argument("--slopes", nargs="*", type=float, default=[0.6, 0.8, 1.0])
    parser.add_argument("--terms", nargs="*", type=float, default=[-4, -3, -2, -1, 0])
    args = parser.parse_args()
    genes = [g for g in load_genes(os.path.join(args.data, "splice")) if g["held_out"]]
    half = int(args.fit) if args.half is None else args.half
    genes = [Gene(i, g["bases"], g["hard"]) for i, g in enumerate(genes) if i % 2 == half]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(genes, folder, args)
        counts = [sum(len(t) for _, t in e.values()) for _, _, (_, e) in bench.queries]
        print("| scores | " + " | ".join(n for n, _, _ in bench.queries) + " |")
        print("| --- |" + " --- |" * len(bench.queries))
        print("| junctions | " + " | ".join(f"{c:,}" for c in counts) + " |", flush=True)
        bench.row("none", None)
        bench.row("annotated sites", bench.true_sites())
        if args.fit:
            bench.fit(args.strandline[0], args.model, args.tier[-1])
            return
        for binary in args.strandline:
            for tier in args.tier:
                path = os.path.join(folder, "scores.tsv")
                command = [binary, "annotate", "--format", "splice-tsv", "--tasks", "splice"]
                subprocess.run(
                    [*command, "--tier", tier, "-o", path, bench.genome],
                    stderr=subprocess.DEVNULL,
                    check=True,
                )
                with open(path) as lines:
                    count = sum(1 for _ in lines) / sum(len(g.bases) for g in genes) * 1e6
                title = f"{binary} --tier {tier}, {count:,.0f} lines a megabase"
                bench.row(title, path)
                bench.row(title + ", minimap2 --spsc0=7", path, {"minimap2": ["--spsc0=7"]})


if __name__ == "__main__":
    main()
