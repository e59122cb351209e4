#!/usr/bin/env bash
# summarizedexperiment 0.8.0 (BiocPy) joins samples by the place of a gene, not by its name.
#
# Expected: relaxed_combine_columns gives the union of all rows, with placeholders where an object
# does not have one, as its documentation says, and as combineCols of R's package of the same name
# does. At the least an error where names of rows differ.
# Seen: matrices are put side by side as they are, and the genes of the first object name the rows.
# Genes in another order get each other's counts; genes that only the second object has disappear,
# and their counts stand under a name of the first. No error, no warning, as long as the numbers of
# genes are equal. combine_columns, for which the documentation asks for the same rows, does not
# look either. A way round: rows in one order before. The reader of this project goes by names.
#
# Needs Python 3.10 to 3.13 and a package index. Exit code 0: the package behaves as described here.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q summarizedexperiment==0.8.0 biocutils==0.5.0 biocframe==0.8.1 \
    genomicranges==0.9.0 numpy==2.2.6
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from biocutils import combine_columns, relaxed_combine_columns
from summarizedexperiment import SummarizedExperiment

assert version("summarizedexperiment") == "0.8.0"
print("summarizedexperiment", version("summarizedexperiment"))
counts = {"CD3D": 1, "CD19": 20, "LYZ": 300, "CD8A": 4000}


def sample(cell, genes):
    matrix = np.array([[counts[gene]] for gene in genes])
    return SummarizedExperiment({"counts": matrix}, row_names=genes, column_names=[cell])


def by_name(joined):
    names = list(joined.get_row_names())
    return dict(zip(names, np.asarray(joined.assay("counts"))[:, 1].tolist()))


first = sample("cell1", ["CD3D", "CD19", "LYZ"])
cases = [
    (["LYZ", "CD19", "CD3D"], {"CD3D": 300, "CD19": 20, "LYZ": 1}),
    (["CD8A", "CD3D", "CD19"], {"CD3D": 4000, "CD19": 1, "LYZ": 20}),
]
for genes, seen in cases:
    second = sample("cell2", genes)
    print("counts of cell2, expected:", {gene: counts[gene] for gene in genes})
    for join in [relaxed_combine_columns, combine_columns]:
        found = by_name(join(first, second))
        print(f"    seen, {join.__name__}: {found}")
        assert found == seen, "it has changed"
PYTHON
