"""Turns a recipe's report into the manifest (TOML) that `strandline pack` takes.

python manifest.py splice splice_report.json -o ../splice.toml
python manifest.py promoter promoter_second_report.json -o ../promoter.toml
python manifest.py promoter-300 promoter_report.json -o ../promoter-300.toml
"""

import argparse
import json
import textwrap

# Sites over GT (donor) and AG (acceptor) dinucleotides, sense strand of the 422 chr1 genes of the
# kit.
SPLICE_BASE_RATES = {"acceptor": 0.00312, "donor": 0.00403}

WINDOW, TSS = 70, 34  # of GUE core windows

COMMON = {
    "alphabet": "ACGT",
    "tokeniser": "one-hot",
    "stride": 1,
    "licence": "MIT OR Apache-2.0",
}


def splice(report, raw=False):
    """`raw`: for a file whose scores are the network's outputs, which calibrations are fitted
    on.
    """
    meanings = {
        "acceptor": "probability that the base is the first of an exon",
        "donor": "probability that the base is the last of an exon",
    }
    result = {
        "name": "splice",
        "version": "2.0.0",
        "task": "splice",
        "description": "Splice sites of human genes, every base, fully convolutional, two tiers",
        "tile": 16384,
        "context": report["context"],
        "cascade": {key: report["cascade"][key] for key in ("columns", "context", "survive")},
        "training": {
            "data": (
                "422 human chr1 genes (hg19, GENCODE labels) with soft labels of OpenSpliceAI-MANE"
                " 10,000-nt networks, and windows re-joined from them labelled by the 2,000-nt"
                " network; the teachers' licence (GPL-3) covers the teachers, not these weights"
            ),
            "split": "by gene; held out: md5(symbol) mod 100 < 10",
            "recipe": "models/train/splice.py",
        },
        "outputs": [
            {
                "name": f"{tier}_{kind}" if raw else kind,
                "kind": kind,
                "meaning": meanings[kind],
                "link": "identity" if raw else "logit",
                "separation": 4,
                "base_rate": SPLICE_BASE_RATES[kind],
            }
            for tier in ("fast", "accurate")
            for kind in ("acceptor", "donor")
        ],
    }
    if raw:
        return result
    figures = {
        "cascade_arithmetic": report["cascade"]["checks"][-1]["arithmetic"],
        "cascade_calls_kept": report["cascade"]["checks"][-1]["kept"],
    }
    for output, column in zip(result["outputs"], report["columns"]):
        output["threshold"] = column["threshold"]
        output["calibration"] = column["knots"]
        output["short_context"] = [
            {"below": below, "calibration": knots} for below, knots in column["ends"]
        ]
        for key in ("top_k", "auprc", "precision", "recall"):
            figures[f"{column['tier']}_{column['kind']}_{key}"] = column[key]
        figures[f"{column['tier']}_{column['kind']}_ece"] = column["calibration"]["ece"]
    for tier in ("fast", "accurate"):
        figures[f"{tier}_gue_mcc"] = report["whole"][tier]["gue_dev_mcc"]
    # Windows of 400 nt with the site in the middle, as in GUE: acceptor at 200, donor at 199.
    result["whole"] = {
        "length": 400,
        "index": [200, 199, 200, 199],
        "calibration": report["whole"]["calibration"],
    }
    result["figures"] = figures
    return result


SPECIES = {
    "insect": "Drosophila melanogaster",
    "nematode": "Caenorhabditis elegans",
    "plant": "Arabidopsis thaliana",
}


def clade(report, raw=False):
    """A clade's splice model; `raw` as in `splice`."""
    whole = {"calibration": []} | {tier: {"gue_dev_mcc": 0.0} for tier in ("fast", "accurate")}
    cascade = report["cascade"]
    checks = [{"arithmetic": cascade.get("arithmetic", 0), "kept": cascade.get("kept", 0)}]
    result = splice(report | {"whole": whole, "cascade": cascade | {"checks": checks}}, raw)
    result.pop("whole", None)
    name = report["clade"]
    result |= {
        "name": f"splice-{name}",
        "version": "1.0.0",
        "description": f"Splice sites of {SPECIES[name]}, every base, two tiers",
        "training": {
            "data": (
                f"introns of 40 to 150 bases of {SPECIES[name]} with 50 bases of both exons"
                " (KorfLab datacore, MIT), joined to genes of random makeup, and annotated contigs"
            ),
            "split": "by place: models/train/clade_data.py",
            "recipe": "models/train/clades.py",
        },
    }
    for output in result["outputs"]:
        output["base_rate"] = report["base_rates"][output["kind"]]
    if not raw:
        for tier in ("fast", "accurate"):
            del result["figures"][f"{tier}_gue_mcc"]
    return result


PROMOTER_TRAINING = {
    "data": (
        "GUE core and 300-nt promoters (EPDnew), their negatives made anew, and interiors of human"
        " chr1 genes (hg19), both strands"
    ),
    "recipe": "models/train/promoter.py",
}


def promoter(report):
    """Of the report of promoter_second.py, which holds that of the first network."""
    first = report["first"]
    figures = {
        "cascade_share_looked_at_twice": report["share"],
        "cascade_calls_kept": report["kept"],
    }
    for tier, found, calls in (
        (
            "fast",
            first["figures"]["int8"],
            first["figures"]["int8"]["genes_calls_per_mb_strand"],
        ),
        ("accurate", report["figures"], report["figures"]["calls_per_mb_strand"]),
    ):
        for part in ("all", "notata", "tata"):
            figures[f"{tier}_gue_core_{part}_mcc"] = found["mcc_dev"][part]
        figures[f"{tier}_false_calls_per_mb_and_strand_held_out_genes"] = calls["test"]
        for by in (10, 50):
            figures[f"{tier}_recall_at_threshold_in_context_within_{by}"] = found[
                f"recall_true_context_within_{by}"
            ]
    output = {
        "name": "promoter",
        "kind": "promoter",
        "meaning": "probability that transcription starts at the base",
        "link": "logit",
        "separation": first["merge_nt"],
        "base_rate": 1e-5,
    }
    return {
        "name": "promoter",
        "version": "2.0.0",
        "task": "promoter",
        "description": (
            "Transcription start sites, every base, from core promoter and what lies upstream; the"
            " second tier reads 1,935 nt to either side"
        ),
        "context": report["receptive_field"],
        "cascade": {
            "columns": 1,
            "context": first["receptive_field"],
            "survive": [report["survive"]],
        },
        "tile": 16384,
        "training": {
            "data": PROMOTER_TRAINING["data"] + "; starts of the genes with what follows them",
            "recipe": "models/train/promoter.py, models/train/promoter_second.py",
            "split": first["split"],
        },
        "outputs": [
            output
            | {"threshold": first["threshold"], "calibration": first["calibration"]["knots"]},
            output | {"threshold": report["threshold"], "calibration": report["knots"]},
        ],
        # A GUE core window has its start site at index 34; half of the windows are promoters.
        "whole": {
            "length": WINDOW,
            "index": [TSS, TSS],
            "calibration": first["window_calibration"]["knots"],
        },
        "figures": figures,
    }


def promoter_300(report):
    return {
        "name": "promoter-300",
        "version": "1.1.0",
        "task": "promoter-300",
        "description": (
            "TATA promoters among 300-nt windows of which half are promoters; not for scanning"
        ),
        "context": report["receptive_field"],
        "tile": 8192,
        "training": PROMOTER_TRAINING | {"split": report["split"]},
        "outputs": [
            {
                "name": "promoter",
                "kind": "promoter",
                "meaning": (
                    "probability that transcription starts at the base, where it does at index 250"
                    " of every second window"
                ),
                "link": "logit",
                "threshold": 0.5,
                "separation": report["merge_nt"],
                "base_rate": 0.5,
                "calibration": [],
            }
        ],
        "whole": {
            "length": 300,
            "index": [250],
            "calibration": report["window_calibration"]["knots"],
        },
        "figures": {"gue_300_tata_mcc": report["figures"]["int8"]["mcc_dev"]["300_tata"]},
    }


def expression(report):
    return {
        "name": "expression-mrl",
        "version": "2.0.0",
        "task": "expression",
        "description": "Mean ribosome load of a 5'UTR of 10 to 200 nt, from its last bases",
        "context": {"left": 0, "right": 0},
        "tile": 201,
        "sequence": {"shortest": 10, "longest": 200, "multiple": 3},
        "training": {
            "data": (
                "polysome profiling of 50-nt 5'UTRs, random and human (Sample et al. 2019); a"
                " million made-up UTRs of 10 to 200 nt labelled by FramePool (Karollus et al."
                " 2021), whose licence (MIT) covers the teacher, not these weights"
            ),
            "split": report["split"],
            "recipe": "models/train/expression.py",
        },
        "outputs": [
            {
                "name": "mean_ribosome_load",
                "kind": "expression",
                "meaning": (
                    "mean ribosome load, in ribosomes a transcript, as in the random library"
                ),
                "link": "identity",
            }
        ],
        "figures": {
            "held_out_random_r2": report["r2_test"]["random16k"]["exported"],
            "held_out_human_r2": report["r2_test"]["human25k"]["exported"],
        },
    }


def te(report):
    cells = {"muscle": "muscle tissue", "pc3": "PC3 cells", "hek": "HEK293 cells"}
    figures = {
        f"held_out_genes_{c}_spearman": report["spearman_exported_held_out_genes"][c] for c in cells
    }
    figures |= {
        f"five_folds_by_gene_{c}_spearman": report["five_folds"]["gene"][c]["spearman"]
        for c in cells
    }
    return {
        "name": "translation-efficiency",
        "version": "0.1.0",
        "task": "te",
        "description": (
            "Experimental: logarithm of the translation efficiency of a 5'UTR of 30 to 200 nt in"
            " three cell types, from its last bases"
        ),
        "context": {"left": 0, "right": 0},
        "tile": 201,
        "sequence": {"shortest": 30, "longest": 200, "multiple": 3},
        "training": {
            "data": (
                "100-nt windows of human 5'UTRs, bare and between the vector's ends of 20 nt, with"
                " the TE of their transcripts (Cao et al. 2021)"
            ),
            "split": report["split"],
            "recipe": "models/train/te.py",
        },
        "outputs": [
            {
                "name": c,
                "meaning": f"natural logarithm of translation efficiency in {where}",
                "link": "identity",
            }
            for c, where in cells.items()
        ],
        "figures": figures,
    }


def promoter_strength(report):
    return {
        "name": "promoter-strength-ecoli",
        "version": "1.0.0",
        "task": "promoter-strength",
        "description": (
            "Transcription rate of an E. coli sigma-70 promoter of 40 to 150 nt, from its last"
            " bases"
        ),
        "context": {"left": 0, "right": 0},
        "tile": 150,
        "sequence": {"shortest": 40, "longest": 150, "multiple": 3},
        "training": {
            "data": (
                "E. coli promoters, designed (La Fleur et al. 2022) and of Urtecho et al. 2019,"
                " log(TX/Txref)"
            ),
            "split": report["split"],
            "recipe": "models/train/promoter_strength.py",
        },
        "outputs": [
            {
                "name": "log_rate",
                "kind": "promoter-strength",
                "meaning": (
                    "natural logarithm of the transcription rate over the reference promoter's, La"
                    " Fleur's units"
                ),
                "link": "identity",
            }
        ],
        "figures": {
            "held_out_lafleur_r2": report["r2_lafleur_bare"],
            "held_out_urtecho_r2": report["r2_urtecho_exported_output"],
        },
    }


GLUE = "\0"  # a blank at which lines are not broken: TOML keeps inline tables in one
WIDTH = 100


def tf(report):
    found = report["figures"]["int8"]
    figures = {}
    for k in range(5):
        figures[f"gue_tf{k}_dev_mcc"] = found["mcc_dev"][k]
        figures[f"gue_tf{k}_dev_auc"] = found["auc_dev"][k]
    figures["gue_dev_mean_mcc"] = found["mean_mcc_dev"]
    figures["gue_dev_mean_auc"] = found["mean_auc_dev"]
    calls = "false_calls_per_mb_and_strand_held_out_genes"
    for output in report["outputs"]:
        figures[f"{calls}_{output['name']}"] = output["calls_test_genes_per_mb_strand"]
        figures[f"recall_at_threshold_{output['name']}"] = output["recall_dev_at_threshold"]
    return {
        "name": "tf-binding",
        "version": "1.0.0",
        "task": "tf",
        "description": "Binding of five transcription factors to the 101 nt around every base",
        "tile": 8192,
        "context": report["receptive_field"],
        "training": {
            "data": "five ENCODE ChIP-seq sets of GUE (tf0 to tf4): 101 nt around peaks, and "
            "genomic windows of like GC content",
            "split": report["split"],
            "recipe": "models/train/tf.py",
        },
        "whole": {
            "length": 101,
            "index": [50] * 5,
            "calibration": report["window_calibration"]["knots"],
        },
        "figures": figures,
        "outputs": [
            {
                "name": output["name"],
                "kind": "tf",
                "meaning": f"probability that {output['name']} of GUE binds the 101 nt around the "
                "base, as one window of two does",
                "link": "logit",
                "threshold": round(output["threshold"], 6),
                "separation": report["merge_nt"],
                "base_rate": 0.5,
                "calibration": output["knots"],
            }
            for output in report["outputs"]
        ],
    }


def toml_value(value):
    if isinstance(value, dict):
        parts = f",{GLUE}".join(f"{k}{GLUE}={GLUE}{toml_value(v)}" for k, v in value.items())
        return f"{{{GLUE}{parts}{GLUE}}}"
    if isinstance(value, list):
        knot = len(value) == 2 and not isinstance(value[0], (dict, list))
        return "[" + (f",{GLUE}" if knot else ", ").join(toml_value(v) for v in value) + "]"
    return json.dumps(value)


def toml_line(key, value):
    """A key with its value, in several lines where one would be too long."""
    text = f"{key} = {toml_value(value)}"
    if len(text) > WIDTH and isinstance(value, str):
        parts = textwrap.wrap(json.dumps(value)[1:-1], WIDTH - 4, break_on_hyphens=False)
        text = f'{key} = """\\\n  ' + " \\\n  ".join(parts) + '"""'
    elif len(text) > WIDTH:
        parts = textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        text = "\n".join(parts)
    return text.replace(GLUE, " ") + "\n"


def write_toml(manifest, out):
    tables = {k: v for k, v in manifest.items() if isinstance(v, dict)}
    arrays = {"outputs": manifest["outputs"]}
    for key, value in manifest.items():
        if key not in tables and key not in arrays:
            out.write(toml_line(key, value))
    for key, table in tables.items():
        out.write(f"\n[{key}]\n")
        for name, value in table.items():
            out.write(toml_line(name, value))
    for key, rows in arrays.items():
        for row in rows:
            out.write(f"\n[[{key}]]\n")
            for name, value in row.items():
                out.write(toml_line(name, value))


def ires(report):
    figures = {
        f"auprc_{where}": report["figures"]["network"][key]
        for where, key in (("five_folds", "auprc"), ("held_out", "held_out"))
    }
    figures["auprc_five_folds_low"], figures["auprc_five_folds_high"] = report["figures"][
        "network"
    ]["interval_95"]
    figures["calibration_error_held_out"] = report["calibration"]["held_out"]["ece"]
    return {
        "name": "ires",
        "version": "1.0.0",
        "task": "ires",
        "tokeniser": "utr-lm",
        "description": (
            "Activity of 174 nt between two reporters, in the assay of internal ribosome entry"
            " sites; much of it is splicing"
        ),
        "context": {"left": 0, "right": 0},
        "tile": 176,
        "window": {"shortest": 120, "longest": 174},
        "training": {
            "data": (
                "174-nt windows with their activity (Weingarten-Gabbay et al. 2016, through"
                " DeepIRES), and windows of human genes and 5'UTRs labelled by the built-in splice"
                " network and by trees on its scores"
            ),
            "split": report["split"],
            "recipe": "models/train/ires.py",
        },
        "figures": figures,
        "outputs": [
            {
                "name": "ires",
                "meaning": (
                    "probability that the 174 nt are active in the assay, where one window of ten"
                    " is"
                ),
                "link": "logit",
                "threshold": 0.5,
                "base_rate": report["base_rate"],
                "calibration": report["calibration"]["knots"],
            }
        ],
    }


TASKS = {
    "ires": ires,
    "splice": splice,
    "promoter": promoter,
    "promoter-300": promoter_300,
    "expression": expression,
    "te": te,
    "promoter-strength": promoter_strength,
    "tf": tf,
}


def whole(task, report):
    """The manifest of a task, what is common to all included."""
    own = TASKS[task](report)
    return {"name": own.pop("name"), "version": own.pop("version"), **COMMON, **own}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("report")
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    with open(arguments.report) as file:
        report = json.load(file)
    with open(arguments.output, "w") as out:
        write_toml(whole(arguments.task, report), out)


if __name__ == "__main__":
    main()
