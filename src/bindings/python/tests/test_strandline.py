"""The Python package against the program: STRANDLINE names it, or else the release build is used.

pytest src/bindings/python/tests
"""

import gc
import gzip
import itertools
import logging
import os
import pathlib
import subprocess
import sys
import threading
import types
import weakref

import numpy as np
import pandas
import polars
import pyarrow
import pytest
import strandline

ROOT = pathlib.Path(__file__).resolve().parents[4]
DATA = ROOT / "tests" / "data"
READS = DATA / "reads.fastq.gz"
PROGRAM = os.environ.get("STRANDLINE", str(ROOT / "target" / "release" / "strandline"))


def program(*words):
    return subprocess.run([PROGRAM, "-q", *map(str, words)], check=True, capture_output=True).stdout


def table(path, *options):
    """The program's TSV, as rows of text."""
    lines = program("annotate", *options, path).decode().splitlines()
    return [tuple(line.split("\t")) for line in lines[1:]]


def rows(dicts):
    """Dicts as the program writes them."""
    return [
        (
            call["read"],
            str(call["start"]),
            str(call["end"]),
            call["strand"],
            call["kind"],
            f"{call['score']:.4f}",
            call["model"],
            ",".join(call["flags"]) or ".",
        )
        for call in dicts
    ]


def letters(count=None):
    lines = gzip.open(READS, "rt").read().splitlines()
    return list(zip((name[1:].split()[0] for name in lines[::4]), lines[1::4]))[:count]


def test_calls_are_those_of_the_program():
    for options, words in [
        ({}, []),
        ({"tier": "fast", "tasks": "splice"}, ["--tier", "fast", "--tasks", "splice"]),
        ({"strand": "reverse", "min_score": 0.5}, ["--strand", "reverse", "--min-score", "0.5"]),
        ({"clade": "plant"}, ["--clade", "plant"]),
        ({"priors": {"donor": 0.001}}, ["--prior", "donor=0.001"]),
        ({"models": [ROOT / "models" / "splice.safetensors"]}, []),
    ]:
        expected = table(READS, *words)
        assert len(expected) > 100
        assert rows(strandline.annotate(READS, **options).to_dicts()) == expected, options
        pairs = strandline.annotate(letters(), threads=3, batch_reads=7, **options)
        assert rows(pairs.to_dicts()) == expected, options
        assert (pairs.reads_in, pairs.reads_out, pairs.rejected) == (150, 150, [])


def test_genes_longer_than_a_chunk():
    genes = DATA / "genes.fa.gz"
    assert rows(strandline.annotate(str(genes)).to_dicts()) == table(genes)


def test_sequences_of_all_kinds():
    name, sequence = max(letters(), key=lambda pair: len(pair[1]))
    expected = strandline.annotate([(name, sequence)]).to_dicts()
    assert expected
    for other in (sequence.encode(), bytearray(sequence.encode()), sequence.lower()):
        calls = strandline.annotate([(name.encode(), other)]).to_dicts()
        assert calls == expected
    calls = strandline.annotate(["ACGT", sequence]).to_dicts()
    assert {call["read"] for call in calls} == {"1"}
    for wrong in ([1], [None], [("a", "ACGT", 3)], [("a", 5)]):
        with pytest.raises(TypeError):
            strandline.annotate(wrong).to_dicts()


def test_arrow_without_a_copy_of_the_rules():
    expected = strandline.annotate(READS).to_dicts()
    taken = pyarrow.table(strandline.annotate(READS, batch_reads=10))
    assert taken.column_names == [
        "read", "start", "end", "strand", "kind", "score", "model", "flags",
    ]  # fmt: skip
    flags = [",".join(call["flags"]) or "." for call in expected]
    assert taken.to_pylist() == [{**call, "flags": f} for call, f in zip(expected, flags)]
    assert polars.DataFrame(strandline.annotate(READS)).rows() == polars.from_arrow(taken).rows()
    frame = pandas.DataFrame.from_arrow(strandline.annotate(READS))
    assert frame.to_dict("records") == taken.to_pylist()
    batch = next(strandline.annotate(READS))
    assert pyarrow.record_batch(batch).to_pylist() == taken.slice(0, len(batch)).to_pylist()
    assert polars.DataFrame(batch).height == len(batch) == len(batch.to_dicts())
    with pytest.raises(pyarrow.ArrowException):
        pyarrow.table(strandline.annotate(["ACG!"], strict=True))


def test_nothing_but_numpy_is_imported():
    code = f"""
import sys, strandline
assert strandline.annotate({str(READS)!r}).to_dicts()
assert strandline.score("ACGT" * 100).shape == (400, 2)
assert not {{"pyarrow", "polars", "pandas"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_reads_that_grow_have_the_same_calls():
    whole = strandline.Annotator()
    grown = strandline.Annotator()
    reads = letters(6)
    expected = {name: [] for name, _ in reads}
    for call in whole.annotate(reads).to_dicts():
        expected[call["read"]].append(call)
    calls = {name: [] for name, _ in reads}
    # All at once, in pieces of many sizes.
    for start in range(0, max(len(sequence) for _, sequence in reads), 731):
        for name, sequence in reads:
            if start < len(sequence):
                calls[name] += grown.push(name, sequence[start : start + 731]).to_dicts()
    assert grown.open_reads == 6
    early = sum(map(len, calls.values()))
    for name, _ in reads:
        calls[name] += grown.finish(name).to_dicts()

    def by_place(all):
        return sorted(all, key=lambda call: (call["start"], call["strand"], call["kind"]))

    assert {name: by_place(c) for name, c in calls.items()} == {
        name: by_place(c) for name, c in expected.items()
    }
    assert early > 0 and grown.open_reads == 0
    with pytest.raises(KeyError):
        grown.finish(reads[0][0])
    grown.push("again", "ACGT")
    assert grown.abort("again") and not grown.abort("again")
    assert "splice-auto" in grown.models[0] and grown.context > 100


def test_bad_reads_cost_nothing_else(caplog):
    reads = letters(3)
    mixed = [reads[0], ("bad", "ACGT!ACGT"), reads[1], ("worse", "-"), reads[2]]
    with caplog.at_level(logging.WARNING, "strandline"):
        calls = strandline.annotate(mixed)
        assert calls.to_dicts() == strandline.annotate(reads).to_dicts()
    assert (calls.reads_in, calls.reads_out) == (5, 3)
    first, second = calls.rejected
    assert (first.file, first.record, first.byte) == (None, 2, 4)
    assert "bad" in str(first) and "'!'" in str(first)
    assert second.record == 4 and len(caplog.records) == 2
    with pytest.raises(strandline.InputError, match="byte 4"):
        strandline.annotate(mixed, strict=True).to_dicts()


def test_a_strict_run_gives_what_came_before():
    reads = letters(5)
    taken = []

    def some():
        for pair in [*reads[:3], ("bad", "AC!"), *reads[3:]]:
            taken.append(pair)
            yield pair

    calls = strandline.annotate(some(), strict=True)
    got = []
    with pytest.raises(strandline.InputError, match="bad"):
        for batch in calls:
            got += batch.to_dicts()
    assert got == strandline.annotate(reads[:3]).to_dicts() and len(taken) == 4
    assert list(calls) == []
    limited = strandline.annotate(reads, max_read_len=100)
    assert limited.to_dicts() == [] and "more than the limit" in str(limited.rejected[0])


def test_odd_texts_are_rejected_alone():
    reads = letters(2)
    odd = [reads[0], ("odd", "ACGT\udcff"), ("na\udcffme", reads[1][1])]
    calls = strandline.annotate(odd).to_dicts()
    assert {call["read"] for call in calls} >= {reads[0][0]}
    assert any("\ufffd" in call["read"] for call in calls)


def test_asking_from_inside_is_an_error_and_counters_never_wait():
    seen = []

    def reads():
        for number, pair in enumerate(letters(4)):
            seen.append(calls.reads_in)
            if number == 2:
                with pytest.raises(ValueError, match="while they are being made"):
                    next(calls)
            yield pair

    calls = strandline.annotate(reads(), batch_reads=2)
    assert calls.to_dicts() == strandline.annotate(letters(4)).to_dicts()
    assert seen == [0, 0, 2, 2]
    # A batch of bad reads ends, too.
    endless = strandline.annotate(itertools.chain(itertools.repeat("!", 1000), letters(1)))
    assert endless.to_dicts() and len(endless.rejected) == 1000


def test_threads_that_push_to_one_read_wait_for_each_other():
    sequence = "".join(pair[1] for pair in letters(10))[:60_000]
    grown = strandline.Annotator(tier="fast")
    end = threading.Barrier(4)

    def push(own):
        end.wait()
        for _ in range(5):
            grown.push("read", own)

    threads = [threading.Thread(target=push, args=("ACGT" * 750,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # All the bases are in: a push behind them begins at 60,000.
    whole = grown.annotate([("read", "ACGT" * 15_000 + sequence)]).to_dicts()
    calls = grown.push("read", sequence).to_dicts() + grown.finish("read").to_dicts()
    assert {c["start"] for c in calls if c["start"] > 62_000} == {
        c["start"] for c in whole if c["start"] > 62_000
    }
    assert any(c["start"] > 62_000 for c in calls)


def test_what_nobody_holds_is_collected():
    class Own:
        def __iter__(self):
            return iter(letters(1))

    def cycle():
        own = Own()
        own.calls = strandline.annotate(own)
        return weakref.ref(own)

    gone = cycle()
    gc.collect()
    assert gone() is None


def test_bad_files_are_named(tmp_path):
    with pytest.raises(strandline.InputError, match="no such file") as caught:
        strandline.annotate(tmp_path / "missing.fastq")
    assert caught.value.file.endswith("missing.fastq")
    cut = tmp_path / "cut.fastq.gz"
    whole = READS.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    calls = strandline.annotate(cut)
    got = []
    with pytest.raises(strandline.InputError, match="cut off") as caught:
        for batch in calls:
            got += batch.to_dicts()
    assert caught.value.file == str(cut) and caught.value.byte == len(whole) // 2
    expected = strandline.annotate(READS).to_dicts()
    assert got == expected[: len(got)] and len(got) > 100
    # What has ended stays at its end.
    assert list(calls) == []
    text = tmp_path / "bad.fastq"
    text.write_text("@a\nACGT\n+\nIIII\n@b\nAC*T\n+\nIIII\n@c\nACGT\n+\nIIII\n")
    calls = strandline.annotate(text)
    assert calls.to_dicts() == [] and (calls.reads_in, calls.reads_out) == (3, 2)
    (error,) = calls.rejected
    assert (error.file, error.record, error.byte) == (str(text), 2, 20)


def test_an_iterable_is_read_no_further_than_asked():
    taken = []

    def reads():
        for pair in letters(20):
            taken.append(pair)
            yield pair
        raise RuntimeError("no more")

    calls = strandline.annotate(reads(), batch_reads=1)
    first = next(calls).to_dicts()
    assert first and len(taken) < 20
    rest = []
    with pytest.raises(RuntimeError, match="no more"):
        for batch in calls:
            rest += batch.to_dicts()
    assert first + rest == strandline.annotate(letters(20)).to_dicts()


def test_wrong_options_are_named():
    for options, expected in [
        ({"tier": "best"}, "fast, accurate or auto"),
        ({"tasks": ["splicing"]}, "splicing"),
        ({"task": "splice"}, "no option"),
        ({"clade": "fungus"}, "fungus"),
        ({"priors": {"donor": 2}}, "above 0 and below 1"),
        ({"threads": 0}, "at least 1"),
        ({"max_read_len": 0}, "at least 1"),
        ({"min_score": [0.1, 0.9]}, "one value"),
    ]:
        with pytest.raises(ValueError, match=expected):
            strandline.annotate(READS, **options)
    with pytest.raises(strandline.ModelError, match="reads.fastq.gz"):
        strandline.annotate(READS, models=[READS])
    with pytest.raises(TypeError, match="bytes"):
        strandline.annotate(READS, tasks=b"splice")
    rates = types.MappingProxyType({"donor": 0.001})
    assert strandline.annotate(READS, priors=rates, tasks="splice").to_dicts()


def test_scores_are_those_of_the_program(tmp_path):
    sequence = letters(1)[0][1]
    text = tmp_path / "one.fa"
    text.write_text(f">one\n{sequence}\n")
    for task, tier in [("splice", "accurate"), ("splice", "fast"), ("promoter", "auto")]:
        folder = tmp_path / f"{task}-{tier}"
        program("score", text, "--task", task, "--tier", tier, "-o", folder)
        for strand in ("forward", "reverse"):
            expected = np.load(folder / f"00000001.{strand}.npy")
            scores = strandline.score(sequence, task, tier=tier, strand=strand)
            assert scores.dtype == np.float32 and scores.shape == expected.shape
            assert (scores == expected).all()
            # The array stands on the numbers that were computed.
            assert not scores.flags.owndata and scores.flags.writeable
    model = strandline.Model(ROOT / "models" / "splice.safetensors", tier="fast")
    assert (model.score(sequence) == strandline.score(sequence, tier="fast")).all()
    assert model.name == "splice-fast" and model.task == "splice" and len(model.hash) == 64
    assert model.outputs == ["acceptor", "donor"]
    assert model.score("").shape == (0, len(model.outputs))
    whole = strandline.Model("expression").score(sequence[:80])
    assert whole.shape == (1,) and 0 < whole[0] < 10
    with pytest.raises(ValueError, match="too short"):
        strandline.Model("expression").score("")
    with pytest.raises(strandline.InputError):
        model.score("ACGT!")
    with pytest.raises(ValueError, match="reads bases"):
        model.score([1, 2, 3])
    with pytest.raises(strandline.ModelError, match="splicing"):
        strandline.Model("splicing")


def test_raw_models_take_codes_or_ids():
    model = strandline.Model(DATA / "packed" / "bert_script.safetensors")
    scores = model.score([token % 12 for token in range(20)])
    assert scores.dtype == np.float32 and np.isfinite(scores).all()
    assert (model.score(np.arange(20, dtype=np.uint32) % 12) == scores).all()


def test_other_threads_go_on_meanwhile():
    sequence = "ACGTTGCA" * 100_000
    model = strandline.Model("splice", tier="accurate")
    scored = []
    thread = threading.Thread(target=lambda: scored.append(model.score(sequence)))
    thread.start()
    steps = 0
    while thread.is_alive():
        steps += 1
    assert scored[0].shape[0] == len(sequence)
    # With the interpreter's lock held, this thread would not have come here before the end.
    assert steps > 1_000


def test_what_the_document_shows(tmp_path, monkeypatch):
    (tmp_path / "reads.fastq.gz").write_bytes(READS.read_bytes())
    monkeypatch.chdir(tmp_path)
    blocks = (ROOT / "docs" / "python.md").read_text().split("```python\n")[1:]
    assert len(blocks) == 5
    for block in blocks:
        exec(compile(block.split("```")[0], "docs/python.md", "exec"), {})
