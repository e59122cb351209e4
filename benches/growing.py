#!/usr/bin/env python3
"""What a read costs while it grows, beside the same read from a file.

    cargo build --release
    python benches/growing.py target/release/strandline [OTHER_PROGRAM ...]

plays reads over a socket in chunks of 400 bases (64 channels at 2,000 times their pace) and counts
processor seconds of `annotate` alone, on one thread; then the same reads from a file. With more
than one program, such as a build of an earlier version, they take turns, and gains are those of the
first over the last. The calls must be the same, all of them. `STRANDLINE_ISA` is passed on.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

READS = Path(__file__).resolve().parents[1] / "tests/data/reads.fastq.gz"


def seconds(process: subprocess.Popen) -> float:
    """Processor seconds in user mode, once it has ended."""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{process.args}: exit code {process.returncode}")
    return used.ru_utime


def annotate(program: str, source: str, tier: str, output: Path) -> subprocess.Popen:
    words = [program, "annotate", source, "--tier", tier, "--threads", "1", "-q", "-o", output]
    return subprocess.Popen([str(word) for word in words])


def whole(program: str, options: argparse.Namespace, tier: str, folder: Path) -> float:
    return seconds(annotate(program, options.reads, tier, folder / "calls.tsv"))


def growing(program: str, options: argparse.Namespace, tier: str, folder: Path) -> float:
    socket = folder / "link"
    url = f"unix://{socket}"
    host = annotate(program, url + "?once", tier, folder / "calls.tsv")
    while not socket.exists():
        time.sleep(0.01)
    words = [program, "replay", options.reads, "--to", url, "-q", "--pause", "0"]
    words += ["--speed", "2000", "--channels", "64"]
    subprocess.run([str(word) for word in words], check=True)
    return seconds(host)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("programs", nargs="+", metavar="PROGRAM")
    parser.add_argument("--reads", default=READS)
    parser.add_argument("--tiers", nargs="+", default=["fast", "auto"])
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    for tier in options.tiers:
        times: dict[tuple[str, str], list[float]] = {}
        calls = set()
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(options.runs):
                for program in options.programs:
                    for way in (whole, growing):
                        used = way(program, options, tier, Path(folder))
                        times.setdefault((program, way.__name__), []).append(used)
                        lines = (Path(folder) / "calls.tsv").read_text().splitlines()
                        calls.add(tuple(sorted(lines)))
        if len(calls) != 1:
            sys.exit(f"{tier}: {len(calls)} different sets of calls")
        median = {key: statistics.median(runs) for key, runs in times.items()}
        for program in options.programs:
            from_file, over_link = median[program, "whole"], median[program, "growing"]
            print(
                f"{tier:8} {program}: file {from_file:.3f} s, growing {over_link:.3f} s, "
                f"ratio {over_link / from_file:.2f}"
            )
        first, last = options.programs[0], options.programs[-1]
        if first != last:
            gains = [median[last, way] / median[first, way] for way in ("whole", "growing")]
            print(f"{tier:8} gain: file {gains[0]:.2f}, growing {gains[1]:.2f}")


if __name__ == "__main__":
    main()
