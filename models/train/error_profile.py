"""The errors of real nanopore reads, as the profile that `strandline simulate --errors nanopore`
makes reads with.

What: reads beside the reference that they are of, from a BAM file with MD tags. Primary alignments
  of mapping quality 60. Bases in and around the contexts that Escherichia coli methylates, CCWGG
  and GATC, are left out: a human genome has no such methylation, and these reads say nothing of its
  own (CpG).
  A profile has the shares of substituted, inserted and deleted bases among all errors; how often
  each base turns into each other one; how long insertions and deletions are; how often a deletion
  begins in a homopolymer of n bases; the rates of reads among each other (eight of them, each as
  likely); and the patches in which errors come: a hidden chain of two states, calm and rough,
  fitted to the places of the errors by maximum likelihood. Alignment hides errors and moves them,
  most of all between homopolymers and what stands beside them; so reads with the profile are made
  of the same references, aligned by minimap2 and measured alike, and the profile is corrected until
  they show what the real ones do.
How, half a minute on one core:
     python models/train/error_profile.py DIR/reads/ont_ecoli_modbases.bam
  prints `src/lab/simulate/nanopore.toml`. With --simulated it prints a markdown table of real reads
  beside reads with the profile instead.
"""

import argparse
import re

import mappy
import numpy as np
import pysam
from scipy.optimize import minimize

from read_errors import Profile, read_profile, run_lengths, simulate_profile
from sequences import encode, letters

BASES = "ACGT"
COMPLEMENT = str.maketrans(BASES, BASES[::-1])
MATCH, INSERTION, DELETION = 0, 1, 2
METHYLATED = re.compile("(?=CC[AT]GG|GATC)")
# Bases of such a context, and those around it that errors are also commoner at.
CONTEXT, AROUND = 5, 5
LONGEST_RUN = 8
LONGEST = 8
SHORTEST_ALIGNMENT = 1000
# Of the reads that a profile is tried with; most of the kit's are longer.
LENGTH = 10_000
ROUNDS = 4
# A piece between methylated contexts that is shorter says little of where errors come.
SHORTEST_PIECE = 50


def reverse_complement(text):
    return text.translate(COMPLEMENT)[::-1]


def from_bam(path):
    """(reference, read, operations) of each alignment, in the direction of the read."""
    for record in pysam.AlignmentFile(path, check_sq=False):
        unusable = record.is_unmapped or record.is_secondary or record.is_supplementary
        if unusable or record.mapping_quality < 60:
            continue
        reference = record.get_reference_sequence().upper()
        read = record.query_alignment_sequence
        operations = [(o, n) for o, n in record.cigartuples if o in (MATCH, INSERTION, DELETION)]
        if record.is_reverse:
            reference, read = reverse_complement(reference), reverse_complement(read)
            operations.reverse()
        yield reference, read, operations


def made_of(references, shape, rate):
    """The same of reads with a profile's errors, cut from the references of the real ones and
    aligned to where they were cut."""
    rng = np.random.default_rng(1)
    profile = Profile(shape, rate)
    for reference in references:
        for start in range(0, len(reference), LENGTH):
            piece = reference[start : start + LENGTH]
            noisy, _ = simulate_profile(encode(piece), profile, rng)
            text = letters(noisy)
            aligner = mappy.Aligner(seq=piece, preset="map-ont")
            hits = [hit for hit in aligner.map(text) if hit.strand > 0]
            if hits:
                hit = max(hits, key=lambda hit: hit.mlen)
                operations = [(o, n) for n, o in hit.cigar]
                yield piece[hit.r_st : hit.r_en], text[hit.q_st : hit.q_en], operations


class Counts:
    """What the alignments show."""

    def __init__(self):
        self.turned = np.zeros((4, 4))
        self.insertions = np.zeros(LONGEST + 1)
        self.deletions = np.zeros(LONGEST + 1)
        self.in_runs = np.zeros(LONGEST_RUN + 1)
        self.begun_in_runs = np.zeros(LONGEST_RUN + 1)
        self.bases = 0
        self.rates = []
        self.pieces = []

    def add(self, reference, read, operations):
        if len(reference) < SHORTEST_ALIGNMENT:
            return
        codes, got = encode(reference), encode(read)
        usable = codes < 4
        for match in METHYLATED.finditer(reference):
            usable[max(0, match.start() - AROUND) : match.start() + CONTEXT + AROUND] = False
        begins = np.zeros(len(codes), bool)
        event = np.zeros(len(codes), bool)
        wrong = at = place = 0
        for operation, n in operations:
            if operation == MATCH:
                one = slice(at, at + n)
                ours, theirs = codes[one], got[place : place + n]
                event[one] |= ours != theirs
                both = usable[one] & (theirs < 4)
                np.add.at(self.turned, (ours[both], theirs[both]), 1)
                wrong += (both & (ours != theirs)).sum()
                at += n
                place += n
            elif operation == INSERTION:
                # Before the base that follows; at the very end nothing does.
                if at < len(codes):
                    event[at] = True
                    if usable[at]:
                        self.insertions[min(n, LONGEST)] += 1
                        wrong += n
                place += n
            else:
                begins[at] = event[at] = True
                if usable[at]:
                    self.deletions[min(n, LONGEST)] += 1
                    wrong += n
                at += n
        long = np.minimum(run_lengths(codes), LONGEST_RUN)
        self.in_runs += np.bincount(long[usable], minlength=LONGEST_RUN + 1)
        self.begun_in_runs += np.bincount(long[begins & usable], minlength=LONGEST_RUN + 1)
        self.bases += usable.sum()
        self.rates.append(wrong / usable.sum())
        edges = np.flatnonzero(np.diff(np.concatenate([[0], usable, [0]]).astype(int)))
        for start, end in edges.reshape(-1, 2):
            if end - start >= SHORTEST_PIECE:
                self.pieces.append((end - start, np.flatnonzero(event[start:end])))

    def patchiness(self, within=5):
        """How much commoner an error is among the bases after another one than anywhere."""
        near = sum((np.diff(places) <= within).sum() for _, places in self.pieces)
        events = sum(len(places) for _, places in self.pieces)
        rate = events / sum(length for length, _ in self.pieces)
        return near / events / (1 - (1 - rate) ** within)

    def summary(self):
        """Rates a base and the shapes that a profile is made of."""
        lengths = np.arange(LONGEST + 1)
        substituted = self.turned.sum() - np.trace(self.turned)
        inserted, deleted = (self.insertions * lengths).sum(), (self.deletions * lengths).sum()
        wrong = substituted + inserted + deleted
        rows = self.turned / self.turned.sum(1, keepdims=True)
        np.fill_diagonal(rows, 0)
        by_run = self.begun_in_runs[1:] / np.maximum(self.in_runs[1:], 1)
        relative = np.sort(self.rates)[len(self.rates) * np.arange(1, 16, 2) // 16]
        return {
            "rate": wrong / self.bases,
            "shares": np.array([substituted, inserted, deleted]) / wrong,
            "substitutes": rows / (substituted / self.turned.sum()),
            "insertion_lengths": self.insertions[1:] / self.insertions.sum(),
            "deletion_lengths": self.deletions[1:] / self.deletions.sum(),
            "deletions_by_run": np.maximum.accumulate(by_run / by_run[0]),
            "reads": relative / relative.mean(),
        }


def likelihood(parameters, pieces):
    """Of the places of the errors under two states; share and chance to leave of the rough one."""
    share, leave, calm, rough = 1 / (1 + np.exp(-parameters))
    enter = leave * share / (1 - share)
    if not (enter < 1 and calm < rough):
        return np.inf
    step = np.array([[1 - enter, enter], [leave, 1 - leave]])
    hit, miss = np.array([calm, rough]), np.array([1 - calm, 1 - rough])
    longest = max(length for length, _ in pieces)
    # Row k: from the state at one base to that at the k-th after it, no error between them.
    between = np.empty((longest + 1, 2, 2))
    between[0] = np.eye(2)
    quiet = step * miss
    for k in range(1, longest + 1):
        between[k] = between[k - 1] @ quiet
    start = np.array([1 - share, share])
    total = 0.0
    for length, places in pieces:
        # Before the first base the chain is in its long-run state, and stays in it for a step.
        state, last = start, -1
        for place in places:
            state = state @ between[place - last - 1] @ step * hit
            scale = state.sum()
            total += np.log(scale)
            state, last = state / scale, place
        total += np.log((state @ between[length - 1 - last]).sum())
    return -total


def patches(counts):
    """Share of bases in rough patches, how much commoner errors are there, chance to leave one."""
    # Some 50,000 errors are enough, and as many take a second each time.
    pieces, errors = [], 0
    order = np.random.default_rng(1).permutation(len(counts.pieces))
    for i in order:
        pieces.append(counts.pieces[i])
        errors += len(counts.pieces[i][1])
        if errors > 50_000:
            break
    mean = errors / sum(length for length, _ in pieces)
    logit = lambda p: np.log(p / (1 - p))
    first = logit(np.array([0.1, 0.1, mean / 2, min(mean * 5, 0.5)]))
    found = minimize(likelihood, first, args=(pieces,), method="Nelder-Mead")
    share, leave, calm, rough = 1 / (1 + np.exp(-found.x))
    return {"share": share, "times": rough / calm, "leave": leave}


def toml(shape, rate):
    row = lambda values: "[" + ", ".join(f"{v:.4g}" for v in values) + "]"
    print(f"rate = {rate:.4f}")
    for key in ("shares", "insertion_lengths", "deletion_lengths", "deletions_by_run", "reads"):
        print(f"{key} = {row(shape[key])}")
    print("substitutes = [")
    for values in shape["substitutes"]:
        print(f"    {row(values)},")
    print("]")
    print("rough = { " + ", ".join(f"{k} = {v:.4g}" for k, v in shape["rough"].items()) + " }")


def measured(alignments):
    counts = Counts()
    for one in alignments:
        counts.add(*one)
    return counts


def fitted(real, references):
    """The profile whose reads, aligned, show what the real ones do. Alignment hides some errors and
    moves others, so what is put in is corrected by what was measured of it."""
    wanted = real.summary()
    shape = {key: np.array(value) for key, value in wanted.items() if key != "rate"}
    shape["rough"] = patches(real)
    rate = wanted["rate"]
    for _ in range(ROUNDS):
        found = measured(made_of(references, shape, rate)).summary()
        rate *= wanted["rate"] / found["rate"]
        for key in ("shares", "insertion_lengths", "deletion_lengths", "substitutes"):
            # What was not seen once says nothing.
            shape[key] *= np.where(found[key] > 0, wanted[key], 1) / np.where(
                found[key], found[key], 1
            )
        shape["shares"] /= shape["shares"].sum()
        by_run = shape["deletions_by_run"] * wanted["deletions_by_run"] / found["deletions_by_run"]
        shape["deletions_by_run"] = np.maximum.accumulate(by_run)
    return shape, rate


def compare(real, made):
    first, second = real.summary(), made.summary()
    mean = lambda lengths: (lengths * np.arange(1, len(lengths) + 1)).sum()
    transitions = lambda rows: (rows[[0, 1, 2, 3], [2, 3, 0, 1]].sum()) / rows.sum()
    rows = [("wrong bases", *(f"{s['rate']:.4f}" for s in (first, second)))]
    for i, kind in enumerate(("substituted", "inserted", "deleted")):
        rows.append((f"of them {kind}", *(f"{s['shares'][i]:.2f}" for s in (first, second))))
    for kind in ("insertion", "deletion"):
        lengths = (f"{mean(s[kind + '_lengths']):.2f}" for s in (first, second))
        rows.append((f"mean length of {kind}s", *lengths))
    turned = (f"{transitions(s['substitutes']):.2f}" for s in (first, second))
    rows.append(("transitions among substitutions", *turned))
    for run in (4, 6, 8):
        times = (f"{s['deletions_by_run'][run - 1]:.1f}" for s in (first, second))
        rows.append((f"deletions in a run of {run}, relative to 1", *times))
    spread = (f"{s['reads'][-1] / s['reads'][0]:.1f}" for s in (first, second))
    rows.append(("worst eighth of reads, relative to the best", *spread))
    near = (f"{c.patchiness():.1f}" for c in (real, made))
    rows.append(("errors within 5 bases of another, relative to chance", *near))
    print("| | real | simulated |\n| --- | --- | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bam")
    parser.add_argument("--simulated", action="store_true")
    args = parser.parse_args()
    alignments = list(from_bam(args.bam))
    references = [reference for reference, _, _ in alignments]
    real = measured(alignments)
    if args.simulated:
        shape = read_profile()
        compare(real, measured(made_of(references, shape, shape["rate"])))
    else:
        toml(*fitted(real, references))


if __name__ == "__main__":
    main()
