#!/usr/bin/env bash
# tract 0.23.9 leaves alpha out of the negative branch of Celu.
#
# Expected: y = max(0, x) + min(0, alpha * (exp(x / alpha) - 1)), as ONNX defines Celu (opset 12),
# which PyTorch's CELU is exported to.
# Seen: below 0 the factor in front of the bracket is missing, so with an alpha of 0.5 values are
# twice too large, and at -4 tract gives -0.9997 for -0.4998. No error, no warning. With the default
# alpha of 1 the two are the same, which is why tests with defaults pass. ONNX Runtime 1.32.0 has
# what the definition says.
#
# Needs Python 3.9 or later and a package index. Exit code 0: tract behaves as described here.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/celu.onnx" <<'PYTHON'
import math
import sys

import numpy as np
import onnx
import onnxruntime
import tract
from onnx import TensorProto, helper

path, alpha = sys.argv[1], 0.5
x = np.array([-4.0, -1.0, -0.25, 0.0, 2.0], np.float32)
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, list(x.shape))
node = helper.make_node("Celu", ["x"], ["y"], alpha=alpha)
graph = helper.make_graph([node], "celu", [value("x")], [value("y")])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)

defined = np.array([max(0, v) + min(0, alpha * (math.exp(v / alpha) - 1)) for v in x])
without = np.array([max(0, v) + min(0, math.exp(v / alpha) - 1) for v in x])
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
runtime = session.run(None, {"x": x})[0]
model = tract.onnx().load(path).into_model()
found = model.into_runnable().run([x])[0].to_numpy()
print("x             ", *(f"{v:8.4f}" for v in x))
print("ONNX defines  ", *(f"{v:8.4f}" for v in defined))
print("ONNX Runtime  ", *(f"{v:8.4f}" for v in runtime))
print("tract 0.23.9  ", *(f"{v:8.4f}" for v in found))
assert np.allclose(runtime, defined, atol=1e-5), "ONNX Runtime has changed"
assert np.allclose(found, without, atol=1e-5), "tract has changed"
assert not np.allclose(found, defined, atol=1e-2)
PYTHON
