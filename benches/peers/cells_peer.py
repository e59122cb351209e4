"""ONNX Runtime or, with --openvino, OpenVINO on one thread with a network of cells: gene ids and
values, and flags if it has them.

    python benches/peers/cells_peer.py MODEL.onnx CELLS --steps
        makes a run of the first cell for each line read and prints its nanoseconds
    python benches/peers/cells_peer.py MODEL.onnx CELLS --output OUT
        writes the outputs of every cell

CELLS is the beginning of the names of files: CELLS.genes.txt and CELLS.values.txt, a cell a line,
blank-separated. OUT has a line of blank-separated values for each row, and an empty line between
cells. With --no-amx the process may not use AMX.
"""

import argparse
import sys

import numpy as np

from peer import OpenVino, read_lines, session, timed

TYPES = {"genes": np.int64, "values": np.float32, "flags": np.int64}


def feeds(run, cells):
    """The inputs of each cell."""
    found = []
    for tensor in run.get_inputs():
        lines = read_lines(f"{cells}.{tensor.name}.txt")
        found.append(
            [(tensor.name, np.array([line.split()], TYPES[tensor.name])) for line in lines]
        )
    return [dict(parts) for parts in zip(*found, strict=True)]


def write_outputs(run, inputs, path):
    with open(path, "w") as file:
        for number, feed in enumerate(inputs):
            values = run.run(None, feed)[0]
            rows = values.reshape(-1, values.shape[-1])
            file.write("\n" if number else "")
            file.writelines(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("cells")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--output")
    parser.add_argument("--no-amx", action="store_true", help="read by peer.py")
    parser.add_argument("--openvino", action="store_true")
    arguments = parser.parse_args()
    length = None
    if arguments.openvino and not arguments.output:
        length = len(read_lines(f"{arguments.cells}.genes.txt")[0].split())
    run = OpenVino(arguments.model, length) if arguments.openvino else session(arguments.model)
    inputs = feeds(run, arguments.cells)
    if arguments.output:
        write_outputs(run, inputs, arguments.output)
        return 0
    for _ in sys.stdin:
        print(timed(run, inputs[0]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
