"""The recipe for bioconda: what its linter asks for, and the recipe's own tests.

    python3 tests/field/recipe.py target/release/strandline

The recipe is rendered with the functions that conda-build has, and its test commands are run with
this program. conda itself is not needed, and the package is not built. Needs jinja2 and PyYAML.
Exits with 1 where something is missing.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jinja2
import yaml

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "docs/packages/bioconda"
# Written by the recipe's build.sh.
MADE = "THIRDPARTY.yml"


def check(good, what):
    if not good:
        sys.exit(f"not so: {what}")


def rendered():
    """The recipe as conda-build would read it."""
    text = (RECIPE / "meta.yaml").read_text()
    return yaml.safe_load(
        jinja2.Environment(undefined=jinja2.StrictUndefined)
        .from_string(text)
        .render(
            compiler=lambda language: f"compiler_{language}",
            pin_subpackage=lambda name, max_pin: f"{name} {max_pin}",
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    program = parser.parse_args().program.resolve()
    recipe = rendered()
    manifest = (ROOT / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.*)"', manifest, re.MULTILINE).group(1)
    check(recipe["package"] == {"name": "strandline", "version": version}, "name and version")
    check(re.fullmatch(r"https://\S+\.tar\.gz", recipe["source"]["url"]), "the source's address")
    check(re.fullmatch(r"[0-9a-f]{64}", recipe["source"]["sha256"]), "the source's hash")
    check(version in recipe["source"]["url"], "the source is the version's")
    check(recipe["build"]["number"] == 0 and recipe["build"]["run_exports"], "build")
    needs = {"compiler_c", "compiler_rust", "cargo-bundle-licenses"}
    check(set(recipe["requirements"]["build"]) == needs, "what the build needs")
    about = recipe["about"]
    for field in ("home", "license", "license_family", "summary"):
        check(about[field], field)
    licence = re.search(r'^license = "(.*)"', manifest, re.MULTILINE).group(1)
    check(about["license"] == licence, "the licence is that of the program")
    for file in about["license_file"]:
        check(file == MADE or (ROOT / file).is_file(), file)
    script = RECIPE / "build.sh"
    check(MADE in script.read_text() and os.access(script, os.X_OK), "build.sh")
    commands = recipe["test"]["commands"]
    check(commands, "test commands")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "strandline").symlink_to(program)
        path = f"{folder}:{os.environ['PATH']}"
        for command in commands:
            ran = subprocess.run(
                ["bash", "-eo", "pipefail", "-c", command],
                capture_output=True,
                text=True,
                env={**os.environ, "PATH": path},
                check=False,
            )
            check(ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}")
    print(f"the recipe is whole; {len(commands)} of its test commands were run")


if __name__ == "__main__":
    main()
