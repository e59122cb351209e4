"""Output formats, read back by those who read them: every call, and no other.

    python3 tests/field/formats.py PROGRAM

PROGRAM is a build with the feature `parquet`. The readers, pinned in requirements.txt, are
installed in target/formats where they are missing; pyranges1 where Python is 3.12 or later. Reads
with calls of all kinds but tf, with odd names and with calls at their first base are annotated in
every format. BED is read by pyranges and pyranges1, GFF3 by gffutils and pyranges, bedGraph by
pyBigWig's rules, Parquet by pyarrow, polars and DuckDB; the three that tabix indexes are queried
through pysam. Each must give the calls that the JSON Lines of the same options have. Ends with 1
where one does not.
"""

import argparse
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import venv
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "target" / "formats"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
# Of the same module name as pyranges, so in a folder of its own; its syntax is that of Python 3.12.
PYRANGES1 = "pyranges1==0.1.1" if sys.version_info >= (3, 12) else ""
COLOURS = {
    "donor": "0,114,178",
    "acceptor": "213,94,0",
    "promoter": "0,158,115",
    "tf": "204,121,167",
    "expression": "230,159,0",
    "promoter-strength": "86,180,233",
}
# Prints what `read_bed` makes of a file.
READ_BED = """
import json, sys
import pandas, pyranges
frame = pyranges.read_bed(sys.argv[1])
frame = pandas.DataFrame(frame if isinstance(frame, pandas.DataFrame) else frame.df)
frame = frame.astype({name: str for name in ("Chromosome", "Strand") if name in frame})
print(json.dumps([list(frame.columns), frame.values.tolist()]))
"""


def installed():
    """The Python that has the readers."""
    python = PLACE / "bin" / "python"
    done = PLACE / "installed"
    wanted = REQUIREMENTS.read_text() + PYRANGES1 + sys.version
    if not done.exists() or done.read_text() != wanted:
        venv.create(PLACE, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*pip, "-r", REQUIREMENTS], check=True)
        if PYRANGES1:
            subprocess.run([*pip, "--no-deps", "-t", PLACE / "pyranges1", PYRANGES1], check=True)
        done.write_text(wanted)
    return python


class Case:
    """Reads and options, and the calls that there are."""

    def __init__(self, program, folder, name, reads, options):
        self.program, self.folder, self.name = program, folder, name
        self.reads, self.options = reads, options
        lines = self.run("jsonl", "calls.jsonl").read_text().splitlines()
        self.calls = [json.loads(line) for line in lines]
        self.check(self.calls, "there are calls")

    def run(self, form, output, *more):
        """The file that the program writes."""
        path = self.folder / f"{self.name}.{output}"
        line = [self.program, "-q", "annotate", "--format", form, *self.options, *more]
        subprocess.run([*line, self.reads, "-o", path], check=True)
        return path

    def check(self, true, what):
        if not true:
            sys.exit(f"{self.name}: not so: {what}")

    def same(self, found, expected, what):
        """The same elements, each as often."""
        found, expected = Counter(found), Counter(expected)
        if found != expected:
            lost = list((expected - found).items())[:3]
            other = list((found - expected).items())[:3]
            sys.exit(f"{self.name}: {what}: {lost} are lost, {other} are other")


def score(call):
    digits = 3 if call["kind"] in ("expression", "promoter-strength") else 4
    return f"{call['score']:.{digits}f}"


def model(call):
    return f"{call['model']}/{call['version']}"


def flags(call):
    return ",".join(call["flags"]) or "."


def column(name):
    """A name where lines that begin with # are comments."""
    return "%23" + name[1:] if name.startswith("#") else name


def shade(call):
    value = call["score"]
    if call["kind"] == "expression":
        value /= 10
    elif call["kind"] == "promoter-strength":
        value = (value + 5) / 10
    return min(max(value * 1000, 0), 1000)


def bed(case):
    """As pyranges has it: whole numbers and colours in the columns that BED9 has for them."""
    expected = [
        (
            column(c["read"]), c["start"], c["end"],
            "|".join([c["kind"], score(c), model(c), flags(c)]),
            c["strand"], c["start"], c["end"], COLOURS[c["kind"]],
        )
        for c in case.calls
    ]  # fmt: skip
    shades = {(column(c["read"]), *row[1:5]): shade(c) for c, row in zip(case.calls, expected)}
    names = [
        "Chromosome", "Start", "End", "Name", "Score", "Strand", "ThickStart", "ThickEnd", "ItemRGB"
    ]  # fmt: skip
    versions = [("pyranges", "")]
    if PYRANGES1:
        versions.append(("pyranges1", str(PLACE / "pyranges1")))
    for path in (case.run("bed", "plain.bed"), case.run("bed", "bare.bed", "--no-header")):
        for version, path_of in versions:
            ran = subprocess.run(
                [sys.executable, "-c", READ_BED, path],
                env={**os.environ, "PYTHONPATH": path_of},
                stdout=subprocess.PIPE,
                check=True,
            )
            columns, rows = json.loads(ran.stdout)
            case.check(columns == names, f"{version} finds the columns of BED9, not {columns}")
            found = [tuple(row[:4] + row[5:]) for row in rows]
            case.same(found, expected, f"BED in {version}")
            for row in rows:
                own = shades[(*row[:4], row[5])]
                whole = isinstance(row[4], int) and abs(row[4] - own) <= 0.5 + 0.051
                case.check(whole, f"{row} has a score of about {own}")


def gff3(case):
    """As gffutils and pyranges have it; every ID once, and the same for any number of threads."""
    import gffutils
    import pyranges

    path = case.run("gff3", "plain.gff3", "--threads", "1")
    text = path.read_bytes()
    case.check(text == case.run("gff3", "2.gff3", "--threads", "2").read_bytes(), "same bytes")
    expected = []
    for c in case.calls:
        first = re.sub(
            r"[^a-zA-Z0-9.:^*$@!+_?|-]", lambda m: urllib.parse.quote(m[0], safe=""), c["read"]
        )
        expected.append((
            first, c["read"], c["start"], c["end"], c["strand"], c["kind"], score(c), model(c),
            flags(c),
        ))  # fmt: skip
    numbers = {"expression": "mean_ribosome_load", "promoter-strength": "log_rate"}
    database = gffutils.create_db(
        str(path), ":memory:", merge_strategy="error", keep_order=True, verbose=False
    )
    found, identities = [], []
    for feature in database.all_features():
        own = feature.attributes
        kind = own["Name"][0]
        value = own[numbers[kind]][0] if kind in numbers else feature.score
        caveats = ",".join(own["flags"]) if "flags" in own else "."
        name = urllib.parse.unquote(feature.seqid)
        place = (feature.seqid, name, feature.start - 1, feature.end, feature.strand)
        found.append((*place, kind, value, own["model"][0], caveats))
        region = f"{name}:{feature.start}-{feature.end}"
        identities.append(f"{region}:{feature.strand}:{kind}:{own['model'][0]}" == own["ID"][0])
    case.same(found, expected, "GFF3 in gffutils")
    case.check(all(identities), "an ID is read, place, strand, kind and model")
    frame = pyranges.read_gff3(str(path), as_df=True)
    found = zip(frame.Chromosome, frame.Start, frame.End, frame.Strand, frame.Name)
    case.same(found, [(e[0], *e[2:6]) for e in expected], "GFF3 in pyranges")
    case.check(frame.ID.is_unique, "every ID once")


def tabix(case):
    """Through an index: each read, the place of each call, and places where there need be none."""
    import pysam

    draw = random.Random(1)
    forms = {
        "bed": {"preset": "bed"},
        "gff3": {"preset": "gff"},
        "tsv": {"seq_col": 0, "start_col": 1, "end_col": 2, "zerobased": True},
    }
    asked = 0
    for form, how in forms.items():
        path = case.run(form, f"{form}.gz")
        plain = case.run(form, f"whole.{form}").read_bytes()
        case.check(gzip.decompress(path.read_bytes()) == plain, f"{form}: compressed, the same")
        lines = [line for line in plain.decode().split("\n") if line and line[0] != "#"]
        case.check(len(lines) == len(case.calls), f"{form}: a line for each call")
        by_read = {}
        for line, call in zip(lines, case.calls):
            own = by_read.setdefault(line.split("\t")[0], [])
            own.append((call["start"], call["end"], line))
        pysam.tabix_index(str(path), force=True, **how)
        with pysam.TabixFile(str(path), encoding="utf-8") as index:
            case.check(set(index.contigs) == set(by_read), f"{form}: the reads of the index")
            for read, own in by_read.items():
                last = max(end for _, end, _ in own) + 50
                drawn = [draw.randrange(last) for _ in range(20)]
                places = [(at, at + draw.randrange(1, 200)) for at in drawn]
                places += [(start, end) for start, end, _ in own] + [(0, 1), (0, last)]
                for start, end in places:
                    found = list(index.fetch(read, start, end))
                    expected = [line for s, e, line in own if s < end and start < e]
                    case.check(found == expected, f"{form}: {read}:{start}-{end}: {found}")
                    asked += 1
    return asked


def bedgraph(case):
    """In order, without overlaps, by the rules of bigWig; a strand at a time, and both."""
    import pyBigWig

    both = {call["strand"] for call in case.calls} == {"+", "-"}
    for strand in ("both", "forward", "reverse") if both else ("forward",):
        path = case.run("bedgraph", f"{strand}.bedgraph", "--strand", strand)
        sign = {"forward": "+", "reverse": "-"}.get(strand)
        calls = [c for c in case.calls if sign in (None, c["strand"])]
        best = {}
        for c in calls:
            place = (column(c["read"]), c["start"], c["end"])
            if place not in best or c["score"] > float(best[place]):
                best[place] = score(c)
        rows = [line.split("\t") for line in path.read_text().splitlines()]
        found = [(read, int(start), int(end), value) for read, start, end, value in rows]
        expected = [(*place, value) for place, value in best.items()]
        single = all(c["end"] - c["start"] == 1 for c in calls)
        if single:
            case.same(found, expected, f"bedGraph, {strand}")
        else:
            case.check(found and set(found) <= set(expected), f"bedGraph, {strand}: calls")
        lengths = {}
        for read, _, end, _ in found:
            lengths[read] = max(end, lengths.get(read, 0))
        signal = pyBigWig.open(str(case.folder / "signal.bw"), "w")
        signal.addHeader(list(lengths.items()))
        for read in lengths:
            own = [row for row in found if row[0] == read]
            ends = [row[2] for row in own]
            apart = all(end <= row[1] for end, row in zip(ends, own[1:]))
            case.check(apart, f"bedGraph, {strand}: {read} in order, without overlaps")
            signal.addEntries(
                [read] * len(own),
                [row[1] for row in own],
                ends=ends,
                values=[float(row[3]) for row in own],
            )
        signal.close()


def rows_of(case, table):
    """Rows of a table as the calls have them."""
    rows = []
    for read, start, end, strand, kind, value, of, caveats, sample in table:
        rows.append((read, start, end, strand, kind, of, caveats, sample))
        case.check(isinstance(value, float), f"{value} is a number")
    return rows


def parquet(case):
    """As pyarrow, polars and DuckDB have it, in the order of the calls; and shards of it."""
    import duckdb
    import polars
    import pyarrow
    import pyarrow.dataset
    import pyarrow.parquet

    label = ("--label", "sample=P7")
    path = case.run("parquet", "calls.parquet", *label)
    expected = [
        (c["read"], c["start"], c["end"], c["strand"], c["kind"], model(c), flags(c), "P7")
        for c in case.calls
    ]
    text = pyarrow.string()
    schema = [
        ("read", text), ("start", pyarrow.uint64()), ("end", pyarrow.uint64()), ("strand", text),
        ("kind", text), ("score", pyarrow.float32()), ("model", text), ("flags", text),
        ("sample", text),
    ]  # fmt: skip
    schema = pyarrow.schema([pyarrow.field(*column, nullable=False) for column in schema])
    own = pyarrow.parquet.read_schema(path)
    case.check(own == schema, f"the schema of the batches of Python, not\n{own}")
    groups = pyarrow.parquet.ParquetFile(path).metadata
    sizes = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
    full = all(size == 65_536 for size in sizes[:-1])
    case.check(full and sizes[-1] <= 65_536, f"row groups of a bounded size: {sizes}")

    def readers(single, many):
        arrow = pyarrow.dataset.dataset(single if many is None else many).to_table()
        yield "pyarrow", [tuple(row.values()) for row in arrow.to_pylist()]
        name = str(single) if many is None else f"{many}/*.parquet"
        yield "polars", polars.read_parquet(name).rows()
        yield "DuckDB", duckdb.sql(f"SELECT * FROM read_parquet('{name}')").fetchall()

    for reader, table in readers(path, None):
        case.check(rows_of(case, table) == expected, f"Parquet in {reader}: the calls in order")
        for row, call in zip(table, case.calls):
            near = abs(row[5] - call["score"]) <= (6e-4 if abs(row[5]) > 1 else 6e-5)
            case.check(near, f"{row[5]} is rounded to {call['score']}")
    plain = [case.program, "-q", "annotate", "--format", "parquet", *label, *case.options]
    piped = subprocess.run([*plain, case.reads], stdout=subprocess.PIPE, check=True).stdout
    case.check(piped == path.read_bytes(), "standard output has the same bytes")
    shards = case.folder / f"{case.name}.shards"
    shards.mkdir()
    for number in (1, 2, 3):
        line = [*plain, "--shard", f"{number}/3", case.reads, "-o", shards / f"{number}.parquet"]
        subprocess.run(line, check=True)
    for reader, table in readers(path, shards):
        case.same(rows_of(case, table), expected, f"shards of Parquet in {reader}")
    return sizes


def broken_off(program, folder):
    """A run that a bad record ends leaves what it had, to be read."""
    import pyarrow.parquet

    reads = gzip.decompress((ROOT / "tests/data/reads.fastq.gz").read_bytes())
    bad, output = folder / "bad.fastq", folder / "bad.parquet"
    bad.write_bytes(reads + b"@r\nACGT\n+\nII\n")
    line = [program, "-q", "annotate", "--format", "parquet", "--strict", bad, "-o", output]
    code = subprocess.run(line, stderr=subprocess.DEVNULL, check=False).returncode
    part = folder / "bad.parquet.part"
    if code != 1 or output.exists() or pyarrow.parquet.read_table(part).num_rows == 0:
        sys.exit(f"a run that broke off, with {code}, leaves no table in {part}")


def genes(records=None):
    """The sample genes, or the first of them: names and letters."""
    text = gzip.decompress((ROOT / "tests/data/genes.fa.gz").read_bytes()).decode()
    for record in text.split(">")[1:][:records]:
        head, letters = record.split("\n", 1)
        yield head.split()[0], letters.replace("\n", "")


def odd_names(path):
    """Names that formats have rules for."""
    names = ["#1", ">2", "gi|3|ref:x.1", "4/1;a=b,c&d%", "gène", "~'6'", "[7]", "track", "9#"]
    records = zip(names, genes(len(names)))
    path.write_text("".join(f">{name} text\n{letters}\n" for name, (_, letters) in records))
    return path


def copies(path):
    """The sample genes, so often that their calls fill more than one row group."""
    records = [(f"{name}.{copy}", letters) for copy in range(5) for name, letters in genes()]
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in records))
    return path


def short(path):
    """Records that are taken for one promoter each: calls from the first base to the last."""
    draw = random.Random(2)
    records = [(f"p{n}", "".join(draw.choices("ACGT", k=100 + n))) for n in range(40)]
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in records))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("program", type=Path)
    program = parser.parse_args().program.resolve()
    python = installed()
    if Path(sys.prefix) != PLACE:
        sys.exit(subprocess.run([python, __file__, program], check=False).returncode)
    began = time.monotonic()
    sample = ROOT / "tests/data/genes.fa.gz"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = {
            "default": (sample, []),
            "many": (sample, ["--min-score", "0.0002"]),
            "mixed": (sample, ["--tasks", "splice,promoter,expression", "--max-starts", "3"]),
            "rna": (ROOT / "tests/data/transcripts.fa", ["--molecule", "rna", "--max-starts", "5"]),
            "odd": (odd_names(folder / "odd.fa"), ["--min-score", "0.05"]),
            "short": (short(folder / "short.fa"), ["--tasks", "promoter-strength"]),
        }
        kinds, asked = Counter(), 0
        for name, (reads, options) in cases.items():
            case = Case(program, folder, name, reads, options)
            bed(case)
            gff3(case)
            asked += tabix(case)
            bedgraph(case)
            parquet(case)
            kinds.update(call["kind"] for call in case.calls)
            firsts = sum(call["start"] == 0 for call in case.calls)
            print(f"{name}: {len(case.calls)} calls, {firsts} at a first base", flush=True)
        options = ["--min-score", "0.0000001", "--tier", "fast"]
        case = Case(program, folder, "large", copies(folder / "large.fa"), options)
        sizes = parquet(case)
        case.check(len(sizes) > 1, f"more than one row group: {sizes}")
        print(f"large: {len(case.calls)} calls in {len(sizes)} row groups", flush=True)
        broken_off(program, folder)
    found = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    without = "" if PYRANGES1 else " (pyranges1 needs Python 3.12 and was not asked)"
    print(f"{found}; {asked} queries of tabix; {time.monotonic() - began:.0f} s{without}")


if __name__ == "__main__":
    main()
