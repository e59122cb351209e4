"""What other means make of the cells that `cell_types.py` is measured on.

What: logistic regression on the genes that pbmc3k shares with each set, for several C, trained on
  the same pbmc3k cells; and actinn_jax 0.3.1 with the reference in its wheel, as it comes.
Why: a network replaces them only where it is better.
How: rows of log1p values, as they are and of equal length (`unit`). The best C of each set is
  chosen on that set, which favours the regression. actinn_jax's 324 names become pbmc3k's nine by
  the words in them (`NAMES`); symbols become Ensembl ids by a table of GENCODE, which is
  `celltypist/data/samples/GENCODEv44_Gene_id2name.csv` in the wheel of celltypist 1.7.1.

    pip install -r requirements.txt
    python cell_types_peers.py --data DIR --pbmc68k FILE --gencode GENCODEv44_Gene_id2name.csv \
        --out peers.json

2 minutes on one core. `cell_types_report.py --peers peers.json` puts it into the report.
"""

import argparse
import csv
import json
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression

from cell_types import held_out, imitated, merged, scores
from cells_data import levels, read_citeseq, read_pbmc3k, read_pbmc68k

# The first whose word is in the name.
NAMES = (
    ("CD4", "CD4 T"),
    ("Treg", "CD4 T"),
    ("T reg", "CD4 T"),
    ("CD8", "CD8 T"),
    ("MAIT", "CD8 T"),
    ("gdT", "CD8 T"),
    ("gamma", "CD8 T"),
    ("NK", "NK"),
    ("Natural Killer", "NK"),
    ("CD16 Mono", "FCGR3A+ Mono"),
    ("Non-classical", "FCGR3A+ Mono"),
    ("Nonclassical", "FCGR3A+ Mono"),
    ("Classical", "CD14+ Mono"),
    ("CD14 Mono", "CD14+ Mono"),
    ("Mono", "CD14+ Mono"),
    ("DC", "DC"),
    ("Dendritic", "DC"),
    ("Megakaryo", "Platelet"),
    ("Platelet", "Platelet"),
    ("Plasma", "B"),
    ("B", "B"),
)


def regression(train, test):
    shared = [g for g in train.genes if g in set(test.genes)]
    own, seen = (levels(x.over(shared)[0], x.totals) for x in (train, test))
    found = {}
    for form in ("plain", "unit"):
        if form == "unit":
            own, seen = (
                15 * x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)
                for x in (own, seen)
            )
        for c in (0.003, 0.03, 0.3):
            # To its end: the figures of a fit that stopped halfway differ from machine to machine.
            model = LogisticRegression(C=c, max_iter=10_000, tol=1e-6).fit(own, train.labels)
            found[f"{form} C={c}"] = scores(merged(test.labels), merged(model.predict(seen)))
    best = max(found, key=lambda k: found[k]["accuracy"])
    table = {k: [v["accuracy"], v["macro_f1"]] for k, v in found.items()}
    return found[best] | {"best": best, "genes": len(shared), "all": table}


def actinn(test, ensembl):
    import actinn_jax
    import anndata
    import pandas as pd

    known = [i for i, g in enumerate(test.genes) if g in ensembl]
    names = pd.DataFrame(index=[ensembl[test.genes[i]] for i in known])
    counts = test.counts[:, known].tocsr()
    cells = anndata.AnnData(counts, var=names)
    cells = cells[:, ~cells.var_names.duplicated()].copy()
    model = actinn_jax.bundled_reference("panhuman_distill_v1")
    return model.predict(cells).obs["celltype"].astype(str).to_numpy()


def renamed(name):
    for word, kind in NAMES:
        if word.lower() in name.lower():
            return kind
    return name


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--data", required=True, help="the kit's folder of cells")
    p.add_argument("--pbmc68k", required=True, help="scanpy's 10x_pbmc68k_reduced.h5ad")
    p.add_argument("--gencode", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    warnings.simplefilter("ignore")
    with open(a.gencode) as file:
        ensembl = {symbol: number for number, symbol in csv.reader(file)}
    whole = read_pbmc3k(a.data)
    held = held_out(whole.names)
    train, own = whole.part(~held), whole.part(held)
    checks = {"held-out": own} | {f"imitated-{k}": imitated(own, k) for k in (1, 2, 3)}
    for name, cells in (("pbmc68k", read_pbmc68k(a.pbmc68k)), ("citeseq", read_citeseq(a.data))):
        checks[name] = cells.part(cells.labels != "")
    report = {}
    for name, cells in checks.items():
        report[name] = {"logistic regression": regression(train, cells)}
        try:
            raw = actinn(cells, ensembl)
            found = np.array([renamed(x) for x in raw])
            report[name]["actinn_jax"] = scores(merged(cells.labels), found)
            names, count = np.unique(raw, return_counts=True)
            report[name]["actinn_jax"]["names"] = {
                f"{names[i]} -> {renamed(names[i])}": int(count[i])
                for i in np.argsort(-count, kind="stable")[:30]
            }
        except (ValueError, ImportError) as error:
            report[name]["actinn_jax"] = {"error": str(error)}
        print(name, json.dumps(report[name]), flush=True)
    with open(a.out, "w") as out:
        json.dump(report, out, indent=1)


if __name__ == "__main__":
    main()
