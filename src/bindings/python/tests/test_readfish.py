"""The plug-in for readfish, with readfish's own configuration, its `no_op` parts and its rules."""

import pathlib
import sys
import types

import pytest
from readfish._config import Conf, make_decision
from readfish.plugins.utils import Action, Result
from test_strandline import letters

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"

TOML = """
[caller_settings.strandline_readfish]
basecaller = "{basecaller}"
tasks = ["splice"]
min_score = 0.9

[caller_settings.strandline_readfish.basecaller_settings]
speed = "any"

[mapper_settings.no_op]

[[regions]]
name = "reads with splice sites"
targets = {targets}
single_on = "stop_receiving"
multi_on = "stop_receiving"
single_off = "unblock"
multi_off = "unblock"
no_map = "unblock"
no_seq = "proceed"
"""


class Chunk:
    """A read's signal, as far as a caller without a device looks at it."""

    def __init__(self, name):
        self.id = name


@pytest.fixture
def basecaller(monkeypatch):
    """A caller that knows the sample reads, in place of one that needs a device."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    known = dict(letters(12))

    class Caller:
        def __init__(self, run_information, sample_rate, speed):
            assert (run_information, sample_rate, speed) == ("run", 5000, "any")

        def validate(self):
            return None

        def basecall(self, chunks, signal_dtype, daq_values):
            for channel, chunk in chunks:
                yield Result(channel=channel, read_id=chunk.id, seq=known.get(chunk.id, ""))

        def describe(self):
            return "Made up."

        def disconnect(self):
            return None

    monkeypatch.setitem(sys.modules, "made_up", types.SimpleNamespace(Caller=Caller))
    return known


def decided(tmp_path, basecaller, targets, chunks):
    """What readfish's loop makes of some chunks."""
    path = tmp_path / "experiment.toml"
    path.write_text(TOML.format(basecaller=basecaller, targets=targets))
    conf = Conf.from_file(path, channels=512)
    caller = conf.caller_settings.load_object("Caller", run_information="run", sample_rate=5000)
    mapper = conf.mapper_settings.load_object("Aligner")
    assert caller.validate() is None and mapper.initialised
    assert "splice-auto" in caller.describe()
    actions = {}
    for result in mapper.map_reads(caller.basecall(chunks, None, {})):
        _, condition = conf.get_conditions(result.channel, result.barcode)
        result.decision = make_decision(conf, result)
        actions[result.read_id] = condition.get_action(result.decision)
    caller.disconnect()
    return actions


def test_calls_decide(tmp_path, basecaller):
    import strandline

    calls = strandline.annotate(basecaller.items(), tasks="splice", min_score=0.9).to_dicts()
    with_donor = {call["read"] for call in calls if call["kind"] == "donor"}
    with_any = {call["read"] for call in calls}
    assert with_donor and with_any - with_donor and set(basecaller) - with_any
    chunks = [(number + 1, Chunk(name)) for number, name in enumerate(basecaller)]
    chunks.append((400, Chunk("no bases yet")))
    actions = decided(tmp_path, "made_up", '["donor", "acceptor"]', chunks)
    assert actions.pop("no bases yet") is Action.proceed
    assert {name for name, action in actions.items() if action is Action.stop_receiving} == with_any
    assert Action.proceed not in actions.values()
    actions = decided(tmp_path, "made_up", '["donor"]', chunks)
    kept = {name for name, action in actions.items() if action is Action.stop_receiving}
    assert kept == with_donor


def test_readfish_own_caller_without_bases(tmp_path, basecaller):
    actions = decided(tmp_path, "no_op", '["donor"]', [(1, Chunk("a")), (2, Chunk("b"))])
    assert actions == {"a": Action.proceed, "b": Action.proceed}
