"""Splice-site, promoter and expression calls from nanopore reads, with int8 models.

Positions are 0-based and half-open, in forward coordinates of the read on both strands, as in the
program's TSV. Scores are those of the program, bit for bit, on every processor.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt

__version__: str

Bases: TypeAlias = str | bytes | bytearray
"""A sequence: letters of any case, U for T, IUPAC codes count as N."""

Read: TypeAlias = Bases | tuple[Bases, Bases]
"""A sequence, or a pair of name and sequence."""

Reads: TypeAlias = str | os.PathLike[str] | Iterable[Read]
"""The path of a FASTA, FASTQ or BAM file (plain or compressed), or an iterable of reads."""

Tier: TypeAlias = Literal["fast", "accurate", "auto"]
Clade: TypeAlias = Literal["vertebrate", "insect", "nematode", "plant"]

class Call(TypedDict):
    """A call as a dict."""

    read: str
    """The read's name; of a read without one its number in the iterable, from 0."""
    start: int
    end: int
    strand: Literal["+", "-"]
    kind: str
    """donor, acceptor, promoter, tf, expression or promoter-strength."""
    score: float
    """A calibrated probability; for expression the mean ribosome load, for promoter-strength the
    natural logarithm of the rate over a reference promoter's."""
    model: str
    """Name and version of the model, with a slash between."""
    flags: list[str]

class InputError(ValueError):
    """Something in reads or in a file of reads."""

    message: str
    file: str | None
    """The input, where it is a file."""
    record: int | None
    """The record's number in it, from 1, where it is known."""
    byte: int | None
    """The byte: of the uncompressed file, or of the sequence, from 0."""

class ModelError(ValueError):
    """A model file that cannot be opened or run."""

class Batch:
    """Calls of some reads.

    A record batch to whatever takes Arrow through the PyCapsule interface, such as
    ``pyarrow.record_batch(batch)`` or ``polars.DataFrame(batch)``: columns read, start, end,
    strand, kind, score, model, and flags with commas between, or a dot.
    """

    def __len__(self) -> int:
        """Calls in it."""

    def to_dicts(self) -> list[Call]:
        """A dict for each call."""

    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]: ...

class Calls(Iterator[Batch]):
    """Batches of calls, in the order of the reads, made as they are asked for.

    All that is left becomes a table by ``pyarrow.table(calls)`` or ``polars.DataFrame(calls)``.
    """

    def __next__(self) -> Batch:
        """The next batch that has calls.

        Raises, after everything before was given: InputError where a file ends early, or for a bad
        read if the run is strict; what the iterable raises. ValueError if the iterable itself asks.
        Through Arrow these become errors of whoever takes the stream.
        """

    @property
    def reads_in(self) -> int:
        """Reads taken in so far, good and bad."""

    @property
    def reads_out(self) -> int:
        """Reads annotated so far."""

    @property
    def rejected(self) -> list[InputError]:
        """Why reads were not accepted: the first 1,000 of them. ``reads_in - reads_out`` counts
        all. Each is a warning of the logger ``strandline``, too."""

    def to_dicts(self) -> list[Call]:
        """A dict for each call that is left."""

    def __arrow_c_schema__(self) -> object: ...
    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...

class Annotator:
    """Models and options. Opened once, it serves any number of reads and threads."""

    def __init__(
        self,
        *,
        tasks: str | Sequence[str] | None = None,
        tier: Tier = "auto",
        clade: Clade = "vertebrate",
        molecule: Literal["dna", "rna"] = "dna",
        strand: Literal["both", "forward", "reverse"] | None = None,
        min_score: float | None = None,
        priors: Mapping[str, float] | None = None,
        models: Sequence[str | os.PathLike[str]] | None = None,
        max_starts: int = 1,
        everywhere: bool = False,
    ) -> None:
        """The options of ``strandline annotate``, by the same names.

        Raises ValueError for options that cannot be, ModelError for a model file.
        """

    def annotate(
        self,
        reads: Reads,
        *,
        threads: int | None = None,
        batch_reads: int = 256,
        strict: bool = False,
        max_read_len: int = 16_000_000,
    ) -> Calls:
        """Annotates reads, ``batch_reads`` at a time, or as many as have a million bases.

        The interpreter's lock is released while reads are scored, on so many threads (as many as
        there are cores without a number). A bad read is passed over, counted and logged; with
        ``strict`` it is raised as InputError.
        """

    def push(self, read: Bases, bases: Bases) -> Batch:
        """The next bases of a read that grows, named by anything; the calls that they make certain.

        A call leaves as soon as the bases that it depends on are there.
        """

    def finish(self, read: Bases) -> Batch:
        """The rest of a read's calls; the name is free again. Raises KeyError where it is not open."""

    def abort(self, read: Bases) -> bool:
        """Forgets an open read; False where there was none of this name."""

    @property
    def open_reads(self) -> int:
        """Reads that were pushed and neither finished nor aborted."""

    @property
    def models(self) -> list[str]:
        """Name and version of each model, as calls name them."""

    @property
    def context(self) -> int:
        """Bases behind a position that must be there before its calls leave."""

class Model:
    """One model: ``splice``, ``promoter`` and the other built-in ones, or a model file.

    The name of a built-in model and a file of that name: the file.
    """

    def __init__(self, model: str | os.PathLike[str], *, tier: Tier = "auto") -> None:
        """Raises ModelError where the file is no model."""

    def score(
        self,
        sequence: Bases | Sequence[int],
        *,
        strand: Literal["forward", "reverse"] = "forward",
    ) -> npt.NDArray[np.float32]:
        """Scores, without a copy: ``[length, outputs]`` of a model that scores bases, in forward
        order on both strands; ``[outputs]`` of one that scores whole sequences.

        Calibrated, as ``strandline score`` has them; of a raw model the network's own numbers.
        Models of tokens without a tokeniser take their ids. Raises InputError for a letter that is
        no nucleotide, ValueError for a sequence that is too short.
        """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def task(self) -> str: ...
    @property
    def outputs(self) -> list[str]:
        """Names of the columns of a score."""

    @property
    def context(self) -> tuple[int, int]:
        """Bases before and behind a position that its score depends on."""

    @property
    def file(self) -> str: ...
    @property
    def hash(self) -> str:
        """BLAKE3 of its tensors."""

def annotate(
    reads: Reads,
    *,
    threads: int | None = None,
    batch_reads: int = 256,
    strict: bool = False,
    max_read_len: int = 16_000_000,
    **options: Any,
) -> Calls:
    """Annotates reads: ``Annotator(**options).annotate(reads, ...)``.

    >>> for batch in strandline.annotate("reads.fastq.gz", tasks=["splice"], tier="fast"):
    ...     print(batch.to_dicts())
    """

def score(
    sequence: Bases,
    model: str = "splice",
    *,
    tier: Tier = "auto",
    strand: Literal["forward", "reverse"] = "forward",
) -> npt.NDArray[np.float32]:
    """Scores of a sequence: ``Model(model, tier=tier).score(sequence, strand=strand)``; models
    stay open."""
