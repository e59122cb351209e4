"""ONNX Runtime or, with --openvino, OpenVINO on one thread, driven as `strandline bench-model` is.

    python benches/peers/peer.py MODEL.onnx --length N --sequences FILE --steps
        makes a run for each line read and prints its nanoseconds
    python benches/peers/peer.py MODEL.onnx --sequences FILE --output OUT
        writes the outputs of every sequence
    python benches/peers/peer.py --identity x|ids --length N --steps
        the same as the first with a network that returns its input
    python benches/peers/peer.py --product
        prints the GMAC/s of a large int8 product

FILE holds a sequence a line: bases, or blank-separated token ids. OUT has a line of blank-separated
values for each position, or one for a sequence, and an empty line between sequences. With --no-amx
the process may not use AMX.
"""

import argparse
import sys
import time
from types import SimpleNamespace

from no_amx import refuse_amx

if "--no-amx" in sys.argv:
    refuse_amx()  # before the library asks for it, which is when it is loaded

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from sequences import one_hot


def session(model):
    """A session of one thread with every graph optimisation; `model` is a path or bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OpenVino:
    """A network in OpenVINO, called as a session of ONNX Runtime is."""

    def __init__(self, path, length=None):
        """The network of an ONNX file; with a `length`, for that length alone, which is faster."""
        import openvino

        model = openvino.Core().read_model(path)
        if length is not None:
            shapes = {port: port.get_partial_shape() for port in model.inputs}
            for shape in shapes.values():
                shape[0], shape[len(shape) - 1] = 1, length
            model.reshape(shapes)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": 1,
            # Else floats are bf16 where the processor has it.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = openvino.compile_model(model, "CPU", settings)
        self.names = [port.any_name for port in compiled.inputs]
        self.request = compiled.create_infer_request()

    def get_inputs(self):
        return [SimpleNamespace(name=name) for name in self.names]

    def run(self, _, feed):
        return list(self.request.infer(feed, share_inputs=True, share_outputs=True).values())


def model_bytes(nodes, inputs, outputs, tensors=()):
    graph = helper.make_graph(nodes, "network", inputs, outputs, list(tensors))
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()


def identity(name):
    """Returns its input, which is named as that of a benchmark network."""
    kind, shape = (TensorProto.FLOAT, [1, 4, "T"]) if name == "x" else (TensorProto.INT64, [1, "T"])
    return model_bytes(
        [helper.make_node("Identity", [name], ["y"])],
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info("y", kind, shape)],
    )


def product_rate(size=1024):
    """Billions of multiply-accumulates a second of a u8 x s8 product, [size, size] by [size,
    size].
    """
    random = np.random.default_rng(1)
    weight = numpy_helper.from_array(random.integers(-64, 64, (size, size)).astype(np.int8), "w")
    run = session(
        model_bytes(
            [helper.make_node("MatMulInteger", ["a", "w"], ["y"])],
            [helper.make_tensor_value_info("a", TensorProto.UINT8, [size, size])],
            [helper.make_tensor_value_info("y", TensorProto.INT32, [size, size])],
            [weight],
        )
    )
    feed = {"a": random.integers(0, 128, (size, size)).astype(np.uint8)}
    return size**3 / np.median([timed(run, feed) for _ in range(60)])


def timed(run, feed):
    start = time.perf_counter_ns()
    run.run(None, feed)
    return time.perf_counter_ns() - start


def feed_of(run, line, length=None):
    """The inputs for a line of a sequence file, repeated or cut to `length`.

    One-hot rows are `[1, T, 4]` with --channels-last.
    """
    items = line if line[0].isalpha() else [int(item) for item in line.split()]
    if length is not None:
        items = (items * (length // len(items) + 1))[:length]
    names = [tensor.name for tensor in run.get_inputs()]
    if isinstance(items, str):
        x = one_hot(items)
        feed = {names[0]: x.transpose(0, 2, 1).copy() if "--channels-last" in sys.argv else x}
    else:
        feed = {names[0]: np.array([items], np.int64)}
    for name in names[1:]:
        feed[name] = np.ones((1, len(items)), np.int64)  # the attention mask
    return feed


def read_lines(path):
    with open(path) as file:
        return [line.strip() for line in file if line.strip()]


def write_outputs(run, lines, path):
    with open(path, "w") as file:
        for number, line in enumerate(lines):
            values = run.run(None, feed_of(run, line))[0]
            rows = values[0].T if values.ndim == 3 else values
            file.write("\n" if number else "")
            file.writelines(" ".join(f"{value:.9g}" for value in row) + "\n" for row in rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?")
    parser.add_argument("--identity", choices=("x", "ids"))
    parser.add_argument("--product", action="store_true")
    parser.add_argument("--length", type=int)
    parser.add_argument("--sequences")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--output")
    parser.add_argument("--no-amx", action="store_true")
    parser.add_argument("--openvino", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    arguments = parser.parse_args()
    if arguments.product:
        print(f"{product_rate():.0f}")
        return 0
    if arguments.identity:
        run = session(identity(arguments.identity))
        feed = feed_of(run, "ACGT" if arguments.identity == "x" else "2 3 4", arguments.length)
    else:
        lines = read_lines(arguments.sequences)
        if arguments.openvino:
            run = OpenVino(arguments.model, arguments.length)
        else:
            run = session(arguments.model)
        if arguments.output:
            write_outputs(run, lines, arguments.output)
            return 0
        feed = feed_of(run, lines[0], arguments.length)
    for _ in sys.stdin:
        print(timed(run, feed), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
