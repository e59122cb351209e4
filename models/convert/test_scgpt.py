"""The tests of scgpt.py, which test_convert.py runs: checkpoints of random weights under the
published names are converted and run in ONNX Runtime, cell by cell and unpadded, and compared with
the published forward pass of a padded batch, scgpt_published.py.

`network` and `faults` need no strandline; `packed` does.
"""

import json
import math
import time
import tomllib

import numpy as np
import onnx
import onnxruntime
import torch

from scgpt_published import ScGpt, binned, cells, expected, feed, random_weights

# Largest differences; the small networks must show a wrong epsilon.
NEAR, SMALL_NEAR = 1e-4, 1e-5

# Of a packed network: largest differences, and the least cosine of a cell's outputs in int8.
PACKED_NEAR = {"f32": 1e-4, "fp16": 2e-2}
COSINE = 0.99

# The published sizes: rows of the table, width, heads, hidden width, layers.
FULL = (60_697, 512, 8, 512, 12)
SMALL = (200, 64, 4, 48, 2)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


# Checkpoints.


def tokens(rows):
    return [*(f"GENE{at}" for at in range(rows - 3)), "<pad>", "<cls>", "<eoc>"]


def arguments_of(sizes, **more):
    rows, width, heads, hidden, layers = sizes
    return {
        "embsize": width,
        "nheads": heads,
        "d_hid": hidden,
        "nlayers": layers,
        "n_bins": 51,
        "max_seq_len": 1200,
        "pad_value": -2,
        "mask_value": -1,
        "mask_ratio": [0.25, 0.5, 0.75],
        "input_emb_style": "continuous",
        "input_style": "binned",
        "no_cls": True,
        "MVC": True,
    } | more


def checkpoint(folder, tensors, sizes, name="best_model.pt", vocabulary=None, settings=None):
    folder.mkdir(parents=True)
    torch.save(tensors, folder / name)
    if vocabulary is None:
        vocabulary = {token: at for at, token in enumerate(tokens(sizes[0]))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "args.json").write_text(json.dumps(settings or arguments_of(sizes)))
    return folder


def flash_names(tensors):
    """As FlashAttention's layers are called, within newer wrappers and DataParallel."""
    found = {}
    for name, x in tensors.items():
        name = name.replace(".in_proj_weight", ".Wqkv.weight")
        name = name.replace(".in_proj_bias", ".Wqkv.bias")
        found["module." + name.replace(".self_attn.", ".self_attn._impl.")] = x
    return found


# The tests.


def compare(bench, what, out, head, model, batches, batch=0, near=NEAR):
    """ONNX Runtime, one cell at a time, with the published pass of padded batches."""
    onnx.checker.check_model(f"{out}.onnx", full_check=True)
    run = session(f"{out}.onnx")
    names = [x.name for x in run.get_inputs()]
    wanted = ["genes", "values", *(["flags"] if head == "perturbation" else [])]
    output = {"annotation": "logits", "perturbation": "response"}.get(head, head)
    found = [x.name for x in run.get_outputs()]
    bench.expect((names, found) == (wanted, [output]), f"{what}: inputs {names}, outputs {found}")
    largest, size, lengths = 0.0, 0.0, []
    for cells_of_batch in batches:
        for cell, row in zip(cells_of_batch, expected(model, head, cells_of_batch, batch)):
            (own,) = run.run(None, feed(cell))
            if own.shape != row.shape:
                return bench.expect(False, f"{what}: {own.shape}, expected {row.shape}")
            largest = max(largest, float(np.abs(own - row).max()))
            size = max(size, float(np.abs(row).max()))
            lengths.append(len(cell.genes))
    bench.expect(
        largest <= near and size > 0.05,
        f"{what}: largest difference {largest:.2e} of {size:.2f}, cells of {lengths} tokens",
    )
    return None


def manifest_holds(bench, what, out, **wanted):
    """Keys of the manifest, and of its table `cells`."""
    found = tomllib.loads(open(f"{out}.toml").read())
    cells_table = found["cells"]
    names = [x["name"] for x in found["outputs"]]
    has = {**found, **cells_table, "names": names}
    wrong = {key: has.get(key) for key, value in wanted.items() if has.get(key) != value}
    fixed = (found["alphabet"], found["tokeniser"], cells_table["genes"])
    holds = not wrong and fixed == ("", "genes", f"{out.name}.genes.txt")
    bench.expect(holds, f"{what}: manifest, {wrong or ', '.join(wanted)}")


def network(bench):
    small(bench)
    full(bench)


def small(bench):
    folder, rows, cls = bench.folder / "scgpt", SMALL[0], SMALL[0] - 2
    pretrained = cells((40, 3, 17), rows, 1, (cls, -2.0))
    fine_tuned = cells((40, 25, 5), rows, 2, (cls, 0.0))
    perturbed = cells((40, 40, 12), rows, 3, flags=True)
    every = {
        "embedding": pretrained,
        "annotation": fine_tuned,
        "expression": pretrained,
        "perturbation": perturbed,
    }
    named = [f"type {at}" for at in range(7)]
    bin_keys = {"normalise": 10_000.0, "log1p": True, "bins": 51, "tile": 1200}

    def case(what, head, model, *options, batch=0, keys=None, **files):
        name = what.replace(" ", "-").replace(",", "")
        source = checkpoint(folder / f"{name}-checkpoint", model.state_dict(), SMALL, **files)
        for path, text in (("id2type.json", dict(enumerate(named))),):
            (source / path).write_text(json.dumps(text))
        out = folder / name
        bench.converted("scgpt", source, "-o", out, "--head", head, *options)
        compare(bench, what, out, head, model, [every[head]], batch, SMALL_NEAR)
        manifest_holds(bench, what, out, **(keys or {}))
        return out

    print("scGPT, 2 layers of 64")
    plain = random_weights(ScGpt(SMALL, types=7), 1)
    out = case(
        "embedding",
        "embedding",
        plain,
        keys={
            "task": "cell-embedding",
            "cls": "<cls>",
            "cls_value": -2.0,
            "zeros": False,
            "names": [f"h{at}" for at in range(64)],
            **bin_keys,
        },
    )
    lines = (folder / "embedding.genes.txt").read_text().split("\n")
    bench.expect(lines == [*tokens(rows), ""], f"{out.name}.genes.txt: {len(lines) - 1} tokens")
    keys = {"task": "cell-type", "cls_value": 0.0, "zeros": False, "names": named, **bin_keys}
    case("annotation", "annotation", plain, keys=keys)
    one = random_weights(ScGpt(SMALL, types=5, cls_layers=1), 2)
    types = folder / "types.txt"
    types.write_text("B\nCD4 T\nCD8 T\nNK\nDC\n")
    keys = {"names": ["B", "CD4 T", "CD8 T", "NK", "DC"], "tile": 3001}
    options = ("--types", types, "--tokens", 3001)
    case("annotation of one layer", "annotation", one, *options, keys=keys, name="model.pt")
    keys = {"task": "cell-expression", "cls_value": -2.0, "zeros": False, "names": ["expression"]}
    case("expression", "expression", plain, keys=keys)

    older = random_weights(ScGpt(SMALL, norm="bn"), 3)
    case("batch norm of older files", "embedding", older, keys={"cls_value": -2.0})
    integrated = random_weights(ScGpt(SMALL, kind="batch", norm="dsbn"), 4)
    keys = {"cls_value": 0.0, "zeros": True}
    for batch in (0, 2):
        option = ("--batch", batch)
        what = f"batch {batch} of three"
        case(f"embedding, {what}", "embedding", integrated, *option, batch=batch, keys=keys)
        case(f"expression, {what}", "expression", integrated, *option, batch=batch, keys=keys)

    keys = {"task": "perturbation", "zeros": True, "names": ["coefficient", "bias"], "log1p": True}
    keys |= {"cls": None, "cls_value": None, "bins": None}
    affine = random_weights(ScGpt(SMALL, kind="affine", norm="bn", flags=True), 5)
    case("perturbation", "perturbation", affine, keys=keys)
    older = random_weights(ScGpt(SMALL, norm="bn", flags=True), 6)
    case("perturbation, older decoder", "perturbation", older, keys=keys)

    # The same network in other spellings, types of values and layouts.
    spelt = {"state_dict": flash_names(plain.state_dict())}
    order = tokens(rows)
    for what, tensors, words in (
        ("flash names", spelt, None),
        ("torchtext, a list", plain.state_dict(), {"itos": order}),
        ("torchtext, an object", plain.state_dict(), {"stoi": {x: i for i, x in enumerate(order)}}),
    ):
        source = checkpoint(folder / f"{what}-checkpoint", tensors, SMALL, vocabulary=words)
        bench.converted("scgpt", source, "-o", folder / what / "embedding")
        same = all(
            (folder / f"embedding{end}").read_bytes()
            == (folder / what / f"embedding{end}").read_bytes()
            for end in (".onnx", ".genes.txt", ".toml")
        )
        bench.expect(same, f"{what}: the same three files")


def full_checkpoint(bench, model):
    """In both spellings."""
    folder = bench.folder / "scgpt-full"
    if not folder.is_dir():
        checkpoint(folder / "published", model.state_dict(), FULL)
        checkpoint(folder / "flash", flash_names(model.state_dict()), FULL)
    return folder


def full(bench):
    print("scGPT, 60,697 tokens, 12 layers of 512")
    model = random_weights(ScGpt(FULL, types=9), 7)
    folder = full_checkpoint(bench, model)
    for name in ("published", "flash"):
        start = time.perf_counter()
        bench.converted("scgpt", folder / name, "-o", folder / f"{name}-model")
        print(f"         {name}: converted in {time.perf_counter() - start:.1f} s")
    files = [folder / f"{name}-model.onnx" for name in ("published", "flash")]
    same = files[0].read_bytes() == files[1].read_bytes()
    size = files[0].stat().st_size / 1e6
    bench.expect(same, f"both spellings give the same {size:.0f} MB")
    batches = [cells(x, FULL[0], 11, (FULL[0] - 2, -2.0)) for x in ((300, 180), (1200, 700))]
    out = folder / "published-model"
    compare(bench, "embedding of full size", out, "embedding", model, batches)
    bench.converted("scgpt", folder / "flash", "-o", folder / "types", "--head", "annotation")
    batches = [cells((300, 180), FULL[0], 12, (FULL[0] - 2, 0.0))]
    compare(bench, "annotation of full size", folder / "types", "annotation", model, batches)


def faults(bench):
    print("Checkpoints of scGPT that do not fit")
    folder, model = bench.folder / "scgpt-faults", random_weights(ScGpt(SMALL, types=7), 1)
    tensors, number = model.state_dict(), iter(range(100))

    def refused(what, says, *options, put=None, drop=(), **files):
        changed = {**tensors, **(put or {})}
        for name in drop:
            del changed[name]
        source = checkpoint(folder / f"{next(number)}", changed, SMALL, **files)
        refused_folder(what, says, source, *options)

    def refused_folder(what, says, source, *options):
        done = bench.convert("scgpt", source, "-o", folder / "out/model", *options)
        text = done.stderr.strip().replace(str(folder), "")
        one = done.returncode == 1 and len(text.split("\n")) == 1
        left = (folder / "out").exists()
        bench.expect(one and says in text and not left, f"{what}: {text}")

    layer = "transformer_encoder.layers.1"
    lost = f"{layer}.self_attn.in_proj_bias"
    refused("a tensor is missing", f"no tensor {lost}", drop=[lost])
    gap = [x for x in tensors if x.startswith("transformer_encoder.layers.0.")]
    refused("a layer is missing", "no tensor transformer_encoder.layers.0.*", drop=gap)
    wide = {f"{layer}.linear2.weight": torch.zeros(64, 64)}
    refused("a wrong shape", "linear2.weight is [64, 64], expected [64, 48]", put=wide)
    spoilt = {"value_encoder.norm.bias": torch.full((64,), math.nan)}
    refused("not finite", "value_encoder.norm.bias holds values that are not finite", put=spoilt)
    scalar = {"encoder.embedding.weight": torch.zeros(200)}
    refused("no table", "encoder.embedding.weight is [200], expected [any, any]", put=scalar)
    categories = {"value_encoder.embedding.weight": torch.zeros(53, 64)}
    refused("a table of bins", "a table of bins is not converted", put=categories)
    headless = [x for x in tensors if x.startswith("cls_decoder.out_layer")]
    says = "no tensor cls_decoder.out_layer.weight"
    refused("no annotation", says, "--head", "annotation", drop=headless)
    likeness = {"cls_decoder.cls_token_matrix": torch.zeros(7, 2048)}
    refused("another decoder", "by likeness", "--head", "annotation", put=likeness)
    refused("no flags", "no tensor pert_encoder.weight", "--head", "perturbation")
    flags = {"pert_encoder.weight": torch.zeros(3, 64), "decoder.zero_logit.0.bias": torch.ones(1)}
    refused("drawn zeros", "draws zeros", "--head", "perturbation", put=flags)
    running = {f"dsbn.bns.{at}.running_mean": torch.zeros(64) for at in (0, 1)}
    refused("which batch", "has 2 batches: name one, --batch 0 to 1", put=running)
    refused("no such batch", "--batch 2: there are 0 to 1", "--batch", 2, put=running)
    refused("no batches", "no tensor dsbn.bns.0.*", "--batch", 0)
    variance = {"bn.running_mean": torch.zeros(64), "bn.running_var": torch.full((64,), -1.0)}
    refused("a variance below 0", "bn.running_var holds a variance below 0", put=variance)
    modal = {"mod_encoder.embedding.weight": torch.zeros(2, 64)}
    refused("modalities", "reads modalities", "--head", "expression", put=modal)
    source = checkpoint(folder / f"{next(number)}", tensors | modal, SMALL)
    bench.convert("scgpt", source, "-o", folder / "modal/model")
    table = (folder / "modal/model.toml").read_text()
    known = all(line in table for line in ('proteins = "p_"', "cls_value = 0.0", "zeros = false"))
    bench.expect(known, "proteins of a model of several modalities are tokens")
    for key, value, says in (
        ("nlayers", 12, "nlayers is 12, by the tensors it is 2"),
        ("embsize", 512, "embsize is 512, by the tensors it is 64"),
        ("nheads", 5, "width 64 with 5 heads"),
        ("nheads", "4", 'nheads is "4", expected a whole number from 1 to 64'),
        ("n_bins", 2, "n_bins is 2, expected a whole number from 3"),
        ("input_emb_style", "category", 'converted is "continuous"'),
        ("cell_emb_style", "avg-pool", 'converted is "cls"'),
        ("pre_norm", True, "pre_norm is true, converted is false"),
    ):
        refused(f"{key} {value}", says, settings=arguments_of(SMALL, **{key: value}))
    words = {token: at for at, token in enumerate(tokens(200))}
    without = {("CLS" if token == "<cls>" else token): at for token, at in words.items()}
    for what, says, vocabulary in (
        ("a shorter vocabulary", "has 199 tokens, but encoder.embedding.weight has 200", "<eoc>"),
        ("a gap", "no token has the id 5, of 199", "GENE5"),
        ("an id twice", "tokens 'GENE4' and 'GENE5' have the id 4", words | {"GENE5": 4}),
        ("an id that is none", "'GENE5' has the id -1", words | {"GENE5": -1}),
        ("a name that is none", "expected a line of text", {**without, "CLS": 199, "a\tb": 198}),
        ("no <cls>", "no token <cls>", without),
        ("no object", "holds a int, expected an object", 5),
    ):
        if isinstance(vocabulary, str):
            vocabulary = {token: at for token, at in words.items() if token != vocabulary}
        if what == "a name that is none":
            del vocabulary["<eoc>"]
        refused(what, says, vocabulary=vocabulary)
    types = folder / "types.txt"
    types.write_text("B\nT\n")
    says = "2 types, but cls_decoder.out_layer has 7 rows"
    refused("two types of seven", says, "--head", "annotation", "--types", types)
    types.write_bytes(b"B\nT\xff\n")
    refused("types that are no text", "byte 3", "--head", "annotation", "--types", types)
    types.write_text("B\n" * 7)
    refused("a type twice", "type 'B' stands there twice", "--head", "annotation", "--types", types)
    refused("types of no types", "--types is for --head annotation", "--types", types)
    refused("tokens", "--tokens 1: 2 to", "--tokens", 1)
    source = checkpoint(folder / "words", tensors, SMALL)
    (source / "vocab.json").unlink()
    refused_folder("no vocabulary", "vocab.json: no such file", source)
    (source / "vocab.json").write_text('{"A": 0, "A": 1}')
    refused_folder("a token twice", "'A' stands there twice", source)
    (source / "vocab.json").write_text('{"A": 0')
    refused_folder("a vocabulary that is cut", "vocab.json: no JSON", source)
    (source / "best_model.pt").write_bytes((source / "best_model.pt").read_bytes()[:5000])
    refused_folder("tensors that are cut", "no file of tensors alone", source)
    (source / "best_model.pt").unlink()
    refused_folder("no tensors", "holds none of best_model.pt, model.pt", source)
    refused_folder("no folder", "no such file or folder", folder / "none")


# The packed network.


def written(folder, name, batch):
    """A file of cells as the program reads them: a line a cell, tokens as ID:VALUE:FLAG."""
    path, lines = folder / f"{name}.tokens.txt", []
    for cell in batch:
        flags = cell.flags or [0] * len(cell.genes)
        tokens = zip(cell.genes, cell.values, flags)
        lines.append(" ".join(":".join(map(str, token)) for token in tokens) + "\n")
    path.write_text("".join(lines))
    return path


def packed_outputs(bench, out, precision, batch, sample):
    """Of the packed network, an array for each cell."""
    packed_file, output = bench.folder / f"{out.name}.{precision}", bench.folder / "output.txt"
    _, used = bench.program(
        "pack",
        f"{out}.onnx",
        "--manifest",
        f"{out}.toml",
        "--precision",
        precision,
        "--calibrate",
        written(bench.folder, "sample", sample),
        "--budget",
        "900s,4GB",
        # Cells of random weights hardly differ, and rounding is a part of what they differ by.
        *(["--allow-difference", "0.95"] if precision == "int8" else []),
        "-o",
        packed_file,
    )
    print(f"         packed to {packed_file.stat().st_size / 1e6:.1f} MB in {used}")
    tokens = written(bench.folder, "cells", batch)
    bench.program("bench-model", packed_file, "--input", tokens, "--output", output)
    blocks = output.read_text().strip("\n").split("\n\n")
    return [np.array([line.split() for line in b.split("\n")], np.float64) for b in blocks]


def check_packed(bench, what, out, head, model, batch, sample):
    rows = [x.reshape(-1, x.shape[-1]) for x in expected(model, head, batch)]
    for precision in ("f32", "fp16", "int8"):
        found = packed_outputs(bench, out, precision, batch, sample)
        if [x.shape for x in found] != [x.shape for x in rows]:
            bench.expect(False, f"{what} {precision}: shapes {[x.shape for x in found][:3]}")
            continue
        largest = max(float(np.abs(a - b).max()) for a, b in zip(found, rows))
        lowest = min(
            float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))
            for a, b in zip(found, rows)
        )
        holds = lowest >= COSINE if precision == "int8" else largest <= PACKED_NEAR[precision]
        text = f"largest difference {largest:.2e}, lowest cosine of a cell {lowest:.6f}"
        bench.expect(holds, f"{what} {precision}: {text}")


def packed(bench):
    print("scGPT, packed")
    folder, cls = bench.folder / "scgpt-packed", SMALL[0] - 2
    settings = {"types": 7, "norm": "bn", "flags": True}
    for head, kind in (
        ("embedding", "plain"),
        ("annotation", "plain"),
        ("expression", "plain"),
        ("perturbation", "affine"),
    ):
        model = random_weights(ScGpt(SMALL, kind=kind, **settings), 21)
        source = checkpoint(folder / f"{head}-checkpoint", model.state_dict(), SMALL)
        bench.converted("scgpt", source, "-o", folder / head, "--head", head)
        flags = head == "perturbation"
        first = (None, 0.0) if flags else (cls, 0.0 if head == "annotation" else -2.0)
        batch, sample = (cells((40, 60, 25), SMALL[0], x, first, flags) for x in (22, 23))
        if not flags:
            batch, sample = binned(batch), binned(sample)
        check_packed(bench, head, folder / head, head, model, batch, sample)
    model = random_weights(ScGpt(FULL, types=9), 7)
    source = full_checkpoint(bench, model)
    out = source / "packed-model"
    bench.converted("scgpt", source / "published", "-o", out)
    lengths = (300, 700, 1200)
    batch, sample = (binned(cells(lengths, FULL[0], x, (FULL[0] - 2, -2.0))) for x in (24, 25))
    check_packed(bench, "embedding of full size", out, "embedding", model, batch, sample)
