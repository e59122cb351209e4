"""What the built-in splice and promoter models call on the first megabase of human chr9, against its annotation.

    cargo build --release
    python models/train/chr9.py --data DIR

The whole contig is one record, so every call has its context. A splice site counts as annotated where any transcript
of the GTF has an exon edge there on that strand that faces an intron.
"""

import argparse
import gzip
import os
from collections import defaultdict

from packed import Packed, read_sequences


def annotation(path):
    """(kind, strand) -> positions of exon edges that face an intron; the same of protein-coding transcripts; gene starts; gene spans."""
    exons, coding, starts, spans = defaultdict(list), set(), [], []
    with gzip.open(path, "rt") as lines:
        for fields in (line.rstrip("\n").split("\t") for line in lines if not line.startswith("#")):
            first, last, strand = int(fields[3]) - 1, int(fields[4]) - 1, fields[6]
            if fields[2] == "gene":
                starts.append((first if strand == "+" else last, strand))
                spans.append((first, last, strand))
            elif fields[2] == "exon":
                transcript = fields[8].split('transcript_id "')[1].split('"')[0]
                exons[transcript, strand].append((first, last))
                if 'transcript_biotype "protein_coding"' in fields[8]:
                    coding.add(transcript)
    sites, coding_sites = defaultdict(set), defaultdict(set)
    for (transcript, strand), own in exons.items():
        own.sort()
        for (_, end), (begin, _) in zip(own, own[1:]):
            kinds = ("donor", "acceptor") if strand == "+" else ("acceptor", "donor")
            for kind, position in zip(kinds, (end, begin)):
                sites[kind, strand].add(position)
                if transcript in coding:
                    coding_sites[kind, strand].add(position)
    return sites, coding_sites, starts, spans


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="the data kit")
    parser.add_argument("--binary", default="target/release/strandline")
    arguments = parser.parse_args()
    stem = os.path.join(arguments.data, "genome", "human_GRCh38_chr9_1_1000000")
    ((_, text),) = read_sequences(stem + ".fa.gz")
    sites, coding, starts, spans = annotation(stem + ".gtf.gz")
    binary = os.path.abspath(arguments.binary)
    print(f"{'':9} {'annotated':>9} {'called':>7} {'of them':>8} {'recall,':>8} {'in genes on':>12} {'elsewhere,':>11}")
    print(f"{'':9} {'sites':>9} {'':>7} {'sites':>8} {'coding':>8} {'the strand':>12} {'a Mb':>11}")
    packed = Packed(binary, "models/splice.safetensors")
    found = defaultdict(set)
    for call in packed.annotate([text]):
        found[call["kind"], call["strand"]].add(call["start"])
    for kind in ("acceptor", "donor"):
        own = {(p, s) for s in "+-" for p in found[kind, s]}
        true = {(p, s) for s in "+-" for p in sites[kind, s]}
        main_sites = {(p, s) for s in "+-" for p in coding[kind, s]}
        inside = [c for c in own - true if any(a <= c[0] <= b and c[1] == s for a, b, s in spans)]
        rest = len(own - true) - len(inside)
        recall = len(own & main_sites) / len(main_sites)
        print(f"{kind:9} {len(true):9} {len(own):7} {len(own & true):8} {recall:8.2f} {len(inside):12} {rest / (len(text) / 1e6):11.0f}")
    packed = Packed(binary, "models/promoter.safetensors")
    calls = [(c["start"], c["strand"]) for c in packed.annotate([text])]
    near = lambda reach: sum(any(abs(p - q) <= reach and s == t for p, s in calls) for q, t in starts)
    far = [p for p, _ in calls if all(abs(p - q) > 1000 for q, _ in starts)]
    print(f"promoter  {len(calls)} calls; gene starts with one within 100 nt: {near(100)} of {len(starts)}, within 1,000 nt: {near(1000)}; beyond 1,000 nt of any: {len(far)}")


if __name__ == "__main__":
    main()
