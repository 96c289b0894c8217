"""A run that was killed goes on as if it had not been, to the bit."""

from __future__ import annotations

import json

import pytest
import torch
import training
from muon import Optimizers
from torch import nn
from training import Training, cooled

pytestmark = pytest.mark.usefixtures("gradients")

STEPS = 4


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(autouse=True)
def _saved_after_every_step(monkeypatch):
    monkeypatch.setattr(training, "SAVE_SECONDS", -1)


def run(folder, until=STEPS):
    """Train, or go on; the process is killed in the middle of step `until`."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 4))
    optimizers = Optimizers([module], 0.02, 1e-2)
    stage = Training(folder, STEPS, seed=9, parts={"module": module, "optimizers": optimizers})
    torch.manual_seed(len(str(folder)))  # nothing depends on it
    for generator in stage:
        x = torch.randn((5, 6), generator=generator)
        loss = (module(x) ** 2).mean()
        optimizers.step(loss, cooled(stage.done, warm=0.5))
        stage.note(loss=loss)
        if stage.step == until:
            raise Killed
    return module.state_dict(), optimizers.state_dict(), stage


def killed(folder, until):
    with pytest.raises(Killed):
        run(folder, until)


def flat(state):
    """Every tensor and number of a nested state, in order."""
    if isinstance(state, dict):
        return [leaf for key in state for leaf in flat(state[key])]
    if isinstance(state, (list, tuple)):
        return [leaf for value in state for leaf in flat(value)]
    return [torch.as_tensor(state)] if isinstance(state, (torch.Tensor, int, float)) else []


def same(first, second):
    a, b = flat(first), flat(second)
    return len(a) == len(b) > 8 and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def goes_on_to_the_bit(folder, kills):
    module, optimizers, stage = run(folder / "whole")
    for until in kills:
        killed(folder / "parts", until)
    resumed, their_optimizers, their_stage = run(folder / "parts")
    assert same((module, optimizers), (resumed, their_optimizers))
    assert stage.losses == their_stage.losses
    assert len(stage.losses["loss"]) == their_stage.step == STEPS


@pytest.mark.parametrize("kills", [[2], [0, 1, 1, 3], [3]])
def test_a_killed_run_goes_on(tmp_path, kills):
    goes_on_to_the_bit(tmp_path, kills)


def test_a_finished_run_is_not_run_again(tmp_path):
    module, optimizers, _ = run(tmp_path)
    again, their_optimizers, stage = run(tmp_path)
    assert same((module, optimizers), (again, their_optimizers))
    assert len(stage.losses["loss"]) == STEPS
    assert {path.name for path in tmp_path.iterdir()} == {"state.pt", "losses.json"}


def test_forgotten_momentum_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(Optimizers, "load_state_dict", lambda self, state: None)
    with pytest.raises(AssertionError):
        goes_on_to_the_bit(tmp_path, [2])


def test_numbers_that_depend_on_the_process_are_noticed(tmp_path, monkeypatch):
    class Running(torch.Generator):
        def manual_seed(self, seed):
            return torch.default_generator

    monkeypatch.setattr(training.torch, "Generator", Running)
    with pytest.raises(AssertionError):
        goes_on_to_the_bit(tmp_path, [2])


def test_every_step_draws_other_numbers(tmp_path):
    stage = Training(tmp_path, 5, seed=1, parts={})
    drawn = [float(torch.rand((), generator=generator)) for generator in stage]
    other = Training(tmp_path / "other", 5, seed=2, parts={})
    drawn += [float(torch.rand((), generator=generator)) for generator in other]
    assert len(set(drawn)) == 10


# --- saving -------------------------------------------------------------------------------------------------------


def half_written(monkeypatch, after):
    """The process dies while the state is written for the time number `after`, counted from 0."""
    save, count = torch.save, iter(range(100))

    def dying(state, path):
        save(state, path)
        if next(count) == after:
            path.write_bytes(path.read_bytes()[:200])
            raise Killed

    monkeypatch.setattr(training.torch, "save", dying)


def outlives_a_death_while_saving(folder, monkeypatch):
    expected, optimizers, _ = run(folder / "whole")
    with monkeypatch.context() as patched:
        half_written(patched, after=2)
        killed(folder / "parts", None)
    assert torch.load(folder / "parts" / "state.pt", weights_only=True)["record"]["step"] == 2
    resumed, their_optimizers, stage = run(folder / "parts")
    assert same((expected, optimizers), (resumed, their_optimizers))
    assert len(stage.losses["loss"]) == STEPS


def test_an_interrupted_save_leaves_the_old_state(tmp_path, monkeypatch):
    outlives_a_death_while_saving(tmp_path, monkeypatch)


def test_a_state_written_in_place_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_replace", lambda path, write: write(path))
    with pytest.raises(Exception, match=r".+"):
        outlives_a_death_while_saving(tmp_path, monkeypatch)


@pytest.mark.parametrize("after", [0, 2])
def test_a_death_between_two_files_loses_nothing(tmp_path, monkeypatch, after):
    expected, _, whole = run(tmp_path / "whole")
    dumps, count = json.dumps, iter(range(100))

    def dying(record):
        if next(count) == after:
            raise Killed
        return dumps(record)

    with monkeypatch.context() as patched:
        patched.setattr(training.json, "dumps", dying)
        killed(tmp_path / "parts", None)
    resumed, _, stage = run(tmp_path / "parts")
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert stage.losses == whole.losses


def test_the_record(tmp_path):
    _, _, stage = run(tmp_path)
    record = json.loads((tmp_path / "losses.json").read_text())
    assert (record["step"], record["steps"]) == (STEPS, STEPS)
    assert record["losses"] == stage.losses
    assert all(loss > 0 for loss in record["losses"]["loss"])


# --- the learning rate --------------------------------------------------------------------------------------------


def test_the_rate_warms_up_and_cools_down():
    assert cooled(0.0) == pytest.approx(0.02)
    assert cooled(0.005) == pytest.approx(0.52)
    assert cooled(0.01) == cooled(0.5) == 1.0
    assert cooled(0.75) == pytest.approx(0.5)
    assert cooled(0.65, flat=0.3) == pytest.approx(0.5)
    assert cooled(1.0) == 0.0
