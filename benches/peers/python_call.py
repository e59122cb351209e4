"""What a call from Python costs beside the work: strandline and ONNX Runtime, one thread.

    maturin build --release -m src/bindings/python/Cargo.toml -o wheels
    pip install wheels/strandline-*.whl -r benches/peers/requirements.txt
    python benches/peers/python_call.py [--binary target/release/strandline] [--length 64]

The network is `tiny` of networks.py, packed, on so few bases that it takes a few microseconds. Its
time inside the program (`bench-model`) is taken away from that of `Model.score`; a network that
returns its input stands for ONNX Runtime's call. Medians of calls by turns. The numbers that come
back are checked first.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import strandline

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))


def median(call, rounds=20, calls=2_000):
    """Microseconds of a call."""
    for _ in range(calls):
        call()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter_ns()
        for _ in range(calls):
            call()
        times.append((time.perf_counter_ns() - begin) / calls / 1000)
    return statistics.median(times)


def inside(binary, packed, length):
    """Microseconds of a run in the program."""
    process = subprocess.Popen(
        [binary, "bench-model", packed, "--length", str(length), "--steps"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    times = []
    for _ in range(5_000):
        process.stdin.write("\n")
        process.stdin.flush()
        times.append(int(process.stdout.readline()))
    process.stdin.close()
    process.wait()
    return statistics.median(times[1_000:]) / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default=os.path.join(ROOT, "target/release/strandline"))
    parser.add_argument("--folder", default=os.path.join(ROOT, "target/peers"))
    parser.add_argument("--length", type=int, default=64)
    arguments = parser.parse_args()
    network = os.path.join(arguments.folder, "tiny.onnx")
    if not os.path.exists(network):
        subprocess.run(
            [sys.executable, os.path.join(HERE, "networks.py"), arguments.folder, "tiny"],
            check=True,
        )
    packed = os.path.join(arguments.folder, "tiny_int8.safetensors")
    prefix = os.path.join(arguments.folder, "tiny")
    subprocess.run(
        [
            arguments.binary, "-q", "pack", network, "--manifest", prefix + ".toml", "--calibrate",
            prefix + "_calibration.txt", "-o", packed,
        ],
        check=True,
    )  # fmt: skip

    import onnxruntime
    from onnx import TensorProto, helper

    values = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, None])
    same = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, None])
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "identity", [values], [same])
    identity = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(identity.SerializeToString(), options)
    whole = onnxruntime.InferenceSession(network, options)

    sequence = ("ACGTTGCAAC" * arguments.length)[: arguments.length]
    rows = np.zeros((1, 4, arguments.length), np.float32)
    rows[0, ["ACGT".index(letter) for letter in sequence], range(arguments.length)] = 1
    model = strandline.Model(packed)
    own, plain = model.score(sequence), whole.run(None, {"x": rows})[0][0].T
    if own.shape != plain.shape or np.abs(own - plain).max() > 0.05:
        sys.exit("the packed network gives other numbers than the float one")

    call = median(lambda: model.score(sequence))
    work = inside(arguments.binary, packed, arguments.length)
    peer = median(lambda: session.run(None, {"x": rows}))
    print(
        f"{arguments.length} bases: Model.score takes {call:.1f} us, of which {work:.1f} us"
    )
    print(f"are the network's: the call costs {call - work:.1f} us, ONNX Runtime's {peer:.1f} us")


if __name__ == "__main__":
    main()
