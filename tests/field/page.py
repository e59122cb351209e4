"""The live page in a browser: it opens, its numbers change, its charts have lines, a phone fits.

    python3 tests/field/page.py PROGRAM [--chromium PROGRAM] [--keep FOLDER]

Chromium, headless, opens the page of a run that `replay` feeds over a socket, and of the same run a
few seconds later. What it made of the page is looked at as text, and what it shows as a picture:
light, dark, and as narrow as a phone. Ends with 1 where something is not as it should be.
"""

import argparse
import html.parser
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from browser import SHOTS, brightness, chromium

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Page(html.parser.HTMLParser):
    """Text by the id of the element that it stands in, and the lines of charts."""

    VOID = ("meta", "line", "path", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.paths = [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "path":
            self.paths.append(attributes.get("d", ""))
        if tag not in self.VOID:
            self.open.append((tag, attributes.get("id")))

    def handle_endtag(self, tag):
        while self.open and tag not in self.VOID:
            if self.open.pop()[0] == tag:
                break

    def handle_data(self, text):
        for _, name in self.open:
            if name:
                self.texts[name] = self.texts.get(name, "") + text + "|"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def number(page, name, label):
    found = re.search(rf"\|?{re.escape(label)}\|([\d,.]+)", page.texts.get(name, ""))
    if not found:
        sys.exit(f"the page has no {label!r} under {name!r}: {page.texts.get(name)}")
    return float(found.group(1).replace(",", ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--keep", help="a folder for the pictures")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.program)
    with tempfile.TemporaryDirectory() as folder:
        keep = pathlib.Path(arguments.keep or folder)
        keep.mkdir(exist_ok=True)
        link, port = f"unix://{folder}/link", free_port()
        address = f"127.0.0.1:{port}"
        run = subprocess.Popen(
            [program, "annotate", link, "--http", address, "--deadline", "1000",
             "-o", f"{folder}/calls.tsv"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        said = run.stderr.readline()
        if f"http://{address}/" not in said:
            sys.exit(f"the run does not say where its page is: {said}")
        play = subprocess.Popen(
            [program, "-q", "replay", ROOT / "tests/data/reads.fastq.gz", "--to", link,
             "--channels", "16", "--speed", "20"],
        )  # fmt: skip
        try:
            time.sleep(3)
            url = f"http://{address}/"
            first = Page(chromium(arguments.chromium, url, folder, "--dump-dom"))
            time.sleep(3)
            second = Page(chromium(arguments.chromium, url, folder, "--dump-dom"))
            for page in (first, second):
                if not page.texts["state"].startswith("running for"):
                    sys.exit(f"the page has no numbers: {page.texts}")
                if "splice-auto/" not in page.texts["models"]:
                    sys.exit(f"no models: {page.texts['models']}")
            for name, label in [("reads", "in"), ("bases", "bases in"), ("calls", "donor")]:
                before, after = number(first, name, label), number(second, name, label)
                if not 0 < before < after:
                    sys.exit(f"{name}, {label}: {before}, and later {after}")
            if "late" not in second.texts["latency"] or "tier changes" not in second.texts["live"]:
                sys.exit(f"numbers of live runs are missing: {second.texts}")
            lines = [path for path in second.paths if path.count("L") >= 2]
            if len(second.paths) != 5 or len(lines) < 4:
                sys.exit(f"charts have {len(lines)} lines of {len(second.paths)}")
            if not re.search(r"\|(donor|acceptor|promoter)\|", second.texts.get("recent", "")):
                sys.exit(f"no last calls: {second.texts.get('recent')}")
            if "unix://" not in second.texts["sources"]:
                sys.exit(f"no sources: {second.texts['sources']}")
            if not re.search(r"\|reading \d+", second.texts["sources"]):
                sys.exit(f"no channels by state: {second.texts['sources']}")
            shots = {}
            for name, options in SHOTS.items():
                path = keep / f"{name}.png"
                chromium(arguments.chromium, url, folder, f"--screenshot={path}", *options)
                shots[name] = brightness(path)
            if shots["light"][0] < 200 or shots["dark"][0] > 80:
                sys.exit(f"light and dark: {shots}")
            if min(colours for _, colours in shots.values()) < 20:
                sys.exit(f"a picture with hardly anything in it: {shots}")
            text = urllib.request.urlopen(f"{url}metrics").read().decode()
            if "strandline_bases_in_total" not in text:
                sys.exit("no numbers for Prometheus")
        finally:
            play.terminate()
            play.wait()
            run.terminate()
            said = run.communicate()[1]
        if run.returncode or "UNACCOUNTED" in said:
            sys.exit(f"the run ended with {run.returncode}: {said}")
        print(f"the page shows {number(second, 'reads', 'in'):.0f} reads; pictures: {shots}")


if __name__ == "__main__":
    main()
