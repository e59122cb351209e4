#!/usr/bin/env bash
# Biopython 1.86 charges for gaps at the ends where 1.85 did not, unless a program says otherwise.
#
# Expected: a pairwise aligner whose match, mismatch and internal gap scores are set keeps the score
# of 0 for gaps at the ends that it had, so that ACGT lies in TTACGTTT for 4.
# Seen: up to 1.85 a new aligner scores every gap 0, from 1.86 on -1. Programs that set only what
# they mean to change, such as "no gaps inside", get other alignments and scores, without an error
# or a warning. DNABERT's motif search is one: it joins strings whose aligned score is at least
# their shortest length less one, and strings that are the same motif some bases apart stop being
# joined (TGACG and ACGTCA: 3 before, 1 now). Setting the end gap score to 0 gives the old scores in
# both. The search of this project has free ends by construction.
#
# Needs Python 3.9 to 3.13 and a package index. Exit code 0: Biopython behaves as described here.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 1.85 1.86 1.88; do
    "$folder/venv/bin/pip" install -q "biopython==$version" numpy==2.2.6
    "$folder/venv/bin/python" - "$version" <<'PYTHON'
import sys

import Bio
from Bio.Align import PairwiseAligner

version = sys.argv[1]
assert Bio.__version__ == version
pairs = [("ACGT", "TTACGTTT"), ("TGACG", "ACGTCA"), ("GGGTA", "TAGGG")]


def aligner():
    own = PairwiseAligner()
    own.match_score, own.mismatch_score = 1.0, 0.0
    own.internal_gap_score = -10000.0
    return own


as_set, free = aligner(), aligner()
free.end_gap_score = 0.0
found = [as_set.score(*pair) for pair in pairs]
with_free_ends = [free.score(*pair) for pair in pairs]
print(f"Biopython {version}: {found}, with end gaps set to 0: {with_free_ends}")
assert with_free_ends == [4.0, 3.0, 3.0]
assert found == ([4.0, 3.0, 3.0] if version == "1.85" else [0.0, 1.0, 1.0]), "it has changed"
PYTHON
done
