"""Writes tests/data/cells/bins.tsv: bins of 300 invented cells by NumPy.

What: the binning of scGPT's preprocess.py, written again after its description: edges are 50
  quantiles of a cell's values but zero, and a value on edges belongs to several bins. Both ends of
  that range are kept, from which follow the middle bin and the random one.
Why: the program must give the same bins, to the bit of an edge, whatever the values.
How, a second:
    pip install -r tests/onnx/requirements.txt
    python tests/onnx/cells_golden.py tests/data/cells/bins.tsv
  Cells come from a generator that src/cells/prepare/tests.rs has, too: ten kinds, by turns.
  A line holds the cell's number, its kind, its count of values, 64-bit FNV-1a hashes of the words
  of the float64 edges and of the bins; then, of a cell of at most 12 values, bin:lowest-highest for
  each value, otherwise a dot.
"""

import sys

import numpy as np

MASK = (1 << 64) - 1
CELLS, BINS = 300, 51


class Numbers:
    def __init__(self, seed):
        self.state = seed

    def below(self, most):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return (self.state >> 33) % most


def count(numbers, most):
    """Small counts are frequent."""
    return 1 + numbers.below(1 + numbers.below(1 + numbers.below(most)))


def cell(number):
    """Values of float32 that are made by exact operations alone."""
    numbers = Numbers(number + 1)
    kind = number % 10
    length = 1 + numbers.below(60 if number % 3 else 1500)
    if kind == 0:  # raw counts
        values = [count(numbers, 40) for _ in range(length)]
    elif kind == 1:  # all apart
        whole = [1 + numbers.below(1 << 24) for _ in range(length)]
        values = np.array(whole, np.float32) / np.float32(1 << 21)
    elif kind == 2:  # counts brought to a total
        counts = [count(numbers, 300) for _ in range(length)]
        part = np.float32(sum(counts)) / np.float32(10_000)
        values = [np.float32(c) / part for c in counts]
    elif kind == 3:  # all equal
        values = [np.float32(count(numbers, 9)) / np.float32(3)] * length
    elif kind == 4:  # one value
        values = [np.float32(1 + numbers.below(1000)) / np.float32(7)]
    elif kind == 5:  # two values
        values = [1 + 2 * numbers.below(2) for _ in range(length)]
    elif kind == 6:  # neighbours among float32
        bits = [0x3F800000 + numbers.below(64) for _ in range(length)]
        values = np.array(bits, np.uint32).view(np.float32)
    elif kind == 7:  # of any size
        bits = [0x00000001 + numbers.below(0x7F000000) for _ in range(length)]
        values = np.array(bits, np.uint32).view(np.float32)
    elif kind == 8:  # a short cell
        values = [count(numbers, 6) for _ in range(2 + numbers.below(11))]
    else:  # a long cell with few counts
        values = [count(numbers, 5) for _ in range(1200 + numbers.below(1800))]
    return np.asarray(values, np.float32)


def fnv(words):
    total = 0xCBF29CE484222325
    for word in words:
        total = ((total ^ int(word)) * 0x100000001B3) & MASK
    return total


def main():
    out = []
    for number in range(CELLS):
        values = cell(number)
        edges = np.quantile(values, np.linspace(0, 1, BINS - 1))
        assert edges.dtype == np.float64
        left, right = np.digitize(values, edges), np.digitize(values, edges, right=True)
        middle = np.ceil(0.5 * (right - left) + left).astype(int)
        assert middle.min() >= 1 and middle.max() <= BINS - 1
        lowest = np.minimum(right + 1, left)
        text = "."
        if len(values) <= 12:
            text = ",".join(f"{m}:{a}-{b}" for m, a, b in zip(middle, lowest, left))
        ranges = (middle << 16) | (lowest << 8) | left
        hashes = f"{fnv(edges.view(np.uint64)):016x}\t{fnv(ranges):016x}"
        out.append(f"{number}\t{number % 10}\t{len(values)}\t{hashes}\t{text}\n")
    with open(sys.argv[1], "w", encoding="ascii", newline="\n") as file:
        file.write("".join(out))


if __name__ == "__main__":
    main()
