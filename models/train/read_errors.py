"""Sequencing errors as `strandline simulate` makes them, on arrays of base codes, with labels
carried along.

Rates a base: `shares` of substitutions, insertions of one random base before the base, and
deletions. Deletions are the commoner the longer the homopolymer: in a run of n bases, n (at most 8)
times as common as elsewhere, the mean kept. A base's own rate is the mean times 1/4, 1/2, 1 or 9/4.
"""

import numpy as np

SHARES = (0.4, 0.2, 0.4)
SPREAD = np.array([0.25, 0.5, 1.0, 2.25], np.float32)
LONGEST_RUN = 8


def simulate(codes, rate, rng, shares=SHARES):
    """Noisy codes, and for each base of the template its place among them, -1 where it was
    deleted.
    """
    n = len(codes)
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    lengths = np.diff(np.append(starts, n))
    weight = np.minimum(lengths, LONGEST_RUN).astype(np.float32)
    weight = np.repeat(weight * (n / (weight * lengths).sum()), lengths)
    own = np.float32(rate) * SPREAD[rng.integers(0, 4, n)]
    event = rng.random(n, dtype=np.float32)
    inserted = own * np.float32(shares[1])
    substituted = inserted + own * np.float32(shares[0])
    insert = event < inserted
    delete = (event >= substituted) & (event < substituted + own * np.float32(shares[2]) * weight)
    out = codes.copy()
    at = np.flatnonzero((event >= inserted) & (event < substituted) & (codes < 4))
    out[at] = (out[at] + rng.integers(1, 4, len(at), dtype=np.uint8)) & 3
    copies = 1 + insert.astype(np.int64) - delete
    end = np.cumsum(copies)
    noisy = np.repeat(out, copies)
    at = end[insert] - 2
    noisy[at] = rng.integers(0, 4, len(at), dtype=np.uint8)
    return noisy, np.where(delete, -1, end - 1)


def carry(where, places, kind, count):
    """Places of labelled bases in the noisy sequence. The label of a deleted base goes to its
    neighbour in the exon: behind an acceptor (kind 0), before a donor (1)."""
    at = places[where]
    gone = np.flatnonzero(at < 0)
    for i in gone:
        step, p = (1 if kind[i] == 0 else -1), where[i]
        while 0 <= p < len(places) and places[p] < 0:
            p += step
        at[i] = places[p] if 0 <= p < len(places) else -1
    return np.minimum(at, count - 1)
