"""Turns a checkpoint of scGPT into ONNX, a manifest for `pack` and the list of its genes.

    python models/convert/scgpt.py CHECKPOINT_DIR -o OUT [--head annotation]
    strandline pack OUT.onnx --manifest OUT.toml --calibrate CELLS -o M.safetensors

CHECKPOINT_DIR holds best_model.pt or model.pt, vocab.json (a token's id by its name) and args.json.
It writes OUT.onnx, OUT.toml and OUT.genes.txt, a token a line in the order of their ids.

| --head       | tensors                        | output                                     |
| embedding    | the backbone                   | the row of <cls>, not yet of length 1      |
| annotation   | cls_decoder                    | a logit for every type                     |
| expression   | decoder.fc                     | a value for every token                    |
| perturbation | pert_encoder, decoder          | coefficient and bias for every token:      |
|              |                                | the response is coefficient x value + bias |

Inputs are `genes`, `values` and, for perturbation, `flags` (1 for a perturbed gene), all [1, T].
Cells are scored one at a time, unpadded, so there is no mask of padding.

Layers and widths are those of the tensors, and args.json must agree; without it there are 51 bins,
1,200 tokens and heads of 64 columns. `--batch` is the index of a batch, for models with a batch
norm a batch (DSBN) and for decoders that read the batch.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from onnx import TensorProto

from network import Checkpoint, Graph, Misfit, run, write

NAMES = ("best_model.pt", "model.pt")

# FlashAttention's projections have other names, and newer code wraps them once more.
SPELLINGS = ((r"\._impl\.", "."), (r"\.Wqkv\.(weight|bias)$", r".in_proj_\1"))

HEAD_WIDTH = 64
EPSILON = 1e-5

# Of the batch norms between the sum of embeddings and the encoder.
BATCH_EPSILON = 6.1e-5

# Values are cut off here before they are encoded.
LARGEST_VALUE = 512.0

LEAKY_SLOPE = 0.01

# Counts a cell, before the logarithm.
COUNTS = 10_000.0

BINS, TOKENS = 51, 1200
MOST_TOKENS = 1 << 20

# A cell's own token, and its value: that of padding in pretraining and embedding, 0 in fine-tuning.
CLS = "<cls>"
PADDING_VALUE, FINE_TUNED_VALUE = -2.0, 0.0
# Which kind a token is, for decoders; and what stands before proteins in such a vocabulary.
MODALITIES, PROTEINS = "mod_encoder.embedding.weight", "p_"

# Task of the manifest, name of the output, and what the model does.
HEADS = {
    "embedding": ("cell-embedding", "embedding", "embedding of a cell"),
    "annotation": ("cell-type", "logits", "type of a cell"),
    "expression": ("cell-expression", "expression", "expression of each gene of a cell"),
    "perturbation": ("perturbation", "response", "expression after genes are perturbed"),
}

# What args.json may say of a network, and what of it is converted.
CONVERTED = {
    "input_emb_style": ("continuous",),
    "cell_emb_style": ("cls",),
    "pre_norm": (False,),
    "decoder_activation": (None,),
    "decoder_adaptive_bias": (False,),
    "input_style": ("binned", "log1p", "normed_raw"),
}


def once(pairs):
    """A JSON object; a key that comes twice is an error."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return found


def read_json(path, kinds):
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Misfit(f"{path}: no JSON: {error}") from None
    if not isinstance(found, kinds):
        raise Misfit(f"{path}: holds a {type(found).__name__}, expected an object")
    return found


class Settings:
    """args.json beside the tensors, if it is there."""

    def __init__(self, folder):
        self.path = folder / "args.json"
        self.values = read_json(self.path, dict) if self.path.is_file() else {}
        for key, expected in CONVERTED.items():
            value = self.values.get(key, expected[0])
            if value not in expected:
                words = " or ".join(map(json.dumps, expected))
                raise Misfit(f"{self.path}: {key} is {json.dumps(value)}, converted is {words}")

    def whole(self, default, least, most, *keys):
        """A whole number by the first of the keys that is there."""
        key = next((key for key in keys if key in self.values), None)
        if key is None:
            return default
        value = self.values[key]
        if type(value) is not int or not least <= value <= most:
            raise Misfit(
                f"{self.path}: {key} is {json.dumps(value)}, expected a whole number from {least}"
                f" to {most}"
            )
        return value


def names_in_order(path, found, what):
    """Names by their ids, 0 and up without a gap: a list, or an object of ids by name or of names
    by id.
    """
    if isinstance(found, list):
        names = found
    else:
        if all(isinstance(value, str) for value in found.values()):
            pairs = [(key, name) for key, name in found.items()]
        else:
            pairs = [(at, name) for name, at in found.items()]
        by_id = {}
        for at, name in pairs:
            if not str(at).isascii() or not str(at).isdigit():
                raise Misfit(f"{path}: {what} {name!r} has the id {at!r}, expected a whole number")
            if int(at) in by_id:
                raise Misfit(f"{path}: {what}s {by_id[int(at)]!r} and {name!r} have the id {at}")
            by_id[int(at)] = name
        missing = next((at for at in range(len(by_id)) if at not in by_id), None)
        if missing is not None:
            raise Misfit(f"{path}: no {what} has the id {missing}, of {len(by_id)}")
        names = [by_id[at] for at in range(len(by_id))]
    seen = set()
    for at, name in enumerate(names):
        if not isinstance(name, str) or not name or not name.isprintable():
            raise Misfit(f"{path}: {what} {at} is {name!r}, expected a line of text")
        if name in seen:
            raise Misfit(f"{path}: {what} {name!r} stands there twice")
        seen.add(name)
    return names


def vocabulary(folder, rows):
    """Names of tokens, in the order of the table's rows."""
    path = folder / "vocab.json"
    if not path.is_file():
        raise Misfit(f"{path}: no such file: it names the rows of encoder.embedding.weight")
    found = read_json(path, (dict, list))
    # As torchtext keeps it.
    for key in ("itos", "stoi", "vocab"):
        if isinstance(found, dict) and isinstance(found.get(key), (dict, list)):
            found = found[key]
    names = names_in_order(path, found, "token")
    if len(names) != rows:
        raise Misfit(
            f"{path}: has {len(names)} tokens, but encoder.embedding.weight has {rows} rows: the"
            " vocabulary of another checkpoint numbers genes otherwise"
        )
    return names


class Shape:
    """Sizes, by the tensors; what args.json says must agree."""

    def __init__(self, checkpoint, settings, heads):
        table = "encoder.embedding.weight"
        if len(checkpoint.shape(table)) != 2:
            checkpoint.take(table, None, None)
        self.rows, self.width = checkpoint.shape(table)
        self.layers = checkpoint.layers("transformer_encoder.layers.N")
        first = "transformer_encoder.layers.0.linear1.weight"
        self.hidden = len(checkpoint.take(first, None, self.width))
        usual = max(self.width // HEAD_WIDTH, 1)
        self.heads = heads or settings.whole(usual, 1, self.width, "nheads", "nhead")
        if self.heads < 1 or self.width % self.heads:
            raise Misfit(f"{checkpoint.path}: width {self.width} with {self.heads} heads (--heads)")
        for key, value in {
            "embsize": self.width,
            "d_hid": self.hidden,
            "nlayers": self.layers,
        }.items():
            if settings.values.get(key, value) != value:
                raise Misfit(
                    f"{settings.path}: {key} is {json.dumps(settings.values[key])}, by the tensors"
                    f" it is {value}"
                )


# The network.


def encoded_values(graph, checkpoint, shape):
    """Numbers as rows."""
    name, width = "value_encoder", shape.width
    if f"{name}.embedding.weight" in checkpoint:
        raise Misfit(
            f"{checkpoint.path}: {name}.embedding.weight: a table of bins is not converted, only"
            " values that are continuous"
        )
    x = graph.op("Min", "values", graph.scalar(LARGEST_VALUE), label="value.clamped")
    x = graph.op("Unsqueeze", x, graph.integers(2), label="value.column")
    x = graph.linear(x, checkpoint.linear(f"{name}.linear1", 1, width), "value.first")
    x = graph.op("Relu", x, label="value.relu")
    x = graph.linear(x, checkpoint.linear(f"{name}.linear2", width, width), "value.second")
    return graph.norm(x, checkpoint.norm(f"{name}.norm", width), EPSILON, "value.norm")


def batch_norm(checkpoint, shape, batch, left_out):
    """Factor and summand of a channel, of the one batch norm or of that of a batch; None where
    there is neither. With running figures it is an affine map.
    """
    if any(name.startswith("dsbn.") for name in checkpoint.tensors):
        name = f"dsbn.bns.{chosen(checkpoint, batch, checkpoint.layers('dsbn.bns.N'))}"
    elif "bn.running_mean" in checkpoint and not left_out:
        name = "bn"
    else:
        return None
    mean = checkpoint.take(f"{name}.running_mean", shape.width).astype(np.float64)
    variance = checkpoint.take(f"{name}.running_var", shape.width).astype(np.float64)
    if variance.min() < 0:
        raise Misfit(f"{checkpoint.path}: {name}.running_var holds a variance below 0")
    gain, shift = np.ones(shape.width), np.zeros(shape.width)
    # DSBN has none.
    if f"{name}.weight" in checkpoint:
        gain, shift = checkpoint.norm(name, shape.width)
    factor = gain / np.sqrt(variance + BATCH_EPSILON)
    return factor, shift - mean * factor


def chosen(checkpoint, batch, count):
    """The index of a batch, where one must be named."""
    if batch is None:
        raise Misfit(f"{checkpoint.path}: has {count} batches: name one, --batch 0 to {count - 1}")
    if not 0 <= batch < count:
        raise Misfit(f"{checkpoint.path}: --batch {batch}: there are 0 to {count - 1}")
    return batch


def embedding(graph, checkpoint, shape, arguments):
    """Gene and value, and the flag; the set has no order, so there are no positions."""
    width = shape.width
    table = checkpoint.take("encoder.embedding.weight", shape.rows, width)
    norm = checkpoint.norm("encoder.enc_norm", width)
    genes = graph.norm(graph.embed(table, "gene"), norm, EPSILON, "gene.norm")
    x = graph.op("Add", genes, encoded_values(graph, checkpoint, shape), label="embedded")
    if arguments.head == "perturbation":
        table = checkpoint.take("pert_encoder.weight", None, width)
        x = graph.op("Add", x, graph.embed(table, "flag", "flags"), label="flagged")
    affine = batch_norm(checkpoint, shape, arguments.batch, arguments.without_bn)
    if affine is None:
        return x
    factor, summand = affine
    x = graph.op("Mul", x, graph.weight("batch_norm.factor", factor), label="batch_norm.product")
    return graph.op("Add", x, graph.weight("batch_norm.summand", summand), label="batch_norm")


def encoder_layer(graph, checkpoint, shape, x, at):
    """Post-norm: each part is added, then normed."""
    name, width = f"transformer_encoder.layers.{at}", shape.width
    weight = checkpoint.take(f"{name}.self_attn.in_proj_weight", 3 * width, width)
    bias = checkpoint.take(f"{name}.self_attn.in_proj_bias", 3 * width)
    heads = []
    for part, w, b in zip(("query", "key", "value"), np.split(weight, 3), np.split(bias, 3)):
        rows = graph.linear(x, (w, b), f"{at}.{part}")
        heads.append(graph.heads(rows, shape.heads, f"{at}.{part}"))
    mixed = graph.attention(*heads, 1 / math.sqrt(width // shape.heads), f"{at}.attention")
    dense = checkpoint.linear(f"{name}.self_attn.out_proj", width, width)
    mixed = graph.linear(mixed, dense, f"{at}.attention.output")
    x = graph.op("Add", mixed, x, label=f"{at}.attention.added")
    x = graph.norm(x, checkpoint.norm(f"{name}.norm1", width), EPSILON, f"{at}.attention.norm")
    up = checkpoint.linear(f"{name}.linear1", width, shape.hidden)
    down = checkpoint.linear(f"{name}.linear2", shape.hidden, width)
    hidden = graph.op("Relu", graph.linear(x, up, f"{at}.up"), label=f"{at}.relu")
    x = graph.op("Add", graph.linear(hidden, down, f"{at}.down"), x, label=f"{at}.added")
    return graph.norm(x, checkpoint.norm(f"{name}.norm2", width), EPSILON, f"{at}.norm")


def annotation(graph, checkpoint, shape, x):
    """Linear, ReLU and norm, as often as the tensors say, and a logit for every type."""
    name, width = "cls_decoder", shape.width
    if f"{name}.cls_token_matrix" in checkpoint:
        raise Misfit(
            f"{checkpoint.path}: {name}.cls_token_matrix: a decoder by likeness is not converted"
        )
    x, at = graph.first(x, "first_row"), 0
    while f"{name}._decoder.{3 * at}.weight" in checkpoint:
        dense = checkpoint.linear(f"{name}._decoder.{3 * at}", width, width)
        x = graph.op("Relu", graph.linear(x, dense, f"cls.{at}"), label=f"cls.{at}.relu")
        norm = checkpoint.norm(f"{name}._decoder.{3 * at + 2}", width)
        x = graph.norm(x, norm, EPSILON, f"cls.{at}.norm")
        at += 1
    last = checkpoint.linear(f"{name}.out_layer", width, None)
    return graph.linear(x, last, "cls.out", "logits"), len(last[1])


def batch_row(checkpoint, shape, batch):
    """What decoders read of a batch."""
    table = checkpoint.take("batch_encoder.embedding.weight", None, shape.width)
    row = table[chosen(checkpoint, batch, len(table))].astype(np.float64)
    gain, shift = checkpoint.norm("batch_encoder.enc_norm", shape.width)
    return (row - row.mean()) / np.sqrt(row.var() + EPSILON) * gain + shift


def decoder(graph, checkpoint, shape, x, name, label, batch):
    """The hidden rows of three layers, and the last layer."""
    width, first = shape.width, checkpoint.shape(f"{name}.fc.0.weight")
    if MODALITIES in checkpoint:
        raise Misfit(f"{checkpoint.path}: {name}: a decoder that reads modalities is not converted")
    weight, bias = checkpoint.linear(
        f"{name}.fc.0", 2 * width if first == (width, 2 * width) else width, width
    )
    if weight.shape[1] > width:
        # The batch's part is the same for all tokens.
        bias = bias + weight[:, width:] @ batch_row(checkpoint, shape, batch)
        weight = weight[:, :width]
    for at, layer in (
        (0, (weight, bias)),
        (2, checkpoint.linear(f"{name}.fc.2", width, width)),
    ):
        dense = graph.linear(x, layer, f"{label}.{at}")
        x = graph.op("LeakyRelu", dense, label=f"{label}.{at}.relu", alpha=LEAKY_SLOPE)
    return x, checkpoint.linear(f"{name}.fc.4", width, 1)


def column_of_two(layer, at):
    """A layer of one output as column `at` of two; the other is 0."""
    weight, bias = layer
    both, shift = np.zeros((2, weight.shape[1]), np.float32), np.zeros(2, np.float32)
    both[at], shift[at] = weight[0], bias[0]
    return both, shift


def response(graph, checkpoint, shape, x, batch):
    """Coefficient and bias; older decoders give the value itself, which is a bias."""
    zero = next((name for name in checkpoint.tensors if ".zero_logit." in name), None)
    if zero and zero.startswith("decoder."):
        raise Misfit(f"{checkpoint.path}: {zero}: a decoder that draws zeros is not converted")
    if "decoder.fc.0.weight" in checkpoint:
        rows, last = decoder(graph, checkpoint, shape, x, "decoder", "decoder", batch)
        return graph.linear(rows, column_of_two(last, 1), "decoder.4", "response")
    parts = []
    for at, part in enumerate(("coeff", "bias")):
        name = f"decoder.{part}_decoder"
        rows, last = decoder(graph, checkpoint, shape, x, name, part, batch)
        parts.append(graph.linear(rows, column_of_two(last, at), f"{part}.4"))
    return graph.op("Add", *parts, label="response")


def types_of(arguments, settings, folder, count):
    """Names of the types, in the order of the logits."""
    if arguments.types:
        path = Path(arguments.types)
        if path.suffix == ".json":
            found = read_json(path, (dict, list))
        else:
            try:
                found = path.read_text(encoding="utf-8").splitlines()
            except UnicodeDecodeError as error:
                raise Misfit(f"{path}: no text in UTF-8: byte {error.start}") from None
    elif isinstance(settings.values.get("id2type"), (dict, list)):
        path, found = settings.path, settings.values["id2type"]
    elif (folder / "id2type.json").is_file():
        path = folder / "id2type.json"
        found = read_json(path, (dict, list))
    else:
        return [f"class_{at}" for at in range(count)]
    names = names_in_order(path, found, "type")
    if len(names) != count:
        raise Misfit(f"{path}: {len(names)} types, but cls_decoder.out_layer has {count} rows")
    return names


def column(name, meaning):
    return {"name": name, "meaning": meaning, "link": "identity"}


def network(checkpoint, shape, settings, arguments):
    """The graph and the columns of its output."""
    others = [("values", TensorProto.FLOAT)]
    if arguments.head == "perturbation":
        others.append(("flags", TensorProto.INT64))
    graph = Graph("scgpt", "genes", others)
    x = embedding(graph, checkpoint, shape, arguments)
    for at in range(shape.layers):
        x = encoder_layer(graph, checkpoint, shape, x, at)
    rows = arguments.head in ("expression", "perturbation")
    if arguments.head == "embedding":
        x = graph.first(x, "embedding")
        meaning = "element of the cell's vector, before its length is 1"
        columns = [column(f"h{at}", meaning) for at in range(shape.width)]
    elif arguments.head == "annotation":
        x, count = annotation(graph, checkpoint, shape, x)
        names = types_of(arguments, settings, checkpoint.path.parent, count)
        columns = [column(name, f"logit of type {name}") for name in names]
    elif arguments.head == "expression":
        hidden, last = decoder(graph, checkpoint, shape, x, "decoder", "decoder", arguments.batch)
        x = graph.linear(hidden, last, "decoder.4", "expression")
        columns = [column("expression", "the gene's value, on the scale of the input")]
    else:
        x = response(graph, checkpoint, shape, x, arguments.batch)
        columns = [
            column("coefficient", "factor of the gene's value before the perturbation"),
            column("bias", "summand of the gene's value after it"),
        ]
    return graph.model(x, len(columns), rows), columns


# The files.


def cells_table(checkpoint, settings, arguments, genes):
    """How a profile becomes tokens, as in the published code of the head."""
    style = settings.values.get("input_style", "binned")
    integrated = any(name.startswith("dsbn.") for name in checkpoint.tensors)
    modal = MODALITIES in checkpoint
    found = {"genes": genes}
    if arguments.head == "perturbation":
        found |= {"normalise": COUNTS, "log1p": True, "zeros": True}
    else:
        fine_tuned = arguments.head == "annotation" or integrated or modal
        found |= {
            "cls": CLS,
            "cls_value": FINE_TUNED_VALUE if fine_tuned else PADDING_VALUE,
            "normalise": COUNTS,
            "log1p": style != "normed_raw",
        }
        if style == "binned":
            # Bin 0 is for zeros, and one edge makes no bin.
            found["bins"] = settings.whole(BINS, 3, 1 << 15, "n_bins")
            if modal:
                found["proteins"] = PROTEINS
        found["zeros"] = integrated and arguments.head != "annotation"
    if arguments.cls_value is not None and "cls" in found:
        found["cls_value"] = arguments.cls_value
    if arguments.zeros is not None:
        found["zeros"] = arguments.zeros
    return found


def manifest(arguments, settings, columns, cells):
    task, _, description = HEADS[arguments.head]
    tokens = arguments.tokens or settings.whole(TOKENS, 2, MOST_TOKENS, "max_seq_len")
    return {
        "name": arguments.name or f"scgpt-{arguments.head}",
        "version": "0.1.0",
        "task": task,
        "description": f"scGPT: {description}",
        "alphabet": "",
        "tokeniser": "genes",
        "stride": 1,
        "tile": tokens,
        "context": {"left": 0, "right": 0},
        "licence": "unknown",
        "training": {
            "data": "unknown",
            "split": "unknown",
            "recipe": "converted by models/convert/scgpt.py",
        },
        "cells": cells,
        "outputs": columns,
    }


def check_options(checkpoint, arguments):
    """Options that would do nothing."""
    batches = ("dsbn.", "batch_encoder.")
    if arguments.batch is not None and not any(x.startswith(batches) for x in checkpoint.tensors):
        raise Misfit(f"{checkpoint.path}: --batch {arguments.batch}: no tensor dsbn.bns.0.*")
    if arguments.tokens is not None and not 2 <= arguments.tokens <= MOST_TOKENS:
        raise Misfit(f"--tokens {arguments.tokens}: 2 to {MOST_TOKENS}")
    if arguments.cls_value is not None and not math.isfinite(arguments.cls_value):
        raise Misfit(f"--cls-value {arguments.cls_value}: is not finite")
    if arguments.types and arguments.head != "annotation":
        raise Misfit("--types is for --head annotation")


def convert(arguments):
    out = Path(arguments.out)
    out = out.with_suffix("") if out.suffix == ".onnx" else out
    if not out.name:
        raise Misfit(f"-o {arguments.out}: names no file")
    checkpoint = Checkpoint(arguments.checkpoint, ("module.", "_impl."), NAMES, SPELLINGS)
    folder = checkpoint.path.parent
    check_options(checkpoint, arguments)
    settings = Settings(folder)
    shape = Shape(checkpoint, settings, arguments.heads)
    names = vocabulary(folder, shape.rows)
    if arguments.head != "perturbation" and CLS not in names:
        raise Misfit(f"{folder / 'vocab.json'}: no token {CLS}")
    model, columns = network(checkpoint, shape, settings, arguments)
    genes = f"{out.name}.genes.txt"
    cells = cells_table(checkpoint, settings, arguments, genes)
    written = manifest(arguments, settings, columns, cells)
    print(
        f"scGPT, {shape.rows} tokens, {shape.layers} layers of {shape.width}, {shape.heads} heads"
    )
    if "bn.running_mean" in checkpoint and not arguments.without_bn:
        print("with the batch norm bn.*, which newer code of scGPT leaves out (--without-bn)")
    text = "".join(f"{name}\n" for name in names)
    write(out.parent, [(out.name, model, f"{out.name}.toml", written)], {genes: text})


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint")
    parser.add_argument("-o", "--out", required=True, help="path of the files, without an ending")
    parser.add_argument("--head", choices=HEADS, default="embedding")
    parser.add_argument("--batch", type=int, help="index of the batch, from 0")
    parser.add_argument("--types", help="names in the logits' order: a line each, or JSON")
    parser.add_argument("--tokens", type=int, help="tokens of a cell [default: max_seq_len]")
    parser.add_argument("--heads", type=int, help="heads of attention [default: nheads]")
    parser.add_argument("--cls-value", type=float, help="value of <cls> [default: by the head]")
    parser.add_argument(
        "--zeros",
        action=argparse.BooleanOptionalAction,
        help="tokens for genes without counts, too [default: by the head]",
    )
    parser.add_argument("--without-bn", action="store_true", help="leave the batch norm bn.* out")
    parser.add_argument("--name", help="the model's name")
    run(convert, parser)


if __name__ == "__main__":
    main()
