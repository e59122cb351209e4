"""What a user can expect of the splice model in real surroundings, as two markdown tables.

What: the first megabase of human chr9 (never trained on) cut into reads of 2 to 20 kb of either
  strand, with 0, 1 and 5 % errors as `strandline simulate` makes them: how many of the annotated
  sites of protein-coding transcripts and of all transcripts are called at the default thresholds,
  and how many calls lie outside of genes of either strand, where there is nothing to find. A site
  is one exon edge that faces an intron; it is found where the very base is called that a read has
  of it. Then nanopore reads of HG002: there is no truth to tell calls by, so how many there are.
How: python models/train/reality.py --data DIR        ten seconds on one core
"""

import argparse
import gzip
import os

import numpy as np

from chr9 import annotation
from packed import Packed
from read_errors import simulate
from sequences import encode, letters, read_sequences, reverse_complement
from splice_data import KINDS

TIERS = ("fast", "accurate", "auto")


def cut(codes, rate, rng):
    """Reads side by side: (noisy bases, base of the template of each, strand)."""
    start = 0
    while start < len(codes):
        end = min(len(codes), start + int(np.exp(rng.uniform(np.log(2000), np.log(20_000)))))
        strand = "+-"[rng.integers(2)]
        template = np.arange(start, end) if strand == "+" else np.arange(start, end)[::-1]
        bases = codes[start:end] if strand == "+" else reverse_complement(codes[start:end])
        noisy, places = simulate(bases, rate, rng)
        at = np.full(len(noisy), -1)
        at[places[places >= 0]] = template[places >= 0]
        yield noisy, at, strand
        start = end


def chr9(data, binary, model):
    stem = os.path.join(data, "genome", "human_GRCh38_chr9_1_1000000")
    ((_, text),) = read_sequences(stem + ".fa.gz")
    sites, coding, _, spans = annotation(stem + ".gtf.gz")
    sets = [{(k, s, p) for (k, s), found in by.items() for p in found} for by in (coding, sites)]
    codes = encode(text)
    outside = codes < 4
    for first, last, _ in spans:
        outside[first : last + 1] = False
    print(
        f"| reads | tier | coding sites called (of {len(sets[0])}) | all sites called (of"
        f" {len(sets[1])}) | calls that are sites | calls a Mb and strand outside genes |\n| --- |"
        " --- | --- | --- | --- | --- |"
    )
    for name, rate in (("no errors", 0.0), ("1 % errors", 0.01), ("5 % errors", 0.05)):
        reads = list(cut(codes, rate, np.random.default_rng(1)))
        for tier in TIERS:
            found = set()
            count = 0
            for call in Packed(binary, model, tier).annotate([letters(r[0]) for r in reads]):
                _, at, strand = reads[int(call["read"])]
                count += 1
                found.add(
                    (
                        call["kind"],
                        call["strand"] if strand == "+" else "-+"["+-".index(call["strand"])],
                        int(at[call["start"]]),
                    )
                )
            far = sum(bool(outside[p]) for _, _, p in found if p >= 0)
            shares = [len(found & wanted) / len(wanted) for wanted in sets]
            print(
                f"| {name} | {tier} | {shares[0]:.2f} | {shares[1]:.2f} |"
                f" {len(found & sets[1]) / count:.2f} | {far / (2 * outside.sum() / 1e6):.0f} |"
            )


def hg002(data, binary, model):
    path = os.path.join(data, "reads", "ont_gdna_hg002.fastq.gz")
    reads = [text for _, text in read_sequences(path)]
    with gzip.open(path, "rb") as lines:
        quality = (
            np.frombuffer(
                b"".join(line.strip() for i, line in enumerate(lines) if i % 4 == 3), np.uint8
            )
            - 33.0
        )
    strands = 2 * sum(map(len, reads)) / 1e6
    print(
        f"\nHG002: {len(reads)} reads, {strands / 2:.2f} Mb, mean quality"
        f" Q{-10 * np.log10((10 ** (-quality / 10)).mean()):.1f}\n"
    )
    print(
        "| tier | acceptors a Mb and strand | donors a Mb and strand | calls with short context"
        " |\n| --- | --- | --- | --- |"
    )
    for tier in TIERS:
        calls = Packed(binary, model, tier).annotate(reads)
        each = [sum(call["kind"] == kind for call in calls) / strands for kind in KINDS]
        short = np.mean(["short-context" in call["flags"] for call in calls])
        print(f"| {tier} | {each[0]:.0f} | {each[1]:.0f} | {short:.2f} |")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="the data kit")
    parser.add_argument("--binary", default="target/release/strandline")
    parser.add_argument("--model", default="models/splice.safetensors")
    args = parser.parse_args()
    for part in (chr9, hg002):
        part(args.data, os.path.abspath(args.binary), args.model)


if __name__ == "__main__":
    main()
