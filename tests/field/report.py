"""Reports in a browser: charts have titles, nothing overlaps, overflows or is asked for elsewhere.

    python3 tests/field/report.py PROGRAM [--chromium PROGRAM] [--keep FOLDER]

Writes reports of the sample data, one of them with a gene, one of reads with hostile names.
Chromium opens each in frames as wide as a phone, a tablet and a screen, light and dark, and a
script beside the frames measures them. All requests go to this program as to a proxy, which refuses
those that are not for its own pages. Ends with 1 where something is not as it should be.
"""

import argparse
import gzip
import html
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading

from browser import SHOTS, brightness, chromium

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data"
WIDTHS = (340, 768, 1200)

# What Chromium asks for on its own account.
BROWSER = re.compile(r"(^|//|\.)(google|googleapis|gvt1|gstatic)\.com[:/]")

# A page that asks for something elsewhere, so that it shows whether that is seen.
ASKING = b"<!doctype html><img src=http://elsewhere.invalid/seen.png><p>asks</p>"

# Sections of every report.
SECTIONS = ("run", "lengths", "scores", "meaning", "longest")

# Measures a page in frames of several widths, first as it opens, then with all tables shown.
FRAMES = """<!doctype html><meta charset="utf-8"><style>
:root { color-scheme: light dark; } iframe { border: 0; height: 900px; display: block; }
</style><body><script>
const inside = (a, b) =>
  a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
const apart = (a, b) =>
  a.right <= b.left || b.right <= a.left || a.bottom <= b.top + 2 || b.bottom <= a.top + 2;
const light = (color) => {
  const part = color.match(/[\\d.]+/g).map((v) => v / 255);
  const [r, g, b] = part.map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * r + .7152 * g + .0722 * b;
};
function measure(page, problems, what) {
  const root = page.documentElement;
  if (root.scrollWidth > root.clientWidth)
    problems.push(`${what}: ${root.scrollWidth} wide in ${root.clientWidth}`);
  for (const svg of page.querySelectorAll("svg[role=img]")) {
    const own = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map((t) =>
      ({ text: t.textContent, at: t.getBoundingClientRect() }));
    texts.forEach((one, i) => {
      if (!inside(one.at, own)) problems.push(`${what}: ${one.text} is cut off`);
      for (const other of texts.slice(i + 1))
        if (!apart(one.at, other.at)) problems.push(`${what}: ${one.text} over ${other.text}`);
    });
  }
}
function contrast(page, problems, what) {
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (!/, 0\\)$|transparent/.test(color)) return color;
    }
    return "rgb(255, 255, 255)";
  };
  for (const e of page.querySelectorAll("h1,h2,p,li,dt,dd,th,td,a,summary,small,pre,text")) {
    const style = getComputedStyle(e);
    const ink = e.tagName === "text" ? style.fill : style.color;
    const [a, b] = [light(ink), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) problems.push(`${what}: ${e.textContent.slice(0, 30)}: ${ratio.toFixed(1)}`);
  }
}
const load = (frame, url) => new Promise((done) => { frame.onload = done; frame.src = url; });
(async () => {
  const problems = [];
  let counts = {};
  for (const width of WIDTHS) {
    const frame = document.createElement("iframe");
    frame.style.width = `${width}px`;
    document.body.append(frame);
    await load(frame, "PAGE");
    const page = frame.contentDocument;
    measure(page, problems, `${width}`);
    contrast(page, problems, `${width}`);
    page.querySelectorAll("details").forEach((d) => { d.open = true; });
    measure(page, problems, `${width}, open`);
    const all = (selector) => page.querySelectorAll(selector).length;
    counts = {
      pictures: all("svg[role=img]"),
      titled: all("svg[role=img] > title + desc"),
      figures: all("figure"),
      tables: all("details table"),
      rows: all("tbody tr"),
      marks: all("figure g > title"),
      foreign: all("script,link,img,iframe,object,embed,style ~ style,[src],[style],[onclick]"),
      links: all("a[href]:not([href^='#']),use:not([href^='#'])"),
      dark: matchMedia("(prefers-color-scheme: dark)").matches,
      ground: getComputedStyle(page.body).backgroundColor,
    };
    frame.remove();
  }
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify({ problems, counts });
  document.body.append(out);
})();
</script>
"""


class Pages(http.server.BaseHTTPRequestHandler):
    """Serves the pages of its server, and takes note of what else is asked for."""

    def do_GET(self):
        name = re.sub(r"^http://[^/]*", "", self.path)
        ours = f"http://127.0.0.1:{self.server.server_port}"
        page = self.server.pages.get(name) if self.path.startswith((ours, "/")) else None
        if page is None:
            self.server.strange.append(self.path)
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(page)

    def do_CONNECT(self):
        self.server.strange.append(self.path)
        self.send_error(403)

    do_POST = do_HEAD = do_CONNECT

    def log_message(self, *_):
        pass


def elsewhere(server):
    """What was asked for that is none of the server's pages, but for the browser's own."""
    return [
        url
        for url in server.strange
        if not BROWSER.search(url) and not url.endswith("/favicon.ico")
    ]


def annotate(program, report, *arguments):
    command = [program, "-q", "annotate", "-o", os.devnull, "--report", report, *arguments]
    subprocess.run(command, check=True)


def hostile_reads(path):
    """The sample genes under names that are markup, very long, or both."""
    names = [
        "<script>document.title='owned'</script>",
        '"><img/src=http://example.com/x.png/onerror=alert(1)>',
        "x" * 400,
        "&lt;&amp;]]>--><!--",
        "\u202egnp.exe' onload='x",
    ]
    with gzip.open(DATA / "genes.fa.gz", "rt") as genes, open(path, "w") as out:
        fresh = iter(names)
        out.writelines(f">{next(fresh)}\n" if line.startswith(">") else line for line in genes)


def found(page):
    text = re.search(r'<pre id="found">(.*?)</pre>', page, re.DOTALL)
    if not text:
        sys.exit(f"nothing was measured: {page[-500:]}")
    return json.loads(html.unescape(text.group(1)))


def check(name, light, dark):
    for seen, is_dark in ((light, False), (dark, True)):
        if seen["problems"]:
            sys.exit(f"{name}: {len(seen['problems'])}:\n" + "\n".join(seen["problems"][:20]))
        counts = seen["counts"]
        if counts["dark"] != is_dark:
            sys.exit(f"{name}: not looked at in its colours: {counts}")
        if counts["pictures"] < 4 or counts["pictures"] != counts["titled"]:
            sys.exit(f"{name}: pictures without title and description: {counts}")
        if counts["marks"] < 10 or counts["tables"] < 5 or counts["rows"] < 50:
            sys.exit(f"{name}: hardly anything in it: {counts}")
        if counts["foreign"] or counts["links"]:
            sys.exit(f"{name}: holds what it should not: {counts}")
    if light["counts"]["ground"] == dark["counts"]["ground"]:
        sys.exit(f"{name}: light and dark are the same")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "chromium")
    parser.add_argument("--keep", help="a folder for the reports and the pictures")
    arguments = parser.parse_args()
    program = os.path.abspath(arguments.program)
    with tempfile.TemporaryDirectory() as folder:
        keep = pathlib.Path(arguments.keep or folder)
        keep.mkdir(exist_ok=True)
        reads = pathlib.Path(folder) / "hostile.fa"
        hostile_reads(reads)
        reports = {name: keep / f"{name}.html" for name in ("reads", "gene", "hostile")}
        annotate(program, reports["reads"], DATA / "genes.fa.gz", DATA / "reads.fastq.gz")
        variants = DATA / "variants"
        genes = ("--report-gff", variants / "chr9.gtf.gz")
        annotate(program, reports["gene"], variants / "chr9.fa.gz", *genes)
        annotate(program, reports["hostile"], reads)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        server.pages, server.strange = {}, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{server.server_port}"
        proxy = [
            f"--proxy-server={origin}", "--proxy-bypass-list=<-loopback>",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
        ]  # fmt: skip
        pictures = {}
        for name, path in reports.items():
            text = path.read_text(encoding="utf-8")
            for section in (*SECTIONS, *(["gene"] if name == "gene" else [])):
                if f'<section id="{section}">' not in text:
                    sys.exit(f"{name}: no section {section}")
            server.pages[f"/{name}.html"] = text.encode()
            frames = FRAMES.replace("PAGE", f"/{name}.html").replace("WIDTHS", str(list(WIDTHS)))
            server.pages[f"/{name}.frames"] = frames.encode()
            url, seen = f"{origin}/{name}.frames", []
            for how in (SHOTS["light"], SHOTS["dark"]):
                options = [*proxy, *how, "--dump-dom"]
                seen.append(found(chromium(arguments.chromium, url, folder, *options)))
            check(name, *seen)
            if name != "hostile":
                for shot, how in SHOTS.items():
                    png = keep / f"{name}-{shot}.png"
                    options = [*proxy, *how, f"--screenshot={png}"]
                    chromium(arguments.chromium, f"{origin}/{name}.html", folder, *options)
                    pictures[f"{name}-{shot}"] = brightness(png)
        strange = elsewhere(server)
        if strange:
            sys.exit(f"asked for elsewhere: {strange}")
        server.pages["/asking.html"] = ASKING
        chromium(arguments.chromium, f"{origin}/asking.html", folder, "--dump-dom", *proxy)
        if not any(url.endswith("/seen.png") for url in elsewhere(server)):
            sys.exit("a request to elsewhere is not seen")
        server.shutdown()
        for name, (light, colours) in pictures.items():
            if (light > 80) == name.endswith("dark") or colours < 20:
                sys.exit(f"{name}: brightness {light:.0f}, {colours} colours")
        print(f"{len(reports)} reports, {sum(c for _, c in pictures.values())} colours in pictures")


if __name__ == "__main__":
    main()
