"""Turns a recipe's TASK.json into the manifest (TOML) that `strandline pack` takes.

    python manifest.py splice TASK.json -o splice.toml
"""

import argparse
import json

# Sites over GT (donor) and AG (acceptor) dinucleotides, sense strand of the 422 chr1 genes of the kit.
SPLICE_BASE_RATES = {"acceptor": 0.00312, "donor": 0.00403}

COMMON = {
    "alphabet": "ACGT",
    "tokeniser": "one-hot",
    "stride": 1,
    "licence": "MIT OR Apache-2.0",
}


def splice(report):
    kinds = {
        "acceptor": "probability that the base is the first of an exon",
        "donor": "probability that the base is the last of an exon",
    }
    figures = {}
    for name in report["outputs"]:
        for key, value in report["figures"]["int8"][name].items():
            figures[f"held_out_{name}_{key}"] = value
        for key in ("precision", "recall"):
            figures[f"held_out_{name}_{key}_at_threshold"] = report["calibration"][name][key]
    return {
        "name": "splice-fast",
        "task": "splice",
        "description": "Splice sites of human genes, every base, fully convolutional",
        "context": report["receptive_field"],
        "tile": 8192,
        "training": {
            "data": "422 human chr1 genes (hg19, GENCODE labels) with soft labels of OpenSpliceAI-MANE "
            "10,000-nt networks, and windows re-joined from them labelled by the 2,000-nt network; "
            "the teachers' licence (GPL-3) covers the teachers, not these weights",
            "split": report["split"],
            "recipe": "models/train/splice.py",
        },
        "outputs": [
            {
                "name": name,
                "kind": name,
                "meaning": kinds[name],
                "link": "logit",
                "threshold": report["calibration"][name]["threshold"],
                "separation": 4,
                "base_rate": SPLICE_BASE_RATES[name],
                "calibration": report["calibration"][name]["knots"],
            }
            for name in report["outputs"]
        ],
        # Windows of 400 nt with the site in the middle, as in GUE: acceptor at 200, donor at 199.
        "whole": {"length": 400, "index": [{"acceptor": 200, "donor": 199}[n] for n in report["outputs"]]},
        "figures": figures,
    }


def promoter(report):
    figures = {f"gue_core_{k}_mcc": v for k, v in report["figures"]["int8"]["mcc_dev"].items()}
    calls = report["figures"]["int8"]["calls_per_mb_strand"]
    figures["false_calls_per_mb_and_strand_held_out_genes"] = calls["test_genes"]
    figures["false_calls_per_mb_and_strand_chr9"] = calls["chr9_beyond_1kb_of_gene_starts"]
    figures["recall_at_threshold_gue_core_bare"] = report["figures"]["int8"]["recall_dev_positives_bare"]["all"]
    context = "recall_true_context_all_within_50"
    figures["recall_at_threshold_gue_in_context_within_50"] = report["figures"]["int8"][context]
    window = report.get("window_calibration", {}).get("knots")
    if window is None:
        middle = report["window_threshold_raw_logit"]
        window = [[middle - 10, -10], [middle + 10, 10]]
    return {
        "name": "promoter-core",
        "task": "promoter",
        "description": "Transcription start sites from core-promoter context, every base",
        "context": report["receptive_field"],
        "tile": 8192,
        "training": {
            "data": "GUE core promoters (EPDnew) and interiors of human chr1 genes (hg19), both strands",
            "split": report["split"],
            "recipe": "models/train/promoter.py",
        },
        "outputs": [
            {
                "name": "promoter",
                "kind": "promoter",
                "meaning": "probability that transcription starts at the base",
                "link": "logit",
                "threshold": report["threshold"],
                "separation": report["merge_nt"],
                "base_rate": 1e-5,
                "calibration": report["calibration"]["knots"],
            }
        ],
        # A GUE core window has its start site at index 34; there 0.5 is the decision threshold.
        "whole": {"length": 70, "index": [34], "calibration": window},
        "figures": figures,
    }


def expression(report):
    return {
        "name": "expression-mrl",
        "task": "expression",
        "description": "Mean ribosome load of a 5'UTR of 25 to 100 nt, from its last bases",
        "context": {"left": 0, "right": 0},
        "tile": 102,
        "sequence": {"shortest": 25, "longest": 100, "multiple": 3},
        "training": {
            "data": "polysome profiling of 50-nt 5'UTRs, random and human (Sample et al. 2019)",
            "split": report["split"],
            "recipe": "models/train/expression.py",
        },
        "outputs": [
            {
                "name": "mean_ribosome_load",
                "kind": "expression",
                "meaning": "mean ribosome load, in ribosomes a transcript, as in the random library",
                "link": "identity",
            }
        ],
        "figures": {
            "held_out_random_r2": report["r2_random_test"]["int8"],
            "held_out_human_r2": report["r2_human_test"]["int8"],
        },
    }


def toml_value(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    return json.dumps(value)


def write_toml(manifest, out):
    tables = {k: v for k, v in manifest.items() if isinstance(v, dict)}
    arrays = {"outputs": manifest["outputs"]}
    for key, value in manifest.items():
        if key not in tables and key not in arrays:
            out.write(f"{key} = {toml_value(value)}\n")
    for key, table in tables.items():
        out.write(f"\n[{key}]\n")
        for name, value in table.items():
            out.write(f"{name} = {toml_value(value)}\n")
    for key, rows in arrays.items():
        for row in rows:
            out.write(f"\n[[{key}]]\n")
            for name, value in row.items():
                out.write(f"{name} = {toml_value(value)}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=["splice", "promoter", "expression"])
    parser.add_argument("report")
    parser.add_argument("--version", default="1.0.0")
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    with open(arguments.report) as file:
        report = json.load(file)
    manifest = {"splice": splice, "promoter": promoter, "expression": expression}[arguments.task](report)
    manifest = {"name": manifest.pop("name"), "version": arguments.version, **COMMON, **manifest}
    with open(arguments.output, "w") as out:
        write_toml(manifest, out)


if __name__ == "__main__":
    main()
