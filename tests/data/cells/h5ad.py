"""Writes the HDF5 files of tests/data/cells, and what they hold as text.

What: one small matrix of 12 cells and 9 genes as AnnData (dense, CSR, CSC, packed and not, layers,
  raw, columns of obs in every encoding), as anndata 0.7 laid it out, and as 10x Genomics lays it
  out; X.tsv, half.tsv, raw.tsv and obs.tsv hold the same numbers and columns.
Why: the program must read what the real writers write, not only what its own tests make.
How, some seconds:
    pip install anndata==0.12.19 h5py==3.16.0
    python tests/data/cells/h5ad.py tests/data/cells
  Numbers are of a fixed seed. Files of HDF5 may differ in bytes between releases of the library.
"""

import sys
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse

CELLS, GENES, RAW = 12, 9, 11
TEXT = h5py.string_dtype()


def frames():
    row = np.arange(CELLS)
    obs = pd.DataFrame(index=[f"cell{i}-é" for i in row])
    obs["label"] = pd.Categorical([["B", "T", "NK", None][i % 4] for i in row])
    obs["text"] = [f"t{i % 3}" for i in row]
    obs["batch"] = row % 3 - 1
    obs["score"] = np.where(row % 5 == 0, np.nan, row / 4)
    obs["flag"] = row % 2 == 0
    obs["whole"] = pd.array([None if i % 5 == 0 else int(i) for i in row], dtype="Int64")
    obs["maybe"] = pd.array([None if i % 5 == 0 else i % 2 == 0 for i in row], dtype="boolean")
    obs["named"] = pd.array([None if i % 5 == 0 else f"s{i}" for i in row], dtype="string")
    var = pd.DataFrame(index=[f"G{i}" for i in range(GENES)])
    var["gene_ids"] = [f"ENSG{i:05d}" for i in range(GENES)]
    kinds = ["Gene Expression"] * (GENES - 2) + ["Antibody Capture"] * 2
    var["feature_types"] = pd.Categorical(kinds)
    return obs, var


def annotated(matrix, x, half, raw):
    obs, var = frames()
    data = anndata.AnnData(X=matrix(x), obs=obs, var=var, layers={"half": matrix(half)})
    names = pd.DataFrame(index=[f"R{i}" for i in range(RAW)])
    data.raw = anndata.AnnData(X=matrix(raw), obs=obs[[]], var=names)
    return data


def compressed(group, x, **how):
    matrix = scipy.sparse.csr_matrix(x)
    for name in ("data", "indices", "indptr"):
        group.create_dataset(name, data=getattr(matrix, name), **how)


def old(path, x):
    """The layout of release 0.7: categories lie apart, and codes refer to them."""
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        group.attrs["encoding-type"] = "csr_matrix"
        group.attrs["shape"] = np.array(x.shape)
        compressed(group, x, maxshape=(None,), compression="gzip", shuffle=True, chunks=(7,))
        names = {"obs": [f"cell{i}-é" for i in range(CELLS)]}
        names["var"] = [f"G{i}" for i in range(GENES)]
        for frame, index in names.items():
            group = file.create_group(frame)
            group.attrs["encoding-type"] = "dataframe"
            group.attrs["_index"] = "index"
            fixed = np.array([name.encode() for name in index])
            group.create_dataset("index", data=fixed)
        obs = file["obs"]
        labels = obs.create_dataset("__categories/label", data=["B", "NK", "T"], dtype=TEXT)
        codes = np.array([[0, 2, 1, -1][i % 4] for i in range(CELLS)], dtype=np.int8)
        obs.create_dataset("label", data=codes).attrs["categories"] = labels.ref


def tenx(path, x):
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        compressed(group, x.astype(np.int32), compression="gzip", shuffle=True)
        group["shape"] = np.array([GENES, CELLS], dtype=np.int32)
        group["barcodes"] = np.array([f"cell{i}" for i in range(CELLS)], dtype="S18")
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:05d}" for i in range(GENES)], dtype="S")
        features["name"] = np.array([f"G{i}" for i in range(GENES)], dtype="S")
        features["feature_type"] = np.array(["Gene Expression"] * GENES, dtype="S")


def text(path, matrix, gene):
    frame = pd.DataFrame(matrix, index=[f"cell{i}-é" for i in range(CELLS)])
    frame.columns = [f"{gene}{i}" for i in range(matrix.shape[1])]
    frame.to_csv(path, sep="\t", index_label="cell")


def main():
    folder = Path(sys.argv[1])
    anndata.settings.allow_write_nullable_strings = True
    numbers = np.random.default_rng(19)
    x = numbers.poisson(0.7, (CELLS, GENES)).astype(np.float32)
    half = numbers.poisson(0.7, (CELLS, GENES)).astype(np.float32) / 2
    raw = numbers.poisson(0.7, (CELLS, RAW)).astype(np.float32)
    kinds = {"dense": np.asarray, "csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix}
    for name, matrix in kinds.items():
        data = annotated(matrix, x, half, raw)
        if name != "csr":
            # Columns take most of a file's bytes; one file has them.
            data.obs = data.obs[["label"]]
        data.write_h5ad(folder / f"{name}.h5ad", compression=None if name == "csr" else "gzip")
    old(folder / "release_0_7.h5ad", x)
    tenx(folder / "tenx.h5", x)
    text(folder / "X.tsv", x, "G")
    text(folder / "half.tsv", half, "G")
    text(folder / "raw.tsv", raw, "R")
    obs, _ = frames()
    obs.to_csv(folder / "obs.tsv", sep="\t", index_label="cell")


if __name__ == "__main__":
    main()
