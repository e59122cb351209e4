"""Makes the reference, the genes and the variants of this folder from the first megabase of human
chr9 (GRCh38, Ensembl 91).

    python make.py FOLDER    FOLDER holds human_GRCh38_chr9_1_1000000.fa.gz and .gtf.gz

Alleles are invented: no person has them. Half of them lie within 60 bases of an exon's end. The
first file has alleles as callers write them, in order of position; the second one the same kinds
spelled with bases that stay, several alleles a record, other names of the contig, in no order, and
compressed. Both hold every kind of allele that is no sequence of letters.
"""

import gzip
import random
import sys

FIRST, LENGTH, RECORDS = 200_000, 200_000, 1_000
ODD = ["*", "<*>", "<NON_REF>", ".", "<DEL>", "<DUP:TANDEM>", "<INS:ME:ALU>"]
BREAKENDS = ["{r}[9:150000[", "]9:150000]{r}", ".{r}", "{r}."]


def write(name, text):
    if name.endswith(".gz"):
        with open(name, "wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
            file.write(text.encode())
    else:
        with open(name, "w") as file:
            file.write(text)


def letters(rng, count):
    return "".join(rng.choice("ACGT") for _ in range(count))


def alleles(rng, sequence, at):
    """REF and ALT at a 0-based position, as callers write them."""
    own = sequence[at]
    kind = rng.random()
    if kind < 0.65:
        return own, rng.choice([base for base in "ACGT" if base != own])
    if kind < 0.78:
        return own, own + letters(rng, rng.randint(1, 8))
    if kind < 0.9:
        return sequence[at : at + 1 + rng.randint(1, 10)], own
    if kind < 0.94:
        old = sequence[at : at + rng.randint(2, 5)]
        new = letters(rng, rng.randint(2, 5))
        return (old, new) if old != new else (old, old[::-1] + "A")
    if kind < 0.97:
        return own, rng.choice(ODD)
    return own, rng.choice(BREAKENDS).format(r=own)


def is_letters(allele):
    return allele.isalpha()


def header(contig):
    return (
        "##fileformat=VCFv4.3\n"
        f"##contig=<ID={contig},length={LENGTH}>\n"
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">\n'
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tSAMPLE\n"
    )


def main():
    folder = sys.argv[1]
    stem = f"{folder}/human_GRCh38_chr9_1_1000000"
    with gzip.open(f"{stem}.fa.gz", "rt") as file:
        sequence = "".join(file.read().split("\n")[1:]).upper()[FIRST : FIRST + LENGTH]
    lines = "\n".join(sequence[i : i + 60] for i in range(0, LENGTH, 60))
    write("chr9.fa.gz", f">chr9 GRCh38 9:{FIRST + 1}-{FIRST + LENGTH}\n{lines}\n")
    genes, edges = [], []
    with gzip.open(f"{stem}.gtf.gz", "rt") as file:
        for line in file:
            columns = line.rstrip("\n").split("\t")
            if len(columns) != 9 or columns[2] not in ("gene", "exon"):
                continue
            start, end = int(columns[3]) - FIRST, int(columns[4]) - FIRST
            if end < 1 or start > LENGTH:
                continue
            if columns[2] == "exon" and start >= 1 and end <= LENGTH:
                edges += [start, end]
            keys = ("gene_id", "transcript_id", "gene_name")
            kept = [a for a in columns[8].split("; ") if a.split(" ")[0] in keys]
            columns[3], columns[4] = str(max(start, 1)), str(min(end, LENGTH))
            columns[8] = "; ".join(kept).rstrip(";") + ";"
            genes.append("\t".join(columns))
    write("chr9.gtf.gz", "\n".join(genes) + "\n")

    rng = random.Random(1)

    def position():
        if rng.random() < 0.5:
            at = rng.choice(edges) + rng.randint(-60, 60)
        else:
            at = rng.randint(1, LENGTH - 20)
        return min(max(at, 1), LENGTH - 20)

    first = []
    for number, at in enumerate(sorted(position() for _ in range(RECORDS))):
        old, new = alleles(rng, sequence, at - 1)
        info = rng.choice([".", "DP=7", "DP=7;DB"])
        genotype = rng.choice(["0|1", "1|0", "1/1", "./."])
        first.append(f"chr9\t{at}\tv{number}\t{old}\t{new}\t50\tPASS\t{info}\tGT\t{genotype}\n")
    write("chr9.vcf", header("chr9") + "".join(first))

    second = []
    for number in range(RECORDS):
        at = max(position(), 8)
        old, new = alleles(rng, sequence, at - 1)
        several = [new]
        while rng.random() < 0.2 and is_letters(old):
            other = rng.choice([letters(rng, rng.randint(1, 6)), "*", "<*>"])
            if other not in (*several, old):
                several.append(other)
        before, behind = rng.randint(0, 6), rng.randint(0, 6)
        if all(is_letters(allele) for allele in several):
            head = sequence[at - 1 - before : at - 1]
            tail = sequence[at - 1 + len(old) : at - 1 + len(old) + behind]
            old = head + old + tail
            several = [head + allele + tail for allele in several]
            at -= before
        alternative = ",".join(several)
        second.append(f"9\t{at}\t.\t{old}\t{alternative}\t.\t.\tDP=9\tGT\t1|2\n")
    write("chr9_spelled.vcf.gz", header("9") + "".join(second))


main()
