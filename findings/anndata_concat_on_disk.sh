#!/usr/bin/env bash
# anndata 0.12.19: concat_on_disk keeps the number type of the first file, and ruins what does not
# fit.
#
# Expected: what its documentation says, that the file is equivalent to what anndata.concat makes
# of the same objects in memory, which takes a type that holds all values.
# Seen: with sparse matrices the values of every further file are squeezed into the type of the
# first. Counts as int32 first and counts corrected for ambient RNA as float32 second: 2.7 becomes
# 2, and 0.8 becomes 0, so that a gene is lost from the cell. Counts as uint8 first and int32
# second: 1000 becomes 255 in an .h5ad, and 232 in a .zarr. No error, no warning, and all is well
# if the files are given in the other order. 0.13.4 does the same. Layers are written by the same
# code. A way round: bring all files to float32 before. A log-normalised file that was cut to whole
# numbers looks like one of counts to any program that reads it.
#
# Needs Python 3.11 to 3.13 and a package index. Exit code 0: anndata behaves as described here.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q anndata==0.12.19 zarr==3.1.6 h5py==3.16.0 \
    numpy==2.4.6 scipy==1.17.1 pandas==2.3.3
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import anndata
import numpy as np
from anndata.experimental import concat_on_disk
from scipy.sparse import csr_matrix

folder = sys.argv[1]
warnings.filterwarnings("ignore", "Writing zarr v2")  # about the format only
assert version("anndata") == "0.12.19"
print("anndata", version("anndata"))


def sample(cell, values, kind):
    matrix = csr_matrix(np.array([values], kind))
    genes = {"var_names": ["CD3D", "LYZ", "NKG7"]}
    return anndata.AnnData(matrix, obs={"obs_names": [cell]}, var=genes)


def joined(samples, ending):
    paths = [f"{folder}/{one.obs_names[0]}.{ending}" for one in samples]
    for one, path in zip(samples, paths):
        getattr(one, f"write_{ending}")(path)
    out = f"{folder}/{'_'.join(one.obs_names[0] for one in samples)}.{ending}"
    concat_on_disk(paths, out)
    on_disk = getattr(anndata, f"read_{ending}")(out)
    return on_disk.X.toarray(), anndata.concat(samples).X.toarray()


counts = sample("counts", [1, 0, 4], "int32")
corrected = sample("corrected", [0.8, 2.7, 0], "float32")
small = sample("small", [1, 0, 4], "uint8")
large = sample("large", [0, 1000, 3], "int32")
cases = [
    ([counts, corrected], "h5ad", [0, 2, 0]),
    ([counts, corrected], "zarr", [0, 2, 0]),
    ([small, large], "h5ad", [0, 255, 3]),
    ([small, large], "zarr", [0, 232, 3]),
]
for samples, ending, seen in cases:
    disk, memory = joined(samples, ending)
    second = samples[1].X.toarray()[0]
    line = ", ".join(f"{one.obs_names[0]} ({one.X.dtype})" for one in samples)
    print(f"{ending}, {line}: second cell {second}")
    print(f"    expected, as in memory {memory[1].astype(second.dtype)}; seen, on disk {disk[1]}")
    assert np.array_equal(memory[1].astype(second.dtype), second)
    assert np.array_equal(disk[1], seen), "it has changed"

disk, memory = joined([corrected, counts], "h5ad")
print(f"h5ad, the other order: {disk.tolist()}")
assert np.array_equal(disk, memory.astype("float32"))
PYTHON
