"""Turns a checkpoint of DNABERT (3-mers to 6-mers) into ONNX and a manifest for `pack`.

    python models/convert/dnabert.py CHECKPOINT --out OUT --task promoter
    strandline pack OUT/model.onnx --manifest OUT/manifest.toml --calibrate READS -o M.safetensors

CHECKPOINT is a folder with config.json and pytorch_model.bin or model.safetensors, or such a file.
Without config.json, k is that of the vocabulary, heads have 64 columns, and layers and widths are
those of the tensors.

| --task   | head                 | columns                                      |
| promoter | two labels           | P(label 1)                                   |
| tf       | two labels           | P(label 1)                                   |
| splice   | three labels         | P(acceptor), P(donor)                        |
| raw      | classifier           | its logits                                   |
|          | of masked tokens     | logits of the vocabulary, for every token    |
|          | none                 | the pooled vector                            |

`--labels` gives the labels in the checkpoint's order. `--attention` writes a second model beside
the first, attention.onnx: how much [CLS] looks at each token in the last layer, all heads together.

Sequences are scored one at a time, unpadded, so there is no attention mask.
"""

import argparse
import json
import math

from network import Checkpoint, Graph, Misfit, probabilities, run, write

# [PAD] [UNK] [CLS] [SEP] [MASK], then all k-mers.
SPECIAL = 5
KMERS = {4**k + SPECIAL: k for k in (3, 4, 5, 6)}
HEAD_WIDTH = 64
EPSILON = 1e-12

# Rows of the table of positions, [CLS] and [SEP] included.
TILE = 512

LABELS = {
    "promoter": ("other", "promoter"),
    "tf": ("other", "bound"),
    # GUE's order; nothing in a checkpoint says it.
    "splice": ("acceptor", "donor", "none"),
}

# In the words of the manifest.
DESCRIPTIONS = {
    "promoter": "is a sequence a promoter",
    "tf": "does a transcription factor bind a sequence",
    "splice": "is the middle of a sequence a splice site",
}

# Kind and meaning of a task's columns.
COLUMNS = {
    "promoter": ("promoter", "probability that the sequence is a promoter"),
    "bound": ("tf", "probability that the factor binds the sequence"),
    "acceptor": ("acceptor", "probability that the middle of the sequence is an acceptor"),
    "donor": ("donor", "probability that the middle of the sequence is a donor"),
}


def read_config(checkpoint):
    """config.json beside the tensors, if it is there."""
    path = checkpoint.path.parent / "config.json"
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise Misfit(f"{path}: no JSON: {error}") from None
    function = config.get("hidden_act", "gelu")
    if function != "gelu":
        raise Misfit(f"{path}: hidden_act is {function}, expected gelu")
    return config


class Shape:
    """Sizes, by the tensors; what config.json says must agree."""

    def __init__(self, checkpoint):
        config = read_config(checkpoint)
        table = "embeddings.word_embeddings.weight"
        if len(checkpoint.shape(table)) != 2:
            checkpoint.take(table, None, None)
        self.vocabulary, self.width = checkpoint.shape(table)
        self.k = KMERS.get(self.vocabulary)
        if self.k is None:
            sizes = ", ".join(map(str, KMERS))
            raise Misfit(
                f"{checkpoint.path}: {table} has {self.vocabulary} rows, expected one of {sizes}"
                " (DNABERT with k-mers of 3 to 6; DNABERT-2 is another network)"
            )
        self.layers = checkpoint.layers("encoder.layer.N")
        self.heads = config.get("num_attention_heads", self.width // HEAD_WIDTH)
        if self.heads < 1 or self.width % self.heads:
            raise Misfit(f"{checkpoint.path}: width {self.width} with {self.heads} heads")
        self.hidden = checkpoint.shape("encoder.layer.0.intermediate.dense.weight")[0]
        self.epsilon = config.get("layer_norm_eps", EPSILON)
        for key, value in {
            "vocab_size": self.vocabulary,
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "intermediate_size": self.hidden,
        }.items():
            if config.get(key, value) != value:
                raise Misfit(
                    f"{checkpoint.path}: config.json says {key} {config[key]}, the tensors {value}"
                )


def embedding(graph, checkpoint, shape):
    """Words and positions; every token is of type 0, whose row goes into the positions."""
    words = checkpoint.take("embeddings.word_embeddings.weight", shape.vocabulary, shape.width)
    positions = checkpoint.take("embeddings.position_embeddings.weight", TILE, shape.width)
    types = checkpoint.take("embeddings.token_type_embeddings.weight", None, shape.width)
    table = graph.weight("positions.table", positions + types[0])
    rows = graph.op(
        "Slice", table, graph.integers(0), graph.length(), graph.integers(0), label="positions"
    )
    x = graph.op("Add", graph.embed(words, "words"), rows, label="embeddings")
    norm = checkpoint.norm("embeddings.LayerNorm", shape.width)
    return graph.norm(x, norm, shape.epsilon, "embeddings.norm")


def projections(graph, checkpoint, shape, x, at, names):
    """Queries, keys or values of layer `at`, as heads."""
    found = []
    for name in names:
        layer = checkpoint.linear(
            f"encoder.layer.{at}.attention.self.{name}", shape.width, shape.width
        )
        rows = graph.linear(x, layer, f"{at}.{name}")
        found.append(graph.heads(rows, shape.heads, f"{at}.{name}"))
    return found


def encoder_layer(graph, checkpoint, shape, x, at):
    """Post-norm: each part is added, then normed."""
    name, width = f"encoder.layer.{at}", shape.width
    q, k, v = projections(graph, checkpoint, shape, x, at, ("query", "key", "value"))
    mixed = graph.attention(q, k, v, 1 / math.sqrt(width // shape.heads), f"{at}.attention")
    dense = checkpoint.linear(f"{name}.attention.output.dense", width, width)
    mixed = graph.linear(mixed, dense, f"{at}.attention.output")
    x = graph.op("Add", mixed, x, label=f"{at}.attention.added")
    norm = checkpoint.norm(f"{name}.attention.output.LayerNorm", width)
    x = graph.norm(x, norm, shape.epsilon, f"{at}.attention.norm")
    up = checkpoint.linear(f"{name}.intermediate.dense", width, shape.hidden)
    down = checkpoint.linear(f"{name}.output.dense", shape.hidden, width)
    hidden = graph.gelu(graph.linear(x, up, f"{at}.up"), f"{at}.gelu")
    x = graph.op("Add", graph.linear(hidden, down, f"{at}.down"), x, label=f"{at}.added")
    return graph.norm(
        x, checkpoint.norm(f"{name}.output.LayerNorm", width), shape.epsilon, f"{at}.norm"
    )


def encoder(graph, checkpoint, shape, layers):
    x = embedding(graph, checkpoint, shape)
    for at in range(layers):
        x = encoder_layer(graph, checkpoint, shape, x, at)
    return x


def pooled(graph, checkpoint, shape, x):
    pooler = checkpoint.linear("pooler.dense", shape.width, shape.width)
    dense = graph.linear(graph.first(x, "first_row"), pooler, "pooler")
    return graph.op("Tanh", dense, label="pooled")


def masked_tokens(graph, checkpoint, shape, x):
    """The head of masked tokens. Its bias counts once, as in transformers; the authors' own code
    adds it twice.
    """
    name = "cls.predictions"
    transform = checkpoint.linear(f"{name}.transform.dense", shape.width, shape.width)
    x = graph.gelu(graph.linear(x, transform, "transform"), "transform.gelu")
    norm = checkpoint.norm(f"{name}.transform.LayerNorm", shape.width)
    x = graph.norm(x, norm, shape.epsilon, "transform.norm")
    # The decoder is the table of words; some files hold it only once.
    tied = f"{name}.decoder.weight"
    tied = tied if tied in checkpoint else "embeddings.word_embeddings.weight"
    weight = checkpoint.take(tied, shape.vocabulary, shape.width)
    bias = checkpoint.take(f"{name}.bias", shape.vocabulary)
    return graph.linear(x, (weight, bias), "decoder")


def head_of(checkpoint, asked):
    """The head that a checkpoint has, unless another is asked for."""
    if asked:
        return asked
    if "classifier.weight" in checkpoint:
        return "classifier"
    for other in ("rnn.weight_ih_l0", "classifier1.weight"):
        if other in checkpoint:
            raise Misfit(
                f"{checkpoint.path}: {other}: the heads of model types dnalong and dnalongcat are"
                " not converted; --head pooled leaves them out"
            )
    return "tokens" if "cls.predictions.bias" in checkpoint else "pooled"


def labels_of(arguments, checkpoint, count):
    """The labels' names, in the order of the classifier's rows."""
    labels = arguments.labels.split(",") if arguments.labels else LABELS.get(arguments.task)
    labels = labels or [f"c{i}" for i in range(count)]
    if len(labels) != count:
        raise Misfit(
            f"{checkpoint.path}: classifier.weight has {count} rows, expected {len(labels)} for"
            f" task {arguments.task} ({', '.join(labels)})"
        )
    if len(set(labels)) < len(labels):
        raise Misfit(f"--labels {arguments.labels}: a label twice")
    return labels


def scores(graph, checkpoint, shape, arguments, x):
    """The output, its columns and whether every token has them."""
    head = head_of(checkpoint, arguments.head)
    task = arguments.task
    if task != "raw" and head != "classifier":
        # Says which tensor is missing.
        checkpoint.shape("classifier.weight")
        raise Misfit(f"--head {head} is for --task raw")
    if head == "tokens":
        output = masked_tokens(graph, checkpoint, shape, x)
        meaning = "logit of the token, were it masked"
        columns = [column(f"t{i}", meaning, "identity") for i in range(shape.vocabulary)]
        return output, columns, True
    x = pooled(graph, checkpoint, shape, x)
    if head == "pooled":
        meaning = "element of the pooled vector"
        return x, [column(f"h{i}", meaning, "identity") for i in range(shape.width)], False
    classifier = checkpoint.linear("classifier", shape.width, None)
    labels = labels_of(arguments, checkpoint, len(classifier[1]))
    if task == "raw":
        columns = [column(name, f"logit of label {name}", "identity") for name in labels]
        return graph.linear(x, classifier, "classifier"), columns, False
    if task == "splice":
        wanted = ("acceptor", "donor")
        if not set(wanted) < set(labels):
            raise Misfit(f"--labels {arguments.labels}: no acceptor or no donor")
    else:
        wanted = labels[1:]
    layers = probabilities(classifier, [labels.index(name) for name in wanted])
    for at, (weight, bias, function) in enumerate(layers):
        dense = graph.linear(x, (weight, bias), f"classifier.{at}")
        x = graph.op(function, dense, label=f"classifier.{at}.{function.lower()}")
    columns = []
    for name in wanted:
        kind, meaning = COLUMNS[name if task == "splice" else LABELS[task][1]]
        # A raw model makes no calls.
        kind = None if arguments.ids else kind
        columns.append(column(name, meaning, "probability", kind))
    return x, columns, False


def attention_of_first(graph, checkpoint, shape):
    """What the last layer's [CLS] gives to each token, summed over the heads: [1, T, 1]."""
    x = encoder(graph, checkpoint, shape, shape.layers - 1)
    at = shape.layers - 1
    (q,) = projections(
        graph,
        checkpoint,
        shape,
        graph.op(
            "Slice", x, graph.integers(0), graph.integers(1), graph.integers(1), label="first_row"
        ),
        at,
        ("query",),
    )
    (k,) = projections(graph, checkpoint, shape, x, at, ("key",))
    transposed = graph.op("Transpose", q, label="first_query", perm=[0, 1, 3, 2])
    product = graph.op("MatMul", k, transposed, label="product")
    scale = graph.scalar(1 / math.sqrt(shape.width // shape.heads))
    logits = graph.op("Mul", product, scale, label="scores")
    shares = graph.op("Softmax", logits, label="shares", axis=2)
    return graph.op("ReduceSum", shares, graph.integers(1), label="attention", keepdims=0)


def column(name, meaning, link, kind=None):
    found = {"name": name, "kind": kind, "meaning": meaning, "link": link}
    if link == "probability":
        found["threshold"] = 0.5
    return {key: value for key, value in found.items() if value is not None}


def manifest(shape, arguments, task, columns, suffix):
    description = DESCRIPTIONS.get(task, columns[0]["meaning"])
    window = {}
    if arguments.window and not arguments.ids:
        window = {"window": {"shortest": shape.k, "longest": arguments.window}}
    return {
        "name": (arguments.name or f"dnabert-{shape.k}-{arguments.task}") + suffix,
        "version": "0.1.0",
        "task": "raw" if arguments.ids else task,
        "description": f"DNABERT, {shape.k}-mers: {description}",
        "alphabet": "ACGT",
        "tokeniser": "ids" if arguments.ids else f"dnabert-{shape.k}",
        "stride": 1,
        "tile": TILE,
        "context": {"left": 0, "right": 0},
        "licence": "unknown",
        "training": {
            "data": "unknown",
            "split": "unknown",
            "recipe": "converted by models/convert/dnabert.py",
        },
        **window,
        "outputs": columns,
    }


def convert(arguments):
    checkpoint = Checkpoint(arguments.checkpoint, ("module.", "bert."))
    shape = Shape(checkpoint)
    graph = Graph("dnabert")
    x = encoder(graph, checkpoint, shape, shape.layers)
    output, columns, rows = scores(graph, checkpoint, shape, arguments, x)
    models = [
        (
            "model",
            graph.model(output, len(columns), rows),
            "manifest.toml",
            manifest(shape, arguments, arguments.task, columns, ""),
        )
    ]
    if arguments.attention:
        graph = Graph("dnabert_attention")
        output = attention_of_first(graph, checkpoint, shape)
        meaning = "attention of [CLS] in the last layer, summed over the heads"
        columns = [column("attention", meaning, "identity")]
        models.append(
            (
                "attention",
                graph.model(output, 1, True),
                "attention.toml",
                manifest(shape, arguments, "raw", columns, "-attention"),
            )
        )
    print(f"DNABERT, {shape.k}-mers, {shape.layers} layers of {shape.width}, {shape.heads} heads")
    write(arguments.out, models)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--out", required=True, help="folder for model.onnx and manifest.toml")
    parser.add_argument("--task", choices=(*LABELS, "raw"), default="raw")
    parser.add_argument("--window", type=int, help="bases that it was fine-tuned on")
    parser.add_argument("--labels", help="names, with commas: acceptor,donor,none for splice")
    parser.add_argument("--head", choices=("classifier", "tokens", "pooled"))
    parser.add_argument("--attention", action="store_true")
    parser.add_argument("--ids", action="store_true", help="a raw model of ids the caller makes")
    parser.add_argument("--name", help="the model's name")
    run(convert, parser)


if __name__ == "__main__":
    main()
