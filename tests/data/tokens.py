"""Makes tokens.tsv: the ids that the published tokenisers of DNABERT and UTR-LM give, by their
vocabularies and rules as they are described, in another way than the program's: words are looked
up in a table.

    python tokens.py > tokens.tsv

Sequences come from a generator that tests/tokens.rs has, too. A line holds the number of the first
of 100 sequences and, for each vocabulary, a 64-bit FNV-1a over their ids.
"""

from itertools import product

LETTERS = "ACGTACGTACGTACGTACGTACGTacgtacgtUuNRyn"
MASK = (1 << 64) - 1


class Numbers:
    def __init__(self):
        self.state = 1

    def below(self, most):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) & MASK
        return (self.state >> 33) % most


def sequences():
    numbers = Numbers()
    for number in range(10_000):
        # Every length up to 599; one in four has plain letters only.
        length = number % 600
        kinds = 24 if numbers.below(4) == 0 else len(LETTERS)
        yield "".join(LETTERS[numbers.below(kinds)] for _ in range(length))


def folded(sequence):
    return sequence.upper().replace("U", "T")


def dnabert(k):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += ["".join(word) for word in product("ATCG", repeat=k)]
    table = {word: number for number, word in enumerate(words)}

    def ids(sequence):
        sequence = folded(sequence)
        own = [sequence[i : i + k] for i in range(len(sequence) - k + 1)]
        return [table["[CLS]"], *(table.get(word, table["[UNK]"]) for word in own), table["[SEP]"]]

    return ids


def utr_lm(sequence):
    words = ["<pad>", "<eos>", "<unk>", *"AGCT", "<cls>", "<mask>", "<sep>"]
    table = {word: number for number, word in enumerate(words)}
    own = [table.get(letter, table["<unk>"]) for letter in folded(sequence)]
    return [table["<cls>"], *own, table["<eos>"]]


def main():
    vocabularies = {f"dnabert-{k}": dnabert(k) for k in (3, 4, 5, 6)} | {"utr-lm": utr_lm}
    print("first", *vocabularies, sep="\t")
    hashes = None
    for number, sequence in enumerate(sequences()):
        if number % 100 == 0:
            hashes = [0xCBF29CE484222325] * len(vocabularies)
        for at, ids in enumerate(vocabularies.values()):
            for word in ids(sequence):
                for byte in word.to_bytes(4, "little"):
                    hashes[at] = ((hashes[at] ^ byte) * 0x100000001B3) & MASK
        if number % 100 == 99:
            print(number - 99, *(f"{value:016x}" for value in hashes), sep="\t")


main()
