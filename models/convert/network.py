"""What the converters share: reading a checkpoint, building an ONNX graph, writing the files."""

import math
import os
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

# The recipes' writer of manifests.
sys.path.append(str(Path(__file__).parent.parent / "train"))
from manifest import write_toml

# LayerNormalization is as old as this; later ones bring nothing that is needed.
OPSET, IR = 17, 8

# protobuf takes no message of 2 GB; beyond this the weights go into a file of their own.
LARGEST = 2_000_000_000

NAMES = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".bin", ".pkl", ".pt", ".pth")

# Where a training script keeps the tensors beside other things.
NESTED = ("state_dict", "model_state_dict", "model")


class Misfit(Exception):
    """A checkpoint, or an option, that does not fit; the text says what was expected."""


def checkpoint_file(path, names=NAMES):
    """The file of tensors in a folder, or the file itself; `names` come first, in their order."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise Misfit(f"{path}: no such file or folder")
    found = [path / name for name in names if (path / name).is_file()]
    found = found or [p for p in sorted(path.iterdir()) if p.suffix in SUFFIXES and p.is_file()]
    if not found:
        raise Misfit(f"{path}: holds none of {', '.join(names)}, no *.pkl, *.pt")
    if found[0].name not in names and len(found) > 1:
        raise Misfit(f"{path}: several checkpoints ({', '.join(p.name for p in found)}): name one")
    return found[0]


def load(path):
    """Tensors by name. Pickles are read as tensors alone: no code of theirs runs."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise Misfit(f"{path}: no safetensors file: {error}") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch's own text advises to run what the file holds.
        kind = type(error).__name__
        raise Misfit(f"{path}: no file of tensors alone ({kind}), expected a state_dict") from None
    for key in NESTED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not any(torch.is_tensor(x) for x in state.values()):
        raise Misfit(f"{path}: expected a dictionary of tensors by name (a state_dict)")
    return {name: x for name, x in state.items() if torch.is_tensor(x)}


class Checkpoint:
    """The tensors of a file under the names of one model, without what wrappers put before them.

    `spellings` are patterns of other names, and what stands for them.
    """

    def __init__(self, path, prefixes, names=NAMES, spellings=()):
        self.path = checkpoint_file(path, names)
        self.tensors = {}
        prefix = re.compile(f"^(?:{'|'.join(map(re.escape, prefixes))})+")
        for full, tensor in load(self.path).items():
            name = prefix.sub("", full)
            # As TensorFlow's checkpoints named them.
            name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
            for pattern, spelling in spellings:
                name = re.sub(pattern, spelling, name)
            if name in self.tensors and not torch.equal(self.tensors[name], tensor):
                raise Misfit(f"{self.path}: {full}: another tensor has the same name, {name}")
            self.tensors[name] = tensor

    def __contains__(self, name):
        return name in self.tensors

    def shape(self, name):
        """The shape of a tensor that must be there."""
        if name not in self.tensors:
            some = ", ".join(sorted(self.tensors)[:3])
            raise Misfit(
                f"{self.path}: no tensor {name}; its {len(self.tensors)} tensors begin with {some}"
            )
        return tuple(self.tensors[name].shape)

    def take(self, name, *expected):
        """The values of a tensor that must have this shape, None for any size."""
        shape = self.shape(name)
        fits = len(shape) == len(expected) and all(e in (None, n) for n, e in zip(shape, expected))
        if not fits:
            wanted = [n if n else "any" for n in expected]
            raise Misfit(
                f"{self.path}: {name} is {list(shape)}, expected {wanted}".replace("'", "")
            )
        values = self.tensors[name].float().numpy()
        if not np.isfinite(values).all():
            raise Misfit(f"{self.path}: {name} holds values that are not finite")
        return values

    def linear(self, name, inputs, outputs):
        """Weight and bias of a linear layer; None for any number of outputs."""
        weight = self.take(f"{name}.weight", outputs, inputs)
        return weight, self.take(f"{name}.bias", len(weight))

    def norm(self, name, width):
        return self.take(f"{name}.weight", width), self.take(f"{name}.bias", width)

    def layers(self, pattern):
        """How many layers there are: numbers in the place of N, from 0 without a gap."""
        expression = re.compile(re.escape(pattern).replace("N", r"(\d+)") + r"\.")
        found = {int(m[1]) for name in self.tensors if (m := expression.match(name))}
        if not found:
            raise Misfit(f"{self.path}: no tensor {pattern.replace('N', '0')}.*")
        missing = set(range(max(found) + 1)) - found
        if missing:
            raise Misfit(f"{self.path}: no tensor {pattern.replace('N', str(min(missing)))}.*")
        return len(found)


class Graph:
    """A network of token ids [1, T], one sequence at a time: so there is no mask of padding.

    `others` are the names and element types of further inputs [1, T].
    """

    def __init__(self, name, ids="input_ids", others=()):
        self.name, self.nodes, self.weights, self.known = name, [], [], {}
        self.ids, self.inputs = ids, [(ids, TensorProto.INT64), *others]

    def op(self, kind, *inputs, label, **attributes):
        """A node; its output has its name."""
        self.nodes.append(helper.make_node(kind, inputs, [label], name=label, **attributes))
        return label

    def weight(self, label, values):
        values = np.ascontiguousarray(values, np.float32)
        self.weights.append(numpy_helper.from_array(values, label))
        return label

    def integers(self, *values):
        label = "i." + ".".join(map(str, values))
        self.known[label] = numpy_helper.from_array(np.array(values, np.int64), label)
        return label

    def integer(self, value):
        label = f"i{value}"
        self.known[label] = numpy_helper.from_array(np.int64(value), label)
        return label

    def scalar(self, value):
        label = f"f.{value!r}"
        self.known[label] = numpy_helper.from_array(np.float32(value), label)
        return label

    def embed(self, table, label, ids=None):
        table = self.weight(f"{label}.table", table)
        return self.op("Gather", table, ids or self.ids, label=label, axis=0)

    def length(self):
        """How many tokens there are, [1]."""
        if not any(node.name == "length" for node in self.nodes):
            self.op("Shape", self.ids, label="shape")
            self.op(
                "Slice",
                "shape",
                self.integers(1),
                self.integers(2),
                self.integers(0),
                label="length",
            )
        return "length"

    def linear(self, x, layer, label, output=None):
        """`output` names the result."""
        weight, bias = layer
        # The product takes the label, by which the packed layer is called.
        product = self.op("MatMul", x, self.weight(f"{label}.weight", weight.T), label=label)
        output = output or f"{label}.sum"
        return self.op("Add", product, self.weight(f"{label}.bias", bias), label=output)

    def norm(self, x, layer, epsilon, label):
        gamma, beta = layer
        return self.op(
            "LayerNormalization",
            x,
            self.weight(f"{label}.weight", gamma),
            self.weight(f"{label}.bias", beta),
            label=label,
            axis=-1,
            epsilon=epsilon,
        )

    def gelu(self, x, label):
        """x / 2 (1 + erf(x / √2)), the exact form."""
        scaled = self.op("Div", x, self.scalar(math.sqrt(2)), label=f"{label}.scaled")
        erf = self.op("Erf", scaled, label=f"{label}.erf")
        one = self.op("Add", erf, self.scalar(1.0), label=f"{label}.one")
        both = self.op("Mul", x, one, label=f"{label}.both")
        return self.op("Mul", both, self.scalar(0.5), label=label)

    def heads(self, x, heads, label):
        """[1, T, D] as [1, heads, T, D / heads]."""
        split = self.op("Reshape", x, self.integers(0, 0, heads, -1), label=f"{label}.split")
        return self.op("Transpose", split, label=f"{label}.heads", perm=[0, 2, 1, 3])

    def attention(self, q, k, v, scale, label):
        """Of heads; the rows of all heads side by side."""
        transposed = self.op("Transpose", k, label=f"{label}.k", perm=[0, 1, 3, 2])
        product = self.op("MatMul", q, transposed, label=f"{label}.product")
        scores = self.op("Mul", product, self.scalar(scale), label=f"{label}.scores")
        shares = self.op("Softmax", scores, label=f"{label}.shares", axis=-1)
        mixed = self.op("MatMul", shares, v, label=label)
        rows = self.op("Transpose", mixed, label=f"{label}.rows", perm=[0, 2, 1, 3])
        return self.op("Reshape", rows, self.integers(0, 0, -1), label=f"{label}.merged")

    def first(self, x, label):
        """The first token's row, [1, D]."""
        return self.op("Gather", x, self.integer(0), label=label, axis=1)

    def model(self, output, columns, rows=False):
        """Rows: an output for every token."""
        used = {name for node in self.nodes for name in node.input}
        constants = [x for name, x in self.known.items() if name in used]
        shape = [1, "T", columns] if rows else [1, columns]
        graph = helper.make_graph(
            self.nodes,
            self.name,
            [helper.make_tensor_value_info(x, kind, [1, "T"]) for x, kind in self.inputs],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
            self.weights + constants,
        )
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR)


def probabilities(classifier, wanted):
    """The soft-max of some of two or three labels in layers of a vector, as a list of (weight,
    bias, function): packed, a soft-max is the last of all operators, and gives every label.

    With d the difference of two logits, p = σ(d). With a and b those to a third,
    p = σ(a - log(1 + e^b)), and a = softplus(a) - softplus(-a).
    """
    weight, bias = classifier
    if len(bias) == 2:
        (one,) = wanted
        return [(weight[[one]] - weight[[1 - one]], bias[[one]] - bias[[1 - one]], "Sigmoid")]
    (one, two), (rest,) = wanted, {0, 1, 2} - set(wanted)
    signs = [(one, 1), (one, -1), (two, 1), (two, -1)]
    first = np.stack([s * (weight[i] - weight[rest]) for i, s in signs])
    first_bias = np.stack([s * (bias[i] - bias[rest]) for i, s in signs])
    second = np.float32([[1, -1, -1, 0], [-1, 0, 1, -1]])
    return [(first, first_bias, "Softplus"), (second, np.zeros(2, np.float32), "Sigmoid")]


def write(folder, models, texts=None):
    """Writes NAME.onnx and a manifest of each (name, model, manifest's file, manifest), and the
    texts by the names of their files, all or nothing.
    """
    folder = Path(folder)
    # A folder that is not there yet is made last.
    place = folder if folder.is_dir() else folder.parent
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=place) as new:
        for name, model, manifest_file, manifest in models:
            path = Path(new, f"{name}.onnx")
            outside = model.ByteSize() > LARGEST
            onnx.save(model, path, save_as_external_data=outside, location=f"{name}.onnx.data")
            with open(Path(new, manifest_file), "w") as out:
                write_toml(manifest, out)
        for name, text in (texts or {}).items():
            Path(new, name).write_text(text, encoding="utf-8")
        written = sorted(Path(new).iterdir())
        folder.mkdir(exist_ok=True)
        for path in written:
            os.replace(path, folder / path.name)
    for path in written:
        print(f"{folder / path.name}  {(folder / path.name).stat().st_size:,} bytes")


def run(convert, parser):
    """Reads the arguments and converts; a misfit ends with one line and exit code 1."""
    arguments = parser.parse_args()
    try:
        convert(arguments)
    except (Misfit, OSError) as error:
        sys.exit(f"error: {error}")
