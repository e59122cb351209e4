"""Shards under Snakemake, with workers that are killed: the bytes of one run.

    python3 tests/field/cluster.py PROGRAM [--shards 8] [--copies 12]

Snakemake, pinned, is installed in target/snakemake where it is missing. The sample reads, so many
times, plain and as BGZF, are annotated once in one run and once in shards on two cores. While the
shards run, one of their processes is killed with SIGKILL and another one with SIGTERM. Ends with 1
where the bytes differ, or nothing could be killed.
"""

import argparse
import gzip
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]
SNAKEMAKE = "snakemake==9.27.1"


def snakemake():
    """The engine, installed."""
    folder = ROOT / "target" / "snakemake"
    program = folder / "bin" / "snakemake"
    if not program.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "pip", "install", "-q", SNAKEMAKE], check=True)
    return program


def workers():
    """Processes that annotate a shard, by the shard."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            # Not the shell whose command line holds them all in one word.
            if b"--shard" in words and words[0].endswith(b"strandline"):
                found[words[words.index(b"--shard") + 1].decode()] = int(entry.name)
    return found


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--copies", type=int, default=12)
    arguments = parser.parse_args()
    program = arguments.program.resolve()
    engine = snakemake()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        text = gzip.decompress((ROOT / "tests/data/reads.fastq.gz").read_bytes())
        plain, packed = folder / "plain.fastq", folder / "packed.fasta.gz"
        plain.write_bytes(text * arguments.copies)
        packed.write_bytes((ROOT / "tests/data/genes.fa.gz").read_bytes())
        whole, calls = folder / "whole.tsv", folder / "calls.tsv"
        options = ["--tier", "accurate"]
        before = children_seconds()
        subprocess.run(
            [program, "-q", "annotate", plain, packed, *options, "--threads", "2", "-o", whole],
            check=True,
        )
        alone = children_seconds() - before
        before, began = children_seconds(), time.monotonic()
        run = subprocess.Popen(
            [
                engine, "--cores", "2", "-s", ROOT / "docs/cluster/Snakefile",
                "--profile", ROOT / "docs/cluster/profile", "--directory", folder, "--config",
                f"inputs={plain} {packed}", f"output={calls}", f"shards={arguments.shards}",
                f"options={' '.join(options)}", f"program={program}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        killed = {}
        for how in (signal.SIGKILL, signal.SIGTERM):
            while how not in killed and run.poll() is None:
                for shard, process in workers().items():
                    if shard not in killed.values():
                        time.sleep(0.2)
                        try:
                            os.kill(process, how)
                        except ProcessLookupError:
                            continue
                        killed[how] = shard
                        break
                time.sleep(0.02)
        said = run.communicate()[0].decode(errors="replace")
        if run.returncode:
            sys.exit(f"snakemake ended with {run.returncode}\n{said}")
        if len(killed) < 2:
            sys.exit("the shards were done before two of their workers could be killed")
        if calls.read_bytes() != whole.read_bytes():
            sys.exit("the shards' outputs are not those of one run")
        left = [path.name for path in folder.iterdir() if "shards" in path.name]
        print(
            f"{arguments.shards} shards, workers of {' and '.join(killed.values())} killed: "
            f"{len(calls.read_bytes())} bytes, as in one run; "
            f"{time.monotonic() - began:.0f} s, {children_seconds() - before:.1f} s of processor "
            f"against {alone:.1f}; left behind: {left or 'nothing'}"
        )


if __name__ == "__main__":
    main()
