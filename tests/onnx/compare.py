"""Compares the packed int8 models with their float networks in ONNX Runtime, score by score.

    cargo build --release
    pip install -r tests/onnx/requirements.txt
    python tests/onnx/compare.py [--binary PATH] [SEQUENCES]...

SEQUENCES are tests/data/genes.fa.gz by default, which takes about 15 seconds.

Every base of the sequences on both strands (splice, promoter); windows cut from them on both
strands (promoter, `score --whole`) and 5'UTRs of 25 to 140 nt (expression). Calibration and link
are applied to the float outputs here, so what is compared is what a user sees. The exit code is 1
where a bound is exceeded.
"""

import argparse
import os
import sys

import numpy as np

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "models", "train"))
from packed import FloatNetwork, Packed, calls, scores  # noqa: E402
from sequences import encode, read_sequences, reverse_complement  # noqa: E402

# Largest and mean difference, least Pearson correlation, largest share of calls that change.
# Probabilities, but for the last.
BOUNDS = {
    "splice": (0.6, 0.0005, 0.99, 0.15),
    "promoter": (0.6, 0.0005, 0.95, 0.35),
    "promoter windows": (0.5, 0.03, 0.99, 0.06),
    "expression": (0.6, 0.1, 0.99, 0.0),
}


def both_strands(sequences):
    for strand in ("forward", "reverse"):
        for text in sequences:
            codes = encode(text)
            yield strand, codes if strand == "forward" else reverse_complement(codes)


def bases(packed, network, sequences):
    """Scores of every base in 5' to 3' order, one array a sequence and strand.

    Pairs of ours and those of ONNX Runtime.
    """
    own = packed.scan(sequences) + [rows[::-1] for rows in packed.scan(sequences, "reverse")]
    for rows, (_, codes) in zip(own, both_strands(sequences)):
        yield rows, scores(packed.manifest, network.scan(codes), read=True)


def whole(packed, network, sequences, strands):
    """Scores of whole windows: (ours, ONNX Runtime's)."""
    own = np.concatenate([packed.whole(sequences, strand) for strand in strands])
    raw = [network.whole(codes) for strand, codes in both_strands(sequences) if strand in strands]
    return own, scores(packed.manifest, raw, whole=True)


def report(name, output, own, plain, called, bounds):
    """Prints a row and tells whether it keeps the bounds; `called` holds two sets."""
    difference = np.abs(own - plain)
    pearson = np.corrcoef(own, plain)[0, 1]
    changed = len(called[0] ^ called[1])
    share = changed / max(
        20, len(called[1])
    )  # of a handful of calls one is a large share and means nothing
    largest, mean, least, most = bounds
    good = (
        difference.max() <= largest
        and difference.mean() <= mean
        and pearson >= least
        and share <= most
    )
    print(
        f"{name:18} {output:20} {len(own):>9,} {difference.max():9.5f} "
        f"{difference.mean():11.7f} {pearson:9.6f} {len(called[1]):7,} {changed:8,}  "
        f"{'ok' if good else 'TOO MUCH'}",
        flush=True,
    )
    return good


def pieces(text, length, step):
    return [text[at : at + length] for at in range(0, len(text) - length, step)]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sequences", nargs="*", default=[os.path.join(ROOT, "tests", "data", "genes.fa.gz")]
    )
    parser.add_argument("--binary", default=os.path.join(ROOT, "target", "release", "strandline"))
    parser.add_argument(
        "--models",
        default=os.path.join(ROOT, "models"),
        help="folder of TASK.safetensors and float/TASK.onnx",
    )
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.binary)
    sequences = [
        text for path in arguments.sequences for _, text in read_sequences(path) if len(text) >= 200
    ]
    print(
        f"{'':18} {'output':20} {'scores':>9} {'largest':>9} {'mean':>11} {'Pearson':>9} "
        f"{'calls':>7} {'changed':>8}"
    )
    good = True

    def open_task(task):
        packed = Packed(binary, os.path.join(arguments.models, f"{task}.safetensors"))
        return packed, FloatNetwork(
            os.path.join(arguments.models, "float", f"{task}.onnx"), packed.manifest
        )

    for task in ("splice", "promoter"):
        packed, network = open_task(task)
        pairs = list(bases(packed, network, sequences))
        for c, output in enumerate(packed.manifest["outputs"]):
            called = [
                {
                    (number, at)
                    for number, pair in enumerate(pairs)
                    for at in calls(pair[side][:, c], output["threshold"], output["separation"])
                }
                for side in (0, 1)
            ]
            own, plain = (np.concatenate([pair[side][:, c] for pair in pairs]) for side in (0, 1))
            good &= report(task, output["name"], own, plain, called, BOUNDS[task])

    length = packed.manifest["whole"]["length"]
    windows = [window for text in sequences for window in pieces(text, length, length)][:4000]
    own, plain = whole(packed, network, windows, ("forward", "reverse"))
    called = [set(np.flatnonzero(side[:, 0] >= 0.5)) for side in (own, plain)]
    good &= report(
        "promoter windows", "promoter", own[:, 0], plain[:, 0], called, BOUNDS["promoter windows"]
    )

    packed, network = open_task("expression")
    lengths = (25, 26, 27, 50, 73, 100, 101, 140)
    utrs = [utr for text in sequences for length in lengths for utr in pieces(text, length, 800)][
        :4000
    ]
    own, plain = whole(packed, network, utrs, ("forward",))
    good &= report(
        "expression",
        packed.manifest["outputs"][0]["name"],
        own[:, 0],
        plain[:, 0],
        [set(), set()],
        BOUNDS["expression"],
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
