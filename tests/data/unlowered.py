"""Writes sigmoid_end.onnx and pool_between.onnx here: random float networks that `strandline pack` cannot lower whole.

    pip install numpy onnx
    python unlowered.py

Both are [1, 4, T] -> convolution of 16 channels, width 5 -> ReLU -> [1, 2, T]; one ends in a sigmoid, the other
averages three bases between its convolutions.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(1)


def conv(name, channels_in, channels_out, width, source, target):
    weight = random.standard_normal((channels_out, channels_in, width)) / np.sqrt(channels_in * width) * 2
    bias = random.standard_normal(channels_out) / 4
    tensors = [
        numpy_helper.from_array(weight.astype(np.float32), f"{name}.weight"),
        numpy_helper.from_array(bias.astype(np.float32), f"{name}.bias"),
    ]
    inputs = [source, *(t.name for t in tensors)]
    return helper.make_node("Conv", inputs, [target], name=name, pads=[width // 2] * 2), tensors


def save(path, nodes, tensors):
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, "T"])
    target = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, "T"])
    graph = helper.make_graph(nodes, "network", [source], [target], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


first, first_tensors = conv("first", 4, 16, 5, "x", "first_rows")
relu = helper.make_node("Relu", ["first_rows"], ["rows"], name="relu")
last, last_tensors = conv("last", 16, 2, 3, "rows", "logits")
sigmoid = helper.make_node("Sigmoid", ["logits"], ["y"], name="sigmoid")
save("sigmoid_end.onnx", [first, relu, last, sigmoid], first_tensors + last_tensors)

pool = helper.make_node(
    "AveragePool", ["rows"], ["pooled"], name="pool", kernel_shape=[3], pads=[1, 1], count_include_pad=1
)
last, last_tensors = conv("last", 16, 2, 3, "pooled", "y")
save("pool_between.onnx", [first, relu, pool, last], first_tensors + last_tensors)
