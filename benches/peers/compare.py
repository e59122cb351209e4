"""Measures strandline beside ONNX Runtime and OpenVINO, one thread, and prints tables in Markdown.

    cargo build --release --features full
    pip install -r benches/peers/requirements.txt
    python benches/peers/compare.py [--json FILE] [--seconds 8] [NETWORK]...
    python benches/peers/compare.py --lengths 5400 15000 -- MODEL.onnx...

The networks are made by networks.py on the first run, in target/peers, and packed with `strandline
pack`. Every contender is a process of its own on the same core that makes a run for each line it
reads and answers with its nanoseconds; the processes take turns, a few milliseconds each, so that a
change of clock or load meets all of them alike. Medians over the runs.

A network of one's own is given by the path of its ONNX file (given.py says what it may be). It is
packed without a manifest, and quantised for the peers as the others are.

The ratio is that to the best of the peers: the static and the dynamic int8 file in either. What
OpenVINO does not run is left out, and said.

On a processor with AMX both sides are run twice, with AMX and without: the peers in a process that
the kernel refuses it (no_amx.py), strandline with STRANDLINE_ISA=avx512vnni. Each ratio compares
like with like.

Agreement is that of the logits with the float network in ONNX Runtime on the sample reads: the
cosine over all outputs, and for encoders, whose outputs hardly vary beside their mean, the
correlation too. From soft-max outputs the logits are recovered as logarithms less their mean.

minisplice is measured where MINISPLICE names its program, with the model MINISPLICE_MODEL or else
one of the same 7,026 parameters that is trained for a moment: its rate does not depend on their
values.
"""

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time

import numpy as np

from given import given
from given import prepare as prepare_given
from networks import NETWORKS
from no_amx import has_amx
from sequences import GENES, first_gene, sample_reads, windows

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
PEER = [sys.executable, os.path.join(HERE, "peer.py")]
PRECISIONS = ("int8", "fp16", "f32")
FILES = {"int8 static": "_static", "int8 dynamic": "_dynamic", "f32": ""}
OPENVINO = "OpenVINO "
# nanoseconds; short runs are repeated so long in a turn, as they are when windows follow each other
TURN = 5e6
WARM_RUNS = 3
LEAST_ROUNDS = 15
BUILT_IN = {
    "splice, fast": ["splice", "--tier", "fast"],
    "splice, auto": ["splice", "--tier", "auto"],
    "splice, accurate": ["splice", "--tier", "accurate"],
    "promoter": ["promoter"],
}
MINISPLICE_PUBLISHED = (
    3.1e9 / (1.4 * 3600) / 16
)  # bases/s: the human genome in 1.4 h on 16 threads (arXiv 2506.12986)
MINISPLICE_WINDOW = 202


class NoAnswer(Exception):
    """A process ended before it answered."""


class Contender:
    """A process that makes a run for each line it reads and answers with the nanoseconds of it."""

    def __init__(self, command):
        self.command = command
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.times = []
        self.step()
        self.pin()
        first = [self.step() for _ in range(WARM_RUNS)]
        self.turn = int(np.clip(TURN / min(first), 1, 200))

    def pin(self):
        """Binds the process, now loaded, to the last core.

        Not earlier: an ONNX Runtime that sees a single core while it is loaded does not reach its
          rate with AMX.
        """
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self.process.pid, {max(os.sched_getaffinity(0))})

    def step(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            return int(self.process.stdout.readline())
        except (ValueError, BrokenPipeError):
            self.process.kill()
            self.process.wait()
            raise NoAnswer(f"no answer from: {' '.join(self.command)}") from None

    def take_turn(self):
        self.times += [self.step() for _ in range(self.turn)]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(commands, seconds):
    """Median nanoseconds of each command, by name; the commands take turns for so long, and
    LEAST_ROUNDS times at least.

    The order is drawn anew each round: who comes after a contender that fills the caches is slower
    for it.
    """
    contenders = {}
    try:
        for name, command in commands.items():
            try:
                contenders[name] = Contender(command)
            except NoAnswer as error:
                if not name.startswith(OPENVINO):
                    sys.exit(str(error))
                print(error, file=sys.stderr, flush=True)
        end, rounds, order = time.monotonic() + seconds, 0, list(contenders.values())
        shuffle = random.Random(1).shuffle
        while rounds < LEAST_ROUNDS or time.monotonic() < end:
            shuffle(order)
            for contender in order:
                contender.take_turn()
            rounds += 1
        return {name: float(np.median(contender.times)) for name, contender in contenders.items()}
    finally:
        for contender in contenders.values():
            contender.close()


def output_of(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr.strip()}")
    return done.stdout


class Bench:
    """Where things are, and what this processor has."""

    def __init__(self, arguments):
        self.binary = os.path.abspath(arguments.binary)
        self.folder = arguments.folder
        self.seconds = arguments.seconds
        self.amx = has_amx()
        self.without_amx = ["env", "STRANDLINE_ISA=avx512vnni"] if self.amx else []

    def path(self, network, suffix):
        return os.path.join(self.folder, network.name + suffix)

    def prepare(self, networks):
        """Makes the files that are missing."""
        for network in networks:
            if network.name not in NETWORKS:
                os.makedirs(self.folder, exist_ok=True)
                prepare_given(network, self.folder, self.binary)
        networks = [network for network in networks if network.name in NETWORKS]
        missing = [
            network.name
            for network in networks
            if not os.path.exists(self.path(network, "_dynamic.onnx"))
        ]
        if missing:
            subprocess.run(
                [sys.executable, os.path.join(HERE, "networks.py"), self.folder, *missing],
                check=True,
                stdout=sys.stderr,
            )
        for network in networks:
            for precision in PRECISIONS:
                output_of(
                    [
                        self.binary,
                        "pack",
                        self.path(network, ".onnx"),
                        "--manifest",
                        self.path(network, ".toml"),
                        "--calibrate",
                        self.path(network, "_calibration.txt"),
                        "--precision",
                        precision,
                        "-o",
                        self.path(network, f"_{precision}.safetensors"),
                    ]
                )

    def commands(self, network, length):
        """What is timed, by name."""
        steps = ["--length", str(length), "--steps"]
        # Of a network that crops its input, as many rows on both sides.
        own_steps = ["--length", str(length - network.cropped), "--steps"]
        options = ["--channels-last"] if network.channels_last else []
        commands = {}
        for precision in PRECISIONS:
            packed = self.path(network, f"_{precision}.safetensors")
            command = [self.binary, "bench-model", packed, *own_steps]
            commands[f"strandline {precision}"] = [*self.without_amx, *command]
            if self.amx and precision == "int8":
                commands[f"strandline {precision} AMX"] = command
        for name, suffix in FILES.items():
            command = [
                *PEER,
                self.path(network, f"{suffix}.onnx"),
                "--sequences",
                self.path(network, "_test.txt"),
                *steps,
                *options,
            ]
            for peer, option in (("", []), (OPENVINO, ["--openvino"])):
                commands[peer + name] = [*command, *option, "--no-amx"]
                if self.amx:
                    commands[f"{peer}{name} AMX"] = [*command, *option]
        commands["identity"] = [
            *PEER,
            "--identity",
            "x" if network.encode is None else "ids",
            *steps,
        ]
        return commands

    def peaks(self):
        """GMAC/s: strandline's own loop, and a large int8 product in ONNX Runtime without and with
        AMX."""

        def own(command):
            words = output_of([*command, self.binary, "bench-model", "--peak"]).split()
            peak = next((float(word) for word in words if word.replace(".", "", 1).isdigit()), None)
            if peak is None:
                sys.exit(f"`{self.binary} bench-model --peak` gave no number: {' '.join(words)}")
            return peak

        peaks = {
            "strandline": own(self.without_amx),
            "onnxruntime": float(output_of([*PEER, "--product", "--no-amx"])),
        }
        if self.amx:
            peaks["strandline AMX"] = own([])
            peaks["onnxruntime AMX"] = float(output_of([*PEER, "--product"]))
        return peaks


def read_outputs(path, network):
    """Logits, one array [positions, outputs] a sequence."""
    with open(path) as file:
        blocks = [block for block in file.read().split("\n\n") if block.strip()]
    sequences = [
        np.array([line.split() for line in block.strip().splitlines()], np.float64)
        for block in blocks
    ]
    if network.soft_max:
        logs = [np.log(np.maximum(rows, 1e-9)) for rows in sequences]
        sequences = [rows - rows.mean(axis=1, keepdims=True) for rows in logs]
    return sequences


def cosine(first, second):
    return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))


def cropped(own, plain):
    """The rows of `own` that a network which crops its input has, too."""
    rows = []
    for mine, its in zip(own, plain):
        edge = (len(mine) - len(its)) // 2
        rows.append(mine[edge : len(mine) - edge] if edge > 0 else mine)
    return rows


def agreement(own, plain):
    """Cosine over all sequences, the lowest of one sequence, and the correlation of the outputs
    about their means.

    The lowest is None where a sequence has a single output.
    """
    if [rows.shape for rows in own] != [rows.shape for rows in plain]:
        sys.exit("the outputs differ in shape from those of the float network")
    first, second = np.concatenate(own), np.concatenate(plain)
    return {
        "cosine": cosine(first, second),
        "lowest": (
            min(cosine(a, b) for a, b in zip(own, plain))
            if first.shape[1] > 1 or len(first) > len(own)
            else None
        ),
        "correlation": cosine(first - first.mean(axis=0), second - second.mean(axis=0)),
    }


def accuracy(bench, network, timed, scratch):
    """Agreement with the float network in ONNX Runtime, by name, of what was `timed`."""
    sequences = bench.path(network, "_test.txt")
    commands = {
        peer + name: [
            *PEER,
            bench.path(network, f"{suffix}.onnx"),
            "--sequences",
            sequences,
            *option,
            *(["--channels-last"] if network.channels_last else []),
        ]
        for name, suffix in FILES.items()
        for peer, option in (("", []), (OPENVINO, ["--openvino"]))
        if peer + name in timed
    }
    for precision in PRECISIONS:
        packed = bench.path(network, f"_{precision}.safetensors")
        commands[f"strandline {precision}"] = [
            bench.binary,
            "bench-model",
            packed,
            "--input",
            sequences,
        ]
    outputs = {}
    for name, command in commands.items():
        path = os.path.join(scratch, "outputs.txt")
        output_of([*command, "--output", path])
        outputs[name] = read_outputs(path, network)
    plain = outputs.pop("f32")
    return {name: agreement(cropped(own, plain), plain) for name, own in outputs.items()}


def built_in(bench):
    """Bases a second of the built-in models on a sample gene, both strands scanned: without AMX,
    then with it."""
    bases = len(first_gene())
    commands = {}
    for name, extra in BUILT_IN.items():
        command = [
            bench.binary,
            "bench-model",
            *extra,
            "--input",
            GENES,
            "--strand",
            "both",
            "--steps",
        ]
        commands[name, False] = [*bench.without_amx, *command]
        if bench.amx:
            commands[name, True] = command
    return {
        key: bases * 1e9 / nanoseconds
        for key, nanoseconds in measure(commands, bench.seconds).items()
    }


def minisplice(scratch):
    """Bases a second of minisplice on the sample reads, which it scans on both strands; None where
    it is not there."""
    program, model = os.environ.get("MINISPLICE"), os.environ.get("MINISPLICE_MODEL")
    if not program:
        return None
    reads, path = sample_reads(), os.path.join(scratch, "reads.fa")
    if not model:
        training, model = os.path.join(scratch, "training.txt"), os.path.join(scratch, "model.kan")
        with open(training, "w") as file:
            file.writelines(
                f"{number % 2}\t{text}\n"
                for number, text in enumerate(windows(MINISPLICE_WINDOW, 1000))
            )
        output_of([program, "train", "-e1", "-E1", "-o", model, training])
    with open(path, "w") as file:
        file.writelines(f">{number}\n{read}\n" for number, read in enumerate(reads))
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        output_of([program, "predict", "-t1", model, path])
        seconds.append(time.monotonic() - start)
    return sum(map(len, reads)) / float(np.median(seconds))


def milliseconds(nanoseconds):
    value = nanoseconds / 1e6
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def table(header, rows):
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def better(times, suffix="", peers=("", OPENVINO), precision="int8"):
    """The fastest file of the peers in a precision, and its time; None where they run none."""
    names = [(peer, name) for peer in peers for name in FILES if name.startswith(precision)]
    found = [
        (times[peer + name + suffix], (peer + name).replace("int8 ", ""))
        for peer, name in names
        if peer + name + suffix in times
    ]
    return min(found, default=None)


def print_speed(bench, results, peaks):
    int8, floats = [], []
    # Of one engine: the time of its faster int8 file.
    shown = lambda found: (
        "none" if found is None else f"{milliseconds(found[0])} ({found[1].split()[-1]})"
    )
    for result in results:
        times, length = result["nanoseconds"], result["length"]
        own = times["strandline int8"]
        peer, name = better(times)
        row = [
            result["network"],
            f"{length:,}",
            milliseconds(own),
            shown(better(times, peers=("",))),
            shown(better(times, peers=(OPENVINO,))),
            f"**{peer / own:.2f}** ({'OpenVINO' if name.startswith(OPENVINO) else 'ORT'})",
            f"{(better(times, peers=('',))[0] - times['identity']) / own:.2f}",
            milliseconds(times["identity"]),
        ]
        if bench.amx:
            with_amx, name = better(times, " AMX")
            own_amx = times["strandline int8 AMX"]
            row += [milliseconds(own_amx), f"{milliseconds(with_amx)} ({name})"]
            row.append(f"**{with_amx / own_amx:.2f}**")
        rate = result["macs"] / own
        known = rate == rate
        share = f"{rate / peaks['strandline']:.0%}" if known else ""
        int8.append([*row, f"{rate:.0f}" if known else "", share])
        row = [result["network"], f"{length:,}"]
        plain, _ = better(times, precision="f32")
        for peer in ("", OPENVINO):
            row.append(milliseconds(times[peer + "f32"]) if peer + "f32" in times else "none")
        for precision in ("f32", "fp16"):
            own = times[f"strandline {precision}"]
            row += [milliseconds(own), f"{plain / own:.2f}"]
        floats.append(row)
    print("## int8, milliseconds a run\n")
    header = ["network", "length", "strandline", "ORT", "OpenVINO", "ratio"]
    header += ["ORT less the call", "the call"]
    table(
        [
            *header,
            *(["with AMX", "best peer with AMX", "ratio"] if bench.amx else []),
            "GMAC/s",
            "of peak",
        ],
        int8,
    )
    print(
        '"The call" is ONNX Runtime called from Python with a network that returns its input, of'
        " the same size. Ratios are to the best of the peers.\n"
    )
    print("## Float, milliseconds a run\n")
    header = ["network", "length", "ORT f32", "OpenVINO f32"]
    table([*header, "strandline f32", "ratio", "strandline fp16", "ratio"], floats)


def print_accuracy(results, networks):
    networks, rows = {network.name: network for network in networks}, []
    for name, by_file in results.items():
        encoder = networks[name].encode is not None
        for file, figures in by_file.items():
            rows.append(
                [
                    name,
                    file if file.startswith(("strandline", OPENVINO)) else f"ORT {file}",
                    f"{figures['cosine']:.5f}",
                    "" if figures["lowest"] is None else f"{figures['lowest']:.5f}",
                    f"{figures['correlation']:.5f}" if encoder else "",
                ]
            )
    print("## Agreement with the float network in ONNX Runtime\n")
    table(["network", "file", "cosine", "of the worst sequence", "correlation"], rows)
    if any(networks[name].soft_max for name in results):
        print(
            "ONNX Runtime's static files also quantise the soft-max: its outputs are multiples of"
            " 1/256, small ones are 0.\n"
        )


def print_scanning(rates, measured):
    print("## Scanning, both strands, one thread\n")
    shown = lambda key: f"{rates[key] / 1e6:.2f}" if key in rates else ""
    rows = [[f"strandline {name}", shown((name, False)), shown((name, True))] for name in BUILT_IN]
    rows.append(
        [
            "minisplice, here",
            "not measured: MINISPLICE=PROGRAM" if measured is None else f"{measured / 1e6:.3f}",
            "",
        ]
    )
    rows.append(
        [
            "minisplice, published: human genome in 1.4 h on 16 threads",
            f"{MINISPLICE_PUBLISHED / 1e6:.3f}",
            "",
        ]
    )
    table(["model", "Mb/s", "with AMX"], rows)


def processor():
    try:
        with open("/proc/cpuinfo") as file:
            return next(
                line.split(":")[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "networks", nargs="*", default=list(NETWORKS), metavar="NETWORK", help=", ".join(NETWORKS)
    )
    parser.add_argument("--binary", default=os.path.join(ROOT, "target", "release", "strandline"))
    parser.add_argument(
        "--folder",
        default=os.path.join(ROOT, "target", "peers"),
        help="of the networks and packed models",
    )
    parser.add_argument(
        "--seconds", type=float, default=8, help="of turns for each network and length"
    )
    parser.add_argument(
        "--lengths",
        type=int,
        nargs="+",
        default=[5400, 15000],
        help="of the input, for networks given by path",
    )
    parser.add_argument("--json", help="also write every figure to this file")
    arguments = parser.parse_args()
    for name in arguments.networks:
        if name not in NETWORKS and not name.endswith(".onnx"):
            parser.error(f"no network {name!r}: {', '.join(NETWORKS)}, or the path of an ONNX file")
    if not os.path.exists(arguments.binary):
        sys.exit(
            f"{arguments.binary} is not there: cargo build --release --features full, or --binary"
        )
    networks = [NETWORKS.get(name) or given(name, arguments.lengths) for name in arguments.networks]
    bench = Bench(arguments)
    bench.prepare(networks)
    load = os.getloadavg()[0]
    if load > 0.5:
        print(
            f"the load is {load:.1f}: medians mean little while something else runs",
            file=sys.stderr,
        )
    peaks = bench.peaks()
    print(
        f"{processor()}, one thread of one core; int8 peak {peaks['strandline']:.0f} GMAC/s"
        + (f", {peaks['strandline AMX']:.0f} with AMX." if bench.amx else "."),
        end=" ",
    )
    print(
        f"A product of 1,024 x 1,024 int8 matrices in ONNX Runtime: {peaks['onnxruntime']:.0f}"
        " GMAC/s"
        + (f", {peaks['onnxruntime AMX']:.0f} with AMX.\n" if bench.amx else "; no AMX here.\n"),
        flush=True,
    )
    speeds, accuracies = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for network in networks:
            for length in network.lengths:
                print(f"{network.name} {length}", file=sys.stderr, flush=True)
                speeds.append(
                    {
                        "network": network.name,
                        "length": length,
                        "macs": network.macs(length),
                        "nanoseconds": measure(bench.commands(network, length), bench.seconds),
                    }
                )
            accuracies[network.name] = accuracy(bench, network, speeds[-1]["nanoseconds"], scratch)
        print_speed(bench, speeds, peaks)
        print_accuracy(accuracies, networks)
        rates = built_in(bench)
        measured = minisplice(scratch)
    print_scanning(rates, measured)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(
                {
                    "processor": processor(),
                    "amx": bench.amx,
                    "gmac_per_second": peaks,
                    "speed": speeds,
                    "agreement": accuracies,
                    "bases_per_second": {
                        f"{name}{', AMX' if amx else ''}": rate
                        for (name, amx), rate in rates.items()
                    },
                    "minisplice_bases_per_second": measured,
                },
                file,
                indent=1,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
