"""Networks of other people, given to compare.py by path: what it must know of each, read from the
ONNX file.

One input: `[1, 4, T]` or `[1, T, 4]`, one-hot, or token ids `[1, T]`. Other inputs are masks of
ones. Where the output is shorter than the input, strandline scores every position of a shorter
sequence, with N beyond its ends, and both sides compute the same rows.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnxruntime
from networks import Network, Reads, quantize, write_lines
from onnx import TensorProto
from sequences import one_hot, windows

CALIBRATION, TEST = 16, 8


def last_operator(graph):
    """Of the output, through transpositions."""
    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get(graph.output[0].name)
    while node is not None and node.op_type in ("Transpose", "Identity", "Cast"):
        node = makers.get(node.input[0])
    return node.op_type if node is not None else ""


def vocabulary(graph, name):
    """Rows of the table that the ids choose from."""
    tables = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2}
    rows = [
        tables[node.input[0]]
        for node in graph.node
        if node.op_type == "Gather" and node.input[1] == name and node.input[0] in tables
    ]
    if not rows:
        sys.exit(f"no table is read by the ids {name!r}")
    return min(rows)


class Ids:
    """Made-up ids for a text: a number at every base, the same for the same words."""

    def __init__(self, size):
        self.size = size

    def __call__(self, text):
        codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
        words = codes * 7919 + np.roll(codes, 1) * 104729 + np.roll(codes, 2) * 1299709
        return words % self.size


def given(path, lengths):
    """The network of an ONNX file, and how it is fed. Lengths are those of its input."""
    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    kind = inputs[0].type.tensor_type
    dims = [dim.dim_value for dim in kind.shape.dim]
    ids = kind.elem_type in (TensorProto.INT32, TensorProto.INT64)
    encode, last = None, False
    if ids:
        encode = Ids(vocabulary(graph, inputs[0].name))
    elif len(dims) == 3 and 4 in dims[1:]:
        last = dims[1] != 4
    else:
        sys.exit(f"{path}: the input {inputs[0].name} is {dims}, not [1, 4, T] or [1, T, 4]")
    feed_names = tuple(value.name for value in inputs)
    own = GivenNetwork(
        name=os.path.splitext(os.path.basename(path))[0],
        description=f"{path}, as it is",
        build=None,
        initialise=None,
        encode=encode,
        lengths=tuple(lengths),
        context=0,
        outputs=(),
        soft_max=last_operator(graph) == "Softmax",
        multiple=1,
        macs=lambda _: float("nan"),
        channels_last=last,
        path=path,
        inputs=feed_names,
    )
    return replace(own, cropped=cropped(own)) if encode is None else own


def cropped(network):
    """Positions of the input that have no row of the output."""
    run = onnxruntime.InferenceSession(network.path, providers=["CPUExecutionProvider"])
    length = min(network.lengths)
    (rows, *_) = run.run(None, network.feed(windows(length, 1)[0]))
    return length - max(rows.shape[1:]) if rows.ndim == 3 else 0


@dataclass(frozen=True)
class GivenNetwork(Network):
    """One of those."""

    path: str = ""
    inputs: tuple = ()

    def bases(self, length):
        return length

    def feed(self, text):
        first, *masks = self.inputs
        if self.encode is None:
            x = one_hot(text)
            return {first: x.transpose(0, 2, 1).copy() if self.channels_last else x}
        ids = self.encode(text)[None]
        return {first: ids, **{name: np.ones_like(ids) for name in masks}}


def prepare(network, folder, binary):
    """Writes its files to the folder: those of the peers, sequences, and packed models."""
    of = lambda suffix: os.path.join(folder, network.name + suffix)
    shutil.copyfile(network.path, of(".onnx"))
    longest = max(network.lengths)
    texts = windows(longest, CALIBRATION)
    write_lines(of("_calibration.txt"), [network.line(text) for text in texts])
    tests = windows(min(network.lengths), TEST, 75)
    write_lines(of("_test.txt"), [network.line(text) for text in tests])
    quantize(network, folder, Reads(network, texts))
    for precision in ("int8", "fp16", "f32"):
        command = [binary, "pack", network.path, "--calibrate", of("_calibration.txt")]
        command += ["--precision", precision, "-o", of(f"_{precision}.safetensors")]
        if network.encode:
            # Made-up ids may mean little to it; how far each contender is off stands in the table.
            command.append("--no-check")
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr.strip()}")
        print(done.stderr, file=sys.stderr)
