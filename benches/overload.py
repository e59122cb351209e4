#!/usr/bin/env python3
"""What is left of reads at several times the load that a machine can score.

    cargo build --release
    python benches/overload.py

plays random reads of 2 to 20 kb over a socket, first with `--on-overload block`, which says how
fast this machine scores, then at five times that with each policy. Counting begins ten seconds
after the load. `PROGRAM=...` measures another build; options follow `--help`.
"""

import argparse
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

PROGRAM = os.environ.get("PROGRAM", "target/release/strandline")
FROM = 10.0


def reads(path: Path, megabases: float) -> None:
    """Writes random reads of 2 to 20 kb."""
    rng = random.Random(1)
    left = int(megabases * 1e6)
    with path.open("w") as out:
        number = 0
        while left > 0:
            length = rng.randint(2000, 20_000)
            letters = "".join(rng.choices("ACGT", k=length))
            out.write(f">r{number}\n{letters}\n")
            number, left = number + 1, left - length


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def scrape(port: int) -> dict[str, float]:
    """The numbers of the moment, by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    rows = re.findall(r"^strandline_(\S+) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in rows}


def measure(options: argparse.Namespace, fasta: Path, policy: str, cell: tuple) -> dict:
    """One run: what was scored in the window, by kind."""
    folder = Path(tempfile.mkdtemp(dir=fasta.parent))
    link, port = f"unix://{folder}/link", free_port()
    annotate = [PROGRAM, "annotate", link, "--tier", options.tier, "--threads", options.threads]
    annotate += ["--deadline", options.deadline, "--on-overload", policy, "-o", "/dev/null"]
    annotate += ["--metrics", f"127.0.0.1:{port}"]
    channels, speed = cell
    replay = [PROGRAM, "replay", str(fasta), "--channels", str(channels), "--to", link]
    replay += ["--speed", str(speed), "--duration", "1000000", "-q"]
    with (folder / "said").open("w") as said:
        host = subprocess.Popen(annotate, stderr=said)
    while not reachable(port):
        time.sleep(0.05)
    board = subprocess.Popen(replay, stderr=subprocess.DEVNULL)
    while scrape(port)["bases_in_total"] == 0:
        time.sleep(0.05)
    time.sleep(FROM)
    before, begun = scrape(port), time.monotonic()
    time.sleep(options.seconds)
    after, seconds = scrape(port), time.monotonic() - begun
    host.send_signal(signal.SIGINT)
    host.wait()
    board.kill()
    board.wait()

    def more(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    scored, ends = more('bases_total{end="scored"}'), more('bases_total{end="without_context"}')
    partial = more("bases_partial_total")
    return {
        "policy": policy,
        "rate": (scored + ends) / seconds,
        "offered": more("bases_in_total") / seconds,
        "context": scored / 1e6,
        "whole": (scored + ends - partial) / 1e6 if "bases_partial_total" in after else None,
        "late": more("late_total"),
        "p999": after.get('latency_seconds{quantile="0.999"}', float("nan")),
        "partial": more("reads_partial_total"),
        "out": more('reads_total{end="out"}'),
        "shed": more('reads_total{end="shed"}'),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tier", default="fast")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--deadline", default="1000", help="milliseconds")
    parser.add_argument("--rate", type=float, help="bases a second at full load [measured]")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--load", type=float, default=5.0)
    parser.add_argument("--policies", nargs="+", default=["block", "shed-newest", "shed-oldest"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "reads.fa"
        reads(fasta, 50.0)
        rate = options.rate or measure(options, fasta, "block", (1000, 20.0))["rate"]
        channels = options.load * rate / 400
        cell = (min(4000, round(channels)), max(1.0, channels / 4000))
        said = f"scores {rate / 1e6:.3f} Mb/s; from here on {cell[0]} channels at {cell[1]:.2f}x"
        print(said, flush=True)
        for policy in options.policies:
            row = measure(options, fasta, policy, cell)
            whole = "?" if row["whole"] is None else f"{row['whole']:.2f}"
            print(
                f"{policy:12} offered {row['offered'] / 1e6:6.3f} Mb/s, scored {whole} Mb in whole "
                f"reads, {row['context']:.2f} Mb with full context; {row['out']:.0f} reads out, "
                f"{row['partial']:.0f} partial, {row['shed']:.0f} shed; p99.9 {row['p999']:.3f} s, "
                f"{row['late']:.0f} pieces late",
                flush=True,
            )


if __name__ == "__main__":
    main()
