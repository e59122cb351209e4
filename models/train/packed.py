"""A packed model as seen from Python, and the float network it was made of.

Reads the manifest from the model file, runs `strandline score` on it, runs the ONNX file with ONNX
Runtime, and applies the manifest's calibration to the float outputs, so that both sides can be
compared score by score.
"""

import json
import os
import struct
import subprocess
import tempfile

import numpy as np

from scoring import apply_knots
from sequences import write_fasta

ONE_HOT = np.eye(5, dtype=np.float32)[:, :4]
TIERS = ("fast", "accurate")
# Of base codes, the ids of a tokeniser: <cls>, A C G T or unknown, <eos>.
UTR_LM = np.array([3, 5, 4, 6, 2], np.int64)
TOKENS = {"utr-lm": lambda codes: np.r_[7, UTR_LM[codes], 1]}
PIECE = 20_000  # bases the float network sees at once, without their context


def read_manifest(path):
    """The manifest of a model file: a JSON string in the metadata of its safetensors header."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return json.loads(header["__metadata__"]["strandline.manifest"])


def of_tier(manifest, tier):
    """What a user of one tier sees of a model that has two: its columns, which of the network's
    they are, its context."""
    cascade = manifest.get("cascade")
    if not cascade:
        return manifest
    count = cascade["columns"]
    columns = slice(0, count) if tier == "fast" else slice(count, None)
    own = {
        **manifest,
        "name": f"{manifest['name']}-{tier}",
        "outputs": manifest["outputs"][columns],
        "columns": columns,
    }
    if tier == "fast":
        own["context"] = cascade["context"]
    if manifest.get("whole"):
        own["whole"] = {**manifest["whole"], "index": manifest["whole"]["index"][columns]}
    return own


def scores(manifest, raw, whole=False, read=False):
    """Scores [n, outputs] of raw outputs, as the program gives them for single bases, for whole
    windows, or for the bases of one read, whose ends have calibrations of their own."""
    raw = np.asarray(raw, np.float64)
    result = np.empty_like(raw)
    place = np.arange(len(raw))
    for column, output in enumerate(manifest["outputs"]):
        knots = (manifest.get("whole") or {}).get("calibration") if whole else None
        y = apply_knots(knots or output["calibration"], raw[:, column])
        for end in reversed(output.get("short_context", []) if read else []):
            near = np.minimum(place, place[::-1]) < end["below"]
            y[near] = apply_knots(end["calibration"], raw[near, column])
        result[:, column] = 1 / (1 + np.exp(-y)) if output["link"] == "logit" else y
    return result


def calls(score, threshold, separation):
    """Positions that are called: at or above the threshold, and the first highest within
    `separation` bases."""
    found = []
    for at in np.flatnonzero(score >= threshold):
        around = score[max(0, at - separation) : at + separation + 1]
        if at == max(0, at - separation) + np.argmax(around):
            found.append(int(at))
    return found


class FloatNetwork:
    """The ONNX file of a model, run by ONNX Runtime on one thread."""

    def __init__(self, path, manifest):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0].name
        self.manifest = manifest

    def of_tokens(self, codes):
        """Raw outputs [outputs] of one window of a tokeniser of letters."""
        ids = TOKENS[self.manifest["tokeniser"]](codes)
        return self.session.run(None, {self.input: ids[None]})[0][0]

    def run(self, codes):
        outputs = self.session.run(None, {self.input: np.ascontiguousarray(ONE_HOT[codes].T[None])})
        return np.concatenate(outputs, 1)[0][self.manifest.get("columns", slice(None))]

    def scan(self, codes):
        """Raw outputs [length, outputs] of a sequence, piece by piece with the context that the
        manifest states."""
        left, right = self.manifest["context"]["left"], self.manifest["context"]["right"]
        out = np.empty((len(codes), len(self.manifest["outputs"])), np.float32)
        for start in range(0, len(codes), PIECE):
            end = min(len(codes), start + PIECE)
            low, high = max(0, start - left), min(len(codes), end + right)
            out[start:end] = self.run(codes[low:high])[:, start - low : end - low].T
        return out

    def whole(self, codes):
        """Raw outputs [outputs] of one window or sequence: at the stated base, or of the last
        bases, padded on the left."""
        sequence, whole = self.manifest.get("sequence"), self.manifest.get("whole")
        if self.manifest["tokeniser"] in TOKENS:
            return self.of_tokens(codes)
        if sequence:
            kept = codes[-sequence["longest"] :]
            return self.run(np.r_[np.full(-len(kept) % sequence["multiple"], 4, np.uint8), kept])
        raw = self.scan(codes)
        if whole and whole["length"] == len(codes):
            return raw[whole["index"], range(raw.shape[1])]
        return raw.max(0)


class Packed:
    """A packed model file, scored by the program itself; of a model with two tiers, one of them."""

    def __init__(self, binary, path, tier="accurate"):
        self.binary, self.path, self.tier = binary, path, tier
        self.manifest = of_tier(read_manifest(path), tier)

    def command(self, *arguments):
        arguments = [self.binary, "-q", *arguments, "--model", self.path, "--tier", self.tier]
        return subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True).stdout

    def scan(self, texts, strand="forward"):
        """Scores [length, outputs] of each sequence, in forward order."""
        with tempfile.TemporaryDirectory() as folder:
            fasta, out = os.path.join(folder, "sequences.fa"), os.path.join(folder, "scores")
            write_fasta(fasta, texts)
            self.command("score", fasta, "--strand", strand, "-o", out)
            with open(os.path.join(out, "index.tsv")) as file:
                names = [line.rstrip("\n").split("\t")[3] for line in file][1:]
            assert len(names) == len(texts)
            return [np.load(os.path.join(out, name)) for name in names]

    def whole(self, texts, strand="forward"):
        """Scores [n, outputs] of whole windows or sequences."""
        with tempfile.TemporaryDirectory() as folder:
            fasta = os.path.join(folder, "sequences.fa")
            write_fasta(fasta, texts)
            lines = self.command(
                "score", fasta, "--whole", "--strand", strand, "-o", "-"
            ).splitlines()
        assert len(lines) == len(texts) + 1
        return np.array([line.split("\t")[1:] for line in lines[1:]], np.float64)

    def annotate(self, texts):
        """Calls on both strands at the default threshold, one dictionary each; `read` is the number
        of the sequence."""
        with tempfile.TemporaryDirectory() as folder:
            fasta = os.path.join(folder, "sequences.fa")
            write_fasta(fasta, texts)
            arguments = ["--tasks", self.manifest["task"], "--threads", "1", "--format", "jsonl"]
            return [
                json.loads(line)
                for line in self.command("annotate", fasta, *arguments).splitlines()
            ]
