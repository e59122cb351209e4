"""Sequencing errors as `strandline simulate` makes them, on arrays of base codes, with labels
carried along.

`simulate`, the uniform ones. Rates a base: `shares` of substitutions, insertions of one random base
before the base, and deletions. Deletions are the commoner the longer the homopolymer: in a run of n
bases, n (at most 8) times as common as elsewhere, the mean kept. A base's own rate is the mean
times 1/4, 1/2, 1 or 9/4.

`simulate_profile`, those of real reads; `Profile` has the arithmetic of
`src/lab/simulate/profile.rs`.
"""

import os
import tomllib

import numpy as np

NANOPORE = os.path.join(os.path.dirname(__file__), "../../src/lab/simulate/nanopore.toml")
# The most of a patch's bases that are wrong.
MOST = 0.5

SHARES = (0.4, 0.2, 0.4)
SPREAD = np.array([0.25, 0.5, 1.0, 2.25], np.float32)
LONGEST_RUN = 8


def simulate(codes, rate, rng, shares=SHARES):
    """Noisy codes, and for each base of the template its place among them, -1 where it was
    deleted.
    """
    n = len(codes)
    weight = np.minimum(run_lengths(codes), LONGEST_RUN).astype(np.float32)
    weight *= n / weight.sum()
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


class Profile:
    """The errors of real reads, at a rate: chances of a base in a calm and in a rough patch."""

    def __init__(self, shape, rate):
        share, times, self.leave = (shape["rough"][key] for key in ("share", "times", "leave"))
        self.share, self.enter = share, self.leave * share / (1 - share)
        calm = 1 / (1 + share * (times - 1))
        own = np.array(shape["reads"])[:, None] * np.array([calm, calm * times])
        mean = lambda scale: (np.minimum(own * scale, MOST) @ [1 - share, share]).mean()
        low, high = 0.0, rate
        while mean(high) < rate:
            high *= 2
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if mean(middle) < rate else (low, middle)
        rates = np.minimum(own * high, MOST)
        substituted, inserted, deleted = shape["shares"]
        normed = lambda shares: np.array(shares) / np.sum(shares)
        mean_length = lambda shares: (shares * np.arange(1, len(shares) + 1)).sum()
        self.insertion_lengths = normed(shape["insertion_lengths"])
        self.deletion_lengths = normed(shape["deletion_lengths"])
        longer = mean_length(self.deletion_lengths)
        self.begin = rates * deleted / (longer - rates * deleted * (longer - 1))
        exposed = 1 / (1 + self.begin * (longer - 1))
        self.insert = rates * inserted / mean_length(self.insertion_lengths) / exposed
        self.substitute = rates * substituted / (exposed * (1 - self.begin))
        self.by_run = np.array(shape["deletions_by_run"])
        # A row and a column for unknown bases, which stay as they are.
        self.substitutes = np.zeros((5, 4))
        self.substitutes[:4] = shape["substitutes"]


def read_profile(path=NANOPORE):
    with open(path, "rb") as file:
        return tomllib.load(file)


def run_lengths(codes):
    """For each base how long the homopolymer is that it stands in."""
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    lengths = np.diff(np.append(starts, len(codes)))
    return np.repeat(lengths, lengths)


def in_rough_patches(n, profile, rng):
    """For each of n bases whether it lies in a rough patch."""
    rough = np.zeros(n, bool)
    at, state = 0, rng.random() < profile.share
    while at < n:
        stay = rng.geometric(profile.leave if state else profile.enter)
        rough[at : at + stay] = state
        at, state = at + stay, not state
    return rough


def simulate_profile(codes, profile, rng):
    """As `simulate`, of one read with the errors of a `Profile`."""
    n = len(codes)
    read = rng.integers(len(profile.begin))
    rough = in_rough_patches(n, profile, rng).astype(int)
    weight = profile.by_run[np.minimum(run_lengths(codes), len(profile.by_run)) - 1]
    often = profile.substitutes.sum(1)[codes]
    # What a homopolymer adds, it adds in patches of either kind alike.
    added = (profile.begin[read] @ [1 - profile.share, profile.share]) * (weight - 1)
    begin = (profile.begin[read][rough] + added) / weight.mean()
    inserted = begin + profile.insert[read][rough]
    substituted = inserted + profile.substitute[read][rough] * often / max(often.mean(), 1e-9)
    event = rng.random(n)
    delete = np.zeros(n, bool)
    until = 0
    for i in np.flatnonzero(event < begin):
        if i >= until:
            until = i + rng.choice(len(profile.deletion_lengths), p=profile.deletion_lengths) + 1
            delete[i:until] = True
    insert = ~delete & (event >= begin) & (event < inserted)
    out = codes.copy()
    for i in np.flatnonzero(~delete & (event >= inserted) & (event < substituted)):
        row = profile.substitutes[codes[i]]
        out[i] = rng.choice(4, p=row / row.sum())
    more = np.zeros(n, np.int64)
    more[insert] = 1 + rng.choice(
        len(profile.insertion_lengths), insert.sum(), p=profile.insertion_lengths
    )
    copies = 1 + more - delete
    end = np.cumsum(copies)
    noisy = np.repeat(out, copies)
    new = np.ones(len(noisy), bool)
    new[end[~delete] - 1] = False
    noisy[new] = rng.integers(0, 4, new.sum(), dtype=np.uint8)
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
