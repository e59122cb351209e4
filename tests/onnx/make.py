"""Writes the small networks of tests/data/onnx.

They are what each exporter and quantiser makes of the same few layers.

    pip install -r tests/onnx/requirements-make.txt
    python tests/onnx/make.py [FOLDER]

Every NAME.onnx comes with NAME.txt: inputs, and what ONNX Runtime gives for them on the float
network, as plain numbers; SHA256SUMS holds the hashes. Weights are random with a fixed seed. Files
are kept below 50 kB.
"""

import hashlib
import math
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers import optimizer
from torch import nn

D, HEADS, FF, VOCABULARY = 8, 2, 12, 12
warnings.filterwarnings("ignore")


class Encoder(nn.Module):
    """torch's own encoder: packed in_proj, post- or pre-norm, GELU or ReLU."""

    def __init__(self, norm_first, activation):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, D)
        layer = nn.TransformerEncoderLayer(
            D, HEADS, FF, 0.0, activation, batch_first=True, norm_first=norm_first
        )
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(D, 3)

    def forward(self, ids):
        return self.head(self.layers(self.embed(ids)))


class MultiHead(nn.Module):
    """nn.MultiheadAttention called as sequence-first."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, D)
        self.attention = nn.MultiheadAttention(D, HEADS)
        self.norm = nn.LayerNorm(D)

    def forward(self, ids):
        x = self.embed(ids).transpose(0, 1)
        y, _ = self.attention(x, x, x, need_weights=False)
        return self.norm(x + y).transpose(0, 1)


def rotate(x):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b, a), dim=-1)


class Esm(nn.Module):
    """Rotary positions, q scaled before the product, GELU by erf, padding masked by id."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, D)
        self.q, self.k, self.v, self.o = (nn.Linear(D, D) for _ in range(4))
        self.up, self.down = nn.Linear(D, FF), nn.Linear(FF, D)
        self.a, self.b = nn.LayerNorm(D), nn.LayerNorm(D)
        d = D // HEADS
        self.register_buffer("inv_freq", 1.0 / (10000 ** (torch.arange(0, d, 2).float() / d)))

    def heads(self, x):
        return x.view(x.shape[0], x.shape[1], HEADS, D // HEADS).permute(0, 2, 1, 3)

    def forward(self, ids):
        x = self.embed(ids)
        y = self.a(x)
        q, k, v = (
            self.heads(self.q(y) * (D // HEADS) ** -0.5),
            self.heads(self.k(y)),
            self.heads(self.v(y)),
        )
        t = torch.arange(k.shape[-2], device=k.device).type_as(self.inv_freq)
        freqs = torch.outer(t, self.inv_freq)
        emb = torch.cat((freqs, freqs), dim=-1)
        cos, sin = emb.cos()[None, None], emb.sin()[None, None]
        q = q * cos + rotate(q) * sin
        k = k * cos + rotate(k) * sin
        p = torch.softmax(torch.matmul(q, k.transpose(-1, -2)), dim=-1)
        c = torch.matmul(p, v).permute(0, 2, 1, 3).contiguous()
        x = x + self.o(c.view(c.shape[0], c.shape[1], D))
        h = self.up(self.b(x))
        h = h * 0.5 * (1.0 + torch.erf(h / math.sqrt(2.0)))
        x = x + self.down(h)
        return x.mean(dim=1)


class Bert(nn.Module):
    """Learned positions, token types, an attention mask, tanh GELU, first-token pooler."""

    def __init__(self, sdpa=False):
        super().__init__()
        self.sdpa = sdpa
        self.word = nn.Embedding(VOCABULARY, D)
        self.position = nn.Embedding(64, D)
        self.kind = nn.Embedding(2, D)
        self.register_buffer("position_ids", torch.arange(64)[None])
        self.norm, self.a, self.b = nn.LayerNorm(D), nn.LayerNorm(D), nn.LayerNorm(D)
        self.q, self.k, self.v, self.o = (nn.Linear(D, D) for _ in range(4))
        self.up, self.down, self.pooler, self.head = (
            nn.Linear(D, FF),
            nn.Linear(FF, D),
            nn.Linear(D, D),
            nn.Linear(D, 2),
        )

    def heads(self, x):
        return x.view(x.shape[0], x.shape[1], HEADS, D // HEADS).permute(0, 2, 1, 3)

    def forward(self, input_ids, attention_mask):
        positions = self.position_ids[:, : input_ids.shape[1]]
        x = self.word(input_ids) + self.kind(torch.zeros_like(input_ids)) + self.position(positions)
        x = self.norm(x)
        q, k, v = self.heads(self.q(x)), self.heads(self.k(x)), self.heads(self.v(x))
        if self.sdpa:
            mask = attention_mask[:, None, None, :].bool()
            c = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            mask = (1.0 - attention_mask[:, None, None, :].float()) * -10000.0
            s = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(D // HEADS) + mask
            c = torch.matmul(torch.softmax(s, dim=-1), v)
        c = c.permute(0, 2, 1, 3).contiguous()
        x = self.a(x + self.o(c.view(c.shape[0], c.shape[1], D)))
        x = self.b(x + self.down(F.gelu(self.up(x), approximate="tanh")))
        return self.head(torch.tanh(self.pooler(x[:, 0])))


class Convolutions(nn.Module):
    """Strided branch, nearest upsampling, concatenation, global pools."""

    def __init__(self, pooled):
        super().__init__()
        self.pooled = pooled
        self.a = nn.Conv1d(4, 8, 5, padding=2)
        self.norm = nn.BatchNorm1d(8)
        self.b = nn.Conv1d(8, 8, 4, stride=4)
        self.c = nn.Conv1d(16, 3, 3, padding=1)
        self.d, self.e = nn.Linear(16, 2), nn.Linear(16, 2)

    def forward(self, x):
        x = F.relu(self.norm(self.a(x)))
        y = F.interpolate(F.relu(self.b(x)), scale_factor=4, mode="nearest")
        x = torch.cat((x, y), dim=1)
        if self.pooled:
            return self.d(F.adaptive_avg_pool1d(x, 1).squeeze(-1)) + self.e(x.amax(dim=2))
        return self.c(x)


def export(module, inputs, names, path, dynamo):
    module = module.eval()
    axis = 2 if names == ["sequence"] else 1
    if dynamo:
        shapes = tuple({axis: torch.export.Dim("T", min=8, max=60)} for _ in inputs)
        if axis == 2:
            shapes = ({axis: 4 * torch.export.Dim("U", min=2, max=600)},)
        torch.onnx.export(
            module,
            inputs,
            path,
            input_names=names,
            dynamo=True,
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    else:
        torch.onnx.export(
            module,
            inputs,
            path,
            input_names=names,
            dynamo=False,
            opset_version=17,
            dynamic_axes={name: {axis: "T"} for name in names},
        )


def keras(path):
    """Conv1D as tf2onnx writes it: channels last, a singleton axis, transposes, a global mean."""
    rng = np.random.default_rng(5)
    f = lambda *s: (rng.standard_normal(s) * 0.4).astype(np.float32)
    init = {
        "w1": f(8, 4, 1, 5),
        "b1": f(8),
        "w2": f(6, 8, 1, 3),
        "b2": f(6),
        "w3": f(6, 2),
        "b3": f(2),
        "ax": np.array([1], np.int64),
        "ax2": np.array([2], np.int64),
    }
    conv = lambda x, w, b, y, k: helper.make_node(
        "Conv", [x, w, b], [y], name=y, kernel_shape=[1, k], pads=[0, k // 2, 0, k // 2]
    )
    nodes = [
        helper.make_node("Unsqueeze", ["input_1", "ax"], ["u1"]),
        helper.make_node("Transpose", ["u1"], ["t1"], perm=[0, 3, 1, 2]),
        conv("t1", "w1", "b1", "c1", 5),
        helper.make_node("Transpose", ["c1"], ["t2"], perm=[0, 2, 3, 1]),
        helper.make_node("Squeeze", ["t2", "ax"], ["s1"]),
        helper.make_node("Relu", ["s1"], ["r1"]),
        helper.make_node("Transpose", ["r1"], ["t3"], perm=[0, 2, 1]),
        helper.make_node("Unsqueeze", ["t3", "ax2"], ["u2"]),
        conv("u2", "w2", "b2", "c2", 3),
        helper.make_node("Squeeze", ["c2", "ax2"], ["s2"]),
        helper.make_node("Transpose", ["s2"], ["t4"], perm=[0, 2, 1]),
        helper.make_node("Relu", ["t4"], ["r2"]),
        helper.make_node("ReduceMean", ["r2"], ["m"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["m", "w3"], ["mm"]),
        helper.make_node("Add", ["mm", "b3"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "keras",
        [helper.make_tensor_value_info("input_1", TensorProto.FLOAT, ["N", "T", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(v, k) for k, v in init.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path
    )


def space_to_batch(path):
    """A dilated Conv1D as TensorFlow writes it at open length: channels last, padded to a multiple
    of the dilation by what the shape says, every third position a sequence of its own."""
    rng = np.random.default_rng(6)
    taps, dilation = 5, 3
    reach = (taps - 1) * dilation
    init = {
        "w1": (rng.standard_normal((8, 4, 3)) * 0.4).astype(np.float32),
        "w2": (rng.standard_normal((8, 8, 1, taps)) * 0.3).astype(np.float32),
        "w3": (rng.standard_normal((3, 8, 1)) * 0.4).astype(np.float32),
    }
    names = {
        "zero": [0], "one": [1], "two": [2], "minus": [-1], "third": [-3], "end": [2**63 - 1],
        "d": [dilation], "reach": [reach], "half": [reach // 2], "pair": [-1, 1],
        "before": [0], "front": [0, reach // 2, 0, 0], "last": [0, 0], "order": [2, 0, 1, 3],
    }
    init |= {name: np.array(value, np.int64) for name, value in names.items()}
    nodes = []

    def op(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs.split(), [output], name=output, **attributes))

    op("Transpose", "sequence", "first", perm=[0, 2, 1])
    op("Conv", "first w1", "c1", pads=[1, 1])
    op("Relu", "c1", "r1")
    op("Transpose", "r1", "x", perm=[0, 2, 1])
    op("Shape", "x", "shape")
    op("Slice", "shape one two zero", "length")
    op("Add", "length reach", "wide")
    op("Mod", "wide d", "rest")
    op("Sub", "d rest", "open")
    op("Mod", "open d", "more")
    op("Add", "half more", "behind")
    op("Concat", "front behind zero", "pads", axis=0)
    op("Pad", "x pads", "padded")
    op("Shape", "padded", "padded_shape")
    op("Slice", "padded_shape two end", "channels")
    op("Slice", "padded_shape one two", "padded_length")
    op("Div", "padded_length d", "part")
    op("Concat", "minus part d channels", "apart_shape", axis=0)
    op("Concat", "minus part channels", "parts_shape", axis=0)
    op("Reshape", "padded apart_shape", "apart")
    op("Transpose", "apart", "apart_first", perm=[2, 0, 1, 3])
    op("Reshape", "apart_first parts_shape", "parts")
    op("Unsqueeze", "parts third", "expanded")
    op("Transpose", "expanded", "c2_input", perm=[0, 3, 1, 2])
    op("Conv", "c2_input w2", "c2", kernel_shape=[1, taps])
    op("Squeeze", "c2 two", "squeezed")
    op("Transpose", "squeezed", "sums", perm=[0, 2, 1])
    op("Shape", "sums", "sums_shape")
    op("Slice", "sums_shape two end", "sums_channels")
    op("Slice", "sums_shape one two", "sums_length")
    op("Mul", "sums_length d", "whole")
    op("Sub", "whole more", "cut")
    op("Concat", "minus whole sums_channels", "whole_shape", axis=0)
    op("Concat", "d minus sums_length sums_channels", "stacked_shape", axis=0)
    op("Reshape", "sums stacked_shape", "stacked")
    op("Transpose", "stacked", "woven", perm=[1, 2, 0, 3])
    op("Reshape", "woven whole_shape", "together")
    op("Slice", "together zero cut one", "dilated")
    op("Relu", "dilated", "r2")
    op("Add", "x r2", "sum")
    op("Transpose", "sum", "sum_first", perm=[0, 2, 1])
    op("Conv", "sum_first w3", "c3")
    op("Softmax", "c3", "shares", axis=1)
    op("Transpose", "shares", "y", perm=[0, 2, 1])
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "space_to_batch",
        [helper.make_tensor_value_info("sequence", TensorProto.FLOAT, ["N", "T", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "T", 3])],
        [numpy_helper.from_array(v, k) for k, v in init.items() if k in used],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path
    )


def optimised(folder):
    """What ONNX Runtime's two optimisers save: operators merged; and half precision."""
    levels = ort.GraphOptimizationLevel
    for name, level, suffix in (
        ("bert_script", levels.ORT_ENABLE_EXTENDED, "extended"),
        ("bert_dynamo", levels.ORT_ENABLE_EXTENDED, "extended"),
        ("esm_script", levels.ORT_ENABLE_EXTENDED, "extended"),
        ("branches_script", levels.ORT_ENABLE_EXTENDED, "extended"),
        ("bert_script_dynamic", levels.ORT_ENABLE_EXTENDED, "extended"),
        ("branches_script_static", levels.ORT_ENABLE_ALL, "all"),
    ):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(folder / f"{name}_{suffix}.onnx")
        source = folder / f"{name}.onnx"
        ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        float_name = name.removesuffix("_dynamic").removesuffix("_static")
        record(folder / f"{name}_{suffix}.onnx", folder / f"{float_name}.onnx")
    for name, half in (("bert_script_merged", False), ("bert_script_half", True)):
        source = folder / "bert_script.onnx"
        merged = optimizer.optimize_model(
            str(source), model_type="bert", num_heads=HEADS, hidden_size=D, opt_level=0
        )
        if half:
            merged.convert_float_to_float16()
        merged.save_model_to_file(str(folder / f"{name}.onnx"))
        record(folder / f"{name}.onnx", source)


class Reader(CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


def feed(path, length, seed):
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).get_inputs():
        if "mask" in value.name:
            feeds[value.name] = np.ones((1, length), np.int64)
        elif value.type == "tensor(int64)":
            feeds[value.name] = rng.integers(4, VOCABULARY, (1, length))
        else:
            codes = np.eye(4, dtype=np.float32)[rng.integers(0, 4, length)]
            feeds[value.name] = codes[None] if value.shape[-1] == 4 else codes.T[None].copy()
    return feeds


def slim(path):
    """Drops what only describes: the second exporter writes ten times the network's size of it."""
    model = onnx.load(str(path))
    del model.graph.value_info[:]
    del model.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.save(model, str(path))


def record(path, reference):
    """NAME.txt: one line an input or output: name, shape, values."""
    slim(path)
    lines = []
    feeds = feed(reference, 16, 1)
    if path == reference and "attention_mask" in feeds:
        feeds["attention_mask"][0, -3:] = 0
    session = ort.InferenceSession(str(reference), providers=["CPUExecutionProvider"])
    for name, value in feeds.items():
        lines.append(
            f"{name} {','.join(map(str, value.shape))} {' '.join(f'{x:g}' for x in value.ravel())}"
        )
    for value, out in zip(session.run(None, feeds), session.get_outputs()):
        lines.append(
            f"= {','.join(map(str, value.shape))} {' '.join(f'{x:.7g}' for x in value.ravel())}"
        )
    path.with_suffix(".txt").write_text("\n".join(lines) + "\n")


def main():
    folder = Path(
        sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "data" / "onnx"
    )
    folder.mkdir(parents=True, exist_ok=True)
    ids = torch.randint(4, VOCABULARY, (1, 16))
    dna = torch.zeros(1, 4, 64)
    networks = {
        "encoder": (lambda: Encoder(False, "relu"), (ids,), ["ids"]),
        "encoder_pre": (lambda: Encoder(True, "gelu"), (ids,), ["ids"]),
        "multihead": (MultiHead, (ids,), ["ids"]),
        "esm": (Esm, (ids,), ["ids"]),
        "bert": (Bert, (ids, torch.ones_like(ids)), ["input_ids", "attention_mask"]),
        "bert_sdpa": (
            lambda: Bert(True),
            (ids, torch.ones_like(ids)),
            ["input_ids", "attention_mask"],
        ),
        "branches": (lambda: Convolutions(False), (dna,), ["sequence"]),
        "pooled": (lambda: Convolutions(True), (dna,), ["sequence"]),
    }
    for name, (make, inputs, names) in networks.items():
        for dynamo in (False, True):
            torch.manual_seed(7)
            path = folder / f"{name}_{'dynamo' if dynamo else 'script'}.onnx"
            try:
                export(make(), inputs, names, str(path), dynamo)
                record(path, path)
            except Exception as error:
                print(path.name, type(error).__name__, str(error)[:300])
    for name, write in (("keras", keras), ("space_to_batch", space_to_batch)):
        write(folder / f"{name}.onnx")
        record(folder / f"{name}.onnx", folder / f"{name}.onnx")
    for name in ("branches_script", "pooled_script", "bert_script", "encoder_script"):
        source = folder / f"{name}.onnx"
        feeds = [feed(source, 16, seed) for seed in range(20)]
        static, dynamic, operators = (
            folder / f"{name}_{kind}.onnx" for kind in ("static", "dynamic", "operators")
        )
        quantize_dynamic(source, dynamic, per_channel=True, weight_type=QuantType.QInt8)
        written = [dynamic]
        if name != "encoder_script":
            quantize_static(
                source,
                static,
                Reader(feeds),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            written.append(static)
        if name == "pooled_script":
            quantize_static(
                source,
                operators,
                Reader(feeds),
                quant_format=QuantFormat.QOperator,
                per_channel=False,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QUInt8,
            )
            written.append(operators)
        for path in written:
            record(path, source)
    optimised(folder)
    hashes = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}"
        for path in sorted(folder.glob("*.onnx"))
    ]
    (folder / "SHA256SUMS").write_text("\n".join(hashes) + "\n")


if __name__ == "__main__":
    main()
