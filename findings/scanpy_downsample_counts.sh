#!/usr/bin/env bash
# scanpy 1.11.5: downsample_counts takes counts from the wrong cells beyond 16.8 million of them.
#
# Expected: downsample_counts(total_counts=N) draws N of all counts, each as likely as any other, so
# that each cell keeps the same share, and none gets more than it had (replace=False). The type of
# the matrix does not matter, for whole numbers that it holds exactly.
# Seen: with float32, which is what scanpy's readers give, the running total of all counts is
# float32 too. It stands still at 2^24 = 16,777,216: from there on a gene with one count in a cell
# is never drawn, and others are drawn too often. Here 1,000 deep cells come first and 3,000 shallow
# ones after them. Of 1,000 counts a shallow cell should keep about 500, and keeps about 180; some
# genes have more counts than before, which no drawing without replacement can do. No error, no
# warning. With int64 it is right. 1.12.4 does the same. A way round: counts as int64 before.
#
# Needs Python 3.11 to 3.13 and a package index. Exit code 0: scanpy behaves as described here.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q scanpy==1.11.5 anndata==0.12.19 numba==0.68.1 \
    numpy==2.4.6 scipy==1.17.1 pandas==2.3.3
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import anndata
import numpy as np
import scanpy
from scipy.sparse import csr_matrix, vstack

assert version("scanpy") == "1.11.5"
print("scanpy", version("scanpy"))
draw, genes, deep, shallow, wanted = np.random.default_rng(1), 5000, 1000, 3000, 10_000_000
blocks = [
    csr_matrix(draw.poisson(mean, (500, genes)).astype("float32"))
    for mean in [3.4] * (deep // 500) + [0.2] * (shallow // 500)
]
counts = vstack(blocks, format="csr")
total = counts.sum(dtype="float64")
share = wanted / total
assert counts[:deep].sum(dtype="float64") > 2**24
print(f"{total:.0f} counts, {wanted} wanted: expected of each cell {share:.1%}")

kept, more = {}, {}
for kind in ["int64", "float32"]:
    cells = anndata.AnnData(counts.astype(kind))
    scanpy.pp.downsample_counts(cells, total_counts=wanted, replace=False)
    sums = np.asarray(cells.X.sum(axis=1, dtype="float64")).ravel()
    had = np.asarray(counts.sum(axis=1, dtype="float64")).ravel()
    assert sums.sum() == wanted
    kept[kind] = [sums[part].sum() / had[part].sum() for part in [slice(deep), slice(deep, None)]]
    more[kind] = int((cells.X > counts).sum())
    print(
        f"seen, {kind}: deep cells keep {kept[kind][0]:.1%}, shallow cells {kept[kind][1]:.1%}; "
        f"{more[kind]} values are greater than before"
    )
assert np.allclose(kept["int64"], share, rtol=0.01) and more["int64"] == 0
assert kept["float32"][1] < 0.5 * share and more["float32"] > 0, "it has changed"
PYTHON
