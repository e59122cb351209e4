"""Sequences as letters, as base codes 0..3 (4: no base), and in files."""

import gzip
import hashlib

import numpy as np

CODE = np.full(256, 4, np.uint8)
for _i, _letters in enumerate((b"Aa", b"Cc", b"Gg", b"TtUu")):
    CODE[list(_letters)] = _i
LETTERS = np.array(list("ACGTN"))
COMPLEMENT = np.array([3, 2, 1, 0, 4], np.uint8)


def encode(text):
    """Letters as 0..3, anything else as 4."""
    return CODE[np.frombuffer(text.encode() if isinstance(text, str) else text, np.uint8)]


def letters(codes):
    return "".join(LETTERS[codes])


def reverse_complement(codes):
    return COMPLEMENT[codes[::-1]]


def bucket(text, count=100):
    """A part of a set, the same for a text on every machine: what is held out goes by it."""
    return int(hashlib.md5(text.encode()).hexdigest(), 16) % count


def read_sequences(path):
    """Yields (header, sequence) of a FASTA or four-line FASTQ file, plain or gzip."""
    with open(path, "rb") as file:
        opener = gzip.open if file.read(2) == b"\x1f\x8b" else open
    with opener(path, "rt") as file:
        first = file.read(1)
        file.seek(0)
        if first == "@":
            for header in file:
                yield header[1:].strip(), next(file).strip()
                next(file), next(file)
            return
        header, parts = None, []
        for line in file:
            if line.startswith(">"):
                if header is not None:
                    yield header, "".join(parts)
                header, parts = line[1:].strip(), []
            else:
                parts.append(line.strip())
        if header is not None:
            yield header, "".join(parts)


def write_fasta(path, sequences):
    """Writes sequences under their numbers, so that every name is known and none occurs twice."""
    with open(path, "w") as out:
        for number, text in enumerate(sequences):
            out.write(f">{number}\n{text}\n")
