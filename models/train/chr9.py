"""What the built-in splice and promoter models call on the first megabase of human chr9, against
its annotation.

    cargo build --release
    python models/train/chr9.py --data DIR

The whole contig is one record, so every call has its context. A splice site counts as annotated
where any transcript of the GTF has an exon edge there on that strand that faces an intron. A
promoter call is counted against the starts of genes and of transcripts of its strand, and as false
by three measures of what is none: near no gene's start, near no transcript's, in no gene.
"""

import argparse
import gzip
import os
from collections import defaultdict

from packed import Packed
from sequences import encode, read_sequences


def annotation(path):
    """(kind, strand) -> positions of exon edges that face an intron; the same of protein-coding
    transcripts; gene starts; gene spans."""
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


def start_sites(path):
    """Start sites of genes and of transcripts, {(position, strand)} by name, and the spans of
    genes."""
    starts, spans = (
        {name: set() for name in ("genes", "coding genes", "transcripts", "coding transcripts")},
        [],
    )
    with gzip.open(path, "rt") as lines:
        for fields in (line.split("\t") for line in lines if not line.startswith("#")):
            if fields[2] in ("gene", "transcript"):
                first, last, strand = int(fields[3]) - 1, int(fields[4]) - 1, fields[6]
                own = (first if strand == "+" else last, strand)
                starts[fields[2] + "s"].add(own)
                if f'{fields[2]}_biotype "protein_coding"' in fields[8]:
                    starts[f"coding {fields[2]}s"].add(own)
                if fields[2] == "gene":
                    spans.append((first, last))
    return starts, spans


def promoter(binary, text, annotation_path):
    """Calls lie 100 nt apart at least: a cluster of high scores is one call, at its highest
    base.
    """
    starts, spans = start_sites(annotation_path)
    found = {
        (call["start"], call["strand"])
        for call in Packed(binary, "models/promoter.safetensors").annotate([text])
    }
    print(
        f"\n{'promoter':20} {'start sites':>11} {'with a call within 10':>22} {'50':>5}"
        f" {'500 nt':>7}"
    )
    for name, sites in starts.items():
        near = [
            sum(any(s == t and abs(p - q) <= reach for p, s in found) for q, t in sites)
            for reach in (10, 50, 500)
        ]
        print(f"{name:20} {len(sites):11} {near[0]:22} {near[1]:5} {near[2]:7}")
    print(f"\n{'promoter':34} {'calls':>5} {'Mb of strand':>13} {'a Mb':>6}")
    zones = {
        "everywhere": [],
        "beyond 1 kb of gene starts": [(p - 1000, p + 1000) for p, _ in starts["genes"]],
        "beyond 1 kb of transcript starts": [
            (p - 1000, p + 1000) for p, _ in starts["transcripts"]
        ],
        "outside genes by 1 kb": [(a - 1000, b + 1000) for a, b in spans],
    }
    for name, ranges in zones.items():
        keep = encode(text) < 4
        for a, b in ranges:
            keep[max(0, a) : b + 1] = False
        calls, megabases = sum(keep[p] for p, _ in found), 2 * keep.sum() / 1e6
        print(f"{name:34} {calls:5} {megabases:13.2f} {calls / megabases:6.1f}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="the data kit")
    parser.add_argument("--binary", default="target/release/strandline")
    arguments = parser.parse_args()
    stem = os.path.join(arguments.data, "genome", "human_GRCh38_chr9_1_1000000")
    ((_, text),) = read_sequences(stem + ".fa.gz")
    sites, coding, starts, spans = annotation(stem + ".gtf.gz")
    binary = os.path.abspath(arguments.binary)
    print(
        f"{'':9} {'annotated':>9} {'called':>7} {'of them':>8} {'recall,':>8} {'in genes on':>12}"
        f" {'elsewhere,':>11}"
    )
    print(f"{'':9} {'sites':>9} {'':>7} {'sites':>8} {'coding':>8} {'the strand':>12} {'a Mb':>11}")
    packed = Packed(binary, "models/splice.safetensors", "auto")
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
        print(
            f"{kind:9} {len(true):9} {len(own):7} {len(own & true):8} {recall:8.2f}"
            f" {len(inside):12} {rest / (len(text) / 1e6):11.0f}"
        )
    promoter(binary, text, stem + ".gtf.gz")


if __name__ == "__main__":
    main()
