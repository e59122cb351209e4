"""What kills, power cuts and full disks cost a run that follows a folder.

    python3 tests/field/follow.py target/release/strandline [--kills 200] [--cuts 200] [--seed 1]

A kill is SIGKILL at a random moment, while files grow. A power cut takes a random part from the
ends of output and journal and turns a random tail of what is left to zeros: harsher than a disk
that keeps what was synchronised. After each the command is given again as it was. Where it refuses,
it names a command that resumes; that is run, and then the first one. The calls must be those of the
whole folder, each once. Exits with 1 where they are not.
"""

import argparse
import gzip
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = 12


def records():
    """The records of the sample reads."""
    with gzip.open(ROOT / "tests/data/reads.fastq.gz", "rt") as file:
        lines = file.read().splitlines(keepends=True)
    return ["".join(lines[i : i + 4]) for i in range(0, len(lines), 4)]


class Follow:
    """A folder, the command that follows it, and the calls that it should give."""

    def __init__(self, program, folder, texts, rng):
        self.program, self.rng = program, rng
        self.folder = folder / "run"
        self.output = folder / "calls.tsv"
        self.journal = folder / "calls.tsv.journal"
        self.folder.mkdir(parents=True)
        self.texts = texts

    def fill(self, share=1.0):
        """Files with a part of their bytes; some are compressed once they are whole."""
        for number, text in enumerate(self.texts):
            data = text.encode()[: int(share * len(text))]
            (self.folder / f"{number:02}.fastq").write_bytes(data)

    def command(self):
        return [
            self.program, "annotate", "-q", "--tier", "fast", "--threads", "1",
            "--follow", self.folder, "-o", self.output, "--until-idle", "0.01",
        ]

    def run(self):
        return subprocess.run(self.command(), capture_output=True, text=True, check=False)

    def resume(self):
        """Runs until the end; what was refused and with what advice."""
        done = self.run()
        if done.returncode == 0:
            return "exact", ""
        advice = re.search(r"from the beginning: (mv .*)$", done.stderr, re.M)
        if not advice:
            return "failed", done.stderr
        subprocess.run(advice.group(1), shell=True, check=True)
        again = self.run()
        return ("refused", "") if again.returncode == 0 else ("failed", again.stderr)

    def calls(self):
        return Counter(self.output.read_text().splitlines())


def compare(follow, expected):
    """How the calls differ from what they should be."""
    calls = follow.calls()
    if calls == expected:
        return None
    return "duplicated" if calls - expected else "lost"


def kills(follow, expected):
    """Kills while the files grow, until all is there."""
    shares = sorted(follow.rng.random() for _ in range(3)) + [1.0]
    for share in shares:
        follow.fill(share)
        process = subprocess.Popen(
            [str(word) for word in follow.command()[:-2]], stderr=subprocess.DEVNULL
        )
        time.sleep(follow.rng.uniform(0.0, 0.6))
        process.kill()
        process.wait()
    verdict, message = follow.resume()
    return verdict, compare(follow, expected), message


def cut(path, rng):
    """Cuts a file at a random byte, and zeroes a random part of what is left."""
    data = path.read_bytes()
    kept = rng.randrange(len(data) + 1)
    zeros = rng.choice([0, 0, rng.randrange(min(kept, 4096) + 1)])
    path.write_bytes(data[: kept - zeros] + bytes(zeros))


def cuts(follow, expected):
    """A power cut after a run, or in the middle of one."""
    follow.fill(follow.rng.choice([1.0, follow.rng.random()]))
    follow.run()
    cut(follow.output, follow.rng)
    cut(follow.journal, follow.rng)
    follow.fill()
    verdict, message = follow.resume()
    return verdict, compare(follow, expected), message


def full_disk(program, folder):
    """An output and a decisions file on a full device end in an error, and nothing hangs."""
    reads = ROOT / "tests/data/reads.fastq.gz"
    command = [program, "annotate", "-q", "--tier", "fast", reads, "-o", "/dev/full"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return "exact" if done.returncode == 1 and "/dev/full" in done.stderr else "failed"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    program = arguments.program.resolve()
    rng = random.Random(arguments.seed)
    all_records = records()
    step = len(all_records) // FILES
    texts = ["".join(all_records[i * step : (i + 1) * step]) for i in range(FILES)]
    scratch = Path(tempfile.mkdtemp())
    wrong = 0
    try:
        reference = Follow(program, scratch / "reference", texts, rng)
        reference.fill()
        done = reference.run()
        assert done.returncode == 0, done.stderr
        expected = reference.calls()
        assert len(expected) > 100
        for name, times, fault in (
            ("kills", arguments.kills, kills),
            ("power cuts", arguments.cuts, cuts),
        ):
            seen = Counter()
            for number in range(times):
                follow = Follow(program, scratch / f"{name} {number}", texts, rng)
                verdict, difference, message = fault(follow, expected)
                seen[difference or verdict] += 1
                if difference or verdict == "failed":
                    wrong += 1
                    print(f"{name} {number}: {difference or ''} {message}", file=sys.stderr)
                shutil.rmtree(scratch / f"{name} {number}")
            counts = ", ".join(f"{count} {what}" for what, count in seen.most_common())
            print(f"{name}: {times}: {counts}")
        if os.path.exists("/dev/full"):
            verdict = full_disk(program, scratch)
            wrong += verdict != "exact"
            print(f"full disk: {verdict}")
    finally:
        shutil.rmtree(scratch)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
