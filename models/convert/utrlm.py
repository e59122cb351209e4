"""Turns a checkpoint of UTR-LM into ONNX and a manifest for `pack`.

    python models/convert/utrlm.py CHECKPOINT.pkl --out OUT --task ribosome-load
    strandline pack OUT/model.onnx --manifest OUT/manifest.toml --calibrate READS -o M.safetensors

The head is the one of the published runs: the row of <cls> behind the last norm, 128 - 40 - 1 with
a ReLU. A checkpoint without it gives that row (task raw). Layers and widths are those of the
tensors; heads are 16 unless `--heads` says otherwise.

| --task        | column                                                              |
| ribosome-load | mean ribosome load, on the scale it was trained on                  |
| te            | logarithm of translation efficiency, on the scale it was trained on |
| ires          | logit of the sequence being an IRES                                 |
| raw           | the head's outputs, or the row of <cls>                             |

Sequences are scored one at a time, unpadded, so there is no mask of padding.
"""

import argparse

import numpy as np

from network import Checkpoint, Graph, Misfit, run, write

TOKENS = 10
HEADS = 16
EPSILON = 1e-5
BASE = 10_000.0

# Of token dropout, which is on in inference too: 15 % of tokens were masked in training, 80 % of
# them by zeros, and no token is masked here.
FACTOR = 1 - 0.15 * 0.8

# <cls> before a sequence, <eos> behind it.
SPECIAL = 2

# Bases that pretraining saw at most.
LONGEST = 1020

# Name, meaning and link of the column, and how many bases training saw: the last ones of a UTR.
TASKS = {
    "ribosome-load": (
        "mean_ribosome_load",
        "mean ribosome load, on the scale of training",
        "identity",
        100,
    ),
    "te": ("te", "logarithm of translation efficiency, on the scale of training", "identity", 100),
    "ires": ("ires", "probability that the sequence is an IRES", "logit", LONGEST),
}


# Tasks of another name in a manifest.
NAMES = {"ribosome-load": "expression"}


class Shape:
    """Sizes, by the tensors."""

    def __init__(self, checkpoint, heads):
        table = checkpoint.take("embed_tokens.weight", TOKENS, None)
        self.width = table.shape[1]
        self.layers = checkpoint.layers("layers.N")
        self.hidden = checkpoint.shape("layers.0.fc1.weight")[0]
        self.heads = heads
        if heads < 1 or self.width % (2 * heads):
            raise Misfit(f"{checkpoint.path}: width {self.width} with {heads} heads (--heads)")
        self.head_width = self.width // heads
        # Every layer has a copy.
        name = "layers.0.self_attn.rot_emb.inv_freq"
        half = self.head_width // 2
        self.frequencies = BASE ** (-np.arange(half, dtype=np.float64) / half)
        if name in checkpoint:
            found = checkpoint.take(name, half)
            if not np.allclose(found, self.frequencies, rtol=1e-4):
                raise Misfit(
                    f"{checkpoint.path}: {name} is {found.tolist()}, expected"
                    f" {self.frequencies.tolist()} ({heads} heads, base {BASE:.0f})"
                )


def angles(graph, shape):
    """Cosine and sine of position times frequency, [T, width of a head]."""
    zero, one = graph.integer(0), graph.integer(1)
    length = graph.op("Squeeze", graph.length(), graph.integers(0), label="length.number")
    counted = graph.op("Range", zero, length, one, label="counted")
    positions = graph.op("Cast", counted, label="positions", to=1)
    column = graph.op("Unsqueeze", positions, graph.integers(1), label="positions.column")
    frequencies = graph.weight("frequencies", np.tile(shape.frequencies, 2)[None])
    turned = graph.op("Mul", column, frequencies, label="angles")
    return graph.op("Cos", turned, label="cosine"), graph.op("Sin", turned, label="sine")


def rotated(graph, shape, x, tables, label):
    """Pairs (i, i + half) turned by their position's angle."""
    half, width = shape.head_width // 2, shape.head_width
    ends = graph.integers(3)
    first = graph.op(
        "Slice", x, graph.integers(0), graph.integers(half), ends, label=f"{label}.first"
    )
    second = graph.op(
        "Slice", x, graph.integers(half), graph.integers(width), ends, label=f"{label}.second"
    )
    negative = graph.op("Neg", second, label=f"{label}.negative")
    crossed = graph.op("Concat", negative, first, label=f"{label}.crossed", axis=-1)
    straight = graph.op("Mul", x, tables[0], label=f"{label}.cosine")
    crossed = graph.op("Mul", crossed, tables[1], label=f"{label}.sine")
    return graph.op("Add", straight, crossed, label=f"{label}.rotated")


def encoder_layer(graph, checkpoint, shape, x, tables, at):
    """Pre-norm: each part is normed, then added."""
    name, width = f"layers.{at}", shape.width
    norm = checkpoint.norm(f"{name}.self_attn_layer_norm", width)
    y = graph.norm(x, norm, EPSILON, f"{at}.attention.norm")
    heads = []
    for part in ("q", "k", "v"):
        layer = checkpoint.linear(f"{name}.self_attn.{part}_proj", width, width)
        rows = graph.heads(graph.linear(y, layer, f"{at}.{part}"), shape.heads, f"{at}.{part}")
        heads.append(rows if part == "v" else rotated(graph, shape, rows, tables, f"{at}.{part}"))
    # Queries are scaled before they are turned; a factor on the scores is the same.
    mixed = graph.attention(*heads, shape.head_width**-0.5, f"{at}.attention")
    dense = checkpoint.linear(f"{name}.self_attn.out_proj", width, width)
    mixed = graph.linear(mixed, dense, f"{at}.attention.output")
    x = graph.op("Add", x, mixed, label=f"{at}.attention.added")
    y = graph.norm(x, checkpoint.norm(f"{name}.final_layer_norm", width), EPSILON, f"{at}.norm")
    up = checkpoint.linear(f"{name}.fc1", width, shape.hidden)
    down = checkpoint.linear(f"{name}.fc2", shape.hidden, width)
    hidden = graph.gelu(graph.linear(y, up, f"{at}.up"), f"{at}.gelu")
    return graph.op("Add", x, graph.linear(hidden, down, f"{at}.down"), label=f"{at}.added")


def encoder(graph, checkpoint, shape):
    """The row of <cls>."""
    words = checkpoint.take("embed_tokens.weight", TOKENS, shape.width)
    x = graph.embed(words * np.float32(FACTOR), "words")
    tables = angles(graph, shape)
    for at in range(shape.layers):
        x = encoder_layer(graph, checkpoint, shape, x, tables, at)
    norm = checkpoint.norm("emb_layer_norm_after", shape.width)
    return graph.first(graph.norm(x, norm, EPSILON, "norm"), "first_row")


def scores(graph, checkpoint, shape, task):
    """The output and its columns. conv1, conv2 and linear of downstream files are never used."""
    x = encoder(graph, checkpoint, shape)
    if "fc.weight" not in checkpoint and task == "raw":
        meaning = "element of the row of <cls>"
        return x, [
            {"name": f"h{i}", "meaning": meaning, "link": "identity"} for i in range(shape.width)
        ]
    inputs = checkpoint.shape("fc.weight")[-1]
    if inputs != shape.width:
        raise Misfit(
            f"{checkpoint.path}: fc.weight is {list(checkpoint.shape('fc.weight'))}, expected"
            f" [any, {shape.width}]: a head that also reads other features is not converted"
        )
    fc = checkpoint.linear("fc", shape.width, None)
    last = checkpoint.linear("output", len(fc[1]), None if task == "raw" else 1)
    x = graph.op("Relu", graph.linear(x, fc, "fc"), label="fc.relu")
    x = graph.linear(x, last, "output")
    if task == "raw":
        return x, [
            {"name": f"c{i}", "meaning": "the head's output", "link": "identity"}
            for i in range(len(last[1]))
        ]
    name, meaning, link, _ = TASKS[task]
    column = {"name": name, "meaning": meaning, "link": link}
    if link == "logit":
        column["threshold"] = 0.5
    if task in NAMES:
        column["kind"] = NAMES[task]
    return x, [column]


def manifest(arguments, columns):
    task, longest = arguments.task, arguments.longest
    longest = longest or (TASKS[task][-1] if task in TASKS else LONGEST)
    found = {
        "name": arguments.name or f"utr-lm-{task}",
        "version": "0.1.0",
        "task": "raw" if arguments.ids else NAMES.get(task, task),
        "description": f"UTR-LM: {columns[0]['meaning']}",
        "alphabet": "ACGT",
        "tokeniser": "ids" if arguments.ids else "utr-lm",
        "stride": 1,
        "tile": longest + SPECIAL,
        "context": {"left": 0, "right": 0},
        "licence": "unknown",
        "training": {
            "data": "unknown",
            "split": "unknown",
            "recipe": "converted by models/convert/utrlm.py",
        },
    }
    if arguments.ids:
        columns = [{key: x for key, x in one.items() if key != "kind"} for one in columns]
    else:
        found["window"] = {"shortest": 1, "longest": longest}
    return found | {"outputs": columns}


def convert(arguments):
    checkpoint = Checkpoint(arguments.checkpoint, ("module.", "esm2."))
    shape = Shape(checkpoint, arguments.heads)
    graph = Graph("utr_lm")
    output, columns = scores(graph, checkpoint, shape, arguments.task)
    model = graph.model(output, len(columns))
    print(f"UTR-LM, {shape.layers} layers of {shape.width}, {shape.heads} heads")
    write(arguments.out, [("model", model, "manifest.toml", manifest(arguments, columns))])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--out", required=True, help="folder for model.onnx and manifest.toml")
    parser.add_argument("--task", choices=(*TASKS, "raw"), default="raw")
    parser.add_argument("--heads", type=int, default=HEADS)
    parser.add_argument("--longest", type=int, help="bases; of a longer sequence the last so many")
    parser.add_argument("--ids", action="store_true", help="a raw model of ids the caller makes")
    parser.add_argument("--name", help="the model's name")
    run(convert, parser)


if __name__ == "__main__":
    main()
