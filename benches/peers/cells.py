"""Measures a network of cells beside ONNX Runtime and OpenVINO in int8, one thread, values in to
embedding out, and prints tables in Markdown.

    cargo build --release --features full
    pip install -r benches/peers/requirements.txt -r models/convert/requirements.txt
    python benches/peers/cells.py [--tokens 300 1200] [--seconds 30] [--json FILE] [MODEL.onnx]

MODEL.onnx is what models/convert/scgpt.py writes, with MODEL.toml beside it. Without it the script
makes a checkpoint of scGPT's published size with random weights, converts it, and keeps the files
in target/peers: 60,697 genes, 12 layers of 512.

The peers run the files that ONNX Runtime quantises: dynamic, and static, calibrated on made-up
cells. The ratio is that to the best of the four. What OpenVINO does not run is left out, and said.
The contenders take turns as in compare.py, on the same cells, and are processes of their own. On a
processor with AMX both sides are run twice, with AMX and without.

Agreement is the cosine of a cell's embedding with that of the float network in ONNX Runtime.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from compare import OPENVINO, ROOT, Bench, cosine, measure, milliseconds, output_of, processor
from compare import table as print_table
from networks import encoder_macs, quantize

CONVERT = os.path.join(ROOT, "models", "convert")
sys.path.append(CONVERT)

import onnx
import torch
from scgpt_published import ScGpt, binned, cells, feed, random_weights
from test_scgpt import FULL, checkpoint

HERE = os.path.dirname(os.path.abspath(__file__))
PEER = [sys.executable, os.path.join(HERE, "cells_peer.py")]
FILES = {"int8 dynamic": "_dynamic", "int8 static": "_static"}
PRECISIONS = ("int8", "fp16", "f32")

# Cells that int8 is calibrated on, and that agreement is of.
CALIBRATION, TEST = 8, 6
CALIBRATION_TOKENS = 300


def program_cells(prefix, calibrate=False):
    """The program's options for the cells in a file."""
    return ["--calibrate" if calibrate else "--input", f"{prefix}.tokens.txt"]


def write_cells(prefix, batch):
    """Lists of genes and of values for the peers, tokens as ID:VALUE for the program."""
    for part in ("genes", "values"):
        with open(f"{prefix}.{part}.txt", "w") as file:
            for cell in batch:
                file.write(" ".join(map(str, getattr(cell, part))) + "\n")
    with open(f"{prefix}.tokens.txt", "w") as file:
        for cell in batch:
            tokens = zip(cell.genes, cell.values)
            file.write(" ".join(f"{gene}:{value}" for gene, value in tokens) + "\n")


class Reader:
    """Cells as ONNX Runtime's calibration asks for them."""

    def __init__(self, batch):
        self.feeds = iter([feed(cell) for cell in batch])

    def get_next(self):
        return next(self.feeds, None)


def made_up(folder):
    """A network of the published size with random weights."""
    path = os.path.join(folder, "scgpt.onnx")
    if not os.path.exists(path):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            tensors = random_weights(ScGpt(FULL), 7).state_dict()
            source = checkpoint(Path(scratch, "checkpoint"), tensors, FULL)
            script = os.path.join(CONVERT, "scgpt.py")
            output_of([sys.executable, script, str(source), "-o", path])
    return path


class Network:
    """Files of a network, and its sizes by the ONNX file."""

    def __init__(self, path, folder):
        self.path, self.folder = path, folder
        self.name = os.path.splitext(os.path.basename(path))[0]
        graph = onnx.load(path).graph
        dims = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        self.rows, width = dims["gene.table"]
        layers = sum(name.endswith(".up.weight") for name in dims)
        encoder = encoder_macs(layers, width, dims["0.up.weight"][1])
        # And the second layer of the values.
        self.macs = lambda tokens: encoder(tokens) + tokens * width * width
        with open(f"{os.path.splitext(path)[0]}.genes.txt") as file:
            names = file.read().split("\n")
        self.cls = names.index("<cls>")

    def of(self, suffix):
        return os.path.join(self.folder, self.name + suffix)

    def made_cells(self, length, count, seed):
        return binned(cells([length] * count, self.rows, seed, (self.cls, -2.0)))

    def prepare(self, lengths):
        """The files of the peers, and cells."""
        batch = self.made_cells(CALIBRATION_TOKENS, CALIBRATION, 1)
        write_cells(self.of("_calibration"), batch)
        for length in lengths:
            write_cells(self.of(f"_{length}"), self.made_cells(length, TEST, 2 + length))
        # The quantiser reads and writes NAME.onnx of this folder.
        plain = self.of(".onnx")
        if os.path.realpath(plain) != os.path.realpath(self.path):
            if os.path.lexists(plain):
                os.remove(plain)
            os.symlink(os.path.abspath(self.path), plain)
        newest = os.path.getmtime(self.path)
        made = [self.of(f"{suffix}.onnx") for suffix in FILES.values()]
        if not all(os.path.exists(x) and os.path.getmtime(x) >= newest for x in made):
            print("quantising for the peers", file=sys.stderr, flush=True)
            # An encoder of tokens: only products with weights are quantised.
            encoder = SimpleNamespace(name=self.name, encode=True)
            quantize(encoder, self.folder, Reader(batch))

    def pack(self, binary):
        for precision in PRECISIONS:
            manifest = f"{os.path.splitext(self.path)[0]}.toml"
            command = [binary, "pack", self.path, "--manifest", manifest, "--precision", precision]
            command += program_cells(self.of("_calibration"), calibrate=True)
            output_of([*command, "-o", self.of(f"_{precision}.safetensors")])


def commands(network, length, bench, own):
    """What is timed, by name."""
    found, prefix = {}, network.of(f"_{length}")
    if own:
        for precision in PRECISIONS:
            command = [bench.binary, "bench-model", network.of(f"_{precision}.safetensors")]
            command += [*program_cells(prefix), "--steps"]
            found[f"strandline {precision}"] = [*bench.without_amx, *command]
            if bench.amx and precision == "int8":
                found[f"strandline {precision} AMX"] = command
    for name, suffix in {**FILES, "f32": ""}.items():
        command = [*PEER, network.of(f"{suffix}.onnx"), prefix, "--steps"]
        for peer, option in (("", []), (OPENVINO, ["--openvino"])):
            found[peer + name] = [*command, *option, "--no-amx"]
            if bench.amx and name != "f32":
                found[f"{peer}{name} AMX"] = [*command, *option]
    return found


def best(times, suffix=""):
    """The fastest int8 file of the peers, and its time."""
    names = [peer + name for peer in ("", OPENVINO) for name in FILES]
    return min((times[name + suffix], name) for name in names if name + suffix in times)


def label(name):
    return name if name.startswith((OPENVINO, "strandline")) else f"ORT {name}"


def read_rows(path):
    with open(path) as file:
        blocks = [block for block in file.read().split("\n\n") if block.strip()]
    return [np.array([line.split() for line in b.strip().split("\n")], np.float64) for b in blocks]


def agreement(network, length, bench, timed):
    """Lowest cosine of a cell with the float network, by name."""
    prefix, found = network.of(f"_{length}"), {}
    runs = {
        peer + name: [*PEER, network.of(f"{suffix}.onnx"), prefix, *option]
        for name, suffix in {"f32": "", **FILES}.items()
        for peer, option in (("", []), (OPENVINO, ["--openvino"]))
        if peer + name in timed
    }
    for precision in PRECISIONS:
        if f"strandline {precision}" in timed:
            packed = network.of(f"_{precision}.safetensors")
            command = [bench.binary, "bench-model", packed, *program_cells(prefix)]
            runs[f"strandline {precision}"] = command
    with tempfile.TemporaryDirectory() as scratch:
        for name, command in runs.items():
            path = os.path.join(scratch, "outputs.txt")
            output_of([*command, "--output", path])
            found[name] = read_rows(path)
    plain = found.pop("f32")
    return {name: min(map(cosine, rows, plain)) for name, rows in found.items()}


def print_results(results):
    """A row a length: times in milliseconds, and the ratio to the best of the peers."""
    names = sorted({name for result in results for name in result["nanoseconds"]})
    rows = []
    for result in results:
        times = result["nanoseconds"]
        rows += [
            [
                f"{result['tokens']:,}",
                label(name),
                milliseconds(times[name]),
                f"{result['macs'] / times[name]:.0f}",
                f"{result['cosine'][name]:.5f}" if name in result["cosine"] else "",
            ]
            for name in names
            if name in times
        ]
    print_table(["tokens", "network", "ms a cell", "GMAC/s", "lowest cosine"], rows)
    rows = []
    for result in results:
        times = result["nanoseconds"]
        for suffix in ("", " AMX"):
            own = times.get(f"strandline int8{suffix}")
            if not any(name.endswith(f"int8 dynamic{suffix}") for name in times):
                continue
            peer, name = best(times, suffix)
            ratio = "not measured" if own is None else f"**{peer / own:.2f}**"
            where = suffix.strip() or "no AMX"
            rows.append([f"{result['tokens']:,}", where, label(name), ratio])
    print_table(["tokens", "processor", "best peer in int8", "ratio to it"], rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", help="an ONNX file of models/convert/scgpt.py")
    parser.add_argument("--binary", default=os.path.join(ROOT, "target", "release", "strandline"))
    parser.add_argument(
        "--folder", default=os.path.join(ROOT, "target", "peers"), help="of the files it makes"
    )
    parser.add_argument("--tokens", type=int, nargs="+", default=[300, 1200])
    parser.add_argument(
        "--seconds", type=float, default=30, help="of turns for each number of tokens"
    )
    parser.add_argument("--peers-only", action="store_true", help="measure the peers alone")
    parser.add_argument("--json", help="also write every figure to this file")
    arguments = parser.parse_args()
    if not arguments.peers_only and not os.path.exists(arguments.binary):
        sys.exit(f"{arguments.binary} is not there: build it, --binary, or --peers-only")
    torch.set_num_threads(1)
    os.makedirs(arguments.folder, exist_ok=True)
    bench = Bench(arguments)
    network = Network(arguments.model or made_up(arguments.folder), arguments.folder)
    network.prepare(arguments.tokens)
    if not arguments.peers_only:
        network.pack(bench.binary)
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"the load is {load:.1f}: medians mean little while something else runs",
            file=sys.stderr,
        )
    results = []
    for length in arguments.tokens:
        print(f"{network.name}, {length} tokens", file=sys.stderr, flush=True)
        own = not arguments.peers_only
        times = measure(commands(network, length, bench, own), arguments.seconds)
        results.append(
            {
                "tokens": length,
                "macs": network.macs(length),
                "nanoseconds": times,
                "cosine": agreement(network, length, bench, times),
            }
        )
    print(f"{processor()}, one thread of one core, medians.\n")
    print_results(results)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(
                {"processor": processor(), "amx": bench.amx, "speed": results}, file, indent=1
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
