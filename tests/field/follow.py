"""What kills, power cuts and full disks cost a run that follows a folder.

    python3 tests/field/follow.py target/release/strandline [--kills 200] [--cuts 200]
        [--full-disks 200] [--seed 1]

A kill is SIGKILL at a random moment, while files grow. A power cut takes a random part from the
ends of output and journal and turns a random tail of what is left to zeros: harsher than a disk
that keeps what was synchronised. A full disk is a file system of a random size that is made larger
after the run has ended with an error. After each the command is given again as it was. Where it
refuses, it names a command that resumes; that is run, and then the first one. The calls must be
those of the whole folder, each once. Exits with 1 where they are not.

Full disks are mounted, which takes Linux and `unshare`; without, they are said not to be tried.
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
        self.output = folder / "disk" / "calls.tsv"
        self.journal = folder / "disk" / "calls.tsv.journal"
        self.folder.mkdir(parents=True)
        self.output.parent.mkdir()
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


def full_disks(follow, expected):
    """The output's disk fills up, then there is room."""
    disk = follow.output.parent
    whole = 4096 + sum(len(line) + 1 for line in expected.elements())
    size = follow.rng.randrange(4096, whole // 2)
    mount(disk, f"size={size}")
    try:
        follow.fill(follow.rng.choice([1.0, follow.rng.random()]))
        filled = follow.run()
        full = "No space left" in filled.stderr
        if full and "make room and run again" not in filled.stderr:
            return "failed", None, filled.stderr
        mount(disk, f"remount,size={10 * whole}")
        follow.fill()
        verdict, message = follow.resume()
        return verdict, compare(follow, expected), message
    finally:
        subprocess.run(["umount", disk], check=True)


def mount(folder, options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=True)


def begin_again_where_mounts_are_own():
    """Starts the script again in a namespace of its own; returns where that is refused."""
    unshare = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*unshare, "true"], check=False).returncode == 0:
        os.environ["MOUNTS"] = "own"
        os.execvp(unshare[0], [*unshare, sys.executable, *sys.argv])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--full-disks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.full_disks and os.environ.get("MOUNTS") != "own":
        begin_again_where_mounts_are_own()
        print("full disks: not tried, file systems cannot be mounted here")
        arguments.full_disks = 0
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
            ("full disks", arguments.full_disks, full_disks),
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
    finally:
        shutil.rmtree(scratch)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
