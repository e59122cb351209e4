"""Writes softsign_end.onnx and softsign_between.onnx here: random float networks that `strandline
pack` cannot lower whole.

    pip install numpy onnx
    python unlowered.py

Both are [1, 4, T] -> convolution of 16 channels, width 5 -> ReLU -> convolution -> [1, 2, T]; one
ends in a Softsign, the other has it between its convolutions.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(1)


def conv(name, channels_in, channels_out, width, source, target):
    weight = (
        random.standard_normal((channels_out, channels_in, width))
        / np.sqrt(channels_in * width)
        * 2
    )
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
softsign = helper.make_node("Softsign", ["logits"], ["y"], name="softsign")
save("softsign_end.onnx", [first, relu, last, softsign], first_tensors + last_tensors)

softsign = helper.make_node("Softsign", ["rows"], ["signs"], name="softsign")
last, last_tensors = conv("last", 16, 2, 3, "signs", "y")
save("softsign_between.onnx", [first, relu, softsign, last], first_tensors + last_tensors)
