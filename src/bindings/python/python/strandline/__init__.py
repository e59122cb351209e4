"""Splice-site, promoter and expression calls from nanopore reads, with int8 models."""

import functools as _functools

from ._errors import InputError, ModelError
from ._strandline import Annotator, Batch, Calls, Model, __version__

__all__ = [
    "Annotator",
    "Batch",
    "Calls",
    "InputError",
    "Model",
    "ModelError",
    "__version__",
    "annotate",
    "score",
]


def annotate(
    reads, *, threads=None, batch_reads=256, strict=False, max_read_len=16_000_000, **options
):
    return Annotator(**options).annotate(
        reads,
        threads=threads,
        batch_reads=batch_reads,
        strict=strict,
        max_read_len=max_read_len,
    )


@_functools.lru_cache(maxsize=16)
def _model(model, tier):
    return Model(model, tier=tier)


def score(sequence, model="splice", *, tier="auto", strand="forward"):
    return _model(model, tier).score(sequence, strand=strand)
