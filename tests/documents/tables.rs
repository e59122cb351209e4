//! What is run, with what in place of made-up names, and what is not run and why.

/// Programs that are run. A command with any other needs a row in [`NOT_RUN`].
pub const RUN: &[&str] = &["strandline", "gzip", "head", "mkdir"];

/// Made-up names in commands, and the files of the sandbox that stand for them.
pub const STAND_INS: &[(&str, &str)] = &[
    ("READS", "sample.fastq"),
    ("MODEL.onnx", "models/float/promoter.onnx"),
    ("M.toml", "models/promoter.toml"),
    // Any port that is free.
    ("127.0.0.1:8080", "127.0.0.1:0"),
];

const DATA: &str = "Python packages, and data that is not in the repository";

/// The first words of commands that are not run, and why not. What they name is checked.
pub const NOT_RUN: &[(&str, &str)] = &[
    ("cargo build", "a build"),
    ("cargo check", "a build"),
    ("cargo test", "a build, and this test is part of it"),
    ("cargo bench", "a build, and minutes"),
    ("cargo doc", "a build"),
    ("just ", "builds, and just"),
    ("cargo +nightly fuzz", "a nightly compiler and cargo-fuzz"),
    ("STRANDLINE_SOAK=", "minutes"),
    ("STRANDLINE_ISA=avx2 cargo", "a build"),
    ("pip install", "Python packages from a registry"),
    ("python models/train/accuracy.py", DATA),
    ("python models/train/chr9.py", DATA),
    (
        "python models/train/curves.py",
        "Python, which the tests do without",
    ),
    ("python models/train/error_profile.py", DATA),
    ("python models/train/evaluate.py", DATA),
    (
        "python models/train/gene.py",
        "Python packages from a registry",
    ),
    ("python models/train/reality.py", DATA),
    ("python models/train/robustness.py", DATA),
    (
        "python tests/onnx/compare.py",
        "Python packages from a registry",
    ),
    ("python benches/growing.py", "minutes at full load"),
    ("python benches/overload.py", "minutes at full load"),
    ("python3 tests/field/follow.py", "minutes, and Python"),
    ("python3 tests/field/link.py", "minutes, and Python"),
    ("STRANDLINE_MUTANTS=", "minutes at full load"),
    (
        "python benches/peers/compare.py",
        "Python packages from a registry, and minutes",
    ),
    (
        "python benches/peers/cells.py",
        "Python packages from a registry, and minutes",
    ),
    (
        "python benches/peers/junctions.py",
        "two aligners, and data that is not in the repository",
    ),
    (
        "python benches/peers/python_call.py",
        "Python packages from a registry, and minutes",
    ),
    ("maturin ", "a build, and Python packages from a registry"),
    (
        "cc src/bindings/c/",
        "a build; src/bindings/c/test.sh does it",
    ),
    (
        "snakemake ",
        "Snakemake; tests/field/cluster.py, which .ci/run runs, does it",
    ),
    ("python3 tests/field/cluster.py", "Snakemake, and minutes"),
    (
        "python3 tests/field/page.py",
        "a browser, which .ci/run has",
    ),
    (
        "python3 tests/field/report.py",
        "a browser, which .ci/run has",
    ),
    ("seq 8 | parallel", "GNU parallel"),
    ("cat {1..8}.tsv", "the outputs of GNU parallel"),
    ("minimap2 ", "an aligner"),
    ("miniprot ", "an aligner"),
    ("python -m venv", "Python packages from a registry"),
    ("venv/bin/python promoter.py", DATA),
    ("venv/bin/python promoter_second.py", DATA),
    (
        "venv/bin/python manifest.py",
        "the report that a recipe would have written",
    ),
    ("cd models/train", "the commands that follow it are not run"),
    (
        "strandline pack OUT/second/promoter.onnx",
        "the network that a recipe would have trained",
    ),
    (
        "strandline pack OUT/model.onnx",
        "the network that a script would have written",
    ),
    (
        "for task in splice splice-insect",
        "a minute of packing; tests/commands.rs packs these networks",
    ),
    ("venv/bin/python models/convert/", "somebody's checkpoint"),
    ("strandline score RECORDS", "somebody's model"),
    (
        "strandline annotate --molecule rna --model",
        "somebody's model",
    ),
    ("strandline annotate --tasks tf", "somebody's model"),
    (
        "strandline cells annotate --follow RUN",
        "runs until it is stopped; tests/cells does it",
    ),
    ("strandline pack OUT.onnx", "somebody's checkpoint"),
    ("python cell_types", DATA),
    ("python integration", DATA),
    ("python perturbation.py", DATA),
    (
        "strandline pack MODELS/",
        "the network that a recipe would have trained",
    ),
    ("strandline cells embed CELLS", "somebody's model"),
    (
        "strandline motifs POSITIVES.fa",
        "sequences of one's own; tests/explain.rs does it",
    ),
    ("strandline annotate 'serial:", "a board on a serial port"),
    (
        "strandline annotate 'tcp:",
        "a board at the other end; tests/link.rs does it",
    ),
    (
        "python3 tests/link_client.py",
        "a listener at the other end; tests/link.rs does it",
    ),
    ("ssh ", "another machine"),
    ("nats ", "a NATS server"),
    (
        "strandline publish",
        "a NATS server; tests/field/fleet.py, which .ci/run runs, does it",
    ),
    ("strandline queue", "the same"),
    ("strandline work", "the same"),
    ("strandline collect", "the same"),
    (
        "strandline annotate READS --format jsonl -o calls.jsonl --publish",
        "the same",
    ),
    (
        "strandline annotate --follow incoming --format jsonl",
        "the same",
    ),
    ("python3 tests/field/fleet.py", "a NATS server, and minutes"),
    ("wg-quick ", "WireGuard, and another machine"),
    (
        "strandline annotate --follow /data/",
        "runs until it is stopped; tests/follow.rs does it",
    ),
    (
        "strandline replay READS --to tcp:",
        "a listener at the other end",
    ),
    ("dorado ", "a basecaller"),
    (
        "apt ",
        "a Debian package; tests/field/package.py installs one",
    ),
    ("systemctl ", "systemd"),
    ("journalctl ", "systemd"),
    ("adduser ", "root, and a package that is installed"),
    ("deluser ", "root, and a package that is installed"),
    ("rm -r /var/lib/", "root, and a package that is installed"),
    ("docs/packages/build.sh", "builds, and cargo-deb"),
    (
        "python3 tests/field/package.py",
        "root, and cargo-deb; .ci/run does it",
    ),
    (
        "python3 tests/field/recipe.py",
        "Python packages from a registry; .ci/run does it",
    ),
    ("docker ", "an engine for containers"),
    ("samtools ", "htslib's program"),
    (
        "tabix ",
        "htslib's program; tests/field/formats.py, which .ci/run runs, asks the same of pysam",
    ),
    (
        "strandline annotate --format parquet",
        "a build with the feature `parquet`; tests/field/formats.py does it",
    ),
    ("duckdb ", "DuckDB; tests/field/formats.py does it"),
    (
        "python3 tests/field/formats.py",
        "Python packages from a registry",
    ),
    (
        "tests/cortex_m3/run.sh",
        "QEMU and a cross compiler; .ci/run does it",
    ),
    ("strandline bench --", "a minute and more"),
    ("strandline bench READS", "a minute and more"),
    ("taskset ", "a minute and more"),
];

/// Blocks that nothing checks: the document, how the first line begins, and why not.
pub const NOT_CHECKED: &[(&str, &str, &str)] = &[
    (
        "CONTRIBUTING.md",
        "/// Values between",
        "a made-up operator, with gaps",
    ),
    (
        "CONTRIBUTING.md",
        "pub(super) const AVX10",
        "a made-up instruction set",
    ),
    (
        "docs/cells.md",
        "matrix = scipy",
        "Python packages from a registry",
    ),
    (
        "docs/link.md",
        "[Interface]",
        "WireGuard's own, which needs two machines",
    ),
    (
        "docs/link.md",
        "19 calls of 8 reads",
        "printed by QEMU's run, which .ci/run makes",
    ),
    (
        "docs/fleet.md",
        "{\"run\":",
        "a message of a NATS server, cut",
    ),
    (
        "docs/fleet.md",
        "import asyncio",
        "a NATS server; tests/field/fleet.py runs it",
    ),
    (
        "docs/cluster.md",
        "process SHARD",
        "Nextflow, which could not be had",
    ),
    (
        "docs/python.md",
        "import",
        "Python packages; src/bindings/python/tests, which .ci/run runs, does it",
    ),
    ("docs/live.md", "received = scored", "a formula"),
    ("docs/variants.md", "ALLELE|STRAND|SYMBOL|DS_AG", "a format"),
    ("docs/variants.md", "ALLELE|STRAND|SYMBOL|SCORE", "a format"),
    ("models/README.md", "sum    = ", "formulas"),
    (
        "models/README.md",
        "import json",
        "Python packages from a registry",
    ),
];
