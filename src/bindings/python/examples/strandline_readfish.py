"""A plug-in for readfish 2024.3: reads are kept or ejected by strandline's calls, without a mapper.

Another plug-in calls the bases; this one calls splice sites and promoters in them, and hands them
on as if they were alignments to contigs that are called `donor`, `acceptor` and `promoter`. So the
targets and actions of readfish's TOML decide:

    [caller_settings.strandline_readfish]
    basecaller = "dorado"
    tasks = ["splice"]
    min_score = 0.9

    [caller_settings.strandline_readfish.basecaller_settings]
    config = "dna_r10.4.1_e8.2_400bps_5khz_fast"
    address = "ipc:///tmp/.guppy/5555"

    [mapper_settings.no_op]

    [[regions]]
    name = "reads with splice sites"
    targets = ["donor", "acceptor"]
    single_on = "stop_receiving"
    multi_on = "stop_receiving"
    single_off = "proceed"
    multi_off = "proceed"
    no_map = "proceed"
    no_seq = "proceed"
    max_chunks = 8
    above_max_chunks = "unblock"

The file must be where Python looks for modules (PYTHONPATH). A target may be narrower, such as
"donor,0,2000,+": readfish compares the call's place in the read and its strand.
"""

import attrs
import strandline
from readfish._config import _PluginModule
from readfish.plugins.abc import CallerABC


@attrs.define
class CallAlignment:
    """A call, as readfish has an alignment: the contig is the kind of call."""

    ctg: str
    strand: int
    r_st: int
    r_en: int


class Caller(CallerABC):
    """Calls features in what another caller gives."""

    def __init__(
        self, debug_log=None, *, basecaller, basecaller_settings=None, run_information=None,
        sample_rate=None, **options,
    ):  # fmt: skip
        inner = _PluginModule(basecaller, dict(basecaller_settings or {}))
        self.inner = inner.load_object(
            "Caller", run_information=run_information, sample_rate=sample_rate
        )
        self.annotator = strandline.Annotator(**options)

    def validate(self):
        return self.inner.validate()

    def basecall(self, chunks, signal_dtype, daq_values):
        results = list(self.inner.basecall(chunks, signal_dtype, daq_values))
        # Channels are named by their place: two reads of one name would be one.
        reads = ((str(place), result.seq) for place, result in enumerate(results))
        for call in self.annotator.annotate(reads, threads=1).to_dicts():
            result = results[int(call["read"])]
            found = CallAlignment(
                call["kind"], 1 if call["strand"] == "+" else -1, call["start"], call["end"]
            )
            result.alignment_data = [*(result.alignment_data or []), found]
        yield from results

    def describe(self):
        return f"{self.inner.describe()} Features are called by {', '.join(self.annotator.models)}."

    def disconnect(self):
        return self.inner.disconnect()
