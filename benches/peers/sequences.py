"""Real sequences for the benchmark networks: the committed sample reads, one-hot or as tokens."""

import gzip
import os

import numpy as np

DATA = os.path.normpath(
    os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "data")
)
READS, GENES = os.path.join(DATA, "reads.fastq.gz"), os.path.join(DATA, "genes.fa.gz")
NUCLEOTIDES = "ACGT"

# UTR-LM: pad 0, eos 1, unk 2, then the bases, then cls 7, mask 8, sep 9.
UTR_IDS = {"A": 3, "G": 4, "C": 5, "T": 6}
UTR_CLS, UTR_EOS = 7, 1

# DNABERT: PAD, UNK, CLS, SEP, MASK, then the k-mers with the bases in this order.
KMER = 6
KMER_ORDER = "ATCG"
KMER_FIRST, KMER_CLS, KMER_SEP = 5, 2, 3
KMER_VOCABULARY = KMER_FIRST + 4**KMER


def sample_reads():
    """The sample reads in the order of the file, upper-case text without N."""
    with gzip.open(READS, "rt") as file:
        return [line.strip() for number, line in enumerate(file) if number % 4 == 1]


def first_gene():
    """Bases of the first of the sample genes."""
    with gzip.open(GENES, "rt") as file:
        records = file.read().split(">")
    return "".join(records[1].split("\n")[1:])


def windows(bases, count, skip=0):
    """`count` windows of `bases` nt, one from each read after the first `skip` (joined where reads
    are shorter)."""
    reads = sample_reads()[skip:]
    text, step = "".join(reads), sum(map(len, reads)) // count
    if bases > len(text):
        raise ValueError(f"{bases} nt wanted, the sample reads hold {len(text)}")
    return [
        text[at : at + bases]
        for at in (min(number * step, len(text) - bases) for number in range(count))
    ]


def one_hot(text):
    """float32 [1, 4, T], channels A, C, G, T."""
    rows = np.frombuffer(text.encode(), np.uint8)
    return np.stack([rows == ord(base) for base in NUCLEOTIDES]).astype(np.float32)[None]


def utr_tokens(text):
    """int64 ids: cls, one token a base, eos."""
    return np.array([UTR_CLS, *(UTR_IDS[base] for base in text), UTR_EOS], np.int64)


def kmer_tokens(text):
    """int64 ids: CLS, one token an overlapping 6-mer, SEP."""
    digits = [KMER_ORDER.index(base) for base in text]
    kmers = [
        sum(digit * 4 ** (KMER - 1 - at) for at, digit in enumerate(digits[start : start + KMER]))
        for start in range(len(text) - KMER + 1)
    ]
    return np.array([KMER_CLS, *(KMER_FIRST + kmer for kmer in kmers), KMER_SEP], np.int64)
