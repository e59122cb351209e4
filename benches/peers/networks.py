"""Writes the five benchmark networks: float ONNX, and the int8 files of ONNX Runtime that they are
compared with.

    pip install -r benches/peers/requirements.txt
    python benches/peers/networks.py target/peers [--mask] [NETWORK]...    two minutes, 0.9 GB

Of each network it writes

    NETWORK.onnx           float, exported by PyTorch, weights from a fixed seed, any length
    NETWORK_static.onnx    int8 QDQ of ONNX Runtime's quantize_static, calibrated on sample reads
    NETWORK_dynamic.onnx   int8 of ONNX Runtime's quantize_dynamic
    NETWORK.toml           manifest for `strandline pack`
    NETWORK_calibration.txt, NETWORK_test.txt    sequences, one a line: bases, or blank-separated
                                                 token ids

and, with --mask, utrlm_mask.onnx and dnabert_mask.onnx, whose second input is an int64 attention
mask [1, T].
The weights are random: the networks are for measuring speed and the error of quantisation, and
predict nothing.
"""

import argparse
import logging
import os
import sys
import tempfile
import warnings
from dataclasses import dataclass
from typing import Callable

import numpy as np
import onnx
import torch
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

from architectures import (
    Branches,
    DnaBert,
    Residual,
    Tiny,
    UtrLm,
    initialise_bert,
    initialise_convolutions,
    initialise_utrlm,
)
from sequences import KMER, kmer_tokens, one_hot, utr_tokens, windows

OPSET = 17
CALIBRATION_SEQUENCES = 16
TEST_SEQUENCES = 24
TEST_SKIP = 75  # reads that only the test sequences come from


@dataclass(frozen=True)
class Network:
    """A benchmark network and how it is fed."""

    name: str
    description: str
    build: Callable[[], nn.Module]
    initialise: Callable[[nn.Module], None]
    encode: Callable[[str], np.ndarray] | None  # text to token ids; None: one-hot
    lengths: tuple[int, int]  # positions or tokens that are timed
    context: int  # bases either side that an output depends on
    outputs: tuple[str, ...]
    soft_max: bool
    multiple: int  # lengths are multiples of this
    # of a run, by length; a 1x1 convolution after upsampling counts as if before it, where it could
    # be
    macs: Callable[[int], int]
    cropped: int = 0  # positions of the input that have no output
    channels_last: bool = False  # [1, T, 4]

    def bases(self, length):
        """Bases that give so many positions or tokens."""
        if self.encode is None:
            return length
        return length - 2 + (KMER - 1 if self.encode is kmer_tokens else 0)

    def feed(self, text):
        """The inputs of an ONNX session."""
        return {"x": one_hot(text)} if self.encode is None else {"ids": self.encode(text)[None]}

    def line(self, text):
        """A line of the text files: bases, or token ids."""
        return text if self.encode is None else " ".join(map(str, self.encode(text)))


def encoder_macs(layers, width, hidden):
    return lambda tokens: (
        layers * (tokens * width * (4 * width + 2 * hidden) + 2 * tokens * tokens * width)
    )


SPLICE_CLASSES = ("none", "acceptor", "donor")
NETWORKS = {
    network.name: network
    for network in (
        Network(
            "tiny",
            "Fully convolutional scorer, 4-16-16-16-3, width 5",
            Tiny,
            initialise_convolutions,
            None,
            (2048, 65536),
            8,
            SPLICE_CLASSES,
            True,
            1,
            lambda t: t * 5 * (4 * 16 + 2 * 16 * 16 + 16 * 3),
        ),
        Network(
            "residual",
            "Residual dilated stack, 32 channels, the shape of a SpliceAI of 400 nt",
            Residual,
            initialise_convolutions,
            None,
            (5400, 54000),
            200,
            SPLICE_CLASSES,
            True,
            1,
            lambda t: t * (4 * 32 + 16 * 11 * 32 * 32 + 3 * 32 * 32 + 32 * 3),
        ),
        Network(
            "branches",
            "Two-branch splice network, full resolution and a quarter of it",
            Branches,
            initialise_convolutions,
            None,
            (5000, 50000),
            265,
            SPLICE_CLASSES,
            False,
            4,
            lambda t: (
                t
                * (
                    4 * 16 * 11
                    + 16 * 32 * 8 // 4
                    + 3 * 7 * 32 * 32 // 4
                    + 32 * 16 // 4
                    + 7 * 16 * 16
                    + 16 * 3
                )
            ),
        ),
        Network(
            "utrlm",
            "Encoder of 6 layers, 128 channels, 16 heads, the shape of UTR-LM",
            UtrLm,
            initialise_utrlm,
            utr_tokens,
            (100, 50),
            0,
            ("value",),
            False,
            1,
            encoder_macs(6, 128, 512),
        ),
        Network(
            "dnabert",
            "Encoder of 12 layers, 768 channels, 12 heads, the shape of DNABERT",
            DnaBert,
            initialise_bert,
            kmer_tokens,
            (512, 128),
            0,
            ("class_0", "class_1"),
            False,
            1,
            encoder_macs(12, 768, 3072),
        ),
    )
}


def export(network, path, mask=False):
    """Writes the float file; the length is free."""
    torch.manual_seed(sum(network.name.encode()))
    module = network.build().eval()
    with torch.no_grad():
        network.initialise(module)
        example = windows(network.bases(network.lengths[1]), 1)[0]
        feed = {name: torch.from_numpy(value) for name, value in network.feed(example).items()}
        if mask:
            feed["attention_mask"] = torch.ones_like(feed["ids"])
        axis = {"x": 2, "ids": 1, "attention_mask": 1}
        axes = {name: {axis[name]: "T"} for name in feed}
        if network.encode is None:
            axes["y"] = {2: "T"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(feed.values()),
                path,
                input_names=list(feed),
                output_names=["y"],
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    onnx.checker.check_model(path, full_check=True)


class Reads(CalibrationDataReader):
    """Calibration sequences as ONNX Runtime asks for them."""

    def __init__(self, network, texts):
        self.feeds = iter([network.feed(text) for text in texts])

    def get_next(self):
        return next(self.feeds, None)


def calibration(network):
    bases = network.bases(network.lengths[1] if network.encode else 5000)
    return windows(bases, CALIBRATION_SEQUENCES)


def products_of_activations(path):
    """Names of the matrix products whose second factor is no weight."""
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] not in weights
    ]


def quantize(network, folder, reads):
    """Writes the two int8 files of the peer, calibrated on `reads`."""
    plain = os.path.join(folder, f"{network.name}.onnx")
    # Unsigned activations and signed weights: the pair that ONNX Runtime has its fastest x86
    # kernels for. In the encoders only products with weights are quantised in the static file, and
    # scales are per tensor in the dynamic one: either is faster there than the alternative, and so
    # are the plain graphs than those of ONNX Runtime's own attention fusion.
    with tempfile.TemporaryDirectory() as scratch:
        prepared = os.path.join(scratch, "prepared.onnx")
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        only = {}
        if network.encode is not None:
            only = {
                "op_types_to_quantize": ["MatMul", "Gemm"],
                "nodes_to_exclude": products_of_activations(prepared),
            }
        quantize_static(
            prepared,
            os.path.join(folder, f"{network.name}_static.onnx"),
            reads,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            **only,
        )
        quantize_dynamic(
            prepared,
            os.path.join(folder, f"{network.name}_dynamic.onnx"),
            weight_type=QuantType.QInt8,
        )


def manifest(network):
    """The manifest of `strandline pack`."""
    lines = [
        f'name = "bench-{network.name}"',
        'version = "1.0.0"',
        'alphabet = "ACGT"',
        f'tokeniser = "{"one-hot" if network.encode is None else "ids"}"',
        "stride = 1",
        'licence = "MIT OR Apache-2.0"',
        'task = "raw"',
        f'description = "{network.description}; random weights, for benchmarks"',
        f"tile = {5632 if network.encode is None else max(network.lengths)}",
        f"multiple = {network.multiple}",
        "",
        "[context]",
        f"left = {network.context}",
        f"right = {network.context}",
    ]
    lines += [
        "",
        "[training]",
        'data = "none: random weights"',
        'split = "none"',
        'recipe = "benches/peers/networks.py"',
    ]
    for name in network.outputs:
        meaning = "soft-max output" if network.soft_max else "raw output"
        lines += [
            "",
            "[[outputs]]",
            f'name = "{name}"',
            f'meaning = "{meaning}"',
            'link = "identity"',
        ]
    return "\n".join(lines) + "\n"


def write_lines(path, lines):
    with open(path, "w") as file:
        file.writelines(line + "\n" for line in lines)


def write_texts(network, folder):
    def write(kind, texts):
        path = os.path.join(folder, f"{network.name}_{kind}.txt")
        write_lines(path, [network.line(text) for text in texts])

    write("calibration", calibration(network))
    length = min(network.lengths) if network.encode is None else max(network.lengths)
    write("test", windows(network.bases(length), TEST_SEQUENCES, TEST_SKIP))
    with open(os.path.join(folder, f"{network.name}.toml"), "w") as file:
        file.write(manifest(network))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument(
        "networks", nargs="*", default=list(NETWORKS), metavar="NETWORK", help=", ".join(NETWORKS)
    )
    parser.add_argument(
        "--mask", action="store_true", help="also the transformers with an attention mask"
    )
    parser.add_argument("--float-only", action="store_true", help="no int8 files")
    arguments = parser.parse_args()
    logging.disable(
        logging.WARNING
    )  # quantize_static reports every norm whose weight has no channel axis
    os.makedirs(arguments.folder, exist_ok=True)
    for name in arguments.networks:
        if name not in NETWORKS:
            parser.error(f"no network {name!r}: {', '.join(NETWORKS)}")
        network = NETWORKS[name]
        print(name, flush=True)
        export(network, os.path.join(arguments.folder, f"{name}.onnx"))
        if arguments.mask and network.encode is not None:
            export(network, os.path.join(arguments.folder, f"{name}_mask.onnx"), mask=True)
        write_texts(network, arguments.folder)
        if not arguments.float_only:
            quantize(network, arguments.folder, Reads(network, calibration(network)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
