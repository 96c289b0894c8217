"""The command runs, its results have what the tables need, it ends in time, and growth is seen."""

from __future__ import annotations

import dataclasses
import json
import types

import pytest
import speed
import tables
import torch
from fixed import PARTS, ROW, ROWS, FakeTime, result
from support import ROOT
from timing import latency as latency_module
from timing import questions
from timing.latency import latency
from timing.questions import TABLES, is_flat, length
from timing.sizes import SIZES
from timing.turns import LEAST, Arm, Budget, OutOfTimeError, Running, Taken, attempt, take_turns

from vace_adapt.cache.ring import RingCache
from vace_adapt.streaming import session
from vace_adapt.streaming.chunk import SessionChunk

CPU = torch.device("cpu")


@pytest.fixture
def cheap(monkeypatch, undecoded):
    """One chunk fills the memory, and nothing is decoded."""
    monkeypatch.setattr(Running, "full", property(lambda self: self.made > 0))


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_the_tables_need(tmp_path, monkeypatch, cheap, capsys):
    monkeypatch.setitem(SIZES, "tiny", dataclasses.replace(SIZES["tiny"], resolutions=((32, 48),)))
    wanted = ["split", "latency"]
    speed.main(["--size", "tiny", "--chunks", "2", "--output", str(tmp_path), "--tables", *wanted])
    found, out = json.loads((tmp_path / "speed-tiny-cpu.json").read_text()), capsys.readouterr().out
    assert set(found["tables"]) == set(wanted)
    for table in wanted:
        setting = found["tables"][table]["setting"]
        assert setting["command"].startswith("python benchmarks/speed.py --size tiny --chunks 2")
        assert setting["device"].startswith("CPU, ")
        assert tables.markdown(found, table) in out
    (split,) = found["tables"]["split"]["groups"]
    assert split["rows"]["base"]["parts"]["context"] == 0 < split["rows"]["control"]["parts"]["context"]
    for group in found["tables"]["latency"]["groups"]:
        assert [row["chunks"] for row in group["rows"].values()] == [6, 2, 2, 2]
    assert tables.filled("<!-- speed:tiny-cpu:cost -->\n<!-- end -->", tmp_path).count("\n| ") == 2 + len(split["rows"])


def test_tables_of_another_run_stay(tmp_path, monkeypatch):
    monkeypatch.setitem(TABLES, "cache", lambda *_: [{"title": "new", "rows": ROWS, "largest_difference": 0}])
    (tmp_path / "speed-tiny-cpu.json").write_text(json.dumps(result(growth=[], cache=[])))
    speed.main(["--size", "tiny", "--tables", "cache", "--output", str(tmp_path)])
    found = json.loads((tmp_path / "speed-tiny-cpu.json").read_text())["tables"]
    assert found["growth"] == result(growth=[])["tables"]["growth"]
    assert found["cache"]["groups"][0]["title"] == "new"


@pytest.mark.parametrize("table", ["growth", "options"])
def test_every_arm_can_run(models, monkeypatch, cheap, table):
    """One chunk of each; what they cost is made up."""

    def one_chunk(arms, *_):
        for arm in arms.values():
            with Running(arm) as stream:
                stream.make(Budget(60))
        return {name: [Taken(2, {}), Taken(2, {})] for name in arms}

    monkeypatch.setattr(questions, "measure", one_chunk)
    monkeypatch.setattr(questions, "length", lambda *_: {"title": "length", "rows": ROWS})
    groups = TABLES[table](models, 2, Budget(600))
    assert not [group["skipped"] for group in groups if "skipped" in group]
    rows = [row for group in groups for row in group["rows"].values()]
    assert all(set(ROW) <= set(row) for row in rows)


def test_the_reference_cache_can_be_off(models, monkeypatch, cheap):
    """Passes of the reference rows with their cache and without it, in two chunks after another."""
    from vace_adapt.context.references import ReferenceRows

    computed = []
    real = ReferenceRows._compute
    monkeypatch.setattr(ReferenceRows, "_compute", lambda self, *args: computed.append(1) or real(self, *args))
    for around, expected in ((None, 4), (questions.forgetting_references, 8)):
        computed.clear()
        options = {} if around is None else {"around": around}
        with Running(Arm(models.pipeline(), 32, 48, references=1, **options)) as stream:
            stream.make(Budget(60))
            stream.make(Budget(60))
        assert len(computed) == expected


# --- growth -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "old", "flat"),
    [([0.9, 1, 1.1], 8, True), ([1.04, 1.2, 1.3], 8, True), ([1.06, 1.1, 1.2], 8, False), ([1, 1, 1], 9, False)],
)
def test_flat_is_no_slower_and_no_larger(ratio, old, flat):
    assert is_flat(ratio, 8, old) == flat


def growing_time(fake, monkeypatch, by):
    """Every denoise step takes a second, and `by` more with each chunk."""
    costly = fake.costing(SessionChunk.denoising, lambda chunk, *_: 1 + by * chunk.index)
    monkeypatch.setattr(SessionChunk, "denoising", costly)


def growing_memory(fake, monkeypatch, by):
    real = RingCache.tensors
    growing_time(fake, monkeypatch, 0)
    monkeypatch.setattr(
        RingCache, "tensors", lambda self: {**real(self), "old": torch.empty(by * self._end)} if by else real(self)
    )


@pytest.mark.parametrize(("growing", "by"), [(growing_time, 0), (growing_time, 1), (growing_memory, 1)])
def test_a_stream_that_grows_is_seen(models, monkeypatch, cheap, growing, by):
    fake = FakeTime()
    monkeypatch.setattr(session, "time", types.SimpleNamespace(perf_counter=fake))
    growing(fake, monkeypatch, by)
    found = length(Arm(models.pipeline(), 32, 48, control=False), 2, Budget(60))
    assert found["chunks_before"] == {"young": 1, "old": 7}
    assert found["flat"] == (not by)
    assert ("**Not flat**" in "\n".join(tables.growth(found))) == bool(by)


# --- time and memory --------------------------------------------------------------------------------------------------


class FakeStream:
    """A stream of no model, each of whose chunks takes a minute."""

    fake: FakeTime
    fails: str | None = None
    filled: list[Arm]

    def __init__(self, arm):
        self.arm = arm
        self.report = types.SimpleNamespace(cache_bytes=2**30, pixels=12)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def fill(self, budget):
        self.filled.append(self.arm)
        if self.fails == f"{self.arm.references} {self.arm.control}":
            raise torch.OutOfMemoryError("CUDA out of memory")
        for _ in range(4):
            self.make(budget)

    def make(self, budget, clock=None):
        budget.check()
        self.fake.seconds += 60
        return Taken(1.0, {})


@pytest.fixture
def fake_streams(monkeypatch):
    FakeStream.fake, FakeStream.filled = FakeTime(), []
    pipe, context = types.SimpleNamespace(device=CPU), torch.nn.Linear(3, 5)
    fake_models = types.SimpleNamespace(pipeline=lambda **_: pipe, context=lambda: context)
    monkeypatch.setattr(latency_module, "Models", lambda *_, **__: fake_models)
    monkeypatch.setattr(latency_module, "Running", FakeStream)
    return monkeypatch


def test_what_does_not_fit_is_told(fake_streams):
    fake_streams.setattr(FakeStream, "fails", "3 True")
    groups = latency(SIZES["tiny"], CPU, torch.float32, 3, Budget(10**6, FakeStream.fake))
    for group in groups:
        *whole, last = group["rows"].values()
        assert all("skipped" not in row for row in whole)
        assert last == {"skipped": "does not fit into the memory"}
    table = "\n".join(tables.latency(groups[0]))
    assert "| + 3 references + depth | does not fit into the memory |  |  |  |  |  |" in table
    assert "| + depth | 1.000 | 12.0 | 1.00 (1.00 - 1.00) |  | 1.00 | 3 |" in table


def test_models_that_do_not_fit_are_told(monkeypatch):
    def too_large(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(latency_module, "Models", too_large)
    groups = latency(SIZES["tiny"], CPU, torch.float32, 3, Budget(60))
    assert tables.latency(groups[0]) == ["32x48: not measured, does not fit into the memory."]


def test_memory_is_that_of_one_stream(fake_streams):
    """On a GPU: the peak while a stream fills, less the base's stream; the base's, less the context path's weights."""
    kib = iter([100, 130, 150])  # allocated before the base's stream and after it
    peaks = iter([140, 180, 190, 200])
    fake_streams.setattr(torch.cuda, "memory_allocated", lambda _: next(kib) * 1024)
    fake_streams.setattr(torch.cuda, "max_memory_allocated", lambda _: next(peaks) * 1024)
    fake_streams.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    latency_module.Models().pipeline().device = torch.device("cuda")
    one = dataclasses.replace(SIZES["tiny"], resolutions=((32, 48),))
    (group,) = latency(one, torch.device("cuda"), torch.float32, 2, Budget(10**6, FakeStream.fake))
    peak = [row["peak_bytes"] for row in group["rows"].values()]
    assert peak == [140 * 1024 - 20 * 4, 150 * 1024, 160 * 1024, 170 * 1024]
    assert [arm.references for arm in FakeStream.filled] == [0, 3, 0, 3]


@pytest.mark.parametrize("minutes", [4, 40, 140])
def test_it_ends_in_time(fake_streams, minutes):
    """The last measurement may end one chunk late."""
    groups = latency(SIZES["tiny"], CPU, torch.float32, 16, Budget(60 * minutes, FakeStream.fake))
    assert FakeStream.fake.seconds <= 60 * (minutes + 1)
    skipped = [row.get("skipped") for group in groups for row in (group, *group.get("rows", {}).values())]
    assert ("not enough time" in skipped) == (minutes < 140)
    assert any(skipped[:5]) == (minutes < 40)


def test_time_is_shared_and_ends():
    fake = FakeTime()
    budget = Budget(60, fake)
    fake.seconds = 12
    share = budget.share(4)
    assert (budget.left, share.left) == (48, 12)
    fake.seconds = 30
    assert share.left == 0
    share.check()
    fake.seconds = 100
    assert budget.left == 0
    with pytest.raises(OutOfTimeError):
        share.check()
    with pytest.raises(OutOfTimeError):
        budget.check()
    assert attempt(budget.check, CPU) == "not enough time"


def test_turns_rotate_and_end_with_the_time():
    fake = FakeTime()
    order = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def make(self, budget, clock):
            budget.check()
            order.append(self.name)
            fake.seconds += 1
            return Taken(1.0, {})

    times = take_turns({name: Stream(name) for name in "abc"}, 16, Budget(8.5, fake))
    assert "".join(order) == "abcbcacab"
    assert [len(taken) for taken in times.values()] == [3, 3, 3]
    with pytest.raises(OutOfTimeError):
        take_turns({name: Stream(name) for name in "abc"}, 16, Budget(4, fake))
    times = take_turns({name: Stream(name) for name in "abc"}, 16, Budget(100, fake).share(50))
    assert [len(taken) for taken in times.values()] == [LEAST] * 3


# --- the tables -------------------------------------------------------------------------------------------------------


def test_every_table_has_a_writer():
    assert set(tables.WRITERS) == {*speed.EVERY, "cost"}


def test_tables_of_fixed_numbers():
    parts = {"parts": PARTS, "ratio_without_vae": [1, 2, 3]}
    split = [{"title": "32x48", "rows": {name: row | parts for name, row in ROWS.items()}}]
    found = result(split=split, options=[{"title": "memflow", "skipped": "not enough time"}])
    assert tables.markdown(found, "cost").splitlines() == [
        "mid: width 384, 12 blocks, 6 context blocks, random weights; A100, bfloat16, torch 2.13.0; 2026-01-02, "
        "`python benchmarks/speed.py`. Medians; of ratios the quartiles too.",
        "",
        "32x48, 4 chunks:",
        "",
        "| stream | s per chunk | of which VAE | ratio to base | ratio without VAE |",
        "| --- | --- | --- | --- | --- |",
        "| base | 2.000 | 1.000 | 1.25 (1.00 - 1.50) | 2.00 (1.00 - 3.00) |",
        "| control | 3.000 | 1.000 | 1.25 (1.00 - 1.50) | 2.00 (1.00 - 3.00) |",
    ]
    assert "| base | 2.000 | 0.250 | 0.500 | 1.000 | 0.250 | 0.750 | 0.000 | " in tables.markdown(found, "split")
    assert tables.markdown(found, "options").endswith("memflow: not measured, not enough time.")


def test_sections_are_filled_and_others_left(tmp_path):
    (tmp_path / "speed-mid-cpu.json").write_text(json.dumps(result(options=[{"title": "longlive", "rows": ROWS}])))
    text = "a\n<!-- speed:mid-cpu:options -->\nold\n<!-- end -->\n<!-- speed:1.3b-cuda:latency -->\n<!-- end -->\nb\n"
    found = tables.filled(text, tmp_path)
    assert "| control | 3.000 | 1.25 (1.00 - 1.50) | base |\n<!-- end -->" in found
    assert "<!-- speed:1.3b-cuda:latency -->\nNot measured.\n<!-- end -->\nb\n" in found
    assert "old" not in found
    assert tables.filled(found, tmp_path) == found


def test_the_page_is_generated_not_typed():
    page = (ROOT / "docs" / "speed.md").read_text()
    assert tables.filled(page) == page, "run python benchmarks/tables.py"
    assert page.count("<!-- speed:") == 6  # four tables on the CPU, two sizes on a GPU
