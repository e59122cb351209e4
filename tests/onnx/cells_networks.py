"""Small networks of scGPT's architecture with random weights, and what the published pass gives.

What: for each head `tests/data/cells/scgpt/HEAD.onnx`, `.toml` and `.genes.txt`, made by
  `models/convert/scgpt.py` of a checkpoint of 40 genes, and `HEAD.tsv`: a line a cell with its
  tokens as ID:VALUE:FLAG, a tab, and the outputs of `models/convert/scgpt_published.py`.
Why: `tests/scgpt.rs` packs the networks and compares, without Python.
How: pip install -r models/convert/requirements.txt
     python tests/onnx/cells_networks.py
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CONVERT = HERE.parents[1] / "models/convert"
sys.path.insert(0, str(CONVERT))

from scgpt_published import ScGpt, binned, cells, expected, random_weights  # noqa: E402
from test_scgpt import checkpoint  # noqa: E402

SIZES = (40, 32, 2, 24, 2)  # genes, width, heads, feed-forward, layers
HEADS = (
    ("embedding", "plain"),
    ("annotation", "plain"),
    ("expression", "plain"),
    ("perturbation", "affine"),
)


def main():
    out = HERE.parent / "data/cells/scgpt"
    out.mkdir(exist_ok=True)
    cls = SIZES[0] - 2
    for head, kind in HEADS:
        model = random_weights(ScGpt(SIZES, kind=kind, types=5, norm="bn", flags=True), 3)
        flags = head == "perturbation"
        first = (None, 0.0) if flags else (cls, 0.0 if head == "annotation" else -2.0)
        batch = cells((20, 30, 9, 1, 25, 14), SIZES[0], 4, first, flags)
        if not flags:
            batch = binned(batch)
        with tempfile.TemporaryDirectory() as folder:
            source = checkpoint(Path(folder) / "source", model.state_dict(), SIZES)
            command = [sys.executable, CONVERT / "scgpt.py", source, "-o", out / head]
            subprocess.run([*command, "--head", head, "--tokens", "32"], check=True)
        lines = []
        for cell, row in zip(batch, expected(model, head, batch)):
            own = cell.flags or [0] * len(cell.genes)
            tokens = (f"{g}:{v}:{f}" for g, v, f in zip(cell.genes, cell.values, own))
            outputs = (f"{x:.7g}" for x in row.reshape(-1).tolist())
            lines.append(" ".join(tokens) + "\t" + " ".join(outputs) + "\n")
        (out / f"{head}.tsv").write_text("".join(lines))


if __name__ == "__main__":
    main()
